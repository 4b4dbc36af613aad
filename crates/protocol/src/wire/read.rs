//! Taking values off a frame.

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;

use super::UnknownTags;
use crate::Uuid;

/// A cursor over one frame, and the budget of what decoding it may allocate.
///
/// Strings and bytes are slices that share the frame. Arrays are the only things decoding allocates; before one is made, its
/// count has met the bytes that remain (each element takes at least its smallest size on the wire), and its memory has been
/// taken off the budget of `8 × length + 64 KiB`. Messages as clients send them stay far below; a frame made of countless
/// empty elements is refused with [`DecodeErrorKind::TooDense`] instead of growing manyfold in memory.
#[derive(Debug)]
pub struct Reader {
    frame: Bytes,
    at: usize,
    end: usize,
    budget: usize,
}

/// Bytes that are not the message they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// `Struct.field` of the schema.
    pub field: &'static str,
    /// Where in the frame.
    pub at: usize,
    /// What is wrong there.
    pub kind: DecodeErrorKind,
}

/// What can be wrong with bytes off the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// The value needs more bytes than the frame has left.
    Truncated {
        /// Bytes the value needs.
        needed: usize,
        /// Bytes that remain.
        remaining: usize,
    },
    /// An array announces more elements than the rest of the frame can hold.
    CountTooLarge {
        /// Elements announced.
        count: usize,
        /// Bytes that remain.
        remaining: usize,
    },
    /// The elements would take far more memory than the frame: see [`Reader`].
    TooDense,
    /// A length or count that no value has.
    InvalidLength(i64),
    /// A varint of more than five bytes.
    VarintTooLong,
    /// Null where this version has no null.
    UnexpectedNull,
    /// A string that is not UTF-8.
    InvalidUtf8,
    /// Tags must rise: this one comes twice or out of order.
    TagOrder(u32),
    /// A tagged value did not fill the size it announced.
    TagSize {
        /// The tag.
        tag: u32,
        /// Bytes of the value left over.
        unread: usize,
    },
    /// The schema has no such version.
    UnsupportedVersion(i16),
}

impl std::error::Error for DecodeError {}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: ", self.field, self.at)?;
        match &self.kind {
            DecodeErrorKind::Truncated { needed, remaining } => {
                write!(f, "needs {needed} bytes, {remaining} remain")
            }
            DecodeErrorKind::CountTooLarge { count, remaining } => {
                write!(f, "announces {count} elements, more than {remaining} bytes can hold")
            }
            DecodeErrorKind::TooDense => {
                f.write_str("so many empty elements that decoding would exceed the frame's budget")
            }
            DecodeErrorKind::InvalidLength(length) => write!(f, "length {length} is no length"),
            DecodeErrorKind::VarintTooLong => f.write_str("varint of more than five bytes"),
            DecodeErrorKind::UnexpectedNull => {
                f.write_str("null, which this version does not have")
            }
            DecodeErrorKind::InvalidUtf8 => f.write_str("not UTF-8"),
            DecodeErrorKind::TagOrder(tag) => write!(f, "tag {tag} is repeated or out of order"),
            DecodeErrorKind::TagSize { tag, unread } => {
                write!(f, "tag {tag} announces {unread} bytes more than its value has")
            }
            DecodeErrorKind::UnsupportedVersion(version) => {
                write!(f, "version {version} is not supported")
            }
        }
    }
}

impl DecodeError {
    pub(crate) fn unsupported_version(message: &'static str, version: i16) -> Self {
        Self { field: message, at: 0, kind: DecodeErrorKind::UnsupportedVersion(version) }
    }
}

impl Reader {
    /// Starts at the first byte of `frame`.
    pub fn new(frame: Bytes) -> Self {
        let end = frame.len();
        Self { frame, at: 0, end, budget: end.saturating_mul(8).saturating_add(64 * 1024) }
    }

    /// The bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    #[cold]
    fn fail<T>(&self, field: &'static str, kind: DecodeErrorKind) -> Result<T, DecodeError> {
        Err(DecodeError { field, at: self.at, kind })
    }

    /// Takes `length` bytes; the range of the frame they stand in.
    fn take(
        &mut self,
        length: usize,
        field: &'static str,
    ) -> Result<std::ops::Range<usize>, DecodeError> {
        let remaining = self.remaining();
        if length > remaining {
            return self.fail(field, DecodeErrorKind::Truncated { needed: length, remaining });
        }
        let start = self.at;
        self.at += length;
        Ok(start..self.at)
    }

    fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let range = self.take(N, field)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.frame[range]);
        Ok(bytes)
    }

    /// One byte; everything but 0 is true.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.fixed::<1>(field)? != [0])
    }

    /// One byte.
    pub fn int8(&mut self, field: &'static str) -> Result<i8, DecodeError> {
        self.fixed(field).map(i8::from_be_bytes)
    }

    /// Two bytes, big-endian.
    pub fn int16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        self.fixed(field).map(i16::from_be_bytes)
    }

    /// Two bytes, big-endian, unsigned.
    pub fn uint16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.fixed(field).map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    pub fn int32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.fixed(field).map(i32::from_be_bytes)
    }

    /// Four bytes, big-endian, unsigned.
    pub fn uint32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.fixed(field).map(u32::from_be_bytes)
    }

    /// Eight bytes, big-endian.
    pub fn int64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.fixed(field).map(i64::from_be_bytes)
    }

    /// IEEE 754, big-endian.
    pub fn float64(&mut self, field: &'static str) -> Result<f64, DecodeError> {
        self.fixed(field).map(f64::from_be_bytes)
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, field: &'static str) -> Result<Uuid, DecodeError> {
        self.fixed(field).map(Uuid::from_bytes)
    }

    /// An unsigned varint of at most 32 bits, least significant seven bits first.
    pub fn unsigned_varint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed::<1>(field)?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        self.fail(field, DecodeErrorKind::VarintTooLong)
    }

    /// A length that is varint(length + 1) in compact form, `legacy` otherwise; `None` is null.
    fn length(
        &mut self,
        compact: bool,
        field: &'static str,
        legacy: impl FnOnce(&mut Self) -> Result<i32, DecodeError>,
    ) -> Result<Option<usize>, DecodeError> {
        if compact {
            let length = self.unsigned_varint(field)?;
            return Ok(length.checked_sub(1).map(|length| length as usize));
        }
        match legacy(self)? {
            // Kafka's reader takes every negative length for null.
            length if length < 0 => Ok(None),
            length => Ok(Some(length as usize)),
        }
    }

    /// A string that shares the frame.
    pub fn string(
        &mut self,
        compact: bool,
        field: &'static str,
    ) -> Result<Option<ByteString>, DecodeError> {
        let Some(length) = self.length(compact, field, |r| r.int16(field).map(i32::from))? else {
            return Ok(None);
        };
        if length > i16::MAX as usize {
            return self.fail(field, DecodeErrorKind::InvalidLength(length as i64));
        }
        let range = self.take(length, field)?;
        match ByteString::try_from(self.frame.slice(range)) {
            Ok(text) => Ok(Some(text)),
            Err(_) => self.fail(field, DecodeErrorKind::InvalidUtf8),
        }
    }

    /// Bytes that share the frame.
    pub fn bytes(
        &mut self,
        compact: bool,
        field: &'static str,
    ) -> Result<Option<Bytes>, DecodeError> {
        let Some(length) = self.length(compact, field, |r| r.int32(field))? else {
            return Ok(None);
        };
        let range = self.take(length, field)?;
        Ok(Some(self.frame.slice(range)))
    }

    /// An array whose elements take at least `min_size` bytes each.
    pub fn array<T>(
        &mut self,
        compact: bool,
        min_size: usize,
        field: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.length(compact, field, |r| r.int32(field))? else {
            return Ok(None);
        };
        let remaining = self.remaining();
        if count > remaining / min_size {
            return self.fail(field, DecodeErrorKind::CountTooLarge { count, remaining });
        }
        self.charge(count.saturating_mul(size_of::<T>()), field)?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// Takes memory off the frame's budget before it is allocated.
    fn charge(&mut self, bytes: usize, field: &'static str) -> Result<(), DecodeError> {
        match self.budget.checked_sub(bytes) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => self.fail(field, DecodeErrorKind::TooDense),
        }
    }

    /// The mark before a nullable structure: whether one follows.
    pub fn is_present(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.int8(field)? >= 0)
    }

    /// The tagged fields at the end of a structure. `known` reads the value of a tag it knows and says whether it did.
    pub(crate) fn tagged_fields(
        &mut self,
        field: &'static str,
        mut known: impl FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<UnknownTags, DecodeError> {
        let mut unknown = UnknownTags::default();
        let count = self.unsigned_varint(field)? as usize;
        let remaining = self.remaining();
        // A tag and its size are a byte each.
        if count > remaining / 2 {
            return self.fail(field, DecodeErrorKind::CountTooLarge { count, remaining });
        }
        let mut previous = None;
        for _ in 0..count {
            let tag = self.unsigned_varint(field)?;
            if previous.is_some_and(|previous| tag <= previous) {
                return self.fail(field, DecodeErrorKind::TagOrder(tag));
            }
            previous = Some(tag);
            let size = self.unsigned_varint(field)? as usize;
            let value = self.take(size, field)?;

            let end = std::mem::replace(&mut self.end, value.end);
            self.at = value.start;
            if known(self, tag)? {
                if self.at != value.end {
                    let unread = self.remaining();
                    return self.fail(field, DecodeErrorKind::TagSize { tag, unread });
                }
            } else {
                self.charge(UnknownTags::COST, field)?;
                unknown.push(tag, self.frame.slice(value.clone()));
                self.at = value.end;
            }
            self.end = end;
        }
        Ok(unknown)
    }
}

/// Null is an error where the schema has none.
pub(crate) fn required<T>(value: Option<T>, field: &'static str) -> Result<T, DecodeError> {
    value.ok_or(DecodeError { field, at: 0, kind: DecodeErrorKind::UnexpectedNull })
}
