//! A broker with topics and groups of a test's own, and clients of it.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kavka_client::{
    Admin, Consumer, ConsumerBuilder, Delivery, Error, ErrorKind, Producer, ProducerBuilder,
    ProducerRecord, TopicPartition,
    admin::{Change, NewTopic},
    consumer::{OffsetReset, Record},
};
use kavka_testkit::TestBroker;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

static LAST_NAME: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Context {
    /// Held while the test runs, if it is ours.
    _broker: Option<TestBroker>,
    pub(crate) bootstrap: String,
    pub(crate) admin: Admin,
    pub(crate) topic: String,
    pub(crate) group: String,
}

impl Context {
    /// A broker, and a topic with so many partitions.
    pub(crate) async fn new(partitions: i32) -> Self {
        Self::with_configs(partitions, &[]).await
    }

    pub(crate) async fn with_configs(partitions: i32, configs: &[(&str, &str)]) -> Self {
        let (broker, bootstrap) = match std::env::var("KAVKA_TEST_BOOTSTRAP") {
            Ok(bootstrap) => (None, bootstrap),
            Err(_) => {
                let broker = TestBroker::start().await;
                let bootstrap = broker.bootstrap_servers();
                (Some(broker), bootstrap)
            }
        };
        let admin = Admin::builder().bootstrap_servers(&bootstrap).build().unwrap();
        let (topic, group) = (unique("t"), unique("g"));
        let context = Self { _broker: broker, bootstrap, admin, topic, group };
        context.create(&context.topic, partitions, configs).await;
        context
    }

    pub(crate) async fn create(&self, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
        let new = NewTopic::new(topic).partitions(partitions).replication_factor(1);
        let new = configs.iter().fold(new, |new, (name, value)| new.config(*name, *value));
        within(self.admin.create_topics([new], Change::Apply)).await[topic].clone().unwrap();
        eventually(async || self.admin.describe_topics([topic]).await[topic].is_ok()).await;
    }

    /// A consumer of the group that begins at the beginning, with short times.
    pub(crate) fn consumer(&self) -> ConsumerBuilder {
        Consumer::builder()
            .bootstrap_servers(&self.bootstrap)
            .group_id(&self.group)
            .auto_offset_reset(OffsetReset::Earliest)
            .session_timeout(Duration::from_secs(10))
            .heartbeat_interval(Duration::from_millis(200))
            .enable_auto_commit(false)
    }

    pub(crate) async fn subscribed(&self) -> Consumer {
        let consumer = self.consumer().build().unwrap();
        consumer.subscribe([&self.topic]).await.unwrap();
        consumer
    }

    pub(crate) fn producer(&self) -> ProducerBuilder {
        Producer::builder().bootstrap_servers(&self.bootstrap)
    }

    /// Values into a partition, in this order.
    pub(crate) async fn produce(&self, partition: i32, values: &[String]) {
        let producer = self.producer().build().unwrap();
        let mut deliveries = Vec::new();
        for value in values {
            let record = ProducerRecord::to(&self.topic).partition(partition).value(value);
            deliveries.push(within(producer.send(record)).await.unwrap());
        }
        for delivery in deliveries {
            within(delivery).await.unwrap();
        }
    }

    pub(crate) async fn send(&self, producer: &Producer, record: ProducerRecord<'_>) -> Delivery {
        within(within(producer.send(record)).await.unwrap()).await.unwrap()
    }

    pub(crate) fn tp(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), partition)
    }

    /// What the group has committed of a partition: offset and note.
    pub(crate) async fn committed(&self, partition: i32) -> Option<(i64, String)> {
        let asked =
            kavka_client::admin::OffsetsOfGroup::of(self.group.as_str(), [self.tp(partition)]);
        let offsets = within(self.admin.list_group_offsets([asked], false)).await;
        let row = offsets[self.group.as_str()].clone().unwrap()[&self.tp(partition)].clone();
        row.unwrap().map(|committed| (committed.offset, committed.metadata.to_string()))
    }

    pub(crate) async fn committed_offset(&self, partition: i32) -> Option<i64> {
        self.committed(partition).await.map(|(offset, _)| offset)
    }
}

/// Whether the broker is an Apache Kafka before this version, so that it lacks what came with it. `KAVKA_TEST_KAFKA_VERSION` tells
/// which one it is; what such a broker makes of the missing part is then tested in place of the part.
pub(crate) fn is_before(major: u32, minor: u32) -> bool {
    let Ok(version) = std::env::var("KAVKA_TEST_KAFKA_VERSION") else { return false };
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap());
    let found = (numbers.next().unwrap(), numbers.next().unwrap());
    if found < (major, minor) {
        eprintln!("{version} lacks what is new in {major}.{minor}");
    }
    found < (major, minor)
}

/// What a client says about what the broker lacks.
pub(crate) fn is_unsupported<T: std::fmt::Debug>(result: Result<T, Error>, since: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.advice().contains(since), "{error}. {}", error.advice());
}

/// A name that no earlier run and no other test used.
pub(crate) fn unique(prefix: &str) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let number = LAST_NAME.fetch_add(1, Ordering::Relaxed);
    format!("rust-{prefix}-{since:x}-{number}")
}

/// `p0-0`, `p0-1`, ...
pub(crate) fn numbered(partition: i32, from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| format!("p{partition}-{number}")).collect()
}

pub(crate) fn text(record: &Record) -> String {
    String::from_utf8(record.value().unwrap().to_vec()).unwrap()
}

pub(crate) async fn next(consumer: &mut Consumer) -> Record {
    within(consumer.next()).await.expect("the consumer goes on").expect("a record")
}

pub(crate) async fn take(consumer: &mut Consumer, number: usize) -> Vec<String> {
    let mut values = Vec::new();
    while values.len() < number {
        values.push(text(&next(consumer).await));
    }
    values
}

/// Reads while another future runs, so that the consumer takes part in what goes on.
pub(crate) async fn reading_while<T>(
    consumer: &mut Consumer,
    seen: &mut Vec<String>,
    until: impl Future<Output = T>,
) -> T {
    let until = within(until);
    tokio::pin!(until);
    loop {
        tokio::select! {
            result = &mut until => return result,
            record = consumer.next() => seen.push(text(&record.unwrap().unwrap())),
        }
    }
}

/// Waits until a consumer owns so many partitions.
pub(crate) async fn owns(
    handle: kavka_client::ConsumerHandle,
    number: usize,
) -> BTreeSet<TopicPartition> {
    loop {
        let owned = handle.assignment().await.unwrap();
        if owned.len() == number {
            return owned;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

pub(crate) async fn close(consumer: Consumer) {
    within(consumer.close()).await.unwrap();
}

/// Waits until something holds: brokers learn of what their controller has changed a little later.
pub(crate) async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    within(async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
