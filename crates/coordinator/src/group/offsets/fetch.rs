//! OffsetFetch: what was committed.

use kavka_protocol::{ByteString, ErrorCode, Uuid};

use super::table::{Committed, OffsetTable};
use crate::group::{FetchReply, FetchRequest, FetchTopic, FetchedPartition, FetchedTopic};

/// The offsets of a group. One that does not exist has none, which is no error.
pub(crate) fn fetch_offsets(offsets: &OffsetTable, request: &FetchRequest) -> FetchReply {
    let topics = match &request.topics {
        Some(topics) => topics.iter().map(|topic| asked(offsets, &request.group, topic)).collect(),
        None => all(offsets, &request.group),
    };
    FetchReply { group: request.group.clone(), error: ErrorCode::None, topics }
}

fn asked(offsets: &OffsetTable, group: &ByteString, topic: &FetchTopic) -> FetchedTopic {
    let partitions = topic
        .partitions
        .iter()
        .map(|partition| {
            offsets
                .get(group, &topic.name, *partition)
                .filter(|committed| is_same_topic(topic.topic_id, committed.value.topic_id))
                .map_or_else(|| FetchedPartition::none(*partition, ErrorCode::None), fetched)
        })
        .collect();
    FetchedTopic { name: topic.name.clone(), topic_id: topic.topic_id, partitions }
}

fn all(offsets: &OffsetTable, group: &ByteString) -> Vec<FetchedTopic> {
    offsets
        .of_group(group)
        .into_iter()
        .map(|(name, committed)| {
            let ids = committed.iter().map(|committed| committed.value.topic_id);
            let topic_id = ids.into_iter().find(|id| !id.is_zero()).unwrap_or(Uuid::ZERO);
            let partitions = committed.into_iter().map(fetched).collect();
            FetchedTopic { name, topic_id, partitions }
        })
        .collect()
}

/// An offset that was committed to a topic that has since been deleted does not count for another topic of that name.
fn is_same_topic(asked: Uuid, stored: Uuid) -> bool {
    asked.is_zero() || stored.is_zero() || asked == stored
}

fn fetched(Committed { partition, value, .. }: Committed) -> FetchedPartition {
    FetchedPartition {
        partition,
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata,
        error: ErrorCode::None,
    }
}
