//! OffsetDelete: forgets offsets of topics that a group does not subscribe to (KIP-496).

use kavka_coordinator::group::{DeleteOffsetsRequest, Request};
use kavka_protocol::{
    ErrorCode,
    messages::{
        OffsetDeleteRequest, OffsetDeleteResponse,
        offset_delete_request::OffsetDeleteRequestTopic,
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
    let (known, unknown): (Vec<_>, Vec<_>) =
        request.topics.iter().partition(|topic| image.topic(&topic.name).is_some());
    let asked = |topic: &&OffsetDeleteRequestTopic| {
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index);
        (own(&topic.name), partitions.collect())
    };
    let delete = DeleteOffsetsRequest {
        group: own(&request.group_id),
        topics: known.iter().map(asked).collect(),
    };
    let reply = context.broker.groups.ask(&request.group_id, Request::DeleteOffsets(delete)).await;
    let reply = expect_reply!(reply, DeleteOffsets);
    if reply.error != ErrorCode::None {
        return OffsetDeleteResponse { error_code: reply.error, ..Default::default() };
    }
    let unknown = unknown.into_iter().map(|topic| {
        let error = ErrorCode::UnknownTopicOrPartition;
        let partitions = topic.partitions.iter().map(|p| (p.partition_index, error));
        (topic.name.clone(), partitions.collect())
    });
    let row = |(name, partitions): (_, Vec<(i32, ErrorCode)>)| OffsetDeleteResponseTopic {
        name,
        partitions: partitions
            .into_iter()
            .map(|(partition_index, error_code)| OffsetDeleteResponsePartition {
                partition_index,
                error_code,
            })
            .collect(),
    };
    OffsetDeleteResponse {
        topics: reply.topics.into_iter().chain(unknown).map(row).collect(),
        ..Default::default()
    }
}
