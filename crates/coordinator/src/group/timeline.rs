//! What happened to groups, as typed events, in the words of Kafka's own log.
//!
//! The shard tells; it keeps no history and does not log. Events of a step whose append fails did not happen: the shell drops
//! them with the machine.

use std::{
    fmt::{self, Display},
    time::Duration,
};

use kavka_protocol::{ByteString, ErrorCode};

use super::{GroupState, Skipped};

/// Something that happened to a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The group.
    pub group: ByteString,
    /// Its generation when it happened.
    pub generation: i32,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// The first JoinGroup, or a commit without a member, made the group.
    GroupCreated,
    /// A client without an id was given one and told to come again (KIP-394).
    MemberIdHandedOut {
        /// The id.
        member: ByteString,
        /// The state of the group.
        state: GroupState,
        /// Why it joins.
        reason: Option<ByteString>,
    },
    /// The same client asked for another id: the earlier one holds the rebalance only for a short time more.
    PendingMemberSuperseded {
        /// The earlier id.
        member: ByteString,
        /// The later one.
        by: ByteString,
    },
    /// An id that was handed out was not used in time.
    PendingMemberExpired {
        /// The id.
        member: ByteString,
    },
    /// A member is in.
    MemberJoined {
        /// Its id.
        member: ByteString,
        /// Its name, if it is static.
        instance: Option<ByteString>,
        /// The state of the group.
        state: GroupState,
        /// `client.id`.
        client_id: ByteString,
        /// The peer's address.
        client_host: ByteString,
        /// Why it joins.
        reason: Option<ByteString>,
    },
    /// A static member came back and took the place of its former id.
    StaticMemberReplaced {
        /// Its name.
        instance: ByteString,
        /// The former id.
        former: ByteString,
        /// The new one.
        member: ByteString,
        /// The state of the group.
        state: GroupState,
    },
    /// A request of a member whose name belongs to another one by now.
    MemberFenced {
        /// The name.
        instance: ByteString,
        /// The id in the request.
        member: ByteString,
        /// The id that the name belongs to.
        current: ByteString,
        /// Which request.
        operation: &'static str,
    },
    /// A member left.
    MemberLeft {
        /// Its id.
        member: ByteString,
        /// Its name, if it is static.
        instance: Option<ByteString>,
        /// Why.
        reason: Option<ByteString>,
        /// It had an id but was not in yet.
        pending: bool,
    },
    /// A member was silent for its session timeout, or did not finish its first join.
    MemberExpired {
        /// Its id.
        member: ByteString,
        /// Its name, if it is static.
        instance: Option<ByteString>,
        /// How long it may be silent.
        timeout: Duration,
    },
    /// The client of a member went away before it could learn the member's id (JoinGroup versions 0 to 3).
    MemberAbandoned {
        /// The id.
        member: ByteString,
    },
    /// Members that did not join the rebalance in time are out.
    MembersDidNotJoin {
        /// Their ids.
        members: Vec<ByteString>,
    },
    /// Members that never asked for their assignment are out.
    MembersDidNotSync {
        /// Their ids.
        members: Vec<ByteString>,
    },
    /// A member came while the group was full.
    MemberRefused {
        /// Its id; empty if it has none yet.
        member: ByteString,
        /// The members that count.
        size: usize,
        /// `group.max.size`.
        max_size: usize,
    },
    /// A rebalance begins.
    RebalanceStarted {
        /// Why, and who caused it.
        reason: RebalanceReason,
    },
    /// A group that was empty waits longer because members keep coming (KIP-134).
    InitialDelayExtended {
        /// The members so far.
        members: usize,
        /// How much longer.
        by: Duration,
    },
    /// The rebalance is over time and nobody joined: static members are waited for.
    NobodyRejoined {
        /// The members that are waited for.
        members: usize,
    },
    /// The leader did not join in time.
    LeaderReplaced {
        /// The former leader.
        former: Option<ByteString>,
        /// The new one.
        leader: ByteString,
    },
    /// Everyone joined: the generation is made, the leader's assignment is awaited.
    JoinCompleted {
        /// The members.
        members: usize,
        /// Since the rebalance began.
        took: Duration,
    },
    /// The leader sent the assignment: the rebalance is complete.
    AssignmentReceived {
        /// The leader.
        leader: ByteString,
        /// The members.
        members: usize,
        /// How many of them are static.
        static_members: usize,
        /// Members that the leader gave nothing.
        without_assignment: usize,
        /// Since the rebalance began.
        took: Duration,
    },
    /// The assignment does not fit into a record.
    AssignmentTooLarge {
        /// The leader.
        leader: ByteString,
        /// Bytes of the group's record.
        size: usize,
        /// Bytes that fit.
        max_size: usize,
    },
    /// The last member is gone.
    GroupEmptied,
    /// An OffsetCommit was refused.
    CommitFailed {
        /// The member; empty for operators and consumers that assign themselves.
        member: ByteString,
        /// The generation it claims.
        generation: i32,
        /// Why.
        error: ErrorCode,
        /// The partitions that are not committed.
        partitions: usize,
    },
    /// Offsets reached the end of their retention.
    OffsetsExpired {
        /// Topic and partition.
        partitions: Vec<(ByteString, i32)>,
    },
    /// Offsets went because the topic did, or because an operator deleted them.
    OffsetsDeleted {
        /// Topic and partition.
        partitions: Vec<(ByteString, i32)>,
        /// Why.
        cause: DeletionCause,
    },
    /// The group is gone.
    GroupDeleted {
        /// Why.
        cause: DeletionCause,
    },
    /// The group was read from the log.
    GroupLoaded {
        /// Its state.
        state: GroupState,
        /// The members.
        members: usize,
    },
    /// Records of the partition that this version does not apply; the group of the event is empty.
    RecordsSkipped {
        /// What they are.
        what: Skipped,
        /// How many.
        count: u64,
    },
}

/// Why offsets or a group went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionCause {
    /// An operator said so.
    Request,
    /// The group is empty and its last offset has expired.
    Expiry,
    /// The topic was deleted.
    TopicDeleted,
}

/// Why a rebalance begins, and who caused it.
#[derive(Clone, Debug, PartialEq)]
pub enum RebalanceReason {
    /// A new member.
    MemberAdded {
        /// Its id.
        member: ByteString,
        /// Its name, if it is static.
        instance: Option<ByteString>,
        /// Its client's words.
        client_reason: Option<ByteString>,
    },
    /// A member changed its subscription.
    MetadataUpdated {
        /// Its id.
        member: ByteString,
        /// The state of the group.
        state: GroupState,
        /// Its client's words.
        client_reason: Option<ByteString>,
    },
    /// The leader wants to assign anew.
    LeaderRejoined {
        /// Its id.
        member: ByteString,
        /// The state of the group.
        state: GroupState,
        /// Its client's words.
        client_reason: Option<ByteString>,
    },
    /// A static member came back before the assignment did.
    StaticMemberReplaced {
        /// Its new id.
        member: ByteString,
        /// Its name.
        instance: ByteString,
        /// Its client's words.
        client_reason: Option<ByteString>,
    },
    /// A static member came back with other protocols.
    ProtocolWouldChange {
        /// Its new id.
        member: ByteString,
        /// Its name.
        instance: ByteString,
        /// Its client's words.
        client_reason: Option<ByteString>,
    },
    /// Members left.
    MembersLeft {
        /// Their ids.
        members: Vec<ByteString>,
    },
    /// A member was silent for too long.
    MemberExpired {
        /// Its id.
        member: ByteString,
    },
    /// Members never asked for their assignment.
    SyncExpired {
        /// Their ids.
        members: Vec<ByteString>,
    },
    /// The assignment could not be stored.
    AssignmentNotStored {
        /// The leader.
        member: ByteString,
        /// What it was told.
        error: ErrorCode,
    },
    /// The group was read from the log and is larger than `group.max.size`.
    OverCapacity {
        /// The members.
        size: usize,
        /// `group.max.size`.
        max_size: usize,
    },
}

impl Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { group, generation, kind } = self;
        match kind {
            EventKind::GroupCreated => write!(f, "Created group {group}."),
            EventKind::MemberIdHandedOut { member, state, reason } => write!(
                f,
                "Dynamic member with unknown member id joins group {group} in {state} state. Created a new member id \
                 {member}; client reason: {} and requested the member to rejoin with this id.",
                or_not_provided(reason)
            ),
            EventKind::PendingMemberSuperseded { member, by } => write!(
                f,
                "Pending member {member} in group {group} is superseded by {by} of the same client."
            ),
            EventKind::PendingMemberExpired { member } => write!(
                f,
                "Pending member {member} in group {group} has been removed after session timeout expiration."
            ),
            EventKind::MemberJoined { member, instance: Some(instance), state, reason, .. } => {
                write!(
                    f,
                    "Static member with groupInstanceId={instance} and unknown member id joins group {group} in {state} \
                 state. Created a new member id {member} for this member and added to the group; client reason: {}.",
                    or_not_provided(reason)
                )
            }
            EventKind::MemberJoined {
                member,
                instance: None,
                state,
                client_id,
                client_host,
                reason,
            } => {
                write!(
                    f,
                    "Dynamic member with id {member} (client id {client_id}, host {client_host}) joins group {group} in \
                     {state} state. Adding to the group now; client reason: {}.",
                    or_not_provided(reason)
                )
            }
            EventKind::StaticMemberReplaced { instance, former, member, state } => write!(
                f,
                "Static member with groupInstanceId={instance} and unknown member id joins group {group} in {state} \
                 state. Replacing previously mapped member {former} with this groupInstanceId by {member}."
            ),
            EventKind::MemberFenced { instance, member, current, operation } => write!(
                f,
                "Request memberId={member} for static member with groupInstanceId={instance} is fenced by current \
                 memberId={current} during operation {operation} in group {group}."
            ),
            EventKind::MemberLeft { member, reason, pending, .. } => write!(
                f,
                "{} {member} has left group {group} through explicit `LeaveGroup` request; client reason: {}.",
                if *pending { "Pending member" } else { "Member" },
                or_not_provided(reason)
            ),
            EventKind::MemberExpired { member, timeout, .. } => write!(
                f,
                "Member {member} in group {group} has failed, removing it from the group (not heard from for \
                 {timeout:?})."
            ),
            EventKind::MemberAbandoned { member } => write!(
                f,
                "Member {member} in group {group} has failed, removing it from the group (its client closed the \
                 connection before it was told its member id)."
            ),
            EventKind::MembersDidNotJoin { members } => {
                write!(f, "Group {group} removed members who haven't joined: {}.", list(members))
            }
            EventKind::MembersDidNotSync { members } => write!(
                f,
                "Group {group} removed members who haven't sent their sync requests: {}.",
                list(members)
            ),
            EventKind::MemberRefused { member, size, max_size } => write!(
                f,
                "Member {member:?} is refused: group {group} has {size} members, group.max.size is {max_size}."
            ),
            EventKind::RebalanceStarted { reason } => write!(
                f,
                "Preparing to rebalance group {group} in state PreparingRebalance with old generation {generation} \
                 (reason: {reason})."
            ),
            EventKind::InitialDelayExtended { members, by } => write!(
                f,
                "Group {group} waits {by:?} longer for its first rebalance: {members} members so far."
            ),
            EventKind::NobodyRejoined { members } => write!(
                f,
                "Group {group} could not complete rebalance because no members rejoined; still waiting for {members} \
                 static members."
            ),
            EventKind::LeaderReplaced { former, leader } => write!(
                f,
                "Group leader {} of group {group} failed to join before the rebalance timeout. Member {leader} was \
                 elected as the new leader.",
                former.as_deref().unwrap_or("(none)")
            ),
            EventKind::JoinCompleted { members, took } => write!(
                f,
                "Stabilized group {group} generation {generation} with {members} members in {took:?}."
            ),
            EventKind::AssignmentReceived {
                leader,
                members,
                static_members,
                without_assignment,
                took,
            } => {
                write!(
                    f,
                    "Assignment received from leader {leader} for group {group} for generation {generation}. The group \
                     has {members} members, {static_members} of which are static"
                )?;
                if *without_assignment > 0 {
                    write!(f, ", {without_assignment} without an assignment")?;
                }
                write!(f, ". The rebalance took {took:?}.")
            }
            EventKind::AssignmentTooLarge { leader, size, max_size } => write!(
                f,
                "The assignment of leader {leader} for group {group} makes a record of {size} bytes; {max_size} fit. \
                 Use fewer members, or raise the batch limit of the offsets topic."
            ),
            EventKind::GroupEmptied => {
                write!(f, "Group {group} with generation {generation} is now empty.")
            }
            EventKind::CommitFailed { member, generation: claimed, error, partitions } => write!(
                f,
                "Offset commit of {partitions} partitions by member {member:?} of generation {claimed} was refused in \
                 group {group} in generation {generation}: {}.",
                error.name()
            ),
            EventKind::OffsetsExpired { partitions } => {
                write!(f, "Expiring offsets of group {group}: {}.", Partitions(partitions))
            }
            EventKind::OffsetsDeleted { partitions, cause } => {
                write!(
                    f,
                    "Deleting offsets of group {group} ({cause}): {}.",
                    Partitions(partitions)
                )
            }
            EventKind::GroupDeleted { cause } => write!(
                f,
                "Group {group} transitioned to Dead in generation {generation} ({cause})."
            ),
            EventKind::GroupLoaded { state, members } => write!(
                f,
                "Loaded group {group} in state {state} with generation {generation} and {members} members."
            ),
            EventKind::RecordsSkipped { what, count } => {
                write!(f, "Skipped {count} records while loading: {what}.")
            }
        }
    }
}

impl Display for RebalanceReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RebalanceReason::MemberAdded { member, instance, client_reason } => write!(
                f,
                "Adding new member {member} with group instance id {}; client reason: {}",
                instance.as_deref().unwrap_or("null"),
                or_not_provided(client_reason)
            ),
            RebalanceReason::MetadataUpdated { member, state, client_reason } => write!(
                f,
                "Updating metadata for member {member} during {state}; client reason: {}",
                or_not_provided(client_reason)
            ),
            RebalanceReason::LeaderRejoined { member, state, client_reason } => write!(
                f,
                "Leader {member} re-joining group during {state}; client reason: {}",
                or_not_provided(client_reason)
            ),
            RebalanceReason::StaticMemberReplaced { member, instance, client_reason } => write!(
                f,
                "Updating metadata for static member {member} with instance id {instance}; client reason: {}",
                or_not_provided(client_reason)
            ),
            RebalanceReason::ProtocolWouldChange { member, instance, client_reason } => write!(
                f,
                "Group's selectedProtocol will change because static member {member} with instance id {instance} \
                 joined with change of protocol; client reason: {}",
                or_not_provided(client_reason)
            ),
            RebalanceReason::MembersLeft { members } => {
                write!(f, "explicit `LeaveGroup` request for ({}) members.", members.join(", "))
            }
            RebalanceReason::MemberExpired { member } => {
                write!(f, "removing member {member} on heartbeat expiration.")
            }
            RebalanceReason::SyncExpired { members } => {
                write!(f, "Removing {} on pending sync request expiration", list(members))
            }
            RebalanceReason::AssignmentNotStored { member, error } => write!(
                f,
                "Error {} when storing group assignment during SyncGroup (member: {member}).",
                error.name()
            ),
            RebalanceReason::OverCapacity { size, max_size } => write!(
                f,
                "Freshly-loaded group with {size} members is over capacity {max_size}. Rebalancing in order to give a \
                 chance for consumers to commit offsets"
            ),
        }
    }
}

impl Display for DeletionCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeletionCause::Request => "on request",
            DeletionCause::Expiry => "retention",
            DeletionCause::TopicDeleted => "topic deleted",
        })
    }
}

fn or_not_provided(reason: &Option<ByteString>) -> &str {
    reason.as_deref().unwrap_or("not provided")
}

fn list(members: &[ByteString]) -> String {
    format!("[{}]", members.join(", "))
}

struct Partitions<'a>(&'a [(ByteString, i32)]);

impl Display for Partitions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (topic, partition)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{topic}-{partition}")?;
        }
        Ok(())
    }
}
