//! Membership by the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
//!
//! Owns: the member's id and generation, its [`State`], the rebalance from preparing for it to the new assignment, heartbeats,
//! the watch over the application's polls, leaving. Does not own: what is owned and committed (`positions`), which it tells what
//! to take and to give up.
//!
//! **Invariants.** At most one JoinGroup is under way. Partitions are owned only under a valid generation; when that is lost, they
//! are given up in the same step. A heartbeat carries the newest generation that is known.
//!
//! # References
//! KIP-62 (polls and heartbeats apart), KIP-345 (static members), KIP-394 (member ids), KIP-429 (cooperative rebalance), KIP-800
//! (reasons), KIP-814 (leaders that skip the assignment).

mod departure;
mod heartbeat;
mod join;
mod moves;
mod preparation;
pub(crate) mod reactions;
mod skipped;
mod sync;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use bytes::Bytes;
use kavka_mutants::mutant;
use kavka_protocol::{ByteString, ErrorCode};

use self::{departure::Departure, preparation::Preparation};
use crate::{
    Cause, Coordinator, DrainId, Event, MemberError, Monotonic, RebalanceProtocol, RequestId,
    TopicMetadata, TopicPartition, TopicShape, Trace,
    backoff::Attempts,
    context::Context,
    positions::{
        Positions,
        commit::{Commits, Identity},
    },
};

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Not in the group: not subscribed, removed, or about to prepare its first join. Commits -> lost ownership.
    Unjoined,
    /// JoinGroup is under way, or about to be sent. Commits wait. Joined -> CompletingRebalance.
    PreparingRebalance,
    /// Joined, without an assignment yet: assigning, or SyncGroup is under way. Heartbeats; commits wait. Assigned -> Stable;
    /// refused -> PreparingRebalance.
    CompletingRebalance,
    /// The member has its assignment. Heartbeats and commits. A rebalance -> preparation, then PreparingRebalance.
    Stable,
}

/// What an answer asks of the member as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Verdict {
    Done,
    /// The coordinator serves the group.
    Works,
    FindCoordinator(ErrorCode),
    Fatal(MemberError),
}

/// "consumer": the protocol type of consumers.
const PROTOCOL_TYPE: ByteString = ByteString::from_static("consumer");

/// See the module.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Classic {
    state: State,
    member_id: ByteString,
    /// -1 for none.
    generation: i32,
    protocol: RebalanceProtocol,
    /// The assignor that the last JoinGroup chose.
    assignor: ByteString,
    is_leader: bool,
    /// `None`: not subscribed.
    subscription: Option<BTreeSet<ByteString>>,
    /// The last JoinGroup claimed partitions that were lost when it was answered.
    claimed_in_vain: bool,
    /// The subscription that the last JoinGroup carried.
    joined_with: BTreeSet<ByteString>,
    /// The last assignment and its generation, for sticky assignors. They outlive its loss.
    last_assignment: BTreeSet<TopicPartition>,
    last_assignment_generation: i32,

    /// Why the member wants to join again.
    rejoin: Option<(ByteString, Cause)>,
    /// Sent with the next JoinGroup.
    reason: Option<ByteString>,
    preparation: Option<Preparation>,
    last_drain: DrainId,
    join: Option<RequestId>,
    sync: Option<RequestId>,
    /// What SyncGroup is to carry, as soon as it can be sent.
    to_sync: Option<Vec<(ByteString, Bytes)>>,
    /// The generation the assignor works for, who is in it, and what they subscribe to.
    assigning: Option<(i32, moves::Claims, BTreeSet<ByteString>)>,
    departure: Option<Departure>,
    /// A request is parked on the connection to the coordinator, and would be in the way of what comes next.
    must_reconnect: bool,
    /// Rounds that failed in a row.
    attempts: Attempts,
    retry_at: Option<Monotonic>,

    heartbeat: heartbeat::Heartbeats,
    last_poll: Monotonic,
    poll_overdue: bool,
    /// What the topics looked like when this member, as the leader, assigned.
    snapshot: Option<BTreeMap<ByteString, TopicShape>>,
    /// This member leads and was told to leave the assignment alone: whether it still fits is to be found out.
    skipped: Option<skipped::Skipped>,
    /// This member leads, and its assignment left something with nobody until the owner lets go of it.
    unsettled: Option<moves::Unsettled>,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Unjoined => "Unjoined",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        })
    }
}

impl Classic {
    pub(crate) fn new(protocol: RebalanceProtocol) -> Self {
        Self {
            state: State::Unjoined,
            member_id: ByteString::new(),
            generation: -1,
            protocol,
            assignor: ByteString::new(),
            is_leader: false,
            subscription: None,
            claimed_in_vain: false,
            joined_with: BTreeSet::new(),
            last_assignment: BTreeSet::new(),
            last_assignment_generation: -1,
            rejoin: None,
            reason: None,
            preparation: None,
            last_drain: DrainId::default(),
            join: None,
            sync: None,
            to_sync: None,
            assigning: None,
            departure: None,
            must_reconnect: false,
            attempts: Attempts::default(),
            retry_at: None,
            heartbeat: heartbeat::Heartbeats::default(),
            last_poll: Monotonic::ORIGIN,
            poll_overdue: false,
            snapshot: None,
            skipped: None,
            unsettled: None,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn member_id(&self) -> &ByteString {
        &self.member_id
    }

    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    pub(crate) fn assignor(&self) -> &ByteString {
        &self.assignor
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.is_leader
    }

    pub(crate) fn subscription(&self) -> Option<&BTreeSet<ByteString>> {
        self.subscription.as_ref()
    }

    /// Whose commits the coordinator takes now, if any.
    pub(crate) fn committer(&self, ctx: &Context<'_>) -> Option<Identity> {
        self.can_commit().then(|| Identity {
            generation: self.generation,
            member_id: self.member_id.clone(),
            instance_id: ctx.config.group_instance_id.clone(),
        })
    }

    pub(crate) fn can_commit(&self) -> bool {
        let leaves = self.departure.is_some() && self.generation >= 0;
        self.state == State::Stable || leaves
    }

    /// Whether the coordinator is wanted.
    pub(crate) fn wants_coordinator(&self) -> bool {
        let joins = self.subscription.is_some() && !self.poll_overdue;
        joins || self.departure.as_ref().is_some_and(Departure::wants_coordinator)
    }

    pub(crate) fn subscribe(&mut self, ctx: &mut Context<'_>, topics: BTreeSet<ByteString>) {
        self.poll(ctx);
        let changed = self.subscription.as_ref() != Some(&topics);
        self.subscription = Some(topics);
        if changed && self.state == State::Stable {
            self.want_rejoin(ctx, "the subscription changed", Cause::SubscriptionChanged);
        }
    }

    pub(crate) fn enforce(&mut self, ctx: &mut Context<'_>, reason: &ByteString) {
        if self.state == State::Stable {
            self.want_rejoin(
                ctx,
                &format!("rebalance enforced with reason: {reason}"),
                Cause::Enforced,
            );
        }
    }

    pub(crate) fn poll(&mut self, ctx: &Context<'_>) {
        self.last_poll = ctx.monotonic();
        self.poll_overdue = false;
    }

    pub(crate) fn on_metadata(
        &mut self,
        ctx: &mut Context<'_>,
        topics: &BTreeMap<ByteString, TopicMetadata>,
    ) {
        if self.state == State::Stable && self.is_leader && self.rejoin.is_none() {
            self.check_snapshot(ctx, topics);
        }
    }

    /// The leader asks for a rebalance when the topics are not what they were when it assigned.
    pub(crate) fn check_snapshot(
        &mut self,
        ctx: &mut Context<'_>,
        topics: &BTreeMap<ByteString, TopicMetadata>,
    ) {
        let Some(snapshot) = self.snapshot.as_ref().filter(|_| !mutant("leader-ignores-topics"))
        else {
            return;
        };
        let shape =
            |topic: &ByteString| topics.get(topic).map(TopicMetadata::shape).unwrap_or_default();
        let changed = snapshot.iter().find(|(topic, seen)| shape(topic) != **seen);
        if let Some((topic, _)) = changed {
            let reason =
                format!("the partitions of topic {topic} have changed since the assignment");
            self.want_rejoin(ctx, &reason, Cause::TopicsChanged);
        }
    }

    fn want_rejoin(&mut self, ctx: &mut Context<'_>, reason: &str, cause: Cause) {
        if self.rejoin.is_none() {
            let reason = ByteString::from(reason);
            ctx.trace(Trace::RejoinWanted { reason: reason.clone() });
            self.rejoin = Some((reason, cause));
        }
    }

    fn go(&mut self, ctx: &mut Context<'_>, to: State) {
        if self.state != to {
            let from = std::mem::replace(&mut self.state, to);
            ctx.trace(Trace::StateChanged { from, to, generation: self.generation });
        }
    }

    /// Has its assignment, and no round, revocation or departure is on its way.
    fn is_at_rest(&self) -> bool {
        self.state == State::Stable
            && self.rejoin.is_none()
            && self.preparation.is_none()
            && self.departure.is_none()
    }

    /// One step as far as time and inputs allow.
    pub(crate) fn advance(
        &mut self,
        ctx: &mut Context<'_>,
        positions: &mut Positions,
        commits: &mut Commits,
        coordinator: Option<&Coordinator>,
    ) -> bool {
        if self.poll_is_overdue(ctx) {
            self.on_poll_overdue(ctx, positions);
            return true;
        }
        if self.departure.is_some() {
            return self.advance_departure(ctx, positions, commits, coordinator)
                || self.maybe_heartbeat(ctx, coordinator);
        }
        if self.preparation.is_some() {
            return self.advance_preparation(ctx, positions, commits)
                || self.maybe_heartbeat(ctx, coordinator);
        }
        let wants = self.subscription.is_some() && !self.poll_overdue;
        let in_time = self.retry_at.is_none_or(|at| at <= ctx.monotonic());
        match self.state {
            State::Unjoined if wants && in_time => {
                assert!(positions.is_empty(), "partitions are owned under a generation only");
                let reason = self.reason.take().unwrap_or_else(|| "joining".into());
                self.reason = Some(reason);
                self.rejoin = None;
                self.go(ctx, State::PreparingRebalance);
                true
            }
            State::Stable if self.rejoin.is_some() && in_time => {
                self.prepare(ctx, positions);
                true
            }
            State::PreparingRebalance if self.join.is_none() && in_time => {
                coordinator.is_some_and(|coordinator| {
                    self.send_join(ctx, positions, coordinator);
                    true
                })
            }
            State::CompletingRebalance if self.to_sync.is_some() && coordinator.is_some() => {
                coordinator.is_some_and(|coordinator| self.send_sync(ctx, coordinator))
            }
            _ => {
                self.maybe_settle(ctx)
                    || self.maybe_describe(ctx, coordinator)
                    || self.maybe_heartbeat(ctx, coordinator)
            }
        }
    }

    pub(crate) fn next_deadline(
        &self,
        config: &crate::MemberConfig,
        has_coordinator: bool,
    ) -> Option<Monotonic> {
        let joins = match self.state {
            State::Unjoined => self.subscription.is_some() && !self.poll_overdue,
            State::PreparingRebalance => has_coordinator && self.join.is_none(),
            State::CompletingRebalance => false,
            State::Stable => self.rejoin.is_some() && self.preparation.is_none(),
        };
        let retry = self.retry_at.filter(|_| joins && self.departure.is_none());
        let poll = self.watches_polls().then(|| self.last_poll + config.max_poll_interval);
        let heartbeat = self.next_heartbeat(config, has_coordinator);
        let preparation = self.preparation.as_ref().map(Preparation::next_deadline);
        let departure =
            self.departure.as_ref().and_then(|departure| departure.next_deadline(has_coordinator));
        let description = self.next_description(has_coordinator);
        let settlement = self.next_settlement();
        let deadlines = [retry, poll, heartbeat, preparation, departure, description, settlement];
        deadlines.into_iter().flatten().min()
    }

    /// Not while a JoinGroup is under way: the coordinator bounds that by the same time.
    fn watches_polls(&self) -> bool {
        matches!(self.state, State::CompletingRebalance | State::Stable) && self.departure.is_none()
    }

    fn poll_is_overdue(&self, ctx: &Context<'_>) -> bool {
        self.watches_polls() && self.last_poll + ctx.config.max_poll_interval <= ctx.monotonic()
    }

    /// The application is stuck: others are to have its partitions. A static member says nothing, its session will time out.
    fn on_poll_overdue(&mut self, ctx: &mut Context<'_>, positions: &mut Positions) {
        let has_sync_under_way = self.sync.is_some();
        self.lose(ctx, positions, Cause::PollOverdue);
        self.poll_overdue = true;
        if ctx.config.group_instance_id.is_some() {
            self.forget_identity();
        } else {
            let timeout = ctx.config.request_timeout;
            self.depart(ctx, Cause::PollOverdue, timeout, None);
            self.must_reconnect |= has_sync_under_way;
        }
    }

    /// The generation is over, or the member is not known: what was owned may be owned by others.
    pub(crate) fn lose(&mut self, ctx: &mut Context<'_>, positions: &mut Positions, cause: Cause) {
        self.generation = -1;
        self.is_leader = false;
        self.snapshot = None;
        self.skipped = None;
        self.unsettled = None;
        self.claimed_in_vain = false;
        self.preparation = None;
        self.sync = None;
        self.to_sync = None;
        self.assigning = None;
        self.rejoin = None;
        self.heartbeat.stop();
        let lost = if self.subscription.is_some()
            || self.departure.is_some()
            || self.state != State::Unjoined
        {
            positions.give_up_all()
        } else {
            Vec::new()
        };
        if !lost.is_empty() && !mutant("loss-not-told") {
            ctx.event(Event::Lost { partitions: lost, cause });
        }
        self.go(ctx, State::Unjoined);
    }

    pub(crate) fn forget_identity(&mut self) {
        self.member_id = ByteString::new();
    }

    /// For good.
    pub(crate) fn fail(
        &mut self,
        ctx: &mut Context<'_>,
        positions: &mut Positions,
        error: &MemberError,
    ) {
        let is_gone = matches!(
            error.code,
            Some(
                ErrorCode::FencedInstanceId
                    | ErrorCode::UnknownMemberId
                    | ErrorCode::GroupMaxSizeReached
            )
        );
        if is_gone {
            self.forget_identity();
        }
        self.join = None;
        self.lose(ctx, positions, Cause::Failed);
        self.subscription = None;
    }

    /// Leaves, and stays out.
    pub(crate) fn unsubscribe(&mut self, ctx: &mut Context<'_>, timeout: Duration) {
        self.subscription = None;
        self.depart(ctx, Cause::Unsubscribed, timeout, None);
    }

    /// Whether this is still who the member is.
    pub(crate) fn is(&self, identity: &Identity) -> bool {
        self.generation == identity.generation && self.member_id == identity.member_id
    }

    /// A commit was answered `REBALANCE_IN_PROGRESS`.
    pub(crate) fn on_commit_in_rebalance(&mut self, ctx: &mut Context<'_>) {
        if self.state == State::Stable {
            self.want_rejoin(
                ctx,
                "offset commit failed since group is already rebalancing",
                Cause::GroupRebalances,
            );
        }
    }

    /// The next round waits if the last ones failed; the first retry comes at once.
    fn next_round(&mut self, ctx: &mut Context<'_>) {
        let again = self.attempts.count() > 0;
        let at = ctx.retry_at(&mut self.attempts);
        self.retry_at = again.then_some(at);
    }

    fn retry_later(&mut self, ctx: &mut Context<'_>) {
        self.retry_at = Some(ctx.retry_at(&mut self.attempts));
    }
}
