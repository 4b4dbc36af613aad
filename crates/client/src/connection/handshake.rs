//! What happens on a connection before it carries requests: TLS, the versions are asked for, we say who we are.
//!
//! # References
//! KIP-43 and KIP-152 (SASL as requests), KIP-368 (sessions that end), KIP-511 (versions).

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use bytestring::ByteString;
use kavka_environment::Socket;
use kavka_protocol::{
    ErrorCode, Message, Reader, Request,
    messages::{
        ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader,
        SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
        SaslHandshakeResponse,
    },
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{
    Security, Versions,
    frames::Frames,
    sasl::{Begun, Exchange},
    transport::Stream,
};
use crate::{
    Error, ErrorKind,
    settings::{Address, CommonSettings},
};

/// The version in which ApiVersions is asked first, and the one in which a broker answers that does not know it (KIP-511).
const NEWEST: i16 = 3;
const OLDEST: i16 = 0;

/// The version of SaslHandshake after which SASL goes on as requests.
const AS_REQUESTS: i16 = 1;
/// No mechanism goes to and fro more often.
const MAX_ROUNDS: usize = 8;

/// A stream that is ready for requests.
pub(super) struct Ready {
    pub(super) stream: Stream,
    pub(super) versions: Versions,
    /// For how long we may stay without saying again who we are, if the broker sets a limit (KIP-368).
    pub(super) session: Option<Duration>,
}

/// A stream that is asked one thing at a time.
struct Dialogue<'a, S> {
    stream: S,
    frames: Frames,
    address: &'a Address,
    settings: &'a CommonSettings,
    next_correlation_id: i32,
}

/// Gets a stream ready.
pub(super) async fn run(
    stream: Socket,
    address: &Address,
    settings: &CommonSettings,
    security: &Security,
) -> Result<Ready, Error> {
    match &security.tls {
        None => {
            let mut dialogue = Dialogue::new(stream, address, settings);
            let (versions, session) = dialogue.begin().await?;
            Ok(Ready { stream: Stream::Plain(dialogue.stream), versions, session })
        }
        Some(tls) => {
            let stream = tls.connect(stream, address).await?;
            let mut dialogue = Dialogue::new(stream, address, settings);
            let (versions, session) = dialogue.begin().await?;
            Ok(Ready { stream: Stream::Tls(Box::new(dialogue.stream)), versions, session })
        }
    }
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Dialogue<'a, S> {
    fn new(stream: S, address: &'a Address, settings: &'a CommonSettings) -> Self {
        // The ids of a handshake end below those of the requests that follow; nothing is in flight between.
        Self { stream, frames: Frames::default(), address, settings, next_correlation_id: i32::MIN }
    }

    /// Everything that comes before requests.
    async fn begin(&mut self) -> Result<(Versions, Option<Duration>), Error> {
        let versions = self.versions().await?;
        let session = if self.settings.security_protocol.has_sasl() {
            self.authenticate(&versions).await?
        } else {
            None
        };
        Ok((versions, session))
    }

    /// Says who we are; returns for how long that holds, if the broker sets a limit or what we show ends.
    async fn authenticate(&mut self, versions: &Versions) -> Result<Option<Duration>, Error> {
        let sasl = &self.settings.security.sasl;
        let Begun { mut exchange, first, expires } = Exchange::begin(sasl).await?;
        self.choose_mechanism(versions).await?;
        let api = SaslAuthenticateRequest::API_KEY;
        let version = versions.newest(api, *SaslAuthenticateRequest::VERSIONS.end())?;
        let mut said = first;
        for _ in 0..MAX_ROUNDS {
            let request = SaslAuthenticateRequest { auth_bytes: said.into(), ..Default::default() };
            let body = self.ask(&request, version).await?;
            let response = SaslAuthenticateResponse::decode(&mut Reader::new(body), version)
                .map_err(|error| self.unreadable(&error))?;
            if response.error_code != ErrorCode::None {
                let what = format_args!("authenticating with {}", self.address);
                return Err(Error::broker(response.error_code, what)
                    .with_detail(response.error_message.as_deref().map(AsRef::as_ref)));
            }
            let (judged, answer) = judge(exchange, response.auth_bytes).await?;
            exchange = judged;
            match answer.map_err(|error| error.while_doing(self.address))? {
                Some(next) => said = next,
                None => {
                    let session = u64::try_from(response.session_lifetime_ms).ok();
                    let session = session.filter(|ms| *ms > 0).map(Duration::from_millis);
                    let validity = expires
                        .map(|time| time.duration_since(SystemTime::now()).unwrap_or_default());
                    return Ok([session, validity].into_iter().flatten().min());
                }
            }
        }
        Err(self.unreadable(&"authentication does not come to an end"))
    }

    async fn choose_mechanism(&mut self, versions: &Versions) -> Result<(), Error> {
        let Some(mechanism) = self.settings.security.sasl.mechanism else {
            return Err(Error::new(ErrorKind::Config, "sasl.mechanism is missing"));
        };
        let version = versions.newest(SaslHandshakeRequest::API_KEY, AS_REQUESTS)?;
        if version < AS_REQUESTS {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{} is older than Kafka 1.0: SASL needs a newer one", self.address),
            ));
        }
        let request = SaslHandshakeRequest { mechanism: mechanism.to_string().into() };
        let body = self.ask(&request, version).await?;
        let response = SaslHandshakeResponse::decode(&mut Reader::new(body), version)
            .map_err(|error| self.unreadable(&error))?;
        let what = format_args!("asking {} for {mechanism}", self.address);
        match response.error_code {
            ErrorCode::None => Ok(()),
            code @ ErrorCode::UnsupportedSaslMechanism => {
                let offered = format!("it offers {}", response.mechanisms.join(", "));
                Err(Error::broker(code, what)
                    .with_detail(Some(&offered))
                    .with_advice("Set sasl.mechanism to one that the broker offers."))
            }
            code @ ErrorCode::IllegalSaslState => Err(Error::broker(code, what).with_advice(
                "The listener asks for no SASL: check the port, or set security.protocol without it.",
            )),
            code => Err(Error::broker(code, what)),
        }
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
        let frame = self.frames.next(&mut self.stream, self.address, limit).await?;
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

/// Has an answer judged where it does not hold up other connections: SCRAM hashes thousands of times.
async fn judge(
    mut exchange: Exchange,
    challenge: Bytes,
) -> Result<(Exchange, Result<Option<Vec<u8>>, Error>), Error> {
    let judge = move || {
        let answer = exchange.answer(&challenge);
        (exchange, answer)
    };
    tokio::task::spawn_blocking(judge).await.map_err(|_| {
        Error::new(ErrorKind::Closed, "the runtime ended while a connection was authenticated")
    })
}
