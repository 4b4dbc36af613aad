//! From a frame to the handler of its API, and back to a frame.
//!
//! Owns headers, versions and framing. What an API does is in [`crate::handlers`], which APIs there are in [`crate::api`].

use std::{fmt::Display, net::SocketAddr, pin::Pin, sync::Arc};

use bytes::{Buf, Bytes};
use bytestring::ByteString;
use kavka_protocol::{
    ApiKey, ErrorCode, Message, Reader, Request, Sink, Writer,
    messages::{ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader},
    wire::Counter,
};
use tracing::error;

use crate::{
    api::{self, Api},
    broker::{Advertised, Broker},
    intercept::{self, Subject, Verdict},
    net::{Answer, CloseReason, budget::Charge},
};

/// A request under way.
pub(crate) type Handling = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Where connections hand their frames.
pub(crate) trait Dispatcher: Send + Sync {
    fn dispatch(&self, peer: Peer, frame: Bytes) -> Handling;
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// The address here that it has connected to.
    pub(crate) local: SocketAddr,
    /// The number of the listener that accepted it.
    pub(crate) listener: usize,
    /// Rises with every connection accepted.
    pub(crate) connection: u64,
}

/// What a handler knows of its request besides the request.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) broker: Arc<Broker>,
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) client_id: Option<ByteString>,
    pub(crate) peer: Peer,
}

impl Context {
    /// What this client is told to connect to: what its listener advertises, else the address it has connected to.
    pub(crate) fn advertised(&self) -> (ByteString, i32) {
        let Advertised { host, port } = &self.broker.advertised[self.peer.listener];
        let host = match host {
            Some(host) => host.clone(),
            None => ByteString::from(self.peer.local.ip().to_canonical().to_string()),
        };
        (host, i32::from(*port))
    }

    /// The client's address as Kafka writes it: `/10.0.0.1`.
    pub(crate) fn client_host(&self) -> ByteString {
        ByteString::from(format!("/{}", self.peer.address.ip().to_canonical()))
    }
}

/// One request on its way to its handler.
pub(crate) struct Call {
    context: Context,
    correlation_id: i32,
    body: Reader,
}

/// What a handler returns.
pub(crate) enum Reply<R> {
    /// The answer.
    Answer(R),
    /// The answer, and memory off the budget that goes back once it has left.
    Holding(R, Charge),
    /// No answer: acks=0.
    Silent,
    /// No answer, and the connection is closed: acks=0 and something failed.
    Failed(String),
}

impl<R> From<R> for Reply<R> {
    fn from(response: R) -> Self {
        Reply::Answer(response)
    }
}

impl Dispatcher for Arc<Broker> {
    fn dispatch(&self, peer: Peer, frame: Bytes) -> Handling {
        match open(self, peer, frame) {
            Ok(Opened::Call(api, call)) => (api.handler)(call),
            Ok(Opened::TooNew(call)) => answer_too_new(call),
            Err(answer) => Box::pin(std::future::ready(answer)),
        }
    }
}

enum Opened {
    Call(&'static Api, Call),
    /// ApiVersions, in a version whose body cannot be read.
    TooNew(Call),
}

/// Reads the header, and finds the API. Whatever is wrong here closes the connection, as in Apache Kafka; only a version of
/// ApiVersions that is too new gets an answer, in version 0, so that the client can choose another one (KIP-511).
fn open(broker: &Arc<Broker>, peer: Peer, frame: Bytes) -> Result<Opened, Answer> {
    let malformed = |what: &dyn Display| Answer::Close(CloseReason::Malformed(what.to_string()));
    let mut peek = frame.clone();
    if peek.remaining() < 4 {
        return Err(malformed(&format_args!("{} bytes are no header", frame.len())));
    }
    let (key, version) = (peek.get_i16(), peek.get_i16());
    let Some((api, key)) = ApiKey::from_code(key).and_then(|key| Some((api::find(key)?, key)))
    else {
        return Err(malformed(&format_args!("unknown API {key}")));
    };
    let mut body = Reader::new(frame);
    let header = RequestHeader::decode(&mut body, key.request_header_version(version))
        .map_err(|error| malformed(&error))?;
    let correlation_id = header.correlation_id;
    let is_known = api.versions.contains(&version);
    if !is_known && key != ApiKey::ApiVersions {
        let range = &api.versions;
        return Err(malformed(&format_args!(
            "{key} version {version} is not supported (versions {} to {} are)",
            range.start(),
            range.end()
        )));
    }
    if !broker.authorizer.allows(&peer, api) {
        let (operation, resource) = (api.operation, api.resource);
        return Err(malformed(&format_args!(
            "{key}: {operation:?} on {resource:?} is not allowed"
        )));
    }
    let context = Context {
        broker: Arc::clone(broker),
        api: key,
        version,
        client_id: header.client_id,
        peer,
    };
    let call = Call { context, correlation_id, body };
    Ok(if is_known { Opened::Call(api, call) } else { Opened::TooNew(call) })
}

/// Tells a client which versions of ApiVersions there are. An interceptor sees the request without a body.
fn answer_too_new(call: Call) -> Handling {
    let Call { context, correlation_id, .. } = call;
    let answer = move |response: ApiVersionsResponse| -> Handling {
        let answer = encode(ApiKey::ApiVersions, 0, correlation_id, &response, None);
        Box::pin(std::future::ready(answer))
    };
    let Some(interceptor) = &context.broker.interceptor else {
        return answer(api::unsupported_version_response());
    };
    let request = ApiVersionsRequest::default();
    let verdict = intercept::ask(&**interceptor, &context, &request);
    if let Verdict::Fail(error) = verdict
        && let Some(refused) = request.refused(error, 0)
    {
        return answer(refused);
    }
    let broker = Arc::clone(&context.broker);
    intercept::carry_out(verdict, broker, move || answer(api::unsupported_version_response()))
}

/// Decodes the request, runs its handler, encodes what it returned.
pub(crate) fn run<R, F, T>(call: Call, handler: fn(Context, R) -> F) -> Handling
where
    R: Subject + Send + 'static,
    R::Response: Send,
    F: Future<Output = T> + Send + 'static,
    T: Into<Reply<R::Response>> + 'static,
{
    let Call { context, correlation_id, mut body } = call;
    let (api, version) = (context.api, context.version);
    let request = match R::decode(&mut body, version) {
        Ok(request) => request,
        Err(error) => {
            let reason = CloseReason::Malformed(format!("{api} version {version}: {error}"));
            return Box::pin(std::future::ready(Answer::Close(reason)));
        }
    };
    drop(body);
    if let Some(interceptor) = &context.broker.interceptor {
        let verdict = intercept::ask(&**interceptor, &context, &request);
        if let Verdict::Fail(error) = verdict
            && let Some(refused) = request.refused(error, version)
        {
            let answer = encode(api, version, correlation_id, &refused, None);
            return Box::pin(std::future::ready(answer));
        }
        let broker = Arc::clone(&context.broker);
        return intercept::carry_out(verdict, broker, move || {
            answer(correlation_id, context, request, handler)
        });
    }
    answer(correlation_id, context, request, handler)
}

/// Runs the handler, encodes what it returned.
fn answer<R, F, T>(
    correlation_id: i32,
    context: Context,
    request: R,
    handler: fn(Context, R) -> F,
) -> Handling
where
    R: Request + 'static,
    R::Response: Send,
    F: Future<Output = T> + Send + 'static,
    T: Into<Reply<R::Response>> + 'static,
{
    let (api, version) = (context.api, context.version);
    let handling = handler(context, request);
    Box::pin(async move {
        match handling.await.into() {
            Reply::Answer(response) => encode(api, version, correlation_id, &response, None),
            Reply::Holding(response, held) => {
                encode(api, version, correlation_id, &response, Some(held))
            }
            Reply::Silent => Answer::Silent,
            Reply::Failed(what) => Answer::Close(CloseReason::FailedWithoutAnswer(what)),
        }
    })
}

/// The frame of a response: length, header, body.
fn encode<M: Message>(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &M,
    held: Option<Charge>,
) -> Answer {
    let header = ResponseHeader { correlation_id, ..Default::default() };
    let header_version = api.response_header_version(version);
    let mut counter = Counter::default();
    counter.put_int32(0);
    let sized = header
        .encode(&mut counter, header_version)
        .and_then(|()| response.encode(&mut counter, version));
    let mut writer = Writer::for_counted(&counter);
    writer.put_int32((counter.size() - 4) as i32);
    let written = sized
        .and_then(|()| header.encode(&mut writer, header_version))
        .and_then(|()| response.encode(&mut writer, version));
    match written {
        Ok(()) => Answer::Send { pieces: writer.into_pieces(), held },
        Err(error) => {
            // A handler built what this version cannot say: our mistake, seen in tests of every version.
            error!(%api, version, "cannot encode a response: {error}");
            Answer::Close(CloseReason::FailedWithoutAnswer(format!(
                "{api} version {version}: {} ({error})",
                ErrorCode::UnknownServerError
            )))
        }
    }
}
