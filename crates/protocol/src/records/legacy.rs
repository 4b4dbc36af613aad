//! Messages of magic 0 and 1, from before Kafka 0.11: read, never written.
//!
//! A compressed message is a wrapper whose value is a message set. Offsets inside are absolute in magic
//! 0 and relative to the first in magic 1, where the wrapper has the offset of the last.

use super::compression::HeaderChecksum;
use super::header::{MAGIC_AT, i32_at, i64_at};
use super::{
    Compression, Decompressor, LOG_OVERHEAD, NO_TIMESTAMP, RecordError, RecordView, TimestampType,
    crc32,
};

/// Bytes of a magic 0 message without key and value, after the size field: checksum, magic, attributes and two lengths.
pub(super) const MIN_SIZE: i32 = 14;
/// Bytes of a magic 1 message without key and value: a timestamp more.
const MIN_SIZE_V1: i32 = 22;

const CRC_AT: usize = 12;
const ATTRIBUTES_AT: usize = 17;
const TIMESTAMP_AT: usize = 18;

/// A magic 0 or 1 message with its offset, borrowed: one record, or a wrapper of compressed ones.
///
/// ```text
///  0 offset i64       8 size i32       12 crc u32 (CRC-32 of 16..)    16 magic i8    17 attributes i8
/// 18 timestamp i64 (magic 1)     then key and value, each with a length i32, -1 for null
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct LegacyMessage<'a> {
    /// Offset of the message; of a wrapper, that of its last message.
    pub offset: i64,
    /// 0 or 1.
    pub magic: i8,
    /// CRC-32 as stored.
    pub crc: u32,
    /// Bits 0 to 2 codec, bit 3 timestamp type (magic 1).
    pub attributes: i8,
    /// In ms since the epoch, -1 in magic 0; of a wrapper, the largest inside.
    pub timestamp: i64,
    /// `None` for null.
    pub key: Option<&'a [u8]>,
    /// `None` for null; of a wrapper, the compressed message set.
    pub value: Option<&'a [u8]>,
    bytes: &'a [u8],
}

impl<'a> LegacyMessage<'a> {
    /// Reads the message at the start of `bytes`. The checksum is not checked.
    ///
    /// # Errors
    ///
    /// [`RecordError::Incomplete`], [`RecordError::InvalidBatchLength`], [`RecordError::UnsupportedMagic`]
    /// for all magics but 0 and 1, [`RecordError::InvalidRecord`] if key and value do not fit.
    pub fn parse(bytes: &'a [u8]) -> Result<LegacyMessage<'a>, RecordError> {
        let available = bytes.len();
        if available <= MAGIC_AT {
            return Err(RecordError::Incomplete { needed: MAGIC_AT + 1, available });
        }
        let magic = bytes[MAGIC_AT] as i8;
        let min_size = match magic {
            0 => MIN_SIZE,
            1 => MIN_SIZE_V1,
            _ => return Err(RecordError::UnsupportedMagic { magic }),
        };
        let size = i32_at(bytes, 8);
        if size < min_size {
            return Err(RecordError::InvalidBatchLength { length: size, magic });
        }
        let needed = LOG_OVERHEAD + size.unsigned_abs() as usize;
        let bytes = bytes.get(..needed).ok_or(RecordError::Incomplete { needed, available })?;

        let (timestamp, body_at) = match magic {
            0 => (NO_TIMESTAMP, TIMESTAMP_AT),
            _ => (i64_at(bytes, TIMESTAMP_AT), TIMESTAMP_AT + 8),
        };
        let body = &mut &bytes[body_at..];
        Ok(LegacyMessage {
            offset: i64_at(bytes, 0),
            magic,
            crc: i32_at(bytes, CRC_AT) as u32,
            attributes: bytes[ATTRIBUTES_AT] as i8,
            timestamp,
            key: take_nullable(body)?,
            value: take_nullable(body)?,
            bytes,
        })
    }

    /// Bytes of the message with offset and size.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The message's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Checks the CRC-32.
    ///
    /// # Errors
    ///
    /// [`RecordError::CrcMismatch`].
    pub fn verify_crc(&self) -> Result<(), RecordError> {
        let computed = crc32(&self.bytes[MAGIC_AT..]);
        if computed == self.crc {
            Ok(())
        } else {
            Err(RecordError::CrcMismatch { stored: self.crc, computed })
        }
    }

    /// The codec; of anything but [`Compression::None`] the message is a wrapper.
    ///
    /// # Errors
    ///
    /// [`RecordError::UnknownCompression`] for codec bits 5 to 7.
    pub fn compression(&self) -> Result<Compression, RecordError> {
        Compression::from_id(self.attributes as u8 & 0b111)
    }

    /// `None` in magic 0, which has no timestamps.
    #[must_use]
    pub fn timestamp_type(&self) -> Option<TimestampType> {
        match (self.magic, self.attributes & 0b1000) {
            (0, _) => None,
            (_, 0) => Some(TimestampType::CreateTime),
            _ => Some(TimestampType::LogAppendTime),
        }
    }
}

/// Takes a length and so many bytes off `input`. Any length below 0 is null, as in Kafka.
fn take_nullable<'a>(input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordError> {
    const TOO_SHORT: RecordError = RecordError::InvalidRecord {
        index: 0,
        reason: "key and value are longer than their message",
    };
    let (length, rest) = input.split_first_chunk::<4>().ok_or(TOO_SHORT)?;
    *input = rest;
    match usize::try_from(i32::from_be_bytes(*length)) {
        Err(_) => Ok(None),
        Ok(length) => {
            let (bytes, rest) = input.split_at_checked(length).ok_or(TOO_SHORT)?;
            *input = rest;
            Ok(Some(bytes))
        }
    }
}

/// How far the reading of a message, or of those in a wrapper, has come.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    position: usize,
    index: u32,
    /// Added to the offsets of the messages.
    offset_shift: i64,
    /// Timestamp of all messages, if the broker set it.
    log_append_time: Option<i64>,
    wrapped: bool,
}

/// Decompresses the message if it is a wrapper; the bytes and the walk over the messages in them.
pub(super) fn open<'a>(
    decompressor: &'a mut Decompressor,
    message: &LegacyMessage<'a>,
) -> Result<(&'a [u8], Walk), RecordError> {
    let mut walk = Walk {
        position: 0,
        index: 0,
        offset_shift: 0,
        log_append_time: (message.timestamp_type() == Some(TimestampType::LogAppendTime))
            .then_some(message.timestamp),
        wrapped: false,
    };
    let invalid = |reason| RecordError::InvalidRecord { index: 0, reason };
    let codec = match message.compression()? {
        Compression::None => return Ok((message.bytes, walk)),
        Compression::Zstd => return Err(invalid("magic 0 and 1 know no zstd")),
        codec => codec,
    };
    let value = message.value.ok_or(invalid("a compressed message has no value"))?;
    let lz4_header = match message.magic {
        0 => HeaderChecksum::Ignored,
        _ => HeaderChecksum::Checked,
    };
    let inner = decompressor.decompress_frame(codec, lz4_header, value)?;

    // The last offset must be known before the first record can be given out.
    walk.wrapped = true;
    let mut scan = walk.clone();
    let mut last_offset = None;
    while let Some(record) = scan.advance(inner) {
        last_offset = Some(record?.offset);
    }
    let last_offset = last_offset.ok_or(invalid("a compressed message holds no messages"))?;
    // Some versions of librdkafka produce wrappers of offset 0.
    if message.magic == 1 && message.offset != 0 {
        if message.offset < last_offset {
            return Err(invalid("a wrapper's offset is lower than that of its last message"));
        }
        walk.offset_shift = message.offset.wrapping_sub(last_offset);
    }
    Ok((inner, walk))
}

impl Walk {
    pub(super) fn advance<'a>(
        &mut self,
        bytes: &'a [u8],
    ) -> Option<Result<RecordView<'a>, RecordError>> {
        let rest = &bytes[self.position..];
        if rest.is_empty() {
            return None;
        }
        let result = match LegacyMessage::parse(rest) {
            Ok(inner) if self.wrapped && inner.compression() != Ok(Compression::None) => {
                Err("a message inside a compressed one is compressed itself")
            }
            Ok(inner) => {
                self.position += inner.size_in_bytes();
                self.index += 1;
                let timestamp = match self.log_append_time {
                    Some(time) if inner.magic == 1 => time,
                    _ => inner.timestamp,
                };
                let offset = inner.offset.wrapping_add(self.offset_shift);
                return Some(Ok(RecordView::without_headers(
                    offset,
                    timestamp,
                    inner.key,
                    inner.value,
                )));
            }
            // As at the end of a set, an incomplete message is left out.
            Err(RecordError::Incomplete { .. }) => {
                self.position = bytes.len();
                return None;
            }
            Err(RecordError::InvalidRecord { reason, .. }) => Err(reason),
            Err(error) => {
                self.position = bytes.len();
                return Some(Err(error));
            }
        };
        self.position = bytes.len();
        let index = self.index;
        Some(result.map_err(|reason| RecordError::InvalidRecord { index, reason }))
    }
}

#[cfg(test)]
mod tests;
