//! Topics: listing and describing them.

use std::collections::{BTreeMap, BTreeSet};

use bytestring::ByteString;
use kavka_member::TopicPartition;
use kavka_protocol::{
    ErrorCode, Uuid,
    messages::{
        MetadataRequest, MetadataResponse,
        metadata_request::MetadataRequestTopic,
        metadata_response::{MetadataResponsePartition, MetadataResponseTopic},
    },
};

use super::{
    Admin, Operation,
    rounds::{Answered, Left, Repeat, unsupported},
};
use crate::{Error, cluster::Node, connection::Connection};

/// From these versions of Metadata on: topics' authorized operations (KIP-430), topic ids in answers, asking by topic id (KIP-516).
const OPERATIONS: i16 = 8;
const BY_ID: i16 = 12;
const NEWEST: i16 = 13;

/// A topic, in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicListing {
    /// Its name.
    pub name: ByteString,
    /// Its id; brokers before 2.8 have none.
    pub id: Option<Uuid>,
    /// Whether the cluster keeps its own affairs in it.
    pub is_internal: bool,
    /// How many partitions it has.
    pub partitions: usize,
}

/// A topic, with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: ByteString,
    /// Its id; brokers before 2.8 have none.
    pub id: Option<Uuid>,
    /// Whether the cluster keeps its own affairs in it.
    pub is_internal: bool,
    /// The partitions, by number.
    pub partitions: Vec<PartitionDescription>,
    /// What this client may do with it (KIP-430); brokers before 2.3 do not tell.
    pub authorized_operations: Option<BTreeSet<Operation>>,
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its number.
    pub partition: i32,
    /// The broker that leads it; none while there is none.
    pub leader: Option<i32>,
    /// How often the leader has changed; brokers before 2.1 do not tell.
    pub leader_epoch: Option<i32>,
    /// The brokers that keep a copy; the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those whose copies are complete.
    pub in_sync_replicas: Vec<i32>,
    /// Those whose copies cannot be reached.
    pub offline_replicas: Vec<i32>,
}

impl Admin {
    /// All topics this client may see, by name, the internal ones too.
    ///
    /// Cancel safe: it only reads.
    ///
    /// # Errors
    /// No broker answers in time, or the cluster refuses.
    pub async fn list_topics(&self) -> Result<Vec<TopicListing>, Error> {
        let response = self.once(Repeat::Safe, |left| async move {
            let connection = self.cluster.any().await?;
            self.metadata(&connection, None, left).await
        });
        let rows = response.await?.topics.into_iter();
        let mut topics: Vec<TopicListing> = rows
            .filter(|row| row.error_code == ErrorCode::None)
            .filter_map(|row| {
                Some(TopicListing {
                    name: row.name?,
                    id: some_id(row.topic_id),
                    is_internal: row.is_internal,
                    partitions: row.partitions.len(),
                })
            })
            .collect();
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(topics)
    }

    /// What is known of some topics. Never makes one.
    ///
    /// Cancel safe: it only reads.
    ///
    /// # Errors
    /// Per topic. `UNKNOWN_TOPIC_OR_PARTITION`: there is none of that name, which may also be so for a moment after it was made.
    pub async fn describe_topics(
        &self,
        names: impl IntoIterator<Item = impl Into<ByteString>>,
    ) -> BTreeMap<ByteString, Result<TopicDescription, Error>> {
        let names = names.into_iter().map(Into::into);
        self.rounds(names, |names, left| {
            let ask = move |connection, names: Vec<ByteString>| async move {
                self.describe_by_name(&connection, &names, left).await
            };
            self.at_any(names, Repeat::Safe, ask)
        })
        .await
    }

    /// As [`Admin::describe_topics`], by topic id (KIP-516; Kafka 3.1).
    ///
    /// Cancel safe: it only reads.
    ///
    /// # Errors
    /// Per topic. `UNKNOWN_TOPIC_ID`: there is none of that id.
    pub async fn describe_topics_by_id(
        &self,
        ids: impl IntoIterator<Item = Uuid>,
    ) -> BTreeMap<Uuid, Result<TopicDescription, Error>> {
        self.rounds(ids, |ids, left| {
            let ask = move |connection, ids: Vec<Uuid>| async move {
                self.describe_by_id(&connection, &ids, left).await
            };
            self.at_any(ids, Repeat::Safe, ask)
        })
        .await
    }

    async fn describe_by_name(
        &self,
        connection: &Connection,
        names: &[ByteString],
        left: Left,
    ) -> Answered<ByteString, TopicDescription> {
        let response = self.metadata(connection, Some(by_name(names)), left).await?;
        let rows = response.topics.into_iter().filter_map(|row| {
            let name = row.name.clone()?;
            Some((name.clone(), describe(row, name)))
        });
        Ok(rows.collect())
    }

    async fn describe_by_id(
        &self,
        connection: &Connection,
        ids: &[Uuid],
        left: Left,
    ) -> Answered<Uuid, TopicDescription> {
        if Self::version::<MetadataRequest>(connection)? < BY_ID {
            return Err(unsupported("look up topics by id", "3.1"));
        }
        let topics = ids.iter().map(|id| MetadataRequestTopic {
            topic_id: *id,
            name: None,
            ..Default::default()
        });
        let response = self.metadata(connection, Some(topics.collect()), left).await?;
        let rows = response.topics.into_iter().map(|row| {
            let (id, name) = (row.topic_id, row.name.clone().unwrap_or_default());
            (id, describe(row, name))
        });
        Ok(rows.collect())
    }

    /// Asks for metadata without making anything; `None`: of all topics.
    async fn metadata(
        &self,
        connection: &Connection,
        topics: Option<Vec<MetadataRequestTopic>>,
        left: Left,
    ) -> Result<MetadataResponse, Error> {
        let has_operations = Self::version::<MetadataRequest>(connection)? >= OPERATIONS;
        let request = MetadataRequest {
            include_topic_authorized_operations: has_operations && topics.is_some(),
            topics,
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let response = self.ask(connection, &request, NEWEST, left).await?;
        match response.error_code {
            ErrorCode::None => Ok(response),
            code => Err(Error::broker(code, "reading the cluster's metadata")),
        }
    }

    /// The brokers that are alive.
    pub(super) async fn brokers_now(&self, left: Left) -> Result<Vec<Node>, Error> {
        let connection = self.cluster.any().await?;
        let response = self.metadata(&connection, Some(Vec::new()), left).await?;
        let brokers = response.brokers.into_iter();
        Ok(brokers.filter_map(|row| Node::new(row.node_id, row.host, row.port, row.rack)).collect())
    }

    /// The leaders of all partitions of some topics, as they are now.
    pub(super) async fn leaders(
        &self,
        topics: &BTreeSet<ByteString>,
        left: Left,
    ) -> Result<Leaders, Error> {
        let connection = self.cluster.any().await?;
        let response = self.metadata(&connection, Some(by_name(topics)), left).await?;
        let brokers = response.brokers.into_iter();
        let nodes = brokers
            .filter_map(|row| Node::new(row.node_id, row.host, row.port, row.rack))
            .map(|node| (node.id, node))
            .collect();
        let topics = response.topics.into_iter().filter_map(|row| Some((row.name.clone()?, row)));
        Ok(Leaders { nodes, topics: topics.collect() })
    }
}

fn by_name<'a>(names: impl IntoIterator<Item = &'a ByteString>) -> Vec<MetadataRequestTopic> {
    let row =
        |name: &ByteString| MetadataRequestTopic { name: Some(name.clone()), ..Default::default() };
    names.into_iter().map(row).collect()
}

/// Who leads what.
#[derive(Debug)]
pub(super) struct Leaders {
    nodes: BTreeMap<i32, Node>,
    topics: BTreeMap<ByteString, MetadataResponseTopic>,
}

impl Leaders {
    /// The broker that leads a partition.
    pub(super) fn of(&self, topic: &ByteString, partition: i32) -> Result<&Node, Error> {
        let failed = |code| {
            Error::broker(code, format_args!("looking for the leader of {topic}-{partition}"))
        };
        let topic =
            self.topics.get(topic).ok_or_else(|| failed(ErrorCode::UnknownTopicOrPartition))?;
        if topic.error_code != ErrorCode::None {
            return Err(failed(topic.error_code));
        }
        let row = topic.partitions.iter().find(|row| row.partition_index == partition);
        let row = row.ok_or_else(|| failed(ErrorCode::UnknownTopicOrPartition))?;
        self.nodes.get(&row.leader_id).ok_or_else(|| failed(ErrorCode::LeaderNotAvailable))
    }
}

/// Partition numbers by topic, as most requests have them.
pub(super) fn by_topic<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> BTreeMap<ByteString, Vec<i32>> {
    let mut topics: BTreeMap<ByteString, Vec<i32>> = BTreeMap::new();
    for place in partitions {
        topics.entry(place.topic.clone()).or_default().push(place.partition);
    }
    topics
}

pub(super) fn some_id(id: Uuid) -> Option<Uuid> {
    Some(id).filter(|id| !id.is_zero())
}

fn describe(row: MetadataResponseTopic, name: ByteString) -> Result<TopicDescription, Error> {
    if row.error_code != ErrorCode::None {
        let what = if name.is_empty() { row.topic_id.to_string() } else { name.to_string() };
        return Err(Error::broker(row.error_code, format_args!("describing topic {what}")));
    }
    let partition = |row: MetadataResponsePartition| PartitionDescription {
        partition: row.partition_index,
        leader: Some(row.leader_id).filter(|id| *id >= 0),
        leader_epoch: Some(row.leader_epoch).filter(|epoch| *epoch >= 0),
        replicas: row.replica_nodes,
        in_sync_replicas: row.isr_nodes,
        offline_replicas: row.offline_replicas,
    };
    let mut partitions: Vec<PartitionDescription> =
        row.partitions.into_iter().map(partition).collect();
    partitions.sort_by_key(|partition| partition.partition);
    Ok(TopicDescription {
        name,
        id: some_id(row.topic_id),
        is_internal: row.is_internal,
        partitions,
        authorized_operations: Operation::set(row.topic_authorized_operations),
    })
}
