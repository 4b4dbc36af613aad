//! ListOffsets: offsets by time, and the ends of logs. Needs DESCRIBE on each topic.
//!
//! # References
//! KIP-79, KIP-207, KIP-320, KIP-734 (largest timestamp), KIP-405 and KIP-1005 (tiers, of which there is one), KIP-1023.

use std::collections::BTreeMap;

use kavka_log::TimestampOffset;
use kavka_protocol::{
    ErrorCode,
    messages::{
        ListOffsetsRequest, ListOffsetsResponse,
        list_offsets_request::ListOffsetsPartition,
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
    },
};
use tracing::warn;

use crate::{
    dispatch::Context,
    leader_epochs,
    partition::{Partition, blocking, log_error_code},
    topics::{TopicPartitions, Topics},
};

const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;

/// What a timestamp in the request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// The first record at or after this time.
    Time(i64),
    /// The end of what may be read.
    Latest,
    /// The start of the log, here or in any tier: there is only this one.
    Earliest,
    /// The record with the largest timestamp.
    MaxTimestamp,
    /// The end of what is in another tier, or the start of what is to go there.
    OtherTier,
}

impl Wanted {
    /// Negative numbers came with versions; before that, and beyond, they are an unsupported version.
    fn from_request(timestamp: i64, version: i16) -> Result<Wanted, ErrorCode> {
        let (wanted, since) = match timestamp {
            -1 => (Wanted::Latest, 0),
            -2 => (Wanted::Earliest, 0),
            -3 => (Wanted::MaxTimestamp, 7),
            -4 => (Wanted::Earliest, 8),
            -5 => (Wanted::OtherTier, 9),
            -6 => (Wanted::OtherTier, 11),
            time if time >= 0 => (Wanted::Time(time), 0),
            _ => return Err(ErrorCode::UnsupportedVersion),
        };
        if version >= since { Ok(wanted) } else { Err(ErrorCode::UnsupportedVersion) }
    }

    fn needs_disk(self) -> bool {
        matches!(self, Wanted::Time(_) | Wanted::MaxTimestamp)
    }
}

pub(crate) async fn handle(context: Context, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let version = context.version;
    let needs_disk = request.topics.iter().flat_map(|topic| &topic.partitions).any(|partition| {
        Wanted::from_request(partition.timestamp, version).is_ok_and(Wanted::needs_disk)
    });
    let list = move || list_offsets(&context.broker.topics, request, version);
    if needs_disk { blocking(list).await } else { list() }
}

fn list_offsets(topics: &Topics, request: ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
    let isolation = request.isolation_level;
    let mut times = BTreeMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            *times.entry((topic.name.clone(), partition.partition_index)).or_insert(0) += 1;
        }
    }
    let mut response = ListOffsetsResponse::default();
    for topic in request.topics {
        let found = topics.by_name(&topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            // One that is named twice is refused, once.
            let result = match times.remove(&(topic.name.clone(), partition.partition_index)) {
                None => continue,
                Some(1) => lookup(found.as_deref(), &partition, isolation, version),
                Some(_) => Err(ErrorCode::InvalidRequest),
            };
            partitions.push(row(partition.partition_index, result, version));
        }
        response.topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
            ..Default::default()
        });
    }
    response
}

fn row(
    partition_index: i32,
    result: Result<Option<TimestampOffset>, ErrorCode>,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let (error_code, found) = match result {
        Ok(found) => (ErrorCode::None, found),
        Err(error_code) => (error_code, None),
    };
    let none = TimestampOffset { timestamp: -1, offset: -1, leader_epoch: -1 };
    let TimestampOffset { timestamp, offset, leader_epoch } = found.unwrap_or(none);
    ListOffsetsPartitionResponse {
        partition_index,
        error_code,
        timestamp,
        offset,
        leader_epoch: if version >= 4 { leader_epoch } else { -1 },
        ..Default::default()
    }
}

fn lookup(
    topic: Option<&TopicPartitions>,
    request: &ListOffsetsPartition,
    isolation: i8,
    version: i16,
) -> Result<Option<TimestampOffset>, ErrorCode> {
    let wanted = Wanted::from_request(request.timestamp, version)?;
    let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = topic.partition(request.partition_index)?;
    leader_epochs::check(request.current_leader_epoch, partition.leader_epoch())?;
    let bound = match isolation {
        READ_UNCOMMITTED => partition.high_watermark(),
        READ_COMMITTED => partition.last_stable_offset(),
        _ => return Err(ErrorCode::InvalidRequest),
    };
    let log = partition.log();
    let at = |offset| TimestampOffset {
        timestamp: -1,
        offset,
        leader_epoch: leader_epochs::epoch_at(&**log, partition.leader_epoch(), offset),
    };
    let record = match wanted {
        Wanted::Latest => return Ok(Some(at(bound))),
        Wanted::Earliest => return Ok(Some(at(partition.log_start_offset()))),
        Wanted::OtherTier => return Ok(None),
        Wanted::Time(time) => log.offset_for_timestamp(time),
        Wanted::MaxTimestamp => log.max_timestamp(),
    };
    let record = record.map_err(|error| failed(partition, &error))?;
    // Records beyond the bound are not there yet.
    Ok(record.filter(|record| record.offset < bound))
}

fn failed(partition: &Partition, error: &kavka_log::LogError) -> ErrorCode {
    warn!("{}: cannot look up an offset: {error}", partition.id());
    log_error_code(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_timestamps_came_with_versions() {
        let first =
            |timestamp| (1..=11).find(|version| Wanted::from_request(timestamp, *version).is_ok());
        let expected =
            [(-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11), (0, 1), (i64::MAX, 1)];
        for (timestamp, version) in expected {
            assert_eq!(first(timestamp), Some(version), "{timestamp}");
        }
        assert_eq!(first(-7), None);
        assert_eq!(first(i64::MIN), None);
    }

    #[test]
    fn the_leader_epoch_is_left_out_before_version_4() {
        let found = TimestampOffset { timestamp: 5, offset: 6, leader_epoch: 7 };
        assert_eq!(row(0, Ok(Some(found)), 3).leader_epoch, -1);
        assert_eq!(row(0, Ok(Some(found)), 4).leader_epoch, 7);
        assert_eq!(row(0, Ok(None), 4).offset, -1);
    }
}
