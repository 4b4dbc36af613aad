//! What can go wrong in a test.

use std::{io, time::Duration};

use kavka_broker::{InspectError, StartError, config::ConfigError};

use crate::waits::{Group, GroupCondition};

/// Why the broker could not do what a test asked for. Its debug form is its message, which is what `unwrap` shows.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A property was refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A property that the test kit sets itself.
    #[error("{name} is not for a test to set: {reason}")]
    Reserved {
        /// The property.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// The broker did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No port, thread or directory could be had for it.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The broker did not stop cleanly. What was acknowledged is there all the same.
    #[error("the broker did not stop cleanly: {0}")]
    Stop(String),
    /// A topic, group or partition is not there, or a topic was refused.
    #[error(transparent)]
    Inspect(InspectError),
    /// The broker was stopped or crashed; [`restart`](crate::TestBroker::restart) starts it again.
    #[error("the broker is down: it was stopped or crashed and not restarted")]
    Down,
    /// The storage is the machine's, whose power is not the test's to cut.
    #[error("only storage in memory can lose its power: use Storage::Memory")]
    NoPowerLoss,
    /// The group did not become what was waited for.
    #[error("group {group_id} was not {condition} within {timeout:?}: it is {group}", group_id = group.id)]
    Group {
        /// The group as it was at the end of the wait.
        group: Box<Group>,
        /// What was waited for.
        condition: GroupCondition,
        /// How long.
        timeout: Duration,
    },
    /// A topic did not get as many records as were waited for.
    #[error(
        "{topic} did not have {wanted} records within {timeout:?}: it has {found}, its partitions end at {end_offsets:?}"
    )]
    Records {
        /// The topic.
        topic: String,
        /// How many were waited for.
        wanted: u64,
        /// How many it has.
        found: u64,
        /// Where its partitions end.
        end_offsets: Vec<i64>,
        /// How long.
        timeout: Duration,
    },
    /// A rule did not act on as many requests as were waited for.
    #[error("the rule \"{rule}\" did not hit {wanted} requests within {timeout:?}: it hit {found}")]
    Hits {
        /// The rule.
        rule: String,
        /// How many were waited for.
        wanted: u64,
        /// How many there were.
        found: u64,
        /// How long.
        timeout: Duration,
    },
    /// A group did not commit what was waited for.
    #[error("group {group} did not commit {wanted} for {topic}-{partition} within {timeout:?}: {}", committed(*.found))]
    Committed {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that was waited for.
        wanted: i64,
        /// What it has committed.
        found: Option<i64>,
        /// How long.
        timeout: Duration,
    },
}

impl From<InspectError> for Error {
    fn from(error: InspectError) -> Self {
        match error {
            InspectError::Gone => Error::Down,
            error => Error::Inspect(error),
        }
    }
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

fn committed(found: Option<i64>) -> String {
    found.map_or("nothing is committed".to_owned(), |offset| format!("{offset} is committed"))
}
