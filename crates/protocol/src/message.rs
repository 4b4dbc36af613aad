//! What every message can do.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::{
    ApiKey,
    wire::{Counter, DecodeError, EncodeError, Reader, Sink, Writer},
};

/// A message of the protocol: its fields, and how each version of it is written.
pub trait Message: Sized + Default {
    /// The name in the schema.
    const NAME: &'static str;
    /// The versions this codec knows.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version in compact form with tagged fields (KIP-482).
    const FIRST_FLEXIBLE: Option<i16>;

    /// Reads the message from where `reader` stands. Bytes behind it are left unread: frames carry nothing there, and a caller
    /// that must refuse them asks [`Reader::remaining`].
    ///
    /// # Errors
    /// The version is not one of [`Self::VERSIONS`], or the bytes are no such message; the error names the field.
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Writes the message.
    ///
    /// # Errors
    /// A value that this version cannot carry, and that the schema does not let a writer drop.
    fn encode<S: Sink>(&self, sink: &mut S, version: i16) -> Result<(), EncodeError>;

    /// The number of bytes [`Message::encode`] writes.
    fn encoded_size(&self, version: i16) -> Result<usize, EncodeError> {
        let mut counter = Counter::default();
        self.encode(&mut counter, version)?;
        Ok(counter.size())
    }

    /// The message in one piece.
    fn to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut counter = Counter::default();
        self.encode(&mut counter, version)?;
        let mut writer = Writer::in_one_piece(counter.size());
        self.encode(&mut writer, version)?;
        Ok(writer.into_bytes())
    }
}

/// A message that asks, and the one that answers it.
pub trait Request: Message {
    /// The API.
    const API_KEY: ApiKey;
    /// What comes back.
    type Response: Message;
}

pub(crate) fn check_decode_version<M: Message>(version: i16) -> Result<(), DecodeError> {
    if M::VERSIONS.contains(&version) {
        Ok(())
    } else {
        Err(DecodeError::unsupported_version(M::NAME, version))
    }
}

pub(crate) fn check_encode_version<M: Message>(version: i16) -> Result<(), EncodeError> {
    if M::VERSIONS.contains(&version) {
        Ok(())
    } else {
        Err(EncodeError::UnsupportedVersion { message: M::NAME, version })
    }
}
