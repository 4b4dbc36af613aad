//! How long the embedded store takes to open, fresh and with many topics, and what it costs in memory.
//!
//! `cargo run --release -p kavka-meta --example open_times -- DIR [TOPICS]`; DIR is where the data directories are made, so
//! that the disk is the one to be measured.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use kavka_meta::{ClusterMeta, ConfigMap, EmbeddedMeta, MetaError, NewTopic, os_random};

const ROUNDS: u32 = 21;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let base = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let topics: usize = arguments.next().map_or(Ok(10_000), |topics| topics.parse())?;

    let before = resident_kib();
    let mut fresh = Vec::new();
    let mut again = Vec::new();
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir_in(&base)?;
        let (meta, time) = timed(|| EmbeddedMeta::open(dir.path(), os_random()))?;
        fresh.push(time);
        drop(meta);
        again.push(timed(|| EmbeddedMeta::open(dir.path(), os_random()))?.1);
    }
    println!("fresh              {}", median(fresh));
    println!("existing, empty    {}", median(again));
    println!("resident memory    {} KiB more than before", resident_kib().saturating_sub(before));

    let dir = tempfile::tempdir_in(&base)?;
    let meta = EmbeddedMeta::open(dir.path(), os_random())?;
    let (_, one) = timed(|| meta.create_topics(&[topic("one")], 0))?;
    println!("create one topic   {}", millis(one));
    let many: Vec<_> = (0..topics).map(|number| topic(&format!("topic-{number}"))).collect();
    let (_, all) = timed(|| meta.create_topics(&many, 0))?;
    println!("create {topics} at once {}", millis(all));
    drop(meta);
    let (meta, time) = timed(|| EmbeddedMeta::open(dir.path(), os_random()))?;
    println!("existing, {} topics {}", meta.image().topics().len(), millis(time));
    Ok(())
}

fn topic(name: &str) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions: 3,
        replication_factor: 1,
        configs: ConfigMap::from([("retention.ms".to_owned(), "86400000".to_owned())]),
        internal: false,
    }
}

fn timed<T>(work: impl FnOnce() -> Result<T, MetaError>) -> Result<(T, Duration), MetaError> {
    let start = Instant::now();
    let result = work()?;
    Ok((result, start.elapsed()))
}

fn median(mut times: Vec<Duration>) -> String {
    times.sort();
    let [first, last] = [times[0], times[times.len() - 1]].map(millis);
    format!("{} (median of {ROUNDS}; {first} to {last})", millis(times[times.len() / 2]))
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

/// The resident memory of this process, where the system tells; else 0.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}
