//! Sessions: heartbeats keep them, leaving and silence end them. Commits are here as well, as far as they are a member's.

use kavka_mutants::mutant;
use kavka_protocol::{ByteString, ErrorCode};

use super::{ClassicGroup, rebalance::SHORTEST_WAIT};
use crate::group::{
    CommitRequest, EventKind, GroupState, HeartbeatRequest, LeaveRequest, LeavingMember,
    LeftMember, RebalanceReason, RequestId, context::Context, timers::GroupTimer,
};

impl ClassicGroup {
    /// The code of a Heartbeat.
    pub(crate) fn heartbeat(
        &mut self,
        ctx: &mut Context<'_>,
        request: &HeartbeatRequest,
    ) -> ErrorCode {
        let HeartbeatRequest { member_id, instance_id, generation, .. } = request;
        if let Err(error) = self.check_member(ctx, member_id, instance_id.as_ref(), "heartbeat") {
            return error;
        }
        if *generation != self.generation && !mutant("heartbeat-of-any-generation") {
            return ErrorCode::IllegalGeneration;
        }
        match self.state {
            GroupState::PreparingRebalance if mutant("heartbeat-hides-rebalance") => {
                self.touch(ctx, member_id);
                ErrorCode::None
            }
            GroupState::PreparingRebalance => {
                self.touch(ctx, member_id);
                ErrorCode::RebalanceInProgress
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.touch(ctx, member_id);
                ErrorCode::None
            }
            GroupState::Empty | GroupState::Dead => ErrorCode::UnknownMemberId,
        }
    }

    /// Removes those who leave; a row for each. One rebalance for all of them.
    pub(crate) fn leave(
        &mut self,
        ctx: &mut Context<'_>,
        request: LeaveRequest,
    ) -> Vec<LeftMember> {
        let mut gone = Vec::new();
        let mut rows = Vec::with_capacity(request.members.len());
        for leaving in request.members {
            let error = match self.remove_leaving(ctx, &leaving) {
                Ok(Some(member_id)) => {
                    gone.push(member_id);
                    ErrorCode::None
                }
                Ok(None) => ErrorCode::None,
                Err(error) => error,
            };
            let LeavingMember { member_id, instance_id, .. } = leaving;
            rows.push(LeftMember { member_id, instance_id, error });
        }
        if gone.is_empty() {
            // An id that was only handed out holds a rebalance, but its going is no reason for one.
            self.maybe_complete_join(ctx);
        } else {
            if !mutant("leave-without-rebalance") {
                self.rebalance_or_complete(ctx, RebalanceReason::MembersLeft { members: gone });
            }
        }
        rows
    }

    /// The id of the member that is gone; `None` if it was not in yet.
    fn remove_leaving(
        &mut self,
        ctx: &mut Context<'_>,
        leaving: &LeavingMember,
    ) -> Result<Option<ByteString>, ErrorCode> {
        let instance = leaving.instance_id.as_ref();
        let left =
            |member: &ByteString, instance: Option<&ByteString>, pending| EventKind::MemberLeft {
                member: member.clone(),
                instance: instance.cloned(),
                reason: leaving.reason.clone(),
                pending,
            };
        if self.forget_pending(ctx, &leaving.member_id) {
            self.event(ctx, left(&leaving.member_id, instance, true));
            return Ok(None);
        }
        // An operator removes a static member by its name.
        let by_name = instance.filter(|_| leaving.member_id.is_empty());
        let member_id = match by_name.and_then(|name| self.static_members.get(name)) {
            Some(member_id) => member_id.clone(),
            None => {
                self.check_member(ctx, &leaving.member_id, instance, "leave-group")?;
                leaving.member_id.clone()
            }
        };
        if mutant("leave-keeps-member") {
            return Ok(None);
        }
        let member = self
            .remove_member(ctx, &member_id, ErrorCode::UnknownMemberId)
            .ok_or(ErrorCode::UnknownMemberId)?;
        self.event(ctx, left(&member_id, member.instance_id.as_ref(), false));
        Ok(Some(member_id))
    }

    pub(super) fn forget_pending(&mut self, ctx: &mut Context<'_>, member_id: &ByteString) -> bool {
        let was_pending =
            self.pending.remove(member_id).is_some() || self.superseded.remove(member_id).is_some();
        if was_pending {
            ctx.cancel(&self.id, GroupTimer::Pending(member_id.clone()));
        }
        was_pending
    }

    pub(super) fn on_session_timer(&mut self, ctx: &mut Context<'_>, member_id: &ByteString) {
        let Some(member) = self.members.get(member_id) else { return };
        // A member whose request is parked cannot be expected to speak: it is we who owe it a word. Only one in its first join
        // is given up, because nobody may be there to hear it.
        if member.is_parked() && !member.is_new {
            let deadline = ctx.now.monotonic + member.session_timeout().max(SHORTEST_WAIT);
            ctx.arm(&self.id, GroupTimer::Session(member_id.clone()), deadline);
            return;
        }
        let timeout = if member.is_new {
            ctx.config.new_member_join_timeout
        } else {
            member.session_timeout()
        };
        let instance = member.instance_id.clone();
        self.remove_member(ctx, member_id, ErrorCode::UnknownMemberId);
        let kind = EventKind::MemberExpired { member: member_id.clone(), instance, timeout };
        self.event(ctx, kind);
        if mutant("expiry-without-rebalance")
            && self.state == GroupState::Stable
            && !self.members.is_empty()
        {
            return;
        }
        self.rebalance_or_complete(
            ctx,
            RebalanceReason::MemberExpired { member: member_id.clone() },
        );
    }

    /// The client of a parked JoinGroup has gone. If it never heard of its id, it cannot come back under it, and so nobody ever
    /// will: kept, the member would be given partitions that nobody reads until its session ends. Any other member may be on
    /// its way back.
    pub(crate) fn abandoned(&mut self, ctx: &mut Context<'_>, request: RequestId) {
        let of_request = self.members.iter().find(|(_, member)| member.join == Some(request));
        let Some((id, false)) = of_request.map(|(id, member)| (id.clone(), member.knows_its_id))
        else {
            return;
        };
        self.remove_member(ctx, &id, ErrorCode::UnknownMemberId);
        self.event(ctx, EventKind::MemberAbandoned { member: id });
        // It was in its first join, so there is a rebalance already.
        self.maybe_complete_join(ctx);
    }

    pub(super) fn on_pending_timer(&mut self, ctx: &mut Context<'_>, member_id: &ByteString) {
        if let Some(pending) = self.pending.remove(member_id)
            && pending.good_until > ctx.now.monotonic
        {
            // Superseded: it holds the rebalance no longer, but who comes with it is still let in.
            let timer = GroupTimer::Pending(member_id.clone());
            ctx.arm(&self.id, timer, pending.good_until);
            self.superseded.insert(member_id.clone(), pending);
        } else {
            self.superseded.remove(member_id);
            self.event(ctx, EventKind::PendingMemberExpired { member: member_id.clone() });
        }
        self.maybe_complete_join(ctx);
    }

    /// Whether the sender of a commit may commit; if so, and it is a member, its session begins anew.
    ///
    /// # Errors
    /// The code for every partition of the request.
    pub(crate) fn check_commit(
        &mut self,
        ctx: &mut Context<'_>,
        request: &CommitRequest,
    ) -> Result<(), ErrorCode> {
        let CommitRequest { member_id, instance_id, generation, .. } = request;
        // An operator, or a consumer that assigns itself its partitions.
        if *generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if mutant("anonymous-commit") && member_id.is_empty() {
            return Ok(());
        }
        if *generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.check_member(ctx, member_id, instance_id.as_ref(), "offset-commit")?;
        if *generation != self.generation && !mutant("commit-of-any-generation") {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.state {
            // The partitions may be someone else's already.
            GroupState::CompletingRebalance if !mutant("commit-while-completing") => {
                Err(ErrorCode::RebalanceInProgress)
            }
            GroupState::PreparingRebalance
            | GroupState::CompletingRebalance
            | GroupState::Stable => {
                self.touch(ctx, member_id);
                Ok(())
            }
            GroupState::Empty | GroupState::Dead => Err(ErrorCode::UnknownMemberId),
        }
    }
}
