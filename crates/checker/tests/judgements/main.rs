//! What the checker says of histories: small ones by hand, thousands of valid ones, and the same with something wrong.
#![allow(clippy::unwrap_used)]

mod cycles;
mod groups;
mod mutations;
mod order;
mod program;
mod random;
mod story;
mod valid;
mod values;
mod verdicts;
