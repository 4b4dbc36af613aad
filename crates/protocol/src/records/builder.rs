//! Writing magic 2 batches: new ones, and those that compaction makes of old ones.

use bytes::Bytes;

use super::header::write_crc;
use super::{
    Attributes, BatchHeader, Compression, Compressor, HEADER_SIZE, LOG_OVERHEAD, MAGIC_V2,
    NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, RecordHeader, RecordView,
    TimestampType, varint,
};

/// Most bytes of a batch: its length is an int32.
const MAX_BATCH: usize = i32::MAX as usize;

/// Collects records and makes a batch of them.
///
/// ```
/// use kavka_protocol::records::{BatchBuilder, split_batches};
///
/// let mut batch = BatchBuilder::new(0).with_producer(1000, 0, 0);
/// batch.append(1_700_000_000_000, Some(b"key"), Some(b"value"), &[])?;
/// let bytes = batch.build()?;
/// assert_eq!(split_batches(&bytes).count(), 1);
/// # Ok::<(), kavka_protocol::records::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    log_append_time: Option<i64>,
    /// Keeps the last offset of the batch that is rebuilt, also when its last record is gone.
    keeps_last_offset: bool,
    /// 61 bytes for the header, then the records, not yet compressed.
    buffer: Vec<u8>,
    count: i32,
    last_offset: Option<i64>,
    max_timestamp: Option<i64>,
}

/// Why a record does not fit into a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The batch would be larger than 2 GiB, or a field longer than an int32 can say.
    #[error("a record batch of {size} bytes is larger than 2147483647 bytes")]
    TooLarge {
        /// Bytes of the batch with this record, at least.
        size: usize,
    },
    /// The offset does not rise, or lies outside the offsets of the batch.
    #[error("offset {offset} does not fit into a batch of base offset {base_offset}: {reason}")]
    Offset {
        /// Offset of the record.
        offset: i64,
        /// Base offset of the batch.
        base_offset: i64,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A new batch has no records. (A rebuilt one may have none.)
    #[error("a new record batch needs a record")]
    Empty,
    /// The batch wants another codec than the compressor has.
    #[error("the batch is to be {wanted}, the compressor writes {compressor}")]
    Codec {
        /// Codec of the batch.
        wanted: Compression,
        /// Codec of the compressor.
        compressor: Compression,
    },
}

impl BatchBuilder {
    /// A new batch: CreateTime, not compressed, no producer, leader epoch -1.
    #[must_use]
    pub fn new(base_offset: i64) -> BatchBuilder {
        BatchBuilder::from_header(BatchHeader {
            base_offset,
            batch_length: 0,
            partition_leader_epoch: -1,
            magic: MAGIC_V2,
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: 0,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            record_count: 0,
        })
    }

    /// A batch to take the place of the one with this header, with all or some of its records or none,
    /// as compaction writes it.
    ///
    /// Kept are base offset and last offset, producer id, epoch and base sequence, leader epoch, flags,
    /// codec, and the delete horizon if there is one. Records are added by [`BatchBuilder::append_view`].
    #[must_use]
    pub fn rebuilding(header: &BatchHeader) -> BatchBuilder {
        let mut builder = BatchBuilder::from_header(*header);
        builder.keeps_last_offset = true;
        if header.timestamp_type() == TimestampType::LogAppendTime {
            builder.log_append_time = Some(header.max_timestamp);
        }
        builder
    }

    fn from_header(header: BatchHeader) -> BatchBuilder {
        BatchBuilder {
            header,
            log_append_time: None,
            keeps_last_offset: false,
            buffer: vec![0; HEADER_SIZE],
            count: 0,
            last_offset: None,
            max_timestamp: None,
        }
    }

    /// Makes room for a batch of so many bytes before compression, header included, at once.
    ///
    /// As long as [`BatchBuilder::size`] and the [`record_size_bound`](BatchBuilder::record_size_bound) of a record are
    /// together no more than that, appending the record allocates nothing.
    #[must_use]
    pub fn with_capacity(mut self, bytes: usize) -> BatchBuilder {
        self.buffer.reserve_exact(bytes.saturating_sub(self.buffer.len()));
        self
    }

    /// Collects the records in this buffer, in place of what it holds.
    ///
    /// # Panics
    ///
    /// If records were appended already.
    #[must_use]
    pub fn with_buffer(mut self, mut buffer: Vec<u8>) -> BatchBuilder {
        assert_eq!(self.count, 0, "the buffer comes before the first record");
        buffer.clear();
        buffer.resize(HEADER_SIZE, 0);
        self.buffer = buffer;
        self
    }

    /// The codec that [`BatchBuilder::build_with`] will be given.
    #[must_use]
    pub fn with_compression(mut self, codec: Compression) -> BatchBuilder {
        self.header.attributes = self.header.attributes.with_compression(codec);
        self
    }

    /// The producer of the batch and the sequence number of its first record.
    #[must_use]
    pub fn with_producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> BatchBuilder {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Whether the batch is part of a transaction.
    #[must_use]
    pub fn with_transactional(mut self, transactional: bool) -> BatchBuilder {
        self.header.attributes = self.header.attributes.with_transactional(transactional);
        self
    }

    /// Whether the batch holds control records.
    #[must_use]
    pub fn with_control(mut self, control: bool) -> BatchBuilder {
        self.header.attributes = self.header.attributes.with_control(control);
        self
    }

    /// The epoch of the leader that writes the batch.
    #[must_use]
    pub fn with_leader_epoch(mut self, leader_epoch: i32) -> BatchBuilder {
        self.header.partition_leader_epoch = leader_epoch;
        self
    }

    /// LogAppendTime: all records have this timestamp, in ms, whatever they are appended with.
    #[must_use]
    pub fn with_log_append_time(mut self, timestamp: i64) -> BatchBuilder {
        self.header.attributes =
            self.header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
        self.log_append_time = Some(timestamp);
        self
    }

    /// When tombstones and markers of this batch may be removed, in ms since the epoch (KIP-534).
    ///
    /// # Panics
    ///
    /// If records were appended: their timestamps count from this.
    #[must_use]
    pub fn with_delete_horizon(mut self, delete_horizon_ms: i64) -> BatchBuilder {
        assert_eq!(self.count, 0, "the delete horizon comes before the first record");
        self.header.attributes = self.header.attributes.with_delete_horizon(true);
        self.header.base_timestamp = delete_horizon_ms;
        self
    }

    /// Number of records so far.
    #[inline]
    #[must_use]
    pub fn record_count(&self) -> usize {
        self.count.unsigned_abs() as usize
    }

    /// Bytes of the batch so far, before compression; exact if there is none.
    #[inline]
    #[must_use]
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    /// Most bytes by which a record of this many bytes of key, value and headers makes the batch grow.
    ///
    /// `header_bytes` are those of all header keys and values together.
    #[inline]
    #[must_use]
    pub fn record_size_bound(
        key_bytes: usize,
        value_bytes: usize,
        headers: usize,
        header_bytes: usize,
    ) -> usize {
        // Attributes, timestamp, and int32s: record length, offset, key, value and header count.
        const FIXED: usize = 1 + 10 + 5 * 5;
        [key_bytes, value_bytes, headers.saturating_mul(10), header_bytes]
            .into_iter()
            .fold(FIXED, usize::saturating_add)
    }

    /// Appends a record at the offset after the last one, and returns that offset.
    ///
    /// `timestamp` is in ms since the epoch, -1 for none.
    ///
    /// # Errors
    ///
    /// [`BuildError::TooLarge`], [`BuildError::Offset`] at the end of the offsets. The batch stays as it was.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) -> Result<i64, BuildError> {
        let offset = match self.last_offset {
            None => self.header.base_offset,
            // Cannot rise further: the check of the offset will refuse it.
            Some(last) => last.saturating_add(1),
        };
        self.append_at(offset, timestamp, key, value, headers)?;
        Ok(offset)
    }

    /// Appends a record at `offset`, which must be larger than the last; gaps are allowed.
    ///
    /// # Errors
    ///
    /// [`BuildError::TooLarge`], [`BuildError::Offset`]. The batch stays as it was.
    pub fn append_at(
        &mut self,
        offset: i64,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) -> Result<(), BuildError> {
        let headers_size = headers.iter().fold(0_usize, |size, header| {
            size.saturating_add(nullable_size(Some(header.key)))
                .saturating_add(nullable_size(header.value))
        });
        self.append_record(offset, timestamp, key, value, headers.len(), headers_size, |out| {
            for header in headers {
                put_nullable(out, Some(header.key));
                put_nullable(out, header.value);
            }
        })
    }

    /// Appends a record as it was read, with its offset and timestamp.
    ///
    /// # Errors
    ///
    /// [`BuildError::TooLarge`], [`BuildError::Offset`]. The batch stays as it was.
    pub fn append_view(&mut self, record: &RecordView<'_>) -> Result<(), BuildError> {
        let headers = record.headers();
        let bytes = headers.as_bytes();
        self.append_record(
            record.offset,
            record.timestamp,
            record.key,
            record.value,
            headers.len(),
            bytes.len(),
            |out| out.extend_from_slice(bytes),
        )
    }

    #[allow(clippy::too_many_arguments)]
    fn append_record(
        &mut self,
        offset: i64,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        header_count: usize,
        headers_size: usize,
        put_headers: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), BuildError> {
        let offset_delta = self.offset_delta(offset)?;
        let timestamp = self.log_append_time.unwrap_or(timestamp);
        let base_timestamp = match self.count {
            0 if !self.header.attributes.has_delete_horizon() => timestamp,
            _ => self.header.base_timestamp,
        };
        let timestamp_delta = timestamp.wrapping_sub(base_timestamp);

        let body = [
            1,
            varint::size(timestamp_delta),
            varint::size(i64::from(offset_delta)),
            nullable_size(key),
            nullable_size(value),
            varint::size(i64::try_from(header_count).unwrap_or(i64::MAX)),
            headers_size,
        ]
        .into_iter()
        .fold(0, usize::saturating_add);
        let size = self.buffer.len().saturating_add(body).saturating_add(5);
        if size > MAX_BATCH {
            return Err(BuildError::TooLarge { size });
        }

        let out = &mut self.buffer;
        out.reserve(body + 5);
        // All of these are parts of `body`, which fits an int32.
        varint::put_i32(out, body as i32);
        let start = out.len();
        out.push(0);
        varint::put_i64(out, timestamp_delta);
        varint::put_i32(out, offset_delta);
        put_nullable(out, key);
        put_nullable(out, value);
        varint::put_i32(out, header_count as i32);
        put_headers(out);
        assert_eq!(out.len() - start, body, "size of a record was computed wrong");

        self.header.base_timestamp = base_timestamp;
        self.count += 1;
        self.last_offset = Some(offset);
        self.max_timestamp = Some(self.max_timestamp.map_or(timestamp, |max| max.max(timestamp)));
        Ok(())
    }

    fn offset_delta(&self, offset: i64) -> Result<i32, BuildError> {
        let base_offset = self.header.base_offset;
        let fail = |reason| Err(BuildError::Offset { offset, base_offset, reason });
        if self.last_offset.is_some_and(|last| offset <= last) {
            return fail("it is not larger than the one before");
        }
        if self.keeps_last_offset && offset > self.header.last_offset() {
            return fail("it lies after the last offset of the batch that is rebuilt");
        }
        match offset.checked_sub(base_offset).map(i32::try_from) {
            Some(Ok(delta)) if delta >= 0 => Ok(delta),
            _ => fail("offsets of a batch are at most 2147483647 after its base offset"),
        }
    }

    /// The batch, not compressed.
    ///
    /// # Errors
    ///
    /// [`BuildError::Empty`] for a new batch without records; [`BuildError::Codec`] if the batch is to
    /// be compressed.
    pub fn build(self) -> Result<Bytes, BuildError> {
        let codec = self.codec();
        if codec != Compression::None && self.count > 0 {
            return Err(BuildError::Codec { wanted: codec, compressor: Compression::None });
        }
        self.finish(Ok)
    }

    /// The batch, with its records compressed by `compressor`.
    ///
    /// # Errors
    ///
    /// [`BuildError::Empty`] for a new batch without records; [`BuildError::Codec`] if `compressor` is
    /// not one of the batch's codec; [`BuildError::TooLarge`].
    pub fn build_with(self, compressor: &mut Compressor) -> Result<Bytes, BuildError> {
        Ok(self.build_recycling(compressor)?.0)
    }

    /// As [`BatchBuilder::build_with`]; and the buffer in which the records were collected, if they are compressed, to be used for another batch.
    ///
    /// # Errors
    ///
    /// As [`BatchBuilder::build_with`].
    pub fn build_recycling(
        self,
        compressor: &mut Compressor,
    ) -> Result<(Bytes, Option<Vec<u8>>), BuildError> {
        let wanted = self.codec();
        if wanted != compressor.codec() {
            return Err(BuildError::Codec { wanted, compressor: compressor.codec() });
        }
        if wanted == Compression::None {
            return Ok((self.build()?, None));
        }
        let mut collected = None;
        let batch = self.finish(|records| {
            let compressed = compressor.compress_behind(HEADER_SIZE, &records[HEADER_SIZE..]);
            collected = Some(records);
            match compressed.len() {
                size if size > MAX_BATCH => Err(BuildError::TooLarge { size }),
                _ => Ok(compressed),
            }
        })?;
        Ok((batch, collected))
    }

    fn codec(&self) -> Compression {
        // A header from elsewhere with codec bits 5 to 7 has no records that could be read and rebuilt.
        self.header.compression().unwrap_or(Compression::None)
    }

    fn finish(
        self,
        compress: impl FnOnce(Vec<u8>) -> Result<Vec<u8>, BuildError>,
    ) -> Result<Bytes, BuildError> {
        let mut header = self.header;
        header.record_count = self.count;
        let mut batch = match (self.last_offset, self.max_timestamp) {
            (Some(last_offset), Some(max_timestamp)) => {
                if !self.keeps_last_offset {
                    header.last_offset_delta = (last_offset - header.base_offset) as i32;
                }
                header.max_timestamp = max_timestamp;
                compress(self.buffer)?
            }
            _ if self.keeps_last_offset => {
                // As `DefaultRecordBatch.writeEmptyHeader`: the max timestamp stays, nothing else of time.
                header.attributes = header
                    .attributes
                    .with_compression(Compression::None)
                    .with_delete_horizon(false);
                header.base_timestamp = NO_TIMESTAMP;
                self.buffer
            }
            _ => return Err(BuildError::Empty),
        };
        header.batch_length = (batch.len() - LOG_OVERHEAD) as i32;
        header.write(&mut batch);
        write_crc(&mut batch);
        Ok(batch.into())
    }
}

/// Bytes of a length and a value.
#[inline]
fn nullable_size(value: Option<&[u8]>) -> usize {
    match value {
        None => 1,
        Some(value) => {
            let length = i64::try_from(value.len()).unwrap_or(i64::MAX);
            varint::size(length).saturating_add(value.len())
        }
    }
}

/// Writes a length and a value; the caller has checked that the length fits.
#[inline]
fn put_nullable(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => varint::put_i32(out, -1),
        Some(value) => {
            varint::put_i32(out, value.len() as i32);
            out.extend_from_slice(value);
        }
    }
}

#[cfg(test)]
mod tests;
