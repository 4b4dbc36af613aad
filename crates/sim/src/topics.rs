//! Topics with records in them, as far as consumers of groups see them: where logs begin and end, and who leads.

use std::collections::{BTreeMap, BTreeSet};

use kavka_member::{PartitionMetadata, TopicMetadata, TopicPartition};
use kavka_protocol::{ByteString, Uuid};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    topics: BTreeMap<ByteString, Topic>,
    made: u8,
    /// Rises with every change that metadata shows.
    pub(crate) version: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) id: Uuid,
    pub(crate) leader_epoch: i32,
    pub(crate) partitions: Vec<PartitionLog>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PartitionLog {
    pub(crate) start: i64,
    pub(crate) end: i64,
}

impl Topics {
    pub(crate) fn create(&mut self, name: ByteString, partitions: i32) {
        self.made += 1;
        self.version += 1;
        let partitions = vec![PartitionLog::default(); usize::try_from(partitions).unwrap_or(0)];
        let id = Uuid::from_bytes([self.made; 16]);
        self.topics.insert(name, Topic { id, leader_epoch: 0, partitions });
    }

    /// The id it had.
    pub(crate) fn delete(&mut self, name: &ByteString) -> Option<Uuid> {
        self.version += 1;
        self.topics.remove(name).map(|topic| topic.id)
    }

    pub(crate) fn get(&self, name: &ByteString) -> Option<&Topic> {
        self.topics.get(name)
    }

    pub(crate) fn get_mut(&mut self, name: &ByteString) -> Option<&mut Topic> {
        self.topics.get_mut(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &ByteString> {
        self.topics.keys()
    }

    /// Its id and log; `None` if there is no such partition.
    pub(crate) fn log(&self, partition: &TopicPartition) -> Option<(Uuid, PartitionLog)> {
        let topic = self.topics.get(&partition.topic)?;
        let index = usize::try_from(partition.partition).ok()?;
        topic.partitions.get(index).map(|log| (topic.id, *log))
    }

    pub(crate) fn log_mut(&mut self, partition: &TopicPartition) -> Option<&mut PartitionLog> {
        let topic = self.topics.get_mut(&partition.topic)?;
        topic.partitions.get_mut(usize::try_from(partition.partition).ok()?)
    }

    /// Every partition of these topics.
    pub(crate) fn partitions<'a>(
        &'a self,
        of: impl IntoIterator<Item = &'a ByteString>,
    ) -> BTreeSet<TopicPartition> {
        let topics = of.into_iter().filter_map(|name| Some((name, self.topics.get(name)?)));
        topics
            .flat_map(|(name, topic)| {
                (0..)
                    .zip(&topic.partitions)
                    .map(|(number, _)| TopicPartition::new(name.clone(), number))
            })
            .collect()
    }

    /// As brokers tell it.
    pub(crate) fn metadata(&self) -> BTreeMap<ByteString, TopicMetadata> {
        let topics = self.topics.iter().map(|(name, topic)| {
            let partition = PartitionMetadata {
                leader: Some(1),
                leader_epoch: topic.leader_epoch,
                racks: BTreeSet::new(),
            };
            let partitions = vec![partition; topic.partitions.len()];
            (name.clone(), TopicMetadata { id: topic.id, partitions })
        });
        topics.collect()
    }

    /// As assignors want it.
    pub(crate) fn cluster(&self) -> kavka_assignor::Cluster {
        let topics = self.topics.iter().map(|(name, topic)| {
            let partitions = u32::try_from(topic.partitions.len()).unwrap_or(0);
            (name.clone(), kavka_assignor::TopicMetadata { partitions, ..Default::default() })
        });
        topics.collect()
    }
}
