//! Offsets that wait for the end of a transaction: written, and not yet committed.
//!
//! A producer sends offsets with the records of its transaction; they count when its marker says so. Several producers may
//! have an offset for the same partition at a time. Nothing here knows how a transaction runs: who may write, and when it
//! ends, is decided elsewhere.
//!
//! # References
//! KIP-98 (transactions), KIP-447 (what a fetch shows meanwhile).

use std::collections::{BTreeMap, BTreeSet};

use kavka_protocol::ByteString;

use crate::group::OffsetValue;

/// Topic and partition.
type TopicPartition = (ByteString, i32);

/// The offsets of transactions that have not ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct PendingOffsets {
    /// Group; topic and partition; producer.
    groups: BTreeMap<ByteString, BTreeMap<TopicPartition, BTreeMap<i64, Pending>>>,
    /// What each producer has pending, so that its marker finds it.
    producers: BTreeMap<i64, BTreeSet<(ByteString, TopicPartition)>>,
}

/// An offset, and where its record stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) value: OffsetValue,
    pub(crate) log_offset: i64,
}

impl PendingOffsets {
    /// A producer's later offset takes the place of its earlier one.
    pub(crate) fn set(
        &mut self,
        producer_id: i64,
        group: ByteString,
        topic: ByteString,
        partition: i32,
        pending: Pending,
    ) {
        let at = (topic, partition);
        self.producers.entry(producer_id).or_default().insert((group.clone(), at.clone()));
        let of_group = self.groups.entry(group).or_default();
        of_group.entry(at).or_default().insert(producer_id, pending);
    }

    /// Everything that is pending for a partition is gone: its offset was deleted.
    pub(crate) fn remove(&mut self, group: &ByteString, topic: &ByteString, partition: i32) {
        let Some(of_group) = self.groups.get_mut(group) else { return };
        let at = (topic.clone(), partition);
        for producer_id in of_group.remove(&at).unwrap_or_default().into_keys() {
            if let Some(of_producer) = self.producers.get_mut(&producer_id) {
                of_producer.remove(&(group.clone(), at.clone()));
                if of_producer.is_empty() {
                    self.producers.remove(&producer_id);
                }
            }
        }
        if of_group.is_empty() {
            self.groups.remove(group);
        }
    }

    /// Takes out what the transaction of a producer that ends has written: group, topic, partition, offset.
    pub(crate) fn end(&mut self, producer_id: i64) -> Vec<(ByteString, ByteString, i32, Pending)> {
        let mut ended = Vec::new();
        for (group, at) in self.producers.remove(&producer_id).unwrap_or_default() {
            let Some(of_group) = self.groups.get_mut(&group) else { continue };
            let Some(of_partition) = of_group.get_mut(&at) else { continue };
            let pending = of_partition.remove(&producer_id);
            if of_partition.is_empty() {
                of_group.remove(&at);
            }
            if of_group.is_empty() {
                self.groups.remove(&group);
            }
            let (topic, partition) = at;
            ended.extend(pending.map(|pending| (group, topic, partition, pending)));
        }
        ended
    }

    /// The groups that have offsets pending, in order.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &ByteString> {
        self.groups.keys()
    }

    /// Whether a transaction is open that has an offset for this partition.
    pub(crate) fn has(&self, group: &str, topic: &ByteString, partition: i32) -> bool {
        let of_group = self.groups.get(group);
        of_group.is_some_and(|of_group| of_group.contains_key(&(topic.clone(), partition)))
    }

    /// The topics and partitions of a group that have offsets pending, in order.
    pub(crate) fn of_group(&self, group: &str) -> impl Iterator<Item = &TopicPartition> {
        self.groups.get(group).into_iter().flat_map(BTreeMap::keys)
    }

    /// The partitions of a topic for which a group has an offset pending that `is_meant` is true of.
    pub(crate) fn of_topic(
        &self,
        group: &str,
        topic: &ByteString,
        is_meant: impl Fn(&OffsetValue) -> bool,
    ) -> impl Iterator<Item = i32> {
        let first = (topic.clone(), i32::MIN);
        let of_group = self.groups.get(group).map(|of_group| of_group.range(first..));
        let of_topic = of_group.into_iter().flatten().take_while(move |((t, _), _)| t == topic);
        of_topic
            .filter(move |(_, pending)| pending.values().any(|pending| is_meant(&pending.value)))
            .map(|((_, partition), _)| *partition)
    }

    /// Everything, by group, topic, partition and producer.
    pub(crate) fn all(
        &self,
    ) -> impl Iterator<Item = (&ByteString, &TopicPartition, i64, &Pending)> {
        self.groups.iter().flat_map(|(group, of_group)| {
            of_group.iter().flat_map(move |(at, of_partition)| {
                of_partition.iter().map(move |(producer, pending)| (group, at, *producer, pending))
            })
        })
    }
}
