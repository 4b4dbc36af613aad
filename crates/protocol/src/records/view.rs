//! The records of a batch: views that borrow, and records that share the batch's memory.

use std::borrow::Cow;

use bytes::Bytes;

use super::legacy::{self, LegacyMessage};
use super::{
    BatchHeader, Compression, Decompressor, HEADER_SIZE, RecordError, TimestampType, varint,
};

/// One record, borrowed from a batch or from the buffer that the batch was decompressed into.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Absolute offset.
    pub offset: i64,
    /// In ms since the epoch, -1 for none; the broker's append time where the batch says so.
    pub timestamp: i64,
    /// `None` for null.
    pub key: Option<&'a [u8]>,
    /// `None` for null, which is a tombstone in compacted topics.
    pub value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> RecordView<'a> {
    pub(super) fn without_headers(
        offset: i64,
        timestamp: i64,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
    ) -> RecordView<'a> {
        RecordView { offset, timestamp, key, value, headers: Headers { count: 0, bytes: &[] } }
    }

    /// The headers in order, duplicate keys included. Read as the iterator goes.
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }
}

/// Iterator over the headers of a record.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// The headers as they stand in the record, after their count.
    pub(super) fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = RecordHeader<'a>;

    fn next(&mut self) -> Option<RecordHeader<'a>> {
        if self.count == 0 {
            return None;
        }
        self.count -= 1;
        let header = RecordHeader::take(&mut self.bytes);
        Some(header.expect("headers were checked when the record was read"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Headers<'_> {}
impl std::iter::FusedIterator for Headers<'_> {}

/// One header of a record.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    /// UTF-8 by contract; the bytes as they came, for nobody checks.
    pub key: &'a [u8],
    /// `None` for null.
    pub value: Option<&'a [u8]>,
}

impl<'a> RecordHeader<'a> {
    /// The key as text; invalid UTF-8 is replaced, as Java does.
    #[must_use]
    pub fn key_str(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.key)
    }

    /// Takes a header off `input`, or says which rule it breaks.
    fn take(input: &mut &'a [u8]) -> Result<RecordHeader<'a>, &'static str> {
        let key = take_nullable(input)?.ok_or("a header has no key")?;
        Ok(RecordHeader { key, value: take_nullable(input)? })
    }
}

/// Takes a length and so many bytes off `input`. Any length below 0 is null, as in Kafka.
fn take_nullable<'a>(input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, &'static str> {
    let length = varint::take_i32(input).ok_or("a length is cut off or longer than 5 bytes")?;
    match usize::try_from(length) {
        Err(_) => Ok(None),
        Ok(length) => match input.split_at_checked(length) {
            None => Err("a key, value or header is longer than its record"),
            Some((bytes, rest)) => {
                *input = rest;
                Ok(Some(bytes))
            }
        },
    }
}

/// Iterator over the records of one batch, borrowed. The first error ends it.
///
/// Comes from [`Decompressor::records`] and [`Decompressor::legacy_records`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    cursor: Cursor,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.cursor.advance(self.bytes)
    }
}

impl std::iter::FusedIterator for Records<'_> {}

/// Iterator over the records of one batch that share its memory and may outlive it. The first error ends it.
///
/// Comes from [`Decompressor::records_owned`].
#[derive(Clone, Debug)]
pub struct OwnedRecords {
    bytes: Bytes,
    cursor: Cursor,
}

impl Iterator for OwnedRecords {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let view = self.cursor.advance(&self.bytes)?;
        let slice = |bytes: &[u8]| self.bytes.slice_ref(bytes);
        Some(view.map(|view| {
            Record {
                offset: view.offset,
                timestamp: view.timestamp,
                key: view.key.map(slice),
                value: view.value.map(slice),
                headers: view
                    .headers()
                    .map(|header| OwnedHeader {
                        key: slice(header.key),
                        value: header.value.map(slice),
                    })
                    .collect(),
            }
        }))
    }
}

impl std::iter::FusedIterator for OwnedRecords {}

/// One record that shares the memory of its batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Absolute offset.
    pub offset: i64,
    /// In ms since the epoch, -1 for none.
    pub timestamp: i64,
    /// `None` for null.
    pub key: Option<Bytes>,
    /// `None` for null.
    pub value: Option<Bytes>,
    /// In order, duplicate keys included.
    pub headers: Vec<OwnedHeader>,
}

/// One header of a [`Record`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedHeader {
    /// UTF-8 by contract.
    pub key: Bytes,
    /// `None` for null.
    pub value: Option<Bytes>,
}

impl OwnedHeader {
    /// The key as text; invalid UTF-8 is replaced, as Java does.
    #[must_use]
    pub fn key_str(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }
}

impl Decompressor {
    /// The records of the whole batch `batch`, whose header is `header`.
    ///
    /// Uncompressed records borrow from `batch`, others from a buffer inside the decompressor. The
    /// checksum is not checked here.
    ///
    /// # Errors
    ///
    /// For the batch as a whole: an unknown codec, a negative record count, what
    /// [`Decompressor::decompress`] returns, [`RecordError::Incomplete`] if `batch` is shorter than its
    /// header says. Broken records come from the iterator.
    pub fn records<'a>(
        &'a mut self,
        header: &BatchHeader,
        batch: &'a [u8],
    ) -> Result<Records<'a>, RecordError> {
        let cursor = Cursor::new(header)?;
        let body = body(header, batch)?;
        let bytes = match header.compression()? {
            Compression::None => body,
            // A header-only batch has nothing to decompress, whatever its codec.
            _ if header.record_count == 0 => &[],
            codec => self.decompress(codec, body)?,
        };
        Ok(Records { bytes, cursor })
    }

    /// As [`Decompressor::records`], with records that share the memory of `batch`, or of a buffer of
    /// their own if they are compressed.
    ///
    /// # Errors
    ///
    /// As [`Decompressor::records`].
    pub fn records_owned(
        &mut self,
        header: &BatchHeader,
        batch: &Bytes,
    ) -> Result<OwnedRecords, RecordError> {
        let cursor = Cursor::new(header)?;
        let body = body(header, batch)?;
        let bytes = match header.compression()? {
            Compression::None => batch.slice_ref(body),
            _ if header.record_count == 0 => Bytes::new(),
            codec => self.decompress_owned(codec, body)?,
        };
        Ok(OwnedRecords { bytes, cursor })
    }

    /// The records of a magic 0 or 1 message: itself, or those inside if it is a compressed wrapper.
    ///
    /// # Errors
    ///
    /// As [`Decompressor::records`], and [`RecordError::InvalidRecord`] for wrappers without value or
    /// without messages and for offsets that contradict each other.
    pub fn legacy_records<'a>(
        &'a mut self,
        message: &LegacyMessage<'a>,
    ) -> Result<Records<'a>, RecordError> {
        let (bytes, walk) = legacy::open(self, message)?;
        Ok(Records { bytes, cursor: Cursor::Legacy(walk) })
    }
}

/// The bytes of `batch` after the header, up to where the header says that it ends.
fn body<'a>(header: &BatchHeader, batch: &'a [u8]) -> Result<&'a [u8], RecordError> {
    let needed = header.size_in_bytes();
    batch.get(HEADER_SIZE..needed).ok_or(RecordError::Incomplete { needed, available: batch.len() })
}

/// How far the reading of a batch has come; the bytes are the caller's.
#[derive(Clone, Debug)]
enum Cursor {
    V2(CursorV2),
    Legacy(legacy::Walk),
}

#[derive(Clone, Debug)]
struct CursorV2 {
    position: usize,
    index: u32,
    count: u32,
    base_offset: i64,
    base_timestamp: i64,
    log_append_time: Option<i64>,
}

impl Cursor {
    fn new(header: &BatchHeader) -> Result<Cursor, RecordError> {
        let count = u32::try_from(header.record_count)
            .map_err(|_| RecordError::InvalidRecordCount { count: header.record_count })?;
        Ok(Cursor::V2(CursorV2 {
            position: 0,
            index: 0,
            count,
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            log_append_time: match header.timestamp_type() {
                TimestampType::CreateTime => None,
                TimestampType::LogAppendTime => Some(header.max_timestamp),
            },
        }))
    }

    fn advance<'a>(&mut self, bytes: &'a [u8]) -> Option<Result<RecordView<'a>, RecordError>> {
        match self {
            Cursor::V2(cursor) => cursor.advance(bytes),
            Cursor::Legacy(walk) => walk.advance(bytes),
        }
    }
}

impl CursorV2 {
    fn advance<'a>(&mut self, bytes: &'a [u8]) -> Option<Result<RecordView<'a>, RecordError>> {
        if self.index == self.count {
            return None;
        }
        let mut rest = &bytes[self.position..];
        match self.take_record(&mut rest) {
            Ok(_) if self.index + 1 == self.count && !rest.is_empty() => {
                Some(Err(self.fail("bytes remain after the last record")))
            }
            Ok(record) => {
                self.index += 1;
                self.position = bytes.len() - rest.len();
                Some(Ok(record))
            }
            Err(reason) => Some(Err(self.fail(reason))),
        }
    }

    /// The error for the record at hand, after which the iteration is over.
    fn fail(&mut self, reason: &'static str) -> RecordError {
        let index = self.index;
        self.count = index;
        RecordError::InvalidRecord { index, reason }
    }

    fn take_record<'a>(&self, input: &mut &'a [u8]) -> Result<RecordView<'a>, &'static str> {
        let length = varint::take_i32(input)
            .ok_or("the records end before the declared count, or a length is too long")?;
        let length = usize::try_from(length).map_err(|_| "a record has a negative length")?;
        let (mut record, rest) =
            input.split_at_checked(length).ok_or("a record is longer than its batch")?;
        *input = rest;
        let record = &mut record;

        // Attributes: no bit has a meaning yet.
        let (_, rest) = record.split_first().ok_or("a record has no attributes")?;
        *record = rest;
        let timestamp_delta = varint::take_i64(record).ok_or("the timestamp delta is broken")?;
        let offset_delta = varint::take_i32(record).ok_or("the offset delta is broken")?;
        let key = take_nullable(record)?;
        let value = take_nullable(record)?;
        let count = varint::take_i32(record).ok_or("the header count is broken")?;
        let count = usize::try_from(count).map_err(|_| "the header count is negative")?;
        let headers = Headers { count, bytes: record };
        for _ in 0..count {
            RecordHeader::take(record)?;
        }
        if !record.is_empty() {
            return Err("a record is shorter than its length");
        }
        Ok(RecordView {
            offset: self.base_offset.wrapping_add(i64::from(offset_delta)),
            timestamp: match self.log_append_time {
                Some(time) => time,
                None => self.base_timestamp.wrapping_add(timestamp_delta),
            },
            key,
            value,
            headers,
        })
    }
}
