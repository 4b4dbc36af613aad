//! One partition above its log: numbering, sequence checks, the high watermark, and who waits for it.
//!
//! The log below keeps bytes and says when they are durable; that offset *is* the high watermark, since there is one broker.
//! Nothing above it is ever served: what a consumer has read survives every crash.
//!
//! Does not own parked requests (they wait at the [`Gate`]) nor the disk ([`kavka_log`]).

mod append;
mod producer_state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use kavka_log::{
    ActiveProducer, LogConfig, LogError, LogId, LogListener, LogStore, MaintenanceContext,
    MaintenanceReport, PartitionLog, Slice,
};
use kavka_meta::config::topic::TopicConfig;
use kavka_protocol::ErrorCode;
use tokio::runtime::{Handle, RuntimeFlavor};
use tracing::{error, warn};

pub(crate) use self::append::{AppendError, Produced};
use self::producer_state::ProducerStates;
use crate::gate::{Closed, Gate};

/// Bytes appended since the last snapshot of the producer state after which another one is taken, so that a restart after a
/// crash reads little of the log.
const SNAPSHOT_EVERY_BYTES: u64 = 8 << 20;

/// A partition that this broker serves.
pub(crate) struct Partition {
    id: LogId,
    leader_epoch: i32,
    log: Arc<dyn PartitionLog>,
    /// The high watermark.
    gate: Arc<Gate>,
    appender: Mutex<Appender>,
    config: RwLock<Arc<TopicConfig>>,
}

/// What appends change, one at a time.
#[derive(Debug, Default)]
struct Appender {
    producers: ProducerStates,
    /// Bytes of the log after the last snapshot of the producer state.
    unsaved_bytes: u64,
}

/// The listener of the log: durable means visible.
struct Durable(Arc<Gate>);

impl LogListener for Durable {
    fn durable(&self, up_to: i64) {
        self.0.advance(up_to);
    }

    fn failed(&self, error: &LogError) {
        error!("partition failed, its waiters are told: {error}");
        self.0.close();
    }
}

impl Partition {
    /// Opens the log and rebuilds the producer state. Blocking.
    ///
    /// # Errors
    /// What the log says; after [`LogError::Corrupt`] the partition is to be served as offline.
    pub(crate) fn open(
        store: &dyn LogStore,
        id: LogId,
        leader_epoch: i32,
        config: Arc<TopicConfig>,
        log_config: LogConfig,
    ) -> Result<Partition, LogError> {
        let gate = Arc::new(Gate::new(0));
        let log = store.open(&id, log_config, Arc::new(Durable(Arc::clone(&gate))))?;
        gate.advance(log.durable_end_offset());
        let appender = Mutex::new(Appender::rebuild(&*log)?);
        Ok(Partition { id, leader_epoch, log, gate, appender, config: RwLock::new(config) })
    }

    /// `topic-partition`, for people.
    pub(crate) fn id(&self) -> &LogId {
        &self.id
    }

    pub(crate) fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// The offset up to which consumers read.
    pub(crate) fn high_watermark(&self) -> i64 {
        self.gate.reached()
    }

    /// The offset below which no transaction is open.
    pub(crate) fn last_stable_offset(&self) -> i64 {
        self.high_watermark()
    }

    pub(crate) fn log_start_offset(&self) -> i64 {
        self.log.log_start_offset()
    }

    pub(crate) fn log_end_offset(&self) -> i64 {
        self.log.log_end_offset()
    }

    pub(crate) fn log(&self) -> &Arc<dyn PartitionLog> {
        &self.log
    }

    /// Waits until everything below `offset` is durable.
    pub(crate) async fn durable(&self, offset: i64) -> Result<(), Closed> {
        self.gate.wait(offset).await
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_config(&self, config: Arc<TopicConfig>, log_config: LogConfig) {
        self.log.set_config(log_config);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Wakes everyone who waits here: the partition was deleted.
    pub(crate) fn close_gate(&self) {
        self.gate.close();
    }

    /// Reads whole batches up to `bound`, without blocking the calling thread on the disk.
    pub(crate) async fn read(
        &self,
        from: i64,
        bound: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Slice, LogError> {
        if let Some(result) = self.log.try_read_cached(from, bound, max_bytes, at_least_one) {
            return result;
        }
        let log = Arc::clone(&self.log);
        blocking(move || log.read(from, bound, max_bytes, at_least_one)).await
    }

    /// Retention and compaction. Blocking.
    pub(crate) fn maintain(&self, now_ms: i64) -> Result<MaintenanceReport, LogError> {
        self.log.maintain(now_ms, &Maintenance(self))
    }

    /// When each producer that is remembered here last wrote, in milliseconds since 1970.
    pub(crate) fn producers_last_seen_ms(&self) -> Vec<i64> {
        self.appender().producers.last_seen_ms().collect()
    }

    /// How many producers are remembered here.
    pub(crate) fn producer_count(&self) -> usize {
        self.appender().producers.len()
    }

    /// Forgets producers that have not written after `cutoff_ms`.
    pub(crate) fn forget_producers_idle_since(&self, cutoff_ms: i64) {
        self.appender().producers.forget_idle_since(cutoff_ms);
    }

    /// Saves the producer state if enough was appended since the last time, or `force`. Blocking.
    pub(crate) fn maybe_snapshot(&self, force: bool) -> Result<(), LogError> {
        let (offset, snapshot) = {
            let mut appender = self.appender();
            let unsaved = appender.unsaved_bytes;
            if unsaved == 0 || (!force && unsaved < SNAPSHOT_EVERY_BYTES) {
                return Ok(());
            }
            appender.unsaved_bytes = 0;
            (self.log.log_end_offset(), appender.producers.snapshot())
        };
        self.log.put_snapshot(offset, snapshot)
    }

    fn appender(&self) -> MutexGuard<'_, Appender> {
        match self.appender.lock() {
            Ok(appender) => appender,
            Err(_) => panic!("{}: an append panicked; its state cannot be trusted", self.id),
        }
    }
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Partition({})", self.id)
    }
}

/// Runs something that may wait for the disk on a thread that may; in place where one thread has to do everything, as in a
/// simulation.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => panic!("blocking work was cancelled: {cancelled}"),
        },
    }
}

impl Appender {
    /// The producer state as of the log end: the newest snapshot, and the batches after it.
    fn rebuild(log: &dyn PartitionLog) -> Result<Appender, LogError> {
        let mut appender = Appender::default();
        let mut from = log.log_start_offset();
        if let Some((offset, bytes)) = log.latest_snapshot()? {
            match ProducerStates::from_snapshot(bytes) {
                Some(state) => {
                    appender.producers = state;
                    from = from.max(offset);
                }
                None => warn!("{}: producer snapshot at {offset} is of no known form", log.id()),
            }
        }
        log.headers(from, &mut |header| {
            // The batch that contains `from` may begin before it.
            if header.last_offset() >= from {
                appender.producers.appended(header, header.max_timestamp);
                appender.unsaved_bytes += header.size_in_bytes() as u64;
            }
        })?;
        Ok(appender)
    }
}

/// What compaction asks about this partition.
struct Maintenance<'a>(&'a Partition);

impl MaintenanceContext for Maintenance<'_> {
    fn high_watermark(&self) -> i64 {
        self.0.high_watermark()
    }

    fn last_stable_offset(&self) -> i64 {
        self.0.last_stable_offset()
    }

    fn active_producer(&self, producer_id: i64) -> Option<ActiveProducer> {
        let (producer_epoch, last_data_offset) = self.0.appender().producers.active(producer_id)?;
        Some(ActiveProducer { last_data_offset, producer_epoch })
    }
}

/// The error code that a client sees for an error of the log.
pub(crate) fn log_error_code(error: &LogError) -> ErrorCode {
    match error {
        LogError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        LogError::Closed { .. } => ErrorCode::NotLeaderOrFollower,
        LogError::Deleted { .. } => ErrorCode::UnknownTopicOrPartition,
        LogError::InvalidAppend { .. } | LogError::AlreadyOpen { .. } => {
            ErrorCode::UnknownServerError
        }
        LogError::Io { .. }
        | LogError::Corrupt { .. }
        | LogError::DiskFull { .. }
        | LogError::Poisoned { .. }
        | LogError::Locked { .. } => ErrorCode::KafkaStorageError,
    }
}
