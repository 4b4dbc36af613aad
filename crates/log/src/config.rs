//! Settings of one log, and of the store that holds all of them.

use std::time::Duration;

/// Settings of one partition's log. They come from the topic's configuration and may change while
/// the log is open ([`PartitionLog::set_config`](crate::PartitionLog::set_config)).
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is rolled before it grows past this. At most 2³¹−1.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment is rolled when a batch is more than this newer, in record time,
    /// than the segment's first batch.
    pub segment_ms: u64,
    /// Subtracted from `segment_ms`; the caller draws it below `segment.jitter.ms`.
    pub segment_jitter_ms: u64,
    /// `index.interval.bytes`: log bytes between two index entries.
    pub index_interval_bytes: u32,
    /// `retention.ms`; `None` keeps records of any age.
    pub retention_ms: Option<u64>,
    /// `retention.bytes`; `None` keeps any amount.
    pub retention_bytes: Option<u64>,
    /// `cleanup.policy` contains `delete`: retention by time and size applies.
    pub delete: bool,
    /// `cleanup.policy` contains `compact`: the last record of each key is kept.
    pub compact: bool,
    /// `min.cleanable.dirty.ratio`, in 0..=1.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: younger records are not compacted.
    pub min_compaction_lag_ms: u64,
    /// `max.compaction.lag.ms`: older records are compacted whatever the dirty ratio.
    pub max_compaction_lag_ms: u64,
    /// `delete.retention.ms`: how long tombstones and transaction markers outlive the compaction
    /// pass that first met them.
    pub delete_retention_ms: u64,
    /// `max.decompressed.message.bytes`: bound when a compressed batch is opened, for compaction
    /// and for lookups by time.
    pub max_decompressed_bytes: usize,
    /// Recently appended bytes which are kept in memory for reads. Not a Kafka setting.
    pub tail_cache_bytes: usize,
}

impl Default for LogConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3600 * 1000,
            segment_jitter_ms: 0,
            index_interval_bytes: 4096,
            retention_ms: Some(7 * 24 * 3600 * 1000),
            retention_bytes: None,
            delete: true,
            compact: false,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX as u64,
            delete_retention_ms: 24 * 3600 * 1000,
            max_decompressed_bytes: 16 << 20,
            tail_cache_bytes: 1 << 20,
        }
    }
}

/// When bytes that were written are synced to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// An append counts as durable after the sync that covers it. The default.
    Always,
    /// Relaxed: an append counts as durable as soon as it is written, and a crash of the machine
    /// (not of the process) may lose what was acknowledged. Syncs happen in the background.
    Interval {
        /// Longest time between a write and the sync that covers it.
        every: Duration,
        /// A sync is also started when this many bytes of a log are unsynced.
        bytes: u64,
    },
}

/// Who runs the syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncerMode {
    /// Up to this many threads (at least one), each started when it is first needed.
    Threads(usize),
    /// Nobody: the owner calls [`SegmentStore::run_syncs`](crate::SegmentStore::run_syncs).
    /// For simulation and tests, where everything happens on one thread.
    Manual,
}

/// Settings of a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// When appends become durable.
    pub sync_policy: SyncPolicy,
    /// Who syncs.
    pub syncer: SyncerMode,
    /// Bytes synced after which a log's recovery point is moved. Bounds what recovery re-reads.
    pub checkpoint_bytes: u64,
    /// Bytes to which each of the two files of the journal grows, through which appends of
    /// [`AppendClass::Coordinator`](crate::AppendClass::Coordinator) become durable: one sync serves those of all logs. 0 for
    /// none.
    pub journal_bytes: u64,
    /// Free bytes on the disk below which [`AppendClass::Produce`](crate::AppendClass::Produce)
    /// is refused.
    pub free_space_floor: u64,
    /// Bytes preallocated for [`AppendClass::Coordinator`](crate::AppendClass::Coordinator); given
    /// up when the disk has no space left at all. 0 for none.
    pub reserve_bytes: u64,
    /// The reserve is allocated, by maintenance, once the store holds this many bytes, so that
    /// an idle broker writes nothing.
    pub reserve_after_bytes: u64,
    /// Bytes that the in-memory tails of all logs may hold together; beyond it each append leaves
    /// only its own batch in memory.
    pub tail_cache_total_bytes: usize,
    /// Bytes of memory that one compaction pass may use for its map of keys.
    pub compaction_map_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            sync_policy: SyncPolicy::Always,
            syncer: SyncerMode::Threads(4),
            checkpoint_bytes: 4 << 20,
            journal_bytes: 4 << 20,
            free_space_floor: 64 << 20,
            reserve_bytes: 64 << 20,
            reserve_after_bytes: 256 << 20,
            tail_cache_total_bytes: 64 << 20,
            compaction_map_bytes: 16 << 20,
        }
    }
}
