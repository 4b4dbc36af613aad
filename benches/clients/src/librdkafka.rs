//! librdkafka, by the cheapest way that the `rdkafka` crate has: delivery callbacks, no futures.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, DeliveryResult},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};

use crate::{
    Load, PARTITIONS, payload,
    usage::{self, Measured, Meter},
};

/// Counts deliveries.
#[derive(Clone, Default)]
struct Count {
    delivered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl ClientContext for Count {}

impl ProducerContext for Count {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let count = if result.is_ok() { &self.delivered } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn produce(load: &Load) -> anyhow::Result<Measured> {
    let count = Count::default();
    let producer: BaseProducer<Count> = ClientConfig::new()
        .set("bootstrap.servers", &load.bootstrap)
        .set("enable.idempotence", "true")
        .set("compression.type", &load.codec)
        .set("linger.ms", "5")
        .set("batch.size", load.batch_size.to_string())
        .set("message.max.bytes", load.max_request_size().to_string())
        // As much as the buffer.memory of the others, and no other limit: numbers of messages would make batches smaller than asked for.
        .set("queue.buffering.max.kbytes", "32768")
        .set("queue.buffering.max.messages", "10000000")
        .set("batch.num.messages", "1000000")
        .create_with_context(count.clone())?;
    let values = payload::values(load.size);
    send(&producer, &count, load, &values, load.warm_up())?;
    let meter = Meter::start();
    send(&producer, &count, load, &values, load.records)?;
    meter.stop()
}

pub(crate) fn consume(load: &Load) -> anyhow::Result<Measured> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &load.bootstrap)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // As the others do by default; so are all sizes and times of fetches.
        .set("check.crcs", "true")
        .create()?;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset(&load.topic, partition, Offset::Offset(0))?;
    }
    consumer.assign(&partitions)?;
    read_records(&consumer, load, load.warm_up())?;
    let meter = Meter::start();
    read_records(&consumer, load, load.records)?;
    meter.stop()
}

fn member(load: &Load) -> anyhow::Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &load.bootstrap)
        .set("group.id", &load.group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("check.crcs", "true")
        .create()?;
    consumer.subscribe(&[&load.topic])?;
    Ok(consumer)
}

/// Memory while it is a member.
pub(crate) fn idle(load: &Load) -> anyhow::Result<u64> {
    let consumer = member(load)?;
    let until = Instant::now() + Duration::from_secs(2);
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        ensure!(consumer.poll(left).is_none(), "the topic is not empty, or cannot be read");
    }
    ensure!(consumer.assignment()?.count() > 0, "nothing was assigned");
    usage::rss_kib()
}

pub(crate) fn commit(load: &Load) -> anyhow::Result<(Measured, Vec<Duration>)> {
    let consumer = member(load)?;
    consumer.commit_message(&next(&consumer)?, CommitMode::Sync)?;
    let mut latencies = Vec::with_capacity(load.records as usize);
    let meter = Meter::start();
    for _ in 0..load.records {
        let message = next(&consumer)?;
        let began = Instant::now();
        consumer.commit_message(&message, CommitMode::Sync)?;
        latencies.push(began.elapsed());
    }
    Ok((meter.stop()?, latencies))
}

/// The next record. A rebalance makes a poll return without one.
fn next(consumer: &BaseConsumer) -> anyhow::Result<BorrowedMessage<'_>> {
    let until = Instant::now() + Duration::from_secs(30);
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        if let Some(message) = consumer.poll(left) {
            return Ok(message?);
        }
    }
    bail!("no record within 30 s")
}

/// Looks at each value.
fn read_records(consumer: &BaseConsumer, load: &Load, records: u64) -> anyhow::Result<()> {
    let mut seen = 0;
    while seen < records {
        let Some(message) = consumer.poll(Duration::from_secs(1)) else { continue };
        let message = message?;
        let length = message.payload().map_or(0, <[u8]>::len);
        ensure!(length == load.size, "a value of {length} bytes");
        seen += 1;
    }
    Ok(())
}

fn send(
    producer: &BaseProducer<Count>,
    count: &Count,
    load: &Load,
    values: &[Vec<u8>],
    records: u64,
) -> anyhow::Result<()> {
    let before = count.delivered.load(Ordering::Relaxed);
    for n in 0..records {
        let value = &values[n as usize % values.len()];
        let mut record = BaseRecord::<(), [u8]>::to(&load.topic).payload(value);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    producer.poll(Duration::from_millis(1));
                    record = back;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        if n % 1024 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(60))?;
    let delivered = count.delivered.load(Ordering::Relaxed) - before;
    ensure!(delivered == records, "{delivered} of {records} were delivered");
    ensure!(count.failed.load(Ordering::Relaxed) == 0, "some failed");
    Ok(())
}
