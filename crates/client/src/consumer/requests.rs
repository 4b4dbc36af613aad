//! Carries the member's requests to brokers, and the answers back to the driver.
//!
//! **Architecture invariant:** what goes to a coordinator goes over one connection in the order the member asked, also while that
//! connection is still being made.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytestring::ByteString;
use kavka_member::{Coordinator, Failure, Outgoing, RequestId, Response, Target, wire};
use kavka_protocol::ApiKey;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Duration, Instant},
};

use super::fetcher::{Fetch, Fetched};
use crate::{
    Error, ErrorKind,
    cluster::{Cluster, Purpose},
    connection::{Answer, Connection},
    settings::Address,
};

/// What came of a request.
#[derive(Debug)]
pub(super) enum Done {
    /// Of the member.
    Answer(Box<Answered>),
    /// Of the fetcher.
    Fetched(Box<Fetched>),
}

/// What came of a request of the member.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) id: RequestId,
    pub(super) api: ApiKey,
    /// How long it took, from when the member asked.
    pub(super) took: Duration,
    pub(super) result: Result<Response, Error>,
}

/// A request on its way.
#[derive(Debug)]
struct Asked {
    outgoing: Outgoing,
    since: Instant,
    done: mpsc::UnboundedSender<Done>,
}

impl Asked {
    fn conclude(self, result: Result<Response, Error>) {
        let Self { outgoing, since, done } = self;
        let (id, api) = (outgoing.id, wire::api_key(&outgoing.request));
        let answered = Answered { id, api, took: since.elapsed(), result };
        // Without a driver nobody waits for it.
        let _ = done.send(Done::Answer(Box::new(answered)));
    }
}

/// See the module. Everything under way is given up when this is dropped.
#[derive(Debug)]
pub(super) struct Requests {
    cluster: Cluster,
    done: mpsc::UnboundedSender<Done>,
    links: HashMap<(ByteString, i32), Link>,
    tasks: JoinSet<()>,
}

/// The way to a coordinator.
#[derive(Debug)]
struct Link {
    queue: mpsc::UnboundedSender<Asked>,
    connection: CurrentConnection,
    task: AbortHandle,
}

type CurrentConnection = Arc<Mutex<Option<Connection>>>;

impl Requests {
    pub(super) fn new(cluster: Cluster) -> (Self, mpsc::UnboundedReceiver<Done>) {
        let (done, receiver) = mpsc::unbounded_channel();
        (Self { cluster, done, links: HashMap::new(), tasks: JoinSet::new() }, receiver)
    }

    pub(super) fn fetch(&mut self, fetch: Fetch) {
        let (cluster, done) = (self.cluster.clone(), self.done.clone());
        self.spawn(async move {
            // Without a driver nobody waits for it.
            let _ = done.send(Done::Fetched(Box::new(fetch.run(cluster).await)));
        });
    }

    pub(super) fn send(&mut self, outgoing: Outgoing) {
        let target = outgoing.target.clone();
        let asked = Asked { outgoing, since: Instant::now(), done: self.done.clone() };
        match target {
            Target::Coordinator(coordinator) => self.ask_coordinator(&coordinator, asked),
            Target::Node(node) => {
                let cluster = self.cluster.clone();
                self.spawn(async move {
                    let connection = cluster.node(node, Purpose::Requests).await;
                    ask(connection, asked).await;
                });
            }
            Target::AnyBroker => {
                let cluster = self.cluster.clone();
                self.spawn(async move { ask(cluster.any().await, asked).await });
            }
        }
    }

    /// Everything on the way to this coordinator is given up.
    pub(super) fn disconnect(&mut self, coordinator: &Coordinator) {
        let key = (coordinator.host.clone(), coordinator.port);
        let Some(link) = self.links.remove(&key) else { return };
        link.task.abort();
        let connection = link.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(connection) = connection {
            connection.close(Error::new(
                ErrorKind::Disconnected,
                format!("the consumer gave up the coordinator at {}", connection.address()),
            ));
        }
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        // What is over is forgotten, so that the set does not grow.
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(task)
    }

    fn ask_coordinator(&mut self, coordinator: &Coordinator, asked: Asked) {
        let key = (coordinator.host.clone(), coordinator.port);
        let Ok(port) = u16::try_from(coordinator.port) else {
            let message = format!("the coordinator is said to listen at port {}", coordinator.port);
            return asked.conclude(Err(Error::new(ErrorKind::Protocol, message)));
        };
        if !self.links.contains_key(&key) {
            let address = Address { host: coordinator.host.clone(), port };
            let (queue, receiver) = mpsc::unbounded_channel();
            let connection = CurrentConnection::default();
            let cluster = self.cluster.clone();
            let running = run_link(cluster, address, receiver, Arc::clone(&connection));
            let task = self.spawn(running);
            self.links.insert(key.clone(), Link { queue, connection, task });
        }
        if let Some(link) = self.links.get(&key) {
            // The task of a link ends only when the link is dropped.
            let _ = link.queue.send(asked);
        }
    }
}

async fn run_link(
    cluster: Cluster,
    address: Address,
    mut queue: mpsc::UnboundedReceiver<Asked>,
    current: CurrentConnection,
) {
    let mut waiting = JoinSet::new();
    loop {
        let asked = tokio::select! {
            asked = queue.recv() => asked,
            Some(_) = waiting.join_next() => continue,
        };
        let Some(asked) = asked else { return };
        let connection = cluster.at(&address, Purpose::Coordinator);
        let connection = match tokio::time::timeout(asked.outgoing.timeout, connection).await {
            Ok(connection) => connection,
            Err(_) => Err(Error::new(ErrorKind::TimedOut, format!("{address} cannot be reached"))),
        };
        if let Ok(connection) = &connection {
            let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
            *current = Some(connection.clone());
        }
        // Sent here, in order; only the waiting is done beside.
        match connection.and_then(|connection| send(&connection, &asked.outgoing)) {
            Ok(answer) => drop(waiting.spawn(wait(answer, asked))),
            Err(error) => asked.conclude(Err(error)),
        }
    }
}

async fn ask(connection: Result<Connection, Error>, asked: Asked) {
    match connection.and_then(|connection| send(&connection, &asked.outgoing)) {
        Ok(answer) => wait(answer, asked).await,
        Err(error) => asked.conclude(Err(error)),
    }
}

fn send(connection: &Connection, outgoing: &Outgoing) -> Result<Answer, Error> {
    let request = &outgoing.request;
    let api = wire::api_key(request);
    let version = connection.versions().newest(api, wire::newest_version(request))?;
    let body = wire::encode(request, version).map_err(|error| {
        Error::new(
            ErrorKind::Unsupported,
            format!(
                "{} cannot be asked of the broker at {} in version {version}: {error}",
                api.name(),
                connection.address()
            ),
        )
        .with_advice(
            "A static member needs Apache Kafka 2.3 or newer: leave group.instance.id out.",
        )
    })?;
    connection.send_body(api, version, &body)
}

async fn wait(answer: Answer, asked: Asked) {
    let (version, outgoing) = (answer.version(), &asked.outgoing);
    let body = answer.wait_body(outgoing.timeout).await;
    let response = body.and_then(|body| {
        wire::decode(&outgoing.request, version, body).map_err(|error| {
            let api = wire::api_key(&outgoing.request).name();
            Error::new(ErrorKind::Protocol, format!("an answer to {api} cannot be read: {error}"))
        })
    });
    asked.conclude(response);
}

/// What a failed request is to a member.
pub(super) fn failure(error: &Error) -> Failure {
    match error.kind() {
        ErrorKind::TimedOut => Failure::TimedOut,
        ErrorKind::Protocol => Failure::Malformed,
        _ => Failure::Disconnected,
    }
}
