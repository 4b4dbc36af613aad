//! Topics that the broker makes for itself.

use std::sync::Arc;

use kavka_meta::{ConfigMap, NewTopic, TopicError};
use kavka_protocol::ErrorCode;
use tracing::{error, info};

use crate::{broker::Broker, groups::OFFSETS_TOPIC, partition::blocking};

/// Makes the offsets topic and its shards if they are not there.
///
/// # Errors
/// `COORDINATOR_NOT_AVAILABLE` if it cannot be made now.
pub(crate) async fn ensure_offsets_topic(broker: &Arc<Broker>) -> Result<(), ErrorCode> {
    if broker.groups.is_started() {
        return Ok(());
    }
    let making = Arc::clone(broker);
    blocking(move || make_offsets_topic(&making)).await?;
    broker.groups.start(&broker.topics);
    Ok(())
}

/// Whether this is a topic of the broker's own.
pub(crate) fn is_internal(topic: &str) -> bool {
    topic == OFFSETS_TOPIC
}

/// The settings of `__consumer_offsets`, as Apache Kafka makes it.
pub(crate) fn offsets_topic(broker: &Broker) -> NewTopic {
    let configs = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", broker.config.offsets.topic_segment_bytes.to_string()),
    ];
    NewTopic {
        name: OFFSETS_TOPIC.to_owned(),
        partitions: broker.config.offsets.topic_partitions,
        replication_factor: 1,
        configs: configs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<ConfigMap>(),
        internal: true,
    }
}

fn make_offsets_topic(broker: &Broker) -> Result<(), ErrorCode> {
    let unavailable = ErrorCode::CoordinatorNotAvailable;
    let created = broker
        .meta
        .create_topics(&[offsets_topic(broker)], broker.clock.wall_ms())
        .map_err(|failed| {
            error!("cannot create {OFFSETS_TOPIC}: {failed}");
            unavailable
        })?;
    for result in created {
        match result {
            Ok(topic) => info!("created {OFFSETS_TOPIC} with {} partitions", topic.partitions),
            // Someone else was first.
            Err(TopicError::AlreadyExists { .. }) => {}
            Err(refused) => {
                error!("cannot create {OFFSETS_TOPIC}: {refused}");
                return Err(unavailable);
            }
        }
    }
    broker.topics.reconcile();
    Ok(())
}
