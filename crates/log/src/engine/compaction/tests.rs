//! What a pass keeps of batches: beyond the conformance suite, the rules that Kafka's `Cleaner` has for headers, codecs,
//! tombstones, markers, and batches of which nothing but the header stays.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kavka_protocol::records::{
    BatchBuilder, BatchHeader, Compression, Compressor, Decompressor, RecordHeader, TimestampType,
    split_batches, verify_crc,
};

use crate::testing::conformance::{id, read_all};
use crate::testing::{Batch, Durable, SimFs, marker};
use crate::{
    AbortedTransaction, ActiveProducer, AppendOptions, CompactionReport, LogConfig, LogStore,
    MaintenanceContext, PartitionLog, SegmentStore, StoreOptions, SyncerMode,
};

const RETENTION_MS: i64 = 1_000;

fn config() -> LogConfig {
    LogConfig {
        compact: true,
        delete: false,
        delete_retention_ms: RETENTION_MS as u64,
        min_cleanable_dirty_ratio: 0.0,
        // What is asked for here is what is in the files.
        tail_cache_bytes: 0,
        ..LogConfig::default()
    }
}

/// A compacted log, and what the layer above knows of its producers.
struct Topic {
    _store: SegmentStore,
    log: Arc<dyn PartitionLog>,
    aborted: Vec<AbortedTransaction>,
    producers: BTreeMap<i64, ActiveProducer>,
}

impl MaintenanceContext for Topic {
    fn high_watermark(&self) -> i64 {
        self.log.log_end_offset()
    }

    fn aborted_transactions(&self, _from: i64, _up_to: i64) -> Vec<AbortedTransaction> {
        self.aborted.clone()
    }

    fn active_producer(&self, producer_id: i64) -> Option<ActiveProducer> {
        self.producers.get(&producer_id).copied()
    }
}

/// A record with all that compaction must not change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Topic {
    fn new() -> Self {
        Self::with_map(StoreOptions::default().compaction_map_bytes)
    }

    fn with_map(compaction_map_bytes: usize) -> Self {
        let options = StoreOptions {
            syncer: SyncerMode::Manual,
            compaction_map_bytes,
            ..StoreOptions::default()
        };
        let on_fatal = Arc::new(|error: &crate::LogError| panic!("fatal: {error}"));
        let store = SegmentStore::open_on(Arc::new(SimFs::default()), "data", options, on_fatal);
        let store = store.unwrap();
        let log = store.open(&id("t", 0, 1), config(), Arc::new(Durable::default())).unwrap();
        Self { _store: store, log, aborted: Vec::new(), producers: BTreeMap::new() }
    }

    fn end(&self) -> i64 {
        self.log.log_end_offset()
    }

    fn append(&self, batch: Bytes) {
        self.log.append(batch, AppendOptions::default()).unwrap();
    }

    /// Appends one record of a transaction, or of no producer.
    fn put(&self, producer: Option<i64>, key: &str, value: Option<&str>) {
        let mut batch = Batch::at(self.end());
        if let Some(id) = producer {
            batch = batch.producer(id, 0, 0, true);
        }
        let batch = batch.record(5, Some(key.as_bytes()), value.map(str::as_bytes));
        self.append(batch.build());
    }

    fn end_transaction(&self, producer: i64, commit: bool) {
        self.append(marker(self.end(), producer, 0, commit, 5));
    }

    /// Seals all segments: an active one begins, with a record of its own.
    fn seal(&self) {
        self.log.set_config(LogConfig { segment_bytes: 1, ..config() });
        self.put(None, "active", Some(""));
        self.log.set_config(config());
    }

    fn pass(&self, now_ms: i64) -> CompactionReport {
        self.seal();
        self.log.maintain(now_ms, self).unwrap().compaction.expect("a pass is due")
    }

    /// All batches of the log, their records with them.
    fn batches(&self) -> Vec<(BatchHeader, Vec<Record>)> {
        let mut decompressor = Decompressor::new(1 << 20);
        let bytes = read_all(&*self.log).unwrap();
        let batches = split_batches(&bytes).map(|batch| {
            let (header, bytes) = batch.unwrap();
            verify_crc(bytes).unwrap();
            let records = decompressor.records(&header, bytes).unwrap().map(|record| {
                let record = record.unwrap();
                let header =
                    |RecordHeader { key, value }| (key.to_vec(), value.map(<[u8]>::to_vec));
                Record {
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                    headers: record.headers().map(header).collect(),
                }
            });
            (header, records.collect())
        });
        batches.collect()
    }

    fn records(&self) -> Vec<Record> {
        self.batches().into_iter().flat_map(|(_, records)| records).collect()
    }

    /// Offset and delete horizon of each control batch that has its record.
    fn markers(&self) -> Vec<(i64, Option<i64>)> {
        let batches = self.batches().into_iter().map(|(header, _)| header);
        let markers = batches.filter(|header| header.is_control() && header.record_count == 1);
        markers.map(|header| (header.base_offset, header.delete_horizon_ms())).collect()
    }

    /// Offsets of the batches of which only the header is there.
    fn empty_batches(&self) -> Vec<i64> {
        let batches = self.batches().into_iter().map(|(header, _)| header);
        batches.filter(|header| header.record_count == 0).map(|h| h.last_offset()).collect()
    }

    /// Whether some batch has a record with this key.
    fn has(&self, key: &str) -> bool {
        self.records().iter().any(|record| record.key.as_deref() == Some(key.as_bytes()))
    }
}

/// The last record of each key, as it was appended.
fn last_of_each_key(records: &[Record]) -> Vec<Record> {
    let keyed = records.iter().filter(|record| record.key.is_some());
    let last: BTreeMap<_, _> = keyed.map(|record| (&record.key, record.offset)).collect();
    let is_last = |record: &&Record| last.get(&record.key) == Some(&record.offset);
    records.iter().filter(is_last).cloned().collect()
}

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

#[test]
fn compacted_batches_keep_codec_header_and_records() {
    for codec in CODECS {
        for append_time in [None, Some(777)] {
            let topic = Topic::new();
            for n in 0..8 {
                let mut batch = BatchBuilder::new(topic.end())
                    .with_leader_epoch(n / 3)
                    .with_producer(40 + i64::from(n), 3, 1_000 * n)
                    .with_compression(codec);
                if let Some(timestamp) = append_time {
                    batch = batch.with_log_append_time(timestamp + i64::from(n));
                }
                for i in 0..10_i64 {
                    // The first, the last, and some in between are written again later.
                    let key = format!("key {}", (i * 7 + i64::from(n) * 3) % 31);
                    let value = format!("{n} {i} {}", "compressible ".repeat(5));
                    let number = i.to_string();
                    let headers = [("n", Some(number.as_bytes())), ("n", None)];
                    let headers =
                        headers.map(|(key, value)| RecordHeader { key: key.as_bytes(), value });
                    let timestamp = 1_000 - i * 13 + i64::from(n);
                    let (key, value) = (key.as_bytes(), value.as_bytes());
                    batch.append(timestamp, Some(key), Some(value), &headers).unwrap();
                }
                topic.append(batch.build_with(&mut Compressor::new(codec, None).unwrap()).unwrap());
            }
            topic.seal();
            let before = topic.batches();
            topic.log.maintain(0, &topic).unwrap().compaction.unwrap();
            let after = topic.batches();

            let all: Vec<Record> = before.iter().flat_map(|(_, records)| records.clone()).collect();
            assert_eq!(topic.records(), last_of_each_key(&all), "{codec:?}");
            let mut rebuilt = 0;
            for (header, records) in &after {
                let find = |(old, _): &&(BatchHeader, _)| old.base_offset == header.base_offset;
                let (old, _) = before.iter().find(find).unwrap();
                let newest = match header.timestamp_type() {
                    TimestampType::LogAppendTime => old.max_timestamp,
                    TimestampType::CreateTime => records.iter().map(|r| r.timestamp).max().unwrap(),
                };
                let expected = BatchHeader {
                    batch_length: header.batch_length,
                    crc: header.crc,
                    base_timestamp: header.base_timestamp,
                    record_count: records.len() as i32,
                    max_timestamp: newest,
                    ..*old
                };
                assert_eq!(*header, expected, "{codec:?}");
                rebuilt += usize::from(header.record_count < old.record_count);
            }
            assert!(rebuilt >= 3, "{codec:?}: only {rebuilt} batches lost some of their records");
        }
    }
}

#[test]
fn a_full_map_takes_more_passes_to_the_same_result() {
    let fill = |topic: &Topic| {
        for n in 0..60_i64 {
            let mut batch = Batch::at(topic.end());
            for i in 0..5_i64 {
                let key = format!("key {}", (n * 11 + i * 5) % 90);
                let value = format!("value {n} {i}");
                let value = (n % 4 > 0).then_some(value.as_bytes());
                batch = batch.record(n * 10 + i, Some(key.as_bytes()), value);
            }
            topic.append(batch.build());
        }
        topic.seal();
    };
    let whole = Topic::new();
    fill(&whole);
    let before = whole.records();
    let report = whole.log.maintain(0, &whole).unwrap().compaction.unwrap();
    assert!(!report.map_full);
    assert_eq!(whole.records(), last_of_each_key(&before));

    // Room for more than the 90 keys; for some of them; for less than one batch has.
    for (entries, at_least) in [(100, 1), (20, 10), (1, 50)] {
        let topic = Topic::with_map(entries * 48);
        fill(&topic);
        let (mut passes, mut full) = (0, 0);
        while let Some(report) = topic.log.maintain(0, &topic).unwrap().compaction {
            passes += 1;
            full += usize::from(report.map_full);
            assert!(passes < 100, "it goes on and on");
        }
        assert!(passes >= at_least, "{passes} passes with {entries} entries");
        assert_eq!(full, passes - 1, "all but the last one found the map full");
        assert_eq!(topic.records(), whole.records(), "{entries} entries");
        assert_eq!(topic.end(), whole.end());
    }
}

#[test]
fn the_first_pass_that_meets_a_tombstone_sets_its_horizon() {
    let topic = Topic::new();
    topic.put(None, "a", Some("1"));
    topic.put(None, "a", None);
    let horizon = || topic.batches()[0].0.delete_horizon_ms();
    topic.pass(10_000);
    assert_eq!(horizon(), Some(11_000));
    topic.pass(10_500);
    assert_eq!(horizon(), Some(11_000), "a later pass leaves it");
    topic.pass(10_999);
    assert!(topic.has("a"));
    assert_eq!(topic.records()[0].timestamp, 5, "the record's own time stays");
    topic.pass(11_000);
    assert!(!topic.has("a"));
}

#[test]
fn a_tombstone_that_was_written_over_goes_at_once() {
    let topic = Topic::new();
    topic.put(None, "a", None);
    topic.put(None, "a", Some("2"));
    topic.pass(0);
    let values: Vec<_> =
        topic.records().into_iter().filter(|r| r.key == Some(b"a".to_vec())).collect();
    assert_eq!(values.len(), 1);
    assert_eq!((values[0].offset, values[0].value.as_deref()), (1, Some(&b"2"[..])));
}

#[test]
fn a_commit_marker_goes_once_no_data_of_its_transaction_is_left() {
    let topic = Topic::new();
    topic.put(Some(5), "a", Some("1"));
    topic.put(Some(5), "b", Some("1"));
    topic.end_transaction(5, true);
    topic.pass(0);
    assert_eq!(topic.markers(), [(2, None)], "there is data");
    topic.put(None, "a", Some("2"));
    topic.pass(100);
    topic.pass(200);
    assert_eq!(topic.markers(), [(2, None)], "there is data, of one key");
    topic.put(None, "b", Some("2"));
    topic.pass(300);
    assert_eq!(topic.markers(), [(2, None)], "there was data, until now");
    topic.pass(400);
    assert_eq!(topic.markers(), [(2, Some(400 + RETENTION_MS))]);
    topic.pass(399 + RETENTION_MS);
    assert_eq!(topic.markers(), [(2, Some(400 + RETENTION_MS))]);
    topic.pass(400 + RETENTION_MS);
    assert_eq!(topic.markers(), []);
}

#[test]
fn an_abort_marker_goes_after_its_records() {
    let mut topic = Topic::new();
    topic.put(None, "a", Some("kept"));
    topic.put(Some(5), "a", Some("aborted"));
    topic.end_transaction(5, false);
    topic.aborted = vec![AbortedTransaction { producer_id: 5, first_offset: 1, last_offset: 2 }];
    topic.pass(0);
    assert_eq!(topic.records()[0].value.as_deref(), Some(&b"kept"[..]));
    assert!(topic.records().iter().all(|record| record.offset != 1));
    assert_eq!(topic.markers(), [(2, None)]);
    topic.pass(100);
    assert_eq!(topic.markers(), [(2, Some(100 + RETENTION_MS))]);
    topic.pass(100 + RETENTION_MS);
    assert_eq!(topic.markers(), []);
}

/// The header of the producer's last batch stays, and counts as data of its transaction, so that the marker stays too.
#[test]
fn the_last_batch_of_an_active_producer_stays_without_records() {
    let mut topic = Topic::new();
    topic.put(Some(5), "a", Some("1"));
    topic.put(Some(5), "a", Some("2"));
    topic.end_transaction(5, true);
    topic.put(None, "a", Some("3"));
    let last = ActiveProducer { last_data_offset: Some(1), producer_epoch: 0 };
    topic.producers.insert(5, last);
    for now in [0, 5_000, 10_000] {
        topic.pass(now);
        assert_eq!(topic.empty_batches(), [1]);
        assert_eq!(topic.markers(), [(2, None)]);
    }
    // The producer expires.
    topic.producers.clear();
    topic.pass(20_000);
    assert_eq!(topic.empty_batches(), [0_i64; 0]);
    topic.pass(30_000);
    assert_eq!(topic.markers(), [(2, Some(30_000 + RETENTION_MS))]);
    topic.pass(40_000);
    assert_eq!(topic.markers(), []);
}

/// It fences older epochs of the producer.
#[test]
fn the_last_marker_of_a_producer_with_nothing_else_stays_as_a_header() {
    let mut topic = Topic::new();
    topic.end_transaction(5, false);
    topic.end_transaction(6, false);
    let last = ActiveProducer { last_data_offset: None, producer_epoch: 0 };
    topic.producers.insert(5, last);
    topic.pass(0);
    assert_eq!(topic.markers(), [(0, Some(RETENTION_MS)), (1, Some(RETENTION_MS))]);
    topic.pass(RETENTION_MS);
    assert_eq!(topic.markers(), []);
    assert_eq!(topic.empty_batches(), [0], "that of producer 6 is gone");
    topic.producers.clear();
    topic.pass(RETENTION_MS);
    assert_eq!(topic.empty_batches(), [0_i64; 0]);
}

#[test]
fn the_end_of_the_cleaned_range_stays_as_a_header() {
    let topic = Topic::new();
    topic.put(None, "a", Some("1"));
    let without_key = Batch::at(1).record(0, None, Some(b"x")).record(0, None, Some(b"y"));
    topic.append(without_key.build());
    let report = topic.pass(0);
    assert_eq!(report.clean_up_to, 3);
    assert_eq!(topic.empty_batches(), [2]);
    // It is the end no more.
    topic.pass(0);
    assert_eq!(topic.empty_batches(), [0_i64; 0]);
}

#[test]
fn nothing_at_or_beyond_the_last_stable_offset_is_compacted() {
    struct Open<'a>(&'a Topic, i64);
    impl MaintenanceContext for Open<'_> {
        fn high_watermark(&self) -> i64 {
            self.0.end()
        }
        fn last_stable_offset(&self) -> i64 {
            self.1
        }
    }
    let topic = Topic::new();
    for value in ["1", "2", "3", "4"] {
        topic.put(None, "a", Some(value));
    }
    topic.seal();
    topic.log.maintain(0, &Open(&topic, 2)).unwrap().compaction.unwrap();
    let offsets: Vec<_> = topic.records().iter().map(|record| record.offset).collect();
    assert_eq!(
        offsets,
        [1, 2, 3, 4],
        "of the first two the last one stays, for all that follow may yet be aborted"
    );
}
