//! Requests and responses as messages of a version.
//!
//! The differences between versions live here and nowhere else: what a version cannot carry is left out, what it spells differently
//! is mapped. A shell picks the version that it and the broker know, [`encode`]s the body of a request, and [`decode`]s the body of
//! its response.

use std::collections::BTreeMap;

use bytes::Bytes;
use kavka_protocol::{
    ApiKey, ByteString, DecodeError, EncodeError, ErrorCode, Message, Reader, Uuid,
    messages::{
        DescribeGroupsRequest, DescribeGroupsResponse, FindCoordinatorRequest,
        FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest,
        JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListOffsetsRequest,
        ListOffsetsResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
        OffsetFetchResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
        SyncGroupRequest, SyncGroupResponse,
        join_group_request::JoinGroupRequestProtocol,
        leave_group_request::MemberIdentity,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{
            OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
        },
        offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
        sync_group_request::SyncGroupRequestAssignment,
    },
};

use crate::{
    CommitRequest, Coordinator, EpochEnd, EpochQuery, FetchOffsetsRequest, FetchedOffset,
    GroupDescription, IsolationLevel, JoinRequest, JoinResponse, JoinedMember, LeaveRequest,
    ListOffsetsQuery, ListedOffset, Request, Response, SyncRequest, TopicPartition,
};

/// From this version on OffsetCommit and OffsetFetch name topics by id.
const TOPIC_IDS: i16 = 10;
/// From this version on FindCoordinator and OffsetFetch ask for several groups, at most.
const FIND_SEVERAL: i16 = 4;
const FETCH_SEVERAL: i16 = 8;
/// From this version on LeaveGroup names several members.
const LEAVE_SEVERAL: i16 = 3;
/// Kafka's consumers are replica -1.
const CONSUMER: i32 = -1;

/// The API of a request.
pub fn api_key(request: &Request) -> ApiKey {
    match request {
        Request::FindCoordinator { .. } => ApiKey::FindCoordinator,
        Request::Join(_) => ApiKey::JoinGroup,
        Request::Sync(_) => ApiKey::SyncGroup,
        Request::Heartbeat(_) => ApiKey::Heartbeat,
        Request::Leave(_) => ApiKey::LeaveGroup,
        Request::CommitOffsets(_) => ApiKey::OffsetCommit,
        Request::FetchOffsets(_) => ApiKey::OffsetFetch,
        Request::ListOffsets(_) => ApiKey::ListOffsets,
        Request::EndOfEpochs(_) => ApiKey::OffsetForLeaderEpoch,
        Request::DescribeGroup { .. } => ApiKey::DescribeGroups,
    }
}

/// The newest version that can carry this request. It depends on the request: without the ids of its topics, OffsetCommit and
/// OffsetFetch have to name them.
pub fn newest_version(request: &Request) -> i16 {
    let by_id = |topics: &BTreeMap<ByteString, Uuid>,
                 mut partitions: Box<dyn Iterator<Item = &TopicPartition> + '_>| {
        partitions.all(|partition| topics.contains_key(&partition.topic))
    };
    match request {
        Request::FindCoordinator { .. } => *FindCoordinatorRequest::VERSIONS.end(),
        Request::Join(_) => *JoinGroupRequest::VERSIONS.end(),
        Request::Sync(_) => *SyncGroupRequest::VERSIONS.end(),
        Request::Heartbeat(_) => *HeartbeatRequest::VERSIONS.end(),
        Request::Leave(_) => *LeaveGroupRequest::VERSIONS.end(),
        Request::CommitOffsets(commit) => {
            let newest = *OffsetCommitRequest::VERSIONS.end();
            let has_ids = by_id(&commit.topic_ids, Box::new(commit.offsets.keys()));
            if has_ids { newest } else { newest.min(TOPIC_IDS - 1) }
        }
        Request::FetchOffsets(fetch) => {
            let newest = *OffsetFetchRequest::VERSIONS.end();
            let has_ids = by_id(&fetch.topic_ids, Box::new(fetch.partitions.iter()));
            if has_ids { newest } else { newest.min(TOPIC_IDS - 1) }
        }
        Request::ListOffsets(_) => *ListOffsetsRequest::VERSIONS.end(),
        Request::EndOfEpochs(_) => *OffsetForLeaderEpochRequest::VERSIONS.end(),
        Request::DescribeGroup { .. } => *DescribeGroupsRequest::VERSIONS.end(),
    }
}

/// The body of a request.
///
/// # Errors
/// The version is not known, or cannot carry the request: a static member needs JoinGroup 5, SyncGroup, Heartbeat and LeaveGroup 3,
/// OffsetCommit 7.
pub fn encode(request: &Request, version: i16) -> Result<Bytes, EncodeError> {
    match request {
        Request::FindCoordinator { group } => find_coordinator(group, version).to_bytes(version),
        Request::Join(join) => join_group(join).to_bytes(version),
        Request::Sync(sync) => sync_group(sync).to_bytes(version),
        Request::Heartbeat(heartbeat) => HeartbeatRequest {
            group_id: heartbeat.group.clone(),
            generation_id: heartbeat.generation,
            member_id: heartbeat.member_id.clone(),
            group_instance_id: heartbeat.instance_id.clone(),
            ..Default::default()
        }
        .to_bytes(version),
        Request::Leave(leave) => leave_group(leave, version).to_bytes(version),
        Request::CommitOffsets(commit) => offset_commit(commit, version).to_bytes(version),
        Request::FetchOffsets(fetch) => offset_fetch(fetch, version).to_bytes(version),
        Request::ListOffsets(list) => list_offsets(list).to_bytes(version),
        Request::EndOfEpochs(queries) => end_of_epochs(queries).to_bytes(version),
        Request::DescribeGroup { group } => {
            DescribeGroupsRequest { groups: vec![group.clone()], ..Default::default() }
                .to_bytes(version)
        }
    }
}

/// The response to a request, from its body.
///
/// # Errors
/// The bytes are no such response.
pub fn decode(request: &Request, version: i16, body: Bytes) -> Result<Response, DecodeError> {
    let reader = &mut Reader::new(body);
    Ok(match request {
        Request::FindCoordinator { group } => {
            let message = FindCoordinatorResponse::decode(reader, version)?;
            Response::FindCoordinator(found_coordinator(group, message, version))
        }
        Request::Join(_) => Response::Join(joined(JoinGroupResponse::decode(reader, version)?)),
        Request::Sync(_) => {
            let message = SyncGroupResponse::decode(reader, version)?;
            Response::Sync(ok(message.error_code).map(|()| message.assignment))
        }
        Request::Heartbeat(_) => {
            Response::Heartbeat(HeartbeatResponse::decode(reader, version)?.error_code)
        }
        Request::Leave(_) => {
            let message = LeaveGroupResponse::decode(reader, version)?;
            let member = message.members.first().map_or(ErrorCode::None, |row| row.error_code);
            Response::Leave(ok(message.error_code).err().unwrap_or(member))
        }
        Request::CommitOffsets(commit) => {
            let message = OffsetCommitResponse::decode(reader, version)?;
            Response::CommitOffsets(committed(commit, message, version))
        }
        Request::FetchOffsets(fetch) => {
            let message = OffsetFetchResponse::decode(reader, version)?;
            Response::FetchOffsets(fetched(fetch, message, version))
        }
        Request::ListOffsets(_) => {
            let message = ListOffsetsResponse::decode(reader, version)?;
            let rows = message.topics.into_iter().flat_map(|topic| {
                let name = topic.name;
                topic.partitions.into_iter().map(move |row| {
                    let partition = TopicPartition::new(name.clone(), row.partition_index);
                    let (offset, leader_epoch) = (row.offset, row.leader_epoch);
                    (partition, ListedOffset { error: row.error_code, offset, leader_epoch })
                })
            });
            Response::ListOffsets(rows.collect())
        }
        Request::EndOfEpochs(_) => {
            let message = OffsetForLeaderEpochResponse::decode(reader, version)?;
            let rows = message.topics.into_iter().flat_map(|topic| {
                let name = topic.topic;
                topic.partitions.into_iter().map(move |row| {
                    let partition = TopicPartition::new(name.clone(), row.partition);
                    let (leader_epoch, end_offset) = (row.leader_epoch, row.end_offset);
                    (partition, EpochEnd { error: row.error_code, leader_epoch, end_offset })
                })
            });
            Response::EndOfEpochs(rows.collect())
        }
        Request::DescribeGroup { group } => {
            let message = DescribeGroupsResponse::decode(reader, version)?;
            Response::DescribeGroup(described(group, message))
        }
    })
}

fn described(
    group: &ByteString,
    message: DescribeGroupsResponse,
) -> Result<GroupDescription, ErrorCode> {
    let found = message.groups.into_iter().find(|row| row.group_id == *group);
    let found = found.ok_or(ErrorCode::UnknownServerError)?;
    ok(found.error_code)?;
    let assignments = found.members.into_iter().map(|member| member.member_assignment);
    Ok(GroupDescription {
        is_stable: found.group_state == "Stable",
        assignments: assignments.collect(),
    })
}

fn ok(code: ErrorCode) -> Result<(), ErrorCode> {
    if code == ErrorCode::None { Ok(()) } else { Err(code) }
}

fn find_coordinator(group: &ByteString, version: i16) -> FindCoordinatorRequest {
    if version >= FIND_SEVERAL {
        FindCoordinatorRequest { coordinator_keys: vec![group.clone()], ..Default::default() }
    } else {
        FindCoordinatorRequest { key: group.clone(), ..Default::default() }
    }
}

fn found_coordinator(
    group: &ByteString,
    message: FindCoordinatorResponse,
    version: i16,
) -> Result<Coordinator, ErrorCode> {
    if version < FIND_SEVERAL {
        ok(message.error_code)?;
        let (node, host, port) = (message.node_id, message.host, message.port);
        return Ok(Coordinator { node, host, port });
    }
    let row = message.coordinators.into_iter().find(|row| row.key == *group);
    let row = row.ok_or(ErrorCode::CoordinatorNotAvailable)?;
    ok(row.error_code)?;
    Ok(Coordinator { node: row.node_id, host: row.host, port: row.port })
}

fn join_group(join: &JoinRequest) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: join.group.clone(),
        session_timeout_ms: join.session_timeout_ms,
        rebalance_timeout_ms: join.rebalance_timeout_ms,
        member_id: join.member_id.clone(),
        group_instance_id: join.instance_id.clone(),
        protocol_type: join.protocol_type.clone(),
        protocols: join
            .protocols
            .iter()
            .map(|(name, metadata)| JoinGroupRequestProtocol {
                name: name.clone(),
                metadata: metadata.clone(),
                ..Default::default()
            })
            .collect(),
        reason: join.reason.clone(),
        ..Default::default()
    }
}

fn joined(message: JoinGroupResponse) -> JoinResponse {
    JoinResponse {
        error: message.error_code,
        generation: message.generation_id,
        protocol_name: message.protocol_name.filter(|name| !name.is_empty()),
        leader: message.leader,
        skip_assignment: message.skip_assignment,
        member_id: message.member_id,
        members: message
            .members
            .into_iter()
            .map(|member| JoinedMember {
                member_id: member.member_id,
                instance_id: member.group_instance_id,
                metadata: member.metadata,
            })
            .collect(),
    }
}

fn sync_group(sync: &SyncRequest) -> SyncGroupRequest {
    SyncGroupRequest {
        group_id: sync.group.clone(),
        generation_id: sync.generation,
        member_id: sync.member_id.clone(),
        group_instance_id: sync.instance_id.clone(),
        protocol_type: Some(sync.protocol_type.clone()),
        protocol_name: Some(sync.protocol_name.clone()),
        assignments: sync
            .assignments
            .iter()
            .map(|(member_id, assignment)| SyncGroupRequestAssignment {
                member_id: member_id.clone(),
                assignment: assignment.clone(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

fn leave_group(leave: &LeaveRequest, version: i16) -> LeaveGroupRequest {
    let group_id = leave.group.clone();
    if version < LEAVE_SEVERAL {
        let member_id = leave.member_id.clone();
        return LeaveGroupRequest { group_id, member_id, ..Default::default() };
    }
    let member = MemberIdentity {
        member_id: leave.member_id.clone(),
        group_instance_id: leave.instance_id.clone(),
        reason: leave.reason.clone(),
        ..Default::default()
    };
    LeaveGroupRequest { group_id, members: vec![member], ..Default::default() }
}

fn by_topic<'a, T>(
    rows: impl Iterator<Item = (&'a TopicPartition, T)>,
) -> BTreeMap<&'a ByteString, Vec<(i32, T)>> {
    let mut topics: BTreeMap<&ByteString, Vec<(i32, T)>> = BTreeMap::new();
    for (partition, row) in rows {
        topics.entry(&partition.topic).or_default().push((partition.partition, row));
    }
    topics
}

/// A topic's name or id, whichever the version has, for a request.
fn named(topic: &ByteString, ids: &BTreeMap<ByteString, Uuid>, version: i16) -> (ByteString, Uuid) {
    if version >= TOPIC_IDS {
        (ByteString::new(), ids.get(topic).copied().unwrap_or(Uuid::ZERO))
    } else {
        (topic.clone(), Uuid::ZERO)
    }
}

/// The name of a topic in a response.
fn name_of(
    name: ByteString,
    id: Uuid,
    ids: &BTreeMap<ByteString, Uuid>,
    version: i16,
) -> Option<ByteString> {
    if version < TOPIC_IDS {
        return Some(name);
    }
    ids.iter().find(|(_, known)| **known == id).map(|(name, _)| name.clone())
}

fn offset_commit(commit: &CommitRequest, version: i16) -> OffsetCommitRequest {
    let topics = by_topic(commit.offsets.iter()).into_iter().map(|(topic, rows)| {
        let (name, topic_id) = named(topic, &commit.topic_ids, version);
        let partitions =
            rows.into_iter().map(|(partition_index, row)| OffsetCommitRequestPartition {
                partition_index,
                committed_offset: row.offset,
                committed_leader_epoch: row.leader_epoch,
                committed_metadata: Some(row.metadata.clone().unwrap_or_default()),
                ..Default::default()
            });
        let partitions = partitions.collect();
        OffsetCommitRequestTopic { name, topic_id, partitions, ..Default::default() }
    });
    OffsetCommitRequest {
        group_id: commit.group.clone(),
        generation_id_or_member_epoch: commit.generation,
        member_id: commit.member_id.clone(),
        group_instance_id: commit.instance_id.clone(),
        topics: topics.collect(),
        ..Default::default()
    }
}

fn committed(
    commit: &CommitRequest,
    message: OffsetCommitResponse,
    version: i16,
) -> BTreeMap<TopicPartition, ErrorCode> {
    let mut codes = BTreeMap::new();
    for topic in message.topics {
        let name = name_of(topic.name, topic.topic_id, &commit.topic_ids, version);
        let Some(name) = name else { continue };
        for row in topic.partitions {
            codes.insert(TopicPartition::new(name.clone(), row.partition_index), row.error_code);
        }
    }
    codes
}

fn offset_fetch(fetch: &FetchOffsetsRequest, version: i16) -> OffsetFetchRequest {
    let rows = fetch.partitions.iter().map(|partition| (partition, ()));
    let topics = by_topic(rows).into_iter().map(|(topic, rows)| {
        let partitions: Vec<i32> = rows.into_iter().map(|(partition, ())| partition).collect();
        (topic, partitions)
    });
    // Older versions cannot ask for stable offsets only.
    let require_stable = version >= 7;
    if version < FETCH_SEVERAL {
        let topics = topics.map(|(name, partition_indexes)| OffsetFetchRequestTopic {
            name: name.clone(),
            partition_indexes,
            ..Default::default()
        });
        let (group_id, topics) = (fetch.group.clone(), Some(topics.collect()));
        return OffsetFetchRequest { group_id, topics, require_stable, ..Default::default() };
    }
    let topics = topics.map(|(topic, partition_indexes)| {
        let (name, topic_id) = named(topic, &fetch.topic_ids, version);
        OffsetFetchRequestTopics { name, topic_id, partition_indexes, ..Default::default() }
    });
    let group = OffsetFetchRequestGroup {
        group_id: fetch.group.clone(),
        topics: Some(topics.collect()),
        ..Default::default()
    };
    OffsetFetchRequest { groups: vec![group], require_stable, ..Default::default() }
}

fn fetched(
    fetch: &FetchOffsetsRequest,
    message: OffsetFetchResponse,
    version: i16,
) -> Result<BTreeMap<TopicPartition, FetchedOffset>, ErrorCode> {
    let mut rows = BTreeMap::new();
    if version < FETCH_SEVERAL {
        ok(message.error_code)?;
        for topic in message.topics {
            for row in topic.partitions {
                let partition = TopicPartition::new(topic.name.clone(), row.partition_index);
                let (offset, leader_epoch) = (row.committed_offset, row.committed_leader_epoch);
                let row = FetchedOffset { error: row.error_code, offset, leader_epoch };
                rows.insert(partition, row);
            }
        }
        return Ok(rows);
    }
    let group = message.groups.into_iter().find(|group| group.group_id == fetch.group);
    let group = group.ok_or(ErrorCode::CoordinatorNotAvailable)?;
    ok(group.error_code)?;
    for topic in group.topics {
        let name = name_of(topic.name, topic.topic_id, &fetch.topic_ids, version);
        let Some(name) = name else { continue };
        for row in topic.partitions {
            let partition = TopicPartition::new(name.clone(), row.partition_index);
            let (offset, leader_epoch) = (row.committed_offset, row.committed_leader_epoch);
            rows.insert(partition, FetchedOffset { error: row.error_code, offset, leader_epoch });
        }
    }
    Ok(rows)
}

fn list_offsets(list: &ListOffsetsQuery) -> ListOffsetsRequest {
    let rows = list.partitions.iter().map(|(partition, epoch, at)| (partition, (*epoch, *at)));
    let topics = by_topic(rows).into_iter().map(|(name, rows)| ListOffsetsTopic {
        name: name.clone(),
        partitions: rows
            .into_iter()
            .map(|(partition_index, (current_leader_epoch, timestamp))| ListOffsetsPartition {
                partition_index,
                current_leader_epoch,
                timestamp,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    });
    ListOffsetsRequest {
        replica_id: CONSUMER,
        isolation_level: i8::from(list.isolation_level == IsolationLevel::ReadCommitted),
        topics: topics.collect(),
        ..Default::default()
    }
}

fn end_of_epochs(queries: &[EpochQuery]) -> OffsetForLeaderEpochRequest {
    let rows = queries.iter().map(|query| (&query.partition, query));
    let topics = by_topic(rows).into_iter().map(|(topic, rows)| OffsetForLeaderTopic {
        topic: topic.clone(),
        partitions: rows
            .into_iter()
            .map(|(partition, query)| OffsetForLeaderPartition {
                partition,
                current_leader_epoch: query.current_leader_epoch,
                leader_epoch: query.leader_epoch,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    });
    OffsetForLeaderEpochRequest {
        replica_id: CONSUMER,
        topics: topics.collect(),
        ..Default::default()
    }
}
