//! The task that owns the [`Member`]: hands it inputs, carries out what it wants, keeps the inbox in step with what is owned.
//!
//! Owns: the member, its clock, outstanding requests, the fetcher, the assignors, calls that wait. Does not own: any decision about
//! membership, positions or commits; those are the member's.
//!
//! **Architecture invariants:** before each input the member is told what was consumed, so that a commit or a revocation never misses
//! it. Partitions leave the inbox before the application hears that they are gone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytestring::ByteString;
use kavka_assignor::{Assignor, LastAssignment};
use kavka_member::{
    AssignTask, Cause, CommitId, CommitMode, CommitOffset, DrainId, Event, Input, Member,
    MemberError, Monotonic, Now, OffsetTarget, Output, TopicPartition, Trace,
};
use kavka_protocol::{ErrorCode, messages::consumer_protocol_assignment};
use regex_lite::Regex;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    assign,
    commit::{CommitError, CommitOutcome},
    error::of_member,
    events::{DrainGuard, RebalanceEvent, Revoking},
    fetcher::{Fetcher, for_member},
    handle::ConsumerHandle,
    inbox::SharedInbox,
    requests::{Done, Requests, failure},
};
use crate::{
    Error, ErrorKind,
    cluster::{Cluster, Metadata, State, Wanted},
};

/// What handles ask of the driver.
#[derive(Debug)]
pub(super) enum Command {
    Subscribe(BTreeSet<ByteString>, Reply<()>),
    SubscribePattern(Regex, Reply<()>),
    Assign(BTreeSet<TopicPartition>, Reply<()>),
    Unsubscribe(Reply<()>),
    Commit {
        offsets: Option<BTreeMap<TopicPartition, CommitOffset>>,
        mode: CommitMode,
        reply: oneshot::Sender<CommitOutcome>,
    },
    Seek(TopicPartition, OffsetTarget, Reply<()>),
    Pause(BTreeSet<TopicPartition>, bool),
    Position(TopicPartition, Reply<i64>),
    Lag(TopicPartition, Reply<Option<i64>>),
    Owned(oneshot::Sender<BTreeSet<TopicPartition>>),
    EnforceRebalance(ByteString),
    Events(mpsc::UnboundedSender<RebalanceEvent>),
    Drained(DrainId),
    Close {
        timeout: Duration,
        leave: Option<bool>,
        reply: Option<Reply<()>>,
    },
}

type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What is subscribed to.
#[derive(Debug, Default)]
enum Interest {
    #[default]
    Nothing,
    Topics(BTreeSet<ByteString>),
    Pattern {
        pattern: Regex,
        /// `None` until metadata was there for the first time.
        matching: Option<BTreeSet<ByteString>>,
        /// The refresh that knows.
        attempt: u64,
    },
    Partitions(BTreeSet<TopicPartition>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Driver {
    member: Member,
    cluster: Cluster,
    shared: SharedInbox,
    fetcher: Fetcher,
    requests: Requests,
    handle: ConsumerHandle,
    assignors: Vec<Box<dyn Assignor>>,
    excludes_internal_topics: bool,
    max_poll_interval: Duration,
    origin: Instant,
    interest: Interest,
    /// Topics of other members, which the leader has to know.
    group_topics: BTreeSet<ByteString>,
    /// The metadata that the member knows.
    metadata: Arc<Metadata>,
    /// An assignment that waits for metadata, and the refresh that brings it.
    to_assign: Option<(AssignTask, u64)>,
    commits: HashMap<CommitId, oneshot::Sender<CommitOutcome>>,
    last_commit: u64,
    positions: Vec<(TopicPartition, Reply<i64>)>,
    /// The revocation that waits for the application.
    drain: Option<DrainId>,
    guards: Vec<DrainId>,
    events: Vec<mpsc::UnboundedSender<RebalanceEvent>>,
    closing: Vec<Reply<()>>,
    is_closing: bool,
    closed: Option<Result<(), Error>>,
    has_failed: bool,
    /// The member has left because the application did not poll.
    is_overdue: bool,
    last_ping: Instant,
    /// When to look again for topics that do not exist, or have no leader.
    look_again_at: Option<Instant>,
    /// Topics that the application was told it cannot read.
    refused_topics: BTreeMap<ByteString, ErrorCode>,
}

/// What a driver is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) member: Member,
    pub(super) cluster: Cluster,
    pub(super) shared: SharedInbox,
    pub(super) fetcher: Fetcher,
    pub(super) handle: ConsumerHandle,
    pub(super) assignors: Vec<Box<dyn Assignor>>,
    pub(super) excludes_internal_topics: bool,
    pub(super) max_poll_interval: Duration,
}

/// How long a consumer that was dropped may take to leave.
pub(super) const ABANDONED: Duration = Duration::from_secs(5);

/// Starts the task. It ends when the consumer is closed or dropped.
pub(super) fn spawn(parts: Parts, commands: mpsc::UnboundedReceiver<Command>) {
    let (requests, done) = Requests::new(parts.cluster.clone());
    let states = parts.cluster.watch();
    let driver = Driver {
        member: parts.member,
        requests,
        fetcher: parts.fetcher,
        shared: parts.shared,
        handle: parts.handle,
        assignors: parts.assignors,
        excludes_internal_topics: parts.excludes_internal_topics,
        max_poll_interval: parts.max_poll_interval,
        metadata: parts.cluster.metadata(),
        cluster: parts.cluster,
        origin: Instant::now(),
        interest: Interest::default(),
        group_topics: BTreeSet::new(),
        to_assign: None,
        commits: HashMap::new(),
        last_commit: 0,
        positions: Vec::new(),
        drain: None,
        guards: Vec::new(),
        events: Vec::new(),
        closing: Vec::new(),
        is_closing: false,
        closed: None,
        has_failed: false,
        is_overdue: false,
        last_ping: Instant::now(),
        look_again_at: None,
        refused_topics: BTreeMap::new(),
    };
    tokio::spawn(driver.run(commands, done, states));
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Also when the task is given up, or panics: nobody is to wait for ever.
        self.shared.close();
    }
}

impl Driver {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut done: mpsc::UnboundedReceiver<Done>,
        mut states: watch::Receiver<State>,
    ) {
        loop {
            self.catch_up();
            if let Some(result) = self.closed.take() {
                return self.finish(result);
            }
            self.fetch();
            let deadline = self.next_deadline();
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    // The driver's own handle keeps the channel open.
                    None => return,
                },
                Some(done) = done.recv() => self.on_done(done),
                Ok(()) = states.changed() => {
                    let state = states.borrow_and_update().clone();
                    self.on_metadata(&state);
                }
                () = shared.driver.notified() => {}
                () = sleep_until(deadline) => self.on_time(),
            }
        }
    }

    fn finish(mut self, result: Result<(), Error>) {
        self.fetcher.close();
        self.shared.close();
        for reply in self.closing.drain(..) {
            // Who stopped waiting does not hear it.
            let _ = reply.send(result.clone());
        }
    }

    // ---- time ----

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            monotonic: Monotonic::since_origin(self.origin.elapsed()),
            wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
        }
    }

    fn at(&self, time: Monotonic) -> Instant {
        self.origin + time.elapsed()
    }

    fn next_deadline(&self) -> Instant {
        let member = self.member.next_deadline().map(|time| self.at(time));
        // Who fetches no more would otherwise be woken for ever by a time that has passed.
        let fetches = !self.is_closing && !self.has_failed;
        let fetcher = self.fetcher.wake_at().filter(|_| fetches);
        let ping = Some(self.last_ping + self.max_poll_interval / 3);
        let far = Instant::now() + Duration::from_secs(3600);
        [member, fetcher, ping, self.look_again_at].into_iter().flatten().min().unwrap_or(far)
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if self.look_again_at.take_if(|time| *time <= now).is_some() {
            self.cluster.request_refresh();
        }
        if now >= self.last_ping + self.max_poll_interval / 3 {
            self.last_ping = now;
            // Whoever waits for records is alive; it says so by asking again.
            self.shared.lock().ping();
        }
        if self.member.next_deadline().is_some_and(|time| self.at(time) <= now) {
            self.step(Input::Deadline);
        }
    }

    // ---- the member ----

    /// Hands the member an input. Returns what it refuses, if the application asked for something that cannot be.
    fn step(&mut self, input: Input) -> Option<Error> {
        self.tell_consumed();
        let output = self.member.handle(self.now(), input);
        self.carry_out(output)
    }

    fn tell_consumed(&mut self) {
        let (consumed, polled) = {
            let mut inbox = self.shared.lock();
            (inbox.take_consumed(), inbox.take_polled(self.is_overdue))
        };
        if !consumed.is_empty() {
            let output = self.member.handle(self.now(), Input::Consumed(consumed));
            self.carry_out(output);
        }
        if polled {
            self.is_overdue = false;
            let output = self.member.handle(self.now(), Input::Poll);
            self.carry_out(output);
        }
    }

    /// Everything that follows from what the readers did.
    fn catch_up(&mut self) {
        self.tell_consumed();
        let (broken, out_of_range, is_drained) = {
            let mut inbox = self.shared.lock();
            let broken = inbox.take_broken();
            (broken, self.fetcher.out_of_range(&inbox), inbox.is_drained())
        };
        for (place, epoch, from) in broken {
            self.fetcher.on_broken(place, epoch, from);
        }
        for (partition, epoch) in out_of_range {
            self.step(Input::OutOfRange { partition, epoch });
        }
        if is_drained
            && self.guards.is_empty()
            && let Some(drain) = self.drain.take()
        {
            self.step(Input::Drained(drain));
        }
        self.answer_positions();
    }

    fn fetch(&mut self) {
        if self.is_closing || self.has_failed {
            return;
        }
        let fetches = {
            let mut inbox = self.shared.lock();
            self.fetcher.plan(self.member.fetchable(), &mut inbox, &self.metadata)
        };
        for fetch in fetches {
            self.requests.fetch(fetch);
        }
    }

    fn carry_out(&mut self, output: Output) -> Option<Error> {
        for trace in &output.traces {
            match trace {
                Trace::StaleAnswer => tracing::trace!("{trace}"),
                trace => tracing::debug!("{trace}"),
            }
        }
        for coordinator in &output.disconnect {
            self.requests.disconnect(coordinator);
        }
        for request in output.requests {
            self.requests.send(request);
        }
        let mut refusal = None;
        for event in output.events {
            if let Some(error) = self.on_event(event) {
                refusal.get_or_insert(error);
            }
        }
        refusal
    }

    fn on_event(&mut self, event: Event) -> Option<Error> {
        match event {
            Event::Assign(task) => self.on_assign(task),
            Event::Assigned { generation, added, owned, user_data } => {
                {
                    let mut inbox = self.shared.lock();
                    for partition in &added {
                        inbox.add(partition);
                    }
                }
                self.tell_assignors(generation, &owned, user_data.as_ref());
                self.tell(|| RebalanceEvent::Assigned {
                    added: added.clone(),
                    owned: owned.clone(),
                    generation,
                });
            }
            Event::Revoking { drain, partitions, deadline, cause } => {
                {
                    let mut inbox = self.shared.lock();
                    partitions.iter().for_each(|partition| inbox.hold(partition));
                }
                self.drain = Some(drain);
                let deadline = self.at(deadline);
                let (handle, guards) = (self.handle.clone(), &mut self.guards);
                self.events.retain(|events| {
                    let guard = DrainGuard { drain, commands: handle.commands().clone() };
                    let revoking = Revoking {
                        partitions: partitions.clone(),
                        deadline,
                        cause: cause.clone(),
                        handle: handle.clone(),
                        guard,
                    };
                    // One that nobody reads is dropped with its guard, whose message names it once more.
                    guards.push(drain);
                    events.send(RebalanceEvent::Revoking(revoking)).is_ok()
                });
            }
            Event::Revoked { partitions } => {
                self.take_away(&partitions);
                self.tell(|| RebalanceEvent::Revoked(partitions.clone()));
            }
            Event::Lost { partitions, cause } => {
                self.is_overdue |= cause == Cause::PollOverdue;
                tracing::warn!(%cause, partitions = partitions.len(), "partitions were lost");
                self.take_away(&partitions);
                self.tell(|| RebalanceEvent::Lost {
                    partitions: partitions.clone(),
                    cause: cause.clone(),
                });
            }
            Event::CommitCompleted { commit, committed, failed } => {
                let outcome = CommitError::outcome(committed, failed);
                if let Some(reply) = self.commits.remove(&commit) {
                    // Who stopped waiting does not hear it.
                    let _ = reply.send(outcome);
                }
            }
            Event::PositionFound { partition, position } => {
                tracing::debug!(%partition, %position, "position found");
            }
            Event::MetadataWanted { topics } => {
                tracing::debug!(?topics, "newer metadata is wanted");
                self.cluster.request_refresh();
            }
            Event::Error(error) => return self.on_error(&error),
            Event::Closed { error } => {
                let owned: Vec<TopicPartition> = self.shared.lock().partitions().cloned().collect();
                self.take_away(&owned);
                self.closed = Some(error.map_or(Ok(()), |error| Err(of_member(&error))));
            }
        }
        None
    }

    fn on_error(&mut self, error: &MemberError) -> Option<Error> {
        let told = of_member(error);
        if matches!(
            error.kind,
            kavka_member::ErrorKind::Misuse(_) | kavka_member::ErrorKind::Closed
        ) {
            return Some(told);
        }
        self.shared.lock().fail(told);
        if error.is_fatal() {
            self.fail();
        }
        None
    }

    /// Nothing more comes of this consumer.
    fn fail(&mut self) {
        self.has_failed = true;
        let owned: Vec<TopicPartition> = self.shared.lock().partitions().cloned().collect();
        self.take_away(&owned);
        self.shared.close();
    }

    fn take_away(&mut self, partitions: &[TopicPartition]) {
        // Whoever still holds a revocation of them holds up nothing any more.
        self.drain = None;
        self.guards.clear();
        let mut inbox = self.shared.lock();
        for partition in partitions {
            inbox.remove(partition);
            self.fetcher.forget(partition);
        }
    }

    fn tell(&mut self, event: impl Fn() -> RebalanceEvent) {
        self.events.retain(|events| events.send(event()).is_ok());
    }

    fn answer_positions(&mut self) {
        let waiting = std::mem::take(&mut self.positions);
        for (partition, reply) in waiting {
            if reply.is_closed() {
                continue;
            }
            match self.member.position(&partition) {
                Some(position) => drop(reply.send(Ok(position.offset))),
                None if !self.member.owned().contains(&partition) => {
                    drop(reply.send(Err(not_owned(&partition))));
                }
                None => self.positions.push((partition, reply)),
            }
        }
    }

    // ---- assigning ----

    fn on_assign(&mut self, task: AssignTask) {
        let topics = task.members.iter().flat_map(|member| &member.subscription.topics);
        self.group_topics = topics.cloned().collect();
        self.want();
        let known = &self.cluster.metadata().topics;
        if self.group_topics.iter().all(|topic| known.contains_key(topic)) {
            self.assign(&task);
        } else {
            let attempt = self.cluster.request_refresh();
            self.to_assign = Some((task, attempt));
        }
    }

    fn assign(&mut self, task: &AssignTask) {
        let assignor = self.assignors.iter().find(|a| a.name() == &*task.assignor);
        let input = match assignor {
            Some(assignor) => assign::assign(task, assignor.as_ref(), &self.cluster.metadata()),
            None => Input::AssignFailed {
                generation: task.generation,
                message: format!("there is no assignor {}", task.assignor),
            },
        };
        self.step(input);
    }

    fn tell_assignors(
        &mut self,
        generation: i32,
        owned: &[TopicPartition],
        user_data: Option<&bytes::Bytes>,
    ) {
        let mut by_topic: BTreeMap<ByteString, Vec<i32>> = BTreeMap::new();
        for partition in owned {
            by_topic.entry(partition.topic.clone()).or_default().push(partition.partition);
        }
        let last: Vec<_> = by_topic
            .into_iter()
            .map(|(topic, partitions)| consumer_protocol_assignment::TopicPartition {
                topic,
                partitions,
            })
            .collect();
        let topics: Vec<ByteString> =
            self.member.subscription().into_iter().flatten().cloned().collect();
        let mut inputs = Vec::new();
        for assignor in &mut self.assignors {
            assignor.on_assignment(user_data, generation);
            if kavka_assignor::by_name(assignor.name()).is_some() {
                continue;
            }
            let last = LastAssignment { generation, partitions: &last };
            if let Some(data) = assignor.subscription_user_data(&topics, Some(last)) {
                inputs.push(Input::UserData { assignor: assignor.name().into(), data });
            }
        }
        for input in inputs {
            let output = self.member.handle(self.now(), input);
            self.carry_out(output);
        }
    }

    // ---- metadata ----

    /// Says what metadata is kept of.
    fn want(&self) {
        let own: BTreeSet<ByteString> = match &self.interest {
            Interest::Nothing => BTreeSet::new(),
            Interest::Topics(topics) => topics.clone(),
            Interest::Pattern { .. } => return self.cluster.want(Wanted::Everything),
            Interest::Partitions(partitions) => {
                partitions.iter().map(|partition| partition.topic.clone()).collect()
            }
        };
        let all: BTreeSet<ByteString> = own.union(&self.group_topics).cloned().collect();
        let nothing = all.is_empty();
        self.cluster.want(if nothing { Wanted::Nothing } else { Wanted::Topics(all) });
    }

    fn on_metadata(&mut self, state: &State) {
        if let Some(error) = &state.error
            && matches!(error.kind(), ErrorKind::Authentication | ErrorKind::Unsupported)
            && !self.has_failed
        {
            self.shared.lock().fail(error.clone());
            self.fail();
        }
        if !Arc::ptr_eq(&self.metadata, &state.metadata) {
            self.metadata = Arc::clone(&state.metadata);
            self.note_refused_topics();
            self.step(Input::Metadata(for_member(&state.metadata)));
        }
        self.match_topics(state);
        if self.misses_topics() {
            let pause = self.cluster.settings().retry_backoff_max;
            self.look_again_at.get_or_insert(Instant::now() + pause);
        }
        if let Some((task, _)) = self.to_assign.take_if(|(_, attempt)| *attempt <= state.attempts) {
            self.assign(&task);
        }
    }

    /// Whether something that is to be read is not there, and may be soon.
    fn misses_topics(&self) -> bool {
        let own: Vec<&ByteString> = match &self.interest {
            Interest::Nothing | Interest::Pattern { .. } => Vec::new(),
            Interest::Topics(topics) => topics.iter().collect(),
            Interest::Partitions(partitions) => {
                partitions.iter().map(|partition| &partition.topic).collect()
            }
        };
        own.into_iter().chain(&self.group_topics).any(|topic| {
            let error = self.metadata.topics.get(topic).map(|topic| topic.error);
            error.is_none_or(|code| code != ErrorCode::None && code.is_retriable())
        })
    }

    /// Tells the application of topics that it cannot read, once.
    fn note_refused_topics(&mut self) {
        let Interest::Topics(topics) = &self.interest else { return };
        let refused = topics.iter().filter_map(|topic| {
            let code = self.metadata.topics.get(topic)?.error;
            let is_refused = matches!(
                code,
                ErrorCode::TopicAuthorizationFailed | ErrorCode::InvalidTopicException
            );
            is_refused.then(|| (topic.clone(), code))
        });
        let refused: BTreeMap<ByteString, ErrorCode> = refused.collect();
        let former = std::mem::replace(&mut self.refused_topics, refused);
        let mut inbox = self.shared.lock();
        for (topic, code) in &self.refused_topics {
            if former.get(topic) != Some(code) {
                inbox.fail(Error::broker(*code, format_args!("subscribing to {topic}")));
            }
        }
    }

    fn match_topics(&mut self, state: &State) {
        let excludes_internal = self.excludes_internal_topics;
        let Interest::Pattern { pattern, matching, attempt } = &mut self.interest else { return };
        let is_late = matching.is_none() && (state.attempts < *attempt || state.error.is_some());
        if is_late {
            return;
        }
        let topics = state.metadata.topics.iter().filter(|(name, topic)| {
            let is_visible = !(excludes_internal && topic.is_internal);
            is_visible && topic.error == ErrorCode::None && pattern.is_match(name)
        });
        let topics: BTreeSet<ByteString> = topics.map(|(name, _)| name.clone()).collect();
        if matching.as_ref() != Some(&topics) {
            *matching = Some(topics.clone());
            self.step(Input::Subscribe(topics));
        }
    }

    // ---- answers ----

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Answer(id, Ok(response)) => drop(self.step(Input::Response(id, response))),
            Done::Answer(id, Err(error)) => {
                tracing::debug!(%error, "a request of the group failed");
                let is_hopeless =
                    matches!(error.kind(), ErrorKind::Authentication | ErrorKind::Unsupported);
                if is_hopeless && !self.has_failed && !self.is_closing {
                    self.shared.lock().fail(error.clone());
                    self.fail();
                }
                self.step(Input::Failed(id, failure(&error)));
            }
            Done::Fetched(fetched) => {
                if let Some(error) = fetched.fatal().filter(|_| !self.has_failed) {
                    self.shared.lock().fail(error);
                    self.fail();
                }
                let mut inbox = self.shared.lock();
                self.fetcher.on_fetched(*fetched, &mut inbox);
            }
        }
    }

    // ---- calls ----

    fn on_command(&mut self, command: Command) {
        self.tell_consumed();
        match command {
            Command::Subscribe(topics, reply) => {
                let refusal = self.step(Input::Subscribe(topics.clone()));
                if refusal.is_none() {
                    self.interest = Interest::Topics(topics);
                    self.want();
                }
                answer(reply, refusal);
            }
            Command::SubscribePattern(pattern, reply) => {
                let refusal = self.pattern_refusal();
                if refusal.is_none() {
                    let attempt = self.cluster.request_refresh();
                    self.interest = Interest::Pattern { pattern, matching: None, attempt };
                    self.want();
                }
                answer(reply, refusal);
            }
            Command::Assign(partitions, reply) => {
                let refusal = self.step(Input::AssignSelf(partitions.clone()));
                if refusal.is_none() {
                    self.take_partitions(&partitions);
                    self.interest = Interest::Partitions(partitions);
                    self.want();
                }
                answer(reply, refusal);
            }
            Command::Unsubscribe(reply) => {
                let refusal = self.step(Input::Unsubscribe);
                if matches!(self.interest, Interest::Partitions(_)) {
                    self.take_partitions(&BTreeSet::new());
                }
                self.interest = Interest::Nothing;
                self.group_topics.clear();
                self.want();
                answer(reply, refusal);
            }
            Command::Commit { offsets, mode, reply } => self.on_commit(offsets, mode, reply),
            Command::Seek(partition, target, reply) => {
                let refusal = self.step(Input::Seek { partition: partition.clone(), target });
                if refusal.is_none() {
                    self.shared.lock().set_epoch(&partition, None);
                }
                answer(reply, refusal);
            }
            Command::Pause(partitions, is_paused) => {
                {
                    let mut inbox = self.shared.lock();
                    for partition in &partitions {
                        inbox.set_paused(partition, is_paused);
                    }
                }
                let input =
                    if is_paused { Input::Pause(partitions) } else { Input::Resume(partitions) };
                self.step(input);
            }
            Command::Position(partition, reply) => self.positions.push((partition, reply)),
            Command::Lag(partition, reply) => drop(reply.send(self.lag(&partition))),
            Command::Owned(reply) => drop(reply.send(self.member.owned())),
            Command::EnforceRebalance(reason) => {
                drop(self.step(Input::EnforceRebalance { reason }))
            }
            Command::Events(events) => self.events.push(events),
            Command::Drained(drain) => {
                if let Some(at) = self.guards.iter().position(|guard| *guard == drain) {
                    self.guards.swap_remove(at);
                }
            }
            Command::Close { timeout, leave, reply } => {
                self.closing.extend(reply);
                if !std::mem::replace(&mut self.is_closing, true) {
                    self.step(Input::Close { timeout, leave });
                }
            }
        }
    }

    fn pattern_refusal(&self) -> Option<Error> {
        if self.is_closing || self.has_failed {
            Some(Error::new(ErrorKind::Closed, "the consumer is closed"))
        } else if self.handle.group_id().is_none() {
            Some(Error::new(ErrorKind::Config, "subscribe needs a group.id"))
        } else if matches!(self.interest, Interest::Partitions(_)) {
            let message = "unsubscribe before changing from assign to subscribe";
            Some(Error::new(ErrorKind::Config, message))
        } else {
            None
        }
    }

    /// A consumer that assigns itself owns these from now on.
    fn take_partitions(&mut self, partitions: &BTreeSet<TopicPartition>) {
        let owned: BTreeSet<TopicPartition> = self.shared.lock().partitions().cloned().collect();
        let gone: Vec<TopicPartition> = owned.difference(partitions).cloned().collect();
        self.take_away(&gone);
        let mut inbox = self.shared.lock();
        for partition in partitions.difference(&owned) {
            inbox.add(partition);
        }
    }

    fn on_commit(
        &mut self,
        offsets: Option<BTreeMap<TopicPartition, CommitOffset>>,
        mode: CommitMode,
        reply: oneshot::Sender<CommitOutcome>,
    ) {
        if let Some(failure) = self.member.failure() {
            let error = of_member(failure);
            let _ = reply.send(Err(CommitError::whole(error)));
            return;
        }
        self.last_commit += 1;
        let commit = CommitId(self.last_commit);
        self.commits.insert(commit, reply);
        self.step(Input::Commit { commit, offsets, mode });
    }

    fn lag(&self, partition: &TopicPartition) -> Result<Option<i64>, Error> {
        if !self.member.owned().contains(partition) {
            return Err(not_owned(partition));
        }
        let (position, ends) = (self.member.position(partition), self.fetcher.ends(partition));
        Ok(position.zip(ends).map(|(position, ends)| {
            let end = self.fetcher.visible_end(ends);
            (end - position.offset).max(0)
        }))
    }
}

fn not_owned(partition: &TopicPartition) -> Error {
    Error::new(ErrorKind::OwnershipLost, format!("{partition} is not assigned to this consumer"))
}

fn answer(reply: Reply<()>, refusal: Option<Error>) {
    // Who stopped waiting does not hear it.
    let _ = reply.send(refusal.map_or(Ok(()), Err));
}

async fn sleep_until(time: Instant) {
    tokio::time::sleep_until(time).await;
}
