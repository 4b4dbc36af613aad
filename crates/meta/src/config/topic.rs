//! Configs of topics: the table, the typed struct, validation and description.

use super::alter::MAX_VALUE_BYTES;
use super::definition::ConfigType::{Boolean, Double, Int, List, Long, String as Text};
use super::definition::{ConfigDef, Valid, Value, find};
use super::describe::{BrokerValues, ConfigEntry, ConfigSource};
use super::error::ConfigError;
use crate::image::ConfigMap;

/// Everything that can be set on a topic, sorted by name.
pub const TOPIC_CONFIGS: &[ConfigDef] = &[
    ConfigDef::new("cleanup.policy", List, Some("delete"), Valid::ListOf(&["compact", "delete"]),
        "What happens to old records: delete removes segments past the retention, compact keeps the latest record of each key, both do both, an empty list keeps everything.")
        .broker("log.cleanup.policy"),
    ConfigDef::new("compression.gzip.level", Int, Some("-1"), Valid::BetweenOr(1, 9, -1),
        "The level used when the broker compresses with gzip; -1 is the library's default.")
        .broker("compression.gzip.level"),
    ConfigDef::new("compression.lz4.level", Int, Some("9"), Valid::Between(1, 17),
        "The level used when the broker compresses with LZ4.")
        .broker("compression.lz4.level").ignored("the LZ4 library of Kavka has one level"),
    ConfigDef::new("compression.type", Text, Some("producer"),
        Valid::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "How batches are stored: as the producer compressed them (producer), not compressed, or compressed by the broker with the codec named.")
        .broker("compression.type"),
    ConfigDef::new("compression.zstd.level", Int, Some("3"), Valid::Between(-131_072, 22),
        "The level used when the broker compresses with Zstandard.")
        .broker("compression.zstd.level"),
    ConfigDef::new("delete.retention.ms", Long, Some("86400000"), Valid::AtLeast(0),
        "How long, in milliseconds, a tombstone stays readable after compaction first met it.")
        .broker("log.cleaner.delete.retention.ms"),
    ConfigDef::new("errors.deadletterqueue.group.enable", Boolean, Some("false"), Valid::Any,
        "Whether share groups may use the topic as their dead letter queue.")
        .ignored(SHARE_GROUPS),
    ConfigDef::new("file.delete.delay.ms", Long, Some("60000"), Valid::AtLeast(0),
        "How long, in milliseconds, a removed segment file stays on disk, renamed, before it is unlinked.")
        .broker("log.segment.delete.delay.ms").ignored(UNLINKED),
    ConfigDef::new("flush.messages", Long, Some("9223372036854775807"), Valid::AtLeast(1),
        "The log is synced to disk at the latest after this many records. Acknowledged records are synced anyway, unless the broker's sync policy is relaxed.")
        .broker("log.flush.interval.messages").ignored(SYNC_POLICY),
    ConfigDef::new("flush.ms", Long, Some("9223372036854775807"), Valid::AtLeast(0),
        "The log is synced to disk at the latest after this many milliseconds. Acknowledged records are synced anyway, unless the broker's sync policy is relaxed.")
        .broker("log.flush.interval.ms").fallbacks(&[("log.flush.scheduler.interval.ms", 1)]).ignored(SYNC_POLICY),
    ConfigDef::new("follower.replication.throttled.replicas", List, Some(""), Valid::ThrottledReplicas,
        "Replicas whose followers are throttled, as partition:broker pairs, or * for all.")
        .ignored(ONE_NODE),
    ConfigDef::new("index.interval.bytes", Int, Some("4096"), Valid::AtLeast(0),
        "The offset index gets an entry each time this many bytes were appended.")
        .broker("log.index.interval.bytes"),
    ConfigDef::new("internal.segment.bytes", Int, None, Valid::Any,
        "The size of a segment in bytes, without lower limit; for tests.")
        .internal(),
    ConfigDef::new("leader.replication.throttled.replicas", List, Some(""), Valid::ThrottledReplicas,
        "Replicas whose leaders are throttled, as partition:broker pairs, or * for all.")
        .ignored(ONE_NODE),
    ConfigDef::new("local.retention.bytes", Long, Some("-2"), Valid::AtLeast(-2),
        "With tiered storage, how many bytes of a partition stay on local disk; -2 takes retention.bytes.")
        .broker("log.local.retention.bytes").ignored(TIERED),
    ConfigDef::new("local.retention.ms", Long, Some("-2"), Valid::AtLeast(-2),
        "With tiered storage, how long segments stay on local disk, in milliseconds; -2 takes retention.ms.")
        .broker("log.local.retention.ms").ignored(TIERED),
    ConfigDef::new("max.compaction.lag.ms", Long, Some("9223372036854775807"), Valid::AtLeast(1),
        "The longest time, in milliseconds, that a record of a compacted topic may wait for compaction.")
        .broker("log.cleaner.max.compaction.lag.ms"),
    ConfigDef::new("max.decompressed.message.bytes", Int, Some("2147483639"), Valid::Between(1, 2_147_483_639),
        "The largest size in bytes that a compressed batch may have when it is decompressed. When not set, the limit is 16 MiB or four times max.message.bytes, whichever is more.")
        .broker("max.decompressed.message.bytes"),
    ConfigDef::new("max.message.bytes", Int, Some("1048588"), Valid::AtLeast(0),
        "The largest batch of records accepted, in bytes as sent, after compression.")
        .broker("message.max.bytes"),
    ConfigDef::new("message.timestamp.after.max.ms", Long, Some("3600000"), Valid::AtLeast(0),
        "How far, in milliseconds, a record's timestamp may lie ahead of the broker's clock. Not used with LogAppendTime.")
        .broker("log.message.timestamp.after.max.ms"),
    ConfigDef::new("message.timestamp.before.max.ms", Long, Some("9223372036854775807"), Valid::AtLeast(0),
        "How far, in milliseconds, a record's timestamp may lie behind the broker's clock. Not used with LogAppendTime.")
        .broker("log.message.timestamp.before.max.ms"),
    ConfigDef::new("message.timestamp.type", Text, Some("CreateTime"), Valid::OneOf(&["CreateTime", "LogAppendTime"]),
        "Whether records keep the time the producer gave them, or get the time of the append.")
        .broker("log.message.timestamp.type"),
    ConfigDef::new("min.cleanable.dirty.ratio", Double, Some("0.5"), Valid::Fraction(0.0, 1.0),
        "A log is compacted when this part of it, or more, has not been compacted yet.")
        .broker("log.cleaner.min.cleanable.ratio"),
    ConfigDef::new("min.compaction.lag.ms", Long, Some("0"), Valid::AtLeast(0),
        "The shortest time, in milliseconds, that a record stays uncompacted.")
        .broker("log.cleaner.min.compaction.lag.ms"),
    ConfigDef::new("min.insync.replicas", Int, Some("1"), Valid::AtLeast(1),
        "With acks=all, how many replicas must have a record before it is acknowledged.")
        .broker("min.insync.replicas").ignored(ONE_NODE),
    ConfigDef::new("preallocate", Boolean, Some("false"), Valid::Any,
        "Whether a segment file gets its full size when it is created.")
        .broker("log.preallocate").ignored(GROWING),
    ConfigDef::new("remote.copy.lag.bytes", Long, Some("-1"), Valid::AtLeast(-1),
        "With tiered storage, how many bytes of closed segments may wait before they are copied.")
        .broker("log.remote.copy.lag.bytes").ignored(TIERED),
    ConfigDef::new("remote.copy.lag.ms", Long, Some("0"), Valid::AtLeast(-1),
        "With tiered storage, how long closed segments may wait before they are copied, in milliseconds.")
        .broker("log.remote.copy.lag.ms").ignored(TIERED),
    ConfigDef::new("remote.log.copy.disable", Boolean, Some("false"), Valid::Any,
        "With tiered storage, whether copying to it is stopped.")
        .ignored(TIERED),
    ConfigDef::new("remote.log.delete.on.disable", Boolean, Some("false"), Valid::Any,
        "With tiered storage, whether its data are deleted when it is switched off for the topic.")
        .ignored(TIERED),
    ConfigDef::new("remote.storage.enable", Boolean, Some("false"), Valid::Any,
        "Whether the topic uses tiered storage, which Kavka does not have: only false is accepted.")
        .ignored(TIERED),
    ConfigDef::new("retention.bytes", Long, Some("-1"), Valid::Any,
        "The oldest segments are deleted while the partition would stay at this size in bytes or above; -1 is no limit.")
        .broker("log.retention.bytes"),
    ConfigDef::new("retention.ms", Long, Some("604800000"), Valid::AtLeast(-1),
        "A segment is deleted when its newest record is older than this many milliseconds; -1 is no limit.")
        .broker("log.retention.ms").fallbacks(&[("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)]),
    ConfigDef::new("segment.bytes", Int, Some("1073741824"), Valid::AtLeast(1_048_576),
        "The largest size of a segment file in bytes; retention and compaction work on whole segments.")
        .broker("log.segment.bytes"),
    ConfigDef::new("segment.index.bytes", Int, Some("10485760"), Valid::AtLeast(4),
        "The largest size in bytes of the index of a segment; a full index closes the segment.")
        .broker("log.index.size.max.bytes").ignored(SPARSE),
    ConfigDef::new("segment.jitter.ms", Long, Some("0"), Valid::AtLeast(0),
        "Up to this many milliseconds, chosen at random for each segment, are taken off segment.ms.")
        .broker("log.roll.jitter.ms").fallbacks(&[("log.roll.jitter.hours", 3_600_000)]),
    ConfigDef::new("segment.ms", Long, Some("604800000"), Valid::AtLeast(1),
        "A segment is closed when its records span more than this many milliseconds.")
        .broker("log.roll.ms").fallbacks(&[("log.roll.hours", 3_600_000)]),
    ConfigDef::new("unclean.leader.election.enable", Boolean, Some("false"), Valid::Any,
        "Whether a replica that is not in sync may become leader when no other is left, at the price of losing records.")
        .broker("unclean.leader.election.enable").ignored(ONE_NODE),
];

const GROWING: &str = "segment files grow as they are written";
const SPARSE: &str = "an index has as many entries as index.interval.bytes asks for";
const SYNC_POLICY: &str = "kavka.sync.policy of the broker decides for all topics; by default nothing is acknowledged before it is on disk";
const UNLINKED: &str = "the files of a removed segment are unlinked at once";
const ONE_NODE: &str = "there is one broker and no replication";
const TIERED: &str = "there is no tiered storage";
const SHARE_GROUPS: &str = "there are no share groups yet";

/// The least limit for decompressed batches where none is set, in bytes.
const MIN_DECOMPRESSED_BYTES: i32 = 16 * 1024 * 1024;

/// What is done with old records. Neither: they are kept for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Segments past the retention are deleted.
    pub delete: bool,
    /// Only the latest record of each key is kept.
    pub compact: bool,
}

/// How batches are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CompressionType {
    /// As they came.
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Which timestamp records have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The one the producer gave.
    CreateTime,
    /// The time of the append.
    LogAppendTime,
}

/// The configs of one topic that Kavka honours, in effect. Field by field the config of the same name;
/// the unit is in the name.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct TopicConfig {
    pub cleanup_policy: CleanupPolicy,
    pub compression_type: CompressionType,
    /// -1 is the library's default.
    pub compression_gzip_level: i32,
    pub compression_zstd_level: i32,
    pub delete_retention_ms: i64,
    pub index_interval_bytes: i32,
    pub max_compaction_lag_ms: i64,
    pub max_decompressed_message_bytes: i32,
    pub max_message_bytes: i32,
    pub message_timestamp_after_max_ms: i64,
    pub message_timestamp_before_max_ms: i64,
    pub message_timestamp_type: TimestampType,
    /// 0 to 1.
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    /// Negative: no limit.
    pub retention_bytes: i64,
    /// -1: no limit.
    pub retention_ms: i64,
    /// `internal.segment.bytes` where that is set.
    pub segment_bytes: i32,
    pub segment_jitter_ms: i64,
    pub segment_ms: i64,
}

impl TopicConfig {
    /// What is in effect for a topic with these overrides on a broker with these values.
    ///
    /// # Errors
    /// A value that does not parse or is out of range.
    pub fn resolve(overrides: &ConfigMap, broker: &BrokerValues<'_>) -> Result<Self, ConfigError> {
        let get = Resolver { overrides, broker };
        let policy = get.list("cleanup.policy")?;
        let max_message_bytes = get.int("max.message.bytes")?;
        let segment_bytes = match overrides.get("internal.segment.bytes") {
            Some(_) => get.int("internal.segment.bytes")?,
            None => get.int("segment.bytes")?,
        };
        let max_decompressed_message_bytes = match max_decompressed(overrides, broker) {
            Some(_) => get.int("max.decompressed.message.bytes")?,
            None => max_message_bytes.saturating_mul(4).max(MIN_DECOMPRESSED_BYTES),
        };
        Ok(Self {
            cleanup_policy: CleanupPolicy {
                delete: policy.iter().any(|word| word == "delete"),
                compact: policy.iter().any(|word| word == "compact"),
            },
            compression_type: match get.text("compression.type")?.as_str() {
                "uncompressed" => CompressionType::Uncompressed,
                "gzip" => CompressionType::Gzip,
                "snappy" => CompressionType::Snappy,
                "lz4" => CompressionType::Lz4,
                "zstd" => CompressionType::Zstd,
                _ => CompressionType::Producer,
            },
            compression_gzip_level: get.int("compression.gzip.level")?,
            compression_zstd_level: get.int("compression.zstd.level")?,
            delete_retention_ms: get.long("delete.retention.ms")?,
            index_interval_bytes: get.int("index.interval.bytes")?,
            max_compaction_lag_ms: get.long("max.compaction.lag.ms")?,
            max_decompressed_message_bytes,
            max_message_bytes,
            message_timestamp_after_max_ms: get.long("message.timestamp.after.max.ms")?,
            message_timestamp_before_max_ms: get.long("message.timestamp.before.max.ms")?,
            message_timestamp_type: match get.text("message.timestamp.type")?.as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            min_cleanable_dirty_ratio: get.double("min.cleanable.dirty.ratio")?,
            min_compaction_lag_ms: get.long("min.compaction.lag.ms")?,
            retention_bytes: get.long("retention.bytes")?,
            retention_ms: get.long("retention.ms")?,
            segment_bytes,
            segment_jitter_ms: get.long("segment.jitter.ms")?,
            segment_ms: get.long("segment.ms")?,
        })
    }
}

/// Checks all overrides of a topic, each by itself and together.
///
/// # Errors
/// The first that is wrong, in the order of their names.
pub fn validate(overrides: &ConfigMap, broker: &BrokerValues<'_>) -> Result<(), ConfigError> {
    for (name, value) in overrides {
        let definition = find(TOPIC_CONFIGS, name)
            .ok_or_else(|| ConfigError::Unknown { resource: "topic", name: name.clone() })?;
        if value.len() > MAX_VALUE_BYTES {
            return Err(ConfigError::TooLong { name: name.clone(), limit: MAX_VALUE_BYTES });
        }
        definition.parse(value)?;
    }
    let config = TopicConfig::resolve(overrides, broker)?;
    if config.min_compaction_lag_ms > config.max_compaction_lag_ms {
        return Err(ConfigError::Conflict(format!(
            "conflict topic config setting min.compaction.lag.ms ({}) > max.compaction.lag.ms ({})",
            config.min_compaction_lag_ms, config.max_compaction_lag_ms
        )));
    }
    let get = Resolver { overrides, broker };
    if get.boolean("remote.storage.enable")? {
        return Err(ConfigError::Conflict(
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
                .to_owned(),
        ));
    }
    Ok(())
}

/// Describes all configs of a topic, sorted by name; internal ones only where they are set.
#[must_use]
pub fn describe(overrides: &ConfigMap, broker: &BrokerValues<'_>) -> Vec<ConfigEntry> {
    TOPIC_CONFIGS
        .iter()
        .filter(|definition| !definition.internal || overrides.contains_key(definition.name))
        .map(|definition| {
            let mut entry = definition.describe(overrides, broker, ConfigSource::Topic);
            if definition.name == "max.decompressed.message.bytes"
                && max_decompressed(overrides, broker).is_none()
                && let Ok(config) = TopicConfig::resolve(overrides, broker)
            {
                entry.value = Some(config.max_decompressed_message_bytes.to_string());
            }
            entry
        })
        .collect()
}

/// The limit on decompressed batches, if somebody has set it.
fn max_decompressed<'a>(overrides: &'a ConfigMap, broker: &BrokerValues<'a>) -> Option<&'a str> {
    let name = "max.decompressed.message.bytes";
    overrides.get(name).map(String::as_str).or_else(|| broker.get(name))
}

/// Effective values by name. The names are those of the table and the types the table's, both checked by a test.
struct Resolver<'a> {
    overrides: &'a ConfigMap,
    broker: &'a BrokerValues<'a>,
}

impl Resolver<'_> {
    fn value(&self, name: &str) -> Result<Value, ConfigError> {
        let unknown = || ConfigError::Unknown { resource: "topic", name: name.to_owned() };
        let definition = find(TOPIC_CONFIGS, name).ok_or_else(unknown)?;
        definition.parse(&definition.effective(self.overrides, self.broker).unwrap_or_default())
    }

    fn boolean(&self, name: &str) -> Result<bool, ConfigError> {
        Ok(matches!(self.value(name)?, Value::Boolean(true)))
    }

    fn long(&self, name: &str) -> Result<i64, ConfigError> {
        match self.value(name)? {
            Value::Number(number) => Ok(number),
            other => panic!("{name} is a number in the table, not {other:?}"),
        }
    }

    fn int(&self, name: &str) -> Result<i32, ConfigError> {
        let number = self.long(name)?;
        Ok(i32::try_from(number).expect("the table says INT"))
    }

    fn double(&self, name: &str) -> Result<f64, ConfigError> {
        match self.value(name)? {
            Value::Double(number) => Ok(number),
            other => panic!("{name} is a fraction in the table, not {other:?}"),
        }
    }

    fn text(&self, name: &str) -> Result<String, ConfigError> {
        Ok(self.value(name)?.to_string())
    }

    fn list(&self, name: &str) -> Result<Vec<String>, ConfigError> {
        match self.value(name)? {
            Value::List(words) => Ok(words),
            other => panic!("{name} is a list in the table, not {other:?}"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
