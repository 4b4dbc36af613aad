//! Producing to the production broker, in this process, and reading back what stands in its log.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use common::{check_sequences, read_all};
use kavka_client::{
    ErrorCode, ErrorKind, Producer, ProducerBuilder, ProducerRecord,
    producer::{Acks, Compression, PartitionedRecord, Partitioner, RoundRobin, TopicPartitions},
};
use kavka_testkit::TestBroker;

fn to(broker: &TestBroker) -> ProducerBuilder {
    Producer::builder().bootstrap_servers(&broker.bootstrap_servers())
}

async fn start(partitions: i32) -> (TestBroker, kavka_client::Uuid) {
    let broker = TestBroker::start().await;
    let id = broker.create_topic("t", partitions).await.unwrap();
    (broker, id)
}

#[tokio::test]
async fn a_record_arrives_as_it_was_sent() {
    let (broker, id) = start(2).await;
    let producer = to(&broker).build().unwrap();
    let record = ProducerRecord::to("t")
        .partition(1)
        .key("k")
        .value("v")
        .header("a", Some(b"1"))
        .header("a", None)
        .timestamp_ms(1234);
    let delivery = producer.send(record).await.unwrap();
    assert_eq!((delivery.topic(), delivery.partition()), ("t", 1));
    let delivery = delivery.await.unwrap();
    assert_eq!((delivery.topic(), delivery.partition, delivery.offset), ("t", 1, Some(0)));
    assert_eq!(delivery.timestamp_ms, 1234);
    let tombstone = producer.send(ProducerRecord::to("t").partition(1).key("k")).await.unwrap();
    assert_eq!(tombstone.await.unwrap().offset, Some(1));

    let (headers, records) = read_all(&broker, id, 1).await;
    check_sequences(&headers);
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(records[0].text(), "v");
    assert_eq!(records[0].timestamp_ms, 1234);
    let expected = [("a".to_owned(), Some(b"1".to_vec())), ("a".to_owned(), None)];
    assert_eq!(records[0].headers, expected);
    assert_eq!(records[1].value, None);
    assert!(records[1].timestamp_ms > 1_600_000_000_000);
    producer.close(Duration::from_secs(5)).await.unwrap();
    let error = producer.send(ProducerRecord::to("t")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn every_codec_and_level_is_read_back() {
    let (broker, id) = start(1).await;
    let mut settings = vec![(Compression::None, None), (Compression::Snappy, None)];
    settings.extend((1..=9).map(|level| (Compression::Gzip, Some(level))));
    settings.extend([1, 9, 17].map(|level| (Compression::Lz4, Some(level))));
    settings.extend([-131_072, -7, 1, 3, 9, 22].map(|level| (Compression::Zstd, Some(level))));
    let mut expected = Vec::new();
    for (codec, level) in settings {
        let mut builder = to(&broker).compression(codec);
        if let Some(level) = level {
            builder = builder.property(&format!("compression.{codec}.level"), &level.to_string());
        }
        let producer = builder.build().unwrap();
        for n in 0..200 {
            let value =
                format!("{codec} {level:?} {n} some text that compresses, text that compresses");
            drop(producer.send(ProducerRecord::to("t").value(&value)).await.unwrap());
            expected.push(value);
        }
        producer.close(Duration::from_secs(10)).await.unwrap();
        let (headers, _) = read_all(&broker, id, 0).await;
        assert_eq!(headers.last().unwrap().compression(), Ok(codec));
    }
    let (_, records) = read_all(&broker, id, 0).await;
    let values: Vec<&str> = records.iter().map(common::Stored::text).collect();
    assert_eq!(values, expected);
}

#[tokio::test]
async fn order_and_offsets_hold_for_many_records() {
    let (broker, id) = start(3).await;
    let producer = to(&broker).linger(Duration::ZERO).build().unwrap();
    let mut deliveries = Vec::new();
    for n in 0..20_000 {
        let value = n.to_string();
        let record = ProducerRecord::to("t").partition(n % 3).value(&value);
        deliveries.push((value.clone(), producer.send(record).await.unwrap()));
    }
    let mut delivered: BTreeMap<i32, Vec<(i64, String)>> = BTreeMap::new();
    for (value, delivery) in deliveries {
        let delivery = delivery.await.unwrap();
        delivered.entry(delivery.partition).or_default().push((delivery.offset.unwrap(), value));
    }
    for partition in 0..3 {
        let (headers, records) = read_all(&broker, id, partition).await;
        check_sequences(&headers);
        let stored: Vec<(i64, String)> =
            records.iter().map(|record| (record.offset, record.text().to_owned())).collect();
        assert_eq!(stored, delivered[&partition]);
    }
    assert_eq!(producer.buffered_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_share_a_producer_and_each_keeps_its_order() {
    let (broker, id) = start(4).await;
    let producer = to(&broker).buffer_memory(100_000).build().unwrap();
    let mut tasks = Vec::new();
    for task in 0..32 {
        let producer = producer.clone();
        tasks.push(tokio::spawn(async move {
            let key = format!("task {task}");
            let mut deliveries = Vec::new();
            for n in 0..500 {
                let value = n.to_string();
                let record = ProducerRecord::to("t").key(&key).value(&value);
                deliveries.push(producer.send(record).await.unwrap());
            }
            for delivery in deliveries {
                delivery.await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let mut by_key: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
    for partition in 0..4 {
        let (headers, records) = read_all(&broker, id, partition).await;
        check_sequences(&headers);
        for record in records {
            by_key.entry(record.key.clone().unwrap()).or_default().push(record.text().to_owned());
        }
    }
    let expected: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    assert_eq!(by_key.len(), 32);
    assert!(by_key.values().all(|values| *values == expected));
}

#[tokio::test]
async fn acks_none_and_leader_deliver_too() {
    let (broker, id) = start(1).await;
    for (acks, has_offset) in [(Acks::None, false), (Acks::Leader, true), (Acks::All, true)] {
        let producer = to(&broker).acks(acks).build().unwrap();
        let delivery = producer.send(ProducerRecord::to("t").value("v")).await.unwrap();
        assert_eq!(delivery.await.unwrap().offset.is_some(), has_offset, "{acks:?}");
        producer.close(Duration::from_secs(5)).await.unwrap();
    }
    broker.wait_for_records("t", 3, Duration::from_secs(5)).await.unwrap();
    let (headers, _) = read_all(&broker, id, 0).await;
    let idempotent: Vec<bool> = headers.iter().map(|header| header.has_producer_id()).collect();
    assert_eq!(idempotent, [false, false, true]);
}

#[tokio::test]
async fn flush_does_not_wait_for_the_linger() {
    let (broker, _) = start(1).await;
    let producer = to(&broker).linger(Duration::from_secs(20)).build().unwrap();
    let began = Instant::now();
    let mut deliveries = Vec::new();
    for _ in 0..3 {
        deliveries.push(producer.send(ProducerRecord::to("t").value("v")).await.unwrap());
    }
    producer.flush().await;
    assert!(began.elapsed() < Duration::from_secs(5));
    for (offset, delivery) in deliveries.into_iter().enumerate() {
        let delivery = tokio::time::timeout(Duration::ZERO, delivery).await;
        assert_eq!(delivery.unwrap().unwrap().offset, Some(offset as i64));
    }
    producer.flush().await;
}

#[tokio::test]
async fn a_lingering_batch_leaves_when_its_time_has_come() {
    let (broker, _) = start(1).await;
    let producer = to(&broker).linger(Duration::from_millis(150)).build().unwrap();
    producer.partition_count("t").await.unwrap();
    let first = producer.send(ProducerRecord::to("t").value("a")).await.unwrap();
    let began = Instant::now();
    let second = producer.send(ProducerRecord::to("t").value("b")).await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(100), "{:?}", began.elapsed());
    let (_, records) = read_all(&broker, broker_topic(&broker).await, 0).await;
    assert_eq!(records.len(), 2);
}

async fn broker_topic(broker: &TestBroker) -> kavka_client::Uuid {
    kavka_testkit::raw::RawClient::connect(broker.addr()).await.topic_id("t").await
}

#[tokio::test]
async fn memory_is_bounded_and_taken_again() {
    let (broker, id) = start(1).await;
    let rule = broker.on(kavka_testkit::ApiKey::Produce).hold();
    let producer = to(&broker)
        .buffer_memory(64 << 10)
        .linger(Duration::from_secs(3600))
        .max_block(Duration::from_millis(300))
        .property("delivery.timeout.ms", "2000000000")
        .build()
        .unwrap();
    producer.partition_count("t").await.unwrap();
    let value = [b'x'; 1000];
    let mut deliveries = Vec::new();
    let error = loop {
        match producer.try_send(&ProducerRecord::to("t").value(&value)) {
            Ok(delivery) => deliveries.push(delivery),
            Err(error) => break error,
        }
        assert!(producer.buffered_bytes() <= 64 << 10);
    };
    assert_eq!(error.kind(), ErrorKind::BufferFull);
    assert!(error.is_retriable());
    assert_eq!(producer.buffered_bytes(), 64 << 10, "four batches of 16 KiB");
    assert!((56..=64).contains(&deliveries.len()), "{}", deliveries.len());

    let began = Instant::now();
    let error = producer.send(ProducerRecord::to("t").value(&value)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("max.block.ms"), "{error}");
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(290) && waited < Duration::from_secs(3), "{waited:?}");

    // One that waits gets the room of a batch that is delivered, although the batches were to linger for an hour.
    let waiting = producer.send(ProducerRecord::to("t").value("last"));
    let release = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        rule.release();
    };
    let (last, ()) = tokio::join!(waiting, release);
    let last = last.unwrap();
    producer.flush().await;
    last.await.unwrap();
    assert_eq!(producer.buffered_bytes(), 0);
    let count = deliveries.len();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let (_, records) = read_all(&broker, id, 0).await;
    assert_eq!(records.len(), count + 1);
    assert_eq!(records[count].text(), "last");
}

#[tokio::test]
async fn records_that_can_never_fit_are_refused_at_once() {
    let (broker, _) = start(1).await;
    let producer = to(&broker).max_request_size(1000).build().unwrap();
    let value = vec![0; 1000];
    let error = producer.send(ProducerRecord::to("t").value(&value)).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Record, Some(ErrorCode::MessageTooLarge)));
    assert!(error.to_string().contains("max.request.size"), "{error}");
    let producer = to(&broker).buffer_memory(1000).build().unwrap();
    let error = producer.try_send(&ProducerRecord::to("t").value(&value)).unwrap_err();
    assert!(error.to_string().contains("buffer.memory"), "{error}");
    let error = producer.send(ProducerRecord::to("t").timestamp_ms(-1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Record);
    let error = producer.send(ProducerRecord::to("t").partition(-1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Record);
}

#[tokio::test]
async fn a_batch_too_large_for_the_topic_is_split() {
    let broker = TestBroker::start().await;
    let id = broker.create_topic_with("t", 1, &[("max.message.bytes", "1500")]).await.unwrap();
    for codec in [Compression::None, Compression::Lz4] {
        let producer = to(&broker).compression(codec).build().unwrap();
        let mut deliveries = Vec::new();
        for n in 0..200_u32 {
            // Does not compress.
            let value: Vec<u8> = (0..100_u32)
                .map(|at| {
                    (n.wrapping_mul(2_654_435_761).wrapping_add(at.wrapping_mul(at * 40_503)) >> 13)
                        as u8
                })
                .collect();
            let key = n.to_string();
            let record = ProducerRecord::to("t").partition(0).key(&key).value(&value);
            deliveries.push(producer.send(record).await.unwrap());
        }
        let mut offsets = Vec::new();
        for delivery in deliveries {
            offsets.push(delivery.await.unwrap().offset.unwrap());
        }
        assert!(offsets.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{offsets:?}");
        let (headers, records) = read_all(&broker, id, 0).await;
        let mine = headers.iter().filter(|header| header.compression() == Ok(codec));
        check_sequences(&mine.copied().collect::<Vec<_>>());
        for (n, offset) in offsets.iter().enumerate() {
            let record = &records[usize::try_from(*offset).unwrap()];
            assert_eq!(record.key.as_deref(), Some(n.to_string().as_bytes()));
        }
    }
    // One record alone cannot be split, and what comes after it is delivered.
    let producer = to(&broker).build().unwrap();
    let large = [0; 3000];
    let too_large = producer.send(ProducerRecord::to("t").value(&large)).await.unwrap();
    let error = too_large.await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge));
    let next = producer.send(ProducerRecord::to("t").value("small")).await.unwrap();
    next.await.unwrap();
}

#[tokio::test]
async fn records_that_the_broker_refuses_are_named_one_by_one() {
    let broker = TestBroker::start().await;
    broker.create_topic_with("t", 1, &[("cleanup.policy", "compact")]).await.unwrap();
    let producer = to(&broker).build().unwrap();
    producer.partition_count("t").await.unwrap();
    let good = producer.send(ProducerRecord::to("t").key("k").value("v")).await.unwrap();
    let bad = producer.send(ProducerRecord::to("t").value("v")).await.unwrap();
    let (good, bad) = (good.await.unwrap_err(), bad.await.unwrap_err());
    assert_eq!(bad.code(), Some(ErrorCode::InvalidRecord));
    assert!(good.to_string().contains("another record"), "{good}");
    assert!(!bad.to_string().contains("another record"), "{bad}");
    let next = producer.send(ProducerRecord::to("t").key("k").value("v")).await.unwrap();
    assert_eq!(next.await.unwrap().offset, Some(0));
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_waited_for() {
    let broker = TestBroker::start().await;
    let producer = to(&broker).max_block(Duration::from_millis(400)).build().unwrap();
    let began = Instant::now();
    let error = producer.send(ProducerRecord::to("later").value("v")).await.unwrap_err();
    assert!(began.elapsed() >= Duration::from_millis(390));
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition), "{error}");
    assert!(error.to_string().contains("max.block.ms"), "{error}");
    let error = producer.send(ProducerRecord::to("no spaces").value("v")).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidTopicException));

    let producer = to(&broker).build().unwrap();
    let (sent, _) = tokio::join!(producer.send(ProducerRecord::to("later").value("v")), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        broker.create_topic("later", 1).await.unwrap()
    });
    sent.unwrap().await.unwrap();
    let error = producer.try_send(&ProducerRecord::to("other")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BufferFull);
}

#[tokio::test]
async fn keys_go_where_javas_partitioner_puts_them_unless_they_are_ignored() {
    let (broker, _) = start(12).await;
    let producer = to(&broker).build().unwrap();
    // What Java's producer does with these, of a topic of 12 partitions.
    let placed: [(&[u8], i32); 4] = [
        (b"\x61\x24\x04\xe0\x2d\x86\xec\x32\xfd", 3),
        (b"\x11\x31\xcb\xa8\xdf\xec\x23\x71\xfa\x57", 6),
        (b"\x43\x0f\x5b\x0e\x0d\xad\xd2\x67\x27\x6a\xeb", 6),
        (b"\x52\xa0\x5b\xc7\x28\x83\xdc\x08\x74\xd2\x50\x41", 2),
    ];
    for (key, partition) in placed {
        let delivery = producer.send(ProducerRecord::to("t").key(key)).await.unwrap();
        assert_eq!(delivery.await.unwrap().partition, partition, "{key:x?}");
    }
    let ignoring = to(&broker).property("partitioner.ignore.keys", "true").build().unwrap();
    let mut partitions = Vec::new();
    for n in 0..20 {
        let key = n.to_string();
        partitions
            .push(ignoring.send(ProducerRecord::to("t").key(&key)).await.unwrap().partition());
    }
    assert!(partitions.iter().all(|partition| *partition == partitions[0]), "{partitions:?}");
}

#[tokio::test]
async fn records_without_key_stick_to_a_partition_for_a_batch_and_reach_all() {
    let (broker, _) = start(4).await;
    let producer = to(&broker).batch_size(2000).build().unwrap();
    let value = [b'x'; 100];
    let mut runs: Vec<(i32, u32)> = Vec::new();
    let mut deliveries = Vec::new();
    for _ in 0..4000 {
        let delivery = producer.send(ProducerRecord::to("t").value(&value)).await.unwrap();
        match runs.last_mut() {
            Some((partition, length)) if *partition == delivery.partition() => *length += 1,
            _ => runs.push((delivery.partition(), 1)),
        }
        deliveries.push(delivery);
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let short = runs[..runs.len() - 1].iter().filter(|(_, length)| *length < 13).count();
    assert_eq!(short, 0, "{runs:?}");
    let reached: std::collections::BTreeSet<i32> = runs.iter().map(|(at, _)| *at).collect();
    assert_eq!(reached.len(), 4);
}

#[derive(Debug)]
struct ByLength;

impl Partitioner for ByLength {
    fn partition(&self, record: &PartitionedRecord<'_>, topic: &TopicPartitions<'_>) -> i32 {
        assert_eq!((topic.name(), topic.count()), ("t", 3));
        record.value.map_or(0, <[u8]>::len) as i32
    }
}

#[tokio::test]
async fn partitioners_of_ones_own_choose() {
    let (broker, _) = start(3).await;
    let producer = to(&broker).partitioner(ByLength).build().unwrap();
    for (value, partition) in [("", 0), ("a", 1), ("aa", 2)] {
        let delivery = producer.send(ProducerRecord::to("t").value(value)).await.unwrap();
        assert_eq!(delivery.await.unwrap().partition, partition);
    }
    let error = producer.send(ProducerRecord::to("t").value("aaa")).await.unwrap_err();
    assert!(error.to_string().contains("partition 3"), "{error}");
    let in_turn = to(&broker).partitioner(RoundRobin::default()).build().unwrap();
    let mut partitions = Vec::new();
    for _ in 0..4 {
        partitions.push(in_turn.send(ProducerRecord::to("t").key("k")).await.unwrap().partition());
    }
    assert_eq!(partitions, [0, 1, 2, 0]);
}

#[tokio::test]
async fn partitioner_and_codec_are_taken_by_their_kafka_names() {
    let (broker, id) = start(3).await;
    let producer = to(&broker)
        .property("partitioner.class", "org.apache.kafka.clients.producer.RoundRobinPartitioner")
        .property("compression.type", "lz4")
        .build()
        .unwrap();
    let mut partitions = Vec::new();
    for _ in 0..4 {
        let record = ProducerRecord::to("t").key("k").value("v");
        partitions.push(producer.send(record).await.unwrap().await.unwrap().partition);
    }
    assert_eq!(partitions, [0, 1, 2, 0]);
    let (headers, _) = read_all(&broker, id, 0).await;
    assert!(headers.iter().all(|header| header.compression() == Ok(Compression::Lz4)));
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused() {
    let build = |name: &str, value: &str| {
        Producer::builder().bootstrap_servers("localhost:1").property(name, value).build()
    };
    let error = build("batch.siez", "1").unwrap_err();
    assert_eq!(error.to_string(), "there is no property batch.siez; did you mean batch.size?");
    assert_eq!(build("transactional.id", "t").unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(build("acks", "2").unwrap_err().kind(), ErrorKind::Config);
    assert!(
        build("key.serializer", "org.apache.kafka.common.serialization.StringSerializer").is_ok()
    );
    assert_eq!(Producer::builder().build().unwrap_err().kind(), ErrorKind::Config);
}

/// As in Java: the pause between two looks at metadata is not for what was never asked for.
#[tokio::test]
async fn many_new_topics_do_not_each_wait_for_a_pause() {
    let broker = TestBroker::start().await;
    let names: Vec<String> = (0..50).map(|n| format!("new-{n}")).collect();
    for name in &names {
        broker.create_topic(name, 1).await.unwrap();
    }
    let producer = to(&broker).property("retry.backoff.ms", "1000").build().unwrap();
    let begun = Instant::now();
    for name in &names {
        drop(producer.send(ProducerRecord::to(name).value("v")).await.unwrap());
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    producer.close(Duration::from_secs(10)).await.unwrap();
}
