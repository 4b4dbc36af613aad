//! What members of groups ask, each with the one subscription and the one assignor that raw members have.
//!
//! Everything here fails as [`RawClient::call`] does: by a panic.

use bytes::Bytes;
use kavka_protocol::{
    ByteString, ErrorCode, Uuid,
    messages::{
        HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest,
        OffsetFetchRequest, SyncGroupRequest, SyncGroupResponse,
        join_group_request::JoinGroupRequestProtocol,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics},
        sync_group_request::SyncGroupRequestAssignment,
    },
};

use super::RawClient;

/// Asks to join, with session and rebalance timeouts of 10 seconds; a new member has no id.
pub fn join(group: &str, member: &ByteString) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol {
        name: "range".into(),
        metadata: Bytes::from_static(b"subscription"),
        ..Default::default()
    };
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: member.clone(),
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..Default::default()
    }
}

/// Joins as a new member, through the answer that hands out the id.
///
/// # Panics
/// If there is no such answer.
pub async fn join_new(client: &mut RawClient, group: &str) -> JoinGroupResponse {
    let first = client.call(join(group, &ByteString::new())).await;
    assert_eq!(first.error_code, ErrorCode::MemberIdRequired);
    client.call(join(group, &first.member_id)).await
}

/// Asks for the assignment of the generation joined; a leader says what everyone is to have.
pub async fn sync(
    client: &mut RawClient,
    group: &str,
    joined: &JoinGroupResponse,
    assignments: &[(&ByteString, &'static str)],
) -> SyncGroupResponse {
    let assignments = assignments.iter().map(|(member, share)| SyncGroupRequestAssignment {
        member_id: (*member).clone(),
        assignment: Bytes::from_static(share.as_bytes()),
        ..Default::default()
    });
    let request = SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: assignments.collect(),
        ..Default::default()
    };
    client.call(request).await
}

/// Says that the member is still there; what the coordinator thinks of that.
pub async fn heartbeat(
    client: &mut RawClient,
    group: &str,
    joined: &JoinGroupResponse,
) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..Default::default()
    };
    client.call(request).await.error_code
}

/// Commits an offset of partition 0, with the metadata `note`; without a member, as a client that is in no group.
pub async fn commit(
    client: &mut RawClient,
    group: &str,
    member: Option<&JoinGroupResponse>,
    topic_id: Uuid,
    offset: i64,
) -> ErrorCode {
    let response = client.call(commit_request(group, member, topic_id, offset)).await;
    response.topics[0].partitions[0].error_code
}

/// What [`commit`] asks.
pub fn commit_request(
    group: &str,
    member: Option<&JoinGroupResponse>,
    topic_id: Uuid,
    offset: i64,
) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        committed_offset: offset,
        committed_metadata: Some("note".into()),
        ..Default::default()
    };
    let topic =
        OffsetCommitRequestTopic { topic_id, partitions: vec![partition], ..Default::default() };
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: member.map_or(-1, |member| member.generation_id),
        member_id: member.map(|member| member.member_id.clone()).unwrap_or_default(),
        topics: vec![topic],
        ..Default::default()
    }
}

/// The committed offset of partition 0, -1 if there is none, and its metadata.
///
/// # Panics
/// If the coordinator answers with an error.
pub async fn committed(client: &mut RawClient, group: &str, topic_id: Uuid) -> (i64, String) {
    let topic =
        OffsetFetchRequestTopics { topic_id, partition_indexes: vec![0], ..Default::default() };
    let group = OffsetFetchRequestGroup {
        group_id: group.into(),
        topics: Some(vec![topic]),
        ..Default::default()
    };
    let request =
        OffsetFetchRequest { groups: vec![group], require_stable: true, ..Default::default() };
    let response = client.call(request).await;
    let row = &response.groups[0].topics[0].partitions[0];
    assert_eq!(row.error_code, ErrorCode::None);
    (row.committed_offset, row.metadata.as_deref().unwrap_or_default().to_owned())
}

/// As [`join`], as a static member.
pub fn join_as(group: &str, instance: &str, member: &ByteString) -> JoinGroupRequest {
    JoinGroupRequest { group_instance_id: Some(instance.into()), ..join(group, member) }
}

/// Makes a group of one member that has everything.
///
/// # Panics
/// If the group is refused.
pub async fn stable_group(client: &mut RawClient, group: &str) -> JoinGroupResponse {
    client.find_coordinator(group).await;
    let member = join_new(client, group).await;
    let synced = sync(client, group, &member, &[(&member.member_id, "all")]).await;
    assert_eq!(synced.error_code, ErrorCode::None);
    member
}

/// Waits until a heartbeat says that a rebalance has begun.
pub async fn until_rebalance(client: &mut RawClient, group: &str, member: &JoinGroupResponse) {
    while heartbeat(client, group, member).await != ErrorCode::RebalanceInProgress {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
