//! One struct for each message of the protocol, one module for each message and its parts.
//!
//! Written at build time from `schemas/*.msg`; `codegen/` holds the generator. The names are the schema's.

// The generated code is written to be read, not typed: each field has its line, and each condition says what it guards.
#![allow(clippy::derivable_impls, clippy::field_reassign_with_default, clippy::nonminimal_bool)]

/// What the generated modules use.
mod codec {
    pub(super) use bytes::Bytes;
    pub(super) use bytestring::ByteString;

    #[cfg(feature = "json")]
    pub(super) use crate::json::{self, JsonForm};
    pub(super) use crate::{
        ApiKey, ErrorCode, Message, Request, Uuid,
        message::{check_decode_version, check_encode_version},
        wire::{
            DecodeError, EncodeError, Reader, Sink, TagWriter, UnknownTags, non_null, put_array,
            put_bytes, put_string,
        },
    };
}

use crate::{ApiKey, Message};

/// Something to do with a message whose type is known only at run time, by its name or its API: see [`visit`],
/// [`visit_request`] and [`visit_response`].
pub trait Visitor {
    /// What comes out.
    type Output;

    /// Called once, with the type.
    fn visit<M: Message>(self) -> Self::Output;
}

include!(concat!(env!("OUT_DIR"), "/messages.rs"));

#[cfg(test)]
mod tests;
