//! Record batches: what a `records` field of Produce and Fetch holds, and what a segment file is made of.
//!
//! Owns the byte layout of batches (magic 2, and magic 0 and 1 for reading), their checksums, their
//! compression and the records inside. It does not know topics, logs or requests, and it does no I/O.
//!
//! A batch is an opaque run of bytes under a 61-byte [`BatchHeader`]. Most of the broker's work needs
//! the header only: [`split_batches`] walks a concatenation of batches, [`verify_crc`] checks one,
//! [`patch_base_offset`] and [`patch_leader_epoch`] change what the checksum does not cover.
//!
//! [`Decompressor::records`] reads the records of a batch, [`BatchBuilder`] writes them;
//! [`message_set()`] also reads magic 0 and 1.
//!
//! # Invariants
//!
//! - Bytes that came from elsewhere yield [`RecordError`], never a panic, and no length is used before
//!   it was compared with the bytes that are there.
//!
//! # References
//!
//! KIP-98 (batch v2), KIP-32 (magic 1, timestamps), KIP-110 (zstd), KIP-534 (delete horizon).

mod builder;
mod checksum;
mod compression;
mod control;
mod error;
mod header;
mod legacy;
mod message_set;
mod split;
mod varint;
mod view;

pub use builder::{BatchBuilder, BuildError};
pub use checksum::{crc32, crc32c};
pub use compression::{Compressor, CompressorError, Decompressor};
pub use control::{ControlType, EndTxnMarker};
pub use error::RecordError;
pub use header::{
    Attributes, BatchHeader, Compression, HEADER_SIZE, LOG_OVERHEAD, MAGIC_V2, NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, TimestampType, increment_sequence,
    patch_base_offset, patch_leader_epoch, patch_producer, patch_timestamps, verify_crc,
};
pub use legacy::LegacyMessage;
pub use message_set::{AnyBatch, MessageSet, message_set};
pub use split::{BatchSlices, Batches, split_batches, split_bytes};
pub use view::{Headers, OwnedHeader, OwnedRecords, Record, RecordHeader, RecordView, Records};
