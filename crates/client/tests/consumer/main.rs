//! The consumer against the broker in this process.

#![allow(clippy::unwrap_used)]

mod context;
mod faults;
mod groups;
mod processing;
mod reading;
