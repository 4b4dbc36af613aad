//! The line between what a partition means and where its bytes are.
//!
//! Above this line: numbering of batches, sequence checks, transactions, the high watermark, parked
//! requests. Below it: bytes. A store keeps record batches verbatim, says when they are durable,
//! finds them by offset and by time, and forgets them by retention, compaction or truncation.
//!
//! All calls are synchronous. The ones marked *blocking* may wait for the disk and belong on a
//! thread that may block; the others do memory work and at most one buffered write.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use kavka_protocol::{Uuid, records::BatchHeader};

use crate::{LogConfig, LogError};

/// Names one partition's log.
///
/// The topic id tells a topic from an earlier one of the same name: a log opened under a new id
/// never shows bytes written under the old one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// Topic name, 1 to 249 characters of `[A-Za-z0-9._-]`.
    pub topic: Arc<str>,
    /// Partition index, not negative.
    pub partition: i32,
    /// Topic id. [`Uuid::ZERO`] in a listing when the directory tells none.
    pub topic_id: Uuid,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// All partition logs of one broker.
pub trait LogStore: Send + Sync {
    /// Opens a log, *blocking*; creates it when absent, else recovers it. `listener` hears of it
    /// from then on. Creating touches the disk only at the first append.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] when bytes below the synced point are damaged: the partition is to be
    /// served as offline. [`LogError::AlreadyOpen`], [`LogError::Io`].
    fn open(
        &self,
        id: &LogId,
        config: LogConfig,
        listener: Arc<dyn LogListener>,
    ) -> Result<Arc<dyn PartitionLog>, LogError>;

    /// The logs that exist on disk, sorted by name; *blocking*. Logs that never were written to
    /// are not among them.
    fn list(&self) -> Result<Vec<LogId>, LogError>;

    /// Deletes a log, open or not, *blocking*. When it returns the name is free, and that is
    /// durable; an open handle refuses writes and reads. Absent logs are no error. A directory
    /// of another topic id is left alone.
    fn delete(&self, id: &LogId) -> Result<(), LogError>;

    /// Stops cleanly, *blocking*: closes every log, so that the next open need not scan.
    /// Nothing can be opened afterwards. The first error is returned after all logs were tried.
    fn close(&self) -> Result<(), LogError>;
}

/// Hears what becomes of a log. Called from the store's sync threads and from
/// [`PartitionLog::close`], by one thread at a time, never from within another call, and never while
/// the log holds a lock that anything but another report would need.
pub trait LogListener: Send + Sync {
    /// Everything below `up_to` (exclusive) is durable. Calls may repeat a value; they never go
    /// back except after [`PartitionLog::truncate`].
    fn durable(&self, up_to: i64);
    /// A sync failed: what the disk holds is unknown, the log takes no more writes, and no
    /// waiting append will ever be durable.
    fn failed(&self, error: &LogError);
}

/// A listener for logs whose durability nobody waits for.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoListener;

impl LogListener for NoListener {
    fn durable(&self, _up_to: i64) {}
    fn failed(&self, _error: &LogError) {}
}

/// When an append counts as durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// After a sync that covers it (unless the store's [`SyncPolicy`](crate::SyncPolicy) is
    /// relaxed).
    #[default]
    Synced,
    /// As soon as it is written; the sync follows in the background. A crash of the machine may
    /// lose it.
    Relaxed,
}

/// Who appends, which decides who is refused first when the disk fills up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AppendClass {
    /// Records of producers: refused once free space is below the floor.
    #[default]
    Produce,
    /// Records of the coordinators: may go below the floor and use up the reserve, so that
    /// commits, deletions and retention go on. They are small and spread over many logs, so an engine may make those of all logs
    /// durable together.
    Coordinator,
}

/// How to append.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppendOptions {
    /// When the append counts as durable.
    pub durability: Durability,
    /// Who appends.
    pub class: AppendClass,
}

/// Ticket for an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Log end offset after the append. The append is durable once
    /// [`LogListener::durable`] reported at least this, or [`PartitionLog::durable_end_offset`]
    /// reaches it.
    pub end_offset: i64,
    /// Whether it counts as durable already (relaxed modes). The listener is not called for it.
    pub durable: bool,
}

/// Whole record batches read from a log, in order, as stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slice {
    /// Pieces to be sent one after the other; each holds one or more whole batches.
    pub chunks: Vec<Bytes>,
    /// Where the next read goes on: after the last batch here, or the offset asked for when
    /// nothing was read.
    pub next_offset: i64,
}

impl Slice {
    /// Bytes of all chunks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    /// Whether no batch was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// All chunks as one buffer; copies only when there is more than one.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        match self.chunks.len() {
            0 => Bytes::new(),
            1 => self.chunks.swap_remove(0),
            _ => {
                let mut all = Vec::with_capacity(self.len());
                for chunk in &self.chunks {
                    all.extend_from_slice(chunk);
                }
                all.into()
            }
        }
    }
}

/// A record found by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    /// The record's timestamp, in milliseconds since 1970.
    pub timestamp: i64,
    /// The record's offset.
    pub offset: i64,
    /// Leader epoch of its batch; −1 for none.
    pub leader_epoch: i32,
}

/// Where a leader epoch ends ([`PartitionLog::end_offset_for_epoch`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch of the log that is not larger than the one asked for.
    pub epoch: i32,
    /// Offset at which the next epoch starts, or the log end offset.
    pub end_offset: i64,
}

/// What opening a log found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryInfo {
    /// The log was closed cleanly, or had nothing to be scanned.
    pub clean: bool,
    /// Bytes that were read and verified.
    pub scanned_bytes: u64,
    /// Bytes of a torn tail that were cut off, none of which had been acknowledged.
    pub cut_bytes: u64,
}

/// A transaction that was aborted, as far as its records lie in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// The producer.
    pub producer_id: i64,
    /// Offset of its first record.
    pub first_offset: i64,
    /// Offset of its abort marker.
    pub last_offset: i64,
}

/// What the producer state above the line knows of a producer id that has not expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Offset of the last data record, the one with the producer's last sequence number; `None`
    /// when only markers of it remain.
    pub last_data_offset: Option<i64>,
    /// Its current epoch.
    pub producer_epoch: i16,
}

/// What maintenance has to ask the layers above.
pub trait MaintenanceContext {
    /// Offsets at or above the high watermark are never deleted.
    fn high_watermark(&self) -> i64;

    /// Offsets at or above it may belong to open transactions and are not compacted.
    fn last_stable_offset(&self) -> i64 {
        self.high_watermark()
    }

    /// Aborted transactions that overlap `from..up_to`, in any order.
    fn aborted_transactions(&self, from: i64, up_to: i64) -> Vec<AbortedTransaction> {
        let _ = (from, up_to);
        Vec::new()
    }

    /// The producer's state, while it is kept. Compaction keeps the header of the batch that
    /// holds the last sequence number.
    fn active_producer(&self, producer_id: i64) -> Option<ActiveProducer> {
        let _ = producer_id;
        None
    }
}

/// For logs without transactions: only a high watermark.
#[derive(Debug, Clone, Copy)]
pub struct UpTo(pub i64);

impl MaintenanceContext for UpTo {
    fn high_watermark(&self) -> i64 {
        self.0
    }
}

/// What a maintenance run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MaintenanceReport {
    /// Segments deleted by retention or because the log start passed them.
    pub deleted_segments: usize,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// What compaction did, if there was a pass.
    pub compaction: Option<CompactionReport>,
}

/// What a compaction pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// First offset that the pass did not look at: where the dirty part now starts.
    pub clean_up_to: i64,
    /// Bytes of the rewritten segments before and after.
    pub bytes_before: u64,
    /// See `bytes_before`.
    pub bytes_after: u64,
    /// Records read and records kept.
    pub records_read: u64,
    /// See `records_read`.
    pub records_kept: u64,
    /// The map of keys was full before the dirty part ended; the next pass goes on.
    pub map_full: bool,
}

/// One partition's log.
///
/// Methods may be called from any thread. Appends and truncations of one log must be ordered by the
/// caller (it numbers the batches); the log checks that they are.
pub trait PartitionLog: Send + Sync {
    /// The log's name.
    fn id(&self) -> &LogId;

    /// Appends one or more whole v2 batches, which begin at the log end offset and follow each
    /// other without a gap: one buffered write. CRCs are the caller's to verify.
    ///
    /// The bytes are kept in memory for a while, so they should not be a small view into
    /// a large buffer.
    ///
    /// # Errors
    /// [`LogError::DiskFull`] and [`LogError::Io`] leave the log as it was.
    /// [`LogError::InvalidAppend`], [`LogError::Poisoned`], [`LogError::Closed`],
    /// [`LogError::Deleted`].
    fn append(&self, batches: Bytes, options: AppendOptions) -> Result<Appended, LogError>;

    /// Reads whole batches, *blocking*: from the batch that contains `from` (or the next one, where
    /// compaction left a gap) while they end at or below `up_to` and fit into `max_bytes`. With
    /// `at_least_one` the first batch is returned however large it is.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] unless log start ≤ `from` ≤ log end;
    /// [`LogError::Corrupt`] when the disk returns damaged bytes.
    fn read(
        &self,
        from: i64,
        up_to: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Slice, LogError>;

    /// [`read`](Self::read) without waiting for the disk: answers from the tail in memory or from the
    /// page cache. `None` when that is not possible; call `read` on a thread that may block.
    fn try_read_cached(
        &self,
        from: i64,
        up_to: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Option<Result<Slice, LogError>>;

    /// Visits the headers of the batches from the one that contains `from` on, in order, to the log end at the time of the
    /// call; *blocking*. The rest of large batches is not read, and no checksum is looked at.
    ///
    /// # Errors
    /// As of [`read`](Self::read); headers before the damage were visited.
    fn headers(&self, from: i64, visit: &mut dyn FnMut(&BatchHeader)) -> Result<(), LogError>;

    /// First offset that can be read.
    fn log_start_offset(&self) -> i64;
    /// Offset of the next record to be appended.
    fn log_end_offset(&self) -> i64;
    /// Everything below it survives a crash (or counts as if, in relaxed modes).
    fn durable_end_offset(&self) -> i64;
    /// Bytes of all segments.
    fn size_bytes(&self) -> u64;
    /// Number of segments; 0 for a log that was never written to.
    fn segment_count(&self) -> usize;
    /// What opening the log found.
    fn recovery(&self) -> RecoveryInfo;

    /// The first record with a timestamp ≥ `timestamp`, looking inside its batch; *blocking*.
    fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>, LogError>;

    /// The first record with the largest timestamp of the log; *blocking*. `None` for a log
    /// without records.
    fn max_timestamp(&self) -> Result<Option<TimestampOffset>, LogError>;

    /// The newest leader epoch and the offset it starts at.
    fn latest_epoch(&self) -> Option<(i32, i64)>;

    /// Where `epoch` ends (KIP-320): `None` when it is newer than the newest epoch or the log
    /// knows none.
    fn end_offset_for_epoch(&self, epoch: i32) -> Option<EpochEnd>;

    /// Moves the log start up to `offset`, *blocking*: durable before it returns. A lower or equal
    /// offset changes nothing. Segments below it are deleted by the next maintenance run.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] beyond the log end.
    fn advance_start(&self, offset: i64) -> Result<(), LogError>;

    /// Cuts the log back so that it ends at `offset`, *blocking*: durable before it returns.
    /// Beyond the end, nothing changes. A batch that straddles `offset` is cut as a whole. Returns the
    /// new log end offset.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] below the log start.
    fn truncate(&self, offset: i64) -> Result<i64, LogError>;

    /// Changes the settings, from the next append, read or maintenance run on.
    fn set_config(&self, config: LogConfig);

    /// Retention, compaction and housekeeping, *blocking*; safe beside every other call. `now_ms`
    /// is wall clock time, since records carry that. Run it every few minutes.
    fn maintain(
        &self,
        now_ms: i64,
        context: &dyn MaintenanceContext,
    ) -> Result<MaintenanceReport, LogError>;

    /// Keeps `state` as of `offset` (producer state, say), *blocking*. A cache: it may be gone after
    /// a crash. Only the newest few are kept.
    fn put_snapshot(&self, offset: i64, state: Bytes) -> Result<(), LogError>;

    /// The newest undamaged snapshot that is not beyond the log end; *blocking*.
    fn latest_snapshot(&self) -> Result<Option<(i64, Bytes)>, LogError>;

    /// Syncs, leaves what the next open needs, and refuses everything from then on, *blocking*.
    /// Closing twice is no error.
    fn close(&self) -> Result<(), LogError>;
}

/// Iterates over slices of whole batches from `offset` to the log end at the time of the call, to
/// replay a log; *blocking*. Stops after the first error.
pub fn slices_from(
    log: &dyn PartitionLog,
    offset: i64,
    chunk_bytes: usize,
) -> impl Iterator<Item = Result<Slice, LogError>> + '_ {
    let end = log.log_end_offset();
    let mut next = Some(offset);
    std::iter::from_fn(move || {
        let from = next.take()?;
        if from >= end {
            return None;
        }
        match log.read(from, end, chunk_bytes, true) {
            Ok(slice) if slice.is_empty() => None,
            Ok(slice) => {
                next = Some(slice.next_offset);
                Some(Ok(slice))
            }
            Err(error) => Some(Err(error)),
        }
    })
}
