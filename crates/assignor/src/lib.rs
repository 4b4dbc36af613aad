//! Partition assignors: who in a consumer group reads which partition. Pure functions, without clock, randomness or I/O.
//!
//! * [`group`]: the question: members, subscriptions, topics. [`assignment`]: the answer.
//! * [`Assignor`]: what one is, and how to make one's own.
//! * [`Range`], [`RoundRobin`], [`Sticky`], [`CooperativeSticky`]: those of the classic protocol, which run at the client that leads.
//! * [`leader`]: the edge, where a leader's list of members comes in as bytes and assignments go out as bytes.
//!
//! The server's assignors (KIP-848, `uniform` and `range`) belong here too, beside `client` in a module `server`; there are none yet.
//!
//! **Architecture invariant:** equal groups give equal assignments, in whatever order the members are listed, on every machine.
//!
//! # References
//! KIP-54 (sticky), KIP-341 (its user data), KIP-345 (static members first), KIP-429 (cooperative), KIP-792 (generation in the
//! subscription), KIP-881 (racks).

pub mod assignment;
mod assignor;
mod client;
pub mod group;
pub mod leader;

pub use self::{
    assignment::{Assignment, Note},
    assignor::{Assignor, LastAssignment, RebalanceProtocol, by_name, rebalance_protocol},
    client::{CooperativeSticky, Range, RoundRobin, Sticky},
    group::{Cluster, Group, GroupMember, Partition, TopicMetadata},
};
