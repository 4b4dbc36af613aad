//! What every message can do.

use std::{fmt, ops::RangeInclusive};

use bytes::Bytes;

use crate::{
    ApiKey,
    wire::{Counter, DecodeError, EncodeError, Reader, Sink, UnknownTags, Writer},
};

/// A message of the protocol: its fields, and how each version of it is written.
pub trait Message: Clone + fmt::Debug + Default + PartialEq {
    /// The name in the schema.
    const NAME: &'static str;
    /// The versions this codec knows.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version in compact form with tagged fields (KIP-482).
    const FIRST_FLEXIBLE: Option<i16>;

    /// Reads the message from where `reader` stands. Bytes behind it are left unread, see [`Reader`].
    ///
    /// # Errors
    /// The version is not one of [`Self::VERSIONS`], or the bytes are no such message; the error names the field.
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Writes the message.
    ///
    /// # Errors
    /// A value that this version cannot carry, and that the schema does not let a writer drop.
    fn encode(&self, sink: &mut dyn Sink, version: i16) -> Result<(), EncodeError>;

    /// The tags that came with the message and that the schema does not know; `None` for a message without compact versions.
    fn unknown_tagged_fields_mut(&mut self) -> Option<&mut UnknownTags>;

    /// The message in Kafka's JSON form: see [`json`](crate::json). A value that this version does not carry is left out.
    #[cfg(feature = "json")]
    fn to_json(&self, version: i16) -> serde_json::Value;

    /// Reads Kafka's JSON form.
    ///
    /// # Errors
    /// The version is not one of [`Self::VERSIONS`]; a field is missing, misspelled or of another type; the error names it.
    #[cfg(feature = "json")]
    fn from_json(value: &serde_json::Value, version: i16) -> Result<Self, crate::json::JsonError>;

    /// The number of bytes [`Message::encode`] writes.
    ///
    /// # Errors
    /// As [`Message::encode`].
    fn encoded_size(&self, version: i16) -> Result<usize, EncodeError> {
        let mut counter = Counter::default();
        self.encode(&mut counter, version)?;
        Ok(counter.size())
    }

    /// The message in one piece.
    ///
    /// # Errors
    /// As [`Message::encode`].
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
