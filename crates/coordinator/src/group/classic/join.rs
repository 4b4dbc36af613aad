//! JoinGroup: who may come in, under which id, and whether that starts a rebalance.

use std::collections::BTreeSet;

use kavka_mutants::mutant;
use kavka_protocol::{ByteString, ErrorCode};

use super::{
    ClassicGroup,
    member::{Member, PendingMember, millis},
};
use crate::group::{
    EventKind, GroupState, JoinReply, JoinRequest, RebalanceReason, Reply, RequestId,
    context::Context, timers::GroupTimer,
};

/// Whether a request can start a group: it must say what protocol the group is to have.
pub(crate) fn names_a_protocol(request: &JoinRequest) -> bool {
    !request.protocol_type.is_empty() && !request.protocols.is_empty()
}

impl ClassicGroup {
    /// Decides on a JoinGroup: answers it, or parks it until the generation is made.
    pub(crate) fn join(&mut self, ctx: &mut Context<'_>, id: RequestId, mut request: JoinRequest) {
        let mut names = BTreeSet::new();
        request.protocols.retain(|(name, _)| names.insert(name.clone()));

        if let Err((member_id, error)) = self.admit(ctx, &request) {
            ctx.answer(id, Reply::Join(JoinReply::refusal(member_id, error)));
            return;
        }
        if request.member_id.is_empty() {
            match request.instance_id.clone() {
                Some(instance) => self.join_as_instance(ctx, id, request, &instance),
                None if request.requires_known_member_id && !mutant("phantom-members") => {
                    self.hand_out_id(ctx, id, &request)
                }
                None => {
                    let member_id = ctx.ids.generate(&request.client_id);
                    self.add_member(ctx, id, member_id, request);
                }
            }
        } else {
            self.join_with_id(ctx, id, request);
        }
    }

    /// Size and protocol: what is checked before it is looked at who is asking.
    ///
    /// # Errors
    /// The member id and the code of the refusal.
    fn admit(
        &mut self,
        ctx: &mut Context<'_>,
        request: &JoinRequest,
    ) -> Result<(), (ByteString, ErrorCode)> {
        let full = (ByteString::new(), ErrorCode::GroupMaxSizeReached);
        if !self.has_room_for(ctx, request) {
            let kind = EventKind::MemberRefused {
                member: request.member_id.clone(),
                size: self.members.len(),
                max_size: ctx.config.max_size,
            };
            self.event(ctx, kind);
            // Who is refused is out: the others must not wait for it.
            self.forget_pending(ctx, &request.member_id);
            self.remove_member(ctx, &request.member_id, ErrorCode::GroupMaxSizeReached);
            self.maybe_complete_join(ctx);
            return Err(full);
        }
        if !self.supports(request) {
            return Err((request.member_id.clone(), ErrorCode::InconsistentGroupProtocol));
        }
        if !self.has_memory_for(ctx, request) {
            let kind = EventKind::MemberRefused {
                member: request.member_id.clone(),
                size: self.members.len(),
                max_size: self.members.len(),
            };
            self.event(ctx, kind);
            return Err(full);
        }
        Ok(())
    }

    /// Whether what the member says about itself fits: into what one member may take, into what is left of what the group may
    /// take, and into the group's record. A group whose record fits into no batch could never become stable.
    fn has_memory_for(&self, ctx: &Context<'_>, request: &JoinRequest) -> bool {
        let member = Member::of(request);
        let weight = member.weight(&request.member_id) + LONGEST_ID_SUFFIX;
        let metadata_bytes = member.metadata_bytes();
        let former = self.place_of(request);
        let (freed_weight, freed_bytes) =
            former.map_or((0, 0), |(id, former)| (former.weight(id), former.metadata_bytes()));
        metadata_bytes <= ctx.config.max_member_metadata
            && self.totals.metadata_bytes - freed_bytes + metadata_bytes
                <= ctx.config.max_group_metadata
            && self.totals.weight - freed_weight + weight <= ctx.config.max_batch_bytes
    }

    /// KIP-389. What counts is who will be in the next generation. A static member that returns without its id takes no new
    /// place; one that has not rejoined keeps its own.
    fn has_room_for(&self, ctx: &Context<'_>, request: &JoinRequest) -> bool {
        if mutant("no-size-limit") {
            return true;
        }
        let max_size = ctx.config.max_size;
        let known = self.place_of(request).map(|(_, member)| member);
        match self.state {
            GroupState::Empty | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                let keeps_its_place =
                    known.is_some_and(|member| member.joins() || member.instance_id.is_some());
                keeps_its_place || self.places_taken() < max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                known.is_some() || self.members.len() < max_size
            }
        }
    }

    /// The member whose place the request is for, if it has one: by its id or, without, by its name.
    fn place_of(&self, request: &JoinRequest) -> Option<(&ByteString, &Member)> {
        let id = match &request.instance_id {
            Some(instance) if request.member_id.is_empty() => self.static_members.get(instance)?,
            _ => &request.member_id,
        };
        self.members.get_key_value(id).map(|(id, member)| (id, &**member))
    }

    /// Members that will be in the next generation if nobody else joins.
    fn places_taken(&self) -> usize {
        let absent = self
            .static_members
            .values()
            .filter(|id| self.members.get(*id).is_some_and(|member| !member.joins()));
        self.totals.joining + absent.count()
    }

    /// Whether the group can go on with this member in it: there must be a protocol that everyone knows.
    fn supports(&self, request: &JoinRequest) -> bool {
        if self.state == GroupState::Empty {
            return names_a_protocol(request);
        }
        if mutant("any-protocol") {
            return true;
        }
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && request
                .protocols
                .iter()
                .any(|(name, _)| self.totals.supported.get(name) == self.members.len())
    }

    /// KIP-394: a client without an id is given one and told to come again with it. So a client that never hears the answer
    /// leaves no member behind.
    fn hand_out_id(&mut self, ctx: &mut Context<'_>, id: RequestId, request: &JoinRequest) {
        if self.pending.len() + self.superseded.len() >= ctx.config.max_pending_members {
            let Some((oldest, _)) = self.superseded.pop_first() else {
                let refusal = JoinReply::refusal(ByteString::new(), ErrorCode::GroupMaxSizeReached);
                ctx.answer(id, Reply::Join(refusal));
                return;
            };
            ctx.cancel(&self.id, GroupTimer::Pending(oldest));
        }
        let member_id = ctx.ids.generate(&request.client_id);
        let good_until = ctx.now.monotonic + millis(request.session_timeout_ms);
        let pending = PendingMember {
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            holds_until: good_until,
            good_until,
        };
        self.supersede_pending(ctx, request, &member_id);
        self.pending.insert(member_id.clone(), pending);
        ctx.arm(&self.id, GroupTimer::Pending(member_id.clone()), good_until);
        let kind = EventKind::MemberIdHandedOut {
            member: member_id.clone(),
            state: self.state,
            reason: request.reason.clone(),
        };
        self.event(ctx, kind);
        ctx.answer(id, Reply::Join(JoinReply::refusal(member_id, ErrorCode::MemberIdRequired)));
    }

    /// A client that asks for an id although it was given one has lost the answer, or given up the connection it came over.
    /// The earlier id would hold the rebalance for a whole session timeout. It does so for a short time only: long enough for
    /// another client that happens to have the same name and host, and is on its way back with that id.
    fn supersede_pending(&mut self, ctx: &mut Context<'_>, request: &JoinRequest, by: &ByteString) {
        let grace_ends = ctx.now.monotonic + ctx.config.superseded_member_grace;
        let mut superseded = Vec::new();
        for (id, pending) in &mut self.pending {
            let same_client = pending.client_id == request.client_id
                && pending.client_host == request.client_host;
            if same_client && grace_ends < pending.holds_until && !mutant("abandoned-id-holds") {
                pending.holds_until = grace_ends;
                superseded.push(id.clone());
            }
        }
        for member in superseded {
            ctx.arm(&self.id, GroupTimer::Pending(member.clone()), grace_ends);
            self.event(ctx, EventKind::PendingMemberSuperseded { member, by: by.clone() });
        }
    }

    fn join_as_instance(
        &mut self,
        ctx: &mut Context<'_>,
        id: RequestId,
        request: JoinRequest,
        instance: &ByteString,
    ) {
        let current = self.static_members.get(instance).cloned();
        let Some(current) = current.filter(|_| !mutant("static-not-replaced")) else {
            let member_id = ctx.ids.generate(instance);
            self.add_member(ctx, id, member_id, request);
            return;
        };
        if self.is_late(&current, &request) {
            let kind = EventKind::MemberFenced {
                instance: instance.clone(),
                member: request.member_id.clone(),
                current,
                operation: "join-group",
            };
            self.event(ctx, kind);
            let refusal = JoinReply::refusal(ByteString::new(), ErrorCode::FencedInstanceId);
            ctx.answer(id, Reply::Join(refusal));
            return;
        }
        self.replace_static_member(ctx, id, request, instance, &current);
    }

    /// Whether this is a request that its client has left behind on an older connection: the same client is in the group
    /// already, over a newer one. Were it obeyed, it would fence the live member and hand the place to nobody.
    fn is_late(&self, current: &str, request: &JoinRequest) -> bool {
        self.members.get(current).is_some_and(|member| {
            member.client_id == request.client_id
                && !mutant("late-join-wins")
                && member.client_host == request.client_host
                && matches!((request.connection, member.connection), (Some(this), Some(last)) if this < last)
        })
    }

    /// Whether a static member asks under the id that it had until its last join, because the answer to that join, with the new
    /// id, never reached it: nobody has spoken under the new id yet, and this is the same client, over a connection that is
    /// not older.
    fn is_retry_under_former_id(&self, current: &str, request: &JoinRequest) -> bool {
        self.members.get(current).is_some_and(|member| {
            member.former_id.as_ref() == Some(&request.member_id)
                && !mutant("fences-itself")
                && member.client_id == request.client_id
                && member.client_host == request.client_host
                && matches!((request.connection, member.connection), (Some(this), Some(last)) if this >= last)
        })
    }

    fn join_with_id(&mut self, ctx: &mut Context<'_>, id: RequestId, request: JoinRequest) {
        let member_id = request.member_id.clone();
        let is_pending =
            self.pending.contains_key(&member_id) || self.superseded.contains_key(&member_id);
        // An id that was handed out belongs to a dynamic member: with a name it is not that member's request.
        if is_pending && request.instance_id.is_none() {
            self.add_member(ctx, id, member_id, request);
            return;
        }
        if let Some(instance) = &request.instance_id
            && let Some(current) = self.static_members.get(instance).cloned()
            && self.is_retry_under_former_id(&current, &request)
        {
            let instance = instance.clone();
            self.replace_static_member(ctx, id, request, &instance, &current);
            return;
        }
        let instance = request.instance_id.clone();
        if let Err(error) = self.check_member(ctx, &member_id, instance.as_ref(), "join-group") {
            ctx.answer(id, Reply::Join(JoinReply::refusal(member_id, error)));
            return;
        }
        self.join_known_member(ctx, id, request);
    }

    fn join_known_member(&mut self, ctx: &mut Context<'_>, id: RequestId, request: JoinRequest) {
        let member_id = request.member_id.clone();
        let is_leader = self.is_leader(&member_id);
        let unchanged =
            self.members.get(&member_id).is_some_and(|m| m.protocols == request.protocols);
        let (member, state) = (member_id.clone(), self.state);
        let client_reason = request.reason.clone();
        match self.state {
            GroupState::PreparingRebalance => {
                self.update_member(ctx, id, &request);
                self.maybe_complete_join(ctx);
            }
            // The answer to its join was lost; the generation still waits for its assignment.
            GroupState::CompletingRebalance if unchanged => {
                self.remember_connection(&request);
                ctx.answer(id, Reply::Join(self.joined(&member_id, is_leader)));
            }
            // A follower that has nothing new to say gets on with SyncGroup.
            GroupState::Stable if unchanged && !is_leader => {
                self.remember_connection(&request);
                ctx.answer(id, Reply::Join(self.joined(&member_id, false)));
            }
            // This is how a leader asks for a new assignment, when partitions were added, say.
            GroupState::Stable if is_leader => {
                self.update_member(ctx, id, &request);
                let reason = RebalanceReason::LeaderRejoined { member, state, client_reason };
                self.prepare_rebalance(ctx, reason);
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.update_member(ctx, id, &request);
                let reason = RebalanceReason::MetadataUpdated { member, state, client_reason };
                self.prepare_rebalance(ctx, reason);
            }
            GroupState::Empty | GroupState::Dead => {
                let refusal = JoinReply::refusal(member_id, ErrorCode::UnknownMemberId);
                ctx.answer(id, Reply::Join(refusal));
            }
        }
    }

    fn remember_connection(&mut self, request: &JoinRequest) {
        if let Some(member) = self.members.get_mut(&request.member_id) {
            member.connection = request.connection;
        }
    }

    /// Takes over what a known member says about itself, and parks its JoinGroup.
    fn update_member(&mut self, ctx: &mut Context<'_>, id: RequestId, request: &JoinRequest) {
        let Some((member_id, mut member)) = self.members.remove_entry(&request.member_id) else {
            return;
        };
        self.totals.remove(&member_id, &member);
        let now = Member::of(request);
        member.protocols = now.protocols;
        member.session_timeout_ms = now.session_timeout_ms;
        member.rebalance_timeout_ms = now.rebalance_timeout_ms;
        member.connection = now.connection;
        self.totals.add(&member_id, &member);
        self.members.insert(member_id.clone(), member);
        self.park_join(ctx, &member_id, id);
    }

    fn add_member(
        &mut self,
        ctx: &mut Context<'_>,
        id: RequestId,
        member_id: ByteString,
        request: JoinRequest,
    ) {
        self.pending.remove(&member_id);
        self.superseded.remove(&member_id);
        ctx.cancel(&self.id, GroupTimer::Pending(member_id.clone()));

        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        let kind = EventKind::MemberJoined {
            member: member_id.clone(),
            instance: request.instance_id.clone(),
            state: self.state,
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            reason: request.reason.clone(),
        };
        self.event(ctx, kind);
        // A static member is found again by its name, a dynamic one by the id that it was handed out.
        let knows_its_id = request.instance_id.is_some() || !request.member_id.is_empty();
        let member = Member { is_new: true, knows_its_id, ..Member::of(&request) };
        self.insert_member(member_id.clone(), member);
        self.leader.get_or_insert_with(|| member_id.clone());
        self.park_join(ctx, &member_id, id);
        // It cannot heartbeat before it is answered, and a client that has gone away cannot be told from one that waits; so it
        // has long, but not for ever.
        let deadline = ctx.now.monotonic + ctx.config.new_member_join_timeout;
        ctx.arm(&self.id, GroupTimer::Session(member_id.clone()), deadline);

        self.note_new_member();
        let reason = RebalanceReason::MemberAdded {
            member: member_id,
            instance: request.instance_id,
            client_reason: request.reason,
        };
        self.rebalance_or_complete(ctx, reason);
    }

    /// KIP-345: a static member comes back. Its place, assignment and lead go over to a new id, and whoever uses the former id
    /// is fenced. If that changes nothing for the others, nothing is disturbed.
    fn replace_static_member(
        &mut self,
        ctx: &mut Context<'_>,
        id: RequestId,
        request: JoinRequest,
        instance: &ByteString,
        former_id: &ByteString,
    ) {
        let member_id = ctx.ids.generate(instance);
        let kind = EventKind::StaticMemberReplaced {
            instance: instance.clone(),
            former: former_id.clone(),
            member: member_id.clone(),
            state: self.state,
        };
        self.event(ctx, kind);

        let former_leader = self.leader.clone();
        let owed_sync = self.owe_sync.contains(former_id);
        // The former id's requests are answered here, with their own code, and not as those of a member that is removed.
        if let Some(parked) = self.take_join(former_id) {
            let refusal = JoinReply::refusal(former_id.clone(), ErrorCode::FencedInstanceId);
            ctx.answer(parked, Reply::Join(refusal));
        }
        if owed_sync {
            // Before the former one is taken out, so that the timer of those who owe goes on.
            self.owe_sync.insert(member_id.clone());
        }
        let Some(former) = self.remove_member(ctx, former_id, ErrorCode::FencedInstanceId) else {
            return;
        };
        let member = Member {
            assignment: former.assignment,
            // Nobody has spoken under an id that has a former one: who lost that answer too still asks under the first.
            former_id: former.former_id.or_else(|| Some(former_id.clone())),
            ..Member::of(&request)
        };
        self.insert_member(member_id.clone(), member);
        if former_leader.as_ref() == Some(former_id) || self.leader.is_none() {
            self.leader = Some(member_id.clone());
        }
        self.touch(ctx, &member_id);
        self.park_join(ctx, &member_id, id);

        let client_reason = request.reason;
        match self.state {
            GroupState::Stable if self.choose_protocol() == self.protocol => {
                if !mutant("static-return-not-stored") {
                    self.store(ctx);
                }
                self.take_join(&member_id);
                let leads = self.is_leader(&member_id);
                let mut reply = self.joined(&member_id, leads && request.supports_skip_assignment);
                if request.supports_skip_assignment {
                    reply.skip_assignment = leads;
                } else {
                    // It cannot be told to leave the assignment alone; but if it takes itself for a follower, it does.
                    reply.leader = former_leader.unwrap_or_default();
                }
                ctx.answer(id, Reply::Join(reply));
            }
            GroupState::Stable => {
                let instance = instance.clone();
                let reason = RebalanceReason::ProtocolWouldChange {
                    member: member_id,
                    instance,
                    client_reason,
                };
                self.prepare_rebalance(ctx, reason);
            }
            GroupState::CompletingRebalance if mutant("static-return-gets-nothing") => {
                self.take_join(&member_id);
                let reply = self.joined(&member_id, false);
                ctx.answer(id, Reply::Join(reply));
            }
            // The leader is assigning to the former id; what it hands in would leave the new one with nothing.
            GroupState::CompletingRebalance => {
                let instance = instance.clone();
                let reason = RebalanceReason::StaticMemberReplaced {
                    member: member_id,
                    instance,
                    client_reason,
                };
                self.prepare_rebalance(ctx, reason);
            }
            GroupState::PreparingRebalance => self.maybe_complete_join(ctx),
            GroupState::Empty | GroupState::Dead => {
                unreachable!("group {} has members in state {}", self.id, self.state)
            }
        }
    }
}

/// What a generated id adds to what is known of it before: a hyphen, a UUID, and a client id or instance id, which is counted.
const LONGEST_ID_SUFFIX: usize = 1 + crate::group::member_ids::UUID_LEN;
