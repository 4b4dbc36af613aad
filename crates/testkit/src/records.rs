//! Putting records into topics, and looking at what is in them, without a client.
//!
//! Goes past the network: no rule acts on it and no request log shows it.

use bytes::Bytes;
use kavka_broker::{InspectError, Inspector};
use kavka_protocol::records::{BatchBuilder, Decompressor, RecordHeader, split_bytes};

use crate::{Error, TestBroker, raw::now_ms};

/// How much is read at a time.
const READ_BYTES: usize = 1 << 20;
/// What one batch may be once it is decompressed.
const MAX_BATCH_BYTES: usize = 1 << 30;

/// A record to be appended: a value, with or without a key. `"value"` and `("key", "value")` are such records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewRecord {
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(String, Bytes)>,
    timestamp_ms: Option<i64>,
}

/// A record of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Its key, if it has one.
    pub key: Option<Bytes>,
    /// Its value; `None` for a tombstone.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl NewRecord {
    /// A record with this value.
    pub fn value(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A record that takes back what was said of this key.
    pub fn tombstone(key: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), ..Self::default() }
    }

    /// With this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With this header, after those it has.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With this timestamp, in milliseconds since 1970, in place of the time when it is appended.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}

impl From<&str> for NewRecord {
    fn from(value: &str) -> Self {
        Self::value(value.to_owned())
    }
}

impl From<String> for NewRecord {
    fn from(value: String) -> Self {
        Self::value(value)
    }
}

impl From<(&str, &str)> for NewRecord {
    fn from((key, value): (&str, &str)) -> Self {
        Self::value(value.to_owned()).key(key.to_owned())
    }
}

impl Record {
    /// Its value as text; empty for a tombstone. What is no UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }
}

impl TestBroker {
    /// Appends records to a partition, as one batch, and returns the offset of the first.
    ///
    /// ```
    /// # use kavka_testkit::{Error, NewRecord, TestBroker};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let broker = TestBroker::builder().topic("orders", 1).start().await;
    /// broker.produce("orders", 0, ["one", "two"]).await?;
    /// broker.produce("orders", 0, [NewRecord::value("three").key("k").header("trace", "7")]).await?;
    /// let texts: Vec<_> = broker.records("orders").await?.iter().map(|r| r.text()).collect();
    /// assert_eq!(texts, ["one", "two", "three"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A call that is dropped may have appended them or not.
    ///
    /// # Errors
    /// The broker is down, there is no such partition, or the batch is larger than the topic allows or has no records.
    pub async fn produce<R: Into<NewRecord>>(
        &self,
        topic: &str,
        partition: i32,
        records: impl IntoIterator<Item = R>,
    ) -> Result<i64, Error> {
        let topic = topic.to_owned();
        let batch = to_batch(records.into_iter().map(Into::into))
            .map_err(|reason| broken(&topic, partition, reason))?;
        self.ask(async move |inspector| Ok(inspector.append(&topic, partition, &batch).await?))
            .await
    }

    /// All records of a topic that consumers can see: partition by partition, in the order of their offsets.
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Errors
    /// The broker is down, or there is no such topic.
    pub async fn records(&self, topic: &str) -> Result<Vec<Record>, Error> {
        let topic = topic.to_owned();
        self.ask(async move |inspector| read_all(&inspector, &topic).await).await
    }
}

fn to_batch(records: impl Iterator<Item = NewRecord>) -> Result<Bytes, String> {
    let now_ms = now_ms();
    let mut builder = BatchBuilder::new(0);
    for record in records {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(name, value)| RecordHeader { key: name.as_bytes(), value: Some(value) })
            .collect();
        let timestamp = record.timestamp_ms.unwrap_or(now_ms);
        builder
            .append(timestamp, record.key.as_deref(), record.value.as_deref(), &headers)
            .map_err(|error| error.to_string())?;
    }
    builder.build().map_err(|error| error.to_string())
}

async fn read_all(inspector: &Inspector, topic: &str) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    for (partition, offsets) in (0..).zip(inspector.partitions(topic)?) {
        let mut next = offsets.log_start_offset;
        while next < offsets.high_watermark {
            let read = inspector.read(topic, partition, next, READ_BYTES).await?;
            match add_records(read, partition, offsets.log_start_offset, &mut records) {
                Ok(Some(after)) => next = after,
                // What was there is not any more: retention.
                Ok(None) => break,
                Err(reason) => return Err(broken(topic, partition, reason)),
            }
        }
    }
    Ok(records)
}

/// Adds the records in these batches, from `start` on; the offset after them, if there was a batch.
fn add_records(
    batches: Bytes,
    partition: i32,
    start: i64,
    records: &mut Vec<Record>,
) -> Result<Option<i64>, String> {
    let mut decompressor = Decompressor::new(MAX_BATCH_BYTES);
    let mut next = None;
    for batch in split_bytes(batches) {
        let (header, bytes) = batch.map_err(|error| error.to_string())?;
        next = Some(header.next_offset());
        if header.is_control() {
            continue;
        }
        let views = decompressor.records(&header, &bytes).map_err(|error| error.to_string())?;
        for view in views {
            let view = view.map_err(|error| error.to_string())?;
            if view.offset < start {
                continue;
            }
            let mut headers = Vec::new();
            for header in view.headers() {
                let value = header.value.map(Bytes::copy_from_slice);
                headers.push((header.key_str().into_owned(), value));
            }
            records.push(Record {
                partition,
                offset: view.offset,
                timestamp_ms: view.timestamp,
                key: view.key.map(Bytes::copy_from_slice),
                value: view.value.map(Bytes::copy_from_slice),
                headers,
            });
        }
    }
    Ok(next)
}

fn broken(topic: &str, partition: i32, reason: String) -> Error {
    InspectError::Records { topic: topic.to_owned(), partition, reason }.into()
}
