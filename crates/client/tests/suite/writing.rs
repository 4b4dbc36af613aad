//! What is written comes back as it was: codecs, keys, values, headers, times, sizes.

use std::time::Duration;

use kavka_client::{
    ErrorKind, ProducerRecord,
    producer::{Acks, Compression},
};

use crate::context::*;

#[tokio::test]
async fn records_of_every_codec_come_back_as_they_were() {
    let context = Context::new(1).await;
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    let mut sent = Vec::new();
    for codec in codecs {
        let producer = context.producer().compression(codec).linger(Duration::from_millis(20));
        let producer = producer.build().unwrap();
        let mut deliveries = Vec::new();
        for number in 0..200 {
            let value = format!("{codec:?}-{number}-{}", "abc".repeat(number));
            let record = ProducerRecord::to(&context.topic).value(&value);
            deliveries.push(within(producer.send(record)).await.unwrap());
            sent.push(value);
        }
        for delivery in deliveries {
            within(delivery).await.unwrap();
        }
        within(producer.close(PATIENCE)).await.unwrap();
    }
    let mut consumer = context.subscribed().await;
    assert_eq!(take(&mut consumer, sent.len()).await, sent);
    close(consumer).await;
}

#[tokio::test]
async fn null_and_empty_are_two_things_in_keys_values_and_headers() {
    let context = Context::new(1).await;
    let producer = context.producer().build().unwrap();
    let topic = &context.topic;
    let records = [
        ProducerRecord::to(topic),
        ProducerRecord::to(topic).key("").value(""),
        ProducerRecord::to(topic).key("k"),
        ProducerRecord::to(topic)
            .value("v")
            .header("twice", Some(b"1"))
            .header("", Some(b""))
            .header("twice", None)
            .header("bytes", Some(&[0, 255, 128])),
    ];
    for record in &records {
        context.send(&producer, record.clone()).await;
    }
    let mut consumer = context.subscribed().await;
    let mut seen = Vec::new();
    for _ in &records {
        seen.push(next(&mut consumer).await);
    }
    let bytes = |bytes: Option<&bytes::Bytes>| bytes.map(|bytes| bytes.to_vec());
    let pairs: Vec<_> = seen.iter().map(|r| (bytes(r.key()), bytes(r.value()))).collect();
    let some = |text: &str| Some(text.as_bytes().to_vec());
    let expected = [(None, None), (some(""), some("")), (some("k"), None), (None, some("v"))];
    assert_eq!(pairs, expected);
    let headers: Vec<_> = seen[3]
        .headers()
        .iter()
        .map(|header| (header.key.to_vec(), bytes(header.value.as_ref())))
        .collect();
    let expected = [
        (b"twice".to_vec(), some("1")),
        (b"".to_vec(), some("")),
        (b"twice".to_vec(), None),
        (b"bytes".to_vec(), Some(vec![0, 255, 128])),
    ];
    assert_eq!(headers, expected);
    assert_eq!(seen[3].header("bytes").map(|value| value.to_vec()), Some(vec![0, 255, 128]));
    close(consumer).await;
}

#[tokio::test]
async fn deliveries_say_where_and_when_records_were_written() {
    let context = Context::new(2).await;
    let producer = context.producer().build().unwrap();
    for number in 0..3 {
        let record = ProducerRecord::to(&context.topic).partition(1).value("v");
        let delivery = context.send(&producer, record.timestamp_ms(1000 + number)).await;
        assert_eq!((delivery.partition, delivery.offset), (1, Some(number)));
        assert_eq!(delivery.timestamp_ms, 1000 + number);
    }
    let mut consumer = context.subscribed().await;
    for number in 0..3 {
        let record = next(&mut consumer).await;
        assert_eq!((record.partition(), record.offset()), (1, number));
        assert_eq!(record.timestamp(), Some(1000 + number));
    }
    close(consumer).await;
}

#[tokio::test]
async fn a_topic_of_append_times_gives_the_brokers_time() {
    let context = Context::with_configs(1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let producer = context.producer().build().unwrap();
    let record = ProducerRecord::to(&context.topic).value("v").timestamp_ms(5);
    let delivery = context.send(&producer, record).await;
    assert!(delivery.timestamp_ms > 1_000_000_000_000, "{delivery:?}");
    let mut consumer = context.subscribed().await;
    assert_eq!(next(&mut consumer).await.timestamp(), Some(delivery.timestamp_ms));
    close(consumer).await;
}

#[tokio::test]
async fn a_large_record_passes_where_it_may_and_is_refused_where_not() {
    let context = Context::with_configs(1, &[("max.message.bytes", "3000000")]).await;
    let producer = context.producer().max_request_size(8 << 20).build().unwrap();
    let pattern: Vec<u8> =
        (0..2_500_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    context.send(&producer, ProducerRecord::to(&context.topic).value(&pattern)).await;
    let too_large = vec![7; 4_000_000];
    let record = ProducerRecord::to(&context.topic).value(&too_large);
    let refused = within(within(producer.send(record)).await.unwrap()).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Record | ErrorKind::Broker), "{refused:?}");
    context.send(&producer, ProducerRecord::to(&context.topic).value("after")).await;
    // Larger than what a fetch of a partition asks for: it comes all the same (KIP-74).
    let builder = context.consumer().property("max.partition.fetch.bytes", "1000");
    let mut consumer = builder.build().unwrap();
    consumer.subscribe([&context.topic]).await.unwrap();
    assert_eq!(next(&mut consumer).await.value().unwrap(), &pattern);
    assert_eq!(take(&mut consumer, 1).await, ["after"]);
    close(consumer).await;
}

#[tokio::test]
async fn keys_stay_together_and_in_order() {
    let context = Context::new(5).await;
    let producer = context.producer().build().unwrap();
    let mut deliveries = Vec::new();
    for number in 0..500 {
        let (key, value) = (format!("k{}", number % 20), number.to_string());
        let record = ProducerRecord::to(&context.topic).key(&key).value(&value);
        deliveries.push(within(producer.send(record)).await.unwrap());
    }
    for delivery in deliveries {
        within(delivery).await.unwrap();
    }
    let mut consumer = context.subscribed().await;
    let mut last = std::collections::BTreeMap::new();
    for _ in 0..500 {
        let record = next(&mut consumer).await;
        let number: u32 = text(&record).parse().unwrap();
        let key = record.key().unwrap().to_vec();
        if let Some((partition, before)) = last.insert(key, (record.partition(), number)) {
            assert_eq!(partition, record.partition());
            assert!(before < number);
        }
    }
    close(consumer).await;
}

#[tokio::test]
async fn every_kind_of_acks_delivers() {
    let context = Context::new(1).await;
    for acks in [Acks::None, Acks::Leader, Acks::All] {
        let producer = context.producer().acks(acks).idempotence(false).build().unwrap();
        let delivery = context.send(&producer, ProducerRecord::to(&context.topic).value("v")).await;
        assert_eq!(delivery.offset.is_none(), acks == Acks::None);
        within(producer.close(PATIENCE)).await.unwrap();
    }
    let mut consumer = context.subscribed().await;
    assert_eq!(take(&mut consumer, 3).await, ["v", "v", "v"]);
    close(consumer).await;
}
