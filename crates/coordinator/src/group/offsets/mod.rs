//! Committed offsets: who may commit, what is read, what is deleted, and when an offset expires.
//!
//! The offsets themselves are hard state ([`table`], [`pending`]): these functions read them and make records.
//!
//! # References
//! KIP-211 (expiry), KIP-320 (leader epochs), KIP-447 (require stable), KIP-496 (OffsetDelete).

mod commit;
mod delete;
mod expiry;
mod fetch;
pub(crate) mod pending;
pub(crate) mod table;

pub(crate) use self::{
    commit::offset_records,
    delete::{delete_offsets, group_tombstones, topic_tombstones},
    expiry::{ExpiryRule, expired_offsets},
    fetch::fetch_offsets,
};
