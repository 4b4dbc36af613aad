//! Taking values off a frame.

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;

use super::UnknownTags;
use crate::Uuid;

/// A cursor over one frame, and the budget of what decoding it may allocate.
///
/// Strings and bytes are slices that share the frame. Arrays and unknown tags are the only things decoding allocates; before
/// room for them is made, their count has met the bytes that remain (each element takes at least its smallest size on the
/// wire), and the memory has been taken off a budget of 8 bytes for each byte of the frame and 63 KiB; so decoding never allocates
/// more than 8 × length + 64 KiB. Messages as clients send them stay far below; a frame made of countless empty elements is
/// refused with [`DecodeErrorKind::TooDense`] instead of growing manyfold in memory.
///
/// # What is refused, and what is not
/// Kafka's reader takes some bytes that no writer makes. Taken here too: any negative count or length for null, any byte but 0
/// for true, any mark but a negative one for a present structure, varints longer than they need be, and **bytes after the
/// end**. Kafka looks at those nowhere, neither behind a request or a response nor behind a stored record or an embedded blob, where
/// a newer writer may have put them; so decoding a message leaves them unread, and a broker that answered otherwise would refuse
/// what Kafka serves. A caller that must know asks [`Reader::remaining`].
///
/// Refused here though Kafka takes it: text that is not UTF-8 (Kafka replaces it), tags that are repeated or out of order, and a known
/// tag whose size is not its value's. These would not be written again as they came.
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
    /// The value of a known tag is shorter or longer than the size before it.
    TagSize {
        /// The tag.
        tag: u32,
        /// The size announced.
        size: usize,
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
            DecodeErrorKind::TagSize { tag, size } => {
                write!(f, "tag {tag} announces {size} bytes, its value is of another size")
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
        Self { frame, at: 0, end, budget: end.saturating_mul(8).saturating_add(63 * 1024) }
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
        let length = if compact {
            self.unsigned_varint(field)?.cast_signed().wrapping_sub(1)
        } else {
            legacy(self)?
        };
        // Kafka's reader takes every negative length for null.
        Ok(usize::try_from(length).ok())
    }

    /// Null is an error where the schema has none.
    fn required<T>(&self, value: Option<T>, field: &'static str) -> Result<T, DecodeError> {
        match value {
            Some(value) => Ok(value),
            None => self.fail(field, DecodeErrorKind::UnexpectedNull),
        }
    }

    fn checked_null<T>(
        &self,
        value: Option<T>,
        nullable: bool,
        field: &'static str,
    ) -> Result<Option<T>, DecodeError> {
        if value.is_none() && !nullable {
            return self.fail(field, DecodeErrorKind::UnexpectedNull);
        }
        Ok(value)
    }

    fn optional_string(
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

    /// A string that shares the frame, at most 32,767 bytes.
    pub fn string(
        &mut self,
        compact: bool,
        field: &'static str,
    ) -> Result<ByteString, DecodeError> {
        let text = self.optional_string(compact, field)?;
        self.required(text, field)
    }

    /// As [`Reader::string`], or null where `nullable` says that this version has null there.
    pub fn nullable_string(
        &mut self,
        compact: bool,
        nullable: bool,
        field: &'static str,
    ) -> Result<Option<ByteString>, DecodeError> {
        let text = self.optional_string(compact, field)?;
        self.checked_null(text, nullable, field)
    }

    fn optional_bytes(
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

    /// Bytes that share the frame.
    pub fn bytes(&mut self, compact: bool, field: &'static str) -> Result<Bytes, DecodeError> {
        let bytes = self.optional_bytes(compact, field)?;
        self.required(bytes, field)
    }

    /// As [`Reader::bytes`], or null where `nullable` says that this version has null there.
    pub fn nullable_bytes(
        &mut self,
        compact: bool,
        nullable: bool,
        field: &'static str,
    ) -> Result<Option<Bytes>, DecodeError> {
        let bytes = self.optional_bytes(compact, field)?;
        self.checked_null(bytes, nullable, field)
    }

    /// An array whose elements take at least `min_size` bytes each.
    pub fn array<T>(
        &mut self,
        compact: bool,
        min_size: usize,
        field: &'static str,
        element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        match self.nullable_array(compact, false, min_size, field, element)? {
            Some(elements) => Ok(elements),
            None => self.fail(field, DecodeErrorKind::UnexpectedNull),
        }
    }

    /// As [`Reader::array`], or null where `nullable` says that this version has null there.
    pub fn nullable_array<T>(
        &mut self,
        compact: bool,
        nullable: bool,
        min_size: usize,
        field: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let count = self.length(compact, field, |r| r.int32(field))?;
        let Some(count) = self.checked_null(count, nullable, field)? else {
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

    /// The mark before a nullable structure that is the value of a tag: a varint, 0 for null.
    pub fn is_present_tagged(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.unsigned_varint(field)?.cast_signed() > 0)
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
        for done in 0..count {
            let tag = self.unsigned_varint(field)?;
            if previous.is_some_and(|previous| tag <= previous) {
                return self.fail(field, DecodeErrorKind::TagOrder(tag));
            }
            previous = Some(tag);
            let size = self.unsigned_varint(field)? as usize;
            let value = self.take(size, field)?;

            // The value is read as a frame of its own.
            let end = std::mem::replace(&mut self.end, value.end);
            self.at = value.start;
            let known = known(self, tag);
            self.end = end;
            match known {
                Ok(true) if self.at == value.end => {}
                Ok(true) => return self.fail(field, DecodeErrorKind::TagSize { tag, size }),
                Ok(false) => {
                    if unknown.is_empty() {
                        let rest = count - done;
                        self.charge(UnknownTags::cost(rest), field)?;
                        unknown = UnknownTags::with_capacity(rest);
                    }
                    unknown.push(tag, self.frame.slice(value.clone()));
                    self.at = value.end;
                }
                Err(error) => {
                    return match error.kind {
                        // There would be enough, but for the announced size.
                        DecodeErrorKind::Truncated { needed, .. }
                        | DecodeErrorKind::CountTooLarge { count: needed, .. }
                            if needed <= end - error.at =>
                        {
                            self.fail(error.field, DecodeErrorKind::TagSize { tag, size })
                        }
                        _ => Err(error),
                    };
                }
            }
        }
        Ok(unknown)
    }
}
