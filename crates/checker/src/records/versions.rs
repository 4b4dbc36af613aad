//! The version order: what is known of each partition's log.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    TopicPartition,
    operation::{Operation, Outcome},
};

/// A value that was sent, and whether it is in the log for certain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    /// The operation that sent it.
    pub(crate) operation: usize,
}

/// Where a value stands among the known values of its partition. Gaps of offsets do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The first place where it is.
    pub(crate) first: usize,
    /// The last. Another one only if the value is there twice.
    pub(crate) last: usize,
}

/// What is known of a partition's log.
#[derive(Debug, Default)]
pub(crate) struct PartitionLog {
    /// By offset: the values that somebody saw there, each with an event that shows it.
    pub(crate) offsets: BTreeMap<i64, BTreeMap<i64, usize>>,
    /// Where each value stands.
    pub(crate) places: BTreeMap<i64, Place>,
    /// Who sent each value.
    pub(crate) writes: BTreeMap<i64, Write>,
    /// The values that an operation has read and that did not fail, each with the first such operation.
    pub(crate) ok_reads: BTreeMap<i64, usize>,
}

/// What is known of all logs.
#[derive(Debug)]
pub(crate) struct Versions<'h> {
    pub(crate) logs: BTreeMap<&'h TopicPartition, PartitionLog>,
    /// The operations whose records are in the log for certain: those that happened, and those of which somebody has read a record.
    pub(crate) committed: BTreeSet<usize>,
}

impl<'h> Versions<'h> {
    pub(crate) fn new(operations: &[Operation<'h>]) -> Self {
        let mut logs: BTreeMap<&TopicPartition, PartitionLog> = BTreeMap::new();
        for (index, operation) in operations.iter().enumerate() {
            for (partition, records) in operation.reads() {
                let log = logs.entry(partition).or_default();
                for record in records {
                    log.saw(record.offset, record.value, operation.event());
                    if operation.outcome == Outcome::Ok {
                        log.ok_reads.entry(record.value).or_insert(index);
                    }
                }
            }
        }
        let mut committed = BTreeSet::new();
        for (index, operation) in operations.iter().enumerate() {
            let sends = operation.sends();
            for sent in &sends {
                let log = logs.entry(sent.partition).or_default();
                log.writes.insert(sent.value, Write { operation: index });
            }
            let read =
                sends.iter().any(|sent| logs[sent.partition].ok_reads.contains_key(&sent.value));
            let is_committed = match operation.outcome {
                Outcome::Ok => true,
                Outcome::Info => read,
                Outcome::Fail => false,
            };
            if !is_committed {
                continue;
            }
            committed.insert(index);
            for sent in &sends {
                if let Some(offset) = sent.offset {
                    let log = logs.entry(sent.partition).or_default();
                    log.saw(offset, sent.value, operation.event());
                }
            }
        }
        for log in logs.values_mut() {
            log.rank();
        }
        Self { logs, committed }
    }

    /// Where a value stands, if that is known.
    pub(crate) fn place(&self, partition: &TopicPartition, value: i64) -> Option<Place> {
        self.logs.get(partition)?.places.get(&value).copied()
    }

    /// The values at offsets of a range, in order.
    pub(crate) fn between(
        &self,
        partition: &TopicPartition,
        from: i64,
        to: i64,
    ) -> impl Iterator<Item = (i64, i64)> {
        let range = (from < to).then(|| self.logs.get(partition)).flatten();
        range.into_iter().flat_map(move |log| {
            log.offsets
                .range(from..to)
                .flat_map(|(offset, values)| values.keys().map(|value| (*offset, *value)))
        })
    }

    /// What is in the log for certain at offsets of a range.
    pub(crate) fn committed_between(
        &self,
        partition: &TopicPartition,
        from: i64,
        to: i64,
    ) -> impl Iterator<Item = (i64, i64)> {
        let log = self.logs.get(partition);
        self.between(partition, from, to).filter(move |(_, value)| {
            log.and_then(|log| log.writes.get(value))
                .is_some_and(|write| self.committed.contains(&write.operation))
        })
    }
}

impl PartitionLog {
    fn saw(&mut self, offset: i64, value: i64, event: usize) {
        self.offsets.entry(offset).or_default().entry(value).or_insert(event);
    }

    fn rank(&mut self) {
        for (rank, values) in self.offsets.values().enumerate() {
            for value in values.keys() {
                let place = self.places.entry(*value).or_insert(Place { first: rank, last: rank });
                place.last = rank;
            }
        }
    }
}
