//! CreatePartitions: more partitions for topics that exist. Needs ALTER on each topic.
//!
//! # References
//! KIP-195, KIP-599.

use std::collections::HashMap;

use kavka_meta::{MetadataImage, NewPartitions, TopicError, check_new_partitions};
use kavka_protocol::{
    ErrorCode,
    messages::{
        CreatePartitionsRequest, CreatePartitionsResponse,
        create_partitions_request::CreatePartitionsTopic,
        create_partitions_response::CreatePartitionsTopicResult,
    },
};
use tracing::{error, info};

use super::refusal::{Refusal, check_replicas};
use crate::{
    dispatch::Context,
    topic_changes::{Growth, MAX_NEW_PARTITIONS},
};

pub(crate) async fn handle(
    context: Context,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let broker = &context.broker;
    let image = broker.meta.image();
    let mut plans = plan(&image, broker.config.node_id, request.topics);
    let wanted: Vec<_> = plans.iter().filter_map(|(_, plan)| plan.as_ref().ok().cloned()).collect();
    if !wanted.is_empty() && !request.validate_only {
        let planned = plans.iter_mut().map(|(_, plan)| plan).filter(|plan| plan.is_ok());
        match broker.create_partitions(wanted).await {
            Ok(results) => {
                for (plan, result) in planned.zip(results) {
                    match result {
                        Ok(topic) => info!("{} has {} partitions", topic.name, topic.partitions),
                        Err(refused) => *plan = Err(refusal(refused)),
                    }
                }
            }
            Err(failed) => {
                error!("cannot create partitions: {failed}");
                planned.for_each(|plan| *plan = Err(Refusal::from(&failed)));
            }
        }
    }
    let row = |(name, plan): (_, Result<Growth, Refusal>)| {
        let refusal = plan.err();
        CreatePartitionsTopicResult {
            name,
            error_code: refusal.as_ref().map_or(ErrorCode::None, |refusal| refusal.code),
            error_message: refusal.and_then(|refusal| refusal.message).map(Into::into),
            ..Default::default()
        }
    };
    CreatePartitionsResponse { results: plans.into_iter().map(row).collect(), ..Default::default() }
}

type Plan = (bytestring::ByteString, Result<Growth, Refusal>);

/// What is to be done for each topic of the request. One that is named twice is refused, once.
fn plan(image: &MetadataImage, node_id: i32, topics: Vec<CreatePartitionsTopic>) -> Vec<Plan> {
    let mut times = HashMap::new();
    for topic in &topics {
        *times.entry(topic.name.clone()).or_insert(0) += 1;
    }
    let mut plans = Vec::with_capacity(topics.len());
    let mut added = 0;
    for topic in topics {
        let plan = match times.remove(&topic.name) {
            None => continue,
            Some(1) => check(image, node_id, &topic).map(|new| {
                added += i64::from(new);
                Growth { topic: topic.name.to_string(), count: topic.count }
            }),
            Some(_) => Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name.")),
        };
        plans.push((topic.name, plan));
    }
    if added > MAX_NEW_PARTITIONS {
        for (_, plan) in plans.iter_mut().filter(|(_, plan)| plan.is_ok()) {
            *plan = Err(Refusal::new(
                ErrorCode::PolicyViolation,
                "Excessively large number of partitions per request.",
            ));
        }
    }
    plans
}

/// The number of partitions that would be added.
fn check(
    image: &MetadataImage,
    node_id: i32,
    topic: &CreatePartitionsTopic,
) -> Result<i32, Refusal> {
    let request = NewPartitions { topic: &topic.name, count: topic.count };
    let current = check_new_partitions(image, &request).map_err(refusal)?;
    if current.internal {
        // A group's partition follows from the number of partitions: its offsets would be lost.
        return Err(Refusal::new(
            ErrorCode::InvalidTopicException,
            format!("The number of partitions of {} cannot be changed.", current.name),
        ));
    }
    let added = topic.count - current.partitions;
    if let Some(assignments) = &topic.assignments {
        if i64::from(added) != assignments.len() as i64 {
            return Err(Refusal::new(
                ErrorCode::InvalidReplicaAssignment,
                format!(
                    "Attempted to add {added} additional partition(s), but only {} assignment(s) were specified.",
                    assignments.len()
                ),
            ));
        }
        for assignment in assignments {
            check_replicas(&assignment.broker_ids, node_id)?;
        }
    }
    Ok(added)
}

fn refusal(error: TopicError) -> Refusal {
    match error {
        TopicError::UnknownTopic { .. } => Refusal { code: error.code(), message: None },
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kavka_meta::{ClusterMeta, ConfigMap, EmbeddedMeta, NewTopic, os_random};
    use kavka_protocol::messages::create_partitions_request::CreatePartitionsAssignment;

    use super::*;

    fn image() -> std::sync::Arc<MetadataImage> {
        let dir = tempfile::tempdir().unwrap();
        let meta = EmbeddedMeta::open(dir.path(), os_random()).unwrap();
        let topic = |name: &str| NewTopic {
            name: name.to_owned(),
            partitions: 2,
            replication_factor: 1,
            configs: ConfigMap::new(),
            internal: name.starts_with("__"),
        };
        let topics = [topic("a"), topic("b"), topic("__own")];
        meta.create_topics(&topics, 0).unwrap().into_iter().for_each(|topic| drop(topic.unwrap()));
        meta.image()
    }

    fn grow(name: &str, count: i32, replicas: Option<&[&[i32]]>) -> CreatePartitionsTopic {
        let assignment = |brokers: &&[i32]| CreatePartitionsAssignment {
            broker_ids: brokers.to_vec(),
            ..Default::default()
        };
        CreatePartitionsTopic {
            name: name.into(),
            count,
            assignments: replicas.map(|replicas| replicas.iter().map(assignment).collect()),
            ..Default::default()
        }
    }

    fn refused(topic: CreatePartitionsTopic) -> (ErrorCode, Option<String>) {
        let refusal = plan(&image(), 1, vec![topic]).remove(0).1.unwrap_err();
        (refusal.code, refusal.message)
    }

    /// Codes and texts as Apache Kafka 4.4 gives them.
    #[test]
    fn the_first_broken_rule_is_told_in_kafkas_words() {
        use ErrorCode::*;
        let cases = [
            (grow("x", 3, Option::None), UnknownTopicOrPartition, Option::None),
            (
                grow("a", 2, Option::None),
                InvalidPartitions,
                Some("Topic already has 2 partition(s)."),
            ),
            (
                grow("a", -1, Option::None),
                InvalidPartitions,
                Some("The topic a currently has 2 partition(s); -1 would not be an increase."),
            ),
            (
                grow("a", 4, Some(&[&[1]])),
                InvalidReplicaAssignment,
                Some(
                    "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
                ),
            ),
            (
                grow("a", 3, Some(&[&[9]])),
                InvalidReplicaAssignment,
                Some(
                    "The manual partition assignment includes broker 9, but no such broker is registered.",
                ),
            ),
        ];
        for (topic, code, message) in cases {
            assert_eq!(refused(topic), (code, message.map(str::to_owned)));
        }
        assert_eq!(refused(grow("__own", 3, Option::None)).0, InvalidTopicException);
    }

    #[test]
    fn topics_succeed_each_by_itself_and_one_named_twice_fails_once() {
        let topics = vec![
            grow("a", 3, Option::None),
            grow("b", 3, Option::None),
            grow("a", 4, Option::None),
        ];
        let plans = plan(&image(), 1, topics);
        assert_eq!(plans.len(), 2);
        assert_eq!(plans[0].1.as_ref().unwrap_err().code, ErrorCode::InvalidRequest);
        assert_eq!(plans[1].1.as_ref().unwrap().count, 3);
    }

    #[test]
    fn one_request_cannot_add_any_number_of_partitions() {
        let plans = plan(
            &image(),
            1,
            vec![grow("a", i32::MAX, Option::None), grow("b", i32::MAX, Option::None)],
        );
        for (_, plan) in plans {
            assert_eq!(plan.unwrap_err().code, ErrorCode::PolicyViolation);
        }
    }
}
