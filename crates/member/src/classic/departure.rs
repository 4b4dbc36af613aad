//! Leaving: to unsubscribe, to close, or because the application is stuck.

use std::time::Duration;

use kavka_protocol::ErrorCode;

use super::{
    Classic, State, Verdict,
    preparation::Then,
    reactions::{self, Reaction},
};
use crate::{
    Cause, Coordinator, LeaveRequest, Monotonic, Request, RequestId, Target, Trace,
    backoff::Attempts,
    context::Context,
    output::Trouble,
    positions::{Positions, commit::Commits},
};

/// See the module.
#[derive(Clone, Debug, Hash)]
pub(super) struct Departure {
    cause: Cause,
    leave: bool,
    drain_deadline: Monotonic,
    commit_deadline: Monotonic,
    deadline: Monotonic,
    request: Option<RequestId>,
    attempts: Attempts,
    retry_at: Option<Monotonic>,
}

impl Departure {
    pub(super) fn wants_coordinator(&self) -> bool {
        self.leave
    }

    pub(super) fn next_deadline(&self, has_coordinator: bool) -> Option<Monotonic> {
        let retry = self.retry_at.filter(|_| has_coordinator && self.request.is_none());
        Some(retry.map_or(self.deadline, |retry| retry.min(self.deadline)))
    }
}

impl Classic {
    /// Begins to leave, or goes on doing so until another time. `leave`: whether to tell the coordinator.
    pub(crate) fn depart(
        &mut self,
        ctx: &mut Context<'_>,
        cause: Cause,
        timeout: Duration,
        leave: Option<bool>,
    ) {
        self.rejoin = None;
        let now = ctx.monotonic();
        let leave = leave.unwrap_or(ctx.config.group_instance_id.is_none())
            && !kavka_mutants::mutant("closes-without-leaving");
        let request = self.departure.take().and_then(|former| former.request);
        self.departure = Some(Departure {
            cause,
            leave,
            drain_deadline: now + timeout / 2,
            commit_deadline: now + timeout * 3 / 4,
            deadline: now + timeout,
            request,
            attempts: Attempts::default(),
            retry_at: None,
        });
    }

    pub(crate) fn is_departing(&self) -> bool {
        self.departure.is_some()
    }

    pub(super) fn advance_departure(
        &mut self,
        ctx: &mut Context<'_>,
        positions: &mut Positions,
        commits: &mut Commits,
        coordinator: Option<&Coordinator>,
    ) -> bool {
        let Some(departure) = &mut self.departure else { return false };
        let is_over = departure.deadline <= ctx.monotonic();
        if !positions.is_empty() && !is_over {
            let owned = positions.owned();
            if !self.preparation.as_ref().is_some_and(|preparation| preparation.covers(&owned)) {
                let until = (departure.drain_deadline, departure.commit_deadline);
                let cause = departure.cause.clone();
                self.revoke(ctx, positions, owned, cause, until, Then::Depart);
                return true;
            }
            return self.advance_preparation(ctx, positions, commits);
        }
        // An id is on its way: it has to be known before it can be given back.
        let learns_id = self.join.is_some() && self.member_id.is_empty() && departure.leave;
        if learns_id && !is_over {
            return false;
        }
        if self.join.take().is_some() | self.sync.take().is_some() {
            self.must_reconnect = true;
            return true;
        }
        if is_over || !departure.leave || self.member_id.is_empty() {
            self.departed(ctx, positions);
            return true;
        }
        let in_time = departure.retry_at.is_none_or(|at| at <= ctx.monotonic());
        let Some(coordinator) = coordinator else { return false };
        if departure.request.is_some() || !in_time {
            return false;
        }
        departure.retry_at = None;
        let reason = departure.cause.to_string();
        let request = Request::Leave(LeaveRequest {
            group: ctx.group(),
            member_id: self.member_id.clone(),
            instance_id: ctx.config.group_instance_id.clone(),
            reason: Some(reason.into()),
        });
        let target = Target::Coordinator(coordinator.clone());
        departure.request = Some(ctx.send(target, ctx.config.request_timeout, request));
        true
    }

    /// Whether the connection to the coordinator has to be closed to get past a parked request. Asks once.
    pub(crate) fn take_must_reconnect(&mut self) -> bool {
        std::mem::take(&mut self.must_reconnect)
    }

    fn departed(&mut self, ctx: &mut Context<'_>, positions: &mut Positions) {
        let Some(departure) = self.departure.take() else { return };
        // The preparation went on for too long.
        self.lose(ctx, positions, departure.cause);
        self.forget_identity();
        self.attempts.succeed();
        self.retry_at = None;
        self.reason = None;
        self.go(ctx, State::Unjoined);
    }

    pub(crate) fn on_leave(
        &mut self,
        ctx: &mut Context<'_>,
        positions: &mut Positions,
        code: ErrorCode,
    ) -> Verdict {
        match reactions::on_leave(code) {
            Reaction::Retry => self.on_leave_failure(ctx, Trouble::Code(code)),
            Reaction::FindCoordinator => {
                self.on_leave_failure(ctx, Trouble::Code(code));
                return Verdict::FindCoordinator(code);
            }
            _ => {
                if let Some(departure) = &mut self.departure {
                    departure.request = None;
                }
                self.departed(ctx, positions);
            }
        }
        Verdict::Done
    }

    pub(crate) fn on_leave_failure(&mut self, ctx: &mut Context<'_>, why: Trouble) {
        ctx.trace(Trace::WillRetry { what: "LeaveGroup", why });
        if let Some(departure) = &mut self.departure {
            departure.request = None;
            departure.retry_at = Some(ctx.retry_at(&mut departure.attempts));
        }
    }
}
