//! Producing: records go into batches, batches to brokers, and what became of them comes back.
//!
//! A record is copied once, into the open batch of its partition, under that partition's lock. A batch is sent when it is full or has
//! lingered, together with those of other partitions of the same broker. Each broker has one task that sends, compresses and takes
//! answers; one more task follows metadata and gives up what is late.
//!
//! Order: records of one partition are written in the order of the first polls of their [`Producer::send`], also over retries;
//! with `enable.idempotence` (the default) each once. Without it, `max.in.flight.requests.per.connection` above 1 lets retries reorder.

mod batch;
mod builder;
mod clock;
mod core;
mod delivery;
mod memory;
mod metrics;
mod node;
mod partition;
mod partitioner;
mod record;
mod router;
mod sender;
mod settings;
mod topics;
mod verdict;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use bytestring::ByteString;
use tokio::{sync::mpsc, time::timeout};

pub use kavka_protocol::records::Compression;

use self::core::{Attempt, Core, Turn};
pub use self::{
    builder::ProducerBuilder,
    delivery::{Delivery, DeliveryFuture},
    metrics::ProducerMetrics,
    partitioner::{PartitionedRecord, Partitioner, RoundRobin, TopicPartitions},
    record::ProducerRecord,
    settings::Acks,
};
use crate::{Error, ErrorKind};

/// Sends records. Cheap to clone and usable from any number of tasks; clones share buffer, connections and producer id.
///
/// ```no_run
/// # async fn example() -> Result<(), kavka_client::Error> {
/// use kavka_client::{Producer, ProducerRecord};
///
/// let producer = Producer::builder().bootstrap_servers("localhost:9092").build()?;
/// let delivery = producer.send(ProducerRecord::to("orders").key("7").value("2 apples")).await?;
/// println!("written at offset {:?}", delivery.await?.offset);
/// # Ok(())
/// # }
/// ```
///
/// Sending has two steps. Awaiting [`send`](Producer::send) waits for room in the buffer and gives a [`DeliveryFuture`]; awaiting that waits for
/// the broker. To be fast, send many records before the first of their deliveries is awaited.
///
/// Dropping the last clone never waits: what is in the buffer is still sent in the background, for as long as the runtime
/// lives and at most for `delivery.timeout.ms`. To know that it was, [`close`](Producer::close).
#[derive(Clone, Debug)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// What clones share, so that the last one is noticed.
#[derive(Debug)]
struct Handle {
    core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.drop_producer();
    }
}

/// Records that were not delivered when a producer was closed, or not known to be.
#[derive(Clone, Debug)]
pub struct Undelivered {
    partitions: BTreeMap<(ByteString, i32), u64>,
    error: Error,
}

impl Producer {
    /// Begins with Kafka's defaults.
    pub fn builder() -> ProducerBuilder {
        ProducerBuilder::new()
    }

    /// Takes a record into the buffer, and gives the future of its delivery.
    ///
    /// Waits, for at most `max.block.ms`, for the topic to be known and for room in the buffer; mostly neither is needed and
    /// the record is taken at once. Records of a partition are written in the order in which these futures were first polled.
    ///
    /// Cancel safe: if it is dropped before it is ready, the record was not taken. One that waits and is not polled any more
    /// holds up the records behind it; drop it.
    ///
    /// # Errors
    /// [`ErrorKind::Record`] if the record is larger than `max.request.size` or `buffer.memory`; [`ErrorKind::TimedOut`] or what the
    /// cluster answered about the topic after `max.block.ms`; [`ErrorKind::Authorization`] at once; [`ErrorKind::Closed`].
    pub async fn send(&self, record: ProducerRecord<'_>) -> Result<DeliveryFuture, Error> {
        let core = &self.handle.core;
        let bound = core.check(&record)?;
        match core.try_append(&record, bound, &mut None, Turn::Last)? {
            Attempt::Taken(delivery) => Ok(delivery),
            // Boxed: it is rare, and would make every future of this function large.
            _ => Box::pin(core.append_in_line(&record, bound)).await,
        }
    }

    /// As [`Producer::send`], but never waits.
    ///
    /// # Errors
    /// [`ErrorKind::BufferFull`] if the record would have to wait: for room, behind others that wait, or for the topic to be
    /// known (which is asked for). It was not taken; try again later. Else as [`Producer::send`].
    pub fn try_send(&self, record: &ProducerRecord<'_>) -> Result<DeliveryFuture, Error> {
        let core = &self.handle.core;
        let bound = core.check(record)?;
        let full = |why: &str| {
            Error::new(
                ErrorKind::BufferFull,
                format!("a record for {} was not taken: {why}", record.topic),
            )
        };
        match core.try_append(record, bound, &mut None, Turn::Last)? {
            Attempt::Taken(delivery) => Ok(delivery),
            Attempt::Behind => Err(full("others wait before it")),
            Attempt::Full(_) => Err(full("the buffer is full")),
            Attempt::Unknown | Attempt::Beyond => {
                core.note_topic(record.topic);
                Err(full("its topic, or partition, is not known yet"))
            }
        }
    }

    /// Sends everything that was taken before this was called, without lingering, and waits until all of it is delivered or has
    /// failed. What became of each record is in its [`DeliveryFuture`].
    ///
    /// Takes at most `delivery.timeout.ms`. Cancel safe: everything is still sent.
    pub async fn flush(&self) {
        let (observer, mut failures) = mpsc::unbounded_channel();
        self.handle.core.observe_all(&observer);
        drop(observer);
        while failures.recv().await.is_some() {}
    }

    /// Takes no more records, delivers what was taken, and ends. What is not delivered within `deadline` is given up.
    ///
    /// All clones are closed by it. Cancel safe: the producer stays closed, and what was taken is still sent as after a drop.
    ///
    /// # Errors
    /// How many records of which partitions were not delivered: late, or failed while this waited. Each also has its
    /// [`DeliveryFuture`] fail.
    pub async fn close(&self, deadline: Duration) -> Result<(), Undelivered> {
        let core = &self.handle.core;
        core.close();
        let (observer, mut failures) = mpsc::unbounded_channel();
        core.observe_all(&observer);
        drop(observer);
        let mut undelivered: Option<Undelivered> = None;
        let mut add = |failure: delivery::Failure| {
            let all = undelivered.get_or_insert_with(|| Undelivered {
                partitions: BTreeMap::new(),
                error: failure.error.clone(),
            });
            *all.partitions.entry((failure.topic, failure.partition)).or_default() +=
                u64::from(failure.records);
        };
        let in_time = timeout(deadline, async {
            while let Some(failure) = failures.recv().await {
                add(failure);
            }
        });
        if in_time.await.is_err() {
            core.abandon_all(&Error::new(
                ErrorKind::Closed,
                format!("the producer was closed with {deadline:?} to deliver what it had"),
            ));
            while let Ok(failure) = failures.try_recv() {
                add(failure);
            }
        }
        core.end();
        undelivered.map_or(Ok(()), Err)
    }

    /// How many partitions a topic has; asks the cluster if it is not known yet, for at most `max.block.ms`.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// What the cluster answered about the topic; [`ErrorKind::TimedOut`]; [`ErrorKind::Closed`].
    pub async fn partition_count(&self, topic: &str) -> Result<u32, Error> {
        self.handle.core.partition_count(topic).await
    }

    #[cfg(test)]
    fn core(&self) -> &Arc<Core> {
        &self.handle.core
    }

    /// What this producer has done since it was made, and where it stands. Waits for nothing.
    pub fn metrics(&self) -> ProducerMetrics {
        let core = &self.handle.core;
        let (delivered, undelivered) = core.outstanding.settled();
        let buffered_bytes = core.buffered_bytes();
        ProducerMetrics { delivered, undelivered, buffered_bytes, ..core.counters.snapshot() }
    }

    /// Bytes of `buffer.memory` that are taken by batches which are being filled, wait, or are on the wire.
    pub fn buffered_bytes(&self) -> usize {
        self.handle.core.buffered_bytes()
    }
}

impl Undelivered {
    /// How many records were not delivered.
    pub fn records(&self) -> u64 {
        self.partitions.values().sum()
    }

    /// How many of which topic and partition.
    pub fn partitions(&self) -> impl Iterator<Item = (&str, i32, u64)> {
        self.partitions.iter().map(|((topic, partition), records)| (&**topic, *partition, *records))
    }

    /// Why the first of them was not.
    pub fn error(&self) -> &Error {
        &self.error
    }
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} records of {} partitions were not delivered: {}",
            self.records(),
            self.partitions.len(),
            self.error
        )
    }
}

impl std::error::Error for Undelivered {}
