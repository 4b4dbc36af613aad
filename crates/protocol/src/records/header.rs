//! The 61-byte header of a magic 2 batch: reading, writing and the changes a broker makes in place.

use std::fmt;

use super::{RecordError, crc32c};

/// Bytes of base offset and batch length, which the batch length field does not count.
pub const LOG_OVERHEAD: usize = 12;
/// Bytes of a magic 2 header, up to the first record.
pub const HEADER_SIZE: usize = 61;
/// The current batch format.
pub const MAGIC_V2: i8 = 2;
/// The timestamp of records that have none.
pub const NO_TIMESTAMP: i64 = -1;
/// The producer id of batches written without idempotence.
pub const NO_PRODUCER_ID: i64 = -1;
/// The producer epoch of batches written without idempotence.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// The base sequence of batches written without idempotence, and of control batches.
pub const NO_SEQUENCE: i32 = -1;

const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
pub(super) const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const RECORD_COUNT_AT: usize = 57;

/// Smallest value of the length field: a header without records.
const MIN_BATCH_LENGTH: i32 = (HEADER_SIZE - LOG_OVERHEAD) as i32;

/// The header of a magic 2 record batch, all fields as they stand in the bytes.
///
/// ```text
///  0 base offset i64             12 partition leader epoch i32   16 magic i8 = 2
///  8 batch length i32            17 crc u32 (CRC-32C of 21..)    21 attributes i16
/// 23 last offset delta i32       27 base timestamp i64           35 max timestamp i64
/// 43 producer id i64             51 producer epoch i16           53 base sequence i32
/// 57 record count i32            61 records
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the batch's first record, also when compaction took that record away.
    pub base_offset: i64,
    /// Bytes of the batch after this field.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch; -1 when unknown. Not covered by the checksum.
    pub partition_leader_epoch: i32,
    /// Always 2 in a header that was parsed.
    pub magic: i8,
    /// CRC-32C of all bytes from the attributes on.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// Last offset of the batch minus its base offset.
    pub last_offset_delta: i32,
    /// What the timestamp deltas of the records count from, in ms; the delete horizon if that flag is set.
    pub base_timestamp: i64,
    /// Largest timestamp of the records, in ms; with LogAppendTime the timestamp of all.
    pub max_timestamp: i64,
    /// Producer id, or -1.
    pub producer_id: i64,
    /// Producer epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Number of records in the batch.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`. The records need not be there; the checksum is not checked.
    ///
    /// # Errors
    ///
    /// [`RecordError::Incomplete`] if `bytes` ends inside the header, [`RecordError::UnsupportedMagic`]
    /// for magic 0, 1 and unknown ones, [`RecordError::InvalidBatchLength`] if the length field is too
    /// small for a header.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, RecordError> {
        let magic = match bytes.get(MAGIC_AT) {
            Some(&magic) => magic as i8,
            None => return Err(incomplete_header(bytes)),
        };
        if magic != MAGIC_V2 {
            return Err(RecordError::UnsupportedMagic { magic });
        }
        let batch_length = i32_at(bytes, LENGTH_AT);
        if batch_length < MIN_BATCH_LENGTH {
            return Err(RecordError::InvalidBatchLength { length: batch_length, magic });
        }
        if bytes.len() < HEADER_SIZE {
            return Err(incomplete_header(bytes));
        }
        Ok(BatchHeader {
            base_offset: i64_at(bytes, 0),
            batch_length,
            partition_leader_epoch: i32_at(bytes, LEADER_EPOCH_AT),
            magic,
            crc: i32_at(bytes, CRC_AT) as u32,
            attributes: Attributes(i16_at(bytes, ATTRIBUTES_AT)),
            last_offset_delta: i32_at(bytes, LAST_OFFSET_DELTA_AT),
            base_timestamp: i64_at(bytes, BASE_TIMESTAMP_AT),
            max_timestamp: i64_at(bytes, MAX_TIMESTAMP_AT),
            producer_id: i64_at(bytes, PRODUCER_ID_AT),
            producer_epoch: i16_at(bytes, PRODUCER_EPOCH_AT),
            base_sequence: i32_at(bytes, BASE_SEQUENCE_AT),
            record_count: i32_at(bytes, RECORD_COUNT_AT),
        })
    }

    /// Writes the header to the first 61 bytes of `out`, with the checksum as it stands in `self.crc`.
    ///
    /// # Panics
    ///
    /// If `out` is shorter than [`HEADER_SIZE`].
    pub fn write(&self, out: &mut [u8]) {
        assert!(out.len() >= HEADER_SIZE, "no room for a batch header in {} bytes", out.len());
        put(out, 0, self.base_offset.to_be_bytes());
        put(out, LENGTH_AT, self.batch_length.to_be_bytes());
        put(out, LEADER_EPOCH_AT, self.partition_leader_epoch.to_be_bytes());
        put(out, MAGIC_AT, self.magic.to_be_bytes());
        put(out, CRC_AT, self.crc.to_be_bytes());
        put(out, ATTRIBUTES_AT, self.attributes.0.to_be_bytes());
        put(out, LAST_OFFSET_DELTA_AT, self.last_offset_delta.to_be_bytes());
        put(out, BASE_TIMESTAMP_AT, self.base_timestamp.to_be_bytes());
        put(out, MAX_TIMESTAMP_AT, self.max_timestamp.to_be_bytes());
        put(out, PRODUCER_ID_AT, self.producer_id.to_be_bytes());
        put(out, PRODUCER_EPOCH_AT, self.producer_epoch.to_be_bytes());
        put(out, BASE_SEQUENCE_AT, self.base_sequence.to_be_bytes());
        put(out, RECORD_COUNT_AT, self.record_count.to_be_bytes());
    }

    /// Offset of the batch's last record. Wraps around, as Java does, in a batch made to overflow.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset.wrapping_add(i64::from(self.last_offset_delta))
    }

    /// The offset after the batch, where a reader goes on.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().wrapping_add(1)
    }

    /// Bytes of the whole batch: 12 and the batch length.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        LOG_OVERHEAD + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// Sequence number of the last record, which wraps to 0 after 2147483647; -1 if there is none.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == NO_SEQUENCE {
            NO_SEQUENCE
        } else {
            increment_sequence(self.base_sequence, self.last_offset_delta)
        }
    }

    /// True if an idempotent or transactional producer wrote the batch.
    #[must_use]
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// The codec of the records.
    ///
    /// # Errors
    ///
    /// [`RecordError::UnknownCompression`] for codec bits 5 to 7.
    pub fn compression(&self) -> Result<Compression, RecordError> {
        self.attributes.compression()
    }

    /// Whether the timestamps are the producer's or the broker's.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        self.attributes.timestamp_type()
    }

    /// True if the batch belongs to a transaction (markers too).
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes.is_transactional()
    }

    /// True if the batch holds control records, which applications never see.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes.is_control()
    }

    /// When tombstones and markers of this batch may be removed, in ms since the epoch (KIP-534).
    #[must_use]
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        self.attributes.has_delete_horizon().then_some(self.base_timestamp)
    }
}

/// The attributes field of a magic 2 header.
#[derive(Copy, Clone, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    const COMPRESSION: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// The codec of the records.
    ///
    /// # Errors
    ///
    /// [`RecordError::UnknownCompression`] for codec bits 5 to 7.
    pub fn compression(self) -> Result<Compression, RecordError> {
        Compression::from_id((self.0 & Self::COMPRESSION) as u8)
    }

    /// Bit 3.
    #[must_use]
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Bit 4.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Bit 5.
    #[must_use]
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Bit 6: the base timestamp is the delete horizon.
    #[must_use]
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// The same attributes with another codec.
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Attributes {
        Attributes(self.0 & !Self::COMPRESSION | i16::from(compression.id()))
    }

    /// The same attributes with another timestamp type.
    #[must_use]
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Attributes {
        self.with(Self::LOG_APPEND_TIME, timestamp_type == TimestampType::LogAppendTime)
    }

    /// The same attributes, transactional or not.
    #[must_use]
    pub fn with_transactional(self, transactional: bool) -> Attributes {
        self.with(Self::TRANSACTIONAL, transactional)
    }

    /// The same attributes, of a control batch or not.
    #[must_use]
    pub fn with_control(self, control: bool) -> Attributes {
        self.with(Self::CONTROL, control)
    }

    /// The same attributes, with the delete horizon flag or without.
    #[must_use]
    pub fn with_delete_horizon(self, delete_horizon: bool) -> Attributes {
        self.with(Self::DELETE_HORIZON, delete_horizon)
    }

    fn with(self, bit: i16, on: bool) -> Attributes {
        Attributes(if on { self.0 | bit } else { self.0 & !bit })
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attributes")
            .field("bits", &self.0)
            .field("compression", &self.compression().ok())
            .field("timestamp_type", &self.timestamp_type())
            .field("transactional", &self.is_transactional())
            .field("control", &self.is_control())
            .field("delete_horizon", &self.has_delete_horizon())
            .finish()
    }
}

/// The codec of a batch's records. Displays as Kafka's `compression.type` spells it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// Stored as they are.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks in the framing of snappy-java.
    Snappy,
    /// LZ4 frame.
    Lz4,
    /// Zstandard frame (KIP-110).
    Zstd,
}

impl Compression {
    /// All codecs, by id.
    pub const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// The codec of codec bits `id`.
    ///
    /// # Errors
    ///
    /// [`RecordError::UnknownCompression`] if there is none of that id.
    pub fn from_id(id: u8) -> Result<Compression, RecordError> {
        match Self::ALL.get(usize::from(id)) {
            Some(&codec) => Ok(codec),
            None => Err(RecordError::UnknownCompression { id }),
        }
    }

    /// The codec bits.
    #[must_use]
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The name that Kafka's configs use: `none`, `gzip`, `snappy`, `lz4`, `zstd`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// The codec of that name, or `None` for other names (`producer` and `uncompressed` too, which
    /// only a topic's config knows).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Compression> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose clock the timestamps of a batch come from (KIP-32).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The broker's, at the append: all records of the batch have its max timestamp.
    LogAppendTime,
}

impl fmt::Display for TimestampType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        })
    }
}

/// `sequence` moved on by `increment` records; 0 follows 2147483647. Neither may be negative, which
/// in bytes from elsewhere gives some number and never a panic.
#[must_use]
pub fn increment_sequence(sequence: i32, increment: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(increment);
    if sum > i64::from(i32::MAX) { (sum - i64::from(i32::MAX) - 1) as i32 } else { sum as i32 }
}

/// Checks the CRC-32C of a whole magic 2 batch, as [`split_batches`](super::split_batches) yields it.
///
/// # Errors
///
/// [`RecordError::CrcMismatch`]; [`RecordError::Incomplete`] if there is not even a header.
pub fn verify_crc(batch: &[u8]) -> Result<(), RecordError> {
    if batch.len() < HEADER_SIZE {
        return Err(incomplete_header(batch));
    }
    let stored = i32_at(batch, CRC_AT) as u32;
    let computed = crc32c(&batch[ATTRIBUTES_AT..]);
    if stored == computed { Ok(()) } else { Err(RecordError::CrcMismatch { stored, computed }) }
}

/// Gives the batch its place in the log. The checksum does not cover it. Record offsets follow, for
/// they are deltas.
///
/// # Panics
///
/// If `batch` is shorter than a header.
pub fn patch_base_offset(batch: &mut [u8], base_offset: i64) {
    assert_header(batch);
    put(batch, 0, base_offset.to_be_bytes());
}

/// Stamps the batch with the epoch of the leader that appends it. The checksum does not cover it.
///
/// # Panics
///
/// If `batch` is shorter than a header.
pub fn patch_leader_epoch(batch: &mut [u8], leader_epoch: i32) {
    assert_header(batch);
    put(batch, LEADER_EPOCH_AT, leader_epoch.to_be_bytes());
}

/// Sets the timestamp type and the max timestamp (ms) of the batch, and the checksum if they changed.
///
/// With [`TimestampType::LogAppendTime`] this gives all records the time of the append without
/// touching them. `batch` must be one whole batch.
///
/// # Panics
///
/// If `batch` is shorter than a header.
pub fn patch_timestamps(batch: &mut [u8], timestamp_type: TimestampType, max_timestamp: i64) {
    assert_header(batch);
    let before = Attributes(i16_at(batch, ATTRIBUTES_AT));
    let after = before.with_timestamp_type(timestamp_type);
    if before == after && i64_at(batch, MAX_TIMESTAMP_AT) == max_timestamp {
        return;
    }
    put(batch, ATTRIBUTES_AT, after.0.to_be_bytes());
    put(batch, MAX_TIMESTAMP_AT, max_timestamp.to_be_bytes());
    write_crc(batch);
}

/// Sets the producer of the batch and the sequence number of its first record, and the checksum. `batch` must be one whole batch.
///
/// # Panics
///
/// If `batch` is shorter than a header.
pub fn patch_producer(batch: &mut [u8], id: i64, epoch: i16, base_sequence: i32) {
    assert_header(batch);
    put(batch, PRODUCER_ID_AT, id.to_be_bytes());
    put(batch, PRODUCER_EPOCH_AT, epoch.to_be_bytes());
    put(batch, BASE_SEQUENCE_AT, base_sequence.to_be_bytes());
    write_crc(batch);
}

/// Computes the checksum of the whole batch `batch` and stores it in its header.
pub(super) fn write_crc(batch: &mut [u8]) {
    let crc = crc32c(&batch[ATTRIBUTES_AT..]);
    put(batch, CRC_AT, crc.to_be_bytes());
}

/// The error for bytes that end before the header does, with the batch's size where it is known.
fn incomplete_header(bytes: &[u8]) -> RecordError {
    let needed = match bytes.len() {
        0..=MAGIC_AT => MAGIC_AT + 1,
        _ => HEADER_SIZE,
    };
    RecordError::Incomplete { needed, available: bytes.len() }
}

fn assert_header(batch: &[u8]) {
    assert!(batch.len() >= HEADER_SIZE, "{} bytes are not a record batch", batch.len());
}

/// The `N` bytes at `at`, which the caller knows to be there.
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

pub(super) fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(array_at(bytes, at))
}

pub(super) fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(array_at(bytes, at))
}

pub(super) fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(array_at(bytes, at))
}

fn put<const N: usize>(out: &mut [u8], at: usize, value: [u8; N]) {
    out[at..at + N].copy_from_slice(&value);
}

#[cfg(test)]
mod tests;
