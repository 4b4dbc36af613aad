//! Hands out records to the application: of every partition, or of one.
//!
//! **Architecture invariants:** nothing is taken out of the inbox in one poll and handed out in a later one: a future that is dropped
//! takes nothing with it. What was handed out counts as consumed when the next is asked for.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use kavka_member::{PositionEpoch, TopicPartition};
use kavka_protocol::records::{self, Decompressor};

use super::{
    ack::UnackedRecord,
    chunk::{Chunk, RawBatch},
    inbox::{Claim, Own, SharedInbox},
    record::{Batch, Record, unreadable},
};
use crate::Error;

/// See the module.
#[derive(Debug)]
pub(super) struct Reader {
    shared: SharedInbox,
    /// The partition whose stream this is; `None`: all that have none.
    own: Option<Own>,
    /// What is being walked through.
    chunk: Option<Chunk>,
    hand: Option<Hand>,
    decompressor: Decompressor,
    /// The batch that is lent.
    lent: Option<RawBatch>,
    /// It could not be opened.
    lent_is_broken: bool,
    is_over: bool,
}

/// What the application has in its hands.
#[derive(Clone, Copy, Debug)]
struct Hand {
    place: usize,
    epoch: PositionEpoch,
    /// The first offset of it.
    from: i64,
    consumed: (i64, i32),
}

impl Reader {
    pub(super) fn new(shared: SharedInbox, max_decompressed_bytes: usize) -> Self {
        Self {
            shared,
            own: None,
            chunk: None,
            hand: None,
            decompressor: Decompressor::new(max_decompressed_bytes),
            lent: None,
            lent_is_broken: false,
            is_over: false,
        }
    }

    /// A reader of one partition; `None` if it is not owned, or has a reader of its own already.
    pub(super) fn of(
        shared: &SharedInbox,
        partition: &TopicPartition,
        max_decompressed_bytes: usize,
    ) -> Option<Self> {
        let own = shared.lock().claim_own(partition)?;
        let mut reader = Self::new(Arc::clone(shared), max_decompressed_bytes);
        reader.own = Some(own);
        Some(reader)
    }

    /// What was handed out counts as consumed.
    pub(super) fn settle(&mut self) {
        if let Some(hand) = self.hand.take() {
            let wakes = self.shared.lock().settle(hand.place, hand.epoch, Some(hand.consumed));
            if wakes {
                self.shared.driver.notify_one();
            }
        }
    }

    /// Leaves a partition to a stream of its own. What was handed out of it counts as consumed, and the rest of what is being walked
    /// through goes back.
    pub(super) fn leave(&mut self, partition: &TopicPartition) {
        self.end_loan();
        let place = self.shared.lock().place_of(partition);
        if self.hand.is_some_and(|hand| Some(hand.place) == place) {
            self.settle();
        }
        if let Some(chunk) = self.chunk.take_if(|chunk| Some(chunk.slot) == place) {
            self.shared.lock().put_back(chunk);
        }
    }

    /// Nothing is in hand any more, and what was does not count as consumed: whoever reads on begins there.
    pub(super) fn release(&mut self) {
        self.give_back(false);
    }

    /// The same; `is_broken`: because what is in hand cannot be read.
    fn give_back(&mut self, is_broken: bool) {
        let (hand, chunk) = (self.hand.take(), self.chunk.take());
        let mut inbox = self.shared.lock();
        match (hand, chunk) {
            (Some(hand), Some(chunk)) => inbox.give_up(&chunk, hand.from, is_broken),
            (Some(hand), None) => drop(inbox.settle(hand.place, hand.epoch, None)),
            (None, Some(chunk)) => inbox.put_back(chunk),
            (None, None) => return,
        }
        drop(inbox);
        self.shared.driver.notify_one();
    }

    /// Makes a chunk the current one, and notes that it is in the application's hands.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let mut inbox = self.shared.lock();
        let mut wakes = inbox.note_poll();
        if let Some(hand) = self.hand.take() {
            wakes |= inbox.settle(hand.place, hand.epoch, Some(hand.consumed));
        }
        let result = loop {
            if let Some(chunk) = &self.chunk {
                match inbox.claim(chunk) {
                    Claim::Granted => break Poll::Ready(Some(Ok(()))),
                    Claim::Paused => {
                        if let Some(chunk) = self.chunk.take() {
                            inbox.put_back(chunk);
                        }
                    }
                    Claim::Void => self.chunk = None,
                }
            }
            if self.own.is_none()
                && let Some(error) = inbox.take_error()
            {
                break Poll::Ready(Some(Err(error)));
            }
            self.chunk = match self.own {
                None => inbox.take_ready(),
                Some(own) => inbox.take_own(own),
            };
            if self.chunk.is_some() {
                // What has been taken makes room for the next fetch.
                wakes = true;
                continue;
            }
            let goes_on = match self.own {
                None => inbox.wait(cx.waker()),
                Some(own) => inbox.wait_own(own, cx.waker()),
            };
            if goes_on {
                break Poll::Pending;
            }
            self.is_over = true;
            break Poll::Ready(None);
        };
        drop(inbox);
        if wakes {
            self.shared.driver.notify_one();
        }
        result
    }

    /// Walks until the current chunk gives something or everything is walked through.
    fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        is_consumed: bool,
        mut step: impl FnMut(&mut Chunk, &mut Decompressor) -> Result<Option<T>, Error>,
    ) -> Poll<Option<Result<T, Error>>> {
        loop {
            match self.poll_chunk(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(()))) => {}
            }
            let Some(chunk) = &mut self.chunk else { continue };
            let is_broken = match step(chunk, &mut self.decompressor) {
                Ok(Some(found)) => return Poll::Ready(Some(Ok(found))),
                Ok(None) => {
                    self.shared.lock().finish(chunk, is_consumed);
                    None
                }
                Err(error) => {
                    self.shared.lock().give_up(chunk, chunk.from(), true);
                    Some(error)
                }
            };
            self.chunk = None;
            self.shared.driver.notify_one();
            if let Some(error) = is_broken {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    fn take_in_hand(&mut self, from: i64, next_offset: i64) {
        if let Some(chunk) = &self.chunk {
            let consumed = (next_offset, chunk.leader_epoch());
            self.hand = Some(Hand { place: chunk.slot, epoch: chunk.epoch, from, consumed });
        }
    }

    /// The batch that was lent is back.
    fn end_loan(&mut self) {
        if std::mem::take(&mut self.lent_is_broken) {
            // It was not handed out: it is fetched again.
            self.lent = None;
            return self.give_back(true);
        }
        if let (Some(batch), Some(chunk)) = (self.lent.take(), &mut self.chunk) {
            chunk.advance(batch.next_offset);
        }
    }

    pub(super) fn poll_record(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Record, Error>>> {
        self.end_loan();
        let polled = self.poll_with(cx, true, Chunk::next_record);
        if let Poll::Ready(Some(Ok(record))) = &polled {
            self.take_in_hand(record.offset(), record.offset().saturating_add(1));
        }
        polled
    }

    /// A record that counts as consumed when it is acknowledged.
    pub(super) fn poll_unacked(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<UnackedRecord, Error>>> {
        self.end_loan();
        self.poll_with(cx, false, Chunk::next_record).map(|next| {
            next.map(|next| {
                next.map(|record| {
                    let at = self.chunk.as_ref().map(|chunk| (chunk.slot, chunk.epoch));
                    let (place, epoch) = at.unwrap_or((usize::MAX, PositionEpoch(0)));
                    let (offset, leader_epoch) = (record.offset(), record.leader_epoch());
                    self.shared.lock().hand_out_for_ack(place, offset, leader_epoch);
                    UnackedRecord::new(Arc::clone(&self.shared), place, epoch, record)
                })
            })
        })
    }

    /// Has a batch ready to be lent.
    pub(super) fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), Error>>> {
        self.end_loan();
        let polled = self.poll_with(cx, true, |chunk, _| chunk.next_batch());
        polled.map(|next| {
            next.map(|next| {
                next.map(|batch| {
                    self.take_in_hand(batch.from, batch.next_offset);
                    self.lent = Some(batch);
                })
            })
        })
    }

    /// Lends the batch that is ready.
    pub(super) fn lend(&mut self) -> Option<Result<Batch<'_>, Error>> {
        let (batch, chunk) = (self.lent.as_ref()?, self.chunk.as_ref()?);
        let (topic, partition) = (&chunk.topic, chunk.partition);
        Some(match open(&mut self.decompressor, batch) {
            Ok(records) => Ok(Batch {
                topic,
                partition,
                leader_epoch: batch.leader_epoch,
                from: batch.from,
                next_offset: batch.next_offset,
                records,
            }),
            Err(error) => {
                self.lent_is_broken = true;
                Err(unreadable(topic, partition, &error))
            }
        })
    }
}

fn open<'a>(
    decompressor: &'a mut Decompressor,
    batch: &'a RawBatch,
) -> Result<records::Records<'a>, records::RecordError> {
    match &batch.header {
        Some(header) => decompressor.records(header, &batch.bytes),
        None => match records::message_set(&batch.bytes).next() {
            Some(batch) => batch?.records(decompressor),
            None => Err(records::RecordError::Incomplete { needed: 1, available: 0 }),
        },
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.release();
        if let Some(own) = self.own {
            self.shared.lock().release_own(own);
        }
    }
}
