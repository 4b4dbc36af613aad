//! Record batches under random input: what is built is read back, the `kafka-protocol` crate agrees in
//! both directions, and broken bytes end in an error, never in a panic.

// All codecs take part.
#![cfg(feature = "zstd")]
#![allow(clippy::unwrap_used)]

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as theirs;
use kavka_protocol::records::{
    AnyBatch, BatchBuilder, BatchHeader, Compression, Compressor, Decompressor, HEADER_SIZE,
    OwnedHeader, Record, RecordHeader, increment_sequence, message_set, split_batches, verify_crc,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const CAP: usize = 4 << 20;

/// What a batch is made from.
#[derive(Clone, Debug)]
struct Plan {
    codec: Compression,
    base_offset: i64,
    leader_epoch: i32,
    producer: (i64, i16, i32),
    transactional: bool,
    control: bool,
    records: Vec<Record>,
}

impl Plan {
    fn builder(&self) -> BatchBuilder {
        let (id, epoch, sequence) = self.producer;
        BatchBuilder::new(self.base_offset)
            .with_compression(self.codec)
            .with_leader_epoch(self.leader_epoch)
            .with_producer(id, epoch, sequence)
            .with_transactional(self.transactional)
            .with_control(self.control)
    }

    fn build(&self) -> Bytes {
        let mut builder = self.builder();
        let mut bound = builder.size();
        for record in &self.records {
            let headers: Vec<_> = record
                .headers
                .iter()
                .map(|header| RecordHeader { key: &header.key, value: header.value.as_deref() })
                .collect();
            let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
            bound += BatchBuilder::record_size_bound(
                length(&record.key),
                length(&record.value),
                headers.len(),
                record.headers.iter().map(|header| header.key.len() + length(&header.value)).sum(),
            );
            builder
                .append_at(
                    record.offset,
                    record.timestamp,
                    record.key.as_deref(),
                    record.value.as_deref(),
                    &headers,
                )
                .unwrap();
        }
        assert!(builder.size() <= bound);
        builder.build_with(&mut Compressor::new(self.codec, None).unwrap()).unwrap()
    }
}

fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
    prop_oneof![
        vec(any::<u8>(), 0..most).prop_map(Bytes::from),
        (any::<u8>(), 0..most * 4).prop_map(|(byte, length)| Bytes::from(vec![byte; length])),
    ]
}

fn header() -> impl Strategy<Value = OwnedHeader> {
    let key = select(vec!["", "trace", "trace", "ключ", "a longer key of a header"]);
    (key, option::of(bytes(20)))
        .prop_map(|(key, value)| OwnedHeader { key: Bytes::from_static(key.as_bytes()), value })
}

/// A record whose offset is still the gap to the one before.
fn record(gaps: bool) -> impl Strategy<Value = Record> {
    let gap = if gaps { prop_oneof![Just(0_i64), 0..1000_i64].boxed() } else { Just(0).boxed() };
    let timestamp =
        prop_oneof![1_700_000_000_000..1_700_000_100_000_i64, Just(-1), Just(0), any::<i64>()];
    (gap, timestamp, option::of(bytes(40)), option::of(bytes(300)), vec(header(), 0..4)).prop_map(
        |(offset, timestamp, key, value, headers)| Record {
            offset,
            timestamp,
            key,
            value,
            headers,
        },
    )
}

fn plan(gaps: bool) -> impl Strategy<Value = Plan> {
    let base_offset = prop_oneof![Just(0_i64), 0..1_000_000_i64, Just(i64::MAX - (1 << 20))];
    let sequence = prop_oneof![Just(0), 0..1000, i32::MAX - 20..=i32::MAX];
    let producer =
        prop_oneof![Just((-1_i64, -1_i16, -1_i32)), (0..i64::MAX, 0..=i16::MAX, sequence),];
    (
        select(Compression::ALL.to_vec()),
        base_offset,
        -1..=i32::MAX,
        producer,
        any::<(bool, bool)>(),
        vec(record(gaps), 1..30),
    )
        .prop_map(
            |(
                codec,
                base_offset,
                leader_epoch,
                producer,
                (transactional, control),
                mut records,
            )| {
                let mut next = base_offset;
                for record in &mut records {
                    record.offset += next;
                    next = record.offset + 1;
                }
                Plan { codec, base_offset, leader_epoch, producer, transactional, control, records }
            },
        )
}

fn parse(batch: &Bytes) -> BatchHeader {
    verify_crc(batch).unwrap();
    let header = BatchHeader::parse(batch).unwrap();
    assert_eq!(header.size_in_bytes(), batch.len());
    header
}

/// The records, read both borrowed and owned, which must agree.
fn read(batch: &Bytes) -> Vec<Record> {
    let header = parse(batch);
    let mut decompressor = Decompressor::new(CAP);
    let owned: Vec<_> =
        decompressor.records_owned(&header, batch).unwrap().map(Result::unwrap).collect();
    let views = decompressor.records(&header, batch).unwrap().map(Result::unwrap);
    let mut count = 0;
    for (view, owned) in views.zip(&owned) {
        assert_eq!((view.offset, view.timestamp), (owned.offset, owned.timestamp));
        assert_eq!((view.key, view.value), (owned.key.as_deref(), owned.value.as_deref()));
        assert!(
            view.headers()
                .map(|h| (h.key, h.value))
                .eq(owned.headers.iter().map(|h| (&*h.key, h.value.as_deref())))
        );
        count += 1;
    }
    assert_eq!(count, owned.len());
    owned
}

/// Reads whatever `bytes` are, to the end or to the first error.
fn read_anything(bytes: &[u8]) {
    let mut decompressor = Decompressor::new(64 << 10);
    for batch in message_set(bytes) {
        let Ok(batch) = batch else { return };
        // A wrong checksum would hide all that comes after it.
        let _ = batch.verify_crc();
        if let Ok(records) = batch.records(&mut decompressor) {
            for record in records {
                let Ok(record) = record else { break };
                assert!(record.headers().count() <= bytes.len().max(64 << 10));
            }
        }
        if let AnyBatch::V2(header, _) = batch {
            let _ = (header.next_offset(), header.last_sequence(), header.delete_horizon_ms());
        }
    }
    for batch in split_batches(bytes) {
        let _ = batch;
    }
}

proptest! {
    #[test]
    fn what_is_built_is_read_back(plan in plan(true)) {
        let batch = plan.build();
        let header = parse(&batch);
        prop_assert_eq!(header.compression(), Ok(plan.codec));
        prop_assert_eq!(header.base_offset, plan.base_offset);
        prop_assert_eq!(header.last_offset(), plan.records.last().unwrap().offset);
        let (id, epoch, sequence) = plan.producer;
        prop_assert_eq!((header.producer_id, header.producer_epoch), (id, epoch));
        prop_assert_eq!(header.base_sequence, sequence);
        let last_sequence = match sequence {
            -1 => -1,
            _ => increment_sequence(sequence, header.last_offset_delta),
        };
        prop_assert_eq!(header.last_sequence(), last_sequence);
        prop_assert!(last_sequence >= -1);
        prop_assert_eq!(header.partition_leader_epoch, plan.leader_epoch);
        prop_assert_eq!(header.is_transactional(), plan.transactional);
        prop_assert_eq!(header.is_control(), plan.control);
        prop_assert_eq!(header.record_count as usize, plan.records.len());
        let max_timestamp = plan.records.iter().map(|record| record.timestamp).max();
        prop_assert_eq!(Some(header.max_timestamp), max_timestamp);
        prop_assert_eq!(read(&batch), plan.records);
    }

    #[test]
    fn compaction_keeps_the_frame_and_the_chosen_records(
        plan in plan(true),
        keep in any::<u32>(),
        horizon in option::of(0..i64::MAX),
    ) {
        let batch = plan.build();
        let header = parse(&batch);
        let mut builder = BatchBuilder::rebuilding(&header);
        if let Some(horizon) = horizon {
            builder = builder.with_delete_horizon(horizon);
        }
        let kept = |index: usize| keep >> (index % 32) & 1 == 1;
        let mut decompressor = Decompressor::new(CAP);
        for (index, record) in decompressor.records(&header, &batch).unwrap().enumerate() {
            if kept(index) {
                builder.append_view(&record.unwrap()).unwrap();
            }
        }
        let rebuilt = builder.build_with(&mut Compressor::new(plan.codec, None).unwrap()).unwrap();
        let expected: Vec<_> = plan
            .records
            .iter()
            .enumerate()
            .filter(|&(index, _)| kept(index))
            .map(|(_, record)| record.clone())
            .collect();
        let after = parse(&rebuilt);
        if expected.is_empty() {
            prop_assert_eq!(rebuilt.len(), HEADER_SIZE);
        } else {
            prop_assert_eq!(after.delete_horizon_ms(), horizon);
        }
        prop_assert_eq!(read(&rebuilt), expected);
        prop_assert_eq!(after.base_offset, header.base_offset);
        prop_assert_eq!(after.next_offset(), header.next_offset());
        prop_assert_eq!(after.last_sequence(), header.last_sequence());
        prop_assert_eq!(after.producer_id, header.producer_id);
        prop_assert_eq!(after.producer_epoch, header.producer_epoch);
        prop_assert_eq!(after.partition_leader_epoch, header.partition_leader_epoch);
        prop_assert_eq!(after.is_transactional(), header.is_transactional());
        prop_assert_eq!(after.is_control(), header.is_control());
    }

    #[test]
    fn kafka_protocol_reads_what_is_built_here(mut plan in plan(true)) {
        for record in &mut plan.records {
            // Their timestamp deltas may not overflow.
            record.timestamp = record.timestamp.rem_euclid(1 << 50);
        }
        let decoded = theirs::RecordBatchDecoder::decode(&mut plan.build()).unwrap();
        prop_assert_eq!(decoded.compression as u8, plan.codec.id());
        prop_assert_eq!(decoded.records.len(), plan.records.len());
        for (theirs, ours) in decoded.records.iter().zip(&plan.records) {
            prop_assert_eq!(theirs.offset, ours.offset);
            prop_assert_eq!(theirs.timestamp, ours.timestamp);
            prop_assert_eq!(&theirs.key, &ours.key);
            prop_assert_eq!(&theirs.value, &ours.value);
            prop_assert_eq!(theirs.transactional, plan.transactional);
            prop_assert_eq!(theirs.control, plan.control);
            prop_assert_eq!(theirs.partition_leader_epoch, plan.leader_epoch);
            prop_assert_eq!((theirs.producer_id, theirs.producer_epoch), (plan.producer.0, plan.producer.1));
            // Their headers are a map: the last of equal keys.
            for header in &ours.headers {
                let last = ours.headers.iter().rfind(|other| other.key == header.key).unwrap();
                let key = StrBytes::from_string(header.key_str().into_owned());
                prop_assert_eq!(&theirs.headers[&key], &last.value);
            }
        }
    }

    #[test]
    fn what_kafka_protocol_builds_is_read_here(mut plan in plan(false)) {
        for record in &mut plan.records {
            // Their header map has no duplicates, and their timestamp deltas may not overflow.
            record.headers.sort_by(|a, b| a.key.cmp(&b.key));
            record.headers.dedup_by(|a, b| a.key == b.key);
            record.timestamp = record.timestamp.rem_euclid(1 << 50);
        }
        let (producer_id, producer_epoch, sequence) = plan.producer;
        let records: Vec<_> = plan
            .records
            .iter()
            .map(|record| {
                let mut theirs = theirs::Record {
                    transactional: plan.transactional,
                    control: plan.control,
                    delete_horizon: false,
                    partition_leader_epoch: plan.leader_epoch,
                    producer_id,
                    producer_epoch,
                    timestamp_type: theirs::TimestampType::Creation,
                    offset: record.offset,
                    sequence: sequence.wrapping_add((record.offset - plan.base_offset) as i32),
                    timestamp: record.timestamp,
                    key: record.key.clone(),
                    value: record.value.clone(),
                    headers: Default::default(),
                };
                for header in &record.headers {
                    let key = StrBytes::from_string(header.key_str().into_owned());
                    theirs.headers.insert(key, header.value.clone());
                }
                theirs
            })
            .collect();
        let compression = match plan.codec {
            Compression::None => theirs::Compression::None,
            Compression::Gzip => theirs::Compression::Gzip,
            Compression::Snappy => theirs::Compression::Snappy,
            Compression::Lz4 => theirs::Compression::Lz4,
            Compression::Zstd => theirs::Compression::Zstd,
        };
        let options = theirs::RecordEncodeOptions { version: 2, compression };
        let mut out = BytesMut::new();
        theirs::RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
        let batch = out.freeze();
        let header = parse(&batch);
        prop_assert_eq!(header.compression(), Ok(plan.codec));
        prop_assert_eq!(header.base_offset, plan.base_offset);
        prop_assert_eq!(header.base_sequence, sequence);
        prop_assert_eq!(read(&batch), plan.records);
    }

    #[test]
    fn a_batch_cut_anywhere_is_incomplete(plan in plan(true)) {
        let batch = plan.build();
        for cut in 0..batch.len() {
            let torn = &batch[..cut];
            prop_assert_eq!(message_set(torn).count(), 0);
            match split_batches(torn).next() {
                None => prop_assert_eq!(cut, 0),
                Some(result) => prop_assert!(result.unwrap_err().is_incomplete()),
            }
            if let Ok(header) = BatchHeader::parse(torn) {
                let mut decompressor = Decompressor::new(CAP);
                prop_assert!(decompressor.records(&header, torn).unwrap_err().is_incomplete());
            }
        }
    }

    /// As a producer that means harm could send it: the checksum is right, the rest is cut.
    #[test]
    fn records_cut_anywhere_are_an_error(plan in plan(true), cut in any::<prop::sample::Index>()) {
        let batch = plan.build();
        let cut = HEADER_SIZE + cut.index(batch.len() - HEADER_SIZE);
        let mut header = parse(&batch);
        header.batch_length = (cut - 12) as i32;
        let mut torn = batch[..cut].to_vec();
        header.write(&mut torn);
        let mut decompressor = Decompressor::new(CAP);
        let failed = match decompressor.records(&header, &torn) {
            Err(_) => true,
            Ok(records) => records.last().unwrap().is_err(),
        };
        // gzip members and LZ4 frames end in something, and so does all else but snappy's framing,
        // where the last record is missing then.
        prop_assert!(failed, "cut at {cut}");
    }

    #[test]
    fn flipped_bits_never_panic(
        plan in plan(true),
        flips in vec((any::<prop::sample::Index>(), 0..8_u32), 1..6),
    ) {
        let mut batch = plan.build().to_vec();
        for (at, bit) in flips {
            let at = at.index(batch.len());
            batch[at] ^= 1_u8 << bit;
        }
        read_anything(&batch);
    }

    #[test]
    fn any_bytes_never_panic(
        mut bytes in vec(any::<u8>(), 0..400),
        magic in 0..3_u8,
        codec in 0..8_u8,
        length in 0..400_i32,
        count in 0..20_i32,
    ) {
        read_anything(&bytes);
        // The same with a header that lets them get further.
        if bytes.len() > HEADER_SIZE {
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[16] = magic;
            bytes[17] = codec;
            if magic == 2 {
                bytes[21..23].copy_from_slice(&[0, codec]);
                bytes[57..61].copy_from_slice(&count.to_be_bytes());
            }
            read_anything(&bytes);
        }
    }
}
