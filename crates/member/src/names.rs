//! How names that count up are hashed: requests, commits, revocations, positions.
//!
//! Two members that differ in nothing but how often they have counted will do the same, and whoever compares members by hash (the
//! exhaustive search of the simulation) has to be able to see that. So a name arrives at the hasher as one `i128`, its kind in
//! the upper half, and nothing else in a member does: such a hasher can put the order of appearance in its place.

use std::hash::{Hash, Hasher};

use crate::{CommitId, DrainId, PositionEpoch, RequestId};

macro_rules! hash_as_names {
    ($($name:ident = $kind:literal),*) => {
        $(impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                state.write_i128(($kind << 64) | i128::from(self.0));
            }
        })*
    };
}

hash_as_names!(RequestId = 1, CommitId = 2, DrainId = 3, PositionEpoch = 4);
