//! Decay of the disk: flipped bits and zeroed sectors in every kind of file are found or do no harm.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kavka_protocol::SplitMix64;

use super::crash_tests::{config, open_store};
use crate::fs::{Fs, OpenMode, read_full};
use crate::testing::conformance::{id, read_all};
use crate::testing::{Durable, SimFs, Survival, payload};
use crate::{AppendOptions, LogError, LogId, LogStore, UpTo};

/// Two logs, one compacted, of several segments, with every kind of file; closed.
fn filled() -> (SimFs, [(LogId, bool); 2]) {
    let fs = SimFs::default();
    let logs = [(id("plain", 0, 1), false), (id("compacted", 0, 2), true)];
    let store = open_store(&fs, &Arc::default()).unwrap();
    for (id, compact) in &logs {
        let log = store.open(id, config(*compact), Arc::new(Durable::default())).unwrap();
        for i in 0..40 {
            let batch = payload(log.log_end_offset(), 1 + i % 3, 50, u64::from(*compact));
            log.append(batch, AppendOptions::default()).unwrap();
            store.run_syncs();
        }
        if *compact {
            let end = log.log_end_offset();
            assert!(log.maintain(0, &UpTo(end)).unwrap().compaction.is_some());
        }
        log.advance_start(if *compact { 0 } else { 4 }).unwrap();
        log.put_snapshot(10, "older".into()).unwrap();
        log.put_snapshot(20, "newer".into()).unwrap();
    }
    store.close().unwrap();
    (fs, logs)
}

/// What a consumer can see of a log: how it reads as a whole, what each offset and time finds.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    range: (i64, i64),
    bytes: Vec<u8>,
    by_offset: Vec<Vec<u8>>,
    by_time: Vec<Option<i64>>,
    snapshot: Option<i64>,
}

fn look(fs: &SimFs, id: &LogId, compact: bool) -> Result<Seen, LogError> {
    let store = open_store(fs, &Arc::default())?;
    let log = store.open(id, config(compact), Arc::new(Durable::default()))?;
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    let one = |offset| log.read(offset, end, 1, true).map(crate::Slice::into_bytes);
    let mut by_offset = Vec::new();
    let mut by_time = Vec::new();
    for offset in start..end {
        by_offset.push(one(offset)?.to_vec());
        by_time.push(log.offset_for_timestamp(offset)?.map(|found| found.offset));
    }
    let snapshot = log.latest_snapshot()?.map(|(offset, _)| offset);
    Ok(Seen { range: (start, end), bytes: read_all(&*log)?, by_offset, by_time, snapshot })
}

fn contents(fs: &SimFs, name: &str) -> Vec<u8> {
    let file = fs.open(Path::new(name), OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
    read_full(&*file, &mut bytes, 0).unwrap();
    bytes
}

#[test]
fn damage_is_found_or_harmless() {
    let (fs, logs) = filled();
    let whole: Vec<_> = logs.iter().map(|(id, c)| look(&fs.fork(), id, *c).unwrap()).collect();
    // Two batches lie below the log start, where nobody reads.
    let below_start = payload(0, 1, 50, 0).len() + payload(1, 2, 50, 0).len();
    let mut random = SplitMix64::new(6);
    let mut met: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    let files: Vec<_> = fs.files().into_iter().filter(|&(_, len)| len > 0).collect();
    let mut tried = 0;
    while tried < 10_000 {
        let (name, len) = &files[tried % files.len()];
        let bytes = contents(&fs, name);
        let damaged = fs.crash(Survival::Everything);
        let mut at = usize::try_from(random.below(*len as u64)).unwrap();
        let what = if tried % 5 == 4 {
            at -= at % 512;
            damaged.corrupt(Path::new(name), at, &[0; 512]);
            format!("{name}: sector at {at}")
        } else {
            let bit = random.below(8);
            damaged.corrupt(Path::new(name), at, &[bytes[at] ^ (1 << bit)]);
            format!("{name}: bit {bit} of byte {at}")
        };
        tried += 1;
        let kind = name.rsplit(['.', '/']).next().unwrap_or_default().to_owned();
        let [found, harmless] = met.entry(kind).or_default();
        for ((id, compact), expected) in logs.iter().zip(&whole) {
            let of_this = name.starts_with(&format!("/data/{id}/"));
            match look(&damaged.fork(), id, *compact) {
                Ok(mut seen) => {
                    // The older one is as good.
                    if name.ends_with(".ksnapshot") && seen.snapshot == Some(10) {
                        seen.snapshot = expected.snapshot;
                    }
                    assert!(seen == *expected, "{what}: {seen:?} is not {expected:?}");
                    let unread = name.ends_with("/00000000000000000000.log") && at < below_start;
                    let cache = !name.ends_with(".log") && !name.ends_with(".metadata");
                    assert!(!of_this || unread || cache, "{what}: not found");
                    *harmless += usize::from(of_this);
                }
                Err(LogError::Corrupt { file, range, .. }) => {
                    assert!(of_this, "{what}: {id} is no longer read");
                    assert_eq!(format!("/{}", file.display()), *name, "{what}: {range:?}");
                    *found += 1;
                }
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }
    println!("{tried} damages, [found, harmless] by kind of file: {met:?}");
}
