//! One segment file: opened when it is first used, scanned batch by batch, indexed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use bytes::Bytes;
use kavka_protocol::records::{BatchHeader, HEADER_SIZE, RecordError, verify_crc};

use super::index::{Anchor, Index};
use super::{lock, names};
use crate::fs::{File, Fs, OpenMode, read_full, write_full};
use crate::{LogError, Slice};

/// Bytes that a scan reads at once.
const SCAN_WINDOW: usize = 256 << 10;
/// Bytes that the search for a batch, from an index entry on, reads at once.
const LOCATE_WINDOW: u64 = 8 << 10;
/// Bytes read at once where only headers are wanted: many small batches, or one header and not its large batch.
const HEADERS_WINDOW: u64 = 4 << 10;
/// An index file larger than this is no index file.
const MAX_INDEX_FILE: u64 = 256 << 20;
/// `max_timestamp` before the index was loaded.
const UNKNOWN: i64 = i64::MIN;

/// A segment. Sealed segments never change; the active one only grows, except by truncation.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base_offset: i64,
    pub(crate) path: PathBuf,
    /// Bytes that readers may see. Set under the log's state lock.
    len: AtomicU64,
    file: Mutex<Option<Arc<dyn File>>>,
    index: Mutex<Option<Index>>,
    max_timestamp: AtomicI64,
    /// How often the segment was cut.
    cuts: AtomicU64,
    /// Bytes of the segment for which the index file may speak: those below the recovery point. What
    /// it says beyond is from before a truncation that a crash interrupted.
    index_file_limit: AtomicU64,
    /// Used since the last [`release_idle`](Self::release_idle).
    used: AtomicBool,
}

/// Whether a read may wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Blocking,
    NoWait,
}

/// Why a read returned nothing.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// It would have to wait for the disk.
    WouldBlock,
    Log(LogError),
}

impl From<LogError> for ReadError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// What must hold of the part of a segment that is read, and how it is indexed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// Bytes that may be read.
    pub(crate) len: u64,
    /// Offset at which the next segment, or nothing, begins.
    pub(crate) end_offset: i64,
    /// Offsets may be missing below it, and not from it on.
    pub(crate) gaps_below: i64,
    /// The newest leader epoch of the log; -1 for none.
    pub(crate) max_epoch: i32,
    /// Segment bytes between two index entries.
    pub(crate) interval: u32,
    /// How often the segment was cut before.
    pub(crate) cuts: u64,
}

impl View {
    /// Checks what the checksum of a batch does not cover, its offset and its leader epoch, where
    /// the batch before ended at offset `previous_end`.
    fn check(&self, header: &BatchHeader, previous_end: i64) -> Result<(), String> {
        let (base, last) = (header.base_offset, header.last_offset());
        let gap = base != previous_end && previous_end >= self.gaps_below;
        if base < previous_end || last >= self.end_offset || gap {
            return Err(format!(
                "a batch of offsets {base}..={last} lies between offsets {previous_end} and {}",
                self.end_offset
            ));
        }
        if !(-1..=self.max_epoch).contains(&header.partition_leader_epoch) {
            return Err(format!(
                "the leader epoch {} of offset {base} is not one of the log, whose newest is {}",
                header.partition_leader_epoch, self.max_epoch
            ));
        }
        Ok(())
    }
}

/// A batch that was found.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
}

impl Segment {
    /// For a file of which the whole is below the recovery point.
    pub(crate) fn new(dir: &Path, base_offset: i64, len: u64) -> Self {
        Self {
            base_offset,
            path: names::file(dir, base_offset, names::LOG),
            len: AtomicU64::new(len),
            file: Mutex::new(None),
            index: Mutex::new(None),
            max_timestamp: AtomicI64::new(UNKNOWN),
            cuts: AtomicU64::new(0),
            index_file_limit: AtomicU64::new(u64::MAX),
            used: AtomicBool::new(true),
        }
    }

    /// For a file of which no more than `synced` bytes are below the recovery point.
    pub(crate) fn partly_synced(dir: &Path, base_offset: i64, len: u64, synced: u64) -> Self {
        let segment = Self::new(dir, base_offset, len);
        segment.index_file_limit.store(synced, Ordering::Relaxed);
        segment
    }

    /// For a file that was just created.
    pub(crate) fn created(dir: &Path, base_offset: i64, file: Arc<dyn File>) -> Self {
        let segment = Self::partly_synced(dir, base_offset, 0, 0);
        *lock(&segment.file) = Some(file);
        *lock(&segment.index) = Some(Index::new(base_offset));
        segment
    }

    /// For a file that compaction wrote.
    pub(crate) fn compacted(dir: &Path, base_offset: i64, len: u64, index: Index) -> Self {
        let segment = Self::partly_synced(dir, base_offset, len, 0);
        segment.max_timestamp.store(index.max_timestamp(), Ordering::Relaxed);
        *lock(&segment.index) = Some(index);
        segment
    }

    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    pub(crate) fn set_len(&self, len: u64) {
        self.len.store(len, Ordering::Release);
    }

    /// The open file.
    pub(crate) fn file(&self, fs: &dyn Fs) -> Result<Arc<dyn File>, LogError> {
        self.used.store(true, Ordering::Relaxed);
        let mut file = lock(&self.file);
        if let Some(file) = &*file {
            return Ok(Arc::clone(file));
        }
        let opened = fs
            .open(&self.path, OpenMode::Write)
            .map_err(|error| LogError::io("open", &self.path, error))?;
        *file = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Notes appended batches, which follow the part that `view` shows.
    pub(crate) fn note<'a>(
        &self,
        fs: &dyn Fs,
        headers: impl Iterator<Item = &'a BatchHeader>,
        view: &View,
    ) -> Result<(), LogError> {
        let mut position = view.len;
        self.with_index(fs, view, |index| {
            for header in headers {
                index.note(header, position, view.interval);
                position += header.size_in_bytes() as u64;
            }
            index.max_timestamp()
        })
        .map(|max| self.max_timestamp.store(max, Ordering::Relaxed))
    }

    /// Works on the index, after loading or completing it up to the view's end where needed.
    fn with_index<R>(
        &self,
        fs: &dyn Fs,
        view: &View,
        work: impl FnOnce(&mut Index) -> R,
    ) -> Result<R, LogError> {
        let len = view.len;
        let mut slot = lock(&self.index);
        if self.cuts() != view.cuts {
            // The caller looks again; an index of bytes that are gone must not stay.
            return Err(LogError::io("read", &self.path, io::ErrorKind::Interrupted.into()));
        }
        if slot.as_ref().is_none_or(|index| index.covered() < len) {
            let mut index = match slot.take() {
                Some(index) => index,
                None => self.read_index(fs, len)?,
            };
            if index.covered() < len {
                let file = self.file(fs)?;
                let scan = Scan::new(&*file, &self.path, index.covered(), len);
                let mut scan = scan.at_or_after(index.next_offset());
                let interval = self.interval(view);
                while let Some(batch) = scan.next(Verify::Header)? {
                    view.check(&batch.header, index.next_offset())
                        .map_err(|reason| self.out_of_order(batch.position, len, reason))?;
                    index.note(&batch.header, batch.position, interval);
                }
            }
            self.max_timestamp.store(index.max_timestamp(), Ordering::Relaxed);
            *slot = Some(index);
        }
        self.used.store(true, Ordering::Relaxed);
        let index = slot.get_or_insert_with(|| Index::new(self.base_offset));
        Ok(work(index))
    }

    /// Bytes between two entries of the index. Where gaps are allowed, only an entry tells whether
    /// a batch has the offset it was written with, so each batch gets one.
    fn interval(&self, view: &View) -> u32 {
        if self.base_offset < view.gaps_below { 0 } else { view.interval }
    }

    fn index_path(&self) -> PathBuf {
        self.path.with_extension(&names::INDEX[1..])
    }

    /// Cuts off what the index file says beyond the recovery point, durably, before that moves.
    pub(crate) fn trim_index_file(&self, fs: &dyn Fs) -> Result<(), LogError> {
        let path = self.index_path();
        let file = match fs.open(&path, OpenMode::Write) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(LogError::io("open", &path, error)),
        };
        let limit = self.index_file_limit.load(Ordering::Relaxed);
        let believed = match read_index_file(&*file) {
            Ok(bytes) => Index::decode(self.base_offset, &bytes, limit).file_len(),
            Err(error) => {
                tracing::warn!("index {} is made anew: {error}", path.display());
                0
            }
        };
        if file.size().map_err(|error| LogError::io("read", &path, error))? > believed {
            file.set_len(believed).map_err(|error| LogError::io("truncate", &path, error))?;
            file.sync_data().map_err(|error| LogError::io("sync", &path, error))?;
        }
        Ok(())
    }

    fn read_index(&self, fs: &dyn Fs, len: u64) -> Result<Index, LogError> {
        let path = self.index_path();
        let read = fs.open(&path, OpenMode::Read).and_then(|file| read_index_file(&*file));
        match read {
            Ok(bytes) => {
                let limit = self.index_file_limit.load(Ordering::Relaxed);
                let index = Index::decode(self.base_offset, &bytes, limit);
                if index.covered() > len && limit == u64::MAX {
                    return Err(LogError::Corrupt {
                        file: self.path.clone(),
                        range: len..index.covered(),
                        reason: format!("its index knows {} bytes", index.covered()),
                    });
                }
                if index.covered() > len {
                    return Ok(Index::decode(self.base_offset, &bytes, len));
                }
                Ok(index)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!("index {} is made anew: {error}", path.display());
                }
                Ok(Index::new(self.base_offset))
            }
        }
    }

    /// Writes what the index file lacks, if everything in it is synced: `synced` bytes of the segment
    /// are. The file is a cache, so it is not synced itself, and failing to write it is no failure.
    pub(crate) fn persist_index(&self, fs: &dyn Fs, synced: u64) {
        let (at, block, covered, entries) = {
            let slot = lock(&self.index);
            let Some(index) = slot.as_ref() else { return };
            if index.covered() > synced || !index.has_unpersisted(synced) {
                return;
            }
            let (at, block) = index.next_block();
            (at, block, index.covered(), index.entry_count())
        };
        let path = self.index_path();
        let mode = if at == 0 { OpenMode::Create } else { OpenMode::Write };
        let written = fs.open(&path, mode).and_then(|file| {
            if file.size()? > at {
                // Blocks that are not believed must not follow one that is.
                file.set_len(at)?;
            }
            write_full(&*file, &block, at)
        });
        match written {
            Ok(()) => {
                self.index_file_limit.fetch_max(covered, Ordering::Relaxed);
                if let Some(index) = lock(&self.index).as_mut() {
                    index.block_written(block.len(), covered, entries);
                }
            }
            Err(error) => {
                tracing::debug!("index {} was not written: {error}", path.display());
                // The file may be gone; the next attempt writes it anew, as a whole.
                if let Some(index) = lock(&self.index).as_mut() {
                    index.forget_file();
                }
            }
        }
    }

    /// How often the segment was cut. To be read under the log's state lock, for a view.
    pub(crate) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Acquire)
    }

    /// Makes the segment shorter for all who look from now on, and forgets the index in memory. The
    /// caller cuts the file and removes that of the index.
    pub(crate) fn cut(&self, len: u64) {
        let mut slot = lock(&self.index);
        *slot = None;
        self.cuts.fetch_add(1, Ordering::AcqRel);
        self.set_len(len);
        self.index_file_limit.store(0, Ordering::Relaxed);
        self.max_timestamp.store(UNKNOWN, Ordering::Relaxed);
    }

    /// Closes the file and drops the index, if neither was used since the last call.
    pub(crate) fn release_idle(&self, fs: &dyn Fs) {
        if self.used.swap(false, Ordering::Relaxed) {
            return;
        }
        self.persist_index(fs, self.len());
        *lock(&self.index) = None;
        *lock(&self.file) = None;
    }

    /// Opens the file and loads the index, so that who holds this segment can go on reading it when
    /// another file has taken its name.
    pub(crate) fn pin(&self, fs: &dyn Fs, view: &View) -> Result<(), LogError> {
        self.file(fs)?;
        self.with_index(fs, view, |_| {})
    }

    /// The error for a batch of this segment that cannot be opened.
    pub(crate) fn corrupt(&self, batch: &Scanned<'_>, error: &dyn std::fmt::Display) -> LogError {
        LogError::Corrupt {
            file: self.path.clone(),
            range: batch.position..batch.position + batch.bytes.len() as u64,
            reason: error.to_string(),
        }
    }

    /// Largest timestamp in the segment; −1 when no record has one.
    pub(crate) fn max_timestamp(&self, fs: &dyn Fs, view: &View) -> Result<i64, LogError> {
        match self.max_timestamp.load(Ordering::Relaxed) {
            UNKNOWN => self.with_index(fs, view, |index| index.max_timestamp()),
            known => Ok(known),
        }
    }

    /// A position before which no batch has a timestamp ≥ `timestamp`.
    pub(crate) fn position_of_timestamp(
        &self,
        fs: &dyn Fs,
        timestamp: i64,
        view: &View,
    ) -> Result<u64, LogError> {
        self.with_index(fs, view, |index| index.position_of_timestamp(timestamp))
    }

    fn anchor_of_offset(
        &self,
        fs: &dyn Fs,
        offset: i64,
        view: &View,
        access: Access,
    ) -> Result<Anchor, ReadError> {
        if access == Access::NoWait {
            return match self.index.try_lock() {
                Ok(slot) => match slot.as_ref() {
                    Some(index) if index.covered() >= view.len => {
                        Ok(index.anchor_of_offset(offset))
                    }
                    _ => Err(ReadError::WouldBlock),
                },
                Err(TryLockError::WouldBlock) => Err(ReadError::WouldBlock),
                Err(TryLockError::Poisoned(_)) => Err(ReadError::WouldBlock),
            };
        }
        Ok(self.with_index(fs, view, |index| index.anchor_of_offset(offset))?)
    }

    /// The first batch whose last offset is at or after `offset`.
    pub(crate) fn locate(
        &self,
        fs: &dyn Fs,
        offset: i64,
        view: &View,
        access: Access,
    ) -> Result<Option<Located>, ReadError> {
        let len = view.len;
        let anchor = self.anchor_of_offset(fs, offset, view, access)?;
        let mut position = anchor.position;
        let mut previous_end = anchor.base_offset.unwrap_or(self.base_offset);
        let file = self.file(fs)?;
        let mut window = Vec::new();
        while position < len {
            let bytes = self.fetch(&*file, &mut window, position, LOCATE_WINDOW, len, access)?;
            let mut at = 0;
            while at < bytes.len() {
                let here = position + at as u64;
                let Some(header) = self.header(&bytes[at..], here, previous_end, view)? else {
                    break;
                };
                if here == anchor.position
                    && anchor.base_offset.is_some_and(|base| base != header.base_offset)
                {
                    let base = header.base_offset;
                    let reason =
                        format!("a batch of offset {base} where the index has {previous_end}");
                    return Err(self.out_of_order(here, len, reason).into());
                }
                if header.last_offset() >= offset {
                    return Ok(Some(Located { position: here, header }));
                }
                at += header.size_in_bytes();
                previous_end = header.next_offset();
            }
            if at == 0 {
                // Not even a header could be read: the page is not in memory.
                return Err(ReadError::WouldBlock);
            }
            position += at as u64;
        }
        Ok(None)
    }

    /// Adds the headers of the batches that begin within a window from `position` on, where one begins; without a position,
    /// where the batch is that contains `offset` or follows it. `offset` is where the batch before ended. Returns the position
    /// after the last header's batch.
    pub(crate) fn headers(
        &self,
        fs: &dyn Fs,
        offset: i64,
        position: Option<u64>,
        view: &View,
        window: &mut Vec<u8>,
        headers: &mut Vec<BatchHeader>,
    ) -> Result<u64, ReadError> {
        let (position, mut previous_end) = match position {
            Some(position) => (position, offset),
            None => match self.locate(fs, offset, view, Access::Blocking)? {
                Some(located) => (located.position, located.header.base_offset),
                None => return Ok(view.len),
            },
        };
        let file = self.file(fs)?;
        let bytes =
            self.fetch(&*file, window, position, HEADERS_WINDOW, view.len, Access::Blocking)?;
        let mut at = 0;
        while at < bytes.len() {
            let here = position + at as u64;
            let Some(header) = self.header(&bytes[at..], here, previous_end, view)? else { break };
            at += header.size_in_bytes();
            previous_end = header.next_offset();
            headers.push(header);
        }
        Ok(position + at as u64)
    }

    /// Reads whole, verified batches: from the one that contains `from`, while they end at or below
    /// `up_to` and fit. `None` when the segment holds nothing at or
    /// after `from`.
    pub(crate) fn read(
        &self,
        fs: &dyn Fs,
        range: &ReadRange,
        view: &View,
        access: Access,
    ) -> Result<Option<Slice>, ReadError> {
        let Some(located) = self.locate(fs, range.from, view, access)? else {
            return Ok(None);
        };
        let Located { position: start, header: first } = located;
        let len = view.len;
        let nothing = Slice { chunks: Vec::new(), next_offset: range.from };
        let too_large = first.size_in_bytes() > range.max_bytes && !range.at_least_one;
        if too_large || first.last_offset() >= range.up_to {
            return Ok(Some(nothing));
        }
        let file = self.file(fs)?;
        let want = range.max_bytes.max(first.size_in_bytes()) as u64;
        let mut bytes = Vec::new();
        self.fetch(&*file, &mut bytes, start, want, len, access)?;
        let (mut end, mut next_offset) = (0, range.from);
        let mut previous_end = first.base_offset;
        // Where gaps are allowed, the order of batches does not tell whether an offset is right.
        let mut to_compare = (self.base_offset < view.gaps_below).then(Vec::new);
        while end < bytes.len() {
            let rest = &bytes[end..];
            let here = start + end as u64;
            let Some(header) = self.header(rest, here, previous_end, view)? else { break };
            let size = header.size_in_bytes();
            if header.last_offset() >= range.up_to || size > rest.len() {
                break;
            }
            verify_crc(&rest[..size]).map_err(|error| self.damaged(here, size as u64, &error))?;
            if let Some(batches) = &mut to_compare {
                batches.push((here, header.base_offset));
            }
            end += size;
            next_offset = header.next_offset();
            previous_end = next_offset;
        }
        if end == 0 {
            return Err(ReadError::WouldBlock);
        }
        self.compare_with_index(&to_compare.unwrap_or_default(), len)?;
        bytes.truncate(end);
        Ok(Some(Slice { chunks: vec![Bytes::from(bytes)], next_offset }))
    }

    /// Refuses batches that the index knows under other offsets.
    fn compare_with_index(&self, batches: &[(u64, i64)], len: u64) -> Result<(), LogError> {
        if batches.is_empty() {
            return Ok(());
        }
        let slot = lock(&self.index);
        for &(position, base_offset) in batches {
            let known = slot.as_ref().and_then(|index| index.base_offset_at(position));
            if let Some(known) = known.filter(|&known| known != base_offset) {
                let reason = format!("a batch of offset {base_offset} where the index has {known}");
                return Err(self.out_of_order(position, len, reason));
            }
        }
        Ok(())
    }

    /// Reads up to `want` bytes at `position` into `into`, all that the first `len` bytes have when
    /// waiting is allowed.
    fn fetch<'a>(
        &self,
        file: &dyn File,
        into: &'a mut Vec<u8>,
        position: u64,
        want: u64,
        len: u64,
        access: Access,
    ) -> Result<&'a [u8], ReadError> {
        let want = usize::try_from(want.min(len - position)).unwrap_or(usize::MAX);
        into.clear();
        into.resize(want, 0);
        let io = |error| LogError::io("read", &self.path, error);
        let n = match access {
            Access::Blocking => read_full(file, into, position).map_err(io)?,
            Access::NoWait => match file.read_at_nowait(into, position).map_err(io)? {
                Some(n) => n,
                None => return Err(ReadError::WouldBlock),
            },
        };
        if access == Access::Blocking && n < want {
            let missing = position + n as u64;
            return Err(LogError::Corrupt {
                file: self.path.clone(),
                range: missing..len,
                reason: "the file is shorter than what was written to it".to_owned(),
            }
            .into());
        }
        into.truncate(n);
        Ok(into)
    }

    /// The header at the start of `bytes`, of a batch that follows one which ended at offset
    /// `previous_end`; `None` when it is not there as a whole.
    fn header(
        &self,
        bytes: &[u8],
        position: u64,
        previous_end: i64,
        view: &View,
    ) -> Result<Option<BatchHeader>, LogError> {
        let len = view.len;
        if bytes.len() < HEADER_SIZE && len - position >= HEADER_SIZE as u64 {
            return Ok(None);
        }
        let header = check_header(bytes, position, len, self.base_offset)
            .map_err(|bad| bad.into_corrupt(&self.path, len))?;
        view.check(&header, previous_end)
            .map_err(|reason| self.out_of_order(position, len, reason))?;
        Ok(Some(header))
    }

    /// From `position` on, batches are not where they were written, or not all of them are there.
    pub(crate) fn out_of_order(&self, position: u64, len: u64, reason: String) -> LogError {
        Bad { position, reason }.into_corrupt(&self.path, len)
    }

    fn damaged(&self, position: u64, size: u64, error: &RecordError) -> LogError {
        LogError::Corrupt {
            file: self.path.clone(),
            range: position..position + size,
            reason: error.to_string(),
        }
    }
}

fn read_index_file(file: &dyn File) -> io::Result<Vec<u8>> {
    let len = file.size()?;
    if len > MAX_INDEX_FILE {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let n = read_full(file, &mut bytes, 0)?;
    bytes.truncate(n);
    Ok(bytes)
}

/// What to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadRange {
    pub(crate) from: i64,
    pub(crate) up_to: i64,
    pub(crate) max_bytes: usize,
    pub(crate) at_least_one: bool,
}

/// Bytes that are no batch.
#[derive(Debug)]
pub(crate) struct Bad {
    pub(crate) position: u64,
    pub(crate) reason: String,
}

impl Bad {
    fn into_corrupt(self, path: &Path, end: u64) -> LogError {
        LogError::Corrupt {
            file: path.to_owned(),
            range: self.position..end.max(self.position),
            reason: self.reason,
        }
    }
}

/// Parses a header and checks what must hold of any batch in a segment.
fn check_header(
    bytes: &[u8],
    position: u64,
    end: u64,
    min_offset: i64,
) -> Result<BatchHeader, Bad> {
    let bad = |reason: String| Bad { position, reason };
    let header = BatchHeader::parse(bytes).map_err(|error| bad(error.to_string()))?;
    if header.size_in_bytes() as u64 > end - position {
        return Err(bad("a batch goes beyond the end of the file".to_owned()));
    }
    if header.base_offset < min_offset || header.last_offset_delta < 0 {
        let reason = format!(
            "a batch of offsets {}..={} follows offset {min_offset}",
            header.base_offset,
            header.last_offset()
        );
        return Err(bad(reason));
    }
    if header.last_offset() == i64::MAX || header.last_offset() < header.base_offset {
        return Err(bad("the offsets of a batch overflow".to_owned()));
    }
    Ok(header)
}

/// How much of each batch a scan checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verify {
    /// The header, and that offsets ascend.
    Header,
    /// The checksum too.
    Crc,
}

/// A batch met by a scan.
#[derive(Debug)]
pub(crate) struct Scanned<'a> {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
    pub(crate) bytes: &'a [u8],
}

/// Walks through a part of a segment file in order.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    file: &'a dyn File,
    path: &'a Path,
    position: u64,
    end: u64,
    /// Read-ahead: bytes from `window_at` on.
    window: Vec<u8>,
    window_at: u64,
    next_offset: i64,
    contiguous: bool,
}

/// Why a scan ended early.
#[derive(Debug)]
pub(crate) enum ScanError {
    /// These bytes are no batch, or not the one which has to follow.
    Bad(Bad, LogError),
    Io(LogError),
}

impl From<ScanError> for LogError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Bad(_, error) | ScanError::Io(error) => error,
        }
    }
}

impl<'a> Scan<'a> {
    pub(crate) fn new(file: &'a dyn File, path: &'a Path, position: u64, end: u64) -> Self {
        Self {
            file,
            path,
            position,
            end,
            window: Vec::new(),
            window_at: position,
            next_offset: 0,
            contiguous: false,
        }
    }

    /// Batches must begin at `offset` and follow each other without a gap.
    pub(crate) fn contiguous_from(mut self, offset: i64) -> Self {
        self.next_offset = offset;
        self.contiguous = true;
        self
    }

    /// Batches must not begin below `offset`.
    pub(crate) fn at_or_after(mut self, offset: i64) -> Self {
        self.next_offset = offset;
        self
    }

    /// Position after the last batch.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next batch, or `None` at the end.
    pub(crate) fn next(&mut self, verify: Verify) -> Result<Option<Scanned<'_>>, ScanError> {
        if self.position >= self.end {
            return Ok(None);
        }
        self.fill(HEADER_SIZE)?;
        let checked = check_header(self.rest(), self.position, self.end, self.next_offset);
        let header = checked.map_err(|bad| self.bad(bad))?;
        if self.contiguous && header.base_offset != self.next_offset {
            return Err(self.bad(Bad {
                position: self.position,
                reason: format!(
                    "a batch of offset {} where offset {} has to follow",
                    header.base_offset, self.next_offset
                ),
            }));
        }
        let size = header.size_in_bytes();
        self.fill(size)?;
        let position = self.position;
        if verify == Verify::Crc
            && let Err(error) = verify_crc(&self.rest()[..size])
        {
            return Err(self.bad(Bad { position, reason: error.to_string() }));
        }
        self.position += size as u64;
        self.next_offset = header.next_offset();
        let at = usize::try_from(position - self.window_at).unwrap_or(0);
        Ok(Some(Scanned { position, header, bytes: &self.window[at..at + size] }))
    }

    fn rest(&self) -> &[u8] {
        let at = usize::try_from(self.position - self.window_at).unwrap_or(0);
        &self.window[at..]
    }

    /// Has the next `size` bytes, or all that are left, in the window.
    fn fill(&mut self, size: usize) -> Result<(), ScanError> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let need = size.min(left);
        let have = self.rest().len();
        if have >= need {
            return Ok(());
        }
        let target = need.max(SCAN_WINDOW).min(left);
        let drained = self.window.len() - have;
        self.window.drain(..drained);
        self.window_at = self.position;
        self.window.resize(target, 0);
        let n = read_full(self.file, &mut self.window[have..], self.position + have as u64)
            .map_err(|error| ScanError::Io(LogError::io("read", self.path, error)))?;
        self.window.truncate(have + n);
        if have + n < need {
            let position = self.position;
            return Err(self.bad(Bad { position, reason: "the file ends here".to_owned() }));
        }
        Ok(())
    }

    fn bad(&self, bad: Bad) -> ScanError {
        let error = LogError::Corrupt {
            file: self.path.to_owned(),
            range: bad.position..self.end,
            reason: bad.reason.clone(),
        };
        ScanError::Bad(bad, error)
    }
}
