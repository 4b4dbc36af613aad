//! Why a change was refused: the error code, and the sentence that goes with it.

use kavka_meta::{AlterConfigsError, MetaError, TopicError, config::ConfigError};
use kavka_protocol::ErrorCode;

/// An error code and a message for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: Option<String>,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()) }
    }

    /// The code with the text that everyone knows it by.
    pub(crate) fn plain(code: ErrorCode) -> Self {
        Self::new(code, code.message())
    }
}

impl From<TopicError> for Refusal {
    fn from(error: TopicError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<&MetaError> for Refusal {
    /// Paths and system errors are for the log, not for clients.
    fn from(error: &MetaError) -> Self {
        Self::plain(error.code())
    }
}

impl From<AlterConfigsError> for Refusal {
    fn from(error: AlterConfigsError) -> Self {
        match error {
            AlterConfigsError::Config(error) => error.into(),
            AlterConfigsError::Topic(TopicError::UnknownTopic { topic }) => Self::new(
                ErrorCode::UnknownTopicOrPartition,
                format!("The topic '{topic}' does not exist."),
            ),
            AlterConfigsError::Topic(error) => error.into(),
            AlterConfigsError::Meta(error) => {
                tracing::error!("cannot alter configs: {error}");
                Self::from(&error)
            }
            error => Self::plain(error.code()),
        }
    }
}

/// Checks replicas that were assigned by hand to one partition.
pub(crate) fn check_replicas(broker_ids: &[i32], node_id: i32) -> Result<(), Refusal> {
    let invalid = |message: String| {
        Err(Refusal::new(
            ErrorCode::InvalidReplicaAssignment,
            format!("The manual partition assignment includes {message}"),
        ))
    };
    let mut sorted = broker_ids.to_vec();
    sorted.sort_unstable();
    if sorted.is_empty() {
        return invalid("an empty replica list.".to_owned());
    }
    if let Some(unknown) = sorted.iter().find(|id| **id != node_id) {
        return invalid(format!("broker {unknown}, but no such broker is registered."));
    }
    if sorted.len() > 1 {
        return invalid(format!("the broker {node_id} more than once."));
    }
    Ok(())
}
