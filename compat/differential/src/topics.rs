//! The topics that requests name: the same on both brokers, under ids of their own.

use std::{thread, time::Duration};

use anyhow::bail;
use kavka_protocol::{
    json::Value,
    messages::{
        CreateTopicsRequest, ListOffsetsRequest, MetadataRequest,
        create_topics_request::CreatableTopic,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        metadata_request::MetadataRequestTopic,
    },
};

use crate::pair::Pair;

/// Three partitions each.
pub(crate) const TOPICS: &[&str] = &["topic-a", "topic-b"];

/// The symbol for a topic's id.
pub(crate) fn topic_symbol(topic: &str) -> String {
    format!("<id of {topic}>")
}

/// Creates the topics where they are not there yet, and learns their ids.
pub(crate) fn prepare(pair: &mut Pair) -> anyhow::Result<()> {
    let topics: Vec<_> = TOPICS
        .iter()
        .map(|name| CreatableTopic {
            name: (*name).into(),
            num_partitions: 3,
            replication_factor: 1,
            ..Default::default()
        })
        .collect();
    pair.ask(7, |_| CreateTopicsRequest {
        topics: topics.clone(),
        timeout_ms: 30_000,
        ..Default::default()
    })?;
    for topic in TOPICS {
        learn_id(pair, topic)?;
    }
    Ok(())
}

/// Waits until both brokers know the topic and its leaders, and learns its ids.
pub(crate) fn learn_id(pair: &mut Pair, topic: &str) -> anyhow::Result<()> {
    for _ in 0..300 {
        let wanted = MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
        let answers = pair.ask(12, |_| MetadataRequest {
            topics: Some(vec![wanted.clone()]),
            ..Default::default()
        })?;
        let ready = |answer: &Value| {
            let topic = &answer["topics"][0];
            let partitions = topic["partitions"].as_array().map_or(&[][..], Vec::as_slice);
            topic["errorCode"] == 0 && partitions.iter().all(|p| p["errorCode"] == 0)
        };
        if answers.iter().all(ready) {
            let ids = answers.each_ref().map(|answer| answer["topics"][0]["topicId"].as_str());
            if let [Some(apache), Some(kavka)] = ids
                && leads(pair, topic, answers[0]["topics"][0]["partitions"].as_array())?
            {
                pair.symbols.define(&topic_symbol(topic), [apache, kavka]);
                return Ok(());
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
    bail!("{topic} was not there within 30 s")
}

/// Whether both brokers act as the leaders that Metadata names: Apache Kafka is told of that a moment after clients are.
fn leads(pair: &mut Pair, topic: &str, partitions: Option<&Vec<Value>>) -> anyhow::Result<bool> {
    for index in 0..partitions.map_or(0, Vec::len) as i32 {
        let partition =
            ListOffsetsPartition { partition_index: index, timestamp: -1, ..Default::default() };
        let answers = pair.ask(4, |_| ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: topic.into(),
                partitions: vec![partition.clone()],
                ..Default::default()
            }],
            ..Default::default()
        })?;
        if answers.iter().any(|a| a["topics"][0]["partitions"][0]["errorCode"] != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Waits until neither broker knows the topic, and neither has the offsets committed for it: they go with it, a moment later.
pub(crate) fn await_absence(pair: &mut Pair, topic: &str) -> anyhow::Result<()> {
    for _ in 0..300 {
        let wanted = MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
        let answers = pair.ask(12, |_| MetadataRequest {
            topics: Some(vec![wanted.clone()]),
            ..Default::default()
        })?;
        if answers.iter().all(|answer| answer["topics"][0]["errorCode"] == 3) {
            thread::sleep(Duration::from_millis(1000));
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    bail!("{topic} was there 30 s after its deletion")
}
