//! Committed offsets of groups: listing, altering and deleting them.

use std::collections::{BTreeMap, BTreeSet};

use bytestring::ByteString;
use kavka_member::TopicPartition;
use kavka_protocol::{
    ErrorCode,
    messages::{
        OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetFetchResponse,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
        offset_fetch_request::{
            OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
        },
    },
};

use crate::{
    Error,
    admin::{
        Admin,
        rounds::{Answered, Left, Repeat, unsupported},
        topics::by_topic,
    },
    cluster::Node,
    connection::Connection,
};

/// From these versions of OffsetFetch on: `require_stable` (KIP-447; Kafka 2.5), several groups at once (KIP-709; Kafka 3.0), topic
/// ids instead of names (KIP-848; Kafka 4.1).
const REQUIRE_STABLE: i16 = 7;
const SEVERAL: i16 = 8;
const LAST_BY_NAME: i16 = 9;
/// The last version of OffsetCommit with topics by name.
const LAST_COMMIT_BY_NAME: i16 = 9;

/// An offset that a group has committed, or is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read, if it is known (KIP-320).
    pub leader_epoch: Option<i32>,
    /// A note of the application's; mostly empty.
    pub metadata: ByteString,
}

/// Whose offsets are wanted, and of which partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct OffsetsOfGroup {
    group: ByteString,
    partitions: Option<BTreeSet<TopicPartition>>,
}

/// The offsets of a group; none where nothing is committed.
type Offsets = BTreeMap<TopicPartition, Result<Option<CommittedOffset>, Error>>;

impl CommittedOffset {
    /// An offset without leader epoch and note.
    pub fn new(offset: i64) -> Self {
        Self { offset, ..Default::default() }
    }
}

impl OffsetsOfGroup {
    /// All that the group has committed.
    pub fn all(group: impl Into<ByteString>) -> Self {
        Self { group: group.into(), partitions: None }
    }

    /// What the group has committed of these partitions.
    pub fn of(
        group: impl Into<ByteString>,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Self {
        Self { group: group.into(), partitions: Some(partitions.into_iter().collect()) }
    }
}

impl Admin {
    /// What groups have committed, by partition; none where a partition that was asked for has no committed offset. A group that does not
    /// exist has no offsets. With `require_stable`, offsets that an open transaction is about to commit are waited for
    /// (KIP-447; Kafka 2.5).
    ///
    /// Cancel safe: it only reads.
    ///
    /// # Errors
    /// Per group: authorization, and `UNSTABLE_OFFSET_COMMIT` if the transaction does not end in time. Per partition: authorization.
    pub async fn list_group_offsets(
        &self,
        groups: impl IntoIterator<Item = OffsetsOfGroup>,
        require_stable: bool,
    ) -> BTreeMap<ByteString, Result<Offsets, Error>> {
        let wanted: BTreeMap<_, _> =
            groups.into_iter().map(|group| (group.group.clone(), group)).collect();
        let wanted = &wanted;
        self.rounds(wanted.keys().cloned(), |groups, left| {
            let ask = move |connection: Connection, _: Node, groups: Vec<ByteString>| async move {
                let groups: Vec<&OffsetsOfGroup> =
                    groups.iter().filter_map(|group| wanted.get(group)).collect();
                let version = Self::version::<OffsetFetchRequest>(&connection)?;
                if require_stable && version < REQUIRE_STABLE {
                    return Err(unsupported("tell only offsets that are stable", "2.5"));
                }
                if version >= SEVERAL {
                    let version = version.min(LAST_BY_NAME);
                    self.fetch_several(&connection, &groups, require_stable, version, left).await
                } else {
                    fetch_one_by_one(&connection, &groups, require_stable, version, left).await
                }
            };
            self.at_coordinators(groups, Repeat::Safe, ask)
        })
        .await
    }

    async fn fetch_several(
        &self,
        connection: &Connection,
        groups: &[&OffsetsOfGroup],
        require_stable: bool,
        version: i16,
        left: Left,
    ) -> Answered<ByteString, Offsets> {
        let topic = |(name, partition_indexes)| OffsetFetchRequestTopics {
            name,
            partition_indexes,
            ..Default::default()
        };
        let group = |wanted: &&OffsetsOfGroup| OffsetFetchRequestGroup {
            group_id: wanted.group.clone(),
            topics: wanted
                .partitions
                .as_ref()
                .map(|partitions| by_topic(partitions).into_iter().map(topic).collect()),
            ..Default::default()
        };
        let request = OffsetFetchRequest {
            groups: groups.iter().map(group).collect(),
            require_stable,
            ..Default::default()
        };
        let response = self.ask(connection, &request, version, left).await?;
        let rows = response.groups.into_iter().map(|group| {
            let rows = group.topics.into_iter().flat_map(|topic| {
                let name = topic.name;
                topic.partitions.into_iter().map(move |row| {
                    let place = TopicPartition::new(name.clone(), row.partition_index);
                    let (offset, epoch) = (row.committed_offset, row.committed_leader_epoch);
                    (place, row.error_code, offset, epoch, row.metadata)
                })
            });
            let offsets = offsets(&group.group_id, group.error_code, rows);
            (group.group_id, offsets)
        });
        Ok(rows.collect())
    }

    /// Commits offsets for a group that has no members at the moment, as its members would.
    ///
    /// Repeated if an answer was lost: the same offsets twice are the offsets once.
    ///
    /// Cancel safe only in this sense: a request that was sent is worked on.
    ///
    /// # Errors
    /// Per partition. `UNKNOWN_MEMBER_ID`: the group has members, stop them first. `UNKNOWN_TOPIC_OR_PARTITION`,
    /// `OFFSET_METADATA_TOO_LARGE`, and authorization.
    pub async fn alter_group_offsets(
        &self,
        group: impl Into<ByteString>,
        offsets: impl IntoIterator<Item = (TopicPartition, CommittedOffset)>,
    ) -> BTreeMap<TopicPartition, Result<(), Error>> {
        let group = &group.into();
        let offsets: BTreeMap<TopicPartition, CommittedOffset> = offsets.into_iter().collect();
        let offsets = &offsets;
        self.rounds(offsets.keys().cloned(), |partitions, left| {
            let ask = move |connection, partitions: Vec<TopicPartition>| async move {
                let row = |place: &TopicPartition, index: i32| {
                    let committed = offsets.get(place).cloned().unwrap_or_default();
                    OffsetCommitRequestPartition {
                        partition_index: index,
                        committed_offset: committed.offset,
                        committed_leader_epoch: committed.leader_epoch.unwrap_or(-1),
                        committed_metadata: Some(committed.metadata),
                        ..Default::default()
                    }
                };
                let topic = |(name, indexes): (ByteString, Vec<i32>)| {
                    let row = |index: i32| row(&TopicPartition::new(name.clone(), index), index);
                    OffsetCommitRequestTopic {
                        partitions: indexes.into_iter().map(row).collect(),
                        name,
                        ..Default::default()
                    }
                };
                let request = OffsetCommitRequest {
                    group_id: group.clone(),
                    topics: by_topic(&partitions).into_iter().map(topic).collect(),
                    ..Default::default()
                };
                let response = self.ask(&connection, &request, LAST_COMMIT_BY_NAME, left).await?;
                let rows = response.topics.into_iter().flat_map(|topic| {
                    let rows = topic.partitions.into_iter();
                    rows.map(move |row| (topic.name.clone(), row.partition_index, row.error_code))
                });
                Ok(told(rows, |place| format!("committing an offset of {place} for group {group}")))
            };
            self.at_coordinator(group, partitions, Repeat::Safe, ask)
        })
        .await
    }

    /// Makes a group forget what it committed of some partitions (KIP-496; Kafka 2.4).
    ///
    /// Repeated if an answer was lost: what is forgotten stays forgotten.
    ///
    /// Cancel safe only in this sense: a request that was sent is worked on.
    ///
    /// # Errors
    /// Per partition. `GROUP_SUBSCRIBED_TO_TOPIC`: a member reads that topic. `GROUP_ID_NOT_FOUND`, `UNKNOWN_TOPIC_OR_PARTITION`,
    /// and authorization.
    pub async fn delete_group_offsets(
        &self,
        group: impl Into<ByteString>,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> BTreeMap<TopicPartition, Result<(), Error>> {
        let group = &group.into();
        self.rounds(partitions, |partitions, left| {
            let ask = move |connection, partitions: Vec<TopicPartition>| async move {
                let row = |index: i32| OffsetDeleteRequestPartition { partition_index: index };
                let topic = |(name, indexes): (ByteString, Vec<i32>)| OffsetDeleteRequestTopic {
                    name,
                    partitions: indexes.into_iter().map(row).collect(),
                };
                let request = OffsetDeleteRequest {
                    group_id: group.clone(),
                    topics: by_topic(&partitions).into_iter().map(topic).collect(),
                };
                let response = self.ask(&connection, &request, i16::MAX, left).await?;
                outcome(response.error_code, &format!("deleting offsets of group {group}"))?;
                let rows = response.topics.into_iter().flat_map(|topic| {
                    let rows = topic.partitions.into_iter();
                    rows.map(move |row| (topic.name.clone(), row.partition_index, row.error_code))
                });
                Ok(told(rows, |place| format!("deleting the offset of {place} of group {group}")))
            };
            self.at_coordinator(group, partitions, Repeat::Safe, ask)
        })
        .await
    }
}

/// What became of each partition; `what` was done to it.
fn told(
    rows: impl Iterator<Item = (ByteString, i32, ErrorCode)>,
    what: impl Fn(&TopicPartition) -> String,
) -> Vec<(TopicPartition, Result<(), Error>)> {
    let told = rows.map(|(topic, partition, code)| {
        let place = TopicPartition::new(topic, partition);
        let result = outcome(code, &what(&place));
        (place, result)
    });
    told.collect()
}

/// Brokers before 3.0 are asked group by group, without waiting between.
async fn fetch_one_by_one(
    connection: &Connection,
    groups: &[&OffsetsOfGroup],
    require_stable: bool,
    version: i16,
    left: Left,
) -> Answered<ByteString, Offsets> {
    let topic = |(name, partition_indexes)| OffsetFetchRequestTopic {
        name,
        partition_indexes,
        ..Default::default()
    };
    let mut answers = Vec::with_capacity(groups.len());
    for wanted in groups {
        let request = OffsetFetchRequest {
            group_id: wanted.group.clone(),
            topics: wanted
                .partitions
                .as_ref()
                .map(|partitions| by_topic(partitions).into_iter().map(topic).collect()),
            require_stable,
            ..Default::default()
        };
        answers.push((wanted.group.clone(), connection.send(&request, version)?));
    }
    let mut results = Vec::with_capacity(answers.len());
    for (group, answer) in answers {
        let response: OffsetFetchResponse = answer.wait(left.duration()).await?;
        let rows = response.topics.into_iter().flat_map(|topic| {
            let name = topic.name;
            topic.partitions.into_iter().map(move |row| {
                let place = TopicPartition::new(name.clone(), row.partition_index);
                let (offset, epoch) = (row.committed_offset, row.committed_leader_epoch);
                (place, row.error_code, offset, epoch, row.metadata)
            })
        });
        let offsets = offsets(&group, response.error_code, rows);
        results.push((group, offsets));
    }
    Ok(results)
}

type OffsetRow = (TopicPartition, ErrorCode, i64, i32, Option<ByteString>);

/// The offsets of a group. A code that can pass, of whichever partition, is the whole group's: it is asked again as a whole.
fn offsets(
    group: &ByteString,
    code: ErrorCode,
    rows: impl Iterator<Item = OffsetRow>,
) -> Result<Offsets, Error> {
    let what = format!("reading the offsets of group {group}");
    outcome(code, &what)?;
    let mut offsets = Offsets::new();
    for (place, code, offset, leader_epoch, metadata) in rows {
        if code.is_retriable() && code != ErrorCode::UnknownTopicOrPartition {
            return Err(Error::broker(code, &what));
        }
        let value = outcome(code, &format!("reading the offset of {place} of group {group}"));
        let value = value.map(|()| {
            (offset >= 0).then(|| CommittedOffset {
                offset,
                leader_epoch: Some(leader_epoch).filter(|epoch| *epoch >= 0),
                metadata: metadata.unwrap_or_default(),
            })
        });
        offsets.insert(place, value);
    }
    Ok(offsets)
}

fn outcome(code: ErrorCode, what: &str) -> Result<(), Error> {
    let advice = match code {
        ErrorCode::None => return Ok(()),
        ErrorCode::UnknownMemberId
        | ErrorCode::IllegalGeneration
        | ErrorCode::StaleMemberEpoch
        | ErrorCode::RebalanceInProgress => {
            "The group has members, who commit themselves. Stop them, then try again."
        }
        ErrorCode::GroupSubscribedToTopic => {
            "A member of the group reads that topic. Stop it, or have it unsubscribe, then try again."
        }
        _ => return Err(Error::broker(code, what)),
    };
    Err(Error::broker(code, what).with_advice(advice))
}
