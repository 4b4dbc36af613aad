//! Several members: who reads what, and what happens when they come, go and fail.

use std::{collections::BTreeSet, time::Duration};

use kavka_client::{
    Admin, Consumer, TopicPartition,
    admin::{Change, NewPartitions},
    consumer::{CloseOptions, RebalanceEvent, SeekTo},
};
use kavka_testkit::GroupCondition;

use crate::context::*;

fn admin(context: &Context) -> Admin {
    let servers = context.broker.bootstrap_servers();
    Admin::builder().bootstrap_servers(&servers).build().unwrap()
}

/// Reads until the future is done, so that the consumer takes part in what goes on.
async fn reading_until<T>(
    consumer: &mut Consumer,
    until: impl Future<Output = T>,
) -> (T, Vec<String>) {
    tokio::pin!(until);
    let mut values = Vec::new();
    loop {
        tokio::select! {
            result = &mut until => return (result, values),
            record = consumer.next() => values.push(value(&record.unwrap().unwrap())),
        }
    }
}

async fn two_members(names: &[&str]) {
    let context = Context::new(4).await;
    for partition in 0..4 {
        context.produce(partition, &numbered(partition, 0, 50), 5).await;
    }
    let make = async || {
        let consumer = context.builder().assignors(names).build().unwrap();
        consumer.subscribe([TOPIC]).await.unwrap();
        consumer
    };
    let mut first = make().await;
    let mut seen = take(&mut first, 60).await;
    let mut second = make().await;
    let both = async {
        let condition = GroupCondition::stable().with_members(2);
        context.broker.wait_for_group(GROUP, condition, PATIENCE).await.unwrap();
        while second.assignment().await.unwrap().len() != 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (_, more) = reading_until(&mut first, within(both)).await;
    seen.extend(more);
    assert_eq!(first.assignment().await.unwrap().len(), 2);
    for partition in 0..4 {
        context.produce(partition, &numbered(partition, 50, 60), 5).await;
    }
    let mut wanted: BTreeSet<String> = (0..4).flat_map(|p| numbered(p, 0, 60)).collect();
    wanted.retain(|value| !seen.contains(value));
    while !wanted.is_empty() {
        let record = within(async {
            tokio::select! {
                record = first.next() => record,
                record = second.next() => record,
            }
        });
        wanted.remove(&value(&record.await.unwrap().unwrap()));
    }
    second.commit().await.unwrap();
    closed(second).await.unwrap();
    let handle = first.handle();
    let alone = async {
        while handle.assignment().await.unwrap().len() != 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    reading_until(&mut first, within(alone)).await;
    assert_quiet(&mut first, Duration::from_millis(50)).await;
    closed(first).await.unwrap();
    assert_eq!(committed(&context).await, (0..4).map(|p| (p, 60)).collect());
}

#[tokio::test]
async fn two_members_share_with_range() {
    two_members(&["range"]).await;
}

#[tokio::test]
async fn two_members_share_with_cooperative_sticky() {
    two_members(&["cooperative-sticky"]).await;
}

#[tokio::test]
async fn two_members_share_with_sticky() {
    two_members(&["sticky"]).await;
}

#[tokio::test]
async fn two_members_share_with_kafkas_default() {
    two_members(&["range", "cooperative-sticky"]).await;
}

#[tokio::test]
async fn a_rebalance_waits_for_what_is_in_hand_and_commits_it() {
    let context = Context::new(2).await;
    context.produce(0, &numbered(0, 0, 10), 5).await;
    let mut first = context.subscribed().await;
    let mut events = first.events();
    take(&mut first, 3).await;
    let second = context.subscribed().await;
    // The application works on the third record for a while.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(second.assignment().await.unwrap().is_empty(), "the rebalance waits");
    assert!(first.next().now_or_never().is_none(), "nothing is handed out meanwhile");
    let mut told = Vec::new();
    while told.last().is_none_or(|last: &String| !last.starts_with("revoked")) {
        match within(events.next()).await.unwrap() {
            RebalanceEvent::Assigned { added, .. } => {
                told.push(format!("assigned {}", added.len()))
            }
            RebalanceEvent::Revoking(revoking) => {
                told.push(format!("revoking {}", revoking.partitions().len()));
                assert!(revoking.time_left() > Duration::from_secs(100));
                within(revoking.handle().commit()).await.unwrap();
            }
            RebalanceEvent::Revoked(partitions) => {
                told.push(format!("revoked {}", partitions.len()))
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told[told.len() - 2..], ["revoking 2", "revoked 2"]);
    assert_eq!(committed(&context).await[&0], 3);
}

#[tokio::test]
async fn a_static_member_that_restarts_keeps_its_share_without_a_rebalance() {
    let context = Context::new(2).await;
    context.produce(0, &numbered(0, 0, 10), 5).await;
    let make = async || {
        let consumer = context.builder().group_instance_id("i").build().unwrap();
        consumer.subscribe([TOPIC]).await.unwrap();
        consumer
    };
    let mut first = make().await;
    take(&mut first, 3).await;
    first.commit().await.unwrap();
    closed(first).await.unwrap();
    let before = context.broker.group(GROUP).await.unwrap();
    assert_eq!(before.members.len(), 1, "it did not leave");
    let mut second = make().await;
    assert_eq!(take(&mut second, 7).await, numbered(0, 3, 10));
    let options = CloseOptions::default().leave_group(true);
    within(second.close_with(options)).await.unwrap();
    let after = context.broker.group(GROUP).await.unwrap();
    assert_eq!(after.members.len(), 0);
}

#[tokio::test]
async fn a_pattern_finds_topics_as_they_are_made() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 3), 5).await;
    let builder = context.builder().property("metadata.max.age.ms", "100");
    let mut consumer = builder.build().unwrap();
    consumer.subscribe_pattern("ord.*").await.unwrap();
    assert_eq!(take(&mut consumer, 3).await, numbered(0, 0, 3));
    context.broker.create_topic("ordinary", 1).await.unwrap();
    context.broker.create_topic("other", 1).await.unwrap();
    context.produce_to("ordinary", 0, &numbered(7, 0, 3), 5).await;
    context.produce_to("other", 0, &numbered(8, 0, 3), 5).await;
    let wanted = numbered(7, 0, 3);
    let values = take_all(&mut consumer, &wanted).await;
    assert!(values.iter().all(|value| !value.starts_with("p8")), "{values:?}");
    assert!(consumer.subscribe_pattern("(").await.is_err());
}

#[tokio::test]
async fn a_pattern_finds_internal_topics_only_if_asked_to() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 1), 1).await;
    // Its commit makes the topic of offsets.
    let mut first = context.subscribed().await;
    assert_eq!(take(&mut first, 1).await, numbered(0, 0, 1));
    first.commit().await.unwrap();
    within(first.close()).await.unwrap();
    for (value, expected) in [("true", false), ("false", true)] {
        let builder = context.builder().group_id("other");
        let consumer = builder.property("exclude.internal.topics", value).build().unwrap();
        consumer.subscribe_pattern(".*").await.unwrap();
        let assigned = async {
            loop {
                let assignment = consumer.handle().assignment().await.unwrap();
                if !assignment.is_empty() {
                    break assignment;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let assigned = within(assigned).await;
        let topics: BTreeSet<String> =
            assigned.iter().map(|partition| partition.topic.to_string()).collect();
        assert!(topics.contains("orders"), "{topics:?}");
        assert_eq!(topics.contains("__consumer_offsets"), expected, "{topics:?}");
        within(consumer.close()).await.unwrap();
    }
}

#[tokio::test]
async fn a_changed_subscription_commits_what_was_consumed_of_what_goes() {
    let context = Context::new(1).await;
    context.broker.create_topic("others", 1).await.unwrap();
    context.produce(0, &numbered(0, 0, 5), 5).await;
    context.produce_to("others", 0, &numbered(1, 0, 3), 3).await;
    let mut consumer = context.subscribed().await;
    take(&mut consumer, 5).await;
    consumer.subscribe(["others"]).await.unwrap();
    assert_eq!(take(&mut consumer, 3).await, numbered(1, 0, 3));
    assert_eq!(context.broker.committed(GROUP).await.unwrap(), [((TOPIC.into(), 0), 5)].into());
    consumer.subscribe_pattern("ord.*").await.unwrap();
    within(async {
        while consumer.assignment().await.unwrap() != [tp(0)].into() {
            let _ = tokio::time::timeout(Duration::from_millis(20), consumer.next()).await;
        }
    })
    .await;
    let both = [((TOPIC.into(), 0), 5), (("others".into(), 0), 3)];
    assert_eq!(context.broker.committed(GROUP).await.unwrap(), both.into());
}

/// And it can be sought in while the rebalance is under way.
#[tokio::test]
async fn a_pause_outlives_a_rebalance_that_leaves_the_partition_where_it_is() {
    let context = Context::new(2).await;
    for partition in 0..2 {
        context.produce(partition, &numbered(partition, 0, 4), 4).await;
    }
    let builder = || context.builder().assignors(&["cooperative-sticky"]);
    let mut first = builder().build().unwrap();
    first.subscribe([TOPIC]).await.unwrap();
    take(&mut first, 8).await;
    first.pause([tp(0), tp(1)]).unwrap();
    let second = builder().build().unwrap();
    second.subscribe([TOPIC]).await.unwrap();
    let handle = first.handle();
    let shared = async {
        loop {
            let (mine, others) =
                (handle.assignment().await.unwrap(), second.assignment().await.unwrap());
            for place in &mine {
                // It may go at any moment.
                let sought = handle.seek(place, SeekTo::Beginning).await;
                assert!(sought.is_ok() || !handle.assignment().await.unwrap().contains(place));
            }
            if mine.len() == 1 && others.len() == 1 {
                return mine;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (mine, values) = reading_until(&mut first, within(shared)).await;
    assert!(values.is_empty(), "both were paused, or gone: {values:?}");
    assert_quiet(&mut first, Duration::from_millis(100)).await;
    first.resume(mine.clone()).unwrap();
    let kept = mine.first().unwrap().partition;
    assert_eq!(take(&mut first, 4).await, numbered(kept, 0, 4));
}

#[tokio::test]
async fn a_pattern_lets_go_of_topics_that_vanish_and_finds_them_when_they_are_made_anew() {
    let context = Context::new(1).await;
    context.broker.create_topic("orders-eu", 1).await.unwrap();
    let mut consumer = context.builder().property("metadata.max.age.ms", "100").build().unwrap();
    consumer.subscribe_pattern("orders.*").await.unwrap();
    let place = TopicPartition::new("orders-eu", 0);
    let owned = async |consumer: &mut Consumer, wanted: bool| {
        within(async {
            while consumer.assignment().await.unwrap().contains(&place) != wanted {
                let _ = tokio::time::timeout(Duration::from_millis(20), consumer.next()).await;
            }
        })
        .await;
    };
    owned(&mut consumer, true).await;
    // There is something to commit, and no topic to commit it of.
    context.produce_to("orders-eu", 0, &numbered(6, 0, 2), 2).await;
    take(&mut consumer, 2).await;
    let admin = admin(&context);
    for result in within(admin.delete_topics(["orders-eu"])).await.into_values() {
        result.unwrap();
    }
    owned(&mut consumer, false).await;
    context.broker.create_topic("orders-eu", 1).await.unwrap();
    context.produce_to("orders-eu", 0, &numbered(7, 0, 2), 2).await;
    assert_eq!(take(&mut consumer, 2).await, numbered(7, 0, 2));
}

/// What was read and committed of the old one is not the position in the new one.
#[tokio::test]
async fn a_topic_that_is_made_anew_while_it_is_read_is_read_from_its_beginning() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 5), 5).await;
    let mut consumer = context.builder().property("metadata.max.age.ms", "100").build().unwrap();
    consumer.subscribe([TOPIC]).await.unwrap();
    take(&mut consumer, 5).await;
    within(consumer.commit()).await.unwrap();
    let admin = admin(&context);
    for result in within(admin.delete_topics([TOPIC])).await.into_values() {
        result.unwrap();
    }
    context.broker.create_topic(TOPIC, 1).await.unwrap();
    context.produce(0, &numbered(9, 0, 8), 8).await;
    assert_eq!(take(&mut consumer, 8).await, numbered(9, 0, 8));
    assert_eq!(within(consumer.commit()).await.unwrap(), [(tp(0), 8)].into());
}

#[tokio::test]
async fn partitions_that_are_added_are_read_from_their_beginning() {
    let context = Context::new(1).await;
    let mut consumer = context.builder().property("metadata.max.age.ms", "100").build().unwrap();
    consumer.subscribe([TOPIC]).await.unwrap();
    context.produce(0, &numbered(0, 0, 2), 2).await;
    assert_eq!(take(&mut consumer, 2).await, numbered(0, 0, 2));
    let admin = admin(&context);
    for result in within(admin.create_partitions([(TOPIC, NewPartitions::up_to(3))], Change::Apply))
        .await
        .into_values()
    {
        result.unwrap();
    }
    context.produce(2, &numbered(2, 0, 2), 2).await;
    assert_eq!(take(&mut consumer, 2).await, numbered(2, 0, 2));
    assert_eq!(consumer.assignment().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_topic_that_does_not_exist_yet_is_read_when_it_does() {
    let context = Context::new(1).await;
    let mut consumer = context.builder().property("retry.backoff.max.ms", "200").build().unwrap();
    consumer.subscribe([TOPIC, "later"]).await.unwrap();
    context.produce(0, &numbered(0, 0, 3), 5).await;
    assert_eq!(take(&mut consumer, 3).await, numbered(0, 0, 3));
    context.broker.create_topic("later", 1).await.unwrap();
    context.produce_to("later", 0, &numbered(7, 0, 3), 5).await;
    assert_eq!(take_all(&mut consumer, &numbered(7, 0, 3)).await.len(), 3, "nothing comes twice");
}

#[tokio::test]
async fn a_revocation_that_is_kept_holds_up_nothing_after_its_deadline() {
    let context = Context::new(2).await;
    let builder = context.builder().drain_timeout(Duration::from_millis(200));
    let mut first = builder.build().unwrap();
    let mut events = first.events();
    first.subscribe([TOPIC]).await.unwrap();
    assert_quiet(&mut first, Duration::from_millis(300)).await;
    let mut kept = Vec::new();
    for members in [2, 1, 2] {
        let second = if members == 2 { Some(context.subscribed().await) } else { None };
        let condition = GroupCondition::stable().with_members(members);
        let stable = context.broker.wait_for_group(GROUP, condition, PATIENCE);
        reading_until(&mut first, stable).await.0.unwrap();
        while let Some(Some(event)) = events.next().now_or_never() {
            kept.push(event);
        }
        if let Some(second) = second {
            closed(second).await.unwrap();
        }
    }
    assert!(kept.iter().any(|event| matches!(event, RebalanceEvent::Revoking(_))));
}

#[tokio::test]
async fn a_broker_that_crashes_and_restarts_loses_nothing() {
    let broker = kavka_testkit::TestBroker::builder()
        .storage(kavka_testkit::Storage::Disk)
        .topic(TOPIC, 2)
        .start()
        .await;
    let context = Context { broker };
    context.produce(0, &numbered(0, 0, 20), 5).await;
    let mut consumer = context.subscribed().await;
    let mut values = take(&mut consumer, 10).await;
    consumer.commit().await.unwrap();
    context.broker.crash().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    context.broker.restart().await.unwrap();
    context.produce(1, &numbered(1, 0, 20), 5).await;
    let wanted: Vec<String> = numbered(0, 10, 20).into_iter().chain(numbered(1, 0, 20)).collect();
    values.extend(take_all(&mut consumer, &wanted).await);
    assert_eq!(values.len(), 40, "nothing comes twice: the session outlived the crash");
    assert_quiet(&mut consumer, Duration::from_millis(50)).await;
    closed(consumer).await.unwrap();
    assert_eq!(committed(&context).await, [(0, 20), (1, 20)].into());
}

/// One poll of a future.
trait NowOrNever: Future + Sized {
    fn now_or_never(self) -> Option<Self::Output> {
        let mut future = std::pin::pin!(self);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}

impl<F: Future> NowOrNever for F {}
