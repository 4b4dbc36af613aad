//! Connections, one for each address and purpose.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Duration, Instant},
};

use super::Backoff;
use crate::{
    Error, ErrorKind,
    connection::{Connection, Security, Setup},
    settings::{Address, CommonSettings, MetadataRecovery},
};

/// What a connection is for. Each has one of its own, so that a long poll of one does not delay the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Metadata, administration, and whatever is short.
    Requests,
    /// Fetching: an answer may wait for data.
    Fetch,
    /// Producing.
    Produce,
    /// Talking to a coordinator: joining may take minutes, heartbeats must not wait behind fetches.
    Coordinator,
}

/// So long a broker that did not let us in is not bothered again: it would not like us better, and may lock the user out.
const AFTER_REFUSAL: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Pool {
    settings: Arc<CommonSettings>,
    security: Security,
    slots: Mutex<HashMap<(Address, Purpose), Arc<Slot>>>,
    next: AtomicUsize,
}

/// The place of one connection.
#[derive(Debug)]
struct Slot {
    current: Mutex<Option<Connection>>,
    /// Held while connecting: who comes meanwhile gets the same connection.
    connecting: AsyncMutex<Pauses>,
}

#[derive(Debug)]
struct Pauses {
    backoff: Backoff,
    /// How long an attempt may take.
    patience: Backoff,
    /// Attempts in a row that came to nothing.
    failures: usize,
    not_before: Option<Instant>,
    /// Why we were not let in, if that is why there is a pause.
    refused: Option<Error>,
}

impl Pool {
    /// Reads the files that the settings name.
    pub(super) fn new(settings: Arc<CommonSettings>) -> Result<Self, Error> {
        let security = Security::new(&settings)?;
        Ok(Self { settings, security, slots: Mutex::default(), next: AtomicUsize::new(0) })
    }

    /// The connection of an address and purpose; made if there is none, after the pause that an earlier failure asks for.
    pub(super) async fn get(
        &self,
        address: &Address,
        purpose: Purpose,
    ) -> Result<Connection, Error> {
        let slot = self.slot(address, purpose);
        if let Some(connection) = slot.open() {
            return Ok(connection);
        }
        let mut pauses = slot.connecting.lock().await;
        if let Some(connection) = slot.open() {
            return Ok(connection);
        }
        if let Some(time) = pauses.not_before {
            if let Some(refused) = &pauses.refused
                && Instant::now() < time
            {
                return Err(refused.clone());
            }
            tokio::time::sleep_until(time).await;
        }
        let setup = Setup { timeout: pauses.patience.next(), failures: pauses.failures };
        match Connection::open(address, &self.settings, &self.security, setup).await {
            Ok(connection) => {
                pauses.backoff.reset();
                pauses.patience.reset();
                pauses.failures = 0;
                pauses.not_before = None;
                pauses.refused = None;
                *slot.current() = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                let is_refused = error.kind() == ErrorKind::Authentication;
                let least = if is_refused { AFTER_REFUSAL } else { Duration::ZERO };
                pauses.failures = pauses.failures.saturating_add(1);
                pauses.not_before = Some(Instant::now() + pauses.backoff.next().max(least));
                pauses.refused = is_refused.then(|| error.clone());
                tracing::debug!(broker = %address, %error, "cannot connect");
                Err(error)
            }
        }
    }

    /// A connection to any of these, or to a bootstrap server where none is known or `metadata.recovery.strategy` allows it. An open
    /// one is taken first; then all are tried in turn, each call beginning with another, and last those to which a connection has
    /// just failed.
    pub(super) async fn any(&self, known: &[Address]) -> Result<Connection, Error> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = |list: &[Address]| -> Vec<Address> {
            let mut list = list.to_vec();
            let length = list.len().max(1);
            list.rotate_left(start % length);
            list
        };
        let mut candidates = in_turn(known);
        if known.is_empty() || self.settings.metadata_recovery == MetadataRecovery::Rebootstrap {
            let bootstrap = in_turn(&self.settings.bootstrap_servers);
            candidates.extend(bootstrap.into_iter().filter(|address| !known.contains(address)));
        }
        for address in &candidates {
            let open = self.slot(address, Purpose::Requests).open();
            if let Some(connection) = open {
                return Ok(connection);
            }
        }
        candidates.sort_by_key(|address| self.slot(address, Purpose::Requests).is_paused());
        let mut last = None;
        for address in &candidates {
            match self.get(address, Purpose::Requests).await {
                Ok(connection) => return Ok(connection),
                // Another broker will not like us better.
                Err(error) if error.kind() == ErrorKind::Authentication => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Config, "bootstrap.servers is empty")))
    }

    /// Ends the connections to these that are there because they lead partitions, or for whoever wants any broker. Coordinators were
    /// looked for on their own.
    pub(super) fn leave(&self, addresses: &[Address], why: &Error) {
        for address in addresses {
            for purpose in [Purpose::Requests, Purpose::Fetch, Purpose::Produce] {
                if let Some(connection) = self.slot(address, purpose).open() {
                    connection.close(why.clone());
                }
            }
        }
    }

    fn slot(&self, address: &Address, purpose: Purpose) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry((address.clone(), purpose)).or_insert_with(|| {
            let settings = &self.settings;
            let (first, limit) = (settings.reconnect_backoff, settings.reconnect_backoff_max);
            let patience =
                (settings.connection_setup_timeout, settings.connection_setup_timeout_max);
            let seed = settings.machine.random();
            Arc::new(Slot {
                current: Mutex::default(),
                connecting: AsyncMutex::new(Pauses {
                    backoff: Backoff::new(first, limit, seed),
                    patience: Backoff::new(patience.0, patience.1, seed.rotate_left(32)),
                    failures: 0,
                    not_before: None,
                    refused: None,
                }),
            })
        });
        Arc::clone(slot)
    }
}

impl Slot {
    fn current(&self) -> MutexGuard<'_, Option<Connection>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether whoever wants a connection has to wait because one has just failed.
    fn is_paused(&self) -> bool {
        // Who is connecting now does not wait any more.
        let pauses = self.connecting.try_lock().ok();
        let until = pauses.and_then(|pauses| pauses.not_before);
        until.is_some_and(|until| until > Instant::now())
    }

    /// The connection, if it is usable for something new.
    fn open(&self) -> Option<Connection> {
        let mut current = self.current();
        let is_over = |connection: &Connection| connection.is_closed() || connection.is_retired();
        if current.as_ref().is_some_and(is_over) {
            *current = None;
        }
        current.clone()
    }
}
