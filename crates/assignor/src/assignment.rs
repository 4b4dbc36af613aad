//! What an assignor answers: which member gets which partitions.

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;
use kavka_protocol::DecodeError;

use crate::group::{Group, Partition};

/// Something that an assignor passed over, and that the operator of the member named may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A member's user data cannot be read; it is treated as one that owns nothing yet.
    UserDataIgnored {
        /// The member.
        member_id: ByteString,
        /// What is wrong with its bytes.
        error: DecodeError,
    },
    /// Two members of one generation claim the same partition; neither claim counts.
    ClaimedTwice {
        /// The topic.
        topic: ByteString,
        /// The partition.
        partition: u32,
        /// Two of those who claim it.
        member_ids: [ByteString; 2],
        /// The generation they say they are of.
        generation: i32,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserDataIgnored { member_id, error } => write!(
                f,
                "the user data of member {member_id} cannot be read ({error}); what it owned is not known, and may move"
            ),
            Self::ClaimedTwice { topic, partition, member_ids: [one, other], generation } => {
                write!(
                    f,
                    "partition {partition} of topic {topic} is claimed by members {one} and {other}, both of generation {generation}; \
                 neither claim counts"
                )
            }
        }
    }
}

/// What one member gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberAssignment {
    /// Its partitions, in the order in which the assignor dealt them out.
    pub partitions: Vec<Partition>,
    /// What the assignor has to say to its own kind at the member.
    pub user_data: Option<Bytes>,
}

/// What every member gets, in the order of [`Group::members`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    members: Vec<MemberAssignment>,
    notes: Vec<Note>,
}

impl Assignment {
    /// Nobody gets anything, yet.
    pub fn empty(group: &Group) -> Self {
        Self {
            members: vec![MemberAssignment::default(); group.members().len()],
            notes: Vec::new(),
        }
    }

    /// Gives partitions to the member at this place in [`Group::members`].
    ///
    /// # Panics
    /// If there is no such member.
    pub fn give(&mut self, member: usize, partitions: impl IntoIterator<Item = Partition>) {
        self.members[member].partitions.extend(partitions);
    }

    /// Sets what a member's assignor is told.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn set_user_data(&mut self, member: usize, user_data: Option<Bytes>) {
        self.members[member].user_data = user_data;
    }

    /// What each member gets, in the order of [`Group::members`].
    pub fn members(&self) -> &[MemberAssignment] {
        &self.members
    }

    /// Says what was passed over.
    pub fn add_notes(&mut self, notes: impl IntoIterator<Item = Note>) {
        self.notes.extend(notes);
    }

    /// What was passed over.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    pub(crate) fn members_mut(&mut self) -> &mut [MemberAssignment] {
        &mut self.members
    }
}
