//! A cluster whose brokers come and go, on a network and a clock of the tests' own.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::BytesMut;
use kavka_protocol::{
    ApiKey, ErrorCode, Message, Reader, Request,
    messages::{
        ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, RequestHeader, ResponseHeader,
        api_versions_response::ApiVersion,
        metadata_response::{
            MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
        },
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinSet,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    environment::{Connecting, Environment, Machine, TimeAndChance, Transport},
    settings::MetadataRecovery,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// How an address behaves; "b" and "n1" are hosts, all ports are 1.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Nobody takes connections.
    Refuses,
    /// Nobody says anything, not even no.
    Hangs,
    /// Connections are taken; what comes in is never answered.
    Silent,
    /// Ready for requests; none for metadata is answered.
    Mute,
    /// Metadata that names these brokers, by host.
    Knows(&'static [&'static str]),
    /// Metadata with this code.
    Says(ErrorCode),
}

/// See the module.
#[derive(Default)]
struct World(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    places: BTreeMap<String, Place>,
    /// Connections that are open, by host; they end when the place changes.
    open: BTreeMap<String, JoinSet<()>>,
    /// Whom somebody tried to connect to.
    attempts: Vec<String>,
    /// When connections were tried.
    times: Vec<Instant>,
    /// Requests for metadata: when, by which client, and whether topics may be created.
    asked: Vec<(Instant, String, bool)>,
}

impl World {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the host is like this; connections that it has end.
    fn put(&self, host: &str, place: Place) {
        let mut inner = self.lock();
        inner.places.insert(host.to_owned(), place);
        inner.open.remove(host);
    }

    /// The same, but connections stay.
    fn change(&self, host: &str, place: Place) {
        self.lock().places.insert(host.to_owned(), place);
    }

    fn place(&self, host: &str) -> Place {
        self.lock().places.get(host).copied().unwrap_or(Place::Refuses)
    }

    /// Whether somebody tried to connect to this host since it was last asked.
    fn was_tried(&self, host: &str) -> bool {
        std::mem::take(&mut self.lock().attempts).iter().any(|tried| tried == host)
    }
}

struct Net(Arc<World>);

impl Environment for Net {
    fn connect(&self, host: &str, _port: u16) -> Connecting {
        let (world, host) = (Arc::clone(&self.0), host.to_owned());
        Box::pin(async move {
            {
                let mut inner = world.lock();
                inner.attempts.push(host.clone());
                inner.times.push(Instant::now());
            }
            match world.place(&host) {
                Place::Refuses => return Err(io::ErrorKind::ConnectionRefused.into()),
                Place::Hangs => std::future::pending().await,
                _ => {}
            }
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let serving = serve(Arc::clone(&world), host.clone(), theirs);
            world.lock().open.entry(host).or_default().spawn(serving);
            Ok(Box::new(ours) as Box<dyn Transport>)
        })
    }
}

impl TimeAndChance for Net {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn random(&self) -> u64 {
        7
    }
}

async fn serve(world: Arc<World>, host: String, mut stream: DuplexStream) {
    while let Ok(length) = stream.read_i32().await {
        let mut frame = BytesMut::zeroed(usize::try_from(length).unwrap());
        stream.read_exact(&mut frame).await.unwrap();
        let (api, version) = (ApiKey::from_code(i16_at(&frame, 0)).unwrap(), i16_at(&frame, 2));
        let mut reader = Reader::new(frame.freeze());
        let header = RequestHeader::decode(&mut reader, api.request_header_version(version));
        let header = header.unwrap();
        let id = header.correlation_id;
        if api == ApiKey::Metadata {
            let request = MetadataRequest::decode(&mut reader, version).unwrap();
            let client = header.client_id.unwrap_or_default().to_string();
            let may_create = request.allow_auto_topic_creation;
            world.lock().asked.push((Instant::now(), client, may_create));
        }
        let place = world.place(&host);
        let answer = match (api, place) {
            (_, Place::Silent) => continue,
            (ApiKey::ApiVersions, _) => reply::<ApiVersionsRequest>(id, version, &versions()),
            (ApiKey::Metadata, Place::Knows(brokers)) => {
                reply::<MetadataRequest>(id, version, &metadata(brokers))
            }
            (ApiKey::Metadata, Place::Says(error_code)) => {
                let response = MetadataResponse { error_code, ..Default::default() };
                reply::<MetadataRequest>(id, version, &response)
            }
            _ => continue,
        };
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

fn i16_at(frame: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([frame[at], frame[at + 1]])
}

fn versions() -> ApiVersionsResponse {
    let rows = [ApiKey::ApiVersions, ApiKey::Metadata].map(|api| {
        let (min_version, max_version) = api.versions();
        ApiVersion { api_key: api.code(), min_version, max_version, ..Default::default() }
    });
    ApiVersionsResponse { api_keys: rows.into(), ..Default::default() }
}

/// The first broker leads the partition of topic t.
fn metadata(hosts: &[&'static str]) -> MetadataResponse {
    let brokers = hosts.iter().map(|host| MetadataResponseBroker {
        node_id: host.bytes().map(i32::from).sum(),
        host: (*host).into(),
        port: 1,
        ..Default::default()
    });
    let brokers: Vec<MetadataResponseBroker> = brokers.collect();
    let partition = MetadataResponsePartition {
        leader_id: brokers.first().map_or(-1, |broker| broker.node_id),
        ..Default::default()
    };
    let topic = MetadataResponseTopic {
        name: Some("t".into()),
        partitions: vec![partition],
        ..Default::default()
    };
    MetadataResponse { brokers, topics: vec![topic], ..Default::default() }
}

fn reply<R: Request>(correlation_id: i32, version: i16, response: &R::Response) -> Vec<u8> {
    let header = ResponseHeader { correlation_id, ..Default::default() };
    let header = header.to_bytes(R::API_KEY.response_header_version(version)).unwrap();
    let body = response.to_bytes(version).unwrap();
    let length = u32::try_from(header.len() + body.len()).unwrap();
    [&length.to_be_bytes()[..], &header, &body].concat()
}

/// A cluster whose bootstrap server is "b".
fn cluster(properties: &[(&str, &str)]) -> (Arc<World>, Cluster) {
    let world = Arc::new(World::default());
    let mut settings = CommonSettings {
        machine: Machine::new(Arc::new(Net(Arc::clone(&world)))),
        ..Default::default()
    };
    settings.set("bootstrap.servers", "b:1").unwrap();
    for (name, value) in properties {
        assert_eq!(settings.set(name, value).unwrap(), crate::settings::Outcome::Taken, "{name}");
    }
    let cluster = Cluster::new(settings).unwrap();
    cluster.want_topic(&"t".into());
    (world, cluster)
}

const NONE: (&str, &str) = ("metadata.recovery.strategy", "none");

fn hosts(metadata: &Metadata) -> Vec<String> {
    metadata.nodes.values().map(|node| node.address.host.to_string()).collect()
}

/// Refreshes until that works; how long it took.
async fn until_refreshed(cluster: &Cluster, patience: Duration) -> Option<Duration> {
    let begun = Instant::now();
    while begun.elapsed() < patience {
        if cluster.refresh().await.is_ok() {
            return Some(begun.elapsed());
        }
    }
    None
}

/// All brokers have got other addresses while the client did not look.
#[tokio::test(start_paused = true)]
async fn when_no_known_broker_can_be_reached_the_bootstrap_servers_are() {
    let (world, cluster) = cluster(&[]);
    world.put("b", Place::Knows(&["n1", "n2"]));
    world.put("n1", Place::Knows(&["n1", "n2"]));
    assert_eq!(hosts(&cluster.refresh().await.unwrap()), ["n1", "n2"]);
    cluster.refresh().await.unwrap();
    world.put("b", Place::Knows(&["n3"]));
    for gone in ["n1", "n2"] {
        world.put(gone, Place::Refuses);
    }
    let metadata = cluster.refresh().await.unwrap();
    assert_eq!(hosts(&metadata), ["n3"]);
    assert_eq!(metadata.partition("t", 0).unwrap().leader, metadata.nodes.keys().next().copied());
}

#[tokio::test(start_paused = true)]
async fn without_recovery_only_known_brokers_are_tried() {
    let (world, cluster) = cluster(&[NONE]);
    world.put("b", Place::Knows(&["n1"]));
    world.put("n1", Place::Knows(&["n1"]));
    cluster.refresh().await.unwrap();
    world.put("b", Place::Knows(&["n3"]));
    world.put("n1", Place::Refuses);
    world.was_tried("b");
    assert_eq!(until_refreshed(&cluster, 20 * MINUTE).await, None);
    assert!(!world.was_tried("b"));
    world.put("n1", Place::Knows(&["n1"]));
    assert!(until_refreshed(&cluster, MINUTE).await.is_some());
    assert_eq!(hosts(&cluster.metadata()), ["n1"]);
}

/// The broker takes connections, and requests; nothing comes back. So it may be with what took over its address.
#[tokio::test(start_paused = true)]
async fn when_known_brokers_give_no_metadata_for_long_the_bootstrap_servers_are_asked() {
    for (properties, expected) in [
        (&[][..], Some(300)),
        (&[("metadata.recovery.rebootstrap.trigger.ms", "45000")][..], Some(45)),
        (&[("metadata.recovery.rebootstrap.trigger.ms", "0")][..], Some(0)),
        (&[NONE][..], None),
    ] {
        let (world, cluster) = cluster(properties);
        world.put("b", Place::Knows(&["n1"]));
        world.put("n1", Place::Mute);
        cluster.refresh().await.unwrap();
        world.put("b", Place::Knows(&["n3"]));
        let id = *cluster.metadata().nodes.keys().next().unwrap();
        let leader = cluster.node(id, Purpose::Produce).await.unwrap();
        let coordinator = cluster.at(leader.address(), Purpose::Coordinator).await.unwrap();
        let took = until_refreshed(&cluster, 20 * MINUTE).await;
        match expected {
            None => assert_eq!(took, None, "{properties:?}"),
            Some(seconds) => {
                let took = took.unwrap();
                let range = SECOND * seconds..SECOND * seconds + SECOND;
                assert!(range.contains(&took), "{properties:?}: {took:?}");
                assert_eq!(hosts(&cluster.metadata()), ["n3"]);
                assert!(leader.is_closed(), "it is of no use either");
                assert!(!coordinator.is_closed(), "coordinators are looked for on their own");
            }
        }
    }
}

/// Metadata that keeps coming does not let the time run out.
#[tokio::test(start_paused = true)]
async fn only_time_without_metadata_counts() {
    let (world, cluster) = cluster(&[("metadata.max.age.ms", "60000")]);
    world.put("b", Place::Knows(&["n1"]));
    world.put("n1", Place::Knows(&["n1"]));
    cluster.refresh().await.unwrap();
    world.put("b", Place::Knows(&["n3"]));
    cluster.refresh().await.unwrap();
    world.was_tried("b");
    for _ in 0..5 {
        world.put("n1", Place::Mute);
        assert_eq!(until_refreshed(&cluster, 2 * MINUTE).await, None);
        world.put("n1", Place::Knows(&["n1"]));
        assert!(until_refreshed(&cluster, MINUTE).await.is_some());
    }
    tokio::time::sleep(20 * MINUTE).await;
    assert!(!world.was_tried("b"));
}

/// Answered by a broker that is not of the client's cluster any more.
#[tokio::test(start_paused = true)]
async fn broker_that_says_so_sends_the_client_to_the_bootstrap_servers_at_once() {
    for strategy in [MetadataRecovery::Rebootstrap, MetadataRecovery::None] {
        let none = [NONE];
        let recovers = strategy == MetadataRecovery::Rebootstrap;
        let (world, cluster) = cluster(if recovers { &[] } else { &none });
        world.put("b", Place::Knows(&["n1"]));
        world.put("n1", Place::Knows(&["n1"]));
        cluster.refresh().await.unwrap();
        let id = *cluster.metadata().nodes.keys().next().unwrap();
        let leader = cluster.node(id, Purpose::Fetch).await.unwrap();
        // The bootstrap server's connection is open as yet, and would be taken.
        world.put("b", Place::Knows(&["n3"]));
        world.change("n1", Place::Says(ErrorCode::RebootstrapRequired));
        cluster.at(leader.address(), Purpose::Requests).await.unwrap();
        let begun = Instant::now();
        match cluster.refresh().await {
            Ok(metadata) => {
                assert!(recovers);
                assert_eq!(hosts(&metadata), ["n3"]);
                assert!(leader.is_closed());
            }
            Err(error) => {
                assert!(!recovers && error.is_retriable(), "{error}");
                assert_eq!(error.code(), Some(ErrorCode::RebootstrapRequired));
                assert_eq!(hosts(&cluster.metadata()), ["n1"]);
            }
        }
        assert!(begun.elapsed() < SECOND);
    }
}

/// What consumers know of topics has to outlast the change: without it they would give up their partitions.
#[tokio::test(start_paused = true)]
async fn topics_stay_known_while_the_client_begins_anew() {
    let (world, cluster) = cluster(&[]);
    world.put("b", Place::Knows(&["n1"]));
    cluster.refresh().await.unwrap();
    let mut states = cluster.watch();
    states.mark_unchanged();
    world.put("n1", Place::Says(ErrorCode::RebootstrapRequired));
    world.put("b", Place::Refuses);
    assert!(cluster.refresh().await.unwrap_err().is_retriable());
    let metadata = cluster.metadata();
    assert!(metadata.nodes.is_empty() && metadata.topics.contains_key("t"));
    let id = metadata.partition("t", 0).unwrap().leader.unwrap();
    assert!(cluster.node(id, Purpose::Fetch).await.unwrap_err().is_retriable());
    world.put("b", Place::Knows(&["n3"]));
    assert!(until_refreshed(&cluster, MINUTE).await.is_some());
    assert_eq!(hosts(&cluster.metadata()), ["n3"]);
}

/// As from a broker that has only just started.
#[tokio::test(start_paused = true)]
async fn answer_that_names_no_broker_is_none() {
    let (world, cluster) = cluster(&[]);
    world.put("b", Place::Knows(&["n1"]));
    world.put("n1", Place::Knows(&[]));
    cluster.refresh().await.unwrap();
    world.put("b", Place::Refuses);
    assert!(cluster.refresh().await.unwrap_err().is_retriable());
    assert_eq!(hosts(&cluster.metadata()), ["n1"]);
}

/// KIP-601: each failure doubles it, with a fifth of jitter; after a success it is what it was.
#[tokio::test(start_paused = true)]
async fn each_attempt_to_connect_is_more_patient_than_the_last_that_failed() {
    let short = [
        ("socket.connection.setup.timeout.ms", "2000"),
        ("socket.connection.setup.timeout.max.ms", "5000"),
    ];
    for (properties, expected) in [(&[][..], [10, 20, 30, 30]), (&short[..], [2, 4, 5, 5])] {
        let (world, cluster) = cluster(properties);
        let address = cluster.settings().bootstrap_servers[0].clone();
        for place in [Place::Hangs, Place::Silent] {
            world.put("b", place);
            for expected in expected {
                let begun = Instant::now();
                let error = cluster.at(&address, Purpose::Fetch).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Connect);
                // It begins with the pause that the last failure asks for.
                let (took, pause) = (begun.elapsed(), SECOND * 12 / 10);
                let range = SECOND * expected * 8 / 10..=SECOND * expected * 12 / 10 + pause;
                assert!(range.contains(&took), "{place:?}: {took:?} where {expected} s were due");
            }
            world.put("b", Place::Mute);
            let connection = cluster.at(&address, Purpose::Fetch).await.unwrap();
            connection.close(Error::new(ErrorKind::Disconnected, "enough"));
        }
    }
}

/// The seconds between these.
fn gaps(times: &[Instant]) -> Vec<f64> {
    times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect()
}

/// Each is as long as expected, give or take a fifth.
fn assert_spread(gaps: &[f64], expected: &[f64]) {
    assert!(gaps.len() >= expected.len(), "{gaps:?}");
    for (gap, expected) in gaps.iter().zip(expected) {
        assert!((expected * 0.79..=expected * 1.21).contains(gap), "{gaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn brokers_hear_the_client_id_and_whether_topics_may_be_created() {
    for (may_create, value) in [(true, "true"), (false, "false")] {
        let (world, cluster) = cluster(&[("client.id", "me"), ("allow.auto.create.topics", value)]);
        world.put("b", Place::Knows(&["n1"]));
        cluster.refresh().await.unwrap();
        let (_, client, seen) = world.lock().asked[0].clone();
        assert_eq!((client.as_str(), seen), ("me", may_create));
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_is_asked_for_again_when_it_is_old() {
    let (world, cluster) = cluster(&[("metadata.max.age.ms", "7000")]);
    world.put("b", Place::Knows(&["n1"]));
    cluster.refresh().await.unwrap();
    tokio::time::sleep(MINUTE).await;
    let times: Vec<Instant> = world.lock().asked.iter().map(|(time, ..)| *time).collect();
    let last = times.len() - 5;
    assert_spread(&gaps(&times[last..]), &[7.0; 4]);
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_between_requests_that_fail() {
    let pauses = [("retry.backoff.ms", "2000"), ("retry.backoff.max.ms", "8000")];
    let (world, cluster) = cluster(&pauses);
    world.put("b", Place::Says(ErrorCode::CoordinatorLoadInProgress));
    assert_eq!(until_refreshed(&cluster, MINUTE).await, None);
    let times: Vec<Instant> = world.lock().asked.iter().map(|(time, ..)| *time).collect();
    assert_spread(&gaps(&times), &[2.0, 4.0, 8.0, 8.0]);
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_between_connections_that_fail() {
    let pauses = [
        ("reconnect.backoff.ms", "1000"),
        ("reconnect.backoff.max.ms", "3000"),
        ("retry.backoff.ms", "1"),
        ("retry.backoff.max.ms", "1"),
    ];
    let (world, cluster) = cluster(&pauses);
    assert_eq!(until_refreshed(&cluster, MINUTE).await, None);
    let times = std::mem::take(&mut world.lock().times);
    assert_spread(&gaps(&times), &[1.0, 2.0, 3.0, 3.0, 3.0]);
}

#[tokio::test(start_paused = true)]
async fn request_that_is_not_answered_in_time_ends_its_connection() {
    let (world, cluster) = cluster(&[("request.timeout.ms", "7000")]);
    world.put("b", Place::Mute);
    let begun = Instant::now();
    let error = cluster.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(begun.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn connection_that_nobody_uses_is_closed_after_a_while() {
    for (properties, limit) in [(&[][..], 540), (&[("connections.max.idle.ms", "60000")][..], 60)] {
        let (world, cluster) = cluster(properties);
        world.put("b", Place::Knows(&["n1"]));
        let address = cluster.settings().bootstrap_servers[0].clone();
        let connection = cluster.at(&address, Purpose::Fetch).await.unwrap();
        tokio::time::sleep(SECOND * limit - SECOND).await;
        assert!(!connection.is_closed());
        tokio::time::sleep(SECOND * limit / 5).await;
        assert!(connection.is_closed());
    }
}
