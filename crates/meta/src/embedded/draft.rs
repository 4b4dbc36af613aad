//! A store that is being made under another name: nobody can rely on it before it has its own, so it is synced once, then.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::Failure;

/// The file of a new store. Syncs are left out until it is published, and are syncs from then on.
#[derive(Debug)]
pub(super) struct Draft {
    file: FileBackend,
    is_published: Arc<AtomicBool>,
}

/// What gives a draft its name.
pub(super) struct Publisher {
    file: File,
    is_published: Arc<AtomicBool>,
}

impl Draft {
    /// Creates the file, and locks it.
    pub(super) fn create(path: &Path) -> Result<(Draft, Publisher), Failure> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        let is_published = Arc::new(AtomicBool::new(false));
        let publisher =
            Publisher { file: file.try_clone()?, is_published: Arc::clone(&is_published) };
        Ok((Draft { file: FileBackend::new(file)?, is_published }, publisher))
    }
}

impl Publisher {
    /// Gives the finished draft its name, unless there is a file of that name by now.
    pub(super) fn publish(self, draft: &Path, path: &Path, data_dir: &Path) -> io::Result<()> {
        // From here on the store syncs by itself, so nothing falls between that and this sync.
        self.is_published.store(true, Ordering::SeqCst);
        self.file.sync_all()?;
        let linked = std::fs::hard_link(draft, path);
        std::fs::remove_file(draft)?;
        linked?;
        // Only unix lets one open and sync a directory; elsewhere that is left to the file system.
        if cfg!(unix) {
            File::open(data_dir)?.sync_all()?;
        }
        Ok(())
    }
}

impl StorageBackend for Draft {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.is_published.load(Ordering::SeqCst) { self.file.sync_data() } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
