//! A batch, from its first record to its outcome.

use bytes::Bytes;
use kavka_protocol::records::{
    BatchBuilder, BatchHeader, Compressor, Decompressor, RecordHeader, patch_producer,
};
use tokio::time::Instant;

use super::{
    delivery::{DeliveryFuture, Promise},
    memory::Grant,
    record::ProducerRecord,
};
use crate::{Error, ErrorKind};
use std::sync::Arc;

/// A producer id and epoch, as brokers know a producer that must not write anything twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// What numbers a batch: brokers take a partition's batches of an identity only in the order of their sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) identity: Identity,
    pub(super) base: i32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) promise: Arc<Promise>,
    content: Content,
    records: u32,
    /// Bytes it may grow to.
    capacity: usize,
    /// Bytes it had before compression, once it is built.
    raw_size: usize,
    /// When its first record came.
    pub(super) opened: Instant,
    /// When it has failed if it is not delivered.
    pub(super) deadline: Instant,
    /// How often it was sent.
    pub(super) attempts: u32,
    /// What it was sent with first. Kept over retries, so that the broker recognizes it.
    pub(super) sequence: Option<Sequence>,
    /// An attempt ended without the broker saying what became of it.
    pub(super) may_be_written: bool,
    /// Why it was not delivered yet.
    pub(super) last_error: Option<Error>,
    /// Given back when the batch is no more; the parts of a split batch share it.
    memory: Arc<Grant>,
}

#[derive(Debug)]
enum Content {
    /// Takes records.
    Open(BatchBuilder),
    /// Takes no more.
    Closed(BatchBuilder),
    /// As it goes over the wire, and the sequence in it.
    Built(Bytes, Option<Sequence>),
    /// Could not be built.
    Broken,
}

impl Batch {
    /// An empty batch of at most `capacity` bytes before compression, which `memory` pays for.
    pub(super) fn open(
        promise: Promise,
        capacity: usize,
        memory: Grant,
        opened: Instant,
        deadline: Instant,
    ) -> Self {
        Self {
            promise: Arc::new(promise),
            content: Content::Open(BatchBuilder::new(0).with_buffer(memory.buffer(capacity))),
            records: 0,
            capacity,
            raw_size: 0,
            opened,
            deadline,
            attempts: 0,
            sequence: None,
            may_be_written: false,
            last_error: None,
            memory: Arc::new(memory),
        }
    }

    /// Appends a record of at most `bound` bytes; `None` if there is no room for it any more.
    pub(super) fn append(
        &mut self,
        record: &ProducerRecord<'_>,
        bound: usize,
        timestamp_ms: i64,
    ) -> Option<DeliveryFuture> {
        let Content::Open(builder) = &mut self.content else { return None };
        if builder.size() + bound > self.capacity {
            return None;
        }
        let appended =
            builder.append(timestamp_ms, record.key, record.value, &record.headers).is_ok();
        if !appended {
            return None;
        }
        let index = self.records;
        self.records += 1;
        Some(self.promise.future(index, timestamp_ms))
    }

    /// Whether a record of at most `bound` bytes fits.
    pub(super) fn has_room(&self, bound: usize) -> bool {
        self.is_open() && self.size() + bound <= self.capacity
    }

    /// How many records it has.
    pub(super) fn records(&self) -> u32 {
        self.records
    }

    /// Bytes it has now.
    pub(super) fn size(&self) -> usize {
        match &self.content {
            Content::Open(builder) | Content::Closed(builder) => builder.size(),
            Content::Built(bytes, _) => bytes.len(),
            Content::Broken => 0,
        }
    }

    /// Whether it takes records.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.content, Content::Open(_))
    }

    /// Takes no more records.
    pub(super) fn close(&mut self) {
        self.content = match std::mem::replace(&mut self.content, Content::Broken) {
            Content::Open(builder) => Content::Closed(builder),
            other => other,
        };
        self.promise.set_count(self.records);
    }

    /// The bytes to send, with the sequence the batch has now.
    pub(super) fn build(&mut self, compressor: &mut Compressor) -> Result<Bytes, Error> {
        self.close();
        let sequence = self.sequence;
        let content = std::mem::replace(&mut self.content, Content::Broken);
        let bytes = match content {
            Content::Open(builder) | Content::Closed(builder) => {
                self.raw_size = builder.size();
                let builder = builder.with_compression(compressor.codec());
                let builder = match sequence {
                    Some(Sequence { identity, base }) => {
                        builder.with_producer(identity.id, identity.epoch, base)
                    }
                    None => builder,
                };
                let (bytes, collected) = builder.build_recycling(compressor).map_err(|error| {
                    Error::new(ErrorKind::Record, format!("a batch cannot be built: {error}"))
                })?;
                if let Some(buffer) = collected {
                    self.memory.recycle(buffer, bytes.len());
                }
                bytes
            }
            Content::Built(bytes, built) if built == sequence => bytes,
            Content::Built(bytes, _) => {
                // Its identity changed: rare, and a copy is cheaper than keeping what the checksum covers apart.
                let mut bytes = bytes.to_vec();
                let (id, epoch, base) = match sequence {
                    Some(Sequence { identity, base }) => (identity.id, identity.epoch, base),
                    None => (-1, -1, -1),
                };
                patch_producer(&mut bytes, id, epoch, base);
                bytes.into()
            }
            Content::Broken => {
                return Err(Error::new(ErrorKind::Record, "a batch could not be built before"));
            }
        };
        self.content = Content::Built(bytes.clone(), sequence);
        Ok(bytes)
    }

    /// Makes two batches of one that is too large for the broker, each with about half of the bytes; `None` if it has one record only or
    /// its records have their outcome already. Their sequences continue the batch's.
    pub(super) fn split(self) -> Result<Option<(Batch, Batch)>, Error> {
        let cannot = |error: &dyn std::fmt::Display| {
            Error::new(
                ErrorKind::Record,
                format!("a batch that is too large cannot be split: {error}"),
            )
        };
        if self.records < 2 {
            return Ok(None);
        }
        let bytes = match &self.content {
            Content::Built(bytes, _) => bytes.clone(),
            _ => return Ok(None),
        };
        let header = BatchHeader::parse(&bytes).map_err(|error| cannot(&error))?;
        let mut decompressor = Decompressor::new(self.raw_size);
        let records = decompressor.records(&header, &bytes).map_err(|error| cannot(&error))?;
        self.memory.use_all();
        let half = self.raw_size / 2;
        let mut parts = [BatchBuilder::new(0), BatchBuilder::new(0)];
        let (mut first_count, mut second_count) = (0, 0);
        for record in records {
            let record = record.map_err(|error| cannot(&error))?;
            let headers: Vec<RecordHeader<'_>> = record.headers().collect();
            // Both get a record at least.
            let goes_first = first_count == 0
                || (parts[0].size() < half && first_count + 1 < self.records && second_count == 0);
            let part = &mut parts[usize::from(!goes_first)];
            part.append(record.timestamp, record.key, record.value, &headers)
                .map_err(|error| cannot(&error))?;
            *if goes_first { &mut first_count } else { &mut second_count } += 1;
        }
        let Some((first, second)) = self.promise.split(first_count) else { return Ok(None) };
        let [first_builder, second_builder] = parts;
        let part = |promise, builder: BatchBuilder, records, sequence| Batch {
            promise: Arc::new(promise),
            capacity: builder.size(),
            raw_size: 0,
            content: Content::Closed(builder),
            records,
            opened: self.opened,
            deadline: self.deadline,
            attempts: self.attempts,
            sequence,
            may_be_written: false,
            last_error: self.last_error.clone(),
            memory: Arc::clone(&self.memory),
        };
        let second_sequence = self.sequence.map(|Sequence { identity, base }| Sequence {
            identity,
            // Counts of records are those of int32 offsets.
            base: kavka_protocol::records::increment_sequence(base, first_count as i32),
        });
        Ok(Some((
            part(first, first_builder, first_count, self.sequence),
            part(second, second_builder, second_count, second_sequence),
        )))
    }
}

impl Drop for Batch {
    /// Its buffer is for another batch, if nobody sends from it any more.
    fn drop(&mut self) {
        if let Content::Built(bytes, _) = std::mem::replace(&mut self.content, Content::Broken)
            && let Ok(bytes) = bytes.try_into_mut()
        {
            self.memory.give_back(bytes.into());
        }
    }
}
