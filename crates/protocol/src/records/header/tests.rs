#![allow(clippy::unwrap_used)]

use bytes::Bytes;

use super::super::{split_batches, split_bytes};
use super::*;

/// One record with key `key` and value `value`, as Apache Kafka 4.4 writes it.
const ONE_RECORD: [u8; 76] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0x29, 2, 0xa0, 0x14, 0xd8, 0x0b, 0, 0, 0, 0, 0,
    0, 0, 0, 0x01, 0x75, 0x4f, 0xae, 0xeb, 0x68, 0, 0, 0x01, 0x75, 0x4f, 0xae, 0xeb, 0x68, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0x1c,
    0, 0, 0, 0x06, 0x6b, 0x65, 0x79, 0x0a, 0x76, 0x61, 0x6c, 0x75, 0x65, 0,
];

#[test]
fn fields_are_read_and_written_back() {
    let header = BatchHeader::parse(&ONE_RECORD).unwrap();
    assert_eq!(header.base_offset, 0);
    assert_eq!(header.partition_leader_epoch, 41);
    assert_eq!(header.crc, 2_685_720_587);
    assert_eq!(header.base_timestamp, 1_603_359_665_000);
    assert_eq!(header.max_timestamp, 1_603_359_665_000);
    assert_eq!(header.producer_id, -1);
    assert_eq!(header.last_sequence(), -1);
    assert_eq!(header.record_count, 1);
    assert_eq!(header.size_in_bytes(), ONE_RECORD.len());
    assert_eq!(header.next_offset(), 1);
    assert_eq!(header.compression(), Ok(Compression::None));
    assert_eq!(header.delete_horizon_ms(), None);
    verify_crc(&ONE_RECORD).unwrap();

    let mut out = [0; HEADER_SIZE];
    header.write(&mut out);
    assert_eq!(out, ONE_RECORD[..HEADER_SIZE]);
}

#[test]
fn a_patched_producer_is_read_back_under_a_checksum_that_holds() {
    let mut batch = ONE_RECORD;
    patch_producer(&mut batch, 4_000_000_001, 7, 123);
    verify_crc(&batch).unwrap();
    let header = BatchHeader::parse(&batch).unwrap();
    assert_eq!((header.producer_id, header.producer_epoch), (4_000_000_001, 7));
    assert_eq!((header.base_sequence, header.last_sequence()), (123, 123));
    patch_producer(&mut batch, NO_PRODUCER_ID, NO_PRODUCER_EPOCH, NO_SEQUENCE);
    assert_eq!(batch, ONE_RECORD);
}

#[test]
fn patches_outside_the_checksum_keep_it() {
    let mut batch = ONE_RECORD;
    patch_base_offset(&mut batch, 77);
    patch_leader_epoch(&mut batch, 5);
    verify_crc(&batch).unwrap();
    let header = BatchHeader::parse(&batch).unwrap();
    assert_eq!((header.base_offset, header.partition_leader_epoch), (77, 5));
    assert_eq!(header.last_offset(), 77);
}

#[test]
fn log_append_time_gets_a_new_checksum() {
    let mut batch = ONE_RECORD;
    patch_timestamps(&mut batch, TimestampType::LogAppendTime, 99);
    verify_crc(&batch).unwrap();
    let header = BatchHeader::parse(&batch).unwrap();
    assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(header.max_timestamp, 99);

    let same = batch;
    patch_timestamps(&mut batch, TimestampType::LogAppendTime, 99);
    assert_eq!(batch, same);

    patch_timestamps(&mut batch, TimestampType::CreateTime, 1_603_359_665_000);
    assert_eq!(batch, ONE_RECORD);
}

#[test]
fn sequence_wraps_to_zero() {
    assert_eq!(increment_sequence(0, 0), 0);
    assert_eq!(increment_sequence(5, 3), 8);
    assert_eq!(increment_sequence(i32::MAX, 0), i32::MAX);
    assert_eq!(increment_sequence(i32::MAX, 1), 0);
    assert_eq!(increment_sequence(i32::MAX - 1, 3), 1);
    assert_eq!(increment_sequence(i32::MAX, i32::MAX), i32::MAX - 1);
}

#[test]
fn attributes_keep_the_other_bits() {
    let attributes = Attributes(0x7f00_u16 as i16)
        .with_compression(Compression::Zstd)
        .with_timestamp_type(TimestampType::LogAppendTime)
        .with_transactional(true)
        .with_control(true)
        .with_delete_horizon(true);
    assert_eq!(attributes.0, 0x7f00 | 0b111_1100);
    assert_eq!(attributes.compression(), Ok(Compression::Zstd));
    assert!(attributes.is_transactional() && attributes.is_control());
    assert!(attributes.has_delete_horizon());
    let cleared = attributes
        .with_compression(Compression::None)
        .with_timestamp_type(TimestampType::CreateTime)
        .with_transactional(false)
        .with_control(false)
        .with_delete_horizon(false);
    assert_eq!(cleared.0, 0x7f00);
    for id in 5..8 {
        assert_eq!(
            Attributes(i16::from(id)).compression(),
            Err(RecordError::UnknownCompression { id })
        );
    }
    for codec in Compression::ALL {
        assert_eq!(Compression::from_id(codec.id()), Ok(codec));
        assert_eq!(Compression::from_name(codec.name()), Some(codec));
    }
    assert_eq!(Compression::from_name("producer"), None);
}

#[test]
fn a_torn_tail_is_not_corruption() {
    let two = [ONE_RECORD, ONE_RECORD].concat();
    for cut in 0..two.len() {
        let torn = &two[..cut];
        let mut batches = split_batches(torn);
        let whole = batches.by_ref().take_while(Result::is_ok).count();
        assert_eq!(whole, cut / ONE_RECORD.len(), "cut at {cut}");
        assert_eq!(batches.position(), whole * ONE_RECORD.len());
        assert!(batches.next().is_none());

        let last = split_bytes(Bytes::copy_from_slice(torn)).last();
        match last {
            None => assert_eq!(cut, 0),
            Some(Ok(_)) => assert_eq!(cut % ONE_RECORD.len(), 0),
            Some(Err(error)) => assert!(error.is_incomplete(), "cut at {cut}: {error}"),
        }
    }
}

#[test]
fn corruption_is_not_a_torn_tail() {
    let mut bad_magic = [ONE_RECORD, ONE_RECORD].concat();
    bad_magic[ONE_RECORD.len() + MAGIC_AT] = 9;
    let last = split_batches(&bad_magic).last().unwrap();
    assert_eq!(last, Err(RecordError::UnsupportedMagic { magic: 9 }));

    for length in [i32::MIN, -1, 0, 48] {
        let mut short = ONE_RECORD;
        put(&mut short, LENGTH_AT, length.to_be_bytes());
        let error = split_batches(&short).next().unwrap().unwrap_err();
        assert_eq!(error, RecordError::InvalidBatchLength { length, magic: 2 });
    }

    for bit in 0..8 {
        for at in (CRC_AT..ONE_RECORD.len()).chain([CRC_AT]) {
            let mut flipped = ONE_RECORD;
            flipped[at] ^= 1 << bit;
            let error = verify_crc(&flipped).unwrap_err();
            assert!(matches!(error, RecordError::CrcMismatch { .. }), "bit {bit} of byte {at}");
        }
    }
    assert!(verify_crc(&ONE_RECORD[..60]).unwrap_err().is_incomplete());
}
