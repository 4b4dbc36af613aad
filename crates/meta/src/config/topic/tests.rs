#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;
use crate::config::{Effect, Importance};

/// Kafka 4.4.0's own list of configs, as it prints them.
const KAFKA: &str = include_str!("../../../tests/data/broker_configs.tsv");

/// The rows of one section: name to (type, default, valid, importance, internal).
pub(crate) fn kafka(section: &str) -> BTreeMap<&'static str, [&'static str; 5]> {
    KAFKA
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter(|row| row[0] == section)
        .map(|row| (row[1], [row[2], row[3], row[4], row[5], row[6]]))
        .collect()
}

/// Compares a table with Kafka's, column by column.
pub(crate) fn assert_like_kafka(table: &'static [ConfigDef], section: &str) {
    assert!(table.is_sorted_by(|a, b| a.name < b.name), "find() needs the order");
    let rows = kafka(section);
    assert!(!rows.is_empty());
    assert_eq!(
        table.iter().map(|definition| definition.name).collect::<Vec<_>>(),
        rows.keys().copied().collect::<Vec<_>>()
    );
    for definition in table {
        let importance = match definition.importance {
            Importance::High => "high",
            Importance::Medium => "medium",
            Importance::Low => "low",
        };
        let ours = [
            &*definition.kind.name().to_lowercase(),
            definition.default.unwrap_or("null"),
            &definition.valid.to_string(),
            importance,
            if definition.internal { "y" } else { "n" },
        ];
        assert_eq!(ours, rows[definition.name], "{}", definition.name);
        if let Some(default) = definition.default {
            assert_eq!(
                definition.normalize(default).as_deref(),
                Ok(default),
                "{}",
                definition.name
            );
        }
        assert!(definition.doc.ends_with('.'), "{}", definition.name);
        assert!(!matches!(definition.effect, Effect::Refused(_)), "{}", definition.name);
    }
}

fn map<const N: usize>(entries: [(&str, &str); N]) -> ConfigMap {
    entries.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn entry(overrides: &ConfigMap, broker: &BrokerValues<'_>, name: &str) -> ConfigEntry {
    describe(overrides, broker).into_iter().find(|entry| entry.name == name).unwrap()
}

#[test]
fn the_table_is_kafkas() {
    assert_like_kafka(TOPIC_CONFIGS, "topic");
}

#[test]
fn the_broker_configs_behind_topic_configs_exist_and_have_the_same_default() {
    let all: BTreeMap<_, _> = ["log", "log-cleaner", "server", "replication", "broker-other"]
        .into_iter()
        .flat_map(kafka)
        .collect();
    for definition in TOPIC_CONFIGS {
        let Some(key) = definition.broker_key else { continue };
        let expected = match definition.fallbacks {
            [] => definition.default.unwrap(),
            _ => "null",
        };
        assert_eq!(all[key][1], expected, "{key}");
        for (fallback, _) in definition.fallbacks {
            assert!(all.contains_key(fallback), "{fallback}");
        }
    }
}

#[test]
fn every_field_resolves_from_the_defaults() {
    let config = TopicConfig::resolve(&ConfigMap::new(), &BrokerValues::none()).unwrap();
    assert_eq!(config.cleanup_policy, CleanupPolicy { delete: true, compact: false });
    assert_eq!(config.compression_type, CompressionType::Producer);
    assert_eq!((config.retention_ms, config.retention_bytes), (604_800_000, -1));
    assert_eq!((config.segment_bytes, config.segment_ms), (1 << 30, 604_800_000));
    assert_eq!(
        (config.max_message_bytes, config.max_decompressed_message_bytes),
        (1_048_588, 16 << 20)
    );
    assert_eq!(config.message_timestamp_type, TimestampType::CreateTime);
    assert!((config.min_cleanable_dirty_ratio - 0.5).abs() < f64::EPSILON);
}

#[test]
fn the_nearest_place_wins() {
    let (fixed, default, own) = (
        map([("log.segment.bytes", "2000000"), ("log.retention.hours", "1")]),
        map([("log.segment.bytes", "3000000"), ("log.cleanup.policy", "compact")]),
        map([("log.segment.bytes", "4000000")]),
    );
    let broker = BrokerValues { dynamic: &own, dynamic_default: &default, fixed: &fixed };
    let overrides = map([("segment.bytes", " 5000000 ")]);

    let config = TopicConfig::resolve(&overrides, &broker).unwrap();
    assert_eq!((config.segment_bytes, config.retention_ms), (5_000_000, 3_600_000));
    assert_eq!(config.cleanup_policy, CleanupPolicy { delete: false, compact: true });

    let described = entry(&overrides, &broker, "segment.bytes");
    assert_eq!(
        (described.value.as_deref(), described.source),
        (Some("5000000"), ConfigSource::Topic)
    );
    let synonyms: Vec<_> = described
        .synonyms
        .iter()
        .map(|synonym| (synonym.name, synonym.value.as_deref().unwrap(), synonym.source.id()))
        .collect();
    assert_eq!(
        synonyms,
        [
            ("segment.bytes", "5000000", 1),
            ("log.segment.bytes", "4000000", 2),
            ("log.segment.bytes", "3000000", 3),
            ("log.segment.bytes", "2000000", 4),
            ("log.segment.bytes", "1073741824", 5),
        ]
    );
    // As Kafka does: a value that comes from another unit is described as a default.
    let retention = entry(&ConfigMap::new(), &broker, "retention.ms");
    assert_eq!((retention.value.as_deref(), retention.source.id()), (Some("3600000"), 5));
    assert!(retention.synonyms.is_empty());
    assert_eq!(entry(&ConfigMap::new(), &broker, "cleanup.policy").source.id(), 3);
}

#[test]
fn the_first_unit_that_is_set_wins() {
    let retention = |fixed: &ConfigMap| {
        let broker = BrokerValues { fixed, ..BrokerValues::none() };
        TopicConfig::resolve(&ConfigMap::new(), &broker).unwrap().retention_ms
    };
    assert_eq!(retention(&map([("log.retention.hours", "2")])), 7_200_000);
    assert_eq!(
        retention(&map([("log.retention.hours", "2"), ("log.retention.minutes", "5")])),
        300_000
    );
    assert_eq!(retention(&map([("log.retention.minutes", "5"), ("log.retention.ms", "9")])), 9);
    assert_eq!(retention(&map([("log.retention.hours", "-1")])), -1);
}

#[test]
fn the_limit_on_decompressed_batches_follows_the_batch_size() {
    let limit = |overrides: ConfigMap| {
        let config = TopicConfig::resolve(&overrides, &BrokerValues::none()).unwrap();
        let shown = entry(&overrides, &BrokerValues::none(), "max.decompressed.message.bytes");
        assert_eq!(shown.value, Some(config.max_decompressed_message_bytes.to_string()));
        config.max_decompressed_message_bytes
    };
    assert_eq!(limit(map([("max.message.bytes", "10000000")])), 40_000_000);
    assert_eq!(limit(map([("max.message.bytes", "2147483647")])), i32::MAX);
    assert_eq!(limit(map([("max.decompressed.message.bytes", "5")])), 5);
}

/// What Apache Kafka answered to the same values.
#[test]
fn bad_values_are_refused_in_kafkas_words() {
    let cases = [
        ("retention.ms", "abc", "Not a number of type LONG"),
        ("retention.ms", "", "Not a number of type LONG"),
        ("retention.ms", "0x10", "Not a number of type LONG"),
        ("retention.ms", "9223372036854775808", "Not a number of type LONG"),
        ("retention.ms", "-2", "Value must be at least -1"),
        ("segment.bytes", "3000000000", "Not a number of type INT"),
        ("segment.bytes", "5", "Value must be at least 1048576"),
        ("segment.ms", "0", "Value must be at least 1"),
        ("cleanup.policy", "foo", "String must be one of: compact, delete"),
        (
            "compression.type",
            "GZIP",
            "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer",
        ),
        ("compression.gzip.level", "0", "Value must be between 1 and 9 or equal to -1"),
        ("compression.lz4.level", "18", "Value must be no more than 17"),
        ("compression.zstd.level", "23", "Value must be no more than 22"),
        ("preallocate", "maybe", "Expected value to be either true or false"),
        ("min.cleanable.dirty.ratio", "1.5", "Value must be no more than 1"),
        ("min.cleanable.dirty.ratio", "-0.1", "Value must be at least 0"),
        ("min.cleanable.dirty.ratio", "x", "Not a number of type DOUBLE"),
        ("message.timestamp.type", "foo", "String must be one of: CreateTime, LogAppendTime"),
        ("min.insync.replicas", "0", "Value must be at least 1"),
        ("local.retention.ms", "-3", "Value must be at least -2"),
        ("max.message.bytes", "-1", "Value must be at least 0"),
    ];
    for (name, value, reason) in cases {
        let error = validate(&map([(name, value)]), &BrokerValues::none()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("Invalid value {value} for configuration {name}: {reason}")
        );
        assert_eq!(error.code(), kavka_protocol::ErrorCode::InvalidConfig);
    }
    let whole = [
        ("foo", "bar", "Unknown topic config name: foo"),
        (
            "cleanup.policy",
            "delete,,compact",
            "Configuration 'cleanup.policy' values must not be empty.",
        ),
        (
            "leader.replication.throttled.replicas",
            "1:1,x",
            "Invalid value [1:1, x] for configuration leader.replication.throttled.replicas: leader.replication.throttled.replicas must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...",
        ),
        (
            "remote.storage.enable",
            "true",
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.",
        ),
    ];
    for (name, value, message) in whole {
        let error = validate(&map([(name, value)]), &BrokerValues::none()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let error = validate(
        &map([("min.compaction.lag.ms", "5"), ("max.compaction.lag.ms", "2")]),
        &BrokerValues::none(),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "conflict topic config setting min.compaction.lag.ms (5) > max.compaction.lag.ms (2)"
    );
}

#[test]
fn the_compaction_lags_are_compared_with_what_the_broker_has() {
    let fixed = map([("log.cleaner.max.compaction.lag.ms", "100")]);
    let broker = BrokerValues { fixed: &fixed, ..BrokerValues::none() };
    assert!(validate(&map([("min.compaction.lag.ms", "100")]), &broker).is_ok());
    assert!(validate(&map([("min.compaction.lag.ms", "101")]), &broker).is_err());
}

/// What Apache Kafka accepted, and what it described afterwards.
#[test]
fn good_values_are_described_in_their_usual_form() {
    let cases = [
        ("retention.ms", " 100 ", "100"),
        ("retention.ms", "+5", "5"),
        ("retention.bytes", "-5", "-5"),
        ("cleanup.policy", "", ""),
        ("cleanup.policy", " delete , compact ", "delete,compact"),
        ("cleanup.policy", "delete,delete", "delete"),
        ("preallocate", " TRUE ", "true"),
        ("min.cleanable.dirty.ratio", "1e-1", "0.1"),
        ("min.cleanable.dirty.ratio", "0.50", "0.5"),
        ("leader.replication.throttled.replicas", "*", "*"),
        ("leader.replication.throttled.replicas", "1:1,1:1", "1:1,1:1"),
        ("leader.replication.throttled.replicas", "", ""),
        ("internal.segment.bytes", "100", "100"),
        ("remote.storage.enable", "false", "false"),
    ];
    for (name, value, shown) in cases {
        let overrides = map([(name, value)]);
        validate(&overrides, &BrokerValues::none()).unwrap();
        let entry = entry(&overrides, &BrokerValues::none(), name);
        assert_eq!(
            (entry.value.as_deref(), entry.source),
            (Some(shown), ConfigSource::Topic),
            "{name}={value}"
        );
    }
}

#[test]
fn small_segments_are_for_tests_and_not_listed() {
    let overrides = map([("internal.segment.bytes", "100")]);
    assert_eq!(TopicConfig::resolve(&overrides, &BrokerValues::none()).unwrap().segment_bytes, 100);
    let names = |overrides: &ConfigMap| describe(overrides, &BrokerValues::none()).len();
    assert_eq!(names(&overrides), TOPIC_CONFIGS.len());
    assert_eq!(names(&ConfigMap::new()), TOPIC_CONFIGS.len() - 1);
}
