//! Random sequences of operations, crashes among them, on the engine and on a model that keeps batches
//! in a map.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kavka_protocol::SplitMix64;
use kavka_protocol::records::{
    BatchBuilder, BatchHeader, Compression, Compressor, Decompressor, split_batches,
};
use proptest::prelude::*;

use super::crash_tests::{mostly_journaled, open_store};
use crate::testing::conformance::{id, read_all};
use crate::testing::{Durable, SimFs, Survival};
use crate::{LogConfig, LogError, LogStore, PartitionLog, SegmentStore, Slice, UpTo};

/// A share of a range, so that an operation makes sense at any state.
type Share = u16;

#[derive(Debug, Clone)]
struct NewBatch {
    /// Keys of its records; a key of 0 is none. The value is absent for odd numbers of `values`.
    keys: Vec<u8>,
    values: u8,
    codec: u8,
    producer: Option<i64>,
    newer_epoch: bool,
    /// Its timestamps may go back.
    late_ms: i64,
}

#[derive(Debug, Clone)]
enum Op {
    Append(Vec<NewBatch>),
    Sync,
    Read {
        from: Share,
        up_to: Share,
        max_bytes: usize,
        at_least_one: bool,
    },
    Truncate(Share),
    AdvanceStart(Share),
    RetainBytes(u64),
    RetainMs(u64),
    Compact,
    FindTime(Share),
    Epochs,
    Snapshot,
    Reopen,
    /// The second crash happens at that share of the calls of recovery.
    Crash {
        choice: u64,
        second: Option<Share>,
    },
}

fn new_batch() -> impl Strategy<Value = NewBatch> {
    let keys = prop::collection::vec(0..5_u8, 1..4);
    let producer = prop::option::weighted(0.3, 1..3_i64);
    let epoch = prop::bool::weighted(0.1);
    (keys, any::<u8>(), 0..5_u8, producer, epoch, 0..20_i64).prop_map(
        |(keys, values, codec, producer, newer_epoch, late_ms)| NewBatch {
            keys,
            values,
            codec,
            producer,
            newer_epoch,
            late_ms,
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let read = (any::<Share>(), any::<Share>(), 0..1500_usize, any::<bool>());
    prop_oneof![
        12 => prop::collection::vec(new_batch(), 1..4).prop_map(Op::Append),
        6 => Just(Op::Sync),
        6 => read.prop_map(|(from, up_to, max_bytes, at_least_one)| Op::Read {
            from, up_to, max_bytes, at_least_one
        }),
        1 => any::<Share>().prop_map(Op::Truncate),
        1 => any::<Share>().prop_map(Op::AdvanceStart),
        1 => (0..3000_u64).prop_map(Op::RetainBytes),
        1 => (0..60_u64).prop_map(Op::RetainMs),
        2 => Just(Op::Compact),
        2 => any::<Share>().prop_map(Op::FindTime),
        1 => Just(Op::Epochs),
        1 => Just(Op::Snapshot),
        2 => Just(Op::Reopen),
        3 => (any::<u64>(), prop::option::of(any::<Share>()))
            .prop_map(|(choice, second)| Op::Crash { choice, second }),
    ]
}

/// Offset, timestamp, key, value and leader epoch of a record.
type Record = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, i32);

fn records(bytes: &[u8]) -> Vec<Record> {
    let mut decompressor = Decompressor::new(1 << 20);
    let mut all = Vec::new();
    for batch in split_batches(bytes) {
        let (header, batch) = batch.unwrap();
        for record in decompressor.records(&header, batch).unwrap() {
            let record = record.unwrap();
            let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
            let epoch = header.partition_leader_epoch;
            all.push((record.offset, record.timestamp, key, value, epoch));
        }
    }
    all
}

fn config(compact: bool) -> LogConfig {
    LogConfig {
        segment_bytes: 900,
        index_interval_bytes: 150,
        retention_ms: None,
        compact,
        delete: false,
        min_cleanable_dirty_ratio: 0.0,
        delete_retention_ms: 30,
        tail_cache_bytes: 500,
        ..LogConfig::default()
    }
}

/// What the log should hold.
#[derive(Debug, Default)]
struct Model {
    batches: BTreeMap<i64, (BatchHeader, Bytes)>,
    start: i64,
    end: i64,
    epochs: Vec<(i32, i64)>,
    /// All that were put and not cut away. The store keeps the newest two of them, and a crash may bring
    /// back others.
    snapshots: Vec<(i64, Bytes)>,
    /// The one that is there for certain.
    latest_snapshot: Option<(i64, Bytes)>,
}

impl Model {
    fn add(&mut self, bytes: &Bytes) {
        for batch in split_batches(bytes) {
            let (header, batch) = batch.unwrap();
            let epoch = header.partition_leader_epoch;
            if self.epochs.last().is_none_or(|&(last, _)| epoch > last) {
                self.epochs.push((epoch, header.base_offset));
            }
            self.end = header.next_offset();
            self.batches.insert(header.base_offset, (header, bytes.slice_ref(batch)));
        }
    }

    /// What comes at or after an offset, in order.
    fn from(&self, offset: i64) -> impl Iterator<Item = &(BatchHeader, Bytes)> {
        self.batches.values().filter(move |(header, _)| header.last_offset() >= offset)
    }

    fn bytes_from(&self, offset: i64) -> Vec<u8> {
        self.from(offset).flat_map(|(_, bytes)| bytes.to_vec()).collect()
    }

    fn cut(&mut self, end: i64) {
        self.batches.retain(|&base, _| base < end);
        self.epochs.retain(|&(_, start)| start < end);
        self.snapshots.retain(|&(offset, _)| offset <= end);
        self.latest_snapshot.take_if(|&mut (offset, _)| offset > end);
        self.start = self.start.min(end);
        self.end = end;
    }

    fn records(&self) -> Vec<Record> {
        let mut all = records(&self.bytes_from(self.start));
        all.retain(|record| record.0 >= self.start);
        all
    }
}

struct World {
    fs: SimFs,
    store: SegmentStore,
    log: Arc<dyn PartitionLog>,
    compact: bool,
    model: Model,
    now: i64,
    epoch: i32,
}

fn open(fs: &SimFs, compact: bool) -> (SegmentStore, Arc<dyn PartitionLog>) {
    let store = open_store(fs, &Arc::default()).unwrap();
    let log = store.open(&id("t", 0, 1), config(compact), Arc::new(Durable::default()));
    (store, log.unwrap_or_else(|error| panic!("{error}")))
}

impl World {
    fn new(compact: bool) -> Self {
        let fs = SimFs::default();
        let (store, log) = open(&fs, compact);
        Self { fs, store, log, compact, model: Model::default(), now: 0, epoch: 0 }
    }

    /// An offset between start and end, both included.
    fn offset(&self, share: Share) -> i64 {
        let span = self.model.end - self.model.start + 1;
        self.model.start + i64::from(share) * span / (i64::from(Share::MAX) + 1)
    }

    fn run(&mut self, op: &Op) {
        self.now += 3;
        match op {
            Op::Append(batches) => self.append(batches),
            Op::Sync => {
                self.store.run_syncs();
                assert_eq!(self.log.durable_end_offset(), self.model.end);
            }
            &Op::Read { from, up_to, max_bytes, at_least_one } => {
                let (from, up_to) = (self.offset(from), self.offset(up_to));
                let read = self.log.read(from, up_to, max_bytes, at_least_one).unwrap();
                self.check_read(&read, from, up_to, max_bytes, at_least_one);
                if let Some(read) = self.log.try_read_cached(from, up_to, max_bytes, at_least_one) {
                    self.check_read(&read.unwrap(), from, up_to, max_bytes, at_least_one);
                }
            }
            &Op::Truncate(share) => {
                let offset = self.offset(share);
                let holds = self.model.from(offset).next().map(|(header, _)| header.base_offset);
                let end = holds.map_or(offset, |base| base.min(offset));
                assert_eq!(self.log.truncate(offset).unwrap(), end);
                self.model.cut(end);
            }
            &Op::AdvanceStart(share) => {
                let offset = self.offset(share);
                self.log.advance_start(offset).unwrap();
                self.model.start = offset;
            }
            &Op::RetainBytes(bytes) => {
                // Segments below the start go whatever the size.
                let start = self.model.start;
                self.retain(LogConfig { retention_bytes: Some(bytes), ..config(self.compact) });
                let moved = self.model.start > start;
                assert!(!moved || self.log.size_bytes() >= bytes, "too much is gone");
            }
            &Op::RetainMs(ms) => {
                let newest = self.model.records().iter().map(|record| record.1).max();
                self.retain(LogConfig { retention_ms: Some(ms), ..config(self.compact) });
                let ms = i64::try_from(ms).unwrap();
                let old = newest.is_none_or(|newest| newest < self.now - ms);
                assert!(old || self.log.log_start_offset() < self.model.end, "too much is gone");
            }
            Op::Compact => self.compact(),
            &Op::FindTime(share) => self.find_time(i64::from(share) % (self.now + 10)),
            Op::Epochs => self.check_epochs(),
            Op::Snapshot => {
                let state = Bytes::from(format!("at {} of {}", self.model.end, self.now));
                self.log.put_snapshot(self.model.end, state.clone()).unwrap();
                if self.log.segment_count() > 0 {
                    self.model.snapshots.push((self.model.end, state.clone()));
                    self.model.latest_snapshot = Some((self.model.end, state));
                }
            }
            Op::Reopen => {
                self.store.close().unwrap();
                (self.store, self.log) = open(&self.fs, self.compact);
                assert!(self.log.recovery().clean);
                self.check_snapshot();
            }
            &Op::Crash { choice, second } => self.crash(choice, second),
        }
        self.check();
    }

    fn append(&mut self, batches: &[NewBatch]) {
        let mut bytes = Vec::new();
        let mut offset = self.model.end;
        for new in batches {
            self.epoch += i32::from(new.newer_epoch);
            let codec = Compression::from_id(new.codec).unwrap();
            let mut builder =
                BatchBuilder::new(offset).with_leader_epoch(self.epoch).with_compression(codec);
            if let Some(producer) = new.producer {
                builder = builder.with_producer(producer, 0, (offset & 0xffff) as i32);
            }
            for (i, &key) in new.keys.iter().enumerate() {
                let value = format!("{offset}/{i}/{}", self.now).repeat(3);
                let value = (new.values & (1 << i) == 0).then_some(value.as_bytes());
                let key = [b'k', key];
                let key = (key[1] != 0).then_some(&key[..]);
                builder.append(self.now - new.late_ms, key, value, &[]).unwrap();
            }
            let mut compressor = Compressor::new(codec, None).unwrap();
            bytes.extend_from_slice(&builder.build_with(&mut compressor).unwrap());
            offset += new.keys.len() as i64;
        }
        let bytes = Bytes::from(bytes);
        let appended = self.log.append(bytes.clone(), mostly_journaled(self.model.end)).unwrap();
        self.model.add(&bytes);
        assert_eq!(appended.end_offset, self.model.end);
    }

    fn check_read(&self, read: &Slice, from: i64, up_to: i64, max_bytes: usize, first: bool) {
        let mut expected = Vec::new();
        let mut bytes = 0;
        for (header, batch) in self.model.from(from) {
            let fits = bytes + batch.len() <= max_bytes || (first && bytes == 0);
            if header.last_offset() >= up_to || !fits {
                break;
            }
            bytes += batch.len();
            expected.push((header.next_offset(), batch.clone()));
        }
        let all = read.clone().into_bytes();
        let found: Vec<_> = split_batches(&all).map(|batch| batch.unwrap().1).collect();
        assert!(found.len() <= expected.len(), "more than asked for");
        assert!(!found.is_empty() || expected.is_empty(), "nothing from {from} up to {up_to}");
        for (found, (_, expected)) in found.iter().zip(&expected) {
            assert!(found == expected, "from {from}");
        }
        match found.len().checked_sub(1) {
            Some(last) => assert_eq!(read.next_offset, expected[last].0),
            None => {
                let next = self.model.from(from).next().map(|(header, _)| header.base_offset);
                let most = next.unwrap_or(self.model.end).max(from);
                assert!((from..=most).contains(&read.next_offset), "skips to {}", read.next_offset);
            }
        }
    }

    fn retain(&mut self, config: LogConfig) {
        self.log.set_config(LogConfig { delete: true, compact: false, ..config });
        self.log.maintain(self.now, &UpTo(self.model.end)).unwrap();
        self.log.set_config(self::config(self.compact));
        let start = self.log.log_start_offset();
        assert!((self.model.start..=self.model.end).contains(&start));
        self.model.start = start;
    }

    fn compact(&mut self) {
        if !self.compact {
            return;
        }
        // What is compacted is synced, as only what is below the high watermark may be.
        self.store.run_syncs();
        let before = self.model.records();
        let done = self.log.maintain(self.now, &UpTo(self.model.end)).unwrap();
        // The tail in memory may still show what is gone from the disk.
        self.store.close().unwrap();
        (self.store, self.log) = open(&self.fs, self.compact);
        let bytes = Bytes::from(read_all(&*self.log).unwrap());
        let Some(done) = done.compaction else {
            assert!(bytes == self.model.bytes_from(self.model.start), "changed without a pass");
            return;
        };
        self.model.batches.clear();
        let (end, epochs) = (self.model.end, self.model.epochs.clone());
        self.model.add(&bytes);
        (self.model.end, self.model.epochs) = (end, epochs);
        let after = self.model.records();
        assert!(after.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(after.iter().all(|record| before.contains(record)), "a record was made up");
        for record in &before {
            let replaced = before.iter().any(|other| {
                other.2 == record.2 && other.0 > record.0 && other.0 < done.clean_up_to
            });
            let goes = record.0 < done.clean_up_to
                && (record.2.is_none() || record.3.is_none() || replaced);
            assert!(goes || after.contains(record), "{record:?} is gone");
            let stale = record.0 < done.clean_up_to && (record.2.is_none() || replaced);
            assert!(!stale || !after.contains(record), "{record:?} is still there");
        }
    }

    fn find_time(&self, timestamp: i64) {
        let all = self.model.records();
        let found = |record: &Record| (record.1, record.0, record.4);
        let expected = all.iter().find(|record| record.1 >= timestamp).map(found);
        let actual = self.log.offset_for_timestamp(timestamp).unwrap();
        assert_eq!(actual.map(|a| (a.timestamp, a.offset, a.leader_epoch)), expected);
        let max = all.iter().map(|record| record.1).max().filter(|&max| max >= 0);
        let expected = max.and_then(|max| all.iter().find(|record| record.1 == max)).map(found);
        let actual = self.log.max_timestamp().unwrap();
        assert_eq!(actual.map(|a| (a.timestamp, a.offset, a.leader_epoch)), expected);
    }

    fn check_epochs(&self) {
        let epochs = &self.model.epochs;
        for epoch in -1..=self.epoch + 1 {
            let newest = epochs.last().map(|&(newest, _)| newest);
            let expected = newest.filter(|&newest| (0..=newest).contains(&epoch)).map(|_| {
                let after = epochs.partition_point(|&(e, _)| e <= epoch);
                let end = epochs.get(after).map_or(self.model.end, |&(_, start)| start);
                (after.checked_sub(1).map_or(epoch, |i| epochs[i].0), end)
            });
            let actual = self.log.end_offset_for_epoch(epoch);
            assert_eq!(actual.map(|a| (a.epoch, a.end_offset)), expected, "epoch {epoch}");
        }
    }

    fn crash(&mut self, choice: u64, second: Option<Share>) {
        let durable = self.log.durable_end_offset();
        let mut random = SplitMix64::new(choice);
        self.fs = self.fs.crash(survival(&mut random, &self.fs));
        if let Some(share) = second {
            let states = Arc::new(Mutex::new(Vec::new()));
            let kept = Arc::clone(&states);
            let first = self.fs.fork();
            first.on_call(move |fs| kept.lock().unwrap().push(fs.fork()));
            drop(open(&first, self.compact));
            let states = std::mem::take(&mut *states.lock().unwrap());
            let n = usize::from(share) * states.len() / (usize::from(Share::MAX) + 1);
            if let Some(fs) = states.get(n) {
                self.fs = fs.crash(survival(&mut random, fs));
            }
        }
        (self.store, self.log) = open(&self.fs, self.compact);
        let end = self.log.log_end_offset();
        assert!((durable..=self.model.end).contains(&end), "{durable} <= {end}");
        let whole = end == durable
            || self.model.batches.values().any(|(header, _)| header.next_offset() == end);
        assert!(whole, "the log ends inside a batch");
        self.model.cut(end);
        // Names of snapshots are not synced.
        self.model.latest_snapshot = None;
        self.check_snapshot();
        assert_eq!(self.log.durable_end_offset(), end);
    }

    fn check_snapshot(&self) {
        let latest = self.log.latest_snapshot().unwrap();
        if self.model.latest_snapshot.is_some() {
            assert_eq!(latest, self.model.latest_snapshot);
        } else if let Some(latest) = latest {
            assert!(self.model.snapshots.contains(&latest), "{latest:?} was never put");
        }
    }

    /// What has to hold after every operation.
    fn check(&self) {
        let log = &*self.log;
        let model = &self.model;
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (model.start, model.end));
        assert!(read_all(log).unwrap() == model.bytes_from(model.start), "other bytes");
        assert_eq!(log.latest_epoch(), model.epochs.last().copied());
        let beyond = log.read(model.end + 1, i64::MAX, 1, true);
        assert!(matches!(beyond, Err(LogError::OffsetOutOfRange { .. })));
        let mut headers = Vec::new();
        log.headers(model.start, &mut |header| headers.push(*header)).unwrap();
        assert!(headers.iter().eq(model.from(model.start).map(|(header, _)| header)), "headers");
    }
}

fn survival(random: &mut SplitMix64, fs: &SimFs) -> Survival {
    let changes = fs.pending_changes().max(1) as u64;
    match random.below(6) {
        0 => Survival::Synced,
        1 => Survival::Everything,
        2 => Survival::AllBut(usize::try_from(random.below(changes)).unwrap()),
        3 => Survival::Only(usize::try_from(random.below(changes)).unwrap()),
        4 => Survival::Some { seed: random.draw(), block: 512 },
        _ => Survival::Some { seed: random.draw(), block: 4096 },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_does_what_the_model_does(
        compact in any::<bool>(),
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let mut world = World::new(compact);
        for op in &ops {
            world.run(op);
        }
    }
}
