//! Consumer groups over a socket.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Client, groups::*, start, start_with};
use kavka_protocol::{
    ByteString, ErrorCode, Uuid,
    messages::{
        DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
        LeaveGroupRequest, ListGroupsRequest, SyncGroupRequest,
        join_group_request::JoinGroupRequestProtocol, leave_group_request::MemberIdentity,
        sync_group_request::SyncGroupRequestAssignment,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn two_members_share_and_one_takes_over_when_the_other_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let (mut one, mut two) =
        (Client::connect(broker.address()).await, Client::connect(broker.address()).await);
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
    let mut client = Client::connect(broker.address()).await;
    let topic = client.create_topic("t", 1).await;
    client.find_coordinator("g").await;
    let member = join_new(&mut client, "g").await;
    sync(&mut client, "g", &member, &[(&member.member_id, "all")]).await;
    assert_eq!(commit(&mut client, "g", Some(&member), topic, 42).await, ErrorCode::None);
    assert_eq!(committed(&mut client, "g", topic).await, (42, "note".to_owned()));
    assert_eq!(committed(&mut client, "other", topic).await, (-1, String::new()));
    broker.stop().await.unwrap();

    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
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
    let mut client = Client::connect(broker.address()).await;
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
    let mut client = Client::connect(broker.address()).await;
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
    let mut client = Client::connect(broker.address()).await;
    client.find_coordinator("g").await;
    let given = client.call(join("g", &ByteString::new())).await;
    let id = client.send(&join("g", &given.member_id), 9).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let stopping = tokio::spawn(broker.stop());
    let answer = client.receive::<JoinGroupRequest>(id, 9).await;
    assert_eq!(answer.error_code, ErrorCode::CoordinatorNotAvailable);
    stopping.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_groups_come_from_the_settings() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        ("group.max.size", "1"),
        ("group.min.session.timeout.ms", "7000"),
        ("group.max.session.timeout.ms", "20000"),
        ("kavka.group.member.max.metadata.bytes", "100"),
        ("kavka.group.max.metadata.bytes", "100"),
    ];
    let broker = start_with(dir.path(), &settings).await;
    let mut client = Client::connect(broker.address()).await;
    client.find_coordinator("g").await;
    for (session_timeout_ms, code) in [
        (6_999, ErrorCode::InvalidSessionTimeout),
        (7_000, ErrorCode::MemberIdRequired),
        (20_000, ErrorCode::MemberIdRequired),
        (20_001, ErrorCode::InvalidSessionTimeout),
    ] {
        let request = JoinGroupRequest { session_timeout_ms, ..join("g", &ByteString::new()) };
        assert_eq!(client.call(request).await.error_code, code);
    }
    let mut talkative = join("g", &ByteString::new());
    talkative.protocols[0].metadata = vec![0; 101].into();
    assert_eq!(client.call(talkative).await.error_code, ErrorCode::GroupMaxSizeReached);
    stable_group(&mut client, "g").await;
    let second = client.call(join("g", &ByteString::new())).await;
    assert_eq!(second.error_code, ErrorCode::GroupMaxSizeReached);
    broker.stop().await.unwrap();
}

/// Each of five processes is stopped and started again, one after the other: the others notice nothing.
#[tokio::test(flavor = "multi_thread")]
async fn rolling_restart_of_static_members_is_no_rebalance() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), &[("group.initial.rebalance.delay.ms", "300")]).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(Client::connect(broker.address()).await);
    }
    clients[0].find_coordinator("g").await;
    let names: Vec<String> = (0..5).map(|n| format!("worker-{n}")).collect();
    let mut waiting = Vec::new();
    for (client, name) in clients.iter_mut().zip(&names) {
        waiting.push(client.send(&join_as("g", name, &ByteString::new()), 9).await);
    }
    let mut members = Vec::new();
    for (client, id) in clients.iter_mut().zip(waiting) {
        members.push(client.receive::<JoinGroupRequest>(id, 9).await);
    }
    assert!(members.iter().all(|member| member.generation_id == 1));
    let leader = members.iter().position(|member| member.leader == member.member_id).unwrap();
    assert_eq!(members[leader].members.len(), 5);
    let shares: Vec<(&ByteString, &str)> =
        members.iter().map(|member| &member.member_id).zip(["0", "1", "2", "3", "4"]).collect();
    assert_eq!(
        sync(&mut clients[leader], "g", &members[leader], &shares).await.error_code,
        ErrorCode::None
    );
    let shares: Vec<String> = (0..5).map(|n| n.to_string()).collect();

    for (restarts, name) in names.iter().enumerate() {
        clients[restarts] = Client::connect(broker.address()).await;
        let back = clients[restarts].call(join_as("g", name, &ByteString::new())).await;
        assert_eq!((back.error_code, back.generation_id), (ErrorCode::None, 1));
        assert_eq!(back.skip_assignment, restarts == leader);
        assert_ne!(back.member_id, members[restarts].member_id);
        let share = sync(&mut clients[restarts], "g", &back, &[]).await.assignment;
        assert_eq!(share, shares[restarts]);
        members[restarts] = back;
        for (client, member) in clients.iter_mut().zip(&members) {
            assert_eq!(heartbeat(client, "g", member).await, ErrorCode::None);
        }
    }
    broker.stop().await.unwrap();
}

/// KIP-429, as the coordinator sees it: a second member costs two rebalances, and who keeps its partitions reads and commits
/// through both.
#[tokio::test(flavor = "multi_thread")]
async fn cooperative_rebalance_moves_partitions_in_two_rounds_and_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let (mut one, mut two) =
        (Client::connect(broker.address()).await, Client::connect(broker.address()).await);
    let topic = one.create_topic("t", 1).await;
    let mut first = stable_group(&mut one, "g").await;

    let given = two.call(join("g", &ByteString::new())).await;
    let waiting = two.send(&join("g", &given.member_id), 9).await;
    until_rebalance(&mut one, "g", &first).await;
    assert_eq!(commit(&mut one, "g", Some(&first), topic, 1).await, ErrorCode::None);
    first = one.call(join("g", &first.member_id)).await;
    let second = two.receive::<JoinGroupRequest>(waiting, 9).await;
    // Round one: what is to move is taken away and given to nobody.
    let shares = [(&first.member_id, "kept"), (&second.member_id, "")];
    assert_eq!(sync(&mut one, "g", &first, &shares).await.assignment, "kept");
    assert_eq!(sync(&mut two, "g", &second, &[]).await.assignment, "");
    assert_eq!(commit(&mut one, "g", Some(&first), topic, 2).await, ErrorCode::None);
    // Round two: it gave something up, so it joins again.
    let rejoin = one.send(&join("g", &first.member_id), 9).await;
    until_rebalance(&mut two, "g", &second).await;
    let second = two.call(join("g", &second.member_id)).await;
    let first = one.receive::<JoinGroupRequest>(rejoin, 9).await;
    let shares = [(&first.member_id, "kept"), (&second.member_id, "moved")];
    assert_eq!(sync(&mut one, "g", &first, &shares).await.assignment, "kept");
    assert_eq!(sync(&mut two, "g", &second, &[]).await.assignment, "moved");
    assert_eq!((first.generation_id, second.generation_id), (3, 3));
    assert_eq!(committed(&mut one, "g", topic).await.0, 2);
    broker.stop().await.unwrap();
}

/// Kafka Connect's workers: a protocol type of their own, with bytes that only they understand.
#[tokio::test(flavor = "multi_thread")]
async fn groups_of_any_protocol_type_are_coordinated() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    client.find_coordinator("connect-cluster").await;
    let protocol = |name: &str| JoinGroupRequestProtocol {
        name: name.into(),
        metadata: [0, 2, 255, 254][..].to_vec().into(),
        ..Default::default()
    };
    let worker = |member: &ByteString| JoinGroupRequest {
        protocol_type: "connect".into(),
        protocols: ["sessioned", "compatible", "default"].map(protocol).to_vec(),
        ..join("connect-cluster", member)
    };
    let given = client.call(worker(&ByteString::new())).await;
    let joined = client.call(worker(&given.member_id)).await;
    assert_eq!(joined.protocol_type.as_deref(), Some("connect"));
    assert_eq!(joined.protocol_name.as_deref(), Some("sessioned"));
    let as_consumer = sync(&mut client, "connect-cluster", &joined, &[]).await;
    assert_eq!(as_consumer.error_code, ErrorCode::InconsistentGroupProtocol);
    let share = SyncGroupRequestAssignment {
        member_id: joined.member_id.clone(),
        assignment: vec![0, 1, 255].into(),
        ..Default::default()
    };
    let request = SyncGroupRequest {
        group_id: "connect-cluster".into(),
        generation_id: 1,
        member_id: joined.member_id.clone(),
        protocol_type: Some("connect".into()),
        protocol_name: Some("sessioned".into()),
        assignments: vec![share],
        ..Default::default()
    };
    assert_eq!(client.call(request).await.assignment, vec![0, 1, 255]);
    let described =
        DescribeGroupsRequest { groups: vec!["connect-cluster".into()], ..Default::default() };
    let group = client.call(described).await.groups.remove(0);
    assert_eq!((&*group.protocol_type, &*group.protocol_data), ("connect", "sessioned"));
    assert_eq!(group.members[0].member_metadata, vec![0, 2, 255, 254]);
    let consumer = client.call(join("connect-cluster", &ByteString::new())).await;
    assert_eq!(consumer.error_code, ErrorCode::InconsistentGroupProtocol);
    broker.stop().await.unwrap();
}

async fn describe_members(client: &mut Client) -> Vec<ByteString> {
    let request = DescribeGroupsRequest { groups: vec!["g".into()], ..Default::default() };
    let group = client.call(request).await.groups.remove(0);
    group.members.into_iter().map(|member| member.member_id).collect()
}

/// A client of the oldest version gives up its connection while its join waits, and comes back as a stranger. What it left
/// behind holds nobody, for all that the others have a whole minute.
#[tokio::test(flavor = "multi_thread")]
async fn client_of_an_old_version_that_goes_away_before_its_answer_leaves_no_member() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let (mut one, mut two) =
        (Client::connect(broker.address()).await, Client::connect(broker.address()).await);
    let first = stable_group(&mut one, "g").await;
    let old = JoinGroupRequest { rebalance_timeout_ms: -1, ..join("g", &ByteString::new()) };
    two.send(&old, 0).await;
    until_rebalance(&mut one, "g", &first).await;
    let members = describe_members(&mut one).await;
    let lost = members.iter().find(|id| **id != first.member_id).unwrap().clone();
    drop(two);
    let mut two = Client::connect(broker.address()).await;
    let again = two.send(&old, 0).await;
    loop {
        let members = describe_members(&mut one).await;
        if members.len() == 2 && !members.contains(&lost) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let first = one.call(join("g", &first.member_id)).await;
    assert_eq!(first.members.len(), 2, "the leader, and the one that came back");
    let second = two.receive::<JoinGroupRequest>(again, 0).await;
    assert_eq!((second.error_code, second.generation_id), (ErrorCode::None, 2));

    let heartbeat = HeartbeatRequest {
        group_id: "g".into(),
        generation_id: 2,
        member_id: second.member_id.clone(),
        ..Default::default()
    };
    assert_eq!(two.call_version(heartbeat, 0).await.error_code, ErrorCode::None);
    let leave = |member: &ByteString| LeaveGroupRequest {
        group_id: "g".into(),
        member_id: member.clone(),
        ..Default::default()
    };
    let left = two.call_version(leave(&second.member_id), 0).await;
    assert_eq!(left.error_code, ErrorCode::None);
    let unknown = two.call_version(leave(&second.member_id), 2).await;
    assert_eq!(unknown.error_code, ErrorCode::UnknownMemberId, "at the top before version 3");
    broker.stop().await.unwrap();
}

/// What the admin tool does to members that are gone for good: by their names, each with its own code, and with a reason.
#[tokio::test(flavor = "multi_thread")]
async fn operator_removes_static_members_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    client.find_coordinator("g").await;
    let member = client.call(join_as("g", "a", &ByteString::new())).await;
    assert_eq!(member.error_code, ErrorCode::None);
    let identity = |name: &str, member: &ByteString| MemberIdentity {
        member_id: member.clone(),
        group_instance_id: Some(name.into()),
        reason: Some("its machine is gone".into()),
        ..Default::default()
    };
    let leave = LeaveGroupRequest {
        group_id: "g".into(),
        members: vec![
            identity("b", &ByteString::new()),
            identity("a", &"someone-else".into()),
            identity("a", &ByteString::new()),
            identity("a", &ByteString::new()),
        ],
        ..Default::default()
    };
    let left = client.call(leave).await;
    let codes: Vec<ErrorCode> = left.members.iter().map(|member| member.error_code).collect();
    let (unknown, fenced) = (ErrorCode::UnknownMemberId, ErrorCode::FencedInstanceId);
    assert_eq!(codes, [unknown, fenced, ErrorCode::None, unknown]);
    assert_eq!(left.error_code, ErrorCode::None);
    let absent = LeaveGroupRequest {
        group_id: "absent".into(),
        members: vec![identity("a", &ByteString::new())],
        ..Default::default()
    };
    assert_eq!(client.call(absent).await.members[0].error_code, unknown);
    let gone: JoinGroupResponse = member;
    assert_eq!(heartbeat(&mut client, "g", &gone).await, unknown);
    broker.stop().await.unwrap();
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a kill leaves behind is what the files hold at that moment: another broker is started on a copy of them.
#[tokio::test(flavor = "multi_thread")]
async fn stable_group_and_its_commits_are_there_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let topic = client.create_topic("t", 1).await;
    let member = stable_group(&mut client, "g").await;
    for offset in 1..=20 {
        assert_eq!(commit(&mut client, "g", Some(&member), topic, offset).await, ErrorCode::None);
        if offset % 5 != 0 {
            continue;
        }
        let copied = tempfile::tempdir().unwrap();
        copy(dir.path(), copied.path());
        let after = start(copied.path()).await;
        let mut client = Client::connect(after.address()).await;
        assert_eq!(heartbeat(&mut client, "g", &member).await, ErrorCode::None);
        assert_eq!(committed(&mut client, "g", topic).await.0, offset);
        after.stop().await.unwrap();
    }
    broker.stop().await.unwrap();
}
