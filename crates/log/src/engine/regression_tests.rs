//! One test for each thing that went wrong, named after it.
#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kavka_protocol::records::crc32;

use super::crash_tests::{config, look, open_store};
use crate::fs::{Fs, OpenMode};
use crate::testing::conformance::{id, read_all};
use crate::testing::{Batch, Durable, FailPlan, SimFs, Survival, payload};
use crate::{
    AppendOptions, LogConfig, LogError, LogId, LogStore, PartitionLog, SegmentStore, UpTo,
};

const DIR: &str = "data/t-0";

fn t() -> LogId {
    id("t", 0, 1)
}

struct Opened {
    log: Arc<dyn PartitionLog>,
    store: SegmentStore,
    died: Arc<AtomicBool>,
}

fn try_open(fs: &SimFs, compact: bool) -> Result<Opened, LogError> {
    let died = Arc::default();
    let store = open_store(fs, &died)?;
    let log = store.open(&t(), config(compact), Arc::new(Durable::default()))?;
    Ok(Opened { log, store, died })
}

fn open(fs: &SimFs, compact: bool) -> Opened {
    try_open(fs, compact).unwrap_or_else(|error| panic!("{error}"))
}

impl Opened {
    fn append(&self, count: usize, value_bytes: usize) -> i64 {
        let batch = payload(self.log.log_end_offset(), count, value_bytes, 1);
        self.log.append(batch, AppendOptions::default()).unwrap().end_offset
    }

    /// Appends until a segment begins, whose name no sync has covered.
    fn append_until_roll(&self) {
        let segments = self.log.segment_count();
        while self.log.segment_count() == segments {
            self.append(2, 60);
        }
    }
}

/// The recovery point was moved into a new segment before the segment's name was durable, so that
/// after a crash the partition was offline for a missing segment.
#[test]
fn a_segment_without_a_durable_name_is_no_recovery_point() {
    for compact in [true, false] {
        let fs = SimFs::default();
        let opened = open(&fs, compact);
        for _ in 0..3 {
            opened.append_until_roll();
        }
        if compact {
            let done = opened.log.maintain(0, &UpTo(opened.log.log_end_offset())).unwrap();
            assert!(done.compaction.is_some());
        } else {
            opened.log.set_config(LogConfig { retention_bytes: Some(500), ..config(false) });
            let done = opened.log.maintain(0, &UpTo(opened.log.log_end_offset())).unwrap();
            assert!(done.deleted_segments > 0);
        }
        for change in 0..fs.pending_changes() {
            open(&fs.crash(Survival::Only(change)), compact);
        }
        let again = open(&fs.crash(Survival::Synced), compact);
        assert!(again.log.log_end_offset() > 0);
    }
}

/// Retention that takes every record begins a segment to keep the log end in, and moved the
/// recovery point there before the name was durable.
#[test]
fn retention_of_everything_keeps_the_log_end() {
    let fs = SimFs::default();
    let opened = open(&fs, false);
    opened.append(2, 60);
    let end = opened.append(2, 60);
    opened.store.run_syncs();
    opened.log.set_config(LogConfig { retention_ms: Some(0), ..config(false) });
    opened.log.maintain(1 << 40, &UpTo(end)).unwrap();
    assert_eq!((opened.log.log_start_offset(), opened.log.log_end_offset()), (end, end));
    let again = open(&fs.crash(Survival::Synced), false);
    assert_eq!((again.log.log_start_offset(), again.log.log_end_offset()), (end, end));
}

/// A snapshot reached the disk, the records it was made of did not, and others took their offsets:
/// it was then taken for a snapshot of those.
#[test]
fn a_snapshot_of_lost_records_does_not_come_back() {
    let fs = SimFs::default();
    let opened = open(&fs, false);
    let kept = opened.append(2, 10);
    opened.store.run_syncs();
    opened.log.close().unwrap();
    let fs = fs.crash(Survival::Synced);
    let opened = open(&fs, false);
    let lost = opened.append(2, 10);
    opened.log.put_snapshot(lost, Bytes::from_static(b"of lost records")).unwrap();
    // The names are durable, by chance.
    fs.sync_dir(Path::new(DIR)).unwrap();
    let fs = fs.crash(Survival::Synced);
    let opened = open(&fs, false);
    assert_eq!(opened.log.log_end_offset(), kept);
    while opened.append(3, 10) <= lost {}
    opened.store.run_syncs();
    // Not even if the crash takes back what was not synced.
    for fs in [fs.fork(), fs.crash(Survival::Synced)] {
        let opened = open(&fs, false);
        assert!(opened.log.log_end_offset() > lost);
        assert_eq!(opened.log.latest_snapshot().unwrap(), None);
    }
}

/// The same, when no segment was left at all.
#[test]
fn a_snapshot_without_any_segment_does_not_come_back() {
    let fs = SimFs::default();
    let opened = open(&fs, false);
    let lost = opened.append(2, 10);
    opened.log.put_snapshot(lost, Bytes::from_static(b"of lost records")).unwrap();
    // All names but the segment's are durable.
    fs.remove_file(&Path::new(DIR).join("00000000000000000000.log")).unwrap();
    fs.sync_dir(Path::new(DIR)).unwrap();
    fs.sync_dir(Path::new("data")).unwrap();
    let fs = fs.crash(Survival::Synced);
    let opened = open(&fs, false);
    assert_eq!(opened.log.log_end_offset(), 0);
    while opened.append(3, 10) <= lost {}
    opened.store.run_syncs();
    let opened = open(&fs.crash(Survival::Synced), false);
    assert!(opened.log.log_end_offset() > lost);
    assert_eq!(opened.log.latest_snapshot().unwrap(), None);
}

/// A truncation into a gap that compaction had left at the start of a segment: the log ended beyond
/// the segment's base offset and held no byte, and did not open again.
#[test]
fn a_truncation_into_a_gap_can_be_opened() {
    let fs = SimFs::default();
    let opened = open(&fs, true);
    // Records without a key go.
    for offset in 0..40 {
        let batch = Batch::at(offset).record(0, None, Some(&[b'.'; 60])).build();
        opened.log.append(batch, AppendOptions::default()).unwrap();
    }
    opened.store.run_syncs();
    let end = opened.log.log_end_offset();
    assert!(opened.log.maintain(0, &UpTo(end)).unwrap().compaction.is_some());
    assert_eq!(opened.log.truncate(5).unwrap(), 5);
    opened.append(1, 10);
    for fs in [fs.fork(), fs.crash(Survival::Synced)] {
        let opened = open(&fs, true);
        let end = opened.log.log_end_offset();
        assert_eq!(
            read_all(&*opened.log).unwrap(),
            if end == 5 { vec![] } else { payload(5, 1, 10, 1).to_vec() }
        );
    }
}

/// A truncation cuts whole batches, and left the log start beyond the end when it cut the batch
/// which held it.
#[test]
fn a_truncation_of_the_batch_that_holds_the_start_moves_the_start() {
    let fs = SimFs::default();
    let opened = open(&fs, false);
    opened.append(3, 10);
    opened.append(3, 10);
    opened.log.advance_start(4).unwrap();
    assert_eq!(opened.log.truncate(5).unwrap(), 3);
    assert_eq!(opened.log.log_start_offset(), 3);
    opened.append(2, 10);
    opened.log.close().unwrap();
    let opened = open(&fs, false);
    assert_eq!((opened.log.log_start_offset(), opened.log.log_end_offset()), (3, 5));
}

/// A checkpoint that was lost left index files which nobody had verified; the open after the next one
/// believed them.
#[test]
fn an_index_from_before_the_checkpoint_was_lost_is_not_believed() {
    let fs = SimFs::default();
    let opened = open(&fs, false);
    for _ in 0..3 {
        opened.append_until_roll();
    }
    opened.log.close().unwrap();
    let all = read_all(&*open(&fs, false).log).unwrap();
    let index = Path::new(DIR).join("00000000000000000000.kindex");
    let len = fs.file_len(&index).unwrap();
    // The index of a segment that was longer.
    let longer = SimFs::default();
    let opened = open(&longer, false);
    opened.log.set_config(LogConfig { segment_bytes: 5000, ..config(false) });
    while longer.file_len(&index).unwrap_or(0) <= len {
        opened.append(2, 60);
        opened.store.run_syncs();
    }
    let stale = longer.open(&index, OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(stale.size().unwrap()).unwrap()];
    stale.read_at(&mut bytes, 0).unwrap();
    fs.open(&index, OpenMode::Create).unwrap().write_at(&bytes, 0).unwrap();
    fs.remove_file(&Path::new(DIR).join("kavka-checkpoint")).unwrap();
    for _ in 0..3 {
        drop(open(&fs, false));
    }
    assert_eq!(read_all(&*open(&fs, false).log).unwrap(), all);
}

/// A process was killed between the creation of a segment and the first sync; the next one
/// appended to the segment without ever making its name durable.
#[test]
fn a_segment_that_a_killed_process_created_gets_a_durable_name() {
    for rolled in [false, true] {
        let fs = SimFs::default();
        let opened = open(&fs, false);
        if rolled {
            opened.append(2, 60);
            opened.store.run_syncs();
            opened.log.close().unwrap();
        }
        drop(opened);
        let opened = open(&fs, false);
        let before = fs.calls();
        // The write fails after the segment was created.
        let batch = payload(opened.log.log_end_offset(), 1, 1100, 1);
        let calls = {
            let fs = fs.fork();
            let opened = open(&fs, false);
            opened.log.append(batch.clone(), AppendOptions::default()).unwrap();
            fs.calls() - 1
        };
        fs.fail(Some(FailPlan { call: before + calls, sticky: false, kind: ErrorKind::Other }));
        opened.log.append(batch, AppendOptions::default()).unwrap_err();
        fs.fail(None);
        let killed = fs.crash(Survival::Everything);
        let opened = open(&killed, false);
        let end = opened.append(2, 60);
        opened.store.run_syncs();
        assert_eq!(opened.log.durable_end_offset(), end);
        let again = open(&killed.crash(Survival::Synced), false);
        assert_eq!(again.log.log_end_offset(), end, "rolled: {rolled}");
    }
}

/// A crash during a truncation left the index of what was cut. Once the segment had grown over it
/// again, it was believed.
#[test]
fn an_index_of_what_was_cut_is_not_used() {
    let fs = SimFs::default();
    let opened = open(&fs, false);
    for _ in 0..6 {
        opened.append(1, 70);
    }
    opened.log.close().unwrap();
    let opened = open(&fs, false);
    let index = Path::new(DIR).join("00000000000000000000.kindex");
    assert!(fs.files().contains_key("/data/t-0/00000000000000000000.kindex"));
    // Some truncation gets as far as the cut, and fails to remove the index.
    let mut met = false;
    for call in 0..40 {
        let fs = fs.fork();
        let opened = open(&fs, false);
        fs.fail(Some(FailPlan { call: fs.calls() + call, sticky: true, kind: ErrorKind::Other }));
        let truncated = opened.log.truncate(2);
        fs.fail(None);
        let stale = fs.file_len(&index).is_ok();
        let fs = fs.crash(Survival::Everything);
        let opened = open(&fs, false);
        if truncated.is_ok() || !stale || opened.log.log_end_offset() != 2 {
            continue;
        }
        met = true;
        // Batches of other sizes, beyond what the index covers.
        for _ in 0..9 {
            opened.append(1, 30);
        }
        opened.store.run_syncs();
        let fs = fs.crash(Survival::Everything);
        let opened = open(&fs, false);
        let end = opened.log.log_end_offset();
        for from in 0..end {
            let slice = opened.log.read(from, end, 1, true).unwrap();
            assert_eq!(slice.next_offset, from + 1, "call {call}");
        }
    }
    assert!(met, "no crash left the index");
    drop(opened);
}

/// A process was killed after it created the checkpoint file; the next one took the name for
/// durable, and a crash took back the start that it had acknowledged.
#[test]
fn a_checkpoint_that_a_killed_process_created_gets_a_durable_name() {
    let fs = SimFs::default();
    let opened = open(&fs, false);
    opened.append(2, 60);
    opened.store.run_syncs();
    let states = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&states);
    fs.on_call(move |fs| kept.lock().unwrap().push(fs.fork()));
    opened.log.close().unwrap();
    let states = std::mem::take(&mut *states.lock().unwrap());
    for killed in states {
        let opened = open(&killed, false);
        opened.log.advance_start(1).unwrap();
        let opened = open(&killed.crash(Survival::Synced), false);
        assert_eq!(opened.log.log_start_offset(), 1);
    }
}

/// A process was killed after recovery had cut a torn tail, and before it synced the cut. The next one
/// found nothing to do and began a segment; a crash then brought the torn bytes back into a sealed one.
#[test]
fn a_cut_that_a_killed_process_did_not_sync_stays_cut() {
    let fs = SimFs::default();
    let opened = open(&fs, false);
    opened.append(1, 900);
    opened.log.close().unwrap();
    let opened = open(&fs, false);
    opened.append(1, 100);
    let name = Path::new(DIR).join("00000000000000000000.log");
    // The batch is torn, and what is there of it reached the disk.
    let len = fs.file_len(&name).unwrap();
    fs.corrupt(&name, usize::try_from(len).unwrap() - 20, &[0xff; 8]);
    let fs = fs.crash(Survival::Everything);
    fs.open(&name, OpenMode::Write).unwrap().sync_data().unwrap();
    let states = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&states);
    let first = fs.fork();
    first.on_call(move |fs| kept.lock().unwrap().push(fs.fork()));
    assert!(open(&first, false).log.recovery().cut_bytes > 0);
    let states = std::mem::take(&mut *states.lock().unwrap());
    for killed in states {
        let opened = open(&killed, false);
        // It does not fit into the segment.
        let end = opened.append(1, 600);
        assert_eq!(opened.log.segment_count(), 2);
        opened.store.run_syncs();
        let opened = open(&killed.crash(Survival::Synced), false);
        assert_eq!(opened.log.log_end_offset(), end);
        assert!(read_all(&*opened.log).is_ok());
    }
}

/// With the newer slot of the checkpoint damaged, the older one counts, and must not contradict
/// what happened since: a truncation, a compaction, a moved start.
#[test]
fn the_older_checkpoint_slot_holds_too() {
    type Act = fn(&Opened);
    let acts: [(&str, Act); 3] = [
        ("truncate", |opened| {
            opened.log.truncate(3).unwrap();
        }),
        ("start", |opened| opened.log.advance_start(5).unwrap()),
        ("compact", |opened| {
            let end = opened.log.log_end_offset();
            assert!(opened.log.maintain(0, &UpTo(end)).unwrap().compaction.is_some());
        }),
    ];
    for (name, act) in acts {
        let fs = SimFs::default();
        let opened = open(&fs, true);
        for _ in 0..3 {
            opened.append_until_roll();
            opened.store.run_syncs();
        }
        act(&opened);
        for _ in 0..2 {
            opened.append(3, 50);
        }
        opened.store.run_syncs();
        let seen = look(&*opened.log);
        for slot in [0, 4096] {
            let fs = fs.crash(Survival::Everything);
            fs.corrupt(&Path::new(DIR).join("kavka-checkpoint"), slot + 40, &[0xa5; 8]);
            let again = open(&fs, true);
            assert_eq!(look(&*again.log), seen, "{name}, slot at {slot}");
        }
    }
}

/// A checkpoint is no more than a short way for recovery, but a full disk that refused it ended
/// the process, also when it was asked to stop.
#[test]
fn a_checkpoint_that_finds_no_space_ends_nothing() {
    let fs = SimFs::default();
    let opened = open(&fs, false);
    opened.append(2, 60);
    // What is appended fits, and nothing else does.
    fs.set_free_space(1000);
    let end = opened.append(2, 390);
    fs.set_free_space(0);
    opened.store.run_syncs();
    assert_eq!(opened.log.durable_end_offset(), end);
    assert!(opened.log.close().is_err(), "no checkpoint was written");
    assert!(!opened.died.load(Ordering::Relaxed));
    assert_eq!(open(&fs.crash(Survival::Synced), false).log.log_end_offset(), end);
}

/// An index file that could not be read kept the segment from being read, and from being
/// appended to.
#[test]
fn an_unreadable_index_is_made_anew() {
    let fs = SimFs::default();
    let opened = open(&fs, false);
    for _ in 0..6 {
        opened.append(1, 70);
    }
    opened.log.close().unwrap();
    let reads_of_open = {
        let fs = fs.fork();
        let before = fs.reads();
        open(&fs, false);
        fs.reads() - before
    };
    let opened = open(&fs, false);
    let expected = {
        let fs = fs.fork();
        read_all(&*open(&fs, false).log).unwrap()
    };
    // The first thing that a read looks at is the index.
    let call = fs.reads();
    assert!(call >= reads_of_open);
    fs.fail_read(Some(FailPlan { call, sticky: false, kind: ErrorKind::Other }));
    assert_eq!(read_all(&*opened.log).unwrap(), expected);
    assert!(fs.reads() > call, "nothing was read");
}

/// Messages of an old format, in a directory without a checkpoint, are refused and not taken for a
/// torn tail; a disk that could not be read for a moment made them one.
#[test]
fn a_read_error_during_recovery_cuts_nothing() {
    let fs = SimFs::default();
    fs.create_dir_all(Path::new(DIR)).unwrap();
    let name = Path::new(DIR).join("00000000000000000000.log");
    // Offset, size, checksum, magic 0, attributes, no key, no value.
    let covered = [&[0, 0][..], &[0xff; 8]].concat();
    let message = [&[0; 8][..], &14_u32.to_be_bytes(), &crc32(&covered).to_be_bytes(), &covered];
    let message = message.concat();
    let file = fs.open(&name, OpenMode::Create).unwrap();
    file.write_at(&message, 0).unwrap();
    let mut unreadable = 0;
    for call in 0..50 {
        let fs = fs.fork();
        fs.fail_read(Some(FailPlan { call, sticky: false, kind: ErrorKind::Other }));
        match try_open(&fs, false).map(|_| ()) {
            Err(LogError::Io { .. }) => unreadable += 1,
            opened => assert!(matches!(opened, Err(LogError::Corrupt { .. })), "{opened:?}"),
        }
        fs.fail_read(None);
        assert_eq!(fs.file_len(&name).unwrap(), message.len() as u64, "read {call}");
    }
    assert!(unreadable > 3, "only {unreadable} reads were needed");
}

/// A directory whose topic id was wiped was given to whoever opened it, also to a new topic
/// of the same name.
#[test]
fn a_wiped_topic_id_is_damage_once_the_log_was_synced() {
    let fs = SimFs::default();
    let opened = open(&fs, false);
    opened.append(2, 60);
    opened.log.close().unwrap();
    drop(opened);
    let metadata = Path::new(DIR).join("partition.metadata");
    fs.corrupt(&metadata, 0, &[0; 512]);
    let died = Arc::default();
    let store = open_store(&fs, &died).unwrap();
    let opened = store.open(&id("t", 0, 2), config(false), Arc::new(Durable::default()));
    let Err(LogError::Corrupt { file, .. }) = opened else { panic!("opened") };
    assert_eq!(file, metadata);
}

/// What a segment lacks at its end was skipped without a word.
#[test]
fn a_segment_cut_short_between_batches_is_damage() {
    let fs = SimFs::default();
    let opened = open(&fs, false);
    for _ in 0..3 {
        opened.append_until_roll();
    }
    opened.log.close().unwrap();
    drop(opened);
    let name = Path::new(DIR).join("00000000000000000000.log");
    let first = payload(0, 2, 60, 1).len() as u64;
    for lose_index in [false, true] {
        let fs = fs.fork();
        fs.open(&name, OpenMode::Write).unwrap().set_len(first).unwrap();
        if lose_index {
            fs.remove_file(&name.with_extension("kindex")).unwrap();
        }
        let error = read_all(&*open(&fs, false).log).unwrap_err();
        let LogError::Corrupt { file, .. } = error else { panic!("{error}") };
        assert_eq!(file, name);
    }
}

/// A `.swap` file under the very name of a segment made the segment count twice.
#[test]
fn a_swap_file_of_any_name_leaves_each_segment_once() {
    let fs = SimFs::default();
    let opened = open(&fs, true);
    opened.append(2, 60);
    opened.append_until_roll();
    opened.log.close().unwrap();
    let all = read_all(&*open(&fs, true).log).unwrap();
    let log = Path::new(DIR).join("00000000000000000000.log");
    let swap = Path::new(DIR).join("00000000000000000000-00000000000000000000.swap");
    fs.rename(&log, &swap).unwrap();
    fs.open(&log, OpenMode::Create).unwrap();
    let opened = open(&fs, true);
    assert_eq!(opened.log.segment_count(), 2);
    assert_eq!(read_all(&*opened.log).unwrap(), all);
}

/// The index of an active segment was not of its bytes (a file was put back, say). Recovery went a short way and left it as it
/// was, and once the segment was sealed the index was believed.
#[test]
fn a_stale_index_of_an_active_segment_is_not_believed_once_it_is_sealed() {
    let index = Path::new(DIR).join("00000000000000000000.kindex");
    // The index of a segment with other batches, and more of them.
    let longer = SimFs::default();
    let opened = open(&longer, false);
    opened.log.set_config(LogConfig { segment_bytes: 5000, ..config(false) });
    while longer.file_len(&index).unwrap_or(0) < 400 {
        opened.append(2, 60);
        opened.store.run_syncs();
    }
    let stale = longer.open(&index, OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(stale.size().unwrap()).unwrap()];
    stale.read_at(&mut bytes, 0).unwrap();

    let fs = SimFs::default();
    let opened = open(&fs, false);
    opened.append(1, 40);
    opened.log.close().unwrap();
    fs.open(&index, OpenMode::Create).unwrap().write_at(&bytes, 0).unwrap();
    let opened = open(&fs, false);
    // It does not fit, so the segment is sealed: too short for an index that would take the place of the stale one.
    let end = opened.append(1, 1100);
    assert_eq!(opened.log.segment_count(), 2);
    opened.log.close().unwrap();
    let opened = open(&fs, false);
    for from in 0..end {
        let slice = opened.log.read(from, end, 1, true).unwrap();
        assert_eq!(slice.next_offset, from + 1);
    }
}
