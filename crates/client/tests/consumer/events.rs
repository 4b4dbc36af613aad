//! Rebalance events that are held and not read, or read and held: how long they hold up what goes on.

use std::time::{Duration, Instant};

use kavka_client::consumer::RebalanceEvent;
use kavka_testkit::GroupCondition;

use crate::context::*;

#[tokio::test]
async fn a_stream_of_events_that_nobody_reads_holds_up_a_close_for_a_second() {
    let context = Context::new(2).await;
    context.produce(0, &numbered(0, 0, 10), 5).await;
    let builder = context.builder().build().unwrap();
    let mut consumer = builder;
    let events = consumer.events();
    consumer.subscribe([TOPIC]).await.unwrap();
    take(&mut consumer, 10).await;
    assert_quiet(&mut consumer, Duration::from_millis(50)).await;
    let begun = Instant::now();
    closed(consumer).await.unwrap();
    let taken = begun.elapsed();
    assert!(taken > Duration::from_millis(900) && taken < Duration::from_secs(4), "{taken:?}");
    assert_eq!(committed(&context).await[&0], 10, "and it was all done");
    drop(events);
}

/// Of three, because a busy machine may take its time with one.
async fn fastest_close(reads: bool) -> Duration {
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        let context = Context::new(2).await;
        let mut consumer = context.builder().build().unwrap();
        let mut events = consumer.events();
        consumer.subscribe([TOPIC]).await.unwrap();
        assert_quiet(&mut consumer, Duration::from_millis(300)).await;
        if reads {
            tokio::spawn(async move { while events.next().await.is_some() {} });
        } else {
            drop(events);
        }
        let begun = Instant::now();
        closed(consumer).await.unwrap();
        fastest = fastest.min(begun.elapsed());
    }
    fastest
}

#[tokio::test]
async fn a_stream_of_events_that_is_read_or_dropped_holds_up_no_close() {
    for reads in [true, false] {
        let fastest = fastest_close(reads).await;
        assert!(fastest < Duration::from_millis(800), "reads: {reads}, {fastest:?}");
    }
}

#[tokio::test]
async fn a_stream_of_events_that_nobody_reads_holds_up_a_rebalance_for_five_seconds() {
    let context = Context::new(2).await;
    let mut first = context.builder().build().unwrap();
    let mut events = first.events();
    first.subscribe([TOPIC]).await.unwrap();
    assert_quiet(&mut first, Duration::from_millis(300)).await;
    let begun = Instant::now();
    let second = context.subscribed().await;
    let reading = tokio::spawn(async move { while first.next().await.is_some() {} });
    let condition = GroupCondition::stable().with_members(2);
    context.broker.wait_for_group(GROUP, condition, PATIENCE).await.unwrap();
    let taken = begun.elapsed();
    assert!(taken > Duration::from_secs(4) && taken < Duration::from_secs(12), "{taken:?}");
    // What was not read then is read now, in order.
    let mut told = Vec::new();
    while told.last() != Some(&"assigned again") {
        told.push(match within(events.next()).await.unwrap() {
            RebalanceEvent::Assigned { .. } if told.is_empty() => "assigned",
            RebalanceEvent::Assigned { .. } => "assigned again",
            RebalanceEvent::Revoking(revoking) => {
                assert!(!revoking.partitions().is_empty());
                "revoking"
            }
            RebalanceEvent::Revoked(_) => "revoked",
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(told, ["assigned", "revoking", "revoked", "assigned again"]);
    reading.abort();
    drop(second);
}

#[tokio::test]
async fn a_revocation_that_was_read_is_waited_for_longer_than_one_that_was_not() {
    let context = Context::new(2).await;
    let mut first = context.builder().build().unwrap();
    let mut events = first.events();
    first.subscribe([TOPIC]).await.unwrap();
    assert_quiet(&mut first, Duration::from_millis(300)).await;
    let _second = context.subscribed().await;
    let handle = first.handle();
    let reading = tokio::spawn(async move { while first.next().await.is_some() {} });
    let revoking = loop {
        if let RebalanceEvent::Revoking(revoking) = within(events.next()).await.unwrap() {
            break revoking;
        }
    };
    tokio::time::sleep(Duration::from_millis(6500)).await;
    assert_eq!(handle.assignment().await.unwrap().len(), 2, "it still waits");
    revoking.finish();
    let condition = GroupCondition::stable().with_members(2);
    context.broker.wait_for_group(GROUP, condition, PATIENCE).await.unwrap();
    reading.abort();
}
