//! Cluster metadata: which topics exist, how they are configured, which producer ids are given out.
//!
//! [`ClusterMeta`] is the trait; [`EmbeddedMeta`] is the engine that keeps everything in one redb file inside the data
//! directory (or in memory, for tests). Reads come from an immutable [`MetadataImage`]; only writes touch the store.
//!
//! [`config`] holds the definitions of topic and group configs and the rules for describing and altering them.
//!
//! This crate does not know requests, authorization, brokers' own settings or the bytes of partitions.

pub mod config;

mod cluster;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod embedded;
mod error;
mod image;
mod topic_name;

pub use cluster::{
    ClusterMeta, NewPartitions, NewTopic, PRODUCER_ID_BLOCK, TopicRef, check_new_partitions,
    check_new_topic,
};
pub use embedded::{EmbeddedMeta, FILE_NAME, RandomSource, os_random};
pub use error::{AlterConfigsError, MetaError, TopicError};
pub use image::{ConfigMap, ConfigResource, ConfigResourceType, MetadataImage, Topic};
pub use topic_name::{MAX_TOPIC_NAME_LENGTH, check_topic_name};

/// Where [`EmbeddedMeta::open_on`] keeps its bytes.
pub use redb::StorageBackend;
