//! The data directory: which logs are open, which exist, and how one goes away.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kavka_protocol::{Uuid, records::BatchHeader};

use super::journal::Journal;
use super::log::SegmentLog;
use super::segment::{Access, ReadError, ReadRange};
use super::space::Space;
use super::syncer::Syncer;
use super::{lock, names, recovery};
use crate::fs::{Fs, StdFs};
use crate::{
    AppendOptions, Appended, EpochEnd, LogConfig, LogError, LogId, LogListener, LogStore,
    MaintenanceContext, MaintenanceReport, PartitionLog, RecoveryInfo, Slice, StoreOptions,
    TimestampOffset,
};

/// Is told that a sync failed. The process must end: what the disk holds is unknown, and only
/// recovery can tell.
pub type OnFatal = Arc<dyn Fn(&LogError) + Send + Sync>;

/// The embedded engine.
#[derive(Debug)]
pub struct SegmentStore {
    shared: Arc<Shared>,
}

/// What the logs of a store share.
pub(super) struct Shared {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) root: PathBuf,
    pub(super) options: StoreOptions,
    pub(super) syncer: Syncer,
    pub(super) journal: Journal,
    pub(super) space: Space,
    pub(super) on_fatal: OnFatal,
    /// Bytes in the tails of all logs.
    tails: AtomicUsize,
    open: Mutex<BTreeMap<(Arc<str>, i32), Slot>>,
    closed: AtomicBool,
    /// Keeps other processes out; given up by `close`.
    dir_lock: Mutex<Option<Box<dyn Any + Send + Sync>>>,
}

/// A store that is dropped without [`close`](LogStore::close) leaves its logs as a crash would; handles
/// of them still work.
impl Drop for SegmentStore {
    fn drop(&mut self) {
        // The logs hold what holds them.
        self.shared.syncer.abandon();
        self.shared.journal.forget();
        let open = std::mem::take(&mut *lock(&self.shared.open));
        drop(open);
    }
}

enum Slot {
    /// Being opened or deleted.
    Busy,
    Open(Arc<SegmentLog>),
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("root", &self.root)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl SegmentStore {
    /// Opens a data directory on the operating system's file system; creates it when absent.
    /// `on_fatal` has to end the process.
    ///
    /// # Errors
    /// [`LogError::Locked`] when another process has it open; [`LogError::Io`].
    pub fn open_dir(
        root: impl Into<PathBuf>,
        options: StoreOptions,
        on_fatal: OnFatal,
    ) -> Result<Self, LogError> {
        Self::open_on(Arc::new(StdFs), root, options, on_fatal)
    }

    /// Opens a data directory on any file system.
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir).
    pub fn open_on(
        fs: Arc<dyn Fs>,
        root: impl Into<PathBuf>,
        options: StoreOptions,
        on_fatal: OnFatal,
    ) -> Result<Self, LogError> {
        let root = root.into();
        create_root(&*fs, &root)?;
        let guard = fs.lock_dir(&root).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => LogError::Locked { path: root.clone() },
            _ => LogError::io("lock", &root, error),
        })?;
        let shared = Arc::new(Shared {
            space: Space::new(Arc::clone(&fs), root.clone(), &options),
            syncer: Syncer::new(options.syncer),
            journal: Journal::new(options.journal_bytes),
            fs,
            root,
            options,
            on_fatal,
            tails: AtomicUsize::new(0),
            open: Mutex::default(),
            closed: AtomicBool::new(false),
            dir_lock: Mutex::new(Some(guard)),
        });
        Journal::replay(&shared)?;
        shared.remove_deleted()?;
        Ok(Self { shared })
    }

    /// Runs all pending syncs on this thread; for [`SyncerMode::Manual`](crate::SyncerMode::Manual).
    pub fn run_syncs(&self) {
        self.shared.syncer.run_all();
    }

    fn key(id: &LogId) -> (Arc<str>, i32) {
        (Arc::clone(&id.topic), id.partition)
    }

    fn closed_error(&self) -> LogError {
        LogError::Closed { log: self.shared.root.display().to_string() }
    }
}

impl LogStore for SegmentStore {
    fn open(
        &self,
        id: &LogId,
        config: LogConfig,
        listener: Arc<dyn LogListener>,
    ) -> Result<Arc<dyn PartitionLog>, LogError> {
        let shared = &self.shared;
        let key = Self::key(id);
        {
            let mut open = lock(&shared.open);
            if shared.closed.load(Ordering::Acquire) {
                return Err(self.closed_error());
            }
            if open.contains_key(&key) {
                return Err(LogError::AlreadyOpen { log: id.to_string() });
            }
            open.insert(key.clone(), Slot::Busy);
        }
        let dir = shared.dir_of(id);
        let opened =
            shared.journal.revoke(shared, id).and_then(|()| recovery::open_dir(shared, id, &dir));
        let mut open = lock(&shared.open);
        match opened {
            // `close` could not see this log.
            Ok(_) if shared.closed.load(Ordering::Acquire) => {
                open.remove(&key);
                Err(self.closed_error())
            }
            Ok(opened) => {
                let id = id.clone();
                let log = SegmentLog::new(id, dir, Arc::clone(shared), listener, config, opened);
                let log = Arc::new(log);
                open.insert(key, Slot::Open(Arc::clone(&log)));
                Ok(Arc::new(Handle(log)))
            }
            Err(error) => {
                open.remove(&key);
                Err(error)
            }
        }
    }

    fn list(&self) -> Result<Vec<LogId>, LogError> {
        let shared = &self.shared;
        let entries = shared.list_root()?;
        let mut ids = Vec::new();
        for name in entries {
            let Some((topic, partition)) = names::parse_partition(&name) else { continue };
            let topic_id = match recovery::read_topic_id(shared, &shared.root.join(&name)) {
                Ok(topic_id) => topic_id.unwrap_or(Uuid::ZERO),
                Err(error) if error.is_corrupt() => Uuid::ZERO,
                Err(error) => return Err(error),
            };
            ids.push(LogId { topic: topic.into(), partition, topic_id });
        }
        ids.sort();
        Ok(ids)
    }

    fn delete(&self, id: &LogId) -> Result<(), LogError> {
        let shared = &self.shared;
        let key = Self::key(id);
        let log = {
            let mut open = lock(&shared.open);
            let log = match open.get(&key) {
                Some(Slot::Busy) => {
                    return Err(LogError::AlreadyOpen { log: id.to_string() });
                }
                Some(Slot::Open(log)) if log.id.topic_id != id.topic_id => return Ok(()),
                Some(Slot::Open(log)) => Some(Arc::clone(log)),
                None => None,
            };
            open.insert(key.clone(), Slot::Busy);
            log
        };
        let result = match log {
            Some(log) => {
                log.mark_deleted();
                shared.delete_dir(id)
            }
            None => shared.delete_unopened(id),
        };
        lock(&shared.open).remove(&key);
        result
    }

    fn close(&self) -> Result<(), LogError> {
        let shared = &self.shared;
        let open = lock(&shared.open);
        shared.closed.store(true, Ordering::Release);
        let logs: Vec<_> = open
            .values()
            .filter_map(|slot| match slot {
                Slot::Open(log) => Some(Arc::clone(log)),
                Slot::Busy => None,
            })
            .collect();
        drop(open);
        let mut result = Ok(());
        for log in logs {
            let closed = log.close();
            result = result.and(closed);
        }
        shared.syncer.stop();
        shared.syncer.join();
        result = result.and_then(|()| shared.journal.close(shared));
        shared.journal.forget();
        *lock(&shared.dir_lock) = None;
        result
    }
}

impl Shared {
    fn dir_of(&self, id: &LogId) -> PathBuf {
        self.root.join(id.to_string())
    }

    /// Whether tails hold all the memory they may.
    pub(super) fn tails_are_full(&self) -> bool {
        self.tails.load(Ordering::Relaxed) > self.options.tail_cache_total_bytes
    }

    /// Accounts for a tail that changed its size.
    pub(super) fn tail_changed(&self, before: usize, after: usize) {
        if after >= before {
            self.tails.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.tails.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// Forgets a log that was closed.
    pub(super) fn forget(&self, id: &LogId, log: &Arc<SegmentLog>) {
        let key = SegmentStore::key(id);
        let mut open = lock(&self.open);
        if let Some(Slot::Open(found)) = open.get(&key)
            && Arc::ptr_eq(found, log)
        {
            open.remove(&key);
        }
    }

    fn list_root(&self) -> Result<Vec<String>, LogError> {
        let entries =
            self.fs.list(&self.root).map_err(|error| LogError::io("list", &self.root, error))?;
        Ok(entries.into_iter().filter(|entry| entry.is_dir).map(|entry| entry.name).collect())
    }

    /// Gives a partition directory a name under which it is not found, durably.
    pub(super) fn move_aside(
        &self,
        dir: &Path,
        topic_id: Uuid,
        suffix: &str,
    ) -> Result<PathBuf, LogError> {
        let taken = self.list_root()?;
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Names of files end at 255 bytes.
        let stem = format!("{:.200}.{topic_id}", name);
        let mut target = format!("{stem}{suffix}");
        let mut n = 1;
        while taken.contains(&target) {
            target = format!("{stem}.{n}{suffix}");
            n += 1;
        }
        let target = self.root.join(target);
        self.fs.rename(dir, &target).map_err(|error| LogError::io("rename", dir, error))?;
        self.fs.sync_dir(&self.root).map_err(|error| LogError::io("sync", &self.root, error))?;
        Ok(target)
    }

    fn delete_unopened(&self, id: &LogId) -> Result<(), LogError> {
        match recovery::read_topic_id(self, &self.dir_of(id)) {
            Ok(Some(found)) if found != id.topic_id => Ok(()),
            Err(error) if !error.is_corrupt() && !error.is_not_found() => Err(error),
            _ => self.delete_dir(id),
        }
    }

    fn delete_dir(&self, id: &LogId) -> Result<(), LogError> {
        match self.move_aside(&self.dir_of(id), id.topic_id, names::DELETED) {
            Ok(aside) => {
                self.remove_tree(&aside);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Empties the directories which a crash left deleted but there.
    fn remove_deleted(&self) -> Result<(), LogError> {
        for name in self.list_root()? {
            if name.ends_with(names::DELETED) {
                self.remove_tree(&self.root.join(name));
            }
        }
        Ok(())
    }

    /// Removes a deleted directory. What cannot be removed is tried again at the next start.
    fn remove_tree(&self, dir: &Path) {
        let removed = self.fs.list(dir).and_then(|entries| {
            for entry in entries {
                self.fs.remove_file(&dir.join(entry.name))?;
            }
            self.fs.remove_dir(dir)
        });
        if let Err(error) = removed {
            tracing::warn!("cannot remove the deleted {}: {error}", dir.display());
        }
    }
}

/// Creates the data directory and what is missing above it, durably: a name that a crash takes back
/// takes everything below it along.
fn create_root(fs: &dyn Fs, root: &Path) -> Result<(), LogError> {
    let mut missing = Vec::new();
    for dir in root.ancestors().filter(|dir| !dir.as_os_str().is_empty()) {
        match fs.list(dir) {
            Ok(_) => break,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => missing.push(dir),
            Err(error) => return Err(LogError::io("list", dir, error)),
        }
    }
    for dir in missing.into_iter().rev() {
        fs.create_dir_all(dir).map_err(|error| LogError::io("create", dir, error))?;
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        fs.sync_dir(parent).map_err(|error| LogError::io("sync", parent, error))?;
    }
    Ok(())
}

/// A log as its users hold it.
struct Handle(Arc<SegmentLog>);

impl PartitionLog for Handle {
    fn id(&self) -> &LogId {
        &self.0.id
    }

    fn append(&self, batches: Bytes, options: AppendOptions) -> Result<Appended, LogError> {
        self.0.append(batches, options)
    }

    fn read(
        &self,
        from: i64,
        up_to: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Slice, LogError> {
        let range = ReadRange { from, up_to, max_bytes, at_least_one };
        self.0.read(range, Access::Blocking).map_err(|error| self.0.unblocked(error))
    }

    fn try_read_cached(
        &self,
        from: i64,
        up_to: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Option<Result<Slice, LogError>> {
        let range = ReadRange { from, up_to, max_bytes, at_least_one };
        match self.0.read(range, Access::NoWait) {
            Ok(slice) => Some(Ok(slice)),
            Err(ReadError::WouldBlock) => None,
            Err(ReadError::Log(error)) => Some(Err(error)),
        }
    }

    fn headers(&self, from: i64, visit: &mut dyn FnMut(&BatchHeader)) -> Result<(), LogError> {
        self.0.headers(from, visit).map_err(|error| self.0.unblocked(error))
    }

    fn log_start_offset(&self) -> i64 {
        lock(&self.0.state).log_start
    }

    fn log_end_offset(&self) -> i64 {
        lock(&self.0.state).log_end
    }

    fn durable_end_offset(&self) -> i64 {
        lock(&self.0.state).durable_end
    }

    fn size_bytes(&self) -> u64 {
        lock(&self.0.state).segments.iter().map(|segment| segment.len()).sum()
    }

    fn segment_count(&self) -> usize {
        lock(&self.0.state).segments.len()
    }

    fn recovery(&self) -> RecoveryInfo {
        self.0.recovery.clone()
    }

    fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>, LogError> {
        self.0.offset_for_timestamp(timestamp)
    }

    fn max_timestamp(&self) -> Result<Option<TimestampOffset>, LogError> {
        self.0.max_timestamp()
    }

    fn latest_epoch(&self) -> Option<(i32, i64)> {
        lock(&self.0.state).epochs.latest()
    }

    fn end_offset_for_epoch(&self, epoch: i32) -> Option<EpochEnd> {
        let state = lock(&self.0.state);
        state.epochs.end_of(epoch, state.log_end)
    }

    fn advance_start(&self, offset: i64) -> Result<(), LogError> {
        self.0.advance_start(offset)
    }

    fn truncate(&self, offset: i64) -> Result<i64, LogError> {
        self.0.truncate(offset)
    }

    fn set_config(&self, config: LogConfig) {
        lock(&self.0.state).config = Arc::new(config);
    }

    fn maintain(
        &self,
        now_ms: i64,
        context: &dyn MaintenanceContext,
    ) -> Result<MaintenanceReport, LogError> {
        self.0.maintain(now_ms, context)
    }

    fn put_snapshot(&self, offset: i64, state: Bytes) -> Result<(), LogError> {
        self.0.put_snapshot(offset, &state)
    }

    fn latest_snapshot(&self) -> Result<Option<(i64, Bytes)>, LogError> {
        self.0.latest_snapshot()
    }

    fn close(&self) -> Result<(), LogError> {
        self.0.close()
    }
}
