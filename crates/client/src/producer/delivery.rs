//! What becomes of records: one shared result for a batch, and futures that index into it.
//!
//! **Architecture invariant:** every record has one outcome, the first one; a batch that is dropped without has failed.

use std::{
    fmt,
    future::Future,
    ops::Range,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytestring::ByteString;
use tokio::sync::{Notify, mpsc};

use crate::{Error, ErrorKind};

/// Where a record was written.
#[derive(Clone)]
#[non_exhaustive]
pub struct Delivery {
    /// Knows the topic. Taken over from the future: a name of its own would be two more counts of references for each record.
    completion: Arc<Completion>,
    /// The partition.
    pub partition: i32,
    /// Its offset. `None` with `acks=0`, and when the broker knows that it had the record already but not any more where.
    pub offset: Option<i64>,
    /// Its timestamp in milliseconds since 1970: the record's own, or the broker's where the topic is of `LogAppendTime`.
    pub timestamp_ms: i64,
}

/// Becomes a [`Delivery`], or the reason why the record was not delivered, within `delivery.timeout.ms` of being sent.
///
/// Dropping it changes nothing about the record: it is delivered, and nobody hears of it. Cancel safe: it may be polled from
/// anywhere, and dropped and left at any time.
///
/// # Panics
/// If it is used after it was ready with a [`Delivery`].
#[derive(Debug)]
#[must_use = "a record that is not delivered is only reported here; drop it explicitly if that does not matter"]
pub struct DeliveryFuture {
    /// Until it is ready.
    completion: Option<Arc<Completion>>,
    index: u32,
    timestamp_ms: i64,
    /// Where its waker is, once it has one, and how often wakers had been taken by then. Small, for there may be one of these for each
    /// record that is under way.
    slot: Option<(u32, u32)>,
}

/// What becomes of the records of one batch, as it was when it was filled; a batch that is split has it in parts.
#[derive(Debug)]
pub(super) struct Completion {
    topic: ByteString,
    partition: i32,
    /// The outcome of all records, where they have one in common: all but always. Read without the lock.
    whole: OnceLock<Outcome>,
    /// Some part has an outcome of its own.
    has_parts: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of the parts of a batch that was split.
    parts: Vec<(Range<u32>, Outcome)>,
    wakers: Vec<Option<Waker>>,
    /// How often the wakers were taken: places from before that are no more.
    taken: u32,
}

/// What became of some records.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// Written from this offset on.
    Written { base_offset: Option<i64>, log_append_time_ms: Option<i64> },
    /// Not written, or not known to be.
    Failed(Error),
    /// Not written; why, by index within these records, and for all others.
    Refused { records: Vec<(u32, Error)>, others: Error },
}

/// The offset of a record, if it is known, and its timestamp.
type Written = (Option<i64>, i64);

impl Outcome {
    /// What it means for the record at `within` the records that it is of.
    fn of(&self, within: u32, timestamp_ms: i64) -> Result<Written, Error> {
        match self {
            Outcome::Written { base_offset, log_append_time_ms } => {
                // Past the last offset that there can be: the broker has not said where it is.
                let offset = base_offset.and_then(|base| base.checked_add(i64::from(within)));
                Ok((offset, log_append_time_ms.unwrap_or(timestamp_ms)))
            }
            Outcome::Failed(error) => Err(error.clone()),
            Outcome::Refused { records, others } => Err(records
                .iter()
                .find(|(refused, _)| *refused == within)
                .map_or_else(|| others.clone(), |(_, error)| error.clone())),
        }
    }
}

impl State {
    fn place(&mut self, (index, taken): (u32, u32)) -> Option<&mut Option<Waker>> {
        if taken == self.taken { self.wakers.get_mut(index as usize) } else { None }
    }

    /// Keeps a waker, in the place there is for it or in a new one. Returns which.
    fn wait(&mut self, slot: Option<(u32, u32)>, waker: &Waker) -> (u32, u32) {
        match slot.and_then(|slot| Some((slot, self.place(slot)?))) {
            Some((slot, place)) => {
                if !place.as_ref().is_some_and(|known| known.will_wake(waker)) {
                    *place = Some(waker.clone());
                }
                slot
            }
            None => {
                self.wakers.push(Some(waker.clone()));
                // Records of a batch, and so their futures, are counted in an int32.
                (self.wakers.len() as u32 - 1, self.taken)
            }
        }
    }

    fn take_wakers(&mut self) -> impl Iterator<Item = Waker> + use<> {
        self.taken += 1;
        std::mem::take(&mut self.wakers).into_iter().flatten()
    }
}

impl Completion {
    pub(super) fn new(topic: ByteString, partition: i32) -> Arc<Self> {
        Arc::new(Self {
            topic,
            partition,
            whole: OnceLock::new(),
            has_parts: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The offset and the timestamp of a record, or why it was not delivered, once that is known.
    fn outcome(&self, index: u32, timestamp_ms: i64) -> Option<Result<Written, Error>> {
        if let Some(outcome) = self.whole.get() {
            return Some(outcome.of(index, timestamp_ms));
        }
        if !self.has_parts.load(Ordering::Acquire) {
            return None;
        }
        let state = self.state();
        let (range, outcome) = state.parts.iter().find(|(range, _)| range.contains(&index))?;
        Some(outcome.of(index - range.start, timestamp_ms))
    }

    /// Gives all records their outcome, the first one.
    fn complete(&self, outcome: Outcome) {
        // A promise settles once, and no other has these records.
        let _ = self.whole.set(outcome);
        // The lock is given back before anybody is woken.
        let wakers = self.state().take_wakers();
        wakers.for_each(Waker::wake);
    }

    /// Gives some of the records their outcome.
    fn complete_part(&self, range: Range<u32>, outcome: Outcome) {
        let wakers = {
            let mut state = self.state();
            state.parts.push((range, outcome));
            self.has_parts.store(true, Ordering::Release);
            state.take_wakers()
        };
        wakers.for_each(Waker::wake);
    }
}

impl DeliveryFuture {
    pub(super) fn new(completion: &Arc<Completion>, index: u32, timestamp_ms: i64) -> Self {
        Self { completion: Some(Arc::clone(completion)), index, timestamp_ms, slot: None }
    }

    fn completion(&self) -> &Completion {
        match &self.completion {
            Some(completion) => completion,
            None => panic!("a delivery's future was used after it was ready"),
        }
    }

    /// The topic the record goes to.
    pub fn topic(&self) -> &str {
        &self.completion().topic
    }

    /// The partition the record goes to.
    pub fn partition(&self) -> i32 {
        self.completion().partition
    }

    /// The outcome, if there is one.
    fn outcome(&mut self) -> Option<Result<Delivery, Error>> {
        let (offset, timestamp_ms) =
            match self.completion().outcome(self.index, self.timestamp_ms)? {
                Ok(written) => written,
                Err(error) => return Some(Err(error)),
            };
        // Nobody is to be woken any more.
        self.forget_waker();
        let completion = self.completion.take()?;
        let partition = completion.partition;
        Some(Ok(Delivery { completion, partition, offset, timestamp_ms }))
    }

    fn forget_waker(&mut self) {
        if let Some(slot) = self.slot.take()
            && let Some(completion) = &self.completion
            && let Some(place) = completion.state().place(slot)
        {
            *place = None;
        }
    }
}

impl Future for DeliveryFuture {
    type Output = Result<Delivery, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(outcome) = this.outcome() {
            return Poll::Ready(outcome);
        }
        let slot = this.completion().state().wait(this.slot, context.waker());
        this.slot = Some(slot);
        // It may have come between the look and the waker.
        match this.outcome() {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
}

impl Drop for DeliveryFuture {
    fn drop(&mut self) {
        self.forget_waker();
    }
}

impl Delivery {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.completion.topic
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("topic", &self.topic())
            .field("partition", &self.partition)
            .field("offset", &self.offset)
            .field("timestamp_ms", &self.timestamp_ms)
            .finish()
    }
}

impl PartialEq for Delivery {
    fn eq(&self, other: &Self) -> bool {
        let of = |delivery: &Self| (delivery.partition, delivery.offset, delivery.timestamp_ms);
        of(self) == of(other) && self.topic() == other.topic()
    }
}

impl Eq for Delivery {}

/// The duty to say what became of some records of a batch. Dropping it says that nobody will know.
#[derive(Debug)]
pub(super) struct Promise {
    completion: Arc<Completion>,
    /// Of a batch that was split: the first of the records.
    part: Option<u32>,
    /// How many they are; 0 while they are being collected.
    count: AtomicU32,
    is_settled: AtomicBool,
    /// Who waits for it, and hears if it fails.
    observers: Mutex<Vec<Observer>>,
    outstanding: Arc<Outstanding>,
}

/// Held by promises that somebody waits for; when the last is gone, all are settled. Failures are sent on it.
pub(super) type Observer = mpsc::UnboundedSender<Failure>;

/// Records that were not delivered, or not known to be.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) topic: ByteString,
    pub(super) partition: i32,
    pub(super) records: u32,
    pub(super) error: Error,
}

/// How many promises are not settled yet.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    count: AtomicUsize,
    none: Notify,
    /// Records that were delivered, and those that were not; for the metrics.
    delivered: AtomicU64,
    undelivered: AtomicU64,
}

impl Promise {
    /// For the records of a new batch.
    pub(super) fn new(completion: Arc<Completion>, outstanding: &Arc<Outstanding>) -> Self {
        Self::of(completion, None, 0, outstanding)
    }

    fn of(
        completion: Arc<Completion>,
        part: Option<u32>,
        count: u32,
        outstanding: &Arc<Outstanding>,
    ) -> Self {
        outstanding.count.fetch_add(1, Ordering::AcqRel);
        Self {
            completion,
            part,
            count: AtomicU32::new(count),
            is_settled: AtomicBool::new(false),
            observers: Mutex::default(),
            outstanding: Arc::clone(outstanding),
        }
    }

    /// The future of a record, by its index in the batch.
    pub(super) fn future(&self, index: u32, timestamp_ms: i64) -> DeliveryFuture {
        DeliveryFuture::new(&self.completion, index, timestamp_ms)
    }

    /// Says how many records there are.
    pub(super) fn set_count(&self, count: u32) {
        self.count.store(count, Ordering::Release);
    }

    /// Whether the records have their outcome.
    pub(super) fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::Acquire)
    }

    /// Gives the records their outcome, unless they have one. Returns whether this was it.
    pub(super) fn settle(&self, outcome: Outcome) -> bool {
        if self.is_settled.swap(true, Ordering::AcqRel) {
            return false;
        }
        let count = self.count.load(Ordering::Acquire);
        let settled = match &outcome {
            Outcome::Written { .. } => &self.outstanding.delivered,
            Outcome::Failed(_) | Outcome::Refused { .. } => &self.outstanding.undelivered,
        };
        settled.fetch_add(u64::from(count), Ordering::Relaxed);
        let observers = std::mem::take(&mut *self.observers());
        if let Outcome::Failed(error) | Outcome::Refused { others: error, .. } = &outcome {
            for observer in &observers {
                let failure = Failure {
                    topic: self.completion.topic.clone(),
                    partition: self.completion.partition,
                    records: count,
                    error: error.clone(),
                };
                // Who gave up waiting does not hear it.
                let _ = observer.send(failure);
            }
        }
        match self.part {
            None => self.completion.complete(outcome),
            Some(start) => self.completion.complete_part(start..start + count, outcome),
        }
        self.release();
        true
    }

    /// Has it told to an observer when the records have their outcome.
    pub(super) fn observe(&self, observer: &Observer) {
        let mut observers = self.observers();
        // Looked at under the lock: who settles takes the observers after that.
        if !self.is_settled() {
            observers.push(observer.clone());
        }
    }

    /// One promise for the first `count` records and one for the rest.
    pub(super) fn split(&self, count: u32) -> Option<(Self, Self)> {
        if self.is_settled.swap(true, Ordering::AcqRel) {
            return None;
        }
        let all = self.count.load(Ordering::Acquire);
        assert!(count < all, "a batch is split within its records");
        let start = self.part.unwrap_or(0);
        let part = |start, count| {
            Self::of(Arc::clone(&self.completion), Some(start), count, &self.outstanding)
        };
        let (first, second) = (part(start, count), part(start + count, all - count));
        for observer in self.observers().drain(..) {
            first.observe(&observer);
            second.observe(&observer);
        }
        self.release();
        Some((first, second))
    }

    fn release(&self) {
        if self.outstanding.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.outstanding.none.notify_waiters();
        }
    }

    fn observers(&self) -> MutexGuard<'_, Vec<Observer>> {
        self.observers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let lost = || {
            Error::new(
                ErrorKind::Closed,
                "the producer's tasks ended before the record was delivered",
            )
        };
        if !self.is_settled() {
            self.settle(Outcome::Failed(
                lost().with_advice("Keep the runtime until close() has returned."),
            ));
        }
    }
}

impl Outstanding {
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// How many records were delivered, and how many were not.
    pub(super) fn settled(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.delivered), read(&self.undelivered))
    }

    /// Told when the count comes to 0.
    pub(super) fn none(&self) -> &Notify {
        &self.none
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_past_the_last_that_can_be_is_not_known() {
        let completion = Completion::new("t".into(), 0);
        let written = Outcome::Written { base_offset: Some(i64::MAX), log_append_time_ms: None };
        completion.complete(written);
        let offset = |index| completion.outcome(index, 1).expect("written").expect("delivered").0;
        assert_eq!(offset(0), Some(i64::MAX));
        assert_eq!(offset(1), None);
    }
}
