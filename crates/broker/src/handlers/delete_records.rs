//! DeleteRecords: moves the start of logs up. Needs DELETE on each topic.
//!
//! The new start is durable before the answer; segments below it go with the next maintenance run.
//!
//! # References
//! KIP-107.

use std::sync::Arc;

use kavka_log::LogError;
use kavka_protocol::{
    ErrorCode,
    messages::{
        DeleteRecordsRequest, DeleteRecordsResponse,
        delete_records_request::DeleteRecordsPartition,
        delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
    },
};
use tracing::warn;

use crate::{
    dispatch::Context,
    partition::{Partition, blocking, log_error_code},
    topics::TopicPartitions,
};

/// The offset that stands for the high watermark.
const UP_TO_HIGH_WATERMARK: i64 = -1;

pub(crate) async fn handle(
    context: Context,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    // The start of a log moves on the disk.
    blocking(move || {
        let topics = request
            .topics
            .into_iter()
            .map(|topic| {
                let found = context.broker.topics.by_name(&topic.name);
                let delete = |partition| delete_records(found.as_deref(), &partition);
                DeleteRecordsTopicResult {
                    partitions: topic.partitions.into_iter().map(delete).collect(),
                    name: topic.name,
                    ..Default::default()
                }
            })
            .collect();
        DeleteRecordsResponse { topics, ..Default::default() }
    })
    .await
}

fn delete_records(
    topic: Option<&TopicPartitions>,
    request: &DeleteRecordsPartition,
) -> DeleteRecordsPartitionResult {
    let result = find(topic, request.partition_index)
        .and_then(|partition| delete_up_to(partition, request.offset));
    let (low_watermark, error_code) = match result {
        Ok(low_watermark) => (low_watermark, ErrorCode::None),
        Err(error_code) => (-1, error_code),
    };
    DeleteRecordsPartitionResult {
        partition_index: request.partition_index,
        low_watermark,
        error_code,
        ..Default::default()
    }
}

fn find(topic: Option<&TopicPartitions>, index: i32) -> Result<&Arc<Partition>, ErrorCode> {
    let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if topic.topic.internal {
        return Err(ErrorCode::InvalidTopicException);
    }
    topic.partition(index)
}

/// The log start afterwards.
fn delete_up_to(partition: &Partition, offset: i64) -> Result<i64, ErrorCode> {
    let policy = partition.config().cleanup_policy;
    if policy.compact && !policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let high_watermark = partition.high_watermark();
    let offset = target(offset, high_watermark).ok_or(ErrorCode::OffsetOutOfRange)?;
    partition.log().advance_start(offset).map_err(|error| {
        if !matches!(error, LogError::Deleted { .. }) {
            warn!("{}: cannot delete records up to {offset}: {error}", partition.id());
        }
        log_error_code(&error)
    })?;
    Ok(partition.log_start_offset())
}

/// Where the log is to start. One that starts there or behind it already stays as it is.
fn target(offset: i64, high_watermark: i64) -> Option<i64> {
    match offset {
        UP_TO_HIGH_WATERMARK => Some(high_watermark),
        offset => (0..=high_watermark).contains(&offset).then_some(offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_deleted_up_to_the_high_watermark_at_most() {
        assert_eq!(target(-1, 7), Some(7));
        assert_eq!(target(0, 7), Some(0));
        assert_eq!(target(7, 7), Some(7));
        assert_eq!(target(8, 7), None);
        assert_eq!(target(-2, 7), None);
    }
}
