//! Who holds what, while it is being shared out.
//!
//! **Invariant.** `members`, `held` and `loads` tell the same, three ways.

use std::collections::BTreeMap;

use super::{claims::NOBODY, problem::Problem};

pub(super) struct Holdings<'a> {
    pub(super) problem: &'a Problem<'a>,
    /// Of each topic, rising.
    pub(super) subscribers: Vec<Vec<u32>>,
    /// Of each partition; or [`NOBODY`] yet.
    members: Vec<u32>,
    /// Of each member, by topic.
    held: Vec<BTreeMap<usize, Vec<usize>>>,
    /// Of each member, how many partitions it holds.
    loads: Vec<usize>,
}

impl<'a> Holdings<'a> {
    /// Nobody holds anything.
    pub(super) fn new(problem: &'a Problem<'a>) -> Self {
        let members = problem.group.members().len();
        Self {
            problem,
            subscribers: problem.group.subscribers(),
            members: vec![NOBODY; problem.len()],
            held: vec![BTreeMap::new(); members],
            loads: vec![0; members],
        }
    }

    /// Of each partition, the member that holds it.
    pub(super) fn into_members(self) -> Vec<u32> {
        self.members
    }

    /// The member that holds a partition, or [`NOBODY`].
    pub(super) fn member(&self, partition: usize) -> u32 {
        self.members[partition]
    }

    pub(super) fn load(&self, member: u32) -> usize {
        self.loads[member as usize]
    }

    /// Of each member.
    pub(super) fn loads(&self) -> &[usize] {
        &self.loads
    }

    /// What a member holds, by topic.
    pub(super) fn held(&self, member: u32) -> &BTreeMap<usize, Vec<usize>> {
        &self.held[member as usize]
    }

    pub(super) fn unplaced(&self) -> impl Iterator<Item = usize> {
        (0..self.members.len()).filter(|at| self.members[*at] == NOBODY)
    }

    pub(super) fn may_have(&self, member: u32, topic: usize) -> bool {
        let group = self.problem.group;
        group.is_subscribed(&group.members()[member as usize], topic as u32)
    }

    /// Whether the member that had this partition has it now.
    pub(super) fn is_with_owner(&self, partition: usize) -> bool {
        self.problem.owners[partition] == self.members[partition]
    }

    pub(super) fn put(&mut self, partition: usize, member: u32) {
        self.members[partition] = member;
        self.loads[member as usize] += 1;
        self.held[member as usize]
            .entry(self.problem.topic(partition))
            .or_default()
            .push(partition);
    }

    fn take(&mut self, partition: usize) {
        let member = self.members[partition] as usize;
        let topic = self.problem.topic(partition);
        self.members[partition] = NOBODY;
        self.loads[member] -= 1;
        let held = self.held[member].get_mut(&topic).filter(|held| held.contains(&partition));
        let Some(held) = held else { unreachable!("a partition that its holder does not hold") };
        held.retain(|other| *other != partition);
        if held.is_empty() {
            self.held[member].remove(&topic);
        }
    }

    pub(super) fn hand_over(&mut self, partition: usize, to: u32) {
        self.take(partition);
        self.put(partition, to);
    }
}
