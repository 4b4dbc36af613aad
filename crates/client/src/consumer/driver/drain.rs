//! A revocation that waits for the application: until it has nothing more in hand, and whoever was told has let go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kavka_member::{Cause, Input, TopicPartition};
use tokio::time::Instant;

use super::Driver;
use crate::consumer::events::{DrainGuard, GuardId, RebalanceEvent, Revoking};

/// So long a revocation waits for somebody to take it off a stream of events, when the application has nothing else in hand.
const UNREAD: Duration = Duration::from_secs(5);

/// The same while the consumer is being closed.
const UNREAD_AT_CLOSE: Duration = Duration::from_secs(1);

/// Who holds up a revocation.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) id: GuardId,
    /// Somebody has taken the event off its stream.
    is_taken: Arc<AtomicBool>,
}

impl Driver {
    /// When events that nobody reads do not hold up a revocation any more.
    pub(super) fn unread_until(&self) -> Option<Instant> {
        let is_unread = |guard: &Guard| !guard.is_taken.load(Ordering::Acquire);
        let since = self.drained_since.filter(|_| self.guards.iter().any(is_unread))?;
        Some(since + if self.is_closing { UNREAD_AT_CLOSE } else { UNREAD })
    }

    /// Lets a rebalance go on when the application is done with what is revoked.
    pub(super) fn maybe_drained(&mut self, is_drained: bool) {
        if self.drain.is_none() || !is_drained {
            self.drained_since = None;
            return;
        }
        let now = Instant::now();
        self.drained_since.get_or_insert(now);
        if self.unread_until().is_some_and(|time| time <= now) {
            tracing::warn!(
                "a stream of rebalance events is held but not read: its revocation is not waited for"
            );
            self.guards.retain(|guard| guard.is_taken.load(Ordering::Acquire));
        }
        if self.guards.is_empty()
            && let Some(drain) = self.drain.take()
        {
            self.drained_since = None;
            self.step(Input::Drained(drain));
        }
    }

    pub(super) fn tell_revoking(
        &mut self,
        partitions: &[TopicPartition],
        deadline: Instant,
        cause: &Cause,
    ) {
        let Self { handle, guards, last_guard, events, .. } = self;
        events.retain(|events| {
            *last_guard += 1;
            let (id, is_taken) = (GuardId(*last_guard), Arc::new(AtomicBool::new(false)));
            guards.push(Guard { id, is_taken: Arc::clone(&is_taken) });
            let revoking = Revoking {
                partitions: partitions.to_vec(),
                deadline,
                cause: cause.clone(),
                handle: handle.clone(),
                guard: DrainGuard { id, is_taken, commands: handle.commands().clone() },
            };
            // If nobody can read it, it is dropped with its guard, whose message names it once more.
            events.send(RebalanceEvent::Revoking(revoking)).is_ok()
        });
    }
}
