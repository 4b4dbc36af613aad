//! The function over partition directories that `fuzz/` hands to libFuzzer, over directories as they are written here and mutated, for a
//! bounded number of inputs.
#![allow(clippy::unwrap_used)]

#[allow(unreachable_pub)]
#[path = "../../../../fuzz/src/recovery.rs"]
mod recovery;

use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use crate::fs::{Fs, OpenMode};
use crate::testing::conformance::id;
use crate::testing::{SimFs, payload};
use crate::{
    AppendOptions, LogConfig, LogStore, NoListener, SegmentStore, StoreOptions, SyncerMode, UpTo,
};

/// A file by its number in [`recovery::FILES`], and its bytes.
type Files = Vec<(u8, Vec<u8>)>;

/// A directory as it is written, compacted or not; closed, or as a killed process leaves it.
fn directory(compact: bool, closed: bool) -> Files {
    let fs = SimFs::default();
    let options = StoreOptions { syncer: SyncerMode::Manual, ..StoreOptions::default() };
    let on_fatal = std::sync::Arc::new(|_: &crate::LogError| {});
    let shared = std::sync::Arc::new(fs.clone());
    let store = SegmentStore::open_on(shared, "data", options, on_fatal).unwrap();
    let config = LogConfig {
        segment_bytes: 1100,
        index_interval_bytes: 100,
        min_cleanable_dirty_ratio: 0.0,
        compact,
        ..LogConfig::default()
    };
    let log = store.open(&id("t", 0, 1), config, std::sync::Arc::new(NoListener)).unwrap();
    for _ in 0..8 {
        let batch = payload(log.log_end_offset(), 2, 30, 1);
        log.append(batch, AppendOptions::default()).unwrap();
        store.run_syncs();
    }
    log.put_snapshot(5, Bytes::from_static(b"state")).unwrap();
    log.maintain(0, &UpTo(log.log_end_offset())).unwrap();
    if closed {
        store.close().unwrap();
    }
    let mut files = Files::new();
    for (i, name) in recovery::FILES.iter().enumerate() {
        let Ok(file) = fs.open(&Path::new("data/t-0").join(name), OpenMode::Read) else { continue };
        let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        files.push((u8::try_from(i).unwrap(), bytes));
    }
    files
}

/// One change to a directory: to the bytes of a file, or to which files there are.
#[derive(Clone, Debug)]
enum Mutation {
    Cut(Index, Index),
    Flip(Index, Index, u8),
    Overwrite(Index, Index, Vec<u8>),
    Append(Index, Vec<u8>),
    Remove(Index),
    /// One file with the bytes of another.
    Put(Index, u8),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..9),
        Just(vec![0xff; 8]),
        Just(vec![0; 64]),
    ];
    let bytes = bytes.boxed();
    let file = any::<Index>;
    prop_oneof![
        (file(), any::<Index>()).prop_map(|(file, at)| Mutation::Cut(file, at)),
        (file(), any::<Index>(), 0..8u8).prop_map(|(file, at, bit)| Mutation::Flip(file, at, bit)),
        (file(), any::<Index>(), bytes.clone())
            .prop_map(|(file, at, bytes)| Mutation::Overwrite(file, at, bytes)),
        (file(), bytes).prop_map(|(file, bytes)| Mutation::Append(file, bytes)),
        file().prop_map(Mutation::Remove),
        (file(), 0..recovery::FILES.len() as u8).prop_map(|(file, to)| Mutation::Put(file, to)),
    ]
}

impl Mutation {
    fn apply(&self, files: &mut Files) {
        if files.is_empty() {
            return;
        }
        let (Self::Cut(file, _)
        | Self::Flip(file, ..)
        | Self::Overwrite(file, ..)
        | Self::Append(file, _)
        | Self::Remove(file)
        | Self::Put(file, _)) = self;
        let at_file = file.index(files.len());
        let bytes = &mut files[at_file].1;
        match self {
            Self::Cut(_, at) => bytes.truncate(at.index(bytes.len() + 1)),
            Self::Flip(_, at, bit) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            Self::Flip(..) => {}
            Self::Overwrite(_, at, with) => {
                let at = at.index(bytes.len() + 1);
                let end = bytes.len().min(at + with.len());
                bytes.splice(at..end, with.iter().copied());
            }
            Self::Append(_, more) => bytes.extend_from_slice(more),
            Self::Remove(_) => {
                files.remove(at_file);
            }
            Self::Put(_, to) => {
                let bytes = bytes.clone();
                files.retain(|(file, _)| file != to);
                files.push((*to, bytes));
            }
        }
    }
}

/// In the form that [`recovery::recovery`] takes.
fn input(files: &Files) -> Vec<u8> {
    let mut input = Vec::new();
    for (file, bytes) in files {
        input.push(*file);
        input.extend_from_slice(&u16::try_from(bytes.len()).unwrap().to_be_bytes());
        input.extend_from_slice(bytes);
    }
    input
}

#[test]
fn any_bytes_as_a_partition_directory() {
    let seeds: Vec<Files> = [(false, false), (false, true), (true, false), (true, true)]
        .map(|(compact, closed)| directory(compact, closed))
        .to_vec();
    for seed in &seeds {
        assert!(seed.len() >= 4, "segments, checkpoint, metadata");
        recovery::recovery(&input(seed));
    }
    let strategy = (any::<Index>(), prop::collection::vec(mutation(), 1..4));
    let config = Config { cases: 5_000, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&strategy, |(seed, mutations)| {
        let mut files = seed.get(&seeds).clone();
        mutations.iter().for_each(|mutation| mutation.apply(&mut files));
        recovery::recovery(&input(&files));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
