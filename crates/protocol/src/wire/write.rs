//! Putting values onto a frame.

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use crate::Uuid;

/// A message that this version of the protocol cannot carry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The schema has no such version.
    #[error("{message}: version {version} is not supported")]
    UnsupportedVersion {
        /// The message.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// The field is set, this version does not have it, and it must not be dropped.
    #[error("{field}: set, but version {version} does not have it")]
    FieldNotInVersion {
        /// `Struct.field` of the schema.
        field: &'static str,
        /// The version being written.
        version: i16,
    },
    /// The field is null, and this version has no null there.
    #[error("{field}: null, but version {version} has no null there")]
    NullNotAllowed {
        /// `Struct.field` of the schema.
        field: &'static str,
        /// The version being written.
        version: i16,
    },
    /// The value is longer than its length field can say.
    #[error("{field}: {length} is longer than the protocol can say")]
    TooLong {
        /// `Struct.field` of the schema.
        field: &'static str,
        /// Bytes or elements.
        length: usize,
    },
}

impl EncodeError {
    #[cold]
    pub(crate) fn field_not_in_version(field: &'static str, version: i16) -> Self {
        EncodeError::FieldNotInVersion { field, version }
    }
}

/// Where encoded bytes go: into a [`Writer`], or only into a [`Counter`].
pub trait Sink {
    /// Bytes that are copied.
    fn put_slice(&mut self, bytes: &[u8]);

    /// Bytes that a sink may keep instead of copying them.
    fn put_shared(&mut self, bytes: &Bytes);

    /// One byte, 0 or 1.
    fn put_bool(&mut self, value: bool) {
        self.put_slice(&[u8::from(value)]);
    }
    /// One byte.
    fn put_int8(&mut self, value: i8) {
        self.put_slice(&value.to_be_bytes());
    }
    /// Two bytes, big-endian.
    fn put_int16(&mut self, value: i16) {
        self.put_slice(&value.to_be_bytes());
    }
    /// Two bytes, big-endian, unsigned.
    fn put_uint16(&mut self, value: u16) {
        self.put_slice(&value.to_be_bytes());
    }
    /// Four bytes, big-endian.
    fn put_int32(&mut self, value: i32) {
        self.put_slice(&value.to_be_bytes());
    }
    /// Four bytes, big-endian, unsigned.
    fn put_uint32(&mut self, value: u32) {
        self.put_slice(&value.to_be_bytes());
    }
    /// Eight bytes, big-endian.
    fn put_int64(&mut self, value: i64) {
        self.put_slice(&value.to_be_bytes());
    }
    /// IEEE 754, big-endian.
    fn put_float64(&mut self, value: f64) {
        self.put_slice(&value.to_be_bytes());
    }
    /// Sixteen bytes.
    fn put_uuid(&mut self, value: &Uuid) {
        self.put_slice(value.as_bytes());
    }
    /// Seven bits a byte, least significant first.
    fn put_unsigned_varint(&mut self, value: u32) {
        let mut bytes = [0; 5];
        let mut length = 0;
        let mut rest = value;
        while rest >= 0x80 {
            bytes[length] = (rest as u8 & 0x7f) | 0x80;
            rest >>= 7;
            length += 1;
        }
        bytes[length] = rest as u8;
        self.put_slice(&bytes[..=length]);
    }
}

/// A sink that only counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counter {
    size: usize,
    shared: usize,
}

impl Counter {
    /// All bytes put.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Those among them that a [`Writer`] does not copy.
    pub fn shared(&self) -> usize {
        self.shared
    }
}

impl Sink for Counter {
    fn put_slice(&mut self, bytes: &[u8]) {
        self.size += bytes.len();
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        self.size += bytes.len();
        if bytes.len() >= Writer::SHARE_FROM {
            self.shared += bytes.len();
        }
    }
}

/// Appends; everything is copied.
impl Sink for Vec<u8> {
    fn put_slice(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        self.extend_from_slice(bytes);
    }
}

/// A sink that writes. Large `bytes` and `records` become pieces of their own, shared and not copied.
#[derive(Debug)]
pub struct Writer {
    pieces: Vec<Bytes>,
    tail: BytesMut,
    share_from: usize,
}

impl Writer {
    /// Below this many bytes a copy is cheaper than a piece of its own.
    const SHARE_FROM: usize = 4096;

    /// A writer for what `counter` has counted.
    pub fn for_counted(counter: &Counter) -> Self {
        Self {
            pieces: Vec::new(),
            tail: BytesMut::with_capacity(counter.size - counter.shared),
            share_from: Self::SHARE_FROM,
        }
    }

    /// A writer of `size` bytes that copies everything.
    pub(crate) fn in_one_piece(size: usize) -> Self {
        Self { pieces: Vec::new(), tail: BytesMut::with_capacity(size), share_from: usize::MAX }
    }

    /// The pieces, in order.
    pub fn into_pieces(mut self) -> Vec<Bytes> {
        self.cut();
        self.pieces
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.tail.freeze()
    }

    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
        }
    }
}

impl Sink for Writer {
    fn put_slice(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() >= self.share_from {
            self.cut();
            self.pieces.push(bytes.clone());
        } else {
            self.tail.put_slice(bytes);
        }
    }
}

/// A length in compact form (varint of length + 1, 0 is null), or as the older versions write it.
fn put_length(
    sink: &mut dyn Sink,
    compact: bool,
    length: Option<usize>,
    field: &'static str,
) -> Result<(), EncodeError> {
    let limit = i32::MAX as usize - 1;
    if let Some(length) = length.filter(|length| *length > limit) {
        return Err(EncodeError::TooLong { field, length });
    }
    if compact {
        sink.put_unsigned_varint(length.map_or(0, |length| length as u32 + 1));
    } else {
        sink.put_int32(length.map_or(-1, |length| length as i32));
    }
    Ok(())
}

pub(crate) fn put_string(
    sink: &mut dyn Sink,
    compact: bool,
    value: Option<&ByteString>,
    field: &'static str,
) -> Result<(), EncodeError> {
    let length = value.map(|text| text.len());
    if let Some(length) = length.filter(|length| *length > i16::MAX as usize) {
        return Err(EncodeError::TooLong { field, length });
    }
    if compact {
        put_length(sink, true, length, field)?;
    } else {
        sink.put_int16(length.map_or(-1, |length| length as i16));
    }
    if let Some(text) = value {
        sink.put_slice(text.as_bytes());
    }
    Ok(())
}

pub(crate) fn put_bytes(
    sink: &mut dyn Sink,
    compact: bool,
    value: Option<&Bytes>,
    field: &'static str,
) -> Result<(), EncodeError> {
    put_length(sink, compact, value.map(Bytes::len), field)?;
    if let Some(bytes) = value {
        sink.put_shared(bytes);
    }
    Ok(())
}

pub(crate) fn put_array<T>(
    sink: &mut dyn Sink,
    compact: bool,
    value: Option<&[T]>,
    field: &'static str,
    mut element: impl FnMut(&mut dyn Sink, &T) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    put_length(sink, compact, value.map(<[T]>::len), field)?;
    value.into_iter().flatten().try_for_each(|item| element(sink, item))
}

/// Null is an error in a version that has none.
pub(crate) fn non_null<'a, T: ?Sized>(
    value: Option<&'a T>,
    nullable: bool,
    field: &'static str,
    version: i16,
) -> Result<Option<&'a T>, EncodeError> {
    if value.is_none() && !nullable {
        return Err(EncodeError::NullNotAllowed { field, version });
    }
    Ok(value)
}
