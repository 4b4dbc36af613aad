//! Free disk space: who may still write, and the reserve.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::{lock, names};
use crate::fs::{Fs, OpenMode};
use crate::{AppendClass, LogError, StoreOptions};

/// Bytes appended between two looks at the disk, at most.
const CHECK_EVERY: u64 = 8 << 20;

/// Watches the disk of one store.
///
/// The disk is asked after so many appended bytes, not after some time, so a store that
/// appends nothing does nothing. If somebody else fills the disk meanwhile, the write itself
/// fails, which does no harm.
#[derive(Debug)]
pub(crate) struct Space {
    fs: Arc<dyn Fs>,
    root: PathBuf,
    floor: u64,
    reserve_bytes: u64,
    reserve_after: u64,
    /// Bytes that may still be appended before the next look.
    credit: AtomicU64,
    full: AtomicBool,
    /// Bytes that the store's logs hold.
    stored: AtomicU64,
    reserve: Mutex<Option<u64>>,
}

impl Space {
    pub(crate) fn new(fs: Arc<dyn Fs>, root: PathBuf, options: &StoreOptions) -> Self {
        let reserve = fs.file_len(&root.join(names::RESERVE)).ok();
        Self {
            fs,
            root,
            floor: options.free_space_floor,
            reserve_bytes: options.reserve_bytes,
            reserve_after: options.reserve_after_bytes,
            credit: AtomicU64::new(0),
            full: AtomicBool::new(false),
            stored: AtomicU64::new(0),
            reserve: Mutex::new(reserve),
        }
    }

    /// Whether `bytes` may be appended.
    pub(crate) fn admit(&self, class: AppendClass, bytes: u64) -> Result<(), LogError> {
        let spent = self
            .credit
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |credit| credit.checked_sub(bytes));
        if spent.is_ok() || class == AppendClass::Coordinator {
            return Ok(());
        }
        let Some(free) = self.free() else { return Ok(()) };
        let above = free.saturating_sub(self.floor);
        self.note_full(above == 0);
        if above == 0 {
            return Err(self.disk_full(free));
        }
        self.credit.store((above / 4).min(CHECK_EVERY), Ordering::Relaxed);
        Ok(())
    }

    /// The error for a write that found no space.
    pub(crate) fn disk_full_now(&self) -> LogError {
        self.note_full(true);
        self.credit.store(0, Ordering::Relaxed);
        self.disk_full(self.free().unwrap_or(0))
    }

    /// Gives the reserve back to the file system; `true` if there was one.
    pub(crate) fn release_reserve(&self) -> bool {
        let mut reserve = lock(&self.reserve);
        let Some(bytes) = *reserve else { return false };
        let path = self.root.join(names::RESERVE);
        if let Err(error) = self.fs.remove_file(&path) {
            tracing::error!("cannot give up the disk reserve {}: {error}", path.display());
            return false;
        }
        *reserve = None;
        tracing::warn!("disk full: gave up the reserve of {bytes} bytes for coordinator records");
        true
    }

    /// Notes that logs grew by so many bytes.
    pub(crate) fn grew(&self, bytes: u64) {
        self.stored.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes that logs shrank by so many bytes.
    pub(crate) fn shrank(&self, bytes: u64) {
        let less = |stored: u64| Some(stored.saturating_sub(bytes));
        // The closure never refuses, so there is no error to handle.
        let _ = self.stored.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Allocates the reserve once the store is large enough and the disk can spare it.
    pub(crate) fn maintain(&self) {
        let due =
            self.reserve_bytes > 0 && self.stored.load(Ordering::Relaxed) >= self.reserve_after;
        let mut reserve = lock(&self.reserve);
        if reserve.is_some() || !due {
            return;
        }
        let spare = self.free().unwrap_or(0);
        if spare < self.floor.saturating_add(self.reserve_bytes.saturating_mul(2)) {
            return;
        }
        let path = self.root.join(names::RESERVE);
        let allocated = self
            .fs
            .open(&path, OpenMode::Create)
            .and_then(|file| file.allocate(self.reserve_bytes));
        match allocated {
            Ok(()) => *reserve = Some(self.reserve_bytes),
            Err(error) => {
                tracing::warn!("cannot allocate the disk reserve {}: {error}", path.display());
                if let Err(error) = self.fs.remove_file(&path) {
                    tracing::warn!("cannot remove {}: {error}", path.display());
                }
            }
        }
    }

    fn free(&self) -> Option<u64> {
        match self.fs.free_space(&self.root) {
            Ok(free) => Some(free),
            Err(error) => {
                tracing::debug!("free space of {} is unknown: {error}", self.root.display());
                None
            }
        }
    }

    fn note_full(&self, full: bool) {
        if self.full.swap(full, Ordering::Relaxed) == full {
            return;
        }
        let dir = self.root.display();
        if full {
            tracing::error!("disk of {dir} is below {} free bytes: produce is refused", self.floor);
        } else {
            tracing::info!("disk of {dir} has space again: produce goes on");
        }
    }

    fn disk_full(&self, free: u64) -> LogError {
        LogError::DiskFull { path: self.root.clone(), free, floor: self.floor }
    }
}
