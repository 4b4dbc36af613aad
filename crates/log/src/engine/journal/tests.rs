#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::testing::conformance::{id, read_all};
use crate::testing::{Durable, FailPlan, SimFs, Survival, payload};
use crate::{
    AppendClass, AppendOptions, LogConfig, LogStore, PartitionLog, SegmentStore, StoreOptions,
    SyncerMode,
};

const COORDINATOR: AppendOptions =
    AppendOptions { class: AppendClass::Coordinator, durability: crate::Durability::Synced };

/// Logs that were written to and synced once, so that their names are durable.
struct Logs {
    fs: SimFs,
    store: SegmentStore,
    logs: Vec<(Arc<dyn PartitionLog>, Arc<Durable>)>,
}

impl Logs {
    fn open(fs: &SimFs, count: i32, journal_bytes: u64) -> Self {
        let options = StoreOptions {
            syncer: SyncerMode::Manual,
            free_space_floor: 0,
            journal_bytes,
            ..StoreOptions::default()
        };
        let quiet = Arc::new(|_: &LogError| {});
        let store = SegmentStore::open_on(Arc::new(fs.clone()), "data", options, quiet).unwrap();
        let open = |partition| {
            let durable = Arc::new(Durable::default());
            let id = id("t", partition, 1);
            let log = store.open(&id, LogConfig::default(), Arc::clone(&durable) as _).unwrap();
            (log, durable)
        };
        let logs = (0..count).map(open).collect();
        Self { fs: fs.clone(), store, logs }
    }

    fn append_to_each(&self) {
        for (log, _) in &self.logs {
            log.append(payload(log.log_end_offset(), 1, 100, 1), COORDINATOR).unwrap();
        }
    }

    fn round(&self) {
        self.append_to_each();
        self.store.run_syncs();
    }

    fn durable(&self) -> Vec<i64> {
        self.logs.iter().map(|(_, durable)| durable.up_to()).collect()
    }

    fn contents(&self) -> Vec<Vec<u8>> {
        self.logs.iter().map(|(log, _)| read_all(&**log).unwrap()).collect()
    }
}

fn journals(fs: &SimFs) -> usize {
    fs.files().keys().filter(|name| name.contains(".journal")).count()
}

#[test]
fn one_sync_serves_the_batches_of_many_logs() {
    let logs = Logs::open(&SimFs::default(), 20, 100_000);
    logs.round();
    assert_eq!(logs.durable(), [1; 20], "each by a sync of its own, since its names are new");
    assert_eq!(journals(&logs.fs), 0);
    logs.round();
    logs.append_to_each();
    let before = logs.fs.calls();
    logs.store.run_syncs();
    assert_eq!(logs.fs.calls() - before, 2, "one write and one sync for all");
    assert_eq!(logs.durable(), [3; 20]);
    let contents = logs.contents();

    let crashed = logs.fs.crash(Survival::Synced);
    let again = Logs::open(&crashed, 20, 100_000);
    assert_eq!(again.contents(), contents);
    assert_eq!(journals(&crashed), 0, "what was put back is synced");
}

#[test]
fn files_take_turns_once_the_logs_are_synced() {
    let logs = Logs::open(&SimFs::default(), 4, 4000);
    for round in 1..60 {
        logs.round();
        assert_eq!(logs.durable(), [round; 4]);
        let crashed = logs.fs.crash(Survival::Synced);
        assert_eq!(Logs::open(&crashed, 4, 4000).contents(), logs.contents());
    }
    let files = logs.fs.files();
    for name in names::JOURNALS {
        assert!(files[&format!("/data/{name}")] <= 4000);
    }
}

#[test]
fn without_room_in_the_journal_logs_are_synced_themselves() {
    let logs = Logs::open(&SimFs::default(), 3, 150);
    for round in 1..10 {
        logs.round();
        assert_eq!(logs.durable(), [round; 3]);
        let crashed = logs.fs.crash(Survival::Synced);
        assert_eq!(Logs::open(&crashed, 3, 150).contents(), logs.contents());
    }
    assert_eq!(journals(&logs.fs), 0, "nothing fits");
}

#[test]
fn a_disk_without_space_for_the_journal_does_not_stop_commits() {
    let logs = Logs::open(&SimFs::default(), 3, 100_000);
    logs.round();
    logs.append_to_each();
    // The next calls make the journal's file, and write to it.
    let kind = std::io::ErrorKind::StorageFull;
    logs.fs.fail(Some(FailPlan { call: logs.fs.calls() + 1, sticky: false, kind }));
    logs.store.run_syncs();
    assert_eq!(logs.durable(), [2; 3]);
    logs.round();
    assert_eq!(logs.durable(), [3; 3]);
    let files = logs.fs.files();
    assert_eq!(files["/data/.journal-0"], 0);
    assert!(files["/data/.journal-1"] > 0, "the first may have half a write at its end");
    let crashed = logs.fs.crash(Survival::Synced);
    assert_eq!(Logs::open(&crashed, 3, 100_000).contents(), logs.contents());
}

#[test]
fn a_failed_sync_of_the_journal_is_the_end_of_all_who_wait() {
    let logs = Logs::open(&SimFs::default(), 3, 100_000);
    logs.round();
    logs.round();
    logs.append_to_each();
    let kind = std::io::ErrorKind::Other;
    logs.fs.fail(Some(FailPlan { call: logs.fs.calls() + 1, sticky: false, kind }));
    logs.store.run_syncs();
    assert_eq!(logs.durable(), [2; 3]);
    assert!(logs.logs.iter().all(|(_, durable)| durable.failed().is_some()));
    let refused = logs.logs[0].0.append(payload(3, 1, 10, 1), COORDINATOR);
    assert!(matches!(refused, Err(LogError::Poisoned { .. })), "{refused:?}");
    assert!(logs.store.close().is_err());
    let crashed = logs.fs.crash(Survival::Synced);
    let again = Logs::open(&crashed, 3, 100_000);
    assert!(again.logs.iter().all(|(log, _)| log.log_end_offset() == 2));
}

#[test]
fn a_clean_stop_leaves_no_journal() {
    let logs = Logs::open(&SimFs::default(), 3, 100_000);
    logs.round();
    logs.round();
    assert_eq!(journals(&logs.fs), 1);
    logs.store.close().unwrap();
    assert_eq!(journals(&logs.fs.crash(Survival::Synced)), 0);
}

#[test]
fn a_stop_after_a_log_that_could_not_be_closed_leaves_the_journal() {
    let logs = Logs::open(&SimFs::default(), 2, 100_000);
    logs.round();
    logs.round();
    let contents = logs.contents();
    let kind = std::io::ErrorKind::Other;
    logs.fs.fail(Some(FailPlan { call: logs.fs.calls(), sticky: false, kind }));
    logs.logs[0].0.close().unwrap_err();
    logs.store.close().unwrap();
    let crashed = logs.fs.crash(Survival::Synced);
    assert_eq!(Logs::open(&crashed, 2, 100_000).contents(), contents);
}

#[test]
fn batches_of_a_deleted_log_are_not_put_into_one_that_follows() {
    let logs = Logs::open(&SimFs::default(), 2, 100_000);
    logs.round();
    logs.round();
    let id = id("t", 0, 1);
    logs.store.delete(&id).unwrap();
    let durable = Arc::new(Durable::default());
    let log = logs.store.open(&id, LogConfig::default(), Arc::clone(&durable) as _).unwrap();
    log.append(payload(0, 3, 100, 9), AppendOptions::default()).unwrap();
    logs.store.run_syncs();
    assert_eq!(durable.up_to(), 3);
    let crashed = logs.fs.crash(Survival::Synced);
    let again = Logs::open(&crashed, 2, 100_000);
    assert_eq!(again.contents()[0], read_all(&*log).unwrap());
}

#[test]
fn what_was_revoked_stays_so_while_its_file_is_written_over() {
    let logs = Logs::open(&SimFs::default(), 2, 2000);
    logs.round();
    let (cut, other) = (&logs.logs[0].0, &logs.logs[1].0);
    let append = |log: &dyn PartitionLog, size, seed| {
        log.append(payload(log.log_end_offset(), 1, size, seed), COORDINATOR).unwrap();
        logs.store.run_syncs();
    };
    append(&**cut, 20, 1);
    cut.truncate(1).unwrap();
    append(&**cut, 20, 2);
    let (kept, states) = (read_all(&**cut).unwrap(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&states);
    logs.fs.on_call(move |fs| lock(&seen).push(fs.fork()));
    for _ in 0..6 {
        append(&**other, 900, 3);
    }
    let states = std::mem::take(&mut *lock(&states));
    for (call, fs) in states.iter().enumerate() {
        for seed in 0..100 {
            let crashed = fs.crash(Survival::Some { seed, block: 64 });
            let again = Logs::open(&crashed, 2, 2000);
            assert_eq!(again.contents()[0], kept, "call {call}, seed {seed}");
        }
    }
}

#[test]
fn entries_are_read_as_far_as_they_are_whole() {
    let mut bytes = Vec::new();
    let mut ends = vec![0];
    for i in 0..4 {
        put_entry(&mut bytes, &id("topic", i, 1), 7, 100 + i as u64, &[i as u8; 50]);
        ends.push(bytes.len());
    }
    seal(&mut bytes, 3);
    for len in 0..=bytes.len() {
        let mut torn = bytes.clone();
        torn[len..].fill(0);
        let (epoch, entries) = entries_of(&torn);
        let whole = ends.iter().filter(|end| **end <= len).count() - 1;
        // An entry may end in zeros.
        assert!(
            entries.len() == whole || torn[..ends[entries.len()]] == bytes[..ends[entries.len()]]
        );
        assert_eq!(epoch, if entries.is_empty() { 0 } else { 3 });
        for (i, entry) in entries.iter().enumerate() {
            assert_eq!((entry.id.partition, entry.segment), (i as i32, 7));
            assert_eq!((entry.position, &entry.batches[..]), (100 + i as u64, &[i as u8; 50][..]));
        }
    }
    // What is left of an earlier turn does not count.
    let mut later = Vec::new();
    put_entry(&mut later, &id("topic", 9, 1), 7, 0, &[9; 50]);
    seal(&mut later, 4);
    bytes[..later.len()].copy_from_slice(&later);
    let (epoch, entries) = entries_of(&bytes);
    assert_eq!((epoch, entries.len()), (4, 1));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), valid in any::<bool>()) {
        if valid && bytes.len() >= HEADER_BYTES {
            // Past magic and checksum, to the lengths.
            bytes[..4].copy_from_slice(&MAGIC.to_be_bytes());
            let len = bytes.len() as u32;
            bytes[16..20].copy_from_slice(&len.to_be_bytes());
            let crc = crc32c(&bytes[COVERED_AT..]);
            bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
        }
        let (_, entries) = entries_of(&bytes);
        prop_assert!(entries.len() <= 1);
    }

    #[test]
    fn a_journal_of_any_bytes_keeps_no_store_from_opening(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        use crate::fs::Fs;
        let fs = SimFs::default();
        fs.create_dir_all(Path::new("data")).unwrap();
        let file = fs.open(Path::new("data/.journal-0"), OpenMode::Create).unwrap();
        write_full(&*file, &Bytes::from(bytes), 0).unwrap();
        Logs::open(&fs, 1, 1000).round();
    }
}
