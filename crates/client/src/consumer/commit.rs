//! Commits as calls: what was committed, and what was not.

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use kavka_member::{CommitOffset, MemberError, TopicPartition};
use tokio::sync::oneshot;

use super::error::of_member;
use crate::{Error, ErrorKind};

/// What a commit came to: the offsets that were committed, or what failed.
pub type CommitOutcome = Result<BTreeMap<TopicPartition, i64>, CommitError>;

/// Offsets to commit: for each partition the next offset to read, that is one after the last record that was worked on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets(pub(super) BTreeMap<TopicPartition, CommitOffset>);

impl Offsets {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a partition: `next_offset` is one after the last record that was worked on.
    #[must_use]
    pub fn with(self, partition: TopicPartition, next_offset: i64) -> Self {
        self.with_details(partition, next_offset, -1, None)
    }

    /// As [`Offsets::with`], with the leader epoch of that record (-1: not known; [`Record::leader_epoch`](super::Record::leader_epoch)),
    /// by which a truncated log is noticed, and with a note of at most 4096 characters, kept beside the offset.
    #[must_use]
    pub fn with_details(
        mut self,
        partition: TopicPartition,
        next_offset: i64,
        leader_epoch: i32,
        metadata: Option<&str>,
    ) -> Self {
        let metadata = metadata.map(Into::into);
        let offset = CommitOffset { offset: next_offset, leader_epoch, metadata };
        self.0.insert(partition, offset);
        self
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A commit that failed, wholly or for some partitions.
#[derive(Clone, Debug)]
pub struct CommitError {
    committed: BTreeMap<TopicPartition, i64>,
    failed: BTreeMap<TopicPartition, Error>,
    error: Error,
}

impl CommitError {
    pub(super) fn outcome(
        committed: BTreeMap<TopicPartition, i64>,
        failed: BTreeMap<TopicPartition, MemberError>,
    ) -> CommitOutcome {
        let failed: BTreeMap<TopicPartition, Error> =
            failed.into_iter().map(|(partition, error)| (partition, of_member(&error))).collect();
        match failed.iter().next() {
            None => Ok(committed),
            Some((partition, first)) => {
                let others = match failed.len() {
                    1 => String::new(),
                    number => format!(" and {} more", number - 1),
                };
                let error =
                    first.clone().while_doing(format_args!("committing {partition}{others}"));
                Err(Self { committed, failed, error })
            }
        }
    }

    pub(super) fn whole(error: Error) -> Self {
        Self { committed: BTreeMap::new(), failed: BTreeMap::new(), error }
    }

    pub(super) fn closed() -> Self {
        Self::whole(Error::new(ErrorKind::Closed, "the consumer is closed"))
    }

    /// What was committed all the same.
    pub fn committed(&self) -> &BTreeMap<TopicPartition, i64> {
        &self.committed
    }

    /// What was not, and why. Empty if the commit failed as a whole.
    pub fn failed(&self) -> &BTreeMap<TopicPartition, Error> {
        &self.failed
    }

    /// The first error.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Whether the same commit can succeed later. An older commit must not be sent after a newer one.
    pub fn is_retriable(&self) -> bool {
        self.error.is_retriable() && self.failed.values().all(Error::is_retriable)
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for CommitError {}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        error.error
    }
}

/// A commit that is under way, in the order it was asked for. Dropping it does not stop it.
#[derive(Debug)]
pub struct PendingCommit(pub(super) Result<oneshot::Receiver<CommitOutcome>, CommitError>);

impl Future for PendingCommit {
    type Output = CommitOutcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CommitOutcome> {
        match &mut self.0 {
            Err(error) => Poll::Ready(Err(error.clone())),
            Ok(receiver) => Pin::new(receiver)
                .poll(cx)
                .map(|outcome| outcome.unwrap_or_else(|_| Err(CommitError::closed()))),
        }
    }
}
