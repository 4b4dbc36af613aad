//! The task that owns the [`Member`]: hands it inputs, carries out what it wants, keeps the inbox in step with what is owned.
//!
//! Owns: the member, its clock, outstanding requests, the fetcher, the assignors, calls that wait. Does not own: any decision about
//! membership, positions or commits; those are the member's.
//!
//! **Architecture invariants:** before each input the member is told what was consumed, so that a commit or a revocation never misses
//! it. Partitions leave the inbox before the application hears that they are gone.

mod assigning;
mod counters;
mod drain;
mod interest;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytestring::ByteString;
use kavka_assignor::Assignor;
use kavka_member::{
    AssignTask, Cause, CommitId, CommitMode, CommitOffset, DrainId, Event, Input, Member,
    MemberError, Monotonic, Now, OffsetTarget, Output, Request, RequestId, Response,
    TopicPartition, Trace,
};
use kavka_protocol::ErrorCode;
use regex_lite::Regex;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use self::{assigning::GivenAssignment, counters::Counters, drain::Guard, interest::Interest};
use super::{
    commit::{CommitError, CommitOutcome},
    error::of_member,
    events::{GuardId, RebalanceEvent},
    fetcher::Fetcher,
    handle::ConsumerHandle,
    inbox::SharedInbox,
    metrics::ConsumerMetrics,
    requests::{Answered, Done, Requests, failure},
};
use crate::{
    Error, ErrorKind,
    cluster::{Cluster, Metadata, State},
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
    Metrics(oneshot::Sender<ConsumerMetrics>),
    Owned(oneshot::Sender<BTreeSet<TopicPartition>>),
    EnforceRebalance(ByteString),
    Events(mpsc::UnboundedSender<RebalanceEvent>),
    Finished(GuardId),
    Close {
        timeout: Duration,
        leave: Option<bool>,
        reply: Option<Reply<()>>,
    },
}

type Reply<T> = oneshot::Sender<Result<T, Error>>;

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
    last_assignment: Option<GivenAssignment>,
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
    /// Those to whom it was told and who have not let go of it.
    guards: Vec<Guard>,
    last_guard: u64,
    /// Since when the application has nothing more in hand of what is revoked.
    drained_since: Option<Instant>,
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
    counters: Counters,
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
        last_assignment: None,
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
        last_guard: 0,
        drained_since: None,
        events: Vec::new(),
        closing: Vec::new(),
        is_closing: false,
        closed: None,
        has_failed: false,
        is_overdue: false,
        last_ping: Instant::now(),
        look_again_at: None,
        refused_topics: BTreeMap::new(),
        counters: Counters::default(),
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
        let wall = self.cluster.settings().machine.now();
        let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
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
        let unread = self.unread_until();
        let times = [member, fetcher, ping, self.look_again_at, unread];
        times.into_iter().flatten().min().unwrap_or(far)
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
        let (given_up, out_of_range, is_drained) = {
            let mut inbox = self.shared.lock();
            let given_up = inbox.take_given_up();
            (given_up, self.fetcher.out_of_range(&inbox), inbox.is_drained())
        };
        for given_up in given_up {
            self.fetcher.on_given_up(given_up);
        }
        for (partition, epoch) in out_of_range {
            self.step(Input::OutOfRange { partition, epoch });
        }
        self.maybe_drained(is_drained);
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
                Trace::AutoCommitFailed { error, .. } => {
                    self.shared.lock().note_error(&of_member(error));
                    tracing::warn!("{trace}");
                }
                trace => tracing::debug!("{trace}"),
            }
        }
        for coordinator in &output.disconnect {
            self.requests.disconnect(coordinator);
        }
        for mut outgoing in output.requests {
            if let Request::Join(join) = &mut outgoing.request {
                self.put_user_data(join);
                self.counters.rebalance_begins();
            }
            self.requests.send(outgoing);
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
                self.counters.rebalance_ends();
                self.tell_assignor(generation, &owned, user_data.as_ref());
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
                if !matches!(cause, Cause::Closing | Cause::Unsubscribed) {
                    self.counters.rebalance_begins();
                }
                self.drain = Some(drain);
                self.drained_since = None;
                self.tell_revoking(&partitions, self.at(deadline), &cause);
            }
            Event::Revoked { partitions } => {
                self.take_away(&partitions);
                self.tell(|| RebalanceEvent::Revoked(partitions.clone()));
            }
            Event::Lost { partitions, cause } => {
                self.is_overdue |= cause == Cause::PollOverdue;
                self.counters.lost_partitions += partitions.len() as u64;
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
        let partition = match &error.kind {
            kavka_member::ErrorKind::NoOffset { topic, partition }
            | kavka_member::ErrorKind::Truncated { topic, partition, .. } => {
                Some(TopicPartition::new(topic.clone(), *partition))
            }
            _ => None,
        };
        self.shared.lock().fail_about(partition, told);
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
        self.drained_since = None;
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
            let trouble = self.member.failure().or_else(|| self.member.trouble(&partition));
            match (self.member.position(&partition), trouble) {
                (Some(position), _) => drop(reply.send(Ok(position.offset))),
                (None, Some(error)) => drop(reply.send(Err(of_member(error)))),
                (None, None) if !self.member.owned().contains(&partition) => {
                    drop(reply.send(Err(not_owned(&partition))));
                }
                (None, None) => self.positions.push((partition, reply)),
            }
        }
    }

    // ---- answers ----

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Answer(answered) => {
                if let Err(error) = &answered.result {
                    self.shared.lock().note_error(error);
                }
                self.counters.note_answer(&answered);
                let Answered { id, result, .. } = *answered;
                self.on_answer(id, result);
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

    fn on_answer(&mut self, id: RequestId, result: Result<Response, Error>) {
        let error = match result {
            Ok(response) => return drop(self.step(Input::Response(id, response))),
            Err(error) => error,
        };
        tracing::debug!(%error, "a request of the group failed");
        let is_hopeless =
            matches!(error.kind(), ErrorKind::Authentication | ErrorKind::Unsupported);
        if is_hopeless && !self.has_failed && !self.is_closing {
            self.shared.lock().fail(error.clone());
            self.fail();
        }
        self.step(Input::Failed(id, failure(&error)));
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
                    let mut inbox = self.shared.lock();
                    inbox.set_epoch(&partition, None);
                    inbox.forget_errors_about(&partition);
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
            Command::Metrics(reply) => drop(reply.send(self.metrics())),
            Command::Owned(reply) => drop(reply.send(self.member.owned())),
            Command::EnforceRebalance(reason) => {
                drop(self.step(Input::EnforceRebalance { reason }))
            }
            Command::Events(events) => self.events.push(events),
            Command::Finished(id) => self.guards.retain(|guard| guard.id != id),
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
        Ok(self.known_lag(partition))
    }

    fn known_lag(&self, partition: &TopicPartition) -> Option<i64> {
        let (position, ends) = (self.member.position(partition), self.fetcher.ends(partition));
        position.zip(ends).map(|(position, ends)| {
            let end = self.fetcher.visible_end(ends);
            (end - position.offset).max(0)
        })
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
