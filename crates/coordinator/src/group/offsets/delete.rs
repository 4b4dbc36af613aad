//! Deleting offsets: OffsetDelete, DeleteGroups, and the end of a topic.

use kavka_protocol::{ByteString, ErrorCode, Uuid};

use super::table::OffsetTable;
use crate::group::{
    DeleteOffsetsReply, DeleteOffsetsRequest, GroupState, Record, classic::ClassicGroup,
};

/// The tombstones and codes of an OffsetDelete. The offsets of a topic that a live group reads are kept.
pub(crate) fn delete_offsets(
    offsets: &OffsetTable,
    group: &ClassicGroup,
    request: &DeleteOffsetsRequest,
) -> (Vec<Record>, DeleteOffsetsReply) {
    if group.state() != GroupState::Empty && !group.is_of_consumers() {
        let reply = DeleteOffsetsReply { error: ErrorCode::NonEmptyGroup, topics: Vec::new() };
        return (Vec::new(), reply);
    }
    let subscribed = group.subscribed_topics();
    let is_subscribed = |topic: &ByteString| match &subscribed {
        Some(topics) => topics.contains(topic),
        None => group.is_of_consumers(),
    };
    let mut records = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for (topic, partitions) in &request.topics {
        let code = if is_subscribed(topic) {
            ErrorCode::GroupSubscribedToTopic
        } else {
            for partition in partitions {
                if offsets.get(&request.group, topic, *partition).is_some() {
                    records.push(tombstone(&request.group, topic, *partition));
                }
            }
            ErrorCode::None
        };
        topics.push((topic.clone(), partitions.iter().map(|p| (*p, code)).collect()));
    }
    (records, DeleteOffsetsReply { error: ErrorCode::None, topics })
}

/// Tombstones for everything a group has committed.
pub(crate) fn group_tombstones(offsets: &OffsetTable, group: &ByteString) -> Vec<Record> {
    let mut records = Vec::new();
    for (topic, committed) in offsets.of_group(group) {
        records.extend(committed.iter().map(|c| tombstone(group, &topic, c.partition)));
    }
    records
}

/// Tombstones for what a group has committed to a topic that is gone. Offsets of a later topic of that name stay.
pub(crate) fn topic_tombstones(
    offsets: &OffsetTable,
    group: &ByteString,
    topic: &ByteString,
    topic_id: Uuid,
) -> Vec<Record> {
    offsets
        .of_topic(group, topic)
        .iter()
        .filter(|committed| {
            let stored = committed.value.topic_id;
            topic_id.is_zero() || stored.is_zero() || stored == topic_id
        })
        .map(|committed| tombstone(group, topic, committed.partition))
        .collect()
}

pub(super) fn tombstone(group: &ByteString, topic: &ByteString, partition: i32) -> Record {
    Record::Offset { group: group.clone(), topic: topic.clone(), partition, value: None }
}
