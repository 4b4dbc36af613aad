//! Appending: what a producer sends is checked, numbered and written; what a coordinator writes is only numbered and written.
//!
//! The checks and their order are Apache Kafka's (`LogValidator`): size, checksum, counts, then every record's timestamp and
//! key. Bytes are kept as they came unless the topic asks for another codec; only base offset, leader epoch and, with
//! LogAppendTime, the timestamps in the header are written over.

use std::{cell::RefCell, fmt};

use bytes::{Bytes, BytesMut};
use kavka_log::{AppendClass, AppendOptions, Durability, LogError};
use kavka_meta::config::topic::{self, CompressionType, TopicConfig};
use kavka_protocol::{
    ErrorCode,
    records::{
        BatchBuilder, BatchHeader, BuildError, Compression, Compressor, Decompressor, HEADER_SIZE,
        NO_TIMESTAMP, RecordError, TimestampType, patch_base_offset, patch_leader_epoch,
        patch_timestamps, verify_crc,
    },
};

use super::{Appender, Partition, log_error_code, producer_state::Check};

/// What became of a produced batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Produced {
    /// The offset of its first record.
    pub(crate) base_offset: i64,
    /// The offset after its last record: durable once the high watermark is there.
    pub(crate) end_offset: i64,
    /// With LogAppendTime, the time; -1 otherwise.
    pub(crate) log_append_time: i64,
}

/// Why a batch was not appended.
#[derive(Clone, Debug)]
pub(crate) struct AppendError {
    code: ErrorCode,
    message: String,
    /// The records that are to blame: index in the batch, and why.
    pub(crate) records: Vec<(i32, String)>,
}

impl AppendError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), records: Vec::new() }
    }

    /// What the client is told.
    pub(crate) fn code(&self) -> ErrorCode {
        self.code
    }

    /// The same, in words.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code.name())
    }
}

impl From<LogError> for AppendError {
    fn from(error: LogError) -> Self {
        Self::new(log_error_code(&error), error.to_string())
    }
}

impl From<RecordError> for AppendError {
    fn from(error: RecordError) -> Self {
        let code = match error {
            RecordError::CrcMismatch { .. } | RecordError::InvalidBatchLength { .. } => {
                ErrorCode::CorruptMessage
            }
            _ => ErrorCode::InvalidRecord,
        };
        Self::new(code, error.to_string())
    }
}

thread_local! {
    /// Buffers of the codecs, kept between batches.
    static DECOMPRESSOR: RefCell<Option<Decompressor>> = const { RefCell::new(None) };
}

/// Runs `work` with this thread's decompressor, made anew when the limit is another one.
fn with_decompressor<T>(limit: usize, work: impl FnOnce(&mut Decompressor) -> T) -> T {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(kept) if kept.max_decompressed_bytes() == limit => kept,
            _ => kept.insert(Decompressor::new(limit)),
        };
        work(decompressor)
    })
}

/// A batch that passed the checks, ready to be numbered.
struct Checked {
    header: BatchHeader,
    batch: BytesMut,
    log_append_time: i64,
}

impl Partition {
    /// Appends the batch of a producer.
    ///
    /// # Errors
    /// Nothing was appended; the code says why.
    pub(crate) fn produce(&self, records: &Bytes, now_ms: i64) -> Result<Produced, AppendError> {
        let config = self.config();
        let Checked { header, mut batch, log_append_time } = check(records, &config, now_ms)?;

        let mut appender = self.appender();
        let checked = appender.producers.check(&header).map_err(|code| {
            let sequence = header.base_sequence;
            let producer = (header.producer_id, header.producer_epoch);
            let what = format!("producer {} epoch {}, sequence {sequence}", producer.0, producer.1);
            AppendError::new(code, format!("{}: {what}: {}", self.id, code.message()))
        })?;
        if let Check::Duplicate(before) = checked {
            return Ok(Produced {
                base_offset: before.base_offset(),
                end_offset: before.next_offset(),
                log_append_time: if log_append_time == -1 { -1 } else { before.timestamp },
            });
        }
        let base_offset = self.log.log_end_offset();
        patch_base_offset(&mut batch, base_offset);
        patch_leader_epoch(&mut batch, self.leader_epoch);
        let end_offset = self.write(&mut appender, batch.freeze(), AppendClass::Produce)?;
        appender.producers.appended(&BatchHeader { base_offset, ..header }, now_ms);
        Ok(Produced { base_offset, end_offset, log_append_time })
    }

    /// Appends records of a coordinator as one batch; returns the offset of the first. `encode` puts a record's key and value
    /// into two buffers and tells whether there is a value.
    ///
    /// # Errors
    /// Nothing was appended.
    pub(crate) fn append_records<R>(
        &self,
        records: &[R],
        encode: impl Fn(&R, &mut Vec<u8>, &mut Vec<u8>) -> Result<bool, AppendError>,
        now_ms: i64,
    ) -> Result<i64, AppendError> {
        let too_large =
            |error: BuildError| AppendError::new(ErrorCode::MessageTooLarge, error.to_string());
        // Held so that nothing else takes the offset in between.
        let mut appender = self.appender();
        let base_offset = self.log.log_end_offset();
        let mut builder = BatchBuilder::new(base_offset).with_leader_epoch(self.leader_epoch);
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for record in records {
            let has_value = encode(record, &mut key, &mut value)?;
            let value = has_value.then_some(&value[..]);
            builder.append(now_ms, Some(&key), value, &[]).map_err(too_large)?;
        }
        let batch = builder.build().map_err(too_large)?;
        self.write(&mut appender, batch, AppendClass::Coordinator)?;
        Ok(base_offset)
    }

    /// One buffered write.
    fn write(
        &self,
        appender: &mut Appender,
        batch: Bytes,
        class: AppendClass,
    ) -> Result<i64, LogError> {
        let options = AppendOptions { durability: Durability::Synced, class };
        let bytes = batch.len() as u64;
        let appended = self.log.append(batch, options)?;
        appender.unsaved_bytes += bytes;
        if appended.durable {
            self.gate.advance(appended.end_offset);
        }
        Ok(appended.end_offset)
    }
}

/// The checks on a producer's batch, in Kafka's order.
fn check(records: &Bytes, config: &TopicConfig, now_ms: i64) -> Result<Checked, AppendError> {
    let invalid = |message: String| AppendError::new(ErrorCode::InvalidRecord, message);
    let header = match BatchHeader::parse(records) {
        Ok(header) => header,
        Err(RecordError::UnsupportedMagic { magic: magic @ 0..=1 }) => {
            return Err(invalid(format!("magic {magic} is read, but no longer produced")));
        }
        Err(RecordError::UnsupportedMagic { magic }) => {
            let message = format!("magic {magic} of a record batch is not supported");
            return Err(AppendError::new(ErrorCode::CorruptMessage, message));
        }
        Err(error) => return Err(error.into()),
    };
    let size = header.size_in_bytes();
    let Some(batch) = records.get(..size) else {
        return Err(invalid(format!("{} of {size} bytes of the batch are there", records.len())));
    };
    // Incomplete bytes after the batch are cut off, a second whole batch is an error.
    if BatchHeader::parse(&records[size..])
        .is_ok_and(|second| records.len() - size >= second.size_in_bytes())
    {
        return Err(invalid("a produce request carries one batch for each partition".into()));
    }
    if header.base_offset != 0 {
        return Err(invalid(format!("base offset {} should be 0", header.base_offset)));
    }
    if size > max_message_bytes(config) {
        return Err(AppendError::new(
            ErrorCode::MessageTooLarge,
            format!("batch of {size} bytes; max.message.bytes is {}", config.max_message_bytes),
        ));
    }
    verify_crc(batch)?;
    check_header(&header).map_err(invalid)?;
    if size > usize::try_from(config.segment_bytes).unwrap_or(0) {
        return Err(AppendError::new(
            ErrorCode::RecordListTooLarge,
            format!("batch of {size} bytes; segment.bytes is {}", config.segment_bytes),
        ));
    }

    let scan = with_decompressor(max_decompressed_bytes(config), |decompressor| {
        scan_records(&header, batch, config, now_ms, decompressor)
    })?;
    let codec = header.compression()?;
    let wanted = wanted_codec(config).unwrap_or(codec);
    let (mut header, mut batch) =
        if wanted != codec || (codec != Compression::None && scan.has_gaps) {
            let rebuilt = recompress(&header, batch, wanted, config)?;
            (BatchHeader::parse(&rebuilt)?, BytesMut::from(&rebuilt[..]))
        } else {
            (header, BytesMut::from(batch))
        };
    let append_time = if log_append_time(config) { now_ms } else { -1 };
    if log_append_time(config) {
        patch_timestamps(&mut batch, TimestampType::LogAppendTime, now_ms);
        header.max_timestamp = now_ms;
    } else {
        patch_timestamps(&mut batch, TimestampType::CreateTime, scan.max_timestamp);
        header.max_timestamp = scan.max_timestamp;
    }
    Ok(Checked { header, batch, log_append_time: append_time })
}

/// What the header promises has to fit together.
fn check_header(header: &BatchHeader) -> Result<(), String> {
    let count = header.record_count;
    if count <= 0 || i64::from(header.last_offset_delta) + 1 != i64::from(count) {
        let delta = header.last_offset_delta;
        return Err(format!("last offset delta {delta} does not fit {count} records"));
    }
    if header.is_control() {
        return Err("clients cannot write control records".into());
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        let (id, sequence) = (header.producer_id, header.base_sequence);
        return Err(format!("producer id {id} with base sequence {sequence}"));
    }
    Ok(())
}

/// What reading all records of a batch showed.
struct Scan {
    max_timestamp: i64,
    /// The offset deltas are not 0, 1, 2, …
    has_gaps: bool,
}

fn scan_records(
    header: &BatchHeader,
    batch: &[u8],
    config: &TopicConfig,
    now_ms: i64,
    decompressor: &mut Decompressor,
) -> Result<Scan, AppendError> {
    let claims_append_time = header.timestamp_type() == TimestampType::LogAppendTime;
    let mut scan = Scan { max_timestamp: NO_TIMESTAMP, has_gaps: false };
    let mut bad_times = Vec::new();
    let mut bad_keys = Vec::new();
    for (index, record) in (0_i32..).zip(decompressor.records(header, batch)?) {
        let record = record?;
        scan.has_gaps |= record.offset != header.base_offset + i64::from(index);
        scan.max_timestamp = scan.max_timestamp.max(record.timestamp);
        if claims_append_time && (log_append_time(config) || record.timestamp == NO_TIMESTAMP) {
            bad_times.push((index, "the timestamp type is the broker's to set".to_owned()));
        } else if !log_append_time(config)
            && let Some(why) = timestamp_fault(record.timestamp, config, now_ms)
        {
            bad_times.push((index, why));
        }
        if config.cleanup_policy.compact && record.key.is_none() {
            bad_keys.push((index, "Compacted topic cannot accept message without key".to_owned()));
        }
    }
    let (code, message) = if bad_times.is_empty() {
        (ErrorCode::InvalidRecord, "One or more records have been rejected")
    } else {
        (
            ErrorCode::InvalidTimestamp,
            "One or more records have been rejected due to invalid timestamp",
        )
    };
    let mut records = bad_keys;
    records.append(&mut bad_times);
    if records.is_empty() {
        return Ok(scan);
    }
    records.sort();
    Err(AppendError { records, ..AppendError::new(code, message) })
}

/// Why a record's timestamp is out of range, if it is.
fn timestamp_fault(timestamp: i64, config: &TopicConfig, now_ms: i64) -> Option<String> {
    if timestamp == NO_TIMESTAMP {
        return None;
    }
    let (before, after) =
        (config.message_timestamp_before_max_ms, config.message_timestamp_after_max_ms);
    let fault =
        |range: String| format!("Timestamp {timestamp} of message is out of range: {range}");
    if now_ms.saturating_sub(timestamp) > before {
        return Some(fault(format!("more than {before} ms before {now_ms}")));
    }
    (timestamp.saturating_sub(now_ms) > after)
        .then(|| fault(format!("more than {after} ms after {now_ms}")))
}

/// The same records in another codec, or with offsets in a row.
fn recompress(
    header: &BatchHeader,
    batch: &[u8],
    codec: Compression,
    config: &TopicConfig,
) -> Result<Bytes, AppendError> {
    let failed = |error: &dyn fmt::Display| {
        AppendError::new(ErrorCode::UnknownServerError, format!("cannot recompress: {error}"))
    };
    let mut builder = BatchBuilder::new(0)
        .with_compression(codec)
        .with_producer(header.producer_id, header.producer_epoch, header.base_sequence)
        .with_transactional(header.is_transactional());
    with_decompressor(max_decompressed_bytes(config), |decompressor| {
        for (offset, record) in (0..).zip(decompressor.records(header, batch)?) {
            let mut record = record?;
            record.offset = offset;
            builder.append_view(&record).map_err(|error| failed(&error))?;
        }
        Ok::<_, AppendError>(())
    })?;
    let mut compressor =
        Compressor::new(codec, compression_level(config, codec)).map_err(|error| failed(&error))?;
    let rebuilt = builder.build_with(&mut compressor).map_err(|error| failed(&error))?;
    assert!(rebuilt.len() >= HEADER_SIZE, "a rebuilt batch has a header");
    if rebuilt.len() > max_message_bytes(config) {
        let (size, limit) = (rebuilt.len(), config.max_message_bytes);
        let message = format!("{size} bytes after recompression; max.message.bytes is {limit}");
        return Err(AppendError::new(ErrorCode::MessageTooLarge, message));
    }
    Ok(rebuilt)
}

fn max_message_bytes(config: &TopicConfig) -> usize {
    usize::try_from(config.max_message_bytes).unwrap_or(0)
}

fn max_decompressed_bytes(config: &TopicConfig) -> usize {
    usize::try_from(config.max_decompressed_message_bytes).unwrap_or(0)
}

fn log_append_time(config: &TopicConfig) -> bool {
    config.message_timestamp_type == topic::TimestampType::LogAppendTime
}

/// The codec that the topic asks for; `None` keeps the producer's.
fn wanted_codec(config: &TopicConfig) -> Option<Compression> {
    Some(match config.compression_type {
        CompressionType::Producer => return None,
        CompressionType::Uncompressed => Compression::None,
        CompressionType::Gzip => Compression::Gzip,
        CompressionType::Snappy => Compression::Snappy,
        CompressionType::Lz4 => Compression::Lz4,
        CompressionType::Zstd => Compression::Zstd,
    })
}

/// The level that the topic asks for; `None` is the codec's default.
fn compression_level(config: &TopicConfig, codec: Compression) -> Option<i32> {
    match codec {
        Compression::Gzip => Some(config.compression_gzip_level).filter(|level| *level != -1),
        Compression::Zstd => Some(config.compression_zstd_level),
        _ => None,
    }
}
