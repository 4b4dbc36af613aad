//! Which partition a record goes to.
//!
//! With a partition of its own, there. Else, as in Java: with a key, by murmur2 of it; without, to one partition until about
//! `batch.size` bytes went there, then to another one, chosen so that partitions whose batches pile up get fewer (KIP-480, KIP-794).

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use kavka_protocol::{SplitMix64, hash};

/// Chooses partitions in place of the built-in rules. Called for every record without a partition of its own, from any thread.
pub trait Partitioner: Send + Sync + fmt::Debug {
    /// The partition of a record, from 0 on. One that the topic does not have makes [`send`](crate::Producer::send) fail.
    fn partition(&self, record: &PartitionedRecord<'_>, topic: &TopicPartitions<'_>) -> i32;
}

/// What a [`Partitioner`] sees of a record.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PartitionedRecord<'a> {
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
}

/// What a [`Partitioner`] sees of a topic.
#[derive(Clone, Copy)]
pub struct TopicPartitions<'a> {
    name: &'a str,
    count: u32,
    is_available: &'a dyn Fn(u32) -> bool,
}

impl<'a> PartitionedRecord<'a> {
    pub(super) fn new(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Self {
        Self { key, value }
    }
}

impl<'a> TopicPartitions<'a> {
    pub(super) fn new(name: &'a str, count: u32, is_available: &'a dyn Fn(u32) -> bool) -> Self {
        Self { name, count, is_available }
    }

    /// The topic's name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// How many partitions the topic has; at least one.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether a partition has a leader now.
    pub fn is_available(&self, partition: u32) -> bool {
        partition < self.count && (self.is_available)(partition)
    }

    /// Where the built-in rule puts a key, in every Kafka client that follows Java's.
    pub fn of_key(&self, key: &[u8]) -> i32 {
        // Partitions are counted in an int32.
        hash::key_partition(key, self.count) as i32
    }
}

impl fmt::Debug for TopicPartitions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicPartitions")
            .field("name", &self.name)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// Each record of a topic to the next partition, whatever its key, as Java's `RoundRobinPartitioner`; partitions without a
/// leader are passed over.
#[derive(Debug, Default)]
pub struct RoundRobin {
    next: Mutex<HashMap<String, u32>>,
}

impl Partitioner for RoundRobin {
    fn partition(&self, _record: &PartitionedRecord<'_>, topic: &TopicPartitions<'_>) -> i32 {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = match next.get_mut(topic.name()) {
            Some(turn) => turn,
            None => next.entry(topic.name().to_owned()).or_default(),
        };
        let start = *turn;
        let nth = |n: u32| (start.wrapping_add(n) & (i32::MAX as u32)) % topic.count();
        let skipped = (0..topic.count()).find(|n| topic.is_available(nth(*n))).unwrap_or(0);
        *turn = start.wrapping_add(skipped + 1);
        nth(skipped) as i32
    }
}

/// The partition that records without a key of one topic go to for now.
#[derive(Debug)]
pub(super) struct Sticky {
    /// [`Sticky::NONE`] before the first.
    current: AtomicU32,
    /// Bytes that went there since it was chosen. Only changed under the lock of the current partition.
    bytes: AtomicUsize,
    random: Random,
}

impl Sticky {
    const NONE: u32 = u32::MAX;

    /// `seed` begins the random numbers by which partitions are chosen.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            current: AtomicU32::new(Self::NONE),
            bytes: AtomicUsize::new(0),
            random: Random::seeded(seed),
        }
    }

    /// The partition; `choose` makes the first choice.
    pub(super) fn current(&self, choose: impl FnOnce(&Random) -> u32) -> u32 {
        match self.current.load(Ordering::Acquire) {
            Self::NONE => {
                let chosen = choose(&self.random);
                // Somebody else may have been first.
                match self.current.compare_exchange(
                    Self::NONE,
                    chosen,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                ) {
                    Ok(_) => chosen,
                    Err(other) => other,
                }
            }
            partition => partition,
        }
    }

    /// Forgets the partition if the topic has lost it.
    pub(super) fn forget(&self, partition: u32, count: u32) {
        if partition >= count {
            // If it is another one by now, that stays.
            let _ = self.current.compare_exchange(
                partition,
                Self::NONE,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
        }
    }

    /// Whether it is still this one.
    pub(super) fn is(&self, partition: u32) -> bool {
        self.current.load(Ordering::Acquire) == partition
    }

    /// Counts a record that went to the current partition, whose lock the caller holds, and moves on if that is enough: not in the
    /// middle of a batch (`is_at_end` says that nothing is being collected), unless it is twice enough.
    pub(super) fn count(
        &self,
        bytes: usize,
        enough: usize,
        is_at_end: bool,
        choose: impl FnOnce(&Random) -> u32,
    ) {
        let sum = self.bytes.load(Ordering::Relaxed) + bytes;
        if sum < enough || (!is_at_end && sum < enough.saturating_mul(2)) {
            self.bytes.store(sum, Ordering::Relaxed);
            return;
        }
        self.bytes.store(0, Ordering::Relaxed);
        self.current.store(choose(&self.random), Ordering::Release);
    }
}

/// A partition that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) partition: u32,
    /// Batches that wait there.
    pub(super) queued: u32,
}

/// One of the candidates, each the likelier the less waits there (KIP-794); any of all partitions if there are no candidates.
pub(super) fn choose(
    candidates: impl Iterator<Item = Candidate> + Clone,
    partitions: u32,
    is_adaptive: bool,
    random: &Random,
) -> u32 {
    let longest = candidates.clone().map(|candidate| candidate.queued).max();
    let Some(longest) = longest else {
        return random.below(u64::from(partitions.max(1))) as u32;
    };
    let weight = |candidate: &Candidate| match is_adaptive {
        true => u64::from(longest - candidate.queued) + 1,
        false => 1,
    };
    let total = candidates.clone().map(|candidate| weight(&candidate)).sum::<u64>();
    let mut left = random.below(total);
    let mut last = 0;
    for candidate in candidates {
        last = candidate.partition;
        match left.checked_sub(weight(&candidate)) {
            Some(rest) => left = rest,
            None => break,
        }
    }
    last
}

/// Numbers to spread load with. Not for secrets.
#[derive(Debug)]
pub(super) struct Random(Mutex<SplitMix64>);

impl Random {
    /// The same numbers for the same seed.
    pub(super) fn seeded(seed: u64) -> Self {
        Self(Mutex::new(SplitMix64::new(seed)))
    }

    /// From 0 up to `bound`, which is above 0.
    pub(super) fn below(&self, bound: u64) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).below(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_robin_takes_turns_by_topic_and_passes_over_partitions_without_leader() {
        let partitioner = RoundRobin::default();
        let record = PartitionedRecord::new(Some(b"k"), None);
        let all = TopicPartitions::new("a", 3, &|_| true);
        let without_1 = TopicPartitions::new("b", 3, &|partition| partition != 1);
        let none = TopicPartitions::new("c", 2, &|_| false);
        let take = |topic: &TopicPartitions<'_>, n: usize| -> Vec<i32> {
            (0..n).map(|_| partitioner.partition(&record, topic)).collect()
        };
        assert_eq!(take(&all, 4), [0, 1, 2, 0]);
        assert_eq!(take(&without_1, 4), [0, 2, 0, 2]);
        assert_eq!(take(&none, 3), [0, 1, 0]);
        assert_eq!(take(&all, 1), [1]);
    }

    #[test]
    fn a_partition_where_much_waits_is_chosen_less() {
        let random = Random::seeded(1);
        let queued = [0, 3, 1];
        let candidates = queued
            .iter()
            .enumerate()
            .map(|(at, queued)| Candidate { partition: at as u32, queued: *queued });
        let mut counts = [0_u32; 3];
        for _ in 0..70_000 {
            counts[choose(candidates.clone(), 3, true, &random) as usize] += 1;
        }
        // The weights are 4, 1 and 3.
        for (count, expected) in counts.iter().zip([35_000, 8_750, 26_250]) {
            assert!(count.abs_diff(expected) < 1_500, "{counts:?}");
        }
        let mut counts = [0_u32; 3];
        for _ in 0..30_000 {
            counts[choose(candidates.clone(), 3, false, &random) as usize] += 1;
        }
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 1_000), "{counts:?}");
        let none = std::iter::empty::<Candidate>();
        assert!((0..100).all(|_| choose(none.clone(), 2, true, &random) < 2));
    }

    #[test]
    fn a_sticky_partition_changes_between_batches_or_at_twice_the_bytes() {
        let sticky = Sticky::new(1);
        assert_eq!(sticky.current(|_| 4), 4);
        assert_eq!(sticky.current(|_| 5), 4);
        sticky.count(90, 100, true, |_| 1);
        assert!(sticky.is(4), "not enough yet");
        sticky.count(20, 100, false, |_| 1);
        assert!(sticky.is(4), "in the middle of a batch");
        sticky.count(20, 100, true, |_| 1);
        assert!(sticky.is(1));
        sticky.count(199, 100, false, |_| 2);
        assert!(sticky.is(1));
        sticky.count(1, 100, false, |_| 2);
        assert!(sticky.is(2));
    }
}
