//! DescribeTopicPartitions: topics page by page, in the order of their names. Needs DESCRIBE on each topic.
//!
//! # References
//! KIP-966.

use std::{collections::BTreeSet, sync::Arc};

use kavka_meta::check_topic_name;
use kavka_protocol::{
    ErrorCode,
    messages::{
        DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
        describe_topic_partitions_request::Cursor as From,
        describe_topic_partitions_response::{
            Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
        },
    },
};

use super::operations::ALL_TOPIC_OPERATIONS;
use crate::{broker::Broker, dispatch::Context, topics::TopicPartitions};

pub(crate) async fn handle(
    context: Context,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let broker = &context.broker;
    let named = !request.topics.is_empty();
    let mut names: BTreeSet<Arc<str>> = if named {
        request.topics.iter().map(|topic| Arc::from(&*topic.name)).collect()
    } else {
        broker.topics.all().iter().map(|topic| Arc::clone(&topic.topic.name)).collect()
    };
    if let Some(cursor) = &request.cursor {
        if cursor.partition_index < 0 || (named && !names.contains(&*cursor.topic_name)) {
            return refuse(&names);
        }
        names = names.split_off(&*cursor.topic_name);
    }
    let limit =
        request.response_partition_limit.min(broker.config.fetch.describe_partition_limit).max(1);
    page(names, request.cursor.as_ref(), limit, |name| broker.topics.by_name(name), broker)
}

/// Topics from the cursor on until `limit` partitions are told.
fn page(
    names: BTreeSet<Arc<str>>,
    cursor: Option<&From>,
    limit: i32,
    find: impl Fn(&str) -> Option<Arc<TopicPartitions>>,
    broker: &Broker,
) -> DescribeTopicPartitionsResponse {
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut left = limit;
    for name in names {
        if left == 0 {
            response.next_cursor = Some(next(&name, 0));
            break;
        }
        let Some(topic) = find(&name) else {
            response.topics.push(missing(&name));
            continue;
        };
        let first = match cursor {
            Some(cursor) if *cursor.topic_name == *name => cursor.partition_index,
            _ => 0,
        };
        let (shown, more) = range(topic.topic.partitions, first, left);
        left -= shown.len() as i32;
        response.topics.push(describe(broker, &topic, shown));
        if let Some(partition) = more {
            response.next_cursor = Some(next(&name, partition));
            break;
        }
    }
    response
}

/// The partitions to show of a topic with `count`, from `first` on and `left` at most; and where to go on.
fn range(count: i32, first: i32, left: i32) -> (std::ops::Range<i32>, Option<i32>) {
    let first = first.min(count);
    let end = first.saturating_add(left).min(count);
    (first..end, (end < count).then_some(end))
}

fn next(topic: &str, partition_index: i32) -> Cursor {
    Cursor { topic_name: topic.into(), partition_index, ..Default::default() }
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: match check_topic_name(name) {
            Ok(()) => ErrorCode::UnknownTopicOrPartition,
            Err(_) => ErrorCode::InvalidTopicException,
        },
        name: Some(name.into()),
        topic_authorized_operations: ALL_TOPIC_OPERATIONS,
        ..Default::default()
    }
}

fn describe(
    broker: &Broker,
    topic: &TopicPartitions,
    shown: std::ops::Range<i32>,
) -> DescribeTopicPartitionsResponseTopic {
    let node_id = broker.config.node_id;
    let image = broker.meta.image();
    let partition = |partition_index: i32| {
        let online = topic.partition(partition_index).is_ok();
        DescribeTopicPartitionsResponsePartition {
            error_code: if online { ErrorCode::None } else { ErrorCode::LeaderNotAvailable },
            partition_index,
            leader_id: if online { node_id } else { -1 },
            leader_epoch: image.leader_epoch(&topic.topic, partition_index).unwrap_or(-1),
            replica_nodes: vec![node_id],
            isr_nodes: vec![node_id],
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas: if online { Vec::new() } else { vec![node_id] },
            ..Default::default()
        }
    };
    DescribeTopicPartitionsResponseTopic {
        name: Some((&*topic.topic.name).into()),
        topic_id: topic.topic.id,
        is_internal: topic.topic.internal,
        partitions: shown.map(partition).collect(),
        topic_authorized_operations: ALL_TOPIC_OPERATIONS,
        ..Default::default()
    }
}

/// The answer to a cursor that is not a place in what was asked for.
fn refuse(names: &BTreeSet<Arc<str>>) -> DescribeTopicPartitionsResponse {
    let refused = |name: &Arc<str>| DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::InvalidRequest,
        name: Some((&**name).into()),
        ..Default::default()
    };
    DescribeTopicPartitionsResponse {
        topics: names.iter().map(refused).collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_within_a_topic_and_goes_on_there() {
        assert_eq!(range(3, 0, 2), (0..2, Some(2)));
        assert_eq!(range(3, 2, 2), (2..3, None));
        assert_eq!(range(3, 0, 3), (0..3, None));
        assert_eq!(range(3, 3, 2), (3..3, None));
        assert_eq!(range(3, i32::MAX, i32::MAX), (3..3, None));
    }
}
