//! A broker with topics, records in them, and consumers.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kavka_client::{
    Consumer, ConsumerBuilder, Error, TopicPartition,
    consumer::{OffsetReset, Record},
};
use kavka_testkit::{ErrorCode, TestBroker, raw::RawClient};

pub(crate) const TOPIC: &str = "orders";
pub(crate) const GROUP: &str = "g";
/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Context {
    pub(crate) broker: TestBroker,
}

impl Context {
    pub(crate) async fn new(partitions: i32) -> Self {
        Self { broker: TestBroker::builder().topic(TOPIC, partitions).start().await }
    }

    /// A consumer that begins at the beginning, with short times.
    pub(crate) fn builder(&self) -> ConsumerBuilder {
        Consumer::builder()
            .bootstrap_servers(&self.broker.bootstrap_servers())
            .group_id(GROUP)
            .auto_offset_reset(OffsetReset::Earliest)
            .session_timeout(Duration::from_secs(6))
            .heartbeat_interval(Duration::from_millis(200))
            .property("reconnect.backoff.max.ms", "200")
    }

    pub(crate) async fn subscribed(&self) -> Consumer {
        let consumer = self.builder().build().unwrap();
        consumer.subscribe([TOPIC]).await.unwrap();
        consumer
    }

    /// Appends values to a partition, so many to a batch.
    pub(crate) async fn produce(&self, partition: i32, values: &[String], per_batch: usize) {
        self.produce_to(TOPIC, partition, values, per_batch).await;
    }

    pub(crate) async fn produce_to(
        &self,
        topic: &str,
        partition: i32,
        values: &[String],
        per_batch: usize,
    ) {
        let mut client = RawClient::connect(self.broker.addr()).await;
        let id = client.topic_id(topic).await;
        for values in values.chunks(per_batch) {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let response = client.produce(id, partition, kavka_testkit::raw::batch(&values)).await;
            assert_eq!(response.error_code, ErrorCode::None);
        }
    }
}

/// `p0-0`, `p0-1`, ...
pub(crate) fn numbered(partition: i32, from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| format!("p{partition}-{number}")).collect()
}

pub(crate) fn value(record: &Record) -> String {
    String::from_utf8(record.value().unwrap().to_vec()).unwrap()
}

pub(crate) async fn next(consumer: &mut Consumer) -> Record {
    within(consumer.next()).await.expect("the consumer goes on").expect("a record")
}

pub(crate) async fn take(consumer: &mut Consumer, number: usize) -> Vec<String> {
    let mut values = Vec::new();
    while values.len() < number {
        values.push(value(&next(consumer).await));
    }
    values
}

/// Reads until every one of these was seen; what comes twice counts once.
pub(crate) async fn take_all(consumer: &mut Consumer, wanted: &[String]) -> Vec<String> {
    let mut missing: BTreeSet<String> = wanted.iter().cloned().collect();
    let mut values = Vec::new();
    while !missing.is_empty() {
        let value = value(&next(consumer).await);
        missing.remove(&value);
        values.push(value);
    }
    values
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

pub(crate) fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

/// What is committed, by partition.
pub(crate) async fn committed(context: &Context) -> BTreeMap<i32, i64> {
    let rows = context.broker.committed(GROUP).await.unwrap();
    rows.into_iter().map(|((_, partition), offset)| (partition, offset)).collect()
}

/// Nothing comes for a while.
pub(crate) async fn assert_quiet(consumer: &mut Consumer, time: Duration) {
    let next = tokio::time::timeout(time, consumer.next()).await;
    assert!(next.is_err(), "nothing was to come: {next:?}");
}

pub(crate) async fn closed(consumer: Consumer) -> Result<(), Error> {
    within(consumer.close()).await
}
