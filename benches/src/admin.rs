//! Topics and groups that a scenario needs, made and removed outside the measured time.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use kavka_protocol::{
    ByteString, ErrorCode, Uuid,
    messages::{
        CreateTopicsRequest, DeleteTopicsRequest, FindCoordinatorRequest, HeartbeatRequest,
        ListOffsetsRequest, MetadataRequest, MetadataResponse,
        create_topics_request::CreatableTopic, delete_topics_request::DeleteTopicState,
        list_offsets_request::ListOffsetsPartition, list_offsets_request::ListOffsetsTopic,
        list_offsets_response::ListOffsetsPartitionResponse,
        metadata_request::MetadataRequestTopic,
    },
};

use crate::connection::{Connection, check};

/// How long a topic or a coordinator may take to come up.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// ListOffsets: the offset after the last record.
const LATEST_TIMESTAMP: i64 = -1;

/// A topic whose partitions all have a leader.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) name: ByteString,
    /// Zero if the broker's Metadata tells none.
    pub(crate) id: Uuid,
    pub(crate) partitions: i32,
}

/// Creates a topic and waits until every partition has a leader, and the broker knows that it is the leader.
pub(crate) fn create_topic(
    connection: &mut Connection,
    name: &str,
    partitions: i32,
) -> anyhow::Result<Topic> {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        }],
        ..Default::default()
    };
    let response = connection.call(&request)?;
    let result = response.topics.first().context("CreateTopics answered nothing")?;
    check(result.error_code, &format!("creating topic {name}"))?;
    let topic = wait_for_topic(connection, name)?;
    ensure!(
        topic.partitions == partitions,
        "topic {name} has {} partitions instead of {partitions}",
        topic.partitions
    );
    let started = Instant::now();
    loop {
        let answers = list_end_offsets(connection, &topic)?;
        let waits = answers.iter().any(|answer| answer.error_code.is_retriable());
        if !waits {
            return Ok(topic);
        }
        ensure!(
            started.elapsed() < READY_TIMEOUT,
            "topic {name} is not led after {READY_TIMEOUT:?}"
        );
        thread::sleep(RETRY_PAUSE);
    }
}

/// Deletes a topic.
pub(crate) fn delete_topic(connection: &mut Connection, topic: &Topic) -> anyhow::Result<()> {
    let by_name = connection.version_of::<DeleteTopicsRequest>()? < 6;
    let mut request = DeleteTopicsRequest { timeout_ms: 30_000, ..Default::default() };
    if by_name {
        request.topic_names = vec![topic.name.clone()];
    } else {
        request.topics =
            vec![DeleteTopicState { name: Some(topic.name.clone()), ..Default::default() }];
    }
    let response = connection.call(&request)?;
    let result = response.responses.first().context("DeleteTopics answered nothing")?;
    check(result.error_code, &format!("deleting topic {}", topic.name))
}

/// Waits until Metadata names a leader for every partition of a topic.
pub(crate) fn wait_for_topic(connection: &mut Connection, name: &str) -> anyhow::Result<Topic> {
    let started = Instant::now();
    loop {
        let response = metadata(connection, name)?;
        let found = response.topics.first().context("Metadata answered nothing")?;
        let led = found.partitions.iter().all(|p| p.error_code == ErrorCode::None);
        if found.error_code == ErrorCode::None && led && !found.partitions.is_empty() {
            return Ok(Topic {
                name: name.into(),
                id: found.topic_id,
                partitions: i32::try_from(found.partitions.len())?,
            });
        }
        if started.elapsed() > READY_TIMEOUT {
            bail!("topic {name} is not ready after {READY_TIMEOUT:?}: {}", found.error_code.name());
        }
        thread::sleep(RETRY_PAUSE);
    }
}

/// What the broker says of one topic, without creating it.
pub(crate) fn metadata(
    connection: &mut Connection,
    name: &str,
) -> anyhow::Result<MetadataResponse> {
    connection.call(&MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name: Some(name.into()), ..Default::default() }]),
        allow_auto_topic_creation: false,
        ..Default::default()
    })
}

/// Waits until the coordinator of a group is there, is this broker, and has loaded the group's partition.
pub(crate) fn wait_for_coordinator(connection: &mut Connection, group: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let mut code = find_coordinator(connection, group)?;
        if code == ErrorCode::None {
            // A heartbeat of nobody: it is refused for its member only by a coordinator that is ready.
            let probe = HeartbeatRequest {
                group_id: group.into(),
                member_id: "nobody".into(),
                ..Default::default()
            };
            code = connection.call(&probe)?.error_code;
        }
        match code {
            ErrorCode::UnknownMemberId => return Ok(()),
            // While it loads, a coordinator answers heartbeats without looking at them.
            code if (code.is_retriable() || code == ErrorCode::None)
                && started.elapsed() < READY_TIMEOUT =>
            {
                thread::sleep(RETRY_PAUSE);
            }
            code => bail!("the coordinator of group {group} is not ready: {}", code.name()),
        }
    }
}

fn find_coordinator(connection: &mut Connection, group: &str) -> anyhow::Result<ErrorCode> {
    let mut request = FindCoordinatorRequest::default();
    if connection.version_of::<FindCoordinatorRequest>()? < 4 {
        request.key = group.into();
        return Ok(connection.call(&request)?.error_code);
    }
    request.coordinator_keys = vec![group.into()];
    let response = connection.call(&request)?;
    Ok(response.coordinators.first().context("FindCoordinator answered nothing")?.error_code)
}

/// The offset after the last record of each partition of a topic.
pub(crate) fn end_offsets(
    connection: &mut Connection,
    topic: &Topic,
) -> anyhow::Result<BTreeMap<i32, i64>> {
    let mut ends = BTreeMap::new();
    for answer in list_end_offsets(connection, topic)? {
        let partition = answer.partition_index;
        check(answer.error_code, &format!("ListOffsets of {}-{partition}", topic.name))?;
        ends.insert(partition, answer.offset);
    }
    ensure!(
        ends.len() == topic.partitions as usize,
        "ListOffsets answered for {} of {} partitions",
        ends.len(),
        topic.partitions
    );
    Ok(ends)
}

fn list_end_offsets(
    connection: &mut Connection,
    topic: &Topic,
) -> anyhow::Result<Vec<ListOffsetsPartitionResponse>> {
    let response = connection.call(&ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.name.clone(),
            partitions: (0..topic.partitions)
                .map(|partition_index| ListOffsetsPartition {
                    partition_index,
                    timestamp: LATEST_TIMESTAMP,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }],
        ..Default::default()
    })?;
    let answered = response.topics.into_iter().next().context("ListOffsets answered nothing")?;
    Ok(answered.partitions)
}
