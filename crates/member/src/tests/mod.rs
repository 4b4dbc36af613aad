//! The member against a script: each test says what the coordinator answers.
#![allow(clippy::unwrap_used)]

mod context;
mod departures;
mod membership;
mod moves;
mod offsets;
mod properties;
mod reactions;
mod regressions;
mod wire;
