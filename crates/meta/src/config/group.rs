//! Configs of groups (resource type GROUP): the table, validation against the broker's bounds, and description.

use super::alter::MAX_VALUE_BYTES;
use super::definition::ConfigType::{Boolean, Int, List, Long, String as Text};
use super::definition::{ConfigDef, Importance, Valid, Value, find};
use super::describe::{BrokerValues, ConfigEntry, ConfigSource};
use super::error::ConfigError;
use crate::image::ConfigMap;

/// Everything that can be set on a group, sorted by name.
pub const GROUP_CONFIGS: &[ConfigDef] = &[
    ConfigDef::new(
        "consumer.assignment.interval.ms",
        Int,
        Some("1000"),
        Valid::AtLeast(0),
        "The shortest time, in milliseconds, between two assignments of a consumer group.",
    )
    .broker("group.consumer.assignment.interval.ms"),
    ConfigDef::new(
        "consumer.assignor.offload.enable",
        Boolean,
        Some("true"),
        Valid::Any,
        "Whether the assignor of a consumer group runs apart from the coordinator.",
    )
    .broker("group.consumer.assignor.offload.enable")
    .internal()
    .ignored(INLINE),
    ConfigDef::new(
        "consumer.heartbeat.interval.ms",
        Int,
        Some("5000"),
        Valid::AtLeast(1),
        "How often, in milliseconds, members of a consumer group send heartbeats.",
    )
    .broker("group.consumer.heartbeat.interval.ms"),
    ConfigDef::new(
        "consumer.session.timeout.ms",
        Int,
        Some("45000"),
        Valid::AtLeast(1),
        "After this many milliseconds without a heartbeat a member of a consumer group is removed.",
    )
    .broker("group.consumer.session.timeout.ms"),
    ConfigDef::new(
        "errors.deadletterqueue.copy.record.enable",
        Boolean,
        Some("false"),
        Valid::Any,
        "Whether the record itself goes to the dead letter queue of a share group.",
    )
    .ignored(SHARE),
    ConfigDef::new(
        "errors.deadletterqueue.topic.name",
        Text,
        Some(""),
        Valid::Any,
        "The topic that is the dead letter queue of a share group; empty is none.",
    )
    .ignored(SHARE),
    ConfigDef::new(
        "share.assignment.interval.ms",
        Int,
        Some("1000"),
        Valid::AtLeast(0),
        "The shortest time, in milliseconds, between two assignments of a share group.",
    )
    .broker("group.share.assignment.interval.ms")
    .ignored(SHARE),
    ConfigDef::new(
        "share.assignor.offload.enable",
        Boolean,
        Some("true"),
        Valid::Any,
        "Whether the assignor of a share group runs apart from the coordinator.",
    )
    .broker("group.share.assignor.offload.enable")
    .internal()
    .ignored(SHARE),
    ConfigDef::new(
        "share.auto.offset.reset",
        Text,
        Some("latest"),
        Valid::OffsetReset,
        "Where a share group starts a partition it has not read before.",
    )
    .broker("share.auto.offset.reset")
    .ignored(SHARE),
    ConfigDef::new(
        "share.delivery.count.limit",
        Int,
        Some("5"),
        Valid::AtLeast(2),
        "How often a record is delivered to a share group at most.",
    )
    .broker("group.share.delivery.count.limit")
    .ignored(SHARE),
    ConfigDef::new(
        "share.heartbeat.interval.ms",
        Int,
        Some("5000"),
        Valid::AtLeast(1),
        "How often, in milliseconds, members of a share group send heartbeats.",
    )
    .broker("group.share.heartbeat.interval.ms")
    .ignored(SHARE),
    ConfigDef::new(
        "share.isolation.level",
        Text,
        Some("read_uncommitted"),
        Valid::OneOf(&["read_committed", "read_uncommitted"]),
        "Whether a share group reads records of transactions that are not committed.",
    )
    .broker("share.isolation.level")
    .ignored(SHARE),
    ConfigDef::new(
        "share.partition.max.record.locks",
        Int,
        Some("2000"),
        Valid::AtLeast(100),
        "How many records of a partition a share group may hold at the same time.",
    )
    .broker("group.share.partition.max.record.locks")
    .ignored(SHARE),
    ConfigDef::new(
        "share.record.lock.duration.ms",
        Int,
        Some("30000"),
        Valid::AtLeast(1000),
        "How long, in milliseconds, a member of a share group may hold a record.",
    )
    .broker("group.share.record.lock.duration.ms")
    .ignored(SHARE),
    ConfigDef::new(
        "share.renew.acknowledge.enable",
        Boolean,
        Some("true"),
        Valid::Any,
        "Whether members of a share group may renew the lock of a record.",
    )
    .broker("share.renew.acknowledge.enable")
    .ignored(SHARE),
    ConfigDef::new(
        "share.session.timeout.ms",
        Int,
        Some("45000"),
        Valid::AtLeast(1),
        "After this many milliseconds without a heartbeat a member of a share group is removed.",
    )
    .broker("group.share.session.timeout.ms")
    .ignored(SHARE),
    ConfigDef::new(
        "streams.acceptable.recovery.lag",
        Long,
        Some("10000"),
        Valid::AtLeast(0),
        "How far a streams task may lag and still count as caught up.",
    )
    .broker("group.streams.acceptable.recovery.lag")
    .internal()
    .ignored(STREAMS),
    ConfigDef::new(
        "streams.assignment.interval.ms",
        Int,
        Some("1000"),
        Valid::AtLeast(0),
        "The shortest time, in milliseconds, between two assignments of a streams group.",
    )
    .broker("group.streams.assignment.interval.ms")
    .ignored(STREAMS),
    ConfigDef::new(
        "streams.assignor.name",
        Text,
        None,
        Valid::Any,
        "The assignor of a streams group.",
    )
    .ignored(STREAMS),
    ConfigDef::new(
        "streams.assignor.offload.enable",
        Boolean,
        Some("true"),
        Valid::Any,
        "Whether the assignor of a streams group runs apart from the coordinator.",
    )
    .broker("group.streams.assignor.offload.enable")
    .internal()
    .ignored(STREAMS),
    ConfigDef::new(
        "streams.heartbeat.interval.ms",
        Int,
        Some("5000"),
        Valid::AtLeast(1),
        "How often, in milliseconds, members of a streams group send heartbeats.",
    )
    .broker("group.streams.heartbeat.interval.ms")
    .ignored(STREAMS),
    ConfigDef::new(
        "streams.initial.rebalance.delay.ms",
        Int,
        Some("3000"),
        Valid::AtLeast(0),
        "How long, in milliseconds, a new streams group waits for more members.",
    )
    .broker("group.streams.initial.rebalance.delay.ms")
    .ignored(STREAMS),
    ConfigDef::new(
        "streams.num.standby.replicas",
        Int,
        Some("0"),
        Valid::AtLeast(0),
        "How many standby replicas each task of a streams group has.",
    )
    .broker("group.streams.num.standby.replicas")
    .ignored(STREAMS),
    ConfigDef::new(
        "streams.num.warmup.replicas",
        Int,
        Some("2"),
        Valid::AtLeast(0),
        "How many warmup replicas a streams group may have.",
    )
    .broker("group.streams.num.warmup.replicas")
    .internal()
    .ignored(STREAMS),
    ConfigDef::new(
        "streams.rack.aware.assignment.tags",
        List,
        Some(""),
        Valid::Any,
        "The client tags by which standby tasks of a streams group are spread.",
    )
    .importance(Importance::Low)
    .broker("group.streams.rack.aware.assignment.tags")
    .ignored(STREAMS),
    ConfigDef::new(
        "streams.session.timeout.ms",
        Int,
        Some("45000"),
        Valid::AtLeast(1),
        "After this many milliseconds without a heartbeat a member of a streams group is removed.",
    )
    .broker("group.streams.session.timeout.ms")
    .ignored(STREAMS),
    ConfigDef::new(
        "streams.task.offset.interval.ms",
        Int,
        Some("60000"),
        Valid::AtLeast(1),
        "How often, in milliseconds, members of a streams group report the offsets of their tasks.",
    )
    .broker("group.streams.task.offset.interval.ms")
    .internal()
    .ignored(STREAMS),
];

const INLINE: &str = "assignors run in the coordinator";
const SHARE: &str = "there are no share groups yet";
const STREAMS: &str = "there are no streams groups yet";

/// A bound that a broker config sets, and that config's default.
type Bound = Option<(&'static str, i64)>;

/// Group config, lower bound, upper bound.
const BOUNDS: &[(&str, Bound, Bound)] = &[
    (
        "consumer.assignment.interval.ms",
        Some(("group.consumer.min.assignment.interval.ms", 0)),
        Some(("group.consumer.max.assignment.interval.ms", 15_000)),
    ),
    (
        "consumer.heartbeat.interval.ms",
        Some(("group.consumer.min.heartbeat.interval.ms", 5_000)),
        Some(("group.consumer.max.heartbeat.interval.ms", 15_000)),
    ),
    (
        "consumer.session.timeout.ms",
        Some(("group.consumer.min.session.timeout.ms", 45_000)),
        Some(("group.consumer.max.session.timeout.ms", 60_000)),
    ),
    (
        "share.assignment.interval.ms",
        Some(("group.share.min.assignment.interval.ms", 0)),
        Some(("group.share.max.assignment.interval.ms", 15_000)),
    ),
    (
        "share.delivery.count.limit",
        Some(("group.share.min.delivery.count.limit", 2)),
        Some(("group.share.max.delivery.count.limit", 10)),
    ),
    (
        "share.heartbeat.interval.ms",
        Some(("group.share.min.heartbeat.interval.ms", 5_000)),
        Some(("group.share.max.heartbeat.interval.ms", 15_000)),
    ),
    (
        "share.partition.max.record.locks",
        Some(("group.share.min.partition.max.record.locks", 100)),
        Some(("group.share.max.partition.max.record.locks", 4_000)),
    ),
    (
        "share.record.lock.duration.ms",
        Some(("group.share.min.record.lock.duration.ms", 15_000)),
        Some(("group.share.max.record.lock.duration.ms", 60_000)),
    ),
    (
        "share.session.timeout.ms",
        Some(("group.share.min.session.timeout.ms", 45_000)),
        Some(("group.share.max.session.timeout.ms", 60_000)),
    ),
    (
        "streams.assignment.interval.ms",
        Some(("group.streams.min.assignment.interval.ms", 0)),
        Some(("group.streams.max.assignment.interval.ms", 15_000)),
    ),
    (
        "streams.heartbeat.interval.ms",
        Some(("group.streams.min.heartbeat.interval.ms", 5_000)),
        Some(("group.streams.max.heartbeat.interval.ms", 15_000)),
    ),
    ("streams.num.standby.replicas", None, Some(("group.streams.max.standby.replicas", 2))),
    ("streams.num.warmup.replicas", None, Some(("group.streams.max.warmup.replicas", 20))),
    (
        "streams.session.timeout.ms",
        Some(("group.streams.min.session.timeout.ms", 45_000)),
        Some(("group.streams.max.session.timeout.ms", 60_000)),
    ),
    (
        "streams.task.offset.interval.ms",
        Some(("group.streams.min.task.offset.interval.ms", 15_000)),
        None,
    ),
];

/// Session timeouts and the heartbeat intervals that have to be below them.
const SESSIONS: &[(&str, &str)] = &[
    ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"),
    ("share.session.timeout.ms", "share.heartbeat.interval.ms"),
    ("streams.session.timeout.ms", "streams.heartbeat.interval.ms"),
];

/// The configs of one consumer group (KIP-848) in effect. The unit is in the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ConsumerGroupConfig {
    pub assignment_interval_ms: i32,
    pub heartbeat_interval_ms: i32,
    pub session_timeout_ms: i32,
}

impl ConsumerGroupConfig {
    /// What is in effect for a group with these configs on a broker with these values. A stored value
    /// that the broker's bounds, changed since, do not allow counts as the nearest that they do.
    ///
    /// # Errors
    /// A value that does not parse or is out of range.
    pub fn resolve(configs: &ConfigMap, broker: &BrokerValues<'_>) -> Result<Self, ConfigError> {
        let get = |name: &str| -> Result<i32, ConfigError> {
            let value = number(name, configs, broker)?;
            let bounded = match BOUNDS.iter().find(|(bounded, ..)| *bounded == name) {
                Some((_, low, high)) => {
                    let low = low.map_or(i64::MIN, |low| bound(low, broker));
                    value.max(low).min(high.map_or(i64::MAX, |high| bound(high, broker)))
                }
                None => value,
            };
            Ok(i32::try_from(bounded).unwrap_or(i32::MAX))
        };
        Ok(Self {
            assignment_interval_ms: get("consumer.assignment.interval.ms")?,
            heartbeat_interval_ms: get("consumer.heartbeat.interval.ms")?,
            session_timeout_ms: get("consumer.session.timeout.ms")?,
        })
    }
}

/// Checks all configs of a group, each by itself, against the broker's bounds, and together.
///
/// # Errors
/// The first that is wrong.
pub fn validate(
    group_id: &str,
    configs: &ConfigMap,
    broker: &BrokerValues<'_>,
) -> Result<(), ConfigError> {
    if group_id.is_empty() {
        return Err(ConfigError::DefaultGroup);
    }
    for (name, value) in configs {
        let definition = find(GROUP_CONFIGS, name)
            .ok_or_else(|| ConfigError::Unknown { resource: "group", name: name.clone() })?;
        if value.len() > MAX_VALUE_BYTES {
            return Err(ConfigError::TooLong { name: name.clone(), limit: MAX_VALUE_BYTES });
        }
        definition.parse(value)?;
    }
    for (name, low, high) in BOUNDS.iter().filter(|(name, ..)| configs.contains_key(*name)) {
        let value = number(name, configs, broker)?;
        if let Some(low) = low
            && value < bound(*low, broker)
        {
            let message = format!("{name} must be greater than or equal to {}", low.0);
            return Err(ConfigError::Conflict(message));
        }
        if let Some(high) = high
            && value > bound(*high, broker)
        {
            let message = format!("{name} must be less than or equal to {}", high.0);
            return Err(ConfigError::Conflict(message));
        }
    }
    for (session, heartbeat) in SESSIONS {
        let set = configs.contains_key(*session) || configs.contains_key(*heartbeat);
        if set && number(session, configs, broker)? <= number(heartbeat, configs, broker)? {
            return Err(ConfigError::Conflict(format!(
                "{session} must be greater than {heartbeat}"
            )));
        }
    }
    Ok(())
}

/// Describes all configs of a group, sorted by name; internal ones only where they are set.
#[must_use]
pub fn describe(configs: &ConfigMap, broker: &BrokerValues<'_>) -> Vec<ConfigEntry> {
    GROUP_CONFIGS
        .iter()
        .filter(|definition| !definition.internal || configs.contains_key(definition.name))
        .map(|definition| definition.describe(configs, broker, ConfigSource::Group))
        .collect()
}

fn number(name: &str, configs: &ConfigMap, broker: &BrokerValues<'_>) -> Result<i64, ConfigError> {
    let unknown = || ConfigError::Unknown { resource: "group", name: name.to_owned() };
    let definition = find(GROUP_CONFIGS, name).ok_or_else(unknown)?;
    match definition.parse(&definition.effective(configs, broker).unwrap_or_default())? {
        Value::Number(number) => Ok(number),
        other => panic!("{name} is a number in the table, not {other:?}"),
    }
}

/// The bound in effect; the broker's own values were checked when they were set.
fn bound((key, default): (&str, i64), broker: &BrokerValues<'_>) -> i64 {
    broker.get(key).and_then(|text| text.trim().parse().ok()).unwrap_or(default)
}

#[cfg(test)]
mod tests;
