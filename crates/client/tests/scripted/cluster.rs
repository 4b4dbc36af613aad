//! Brokers of one cluster with one partition, which answer as a [`Script`] says.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use kavka_protocol::{
    ApiKey, ErrorCode, Uuid,
    messages::{
        ApiVersionsRequest, ApiVersionsResponse, FetchRequest, FetchResponse, ListOffsetsRequest,
        ListOffsetsResponse, MetadataRequest, MetadataResponse, OffsetForLeaderEpochRequest,
        OffsetForLeaderEpochResponse,
        api_versions_response::ApiVersion,
        fetch_response::{
            AbortedTransaction, EpochEndOffset as Diverging, FetchableTopicResponse, PartitionData,
        },
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
        metadata_response::{
            MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
        },
        offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
    },
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{log::Log, wire::Asked};

pub(crate) const TOPIC: &str = "t";
const TOPIC_ID: Uuid = Uuid::from_bytes([7; 16]);
const APIS: &[ApiKey] = &[
    ApiKey::ApiVersions,
    ApiKey::Metadata,
    ApiKey::ListOffsets,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::Fetch,
];
/// How long a fetch waits that finds nothing.
const EMPTY_WAIT: Duration = Duration::from_millis(5);
const EARLIEST: i64 = -2;

/// What the brokers say.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) leader: i32,
    pub(crate) leader_epoch: i32,
    /// Leader and epoch that metadata still names.
    pub(crate) stale_metadata: Option<(i32, i32)>,
    /// What metadata says of the topic in place of its partitions.
    pub(crate) refused: Option<ErrorCode>,
    /// The replicas, by broker.
    pub(crate) logs: BTreeMap<i32, Log>,
    pub(crate) racks: BTreeMap<i32, &'static str>,
    /// What these brokers answer to each fetch.
    pub(crate) failing: BTreeMap<i32, ErrorCode>,
    /// These close the connection at each fetch.
    pub(crate) hanging_up: BTreeSet<i32>,
    /// Batches that a fetch brings at most.
    pub(crate) batches_per_fetch: Option<usize>,
    /// The next fetch is told that the logs diverge.
    pub(crate) says_diverging: bool,
    /// The newest version of Fetch.
    pub(crate) newest_fetch: Option<i16>,
    pub(crate) seen: Vec<Seen>,
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Fetch { broker: i32, offset: i64, rack: String },
    EndOfEpoch { broker: i32, epoch: i32, current: i32 },
    ListOffsets { broker: i32 },
}

pub(crate) struct Cluster {
    addresses: Vec<SocketAddr>,
    script: Arc<Mutex<Script>>,
    /// They end with the cluster.
    _brokers: JoinSet<()>,
}

impl Cluster {
    /// Brokers 0, 1, ...; as many as the script has replicas.
    pub(crate) async fn start(script: Script) -> Self {
        let mut listeners = Vec::new();
        for _ in 0..script.logs.len() {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let addresses: Vec<SocketAddr> =
            listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let script = Arc::new(Mutex::new(script));
        let mut brokers = JoinSet::new();
        for (id, listener) in (0..).zip(listeners) {
            let (addresses, script) = (addresses.clone(), Arc::clone(&script));
            brokers.spawn(async move {
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let broker =
                        Broker { id, addresses: addresses.clone(), script: Arc::clone(&script) };
                    connections.spawn(broker.serve(stream));
                }
            });
        }
        Self { addresses, script, _brokers: brokers }
    }

    pub(crate) fn bootstrap_servers(&self) -> String {
        self.addresses[0].to_string()
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// The requests since this was last asked.
    pub(crate) fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.script().seen)
    }
}

struct Broker {
    id: i32,
    addresses: Vec<SocketAddr>,
    script: Arc<Mutex<Script>>,
}

impl Broker {
    async fn serve(self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        while let Some(asked) = Asked::read(&mut stream).await {
            let Some(answer) = self.answer(asked).await else { return };
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }

    /// The answer as a frame; `None`: the connection is closed.
    async fn answer(&self, mut asked: Asked) -> Option<Bytes> {
        Some(match asked.api {
            ApiKey::ApiVersions => asked.answer::<ApiVersionsRequest>(&self.versions()),
            ApiKey::Metadata => asked.answer::<MetadataRequest>(&self.metadata()),
            ApiKey::ListOffsets => {
                let request = asked.body();
                asked.answer::<ListOffsetsRequest>(&self.list_offsets(&request))
            }
            ApiKey::OffsetForLeaderEpoch => {
                let request = asked.body();
                asked.answer::<OffsetForLeaderEpochRequest>(&self.end_of_epoch(&request))
            }
            ApiKey::Fetch => {
                let request = asked.body();
                if self.script().hanging_up.contains(&self.id) {
                    return None;
                }
                let answer = self.fetch(&request);
                let rows = answer.responses.iter().flat_map(|topic| &topic.partitions);
                if rows.flat_map(|row| &row.records).all(Bytes::is_empty) {
                    tokio::time::sleep(EMPTY_WAIT).await;
                }
                asked.answer::<FetchRequest>(&answer)
            }
            other => panic!("no client was to ask for {other}"),
        })
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    fn versions(&self) -> ApiVersionsResponse {
        let newest_fetch = self.script().newest_fetch;
        let row = |api: &ApiKey| {
            let (min_version, newest) = api.versions();
            let newest_fetch = newest_fetch.filter(|_| *api == ApiKey::Fetch);
            ApiVersion {
                api_key: api.code(),
                min_version,
                max_version: newest_fetch.unwrap_or(newest),
                ..Default::default()
            }
        };
        ApiVersionsResponse { api_keys: APIS.iter().map(row).collect(), ..Default::default() }
    }

    fn metadata(&self) -> MetadataResponse {
        let script = self.script();
        let (leader_id, leader_epoch) =
            script.stale_metadata.unwrap_or((script.leader, script.leader_epoch));
        let broker = |(id, address): (i32, &SocketAddr)| MetadataResponseBroker {
            node_id: id,
            host: address.ip().to_string().into(),
            port: i32::from(address.port()),
            rack: script.racks.get(&id).map(|rack| (*rack).into()),
            ..Default::default()
        };
        let replicas: Vec<i32> = script.logs.keys().copied().collect();
        let partition = MetadataResponsePartition {
            leader_id,
            leader_epoch,
            replica_nodes: replicas.clone(),
            isr_nodes: replicas,
            ..Default::default()
        };
        let topic = MetadataResponseTopic {
            name: Some(TOPIC.into()),
            topic_id: TOPIC_ID,
            error_code: script.refused.unwrap_or(ErrorCode::None),
            partitions: script.refused.map_or_else(|| vec![partition], |_| Vec::new()),
            ..Default::default()
        };
        MetadataResponse {
            brokers: (0..).zip(&self.addresses).map(broker).collect(),
            cluster_id: Some("scripted".into()),
            topics: vec![topic],
            ..Default::default()
        }
    }

    /// Whether this broker leads in the epoch that the client believes in.
    fn leads(&self, script: &Script, current: i32) -> ErrorCode {
        if script.leader != self.id {
            ErrorCode::NotLeaderOrFollower
        } else {
            epoch_error(script, current)
        }
    }

    fn list_offsets(&self, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let mut script = self.script();
        script.seen.push(Seen::ListOffsets { broker: self.id });
        let asked = &request.topics[0].partitions[0];
        let log = &script.logs[&self.id];
        let (latest, epoch) = match request.isolation_level {
            0 => (log.high_watermark(), script.leader_epoch),
            _ => (log.last_stable_offset(), script.leader_epoch),
        };
        let offset = if asked.timestamp == EARLIEST { log.start } else { latest };
        let row = match self.leads(&script, asked.current_leader_epoch) {
            ErrorCode::None => {
                ListOffsetsPartitionResponse { offset, leader_epoch: epoch, ..Default::default() }
            }
            error_code => ListOffsetsPartitionResponse { error_code, ..Default::default() },
        };
        let topic = ListOffsetsTopicResponse {
            name: TOPIC.into(),
            partitions: vec![row],
            ..Default::default()
        };
        ListOffsetsResponse { topics: vec![topic], ..Default::default() }
    }

    fn end_of_epoch(&self, request: &OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
        let mut script = self.script();
        let asked = &request.topics[0].partitions[0];
        let (epoch, current) = (asked.leader_epoch, asked.current_leader_epoch);
        script.seen.push(Seen::EndOfEpoch { broker: self.id, epoch, current });
        let row = match self.leads(&script, current) {
            ErrorCode::None => {
                let (leader_epoch, end_offset) = script.logs[&self.id].end_of_epoch(epoch);
                EpochEndOffset { leader_epoch, end_offset, ..Default::default() }
            }
            error_code => EpochEndOffset { error_code, ..Default::default() },
        };
        let topic = OffsetForLeaderTopicResult {
            topic: TOPIC.into(),
            partitions: vec![row],
            ..Default::default()
        };
        OffsetForLeaderEpochResponse { topics: vec![topic], ..Default::default() }
    }

    /// Without sessions: each fetch names what it wants.
    fn fetch(&self, request: &FetchRequest) -> FetchResponse {
        let mut script = self.script();
        let mut responses = Vec::new();
        for topic in &request.topics {
            for asked in &topic.partitions {
                let (broker, offset) = (self.id, asked.fetch_offset);
                let rack = request.rack_id.to_string();
                script.seen.push(Seen::Fetch { broker, offset, rack });
                let read_committed = request.isolation_level == 1;
                let epoch = asked.current_leader_epoch;
                let row = self.fetch_row(&mut script, offset, epoch, read_committed, request);
                responses.push(FetchableTopicResponse {
                    topic: topic.topic.clone(),
                    topic_id: topic.topic_id,
                    partitions: vec![row],
                    ..Default::default()
                });
            }
        }
        FetchResponse { responses, ..Default::default() }
    }

    fn fetch_row(
        &self,
        script: &mut Script,
        offset: i64,
        current: i32,
        read_committed: bool,
        request: &FetchRequest,
    ) -> PartitionData {
        let failed = |error_code| PartitionData {
            error_code,
            high_watermark: -1,
            last_stable_offset: -1,
            ..Default::default()
        };
        if let Some(code) = script.failing.get(&self.id) {
            return failed(*code);
        }
        let Some(log) = script.logs.get(&self.id) else {
            return failed(ErrorCode::NotLeaderOrFollower);
        };
        match epoch_error(script, current) {
            ErrorCode::None => {}
            code => return failed(code),
        }
        if offset < log.start || offset > log.end() {
            return failed(ErrorCode::OffsetOutOfRange);
        }
        let row = PartitionData {
            high_watermark: log.high_watermark(),
            last_stable_offset: log.last_stable_offset(),
            log_start_offset: log.start,
            ..Default::default()
        };
        let nearer = |id: &&i32| {
            **id != self.id && script.racks.get(id).is_some_and(|rack| *rack == &*request.rack_id)
        };
        if self.id == script.leader
            && let Some(replica) = script.logs.keys().find(nearer)
        {
            return PartitionData { preferred_read_replica: *replica, ..row };
        }
        if std::mem::take(&mut script.says_diverging) {
            let log = &script.logs[&self.id];
            let (epoch, end_offset) = log.end_of_epoch(i32::MAX);
            let diverging_epoch = Diverging { epoch, end_offset, ..Default::default() };
            return PartitionData { diverging_epoch, ..row };
        }
        let log = &script.logs[&self.id];
        let below = if read_committed { log.last_stable_offset() } else { log.high_watermark() };
        let found = log.read(offset, below, script.batches_per_fetch.unwrap_or(usize::MAX));
        let aborted = found.aborted.into_iter().map(|(producer_id, first_offset)| {
            AbortedTransaction { producer_id, first_offset, ..Default::default() }
        });
        PartitionData {
            aborted_transactions: read_committed.then(|| aborted.collect()),
            records: Some(found.records),
            ..row
        }
    }
}

fn epoch_error(script: &Script, current: i32) -> ErrorCode {
    match current {
        -1 => ErrorCode::None,
        older if older < script.leader_epoch => ErrorCode::FencedLeaderEpoch,
        newer if newer > script.leader_epoch => ErrorCode::UnknownLeaderEpoch,
        _ => ErrorCode::None,
    }
}
