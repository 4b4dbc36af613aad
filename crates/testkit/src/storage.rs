//! Where a test broker keeps what it is told.

use std::{fmt, io, path::Path, sync::Arc};

use kavka_broker::{Engines, StartError};
use kavka_log::{
    LogError, LogStore, SegmentStore, StoreOptions,
    fs::{File, MemoryDisk, OpenMode},
};
use kavka_meta::{EmbeddedMeta, RandomSource, StorageBackend};
use tempfile::TempDir;

/// Where a [`TestBroker`](crate::TestBroker) keeps what it is told. All of it is gone when the broker is dropped.
///
/// Both run the same storage engine, which syncs before it acknowledges. With the property `kavka.sync.policy=interval` it
/// acknowledges what is written and syncs within `kavka.sync.interval.ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Storage {
    /// A disk that is simulated in memory: a sync costs nothing, and its [power can fail](crate::TestBroker::power_loss). Takes
    /// as much memory as is written. The default.
    #[default]
    Memory,
    /// Files in a temporary directory, as in production, and as slow as the disk is.
    Disk,
}

/// The storage of one broker, for all of its lives.
#[derive(Debug)]
pub(crate) enum Place {
    Memory(MemoryDisk),
    Disk(TempDir),
}

/// What a broker on a disk in memory is told of its data directory, and never uses.
const NOWHERE: &str = "in-memory";
const LOGS: &str = "/logs";
const META: &str = "/meta.redb";

impl Place {
    pub(crate) fn make(storage: Storage) -> io::Result<Self> {
        match storage {
            Storage::Memory => Ok(Place::Memory(MemoryDisk::new())),
            Storage::Disk => {
                tempfile::Builder::new().prefix("kavka-test-").tempdir().map(Place::Disk)
            }
        }
    }

    /// The broker's `log.dirs`.
    pub(crate) fn data_dir(&self) -> &Path {
        match self {
            Place::Memory(_) => Path::new(NOWHERE),
            Place::Disk(dir) => dir.path(),
        }
    }

    pub(crate) fn memory(&self) -> Option<&MemoryDisk> {
        match self {
            Place::Memory(disk) => Some(disk),
            Place::Disk(_) => None,
        }
    }
}

/// Opens what is on a disk in memory, for one more life of a broker: with the store of the logs once more, for who runs its syncs.
///
/// # Errors
/// What is there is damaged.
#[doc(hidden)]
pub fn open_on_memory(
    disk: &MemoryDisk,
    options: StoreOptions,
    random: RandomSource,
) -> Result<(Engines, Arc<SegmentStore>), StartError> {
    let fs = disk.mount();
    let io = |source| LogError::Io { action: "open", path: META.into(), source: Arc::new(source) };
    let mode =
        if fs.file_len(Path::new(META)).is_ok() { OpenMode::Write } else { OpenMode::Create };
    let file = fs.open(Path::new(META), mode).map_err(io)?;
    fs.sync_dir(Path::new("/")).map_err(io)?;
    let meta = EmbeddedMeta::open_on(MetaFile(file), META, random)?;
    let store = Arc::new(SegmentStore::open_on(fs, LOGS, options, Arc::new(ignore))?);
    let engines = Engines { meta: Arc::new(meta), store: Arc::clone(&store) as Arc<dyn LogStore> };
    Ok((engines, store))
}

/// A sync fails when the disk has gone on to a later life, or its power has failed: then so has the broker's.
pub(crate) fn ignore(_: &LogError) {}

/// The file of the metadata.
struct MetaFile(Arc<dyn File>);

impl fmt::Debug for MetaFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MetaFile").finish()
    }
}

impl StorageBackend for MetaFile {
    fn len(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        // This disk reads and writes all it can at once.
        let read = self.0.read_at(out, offset)?;
        if read == out.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let written = self.0.write_at(data, offset)?;
        if written == data.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}
