//! What has to be done before partitions go: the application finishes what it holds, what it finished is committed.

use std::collections::BTreeSet;

use super::{Classic, State};
use crate::{
    Cause, DrainId, Event, Monotonic, RebalanceProtocol, TopicPartition,
    context::Context,
    positions::{Positions, commit::Commits},
};

/// See the module.
#[derive(Clone, Debug, Hash)]
pub(super) struct Preparation {
    revoke: BTreeSet<TopicPartition>,
    drain: DrainId,
    is_drained: bool,
    /// When the application is not waited for any more.
    drain_deadline: Monotonic,
    /// When commits are not waited for any more.
    deadline: Monotonic,
    is_committing: bool,
    then: Then,
}

/// What comes after a preparation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Then {
    /// JoinGroup.
    Join,
    /// Ask for one more rebalance, in which others get what was given up.
    Rejoin,
    /// Leave.
    Depart,
}

impl Preparation {
    pub(super) fn covers(&self, partitions: &BTreeSet<TopicPartition>) -> bool {
        self.then == Then::Depart && partitions.is_subset(&self.revoke)
    }

    pub(super) fn next_deadline(&self) -> Monotonic {
        if self.is_drained { self.deadline } else { self.drain_deadline }
    }
}

impl Classic {
    /// Gives up what has to go before JoinGroup.
    pub(super) fn prepare(&mut self, ctx: &mut Context<'_>, positions: &mut Positions) {
        self.retry_at = None;
        let (reason, cause) =
            self.rejoin.take().unwrap_or_else(|| ("rejoining".into(), Cause::Joining));
        self.reason = Some(reason);
        let mut revoke = positions.owned();
        if self.protocol == RebalanceProtocol::Cooperative
            && let Some(topics) = &self.subscription
        {
            revoke.retain(|partition| !topics.contains(&partition.topic));
        }
        if revoke.is_empty() {
            return self.go(ctx, State::PreparingRebalance);
        }
        let now = ctx.monotonic();
        let drain_deadline = now + ctx.config.drain_timeout();
        let deadline = now + ctx.config.preparation_timeout();
        self.revoke(ctx, positions, revoke, cause, (drain_deadline, deadline), Then::Join);
    }

    pub(super) fn revoke(
        &mut self,
        ctx: &mut Context<'_>,
        positions: &mut Positions,
        revoke: BTreeSet<TopicPartition>,
        cause: Cause,
        (drain_deadline, deadline): (Monotonic, Monotonic),
        then: Then,
    ) {
        let known = self.preparation.take().map(|former| former.revoke).unwrap_or_default();
        self.last_drain.0 += 1;
        let drain = self.last_drain;
        let partitions: Vec<_> = revoke.difference(&known).cloned().collect();
        positions.hold(&revoke);
        ctx.event(Event::Revoking { drain, partitions, deadline: drain_deadline, cause });
        self.preparation = Some(Preparation {
            revoke,
            drain,
            is_drained: false,
            drain_deadline,
            deadline,
            is_committing: false,
            then,
        });
    }

    pub(crate) fn on_drained(&mut self, drain: DrainId) {
        if let Some(preparation) = &mut self.preparation
            && preparation.drain == drain
        {
            preparation.is_drained = true;
        }
    }

    pub(super) fn advance_preparation(
        &mut self,
        ctx: &mut Context<'_>,
        positions: &mut Positions,
        commits: &mut Commits,
    ) -> bool {
        let Some(preparation) = &mut self.preparation else { return false };
        if !preparation.is_drained && preparation.drain_deadline > ctx.monotonic() {
            return false;
        }
        preparation.is_drained = true;
        if !preparation.is_committing {
            preparation.is_committing = true;
            if ctx.config.auto_commit_interval.is_some() {
                commits.finally(positions, &preparation.revoke, preparation.deadline);
            }
            return true;
        }
        if preparation.deadline > ctx.monotonic() && commits.touches(&preparation.revoke) {
            return false;
        }
        let Some(Preparation { revoke, then, .. }) = self.preparation.take() else { return false };
        let partitions = positions.give_up(&revoke);
        ctx.event(Event::Revoked { partitions });
        match then {
            Then::Join => self.go(ctx, State::PreparingRebalance),
            Then::Rejoin => {
                let reason = "need to revoke partitions and re-join";
                self.want_rejoin(ctx, reason, Cause::AssignedElsewhere);
            }
            Then::Depart => {}
        }
        true
    }
}
