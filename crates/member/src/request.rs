//! What a member asks of brokers, and what it hears, in its own words: no versions here. See [`wire`](crate::wire).

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use kavka_protocol::{ByteString, ErrorCode, Uuid};

use crate::{CommitOffset, IsolationLevel, TopicPartition};

/// Names a request; comes back with the response or failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// A broker that coordinates the group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    /// Its id. Clients use a connection of its own for the coordinator, so that fetches do not delay heartbeats.
    pub node: i32,
    /// Where it listens.
    pub host: ByteString,
    /// Where it listens.
    pub port: i32,
}

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Any broker.
    AnyBroker,
    /// The coordinator of the group, over the connection kept for that.
    Coordinator(Coordinator),
    /// The broker with this id.
    Node(i32),
}

/// A request to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// Its name.
    pub id: RequestId,
    /// To whom.
    pub target: Target,
    /// How long it may take. The member counts the time itself and takes no answer after that; this is for the shell's own use.
    pub timeout: Duration,
    /// What.
    pub request: Request,
}

/// What to ask.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// FindCoordinator, for this group.
    FindCoordinator {
        /// The group.
        group: ByteString,
    },
    /// JoinGroup.
    Join(JoinRequest),
    /// SyncGroup.
    Sync(SyncRequest),
    /// Heartbeat.
    Heartbeat(HeartbeatRequest),
    /// LeaveGroup, for one member.
    Leave(LeaveRequest),
    /// OffsetCommit.
    CommitOffsets(CommitRequest),
    /// OffsetFetch, always with `require_stable`.
    FetchOffsets(FetchOffsetsRequest),
    /// ListOffsets.
    ListOffsets(ListOffsetsQuery),
    /// OffsetForLeaderEpoch.
    EndOfEpochs(Vec<EpochQuery>),
    /// DescribeGroups, for this group.
    DescribeGroup {
        /// The group.
        group: ByteString,
    },
}

/// JoinGroup.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinRequest {
    /// The group.
    pub group: ByteString,
    /// The id that an earlier answer gave; empty for the first time.
    pub member_id: ByteString,
    /// The name of a static member.
    pub instance_id: Option<ByteString>,
    /// How long the member may be silent.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for this member.
    pub rebalance_timeout_ms: i32,
    /// "consumer".
    pub protocol_type: ByteString,
    /// The assignors, in the order preferred, with the subscription as each wants to see it.
    pub protocols: Vec<(ByteString, Bytes)>,
    /// Why the member joins (KIP-800).
    pub reason: Option<ByteString>,
}

/// SyncGroup.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncRequest {
    /// The group.
    pub group: ByteString,
    /// The generation of the JoinGroup answer.
    pub generation: i32,
    /// The member.
    pub member_id: ByteString,
    /// The name of a static member.
    pub instance_id: Option<ByteString>,
    /// "consumer".
    pub protocol_type: ByteString,
    /// What JoinGroup chose.
    pub protocol_name: ByteString,
    /// Member id and assignment; empty from followers.
    pub assignments: Vec<(ByteString, Bytes)>,
}

/// Heartbeat.
#[derive(Clone, Debug, PartialEq)]
pub struct HeartbeatRequest {
    /// The group.
    pub group: ByteString,
    /// The generation the member is in.
    pub generation: i32,
    /// The member.
    pub member_id: ByteString,
    /// The name of a static member.
    pub instance_id: Option<ByteString>,
}

/// LeaveGroup.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaveRequest {
    /// The group.
    pub group: ByteString,
    /// The member.
    pub member_id: ByteString,
    /// The name of a static member.
    pub instance_id: Option<ByteString>,
    /// Why (KIP-800).
    pub reason: Option<ByteString>,
}

/// OffsetCommit.
#[derive(Clone, Debug, PartialEq)]
pub struct CommitRequest {
    /// The group.
    pub group: ByteString,
    /// The member's generation; -1 from one that assigns itself.
    pub generation: i32,
    /// The member; empty from one that assigns itself.
    pub member_id: ByteString,
    /// The name of a static member.
    pub instance_id: Option<ByteString>,
    /// What to commit.
    pub offsets: BTreeMap<TopicPartition, CommitOffset>,
    /// The ids of their topics, as far as they are known.
    pub topic_ids: BTreeMap<ByteString, Uuid>,
}

/// OffsetFetch for one group.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchOffsetsRequest {
    /// The group.
    pub group: ByteString,
    /// Which partitions.
    pub partitions: Vec<TopicPartition>,
    /// The ids of their topics, as far as they are known.
    pub topic_ids: BTreeMap<ByteString, Uuid>,
}

/// ListOffsets at the leader of these partitions.
#[derive(Clone, Debug, PartialEq)]
pub struct ListOffsetsQuery {
    /// What "latest" means.
    pub isolation_level: IsolationLevel,
    /// Partition, leader epoch as far as it is known (-1), and timestamp in milliseconds since the epoch; -1 latest, -2 earliest.
    pub partitions: Vec<(TopicPartition, i32, i64)>,
}

/// One partition of an OffsetForLeaderEpoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochQuery {
    /// The partition.
    pub partition: TopicPartition,
    /// The leader epoch as far as it is known.
    pub current_leader_epoch: i32,
    /// The epoch whose end is asked for.
    pub leader_epoch: i32,
}

/// What a broker answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// FindCoordinator.
    FindCoordinator(Result<Coordinator, ErrorCode>),
    /// JoinGroup.
    Join(JoinResponse),
    /// SyncGroup: the assignment.
    Sync(Result<Bytes, ErrorCode>),
    /// Heartbeat.
    Heartbeat(ErrorCode),
    /// LeaveGroup: the code of the request or, if that is none, of the member.
    Leave(ErrorCode),
    /// OffsetCommit: a code for each partition.
    CommitOffsets(BTreeMap<TopicPartition, ErrorCode>),
    /// OffsetFetch: the code of the group or a row for each partition.
    FetchOffsets(Result<BTreeMap<TopicPartition, FetchedOffset>, ErrorCode>),
    /// ListOffsets.
    ListOffsets(BTreeMap<TopicPartition, ListedOffset>),
    /// OffsetForLeaderEpoch.
    EndOfEpochs(BTreeMap<TopicPartition, EpochEnd>),
    /// DescribeGroups: the code of the group or what it is like.
    DescribeGroup(Result<GroupDescription, ErrorCode>),
}

/// The answer to JoinGroup.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinResponse {
    /// With an error, only `member_id` counts.
    pub error: ErrorCode,
    /// The generation.
    pub generation: i32,
    /// The assignor that was chosen.
    pub protocol_name: Option<ByteString>,
    /// The member that has to assign.
    pub leader: ByteString,
    /// The leader keeps the assignment that is there (KIP-814).
    pub skip_assignment: bool,
    /// The id to use from now on.
    pub member_id: ByteString,
    /// Everyone; empty unless the receiver leads.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: ByteString,
    /// Its name, if it is static.
    pub instance_id: Option<ByteString>,
    /// Its subscription under the chosen assignor.
    pub metadata: Bytes,
}

/// A row of an OffsetFetch answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The code.
    pub error: ErrorCode,
    /// -1 if there is none.
    pub offset: i64,
    /// -1 if there is none.
    pub leader_epoch: i32,
}

/// A row of a ListOffsets answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The code.
    pub error: ErrorCode,
    /// -1 if no record is as young as asked.
    pub offset: i64,
    /// -1 if it is not known.
    pub leader_epoch: i32,
}

/// A row of an OffsetForLeaderEpoch answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The code.
    pub error: ErrorCode,
    /// The largest epoch up to the one asked for; -1 if there is none.
    pub leader_epoch: i32,
    /// Where that epoch ends; -1 if it is not known.
    pub end_offset: i64,
}

/// A group, as the coordinator describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its state is Stable.
    pub is_stable: bool,
    /// What each member was assigned.
    pub assignments: Vec<Bytes>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The connection is gone or could not be made. The request may or may not have been worked on.
    Disconnected,
    /// It took too long.
    TimedOut,
    /// The answer could not be read, or is one to something else.
    Malformed,
}

impl Response {
    /// Whether this is an answer to that request.
    pub(crate) fn answers(&self, kind: RequestKind) -> bool {
        matches!(
            (self, kind),
            (Response::FindCoordinator(_), RequestKind::FindCoordinator)
                | (Response::Join(_), RequestKind::Join)
                | (Response::Sync(_), RequestKind::Sync)
                | (Response::Heartbeat(_), RequestKind::Heartbeat)
                | (Response::Leave(_), RequestKind::Leave)
                | (Response::CommitOffsets(_), RequestKind::CommitOffsets)
                | (Response::FetchOffsets(_), RequestKind::FetchOffsets)
                | (Response::ListOffsets(_), RequestKind::ListOffsets)
                | (Response::EndOfEpochs(_), RequestKind::EndOfEpochs)
                | (Response::DescribeGroup(_), RequestKind::DescribeGroup)
        )
    }
}

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RequestKind {
    FindCoordinator,
    Join,
    Sync,
    Heartbeat,
    Leave,
    CommitOffsets,
    FetchOffsets,
    ListOffsets,
    EndOfEpochs,
    DescribeGroup,
}

impl Request {
    pub(crate) fn kind(&self) -> RequestKind {
        match self {
            Request::FindCoordinator { .. } => RequestKind::FindCoordinator,
            Request::Join(_) => RequestKind::Join,
            Request::Sync(_) => RequestKind::Sync,
            Request::Heartbeat(_) => RequestKind::Heartbeat,
            Request::Leave(_) => RequestKind::Leave,
            Request::CommitOffsets(_) => RequestKind::CommitOffsets,
            Request::FetchOffsets(_) => RequestKind::FetchOffsets,
            Request::ListOffsets(_) => RequestKind::ListOffsets,
            Request::EndOfEpochs(_) => RequestKind::EndOfEpochs,
            Request::DescribeGroup { .. } => RequestKind::DescribeGroup,
        }
    }
}
