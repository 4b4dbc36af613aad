//! What members of a group ask.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use kavka_protocol::{
    ErrorCode, Uuid,
    messages::{
        HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest,
        SyncGroupRequest,
        join_group_request::JoinGroupRequestProtocol,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        sync_group_request::SyncGroupRequestAssignment,
    },
};
use kavka_testkit::raw::RawClient;

pub fn join_request(group: &str, member: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol { name: "range".into(), ..Default::default() };
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        member_id: member.into(),
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..Default::default()
    }
}

/// Becomes the one member of a group, which is Stable then.
pub async fn join(client: &mut RawClient, group: &str) -> JoinGroupResponse {
    client.find_coordinator(group).await;
    let required = client.call(join_request(group, "")).await;
    assert_eq!(required.error_code, ErrorCode::MemberIdRequired);
    let member = client.call(join_request(group, &required.member_id)).await;
    assert_eq!(member.error_code, ErrorCode::None);
    let assignment = SyncGroupRequestAssignment {
        member_id: member.member_id.clone(),
        assignment: "all".into(),
        ..Default::default()
    };
    let sync = SyncGroupRequest {
        group_id: group.into(),
        generation_id: member.generation_id,
        member_id: member.member_id.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: vec![assignment],
        ..Default::default()
    };
    assert_eq!(client.call(sync).await.error_code, ErrorCode::None);
    member
}

pub async fn heartbeat(
    client: &mut RawClient,
    member: &JoinGroupResponse,
    group: &str,
) -> ErrorCode {
    client.call(heartbeat_request(member, group)).await.error_code
}

pub fn heartbeat_request(member: &JoinGroupResponse, group: &str) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: group.into(),
        generation_id: member.generation_id,
        member_id: member.member_id.clone(),
        ..Default::default()
    }
}

pub async fn commit(
    client: &mut RawClient,
    member: &JoinGroupResponse,
    group: &str,
    topic_id: Uuid,
    partition: i32,
    offset: i64,
) -> ErrorCode {
    let partition = OffsetCommitRequestPartition {
        partition_index: partition,
        committed_offset: offset,
        ..Default::default()
    };
    let topic =
        OffsetCommitRequestTopic { topic_id, partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: member.generation_id,
        member_id: member.member_id.clone(),
        topics: vec![topic],
        ..Default::default()
    };
    client.call(request).await.topics[0].partitions[0].error_code
}
