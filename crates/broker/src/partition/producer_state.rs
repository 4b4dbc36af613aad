//! What a partition remembers of idempotent producers, so that a retry is answered and not appended twice.
//!
//! Per producer id: its epoch and its last five batches (KIP-98, KIP-360). The state is a function of the batches in the log;
//! a snapshot only saves reading them again.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kavka_protocol::{
    ErrorCode,
    records::{BatchHeader, increment_sequence},
};

/// Batches remembered for each producer: as many as a client may have in flight.
const KEPT_BATCHES: usize = 5;

/// All producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProducerStates {
    producers: BTreeMap<i64, Producer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    /// Oldest first; empty when only markers are left.
    batches: VecDeque<Batch>,
    /// When it last wrote, in milliseconds since 1970: by the broker's clock, not by its own, which may replay the past. Only what
    /// is rebuilt from the log goes by the timestamps there.
    last_seen_ms: i64,
}

/// An appended batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    base_sequence: i32,
    last_sequence: i32,
    last_offset: i64,
    offset_delta: i32,
    /// Its largest timestamp.
    pub(crate) timestamp: i64,
}

impl Batch {
    /// The offset that the first append answered.
    pub(crate) fn base_offset(&self) -> i64 {
        self.last_offset - i64::from(self.offset_delta)
    }

    /// The offset after it.
    pub(crate) fn next_offset(&self) -> i64 {
        self.last_offset + 1
    }
}

/// What to do with a batch of an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// It is next in line.
    Append,
    /// It was appended before; the client did not hear the answer.
    Duplicate(Batch),
}

impl ProducerStates {
    /// Whether the batch may be appended.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH` for an older epoch, `OUT_OF_ORDER_SEQUENCE_NUMBER` for a gap.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<Check, ErrorCode> {
        if !header.has_producer_id() {
            return Ok(Check::Append);
        }
        // An expired or unknown producer may start anywhere: its state can be lost without any fault of its own.
        let Some(producer) = self.producers.get(&header.producer_id) else {
            return Ok(Check::Append);
        };
        if header.producer_epoch < producer.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if header.producer_epoch > producer.epoch {
            return match header.base_sequence {
                0 => Ok(Check::Append),
                _ => Err(ErrorCode::OutOfOrderSequenceNumber),
            };
        }
        let same = |batch: &&Batch| {
            batch.base_sequence == header.base_sequence
                && batch.last_sequence == header.last_sequence()
        };
        if let Some(batch) = producer.batches.iter().find(same) {
            return Ok(Check::Duplicate(*batch));
        }
        match producer.batches.back() {
            Some(last) if header.base_sequence != increment_sequence(last.last_sequence, 1) => {
                Err(ErrorCode::OutOfOrderSequenceNumber)
            }
            _ => Ok(Check::Append),
        }
    }

    /// Takes note of a batch that is in the log. Never refuses: the log is what happened.
    pub(crate) fn appended(&mut self, header: &BatchHeader, seen_ms: i64) {
        if !header.has_producer_id() {
            return;
        }
        let producer = self.producers.entry(header.producer_id).or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            batches: VecDeque::new(),
            last_seen_ms: seen_ms,
        });
        if header.producer_epoch > producer.epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        producer.last_seen_ms = seen_ms;
        if header.is_control() {
            return;
        }
        if producer.batches.len() == KEPT_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Batch {
            base_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        });
    }

    /// Forgets producers that have not written after `cutoff_ms`.
    pub(crate) fn forget_idle_since(&mut self, cutoff_ms: i64) {
        self.producers.retain(|_, producer| producer.last_seen_ms > cutoff_ms);
    }

    /// When each producer last wrote.
    pub(crate) fn last_seen_ms(&self) -> impl Iterator<Item = i64> {
        self.producers.values().map(|producer| producer.last_seen_ms)
    }

    pub(crate) fn len(&self) -> usize {
        self.producers.len()
    }

    /// Epoch and last data offset of a producer that is remembered.
    pub(crate) fn active(&self, producer_id: i64) -> Option<(i16, Option<i64>)> {
        let producer = self.producers.get(&producer_id)?;
        Some((producer.epoch, producer.batches.back().map(|batch| batch.last_offset)))
    }

    /// The state in bytes: version int16, then each producer. Integrity is the log's to check.
    pub(crate) fn snapshot(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(SNAPSHOT_VERSION);
        out.put_u32(self.producers.len() as u32);
        for (id, producer) in &self.producers {
            out.put_i64(*id);
            out.put_i16(producer.epoch);
            out.put_i64(producer.last_seen_ms);
            out.put_u8(producer.batches.len() as u8);
            for batch in &producer.batches {
                out.put_i32(batch.base_sequence);
                out.put_i32(batch.last_sequence);
                out.put_i64(batch.last_offset);
                out.put_i32(batch.offset_delta);
                out.put_i64(batch.timestamp);
            }
        }
        out.freeze()
    }

    /// The state that [`ProducerStates::snapshot`] wrote; `None` for bytes of another version or shape, which only means that
    /// the log is read from its start.
    pub(crate) fn from_snapshot(mut bytes: Bytes) -> Option<Self> {
        if bytes.try_get_i16().ok()? != SNAPSHOT_VERSION {
            return None;
        }
        let mut producers = BTreeMap::new();
        for _ in 0..bytes.try_get_u32().ok()? {
            let id = bytes.try_get_i64().ok()?;
            let epoch = bytes.try_get_i16().ok()?;
            let last_seen_ms = bytes.try_get_i64().ok()?;
            let mut batches = VecDeque::new();
            for _ in 0..bytes.try_get_u8().ok()? {
                batches.push_back(Batch {
                    base_sequence: bytes.try_get_i32().ok()?,
                    last_sequence: bytes.try_get_i32().ok()?,
                    last_offset: bytes.try_get_i64().ok()?,
                    offset_delta: bytes.try_get_i32().ok()?,
                    timestamp: bytes.try_get_i64().ok()?,
                });
            }
            producers.insert(id, Producer { epoch, batches, last_seen_ms });
        }
        bytes.is_empty().then_some(Self { producers })
    }
}

const SNAPSHOT_VERSION: i16 = 1;

#[cfg(test)]
mod tests {
    use kavka_protocol::records::{Attributes, MAGIC_V2};

    use super::*;

    fn batch(epoch: i16, base_sequence: i32, count: i32, base_offset: i64) -> BatchHeader {
        BatchHeader {
            base_offset,
            batch_length: 49,
            partition_leader_epoch: 0,
            magic: MAGIC_V2,
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: count - 1,
            base_timestamp: 1_000,
            max_timestamp: 1_000,
            producer_id: 7,
            producer_epoch: epoch,
            base_sequence,
            record_count: count,
        }
    }

    fn after(batches: &[BatchHeader]) -> ProducerStates {
        let mut states = ProducerStates::default();
        batches.iter().for_each(|header| states.appended(header, header.max_timestamp));
        states
    }

    #[test]
    fn a_retry_of_one_of_the_last_five_batches_gets_its_first_offset_again() {
        let all: Vec<_> = (0..6).map(|i| batch(0, i * 2, 2, 100 + i64::from(i) * 2)).collect();
        let states = after(&all);
        for header in &all[1..] {
            let Ok(Check::Duplicate(found)) = states.check(header) else {
                panic!("{header:?} is a duplicate")
            };
            assert_eq!(found.base_offset(), header.base_offset);
        }
        assert_eq!(states.check(&all[0]), Err(ErrorCode::OutOfOrderSequenceNumber));
    }

    #[test]
    fn a_gap_is_refused_and_the_next_sequence_is_taken() {
        let states = after(&[batch(0, 0, 3, 0)]);
        assert_eq!(states.check(&batch(0, 3, 1, 3)), Ok(Check::Append));
        assert_eq!(states.check(&batch(0, 4, 1, 3)), Err(ErrorCode::OutOfOrderSequenceNumber));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let states = after(&[batch(0, i32::MAX - 1, 2, 0)]);
        assert_eq!(states.check(&batch(0, 0, 1, 2)), Ok(Check::Append));
    }

    #[test]
    fn an_older_epoch_is_fenced_and_a_newer_one_starts_at_zero() {
        let states = after(&[batch(4, 0, 1, 0)]);
        assert_eq!(states.check(&batch(3, 1, 1, 1)), Err(ErrorCode::InvalidProducerEpoch));
        assert_eq!(states.check(&batch(5, 0, 1, 1)), Ok(Check::Append));
        assert_eq!(states.check(&batch(5, 1, 1, 1)), Err(ErrorCode::OutOfOrderSequenceNumber));
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere() {
        assert_eq!(ProducerStates::default().check(&batch(2, 90, 1, 0)), Ok(Check::Append));
    }

    #[test]
    fn a_snapshot_leads_back_to_the_state_and_damage_to_none() {
        let states = after(&[batch(0, 0, 2, 0), batch(0, 2, 1, 2)]);
        let bytes = states.snapshot();
        assert_eq!(ProducerStates::from_snapshot(bytes.clone()), Some(states));
        for cut in 0..bytes.len() {
            assert_eq!(ProducerStates::from_snapshot(bytes.slice(..cut)), None);
        }
    }

    #[test]
    fn idle_producers_are_forgotten() {
        let mut states = after(&[batch(0, 0, 1, 0)]);
        states.forget_idle_since(999);
        assert_eq!(states.len(), 1);
        states.forget_idle_since(1_000);
        assert_eq!(states.len(), 0);
    }

    #[test]
    fn a_producer_that_writes_old_timestamps_is_not_idle() {
        let mut states = ProducerStates::default();
        states.appended(&batch(0, 0, 1, 0), 900_000);
        states.forget_idle_since(899_999);
        assert_eq!(states.len(), 1, "its records are from 1,000, it wrote them at 900,000");
    }
}
