//! Reading a partition of `__consumer_offsets` into a machine: what a start, and a failed append, begin with.
//!
//! Takes whatever Apache Kafka writes there: batches of any codec, transactions and their markers, and holes that compaction
//! left. A batch that cannot be read is left out whole, and said so.

use bytes::Bytes;
use kavka_coordinator::group::GroupShard;
use kavka_log::{LogError, PartitionLog, slices_from};
use kavka_protocol::records::{BatchHeader, Decompressor, EndTxnMarker, RecordError, split_bytes};
use tracing::warn;

/// The most that one compressed batch of the topic may hold.
const MAX_DECOMPRESSED_BYTES: usize = 64 << 20;

/// Applies every record of the log; how many there were. Reads `buffer_bytes` at a time, or a whole batch if that is larger.
/// Nothing of what is read stays in memory with the machine: it copies what it keeps.
///
/// # Errors
/// The log cannot be read; the machine is of no use.
pub(super) fn replay(
    log: &dyn PartitionLog,
    buffer_bytes: usize,
    machine: &mut GroupShard,
) -> Result<u64, LogError> {
    let mut replay =
        Replay { machine, decompressor: Decompressor::new(MAX_DECOMPRESSED_BYTES), records: 0 };
    for slice in slices_from(log, log.log_start_offset(), buffer_bytes) {
        for chunk in slice?.chunks {
            for batch in split_bytes(chunk) {
                let applied = batch.and_then(|(header, batch)| replay.apply(&header, &batch));
                if let Err(damage) = applied {
                    // The bytes are what was written (the log checks that), so the writer's format is unknown to us.
                    warn!("{}: a batch is left out of the groups: {damage}", log.id());
                }
            }
        }
    }
    Ok(replay.records)
}

struct Replay<'a> {
    machine: &'a mut GroupShard,
    decompressor: Decompressor,
    records: u64,
}

impl Replay<'_> {
    fn apply(&mut self, header: &BatchHeader, batch: &Bytes) -> Result<(), RecordError> {
        if header.is_control() {
            return self.apply_markers(header, batch);
        }
        let records = self.decompressor.records(header, batch)?;
        // None is applied before all were read.
        for record in records.clone() {
            record?;
        }
        let producer_id = header.is_transactional().then_some(header.producer_id);
        for record in records.flatten() {
            self.machine.apply_logged(record.offset, producer_id, record.key, record.value);
            self.records += 1;
        }
        Ok(())
    }

    fn apply_markers(&mut self, header: &BatchHeader, batch: &Bytes) -> Result<(), RecordError> {
        for record in self.decompressor.records(header, batch)? {
            if let Some(marker) = EndTxnMarker::parse(&record?)? {
                self.machine.end_transaction(header.producer_id, marker.committed);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
