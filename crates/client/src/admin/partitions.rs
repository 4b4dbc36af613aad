//! Partitions: the offsets they begin and end at, and deleting their oldest records.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use bytestring::ByteString;
use kavka_member::{IsolationLevel, TopicPartition};
use kavka_protocol::{
    ErrorCode,
    messages::{
        DeleteRecordsRequest, ListOffsetsRequest,
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    },
};

use super::{
    Admin,
    rounds::{Answered, Failure, Fared, Left, Repeat, all_failed, unsupported},
    topics::by_topic,
};
use crate::{Error, cluster::Node, connection::Connection};

/// An offset that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetSpec {
    /// The first offset there is.
    Earliest,
    /// The one that the next record gets; with [`IsolationLevel::ReadCommitted`], the last stable offset.
    Latest,
    /// That of the first record whose timestamp is this or later, in milliseconds since 1970.
    Timestamp(i64),
    /// That of the record with the largest timestamp (KIP-734; Kafka 3.0).
    MaxTimestamp,
    /// The first one on the leader's own disk (KIP-405; Kafka 3.4).
    EarliestLocal,
    /// The last one that has been moved to tiered storage (KIP-1005; Kafka 3.9).
    LatestTiered,
}

/// An offset that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetAt {
    /// The offset.
    pub offset: i64,
    /// The timestamp of the record there, in milliseconds since 1970; for those looked for by time.
    pub timestamp: Option<i64>,
    /// Its leader epoch, if the broker knows it.
    pub leader_epoch: Option<i32>,
}

/// Up to where records are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteBefore {
    /// Those with smaller offsets.
    Offset(i64),
    /// All that there are.
    HighWatermark,
}

impl OffsetSpec {
    /// The first record from a time on; times before 1970 are 1970.
    pub fn time(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        OffsetSpec::Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// How the protocol says it.
    fn timestamp(self) -> i64 {
        match self {
            OffsetSpec::Latest => -1,
            OffsetSpec::Earliest => -2,
            OffsetSpec::MaxTimestamp => -3,
            OffsetSpec::EarliestLocal => -4,
            OffsetSpec::LatestTiered => -5,
            OffsetSpec::Timestamp(time) => time.max(0),
        }
    }

    /// The first version of ListOffsets that can say it, and the release that has it.
    fn since(self) -> (i16, &'static str) {
        match self {
            OffsetSpec::MaxTimestamp => (7, "3.0"),
            OffsetSpec::EarliestLocal => (8, "3.4"),
            OffsetSpec::LatestTiered => (9, "3.9"),
            _ => (0, "2.1"),
        }
    }
}

impl Admin {
    /// Looks for offsets. None where no record is as young as asked, or where there is no record at all.
    ///
    /// Cancel safe: it only reads.
    ///
    /// # Errors
    /// Per partition. `UNKNOWN_TOPIC_OR_PARTITION`; `LEADER_NOT_AVAILABLE`, if that does not pass in time; authorization.
    pub async fn list_offsets(
        &self,
        partitions: impl IntoIterator<Item = (TopicPartition, OffsetSpec)>,
        isolation: IsolationLevel,
    ) -> BTreeMap<TopicPartition, Result<Option<OffsetAt>, Error>> {
        let specs: BTreeMap<TopicPartition, OffsetSpec> = partitions.into_iter().collect();
        let specs = &specs;
        self.rounds(specs.keys().cloned(), |partitions, left| {
            let ask = move |connection, _: Node, partitions: Vec<TopicPartition>| async move {
                self.list_offsets_at(&connection, &partitions, specs, isolation, left).await
            };
            self.at_leaders(partitions, Repeat::Safe, left, ask)
        })
        .await
    }

    async fn list_offsets_at(
        &self,
        connection: &Connection,
        partitions: &[TopicPartition],
        specs: &BTreeMap<TopicPartition, OffsetSpec>,
        isolation: IsolationLevel,
        left: Left,
    ) -> Answered<TopicPartition, Option<OffsetAt>> {
        let version = Self::version::<ListOffsetsRequest>(connection)?;
        let spec = |place: &TopicPartition| specs.get(place).copied().unwrap_or(OffsetSpec::Latest);
        let is_too_new = |place: &&TopicPartition| spec(place).since().0 > version;
        let (too_new, askable): (Vec<_>, Vec<_>) = partitions.iter().partition(is_too_new);
        let mut rows: Vec<(TopicPartition, Result<Option<OffsetAt>, Error>)> = too_new
            .into_iter()
            .map(|place| {
                let error = unsupported("look for this kind of offset", spec(place).since().1);
                (place.clone(), Err(error))
            })
            .collect();
        if askable.is_empty() {
            return Ok(rows);
        }
        let topic = |(name, indexes): (ByteString, Vec<i32>)| {
            let row = |index: i32| ListOffsetsPartition {
                partition_index: index,
                timestamp: spec(&TopicPartition::new(name.clone(), index)).timestamp(),
                ..Default::default()
            };
            ListOffsetsTopic {
                partitions: indexes.into_iter().map(row).collect(),
                name,
                ..Default::default()
            }
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: match isolation {
                IsolationLevel::ReadUncommitted => 0,
                IsolationLevel::ReadCommitted => 1,
            },
            topics: by_topic(askable).into_iter().map(topic).collect(),
            timeout_ms: left.millis(),
            ..Default::default()
        };
        let response = self.ask(connection, &request, version, left).await?;
        rows.extend(response.topics.into_iter().flat_map(|topic| {
            let name = topic.name;
            topic.partitions.into_iter().map(move |row| {
                let place = TopicPartition::new(name.clone(), row.partition_index);
                let found = (row.offset >= 0).then_some(OffsetAt {
                    offset: row.offset,
                    timestamp: Some(row.timestamp).filter(|timestamp| *timestamp >= 0),
                    leader_epoch: Some(row.leader_epoch).filter(|epoch| *epoch >= 0),
                });
                let result = outcome(row.error_code, "looking for an offset of", &place);
                (place, result.map(|()| found))
            })
        }));
        Ok(rows)
    }

    /// Deletes the oldest records of partitions: those before an offset (KIP-107). Says the first offset that is left.
    ///
    /// Repeated if an answer was lost: what is deleted stays deleted.
    ///
    /// Cancel safe only in this sense: a request that was sent is worked on.
    ///
    /// # Errors
    /// Per partition. `OFFSET_OUT_OF_RANGE`: the offset is beyond the end. `POLICY_VIOLATION`: the topic is compacted and nothing else.
    /// `UNKNOWN_TOPIC_OR_PARTITION`, and authorization.
    pub async fn delete_records(
        &self,
        partitions: impl IntoIterator<Item = (TopicPartition, DeleteBefore)>,
    ) -> BTreeMap<TopicPartition, Result<i64, Error>> {
        let limits: BTreeMap<TopicPartition, DeleteBefore> = partitions.into_iter().collect();
        let limits = &limits;
        self.rounds(limits.keys().cloned(), |partitions, left| {
            let ask = move |connection, _: Node, partitions: Vec<TopicPartition>| async move {
                let topic = |(name, indexes): (ByteString, Vec<i32>)| {
                    let row = |index: i32| DeleteRecordsPartition {
                        partition_index: index,
                        offset: match limits.get(&TopicPartition::new(name.clone(), index)) {
                            Some(DeleteBefore::HighWatermark) => -1,
                            // Below the start of the log nothing is deleted. The protocol has another meaning for -1.
                            Some(DeleteBefore::Offset(offset)) => (*offset).max(0),
                            None => 0,
                        },
                        ..Default::default()
                    };
                    DeleteRecordsTopic {
                        partitions: indexes.into_iter().map(row).collect(),
                        name,
                        ..Default::default()
                    }
                };
                let request = DeleteRecordsRequest {
                    topics: by_topic(&partitions).into_iter().map(topic).collect(),
                    timeout_ms: left.millis(),
                    ..Default::default()
                };
                let response = self.ask(&connection, &request, i16::MAX, left).await?;
                let rows = response.topics.into_iter().flat_map(|topic| {
                    let name = topic.name;
                    topic.partitions.into_iter().map(move |row| {
                        let place = TopicPartition::new(name.clone(), row.partition_index);
                        let result = outcome(row.error_code, "deleting records of", &place);
                        (place, result.map(|()| row.low_watermark))
                    })
                });
                Ok(rows.collect())
            };
            self.at_leaders(partitions, Repeat::Safe, left, ask)
        })
        .await
    }

    /// One round at the leaders of partitions, all at the same time, each asked about its own partitions.
    pub(super) async fn at_leaders<T, F>(
        &self,
        partitions: Vec<TopicPartition>,
        repeat: Repeat,
        left: Left,
        ask: impl Fn(Connection, Node, Vec<TopicPartition>) -> F,
    ) -> Vec<(TopicPartition, Fared<T>)>
    where
        F: Future<Output = Answered<TopicPartition, T>>,
    {
        let topics: BTreeSet<ByteString> =
            partitions.iter().map(|place| place.topic.clone()).collect();
        let leaders = match self.leaders(&topics, left).await {
            Ok(leaders) => leaders,
            Err(error) => return all_failed(partitions, &error),
        };
        let mut rows = Vec::new();
        let mut by_node: BTreeMap<i32, (Node, Vec<TopicPartition>)> = BTreeMap::new();
        for place in partitions {
            match leaders.of(&place.topic, place.partition) {
                Ok(node) => {
                    by_node.entry(node.id).or_insert((node.clone(), Vec::new())).1.push(place);
                }
                Err(error) => {
                    rows.push((place, Err(Failure::after_sending(error, Repeat::Safe))));
                }
            }
        }
        let asked = self.at_nodes(by_node.into_values().collect(), repeat, ask).await;
        rows.extend(asked.into_iter().map(|(place, row)| (place, row.map_err(known_to_exist))));
        rows
    }
}

/// A partition that the metadata has, but its leader does not know, is about to come or to go.
fn known_to_exist(failure: Failure) -> Failure {
    match failure {
        Failure::Final(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
            Failure::Passing(error)
        }
        other => other,
    }
}

fn outcome(code: ErrorCode, doing: &str, place: &TopicPartition) -> Result<(), Error> {
    match code {
        ErrorCode::None => Ok(()),
        code => Err(Error::broker(code, format_args!("{doing} {place}"))),
    }
}
