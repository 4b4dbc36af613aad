//! What a broker does to clients that are too slow, too many, too large or talk nonsense: they are cut off, others are not, and
//! the memory they held comes back.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

use common::{Client, PATIENCE, batch, fetch_request, start, start_with};
use kavka_broker::RunningBroker;
use kavka_protocol::{
    ApiKey, Message, SplitMix64,
    messages::{ApiVersionsRequest, RequestHeader},
};

/// Waits until every byte was given back.
async fn memory_comes_back(broker: &RunningBroker) {
    let deadline = Instant::now() + PATIENCE;
    while broker.memory_in_use() > 0 {
        assert!(Instant::now() < deadline, "{} bytes are still held", broker.memory_in_use());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn is_served(client: &mut Client) {
    client.call_version(ApiVersionsRequest::default(), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_asks_for_nothing_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let broker =
        start_with(dir.path(), &[("kavka.connection.first.frame.timeout.ms", "300")]).await;
    let mut good = Client::connect(broker.address()).await;
    is_served(&mut good).await;
    let mut silent = Client::connect(broker.address()).await;
    assert_eq!(silent.receive_frame().await, None);
    let mut dripping = Client::connect(broker.address()).await;
    dripping.send_bytes(&[0, 0]).await;
    assert_eq!(dripping.receive_frame().await, None);
    is_served(&mut good).await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_fell_silent_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), &[("connections.max.idle.ms", "300")]).await;
    let mut client = Client::connect(broker.address()).await;
    is_served(&mut client).await;
    assert_eq!(client.receive_frame().await, None);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_go_on_is_closed_and_its_memory_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        ("kavka.connection.frame.grace.ms", "300"),
        ("kavka.connection.frame.min.rate", "1000000"),
    ];
    let broker = start_with(dir.path(), &settings).await;
    let mut slow = Client::connect(broker.address()).await;
    is_served(&mut slow).await;
    slow.send_bytes(&1_000_000_i32.to_be_bytes()).await;
    slow.send_bytes(&[0; 100]).await;
    assert_eq!(slow.receive_frame().await, None);
    memory_comes_back(&broker).await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_larger_than_allowed_closes_its_connection() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), &[("socket.request.max.bytes", "100000")]).await;
    let mut client = Client::connect(broker.address()).await;
    let topic = client.create_topic("t", 1).await;
    assert_eq!(client.produce(topic, 0, batch(&[&"x".repeat(90_000)])).await.base_offset, 0);
    let mut large = Client::connect(broker.address()).await;
    large.send_bytes(&100_001_i32.to_be_bytes()).await;
    assert_eq!(large.receive_frame().await, None);
    is_served(&mut client).await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limits_are_closed_and_places_become_free_again() {
    for setting in ["max.connections", "max.connections.per.ip"] {
        let dir = tempfile::tempdir().unwrap();
        let broker = start_with(dir.path(), &[(setting, "2")]).await;
        let mut first = Client::connect(broker.address()).await;
        let mut second = Client::connect(broker.address()).await;
        is_served(&mut first).await;
        is_served(&mut second).await;
        let mut third = Client::connect(broker.address()).await;
        assert_eq!(third.receive_frame().await, None, "{setting}");
        drop(second);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut next = Client::connect(broker.address()).await;
            let id = next.send(&ApiVersionsRequest::default(), 0).await;
            if let Some(frame) = next.receive_frame().await {
                common::decode_response::<ApiVersionsRequest>(frame, id, 0);
                break;
            }
            assert!(Instant::now() < deadline, "{setting}: the place did not become free");
        }
        is_served(&mut first).await;
        broker.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_never_read_do_not_take_the_memory_of_others() {
    const BUDGET: usize = 8 << 20;
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        ("socket.request.max.bytes", "2000000"),
        ("kavka.budget.bytes", &*BUDGET.to_string()),
        ("kavka.connection.slow.reader.timeout.ms", "300"),
        // The system holds little, the rest is the broker's.
        ("socket.send.buffer.bytes", "65536"),
    ];
    let broker = start_with(dir.path(), &settings).await;
    let mut good = Client::connect(broker.address()).await;
    let topic = good.create_topic("t", 1).await;
    for _ in 0..8 {
        good.produce(topic, 0, batch(&[&"x".repeat(900_000)])).await;
    }
    let mut request = fetch_request(topic, 0, 0);
    request.topics[0].partitions[0].partition_max_bytes = 4 << 20;
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(broker.address()).await;
        for _ in 0..5 {
            client.send(&request, 18).await;
        }
        deaf.push(client);
    }
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        assert!(broker.memory_in_use() <= BUDGET, "{}", broker.memory_in_use());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let row = good.produce(topic, 0, batch(&["after all"])).await;
    assert_eq!(row.base_offset, 8, "those who never read were closed to make room");
    drop(deaf);
    memory_comes_back(&broker).await;
    broker.stop().await.unwrap();
}

/// The requests among the golden messages: API, version and body.
fn golden_requests() -> Vec<(ApiKey, i16, Vec<u8>)> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/golden/messages.jsonl.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    let mut requests = Vec::new();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        if line["type"] != "request" {
            continue;
        }
        let Some(key) = ApiKey::from_code(line["api_key"].as_i64().unwrap() as i16) else {
            continue;
        };
        let hex = line["hex"].as_str().unwrap();
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let body = (0..hex.len()).step_by(2).map(byte).collect();
        requests.push((key, line["version"].as_i64().unwrap() as i16, body));
    }
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_whole_or_damaged_harms_other_connections_or_keeps_memory() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("max.connection.creation.rate", "1000000")];
    let broker = start_with(dir.path(), &settings).await;
    let requests = golden_requests();
    assert!(requests.len() > 500, "{}", requests.len());
    let mut random = SplitMix64::new(7);
    let mut good = Client::connect(broker.address()).await;
    for (number, (key, version, body)) in requests.iter().enumerate() {
        let header = RequestHeader {
            request_api_key: key.code(),
            request_api_version: *version,
            correlation_id: 1,
            client_id: Some("test".into()),
            ..Default::default()
        };
        let header = header.to_bytes(key.request_header_version(*version)).unwrap();
        let mut frame = [&header[..], body].concat();
        let mut damaged = frame.clone();
        match random.below(3) {
            0 => damaged.truncate(random.below(frame.len() as u64) as usize),
            1 => {
                let at = random.below(frame.len() as u64) as usize;
                damaged[at] = random.below(256) as u8;
            }
            _ => damaged.extend([random.below(256) as u8; 9]),
        }
        for frame in [&mut frame, &mut damaged] {
            let mut client = Client::connect(broker.address()).await;
            client.send_frame(frame).await;
            // Some wait for other members or for records; they are given up like by a client that went away.
            let answer = client.receive_frame();
            let _ = tokio::time::timeout(Duration::from_millis(20), answer).await;
        }
        if number % 100 == 0 {
            is_served(&mut good).await;
        }
    }
    is_served(&mut good).await;
    drop(good);
    memory_comes_back(&broker).await;
    broker.stop().await.unwrap();
    // What it stored while that went on can be read again.
    let broker = start(dir.path()).await;
    is_served(&mut Client::connect(broker.address()).await).await;
    broker.stop().await.unwrap();
}
