//! What a consumer tells of itself.

use std::time::Duration;

use kavka_client::{Consumer, consumer::MemberState};
use kavka_testkit::{ApiKey, ErrorCode};

use crate::context::*;

#[tokio::test]
async fn what_a_consumer_does_is_counted() {
    let context = Context::new(2).await;
    context.produce(0, &numbered(0, 0, 30), 10).await;
    context.produce(1, &numbered(1, 0, 4), 4).await;
    let builder = context.builder().enable_auto_commit(false);
    let mut consumer = builder.build().unwrap();
    let idle = consumer.metrics().await.unwrap();
    assert_eq!((idle.fetch.requests.count, idle.commit.requests.count), (0, 0));
    assert!(idle.partitions.is_empty() && idle.last_error.is_none());
    let group = idle.group.unwrap();
    assert_eq!((group.state, group.generation), (MemberState::Unjoined, -1));

    context.broker.on(ApiKey::OffsetCommit).nth(1).fail(ErrorCode::CoordinatorLoadInProgress);
    consumer.subscribe([TOPIC]).await.unwrap();
    take(&mut consumer, 34).await;
    within(consumer.commit()).await.unwrap();
    // A heartbeat, and a fetch that finds nothing more.
    assert_quiet(&mut consumer, Duration::from_millis(900)).await;
    consumer.pause([tp(1)]).unwrap();
    let metrics = consumer.metrics().await.unwrap();
    let fetch = metrics.fetch;
    assert_eq!((fetch.batches, fetch.records, fetch.failed), (4, 34, 0));
    assert!(fetch.bytes > 34 * 4 && fetch.requests.count >= 2, "{fetch:?}");
    assert!(fetch.requests.longest >= fetch.requests.mean().unwrap());
    assert_eq!(fetch.buffered_bytes, 0);
    assert_eq!((metrics.commit.requests.count, metrics.commit.failed), (2, 1));
    assert!(metrics.commit.requests.total > Duration::ZERO);
    let group = metrics.group.unwrap();
    assert_eq!((group.state, group.is_leader), (MemberState::Stable, true));
    assert_eq!((group.rebalances.count, group.lost_partitions), (1, 0));
    assert!(group.rebalances.last > Duration::ZERO && group.heartbeats.count > 0, "{group:?}");
    assert_eq!((&*group.assignor, group.member_id.is_empty()), ("range", false));
    for (partition, end) in [(0, 30), (1, 4)] {
        let row = metrics.partitions[&tp(partition)];
        let offsets = (row.position, row.committed, row.high_watermark, row.lag);
        assert_eq!(offsets, (Some(end), Some(end), Some(end), Some(0)), "{row:?}");
        assert_eq!((row.log_start_offset, row.is_paused), (Some(0), partition == 1));
    }
}

/// What comes again after a loss does not matter here.
async fn read_for_a_while(consumer: &mut Consumer) {
    drop(tokio::time::timeout(Duration::from_millis(20), consumer.next()).await);
}

#[tokio::test]
async fn lag_rebalances_losses_and_errors_show_in_the_metrics() {
    let context = Context::new(1).await;
    let mut consumer = context.subscribed().await;
    context.produce(0, &numbered(0, 0, 20), 5).await;
    take(&mut consumer, 3).await;
    let metrics = consumer.metrics().await.unwrap();
    // The third is in hand.
    assert_eq!(metrics.partitions[&tp(0)].lag, Some(18));
    assert!(metrics.last_error.is_none(), "{:?}", metrics.last_error);
    context.broker.on(ApiKey::Heartbeat).first(1).fail(ErrorCode::UnknownMemberId);
    let again = take_all(&mut consumer, &numbered(0, 3, 20)).await;
    assert!(!again.is_empty());
    within(async {
        loop {
            let group = consumer.metrics().await.unwrap().group.unwrap();
            if group.lost_partitions == 1 && group.rebalances.count == 2 {
                break;
            }
            read_for_a_while(&mut consumer).await;
        }
    })
    .await;
    context.broker.crash().await;
    within(async {
        while consumer.metrics().await.unwrap().last_error.is_none() {
            read_for_a_while(&mut consumer).await;
        }
    })
    .await;
    let error = consumer.metrics().await.unwrap().last_error.unwrap();
    assert!(error.at.elapsed().unwrap() < Duration::from_secs(60));
    assert!(error.error.is_retriable(), "{:?}", error.error);
}

#[tokio::test]
async fn without_a_group_there_is_no_membership_to_tell_of() {
    let context = Context::new(1).await;
    let servers = context.broker.bootstrap_servers();
    let consumer = Consumer::builder().bootstrap_servers(&servers).build().unwrap();
    consumer.assign([tp(0)]).await.unwrap();
    assert!(consumer.metrics().await.unwrap().group.is_none());
}
