//! A rebalance: it begins, waits for the members, makes a generation, or runs out of time.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use kavka_mutants::mutant;
use kavka_protocol::{ByteString, ErrorCode};

use super::ClassicGroup;
use crate::{
    Monotonic,
    group::{
        EventKind, GroupState, RebalanceReason, Reply, SyncReply, context::Context,
        timers::GroupTimer,
    },
};

/// A rebalance that is under way.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Rebalance {
    started: Monotonic,
    /// From when on the rebalance timeout counts: the start, or the last time that nobody but absent static members was left.
    waits_since: Monotonic,
    /// Only while a group that was empty gathers its first members.
    initial: Option<InitialDelay>,
}

/// KIP-134: a group that was empty does not rebalance for its first member, to do so again for the second.
#[derive(Clone, Debug, Hash)]
struct InitialDelay {
    /// The delay that is running.
    delay: Duration,
    /// How much longer it may get.
    remaining: Duration,
    /// Someone came while it was running.
    member_added: bool,
}

/// The least time after which a wait that ended without effect ends again. A timeout of zero must not spin.
pub(super) const SHORTEST_WAIT: Duration = Duration::from_secs(1);

impl ClassicGroup {
    pub(super) fn rebalance_or_complete(&mut self, ctx: &mut Context<'_>, reason: RebalanceReason) {
        if self.state == GroupState::PreparingRebalance {
            self.maybe_complete_join(ctx);
        } else {
            self.prepare_rebalance(ctx, reason);
        }
    }

    /// Begins a rebalance. Not for a group that is in one already.
    pub(super) fn prepare_rebalance(&mut self, ctx: &mut Context<'_>, reason: RebalanceReason) {
        if self.state == GroupState::CompletingRebalance {
            self.drop_assignments(ctx, ErrorCode::RebalanceInProgress);
        }
        self.owe_sync.clear();
        ctx.cancel(&self.id, GroupTimer::Sync);

        let now = ctx.now.monotonic;
        let initial = (self.state == GroupState::Empty).then(|| {
            let delay = ctx.config.initial_rebalance_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay);
            ctx.arm(&self.id, GroupTimer::Join, now + delay);
            InitialDelay { delay, remaining, member_added: false }
        });
        if initial.is_none() {
            ctx.arm(&self.id, GroupTimer::Join, now + self.rebalance_timeout());
        }
        self.rebalance = Some(Rebalance { started: now, waits_since: now, initial });
        self.transition(ctx, GroupState::PreparingRebalance);
        self.event(ctx, EventKind::RebalanceStarted { reason });
        self.maybe_complete_join(ctx);
    }

    pub(super) fn note_new_member(&mut self) {
        if let Some(Rebalance { initial: Some(initial), .. }) = &mut self.rebalance {
            initial.member_added = true;
        }
    }

    /// Makes the generation if everyone is there; otherwise sees to it that the wait ends. The initial delay is waited for in
    /// any case.
    pub(super) fn maybe_complete_join(&mut self, ctx: &mut Context<'_>) {
        if self.state != GroupState::PreparingRebalance {
            return;
        }
        let Some(Rebalance { waits_since, initial: None, .. }) = self.rebalance else { return };
        if self.totals.joining == self.members.len() && self.pending.is_empty() {
            self.complete_join(ctx);
        } else if self.members.is_empty() {
            // Only ids that were handed out are waited for now: as long as the members that have left would have waited.
        } else {
            // Counted from the beginning, not from the last join: members that come one after the other do not keep those
            // who are there waiting.
            ctx.arm(&self.id, GroupTimer::Join, waits_since + self.rebalance_timeout());
        }
    }

    pub(super) fn on_join_timer(&mut self, ctx: &mut Context<'_>) {
        if self.state != GroupState::PreparingRebalance {
            return;
        }
        if let Some(Rebalance { initial: Some(initial), .. }) = &mut self.rebalance
            && initial.member_added
            && !initial.remaining.is_zero()
        {
            let by = ctx.config.initial_rebalance_delay.min(initial.remaining);
            initial.remaining = initial.remaining.saturating_sub(initial.delay);
            initial.delay = by;
            initial.member_added = false;
            ctx.arm(&self.id, GroupTimer::Join, ctx.now.monotonic + by);
            let members = self.members.len();
            self.event(ctx, EventKind::InitialDelayExtended { members, by });
            return;
        }
        self.complete_join(ctx);
    }

    /// Ends the wait: who is not there is out, unless it is static. Makes the next generation of those who are.
    fn complete_join(&mut self, ctx: &mut Context<'_>) {
        ctx.cancel(&self.id, GroupTimer::Join);
        self.drop_absent_members(ctx);
        if !self.members.is_empty() && !self.elect_leader(ctx) {
            let members = self.members.len();
            self.event(ctx, EventKind::NobodyRejoined { members });
            let now = ctx.now.monotonic;
            if let Some(rebalance) = &mut self.rebalance {
                rebalance.waits_since = now;
                rebalance.initial = None;
            }
            let wait = self.rebalance_timeout().max(SHORTEST_WAIT);
            ctx.arm(&self.id, GroupTimer::Join, now + wait);
            return;
        }
        if !mutant("generation-stays") {
            self.generation = self.generation.saturating_add(1);
        }
        if self.members.is_empty() {
            self.become_empty(ctx);
        } else {
            self.make_generation(ctx);
        }
    }

    fn drop_absent_members(&mut self, ctx: &mut Context<'_>) {
        let absent: Vec<ByteString> = self
            .members
            .iter()
            .filter(|(_, member)| {
                let stays = member.instance_id.is_some() && !mutant("static-evicted-by-rebalance");
                !member.joins() && !stays
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in &absent {
            self.remove_member(ctx, id, ErrorCode::UnknownMemberId);
        }
        if !absent.is_empty() {
            self.event(ctx, EventKind::MembersDidNotJoin { members: absent });
        }
    }

    /// Sees to it that the leader is one of those who have joined. False if nobody has.
    fn elect_leader(&mut self, ctx: &mut Context<'_>) -> bool {
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        if leader.is_some_and(|leader| leader.joins() || mutant("absent-leader-leads")) {
            return true;
        }
        let joined = self.members.iter().find(|(_, member)| member.joins());
        let Some(leader) = joined.map(|(id, _)| id.clone()) else { return false };
        let former = self.leader.replace(leader.clone());
        self.event(ctx, EventKind::LeaderReplaced { former, leader });
        true
    }

    fn become_empty(&mut self, ctx: &mut Context<'_>) {
        self.protocol = None;
        self.leader = None;
        self.rebalance = None;
        self.subscribed = self.current_subscriptions();
        self.transition(ctx, GroupState::Empty);
        if !mutant("empty-group-not-stored") {
            self.store(ctx);
        }
        self.event(ctx, EventKind::GroupEmptied);
    }

    fn make_generation(&mut self, ctx: &mut Context<'_>) {
        self.protocol = self.choose_protocol();
        self.subscribed = self.current_subscriptions();
        self.transition(ctx, GroupState::CompletingRebalance);
        let kind = EventKind::JoinCompleted { members: self.members.len(), took: self.took(ctx) };
        self.event(ctx, kind);

        // Static members that were absent are in the generation as well: the leader assigns to them, and they owe SyncGroup.
        self.owe_sync = self.members.keys().cloned().collect();
        if !mutant("sync-not-watched") {
            ctx.arm(&self.id, GroupTimer::Sync, ctx.now.monotonic + self.rebalance_timeout());
        }
        for id in self.owe_sync.clone() {
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
                member.knows_its_id = true;
            }
            self.touch(ctx, &id);
            if let Some(request) = self.take_join(&id) {
                let reply = self.joined(&id, self.is_leader(&id));
                ctx.answer(request, Reply::Join(reply));
            }
        }
    }

    /// The protocol that most members like best, of those that all know. When several have as many votes, the one that the
    /// group has now, otherwise the first by name: so the choice does not change by itself.
    pub(super) fn choose_protocol(&self) -> Option<ByteString> {
        let everyone = self.members.len();
        let known_to_all = |name: &ByteString| self.totals.supported.get(name) == everyone;
        let mut votes: BTreeMap<&ByteString, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| known_to_all(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        let mut best = votes.iter().filter(|(_, votes)| **votes == most).map(|(name, _)| *name);
        let first = best.next()?;
        let current = best.find(|name| Some(*name) == self.protocol.as_ref());
        Some(current.unwrap_or(first).clone())
    }

    /// Members that never asked for their assignment are given up: the others must not wait for what they were given.
    pub(super) fn on_sync_timer(&mut self, ctx: &mut Context<'_>) {
        let members: Vec<ByteString> = std::mem::take(&mut self.owe_sync).into_iter().collect();
        if members.is_empty() {
            return;
        }
        for id in &members {
            self.remove_member(ctx, id, ErrorCode::UnknownMemberId);
        }
        self.event(ctx, EventKind::MembersDidNotSync { members: members.clone() });
        self.prepare_rebalance(ctx, RebalanceReason::SyncExpired { members });
    }

    /// There will be no assignment in this generation: parked SyncGroups are told so.
    pub(super) fn drop_assignments(&mut self, ctx: &mut Context<'_>, error: ErrorCode) {
        let mut parked = Vec::new();
        for (id, member) in &mut self.members {
            member.assignment = Bytes::new();
            if let Some(request) = member.sync.take() {
                if !mutant("rebalance-forgets-syncs") {
                    ctx.answer(request, Reply::Sync(SyncReply::refusal(error)));
                }
                parked.push(id.clone());
            }
        }
        for id in parked {
            self.touch(ctx, &id);
        }
    }

    /// The group was read from a log of another `group.max.size`: everyone joins again, and who comes too late is refused.
    pub(crate) fn shrink_if_oversized(&mut self, ctx: &mut Context<'_>) {
        let (size, max_size) = (self.members.len(), ctx.config.max_size);
        if size > max_size {
            self.prepare_rebalance(ctx, RebalanceReason::OverCapacity { size, max_size });
        }
    }

    /// Time since the rebalance began.
    pub(super) fn took(&self, ctx: &Context<'_>) -> Duration {
        self.rebalance.as_ref().map_or(Duration::ZERO, |rebalance| {
            ctx.now.monotonic.saturating_since(rebalance.started)
        })
    }
}
