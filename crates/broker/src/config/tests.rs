#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use kavka_meta::config::{ConfigSource, Effect, Importance};

use super::*;

/// Kafka 4.4.0's own list of configs, as it prints them.
const KAFKA: &str = include_str!("../../../meta/tests/data/broker_configs.tsv");

/// Where our default is not Kafka's, and why.
const OTHER_DEFAULTS: &[(&str, &str)] = &[
    ("controller.listener.names", "required by Kafka; here there are none"),
    ("group.max.size", "bounded by default"),
    ("listeners", "without authentication, only this machine can connect unless told otherwise"),
    ("log.dir", "a directory that survives a reboot"),
    ("max.connection.creation.rate", "bounded by default"),
    ("max.connections", "bounded by default"),
    ("max.connections.per.ip", "bounded by default"),
    ("node.id", "required by Kafka; one broker needs no choice"),
    ("offsets.topic.replication.factor", "one broker"),
    ("offsets.topic.segment.bytes", "a start reads the newest segments whole: this bounds it"),
    ("process.roles", "required by Kafka; one process is all there is"),
    ("sasl.kerberos.kinit.cmd", "a path, which Kafka's list leaves out"),
    ("socket.request.max.bytes", "bounded by default"),
    ("transaction.state.log.min.isr", "one broker"),
    ("transaction.state.log.replication.factor", "one broker"),
];

fn load(
    file: Option<&Path>,
    properties: &[(&str, &str)],
    env: &[(&str, &str)],
) -> Result<BrokerConfig, ConfigError> {
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    BrokerConfig::load(LoadOptions {
        file,
        properties: owned(properties),
        env: owned(env),
        reserved_env: &["KAVKA_LOG"],
    })
}

fn flags(properties: &[(&str, &str)]) -> BrokerConfig {
    load(None, properties, &[]).unwrap()
}

fn refused(properties: &[(&str, &str)]) -> String {
    load(None, properties, &[]).unwrap_err().to_string()
}

/// Loads a file of this name and text.
fn from_file(name: &str, text: &str) -> (Result<BrokerConfig, ConfigError>, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    (load(Some(&path), &[], &[]), path.display().to_string())
}

#[test]
fn the_table_has_all_of_kafkas_settings_as_kafka_has_them() {
    assert!(BROKER_CONFIGS.is_sorted_by(|a, b| a.name < b.name), "find_setting() needs the order");
    let rows: BTreeMap<&str, Vec<&str>> = KAFKA
        .lines()
        .skip(1)
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter(|row| row[0] != "topic" && !row[0].starts_with("group (dynamic"))
        .map(|row| (row[1], row))
        .collect();
    assert_eq!(rows.len(), 379);
    let mut other_defaults = BTreeSet::new();
    for (name, row) in &rows {
        let ours = find_setting(name).unwrap_or_else(|| panic!("{name} is missing"));
        let importance = match ours.importance {
            Importance::High => "high",
            Importance::Medium => "medium",
            Importance::Low => "low",
        };
        let columns = [
            &*ours.kind.name().to_lowercase(),
            &ours.valid.to_string(),
            importance,
            if ours.internal { "y" } else { "n" },
        ];
        assert_eq!(columns, [row[2], row[4], row[5], row[6]], "{name}");
        if ours.default.unwrap_or("null") != row[3] {
            other_defaults.insert(*name);
        }
    }
    assert_eq!(other_defaults, OTHER_DEFAULTS.iter().map(|(name, _)| *name).collect());
    for definition in BROKER_CONFIGS.iter().filter(|definition| !rows.contains_key(definition.name))
    {
        let own = definition.name.starts_with("kavka.") && definition.effect == Effect::Honoured;
        let gone = matches!(definition.effect, Effect::Refused(_));
        assert!(own || gone, "{} is neither Kafka's nor Kavka's nor refused", definition.name);
    }
    for definition in BROKER_CONFIGS {
        assert!(documentation(definition).ends_with('.'), "{}", definition.name);
        if let (Some(default), Effect::Honoured) = (definition.default, definition.effect) {
            assert_eq!(
                definition.normalize(default).as_deref(),
                Ok(default),
                "{}",
                definition.name
            );
        }
    }
}

#[test]
fn environment_names_are_unambiguous() {
    let names: BTreeSet<_> =
        BROKER_CONFIGS.iter().map(|definition| environment_name(definition.name)).collect();
    assert_eq!(names.len(), BROKER_CONFIGS.len());
    assert_eq!(environment_name("kavka.sync.policy"), "KAVKA_SYNC_POLICY");
    assert_eq!(environment_name("log.dirs"), "KAVKA_LOG_DIRS");
}

#[test]
fn the_defaults() {
    let config = flags(&[]);
    assert_eq!(config.warnings, Vec::<String>::new());
    assert!(config.fixed.is_empty());
    assert_eq!((config.node_id, config.rack, config.worker_threads), (1, None, None));
    let [listener] = config.network.listeners.as_slice() else { panic!("one listener") };
    assert_eq!((&*listener.name, &*listener.host, listener.port), ("PLAINTEXT", "127.0.0.1", 9092));
    assert_eq!(listener.advertised_host.as_deref(), Some("127.0.0.1"));
    assert_eq!(config.network.max_request_bytes, 32 << 20);
    assert_eq!(config.network.budget_bytes, 256 << 20);
    assert_eq!(config.network.idle_timeout, Some(Duration::from_secs(600)));
    assert_eq!(config.network.send_buffer_bytes, Some(102_400));
    assert!(config.topics.auto_create && config.topics.delete_enable);
    assert_eq!(config.log.data_dir, Path::new("kavka-data"));
    assert_eq!(config.log.sync, SyncPolicy::Always);
    assert_eq!(
        (config.group.min_session_timeout_ms, config.group.max_session_timeout_ms),
        (6000, 1_800_000)
    );
    assert_eq!((config.group.initial_rebalance_delay_ms, config.group.max_size), (3000, 10_000));
    assert_eq!((config.offsets.retention_ms, config.offsets.topic_partitions), (604_800_000, 50));
}

#[test]
fn flags_beat_the_environment_which_beats_the_file_which_beats_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kavka.toml");
    fs::write(&path, "num.partitions = 2\n[group]\nmax.size = 20\nmin.session.timeout.ms = 2000\n")
        .unwrap();
    let env = [
        ("KAVKA_GROUP_MAX_SIZE", "30"),
        ("KAVKA_NUM_PARTITIONS", "3"),
        ("PATH", "/bin"),
        ("KAVKA_LOG", "debug"),
    ];
    let properties = [("group.max.size", "40"), ("group.max.size", "50")];
    let config = load(Some(&path), &properties, &env).unwrap();
    assert_eq!(config.group.max_size, 50);
    assert_eq!(config.topics.default_partitions, 3);
    assert_eq!(config.group.min_session_timeout_ms, 2000);
    assert_eq!(config.group.max_session_timeout_ms, 1_800_000);
    assert_eq!(config.fixed["group.max.size"], "50");
}

#[test]
fn a_kafka_file_is_understood() {
    let text = "# Kafka\nprocess.roles=broker,controller\nnode.id=7\nlisteners=PLAINTEXT://:9092,CONTROLLER://:9093\nadvertised.listeners=PLAINTEXT://broker.example:9092\ncontroller.listener.names=CONTROLLER\ncontroller.quorum.voters=7@localhost:9093\nnum.network.threads=3\nnum.io.threads=16\nlog.dirs=/var/lib/kafka\nlog.retention.hours=24\ngroup.initial.rebalance.delay.ms=0\n";
    let (config, path) = from_file("server.properties", text);
    let config = config.unwrap();
    assert_eq!(config.node_id, 7);
    let [listener] = config.network.listeners.as_slice() else { panic!("one listener") };
    assert_eq!((&*listener.host, listener.port), ("", 9092));
    assert_eq!(listener.advertised_host.as_deref(), Some("broker.example"));
    assert_eq!(config.log.data_dir, Path::new("/var/lib/kafka"));
    assert_eq!(config.group.initial_rebalance_delay_ms, 0);
    let warned: Vec<_> =
        config.warnings.iter().map(|warning| warning.split(" has no").next().unwrap()).collect();
    assert_eq!(
        warned,
        [
            format!("{path}:7: controller.quorum.voters=7@localhost:9093"),
            format!("{path}:9: num.io.threads=16"),
            format!("{path}:4: listener CONTROLLER is for controllers and is not opened"),
            "listener PLAINTEXT on '' port 9092 takes connections from other machines without authentication".to_owned(),
        ]
    );
}

#[test]
fn a_name_that_is_almost_right_is_suggested() {
    assert_eq!(
        refused(&[("group.inital.rebalance.delay.ms", "0")]),
        "flag -X: there is no setting 'group.inital.rebalance.delay.ms'; did you mean 'group.initial.rebalance.delay.ms'?"
    );
    assert_eq!(refused(&[("qqq", "0")]), "flag -X: there is no setting 'qqq'");
    let error = load(None, &[], &[("KAVKA_LOGDIRS", "/x")]).unwrap_err().to_string();
    assert_eq!(
        error,
        "environment variable KAVKA_LOGDIRS: there is no setting 'KAVKA_LOGDIRS'; did you mean 'KAVKA_LOG_DIRS'?"
    );
    let (error, path) = from_file("a.toml", "\n[log]\nretentoin.ms = 5\n");
    assert_eq!(
        error.unwrap_err().to_string(),
        format!(
            "{path}:3: there is no setting 'log.retentoin.ms'; did you mean 'log.retention.ms'?"
        )
    );
}

#[test]
fn a_value_out_of_range_names_key_value_range_and_place() {
    assert_eq!(
        refused(&[("num.partitions", "0")]),
        "flag -X: num.partitions=0: Value must be at least 1 (allowed: [1,...])"
    );
    let error = load(None, &[], &[("KAVKA_SYNC_POLICY", "never")]).unwrap_err().to_string();
    assert_eq!(
        error,
        "environment variable KAVKA_SYNC_POLICY: kavka.sync.policy=never: String must be one of: always, interval (allowed: [always, interval])"
    );
    let (error, path) = from_file("a.properties", "a.comment=\\\n 1\nfetch.max.bytes=12\n");
    assert!(error.is_err(), "a.comment is unknown");
    let (error, path2) = from_file("a.properties", "\nfetch.max.bytes=12\n");
    assert_ne!(path, path2);
    assert_eq!(
        error.unwrap_err().to_string(),
        format!("{path2}:2: fetch.max.bytes=12: Value must be at least 1024 (allowed: [1024,...])")
    );
    assert_eq!(
        refused(&[("group.max.size", "many")]),
        "flag -X: group.max.size=many: Not a number of type INT (allowed: [1,...])"
    );
}

#[test]
fn values_that_do_not_go_together_are_refused() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("group.min.session.timeout.ms", "2000000")],
            "group.min.session.timeout.ms (flag -X): 2000000 is above group.max.session.timeout.ms, which is 1800000",
        ),
        (
            &[("group.max.session.timeout.ms", "1000")],
            "group.max.session.timeout.ms (flag -X): 1000 is below group.min.session.timeout.ms, which is 6000",
        ),
        (
            &[("socket.request.max.bytes", "300000000")],
            "socket.request.max.bytes (flag -X): 300000000 is above kavka.budget.bytes, which is 268435456",
        ),
        (
            &[("group.consumer.session.timeout.ms", "70000")],
            "group.consumer.session.timeout.ms (flag -X): 70000 is above group.consumer.max.session.timeout.ms, which is 60000",
        ),
        (
            &[("log.retention.ms", "0")],
            "log.retention.ms (flag -X): has to be -1, for no limit, or at least 1",
        ),
        (
            &[
                ("log.cleaner.min.compaction.lag.ms", "9"),
                ("log.cleaner.max.compaction.lag.ms", "5"),
            ],
            "log.cleaner.min.compaction.lag.ms (flag -X): 9 is above log.cleaner.max.compaction.lag.ms, which is 5",
        ),
        (
            &[("node.id", "1"), ("broker.id", "2")],
            "node.id (flag -X): differs from broker.id=2; set node.id only",
        ),
        (&[("log.dirs", "/a,/b")], "log.dirs (flag -X): has to be exactly one directory"),
        (
            &[("socket.send.buffer.bytes", "0")],
            "socket.send.buffer.bytes (flag -X): has to be -1, for the system's choice, or at least 1",
        ),
        (
            &[("default.replication.factor", "0")],
            "default.replication.factor (flag -X): has to be from 1 to 32767",
        ),
        (
            &[("max.connections.per.ip.overrides", "x:1")],
            "max.connections.per.ip.overrides (flag -X): 'x:1' is not ADDRESS:LIMIT",
        ),
        (
            &[("log.cleaner.dedupe.buffer.size", "5")],
            "log.cleaner.dedupe.buffer.size (flag -X): has to be at least 1048576",
        ),
    ];
    for (properties, message) in cases {
        assert_eq!(refused(properties), *message);
    }
}

#[test]
fn what_kavka_cannot_do_is_refused_with_the_reason() {
    for (name, value) in [
        ("zookeeper.connect", "localhost:2181"),
        ("inter.broker.protocol.version", "3.9"),
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("super.users", "User:admin"),
        ("remote.log.storage.system.enable", "true"),
        ("create.topic.policy.class.name", "a.B"),
    ] {
        let message = refused(&[(name, value)]);
        assert!(message.starts_with(&format!("flag -X: {name} cannot be set: ")), "{message}");
    }
    flags(&[("authorizer.class.name", ""), ("remote.log.storage.system.enable", "false")]);
    let message = refused(&[("listeners", "SSL://:9093")]);
    assert_eq!(
        message,
        "flag -X: listener SSL cannot be set: SSL is still to come; only PLAINTEXT is there"
    );
}

#[test]
fn settings_without_effect_are_warned_of_unless_they_are_the_default() {
    assert!(flags(&[("num.io.threads", "8"), ("ssl.client.auth", "none")]).warnings.is_empty());
    let warnings = flags(&[("num.io.threads", "9")]).warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("flag -X: num.io.threads=9 has no effect. "), "{warnings:?}");
    let warnings = flags(&[("ssl.key.password", "hunter2")]).warnings;
    assert!(warnings[0].starts_with("flag -X: ssl.key.password=[hidden] has"), "{warnings:?}");
    let warnings = flags(&[("listener.name.internal.ssl.client.auth", "required")]).warnings;
    assert_eq!(warnings.len(), 1);
    assert!(load(None, &[("listener.name.internal.nonsense", "x")], &[]).is_err());
    let warnings = flags(&[("default.replication.factor", "3")]).warnings;
    assert!(warnings[0].contains("there is one broker"), "{warnings:?}");
}

#[test]
fn kubernetes_service_links_are_not_settings() {
    let env = [
        ("KAVKA_PORT", "tcp://10.0.0.1:9092"),
        ("KAVKA_PORT_9092_TCP_ADDR", "10.0.0.1"),
        ("KAVKA_SERVICE_HOST", "10.0.0.1"),
        ("KAVKA_SERVICE_PORT", "9092"),
    ];
    load(None, &[], &env).unwrap();
}

#[test]
fn listeners() {
    let listeners = |listeners: &str, advertised: &str| {
        let map = "INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT,PLAINTEXT:PLAINTEXT";
        let mut properties =
            vec![("listeners", listeners), ("listener.security.protocol.map", map)];
        if !advertised.is_empty() {
            properties.push(("advertised.listeners", advertised));
        }
        load(None, &properties, &[])
    };
    let config =
        listeners("INTERNAL://10.0.0.1:9092,external://[::]:0", "EXTERNAL://example.org:443")
            .unwrap();
    let [internal, external] = config.network.listeners.as_slice() else { panic!("two listeners") };
    assert_eq!(
        (internal.advertised_host.as_deref(), internal.advertised_port),
        (Some("10.0.0.1"), None)
    );
    assert_eq!((&*external.host, external.port), ("::", 0));
    assert_eq!(
        (external.advertised_host.as_deref(), external.advertised_port),
        (Some("example.org"), Some(443))
    );

    let everywhere = listeners("PLAINTEXT://0.0.0.0:9092", "").unwrap();
    assert_eq!(
        everywhere.network.listeners[0].advertised_host, None,
        "the address the client connected to"
    );
    assert_eq!(everywhere.warnings.len(), 1);

    for (bad, advertised) in [
        ("", ""),
        ("PLAINTEXT://:9092,PLAINTEXT://:9093", ""),
        ("INTERNAL://:9092,EXTERNAL://:9092", ""),
        ("OTHER://:9092", ""),
        ("PLAINTEXT://:9092", "PLAINTEXT://0.0.0.0:9092"),
        ("PLAINTEXT://:9092", "EXTERNAL://h:9092"),
        ("PLAINTEXT:9092", ""),
    ] {
        assert!(listeners(bad, advertised).is_err(), "{bad} {advertised}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (error, path) = from_file("kavka.yaml", "");
    assert!(error.unwrap_err().to_string().starts_with(&path));
    let missing = load(Some(Path::new("nowhere/kavka.toml")), &[], &[]).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read nowhere/kavka.toml: "), "{missing}");
    let (error, path) = from_file("kavka.toml", "a = 1\nb = [\n");
    let message = error.unwrap_err().to_string();
    assert!(message.starts_with(&path), "{message}");
    let (config, path) = from_file("a.properties", "num.partitions=1\nnum.partitions=2\n");
    let config = config.unwrap();
    assert_eq!(config.topics.default_partitions, 2);
    assert_eq!(
        config.warnings,
        [format!("{path}:2: num.partitions is set again, line 1 does not count")]
    );
}

#[test]
fn the_old_name_of_the_node_id_counts() {
    assert_eq!(flags(&[("broker.id", "5")]).node_id, 5);
    assert_eq!(flags(&[("broker.id", "5"), ("node.id", "5")]).node_id, 5);
    assert_eq!(flags(&[("broker.id", "-1")]).node_id, 1);
}

#[test]
fn brokers_are_described() {
    let config = flags(&[("log.segment.bytes", " 2000000 "), ("ssl.key.password", "hunter2")]);
    let map = |value: &str| ConfigMap::from([("log.segment.bytes".to_owned(), value.to_owned())]);
    let entries = config.describe(&map("4000000"), &map("3000000"));
    let entry = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap();

    let segment = entry("log.segment.bytes");
    assert_eq!(
        (segment.value.as_deref(), segment.source),
        (Some("4000000"), ConfigSource::DynamicBroker)
    );
    let places: Vec<_> = segment
        .synonyms
        .iter()
        .map(|synonym| (synonym.value.as_deref().unwrap(), synonym.source.id()))
        .collect();
    assert_eq!(places, [("4000000", 2), ("3000000", 3), ("2000000", 4), ("1073741824", 5)]);
    assert!(!segment.read_only);

    let password = entry("ssl.key.password");
    assert!(password.sensitive);
    assert_eq!((password.value.as_ref(), password.source), (None, ConfigSource::StaticBroker));
    let unset = entry("log.retention.ms");
    assert_eq!((unset.value.as_ref(), unset.source.id(), unset.synonyms.len()), (None, 5, 0));
    assert!(entry("node.id").read_only);
    assert!(!entries.iter().any(|entry| entry.name == "zookeeper.connect"));
    assert!(entries.is_sorted_by(|a, b| a.name < b.name));

    let defaults = BrokerConfig::describe_cluster_default(&map("3000000"));
    assert_eq!(defaults.len(), 1);
    assert_eq!((defaults[0].source.id(), defaults[0].synonyms.len()), (3, 1));
}

#[test]
fn only_defaults_of_topics_change_while_the_broker_runs() {
    let check = |name: &str, value: &str| {
        let result = validate_dynamic(&ConfigMap::from([(name.to_owned(), value.to_owned())]));
        result.map_err(|error| (error.code().code(), error.to_string()))
    };
    assert_eq!(check("log.retention.ms", "1000"), Ok(()));
    assert_eq!(check("message.max.bytes", "1000"), Ok(()));
    assert_eq!(
        check("message.max.bytes", "x"),
        Err((
            42,
            "Invalid value x for configuration message.max.bytes: Not a number of type INT"
                .to_owned()
        ))
    );
    assert_eq!(
        check("node.id", "9"),
        Err((42, "Cannot update these configs dynamically: [node.id]".to_owned()))
    );
    assert_eq!(check("foo", "9"), Err((40, "Unknown broker config name: foo".to_owned())));
    assert_eq!(check("zookeeper.connect", "9").unwrap_err().0, 40);
}

#[test]
fn topics_take_their_defaults_from_what_was_set() {
    use kavka_meta::config::topic::TopicConfig;
    let config = flags(&[("log.retention.hours", "1"), ("message.max.bytes", "5000")]);
    let none = ConfigMap::new();
    let topic = TopicConfig::resolve(&none, &config.values(&none, &none)).unwrap();
    assert_eq!((topic.retention_ms, topic.max_message_bytes), (3_600_000, 5000));
}
