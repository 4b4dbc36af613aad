//! What the producer makes of a cluster: leaders that move, brokers that hang or want a pause, racks, topics nobody sends to any more.
//!
//! The test broker is a cluster of one; most of these brokers are made up here, as far as a producer needs them.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/wire.rs"]
mod wire;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use kavka_client::{ErrorKind, Producer, ProducerBuilder, ProducerRecord, producer::Acks};
use kavka_protocol::{
    ApiKey, ErrorCode,
    messages::{
        ApiVersionsRequest, ApiVersionsResponse, InitProducerIdRequest, InitProducerIdResponse,
        MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse,
        SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
        SaslHandshakeResponse,
        api_versions_response::ApiVersion,
        metadata_response::{
            MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
        },
        produce_response::{
            LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
        },
    },
    records::split_bytes,
};
use kavka_testkit::TestBroker;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use self::wire::Asked;

const PATIENCE: Duration = Duration::from_secs(20);

/// Two brokers, 1 and 2, and the topic "t".
#[derive(Clone)]
struct Cluster {
    addresses: [SocketAddr; 2],
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Who leads each partition, as everybody believes.
    leaders: Vec<i32>,
    /// Who leads the first partition since, as only the one before it knows.
    moved_to: Option<i32>,
    /// Each broker says that the other one leads, and both of the same epoch.
    is_disputed: bool,
    /// Produces that were refused.
    refused: u32,
    /// Partitions that one request had twice: a broker takes one of the two batches, and forgets the other.
    doubled: u32,
    /// Brokers whose produces are never answered.
    hanging: BTreeSet<i32>,
    /// Nobody is let in.
    refuses_passwords: bool,
    /// How long who has authenticated may ask.
    session: Duration,
    /// Produces that came after that.
    asked_too_late: u32,
    /// The pause that answers to produces ask for.
    throttle_ms: i32,
    /// Broker, partition, records and time of what was taken.
    taken: Vec<(i32, i32, usize, Instant)>,
}

impl Cluster {
    async fn start(leaders: &[i32]) -> Self {
        let listeners = [
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ];
        let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let state = State { leaders: leaders.to_vec(), ..State::default() };
        let cluster = Self { addresses, state: Arc::new(Mutex::new(state)) };
        for (id, listener) in (1..).zip(listeners) {
            let cluster = cluster.clone();
            tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(cluster.clone().serve(id, client));
                }
            });
        }
        cluster
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn producer(&self) -> ProducerBuilder {
        Producer::builder()
            .bootstrap_servers(&self.addresses[0].to_string())
            .linger(Duration::ZERO)
            .request_timeout(Duration::from_secs(5))
    }

    /// Records that a broker took, by partition.
    fn taken_by(&self, broker: i32, partition: i32) -> usize {
        let state = self.state();
        let rows = state.taken.iter().filter(|row| (row.0, row.1) == (broker, partition));
        rows.map(|row| row.2).sum()
    }

    async fn serve(self, broker: i32, mut client: TcpStream) {
        // Until when who authenticated may ask for more (KIP-368).
        let mut session_ends = None;
        while let Some(mut asked) = Asked::read(&mut client).await {
            let answer = match asked.api {
                ApiKey::ApiVersions => asked.answer::<ApiVersionsRequest>(&versions()),
                ApiKey::Metadata => asked.answer::<MetadataRequest>(&self.metadata()),
                ApiKey::InitProducerId => {
                    let response = InitProducerIdResponse { producer_id: 7, ..Default::default() };
                    asked.answer::<InitProducerIdRequest>(&response)
                }
                ApiKey::SaslHandshake => {
                    let mechanisms = vec!["PLAIN".into()];
                    let response = SaslHandshakeResponse { mechanisms, ..Default::default() };
                    asked.answer::<SaslHandshakeRequest>(&response)
                }
                ApiKey::SaslAuthenticate => {
                    let session = self.state().session;
                    session_ends = Some(Instant::now() + session);
                    let error_code = match self.state().refuses_passwords {
                        true => ErrorCode::SaslAuthenticationFailed,
                        false => ErrorCode::None,
                    };
                    let response = SaslAuthenticateResponse {
                        error_code,
                        session_lifetime_ms: session.as_millis().try_into().unwrap(),
                        ..Default::default()
                    };
                    asked.answer::<SaslAuthenticateRequest>(&response)
                }
                ApiKey::Produce if self.state().hanging.contains(&broker) => continue,
                ApiKey::Produce if session_ends.is_some_and(|end| end < Instant::now()) => {
                    self.state().asked_too_late += 1;
                    return;
                }
                ApiKey::Produce => {
                    let request: ProduceRequest = asked.body();
                    let is_answered = request.acks != 0;
                    let response = self.produced(broker, request);
                    if !is_answered {
                        continue;
                    }
                    asked.answer::<ProduceRequest>(&response)
                }
                other => panic!("a producer asks for {other}"),
            };
            if client.write_all(&answer).await.is_err() {
                return;
            }
        }
    }

    fn metadata(&self) -> MetadataResponse {
        let state = self.state();
        let partitions =
            (0..).zip(&state.leaders).map(|(partition_index, leader)| MetadataResponsePartition {
                partition_index,
                leader_id: *leader,
                leader_epoch: 1,
                replica_nodes: vec![1, 2],
                isr_nodes: vec![1, 2],
                ..Default::default()
            });
        MetadataResponse {
            brokers: (1..)
                .zip(self.addresses)
                .map(|(node_id, address)| MetadataResponseBroker {
                    node_id,
                    host: address.ip().to_string().into(),
                    port: address.port().into(),
                    rack: Some(if node_id == 1 { "near" } else { "far" }.into()),
                    ..Default::default()
                })
                .collect(),
            controller_id: 1,
            topics: vec![MetadataResponseTopic {
                name: Some("t".into()),
                partitions: partitions.collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn produced(&self, broker: i32, request: ProduceRequest) -> ProduceResponse {
        let mut state = self.state();
        let mut response =
            ProduceResponse { throttle_time_ms: state.throttle_ms, ..Default::default() };
        for topic in request.topic_data {
            let mut rows = Vec::new();
            let mut seen = BTreeSet::new();
            for data in topic.partition_data {
                let index = data.index;
                state.doubled += u32::from(!seen.insert(index));
                let known = state.leaders[usize::try_from(index).unwrap()];
                let leader = state.moved_to.filter(|_| index == 0).unwrap_or(known);
                let leader = if state.is_disputed { 3 - broker } else { leader };
                if leader != broker {
                    state.refused += 1;
                    let address = self.addresses[usize::try_from(leader - 1).unwrap()];
                    response.node_endpoints.push(NodeEndpoint {
                        node_id: leader,
                        host: address.ip().to_string().into(),
                        port: address.port().into(),
                        ..Default::default()
                    });
                    rows.push(PartitionProduceResponse {
                        index,
                        error_code: ErrorCode::NotLeaderOrFollower,
                        base_offset: -1,
                        current_leader: LeaderIdAndEpoch {
                            leader_id: leader,
                            leader_epoch: 2,
                            ..Default::default()
                        },
                        ..Default::default()
                    });
                    continue;
                }
                let batches = split_bytes(data.records.unwrap());
                let records =
                    batches.map(|batch| usize::try_from(batch.unwrap().0.record_count).unwrap());
                let records = records.sum();
                state.taken.push((broker, index, records, Instant::now()));
                rows.push(PartitionProduceResponse { index, ..Default::default() });
            }
            response.responses.push(TopicProduceResponse {
                name: topic.name,
                partition_responses: rows,
                ..Default::default()
            });
        }
        response
    }
}

/// Topics go by name.
fn versions() -> ApiVersionsResponse {
    let known = [
        (ApiKey::ApiVersions, 3),
        (ApiKey::Metadata, 9),
        (ApiKey::InitProducerId, 4),
        (ApiKey::Produce, 12),
        (ApiKey::SaslHandshake, 1),
        (ApiKey::SaslAuthenticate, 2),
    ];
    let api_keys = known.map(|(api, max_version)| ApiVersion {
        api_key: api.code(),
        min_version: if api == ApiKey::Produce { 3 } else { 0 },
        max_version,
        ..Default::default()
    });
    ApiVersionsResponse { api_keys: api_keys.into(), ..Default::default() }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

async fn delivered(producer: &Producer, record: ProducerRecord<'_>) -> i32 {
    within(within(producer.send(record)).await.unwrap()).await.unwrap().partition
}

#[tokio::test]
async fn a_leader_that_a_refusal_names_is_sent_to_at_once() {
    let cluster = Cluster::start(&[1]).await;
    // Who asks for metadata hears of the old leader, and who waits for the back-off comes late.
    let producer = cluster
        .producer()
        .property("retry.backoff.ms", "3000")
        .property("retry.backoff.max.ms", "3000")
        .build()
        .unwrap();
    delivered(&producer, ProducerRecord::to("t").value("before")).await;
    cluster.state().moved_to = Some(2);
    let begun = Instant::now();
    for _ in 0..3 {
        delivered(&producer, ProducerRecord::to("t").value("after")).await;
    }
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    assert_eq!((cluster.taken_by(1, 0), cluster.taken_by(2, 0)), (1, 3));
}

#[tokio::test]
async fn brokers_that_each_name_the_other_are_not_asked_without_a_pause() {
    let cluster = Cluster::start(&[1]).await;
    let producer = cluster.producer().property("retry.backoff.ms", "50").build().unwrap();
    delivered(&producer, ProducerRecord::to("t").value("before")).await;
    cluster.state().is_disputed = true;
    let delivery = within(producer.send(ProducerRecord::to("t").value("after"))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let refused = cluster.state().refused;
    assert!((2..=13).contains(&refused), "{refused} times in ten pauses");
    cluster.state().is_disputed = false;
    cluster.state().moved_to = Some(2);
    within(delivery).await.unwrap();
}

/// The partition is in the list of its broker already when it comes back to it.
#[tokio::test]
async fn a_partition_that_loses_its_leader_and_gets_it_back_is_once_in_a_request() {
    let cluster = Cluster::start(&[1]).await;
    let producer = cluster
        .producer()
        .batch_size(0)
        .property("metadata.max.age.ms", "20")
        .property("retry.backoff.ms", "10")
        .build()
        .unwrap();
    cluster.state().throttle_ms = 1500;
    delivered(&producer, ProducerRecord::to("t").value("before")).await;
    cluster.state().throttle_ms = 0;
    let mut deliveries = Vec::new();
    for _ in 0..5 {
        let record = ProducerRecord::to("t").partition(0).value("waits for the end of the pause");
        deliveries.push(within(producer.send(record)).await.unwrap());
    }
    for leader in [-1, 1, -1, 1] {
        cluster.state().leaders[0] = leader;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(cluster.taken_by(1, 0), 1, "the pause is not over");
    for delivery in deliveries {
        within(delivery).await.unwrap();
    }
    assert_eq!((cluster.taken_by(1, 0), cluster.state().doubled), (6, 0));
}

fn with_password(builder: ProducerBuilder) -> ProducerBuilder {
    builder
        .property("security.protocol", "SASL_PLAINTEXT")
        .property("sasl.mechanism", "PLAIN")
        .property("sasl.username", "u")
        .property("sasl.password", "p")
}

#[tokio::test]
async fn a_password_that_is_refused_fails_records_at_once() {
    let cluster = Cluster::start(&[1]).await;
    cluster.state().refuses_passwords = true;
    let producer = with_password(cluster.producer()).build().unwrap();
    let begun = Instant::now();
    for _ in 0..3 {
        let error = within(producer.send(ProducerRecord::to("t"))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    }
    let error = within(producer.partition_count("t")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

/// A broker hangs up on who asks after that: with acks=0 the records would be lost without a word.
#[tokio::test]
async fn a_producer_authenticates_anew_before_its_session_ends() {
    let cluster = Cluster::start(&[1]).await;
    cluster.state().session = Duration::from_millis(500);
    let producer = with_password(cluster.producer().acks(Acks::None)).build().unwrap();
    for _ in 0..100 {
        delivered(&producer, ProducerRecord::to("t").value("v")).await;
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    within(async {
        while cluster.taken_by(1, 0) < 100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!((cluster.taken_by(1, 0), cluster.state().asked_too_late), (100, 0));
}

#[tokio::test]
async fn a_broker_that_wants_a_pause_gets_it() {
    let cluster = Cluster::start(&[1, 2]).await;
    let producer = cluster.producer().build().unwrap();
    let to = |partition| ProducerRecord::to("t").partition(partition).value("v");
    cluster.state().throttle_ms = 400;
    delivered(&producer, to(0)).await;
    cluster.state().throttle_ms = 0;
    let begun = Instant::now();
    delivered(&producer, to(1)).await;
    assert!(begun.elapsed() < Duration::from_millis(300), "the other broker wants none");
    delivered(&producer, to(0)).await;
    delivered(&producer, to(0)).await;
    let state = cluster.state();
    let times: Vec<Instant> =
        state.taken.iter().filter(|row| row.0 == 1).map(|row| row.3).collect();
    assert!(times[1] - times[0] >= Duration::from_millis(400), "{:?}", times[1] - times[0]);
    assert!(times[2] - times[1] < Duration::from_millis(300), "{:?}", times[2] - times[1]);
}

#[tokio::test]
async fn a_partition_whose_broker_hangs_gets_no_more_records_without_key() {
    let cluster = Cluster::start(&[1, 2]).await;
    cluster.state().hanging.insert(2);
    let producer = cluster
        .producer()
        .max_in_flight(1)
        .batch_size(0)
        .property("partitioner.availability.timeout.ms", "50")
        .build()
        .unwrap();
    // One on the wire, one behind it: the broker takes no more.
    let to_the_second = ProducerRecord::to("t").partition(1).value("stuck");
    for _ in 0..2 {
        drop(within(producer.send(to_the_second.clone())).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    for _ in 0..100 {
        let partition = delivered(&producer, ProducerRecord::to("t").value("v")).await;
        assert_eq!(partition, 0);
    }
    assert_eq!(cluster.taken_by(1, 0), 100);
    // A key has its partition all the same.
    let mut keys = (0..).map(|number: u32| number.to_string());
    let key = keys.find(|key| kavka_protocol::hash::key_partition(key.as_bytes(), 2) == 1).unwrap();
    let stuck = within(producer.send(ProducerRecord::to("t").key(&key).value("v"))).await.unwrap();
    tokio::time::timeout(Duration::from_millis(100), stuck).await.unwrap_err();
}

#[tokio::test]
async fn records_without_key_go_to_leaders_in_the_same_rack_if_that_is_wanted() {
    for (is_wanted, rack) in [(true, "far"), (true, "elsewhere"), (false, "far")] {
        let cluster = Cluster::start(&[1, 2, 1, 2]).await;
        let producer = cluster
            .producer()
            .batch_size(0)
            .property("client.rack", rack)
            .property("partitioner.rack.aware", &is_wanted.to_string())
            .build()
            .unwrap();
        let mut chosen = BTreeSet::new();
        for _ in 0..100 {
            chosen.insert(delivered(&producer, ProducerRecord::to("t").value("v")).await);
        }
        let expected: &[i32] = if is_wanted && rack == "far" { &[1, 3] } else { &[0, 1, 2, 3] };
        assert!(chosen.iter().eq(expected), "{is_wanted} {rack}: {chosen:?}");
    }
}

#[tokio::test]
async fn a_topic_nobody_sends_to_is_not_asked_for_any_more_until_somebody_does() {
    let broker = TestBroker::start().await;
    let id = broker.create_topic("idle", 1).await.unwrap();
    broker.create_topic("busy", 1).await.unwrap();
    let producer = Producer::builder()
        .bootstrap_servers(&broker.bootstrap_servers())
        .linger(Duration::ZERO)
        .property("metadata.max.idle.ms", "5000")
        .property("metadata.max.age.ms", "100")
        .property("retry.backoff.ms", "10")
        .build()
        .unwrap();
    let asked_for = |topic: &str| {
        let requests = broker.requests();
        let last = requests.iter().rev().find(|request| request.api == ApiKey::Metadata);
        last.is_some_and(|request| request.topics.iter().any(|asked| asked == topic))
    };
    let begun = Instant::now();
    delivered(&producer, ProducerRecord::to("idle").value("first")).await;
    assert_eq!(within(producer.partition_count("busy")).await.unwrap(), 1);
    while begun.elapsed() < Duration::from_millis(4500) {
        delivered(&producer, ProducerRecord::to("busy").value("v")).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(asked_for("idle") && asked_for("busy"), "{:?}", begun.elapsed());
    }
    while asked_for("idle") {
        assert!(begun.elapsed() < PATIENCE, "it is still asked for");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(5));
    assert!(asked_for("busy"));
    // The sequence of the idempotent producer goes on.
    for value in ["second", "third"] {
        delivered(&producer, ProducerRecord::to("idle").value(value)).await;
    }
    while !asked_for("idle") {
        assert!(begun.elapsed() < PATIENCE, "it is not asked for again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (headers, records) = common::read_all(&broker, id, 0).await;
    common::check_sequences(&headers);
    let values: Vec<&str> = records.iter().map(common::Stored::text).collect();
    assert_eq!(values, ["first", "second", "third"]);
}
