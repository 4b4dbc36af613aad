//! JoinGroup.

use std::collections::BTreeSet;

use kavka_mutants::mutant;
use kavka_protocol::ByteString;

use super::{
    Classic, PROTOCOL_TYPE, State, Verdict,
    reactions::{self, Reaction},
};
use crate::{
    Cause, Coordinator, ErrorKind, Event, Failure, JoinRequest, JoinResponse, RebalanceProtocol,
    Request, RequestId, Subscription, Target, TopicPartition, Trace, context::Context,
    output::Trouble, positions::Positions, subscription,
};

impl Classic {
    pub(super) fn send_join(
        &mut self,
        ctx: &mut Context<'_>,
        positions: &Positions,
        coordinator: &Coordinator,
    ) {
        assert!(self.join.is_none(), "one JoinGroup at a time");
        self.retry_at = None;
        self.heartbeat.stop();
        let topics = self.subscription.clone().unwrap_or_default();
        let owned = match self.protocol {
            RebalanceProtocol::Eager => BTreeSet::new(),
            RebalanceProtocol::Cooperative => positions.owned(),
        };
        let request = Request::Join(JoinRequest {
            group: ctx.group(),
            member_id: self.member_id.clone(),
            instance_id: ctx.config.group_instance_id.clone(),
            session_timeout_ms: millis(ctx.config.session_timeout),
            rebalance_timeout_ms: millis(ctx.config.max_poll_interval),
            protocol_type: PROTOCOL_TYPE,
            protocols: self.protocols(ctx, &topics, &owned),
            reason: self.reason.clone(),
        });
        self.joined_with = topics;
        let target = Target::Coordinator(coordinator.clone());
        self.join = Some(ctx.send(target, ctx.config.join_timeout(), request));
    }

    fn protocols(
        &self,
        ctx: &Context<'_>,
        topics: &BTreeSet<ByteString>,
        owned: &BTreeSet<TopicPartition>,
    ) -> Vec<(ByteString, bytes::Bytes)> {
        let assignors = ctx.config.assignors.iter().map(|assignor| {
            let user_data = subscription::user_data(
                assignor,
                &self.last_assignment,
                self.last_assignment_generation,
            );
            let subscription = Subscription {
                topics: topics.clone(),
                user_data,
                owned: owned.clone(),
                generation: self.generation,
                rack: ctx.config.client_rack.clone(),
            };
            (assignor.name.clone(), subscription.encode())
        });
        assignors.collect()
    }

    pub(crate) fn on_join_answer(
        &mut self,
        ctx: &mut Context<'_>,
        positions: &mut Positions,
        id: RequestId,
        response: JoinResponse,
    ) -> Verdict {
        if self.join.take_if(|join| *join == id).is_none() {
            ctx.trace(Trace::StaleAnswer);
            return Verdict::Done;
        }
        let code = response.error;
        match reactions::on_join(code) {
            Reaction::None => return self.on_joined(ctx, positions, response),
            Reaction::AdoptId => {
                self.reason = Some(
                    format!("need to re-join with the given member-id: {}", response.member_id)
                        .into(),
                );
                if !mutant("id-not-adopted") {
                    self.member_id = response.member_id;
                }
                self.next_round(ctx);
            }
            Reaction::Retry => {
                ctx.trace(Trace::WillRetry { what: "JoinGroup", why: Trouble::Code(code) });
                self.retry_later(ctx);
            }
            Reaction::FindCoordinator => {
                self.next_round(ctx);
                return Verdict::FindCoordinator(code);
            }
            Reaction::ForgetIdentity | Reaction::ForgetGeneration => {
                self.removed(ctx, positions, code)
            }
            Reaction::Rejoin => {
                self.reason = Some("rebalance failed: group is already rebalancing".into());
                self.next_round(ctx);
            }
            Reaction::Fatal(kind) => return Verdict::Fatal(ctx.error(kind, Some(code))),
        }
        Verdict::Done
    }

    pub(crate) fn on_join_failure(
        &mut self,
        ctx: &mut Context<'_>,
        id: RequestId,
        failure: Failure,
    ) {
        if self.join.take_if(|join| *join == id).is_none() {
            return;
        }
        ctx.trace(Trace::WillRetry { what: "JoinGroup", why: Trouble::Failure(failure) });
        self.next_round(ctx);
    }

    fn on_joined(
        &mut self,
        ctx: &mut Context<'_>,
        positions: &mut Positions,
        response: JoinResponse,
    ) -> Verdict {
        let assignor = response.protocol_name.clone().unwrap_or_default();
        let is_ours = ctx.config.assignors.iter().any(|known| known.name == assignor);
        if !is_ours || response.generation < 0 || response.member_id.is_empty() {
            return Verdict::Fatal(ctx.error(ErrorKind::Protocol, None));
        }
        if response.generation != self.generation
            && response.generation != self.generation.saturating_add(1)
            && !positions.is_empty()
            && !mutant("keeps-after-missed-generation")
        {
            // The group made a generation that this member took no part in: what it owned may have been given away.
            let lost = positions.give_up_all();
            self.claimed_in_vain = true;
            ctx.event(Event::Lost { partitions: lost, cause: Cause::MissedGeneration });
        }
        self.generation = response.generation;
        self.is_leader = response.leader == response.member_id;
        self.member_id = response.member_id.clone();
        self.assignor = assignor;
        self.reason = None;
        self.snapshot = None;
        self.skipped = None;
        self.unsettled = None;
        self.go(ctx, State::CompletingRebalance);
        self.heartbeat.start(ctx);
        if self.departure.is_some() {
            // It was waited for to learn the id.
        } else if self.is_leader {
            self.lead(ctx, positions, response);
        } else {
            self.to_sync = Some(Vec::new());
        }
        Verdict::Works
    }
}

/// As a field of 32 bits; the settings are checked to fit.
fn millis(duration: std::time::Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
