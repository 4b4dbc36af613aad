//! A client that speaks the protocol and nothing else: one request, one answer, no retries.
//!
//! For tests of what a broker answers, and for a byte more or less on the wire than a real client would send. Everything here
//! fails as an assertion does: by a panic that says what was expected.

pub mod groups;

use std::{fmt, net::SocketAddr, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use kavka_protocol::{
    ApiKey, ErrorCode, Message, Reader, Request, Uuid,
    messages::{
        CreateTopicsRequest, FetchRequest, FetchResponse, FindCoordinatorRequest, MetadataRequest,
        ProduceRequest, RequestHeader, ResponseHeader,
        create_topics_request::CreatableTopic,
        fetch_request::{FetchPartition, FetchTopic},
        metadata_request::MetadataRequestTopic,
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::PartitionProduceResponse,
    },
    records::{BatchBuilder, Decompressor, split_bytes},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Longer than any answer takes that comes at all.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A connection. Requests go out with the client id `raw`, unless said otherwise.
pub struct RawClient {
    stream: TcpStream,
    client_id: String,
    next: i32,
}

impl RawClient {
    /// Connects.
    ///
    /// # Panics
    /// If nobody listens there.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await;
        let stream = stream.unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        // A request is one write; it must not wait for the answer to the one before.
        stream.set_nodelay(true).expect("an open connection");
        Self { stream, client_id: "raw".to_owned(), next: 0 }
    }

    /// With this client id from now on.
    #[must_use]
    pub fn with_client_id(mut self, client_id: &str) -> Self {
        client_id.clone_into(&mut self.client_id);
        self
    }

    /// Sends a request in the newest version that there is and reads the answer.
    ///
    /// # Panics
    /// If the broker closes the connection, does not answer within [`PATIENCE`], or answers something else.
    pub async fn call<R: Request>(&mut self, request: R) -> R::Response {
        let (_, newest) = R::API_KEY.versions();
        self.call_version(request, newest).await
    }

    /// As [`call`](Self::call); `None` if the connection is closed before the answer, or was before.
    ///
    /// # Panics
    /// If the broker does not answer within [`PATIENCE`], or answers something else.
    pub async fn try_call<R: Request>(&mut self, request: R) -> Option<R::Response> {
        let (_, newest) = R::API_KEY.versions();
        let (id, frame) = self.frame(&request, newest);
        self.stream.write_all(&frame).await.ok()?;
        let answer = self.receive_frame().await?;
        Some(decode_response::<R>(answer, id, newest))
    }

    /// As [`call`](Self::call), in this version.
    ///
    /// # Panics
    /// As [`call`](Self::call).
    pub async fn call_version<R: Request>(&mut self, request: R, version: i16) -> R::Response {
        let id = self.send(&request, version).await;
        self.receive::<R>(id, version).await
    }

    /// Sends a request without waiting for the answer; its correlation id.
    ///
    /// # Panics
    /// If the request cannot be said in this version, or the connection is closed.
    pub async fn send<R: Request>(&mut self, request: &R, version: i16) -> i32 {
        let (id, frame) = self.frame(request, version);
        self.send_bytes(&frame).await;
        id
    }

    /// The next request, and its correlation id.
    fn frame<R: Request>(&mut self, request: &R, version: i16) -> (i32, Bytes) {
        self.next += 1;
        let header = RequestHeader {
            request_api_key: R::API_KEY.code(),
            request_api_version: version,
            correlation_id: self.next,
            client_id: Some(self.client_id.as_str().into()),
            ..Default::default()
        };
        let header = header.to_bytes(R::API_KEY.request_header_version(version));
        let body = request.to_bytes(version);
        let (header, body) = (header.expect("a valid header"), body.expect("a valid request"));
        (self.next, with_length(&[&header, &body]))
    }

    /// Sends bytes with their length in front.
    ///
    /// # Panics
    /// If the connection is closed.
    pub async fn send_frame(&mut self, frame: &[u8]) {
        self.send_bytes(&with_length(&[frame])).await;
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// If the connection is closed.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("an open connection");
    }

    /// Reads the answer to the request of this correlation id, API and version.
    ///
    /// # Panics
    /// As [`call`](Self::call).
    pub async fn receive<R: Request>(&mut self, id: i32, version: i16) -> R::Response {
        let frame = self.receive_frame().await.expect("an answer, not a closed connection");
        decode_response::<R>(frame, id, version)
    }

    /// The next frame; `None` if the broker closed the connection.
    ///
    /// # Panics
    /// If neither comes within [`PATIENCE`].
    pub async fn receive_frame(&mut self) -> Option<Bytes> {
        let read = self.receive_frame_within(PATIENCE).await;
        read.expect("an answer or a closed connection")
    }

    /// The next frame, or a closed connection inside; `None` if neither comes within `timeout`. Then a frame may have been
    /// read in part, and the connection is of no further use but for waiting.
    ///
    /// # Panics
    /// If the length of a frame is negative.
    pub async fn receive_frame_within(&mut self, timeout: Duration) -> Option<Option<Bytes>> {
        let read = async {
            let size = self.stream.read_i32().await.ok()?;
            let mut frame = vec![0; usize::try_from(size).expect("a length")];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(Bytes::from(frame))
        };
        tokio::time::timeout(timeout, read).await.ok()
    }

    /// Creates a topic as any client can, and returns its id.
    ///
    /// # Panics
    /// As [`call`](Self::call), and if it is refused.
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

    /// The id of a topic; zero if there is none.
    ///
    /// # Panics
    /// As [`call`](Self::call).
    pub async fn topic_id(&mut self, name: &str) -> Uuid {
        let topic = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        let response = self.call(request).await;
        response.topics.first().map_or(Uuid::ZERO, |topic| topic.topic_id)
    }

    /// Appends one batch with acks=all.
    ///
    /// # Panics
    /// As [`call`](Self::call).
    pub async fn produce(
        &mut self,
        topic_id: Uuid,
        partition: i32,
        batch: Bytes,
    ) -> PartitionProduceResponse {
        let response = self.call(produce_request(topic_id, partition, batch)).await;
        response.responses[0].partition_responses[0].clone()
    }

    /// The values of one partition from `offset` on, as one fetch returns them.
    ///
    /// # Panics
    /// As [`call`](Self::call), and if the partition answers with an error.
    pub async fn fetch_values(
        &mut self,
        topic_id: Uuid,
        partition: i32,
        offset: i64,
    ) -> Vec<String> {
        let response = self.call(fetch_request(topic_id, partition, offset)).await;
        values(&response)
    }

    /// Has the broker make its topic of offsets, as the first search for a coordinator does.
    ///
    /// # Panics
    /// As [`call`](Self::call), and if there is no coordinator.
    pub async fn find_coordinator(&mut self, group: &str) {
        let request =
            FindCoordinatorRequest { coordinator_keys: vec![group.into()], ..Default::default() };
        let response = self.call(request).await;
        assert_eq!(response.coordinators[0].error_code, ErrorCode::None);
    }
}

impl fmt::Debug for RawClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawClient").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// These pieces as one frame.
fn with_length(pieces: &[&[u8]]) -> Bytes {
    let size: usize = pieces.iter().map(|piece| piece.len()).sum();
    let mut bytes = BytesMut::with_capacity(4 + size);
    bytes.put_i32(i32::try_from(size).expect("a frame below 2 GiB"));
    pieces.iter().for_each(|piece| bytes.put_slice(piece));
    bytes.freeze()
}

/// The answer in a frame.
///
/// # Panics
/// If it is the answer to another request, or no valid one.
pub fn decode_response<R: Request>(frame: Bytes, id: i32, version: i16) -> R::Response {
    let mut reader = Reader::new(frame);
    let header_version = ApiKey::response_header_version(R::API_KEY, version);
    let header = ResponseHeader::decode(&mut reader, header_version).expect("a header");
    assert_eq!(header.correlation_id, id, "answers come in the order of the requests");
    let response = R::Response::decode(&mut reader, version);
    let response = response.unwrap_or_else(|error| panic!("{} {version}: {error}", R::API_KEY));
    assert_eq!(reader.remaining(), 0, "nothing comes after the answer");
    response
}

/// A batch of records with these values, without keys, made now.
///
/// # Panics
/// If they are more than a batch can hold.
pub fn batch(values: &[&str]) -> Bytes {
    let now_ms = now_ms();
    let mut builder = BatchBuilder::new(0);
    for value in values {
        builder.append(now_ms, None, Some(value.as_bytes()), &[]).expect("a record");
    }
    builder.build().expect("a batch")
}

/// Milliseconds since 1970, as records are stamped.
pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

/// Asks to append one batch with acks=all.
pub fn produce_request(topic_id: Uuid, partition: i32, batch: Bytes) -> ProduceRequest {
    let data =
        PartitionProduceData { index: partition, records: Some(batch), ..Default::default() };
    let topic = TopicProduceData { topic_id, partition_data: vec![data], ..Default::default() };
    ProduceRequest { acks: -1, timeout_ms: 10_000, topic_data: vec![topic], ..Default::default() }
}

/// Asks for what one partition has from an offset on, without waiting for more.
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

/// The values of all records in an answer.
///
/// # Panics
/// If a partition answers with an error, or a record has no value, or one that is no UTF-8.
pub fn values(response: &FetchResponse) -> Vec<String> {
    let mut values = Vec::new();
    let mut decompressor = Decompressor::new(64 << 20);
    for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
        assert_eq!(partition.error_code, ErrorCode::None);
        for batch in split_bytes(partition.records.clone().unwrap_or_default()) {
            let (header, bytes) = batch.expect("a batch");
            for record in decompressor.records(&header, &bytes).expect("records") {
                let value = record.expect("a record").value.expect("a value").to_vec();
                values.push(String::from_utf8(value).expect("text"));
            }
        }
    }
    values
}
