//! The shell around the group coordinator: one shard for each partition of `__consumer_offsets`.
//!
//! Lock the shard, let the machine decide, append its records as one atomic batch, apply them, unlock; a reply leaves when the
//! log is durable up to the position it was made at. What the machine needs besides requests comes from here as well: time,
//! deadlines, the replay of the log at start and after a failed append.
//!
//! Owns no rule of the group protocol: those are [`kavka_coordinator`]'s.

mod alarm;
mod replay;
mod shard;

use std::{
    collections::BTreeMap,
    num::NonZero,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kavka_coordinator::group::{GroupConfig, Reply, Request};
use kavka_protocol::{ErrorCode, hash::group_partition};
use tokio::task::JoinSet;
use tracing::info;

use self::{
    alarm::Alarm,
    shard::{Shard, ShardSettings},
};
use crate::{
    clock::Clock,
    config::BrokerConfig,
    environment::Machine,
    partition::blocking,
    topics::{TopicPartitions, Topics},
};

/// The topic that groups and offsets are records of.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// How many shards are loaded at a time, if there are processors for it.
const LOADING_THREADS: usize = 4;

/// All shards, once the offsets topic exists.
pub(crate) struct Groups {
    shards: OnceLock<Vec<Arc<Shard>>>,
    settings: Arc<ShardSettings>,
    alarm: Arc<Alarm>,
}

impl Groups {
    pub(crate) fn new(config: &BrokerConfig, clock: Clock, machine: Machine) -> Self {
        let alarm = Arc::new(Alarm::default());
        let settings = ShardSettings {
            config: group_config(config),
            load_buffer_bytes: config.offsets.load_buffer_bytes,
            commit_timeout: config.offsets.commit_timeout,
            clock,
            alarm: Arc::clone(&alarm),
            machine,
        };
        Self { shards: OnceLock::new(), settings: Arc::new(settings), alarm }
    }

    /// Makes the shards of the offsets topic, if it exists and they are not there, and loads them in the background.
    pub(crate) fn start(&self, topics: &Topics) {
        let Some(topic) = topics.by_name(OFFSETS_TOPIC) else { return };
        let mut made = false;
        let shards = self.shards.get_or_init(|| {
            made = true;
            let shard = |(index, partition): (usize, &Result<_, _>)| {
                let partition = partition.as_ref().ok().cloned();
                Shard::new(index, partition, Arc::clone(&self.settings))
            };
            topic.partitions.iter().enumerate().map(shard).map(Arc::new).collect()
        });
        if made {
            tokio::spawn(load(shards.clone()));
        }
    }

    /// Fires the deadlines of all shards, for as long as the broker runs.
    pub(crate) async fn run_deadlines(&self) {
        loop {
            let due = self.alarm.next(&self.settings.clock).await;
            if let Some(shard) = self.shards.get().and_then(|shards| shards.get(due)) {
                shard.deadline();
            }
        }
    }

    /// Whether the shards are there.
    pub(crate) fn is_started(&self) -> bool {
        self.shards.get().is_some()
    }

    /// The partition of the offsets topic that a group belongs to.
    pub(crate) fn shard_of(&self, group: &str) -> Option<usize> {
        let shards = self.shards.get()?;
        let count = u32::try_from(shards.len()).ok()?;
        Some(group_partition(group, count) as usize)
    }

    /// Asks the shard of `group`. Cancel safe for the shard: a dropped request was still handled, only its reply is lost.
    pub(crate) async fn ask(&self, group: &str, request: Request) -> Reply {
        match self.shard_of(group) {
            Some(index) => self.ask_shard(index, request).await,
            None => request.refuse(ErrorCode::NotCoordinator),
        }
    }

    async fn ask_shard(&self, index: usize, request: Request) -> Reply {
        match self.shards.get().and_then(|shards| shards.get(index)) {
            Some(shard) => shard.ask(request).await,
            None => request.refuse(ErrorCode::NotCoordinator),
        }
    }

    /// Asks every shard; the replies in the order of the shards.
    pub(crate) async fn ask_all(&self, request: &Request) -> Vec<Reply> {
        let mut replies = Vec::new();
        for shard in self.shards.get().into_iter().flatten() {
            replies.push(shard.ask(request.clone()).await);
        }
        replies
    }

    /// Asks the shards of several groups at once: `request` makes one for the groups of a shard, each named with its place in
    /// `groups`. Where there is no shard, the reply is a refusal.
    pub(crate) async fn ask_each<G: AsRef<str> + Clone>(
        &self,
        groups: &[G],
        request: impl Fn(Vec<G>) -> Request,
    ) -> Vec<(Vec<usize>, Reply)> {
        let mut by_shard: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
        for (place, group) in groups.iter().enumerate() {
            by_shard.entry(self.shard_of(group.as_ref())).or_default().push(place);
        }
        let mut replies = Vec::new();
        for (shard, places) in by_shard {
            let request = request(places.iter().map(|place| groups[*place].clone()).collect());
            let reply = match shard {
                Some(shard) => self.ask_shard(shard, request).await,
                None => request.refuse(ErrorCode::NotCoordinator),
            };
            replies.push((places, reply));
        }
        replies
    }

    /// Topics are gone, and with them the offsets committed to them.
    pub(crate) async fn topics_deleted(&self, topics: &[Arc<TopicPartitions>]) {
        let Some(shards) = self.shards.get() else { return };
        for topic in topics {
            for shard in shards {
                shard.topic_deleted(&topic.topic.name, topic.topic.id);
            }
        }
    }

    /// Answers everyone who is parked: the broker stops.
    pub(crate) fn stop(&self) {
        for shard in self.shards.get().into_iter().flatten() {
            shard.stop();
        }
    }
}

/// Loads all shards, some at a time. Requests are served meanwhile: each waits for its own shard only.
async fn load(shards: Vec<Arc<Shard>>) {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let (shards, next) = (Arc::new(shards), Arc::new(AtomicUsize::new(0)));
    let mut loading = JoinSet::new();
    for _ in 0..threads.min(LOADING_THREADS) {
        let (shards, next) = (Arc::clone(&shards), Arc::clone(&next));
        loading.spawn(blocking(move || {
            let mut records = 0;
            while let Some(shard) = shards.get(next.fetch_add(1, Ordering::Relaxed)) {
                records += shard.load();
            }
            records
        }));
    }
    let records: u64 = loading.join_all().await.into_iter().sum();
    if records > 0 {
        info!("loaded {records} records of {OFFSETS_TOPIC}");
    }
}

/// The coordinator's settings among the broker's.
fn group_config(config: &BrokerConfig) -> GroupConfig {
    let millis = |value: i32| Duration::from_millis(u64::try_from(value).unwrap_or(0));
    let (group, offsets) = (&config.group, &config.offsets);
    GroupConfig {
        min_session_timeout: millis(group.min_session_timeout_ms),
        max_session_timeout: millis(group.max_session_timeout_ms),
        initial_rebalance_delay: millis(group.initial_rebalance_delay_ms),
        max_size: group.max_size,
        max_member_metadata: group.member_max_metadata_bytes,
        max_group_metadata: group.max_metadata_bytes,
        offset_metadata_max: offsets.metadata_max_bytes,
        offsets_retention: Duration::from_millis(u64::try_from(offsets.retention_ms).unwrap_or(0)),
        offsets_retention_check_interval: offsets.retention_check_interval,
        ..GroupConfig::default()
    }
}
