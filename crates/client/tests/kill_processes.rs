//! As `tests/kills.rs`, with members that are processes of their own and are killed with SIGKILL: no record is lost, and no committed offset
//! is ever past a record that is not finished.
//!
//! The program starts itself as a member. A member writes each record that it has finished to a file, in one system call, before the
//! record is acknowledged: who reads the commits first and the files after them sees everything that the commits cover.
//!
//! `KAVKA_KILLS_RECORDS` (default 20,000) makes it longer: the million is
//! `KAVKA_KILLS_RECORDS=1000000 cargo test --release -p kavka-client --test kill_processes`.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::{BufRead, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use kavka_client::{
    Consumer,
    consumer::{OffsetReset, Ordering, Record},
};
use kavka_testkit::{NewRecord, TestBroker};

const NAME: &str = "rebalances_and_kills_of_processes_lose_nothing_and_commit_nothing_unfinished";
/// Makes the program a member: the broker, and its file.
const MEMBER: &str = "KAVKA_KILLS_MEMBER";
const TOPIC: &str = "work";
const GROUP: &str = "workers";
const PARTITIONS: usize = 8;
const MEMBERS: usize = 3;
const REBALANCES: usize = 20;
const KILLS: usize = 5;
/// How long a member that was killed is waited for.
const SESSION_TIMEOUT: Duration = Duration::from_secs(2);
/// Nothing happens for so long: the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Partition and offset of a finished record.
const ROW: usize = 12;

fn main() {
    if let Ok(servers) = std::env::var(MEMBER) {
        let file = PathBuf::from(std::env::args().nth(1).unwrap());
        return member(&servers, &file);
    }
    // As far as `cargo test` asks for it: names that are looked for, and options.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return println!("{NAME}: test");
    }
    let mut names = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
    if names.peek().is_some() && !names.any(|name| NAME.contains(name.as_str())) {
        return;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(judge());
    println!("test {NAME} ... ok");
}

// ---- a member ----

#[tokio::main(flavor = "current_thread")]
async fn member(servers: &str, file: &Path) {
    let consumer = Consumer::builder()
        .bootstrap_servers(servers)
        .group_id(GROUP)
        .auto_offset_reset(OffsetReset::Earliest)
        .session_timeout(SESSION_TIMEOUT)
        .heartbeat_interval(Duration::from_millis(100))
        .auto_commit_interval(Duration::from_millis(50))
        .build()
        .unwrap();
    consumer.subscribe([TOPIC]).await.unwrap();
    let handle = consumer.handle();
    let processor = consumer.process(Ordering::Key, 64);
    let stopper = processor.stopper();
    // A line asks for a rebalance; the end of stdin has the member leave.
    std::thread::spawn(move || {
        for _ in std::io::stdin().lock().lines() {
            handle.enforce_rebalance("the test wants one").unwrap();
        }
        stopper.stop();
    });
    let finished = Arc::new(File::options().append(true).create(true).open(file).unwrap());
    let done = processor.run(move |record| handle_record(Arc::clone(&finished), record)).await;
    done.unwrap();
}

async fn handle_record(finished: Arc<File>, record: Record) -> Result<(), std::io::Error> {
    let number =
        u64::try_from(record.offset()).unwrap() * 8 + u64::try_from(record.partition()).unwrap();
    // Spread without a pattern; one in a hundred takes long, so that much is finished out of order.
    let hash = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let delay = if hash.is_multiple_of(100) { 20_000 } else { hash % 2000 };
    tokio::time::sleep(Duration::from_micros(delay)).await;
    let mut row = [0; ROW];
    row[..4].copy_from_slice(&record.partition().to_be_bytes());
    row[4..].copy_from_slice(&record.offset().to_be_bytes());
    (&*finished).write_all(&row)
}

// ---- the judge ----

/// A process, and what it has written.
struct Member {
    process: Child,
}

/// What all members have written, those that were killed too.
struct Written {
    file: File,
    rest: Vec<u8>,
}

struct Work {
    folder: PathBuf,
    servers: String,
    written: Vec<Written>,
    finished: Vec<Vec<bool>>,
    count: usize,
    repeated: usize,
}

impl Work {
    fn start(&mut self) -> Member {
        let path = self.folder.join(self.written.len().to_string());
        let mut command = Command::new(std::env::current_exe().unwrap());
        let command = command.arg(&path).env(MEMBER, &self.servers).stdin(Stdio::piped());
        let process = command.spawn().unwrap();
        let file = File::options().read(true).append(true).create(true).open(&path).unwrap();
        self.written.push(Written { file, rest: Vec::new() });
        Member { process }
    }

    /// Takes note of everything that was written until now.
    fn read(&mut self) {
        for written in &mut self.written {
            written.file.read_to_end(&mut written.rest).unwrap();
            let rows = written.rest.chunks_exact(ROW);
            let rest = rows.remainder().to_vec();
            for row in rows {
                let partition = u32::from_be_bytes(row[..4].try_into().unwrap()) as usize;
                let offset = u64::from_be_bytes(row[4..].try_into().unwrap()) as usize;
                match std::mem::replace(&mut self.finished[partition][offset], true) {
                    false => self.count += 1,
                    true => self.repeated += 1,
                }
            }
            written.rest = rest;
        }
    }
}

impl Member {
    fn enforce_rebalance(&mut self) {
        self.process.stdin.as_mut().unwrap().write_all(b"rebalance\n").unwrap();
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn stop(mut self) {
        drop(self.process.stdin.take());
        let status = self.process.wait().unwrap();
        assert!(status.success(), "a member ended with {status}");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // When the test fails, nobody is left behind. One that has ended cannot be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Holds every commit to what is finished.
async fn look(broker: &TestBroker, work: &mut Work, committed: &mut [usize]) -> usize {
    let commits = broker.committed(GROUP).await.unwrap();
    work.read();
    let mut moved = 0;
    for ((_, partition), offset) in commits {
        let partition = usize::try_from(partition).unwrap();
        let offset = usize::try_from(offset).unwrap();
        let before = committed[partition];
        assert!(offset >= before, "a commit of {partition} went back from {before} to {offset}");
        let unfinished = (before..offset).find(|at| !work.finished[partition][*at]);
        assert_eq!(
            unfinished, None,
            "committed {offset} of partition {partition}, past an unfinished record"
        );
        moved += usize::from(offset > before);
        committed[partition] = offset;
    }
    moved
}

async fn judge() {
    let records: usize =
        std::env::var("KAVKA_KILLS_RECORDS").map_or(20_000, |text| text.parse().unwrap());
    let in_each = records / PARTITIONS;
    let total = in_each * PARTITIONS;
    let broker = TestBroker::builder()
        .topic(TOPIC, i32::try_from(PARTITIONS).unwrap())
        .property("group.min.session.timeout.ms", "100")
        .start()
        .await;
    for partition in 0..PARTITIONS {
        for first in (0..in_each).step_by(500) {
            let last = in_each.min(first + 500);
            let record = |n| NewRecord::value(format!("{n}")).key(format!("k{}", n % 997));
            let partition = i32::try_from(partition).unwrap();
            broker.produce(TOPIC, partition, (first..last).map(record)).await.unwrap();
        }
    }
    let folder = std::env::temp_dir().join(format!("kavka-kills-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let mut work = Work {
        folder: folder.clone(),
        servers: broker.bootstrap_servers(),
        written: Vec::new(),
        finished: vec![vec![false; in_each]; PARTITIONS],
        count: 0,
        repeated: 0,
    };
    let mut committed = vec![0; PARTITIONS];
    let begun = Instant::now();
    let mut members: Vec<Member> = (0..MEMBERS).map(|_| work.start()).collect();
    let (mut rebalances, mut kills, mut commits) = (0, 0, 0);
    let mut last_progress = (0, Instant::now());
    while committed.iter().any(|committed| *committed < in_each) {
        commits += look(&broker, &mut work, &mut committed).await;
        let progress = work.count + commits;
        if progress > last_progress.0 {
            last_progress = (progress, Instant::now());
        }
        let count = work.count;
        assert!(
            last_progress.1.elapsed() < PATIENCE,
            "nothing happens any more: {count} of {total} finished"
        );
        // What is to happen is spread over the work.
        if rebalances < REBALANCES && count * (REBALANCES + 1) >= total * (rebalances + 1) {
            members[rebalances % MEMBERS].enforce_rebalance();
            rebalances += 1;
        }
        if kills < KILLS && count * (KILLS + 1) >= total * (kills + 1) {
            let replacement = work.start();
            std::mem::replace(&mut members[kills % MEMBERS], replacement).kill();
            kills += 1;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let taken = begun.elapsed();
    // Waiting for a process blocks, and the broker is in this one.
    let stopped = tokio::task::spawn_blocking(|| members.into_iter().for_each(Member::stop));
    stopped.await.unwrap();
    look(&broker, &mut work, &mut committed).await;
    assert_eq!((rebalances, kills), (REBALANCES, KILLS));
    assert_eq!(work.count, total, "every record was finished");
    fs::remove_dir_all(folder).unwrap();
    println!(
        "{total} records in {:.1} s; {rebalances} rebalances asked for, {kills} processes killed; {} records worked on again; {commits} \
         commits judged",
        taken.as_secs_f64(),
        work.repeated,
    );
}
