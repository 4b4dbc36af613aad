//! Many handlers at once: order, retries, dead letters, stopping.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use kavka_client::{
    Producer,
    consumer::{DeadLetter, Ordering, Record, Retry},
};

use kavka_testkit::{ApiKey, ErrorCode};

use crate::context::*;

type Seen = Arc<Mutex<Vec<String>>>;

fn pause(record: &Record) -> Duration {
    Duration::from_micros(u64::from(
        record.value().unwrap().iter().map(|b| u32::from(*b)).sum::<u32>() * 7919 % 3000,
    ))
}

#[tokio::test]
async fn keys_are_worked_on_in_order_and_everything_is_committed_at_the_end() {
    let context = Context::new(2).await;
    let producer =
        Producer::builder().bootstrap_servers(&context.broker.bootstrap_servers()).build().unwrap();
    for number in 0..400 {
        let (key, value) = (format!("k{}", number % 10), format!("{number:04}"));
        let record = kavka_client::ProducerRecord::to(TOPIC).key(&key).value(&value);
        drop(producer.send(record).await.unwrap());
    }
    producer.flush().await;
    let seen: Arc<Mutex<BTreeMap<String, Vec<String>>>> = Arc::default();
    let consumer = context.subscribed().await;
    let processor = consumer.process(Ordering::Key, 16);
    let stopper = processor.stopper();
    let noted = Arc::clone(&seen);
    let handler = move |record: Record| {
        let (seen, stopper) = (Arc::clone(&noted), stopper.clone());
        async move {
            tokio::time::sleep(pause(&record)).await;
            let mut seen = seen.lock().unwrap();
            let key = String::from_utf8(record.key().unwrap().to_vec()).unwrap();
            seen.entry(key).or_default().push(value(&record));
            if seen.values().map(Vec::len).sum::<usize>() == 400 {
                stopper.stop();
            }
            Ok::<(), String>(())
        }
    };
    let processed = within(processor.run(handler)).await.unwrap();
    assert_eq!(processed.succeeded, 400);
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    for values in seen.values() {
        assert_eq!(values.len(), 40);
        assert!(values.is_sorted(), "{values:?}");
    }
    let ends = context.broker.end_offsets(TOPIC).unwrap();
    let ends: BTreeMap<i32, i64> = (0..).zip(ends).collect();
    assert_eq!(committed(&context).await, ends);
}

#[tokio::test]
async fn what_fails_for_the_last_time_becomes_a_dead_letter_that_says_where_it_is_from() {
    let context = Context::new(1).await;
    context.broker.create_topic("dead", 1).await.unwrap();
    context.produce(0, &numbered(0, 0, 10), 3).await;
    let producer =
        Producer::builder().bootstrap_servers(&context.broker.bootstrap_servers()).build().unwrap();
    let processor = context
        .subscribed()
        .await
        .process(Ordering::Partition, 4)
        .retry(Retry::attempts(3).backoff(Duration::from_millis(1), Duration::from_millis(5)))
        .dead_letter(DeadLetter::to(producer, "dead"));
    let stopper = processor.stopper();
    let handler = move |record: Record| {
        let stopper = stopper.clone();
        async move {
            match value(&record).as_str() {
                "p0-4" => return Err("it is the fourth"),
                "p0-9" => stopper.stop(),
                _ => {}
            }
            Ok(())
        }
    };
    let processed = within(processor.run(handler)).await.unwrap();
    assert_eq!((processed.succeeded, processed.dead_letters, processed.retries), (9, 1, 2));
    assert_eq!(committed(&context).await, [(0, 10)].into());

    let mut reader = context.builder().build().unwrap();
    reader.assign([kavka_client::TopicPartition::new("dead", 0)]).await.unwrap();
    let letter = next(&mut reader).await;
    assert_eq!(value(&letter), "p0-4");
    let note = |name: &str| {
        let note = letter.header(&format!("__kavka.errors.{name}")).unwrap();
        String::from_utf8(note.to_vec()).unwrap()
    };
    assert_eq!(note("topic"), TOPIC);
    assert_eq!((note("partition"), note("offset")), ("0".into(), "4".into()));
    assert_eq!((note("consumer.group"), note("attempts")), (GROUP.into(), "3".into()));
    assert_eq!(note("message"), "it is the fourth");
}

#[tokio::test]
async fn without_a_dead_letter_topic_it_stops_in_front_of_the_record() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 10), 3).await;
    let processor =
        context.subscribed().await.process(Ordering::Partition, 4).retry(Retry::never());
    let handler = async move |record: Record| match value(&record).as_str() {
        "p0-4" => panic!("on purpose"),
        _ => Ok::<(), String>(()),
    };
    let handler = Arc::new(handler);
    let error = within(processor.run(move |record| {
        let handler = Arc::clone(&handler);
        async move { handler(record).await }
    }))
    .await
    .unwrap_err();
    assert!(error.to_string().contains("offset 4: the handler panicked"), "{error}");
    assert_eq!(committed(&context).await, [(0, 4)].into());
}

/// Begun all the same, it would be worked on again after the one that it stands behind.
#[tokio::test]
async fn a_record_behind_one_that_failed_is_not_begun() {
    for ordering in [Ordering::Partition, Ordering::Key] {
        let context = Context::new(1).await;
        let servers = context.broker.bootstrap_servers();
        let producer = Producer::builder().bootstrap_servers(&servers).build().unwrap();
        for number in 0..10 {
            let value = number.to_string();
            let record = kavka_client::ProducerRecord::to(TOPIC).key("k").value(&value);
            producer.send(record).await.unwrap().await.unwrap();
        }
        let processor = context.subscribed().await.process(ordering, 4).retry(Retry::never());
        let seen: Seen = Arc::default();
        let noted = Arc::clone(&seen);
        let error = within(processor.run(move |record: Record| {
            let noted = Arc::clone(&noted);
            async move {
                noted.lock().unwrap().push(value(&record));
                // Those behind it are there by now, and wait.
                tokio::time::sleep(Duration::from_millis(20)).await;
                if value(&record) == "3" { Err("on purpose") } else { Ok(()) }
            }
        }))
        .await
        .unwrap_err();
        assert!(error.to_string().contains("offset 3"), "{error}");
        assert_eq!(*seen.lock().unwrap(), ["0", "1", "2", "3"], "{ordering:?}");
        assert_eq!(committed(&context).await, [(0, 3)].into());
    }
}

#[tokio::test]
async fn a_handler_that_panics_is_tried_again_as_one_that_fails() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 4), 4).await;
    let retry = Retry::attempts(4).backoff(Duration::from_millis(1), Duration::from_millis(5));
    let processor = context.subscribed().await.process(Ordering::Partition, 2).retry(retry);
    let stopper = processor.stopper();
    let seen: Seen = Arc::default();
    let noted = Arc::clone(&seen);
    let processed = within(processor.run(move |record: Record| {
        let (noted, stopper) = (Arc::clone(&noted), stopper.clone());
        let attempt = {
            let mut noted = noted.lock().unwrap();
            noted.push(value(&record));
            noted.len()
        };
        // Before it makes a future, too.
        assert!(attempt != 2, "on purpose");
        async move {
            assert!(attempt != 3, "on purpose");
            if attempt == 7 {
                stopper.stop();
            }
            if attempt == 4 { Err("on purpose") } else { Ok(()) }
        }
    }))
    .await
    .unwrap();
    assert_eq!((processed.succeeded, processed.retries), (4, 3));
    assert_eq!(*seen.lock().unwrap(), ["p0-0", "p0-1", "p0-1", "p0-1", "p0-1", "p0-2", "p0-3"]);
    assert_eq!(committed(&context).await, [(0, 4)].into());
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_written_stops_in_front_of_the_record() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 6), 3).await;
    let producer = Producer::builder()
        .bootstrap_servers(&context.broker.bootstrap_servers())
        .property("max.block.ms", "300")
        .build()
        .unwrap();
    context.broker.on(ApiKey::Metadata).topic("dead").fail(ErrorCode::TopicAuthorizationFailed);
    let processor = context
        .subscribed()
        .await
        .process(Ordering::Partition, 4)
        .retry(Retry::never())
        .dead_letter(DeadLetter::to(producer, "dead"));
    let seen: Seen = Arc::default();
    let noted = Arc::clone(&seen);
    let error = within(processor.run(move |record: Record| {
        let noted = Arc::clone(&noted);
        async move {
            noted.lock().unwrap().push(value(&record));
            if value(&record) == "p0-2" { Err("on purpose") } else { Ok(()) }
        }
    }))
    .await
    .unwrap_err();
    assert!(error.to_string().contains("burying orders-0 offset 2"), "{error}");
    assert_eq!(*seen.lock().unwrap(), numbered(0, 0, 3));
    assert_eq!(committed(&context).await, [(0, 2)].into());
}

/// A few records, one at a time, each of which takes longer than `max.poll.interval.ms`: there is room for more, so the application is there.
#[tokio::test]
async fn handlers_that_are_slower_than_the_poll_interval_lose_nothing_while_there_is_room() {
    let context = Context::new(1).await;
    context.produce(0, &numbered(0, 0, 3), 3).await;
    let consumer = context.builder().max_poll_interval(Duration::from_millis(300)).build().unwrap();
    consumer.subscribe([TOPIC]).await.unwrap();
    let handle = consumer.handle();
    let processor = consumer.process(Ordering::Partition, 1);
    let stopper = processor.stopper();
    let seen: Seen = Arc::default();
    let noted = Arc::clone(&seen);
    let processed = within(processor.run(move |record: Record| {
        let (noted, stopper, handle) = (Arc::clone(&noted), stopper.clone(), handle.clone());
        async move {
            tokio::time::sleep(Duration::from_millis(900)).await;
            let group = handle.metrics().await.unwrap().group.unwrap();
            noted.lock().unwrap().push(value(&record));
            assert_eq!(group.lost_partitions, 0);
            if value(&record) == "p0-2" {
                stopper.stop();
            }
            Ok::<(), String>(())
        }
    }))
    .await
    .unwrap();
    assert_eq!((processed.succeeded, &*seen.lock().unwrap()), (3, &numbered(0, 0, 3)));
}

#[tokio::test]
async fn two_processors_lose_nothing_while_partitions_move_between_them() {
    let context = Arc::new(Context::new(4).await);
    for partition in 0..4 {
        context.produce(partition, &numbered(partition, 0, 300), 10).await;
    }
    let seen: Seen = Arc::default();
    let start = async |assignor: &str| {
        let consumer =
            context.builder().assignors(&[assignor]).enable_auto_commit(false).build().unwrap();
        consumer.subscribe([TOPIC]).await.unwrap();
        let processor = consumer.process(Ordering::Unordered, 8);
        let stopper = processor.stopper();
        let seen = Arc::clone(&seen);
        let running = tokio::spawn(processor.run(move |record: Record| {
            let seen = Arc::clone(&seen);
            async move {
                tokio::time::sleep(pause(&record)).await;
                seen.lock().unwrap().push(value(&record));
                Ok::<(), String>(())
            }
        }));
        (stopper, running)
    };
    let (stop_first, first) = start("cooperative-sticky").await;
    tokio::time::sleep(Duration::from_millis(80)).await;
    let (stop_second, second) = start("cooperative-sticky").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop_first.stop();
    within(first).await.unwrap().unwrap();
    let wanted: Vec<String> = (0..4).flat_map(|p| numbered(p, 0, 300)).collect();
    within(async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let seen = seen.lock().unwrap();
            if wanted.iter().all(|value| seen.contains(value)) {
                return;
            }
        }
    })
    .await;
    stop_second.stop();
    within(second).await.unwrap().unwrap();
    let mut values = seen.lock().unwrap().clone();
    values.sort();
    let before = values.len();
    values.dedup();
    assert_eq!(values.len(), 1200);
    assert_eq!(before, 1200, "what was finished is committed before partitions go");
    assert_eq!(committed(&context).await, (0..4).map(|p| (p, 300)).collect());
}

#[tokio::test]
async fn a_processor_that_stops_does_not_wait_for_a_revocation_that_only_it_could_take() {
    let context = Context::new(2).await;
    context.produce(0, &numbered(0, 0, 3), 3).await;
    let processor = context.subscribed().await.process(Ordering::Key, 4);
    let stopper = processor.stopper();
    let handler = move |record: Record| {
        let stopper = stopper.clone();
        async move {
            if value(&record) == "p0-2" {
                stopper.stop();
            }
            Ok::<(), String>(())
        }
    };
    // It would be given up after half of the 30 s that closing may take.
    let run = tokio::time::timeout(Duration::from_secs(10), processor.run(handler));
    let processed = run.await.expect("without waiting for the deadline").unwrap();
    assert_eq!(processed.succeeded, 3);
    assert_eq!(committed(&context).await[&0], 3);
}
