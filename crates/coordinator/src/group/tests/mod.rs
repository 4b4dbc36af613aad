//! Tests of the group shard. Each step of each test checks the [invariants](super::invariants) and replays the log, also as compaction would
//! leave it.
#![allow(clippy::unwrap_used)]

mod context;
mod dynamic_members;
mod loading;
mod offsets;
mod random;
mod regressions;
mod static_members;
mod transactions;
