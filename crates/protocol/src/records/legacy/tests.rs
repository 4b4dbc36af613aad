#![allow(clippy::unwrap_used)]

use super::super::{Compressor, message_set};
use super::*;

/// A message as brokers before 0.11 wrote it.
fn message(
    magic: i8,
    attributes: i8,
    offset: i64,
    timestamp: i64,
    value: Option<&[u8]>,
) -> Vec<u8> {
    let mut body = vec![magic as u8, attributes as u8];
    if magic == 1 {
        body.extend_from_slice(&timestamp.to_be_bytes());
    }
    body.extend_from_slice(&(-1_i32).to_be_bytes());
    match value {
        None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
        Some(value) => {
            body.extend_from_slice(&(value.len() as i32).to_be_bytes());
            body.extend_from_slice(value);
        }
    }
    let mut out = offset.to_be_bytes().to_vec();
    out.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
    out.extend_from_slice(&crc32(&body).to_be_bytes());
    out.extend_from_slice(&body);
    out
}

fn wrapper(magic: i8, attributes: i8, offset: i64, timestamp: i64, inner: &[Vec<u8>]) -> Vec<u8> {
    let mut value = Vec::new();
    let codec = Compression::from_id(attributes as u8 & 7).unwrap();
    Compressor::new(codec, None).unwrap().compress(&inner.concat(), &mut value);
    message(magic, attributes, offset, timestamp, Some(&value))
}

type Read = Result<Vec<(i64, i64, Option<Vec<u8>>)>, RecordError>;

fn read(bytes: &[u8]) -> Read {
    let mut decompressor = Decompressor::new(1 << 20);
    let mut records = Vec::new();
    for batch in message_set(bytes) {
        let batch = batch?;
        batch.verify_crc()?;
        for record in batch.records(&mut decompressor)? {
            let record = record?;
            assert_eq!(record.headers().len(), 0);
            records.push((record.offset, record.timestamp, record.value.map(<[u8]>::to_vec)));
        }
    }
    Ok(records)
}

fn reason(result: Read) -> &'static str {
    match result {
        Err(RecordError::InvalidRecord { reason, .. }) => reason,
        other => panic!("not an invalid record: {other:?}"),
    }
}

const GZIP: i8 = 1;
const LOG_APPEND_TIME: i8 = 8;

#[test]
fn relative_offsets_count_back_from_the_wrapper() {
    let inner =
        [message(1, 0, 0, 10, Some(b"a")), message(1, 0, 1, 11, None), message(1, 0, 4, 9, None)];
    let bytes = wrapper(1, GZIP, 104, 11, &inner);
    let expected = vec![(100, 10, Some(b"a".to_vec())), (101, 11, None), (104, 9, None)];
    assert_eq!(read(&bytes), Ok(expected));
}

#[test]
fn a_wrapper_of_offset_0_from_librdkafka_shifts_nothing() {
    let inner = [message(1, 0, 0, 10, None), message(1, 0, 1, 11, None)];
    assert_eq!(read(&wrapper(1, GZIP, 0, 11, &inner)), Ok(vec![(0, 10, None), (1, 11, None)]));
}

#[test]
fn offsets_of_magic_0_are_absolute() {
    let inner = [message(0, 0, 7, 0, None), message(0, 0, 9, 0, None)];
    assert_eq!(read(&wrapper(0, GZIP, 9, 0, &inner)), Ok(vec![(7, -1, None), (9, -1, None)]));
}

#[test]
fn log_append_time_of_the_wrapper_is_that_of_all() {
    let inner = [message(1, 0, 0, 10, None), message(1, 0, 1, 11, None)];
    let bytes = wrapper(1, GZIP | LOG_APPEND_TIME, 6, 99, &inner);
    assert_eq!(read(&bytes), Ok(vec![(5, 99, None), (6, 99, None)]));
}

#[test]
fn an_incomplete_inner_message_is_left_out() {
    let mut cut = message(1, 0, 1, 11, Some(b"cut"));
    cut.pop();
    let bytes = wrapper(1, GZIP, 5, 11, &[message(1, 0, 0, 10, None), cut]);
    assert_eq!(read(&bytes), Ok(vec![(5, 10, None)]));
}

#[test]
fn wrappers_that_kafka_refuses() {
    let plain = message(1, 0, 3, 10, None);
    assert!(reason(read(&message(1, GZIP, 0, 1, None))).contains("no value"));
    assert!(reason(read(&wrapper(1, GZIP, 5, 1, &[]))).contains("holds no messages"));
    assert!(reason(read(&wrapper(1, GZIP, 2, 1, std::slice::from_ref(&plain)))).contains("lower"));
    let nested = wrapper(1, GZIP, 5, 1, &[wrapper(1, GZIP, 5, 1, &[plain])]);
    assert!(reason(read(&nested)).contains("compressed itself"));
    assert!(reason(read(&message(1, 4, 0, 1, Some(b"")))).contains("zstd"));
    let unknown = read(&message(1, 5, 0, 1, Some(b"")));
    assert_eq!(unknown, Err(RecordError::UnknownCompression { id: 5 }));
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let good = message(1, 0, 0, 1, Some(b"value"));
    for length in [i32::MAX, 6] {
        let mut bytes = good.clone();
        let at = bytes.len() - 9;
        bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
        let fixed = crc32(&bytes[MAGIC_AT..]);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&fixed.to_be_bytes());
        assert!(reason(read(&bytes)).contains("longer than their message"));
    }
    for (magic, size) in [(0, 13), (1, 21), (1, -1), (0, i32::MIN)] {
        let mut bytes = message(magic, 0, 0, 1, None);
        bytes[8..12].copy_from_slice(&size.to_be_bytes());
        let error = read(&bytes).unwrap_err();
        assert_eq!(error, RecordError::InvalidBatchLength { length: size, magic });
    }
}

#[test]
fn cut_at_every_byte_only_whole_messages_are_read() {
    let messages = [message(0, 0, 0, 0, Some(b"a")), message(1, 0, 1, 5, Some(b"b"))];
    let bytes = messages.concat();
    for cut in 0..bytes.len() {
        let whole = usize::from(cut >= messages[0].len());
        assert_eq!(read(&bytes[..cut]).unwrap().len(), whole, "cut at {cut}");
    }
    let mut flipped = bytes.clone();
    flipped[20] ^= 4;
    assert!(matches!(read(&flipped), Err(RecordError::CrcMismatch { .. })));
}
