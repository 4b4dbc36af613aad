//! The settings of the group coordinator, under the names Kafka's broker has for them.

use std::time::Duration;

/// Settings of a shard. Ranges are checked where the broker reads its configuration, not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout: Duration,
    /// `group.initial.rebalance.delay.ms`: how long a group that was empty waits for more members (KIP-134).
    pub initial_rebalance_delay: Duration,
    /// `group.max.size` (KIP-389).
    pub max_size: usize,
    /// Bound on member ids that were handed out and have not come back (KIP-394), per group.
    pub max_pending_members: usize,
    /// How long a member that joins for the first time may wait in its first JoinGroup. It cannot heartbeat in that time, so
    /// its session timeout does not apply. Kafka: five minutes, not configurable.
    pub new_member_join_timeout: Duration,
    /// How long a member id that was handed out still holds a rebalance after the same client asked for another one.
    pub superseded_member_grace: Duration,
    /// `offset.metadata.max.bytes`; counted in UTF-16 code units, as Kafka does.
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval: Duration,
    /// `kavka.group.member.max.metadata.bytes`: how much one member's protocols may take, names and subscriptions together.
    pub max_member_metadata: usize,
    /// `kavka.group.max.metadata.bytes`: the same for all members of a group together.
    pub max_group_metadata: usize,
    /// The largest batch of records the log takes in one append, in bytes of keys and values. What a request wants to write
    /// beyond that is refused before it is appended; the coordinator's own cleaning is cut into several batches.
    pub max_batch_bytes: usize,
}

impl Default for GroupConfig {
    /// The defaults of Apache Kafka 4.x.
    fn default() -> Self {
        Self {
            min_session_timeout: Duration::from_millis(6_000),
            max_session_timeout: Duration::from_millis(1_800_000),
            initial_rebalance_delay: Duration::from_millis(3_000),
            max_size: i32::MAX as usize,
            max_pending_members: 10_000,
            new_member_join_timeout: Duration::from_secs(300),
            superseded_member_grace: Duration::from_millis(500),
            offset_metadata_max: 4_096,
            offsets_retention: Duration::from_secs(10_080 * 60),
            offsets_retention_check_interval: Duration::from_millis(600_000),
            max_member_metadata: usize::MAX,
            max_group_metadata: usize::MAX,
            max_batch_bytes: 1_048_588,
        }
    }
}
