//! What is put into topics and found in them without a client.
#![allow(clippy::unwrap_used)]

use kavka_protocol::{
    messages::ProduceRequest,
    records::{BatchBuilder, Compression, Compressor},
};
use kavka_testkit::{
    ApiKey, ErrorCode, NewRecord, TestBroker,
    raw::{RawClient, batch, produce_request},
};

#[tokio::test]
async fn records_are_found_as_they_were_put_there() {
    let broker = TestBroker::builder().topic("orders", 2).start().await;
    let first =
        NewRecord::value("one").key("a").header("trace", "7").timestamp_ms(1_700_000_000_000);
    assert_eq!(broker.produce("orders", 1, [first, NewRecord::tombstone("a")]).await.unwrap(), 0);
    assert_eq!(broker.produce("orders", 1, [("b", "three")]).await.unwrap(), 2);
    assert_eq!(broker.produce("orders", 0, ["zero".to_owned()]).await.unwrap(), 0);

    let records = broker.records("orders").await.unwrap();
    let places: Vec<_> = records.iter().map(|r| (r.partition, r.offset, r.text())).collect();
    let expected = [(0, 0, "zero"), (1, 0, "one"), (1, 1, ""), (1, 2, "three")];
    assert_eq!(
        places,
        expected.map(|(partition, offset, text)| (partition, offset, text.to_owned()))
    );
    assert_eq!(records[1].timestamp_ms, 1_700_000_000_000);
    assert_eq!(records[1].headers, [("trace".to_owned(), Some("7".into()))]);
    assert_eq!((records[2].key.as_deref(), &records[2].value), (Some(&b"a"[..]), &None));

    let mut client = RawClient::connect(broker.addr()).await;
    let topic_id = client.topic_id("orders").await;
    assert_eq!(client.fetch_values(topic_id, 1, 2).await, ["three"]);
}

#[tokio::test]
async fn what_a_client_produced_is_read_whatever_its_size_and_codec() {
    let broker = TestBroker::builder().topic("orders", 1).start().await;
    let mut client = RawClient::connect(broker.addr()).await;
    let topic_id = client.topic_id("orders").await;
    let large = "x".repeat(700_000);
    for _ in 0..3 {
        assert_eq!(client.produce(topic_id, 0, batch(&[&large])).await.error_code, ErrorCode::None);
    }
    let mut compressed = BatchBuilder::new(0).with_compression(Compression::Lz4);
    for number in 0..1000 {
        compressed.append(1, None, Some(format!("n{number}").as_bytes()), &[]).unwrap();
    }
    let mut compressor = Compressor::new(Compression::Lz4, None).unwrap();
    let compressed = compressed.build_with(&mut compressor).unwrap();
    let produced: <ProduceRequest as kavka_protocol::Request>::Response =
        client.call(produce_request(topic_id, 0, compressed)).await;
    assert_eq!(produced.responses[0].partition_responses[0].error_code, ErrorCode::None);

    let records = broker.records("orders").await.unwrap();
    assert_eq!(records.len(), 1003);
    assert_eq!(records[2].value.as_ref().unwrap().len(), 700_000);
    assert_eq!((records[1002].offset, records[1002].text()), (1002, "n999".to_owned()));
}

#[tokio::test]
async fn what_is_wrong_with_records_is_said() {
    let broker = TestBroker::builder().topic("orders", 1).start().await;
    let no_topic = broker.produce("bills", 0, ["x"]).await.unwrap_err();
    assert_eq!(no_topic.to_string(), "topic bills does not exist");
    let no_partition = broker.produce("orders", 1, ["x"]).await.unwrap_err();
    assert_eq!(no_partition.to_string(), "orders-1: UNKNOWN_TOPIC_OR_PARTITION");
    let too_large = broker.produce("orders", 0, ["x".repeat(2 << 20)]).await.unwrap_err();
    assert!(too_large.to_string().starts_with("orders-0: "), "{too_large}");
    let none = broker.produce("orders", 0, Vec::<NewRecord>::new()).await.unwrap_err();
    assert!(none.to_string().starts_with("orders-0: "), "{none}");
    assert!(broker.records("orders").await.unwrap().is_empty());
    assert_eq!(
        broker.records("bills").await.unwrap_err().to_string(),
        "topic bills does not exist"
    );
}

#[tokio::test]
async fn rules_do_not_act_on_what_no_client_asked() {
    let broker = TestBroker::builder().topic("orders", 1).start().await;
    let rule = broker.on(ApiKey::Produce).fail(ErrorCode::KafkaStorageError);
    broker.produce("orders", 0, ["x"]).await.unwrap();
    assert_eq!(rule.hits(), 0);
    assert!(broker.requests().is_empty());
}
