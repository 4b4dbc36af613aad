//! What can go wrong below the [`LogStore`](crate::LogStore) line, shaped by what the caller does next.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An error of the log layer.
///
/// Cheap to clone, since one failed sync is reported to every partition and request it concerns.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The operating system refused an operation. The log is unchanged and may be tried again.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done, such as "open" or "rename".
        action: &'static str,
        /// The file or directory it was done to.
        path: PathBuf,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// Bytes that were durable once do not read back as they were written. The partition is
    /// offline; nothing was cut. Restore the file, or truncate the log explicitly.
    #[error(
        "{} is corrupt in bytes {}..{}: {reason}; nothing was cut, restore the file from a copy",
        file.display(), range.start, range.end
    )]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// The damaged bytes, as offsets in the file.
        range: Range<u64>,
        /// What is wrong with them.
        reason: String,
    },
    /// The offset asked for is before the start or after the end of the log.
    #[error(
        "offset {offset} is outside of the log, which holds {log_start_offset}..{log_end_offset}"
    )]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: i64,
        /// First offset of the log.
        log_start_offset: i64,
        /// Offset after the last one of the log.
        log_end_offset: i64,
    },
    /// Too little space is left on the disk for this class of append; nothing was written.
    #[error("disk of {} is full: {free} bytes free, the floor is {floor}; free some space", path.display())]
    DiskFull {
        /// The data directory.
        path: PathBuf,
        /// Free bytes found.
        free: u64,
        /// Free bytes below which produce is refused.
        floor: u64,
    },
    /// The bytes handed to `append` are not whole, contiguous batches which begin at the log end.
    #[error("append to {log} refused: {reason}")]
    InvalidAppend {
        /// The partition.
        log: String,
        /// What is wrong with the bytes.
        reason: String,
    },
    /// An earlier write or sync failed, so what the disk holds is unknown. The log takes no more
    /// writes until the process starts again and recovers it.
    #[error(
        "{log} refuses writes since an earlier failure: {reason}; restart the broker to recover it"
    )]
    Poisoned {
        /// The partition.
        log: String,
        /// The failure that poisoned it.
        reason: String,
    },
    /// The log, or its store, was closed.
    #[error("{log} is closed")]
    Closed {
        /// The partition, or the store's directory.
        log: String,
    },
    /// The log was deleted.
    #[error("{log} was deleted")]
    Deleted {
        /// The partition.
        log: String,
    },
    /// Another process holds the data directory.
    #[error("{} is in use by another process; stop it or choose another directory", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The log is open already. A log has one handle, shared by its users.
    #[error("{log} is open already")]
    AlreadyOpen {
        /// The partition.
        log: String,
    },
}

impl LogError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }

    /// Whether stored bytes were found damaged.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }

    /// Whether the error says that a file or directory is absent.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether a sync failed, after which what the disk holds is unknown.
    pub(crate) fn is_failed_sync(&self) -> bool {
        matches!(self, Self::Io { action: "sync", .. })
    }
}

/// Whether an I/O error says that the disk, or the quota on it, is used up.
pub(crate) fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
