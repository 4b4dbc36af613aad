//! The consumer against brokers that do as they are told: transactions, replicas that are nearer, logs that are cut. A test broker is a
//! cluster of one without transactions; these are several, each with a log that a test writes by hand.
#![allow(clippy::unwrap_used)]

mod cluster;
mod log;
mod replicas;
mod transactions;
mod truncation;
#[path = "../common/wire.rs"]
mod wire;

use std::time::Duration;

use kavka_client::{
    Consumer, ConsumerBuilder, ErrorKind, TopicPartition,
    consumer::{OffsetReset, Record},
};

use kavka_protocol::ErrorCode;

use self::{
    cluster::{Cluster, TOPIC},
    log::Log,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A consumer that begins at the beginning, with short times.
fn builder(cluster: &Cluster) -> ConsumerBuilder {
    Consumer::builder()
        .bootstrap_servers(&cluster.bootstrap_servers())
        .auto_offset_reset(OffsetReset::Earliest)
        .property("fetch.max.wait.ms", "20")
        .property("retry.backoff.ms", "10")
        .property("retry.backoff.max.ms", "50")
        .property("reconnect.backoff.ms", "10")
        .property("reconnect.backoff.max.ms", "50")
}

async fn assigned(builder: ConsumerBuilder) -> Consumer {
    let consumer = builder.build().unwrap();
    consumer.assign([place()]).await.unwrap();
    consumer
}

fn place() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

/// What a checksum protects is handed out as it came where nobody looks at the checksum.
#[tokio::test]
async fn a_batch_that_is_damaged_is_an_error_unless_check_crcs_is_off() {
    let mut log = Log::of(&["0", "1"], 0);
    log.corrupt_last();
    let logs = [(0, log)].into();
    let cluster = Cluster::start(cluster::Script { logs, ..Default::default() }).await;
    for (value, expected) in [("true", None), ("false", Some("0"))] {
        let mut consumer = assigned(builder(&cluster).property("check.crcs", value)).await;
        assert_eq!(take(&mut consumer, 1).await, ["0"]);
        let second = within(consumer.next()).await.expect("the consumer says so");
        match (second, expected) {
            (Ok(record), Some(expected)) => assert_eq!(text(&record), expected),
            (Err(error), None) => assert_eq!(error.kind(), ErrorKind::Record, "{error}"),
            (other, _) => panic!("check.crcs={value}: {other:?}"),
        }
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

fn text(record: &Record) -> String {
    String::from_utf8(record.value().unwrap().to_vec()).unwrap()
}

/// It is told once, not by each refresh of the metadata; and reading begins when the topic may be read.
#[tokio::test]
async fn who_may_not_read_what_it_assigned_itself_is_told() {
    let refused = Some(ErrorCode::TopicAuthorizationFailed);
    let logs = [(0, Log::of(&["a"], 0))].into();
    let cluster = Cluster::start(cluster::Script { logs, refused, ..Default::default() }).await;
    let mut consumer = assigned(builder(&cluster).property("metadata.max.age.ms", "50")).await;
    let next = tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap();
    let error = next.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Authorization, refused), "{error}");
    assert_quiet(&mut consumer).await;
    cluster.script().refused = None;
    take(&mut consumer, 1).await;
}

#[tokio::test]
async fn a_partition_without_a_leader_is_read_when_it_has_one() {
    let stale_metadata = Some((-1, 0));
    let logs = [(0, Log::of(&["a"], 0))].into();
    let script = cluster::Script { logs, stale_metadata, ..Default::default() };
    let cluster = Cluster::start(script).await;
    let mut consumer = assigned(builder(&cluster)).await;
    assert_quiet(&mut consumer).await;
    cluster.script().stale_metadata = None;
    take(&mut consumer, 1).await;
}

async fn take(consumer: &mut Consumer, number: usize) -> Vec<String> {
    let mut values = Vec::new();
    while values.len() < number {
        let record = within(consumer.next()).await.expect("the consumer goes on");
        values.push(text(&record.expect("a record")));
    }
    values
}

/// Nothing comes for a while.
async fn assert_quiet(consumer: &mut Consumer) {
    let next = tokio::time::timeout(Duration::from_millis(150), consumer.next()).await;
    assert!(next.is_err(), "nothing was to come: {next:?}");
}
