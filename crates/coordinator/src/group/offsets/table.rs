//! Committed offsets in memory: 48 bytes each, beyond the names and notes.
//!
//! Topic names and ids are interned. The offsets of a group stand in *runs*: up to 64 partitions of one topic, sorted, in one
//! allocation that grows in small steps. A run is found by binary search, so are the partitions in it; no insertion moves more
//! than one run's worth of offsets, whatever order the log brings them in.
//!
//! Nothing here knows groups' states, clocks or requests.

use std::collections::BTreeMap;

use kavka_protocol::{ByteString, Uuid};

use crate::group::OffsetValue;

/// The committed offsets of all groups of a shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct OffsetTable {
    groups: BTreeMap<ByteString, GroupOffsets>,
    topics: Interner<ByteString>,
    topic_ids: Interner<Uuid>,
}

/// The committed offsets of a group. Never empty.
#[derive(Clone, Debug, Default)]
struct GroupOffsets {
    /// Sorted by topic (number) and block.
    runs: Vec<Run>,
}

/// Offsets of the partitions `block * 64 .. block * 64 + 64` of a topic. Never empty.
#[derive(Clone, Debug)]
struct Run {
    topic: u32,
    block: i32,
    /// Sorted by partition.
    entries: Vec<Entry>,
}

/// One committed offset.
#[derive(Clone, Debug)]
struct Entry {
    offset: i64,
    commit_timestamp_ms: i64,
    /// Where its record stands in the log.
    log_offset: i64,
    extra: Option<Box<Extra>>,
    partition: i32,
    leader_epoch: i32,
    topic_id: u32,
}

/// What few offsets have.
#[derive(Clone, Debug)]
struct Extra {
    metadata: ByteString,
    expire_timestamp_ms: Option<i64>,
}

/// A committed offset, as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) partition: i32,
    pub(crate) value: OffsetValue,
    pub(crate) log_offset: i64,
}

const BLOCK_BITS: u32 = 6;
const MAX_RUN: usize = 1 << BLOCK_BITS;

impl OffsetTable {
    /// Copies what it keeps: what was decoded shares the buffer it was read from, and would keep all of it.
    pub(crate) fn set(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
        value: &OffsetValue,
        log_offset: i64,
    ) {
        let topic = self.topics.number_or_insert(topic, |name| ByteString::from(name));
        let topic_id = self.topic_ids.number_or_insert(&value.topic_id, |id| *id);
        let entry = Entry {
            offset: value.offset,
            commit_timestamp_ms: value.commit_timestamp_ms,
            log_offset,
            extra: Extra::of(value),
            partition,
            leader_epoch: value.leader_epoch,
            topic_id,
        };
        match self.groups.get_mut(group) {
            Some(offsets) => offsets.set(topic, entry),
            None => {
                let mut offsets = GroupOffsets::default();
                offsets.set(topic, entry);
                self.groups.insert(ByteString::from(group), offsets);
            }
        }
    }

    pub(crate) fn remove(&mut self, group: &str, topic: &str, partition: i32) {
        let Some(topic) = self.topics.number(topic) else { return };
        let Some(offsets) = self.groups.get_mut(group) else { return };
        offsets.remove(topic, partition);
        if offsets.runs.is_empty() {
            self.groups.remove(group);
        }
    }

    pub(crate) fn get(&self, group: &str, topic: &str, partition: i32) -> Option<Committed> {
        let topic = self.topics.number(topic)?;
        self.groups.get(group)?.get(topic, partition).map(|entry| self.read(entry))
    }

    /// The groups that have offsets, in order.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &ByteString> {
        self.groups.keys()
    }

    /// The offsets of a group by topic name and partition.
    pub(crate) fn of_group(&self, group: &str) -> Vec<(ByteString, Vec<Committed>)> {
        let mut topics: BTreeMap<&ByteString, Vec<Committed>> = BTreeMap::new();
        for run in self.groups.get(group).map_or(&[][..], |offsets| &offsets.runs) {
            // Runs of a topic are in the order of their partitions.
            topics
                .entry(self.topics.name(run.topic))
                .or_default()
                .extend(run.entries.iter().map(|entry| self.read(entry)));
        }
        topics.into_iter().map(|(topic, offsets)| (topic.clone(), offsets)).collect()
    }

    /// The offsets of a group in one topic, by partition.
    pub(crate) fn of_topic(&self, group: &str, topic: &str) -> Vec<Committed> {
        let Some(topic) = self.topics.number(topic) else { return Vec::new() };
        let runs = self.groups.get(group).map_or(&[][..], |offsets| &offsets.runs);
        let first = runs.partition_point(|run| run.topic < topic);
        runs[first..]
            .iter()
            .take_while(|run| run.topic == topic)
            .flat_map(|run| run.entries.iter().map(|entry| self.read(entry)))
            .collect()
    }

    fn read(&self, entry: &Entry) -> Committed {
        let extra = entry.extra.as_deref();
        Committed {
            partition: entry.partition,
            value: OffsetValue {
                offset: entry.offset,
                leader_epoch: entry.leader_epoch,
                metadata: extra.map(|extra| extra.metadata.clone()).unwrap_or_default(),
                commit_timestamp_ms: entry.commit_timestamp_ms,
                expire_timestamp_ms: extra.and_then(|extra| extra.expire_timestamp_ms),
                topic_id: *self.topic_ids.name(entry.topic_id),
            },
            log_offset: entry.log_offset,
        }
    }
}

impl GroupOffsets {
    fn find_run(&self, topic: u32, block: i32) -> Result<usize, usize> {
        // Commits and logs go through a group's topics in order: the last run is the likely one.
        if let Some(last) = self.runs.last()
            && (last.topic, last.block) <= (topic, block)
        {
            let at = self.runs.len();
            return if (last.topic, last.block) == (topic, block) { Ok(at - 1) } else { Err(at) };
        }
        self.runs.binary_search_by_key(&(topic, block), |run| (run.topic, run.block))
    }

    fn set(&mut self, topic: u32, entry: Entry) {
        let block = entry.partition >> BLOCK_BITS;
        let run = match self.find_run(topic, block) {
            Ok(at) => &mut self.runs[at],
            Err(at) => {
                grow(&mut self.runs);
                self.runs.insert(at, Run { topic, block, entries: Vec::new() });
                &mut self.runs[at]
            }
        };
        let entries = &mut run.entries;
        match entries.binary_search_by_key(&entry.partition, |entry| entry.partition) {
            Ok(at) => entries[at] = entry,
            Err(at) => {
                grow(entries);
                entries.insert(at, entry);
            }
        }
    }

    fn get(&self, topic: u32, partition: i32) -> Option<&Entry> {
        let run = &self.runs[self.find_run(topic, partition >> BLOCK_BITS).ok()?];
        let at = run.entries.binary_search_by_key(&partition, |entry| entry.partition).ok()?;
        Some(&run.entries[at])
    }

    fn remove(&mut self, topic: u32, partition: i32) {
        let Ok(run_at) = self.find_run(topic, partition >> BLOCK_BITS) else { return };
        let entries = &mut self.runs[run_at].entries;
        if let Ok(at) = entries.binary_search_by_key(&partition, |entry| entry.partition) {
            entries.remove(at);
        }
        if entries.is_empty() {
            self.runs.remove(run_at);
        }
    }
}

/// Makes room for one more: an eighth more than there is, but one for the first, so that the many small vectors do not double
/// what is in memory.
fn grow<T>(entries: &mut Vec<T>) {
    if entries.len() == entries.capacity() {
        let more =
            (entries.len() / 8).max(1).next_multiple_of(if entries.is_empty() { 1 } else { 4 });
        entries.reserve_exact(more);
    }
}

impl Extra {
    fn of(value: &OffsetValue) -> Option<Box<Extra>> {
        (!value.metadata.is_empty() || value.expire_timestamp_ms.is_some()).then(|| {
            Box::new(Extra {
                metadata: ByteString::from(&*value.metadata),
                expire_timestamp_ms: value.expire_timestamp_ms,
            })
        })
    }
}

/// Values and the small numbers that stand for them.
#[derive(Clone, Debug)]
struct Interner<T> {
    numbers: BTreeMap<T, u32>,
    names: Vec<T>,
    /// The one asked for last: runs of the same topic are the rule.
    last: u32,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { numbers: BTreeMap::new(), names: Vec::new(), last: 0 }
    }
}

impl<T: Ord + Clone> Interner<T> {
    fn number_or_insert<Q: Ord + ?Sized>(&mut self, name: &Q, own: impl Fn(&Q) -> T) -> u32
    where
        T: std::borrow::Borrow<Q>,
    {
        if self.names.get(self.last as usize).is_some_and(|last| last.borrow() == name) {
            return self.last;
        }
        self.last = match self.numbers.get(name) {
            Some(number) => *number,
            None => {
                let number = self.names.len() as u32;
                let name = own(name);
                self.names.push(name.clone());
                self.numbers.insert(name, number);
                number
            }
        };
        self.last
    }

    fn number<Q: Ord + ?Sized>(&self, name: &Q) -> Option<u32>
    where
        T: std::borrow::Borrow<Q>,
    {
        self.numbers.get(name).copied()
    }

    fn name(&self, number: u32) -> &T {
        &self.names[number as usize]
    }
}

const _: () = assert!(size_of::<Entry>() == 48);
const _: () = assert!(MAX_RUN == 64);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(offset: i64) -> OffsetValue {
        OffsetValue {
            offset,
            leader_epoch: 7,
            metadata: if offset % 3 == 0 { "note".into() } else { ByteString::new() },
            commit_timestamp_ms: offset * 10,
            expire_timestamp_ms: (offset % 5 == 0).then_some(99),
            topic_id: Uuid::from_bytes([(offset % 4) as u8; 16]),
        }
    }

    proptest! {
        #[test]
        fn behaves_like_an_ordered_map(
            steps in prop::collection::vec((0..3u8, 0..4u8, -200..200i32, 0..60i64), 0..400)
        ) {
            let mut table = OffsetTable::default();
            let mut model: BTreeMap<(String, String, i32), (OffsetValue, i64)> = BTreeMap::new();
            for (log_offset, (group, topic, partition, offset)) in (0..).zip(steps) {
                let (group, topic) = (format!("g{group}"), format!("t{topic}"));
                if offset < 10 {
                    table.remove(&group, &topic, partition);
                    model.remove(&(group, topic, partition));
                } else {
                    let value = value(offset);
                    let names = (ByteString::from(&*group), ByteString::from(&*topic));
                    table.set(&names.0, &names.1, partition, &value, log_offset);
                    model.insert((group, topic, partition), (value, log_offset));
                }
            }
            let mut read = BTreeMap::new();
            for group in table.groups() {
                for (topic, offsets) in table.of_group(group) {
                    prop_assert!(offsets.is_sorted_by_key(|offset| offset.partition));
                    for Committed { partition, value, log_offset } in offsets {
                        let found = table.get(group, &topic, partition).map(|c| c.value);
                        prop_assert_eq!(found.as_ref(), Some(&value));
                        read.insert((group.to_string(), topic.to_string(), partition), (value, log_offset));
                    }
                }
            }
            prop_assert_eq!(read, model);
        }
    }
}
