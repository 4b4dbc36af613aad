//! The client commands as those who type and script them meet them: the real binary against a broker in this process.
#![allow(clippy::unwrap_used)]

mod cluster;
mod compat;
mod group;
mod options;
mod records;
mod schema;
mod topic;
