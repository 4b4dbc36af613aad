//! Connections against a server that plays a broker, and one that lies.

mod security;

use std::time::Duration;

use bytes::Bytes;
use kavka_protocol::{
    ErrorCode, Message, Reader, Request,
    messages::{
        ApiVersionsRequest, ApiVersionsResponse, HeartbeatRequest, HeartbeatResponse,
        MetadataRequest, RequestHeader, ResponseHeader, api_versions_response::ApiVersion,
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

/// A broker that knows ApiVersions and what a test tells it.
#[derive(Debug)]
struct Peer<S = TcpStream> {
    stream: S,
}

struct Asked {
    header: RequestHeader,
    body: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    async fn request(&mut self) -> Asked {
        let length = self.stream.read_u32().await.expect("a length");
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame).await.expect("a frame");
        let frame = Bytes::from(frame);
        let code = i16::from_be_bytes([frame[0], frame[1]]);
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let api = ApiKey::from_code(code).expect("an API");
        let mut reader = Reader::new(frame.clone());
        let header = RequestHeader::decode(&mut reader, api.request_header_version(version))
            .expect("a header");
        Asked { header, body: frame.slice(frame.len() - reader.remaining()..) }
    }

    async fn answer<R: Request>(&mut self, correlation_id: i32, version: i16, body: &R::Response) {
        let mut frame = vec![0; 4];
        ResponseHeader { correlation_id, ..Default::default() }
            .encode(&mut frame, R::API_KEY.response_header_version(version))
            .expect("a header");
        body.encode(&mut frame, version).expect("a body");
        let length = (frame.len() as u32 - 4).to_be_bytes();
        frame[..4].copy_from_slice(&length);
        self.stream.write_all(&frame).await.expect("a taker");
    }

    async fn answer_versions(&mut self) {
        let asked = self.request().await;
        let rows = [
            (ApiVersionsRequest::API_KEY, 3),
            (HeartbeatRequest::API_KEY, 4),
            (ApiKey::SaslHandshake, 1),
            (ApiKey::SaslAuthenticate, 2),
        ];
        let response = ApiVersionsResponse {
            api_keys: rows
                .into_iter()
                .map(|(api, max)| ApiVersion {
                    api_key: api.code(),
                    max_version: max,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        self.answer::<ApiVersionsRequest>(asked.header.correlation_id, 3, &response).await;
    }

    async fn answer_heartbeat(&mut self, asked: &Asked, code: ErrorCode) {
        let response = HeartbeatResponse { error_code: code, ..Default::default() };
        let version = asked.header.request_api_version;
        self.answer::<HeartbeatRequest>(asked.header.correlation_id, version, &response).await;
    }
}

fn settings() -> CommonSettings {
    CommonSettings { connection_setup_timeout: Duration::from_secs(5), ..Default::default() }
}

async fn listen() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, Address { host: "127.0.0.1".into(), port })
}

async fn accept(listener: &TcpListener) -> Peer {
    Peer { stream: listener.accept().await.expect("a connection").0 }
}

async fn connected() -> (Connection, Peer) {
    let (listener, address) = listen().await;
    let settings = settings();
    let peer = async {
        let mut peer = accept(&listener).await;
        peer.answer_versions().await;
        peer
    };
    let (connection, peer) =
        tokio::join!(Connection::open(&address, &settings, &PLAIN, FIRST), peer);
    (connection.expect("connected"), peer)
}

fn heartbeat(group: &str) -> HeartbeatRequest {
    HeartbeatRequest { group_id: group.into(), ..Default::default() }
}

const PLAIN: Security = Security { tls: None };
const FIRST: Setup = Setup { timeout: Duration::from_secs(5), failures: 0 };
const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn requests_are_pipelined_and_each_gets_its_own_answer() {
    let (connection, mut peer) = connected().await;
    let first = connection.send(&heartbeat("a"), 4).expect("sent");
    let second = connection.send(&heartbeat("b"), 4).expect("sent");
    let (one, two) = (peer.request().await, peer.request().await);
    let group = |asked: &Asked| {
        HeartbeatRequest::decode(&mut Reader::new(asked.body.clone()), 4).expect("a body").group_id
    };
    assert_eq!((&*group(&one), &*group(&two)), ("a", "b"));
    peer.answer_heartbeat(&one, ErrorCode::None).await;
    peer.answer_heartbeat(&two, ErrorCode::UnknownMemberId).await;
    let first: HeartbeatResponse = first.wait(LONG).await.expect("an answer");
    let second: HeartbeatResponse = second.wait(LONG).await.expect("an answer");
    assert_eq!(first.error_code, ErrorCode::None);
    assert_eq!(second.error_code, ErrorCode::UnknownMemberId);
}

#[tokio::test]
async fn who_gives_up_waiting_does_not_take_the_answer_of_the_next() {
    let (connection, mut peer) = connected().await;
    drop(connection.send(&heartbeat("a"), 4).expect("sent"));
    let second = connection.send(&heartbeat("b"), 4).expect("sent");
    let (one, two) = (peer.request().await, peer.request().await);
    peer.answer_heartbeat(&one, ErrorCode::None).await;
    peer.answer_heartbeat(&two, ErrorCode::IllegalGeneration).await;
    let second: HeartbeatResponse = second.wait(LONG).await.expect("an answer");
    assert_eq!(second.error_code, ErrorCode::IllegalGeneration);
    assert!(!connection.is_closed());
}

#[tokio::test]
async fn a_broker_that_hangs_costs_the_timeout_and_the_connection() {
    let (connection, mut peer) = connected().await;
    let waiting = connection.send(&heartbeat("behind"), 4).expect("sent");
    let error = connection
        .call(&heartbeat("a"), Duration::from_millis(50))
        .await
        .expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(connection.is_closed());
    let error = waiting.wait::<HeartbeatResponse>(LONG).await.expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    let error = connection.send(&heartbeat("a"), 4).expect_err("closed");
    assert!(error.to_string().contains("did not answer Heartbeat"), "{error}");
    peer.request().await;
}

#[tokio::test]
async fn an_answer_to_nothing_ends_the_connection() {
    let (connection, mut peer) = connected().await;
    let waiting = connection.send(&heartbeat("a"), 4).expect("sent");
    let asked = peer.request().await;
    let response = HeartbeatResponse::default();
    peer.answer::<HeartbeatRequest>(asked.header.correlation_id + 1, 4, &response).await;
    let error = waiting.wait::<HeartbeatResponse>(LONG).await.expect_err("a wrong answer");
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(connection.is_closed());
}

#[tokio::test]
async fn an_unreadable_answer_ends_the_connection() {
    let (connection, mut peer) = connected().await;
    let waiting = connection.send(&heartbeat("a"), 4).expect("sent");
    let asked = peer.request().await;
    let mut frame = vec![0, 0, 0, 5];
    frame.extend_from_slice(&asked.header.correlation_id.to_be_bytes());
    frame.push(0);
    peer.stream.write_all(&frame).await.expect("a taker");
    let error = waiting.wait::<HeartbeatResponse>(LONG).await.expect_err("cut short");
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(connection.is_closed());
}

#[tokio::test]
async fn a_lie_about_the_length_makes_no_room_and_ends_the_connection() {
    for length in [i32::MAX, -1, 100_000_001] {
        let (connection, mut peer) = connected().await;
        let waiting = connection.send(&heartbeat("a"), 4).expect("sent");
        peer.request().await;
        peer.stream.write_all(&length.to_be_bytes()).await.expect("a taker");
        let error = waiting.wait::<HeartbeatResponse>(LONG).await.expect_err("a lie");
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    }
}

#[tokio::test]
async fn a_closed_connection_tells_everybody_who_waits() {
    let (connection, mut peer) = connected().await;
    let first = connection.send(&heartbeat("a"), 4).expect("sent");
    let second = connection.send(&heartbeat("b"), 4).expect("sent");
    peer.request().await;
    drop(peer);
    for answer in [first, second] {
        let error = answer.wait::<HeartbeatResponse>(LONG).await.expect_err("closed");
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    }
}

#[tokio::test]
async fn what_was_sent_goes_out_after_the_last_handle_is_gone() {
    let (connection, mut peer) = connected().await;
    connection.send_unanswered(&heartbeat("last words"), 4).expect("sent");
    drop(connection);
    peer.request().await;
    let mut rest = Vec::new();
    peer.stream.read_to_end(&mut rest).await.expect("the end");
    assert!(rest.is_empty());
}

#[tokio::test]
async fn an_old_broker_is_asked_again_in_its_own_version() {
    let (listener, address) = listen().await;
    let settings = settings();
    let peer = async {
        let mut peer = accept(&listener).await;
        let asked = peer.request().await;
        assert_eq!(asked.header.request_api_version, 3);
        let row = ApiVersion {
            api_key: ApiVersionsRequest::API_KEY.code(),
            max_version: 2,
            ..Default::default()
        };
        let mut response = ApiVersionsResponse {
            error_code: ErrorCode::UnsupportedVersion,
            api_keys: vec![row],
            ..Default::default()
        };
        peer.answer::<ApiVersionsRequest>(asked.header.correlation_id, 0, &response).await;
        let asked = peer.request().await;
        assert_eq!(asked.header.request_api_version, 2);
        response.error_code = ErrorCode::None;
        peer.answer::<ApiVersionsRequest>(asked.header.correlation_id, 2, &response).await;
    };
    let (connection, ()) = tokio::join!(Connection::open(&address, &settings, &PLAIN, FIRST), peer);
    let connection = connection.expect("connected");
    assert!(connection.versions().has(ApiVersionsRequest::API_KEY));
    let error = connection.call(&MetadataRequest::default(), LONG).await.expect_err("not there");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.to_string(), "the broker does not have Metadata");
}

#[tokio::test]
async fn what_is_no_kafka_broker_is_named_so() {
    let (listener, address) = listen().await;
    let settings = settings();
    let peer = async {
        let mut peer = accept(&listener).await;
        peer.request().await;
        peer.stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("a taker");
        peer
    };
    let (connection, _peer) =
        tokio::join!(Connection::open(&address, &settings, &PLAIN, FIRST), peer);
    let error = connection.expect_err("that is HTTP");
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("1213486160 bytes"), "{error}");
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error_that_names_it() {
    let (listener, address) = listen().await;
    drop(listener);
    let error = Connection::open(&address, &settings(), &PLAIN, FIRST).await.expect_err("nobody");
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
