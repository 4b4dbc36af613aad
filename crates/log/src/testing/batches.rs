//! Batches for tests, in few words.

use bytes::Bytes;
use kavka_protocol::records::{BatchBuilder, EndTxnMarker, patch_leader_epoch};

/// Builds one uncompressed batch.
#[derive(Debug, Clone)]
pub struct Batch {
    builder: BatchBuilder,
}

impl Batch {
    /// A batch at `base_offset`, leader epoch 0, which gets its records by [`record`](Self::record).
    #[must_use]
    pub fn at(base_offset: i64) -> Self {
        Self { builder: BatchBuilder::new(base_offset).with_leader_epoch(0) }
    }

    /// Sets the leader epoch.
    #[must_use]
    pub fn epoch(self, epoch: i32) -> Self {
        Self { builder: self.builder.with_leader_epoch(epoch) }
    }

    /// Makes it the batch of a producer; transactional if asked for.
    #[must_use]
    pub fn producer(self, id: i64, epoch: i16, sequence: i32, transactional: bool) -> Self {
        let builder = self.builder.with_producer(id, epoch, sequence);
        Self { builder: builder.with_transactional(transactional) }
    }

    /// Adds a record; no value makes it a tombstone.
    ///
    /// # Panics
    /// When the batch grows too large.
    #[must_use]
    pub fn record(mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        self.builder.append(timestamp, key, value, &[]).expect("the record fits");
        self
    }

    /// The bytes.
    ///
    /// # Panics
    /// Without a record.
    #[must_use]
    pub fn build(self) -> Bytes {
        self.builder.build().expect("the batch has a record")
    }
}

/// A transaction marker.
///
/// # Panics
/// Never: markers are small.
#[must_use]
pub fn marker(base_offset: i64, id: i64, epoch: i16, commit: bool, timestamp: i64) -> Bytes {
    let marker = EndTxnMarker { committed: commit, coordinator_epoch: 0 };
    let batch = marker.to_batch(base_offset, timestamp, id, epoch).expect("a marker fits");
    let mut batch = Vec::from(batch);
    patch_leader_epoch(&mut batch, 0);
    batch.into()
}

/// A batch of `count` records at `base_offset`, whose bytes tell `seed` and the offset: keys of
/// a few bytes, values of `value_bytes`, timestamps that equal the offsets.
#[must_use]
pub fn payload(base_offset: i64, count: usize, value_bytes: usize, seed: u64) -> Bytes {
    let mut batch = Batch::at(base_offset);
    for i in 0..count {
        let offset = base_offset + i as i64;
        let mut value = format!("{seed:x}/{offset}/").into_bytes();
        value.resize(value_bytes.max(value.len()), b'.');
        let key = format!("k{}", (offset as u64).wrapping_mul(seed | 1) % 7);
        batch = batch.record(offset, Some(key.as_bytes()), Some(&value));
    }
    batch.build()
}
