//! The Kafka protocol as data: messages, record batches, compression, error codes. No I/O.
//!
//! * [`messages`]: one struct for each request, response, coordinator record, header and embedded blob, generated at build
//!   time from `schemas/*.msg`, with decode and encode for every version in the schema.
//! * [`wire`]: the primitives below them: [`Reader`] and [`Sink`], and the typed errors.
//! * [`records`]: record batches and their compression; [`hash`]: where keys and groups live.
//! * `json` (feature `json`): messages in Kafka's JSON form.
//! * [`ErrorCode`] and [`ApiKey`]: the two tables of the protocol.
//! * [`Now`], [`Monotonic`]: time, as the machines on both sides of the protocol take it; [`SplitMix64`]: chance.
//!
//! **Architecture invariant:** bytes off the wire yield `Err`, never a panic, and no allocation is sized by a number off the
//! wire before it met the bytes that remain and the budget of its frame (see [`Reader`]).
//!
//! # References
//! The [protocol guide](https://kafka.apache.org/protocol.html); KIP-482 for compact forms and tagged fields.

mod api_key;
mod error_code;
pub mod hash;
#[cfg(feature = "json")]
pub mod json;
mod message;
pub mod messages;
mod random;
pub mod records;
mod time;
mod uuid;
pub mod wire;

pub use bytestring::ByteString;

pub use self::{
    api_key::ApiKey,
    error_code::ErrorCode,
    message::{Message, Request},
    random::SplitMix64,
    time::{Monotonic, Now},
    uuid::{ParseUuidError, Uuid},
    wire::{DecodeError, EncodeError, Reader, Sink, Writer},
};
