//! What lies between the driver, which fetches, and the readers, which hand out records to the application.
//!
//! Owns: the queues of fetched chunks, what of them may be handed out, what is in the application's hands, what it has consumed. One
//! lock, held for memory work only. Does not own: positions and membership (`driver`), the walk through a chunk (`chunk`).
//!
//! **Architecture invariants:** whether a partition's records may be handed out is looked at under the same lock under which they are
//! noted to be in the application's hands: when the driver holds a partition back and finds nothing in hand, nothing of it is handed
//! out any more. What is in hand counts as consumed when the reader comes back, and not before. A chunk is of one position epoch; when
//! that is not the partition's any more, the chunk is void.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use kavka_member::{Consumed, PositionEpoch, TopicPartition};
use tokio::sync::Notify;

use super::{ack::Outstanding, chunk::Chunk};
use crate::{Error, metrics::LastError};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Shared {
    inbox: Mutex<Inbox>,
    /// Wakes the driver.
    pub(super) driver: Notify,
}

/// What the lock guards.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    index: HashMap<TopicPartition, usize>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    /// Slots that have something for the main reader, in turn.
    ready: VecDeque<usize>,
    /// Slots whose consumption the driver has not heard of.
    dirty: Vec<usize>,
    /// For the application, in order; with the partition that has no position because of it, if that is so.
    errors: VecDeque<(Option<TopicPartition>, Error)>,
    /// For the metrics; the application may not have been told of it.
    last_error: Option<LastError>,
    /// Whoever waits for records that no stream of their own takes.
    waker: Option<Waker>,
    /// The application has asked for records.
    polled: bool,
    /// The driver wants to be woken by that.
    wants_poll: bool,
    /// There will be nothing more.
    is_closed: bool,
    /// What is to be fetched again.
    given_up: Vec<GivenUp>,
    last_serial: u64,
}

/// An owned partition.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) partition: TopicPartition,
    /// Which time of owning the partition this is.
    serial: u64,
    /// `None` while its position is not known.
    pub(super) epoch: Option<PositionEpoch>,
    queue: VecDeque<Chunk>,
    queued_bytes: usize,
    is_ready: bool,
    pub(super) is_paused: bool,
    /// It is about to be revoked.
    is_held: bool,
    /// The application works on something of it, that was fetched for this position.
    in_hand: Option<PositionEpoch>,
    /// A reader walks through a chunk of it.
    in_work: bool,
    consumed: Option<(i64, i32)>,
    is_dirty: bool,
    /// A stream of its own takes it.
    own: Option<Waker>,
    has_own: bool,
    /// Records that were handed out to be acknowledged.
    pub(super) outstanding: Outstanding,
}

/// Which partition a stream reads, and which time of owning it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    place: usize,
    serial: u64,
}

/// A chunk that was begun and is not read on.
#[derive(Clone, Copy, Debug)]
pub(super) struct GivenUp {
    pub(super) place: usize,
    pub(super) epoch: PositionEpoch,
    /// Where its partition is fetched again.
    pub(super) from: i64,
    /// Its bytes are no records: what is fetched again may be the same.
    pub(super) is_broken: bool,
}

/// What an acknowledgement came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledged {
    /// The record is still this consumer's.
    pub(super) counts: bool,
    /// The driver waits for it.
    pub(super) wakes: bool,
}

/// What a reader may do with a chunk it has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Go on; it is in the application's hands now.
    Granted,
    /// Not now.
    Paused,
    /// Never.
    Void,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing more comes; readers end after what is there.
    pub(super) fn close(&self) {
        let mut inbox = self.lock();
        inbox.is_closed = true;
        inbox.wake_all();
    }
}

// ---- the driver's side ----

impl Inbox {
    pub(super) fn add(&mut self, partition: &TopicPartition) -> usize {
        self.last_serial += 1;
        let slot = Slot {
            partition: partition.clone(),
            serial: self.last_serial,
            epoch: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            is_ready: false,
            is_paused: false,
            is_held: false,
            in_hand: None,
            in_work: false,
            consumed: None,
            is_dirty: false,
            own: None,
            has_own: false,
            outstanding: Outstanding::default(),
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let former = self.index.insert(partition.clone(), place);
        assert!(former.is_none(), "a partition has one slot");
        self.slots[place] = Some(slot);
        place
    }

    pub(super) fn remove(&mut self, partition: &TopicPartition) {
        let Some(place) = self.index.remove(partition) else { return };
        self.forget_errors_about(partition);
        self.ready.retain(|ready| *ready != place);
        self.dirty.retain(|dirty| *dirty != place);
        let slot = self.slots[place].take();
        self.free.push(place);
        // Its stream, if it has one, ends.
        if let Some(waker) = slot.and_then(|slot| slot.own) {
            waker.wake();
        }
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.index.keys()
    }

    pub(super) fn slot_of(&self, partition: &TopicPartition) -> Option<&Slot> {
        self.slots[*self.index.get(partition)?].as_ref()
    }

    pub(super) fn slot_of_mut(&mut self, partition: &TopicPartition) -> Option<&mut Slot> {
        self.slots[*self.index.get(partition)?].as_mut()
    }

    pub(super) fn place_of(&self, partition: &TopicPartition) -> Option<usize> {
        self.index.get(partition).copied()
    }

    /// Nothing of it is handed out any more; what is in hand may be finished.
    pub(super) fn hold(&mut self, partition: &TopicPartition) {
        if let Some(slot) = self.slot_of_mut(partition) {
            slot.is_held = true;
            slot.drop_queue();
        }
    }

    /// What was fetched for an earlier position does not count any more.
    pub(super) fn set_epoch(&mut self, partition: &TopicPartition, epoch: Option<PositionEpoch>) {
        if let Some(slot) = self.slot_of_mut(partition)
            && (slot.epoch != epoch || epoch.is_none())
        {
            slot.epoch = epoch;
            slot.consumed = None;
            slot.in_work = false;
            slot.drop_queue();
            slot.outstanding = Outstanding::default();
        }
    }

    pub(super) fn set_paused(&mut self, partition: &TopicPartition, is_paused: bool) {
        let Some(place) = self.place_of(partition) else { return };
        if let Some(slot) = &mut self.slots[place] {
            slot.is_paused = is_paused;
        }
        self.offer(place);
    }

    /// Whether the application holds nothing more of what is about to be revoked.
    pub(super) fn is_drained(&self) -> bool {
        !self.slots.iter().flatten().any(|slot| slot.is_held && slot.is_in_hand())
    }

    /// What was consumed since the last time.
    pub(super) fn take_consumed(&mut self) -> Vec<Consumed> {
        let mut rows = Vec::new();
        for place in std::mem::take(&mut self.dirty) {
            let Some(slot) = self.slots[place].as_mut() else { continue };
            slot.is_dirty = false;
            if let (Some((next_offset, leader_epoch)), Some(epoch)) =
                (slot.consumed.take(), slot.epoch)
            {
                let partition = slot.partition.clone();
                rows.push(Consumed { partition, epoch, next_offset, leader_epoch });
            }
        }
        rows
    }

    /// Whether the application asked for records since the last time. `wants`: whether the driver wants to know at once next time.
    pub(super) fn take_polled(&mut self, wants: bool) -> bool {
        self.wants_poll = wants;
        std::mem::take(&mut self.polled)
    }

    /// Has a reader that waits come back, to show that somebody is there.
    pub(super) fn ping(&mut self) {
        self.wake_all();
    }

    pub(super) fn take_given_up(&mut self) -> Vec<GivenUp> {
        std::mem::take(&mut self.given_up)
    }

    pub(super) fn deliver(&mut self, chunk: Chunk) {
        let place = chunk.slot;
        let Some(slot) = self.slots.get_mut(place).and_then(Option::as_mut) else { return };
        if slot.epoch != Some(chunk.epoch) || slot.is_held {
            return;
        }
        slot.queued_bytes += chunk.size();
        slot.queue.push_back(chunk);
        self.offer(place);
    }

    /// Something went wrong that the consumer deals with.
    pub(super) fn note_error(&mut self, error: &Error) {
        self.last_error = Some(LastError::now(error));
    }

    pub(super) fn last_error(&self) -> Option<&LastError> {
        self.last_error.as_ref()
    }

    pub(super) fn fail(&mut self, error: Error) {
        self.fail_about(None, error);
    }

    /// This partition waits for the application to seek.
    pub(super) fn fail_about(&mut self, partition: Option<TopicPartition>, error: Error) {
        self.note_error(&error);
        self.errors.push_back((partition, error));
        self.wake_all();
    }

    /// The application has done something about it before it heard of it.
    pub(super) fn forget_errors_about(&mut self, partition: &TopicPartition) {
        self.errors.retain(|(about, _)| about.as_ref() != Some(partition));
    }

    /// Tells whoever reads it that there is something.
    fn offer(&mut self, place: usize) {
        let Some(slot) = self.slots[place].as_mut() else { return };
        if slot.queue.is_empty() || slot.is_paused || slot.is_held {
            return;
        }
        if slot.has_own {
            if let Some(waker) = slot.own.take() {
                waker.wake();
            }
            return;
        }
        if !slot.is_ready {
            slot.is_ready = true;
            self.ready.push_back(place);
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn wake_all(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        for slot in self.slots.iter_mut().flatten() {
            if let Some(waker) = slot.own.take() {
                waker.wake();
            }
        }
    }
}

impl Slot {
    /// Bytes that wait for a reader.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether a reader walks through a chunk of it, or one waits.
    pub(super) fn is_busy(&self) -> bool {
        self.in_work || self.has_queued()
    }

    fn is_in_hand(&self) -> bool {
        self.in_hand.is_some() || !self.outstanding.is_empty()
    }

    fn drop_queue(&mut self) {
        self.queue.clear();
        self.queued_bytes = 0;
    }
}

// ---- the readers' side ----

impl Inbox {
    /// The application is there. Returns whether the driver has to be woken.
    pub(super) fn note_poll(&mut self) -> bool {
        self.polled = true;
        std::mem::take(&mut self.wants_poll)
    }

    /// What was in hand is consumed up to `next_offset`. Returns whether the driver has to be woken.
    pub(super) fn settle(
        &mut self,
        place: usize,
        epoch: PositionEpoch,
        consumed: Option<(i64, i32)>,
    ) -> bool {
        let Some(slot) = self.slots.get_mut(place).and_then(Option::as_mut) else { return false };
        let was_in_hand = slot.in_hand.take_if(|of| *of == epoch).is_some();
        // What was fetched before a seek is given back, but does not count.
        if let Some(consumed) = consumed.filter(|_| slot.epoch == Some(epoch)) {
            slot.consumed = slot.consumed.max(Some(consumed));
            if !slot.is_dirty {
                slot.is_dirty = true;
                self.dirty.push(place);
            }
        }
        was_in_hand && slot.is_held
    }

    /// Whether a chunk that was begun may be gone on with. If so, it is in the application's hands from here on.
    pub(super) fn claim(&mut self, chunk: &Chunk) -> Claim {
        let Some(slot) = self.slots.get_mut(chunk.slot).and_then(Option::as_mut) else {
            return Claim::Void;
        };
        if slot.epoch != Some(chunk.epoch) || slot.is_held {
            Claim::Void
        } else if slot.is_paused {
            Claim::Paused
        } else {
            slot.in_hand = Some(chunk.epoch);
            slot.in_work = true;
            Claim::Granted
        }
    }

    /// A chunk goes back to the front of its queue.
    pub(super) fn put_back(&mut self, chunk: Chunk) {
        let place = chunk.slot;
        let Some(slot) = self.slots.get_mut(place).and_then(Option::as_mut) else { return };
        if slot.epoch == Some(chunk.epoch) && !slot.is_held {
            slot.in_work = false;
            slot.queued_bytes += chunk.size();
            slot.queue.push_front(chunk);
            self.offer(place);
        }
    }

    /// A chunk is walked through: everything in it counts as consumed.
    pub(super) fn finish(&mut self, chunk: &Chunk, is_consumed: bool) {
        let consumed = is_consumed.then(|| chunk.end());
        self.settle(chunk.slot, chunk.epoch, consumed);
        if let Some(slot) = self.slots.get_mut(chunk.slot).and_then(Option::as_mut)
            && slot.epoch == Some(chunk.epoch)
        {
            slot.in_work = false;
            if !is_consumed {
                slot.outstanding.reach(chunk.end());
                self.note_acknowledged(chunk.slot);
            }
        }
    }

    /// A chunk is not read on: its partition is fetched again from here. `is_broken`: because its bytes are no records.
    pub(super) fn give_up(&mut self, chunk: &Chunk, from: i64, is_broken: bool) {
        self.settle(chunk.slot, chunk.epoch, None);
        if let Some(slot) = self.slots.get_mut(chunk.slot).and_then(Option::as_mut)
            && slot.epoch == Some(chunk.epoch)
        {
            slot.in_work = false;
            slot.drop_queue();
            let (place, epoch) = (chunk.slot, chunk.epoch);
            self.given_up.push(GivenUp { place, epoch, from, is_broken });
        }
    }

    /// The next chunk of a partition that no stream of its own takes. It is not in hand yet.
    pub(super) fn take_ready(&mut self) -> Option<Chunk> {
        while let Some(place) = self.ready.pop_front() {
            let Some(slot) = self.slots[place].as_mut() else { continue };
            slot.is_ready = false;
            if slot.is_paused || slot.is_held || slot.has_own {
                continue;
            }
            let Some(chunk) = slot.take_queued() else { continue };
            if !slot.queue.is_empty() {
                slot.is_ready = true;
                self.ready.push_back(place);
            }
            return Some(chunk);
        }
        None
    }

    pub(super) fn take_error(&mut self) -> Option<Error> {
        self.errors.pop_front().map(|(_, error)| error)
    }

    /// Waits for more; `false` if there will be none.
    pub(super) fn wait(&mut self, waker: &Waker) -> bool {
        if !self.is_closed {
            self.waker = Some(waker.clone());
        }
        !self.is_closed
    }

    // ---- streams of one partition ----

    /// Gives a partition a stream of its own. `None` if it is not owned, or has one.
    pub(super) fn claim_own(&mut self, partition: &TopicPartition) -> Option<Own> {
        let place = self.place_of(partition)?;
        let slot = self.slots[place].as_mut()?;
        let serial = slot.serial;
        let is_free = !std::mem::replace(&mut slot.has_own, true);
        is_free.then_some(Own { place, serial })
    }

    fn owned_slot(&mut self, own: Own) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(own.place)?.as_mut()?;
        (slot.serial == own.serial).then_some(slot)
    }

    /// The next chunk of one partition, for its stream.
    pub(super) fn take_own(&mut self, own: Own) -> Option<Chunk> {
        let slot = self.owned_slot(own)?;
        if slot.is_paused || slot.is_held { None } else { slot.take_queued() }
    }

    /// Waits for more of one partition; `false` if there will be none.
    pub(super) fn wait_own(&mut self, own: Own, waker: &Waker) -> bool {
        let is_closed = self.is_closed;
        let Some(slot) = self.owned_slot(own).filter(|_| !is_closed) else { return false };
        slot.own = Some(waker.clone());
        true
    }

    /// The stream is gone: the main reader takes the partition again.
    pub(super) fn release_own(&mut self, own: Own) {
        if let Some(slot) = self.owned_slot(own) {
            slot.has_own = false;
            slot.own = None;
            self.offer(own.place);
        }
    }

    // ---- acknowledging ----

    /// A record was handed out to be acknowledged; nothing else of its partition is in hand by that.
    pub(super) fn hand_out_for_ack(&mut self, place: usize, offset: i64, leader_epoch: i32) {
        if let Some(slot) = self.slots.get_mut(place).and_then(Option::as_mut) {
            slot.in_hand = None;
            slot.outstanding.hand_out(offset, leader_epoch);
        }
    }

    /// A record was acknowledged.
    pub(super) fn acknowledge(
        &mut self,
        place: usize,
        epoch: PositionEpoch,
        offset: i64,
    ) -> Acknowledged {
        let slot = self.slots.get_mut(place).and_then(Option::as_mut);
        let Some(slot) = slot.filter(|slot| slot.epoch == Some(epoch)) else {
            return Acknowledged { counts: false, wakes: false };
        };
        let counts = slot.outstanding.acknowledge(offset);
        let wakes = slot.is_held && slot.outstanding.is_empty();
        if counts {
            self.note_acknowledged(place);
        }
        Acknowledged { counts, wakes }
    }

    /// A record will not be acknowledged. Returns whether the driver has to be woken.
    pub(super) fn give_up_ack(&mut self, place: usize, epoch: PositionEpoch, offset: i64) -> bool {
        let slot = self.slots.get_mut(place).and_then(Option::as_mut);
        let Some(slot) = slot.filter(|slot| slot.epoch == Some(epoch)) else { return false };
        slot.outstanding.give_up(offset);
        slot.is_held && slot.outstanding.is_empty()
    }

    fn note_acknowledged(&mut self, place: usize) {
        let Some(slot) = self.slots[place].as_mut() else { return };
        if let Some(finished) = slot.outstanding.finished() {
            slot.consumed = Some(finished);
            if !slot.is_dirty {
                slot.is_dirty = true;
                self.dirty.push(place);
            }
        }
    }

    /// Partitions of which records wait to be acknowledged.
    pub(super) fn unacknowledged(&self) -> BTreeSet<TopicPartition> {
        let slots = self.slots.iter().flatten().filter(|slot| !slot.outstanding.is_empty());
        slots.map(|slot| slot.partition.clone()).collect()
    }
}

impl Slot {
    fn take_queued(&mut self) -> Option<Chunk> {
        let chunk = self.queue.pop_front()?;
        self.queued_bytes -= chunk.size();
        Some(chunk)
    }
}

/// Shares the inbox.
pub(super) type SharedInbox = Arc<Shared>;
