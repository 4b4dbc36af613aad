//! For each API: what a request is about, and its answer when it fails as a whole.
//!
//! An error that concerns the whole request stands where Kafka's `getErrorResponse` puts it: at the top where the version has such
//! a field, else at everything that was asked about.

use bytestring::ByteString;
use kavka_meta::MetadataImage;
use kavka_protocol::{
    ErrorCode, Request, Uuid,
    messages::{
        AlterConfigsRequest, AlterConfigsResponse, ApiVersionsRequest, ApiVersionsResponse,
        CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest,
        CreateTopicsResponse, DeleteGroupsRequest, DeleteGroupsResponse, DeleteRecordsRequest,
        DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeClusterRequest,
        DescribeClusterResponse, DescribeConfigsRequest, DescribeConfigsResponse,
        DescribeGroupsRequest, DescribeGroupsResponse, DescribeTopicPartitionsRequest,
        DescribeTopicPartitionsResponse, FetchRequest, FetchResponse, FindCoordinatorRequest,
        FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse,
        IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, InitProducerIdRequest,
        InitProducerIdResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
        LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, ListOffsetsRequest,
        ListOffsetsResponse, MetadataRequest, MetadataResponse, OffsetCommitRequest,
        OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
        OffsetFetchResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
        ProduceRequest, ProduceResponse, SyncGroupRequest, SyncGroupResponse,
        alter_configs_response::AlterConfigsResourceResponse,
        create_partitions_response::CreatePartitionsTopicResult,
        create_topics_response::CreatableTopicResult,
        delete_groups_response::DeletableGroupResult,
        delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
        delete_topics_response::DeletableTopicResult,
        describe_configs_response::DescribeConfigsResult,
        describe_groups_response::DescribedGroup,
        describe_topic_partitions_response::DescribeTopicPartitionsResponseTopic,
        fetch_response::{FetchableTopicResponse, PartitionData},
        find_coordinator_response::Coordinator,
        incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementalResponse,
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
        metadata_response::MetadataResponseTopic,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
        },
        offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
        produce_response::{PartitionProduceResponse, TopicProduceResponse},
    },
};

/// A request that can be told apart and refused.
pub(crate) trait Subject: Request {
    /// The answer that says that the whole request has failed with `error`; `None` where the protocol has no answer.
    fn refused(&self, error: ErrorCode, version: i16) -> Option<Self::Response>;

    /// The groups that it is about.
    fn groups(&self) -> Vec<ByteString> {
        Vec::new()
    }

    /// The topics that it is about, as far as they are known.
    fn topics(&self, _image: &MetadataImage) -> Vec<ByteString> {
        Vec::new()
    }
}

/// Where there is no offset.
const NO_OFFSET: i64 = -1;

/// Implements [`Subject`]: the answer, and which groups and topics.
macro_rules! subject {
    (
        $request:ident => |$self:ident, $error:ident, $version:pat_param| $refused:expr
        $(, groups: $groups:expr)? $(, topics: |$image:ident| $topics:expr)?
    ) => {
        impl Subject for $request {
            fn refused(&$self, $error: ErrorCode, $version: i16) -> Option<Self::Response> {
                $refused.into()
            }
            $(fn groups(&$self) -> Vec<ByteString> {
                $groups
            })?
            $(fn topics(&$self, $image: &MetadataImage) -> Vec<ByteString> {
                $topics
            })?
        }
    };
}

/// The field `$name` of each of `$rows`.
macro_rules! each {
    ($rows:expr, $name:ident) => {
        $rows.iter().map(|row| row.$name.clone()).collect()
    };
}

/// A topic that is named, or else known by its id.
fn named(image: &MetadataImage, name: &ByteString, id: Uuid) -> Option<ByteString> {
    if !name.is_empty() {
        return Some(name.clone());
    }
    image.topic_by_id(id).map(|topic| ByteString::from(&*topic.name))
}

/// The topics of `$rows`, each named or known by its id.
macro_rules! each_named {
    ($image:ident, $rows:expr, $name:ident) => {
        $rows.iter().filter_map(|row| named($image, &row.$name, row.topic_id)).collect()
    };
}

subject! {
    ProduceRequest => |self, error, _| (self.acks != 0).then(|| {
        let responses = self.topic_data.iter().map(|topic| TopicProduceResponse {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partition_responses: topic
                .partition_data
                .iter()
                .map(|partition| PartitionProduceResponse {
                    index: partition.index,
                    error_code: error,
                    base_offset: NO_OFFSET,
                    log_append_time_ms: -1,
                    log_start_offset: NO_OFFSET,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        ProduceResponse { responses: responses.collect(), ..Default::default() }
    }),
    topics: |image| each_named!(image, self.topic_data, name)
}

subject! {
    FetchRequest => |self, error, version| {
        let responses = self.topics.iter().map(|topic| FetchableTopicResponse {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| PartitionData {
                    partition_index: partition.partition,
                    error_code: error,
                    high_watermark: NO_OFFSET,
                    records: Some(Default::default()),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        FetchResponse {
            error_code: error,
            session_id: self.session_id,
            // From version 13 on the error at the top is enough.
            responses: if version < 13 { responses.collect() } else { Vec::new() },
            ..Default::default()
        }
    },
    topics: |image| each_named!(image, self.topics, topic)
}

subject! {
    ListOffsetsRequest => |self, error, _| {
        let topics = self.topics.iter().map(|topic| ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| ListOffsetsPartitionResponse {
                    partition_index: partition.partition_index,
                    error_code: error,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        ListOffsetsResponse { topics: topics.collect(), ..Default::default() }
    },
    topics: |_image| each!(self.topics, name)
}

subject! {
    MetadataRequest => |self, error, _| {
        let topics = self.topics.iter().flatten().map(|topic| MetadataResponseTopic {
            error_code: error,
            name: Some(topic.name.clone().unwrap_or_default()),
            topic_id: topic.topic_id,
            ..Default::default()
        });
        MetadataResponse { topics: topics.collect(), error_code: error, ..Default::default() }
    },
    topics: |image| {
        let topics = self.topics.iter().flatten();
        topics
            .filter_map(|topic| {
                named(image, &topic.name.clone().unwrap_or_default(), topic.topic_id)
            })
            .collect()
    }
}

subject! {
    OffsetCommitRequest => |self, error, _| {
        let topics = self.topics.iter().map(|topic| OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: error,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        OffsetCommitResponse { topics: topics.collect(), ..Default::default() }
    },
    groups: vec![self.group_id.clone()],
    topics: |image| each_named!(image, self.topics, name)
}

subject! {
    OffsetFetchRequest => |self, error, version| {
        let topics = self.topics.iter().flatten().map(|topic| OffsetFetchResponseTopic {
            name: topic.name.clone(),
            partitions: topic
                .partition_indexes
                .iter()
                .map(|index| OffsetFetchResponsePartition {
                    partition_index: *index,
                    committed_offset: NO_OFFSET,
                    metadata: Some(ByteString::new()),
                    error_code: error,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        let groups = self.groups.iter().map(|group| OffsetFetchResponseGroup {
            group_id: group.group_id.clone(),
            error_code: error,
            ..Default::default()
        });
        match version {
            // Without a field for the error of the group.
            ..=1 => OffsetFetchResponse { topics: topics.collect(), ..Default::default() },
            2..=7 => OffsetFetchResponse { error_code: error, ..Default::default() },
            _ => OffsetFetchResponse { groups: groups.collect(), ..Default::default() },
        }
    },
    groups: if self.groups.is_empty() {
        vec![self.group_id.clone()]
    } else {
        each!(self.groups, group_id)
    },
    topics: |image| {
        let old = self.topics.iter().flatten().map(|topic| topic.name.clone());
        let new = self.groups.iter().filter_map(|group| group.topics.as_ref()).flatten();
        old.chain(new.filter_map(|topic| named(image, &topic.name, topic.topic_id))).collect()
    }
}

subject! {
    FindCoordinatorRequest => |self, error, version| {
        let message = || Some(ByteString::from_static(error.message()));
        let coordinators = self.coordinator_keys.iter().map(|key| Coordinator {
            key: key.clone(),
            node_id: -1,
            port: -1,
            error_code: error,
            error_message: message(),
            ..Default::default()
        });
        if version < 4 {
            FindCoordinatorResponse {
                error_code: error,
                error_message: message(),
                node_id: -1,
                port: -1,
                ..Default::default()
            }
        } else {
            FindCoordinatorResponse { coordinators: coordinators.collect(), ..Default::default() }
        }
    },
    groups: match (self.key_type, self.coordinator_keys.is_empty()) {
        (0, true) => vec![self.key.clone()],
        (0, false) => self.coordinator_keys.clone(),
        _ => Vec::new(),
    }
}

subject! {
    JoinGroupRequest => |self, error, version| JoinGroupResponse {
        error_code: error,
        protocol_name: (version < 7).then(ByteString::new),
        ..Default::default()
    },
    groups: vec![self.group_id.clone()]
}

subject! {
    HeartbeatRequest => |self, error, _| HeartbeatResponse {
        error_code: error,
        ..Default::default()
    },
    groups: vec![self.group_id.clone()]
}

subject! {
    LeaveGroupRequest => |self, error, _| LeaveGroupResponse {
        error_code: error,
        ..Default::default()
    },
    groups: vec![self.group_id.clone()]
}

subject! {
    SyncGroupRequest => |self, error, _| SyncGroupResponse {
        error_code: error,
        ..Default::default()
    },
    groups: vec![self.group_id.clone()]
}

subject! {
    DescribeGroupsRequest => |self, error, _| {
        let groups = self.groups.iter().map(|group| DescribedGroup {
            group_id: group.clone(),
            error_code: error,
            ..Default::default()
        });
        DescribeGroupsResponse { groups: groups.collect(), ..Default::default() }
    },
    groups: self.groups.clone()
}

subject! {
    ListGroupsRequest => |self, error, _| ListGroupsResponse {
        error_code: error,
        ..Default::default()
    }
}

subject! {
    ApiVersionsRequest => |self, error, _| ApiVersionsResponse {
        error_code: error,
        ..Default::default()
    }
}

subject! {
    CreateTopicsRequest => |self, error, _| {
        let topics = self.topics.iter().map(|topic| CreatableTopicResult {
            name: topic.name.clone(),
            error_code: error,
            configs: Some(Vec::new()),
            ..Default::default()
        });
        CreateTopicsResponse { topics: topics.collect(), ..Default::default() }
    },
    topics: |_image| each!(self.topics, name)
}

subject! {
    DeleteTopicsRequest => |self, error, _| {
        let named = self.topic_names.iter().map(|name| DeletableTopicResult {
            name: Some(name.clone()),
            error_code: error,
            ..Default::default()
        });
        let by_either = self.topics.iter().map(|topic| DeletableTopicResult {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            error_code: error,
            ..Default::default()
        });
        DeleteTopicsResponse { responses: named.chain(by_either).collect(), ..Default::default() }
    },
    topics: |image| {
        let by_either = self.topics.iter().filter_map(|topic| {
            named(image, &topic.name.clone().unwrap_or_default(), topic.topic_id)
        });
        self.topic_names.iter().cloned().chain(by_either).collect()
    }
}

subject! {
    DeleteRecordsRequest => |self, error, _| {
        let topics = self.topics.iter().map(|topic| DeleteRecordsTopicResult {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| DeleteRecordsPartitionResult {
                    partition_index: partition.partition_index,
                    low_watermark: NO_OFFSET,
                    error_code: error,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        DeleteRecordsResponse { topics: topics.collect(), ..Default::default() }
    },
    topics: |_image| each!(self.topics, name)
}

subject! {
    InitProducerIdRequest => |self, error, _| InitProducerIdResponse {
        error_code: error,
        producer_epoch: -1,
        ..Default::default()
    }
}

subject! {
    OffsetForLeaderEpochRequest => |self, error, _| {
        let topics = self.topics.iter().map(|topic| OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| EpochEndOffset {
                    error_code: error,
                    partition: partition.partition,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        OffsetForLeaderEpochResponse { topics: topics.collect(), ..Default::default() }
    },
    topics: |_image| each!(self.topics, topic)
}

subject! {
    DescribeConfigsRequest => |self, error, _| {
        let results = self.resources.iter().map(|resource| DescribeConfigsResult {
            error_code: error,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        });
        DescribeConfigsResponse { results: results.collect(), ..Default::default() }
    }
}

subject! {
    AlterConfigsRequest => |self, error, _| {
        let responses = self.resources.iter().map(|resource| AlterConfigsResourceResponse {
            error_code: error,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        });
        AlterConfigsResponse { responses: responses.collect(), ..Default::default() }
    }
}

subject! {
    IncrementalAlterConfigsRequest => |self, error, _| {
        let responses = self.resources.iter().map(|resource| IncrementalResponse {
            error_code: error,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        });
        IncrementalAlterConfigsResponse { responses: responses.collect(), ..Default::default() }
    }
}

subject! {
    CreatePartitionsRequest => |self, error, _| {
        let results = self.topics.iter().map(|topic| CreatePartitionsTopicResult {
            name: topic.name.clone(),
            error_code: error,
            ..Default::default()
        });
        CreatePartitionsResponse { results: results.collect(), ..Default::default() }
    },
    topics: |_image| each!(self.topics, name)
}

subject! {
    DeleteGroupsRequest => |self, error, _| {
        let results = self.groups_names.iter().map(|group| DeletableGroupResult {
            group_id: group.clone(),
            error_code: error,
            ..Default::default()
        });
        DeleteGroupsResponse { results: results.collect(), ..Default::default() }
    },
    groups: self.groups_names.clone()
}

subject! {
    OffsetDeleteRequest => |self, error, _| OffsetDeleteResponse {
        error_code: error,
        ..Default::default()
    },
    groups: vec![self.group_id.clone()],
    topics: |_image| each!(self.topics, name)
}

subject! {
    DescribeClusterRequest => |self, error, _| DescribeClusterResponse {
        error_code: error,
        ..Default::default()
    }
}

subject! {
    DescribeTopicPartitionsRequest => |self, error, _| {
        let topics = self.topics.iter().map(|topic| DescribeTopicPartitionsResponseTopic {
            error_code: error,
            name: Some(topic.name.clone()),
            ..Default::default()
        });
        DescribeTopicPartitionsResponse { topics: topics.collect(), ..Default::default() }
    },
    topics: |_image| each!(self.topics, name)
}

#[cfg(test)]
mod tests;
