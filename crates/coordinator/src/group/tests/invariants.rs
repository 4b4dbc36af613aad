//! What must hold after every step, whatever the inputs.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kavka_protocol::{ByteString, ErrorCode};

use super::context::{Context, Entry, Logged};
use crate::group::{
    classic::checks,
    timers::{GroupTimer, Timer},
    *,
};

/// What is remembered from step to step.
#[derive(Default)]
pub(super) struct History {
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
    /// What was not stored is forgotten.
    pub(super) fn restarted(&mut self) {
        self.generations.clear();
        self.shares.clear();
        self.replayed = None;
        self.limit_changed();
    }

    /// The groups that are there may be larger than they could become now.
    pub(super) fn limit_changed(&mut self) {
        self.over_capacity = true;
    }
}

pub(super) fn check(ctx: &mut Context) {
    live_equals_replayed(ctx);
    soft_state_agrees_with_hard_state(ctx);
    timers_belong_to_someone(ctx);
    generations_never_decrease(ctx);
    shares_of_a_generation_stay(ctx);
    for group in ctx.shard.groups.values() {
        checks::check(group);
        let sizes = checks::sizes(group);
        assert!(sizes.pending <= ctx.config.max_pending_members);
        if !ctx.history.over_capacity {
            let counted = match group.state() {
                GroupState::PreparingRebalance => sizes.joining,
                _ => sizes.members,
            };
            assert!(counted <= ctx.config.max_size, "S14: {counted} members");
        }
    }
    for record in ctx.log.iter().filter_map(Entry::record) {
        assert!(record.approximate_size() <= ctx.config.max_batch_bytes + 64, "S14");
    }
}

/// S2: also from what compaction leaves.
fn live_equals_replayed(ctx: &mut Context) {
    if let Some((len, replayed)) = &ctx.history.replayed
        && *len == ctx.log.len()
    {
        assert_eq!(ctx.shard.hard_state(), *replayed, "S2: only records change hard state");
        return;
    }
    let replay = |entries: &[Entry]| {
        let mut fresh = GroupShard::new(ctx.config.clone(), 0);
        entries.iter().for_each(|entry| entry.apply_to(&mut fresh));
        fresh.hard_state()
    };
    let live = ctx.shard.hard_state();
    assert_eq!(live, replay(&ctx.log), "S2: live equals replayed");
    let compacted = compact(&ctx.log, false);
    assert_eq!(live, replay(&compacted), "S2: live equals replayed from a compacted log");
    let without_tombstones = compact(&ctx.log, true);
    assert_eq!(live, replay(&without_tombstones), "S2: also when tombstones are gone");
    // The end of a transaction counts once, and what comes after it in a second reading belongs to the next one.
    let last_marker = ctx.log.iter().rposition(|entry| matches!(entry.what, Logged::Marker(..)));
    let repeatable = last_marker.map_or(0, |at| at + 1);
    let tail = &ctx.log[ctx.log.len().saturating_sub(5).max(repeatable)..];
    let twice: Vec<_> = ctx.log.iter().chain(tail).cloned().collect();
    assert_eq!(live, replay(&twice), "S2: the last records may come twice");
    ctx.history.replayed = Some((ctx.log.len(), live));
}

/// The last record of each key, in the order of the log. What an open transaction wrote is not compacted, and gives way to
/// nothing before it has ended; what was aborted is gone; markers stay.
pub(super) fn compact(log: &[Entry], drop_tombstones: bool) -> Vec<Entry> {
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
            last.insert(record.encode().unwrap().0, at);
        }
    }
    let keeps = |(at, entry): &(usize, &Entry)| {
        let Some(record) = entry.record() else { return true };
        let is_tombstone = matches!(
            record,
            Record::Group { value: None, .. } | Record::Offset { value: None, .. }
        );
        *at >= stable
            || (last.get(&record.encode().unwrap().0) == Some(at)
                && !(drop_tombstones && is_tombstone))
    };
    log.iter().enumerate().filter(keeps).map(|(_, entry)| entry.clone()).collect()
}

/// A group that waits for nothing is as its record says: that is why a restart disturbs nobody.
fn soft_state_agrees_with_hard_state(ctx: &Context) {
    if ctx.shard.groups.is_empty() {
        return;
    }
    let hard = ctx.shard.hard_state();
    for (id, group) in &ctx.shard.groups {
        let stored = hard.groups.get(id).cloned().map(|mut stored| {
            // Records of version 0 have no rebalance timeout: the session timeout stands for it.
            for member in &mut stored.members {
                if member.rebalance_timeout_ms == -1 {
                    member.rebalance_timeout_ms = member.session_timeout_ms;
                }
            }
            stored
        });
        let stored = stored.as_ref();
        match group.state() {
            GroupState::Stable => assert_eq!(stored, Some(&group.to_value())),
            GroupState::Empty if !group.is_simple() => assert_eq!(stored, Some(&group.to_value())),
            _ => assert!(stored.is_none_or(|stored| stored.generation <= group.generation())),
        }
    }
    let of_offsets = hard.offsets.keys().map(|(group, _, _)| group);
    let of_pending = hard.pending.keys().map(|(group, ..)| group);
    for id in hard.groups.keys().chain(of_offsets).chain(of_pending) {
        assert!(ctx.shard.groups.contains_key(id), "{id} is stored and not served");
    }
}

/// S12: every member and every id that was handed out has its timer, every rebalance has one, and there are no others.
fn timers_belong_to_someone(ctx: &Context) {
    let mut expected = BTreeSet::new();
    for (id, group) in &ctx.shard.groups {
        let timers = checks::expected_timers(group);
        expected.extend(timers.into_iter().map(|timer| Timer::Group(id.clone(), timer)));
    }
    let actual: BTreeSet<Timer> = ctx.shard.timers.all().cloned().collect();
    let of_groups = actual.iter().filter(|timer| **timer != Timer::Expiry).cloned().collect();
    assert_eq!(expected, of_groups, "S12");
}

/// S8, as long as the group is there.
fn generations_never_decrease(ctx: &mut Context) {
    let now: BTreeMap<ByteString, i32> =
        ctx.shard.groups.iter().map(|(id, group)| (id.clone(), group.generation())).collect();
    for (id, generation) in &now {
        let before = ctx.history.generations.get(id).copied().unwrap_or(0);
        assert!(before <= *generation, "S8: {id} went from {before} to {generation}");
    }
    ctx.history.generations = now;
}

/// S30: as long as a group is stable in a generation, nobody's share changes.
fn shares_of_a_generation_stay(ctx: &mut Context) {
    let stable = ctx.shard.groups.iter().filter(|(_, group)| group.state() == GroupState::Stable);
    let now: BTreeMap<ByteString, (i32, Shares)> = stable
        .map(|(id, group)| {
            let members = group.describe().members.into_iter();
            let shares = members.map(|member| (member.member_id, member.assignment)).collect();
            (id.clone(), (group.generation(), shares))
        })
        .collect();
    for (id, (generation, shares)) in &now {
        let Some((before, former)) = ctx.history.shares.get(id) else { continue };
        if before == generation {
            assert_eq!(former.len(), shares.len(), "S30: {id} lost or won a member");
            for (member, share) in former {
                let now = shares.get(member);
                assert!(now.is_none_or(|now| now == share), "S30: {id} moved {member}'s share");
            }
        }
    }
    ctx.history.shares = now;
}

/// S26: codes that the API may answer, where it may answer them.
pub(super) fn check_codes(reply: &Reply) {
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

/// The timer of a member, for tests that look at it.
pub(super) fn session_deadline(ctx: &Context, group: &str, member: &str) -> Option<u64> {
    let timer = Timer::Group(group.into(), GroupTimer::Session(member.into()));
    ctx.shard.timers.deadline(&timer).map(|deadline| super::context::ms(deadline.elapsed()))
}
