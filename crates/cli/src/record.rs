//! A record as the command line reads and writes it.
//!
//! Bytes that are text are text; others are base64 in a field of their own, so that a line of JSON that `kavka consume` wrote is
//! the same record again when `kavka produce` reads it.

mod json;
mod template;

use std::borrow::Cow;

pub(crate) use self::{
    json::{from_json, to_value},
    template::{Template, unescape},
};

/// A record to be produced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its key.
    pub(crate) key: Option<Vec<u8>>,
    /// Its value; none is a tombstone in a compacted topic.
    pub(crate) value: Option<Vec<u8>>,
    /// Its headers, in order; names may repeat.
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970.
    pub(crate) timestamp: Option<i64>,
    /// Its partition, if one is named.
    pub(crate) partition: Option<i32>,
}

/// A record that was consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    /// Its topic.
    pub(crate) topic: &'a str,
    /// Its partition.
    pub(crate) partition: i32,
    /// Its offset.
    pub(crate) offset: i64,
    /// The epoch of the leader that wrote it, if known.
    pub(crate) leader_epoch: Option<i32>,
    /// Milliseconds since 1970.
    pub(crate) timestamp: Option<i64>,
    /// Its key.
    pub(crate) key: Option<&'a [u8]>,
    /// Its value.
    pub(crate) value: Option<&'a [u8]>,
    /// Its headers.
    pub(crate) headers: Vec<(Cow<'a, str>, Option<&'a [u8]>)>,
}
