//! OffsetCommit: from the partitions of a request to records and codes.

use kavka_mutants::mutant;
use kavka_protocol::{ErrorCode, Uuid};

use crate::{
    Now,
    group::{
        CommitPartition, CommitReply, CommitRequest, CommitTopic, CommittedTopic, GroupConfig,
        OffsetValue, Record,
    },
};

/// The records of a request whose sender may commit, and the code of each partition. A partition that is refused has no effect
/// on the others, and leaves nothing behind.
pub(crate) fn offset_records(
    now: Now,
    config: &GroupConfig,
    request: &CommitRequest,
) -> (Vec<Record>, CommitReply) {
    let expire_timestamp_ms = request
        .retention_time_ms
        .filter(|retention| *retention >= 0)
        .map(|retention| now.wall_ms.saturating_add(retention));
    let partitions = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    let mut records = Vec::with_capacity(partitions);
    let mut topics = Vec::with_capacity(request.topics.len());
    for CommitTopic { name, topic_id, partitions } in &request.topics {
        let mut codes = Vec::with_capacity(partitions.len());
        for CommitPartition { partition, offset, leader_epoch, metadata } in partitions {
            let metadata = metadata.clone().unwrap_or_default();
            let code = if is_longer_than(&metadata, config.offset_metadata_max) {
                ErrorCode::OffsetMetadataTooLarge
            } else {
                ErrorCode::None
            };
            if code != ErrorCode::None && !mutant("refused-offset-stored") {
                codes.push((*partition, code));
                continue;
            }
            // What the stored version cannot carry is not kept in memory either: it would be gone after a restart.
            let carries_all = expire_timestamp_ms.is_none();
            records.push(Record::Offset {
                group: request.group.clone(),
                topic: name.clone(),
                partition: *partition,
                value: Some(OffsetValue {
                    offset: *offset,
                    leader_epoch: if carries_all { *leader_epoch } else { -1 },
                    metadata,
                    commit_timestamp_ms: now.wall_ms,
                    expire_timestamp_ms,
                    topic_id: if carries_all { *topic_id } else { Uuid::ZERO },
                }),
            });
            codes.push((*partition, code));
        }
        topics.push(CommittedTopic { name: name.clone(), topic_id: *topic_id, partitions: codes });
    }
    let size: usize = records.iter().map(Record::approximate_size).sum();
    if size > config.max_batch_bytes {
        return (Vec::new(), CommitReply::refusal(request, ErrorCode::InvalidCommitOffsetSize));
    }
    (records, CommitReply { topics })
}

/// Whether a note is longer than `limit` characters as Java counts them: UTF-16 code units.
fn is_longer_than(metadata: &str, limit: usize) -> bool {
    metadata.len() > limit && metadata.encode_utf16().count() > limit
}
