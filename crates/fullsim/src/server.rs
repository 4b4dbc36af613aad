//! The broker's lives on one disk.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kavka_broker::{
    Broker, BrokerConfig, Inspector, OpenEngines, RunningBroker, StartError, StartOptions,
    config::LoadOptions,
};
use kavka_log::{SegmentStore, StoreOptions, SyncerMode, fs::MemoryDisk};
use kavka_sim::Random;
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    machine::Machine,
    network::{self, BROKER, Network},
    plan::Plan,
};

/// See the module.
pub(crate) struct Server {
    plan: Arc<Plan>,
    network: Network,
    disk: Mutex<MemoryDisk>,
    life: Mutex<Option<Life>>,
    lives: AtomicU64,
    /// The most milliseconds that a sync takes.
    slowest_sync_ms: Arc<AtomicU64>,
    began: Instant,
}

struct Life {
    running: RunningBroker,
    syncing: JoinHandle<()>,
}

/// How long a sync takes at most while nothing is wrong with it, in milliseconds.
const SYNC_MS: u64 = 6;

impl Server {
    pub(crate) fn new(plan: Arc<Plan>, network: Network, began: Instant) -> Self {
        Self {
            plan,
            network,
            disk: Mutex::default(),
            life: Mutex::default(),
            lives: AtomicU64::new(0),
            slowest_sync_ms: Arc::new(AtomicU64::new(SYNC_MS)),
            began,
        }
    }

    fn life(&self) -> MutexGuard<'_, Option<Life>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disk(&self) -> MutexGuard<'_, MemoryDisk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs take so long at most from now on; `None`: as usual.
    pub(crate) fn slow_syncs(&self, most_ms: Option<u64>) {
        self.slowest_sync_ms.store(most_ms.unwrap_or(SYNC_MS), Ordering::Relaxed);
    }

    /// Starts the next life.
    ///
    /// # Errors
    /// The broker does not find what it needs on its disk.
    pub(crate) async fn start(&self) -> Result<(), StartError> {
        let number = self.lives.fetch_add(1, Ordering::Relaxed) + 1;
        let seed = self.plan.seed;
        let mut ids = Random::of(seed, &format!("ids {number}"));
        let machine = Machine::new(
            self.network.clone(),
            BROKER,
            Random::of(seed, &format!("broker {number}")),
            self.began,
        );
        let (disk, opened) = (self.disk().clone(), Arc::new(Mutex::new(None)));
        let store = Arc::clone(&opened);
        let open: OpenEngines = Box::new(move |options: StoreOptions| {
            let options = StoreOptions { syncer: SyncerMode::Manual, ..options };
            let random = Box::new(move |bytes: &mut [u8]| {
                bytes.iter_mut().for_each(|byte| *byte = ids.below(256) as u8);
                Ok(())
            });
            let (engines, log) = kavka_testkit::open_on_memory(&disk, options, random)?;
            *store.lock().unwrap_or_else(PoisonError::into_inner) = Some(log);
            Ok(engines)
        });
        let options = StartOptions {
            engines: Some(open),
            environment: Some(Arc::new(machine)),
            ..StartOptions::default()
        };
        let running = Broker::start_with(self.config(), options).await?;
        let Some(store) = opened.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            unreachable!("the broker opened its engines")
        };
        let random = Random::of(seed, &format!("syncs {number}"));
        let syncing = tokio::spawn(sync(store, random, Arc::clone(&self.slowest_sync_ms)));
        *self.life() = Some(Life { running, syncing });
        Ok(())
    }

    fn config(&self) -> BrokerConfig {
        let plan = &self.plan;
        let listen = network::address(BROKER, network::PORT);
        let properties = [
            ("listeners", format!("PLAINTEXT://{listen}")),
            ("log.dirs", "in-memory".to_owned()),
            ("auto.create.topics.enable", "false".to_owned()),
            ("offsets.topic.num.partitions", plan.offsets_partitions.to_string()),
            ("group.initial.rebalance.delay.ms", plan.initial_delay_ms.to_string()),
            ("group.min.session.timeout.ms", "1".to_owned()),
            ("connections.max.idle.ms", "45000".to_owned()),
            ("kavka.disk.floor.bytes", "0".to_owned()),
            ("kavka.disk.reserve.bytes", "0".to_owned()),
        ];
        let properties = properties.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let options =
            LoadOptions { file: None, properties, env: std::iter::empty(), reserved_env: &[] };
        match BrokerConfig::load(options) {
            Ok(config) => config,
            Err(error) => panic!("the broker's settings are refused: {error}"),
        }
    }

    /// Ends the broker as `kill -9` does; the disk has what was written, its connections are reset.
    pub(crate) async fn kill(&self) {
        self.network.stop_listening();
        self.end().await;
        self.network.reset_all(BROKER);
    }

    /// The broker's power fails, and its disk's: what was not synced is gone, and nobody hears of it.
    pub(crate) async fn lose_power(&self) {
        self.network.unplug(BROKER);
        self.end().await;
        self.disk().power_loss();
        #[cfg(test)]
        if self.plan.disk_forgets {
            *self.disk() = MemoryDisk::new();
        }
    }

    /// The power is back; [`start`](Self::start) is next.
    pub(crate) fn plug_in(&self) {
        self.network.plug_in(BROKER);
    }

    async fn end(&self) {
        let Some(Life { running, syncing }) = self.life().take() else { return };
        syncing.abort();
        drop(running);
        // Its tasks are dropped when the runtime gets to them.
        for _ in 0..1_000 {
            if self.network.broker_ends() == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{} connections outlive the broker", self.network.broker_ends());
    }

    /// Stops the broker as SIGTERM does.
    pub(crate) async fn stop(&self) {
        let Some(Life { running, syncing }) = self.life().take() else { return };
        if let Err(error) = running.stop().await {
            panic!("the broker does not stop cleanly: {error}");
        }
        syncing.abort();
    }

    /// What the broker has inside; `None` while it is down.
    pub(crate) fn inspector(&self) -> Option<Inspector> {
        self.life().as_ref().map(|life| life.running.inspector())
    }

    /// Bytes of requests and answers that the broker holds.
    pub(crate) fn memory_in_use(&self) -> usize {
        self.life().as_ref().map_or(0, |life| life.running.memory_in_use())
    }
}

/// Syncs what was written, after the time that a disk takes for it.
async fn sync(store: Arc<SegmentStore>, mut random: Random, slowest_ms: Arc<AtomicU64>) {
    loop {
        let most = slowest_ms.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(random.between(1, most))).await;
        store.run_syncs();
    }
}
