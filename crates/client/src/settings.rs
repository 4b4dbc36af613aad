//! Settings by the names Kafka gives them, with Kafka's defaults, ranges and rules.
//!
//! [`CommonSettings`] holds what consumer, producer and admin share. Each of the three has a settings type of its own around it,
//! which takes its own names first and hands the rest on. A name that nobody knows is an error that suggests a similar one; a name
//! that means something only in the Java client is taken, and [`Outcome::NoEffect`] says why it changes nothing.

mod common;
mod parse;

pub use self::common::{Address, CommonSettings, SecurityProtocol};
pub(crate) use self::parse::{bool_value, duration_ms, integer, one_of, unknown_property};

/// The names that every client takes.
pub(crate) fn common_names() -> impl Iterator<Item = &'static str> {
    common::NAMES.iter().copied()
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
