//! One struct for each message of the protocol, one module for each message and its parts.
//!
//! Written at build time from `schemas/*.msg`; `codegen/` holds the generator. The names are the schema's.

/// What the generated modules use.
mod codec {
    pub(super) use bytes::Bytes;
    pub(super) use bytestring::ByteString;

    pub(super) use crate::{
        ApiKey, ErrorCode, Message, Request, Uuid,
        message::{check_decode_version, check_encode_version},
        wire::{
            Counter, DecodeError, EncodeError, Reader, Sink, TagWriter, UnknownTags, non_null,
            put_array, put_bytes, put_string, required,
        },
    };
}

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
