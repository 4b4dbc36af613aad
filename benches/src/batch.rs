//! Record batches built once and sent many times.

use bytes::Bytes;
use kavka_protocol::records::{
    Attributes, BatchHeader, HEADER_SIZE, LOG_OVERHEAD, MAGIC_V2, NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID, NO_SEQUENCE, crc32c,
};

/// The bytes of the header that its checksum does not cover: up to and with the checksum itself.
const UNCHECKED_BYTES: usize = 21;

/// A batch as a producer sends it, base offset 0, uncompressed, and how many records it has.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) bytes: Bytes,
    pub(crate) records: i64,
}

impl Batch {
    /// As many records with values of `value_bytes` as go into `batch_bytes`, one at least. `timestamp_ms` is that of all.
    ///
    /// The values are pseudo-random bytes, so that nothing on the way can win by finding them equal.
    pub(crate) fn build(batch_bytes: usize, value_bytes: usize, timestamp_ms: i64) -> Batch {
        let mut bytes = vec![0; HEADER_SIZE];
        let mut records = 0_i32;
        let mut record = Vec::new();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        loop {
            record.clear();
            record.push(0); // attributes
            put_varint(&mut record, 0); // timestamp delta
            put_varint(&mut record, i64::from(records)); // offset delta
            put_varint(&mut record, -1); // no key
            put_varint(&mut record, value_bytes as i64);
            for _ in 0..value_bytes {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                record.push(random as u8);
            }
            put_varint(&mut record, 0); // no headers
            if records > 0 && bytes.len() + record.len() + 2 > batch_bytes {
                break;
            }
            put_varint(&mut bytes, record.len() as i64);
            bytes.extend_from_slice(&record);
            records += 1;
        }
        let mut header = BatchHeader {
            base_offset: 0,
            batch_length: (bytes.len() - LOG_OVERHEAD) as i32,
            partition_leader_epoch: -1,
            magic: MAGIC_V2,
            crc: 0,
            attributes: Attributes(0),
            last_offset_delta: records - 1,
            base_timestamp: timestamp_ms,
            max_timestamp: timestamp_ms,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            record_count: records,
        };
        header.write(&mut bytes);
        header.crc = crc32c(&bytes[UNCHECKED_BYTES..]);
        header.write(&mut bytes);
        Batch { bytes: bytes.into(), records: i64::from(records) }
    }
}

/// A varint in zigzag form, as records use it.
fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use kavka_protocol::records::verify_crc;

    use super::*;

    #[test]
    fn a_batch_is_valid_and_as_full_as_it_can_be() {
        let batch = Batch::build(16 * 1024, 100, 1_700_000_000_000);
        verify_crc(&batch.bytes).unwrap();
        let header = BatchHeader::parse(&batch.bytes).unwrap();
        assert_eq!(header.batch_length as usize + LOG_OVERHEAD, batch.bytes.len());
        assert_eq!(i64::from(header.record_count), batch.records);
        assert!((16 * 1024 - 120..=16 * 1024).contains(&batch.bytes.len()));
    }

    #[test]
    fn a_record_larger_than_the_batch_still_goes_in() {
        assert_eq!(Batch::build(100, 1000, 0).records, 1);
    }
}
