//! The log of a shard, as the disk and those who share it see it: appended, then durable; cut by a crash; compacted; fenced.

use kavka_coordinator::group::{
    GroupShard, Record,
    invariants::{Entry, Logged, NaiveOffsets, compact},
};

use crate::random::Random;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct ShardLog {
    entries: Vec<Entry>,
    /// Where batches end: the offset after their last record. Rising.
    batch_ends: Vec<i64>,
    end: i64,
    /// Up to where it survives a crash.
    durable: i64,
    /// When the last sync that was asked for is done.
    pub(crate) synced_at: u64,
    /// Counts the crashes and takeovers: a sync that was asked for before says nothing after.
    pub(crate) life: u64,
}

impl ShardLog {
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    pub(crate) fn durable(&self) -> i64 {
        self.durable
    }

    /// A batch.
    pub(crate) fn append(&mut self, what: impl IntoIterator<Item = Logged>) -> &[Entry] {
        let before = self.entries.len();
        for what in what {
            self.entries.push(Entry { offset: self.end, what });
            self.end += 1;
        }
        self.batch_ends.push(self.end);
        &self.entries[before..]
    }

    pub(crate) fn append_records(&mut self, records: &[Record]) -> &[Entry] {
        self.append(records.iter().cloned().map(Logged::Plain))
    }

    pub(crate) fn sync(&mut self, up_to: i64) {
        self.durable = self.durable.max(up_to.min(self.end));
    }

    /// The process that wrote is gone, or may write no more: of the batches that are not durable so many are there, the first
    /// ones. True if that took something away.
    pub(crate) fn cut(&mut self, random: &mut Random) -> bool {
        self.life += 1;
        let ends: Vec<i64> =
            self.batch_ends.iter().copied().filter(|end| *end > self.durable).collect();
        let kept = random.index(ends.len() + 1);
        let end = if kept == 0 { self.durable } else { ends[kept - 1] };
        let is_cut = end < self.end;
        self.entries.retain(|entry| entry.offset < end);
        self.batch_ends.retain(|at| *at <= end);
        self.end = end;
        // What is found is made durable before it is served.
        self.durable = end;
        is_cut
    }

    /// What is durable is compacted. True if that took something away.
    pub(crate) fn compact(&mut self, without_tombstones: bool) -> bool {
        let durable = self.entries.partition_point(|entry| entry.offset < self.durable);
        let mut compacted = compact(&self.entries[..durable], without_tombstones);
        let is_less = compacted.len() < durable;
        compacted.extend_from_slice(&self.entries[durable..]);
        self.entries = compacted;
        is_less
    }

    /// Batches that are durable are joined and cut elsewhere.
    pub(crate) fn rechunk(&mut self, random: &mut Random) {
        let durable = self.durable;
        self.batch_ends.retain(|end| *end >= durable || random.below(2) == 0);
    }

    /// The records of the batch that is read next by who has read everything before `from`; empty at the end.
    pub(crate) fn chunk(&self, from: i64) -> &[Entry] {
        let first = self.entries.partition_point(|entry| entry.offset < from);
        let Some(next) = self.entries.get(first) else { return &[] };
        let end = self.batch_ends.iter().find(|end| **end > next.offset).copied();
        let end = end.unwrap_or(self.end);
        let last = self.entries.partition_point(|entry| entry.offset < end);
        &self.entries[first..last]
    }

    /// A machine that has replayed everything, from the bytes.
    pub(crate) fn replay(&self, machine: &mut GroupShard) {
        self.entries.iter().for_each(|entry| entry.replay_into(machine));
    }

    pub(crate) fn naive(&self) -> NaiveOffsets {
        NaiveOffsets::of(&self.entries)
    }
}
