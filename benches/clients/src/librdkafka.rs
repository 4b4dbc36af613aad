//! librdkafka, by the cheapest way that the `rdkafka` crate has: delivery callbacks, no futures.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};

use crate::{
    Load, PARTITIONS, payload,
    usage::{Measured, Meter},
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
        .set("message.max.bytes", (load.batch_size.max(1_048_576) + 1024).to_string())
        // As much as the buffer.memory of the others; the default number of messages.
        .set("queue.buffering.max.kbytes", "32768")
        .create_with_context(count.clone())?;
    let values = payload::values(load.size);
    send(&producer, &count, load, &values, load.records / 10)?;
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
        .create()?;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset(&load.topic, partition, Offset::Offset(0))?;
    }
    consumer.assign(&partitions)?;
    read_records(&consumer, load, load.records / 10)?;
    let meter = Meter::start();
    read_records(&consumer, load, load.records)?;
    meter.stop()
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
