//! One partition's log: what is shared by its parts, appending, syncing, truncating, closing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kavka_protocol::records::{BatchHeader, NO_TIMESTAMP, split_batches};

use super::checkpoint::{Checkpoint, CheckpointFile, RecoveryPoint};
use super::epochs::EpochCache;
use super::segment::{Access, Located, ReadError, Segment, View};
use super::store::Shared;
use super::syncer::SyncFlag;
use super::tail::Tail;
use super::{lock, metadata, names, snapshot};
use crate::error::is_out_of_space;
use crate::fs::{File, OpenMode, write_full};
use crate::{
    AppendClass, AppendOptions, Appended, Durability, LogConfig, LogError, LogId, LogListener,
    RecoveryInfo, SyncPolicy,
};

/// How relaxed appends are synced when the store's policy does not say.
const RELAXED_DELAY: Duration = Duration::from_secs(1);
const RELAXED_BYTES: u64 = 8 << 20;

/// One log. See the module above for the order of its locks.
pub(crate) struct SegmentLog {
    pub(super) id: LogId,
    pub(super) dir: PathBuf,
    pub(super) shared: Arc<Shared>,
    pub(super) listener: Arc<dyn LogListener>,
    pub(super) recovery: RecoveryInfo,
    /// Held by a maintenance run, and by what must not meet one.
    pub(super) maintenance: Mutex<()>,
    /// Asks a maintenance run to stop.
    pub(super) interrupt: AtomicBool,
    pub(super) writer: Mutex<Writer>,
    pub(super) sync: Mutex<SyncHalf>,
    /// Held while snapshot files are touched.
    pub(super) snapshots: Mutex<()>,
    pub(super) state: Mutex<State>,
    pub(super) sync_flag: SyncFlag,
    /// Held while the listener hears what is durable, so that it hears it in order.
    reports: Mutex<()>,
}

/// What only appends touch.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// The active segment; `None` before the first append to a new log.
    active: Option<Active>,
}

#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    /// Opened at the first append.
    file: Option<Arc<dyn File>>,
    position: u64,
    /// Max timestamp of its first batch; unknown until the first append after opening.
    first_timestamp: Option<i64>,
}

/// What syncing touches.
#[derive(Debug)]
pub(super) struct SyncHalf {
    pub(super) checkpoint: CheckpointFile,
    /// A failure was noted and not yet told to the listener.
    unreported: bool,
}

/// What everybody touches, briefly.
#[derive(Debug)]
pub(super) struct State {
    pub(super) status: Status,
    pub(super) config: Arc<LogConfig>,
    /// Ascending by base offset; the last one is active.
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) log_start: i64,
    pub(super) log_end: i64,
    /// What counts as durable.
    pub(super) durable_end: i64,
    /// What was synced; behind `durable_end` in relaxed modes, and of logs in the journal.
    pub(super) synced: RecoveryPoint,
    /// All that was appended between `unjournaled_end` and here is in the journal, synced.
    journaled_end: i64,
    /// Nothing from here on was appended without the journal.
    unjournaled_end: i64,
    /// The names of the active segment and of what it is in are durable.
    names_synced: bool,
    pub(super) clean_up_to: i64,
    /// See [`Checkpoint::gaps_below`].
    pub(super) gaps_below: i64,
    pub(super) tail: Tail,
    /// Something was appended since the last maintenance run.
    pub(super) tail_used: bool,
    pub(super) epochs: EpochCache,
    /// Names that are not durable yet.
    names: UnsyncedNames,
    /// Counts layout, so that a read knows that the bytes below it changed.
    pub(super) layout: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Status {
    Open,
    Closed,
    Deleted,
    Poisoned(String),
}

#[derive(Debug, Default)]
struct UnsyncedNames {
    /// The metadata file's content.
    metadata: Option<Arc<dyn File>>,
    /// Names in the partition directory.
    dir: bool,
    /// The name of the partition directory.
    root: bool,
}

/// What opening found; see `recovery`.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) log_start: i64,
    /// The log end, all of it synced.
    pub(super) end: RecoveryPoint,
    pub(super) clean_up_to: i64,
    pub(super) gaps_below: i64,
    pub(super) epochs: EpochCache,
    pub(super) checkpoint: CheckpointFile,
    pub(super) recovery: RecoveryInfo,
}

impl SegmentLog {
    pub(super) fn new(
        id: LogId,
        dir: PathBuf,
        shared: Arc<Shared>,
        listener: Arc<dyn LogListener>,
        config: LogConfig,
        opened: Opened,
    ) -> Self {
        let active = opened.segments.last().map(|segment| Active {
            segment: Arc::clone(segment),
            file: None,
            position: segment.len(),
            first_timestamp: None,
        });
        let state = State {
            status: Status::Open,
            config: Arc::new(config),
            segments: opened.segments,
            log_start: opened.log_start,
            log_end: opened.end.offset,
            durable_end: opened.end.offset,
            synced: opened.end,
            journaled_end: opened.end.offset,
            unjournaled_end: opened.end.offset,
            names_synced: active.is_some(),
            clean_up_to: opened.clean_up_to,
            gaps_below: opened.gaps_below,
            tail: Tail::default(),
            tail_used: false,
            epochs: opened.epochs,
            names: UnsyncedNames::default(),
            layout: 0,
        };
        Self {
            id,
            dir,
            shared,
            listener,
            recovery: opened.recovery,
            maintenance: Mutex::new(()),
            interrupt: AtomicBool::new(false),
            writer: Mutex::new(Writer { active }),
            sync: Mutex::new(SyncHalf { checkpoint: opened.checkpoint, unreported: false }),
            snapshots: Mutex::new(()),
            state: Mutex::new(state),
            sync_flag: SyncFlag::default(),
            reports: Mutex::default(),
        }
    }

    /// Refuses unless the log is open and sound.
    pub(super) fn check(&self, state: &State) -> Result<(), LogError> {
        let log = || self.id.to_string();
        match &state.status {
            Status::Open => Ok(()),
            Status::Closed => Err(LogError::Closed { log: log() }),
            Status::Deleted => Err(LogError::Deleted { log: log() }),
            Status::Poisoned(reason) => {
                Err(LogError::Poisoned { log: log(), reason: reason.clone() })
            }
        }
    }

    /// Refuses unless the log can be read. A failed sync does not keep anybody from reading.
    pub(super) fn check_readable(&self, state: &State) -> Result<(), LogError> {
        match state.status {
            Status::Open | Status::Poisoned(_) => Ok(()),
            Status::Closed | Status::Deleted => self.check(state),
        }
    }

    // ---- append ----

    pub(super) fn append(
        self: &Arc<Self>,
        batches: Bytes,
        options: AppendOptions,
    ) -> Result<Appended, LogError> {
        let len = batches.len() as u64;
        let mut writer = lock(&self.writer);
        let (log_end, config, mut view) = {
            let state = lock(&self.state);
            self.check(&state)?;
            (state.log_end, Arc::clone(&state.config), state.active_view())
        };
        let appended = self.inspect(&batches, log_end)?;
        self.shared.space.admit(options.class, len)?;
        if self.must_roll(&mut writer, &appended, len, &config, &view)? {
            self.roll(&mut writer)?;
            view = lock(&self.state).active_view();
        }
        let active = self.write(&mut writer, &batches, options.class)?;
        let position = active.position;
        let noted = active.segment.note(&*self.shared.fs, appended.headers(), &view);
        if let Err(error) = noted {
            return Err(self.undo_write(active, error));
        }
        if position == 0 {
            active.first_timestamp = Some(appended.first.max_timestamp);
        }
        active.position += len;
        let segment = &active.segment;

        let relaxed = self.is_relaxed(options.durability);
        let wants_journal =
            !relaxed && options.class == AppendClass::Coordinator && self.shared.journal.is_used();
        let mut state = lock(&self.state);
        segment.set_len(position + len);
        for header in appended.headers() {
            state.epochs.note(header.partition_leader_epoch, header.base_offset);
        }
        let durable = relaxed && state.durable_end == log_end;
        if durable {
            state.durable_end = appended.end_offset;
        }
        state.log_end = appended.end_offset;
        // Names that are new need a sync of the log itself, which serves the batch too.
        let for_journal = (wants_journal && state.names_synced).then(|| batches.clone());
        if for_journal.is_none() {
            state.unjournaled_end = appended.end_offset;
        }
        self.keep_in_tail(&mut state, log_end, batches);
        let unsynced = position + len - state.synced_position(segment);
        drop(state);
        self.shared.space.grew(len);
        match for_journal {
            Some(batches) => {
                // Not before the log end was moved: it is durable once the journal has it.
                let (base, end) = (segment.base_offset, appended.end_offset);
                self.shared.journal.add(self, base, position, &batches, end);
                self.shared.syncer.journal(&self.shared);
            }
            None => self.schedule_sync(relaxed, unsynced),
        }
        Ok(Appended { end_offset: appended.end_offset, durable })
    }

    /// Checks that the bytes are whole batches which continue the log.
    fn inspect(&self, batches: &Bytes, log_end: i64) -> Result<Inspected, LogError> {
        let refuse = |reason: String| LogError::InvalidAppend { log: self.id.to_string(), reason };
        if batches.len() > i32::MAX as usize {
            return Err(refuse(format!("{} bytes are too many for a segment", batches.len())));
        }
        let mut inspected: Option<Inspected> = None;
        let mut next = log_end;
        for batch in split_batches(batches) {
            let (header, _) = batch.map_err(|error| refuse(error.to_string()))?;
            let (base, last) = (header.base_offset, header.last_offset());
            if base != next || header.last_offset_delta < 0 || last < base || last == i64::MAX {
                let reason = format!("offsets {base}..={last} do not follow the log end {next}");
                return Err(refuse(reason));
            }
            next = header.next_offset();
            match &mut inspected {
                None => inspected = Some(Inspected::new(header)),
                Some(inspected) => inspected.add(header),
            }
        }
        inspected.ok_or_else(|| refuse("there is no batch".to_owned()))
    }

    fn must_roll(
        &self,
        writer: &mut Writer,
        appended: &Inspected,
        len: u64,
        config: &LogConfig,
        view: &View,
    ) -> Result<bool, LogError> {
        let Some(active) = &mut writer.active else { return Ok(true) };
        let segment = &active.segment;
        if appended.end_offset - 1 - segment.base_offset > i64::from(i32::MAX) {
            return Ok(true);
        }
        if active.position == 0 {
            return Ok(false);
        }
        if active.position + len > u64::from(config.segment_bytes.min(i32::MAX as u32)) {
            return Ok(true);
        }
        let first_timestamp = match active.first_timestamp {
            Some(timestamp) => timestamp,
            None => {
                let first = segment.locate(&*self.shared.fs, 0, view, Access::Blocking);
                let first = first.map_err(|error| self.unblocked(error))?;
                let timestamp = first.map_or(NO_TIMESTAMP, |first| first.header.max_timestamp);
                *active.first_timestamp.insert(timestamp)
            }
        };
        if first_timestamp == NO_TIMESTAMP {
            return Ok(false);
        }
        let mut segment_ms = config.segment_ms.saturating_sub(config.segment_jitter_ms);
        if config.compact {
            segment_ms = segment_ms.min(config.max_compaction_lag_ms);
        }
        let age = i128::from(appended.max_timestamp) - i128::from(first_timestamp);
        Ok(age > i128::from(segment_ms))
    }

    /// Begins a new segment at the log end. The old one is synced first, so that a torn tail
    /// can only be in the last segment.
    pub(super) fn roll(self: &Arc<Self>, writer: &mut Writer) -> Result<(), LogError> {
        let fs = &*self.shared.fs;
        let mut sync = lock(&self.sync);
        match &writer.active {
            None => self.create_dir()?,
            Some(active) => {
                // A process that was killed during recovery may have cut the segment and not synced
                // that. An append since would have had it synced.
                let cut = if active.file.is_none() {
                    active.segment.file(fs).and_then(|file| {
                        let io = |error| LogError::io("sync", &active.segment.path, error);
                        file.sync_data().map_err(io)
                    })
                } else {
                    Ok(())
                };
                if let Err(error) = cut.and_then(|()| self.sync_all(&mut sync)) {
                    drop(sync);
                    return Err(self.poison(error));
                }
            }
        }
        let base_offset = lock(&self.state).log_end;
        let path = names::file(&self.dir, base_offset, names::LOG);
        let io = |error| LogError::io("create", &path, error);
        let file = fs.open(&path, OpenMode::Create).map_err(io)?;
        let segment = Arc::new(Segment::created(&self.dir, base_offset, Arc::clone(&file)));
        let mut state = lock(&self.state);
        state.segments.push(Arc::clone(&segment));
        // The recovery point stays at the end of the old segment until the new one's name is durable.
        state.names.dir = true;
        state.names_synced = false;
        writer.active =
            Some(Active { segment, file: Some(file), position: 0, first_timestamp: None });
        Ok(())
    }

    /// Creates the partition directory and its metadata file, for the first append. Their names
    /// become durable with the first sync.
    fn create_dir(&self) -> Result<(), LogError> {
        let fs = &*self.shared.fs;
        fs.create_dir_all(&self.dir).map_err(|error| LogError::io("create", &self.dir, error))?;
        let path = self.dir.join(names::METADATA);
        let io = |error| LogError::io("write", &path, error);
        let file = fs.open(&path, OpenMode::Create).map_err(io)?;
        write_full(&*file, metadata::encode(self.id.topic_id).as_bytes(), 0).map_err(io)?;
        lock(&self.state).names = UnsyncedNames { metadata: Some(file), dir: true, root: true };
        Ok(())
    }

    /// Writes at the end of the active segment. After a failure nothing of it is left.
    fn write<'a>(
        self: &Arc<Self>,
        writer: &'a mut Writer,
        batches: &Bytes,
        class: AppendClass,
    ) -> Result<&'a mut Active, LogError> {
        let Some(active) = &mut writer.active else {
            return Err(LogError::Closed { log: self.id.to_string() });
        };
        let file = match &active.file {
            Some(file) => Arc::clone(file),
            None => {
                let file = active.segment.file(&*self.shared.fs)?;
                Arc::clone(active.file.insert(file))
            }
        };
        let mut result = write_full(&*file, batches, active.position);
        if result.as_ref().is_err_and(is_out_of_space) && class == AppendClass::Coordinator {
            result = match file.set_len(active.position) {
                Ok(()) if self.shared.space.release_reserve() => {
                    write_full(&*file, batches, active.position)
                }
                _ => result,
            };
        }
        match result {
            Ok(()) => Ok(active),
            Err(error) if is_out_of_space(&error) => {
                let full = self.shared.space.disk_full_now();
                Err(self.undo_write(active, full))
            }
            Err(error) => {
                let error = LogError::io("write", &active.segment.path, error);
                Err(self.undo_write(active, error))
            }
        }
    }

    /// Cuts off what a failed append may have written. Garbage must not stay, since later
    /// appends would follow it.
    fn undo_write(self: &Arc<Self>, active: &Active, error: LogError) -> LogError {
        let cut = match &active.file {
            Some(file) => file.set_len(active.position),
            None => Ok(()),
        };
        match cut {
            Ok(()) => error,
            Err(_) => self.poison(error),
        }
    }

    fn keep_in_tail(&self, state: &mut State, base_offset: i64, batches: Bytes) {
        let before = state.tail.bytes();
        let mut budget = state.config.tail_cache_bytes;
        if self.shared.tails_are_full() {
            budget = budget.min(2 * batches.len());
        }
        let end_offset = state.log_end;
        state.tail.push(base_offset, end_offset, batches, budget);
        state.tail_used = true;
        self.shared.tail_changed(before, state.tail.bytes());
    }

    pub(super) fn clear_tail(&self, state: &mut State) {
        let before = state.tail.bytes();
        state.tail.clear();
        self.shared.tail_changed(before, 0);
    }

    fn is_relaxed(&self, durability: Durability) -> bool {
        durability == Durability::Relaxed
            || matches!(self.shared.options.sync_policy, SyncPolicy::Interval { .. })
    }

    fn schedule_sync(self: &Arc<Self>, relaxed: bool, unsynced: u64) {
        let (delay, bytes) = match self.shared.options.sync_policy {
            SyncPolicy::Always => (RELAXED_DELAY, RELAXED_BYTES),
            SyncPolicy::Interval { every, bytes } => (every, bytes),
        };
        if relaxed && unsynced < bytes {
            self.shared.syncer.later(self, delay);
        } else {
            self.shared.syncer.now(self);
        }
    }

    // ---- sync ----

    /// One round of the syncer.
    pub(super) fn sync_round(self: &Arc<Self>) {
        let result = {
            let mut sync = lock(&self.sync);
            if self.take_unreported(&mut sync) {
                drop(sync);
                self.report_failure();
                return;
            }
            if lock(&self.state).status != Status::Open {
                return;
            }
            self.sync_all(&mut sync)
        };
        match result {
            Ok(_) => {
                self.report_durable();
                self.checkpoint_if_due();
            }
            Err(error) => self.fail(error),
        }
    }

    // ---- journal ----

    /// What was appended through the journal is synced there up to `end`.
    pub(super) fn journaled(&self, end: i64) {
        let mut state = lock(&self.state);
        state.journaled_end = state.journaled_end.max(end);
        state.raise_durable_end();
    }

    /// The journal did not take what was appended up to `end`.
    pub(super) fn not_journaled(&self, end: i64) {
        let mut state = lock(&self.state);
        state.unjournaled_end = state.unjournaled_end.max(end);
    }

    /// Whether what was appended up to `end` needs no journal any more.
    pub(super) fn is_synced_up_to(&self, end: i64) -> bool {
        let state = lock(&self.state);
        match state.status {
            Status::Open => state.synced.offset >= end,
            Status::Closed | Status::Deleted => true,
            Status::Poisoned(_) => false,
        }
    }

    /// Tells the listener how far the log is durable, unless it was closed, deleted or poisoned. Called without a lock.
    pub(super) fn report_if_open(&self) {
        if lock(&self.state).status == Status::Open {
            self.report_durable();
        }
    }

    /// Tells the listener how far the log is durable. Called without a lock.
    fn report_durable(&self) {
        let _reports = lock(&self.reports);
        // Looked up here, since a sync that began later may have been reported already.
        let durable_end = lock(&self.state).durable_end;
        self.listener.durable(durable_end);
    }

    /// Syncs all that was written, and the names it hangs on. Returns what is durable now.
    pub(super) fn sync_all(&self, _sync: &mut SyncHalf) -> Result<i64, LogError> {
        let fs = &*self.shared.fs;
        let (target, segment, names) = {
            let mut state = lock(&self.state);
            let Some(segment) = state.segments.last().cloned() else {
                return Ok(state.durable_end);
            };
            let target = RecoveryPoint {
                offset: state.log_end,
                segment: segment.base_offset,
                position: segment.len(),
            };
            if target == state.synced && !state.names.dir {
                return Ok(state.durable_end);
            }
            // If a sync fails they are lost from here, but then so is the log.
            (target, segment, std::mem::take(&mut state.names))
        };
        let file = segment.file(fs)?;
        file.sync_data().map_err(|error| LogError::io("sync", &segment.path, error))?;
        if let Some(metadata) = &names.metadata {
            let path = self.dir.join(names::METADATA);
            metadata.sync_data().map_err(|error| LogError::io("sync", &path, error))?;
        }
        if names.dir {
            sync_dir(&self.shared, &self.dir)?;
        }
        if names.root {
            sync_dir(&self.shared, &self.shared.root)?;
        }
        let mut state = lock(&self.state);
        state.synced = target;
        state.names_synced = true;
        state.raise_durable_end();
        Ok(state.durable_end)
    }

    /// Moves the recovery point when enough was synced since it was moved last.
    fn checkpoint_if_due(self: &Arc<Self>) {
        let mut sync = lock(&self.sync);
        let due = {
            let state = lock(&self.state);
            let written =
                sync.checkpoint.written().map_or(RecoveryPoint::default(), |c| c.recovery);
            let behind = if written.segment == state.synced.segment {
                state.synced.position.saturating_sub(written.position)
            } else {
                // Rolled since: the rest of the old segment is in it too.
                self.shared.options.checkpoint_bytes
            };
            state.status == Status::Open && behind >= self.shared.options.checkpoint_bytes
        };
        if due {
            let result = self.write_checkpoint(&mut sync);
            drop(sync);
            match result {
                Err(error) if error.is_failed_sync() => self.fail(error),
                // The last one still holds, and recovery has more to read.
                Err(error) => tracing::warn!("{}: no checkpoint was written: {error}", self.id),
                Ok(()) => {}
            }
        }
    }

    /// Writes a checkpoint of what is synced; durable when it returns. The indexes follow the
    /// recovery point.
    fn write_checkpoint(&self, sync: &mut SyncHalf) -> Result<(), LogError> {
        let (checkpoint, segments) = lock(&self.state).checkpoint();
        let recovery = checkpoint.recovery;
        sync.checkpoint.write(&*self.shared.fs, checkpoint)?;
        self.persist_indexes(&segments, recovery);
        Ok(())
    }

    /// Syncs everything and writes a checkpoint of it, changed by `change`, into both slots: for
    /// changes that make the older one wrong. Durable when it returns.
    pub(super) fn write_turning_point(
        &self,
        sync: &mut SyncHalf,
        change: impl FnOnce(&mut Checkpoint),
    ) -> Result<(), LogError> {
        // Also the names: a recovery point must not be in a segment that a crash takes back.
        self.sync_all(sync)?;
        let (mut checkpoint, segments) = lock(&self.state).checkpoint();
        change(&mut checkpoint);
        sync.checkpoint.write_both(&*self.shared.fs, &checkpoint)?;
        self.persist_indexes(&segments, checkpoint.recovery);
        Ok(())
    }

    fn persist_indexes(&self, segments: &[Arc<Segment>], recovery: RecoveryPoint) {
        for segment in segments {
            let synced = match segment.base_offset.cmp(&recovery.segment) {
                std::cmp::Ordering::Less => segment.len(),
                std::cmp::Ordering::Equal => recovery.position,
                std::cmp::Ordering::Greater => 0,
            };
            segment.persist_index(&*self.shared.fs, synced);
        }
    }

    // ---- failure ----

    /// Notes that what the disk holds is unknown. The syncer tells listener and broker, since the
    /// caller may hold locks that they need. Returns the error to hand on.
    pub(super) fn poison(self: &Arc<Self>, error: LogError) -> LogError {
        {
            let mut state = lock(&self.state);
            if state.status == Status::Deleted {
                return LogError::Deleted { log: self.id.to_string() };
            }
            if state.status == Status::Open {
                tracing::error!("{}: {error}; no more writes are taken", self.id);
                state.status = Status::Poisoned(error.to_string());
            }
        }
        lock(&self.sync).unreported = true;
        self.shared.syncer.now(self);
        error
    }

    /// [`poison`](Self::poison), unless the error left the disk in a known state.
    pub(super) fn poison_if_sync(self: &Arc<Self>, error: LogError) -> LogError {
        if error.is_failed_sync() { self.poison(error) } else { error }
    }

    /// [`poison`](Self::poison) on a thread that holds nothing: tells at once.
    pub(super) fn fail(self: &Arc<Self>, error: LogError) {
        self.poison(error);
        let unreported = self.take_unreported(&mut lock(&self.sync));
        if unreported {
            self.report_failure();
        }
    }

    fn take_unreported(&self, sync: &mut SyncHalf) -> bool {
        std::mem::take(&mut sync.unreported)
    }

    fn report_failure(&self) {
        let checked = self.check(&lock(&self.state));
        let Err(error @ LogError::Poisoned { .. }) = checked else { return };
        self.listener.failed(&error);
        (self.shared.on_fatal)(&error);
    }

    /// For a read that was allowed to wait.
    pub(super) fn unblocked(&self, error: ReadError) -> LogError {
        match error {
            ReadError::Log(error) => error,
            ReadError::WouldBlock => LogError::io(
                "read",
                &self.dir,
                std::io::Error::from(std::io::ErrorKind::UnexpectedEof),
            ),
        }
    }

    // ---- moving start and end ----

    pub(super) fn advance_start(self: &Arc<Self>, offset: i64) -> Result<(), LogError> {
        let mut sync = lock(&self.sync);
        {
            let state = lock(&self.state);
            self.check(&state)?;
            if offset > state.log_end {
                return Err(state.out_of_range(offset));
            }
            if offset <= state.log_start {
                return Ok(());
            }
        }
        let result = self.write_turning_point(&mut sync, |c| c.log_start = offset);
        if result.is_ok() {
            lock(&self.state).log_start = offset;
        }
        drop(sync);
        result.map_err(|error| self.poison_if_sync(error))
    }

    pub(super) fn truncate(self: &Arc<Self>, offset: i64) -> Result<i64, LogError> {
        self.interrupt.store(true, Ordering::Relaxed);
        let _maintenance = lock(&self.maintenance);
        self.interrupt.store(false, Ordering::Relaxed);
        let mut writer = lock(&self.writer);
        let mut sync = lock(&self.sync);
        let _snapshots = lock(&self.snapshots);
        {
            let state = lock(&self.state);
            self.check(&state)?;
            if offset >= state.log_end {
                return Ok(state.log_end);
            }
            if offset < state.log_start {
                return Err(state.out_of_range(offset));
            }
        }
        let cut = self.cut_point(offset)?;
        self.shared.journal.revoke(&self.shared, &self.id)?;
        let result = self.cut_to(&mut writer, &mut sync, cut);
        drop(sync);
        result.map_err(|error| self.poison(error))?;
        Ok(cut.offset)
    }

    /// Where the log ends if it is to end at or before `offset`.
    fn cut_point(&self, offset: i64) -> Result<RecoveryPoint, LogError> {
        let (segment, view) = {
            let state = lock(&self.state);
            let after = state.segments.partition_point(|s| s.base_offset <= offset);
            let index = after.saturating_sub(1);
            let Some(segment) = state.segments.get(index) else {
                return Ok(RecoveryPoint::default());
            };
            (Arc::clone(segment), state.view(index))
        };
        let found = segment.locate(&*self.shared.fs, offset, &view, Access::Blocking);
        let found = found.map_err(|error| self.unblocked(error))?;
        // Without a batch at or after the offset here, this segment stays as it is and later ones go.
        let (offset, position) = match found {
            Some(Located { position, header }) => (offset.min(header.base_offset), position),
            None => (offset, view.len),
        };
        Ok(RecoveryPoint { offset, segment: segment.base_offset, position })
    }

    fn cut_to(
        &self,
        writer: &mut Writer,
        sync: &mut SyncHalf,
        cut: RecoveryPoint,
    ) -> Result<(), LogError> {
        let fs = &*self.shared.fs;
        // First the recovery point, then the bytes: it must never be beyond them.
        self.write_turning_point(sync, |checkpoint| {
            checkpoint.recovery = cut;
            // The batch that is cut as a whole may have held the start.
            checkpoint.log_start = checkpoint.log_start.min(cut.offset);
            checkpoint.gaps_below = checkpoint.gaps_below.min(cut.offset);
            checkpoint.clean_up_to = checkpoint.clean_up_to.min(cut.offset);
            checkpoint.epochs.retain(|&(_, start)| start < cut.offset);
        })?;
        let dropped = {
            let mut state = lock(&self.state);
            state.layout += 1;
            let keep = state.segments.partition_point(|s| s.base_offset <= cut.segment);
            let dropped = state.segments.split_off(keep);
            if let Some(active) = state.segments.last() {
                self.shared.space.shrank(active.len() - cut.position);
                active.cut(cut.position);
            }
            state.log_start = state.log_start.min(cut.offset);
            state.log_end = cut.offset;
            state.durable_end = cut.offset;
            state.synced = cut;
            state.journaled_end = cut.offset;
            state.unjournaled_end = cut.offset;
            state.clean_up_to = state.clean_up_to.min(cut.offset);
            state.gaps_below = state.gaps_below.min(cut.offset);
            state.epochs.truncate(cut.offset);
            self.clear_tail(&mut state);
            dropped
        };
        // The newest goes first, so that a crash in between leaves no hole.
        for segment in dropped.iter().rev() {
            self.shared.space.shrank(segment.len());
            self.remove_segment_files(&segment.path)?;
            sync_dir(&self.shared, &self.dir)?;
        }
        let active = lock(&self.state).segments.last().cloned();
        if let Some(segment) = active {
            let file = segment.file(fs)?;
            let io = |error| LogError::io("truncate", &segment.path, error);
            file.set_len(cut.position).map_err(io)?;
            file.sync_data().map_err(io)?;
            remove_if_present(&self.shared, &segment.path.with_extension(&names::INDEX[1..]))?;
            let position = cut.position;
            writer.active =
                Some(Active { segment, file: Some(file), position, first_timestamp: None });
        }
        snapshot::remove_beyond(fs, &self.dir, cut.offset)?;
        // Indexes and snapshots of what was cut must not come back to life in a crash.
        sync_dir(&self.shared, &self.dir)
    }

    /// Removes a segment's file and its index.
    pub(super) fn remove_segment_files(&self, path: &Path) -> Result<(), LogError> {
        remove_if_present(&self.shared, &path.with_extension(&names::INDEX[1..]))?;
        remove_if_present(&self.shared, path)
    }

    // ---- end ----

    pub(super) fn close(self: &Arc<Self>) -> Result<(), LogError> {
        self.interrupt.store(true, Ordering::Relaxed);
        let maintenance = lock(&self.maintenance);
        let writer = lock(&self.writer);
        let mut sync = lock(&self.sync);
        {
            let state = lock(&self.state);
            if matches!(state.status, Status::Closed | Status::Deleted) {
                return Ok(());
            }
            if let Err(error) = self.check(&state) {
                drop(state);
                self.shared.forget(&self.id, self);
                return Err(error);
            }
        }
        let result = self.sync_all(&mut sync).and_then(|_| {
            if !lock(&self.state).segments.is_empty() {
                self.write_checkpoint(&mut sync)?;
            }
            Ok(())
        });
        // Without the checkpoint everything is still there; the next open has more to read.
        if !result.as_ref().is_err_and(LogError::is_failed_sync) {
            let mut state = lock(&self.state);
            state.status = Status::Closed;
            self.clear_tail(&mut state);
        }
        drop((sync, writer, maintenance));
        self.shared.forget(&self.id, self);
        match result {
            Ok(()) => {
                self.report_durable();
                Ok(())
            }
            Err(error) => {
                if error.is_failed_sync() {
                    self.fail(error.clone());
                }
                Err(error)
            }
        }
    }

    /// Refuses everything from now on, and waits until nothing touches the directory any more.
    pub(super) fn mark_deleted(&self) {
        self.interrupt.store(true, Ordering::Relaxed);
        let _maintenance = lock(&self.maintenance);
        let _writer = lock(&self.writer);
        let _sync = lock(&self.sync);
        let _snapshots = lock(&self.snapshots);
        let mut state = lock(&self.state);
        state.status = Status::Deleted;
        // Who reads just now finds no files, and shall see why.
        state.layout += 1;
        self.clear_tail(&mut state);
        let bytes = state.segments.iter().map(|segment| segment.len()).sum();
        state.segments.clear();
        self.shared.space.shrank(bytes);
    }
}

impl State {
    pub(super) fn out_of_range(&self, offset: i64) -> LogError {
        LogError::OffsetOutOfRange {
            offset,
            log_start_offset: self.log_start,
            log_end_offset: self.log_end,
        }
    }

    /// What must hold of the active segment; of a log without one, of the one to come.
    fn active_view(&self) -> View {
        match self.segments.len().checked_sub(1) {
            Some(last) => self.view(last),
            None => View {
                len: 0,
                end_offset: self.log_end,
                gaps_below: self.gaps_below,
                max_epoch: -1,
                interval: self.config.index_interval_bytes,
                cuts: 0,
            },
        }
    }

    /// A checkpoint of what is synced, and the segments there are.
    fn checkpoint(&self) -> (Checkpoint, Vec<Arc<Segment>>) {
        let checkpoint = Checkpoint {
            log_start: self.log_start,
            recovery: self.synced,
            clean_up_to: self.clean_up_to,
            gaps_below: self.gaps_below,
            epochs: self.epochs.entries_below(self.synced.offset),
        };
        (checkpoint, self.segments.clone())
    }

    /// What is synced is durable, and so is what the journal has on top of it.
    fn raise_durable_end(&mut self) {
        let synced = self.synced.offset;
        let through_journal = synced >= self.unjournaled_end;
        let end = if through_journal { synced.max(self.journaled_end) } else { synced };
        self.durable_end = self.durable_end.max(end);
    }

    /// Bytes of the active segment that are synced.
    fn synced_position(&self, active: &Segment) -> u64 {
        if self.synced.segment == active.base_offset { self.synced.position } else { 0 }
    }
}

/// What an append consists of: one batch, nearly always.
#[derive(Debug)]
struct Inspected {
    first: BatchHeader,
    more: Vec<BatchHeader>,
    end_offset: i64,
    max_timestamp: i64,
}

impl Inspected {
    fn new(first: BatchHeader) -> Self {
        let (end_offset, max_timestamp) = (first.next_offset(), first.max_timestamp);
        Self { first, more: Vec::new(), end_offset, max_timestamp }
    }

    fn add(&mut self, header: BatchHeader) {
        self.end_offset = header.next_offset();
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        self.more.push(header);
    }

    fn headers(&self) -> impl Iterator<Item = &BatchHeader> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

pub(super) fn sync_dir(shared: &Shared, dir: &Path) -> Result<(), LogError> {
    shared.fs.sync_dir(dir).map_err(|error| LogError::io("sync", dir, error))
}

pub(super) fn remove_if_present(shared: &Shared, path: &Path) -> Result<(), LogError> {
    match shared.fs.remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LogError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}
