//! What comes out of a member: requests, events for the application, traces for people.

use std::{collections::BTreeMap, fmt};

use kavka_protocol::{ByteString, ErrorCode};

use crate::{
    Coordinator, Failure, MemberError, Monotonic, Outgoing, Position, State, Subscription,
    TopicPartition,
};

/// What a step of a member leads to. First close the connections, then send the requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// The connections to these coordinators are to be closed. Every request on them is given up already.
    pub disconnect: Vec<Coordinator>,
    /// To be sent, in this order; those to one broker over one connection.
    pub requests: Vec<Outgoing>,
    /// For the application, in this order.
    pub events: Vec<Event>,
    /// For people who look for what happened.
    pub traces: Vec<Trace>,
}

/// Names a call of commit; chosen by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitId(pub u64);

/// Names a revocation that waits for the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DrainId(pub u64);

/// What the application, or the shell on its behalf, has to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The member leads: compute the assignment and hand it in as [`Input::Assigned`](crate::Input::Assigned).
    Assign(AssignTask),
    /// A rebalance is over.
    Assigned {
        /// The generation.
        generation: i32,
        /// Partitions that were not owned before; may be empty.
        added: Vec<TopicPartition>,
        /// Everything that is owned now.
        owned: Vec<TopicPartition>,
        /// What the assignor wants this member to know.
        user_data: Option<bytes::Bytes>,
    },
    /// These partitions are about to be taken away: finish, commit, then say [`Input::Drained`](crate::Input::Drained).
    Revoking {
        /// To be handed back.
        drain: DrainId,
        /// Nothing more is to be fetched of them; commits are taken.
        partitions: Vec<TopicPartition>,
        /// The member goes on then in any case.
        deadline: Monotonic,
        /// Why.
        cause: Cause,
    },
    /// These partitions are not owned any more. No commit for them is sent from here on.
    Revoked {
        /// Which.
        partitions: Vec<TopicPartition>,
    },
    /// These partitions were taken away without notice; others may own them already.
    Lost {
        /// Which.
        partitions: Vec<TopicPartition>,
        /// Why.
        cause: Cause,
    },
    /// A commit of the application is over.
    CommitCompleted {
        /// Which.
        commit: CommitId,
        /// What was committed.
        committed: BTreeMap<TopicPartition, i64>,
        /// What was not, and why. Empty: all is well.
        failed: BTreeMap<TopicPartition, MemberError>,
    },
    /// A position was found: committed, reset, or cut after the log was truncated.
    PositionFound {
        /// The partition.
        partition: TopicPartition,
        /// Where it goes on.
        position: Position,
    },
    /// Newer metadata of these topics is wanted.
    MetadataWanted {
        /// Their names.
        topics: Vec<ByteString>,
    },
    /// Something went wrong. If it is fatal the member does nothing more but close.
    Error(MemberError),
    /// The member is closed. Nothing comes after this.
    Closed {
        /// Why not everything could be done, if so.
        error: Option<MemberError>,
    },
}

/// What a leader has to assign.
#[derive(Clone, Debug, PartialEq)]
pub struct AssignTask {
    /// To be handed back.
    pub generation: i32,
    /// The assignor that was chosen.
    pub assignor: ByteString,
    /// Everyone.
    pub members: Vec<GroupMember>,
}

/// A member, to an assignor.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupMember {
    /// Its id.
    pub member_id: ByteString,
    /// Its name, if it is static.
    pub instance_id: Option<ByteString>,
    /// What it wants. Without topics if it could not be read.
    pub subscription: Subscription,
    /// The same as it came.
    pub metadata: bytes::Bytes,
}

/// Why partitions come and go, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The group rebalances: someone else came, left or changed.
    GroupRebalances,
    /// The new assignment gives them to somebody else.
    AssignedElsewhere,
    /// The application subscribed to something else.
    SubscriptionChanged,
    /// The application asked for a rebalance.
    Enforced,
    /// The leader saw the partitions of the topics change.
    TopicsChanged,
    /// The application unsubscribed.
    Unsubscribed,
    /// The member closes.
    Closing,
    /// The application has not polled for `max.poll.interval.ms`.
    PollOverdue,
    /// The coordinator does not know the member, or not in this generation: it was silent for too long.
    Removed(ErrorCode),
    /// The group made generations without this member.
    MissedGeneration,
    /// The leader saw that a partition is with nobody, for its former owner did not join again.
    Unsettled,
    /// The member gave up.
    Failed,
    /// A first join, or one after partitions were lost.
    Joining,
}

/// What happened inside, for logs.
#[derive(Clone, Debug, PartialEq)]
pub enum Trace {
    /// The state changed.
    StateChanged {
        /// From.
        from: State,
        /// To.
        to: State,
        /// In this generation; -1 for none.
        generation: i32,
    },
    /// The coordinator is known.
    CoordinatorFound(Coordinator),
    /// The coordinator is not known any more.
    CoordinatorUnknown {
        /// Which it was.
        former: Coordinator,
        /// Why.
        why: Trouble,
    },
    /// The member wants to join again.
    RejoinWanted {
        /// Why.
        reason: ByteString,
    },
    /// An answer that nobody waits for any more.
    StaleAnswer,
    /// A request failed and will be tried again.
    WillRetry {
        /// What.
        what: &'static str,
        /// Why.
        why: Trouble,
    },
    /// A request was refused for good; the member goes on without an answer.
    GaveUp {
        /// What.
        what: &'static str,
        /// Why.
        code: ErrorCode,
    },
    /// What was consumed of a partition could not be committed automatically, this time. What comes after it may be.
    AutoCommitFailed {
        /// Which.
        partition: TopicPartition,
        /// Why.
        error: MemberError,
    },
    /// A member's subscription could not be read; it gets nothing.
    UnreadableSubscription {
        /// Whose.
        member: ByteString,
    },
    /// The assignor moved a partition from one live member straight to another; it is held back until the first has let go.
    MoveHeldBack {
        /// Which.
        partition: TopicPartition,
        /// Who gets it later.
        to: ByteString,
    },
}

/// Why a request did not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The broker says so.
    Code(ErrorCode),
    /// There was no answer.
    Failure(Failure),
    /// No heartbeat was answered for a session timeout.
    Silence,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::GroupRebalances => f.write_str("the group rebalances"),
            Cause::AssignedElsewhere => f.write_str("the new assignment moves them"),
            Cause::SubscriptionChanged => f.write_str("the subscription changed"),
            Cause::Enforced => f.write_str("the application asked for a rebalance"),
            Cause::TopicsChanged => f.write_str("the partitions of the topics changed"),
            Cause::Unsubscribed => f.write_str("the application unsubscribed"),
            Cause::Closing => f.write_str("the consumer is being closed"),
            Cause::PollOverdue => f.write_str(
                "the application did not poll within max.poll.interval.ms; poll more often, take fewer records at once, or raise it",
            ),
            Cause::Removed(code) => write!(f, "the coordinator has removed this member ({})", code.name()),
            Cause::MissedGeneration => f.write_str("the group rebalanced without this member"),
            Cause::Unsettled => f.write_str("a partition was left with nobody"),
            Cause::Failed => f.write_str("the consumer has failed"),
            Cause::Joining => f.write_str("the consumer joins"),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Code(code) => f.write_str(code.name()),
            Trouble::Failure(Failure::Disconnected) => f.write_str("disconnected"),
            Trouble::Failure(Failure::TimedOut) => f.write_str("timed out"),
            Trouble::Failure(Failure::Malformed) => f.write_str("unreadable answer"),
            Trouble::Silence => f.write_str("no heartbeat answered within session.timeout.ms"),
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trace::StateChanged { from, to, generation } => {
                write!(f, "{from} -> {to}, generation {generation}")
            }
            Trace::CoordinatorFound(found) => {
                write!(f, "coordinator is broker {} at {}:{}", found.node, found.host, found.port)
            }
            Trace::CoordinatorUnknown { former, why } => {
                write!(f, "broker {} is not taken for the coordinator any more: {why}", former.node)
            }
            Trace::RejoinWanted { reason } => write!(f, "rejoining: {reason}"),
            Trace::StaleAnswer => f.write_str("an answer came too late"),
            Trace::WillRetry { what, why } => write!(f, "{what} will be tried again: {why}"),
            Trace::GaveUp { what, code } => write!(f, "{what} is refused: {}", code.name()),
            Trace::AutoCommitFailed { partition, error } => {
                write!(f, "what was consumed of {partition} was not committed: {error}")
            }
            Trace::UnreadableSubscription { member } => {
                write!(
                    f,
                    "the subscription of member {member} cannot be read; it gets no partitions"
                )
            }
            Trace::MoveHeldBack { partition, to } => {
                write!(f, "{partition} goes to {to} after its owner has let go of it")
            }
        }
    }
}
