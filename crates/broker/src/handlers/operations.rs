//! "Authorized operations": a bit for each operation that the client may do, where it asked for them.

/// Not asked for, or not known.
pub(crate) const NOT_ASKED: i32 = i32::MIN;
/// All that there is on a cluster: CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS,
/// IDEMPOTENT_WRITE.
pub(crate) const ALL_CLUSTER_OPERATIONS: i32 = 8096;
/// All that there is on a topic: READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS.
pub(crate) const ALL_TOPIC_OPERATIONS: i32 = 3576;

/// `operations`, if they were asked for.
pub(crate) fn if_asked(asked: bool, operations: i32) -> i32 {
    if asked { operations } else { NOT_ASKED }
}
