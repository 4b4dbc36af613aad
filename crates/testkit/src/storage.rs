//! Where a test broker keeps what it is told.

use std::{io, path::Path};

use tempfile::TempDir;

/// Where a [`TestBroker`](crate::TestBroker) keeps what it is told. All of it is gone when the broker is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Storage {
    /// Files in a temporary directory that lies in memory where there is such a place (`/dev/shm`, with at least 256 MiB
    /// free), else where temporary files are. Acknowledgements do not wait for the disk, so a crash of the machine would lose
    /// data, and [`crash`](crate::TestBroker::crash) loses nothing that was written. The default.
    #[default]
    Memory,
    /// Files in a temporary directory on the disk, each synced before what it holds is acknowledged, as in production. As slow
    /// as the disk is. For tests of what that costs.
    Disk,
}

/// What `Memory` wants to be free where it lies.
const ROOM: u64 = 256 << 20;
const MEMORY: &str = "/dev/shm";

impl Storage {
    pub(crate) fn make(self) -> io::Result<TempDir> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("kavka-test-");
        if self == Storage::Memory && cfg!(target_os = "linux") && has_room(Path::new(MEMORY)) {
            // It may be read-only; then the other place has to do.
            if let Ok(dir) = builder.tempdir_in(MEMORY) {
                return Ok(dir);
            }
        }
        builder.tempdir()
    }

    /// The broker's properties that go with it.
    pub(crate) fn properties(self) -> [(&'static str, &'static str); 3] {
        let sync = match self {
            Storage::Memory => "interval",
            Storage::Disk => "always",
        };
        // A small disk is enough for a test, and nothing has to be kept back from it.
        [
            ("kavka.sync.policy", sync),
            ("kavka.disk.floor.bytes", "0"),
            ("kavka.disk.reserve.bytes", "0"),
        ]
    }
}

fn has_room(dir: &Path) -> bool {
    use kavka_log::fs::{Fs, StdFs};
    StdFs.free_space(dir).is_ok_and(|free| free >= ROOM)
}
