//! Assigning, SyncGroup, and taking the new assignment.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kavka_mutants::mutant;
use kavka_protocol::{ByteString, ErrorCode};

use super::{
    Classic, PROTOCOL_TYPE, State, Verdict,
    moves::{self, Claim, Claims, Unsettled},
    preparation::Then,
    reactions::{self, Reaction},
    skipped::Skipped,
};
use crate::{
    AssignTask, Assignment, Cause, Coordinator, ErrorKind, Event, Failure, GroupMember,
    JoinResponse, JoinedMember, MemberError, RebalanceProtocol, Request, RequestId, Subscription,
    SyncRequest, Target, TopicShape, Trace,
    context::Context,
    output::Trouble,
    positions::{Positions, commit::Commits},
    subscription,
};

impl Classic {
    /// This member was chosen to assign.
    pub(super) fn lead(
        &mut self,
        ctx: &mut Context<'_>,
        positions: &Positions,
        response: JoinResponse,
    ) {
        let mut claims = Claims::new();
        let mut topics: BTreeSet<ByteString> = BTreeSet::new();
        let mut members = Vec::new();
        for member in response.members {
            let subscription = Subscription::decode(&member.metadata).unwrap_or_else(|_| {
                ctx.trace(Trace::UnreadableSubscription { member: member.member_id.clone() });
                Subscription { generation: -1, ..Subscription::default() }
            });
            topics.extend(subscription.topics.iter().cloned());
            let version = subscription::version_of(&member.metadata);
            claims.insert(member.member_id.clone(), Claim::new(&subscription, version));
            let JoinedMember { member_id, instance_id, metadata } = member;
            members.push(GroupMember { member_id, instance_id, subscription, metadata });
        }
        if response.skip_assignment {
            // The assignment stays; but changes of the topics are this member's to watch, and what changed while it was away is
            // to be found out.
            if !mutant("skips-blindly") {
                self.skipped = Some(Skipped::new(topics.clone()));
            }
            self.snapshot = Some(positions.shapes(topics));
            self.to_sync = Some(Vec::new());
            return;
        }
        self.assigning = Some((self.generation, claims, topics));
        ctx.event(Event::Assign(AssignTask {
            generation: self.generation,
            assignor: self.assignor.clone(),
            members,
        }));
    }

    pub(crate) fn on_assigned(
        &mut self,
        ctx: &mut Context<'_>,
        generation: i32,
        mut assignments: BTreeMap<ByteString, Assignment>,
        mut topics: BTreeMap<ByteString, TopicShape>,
    ) {
        let asked = self.assigning.take_if(|(asked, ..)| *asked == generation);
        let Some((_, claims, subscribed)) = asked else {
            return ctx.trace(Trace::StaleAnswer);
        };
        // A topic that does not exist yet looks like one without partitions: when it comes into being, it is to be assigned.
        for topic in subscribed.into_iter().filter(|_| !mutant("unborn-topic-forgotten")) {
            topics.entry(topic).or_default();
        }
        assignments.retain(|member, _| claims.contains_key(member));
        if self.protocol == RebalanceProtocol::Cooperative {
            moves::hold_back(ctx, &mut assignments, &claims);
            self.unsettled = moves::left_with_nobody(&assignments, &claims, &topics)
                .map(|partition| Unsettled::new(ctx, partition));
        }
        self.snapshot = Some(topics);
        let shares = claims.into_iter().map(|(member, claim)| {
            let share = assignments.remove(&member).unwrap_or_default();
            (member, share.encode_as(claim.version()))
        });
        self.to_sync = Some(shares.collect());
    }

    pub(crate) fn on_assign_failed(
        &mut self,
        ctx: &mut Context<'_>,
        generation: i32,
        message: String,
    ) -> Option<MemberError> {
        self.assigning.take_if(|(asked, ..)| *asked == generation)?;
        Some(ctx.error(ErrorKind::AssignorFailed(message), None))
    }

    pub(super) fn send_sync(&mut self, ctx: &mut Context<'_>, coordinator: &Coordinator) -> bool {
        let Some(assignments) = self.to_sync.take() else { return false };
        let request = Request::Sync(SyncRequest {
            group: ctx.group(),
            generation: self.generation,
            member_id: self.member_id.clone(),
            instance_id: ctx.config.group_instance_id.clone(),
            protocol_type: PROTOCOL_TYPE,
            protocol_name: self.assignor.clone(),
            assignments,
        });
        let target = Target::Coordinator(coordinator.clone());
        // It waits for the leader, which may take as long as a rebalance may.
        self.sync = Some(ctx.send(target, ctx.config.join_timeout(), request));
        true
    }

    pub(crate) fn on_sync_answer(
        &mut self,
        ctx: &mut Context<'_>,
        positions: &mut Positions,
        commits: &mut Commits,
        id: RequestId,
        result: Result<Bytes, ErrorCode>,
    ) -> Verdict {
        if self.sync.take_if(|sync| *sync == id).is_none() {
            ctx.trace(Trace::StaleAnswer);
            return Verdict::Done;
        }
        let code = match result {
            Ok(share) => {
                return match Assignment::decode(&share) {
                    Ok(assignment) => {
                        self.take_assignment(ctx, positions, commits, assignment);
                        Verdict::Works
                    }
                    Err(_) => Verdict::Fatal(ctx.error(ErrorKind::Protocol, None)),
                };
            }
            Err(code) => code,
        };
        match reactions::on_sync(code) {
            Reaction::ForgetIdentity | Reaction::ForgetGeneration => {
                self.removed(ctx, positions, code)
            }
            Reaction::FindCoordinator => {
                self.join_again(ctx, Trouble::Code(code));
                self.next_round(ctx);
                return Verdict::FindCoordinator(code);
            }
            Reaction::Fatal(kind) => return Verdict::Fatal(ctx.error(kind, Some(code))),
            Reaction::None | Reaction::AdoptId | Reaction::Rejoin => {
                self.join_again(ctx, Trouble::Code(code));
                self.next_round(ctx);
            }
            Reaction::Retry => {
                self.join_again(ctx, Trouble::Code(code));
                self.retry_later(ctx);
            }
        }
        Verdict::Done
    }

    pub(crate) fn on_sync_failure(
        &mut self,
        ctx: &mut Context<'_>,
        id: RequestId,
        failure: Failure,
    ) {
        if self.sync.take_if(|sync| *sync == id).is_some() {
            self.join_again(ctx, Trouble::Failure(failure));
            self.next_round(ctx);
        }
    }

    /// This round came to nothing. What is owned stays so: nobody else got it without this member's share in the round.
    fn join_again(&mut self, ctx: &mut Context<'_>, why: Trouble) {
        ctx.trace(Trace::WillRetry { what: "SyncGroup", why });
        self.reason = Some(format!("rebalance failed: {why}").into());
        self.go(ctx, State::PreparingRebalance);
    }

    fn take_assignment(
        &mut self,
        ctx: &mut Context<'_>,
        positions: &mut Positions,
        commits: &mut Commits,
        assignment: Assignment,
    ) {
        self.go(ctx, State::Stable);
        commits.restart_interval(ctx);
        if self.is_departing() && !mutant("begins-while-leaving") {
            // What is owned is on its way out already, and is committed in this generation. Nothing new is begun with: what the
            // share adds goes to the others when this member has left.
            return;
        }
        let subscription = self.subscription.clone().unwrap_or_default();
        let stranger = assignment.partitions.iter().find(|tp| !subscription.contains(&tp.topic));
        if let Some(stranger) = stranger {
            // Another subscription was handed in than is there by now, or the leader made a mistake.
            let reason = format!("received assignment with {stranger}, which is not subscribed to");
            self.next_round(ctx);
            return self.want_rejoin(ctx, &reason, Cause::SubscriptionChanged);
        }
        self.attempts.succeed();
        self.retry_at = None;
        self.last_assignment = assignment.partitions.clone();
        self.last_assignment_generation = self.generation;
        let owned = positions.owned();
        assert!(
            owned.is_empty() || self.protocol == RebalanceProtocol::Cooperative,
            "an eager member owns nothing in a rebalance"
        );
        let added: Vec<_> = assignment.partitions.difference(&owned).cloned().collect();
        let revoke: BTreeSet<_> = owned.difference(&assignment.partitions).cloned().collect();
        positions.take(added.iter().cloned());
        ctx.event(Event::Assigned {
            generation: self.generation,
            added,
            owned: assignment.partitions.into_iter().collect(),
            user_data: assignment.user_data,
        });
        if std::mem::take(&mut self.claimed_in_vain) {
            // The leader may have kept them for this member, which gave them up after it had claimed them.
            self.want_rejoin(
                ctx,
                "the group rebalanced without this member",
                Cause::MissedGeneration,
            );
        }
        if self.joined_with != subscription {
            self.want_rejoin(ctx, "the subscription changed", Cause::SubscriptionChanged);
        }
        if self.is_leader {
            self.check_snapshot(ctx, positions.topics());
        }
        if !revoke.is_empty() && !mutant("keeps-what-moved") {
            let now = ctx.monotonic();
            let drain_deadline = now + ctx.config.drain_timeout();
            let deadline = now + ctx.config.preparation_timeout();
            let until = (drain_deadline, deadline);
            self.revoke(ctx, positions, revoke, Cause::AssignedElsewhere, until, Then::Rejoin);
        }
    }
}
