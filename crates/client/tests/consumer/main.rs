//! The consumer against the broker in this process.

#![allow(clippy::unwrap_used)]

mod assignors;
mod context;
mod events;
mod faults;
mod groups;
mod metrics;
mod processing;
mod reading;
