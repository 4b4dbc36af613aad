//! A partition directory that Apache Kafka 4.3 wrote is taken over: its batches are read, its side files left as they are.
//!
//! The fixture is `orders-0` as a broker left it that was stopped cleanly: 60 records each of no codec, gzip, snappy, lz4 and zstd, a
//! restart (leader epoch 2), 60 of an idempotent producer, and three transactions of 20, of which the second was aborted.
//! `segment.ms` was 100 s, `index.interval.bytes` 512. The record at offset n was sent at 1,700,000,000,000 + 1,000 n.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kavka_protocol::records::{Decompressor, split_batches};

use crate::testing::conformance::read_all;
use crate::testing::{Batch, Durable};
use crate::{
    AbortedTransaction, AppendOptions, EpochEnd, LogConfig, LogId, LogStore, MaintenanceContext,
    PartitionLog, SegmentStore, StoreOptions, TimestampOffset,
};

const END: i64 = 423;
const MARKERS: [i64; 3] = [380, 401, 422];
const CODECS: [&str; 8] = ["none", "gzip", "snappy", "lz4", "zstd", "zstd", "lz4", "lz4"];

/// The key and value with which the record at an offset was sent.
fn sent(n: i64) -> (String, Option<String>) {
    let more = " and more".repeat(usize::try_from(n % 9).unwrap());
    let codec = CODECS[usize::try_from(n / 60).unwrap()];
    let value = (n % 25 != 24).then(|| format!("{n} {codec}{more}"));
    (format!("key-{}", n % 40), value)
}

fn id() -> LogId {
    LogId {
        topic: "orders".into(),
        partition: 0,
        topic_id: "hXV5CP8eSh6a247rUjp72Q".parse().unwrap(),
    }
}

/// A copy of the fixture in a data directory.
struct Copied {
    root: tempfile::TempDir,
    /// Kafka's files.
    files: BTreeMap<String, Vec<u8>>,
}

impl Copied {
    fn new() -> Self {
        let fixture =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kafka-4.3/orders-0");
        let files: BTreeMap<_, _> = read_files(&fixture);
        let copied = Self { root: tempfile::tempdir().unwrap(), files };
        std::fs::create_dir(copied.dir()).unwrap();
        for (name, bytes) in &copied.files {
            std::fs::write(copied.dir().join(name), bytes).unwrap();
        }
        copied
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("orders-0")
    }

    fn open(&self) -> (SegmentStore, Arc<dyn PartitionLog>) {
        let options = StoreOptions { free_space_floor: 0, ..StoreOptions::default() };
        let on_fatal = Arc::new(|error: &crate::LogError| panic!("fatal: {error}"));
        let store = SegmentStore::open_dir(self.root.path(), options, on_fatal).unwrap();
        assert_eq!(store.list().unwrap(), [id()]);
        let config = LogConfig { retention_ms: None, ..LogConfig::default() };
        let log = store.open(&id(), config, Arc::new(Durable::default())).unwrap();
        (store, log)
    }

    /// Bytes of the segments that Kafka wrote.
    fn log_bytes(&self) -> Vec<u8> {
        let logs = self.files.iter().filter(|(name, _)| name.ends_with(".log"));
        logs.flat_map(|(_, bytes)| bytes.clone()).collect()
    }
}

fn read_files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let named = entries.map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        (name, std::fs::read(entry.path()).unwrap())
    });
    named.collect()
}

/// Offset, key and value of all records but those of markers.
fn records(log: &dyn PartitionLog) -> Vec<(i64, String, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut decompressor = Decompressor::new(1 << 20);
    let mut all = Vec::new();
    for batch in split_batches(&read_all(log).unwrap()) {
        let (header, batch) = batch.unwrap();
        if header.is_control() {
            continue;
        }
        for record in decompressor.records(&header, batch).unwrap() {
            let record = record.unwrap();
            let offset = record.offset;
            if offset < END {
                assert_eq!(record.timestamp, 1_700_000_000_000 + 1_000 * offset);
                let headers: Vec<_> =
                    record.headers().map(|h| (text(h.key), h.value.map(text))).collect();
                let number = ("n".to_owned(), Some(offset.to_string()));
                assert_eq!(headers, [number, ("n".to_owned(), None)]);
            }
            all.push((offset, text(record.key.unwrap()), record.value.map(text)));
        }
    }
    all
}

fn sent_records() -> Vec<(i64, String, Option<String>)> {
    let offsets = (0..END).filter(|offset| !MARKERS.contains(offset));
    offsets.map(|offset| (offset, sent(offset).0, sent(offset).1)).collect()
}

#[test]
fn a_directory_of_kafka_is_read_appended_to_and_opened_again() {
    let copied = Copied::new();
    let bytes = copied.log_bytes();
    let (store, log) = copied.open();
    // Nothing tells what Kafka had synced, so all of it is verified.
    let recovery = log.recovery();
    assert_eq!((recovery.scanned_bytes, recovery.cut_bytes), (bytes.len() as u64, 0));
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, END));
    assert_eq!(log.segment_count(), 5);
    assert_eq!(read_all(&*log).unwrap(), bytes, "batches are handed out as Kafka wrote them");
    assert_eq!(records(&*log), sent_records());
    for from in 0..END {
        assert!(log.read(from, END, 1, true).unwrap().next_offset > from);
    }
    // What Kafka keeps in .timeindex and leader-epoch-checkpoint is found in the batches.
    for offset in [0, 59, 109, 110, 333] {
        let timestamp = 1_700_000_000_000 + 1_000 * offset;
        let found = log.offset_for_timestamp(timestamp - 500).unwrap();
        let leader_epoch = if offset < 300 { 0 } else { 2 };
        assert_eq!(found, Some(TimestampOffset { timestamp, offset, leader_epoch }));
    }
    assert_eq!(log.latest_epoch(), Some((2, 300)));
    assert_eq!(log.end_offset_for_epoch(1), Some(EpochEnd { epoch: 0, end_offset: 300 }));
    assert_eq!(log.latest_snapshot().unwrap(), None, "a .snapshot of Kafka is none of ours");

    let own = Batch::at(END).epoch(3).record(1, Some(b"own"), Some(b"value")).build();
    assert_eq!(log.append(own.clone(), AppendOptions::default()).unwrap().end_offset, END + 1);
    store.close().unwrap();
    drop((log, store));

    let (store, log) = copied.open();
    assert!(log.recovery().clean, "{:?}", log.recovery());
    assert_eq!(read_all(&*log).unwrap(), [&bytes[..], &own].concat());
    assert_eq!(log.latest_epoch(), Some((3, END)));
    // All files are as Kafka left them, but for the segment that was appended to.
    let found = read_files(&copied.dir());
    for (name, bytes) in &copied.files {
        assert!(found[name].starts_with(bytes), "{name}");
        let longer = name == "00000000000000000380.log";
        assert_eq!(found[name].len(), bytes.len() + if longer { own.len() } else { 0 }, "{name}");
    }
    store.delete(&id()).unwrap();
    assert!(!copied.dir().exists());
    assert_eq!(
        std::fs::read_dir(copied.root.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().is_dir())
            .count(),
        0,
        "nothing of Kafka's files is left behind"
    );
    store.close().unwrap();
}

/// What the transaction index of Kafka's last segment says.
struct Aborted;

impl MaintenanceContext for Aborted {
    fn high_watermark(&self) -> i64 {
        END
    }

    fn aborted_transactions(&self, _from: i64, _up_to: i64) -> Vec<AbortedTransaction> {
        vec![AbortedTransaction { producer_id: PRODUCER, first_offset: 381, last_offset: 401 }]
    }
}

/// The id of the transactional producer.
const PRODUCER: i64 = 1;

#[test]
fn a_directory_of_kafka_is_compacted() {
    let copied = Copied::new();
    let (store, log) = copied.open();
    let config =
        LogConfig { retention_ms: None, compact: true, delete: false, ..LogConfig::default() };
    // All of Kafka's segments are sealed.
    log.set_config(LogConfig { segment_bytes: 1, ..config.clone() });
    let own = Batch::at(END).epoch(3).record(1, Some(b"own"), Some(b"value")).build();
    log.append(own, AppendOptions::default()).unwrap();
    log.set_config(config);
    let now = 1_800_000_000_000;
    assert!(log.maintain(now, &Aborted).unwrap().compaction.is_some());
    let mut last = BTreeMap::new();
    let is_aborted = |offset: i64| (381..401).contains(&offset);
    for (offset, key, value) in sent_records().into_iter().filter(|record| !is_aborted(record.0)) {
        last.insert(key, (offset, value));
    }
    last.insert("own".to_owned(), (END, Some("value".to_owned())));
    let mut expected: Vec<_> =
        last.into_iter().map(|(key, (offset, value))| (offset, key, value)).collect();
    expected.sort();
    assert_eq!(records(&*log), expected);
    store.close().unwrap();
    drop((log, store));
    let (store, log) = copied.open();
    assert_eq!(records(&*log), expected);
    store.close().unwrap();
}
