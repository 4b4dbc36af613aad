//! Each call, where nobody else is busy.

use std::collections::{BTreeMap, BTreeSet};

use crate::{at, start};
use kavka_testkit::ApiKey;

use kavka_client::{
    Admin, ErrorCode, ErrorKind, IsolationLevel,
    admin::{
        AclFilter, Change, CommittedOffset, ConfigChange, ConfigResource, ConfigSource,
        DeleteBefore, DescribeConfigs, GroupFilter, GroupState, GroupType, MemberIdentity,
        NewPartitions, NewTopic, OffsetSpec, OffsetsOfGroup, Operation, PatternType, Permission,
        ResourceType, ScramChange, ScramMechanism,
    },
};

#[tokio::test]
async fn topics_are_made_listed_described_grown_and_deleted() {
    let (_broker, admin) = start().await;
    let new = NewTopic::new("orders").partitions(3).replication_factor(1);
    let new = new.config("retention.ms", "1000");
    let checked = admin.create_topics([new.clone()], Change::Validate).await;
    assert!(checked["orders"].is_ok(), "{checked:?}");
    assert!(admin.list_topics().await.unwrap().is_empty());

    let two = [new.clone(), NewTopic::new("no spaces").partitions(1).replication_factor(1)];
    let mut made = admin.create_topics(two, Change::Apply).await;
    let orders = made.remove("orders").unwrap().unwrap();
    assert_eq!((orders.partitions, orders.replication_factor), (Some(3), Some(1)));
    let retention = orders.configs.unwrap()["retention.ms"].clone();
    assert_eq!(retention.as_deref().map(AsRef::as_ref), Some("1000"));
    let error = made.remove("no spaces").unwrap().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidTopicException));
    let again = admin.create_topics([new], Change::Apply).await;
    let error = again["orders"].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TopicAlreadyExists), "{error}");

    let listed = admin.list_topics().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id, listed[0].partitions), (orders.id, 3));

    let described = admin.describe_topics(["orders", "missing"]).await;
    let topic = described["orders"].clone().unwrap();
    assert_eq!(topic.partitions.len(), 3);
    assert_eq!(topic.partitions[2].partition, 2);
    assert_eq!(topic.partitions[2].leader, topic.partitions[2].replicas.first().copied());
    assert!(topic.authorized_operations.is_some());
    let error = described["missing"].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
    let id = orders.id.unwrap();
    assert_eq!(admin.describe_topics_by_id([id]).await[&id].clone().unwrap(), topic);

    let grown = admin.create_partitions([("orders", NewPartitions::up_to(5))], Change::Apply).await;
    grown["orders"].clone().unwrap();
    let shrunk =
        admin.create_partitions([("orders", NewPartitions::up_to(2))], Change::Apply).await;
    let error = shrunk["orders"].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidPartitions));
    assert_eq!(admin.list_topics().await.unwrap()[0].partitions, 5);

    let deleted = admin.delete_topics(["orders", "missing"]).await;
    deleted["orders"].clone().unwrap();
    let error = deleted["missing"].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
    let deleted = admin.delete_topics_by_id([id]).await;
    assert_eq!(deleted[&id].clone().unwrap_err().code(), Some(ErrorCode::UnknownTopicId));
}

#[tokio::test]
async fn configs_are_described_and_altered() {
    let (broker, admin) = start().await;
    broker.create_topic("t", 1).await.unwrap();
    let topic = ConfigResource::Topic("t".into());
    let set = |name: &str, change| BTreeMap::from([(name.into(), change)]);
    let change = (topic.clone(), set("retention.ms", ConfigChange::Set("5".into())));
    let altered = admin.alter_configs([change.clone()], Change::Validate).await;
    altered[&topic].clone().unwrap();
    let only = DescribeConfigs {
        names: ["retention.ms".into()].into(),
        synonyms: true,
        documentation: true,
    };
    let configs = admin.describe_configs([topic.clone()], &only).await;
    let entry = configs[&topic].clone().unwrap()["retention.ms"].clone();
    assert_eq!(entry.source, ConfigSource::Default);
    admin.alter_configs([change], Change::Apply).await[&topic].clone().unwrap();
    let configs = admin.describe_configs([topic.clone()], &only).await;
    let entries = configs[&topic].clone().unwrap();
    assert_eq!(entries.len(), 1);
    let entry = &entries["retention.ms"];
    assert_eq!(entry.value.as_deref().map(AsRef::as_ref), Some("5"));
    assert_eq!(entry.source, ConfigSource::Topic);
    assert_eq!(entry.synonyms[0].source, ConfigSource::Topic);

    let bad = (topic.clone(), set("retention.ms", ConfigChange::Set("soon".into())));
    let error = admin.alter_configs([bad], Change::Apply).await[&topic].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidConfig));
    let missing = ConfigResource::Topic("missing".into());
    let all = DescribeConfigs::default();
    let brokers = admin.describe_cluster().await.unwrap().brokers;
    let own = ConfigResource::Broker(brokers[0].id);
    let strange = ConfigResource::Broker(77);
    let configs =
        admin.describe_configs([missing.clone(), own.clone(), strange.clone()], &all).await;
    let error = configs[&missing].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
    assert!(configs[&own].clone().unwrap().contains_key("group.max.size"));
    let error = configs[&strange].clone().unwrap_err();
    assert!(error.to_string().contains("there is no broker 77"), "{error}");
}

#[tokio::test]
async fn offsets_of_groups_are_committed_listed_and_deleted() {
    let (broker, admin) = start().await;
    broker.create_topic("t", 2).await.unwrap();
    let commit = CommittedOffset { offset: 7, leader_epoch: Some(3), metadata: "note".into() };
    let committed = admin
        .alter_group_offsets(
            "g",
            [(at("t", 0), commit.clone()), (at("missing", 0), commit.clone())],
        )
        .await;
    committed[&at("t", 0)].clone().unwrap();
    let error = committed[&at("missing", 0)].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));

    let asked = [OffsetsOfGroup::of("g", [at("t", 0), at("t", 1)]), OffsetsOfGroup::all("nobody")];
    let mut offsets = admin.list_group_offsets(asked, true).await;
    let of_g = offsets.remove("g").unwrap().unwrap();
    assert_eq!(of_g[&at("t", 0)].clone().unwrap(), Some(commit));
    assert_eq!(of_g[&at("t", 1)].clone().unwrap(), None);
    assert!(offsets.remove("nobody").unwrap().unwrap().is_empty());

    let list = admin.list_groups(&GroupFilter::default()).await.unwrap();
    assert!(list.errors.is_empty());
    assert_eq!(list.groups["g"].state, Some(GroupState::Empty));
    let stable = GroupFilter { states: [GroupState::Stable].into(), ..Default::default() };
    assert!(admin.list_groups(&stable).await.unwrap().groups.is_empty());

    let described = admin.describe_groups(["g", "nobody"]).await;
    let group = described["g"].clone().unwrap();
    assert_eq!((group.state, group.group_type), (GroupState::Empty, GroupType::Classic));
    let error = described["nobody"].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::GroupIdNotFound), "{error}");

    let deleted = admin.delete_group_offsets("g", [at("t", 0), at("t", 1)]).await;
    deleted[&at("t", 0)].clone().unwrap();
    let left = admin.list_group_offsets([OffsetsOfGroup::all("g")], false).await;
    assert!(left["g"].clone().unwrap().is_empty());
    admin.alter_group_offsets("g", [(at("t", 0), CommittedOffset::new(1))]).await;
    let deleted = admin.delete_groups(["g", "nobody"]).await;
    deleted["g"].clone().unwrap();
    assert_eq!(deleted["nobody"].clone().unwrap_err().code(), Some(ErrorCode::GroupIdNotFound));
}

#[tokio::test]
async fn offsets_by_time_are_found_and_records_deleted() {
    let (broker, admin) = start().await;
    broker.create_topic("t", 2).await.unwrap();
    let specs = [
        (at("t", 0), OffsetSpec::Latest),
        (at("t", 1), OffsetSpec::Timestamp(5)),
        (at("t", 2), OffsetSpec::Earliest),
    ];
    let offsets = admin.list_offsets(specs, IsolationLevel::ReadUncommitted).await;
    assert_eq!(offsets[&at("t", 0)].clone().unwrap().unwrap().offset, 0);
    assert_eq!(offsets[&at("t", 1)].clone().unwrap(), None);
    let error = offsets[&at("t", 2)].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition), "{error}");
    let deleted = admin
        .delete_records([
            (at("t", 0), DeleteBefore::HighWatermark),
            (at("t", 1), DeleteBefore::Offset(9)),
        ])
        .await;
    assert_eq!(deleted[&at("t", 0)].clone().unwrap(), 0);
    let error = deleted[&at("t", 1)].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
}

#[tokio::test]
async fn removing_who_is_not_there_says_so() {
    let (broker, admin) = start().await;
    broker.create_topic("t", 1).await.unwrap();
    admin.alter_group_offsets("g", [(at("t", 0), CommittedOffset::new(1))]).await;
    let ghost = MemberIdentity::Instance("ghost".into());
    let nobody = MemberIdentity::Member("nobody".into());
    let removed =
        admin.remove_group_members("g", [ghost.clone(), nobody.clone()], Some("maintenance")).await;
    for member in [ghost, nobody] {
        let error = removed[&member].clone().unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::UnknownMemberId), "{member}: {error}");
    }
    let all = admin.remove_all_group_members("g", None).await.unwrap();
    assert!(all.is_empty());
}

#[tokio::test]
async fn nobody_there_is_every_items_error() {
    let (broker, admin) = start().await;
    let servers = broker.bootstrap_servers();
    drop((broker, admin));
    let admin = Admin::builder().bootstrap_servers(&servers).build().unwrap();
    let admin = admin.with_timeout(std::time::Duration::from_millis(300));
    let described = admin.describe_topics(["a", "b"]).await;
    let names: BTreeSet<_> = described.keys().map(ToString::to_string).collect();
    assert_eq!(names, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    for (_, row) in described {
        let error = row.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    }
}

#[tokio::test]
async fn what_fails_is_tried_again_so_often_as_retries_say() {
    let (broker, _) = start().await;
    for retries in [0_u64, 2] {
        let admin = Admin::builder()
            .bootstrap_servers(&broker.bootstrap_servers())
            .property("retries", &retries.to_string())
            .property("retry.backoff.ms", "1")
            .build()
            .unwrap();
        let rule = broker.on(ApiKey::CreateTopics).fail(ErrorCode::NotController);
        let topic = NewTopic::new("t").partitions(1).replication_factor(1);
        let results = admin.create_topics([topic], Change::Validate).await;
        let error = results["t"].clone().unwrap_err();
        assert!(error.to_string().contains(&format!("{retries} retries")), "{error}");
        assert_eq!(rule.hits(), retries + 1);
        rule.remove();
    }
}

#[tokio::test]
async fn what_the_broker_does_not_have_is_unsupported_with_the_release_that_has_it() {
    let (broker, admin) = start().await;
    broker.create_topic("t", 1).await.unwrap();
    let set = ScramChange::Set {
        mechanism: ScramMechanism::Sha256,
        password: kavka_client::settings::Secret::new("s"),
        iterations: 4096,
    };
    let Err(error) = admin.alter_scram_users([("u", set)]).await["u"].clone() else {
        return; // The broker has learned it.
    };
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.advice().contains("Apache Kafka 2.7 or newer"), "{}", error.advice());
}

/// Calls are spawned onto runtimes with several threads.
#[test]
fn the_future_of_every_call_can_be_sent_to_another_thread() {
    fn check<F: Future + Send>(make: impl FnOnce() -> F) {
        drop(make);
    }
    fn admin() -> &'static Admin {
        unreachable!("the futures are not made, only their types")
    }
    static FILTER: GroupFilter = GroupFilter { states: BTreeSet::new(), types: BTreeSet::new() };
    static ACLS: AclFilter = AclFilter {
        resource_type: ResourceType::Any,
        resource_name: None,
        pattern: PatternType::Any,
        principal: None,
        host: None,
        operation: Operation::Any,
        permission: Permission::Any,
    };
    check(|| admin().describe_cluster());
    check(|| admin().list_topics());
    check(|| admin().describe_topics(["t"]));
    check(|| admin().create_topics([NewTopic::new("t")], Change::Apply));
    check(|| admin().delete_topics(["t"]));
    check(|| admin().create_partitions([("t", NewPartitions::up_to(1))], Change::Apply));
    check(|| admin().alter_configs([], Change::Apply));
    check(|| admin().list_groups(&FILTER));
    check(|| admin().describe_groups(["g"]));
    check(|| admin().list_group_offsets([OffsetsOfGroup::all("g")], true));
    check(|| admin().alter_group_offsets("g", []));
    check(|| admin().delete_group_offsets("g", []));
    check(|| admin().delete_groups(["g"]));
    check(|| admin().remove_group_members("g", [], None));
    check(|| admin().remove_all_group_members("g", None));
    check(|| admin().list_offsets([], IsolationLevel::ReadUncommitted));
    check(|| admin().delete_records([]));
    check(|| admin().describe_acls(&ACLS));
    check(|| admin().create_acls([]));
    check(|| admin().delete_acls([]));
    check(|| admin().describe_scram_users(["u"]));
    check(|| admin().alter_scram_users([("u", ScramChange::Delete(ScramMechanism::Sha256))]));
    check(|| admin().describe_log_dirs([]));
    check(|| admin().describe_producers([]));
}
