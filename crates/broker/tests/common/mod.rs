//! A broker in this process on a port of its own, and a client that speaks the protocol and nothing else.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod groups;

use std::{path::Path, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use kavka_broker::{
    Broker, RunningBroker,
    config::{BrokerConfig, LoadOptions},
};
use kavka_protocol::{
    ApiKey, ErrorCode, Message, Reader, Request, Uuid,
    messages::{
        CreateTopicsRequest, FetchRequest, FetchResponse, FindCoordinatorRequest, MetadataRequest,
        ProduceRequest, RequestHeader, ResponseHeader,
        create_topics_request::CreatableTopic,
        fetch_request::{FetchPartition, FetchTopic},
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::PartitionProduceResponse,
    },
    records::{BatchBuilder, Decompressor, split_bytes},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Longer than anything here takes; a test that needs it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub async fn start(data_dir: &Path) -> RunningBroker {
    start_with(data_dir, &[]).await
}

pub async fn start_with(data_dir: &Path, settings: &[(&str, &str)]) -> RunningBroker {
    let mut properties = vec![
        ("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned()),
        ("log.dirs".to_owned(), data_dir.to_str().unwrap().to_owned()),
        ("group.initial.rebalance.delay.ms".to_owned(), "0".to_owned()),
    ];
    properties
        .extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let options =
        LoadOptions { file: None, properties, env: std::iter::empty(), reserved_env: &[] };
    let config = BrokerConfig::load(options).unwrap();
    Broker::start(config).await.unwrap()
}

/// A connection.
pub struct Client {
    stream: TcpStream,
    next: i32,
}

impl Client {
    pub async fn connect(broker: &RunningBroker) -> Self {
        Self { stream: TcpStream::connect(broker.address()).await.unwrap(), next: 0 }
    }

    /// Sends a request in its newest version and reads the answer.
    pub async fn call<R: Request>(&mut self, request: R) -> R::Response {
        let (_, newest) = R::API_KEY.versions();
        self.call_version(request, newest).await
    }

    pub async fn call_version<R: Request>(&mut self, request: R, version: i16) -> R::Response {
        let id = self.send(&request, version).await;
        self.receive::<R>(id, version).await
    }

    /// Sends without waiting; the correlation id.
    pub async fn send<R: Request>(&mut self, request: &R, version: i16) -> i32 {
        self.next += 1;
        let header = RequestHeader {
            request_api_key: R::API_KEY.code(),
            request_api_version: version,
            correlation_id: self.next,
            client_id: Some("test".into()),
            ..Default::default()
        };
        let header = header.to_bytes(R::API_KEY.request_header_version(version)).unwrap();
        let body = request.to_bytes(version).unwrap();
        self.send_frame(&[&header[..], &body[..]].concat()).await;
        self.next
    }

    pub async fn send_frame(&mut self, frame: &[u8]) {
        let mut bytes = BytesMut::new();
        bytes.put_i32(frame.len() as i32);
        bytes.put_slice(frame);
        self.send_raw(&bytes).await;
    }

    pub async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub async fn receive<R: Request>(&mut self, id: i32, version: i16) -> R::Response {
        let frame = self.receive_frame().await.expect("an answer");
        decode_response::<R>(frame, id, version)
    }

    /// The next frame; `None` if the broker closed the connection.
    pub async fn receive_frame(&mut self) -> Option<Bytes> {
        let read = async {
            let size = self.stream.read_i32().await.ok()?;
            let mut frame = vec![0; usize::try_from(size).unwrap()];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(Bytes::from(frame))
        };
        tokio::time::timeout(PATIENCE, read).await.expect("an answer or a closed connection")
    }

    /// Makes a topic, and returns its id.
    pub async fn create_topic(&mut self, name: &str, partitions: i32) -> Uuid {
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        };
        let request =
            CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        let response = self.call(request).await;
        assert_eq!(response.topics[0].error_code, ErrorCode::None, "{response:?}");
        response.topics[0].topic_id
    }

    pub async fn topic_id(&mut self, name: &str) -> Uuid {
        let topic = kavka_protocol::messages::metadata_request::MetadataRequestTopic {
            name: Some(name.into()),
            ..Default::default()
        };
        let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        self.call(request).await.topics[0].topic_id
    }

    /// Appends one batch with acks=all.
    pub async fn produce(
        &mut self,
        topic_id: Uuid,
        partition: i32,
        batch: Bytes,
    ) -> PartitionProduceResponse {
        let response = self.call(produce_request(topic_id, partition, batch)).await;
        response.responses[0].partition_responses[0].clone()
    }

    /// Values of one partition from `offset` on, as one fetch returns them.
    pub async fn fetch_values(
        &mut self,
        topic_id: Uuid,
        partition: i32,
        offset: i64,
    ) -> Vec<String> {
        let response = self.call(fetch_request(topic_id, partition, offset)).await;
        values(&response)
    }

    /// Has the offsets topic made.
    pub async fn find_coordinator(&mut self, group: &str) {
        let request =
            FindCoordinatorRequest { coordinator_keys: vec![group.into()], ..Default::default() };
        let response = self.call(request).await;
        assert_eq!(response.coordinators[0].error_code, ErrorCode::None);
    }
}

pub fn decode_response<R: Request>(frame: Bytes, id: i32, version: i16) -> R::Response {
    let mut reader = Reader::new(frame);
    let header_version = ApiKey::response_header_version(R::API_KEY, version);
    let header = ResponseHeader::decode(&mut reader, header_version).unwrap();
    assert_eq!(header.correlation_id, id, "answers come in the order of the requests");
    let response = R::Response::decode(&mut reader, version).unwrap();
    assert_eq!(reader.remaining(), 0);
    response
}

pub fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(0);
    for value in values {
        builder.append(now_ms(), None, Some(value.as_bytes()), &[]).unwrap();
    }
    builder.build().unwrap()
}

pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_millis() as i64
}

pub fn produce_request(topic_id: Uuid, partition: i32, batch: Bytes) -> ProduceRequest {
    let data =
        PartitionProduceData { index: partition, records: Some(batch), ..Default::default() };
    let topic = TopicProduceData { topic_id, partition_data: vec![data], ..Default::default() };
    ProduceRequest { acks: -1, timeout_ms: 10_000, topic_data: vec![topic], ..Default::default() }
}

pub fn fetch_request(topic_id: Uuid, partition: i32, fetch_offset: i64) -> FetchRequest {
    let partition = FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let topic = FetchTopic { topic_id, partitions: vec![partition], ..Default::default() };
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 50 << 20,
        topics: vec![topic],
        ..Default::default()
    }
}

/// The values of all records in a response.
pub fn values(response: &FetchResponse) -> Vec<String> {
    let mut values = Vec::new();
    let mut decompressor = Decompressor::new(64 << 20);
    for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
        assert_eq!(partition.error_code, ErrorCode::None);
        let records = partition.records.clone().unwrap_or_default();
        for batch in split_bytes(records) {
            let (header, bytes) = batch.unwrap();
            for record in decompressor.records(&header, &bytes).unwrap() {
                let value = record.unwrap().value.unwrap().to_vec();
                values.push(String::from_utf8(value).unwrap());
            }
        }
    }
    values
}
