//! What both brokers wrote to `__consumer_offsets`, read back by Fetch and compared group by group.

use std::{
    collections::{BTreeMap, HashMap},
    thread,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use bytes::{Buf, Bytes};
use kavka_protocol::{
    ErrorCode, Message, Reader,
    hash::group_partition,
    json::Value,
    messages::{
        FetchRequest, FetchResponse, FindCoordinatorRequest, GroupMetadataKey, GroupMetadataValue,
        MetadataRequest, OffsetCommitKey, OffsetCommitValue,
        fetch_request::{FetchPartition, FetchTopic},
        metadata_request::MetadataRequestTopic,
    },
    records::{Decompressor, split_bytes},
};
use serde_json::json;

use crate::{pair::Pair, symbols::SIDES};

pub(crate) const TOPIC: &str = "__consumer_offsets";
/// The last version of Fetch that names topics.
const FETCH_VERSION: i16 = 12;
const MAX_BYTES: i32 = 8 << 20;

/// Where reading goes on, for each partition.
#[derive(Debug)]
pub(crate) struct OffsetsLog {
    partitions: i32,
    next: [HashMap<i32, i64>; 2],
}

impl OffsetsLog {
    /// Starts behind what is there now.
    pub(crate) fn open(pair: &mut Pair) -> anyhow::Result<OffsetsLog> {
        let mut log = OffsetsLog { partitions: await_topic(pair)?, next: Default::default() };
        for partition in 0..log.partitions {
            for side in SIDES {
                log.read(pair, side, partition)?;
            }
        }
        Ok(log)
    }

    /// Compares what was written for these groups since the last time.
    pub(crate) fn compare(&mut self, pair: &mut Pair, groups: &[&str]) -> anyhow::Result<()> {
        for group in groups {
            let partition = group_partition(group, self.partitions.unsigned_abs()) as i32;
            let [apache, kavka] = [0, 1].map(|side| self.read(pair, side, partition));
            let (apache, kavka) = (apache?, kavka?);
            for name in groups {
                let none = Vec::new();
                let (left, right) =
                    (apache.get(*name).unwrap_or(&none), kavka.get(*name).unwrap_or(&none));
                for (number, (left, right)) in left.iter().zip(right).enumerate() {
                    let kind = left["record"].as_str().unwrap_or("?");
                    let kind = format!("record {kind}");
                    let before = pair.found.len();
                    pair.compare_values(&kind, &kind, left, right);
                    if pair.found.len() > before {
                        pair.note(format!("record {number} of {name}"));
                        // What follows a record too many differs, too, and tells nothing.
                        break;
                    }
                }
                if left.len() != right.len() {
                    let extra = |all: &[Value], others: &[Value]| {
                        json!(all.get(others.len()..).unwrap_or_default())
                    };
                    let (more, fewer) = (extra(left, right), extra(right, left));
                    pair.compare_values("records", "records", &more, &fewer);
                }
            }
        }
        Ok(())
    }

    /// What a partition holds from where it was read to, by group.
    fn read(
        &mut self,
        pair: &mut Pair,
        side: usize,
        partition: i32,
    ) -> anyhow::Result<BTreeMap<String, Vec<Value>>> {
        let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        let mut batches: BTreeMap<String, usize> = BTreeMap::new();
        loop {
            let from = *self.next[side].entry(partition).or_default();
            let bytes = fetch(pair, side, partition, from)?;
            if bytes.is_empty() {
                return Ok(found);
            }
            let mut decompressor = Decompressor::new(64 << 20);
            for batch in split_bytes(bytes) {
                let (header, batch) = batch?;
                let mut of_batch = Vec::new();
                self.next[side].insert(partition, header.last_offset() + 1);
                let mut named = Vec::new();
                for record in decompressor.records_owned(&header, &batch)? {
                    let record = record?;
                    if record.offset < from {
                        continue;
                    }
                    let key = record.key.context("a record without a key")?;
                    let (group, mut value) = decode(key, record.value)?;
                    pair.normalise("GroupMetadata", side, &mut value);
                    if !named.contains(&group) {
                        *batches.entry(group.clone()).or_default() += 1;
                        named.push(group.clone());
                    }
                    value["batch"] = json!(batches[&group]);
                    of_batch.push((group, value));
                }
                // When a group goes, the removals of its offsets are in the order of a hash table.
                if of_batch.iter().all(|(_, value)| value["tombstone"] == true) {
                    of_batch
                        .sort_by_key(|(group, value)| group.clone() + &value["key"].to_string());
                }
                for (group, value) in of_batch {
                    found.entry(group).or_default().push(value);
                }
            }
        }
    }
}

/// Has the topic created where it is not there yet, waits until each partition has its leader, and counts them.
pub(crate) fn await_topic(pair: &mut Pair) -> anyhow::Result<i32> {
    for _ in 0..600 {
        // Creates the topic.
        pair.ask(0, |_| FindCoordinatorRequest { key: "first".into(), ..Default::default() })?;
        let topic = MetadataRequestTopic { name: Some(TOPIC.into()), ..Default::default() };
        let answers = pair.ask(5, |_| MetadataRequest {
            topics: Some(vec![topic.clone()]),
            ..Default::default()
        })?;
        let counts = answers.each_ref().map(|answer| {
            let topic = &answer["topics"][0];
            let partitions = topic["partitions"].as_array().map_or(&[][..], Vec::as_slice);
            let led = partitions.iter().all(|p| p["errorCode"] == 0 && p["leaderId"] != -1);
            if topic["errorCode"] == 0 && led { partitions.len() } else { 0 }
        });
        if counts.iter().all(|count| *count > 0) {
            ensure!(counts[0] == counts[1], "{TOPIC} has {counts:?} partitions");
            return Ok(i32::try_from(counts[0])?);
        }
        thread::sleep(Duration::from_millis(100));
    }
    bail!("{TOPIC} was not created within a minute")
}

fn fetch(pair: &mut Pair, side: usize, partition: i32, from: i64) -> anyhow::Result<Bytes> {
    let request = FetchRequest {
        max_wait_ms: 0,
        min_bytes: 0,
        max_bytes: MAX_BYTES,
        topics: vec![FetchTopic {
            topic: TOPIC.into(),
            partitions: vec![FetchPartition {
                partition,
                fetch_offset: from,
                partition_max_bytes: MAX_BYTES,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut refused = ErrorCode::None;
    // A broker may be told of a partition of its own a moment after clients are.
    for _ in 0..100 {
        let answer = pair.ask_one(side, FETCH_VERSION, &request)?;
        let response = FetchResponse::from_json(&answer, FETCH_VERSION)?;
        let topic = response.responses.into_iter().next();
        let partition = topic.and_then(|topic| topic.partitions.into_iter().next());
        let partition = partition.context("an answer about the partition")?;
        refused = partition.error_code;
        if refused == ErrorCode::None {
            return Ok(partition.records.unwrap_or_default());
        }
        thread::sleep(Duration::from_millis(100));
    }
    bail!("Fetch of {TOPIC}: {refused:?}")
}

/// The group a record belongs to, and the record with what each run makes anew left out.
fn decode(mut key: Bytes, value: Option<Bytes>) -> anyhow::Result<(String, Value)> {
    ensure!(key.len() >= 2, "a key of {} bytes", key.len());
    let kind = key.get_i16();
    let (name, key) = match kind {
        1 => ("OffsetCommit", OffsetCommitKey::decode(&mut Reader::new(key), 0)?.to_json(0)),
        2 => ("GroupMetadata", GroupMetadataKey::decode(&mut Reader::new(key), 0)?.to_json(0)),
        other => bail!("a record of type {other}"),
    };
    let group = key["group"].as_str().unwrap_or_default().to_owned();
    let value = match value {
        None => json!({"tombstone": true, "members": []}),
        Some(mut value) => {
            ensure!(value.len() >= 2, "a value of {} bytes", value.len());
            let version = value.get_i16();
            let mut reader = Reader::new(value);
            let mut decoded = if kind == 2 {
                GroupMetadataValue::decode(&mut reader, version)?.to_json(version)
            } else {
                OffsetCommitValue::decode(&mut reader, version)?.to_json(version)
            };
            without_time(&mut decoded);
            decoded["version"] = json!(version);
            decoded
        }
    };
    let mut told = value;
    told["record"] = json!(name);
    told["key"] = key;
    Ok((group, told))
}

/// Timestamps become "some" where one is set; what expires tells after how long.
fn without_time(value: &mut Value) {
    let commit = value["commitTimestamp"].as_i64();
    if let (Some(commit), Some(expire)) = (commit, value["expireTimestamp"].as_i64()) {
        value["expireTimestamp"] =
            if expire == -1 { json!(-1) } else { json!(format!("{} ms later", expire - commit)) };
    }
    for name in ["commitTimestamp", "currentStateTimestamp"] {
        if value[name].as_i64().is_some_and(|time| time > 0) {
            value[name] = json!("some");
        }
    }
}
