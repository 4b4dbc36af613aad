//! The journal: the small batches of many logs in one file, so that one sync makes all of them durable.
//!
//! Commits of many groups go to many logs, and a sync of each would serve few of them. So the batches of coordinators are
//! written to their log as all are, without a sync, and to the journal, which one sync at a time makes durable for everyone who
//! waits. The log's own file is synced later, by the rounds that every log has, before the journal's space is used again.
//!
//! Two files are written in turn, each from its beginning. One is written over only when all logs with a batch in it were synced
//! beyond that batch; until then appends are made durable as without a journal. After a crash, [`Journal::replay`] puts the
//! batches where they were in their segments, before any log is opened.
//!
//! **Invariants.**
//! * A batch is written to the journal after it was written to its log, at a place of the segment that never gets other bytes,
//!   unless the log is truncated or begins anew: then [`Journal::revoke`] makes what is in the journal void first.
//! * Nothing is written to one file before all of the other one is synced.
//! * Entries for a segment that is not the newest of its log are worthless: a roll syncs the old one.
//!
//! Owns both files. Does not own when a log counts as durable (`log`) nor who runs a round (`syncer`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::{Buf, BufMut};
use kavka_protocol::{Uuid, records::crc32c};

use super::log::{SegmentLog, remove_if_present, sync_dir};
use super::store::Shared;
use super::syncer::SyncFlag;
use super::{lock, names, recovery};
use crate::fs::{File, OpenMode, read_full, write_full};
use crate::{LogError, LogId};

const MAGIC: u32 = u32::from_be_bytes(*b"KJNL");
/// Bytes of an entry before its topic: see [`put_entry`].
const HEADER_BYTES: usize = 64;
/// Where the checksum stands, and where what it covers begins.
const CRC_AT: usize = 4;
const COVERED_AT: usize = 8;
/// A file grows by this share of its limit at a time, with zeros behind the entries: a sync that needs no new length and no new
/// blocks costs the disk half as much.
const GROWTHS: u64 = 32;
/// The position of an entry that revokes all earlier ones of its log.
const REVOKED: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub(super) struct Journal {
    /// Bytes that a file grows to; 0 for no journal.
    limit: u64,
    pub(super) flag: SyncFlag,
    gathered: Mutex<Gathered>,
    files: Mutex<Files>,
}

/// What waits for the next round.
#[derive(Debug, Default)]
struct Gathered {
    /// Entries without epoch and checksum, which they get when it is known where they go.
    entries: Vec<u8>,
    logs: Vec<Noted>,
}

/// A log that has a batch in the journal, which ends at offset `end`.
struct Noted {
    log: Arc<SegmentLog>,
    end: i64,
}

impl fmt::Debug for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} up to {}", self.log.id, self.end)
    }
}

#[derive(Debug, Default)]
struct Files {
    files: [JournalFile; 2],
    current: usize,
    /// Rises with each change of the current file.
    epoch: u64,
    /// Made durable by [`Journal::revoke`], and not told yet.
    untold: Vec<Noted>,
    /// The last round found no room, or no space on the disk.
    full: bool,
    /// What the disk holds is unknown.
    broken: Option<LogError>,
    /// The store is gone: nothing more is written, least of all over what is there.
    forgotten: bool,
}

#[derive(Debug, Default)]
struct JournalFile {
    file: Option<Arc<dyn File>>,
    named: bool,
    /// Bytes of the current entries.
    end: u64,
    len: u64,
    /// The logs that have entries here, and where the last of each ends.
    logs: BTreeMap<LogId, Noted>,
    /// Some entry revokes others.
    revokes: bool,
    /// A write failed, and may have left entries behind the end. No more are written until it is this file's turn again.
    spoiled: bool,
}

/// Why a round could not be written.
enum Refusal {
    /// The logs' own syncs have to do.
    Full(Option<std::io::Error>),
    Broken(LogError),
}

impl Journal {
    pub(super) fn new(limit: u64) -> Self {
        let (gathered, files) = (Mutex::default(), Mutex::default());
        Self { limit, flag: SyncFlag::default(), gathered, files }
    }

    pub(super) fn is_used(&self) -> bool {
        self.limit > 0
    }

    /// Takes batches that were written to `log`, at `position` of the segment with that base offset, for the next round. Called
    /// with the log's writer locked.
    pub(super) fn add(
        &self,
        log: &Arc<SegmentLog>,
        segment: i64,
        position: u64,
        batches: &[u8],
        end: i64,
    ) {
        let mut gathered = lock(&self.gathered);
        put_entry(&mut gathered.entries, &log.id, segment, position, batches);
        match gathered.logs.last_mut() {
            Some(last) if Arc::ptr_eq(&last.log, log) => last.end = end,
            _ => gathered.logs.push(Noted { log: Arc::clone(log), end }),
        }
    }

    /// One round of the syncer: makes durable what was gathered, and tells the logs.
    pub(super) fn round(&self, shared: &Shared) {
        let mut told;
        let refusal;
        {
            let mut files = lock(&self.files);
            if files.forgotten {
                return;
            }
            let gathered = std::mem::take(&mut *lock(&self.gathered));
            told = std::mem::take(&mut files.untold);
            let logs = last_of_each(gathered.logs);
            refusal = match self.write(shared, &mut files, gathered.entries, &logs, false) {
                Ok(()) => {
                    told.extend(logs);
                    None
                }
                Err(refusal) => Some((refusal, logs)),
            };
        }
        for Noted { log, .. } in last_of_each(told) {
            log.report_if_open();
        }
        match refusal {
            None => {}
            Some((Refusal::Full(error), logs)) => {
                if let Some(error) = error {
                    tracing::warn!(
                        "the journal cannot be written, logs are synced instead: {error}"
                    );
                }
                for Noted { log, end } in logs {
                    log.not_journaled(end);
                    shared.syncer.now(&log);
                }
            }
            Some((Refusal::Broken(error), logs)) => {
                for Noted { log, .. } in logs {
                    log.fail(error.clone());
                }
            }
        }
    }

    /// Makes every entry of a log void that is in the journal by now, durably: before the log is cut back, or opened anew. No
    /// batch of it may be appended meanwhile.
    pub(super) fn revoke(&self, shared: &Arc<Shared>, id: &LogId) -> Result<(), LogError> {
        if !self.is_used() {
            return Ok(());
        }
        let mut files = lock(&self.files);
        let mut gathered = lock(&self.gathered);
        if files.forgotten {
            return Err(LogError::Closed { log: shared.root.display().to_string() });
        }
        let is_known = gathered.logs.iter().any(|noted| noted.log.id == *id)
            || files.files.iter().any(|file| file.logs.contains_key(id));
        if !is_known {
            return Ok(());
        }
        let Gathered { mut entries, logs } = std::mem::take(&mut *gathered);
        drop(gathered);
        put_entry(&mut entries, id, 0, REVOKED, &[]);
        let logs = last_of_each(logs);
        let result = self.write(shared, &mut files, entries, &logs, true);
        // Listeners are called by the round, since the caller may hold locks.
        let result = match result {
            Ok(()) => {
                let current = files.current;
                files.files[current].revokes = true;
                for file in &mut files.files {
                    file.logs.remove(id);
                }
                files.untold.extend(logs);
                Ok(())
            }
            Err(Refusal::Broken(error)) => {
                lock(&self.gathered).logs.extend(logs);
                Err(error)
            }
            Err(Refusal::Full(error)) => {
                for Noted { log, end } in logs {
                    log.not_journaled(end);
                    shared.syncer.now(&log);
                }
                let error = error.unwrap_or_else(|| std::io::ErrorKind::StorageFull.into());
                Err(LogError::io("write", &path(shared, files.current), error))
            }
        };
        drop(files);
        shared.syncer.journal(shared);
        result
    }

    /// Writes and syncs entries in one file, and notes the logs there. With `must_fit` the file may grow beyond its limit.
    fn write(
        &self,
        shared: &Shared,
        files: &mut Files,
        mut entries: Vec<u8>,
        logs: &[Noted],
        must_fit: bool,
    ) -> Result<(), Refusal> {
        if let Some(error) = &files.broken {
            return Err(Refusal::Broken(error.clone()));
        }
        if entries.is_empty() {
            return Ok(());
        }
        let len = entries.len() as u64;
        let file = &files.files[files.current];
        let fits = !file.spoiled && (must_fit || file.end + len <= self.limit);
        if !fits {
            let too_large = len > self.limit && !must_fit;
            if too_large || !files.files[1 - files.current].is_free() {
                let error = std::io::Error::other("its files wait for the logs to be synced");
                return Err(files.refuse(error));
            }
            files.take_turns(shared)?;
        }
        let (epoch, current) = (files.epoch, files.current);
        seal(&mut entries, epoch);
        let path = path(shared, current);
        let file = &mut files.files[current];
        for Noted { log, end } in logs {
            let noted = Noted { log: Arc::clone(log), end: *end };
            file.logs.insert(log.id.clone(), noted);
        }
        let written = file.extend_with(shared, &path, entries, self.limit);
        if let Err(error) = written {
            file.spoiled = true;
            return Err(files.refuse(error));
        }
        if let Err(error) = file.sync(shared, &path) {
            files.broken = Some(error.clone());
            return Err(Refusal::Broken(error));
        }
        file.end += len;
        for Noted { log, end } in logs {
            log.journaled(*end);
        }
        files.full = false;
        Ok(())
    }

    /// Forgets the logs: the store goes away.
    pub(super) fn forget(&self) {
        let gathered = std::mem::take(&mut *lock(&self.gathered));
        let forgotten = Files { forgotten: true, ..Files::default() };
        let files = std::mem::replace(&mut *lock(&self.files), forgotten);
        drop((gathered, files));
    }

    /// Removes the files, if all logs were synced beyond what is in them.
    pub(super) fn close(&self, shared: &Shared) -> Result<(), LogError> {
        let mut files = lock(&self.files);
        let is_written = files.files.iter().any(|file| file.file.is_some());
        let is_free = files.broken.is_none() && files.files.iter().all(JournalFile::is_free);
        if is_written && is_free {
            // The older one first: see `replay`.
            remove(shared, [1 - files.current, files.current])?;
        }
        *files = Files::default();
        Ok(())
    }

    /// Puts the batches of the journal that a crash left where they belong, durably, and removes it. Before any log is opened.
    pub(super) fn replay(shared: &Shared) -> Result<(), LogError> {
        let mut found = Vec::new();
        for index in 0..2 {
            if let Some(bytes) = read_file(shared, &path(shared, index))? {
                found.push((index, entries_of(&bytes)));
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        found.sort_by_key(|(_, (epoch, _))| *epoch);
        let order: Vec<usize> = found.iter().map(|(index, _)| *index).collect();
        let mut logs: BTreeMap<LogId, Vec<Entry>> = BTreeMap::new();
        for entry in found.into_iter().flat_map(|(_, (_, entries))| entries) {
            if entry.position == REVOKED {
                logs.remove(&entry.id);
            } else {
                logs.entry(entry.id.clone()).or_default().push(entry);
            }
        }
        for (id, entries) in &logs {
            restore(shared, id, entries)?;
        }
        // Without the newer file, which may revoke entries of it, the older one must not be found again.
        remove(shared, order)
    }
}

impl Files {
    /// Begins with the other file, which is free, and has the logs synced that keep this one from being free.
    fn take_turns(&mut self, shared: &Shared) -> Result<(), Refusal> {
        let next = 1 - self.current;
        let path = path(shared, next);
        let file = &mut self.files[next];
        if std::mem::take(&mut file.revokes)
            && let Some(handle) = &file.file
        {
            // While it is written over, a crash may leave the beginning of what was there without the entry that revokes it.
            let nothing = [0; HEADER_BYTES];
            if let Err(error) = write_full(&**handle, &nothing, 0) {
                file.revokes = true;
                return Err(self.refuse(error));
            }
            if let Err(error) = file.sync(shared, &path) {
                self.broken = Some(error.clone());
                return Err(Refusal::Broken(error));
            }
        }
        file.end = 0;
        file.spoiled = false;
        file.logs.clear();
        for noted in self.files[self.current].logs.values() {
            shared.syncer.now(&noted.log);
        }
        self.current = next;
        self.epoch += 1;
        Ok(())
    }

    /// Refuses a round; the first of several says why.
    fn refuse(&mut self, error: std::io::Error) -> Refusal {
        Refusal::Full((!std::mem::replace(&mut self.full, true)).then_some(error))
    }
}

impl JournalFile {
    /// Whether nothing in it is needed: the logs were synced beyond it.
    fn is_free(&self) -> bool {
        self.logs.values().all(|noted| noted.log.is_synced_up_to(noted.end))
    }

    /// Writes entries behind those that are there, and zeros behind them if the file has to become longer.
    fn extend_with(
        &mut self,
        shared: &Shared,
        path: &Path,
        mut entries: Vec<u8>,
        limit: u64,
    ) -> std::io::Result<()> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => Arc::clone(self.file.insert(shared.fs.open(path, OpenMode::Create)?)),
        };
        let end = self.end + entries.len() as u64;
        if end > self.len {
            let step = (limit / GROWTHS).max(1);
            let len = end.next_multiple_of(step).min(limit.max(end));
            entries.resize((len - self.end) as usize, 0);
        }
        write_full(&*file, &entries, self.end)?;
        self.len = self.len.max(self.end + entries.len() as u64);
        Ok(())
    }

    fn sync(&mut self, shared: &Shared, path: &Path) -> Result<(), LogError> {
        if let Some(file) = &self.file {
            file.sync_data().map_err(|error| LogError::io("sync", path, error))?;
        }
        if !self.named {
            sync_dir(shared, &shared.root)?;
            self.named = true;
        }
        Ok(())
    }
}

fn path(shared: &Shared, index: usize) -> PathBuf {
    shared.root.join(names::JOURNALS[index])
}

/// Removes the files one after the other, durably.
fn remove(shared: &Shared, order: impl IntoIterator<Item = usize>) -> Result<(), LogError> {
    for index in order {
        remove_if_present(shared, &path(shared, index))?;
        sync_dir(shared, &shared.root)?;
    }
    Ok(())
}

/// Each log once, in order, with the largest end.
fn last_of_each(mut logs: Vec<Noted>) -> Vec<Noted> {
    logs.sort_by(|a, b| a.log.id.cmp(&b.log.id).then(b.end.cmp(&a.end)));
    logs.dedup_by(|later, kept| Arc::ptr_eq(&later.log, &kept.log));
    logs
}

// ---- entries ----

/// What an entry says.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    id: LogId,
    segment: i64,
    position: u64,
    batches: Vec<u8>,
}

/// Adds an entry; [`seal`] fills in checksum and epoch.
fn put_entry(entries: &mut Vec<u8>, id: &LogId, segment: i64, position: u64, batches: &[u8]) {
    let topic = id.topic.as_bytes();
    let len = HEADER_BYTES + topic.len() + batches.len();
    entries.reserve(len);
    entries.put_u32(MAGIC);
    entries.put_u32(0);
    entries.put_u64(0);
    entries.put_u32(len as u32);
    entries.put_u32(topic.len() as u32);
    entries.put_i32(id.partition);
    entries.put_u32(0);
    entries.put_i64(segment);
    entries.put_u64(position);
    entries.put_slice(id.topic_id.as_bytes());
    entries.put_slice(topic);
    entries.put_slice(batches);
}

/// Gives the entries their epoch and checksum.
fn seal(mut entries: &mut [u8], epoch: u64) {
    while entries.len() >= HEADER_BYTES {
        let len = (&entries[16..20]).get_u32() as usize;
        let (entry, rest) = entries.split_at_mut(len);
        entry[COVERED_AT..COVERED_AT + 8].copy_from_slice(&epoch.to_be_bytes());
        let crc = crc32c(&entry[COVERED_AT..]);
        entry[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
        entries = rest;
    }
}

/// The entries of a file from its beginning, as far as they are whole and of one epoch; that epoch, 0 without any.
fn entries_of(mut bytes: &[u8]) -> (u64, Vec<Entry>) {
    let (mut epoch, mut entries) = (None, Vec::new());
    while let Some((found, entry, rest)) = first_entry(bytes) {
        if *epoch.get_or_insert(found) != found {
            break;
        }
        entries.push(entry);
        bytes = rest;
    }
    (epoch.unwrap_or(0), entries)
}

fn first_entry(bytes: &[u8]) -> Option<(u64, Entry, &[u8])> {
    let mut header = bytes.get(..HEADER_BYTES)?;
    if header.get_u32() != MAGIC {
        return None;
    }
    let crc = header.get_u32();
    let epoch = header.get_u64();
    let (len, topic_len) = (header.get_u32() as usize, header.get_u32() as usize);
    let whole = bytes.get(..len).filter(|_| len >= HEADER_BYTES)?;
    if crc32c(&whole[COVERED_AT..]) != crc {
        return None;
    }
    let partition = header.get_i32();
    header.advance(4);
    let (segment, position) = (header.get_i64(), header.get_u64());
    let mut topic_id = [0; 16];
    header.copy_to_slice(&mut topic_id);
    let (topic, batches) = whole[HEADER_BYTES..].split_at_checked(topic_len)?;
    let topic = std::str::from_utf8(topic).ok()?;
    let id = LogId { topic: topic.into(), partition, topic_id: Uuid::from_bytes(topic_id) };
    Some((epoch, Entry { id, segment, position, batches: batches.to_vec() }, &bytes[len..]))
}

// ---- replay ----

fn read_file(shared: &Shared, path: &Path) -> Result<Option<Vec<u8>>, LogError> {
    let io = |error| LogError::io("read", path, error);
    let file = match shared.fs.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let len = file.size().map_err(io)?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    let n = read_full(&*file, &mut bytes, 0).map_err(io)?;
    bytes.truncate(n);
    Ok(Some(bytes))
}

/// Writes the batches of one log to where they were in its newest segment, durably.
fn restore(shared: &Shared, id: &LogId, entries: &[Entry]) -> Result<(), LogError> {
    let dir = shared.root.join(id.to_string());
    match recovery::read_topic_id(shared, &dir) {
        Ok(Some(found)) if found == id.topic_id => {}
        // Deleted, or its names were not durable: nothing of it was acknowledged.
        Ok(_) => return Ok(()),
        Err(error) if error.is_corrupt() => {
            tracing::error!("{id}: what the journal has of it is not put back: {error}");
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    let Some(segment) = recovery::newest_segment(shared, &dir)? else { return Ok(()) };
    let path = names::file(&dir, segment, names::LOG);
    let io = |error| LogError::io("write", &path, error);
    let file = shared.fs.open(&path, OpenMode::Write).map_err(io)?;
    let mut len = file.size().map_err(io)?;
    let (mut there, mut restored) = (Vec::new(), 0);
    for entry in entries.iter().filter(|entry| entry.segment == segment) {
        if entry.position > len {
            // What was before it is not there, so it was not acknowledged.
            break;
        }
        there.resize(entry.batches.len(), 0);
        let n = read_full(&*file, &mut there, entry.position).map_err(io)?;
        if there[..n] != entry.batches[..] {
            write_full(&*file, &entry.batches, entry.position).map_err(io)?;
            restored += 1;
        }
        len = len.max(entry.position + entry.batches.len() as u64);
    }
    file.sync_data().map_err(|error| LogError::io("sync", &path, error))?;
    if restored > 0 {
        tracing::info!(
            "{id}: {restored} of {} appends were put back by the journal",
            entries.len()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
