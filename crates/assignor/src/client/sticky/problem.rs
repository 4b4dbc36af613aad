//! What there is to share out, with all partitions in one row: by topic, then by number.

use super::claims::NOBODY;
use crate::group::{Group, Partition, racks_matter};

/// What a far partition may be exchanged for, so that it gets near to its member.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum NearSearch {
    /// Nothing.
    Nobody,
    /// What others have of the same topic.
    SameTopic,
    /// Whatever others have.
    Everything,
}

/// So many comparisons are made at most, in one go over all partitions.
const NEAR_SEARCH_LIMIT: usize = 10_000_000;

/// The question in the shape that the algorithms of this folder work on. Partitions and members are places: in the row of all partitions,
/// and in [`Group::members`].
pub(super) struct Problem<'a> {
    pub(super) group: &'a Group,
    /// Of each partition, the member that had it, or [`NOBODY`]. An owner subscribes to the topic.
    pub(super) owners: &'a [u32],
    /// Of each partition.
    partitions: Vec<Partition>,
    /// Whether nearness counts.
    pub(super) use_racks: bool,
}

impl<'a> Problem<'a> {
    pub(super) fn new(group: &'a Group, owners: &'a [u32]) -> Self {
        let partitions: Vec<Partition> = (0..)
            .zip(group.topics())
            .flat_map(|(topic, metadata)| {
                (0..metadata.partitions()).map(move |number| Partition { topic, number })
            })
            .collect();
        let topics: Vec<u32> = (0..).take(group.topics().len()).collect();
        let use_racks = racks_matter(group, &topics, (0..).take(group.members().len()));
        Self { group, owners, partitions, use_racks }
    }

    pub(super) fn partition(&self, at: usize) -> Partition {
        self.partitions[at]
    }

    pub(super) fn len(&self) -> usize {
        self.partitions.len()
    }

    /// The topic of a partition.
    pub(super) fn topic(&self, at: usize) -> usize {
        self.partitions[at].topic as usize
    }

    /// Whether all who subscribe to anything subscribe to the same.
    pub(super) fn is_equal(&self) -> bool {
        self.group.subscriptions().iter().filter(|topics| !topics.is_empty()).count() <= 1
    }

    /// The members that subscribe to anything, rising.
    pub(super) fn subscribers(&self) -> Vec<u32> {
        (0..)
            .zip(self.group.members())
            .filter(|(_, member)| !self.group.topics_of(member).is_empty())
            .map(|(at, _)| at)
            .collect()
    }

    /// Whether the partition has a replica in the member's rack, as far as racks count at all.
    pub(super) fn is_near(&self, at: usize, member: u32) -> bool {
        let Partition { topic, number } = self.partitions[at];
        !self.use_racks
            || self.group.members()[member as usize]
                .is_near(&self.group.topics()[topic as usize], number)
    }

    /// The racks of the partition's replicas.
    pub(super) fn racks(&self, at: usize) -> &[u32] {
        let Partition { topic, number } = self.partitions[at];
        self.group.topics()[topic as usize].racks(number)
    }

    /// The rack of a member, as far as racks count at all.
    pub(super) fn rack(&self, member: u32) -> Option<u32> {
        self.group.members()[member as usize].rack().filter(|_| self.use_racks)
    }

    /// How far to look for somebody near to a partition. It depends on the size of the problem only, so that a second run, with the outcome
    /// of the first, looks as far.
    pub(super) fn near_search(&self) -> NearSearch {
        let (partitions, members) = (self.len(), self.group.members().len());
        if !self.use_racks || partitions.saturating_mul(members) > NEAR_SEARCH_LIMIT {
            NearSearch::Nobody
        } else if partitions.saturating_mul(members + partitions) > NEAR_SEARCH_LIMIT {
            NearSearch::SameTopic
        } else {
            NearSearch::Everything
        }
    }

    /// What it costs that a member has a partition: that it is far away, and that it moved. Less is better. A partition nearer is worth one
    /// that moves, but not two that are swapped for it.
    pub(super) fn cost(&self, at: usize, member: u32) -> i32 {
        let owner = self.owners[at];
        2 * i32::from(!self.is_near(at, member)) + i32::from(owner != NOBODY && owner != member)
    }
}
