//! Deleting offsets: OffsetDelete, DeleteGroups, and the end of a topic.

use std::collections::BTreeSet;

use kavka_protocol::{ByteString, ErrorCode, Uuid};

use crate::group::{
    DeleteOffsetsReply, DeleteOffsetsRequest, GroupState, OffsetValue, Record,
    classic::ClassicGroup, hard_state::HardState,
};

/// The tombstones and codes of an OffsetDelete. The offsets of a topic that a live group reads are kept.
pub(crate) fn delete_offsets(
    hard: &HardState,
    group: &ClassicGroup,
    request: &DeleteOffsetsRequest,
) -> (Vec<Record>, DeleteOffsetsReply) {
    if group.state() != GroupState::Empty && !group.is_of_consumers() {
        let reply = DeleteOffsetsReply { error: ErrorCode::NonEmptyGroup, topics: Vec::new() };
        return (Vec::new(), reply);
    }
    let subscribed = group.subscribed_topics();
    let is_subscribed = |topic: &ByteString| match &subscribed {
        Some(topics) => topics.binary_search(topic).is_ok(),
        None => group.is_of_consumers(),
    };
    let mut records = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for (topic, partitions) in &request.topics {
        let code = if is_subscribed(topic) && !kavka_mutants::mutant("read-offsets-deleted") {
            ErrorCode::GroupSubscribedToTopic
        } else {
            for partition in partitions {
                let committed = hard.offsets.get(&request.group, topic, *partition).is_some();
                if committed || hard.pending.has(&request.group, topic, *partition) {
                    records.push(tombstone(&request.group, topic, *partition));
                }
            }
            ErrorCode::None
        };
        topics.push((topic.clone(), partitions.iter().map(|p| (*p, code)).collect()));
    }
    (records, DeleteOffsetsReply { error: ErrorCode::None, topics })
}

/// Tombstones for everything a group has committed, or has open transactions for.
pub(crate) fn group_tombstones(hard: &HardState, group: &ByteString) -> Vec<Record> {
    let mut partitions: BTreeSet<(ByteString, i32)> =
        hard.pending.of_group(group).cloned().collect();
    for (topic, committed) in hard.offsets.of_group(group) {
        partitions.extend(committed.iter().map(|c| (topic.clone(), c.partition)));
    }
    let skipped = usize::from(kavka_mutants::mutant("offset-survives-its-group"));
    let partitions = partitions.iter().skip(skipped);
    partitions.map(|(topic, partition)| tombstone(group, topic, *partition)).collect()
}

/// Tombstones for what a group has committed to a topic that is gone. Offsets of a later topic of that name stay.
pub(crate) fn topic_tombstones(
    hard: &HardState,
    group: &ByteString,
    topic: &ByteString,
    topic_id: Uuid,
) -> Vec<Record> {
    let is_gone = |value: &OffsetValue| {
        topic_id.is_zero() || value.topic_id.is_zero() || value.topic_id == topic_id
    };
    let mut partitions: BTreeSet<i32> = hard.pending.of_topic(group, topic, is_gone).collect();
    for committed in hard.offsets.of_topic(group, topic) {
        if is_gone(&committed.value) {
            partitions.insert(committed.partition);
        } else {
            partitions.remove(&committed.partition);
        }
    }
    partitions.iter().map(|partition| tombstone(group, topic, *partition)).collect()
}

pub(super) fn tombstone(group: &ByteString, topic: &ByteString, partition: i32) -> Record {
    Record::Offset { group: group.clone(), topic: topic.clone(), partition, value: None }
}
