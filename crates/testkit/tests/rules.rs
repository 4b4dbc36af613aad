//! What rules do to requests, and what the log of requests shows.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use kavka_protocol::messages::{
    ApiVersionsRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest, MetadataRequest,
    ProduceRequest,
};
use kavka_testkit::{
    ApiKey, Error, ErrorCode, TestBroker,
    raw::{
        RawClient, batch, decode_response, fetch_request,
        groups::{commit, heartbeat, stable_group},
        produce_request, values,
    },
};

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(30);

async fn with_member() -> (TestBroker, RawClient, kavka_protocol::messages::JoinGroupResponse) {
    let broker = TestBroker::builder().topic("orders", 1).start().await;
    let mut client = RawClient::connect(broker.addr()).await;
    let member = stable_group(&mut client, "g").await;
    (broker, client, member)
}

/// Sends a request that nothing should answer.
async fn is_never_answered(client: &mut RawClient) {
    assert_eq!(client.receive_frame_within(SHORT).await, None, "no answer, no closed connection");
}

#[tokio::test]
async fn a_request_fails_as_often_as_the_rule_says() {
    let (broker, mut client, member) = with_member().await;
    let rule = broker.on(ApiKey::Heartbeat).first(2).fail(ErrorCode::NotCoordinator);
    assert_eq!(heartbeat(&mut client, "g", &member).await, ErrorCode::NotCoordinator);
    assert_eq!(heartbeat(&mut client, "g", &member).await, ErrorCode::NotCoordinator);
    assert_eq!(heartbeat(&mut client, "g", &member).await, ErrorCode::None);
    assert_eq!(rule.hits(), 2);

    let third = broker.on(ApiKey::Heartbeat).nth(3).fail(ErrorCode::FencedInstanceId);
    let later = broker.on(ApiKey::Heartbeat).after(3).fail(ErrorCode::IllegalGeneration);
    let mut codes = Vec::new();
    for _ in 0..5 {
        codes.push(heartbeat(&mut client, "g", &member).await);
    }
    let (none, fenced) = (ErrorCode::None, ErrorCode::FencedInstanceId);
    // The third did not come to the later rule, so that has seen four.
    assert_eq!(codes, [none, none, fenced, none, ErrorCode::IllegalGeneration]);
    assert_eq!((third.hits(), later.hits()), (1, 1));
    assert_eq!(third.to_string(), "Heartbeat number 3: fail with FENCED_INSTANCE_ID");
    assert_eq!(later.to_string(), "Heartbeat after 3: fail with ILLEGAL_GENERATION");
}

#[tokio::test]
async fn a_rule_chooses_by_client_group_and_topic() {
    let broker = TestBroker::builder().topic("orders", 1).topic("bills", 1).start().await;
    let client = || async { RawClient::connect(broker.addr()).await.with_client_id("mine") };
    let mut mine = client().await;
    let mut other = RawClient::connect(broker.addr()).await;
    let (orders, bills) = (mine.topic_id("orders").await, mine.topic_id("bills").await);
    let error = ErrorCode::KafkaStorageError;
    let rule = broker.on(ApiKey::Produce).client_id("mine").topic("orders").fail(error);
    assert_eq!(other.produce(orders, 0, batch(&["a"])).await.error_code, ErrorCode::None);
    assert_eq!(mine.produce(bills, 0, batch(&["a"])).await.error_code, ErrorCode::None);
    assert_eq!(mine.produce(orders, 0, batch(&["a"])).await.error_code, error);
    assert_eq!(rule.hits(), 1);
    assert_eq!(broker.end_offsets("orders").unwrap(), [1]);

    let rule = broker.on_any().group("g").fail(ErrorCode::CoordinatorNotAvailable);
    let find = |group: &'static str| FindCoordinatorRequest {
        coordinator_keys: vec![group.into()],
        ..Default::default()
    };
    let refused = mine.call(find("g")).await;
    assert_eq!(refused.coordinators[0].error_code, ErrorCode::CoordinatorNotAvailable);
    let found = mine.call(find("h")).await;
    assert_eq!(found.coordinators[0].error_code, ErrorCode::None);
    let beat = HeartbeatRequest { group_id: "g".into(), ..Default::default() };
    assert_eq!(mine.call(beat).await.error_code, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(rule.hits(), 2);
}

#[tokio::test]
async fn a_rule_that_was_removed_does_nothing() {
    let (broker, mut client, member) = with_member().await;
    let rule = broker.on(ApiKey::Heartbeat).fail(ErrorCode::NotCoordinator);
    assert_eq!(heartbeat(&mut client, "g", &member).await, ErrorCode::NotCoordinator);
    rule.remove();
    assert_eq!(heartbeat(&mut client, "g", &member).await, ErrorCode::None);
    let again = broker.on(ApiKey::Heartbeat).fail(ErrorCode::NotCoordinator);
    let held = broker.on(ApiKey::Metadata).hold();
    let id = client.send(&MetadataRequest::default(), 13).await;
    broker.wait_for_hits(&held, 1, LONG).await.unwrap();
    broker.clear_rules();
    client.receive::<MetadataRequest>(id, 13).await;
    assert_eq!(heartbeat(&mut client, "g", &member).await, ErrorCode::None);
    assert_eq!((rule.hits(), again.hits(), held.hits()), (1, 0, 1));
}

#[tokio::test]
async fn a_delayed_request_is_handled_late() {
    let broker = TestBroker::builder().topic("orders", 1).start().await;
    let mut client = RawClient::connect(broker.addr()).await;
    let topic_id = client.topic_id("orders").await;
    let rule = broker.on(ApiKey::Produce).first(1).delay(SHORT);
    let start = Instant::now();
    let produced = client.produce(topic_id, 0, batch(&["a"])).await;
    assert_eq!((produced.error_code, rule.hits()), (ErrorCode::None, 1));
    assert!(start.elapsed() >= SHORT);
}

#[tokio::test]
async fn what_comes_behind_a_held_request_is_handled_before_it_and_answered_after_it() {
    let broker = TestBroker::builder().topic("orders", 1).start().await;
    let mut client = RawClient::connect(broker.addr()).await;
    let topic_id = client.topic_id("orders").await;
    let held = broker.on(ApiKey::Produce).hold();
    let next = broker.on(ApiKey::Fetch).delay_answer(Duration::ZERO);
    let produce = client.send(&produce_request(topic_id, 0, batch(&["a"])), 13).await;
    let fetch = client.send(&fetch_request(topic_id, 0, 0), 18).await;
    broker.wait_for_hits(&next, 1, LONG).await.unwrap();
    is_never_answered(&mut client).await;
    held.release();
    client.receive::<ProduceRequest>(produce, 13).await;
    let fetched = client.receive::<FetchRequest>(fetch, 18).await;
    assert!(values(&fetched).is_empty());
    assert_eq!(client.fetch_values(topic_id, 0, 0).await, ["a"]);
}

#[tokio::test]
async fn a_delayed_answer_is_of_a_request_handled_at_once() {
    let (broker, mut client, member) = with_member().await;
    let topic_id = client.topic_id("orders").await;
    broker.on(ApiKey::OffsetCommit).delay_answer(SHORT);
    let start = Instant::now();
    let committing = commit(&mut client, "g", Some(&member), topic_id, 7);
    let committed = broker.wait_for_committed("g", "orders", 0, 7, LONG);
    let (code, committed) = tokio::join!(committing, committed);
    assert_eq!((code, committed.unwrap()), (ErrorCode::None, 7));
    assert!(start.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_held_request_waits_for_its_release() {
    let (broker, mut client, member) = with_member().await;
    let topic_id = client.topic_id("orders").await;
    let rule = broker.on(ApiKey::OffsetCommit).hold();
    let committing =
        tokio::spawn(async move { commit(&mut client, "g", Some(&member), topic_id, 7).await });
    broker.wait_for_hits(&rule, 1, LONG).await.unwrap();
    let error = broker.wait_for_committed("g", "orders", 0, 7, SHORT).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "group g did not commit 7 for orders-0 within 30ms: nothing is committed"
    );
    rule.release();
    assert_eq!(committing.await.unwrap(), ErrorCode::None);
    assert_eq!(broker.wait_for_committed("g", "orders", 0, 7, LONG).await.unwrap(), 7);
}

#[tokio::test]
async fn a_held_answer_is_of_a_request_handled_at_once() {
    let (broker, mut client, member) = with_member().await;
    let topic_id = client.topic_id("orders").await;
    let rule = broker.on(ApiKey::OffsetCommit).group("g").hold_answer();
    let committing =
        tokio::spawn(async move { commit(&mut client, "g", Some(&member), topic_id, 7).await });
    assert_eq!(broker.wait_for_committed("g", "orders", 0, 7, LONG).await.unwrap(), 7);
    assert!(!committing.is_finished());
    rule.release();
    assert_eq!(committing.await.unwrap(), ErrorCode::None);
}

#[tokio::test]
async fn an_ignored_request_changes_nothing_and_is_never_answered() {
    let broker = TestBroker::builder().topic("orders", 1).start().await;
    let mut client = RawClient::connect(broker.addr()).await;
    let topic_id = client.topic_id("orders").await;
    let rule = broker.on(ApiKey::Produce).first(1).ignore();
    client.send(&produce_request(topic_id, 0, batch(&["a"])), 13).await;
    // Nor is what comes after it.
    client.send(&ApiVersionsRequest::default(), 3).await;
    is_never_answered(&mut client).await;
    assert_eq!(rule.hits(), 1);
    assert_eq!(broker.end_offsets("orders").unwrap(), [0]);
    let mut other = RawClient::connect(broker.addr()).await;
    assert_eq!(other.produce(topic_id, 0, batch(&["a"])).await.base_offset, 0);
}

#[tokio::test]
async fn a_lost_answer_is_of_a_request_that_took_effect() {
    let broker = TestBroker::builder().topic("orders", 1).start().await;
    let mut client = RawClient::connect(broker.addr()).await;
    let topic_id = client.topic_id("orders").await;
    broker.on(ApiKey::Produce).first(1).lose_answer();
    client.send(&produce_request(topic_id, 0, batch(&["a"])), 13).await;
    broker.wait_for_records("orders", 1, LONG).await.unwrap();
    is_never_answered(&mut client).await;
    // A clean stop does not wait for it longer than for anything else.
    let start = Instant::now();
    broker.stop().await.unwrap();
    assert!(start.elapsed() < LONG);
}

#[tokio::test]
async fn a_connection_is_closed_before_or_after_the_request_takes_effect() {
    let broker = TestBroker::builder().topic("orders", 1).start().await;
    let mut client = RawClient::connect(broker.addr()).await;
    let topic_id = client.topic_id("orders").await;
    let close = broker.on(ApiKey::Produce).first(1).close();
    broker.on(ApiKey::Produce).first(1).close_unanswered();

    client.send(&produce_request(topic_id, 0, batch(&["a"])), 13).await;
    assert_eq!(client.receive_frame().await, None);
    assert_eq!(broker.end_offsets("orders").unwrap(), [0]);

    let mut client = RawClient::connect(broker.addr()).await;
    client.send(&produce_request(topic_id, 0, batch(&["a"])), 13).await;
    assert_eq!(client.receive_frame().await, None);
    assert_eq!(broker.end_offsets("orders").unwrap(), [1]);
    assert_eq!(close.hits(), 1);

    // Without acknowledgement there is no answer that could tell of a failure.
    broker.on(ApiKey::Produce).fail(ErrorCode::KafkaStorageError);
    let mut client = RawClient::connect(broker.addr()).await;
    let mut request = produce_request(topic_id, 0, batch(&["a"]));
    request.acks = 0;
    client.send(&request, 13).await;
    assert_eq!(client.receive_frame().await, None);
}

#[tokio::test]
async fn rules_hold_over_a_crash() {
    let (broker, mut client, member) = with_member().await;
    let rule = broker.on(ApiKey::Heartbeat).first(2).fail(ErrorCode::NotCoordinator);
    heartbeat(&mut client, "g", &member).await;
    broker.crash().await;
    let error = broker.wait_for_hits(&rule, 2, LONG).await.unwrap_err();
    assert!(matches!(error, Error::Down));
    broker.restart().await.unwrap();
    let mut client = RawClient::connect(broker.addr()).await;
    assert_eq!(heartbeat(&mut client, "g", &member).await, ErrorCode::NotCoordinator);
    assert_eq!(heartbeat(&mut client, "g", &member).await, ErrorCode::None);
    let error = broker.wait_for_hits(&rule, 3, SHORT).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "the rule \"Heartbeat number 1 to 2: fail with NOT_COORDINATOR\" did not hit 3 requests within 30ms: it hit 2"
    );
}

#[tokio::test]
async fn the_log_tells_who_asked_what() {
    let (broker, client, member) = with_member().await;
    broker.clear_requests();
    let mut client = client.with_client_id("billing");
    heartbeat(&mut client, "g", &member).await;
    let topic_id = client.topic_id("orders").await;
    client.produce(topic_id, 0, batch(&["a"])).await;
    let requests = broker.requests();
    let shown: Vec<_> = requests.iter().map(|r| (r.api, r.groups.len(), r.topics.len())).collect();
    let expected = [(ApiKey::Heartbeat, 1, 0), (ApiKey::Metadata, 0, 1), (ApiKey::Produce, 0, 1)];
    assert_eq!(shown, expected);
    assert_eq!(requests[0].groups, ["g"]);
    assert_eq!(requests[0].version, 4);
    // Named by its id on the wire.
    assert_eq!(requests[2].topics, ["orders"]);
    assert!(requests.iter().all(|request| request.client_id == "billing"));
}

#[tokio::test]
async fn a_rule_acts_on_api_versions_of_a_version_that_is_too_new() {
    let broker = TestBroker::start().await;
    let mut client = RawClient::connect(broker.addr()).await;
    // API 18, version 99, and nothing that could be read as a body of it.
    let mut frame = vec![0, 18, 0, 99, 0, 0, 0, 1, 0, 1, b'c', 0];
    frame.extend([0xff; 5]);
    let mut ask = async || {
        client.send_frame(&frame).await;
        let answer = client.receive_frame_within(SHORT).await?;
        Some(decode_response::<ApiVersionsRequest>(answer.unwrap(), 1, 0))
    };
    let told = ask().await.unwrap();
    assert_eq!((told.error_code, told.api_keys.len()), (ErrorCode::UnsupportedVersion, 1));
    let rule = broker.on(ApiKey::ApiVersions).first(1).fail(ErrorCode::InvalidRequest);
    assert_eq!(ask().await.unwrap().error_code, ErrorCode::InvalidRequest);
    assert_eq!(ask().await.unwrap().error_code, ErrorCode::UnsupportedVersion);
    assert_eq!(rule.hits(), 1);
    broker.on(ApiKey::ApiVersions).ignore();
    assert_eq!(ask().await, None);
    let seen = broker.requests();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|seen| (seen.version, &*seen.client_id) == (99, "c")), "{seen:?}");
}
