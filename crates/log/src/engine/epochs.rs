//! Which leader epoch started at which offset (KIP-101, KIP-320). A cache of what the batch headers say.

use super::checkpoint::MAX_EPOCHS;
use crate::EpochEnd;

/// Epochs and their start offsets, both ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EpochCache {
    entries: Vec<(i32, i64)>,
}

impl EpochCache {
    pub(crate) fn new(entries: Vec<(i32, i64)>) -> Self {
        Self { entries }
    }

    /// Notes a batch of that epoch. Batches come in offset order.
    pub(crate) fn note(&mut self, epoch: i32, base_offset: i64) {
        if epoch < 0 || self.entries.last().is_some_and(|&(last, _)| epoch <= last) {
            return;
        }
        if self.entries.len() == MAX_EPOCHS {
            self.entries.remove(0);
        }
        self.entries.push((epoch, base_offset));
    }

    /// Forgets the epochs which start at or after the new log end.
    pub(crate) fn truncate(&mut self, log_end: i64) {
        self.entries.retain(|&(_, start)| start < log_end);
    }

    pub(crate) fn entries_below(&self, offset: i64) -> Vec<(i32, i64)> {
        self.entries.iter().copied().filter(|&(_, start)| start < offset).collect()
    }

    pub(crate) fn latest(&self) -> Option<(i32, i64)> {
        self.entries.last().copied()
    }

    pub(crate) fn end_of(&self, epoch: i32, log_end: i64) -> Option<EpochEnd> {
        let (newest, _) = self.latest()?;
        if epoch < 0 || epoch > newest {
            return None;
        }
        let after = self.entries.partition_point(|&(e, _)| e <= epoch);
        let end_offset = self.entries.get(after).map_or(log_end, |&(_, start)| start);
        let found = after.checked_sub(1).map_or(epoch, |i| self.entries[i].0);
        Some(EpochEnd { epoch: found, end_offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_as_kip_101_says() {
        let mut cache = EpochCache::default();
        assert_eq!(cache.end_of(0, 50), None);
        for (epoch, offset) in [(-1, 0), (2, 10), (2, 15), (5, 20), (4, 25)] {
            cache.note(epoch, offset);
        }
        let end = |epoch| cache.end_of(epoch, 50).map(|e| (e.epoch, e.end_offset));
        assert_eq!(end(0), Some((0, 10)), "older than all");
        assert_eq!(end(2), Some((2, 20)));
        assert_eq!(end(3), Some((2, 20)), "in a gap");
        assert_eq!(end(5), Some((5, 50)), "the newest ends with the log");
        assert_eq!(end(6), None);
        assert_eq!(end(-1), None);
    }

    #[test]
    fn truncation_forgets_later_epochs() {
        let mut cache = EpochCache::new(vec![(1, 0), (2, 10)]);
        cache.truncate(10);
        assert_eq!(cache.latest(), Some((1, 0)));
    }
}
