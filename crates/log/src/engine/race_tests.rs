//! Threads that read, append, maintain, cut, close and delete the same log.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use kavka_protocol::records::{Decompressor, split_batches};

use super::crash_tests::mostly_journaled;
use crate::testing::conformance::{id, read_all};
use crate::testing::payload;
use crate::{
    LogConfig, LogError, LogListener, LogStore, NoListener, PartitionLog, SegmentStore,
    StoreOptions, UpTo,
};

fn open_store(dir: &tempfile::TempDir) -> SegmentStore {
    let options = StoreOptions {
        free_space_floor: 0,
        checkpoint_bytes: 2000,
        journal_bytes: 6000,
        compaction_map_bytes: 48 * 20,
        ..StoreOptions::default()
    };
    let fatal = Arc::new(|error: &LogError| panic!("fatal: {error}"));
    SegmentStore::open_dir(dir.path().join("data"), options, fatal).unwrap()
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 3000,
        index_interval_bytes: 300,
        retention_ms: None,
        retention_bytes: Some(20_000),
        compact: true,
        min_cleanable_dirty_ratio: 0.0,
        tail_cache_bytes: 1000,
        ..LogConfig::default()
    }
}

/// Every record's value tells its offset.
fn check_values(bytes: &[u8]) {
    let mut decompressor = Decompressor::new(1 << 20);
    for batch in split_batches(bytes) {
        let (header, batch) = batch.unwrap();
        for record in decompressor.records(&header, batch).unwrap() {
            let record = record.unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            let offset: i64 = value.split('/').nth(1).unwrap().parse().unwrap();
            assert_eq!(offset, record.offset);
        }
    }
}

/// A read that meets a truncation or retention may be out of range, and nothing else.
fn tolerate<T>(result: Result<T, LogError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(LogError::OffsetOutOfRange { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Sets a flag when it goes, also when its thread panics.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn readers_meet_appends_truncation_retention_and_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(&dir);
    let log = store.open(&id("t", 0, 1), config(), Arc::new(NoListener)).unwrap();
    let stop = AtomicBool::new(false);
    let (reads, passes) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let _done = Done(&stop);
            for round in 0..3000_u64 {
                let end = log.log_end_offset();
                let batch = payload(end, 1 + (round % 3) as usize, 60, round);
                log.append(batch, mostly_journaled(end)).unwrap();
                if round % 97 == 96 {
                    let start = log.log_start_offset();
                    tolerate(log.truncate((end - 5).max(start)));
                }
                if round % 61 == 60 {
                    log.advance_start((log.log_end_offset() - 200).max(0)).unwrap();
                }
            }
        });
        scope.spawn(|| {
            let _done = Done(&stop);
            let mut now = 0;
            while !stop.load(Ordering::Relaxed) {
                now += 1000;
                let done = log.maintain(now, &UpTo(log.durable_end_offset())).unwrap();
                passes.fetch_add(usize::from(done.compaction.is_some()), Ordering::Relaxed);
            }
        });
        for reader in 0..2_i64 {
            let (log, stop, reads) = (&log, &stop, &reads);
            scope.spawn(move || {
                let _done = Done(stop);
                let mut from = 0;
                while !stop.load(Ordering::Relaxed) {
                    let (start, end) = (log.log_start_offset(), log.log_end_offset());
                    from = if from < start || from >= end { start } else { from };
                    if let Some(slice) = tolerate(log.read(from, end, 2000, true)) {
                        from = slice.next_offset.max(from + 1);
                        check_values(&slice.into_bytes());
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                    if let Some(Some(slice)) =
                        log.try_read_cached(start, end, 500, true).map(tolerate)
                    {
                        check_values(&slice.into_bytes());
                    }
                    tolerate(log.offset_for_timestamp(from + reader));
                    tolerate(log.max_timestamp());
                    let mut last = -1;
                    tolerate(log.headers(from, &mut |header| last = header.last_offset()));
                }
            });
        }
    });
    let (passes, reads) = (passes.into_inner(), reads.into_inner());
    assert!(passes > 0 && reads > 0, "{passes} passes and {reads} reads");
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    let all = read_all(&*log).unwrap();
    check_values(&all);
    store.close().unwrap();
    drop(store);
    let store = open_store(&dir);
    let log = store.open(&id("t", 0, 1), config(), Arc::new(NoListener)).unwrap();
    assert!(log.recovery().clean);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (start, end));
    assert_eq!(read_all(&*log).unwrap(), all);
    store.close().unwrap();
}

/// KAFKA-19571: what deletes a partition's files met what syncs or reads them, and the whole
/// directory was taken for broken.
#[test]
fn deletion_meets_readers_syncs_and_maintenance() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(&dir);
    for round in 1..60_u8 {
        let id = id("t", 0, round);
        let log = store.open(&id, config(), Arc::new(NoListener)).unwrap();
        for _ in 0..40 {
            let end = log.log_end_offset();
            log.append(payload(end, 2, 60, 1), mostly_journaled(end)).unwrap();
        }
        let barrier = Barrier::new(4);
        let gone = |result: Result<(), LogError>| match result {
            Ok(()) => false,
            Err(LogError::Deleted { .. }) => true,
            Err(error) => panic!("{error}"),
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                // Cold reads open files that may be gone by then.
                while !gone(read_all(&*log).map(drop)) {}
            });
            scope.spawn(|| {
                barrier.wait();
                while !gone(log.maintain(0, &UpTo(log.durable_end_offset())).map(drop)) {}
            });
            scope.spawn(|| {
                barrier.wait();
                let append = || {
                    let end = log.log_end_offset();
                    match log.append(payload(end, 1, 60, 1), mostly_journaled(end)) {
                        // The end was looked up on a log that was deleted in between.
                        Err(LogError::InvalidAppend { .. }) => Ok(()),
                        appended => appended.map(drop),
                    }
                };
                while !gone(append()) {}
            });
            barrier.wait();
            if round % 2 == 0 {
                thread::yield_now();
            }
            store.delete(&id).unwrap();
        });
        assert_eq!(store.list().unwrap(), vec![]);
    }
    store.close().unwrap();
}

/// Asserts the order of reports.
#[derive(Default)]
struct Ordered {
    last: AtomicI64,
    inside: AtomicBool,
}

impl LogListener for Ordered {
    fn durable(&self, up_to: i64) {
        assert!(!self.inside.swap(true, Ordering::SeqCst), "two reports at a time");
        let last = self.last.swap(up_to, Ordering::SeqCst);
        thread::yield_now();
        self.inside.store(false, Ordering::SeqCst);
        assert!(last <= up_to, "{up_to} was reported after {last}");
    }

    fn failed(&self, error: &LogError) {
        panic!("{error}");
    }
}

/// A report of the sync thread could come after that of a close, and say less.
#[test]
fn reports_of_durability_never_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(&dir);
    for round in 0..80 {
        let listener = Arc::new(Ordered::default());
        let id = id("t", round, 1);
        let log = store.open(&id, config(), Arc::clone(&listener) as _).unwrap();
        let log: &dyn PartitionLog = &*log;
        let appended = AtomicI64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for i in 0..1000 {
                    match log.append(payload(i, 1, 20, 1), mostly_journaled(i)) {
                        Ok(done) => appended.store(done.end_offset, Ordering::SeqCst),
                        Err(LogError::Closed { .. }) => return,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            while appended.load(Ordering::SeqCst) < i64::from(round) {
                thread::yield_now();
            }
            log.close().unwrap();
        });
        assert_eq!(listener.last.load(Ordering::SeqCst), appended.into_inner());
    }
    store.close().unwrap();
}
