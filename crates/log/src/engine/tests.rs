#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use crate::fs::MemoryDisk;
use crate::testing::conformance::{self, Engine};
use crate::testing::{SimFs, Survival};
use crate::{LogStore, SegmentStore, StoreOptions, SyncerMode};

/// The engine on a real disk.
struct OnDisk {
    dir: tempfile::TempDir,
    options: StoreOptions,
    store: Arc<SegmentStore>,
}

fn open(dir: &tempfile::TempDir, options: &StoreOptions) -> Arc<SegmentStore> {
    let on_fatal = Arc::new(|error: &crate::LogError| panic!("fatal: {error}"));
    Arc::new(SegmentStore::open_dir(dir.path().join("data"), options.clone(), on_fatal).unwrap())
}

impl OnDisk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { free_space_floor: 0, ..StoreOptions::default() };
        let store = open(&dir, &options);
        Self { dir, options, store }
    }
}

impl Drop for OnDisk {
    /// The directory must outlive the last sync.
    fn drop(&mut self) {
        self.store.close().unwrap();
    }
}

impl Engine for OnDisk {
    fn store(&self) -> Arc<dyn LogStore> {
        Arc::clone(&self.store) as _
    }

    fn settle(&self) {}

    fn reopen(&mut self) {
        self.store = open(&self.dir, &self.options);
    }
}

/// The engine on the simulated file system, synced by hand.
struct InMemory {
    fs: SimFs,
    store: Arc<SegmentStore>,
}

impl InMemory {
    fn open(fs: &SimFs) -> Arc<SegmentStore> {
        let options = StoreOptions { syncer: SyncerMode::Manual, ..StoreOptions::default() };
        let on_fatal = Arc::new(|error: &crate::LogError| panic!("fatal: {error}"));
        let store = SegmentStore::open_on(Arc::new(fs.clone()), "data", options, on_fatal);
        Arc::new(store.unwrap())
    }
}

impl Engine for InMemory {
    fn store(&self) -> Arc<dyn LogStore> {
        Arc::clone(&self.store) as _
    }

    fn settle(&self) {
        self.store.run_syncs();
    }

    fn reopen(&mut self) {
        // What a clean stop left is all on the disk.
        self.fs = self.fs.crash(Survival::Synced);
        self.store = Self::open(&self.fs);
    }
}

/// The engine on the disk in memory, with its own sync threads; reopened after a loss of power.
struct OnMemoryDisk {
    disk: MemoryDisk,
    store: Arc<SegmentStore>,
}

impl OnMemoryDisk {
    fn open(disk: &MemoryDisk) -> Arc<SegmentStore> {
        let on_fatal = Arc::new(|error: &crate::LogError| panic!("fatal: {error}"));
        let store = SegmentStore::open_on(disk.mount(), "data", StoreOptions::default(), on_fatal);
        Arc::new(store.unwrap())
    }
}

impl Engine for OnMemoryDisk {
    fn store(&self) -> Arc<dyn LogStore> {
        Arc::clone(&self.store) as _
    }

    fn settle(&self) {}

    fn reopen(&mut self) {
        // What a clean stop left is all on the disk.
        self.disk.power_loss();
        self.store = Self::open(&self.disk);
    }
}

impl Drop for OnMemoryDisk {
    fn drop(&mut self) {
        self.store.close().unwrap();
    }
}

#[test]
fn conforms_on_the_disk_in_memory() {
    conformance::run(|| {
        let disk = MemoryDisk::new();
        Box::new(OnMemoryDisk { store: OnMemoryDisk::open(&disk), disk })
    });
}

#[test]
fn conforms_in_memory() {
    conformance::run(|| {
        let fs = SimFs::default();
        Box::new(InMemory { store: InMemory::open(&fs), fs })
    });
}

#[test]
fn conforms_on_disk() {
    conformance::run(|| Box::new(OnDisk::new()));
}
