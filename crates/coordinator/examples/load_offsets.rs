//! Measures how long a shard takes to load offset records, decoding included, and what it keeps in memory for each.
//!
//! ```text
//! cargo run --release -p kavka-coordinator --example load_offsets [RECORDS [SEGMENT]]
//! ```
//!
//! Writes RECORDS offsets (a million) of a thousand groups as Apache Kafka writes them, in batches of 100, and loads them. With
//! SEGMENT, the batches are also left in that file: a segment of `__consumer_offsets` that a broker can be started on, to compare.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use bytes::Bytes;
use kavka_coordinator::{
    Monotonic, Now,
    group::{GroupConfig, GroupShard, Input, OffsetValue, Record},
};
use kavka_protocol::{
    Uuid,
    records::{BatchBuilder, Decompressor, split_bytes},
};

const GROUPS: usize = 1_000;
const PARTITIONS: usize = 100;
const IN_A_BATCH: usize = 100;
const NOW_MS: i64 = 1_700_000_000_000;

/// The segment: each group commits to as many topics of a hundred partitions as it takes.
fn segment(records: usize) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let of_group = records.div_ceil(GROUPS);
    let mut bytes = Vec::new();
    let mut written = 0;
    for group in 0..GROUPS {
        let offsets: Vec<usize> = (0..of_group.min(records - written)).collect();
        for batch in offsets.chunks(IN_A_BATCH) {
            let mut builder = BatchBuilder::new(i64::try_from(written)?);
            for at in batch {
                let record = Record::Offset {
                    group: format!("group-{group}").into(),
                    topic: format!("topic-{}", at / PARTITIONS).into(),
                    partition: i32::try_from(at % PARTITIONS)?,
                    value: Some(OffsetValue {
                        offset: i64::try_from(*at)?,
                        leader_epoch: 1,
                        metadata: "".into(),
                        commit_timestamp_ms: NOW_MS,
                        expire_timestamp_ms: None,
                        topic_id: Uuid::from_bytes([7; 16]),
                    }),
                };
                let (key, value) = record.encode()?;
                builder.append(NOW_MS, Some(&key), value.as_deref(), &[])?;
                written += 1;
            }
            bytes.extend_from_slice(&builder.build()?);
        }
    }
    Ok(bytes)
}

/// What a broker does at start, but for reading the file.
fn load(segment: &Bytes) -> Result<GroupShard, Box<dyn std::error::Error>> {
    let mut shard = GroupShard::new(GroupConfig::default(), 1);
    let mut decompressor = Decompressor::new(64 << 20);
    for batch in split_bytes(segment.clone()) {
        let (header, batch) = batch?;
        let records = decompressor.records(&header, &batch)?;
        for record in records.clone() {
            record?;
        }
        for record in records.flatten() {
            shard.apply_logged(record.offset, None, record.key, record.value);
        }
    }
    let now = Now { monotonic: Monotonic::since_origin(Duration::ZERO), wall_ms: NOW_MS };
    shard.handle(now, Input::Loaded);
    Ok(shard)
}

/// How long this thread has run, where the system tells: what a busy machine does not distort.
fn cpu_time() -> Option<Duration> {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    schedule.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

#[allow(clippy::disallowed_methods)] // A program that measures needs a clock; the coordinator has none.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let records: usize = arguments.next().map_or(Ok(1_000_000), |count| count.parse())?;
    let bytes = segment(records)?;
    if let Some(path) = arguments.next() {
        std::fs::write(path, &bytes)?;
    }
    let segment = Bytes::from(bytes);
    println!("{records} records in {} bytes", segment.len());

    let (mut fastest, mut cheapest) = (Duration::MAX, None);
    for _ in 0..5 {
        let (started, cpu_before) = (Instant::now(), cpu_time());
        black_box(load(&segment)?);
        fastest = fastest.min(started.elapsed());
        let cpu = cpu_time().zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
        cheapest = cheapest.into_iter().chain(cpu).min();
    }
    println!("loaded in {fastest:?}, the fastest of five");
    if let Some(cpu) = cheapest {
        println!("of which the processor worked {cpu:?}, at the least");
    }

    let mut shard = None;
    let allocated = allocation_counter::measure(|| shard = load(&segment).ok());
    println!(
        "{:.1} bytes of memory for each, {:.1} at the peak, {} allocations in all",
        allocated.bytes_current as f64 / records as f64,
        allocated.bytes_max as f64 / records as f64,
        allocated.count_total
    );
    drop(black_box(shard));
    Ok(())
}
