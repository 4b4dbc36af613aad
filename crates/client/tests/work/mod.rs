//! Work that is handed out by `process` to members that come, go and are killed: no record is lost, and no committed offset is ever
//! past a record that is not finished.
//!
//! What a member is, and how it is killed, is a [`Crew`]'s to say. `KAVKA_KILLS_RECORDS` (default 20,000) makes it longer.
#![allow(clippy::unwrap_used, unreachable_pub)]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use kavka_client::{
    Consumer, Error,
    consumer::{OffsetReset, Record},
};
use kavka_testkit::{NewRecord, TestBroker};

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

/// Which records are finished, by partition and offset.
pub struct Finished {
    rows: Vec<Vec<bool>>,
    count: usize,
    /// Records that were worked on again.
    repeated: usize,
}

impl Finished {
    fn new(in_each: usize) -> Self {
        Self { rows: vec![vec![false; in_each]; PARTITIONS], count: 0, repeated: 0 }
    }

    pub fn add(&mut self, partition: i32, offset: i64) {
        let (partition, offset) =
            (usize::try_from(partition).unwrap(), usize::try_from(offset).unwrap());
        match std::mem::replace(&mut self.rows[partition][offset], true) {
            false => self.count += 1,
            true => self.repeated += 1,
        }
    }
}

/// Who does the work.
pub trait Crew {
    /// One of them.
    type Member;

    /// One more.
    async fn start(&mut self) -> Self::Member;

    fn enforce_rebalance(member: &mut Self::Member);

    /// As kill -9: nothing is finished, nothing is said.
    fn kill(member: Self::Member);

    /// They leave, without an error.
    async fn stop(members: Vec<Self::Member>);

    /// Takes note of everything that is finished by now. What a commit covers was finished before it.
    fn read(&mut self);
}

/// A member's consumer, which reads the work.
pub async fn consumer(servers: &str) -> Result<Consumer, Error> {
    let consumer = Consumer::builder()
        .bootstrap_servers(servers)
        .group_id(GROUP)
        .auto_offset_reset(OffsetReset::Earliest)
        .session_timeout(SESSION_TIMEOUT)
        .heartbeat_interval(Duration::from_millis(100))
        .auto_commit_interval(Duration::from_millis(50))
        .build()?;
    consumer.subscribe([TOPIC]).await?;
    Ok(consumer)
}

/// Works on a record: spread without a pattern; one in a hundred takes long, so that much is finished out of order.
pub async fn work_on(record: &Record) {
    let number =
        u64::try_from(record.offset()).unwrap() * 8 + u64::try_from(record.partition()).unwrap();
    let hash = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let delay = if hash.is_multiple_of(100) { 20_000 } else { hash % 2000 };
    tokio::time::sleep(Duration::from_micros(delay)).await;
}

/// Has a crew do all the work while rebalances are asked for and members are killed, and holds every commit to what is finished. The
/// crew gets the servers, and where it says what is finished.
pub async fn survives_rebalances_and_kills<C: Crew>(
    crew: impl FnOnce(String, Arc<Mutex<Finished>>) -> C,
) {
    let records: usize =
        std::env::var("KAVKA_KILLS_RECORDS").map_or(20_000, |text| text.parse().unwrap());
    let in_each = records / PARTITIONS;
    let total = in_each * PARTITIONS;
    let broker = broker_with_work(in_each).await;
    let finished = Arc::new(Mutex::new(Finished::new(in_each)));
    let mut crew = crew(broker.bootstrap_servers(), Arc::clone(&finished));
    let mut judge = Judge { broker: &broker, finished, committed: vec![0; PARTITIONS], commits: 0 };

    let begun = Instant::now();
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        members.push(crew.start().await);
    }
    let (mut rebalances, mut kills) = (0, 0);
    let mut last_progress = (0, Instant::now());
    while judge.committed.iter().any(|committed| *committed < in_each) {
        let count = judge.look(&mut crew).await;
        let progress = count + judge.commits;
        if progress > last_progress.0 {
            last_progress = (progress, Instant::now());
        }
        assert!(
            last_progress.1.elapsed() < PATIENCE,
            "nothing happens any more: {count} of {total} finished"
        );
        // What is to happen is spread over the work.
        if rebalances < REBALANCES && count * (REBALANCES + 1) >= total * (rebalances + 1) {
            C::enforce_rebalance(&mut members[rebalances % MEMBERS]);
            rebalances += 1;
        }
        if kills < KILLS && count * (KILLS + 1) >= total * (kills + 1) {
            let replacement = crew.start().await;
            C::kill(std::mem::replace(&mut members[kills % MEMBERS], replacement));
            kills += 1;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let taken = begun.elapsed();
    let begun = Instant::now();
    C::stop(members).await;
    let stopping = begun.elapsed();
    let count = judge.look(&mut crew).await;
    assert_eq!((rebalances, kills), (REBALANCES, KILLS));
    assert_eq!(count, total, "every record was finished");
    assert_eq!(judge.committed, vec![in_each; PARTITIONS], "every record was committed");
    println!(
        "{total} records in {:.1} s; {rebalances} rebalances asked for, {kills} kills; {} records worked on again; {} commits judged; \
         stopped in {:.1} s",
        taken.as_secs_f64(),
        judge.finished.lock().unwrap().repeated,
        judge.commits,
        stopping.as_secs_f64()
    );
}

async fn broker_with_work(in_each: usize) -> TestBroker {
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
    broker
}

/// Holds every commit to what is finished.
struct Judge<'a> {
    broker: &'a TestBroker,
    finished: Arc<Mutex<Finished>>,
    committed: Vec<usize>,
    /// How many commits there were to judge.
    commits: usize,
}

impl Judge<'_> {
    /// How many records are finished. The commits are read first: what they cover was finished before them.
    async fn look(&mut self, crew: &mut impl Crew) -> usize {
        let commits = self.broker.committed(GROUP).await.unwrap();
        crew.read();
        let finished = self.finished.lock().unwrap();
        for ((_, partition), offset) in commits {
            let partition = usize::try_from(partition).unwrap();
            let offset = usize::try_from(offset).unwrap();
            let before = self.committed[partition];
            assert!(
                offset >= before,
                "a commit of {partition} went back from {before} to {offset}"
            );
            let unfinished = (before..offset).find(|at| !finished.rows[partition][*at]);
            assert_eq!(
                unfinished, None,
                "committed {offset} of partition {partition}, past an unfinished record"
            );
            self.commits += usize::from(offset > before);
            self.committed[partition] = offset;
        }
        finished.count
    }
}
