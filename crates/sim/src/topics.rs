//! Topics with records in them, as far as consumers of groups see them: where logs begin and end, and who leads.

use std::collections::{BTreeMap, BTreeSet};

use kavka_coordinator::group::CommitRequest;
use kavka_member::{
    EpochEnd, EpochQuery, ListedOffset, PartitionMetadata, Request, Response, TopicMetadata,
    TopicPartition,
};
use kavka_protocol::{ByteString, ErrorCode, Uuid};

/// See the module.
#[derive(Clone, Debug, Default)]
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

    /// What leaders of partitions are asked.
    ///
    /// # Panics
    /// If they are not asked that.
    pub(crate) fn answer(&self, request: &Request) -> Response {
        match request {
            Request::ListOffsets(list) => {
                let row = |(partition, _, at): &(TopicPartition, i32, i64)| {
                    let row = match self.log(partition) {
                        None => ListedOffset {
                            error: ErrorCode::UnknownTopicOrPartition,
                            offset: -1,
                            leader_epoch: -1,
                        },
                        Some((_, log)) => ListedOffset {
                            error: ErrorCode::None,
                            offset: if *at == -2 { log.start } else { log.end },
                            leader_epoch: 0,
                        },
                    };
                    (partition.clone(), row)
                };
                Response::ListOffsets(list.partitions.iter().map(row).collect())
            }
            Request::EndOfEpochs(queries) => {
                let row = |query: &EpochQuery| {
                    let end = self.log(&query.partition).map(|(_, log)| log.end);
                    let error = match end {
                        Some(_) => ErrorCode::None,
                        None => ErrorCode::UnknownTopicOrPartition,
                    };
                    let end_offset = end.unwrap_or(-1);
                    let row = EpochEnd { error, leader_epoch: query.leader_epoch, end_offset };
                    (query.partition.clone(), row)
                };
                Response::EndOfEpochs(queries.iter().map(row).collect())
            }
            other => panic!("not asked of leaders of partitions: {other:?}"),
        }
    }

    /// Of a commit, the broker's handler leaves out what does not exist.
    pub(crate) fn leave_out_unknown(&self, commit: &mut CommitRequest) {
        commit.topics.retain(|topic| {
            let known = self.get(&topic.name);
            known.is_some_and(|known| topic.topic_id.is_zero() || topic.topic_id == known.id)
        });
        for topic in &mut commit.topics {
            if let Some(known) = self.get(&topic.name) {
                topic.topic_id = known.id;
                let len = i32::try_from(known.partitions.len()).unwrap_or(0);
                topic.partitions.retain(|row| row.partition < len);
            }
        }
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
