//! Records that are acknowledged one by one, in any order; only a finished prefix counts as consumed.

use std::{collections::BTreeMap, sync::Arc};

use kavka_member::PositionEpoch;

use super::{inbox::Shared, record::Record};

/// The records of one partition that were handed out and are not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    /// With the leader epoch of the record before each: what is to be committed when it is the first that is left.
    offsets: BTreeMap<i64, i32>,
    /// One after the last record that was handed out or skipped, and its leader epoch; `None` while nothing was handed out.
    reached: Option<(i64, i32)>,
    /// The first record that nobody can acknowledge any more, and the leader epoch before it.
    given_up: Option<(i64, i32)>,
}

impl Outstanding {
    pub(super) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    pub(super) fn hand_out(&mut self, offset: i64, leader_epoch: i32) {
        let before = self.reached.map_or(-1, |(_, epoch)| epoch);
        self.offsets.insert(offset, before);
        self.reached = Some((offset.saturating_add(1), leader_epoch));
    }

    /// Everything below was handed out or is not to be.
    pub(super) fn reach(&mut self, end: (i64, i32)) {
        self.reached = Some(end);
    }

    pub(super) fn acknowledge(&mut self, offset: i64) -> bool {
        self.offsets.remove(&offset).is_some()
    }

    /// Nobody will acknowledge it.
    pub(super) fn give_up(&mut self, offset: i64) {
        if let Some(before) = self.offsets.remove(&offset) {
            let known = self.given_up.get_or_insert((offset, before));
            *known = (*known).min((offset, before));
        }
    }

    /// One after the last record of the finished prefix.
    pub(super) fn finished(&self) -> Option<(i64, i32)> {
        let reached = self.reached?;
        let waiting = self.offsets.first_key_value().map(|(offset, epoch)| (*offset, *epoch));
        Some([waiting, self.given_up].into_iter().flatten().min().unwrap_or(reached))
    }
}

/// A record that counts as consumed only when it is acknowledged, and all before it in its partition are.
///
/// What is dropped without [`UnackedRecord::ack`] is never acknowledged: the partition's commits stay in front of it until the partition
/// is revoked, sought in, or the consumer is closed, and who reads it next begins there. A rebalance does not wait for it.
#[derive(Debug)]
#[must_use = "a record that is never acknowledged holds up the commits of its partition"]
pub struct UnackedRecord {
    record: Record,
    acker: Acker,
}

/// Acknowledges one record. Keep it where the work on the record ends.
#[derive(Debug)]
#[must_use = "a record that is never acknowledged holds up the commits of its partition"]
pub struct Acker {
    shared: Arc<Shared>,
    place: usize,
    epoch: PositionEpoch,
    offset: i64,
    is_done: bool,
}

impl UnackedRecord {
    pub(super) fn new(
        shared: Arc<Shared>,
        place: usize,
        epoch: PositionEpoch,
        record: Record,
    ) -> Self {
        let offset = record.offset();
        Self { record, acker: Acker { shared, place, epoch, offset, is_done: false } }
    }

    /// The record.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The record is done with. Returns whether that still counts: not if the partition was taken away or sought in meanwhile. It is
    /// committed with the next automatic or explicit commit.
    pub fn ack(self) -> bool {
        self.acker.ack()
    }

    /// The record, and what acknowledges it.
    pub fn into_parts(self) -> (Record, Acker) {
        (self.record, self.acker)
    }
}

impl Acker {
    /// As [`UnackedRecord::ack`].
    pub fn ack(mut self) -> bool {
        self.is_done = true;
        let acknowledged = self.shared.lock().acknowledge(self.place, self.epoch, self.offset);
        if acknowledged.wakes {
            self.shared.driver.notify_one();
        }
        acknowledged.counts
    }
}

impl Drop for Acker {
    fn drop(&mut self) {
        if !self.is_done && self.shared.lock().give_up_ack(self.place, self.epoch, self.offset) {
            self.shared.driver.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_finished_prefix_counts() {
        let mut outstanding = Outstanding::default();
        assert_eq!(outstanding.finished(), None);
        for offset in [3, 4, 7] {
            outstanding.hand_out(offset, 2);
        }
        assert_eq!(outstanding.finished(), Some((3, -1)));
        assert!(outstanding.acknowledge(4) && !outstanding.acknowledge(4));
        assert_eq!(outstanding.finished(), Some((3, -1)));
        assert!(outstanding.acknowledge(3));
        assert_eq!(outstanding.finished(), Some((7, 2)), "5 and 6 were not to be handed out");
        assert!(outstanding.acknowledge(7));
        assert_eq!(outstanding.finished(), Some((8, 2)));
        outstanding.reach((10, 3));
        assert_eq!(outstanding.finished(), Some((10, 3)));
        assert!(outstanding.is_empty());
    }

    #[test]
    fn what_was_given_up_is_not_waited_for_and_holds_up_the_prefix() {
        let mut outstanding = Outstanding::default();
        (0..4).for_each(|offset| outstanding.hand_out(offset, 1));
        outstanding.give_up(2);
        outstanding.give_up(1);
        assert!(outstanding.acknowledge(0) && outstanding.acknowledge(3));
        assert_eq!(outstanding.finished(), Some((1, 1)));
        assert!(outstanding.is_empty());
    }
}
