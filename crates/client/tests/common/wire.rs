//! What made-up brokers share: requests as they come over a connection, and the answers as they go.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use bytes::{Bytes, BytesMut};
use kavka_protocol::{
    ApiKey, Message, Reader, Request,
    messages::{RequestHeader, ResponseHeader},
};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// A request.
pub struct Asked {
    pub api: ApiKey,
    pub version: i16,
    correlation_id: i32,
    body: Reader,
}

impl Asked {
    /// The next request of a connection; `None` once the client has hung up.
    pub async fn read(stream: &mut TcpStream) -> Option<Self> {
        let length = stream.read_i32().await.ok()?;
        let mut frame = BytesMut::zeroed(usize::try_from(length).unwrap());
        stream.read_exact(&mut frame).await.ok()?;
        let number = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
        let (api, version) = (ApiKey::from_code(number(0)).unwrap(), number(2));
        let mut body = Reader::new(frame.freeze());
        let header = RequestHeader::decode(&mut body, api.request_header_version(version)).unwrap();
        Some(Self { api, version, correlation_id: header.correlation_id, body })
    }

    /// What is asked; once.
    pub fn body<R: Request>(&mut self) -> R {
        assert_eq!(self.api, R::API_KEY);
        R::decode(&mut self.body, self.version).unwrap()
    }

    /// The answer as it goes over the connection, length included.
    pub fn answer<R: Request>(&self, response: &R::Response) -> Bytes {
        let header = ResponseHeader { correlation_id: self.correlation_id, ..Default::default() };
        let header_version = self.api.response_header_version(self.version);
        let header = header.to_bytes(header_version).unwrap();
        let body = response.to_bytes(self.version).unwrap();
        let length = u32::try_from(header.len() + body.len()).unwrap();
        [&length.to_be_bytes()[..], &header, &body].concat().into()
    }
}
