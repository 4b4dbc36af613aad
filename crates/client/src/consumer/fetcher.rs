//! Keeps one fetch per broker ahead of the application.
//!
//! Owns: up to where each partition is fetched, from which replica, the sessions with the brokers, pauses after errors. Does not own:
//! positions (`Member` says where to begin) and what was fetched (`inbox`).
//!
//! **Architecture invariants:** one fetch per broker is under way at most. A partition of which something waits in the inbox is not
//! fetched, so that there are at most the answers of two fetches per broker in memory: the one that waits, and the one the application
//! walks through. What a fetch brings counts only if its partition is still at the epoch and offset it was asked for.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytestring::ByteString;
use kavka_member::{Fetchable, IsolationLevel, PositionEpoch, TopicPartition};
use kavka_protocol::{
    ApiKey, ErrorCode, Message, Uuid,
    messages::{FetchResponse, fetch_response::PartitionData},
};
use tokio::time::Instant;

use super::{
    chunk::{Aborted, Chunk, extent_of},
    inbox::{GivenUp, Inbox},
    metrics::FetchMetrics,
    record::unreadable,
    session::{Row, Session, TOPIC_IDS, Terms},
    settings::FetchSettings,
};
use crate::{
    Error, ErrorKind,
    cluster::{Backoff, Cluster, Metadata, Node, Purpose},
};

/// While some partitions of a broker have something waiting, others of it are looked after this often.
const GLANCE: Duration = Duration::from_millis(100);
/// After an answer that more asking does not mend.
const LONG_PAUSE: Duration = Duration::from_secs(5);
/// After bytes that are no records.
const BROKEN_PAUSE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Fetcher {
    cluster: Cluster,
    settings: FetchSettings,
    isolation_level: IsolationLevel,
    brokers: HashMap<i32, BrokerState>,
    cursors: BTreeMap<TopicPartition, Cursor>,
    wake_at: Option<Instant>,
    metrics: FetchMetrics,
}

#[derive(Debug)]
struct BrokerState {
    /// `None` while a fetch is under way.
    session: Option<Session>,
    backoff: Backoff,
    not_before: Option<Instant>,
    last_bytes: usize,
    last_end: Instant,
}

/// How far a partition is fetched.
#[derive(Debug)]
struct Cursor {
    place: usize,
    epoch: PositionEpoch,
    next_offset: i64,
    not_before: Option<Instant>,
    /// A replica that is nearer than the leader (KIP-392), and until when that holds.
    preferred: Option<(i32, Instant)>,
    /// The log has no such offset, or is not what was read. The member hears of it when all that was fetched is consumed.
    is_out_of_range: bool,
    ends: Ends,
}

/// Where a log began and ended when it was last fetched from; -1 where nobody said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) log_start_offset: i64,
    pub(super) last_stable_offset: i64,
    pub(super) high_watermark: i64,
}

/// A fetch to be made.
#[derive(Debug)]
pub(super) struct Fetch {
    broker: i32,
    session: Session,
    rows: BTreeMap<TopicPartition, Row>,
    epochs: BTreeMap<TopicPartition, PositionEpoch>,
    terms: Terms,
    timeout: Duration,
}

/// A fetch that was made.
#[derive(Debug)]
pub(super) struct Fetched {
    fetch: Fetch,
    took: Duration,
    result: Result<FetchResponse, Error>,
}

/// What is to be fetched from one broker.
#[derive(Debug, Default)]
struct Plan {
    wanted: Vec<TopicPartition>,
    waiting_bytes: usize,
    has_waiting: bool,
}

impl Fetcher {
    pub(super) fn new(
        cluster: Cluster,
        settings: FetchSettings,
        isolation_level: IsolationLevel,
    ) -> Self {
        Self {
            cluster,
            settings,
            isolation_level,
            brokers: HashMap::new(),
            cursors: BTreeMap::new(),
            wake_at: None,
            metrics: FetchMetrics::default(),
        }
    }

    /// What was fetched so far; not what of it waits.
    pub(super) fn metrics(&self) -> FetchMetrics {
        self.metrics
    }

    /// The partition is not owned any more.
    pub(super) fn forget(&mut self, partition: &TopicPartition) {
        self.cursors.remove(partition);
    }

    /// When to come back although nothing happened.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    /// Where the log of a partition ends, as the last fetch had it.
    pub(super) fn ends(&self, partition: &TopicPartition) -> Option<Ends> {
        self.cursors
            .get(partition)
            .map(|cursor| cursor.ends)
            .filter(|ends| ends.high_watermark >= 0)
    }

    /// One after the last record that this consumer can see.
    pub(super) fn visible_end(&self, ends: Ends) -> i64 {
        match self.isolation_level {
            IsolationLevel::ReadCommitted => ends.last_stable_offset,
            IsolationLevel::ReadUncommitted => ends.high_watermark,
        }
    }

    /// Partitions whose position is not in the log, and of which everything that was fetched is consumed.
    pub(super) fn out_of_range(&mut self, inbox: &Inbox) -> Vec<(TopicPartition, PositionEpoch)> {
        let mut found = Vec::new();
        for (partition, cursor) in &mut self.cursors {
            let is_busy = inbox.slot_of(partition).is_some_and(super::inbox::Slot::is_busy);
            if cursor.is_out_of_range && !is_busy {
                cursor.is_out_of_range = false;
                found.push((partition.clone(), cursor.epoch));
            }
        }
        found
    }

    /// What a reader could not read, or was not to read on, is fetched again.
    pub(super) fn on_given_up(&mut self, given_up: GivenUp) {
        let GivenUp { place, epoch, from, is_broken } = given_up;
        let mut cursors = self.cursors.values_mut();
        if let Some(cursor) = cursors.find(|c| c.place == place && c.epoch == epoch) {
            cursor.next_offset = from;
            cursor.not_before = is_broken.then(|| Instant::now() + BROKEN_PAUSE);
        }
    }

    /// The fetches to be made now.
    pub(super) fn plan(
        &mut self,
        fetchable: impl Iterator<Item = Fetchable>,
        inbox: &mut Inbox,
        metadata: &Metadata,
    ) -> Vec<Fetch> {
        let now = Instant::now();
        self.wake_at = None;
        let mut plans: BTreeMap<i32, Plan> = BTreeMap::new();
        let mut is_leaderless = false;
        for found in fetchable {
            let Some(slot) = inbox.slot_of(&found.partition) else { continue };
            if slot.epoch != Some(found.epoch) {
                self.start(&found, inbox);
            }
            let (Some(slot), Some(cursor)) =
                (inbox.slot_of(&found.partition), self.cursors.get_mut(&found.partition))
            else {
                continue;
            };
            if cursor.is_out_of_range {
                continue;
            }
            cursor
                .preferred
                .take_if(|(id, until)| *until <= now || !metadata.nodes.contains_key(id));
            let leader = metadata
                .partition(&found.partition.topic, found.partition.partition)
                .and_then(|info| info.leader);
            let Some(broker) = cursor.preferred.map(|(id, _)| id).or(leader) else {
                is_leaderless = true;
                continue;
            };
            let plan = plans.entry(broker).or_default();
            if slot.has_queued() {
                plan.has_waiting = true;
                plan.waiting_bytes += slot.queued_bytes();
            } else if let Some(time) = cursor.not_before.filter(|time| *time > now) {
                wake(&mut self.wake_at, time);
            } else {
                plan.wanted.push(found.partition);
            }
        }
        if is_leaderless {
            // Asking too often does no harm: it is one request every retry.backoff.ms at most.
            self.cluster.request_refresh();
            wake(&mut self.wake_at, now + GLANCE);
        }
        let plans = plans.into_iter().filter(|(_, plan)| !plan.wanted.is_empty());
        plans.filter_map(|(broker, plan)| self.fetch(now, broker, plan, metadata)).collect()
    }

    /// A partition begins at the member's position.
    fn start(&mut self, found: &Fetchable, inbox: &mut Inbox) {
        inbox.set_epoch(&found.partition, Some(found.epoch));
        let Some(place) = inbox.place_of(&found.partition) else { return };
        let former = self.cursors.remove(&found.partition);
        let cursor = Cursor {
            place,
            epoch: found.epoch,
            next_offset: found.position.offset,
            not_before: None,
            preferred: former.as_ref().and_then(|former| former.preferred),
            is_out_of_range: false,
            ends: former.map_or(Ends::UNKNOWN, |former| former.ends),
        };
        self.cursors.insert(found.partition.clone(), cursor);
    }

    fn fetch(
        &mut self,
        now: Instant,
        broker: i32,
        plan: Plan,
        metadata: &Metadata,
    ) -> Option<Fetch> {
        let settings = self.cluster.settings();
        let state = self.brokers.entry(broker).or_insert_with(|| BrokerState {
            session: Some(Session::default()),
            backoff: Backoff::new(
                settings.reconnect_backoff,
                settings.reconnect_backoff_max,
                settings.machine.random(),
            ),
            not_before: None,
            last_bytes: 0,
            last_end: now,
        });
        state.session.as_ref()?;
        if let Some(time) = state.not_before.filter(|time| *time > now) {
            wake(&mut self.wake_at, time);
            return None;
        }
        if plan.has_waiting {
            // A fetch that waits for data of some partitions would be in the way of the others when theirs is used up.
            let runs_low = state.last_bytes > 0 && plan.waiting_bytes * 2 <= state.last_bytes;
            let glance = state.last_end + GLANCE;
            if !runs_low && glance > now {
                wake(&mut self.wake_at, glance);
                return None;
            }
        }
        let session = state.session.take()?;
        let mut rows = BTreeMap::new();
        let mut epochs = BTreeMap::new();
        for partition in plan.wanted {
            let Some(cursor) = self.cursors.get(&partition) else { continue };
            let topic_id =
                metadata.topics.get(&partition.topic).map_or(Uuid::ZERO, |topic| topic.id);
            let info = metadata.partition(&partition.topic, partition.partition);
            let row = Row {
                topic_id,
                offset: cursor.next_offset,
                current_leader_epoch: info.map_or(-1, |info| info.leader_epoch),
                max_bytes: self.settings.partition_max_bytes,
            };
            epochs.insert(partition.clone(), cursor.epoch);
            rows.insert(partition, row);
        }
        let max_wait = if plan.has_waiting { Duration::ZERO } else { self.settings.max_wait };
        let terms = Terms {
            max_wait_ms: i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.settings.min_bytes,
            max_bytes: self.settings.max_bytes,
            isolation_level: self.isolation_level,
            rack: settings.client_rack.clone().unwrap_or_default(),
        };
        let timeout = settings.request_timeout + max_wait;
        Some(Fetch { broker, session, rows, epochs, terms, timeout })
    }

    /// Takes what a fetch brought.
    pub(super) fn on_fetched(&mut self, fetched: Fetched, inbox: &mut Inbox) {
        let Fetched { mut fetch, took, result } = fetched;
        let now = Instant::now();
        let outcome = match &result {
            Ok(response) if fetch.session.on_response(response) => Ok(()),
            Ok(response) => Err(Some(response.error_code)),
            Err(_) => {
                fetch.session.on_failure();
                Err(None)
            }
        };
        let Some(state) = self.brokers.get_mut(&fetch.broker) else { return };
        state.session = Some(std::mem::take(&mut fetch.session));
        state.last_end = now;
        state.last_bytes = 0;
        match outcome {
            Ok(()) => {
                self.metrics.requests.note(took);
                state.backoff.reset();
                // A broker that throttles answers at once, and wants to be asked again no sooner than this (KIP-219). What it says is not
                // believed beyond what an answer may take.
                let pause = result.as_ref().map_or(0, |response| response.throttle_time_ms);
                let pause =
                    u64::try_from(pause).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
                let most = self.cluster.settings().request_timeout;
                state.not_before = pause.map(|pause| now + pause.min(most));
            }
            // Nothing is wrong but the session: the next request begins anew.
            Err(Some(ErrorCode::FetchSessionIdNotFound | ErrorCode::InvalidFetchSessionEpoch)) => {
                self.metrics.failed += 1;
            }
            Err(code) => {
                self.metrics.failed += 1;
                match (&result, code) {
                    (Err(error), _) => inbox.note_error(error),
                    (Ok(_), Some(code)) => {
                        let what = format!("fetching from broker {}", fetch.broker);
                        inbox.note_error(&Error::broker(code, what));
                    }
                    (Ok(_), None) => {}
                }
                state.not_before = Some(now + state.backoff.next());
                self.cluster.request_refresh();
                tracing::debug!(broker = fetch.broker, ?code, error = ?result.as_ref().err(), "a fetch failed");
                for partition in fetch.rows.keys() {
                    if let Some(cursor) = self.cursors.get_mut(partition) {
                        // The replica may be gone; the leader knows better.
                        cursor.preferred.take_if(|(id, _)| *id == fetch.broker);
                    }
                }
            }
        }
        let (Ok(()), Ok(response)) = (outcome, result) else { return };
        let mut ids: HashMap<Uuid, &ByteString> = HashMap::new();
        for (partition, row) in &fetch.rows {
            ids.insert(row.topic_id, &partition.topic);
        }
        let endpoints: HashMap<i32, Node> = response
            .node_endpoints
            .into_iter()
            .filter_map(|row| Node::new(row.node_id, row.host, row.port, row.rack))
            .map(|node| (node.id, node))
            .collect();
        let mut bytes = 0;
        for topic in response.responses {
            let name = if topic.topic.is_empty() {
                ids.get(&topic.topic_id).copied().cloned()
            } else {
                Some(topic.topic)
            };
            let Some(name) = name else { continue };
            for row in topic.partitions {
                let partition = TopicPartition::new(name.clone(), row.partition_index);
                bytes += row.records.as_ref().map_or(0, bytes::Bytes::len);
                self.on_row(now, &fetch, &partition, row, inbox, &endpoints);
            }
        }
        if let Some(state) = self.brokers.get_mut(&fetch.broker) {
            state.last_bytes = bytes;
        }
    }

    fn on_row(
        &mut self,
        now: Instant,
        fetch: &Fetch,
        partition: &TopicPartition,
        row: PartitionData,
        inbox: &mut Inbox,
        endpoints: &HashMap<i32, Node>,
    ) {
        let (Some(asked), Some(cursor)) =
            (fetch.rows.get(partition), self.cursors.get_mut(partition))
        else {
            return;
        };
        if fetch.epochs.get(partition) != Some(&cursor.epoch) || asked.offset != cursor.next_offset
        {
            return;
        }
        if row.error_code != ErrorCode::None {
            return self.on_error(now, fetch, partition, &row, inbox, endpoints);
        }
        if row.diverging_epoch.epoch >= 0 {
            // The log is not what was read (KIP-595). Consumers do not send what a broker finds that out by: for an epoch that was
            // deleted with its records it would answer that the offset is out of range. One that says so all the same is believed.
            cursor.is_out_of_range = true;
            return;
        }
        cursor.ends = Ends {
            log_start_offset: row.log_start_offset,
            last_stable_offset: row.last_stable_offset,
            high_watermark: row.high_watermark,
        };
        if row.preferred_read_replica >= 0 && row.preferred_read_replica != fetch.broker {
            let until = now + self.cluster.settings().metadata_max_age;
            cursor.preferred = Some((row.preferred_read_replica, until));
        }
        let Some(records) = row.records.filter(|records| !records.is_empty()) else { return };
        let extent = extent_of(&records);
        if let Ok(extent) = &extent {
            self.metrics.batches += extent.batches;
            self.metrics.records += extent.records;
            self.metrics.bytes += records.len() as u64;
        }
        let end = match extent.map(|extent| extent.end) {
            Ok(Some(end)) if end > cursor.next_offset => end,
            Ok(_) => {
                cursor.not_before = Some(now + BROKEN_PAUSE);
                let message = format!(
                    "broker {} answered a fetch of {partition} at offset {} without a record from there on",
                    fetch.broker, cursor.next_offset
                );
                return inbox.fail(Error::new(ErrorKind::Protocol, message));
            }
            Err(error) => {
                cursor.not_before = Some(now + BROKEN_PAUSE);
                return inbox.fail(unreadable(&partition.topic, partition.partition, &error));
            }
        };
        let aborted = (self.isolation_level == IsolationLevel::ReadCommitted).then(|| {
            let rows = row.aborted_transactions.unwrap_or_default();
            Aborted::new(rows.iter().map(|row| (row.first_offset, row.producer_id)).collect())
        });
        let from = std::mem::replace(&mut cursor.next_offset, end);
        inbox.deliver(Chunk::new(
            cursor.place,
            cursor.epoch,
            partition.topic.clone(),
            partition.partition,
            records,
            from,
            end,
            self.settings.check_crcs,
            aborted,
        ));
    }

    fn on_error(
        &mut self,
        now: Instant,
        fetch: &Fetch,
        partition: &TopicPartition,
        row: &PartitionData,
        inbox: &mut Inbox,
        endpoints: &HashMap<i32, Node>,
    ) {
        let Some(cursor) = self.cursors.get_mut(partition) else { return };
        let was_preferred = cursor.preferred.take_if(|(id, _)| *id == fetch.broker).is_some();
        let code = row.error_code;
        let mut pause = self.cluster.settings().retry_backoff;
        match code {
            ErrorCode::OffsetOutOfRange if was_preferred => {
                // A follower may be behind, or ahead; only the leader knows.
            }
            ErrorCode::OffsetOutOfRange => {
                cursor.is_out_of_range = true;
                return;
            }
            ErrorCode::TopicAuthorizationFailed => {
                pause = LONG_PAUSE;
                inbox.fail(Error::broker(code, format_args!("fetching {partition}")));
            }
            ErrorCode::CorruptMessage | ErrorCode::UnknownServerError => {
                pause = BROKEN_PAUSE;
                inbox.fail(Error::broker(code, format_args!("fetching {partition}")));
            }
            code if !code.is_retriable() && !is_about_metadata(code) => {
                pause = LONG_PAUSE;
                inbox.fail(Error::broker(code, format_args!("fetching {partition}")));
            }
            _ => {
                let leader = &row.current_leader;
                if leader.leader_id >= 0 {
                    let endpoint = endpoints.get(&leader.leader_id).cloned();
                    let (topic, number) = (&partition.topic, partition.partition);
                    let (id, epoch) = (leader.leader_id, leader.leader_epoch);
                    let is_news = self.cluster.learn_leader(topic, number, id, epoch, endpoint);
                    if is_news && id != fetch.broker {
                        pause = Duration::ZERO;
                    }
                }
                self.cluster.request_refresh();
                tracing::debug!(%partition, code = code.name(), broker = fetch.broker, "cannot fetch now");
            }
        }
        cursor.not_before = Some(now + pause);
    }

    /// Ends the sessions; nobody waits for it.
    pub(super) fn close(&mut self) {
        for (broker, state) in self.brokers.drain() {
            let Some((request, version)) = state.session.and_then(Session::close) else { continue };
            let cluster = self.cluster.clone();
            tokio::spawn(async move {
                let timeout = Duration::from_secs(1);
                let sent = tokio::time::timeout(timeout, async {
                    let connection = cluster.node(broker, Purpose::Fetch).await?;
                    let answer = connection.send(&request, version)?;
                    answer.wait::<FetchResponse>(timeout).await
                });
                if !matches!(sent.await, Ok(Ok(_))) {
                    tracing::debug!(broker, "a fetch session is left to the broker to expire");
                }
            });
        }
    }
}

impl Ends {
    const UNKNOWN: Ends = Ends { log_start_offset: -1, last_stable_offset: -1, high_watermark: -1 };
}

impl Fetch {
    /// Makes the fetch.
    pub(super) async fn run(mut self, cluster: Cluster) -> Fetched {
        let begun = Instant::now();
        let result = self.ask(&cluster).await;
        Fetched { fetch: self, took: begun.elapsed(), result }
    }

    async fn ask(&mut self, cluster: &Cluster) -> Result<FetchResponse, Error> {
        let connection = cluster.node(self.broker, Purpose::Fetch).await?;
        let has_ids = self.rows.values().all(|row| row.topic_id != Uuid::ZERO);
        let newest = *<kavka_protocol::messages::FetchRequest as Message>::VERSIONS.end();
        let newest = if has_ids { newest } else { TOPIC_IDS - 1 };
        let version = connection.versions().newest(ApiKey::Fetch, newest)?;
        let request = self.session.request(version, &self.rows, &self.terms);
        connection.send(&request, version)?.wait(self.timeout).await
    }
}

impl Fetched {
    /// An error that no retry mends.
    pub(super) fn fatal(&self) -> Option<Error> {
        let kinds = [ErrorKind::Authentication, ErrorKind::Unsupported];
        self.result.as_ref().err().filter(|error| kinds.contains(&error.kind())).cloned()
    }
}

/// Codes that newer metadata mends, though Kafka does not call them retriable.
fn is_about_metadata(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::InconsistentTopicId
            | ErrorCode::UnknownTopicId
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
    )
}

fn wake(at: &mut Option<Instant>, time: Instant) {
    *at = Some(at.map_or(time, |at| at.min(time)));
}

/// What a cluster looks like, for a member.
pub(super) fn for_member(metadata: &Metadata) -> BTreeMap<ByteString, kavka_member::TopicMetadata> {
    let topics = metadata.topics.iter().filter(|(_, topic)| topic.error == ErrorCode::None);
    let told = topics.map(|(name, topic)| {
        let partitions = topic.partitions.iter().map(|info| kavka_member::PartitionMetadata {
            leader: info.leader,
            leader_epoch: info.leader_epoch,
            racks: info
                .replicas
                .iter()
                .filter_map(|id| metadata.nodes.get(id)?.rack.clone())
                .collect(),
        });
        let partitions = partitions.collect();
        (name.clone(), kavka_member::TopicMetadata { id: topic.id, partitions })
    });
    told.collect()
}
