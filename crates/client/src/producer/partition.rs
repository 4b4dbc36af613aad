//! One partition's batches: those that are collected, those on the wire, those that come back.
//!
//! Owns their order and their sequences. Does not know connections: [`Node`](super::node::Node)s take batches and bring verdicts.
//!
//! **Architecture invariants:** batches leave in the order in which their records came. Once one comes back to be sent again, none
//! leaves before all that were on the wire are back; then they leave again in their old order, and if they are numbered, one by one. A batch keeps the sequence it was
//! first sent with, unless it is known that the broker has not written it with that: only then may the identity change.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytestring::ByteString;
use kavka_protocol::records::increment_sequence;
use tokio::time::Instant;

use super::{
    batch::{Batch, Identity, Sequence},
    clock::Clock,
    delivery::{Observer, Outcome, Promise},
};
use crate::Error;

/// No broker.
pub(super) const NOBODY: i32 = -1;

/// See the module.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) topic: ByteString,
    pub(super) index: i32,
    /// How many batches wait; for the choice of partitions.
    queued: AtomicU32,
    /// The broker to send to; a copy of the one in the state.
    leader: AtomicI32,
    state: Mutex<State>,
}

/// What the lock protects.
#[derive(Debug)]
pub(super) struct State {
    /// In the order of their records; only the last may be open.
    queue: VecDeque<Batch>,
    /// On the wire, in order.
    in_flight: VecDeque<InFlight>,
    /// Who brings the answers.
    in_flight_at: i32,
    /// Came back to be sent again, in order, while others are on the wire still.
    returned: VecDeque<Batch>,
    leader: i32,
    /// How often it was put into a node's list of ready partitions, and whether the last entry is still to be used.
    listings: u64,
    is_listed: bool,
    /// Nothing leaves before this.
    not_before: Option<Instant>,
    /// When the newest batch was begun.
    last_begun: Option<Instant>,
    /// For the timestamps of records.
    pub(super) clock: Clock,
    /// What batches are numbered with.
    identity: Option<Identity>,
    next_sequence: i32,
    /// The broker's sequences and ours do not go together any more; what is in the queue is not written.
    needs_new_identity: bool,
    /// A numbered batch was given up, and it is not known whether it is written.
    has_gap: bool,
}

/// A batch on the wire, as seen from its partition.
#[derive(Debug)]
struct InFlight {
    promise: Arc<Promise>,
    deadline: Instant,
    is_numbered: bool,
    is_again: bool,
}

/// Gives the newest identity, newer than the one it is given if there is one; `None` if one has to be asked for first.
pub(super) type IdentityAfter<'a> = &'a dyn Fn(Option<Identity>) -> Option<Identity>;

/// Whether a partition has something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// No, until something happens to it.
    No,
    /// At this time.
    At(Instant),
    /// Now.
    Now,
}

/// What is to be done with a batch that was on the wire.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is written.
    Written { base_offset: Option<i64>, log_append_time_ms: Option<i64> },
    /// It may be sent again after a pause; it may be written, if nobody can know.
    Retry { error: Error, pause: Option<Duration>, may_be_written: bool },
    /// As [`Verdict::Retry`]; and the broker wants another sequence.
    OutOfOrder { error: Error, pause: Option<Duration>, is_certain: bool },
    /// It is not written, being too large.
    TooLarge(Error),
    /// It is not written and never will be.
    Failed(Outcome),
}

impl Partition {
    pub(super) fn new(topic: ByteString, index: i32) -> Arc<Self> {
        Arc::new(Self {
            topic,
            index,
            queued: AtomicU32::new(0),
            leader: AtomicI32::new(NOBODY),
            state: Mutex::new(State {
                queue: VecDeque::new(),
                in_flight: VecDeque::new(),
                in_flight_at: NOBODY,
                returned: VecDeque::new(),
                leader: NOBODY,
                listings: 0,
                is_listed: false,
                not_before: None,
                last_begun: None,
                clock: Clock::default(),
                identity: None,
                next_sequence: 0,
                needs_new_identity: false,
                has_gap: false,
            }),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Batches that wait.
    pub(super) fn queued(&self) -> u32 {
        self.queued.load(Ordering::Relaxed)
    }

    /// The broker to send to, or [`NOBODY`].
    pub(super) fn leader(&self) -> i32 {
        self.leader.load(Ordering::Relaxed)
    }

    /// Takes the leader that metadata names. Returns whether it is another one.
    pub(super) fn set_leader(&self, state: &mut State, leader: i32) -> bool {
        if state.leader == leader {
            return false;
        }
        state.leader = leader;
        state.is_listed = false;
        // The other broker is not the one that asked for a pause.
        state.not_before = None;
        self.leader.store(leader, Ordering::Relaxed);
        true
    }

    /// Shows the length of the queue to who chooses partitions. To be called after changes, under the lock.
    pub(super) fn show_queued(&self, state: &State) {
        // Batches are far fewer than 2^32: each has memory of its own.
        self.queued.store((state.queue.len() + state.returned.len()) as u32, Ordering::Relaxed);
    }
}

impl State {
    pub(super) fn leader(&self) -> i32 {
        self.leader
    }

    /// Begins a listing unless there is one. Returns its number.
    pub(super) fn list(&mut self) -> Option<u64> {
        if std::mem::replace(&mut self.is_listed, true) {
            return None;
        }
        self.listings += 1;
        Some(self.listings)
    }

    /// Ends a listing. Returns whether it was the newest: else the partition was taken from that list, and may be in the same one again.
    pub(super) fn unlist(&mut self, listing: u64) -> bool {
        let is_newest = self.is_listed && self.listings == listing;
        self.is_listed &= !is_newest;
        is_newest
    }

    /// The batch that takes records, if there is one.
    pub(super) fn open_batch(&mut self) -> Option<&mut Batch> {
        self.queue.back_mut().filter(|batch| batch.is_open())
    }

    pub(super) fn push(&mut self, batch: Batch) {
        self.close_open();
        self.last_begun = Some(batch.opened);
        self.queue.push_back(batch);
    }

    /// The open batch takes no more records.
    pub(super) fn close_open(&mut self) {
        if let Some(batch) = self.open_batch() {
            batch.close();
        }
    }

    /// Whether no batch is waiting for anything.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.returned.is_empty() && self.in_flight.is_empty()
    }

    /// Whether nothing was sent to it since then, and nothing is left to send.
    pub(super) fn is_idle_since(&self, time: Instant) -> bool {
        self.is_empty() && self.last_begun.is_none_or(|begun| begun <= time)
    }

    /// Whether there is something to send at `now`; `is_pressed` says that nothing may linger.
    pub(super) fn readiness(
        &self,
        now: Instant,
        linger: Duration,
        batch_size: usize,
        is_pressed: bool,
    ) -> Readiness {
        let Some(front) = self.queue.front() else { return Readiness::No };
        // What is on the wire to an earlier leader is waited for, or it could be overtaken.
        let is_moving = !self.in_flight.is_empty() && self.in_flight_at != self.leader;
        if self.leader == NOBODY || is_moving || !self.returned.is_empty() {
            return Readiness::No;
        }
        // A new number is given only when it is known which one the broker expects. What is sent again goes alone: if it was written the
        // first time, and the broker refuses it for some other reason now but takes what comes after it, then it would soon not
        // be among the five batches any more by which the broker tells that it has it.
        let is_again = front.sequence.is_some();
        if !self.in_flight.is_empty() && (is_again || self.is_unsure()) {
            return Readiness::No;
        }
        let may_linger =
            front.is_open() && front.attempts == 0 && !is_pressed && front.size() < batch_size;
        let lingers_until = if may_linger { front.opened.checked_add(linger) } else { Some(now) };
        let Some(due) = lingers_until else { return Readiness::No };
        match self.not_before.map_or(due, |time| time.max(due)) {
            due if due > now => Readiness::At(due),
            _ => Readiness::Now,
        }
    }

    /// Whether something numbered was given up or is sent again, and may be written or not.
    fn is_unsure(&self) -> bool {
        let mut numbered = self.in_flight.iter().filter(|batch| batch.is_numbered);
        self.has_gap
            || self.needs_new_identity
            || numbered.any(|batch| batch.is_again || batch.promise.is_settled())
    }

    /// How large the next batch is at most.
    pub(super) fn front_size(&self) -> usize {
        self.queue.front().map_or(0, Batch::size)
    }

    /// Takes the next batch to send it, numbered if there is something to number with. `None` if an identity has to be asked for first.
    pub(super) fn take(&mut self, identity_after: Option<IdentityAfter<'_>>) -> Option<Batch> {
        if let Some(identity_after) = identity_after {
            self.number_front(identity_after)?;
        }
        let mut batch = self.queue.pop_front()?;
        batch.close();
        batch.attempts += 1;
        self.in_flight_at = self.leader;
        self.in_flight.push_back(InFlight {
            promise: Arc::clone(&batch.promise),
            deadline: batch.deadline,
            is_numbered: batch.sequence.is_some(),
            is_again: batch.attempts > 1,
        });
        Some(batch)
    }

    /// Gives the front batch its sequence. `None` if there is no identity to do it with.
    fn number_front(&mut self, identity_after: IdentityAfter<'_>) -> Option<()> {
        let front_is_new = self.queue.front()?.sequence.is_none();
        if self.in_flight.is_empty() {
            if self.needs_new_identity || (self.has_gap && front_is_new) {
                // What is numbered is known not to be written; it gets new numbers in turn.
                let identity = identity_after(self.identity)?;
                for batch in &mut self.queue {
                    batch.sequence = None;
                }
                self.adopt(identity);
                self.needs_new_identity = false;
                self.has_gap = false;
            } else if front_is_new {
                let newest = identity_after(None)?;
                if self.identity != Some(newest) {
                    self.adopt(newest);
                }
            }
        }
        let identity = self.identity?;
        let base = self.next_sequence;
        let front = self.queue.front_mut()?;
        if front.sequence.is_none() {
            front.sequence = Some(Sequence { identity, base });
            // Counts of records are those of int32 offsets.
            self.next_sequence = increment_sequence(base, front.records() as i32);
        }
        Some(())
    }

    fn adopt(&mut self, identity: Identity) {
        self.identity = Some(identity);
        self.next_sequence = 0;
    }

    /// Does what the verdict on the oldest batch on the wire asks for.
    pub(super) fn conclude(
        &mut self,
        mut batch: Batch,
        verdict: Verdict,
        now: Instant,
        max_retries: u32,
    ) {
        let on_wire = self.in_flight.pop_front();
        assert!(
            on_wire.is_some_and(|on_wire| Arc::ptr_eq(&on_wire.promise, &batch.promise)),
            "answers come in the order of the batches"
        );
        match verdict {
            Verdict::Written { base_offset, log_append_time_ms } => {
                // One that came after what was given up is written, so that was written too.
                self.has_gap = false;
                batch.promise.settle(Outcome::Written { base_offset, log_append_time_ms });
            }
            Verdict::Retry { error, pause, may_be_written } => {
                batch.may_be_written |= may_be_written;
                self.take_back(batch, error, pause, now, max_retries);
            }
            Verdict::OutOfOrder { error, pause, is_certain } => {
                // Behind others that come back it had to be refused. If it is the next in order, the broker has lost what was before, or never
                // got what was given up.
                if is_certain || self.returned.is_empty() {
                    self.needs_new_identity = true;
                }
                self.take_back(batch, error, pause, now, max_retries);
            }
            // What may be written as a whole must not be written in parts.
            Verdict::TooLarge(error) if batch.records() < 2 || batch.may_be_written => {
                self.fail(&batch, Outcome::Failed(error));
            }
            Verdict::TooLarge(error) => self.split(batch, error),
            Verdict::Failed(outcome) => self.fail(&batch, outcome),
        }
        if self.in_flight.is_empty() {
            while let Some(batch) = self.returned.pop_back() {
                self.queue.push_front(batch);
            }
        }
    }

    /// A batch is given up. What was sent after it keeps its number until the broker has refused that: an earlier attempt of both may
    /// have been written.
    fn fail(&mut self, batch: &Batch, outcome: Outcome) {
        self.has_gap |= batch.sequence.is_some();
        batch.promise.settle(outcome);
    }

    fn split(&mut self, batch: Batch, error: Error) {
        let promise = Arc::clone(&batch.promise);
        let is_numbered = batch.sequence.is_some();
        match batch.split() {
            Ok(Some((first, second))) => {
                self.returned.push_back(first);
                self.returned.push_back(second);
            }
            // It was given up meanwhile.
            Ok(None) => {
                self.has_gap |= is_numbered;
                promise.settle(Outcome::Failed(error));
            }
            Err(error) => {
                self.has_gap |= is_numbered;
                promise.settle(Outcome::Failed(error));
            }
        }
    }

    fn take_back(
        &mut self,
        mut batch: Batch,
        error: Error,
        pause: Option<Duration>,
        now: Instant,
        max_retries: u32,
    ) {
        if batch.promise.is_settled() {
            self.has_gap |= batch.sequence.is_some();
            return;
        }
        if batch.attempts > max_retries {
            self.has_gap |= batch.sequence.is_some();
            batch.promise.settle(Outcome::Failed(error));
            return;
        }
        if let Some(pause) = pause {
            self.not_before = self.not_before.max(Some(now + pause));
        }
        batch.last_error = Some(error);
        self.returned.push_back(batch);
    }

    /// Gives up what should have been delivered by `now`. Returns the next such time.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        error: impl Fn(Option<&Error>) -> Error,
    ) -> Option<Instant> {
        for on_wire in &self.in_flight {
            if on_wire.deadline <= now {
                on_wire.promise.settle(Outcome::Failed(error(None)));
            }
        }
        let mut has_gap = self.has_gap;
        for waiting in [&mut self.returned, &mut self.queue] {
            waiting.retain_mut(|batch| {
                if batch.deadline > now {
                    return true;
                }
                batch.close();
                has_gap |= batch.sequence.is_some();
                batch.promise.settle(Outcome::Failed(error(batch.last_error.as_ref())));
                false
            });
        }
        self.has_gap = has_gap;
        let on_wire = self
            .in_flight
            .iter()
            .filter(|on_wire| !on_wire.promise.is_settled())
            .map(|on_wire| on_wire.deadline);
        let waiting = self.returned.iter().chain(&self.queue).map(|batch| batch.deadline);
        on_wire.chain(waiting).min()
    }

    /// Gives up everything.
    pub(super) fn abandon(&mut self, error: &Error) {
        for on_wire in &self.in_flight {
            on_wire.promise.settle(Outcome::Failed(error.clone()));
        }
        self.abandon_queued(error);
    }

    /// Gives up what is not on the wire.
    pub(super) fn abandon_queued(&mut self, error: &Error) {
        for mut batch in self.returned.drain(..).chain(self.queue.drain(..)) {
            batch.close();
            self.has_gap |= batch.sequence.is_some();
            batch.promise.settle(Outcome::Failed(error.clone()));
        }
    }

    /// Has everything that was sent before told to an observer; what is being collected takes no more records.
    pub(super) fn observe(&mut self, observer: &Observer) {
        self.close_open();
        for on_wire in &self.in_flight {
            on_wire.promise.observe(observer);
        }
        for batch in self.returned.iter().chain(&self.queue) {
            batch.promise.observe(observer);
        }
    }
}

#[cfg(test)]
mod tests;
