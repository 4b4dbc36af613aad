#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::topic::tests::{assert_like_kafka, kafka};

fn map<const N: usize>(entries: [(&str, &str); N]) -> ConfigMap {
    entries.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

#[test]
fn the_table_is_kafkas() {
    assert_like_kafka(GROUP_CONFIGS, "group (dynamic, per group)");
}

#[test]
fn bounds_and_their_defaults_are_kafkas() {
    let mut rows = kafka("group-coordinator");
    rows.extend(kafka("share-group"));
    for (name, low, high) in BOUNDS {
        assert!(find(GROUP_CONFIGS, name).is_some(), "{name}");
        for (key, default) in [low, high].into_iter().flatten() {
            assert_eq!(rows[key][1], default.to_string(), "{key}");
        }
    }
}

/// What Apache Kafka answered to the same values.
#[test]
fn bad_values_are_refused_in_kafkas_words() {
    let reset = "The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'.";
    let cases = [
        ("foo", "1", "Unknown group config name: foo".to_owned()),
        ("consumer.session.timeout.ms", "1",
            "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms".to_owned()),
        ("consumer.session.timeout.ms", "99999999",
            "consumer.session.timeout.ms must be less than or equal to group.consumer.max.session.timeout.ms".to_owned()),
        ("streams.num.standby.replicas", "5",
            "streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas".to_owned()),
        ("share.record.lock.duration.ms", "1",
            "Invalid value 1 for configuration share.record.lock.duration.ms: Value must be at least 1000".to_owned()),
        ("share.isolation.level", "READ_COMMITTED",
            "Invalid value READ_COMMITTED for configuration share.isolation.level: String must be one of: read_committed, read_uncommitted".to_owned()),
        ("share.auto.offset.reset", "by_duration:-PT1H",
            format!("Invalid value by_duration:-PT1H for configuration share.auto.offset.reset: Invalid value `by_duration:-PT1H` for configuration share.auto.offset.reset. {reset}")),
    ];
    for (name, value, message) in cases {
        let error = validate("g", &map([(name, value)]), &BrokerValues::none()).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.code(), kavka_protocol::ErrorCode::InvalidConfig);
    }
    let error = validate("", &map([]), &BrokerValues::none()).unwrap_err();
    assert_eq!(error.code(), kavka_protocol::ErrorCode::InvalidRequest);
}

#[test]
fn offset_resets_by_duration() {
    let ok = |value: &str| {
        validate("g", &map([("share.auto.offset.reset", value)]), &BrokerValues::none()).is_ok()
    };
    for good in [
        "latest",
        "earliest",
        "by_duration:PT1H",
        "by_duration:P3DT4H",
        "by_duration:P1D",
        "by_duration:PT1H2M3.5S",
    ] {
        assert!(ok(good), "{good}");
    }
    for bad in [
        "",
        "LATEST",
        "by_duration:",
        "by_duration:P",
        "by_duration:PT",
        "by_duration:P1DT",
        "by_duration:1H",
        "by_duration:PT1H1H",
        "by_duration:PT1.5H",
        "by_duration:PT-1S",
        "by_duration:P1Y",
    ] {
        assert!(!ok(bad), "{bad}");
    }
}

#[test]
fn the_session_has_to_outlast_the_heartbeat() {
    let fixed = map([
        ("group.consumer.min.session.timeout.ms", "1000"),
        ("group.consumer.max.heartbeat.interval.ms", "60000"),
    ]);
    let broker = BrokerValues { fixed: &fixed, ..BrokerValues::none() };
    let configs =
        map([("consumer.session.timeout.ms", "6000"), ("consumer.heartbeat.interval.ms", "6000")]);
    assert_eq!(
        validate("g", &configs, &broker).unwrap_err().to_string(),
        "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms"
    );
    assert!(validate("g", &map([("consumer.session.timeout.ms", "6000")]), &broker).is_ok());
}

#[test]
fn what_is_in_effect_comes_from_the_group_then_the_broker_and_stays_in_bounds() {
    let fixed = map([("group.consumer.session.timeout.ms", "50000")]);
    let broker = BrokerValues { fixed: &fixed, ..BrokerValues::none() };
    let resolve = |configs: &ConfigMap| ConsumerGroupConfig::resolve(configs, &broker).unwrap();
    let defaults = resolve(&ConfigMap::new());
    assert_eq!(
        defaults,
        ConsumerGroupConfig {
            assignment_interval_ms: 1000,
            heartbeat_interval_ms: 5000,
            session_timeout_ms: 50_000
        }
    );
    assert_eq!(
        resolve(&map([("consumer.session.timeout.ms", "46000")])).session_timeout_ms,
        46_000
    );
    assert_eq!(
        resolve(&map([("consumer.session.timeout.ms", "99000")])).session_timeout_ms,
        60_000
    );

    let entries = describe(&map([("consumer.session.timeout.ms", "46000")]), &broker);
    let entry = entries.iter().find(|entry| entry.name == "consumer.session.timeout.ms").unwrap();
    assert_eq!(entry.source, ConfigSource::Group);
    assert_eq!(entry.synonyms.iter().map(|s| s.source.id()).collect::<Vec<_>>(), [8, 4, 5]);
}
