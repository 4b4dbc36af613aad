//! The group coordinator as pure state machines: no clock, no lock, no thread, no I/O, no randomness of its own.
//!
//! * [`group`]: groups and their committed offsets, one [machine](group) for each partition of `__consumer_offsets`.
//! * [`Now`], [`Monotonic`]: time, which comes in as an argument.
//!
//! **Architecture invariant:** equal inputs give equal outputs, byte for byte. What iterates into an output is an ordered map.

pub mod group;

pub use kavka_protocol::{Monotonic, Now};
