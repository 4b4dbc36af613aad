//! Errors, shaped by what the caller does next: tell the client ([`TopicError`], [`crate::config::ConfigError`]), or
//! stop and look at the store ([`MetaError`]).

use std::io;

use kavka_protocol::{ErrorCode, Uuid};
use thiserror::Error;

use crate::config::ConfigError;

/// Why one topic could not be created, changed or deleted. The text is what Kafka tells the client.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TopicError {
    /// There is such a topic already.
    #[error("Topic '{topic}' already exists.")]
    AlreadyExists {
        /// The name asked for.
        topic: String,
    },
    /// The name breaks a rule.
    #[error("{reason}")]
    InvalidName {
        /// The name asked for.
        topic: String,
        /// Which rule, in words.
        reason: String,
    },
    /// The name differs from an existing one only by `.` and `_`.
    #[error("Topic '{topic}' collides with existing topic: {existing}")]
    NameCollision {
        /// The name asked for.
        topic: String,
        /// The name of the topic that is in the way.
        existing: String,
    },
    /// The number of partitions is below 1.
    #[error("Number of partitions was set to an invalid non-positive value.")]
    InvalidPartitions {
        /// The topic.
        topic: String,
    },
    /// The replication factor is below 1.
    #[error("Replication factor must be larger than 0, or -1 to use the default value.")]
    InvalidReplicationFactor {
        /// The topic.
        topic: String,
    },
    /// A topic cannot lose partitions.
    #[error(
        "The topic {topic} currently has {current} partition(s); {requested} would not be an increase."
    )]
    FewerPartitions {
        /// The topic.
        topic: String,
        /// How many partitions it has.
        current: i32,
        /// How many were asked for.
        requested: i32,
    },
    /// The topic has as many partitions as asked for.
    #[error("Topic already has {current} partition(s).")]
    SamePartitions {
        /// The topic.
        topic: String,
        /// How many partitions it has.
        current: i32,
    },
    /// No topic of this name.
    #[error("This server does not host this topic-partition: there is no topic '{topic}'.")]
    UnknownTopic {
        /// The name asked for.
        topic: String,
    },
    /// No topic with this id.
    #[error("This server does not host this topic ID: {id}.")]
    UnknownTopicId {
        /// The id asked for.
        id: Uuid,
    },
}

impl TopicError {
    /// The error code on the wire.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::AlreadyExists { .. } => ErrorCode::TopicAlreadyExists,
            Self::InvalidName { .. } | Self::NameCollision { .. } => {
                ErrorCode::InvalidTopicException
            }
            Self::InvalidPartitions { .. }
            | Self::FewerPartitions { .. }
            | Self::SamePartitions { .. } => ErrorCode::InvalidPartitions,
            Self::InvalidReplicationFactor { .. } => ErrorCode::InvalidReplicationFactor,
            Self::UnknownTopic { .. } => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownTopicId { .. } => ErrorCode::UnknownTopicId,
        }
    }
}

/// Why configs were not altered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AlterConfigsError {
    /// The change itself is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The topic whose configs were to change does not exist.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The store failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl AlterConfigsError {
    /// The error code on the wire.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Config(error) => error.code(),
            Self::Topic(error) => error.code(),
            Self::Meta(error) => error.code(),
        }
    }
}

/// The store cannot be opened, read or written. `store` is the file's path.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MetaError {
    /// Someone else has it open.
    #[error(
        "metadata store {store} is in use by another process; stop that process or choose another data directory"
    )]
    Locked {
        /// Which store.
        store: String,
    },
    /// The bytes make no sense.
    #[error(
        "metadata store {store} is damaged: {detail}; restore the file from a backup, or move it away to start with an empty cluster"
    )]
    Corrupt {
        /// Which store.
        store: String,
        /// What was found.
        detail: String,
    },
    /// Written by a program with another format.
    #[error(
        "metadata store {store} has format {found}, but this program reads format {supported}; use the version of Kavka that wrote it, or a newer one"
    )]
    UnsupportedFormat {
        /// Which store.
        store: String,
        /// The format in the file.
        found: i64,
        /// The format this program reads and writes.
        supported: i64,
    },
    /// The operating system refused.
    #[error("cannot {action} metadata store {store}: {source}")]
    Io {
        /// Which store.
        store: String,
        /// What was being done.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// An earlier write failed.
    #[error(
        "metadata store {store} takes no more writes since one failed; restart the broker to open it again"
    )]
    Poisoned {
        /// Which store.
        store: String,
    },
    /// No random bytes for a new id.
    #[error("cannot get random bytes for a new id: {source}")]
    Random {
        /// The system's answer.
        source: io::Error,
    },
    /// All ids are given out, or all session numbers used.
    #[error("metadata store {store} has no more {what} to give out")]
    Exhausted {
        /// Which store.
        store: String,
        /// What ran out.
        what: &'static str,
    },
}

impl MetaError {
    /// The error code on the wire.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Random { .. } | Self::Exhausted { .. } => ErrorCode::UnknownServerError,
            _ => ErrorCode::KafkaStorageError,
        }
    }
}
