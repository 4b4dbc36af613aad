//! The calls of a consumer that need not be made where its records are read.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use bytestring::ByteString;
use kavka_member::{CommitMode, IsolationLevel, OffsetTarget, Position, TopicPartition};
use regex_lite::Regex;
use tokio::sync::{mpsc, oneshot};

use super::{
    commit::{CommitError, CommitOutcome, Offsets, PendingCommit},
    driver::Command,
    inbox::SharedInbox,
    metrics::ConsumerMetrics,
};
use crate::{Error, ErrorKind, cluster::Cluster};

/// Where a consumer goes on reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeekTo {
    /// The first record.
    Beginning,
    /// After the last record; with `isolation.level=read_committed`, after the last that is not in an open transaction.
    End,
    /// This offset.
    Offset(i64),
    /// The first record with this timestamp, in milliseconds since the Unix epoch, or a later one; after the last record if there is
    /// none.
    Timestamp(i64),
}

/// Commits, seeks, pauses and asks for a consumer, from any task. Cheap to clone. When the consumer is closed or dropped, calls fail
/// with [`ErrorKind::Closed`].
#[derive(Clone)]
pub struct ConsumerHandle(Arc<Inner>);

struct Inner {
    commands: mpsc::UnboundedSender<Command>,
    shared: SharedInbox,
    cluster: Cluster,
    group_id: Option<ByteString>,
    api_timeout: Duration,
    isolation_level: IsolationLevel,
}

impl fmt::Debug for ConsumerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerHandle").field("group_id", &self.0.group_id).finish_non_exhaustive()
    }
}

impl ConsumerHandle {
    pub(super) fn new(
        commands: mpsc::UnboundedSender<Command>,
        shared: SharedInbox,
        cluster: Cluster,
        group_id: Option<ByteString>,
        isolation_level: IsolationLevel,
    ) -> Self {
        let api_timeout = cluster.settings().default_api_timeout;
        let inner = Inner { commands, shared, cluster, group_id, api_timeout, isolation_level };
        Self(Arc::new(inner))
    }

    pub(super) fn commands(&self) -> &mpsc::UnboundedSender<Command> {
        &self.0.commands
    }

    pub(super) fn shared(&self) -> &SharedInbox {
        &self.0.shared
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.0.cluster
    }

    pub(super) fn isolation_level(&self) -> IsolationLevel {
        self.0.isolation_level
    }

    /// The group, if there is one.
    pub fn group_id(&self) -> Option<&ByteString> {
        self.0.group_id.as_ref()
    }

    // ---- what to read ----

    /// Takes part in the group with these topics, or with these in place of the former. Returns at once; what is assigned comes with
    /// [`RebalanceEvent::Assigned`](super::RebalanceEvent::Assigned) and as records. A topic that does not exist yet is read from when
    /// it does. Without any topic it is the same as [`unsubscribe`](Self::unsubscribe).
    ///
    /// Cancel safe: once polled, it is done.
    ///
    /// # Errors
    /// There is no `group.id`, partitions are assigned by hand (unsubscribe first), a name is no topic's, or the consumer is closed.
    pub async fn subscribe<T: AsRef<str>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<(), Error> {
        let topics: BTreeSet<ByteString> =
            topics.into_iter().map(|topic| ByteString::from(topic.as_ref())).collect();
        if topics.is_empty() && self.group_id().is_some() {
            return self.unsubscribe().await;
        }
        self.ask(|reply| Command::Subscribe(topics, reply)).await
    }

    /// As [`subscribe`](Self::subscribe), with every topic whose whole name matches a regular expression, now and as they are made; they
    /// are looked for every `metadata.max.age.ms`. Kafka's own topics are left out unless `exclude.internal.topics` is false.
    ///
    /// Cancel safe: once polled, it is done.
    ///
    /// # Errors
    /// As `subscribe`, or the pattern is no regular expression (syntax of the crate `regex`, without Unicode classes).
    pub async fn subscribe_pattern(&self, pattern: &str) -> Result<(), Error> {
        let whole = Regex::new(&format!("^(?:{pattern})$")).map_err(|error| {
            Error::new(
                ErrorKind::Config,
                format!("the pattern \"{pattern}\" cannot be read: {error}"),
            )
        })?;
        self.ask(|reply| Command::SubscribePattern(whole, reply)).await
    }

    /// Reads these partitions without being a member of the group, or these in place of the former. Those that were assigned before go
    /// on where they are; of those that are left out nothing is committed by this. They begin where the group has committed, else as
    /// `auto.offset.reset` says; or [`seek`](Self::seek).
    ///
    /// Cancel safe: once polled, it is done.
    ///
    /// # Errors
    /// Topics are subscribed to (unsubscribe first), or the consumer is closed.
    pub async fn assign(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<(), Error> {
        let partitions = partitions.into_iter().collect();
        self.ask(|reply| Command::Assign(partitions, reply)).await
    }

    /// Gives up everything and leaves the group; with automatic commits, what was consumed is committed first, except of partitions that
    /// were assigned by hand. Goes on in the background.
    ///
    /// Cancel safe: once polled, it is done.
    ///
    /// # Errors
    /// The consumer is closed.
    pub async fn unsubscribe(&self) -> Result<(), Error> {
        self.ask(Command::Unsubscribe).await
    }

    /// What is owned now.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// The consumer is closed.
    pub async fn assignment(&self) -> Result<BTreeSet<TopicPartition>, Error> {
        let (reply, receiver) = oneshot::channel();
        self.send(Command::Owned(reply))?;
        receiver.await.map_err(|_| closed())
    }

    /// Joins the group anew although nothing has changed (KIP-568), for instance because an assignor looks at something outside. The
    /// reason is sent to the broker (KIP-800). Does nothing outside a group or while a rebalance is under way.
    ///
    /// # Errors
    /// The consumer is closed.
    pub fn enforce_rebalance(&self, reason: &str) -> Result<(), Error> {
        self.send(Command::EnforceRebalance(reason.into()))
    }

    // ---- where to read ----

    /// Goes on reading a partition elsewhere. No record of before comes after this returns; what was in hand does not count as
    /// consumed any more.
    ///
    /// Cancel safe: once polled, it is done.
    ///
    /// # Errors
    /// The partition is not assigned to this consumer, the offset is negative, or the consumer is closed.
    pub async fn seek(&self, partition: &TopicPartition, to: SeekTo) -> Result<(), Error> {
        let target = match to {
            SeekTo::Beginning => OffsetTarget::Earliest,
            SeekTo::End => OffsetTarget::Latest,
            SeekTo::Timestamp(at) => OffsetTarget::Timestamp(at.max(0)),
            SeekTo::Offset(offset) if offset < 0 => {
                let message = format!("{partition} has no offset {offset}");
                return Err(Error::new(ErrorKind::Config, message));
            }
            SeekTo::Offset(offset) => OffsetTarget::At(Position { offset, leader_epoch: -1 }),
        };
        let partition = partition.clone();
        self.ask(|reply| Command::Seek(partition, target, reply)).await
    }

    /// The offset after the last consumed record: where reading begins if nothing more is consumed. Waits until it is known, for at
    /// most `default.api.timeout.ms`.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// The partition is not assigned to this consumer, there is no offset to start from, or time is up.
    pub async fn position(&self, partition: &TopicPartition) -> Result<i64, Error> {
        let timeout = self.0.api_timeout;
        let asked = partition.clone();
        let position = self.ask(|reply| Command::Position(asked, reply));
        tokio::time::timeout(timeout, position).await.unwrap_or_else(|_| {
            let message = format!("no position of {partition} was found within {timeout:?}");
            Err(Error::new(ErrorKind::TimedOut, message))
        })
    }

    /// How many offsets the log is ahead of the position, as the last fetch had it; `None` before the first.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// The partition is not assigned to this consumer, or the consumer is closed.
    pub async fn lag(&self, partition: &TopicPartition) -> Result<Option<i64>, Error> {
        let partition = partition.clone();
        self.ask(|reply| Command::Lag(partition, reply)).await
    }

    /// What this consumer has done since it was made, and where it stands: fetches, commits, rebalances, each partition's position and
    /// lag, the last error.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// The consumer is closed.
    pub async fn metrics(&self) -> Result<ConsumerMetrics, Error> {
        let (reply, receiver) = oneshot::channel();
        self.send(Command::Metrics(reply))?;
        receiver.await.map_err(|_| closed())
    }

    /// Hands out and fetches nothing of these until [`resume`](Self::resume). Heartbeats go on; so must the asking for records, for
    /// `max.poll.interval.ms` does too. A partition that is taken away and comes back is not paused.
    ///
    /// # Errors
    /// The consumer is closed.
    pub fn pause(&self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<(), Error> {
        self.set_paused(partitions, true)
    }

    /// Goes on after [`pause`](Self::pause), where it was.
    ///
    /// # Errors
    /// The consumer is closed.
    pub fn resume(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<(), Error> {
        self.set_paused(partitions, false)
    }

    fn set_paused(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
        is_paused: bool,
    ) -> Result<(), Error> {
        let partitions: BTreeSet<TopicPartition> = partitions.into_iter().collect();
        {
            // Here too, so that it holds when this returns.
            let mut inbox = self.0.shared.lock();
            partitions.iter().for_each(|partition| inbox.set_paused(partition, is_paused));
        }
        self.send(Command::Pause(partitions, is_paused))
    }

    // ---- commits ----

    /// Commits what was consumed, and waits for it; tried again for at most `default.api.timeout.ms`. What the application still has in
    /// hand is not in it: from the task that reads, use [`Consumer::commit`](super::Consumer::commit).
    ///
    /// Cancel safe: the commit goes on.
    ///
    /// # Errors
    /// By partition: lost ownership (the next owner reads it again), no authorization, time is up. There is no `group.id`, or the
    /// consumer is closed.
    pub async fn commit(&self) -> CommitOutcome {
        self.start_commit(None, true).await
    }

    /// As [`commit`](Self::commit), with offsets of one's own; each is one after the last record that was worked on.
    ///
    /// Cancel safe: the commit goes on.
    ///
    /// # Errors
    /// As `commit`; lost ownership also where a partition was never owned.
    pub async fn commit_offsets(&self, offsets: Offsets) -> CommitOutcome {
        self.start_commit(Some(offsets), true).await
    }

    /// Commits what was consumed without waiting, in one attempt. Commits are sent in the order of the calls; what comes back is the
    /// result, which need not be awaited. What fails because of a rebalance is sent again while the partition is owned.
    pub fn commit_async(&self) -> PendingCommit {
        self.start_commit(None, false)
    }

    /// As [`commit_async`](Self::commit_async), with offsets of one's own.
    pub fn commit_offsets_async(&self, offsets: Offsets) -> PendingCommit {
        self.start_commit(Some(offsets), false)
    }

    fn start_commit(&self, offsets: Option<Offsets>, waits: bool) -> PendingCommit {
        if self.0.group_id.is_none() {
            let error = Error::new(ErrorKind::Config, "committing needs a group.id");
            return PendingCommit(Err(CommitError::whole(error)));
        }
        let mode = if waits {
            CommitMode::Sync { timeout: self.0.api_timeout }
        } else {
            CommitMode::Async
        };
        let (reply, receiver) = oneshot::channel();
        let offsets = offsets.map(|offsets| offsets.0);
        let sent = self.send(Command::Commit { offsets, mode, reply });
        PendingCommit(sent.map(|()| receiver).map_err(CommitError::whole))
    }

    // ---- the driver ----

    pub(super) fn send(&self, command: Command) -> Result<(), Error> {
        self.0.commands.send(command).map_err(|_| closed())
    }

    pub(super) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command,
    ) -> Result<T, Error> {
        let (reply, receiver) = oneshot::channel();
        self.send(command(reply))?;
        receiver.await.map_err(|_| closed())?
    }
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the consumer is closed")
}
