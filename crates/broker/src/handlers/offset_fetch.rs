//! OffsetFetch: how far groups have read.

use bytestring::ByteString;
use kavka_coordinator::group::{FetchReply, FetchRequest, FetchTopic, FetchedPartition, Request};
use kavka_meta::MetadataImage;
use kavka_protocol::{
    ErrorCode, Uuid,
    messages::{
        OffsetFetchRequest, OffsetFetchResponse,
        offset_fetch_request::{
            OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
        },
        offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
            OffsetFetchResponseTopic, OffsetFetchResponseTopics,
        },
    },
};

use super::groups::expect_reply;
use crate::dispatch::Context;

pub(crate) async fn handle(context: Context, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if context.version < 8 {
        return one_group(&context, request).await;
    }
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in &request.groups {
        groups.push(several_groups(&context, group, request.require_stable).await);
    }
    OffsetFetchResponse { groups, ..Default::default() }
}

/// Versions 0 to 7: one group, named at the top.
async fn one_group(context: &Context, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let image = context.broker.meta.image();
    let topics = request.topics.as_ref().map(|topics| {
        let topic = |topic: &OffsetFetchRequestTopic| FetchTopic {
            name: topic.name.clone(),
            topic_id: image.topic(&topic.name).map_or(Uuid::ZERO, |known| known.id),
            partitions: topic.partition_indexes.clone(),
        };
        topics.iter().map(topic).collect::<Vec<_>>()
    });
    let reply = ask(context, &request.group_id, topics.clone(), request.require_stable).await;
    let mut response = OffsetFetchResponse { error_code: reply.error, ..Default::default() };
    let failed = (reply.error != ErrorCode::None).then_some(reply.error);
    match (failed, topics) {
        // Versions 0 and 1 have no field for the error of the group: every partition says it.
        (Some(error), Some(topics)) if context.version < 2 => {
            response.topics = topics
                .into_iter()
                .map(|topic| OffsetFetchResponseTopic {
                    name: topic.name,
                    partitions: topic
                        .partitions
                        .into_iter()
                        .map(|partition| old_row(FetchedPartition::none(partition, error)))
                        .collect(),
                    ..Default::default()
                })
                .collect();
        }
        _ => {
            response.topics = reply
                .topics
                .into_iter()
                .map(|topic| OffsetFetchResponseTopic {
                    name: topic.name,
                    partitions: topic.partitions.into_iter().map(old_row).collect(),
                    ..Default::default()
                })
                .collect();
        }
    }
    response
}

fn old_row(partition: FetchedPartition) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition {
        partition_index: partition.partition,
        committed_offset: partition.offset,
        committed_leader_epoch: partition.leader_epoch,
        metadata: Some(partition.metadata),
        error_code: partition.error,
        ..Default::default()
    }
}

/// From version 8 on: one of several groups.
async fn several_groups(
    context: &Context,
    group: &OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let by_id = context.version >= 10;
    let image = context.broker.meta.image();
    let mut unknown = Vec::new();
    let topics = group.topics.as_ref().map(|topics| {
        let mut asked = Vec::with_capacity(topics.len());
        for topic in topics {
            match resolve(&image, topic, by_id) {
                Some(topic) => asked.push(topic),
                None => unknown.push(unknown_topic(topic)),
            }
        }
        asked
    });
    let reply = ask(context, &group.group_id, topics, require_stable).await;
    let mut response = OffsetFetchResponseGroup {
        group_id: group.group_id.clone(),
        error_code: reply.error,
        ..Default::default()
    };
    if reply.error != ErrorCode::None {
        return response;
    }
    for topic in reply.topics {
        let topic_id = if by_id {
            // Offsets of topics that are gone cannot be told by id.
            let Some(known) = image.topic(&topic.name) else { continue };
            known.id
        } else {
            Uuid::ZERO
        };
        response.topics.push(OffsetFetchResponseTopics {
            name: topic.name,
            topic_id,
            partitions: topic.partitions.into_iter().map(new_row).collect(),
            ..Default::default()
        });
    }
    response.topics.extend(unknown);
    response
}

fn resolve(
    image: &MetadataImage,
    topic: &OffsetFetchRequestTopics,
    by_id: bool,
) -> Option<FetchTopic> {
    let partitions = topic.partition_indexes.clone();
    if by_id {
        let known = image.topic_by_id(topic.topic_id)?;
        let name = ByteString::from(&*known.name);
        return Some(FetchTopic { name, topic_id: known.id, partitions });
    }
    let topic_id = image.topic(&topic.name).map_or(Uuid::ZERO, |known| known.id);
    Some(FetchTopic { name: topic.name.clone(), topic_id, partitions })
}

fn unknown_topic(topic: &OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    let row =
        |partition: &i32| new_row(FetchedPartition::none(*partition, ErrorCode::UnknownTopicId));
    OffsetFetchResponseTopics {
        topic_id: topic.topic_id,
        partitions: topic.partition_indexes.iter().map(row).collect(),
        ..Default::default()
    }
}

fn new_row(partition: FetchedPartition) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: partition.partition,
        committed_offset: partition.offset,
        committed_leader_epoch: partition.leader_epoch,
        metadata: Some(partition.metadata),
        error_code: partition.error,
        ..Default::default()
    }
}

async fn ask(
    context: &Context,
    group: &ByteString,
    topics: Option<Vec<FetchTopic>>,
    require_stable: bool,
) -> FetchReply {
    let request = FetchRequest { group: group.clone(), topics, require_stable };
    let reply = context.broker.groups.ask(group, Request::FetchOffsets(request)).await;
    expect_reply!(reply, FetchOffsets)
}
