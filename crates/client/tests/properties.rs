//! Every property of Kafka's clients is taken by ours, or says what it lacks.
//!
//! The names are those of `ProducerConfig`, `ConsumerConfig` and `AdminClientConfig` of Apache Kafka's Java client 4.4.0.
#![allow(clippy::unwrap_used)]

use kavka_client::{
    Admin, Consumer, Error, ErrorKind, Producer, ProducerBuilder, TopicPartition,
    consumer::OffsetReset,
};
use kavka_testkit::{ApiKey, NewRecord, TestBroker};

/// Of all three, with a value each.
const EVERY: &[(&str, &str)] = &[
    ("bootstrap.resolve.timeout.ms", "0"),
    ("client.dns.lookup", "use_all_dns_ips"),
    ("client.id", "me"),
    ("config.providers", "file"),
    ("connections.max.idle.ms", "540000"),
    ("enable.metrics.push", "true"),
    ("metadata.cluster.check.enable", "true"),
    ("metadata.max.age.ms", "300000"),
    ("metadata.recovery.rebootstrap.trigger.ms", "300000"),
    ("metadata.recovery.strategy", "rebootstrap"),
    ("metric.reporters", "org.apache.kafka.common.metrics.JmxReporter"),
    ("metrics.num.samples", "2"),
    ("metrics.recording.level", "INFO"),
    ("metrics.sample.window.ms", "30000"),
    ("receive.buffer.bytes", "32768"),
    ("reconnect.backoff.max.ms", "1000"),
    ("reconnect.backoff.ms", "50"),
    ("request.timeout.ms", "30000"),
    ("retry.backoff.max.ms", "1000"),
    ("retry.backoff.ms", "100"),
    ("sasl.client.callback.handler.class", "x"),
    (
        "sasl.jaas.config",
        "org.apache.kafka.common.security.plain.PlainLoginModule required username=u password=p;",
    ),
    ("sasl.kerberos.kinit.cmd", "/usr/bin/kinit"),
    ("sasl.kerberos.min.time.before.relogin", "60000"),
    ("sasl.kerberos.service.name", "kafka"),
    ("sasl.kerberos.ticket.renew.jitter", "0.05"),
    ("sasl.kerberos.ticket.renew.window.factor", "0.8"),
    ("sasl.login.callback.handler.class", "x"),
    ("sasl.login.class", "Login"),
    ("sasl.login.connect.timeout.ms", "10000"),
    ("sasl.login.read.timeout.ms", "10000"),
    ("sasl.login.refresh.buffer.seconds", "300"),
    ("sasl.login.refresh.min.period.seconds", "60"),
    ("sasl.login.refresh.window.factor", "0.8"),
    ("sasl.login.refresh.window.jitter", "0.05"),
    ("sasl.login.retry.backoff.max.ms", "10000"),
    ("sasl.login.retry.backoff.ms", "100"),
    ("sasl.mechanism", "PLAIN"),
    ("sasl.oauthbearer.allow.unverified.audience", "false"),
    ("sasl.oauthbearer.allow.unverified.issuer", "false"),
    ("sasl.oauthbearer.assertion.algorithm", "RS256"),
    ("sasl.oauthbearer.assertion.claim.aud", "x"),
    ("sasl.oauthbearer.assertion.claim.exp.seconds", "300"),
    ("sasl.oauthbearer.assertion.claim.iss", "x"),
    ("sasl.oauthbearer.assertion.claim.jti.include", "false"),
    ("sasl.oauthbearer.assertion.claim.nbf.seconds", "60"),
    ("sasl.oauthbearer.assertion.claim.sub", "x"),
    ("sasl.oauthbearer.assertion.file", "x"),
    ("sasl.oauthbearer.assertion.private.key.file", "x"),
    ("sasl.oauthbearer.assertion.private.key.passphrase", "x"),
    ("sasl.oauthbearer.assertion.template.file", "x"),
    ("sasl.oauthbearer.client.credentials.client.id", "x"),
    ("sasl.oauthbearer.client.credentials.client.secret", "x"),
    ("sasl.oauthbearer.clock.skew.seconds", "30"),
    ("sasl.oauthbearer.expected.audience", "a"),
    ("sasl.oauthbearer.expected.issuer", "x"),
    ("sasl.oauthbearer.header.urlencode", "false"),
    ("sasl.oauthbearer.jwks.endpoint.refresh.ms", "3600000"),
    ("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", "10000"),
    ("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", "100"),
    ("sasl.oauthbearer.jwks.endpoint.url", "x"),
    ("sasl.oauthbearer.jwt.retriever.class", "x"),
    ("sasl.oauthbearer.jwt.validator.class", "x"),
    ("sasl.oauthbearer.scope", "x"),
    ("sasl.oauthbearer.scope.claim.name", "scope"),
    ("sasl.oauthbearer.sub.claim.name", "sub"),
    ("sasl.oauthbearer.token.endpoint.url", "file:/token"),
    ("security.protocol", "PLAINTEXT"),
    ("security.providers", "x"),
    ("send.buffer.bytes", "131072"),
    ("socket.connection.setup.timeout.max.ms", "30000"),
    ("socket.connection.setup.timeout.ms", "10000"),
    ("ssl.cipher.suites", "TLS13_AES_128_GCM_SHA256"),
    ("ssl.enabled.protocols", "TLSv1.2,TLSv1.3"),
    ("ssl.endpoint.identification.algorithm", "https"),
    ("ssl.engine.factory.class", "x"),
    ("ssl.key.password", "x"),
    ("ssl.keymanager.algorithm", "SunX509"),
    ("ssl.keystore.certificate.chain", "x"),
    ("ssl.keystore.key", "x"),
    ("ssl.keystore.location", "x"),
    ("ssl.keystore.password", "x"),
    ("ssl.keystore.type", "PEM"),
    ("ssl.protocol", "TLSv1.3"),
    ("ssl.provider", "x"),
    ("ssl.secure.random.implementation", "x"),
    ("ssl.trustmanager.algorithm", "PKIX"),
    ("ssl.truststore.certificates", "x"),
    ("ssl.truststore.location", "x"),
    ("ssl.truststore.password", "x"),
    ("ssl.truststore.type", "PEM"),
];

/// Of the producer.
const PRODUCER: &[(&str, &str)] = &[
    ("acks", "all"),
    ("batch.size", "16384"),
    ("buffer.memory", "33554432"),
    ("buffer.memory.allocation.strategy", "full"),
    ("client.rack", "r1"),
    ("compression.gzip.level", "-1"),
    ("compression.lz4.level", "9"),
    ("compression.type", "none"),
    ("compression.zstd.level", "3"),
    ("delivery.timeout.ms", "120000"),
    ("enable.idempotence", "true"),
    ("interceptor.classes", "Interceptor"),
    ("key.serializer", "org.apache.kafka.common.serialization.StringSerializer"),
    ("linger.ms", "5"),
    ("max.block.ms", "60000"),
    ("max.in.flight.requests.per.connection", "5"),
    ("max.request.size", "1048576"),
    ("metadata.max.idle.ms", "300000"),
    ("partitioner.adaptive.partitioning.enable", "true"),
    ("partitioner.availability.timeout.ms", "0"),
    ("partitioner.class", "org.apache.kafka.clients.producer.RoundRobinPartitioner"),
    ("partitioner.ignore.keys", "false"),
    ("partitioner.rack.aware", "false"),
    ("retries", "2147483647"),
    ("transaction.timeout.ms", "60000"),
    ("transaction.two.phase.commit.enable", "false"),
    ("transactional.id", "tx"),
    ("value.serializer", "StringSerializer"),
];

/// Of the consumer.
const CONSUMER: &[(&str, &str)] = &[
    ("allow.auto.create.topics", "true"),
    ("auto.commit.interval.ms", "5000"),
    ("auto.offset.reset", "latest"),
    ("check.crcs", "true"),
    ("client.rack", "r1"),
    ("default.api.timeout.ms", "60000"),
    ("enable.auto.commit", "false"),
    ("exclude.internal.topics", "true"),
    ("fetch.max.bytes", "52428800"),
    ("fetch.max.wait.ms", "500"),
    ("fetch.min.bytes", "1"),
    ("group.id", "g"),
    ("group.instance.id", "i"),
    ("group.protocol", "classic"),
    ("group.remote.assignor", "uniform"),
    ("heartbeat.interval.ms", "3000"),
    ("interceptor.classes", "Interceptor"),
    ("isolation.level", "read_uncommitted"),
    ("key.deserializer", "StringDeserializer"),
    ("max.partition.fetch.bytes", "1048576"),
    ("max.poll.interval.ms", "300000"),
    ("max.poll.records", "500"),
    ("partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor"),
    ("session.timeout.ms", "45000"),
    ("share.acknowledgement.mode", "implicit"),
    ("share.acquire.mode", "batch_optimized"),
    ("value.deserializer", "StringDeserializer"),
];

/// Of the admin.
const ADMIN: &[(&str, &str)] = &[("default.api.timeout.ms", "60000"), ("retries", "2147483647")];

/// What our clients lack, by the property that asks for it.
const LACKING: &[&str] = &["transactional.id", "group.remote.assignor"];

fn check(name: &str, built: Result<(), Error>) {
    match built {
        Ok(()) => assert!(!LACKING.contains(&name), "{name} is there by now"),
        Err(error) => {
            assert!(LACKING.contains(&name), "{name}: {error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

#[tokio::test]
async fn a_producer_takes_every_property_of_javas() {
    for (name, value) in EVERY.iter().chain(PRODUCER) {
        let producer = Producer::builder().bootstrap_servers("a:1").property(name, value);
        check(name, producer.build().map(drop));
        assert!(ProducerBuilder::knows(name), "{name}");
    }
}

#[tokio::test]
async fn a_consumer_takes_every_property_of_javas() {
    for (name, value) in EVERY.iter().chain(CONSUMER) {
        let consumer = Consumer::builder().bootstrap_servers("a:1").group_id("g");
        check(name, consumer.property(name, value).build().map(drop));
    }
}

#[tokio::test]
async fn an_admin_takes_every_property_of_javas() {
    for (name, value) in EVERY.iter().chain(ADMIN) {
        let admin = Admin::builder().bootstrap_servers("a:1").property(name, value);
        check(name, admin.build().map(drop));
    }
    // Controllers are not talked to.
    let admin = Admin::builder().bootstrap_servers("a:1").property("bootstrap.controllers", "a:1");
    let error = admin.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("bootstrap.controllers"), "{error}");
}

/// A broker sends a batch in any case, however large, and no second one that is over it.
#[tokio::test]
async fn fetch_max_bytes_bounds_an_answer() {
    const BATCHES: usize = 20;
    let broker = TestBroker::builder().topic("t", 1).start().await;
    for _ in 0..BATCHES {
        broker.produce("t", 0, [NewRecord::value("v")]).await.unwrap();
    }
    for (max_bytes, least, most) in [("1", BATCHES, usize::MAX), ("52428800", 1, BATCHES / 2)] {
        broker.clear_requests();
        let mut consumer = Consumer::builder()
            .bootstrap_servers(&broker.bootstrap_servers())
            .auto_offset_reset(OffsetReset::Earliest)
            .property("fetch.max.bytes", max_bytes)
            .build()
            .unwrap();
        consumer.assign([TopicPartition::new("t", 0)]).await.unwrap();
        for _ in 0..BATCHES {
            consumer.next().await.unwrap().unwrap();
        }
        let requests = broker.requests();
        let fetches = requests.iter().filter(|request| request.api == ApiKey::Fetch).count();
        assert!((least..=most).contains(&fetches), "{max_bytes}: {fetches} fetches");
    }
}
