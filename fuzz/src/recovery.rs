//! What the files of a partition may hold without harm: anything.
//!
//! Apart from the others, since it needs the log crate, whose own tests run it over mutated directories for a bounded time.

use std::{path::Path, sync::Arc};

use kavka_log::{
    AppendOptions, LogConfig, LogStore, NoListener, SegmentStore, StoreOptions, SyncerMode, UpTo,
    fs::{Fs, OpenMode},
    testing::{
        SimFs,
        conformance::{id, read_all},
        payload,
    },
};

/// Names of the files that [`recovery`] makes, by the number in front of their bytes.
pub const FILES: [&str; 8] = [
    "00000000000000000000.log",
    "00000000000000000010.log",
    "kavka-checkpoint",
    "00000000000000000000.kindex",
    "00000000000000000010.kindex",
    "00000000000000000005.ksnapshot",
    "00000000000000000000-00000000000000000010.swap",
    "partition.metadata",
];

/// A partition directory: for each file an index into [`FILES`] in one byte, a length in two, and so many bytes. What opens can be read,
/// appended to, compacted, cut and opened again, and then holds what was appended.
pub fn recovery(mut data: &[u8]) {
    let fs = SimFs::default();
    let id = id("t", 0, 1);
    let dir = Path::new("data/t-0");
    fs.create_dir_all(dir).expect("a directory");
    while let Some((&[file, high, low], rest)) = data.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        let (bytes, rest) = rest.split_at(len);
        let name = dir.join(FILES[usize::from(file) % FILES.len()]);
        let file = fs.open(&name, OpenMode::Create).expect("a file");
        file.write_at(bytes, 0).expect("bytes");
        data = rest;
    }
    let open = || {
        let options = StoreOptions { syncer: SyncerMode::Manual, ..StoreOptions::default() };
        let store = SegmentStore::open_on(Arc::new(fs.clone()), "data", options, Arc::new(|_| {}));
        let store = store.expect("the store opens");
        let config = LogConfig {
            compact: true,
            index_interval_bytes: 100,
            min_cleanable_dirty_ratio: 0.0,
            max_decompressed_bytes: 1 << 20,
            ..LogConfig::default()
        };
        let log = store.open(&id, config, Arc::new(NoListener));
        log.map(|log| (store, log))
    };
    // Damage is reported.
    let Ok((store, log)) = open() else { return };
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    assert!((0..=end).contains(&start), "the log is {start}..{end}");
    let readable = read_all(&*log).is_ok();
    for offset in [start, start + (end - start) / 2, end] {
        if let Ok(slice) = log.read(offset, end, 1000, true) {
            assert!(slice.next_offset >= offset, "a read goes back");
        }
    }
    let _ = log.offset_for_timestamp(0);
    let _ = log.max_timestamp();
    let _ = log.latest_snapshot();
    // Offsets may be used up, and segments may be beyond repair for a writer.
    if end > i64::MAX - 10 || log.append(payload(end, 3, 20, 1), AppendOptions::default()).is_err()
    {
        return;
    }
    store.run_syncs();
    let _ = log.maintain(0, &UpTo(end));
    assert_eq!(log.log_end_offset(), end + 3, "maintenance moved the end");
    store.close().expect("closes");
    let Ok((_store, log)) = open() else { panic!("it opened before") };
    assert_eq!(log.log_end_offset(), end + 3, "opened again");
    let again = read_all(&*log);
    assert!(!readable || again.is_ok(), "it could be read before: {:?}", again.err());
    let tail = log.read(end, end + 3, 1 << 20, true).expect("what was appended is read");
    assert_eq!(tail.into_bytes(), payload(end, 3, 20, 1));
}
