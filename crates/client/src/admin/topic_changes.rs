//! Topics: creating and deleting them, adding partitions.

use std::{collections::BTreeMap, fmt};

use bytestring::ByteString;
use kavka_protocol::{
    ErrorCode, Uuid,
    messages::{
        CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
        create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic},
        create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig},
        create_topics_response::CreatableTopicResult,
        delete_topics_request::DeleteTopicState,
    },
};

use super::{
    Admin, Change,
    rounds::{Answered, Left, Repeat, unsupported},
    topics::some_id,
};
use crate::{Error, connection::Connection};

/// From this version of CreateTopics on the broker chooses the number of partitions and replicas (KIP-464).
const BROKER_CHOOSES: i16 = 4;
/// From this version of DeleteTopics on topics are named by name or id (KIP-516).
const BY_ID: i16 = 6;

/// A topic to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct NewTopic {
    name: ByteString,
    layout: Layout,
    configs: BTreeMap<ByteString, ByteString>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Layout {
    Counts { partitions: Option<i32>, replication_factor: Option<i16> },
    Assigned(BTreeMap<i32, Vec<i32>>),
}

/// A topic that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id; brokers before 2.8 have none.
    pub id: Option<Uuid>,
    /// How many partitions it has, if the broker tells: from 2.4 on, to whom may read the topic's configs.
    pub partitions: Option<i32>,
    /// How many copies of each there are; as above.
    pub replication_factor: Option<i16>,
    /// The configs in force, by name; as above. The value of a secret one is not told.
    pub configs: Option<BTreeMap<ByteString, Option<ByteString>>>,
}

/// More partitions for a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct NewPartitions {
    total: i32,
    assignments: Option<Vec<Vec<i32>>>,
}

impl NewTopic {
    /// A topic with as many partitions and replicas as the broker's `num.partitions` and `default.replication.factor` say
    /// (brokers before 2.4 have to be told).
    pub fn new(name: impl Into<ByteString>) -> Self {
        Self {
            name: name.into(),
            layout: Layout::Counts { partitions: None, replication_factor: None },
            configs: BTreeMap::new(),
        }
    }

    /// How many partitions; takes the place of assignments.
    pub fn partitions(mut self, partitions: i32) -> Self {
        let replication_factor = match self.layout {
            Layout::Counts { replication_factor, .. } => replication_factor,
            Layout::Assigned(_) => None,
        };
        self.layout = Layout::Counts { partitions: Some(partitions), replication_factor };
        self
    }

    /// How many copies of each partition; takes the place of assignments.
    pub fn replication_factor(mut self, replication_factor: i16) -> Self {
        let partitions = match self.layout {
            Layout::Counts { partitions, .. } => partitions,
            Layout::Assigned(_) => None,
        };
        self.layout = Layout::Counts { partitions, replication_factor: Some(replication_factor) };
        self
    }

    /// Which brokers keep a copy of which partition, the preferred leader first; takes the place of counts.
    pub fn assignments(mut self, brokers: impl IntoIterator<Item = (i32, Vec<i32>)>) -> Self {
        self.layout = Layout::Assigned(brokers.into_iter().collect());
        self
    }

    /// A config, by Kafka's name.
    pub fn config(mut self, name: impl Into<ByteString>, value: impl Into<ByteString>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }

    fn row(&self) -> CreatableTopic {
        let (num_partitions, replication_factor, assignments) = match &self.layout {
            Layout::Counts { partitions, replication_factor } => {
                (partitions.unwrap_or(-1), replication_factor.unwrap_or(-1), Vec::new())
            }
            Layout::Assigned(brokers) => {
                let row = |(partition, brokers): (&i32, &Vec<i32>)| CreatableReplicaAssignment {
                    partition_index: *partition,
                    broker_ids: brokers.clone(),
                    ..Default::default()
                };
                (-1, -1, brokers.iter().map(row).collect())
            }
        };
        let config = |(name, value): (&ByteString, &ByteString)| CreatableTopicConfig {
            name: name.clone(),
            value: Some(value.clone()),
            ..Default::default()
        };
        CreatableTopic {
            name: self.name.clone(),
            num_partitions,
            replication_factor,
            assignments,
            configs: self.configs.iter().map(config).collect(),
            ..Default::default()
        }
    }

    fn lets_broker_choose(&self) -> bool {
        matches!(
            self.layout,
            Layout::Counts { partitions: None, .. }
                | Layout::Counts { replication_factor: None, .. }
        )
    }
}

impl NewPartitions {
    /// How many the topic has afterwards; has to be more than it has.
    pub fn up_to(total: i32) -> Self {
        Self { total, assignments: None }
    }

    /// Which brokers keep a copy of each added partition.
    pub fn assignments(mut self, brokers: impl IntoIterator<Item = Vec<i32>>) -> Self {
        self.assignments = Some(brokers.into_iter().collect());
        self
    }

    fn row(&self, topic: &ByteString) -> CreatePartitionsTopic {
        let row = |brokers: &Vec<i32>| CreatePartitionsAssignment {
            broker_ids: brokers.clone(),
            ..Default::default()
        };
        CreatePartitionsTopic {
            name: topic.clone(),
            count: self.total,
            assignments: self
                .assignments
                .as_ref()
                .map(|assignments| assignments.iter().map(row).collect()),
            ..Default::default()
        }
    }
}

impl Admin {
    /// Makes topics, or checks whether it could. Of several with one name, the last one counts.
    ///
    /// Not repeated after an answer was lost, for it may have worked: describe the topic to see. When this returns, a topic is
    /// made, but brokers of a large cluster may take a moment until all of them know it.
    ///
    /// Cancel safe only in this sense: a request that was sent is worked on.
    ///
    /// # Errors
    /// Per topic. `TOPIC_ALREADY_EXISTS`, `INVALID_PARTITIONS`, `INVALID_REPLICATION_FACTOR`, `INVALID_CONFIG` and the like, with
    /// the broker's words.
    pub async fn create_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
        change: Change,
    ) -> BTreeMap<ByteString, Result<CreatedTopic, Error>> {
        let topics: BTreeMap<ByteString, NewTopic> =
            topics.into_iter().map(|topic| (topic.name.clone(), topic)).collect();
        let topics = &topics;
        self.rounds(topics.keys().cloned(), |names, left| {
            let ask = move |connection, names: Vec<ByteString>| async move {
                let rows: Vec<&NewTopic> =
                    names.iter().filter_map(|name| topics.get(name)).collect();
                self.create_at(&connection, &rows, change, left).await
            };
            self.at_controller(names, change.repeat(Repeat::Unsafe), ask)
        })
        .await
    }

    async fn create_at(
        &self,
        connection: &Connection,
        topics: &[&NewTopic],
        change: Change,
        left: Left,
    ) -> Answered<ByteString, CreatedTopic> {
        let version = Self::version::<CreateTopicsRequest>(connection)?;
        if version < BROKER_CHOOSES && topics.iter().any(|topic| topic.lets_broker_choose()) {
            return Err(unsupported("choose the number of partitions and replicas", "2.4"));
        }
        let request = CreateTopicsRequest {
            topics: topics.iter().map(|topic| topic.row()).collect(),
            timeout_ms: left.millis(),
            validate_only: change == Change::Validate,
            ..Default::default()
        };
        let response = self.ask(connection, &request, version, left).await?;
        Ok(response.topics.into_iter().map(|row| (row.name.clone(), created(row))).collect())
    }

    /// Deletes topics by name. Their names are free when this returns; the bytes go later.
    ///
    /// Not repeated after an answer was lost: another topic of that name might be hit.
    ///
    /// Cancel safe only in this sense: a request that was sent is worked on.
    ///
    /// # Errors
    /// Per topic. `UNKNOWN_TOPIC_OR_PARTITION`, `TOPIC_DELETION_DISABLED`, and authorization.
    pub async fn delete_topics(
        &self,
        names: impl IntoIterator<Item = impl Into<ByteString>>,
    ) -> BTreeMap<ByteString, Result<(), Error>> {
        let names = names.into_iter().map(Into::into);
        self.rounds(names, |names, left| {
            let ask = move |connection: Connection, names: Vec<ByteString>| async move {
                let version = Self::version::<DeleteTopicsRequest>(&connection)?;
                let state = |name: &ByteString| DeleteTopicState {
                    name: Some(name.clone()),
                    ..Default::default()
                };
                let (topics, topic_names) = if version >= BY_ID {
                    (names.iter().map(state).collect(), Vec::new())
                } else {
                    (Vec::new(), names)
                };
                let request = DeleteTopicsRequest {
                    topics,
                    topic_names,
                    timeout_ms: left.millis(),
                    ..Default::default()
                };
                let response = self.ask(&connection, &request, version, left).await?;
                let rows = response.responses.into_iter().filter_map(|row| {
                    let name = row.name?;
                    let result = outcome(row.error_code, row.error_message, "deleting", &name);
                    Some((name, result))
                });
                Ok(rows.collect())
            };
            self.at_controller(names, Repeat::Unsafe, ask)
        })
        .await
    }

    /// As [`Admin::delete_topics`], by topic id (KIP-516; Kafka 2.8): never hits another topic that got the name meanwhile.
    ///
    /// Cancel safe only in this sense: a request that was sent is worked on.
    ///
    /// # Errors
    /// Per topic. `UNKNOWN_TOPIC_ID`, `TOPIC_DELETION_DISABLED`, and authorization.
    pub async fn delete_topics_by_id(
        &self,
        ids: impl IntoIterator<Item = Uuid>,
    ) -> BTreeMap<Uuid, Result<(), Error>> {
        self.rounds(ids, |ids, left| {
            let ask = move |connection: Connection, ids: Vec<Uuid>| async move {
                let version = Self::version::<DeleteTopicsRequest>(&connection)?;
                if version < BY_ID {
                    return Err(unsupported("delete topics by id", "2.8"));
                }
                let state = |id: &Uuid| DeleteTopicState { topic_id: *id, ..Default::default() };
                let request = DeleteTopicsRequest {
                    topics: ids.iter().map(state).collect(),
                    timeout_ms: left.millis(),
                    ..Default::default()
                };
                let response = self.ask(&connection, &request, version, left).await?;
                let rows = response.responses.into_iter().map(|row| {
                    let id = row.topic_id;
                    (id, outcome(row.error_code, row.error_message, "deleting", &id))
                });
                Ok(rows.collect())
            };
            self.at_controller(ids, Repeat::Unsafe, ask)
        })
        .await
    }

    /// Adds partitions to topics, or checks whether it could. Records that are there stay where they are: a key may be found in
    /// another partition than before.
    ///
    /// Not repeated after an answer was lost: describe the topic to see.
    ///
    /// Cancel safe only in this sense: a request that was sent is worked on.
    ///
    /// # Errors
    /// Per topic. `INVALID_PARTITIONS`: it has as many already, or more. `INVALID_REPLICA_ASSIGNMENT`,
    /// `UNKNOWN_TOPIC_OR_PARTITION`, and authorization.
    pub async fn create_partitions(
        &self,
        topics: impl IntoIterator<Item = (impl Into<ByteString>, NewPartitions)>,
        change: Change,
    ) -> BTreeMap<ByteString, Result<(), Error>> {
        let topics: BTreeMap<ByteString, NewPartitions> =
            topics.into_iter().map(|(name, more)| (name.into(), more)).collect();
        let topics = &topics;
        self.rounds(topics.keys().cloned(), |names, left| {
            let ask = move |connection: Connection, names: Vec<ByteString>| async move {
                let row = |name: &ByteString| topics.get(name).map(|more| more.row(name));
                let request = CreatePartitionsRequest {
                    topics: names.iter().filter_map(row).collect(),
                    timeout_ms: left.millis(),
                    validate_only: change == Change::Validate,
                    ..Default::default()
                };
                let response = self.ask(&connection, &request, i16::MAX, left).await?;
                let rows = response.results.into_iter().map(|row| {
                    let what = "adding partitions to";
                    let result = outcome(row.error_code, row.error_message, what, &row.name);
                    (row.name, result)
                });
                Ok(rows.collect())
            };
            self.at_controller(names, change.repeat(Repeat::Unsafe), ask)
        })
        .await
    }
}

fn outcome(
    code: ErrorCode,
    message: Option<ByteString>,
    doing: &str,
    topic: &impl fmt::Display,
) -> Result<(), Error> {
    match code {
        ErrorCode::None => Ok(()),
        code => Err(Error::broker(code, format_args!("{doing} topic {topic}"))
            .with_detail(message.as_deref().map(AsRef::as_ref))),
    }
}

fn created(row: CreatableTopicResult) -> Result<CreatedTopic, Error> {
    outcome(row.error_code, row.error_message, "creating", &row.name)?;
    let configs = row.configs.filter(|_| row.topic_config_error_code == ErrorCode::None);
    Ok(CreatedTopic {
        id: some_id(row.topic_id),
        partitions: Some(row.num_partitions).filter(|count| *count >= 0),
        replication_factor: Some(row.replication_factor).filter(|count| *count >= 0),
        // Before version 5 nothing was told, which reads like an empty list.
        configs: configs
            .filter(|_| row.num_partitions >= 0)
            .map(|rows| rows.into_iter().map(|row| (row.name, row.value)).collect()),
    })
}
