//! What must hold after every step of a shard, whatever the inputs. For tests and simulations: the feature `testing`.
//!
//! Codes such as S2 name the invariants. A check that fails panics.

mod naive;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kavka_protocol::{ByteString, ErrorCode};

pub use self::naive::NaiveOffsets;
use super::{
    CommitRequest, GroupConfig, GroupMember, GroupShard, GroupState, GroupValue, HardView, Record,
    Reply, classic::checks, timers::Timer,
};

/// A record in the log of a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where it stands.
    pub offset: i64,
    /// What it is.
    pub what: Logged,
}

/// What a record in the log is.
#[derive(Clone, Debug, PartialEq)]
pub enum Logged {
    /// Written by the shard.
    Plain(Record),
    /// Written in the transaction of a producer.
    Transactional(i64, Record),
    /// The end of a producer's transaction: whether it was committed.
    Marker(i64, bool),
}

impl Entry {
    /// Applies it, as a live shard does.
    pub fn apply_to(&self, shard: &mut GroupShard) {
        match &self.what {
            Logged::Plain(record) => shard.apply(self.offset, record),
            Logged::Transactional(producer, record) => {
                shard.apply_transactional(self.offset, *producer, record);
            }
            Logged::Marker(producer, committed) => shard.end_transaction(*producer, *committed),
        }
    }

    /// As [`apply_to`](Self::apply_to), from the bytes in the log.
    ///
    /// # Panics
    /// If the record cannot be written.
    pub fn replay_into(&self, shard: &mut GroupShard) {
        let (record, producer_id) = match &self.what {
            Logged::Plain(record) => (record, None),
            Logged::Transactional(producer, record) => (record, Some(*producer)),
            Logged::Marker(..) => return self.apply_to(shard),
        };
        let (key, value) = encoded(record);
        shard.apply_logged(self.offset, producer_id, Some(&key), value.as_deref());
    }

    /// The record; `None` for a marker.
    pub fn record(&self) -> Option<&Record> {
        match &self.what {
            Logged::Plain(record) | Logged::Transactional(_, record) => Some(record),
            Logged::Marker(..) => None,
        }
    }
}

fn encoded(record: &Record) -> (Bytes, Option<Bytes>) {
    record.encode().expect("what a shard makes can be written")
}

/// A group, as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedGroup {
    /// Its id.
    pub group: ByteString,
    /// Its state.
    pub state: GroupState,
    /// Its generation.
    pub generation: i32,
    /// Who is in.
    pub members: Vec<GroupMember>,
    /// Member ids that were handed out and have not come back.
    pub pending: usize,
}

/// The groups of a shard, as they are served.
pub fn served(shard: &GroupShard) -> impl Iterator<Item = ServedGroup> + '_ {
    shard.groups.iter().map(|(id, group)| ServedGroup {
        group: id.clone(),
        state: group.state(),
        generation: group.generation(),
        members: group.to_value().members,
        pending: checks::sizes(group).pending,
    })
}

/// A group's generation and whether such a member is in it; `None` if the group is not served.
pub fn membership(shard: &GroupShard, group: &str, member_id: &str) -> Option<(i32, bool)> {
    let group = shard.groups.get(group)?;
    Some((group.generation(), checks::has_member(group, member_id)))
}

/// What is remembered from step to step.
#[derive(Clone, Debug, Default)]
pub struct History {
    generations: BTreeMap<ByteString, i32>,
    /// Generation, and who has which share, of the groups that were stable.
    shares: BTreeMap<ByteString, (i32, Shares)>,
    /// What the log said when it was last replayed, and how long it was.
    replayed: Option<(usize, HardView)>,
    /// The shard was loaded with a group larger than the limit, so the limit need not hold yet.
    over_capacity: bool,
}

type Shares = BTreeMap<ByteString, Bytes>;

impl History {
    /// The shard was loaded anew: what was not stored is forgotten.
    pub fn restarted(&mut self) {
        self.generations.clear();
        self.shares.clear();
        self.replayed = None;
        self.limit_changed();
    }

    /// The groups that are there may be larger than they could become now.
    pub fn limit_changed(&mut self) {
        self.over_capacity = true;
    }

    /// Everything that can be seen in the shard itself.
    ///
    /// # Panics
    /// If something does not hold.
    pub fn check(&mut self, shard: &GroupShard, config: &GroupConfig) {
        soft_state_agrees_with_hard_state(shard);
        timers_belong_to_someone(shard);
        self.generations_never_decrease(shard);
        self.shares_of_a_generation_stay(shard);
        let mut is_within = true;
        for group in shard.groups.values() {
            checks::check(group);
            let sizes = checks::sizes(group);
            assert!(sizes.pending <= config.max_pending_members, "S14");
            if self.over_capacity {
                is_within &= sizes.members <= config.max_size;
            } else {
                let counted = match group.state() {
                    GroupState::PreparingRebalance => sizes.joining,
                    _ => sizes.members,
                };
                assert!(counted <= config.max_size, "S14: {counted} members");
            }
        }
        self.over_capacity &= !is_within;
    }

    /// S2: also from what compaction leaves. Looks at the whole log, unless it is as long as it was the last time.
    ///
    /// # Panics
    /// If live is not replayed.
    pub fn check_replay(&mut self, shard: &GroupShard, config: &GroupConfig, log: &[Entry]) {
        if let Some((len, replayed)) = &self.replayed
            && *len == log.len()
        {
            assert_eq!(shard.hard_state(), *replayed, "S2: only records change hard state");
            return;
        }
        let live = shard.hard_state();
        live_equals_replayed(&live, config, log);
        self.replayed = Some((log.len(), live));
    }

    /// S8, as long as the group is there.
    fn generations_never_decrease(&mut self, shard: &GroupShard) {
        self.generations.retain(|id, _| shard.groups.contains_key(id));
        for (id, group) in &shard.groups {
            let generation = group.generation();
            let before = self.generations.entry(id.clone()).or_insert(generation);
            assert!(*before <= generation, "S8: {id} went from {before} to {generation}");
            *before = generation;
        }
    }

    /// S30: as long as a group is stable in a generation, nobody's share changes.
    fn shares_of_a_generation_stay(&mut self, shard: &GroupShard) {
        let is_stable = |id: &ByteString| {
            shard.groups.get(id).is_some_and(|group| group.state() == GroupState::Stable)
        };
        self.shares.retain(|id, _| is_stable(id));
        for (id, group) in &shard.groups {
            if group.state() != GroupState::Stable {
                continue;
            }
            let members = group.to_value().members.into_iter();
            let shares: Shares =
                members.map(|member| (member.member_id, member.assignment)).collect();
            let generation = group.generation();
            let former = self.shares.insert(id.clone(), (generation, shares));
            let (now, former) = match (self.shares.get(id), former) {
                (Some((_, now)), Some((before, former))) if before == generation => (now, former),
                _ => continue,
            };
            assert_eq!(former.len(), now.len(), "S30: {id} lost or won a member");
            for (member, share) in &former {
                let now = now.get(member);
                assert!(now.is_none_or(|now| now == share), "S30: {id} moved {member}'s share");
            }
        }
    }
}

/// S2: what a log says, whole, compacted, without its tombstones, and with its last records twice, is `live`.
///
/// # Panics
/// If it is not.
pub fn live_equals_replayed(live: &HardView, config: &GroupConfig, log: &[Entry]) {
    let replay = |entries: &[Entry]| {
        let mut fresh = GroupShard::new(config.clone(), 0);
        entries.iter().for_each(|entry| entry.apply_to(&mut fresh));
        fresh.hard_state()
    };
    assert_eq!(*live, replay(log), "S2: live equals replayed");
    let compacted = compact(log, false);
    assert_eq!(*live, replay(&compacted), "S2: live equals replayed from a compacted log");
    let without_tombstones = compact(log, true);
    assert_eq!(*live, replay(&without_tombstones), "S2: also when tombstones are gone");
    // The end of a transaction counts once, and what comes after it in a second reading belongs to the next one.
    let last_marker = log.iter().rposition(|entry| matches!(entry.what, Logged::Marker(..)));
    let repeatable = last_marker.map_or(0, |at| at + 1);
    let tail = &log[log.len().saturating_sub(5).max(repeatable)..];
    let twice: Vec<_> = log.iter().chain(tail).cloned().collect();
    assert_eq!(*live, replay(&twice), "S2: the last records may come twice");
}

/// The last record of each key, in the order of the log. What an open transaction wrote is not compacted, and gives way to
/// nothing before it has ended; what was aborted is gone; markers stay.
pub fn compact(log: &[Entry], drop_tombstones: bool) -> Vec<Entry> {
    let mut open: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    let mut aborted = BTreeSet::new();
    for (at, entry) in log.iter().enumerate() {
        match &entry.what {
            Logged::Transactional(producer, _) => open.entry(*producer).or_default().push(at),
            Logged::Marker(producer, committed) => {
                let ended = open.remove(producer).unwrap_or_default();
                if !committed {
                    aborted.extend(ended);
                }
            }
            Logged::Plain(_) => {}
        }
    }
    // Kafka compacts below the last stable offset only.
    let stable = open.values().flatten().min().copied().unwrap_or(log.len());
    let mut last = BTreeMap::new();
    for (at, entry) in log[..stable].iter().enumerate().filter(|(at, _)| !aborted.contains(at)) {
        if let Some(record) = entry.record() {
            last.insert(encoded(record).0, at);
        }
    }
    let keeps = |(at, entry): &(usize, &Entry)| {
        let Some(record) = entry.record() else { return true };
        let is_tombstone = matches!(
            record,
            Record::Group { value: None, .. } | Record::Offset { value: None, .. }
        );
        *at >= stable
            || (last.get(&encoded(record).0) == Some(at) && !(drop_tombstones && is_tombstone))
    };
    log.iter().enumerate().filter(keeps).map(|(_, entry)| entry.clone()).collect()
}

/// A group that waits for nothing is as its record says: that is why a restart disturbs nobody.
fn soft_state_agrees_with_hard_state(shard: &GroupShard) {
    if shard.groups.is_empty() {
        return;
    }
    let hard = &shard.hard;
    for (id, group) in &shard.groups {
        let stored = hard.groups().get(id);
        let is_stored = || stored.is_some_and(|stored| is_same(&group.to_value(), stored));
        match group.state() {
            GroupState::Stable => {
                assert!(is_stored(), "{id} is not as it is stored: {group:?}, {stored:?}")
            }
            GroupState::Empty if !group.is_simple() => {
                assert!(is_stored(), "{id} is not as it is stored: {group:?}, {stored:?}");
            }
            _ => assert!(stored.is_none_or(|stored| stored.generation <= group.generation())),
        }
    }
    for id in hard.groups().keys().chain(hard.offsets.groups()).chain(hard.pending.groups()) {
        assert!(shard.groups.contains_key(id), "{id} is stored and not served");
    }
}

/// Records of version 0 have no rebalance timeout: the session timeout stands for it.
fn is_same(served: &GroupValue, stored: &GroupValue) -> bool {
    if served == stored {
        return true;
    }
    let mut stored = stored.clone();
    for member in &mut stored.members {
        if member.rebalance_timeout_ms == -1 {
            member.rebalance_timeout_ms = member.session_timeout_ms;
        }
    }
    *served == stored
}

/// S12: every member and every id that was handed out has its timer, every rebalance has one, and there are no others.
fn timers_belong_to_someone(shard: &GroupShard) {
    let mut expected = BTreeSet::new();
    for (id, group) in &shard.groups {
        let timers = checks::expected_timers(group);
        expected.extend(timers.into_iter().map(|timer| Timer::Group(id.clone(), timer)));
    }
    let of_groups = shard.timers.all().filter(|timer| matches!(timer, Timer::Group(..)));
    assert!(expected.iter().eq(of_groups), "S12: {:?} in place of {expected:?}", shard.timers);
}

/// S14: the log takes every record.
///
/// # Panics
/// If one is too large.
pub fn check_size(record: &Record, config: &GroupConfig) {
    assert!(record.approximate_size() <= config.max_batch_bytes + 64, "S14: {record:?}");
}

/// S4, read naively off the group as it is described: the code that each partition of a commit has to have, as far as its
/// sender decides on it; `None` if it may commit.
pub fn expected_of_commit(shard: &GroupShard, request: &CommitRequest) -> Option<ErrorCode> {
    let Some(group) = shard.groups.get(&request.group) else {
        let refused = request.generation >= 0;
        return refused.then_some(ErrorCode::GroupIdNotFound);
    };
    let (state, generation) = (group.state(), group.generation());
    let members = group.to_value().members;
    if request.generation < 0 && state == GroupState::Empty {
        return None;
    }
    if let Some(name) = &request.instance_id {
        let of_name = members.iter().find(|m| m.instance_id.as_ref() == Some(name));
        match of_name {
            None => return Some(ErrorCode::UnknownMemberId),
            Some(member) if member.member_id != request.member_id => {
                return Some(ErrorCode::FencedInstanceId);
            }
            Some(_) => {}
        }
    }
    if !members.iter().any(|member| member.member_id == request.member_id) {
        return Some(ErrorCode::UnknownMemberId);
    }
    if request.generation != generation {
        return Some(ErrorCode::IllegalGeneration);
    }
    (state == GroupState::CompletingRebalance).then_some(ErrorCode::RebalanceInProgress)
}

/// S26: codes that the API may answer, where it may answer them.
///
/// # Panics
/// If it answers another one.
pub fn check_codes(reply: &Reply) {
    use ErrorCode as E;
    let check = |code: E, allowed: &[E]| {
        let always =
            [E::None, E::CoordinatorLoadInProgress, E::CoordinatorNotAvailable, E::NotCoordinator];
        assert!(always.contains(&code) || allowed.contains(&code), "S26: {code} in {reply:?}");
    };
    match reply {
        Reply::Join(join) => {
            check(
                join.error,
                &[
                    E::InconsistentGroupProtocol,
                    E::InvalidGroupId,
                    E::UnknownMemberId,
                    E::InvalidSessionTimeout,
                    E::RebalanceInProgress,
                    E::MemberIdRequired,
                    E::GroupMaxSizeReached,
                    E::FencedInstanceId,
                    E::InvalidRequest,
                ],
            );
            if join.error != E::None {
                assert_eq!(join.generation, -1);
                assert!(join.members.is_empty() && join.leader.is_empty());
            }
        }
        Reply::Sync(sync) => check(
            sync.error,
            &[
                E::UnknownMemberId,
                E::IllegalGeneration,
                E::InconsistentGroupProtocol,
                E::InvalidGroupId,
                E::RebalanceInProgress,
                E::FencedInstanceId,
                E::UnknownServerError,
            ],
        ),
        Reply::Heartbeat(code) => check(
            *code,
            &[
                E::UnknownMemberId,
                E::IllegalGeneration,
                E::InvalidGroupId,
                E::RebalanceInProgress,
                E::FencedInstanceId,
            ],
        ),
        Reply::Leave(leave) => {
            check(leave.error, &[E::InvalidGroupId]);
            for member in &leave.members {
                check(member.error, &[E::UnknownMemberId, E::FencedInstanceId]);
            }
        }
        Reply::CommitOffsets(commit) => {
            for (_, code) in commit.topics.iter().flat_map(|topic| &topic.partitions) {
                check(
                    *code,
                    &[
                        E::UnknownMemberId,
                        E::IllegalGeneration,
                        E::GroupIdNotFound,
                        E::RebalanceInProgress,
                        E::FencedInstanceId,
                        E::OffsetMetadataTooLarge,
                        E::InvalidCommitOffsetSize,
                    ],
                );
            }
        }
        Reply::FetchOffsets(fetch) => {
            check(fetch.error, &[]);
            for partition in fetch.topics.iter().flat_map(|topic| &topic.partitions) {
                check(partition.error, &[E::UnstableOffsetCommit]);
            }
        }
        Reply::DeleteOffsets(delete) => {
            check(delete.error, &[E::GroupIdNotFound, E::NonEmptyGroup, E::InvalidGroupId]);
            for (_, code) in delete.topics.iter().flat_map(|(_, partitions)| partitions) {
                check(*code, &[E::GroupSubscribedToTopic]);
            }
        }
        Reply::DeleteGroups(groups) => {
            for (_, code) in groups {
                check(*code, &[E::GroupIdNotFound, E::NonEmptyGroup]);
            }
        }
        Reply::DescribeGroups(groups) => {
            for group in groups {
                check(group.error, &[E::GroupIdNotFound]);
            }
        }
        Reply::ListGroups(list) => check(list.error, &[]),
    }
}
