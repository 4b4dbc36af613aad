//! The embedded engine: segment files in a directory per partition.
//!
//! | File | Owns |
//! |---|---|
//! | `store` | the data directory, open logs, deletion |
//! | `log` | one log: locks, append, roll, group sync, truncation |
//! | `read` | reads by offset and by time |
//! | `recovery` | opening a directory, after a clean stop or a crash |
//! | `maintain`, `compaction` | retention; keeping the last record of each key |
//! | `segment`, `index`, `tail`, `epochs` | parts of a log |
//! | `checkpoint`, `metadata`, `snapshot`, `names` | the other files |
//! | `syncer`, `journal`, `space` | shared by all logs: who syncs when; one sync for small batches of many; free disk space |
//!
//! **Lock order** in a log: `maintenance`, `writer`, `sync`, `snapshots`, the journal's `files` and `gathered`, `state`. `state` is held for memory work
//! only; the syncer never takes `writer`; no lock is held while a listener is called.

mod checkpoint;
mod compaction;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
mod epochs;
#[cfg(test)]
mod fuzz_tests;
mod index;
mod journal;
#[cfg(test)]
mod kafka_tests;
mod log;
mod maintain;
mod metadata;
#[cfg(test)]
mod model_tests;
mod names;
#[cfg(test)]
mod race_tests;
mod read;
mod recovery;
#[cfg(test)]
mod regression_tests;
#[cfg(test)]
mod roll_tests;
mod segment;
mod snapshot;
mod space;
mod store;
mod syncer;
mod tail;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use store::{OnFatal, SegmentStore};

/// Locks. A panic elsewhere while the lock was held is a broken invariant that was reported there; the
/// data under our locks is left consistent at each step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
