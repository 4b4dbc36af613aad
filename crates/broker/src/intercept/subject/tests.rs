#![allow(clippy::unwrap_used)]

use kavka_protocol::{
    Message, Reader,
    messages::{
        alter_configs_request::AlterConfigsResource,
        create_partitions_request::CreatePartitionsTopic,
        create_topics_request::CreatableTopic,
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
        delete_topics_request::DeleteTopicState,
        describe_configs_request::DescribeConfigsResource,
        describe_topic_partitions_request::TopicRequest,
        fetch_request::{FetchPartition, FetchTopic},
        incremental_alter_configs_request::AlterConfigsResource as IncrementalResource,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        metadata_request::MetadataRequestTopic,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic},
        offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
        produce_request::{PartitionProduceData, TopicProduceData},
    },
};

use super::*;
use crate::api::{APIS, find};

/// An error that no field has by default.
const ERROR: ErrorCode = ErrorCode::SecurityDisabled;

fn with<T: Default>(make: impl FnOnce(&mut T)) -> Vec<T> {
    let mut value = T::default();
    make(&mut value);
    vec![value]
}

/// In each version that is served, the answer is one that this version can say, and says the error, once read again. Adds the
/// API to `seen`.
fn check<R: Subject>(seen: &mut Vec<i16>, request: impl Fn(i16) -> R)
where
    R::Response: std::fmt::Debug,
{
    let api = find(R::API_KEY).unwrap();
    for version in api.versions.clone() {
        let request = request(version);
        request.to_bytes(version).unwrap_or_else(|error| {
            panic!("{} {version}: no request that a client could send: {error}", api.key)
        });
        let bytes = request.refused(ERROR, version).unwrap().to_bytes(version).unwrap();
        let mut reader = Reader::new(bytes);
        let read = R::Response::decode(&mut reader, version).unwrap();
        assert_eq!(reader.remaining(), 0);
        let shown = format!("{read:?}");
        assert!(shown.contains("SecurityDisabled"), "{} {version}: {shown}", api.key);
    }
    seen.push(R::API_KEY.code());
}

#[test]
fn every_api_can_be_refused_in_every_version() {
    let seen = &mut Vec::new();
    let name = || ByteString::from_static("orders");
    check(seen, |_| ProduceRequest {
        acks: -1,
        topic_data: with(|topic: &mut TopicProduceData| {
            topic.name = name();
            topic.partition_data = with(|p: &mut PartitionProduceData| p.index = 3);
        }),
        ..Default::default()
    });
    check(seen, |version| FetchRequest {
        topics: with(|topic: &mut FetchTopic| {
            topic.topic = name();
            topic.partitions = with(|p: &mut FetchPartition| p.partition = 3);
        }),
        session_id: if version < 7 { 0 } else { 7 },
        ..Default::default()
    });
    check(seen, |_| ListOffsetsRequest {
        topics: with(|topic: &mut ListOffsetsTopic| {
            topic.name = name();
            topic.partitions = with(|p: &mut ListOffsetsPartition| p.partition_index = 3);
        }),
        ..Default::default()
    });
    check(seen, |_| MetadataRequest {
        topics: Some(with(|topic: &mut MetadataRequestTopic| topic.name = Some(name()))),
        ..Default::default()
    });
    check(seen, |_| OffsetCommitRequest {
        topics: with(|topic: &mut OffsetCommitRequestTopic| {
            topic.name = name();
            topic.partitions = with(|p: &mut OffsetCommitRequestPartition| p.partition_index = 3);
        }),
        ..Default::default()
    });
    check(seen, |version| {
        let topics = Some(with(|topic: &mut OffsetFetchRequestTopic| {
            topic.name = name();
            topic.partition_indexes = vec![3];
        }));
        let groups = with(|group: &mut OffsetFetchRequestGroup| group.group_id = name());
        match version {
            ..8 => OffsetFetchRequest { group_id: name(), topics, ..Default::default() },
            _ => OffsetFetchRequest { groups, ..Default::default() },
        }
    });
    check(seen, |version| match version {
        ..4 => FindCoordinatorRequest { key: name(), ..Default::default() },
        _ => FindCoordinatorRequest { coordinator_keys: vec![name()], ..Default::default() },
    });
    check(seen, |_| JoinGroupRequest::default());
    check(seen, |_| HeartbeatRequest::default());
    check(seen, |_| LeaveGroupRequest::default());
    check(seen, |_| SyncGroupRequest::default());
    check(seen, |_| DescribeGroupsRequest { groups: vec![name()], ..Default::default() });
    check(seen, |_| ListGroupsRequest::default());
    check(seen, |_| ApiVersionsRequest::default());
    check(seen, |_| CreateTopicsRequest {
        topics: with(|topic: &mut CreatableTopic| topic.name = name()),
        ..Default::default()
    });
    check(seen, |version| match version {
        ..6 => DeleteTopicsRequest { topic_names: vec![name()], ..Default::default() },
        _ => DeleteTopicsRequest {
            topics: with(|topic: &mut DeleteTopicState| topic.name = Some(name())),
            ..Default::default()
        },
    });
    check(seen, |_| DeleteRecordsRequest {
        topics: with(|topic: &mut DeleteRecordsTopic| {
            topic.name = name();
            topic.partitions = with(|p: &mut DeleteRecordsPartition| p.partition_index = 3);
        }),
        ..Default::default()
    });
    check(seen, |_| InitProducerIdRequest::default());
    check(seen, |_| OffsetForLeaderEpochRequest {
        topics: with(|topic: &mut OffsetForLeaderTopic| {
            topic.topic = name();
            topic.partitions = with(|p: &mut OffsetForLeaderPartition| p.partition = 3);
        }),
        ..Default::default()
    });
    check(seen, |_| DescribeConfigsRequest {
        resources: with(|resource: &mut DescribeConfigsResource| resource.resource_name = name()),
        ..Default::default()
    });
    check(seen, |_| AlterConfigsRequest {
        resources: with(|resource: &mut AlterConfigsResource| resource.resource_name = name()),
        ..Default::default()
    });
    check(seen, |_| CreatePartitionsRequest {
        topics: with(|topic: &mut CreatePartitionsTopic| topic.name = name()),
        ..Default::default()
    });
    check(seen, |_| DeleteGroupsRequest { groups_names: vec![name()], ..Default::default() });
    check(seen, |_| IncrementalAlterConfigsRequest {
        resources: with(|resource: &mut IncrementalResource| resource.resource_name = name()),
        ..Default::default()
    });
    check(seen, |_| OffsetDeleteRequest::default());
    check(seen, |_| DescribeClusterRequest::default());
    check(seen, |_| DescribeTopicPartitionsRequest {
        topics: with(|topic: &mut TopicRequest| topic.name = name()),
        ..Default::default()
    });
    let served: Vec<_> = APIS.iter().map(|api| api.key.code()).collect();
    assert_eq!(*seen, served, "every API that is served was checked");
}

#[test]
fn a_produce_without_acknowledgement_cannot_be_refused() {
    let request = ProduceRequest { acks: 0, ..Default::default() };
    assert_eq!(request.refused(ERROR, 13), None);
}

#[test]
fn an_error_of_fetch_stands_where_the_version_has_it() {
    let request = FetchRequest {
        topics: with(|topic: &mut FetchTopic| {
            topic.partitions = with(|p: &mut FetchPartition| p.partition = 3);
        }),
        ..Default::default()
    };
    let old = request.refused(ERROR, 12).unwrap();
    assert_eq!((old.error_code, old.responses[0].partitions[0].error_code), (ERROR, ERROR));
    let new = request.refused(ERROR, 13).unwrap();
    assert_eq!((new.error_code, new.responses.len()), (ERROR, 0));
}
