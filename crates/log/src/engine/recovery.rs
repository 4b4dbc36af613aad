//! Opening a partition directory: what is there, what of it is whole, where the log ends.
//!
//! Sealed segments are synced before the next one is created, so a torn tail is only ever in the last
//! segment, above the recovery point. Damage anywhere else is corruption, and reported.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

use kavka_protocol::Uuid;
use kavka_protocol::records::crc32;

use super::checkpoint::{Checkpoint, CheckpointFile, RecoveryPoint};
use super::epochs::EpochCache;
use super::log::{Opened, remove_if_present, sync_dir};
use super::metadata::{self, Metadata};
use super::segment::{Bad, Scan, ScanError, Segment, Verify};
use super::store::Shared;
use super::{names, snapshot};
use crate::fs::{File, OpenMode, read_full, write_full};
use crate::{LogError, LogId, RecoveryInfo};

/// Opens a partition directory, which may be absent.
pub(super) fn open_dir(shared: &Shared, id: &LogId, dir: &Path) -> Result<Opened, LogError> {
    let Some(mut listed) = list_files(shared, dir)? else { return Ok(nothing(dir)) };
    let named = read_metadata(shared, dir)?;
    if let Named::As(found) = named
        && found != id.topic_id
    {
        let aside = shared.move_aside(dir, found, names::STRAY)?;
        tracing::warn!(
            "{} belongs to topic id {found}, but {id} has topic id {}: moved it to {}",
            dir.display(),
            id.topic_id,
            aside.display()
        );
        return Ok(nothing(dir));
    }
    let checkpoint = if listed.checkpoint {
        CheckpointFile::load(&*shared.fs, dir)?
    } else {
        CheckpointFile::absent(dir)
    };
    match named {
        Named::As(_) => {}
        // The first sync covers it, and a checkpoint comes later.
        Named::Unwritten if checkpoint.written().is_some() => return Err(unnamed(dir)),
        Named::Absent | Named::Unwritten if listed.is_empty() => {}
        Named::Absent | Named::Unwritten => adopt(shared, id, dir)?,
    }
    clean_up(shared, dir, &mut listed)?;
    if listed.segments.is_empty() {
        return match checkpoint.written() {
            Some(written) if written.recovery != RecoveryPoint::default() => {
                Err(missing_segment(dir, &written.recovery))
            }
            _ => {
                if listed.snapshots && snapshot::remove_beyond(&*shared.fs, dir, 0)? {
                    sync_dir(shared, dir)?;
                }
                Ok(nothing(dir))
            }
        };
    }
    recover(shared, id, dir, &listed, checkpoint)
}

/// A log that was never written to.
fn nothing(dir: &Path) -> Opened {
    Opened {
        segments: Vec::new(),
        log_start: 0,
        end: RecoveryPoint::default(),
        clean_up_to: 0,
        gaps_below: 0,
        epochs: EpochCache::default(),
        checkpoint: CheckpointFile::absent(dir),
        recovery: RecoveryInfo { clean: true, ..RecoveryInfo::default() },
    }
}

/// What a directory holds.
#[derive(Debug, Default)]
struct Listed {
    /// Base offsets of segments, ascending.
    segments: Vec<i64>,
    indexes: Vec<i64>,
    swaps: Vec<(i64, i64)>,
    /// Names of files which a crash left half done.
    worthless: Vec<String>,
    snapshots: bool,
    checkpoint: bool,
}

impl Listed {
    /// Nothing is there that somebody may have appended.
    fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.swaps.is_empty()
    }
}

fn list_files(shared: &Shared, dir: &Path) -> Result<Option<Listed>, LogError> {
    let entries = match shared.fs.list(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LogError::io("list", dir, error)),
    };
    let mut listed = Listed::default();
    for name in entries.into_iter().filter(|entry| !entry.is_dir).map(|entry| entry.name) {
        if let Some(base) = names::parse(&name, names::LOG) {
            listed.segments.push(base);
        } else if let Some(base) = names::parse(&name, names::INDEX) {
            listed.indexes.push(base);
        } else if let Some(range) = names::parse_swap(&name) {
            listed.swaps.push(range);
        } else if name == names::CHECKPOINT {
            listed.checkpoint = true;
        } else if names::parse(&name, names::SNAPSHOT).is_some() {
            listed.snapshots = true;
        } else if names::parse(&name, names::CLEANED).is_some()
            || names::parse(&name, names::TEMPORARY).is_some()
        {
            listed.worthless.push(name);
        }
    }
    listed.segments.sort_unstable();
    listed.indexes.sort_unstable();
    Ok(Some(listed))
}

/// The base offset of the newest segment in a directory.
pub(super) fn newest_segment(shared: &Shared, dir: &Path) -> Result<Option<i64>, LogError> {
    Ok(list_files(shared, dir)?.and_then(|listed| listed.segments.last().copied()))
}

/// What the metadata file says.
enum Named {
    As(Uuid),
    /// The file is there, and its bytes are not.
    Unwritten,
    Absent,
}

/// The topic id that a directory says it belongs to; `None` when it says nothing.
pub(super) fn read_topic_id(shared: &Shared, dir: &Path) -> Result<Option<Uuid>, LogError> {
    Ok(match read_metadata(shared, dir)? {
        Named::As(id) => Some(id),
        Named::Unwritten | Named::Absent => None,
    })
}

fn read_metadata(shared: &Shared, dir: &Path) -> Result<Named, LogError> {
    let path = dir.join(names::METADATA);
    let file = match shared.fs.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Named::Absent),
        Err(error) => return Err(LogError::io("open", &path, error)),
    };
    let mut bytes = vec![0; metadata::MAX_BYTES];
    let n = read_full(&*file, &mut bytes, 0).map_err(|error| LogError::io("read", &path, error))?;
    match metadata::decode(&bytes[..n]) {
        Metadata::TopicId(id) => Ok(Named::As(id)),
        Metadata::Unwritten => Ok(Named::Unwritten),
        Metadata::Damaged => Err(LogError::Corrupt {
            file: path,
            range: 0..n as u64,
            reason: "it names no topic id, or its checksum is wrong".to_owned(),
        }),
    }
}

/// The topic id is gone from a directory that had one. Whose segments these are is not to be guessed.
fn unnamed(dir: &Path) -> LogError {
    LogError::Corrupt {
        file: dir.join(names::METADATA),
        range: 0..metadata::MAX_BYTES as u64,
        reason: "the topic id that was in it is gone".to_owned(),
    }
}

/// Takes over segments without a topic id: copied in by somebody, or created just before a crash.
fn adopt(shared: &Shared, id: &LogId, dir: &Path) -> Result<(), LogError> {
    tracing::info!("{} names no topic id: takes {} of {id}", dir.display(), id.topic_id);
    let path = dir.join(names::METADATA);
    let io = |error| LogError::io("write", &path, error);
    let file = shared.fs.open(&path, OpenMode::Create).map_err(io)?;
    write_full(&*file, metadata::encode(id.topic_id).as_bytes(), 0).map_err(io)?;
    file.sync_data().map_err(|error| LogError::io("sync", &path, error))?;
    sync_dir(shared, dir)?;
    sync_dir(shared, &shared.root)
}

fn sync_metadata(shared: &Shared, dir: &Path) -> Result<(), LogError> {
    let path = dir.join(names::METADATA);
    let synced = shared.fs.open(&path, OpenMode::Write).and_then(|file| file.sync_data());
    synced.map_err(|error| LogError::io("sync", &path, error))
}

/// Finishes or forgets what a crash left half done.
fn clean_up(shared: &Shared, dir: &Path, listed: &mut Listed) -> Result<(), LogError> {
    for name in &listed.worthless {
        remove_if_present(shared, &dir.join(name))?;
    }
    for &(from, up_to) in &listed.swaps {
        finish_swap(shared, dir, from, up_to, &listed.segments)?;
        listed.segments.retain(|&base| base != from && (base < from || base >= up_to));
        listed.segments.push(from);
        listed.segments.sort_unstable();
    }
    for base in &listed.indexes {
        if listed.segments.binary_search(base).is_err() {
            remove_if_present(shared, &names::file(dir, *base, names::INDEX))?;
        }
    }
    Ok(())
}

/// Puts a finished `.swap` file in the place of the segments that it replaces. Every step may be
/// repeated after a crash.
pub(super) fn finish_swap(
    shared: &Shared,
    dir: &Path,
    from: i64,
    up_to: i64,
    segments: &[i64],
) -> Result<(), LogError> {
    remove_if_present(shared, &names::file(dir, from, names::INDEX))?;
    for &base in segments.iter().filter(|&&base| base > from && base < up_to) {
        remove_if_present(shared, &names::file(dir, base, names::INDEX))?;
        remove_if_present(shared, &names::file(dir, base, names::LOG))?;
    }
    // Once the swap file has the segment's name, nothing says any more which ones it replaced. So
    // these must be gone for good before.
    sync_dir(shared, dir)?;
    let (swap, log) = (names::swap(dir, from, up_to), names::file(dir, from, names::LOG));
    shared.fs.rename(&swap, &log).map_err(|error| LogError::io("rename", &swap, error))?;
    sync_dir(shared, dir)
}

fn recover(
    shared: &Shared,
    id: &LogId,
    dir: &Path,
    listed: &Listed,
    mut checkpoint: CheckpointFile,
) -> Result<Opened, LogError> {
    let fs = &*shared.fs;
    let bases = &listed.segments;
    let written = checkpoint.written().cloned();
    let known = written.is_some();
    let start = written.unwrap_or_else(|| Checkpoint {
        log_start: bases[0],
        recovery: RecoveryPoint { offset: bases[0], segment: bases[0], position: 0 },
        clean_up_to: bases[0],
        gaps_below: bases[0],
        epochs: Vec::new(),
    });
    let recovery = start.recovery;
    let mut segments = Vec::with_capacity(bases.len());
    for &base in bases {
        let path = names::file(dir, base, names::LOG);
        let len = fs.file_len(&path).map_err(|error| LogError::io("open", &path, error))?;
        segments.push(Arc::new(match base.cmp(&recovery.segment) {
            Ordering::Less => Segment::new(dir, base, len),
            Ordering::Equal => Segment::partly_synced(dir, base, len, recovery.position),
            Ordering::Greater => Segment::partly_synced(dir, base, len, 0),
        }));
    }
    let Ok(first) = bases.binary_search(&recovery.segment) else {
        return Err(missing_segment(dir, &recovery));
    };
    let mut epochs = EpochCache::new(start.epochs);
    let mut end = recovery;
    let mut info = RecoveryInfo::default();
    for (i, segment) in segments.iter().enumerate().skip(first) {
        let position = if i == first { recovery.position } else { 0 };
        let last = i + 1 == segments.len();
        let tail = Tail { position, offset: end.offset, first: i == first, known, last };
        let cut = scan_tail(shared, segment, &tail, &mut end, &mut epochs, &mut info)?;
        if cut > 0 {
            tracing::warn!(
                "{id}: cut a torn tail of {cut} bytes off {}; the log ends at offset {}",
                segment.path.display(),
                end.offset
            );
        }
    }
    info.clean = info.scanned_bytes == 0 && info.cut_bytes == 0;
    let log_start = start.log_start.max(bases[0]);
    if log_start > end.offset {
        return Err(LogError::Corrupt {
            file: dir.join(names::CHECKPOINT),
            range: 0..0,
            reason: format!("the log starts at {log_start} but ends at {}", end.offset),
        });
    }
    let clean_up_to = start.clean_up_to.clamp(log_start, end.offset);
    // Without a checkpoint nobody knows where compaction was.
    let gaps_below = if known { start.gaps_below } else { end.offset };
    // A snapshot may have reached the disk before the records it was made of, and must be gone for
    // good before others take their offsets.
    let stale = listed.snapshots && snapshot::remove_beyond(fs, dir, end.offset)?;
    // The process may have been killed before it synced the names of new files.
    let named = known && recovery.segment == end.segment;
    if !known {
        sync_metadata(shared, dir)?;
    }
    if !named || stale {
        sync_dir(shared, dir)?;
    }
    if !known {
        sync_dir(shared, &shared.root)?;
    }
    // Before the recovery point moves, and also if it need not: the segment may be sealed next.
    for segment in &segments[first..] {
        if listed.indexes.binary_search(&segment.base_offset).is_ok() {
            segment.trim_index_file(fs)?;
        }
    }
    // After a short way, the next recovery may as well go it again.
    if !info.clean && (!known || info.scanned_bytes >= shared.options.checkpoint_bytes) {
        let epochs = epochs.entries_below(end.offset);
        let found = Checkpoint { log_start, recovery: end, clean_up_to, gaps_below, epochs };
        checkpoint.write(fs, found)?;
        checkpoint.release();
    }
    shared.space.grew(segments.iter().map(|segment| segment.len()).sum());
    Ok(Opened {
        segments,
        log_start,
        end,
        clean_up_to,
        gaps_below,
        epochs,
        checkpoint,
        recovery: info,
    })
}

/// Where and how to scan a segment.
struct Tail {
    position: u64,
    offset: i64,
    /// It is the segment of the recovery point.
    first: bool,
    /// There is a checkpoint: what lies beyond it was appended without gaps.
    known: bool,
    /// It is the last segment, where a torn tail may be.
    last: bool,
}

/// Scans and syncs the part of a segment beyond the recovery point. Returns the bytes cut off.
fn scan_tail(
    shared: &Shared,
    segment: &Segment,
    tail: &Tail,
    end: &mut RecoveryPoint,
    epochs: &mut EpochCache,
    info: &mut RecoveryInfo,
) -> Result<u64, LogError> {
    let len = segment.len();
    let corrupt = |range, reason: String| {
        Err(LogError::Corrupt { file: segment.path.clone(), range, reason })
    };
    if len < tail.position {
        let reason = format!("the file has {len} bytes, but {} were synced", tail.position);
        return corrupt(len..tail.position, reason);
    }
    // The recovery point may lie beyond the base offset and at no byte, where compaction took what was
    // before it.
    if !tail.first {
        if segment.base_offset < tail.offset || (tail.known && segment.base_offset > tail.offset) {
            let reason = format!("the segment before it ends at offset {}", tail.offset);
            return corrupt(0..len, reason);
        }
        *end = RecoveryPoint {
            offset: segment.base_offset,
            segment: segment.base_offset,
            position: 0,
        };
    }
    if len == tail.position {
        return Ok(0);
    }
    let file = segment.file(&*shared.fs)?;
    let scan = Scan::new(&*file, &segment.path, tail.position, len);
    let mut scan =
        if tail.known { scan.contiguous_from(end.offset) } else { scan.at_or_after(end.offset) };
    let cut = loop {
        match scan.next(Verify::Crc) {
            Ok(Some(batch)) => {
                epochs.note(batch.header.partition_leader_epoch, batch.header.base_offset);
                end.offset = batch.header.next_offset();
            }
            Ok(None) => break 0,
            Err(ScanError::Bad(bad, error)) => {
                if !tail.last {
                    return Err(error);
                }
                let io = |error| LogError::io("read", &segment.path, error);
                if !tail.known && is_old_format(&*file, &bad, len).map_err(io)? {
                    return Err(error);
                }
                break len - bad.position;
            }
            Err(ScanError::Io(error)) => return Err(error),
        }
    };
    end.position = scan.position();
    info.scanned_bytes += end.position - tail.position;
    info.cut_bytes += cut;
    if cut > 0 {
        let io = |error| LogError::io("truncate", &segment.path, error);
        file.set_len(end.position).map_err(io)?;
        segment.set_len(end.position);
    }
    file.sync_data().map_err(|error| LogError::io("sync", &segment.path, error))?;
    Ok(cut)
}

/// Whether a whole message of magic 0 or 1 is there, which cannot be read here and must not be taken
/// for a torn tail in a directory that somebody else wrote.
fn is_old_format(file: &dyn File, bad: &Bad, end: u64) -> std::io::Result<bool> {
    let mut head = [0; OLD_HEADER];
    if read_full(file, &mut head, bad.position)? < OLD_HEADER {
        return Ok(false);
    }
    let [.., s0, s1, s2, s3, c0, c1, c2, c3, magic] = head;
    let size = u64::from(u32::from_be_bytes([s0, s1, s2, s3]));
    let crc = u32::from_be_bytes([c0, c1, c2, c3]);
    // The checksum covers the message from the magic byte on.
    let Some(covered) = size.checked_sub(4) else { return Ok(false) };
    if magic > 1 || covered > end - bad.position - (OLD_HEADER as u64 - 1) {
        return Ok(false);
    }
    let mut bytes = vec![0; usize::try_from(covered).unwrap_or(0)];
    let n = read_full(file, &mut bytes, bad.position + OLD_HEADER as u64 - 1)?;
    Ok(n == bytes.len() && crc32(&bytes) == crc)
}

/// Offset, size, checksum and magic of a message of magic 0 or 1.
const OLD_HEADER: usize = 17;

fn missing_segment(dir: &Path, recovery: &RecoveryPoint) -> LogError {
    LogError::Corrupt {
        file: names::file(dir, recovery.segment, names::LOG),
        range: 0..recovery.position,
        reason: "the segment is missing".to_owned(),
    }
}
