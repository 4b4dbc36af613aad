//! Members come, go and come back.

use std::{collections::BTreeSet, time::Duration};

use kavka_client::{
    Consumer,
    admin::{Change, GroupState, NewTopic},
    consumer::{CloseOptions, RebalanceEvent},
};

use crate::context::*;

/// Two members share, every record is read, one leaves, the other has everything.
async fn two_members_share(assignors: &[&str]) {
    let context = Context::new(4).await;
    for partition in 0..4 {
        context.produce(partition, &numbered(partition, 0, 20)).await;
    }
    let member = async || {
        let builder = context.consumer().enable_auto_commit(true).assignors(assignors);
        let consumer = builder.build().unwrap();
        consumer.subscribe([&context.topic]).await.unwrap();
        consumer
    };
    let mut first = member().await;
    let mut seen = take(&mut first, 30).await;
    let second = member().await;
    // Both of them, for a cooperative rebalance is over for one before the other.
    let handles = (first.handle(), second.handle());
    let both = async {
        loop {
            let one = handles.0.assignment().await.unwrap();
            let other = handles.1.assignment().await.unwrap();
            if one.len() == 2 && other.len() == 2 {
                return (one, other);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (one, other) = reading_while(&mut first, &mut seen, both).await;
    assert!(one.is_disjoint(&other), "{one:?} {other:?}");
    let mut second = second;
    for partition in 0..4 {
        context.produce(partition, &numbered(partition, 20, 30)).await;
    }
    let mut missing: BTreeSet<String> = (0..4).flat_map(|p| numbered(p, 0, 30)).collect();
    missing.retain(|value| !seen.contains(value));
    while !missing.is_empty() {
        let record = within(async {
            tokio::select! {
                record = first.next() => record,
                record = second.next() => record,
            }
        });
        missing.remove(&text(&record.await.unwrap().unwrap()));
    }
    within(second.commit()).await.unwrap();
    close(second).await;
    let alone = owns(first.handle(), 4);
    reading_while(&mut first, &mut seen, alone).await;
    within(first.commit()).await.unwrap();
    close(first).await;
    for partition in 0..4 {
        assert_eq!(context.committed_offset(partition).await, Some(30), "partition {partition}");
    }
    let described = within(context.admin.describe_groups([context.group.as_str()])).await;
    let group = described[context.group.as_str()].clone().unwrap();
    assert_eq!((group.state, group.members.len()), (GroupState::Empty, 0));
}

#[tokio::test]
async fn two_members_share_by_range() {
    two_members_share(&["range"]).await;
}

#[tokio::test]
async fn two_members_share_by_round_robin() {
    two_members_share(&["roundrobin"]).await;
}

#[tokio::test]
async fn two_members_share_by_sticky() {
    two_members_share(&["sticky"]).await;
}

#[tokio::test]
async fn two_members_share_cooperatively() {
    two_members_share(&["cooperative-sticky"]).await;
}

#[tokio::test]
async fn a_cooperative_member_goes_on_with_what_it_keeps() {
    let context = Context::new(4).await;
    let member = async || {
        let consumer = context.consumer().assignors(&["cooperative-sticky"]).build().unwrap();
        let events = consumer.events();
        consumer.subscribe([&context.topic]).await.unwrap();
        (consumer, events)
    };
    let (mut first, mut events) = member().await;
    let mut seen = Vec::new();
    let all = owns(first.handle(), 4);
    reading_while(&mut first, &mut seen, all).await;
    let (second, second_events) = member().await;
    let gave = async {
        let mut revoked = BTreeSet::new();
        while revoked.len() < 2 {
            match events.next().await.unwrap() {
                RebalanceEvent::Revoked(partitions) => revoked.extend(partitions),
                RebalanceEvent::Lost { .. } => panic!("nothing is lost"),
                _ => {}
            }
        }
        revoked
    };
    let revoked = reading_while(&mut first, &mut seen, gave).await;
    assert_eq!(revoked.len(), 2, "only what moves is given up");
    let mut second = second;
    let handle = second.handle();
    let moved = async { reading_while(&mut second, &mut Vec::new(), owns(handle, 2)).await };
    let moved = reading_while(&mut first, &mut seen, moved).await;
    assert_eq!(moved, revoked);
    // Events of giving up everything that nobody reads would hold up the closing.
    drop((events, second_events));
    close(second).await;
    close(first).await;
}

#[tokio::test]
async fn a_static_member_comes_back_to_its_share() {
    let context = Context::new(2).await;
    context.produce(0, &numbered(0, 0, 10)).await;
    let member = async || {
        let consumer = context.consumer().group_instance_id("i").build().unwrap();
        consumer.subscribe([&context.topic]).await.unwrap();
        consumer
    };
    if is_before(2, 3) {
        return is_unsupported(within(member().await.next()).await.unwrap(), "2.3");
    }
    let members = async || {
        let described = within(context.admin.describe_groups([context.group.as_str()])).await;
        described[context.group.as_str()].clone().unwrap().members.len()
    };
    let mut first = member().await;
    take(&mut first, 3).await;
    within(first.commit()).await.unwrap();
    close(first).await;
    assert_eq!(members().await, 1, "it did not leave");
    let mut second: Consumer = member().await;
    assert_eq!(take(&mut second, 7).await, numbered(0, 3, 10));
    within(second.close_with(CloseOptions::default().leave_group(true))).await.unwrap();
    assert_eq!(members().await, 0);
}

#[tokio::test]
async fn a_pattern_takes_topics_as_they_are_made() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 3)).await;
    let builder = context.consumer().enable_auto_commit(true);
    let builder = builder.property("metadata.max.age.ms", "200");
    let mut consumer = builder.build().unwrap();
    consumer.subscribe_pattern(&format!("{}.*", context.topic)).await.unwrap();
    assert_eq!(take(&mut consumer, 3).await, numbered(0, 0, 3));
    let later = format!("{}-later", context.topic);
    context.create(&later, 1, &[]).await;
    let producer = context.producer().build().unwrap();
    context.send(&producer, kavka_client::ProducerRecord::to(&later).value("found")).await;
    // The record in hand when the group rebalances may come again.
    while take(&mut consumer, 1).await != ["found"] {}
    close(consumer).await;
}

/// Its offsets cannot be committed any more, and no rebalance is to wait for that.
#[tokio::test]
async fn a_topic_that_is_deleted_goes_from_the_consumers_of_its_pattern() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 3)).await;
    let later = format!("{}-later", context.topic);
    context.create(&later, 1, &[]).await;
    let builder = context.consumer().enable_auto_commit(true);
    let mut consumer = builder.property("metadata.max.age.ms", "200").build().unwrap();
    consumer.subscribe_pattern(&format!("{}.*", context.topic)).await.unwrap();
    let producer = context.producer().build().unwrap();
    context.send(&producer, kavka_client::ProducerRecord::to(&later).value("found")).await;
    let mut seen = take(&mut consumer, 4).await;
    within(context.admin.delete_topics([later.as_str()])).await[later.as_str()].clone().unwrap();
    let handle = consumer.handle();
    let only = reading_while(&mut consumer, &mut seen, owns(handle, 1)).await;
    assert_eq!(only, BTreeSet::from([context.tp(0)]));
    close(consumer).await;
}

/// What was read and committed of the old one is no position in the new one.
#[tokio::test]
async fn a_topic_that_is_made_anew_while_it_is_read_is_read_from_its_beginning() {
    if is_before(2, 8) {
        // Nothing tells the two apart.
        return;
    }
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 5)).await;
    // Its own lookups of the topic that is gone are not to make the new one, with other partitions than are wanted.
    let builder = context.consumer().property("allow.auto.create.topics", "false");
    let mut consumer = builder.property("metadata.max.age.ms", "200").build().unwrap();
    consumer.subscribe([&context.topic]).await.unwrap();
    take(&mut consumer, 5).await;
    within(consumer.commit()).await.unwrap();
    let topic = context.topic.as_str();
    within(context.admin.delete_topics([topic])).await[topic].clone().unwrap();
    eventually(async || {
        let anew = NewTopic::new(topic).partitions(1).replication_factor(1);
        context.admin.create_topics([anew], Change::Apply).await[topic].is_ok()
    })
    .await;
    context.produce(0, &numbered(9, 0, 8)).await;
    assert_eq!(take(&mut consumer, 8).await, numbered(9, 0, 8));
    within(consumer.commit()).await.unwrap();
    assert_eq!(context.committed_offset(0).await, Some(8));
    close(consumer).await;
}

#[tokio::test]
async fn unsubscribed_it_leaves_and_subscribed_it_joins_again() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 5)).await;
    let mut consumer = context.subscribed().await;
    take(&mut consumer, 2).await;
    within(consumer.commit()).await.unwrap();
    within(consumer.unsubscribe()).await.unwrap();
    assert!(within(consumer.assignment()).await.unwrap().is_empty());
    consumer.subscribe([&context.topic]).await.unwrap();
    assert_eq!(take(&mut consumer, 3).await, numbered(0, 2, 5));
    close(consumer).await;
}
