//! OffsetFetch: what was committed.

use kavka_mutants::mutant;
use kavka_protocol::{ByteString, ErrorCode, Uuid};

use super::table::Committed;
use crate::group::{
    FetchReply, FetchRequest, FetchTopic, FetchedPartition, FetchedTopic, hard_state::HardState,
};

/// The offsets of a group. One that does not exist has none, which is no error.
pub(crate) fn fetch_offsets(hard: &HardState, request: &FetchRequest) -> FetchReply {
    let mut topics: Vec<FetchedTopic> = match &request.topics {
        Some(topics) => topics.iter().map(|topic| asked(hard, &request.group, topic)).collect(),
        None => all(hard, &request.group),
    };
    if request.require_stable && !mutant("pending-not-shown") {
        for FetchedTopic { name, partitions, .. } in &mut topics {
            for row in partitions {
                if hard.pending.has(&request.group, name, row.partition) {
                    let error = ErrorCode::UnstableOffsetCommit;
                    *row = FetchedPartition::none(row.partition, error);
                }
            }
        }
    }
    FetchReply { group: request.group.clone(), error: ErrorCode::None, topics }
}

fn asked(hard: &HardState, group: &ByteString, topic: &FetchTopic) -> FetchedTopic {
    let partitions = topic
        .partitions
        .iter()
        .map(|partition| {
            hard.offsets
                .get(group, &topic.name, *partition)
                .filter(|committed| is_same_topic(topic.topic_id, committed.value.topic_id))
                .map_or_else(|| FetchedPartition::none(*partition, ErrorCode::None), fetched)
        })
        .collect();
    FetchedTopic { name: topic.name.clone(), topic_id: topic.topic_id, partitions }
}

fn all(hard: &HardState, group: &ByteString) -> Vec<FetchedTopic> {
    hard.offsets
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
    asked.is_zero() || stored.is_zero() || asked == stored || mutant("offset-of-another-topic")
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
