//! What happens on a connection before it carries requests: the versions are asked for.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use kavka_protocol::{
    ErrorCode, Message, Reader, Request,
    messages::{ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader},
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{Versions, io::read_frame, transport::Stream};
use crate::{
    Error, ErrorKind,
    settings::{Address, CommonSettings},
};

/// The version in which ApiVersions is asked first, and the one in which a broker answers that does not know it (KIP-511).
const NEWEST: i16 = 3;
const OLDEST: i16 = 0;

/// A stream that is asked one thing at a time.
struct Dialogue<'a, S> {
    stream: S,
    input: BytesMut,
    address: &'a Address,
    settings: &'a CommonSettings,
    next_correlation_id: i32,
}

/// Gets a stream ready.
pub(super) async fn run(
    stream: Stream,
    address: &Address,
    settings: &CommonSettings,
) -> Result<(Stream, Versions), Error> {
    match stream {
        Stream::Plain(stream) => {
            let mut dialogue = Dialogue::new(stream, address, settings);
            let versions = dialogue.versions().await?;
            Ok((Stream::Plain(dialogue.stream), versions))
        }
    }
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Dialogue<'a, S> {
    fn new(stream: S, address: &'a Address, settings: &'a CommonSettings) -> Self {
        // The ids of a handshake end below those of the requests that follow; nothing is in flight between.
        Self { stream, input: BytesMut::new(), address, settings, next_correlation_id: i32::MIN }
    }

    /// Which APIs the broker has, in which versions.
    async fn versions(&mut self) -> Result<Versions, Error> {
        let request = ApiVersionsRequest {
            client_software_name: ByteString::from_static("kavka"),
            client_software_version: ByteString::from_static(env!("CARGO_PKG_VERSION")),
            ..Default::default()
        };
        let mut version = NEWEST;
        loop {
            let body = self.ask(&request, version).await?;
            let code =
                body.first_chunk::<2>().map(|code| ErrorCode::from(i16::from_be_bytes(*code)));
            // A broker that does not know the version answers in the oldest, with the versions it knows (KIP-511).
            let is_unknown = code == Some(ErrorCode::UnsupportedVersion);
            let answered_in = if is_unknown { OLDEST } else { version };
            let response = ApiVersionsResponse::decode(&mut Reader::new(body), answered_in)
                .map_err(|error| self.unreadable(&error))?;
            match response.error_code {
                ErrorCode::None => {
                    let rows = response.api_keys.iter();
                    return Ok(Versions(
                        rows.map(|row| (row.api_key, (row.min_version, row.max_version))).collect(),
                    ));
                }
                ErrorCode::UnsupportedVersion if version > OLDEST => {
                    let key = ApiVersionsRequest::API_KEY.code();
                    let offered = response.api_keys.iter().find(|row| row.api_key == key);
                    version =
                        offered.map_or(OLDEST, |row| row.max_version).clamp(OLDEST, version - 1);
                }
                code => {
                    return Err(Error::broker(
                        code,
                        format_args!("asking {} for its versions", self.address),
                    ));
                }
            }
        }
    }

    /// Sends a request and waits for the body of its answer.
    async fn ask<R: Request>(&mut self, request: &R, version: i16) -> Result<Bytes, Error> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        let header = RequestHeader {
            request_api_key: R::API_KEY.code(),
            request_api_version: version,
            correlation_id,
            client_id: Some(self.settings.client_id.clone()),
            ..Default::default()
        };
        let mut frame = vec![0; 4];
        header
            .encode(&mut frame, R::API_KEY.request_header_version(version))
            .and_then(|()| request.encode(&mut frame, version))
            .map_err(|error| Error::new(ErrorKind::Config, error.to_string()))?;
        let length = u32::try_from(frame.len() - 4)
            .map_err(|_| Error::new(ErrorKind::Config, "a handshake of over 4 GiB"))?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame).await.map_err(|error| {
            Error::new(ErrorKind::Connect, format!("{} takes no requests: {error}", self.address))
        })?;
        let limit = self.settings.receive_message_max_bytes;
        let frame = read_frame(&mut self.stream, &mut self.input, self.address, limit).await?;
        let mut reader = Reader::new(frame.clone());
        let header_version = R::API_KEY.response_header_version(version);
        let header = ResponseHeader::decode(&mut reader, header_version)
            .map_err(|error| self.unreadable(&error))?;
        if header.correlation_id != correlation_id {
            return Err(self.unreadable(&format_args!(
                "correlation id {} instead of {correlation_id}",
                header.correlation_id
            )));
        }
        Ok(frame.slice(frame.len() - reader.remaining()..))
    }

    fn unreadable(&self, why: &dyn std::fmt::Display) -> Error {
        Error::new(
            ErrorKind::Protocol,
            format!("what {} answered is not the Kafka protocol: {why}", self.address),
        )
    }
}
