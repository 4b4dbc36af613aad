//! Work that is handed out by `process` survives rebalances and kills: no record is lost, and no committed offset is ever past a record that
//! is not finished.
//!
//! Three members, each a runtime of its own that can be killed, work on records with random delays. `KAVKA_KILLS_RECORDS` (default 20,000)
//! makes it longer: the million is
//! `KAVKA_KILLS_RECORDS=1000000 cargo test --release -p kavka-client --test kills -- --nocapture`.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kavka_client::{
    Consumer, ConsumerHandle, Error,
    consumer::{OffsetReset, Ordering as WorkOrder, Processed, Record, Stopper},
};
use kavka_testkit::{NewRecord, TestBroker};
use tokio::{runtime, sync::oneshot, task::JoinHandle};

const TOPIC: &str = "work";
const GROUP: &str = "workers";
const PARTITIONS: usize = 8;
const MEMBERS: usize = 3;
const REBALANCES: u64 = 20;
const KILLS: u64 = 5;
/// How long a member that was killed is waited for.
const SESSION_TIMEOUT: Duration = Duration::from_secs(2);
/// Nothing happens for so long: the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which records are finished, by partition and offset.
struct Work {
    finished: Vec<Vec<AtomicBool>>,
    count: AtomicU64,
    repeated: AtomicU64,
}

impl Work {
    fn finish(&self, record: &Record) {
        let partition = usize::try_from(record.partition()).unwrap();
        let offset = usize::try_from(record.offset()).unwrap();
        let counter = match self.finished[partition][offset].swap(true, Ordering::SeqCst) {
            false => &self.count,
            true => &self.repeated,
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

struct Member {
    runtime: runtime::Runtime,
    handle: ConsumerHandle,
    stopper: Stopper,
    run: JoinHandle<Result<Processed, Error>>,
}

impl Member {
    async fn start(servers: &str, work: &Arc<Work>) -> Self {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let (started, start) = oneshot::channel();
        let (servers, work) = (servers.to_owned(), Arc::clone(work));
        let run = runtime.spawn(async move {
            let consumer = Consumer::builder()
                .bootstrap_servers(&servers)
                .group_id(GROUP)
                .auto_offset_reset(OffsetReset::Earliest)
                .session_timeout(SESSION_TIMEOUT)
                .heartbeat_interval(Duration::from_millis(100))
                .auto_commit_interval(Duration::from_millis(50))
                .build()?;
            consumer.subscribe([TOPIC]).await?;
            let handle = consumer.handle();
            let processor = consumer.process(WorkOrder::Key, 64);
            started.send((handle, processor.stopper())).unwrap();
            processor.run(move |record: Record| handle_record(Arc::clone(&work), record)).await
        });
        let (handle, stopper) = start.await.unwrap();
        Self { runtime, handle, stopper, run }
    }

    /// As kill -9: nothing is finished, nothing is said.
    fn kill(self) {
        self.runtime.shutdown_background();
    }

    async fn stop(self) -> Processed {
        self.stopper.stop();
        let processed = self.run.await.unwrap().unwrap();
        self.runtime.shutdown_background();
        processed
    }
}

async fn handle_record(work: Arc<Work>, record: Record) -> Result<(), String> {
    let number =
        u64::try_from(record.offset()).unwrap() * 8 + u64::try_from(record.partition()).unwrap();
    // Spread without a pattern; one in a hundred takes long, so that much is finished out of order.
    let hash = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let delay = if hash.is_multiple_of(100) { 20_000 } else { hash % 2000 };
    tokio::time::sleep(Duration::from_micros(delay)).await;
    work.finish(&record);
    Ok(())
}

/// Holds every commit to what is finished.
struct Judge<'a> {
    broker: &'a TestBroker,
    work: &'a Work,
    committed: Vec<usize>,
    commits_seen: u64,
}

impl Judge<'_> {
    /// The commits are read first: what they cover was finished before them.
    async fn look(&mut self) {
        for ((_, partition), offset) in self.broker.committed(GROUP).await.unwrap() {
            let partition = usize::try_from(partition).unwrap();
            let offset = usize::try_from(offset).unwrap();
            let before = self.committed[partition];
            assert!(
                offset >= before,
                "a commit of {partition} went back from {before} to {offset}"
            );
            let unfinished = (before..offset)
                .find(|at| !self.work.finished[partition][*at].load(Ordering::SeqCst));
            assert_eq!(
                unfinished, None,
                "committed {offset} of partition {partition}, past an unfinished record"
            );
            self.commits_seen += u64::from(offset > before);
            self.committed[partition] = offset;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rebalances_and_kills_lose_nothing_and_commit_nothing_unfinished() {
    let records: usize =
        std::env::var("KAVKA_KILLS_RECORDS").map_or(20_000, |text| text.parse().unwrap());
    let in_each = records / PARTITIONS;
    let total = (in_each * PARTITIONS) as u64;
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
    let rows = || (0..in_each).map(|_| AtomicBool::new(false)).collect();
    let finished = (0..PARTITIONS).map(|_| rows()).collect();
    let work = Arc::new(Work { finished, count: AtomicU64::new(0), repeated: AtomicU64::new(0) });
    let mut judge =
        Judge { broker: &broker, work: &work, committed: vec![0; PARTITIONS], commits_seen: 0 };

    let servers = broker.bootstrap_servers();
    let begun = Instant::now();
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        members.push(Member::start(&servers, &work).await);
    }
    let (mut rebalances, mut kills, mut last_progress) = (0, 0, (0, Instant::now()));
    loop {
        judge.look().await;
        let count = work.count.load(Ordering::SeqCst);
        let progress = (count, judge.commits_seen);
        if progress.0 + progress.1 > last_progress.0 {
            last_progress = (progress.0 + progress.1, Instant::now());
        }
        assert!(
            last_progress.1.elapsed() < PATIENCE,
            "nothing happens any more: {count} of {total} finished"
        );
        // What is to happen is spread over the work.
        if rebalances < REBALANCES && count * (REBALANCES + 1) >= total * (rebalances + 1) {
            let member = &members[usize::try_from(rebalances).unwrap() % MEMBERS];
            member.handle.enforce_rebalance("the test wants one").unwrap();
            rebalances += 1;
        }
        if kills < KILLS && count * (KILLS + 1) >= total * (kills + 1) {
            let victim = usize::try_from(kills).unwrap() % MEMBERS;
            let replacement = Member::start(&servers, &work).await;
            std::mem::replace(&mut members[victim], replacement).kill();
            kills += 1;
        }
        if judge.committed.iter().all(|committed| *committed == in_each) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let taken = begun.elapsed();
    let begun = Instant::now();
    for member in members {
        member.stop().await;
    }
    let stopping = begun.elapsed();
    judge.look().await;
    assert_eq!((rebalances, kills), (REBALANCES, KILLS));
    assert_eq!(work.count.load(Ordering::SeqCst), total, "every record was finished");
    println!(
        "{total} records in {:.1} s; {rebalances} rebalances asked for, {kills} kills; {} records worked on again; {} commits judged; stopped in {:.1} s",
        taken.as_secs_f64(),
        work.repeated.load(Ordering::SeqCst),
        judge.commits_seen,
        stopping.as_secs_f64()
    );
}
