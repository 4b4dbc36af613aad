//! When a segment ends and the next one begins, as Kafka decides it: by size, and by the time that records carry.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::crash_tests::open_store;
use crate::testing::conformance::id;
use crate::testing::{Batch, Durable, SimFs};
use crate::{AppendOptions, LogConfig, LogStore, PartitionLog, SegmentStore};

struct Rolling {
    store: SegmentStore,
    log: Arc<dyn PartitionLog>,
}

impl Rolling {
    fn open(fs: &SimFs, config: LogConfig) -> Self {
        let store = open_store(fs, &Arc::<AtomicBool>::default()).unwrap();
        let log = store.open(&id("t", 0, 1), config, Arc::new(Durable::default())).unwrap();
        Self { store, log }
    }

    fn new(config: LogConfig) -> Self {
        Self::open(&SimFs::default(), config)
    }

    /// Appends a batch with these timestamps; whether it began a segment.
    fn rolls_at(&self, timestamps: &[i64]) -> bool {
        let before = self.log.segment_count();
        let mut batch = Batch::at(self.log.log_end_offset());
        for &timestamp in timestamps {
            batch = batch.record(timestamp, Some(b"k"), Some(b"v"));
        }
        self.log.append(batch.build(), AppendOptions::default()).unwrap();
        self.log.segment_count() > before
    }
}

fn hourly() -> LogConfig {
    LogConfig { segment_ms: 3_600_000, ..LogConfig::default() }
}

#[test]
fn a_segment_lasts_segment_ms_of_record_time() {
    let log = Rolling::new(hourly());
    // The largest timestamp of the first batch counts, wherever it stands in the batch.
    assert!(log.rolls_at(&[1_000, 5_000, 2_000]), "the first segment");
    assert!(!log.rolls_at(&[5_000 + 3_600_000]), "as old as it may get");
    assert!(!log.rolls_at(&[7_000]), "older records come late");
    assert!(
        log.rolls_at(&[6_000, 5_001 + 3_600_000]),
        "one millisecond more, in one of its records"
    );
    // From here the new segment's first batch counts.
    assert!(!log.rolls_at(&[5_001 + 2 * 3_600_000]));
    assert!(log.rolls_at(&[5_002 + 2 * 3_600_000]));
}

#[test]
fn records_from_the_past_roll_nothing() {
    let log = Rolling::new(hourly());
    assert!(log.rolls_at(&[i64::MAX]));
    for timestamp in [0, 1, 1_700_000_000_000, i64::MAX] {
        assert!(!log.rolls_at(&[timestamp]));
    }
}

#[test]
fn the_jitter_is_taken_off_segment_ms() {
    for (jitter, lasts) in [(0, 1_000), (1, 999), (400, 600), (1_000, 0), (5_000, 0)] {
        let config =
            LogConfig { segment_ms: 1_000, segment_jitter_ms: jitter, ..LogConfig::default() };
        let log = Rolling::new(config);
        assert!(log.rolls_at(&[50]));
        assert!(!log.rolls_at(&[50 + lasts]), "jitter {jitter}");
        assert!(log.rolls_at(&[51 + lasts]), "jitter {jitter}");
    }
}

#[test]
fn the_age_of_a_segment_survives_a_restart() {
    let fs = SimFs::default();
    let log = Rolling::open(&fs, hourly());
    log.rolls_at(&[10_000]);
    log.rolls_at(&[50_000]);
    log.store.close().unwrap();
    let log = Rolling::open(&fs, hourly());
    assert!(!log.rolls_at(&[10_000 + 3_600_000]));
    assert!(log.rolls_at(&[10_001 + 3_600_000]));
}

#[test]
fn records_without_time_do_not_roll() {
    let log = Rolling::new(hourly());
    log.rolls_at(&[-1]);
    assert!(!log.rolls_at(&[1_700_000_000_000]), "how old the segment is, no record tells");
}

#[test]
fn a_change_of_segment_ms_counts_from_the_next_append() {
    let log = Rolling::new(hourly());
    log.rolls_at(&[0]);
    assert!(!log.rolls_at(&[2_000]));
    log.log.set_config(LogConfig { segment_ms: 1_000, ..LogConfig::default() });
    assert!(log.rolls_at(&[2_000]));
}

/// Otherwise records could stay in the active segment, which compaction leaves alone, for longer.
#[test]
fn compacted_topics_roll_for_max_compaction_lag() {
    let lag = LogConfig { max_compaction_lag_ms: 1_000, ..hourly() };
    for (compact, rolls) in [(true, true), (false, false)] {
        let log = Rolling::new(LogConfig { compact, ..lag.clone() });
        log.rolls_at(&[0]);
        assert!(!log.rolls_at(&[1_000]));
        assert_eq!(log.rolls_at(&[1_001]), rolls, "compact: {compact}");
    }
}

#[test]
fn a_segment_is_full_at_segment_bytes() {
    let first = Batch::at(0).record(0, Some(b"k"), Some(b"v")).build().len() as u32;
    for (segment_bytes, rolls) in [(2 * first, false), (2 * first - 1, true), (1, true)] {
        let log = Rolling::new(LogConfig { segment_bytes, ..LogConfig::default() });
        assert!(log.rolls_at(&[0]));
        assert_eq!(log.rolls_at(&[0]), rolls, "{segment_bytes} of {first} bytes");
    }
}
