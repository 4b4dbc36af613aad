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
//! # How fast
//! The fastest of nine runs each, in milliseconds, from `cargo run --release -p kavka-assignor --example assign_times` on two cores of a cloud
//! machine that were busy with other things (load 9). The first figure is [`Assignor::assign`] alone, the second the whole way from the
//! bytes of JoinGroup to the bytes of SyncGroup, most of which is reading a million topic names.
//!
//! | Members × topics × partitions | range | roundrobin | cooperative-sticky |
//! |---|---|---|---|
//! | 10,000 × 100 × 10, new group | 0.1, 21 | 2.6, 52 | 0.2, 22 |
//! | every tenth member replaced | 0.1, 28 | 2.0, 35 | 0.2, 36 |
//! | the same with 3 racks | 0.3, 31 | 0.2, 31 | 1.8, 46 |
//! | the same, each member subscribed to other topics | 8.8, 444 | 10.9, 187 | 14.7, 396 |
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
