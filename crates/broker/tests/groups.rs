//! Consumer groups over a socket.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::{Client, start, start_with};
use kavka_protocol::{
    ByteString, ErrorCode, Uuid,
    messages::{
        DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
        LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest,
        SyncGroupRequest, SyncGroupResponse,
        join_group_request::JoinGroupRequestProtocol,
        leave_group_request::MemberIdentity,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics},
        sync_group_request::SyncGroupRequestAssignment,
    },
};

fn join(group: &str, member: &ByteString) -> JoinGroupRequest {
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
async fn join_new(client: &mut Client, group: &str) -> JoinGroupResponse {
    let first = client.call(join(group, &ByteString::new())).await;
    assert_eq!(first.error_code, ErrorCode::MemberIdRequired);
    client.call(join(group, &first.member_id)).await
}

async fn sync(
    client: &mut Client,
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

async fn heartbeat(client: &mut Client, group: &str, joined: &JoinGroupResponse) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..Default::default()
    };
    client.call(request).await.error_code
}

async fn commit(
    client: &mut Client,
    group: &str,
    member: Option<&JoinGroupResponse>,
    topic_id: Uuid,
    offset: i64,
) -> ErrorCode {
    let partition = OffsetCommitRequestPartition {
        committed_offset: offset,
        committed_metadata: Some("note".into()),
        ..Default::default()
    };
    let topic =
        OffsetCommitRequestTopic { topic_id, partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: member.map_or(-1, |member| member.generation_id),
        member_id: member.map(|member| member.member_id.clone()).unwrap_or_default(),
        topics: vec![topic],
        ..Default::default()
    };
    client.call(request).await.topics[0].partitions[0].error_code
}

async fn committed(client: &mut Client, group: &str, topic_id: Uuid) -> (i64, String) {
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

#[tokio::test(flavor = "multi_thread")]
async fn two_members_share_and_one_takes_over_when_the_other_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let (mut one, mut two) = (Client::connect(&broker).await, Client::connect(&broker).await);
    one.find_coordinator("g").await;

    let first = join_new(&mut one, "g").await;
    assert_eq!((first.error_code, first.generation_id), (ErrorCode::None, 1));
    assert_eq!(first.leader, first.member_id);
    let share = sync(&mut one, "g", &first, &[(&first.member_id, "all")]).await;
    assert_eq!(share.assignment, "all");
    assert_eq!(heartbeat(&mut one, "g", &first).await, ErrorCode::None);

    // The second member's join waits until the first has joined again.
    let given = two.call(join("g", &ByteString::new())).await;
    let second = tokio::spawn(async move {
        let joined = two.call(join("g", &given.member_id)).await;
        (two, joined)
    });
    while heartbeat(&mut one, "g", &first).await != ErrorCode::RebalanceInProgress {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let first = one.call(join("g", &first.member_id)).await;
    let (mut two, second) = second.await.unwrap();
    assert_eq!((first.generation_id, second.generation_id), (2, 2));
    assert_eq!(first.members.len(), 2, "the leader sees both");
    assert!(second.members.is_empty());
    let shares = [(&first.member_id, "left"), (&second.member_id, "right")];
    assert_eq!(sync(&mut one, "g", &first, &shares).await.assignment, "left");
    assert_eq!(sync(&mut two, "g", &second, &[]).await.assignment, "right");

    let leaver = MemberIdentity { member_id: second.member_id.clone(), ..Default::default() };
    let leave =
        LeaveGroupRequest { group_id: "g".into(), members: vec![leaver], ..Default::default() };
    assert_eq!(two.call(leave).await.members[0].error_code, ErrorCode::None);
    assert_eq!(heartbeat(&mut one, "g", &first).await, ErrorCode::RebalanceInProgress);
    let alone = one.call(join("g", &first.member_id)).await;
    assert_eq!((alone.generation_id, alone.members.len()), (3, 1));
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stable_group_stays_stable_over_a_restart_and_its_commits_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    let topic = client.create_topic("t", 1).await;
    client.find_coordinator("g").await;
    let member = join_new(&mut client, "g").await;
    sync(&mut client, "g", &member, &[(&member.member_id, "all")]).await;
    assert_eq!(commit(&mut client, "g", Some(&member), topic, 42).await, ErrorCode::None);
    assert_eq!(committed(&mut client, "g", topic).await, (42, "note".to_owned()));
    assert_eq!(committed(&mut client, "other", topic).await, (-1, String::new()));
    broker.stop().await.unwrap();

    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(heartbeat(&mut client, "g", &member).await, ErrorCode::None, "no rebalance");
    assert_eq!(sync(&mut client, "g", &member, &[]).await.assignment, "all");
    assert_eq!(committed(&mut client, "g", topic).await, (42, "note".to_owned()));
    assert_eq!(commit(&mut client, "g", Some(&member), topic, 43).await, ErrorCode::None);
    let described = DescribeGroupsRequest { groups: vec!["g".into()], ..Default::default() };
    let group = client.call(described).await.groups.remove(0);
    assert_eq!((&*group.group_state, group.members.len()), ("Stable", 1));
    assert_eq!(group.members[0].member_assignment, "all");
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_member_is_removed_after_its_session_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), &[("group.min.session.timeout.ms", "100")]).await;
    let mut client = Client::connect(&broker).await;
    client.find_coordinator("g").await;
    let short =
        |member: &ByteString| JoinGroupRequest { session_timeout_ms: 200, ..join("g", member) };
    let given = client.call(short(&ByteString::new())).await;
    let member = client.call(short(&given.member_id)).await;
    sync(&mut client, "g", &member, &[(&member.member_id, "all")]).await;
    assert_eq!(heartbeat(&mut client, "g", &member).await, ErrorCode::None);
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(heartbeat(&mut client, "g", &member).await, ErrorCode::UnknownMemberId);
    let groups = client.call(ListGroupsRequest::default()).await.groups;
    assert_eq!((groups.len(), &*groups[0].group_state), (1, "Empty"));
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_without_a_group_membership_commits_and_a_stranger_to_a_group_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    let topic = client.create_topic("t", 1).await;
    client.find_coordinator("simple").await;
    assert_eq!(commit(&mut client, "simple", None, topic, 7).await, ErrorCode::None);
    assert_eq!(committed(&mut client, "simple", topic).await.0, 7);

    let member = join_new(&mut client, "g").await;
    sync(&mut client, "g", &member, &[(&member.member_id, "all")]).await;
    assert_eq!(commit(&mut client, "g", None, topic, 7).await, ErrorCode::UnknownMemberId);
    let old = JoinGroupResponse { generation_id: 0, ..member.clone() };
    assert_eq!(commit(&mut client, "g", Some(&old), topic, 7).await, ErrorCode::IllegalGeneration);
    let unknown = Uuid::from_bytes([9; 16]);
    assert_eq!(
        commit(&mut client, "g", Some(&member), unknown, 7).await,
        ErrorCode::UnknownTopicId
    );
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_joins_are_answered_when_the_broker_stops() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), &[("group.initial.rebalance.delay.ms", "60000")]).await;
    let mut client = Client::connect(&broker).await;
    client.find_coordinator("g").await;
    let given = client.call(join("g", &ByteString::new())).await;
    let id = client.send(&join("g", &given.member_id), 9).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let stopping = tokio::spawn(broker.stop());
    let answer = client.receive::<JoinGroupRequest>(id, 9).await;
    assert_eq!(answer.error_code, ErrorCode::CoordinatorNotAvailable);
    stopping.await.unwrap().unwrap();
}
