//! What must hold inside a group after every step; for tests.

use std::collections::BTreeSet;

use super::{ClassicGroup, Totals};
use crate::group::{GroupState, timers::GroupTimer};

/// How many are there.
pub(crate) struct Sizes {
    pub(crate) members: usize,
    pub(crate) joining: usize,
    pub(crate) pending: usize,
}

pub(crate) fn sizes(group: &ClassicGroup) -> Sizes {
    Sizes {
        members: group.members.len(),
        joining: group.totals.joining,
        pending: group.pending.len() + group.superseded.len(),
    }
}

pub(crate) fn has_member(group: &ClassicGroup, member_id: &str) -> bool {
    group.members.contains_key(member_id)
}

/// The timers that belong to the group: no fewer, no more.
pub(crate) fn expected_timers(group: &ClassicGroup) -> BTreeSet<GroupTimer> {
    let mut timers: BTreeSet<GroupTimer> =
        group.members.keys().map(|id| GroupTimer::Session(id.clone())).collect();
    timers.extend(group.pending.keys().map(|id| GroupTimer::Pending(id.clone())));
    timers.extend(group.superseded.keys().map(|id| GroupTimer::Pending(id.clone())));
    if group.state == GroupState::PreparingRebalance {
        timers.insert(GroupTimer::Join);
    }
    if !group.owe_sync.is_empty() {
        timers.insert(GroupTimer::Sync);
    }
    timers
}

pub(crate) fn check(group: &ClassicGroup) {
    let state = group.state;
    let mut totals = Totals::default();
    for (id, member) in &group.members {
        totals.add(id, member);
        assert!(
            member.join.is_none() || state == GroupState::PreparingRebalance,
            "{id} has a parked JoinGroup in {state}"
        );
        assert!(
            member.sync.is_none() || state == GroupState::CompletingRebalance,
            "{id} has a parked SyncGroup in {state}"
        );
        assert!(!member.is_new || state == GroupState::PreparingRebalance);
    }
    assert_eq!(totals, group.totals, "sums are the sums of the members");

    let names: BTreeSet<_> = group
        .members
        .iter()
        .filter_map(|(id, member)| Some((member.instance_id.as_ref()?, id)))
        .collect();
    let mapped: BTreeSet<_> = group.static_members.iter().collect();
    assert_eq!(names, mapped, "S13: a name for one member, a member for each name");

    for id in group.pending.keys() {
        assert!(!group.members.contains_key(id) && !group.superseded.contains_key(id));
    }
    for id in &group.owe_sync {
        assert!(group.members.contains_key(id));
    }
    match state {
        GroupState::Empty => {
            assert!(group.members.is_empty(), "S11");
            assert!(group.leader.is_none() && group.protocol.is_none(), "S11");
            assert!(group.rebalance.is_none() && group.owe_sync.is_empty(), "S11");
        }
        GroupState::PreparingRebalance => {
            assert!(group.rebalance.is_some() && group.owe_sync.is_empty());
        }
        GroupState::CompletingRebalance => {
            assert!(group.rebalance.is_some() && !group.members.is_empty());
            assert!(group.protocol.is_some());
        }
        GroupState::Stable => {
            assert!(group.rebalance.is_none() && !group.members.is_empty());
        }
        GroupState::Dead => panic!("no group that is held is dead"),
    }
    if !group.members.is_empty() {
        let leader = group.leader.as_ref().expect("a group with members has a leader");
        assert!(group.members.contains_key(leader), "the leader is a member");
    }
}
