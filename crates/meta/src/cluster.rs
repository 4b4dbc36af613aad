//! The trait that every engine of cluster metadata implements, and the checks that all of them share.

use std::ops::{Bound, Range};
use std::sync::Arc;

use kavka_protocol::Uuid;

use crate::config::ConfigError;
use crate::error::{AlterConfigsError, MetaError, TopicError};
use crate::image::{ConfigMap, ConfigResource, MetadataImage, Topic};
use crate::topic_name::{check_topic_name, collision_key};

/// How many producer ids one allocation hands out.
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// A topic to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// The name; checked by [`check_new_topic`].
    pub name: String,
    /// Number of partitions, at least 1 (the caller has replaced -1 by the default).
    pub partitions: i32,
    /// Replication factor, at least 1 (the caller has replaced -1 by the default and compared it with the brokers there are).
    pub replication_factor: i16,
    /// Config overrides; the caller has checked them with [`crate::config::topic::validate`].
    pub configs: ConfigMap,
    /// Whether clients see the topic as internal.
    pub internal: bool,
}

/// A topic, named one way or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicRef<'a> {
    /// By name.
    Name(&'a str),
    /// By id.
    Id(Uuid),
}

/// A topic that is to have more partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewPartitions<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The new total number of partitions, above the current one.
    pub count: i32,
}

/// Cluster metadata: topics, configs, ids.
///
/// Opening an engine starts a *session*: a durable counter goes up, and [`MetadataImage::session_epoch`] tells it. At most
/// one session at a time may be open on a store.
///
/// [`image`](Self::image) never blocks for longer than it takes to copy a pointer. **Every other method writes**: it blocks
/// the calling thread until the change is durable (a disk sync, or a round trip to a database), so call it from a thread
/// that may block. Writes are serialized. When a write returns, [`image`](Self::image) shows it; when it returns
/// [`MetaError`], the image shows none of it and whether the store holds it is unknown, so the engine refuses further
/// writes until it is opened again.
///
/// Batches are not atomic as a whole: each topic succeeds or fails by itself, all that succeed become durable together.
pub trait ClusterMeta: Send + Sync {
    /// The current state.
    fn image(&self) -> Arc<MetadataImage>;

    /// Creates topics, each with a new random id; the results are in the order of `topics`.
    ///
    /// `now_ms` is the creation time in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// Per topic what [`check_new_topic`] says; as a whole when the store fails.
    fn create_topics(
        &self,
        topics: &[NewTopic],
        now_ms: i64,
    ) -> Result<Vec<Result<Arc<Topic>, TopicError>>, MetaError>;

    /// Deletes topics and their configs; the results, in the order of `topics`, are the topics as they were.
    ///
    /// The name is free at once; the caller removes the data of the partitions.
    ///
    /// # Errors
    /// Per topic if it is unknown; as a whole when the store fails.
    fn delete_topics(
        &self,
        topics: &[TopicRef<'_>],
    ) -> Result<Vec<Result<Arc<Topic>, TopicError>>, MetaError>;

    /// Adds partitions to topics; the results, in the order of `requests`, are the topics as they are then.
    ///
    /// # Errors
    /// Per topic what [`check_new_partitions`] says; as a whole when the store fails.
    fn create_partitions(
        &self,
        requests: &[NewPartitions<'_>],
    ) -> Result<Vec<Result<Arc<Topic>, TopicError>>, MetaError>;

    /// Replaces the configs of one resource by what `change` makes of them, atomically.
    ///
    /// `change` gets the current configs (empty when none are set) and is where the caller validates and applies an
    /// AlterConfigs or IncrementalAlterConfigs request, see [`crate::config`]. It may be called again if another
    /// writer came first. Returns the configs as they are then. Configs that do not differ are not written.
    ///
    /// # Errors
    /// What `change` returned; an unknown topic; or a failure of the store.
    fn alter_configs(
        &self,
        resource: &ConfigResource,
        change: &mut dyn FnMut(&ConfigMap) -> Result<ConfigMap, ConfigError>,
    ) -> Result<Arc<ConfigMap>, AlterConfigsError>;

    /// Hands out the next [`PRODUCER_ID_BLOCK`] producer ids. They are durably used up before this returns, and are never
    /// handed out again, whatever happens to the caller.
    ///
    /// # Errors
    /// When the store fails, or all 2^63 ids are used.
    fn allocate_producer_ids(&self) -> Result<Range<i64>, MetaError>;
}

/// Whether the topic could be created now: it does not exist, the name is allowed and collides with none, and the
/// counts are at least 1. In the order in which Kafka checks; configs, replica assignments and the number of brokers are
/// the caller's to check.
///
/// # Errors
/// The first rule that is broken.
pub fn check_new_topic(image: &MetadataImage, topic: &NewTopic) -> Result<(), TopicError> {
    if image.topic(&topic.name).is_some() {
        return Err(TopicError::AlreadyExists { topic: topic.name.clone() });
    }
    check_topic_name(&topic.name)
        .map_err(|reason| TopicError::InvalidName { topic: topic.name.clone(), reason })?;
    if let Some(existing) = colliding_topic(image, &topic.name) {
        return Err(TopicError::NameCollision {
            topic: topic.name.clone(),
            existing: existing.name.to_string(),
        });
    }
    if topic.replication_factor < 1 {
        return Err(TopicError::InvalidReplicationFactor { topic: topic.name.clone() });
    }
    if topic.partitions < 1 {
        return Err(TopicError::InvalidPartitions { topic: topic.name.clone() });
    }
    Ok(())
}

/// Whether the topic can be given this many partitions: it exists and has fewer. Returns the topic as it is.
///
/// # Errors
/// The first rule that is broken.
pub fn check_new_partitions<'a>(
    image: &'a MetadataImage,
    request: &NewPartitions<'_>,
) -> Result<&'a Arc<Topic>, TopicError> {
    let topic = image
        .topic(request.topic)
        .ok_or_else(|| TopicError::UnknownTopic { topic: request.topic.to_owned() })?;
    if request.count < topic.partitions {
        return Err(TopicError::FewerPartitions {
            topic: topic.name.to_string(),
            current: topic.partitions,
            requested: request.count,
        });
    }
    if request.count == topic.partitions {
        return Err(TopicError::SamePartitions {
            topic: topic.name.to_string(),
            current: topic.partitions,
        });
    }
    Ok(topic)
}

/// A topic whose name differs from `name` only by `.` and `_` at the same places.
fn colliding_topic<'a>(image: &'a MetadataImage, name: &str) -> Option<&'a Arc<Topic>> {
    if !name.contains(['.', '_']) {
        return None;
    }
    // Names that collide are equal up to the first dot or underscore, so only that part of the map is looked at.
    let key = collision_key(name);
    let prefix = &name[..name.find(['.', '_']).unwrap_or(name.len())];
    image
        .topics()
        .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
        .take_while(|(other, _)| other.starts_with(prefix))
        .find(|(other, _)| collision_key(other) == key)
        .map(|(_, topic)| topic)
}
