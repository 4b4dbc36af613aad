//! The task of one broker: makes Produce requests of what is ready, keeps up to `max.in.flight.requests.per.connection` on the wire, and
//! brings each batch the verdict that the answer means for it.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytestring::ByteString;
use kavka_protocol::{
    ErrorCode, Message, Request, Uuid,
    messages::{
        ProduceRequest, ProduceResponse,
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::PartitionProduceResponse,
    },
    records::Compressor,
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    batch::Batch,
    core::Core,
    delivery::Outcome,
    node::{Listed, Node},
    partition::{Partition, Readiness, State, Verdict},
    settings::Acks,
    verdict::{self, Situation},
};
use crate::{
    Error, ErrorKind,
    cluster::{self, Backoff, Purpose},
    connection::Connection,
};

/// From this version on topics go by id (KIP-516).
const BY_TOPIC_ID: i16 = 13;

/// A request on the wire.
struct Sent {
    batches: Vec<(Arc<Partition>, Batch)>,
    topics: Vec<(Uuid, ByteString)>,
    since: Instant,
    answer: Pin<Box<dyn Future<Output = Result<Answered, Error>> + Send>>,
}

/// What came back for a request.
enum Answered {
    /// The broker's answer.
    Response(ProduceResponse),
    /// It is written to the socket; there will be no answer.
    Unanswered,
}

struct Sender {
    core: Arc<Core>,
    node: Arc<Node>,
    connection: Option<Connection>,
    compressor: Compressor,
    /// In the order of their answers.
    wire: VecDeque<Sent>,
    /// Until when the broker wants no more requests (KIP-219).
    throttled_until: Option<Instant>,
}

/// Runs until the producer is over.
pub(super) async fn run(core: Arc<Core>, node: Arc<Node>) {
    let settings = &core.settings;
    let compressor = match Compressor::new(settings.compression, settings.compression_level) {
        Ok(compressor) => compressor,
        Err(error) => {
            // The settings were checked with another one.
            core.abandon_all(&Error::new(ErrorKind::Unsupported, error.to_string()));
            return;
        }
    };
    let mut sender = Sender {
        core,
        node,
        connection: None,
        compressor,
        wire: VecDeque::new(),
        throttled_until: None,
    };
    let mut backoff = sender.backoff();
    loop {
        sender.promote();
        let has_sent = sender.send_ready().await;
        match has_sent {
            Ok(()) => backoff.reset(),
            Err(error) => {
                sender.refuse(&error);
                sleep(backoff.next()).await;
                continue;
            }
        }
        let is_stalled = sender.node.ready() > 0;
        sender.node.set_stalled(is_stalled, sender.core.now_ms());
        sender.wait().await;
    }
}

impl Sender {
    fn backoff(&self) -> Backoff {
        let common = self.core.cluster.settings();
        let seed = common.machine.random();
        Backoff::new(common.retry_backoff, common.retry_backoff_max, seed)
    }

    /// Lists the partitions whose time has come.
    fn promote(&self) {
        let now = Instant::now();
        for partition in self.node.take_due(now) {
            let mut state = partition.lock();
            self.core.schedule(&partition, &mut state, now);
        }
    }

    /// Until an answer comes, something is ready, or a time has come.
    async fn wait(&mut self) {
        let nothing = || Instant::now() + Duration::from_secs(3600);
        let timer = self.node.next_timer().unwrap_or_else(nothing);
        let timer = self.throttled_until.map_or(timer, |until| until.min(timer));
        let answered = match self.wire.front_mut() {
            None => {
                tokio::select! {
                    () = self.node.woken() => {}
                    () = sleep_until(timer) => {}
                }
                return;
            }
            Some(sent) => tokio::select! {
                () = self.node.woken() => return,
                () = sleep_until(timer) => return,
                answered = &mut sent.answer => answered,
            },
        };
        if let Some(sent) = self.wire.pop_front() {
            let error = answered.as_ref().err();
            self.core.counters.note_over(sent.since.elapsed(), error);
            self.conclude(sent.batches, &sent.topics, answered);
        }
    }

    /// Sends what is ready, as far as requests may be on the wire.
    async fn send_ready(&mut self) -> Result<(), Error> {
        if self.throttled_until.is_some_and(|until| until > Instant::now()) {
            return Ok(());
        }
        self.throttled_until = None;
        while self.wire.len() < self.core.settings.max_in_flight && self.node.ready() > 0 {
            if self.core.settings.is_idempotent && self.core.identity_after(None).is_none() {
                self.core.ask_for_identity().await?;
            }
            let is_usable = |open: &Connection| !open.is_closed() && !open.is_retired();
            let is_open = self.connection.as_ref().is_some_and(is_usable);
            if !is_open {
                if !self.wire.is_empty() {
                    // What was on the wire comes back first, or it could be overtaken.
                    return Ok(());
                }
                self.node.set_stalled(true, self.core.now_ms());
                self.connection =
                    Some(self.core.cluster.node(self.node.id, Purpose::Produce).await?);
            }
            let batches = self.collect();
            if batches.is_empty() {
                return Ok(());
            }
            self.send(batches);
            self.node.set_stalled(false, self.core.now_ms());
        }
        Ok(())
    }

    /// The next batch of each ready partition, up to `max.request.size` of them.
    fn collect(&self) -> Vec<(Arc<Partition>, Batch)> {
        let core = &self.core;
        let settings = &core.settings;
        let identity_after = |used| core.identity_after(used);
        let now = Instant::now();
        let mut batches = Vec::new();
        let mut size = 0;
        for _ in 0..self.node.ready() {
            let Some(listed) = self.node.pop_ready() else { break };
            let partition = &listed.partition;
            let mut state = partition.lock();
            if !state.unlist(listed.listing) {
                // It had another leader since: it is listed elsewhere, or here again, and must not be twice in a request.
                continue;
            }
            let readiness =
                state.readiness(now, settings.linger, settings.batch_size, core.is_pressed());
            if readiness != Readiness::Now {
                core.schedule(partition, &mut state, now);
                continue;
            }
            let more = state.front_size();
            if !batches.is_empty() && size + more > settings.max_request_size {
                self.put_back(partition, &mut state);
                break;
            }
            let numbers: Option<super::partition::IdentityAfter<'_>> =
                if settings.is_idempotent { Some(&identity_after) } else { None };
            let Some(batch) = state.take(numbers) else {
                self.put_back(partition, &mut state);
                break;
            };
            size += more;
            core.schedule(partition, &mut state, now);
            partition.show_queued(&state);
            drop(state);
            batches.push((listed.partition, batch));
        }
        batches
    }

    /// It is the next one still.
    fn put_back(&self, partition: &Arc<Partition>, state: &mut State) {
        if let Some(listing) = state.list() {
            self.node.push_next(partition, listing);
        }
    }

    /// Sends batches as one request.
    fn send(&mut self, mut batches: Vec<(Arc<Partition>, Batch)>) {
        let Some(connection) = self.connection.clone() else { return };
        let request_timeout = self.core.cluster.settings().request_timeout;
        let metadata = self.core.cluster.metadata();
        let mut topic_data: Vec<TopicProduceData> = Vec::new();
        let mut index_of: HashMap<ByteString, usize> = HashMap::new();
        let mut topics = Vec::new();
        let mut broken = Vec::new();
        for (at, (partition, batch)) in batches.iter_mut().enumerate() {
            let records = match batch.build(&mut self.compressor) {
                Ok(bytes) => bytes,
                Err(error) => {
                    broken.push((at, error));
                    continue;
                }
            };
            let index = match topic_data.last() {
                Some(last) if last.name == partition.topic => topic_data.len() - 1,
                _ => *index_of.entry(partition.topic.clone()).or_insert_with(|| {
                    let info = metadata.topics.get(&partition.topic);
                    let id = info.map_or(Uuid::ZERO, |info| info.id);
                    topics.push((id, partition.topic.clone()));
                    topic_data.push(TopicProduceData {
                        name: partition.topic.clone(),
                        topic_id: id,
                        ..Default::default()
                    });
                    topic_data.len() - 1
                }),
            };
            topic_data[index].partition_data.push(PartitionProduceData {
                index: partition.index,
                records: Some(records),
                ..Default::default()
            });
        }
        let bytes = |topic: &TopicProduceData| -> usize {
            topic.partition_data.iter().flat_map(|row| &row.records).map(bytes::Bytes::len).sum()
        };
        let retried = batches.iter().filter(|(_, batch)| batch.attempts > 1).count();
        let bytes = topic_data.iter().map(bytes).sum();
        let newest = match topics.iter().any(|(id, _)| *id == Uuid::ZERO) {
            true => BY_TOPIC_ID - 1,
            false => *ProduceRequest::VERSIONS.end(),
        };
        for (at, error) in broken.into_iter().rev() {
            let (partition, batch) = batches.remove(at);
            self.finish(&partition, batch, Verdict::Failed(Outcome::Failed(error)));
        }
        self.core.counters.note_sent(batches.len(), retried, bytes);
        let request = ProduceRequest {
            transactional_id: None,
            acks: match self.core.settings.acks {
                Acks::None => 0,
                Acks::Leader => 1,
                Acks::All => -1,
            },
            timeout_ms: i32::try_from(request_timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data,
            ..Default::default()
        };
        let sent = connection.versions().newest(ProduceRequest::API_KEY, newest).and_then(
            |version| -> Result<Pin<Box<dyn Future<Output = _> + Send>>, Error> {
                let late = Instant::now() + request_timeout;
                if self.core.settings.acks == Acks::None {
                    let written = connection.send_unanswered(&request, version)?;
                    return Ok(Box::pin(async move {
                        written.wait(late).await.map(|()| Answered::Unanswered)
                    }));
                }
                let answer = connection.send(&request, version)?;
                Ok(Box::pin(async move {
                    let left = late.saturating_duration_since(Instant::now());
                    answer.wait::<ProduceResponse>(left).await.map(Answered::Response)
                }))
            },
        );
        // An error comes back in the same line as answers.
        let answer = sent.unwrap_or_else(|error| Box::pin(std::future::ready(Err(error))));
        self.wire.push_back(Sent { batches, topics, since: Instant::now(), answer });
    }

    /// Brings the batches of a request their verdicts.
    fn conclude(
        &mut self,
        batches: Vec<(Arc<Partition>, Batch)>,
        topics: &[(Uuid, ByteString)],
        answered: Result<Answered, Error>,
    ) {
        let response = match answered {
            Ok(Answered::Response(response)) => response,
            Ok(Answered::Unanswered) => {
                for (partition, batch) in batches {
                    let written = Verdict::Written { base_offset: None, log_append_time_ms: None };
                    self.finish(&partition, batch, written);
                }
                return;
            }
            Err(error) => {
                self.core.cluster.request_refresh();
                for (partition, batch) in batches {
                    let pause = Some(self.pause(batch.attempts));
                    let verdict = verdict::of_failed_request(&error, pause);
                    self.finish(&partition, batch, verdict);
                }
                return;
            }
        };
        if let Ok(pause) = u64::try_from(response.throttle_time_ms)
            && pause > 0
        {
            // Not believed beyond what an answer may take.
            let most = self.core.cluster.settings().request_timeout;
            self.throttled_until = Some(Instant::now() + Duration::from_millis(pause).min(most));
        }
        let mut rows: HashMap<(ByteString, i32), PartitionProduceResponse> = HashMap::new();
        for topic in response.responses {
            let by_id = topics.iter().find(|(id, _)| *id != Uuid::ZERO && *id == topic.topic_id);
            let name = by_id.map_or(&topic.name, |(_, name)| name);
            for row in topic.partition_responses {
                rows.insert((name.clone(), row.index), row);
            }
        }
        let mut needs_refresh = false;
        for (partition, batch) in batches {
            let key = (partition.topic.clone(), partition.index);
            let Some(row) = rows.remove(&key) else {
                let error = Error::new(
                    ErrorKind::Protocol,
                    format!("broker {} did not answer for {}-{}", self.node.id, key.0, key.1),
                );
                let pause = Some(self.pause(batch.attempts));
                let verdict = Verdict::Retry { error, pause, may_be_written: true };
                self.finish(&partition, batch, verdict);
                continue;
            };
            if row.error_code == ErrorCode::NotLeaderOrFollower
                || row.error_code == ErrorCode::FencedLeaderEpoch
            {
                let (id, epoch) = (row.current_leader.leader_id, row.current_leader.leader_epoch);
                let endpoints = &response.node_endpoints;
                let endpoint = endpoints.iter().find(|endpoint| endpoint.node_id == id);
                let endpoint = endpoint.and_then(|at| {
                    cluster::Node::new(at.node_id, at.host.clone(), at.port, at.rack.clone())
                });
                if self.core.cluster.learn_leader(&key.0, key.1, id, epoch, endpoint) {
                    // Before the batch is queued again, or it would come back here.
                    self.core.apply_metadata(&self.core.cluster.metadata());
                }
            }
            needs_refresh |= row.error_code.needs_metadata_refresh();
            if row.error_code != ErrorCode::None {
                let what = format_args!("producing to {}-{}", key.0, key.1);
                self.core.counters.note_error(&Error::broker(row.error_code, what));
            }
            let has_moved = partition.leader() != self.node.id;
            let pause = (!has_moved).then(|| self.pause(batch.attempts));
            let situation = Situation { topic: &key.0, partition: key.1, pause };
            let verdict = verdict::of_answer(row, &situation);
            self.finish(&partition, batch, verdict);
        }
        if needs_refresh {
            self.core.cluster.request_refresh();
        }
    }

    fn finish(&self, partition: &Arc<Partition>, batch: Batch, verdict: Verdict) {
        let now = Instant::now();
        let mut state = partition.lock();
        state.conclude(batch, verdict, now, self.core.settings.retries);
        partition.show_queued(&state);
        self.core.schedule(partition, &mut state, now);
    }

    /// The pause after so many attempts.
    fn pause(&self, attempts: u32) -> Duration {
        let common = self.core.cluster.settings();
        let random = common.machine.random();
        Backoff::after(common.retry_backoff, common.retry_backoff_max, attempts, random)
    }

    /// Gives up what waits for this broker if it is of no use to try again.
    fn refuse(&self, error: &Error) {
        self.core.counters.note_error(error);
        if error.is_retriable() {
            tracing::debug!(broker = self.node.id, %error, "cannot send to the broker");
            return;
        }
        tracing::error!(broker = self.node.id, %error, "records cannot be sent");
        while let Some(Listed { partition, listing }) = self.node.pop_ready() {
            let mut state = partition.lock();
            if state.unlist(listing) {
                state.abandon_queued(error);
                partition.show_queued(&state);
            }
        }
    }
}
