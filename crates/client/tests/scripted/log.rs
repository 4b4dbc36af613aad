//! The log of one replica, as a test writes it.

use bytes::{Bytes, BytesMut};
use kavka_protocol::records::{BatchBuilder, EndTxnMarker};

#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    batches: Vec<Batch>,
    pub(crate) start: i64,
    /// `None`: at the end of the log.
    pub(crate) high_watermark: Option<i64>,
    /// `None`: where the high watermark is.
    pub(crate) last_stable_offset: Option<i64>,
    /// Producer, first offset, offset of the marker.
    aborted: Vec<(i64, i64, i64)>,
}

#[derive(Clone, Debug)]
struct Batch {
    base: i64,
    last: i64,
    epoch: i32,
    bytes: Bytes,
}

/// What a fetch finds.
pub(crate) struct Found {
    pub(crate) records: Bytes,
    /// Producer and first offset of the aborted transactions that reach into it.
    pub(crate) aborted: Vec<(i64, i64)>,
}

impl Log {
    /// A log with one batch for each value, of one epoch.
    pub(crate) fn of(values: &[&str], epoch: i32) -> Self {
        let mut log = Self::default();
        values.iter().for_each(|value| log.append(&[value], epoch));
        log
    }

    pub(crate) fn append(&mut self, values: &[&str], epoch: i32) {
        self.build(values, BatchBuilder::new(self.end()).with_leader_epoch(epoch), epoch);
    }

    /// As part of this producer's transaction.
    pub(crate) fn append_in_transaction(&mut self, producer: i64, values: &[&str]) {
        let builder = BatchBuilder::new(self.end()).with_leader_epoch(0);
        let builder = builder.with_producer(producer, 0, 0).with_transactional(true);
        self.build(values, builder, 0);
    }

    fn build(&mut self, values: &[&str], mut builder: BatchBuilder, epoch: i32) {
        for value in values {
            builder.append(1, None, Some(value.as_bytes()), &[]).unwrap();
        }
        let count = i64::try_from(values.len()).unwrap();
        self.push(builder.build().unwrap(), count, epoch);
    }

    pub(crate) fn commit(&mut self, producer: i64) {
        self.mark(producer, true);
    }

    /// Ends a transaction that began at this offset.
    pub(crate) fn abort(&mut self, producer: i64, first_offset: i64) {
        self.aborted.push((producer, first_offset, self.end()));
        self.mark(producer, false);
    }

    fn mark(&mut self, producer: i64, committed: bool) {
        let marker = EndTxnMarker { committed, coordinator_epoch: 0 };
        let batch = marker.to_batch(self.end(), 1, producer, 0).unwrap();
        self.push(batch, 1, 0);
    }

    fn push(&mut self, bytes: Bytes, count: i64, epoch: i32) {
        let base = self.end();
        self.batches.push(Batch { base, last: base + count - 1, epoch, bytes });
    }

    pub(crate) fn end(&self) -> i64 {
        self.batches.last().map_or(self.start, |batch| batch.last + 1)
    }

    pub(crate) fn high_watermark(&self) -> i64 {
        self.high_watermark.unwrap_or(self.end())
    }

    pub(crate) fn last_stable_offset(&self) -> i64 {
        self.last_stable_offset.unwrap_or(self.high_watermark())
    }

    /// Changes a byte of the last value, so that the batch's checksum is wrong.
    pub(crate) fn corrupt_last(&mut self) {
        let batch = self.batches.last_mut().unwrap();
        let mut bytes = BytesMut::from(&batch.bytes[..]);
        // The last byte of a record is its number of headers.
        let at = bytes.len() - 2;
        bytes[at] ^= 1;
        batch.bytes = bytes.freeze();
    }

    /// Cuts off everything from this offset on.
    pub(crate) fn truncate(&mut self, offset: i64) {
        self.batches.retain(|batch| batch.last < offset);
    }

    /// The largest epoch up to this one, and one after its last offset; -1 and -1 if there is none.
    pub(crate) fn end_of_epoch(&self, epoch: i32) -> (i32, i64) {
        let found = self.batches.iter().rfind(|batch| batch.epoch <= epoch);
        found.map_or((-1, -1), |batch| (batch.epoch, batch.last + 1))
    }

    /// Whole batches from the one with this offset on, so many at most.
    pub(crate) fn read(&self, from: i64, below: i64, batches: usize) -> Found {
        let wanted = self.batches.iter().filter(|batch| batch.last >= from && batch.base < below);
        let wanted: Vec<&Batch> = wanted.take(batches).collect();
        let end = wanted.last().map_or(from, |batch| batch.last + 1);
        let reaches = |(_, first, marker): &&(i64, i64, i64)| *first < end && *marker >= from;
        let mut records = BytesMut::new();
        wanted.iter().for_each(|batch| records.extend_from_slice(&batch.bytes));
        let aborted = self.aborted.iter().filter(reaches);
        Found {
            records: records.freeze(),
            aborted: aborted.map(|(producer, first, _)| (*producer, *first)).collect(),
        }
    }
}
