//! What every engine behind [`LogStore`] has to do, written against the traits only.
//!
//! An engine's tests implement [`Engine`] and call [`run`].

use std::sync::Arc;

use bytes::Bytes;
use kavka_protocol::Uuid;
use kavka_protocol::records::{BatchHeader, Decompressor, split_batches};

use super::{Batch, Durable, marker, payload};
use crate::{
    AbortedTransaction, ActiveProducer, AppendOptions, Durability, LogConfig, LogError, LogId,
    LogStore, MaintenanceContext, PartitionLog, UpTo, slices_from,
};

/// An engine under test, with an empty place to store things.
pub trait Engine {
    /// The store that is open.
    fn store(&self) -> Arc<dyn LogStore>;
    /// Runs what the store would do in the background, or waits for it.
    fn settle(&self);
    /// Opens the place again. The store was closed before.
    fn reopen(&mut self);
}

/// Runs all cases, each on a fresh engine.
///
/// # Panics
/// When the engine does something else than it should.
pub fn run(mut fresh: impl FnMut() -> Box<dyn Engine>) {
    for (name, case) in CASES {
        eprintln!("conformance: {name}");
        case(&mut *fresh());
    }
}

type Case = fn(&mut dyn Engine);

const CASES: &[(&str, Case)] = &[
    ("an_unwritten_log_is_empty", an_unwritten_log_is_empty),
    ("reads_return_what_was_appended", reads_return_what_was_appended),
    ("reads_start_inside_batches_and_keep_limits", reads_start_inside_batches_and_keep_limits),
    ("headers_are_visited_in_order", headers_are_visited_in_order),
    ("appends_must_follow_the_end", appends_must_follow_the_end),
    ("durability_is_reported", durability_is_reported),
    ("everything_survives_a_restart", everything_survives_a_restart),
    ("the_start_moves_up_and_stays", the_start_moves_up_and_stays),
    ("truncation_cuts_whole_batches", truncation_cuts_whole_batches),
    ("leader_epochs_have_ends", leader_epochs_have_ends),
    ("records_are_found_by_time", records_are_found_by_time),
    ("snapshots_are_kept", snapshots_are_kept),
    ("retention_deletes_the_oldest", retention_deletes_the_oldest),
    ("compaction_keeps_the_last_of_each_key", compaction_keeps_the_last_of_each_key),
    ("compaction_removes_tombstones_later", compaction_removes_tombstones_later),
    ("compaction_drops_aborted_records", compaction_drops_aborted_records),
    ("compaction_keeps_last_sequences", compaction_keeps_last_sequences),
    ("compaction_waits_for_the_lag", compaction_waits_for_the_lag),
    ("deleted_logs_are_gone", deleted_logs_are_gone),
    ("another_topic_id_is_another_log", another_topic_id_is_another_log),
    ("closed_logs_refuse", closed_logs_refuse),
];

/// A log id; `n` tells topic ids apart.
#[must_use]
pub fn id(topic: &str, partition: i32, n: u8) -> LogId {
    LogId { topic: topic.into(), partition, topic_id: Uuid::from_bytes([n; 16]) }
}

/// Small segments and indexes, no retention, so that little data goes a long way.
#[must_use]
pub fn small_config() -> LogConfig {
    LogConfig {
        segment_bytes: 2000,
        index_interval_bytes: 200,
        retention_ms: None,
        tail_cache_bytes: 600,
        ..LogConfig::default()
    }
}

struct Open {
    log: Arc<dyn PartitionLog>,
    durable: Arc<Durable>,
}

fn open(engine: &dyn Engine, id: &LogId) -> Open {
    let durable = Arc::new(Durable::default());
    let log = engine.store().open(id, small_config(), Arc::clone(&durable) as _);
    Open { log: log.expect("opens"), durable }
}

fn restart(engine: &mut dyn Engine) {
    engine.store().close().expect("closes");
    engine.reopen();
}

fn append(log: &dyn PartitionLog, batch: Bytes) -> i64 {
    log.append(batch, AppendOptions::default()).expect("appends").end_offset
}

/// Appends `count` batches of three records each and returns all of their bytes.
fn fill(log: &dyn PartitionLog, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for _ in 0..count {
        let batch = payload(log.log_end_offset(), 3, 40, 9);
        all.extend_from_slice(&batch);
        append(log, batch);
    }
    all
}

/// All bytes of the log.
pub fn read_all(log: &dyn PartitionLog) -> Result<Vec<u8>, LogError> {
    let mut all = Vec::new();
    for slice in slices_from(log, log.log_start_offset(), 500) {
        all.extend_from_slice(&slice?.into_bytes());
    }
    Ok(all)
}

fn an_unwritten_log_is_empty(engine: &mut dyn Engine) {
    for _ in 0..2 {
        let Open { log, .. } = open(engine, &id("t", 0, 1));
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, 0));
        assert_eq!((log.durable_end_offset(), log.size_bytes()), (0, 0));
        assert!(log.read(0, i64::MAX, 1000, true).expect("reads").is_empty());
        assert!(matches!(log.read(1, i64::MAX, 1, true), Err(LogError::OffsetOutOfRange { .. })));
        assert_eq!(log.max_timestamp().expect("looks"), None);
        assert_eq!(log.latest_epoch(), None);
        assert_eq!(log.latest_snapshot().expect("looks"), None);
        restart(engine);
    }
}

fn headers_are_visited_in_order(engine: &mut dyn Engine) {
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    fill(&*log, 40);
    // Larger than what is read at a time.
    append(&*log, payload(log.log_end_offset(), 60, 300, 9));
    append(&*log, payload(log.log_end_offset(), 1, 40, 9));
    assert!(log.segment_count() > 1, "the case needs several segments");
    let all = read_all(&*log).expect("reads");
    let headers: Vec<_> = split_batches(&all).map(|batch| batch.expect("whole").0).collect();
    drop(log);
    for _ in 0..2 {
        restart(engine);
        let Open { log, .. } = open(engine, &id("t", 0, 1));
        for from in [0, 1, 5, 60, 119, 120, 150, 180, 181] {
            let mut visited = Vec::new();
            log.headers(from, &mut |header| visited.push(*header)).expect("visits");
            let expected: Vec<_> =
                headers.iter().filter(|header| header.last_offset() >= from).copied().collect();
            assert_eq!(visited, expected, "from {from}");
        }
        let beyond = log.headers(182, &mut |_| panic!("there is none"));
        assert!(matches!(beyond, Ok(()) | Err(LogError::OffsetOutOfRange { .. })));
    }
}

fn reads_return_what_was_appended(engine: &mut dyn Engine) {
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    let all = fill(&*log, 100);
    assert_eq!(log.log_end_offset(), 300);
    assert_eq!(log.size_bytes(), all.len() as u64);
    assert!(log.segment_count() > 1, "the case needs several segments");
    assert_eq!(read_all(&*log).expect("reads"), all);
    let cached = log.try_read_cached(297, 300, 1 << 20, true);
    let cached = cached.expect("the tail is in memory").expect("reads");
    assert_eq!(cached.into_bytes(), payload(297, 3, 40, 9));
}

fn reads_start_inside_batches_and_keep_limits(engine: &mut dyn Engine) {
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    fill(&*log, 60);
    let size = payload(0, 3, 40, 9).len();
    for from in 0..180 {
        let base = from / 3 * 3;
        let one = log.read(from, 180, 1, true).expect("reads");
        assert_eq!(one.next_offset, base + 3, "from {from}");
        assert_eq!(one.into_bytes(), payload(base, 3, 40, 9), "from {from}");
        let none = log.read(from, 180, 1, false).expect("reads");
        assert!(none.is_empty() && none.next_offset == from, "from {from}");
        let bounded = log.read(from, base + 3, 1 << 20, true).expect("reads");
        assert_eq!(bounded.next_offset, base + 3, "from {from}");
        assert!(log.read(from, base + 2, 1 << 20, true).expect("reads").is_empty(), "from {from}");
        let some = log.read(from, 180, 2 * size + 5, true).expect("reads");
        assert!(some.len() <= 2 * size + 5, "from {from}");
        for (header, _) in split_batches(&some.into_bytes()).flatten() {
            assert!(header.last_offset() >= from);
        }
    }
    assert!(log.read(180, 180, 1 << 20, true).expect("reads").is_empty());
    assert!(matches!(log.read(181, 200, 1, true), Err(LogError::OffsetOutOfRange { .. })));
    assert!(matches!(log.read(-1, 200, 1, true), Err(LogError::OffsetOutOfRange { .. })));
}

fn appends_must_follow_the_end(engine: &mut dyn Engine) {
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    let refused = |batch: Bytes| {
        let result = log.append(batch, AppendOptions::default());
        assert!(matches!(result, Err(LogError::InvalidAppend { .. })), "{result:?}");
    };
    append(&*log, payload(0, 2, 10, 1));
    refused(payload(0, 2, 10, 1));
    refused(payload(3, 2, 10, 1));
    refused(Bytes::new());
    let two = [payload(2, 1, 10, 1), payload(4, 1, 10, 1)].concat();
    refused(two.into());
    let batch = payload(2, 2, 10, 1);
    refused(batch.slice(..batch.len() - 1));
    let two = [payload(2, 1, 10, 1), payload(3, 1, 10, 1)].concat();
    assert_eq!(append(&*log, two.into()), 4);
    assert_eq!(log.read(3, 4, 1000, true).expect("reads").into_bytes(), payload(3, 1, 10, 1));
}

fn durability_is_reported(engine: &mut dyn Engine) {
    let Open { log, durable } = open(engine, &id("t", 0, 1));
    for round in 0..20 {
        let end = append(&*log, payload(round, 1, 10, 1));
        engine.settle();
        assert!(durable.wait(end));
        assert_eq!(log.durable_end_offset(), end);
    }
    let options = AppendOptions { durability: Durability::Relaxed, ..AppendOptions::default() };
    let appended = log.append(payload(20, 1, 10, 1), options).expect("appends");
    assert!(appended.durable);
    assert_eq!(log.durable_end_offset(), 21);
}

fn everything_survives_a_restart(engine: &mut dyn Engine) {
    let mut all = Vec::new();
    for round in 0..4 {
        let Open { log, .. } = open(engine, &id("t", 0, 1));
        assert_eq!(log.log_end_offset(), round * 30);
        assert_eq!(log.durable_end_offset(), round * 30);
        assert!(log.recovery().clean);
        assert_eq!(read_all(&*log).expect("reads"), all);
        all.extend(fill(&*log, 10));
        restart(engine);
    }
    let ids = engine.store().list().expect("lists");
    assert_eq!(ids, vec![id("t", 0, 1)]);
}

fn the_start_moves_up_and_stays(engine: &mut dyn Engine) {
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    fill(&*log, 60);
    log.advance_start(100).expect("moves");
    log.advance_start(50).expect("changes nothing");
    assert!(matches!(log.advance_start(181), Err(LogError::OffsetOutOfRange { .. })));
    for _ in 0..2 {
        let log = match engine.store().open(
            &id("t", 0, 1),
            small_config(),
            Arc::new(crate::NoListener),
        ) {
            Ok(log) => log,
            Err(LogError::AlreadyOpen { .. }) => Arc::clone(&log),
            Err(error) => panic!("{error}"),
        };
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (100, 180));
        assert!(matches!(log.read(99, 180, 1, true), Err(LogError::OffsetOutOfRange { .. })));
        // The start lies inside a batch, which is returned as a whole.
        assert_eq!(log.read(100, 180, 1, true).expect("reads").into_bytes(), payload(99, 3, 40, 9));
        let size = log.size_bytes();
        log.maintain(0, &UpTo(180)).expect("maintains");
        assert_eq!(log.log_start_offset(), 100);
        assert!(log.size_bytes() <= size);
        restart(engine);
    }
}

fn truncation_cuts_whole_batches(engine: &mut dyn Engine) {
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    let all = fill(&*log, 60);
    let size = all.len() / 60;
    assert_eq!(log.truncate(200).expect("changes nothing"), 180);
    for (to, end) in [(178, 177), (150, 150), (100, 99), (4, 3)] {
        assert_eq!(log.truncate(to).expect("truncates"), end, "to {to}");
        assert_eq!(log.log_end_offset(), end);
        assert_eq!(log.durable_end_offset(), end);
        let kept = end as usize / 3 * size;
        assert_eq!(read_all(&*log).expect("reads"), all[..kept], "to {to}");
    }
    log.advance_start(2).expect("moves");
    assert!(matches!(log.truncate(1), Err(LogError::OffsetOutOfRange { .. })));
    append(&*log, payload(3, 3, 40, 8));
    let again = [&all[..size], &payload(3, 3, 40, 8)].concat();
    restart(engine);
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    assert_eq!(read_all(&*log).expect("reads"), again);
}

fn leader_epochs_have_ends(engine: &mut dyn Engine) {
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    for (offset, epoch) in [(0, 1), (1, 1), (2, 4), (3, 7)] {
        append(&*log, Batch::at(offset).epoch(epoch).record(0, None, Some(b"v")).build());
    }
    restart(engine);
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    assert_eq!(log.latest_epoch(), Some((7, 3)));
    let end = |epoch| log.end_offset_for_epoch(epoch).map(|end| (end.epoch, end.end_offset));
    assert_eq!(
        [end(0), end(1), end(5), end(7)],
        [Some((0, 0)), Some((1, 2)), Some((4, 3)), Some((7, 4))]
    );
    assert_eq!(end(8), None);
    log.truncate(3).expect("truncates");
    assert_eq!(log.latest_epoch(), Some((4, 2)));
}

fn records_are_found_by_time(engine: &mut dyn Engine) {
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    fill(&*log, 60);
    // Timestamps equal offsets, except for one that is ahead of its time.
    let batch = Batch::at(180).epoch(3).record(180, None, None).record(500, None, None);
    append(&*log, batch.record(182, None, None).build());
    append(&*log, payload(183, 3, 40, 9));
    let find = |timestamp| {
        let found = log.offset_for_timestamp(timestamp).expect("looks");
        found.map(|found| (found.timestamp, found.offset))
    };
    for timestamp in 0..=180 {
        assert_eq!(find(timestamp), Some((timestamp, timestamp)));
    }
    assert_eq!(find(181), Some((500, 181)));
    assert_eq!(find(500), Some((500, 181)));
    assert_eq!(find(501), None);
    let max = log.max_timestamp().expect("looks").expect("is there");
    assert_eq!((max.timestamp, max.offset, max.leader_epoch), (500, 181, 3));
    log.advance_start(100).expect("moves");
    assert_eq!(find(0), Some((100, 100)));
    // The record with the largest time is below the start, those of its own batch are not.
    log.advance_start(182).expect("moves");
    let max = log.max_timestamp().expect("looks").expect("is there");
    assert_eq!((max.timestamp, max.offset), (185, 185));
    log.advance_start(log.log_end_offset()).expect("moves");
    assert_eq!(log.max_timestamp().expect("looks"), None);
}

fn snapshots_are_kept(engine: &mut dyn Engine) {
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    fill(&*log, 10);
    log.put_snapshot(15, Bytes::from_static(b"old")).expect("puts");
    log.put_snapshot(30, Bytes::from_static(b"new")).expect("puts");
    restart(engine);
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    let latest = || log.latest_snapshot().expect("looks");
    assert_eq!(latest(), Some((30, Bytes::from_static(b"new"))));
    log.truncate(20).expect("truncates");
    fill(&*log, 10);
    assert_eq!(latest(), Some((15, Bytes::from_static(b"old"))), "of what was cut");
}

fn retention_deletes_the_oldest(engine: &mut dyn Engine) {
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    fill(&*log, 100);
    let config = LogConfig { retention_bytes: Some(6000), ..small_config() };
    log.set_config(config.clone());
    let report = log.maintain(0, &UpTo(3)).expect("maintains");
    assert_eq!(report.deleted_segments, 0, "nothing beyond the high watermark goes");
    let before = log.size_bytes();
    let report = log.maintain(0, &UpTo(300)).expect("maintains");
    assert!(report.deleted_segments > 0);
    assert_eq!(log.size_bytes(), before - report.deleted_bytes);
    assert!(log.size_bytes() >= 6000 && log.log_start_offset() > 0);
    let start = log.log_start_offset();
    assert!(matches!(log.read(start - 1, 300, 1, true), Err(LogError::OffsetOutOfRange { .. })));
    assert_eq!(
        log.read(start, 300, 1, true).expect("reads").into_bytes(),
        payload(start, 3, 40, 9)
    );
    // By time: timestamps are offsets, so at 1,000 ms all are older than 100 ms.
    log.set_config(LogConfig { retention_ms: Some(100), ..small_config() });
    log.maintain(1000, &UpTo(300)).expect("maintains");
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (300, 300));
    restart(engine);
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (300, 300));
    append(&*log, payload(300, 3, 40, 9));
    assert_eq!(read_all(&*log).expect("reads"), payload(300, 3, 40, 9));
}

/// Offset, key and value of every record, as text; control records are left out.
fn records(log: &dyn PartitionLog) -> Vec<(i64, String, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut decompressor = Decompressor::new(1 << 20);
    let mut all = Vec::new();
    for slice in slices_from(log, log.log_start_offset(), 500) {
        for batch in split_batches(&slice.expect("reads").into_bytes()) {
            let (header, batch) = batch.expect("is a batch");
            if header.is_control() {
                continue;
            }
            for record in decompressor.records(&header, batch).expect("opens") {
                let record = record.expect("is a record");
                let key = record.key.map(text).unwrap_or_default();
                all.push((record.offset, key, record.value.map(text)));
            }
        }
    }
    all
}

fn headers(log: &dyn PartitionLog) -> Vec<BatchHeader> {
    let all = read_all(log).expect("reads");
    split_batches(&all).map(|batch| batch.expect("is a batch").0).collect()
}

fn compacted() -> LogConfig {
    LogConfig { compact: true, delete: false, delete_retention_ms: 1000, ..small_config() }
}

/// Appends many small batches, so that what is before them gets into sealed segments.
fn pad(log: &dyn PartitionLog) -> i64 {
    for _ in 0..40 {
        let offset = log.log_end_offset();
        append(log, Batch::at(offset).record(0, Some(b"pad"), Some(&[b'.'; 40])).build());
    }
    log.log_end_offset()
}

/// What the layer above knows of transactions.
struct Known {
    end: i64,
    aborted: Vec<AbortedTransaction>,
    producer: Option<(i64, ActiveProducer)>,
}

impl MaintenanceContext for Known {
    fn high_watermark(&self) -> i64 {
        self.end
    }

    fn aborted_transactions(&self, from: i64, up_to: i64) -> Vec<AbortedTransaction> {
        let overlaps = |t: &&AbortedTransaction| t.last_offset >= from && t.first_offset < up_to;
        self.aborted.iter().filter(overlaps).copied().collect()
    }

    fn active_producer(&self, producer_id: i64) -> Option<ActiveProducer> {
        self.producer.filter(|&(id, _)| id == producer_id).map(|(_, producer)| producer)
    }
}

fn compaction_keeps_the_last_of_each_key(engine: &mut dyn Engine) {
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    log.set_config(compacted());
    fill(&*log, 100);
    let batch = Batch::at(300).record(0, None, Some(b"no key")).build();
    append(&*log, batch);
    let end = pad(&*log);
    let before = records(&*log);
    let size = log.size_bytes();
    assert!(log.maintain(0, &UpTo(end)).expect("maintains").compaction.is_some());
    assert!(log.maintain(0, &UpTo(end)).expect("maintains").compaction.is_none(), "all is clean");
    assert_eq!(log.log_end_offset(), end);
    assert!(log.size_bytes() < size / 2);
    let after = records(&*log);
    // Offsets and values stay; of each key the last one stays, and all of the active segment.
    assert!(after.iter().all(|record| before.contains(record)));
    for record in before.iter().filter(|record| !record.1.is_empty()) {
        let last = before.iter().rfind(|other| other.1 == record.1).expect("is there");
        assert!(after.contains(last), "{last:?}");
    }
    assert!(after.iter().all(|record| !record.1.is_empty()), "records without keys go");
    assert_eq!(after.iter().filter(|record| record.0 < 300).count(), 7, "one of each key");
    // Every offset can still be asked for.
    for from in 0..end {
        assert!(log.read(from, end, 1, true).expect("reads").next_offset > from);
    }
    restart(engine);
    let log = open(engine, &id("t", 0, 1)).log;
    assert_eq!(log.log_end_offset(), end);
    assert_eq!(records(&*log), after);
}

fn compaction_removes_tombstones_later(engine: &mut dyn Engine) {
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    log.set_config(compacted());
    append(&*log, Batch::at(0).record(5, Some(b"a"), Some(b"1")).build());
    append(
        &*log,
        Batch::at(1).record(7, Some(b"a"), None).record(8, Some(b"b"), Some(b"1")).build(),
    );
    let pass = |now: i64| {
        let end = pad(&*log);
        let report = log.maintain(now, &UpTo(end)).expect("maintains");
        assert!(report.compaction.is_some());
        let mut found = records(&*log);
        found.retain(|record| record.1 != "pad");
        found
    };
    let tombstone = (1, "a".to_owned(), None);
    let value = (2, "b".to_owned(), Some("1".to_owned()));
    assert_eq!(pass(10_000), [tombstone.clone(), value.clone()]);
    assert_eq!(headers(&*log)[0].delete_horizon_ms(), Some(11_000));
    let found = log.offset_for_timestamp(6).expect("looks").map(|found| found.timestamp);
    assert_eq!(found, Some(7), "timestamps of records stay");
    assert_eq!(pass(10_999), [tombstone, value.clone()]);
    assert_eq!(pass(11_000), [value]);
}

fn compaction_drops_aborted_records(engine: &mut dyn Engine) {
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    log.set_config(compacted());
    let data = |offset, key: &[u8], value: &[u8]| {
        Batch::at(offset).producer(5, 0, 0, true).record(0, Some(key), Some(value)).build()
    };
    append(&*log, Batch::at(0).record(0, Some(b"a"), Some(b"kept")).build());
    append(&*log, data(1, b"a", b"aborted"));
    append(&*log, marker(2, 5, 0, false, 0));
    append(&*log, data(3, b"b", b"committed"));
    append(&*log, marker(4, 5, 0, true, 0));
    let pass = |now: i64| {
        let end = pad(&*log);
        let aborted = AbortedTransaction { producer_id: 5, first_offset: 1, last_offset: 2 };
        let known = Known { end, aborted: vec![aborted], producer: None };
        assert!(log.maintain(now, &known).expect("maintains").compaction.is_some());
        let values = records(&*log).into_iter().filter(|record| record.1 != "pad");
        let values: Vec<_> = values.filter_map(|record| record.2).collect();
        assert_eq!(values, ["kept", "committed"]);
        let markers = headers(&*log).into_iter().filter(BatchHeader::is_control);
        markers.map(|header| header.base_offset).collect::<Vec<_>>()
    };
    assert_eq!(pass(0), [2, 4]);
    assert_eq!(
        pass(10),
        [2, 4],
        "the abort marker has nothing to abort any more: gets its horizon"
    );
    assert_eq!(pass(1010), [4], "the commit marker stays while its record does");
}

fn compaction_keeps_last_sequences(engine: &mut dyn Engine) {
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    log.set_config(compacted());
    for offset in 0..3 {
        let batch = Batch::at(offset).producer(7, 1, offset as i32, false);
        append(&*log, batch.record(0, Some(b"pad"), Some(b"v")).build());
    }
    let end = pad(&*log);
    let last = ActiveProducer { last_data_offset: Some(2), producer_epoch: 1 };
    let known = Known { end, aborted: vec![], producer: Some((7, last)) };
    assert!(log.maintain(0, &known).expect("maintains").compaction.is_some());
    let kept: Vec<_> = headers(&*log).into_iter().filter(|h| h.producer_id == 7).collect();
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].last_offset(), kept[0].last_sequence(), kept[0].record_count), (2, 2, 0));
}

fn compaction_waits_for_the_lag(engine: &mut dyn Engine) {
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    let ratio = LogConfig { min_cleanable_dirty_ratio: 1.0, ..compacted() };
    log.set_config(ratio.clone());
    fill(&*log, 100);
    let end = log.log_end_offset();
    let is_compacted =
        |now: i64, up_to: i64| log.maintain(now, &UpTo(up_to)).expect("maintains").compaction;
    assert_eq!(is_compacted(0, end), None, "too clean");
    log.set_config(LogConfig { min_compaction_lag_ms: 1000, ..compacted() });
    assert_eq!(is_compacted(900, end), None, "too young");
    log.set_config(LogConfig { max_compaction_lag_ms: 1000, ..ratio });
    assert_eq!(is_compacted(900, end), None, "not old enough");
    assert_eq!(is_compacted(1100, 0), None, "not below the last stable offset");
    assert!(is_compacted(1100, end).is_some());
}

fn deleted_logs_are_gone(engine: &mut dyn Engine) {
    let (a, b) = (id("t", 0, 1), id("t", 1, 1));
    let Open { log, .. } = open(engine, &a);
    fill(&*log, 10);
    let other = open(engine, &b);
    fill(&*other.log, 1);
    engine.store().delete(&a).expect("deletes");
    engine.store().delete(&a).expect("deletes what is absent");
    assert!(matches!(log.read(0, 1, 1, true), Err(LogError::Deleted { .. })));
    let result = log.append(payload(30, 1, 1, 1), AppendOptions::default());
    assert!(matches!(result, Err(LogError::Deleted { .. })));
    assert!(!engine.store().list().expect("lists").contains(&a));
    let Open { log, .. } = open(engine, &a);
    assert_eq!(log.log_end_offset(), 0);
    restart(engine);
    engine.store().delete(&b).expect("deletes what is not open");
    assert_eq!(engine.store().list().expect("lists"), vec![]);
}

fn another_topic_id_is_another_log(engine: &mut dyn Engine) {
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    fill(&*log, 10);
    restart(engine);
    engine.store().delete(&id("t", 0, 2)).expect("leaves the other alone");
    assert_eq!(engine.store().list().expect("lists"), vec![id("t", 0, 1)]);
    let Open { log, .. } = open(engine, &id("t", 0, 2));
    assert_eq!(log.log_end_offset(), 0, "the old topic's records are not shown");
    fill(&*log, 1);
    restart(engine);
    let Open { log, .. } = open(engine, &id("t", 0, 2));
    assert_eq!(log.log_end_offset(), 3);
}

fn closed_logs_refuse(engine: &mut dyn Engine) {
    let Open { log, durable } = open(engine, &id("t", 0, 1));
    fill(&*log, 2);
    log.close().expect("closes");
    log.close().expect("closes twice");
    assert_eq!(durable.up_to(), 6, "closing reports what it synced");
    let result = log.append(payload(6, 1, 1, 1), AppendOptions::default());
    assert!(matches!(result, Err(LogError::Closed { .. })));
    assert!(matches!(log.read(0, 1, 1, true), Err(LogError::Closed { .. })));
    let Open { log, .. } = open(engine, &id("t", 0, 1));
    assert_eq!(log.log_end_offset(), 6);
    let again = engine.store().open(&id("t", 0, 1), small_config(), Arc::new(crate::NoListener));
    assert!(matches!(again.err(), Some(LogError::AlreadyOpen { .. })));
    restart(engine);
}
