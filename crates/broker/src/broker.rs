//! The broker: what every handler reaches, how it starts and how it stops.

use std::{fmt, io, net::SocketAddr, path::PathBuf, sync::Arc, thread};

use bytestring::ByteString;
use kavka_log::{LogError, LogStore, OnFatal, SegmentStore, StoreOptions, SyncPolicy};
use kavka_meta::{ClusterMeta, EmbeddedMeta, MetaError, os_random};
use tokio::{sync::watch, task::JoinSet};
use tracing::{error, info};

use crate::{
    authorizer::{AllowAll, Authorizer},
    clock::Clock,
    config::{self, BrokerConfig},
    dispatch::Dispatcher,
    environment::{Environment, Machine},
    fetch_session::FetchSessions,
    gate::Gate,
    groups::Groups,
    intercept::Interceptor,
    maintenance,
    net::{Limits, Listener, budget::Budget},
    partition::blocking,
    producer_ids::ProducerIds,
    topics::{self, Topics},
};

/// The folder of the partition logs, inside the data directory.
const LOGS_DIR: &str = "logs";

/// With the relaxed policy: a sync is also started when this much of a log is unsynced.
const RELAXED_SYNC_BYTES: u64 = 64 << 20;

/// Everything a request can reach.
pub struct Broker {
    pub(crate) config: BrokerConfig,
    pub(crate) clock: Clock,
    pub(crate) meta: Arc<dyn ClusterMeta>,
    pub(crate) topics: Topics,
    pub(crate) groups: Groups,
    pub(crate) fetch_sessions: FetchSessions,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) budget: Budget,
    pub(crate) authorizer: Box<dyn Authorizer>,
    /// What comes between requests and their handlers; nothing in production.
    pub(crate) interceptor: Option<Arc<dyn Interceptor>>,
    /// Rises to 1 when the broker stops: parked requests end.
    pub(crate) stopping: Gate,
    /// What clients of each listener are told to connect to.
    pub(crate) advertised: Vec<Advertised>,
}

/// What clients of one listener are told to connect to.
#[derive(Clone, Debug)]
pub(crate) struct Advertised {
    /// `None`: the address the client has connected to.
    pub(crate) host: Option<ByteString>,
    pub(crate) port: u16,
}

/// What a broker gets from the program around it, besides its settings.
#[derive(Default)]
pub struct StartOptions {
    /// Is told that a sync failed, once. Nobody knows then what is on the disk, and nothing is acknowledged any more, so the
    /// broker has to end: without this the process does, at once.
    pub on_disk_failure: Option<OnFatal>,
    /// Opens what holds everything, in place of the data directory, which is not looked at then; whoever opens it hears of
    /// failed syncs.
    pub engines: Option<OpenEngines>,
    /// Comes between requests and their handlers. For tests.
    pub interceptor: Option<Arc<dyn Interceptor>>,
    /// Stands in for the operating system; for simulations. The runtime may have a single thread then.
    pub environment: Option<Arc<dyn Environment>>,
}

/// A broker that serves. Dropping it ends it as a crash would, as soon as the runtime gets to it; [`stop`](Self::stop) is the
/// clean way.
pub struct RunningBroker {
    pub(crate) broker: Arc<Broker>,
    store: Arc<dyn LogStore>,
    addresses: Vec<SocketAddr>,
    stopping: watch::Sender<bool>,
    serving: JoinSet<()>,
    /// Ends with the broker.
    background: JoinSet<()>,
}

/// Why a broker could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listener's address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// `host:port` as configured.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The data directory cannot be made.
    #[error("cannot create the data directory {}: {source}", path.display())]
    DataDir {
        /// As configured.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The logs cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The metadata cannot be opened.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl Broker {
    /// Opens the data directory, binds the listener and serves.
    ///
    /// Must be called on a multi-threaded tokio runtime.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing is left running.
    pub async fn start(config: BrokerConfig) -> Result<RunningBroker, StartError> {
        Self::start_with(config, StartOptions::default()).await
    }

    /// As [`start`](Self::start), inside a program that wants more than settings: tests, mostly.
    ///
    /// # Errors
    /// As of [`start`](Self::start).
    pub async fn start_with(
        config: BrokerConfig,
        options: StartOptions,
    ) -> Result<RunningBroker, StartError> {
        let machine = Machine::from(options.environment);
        let clock = Clock::new(machine.clone());
        let limits = Arc::new(Limits::of(&config.network));
        let budget = Budget::new(limits.budget_bytes);
        // Bound first: what is wrong with an address is known before anything is written.
        let mut listeners = Vec::new();
        let mut advertised = Vec::new();
        for (number, listener) in config.network.listeners.iter().enumerate() {
            let fail = |source| StartError::Listen {
                address: format!("{}:{}", listener.host, listener.port),
                source,
            };
            let (limits, budget) = (Arc::clone(&limits), budget.clone());
            let bound = Listener::bind(listener, number, limits, budget, &machine);
            let bound = bound.await.map_err(fail)?;
            let address = bound.local_addr().map_err(fail)?;
            advertised.push(advertise(listener, address));
            listeners.push((bound, address));
        }

        let opening = Opening::new(&config, options.on_disk_failure, options.engines);
        let Engines { meta, store } = blocking(move || opening.open()).await?;
        let broker_values = config.fixed.clone();
        let node_id = config.node_id;
        let compaction = config.log.cleaner_enable;
        let configure = move |image: &_, topic: &_| {
            topics::resolve_config(image, topic, &broker_values, node_id)
        };
        let topics = Topics::new(Arc::clone(&store), Arc::clone(&meta), compaction, configure);
        let broker = Arc::new(Broker {
            groups: Groups::new(&config, clock.clone(), machine.clone()),
            fetch_sessions: FetchSessions::new(config.fetch.session_slots, machine),
            producer_ids: ProducerIds::new(Arc::clone(&meta)),
            advertised,
            stopping: Gate::new(0),
            authorizer: Box::new(AllowAll),
            interceptor: options.interceptor,
            config,
            clock,
            meta,
            topics,
            budget,
        });
        let opened = Arc::clone(&broker);
        blocking(move || opened.topics.reconcile()).await;
        broker.groups.start(&broker.topics);

        let (stopping, stopped) = watch::channel(false);
        let mut background = JoinSet::new();
        background.spawn(maintenance::run(Arc::clone(&broker)));
        let dispatcher: Arc<dyn Dispatcher> = Arc::new(Arc::clone(&broker));
        let mut addresses = Vec::new();
        let mut serving = JoinSet::new();
        for (listener, address) in listeners {
            addresses.push(address);
            serving.spawn(listener.run(Arc::clone(&dispatcher), stopped.clone()));
        }
        Ok(RunningBroker { broker, store, addresses, stopping, serving, background })
    }
}

fn advertise(listener: &config::Listener, address: SocketAddr) -> Advertised {
    Advertised {
        host: listener.advertised_host.as_deref().map(ByteString::from),
        port: listener.advertised_port.filter(|port| *port != 0).unwrap_or(address.port()),
    }
}

/// The store's settings among the broker's.
fn store_options(config: &BrokerConfig) -> StoreOptions {
    let defaults = StoreOptions::default();
    let sync_policy = match config.log.sync {
        config::SyncPolicy::Always => SyncPolicy::Always,
        config::SyncPolicy::Interval(every) => {
            SyncPolicy::Interval { every, bytes: RELAXED_SYNC_BYTES }
        }
    };
    StoreOptions {
        sync_policy,
        free_space_floor: config.log.disk_floor_bytes,
        reserve_bytes: config.log.disk_reserve_bytes,
        compaction_map_bytes: config.log.cleaner_dedupe_buffer_bytes,
        ..defaults
    }
}

/// What holds everything that outlives a broker.
pub struct Engines {
    /// Topics, configs, ids.
    pub meta: Arc<dyn ClusterMeta>,
    /// Bytes of partitions.
    pub store: Arc<dyn LogStore>,
}

/// Opens the engines, on a thread that may block. It is given the store's settings among the broker's.
pub type OpenEngines = Box<dyn FnOnce(StoreOptions) -> Result<Engines, StartError> + Send>;

/// What is opened on a thread that may block.
struct Opening {
    data_dir: PathBuf,
    options: StoreOptions,
    on_fatal: OnFatal,
    engines: Option<OpenEngines>,
}

impl Opening {
    fn new(config: &BrokerConfig, on_fatal: Option<OnFatal>, engines: Option<OpenEngines>) -> Self {
        Self {
            data_dir: config.log.data_dir.clone(),
            options: store_options(config),
            on_fatal: on_fatal.unwrap_or_else(|| Arc::new(fatal)),
            engines,
        }
    }

    fn open(self) -> Result<Engines, StartError> {
        if let Some(open) = self.engines {
            return open(self.options);
        }
        let data_dir = self.data_dir;
        std::fs::create_dir_all(&data_dir)
            .map_err(|source| StartError::DataDir { path: data_dir.clone(), source })?;
        // Both wait for the disk, mostly.
        let (meta, store) = thread::scope(|scope| {
            let logs_dir = data_dir.join(LOGS_DIR);
            let store =
                scope.spawn(|| SegmentStore::open_dir(logs_dir, self.options, self.on_fatal));
            let meta = EmbeddedMeta::open(&data_dir, os_random());
            (meta, store.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        Ok(Engines { meta: Arc::new(meta?), store: Arc::new(store?) })
    }
}

/// A sync failed: nobody knows what is on the disk. The process ends, so that nothing is acknowledged that may not be there;
/// the next start recovers what is.
fn fatal(error: &LogError) {
    error!("the disk failed, stopping at once: {error}");
    std::process::exit(1);
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("config", &self.config).finish_non_exhaustive()
    }
}

impl fmt::Debug for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engines").finish_non_exhaustive()
    }
}

impl fmt::Debug for StartOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartOptions").finish_non_exhaustive()
    }
}

impl fmt::Debug for RunningBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningBroker").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl RunningBroker {
    /// Where the first listener is.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Where all listeners are, in the order of the configuration; at least one.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Bytes of requests and answers that are in memory right now, of the `kavka.budget.bytes` that may be.
    pub fn memory_in_use(&self) -> usize {
        self.broker.budget.used()
    }

    /// Stops cleanly: no more requests are read, answers under way leave, everything is synced, and the next start need not
    /// look for damage.
    ///
    /// # Errors
    /// A log could not be closed; what was acknowledged is there all the same.
    pub async fn stop(mut self) -> Result<(), LogError> {
        info!("stopping");
        self.stopping.send_replace(true);
        self.broker.stopping.advance(1);
        self.broker.groups.stop();
        while let Some(ended) = self.serving.join_next().await {
            if let Err(failed) = ended
                && let Ok(panic) = failed.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }
        // Its share in the broker is gone when it has ended, and not before: the data directory could not be opened again.
        self.background.shutdown().await;
        let (broker, store) = (self.broker, self.store);
        blocking(move || {
            for topic in broker.topics.all() {
                for partition in topic.online() {
                    partition.maybe_snapshot(true)?;
                }
            }
            store.close()
        })
        .await?;
        info!("stopped");
        Ok(())
    }
}
