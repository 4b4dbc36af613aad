//! What is wrong with a config, in the words Kafka uses.

use thiserror::Error;

use kavka_protocol::ErrorCode;

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
    #[error("Invalid value {value} for configuration {name}{}{reason}", if .reason.is_empty() { "" } else { ": " })]
    InvalidValue {
        /// The config.
        name: String,
        /// The value given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two values that are fine by themselves do not go together.
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
    /// A value above the limit of 32,767 characters.
    #[error(
        "The configuration value for {name} cannot be longer than {limit} characters, but it has {length}."
    )]
    TooLong {
        /// The config.
        name: String,
        /// Its length in characters.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A SET, APPEND or SUBTRACT without value, or a null value in AlterConfigs.
    #[error("Null value not supported for : {name}")]
    NullValue {
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
    #[error("Cannot update these configs dynamically: {name}")]
    NotDynamic {
        /// The config.
        name: String,
    },
}

impl ConfigError {
    /// The error code on the wire.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NullValue { .. } | Self::DuplicateKey { .. } | Self::NotDynamic { .. } => {
                ErrorCode::InvalidRequest
            }
            _ => ErrorCode::InvalidConfig,
        }
    }
}
