//! What the program around a broker sees of it, and does with it, without a connection: groups, committed offsets, partitions,
//! records, new topics.
//!
//! Everything is read from where requests are answered from, so it is never ahead of what a client could see.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use bytestring::ByteString;
use kavka_coordinator::group::{
    DescribedGroup, FetchReply, FetchRequest, GroupState, Reply, Request,
};
use kavka_log::LogError;
use kavka_meta::{ConfigMap, MetaError, NewTopic, TopicError, config::topic as topic_config};
use kavka_protocol::{ErrorCode, Uuid};

use crate::{
    broker::{Broker, RunningBroker},
    internal_topics::is_internal,
    partition::Partition,
};

/// A view into a broker that does not keep it alive.
#[derive(Clone, Debug)]
pub struct Inspector {
    broker: Weak<Broker>,
}

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionOffsets {
    /// The first offset that can be read.
    pub log_start_offset: i64,
    /// The offset up to which consumers read.
    pub high_watermark: i64,
    /// The offset of the next record.
    pub log_end_offset: i64,
}

/// Why a question was not answered, or a topic not created.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The broker does not run any more.
    #[error("the broker does not run")]
    Gone,
    /// There is no such topic.
    #[error("topic {topic} does not exist")]
    UnknownTopic {
        /// Its name.
        topic: String,
    },
    /// The log of a partition could not be opened.
    #[error("{topic}-{partition} is offline, the broker's log says why")]
    Offline {
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: usize,
    },
    /// Records were not appended, or not read.
    #[error("{topic}-{partition}: {reason}")]
    Records {
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: i32,
        /// Why.
        reason: String,
    },
    /// The group's coordinator does not serve it right now.
    #[error("the coordinator of group {group} says {}", error.name())]
    Coordinator {
        /// The group.
        group: String,
        /// What the coordinator says.
        error: ErrorCode,
    },
    /// A topic to be created was refused.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// A config of a topic to be created was refused.
    #[error(transparent)]
    Config(#[from] kavka_meta::config::ConfigError),
    /// The metadata could not be written.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl RunningBroker {
    /// A view into this broker.
    pub fn inspector(&self) -> Inspector {
        Inspector { broker: Arc::downgrade(&self.broker) }
    }
}

impl Inspector {
    fn broker(&self) -> Result<Arc<Broker>, InspectError> {
        self.broker.upgrade().ok_or(InspectError::Gone)
    }

    /// The group as DescribeGroups shows it; Dead if it does not exist.
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Errors
    /// [`InspectError::Coordinator`], [`InspectError::Gone`].
    pub async fn group(&self, group: &str) -> Result<DescribedGroup, InspectError> {
        let broker = self.broker()?;
        let name = ByteString::from(group);
        if !broker.groups.is_started() {
            // Nobody ever asked for a coordinator.
            return Ok(DescribedGroup {
                error: ErrorCode::GroupIdNotFound,
                group: name,
                state: GroupState::Dead,
                protocol_type: ByteString::new(),
                protocol_name: ByteString::new(),
                members: Vec::new(),
            });
        }
        let request = Request::DescribeGroups(vec![name]);
        let Reply::DescribeGroups(mut groups) = broker.groups.ask(group, request).await else {
            unreachable!("a request is answered in kind")
        };
        match groups.pop() {
            Some(described)
                if matches!(described.error, ErrorCode::None | ErrorCode::GroupIdNotFound) =>
            {
                Ok(described)
            }
            Some(DescribedGroup { error, .. }) => {
                Err(InspectError::Coordinator { group: group.to_owned(), error })
            }
            None => unreachable!("one group was asked about"),
        }
    }

    /// The offsets that the group has committed, by topic and partition; durable ones.
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Errors
    /// [`InspectError::Coordinator`], [`InspectError::Gone`].
    pub async fn committed_offsets(
        &self,
        group: &str,
    ) -> Result<BTreeMap<(String, i32), i64>, InspectError> {
        let broker = self.broker()?;
        if !broker.groups.is_started() {
            return Ok(BTreeMap::new());
        }
        let request = FetchRequest { group: group.into(), topics: None, require_stable: false };
        let Reply::FetchOffsets(FetchReply { error, topics, .. }) =
            broker.groups.ask(group, Request::FetchOffsets(request)).await
        else {
            unreachable!("a request is answered in kind")
        };
        if error != ErrorCode::None {
            return Err(InspectError::Coordinator { group: group.to_owned(), error });
        }
        let mut committed = BTreeMap::new();
        for topic in topics {
            for partition in topic.partitions {
                committed.insert((topic.name.to_string(), partition.partition), partition.offset);
            }
        }
        Ok(committed)
    }

    /// Where the partitions of a topic begin and end.
    ///
    /// # Errors
    /// [`InspectError::UnknownTopic`], [`InspectError::Offline`], [`InspectError::Gone`].
    pub fn partitions(&self, topic: &str) -> Result<Vec<PartitionOffsets>, InspectError> {
        let unknown = || InspectError::UnknownTopic { topic: topic.to_owned() };
        let found = self.broker()?.topics.by_name(topic).ok_or_else(unknown)?;
        let offsets = |(index, partition): (usize, &Result<Arc<Partition>, LogError>)| {
            let offline =
                |_: &_| InspectError::Offline { topic: topic.to_owned(), partition: index };
            let partition = partition.as_ref().map_err(offline)?;
            Ok(PartitionOffsets {
                log_start_offset: partition.log_start_offset(),
                high_watermark: partition.high_watermark(),
                log_end_offset: partition.log_end_offset(),
            })
        };
        found.partitions.iter().enumerate().map(offsets).collect()
    }

    /// Appends a batch as the produce of a client would, and returns the offset of its first record once it is durable.
    ///
    /// A call that is dropped may have appended it or not.
    ///
    /// # Errors
    /// [`InspectError::Records`], [`InspectError::UnknownTopic`], [`InspectError::Gone`].
    pub async fn append(
        &self,
        topic: &str,
        partition: i32,
        batch: &Bytes,
    ) -> Result<i64, InspectError> {
        let broker = self.broker()?;
        let failed = |reason: String| {
            let topic = topic.to_owned();
            InspectError::Records { topic, partition, reason }
        };
        let found = find_partition(&broker, topic, partition)?;
        let produced = found.produce(batch, broker.clock.wall_ms());
        let produced = produced.map_err(|error| failed(error.to_string()))?;
        let durable = found.durable(produced.end_offset).await;
        durable.map_err(|_| failed("the disk failed, or the topic was deleted".to_owned()))?;
        Ok(produced.base_offset)
    }

    /// Whole batches from the one that has the offset `from` on, as consumers see them: up to `max_bytes`, but one at least if
    /// there is one.
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Errors
    /// [`InspectError::Records`], [`InspectError::UnknownTopic`], [`InspectError::Gone`].
    pub async fn read(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        max_bytes: usize,
    ) -> Result<Bytes, InspectError> {
        let broker = self.broker()?;
        let found = find_partition(&broker, topic, partition)?;
        let read = found.read(from, found.high_watermark(), max_bytes, true).await;
        let failed = |error: LogError| InspectError::Records {
            topic: topic.to_owned(),
            partition,
            reason: error.to_string(),
        };
        Ok(read.map_err(failed)?.into_bytes())
    }

    /// Creates topics at once, each with its number of partitions and its configs; they are served when this returns. The ids,
    /// in the order of the topics.
    ///
    /// A call that is dropped may have created them or not.
    ///
    /// # Errors
    /// The first topic that was refused. Those without a fault are created all the same, unless a config is at fault.
    pub async fn create_topics(
        &self,
        topics: Vec<(String, i32, ConfigMap)>,
    ) -> Result<Vec<Uuid>, InspectError> {
        let broker = self.broker()?;
        let mut new = Vec::with_capacity(topics.len());
        for (name, partitions, configs) in topics {
            broker.with_broker_values(|values| topic_config::validate(&configs, values))?;
            let internal = is_internal(&name);
            new.push(NewTopic { name, partitions, replication_factor: 1, configs, internal });
        }
        let created = broker.create_topics(new).await?;
        created.into_iter().map(|topic| Ok(topic?.id)).collect()
    }
}

fn find_partition(
    broker: &Broker,
    topic: &str,
    partition: i32,
) -> Result<Arc<Partition>, InspectError> {
    let unknown = || InspectError::UnknownTopic { topic: topic.to_owned() };
    let found = broker.topics.by_name(topic).ok_or_else(unknown)?;
    found.partition(partition).cloned().map_err(|error| InspectError::Records {
        topic: topic.to_owned(),
        partition,
        reason: error.name().to_owned(),
    })
}
