//! Where reading begins and goes on: offsets, times, seeking, pausing, resets, whole batches.

use std::time::Duration;

use kavka_client::{
    ErrorKind, IsolationLevel, ProducerRecord,
    admin::{DeleteBefore, OffsetSpec},
    consumer::{OffsetReset, SeekTo},
};

use crate::context::*;

#[tokio::test]
async fn offsets_are_found_by_beginning_end_and_time() {
    let context = Context::new(2).await;
    let producer = context.producer().build().unwrap();
    for (number, time) in [100, 300, 200, 400].into_iter().enumerate() {
        let value = number.to_string();
        let record = ProducerRecord::to(&context.topic).partition(0).value(&value);
        context.send(&producer, record.timestamp_ms(time)).await;
    }
    let offset_at = async |partition, spec| {
        let asked = [(context.tp(partition), spec)];
        let found = context.admin.list_offsets(asked, IsolationLevel::ReadUncommitted).await;
        found[&context.tp(partition)].clone().map(|found| found.map(|found| found.offset))
    };
    for (spec, expected) in [
        (OffsetSpec::Earliest, Some(0)),
        (OffsetSpec::Latest, Some(4)),
        (OffsetSpec::Timestamp(0), Some(0)),
        (OffsetSpec::Timestamp(101), Some(1)),
        (OffsetSpec::Timestamp(201), Some(1)),
        (OffsetSpec::Timestamp(301), Some(3)),
        (OffsetSpec::Timestamp(401), None),
    ] {
        assert_eq!(within(offset_at(0, spec)).await.unwrap(), expected, "{spec:?}");
    }
    let newest = within(offset_at(0, OffsetSpec::MaxTimestamp)).await;
    match is_before(3, 0) {
        true => is_unsupported(newest, "3.0"),
        false => assert_eq!(newest.unwrap(), Some(3)),
    }
    assert_eq!(within(offset_at(1, OffsetSpec::Latest)).await.unwrap(), Some(0));
    assert_eq!(within(offset_at(1, OffsetSpec::Timestamp(0))).await.unwrap(), None);
}

#[tokio::test]
async fn a_consumer_seeks_to_offsets_times_and_both_ends() {
    let context = Context::new(1).await;
    let producer = context.producer().build().unwrap();
    for number in 0..10 {
        let value = number.to_string();
        let record = ProducerRecord::to(&context.topic).value(&value);
        context.send(&producer, record.timestamp_ms(1000 + number)).await;
    }
    let mut consumer = context.subscribed().await;
    assert_eq!(take(&mut consumer, 10).await.len(), 10);
    for (to, first) in [
        (SeekTo::Offset(7), "7"),
        (SeekTo::Beginning, "0"),
        (SeekTo::Timestamp(1004), "4"),
        (SeekTo::Offset(9), "9"),
    ] {
        within(consumer.seek(&context.tp(0), to)).await.unwrap();
        let expected: i64 = first.parse().unwrap();
        assert_eq!(within(consumer.position(&context.tp(0))).await.unwrap(), expected, "{to:?}");
        assert_eq!(take(&mut consumer, 1).await, [first], "{to:?}");
    }
    within(consumer.seek(&context.tp(0), SeekTo::End)).await.unwrap();
    assert_eq!(within(consumer.position(&context.tp(0))).await.unwrap(), 10);
    context.produce(0, &["new".to_owned()]).await;
    assert_eq!(take(&mut consumer, 1).await, ["new"]);
    close(consumer).await;
}

#[tokio::test]
async fn a_paused_partition_rests_while_others_go_on() {
    let context = Context::new(2).await;
    context.produce(0, &numbered(0, 0, 20)).await;
    let mut consumer = context.subscribed().await;
    assert_eq!(take(&mut consumer, 5).await, numbered(0, 0, 5));
    consumer.pause([context.tp(0)]).unwrap();
    context.produce(1, &numbered(1, 0, 20)).await;
    assert_eq!(take(&mut consumer, 20).await, numbered(1, 0, 20));
    consumer.resume([context.tp(0)]).unwrap();
    assert_eq!(take(&mut consumer, 15).await, numbered(0, 5, 20));
    close(consumer).await;
}

#[tokio::test]
async fn reset_policies_are_followed() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 5)).await;
    let assigned = async |reset| {
        let consumer = context.consumer().auto_offset_reset(reset).build().unwrap();
        consumer.assign([context.tp(0)]).await.unwrap();
        consumer
    };
    let mut earliest = assigned(OffsetReset::Earliest).await;
    assert_eq!(take(&mut earliest, 5).await, numbered(0, 0, 5));
    close(earliest).await;
    let mut latest = assigned(OffsetReset::Latest).await;
    assert_eq!(within(latest.position(&context.tp(0))).await.unwrap(), 5);
    context.produce(0, &numbered(0, 5, 6)).await;
    assert_eq!(take(&mut latest, 1).await, numbered(0, 5, 6));
    close(latest).await;
    let hour = Duration::from_secs(3600);
    let mut recent = assigned(OffsetReset::ByDuration(hour)).await;
    assert_eq!(take(&mut recent, 6).await, numbered(0, 0, 6));
    close(recent).await;
    let mut none = assigned(OffsetReset::None).await;
    let error = within(none.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoOffset, "{error}");
    within(none.seek(&context.tp(0), SeekTo::Offset(4))).await.unwrap();
    assert_eq!(take(&mut none, 2).await, numbered(0, 4, 6));
    close(none).await;
}

#[tokio::test]
async fn a_commit_before_the_start_of_the_log_is_reset() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 10)).await;
    let mut consumer = context.subscribed().await;
    take(&mut consumer, 3).await;
    within(consumer.commit()).await.unwrap();
    close(consumer).await;
    let before = [(context.tp(0), DeleteBefore::Offset(6))];
    let deleted = within(context.admin.delete_records(before)).await;
    assert_eq!(deleted[&context.tp(0)].clone().unwrap(), 6);
    let mut consumer = context.subscribed().await;
    assert_eq!(take(&mut consumer, 4).await, numbered(0, 6, 10));
    close(consumer).await;
}

#[tokio::test]
async fn whole_batches_are_lent() {
    let context = Context::new(3).await;
    for partition in 0..3 {
        context.produce(partition, &numbered(partition, 0, 100)).await;
    }
    let mut consumer = context.subscribed().await;
    let mut seen = [0i64; 3];
    while seen.iter().sum::<i64>() < 300 {
        let batch = within(consumer.next_batch()).await.unwrap().unwrap();
        let place = usize::try_from(batch.partition()).unwrap();
        for record in &batch {
            let record = record.unwrap();
            assert_eq!(record.offset, seen[place]);
            let expected = format!("p{place}-{}", record.offset);
            assert_eq!(record.value.unwrap(), expected.as_bytes());
            seen[place] += 1;
        }
        assert_eq!(batch.next_offset(), seen[place]);
    }
    within(consumer.commit()).await.unwrap();
    assert_eq!(context.committed_offset(2).await, Some(100));
    close(consumer).await;
}

#[tokio::test]
async fn a_fetch_that_waits_is_answered_when_something_comes() {
    let context = Context::new(1).await;
    let mut consumer = context.subscribed().await;
    let wait = tokio::time::timeout(Duration::from_millis(300), consumer.next()).await;
    assert!(wait.is_err(), "{wait:?}");
    context.produce(0, &numbered(0, 0, 1)).await;
    assert_eq!(take(&mut consumer, 1).await, numbered(0, 0, 1));
    close(consumer).await;
}
