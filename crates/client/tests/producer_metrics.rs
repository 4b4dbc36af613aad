//! What a producer tells of itself.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use kavka_client::{Producer, ProducerRecord};
use kavka_testkit::{ApiKey, ErrorCode, TestBroker};

#[tokio::test]
async fn what_a_producer_does_is_counted() {
    let broker = TestBroker::builder().topic("t", 1).start().await;
    let producer = Producer::builder()
        .bootstrap_servers(&broker.bootstrap_servers())
        .linger(Duration::from_millis(5))
        .property("retry.backoff.ms", "10")
        .build()
        .unwrap();
    let fresh = producer.metrics();
    assert_eq!((fresh.requests.count, fresh.delivered, fresh.buffered_bytes), (0, 0, 0));
    assert!(fresh.last_error.is_none());
    broker.on(ApiKey::Produce).nth(1).fail(ErrorCode::NotEnoughReplicas);
    let mut deliveries = Vec::new();
    for _ in 0..10 {
        let record = ProducerRecord::to("t").partition(0).value("0123456789");
        deliveries.push(producer.send(record).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let metrics = producer.clone().metrics();
    assert_eq!((metrics.delivered, metrics.undelivered, metrics.failed_requests), (10, 0, 0));
    assert_eq!(metrics.retried_batches, 1, "{metrics:?}");
    assert_eq!(metrics.requests.count, metrics.batches, "one batch in each request");
    assert!(metrics.bytes > 200 && metrics.requests.total > Duration::ZERO, "{metrics:?}");
    let error = metrics.last_error.unwrap().error;
    assert_eq!(error.code(), Some(ErrorCode::NotEnoughReplicas), "also when a retry mended it");

    broker.on(ApiKey::Produce).nth(1).fail(ErrorCode::TopicAuthorizationFailed);
    let record = ProducerRecord::to("t").partition(0).value("refused");
    producer.send(record).await.unwrap().await.unwrap_err();
    let metrics = producer.metrics();
    assert_eq!((metrics.delivered, metrics.undelivered), (10, 1));
}
