//! What producer handles and the tasks behind them share: topics, brokers, memory, and the way of a record into a batch.
//!
//! **Architecture invariants:** a partition's lock is held for memory work only, and a node's lists are locked inside of it, never
//! the other way round. Memory of a batch is taken from the budget before the batch is begun and given back when its bytes are gone.

use std::{
    collections::HashMap,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytestring::ByteString;
use kavka_protocol::{ErrorCode, hash, messages::InitProducerIdRequest, records::HEADER_SIZE};
use tokio::{
    runtime::Handle,
    sync::{Mutex as AsyncMutex, Notify, watch},
    time::{Instant, sleep, timeout_at},
};

use super::{
    batch::{Batch, Identity},
    delivery::{Completion, DeliveryFuture, Observer, Outstanding, Promise},
    memory::{Grant, Memory},
    metrics::Counters,
    node::Node,
    partition::{NOBODY, Partition, Readiness, State},
    partitioner::{self, Candidate, PartitionedRecord, Random, TopicPartitions},
    record::ProducerRecord,
    sender,
    settings::ProducerSettings,
    topics::{Topic, Topics},
};
use crate::{
    Error, ErrorKind,
    cluster::{Backoff, Cluster, Metadata},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) cluster: Cluster,
    pub(super) settings: ProducerSettings,
    runtime: Handle,
    started: Instant,
    topics: Topics,
    nodes: RwLock<HashMap<i32, Arc<Node>>>,
    memory: Arc<Memory>,
    /// How many wait for memory: nothing lingers meanwhile.
    memory_waiters: AtomicUsize,
    pub(super) outstanding: Arc<Outstanding>,
    pub(super) counters: Counters,
    identity: Mutex<Option<Identity>>,
    asking_for_identity: AsyncMutex<()>,
    is_closed: AtomicBool,
    /// Wakes those who wait for something when the producer is closed.
    closing: Notify,
    /// No producer handle is left.
    pub(super) is_dropped: AtomicBool,
    /// The router has to look at everything again.
    pub(super) reroute: Notify,
    /// The tasks end.
    over: watch::Sender<bool>,
}

/// What became of an attempt to append.
pub(super) enum Attempt {
    /// It is in a batch.
    Taken(DeliveryFuture),
    /// Others wait in line before it.
    Behind,
    /// The topic is not known.
    Unknown,
    /// The topic does not have the partition that the record is for, or others wait for such a one before it.
    Beyond,
    /// There is no memory for another batch, of this many bytes.
    Full(usize),
}

/// Before whom a record may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// Before nobody who waits.
    Last,
    /// It is the first of those who wait for the topic or for memory.
    First,
    /// It is the first of those who wait for partitions that the topic does not have.
    FirstBeyond,
}

/// Counts one who waits, for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Core {
    pub(super) fn start(cluster: Cluster, settings: ProducerSettings) -> Result<Arc<Self>, Error> {
        let runtime = Handle::try_current().map_err(|_| {
            Error::new(ErrorKind::Config, "a producer has to be built inside a tokio runtime")
        })?;
        let core = Arc::new(Self {
            cluster,
            memory: Memory::new(settings.buffer_memory, settings.batch_size),
            settings,
            runtime,
            started: Instant::now(),
            topics: Topics::default(),
            nodes: RwLock::default(),
            memory_waiters: AtomicUsize::new(0),
            outstanding: Arc::default(),
            counters: Counters::default(),
            identity: Mutex::default(),
            asking_for_identity: AsyncMutex::default(),
            is_closed: AtomicBool::new(false),
            closing: Notify::new(),
            is_dropped: AtomicBool::new(false),
            reroute: Notify::new(),
            over: watch::Sender::new(false),
        });
        core.spawn(super::router::run(Arc::clone(&core)));
        Ok(core)
    }

    /// Runs a task until it ends or the producer is over.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut over = self.over.subscribe();
        self.runtime.spawn(async move {
            tokio::select! {
                () = task => {}
                // An error is the end too.
                _ = over.wait_for(|over| *over) => {}
            }
        });
    }

    /// Ends the tasks. What is on the wire is given up.
    pub(super) fn end(&self) {
        self.over.send_replace(true);
    }

    /// Takes no more records, and lets nothing linger.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.memory.close();
        self.closing.notify_waiters();
        self.reroute.notify_one();
    }

    /// Nobody sends any more; the tasks go on until everything is delivered.
    pub(super) fn drop_producer(&self) {
        self.is_dropped.store(true, Ordering::Release);
        self.close();
        self.outstanding.none().notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// What comes of `waiting`, unless the producer is closed before that.
    async fn unless_closed<T>(
        &self,
        waiting: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut closing = pin!(self.closing.notified());
        closing.as_mut().enable();
        if self.is_closed() {
            return Err(Self::closed_error());
        }
        tokio::select! {
            // What was taken is told as taken.
            biased;
            done = waiting => done,
            () = closing => Err(Self::closed_error()),
        }
    }

    /// Until when who begins now may wait.
    fn max_block_end(&self) -> Instant {
        let far = || Instant::now() + Duration::from_secs(86_400 * 365);
        Instant::now().checked_add(self.settings.max_block).unwrap_or_else(far)
    }

    pub(super) fn closed_error() -> Error {
        Error::new(ErrorKind::Closed, "the producer is closed")
    }

    /// Milliseconds since the producer was made.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Bytes of the buffer that batches have.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.memory.taken()
    }

    // --- The way of a record into a batch ---

    /// What is wrong with a record, if something is; else the most bytes it takes.
    pub(super) fn check(&self, record: &ProducerRecord<'_>) -> Result<usize, Error> {
        let bound = record.size_bound();
        let size = bound.saturating_add(HEADER_SIZE);
        let too_large = |name: &str, limit: usize| {
            Error::new(
                ErrorKind::Record,
                format!(
                    "a record for {} takes up to {size} bytes in a batch; {name} is {limit}",
                    record.topic
                ),
            )
            .with_code(ErrorCode::MessageTooLarge)
            .with_advice(format!(
                "Raise {name} (and the topic's max.message.bytes), or send less at once."
            ))
        };
        if size > self.settings.max_request_size {
            return Err(too_large("max.request.size", self.settings.max_request_size));
        }
        if size > self.settings.buffer_memory {
            return Err(too_large("buffer.memory", self.settings.buffer_memory));
        }
        if record.timestamp_ms.is_some_and(|time| time < 0) {
            return Err(Error::new(ErrorKind::Record, "a record's timestamp is negative"));
        }
        if record.partition.is_some_and(|partition| partition < 0) {
            return Err(Error::new(ErrorKind::Record, "a record's partition is negative"));
        }
        Ok(bound)
    }

    /// Appends a record if that needs no waiting.
    pub(super) fn try_append(
        self: &Arc<Self>,
        record: &ProducerRecord<'_>,
        bound: usize,
        memory: &mut Option<Grant>,
        turn: Turn,
    ) -> Result<Attempt, Error> {
        let append = |topic: &Topic| self.try_append_to(topic, record, bound, memory, turn);
        self.topics.with(record.topic, append).unwrap_or(Ok(Attempt::Unknown))
    }

    fn try_append_to(
        self: &Arc<Self>,
        topic: &Topic,
        record: &ProducerRecord<'_>,
        bound: usize,
        memory: &mut Option<Grant>,
        turn: Turn,
    ) -> Result<Attempt, Error> {
        let count = topic.count();
        if count == 0 {
            return Ok(Attempt::Unknown);
        }
        if let Some(partition) = record.partition.map(i32::unsigned_abs)
            && (partition >= count
                || (turn < Turn::FirstBeyond && topic.gate.beyond.has(partition)))
        {
            return Ok(Attempt::Beyond);
        }
        if turn < Turn::First && topic.gate.waiting.load(Ordering::Acquire) > 0 {
            return Ok(Attempt::Behind);
        }
        if let Some(chosen) = self.fixed_partition(topic, count, record)? {
            let partition = &topic.partitions()[chosen as usize];
            let mut state = partition.lock();
            return self.append(topic, partition, &mut state, record, bound, memory);
        }
        let enough = self.settings.batch_size;
        loop {
            let chosen = topic.sticky.current(|random| self.choose(topic, count, random));
            let partition = &topic.partitions()[chosen as usize];
            let mut state = partition.lock();
            if !topic.sticky.is(chosen) {
                continue;
            }
            let is_at_end = state.open_batch().is_none_or(|batch| !batch.has_room(bound));
            let choose = |random: &Random| self.choose(topic, count, random);
            topic.sticky.count(0, enough, is_at_end, choose);
            if !topic.sticky.is(chosen) || chosen >= count {
                topic.sticky.forget(chosen, count);
                continue;
            }
            let attempt = self.append(topic, partition, &mut state, record, bound, memory)?;
            if matches!(attempt, Attempt::Taken(_)) {
                topic.sticky.count(bound, enough, false, choose);
            }
            return Ok(attempt);
        }
    }

    /// The partition that the record itself asks for, by number, key or partitioner, of `count`.
    fn fixed_partition(
        &self,
        topic: &Topic,
        count: u32,
        record: &ProducerRecord<'_>,
    ) -> Result<Option<u32>, Error> {
        if let Some(partition) = record.partition {
            return Ok(Some(partition.unsigned_abs()));
        }
        if let Some(partitioner) = &self.settings.partitioner {
            let is_available =
                |partition: u32| topic.partitions()[partition as usize].leader() != NOBODY;
            let view = TopicPartitions::new(record.topic, count, &is_available);
            let seen = PartitionedRecord::new(record.key, record.value);
            let chosen = partitioner.partition(&seen, &view);
            return match u32::try_from(chosen) {
                Ok(partition) if partition < count => Ok(Some(partition)),
                _ => Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "the partitioner chose partition {chosen} of {}, which has {count}",
                        record.topic
                    ),
                )),
            };
        }
        match record.key {
            Some(key) if !self.settings.ignore_keys => Ok(Some(hash::key_partition(key, count))),
            _ => Ok(None),
        }
    }

    /// A partition for records without a key, of `count`.
    fn choose(&self, topic: &Topic, count: u32, random: &Random) -> u32 {
        let has_timeout = !self.settings.availability_timeout.is_zero();
        let limit = u64::try_from(self.settings.availability_timeout.as_millis());
        let limit = limit.unwrap_or(u64::MAX);
        let stalled: Vec<i32> = match has_timeout && self.settings.adaptive_partitioning {
            false => Vec::new(),
            true => {
                let now_ms = self.now_ms();
                let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
                let stalled = nodes.values().filter(|node| node.stalled_ms(now_ms) > limit);
                stalled.map(|node| node.id).collect()
            }
        };
        let near: Vec<i32> = match (&self.settings.common.client_rack, self.settings.rack_aware) {
            (Some(rack), true) => {
                let metadata = self.cluster.metadata();
                let nodes = metadata.nodes.values();
                nodes.filter(|node| node.rack.as_ref() == Some(rack)).map(|node| node.id).collect()
            }
            _ => Vec::new(),
        };
        let candidates = |near: Option<&'_ [i32]>| {
            let near = near.map(<[i32]>::to_vec);
            let stalled = stalled.clone();
            topic.partitions().iter().take(count as usize).filter_map(move |partition| {
                let leader = partition.leader();
                let is_candidate = leader != NOBODY
                    && !stalled.contains(&leader)
                    && near.as_ref().is_none_or(|near| near.contains(&leader));
                is_candidate.then(|| Candidate {
                    partition: partition.index.unsigned_abs(),
                    queued: partition.queued(),
                })
            })
        };
        let is_adaptive = self.settings.adaptive_partitioning;
        if candidates(Some(&near)).next().is_some() {
            return partitioner::choose(candidates(Some(&near)), count, is_adaptive, random);
        }
        partitioner::choose(candidates(None), count, is_adaptive, random)
    }

    /// Appends to the partition, in a new batch if there is memory for one.
    fn append(
        self: &Arc<Self>,
        topic: &Topic,
        partition: &Arc<Partition>,
        state: &mut State,
        record: &ProducerRecord<'_>,
        bound: usize,
        memory: &mut Option<Grant>,
    ) -> Result<Attempt, Error> {
        // Under the partition's lock: who closes, or forgets the topic, looks at the partition after this.
        if self.is_closed() {
            return Err(Self::closed_error());
        }
        if topic.count() == 0 {
            return Ok(Attempt::Unknown);
        }
        let machine = &self.cluster.settings().machine;
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(|| state.clock.now_ms(machine));
        if let Some(batch) = state.open_batch()
            && let Some(delivery) = batch.append(record, bound, timestamp_ms)
        {
            return Ok(Attempt::Taken(delivery));
        }
        let capacity = self.memory.usual().max(bound + HEADER_SIZE);
        let taken = memory
            .take()
            .or_else(|| u32::try_from(capacity).ok().and_then(|bytes| self.memory.try_take(bytes)));
        let Some(grant) = taken else { return Ok(Attempt::Full(capacity)) };
        let now = Instant::now();
        let completion = Completion::new(partition.topic.clone(), partition.index);
        let promise = Promise::new(completion, &self.outstanding);
        let deadline = now + self.settings.delivery_timeout;
        let mut batch = Batch::open(promise, capacity, grant, now, deadline);
        let Some(delivery) = batch.append(record, bound, timestamp_ms) else {
            return Err(Error::new(
                ErrorKind::Record,
                "a record does not fit into a batch of its own",
            ));
        };
        state.push(batch);
        partition.show_queued(state);
        self.schedule(partition, state, now);
        Ok(Attempt::Taken(delivery))
    }

    /// Appends a record, after waiting in line for the topic and its partition to be known and for memory.
    pub(super) async fn append_in_line(
        self: &Arc<Self>,
        record: &ProducerRecord<'_>,
        bound: usize,
    ) -> Result<DeliveryFuture, Error> {
        self.unless_closed(self.append_in_turn(record, bound)).await
    }

    async fn append_in_turn(
        self: &Arc<Self>,
        record: &ProducerRecord<'_>,
        bound: usize,
    ) -> Result<DeliveryFuture, Error> {
        let deadline = self.max_block_end();
        let topic = self.ask_for_topic(record.topic);
        let gate = &topic.gate;
        let waiting = Waiting::new(&gate.waiting);
        let late = |what: &str| {
            Error::new(
                ErrorKind::TimedOut,
                format!(
                    "a record for {} waited {:?} (max.block.ms) {what}",
                    record.topic, self.settings.max_block
                ),
            )
        };
        let turn = timeout_at(deadline, gate.line.lock()).await;
        let behind = |_| late("behind other records of the topic");
        let turn = turn.map_err(behind)?;
        let mut place = Some((turn, waiting));
        let mut _place_beyond = None;
        let mut memory = None;
        loop {
            let turn = if place.is_some() { Turn::First } else { Turn::FirstBeyond };
            match self.try_append(record, bound, &mut memory, turn)? {
                Attempt::Taken(delivery) => return Ok(delivery),
                // Nobody is before the one whose turn it is.
                Attempt::Behind => unreachable!("the turn is this record's"),
                Attempt::Beyond if place.is_some() => {
                    let waiting = gate.beyond.enter(topic.count());
                    let mut turn = pin!(timeout_at(deadline, gate.beyond.line.lock()));
                    // In the other line before this one is left, or the next one here could come before.
                    let first = poll_fn(|context| Poll::Ready(turn.as_mut().poll(context))).await;
                    place = None;
                    let turn = match first {
                        Poll::Ready(turn) => turn,
                        Poll::Pending => turn.await,
                    };
                    _place_beyond = Some((turn.map_err(behind)?, waiting));
                }
                Attempt::Unknown => self.learn_topic(record.topic, 1, deadline).await?,
                Attempt::Beyond => {
                    let wanted = record.partition.map_or(1, |at| at as usize + 1);
                    self.learn_topic(record.topic, wanted, deadline).await?;
                }
                Attempt::Full(bytes) => {
                    let full = || {
                        late("for room in the buffer").with_advice(
                            "Raise buffer.memory, send less, or look at why the brokers take no more.",
                        )
                    };
                    let bytes = u32::try_from(bytes).map_err(|_| full())?;
                    let _waiting = Waiting::new(&self.memory_waiters);
                    self.press();
                    let taken = timeout_at(deadline, self.memory.take(bytes)).await;
                    let taken = taken.map_err(|_| full())?;
                    memory = Some(taken.map_err(|_| Self::closed_error())?);
                }
            }
        }
    }

    /// Waits until metadata tells of the topic and that it has so many partitions at least.
    async fn learn_topic(
        self: &Arc<Self>,
        topic: &str,
        wanted: usize,
        deadline: Instant,
    ) -> Result<(), Error> {
        let name = ByteString::from(topic);
        let mut states = self.cluster.watch();
        if !self.cluster.want_topic(&name) {
            self.cluster.request_refresh();
        }
        let mut last = None;
        loop {
            {
                let state = states.borrow_and_update();
                let known = state.metadata.topics.get(&name);
                match known.map_or(ErrorCode::None, |info| info.error) {
                    ErrorCode::None => {
                        let count = known.map_or(0, |info| info.partitions.len());
                        if count >= wanted {
                            let metadata = Arc::clone(&state.metadata);
                            drop(state);
                            self.apply_metadata(&metadata);
                            return Ok(());
                        }
                        if count > 0 {
                            let what = format!(
                                "{} has {count} partitions; the record is for {}",
                                name,
                                wanted - 1
                            );
                            last = Some(Error::new(ErrorKind::Config, what));
                        }
                    }
                    code @ (ErrorCode::TopicAuthorizationFailed
                    | ErrorCode::InvalidTopicException) => {
                        return Err(Error::broker(code, format_args!("sending to {name}")));
                    }
                    code => {
                        last = Some(Error::broker(code, format_args!("looking up topic {name}")))
                    }
                }
                if let Some(error) = &state.error {
                    if error.kind() == ErrorKind::Authentication {
                        return Err(error.clone());
                    }
                    last = Some(error.clone());
                }
            }
            if self.is_closed() {
                return Err(Self::closed_error());
            }
            self.cluster.request_refresh();
            let Ok(changed) = timeout_at(deadline, states.changed()).await else {
                let error = last.unwrap_or_else(|| {
                    Error::new(ErrorKind::TimedOut, "the cluster did not answer")
                });
                return Err(error.while_doing(format_args!(
                    "topic {name} was not to be had within {:?} (max.block.ms)",
                    self.settings.max_block
                )));
            };
            changed.map_err(|_| Self::closed_error())?;
        }
    }

    /// How many partitions a topic has.
    pub(super) async fn partition_count(self: &Arc<Self>, topic: &str) -> Result<u32, Error> {
        let deadline = self.max_block_end();
        self.unless_closed(async {
            loop {
                let known = self.ask_for_topic(topic).count();
                if known > 0 {
                    return Ok(known);
                }
                self.learn_topic(topic, 1, deadline).await?;
            }
        })
        .await
    }

    /// Has metadata of a topic asked for.
    pub(super) fn note_topic(&self, topic: &str) {
        self.ask_for_topic(topic);
        if !self.cluster.want_topic(&topic.into()) {
            self.cluster.request_refresh();
        }
    }

    /// A topic, which is noted as wanted.
    fn ask_for_topic(&self, topic: &str) -> Arc<Topic> {
        self.topics.ask(topic, self.now_ms(), || self.cluster.settings().machine.random())
    }

    /// Stops asking for topics to which nobody has sent for `metadata.max.idle.ms` (KIP-526). Their partitions stay: the sequences of an
    /// idempotent producer go on where they were when somebody sends to them again.
    pub(super) fn forget_idle_topics(&self, now: Instant) {
        let Some(since) = now.checked_sub(self.settings.metadata_max_idle) else { return };
        if since <= self.started {
            return;
        }
        let since_ms = u64::try_from(since.saturating_duration_since(self.started).as_millis());
        self.topics.forget_idle(since, since_ms.unwrap_or(u64::MAX), |name| {
            tracing::debug!(topic = %name, "nobody has sent to it for metadata.max.idle.ms");
            self.cluster.forget_topic(name);
        });
    }

    // --- Brokers ---

    /// Has a partition's batches sent when they are ready.
    pub(super) fn schedule(
        self: &Arc<Self>,
        partition: &Arc<Partition>,
        state: &mut State,
        now: Instant,
    ) {
        let readiness =
            state.readiness(now, self.settings.linger, self.settings.batch_size, self.is_pressed());
        match readiness {
            Readiness::No => {}
            Readiness::At(time) => self.node(state.leader()).push_timer(time, partition),
            Readiness::Now => {
                if let Some(listing) = state.list() {
                    self.node(state.leader()).push_ready(partition, listing);
                }
            }
        }
    }

    /// Whether nothing may linger.
    pub(super) fn is_pressed(&self) -> bool {
        self.memory_waiters.load(Ordering::Acquire) > 0 || self.is_closed()
    }

    /// Has everything sent that lingers.
    fn press(&self) {
        for node in self.nodes.read().unwrap_or_else(PoisonError::into_inner).values() {
            node.press();
        }
    }

    fn node(self: &Arc<Self>, id: i32) -> Arc<Node> {
        if let Some(node) = self.nodes.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Arc::clone(node);
        }
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        let node = nodes.entry(id).or_insert_with(|| {
            let node = Node::new(id);
            self.spawn(sender::run(Arc::clone(self), Arc::clone(&node)));
            node
        });
        Arc::clone(node)
    }

    /// Takes new metadata: more partitions, other leaders.
    pub(super) fn apply_metadata(self: &Arc<Self>, metadata: &Metadata) {
        let mut needs_refresh = false;
        let now = Instant::now();
        for topic in self.topics.active() {
            let Some(info) = metadata.topics.get(&topic.name) else { continue };
            if info.error == ErrorCode::None && !info.partitions.is_empty() {
                self.topics.resize(&topic, info.partitions.len());
            }
            for (at, partition) in topic.partitions().iter().enumerate() {
                let leader = info.partitions.get(at).and_then(|info| info.leader);
                let leader = leader.filter(|id| metadata.nodes.contains_key(id)).unwrap_or(NOBODY);
                if leader == NOBODY {
                    needs_refresh |= partition.queued() > 0;
                }
                if partition.leader() != leader {
                    let mut state = partition.lock();
                    partition.set_leader(&mut state, leader);
                    self.schedule(partition, &mut state, now);
                }
            }
        }
        if needs_refresh {
            self.cluster.request_refresh();
        }
    }

    // --- Identity ---

    /// The newest identity; after `used`, one with a higher epoch. `None` if one has to be asked for.
    pub(super) fn identity_after(&self, used: Option<Identity>) -> Option<Identity> {
        let mut current = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        if used.is_some() && *current == used {
            *current = match *current {
                Some(Identity { id, epoch }) if epoch < i16::MAX => {
                    Some(Identity { id, epoch: epoch + 1 })
                }
                _ => None,
            };
            tracing::info!(from = ?used, to = ?*current, "the producer's epoch is raised");
        }
        *current
    }

    /// Asks a broker for an identity unless there is one.
    pub(super) async fn ask_for_identity(&self) -> Result<(), Error> {
        let _asking = self.asking_for_identity.lock().await;
        if self.identity_after(None).is_some() {
            return Ok(());
        }
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..Default::default()
        };
        let common = self.cluster.settings();
        let seed = common.machine.random();
        let mut backoff = Backoff::new(common.retry_backoff, common.retry_backoff_max, seed);
        // What waits for it is given up by its own deadline.
        let identity = loop {
            match self.identity_from_broker(&request, common.request_timeout).await {
                Ok(identity) => break identity,
                Err(error) if error.is_retriable() => {
                    tracing::debug!(%error, "no producer id yet");
                    sleep(backoff.next()).await;
                }
                Err(error) => return Err(error),
            }
        };
        tracing::debug!(id = identity.id, epoch = identity.epoch, "got a producer id");
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = Some(identity);
        Ok(())
    }

    async fn identity_from_broker(
        &self,
        request: &InitProducerIdRequest,
        timeout: Duration,
    ) -> Result<Identity, Error> {
        let connection = self.cluster.any().await?;
        let response = connection.call(request, timeout).await?;
        match response.error_code {
            ErrorCode::None => {
                Ok(Identity { id: response.producer_id, epoch: response.producer_epoch })
            }
            code @ ErrorCode::ClusterAuthorizationFailed => Err(Error::broker(code, "asking for a producer id")
                .with_advice(
                    "Grant IDEMPOTENT_WRITE on the cluster, or WRITE on a topic; or set enable.idempotence=false.",
                )),
            code => Err(Error::broker(code, "asking for a producer id")),
        }
    }

    // --- Ends ---

    /// Gives up what is late. Returns when to look again.
    pub(super) fn expire(self: &Arc<Self>, now: Instant) -> Instant {
        let timeout = self.settings.delivery_timeout;
        let mut next = now + timeout;
        for partition in self.topics.partitions() {
            let mut state = partition.lock();
            if state.is_empty() {
                continue;
            }
            let error = |last: Option<&Error>| {
                let what = format!(
                    "{}-{}: records were not delivered within {timeout:?} (delivery.timeout.ms)",
                    partition.topic, partition.index
                );
                let last = last.map(|error| error.to_string());
                Error::new(ErrorKind::TimedOut, what).with_detail(last.as_deref())
            };
            if let Some(deadline) = state.expire(now, error) {
                next = next.min(deadline);
            }
            partition.show_queued(&state);
            self.schedule(&partition, &mut state, now);
        }
        next
    }

    /// Has everything that was sent before told to an observer, and sent now.
    pub(super) fn observe_all(self: &Arc<Self>, observer: &Observer) {
        let now = Instant::now();
        for partition in self.topics.partitions() {
            let mut state = partition.lock();
            if state.is_empty() {
                continue;
            }
            state.observe(observer);
            self.schedule(&partition, &mut state, now);
        }
    }

    /// Gives up everything.
    pub(super) fn abandon_all(&self, error: &Error) {
        for partition in self.topics.partitions() {
            let mut state = partition.lock();
            state.abandon(error);
            partition.show_queued(&state);
        }
    }

    /// Looks at every partition again.
    pub(super) fn schedule_all(self: &Arc<Self>) {
        let now = Instant::now();
        for partition in self.topics.partitions() {
            let mut state = partition.lock();
            self.schedule(&partition, &mut state, now);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Producer;

    #[tokio::test]
    async fn an_epoch_rises_once_for_all_partitions_and_at_its_end_another_id_is_asked_for() {
        let producer = Producer::builder().bootstrap_servers("localhost:1").build().unwrap();
        let core = producer.core();
        assert_eq!(core.identity_after(None), None);
        let at = |epoch| Some(Identity { id: 7, epoch });
        *core.identity.lock().unwrap() = at(0);
        assert_eq!(core.identity_after(None), at(0));
        assert_eq!(core.identity_after(at(0)), at(1));
        // Another partition that used the old one takes the one there is.
        assert_eq!(core.identity_after(at(0)), at(1));
        *core.identity.lock().unwrap() = at(i16::MAX);
        assert_eq!(core.identity_after(at(i16::MAX)), None);
        assert_eq!(core.identity_after(at(3)), None);
    }
}
