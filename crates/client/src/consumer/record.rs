//! Records as applications see them: owned ones, and views into a batch that is lent.

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;
use kavka_member::TopicPartition;
use kavka_protocol::records::{self, RecordView};

use crate::{Error, ErrorKind};

/// A record that may be kept as long as one likes. Key, value and headers share memory: keeping one small record keeps its whole batch if
/// that is compressed, and else everything that came with the same fetch.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    pub(super) topic: ByteString,
    pub(super) partition: i32,
    pub(super) leader_epoch: i32,
    pub(super) record: records::Record,
}

/// A header of a [`Record`].
pub use kavka_protocol::records::OwnedHeader as Header;

impl Record {
    /// The topic it is in.
    pub fn topic(&self) -> &ByteString {
        &self.topic
    }

    /// The partition it is in.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Topic and partition.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition::new(self.topic.clone(), self.partition)
    }

    /// Its place in the partition.
    pub fn offset(&self) -> i64 {
        self.record.offset
    }

    /// The epoch of the leader that wrote it (KIP-320); -1 if it is not known.
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// Milliseconds since the Unix epoch, when it was made or, as the topic is set, appended; `None` if it has no time.
    pub fn timestamp(&self) -> Option<i64> {
        Some(self.record.timestamp).filter(|timestamp| *timestamp >= 0)
    }

    /// The key; `None` for null.
    pub fn key(&self) -> Option<&Bytes> {
        self.record.key.as_ref()
    }

    /// The value; `None` for null, which in a compacted topic deletes the key.
    pub fn value(&self) -> Option<&Bytes> {
        self.record.value.as_ref()
    }

    /// The headers in order, keys that come twice included.
    pub fn headers(&self) -> &[Header] {
        &self.record.headers
    }

    /// The value of the last header with a key.
    pub fn header(&self, key: &str) -> Option<&Bytes> {
        let mut found = self.record.headers.iter().rev();
        found.find(|header| header.key == key.as_bytes()).and_then(|header| header.value.as_ref())
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("offset", &self.record.offset)
            .field("timestamp", &self.record.timestamp)
            .field("key", &self.record.key)
            .field("value", &self.record.value)
            .finish_non_exhaustive()
    }
}

/// A whole batch of records, as it was written, lent until the next call. Nothing in it is copied, and iterating allocates nothing.
#[derive(Debug)]
pub struct Batch<'a> {
    pub(super) topic: &'a ByteString,
    pub(super) partition: i32,
    pub(super) leader_epoch: i32,
    pub(super) from: i64,
    pub(super) next_offset: i64,
    pub(super) records: records::Records<'a>,
}

impl<'a> Batch<'a> {
    /// The topic it is in.
    pub fn topic(&self) -> &'a ByteString {
        self.topic
    }

    /// The partition it is in.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Topic and partition.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition::new(self.topic.clone(), self.partition)
    }

    /// The epoch of the leader that wrote it (KIP-320); -1 if it is not known.
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// The offset after its last record: what is to be committed when the batch is done.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The records, from the position on. An error means that the bytes are no records, and ends the iteration; since the batch's
    /// checksum was right, it was written like that.
    pub fn records(&self) -> BatchRecords<'a> {
        BatchRecords {
            records: self.records.clone(),
            from: self.from,
            topic: self.topic,
            partition: self.partition,
        }
    }
}

impl<'a> IntoIterator for Batch<'a> {
    type Item = Result<RecordView<'a>, Error>;
    type IntoIter = BatchRecords<'a>;

    fn into_iter(self) -> BatchRecords<'a> {
        self.records()
    }
}

impl<'a> IntoIterator for &Batch<'a> {
    type Item = Result<RecordView<'a>, Error>;
    type IntoIter = BatchRecords<'a>;

    fn into_iter(self) -> BatchRecords<'a> {
        self.records()
    }
}

/// Iterator over the records of a [`Batch`].
#[derive(Clone, Debug)]
pub struct BatchRecords<'a> {
    records: records::Records<'a>,
    from: i64,
    topic: &'a ByteString,
    partition: i32,
}

impl<'a> Iterator for BatchRecords<'a> {
    type Item = Result<RecordView<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.records.next()? {
                Ok(record) if record.offset < self.from => {}
                Ok(record) => return Some(Ok(record)),
                Err(error) => return Some(Err(unreadable(self.topic, self.partition, &error))),
            }
        }
    }
}

/// An error about bytes that are no records.
pub(super) fn unreadable(topic: &ByteString, partition: i32, why: &records::RecordError) -> Error {
    Error::new(ErrorKind::Record, format!("a batch of {topic}-{partition} cannot be read: {why}"))
}
