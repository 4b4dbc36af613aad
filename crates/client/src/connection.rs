//! One connection to a broker: requests go out one after the other without waiting for answers, answers come back in that order.
//!
//! Owns the socket, the negotiated versions, correlation, framing and deadlines. Does not know brokers, topics or retries: whoever
//! asks again does so over a new [`Connection`].
//!
//! **Architecture invariants:** an answer is handed to nobody but the one who asked for it; a correlation id that is not the next
//! one ends the connection. A request that is out of time ends the connection too, for whatever stands behind it in line waits as
//! well. Whoever stops waiting loses only its own answer. A length off the wire makes no more room than what has
//! arrived justifies.

mod frames;
mod handshake;
mod io;
pub(crate) mod sasl;
mod tls;
mod transport;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use bytestring::ByteString;
use kavka_protocol::{
    ApiKey, EncodeError, Message, Reader, Request, Sink, Writer,
    messages::{RequestHeader, ResponseHeader},
    wire::Counter,
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};

use self::tls::Tls;
use crate::{
    Error, ErrorKind,
    settings::{Address, CommonSettings},
};

/// A handle on a connection; clones share it. When the last one is gone, what was
/// sent before still goes out, then the connection is closed.
#[derive(Clone, Debug)]
pub(crate) struct Connection(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    frames: mpsc::UnboundedSender<Frame>,
}

/// What handles and the task of a connection have in common.
#[derive(Debug)]
struct Shared {
    address: Address,
    client_id: ByteString,
    versions: Versions,
    next_correlation_id: AtomicI32,
    /// From when on new requests go out over another connection.
    retires: Option<Instant>,
    is_closed: AtomicBool,
    /// Why; set before `is_closed`.
    reason: Mutex<Option<Error>>,
    close: Notify,
}

/// What protects connections, ready for use.
#[derive(Clone, Debug)]
pub(crate) struct Security {
    tls: Option<Tls>,
}

/// How patient an attempt to connect is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// How long each address of the host may take, TLS and authentication included.
    pub(crate) timeout: Duration,
    /// Attempts in a row that came to nothing: another of the host's addresses is tried first.
    pub(crate) failures: usize,
}

/// A request on its way out.
#[derive(Debug)]
struct Frame {
    correlation_id: i32,
    pieces: Vec<Bytes>,
    reply: Reply,
}

/// Who waits for what.
#[derive(Debug)]
enum Reply {
    /// For the answer.
    Answer(oneshot::Sender<Result<Bytes, Error>>),
    /// For the request to be written; there will be no answer.
    Written(oneshot::Sender<()>),
}

impl Security {
    /// Reads what the settings name.
    ///
    /// # Errors
    /// A certificate or a key cannot be read or used; the error names it.
    pub(crate) fn new(settings: &CommonSettings) -> Result<Self, Error> {
        let has_tls = settings.security_protocol.has_tls();
        let tls = has_tls.then(|| Tls::new(&settings.security.tls)).transpose()?;
        Ok(Self { tls })
    }
}

/// When a connection retires whose session has just begun: after 85 to 95 % of it, so that not all retire at once.
fn retirement(session: Duration) -> Result<Instant, Error> {
    let mut spread = [0];
    sasl::scram::random(&mut spread)?;
    let part = 0.85 + 0.1 * f64::from(spread[0]) / 255.0;
    // What never ends in the life of a machine need not be exact.
    let session = session.min(Duration::from_secs(365 * 86_400));
    Ok(Instant::now() + session.mul_f64(part))
}

/// The versions that the broker has, by API.
#[derive(Clone, Debug, Default)]
pub(crate) struct Versions(BTreeMap<i16, (i16, i16)>);

impl Versions {
    /// The newest version of an API that both sides have, and that is at most `newest`.
    pub(crate) fn newest(&self, api: ApiKey, newest: i16) -> Result<i16, Error> {
        let (ours_low, ours_high) = api.versions();
        let Some((low, high)) = self.0.get(&api.code()).copied() else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the broker does not have {}", api.name()),
            ));
        };
        let version = high.min(ours_high).min(newest);
        if version < low.max(ours_low) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the broker has {} in versions {low} to {high}; this request needs one of {ours_low} to {}",
                    api.name(),
                    ours_high.min(newest),
                ),
            ));
        }
        Ok(version)
    }

    /// Whether the broker has an API at all.
    pub(crate) fn has(&self, api: ApiKey) -> bool {
        self.0.contains_key(&api.code())
    }
}

impl Connection {
    /// Connects, sets up TLS and authenticates where the settings ask for it, and asks for versions.
    ///
    /// Cancel safe: a connection half made is dropped.
    pub(crate) async fn open(
        address: &Address,
        settings: &CommonSettings,
        security: &Security,
        setup: Setup,
    ) -> Result<Self, Error> {
        let (stream, begun) = transport::connect(address, settings, setup).await?;
        let opened = handshake::run(stream, address, settings, security);
        let ready =
            tokio::time::timeout_at(begun + setup.timeout, opened).await.map_err(|_| {
                Error::new(
                    ErrorKind::Connect,
                    format!(
                        "{address} took the connection but was not ready for requests within {:?}",
                        setup.timeout
                    ),
                )
            })??;
        let (frames, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            address: address.clone(),
            client_id: settings.client_id.clone(),
            versions: ready.versions,
            next_correlation_id: AtomicI32::new(0),
            retires: ready.session.map(retirement).transpose()?,
            is_closed: AtomicBool::new(false),
            reason: Mutex::default(),
            close: Notify::new(),
        });
        tokio::spawn(io::run(ready.stream, queue, Arc::clone(&shared), io::Limits::of(settings)));
        Ok(Self(Arc::new(Handle { shared, frames })))
    }

    /// The other end.
    pub(crate) fn address(&self) -> &Address {
        &self.0.shared.address
    }

    /// What the broker has.
    pub(crate) fn versions(&self) -> &Versions {
        &self.0.shared.versions
    }

    /// Whether nothing can be asked any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.shared.is_closed.load(Ordering::Acquire)
    }

    /// Whether what we authenticated with ends soon (KIP-368): whoever needs a connection makes a new one. Who has this one can go on,
    /// and it closes when the last has its answer. Authenticating anew on the same connection would hold up its requests.
    pub(crate) fn is_retired(&self) -> bool {
        self.0.shared.retires.is_some_and(|time| Instant::now() >= time)
    }

    /// Ends the connection for all handles. Who waits is told why.
    pub(crate) fn close(&self, reason: Error) {
        self.0.shared.end(reason);
    }

    /// Asks in the newest version both sides have, and waits for the answer.
    ///
    /// Cancel safe: the request may have been sent; its answer is dropped, the connection goes on.
    pub(crate) async fn call<R: Request>(
        &self,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, Error> {
        self.call_up_to(request, *R::VERSIONS.end(), timeout).await
    }

    /// As [`Connection::call`], in a version of at most `newest`.
    pub(crate) async fn call_up_to<R: Request>(
        &self,
        request: &R,
        newest: i16,
        timeout: Duration,
    ) -> Result<R::Response, Error> {
        let version = self.versions().newest(R::API_KEY, newest)?;
        let answer = self.send(request, version)?;
        answer.wait::<R::Response>(timeout).await
    }

    /// Sends a request in a version; the answer can be waited for later. What is sent first is worked on first.
    pub(crate) fn send<R: Request>(&self, request: &R, version: i16) -> Result<Answer, Error> {
        self.send_encoded(R::API_KEY, version, &|sink| request.encode(sink, version))
    }

    /// Sends a body that is encoded already.
    pub(crate) fn send_body(
        &self,
        api: ApiKey,
        version: i16,
        body: &Bytes,
    ) -> Result<Answer, Error> {
        self.send_encoded(api, version, &|sink| {
            sink.put_shared(body);
            Ok(())
        })
    }

    /// Sends a request that nobody answers: Produce with acks 0.
    pub(crate) fn send_unanswered<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<Written, Error> {
        let encode = |sink: &mut dyn Sink| request.encode(sink, version);
        let (correlation_id, pieces) = self.frame(R::API_KEY, version, &encode)?;
        let (written, receiver) = oneshot::channel();
        self.enqueue(Frame { correlation_id, pieces, reply: Reply::Written(written) })?;
        Ok(Written { connection: Arc::clone(&self.0.shared), _handle: self.clone(), receiver })
    }

    fn send_encoded(
        &self,
        api: ApiKey,
        version: i16,
        encode: &dyn Fn(&mut dyn Sink) -> Result<(), EncodeError>,
    ) -> Result<Answer, Error> {
        let (correlation_id, pieces) = self.frame(api, version, encode)?;
        let (answer, receiver) = oneshot::channel();
        self.enqueue(Frame { correlation_id, pieces, reply: Reply::Answer(answer) })?;
        Ok(Answer {
            connection: Arc::clone(&self.0.shared),
            _handle: self.clone(),
            api,
            version,
            receiver,
        })
    }

    /// Length, header and body; large `Bytes` of the body are shared, not copied.
    fn frame(
        &self,
        api: ApiKey,
        version: i16,
        encode: &dyn Fn(&mut dyn Sink) -> Result<(), EncodeError>,
    ) -> Result<(i32, Vec<Bytes>), Error> {
        let shared = &self.0.shared;
        let correlation_id = shared.next_correlation_id.fetch_add(1, Ordering::Relaxed);
        let header = RequestHeader {
            request_api_key: api.code(),
            request_api_version: version,
            correlation_id,
            client_id: Some(shared.client_id.clone()),
            ..Default::default()
        };
        let header_version = api.request_header_version(version);
        let cannot = |error| {
            Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{} cannot be asked of the broker at {} in version {version}: {error}",
                    api.name(),
                    shared.address
                ),
            )
        };
        let mut counter = Counter::default();
        header.encode(&mut counter, header_version).map_err(cannot)?;
        encode(&mut counter).map_err(cannot)?;
        let size = i32::try_from(counter.size()).map_err(|_| {
            Error::new(ErrorKind::Config, format!("a {} request of over 2 GiB", api.name()))
        })?;
        counter.put_int32(0);
        let mut writer = Writer::for_counted(&counter);
        writer.put_int32(size);
        header.encode(&mut writer, header_version).map_err(cannot)?;
        encode(&mut writer).map_err(cannot)?;
        Ok((correlation_id, writer.into_pieces()))
    }

    fn enqueue(&self, frame: Frame) -> Result<(), Error> {
        if self.is_closed() {
            return Err(self.0.shared.why());
        }
        self.0.frames.send(frame).map_err(|_| self.0.shared.why())
    }
}

/// A request that is on its way to the socket.
#[derive(Debug)]
pub(crate) struct Written {
    connection: Arc<Shared>,
    /// Keeps the connection while somebody waits.
    _handle: Connection,
    receiver: oneshot::Receiver<()>,
}

impl Written {
    /// Waits until it is written, at most until `deadline`; if that passes, the connection is closed.
    ///
    /// Cancel safe: it is still written.
    pub(crate) async fn wait(self, deadline: Instant) -> Result<(), Error> {
        match tokio::time::timeout_at(deadline, self.receiver).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.connection.why()),
            Err(_) => {
                let error = Error::new(
                    ErrorKind::TimedOut,
                    format!("{} took no more requests", self.connection.address),
                );
                self.connection.end(error.clone());
                Err(error)
            }
        }
    }
}

/// An answer that is still to come. Dropping it gives up the answer, not the request.
#[derive(Debug)]
pub(crate) struct Answer {
    connection: Arc<Shared>,
    /// Keeps the connection while somebody waits.
    _handle: Connection,
    api: ApiKey,
    version: i16,
    receiver: oneshot::Receiver<Result<Bytes, Error>>,
}

impl Answer {
    /// The version it will be in.
    pub(crate) fn version(&self) -> i16 {
        self.version
    }

    /// Waits for the answer, for at most `timeout` from now; if that passes, the connection is closed.
    ///
    /// Cancel safe: the answer is dropped, the connection goes on.
    pub(crate) async fn wait<M: Message>(self, timeout: Duration) -> Result<M, Error> {
        let (connection, api, version) = (Arc::clone(&self.connection), self.api, self.version);
        let body = self.wait_body(timeout).await?;
        M::decode(&mut Reader::new(body), version).map_err(|error| {
            let error = Error::new(
                ErrorKind::Protocol,
                format!(
                    "the answer of {} to {} version {version} cannot be read: {error}",
                    connection.address,
                    api.name(),
                ),
            );
            connection.end(error.clone());
            error
        })
    }

    /// As [`Answer::wait`], but the body stays as it came.
    pub(crate) async fn wait_body(self, timeout: Duration) -> Result<Bytes, Error> {
        let Self { connection, _handle, api, version, receiver } = self;
        let frame = match tokio::time::timeout(timeout, receiver).await {
            Ok(Ok(frame)) => frame?,
            Ok(Err(_)) => return Err(connection.why()),
            Err(_) => {
                let error = Error::new(
                    ErrorKind::TimedOut,
                    format!(
                        "{} did not answer {} within {timeout:?}",
                        connection.address,
                        api.name()
                    ),
                );
                connection.end(error.clone());
                return Err(error);
            }
        };
        let mut reader = Reader::new(frame.clone());
        let header = ResponseHeader::decode(&mut reader, api.response_header_version(version));
        match header {
            Ok(_) => Ok(frame.slice(frame.len() - reader.remaining()..)),
            Err(error) => {
                let error = Error::new(
                    ErrorKind::Protocol,
                    format!(
                        "the header of an answer of {} cannot be read: {error}",
                        connection.address
                    ),
                );
                connection.end(error.clone());
                Err(error)
            }
        }
    }
}

impl Shared {
    /// Ends the connection; the first reason stays.
    fn end(&self, reason: Error) {
        self.reason().get_or_insert(reason);
        self.is_closed.store(true, Ordering::Release);
        self.close.notify_one();
    }

    fn why(&self) -> Error {
        self.reason().clone().unwrap_or_else(|| {
            Error::new(
                ErrorKind::Disconnected,
                format!("the connection to {} is gone", self.address),
            )
        })
    }

    fn reason(&self) -> MutexGuard<'_, Option<Error>> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
