//! Measures how long a shard takes to load a million offset records, decoding included, and what it keeps in memory for each.
//!
//! `cargo run --release -p kavka-coordinator --example load_offsets`

use std::time::Duration;

use kavka_coordinator::{
    Monotonic, Now,
    group::{GroupConfig, GroupShard, Input, OffsetValue, Record},
};
use kavka_protocol::Uuid;

const GROUPS: i32 = 1_000;
const TOPICS: i32 = 10;
const PARTITIONS: i32 = 100;

fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<usize>().ok()? * 1_024)
}

#[allow(clippy::disallowed_methods)] // A program that measures needs a clock; the coordinator has none.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut log = Vec::new();
    for group in 0..GROUPS {
        for at in 0..TOPICS * PARTITIONS {
            let record = Record::Offset {
                group: format!("group-{group}").into(),
                topic: format!("topic-{}", at / PARTITIONS).into(),
                partition: at % PARTITIONS,
                value: Some(OffsetValue {
                    offset: i64::from(at),
                    leader_epoch: 1,
                    metadata: "".into(),
                    commit_timestamp_ms: 1_700_000_000_000,
                    expire_timestamp_ms: None,
                    topic_id: Uuid::from_bytes([7; 16]),
                }),
            };
            log.push(record.encode()?);
        }
    }
    let before = resident_bytes();
    let started = std::time::Instant::now();
    let mut shard = GroupShard::new(GroupConfig::default(), 1);
    for (offset, (key, value)) in (0..).zip(&log) {
        shard.apply(offset, &Record::decode(Some(key), value.as_ref()));
    }
    let now = Now { monotonic: Monotonic::since_origin(Duration::ZERO), wall_ms: 0 };
    shard.handle(now, Input::Loaded);
    println!("{} records in {:?}", log.len(), started.elapsed());
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        println!("{} bytes resident for each", (after.saturating_sub(before)) / log.len());
    }
    Ok(())
}
