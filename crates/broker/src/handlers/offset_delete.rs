//! OffsetDelete: forgets offsets of topics that a group does not subscribe to (KIP-496).

use kavka_coordinator::group::{DeleteOffsetsRequest, Request};
use kavka_protocol::{
    ByteString, ErrorCode,
    messages::{
        OffsetDeleteRequest, OffsetDeleteResponse,
        offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic},
    },
};

use super::groups::{expect_reply, own};
use crate::dispatch::Context;

pub(crate) async fn handle(context: Context, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    if request.group_id.is_empty() {
        let error_code = ErrorCode::InvalidGroupId;
        return OffsetDeleteResponse { error_code, ..Default::default() };
    }
    let image = context.broker.meta.image();
    let mut response = OffsetDeleteResponse::default();
    let mut topics = Vec::new();
    for topic in &request.topics {
        let partitions = image.topic(&topic.name).map_or(0, |known| known.partitions);
        let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
        let (there, absent): (Vec<_>, Vec<_>) =
            indexes.partition(|index| (0..partitions).contains(index));
        if !absent.is_empty() || partitions == 0 {
            let absent =
                absent.into_iter().map(|index| (index, ErrorCode::UnknownTopicOrPartition));
            add(&mut response, topic.name.clone(), absent);
        }
        if !there.is_empty() {
            topics.push((own(&topic.name), there));
        }
    }
    let delete = DeleteOffsetsRequest { group: own(&request.group_id), topics };
    let reply = context.broker.groups.ask(&request.group_id, Request::DeleteOffsets(delete)).await;
    let reply = expect_reply!(reply, DeleteOffsets);
    if reply.error != ErrorCode::None {
        return OffsetDeleteResponse { error_code: reply.error, ..Default::default() };
    }
    for (name, partitions) in reply.topics {
        add(&mut response, name, partitions);
    }
    response
}

/// Partitions that are not there come first in the answer, as in Apache Kafka; others of the same topic follow them.
fn add(
    response: &mut OffsetDeleteResponse,
    name: ByteString,
    partitions: impl IntoIterator<Item = (i32, ErrorCode)>,
) {
    let partitions = partitions.into_iter().map(|(partition_index, error_code)| {
        OffsetDeleteResponsePartition { partition_index, error_code }
    });
    match response.topics.iter_mut().find(|topic| topic.name == name) {
        Some(topic) => topic.partitions.extend(partitions),
        None => {
            let partitions = partitions.collect();
            response.topics.push(OffsetDeleteResponseTopic { name, partitions });
        }
    }
}
