//! The one table of APIs: which versions, which handler, and what a principal needs to be allowed.
//!
//! ApiVersions is answered from it; what is not in it is not advertised, and closes the connection.

use std::ops::RangeInclusive;

use kavka_protocol::{
    ApiKey, ErrorCode,
    messages::{ApiVersionsResponse, api_versions_response::ApiVersion},
};

use crate::{
    dispatch::{Call, Handling, run},
    handlers,
};

/// A row of the table.
pub(crate) struct Api {
    pub(crate) key: ApiKey,
    pub(crate) versions: RangeInclusive<i16>,
    pub(crate) handler: fn(Call) -> Handling,
    /// What the request acts on.
    pub(crate) resource: Resource,
    /// What it does there.
    pub(crate) operation: Operation,
}

/// Kinds of resources that access is granted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Open to everyone, also before authentication.
    Open,
    /// The cluster as a whole.
    Cluster,
    /// Each topic that the request names.
    Topic,
    /// Each group that the request names.
    Group,
    /// Depends on the request; its handler's doc says how.
    Named,
}

/// What access is granted for. The numbers are the bits of "authorized operations".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Operation {
    /// Nothing is needed.
    Any = 1,
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
}

macro_rules! apis {
    ($($key:ident $lo:literal..=$hi:literal $handler:ident $resource:ident $operation:ident)*) => {
        &[$(Api {
            key: ApiKey::$key,
            versions: $lo..=$hi,
            handler: |call| run(call, handlers::$handler::handle),
            resource: Resource::$resource,
            operation: Operation::$operation,
        }),*]
    };
}

/// Sorted by number.
pub(crate) static APIS: &[Api] = apis! {
    Produce                 3..=13 produce                   Topic   Write
    Fetch                   4..=18 fetch                     Topic   Read
    ListOffsets             1..=11 list_offsets              Topic   Describe
    Metadata                0..=13 metadata                  Topic   Describe
    OffsetCommit            2..=10 offset_commit             Group   Read
    OffsetFetch             1..=10 offset_fetch              Group   Describe
    FindCoordinator         0..=6  find_coordinator          Named   Describe
    JoinGroup               0..=9  join_group                Group   Read
    Heartbeat               0..=4  heartbeat                 Group   Read
    LeaveGroup              0..=5  leave_group               Group   Read
    SyncGroup               0..=5  sync_group                Group   Read
    DescribeGroups          0..=6  describe_groups           Group   Describe
    ListGroups              0..=5  list_groups               Cluster Describe
    ApiVersions             0..=5  api_versions              Open    Any
    CreateTopics            2..=7  create_topics             Named   Create
    DeleteTopics            1..=6  delete_topics             Topic   Delete
    DeleteRecords           0..=2  delete_records            Topic   Delete
    InitProducerId          0..=5  init_producer_id          Cluster IdempotentWrite
    OffsetForLeaderEpoch    2..=4  offset_for_leader_epoch   Topic   Describe
    DescribeConfigs         1..=4  describe_configs          Named   DescribeConfigs
    AlterConfigs            0..=2  alter_configs             Named   AlterConfigs
    CreatePartitions        0..=3  create_partitions         Topic   Alter
    DeleteGroups            0..=2  delete_groups             Group   Delete
    IncrementalAlterConfigs 0..=1  incremental_alter_configs Named   AlterConfigs
    OffsetDelete            0..=0  offset_delete             Group   Delete
    DescribeCluster         0..=2  describe_cluster          Cluster Describe
    DescribeTopicPartitions 0..=0  describe_topic_partitions Topic   Describe
};

/// The row of an API, if it is served.
pub(crate) fn find(key: ApiKey) -> Option<&'static Api> {
    let index = APIS.binary_search_by_key(&key.code(), |api| api.key.code()).ok()?;
    Some(&APIS[index])
}

/// The rows as ApiVersions tells them.
pub(crate) fn advertised() -> Vec<ApiVersion> {
    APIS.iter().map(advertise).collect()
}

fn advertise(api: &Api) -> ApiVersion {
    // Produce 0 to 2 are refused but told, as Apache Kafka does: librdkafka looks for them (KAFKA-18659).
    let min_version = if api.key == ApiKey::Produce { 0 } else { *api.versions.start() };
    ApiVersion {
        api_key: api.key.code(),
        min_version,
        max_version: *api.versions.end(),
        ..Default::default()
    }
}

/// The answer to a version of ApiVersions that is too new: version 0, and only the row of ApiVersions itself (KIP-511).
pub(crate) fn unsupported_version_response() -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion,
        api_keys: find(ApiKey::ApiVersions).map(advertise).into_iter().collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_within_the_schemas() {
        assert!(APIS.is_sorted_by_key(|api| api.key.code()));
        for api in APIS {
            let (lo, hi) = api.key.versions();
            assert!(lo <= *api.versions.start() && *api.versions.end() <= hi, "{}", api.key);
            assert_eq!(find(api.key).map(|found| found.key), Some(api.key));
        }
    }

    #[test]
    fn only_api_versions_is_open_to_everyone() {
        for api in APIS {
            let open = api.resource == Resource::Open;
            assert_eq!(open, api.key == ApiKey::ApiVersions);
            assert_eq!(open, api.operation == Operation::Any);
        }
    }
}
