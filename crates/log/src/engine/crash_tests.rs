//! Crashes at every call that changes the disk, and failures of every such call, under one script.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kavka_protocol::records::{Decompressor, split_batches};

use crate::testing::conformance::{id, read_all};
use crate::testing::{Batch, Durable, FailPlan, SimFs, Survival, payload};
use crate::{
    AppendClass, AppendOptions, LogConfig, LogError, LogId, LogListener, LogStore, PartitionLog,
    SegmentStore, StoreOptions, SyncerMode, UpTo,
};

pub(super) fn options() -> StoreOptions {
    StoreOptions {
        syncer: SyncerMode::Manual,
        checkpoint_bytes: 700,
        journal_bytes: 2400,
        free_space_floor: 0,
        ..StoreOptions::default()
    }
}

pub(super) fn config(compact: bool) -> LogConfig {
    LogConfig {
        segment_bytes: 1200,
        index_interval_bytes: 150,
        retention_ms: None,
        retention_bytes: if compact { None } else { Some(2500) },
        compact,
        delete: !compact,
        delete_retention_ms: 50,
        tail_cache_bytes: 500,
        ..LogConfig::default()
    }
}

pub(super) fn open_store(fs: &SimFs, died: &Arc<AtomicBool>) -> Result<SegmentStore, LogError> {
    let died = Arc::clone(died);
    let on_fatal = Arc::new(move |_: &LogError| died.store(true, Ordering::Relaxed));
    SegmentStore::open_on(Arc::new(fs.clone()), "data", options(), on_fatal)
}

/// As a coordinator appends, with one now and then that the journal does not get.
pub(super) fn mostly_journaled(base_offset: i64) -> AppendOptions {
    let class = if base_offset % 11 == 5 { AppendClass::Produce } else { AppendClass::Coordinator };
    AppendOptions { class, ..AppendOptions::default() }
}

/// What a log has promised so far. It is updated before a promise can be broken and after it was
/// made, so at any call a crash must leave something between the two.
#[derive(Debug, Clone, Default)]
struct Promise {
    /// The script has been at it.
    exists: bool,
    /// Every batch that was appended, by base offset; compaction may replace some.
    batches: BTreeMap<i64, Bytes>,
    compact: bool,
    /// At least this start, at most that one.
    start: (i64, i64),
    /// Everything below is acknowledged.
    durable: i64,
    /// An end beyond which nothing was ever written.
    end: i64,
    /// A recovery may have appended a batch of its own at the end.
    resumed: bool,
    /// The log may be gone.
    deleting: bool,
    deleted: bool,
}

type Promises = Arc<Mutex<BTreeMap<LogId, Promise>>>;

/// Takes acknowledgements as the broker would.
struct Acks {
    id: LogId,
    promises: Promises,
}

impl LogListener for Acks {
    fn durable(&self, up_to: i64) {
        let mut promises = self.promises.lock().unwrap();
        let promise = promises.entry(self.id.clone()).or_default();
        promise.durable = promise.durable.max(up_to);
    }

    fn failed(&self, _error: &LogError) {}
}

/// Runs the script on a file system, as far as it goes, and notes what is promised.
pub(super) struct Script {
    pub(super) fs: SimFs,
    promises: Promises,
    pub(super) died: Arc<AtomicBool>,
    class: AppendClass,
}

pub(super) type Step = Result<(), LogError>;

impl Script {
    pub(super) fn new(fs: SimFs) -> Self {
        Self::of(fs, AppendClass::Produce)
    }

    /// What coordinators append goes through the journal.
    fn of(fs: SimFs, class: AppendClass) -> Self {
        Self { fs, promises: Promises::default(), died: Arc::default(), class }
    }

    fn note(&self, id: &LogId, change: impl FnOnce(&mut Promise)) {
        change(self.promises.lock().unwrap().entry(id.clone()).or_default());
    }

    pub(super) fn open(
        &self,
        store: &SegmentStore,
        id: &LogId,
        compact: bool,
    ) -> Result<Arc<dyn PartitionLog>, LogError> {
        self.note(id, |promise| (promise.exists, promise.compact) = (true, compact));
        let listener = Acks { id: id.clone(), promises: Arc::clone(&self.promises) };
        store.open(id, config(compact), Arc::new(listener))
    }

    pub(super) fn append(&self, log: &dyn PartitionLog, batch: Bytes) -> Step {
        let base = log.log_end_offset();
        let next = split_batches(&batch).last().unwrap().unwrap().0.next_offset();
        self.note(log.id(), |promise| {
            promise.batches.insert(base, batch.clone());
            promise.end = promise.end.max(next);
        });
        let options = match self.class {
            AppendClass::Produce => AppendOptions::default(),
            AppendClass::Coordinator => mostly_journaled(base),
        };
        log.append(batch, options).map(|_| ())
    }

    pub(super) fn fill(
        &self,
        store: &SegmentStore,
        log: &dyn PartitionLog,
        count: usize,
        seed: u64,
    ) -> Step {
        for i in 0..count {
            let offset = log.log_end_offset();
            let batch = if i % 4 == 3 {
                let key = format!("k{}", offset % 5);
                Batch::at(offset)
                    .epoch(seed as i32)
                    .record(offset, Some(key.as_bytes()), None)
                    .build()
            } else if i % 4 == 1 {
                let key = format!("only at {offset}");
                Batch::at(offset).record(offset, Some(key.as_bytes()), Some(b"value")).build()
            } else {
                payload(offset, 1 + i % 3, 60, seed)
            };
            self.append(log, batch)?;
            if i % 3 == 0 {
                store.run_syncs();
            }
        }
        Ok(())
    }

    fn start_at(&self, log: &dyn PartitionLog, offset: i64) -> Step {
        self.note(log.id(), |promise| promise.start.1 = promise.start.1.max(offset));
        log.advance_start(offset)?;
        self.note(log.id(), |promise| promise.start.0 = promise.start.0.max(offset));
        Ok(())
    }

    fn maintain(&self, log: &dyn PartitionLog, now: i64) -> Step {
        let durable = log.durable_end_offset();
        let compact = self.promises.lock().unwrap()[log.id()].compact;
        if !compact {
            self.note(log.id(), |promise| promise.start.1 = promise.start.1.max(durable));
        }
        log.maintain(now, &UpTo(durable))?;
        let start = log.log_start_offset();
        self.note(log.id(), |promise| promise.start = (start, start));
        Ok(())
    }

    fn truncate(&self, log: &dyn PartitionLog, offset: i64) -> Step {
        // While it runs, either end may be found.
        self.note(log.id(), |promise| promise.durable = promise.durable.min(offset - 10));
        let end = log.truncate(offset)?;
        self.note(log.id(), |promise| {
            promise.batches.retain(|&base, _| base < end);
            promise.end = end;
            promise.durable = end;
        });
        Ok(())
    }

    fn delete(&self, store: &SegmentStore, id: &LogId) -> Step {
        self.note(id, |promise| promise.deleting = true);
        store.delete(id)?;
        self.note(id, |promise| promise.deleted = true);
        Ok(())
    }

    pub(super) fn run(&self) -> Step {
        let (plain, compacted) = (id("plain", 0, 1), id("compacted", 3, 2));
        let (old, new) = (id("again", 0, 3), id("again", 0, 4));
        let store = open_store(&self.fs, &self.died)?;
        let log = self.open(&store, &plain, false)?;
        let keyed = self.open(&store, &compacted, true)?;
        let short = self.open(&store, &old, false)?;
        self.fill(&store, &*log, 12, 1)?;
        self.fill(&store, &*keyed, 24, 2)?;
        self.fill(&store, &*short, 3, 3)?;
        store.run_syncs();
        log.put_snapshot(log.log_end_offset(), Bytes::from_static(b"first"))?;
        self.start_at(&*log, 7)?;
        self.maintain(&*keyed, 1000)?;
        self.maintain(&*log, 1000)?;
        self.delete(&store, &old)?;
        let again = self.open(&store, &new, false)?;
        self.fill(&store, &*again, 3, 4)?;
        self.fill(&store, &*keyed, 14, 5)?;
        self.maintain(&*keyed, 1100)?;
        self.fill(&store, &*log, 40, 6)?;
        store.run_syncs();
        self.truncate(&*log, log.log_end_offset() - 28)?;
        self.fill(&store, &*log, 7, 7)?;
        log.put_snapshot(log.log_end_offset(), Bytes::from_static(b"second"))?;
        self.maintain(&*log, 1000)?;
        log.close()?;
        // Closed and opened again beside the others.
        let log = self.open(&store, &plain, false)?;
        self.fill(&store, &*log, 2, 13)?;
        self.fill(&store, &*keyed, 2, 14)?;
        store.run_syncs();
        log.close()?;
        store.close()?;
        drop(store);

        let store = open_store(&self.fs, &self.died)?;
        let log = self.open(&store, &plain, false)?;
        let keyed = self.open(&store, &compacted, true)?;
        self.fill(&store, &*log, 6, 8)?;
        self.fill(&store, &*keyed, 14, 9)?;
        self.maintain(&*keyed, 1200)?;
        store.run_syncs();
        self.start_at(&*log, log.log_end_offset())?;
        self.maintain(&*log, 1000)?;
        self.delete(&store, &new)?;
        // Retention takes everything, the active segment too; without a sync before.
        self.fill(&store, &*log, 2, 10)?;
        store.run_syncs();
        log.set_config(LogConfig { retention_ms: Some(0), ..config(false) });
        self.maintain(&*log, 1 << 40)?;
        self.fill(&store, &*log, 2, 11)?;
        // A roll whose names are not synced yet, and compaction.
        for _ in 0..12 {
            self.append(&*keyed, payload(keyed.log_end_offset(), 2, 60, 12))?;
        }
        self.maintain(&*keyed, 1300)?;
        store.close()
    }
}

/// What of a log can be seen from outside.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) bytes: Vec<u8>,
    epoch: Option<(i32, i64)>,
    pub(super) snapshot: Option<(i64, Bytes)>,
}

pub(super) fn look(log: &dyn PartitionLog) -> Seen {
    Seen {
        start: log.log_start_offset(),
        end: log.log_end_offset(),
        bytes: read_all(log).unwrap(),
        epoch: log.latest_epoch(),
        snapshot: log.latest_snapshot().unwrap(),
    }
}

/// Opens what a crash left and compares it with what was promised.
fn open_and_compare(
    fs: &SimFs,
    promises: &BTreeMap<LogId, Promise>,
    what: &str,
) -> (SegmentStore, BTreeMap<LogId, Seen>) {
    let died = Arc::default();
    let store = open_store(fs, &died).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut found = BTreeMap::new();
    for (id, promise) in promises.iter().filter(|(_, promise)| promise.exists) {
        if promise.deleting {
            continue;
        }
        let log = store.open(id, config(promise.compact), Arc::new(Durable::default()));
        let log = log.unwrap_or_else(|error| panic!("{what}: {id}: {error}"));
        let seen = look(&*log);
        check_log(&seen, promise, &format!("{what}: {id}"));
        found.insert(id.clone(), seen);
        // It goes on from there.
        let batch = payload(log.log_end_offset(), 1, 10, 77);
        log.append(batch, AppendOptions::default()).unwrap();
    }
    for (id, promise) in promises.iter().filter(|(_, promise)| promise.deleted) {
        let listed = store.list().unwrap();
        assert!(!listed.contains(id), "{what}: {id} came back; {promise:?}");
    }
    assert!(!died.load(Ordering::Relaxed), "{what}");
    (store, found)
}

/// Opens what a crash left and compares it with what was promised. Then crashes again at once, and
/// looks again.
fn check(fs: &SimFs, promises: &BTreeMap<LogId, Promise>, what: &str) {
    let (store, first) = open_and_compare(fs, promises, what);
    // What was served must survive a second crash (KAFKA-10101); the appended batch was not synced.
    let again = fs.crash(Survival::Synced);
    drop(store);
    let died = Arc::default();
    let store = open_store(&again, &died).unwrap();
    for (id, seen) in &first {
        let compact = promises[id].compact;
        let log = store.open(id, config(compact), Arc::new(Durable::default())).unwrap();
        let again = look(&*log);
        // A start and a truncation that were never acknowledged may be undone by the second crash.
        // What was served may not.
        assert!(again.start <= seen.start, "{what}: {id}: opened twice");
        assert!(again.end >= seen.end, "{what}: {id}: opened twice");
        let served = &seen.bytes;
        let kept = served.is_empty() || again.bytes.windows(served.len()).any(|w| w == served);
        assert!(kept, "{what}: {id}: opened twice");
    }
    store.close().unwrap();
    assert!(!died.load(Ordering::Relaxed), "{what}");
}

/// Crashes again at every call of the recovery from a crash. Returns the states looked at.
fn check_recovery(fs: &SimFs, promises: &BTreeMap<LogId, Promise>, what: &str) -> usize {
    let states = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&states);
    fs.on_call(move |fs| kept.lock().unwrap().push(fs.fork()));
    let (store, _) = open_and_compare(fs, promises, what);
    drop(store);
    let states = std::mem::take(&mut *states.lock().unwrap());
    for (call, fs) in states.iter().enumerate() {
        for survival in survivals(fs, call as u64, 1) {
            let what = format!("{what}, again after call {call} of recovery, {survival:?}");
            open_and_compare_appended(&fs.crash(survival), promises, &what);
        }
    }
    states.len() * survivals(fs, 0, 1).len()
}

/// As [`open_and_compare`], where the recovery before may have appended its batch already.
fn open_and_compare_appended(fs: &SimFs, promises: &BTreeMap<LogId, Promise>, what: &str) {
    let mut promises = promises.clone();
    for promise in promises.values_mut() {
        promise.resumed = true;
    }
    open_and_compare(fs, &promises, what);
}

/// What a disk may make of a crash at this moment: nothing unsynced is there, everything is, one
/// change is lost or is the only one, or any choice of sectors and pages.
fn survivals(fs: &SimFs, seed: u64, choices: u64) -> Vec<Survival> {
    let mut survivals = vec![Survival::Synced, Survival::Everything];
    for change in 0..fs.pending_changes() {
        survivals.extend([Survival::AllBut(change), Survival::Only(change)]);
    }
    for choice in 0..choices {
        for block in [512, 4096, 64] {
            survivals.push(Survival::Some { seed: seed * 1000 + choice, block });
        }
    }
    survivals
}

fn check_log(seen: &Seen, promise: &Promise, what: &str) {
    let (least, most) = promise.start;
    assert!((least..=most).contains(&seen.start), "{what}: start {} of {promise:?}", seen.start);
    assert!(seen.end >= promise.durable, "{what}: end {} of {promise:?}", seen.end);
    let most = promise.end.max(least) + i64::from(promise.resumed);
    assert!(seen.end <= most, "{what}: end {} of {promise:?}", seen.end);
    if promise.compact {
        return check_compacted(seen, promise, what);
    }
    let mut next = promise.batches.range(..=seen.start).next_back().map_or(0, |(&base, _)| base);
    for batch in split_batches(&seen.bytes) {
        let (header, bytes) = batch.unwrap();
        if header.last_offset() < seen.start {
            continue;
        }
        if next < header.base_offset && next <= seen.start {
            next = header.base_offset;
        }
        assert_eq!(header.base_offset, next, "{what}: a gap");
        let expected = promise.batches.get(&next).is_some_and(|batch| batch == bytes);
        let own = promise.resumed && bytes == payload(next, 1, 10, 77);
        assert!(expected || own, "{what}: offset {next}");
        next = header.next_offset();
    }
    assert!(seen.start == seen.end || next == seen.end, "{what}: ends at {next}, not {}", seen.end);
    if let Some((offset, state)) = &seen.snapshot {
        assert!(*offset <= seen.end, "{what}: snapshot at {offset}");
        assert!(["first", "second"].iter().any(|text| text.as_bytes() == state), "{what}");
    }
}

type Records = Vec<(i64, Vec<u8>, Option<Vec<u8>>)>;

fn records(bytes: &[u8]) -> Records {
    let mut decompressor = Decompressor::new(1 << 20);
    let mut all = Vec::new();
    for batch in split_batches(bytes) {
        let (header, batch) = batch.unwrap();
        for record in decompressor.records(&header, batch).unwrap() {
            let record = record.unwrap();
            let value = record.value.map(<[u8]>::to_vec);
            all.push((record.offset, record.key.unwrap_or_default().to_vec(), value));
        }
    }
    all
}

/// Nothing is there that was not appended, and the last record of each key below the durable end is,
/// unless it is a tombstone or was appended again.
fn check_compacted(seen: &Seen, promise: &Promise, what: &str) {
    let appended: Records = promise.batches.values().flat_map(|batch| records(batch)).collect();
    let found = records(&seen.bytes);
    assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0), "{what}: offsets ascend");
    let own = payload(seen.end - 1, 1, 10, 77);
    let own = if promise.resumed { records(&own) } else { Vec::new() };
    for record in found.iter().filter(|record| !own.contains(record)) {
        assert!(appended.contains(record), "{what}: {record:?} was never appended");
    }
    for record in appended.iter().filter(|record| record.0 < promise.durable) {
        let replaced = appended
            .iter()
            .any(|other| other.1 == record.1 && other.0 > record.0 && other.0 < seen.end);
        if !replaced && record.2.is_some() {
            assert!(found.contains(record), "{what}: lost {record:?}");
        }
    }
}

#[test]
fn a_crash_at_any_call_leaves_what_was_promised() {
    crash_at_any_call(AppendClass::Produce);
}

#[test]
fn a_crash_at_any_call_leaves_what_the_journal_promised() {
    crash_at_any_call(AppendClass::Coordinator);
}

fn crash_at_any_call(class: AppendClass) {
    let fs = SimFs::default();
    let script = Script::of(fs.clone(), class);
    let states = Arc::new(Mutex::new(Vec::new()));
    let (promises, kept) = (Arc::clone(&script.promises), Arc::clone(&states));
    fs.on_call(move |fs| {
        kept.lock().unwrap().push((fs.fork(), promises.lock().unwrap().clone()));
    });
    script.run().unwrap();
    assert!(!script.died.load(Ordering::Relaxed));
    let states = std::mem::take(&mut *states.lock().unwrap());
    let (mut walked, mut second) = (0, 0);
    for (call, (fs, promises)) in states.iter().enumerate() {
        for (i, survival) in survivals(fs, call as u64, 12).into_iter().enumerate() {
            let what = format!("after call {call}, {survival:?}");
            let crashed = fs.crash(survival);
            check(&crashed.fork(), promises, &what);
            walked += 1;
            if (call + i) % 97 == 0 {
                second += check_recovery(&crashed, promises, &what);
            }
        }
    }
    println!("walked {walked} states after {} calls, {second} of second crashes", states.len());
    assert!(walked + second > 50_000, "only {walked} and {second} states");
}

/// Runs the script with a fault, then without any on what it left.
fn run_with(class: AppendClass, fault: impl Fn(&SimFs), what: &str) {
    let fs = SimFs::default();
    fault(&fs);
    let script = Script::of(fs.clone(), class);
    // Errors stop the script; some, of caches, do not.
    let outcome = script.run();
    fs.fail(None);
    fs.fail_read(None);
    let promises = script.promises.lock().unwrap().clone();
    for survival in [Survival::Everything, Survival::Synced] {
        check(&fs.crash(survival), &promises, &format!("{what}: {outcome:?}"));
    }
}

#[test]
fn any_call_may_fail() {
    fail_any_call(AppendClass::Produce);
}

#[test]
fn any_call_may_fail_when_there_is_a_journal() {
    fail_any_call(AppendClass::Coordinator);
}

fn fail_any_call(class: AppendClass) {
    let script = Script::of(SimFs::default(), class);
    script.run().unwrap();
    let (calls, reads) = (script.fs.calls(), script.fs.reads());
    for call in 0..calls {
        for kind in [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::Interrupted] {
            // A call that is interrupted for ever is tried for ever.
            let sticky = kind != ErrorKind::Interrupted;
            for sticky in if sticky { vec![false, true] } else { vec![false] } {
                let plan = FailPlan { call, sticky, kind };
                run_with(class, |fs| fs.fail(Some(plan)), &format!("{plan:?}"));
            }
        }
        run_with(class, |fs| fs.short_write(call), &format!("short write {call}"));
    }
    for call in 0..reads {
        let kinds =
            [(ErrorKind::Other, false), (ErrorKind::Other, true), (ErrorKind::Interrupted, false)];
        for (kind, sticky) in kinds {
            let plan = FailPlan { call, sticky, kind };
            run_with(class, |fs| fs.fail_read(Some(plan)), &format!("reading: {plan:?}"));
        }
    }
    println!("failed each of {calls} calls in 6 ways and each of {reads} reads in 3");
}

#[test]
fn interrupted_and_short_calls_are_finished() {
    for class in [AppendClass::Produce, AppendClass::Coordinator] {
        let clean = Script::of(SimFs::default(), class);
        clean.run().unwrap();
        for call in 0..clean.fs.calls() {
            let fs = SimFs::default();
            fs.short_write(call);
            let script = Script::of(fs.clone(), class);
            script.run().unwrap();
            let promises = script.promises.lock().unwrap().clone();
            check(&fs.crash(Survival::Everything), &promises, &format!("short write {call}"));
        }
    }
}

#[test]
fn damage_below_the_synced_point_is_reported_and_not_cut() {
    let fs = SimFs::default();
    let script = Script::new(fs.clone());
    let plain = id("plain", 0, 1);
    let store = open_store(&fs, &script.died).unwrap();
    let log = script.open(&store, &plain, true).unwrap();
    script.fill(&store, &*log, 30, 1).unwrap();
    store.close().unwrap();
    let files = fs.files();
    let segments: Vec<_> = files.keys().filter(|name| name.ends_with(".log")).collect();
    assert!(segments.len() > 2);
    for name in segments {
        for lose_checkpoint in [false, true] {
            let fs = fs.crash(Survival::Everything);
            fs.corrupt(Path::new(name), files[name] / 2, b"\xff\xff\xff");
            let checkpoint = Path::new("data/plain-0/kavka-checkpoint");
            if lose_checkpoint {
                crate::fs::Fs::remove_file(&fs, checkpoint).unwrap();
            }
            let is_last = Some(name) == files.keys().rfind(|name| name.ends_with(".log"));
            let store = open_store(&fs, &script.died).unwrap();
            let opened = store.open(&plain, config(false), Arc::new(Durable::default()));
            let damage = match opened {
                Ok(log) => read_all(&*log).err(),
                Err(error) => Some(error),
            };
            // Without the checkpoint, nothing tells that the last segment had been synced.
            if !(is_last && lose_checkpoint) {
                let Some(LogError::Corrupt { file, range, .. }) = damage else {
                    panic!("{name}, {lose_checkpoint}: {damage:?}");
                };
                assert_eq!(file, Path::new(name.trim_start_matches('/')));
                assert!(range.contains(&(files[name] as u64 / 2)), "{range:?}");
                assert_eq!(fs.files()[name], files[name], "nothing is cut");
            }
        }
    }
}

#[test]
fn caches_may_be_deleted_or_damaged_at_any_time() {
    let fs = SimFs::default();
    let script = Script::new(fs.clone());
    let plain = id("plain", 0, 1);
    let store = open_store(&fs, &script.died).unwrap();
    let log = script.open(&store, &plain, true).unwrap();
    script.fill(&store, &*log, 30, 1).unwrap();
    log.put_snapshot(20, Bytes::from_static(b"first")).unwrap();
    let all = read_all(&*log).unwrap();
    store.close().unwrap();
    drop(store);
    let files = fs.files();
    let caches = files.keys().filter(|name| !name.ends_with(".log") && !name.ends_with("metadata"));
    let mut met = 0;
    for name in caches {
        for damage in [true, false] {
            let fs = fs.crash(Survival::Everything);
            if damage {
                fs.corrupt(Path::new(name), files[name] / 3, &[0x5a; 40]);
            } else {
                crate::fs::Fs::remove_file(&fs, Path::new(name)).unwrap();
            }
            let store = open_store(&fs, &script.died).unwrap();
            let log = store.open(&plain, config(true), Arc::new(Durable::default())).unwrap();
            assert_eq!(read_all(&*log).unwrap(), all, "{name}");
            for offset in 0..log.log_end_offset() {
                let slice = log.read(offset, i64::MAX, 1, true).unwrap();
                let batch = slice.into_bytes();
                let (header, _) = split_batches(&batch).next().unwrap().unwrap();
                assert!((header.base_offset..=header.last_offset()).contains(&offset), "{name}");
                let found = log.offset_for_timestamp(offset).unwrap().unwrap();
                assert_eq!(found.offset, offset, "{name}");
            }
            met += 1;
        }
    }
    assert!(met > 8, "only {met} caches");
}

#[test]
fn a_failed_sync_is_the_end() {
    let fs = SimFs::default();
    let script = Script::new(fs.clone());
    let plain = id("plain", 0, 1);
    let store = open_store(&fs, &script.died).unwrap();
    let durable = Arc::new(Durable::default());
    let log = store.open(&plain, config(false), Arc::clone(&durable) as _).unwrap();
    log.append(payload(0, 1, 10, 1), AppendOptions::default()).unwrap();
    fs.fail(Some(FailPlan { call: fs.calls(), sticky: false, kind: ErrorKind::Other }));
    store.run_syncs();
    assert!(script.died.load(Ordering::Relaxed), "the process is told to end");
    assert!(durable.failed().is_some());
    assert_eq!((durable.up_to(), log.durable_end_offset()), (0, 0));
    let calls = fs.calls();
    let refused = log.append(payload(1, 1, 10, 1), AppendOptions::default());
    assert!(matches!(refused, Err(LogError::Poisoned { .. })));
    store.run_syncs();
    assert!(store.close().is_err());
    assert_eq!(fs.calls(), calls, "it is not tried again");
}

#[test]
fn a_full_disk_refuses_producers_first() {
    use crate::AppendClass::{Coordinator, Produce};
    let fs = SimFs::default();
    fs.set_free_space(1 << 20);
    let options = StoreOptions {
        free_space_floor: 100_000,
        reserve_bytes: 200_000,
        reserve_after_bytes: 1000,
        ..options()
    };
    let quiet = Arc::new(|_: &LogError| {});
    let store = SegmentStore::open_on(Arc::new(fs.clone()), "data", options, quiet).unwrap();
    let config = LogConfig { segment_bytes: 1 << 20, ..config(false) };
    let log = store.open(&id("t", 0, 1), config, Arc::new(Durable::default())).unwrap();
    let append = |class| {
        let batch = payload(log.log_end_offset(), 1, 3000, 1);
        log.append(batch, AppendOptions { class, ..AppendOptions::default() })
    };
    append(Produce).unwrap();
    log.maintain(0, &UpTo(0)).unwrap();
    assert_eq!(fs.files()["/data/.reserve"], 200_000);
    let refused = (0..1000).find_map(|_| append(Produce).err());
    assert!(matches!(refused, Some(LogError::DiskFull { .. })), "{refused:?}");
    let before = log.log_end_offset();
    let refused = (0..1000).find_map(|_| append(Coordinator).err());
    assert!(matches!(refused, Some(LogError::DiskFull { .. })), "{refused:?}");
    let coordinator = (log.log_end_offset() - before) * 3000;
    assert!(coordinator > 250_000, "only {coordinator} bytes beyond the floor");
    assert!(!fs.files().contains_key("/data/.reserve"));
    assert_eq!(read_all(&*log).unwrap().len() as u64, log.size_bytes(), "nothing is half written");
    fs.set_free_space(1 << 20);
    append(Produce).unwrap();
}

#[test]
fn a_torn_tail_of_any_length_is_cut() {
    let fs = SimFs::default();
    let script = Script::new(fs.clone());
    let plain = id("plain", 0, 1);
    let store = open_store(&fs, &script.died).unwrap();
    let log = script.open(&store, &plain, false).unwrap();
    script.fill(&store, &*log, 2, 1).unwrap();
    store.run_syncs();
    let kept = read_all(&*log).unwrap();
    let end = log.log_end_offset();
    script.append(&*log, payload(end, 2, 60, 1)).unwrap();
    let name = "/data/plain-0/00000000000000000000.log";
    let len = fs.files()[name];
    // The last byte of the batch is a zero, which zeros would replace well.
    for cut in kept.len()..len - 1 {
        let fs = fs.crash(Survival::Everything);
        let file = crate::fs::Fs::open(&fs, Path::new(name), crate::fs::OpenMode::Write).unwrap();
        file.set_len(cut as u64).unwrap();
        if cut % 2 == 0 {
            // Some file systems leave zeros where the data did not arrive.
            file.set_len(len as u64).unwrap();
        }
        let store = open_store(&fs, &script.died).unwrap();
        let log = store.open(&plain, config(false), Arc::new(Durable::default())).unwrap();
        assert_eq!(log.log_end_offset(), end, "{cut}");
        assert_eq!(read_all(&*log).unwrap(), kept, "{cut}");
        let torn = cut > kept.len() || cut % 2 == 0;
        assert_eq!(log.recovery().cut_bytes > 0, torn, "{cut}");
    }
}
