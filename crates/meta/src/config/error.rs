//! What is wrong with a config, in the words Kafka uses.

use kavka_protocol::ErrorCode;
use thiserror::Error;

/// Why a config is refused. The text goes to the client.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Nothing of this name can be set on this kind of resource.
    #[error("Unknown {resource} config name: {name}")]
    Unknown {
        /// "topic", "group" or "broker".
        resource: &'static str,
        /// The name given.
        name: String,
    },
    /// The value does not parse, or is out of range.
    #[error("Invalid value {value} for configuration {name}: {reason}")]
    InvalidValue {
        /// The config.
        name: String,
        /// The value given, hidden when it is a secret.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A list with nothing between two commas.
    #[error("Configuration '{name}' values must not be empty.")]
    EmptyElement {
        /// The config.
        name: String,
    },
    /// Values that are fine by themselves do not go together, or not with this broker.
    #[error("{0}")]
    Conflict(String),
    /// APPEND or SUBTRACT on a config that is not a list.
    #[error("Can't {operation} to key {name} because its type is not LIST.")]
    NotAList {
        /// The config.
        name: String,
        /// The operation, in upper case.
        operation: &'static str,
    },
    /// A value above [`super::MAX_VALUE_BYTES`].
    #[error(
        "The configuration value of {name} cannot be added because it exceeds the maximum value size of {limit} bytes."
    )]
    TooLong {
        /// The config.
        name: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// A SET, APPEND or SUBTRACT without value, or a null value in AlterConfigs.
    #[error("Null value not supported for : {name}")]
    NullValue {
        /// The config.
        name: String,
    },
    /// A null value in CreateTopics.
    #[error("Null value not supported for topic configs: {name}")]
    NullTopicValue {
        /// The config.
        name: String,
    },
    /// The same config twice in one request.
    #[error("Error due to duplicate config keys: {name}")]
    DuplicateKey {
        /// The config.
        name: String,
    },
    /// A broker config that takes effect only at the next start.
    #[error("Cannot update these configs dynamically: [{name}]")]
    NotDynamic {
        /// The config.
        name: String,
    },
    /// A bad value of a broker config, which has another code than one of a topic.
    #[error(transparent)]
    Broker(Box<ConfigError>),
    /// Configs for the group with the empty id.
    #[error("Default group resources are not allowed.")]
    DefaultGroup,
}

impl ConfigError {
    /// The error code on the wire.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NullValue { .. }
            | Self::DuplicateKey { .. }
            | Self::NotDynamic { .. }
            | Self::Broker(_)
            | Self::DefaultGroup => ErrorCode::InvalidRequest,
            _ => ErrorCode::InvalidConfig,
        }
    }
}
