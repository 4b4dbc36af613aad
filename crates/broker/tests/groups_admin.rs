//! Offsets, and what operators ask about groups, over a socket and in the versions where the answers differ.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Client, groups::*, start, start_with};
use kavka_protocol::{
    ByteString, ErrorCode, Uuid,
    messages::{
        DeleteGroupsRequest, DeleteTopicsRequest, DescribeGroupsRequest, FindCoordinatorRequest,
        HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest,
        OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
        delete_topics_request::DeleteTopicState,
        describe_groups_response::DescribedGroup,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
        offset_fetch_request::{
            OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
        },
    },
};

/// A commit of one offset to partitions of topic "t", by name.
fn commit_by_name(group: &str, generation: i32, partitions: &[(i32, i64)]) -> OffsetCommitRequest {
    let partition = |(at, offset): &(i32, i64)| OffsetCommitRequestPartition {
        partition_index: *at,
        committed_offset: *offset,
        committed_leader_epoch: 4,
        committed_metadata: Some("note".into()),
        ..Default::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: "t".into(),
        partitions: partitions.iter().map(partition).collect(),
        ..Default::default()
    };
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: generation,
        retention_time_ms: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

async fn commit_code(client: &mut Client, request: OffsetCommitRequest, version: i16) -> ErrorCode {
    client.call_version(request, version).await.topics[0].partitions[0].error_code
}

/// Offset, leader epoch and code of the rows that one of the versions before 8 returns.
async fn fetch_old(
    client: &mut Client,
    group: &str,
    partitions: Option<&[i32]>,
    version: i16,
) -> Vec<(i32, i64, i32, ErrorCode)> {
    let topics = partitions.map(|partitions| {
        let partition_indexes = partitions.to_vec();
        vec![OffsetFetchRequestTopic { name: "t".into(), partition_indexes, ..Default::default() }]
    });
    let request = OffsetFetchRequest { group_id: group.into(), topics, ..Default::default() };
    let response = client.call_version(request, version).await;
    assert_eq!(response.error_code, ErrorCode::None);
    let rows = response.topics.into_iter().flat_map(|topic| topic.partitions);
    rows.map(|row| {
        (row.partition_index, row.committed_offset, row.committed_leader_epoch, row.error_code)
    })
    .collect()
}

async fn describe(client: &mut Client, group: &str, version: i16) -> DescribedGroup {
    let request = DescribeGroupsRequest {
        groups: vec![group.into()],
        include_authorized_operations: version >= 4,
        ..Default::default()
    };
    client.call_version(request, version).await.groups.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_committed_and_fetched_alike_in_all_versions() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    client.create_topic("t", 4).await;
    client.find_coordinator("g").await;
    let none = ErrorCode::None;
    for version in 2..=9 {
        let request = commit_by_name("g", -1, &[(0, i64::from(version)), (2, 7)]);
        assert_eq!(commit_code(&mut client, request, version).await, none);
        // Epochs are committed from version 6 on, and fetched from version 5 on.
        let epoch = if version >= 6 { 4 } else { -1 };
        let offset = i64::from(version);
        for fetch_version in 1..=7 {
            let seen = if fetch_version >= 5 { epoch } else { -1 };
            let rows = fetch_old(&mut client, "g", Some(&[0, 1]), fetch_version).await;
            assert_eq!(rows, [(0, offset, seen, none), (1, -1, -1, none)]);
            if fetch_version >= 2 {
                let rows = fetch_old(&mut client, "g", None, fetch_version).await;
                assert_eq!(rows, [(0, offset, seen, none), (2, 7, seen, none)]);
            }
        }
    }
    assert!(fetch_old(&mut client, "absent", None, 7).await.is_empty());
    let rows = fetch_old(&mut client, "absent", Some(&[3]), 7).await;
    assert_eq!(rows, [(3, -1, -1, none)], "a group that does not exist has no offsets");
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_several_groups_are_fetched_at_once_by_name_or_by_topic_id() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let topic = client.create_topic("t", 2).await;
    client.find_coordinator("g").await;
    commit_code(&mut client, commit_by_name("g", -1, &[(0, 5)]), 9).await;
    commit_code(&mut client, commit_by_name("h", -1, &[(1, 6)]), 9).await;
    let unknown = Uuid::from_bytes([9; 16]);
    for version in 8..=10 {
        let of = |topic_id: Uuid| OffsetFetchRequestTopics {
            name: if version < 10 { "t".into() } else { ByteString::new() },
            topic_id: if version < 10 { Uuid::ZERO } else { topic_id },
            partition_indexes: vec![0, 1],
            ..Default::default()
        };
        let group = |id: &str, topics| OffsetFetchRequestGroup {
            group_id: id.into(),
            topics,
            ..Default::default()
        };
        let request = OffsetFetchRequest {
            groups: vec![
                group("g", Some(vec![of(topic)])),
                group("h", None),
                group("absent", Some(vec![of(topic)])),
                group("g", Some(vec![of(unknown)])),
            ],
            require_stable: true,
            ..Default::default()
        };
        let response = client.call_version(request, version).await;
        let offsets: Vec<Vec<i64>> = response
            .groups
            .iter()
            .map(|group| {
                assert_eq!(group.error_code, ErrorCode::None);
                let rows = group.topics.iter().flat_map(|topic| &topic.partitions);
                rows.map(|row| row.committed_offset).collect()
            })
            .collect();
        let of_unknown = if version < 10 { vec![5, -1] } else { vec![-1, -1] };
        assert_eq!(offsets, [vec![5, -1], vec![6], vec![-1, -1], of_unknown]);
        let topics = &response.groups[1].topics;
        if version < 10 {
            assert_eq!((&*topics[0].name, topics[0].topic_id), ("t", Uuid::ZERO));
        } else {
            assert_eq!(topics[0].topic_id, topic);
            let rows = &response.groups[3].topics[0].partitions;
            assert!(rows.iter().all(|row| row.error_code == ErrorCode::UnknownTopicId));
        }
    }
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_are_refused_say_why_on_each_partition() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), &[("offset.metadata.max.bytes", "8")]).await;
    let mut client = Client::connect(broker.address()).await;
    let id = client.create_topic("t", 2).await;
    client.find_coordinator("g").await;

    // A group that does not exist, asked by someone who thinks to be a member.
    let member = || commit_by_name("absent", 3, &[(0, 1)]);
    assert_eq!(commit_code(&mut client, member(), 8).await, ErrorCode::IllegalGeneration);
    assert_eq!(commit_code(&mut client, member(), 9).await, ErrorCode::GroupIdNotFound);
    // A long note fails its own partition, an unknown topic itself.
    let mut request = commit_by_name("g", -1, &[(0, 1), (1, 2)]);
    request.topics[0].partitions[1].committed_metadata = Some("123456789".into());
    let mut unknown = request.topics[0].clone();
    unknown.name = "unknown".into();
    request.topics.insert(0, unknown);
    let response = client.call_version(request, 9).await;
    let codes: Vec<Vec<ErrorCode>> = response
        .topics
        .iter()
        .map(|topic| topic.partitions.iter().map(|partition| partition.error_code).collect())
        .collect();
    let missing = ErrorCode::UnknownTopicOrPartition;
    let too_large = ErrorCode::OffsetMetadataTooLarge;
    assert_eq!(codes, [vec![missing, missing], vec![ErrorCode::None, too_large]]);
    assert_eq!(fetch_old(&mut client, "g", None, 7).await.len(), 1);
    // By topic id.
    assert_eq!(commit(&mut client, "g", None, id, 3).await, ErrorCode::None);
    let unknown = Uuid::from_bytes([9; 16]);
    assert_eq!(commit(&mut client, "g", None, unknown, 3).await, ErrorCode::UnknownTopicId);
    // The empty group id is one like any other here.
    assert_eq!(commit(&mut client, "", None, id, 3).await, ErrorCode::None);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_group_id_is_refused_where_there_are_members() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    client.find_coordinator("g").await;
    let invalid = ErrorCode::InvalidGroupId;
    let joined = client.call(join("", &ByteString::new())).await;
    assert_eq!(joined.error_code, invalid);
    assert_eq!(client.call(SyncGroupRequest::default()).await.error_code, invalid);
    assert_eq!(client.call(HeartbeatRequest::default()).await.error_code, invalid);
    assert_eq!(client.call(LeaveGroupRequest::default()).await.error_code, invalid);
    assert_eq!(client.call(OffsetDeleteRequest::default()).await.error_code, invalid);
    // From version 5 on SyncGroup has to name the protocol; a name has to be a name.
    let unnamed = SyncGroupRequest { group_id: "g".into(), ..Default::default() };
    let synced = client.call(unnamed.clone()).await;
    assert_eq!(synced.error_code, ErrorCode::InconsistentGroupProtocol);
    let synced = client.call_version(unnamed, 4).await;
    assert_eq!(synced.error_code, ErrorCode::UnknownMemberId);
    let joined = client.call(join_as("g", "no name", &ByteString::new())).await;
    assert_eq!(joined.error_code, ErrorCode::InvalidRequest);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn coordinators_are_found_one_by_one_or_many_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    for version in 0..=3 {
        let request = FindCoordinatorRequest { key: "g".into(), ..Default::default() };
        let found = client.call_version(request, version).await;
        assert_eq!((found.error_code, found.node_id >= 0), (ErrorCode::None, true));
        assert_eq!(found.port, i32::from(broker.address().port()));
    }
    for version in 4..=6 {
        let coordinator_keys = vec!["g".into(), ByteString::new(), "h".into()];
        let request = FindCoordinatorRequest { coordinator_keys, ..Default::default() };
        let found = client.call_version(request, version).await.coordinators;
        let keys: Vec<&str> = found.iter().map(|row| &*row.key).collect();
        assert_eq!(keys, ["g", "", "h"]);
        assert!(found.iter().all(|row| row.error_code == ErrorCode::None && row.port > 0));
        // There are no transactions yet, and no share groups: clients are told once and for all.
        for (key_type, code) in [
            (1, ErrorCode::TransactionalIdAuthorizationFailed),
            (2, ErrorCode::InvalidRequest),
            (9, ErrorCode::InvalidRequest),
        ] {
            let coordinator_keys = vec!["x".into()];
            let request =
                FindCoordinatorRequest { key_type, coordinator_keys, ..Default::default() };
            let row = client.call_version(request, version).await.coordinators.remove(0);
            assert_eq!((row.error_code, row.node_id, row.port), (code, -1, -1));
            assert!(!code.is_retriable(), "a client would ask for ever");
        }
    }
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_described_in_the_words_of_each_version() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let member = stable_group(&mut client, "g").await;
    for version in 0..=6 {
        let group = describe(&mut client, "g", version).await;
        assert_eq!((group.error_code, &*group.group_state), (ErrorCode::None, "Stable"));
        assert_eq!((&*group.protocol_type, &*group.protocol_data), ("consumer", "range"));
        assert_eq!(group.members[0].member_id, member.member_id);
        assert_eq!(&*group.members[0].client_host, "/127.0.0.1");
        assert_eq!(group.members[0].member_assignment, "all");
        // READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS, for who asks.
        let operations = if version >= 4 { 3400 } else { i32::MIN };
        assert_eq!(group.authorized_operations, operations);

        let absent = describe(&mut client, "absent", version).await;
        let code = if version < 6 { ErrorCode::None } else { ErrorCode::GroupIdNotFound };
        assert_eq!((absent.error_code, &*absent.group_state), (code, "Dead"));
        assert_eq!(absent.error_message.is_some(), version >= 6);
    }
    // Subscriptions are for others to see when the group is stable only.
    let mut other = Client::connect(broker.address()).await;
    let given = other.call(join("g", &ByteString::new())).await;
    other.send(&join("g", &given.member_id), 9).await;
    until_rebalance(&mut client, "g", &member).await;
    let group = describe(&mut client, "g", 6).await;
    assert_eq!((&*group.group_state, &*group.protocol_data), ("PreparingRebalance", ""));
    assert_eq!(group.members.len(), 2);
    assert!(group.members.iter().all(|other| other.member_metadata.is_empty()));
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_listed_by_state_and_type() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    assert!(client.call(ListGroupsRequest::default()).await.groups.is_empty(), "no topic yet");
    client.create_topic("t", 1).await;
    stable_group(&mut client, "stable").await;
    commit_code(&mut client, commit_by_name("simple", -1, &[(0, 1)]), 9).await;
    for version in 0..=5 {
        let mut groups = client.call_version(ListGroupsRequest::default(), version).await.groups;
        groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        let [simple, stable] = &groups[..] else { panic!("{groups:?}") };
        assert_eq!((&*simple.group_id, &*simple.protocol_type), ("simple", ""));
        assert_eq!((&*stable.group_id, &*stable.protocol_type), ("stable", "consumer"));
        let of = |state, since, value| if version >= since { value } else { state };
        assert_eq!(&*simple.group_state, of("", 4, "Empty"));
        assert_eq!(&*stable.group_state, of("", 4, "Stable"));
        assert_eq!(&*stable.group_type, of("", 5, "classic"));
    }
    let mut list = async |states: &[&str], types: &[&str]| -> Vec<ByteString> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
        let request = ListGroupsRequest {
            states_filter: names(states),
            types_filter: names(types),
            ..Default::default()
        };
        client.call(request).await.groups.into_iter().map(|group| group.group_id).collect()
    };
    assert_eq!(list(&["sTABLE"], &[]).await, ["stable"]);
    assert_eq!(list(&["Empty", "Dead"], &["Classic"]).await, ["simple"]);
    assert!(list(&["no such state"], &[]).await.is_empty());
    assert!(list(&[], &["consumer"]).await.is_empty());
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_offsets_are_deleted_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let id = client.create_topic("t", 3).await;
    let member = stable_group(&mut client, "live").await;
    assert_eq!(commit(&mut client, "live", Some(&member), id, 1).await, ErrorCode::None);
    commit_code(&mut client, commit_by_name("gone", -1, &[(0, 1), (1, 2), (2, 3)]), 9).await;

    let delete_offsets = |group: &str, topic: &str, partitions: &[i32]| {
        let partition = |at: &i32| OffsetDeleteRequestPartition { partition_index: *at };
        let partitions = partitions.iter().map(partition).collect();
        let topic = OffsetDeleteRequestTopic { name: topic.into(), partitions };
        OffsetDeleteRequest { group_id: group.into(), topics: vec![topic] }
    };
    for _ in 0..2 {
        let deleted = client.call(delete_offsets("gone", "t", &[1])).await;
        let code = deleted.topics[0].partitions[0].error_code;
        assert_eq!(code, ErrorCode::None, "the second time there is none, which is no error");
    }
    let deleted = client.call(delete_offsets("gone", "unknown", &[0])).await;
    let code = deleted.topics[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::UnknownTopicOrPartition);
    let deleted = client.call(delete_offsets("absent", "t", &[0])).await;
    assert_eq!(deleted.error_code, ErrorCode::GroupIdNotFound);
    let deleted = client.call(delete_offsets("live", "t", &[0])).await;
    let code = deleted.topics[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::GroupSubscribedToTopic, "who knows what it reads");
    assert_eq!(fetch_old(&mut client, "gone", None, 7).await.len(), 2);

    let names = ["live", "gone", "absent", "gone"].map(ByteString::from).to_vec();
    let request = DeleteGroupsRequest { groups_names: names, ..Default::default() };
    let results: Vec<(ByteString, ErrorCode)> = client
        .call_version(request, 2)
        .await
        .results
        .into_iter()
        .map(|result| (result.group_id, result.error_code))
        .collect();
    let expected = [
        ("live".into(), ErrorCode::NonEmptyGroup),
        ("gone".into(), ErrorCode::None),
        ("absent".into(), ErrorCode::GroupIdNotFound),
    ];
    assert_eq!(results, expected, "who is named twice is answered once");
    broker.stop().await.unwrap();

    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    assert!(fetch_old(&mut client, "gone", None, 7).await.is_empty());
    assert_eq!(&*describe(&mut client, "gone", 5).await.group_state, "Dead");
    assert_eq!(fetch_old(&mut client, "live", None, 7).await.len(), 1);
    broker.stop().await.unwrap();
}

/// The search for expired offsets runs by itself, as often as it is told to.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_expire_on_the_schedule_and_take_their_group_along() {
    let dir = tempfile::tempdir().unwrap();
    let schedule = [("offsets.retention.check.interval.ms", "50")];
    let broker = start_with(dir.path(), &schedule).await;
    let mut client = Client::connect(broker.address()).await;
    client.create_topic("t", 2).await;
    client.find_coordinator("g").await;
    commit_code(&mut client, commit_by_name("kept", -1, &[(0, 1)]), 9).await;
    // A retention of its own, as versions 2 to 4 can ask for.
    let short = OffsetCommitRequest { retention_time_ms: 1, ..commit_by_name("g", -1, &[(0, 1)]) };
    assert_eq!(commit_code(&mut client, short, 4).await, ErrorCode::None);
    while &*describe(&mut client, "g", 5).await.group_state != "Dead" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(fetch_old(&mut client, "g", None, 7).await.is_empty());
    assert_eq!(fetch_old(&mut client, "kept", None, 7).await.len(), 1);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_topic_takes_its_offsets_along_and_its_successor_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    client.create_topic("t", 1).await;
    client.find_coordinator("g").await;
    commit_code(&mut client, commit_by_name("g", -1, &[(0, 9)]), 9).await;
    let topic = DeleteTopicState { name: Some("t".into()), ..Default::default() };
    let request =
        DeleteTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
    assert_eq!(client.call(request).await.responses[0].error_code, ErrorCode::None);
    client.create_topic("t", 1).await;
    assert_eq!(fetch_old(&mut client, "g", Some(&[0]), 7).await[0].1, -1);
    assert!(fetch_old(&mut client, "g", None, 7).await.is_empty());
    broker.stop().await.unwrap();

    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    assert!(fetch_old(&mut client, "g", None, 7).await.is_empty());
    let joined = client.call(JoinGroupRequest::default()).await;
    assert_eq!(joined.error_code, ErrorCode::InvalidGroupId);
    broker.stop().await.unwrap();
}
