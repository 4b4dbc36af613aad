//! What is known of a cluster, and the way to each of its brokers.
//!
//! Owns metadata (one task keeps it fresh), connections (one for each broker and [`Purpose`], made when first needed, made again with
//! growing pauses when they fail) and the rules of retrying. Does not know groups' states, positions or batches.
//!
//! Nothing is asked before somebody asks here: making a [`Cluster`] does no I/O. When no known broker answers, the bootstrap
//! servers are asked again (KIP-899, KIP-1102).

mod backoff;
mod coordinators;
mod metadata;
mod pool;
mod refresh;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytestring::ByteString;
use kavka_protocol::{
    ErrorCode, Request,
    messages::{FindCoordinatorRequest, FindCoordinatorResponse, MetadataResponse},
};
use tokio::{sync::watch, time::Instant};

pub(crate) use self::{
    backoff::{Backoff, random_seed},
    metadata::{Metadata, Node},
    pool::Purpose,
};
use self::{pool::Pool, refresh::Refresher};
use crate::{
    Error, ErrorKind,
    connection::Connection,
    settings::{Address, CommonSettings},
};

/// A cluster, as one client sees it. Clones share it; when the last is gone, its connections close and its task ends.
#[derive(Clone, Debug)]
pub(crate) struct Cluster(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Arc<CommonSettings>,
    pool: Pool,
    metadata: watch::Sender<State>,
    wanted: Mutex<Wanted>,
    refresher: Refresher,
}

/// What metadata is kept of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The brokers only.
    #[default]
    Nothing,
    /// These topics.
    Topics(BTreeSet<ByteString>),
    /// Every topic there is.
    Everything,
}

/// What the task that keeps metadata fresh has come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// The newest metadata.
    pub(crate) metadata: Arc<Metadata>,
    /// How many attempts are over.
    pub(crate) attempts: u64,
    /// Why the last one failed, if it did.
    pub(crate) error: Option<Error>,
}

/// What a coordinator coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CoordinatorOf {
    /// A group.
    Group,
    /// A transactional id.
    #[expect(dead_code, reason = "transactions come with the producer's")]
    Transaction,
}

impl Cluster {
    /// A cluster of which nothing is known yet. Has to be called inside a tokio runtime.
    pub(crate) fn new(settings: CommonSettings) -> Result<Self, Error> {
        settings.check()?;
        let settings = Arc::new(settings);
        let shared = Arc::new(Shared {
            pool: Pool::new(Arc::clone(&settings))?,
            settings,
            metadata: watch::Sender::new(State::default()),
            wanted: Mutex::default(),
            refresher: Refresher::default(),
        });
        refresh::spawn(&shared);
        Ok(Self(shared))
    }

    /// The settings.
    pub(crate) fn settings(&self) -> &CommonSettings {
        &self.0.settings
    }

    /// What is known now.
    pub(crate) fn metadata(&self) -> Arc<Metadata> {
        Arc::clone(&self.0.metadata.borrow().metadata)
    }

    /// Tells of every attempt to refresh the metadata.
    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.0.metadata.subscribe()
    }

    /// Says what metadata is to be kept of; asks for it if that is new.
    pub(crate) fn want(&self, wanted: Wanted) {
        let is_new = {
            let mut current = self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, wanted.clone()) != wanted
        };
        if is_new {
            self.request_refresh();
        }
    }

    /// Adds a topic to those that metadata is kept of. Returns whether it is new.
    pub(crate) fn want_topic(&self, topic: &ByteString) -> bool {
        let is_new = {
            let mut current = self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *current {
                Wanted::Everything => false,
                Wanted::Topics(topics) => topics.insert(topic.clone()),
                Wanted::Nothing => {
                    *current = Wanted::Topics(BTreeSet::from([topic.clone()]));
                    true
                }
            }
        };
        if is_new {
            self.request_refresh();
        }
        is_new
    }

    /// Has the metadata refreshed soon, in the background; many calls are one refresh. Returns the number of the attempt that is
    /// newer than this call.
    pub(crate) fn request_refresh(&self) -> u64 {
        self.0.refresher.request()
    }

    /// Has the metadata refreshed, and waits for it; one attempt.
    ///
    /// Cancel safe: the refresh goes on.
    pub(crate) async fn refresh(&self) -> Result<Arc<Metadata>, Error> {
        let mut states = self.watch();
        let attempt = self.request_refresh();
        let state = states
            .wait_for(|state| state.attempts >= attempt)
            .await
            .map_err(|_| Error::new(ErrorKind::Closed, "the client is closed"))?;
        match &state.error {
            None => Ok(Arc::clone(&state.metadata)),
            Some(error) => Err(error.clone()),
        }
    }

    /// Takes a leader that a broker named with an error (KIP-951).
    pub(crate) fn learn_leader(
        &self,
        topic: &ByteString,
        partition: i32,
        leader: i32,
        leader_epoch: i32,
        endpoint: Option<Node>,
    ) {
        self.0.metadata.send_if_modified(|state| {
            let newer =
                state.metadata.with_leader(topic, partition, leader, leader_epoch, endpoint);
            let Some(newer) = newer else { return false };
            state.metadata = Arc::new(newer);
            true
        });
    }

    /// A connection to a broker that metadata names.
    ///
    /// Cancel safe.
    pub(crate) async fn node(&self, id: i32, purpose: Purpose) -> Result<Connection, Error> {
        let metadata = self.metadata();
        let Some(node) = metadata.nodes.get(&id) else {
            self.request_refresh();
            return Err(Error::new(
                ErrorKind::Connect,
                format!("broker {id} is not in the cluster's metadata"),
            ));
        };
        self.at(&node.address, purpose).await
    }

    /// A connection to an address, as FindCoordinator names one.
    ///
    /// Cancel safe.
    pub(crate) async fn at(
        &self,
        address: &Address,
        purpose: Purpose,
    ) -> Result<Connection, Error> {
        let connection = self.0.pool.get(address, purpose).await;
        if connection.is_err() {
            self.request_refresh();
        }
        connection
    }

    /// A connection to any broker: one that is open if possible, else the first of the known ones, then of the bootstrap
    /// servers, that answers.
    ///
    /// Cancel safe.
    pub(crate) async fn any(&self) -> Result<Connection, Error> {
        self.0.any().await
    }

    /// A connection to the controller, or to any broker where the cluster names none (they forward).
    pub(crate) async fn controller(&self) -> Result<Connection, Error> {
        let mut metadata = self.metadata();
        if metadata.controller.is_none() {
            metadata = self.refresh().await?;
        }
        match metadata.controller {
            Some(id) if metadata.nodes.contains_key(&id) => self.node(id, Purpose::Requests).await,
            _ => self.any().await,
        }
    }

    /// Asks any broker for a coordinator; one attempt.
    pub(crate) async fn find_coordinator(
        &self,
        kind: CoordinatorOf,
        key: &ByteString,
    ) -> Result<Node, Error> {
        /// From this version on several keys are asked for.
        const SEVERAL: i16 = 4;
        let connection = self.any().await?;
        let version = connection.versions().newest(
            FindCoordinatorRequest::API_KEY,
            *<FindCoordinatorRequest as kavka_protocol::Message>::VERSIONS.end(),
        )?;
        let (one, several) = if version >= SEVERAL {
            (ByteString::new(), vec![key.clone()])
        } else {
            (key.clone(), Vec::new())
        };
        let request = FindCoordinatorRequest {
            key: one,
            key_type: match kind {
                CoordinatorOf::Group => 0,
                CoordinatorOf::Transaction => 1,
            },
            coordinator_keys: several,
            ..Default::default()
        };
        let timeout = self.settings().request_timeout;
        let answer = connection.send(&request, version)?;
        let response: FindCoordinatorResponse = answer.wait(timeout).await?;
        let (code, id, host, port, message) = if version >= SEVERAL {
            let row = response.coordinators.into_iter().find(|row| row.key == *key);
            let row = row.ok_or_else(|| {
                Error::new(
                    ErrorKind::Protocol,
                    format!(
                        "{} was asked for the coordinator of {key} and answered without it",
                        connection.address()
                    ),
                )
            })?;
            (row.error_code, row.node_id, row.host, row.port, row.error_message)
        } else {
            let r = response;
            (r.error_code, r.node_id, r.host, r.port, r.error_message)
        };
        if code != ErrorCode::None {
            return Err(Error::broker(code, format_args!("finding the coordinator of {key}"))
                .with_detail(message.as_deref().map(AsRef::as_ref)));
        }
        Node::new(id, host, port, None).ok_or_else(|| {
            Error::new(ErrorKind::Protocol, format!("the coordinator of {key} is at port {port}"))
        })
    }

    /// Tries something again and again, with growing pauses, while it fails in a way that can pass, until `timeout` is over.
    ///
    /// Cancel safe as far as `attempt` is.
    pub(crate) async fn retry<T>(
        &self,
        timeout: Duration,
        mut attempt: impl AsyncFnMut(Duration) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + timeout;
        let mut backoff =
            Backoff::new(self.settings().retry_backoff, self.settings().retry_backoff_max);
        let mut last: Option<Error> = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let result =
                tokio::time::timeout(left, attempt(left.min(self.settings().request_timeout)));
            let error = match result.await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) if !error.is_retriable() => return Err(error),
                Ok(Err(error)) => error,
                Err(_) => {
                    return Err(last.map_or_else(
                        || {
                            Error::new(
                                ErrorKind::TimedOut,
                                format!("nothing came of it within {timeout:?}"),
                            )
                        },
                        |error| error.while_doing(format_args!("gave up after {timeout:?}")),
                    ));
                }
            };
            let pause = backoff.next();
            if Instant::now() + pause >= deadline {
                return Err(error.while_doing(format_args!("gave up after {timeout:?}")));
            }
            tracing::debug!(%error, ?pause, "will try again");
            last = Some(error);
            tokio::time::sleep(pause).await;
        }
    }
}

impl Shared {
    async fn any(&self) -> Result<Connection, Error> {
        let metadata = Arc::clone(&self.metadata.borrow().metadata);
        let known: Vec<Address> =
            metadata.nodes.values().map(|node| node.address.clone()).collect();
        self.pool.any(&known).await
    }

    fn wanted(&self) -> Wanted {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts an attempt's result where everybody sees it.
    fn finish_attempt(
        &self,
        attempt: u64,
        result: Result<MetadataResponse, Error>,
        wanted: &Wanted,
    ) {
        self.metadata.send_modify(|state| {
            state.attempts = attempt;
            match result {
                Ok(response) => {
                    state.metadata = Arc::new(state.metadata.updated(response, wanted));
                    state.error = None;
                }
                Err(error) => state.error = Some(error),
            }
        });
    }
}
