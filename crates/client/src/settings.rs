//! Settings by the names Kafka gives them, with Kafka's defaults, ranges and rules.
//!
//! [`CommonSettings`] holds what consumer, producer and admin share. Each of the three has a settings type of its own around it,
//! which takes its own names first and hands the rest on. A name that nobody knows is an error that suggests a similar one; a name
//! that means something only in the Java client is taken, and [`Outcome::NoEffect`] says why it changes nothing.

mod common;
mod jaas;
mod parse;
mod security;
mod token;

pub(crate) use self::parse::{bool_value, duration_ms, integer, one_of, unknown_property};
pub(crate) use self::security::how_to_convert;
pub use self::{
    common::{Address, CommonSettings, MetadataRecovery, SecurityProtocol},
    security::{
        SaslMechanism, SaslSettings, Secret, SecuritySettings, TlsProtocols, TlsSettings,
        TokenSource,
    },
    token::{StaticToken, Token, TokenFuture, TokenProvider},
};

/// The names that every client takes.
pub(crate) fn common_names() -> impl Iterator<Item = &'static str> {
    common::NAMES.iter().chain(security::NAMES).copied()
}

/// What became of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in force.
    Taken,
    /// It is one of Kafka's, but changes nothing here; why.
    NoEffect(&'static str),
    /// Nobody here knows it.
    Unknown,
}
