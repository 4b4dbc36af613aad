//! Topics and records: what is answered where a name, a number or a batch is not right.

use bytes::Bytes;
use kavka_protocol::{
    messages::{
        CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
        InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest,
        ProduceRequest,
        create_partitions_request::CreatePartitionsTopic,
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
        describe_configs_request::DescribeConfigsResource,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        metadata_request::MetadataRequestTopic,
        offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    records::BatchBuilder,
};

use super::stage::Stage;
use crate::topics::{self, topic_symbol};

type Done = anyhow::Result<()>;

/// A topic of its own, with two partitions; its name.
fn own_topic(s: &mut Stage<'_>) -> anyhow::Result<String> {
    let name = s.name.clone();
    let topic = CreatableTopic {
        name: name.as_str().into(),
        num_partitions: 2,
        replication_factor: 1,
        ..Default::default()
    };
    s.pair.ask(7, |_| CreateTopicsRequest {
        topics: vec![topic.clone()],
        timeout_ms: 30_000,
        ..Default::default()
    })?;
    topics::learn_id(s.pair, &name)?;
    Ok(name)
}

pub(super) fn metadata(s: &mut Stage<'_>) -> Done {
    let own = own_topic(s)?;
    for version in 0..=13 {
        for names in [
            vec![own.as_str()],
            vec![],
            vec![&own, "absent", &own],
            vec!["not a name"],
            vec!["__consumer_offsets"],
        ] {
            // None at all are all in version 0: also those of others.
            if names.is_empty() && version == 0 {
                continue;
            }
            s.pair.call(version, |_| MetadataRequest {
                topics: Some(
                    names
                        .iter()
                        .map(|name| MetadataRequestTopic {
                            name: Some((*name).into()),
                            ..Default::default()
                        })
                        .collect(),
                ),
                allow_auto_topic_creation: true,
                include_topic_authorized_operations: version >= 8,
                ..Default::default()
            })?;
        }
        if version >= 12 {
            for topic in [own.as_str(), "absent"] {
                s.pair.call(version, |names| MetadataRequest {
                    topics: Some(vec![MetadataRequestTopic {
                        topic_id: names.uuid(&topic_symbol(topic)),
                        name: None,
                        ..Default::default()
                    }]),
                    ..Default::default()
                })?;
            }
        }
    }
    Ok(())
}

pub(super) fn create_and_delete_topics(s: &mut Stage<'_>) -> Done {
    let own = own_topic(s)?;
    let config = |name: &str, value: &str| CreatableTopicConfig {
        name: name.into(),
        value: Some(value.into()),
        ..Default::default()
    };
    let new = format!("{own}-new");
    let topic = |name: &str, num_partitions, replication_factor| CreatableTopic {
        name: name.into(),
        num_partitions,
        replication_factor,
        ..Default::default()
    };
    let with = |entry| CreatableTopic { configs: vec![entry], ..topic(&new, 1, 1) };
    let long = "x".repeat(250);
    let cases = [
        vec![topic(&own, 1, 1)],
        vec![topic("", 1, 1)],
        vec![topic(".", 1, 1)],
        vec![topic("not a name", 1, 1)],
        vec![topic(&long, 1, 1)],
        vec![topic(&new, 0, 1)],
        vec![topic(&new, -2, 1)],
        vec![topic(&new, 1, 0)],
        vec![topic(&new, 1, 3)],
        vec![topic(&new, 1, 1), topic(&new, 2, 1)],
        vec![with(config("no.such.config", "1"))],
        vec![with(config("retention.ms", "soon"))],
        vec![with(config("cleanup.policy", "burn"))],
        vec![topic("__consumer_offsets", 1, 1)],
        vec![],
    ];
    for version in [2, 4, 5, 7] {
        for topics in &cases {
            s.pair.call(version, |_| CreateTopicsRequest {
                topics: topics.clone(),
                timeout_ms: 30_000,
                validate_only: true,
                ..Default::default()
            })?;
        }
        s.pair.call(version, |_| CreateTopicsRequest {
            topics: vec![topic(&new, 3, 1)],
            timeout_ms: 30_000,
            validate_only: true,
            ..Default::default()
        })?;
    }
    for version in 0..=3 {
        for (name, count) in
            [(own.as_str(), 2), (&own, 1), (&own, 0), (&own, -1), ("absent", 3), (&own, 5)]
        {
            s.pair.call(version, |_| CreatePartitionsRequest {
                topics: vec![CreatePartitionsTopic {
                    name: name.into(),
                    count,
                    ..Default::default()
                }],
                timeout_ms: 30_000,
                validate_only: true,
                ..Default::default()
            })?;
        }
    }
    for version in 1..=5 {
        s.pair.call(version, |_| DeleteTopicsRequest {
            topic_names: vec!["absent".into(), "not a name".into()],
            timeout_ms: 30_000,
            ..Default::default()
        })?;
    }
    Ok(())
}

fn batch(records: usize, producer: Option<(i64, i16, i32)>) -> anyhow::Result<Bytes> {
    let mut builder = BatchBuilder::new(0);
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.with_producer(id, epoch, sequence);
    }
    for number in 0..records {
        builder.append(1_700_000_000_000 + number as i64, Some(b"key"), Some(b"value"), &[])?;
    }
    Ok(builder.build()?)
}

fn send(
    s: &mut Stage<'_>,
    version: i16,
    acks: i16,
    topic: &str,
    index: i32,
    records: Option<Bytes>,
) -> Done {
    s.pair.call(version, |names| ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            topic_id: names.uuid(&topic_symbol(topic)),
            partition_data: vec![PartitionProduceData {
                index,
                records: records.clone(),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    })?;
    Ok(())
}

pub(super) fn produce(s: &mut Stage<'_>) -> Done {
    let own = own_topic(s)?;
    let good = batch(3, None)?;
    for version in [3, 5, 7, 8, 9, 10, 12, 13] {
        send(s, version, -1, &own, 0, Some(good.clone()))?;
        send(s, version, 1, &own, 1, Some(good.clone()))?;
        send(s, version, -1, &own, 7, Some(good.clone()))?;
        send(s, version, -1, "absent", 0, Some(good.clone()))?;
        send(s, version, 2, &own, 0, Some(good.clone()))?;
        if version < 13 {
            send(s, version, -1, "__consumer_offsets", 0, Some(good.clone()))?;
        }
        let mut broken = good.to_vec();
        broken[30] ^= 1;
        send(s, version, -1, &own, 0, Some(Bytes::from(broken)))?;
    }
    // Sequences of an idempotent producer that never asked for its id.
    for (epoch, sequence) in [(0, 0), (0, 0), (0, 3), (0, 9), (0, 3), (1, 5), (1, 0), (0, 6)] {
        send(s, 12, -1, &own, 0, Some(batch(3, Some((77, epoch, sequence)))?))?;
    }
    send(s, 12, -1, &own, 1, Some(batch(3, Some((78, 0, 5)))?))?;
    Ok(())
}

pub(super) fn list_offsets(s: &mut Stage<'_>) -> Done {
    let own = own_topic(s)?;
    for version in 1..=11 {
        for round in 0..2 {
            for timestamp in
                [-1, -2, 0, 1_700_000_000_000, 1_700_000_000_001, 1_800_000_000_000, -3]
            {
                if timestamp == -3 && version < 7 {
                    continue;
                }
                for (topic, index, epoch) in [
                    (own.as_str(), 0, -1),
                    (&own, 0, 0),
                    (&own, 0, 9),
                    (&own, 5, -1),
                    ("absent", 0, -1),
                ] {
                    s.pair.call(version, |_| ListOffsetsRequest {
                        replica_id: -1,
                        topics: vec![ListOffsetsTopic {
                            name: topic.into(),
                            partitions: vec![ListOffsetsPartition {
                                partition_index: index,
                                current_leader_epoch: epoch,
                                timestamp,
                                ..Default::default()
                            }],
                            ..Default::default()
                        }],
                        ..Default::default()
                    })?;
                }
            }
            if round == 0 {
                send(s, 9, -1, &own, 0, Some(batch(4, None)?))?;
            }
        }
    }
    Ok(())
}

pub(super) fn leader_epochs(s: &mut Stage<'_>) -> Done {
    let own = own_topic(s)?;
    send(s, 9, -1, &own, 0, Some(batch(4, None)?))?;
    for version in 2..=4 {
        for (topic, partition) in [(own.as_str(), 0), (&own, 1), (&own, 9), ("absent", 0)] {
            for current in [-1, 0, 1] {
                for leader_epoch in [-1, 0, 1, 5] {
                    s.pair.call(version, |_| OffsetForLeaderEpochRequest {
                        replica_id: -1,
                        topics: vec![OffsetForLeaderTopic {
                            topic: topic.into(),
                            partitions: vec![OffsetForLeaderPartition {
                                partition,
                                current_leader_epoch: current,
                                leader_epoch,
                                ..Default::default()
                            }],
                            ..Default::default()
                        }],
                        ..Default::default()
                    })?;
                }
            }
        }
    }
    Ok(())
}

pub(super) fn producer_ids(s: &mut Stage<'_>) -> Done {
    for version in 0..=5 {
        let answer = s.pair.call(version, |_| InitProducerIdRequest {
            transaction_timeout_ms: 60_000,
            ..Default::default()
        })?;
        let id = answer["producerId"].as_str().unwrap_or_default().to_owned();
        if version >= 3 {
            for (id, epoch) in [(id.as_str(), 0), (&id, 5), ("", 0), ("unknown", 0)] {
                s.pair.call(version, |names| InitProducerIdRequest {
                    transaction_timeout_ms: 60_000,
                    producer_id: if id.is_empty() { -1 } else { names.number(id) },
                    producer_epoch: epoch,
                    ..Default::default()
                })?;
            }
        }
    }
    Ok(())
}

pub(super) fn configs(s: &mut Stage<'_>) -> Done {
    const TOPIC: i8 = 2;
    let own = own_topic(s)?;
    // What is there to set, with its type and default, is not of the protocol; these names are.
    let keys =
        ["retention.ms", "cleanup.policy", "segment.bytes", "max.message.bytes", "no.such.config"];
    for version in 1..=4 {
        for (kind, name) in [
            (TOPIC, own.as_str()),
            (TOPIC, "absent"),
            (TOPIC, "not a name"),
            (TOPIC, ""),
            (99, "x"),
        ] {
            s.pair.call(version, |_| DescribeConfigsRequest {
                resources: vec![DescribeConfigsResource {
                    resource_type: kind,
                    resource_name: name.into(),
                    configuration_keys: Some(keys.iter().map(|key| (*key).into()).collect()),
                    ..Default::default()
                }],
                include_synonyms: true,
                ..Default::default()
            })?;
        }
    }
    Ok(())
}
