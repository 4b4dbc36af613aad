//! The partitions this broker serves, by topic name and by topic id.
//!
//! Follows the metadata: what [`kavka_meta`] says exists is opened here, what it no longer says is closed and deleted. Lookups
//! take a reference-counted snapshot and hold no lock while it is used.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use kavka_log::{LogConfig, LogError, LogId, LogStore};
use kavka_meta::{
    ClusterMeta, ConfigMap, ConfigResource, MetadataImage, Topic,
    config::{BrokerValues, topic::TopicConfig},
};
use kavka_protocol::{ErrorCode, Uuid};
use tokio::runtime::{Handle, RuntimeFlavor};
use tracing::{error, info};

use crate::partition::{Partition, log_error_code};

/// A topic and its partitions. A partition whose log could not be opened is offline: an error in its place.
pub(crate) struct TopicPartitions {
    pub(crate) topic: Arc<Topic>,
    pub(crate) partitions: Vec<Result<Arc<Partition>, LogError>>,
}

impl TopicPartitions {
    /// The partition.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, or `KAFKA_STORAGE_ERROR` if it is offline.
    pub(crate) fn partition(&self, index: i32) -> Result<&Arc<Partition>, ErrorCode> {
        let index = usize::try_from(index).map_err(|_| ErrorCode::UnknownTopicOrPartition)?;
        match self.partitions.get(index) {
            None => Err(ErrorCode::UnknownTopicOrPartition),
            Some(Ok(partition)) => Ok(partition),
            Some(Err(error)) => Err(log_error_code(error)),
        }
    }

    /// The partitions that are not offline.
    pub(crate) fn online(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.partitions.iter().flatten()
    }
}

#[derive(Clone, Default)]
struct Index {
    by_name: HashMap<Arc<str>, Arc<TopicPartitions>>,
    by_id: HashMap<Uuid, Arc<TopicPartitions>>,
}

impl Index {
    fn insert(&mut self, open: Arc<TopicPartitions>) {
        self.by_name.insert(Arc::clone(&open.topic.name), Arc::clone(&open));
        self.by_id.insert(open.topic.id, open);
    }
}

/// Partitions that are opened at once.
const OPENING_THREADS: usize = 4;

/// How a topic's configuration follows from its overrides and the broker's settings.
type Configure = dyn Fn(&MetadataImage, &Topic) -> TopicConfig + Send + Sync;

/// All topics that are open.
pub(crate) struct Topics {
    store: Arc<dyn LogStore>,
    meta: Arc<dyn ClusterMeta>,
    configure: Box<Configure>,
    /// `log.cleaner.enable`.
    compaction: bool,
    index: RwLock<Arc<Index>>,
    /// Held while the index is brought in line with the metadata.
    reconciling: Mutex<()>,
}

/// What changed when the index followed the metadata.
#[derive(Default)]
pub(crate) struct Reconciled {
    pub(crate) removed: Vec<Arc<TopicPartitions>>,
}

impl Topics {
    pub(crate) fn new(
        store: Arc<dyn LogStore>,
        meta: Arc<dyn ClusterMeta>,
        compaction: bool,
        configure: impl Fn(&MetadataImage, &Topic) -> TopicConfig + Send + Sync + 'static,
    ) -> Self {
        Self {
            store,
            meta,
            configure: Box::new(configure),
            compaction,
            index: RwLock::default(),
            reconciling: Mutex::default(),
        }
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<TopicPartitions>> {
        self.index().by_name.get(name).cloned()
    }

    pub(crate) fn by_id(&self, id: Uuid) -> Option<Arc<TopicPartitions>> {
        self.index().by_id.get(&id).cloned()
    }

    /// Every topic, in no particular order.
    pub(crate) fn all(&self) -> Vec<Arc<TopicPartitions>> {
        self.index().by_name.values().cloned().collect()
    }

    fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens what the metadata has and is not open yet, closes and deletes what it has no more, and hands changed
    /// configurations to open partitions. Blocking. Called after every change of the metadata; calls wait for each other.
    pub(crate) fn reconcile(&self) -> Reconciled {
        let _one_at_a_time = self.reconciling.lock().unwrap_or_else(PoisonError::into_inner);
        let image = self.meta.image();
        let old = self.index();
        let mut new = Index::default();
        let mut changed = Vec::new();
        for topic in image.topics().values() {
            match old.by_id.get(&topic.id) {
                Some(open) if Arc::ptr_eq(&open.topic, topic) => new.insert(Arc::clone(open)),
                known => changed.push((topic, known.map(|known| &**known))),
            }
        }
        for open in self.open_topics(&image, &changed) {
            new.insert(Arc::new(open));
        }
        let removed: Vec<_> =
            old.by_id.values().filter(|t| !new.by_id.contains_key(&t.topic.id)).cloned().collect();
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        for topic in &removed {
            self.delete_topic(topic);
        }
        Reconciled { removed }
    }

    /// Hands every open partition its configuration anew: what topics fall back to has changed. Blocking.
    pub(crate) fn reconfigure(&self) {
        let _one_at_a_time = self.reconciling.lock().unwrap_or_else(PoisonError::into_inner);
        let image = self.meta.image();
        for topic in self.index().by_id.values() {
            let config = Arc::new((self.configure)(&image, &topic.topic));
            for partition in topic.online() {
                partition.set_config(Arc::clone(&config), self.log_config(&config));
            }
        }
    }

    /// Opens the partitions of topics that are not open yet; hands the configuration to those that are.
    fn open_topics(
        &self,
        image: &MetadataImage,
        topics: &[(&Arc<Topic>, Option<&TopicPartitions>)],
    ) -> Vec<TopicPartitions> {
        let mut unopened = Vec::new();
        let mut open = Vec::with_capacity(topics.len());
        for (topic, known) in topics {
            let config = Arc::new((self.configure)(image, topic));
            let log_config = self.log_config(&config);
            let known = known.map_or(&[][..], |known| &known.partitions);
            for partition in known.iter().flatten() {
                partition.set_config(Arc::clone(&config), log_config.clone());
            }
            for index in i32::try_from(known.len()).unwrap_or(0)..topic.partitions {
                unopened.push(Unopened {
                    id: log_id(topic, index),
                    leader_epoch: image.leader_epoch(topic, index).unwrap_or(0),
                    config: Arc::clone(&config),
                    log_config: log_config.clone(),
                });
            }
            let partitions = known.iter().take(topic.partitions as usize).cloned().collect();
            open.push(TopicPartitions { topic: Arc::clone(topic), partitions });
        }
        let mut opened = self.open_partitions(&unopened).into_iter();
        for topic in &mut open {
            let missing = (topic.topic.partitions as usize).saturating_sub(topic.partitions.len());
            topic.partitions.extend(opened.by_ref().take(missing));
        }
        open
    }

    /// Opens partitions, some side by side: after a crash each of them waits for the disk several times.
    fn open_partitions(&self, unopened: &[Unopened]) -> Vec<Result<Arc<Partition>, LogError>> {
        let next = AtomicUsize::new(0);
        let opened: Vec<_> = unopened.iter().map(|_| OnceLock::new()).collect();
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let (Some(wanted), Some(place)) = (unopened.get(index), opened.get(index)) else {
                    return;
                };
                place.get_or_init(|| wanted.open(&*self.store));
            }
        };
        thread::scope(|scope| {
            for _ in 1..unopened.len().min(opening_threads()) {
                scope.spawn(work);
            }
            work();
        });
        // Each was worked on: by then the index was beyond all of them.
        opened.into_iter().filter_map(OnceLock::into_inner).collect()
    }

    /// The part of a topic's configuration that its logs follow.
    fn log_config(&self, config: &TopicConfig) -> LogConfig {
        let positive = |value: i64| u64::try_from(value).unwrap_or(0);
        let limit = |value: i64| u64::try_from(value).ok();
        LogConfig {
            segment_bytes: u32::try_from(config.segment_bytes).unwrap_or(0),
            segment_ms: positive(config.segment_ms),
            segment_jitter_ms: positive(config.segment_jitter_ms),
            index_interval_bytes: u32::try_from(config.index_interval_bytes).unwrap_or(0),
            retention_ms: limit(config.retention_ms),
            retention_bytes: limit(config.retention_bytes),
            delete: config.cleanup_policy.delete,
            compact: config.cleanup_policy.compact && self.compaction,
            min_cleanable_dirty_ratio: config.min_cleanable_dirty_ratio,
            min_compaction_lag_ms: positive(config.min_compaction_lag_ms),
            max_compaction_lag_ms: positive(config.max_compaction_lag_ms),
            delete_retention_ms: positive(config.delete_retention_ms),
            max_decompressed_bytes: usize::try_from(config.max_decompressed_message_bytes)
                .unwrap_or(0),
            ..LogConfig::default()
        }
    }

    fn delete_topic(&self, topic: &TopicPartitions) {
        info!("deleting topic {} ({})", topic.topic.name, topic.topic.id);
        topic.online().for_each(|partition| partition.close_gate());
        for index in 0..topic.topic.partitions {
            let id = log_id(&topic.topic, index);
            if let Err(failed) = self.store.delete(&id) {
                error!("cannot delete the files of {id}; they are left behind: {failed}");
            }
        }
    }
}

/// How many partitions are opened side by side: one, where one thread has to do everything, as in a simulation.
fn opening_threads() -> usize {
    let runtime = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    if matches!(runtime, Ok(RuntimeFlavor::CurrentThread)) { 1 } else { OPENING_THREADS }
}

/// A partition to be opened.
struct Unopened {
    id: LogId,
    leader_epoch: i32,
    config: Arc<TopicConfig>,
    log_config: LogConfig,
}

impl Unopened {
    fn open(&self, store: &dyn LogStore) -> Result<Arc<Partition>, LogError> {
        let (id, config) = (self.id.clone(), Arc::clone(&self.config));
        Partition::open(store, id, self.leader_epoch, config, self.log_config.clone())
            .map(Arc::new)
            .inspect_err(|error| error!("{} is offline: {error}", self.id))
    }
}

fn log_id(topic: &Topic, partition: i32) -> LogId {
    LogId { topic: Arc::clone(&topic.name), partition, topic_id: topic.id }
}

/// The configuration of a topic: its overrides over the broker's settings over the defaults.
pub(crate) fn resolve_config(
    image: &MetadataImage,
    topic: &Topic,
    fixed: &ConfigMap,
    node_id: i32,
) -> TopicConfig {
    let dynamic = image.configs(&ConfigResource::broker(node_id));
    let dynamic_default = image.configs(&ConfigResource::cluster_default());
    let broker = BrokerValues { dynamic: &dynamic, dynamic_default: &dynamic_default, fixed };
    // Values are checked before they are stored, so this says that another version stored them.
    TopicConfig::resolve(&topic.configs, &broker).unwrap_or_else(|invalid| {
        error!("topic {}: {invalid}; its own settings are not in effect", topic.name);
        TopicConfig::resolve(&ConfigMap::new(), &BrokerValues::none())
            .unwrap_or_else(|invalid| unreachable!("defaults are valid: {invalid}"))
    })
}
