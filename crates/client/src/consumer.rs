//! Reading topics: alone, or as a member of a group.
//!
//! * [`Consumer`]: hands out records. [`ConsumerHandle`]: commits, seeks, pauses, from any task.
//! * [`Record`], [`Batch`]: what is read. [`PartitionStream`]: one partition apart from the others.
//! * [`RebalanceEvent`]: partitions come and go. [`UnackedRecord`]: records that are acknowledged one by one.
//!
//! Inside: the `driver` task owns the pure `kavka_member::Member` and does what it wants (`requests`); the `fetcher` keeps one fetch
//! per broker ahead (`session`); what was fetched lies in the `inbox` as `chunk`s, from which `reader`s hand it out.
//!
//! # When a record counts as consumed
//! When the application comes back for the next one, and not before. Automatic commits therefore never cover what is still being worked
//! on. [`Consumer::commit`] covers everything handed out so far: who calls it says that it is done with.
//!
//! # Recipes
//! **At least once** (nothing is lost; after a crash, some come again): work on the record, then commit. With automatic commits nothing
//! else is needed; for every batch to be committed before the next:
//! ```no_run
//! # async fn run(mut consumer: kavka_client::Consumer) -> Result<(), kavka_client::Error> {
//! while let Some(batch) = consumer.next_batch().await {
//!     for record in batch? {
//!         let record = record?;
//!         println!("{:?}", record.value);
//!     }
//!     consumer.commit().await?;
//! }
//! # Ok(()) }
//! ```
//!
//! **At most once** (nothing comes again; after a crash, some are lost): commit, then work. Automatic commits off.
//! ```no_run
//! # async fn run(mut consumer: kavka_client::Consumer) -> Result<(), kavka_client::Error> {
//! while let Some(record) = consumer.next().await {
//!     let record = record?;
//!     consumer.commit().await?;
//!     println!("{:?}", record.value());
//! }
//! # Ok(()) }
//! ```
//!
//! **Commit without waiting, and for certain at the end**: commits that are not waited for are not tried again, because a later one
//! makes up for them; the last one has none after it, so it is waited for.
//! ```no_run
//! # async fn run(mut consumer: kavka_client::Consumer, stop: impl Future<Output = ()>) -> Result<(), kavka_client::Error> {
//! tokio::pin!(stop);
//! loop {
//!     let record = tokio::select! {
//!         Some(record) = consumer.next() => record?,
//!         () = &mut stop => break,
//!     };
//!     println!("{:?}", record.value());
//!     drop(consumer.commit_async());
//! }
//! consumer.commit().await?;
//! consumer.close().await?;
//! # Ok(()) }
//! ```

mod ack;
mod assign;
mod builder;
mod chunk;
mod commit;
mod driver;
mod error;
mod events;
mod fetcher;
mod handle;
mod inbox;
mod lookup;
mod metrics;
mod process;
mod reader;
mod record;
mod requests;
mod session;
mod settings;
mod stream;

use std::{
    collections::BTreeSet,
    ops::Deref,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
pub use kavka_assignor as assignor;
pub use kavka_member::{Cause, OffsetReset, State as MemberState};
pub use kavka_protocol::records::{Headers, RecordHeader, RecordView};
use tokio::sync::{mpsc, oneshot};

pub use self::{
    ack::{Acker, UnackedRecord},
    builder::ConsumerBuilder,
    commit::{CommitError, CommitOutcome, Offsets, PendingCommit},
    events::{RebalanceEvent, RebalanceEvents, Revoking},
    handle::{ConsumerHandle, SeekTo},
    metrics::{CommitMetrics, ConsumerMetrics, FetchMetrics, GroupMetrics, PartitionMetrics},
    process::{DeadLetter, Ordering, Processed, Processor, Retry, Stopper},
    record::{Batch, BatchRecords, Header, Record},
    stream::PartitionStream,
};
use self::{driver::Command, reader::Reader};
use crate::{Error, ErrorKind, TopicPartition};

/// Reads records. See the [module](self) for when they count as consumed and for recipes.
///
/// It is a [`Stream`] of owned [`Record`]s; faster is [`Consumer::next_batch`], which lends what was fetched. It dereferences to its
/// [`ConsumerHandle`]: `consumer.subscribe(...)`, `consumer.seek(...)`; a clone of that, [`Consumer::handle`], may be used elsewhere.
///
/// Heartbeats are sent in the background. Still the application has to ask for records every `max.poll.interval.ms`, or its
/// partitions are given to others.
///
/// Dropping it never waits: the group is left in the background, if the runtime lives on. [`Consumer::close`] waits and reports.
#[derive(Debug)]
pub struct Consumer {
    handle: ConsumerHandle,
    reader: Reader,
    max_decompressed_bytes: usize,
}

/// How to close a consumer.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CloseOptions {
    /// How long it may take; 30 s.
    pub timeout: Duration,
    /// Whether to leave the group (KIP-1092). `None`: a dynamic member does; a static one stays a member until its session times out, so
    /// that it can come back.
    pub leave_group: Option<bool>,
}

impl Default for CloseOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), leave_group: None }
    }
}

impl CloseOptions {
    /// Sets how long it may take.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sets whether to leave the group.
    #[must_use]
    pub fn leave_group(self, leave: bool) -> Self {
        Self { leave_group: Some(leave), ..self }
    }
}

impl Consumer {
    /// Begins with Kafka's defaults.
    pub fn builder() -> ConsumerBuilder {
        ConsumerBuilder::default()
    }

    /// For use in other tasks.
    pub fn handle(&self) -> ConsumerHandle {
        self.handle.clone()
    }

    /// The next record of any partition that has no stream of its own. Waits until there is one. `None` after the consumer was
    /// closed or has failed for good, which an error before said.
    ///
    /// The record before counts as consumed from here on.
    ///
    /// Cancel safe: no record is lost.
    ///
    /// # Errors
    /// What went wrong since; the next call goes on. [`ErrorKind::NoOffset`], [`ErrorKind::LogTruncated`]: seek; [`ErrorKind::Record`]:
    /// bytes that are no records, which are fetched again, or seek past them; [`ErrorKind::Authorization`].
    pub async fn next(&mut self) -> Option<Result<Record, Error>> {
        std::future::poll_fn(|cx| self.reader.poll_record(cx)).await
    }

    /// Lends the next batch of records of any partition that has no stream of its own: as its producer wrote it, or what is left of it
    /// from the position on. Waits until there is one. `None` as with [`Consumer::next`].
    ///
    /// The batch before counts as consumed from here on.
    ///
    /// Cancel safe: no record is lost.
    ///
    /// # Errors
    /// As [`Consumer::next`].
    pub async fn next_batch(&mut self) -> Option<Result<Batch<'_>, Error>> {
        lend(&mut self.reader).await
    }

    /// The next record, to be acknowledged: it counts as consumed only when [`UnackedRecord::ack`] was called for it and for all before it in
    /// its partition. Many may be under way at once, in any order. When their partition is revoked, the rebalance waits until all are
    /// acknowledged, for as long as `drain_timeout` says.
    ///
    /// Cancel safe: no record is lost.
    ///
    /// # Errors
    /// As [`Consumer::next`].
    pub async fn next_unacked(&mut self) -> Option<Result<UnackedRecord, Error>> {
        std::future::poll_fn(|cx| self.reader.poll_unacked(cx)).await
    }

    /// A stream of one partition, for a task of its own; its records no longer come with [`Consumer::next`]. It begins after the last
    /// record of the partition that was handed out, which counts as consumed from here on.
    ///
    /// # Errors
    /// The partition is not assigned to this consumer, or it has such a stream already.
    pub fn partition_stream(
        &mut self,
        partition: &TopicPartition,
    ) -> Result<PartitionStream, Error> {
        self.reader.leave(partition);
        let shared = self.handle.shared();
        let reader = Reader::of(shared, partition, self.max_decompressed_bytes).ok_or_else(|| {
            let message = format!("{partition} is not assigned to this consumer, or has a stream of its own already");
            Error::new(ErrorKind::Config, message)
        })?;
        Ok(PartitionStream { partition: partition.clone(), reader })
    }

    /// What happens to the partitions of this consumer, from here on. Take it before subscribing. May be called several times;
    /// a rebalance waits for all, as [`RebalanceEvents`] says.
    pub fn events(&self) -> RebalanceEvents {
        let (sender, events) = mpsc::unbounded_channel();
        // A consumer that is closed has no more events: the stream ends at once.
        let _ = self.handle.send(Command::Events(sender));
        RebalanceEvents { events }
    }

    /// Commits everything that was handed out so far, the record in hand included, and waits for it; tried again for at most
    /// `default.api.timeout.ms`. During a rebalance it waits for the new generation, and fails for what is not owned any more.
    ///
    /// Cancel safe: the commit goes on.
    ///
    /// # Errors
    /// As [`ConsumerHandle::commit`].
    pub async fn commit(&mut self) -> CommitOutcome {
        self.reader.settle();
        self.handle.commit().await
    }

    /// As [`Consumer::commit`], without waiting, in one attempt; see [`ConsumerHandle::commit_async`].
    pub fn commit_async(&mut self) -> PendingCommit {
        self.reader.settle();
        self.handle.commit_async()
    }

    /// Gives up everything and leaves the group; with automatic commits, what was consumed is committed first, except of partitions that
    /// were assigned by hand. What is in hand does not count as consumed. Goes on in the background.
    ///
    /// Cancel safe: once polled, it is done.
    ///
    /// # Errors
    /// The consumer is closed.
    pub async fn unsubscribe(&mut self) -> Result<(), Error> {
        self.reader.release();
        self.handle.unsubscribe().await
    }

    /// Works on records with many handlers at once, as far as `ordering` allows, and commits what is finished; see [`Processor`].
    ///
    /// # Panics
    /// `concurrency` is 0.
    pub fn process(self, ordering: Ordering, concurrency: usize) -> Processor {
        Processor::new(self, ordering, concurrency)
    }

    /// The application is there, though it asks for nothing now.
    fn touch(&self) {
        if self.handle.shared().lock().note_poll() {
            self.handle.shared().driver.notify_one();
        }
    }

    /// Partitions of which records are not acknowledged yet.
    pub fn unacknowledged(&self) -> BTreeSet<TopicPartition> {
        self.handle.shared().lock().unacknowledged()
    }

    /// Commits what was consumed, if commits are automatic, and leaves the group; for at most 30 s. What is in hand does not count as
    /// consumed: [`Consumer::commit`] before, if it is done with. [`RebalanceEvents`] that are held and not read cost a second, a
    /// [`Revoking`] that is held half of the time.
    ///
    /// Cancel safe: closing goes on in the background.
    ///
    /// # Errors
    /// Not everything could be done in time. The consumer is closed all the same.
    pub async fn close(self) -> Result<(), Error> {
        self.close_with(CloseOptions::default()).await
    }

    /// As [`Consumer::close`], with options.
    ///
    /// Cancel safe: closing goes on in the background.
    ///
    /// # Errors
    /// As [`Consumer::close`].
    pub async fn close_with(mut self, options: CloseOptions) -> Result<(), Error> {
        self.reader.release();
        let (reply, receiver) = oneshot::channel();
        let CloseOptions { timeout, leave_group: leave } = options;
        self.handle.send(Command::Close { timeout, leave, reply: Some(reply) })?;
        receiver.await.map_err(|_| handle::closed())?
    }
}

/// Waits for a batch, then lends it. What is lent is borrowed only when nothing is waited for any more.
async fn lend(reader: &mut Reader) -> Option<Result<Batch<'_>, Error>> {
    match std::future::poll_fn(|cx| reader.poll_batch(cx)).await? {
        Ok(()) => {}
        Err(error) => return Some(Err(error)),
    }
    reader.lend()
}

impl Deref for Consumer {
    type Target = ConsumerHandle;

    fn deref(&self) -> &ConsumerHandle {
        &self.handle
    }
}

impl Stream for Consumer {
    type Item = Result<Record, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.reader.poll_record(cx)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // After close there is nobody who takes it.
        let timeout = driver::ABANDONED;
        let _ = self.handle.send(Command::Close { timeout, leave: None, reply: None });
    }
}
