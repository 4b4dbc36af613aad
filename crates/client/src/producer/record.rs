//! What is sent: a record that borrows its bytes until they are in a batch.

use std::fmt;

use kavka_protocol::records::{BatchBuilder, RecordHeader};

/// A record to send. Borrows everything: the bytes are copied once, into the batch that goes over the wire.
///
/// ```
/// use kavka_client::ProducerRecord;
///
/// let record = ProducerRecord::to("orders").key("customer-7").value(b"2 apples").header("source", Some(b"web"));
/// # let _ = record;
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub struct ProducerRecord<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: Option<i32>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Vec<RecordHeader<'a>>,
    pub(super) timestamp_ms: Option<i64>,
}

impl<'a> ProducerRecord<'a> {
    /// A record for a topic, with neither key nor value.
    pub fn to(topic: &'a str) -> Self {
        Self {
            topic,
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp_ms: None,
        }
    }

    /// The key: records of one key go to one partition. Without, the partitioner spreads records over the partitions.
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// The value. Without, the record is a tombstone in compacted topics.
    pub fn value(mut self, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// One more header; their order is kept, and a key may come several times.
    pub fn header(mut self, key: &'a str, value: Option<&'a [u8]>) -> Self {
        self.headers.push(RecordHeader { key: key.as_bytes(), value });
        self
    }

    /// The partition, from 0 on, in place of what the partitioner would choose.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// When it happened, in milliseconds since 1970; the time of [`send`](crate::Producer::send) unless set, where records that follow each other
    /// within microseconds share a look at the clock. Must not be negative.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// The most bytes it can take in a batch.
    pub(super) fn size_bound(&self) -> usize {
        let header_bytes = self
            .headers
            .iter()
            .map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len))
            .sum();
        BatchBuilder::record_size_bound(
            self.key.map_or(0, <[u8]>::len),
            self.value.map_or(0, <[u8]>::len),
            self.headers.len(),
            header_bytes,
        )
    }
}

impl fmt::Debug for ProducerRecord<'_> {
    /// Sizes in place of contents, which belong into no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerRecord")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("key_bytes", &self.key.map(<[u8]>::len))
            .field("value_bytes", &self.value.map(<[u8]>::len))
            .field("headers", &self.headers.len())
            .field("timestamp_ms", &self.timestamp_ms)
            .finish()
    }
}
