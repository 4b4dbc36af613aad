//! What one fetch brought of one partition, and the walk through it.
//!
//! Owns: checksums, the skipping of control records, of aborted transactions and of what lies below the position. Does not own: whether
//! it may still be handed out (`inbox`).

use std::collections::HashSet;

use bytes::Bytes;
use bytestring::ByteString;
use kavka_member::PositionEpoch;
use kavka_protocol::records::{
    self, AnyBatch, BatchHeader, ControlType, Decompressor, OwnedHeader, OwnedRecords, RecordError,
    message_set,
};

use super::record::{Record, unreadable};
use crate::Error;

/// See the module.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The place of its partition in the inbox.
    pub(super) slot: usize,
    /// The position it was fetched for.
    pub(super) epoch: PositionEpoch,
    pub(super) topic: ByteString,
    pub(super) partition: i32,
    bytes: Bytes,
    /// How many bytes are walked through.
    walked: usize,
    /// What lies below is not wanted, or was handed out.
    from: i64,
    /// One after everything in it.
    end: i64,
    /// The epoch of the last batch that was walked through.
    leader_epoch: i32,
    check_crcs: bool,
    aborted: Option<Aborted>,
    open: Option<Open>,
    /// Where the open batch begins.
    opened_at: usize,
}

/// The batch that owned records are taken from.
#[derive(Debug)]
enum Open {
    V2(OwnedRecords),
    Legacy(std::vec::IntoIter<records::Record>),
}

/// A batch as it came.
#[derive(Debug)]
pub(super) struct RawBatch {
    pub(super) bytes: Bytes,
    /// `None`: of magic 0 or 1.
    pub(super) header: Option<BatchHeader>,
    pub(super) leader_epoch: i32,
    /// One after its last record.
    pub(super) next_offset: i64,
    /// Its first records may be below this, and are not wanted.
    pub(super) from: i64,
}

/// The transactions of a fetch that were aborted (`isolation.level=read_committed`).
#[derive(Debug)]
pub(super) struct Aborted {
    /// First offset and producer, by falling offset. Brokers need not sort them.
    to_come: Vec<(i64, i64)>,
    /// The producers whose transactional batches are to be skipped, until their marker.
    producers: HashSet<i64>,
}

impl Aborted {
    /// From producers and first offsets, in any order.
    pub(super) fn new(mut transactions: Vec<(i64, i64)>) -> Self {
        transactions.sort_unstable_by(|a, b| b.cmp(a));
        Self { to_come: transactions, producers: HashSet::new() }
    }

    /// Whether the records of a batch, the next one, are to be skipped.
    fn skips(&mut self, header: &BatchHeader, batch: &[u8]) -> bool {
        while self.to_come.last().is_some_and(|(first, _)| *first <= header.last_offset()) {
            if let Some((_, producer)) = self.to_come.pop() {
                self.producers.insert(producer);
            }
        }
        if header.is_control() {
            if is_abort_marker(header, batch) {
                self.producers.remove(&header.producer_id);
            }
            return true;
        }
        header.is_transactional() && self.producers.contains(&header.producer_id)
    }
}

fn is_abort_marker(header: &BatchHeader, batch: &[u8]) -> bool {
    // Markers are not compressed, and small.
    let mut decompressor = Decompressor::new(1 << 16);
    let first = decompressor.records(header, batch).ok().and_then(|mut records| records.next());
    let Some(Ok(record)) = first else { return false };
    ControlType::parse(&record) == Ok(ControlType::Abort)
}

/// What a fetch brought, by the headers of its batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// One after the last record of the last whole batch; `None` if there is no whole batch.
    pub(super) end: Option<i64>,
    pub(super) batches: u64,
    /// As the headers say; a message of before Kafka 0.11 counts as one.
    pub(super) records: u64,
}

/// Says how far a fetch reaches.
pub(super) fn extent_of(bytes: &[u8]) -> Result<Extent, RecordError> {
    let mut extent = Extent::default();
    for batch in message_set(bytes) {
        match batch {
            Ok(batch) => {
                extent.end = Some(batch.last_offset().saturating_add(1));
                extent.batches += 1;
                extent.records += match &batch {
                    AnyBatch::V2(header, _) => u64::try_from(header.record_count).unwrap_or(0),
                    AnyBatch::Legacy(_) => 1,
                };
            }
            // What is before it is good; the walk finds the error when it gets there.
            Err(_) if extent.end.is_some() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(extent)
}

impl Chunk {
    #[expect(clippy::too_many_arguments, reason = "one caller, and each is another thing")]
    pub(super) fn new(
        slot: usize,
        epoch: PositionEpoch,
        topic: ByteString,
        partition: i32,
        bytes: Bytes,
        from: i64,
        end: i64,
        check_crcs: bool,
        aborted: Option<Aborted>,
    ) -> Self {
        Self {
            slot,
            epoch,
            topic,
            partition,
            bytes,
            walked: 0,
            from,
            end,
            leader_epoch: -1,
            check_crcs,
            aborted,
            open: None,
            opened_at: 0,
        }
    }

    /// Bytes that are held for it and not yet walked through.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() - self.walked
    }

    /// One after everything in it, and the epoch of its last batch.
    pub(super) fn end(&self) -> (i64, i32) {
        (self.end, self.leader_epoch)
    }

    /// Where to fetch again if what follows is broken.
    pub(super) fn from(&self) -> i64 {
        self.from
    }

    pub(super) fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// The next batch that has something to hand out. After an error the chunk is of no use.
    pub(super) fn next_batch(&mut self) -> Result<Option<RawBatch>, Error> {
        if self.open.take().is_some() {
            // Of a batch that was begun record by record, the rest.
            self.walked = self.opened_at;
        }
        while let Some(batch) = message_set(&self.bytes[self.walked..]).next() {
            let batch = batch.map_err(|error| self.broken(&error))?;
            if self.check_crcs {
                batch.verify_crc().map_err(|error| self.broken(&error))?;
            }
            let size = batch.size_in_bytes();
            let next_offset = batch.last_offset().saturating_add(1);
            let (header, leader_epoch, skip) = match &batch {
                AnyBatch::Legacy(_) => (None, -1, false),
                AnyBatch::V2(header, bytes) => {
                    let skip = match &mut self.aborted {
                        Some(aborted) => aborted.skips(header, bytes),
                        None => header.is_control(),
                    };
                    let is_empty = header.record_count == 0;
                    (Some(*header), header.partition_leader_epoch, skip || is_empty)
                }
            };
            let bytes = self.bytes.slice(self.walked..self.walked + size);
            self.opened_at = self.walked;
            self.walked += size;
            self.leader_epoch = leader_epoch;
            if skip || next_offset <= self.from {
                self.from = self.from.max(next_offset);
                continue;
            }
            let from = self.from;
            return Ok(Some(RawBatch { bytes, header, leader_epoch, next_offset, from }));
        }
        Ok(None)
    }

    /// What was returned last is handed out up to here.
    pub(super) fn advance(&mut self, next_offset: i64) {
        self.from = self.from.max(next_offset);
    }

    /// The next record.
    pub(super) fn next_record(
        &mut self,
        decompressor: &mut Decompressor,
    ) -> Result<Option<Record>, Error> {
        loop {
            while let Some(open) = &mut self.open {
                let next = match open {
                    Open::V2(records) => records.next(),
                    Open::Legacy(records) => records.next().map(Ok),
                };
                match next {
                    None => self.open = None,
                    Some(Err(error)) => return Err(self.broken(&error)),
                    Some(Ok(record)) if record.offset < self.from => {}
                    Some(Ok(record)) => {
                        self.from = record.offset.saturating_add(1);
                        return Ok(Some(Record {
                            topic: self.topic.clone(),
                            partition: self.partition,
                            leader_epoch: self.leader_epoch,
                            record,
                        }));
                    }
                }
            }
            let Some(batch) = self.next_batch()? else { return Ok(None) };
            let opened = match &batch.header {
                Some(header) => decompressor.records_owned(header, &batch.bytes).map(Open::V2),
                None => legacy_records(decompressor, &batch.bytes),
            };
            self.open = Some(opened.map_err(|error| self.broken(&error))?);
        }
    }

    fn broken(&self, why: &RecordError) -> Error {
        unreadable(&self.topic, self.partition, why)
            .while_doing(format_args!("at offset {} or later", self.from))
    }
}

/// Records of magic 0 and 1 are few nowadays: they are copied.
fn legacy_records(decompressor: &mut Decompressor, bytes: &Bytes) -> Result<Open, RecordError> {
    let mut owned = Vec::new();
    for batch in message_set(bytes) {
        for record in batch?.records(decompressor)? {
            let record = record?;
            owned.push(records::Record {
                offset: record.offset,
                timestamp: record.timestamp,
                key: record.key.map(Bytes::copy_from_slice),
                value: record.value.map(Bytes::copy_from_slice),
                headers: record
                    .headers()
                    .map(|header| OwnedHeader {
                        key: Bytes::copy_from_slice(header.key),
                        value: header.value.map(Bytes::copy_from_slice),
                    })
                    .collect(),
            });
        }
    }
    Ok(Open::Legacy(owned.into_iter()))
}

#[cfg(test)]
mod tests {
    use kavka_protocol::records::{BatchBuilder, EndTxnMarker};

    use super::*;

    fn batch(base: i64, values: &[&str], producer: Option<i64>) -> Vec<u8> {
        let mut builder = BatchBuilder::new(base);
        if let Some(id) = producer {
            builder = builder.with_producer(id, 0, 0).with_transactional(true);
        }
        for value in values {
            builder.append(1, None, Some(value.as_bytes()), &[]).expect("it fits");
        }
        builder.build().expect("a batch").to_vec()
    }

    fn marker(offset: i64, producer: i64, committed: bool) -> Vec<u8> {
        let marker = EndTxnMarker { committed, coordinator_epoch: 0 };
        marker.to_batch(offset, 1, producer, 0).expect("a marker").to_vec()
    }

    fn chunk(bytes: Vec<u8>, from: i64, aborted: Option<Vec<(i64, i64)>>) -> Chunk {
        let end = extent_of(&bytes).expect("whole").end.expect("something");
        let aborted = aborted.map(Aborted::new);
        Chunk::new(0, PositionEpoch(1), "t".into(), 0, bytes.into(), from, end, true, aborted)
    }

    fn values(chunk: &mut Chunk) -> Vec<(i64, String)> {
        let mut decompressor = Decompressor::new(1 << 20);
        let mut values = Vec::new();
        while let Some(record) = chunk.next_record(&mut decompressor).expect("readable") {
            let value = String::from_utf8_lossy(record.value().expect("a value")).into_owned();
            values.push((record.offset(), value));
        }
        values
    }

    #[test]
    fn what_lies_below_the_position_is_left_out() {
        let mut chunk =
            chunk([batch(0, &["a", "b", "c"], None), batch(3, &["d"], None)].concat(), 1, None);
        let expected: Vec<(i64, String)> = vec![(1, "b".into()), (2, "c".into()), (3, "d".into())];
        assert_eq!(values(&mut chunk), expected);
        assert_eq!(chunk.end().0, 4);
    }

    #[test]
    fn aborted_transactions_and_markers_are_left_out_in_whatever_order_the_broker_lists_them() {
        let bytes = [
            batch(0, &["a0"], Some(7)),
            batch(1, &["b0"], Some(8)),
            batch(2, &["plain"], None),
            marker(3, 7, false),
            batch(4, &["a1"], Some(7)),
            marker(5, 8, false),
            marker(6, 7, true),
        ]
        .concat();
        // Offset first, then the producer.
        let mut committed = chunk(bytes.clone(), 0, Some(vec![(1, 8), (0, 7)]));
        let expected: Vec<(i64, String)> = vec![(2, "plain".into()), (4, "a1".into())];
        assert_eq!(values(&mut committed), expected);
        assert_eq!(committed.end().0, 7);
        let mut all = chunk(bytes, 0, None);
        assert_eq!(values(&mut all).len(), 4);
    }

    #[test]
    fn a_batch_begun_record_by_record_is_lent_from_there() {
        let mut chunk = chunk(batch(0, &["a", "b", "c"], None), 0, None);
        let mut decompressor = Decompressor::new(1 << 20);
        assert!(chunk.next_record(&mut decompressor).is_ok_and(|record| record.is_some()));
        let batch = chunk.next_batch().expect("readable").expect("the rest");
        assert_eq!((batch.from, batch.next_offset), (1, 3));
    }

    #[test]
    fn a_broken_checksum_is_an_error_where_it_is_and_not_before() {
        let good = batch(0, &["a"], None);
        let mut bad = batch(1, &["b"], None);
        if let Some(last) = bad.last_mut() {
            *last ^= 1;
        }
        let mut chunk = chunk([good, bad].concat(), 0, None);
        let mut decompressor = Decompressor::new(1 << 20);
        assert!(chunk.next_record(&mut decompressor).is_ok_and(|record| record.is_some()));
        let error = chunk.next_record(&mut decompressor).expect_err("broken");
        assert_eq!(error.kind(), crate::ErrorKind::Record);
        assert_eq!(chunk.from(), 1);
    }

    #[test]
    fn a_batch_that_is_cut_off_is_not_there_yet() {
        let mut bytes = [batch(0, &["a"], None), batch(1, &["b"], None)].concat();
        bytes.truncate(bytes.len() - 1);
        let mut chunk = chunk(bytes, 0, None);
        assert_eq!(values(&mut chunk).len(), 1);
        assert_eq!(chunk.end().0, 1);
    }
}
