//! What is known of a cluster, and the way to each of its brokers.
//!
//! Owns metadata (one task keeps it fresh), connections (one for each broker and [`Purpose`], made when first needed, made again with
//! growing pauses when they fail). Does not know retries of calls, groups' states, positions or batches.
//!
//! Nothing is asked before somebody asks here: making a [`Cluster`] does no I/O. When no known broker can be connected to, when none
//! gives metadata for long, or when one says that it is time, the client begins anew with the bootstrap servers (KIP-899, KIP-1102).

mod backoff;
mod coordinators;
mod metadata;
mod pool;
mod refresh;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use bytestring::ByteString;
use kavka_protocol::messages::MetadataResponse;
use tokio::sync::watch;

pub(crate) use self::{
    backoff::Backoff,
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
            self.0.refresher.request_new();
        }
        is_new
    }

    /// Takes a topic from those that metadata is kept of; what is known of it is forgotten with the next answer.
    pub(crate) fn forget_topic(&self, topic: &ByteString) {
        let mut current = self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Wanted::Topics(topics) = &mut *current {
            topics.remove(topic);
        }
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

    /// Takes a leader that a broker named with an error (KIP-951). Returns whether it is news; if not, asking at once again brings the same.
    pub(crate) fn learn_leader(
        &self,
        topic: &ByteString,
        partition: i32,
        leader: i32,
        leader_epoch: i32,
        endpoint: Option<Node>,
    ) -> bool {
        self.0.metadata.send_if_modified(|state| {
            let newer =
                state.metadata.with_leader(topic, partition, leader, leader_epoch, endpoint);
            let Some(newer) = newer else { return false };
            state.metadata = Arc::new(newer);
            true
        })
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
    /// servers (unless `metadata.recovery.strategy` is `none`), that answers.
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
}

impl Shared {
    async fn any(&self) -> Result<Connection, Error> {
        self.pool.any(&self.known_addresses()).await
    }

    fn known_addresses(&self) -> Vec<Address> {
        let metadata = Arc::clone(&self.metadata.borrow().metadata);
        metadata.nodes.values().map(|node| node.address.clone()).collect()
    }

    /// Forgets the brokers and ends the connections to them: the bootstrap servers are next. What is known of topics stays until
    /// those answer, or a consumer would take it that there are none.
    fn rebootstrap(&self, why: &str) {
        let known = self.known_addresses();
        tracing::info!(brokers = known.len(), why, "beginning anew with bootstrap.servers");
        self.metadata.send_modify(|state| {
            state.metadata = Arc::new(state.metadata.without_brokers());
        });
        let reason = format!("the client begins anew with its bootstrap servers: {why}");
        self.pool.leave(&known, &Error::new(ErrorKind::Disconnected, reason));
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
