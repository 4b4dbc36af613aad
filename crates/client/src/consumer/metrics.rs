//! A consumer's [`metrics`](crate::metrics).

use std::collections::BTreeMap;

use bytestring::ByteString;
use kavka_member::{State, TopicPartition};

use crate::metrics::{LastError, Timing};

/// What a consumer has done since it was made, and where it stands. From
/// [`ConsumerHandle::metrics`](super::ConsumerHandle::metrics).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConsumerMetrics {
    /// Fetching.
    pub fetch: FetchMetrics,
    /// Committing.
    pub commit: CommitMetrics,
    /// The membership; `None` without a group.
    pub group: Option<GroupMetrics>,
    /// Every partition that is owned.
    pub partitions: BTreeMap<TopicPartition, PartitionMetrics>,
    /// What went wrong last, if anything did.
    pub last_error: Option<LastError>,
}

/// Fetching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchMetrics {
    /// Fetches that were answered, and how long that took: what they waited for records (`fetch.max.wait.ms`) included.
    pub requests: Timing,
    /// Fetches that failed as a whole.
    pub failed: u64,
    /// Batches that came.
    pub batches: u64,
    /// Records in them, as they were written: control records, aborted ones and those below the position count too. What Kafka before
    /// 0.11 compressed together counts as one.
    pub records: u64,
    /// Bytes of the batches, compressed as they are.
    pub bytes: u64,
    /// Bytes that were fetched and wait for the application now.
    pub buffered_bytes: usize,
}

/// Committing: OffsetCommit requests, those of automatic commits too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommitMetrics {
    /// Requests that were answered, and how long that took.
    pub requests: Timing,
    /// Requests that were not answered, or with an error for one of their partitions. Most are tried again.
    pub failed: u64,
}

/// The membership.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMetrics {
    /// Where it stands.
    pub state: State,
    /// The id that the coordinator gave; empty if there is none.
    pub member_id: ByteString,
    /// The generation of the group; -1 if this consumer is in none.
    pub generation: i32,
    /// The assignor that the group chose; empty before the first rebalance.
    pub assignor: ByteString,
    /// Whether this consumer assigns for the group.
    pub is_leader: bool,
    /// Rebalances that ended with an assignment, and how long each took this consumer: from when it heard of it, giving up partitions
    /// and waiting for the other members included.
    pub rebalances: Timing,
    /// Partitions that were lost without notice.
    pub lost_partitions: u64,
    /// Heartbeats that were answered, and how long that took.
    pub heartbeats: Timing,
}

/// A partition that is owned. `None`: not known yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionMetrics {
    /// The offset after the last consumed record.
    pub position: Option<i64>,
    /// What this consumer committed last, or found committed.
    pub committed: Option<i64>,
    /// How many offsets the log is ahead of the position, as the last fetch had it; with `isolation.level=read_committed`, up to the
    /// last stable offset.
    pub lag: Option<i64>,
    /// Where the log began when it was last fetched from.
    pub log_start_offset: Option<i64>,
    /// One after the last record that was on all replicas in sync then.
    pub high_watermark: Option<i64>,
    /// Where the first open transaction began then.
    pub last_stable_offset: Option<i64>,
    /// Bytes that were fetched and wait for the application.
    pub buffered_bytes: usize,
    /// Whether the application has paused it.
    pub is_paused: bool,
}
