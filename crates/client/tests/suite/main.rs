//! What the client promises, asked of any broker: a test broker in this process, or the one that `KAVKA_TEST_BOOTSTRAP` names.
//!
//! `cargo test -p kavka-client --test suite` is the first; `compat/run --only rust` runs the same tests against a `kavka serve` or an
//! Apache Kafka, and `--only old-brokers` against those of earlier years: `KAVKA_TEST_KAFKA_VERSION` then says which. Nothing here looks into
//! the broker: everything goes through the client, and every name is new in each run.
#![allow(clippy::unwrap_used)]

mod admin;
mod cancelled;
mod commits;
mod context;
mod groups;
mod reading;
mod writing;
