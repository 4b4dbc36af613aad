//! Produce and fetch over a socket.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{Client, batch, fetch_request, now_ms, produce_request, start, values};
use kavka_protocol::{
    ApiKey, ErrorCode, Message,
    messages::{
        ApiVersionsRequest, FetchRequest, InitProducerIdRequest, ListOffsetsRequest,
        ProduceRequest, RequestHeader,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    },
    records::{BatchBuilder, Compression, Compressor},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_produced_is_fetched_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let topic = client.create_topic("t", 2).await;
    assert_eq!(client.produce(topic, 0, batch(&["a", "b"])).await.base_offset, 0);
    assert_eq!(client.produce(topic, 0, batch(&["c"])).await.base_offset, 2);
    assert_eq!(client.fetch_values(topic, 0, 0).await, ["a", "b", "c"]);
    assert_eq!(client.fetch_values(topic, 0, 2).await, ["c"], "from the middle");
    assert!(client.fetch_values(topic, 1, 0).await.is_empty());
    broker.stop().await.unwrap();

    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    assert_eq!(client.topic_id("t").await, topic, "the same topic");
    assert_eq!(client.fetch_values(topic, 0, 0).await, ["a", "b", "c"]);
    assert_eq!(client.produce(topic, 0, batch(&["d"])).await.base_offset, 3);
    broker.stop().await.unwrap();
}

/// Nisshi: a fetch from an offset inside a batch hung.
#[tokio::test(flavor = "multi_thread")]
async fn nisshi_a_fetch_from_every_offset_inside_of_batches_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let topic = client.create_topic("t", 1).await;
    let mut all: Vec<String> = Vec::new();
    for codec in Compression::ALL {
        for size in [1, 2, 7] {
            let mut builder = BatchBuilder::new(0).with_compression(codec);
            for _ in 0..size {
                all.push(format!("value {}", all.len()));
                let value = all[all.len() - 1].as_bytes();
                builder.append(now_ms(), None, Some(value), &[]).unwrap();
            }
            let batch = builder.build_with(&mut Compressor::new(codec, None).unwrap()).unwrap();
            assert_eq!(client.produce(topic, 0, batch).await.error_code, ErrorCode::None);
        }
    }
    for offset in 0..all.len() {
        let read = client.fetch_values(topic, 0, offset as i64).await;
        // The batch comes whole; a client leaves out what is before the offset.
        assert!(read.ends_with(&all[offset..]), "from offset {offset}: {read:?}");
        assert!(read.len() < all.len() - offset + 7, "from offset {offset}: {read:?}");
    }
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_durable_and_visible_also_with_acks_1() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let topic = client.create_topic("t", 1).await;
    for offset in 0..20 {
        let acks = if offset % 2 == 0 { 1 } else { -1 };
        let request =
            ProduceRequest { acks, ..produce_request(topic, 0, batch(&[&offset.to_string()])) };
        client.call(request).await;
        // Nothing above what the disk has is ever served.
        assert_eq!(client.fetch_values(topic, 0, offset).await, [offset.to_string()]);
    }
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_is_stored_as_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let topic = client.create_topic("t", 1).await;
    let mut expected = Vec::new();
    for codec in Compression::ALL {
        let value = format!("{codec} ").repeat(50);
        let mut builder = BatchBuilder::new(0).with_compression(codec);
        builder.append(now_ms(), None, Some(value.as_bytes()), &[]).unwrap();
        let batch = builder.build_with(&mut Compressor::new(codec, None).unwrap()).unwrap();
        let row = client.produce(topic, 0, batch).await;
        assert_eq!(row.error_code, ErrorCode::None, "{codec}: {row:?}");
        expected.push(value);
    }
    assert_eq!(client.fetch_values(topic, 0, 0).await, expected);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_fetch_wakes_on_an_append_and_not_before_min_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut producer = Client::connect(broker.address()).await;
    let mut consumer = Client::connect(broker.address()).await;
    let topic = producer.create_topic("t", 1).await;
    let one = batch(&["x"]);
    let request = FetchRequest {
        max_wait_ms: 15_000,
        min_bytes: one.len() as i32 * 2,
        ..fetch_request(topic, 0, 0)
    };
    let id = consumer.send(&request, 18).await;
    let began = Instant::now();
    producer.produce(topic, 0, one.clone()).await;
    let early = tokio::time::timeout(Duration::from_millis(200), consumer.receive_frame()).await;
    assert!(early.is_err(), "one batch is less than min_bytes");
    producer.produce(topic, 0, one).await;
    let frame = consumer.receive_frame().await.unwrap();
    let response = common::decode_response::<FetchRequest>(frame, id, 18);
    assert_eq!(values(&response), ["x", "x"]);
    assert!(began.elapsed() < Duration::from_secs(10), "woken, not timed out");
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_with_nothing_to_read_waits_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let topic = client.create_topic("t", 1).await;
    let began = Instant::now();
    let request = FetchRequest { max_wait_ms: 300, ..fetch_request(topic, 0, 0) };
    let response = client.call(request).await;
    assert!(values(&response).is_empty());
    assert!(began.elapsed() >= Duration::from_millis(300));
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_of_nothing_but_unknown_topics_is_answered_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let unknown = kavka_protocol::Uuid::from_bytes([7; 16]);
    let began = Instant::now();
    let request = FetchRequest { max_wait_ms: 15_000, ..fetch_request(unknown, 0, 0) };
    let response = client.call(request).await;
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::UnknownTopicId);
    assert!(began.elapsed() < Duration::from_secs(10), "it did not wait");

    let topic = client.create_topic("t", 1).await;
    let mut request = FetchRequest { max_wait_ms: 300, ..fetch_request(topic, 0, 0) };
    request.topics.extend(fetch_request(unknown, 0, 0).topics);
    let began = Instant::now();
    client.call(request).await;
    assert!(began.elapsed() >= Duration::from_millis(300), "it waited for the topic that is there");
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_larger_than_the_limits_is_returned_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let topic = client.create_topic("t", 2).await;
    let large = "y".repeat(10_000);
    for partition in 0..2 {
        client.produce(topic, partition, batch(&[&large])).await;
    }
    let mut request = FetchRequest { max_bytes: 100, ..fetch_request(topic, 0, 0) };
    request.topics[0].partitions[0].partition_max_bytes = 10;
    let mut second = request.topics[0].partitions[0].clone();
    second.partition = 1;
    request.topics[0].partitions.push(second);
    let response = client.call(request).await;
    assert_eq!(values(&response), [large], "the first partition whole, the second left for later");
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_serves_every_partition_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let topic = client.create_topic("t", 3).await;
    for partition in 0..3 {
        client.produce(topic, partition, batch(&["z"])).await;
    }
    let mut request = FetchRequest { max_bytes: 1, session_epoch: 0, ..fetch_request(topic, 0, 0) };
    for partition in 1..3 {
        let mut more = request.topics[0].partitions[0].clone();
        more.partition = partition;
        request.topics[0].partitions.push(more);
    }
    let first = client.call(request.clone()).await;
    assert_ne!(first.session_id, 0);
    let served = |response: &kavka_protocol::messages::FetchResponse| {
        response
            .responses
            .iter()
            .flat_map(|topic| &topic.partitions)
            .filter(|row| row.records.as_ref().is_some_and(|records| !records.is_empty()))
            .map(|row| row.partition_index)
            .collect::<Vec<_>>()
    };
    let mut order = served(&first);
    for epoch in 1..3 {
        let again = FetchRequest {
            session_id: first.session_id,
            session_epoch: epoch,
            topics: Vec::new(),
            ..request.clone()
        };
        order.extend(served(&client.call(again).await));
    }
    order.sort();
    assert_eq!(order, [0, 1, 2], "nobody starves");
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_an_idempotent_producer_is_answered_and_not_appended_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let topic = client.create_topic("t", 1).await;
    let producer =
        client.call(InitProducerIdRequest { transactional_id: None, ..Default::default() }).await;
    assert_eq!(producer.error_code, ErrorCode::None);
    let sequence = |base: i32| {
        let mut builder = BatchBuilder::new(0).with_producer(producer.producer_id, 0, base);
        builder.append(now_ms(), None, Some(format!("{base}").as_bytes()), &[]).unwrap();
        builder.build().unwrap()
    };
    for base in 0..3 {
        assert_eq!(client.produce(topic, 0, sequence(base)).await.base_offset, i64::from(base));
    }
    assert_eq!(client.produce(topic, 0, sequence(1)).await.base_offset, 1);
    let gap = client.produce(topic, 0, sequence(7)).await;
    assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber);
    broker.stop().await.unwrap();

    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    assert_eq!(client.produce(topic, 0, sequence(2)).await.base_offset, 2);
    assert_eq!(client.produce(topic, 0, sequence(3)).await.base_offset, 3);
    assert_eq!(client.fetch_values(topic, 0, 0).await, ["0", "1", "2", "3"]);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_start_had_to_read_again_is_saved_by_the_next_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = || {
        let entries = std::fs::read_dir(dir.path().join("logs/orders-0")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".ksnapshot")).collect::<Vec<_>>()
    };
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    client.create_topic("orders", 1).await;
    let topic_id = client.topic_id("orders").await;
    client.call(produce_request(topic_id, 0, batch(&["a", "b"]))).await;
    broker.stop().await.unwrap();
    // A killed broker leaves none.
    for name in snapshots() {
        std::fs::remove_file(dir.path().join("logs/orders-0").join(name)).unwrap();
    }

    start(dir.path()).await.stop().await.unwrap();
    assert_eq!(snapshots().len(), 1, "nothing was appended, and yet there was something to save");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_understood_however_their_bytes_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    client.create_topic("orders", 1).await;
    let topic_id = client.topic_id("orders").await;
    // Larger than what one read takes at first, between small ones.
    let value = "v".repeat(150_000);
    let large = produce_request(topic_id, 0, batch(&[&value]));
    let small = produce_request(topic_id, 0, batch(&["a"]));
    let frame = |request: &ProduceRequest, id: i32| {
        let header = RequestHeader {
            request_api_key: ApiKey::Produce.code(),
            request_api_version: 13,
            correlation_id: id,
            ..Default::default()
        };
        let frame = [&header.to_bytes(2).unwrap()[..], &request.to_bytes(13).unwrap()].concat();
        [&(frame.len() as i32).to_be_bytes()[..], &frame].concat()
    };
    let requests = [&small, &small, &large, &small, &large];
    let mut all = Vec::new();
    for (id, request) in (0..).zip(requests) {
        all.extend_from_slice(&frame(request, id));
    }
    for piece in [1, 7, 1_000, 65_536, 65_540, 1 << 20] {
        // The first few hundred bytes in small pieces, the rest in large ones.
        let (head, rest) = all.split_at(400);
        for bytes in head.chunks(piece).chain(rest.chunks(piece.max(1_000))) {
            client.send_bytes(bytes).await;
            tokio::task::yield_now().await;
        }
        for id in 0..5 {
            let response = client.receive::<ProduceRequest>(id, 13).await;
            let row = &response.responses[0].partition_responses[0];
            assert_eq!(row.error_code, ErrorCode::None, "pieces of {piece} bytes, request {id}");
        }
    }
    let fetched = client.call(fetch_request(topic_id, 0, 4)).await;
    assert_eq!(values(&fetched)[0], value);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_batches_are_refused_and_the_connection_lives() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let topic = client.create_topic("t", 1).await;
    let good = batch(&["v"]);
    let mut flipped = good.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(
        client.produce(topic, 0, flipped.into()).await.error_code,
        ErrorCode::CorruptMessage
    );
    let two = [&good[..], &good[..]].concat();
    assert_eq!(client.produce(topic, 0, two.into()).await.error_code, ErrorCode::InvalidRecord);
    assert_eq!(
        client.produce(topic, 9, good.clone()).await.error_code,
        ErrorCode::UnknownTopicOrPartition
    );
    assert_eq!(client.produce(topic, 0, good).await.base_offset, 0);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_leave_in_order_while_a_long_poll_is_parked() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let topic = client.create_topic("t", 1).await;
    let wait = FetchRequest { max_wait_ms: 10_000, ..fetch_request(topic, 0, 0) };
    let fetch = client.send(&wait, 18).await;
    // Behind the long poll on the same connection: it is worked on, which ends the wait, and answered after it.
    let produce = client.send(&produce_request(topic, 0, batch(&["v"])), 13).await;
    let fetched = client.receive::<FetchRequest>(fetch, 18).await;
    assert_eq!(values(&fetched), ["v"]);
    let produced = client.receive::<ProduceRequest>(produce, 13).await;
    assert_eq!(produced.responses[0].partition_responses[0].base_offset, 0);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_api_versions_that_is_too_new_is_answered_in_version_0() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    // Header v2: key 18, version 99, correlation id 7, null client id, no tags.
    client.send_frame(&[0, 18, 0, 99, 0, 0, 0, 7, 255, 255, 0]).await;
    let frame = client.receive_frame().await.unwrap();
    let response = common::decode_response::<ApiVersionsRequest>(frame, 7, 0);
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion);
    let rows: Vec<_> = response.api_keys.iter().map(|row| (row.api_key, row.max_version)).collect();
    assert_eq!(rows, [(18, 5)]);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_closes_its_connection_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut good = Client::connect(broker.address()).await;
    let topic = good.create_topic("t", 1).await;
    let frames: [&[u8]; 6] = [
        &[],
        &[0, 18],
        &[0, 99, 0, 0, 0, 0, 0, 1, 255, 255],
        &[0, 0, 0, 1, 0, 0, 0, 1, 255, 255],
        &[0, 3, 0, 9, 0, 0, 0, 1, 255, 255, 0, 250, 250],
        &[255; 64],
    ];
    for frame in frames {
        let mut bad = Client::connect(broker.address()).await;
        bad.send_frame(frame).await;
        assert_eq!(bad.receive_frame().await, None, "{frame:?}");
    }
    for size in [i32::MAX, -1, i32::MIN] {
        let mut bad = Client::connect(broker.address()).await;
        bad.send_bytes(&size.to_be_bytes()).await;
        assert_eq!(bad.receive_frame().await, None, "size {size}");
    }
    assert_eq!(good.produce(topic, 0, batch(&["v"])).await.base_offset, 0);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(broker.address()).await;
    let topic = client.create_topic("t", 1).await;
    let start_ms = now_ms() - 10_000;
    for i in 0..5 {
        let mut builder = BatchBuilder::new(0);
        for j in 0..2 {
            let time = start_ms + i * 100 + j * 50;
            builder.append(time, None, Some(b"v"), &[]).unwrap();
        }
        client.produce(topic, 0, builder.build().unwrap()).await;
    }
    let cases = [
        (-2, 0),
        (-1, 10),
        (-3, 9),
        (start_ms, 0),
        (start_ms + 101, 3),
        (start_ms + 450, 9),
        (start_ms + 451, -1),
    ];
    for (timestamp, offset) in cases {
        let partition = ListOffsetsPartition { timestamp, ..Default::default() };
        let row = ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request =
            ListOffsetsRequest { replica_id: -1, topics: vec![row], ..Default::default() };
        let response = client.call_version(request, 10).await;
        assert_eq!(response.topics[0].partitions[0].offset, offset, "timestamp {timestamp}");
    }
    broker.stop().await.unwrap();
}
