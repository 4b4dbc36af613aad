//! What goes into a shard: requests in the coordinator's own words, and the events of its surroundings.
//!
//! Wire structs stop at the handlers of the broker. A handler turns a request of any version into one of these structs and
//! the [`Reply`](super::Reply) into a response of that version. The few places where the version decides what the
//! coordinator does are fields here (`requires_known_member_id`, `supports_skip_assignment`).

use bytes::Bytes;
use kavka_protocol::{ByteString, ErrorCode, Uuid};

use super::GroupConfig;

/// Names a request to the shell that made it; comes back with the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names a connection. A connection accepted later has a larger number: that tells a retry from the late arrival of what it
/// retries, when a client has left a request behind on its old connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// One step of a shard's life.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A client asks. Every request gets exactly one reply: in this output or, for JoinGroup and SyncGroup, in a later one.
    Request(RequestId, Request),
    /// The time that [`GroupShard::next_deadline`](super::GroupShard::next_deadline) named has come. Early or repeated ones do
    /// no harm.
    Deadline,
    /// Every record of the partition has been applied: timers are armed and requests are served from now on.
    Loaded,
    /// The partition moves away, the broker stops, or an append failed. Every parked request is answered with `error` (for a
    /// move: `NotCoordinator`; after a failed append: see [`append_error`](super::append_error)), and so is every later
    /// one with `NotCoordinator`. The machine is of no use afterwards.
    Unload {
        /// What the parked requests are told.
        error: ErrorCode,
    },
    /// A topic is gone, and with it its committed offsets.
    TopicDeleted {
        /// Its name.
        name: ByteString,
        /// Its id. Offsets that were committed to a later topic of that name stay.
        topic_id: Uuid,
    },
    /// The client that waits for the answer to a parked JoinGroup has gone: its connection is closed. The request is
    /// still answered, now or later; nobody hears it.
    Abandoned {
        /// The group.
        group: ByteString,
        /// The request.
        request: RequestId,
    },
    /// New settings. Running timers keep their deadlines.
    Configure(GroupConfig),
}

/// What a client can ask of a shard.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// JoinGroup.
    Join(JoinRequest),
    /// SyncGroup.
    Sync(SyncRequest),
    /// Heartbeat.
    Heartbeat(HeartbeatRequest),
    /// LeaveGroup.
    Leave(LeaveRequest),
    /// OffsetCommit.
    CommitOffsets(CommitRequest),
    /// OffsetFetch, one group of it.
    FetchOffsets(FetchRequest),
    /// OffsetDelete.
    DeleteOffsets(DeleteOffsetsRequest),
    /// DeleteGroups, the groups of this shard.
    DeleteGroups(Vec<ByteString>),
    /// DescribeGroups, the groups of this shard.
    DescribeGroups(Vec<ByteString>),
    /// ListGroups, as far as this shard goes.
    ListGroups(ListRequest),
}

/// JoinGroup: take part in the next generation.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinRequest {
    /// The group.
    pub group: ByteString,
    /// The id that an earlier answer gave; empty for the first time.
    pub member_id: ByteString,
    /// The name of a static member (KIP-345), already checked for its characters.
    pub instance_id: Option<ByteString>,
    /// `client.id` from the request header; empty if there is none.
    pub client_id: ByteString,
    /// The peer's address as Kafka writes it: `/10.0.0.1`.
    pub client_host: ByteString,
    /// The connection the request came over; `None` if the shell does not tell.
    pub connection: Option<ConnectionId>,
    /// How long the member may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for this member, in milliseconds; -1 stands for the session timeout.
    pub rebalance_timeout_ms: i32,
    /// "consumer" for consumers.
    pub protocol_type: ByteString,
    /// The assignors the member knows, in the order it likes them, with the subscription as each wants to see it.
    pub protocols: Vec<(ByteString, Bytes)>,
    /// Versions 4 and later: a member without an id is given one and told to come again (KIP-394).
    pub requires_known_member_id: bool,
    /// Versions 9 and later: the leader can be told not to assign (KIP-814).
    pub supports_skip_assignment: bool,
    /// Why the member joins (KIP-800). Cut to 255 characters here.
    pub reason: Option<ByteString>,
}

/// SyncGroup: hand in the assignment (leader), get one's own (everyone).
#[derive(Clone, Debug, PartialEq)]
pub struct SyncRequest {
    /// The group.
    pub group: ByteString,
    /// The generation of the JoinGroup answer.
    pub generation: i32,
    /// The member.
    pub member_id: ByteString,
    /// Its name, if it is a static member.
    pub instance_id: Option<ByteString>,
    /// What the member thinks the group's protocol type is; `None` if the version has no such field.
    pub protocol_type: Option<ByteString>,
    /// What the member thinks was chosen; `None` if the version has no such field (KIP-559).
    pub protocol_name: Option<ByteString>,
    /// Member id and assignment; empty from followers.
    pub assignments: Vec<(ByteString, Bytes)>,
}

/// Heartbeat: I am still here.
#[derive(Clone, Debug, PartialEq)]
pub struct HeartbeatRequest {
    /// The group.
    pub group: ByteString,
    /// The generation the member is in.
    pub generation: i32,
    /// The member.
    pub member_id: ByteString,
    /// Its name, if it is a static member.
    pub instance_id: Option<ByteString>,
}

/// LeaveGroup: one member (before version 3) or several.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaveRequest {
    /// The group.
    pub group: ByteString,
    /// Who leaves. The answer has one row for each, in this order.
    pub members: Vec<LeavingMember>,
}

/// A member named in a [`LeaveRequest`].
#[derive(Clone, Debug, PartialEq)]
pub struct LeavingMember {
    /// Its id; empty when an operator removes a static member by name.
    pub member_id: ByteString,
    /// Its name, if it is a static member.
    pub instance_id: Option<ByteString>,
    /// Why (KIP-800). Cut to 255 characters here.
    pub reason: Option<ByteString>,
}

/// OffsetCommit.
#[derive(Clone, Debug, PartialEq)]
pub struct CommitRequest {
    /// The group.
    pub group: ByteString,
    /// The member's generation; -1 from a consumer that assigns itself and from operators.
    pub generation: i32,
    /// The member; empty as above.
    pub member_id: ByteString,
    /// The name of a static member.
    pub instance_id: Option<ByteString>,
    /// Versions 2 to 4: how long to keep these offsets, in milliseconds; `None` (or -1 on the wire) for the broker's retention.
    pub retention_time_ms: Option<i64>,
    /// What to commit. Topics that do not exist or that the client may not read are left out by the handler.
    pub topics: Vec<CommitTopic>,
}

/// The offsets of one topic in a [`CommitRequest`].
#[derive(Clone, Debug, PartialEq)]
pub struct CommitTopic {
    /// Its name.
    pub name: ByteString,
    /// Its id, stored with the offset and echoed; zero if unknown.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<CommitPartition>,
}

/// One offset in a [`CommitRequest`].
#[derive(Clone, Debug, PartialEq)]
pub struct CommitPartition {
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read; -1 for none (KIP-320).
    pub leader_epoch: i32,
    /// A note of the client's; `None` counts as empty.
    pub metadata: Option<ByteString>,
}

/// OffsetFetch for one group.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchRequest {
    /// The group.
    pub group: ByteString,
    /// Which partitions; `None` for all that have an offset.
    pub topics: Option<Vec<FetchTopic>>,
    /// Answer `UNSTABLE_OFFSET_COMMIT` for a partition with an open transaction in place of the offset before it (KIP-447).
    pub require_stable: bool,
}

/// The partitions of one topic in a [`FetchRequest`].
#[derive(Clone, Debug, PartialEq)]
pub struct FetchTopic {
    /// Its name.
    pub name: ByteString,
    /// Its id, or zero. An offset stored for another id does not count.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// OffsetDelete (KIP-496).
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteOffsetsRequest {
    /// The group.
    pub group: ByteString,
    /// Topic and its partitions.
    pub topics: Vec<(ByteString, Vec<i32>)>,
}

/// ListGroups. A filter that is empty lets everything through; names are compared without regard to case, and unknown ones
/// match nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListRequest {
    /// State names (KIP-518).
    pub states: Vec<ByteString>,
    /// Group types (KIP-848): "classic", "consumer".
    pub types: Vec<ByteString>,
}
