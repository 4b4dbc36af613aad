//! Producing while requests are lost, refused, delayed, and brokers crash: nothing acknowledged is lost, nothing is twice, order holds.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use common::{check_sequences, read_all};
use kavka_client::{
    DeliveryFuture, Error, ErrorCode, ErrorKind, Producer, ProducerBuilder, ProducerRecord, Uuid,
    producer::Acks,
};
use kavka_testkit::{ApiKey, TestBroker};

/// A builder with short pauses, so that tests of retries are quick.
fn to(broker: &TestBroker) -> ProducerBuilder {
    Producer::builder()
        .bootstrap_servers(&broker.bootstrap_servers())
        .property("retry.backoff.ms", "2")
        .property("retry.backoff.max.ms", "20")
        .property("reconnect.backoff.ms", "2")
        .property("reconnect.backoff.max.ms", "20")
}

async fn start() -> (TestBroker, Uuid) {
    let broker = TestBroker::start().await;
    let id = broker.create_topic("t", 1).await.unwrap();
    (broker, id)
}

/// Sends numbers, in order.
async fn send_numbers(
    producer: &Producer,
    numbers: std::ops::Range<u32>,
) -> Vec<(String, DeliveryFuture)> {
    let mut deliveries = Vec::new();
    for n in numbers {
        let value = n.to_string();
        let delivery = producer.send(ProducerRecord::to("t").value(&value)).await.unwrap();
        deliveries.push((value, delivery));
    }
    deliveries
}

/// Checks that the log holds exactly what was delivered, in order, where it was said to be.
async fn check_exactly(broker: &TestBroker, id: Uuid, deliveries: Vec<(String, DeliveryFuture)>) {
    let mut delivered = Vec::new();
    for (value, delivery) in deliveries {
        let offset = delivery.await.unwrap_or_else(|error| panic!("{value}: {error}")).offset;
        delivered.push((offset, value));
    }
    let (headers, records) = read_all(broker, id, 0).await;
    check_sequences(&headers);
    let stored: Vec<&str> = records.iter().map(common::Stored::text).collect();
    let values: Vec<&str> = delivered.iter().map(|(_, value)| &**value).collect();
    assert_eq!(stored, values);
    for (n, (offset, _)) in delivered.iter().enumerate() {
        // Nobody knows the offset of a duplicate that the broker remembers no more.
        assert!(offset.is_none_or(|offset| offset == n as i64), "{n}: {offset:?}");
    }
}

#[tokio::test]
async fn order_holds_with_five_in_flight_whatever_becomes_of_requests() {
    let (broker, id) = start().await;
    let produce = || broker.on(ApiKey::Produce);
    produce().nth(3).fail(ErrorCode::NotLeaderOrFollower);
    produce().nth(9).close();
    produce().nth(17).close_unanswered();
    produce().nth(23).fail(ErrorCode::NotEnoughReplicas);
    produce().nth(24).fail(ErrorCode::KafkaStorageError);
    produce().nth(31).lose_answer();
    produce().nth(36).ignore();
    produce().nth(47).delay_answer(Duration::from_millis(30));
    produce().nth(48).delay(Duration::from_millis(20));
    produce().nth(53).close_unanswered();
    produce().nth(54).close_unanswered();
    produce().nth(61).fail(ErrorCode::RequestTimedOut);
    let producer = to(&broker)
        .linger(Duration::ZERO)
        .batch_size(300)
        .request_timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    let deliveries = send_numbers(&producer, 0..3000).await;
    check_exactly(&broker, id, deliveries).await;
}

#[tokio::test]
async fn a_crash_of_the_broker_loses_and_repeats_nothing() {
    let (broker, id) = start().await;
    let producer = to(&broker).linger(Duration::ZERO).batch_size(500).build().unwrap();
    let sending = send_numbers(&producer, 0..6000);
    let crashing = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            broker.crash().await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            broker.restart().await.unwrap();
        }
    };
    let (deliveries, ()) = tokio::join!(sending, crashing);
    check_exactly(&broker, id, deliveries).await;
}

#[tokio::test]
async fn without_idempotence_one_request_in_flight_keeps_order_and_loses_nothing() {
    let (broker, id) = start().await;
    broker.on(ApiKey::Produce).nth(3).close();
    broker.on(ApiKey::Produce).nth(6).close_unanswered();
    broker.on(ApiKey::Produce).nth(9).fail(ErrorCode::NotLeaderOrFollower);
    let producer = to(&broker)
        .idempotence(false)
        .max_in_flight(1)
        .linger(Duration::ZERO)
        .batch_size(300)
        .build()
        .unwrap();
    for (value, delivery) in send_numbers(&producer, 0..500).await {
        delivery.await.unwrap_or_else(|error| panic!("{value}: {error}"));
    }
    let (_, records) = read_all(&broker, id, 0).await;
    let mut seen = Vec::new();
    for record in &records {
        let n: u32 = record.text().parse().unwrap();
        // A batch whose answer was lost is there twice, as a whole.
        if !seen.contains(&n) {
            seen.push(n);
        }
    }
    assert_eq!(seen, (0..500).collect::<Vec<_>>());
    assert!(records.len() > 500, "the rule that lost an answer did not hit");
}

#[tokio::test]
async fn sequences_that_the_broker_does_not_take_begin_anew_in_a_higher_epoch() {
    for code in [ErrorCode::OutOfOrderSequenceNumber, ErrorCode::UnknownProducerId] {
        let (broker, id) = start().await;
        broker.on(ApiKey::Produce).nth(4).fail(code);
        let producer = to(&broker).linger(Duration::ZERO).batch_size(200).build().unwrap();
        let deliveries = send_numbers(&producer, 0..300).await;
        check_exactly(&broker, id, deliveries).await;
        let (headers, _) = read_all(&broker, id, 0).await;
        assert_eq!(headers.last().unwrap().producer_epoch, 1, "{code}");
    }
}

#[tokio::test]
async fn a_batch_that_the_broker_refuses_fails_alone() {
    for code in [ErrorCode::InvalidProducerEpoch, ErrorCode::TopicAuthorizationFailed] {
        let (broker, id) = start().await;
        let rule = broker.on(ApiKey::Produce).nth(3).fail(code);
        let producer = to(&broker).linger(Duration::ZERO).batch_size(200).build().unwrap();
        let mut delivered = Vec::new();
        let mut failed = 0;
        for (value, delivery) in send_numbers(&producer, 0..300).await {
            match delivery.await {
                Ok(_) => delivered.push(value),
                Err(error) => {
                    assert_eq!(error.code(), Some(code), "{error}");
                    failed += 1;
                }
            }
        }
        assert_eq!(rule.hits(), 1);
        assert!(failed > 0 && failed < 30, "{failed}");
        let (headers, records) = read_all(&broker, id, 0).await;
        check_sequences(&headers);
        let stored: Vec<&str> = records.iter().map(common::Stored::text).collect();
        assert_eq!(stored, delivered);
    }
}

#[tokio::test]
async fn a_duplicate_that_the_broker_remembers_no_more_is_delivered_without_offset() {
    let (broker, _) = start().await;
    broker.on(ApiKey::Produce).nth(1).fail(ErrorCode::DuplicateSequenceNumber);
    let producer = to(&broker).build().unwrap();
    let delivery = producer.send(ProducerRecord::to("t").value("v")).await.unwrap();
    assert_eq!(delivery.await.unwrap().offset, None);
}

#[tokio::test]
async fn retries_end_where_they_are_set_to() {
    let (broker, _) = start().await;
    let rule = broker.on(ApiKey::Produce).first(3).fail(ErrorCode::NotEnoughReplicas);
    let producer = to(&broker).retries(2).build().unwrap();
    let delivery = producer.send(ProducerRecord::to("t").value("v")).await.unwrap();
    let error = delivery.await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NotEnoughReplicas));
    assert_eq!(rule.hits(), 3);
    let delivery = producer.send(ProducerRecord::to("t").value("w")).await.unwrap();
    delivery.await.unwrap();
}

#[tokio::test]
async fn delivery_timeout_bounds_everything_and_what_follows_is_delivered() {
    let (broker, id) = start().await;
    let producer = to(&broker)
        .linger(Duration::ZERO)
        .request_timeout(Duration::from_millis(200))
        .delivery_timeout(Duration::from_secs(1))
        .build()
        .unwrap();
    producer.partition_count("t").await.unwrap();
    // On the wire and never answered; handled, and never answered; refused again and again.
    for fault in 0..3 {
        broker.clear_rules();
        match fault {
            0 => broker.on(ApiKey::Produce).ignore(),
            1 => broker.on(ApiKey::Produce).lose_answer(),
            _ => broker.on(ApiKey::Produce).fail(ErrorCode::NotEnoughReplicas),
        };
        let began = Instant::now();
        let value = format!("late {fault}");
        let late = producer.send(ProducerRecord::to("t").value(&value)).await.unwrap();
        let error = late.await.unwrap_err();
        let took = began.elapsed();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("delivery.timeout.ms"), "{error}");
        assert!(took > Duration::from_millis(990) && took < Duration::from_secs(3), "{took:?}");
        broker.clear_rules();
        let value = format!("next {fault}");
        let next = producer.send(ProducerRecord::to("t").value(&value)).await.unwrap();
        next.await.unwrap();
    }
    let (headers, records) = read_all(&broker, id, 0).await;
    check_sequences(&headers);
    let stored: Vec<&str> = records.iter().map(common::Stored::text).collect();
    // One more attempt may be on its way when the record is given up, and arrive after the fault.
    let possible = ["late 0", "next 0", "late 1", "next 1", "late 2", "next 2"];
    let certain = ["next 0", "late 1", "next 1", "next 2"];
    let expected: Vec<&str> = possible
        .into_iter()
        .filter(|value| certain.contains(value) || stored.contains(value))
        .collect();
    assert_eq!(stored, expected, "each once, in order");
    assert_eq!(producer.buffered_bytes(), 0);
}

#[tokio::test]
async fn a_broker_that_is_gone_is_reported_in_time() {
    let (broker, _) = start().await;
    let producer = to(&broker)
        .request_timeout(Duration::from_millis(200))
        .delivery_timeout(Duration::from_millis(600))
        .max_block(Duration::from_millis(300))
        .build()
        .unwrap();
    producer.partition_count("t").await.unwrap();
    broker.crash().await;
    let began = Instant::now();
    let delivery = producer.send(ProducerRecord::to("t").value("v")).await.unwrap();
    let error = delivery.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(began.elapsed() < Duration::from_secs(2));
    let began = Instant::now();
    let error = producer.send(ProducerRecord::to("other").value("v")).await.unwrap_err();
    assert!(error.is_retriable(), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn close_reports_what_was_not_delivered_within_its_deadline() {
    let (broker, _) = start().await;
    let producer = to(&broker).build().unwrap();
    let mut deliveries = send_numbers(&producer, 0..10).await;
    producer.flush().await;
    broker.crash().await;
    deliveries.extend(send_numbers(&producer, 10..17).await);
    let waiting = producer.clone();
    let began = Instant::now();
    let undelivered = producer.close(Duration::from_millis(200)).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    assert_eq!(undelivered.records(), 7);
    assert_eq!(undelivered.partitions().collect::<Vec<_>>(), [("t", 0, 7)]);
    assert!(undelivered.to_string().starts_with("7 records of 1 partitions"), "{undelivered}");
    for (n, (_, delivery)) in deliveries.into_iter().enumerate() {
        let outcome = tokio::time::timeout(Duration::from_secs(1), delivery).await.unwrap();
        assert_eq!(outcome.is_ok(), n < 10, "{n}");
        assert!(outcome.err().is_none_or(|error| error.kind() == ErrorKind::Closed));
    }
    assert!(waiting.send(ProducerRecord::to("t").value("v")).await.is_err());
    waiting.close(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn who_waits_for_room_hears_of_a_close() {
    let (broker, _) = start().await;
    let rule = broker.on(ApiKey::Produce).hold();
    let producer = to(&broker).buffer_memory(16_384).build().unwrap();
    let value = [0; 9000];
    let first = producer.send(ProducerRecord::to("t").value(&value)).await.unwrap();
    let closing = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let close = producer.close(Duration::from_secs(5));
        let release = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            rule.release();
        };
        tokio::join!(close, release).0
    };
    let (waited, closed) =
        tokio::join!(producer.send(ProducerRecord::to("t").value(&value)), closing);
    assert_eq!(waited.unwrap_err().kind(), ErrorKind::Closed);
    closed.unwrap();
    first.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drop_never_waits_and_what_was_taken_is_delivered() {
    let (broker, id) = start().await;
    let producer = to(&broker).linger(Duration::from_secs(10)).build().unwrap();
    let deliveries = send_numbers(&producer, 0..100).await;
    let began = Instant::now();
    drop(producer);
    let took = began.elapsed();
    assert!(took < Duration::from_millis(1), "{took:?}");
    check_exactly(&broker, id, deliveries).await;

    let producer = to(&broker).build().unwrap();
    producer.partition_count("t").await.unwrap();
    broker.crash().await;
    let mut lost = send_numbers(&producer, 0..100).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let began = Instant::now();
    drop(producer);
    let took = began.elapsed();
    assert!(took < Duration::from_millis(1), "{took:?}");
    let began = Instant::now();
    lost.truncate(50);
    drop(lost);
    assert!(began.elapsed() < Duration::from_millis(1));
}

#[test]
fn a_runtime_that_ends_fails_what_was_not_delivered() {
    let outer = tokio::runtime::Runtime::new().unwrap();
    let broker = outer.block_on(TestBroker::start());
    outer.block_on(broker.create_topic("t", 1)).unwrap();
    let _rule = broker.on(ApiKey::Produce).ignore();
    let inner = tokio::runtime::Runtime::new().unwrap();
    let (_producers, deliveries) = inner.block_on(async {
        let quick = to(&broker).linger(Duration::ZERO).build().unwrap();
        let slow = to(&broker).linger(Duration::from_secs(10)).build().unwrap();
        let mut deliveries = send_numbers(&quick, 0..5).await;
        deliveries.extend(send_numbers(&slow, 0..5).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
        ([quick, slow], deliveries)
    });
    inner.shutdown_background();
    for (_, delivery) in deliveries {
        let outcome =
            outer.block_on(async { tokio::time::timeout(Duration::from_secs(5), delivery).await });
        assert_eq!(outcome.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    }
}

/// Polls a future so often, then drops it.
async fn poll_times<F: Future>(future: F, times: u32) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..times {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None
}

#[tokio::test]
async fn dropping_any_future_at_any_await_loses_and_repeats_nothing() {
    let (broker, id) = start().await;
    let _slow = broker.on(ApiKey::Produce).delay_answer(Duration::from_millis(2));
    let mut taken: Vec<String> = Vec::new();
    let mut refused = 0;
    for round in 0..12 {
        // A new one each time: the first record waits for metadata too. The buffer holds one batch.
        let producer = to(&broker).buffer_memory(16_384).linger(Duration::ZERO).build().unwrap();
        for n in 0..8 {
            let value = format!("{round} {n} {}", "x".repeat(9000));
            let record = ProducerRecord::to("t").value(&value);
            match poll_times(producer.send(record), (round + n) % 6).await {
                Some(delivery) => {
                    taken.push(value.clone());
                    let delivery = delivery.unwrap();
                    let _: Option<Result<_, Error>> = poll_times(delivery, n % 3).await;
                }
                None => refused += 1,
            }
            let _: Option<()> = poll_times(producer.flush(), n % 2).await;
        }
        // Closed all the same once it was polled, and what was taken goes on.
        let polls = round % 3;
        drop(poll_times(producer.close(Duration::from_secs(5)), polls).await);
        if polls > 0 {
            assert!(producer.send(ProducerRecord::to("t")).await.is_err());
        }
        let last = producer.clone();
        drop(producer);
        last.close(Duration::from_secs(5)).await.unwrap();
    }
    assert!(refused > 10 && taken.len() > 10, "{refused} {}", taken.len());
    let (_, records) = read_all(&broker, id, 0).await;
    let stored: Vec<&str> = records.iter().map(common::Stored::text).collect();
    assert_eq!(stored, taken);
}

#[tokio::test]
async fn without_acks_a_connection_that_breaks_holds_nothing_up() {
    let (broker, _) = start().await;
    broker.on(ApiKey::Produce).nth(2).close();
    let producer = to(&broker).acks(Acks::None).linger(Duration::ZERO).build().unwrap();
    for n in 0..50 {
        let value = n.to_string();
        let delivery = producer.send(ProducerRecord::to("t").value(&value)).await.unwrap();
        delivery.await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    producer.close(Duration::from_secs(5)).await.unwrap();
    let stored = broker.end_offsets("t").unwrap()[0];
    assert!((45..=50).contains(&stored), "{stored}");
}

#[tokio::test]
async fn a_producer_id_that_is_refused_fails_records_and_the_next_ones_ask_again() {
    let (broker, _) = start().await;
    broker.on(ApiKey::InitProducerId).nth(1).fail(ErrorCode::CoordinatorLoadInProgress);
    broker.on(ApiKey::InitProducerId).nth(1).fail(ErrorCode::ClusterAuthorizationFailed);
    let producer = to(&broker).build().unwrap();
    let delivery = producer.send(ProducerRecord::to("t").value("v")).await.unwrap();
    let error = delivery.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authorization);
    assert!(error.advice().contains("IDEMPOTENT_WRITE"), "{}", error.advice());
    let delivery = producer.send(ProducerRecord::to("t").value("v")).await.unwrap();
    delivery.await.unwrap();
}

#[tokio::test]
async fn partitions_that_a_topic_gains_are_found() {
    let (broker, _) = start().await;
    let producer = to(&broker).property("metadata.max.age.ms", "50").build().unwrap();
    assert_eq!(producer.partition_count("t").await.unwrap(), 1);
    let admin = kavka_client::Admin::builder().bootstrap_servers(&broker.bootstrap_servers());
    let admin = admin.build().unwrap();
    let grown = kavka_client::admin::NewPartitions::up_to(3);
    let grown = admin.create_partitions([("t", grown)], kavka_client::admin::Change::Apply).await;
    grown["t"].clone().unwrap();
    let delivery = producer.send(ProducerRecord::to("t").partition(2).value("v")).await.unwrap();
    assert_eq!(delivery.await.unwrap().partition, 2);
    assert_eq!(producer.partition_count("t").await.unwrap(), 3);
}

/// As in Java, where only the thread waits that asked for it.
#[tokio::test]
async fn a_record_for_a_partition_that_is_not_there_holds_up_no_other() {
    let (broker, _) = start().await;
    let producer = to(&broker).max_block(Duration::from_millis(1500)).build().unwrap();
    let beyond = producer.send(ProducerRecord::to("t").partition(7).value("v"));
    let mut beyond = pin!(beyond);
    tokio::select! {
        biased;
        early = &mut beyond => panic!("{early:?}"),
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
    }
    let begun = Instant::now();
    for record in [ProducerRecord::to("t").value("v"), ProducerRecord::to("t").partition(0)] {
        producer.send(record).await.unwrap().await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_millis(700), "{:?}", begun.elapsed());
    let error = beyond.await.unwrap_err();
    assert!(error.to_string().contains("t has 1 partitions; the record is for 7"), "{error}");
}

#[tokio::test]
async fn records_for_a_partition_that_comes_keep_their_order() {
    let (broker, id) = start().await;
    let producer = to(&broker).property("metadata.max.age.ms", "50").build().unwrap();
    assert_eq!(producer.partition_count("t").await.unwrap(), 1);
    let values: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let sending = values.iter().map(|value| {
        let producer = producer.clone();
        let value = value.clone();
        tokio::spawn(async move {
            let record = ProducerRecord::to("t").partition(1).value(&value);
            producer.send(record).await.unwrap().await.unwrap();
        })
    });
    let sending: Vec<_> = sending.collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let admin = kavka_client::Admin::builder().bootstrap_servers(&broker.bootstrap_servers());
    let grown = kavka_client::admin::NewPartitions::up_to(2);
    let apply = kavka_client::admin::Change::Apply;
    admin.build().unwrap().create_partitions([("t", grown)], apply).await["t"].clone().unwrap();
    for sent in sending {
        sent.await.unwrap();
    }
    let (_, records) = read_all(&broker, id, 1).await;
    assert!(records.iter().map(common::Stored::text).eq(values.iter().map(|value| &**value)));
}

/// Nobody answers at this address; an attempt to connect takes longer than this test.
#[tokio::test]
async fn who_waits_for_metadata_hears_of_a_close() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let producer = Producer::builder().bootstrap_servers(&address).build().unwrap();
    let closing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let begun = Instant::now();
        producer.close(Duration::from_secs(5)).await.unwrap();
        begun
    };
    let first = producer.send(ProducerRecord::to("t").value("first"));
    let behind = producer.send(ProducerRecord::to("t").value("behind it"));
    let count = producer.partition_count("t");
    let (first, behind, count, begun) = tokio::join!(first, behind, count, closing);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    for error in [first.unwrap_err(), behind.unwrap_err(), count.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    }
}

#[tokio::test]
async fn a_topic_that_is_made_anew_is_written_from_its_beginning() {
    let (broker, _) = start().await;
    let producer = to(&broker).linger(Duration::ZERO).build().unwrap();
    for (_, delivery) in send_numbers(&producer, 0..10).await {
        delivery.await.unwrap();
    }
    let admin = kavka_client::Admin::builder().bootstrap_servers(&broker.bootstrap_servers());
    admin.build().unwrap().delete_topics(["t"]).await["t"].clone().unwrap();
    let while_away = producer.send(ProducerRecord::to("t").value("10")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let id = broker.create_topic("t", 2).await.unwrap();
    assert_eq!(while_away.await.unwrap().offset, Some(0));
    for n in 1..100 {
        let record = ProducerRecord::to("t").partition(0).value("v");
        let delivery = producer.send(record).await.unwrap();
        if n % 10 == 0 {
            assert_eq!(delivery.await.unwrap().offset, Some(n));
        }
    }
    producer.flush().await;
    assert_eq!(read_all(&broker, id, 0).await.1.len(), 100);
}

#[tokio::test]
async fn times_without_end_are_taken() {
    let (broker, _) = start().await;
    let producer = to(&broker)
        .max_block(Duration::MAX)
        .linger(Duration::MAX)
        .property("metadata.max.age.ms", "9223372036854775807")
        .property("connections.max.idle.ms", "9223372036854775807")
        .property("metadata.max.idle.ms", "9223372036854775807")
        .build()
        .unwrap();
    assert_eq!(producer.partition_count("t").await.unwrap(), 1);
    let delivery = producer.send(ProducerRecord::to("t").value("v")).await.unwrap();
    producer.flush().await;
    delivery.await.unwrap();
    producer.close(Duration::MAX).await.unwrap();
}

#[derive(Debug)]
struct Bad;

impl kavka_client::producer::Partitioner for Bad {
    fn partition(
        &self,
        record: &kavka_client::producer::PartitionedRecord<'_>,
        _: &kavka_client::producer::TopicPartitions<'_>,
    ) -> i32 {
        match record.key {
            Some(_) => panic!("the partitioner panics"),
            None => record.value.map_or(0, |value| i32::from(value[0]) - 5),
        }
    }
}

#[tokio::test]
async fn a_partitioner_that_is_wrong_harms_nobody_else() {
    let (broker, _) = start().await;
    let producer = to(&broker).partitioner(Bad).build().unwrap();
    for outside in [[0], [6]] {
        let record = ProducerRecord::to("t").value(&outside);
        let error = producer.send(record).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("of t, which has 1"), "{error}");
    }
    let panics = producer.clone();
    let panicked = tokio::spawn(async move {
        let _ = panics.send(ProducerRecord::to("t").key("k")).await;
    });
    assert!(panicked.await.unwrap_err().is_panic());
    producer.send(ProducerRecord::to("t")).await.unwrap().await.unwrap();
}
