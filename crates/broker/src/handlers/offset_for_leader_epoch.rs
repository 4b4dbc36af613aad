//! OffsetForLeaderEpoch: where the records of a leader epoch end, for clients that look whether the log was cut back behind
//! their position. Needs DESCRIBE on each topic.
//!
//! # References
//! KIP-320.

use kavka_protocol::{
    ErrorCode,
    messages::{
        OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
        offset_for_leader_epoch_request::OffsetForLeaderPartition,
        offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
    },
};

use crate::{dispatch::Context, leader_epochs, topics::TopicPartitions};

pub(crate) async fn handle(
    context: Context,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request
        .topics
        .into_iter()
        .map(|topic| {
            let found = context.broker.topics.by_name(&topic.topic);
            let row = |partition| epoch_end(found.as_deref(), &partition);
            OffsetForLeaderTopicResult {
                partitions: topic.partitions.into_iter().map(row).collect(),
                topic: topic.topic,
                ..Default::default()
            }
        })
        .collect();
    OffsetForLeaderEpochResponse { topics, ..Default::default() }
}

fn epoch_end(
    topic: Option<&TopicPartitions>,
    request: &OffsetForLeaderPartition,
) -> EpochEndOffset {
    let found = topic
        .ok_or(ErrorCode::UnknownTopicOrPartition)
        .and_then(|topic| topic.partition(request.partition))
        .and_then(|partition| {
            leader_epochs::check(request.current_leader_epoch, partition.leader_epoch())?;
            Ok(leader_epochs::end_of(
                &**partition.log(),
                partition.leader_epoch(),
                request.leader_epoch,
            ))
        });
    let (error_code, end) = match found {
        Ok(end) => (ErrorCode::None, end),
        Err(error_code) => (error_code, None),
    };
    let (leader_epoch, end_offset) = end.map_or((-1, -1), |end| (end.epoch, end.end_offset));
    EpochEndOffset {
        error_code,
        partition: request.partition,
        leader_epoch,
        end_offset,
        ..Default::default()
    }
}
