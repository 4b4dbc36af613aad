#![allow(clippy::unwrap_used)]

use super::super::{Decompressor, split_batches, verify_crc};
use super::*;

fn parse(batch: &[u8]) -> BatchHeader {
    verify_crc(batch).unwrap();
    let batches: Vec<_> = split_batches(batch).map(Result::unwrap).collect();
    assert_eq!(batches.len(), 1);
    batches[0].0
}

fn offsets_and_times(batch: &[u8]) -> Vec<(i64, i64)> {
    let mut decompressor = Decompressor::new(1 << 20);
    let records = decompressor.records(&parse(batch), batch).unwrap();
    records.map(|record| record.map(|record| (record.offset, record.timestamp)).unwrap()).collect()
}

fn five_records() -> Bytes {
    let mut batch = BatchBuilder::new(100).with_producer(7, 3, i32::MAX - 1).with_leader_epoch(9);
    for i in 0..5 {
        batch.append(1000 + i, Some(b"key"), None, &[]).unwrap();
    }
    batch.build().unwrap()
}

#[test]
fn header_of_a_new_batch() {
    let mut builder = BatchBuilder::new(40)
        .with_producer(7, 3, i32::MAX)
        .with_transactional(true)
        .with_leader_epoch(5);
    assert_eq!(builder.append(1002, None, Some(b"a"), &[]), Ok(40));
    assert_eq!(builder.append(1005, None, Some(b"b"), &[]), Ok(41));
    builder.append_at(50, 1001, None, Some(b"c"), &[]).unwrap();
    let size = builder.size();
    let batch = builder.build().unwrap();
    assert_eq!(batch.len(), size);
    let header = parse(&batch);
    assert_eq!((header.base_offset, header.last_offset()), (40, 50));
    assert_eq!((header.base_timestamp, header.max_timestamp), (1002, 1005));
    assert_eq!((header.producer_id, header.producer_epoch), (7, 3));
    assert_eq!((header.base_sequence, header.last_sequence()), (i32::MAX, 9));
    assert_eq!((header.record_count, header.partition_leader_epoch), (3, 5));
    assert!(header.is_transactional() && !header.is_control());
    assert_eq!(offsets_and_times(&batch), [(40, 1002), (41, 1005), (50, 1001)]);
}

#[test]
fn offsets_must_rise_and_fit() {
    let mut builder = BatchBuilder::new(10);
    let mut at = |offset| builder.append_at(offset, 0, None, None, &[]);
    assert!(matches!(at(9), Err(BuildError::Offset { .. })));
    at(12).unwrap();
    assert!(matches!(at(12), Err(BuildError::Offset { .. })));
    assert!(matches!(at(11 + i64::from(i32::MAX)), Err(BuildError::Offset { .. })));
    at(10 + i64::from(i32::MAX)).unwrap();
    assert_eq!(parse(&builder.build().unwrap()).last_offset_delta, i32::MAX);

    let mut last = BatchBuilder::new(i64::MAX);
    assert_eq!(last.append(0, None, None, &[]), Ok(i64::MAX));
    assert!(matches!(last.append(0, None, None, &[]), Err(BuildError::Offset { .. })));
}

#[test]
fn a_refused_record_leaves_the_batch_as_it_was() {
    let mut builder = BatchBuilder::new(0);
    builder.append(5, Some(b"k"), Some(b"v"), &[]).unwrap();
    let before = builder.clone().build().unwrap();
    builder.append_at(0, 99, Some(b"k"), Some(b"v"), &[]).unwrap_err();
    assert_eq!(builder.build().unwrap(), before);
}

#[test]
fn a_new_batch_needs_a_record_and_the_right_compressor() {
    assert_eq!(BatchBuilder::new(0).build(), Err(BuildError::Empty));
    let mut gzip = BatchBuilder::new(0).with_compression(Compression::Gzip);
    gzip.append(0, None, None, &[]).unwrap();
    assert!(matches!(gzip.clone().build(), Err(BuildError::Codec { .. })));
    let mut snappy = Compressor::new(Compression::Snappy, None).unwrap();
    assert!(matches!(gzip.build_with(&mut snappy), Err(BuildError::Codec { .. })));
}

#[test]
fn log_append_time_holds_for_all_records() {
    let mut builder = BatchBuilder::new(0).with_log_append_time(77);
    builder.append(5, None, None, &[]).unwrap();
    builder.append(500, None, None, &[]).unwrap();
    let batch = builder.build().unwrap();
    assert_eq!(parse(&batch).max_timestamp, 77);
    assert_eq!(offsets_and_times(&batch), [(0, 77), (1, 77)]);
}

#[test]
fn extreme_timestamps_come_back() {
    let mut builder = BatchBuilder::new(0);
    for timestamp in [i64::MAX, i64::MIN, 0, -1] {
        builder.append(timestamp, None, None, &[]).unwrap();
    }
    let expected = [(0, i64::MAX), (1, i64::MIN), (2, 0), (3, -1)];
    assert_eq!(offsets_and_times(&builder.build().unwrap()), expected);
}

#[test]
fn compaction_keeps_offsets_and_sequences_of_the_batch() {
    let original = five_records();
    let header = parse(&original);
    let mut decompressor = Decompressor::new(1 << 20);
    let mut builder = BatchBuilder::rebuilding(&header);
    for record in decompressor.records(&header, &original).unwrap().map(Result::unwrap) {
        if record.offset == 101 || record.offset == 103 {
            builder.append_view(&record).unwrap();
        }
    }
    let rebuilt = builder.build().unwrap();
    assert_eq!(offsets_and_times(&rebuilt), [(101, 1001), (103, 1003)]);
    let after = parse(&rebuilt);
    assert_eq!((after.base_offset, after.last_offset()), (100, 104));
    assert_eq!(after.last_sequence(), header.last_sequence());
    assert_eq!((after.producer_id, after.producer_epoch), (7, 3));
    assert_eq!((after.partition_leader_epoch, after.record_count), (9, 2));
    assert_eq!((after.base_timestamp, after.max_timestamp), (1001, 1003));

    let mut beyond = BatchBuilder::rebuilding(&header);
    assert!(matches!(beyond.append_at(105, 0, None, None, &[]), Err(BuildError::Offset { .. })));
}

#[test]
fn an_empty_batch_keeps_its_producer_and_its_end() {
    let header = parse(&five_records());
    for codec in Compression::ALL {
        let builder =
            BatchBuilder::rebuilding(&header).with_compression(codec).with_delete_horizon(5000);
        let rebuilt = builder.build().unwrap();
        assert_eq!(rebuilt.len(), HEADER_SIZE);
        let after = parse(&rebuilt);
        assert_eq!((after.base_offset, after.next_offset()), (100, 105));
        assert_eq!((after.producer_id, after.base_sequence), (7, i32::MAX - 1));
        assert_eq!((after.base_timestamp, after.max_timestamp), (NO_TIMESTAMP, 1004));
        assert_eq!((after.record_count, after.attributes), (0, Attributes::default()));
        assert_eq!(offsets_and_times(&rebuilt), []);
    }
}

#[test]
fn a_delete_horizon_leaves_the_timestamps_alone() {
    let original = five_records();
    let mut batch = original;
    // The second pass finds the horizon there and keeps it.
    for builder_horizon in [Some(9_000_000), None] {
        let header = parse(&batch);
        let mut builder = BatchBuilder::rebuilding(&header);
        if let Some(horizon) = builder_horizon {
            builder = builder.with_delete_horizon(horizon);
        }
        let mut decompressor = Decompressor::new(1 << 20);
        for record in decompressor.records(&header, &batch).unwrap() {
            builder.append_view(&record.unwrap()).unwrap();
        }
        let rebuilt = builder.build().unwrap();
        let after = parse(&rebuilt);
        assert_eq!(after.delete_horizon_ms(), Some(9_000_000));
        assert_eq!(after.max_timestamp, 1004);
        assert_eq!(offsets_and_times(&rebuilt), offsets_and_times(&five_records()));
        batch = rebuilt;
    }
}

#[test]
fn record_size_bound_is_one() {
    let headers = [
        RecordHeader { key: b"trace", value: Some(&[7; 300]) },
        RecordHeader { key: b"", value: None },
    ];
    for (key, value) in [(None, None), (Some(&[1; 200][..]), Some(&[2; 70_000][..]))] {
        let mut builder = BatchBuilder::new(0);
        builder.append(i64::MAX, None, None, &[]).unwrap();
        let before = builder.size();
        builder.append_at(i64::from(i32::MAX), i64::MIN, key, value, &headers).unwrap();
        let lengths = (key.map_or(0, <[u8]>::len), value.map_or(0, <[u8]>::len));
        let bound = BatchBuilder::record_size_bound(lengths.0, lengths.1, 2, 305);
        assert!(builder.size() - before <= bound && bound < builder.size() - before + 50);
    }
}
