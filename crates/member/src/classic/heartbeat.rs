//! Heartbeats: from the answer to JoinGroup on, so that a long assignment does not cost the membership.

use kavka_mutants::mutant;
use kavka_protocol::{ByteString, ErrorCode};

use super::{
    Classic, State, Verdict,
    reactions::{self, Reaction},
};
use crate::{
    Cause, Coordinator, HeartbeatRequest, Monotonic, Request, RequestId, Target, Trace,
    backoff::Attempts, context::Context, output::Trouble, positions::Positions,
};

#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Heartbeats {
    under_way: Option<Beat>,
    /// `None` while there are none: not joined, or a JoinGroup takes their place.
    next_at: Option<Monotonic>,
    /// When the coordinator last showed that it knows the member.
    last_contact: Monotonic,
    attempts: Attempts,
}

/// Who sent a heartbeat.
#[derive(Clone, Debug, Hash)]
struct Beat {
    request: RequestId,
    generation: i32,
    member_id: ByteString,
}

impl Heartbeats {
    pub(super) fn start(&mut self, ctx: &Context<'_>) {
        *self = Self {
            next_at: Some(ctx.monotonic() + ctx.config.heartbeat_interval),
            last_contact: ctx.monotonic(),
            ..Self::default()
        };
    }

    /// What is under way is not listened to any more.
    pub(super) fn stop(&mut self) {
        self.under_way = None;
        self.next_at = None;
    }
}

impl Classic {
    fn beats(&self) -> bool {
        matches!(self.state, State::CompletingRebalance | State::Stable)
    }

    pub(super) fn maybe_heartbeat(
        &mut self,
        ctx: &mut Context<'_>,
        coordinator: Option<&Coordinator>,
    ) -> bool {
        let due = self.heartbeat.next_at.is_some_and(|at| at <= ctx.monotonic());
        let Some(coordinator) = coordinator else { return false };
        if !due || !self.beats() || self.heartbeat.under_way.is_some() || mutant("no-heartbeats") {
            return false;
        }
        let request = Request::Heartbeat(HeartbeatRequest {
            group: ctx.group(),
            generation: self.generation,
            member_id: self.member_id.clone(),
            instance_id: ctx.config.group_instance_id.clone(),
        });
        let target = Target::Coordinator(coordinator.clone());
        let request = ctx.send(target, ctx.config.request_timeout, request);
        let (generation, member_id) = (self.generation, self.member_id.clone());
        self.heartbeat.under_way = Some(Beat { request, generation, member_id });
        self.heartbeat.next_at = Some(ctx.monotonic() + ctx.config.heartbeat_interval);
        true
    }

    pub(super) fn next_heartbeat(
        &self,
        config: &crate::MemberConfig,
        has_coordinator: bool,
    ) -> Option<Monotonic> {
        if !self.beats() || !has_coordinator {
            return None;
        }
        let next = self.heartbeat.next_at.filter(|_| self.heartbeat.under_way.is_none());
        let silence = self.heartbeat.last_contact + config.session_timeout;
        Some(next.map_or(silence, |next| next.min(silence)))
    }

    /// Whether nothing was heard of the coordinator for a session timeout. Says so once for each such time.
    pub(crate) fn is_silent(&mut self, ctx: &Context<'_>) -> bool {
        let deadline = self.heartbeat.last_contact + ctx.config.session_timeout;
        let silent = self.beats() && deadline <= ctx.monotonic() && !mutant("silence-not-noticed");
        if silent {
            self.heartbeat.last_contact = ctx.monotonic();
        }
        silent
    }

    pub(crate) fn on_heartbeat(
        &mut self,
        ctx: &mut Context<'_>,
        positions: &mut Positions,
        request: RequestId,
        code: ErrorCode,
    ) -> Verdict {
        let Some(beat) = self.heartbeat.under_way.take_if(|beat| beat.request == request) else {
            ctx.trace(Trace::StaleAnswer);
            return Verdict::Done;
        };
        let is_current = beat.generation == self.generation && beat.member_id == self.member_id;
        match reactions::on_heartbeat(code) {
            Reaction::None => {
                self.on_contact(ctx);
                return Verdict::Works;
            }
            Reaction::Rejoin => {
                self.on_contact(ctx);
                if self.state == State::Stable && is_current && !mutant("rebalance-not-heard") {
                    self.want_rejoin(ctx, "group is already rebalancing", Cause::GroupRebalances);
                }
            }
            Reaction::Retry | Reaction::AdoptId => self.beat_later(ctx, Trouble::Code(code)),
            Reaction::FindCoordinator => {
                self.beat_later(ctx, Trouble::Code(code));
                return Verdict::FindCoordinator(code);
            }
            Reaction::ForgetIdentity | Reaction::ForgetGeneration if is_current => {
                self.removed(ctx, positions, code);
            }
            Reaction::Fatal(kind) if is_current => {
                return Verdict::Fatal(ctx.error(kind, Some(code)));
            }
            // It is about an id or a generation that was given up since.
            Reaction::ForgetIdentity | Reaction::ForgetGeneration | Reaction::Fatal(_) => {
                ctx.trace(Trace::StaleAnswer);
            }
        }
        Verdict::Done
    }

    fn on_contact(&mut self, ctx: &Context<'_>) {
        self.heartbeat.last_contact = ctx.monotonic();
        self.heartbeat.attempts.succeed();
    }

    pub(crate) fn on_heartbeat_failure(
        &mut self,
        ctx: &mut Context<'_>,
        id: RequestId,
        why: Trouble,
    ) {
        if self.heartbeat.under_way.take_if(|beat| beat.request == id).is_some() {
            self.beat_later(ctx, why);
        }
    }

    fn beat_later(&mut self, ctx: &mut Context<'_>, why: Trouble) {
        ctx.trace(Trace::WillRetry { what: "Heartbeat", why });
        if self.heartbeat.next_at.is_some() {
            self.heartbeat.next_at = Some(ctx.retry_at(&mut self.heartbeat.attempts));
        }
    }

    /// The coordinator answered `UNKNOWN_MEMBER_ID` or `ILLEGAL_GENERATION` to what this member is now. While a JoinGroup is under
    /// way its answer decides.
    pub(crate) fn removed(
        &mut self,
        ctx: &mut Context<'_>,
        positions: &mut Positions,
        code: ErrorCode,
    ) {
        if self.join.is_some() {
            return;
        }
        self.lose(ctx, positions, Cause::Removed(code));
        if code != ErrorCode::IllegalGeneration && !mutant("unknown-id-kept") {
            self.forget_identity();
        }
        self.reason = Some(format!("removed from the group: {}", code.name()).into());
        self.next_round(ctx);
    }
}
