//! What the application is told of rebalances.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use kavka_member::{Cause, TopicPartition};
use tokio::{sync::mpsc, time::Instant};

use super::{driver::Command, handle::ConsumerHandle};

/// A change of what a consumer owns. Those of one partition alternate: assigned, then either revoking and revoked, or lost.
#[derive(Debug)]
#[non_exhaustive]
pub enum RebalanceEvent {
    /// A rebalance is over.
    Assigned {
        /// Owned from now on; may be empty. [`ConsumerHandle::seek`] works from here on.
        added: Vec<TopicPartition>,
        /// Everything that is owned now.
        owned: Vec<TopicPartition>,
        /// The generation of the group.
        generation: i32,
    },
    /// Partitions are about to be taken away; commits of them are still taken.
    Revoking(Revoking),
    /// Partitions are not owned any more. Commits of them fail from here on.
    Revoked(Vec<TopicPartition>),
    /// Partitions were taken away without notice: others may own them already, and read what was not committed.
    Lost {
        /// Which.
        partitions: Vec<TopicPartition>,
        /// Why.
        cause: Cause,
    },
}

/// Partitions that are about to be taken away. The rebalance waits until this is dropped, [`Revoking::deadline`] at most: finish what
/// is under way, commit, drop it.
#[derive(Debug)]
pub struct Revoking {
    pub(super) partitions: Vec<TopicPartition>,
    pub(super) deadline: Instant,
    pub(super) cause: Cause,
    pub(super) handle: ConsumerHandle,
    pub(super) guard: DrainGuard,
}

/// Names a [`DrainGuard`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GuardId(pub(super) u64);

/// Tells the driver when it goes.
#[derive(Debug)]
pub(super) struct DrainGuard {
    pub(super) id: GuardId,
    /// Somebody has read the event.
    pub(super) is_taken: Arc<AtomicBool>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        // A driver that is gone waits for nobody.
        let _ = self.commands.send(Command::Finished(self.id));
    }
}

impl Revoking {
    /// Which. No records of them are handed out any more.
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// When the rebalance goes on in any case.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How much time is left.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Why, as far as it is known.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// For commits of what was finished.
    pub fn handle(&self) -> &ConsumerHandle {
        &self.handle
    }

    /// Everything is finished; the rebalance may go on. The same as dropping it.
    pub fn finish(self) {
        drop(self.guard);
    }
}

/// The rebalances of a consumer, as they happen. Take it before subscribing, and read it, in a task of its own or beside the records.
/// Ends when the consumer is closed.
///
/// What holds up a rebalance, or [`Consumer::close`](super::Consumer::close):
///
/// * a [`Revoking`] that was read and is held: until its deadline;
/// * one that nobody reads: for 5 s from when no record is in hand any more, at close for 1 s. It comes all the same when the stream is
///   read later; the partitions are gone then;
/// * a stream that was dropped: not at all.
#[derive(Debug)]
pub struct RebalanceEvents {
    pub(super) events: mpsc::UnboundedReceiver<RebalanceEvent>,
}

impl RebalanceEvents {
    /// The next event; `None` when the consumer is closed.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<RebalanceEvent> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for RebalanceEvents {
    type Item = RebalanceEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<RebalanceEvent>> {
        let event = ready!(self.events.poll_recv(cx));
        if let Some(RebalanceEvent::Revoking(revoking)) = &event {
            revoking.guard.is_taken.store(true, Ordering::Release);
        }
        Poll::Ready(event)
    }
}
