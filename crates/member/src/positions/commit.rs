//! Commits: a queue, the head of which is under way.
//!
//! One at a time, so that a commit that is tried again never overtakes, and undoes, a later one. A commit remembers under which
//! ownership each partition was asked to be committed: once that is over, the partition is struck off with
//! [`ErrorKind::LostOwnership`](crate::ErrorKind::LostOwnership) in place of being sent. So a commit survives a rebalance for
//! what stays, and ends with it for what goes.
//!
//! **Invariants.** Each commit of the application completes exactly once, at the latest at its deadline. Nothing is sent for a
//! partition that is not owned.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kavka_protocol::{ByteString, ErrorCode};

use super::{
    Positions,
    reactions::{self, CommitReaction},
};
use crate::{
    CommitId, CommitMode, CommitOffset, CommitRequest, Coordinator, ErrorKind, Event, Failure,
    MemberError, Monotonic, Request, RequestId, Target, TopicPartition, Trace, backoff::Attempts,
    context::Context,
};

/// Whose commit it is, to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) generation: i32,
    pub(crate) member_id: ByteString,
    pub(crate) instance_id: Option<ByteString>,
}

/// See the module.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Commits {
    queue: VecDeque<Pending>,
    /// When the positions are committed next.
    auto_at: Option<Monotonic>,
    auto_attempts: Attempts,
}

#[derive(Clone, Debug, Hash)]
struct Pending {
    who: Who,
    retries: bool,
    deadline: Monotonic,
    /// What has still to be committed, and under which ownership it was asked for.
    left: BTreeMap<TopicPartition, (CommitOffset, u64)>,
    committed: BTreeMap<TopicPartition, i64>,
    failed: BTreeMap<TopicPartition, MemberError>,
    under_way: Option<(RequestId, Identity)>,
    attempts: Attempts,
    retry_at: Option<Monotonic>,
    /// The coordinator said that this generation is over or about to be: wait for a later one.
    not_in_generation: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Application(CommitId),
    Interval,
    /// Before partitions go, or at close.
    Final,
}

/// What the answer to a commit asks of the member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommitTrouble {
    FindCoordinator(ErrorCode),
    Rejoin(Identity),
    ForgetGeneration(Identity, ErrorCode),
    ForgetIdentity(Identity, ErrorCode),
    Fatal(Identity, MemberError),
}

impl Commits {
    /// The application commits.
    pub(crate) fn ask(
        &mut self,
        ctx: &mut Context<'_>,
        positions: &Positions,
        commit: CommitId,
        offsets: Option<BTreeMap<TopicPartition, CommitOffset>>,
        mode: CommitMode,
    ) {
        let offsets = offsets.unwrap_or_else(|| positions.consumed_positions().collect());
        let (retries, timeout) = match mode {
            CommitMode::Sync { timeout } => (true, timeout),
            CommitMode::Async => (false, ctx.config.request_timeout),
        };
        let deadline = ctx.monotonic() + timeout;
        let mut pending = Pending::new(Who::Application(commit), retries, deadline);
        for (partition, offset) in offsets {
            match positions.ownership(&partition) {
                Some(ownership) if offset.offset >= 0 => {
                    pending.left.insert(partition, (offset, ownership));
                }
                Some(_) => {
                    let kind = ErrorKind::Misuse("a negative offset cannot be committed");
                    pending.failed.insert(partition, ctx.error(kind, None));
                }
                None => {
                    pending.failed.insert(partition, ctx.error(ErrorKind::LostOwnership, None));
                }
            }
        }
        self.queue.push_back(pending);
    }

    /// Commits what was consumed of these partitions, if it is not committed yet.
    pub(crate) fn finally(
        &mut self,
        positions: &Positions,
        partitions: &BTreeSet<TopicPartition>,
        deadline: Monotonic,
    ) {
        // The final one says more than one that waits.
        self.queue.retain(|pending| pending.who != Who::Interval || pending.under_way.is_some());
        for pending in &mut self.queue {
            // While a rebalance is prepared the coordinator takes commits; afterwards these partitions may be another member's.
            pending.not_in_generation = None;
        }
        let offsets = positions.uncommitted(Some(partitions));
        self.push(positions, Who::Final, deadline, offsets);
    }

    fn push(
        &mut self,
        positions: &Positions,
        who: Who,
        deadline: Monotonic,
        offsets: BTreeMap<TopicPartition, CommitOffset>,
    ) {
        let mut pending = Pending::new(who, who == Who::Final, deadline);
        for (partition, offset) in offsets {
            if let Some(ownership) = positions.ownership(&partition) {
                pending.left.insert(partition, (offset, ownership));
            }
        }
        if !pending.left.is_empty() {
            self.queue.push_back(pending);
        }
    }

    /// Whether something waits, or is under way, that the present generation can commit of these partitions. What stands behind a
    /// commit of a later generation is not: commits are sent in order.
    pub(crate) fn touches(&self, partitions: &BTreeSet<TopicPartition>) -> bool {
        self.queue
            .iter()
            .take_while(|pending| pending.not_in_generation.is_none())
            .any(|pending| pending.left.keys().any(|partition| partitions.contains(partition)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether the coordinator is wanted.
    pub(crate) fn wants_coordinator(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The time of the next automatic commit starts anew: a rebalance is over.
    pub(crate) fn restart_interval(&mut self, ctx: &Context<'_>) {
        self.auto_at = ctx.config.auto_commit_interval.map(|every| ctx.monotonic() + every);
    }

    /// `identity` is there if commits can be sent now.
    pub(crate) fn advance(
        &mut self,
        ctx: &mut Context<'_>,
        positions: &Positions,
        identity: Option<&Identity>,
        coordinator: Option<&Coordinator>,
    ) -> bool {
        let queued = identity.is_some() && self.maybe_commit_automatically(ctx, positions);
        for pending in &mut self.queue {
            pending.strike_off_lost(ctx, positions);
        }
        let over = self.take_finished(ctx);
        let sent = self.send_head(ctx, positions, identity, coordinator);
        queued || over || sent
    }

    fn maybe_commit_automatically(&mut self, ctx: &mut Context<'_>, positions: &Positions) -> bool {
        let due = self.auto_at.is_some_and(|at| at <= ctx.monotonic());
        let waits = self.queue.iter().any(|pending| pending.who == Who::Interval);
        if !due || waits {
            return false;
        }
        self.restart_interval(ctx);
        let deadline = ctx.monotonic() + ctx.config.request_timeout;
        let offsets = positions.uncommitted(None);
        self.push(positions, Who::Interval, deadline, offsets);
        true
    }

    fn take_finished(&mut self, ctx: &mut Context<'_>) -> bool {
        let now = ctx.monotonic();
        let before = self.queue.len();
        let mut index = 0;
        while index < self.queue.len() {
            let pending = &mut self.queue[index];
            if pending.deadline <= now {
                pending.fail_left(ctx, &ErrorKind::Timeout, None);
            }
            // In order, but what is out of time does not wait for what is before it.
            let may_finish = index == 0 || pending.deadline <= now;
            if may_finish && pending.left.is_empty() {
                if let Some(finished) = self.queue.remove(index) {
                    finished.finish(ctx);
                }
            } else {
                index += 1;
            }
        }
        self.queue.len() != before
    }

    fn send_head(
        &mut self,
        ctx: &mut Context<'_>,
        positions: &Positions,
        identity: Option<&Identity>,
        coordinator: Option<&Coordinator>,
    ) -> bool {
        let Some(head) = self.queue.front_mut() else { return false };
        let (Some(identity), Some(coordinator)) = (identity, coordinator) else { return false };
        let waits = head.under_way.is_some()
            || head.left.is_empty()
            || head.retry_at.is_some_and(|at| at > ctx.monotonic())
            || head.not_in_generation.is_some_and(|over| identity.generation <= over);
        if waits {
            return false;
        }
        let is_owned = |tp| positions.ownership(tp).is_some();
        assert!(head.left.keys().all(is_owned), "what is not owned was struck off");
        head.retry_at = None;
        head.not_in_generation = None;
        let request = Request::CommitOffsets(CommitRequest {
            group: ctx.group(),
            generation: identity.generation,
            member_id: identity.member_id.clone(),
            instance_id: identity.instance_id.clone(),
            topic_ids: positions.topic_ids(head.left.keys()),
            offsets: head
                .left
                .iter()
                .map(|(tp, (offset, _))| (tp.clone(), offset.clone()))
                .collect(),
        });
        let target = Target::Coordinator(coordinator.clone());
        let id = ctx.send(target, ctx.config.request_timeout, request);
        head.under_way = Some((id, identity.clone()));
        true
    }

    pub(crate) fn next_deadline(&self, can_send: bool, has_coordinator: bool) -> Option<Monotonic> {
        let deadlines = self.queue.iter().map(|pending| pending.deadline);
        let head = self.queue.front().filter(|head| head.under_way.is_none());
        let retry = head.and_then(|head| head.retry_at);
        let retry = retry.filter(|_| can_send && has_coordinator);
        let waits = self.queue.iter().any(|pending| pending.who == Who::Interval);
        let auto = self.auto_at.filter(|_| can_send && !waits);
        deadlines.chain(retry).chain(auto).min()
    }

    pub(crate) fn on_response(
        &mut self,
        ctx: &mut Context<'_>,
        positions: &mut Positions,
        id: RequestId,
        codes: &BTreeMap<TopicPartition, ErrorCode>,
    ) -> Vec<CommitTrouble> {
        let Some((pending, identity)) = self.under_way(id) else { return Vec::new() };
        let is_member = identity.generation >= 0;
        let mut troubles = Vec::new();
        // The code that asks for it; none if the answer is silent.
        let mut retry: Option<Option<ErrorCode>> = None;
        let mut unknown = BTreeSet::new();
        for (partition, (offset, ownership)) in std::mem::take(&mut pending.left) {
            // Brokers leave out topics that were deleted meanwhile. Whether it was done nobody knows, and the others of the same
            // commit have their answers.
            let code = codes.get(&partition).copied();
            if code.is_none_or(reactions::is_about_topic) {
                unknown.insert(partition.topic.clone());
                if pending.who == Who::Final && !positions.is_known(&partition) {
                    // It was deleted: no rebalance is to wait for it. Else the coordinator has not heard of the topic yet.
                    let kind = ErrorKind::UnknownTopic(partition.topic.clone());
                    pending.failed.insert(partition, ctx.error(kind, code));
                    continue;
                }
            }
            let Some(code) = code else {
                retry.get_or_insert(None);
                pending.left.insert(partition, (offset, ownership));
                continue;
            };
            let mut keep = false;
            let trouble = match reactions::on_commit(code, &partition.topic, is_member) {
                CommitReaction::Done => {
                    positions.note_committed(&partition, ownership, offset.offset);
                    pending.committed.insert(partition.clone(), offset.offset);
                    None
                }
                CommitReaction::Retry => {
                    retry = Some(Some(code));
                    keep = true;
                    None
                }
                CommitReaction::FindCoordinator => {
                    retry = Some(Some(code));
                    keep = true;
                    Some(CommitTrouble::FindCoordinator(code))
                }
                CommitReaction::Rejoin => {
                    pending.not_in_generation = Some(identity.generation);
                    keep = true;
                    Some(CommitTrouble::Rejoin(identity.clone()))
                }
                CommitReaction::ForgetGeneration => {
                    pending.not_in_generation = Some(identity.generation);
                    keep = true;
                    Some(CommitTrouble::ForgetGeneration(identity.clone(), code))
                }
                CommitReaction::ForgetIdentity => {
                    pending.not_in_generation = Some(identity.generation);
                    keep = true;
                    Some(CommitTrouble::ForgetIdentity(identity.clone(), code))
                }
                CommitReaction::Fail(kind) => {
                    pending.failed.insert(partition.clone(), ctx.error(kind, Some(code)));
                    None
                }
                CommitReaction::Fatal(kind) => {
                    let error = ctx.error(kind, Some(code));
                    pending.failed.insert(partition.clone(), error.clone());
                    Some(CommitTrouble::Fatal(identity.clone(), error))
                }
            };
            if keep {
                pending.left.insert(partition, (offset, ownership));
            }
            troubles.extend(trouble.filter(|trouble| !troubles.contains(trouble)));
        }
        if !unknown.is_empty() {
            ctx.event(Event::MetadataWanted { topics: unknown.into_iter().collect() });
        }
        if let Some(code) = retry {
            let kind = |topic: &ByteString| match code {
                Some(code) if reactions::is_about_topic(code) => {
                    ErrorKind::UnknownTopic(topic.clone())
                }
                _ => ErrorKind::Unavailable,
            };
            pending.retry_or_fail(ctx, kind, code);
            if pending.not_in_generation.is_some() {
                // The next generation is far enough away.
                pending.retry_at = None;
            }
            self.note_interval_failure(ctx);
        } else {
            self.auto_attempts.succeed();
        }
        troubles
    }

    pub(crate) fn on_failure(&mut self, ctx: &mut Context<'_>, id: RequestId, failure: Failure) {
        let Some((pending, _)) = self.under_way(id) else { return };
        let kind = match failure {
            Failure::TimedOut => ErrorKind::Timeout,
            Failure::Disconnected | Failure::Malformed => ErrorKind::Unavailable,
        };
        pending.retry_or_fail(ctx, |_| kind.clone(), None);
        self.note_interval_failure(ctx);
    }

    /// The automatic commit that just failed is made up for soon, not after a whole interval.
    fn note_interval_failure(&mut self, ctx: &mut Context<'_>) {
        if self.queue.front().is_some_and(|head| head.who == Who::Interval && head.left.is_empty())
        {
            let soon = ctx.retry_at(&mut self.auto_attempts);
            self.auto_at = self.auto_at.map(|at| at.min(soon));
        }
    }

    fn under_way(&mut self, id: RequestId) -> Option<(&mut Pending, Identity)> {
        self.queue.iter_mut().find_map(|pending| match &pending.under_way {
            Some((request, identity)) if *request == id => {
                let identity = identity.clone();
                pending.under_way = None;
                Some((pending, identity))
            }
            _ => None,
        })
    }

    /// Nothing can be committed any more.
    pub(crate) fn fail_all(&mut self, ctx: &mut Context<'_>, kind: &ErrorKind) {
        self.auto_at = None;
        for mut pending in std::mem::take(&mut self.queue) {
            pending.fail_left(ctx, kind, None);
            pending.finish(ctx);
        }
    }
}

impl Pending {
    fn new(who: Who, retries: bool, deadline: Monotonic) -> Self {
        Self {
            who,
            retries,
            deadline,
            left: BTreeMap::new(),
            committed: BTreeMap::new(),
            failed: BTreeMap::new(),
            under_way: None,
            attempts: Attempts::default(),
            retry_at: None,
            not_in_generation: None,
        }
    }

    /// What was sent stays until it is answered: it was sent in time, and may have been done.
    fn strike_off_lost(&mut self, ctx: &Context<'_>, positions: &Positions) {
        if self.under_way.is_some() || kavka_mutants::mutant("commits-what-it-lost") {
            return;
        }
        let failed = &mut self.failed;
        self.left.retain(|partition, (_, ownership)| {
            let kept = positions.ownership(partition) == Some(*ownership);
            if !kept {
                failed.insert(partition.clone(), ctx.error(ErrorKind::LostOwnership, None));
            }
            kept
        });
    }

    fn retry_or_fail(
        &mut self,
        ctx: &mut Context<'_>,
        kind: impl Fn(&ByteString) -> ErrorKind,
        code: Option<ErrorCode>,
    ) {
        if self.retries {
            self.retry_at = Some(ctx.retry_at(&mut self.attempts));
        } else {
            for (partition, _) in std::mem::take(&mut self.left) {
                let error = ctx.error(kind(&partition.topic), code);
                self.failed.insert(partition, error);
            }
        }
    }

    fn fail_left(&mut self, ctx: &Context<'_>, kind: &ErrorKind, code: Option<ErrorCode>) {
        for (partition, _) in std::mem::take(&mut self.left) {
            self.failed.insert(partition, ctx.error(kind.clone(), code));
        }
    }

    fn finish(self, ctx: &mut Context<'_>) {
        let Self { who, committed, failed, .. } = self;
        if let Who::Application(commit) = who {
            ctx.event(Event::CommitCompleted { commit, committed, failed });
        } else {
            // Nobody waits for it, and somebody may want to know.
            for (partition, error) in failed {
                ctx.trace(Trace::AutoCommitFailed { partition, error });
            }
        }
    }
}
