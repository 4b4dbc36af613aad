//! A blocking connection that speaks the raw protocol: frames, headers, correlation, negotiated versions.
//!
//! It does as little as it can, so that the load program leaves the processor to the broker. Every answer is matched to the
//! request it belongs to; error codes inside an answer are the caller's to check, and every caller here does.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use bytes::{Bytes, BytesMut};
use kavka_protocol::{
    ApiKey, ByteString, ErrorCode, Message, Reader, Request,
    messages::{ApiVersionsRequest, RequestHeader, ResponseHeader},
};

/// How long an answer may take before the run fails.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest answer that is read.
const MAX_FRAME_BYTES: usize = 512 << 20;
/// Where the correlation id stands in a frame that [`encode_frame`] made: after length, API key and version.
const CORRELATION_ID_AT: usize = 8;
/// The version in which ApiVersions is asked: every broker answers it, in a form that every version of it can be read from.
const API_VERSIONS_VERSION: i16 = 3;

/// The version spoken for each API: what broker and codec both know, or what the command line pins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Versions(Arc<BTreeMap<i16, i16>>);

impl Versions {
    /// Asks the broker, takes the highest version both sides know, and puts the pinned ones in their place.
    pub(crate) fn negotiate(
        address: SocketAddr,
        pinned: &BTreeMap<i16, i16>,
    ) -> anyhow::Result<Versions> {
        let mut connection = Connection::open(address, None, &Versions::default())?;
        let response = connection.api_versions()?;
        let mut versions = BTreeMap::new();
        for offered in &response.api_keys {
            let Some(key) = ApiKey::from_code(offered.api_key) else { continue };
            let (low, high) = key.versions();
            let version = match pinned.get(&offered.api_key) {
                Some(&version) => {
                    ensure!(
                        (offered.min_version..=offered.max_version).contains(&version)
                            && (low..=high).contains(&version),
                        "{} is pinned to version {version}; the broker has {}-{}, this program {low}-{high}",
                        key.name(),
                        offered.min_version,
                        offered.max_version,
                    );
                    version
                }
                None => offered.max_version.min(high),
            };
            if version >= offered.min_version.max(low) {
                versions.insert(offered.api_key, version);
            }
        }
        Ok(Versions(Arc::new(versions)))
    }

    /// The version spoken for the API of `R`.
    pub(crate) fn of<R: Request>(&self) -> anyhow::Result<i16> {
        self.0.get(&R::API_KEY.code()).copied().with_context(|| {
            format!("the broker offers no version of {} that is known here", R::NAME)
        })
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    versions: Versions,
    next_correlation_id: i32,
    /// The id that the next answer must carry: a broker answers in the order of the requests.
    next_answer_id: i32,
    input: BytesMut,
}

impl Connection {
    /// Connects, from the loopback address `source` if one is given.
    pub(crate) fn open(
        address: SocketAddr,
        source: Option<Ipv4Addr>,
        versions: &Versions,
    ) -> anyhow::Result<Connection> {
        let stream = match source {
            None => TcpStream::connect(address)
                .with_context(|| format!("cannot connect to {address}"))?,
            Some(source) => {
                let socket = socket2::Socket::new(
                    socket2::Domain::IPV4,
                    socket2::Type::STREAM,
                    Some(socket2::Protocol::TCP),
                )?;
                socket
                    .bind(&SocketAddr::from((source, 0)).into())
                    .with_context(|| format!("cannot connect from {source}"))?;
                socket
                    .connect(&address.into())
                    .with_context(|| format!("cannot connect from {source} to {address}"))?;
                socket.into()
            }
        };
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Connection {
            stream,
            versions: versions.clone(),
            next_correlation_id: 0,
            next_answer_id: 0,
            input: BytesMut::new(),
        })
    }

    /// The version spoken for the API of `R`.
    pub(crate) fn version_of<R: Request>(&self) -> anyhow::Result<i16> {
        self.versions.of::<R>()
    }

    /// Asks which APIs the broker has. Works before versions are negotiated.
    pub(crate) fn api_versions(
        &mut self,
    ) -> anyhow::Result<<ApiVersionsRequest as Request>::Response> {
        let request = ApiVersionsRequest {
            client_software_name: ByteString::from_static("kavka-benches"),
            client_software_version: ByteString::from_static(env!("CARGO_PKG_VERSION")),
            ..Default::default()
        };
        let mut frame = encode_frame(&request, API_VERSIONS_VERSION)?;
        self.send_frame(&mut frame)?;
        let response = self.receive_version::<ApiVersionsRequest>(API_VERSIONS_VERSION)?;
        check(response.error_code, "ApiVersions")?;
        Ok(response)
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn call<R: Request>(&mut self, request: &R) -> anyhow::Result<R::Response> {
        self.send(request)?;
        self.receive::<R>()
    }

    /// Sends a request; the answer is fetched later.
    pub(crate) fn send<R: Request>(&mut self, request: &R) -> anyhow::Result<()> {
        let mut frame = encode_frame(request, self.version_of::<R>()?)?;
        self.send_frame(&mut frame)
    }

    /// Sends several requests in one write; the answers are fetched later, one by one.
    pub(crate) fn send_all<R: Request>(
        &mut self,
        requests: impl IntoIterator<Item = R>,
    ) -> anyhow::Result<()> {
        let version = self.version_of::<R>()?;
        let mut frames = Vec::new();
        for request in requests {
            let mut frame = encode_frame(&request, version)?;
            self.number(&mut frame);
            frames.extend_from_slice(&frame);
        }
        self.stream.write_all(&frames).context("the broker takes no more requests")
    }

    /// Sends a frame that [`encode_frame`] built, under the next correlation id.
    pub(crate) fn send_frame(&mut self, frame: &mut [u8]) -> anyhow::Result<()> {
        self.number(frame);
        self.stream.write_all(frame).context("the broker takes no more requests")
    }

    fn number(&mut self, frame: &mut [u8]) {
        frame[CORRELATION_ID_AT..CORRELATION_ID_AT + 4]
            .copy_from_slice(&self.next_correlation_id.to_be_bytes());
        self.next_correlation_id = self.next_correlation_id.wrapping_add(1);
    }

    /// Waits for the next answer.
    pub(crate) fn receive<R: Request>(&mut self) -> anyhow::Result<R::Response> {
        self.receive_version::<R>(self.version_of::<R>()?)
    }

    fn receive_version<R: Request>(&mut self, version: i16) -> anyhow::Result<R::Response> {
        let frame = self.receive_frame().with_context(|| format!("no answer to {}", R::NAME))?;
        let mut reader = Reader::new(frame);
        let header =
            ResponseHeader::decode(&mut reader, R::API_KEY.response_header_version(version))?;
        ensure!(
            header.correlation_id == self.next_answer_id,
            "an answer came out of order: correlation id {} instead of {}",
            header.correlation_id,
            self.next_answer_id
        );
        self.next_answer_id = self.next_answer_id.wrapping_add(1);
        let response = R::Response::decode(&mut reader, version)
            .with_context(|| format!("the answer to {} version {version}", R::NAME))?;
        ensure!(
            reader.remaining() == 0,
            "{} bytes behind the answer to {} version {version}",
            reader.remaining(),
            R::NAME
        );
        Ok(response)
    }

    fn receive_frame(&mut self) -> anyhow::Result<Bytes> {
        self.fill(4)?;
        let length = self.input.split_to(4);
        let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= MAX_FRAME_BYTES)
            .with_context(|| format!("an answer of {length} bytes"))?;
        self.fill(length)?;
        Ok(self.input.split_to(length).freeze())
    }

    /// Reads until `wanted` bytes of input are there; small answers that came together are taken in one read.
    fn fill(&mut self, wanted: usize) -> anyhow::Result<()> {
        const READ_AHEAD: usize = 4096;
        let mut filled = self.input.len();
        if filled >= wanted {
            return Ok(());
        }
        self.input.resize(wanted.max(READ_AHEAD), 0);
        while filled < wanted {
            let read = self.stream.read(&mut self.input[filled..])?;
            if read == 0 {
                bail!("the broker closed the connection");
            }
            filled += read;
        }
        self.input.truncate(filled);
        Ok(())
    }
}

/// The frame of a request: length, header and body, with the correlation id left to [`Connection::send_frame`].
pub(crate) fn encode_frame<R: Request>(request: &R, version: i16) -> anyhow::Result<Vec<u8>> {
    let header = RequestHeader {
        request_api_key: R::API_KEY.code(),
        request_api_version: version,
        client_id: Some(ByteString::from_static("kavka-benches")),
        ..Default::default()
    };
    let header = header.to_bytes(R::API_KEY.request_header_version(version))?;
    let body = request
        .to_bytes(version)
        .with_context(|| format!("{} version {version} cannot be written", R::NAME))?;
    let length = i32::try_from(header.len() + body.len()).context("a request of over 2 GiB")?;
    let mut frame = Vec::with_capacity(4 + header.len() + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Turns an error code of an answer into a failure of the run.
pub(crate) fn check(code: ErrorCode, what: &str) -> anyhow::Result<()> {
    if code == ErrorCode::None {
        Ok(())
    } else {
        bail!("{what}: the broker answered {} ({})", code.name(), code.code())
    }
}
