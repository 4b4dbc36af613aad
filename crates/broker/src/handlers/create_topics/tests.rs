#![allow(clippy::unwrap_used)]

use kavka_meta::{ClusterMeta, EmbeddedMeta, os_random};

use super::*;

const DEFAULTS: Defaults = Defaults { node_id: 1, partitions: 3, replication_factor: 1 };

fn topic(name: &str) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions: -1,
        replication_factor: -1,
        ..Default::default()
    }
}

fn with_counts(partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic { num_partitions: partitions, replication_factor, ..topic("t") }
}

fn with_replicas(replicas: &[(i32, &[i32])]) -> CreatableTopic {
    let assignment = |(index, brokers): &(i32, &[i32])| CreatableReplicaAssignment {
        partition_index: *index,
        broker_ids: brokers.to_vec(),
        ..Default::default()
    };
    CreatableTopic { assignments: replicas.iter().map(assignment).collect(), ..topic("t") }
}

fn with_config(name: &str, value: Option<&str>) -> CreatableTopic {
    let config = CreatableTopicConfig {
        name: name.into(),
        value: value.map(Into::into),
        ..Default::default()
    };
    CreatableTopic { configs: vec![config], ..topic("t") }
}

fn image() -> Arc<MetadataImage> {
    let dir = tempfile::tempdir().unwrap();
    let meta = EmbeddedMeta::open(dir.path(), os_random()).unwrap();
    let existing = NewTopic {
        name: "a.b".to_owned(),
        partitions: 1,
        replication_factor: 1,
        configs: ConfigMap::new(),
        internal: false,
    };
    meta.create_topics(&[existing], 0).unwrap().remove(0).unwrap();
    meta.image()
}

/// Code and message of the refusal.
fn refused(topic: &CreatableTopic) -> (ErrorCode, String) {
    let refusal = check(&image(), &BrokerValues::none(), DEFAULTS, topic).unwrap_err();
    (refusal.code, refusal.message.unwrap_or_default())
}

#[test]
fn defaults_stand_in_for_minus_one() {
    let new = check(&image(), &BrokerValues::none(), DEFAULTS, &topic("t")).unwrap();
    assert_eq!((new.partitions, new.replication_factor), (3, 1));
}

/// Codes and texts as Apache Kafka 4.4 gives them.
#[test]
fn the_first_broken_rule_is_told_in_kafkas_words() {
    use ErrorCode::*;
    let cases = [
        (
            topic("__cluster_metadata"),
            InvalidRequest,
            "Creation of internal topic __cluster_metadata is prohibited.",
        ),
        (topic("a.b"), TopicAlreadyExists, "Topic 'a.b' already exists."),
        (topic("a_b"), InvalidTopicException, "Topic 'a_b' collides with existing topic: a.b"),
        (
            topic(""),
            InvalidTopicException,
            "Topic name is invalid: the empty string is not allowed",
        ),
        (with_config("nope", Some("1")), InvalidConfig, "Unknown topic config name: nope"),
        (
            with_config("retention.ms", Some("abc")),
            InvalidConfig,
            "Invalid value abc for configuration retention.ms: Not a number of type LONG",
        ),
        (
            with_config("retention.ms", Option::None),
            InvalidConfig,
            "Null value not supported for topic configs: retention.ms",
        ),
        (
            with_counts(0, -1),
            InvalidPartitions,
            "Number of partitions was set to an invalid non-positive value.",
        ),
        (
            with_counts(-2, 0),
            InvalidReplicationFactor,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ),
        (
            CreatableTopic { num_partitions: 1, ..with_replicas(&[(0, &[1])]) },
            InvalidRequest,
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        ),
        (
            with_replicas(&[(0, &[1, 1])]),
            InvalidReplicaAssignment,
            "The manual partition assignment includes the broker 1 more than once.",
        ),
        (
            with_replicas(&[(0, &[2])]),
            InvalidReplicaAssignment,
            "The manual partition assignment includes broker 2, but no such broker is registered.",
        ),
        (
            with_replicas(&[(0, &[])]),
            InvalidReplicaAssignment,
            "The manual partition assignment includes an empty replica list.",
        ),
        (
            with_replicas(&[(1, &[1])]),
            InvalidReplicaAssignment,
            "partitions should be a consecutive 0-based integer sequence",
        ),
        (
            with_replicas(&[(0, &[1]), (0, &[1])]),
            InvalidReplicaAssignment,
            "Found multiple manual partition assignments for partition 0",
        ),
    ];
    for (topic, code, message) in cases {
        assert_eq!(refused(&topic), (code, message.to_owned()), "{topic:?}");
    }
    let (code, message) = refused(&with_counts(1, 3));
    assert_eq!(code, InvalidReplicationFactor);
    assert!(message.starts_with("Unable to replicate the partition 3 time(s): "), "{message}");
}

#[test]
fn replicas_assigned_by_hand_make_the_counts() {
    let topic = with_replicas(&[(1, &[1]), (0, &[1])]);
    let new = check(&image(), &BrokerValues::none(), DEFAULTS, &topic).unwrap();
    assert_eq!((new.partitions, new.replication_factor), (2, 1));
}

#[test]
fn too_many_partitions_are_counted_over_the_whole_request() {
    let all = |topics: &[CreatableTopic]| too_many_partitions(topics, DEFAULTS);
    assert!(!all(&[with_counts(9_997, 1), topic("u")]));
    assert!(all(&[with_counts(9_998, 1), topic("u")]));
    assert!(all(&[with_counts(i32::MAX, 1), with_counts(i32::MAX, 1)]), "no overflow");
    assert!(!all(&[with_counts(-5, 1), with_counts(10_000, 1)]));
}
