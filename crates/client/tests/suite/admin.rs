//! The admin's calls, and what they say when something is not as it should be.

use std::collections::BTreeMap;

use kavka_client::{
    ErrorCode,
    admin::{
        Change, ConfigChange, ConfigResource, ConfigSource, DescribeConfigs, GroupFilter,
        GroupState, NewPartitions, NewTopic,
    },
};

use crate::context::*;

#[tokio::test]
async fn topics_are_made_described_grown_and_deleted() {
    let context = Context::new(3).await;
    let (admin, topic) = (&context.admin, context.topic.as_str());
    let described = within(admin.describe_topics([topic])).await[topic].clone().unwrap();
    assert_eq!(described.partitions.len(), 3);
    let again = NewTopic::new(topic).partitions(1).replication_factor(1);
    let error = within(admin.create_topics([again], Change::Apply)).await[topic].clone();
    assert_eq!(error.unwrap_err().code(), Some(ErrorCode::TopicAlreadyExists));
    let grow = |total| [(topic, NewPartitions::up_to(total))];
    within(admin.create_partitions(grow(5), Change::Apply)).await[topic].clone().unwrap();
    let error = within(admin.create_partitions(grow(4), Change::Apply)).await[topic].clone();
    assert_eq!(error.unwrap_err().code(), Some(ErrorCode::InvalidPartitions));
    eventually(async || {
        let listed = admin.list_topics().await.unwrap();
        listed.iter().any(|listed| &*listed.name == topic && listed.partitions == 5)
    })
    .await;
    within(admin.delete_topics([topic])).await[topic].clone().unwrap();
    let error = within(admin.delete_topics([topic])).await[topic].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
}

#[tokio::test]
async fn configs_are_set_told_and_unset() {
    let context = Context::new(1).await;
    let admin = &context.admin;
    let topic = ConfigResource::Topic(context.topic.as_str().into());
    let asked = DescribeConfigs { names: ["retention.ms".into()].into(), ..Default::default() };
    let entry = async || {
        let configs = within(admin.describe_configs([topic.clone()], &asked)).await;
        configs[&topic].clone().unwrap()["retention.ms"].clone()
    };
    let change = async |change| {
        let changes = BTreeMap::from([("retention.ms".into(), change)]);
        within(admin.alter_configs([(topic.clone(), changes)], Change::Apply)).await[&topic].clone()
    };
    assert_eq!(entry().await.source, ConfigSource::Default);
    if is_before(2, 3) {
        return is_unsupported(change(ConfigChange::Set("12345".into())).await, "2.3");
    }
    change(ConfigChange::Set("12345".into())).await.unwrap();
    eventually(async || entry().await.source == ConfigSource::Topic).await;
    let set = entry().await;
    assert_eq!((set.value.as_deref(), set.source), (Some("12345"), ConfigSource::Topic));
    let error = change(ConfigChange::Set("soon".into())).await.unwrap_err();
    let codes = [ErrorCode::InvalidConfig, ErrorCode::InvalidRequest];
    let code = if is_before(3, 0) { codes[1] } else { codes[0] };
    assert_eq!(error.code(), Some(code), "{error}");
    change(ConfigChange::Delete).await.unwrap();
    eventually(async || entry().await.source == ConfigSource::Default).await;
}

#[tokio::test]
async fn groups_are_listed_described_and_deleted() {
    let context = Context::new(2).await;
    let (admin, group) = (&context.admin, context.group.as_str());
    let mut consumer = context.subscribed().await;
    let handle = consumer.handle();
    reading_while(&mut consumer, &mut Vec::new(), owns(handle, 2)).await;
    let listed = within(admin.list_groups(&GroupFilter::default())).await.unwrap();
    // Before, lists have no states.
    let state = (!is_before(2, 6)).then_some(GroupState::Stable);
    assert_eq!(listed.groups[group].state, state);
    let described = within(admin.describe_groups([group])).await[group].clone().unwrap();
    assert_eq!((described.state, described.members.len()), (GroupState::Stable, 1));
    let error = within(admin.delete_groups([group])).await[group].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NonEmptyGroup), "{error}");
    close(consumer).await;
    within(admin.delete_groups([group])).await[group].clone().unwrap();
    let error = within(admin.delete_groups([group])).await[group].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::GroupIdNotFound), "{error}");
}

#[tokio::test]
async fn the_cluster_describes_itself() {
    let context = Context::new(1).await;
    let cluster = within(context.admin.describe_cluster()).await.unwrap();
    assert!(!cluster.brokers.is_empty(), "{cluster:?}");
}
