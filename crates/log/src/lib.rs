//! Durable partition logs: the [`LogStore`] trait and the embedded segment engine.
//!
//! A log is a sequence of record batches, kept verbatim in segment files. What batches mean
//! (sequences, transactions, the high watermark) is decided above this crate; here are bytes, and the
//! promise that what was reported durable is there after a crash.
//!
//! File formats, the order of syncs, and what recovery does are in `docs/storage.md`.

// The functions of `fuzz/` name the crate as others do, and are run by its own tests too.
#[cfg(test)]
extern crate self as kavka_log;

mod api;
mod config;
mod engine;
mod error;
pub mod fs;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use api::{
    AbortedTransaction, ActiveProducer, AppendClass, AppendOptions, Appended, CompactionReport,
    Durability, EpochEnd, LogId, LogListener, LogStore, MaintenanceContext, MaintenanceReport,
    NoListener, PartitionLog, RecoveryInfo, Slice, TimestampOffset, UpTo, slices_from,
};
pub use config::{LogConfig, StoreOptions, SyncPolicy, SyncerMode};
pub use engine::{OnFatal, SegmentStore};
pub use error::LogError;
