//! OffsetCommit: how far a group, or a consumer by itself, has read.

use bytestring::ByteString;
use kavka_coordinator::group::{CommitPartition, CommitRequest, CommitTopic, Request};
use kavka_protocol::{
    ErrorCode, Uuid,
    messages::{
        OffsetCommitRequest, OffsetCommitResponse,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    },
};

use super::groups::{expect_reply, own, own_option};
use crate::dispatch::Context;

/// Partitions that are not there are refused one by one and come first in the answer; only the others reach the coordinator. Without
/// any, nothing is asked of it, and a topic without partitions is in no answer. So it is in Apache Kafka.
pub(crate) async fn handle(context: Context, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let version = context.version;
    let mut response = OffsetCommitResponse::default();
    let mut topics = Vec::with_capacity(request.topics.len());
    // The topics of the commit as the answer names them.
    let mut named = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        match resolve(&context, topic) {
            Ok((name, topic_id, partitions)) => {
                let (there, absent): (Vec<_>, Vec<_>) = topic
                    .partitions
                    .iter()
                    .partition(|partition| (0..partitions).contains(&partition.partition_index));
                if !absent.is_empty() {
                    let error = ErrorCode::UnknownTopicOrPartition;
                    response.topics.push(refused(topic, absent, error));
                }
                if !there.is_empty() {
                    topics.push(commit_topic(there, name, topic_id));
                    named.push(topic);
                }
            }
            Err(error) => response.topics.push(refused(topic, &topic.partitions, error)),
        }
    }
    if topics.is_empty() {
        return response;
    }
    let retention = (2..=4).contains(&version).then_some(request.retention_time_ms);
    let commit = CommitRequest {
        group: own(&request.group_id),
        generation: request.generation_id_or_member_epoch,
        member_id: own(&request.member_id),
        instance_id: own_option(&request.group_instance_id),
        retention_time_ms: retention.filter(|retention| *retention >= 0),
        topics,
    };
    let reply = context.broker.groups.ask(&request.group_id, Request::CommitOffsets(commit)).await;
    let reply = expect_reply!(reply, CommitOffsets);
    for (topic, committed) in named.into_iter().zip(reply.topics) {
        let partition =
            |(partition_index, error): (i32, ErrorCode)| OffsetCommitResponsePartition {
                partition_index,
                error_code: for_version(error, version),
                ..Default::default()
            };
        let partitions = committed.partitions.into_iter().map(partition);
        let same = |other: &OffsetCommitResponseTopic| {
            (&other.name, other.topic_id) == (&topic.name, topic.topic_id)
        };
        match response.topics.iter().position(same) {
            Some(place) => response.topics[place].partitions.extend(partitions),
            None => response.topics.push(OffsetCommitResponseTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions: partitions.collect(),
                ..Default::default()
            }),
        }
    }
    response
}

/// Versions before 9 have no `GROUP_ID_NOT_FOUND` here.
fn for_version(error: ErrorCode, version: i16) -> ErrorCode {
    match error {
        ErrorCode::GroupIdNotFound if version < 9 => ErrorCode::IllegalGeneration,
        error => error,
    }
}

/// Name, id and number of partitions of the topic, which version 10 names by its id.
fn resolve(
    context: &Context,
    topic: &OffsetCommitRequestTopic,
) -> Result<(ByteString, Uuid, i32), ErrorCode> {
    let image = context.broker.meta.image();
    let known = if context.version >= 10 {
        image.topic_by_id(topic.topic_id).ok_or(ErrorCode::UnknownTopicId)?
    } else {
        image.topic(&topic.name).ok_or(ErrorCode::UnknownTopicOrPartition)?
    };
    Ok((ByteString::from(&*known.name), known.id, known.partitions))
}

fn commit_topic(
    partitions: Vec<&OffsetCommitRequestPartition>,
    name: ByteString,
    topic_id: Uuid,
) -> CommitTopic {
    let partitions = partitions
        .into_iter()
        .map(|partition| CommitPartition {
            partition: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: own_option(&partition.committed_metadata),
        })
        .collect();
    CommitTopic { name, topic_id, partitions }
}

fn refused<'a>(
    topic: &OffsetCommitRequestTopic,
    partitions: impl IntoIterator<Item = &'a OffsetCommitRequestPartition>,
    error_code: ErrorCode,
) -> OffsetCommitResponseTopic {
    let partitions = partitions.into_iter().map(|partition| OffsetCommitResponsePartition {
        partition_index: partition.partition_index,
        error_code,
        ..Default::default()
    });
    OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
        ..Default::default()
    }
}
