//! What comes out of a shard for clients, and when it may leave.
//!
//! Error codes are the newest ones; a handler maps them for older versions. The places where that is needed:
//!
//! | Reply | Code here | Older versions |
//! |---|---|---|
//! | [`CommitReply`] | `GroupIdNotFound` (69) on each partition | OffsetCommit 0-8 and TxnOffsetCommit: `IllegalGeneration` (22) |
//! | [`DescribedGroup`] | `GroupIdNotFound` (69), state Dead | DescribeGroups 0-5: no error, state Dead |
//! | [`LeaveReply`] | a code for each member | LeaveGroup 0-2: that of the only member moves to the top |
//! | [`JoinReply::protocol_name`] | `None` | JoinGroup 0-6: "" |

use bytes::Bytes;
use kavka_protocol::{ByteString, ErrorCode, Uuid};

use super::{CommitRequest, Request, RequestId};

/// A reply, the request it belongs to, and when it may leave.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The request.
    pub request: RequestId,
    /// What to tell it.
    pub reply: Reply,
    /// When.
    pub release: Release,
}

/// When a reply may leave the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// At once: it promises nothing that a crash could take back.
    Immediate,
    /// When the log is durable up to its end after this step's records. That holds for answers without records of their own
    /// as well: they may show what an earlier step wrote.
    Durable,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// JoinGroup.
    Join(JoinReply),
    /// SyncGroup.
    Sync(SyncReply),
    /// Heartbeat.
    Heartbeat(ErrorCode),
    /// LeaveGroup.
    Leave(LeaveReply),
    /// OffsetCommit.
    CommitOffsets(CommitReply),
    /// OffsetFetch, one group.
    FetchOffsets(FetchReply),
    /// OffsetDelete.
    DeleteOffsets(DeleteOffsetsReply),
    /// DeleteGroups: a code for each group asked, in that order.
    DeleteGroups(Vec<(ByteString, ErrorCode)>),
    /// DescribeGroups: a row for each group asked, in that order.
    DescribeGroups(Vec<DescribedGroup>),
    /// ListGroups.
    ListGroups(ListReply),
}

/// The answer to JoinGroup.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinReply {
    /// With an error, `generation` is -1 and everything else but `member_id` is empty.
    pub error: ErrorCode,
    /// The generation just made.
    pub generation: i32,
    /// The group's protocol type; goes out from version 7 on.
    pub protocol_type: Option<ByteString>,
    /// The protocol that was chosen.
    pub protocol_name: Option<ByteString>,
    /// The member that has to assign. For a static leader that returned and cannot skip the assignment, the id it had before.
    pub leader: ByteString,
    /// The leader keeps the assignment that is there and sends an empty SyncGroup (KIP-814).
    pub skip_assignment: bool,
    /// The id to use from now on.
    pub member_id: ByteString,
    /// Everyone, by member id; empty unless the receiver leads.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: ByteString,
    /// Its name, if it is static.
    pub instance_id: Option<ByteString>,
    /// Its subscription under the chosen protocol.
    pub metadata: Bytes,
}

/// The answer to SyncGroup.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncReply {
    /// With an error, everything else is empty.
    pub error: ErrorCode,
    /// The group's protocol type; goes out from version 5 on.
    pub protocol_type: Option<ByteString>,
    /// The chosen protocol; goes out from version 5 on.
    pub protocol_name: Option<ByteString>,
    /// The member's share.
    pub assignment: Bytes,
}

/// The answer to LeaveGroup.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaveReply {
    /// The code for the whole request; set only where no member was looked at.
    pub error: ErrorCode,
    /// One row for each member of the request, in its order.
    pub members: Vec<LeftMember>,
}

/// A row of a [`LeaveReply`].
#[derive(Clone, Debug, PartialEq)]
pub struct LeftMember {
    /// As asked.
    pub member_id: ByteString,
    /// As asked.
    pub instance_id: Option<ByteString>,
    /// Whether it was removed.
    pub error: ErrorCode,
}

/// The answer to OffsetCommit: what was asked, with codes. An error of the whole request stands on every partition.
#[derive(Clone, Debug, PartialEq)]
pub struct CommitReply {
    /// In the order of the request.
    pub topics: Vec<CommittedTopic>,
}

/// A topic of a [`CommitReply`].
#[derive(Clone, Debug, PartialEq)]
pub struct CommittedTopic {
    /// As asked.
    pub name: ByteString,
    /// As asked.
    pub topic_id: Uuid,
    /// In the order of the request.
    pub partitions: Vec<(i32, ErrorCode)>,
}

/// The answer to OffsetFetch for one group.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchReply {
    /// The group.
    pub group: ByteString,
    /// The code for the group. Versions 0 and 1 have no such field: their handler copies it to the partitions.
    pub error: ErrorCode,
    /// As asked or, for all, by topic name and partition.
    pub topics: Vec<FetchedTopic>,
}

/// A topic of a [`FetchReply`].
#[derive(Clone, Debug, PartialEq)]
pub struct FetchedTopic {
    /// Its name.
    pub name: ByteString,
    /// As asked; when all were asked, the id stored with the offsets (zero if none was).
    pub topic_id: Uuid,
    /// The offsets.
    pub partitions: Vec<FetchedPartition>,
}

/// A partition of a [`FetchReply`].
#[derive(Clone, Debug, PartialEq)]
pub struct FetchedPartition {
    /// The partition.
    pub partition: i32,
    /// The committed offset; -1 if there is none.
    pub offset: i64,
    /// As committed; -1 for none.
    pub leader_epoch: i32,
    /// As committed.
    pub metadata: ByteString,
    /// The code.
    pub error: ErrorCode,
}

impl FetchedPartition {
    /// "No offset": the answer for a partition that never was committed.
    pub fn none(partition: i32, error: ErrorCode) -> Self {
        Self { partition, offset: -1, leader_epoch: -1, metadata: ByteString::new(), error }
    }
}

/// The answer to OffsetDelete.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteOffsetsReply {
    /// The code for the whole request; then there are no topics.
    pub error: ErrorCode,
    /// Topic, partition, code, in the order of the request.
    pub topics: Vec<(ByteString, Vec<(i32, ErrorCode)>)>,
}

/// A group as DescribeGroups shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribedGroup {
    /// `GroupIdNotFound` with state Dead for a group that does not exist.
    pub error: ErrorCode,
    /// The group.
    pub group: ByteString,
    /// Its state.
    pub state: GroupState,
    /// "consumer" for consumers; empty if nobody ever joined.
    pub protocol_type: ByteString,
    /// The chosen protocol; empty unless Stable.
    pub protocol_name: ByteString,
    /// By member id.
    pub members: Vec<DescribedMember>,
}

/// A member as DescribeGroups shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: ByteString,
    /// Its name, if it is static.
    pub instance_id: Option<ByteString>,
    /// `client.id`.
    pub client_id: ByteString,
    /// The peer's address.
    pub client_host: ByteString,
    /// Its subscription; empty unless the group is Stable.
    pub metadata: Bytes,
    /// Its share; empty unless the group is Stable.
    pub assignment: Bytes,
}

/// The answer to ListGroups.
#[derive(Clone, Debug, PartialEq)]
pub struct ListReply {
    /// Loading: the whole answer fails. Not the coordinator: the shard is left out.
    pub error: ErrorCode,
    /// By group id.
    pub groups: Vec<ListedGroup>,
}

/// A group as ListGroups shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedGroup {
    /// The group.
    pub group: ByteString,
    /// "consumer" for consumers; empty if nobody ever joined.
    pub protocol_type: ByteString,
    /// Its state.
    pub state: GroupState,
    /// "classic".
    pub group_type: &'static str,
}

/// The states of a classic group. `Dead` is never the state of a group that is held: a deleted or unloaded group is gone at
/// once, and DescribeGroups shows an absent group as Dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    /// No members. JoinGroup -> PreparingRebalance; everything of a member -> `UNKNOWN_MEMBER_ID`; commits without a
    /// generation are taken.
    Empty,
    /// Waits for the JoinGroup of every member. Heartbeat and SyncGroup -> `REBALANCE_IN_PROGRESS`; commits of the generation
    /// that ends are taken. All joined, or time is up -> CompletingRebalance, or Empty if nobody is left.
    PreparingRebalance,
    /// Waits for the leader's SyncGroup; those of followers are parked; commits -> `REBALANCE_IN_PROGRESS`. The leader's
    /// assignment -> Stable; a join, leave or expiry -> PreparingRebalance.
    CompletingRebalance,
    /// Everyone has, or can fetch, its assignment. A join that changes something, a leave, an expiry -> PreparingRebalance.
    Stable,
    /// Gone.
    Dead,
}

impl GroupState {
    /// The name that the protocol uses.
    pub const fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}

impl std::fmt::Display for GroupState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl JoinReply {
    /// A refusal. The member id is what the client is to keep.
    pub fn refusal(member_id: ByteString, error: ErrorCode) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol_name: None,
            leader: ByteString::new(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }
    }
}

impl SyncReply {
    /// A refusal.
    pub fn refusal(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol_name: None, assignment: Bytes::new() }
    }
}

impl CommitReply {
    /// The same code for every partition of the request.
    pub fn refusal(request: &CommitRequest, error: ErrorCode) -> Self {
        let topics = request
            .topics
            .iter()
            .map(|topic| CommittedTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions: topic.partitions.iter().map(|p| (p.partition, error)).collect(),
            })
            .collect();
        Self { topics }
    }
}

impl Request {
    /// What a shard answers that does not serve: `CoordinatorLoadInProgress` while it loads, `NotCoordinator` after it was
    /// unloaded, `CoordinatorNotAvailable` when the broker stops. The shell uses it where there is no shard to ask.
    ///
    /// Heartbeats are taken blindly during a load, so that nobody loses its group because the coordinator moved. SyncGroup
    /// is answered `REBALANCE_IN_PROGRESS` then: Java clients give up on `COORDINATOR_LOAD_IN_PROGRESS` there, and on 27 they
    /// join again.
    pub fn refuse(&self, error: ErrorCode) -> Reply {
        let loading = error == ErrorCode::CoordinatorLoadInProgress;
        match self {
            Request::Join(join) => Reply::Join(JoinReply::refusal(join.member_id.clone(), error)),
            Request::Sync(_) if loading => {
                Reply::Sync(SyncReply::refusal(ErrorCode::RebalanceInProgress))
            }
            Request::Sync(_) => Reply::Sync(SyncReply::refusal(error)),
            Request::Heartbeat(_) if loading => Reply::Heartbeat(ErrorCode::None),
            Request::Heartbeat(_) => Reply::Heartbeat(error),
            Request::Leave(_) => Reply::Leave(LeaveReply { error, members: Vec::new() }),
            Request::CommitOffsets(commit) => {
                Reply::CommitOffsets(CommitReply::refusal(commit, error))
            }
            Request::FetchOffsets(fetch) => {
                Reply::FetchOffsets(FetchReply::failure(fetch.group.clone(), error))
            }
            Request::DeleteOffsets(_) => {
                Reply::DeleteOffsets(DeleteOffsetsReply { error, topics: Vec::new() })
            }
            Request::DeleteGroups(groups) => {
                Reply::DeleteGroups(groups.iter().map(|group| (group.clone(), error)).collect())
            }
            Request::DescribeGroups(groups) => Reply::DescribeGroups(
                groups.iter().map(|group| DescribedGroup::absent(group.clone(), error)).collect(),
            ),
            Request::ListGroups(_) => Reply::ListGroups(ListReply { error, groups: Vec::new() }),
        }
    }
}

impl FetchReply {
    fn failure(group: ByteString, error: ErrorCode) -> Self {
        Self { group, error, topics: Vec::new() }
    }
}

impl DescribedGroup {
    pub(crate) fn absent(group: ByteString, error: ErrorCode) -> Self {
        Self {
            error,
            group,
            state: GroupState::Dead,
            protocol_type: ByteString::new(),
            protocol_name: ByteString::new(),
            members: Vec::new(),
        }
    }
}

impl Reply {
    /// The reply in place of this one when the append that it stood on has failed: the same shape, `error` wherever it
    /// promised success. `error` comes from [`append_error`].
    #[must_use]
    pub fn failed(self, error: ErrorCode) -> Reply {
        let replace = |code: ErrorCode| if code == ErrorCode::None { error } else { code };
        match self {
            Reply::Join(join) if join.error == ErrorCode::None => {
                Reply::Join(JoinReply::refusal(join.member_id, error))
            }
            Reply::Sync(sync) if sync.error == ErrorCode::None => {
                Reply::Sync(SyncReply::refusal(error))
            }
            Reply::Heartbeat(code) => Reply::Heartbeat(replace(code)),
            Reply::Leave(mut leave) => {
                if leave.error == ErrorCode::None {
                    leave = LeaveReply { error, members: Vec::new() };
                }
                Reply::Leave(leave)
            }
            Reply::CommitOffsets(mut commit) => {
                for (_, code) in commit.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                    *code = replace(*code);
                }
                Reply::CommitOffsets(commit)
            }
            Reply::FetchOffsets(fetch) if fetch.error == ErrorCode::None => {
                Reply::FetchOffsets(FetchReply::failure(fetch.group, error))
            }
            Reply::DeleteOffsets(delete) if delete.error == ErrorCode::None => {
                Reply::DeleteOffsets(DeleteOffsetsReply { error, topics: Vec::new() })
            }
            Reply::DeleteGroups(mut groups) => {
                for (_, code) in &mut groups {
                    *code = replace(*code);
                }
                Reply::DeleteGroups(groups)
            }
            Reply::DescribeGroups(groups) => Reply::DescribeGroups(
                groups.into_iter().map(|g| DescribedGroup::absent(g.group, error)).collect(),
            ),
            Reply::ListGroups(_) => Reply::ListGroups(ListReply { error, groups: Vec::new() }),
            already @ (Reply::Join(_)
            | Reply::Sync(_)
            | Reply::FetchOffsets(_)
            | Reply::DeleteOffsets(_)) => already,
        }
    }

    /// When this reply may leave: heartbeats and refusals of JoinGroup and SyncGroup at once, everything else when the log is
    /// durable up to where it stands.
    pub(crate) fn release(&self) -> Release {
        match self {
            Reply::Heartbeat(_) => Release::Immediate,
            Reply::CommitOffsets(_) if kavka_mutants::mutant("acknowledged-too-early") => {
                Release::Immediate
            }
            Reply::Join(join) if join.error != ErrorCode::None => Release::Immediate,
            Reply::Sync(sync) if sync.error != ErrorCode::None => Release::Immediate,
            _ => Release::Durable,
        }
    }
}

/// What a client is told when the append of its records failed with `error`.
pub fn append_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::InvalidFetchSize => ErrorCode::UnknownServerError,
        ErrorCode::NetworkException => ErrorCode::CoordinatorLoadInProgress,
        other => other,
    }
}
