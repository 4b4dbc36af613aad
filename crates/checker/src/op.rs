//! What events are about. The names of fields are those of the JSON form; `docs/history.md` has an example of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What is done, or what is told.
///
/// *Operations* take time: an event `invoke` when the client asks, then `ok`, `fail` or `info` by the same process. The
/// completion repeats the operation with what was learned. *Notes* tell of something that happens at once: one event `info`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "kebab-case")]
pub enum Op {
    /// Operation: one record is produced, outside of any transaction.
    Send {
        /// Where to.
        partition: TopicPartition,
        /// Unique in its partition.
        value: i64,
        /// Where it is, once that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offset: Option<i64>,
    },
    /// Operation: the application asks for records. It is given them when the operation completes.
    Poll {
        /// What it got, in the order in which it got them.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        records: BTreeMap<TopicPartition, Vec<Record>>,
        /// Partitions that were assigned or taken away in the middle, if the client does not note that as [`Op::Assigned`] and so on.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        rebalanced: BTreeSet<TopicPartition>,
        /// One of the polls at the end, which read everything from the beginning. If there is any, what is acknowledged and was
        /// never read is an anomaly.
        #[serde(default, rename = "final", skip_serializing_if = "is_false")]
        last: bool,
    },
    /// Operation: a transaction, from its begin to the answer of its commit or abort. `ok`: committed, `fail`: aborted.
    Txn {
        /// In this order.
        steps: Vec<Step>,
    },
    /// Operation: offsets are committed.
    Commit(Commit),
    /// Operation: committed offsets are asked for.
    FetchOffsets {
        /// Of this group.
        group: String,
        /// What the answer says; null where nothing is committed. Empty in `invoke`.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        offsets: BTreeMap<TopicPartition, Option<Committed>>,
    },
    /// Operation: committed offsets are deleted. One that is invoked and never completes is an expiry that may happen at any
    /// time from then on.
    DeleteOffsets {
        /// Of this group.
        group: String,
        /// Of these partitions.
        partitions: BTreeSet<TopicPartition>,
    },
    /// Operation: a group is deleted, with all its committed offsets.
    DeleteGroup {
        /// Which.
        group: String,
    },
    /// Operation: a member tells that it is alive. `ok` if the coordinator took it for a member, also if it asks for a rejoin.
    Heartbeat {
        /// Of this group.
        group: String,
        /// Who.
        member: Member,
    },

    /// Note: the client reads these partitions from now on, or these in place of the former.
    Assign {
        /// Which.
        partitions: BTreeSet<TopicPartition>,
    },
    /// Note: the client wants to be a member with these topics from now on; none: it wants that no more.
    Subscribe {
        /// In this group.
        group: String,
        /// Which.
        topics: BTreeSet<String>,
    },
    /// Note: the client goes on reading elsewhere, as the application wants it.
    Seek {
        /// The partition.
        partition: TopicPartition,
        /// The next offset.
        offset: i64,
    },
    /// Note: the client has found where to start reading a partition.
    Position {
        /// As a member of this group.
        group: String,
        /// The partition.
        partition: TopicPartition,
        /// The next offset.
        offset: i64,
        /// How it was found.
        cause: PositionCause,
    },
    /// Note: the client is thrown away, without a word to anybody.
    Crash {},
    /// Note: the client begins to close.
    Close {},

    /// Note: the client begins to tell the application that it owns these partitions. Their positions are looked up afterwards.
    Assigned {
        /// In this group.
        group: String,
        /// As this member.
        member: Member,
        /// What was not owned before; what was stays owned. May be empty: each generation that a client hears of is noted.
        partitions: BTreeSet<TopicPartition>,
    },
    /// Note: the application is done with these partitions: the callback has returned.
    Revoked {
        /// In this group.
        group: String,
        /// Which.
        partitions: BTreeSet<TopicPartition>,
    },
    /// Note: the application has been told that these partitions were taken away without notice.
    Lost {
        /// In this group.
        group: String,
        /// Which.
        partitions: BTreeSet<TopicPartition>,
    },

    /// Note of who sees the coordinator: a member id is not valid any more: expired, left, removed, replaced.
    MemberRemoved {
        /// Of this group.
        group: String,
        /// Whose.
        member_id: String,
    },
    /// Note of who sees the coordinator: the state of a group, which holds until the next such note.
    GroupState {
        /// Which group.
        group: String,
        /// The state.
        state: GroupState,
    },
    /// Note: a topic has so many partitions from now on; none: it is deleted.
    Topic {
        /// Its name. A topic that is made anew is another topic: add the id to the name.
        topic: String,
        /// How many.
        partitions: u32,
    },
    /// Note: what is below is not in the log any more, by retention or because somebody deleted it.
    Trimmed {
        /// The partition.
        partition: TopicPartition,
        /// The first offset that is left.
        log_start: i64,
    },
    /// Note: something is broken on purpose, or is whole again.
    Fault {
        /// What is broken. Faults of one kind may overlap.
        kind: String,
        /// Whether it begins, ends, or was but a moment.
        phase: FaultPhase,
    },
    /// Note, before anything of the group: what is promised about it.
    Group {
        /// Which.
        group: String,
        /// The promises.
        #[serde(flatten)]
        settings: GroupSettings,
    },
    /// Note, at the beginning: what is promised about records.
    Settings(Settings),
    /// Note: for people.
    Debug {
        /// Anything.
        text: String,
    },
}

impl Op {
    /// Whether it takes time, from `invoke` to a completion.
    pub fn is_operation(&self) -> bool {
        matches!(
            self,
            Op::Send { .. }
                | Op::Poll { .. }
                | Op::Txn { .. }
                | Op::Commit(_)
                | Op::FetchOffsets { .. }
                | Op::DeleteOffsets { .. }
                | Op::DeleteGroup { .. }
                | Op::Heartbeat { .. }
        )
    }

    /// What it is called in the JSON form.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Send { .. } => "send",
            Op::Poll { .. } => "poll",
            Op::Txn { .. } => "txn",
            Op::Commit(_) => "commit",
            Op::FetchOffsets { .. } => "fetch-offsets",
            Op::DeleteOffsets { .. } => "delete-offsets",
            Op::DeleteGroup { .. } => "delete-group",
            Op::Heartbeat { .. } => "heartbeat",
            Op::Assign { .. } => "assign",
            Op::Subscribe { .. } => "subscribe",
            Op::Seek { .. } => "seek",
            Op::Position { .. } => "position",
            Op::Crash {} => "crash",
            Op::Close {} => "close",
            Op::Assigned { .. } => "assigned",
            Op::Revoked { .. } => "revoked",
            Op::Lost { .. } => "lost",
            Op::MemberRemoved { .. } => "member-removed",
            Op::GroupState { .. } => "group-state",
            Op::Topic { .. } => "topic",
            Op::Trimmed { .. } => "trimmed",
            Op::Fault { .. } => "fault",
            Op::Group { .. } => "group",
            Op::Settings(_) => "settings",
            Op::Debug { .. } => "debug",
        }
    }
}

/// A part of a transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// A record is produced.
    Send {
        /// Where to.
        partition: TopicPartition,
        /// Unique in its partition.
        value: i64,
        /// Where it is, once that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offset: Option<i64>,
    },
    /// Records are asked for.
    Poll {
        /// What came, in this order.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        records: BTreeMap<TopicPartition, Vec<Record>>,
    },
    /// Offsets are committed with the transaction.
    Commit(Commit),
}

/// Offsets that are committed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// For this group.
    pub group: String,
    /// By this member; none: by somebody who is no member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Member>,
    /// What.
    pub offsets: BTreeMap<TopicPartition, Committed>,
    /// Of those, in an `ok`: what the coordinator has refused.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub failed: BTreeSet<TopicPartition>,
    /// Where the offsets come from.
    #[serde(default, skip_serializing_if = "CommitSource::is_consumed")]
    pub source: CommitSource,
}

/// Where the offsets of a commit come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommitSource {
    /// From what the application was given: no further than that.
    #[default]
    Consumed,
    /// Somebody has chosen them: an administrator, an application with offsets of its own.
    Chosen,
}

impl CommitSource {
    fn is_consumed(&self) -> bool {
        *self == CommitSource::Consumed
    }
}

/// What is committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the record before; -1: not told.
    #[serde(default = "minus_one", skip_serializing_if = "is_minus_one")]
    pub leader_epoch: i32,
    /// What the client wants to remember.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metadata: String,
}

impl Committed {
    /// An offset without epoch and metadata.
    pub fn new(offset: i64) -> Self {
        Self { offset, leader_epoch: -1, metadata: String::new() }
    }
}

/// As whom a client speaks to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// The member id.
    pub member_id: String,
    /// The generation, or the member epoch of KIP-848.
    pub generation: i32,
}

/// A record as the application gets it: `[offset, value]` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "(i64, i64)", into = "(i64, i64)")]
pub struct Record {
    /// Where it is.
    pub offset: i64,
    /// What was sent.
    pub value: i64,
}

impl From<(i64, i64)> for Record {
    fn from((offset, value): (i64, i64)) -> Self {
        Self { offset, value }
    }
}

impl From<Record> for (i64, i64) {
    fn from(record: Record) -> Self {
        (record.offset, record.value)
    }
}

/// How a position was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositionCause {
    /// It is the committed offset.
    Committed,
    /// By `auto.offset.reset`: nothing was committed, or it is out of range.
    Reset,
}

/// States of groups, as Kafka names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupState {
    /// No members.
    Empty,
    /// Members are to join (classic).
    PreparingRebalance,
    /// The leader is to assign (classic).
    CompletingRebalance,
    /// A target assignment is computed (KIP-848).
    Assigning,
    /// Members take over what the target gives them (KIP-848).
    Reconciling,
    /// Everybody has what is meant for them.
    Stable,
    /// Deleted.
    Dead,
}

impl GroupState {
    /// Whether a rebalance goes on.
    pub fn is_rebalancing(self) -> bool {
        !matches!(self, GroupState::Empty | GroupState::Stable | GroupState::Dead)
    }

    /// Whether there are no members.
    pub fn has_no_members(self) -> bool {
        matches!(self, GroupState::Empty | GroupState::Dead)
    }
}

/// A fault begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultPhase {
    /// It lasts until as many ends of its kind were noted as begins.
    Begin,
    /// It is over.
    End,
    /// It was over at once: a process was killed, a connection cut.
    Once,
}

/// By which rules a group works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupProtocol {
    /// JoinGroup and SyncGroup: one generation for the whole group.
    #[default]
    Classic,
    /// KIP-848: an epoch for each member.
    Consumer,
}

/// What is promised about a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupSettings {
    /// By which rules it works.
    pub protocol: GroupProtocol,
    /// How long a silent member stays, at most.
    pub session_timeout_ms: u64,
    /// How long a rebalance takes, at most.
    pub rebalance_timeout_ms: u64,
    /// Whether the assignor moves partitions only if it must. Looked at only if all removals are noted.
    pub sticky: bool,
    /// Whether every removal of a member is noted ([`Op::MemberRemoved`]). Otherwise a member counts as one for as long as its
    /// answered heartbeats and commits prove it.
    pub removals_noted: bool,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            protocol: GroupProtocol::Classic,
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 300_000,
            sticky: false,
            removals_noted: false,
        }
    }
}

/// What is promised about records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Producers are idempotent: no record is stored twice.
    pub idempotent: bool,
    /// What consumers get to see.
    pub isolation: Isolation,
}

impl Default for Settings {
    fn default() -> Self {
        Self { idempotent: true, isolation: Isolation::ReadCommitted }
    }
}

/// What consumers get to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Only what is committed.
    ReadCommitted,
    /// Also what is open or aborted.
    ReadUncommitted,
}

/// A partition of a topic; `topic-0` in JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
}

impl TopicPartition {
    /// That partition of that topic.
    pub fn new(topic: impl Into<String>, partition: u32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Not the name of a partition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a partition: write topic, hyphen, number, as in orders-0")]
pub struct TopicPartitionError(String);

impl FromStr for TopicPartition {
    type Err = TopicPartitionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || TopicPartitionError(text.to_owned());
        let (topic, partition) = text.rsplit_once('-').ok_or_else(error)?;
        if topic.is_empty() {
            return Err(error());
        }
        Ok(Self { topic: topic.to_owned(), partition: partition.parse().map_err(|_| error())? })
    }
}

impl Serialize for TopicPartition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TopicPartition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn minus_one() -> i32 {
    -1
}

fn is_minus_one(value: &i32) -> bool {
    *value == -1
}
