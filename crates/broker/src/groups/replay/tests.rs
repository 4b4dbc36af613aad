#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, path::Path, sync::Arc};

use kavka_coordinator::{
    Monotonic, Now,
    group::{
        GroupConfig, HardView, Input, OffsetValue, Record, Reply, Request, RequestId, Skipped,
    },
};
use kavka_log::{
    AppendClass, AppendOptions, Durability, LogConfig, LogId, LogListener, LogStore, NoListener,
    SegmentStore, StoreOptions, UpTo,
};
use kavka_protocol::{
    Uuid,
    records::{BatchBuilder, Compression, Compressor, NO_SEQUENCE},
};

use super::*;

/// A segment that Apache Kafka 4.3.1 wrote: a classic group with a static member, a group of the protocol of KIP-848, commits
/// without membership, a deleted group, an emptied one, and transactions: two committed, one aborted, one open.
const SEGMENT_OF_KAFKA: &[u8] =
    include_bytes!("../../../tests/fixtures/consumer_offsets_of_kafka_4_3.log");

fn open(dir: &Path, config: LogConfig) -> (SegmentStore, Arc<dyn PartitionLog>) {
    let on_fatal = Arc::new(|error: &LogError| panic!("{error}"));
    let store = SegmentStore::open_dir(dir, StoreOptions::default(), on_fatal).unwrap();
    let id = LogId { topic: "__consumer_offsets".into(), partition: 0, topic_id: Uuid::ZERO };
    let listener: Arc<dyn LogListener> = Arc::new(NoListener);
    let log = store.open(&id, config, listener).unwrap();
    (store, log)
}

fn load(batches: &[Bytes], buffer_bytes: usize) -> (GroupShard, u64) {
    let dir = tempfile::tempdir().unwrap();
    let (store, log) = open(dir.path(), LogConfig::default());
    let options = AppendOptions { durability: Durability::Synced, class: AppendClass::Coordinator };
    for batch in batches {
        log.append(batch.clone(), options).unwrap();
    }
    let mut shard = GroupShard::new(GroupConfig::default(), 1);
    let records = replay(&*log, buffer_bytes, &mut shard).unwrap();
    store.close().unwrap();
    (shard, records)
}

fn offset_record(partition: i32, offset: i64) -> Record {
    Record::Offset {
        group: "g".into(),
        topic: "t".into(),
        partition,
        value: Some(OffsetValue {
            offset,
            leader_epoch: -1,
            metadata: "".into(),
            commit_timestamp_ms: 1,
            expire_timestamp_ms: None,
            topic_id: Uuid::ZERO,
        }),
    }
}

fn filled(mut builder: BatchBuilder, records: &[Record]) -> BatchBuilder {
    for record in records {
        let (key, value) = record.encode().unwrap();
        builder.append(1, Some(&key), value.as_deref(), &[]).unwrap();
    }
    builder
}

fn batch(builder: BatchBuilder, records: &[Record]) -> Bytes {
    filled(builder, records).build().unwrap()
}

fn offsets(view: &HardView) -> BTreeMap<String, Vec<(i32, i64)>> {
    let mut offsets: BTreeMap<String, Vec<(i32, i64)>> = BTreeMap::new();
    for ((group, _, partition), (value, _)) in &view.offsets {
        offsets.entry(group.to_string()).or_default().push((*partition, value.offset));
    }
    offsets
}

/// Whatever the buffer's size, smaller than a batch or larger than the log.
#[test]
fn what_apache_kafka_wrote_is_loaded() {
    for buffer_bytes in [1, 500, 5 << 20] {
        let segment = Bytes::from_static(SEGMENT_OF_KAFKA);
        let batches: Vec<Bytes> = split_bytes(segment).map(|batch| batch.unwrap().1).collect();
        let (mut shard, records) = load(&batches, buffer_bytes);
        assert_eq!(records, 39, "and three markers");
        let skipped = [(3, 1), (5, 1), (6, 1), (7, 1), (8, 1)];
        let skipped = skipped.map(|(record_type, count)| (Skipped::Type(record_type), count));
        assert_eq!(*shard.skipped_records(), BTreeMap::from(skipped));

        let view = shard.hard_state();
        let all_ten: Vec<(i32, i64)> = (0..4).map(|partition| (partition, 10)).collect();
        let expected = [
            ("classic".to_owned(), all_ten.clone()),
            ("emptied".to_owned(), all_ten.clone()),
            ("next-gen".to_owned(), all_ten),
            ("simple".to_owned(), vec![(2, 7)]),
            ("txn".to_owned(), vec![(0, 3), (1, 5)]),
        ];
        assert_eq!(offsets(&view), BTreeMap::from(expected));
        let pending: Vec<_> = view.pending.iter().map(|(key, (v, _))| (key.2, v.offset)).collect();
        assert_eq!(pending, [(2, 6)], "of the transaction that is open");
        let classic = &view.groups["classic"];
        assert_eq!((classic.generation, classic.members.len()), (1, 1));
        assert_eq!(classic.members[0].instance_id.as_deref(), Some("worker-1"));
        let emptied = &view.groups["emptied"];
        assert_eq!((emptied.generation, emptied.members.len()), (2, 0));
        assert_eq!(view.groups.len(), 2, "the deleted one is not there");

        let now = Now { monotonic: Monotonic::ORIGIN, wall_ms: 1_800_000_000_000 };
        shard.handle(now, Input::Loaded);
        let groups = view.groups.keys().cloned().collect();
        let request = Input::Request(RequestId(1), Request::DescribeGroups(groups));
        let answer = shard.handle(now, request).answers.remove(0);
        let Reply::DescribeGroups(rows) = answer.reply else { panic!("{answer:?}") };
        let states: Vec<&str> = rows.iter().map(|row| row.state.name()).collect();
        assert_eq!(states, ["Stable", "Empty"]);
    }
}

#[test]
fn compressed_and_transactional_batches_are_loaded() {
    let transactional =
        |at| BatchBuilder::new(at).with_producer(9, 0, NO_SEQUENCE).with_transactional(true);
    let marker = |at, committed| {
        EndTxnMarker { committed, coordinator_epoch: 0 }.to_batch(at, 1, 9, 0).unwrap()
    };
    let compressed = BatchBuilder::new(0).with_compression(Compression::Zstd);
    let compressed = filled(compressed, &[offset_record(0, 1), offset_record(1, 1)]);
    let mut zstd = Compressor::new(Compression::Zstd, None).unwrap();
    let batches = [
        compressed.build_with(&mut zstd).unwrap(),
        batch(transactional(2), &[offset_record(0, 2)]),
        marker(3, true),
        batch(transactional(4), &[offset_record(1, 2)]),
        marker(5, false),
        batch(transactional(6), &[offset_record(1, 3)]),
    ];
    let (shard, records) = load(&batches, 1 << 20);
    assert_eq!(records, 5);
    let view = shard.hard_state();
    assert_eq!(offsets(&view)["g"], [(0, 2), (1, 1)]);
    assert_eq!(view.pending.len(), 1);
}

/// Neither half of it, nor what comes after it.
#[test]
fn batch_that_cannot_be_read_is_left_out_whole() {
    let mut broken = BatchBuilder::new(1);
    let (key, value) = offset_record(0, 2).encode().unwrap();
    broken.append(1, Some(&key), value.as_deref(), &[]).unwrap();
    broken.append(1, Some(&key), value.as_deref(), &[]).unwrap();
    let mut broken = broken.build().unwrap().to_vec();
    let at = broken.len() - value.unwrap().len() - key.len() - 8;
    // The length of the second record, and then the checksum that says that it was meant so.
    broken[at..at + 6].copy_from_slice(&[0x7f; 6]);
    let checksum = kavka_protocol::records::crc32c(&broken[21..]);
    broken[17..21].copy_from_slice(&checksum.to_be_bytes());
    let batches = [
        batch(BatchBuilder::new(0), &[offset_record(0, 1)]),
        broken.into(),
        batch(BatchBuilder::new(3), &[offset_record(1, 3)]),
    ];
    let (shard, records) = load(&batches, 1 << 20);
    assert_eq!(records, 2);
    assert_eq!(offsets(&shard.hard_state())["g"], [(0, 1), (1, 3)]);
}

/// A start takes as long as what is committed now, and not as long as everything that ever was: what is sealed is compacted, and
/// the active segment is bounded by its size.
#[test]
fn load_after_compaction_reads_live_offsets_and_not_their_history() {
    const COMMITS: i64 = 40_000;
    const KEYS: i64 = 100;
    let dir = tempfile::tempdir().unwrap();
    let config =
        LogConfig { compact: true, delete: false, segment_bytes: 64 << 10, ..LogConfig::default() };
    let (store, log) = open(dir.path(), config.clone());
    let options =
        AppendOptions { durability: Durability::Relaxed, class: AppendClass::Coordinator };
    for at in 0..COMMITS {
        let record = offset_record(i32::try_from(at % KEYS).unwrap(), at);
        log.append(batch(BatchBuilder::new(at), &[record]), options).unwrap();
    }
    let before = log.size_bytes();
    let report = log.maintain(1_800_000_000_000, &UpTo(COMMITS)).unwrap();
    assert!(report.compaction.is_some(), "{report:?}");
    assert!(log.size_bytes() * 20 < before, "{} of {before} bytes are left", log.size_bytes());

    store.close().unwrap();
    drop((store, log));

    let (store, log) = open(dir.path(), config);
    let mut shard = GroupShard::new(GroupConfig::default(), 1);
    let records = replay(&*log, 5 << 20, &mut shard).unwrap();
    store.close().unwrap();
    assert!(records < COMMITS.unsigned_abs() / 20, "{records} records were read");
    let expected: Vec<(i32, i64)> =
        (0..KEYS).map(|key| (i32::try_from(key).unwrap(), COMMITS - KEYS + key)).collect();
    assert_eq!(offsets(&shard.hard_state())["g"], expected);
}
