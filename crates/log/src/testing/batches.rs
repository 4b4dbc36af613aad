//! Batches for tests: uncompressed, with keys, timestamps, producers and markers.

use bytes::{BufMut, Bytes};
use kavka_protocol::records::{Attributes, BatchHeader, HEADER_SIZE, LOG_OVERHEAD, crc32c};

/// Builds one uncompressed batch.
#[derive(Debug, Clone)]
pub struct Batch {
    header: BatchHeader,
    records: Vec<(i64, Option<Vec<u8>>, Option<Vec<u8>>)>,
}

impl Batch {
    /// An empty batch at `base_offset`, leader epoch 0.
    #[must_use]
    pub fn at(base_offset: i64) -> Self {
        let header = BatchHeader {
            base_offset,
            batch_length: 0,
            partition_leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: Attributes(0),
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        };
        Self { header, records: Vec::new() }
    }

    /// Sets the leader epoch.
    #[must_use]
    pub fn epoch(mut self, epoch: i32) -> Self {
        self.header.partition_leader_epoch = epoch;
        self
    }

    /// Makes it the batch of a producer; transactional if asked for.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, sequence: i32, transactional: bool) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = sequence;
        self.header.attributes = self.header.attributes.with_transactional(transactional);
        self
    }

    /// Makes it a transaction marker: abort or commit.
    #[must_use]
    pub fn marker(mut self, id: i64, epoch: i16, commit: bool, timestamp: i64) -> Self {
        self = self.producer(id, epoch, -1, true);
        self.header.attributes = self.header.attributes.with_control(true);
        let key = [0, 0, 0, u8::from(commit)].to_vec();
        self.records.push((timestamp, Some(key), Some(vec![0; 6])));
        self
    }

    /// Adds a record; no value makes it a tombstone.
    #[must_use]
    pub fn record(mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        self.records.push((timestamp, key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec)));
        self
    }

    /// The bytes, with a right checksum.
    #[must_use]
    pub fn build(mut self) -> Bytes {
        let mut body = Vec::new();
        let base = self.records.first().map_or(0, |record| record.0);
        for (i, (timestamp, key, value)) in self.records.iter().enumerate() {
            let mut record = vec![0_u8];
            varint(&mut record, timestamp - base);
            varint(&mut record, i as i64);
            for field in [key, value] {
                match field {
                    Some(bytes) => {
                        varint(&mut record, bytes.len() as i64);
                        record.put_slice(bytes);
                    }
                    None => varint(&mut record, -1),
                }
            }
            varint(&mut record, 0);
            varint(&mut body, record.len() as i64);
            body.put_slice(&record);
        }
        let count = self.records.len() as i32;
        let header = &mut self.header;
        header.batch_length = (HEADER_SIZE - LOG_OVERHEAD + body.len()) as i32;
        header.last_offset_delta = (count - 1).max(0);
        header.base_timestamp = base;
        header.max_timestamp = self.records.iter().map(|record| record.0).max().unwrap_or(-1);
        header.record_count = count;
        let mut bytes = vec![0; HEADER_SIZE];
        header.write(&mut bytes);
        bytes.put_slice(&body);
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes.into()
    }
}

/// A batch of `count` records at `base_offset`, whose bytes tell `seed` and the offset: keys of
/// a few bytes, values of `value_bytes`, timestamps that equal the offsets.
#[must_use]
pub fn payload(base_offset: i64, count: usize, value_bytes: usize, seed: u64) -> Bytes {
    let mut batch = Batch::at(base_offset);
    for i in 0..count {
        let offset = base_offset + i as i64;
        let mut value = format!("{seed:x}/{offset}/").into_bytes();
        value.resize(value_bytes.max(value.len()), b'.');
        let key = format!("k{}", (offset as u64).wrapping_mul(seed | 1) % 7);
        batch = batch.record(offset, Some(key.as_bytes()), Some(&value));
    }
    batch.build()
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}
