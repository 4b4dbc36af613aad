//! OffsetCommit: how far a group, or a consumer by itself, has read.

use bytestring::ByteString;
use kavka_coordinator::group::{CommitPartition, CommitRequest, CommitTopic, Request};
use kavka_protocol::{
    ErrorCode, Uuid,
    messages::{
        OffsetCommitRequest, OffsetCommitResponse,
        offset_commit_request::OffsetCommitRequestTopic,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    },
};

use super::groups::{expect_reply, own, own_option};
use crate::dispatch::Context;

pub(crate) async fn handle(context: Context, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let version = context.version;
    let mut response = OffsetCommitResponse::default();
    let mut topics = Vec::with_capacity(request.topics.len());
    // Which topic of the response each topic of the commit is.
    let mut places = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let commit = match resolve(&context, topic) {
            Ok((name, topic_id)) => commit_topic(topic, name, topic_id),
            Err(error) => {
                response.topics.push(refused(topic, error));
                continue;
            }
        };
        places.push(response.topics.len());
        response.topics.push(refused(topic, ErrorCode::None));
        topics.push(commit);
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
    for (place, topic) in places.into_iter().zip(reply.topics) {
        let partition =
            |(partition_index, error): (i32, ErrorCode)| OffsetCommitResponsePartition {
                partition_index,
                error_code: for_version(error, version),
                ..Default::default()
            };
        response.topics[place].partitions = topic.partitions.into_iter().map(partition).collect();
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

/// Name and id of the topic, which version 10 names by its id.
fn resolve(
    context: &Context,
    topic: &OffsetCommitRequestTopic,
) -> Result<(ByteString, Uuid), ErrorCode> {
    let image = context.broker.meta.image();
    if context.version >= 10 {
        let known = image.topic_by_id(topic.topic_id).ok_or(ErrorCode::UnknownTopicId)?;
        Ok((ByteString::from(&*known.name), known.id))
    } else {
        let known = image.topic(&topic.name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        Ok((ByteString::from(&*known.name), known.id))
    }
}

fn commit_topic(topic: &OffsetCommitRequestTopic, name: ByteString, topic_id: Uuid) -> CommitTopic {
    let partitions = topic
        .partitions
        .iter()
        .map(|partition| CommitPartition {
            partition: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: own_option(&partition.committed_metadata),
        })
        .collect();
    CommitTopic { name, topic_id, partitions }
}

fn refused(topic: &OffsetCommitRequestTopic, error_code: ErrorCode) -> OffsetCommitResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| OffsetCommitResponsePartition {
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
