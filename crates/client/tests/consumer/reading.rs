//! Fetching, positions, seeking, pausing, committing by one consumer.

use std::time::{Duration, Instant};

use kavka_client::{
    Consumer, ErrorKind,
    consumer::{OffsetReset, Offsets, SeekTo},
};

use crate::context::*;

#[tokio::test]
async fn a_group_of_one_reads_everything_in_order() {
    let context = Context::new(3).await;
    let mut wanted = Vec::new();
    for partition in 0..3 {
        let values = numbered(partition, 0, 100);
        context.produce(partition, &values, 7).await;
        wanted.extend(values);
    }
    let mut consumer = context.subscribed().await;
    let values = take(&mut consumer, 300).await;
    for partition in 0..3 {
        let prefix = format!("p{partition}-");
        let of: Vec<String> = values.iter().filter(|v| v.starts_with(&prefix)).cloned().collect();
        assert_eq!(of, numbered(partition, 0, 100));
    }
    // Asking for the next one says that the last one is done.
    assert_quiet(&mut consumer, Duration::from_millis(50)).await;
    closed(consumer).await.unwrap();
    assert_eq!(committed(&context).await, [(0, 100), (1, 100), (2, 100)].into());
    let group = context.broker.group(GROUP).await.unwrap();
    assert_eq!(group.members.len(), 0);
}

#[tokio::test]
async fn batches_are_lent_as_they_were_written() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 20), 5).await;
    let mut consumer = context.subscribed().await;
    let mut sizes = Vec::new();
    let mut offsets = Vec::new();
    while offsets.len() < 20 {
        let batch = within(consumer.next_batch()).await.unwrap().unwrap();
        sizes.push(batch.records().count());
        offsets.extend(batch.records().map(|record| record.unwrap().offset));
    }
    assert_eq!(sizes, [5; 4]);
    assert_eq!(offsets, (0..20).collect::<Vec<_>>());
    consumer.commit().await.unwrap();
    assert_eq!(committed(&context).await, [(0, 20)].into());
}

#[tokio::test]
async fn what_is_in_hand_is_not_committed_until_the_application_comes_back() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 10), 10).await;
    let builder = context.builder().auto_commit_interval(Duration::from_millis(20));
    let mut consumer = builder.build().unwrap();
    consumer.subscribe([TOPIC]).await.unwrap();
    take(&mut consumer, 3).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(committed(&context).await, [(0, 2)].into(), "the third is still worked on");
    closed(consumer).await.unwrap();
    assert_eq!(committed(&context).await, [(0, 2)].into(), "nor does close make it done");
}

#[tokio::test]
async fn an_explicit_commit_covers_what_was_handed_out() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 10), 10).await;
    let mut consumer = context.builder().enable_auto_commit(false).build().unwrap();
    consumer.subscribe([TOPIC]).await.unwrap();
    take(&mut consumer, 3).await;
    let result = within(consumer.commit()).await.unwrap();
    assert_eq!(result, [(tp(0), 3)].into());
    take(&mut consumer, 2).await;
    let result = within(consumer.commit_async()).await.unwrap();
    assert_eq!(result, [(tp(0), 5)].into());
    let offsets = Offsets::new().with_details(tp(0), 1, -1, Some("again"));
    within(consumer.commit_offsets(offsets)).await.unwrap();
    closed(consumer).await.unwrap();
    assert_eq!(committed(&context).await, [(0, 1)].into());
}

#[tokio::test]
async fn a_commit_of_what_is_not_owned_says_so_by_partition() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 10), 10).await;
    let mut consumer = context.subscribed().await;
    take(&mut consumer, 3).await;
    let offsets = Offsets::new().with(tp(0), 2).with(tp(5), 2);
    let error = within(consumer.commit_offsets(offsets)).await.unwrap_err();
    assert_eq!(error.committed().keys().collect::<Vec<_>>(), [&tp(0)]);
    assert_eq!(error.failed()[&tp(5)].kind(), ErrorKind::OwnershipLost);
}

#[tokio::test]
async fn seeking_goes_anywhere_and_nothing_of_before_comes_after_it() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 1000), 10).await;
    let mut consumer = context.subscribed().await;
    take(&mut consumer, 15).await;
    consumer.seek(&tp(0), SeekTo::Offset(500)).await.unwrap();
    assert_eq!(take(&mut consumer, 3).await, numbered(0, 500, 503));
    consumer.seek(&tp(0), SeekTo::Beginning).await.unwrap();
    assert_eq!(take(&mut consumer, 3).await, numbered(0, 0, 3));
    consumer.seek(&tp(0), SeekTo::Timestamp(0)).await.unwrap();
    assert_eq!(take(&mut consumer, 1).await, numbered(0, 0, 1));
    consumer.seek(&tp(0), SeekTo::End).await.unwrap();
    assert_eq!(within(consumer.position(&tp(0))).await.unwrap(), 1000);
    context.produce(0, &numbered(0, 1000, 1001), 1).await;
    assert_eq!(take(&mut consumer, 1).await, numbered(0, 1000, 1001));
    assert!(consumer.seek(&tp(3), SeekTo::End).await.is_err());
    assert!(consumer.seek(&tp(0), SeekTo::Offset(-1)).await.is_err());
}

#[tokio::test]
async fn a_paused_partition_is_silent_and_goes_on_where_it_was() {
    let context = Context::new(2).await;
    context.produce(0, &numbered(0, 0, 50), 10).await;
    let mut consumer = context.subscribed().await;
    assert_eq!(take(&mut consumer, 5).await, numbered(0, 0, 5));
    consumer.pause([tp(0)]).unwrap();
    context.produce(1, &numbered(1, 0, 3), 10).await;
    assert_eq!(take(&mut consumer, 3).await, numbered(1, 0, 3));
    assert_quiet(&mut consumer, Duration::from_millis(200)).await;
    consumer.resume([tp(0)]).unwrap();
    assert_eq!(take(&mut consumer, 45).await, numbered(0, 5, 50));
}

#[tokio::test]
async fn assigned_by_hand_without_a_group_nothing_is_committed() {
    let context = Context::new(2).await;
    context.produce(0, &numbered(0, 0, 10), 10).await;
    context.produce(1, &numbered(1, 0, 10), 10).await;
    let mut consumer = Consumer::builder()
        .bootstrap_servers(&context.broker.bootstrap_servers())
        .auto_offset_reset(OffsetReset::Earliest)
        .build()
        .unwrap();
    consumer.assign([tp(1)]).await.unwrap();
    assert_eq!(take(&mut consumer, 10).await, numbered(1, 0, 10));
    assert!(consumer.commit().await.is_err());
    assert!(consumer.subscribe([TOPIC]).await.is_err());
    consumer.assign([tp(0), tp(1)]).await.unwrap();
    assert_eq!(take(&mut consumer, 10).await, numbered(0, 0, 10));
    assert_eq!(consumer.assignment().await.unwrap().len(), 2);
    closed(consumer).await.unwrap();
}

#[tokio::test]
async fn assigned_by_hand_under_a_group_it_goes_on_where_it_committed() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 10), 10).await;
    let mut consumer = context.builder().build().unwrap();
    consumer.assign([tp(0)]).await.unwrap();
    take(&mut consumer, 4).await;
    consumer.commit().await.unwrap();
    closed(consumer).await.unwrap();
    let mut consumer = context.builder().build().unwrap();
    consumer.assign([tp(0)]).await.unwrap();
    assert_eq!(take(&mut consumer, 6).await, numbered(0, 4, 10));
}

#[tokio::test]
async fn without_an_offset_and_without_a_reset_the_application_has_to_seek() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 10), 10).await;
    let builder = context.builder().auto_offset_reset(OffsetReset::None);
    let mut consumer = builder.build().unwrap();
    consumer.subscribe([TOPIC]).await.unwrap();
    let error = within(consumer.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoOffset, "{error}");
    consumer.seek(&tp(0), SeekTo::Offset(7)).await.unwrap();
    assert_eq!(take(&mut consumer, 3).await, numbered(0, 7, 10));
}

/// As with Java's client: nobody was asked for records before the seek, so that nothing is wrong.
#[tokio::test]
async fn who_seeks_at_once_is_not_told_that_there_is_no_offset() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 10), 10).await;
    let builder = context.builder().auto_offset_reset(OffsetReset::None);
    let mut consumer = builder.build().unwrap();
    consumer.assign([tp(0)]).await.unwrap();
    // Until it is known that nothing is committed.
    tokio::time::sleep(Duration::from_millis(300)).await;
    consumer.seek(&tp(0), SeekTo::Offset(7)).await.unwrap();
    assert_eq!(take(&mut consumer, 3).await, numbered(0, 7, 10));
}

#[tokio::test]
async fn a_position_outside_the_log_is_reset() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 10), 10).await;
    let mut consumer = context.subscribed().await;
    take(&mut consumer, 10).await;
    consumer.seek(&tp(0), SeekTo::Offset(5000)).await.unwrap();
    assert_eq!(take(&mut consumer, 2).await, numbered(0, 0, 2));
}

/// librdkafka #4844: that a partition has ended was taken for a record, and the position went past the one that came next.
#[tokio::test]
async fn the_end_of_a_partition_moves_no_position() {
    let context = Context::new(1).await;
    let mut consumer = context.subscribed().await;
    for round in 0..4 {
        assert_quiet(&mut consumer, Duration::from_millis(50)).await;
        consumer.commit().await.unwrap();
        let done = round * 3;
        assert_eq!(committed(&context).await.get(&0).copied().unwrap_or(0), done as i64);
        let values = numbered(0, done, done + 3);
        context.produce(0, &values, 2).await;
        assert_eq!(take(&mut consumer, 3).await, values, "round {round}");
    }
}

#[tokio::test]
async fn lag_is_what_is_not_consumed() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 10), 10).await;
    let mut consumer = context.subscribed().await;
    take(&mut consumer, 4).await;
    assert_eq!(consumer.lag(&tp(0)).await.unwrap(), Some(7), "the fourth is in hand");
    take(&mut consumer, 6).await;
    assert_quiet(&mut consumer, Duration::from_millis(50)).await;
    assert_eq!(consumer.lag(&tp(0)).await.unwrap(), Some(0));
}

#[tokio::test]
async fn a_partition_may_have_a_stream_of_its_own() {
    let context = Context::new(2).await;
    context.produce(0, &numbered(0, 0, 5), 10).await;
    let mut consumer = context.subscribed().await;
    take(&mut consumer, 5).await;
    let mut stream = consumer.partition_stream(&tp(1)).unwrap();
    assert!(consumer.partition_stream(&tp(1)).is_err());
    context.produce(1, &numbered(1, 0, 5), 10).await;
    for expected in numbered(1, 0, 3) {
        let record = within(stream.next()).await.unwrap().unwrap();
        assert_eq!(value(&record), expected);
    }
    assert_quiet(&mut consumer, Duration::from_millis(50)).await;
    // Who drops it in the middle of a record has not consumed that.
    drop(stream);
    let begun = Instant::now();
    assert_eq!(take(&mut consumer, 3).await, numbered(1, 2, 5));
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(700), "it is fetched again without a pause: {took:?}");
    let mut stream = consumer.partition_stream(&tp(1)).unwrap();
    consumer.unsubscribe().await.unwrap();
    assert!(within(stream.next()).await.is_none());
}

/// Records lay between what the consumer had handed out and what the stream fetched anew; they came from neither and were committed.
#[tokio::test]
async fn a_stream_that_is_begun_in_the_middle_of_what_was_fetched_goes_on_there() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 10), 10).await;
    let mut consumer = context.subscribed().await;
    assert_eq!(take(&mut consumer, 4).await, numbered(0, 0, 4));
    let mut stream = consumer.partition_stream(&tp(0)).unwrap();
    context.produce(0, &numbered(0, 10, 13), 3).await;
    for expected in numbered(0, 4, 9) {
        assert_eq!(value(&within(stream.next()).await.unwrap().unwrap()), expected);
    }
    // The main stream has nothing of it any more, and what it had is done with.
    assert_quiet(&mut consumer, Duration::from_millis(50)).await;
    assert_eq!(within(consumer.commit()).await.unwrap()[&tp(0)], 8);
    for expected in numbered(0, 9, 13) {
        assert_eq!(value(&within(stream.next()).await.unwrap().unwrap()), expected);
    }
    stream.finish();
    assert_eq!(within(consumer.handle().commit()).await.unwrap()[&tp(0)], 13);
}

#[tokio::test]
async fn a_stream_that_is_begun_after_a_batch_was_lent_goes_on_behind_it() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 9), 3).await;
    let mut consumer = context.subscribed().await;
    let batch = within(consumer.next_batch()).await.unwrap().unwrap();
    assert_eq!(batch.into_iter().count(), 3);
    let mut stream = consumer.partition_stream(&tp(0)).unwrap();
    for expected in numbered(0, 3, 9) {
        assert_eq!(value(&within(stream.next()).await.unwrap().unwrap()), expected);
    }
}

#[tokio::test]
async fn batches_and_records_may_be_asked_for_by_turns() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 12), 4).await;
    let mut consumer = context.subscribed().await;
    let mut values = vec![value(&next(&mut consumer).await)];
    let batch = within(consumer.next_batch()).await.unwrap().unwrap();
    for record in batch {
        values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
    }
    assert_eq!(values, numbered(0, 0, 4), "what is left of the batch");
    values.extend(take(&mut consumer, 2).await);
    let unacked = within(consumer.next_unacked()).await.unwrap().unwrap();
    values.push(value(unacked.record()));
    assert!(unacked.ack());
    let batch = within(consumer.next_batch()).await.unwrap().unwrap();
    assert_eq!(batch.into_iter().count(), 1);
    values.extend(numbered(0, 7, 8));
    values.extend(take(&mut consumer, 4).await);
    assert_eq!(values, numbered(0, 0, 12));
    assert_eq!(within(consumer.commit()).await.unwrap(), [(tp(0), 12)].into());
}

#[tokio::test]
async fn who_asks_for_a_position_that_there_is_none_of_is_told_at_once() {
    let context = Context::new(1).await;
    let consumer = context.builder().auto_offset_reset(OffsetReset::None).build().unwrap();
    let early = consumer.position(&tp(0)).await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::OwnershipLost, "{early}");
    consumer.assign([tp(0)]).await.unwrap();
    let error = within(consumer.position(&tp(0))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoOffset, "{error}");
    consumer.seek(&tp(0), SeekTo::Beginning).await.unwrap();
    assert_eq!(within(consumer.position(&tp(0))).await.unwrap(), 0);
}

/// As with Java's consumer.
#[tokio::test]
async fn subscribing_to_nothing_is_unsubscribing() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 3), 3).await;
    let mut consumer = context.subscribed().await;
    take(&mut consumer, 3).await;
    within(consumer.commit()).await.unwrap();
    consumer.subscribe(Vec::<String>::new()).await.unwrap();
    let empty = kavka_testkit::GroupCondition::empty();
    context.broker.wait_for_group(GROUP, empty, PATIENCE).await.unwrap();
    assert!(consumer.assignment().await.unwrap().is_empty());
    // So partitions may be assigned now.
    within(async {
        while consumer.assign([tp(0)]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(within(consumer.position(&tp(0))).await.unwrap(), 3);
}

#[tokio::test]
async fn acknowledged_out_of_order_only_a_finished_prefix_is_committed() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 5), 2).await;
    let mut consumer = context.subscribed().await;
    let mut ackers = Vec::new();
    for _ in 0..5 {
        let unacked = within(consumer.next_unacked()).await.unwrap().unwrap();
        let (_, acker) = unacked.into_parts();
        ackers.push(Some(acker));
    }
    let handle = consumer.handle();
    let mut acknowledge = |at: usize| assert!(ackers[at].take().unwrap().ack());
    assert_eq!(handle.commit().await.unwrap(), [(tp(0), 0)].into());
    acknowledge(1);
    acknowledge(0);
    acknowledge(3);
    assert_eq!(handle.commit().await.unwrap(), [(tp(0), 2)].into());
    acknowledge(2);
    assert_eq!(handle.commit().await.unwrap(), [(tp(0), 4)].into());
    acknowledge(4);
    assert_eq!(handle.commit().await.unwrap(), [(tp(0), 5)].into());
}

#[tokio::test]
async fn dropping_takes_no_time_though_the_broker_is_gone() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 5), 2).await;
    let mut consumer = context.subscribed().await;
    take(&mut consumer, 3).await;
    context.broker.crash().await;
    let start = Instant::now();
    drop(consumer);
    assert!(start.elapsed() < Duration::from_millis(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_dropped_consumer_leaves_the_group() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 5), 2).await;
    let mut consumer = context.subscribed().await;
    take(&mut consumer, 3).await;
    drop(consumer);
    let empty = kavka_testkit::GroupCondition::empty();
    context.broker.wait_for_group(GROUP, empty, Duration::from_secs(2)).await.unwrap();
    assert_eq!(committed(&context).await, [(0, 2)].into());
}

#[tokio::test]
async fn a_handle_of_a_closed_consumer_says_so() {
    let context = Context::new(1).await;
    let consumer = context.subscribed().await;
    let handle = consumer.handle();
    closed(consumer).await.unwrap();
    assert_eq!(handle.subscribe([TOPIC]).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(handle.commit().await.unwrap_err().error().kind(), ErrorKind::Closed);
}
