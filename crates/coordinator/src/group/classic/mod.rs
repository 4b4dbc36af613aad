//! The classic group protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
//!
//! A [`ClassicGroup`] is what the shard knows of a group while it serves it: members with their parked requests, the running
//! rebalance, who owes what. It is soft state. What survives is the group's record, written when the leader's assignment
//! arrives, when the group becomes empty, when it is created, and when a static member takes over from its former id: in
//! `Stable` and `Empty` the record says everything that this struct says, and a new shard makes the struct from it.
//!
//! One file for each thing that can happen: [`join`], [`rebalance`] (begin, complete, time out), [`sync`], [`session`]
//! (heartbeats, leaving, expiry); [`view`] describes the group to others.
//!
//! # References
//! KIP-62 (background heartbeat), KIP-134 (initial delay), KIP-345 and KIP-814 (static members), KIP-389 (size), KIP-394
//! (member ids), KIP-559 (protocol in SyncGroup), KIP-800 (reasons).

#[cfg(any(test, feature = "testing"))]
pub(crate) mod checks;
mod counts;
mod join;
mod member;
mod rebalance;
mod session;
mod sync;
mod view;

pub(crate) use self::join::names_a_protocol;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kavka_mutants::mutant;
use kavka_protocol::{ByteString, ErrorCode};

use self::{
    counts::Counts,
    member::{Member, PendingMember, millis},
    rebalance::Rebalance,
};
use super::{
    EventKind, GroupMember, GroupState, GroupValue, JoinReply, JoinedMember, Record, Reply,
    RequestId, SyncReply, context::Context, timers::GroupTimer,
};
use crate::Now;

/// A group that is being served. See the module.
#[derive(Clone, Debug, Hash)]
pub(crate) struct ClassicGroup {
    id: ByteString,
    state: GroupState,
    /// When the group came into this state; -1 if a record from before that was stored does not tell.
    state_timestamp_ms: i64,
    generation: i32,
    /// Set by the first member, kept when the group is empty.
    protocol_type: Option<ByteString>,
    /// The chosen protocol, once a generation is made.
    protocol: Option<ByteString>,
    leader: Option<ByteString>,
    /// Boxed: a node of the map has room for eleven, and most groups are small.
    members: BTreeMap<ByteString, Box<Member>>,
    /// Instance id -> member id.
    static_members: BTreeMap<ByteString, ByteString>,
    /// Ids that were handed out and hold the rebalance.
    pending: BTreeMap<ByteString, PendingMember>,
    /// Ids that were handed out and are still good, but hold nothing: their client asked for another one.
    superseded: BTreeMap<ByteString, PendingMember>,
    /// Members of this generation that have not sent SyncGroup.
    owe_sync: BTreeSet<ByteString>,
    /// From the first cause on until the assignment is there or the group is empty.
    rebalance: Option<Rebalance>,
    /// What the members of this generation subscribed to, in order, when it was made; `None` if that cannot be told. What a member says while
    /// the next one is made counts from then on: until then it goes on with what it was assigned.
    subscribed: Option<Box<[ByteString]>>,
    totals: Totals,
}

/// Sums over the members, so that a join of one member does not look at all of them.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
struct Totals {
    /// Members with a parked JoinGroup.
    joining: usize,
    /// Protocol -> members that know it.
    supported: Counts<ByteString>,
    /// Rebalance timeout -> members that have it.
    rebalance_timeouts: Counts<i32>,
    /// Bytes that the members add to the group's record, without assignments.
    weight: usize,
    /// Bytes of all their protocols.
    metadata_bytes: usize,
}

impl ClassicGroup {
    /// A group nobody has joined yet.
    pub(crate) fn new(id: ByteString, now: Now) -> Self {
        Self::with(id, GroupState::Empty, now.wall_ms)
    }

    fn with(id: ByteString, state: GroupState, state_timestamp_ms: i64) -> Self {
        Self {
            id,
            state,
            state_timestamp_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            superseded: BTreeMap::new(),
            owe_sync: BTreeSet::new(),
            rebalance: None,
            subscribed: None,
            totals: Totals::default(),
        }
    }

    /// The group of a record. It waits for nobody: members are taken to be where they were, and have a full session timeout
    /// from now on to prove it.
    pub(crate) fn load(ctx: &mut Context<'_>, id: ByteString, value: &GroupValue) -> Self {
        let state = if value.members.is_empty() { GroupState::Empty } else { GroupState::Stable };
        let mut group = Self::with(id, state, value.state_timestamp_ms);
        group.generation = if mutant("generation-not-loaded") { 0 } else { value.generation };
        group.protocol_type =
            Some(value.protocol_type.clone()).filter(|protocol_type| !protocol_type.is_empty());
        group.protocol = value.protocol.clone();
        for stored in &value.members {
            // A log can say that two members have one name. The later one has it.
            if let Some(instance) = &stored.instance_id
                && let Some(other) = group.static_members.get(instance).cloned()
            {
                group.remove_member(ctx, &other, ErrorCode::UnknownMemberId);
            }
            if group.members.contains_key(&stored.member_id) {
                group.remove_member(ctx, &stored.member_id, ErrorCode::UnknownMemberId);
            }
            let member = Member {
                instance_id: stored.instance_id.clone(),
                client_id: stored.client_id.clone(),
                client_host: stored.client_host.clone(),
                connection: None,
                session_timeout_ms: stored.session_timeout_ms,
                rebalance_timeout_ms: member::rebalance_timeout(
                    stored.rebalance_timeout_ms,
                    stored.session_timeout_ms,
                ),
                protocols: vec![(
                    value.protocol.clone().unwrap_or_default(),
                    stored.subscription.clone(),
                )],
                assignment: stored.assignment.clone(),
                is_new: false,
                knows_its_id: true,
                join: None,
                sync: None,
                former_id: None,
            };
            group.insert_member(stored.member_id.clone(), member);
            group.touch(ctx, &stored.member_id);
        }
        group.leader = value
            .leader
            .clone()
            .filter(|leader| group.members.contains_key(leader))
            .or_else(|| group.members.keys().next().cloned());
        group.subscribed = group.current_subscriptions();
        group
    }

    /// The group as it is stored.
    pub(crate) fn to_value(&self) -> GroupValue {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp_ms: self.state_timestamp_ms,
            members: self
                .members
                .iter()
                .map(|(id, member)| GroupMember {
                    member_id: id.clone(),
                    instance_id: member.instance_id.clone(),
                    client_id: member.client_id.clone(),
                    client_host: member.client_host.clone(),
                    rebalance_timeout_ms: member.rebalance_timeout_ms,
                    session_timeout_ms: member.session_timeout_ms,
                    subscription: member.metadata(protocol),
                    assignment: member.assignment.clone(),
                })
                .collect(),
        }
    }

    pub(crate) fn state(&self) -> GroupState {
        self.state
    }

    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    /// Nobody is in, nobody is about to come: the group may go.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == GroupState::Empty && self.pending.is_empty() && self.superseded.is_empty()
    }

    fn store(&self, ctx: &mut Context<'_>) {
        ctx.record(Record::Group { group: self.id.clone(), value: Some(self.to_value()) });
    }

    fn event(&self, ctx: &mut Context<'_>, kind: EventKind) {
        ctx.output.event(&self.id, self.generation, kind);
    }

    fn transition(&mut self, ctx: &Context<'_>, state: GroupState) {
        self.state = state;
        self.state_timestamp_ms = ctx.now.wall_ms;
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// How long a rebalance waits: for the most patient member.
    fn rebalance_timeout(&self) -> Duration {
        self.totals.rebalance_timeouts.largest().map_or(Duration::ZERO, |ms| millis(*ms))
    }

    /// The member has been heard from: its session begins anew.
    fn touch(&mut self, ctx: &mut Context<'_>, member_id: &ByteString) {
        if let Some(member) = self.members.get(member_id) {
            let deadline = ctx.now.monotonic + member.session_timeout();
            ctx.arm(&self.id, GroupTimer::Session(member_id.clone()), deadline);
        }
    }

    /// Whether a request is from a member of this group.
    ///
    /// # Errors
    /// `UnknownMemberId`, or `FencedInstanceId` if the name belongs to another member by now.
    fn check_member(
        &mut self,
        ctx: &mut Context<'_>,
        member_id: &ByteString,
        instance_id: Option<&ByteString>,
        operation: &'static str,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = instance_id {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if current != member_id && !mutant("nobody-is-fenced") => {
                    let kind = EventKind::MemberFenced {
                        instance: instance.clone(),
                        member: member_id.clone(),
                        current: current.clone(),
                        operation,
                    };
                    self.event(ctx, kind);
                    return Err(ErrorCode::FencedInstanceId);
                }
                Some(_) => {}
            }
        }
        let member = self.members.get_mut(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        // It speaks under its present id, so the answer that brought it has arrived.
        member.former_id = None;
        Ok(())
    }

    fn insert_member(&mut self, id: ByteString, member: Member) {
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), id.clone());
        }
        self.totals.add(&id, &member);
        let former = self.members.insert(id, Box::new(member));
        assert!(former.is_none(), "a member id is given to one member only");
    }

    /// Takes a member out of the group: its timer, its parked requests (which are answered with `error`), what it owes, its
    /// name, its lead.
    fn remove_member(
        &mut self,
        ctx: &mut Context<'_>,
        id: &ByteString,
        error: ErrorCode,
    ) -> Option<Box<Member>> {
        let mut member = self.members.remove(id)?;
        self.totals.remove(id, &member);
        if let Some(request) = member.join.take() {
            ctx.answer(request, Reply::Join(JoinReply::refusal(ByteString::new(), error)));
        }
        if let Some(request) = member.sync.take() {
            ctx.answer(request, Reply::Sync(SyncReply::refusal(error)));
        }
        if !mutant("timer-of-the-dead") {
            ctx.cancel(&self.id, GroupTimer::Session(id.clone()));
        }
        self.paid_sync(ctx, id);
        if let Some(instance) = &member.instance_id
            && self.static_members.get(instance) == Some(id)
        {
            self.static_members.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// The member does not owe a SyncGroup any more.
    fn paid_sync(&mut self, ctx: &mut Context<'_>, member_id: &str) {
        if self.owe_sync.remove(member_id) && self.owe_sync.is_empty() {
            ctx.cancel(&self.id, GroupTimer::Sync);
        }
    }

    /// Parks a JoinGroup. A former one of the same member is a request that its client has given up; it is told to rejoin.
    fn park_join(&mut self, ctx: &mut Context<'_>, member_id: &ByteString, request: RequestId) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        match member.join.replace(request) {
            None => self.totals.joining += 1,
            Some(former) => {
                let refusal = JoinReply::refusal(member_id.clone(), ErrorCode::RebalanceInProgress);
                ctx.answer(former, Reply::Join(refusal));
            }
        }
    }

    fn take_join(&mut self, member_id: &str) -> Option<RequestId> {
        let request = self.members.get_mut(member_id)?.join.take()?;
        self.totals.joining -= 1;
        Some(request)
    }

    /// Everyone, as the leader sees them.
    fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        self.members
            .iter()
            .map(|(id, member)| JoinedMember {
                member_id: id.clone(),
                instance_id: member.instance_id.clone(),
                metadata: member.metadata(protocol),
            })
            .collect()
    }

    /// The answer to a JoinGroup that is in the present generation.
    fn joined(&self, member_id: &ByteString, with_members: bool) -> JoinReply {
        JoinReply {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.clone(),
            members: if with_members { self.joined_members() } else { Vec::new() },
        }
    }

    /// Answers whoever is parked; the shard does not serve any more.
    pub(crate) fn abandon(&mut self, ctx: &mut Context<'_>, error: ErrorCode) {
        for (id, member) in &mut self.members {
            if let Some(request) = member.join.take() {
                ctx.answer(request, Reply::Join(JoinReply::refusal(id.clone(), error)));
            }
            if let Some(request) = member.sync.take()
                && !mutant("unload-forgets-syncs")
            {
                ctx.answer(request, Reply::Sync(SyncReply::refusal(error)));
            }
        }
        self.totals.joining = 0;
    }

    /// The group is read from the log.
    pub(crate) fn after_load(&mut self, ctx: &mut Context<'_>) {
        if !self.members.is_empty() {
            let kind = EventKind::GroupLoaded { state: self.state, members: self.members.len() };
            self.event(ctx, kind);
            self.shrink_if_oversized(ctx);
        }
    }

    /// Ids that were handed out are good no longer: the group is deleted.
    pub(crate) fn forget_all_pending(&mut self, ctx: &mut Context<'_>) {
        let ids = self.pending.keys().chain(self.superseded.keys());
        for id in ids {
            ctx.cancel(&self.id, GroupTimer::Pending(id.clone()));
        }
        self.pending.clear();
        self.superseded.clear();
    }

    /// A timer of this group has come.
    pub(crate) fn on_timer(&mut self, ctx: &mut Context<'_>, timer: &GroupTimer) {
        match timer {
            GroupTimer::Join => self.on_join_timer(ctx),
            GroupTimer::Sync => self.on_sync_timer(ctx),
            GroupTimer::Session(member_id) => self.on_session_timer(ctx, member_id),
            GroupTimer::Pending(member_id) => self.on_pending_timer(ctx, member_id),
        }
    }
}

impl Totals {
    fn add(&mut self, id: &str, member: &Member) {
        self.joining += usize::from(member.joins());
        for (protocol, _) in &member.protocols {
            self.supported.add(protocol);
        }
        self.rebalance_timeouts.add(&member.rebalance_timeout_ms);
        self.weight += member.weight(id);
        self.metadata_bytes += member.metadata_bytes();
    }

    fn remove(&mut self, id: &str, member: &Member) {
        self.joining -= usize::from(member.joins());
        for (protocol, _) in &member.protocols {
            self.supported.remove(protocol);
        }
        self.rebalance_timeouts.remove(&member.rebalance_timeout_ms);
        self.weight -= member.weight(id);
        self.metadata_bytes -= member.metadata_bytes();
    }
}
