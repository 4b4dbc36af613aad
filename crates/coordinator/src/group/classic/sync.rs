//! SyncGroup: the leader hands in the assignment, everyone gets its share.

use std::collections::BTreeMap;

use bytes::Bytes;
use kavka_mutants::mutant;
use kavka_protocol::{ByteString, ErrorCode};

use super::ClassicGroup;
use crate::group::{
    EventKind, GroupState, RebalanceReason, Reply, RequestId, SyncReply, SyncRequest,
    context::Context,
};

impl ClassicGroup {
    /// Decides on a SyncGroup: answers it, or parks it until the leader's is there.
    pub(crate) fn sync(&mut self, ctx: &mut Context<'_>, id: RequestId, request: SyncRequest) {
        if let Err(error) = self.check_sync(ctx, &request) {
            ctx.answer(id, Reply::Sync(SyncReply::refusal(error)));
            return;
        }
        self.paid_sync(ctx, &request.member_id);
        if self.state == GroupState::Stable {
            let reply = self.synced(&request.member_id);
            ctx.answer(id, Reply::Sync(reply));
            return;
        }
        let Some(member) = self.members.get_mut(&request.member_id) else { return };
        if let Some(former) = member.sync.replace(id) {
            // Its client has given it up; should it be wrong about that, it is to join again.
            let refusal = SyncReply::refusal(ErrorCode::RebalanceInProgress);
            ctx.answer(former, Reply::Sync(refusal));
        }
        if mutant("follower-does-not-wait") && !self.is_leader(&request.member_id) {
            if let Some(member) = self.members.get_mut(&request.member_id) {
                member.sync = None;
            }
            let reply = self.synced(&request.member_id);
            ctx.answer(id, Reply::Sync(reply));
            return;
        }
        if self.is_leader(&request.member_id) {
            self.take_assignment(ctx, request);
        }
    }

    /// # Errors
    /// The code of the refusal.
    fn check_sync(
        &mut self,
        ctx: &mut Context<'_>,
        request: &SyncRequest,
    ) -> Result<(), ErrorCode> {
        self.check_member(ctx, &request.member_id, request.instance_id.as_ref(), "sync-group")?;
        if request.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |given: &Option<ByteString>, ours: &Option<ByteString>| {
            given.is_some() && given != ours
        };
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state {
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
            GroupState::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            GroupState::Empty | GroupState::Dead => Err(ErrorCode::UnknownMemberId),
        }
    }

    fn take_assignment(&mut self, ctx: &mut Context<'_>, request: SyncRequest) {
        let mut shares: BTreeMap<ByteString, Bytes> = request.assignments.into_iter().collect();
        let mut without_assignment = 0;
        for (id, member) in &mut self.members {
            member.assignment = shares.remove(id).unwrap_or_else(|| {
                without_assignment += 1;
                Bytes::new()
            });
        }
        let leader = request.member_id;
        let (size, max_size) = (self.to_value().size(), ctx.config.max_batch_bytes);
        if size > max_size {
            let error = ErrorCode::UnknownServerError;
            self.event(
                ctx,
                EventKind::AssignmentTooLarge { leader: leader.clone(), size, max_size },
            );
            self.drop_assignments(ctx, error);
            let reason = RebalanceReason::AssignmentNotStored { member: leader, error };
            self.prepare_rebalance(ctx, reason);
            return;
        }
        let took = self.took(ctx);
        self.rebalance = None;
        self.transition(ctx, GroupState::Stable);
        if !mutant("assignment-not-stored") {
            self.store(ctx);
        }
        let kind = EventKind::AssignmentReceived {
            leader,
            members: self.members.len(),
            static_members: self.static_members.len(),
            without_assignment,
            took,
        };
        self.event(ctx, kind);
        self.hand_out_shares(ctx);
    }

    fn hand_out_shares(&mut self, ctx: &mut Context<'_>) {
        let waiting: Vec<ByteString> = self
            .members
            .iter()
            .filter(|(_, member)| member.sync.is_some())
            .map(|(id, _)| id.clone())
            .collect();
        for id in waiting {
            if let Some(request) = self.members.get_mut(&id).and_then(|member| member.sync.take()) {
                let reply = self.synced(&id);
                ctx.answer(request, Reply::Sync(reply));
                self.touch(ctx, &id);
            }
        }
    }

    fn synced(&self, member_id: &str) -> SyncReply {
        SyncReply {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment: self
                .members
                .get(member_id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }
}
