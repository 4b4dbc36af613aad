//! What was noted of groups: who believed to own what, in which generation, and what the coordinator did.

use std::collections::{BTreeMap, BTreeSet};

use crate::{GroupSettings, GroupState, Member, Op, TopicPartition, context::Context};

/// A client believed to own a partition, from `start` up to but not including `end`.
#[derive(Clone, Debug)]
pub(crate) struct Belief<'h> {
    pub(crate) client: &'h str,
    /// As whom it was given the partition.
    pub(crate) member: &'h Member,
    pub(crate) partition: &'h TopicPartition,
    pub(crate) start: u64,
    /// The end of all time if it never gave it back.
    pub(crate) end: u64,
    /// Up to when it was right, as far as the coordinator is concerned.
    pub(crate) sound_end: u64,
    pub(crate) start_event: usize,
    pub(crate) end_event: Option<usize>,
}

/// A client was told a generation.
#[derive(Clone, Debug)]
pub(crate) struct Seen<'h> {
    pub(crate) client: &'h str,
    pub(crate) member: &'h Member,
    pub(crate) time: u64,
    pub(crate) event: usize,
    /// Everything it owns since then.
    pub(crate) owned: BTreeSet<&'h TopicPartition>,
}

/// What was noted of one group.
#[derive(Debug, Default)]
pub(crate) struct GroupFacts<'h> {
    pub(crate) settings: GroupSettings,
    /// In the order of their starts.
    pub(crate) beliefs: Vec<Belief<'h>>,
    /// In the order of time.
    pub(crate) seen: Vec<Seen<'h>>,
    /// Member ids that are not valid any more: since when, and the event.
    pub(crate) removed: BTreeMap<&'h str, (u64, usize)>,
    /// In the order of time.
    pub(crate) states: Vec<(u64, GroupState, usize)>,
    /// When the group had no members or was deleted: generations may begin anew.
    pub(crate) restarts: Vec<u64>,
    /// When a client wanted other topics: who, and which.
    pub(crate) subscriptions: Vec<(u64, &'h str, &'h BTreeSet<String>)>,
    /// When members were removed, or lost their partitions.
    pub(crate) losses: Vec<u64>,
    /// For each of `seen`, the newest generation up to there since the group had no members.
    pub(crate) newest: Vec<i32>,
    /// The beliefs of each client that have not ended.
    held: BTreeMap<&'h str, Vec<usize>>,
}

/// What was noted of all groups.
#[derive(Debug, Default)]
pub(crate) struct Facts<'h> {
    pub(crate) groups: BTreeMap<&'h str, GroupFacts<'h>>,
    /// When clients crashed or began to close, and which.
    pub(crate) gone: Vec<(u64, &'h str)>,
    /// How many partitions topics had, since when.
    pub(crate) topics: Vec<(u64, &'h str, u32)>,
    /// When the last event happened.
    pub(crate) end: u64,
}

impl<'h> GroupFacts<'h> {
    /// Whether the group had no members at some time between the two.
    pub(crate) fn restarted_between(&self, from: u64, to: u64) -> bool {
        let first = self.restarts.partition_point(|time| *time < from);
        self.restarts.get(first).is_some_and(|time| *time <= to)
    }

    fn end_beliefs(
        &mut self,
        client: &str,
        which: impl Fn(&TopicPartition) -> bool,
        time: u64,
        event: usize,
    ) {
        let Some(held) = self.held.get_mut(client) else { return };
        held.retain(|index| {
            let belief = &mut self.beliefs[*index];
            let ends = which(belief.partition);
            if ends {
                (belief.end, belief.end_event) = (time, Some(event));
            }
            !ends
        });
    }

    /// The newest generations, as they were handed out.
    fn note_newest(&mut self) {
        let mut newest: Vec<i32> = Vec::with_capacity(self.seen.len());
        for (index, seen) in self.seen.iter().enumerate() {
            let before =
                index.checked_sub(1).map(|before| (self.seen[before].time, newest[before]));
            let before = before.filter(|(time, _)| !self.restarted_between(*time, seen.time));
            let generation = seen.member.generation;
            newest.push(before.map_or(generation, |(_, before)| before.max(generation)));
        }
        self.newest = newest;
    }
}

impl<'h> Facts<'h> {
    pub(crate) fn new(context: &Context<'h>) -> Self {
        let mut facts = Self::default();
        for (index, event) in context.history.events.iter().enumerate() {
            facts.note(index, event.time, &event.client, &event.op);
            facts.end = event.time;
        }
        let proofs = proofs(context);
        for (name, group) in &mut facts.groups {
            group.note_newest();
            for belief in &mut group.beliefs {
                let id = belief.member.member_id.as_str();
                belief.sound_end = belief.end;
                if let Some((removed, _)) = group.removed.get(id) {
                    belief.sound_end = belief.sound_end.min(*removed);
                }
                if !group.settings.removals_noted {
                    // Not by what came later: a static member that was left out of a rebalance comes back under the same id.
                    let proven = proofs
                        .get(&(*name, id))
                        .and_then(|proofs| proofs.range(..=belief.end).next_back().copied());
                    belief.sound_end = belief.sound_end.min(proven.unwrap_or(0));
                }
            }
        }
        facts
    }

    fn note(&mut self, event: usize, time: u64, client: &'h str, op: &'h Op) {
        match op {
            Op::Group { group, settings } => {
                self.groups.entry(group).or_default().settings = settings.clone();
            }
            Op::Assigned { group, member, partitions } => {
                let group = self.groups.entry(group).or_default();
                let held = group.held.entry(client).or_default();
                let mut owned: BTreeSet<&TopicPartition> =
                    held.iter().map(|index| group.beliefs[*index].partition).collect();
                for partition in partitions.iter().filter(|partition| !owned.contains(*partition)) {
                    held.push(group.beliefs.len());
                    group.beliefs.push(Belief {
                        client,
                        member,
                        partition,
                        start: time,
                        end: u64::MAX,
                        sound_end: u64::MAX,
                        start_event: event,
                        end_event: None,
                    });
                }
                owned.extend(partitions);
                group.seen.push(Seen { client, member, time, event, owned });
            }
            Op::Revoked { group, partitions } | Op::Lost { group, partitions } => {
                let group = self.groups.entry(group).or_default();
                group.end_beliefs(client, |partition| partitions.contains(partition), time, event);
                if matches!(op, Op::Lost { .. }) {
                    group.losses.push(time);
                }
            }
            Op::Crash {} | Op::Close {} => {
                self.gone.push((time, client));
                if matches!(op, Op::Crash {}) {
                    for group in self.groups.values_mut() {
                        group.end_beliefs(client, |_| true, time, event);
                    }
                }
            }
            Op::MemberRemoved { group, member_id } => {
                let group = self.groups.entry(group).or_default();
                group.removed.entry(member_id).or_insert((time, event));
                group.losses.push(time);
            }
            Op::GroupState { group, state } => {
                let group = self.groups.entry(group).or_default();
                group.states.push((time, *state, event));
                if state.has_no_members() {
                    group.restarts.push(time);
                }
            }
            Op::DeleteGroup { group } => {
                self.groups.entry(group).or_default().restarts.push(time);
            }
            Op::Subscribe { group, topics } => {
                self.groups.entry(group).or_default().subscriptions.push((time, client, topics));
            }
            Op::Topic { topic, partitions } => self.topics.push((time, topic, *partitions)),
            _ => {}
        }
    }

    /// How many partitions each topic has at the end of that time.
    pub(crate) fn topics_at(&self, time: u64) -> BTreeMap<&'h str, u32> {
        let until = self.topics.iter().filter(|(since, ..)| *since <= time);
        until.map(|(_, topic, partitions)| (*topic, *partitions)).collect()
    }
}

/// For each member of a group, the moments at which the coordinator is known to have taken it for one.
fn proofs<'h>(context: &Context<'h>) -> BTreeMap<(&'h str, &'h str), BTreeSet<u64>> {
    let mut proofs: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
    for operation in &context.operations {
        if operation.outcome != crate::operation::Outcome::Ok {
            continue;
        }
        let mut prove = |group: &'h str, member: &'h Member| {
            proofs.entry((group, member.member_id.as_str())).or_default().insert(operation.start);
        };
        if let Op::Heartbeat { group, member } = operation.op {
            prove(group, member);
        }
        for commit in operation.commits() {
            if let Some(member) = &commit.member
                && commit.failed.len() < commit.offsets.len()
            {
                prove(&commit.group, member);
            }
        }
    }
    proofs
}
