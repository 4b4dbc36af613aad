//! Who had which partition, as far as members may be believed.
//!
//! Members that missed a rebalance still claim what they had before it, so claims conflict. The newest generation wins, partition by
//! partition; two claims of the same, newest generation void each other, since nobody knows which of the two is right. A claim to a topic
//! that the member no longer subscribes to makes it no owner, but it still has to let go.

use crate::{
    assignment::Note,
    group::{Group, Member, Partition},
};

/// Nobody.
pub(super) const NOBODY: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Claim {
    member: u32,
    generation: i32,
    /// Somebody else claims it in the same generation.
    is_tied: bool,
}

/// The claims to each partition, by its place in the row of all partitions (see [`super::problem::Problem`]).
pub(super) struct Claims {
    newest: Vec<Claim>,
    owners: Vec<u32>,
}

impl Claims {
    /// `read` gives what a member claims, and its generation.
    pub(super) fn of(
        group: &Group,
        notes: &mut Vec<Note>,
        mut read: impl FnMut(&Member, &mut Vec<Note>) -> (Vec<Partition>, i32),
    ) -> Self {
        let nobody = Claim { member: NOBODY, generation: -1, is_tied: false };
        let mut newest = vec![nobody; group.partition_count()];
        let mut ties = Vec::new();
        let starts = topic_starts(group);
        for (at, member) in (0..).zip(group.members()) {
            let (mut claimed, generation) = read(member, notes);
            claimed.sort_unstable();
            claimed.dedup();
            for partition in claimed {
                let claim =
                    &mut newest[starts[partition.topic as usize] + partition.number as usize];
                if claim.member == NOBODY || generation > claim.generation {
                    *claim = Claim { member: at, generation, is_tied: false };
                } else if generation == claim.generation {
                    claim.is_tied = true;
                    ties.push((partition, claim.member, at, generation));
                }
            }
        }

        let mut owners = Vec::with_capacity(newest.len());
        for (topic, metadata) in (0..).zip(group.topics()) {
            for _ in 0..metadata.partitions() {
                let claim = newest[owners.len()];
                let is_owner = claim.member != NOBODY
                    && !claim.is_tied
                    && group.is_subscribed(&group.members()[claim.member as usize], topic);
                owners.push(if is_owner { claim.member } else { NOBODY });
            }
        }
        // A tie that a newer claim broke is of no interest.
        ties.retain(|(partition, _, _, generation)| {
            newest[starts[partition.topic as usize] + partition.number as usize].generation
                == *generation
        });
        let id = |member: u32| group.members()[member as usize].id().clone();
        notes.extend(ties.into_iter().map(|(partition, one, other, generation)| {
            Note::ClaimedTwice {
                topic: group.topics()[partition.topic as usize].name().clone(),
                partition: partition.number,
                member_ids: [id(one), id(other)],
                generation,
            }
        }));
        Self { newest, owners }
    }

    /// The member that owned each partition, or [`NOBODY`].
    pub(super) fn owners(&self) -> &[u32] {
        &self.owners
    }

    /// Whether somebody else may still be reading a partition that is to go to `member`. Its undisputed newest owner may keep it whatever
    /// members of older generations say: those have been fenced.
    pub(super) fn must_be_revoked_first(&self, partition: usize, member: u32) -> bool {
        let claim = &self.newest[partition];
        match claim.member {
            NOBODY => false,
            newest if newest == member => claim.is_tied,
            _ => true,
        }
    }
}

/// Where the partitions of each topic begin in the row of all partitions.
pub(super) fn topic_starts(group: &Group) -> Vec<usize> {
    let mut next = 0;
    group
        .topics()
        .iter()
        .map(|topic| {
            let start = next;
            next += topic.partitions() as usize;
            start
        })
        .collect()
}
