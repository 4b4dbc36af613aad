//! What goes into a member: calls of the application, answers of brokers, time, metadata.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kavka_protocol::ByteString;

use crate::{
    Assignment, CommitId, DrainId, Failure, OffsetTarget, PositionEpoch, RequestId, Response,
    TopicMetadata, TopicPartition, TopicShape,
};

/// One step of a member's life.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The time that [`Member::next_deadline`](crate::Member::next_deadline) named has come. Early or repeated ones do no harm.
    Deadline,
    /// A broker answered. Answers to requests that are not waited for any more do no harm.
    Response(RequestId, Response),
    /// There will be no answer.
    Failed(RequestId, Failure),
    /// What the cluster looks like; replaces what was known.
    Metadata(BTreeMap<ByteString, TopicMetadata>),

    /// Take part in the group with these topics, or with these in place of the former. A pattern is resolved by the shell,
    /// which comes again when more or fewer topics match. Counts as a poll.
    Subscribe(BTreeSet<ByteString>),
    /// Read these partitions without being a member, or these in place of the former.
    AssignSelf(BTreeSet<TopicPartition>),
    /// Give everything up and leave the group.
    Unsubscribe,
    /// The application is alive: it asked for records.
    Poll,
    /// What the application has consumed. Only this moves the positions on.
    Consumed(Vec<Consumed>),
    /// The application is done with the partitions of [`Event::Revoking`](crate::Event::Revoking).
    Drained(DrainId),
    /// Commit. Ends in exactly one [`Event::CommitCompleted`](crate::Event::CommitCompleted).
    Commit {
        /// Comes back with the event.
        commit: CommitId,
        /// What; `None` for the position of every partition.
        offsets: Option<BTreeMap<TopicPartition, CommitOffset>>,
        /// How.
        mode: CommitMode,
    },
    /// Go on reading elsewhere.
    Seek {
        /// The partition.
        partition: TopicPartition,
        /// Where.
        target: OffsetTarget,
    },
    /// The broker says that the position is not in the log.
    OutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The epoch of the position that was fetched from.
        epoch: PositionEpoch,
    },
    /// Fetch nothing of these until further notice. Partitions that are taken away and come back are not paused.
    Pause(BTreeSet<TopicPartition>),
    /// Fetch these again.
    Resume(BTreeSet<TopicPartition>),
    /// The assignor has done what [`Event::Assign`](crate::Event::Assign) asked for.
    Assigned {
        /// The generation that was asked for.
        generation: i32,
        /// A share for each member; who is left out gets nothing.
        assignments: BTreeMap<ByteString, Assignment>,
        /// What the topics looked like to the assignor: when they change, the leader asks for a rebalance.
        topics: BTreeMap<ByteString, TopicShape>,
    },
    /// The assignor could not. The member gives up.
    AssignFailed {
        /// The generation that was asked for.
        generation: i32,
        /// Why.
        message: String,
    },
    /// Rejoin, although nothing has changed (KIP-568).
    EnforceRebalance {
        /// Sent to the coordinator (KIP-800).
        reason: ByteString,
    },
    /// Commit what is to be committed, leave the group, be done. Ends in [`Event::Closed`](crate::Event::Closed).
    Close {
        /// How long that may take.
        timeout: Duration,
        /// Whether to tell the coordinator (KIP-1092); `None`: a dynamic member does, a static one keeps its share until the
        /// session times out.
        leave: Option<bool>,
    },
}

/// How to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitMode {
    /// Try again, for so long.
    Sync {
        /// How long.
        timeout: Duration,
    },
    /// One attempt. What the coordinator did not work on, because of a rebalance, is sent again while the partition is owned.
    Async,
}

/// An offset to be committed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommitOffset {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read; -1 for none (KIP-320).
    pub leader_epoch: i32,
    /// A note of the application's.
    pub metadata: Option<ByteString>,
}

/// What the application has consumed of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// The partition.
    pub partition: TopicPartition,
    /// The epoch of the position from which it was fetched. After a seek, or when the partition was taken away in between, it is
    /// an old one, and this is ignored.
    pub epoch: PositionEpoch,
    /// One after the last record consumed.
    pub next_offset: i64,
    /// The leader epoch of that record; -1 for none.
    pub leader_epoch: i32,
}
