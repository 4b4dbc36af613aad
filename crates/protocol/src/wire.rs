//! The primitives of the wire: big-endian integers, varints, strings, bytes, arrays, tagged fields.
//!
//! `read` takes them off a frame, `write` puts them onto one; neither knows any message.

mod read;
mod tags;
mod write;

pub use self::{
    read::{DecodeError, DecodeErrorKind, Reader},
    tags::UnknownTags,
    write::{Counter, EncodeError, Sink, Writer},
};
pub(crate) use self::{
    tags::TagWriter,
    write::{non_null, put_array, put_bytes, put_string},
};

#[cfg(test)]
mod tests;
