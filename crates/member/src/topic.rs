//! Topics and partitions, as far as a member looks at them.

use std::{collections::BTreeSet, fmt};

use kavka_protocol::{ByteString, Uuid};

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: ByteString,
    /// The number of the partition, from 0.
    pub partition: i32,
}

/// What the cluster says of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TopicMetadata {
    /// Its id; zero from brokers that have none.
    pub id: Uuid,
    /// By number.
    pub partitions: Vec<PartitionMetadata>,
}

/// What the cluster says of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartitionMetadata {
    /// The broker that leads it; `None` while there is none.
    pub leader: Option<i32>,
    /// The leader epoch; -1 if it is not known.
    pub leader_epoch: i32,
    /// The racks its replicas are in.
    pub racks: BTreeSet<ByteString>,
}

/// What an assignment depends on: for each partition, the racks of its replicas.
pub type TopicShape = Vec<BTreeSet<ByteString>>;

impl TopicPartition {
    /// The partition of that number.
    pub fn new(topic: impl Into<ByteString>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl TopicMetadata {
    /// What an assignment of this topic depends on.
    pub fn shape(&self) -> TopicShape {
        self.partitions.iter().map(|partition| partition.racks.clone()).collect()
    }

    pub(crate) fn partition(&self, partition: i32) -> Option<&PartitionMetadata> {
        usize::try_from(partition).ok().and_then(|index| self.partitions.get(index))
    }
}
