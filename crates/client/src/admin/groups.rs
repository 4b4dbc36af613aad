//! Groups: what they are, listing and describing them. Their offsets and the removal of members are beside it.

mod describe;
mod list;
mod members;
mod offsets;

use std::{fmt, str::FromStr};

use bytestring::ByteString;

pub use self::{
    describe::{GroupDescription, GroupMember},
    list::{GroupFilter, GroupList, GroupListing},
    members::MemberIdentity,
    offsets::{CommittedOffset, OffsetsOfGroup},
};
use crate::Error;

/// How the members of a group come to their partitions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum GroupType {
    /// A member assigns (JoinGroup and SyncGroup).
    Classic,
    /// The coordinator assigns (KIP-848).
    Consumer,
    /// Records are shared, not partitions (KIP-932).
    Share,
    /// Kafka Streams with the coordinator assigning (KIP-1071).
    Streams,
    /// One that is not known here.
    Unknown(ByteString),
}

/// The state of a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum GroupState {
    /// Members are joining.
    PreparingRebalance,
    /// The leader is assigning.
    CompletingRebalance,
    /// All have what they are to have.
    Stable,
    /// Gone.
    Dead,
    /// Nobody is in it; there may be offsets.
    Empty,
    /// The coordinator is assigning (KIP-848).
    Assigning,
    /// Members are moving to their new assignment (KIP-848).
    Reconciling,
    /// The topology is not valid yet (KIP-1071).
    NotReady,
    /// One that is not known here.
    Unknown(ByteString),
}

const TYPES: &[(&str, GroupType)] = &[
    ("classic", GroupType::Classic),
    ("consumer", GroupType::Consumer),
    ("share", GroupType::Share),
    ("streams", GroupType::Streams),
];

const STATES: &[(&str, GroupState)] = &[
    ("PreparingRebalance", GroupState::PreparingRebalance),
    ("CompletingRebalance", GroupState::CompletingRebalance),
    ("Stable", GroupState::Stable),
    ("Dead", GroupState::Dead),
    ("Empty", GroupState::Empty),
    ("Assigning", GroupState::Assigning),
    ("Reconciling", GroupState::Reconciling),
    ("NotReady", GroupState::NotReady),
];

impl GroupType {
    fn named(name: ByteString) -> Self {
        let found = TYPES.iter().find(|row| row.0.eq_ignore_ascii_case(&name));
        found.map_or(GroupType::Unknown(name), |row| row.1.clone())
    }
}

impl GroupState {
    fn named(name: ByteString) -> Self {
        let found = STATES.iter().find(|row| row.0.eq_ignore_ascii_case(&name));
        found.map_or(GroupState::Unknown(name), |row| row.1.clone())
    }

    /// Whether members are on the way from one assignment to the next.
    pub fn is_rebalancing(&self) -> bool {
        matches!(
            self,
            GroupState::PreparingRebalance
                | GroupState::CompletingRebalance
                | GroupState::Assigning
                | GroupState::Reconciling
        )
    }
}

impl fmt::Display for GroupType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupType::Unknown(name) => f.write_str(name),
            known => f.write_str(TYPES.iter().find(|row| row.1 == *known).map_or("", |row| row.0)),
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupState::Unknown(name) => f.write_str(name),
            known => f.write_str(STATES.iter().find(|row| row.1 == *known).map_or("", |row| row.0)),
        }
    }
}

impl FromStr for GroupType {
    type Err = Error;

    /// By its name, in any case.
    fn from_str(text: &str) -> Result<Self, Error> {
        let words: Vec<(&str, usize)> =
            TYPES.iter().enumerate().map(|(at, row)| (row.0, at)).collect();
        Ok(TYPES[crate::settings::one_of("group type", text, &words)?].1.clone())
    }
}

impl FromStr for GroupState {
    type Err = Error;

    /// By its name, in any case.
    fn from_str(text: &str) -> Result<Self, Error> {
        let words: Vec<(&str, usize)> =
            STATES.iter().enumerate().map(|(at, row)| (row.0, at)).collect();
        Ok(STATES[crate::settings::one_of("group state", text, &words)?].1.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_types_and_states_lead_back_and_unknown_ones_are_kept() {
        for (name, group_type) in TYPES {
            assert_eq!(name.to_uppercase().parse::<GroupType>().ok().as_ref(), Some(group_type));
            assert_eq!(group_type.to_string(), *name);
        }
        for (name, state) in STATES {
            assert_eq!(name.to_lowercase().parse::<GroupState>().ok().as_ref(), Some(state));
            assert_eq!(state.to_string(), *name);
        }
        assert_eq!(GroupState::named("Melting".into()).to_string(), "Melting");
        assert!("Melting".parse::<GroupState>().is_err());
    }
}
