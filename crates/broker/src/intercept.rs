//! What may come between a request and its handler: a rule of a test, in place of a network or a broker that fails.
//!
//! Nothing does in production: then it costs one branch. Where an [`Interceptor`] is given
//! ([`StartOptions`](crate::StartOptions)), it is shown every request that was understood, and says what becomes of it.
//!
//! `subject` knows, for each API, what a request is about and how it is answered when it fails as a whole.

mod subject;

use std::{fmt, net::SocketAddr, pin::Pin, sync::Arc};

use bytestring::ByteString;
use kavka_protocol::{ApiKey, ErrorCode};

pub(crate) use self::subject::Subject;
use crate::{
    broker::Broker,
    dispatch::{Context, Handling},
    net::{Answer, CloseReason},
};

/// Sees every request before its handler does.
pub trait Interceptor: Send + Sync {
    /// Says what becomes of the request. Called on the thread that read it, which serves others too: it must not block.
    fn intercept(&self, request: &InterceptedRequest) -> Verdict;
}

/// A request, as far as it matters who asks what about whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterceptedRequest {
    /// The API.
    pub api: ApiKey,
    /// The version.
    pub version: i16,
    /// `client.id`.
    pub client_id: Option<ByteString>,
    /// The groups that it is about.
    pub groups: Vec<ByteString>,
    /// The topics that it is about. A topic that it names by an id that is unknown is not among them.
    pub topics: Vec<ByteString>,
    /// The client's address.
    pub peer: SocketAddr,
}

/// Something to wait for.
pub type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What becomes of a request. Whatever it is, answers leave in the order of the requests of their connection, and later requests
/// are worked on while an earlier one waits.
pub enum Verdict {
    /// It is handled.
    Handle,
    /// It is handled after this.
    HandleAfter(Wait),
    /// It is handled, and its answer leaves after this.
    AnswerAfter(Wait),
    /// It is not handled; the answer has this error where Kafka puts one that concerns the request as a whole. A request that
    /// gets no answer (acks=0) has its connection closed.
    Fail(ErrorCode),
    /// It is not handled and never answered, and nothing after it on this connection is answered either.
    Ignore,
    /// It is handled and never answered, and nothing after it on this connection is answered either.
    LoseAnswer,
    /// It is not handled; the connection is closed.
    Close,
    /// It is handled; the connection is closed in place of an answer.
    CloseUnanswered,
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Handle => f.write_str("Handle"),
            Verdict::HandleAfter(_) => f.write_str("HandleAfter"),
            Verdict::AnswerAfter(_) => f.write_str("AnswerAfter"),
            Verdict::Fail(code) => write!(f, "Fail({})", code.name()),
            Verdict::Ignore => f.write_str("Ignore"),
            Verdict::LoseAnswer => f.write_str("LoseAnswer"),
            Verdict::Close => f.write_str("Close"),
            Verdict::CloseUnanswered => f.write_str("CloseUnanswered"),
        }
    }
}

/// Asks `interceptor` about a request.
pub(crate) fn ask<R: Subject>(
    interceptor: &dyn Interceptor,
    context: &Context,
    request: &R,
) -> Verdict {
    interceptor.intercept(&InterceptedRequest {
        api: context.api,
        version: context.version,
        client_id: context.client_id.clone(),
        groups: request.groups(),
        topics: request.topics(&context.broker.meta.image()),
        peer: context.peer.address,
    })
}

/// Carries out a verdict over a request that is not refused: `handle` is what its handler would do.
pub(crate) fn carry_out(
    verdict: Verdict,
    broker: Arc<Broker>,
    handle: impl FnOnce() -> Handling + Send + 'static,
) -> Handling {
    match verdict {
        Verdict::Handle => handle(),
        Verdict::HandleAfter(wait) => Box::pin(async move {
            match unless_stopped(&broker, wait).await {
                Ok(()) => handle().await,
                Err(stopping) => stopping,
            }
        }),
        Verdict::AnswerAfter(wait) => {
            // Outside of the future, so that it takes effect in its turn.
            let handling = handle();
            Box::pin(async move {
                let answer = handling.await;
                unless_stopped(&broker, wait).await.map_or_else(|stopping| stopping, |()| answer)
            })
        }
        Verdict::Ignore => Box::pin(async move { never(&broker).await }),
        Verdict::LoseAnswer => {
            let handling = handle();
            Box::pin(async move {
                handling.await;
                never(&broker).await
            })
        }
        Verdict::Close | Verdict::Fail(_) => Box::pin(std::future::ready(close())),
        Verdict::CloseUnanswered => {
            let handling = handle();
            Box::pin(async move {
                handling.await;
                close()
            })
        }
    }
}

fn close() -> Answer {
    Answer::Close(CloseReason::Intercepted)
}

/// Waits, but not longer than the broker runs.
async fn unless_stopped(broker: &Broker, wait: Wait) -> Result<(), Answer> {
    tokio::select! {
        () = wait => Ok(()),
        answer = never(broker) => Err(answer),
    }
}

/// No answer while the broker runs.
async fn never(broker: &Broker) -> Answer {
    // Closed or reached, the broker stops.
    let _ = broker.stopping.wait(1).await;
    Answer::Close(CloseReason::Stopping)
}
