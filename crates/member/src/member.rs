//! The machine: hands inputs to membership, positions and commits, and lets each go as far as it can.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
};

use kavka_protocol::{ByteString, ErrorCode};

use crate::{
    Cause, CommitId, CommitMode, CommitOffset, ConfigError, ErrorKind, Event, Failure, Fetchable,
    Input, MemberConfig, MemberError, Monotonic, Now, Output, Position, RequestId, Response, State,
    TopicPartition, Trace,
    backoff::Random,
    classic::{Classic, Verdict},
    context::{Context, Requests},
    coordinator_lookup::CoordinatorLookup,
    output::Trouble,
    positions::{
        Positions,
        commit::{CommitTrouble, Commits, Identity},
        lookup::FetchTrouble,
    },
    request::RequestKind,
};

/// A member of a group, or a consumer that assigns itself. See [the crate](crate) for how it is run.
#[derive(Clone, Debug)]
pub struct Member {
    config: MemberConfig,
    random: Random,
    requests: Requests,
    lookup: CoordinatorLookup,
    classic: Classic,
    positions: Positions,
    commits: Commits,
    mode: Mode,
    /// What to read by itself once the group is left.
    assigns_later: Option<BTreeSet<TopicPartition>>,
    /// When a close is over in any case.
    closing: Option<Monotonic>,
}

/// How the member comes to its partitions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Mode {
    /// Neither way yet.
    Idle,
    /// By the group.
    Subscribed,
    /// By itself.
    SelfAssigned,
    /// Not any more: it gave up.
    Failed(MemberError),
    /// Not any more: it is closed.
    Closed,
}

/// The longest topic name there is.
const MAX_TOPIC_NAME: usize = 249;

/// More steps than any input leads to.
const MAX_STEPS: usize = 64;

impl Member {
    /// A member that has done nothing yet. `seed` spreads its retries: no two members should have the same.
    ///
    /// # Errors
    /// Settings that cannot work.
    pub fn new(config: MemberConfig, seed: u64) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            classic: Classic::new(config.rebalance_protocol()),
            config,
            random: Random::new(seed),
            requests: Requests::default(),
            lookup: CoordinatorLookup::default(),
            positions: Positions::default(),
            commits: Commits::default(),
            mode: Mode::Idle,
            assigns_later: None,
            closing: None,
        })
    }

    /// Takes an input and goes as far as it can.
    pub fn handle(&mut self, now: Now, input: Input) -> Output {
        let mut output = Output::default();
        if self.mode == Mode::Closed {
            refuse(&self.config, &mut output, input);
            return output;
        }
        self.take(now, &mut output, input);
        self.expire_requests(now, &mut output);
        self.advance(now, &mut output);
        output
    }

    /// When to come back with [`Input::Deadline`]; always later than the last input.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        if self.mode == Mode::Closed {
            return None;
        }
        let has_coordinator = self.lookup.known().is_some();
        let lookup = self.lookup.next_deadline().filter(|_| self.wants_coordinator());
        let classic = self.classic.next_deadline(&self.config, has_coordinator);
        let can_send = self.can_commit();
        let commits = self.commits.next_deadline(can_send, has_coordinator);
        let positions = self.positions.next_deadline(has_coordinator);
        let deadlines =
            [lookup, classic, commits, positions, self.requests.next_deadline(), self.closing];
        deadlines.into_iter().flatten().min()
    }

    /// Where the membership stands.
    pub fn state(&self) -> State {
        self.classic.state()
    }

    /// The id the coordinator gave; empty if there is none.
    pub fn member_id(&self) -> &ByteString {
        self.classic.member_id()
    }

    /// The generation the member is in; -1 if it is in none.
    pub fn generation(&self) -> i32 {
        self.classic.generation()
    }

    /// The assignor that the group chose in its last rebalance; empty before the first.
    pub fn assignor(&self) -> &ByteString {
        self.classic.assignor()
    }

    /// Whether this member assigns for the group.
    pub fn is_leader(&self) -> bool {
        self.classic.is_leader()
    }

    /// The topics subscribed to; `None` if the member is not subscribed.
    pub fn subscription(&self) -> Option<&BTreeSet<ByteString>> {
        self.classic.subscription()
    }

    /// What is owned.
    pub fn owned(&self) -> BTreeSet<TopicPartition> {
        self.positions.owned()
    }

    /// What can be fetched from, and where to begin.
    pub fn fetchable(&self) -> impl Iterator<Item = Fetchable> + '_ {
        self.positions.fetchable()
    }

    /// The next offset the application has not consumed, as far as it is known.
    pub fn position(&self, partition: &TopicPartition) -> Option<Position> {
        self.positions.position(partition)
    }

    /// Why a partition has no position, or one that is not good any more, where the application has to seek or subscribe anew.
    pub fn trouble(&self, partition: &TopicPartition) -> Option<&MemberError> {
        self.positions.trouble(partition)
    }

    /// What is known to be committed by this member, or was found so when it took the partition.
    pub fn committed(&self, partition: &TopicPartition) -> Option<i64> {
        self.positions.committed(partition)
    }

    /// The error that made the member give up.
    pub fn failure(&self) -> Option<&MemberError> {
        match &self.mode {
            Mode::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// Whether [`Event::Closed`] was told.
    pub fn is_closed(&self) -> bool {
        self.mode == Mode::Closed
    }

    fn can_commit(&self) -> bool {
        self.classic.can_commit() || self.mode == Mode::SelfAssigned
    }

    fn wants_coordinator(&self) -> bool {
        let has_group = self.config.group_id.is_some();
        has_group
            && (self.classic.wants_coordinator()
                || self.commits.wants_coordinator()
                || self.positions.wants_coordinator())
    }

    fn take(&mut self, now: Now, output: &mut Output, input: Input) {
        match input {
            // What is due is looked for after every input.
            Input::Deadline => {}
            Input::Response(id, response) => self.on_response(now, output, id, response),
            Input::Failed(id, failure) => self.on_failed(now, output, id, failure),
            Input::Subscribe(topics) => self.on_subscribe(now, output, topics),
            Input::AssignSelf(partitions) => self.on_assign_self(now, output, &partitions),
            Input::Unsubscribe => self.on_unsubscribe(now, output),
            Input::Commit { commit, offsets, mode } => {
                self.on_commit(now, output, commit, offsets, mode);
            }
            Input::Close { timeout, leave } => self.on_close(now, output, timeout, leave),
            input => self.take_simple(now, output, input),
        }
    }

    /// Inputs that concern one part only.
    fn take_simple(&mut self, now: Now, output: &mut Output, input: Input) {
        let Self { config, random, requests, classic, positions, .. } = self;
        let ctx = &mut Context { now, config, random, requests, output };
        match input {
            Input::Poll => classic.poll(ctx),
            Input::Consumed(consumed) => positions.on_consumed(consumed),
            Input::Drained(drain) => classic.on_drained(drain),
            Input::Seek { partition, target } => positions.on_seek(ctx, &partition, target),
            Input::OutOfRange { partition, epoch } => {
                positions.on_out_of_range(ctx, &partition, epoch);
            }
            Input::Pause(partitions) => positions.pause(&partitions, true),
            Input::Resume(partitions) => positions.pause(&partitions, false),
            Input::Metadata(topics) => {
                classic.on_metadata(ctx, &topics);
                positions.on_metadata(topics, ctx.config.group_id.is_some());
            }
            Input::Assigned { generation, assignments, topics } => {
                classic.on_assigned(ctx, generation, assignments, topics);
            }
            Input::AssignFailed { generation, message } => {
                if let Some(error) = classic.on_assign_failed(ctx, generation, message) {
                    self.fail(now, output, error);
                }
            }
            Input::EnforceRebalance { reason } => classic.enforce(ctx, &reason),
            _ => unreachable!("an input of the member as a whole"),
        }
    }

    fn on_subscribe(&mut self, now: Now, output: &mut Output, topics: BTreeSet<ByteString>) {
        if let Some(refusal) = self.refusal(&topics) {
            return self.tell(output, refusal);
        }
        self.mode = Mode::Subscribed;
        let Self { config, random, requests, classic, .. } = self;
        let ctx = &mut Context { now, config, random, requests, output };
        classic.subscribe(ctx, topics);
    }

    fn refusal(&self, topics: &BTreeSet<ByteString>) -> Option<ErrorKind> {
        if self.closing.is_some() || matches!(self.mode, Mode::Failed(_)) {
            Some(ErrorKind::Closed)
        } else if self.config.group_id.is_none() {
            Some(ErrorKind::Misuse("subscribe needs a group.id"))
        } else if self.mode == Mode::SelfAssigned || self.assigns_later.is_some() {
            Some(ErrorKind::Misuse("unsubscribe before changing from assign to subscribe"))
        } else if topics.iter().any(|topic| topic.is_empty() || topic.len() > MAX_TOPIC_NAME) {
            Some(ErrorKind::Misuse("a topic's name has 1 to 249 characters"))
        } else {
            None
        }
    }

    fn tell(&self, output: &mut Output, kind: ErrorKind) {
        let group = self.config.group_id.clone().unwrap_or_default();
        output.events.push(Event::Error(MemberError { kind, code: None, group }));
    }

    fn on_assign_self(&mut self, now: Now, output: &mut Output, wanted: &BTreeSet<TopicPartition>) {
        if self.closing.is_some() || matches!(self.mode, Mode::Failed(_)) {
            return self.tell(output, ErrorKind::Closed);
        }
        if self.mode == Mode::Subscribed {
            let kind = ErrorKind::Misuse("unsubscribe before changing from subscribe to assign");
            return self.tell(output, kind);
        }
        if self.classic.is_departing() {
            // What is still owned is committed under the membership; only then can the group be read beside its members.
            self.assigns_later = Some(wanted.clone());
            return;
        }
        self.assign_self(now, output, wanted);
    }

    fn assign_self(&mut self, now: Now, output: &mut Output, wanted: &BTreeSet<TopicPartition>) {
        self.mode = Mode::SelfAssigned;
        let Self { config, random, requests, positions, commits, .. } = self;
        let ctx = &mut Context { now, config, random, requests, output };
        let owned = positions.owned();
        positions.give_up(&owned.difference(wanted).cloned().collect());
        positions.take(wanted.difference(&owned).cloned());
        if owned.is_empty() && ctx.config.group_id.is_some() {
            commits.restart_interval(ctx);
        }
    }

    fn on_unsubscribe(&mut self, now: Now, output: &mut Output) {
        self.assigns_later = None;
        let Self { config, random, requests, classic, positions, .. } = self;
        let ctx = &mut Context { now, config, random, requests, output };
        match self.mode {
            Mode::SelfAssigned => {
                positions.give_up_all();
            }
            Mode::Subscribed if self.closing.is_none() => {
                let timeout = ctx.config.max_poll_interval.min(ctx.config.request_timeout * 2);
                classic.unsubscribe(ctx, timeout);
            }
            _ => return,
        }
        if self.closing.is_none() {
            self.mode = Mode::Idle;
        }
    }

    fn on_commit(
        &mut self,
        now: Now,
        output: &mut Output,
        commit: CommitId,
        offsets: Option<BTreeMap<TopicPartition, CommitOffset>>,
        mode: CommitMode,
    ) {
        let failure = match &self.mode {
            Mode::Failed(error) => Some(error.kind.clone()),
            _ if self.config.group_id.is_none() => {
                Some(ErrorKind::Misuse("commit needs a group.id"))
            }
            _ => None,
        };
        if let Some(kind) = failure {
            return refuse_commit(&self.config, output, commit, offsets, &kind);
        }
        let Self { config, random, requests, positions, commits, .. } = self;
        let ctx = &mut Context { now, config, random, requests, output };
        commits.ask(ctx, positions, commit, offsets, mode);
    }

    fn on_close(
        &mut self,
        now: Now,
        output: &mut Output,
        timeout: std::time::Duration,
        leave: Option<bool>,
    ) {
        if self.closing.is_some() {
            return;
        }
        self.closing = Some(now.monotonic + timeout);
        self.assigns_later = None;
        let Self { config, random, requests, classic, positions, commits, .. } = self;
        let ctx = &mut Context { now, config, random, requests, output };
        if self.mode == Mode::SelfAssigned {
            if ctx.config.auto_commit_interval.is_some() && ctx.config.group_id.is_some() {
                let deadline = ctx.monotonic() + timeout * 3 / 4;
                commits.finally(positions, &positions.owned(), deadline);
            }
        } else {
            classic.depart(ctx, Cause::Closing, timeout, leave);
        }
    }

    /// Lets every part go as far as it can. Each step either ends or sends something that has to be answered first, so there are
    /// few.
    fn advance(&mut self, now: Now, output: &mut Output) {
        for _ in 0..MAX_STEPS {
            if !self.step(now, output) {
                return;
            }
        }
        panic!("a member goes in a circle: {self:?}");
    }

    fn step(&mut self, now: Now, output: &mut Output) -> bool {
        if self.mode == Mode::Closed || self.maybe_closed(now, output) {
            return false;
        }
        if !self.classic.is_departing()
            && let Some(wanted) = self.assigns_later.take()
            && self.mode == Mode::Idle
        {
            self.assign_self(now, output, &wanted);
        }
        let wants_coordinator = self.wants_coordinator();
        let Self { config, random, requests, lookup, classic, positions, commits, mode, .. } = self;
        let ctx = &mut Context { now, config, random, requests, output };
        if lookup.known().is_some() && classic.is_silent(ctx) {
            self.forget_coordinator(now, output, Trouble::Silence);
            return true;
        }
        let identity = match mode {
            Mode::SelfAssigned if ctx.config.group_id.is_some() => Some(Identity::none()),
            Mode::SelfAssigned | Mode::Failed(_) => None,
            _ => classic.committer(ctx),
        };
        let mut went = wants_coordinator && lookup.advance(ctx);
        let coordinator = lookup.known();
        went |= classic.advance(ctx, positions, commits, coordinator);
        went |= commits.advance(ctx, positions, identity.as_ref(), coordinator);
        went |= positions.advance(ctx, coordinator);
        if classic.take_must_reconnect() {
            self.reconnect(now, output);
            went = true;
        }
        went
    }

    /// A close is over when there is nothing left to commit and the group is left, or when its time is up.
    fn maybe_closed(&mut self, now: Now, output: &mut Output) -> bool {
        let Some(deadline) = self.closing else { return false };
        let is_over = deadline <= now.monotonic;
        if !is_over && (self.classic.is_departing() || !self.commits.is_empty()) {
            return false;
        }
        let in_time = !self.classic.is_departing() && self.commits.is_empty();
        let Self { config, random, requests, lookup, classic, positions, commits, .. } = self;
        let ctx = &mut Context { now, config, random, requests, output };
        let error = (!in_time).then(|| ctx.error(ErrorKind::Timeout, None));
        classic.lose(ctx, positions, Cause::Closing);
        positions.give_up_all();
        commits.fail_all(ctx, &ErrorKind::Closed);
        ctx.output.requests.clear();
        ctx.requests.clear();
        if let Some(coordinator) = lookup.known() {
            ctx.output.disconnect.push(coordinator.clone());
        }
        ctx.event(Event::Closed { error });
        self.mode = Mode::Closed;
        self.closing = None;
        true
    }

    fn expire_requests(&mut self, now: Now, output: &mut Output) {
        while let Some(id) = self.requests.overdue(now.monotonic) {
            self.on_failed(now, output, id, Failure::TimedOut);
        }
    }

    fn on_response(&mut self, now: Now, output: &mut Output, id: RequestId, response: Response) {
        match self.requests.kind(id) {
            None => return output.traces.push(Trace::StaleAnswer),
            Some(kind) if !response.answers(kind) => {
                return self.on_failed(now, output, id, Failure::Malformed);
            }
            Some(_) => {}
        }
        self.requests.take(id);
        let Self { config, random, requests, lookup, classic, positions, commits, .. } = self;
        let ctx = &mut Context { now, config, random, requests, output };
        let verdict = match response {
            Response::FindCoordinator(result) => match lookup.on_response(ctx, result) {
                Ok(()) => Verdict::Done,
                Err(error) => Verdict::Fatal(error),
            },
            Response::Join(response) => classic.on_join_answer(ctx, positions, id, response),
            Response::Sync(result) => classic.on_sync_answer(ctx, positions, commits, id, result),
            Response::Heartbeat(code) => classic.on_heartbeat(ctx, positions, id, code),
            Response::Leave(code) => classic.on_leave(ctx, positions, code),
            Response::CommitOffsets(codes) => {
                let troubles = commits.on_response(ctx, positions, id, &codes);
                return self.on_commit_troubles(now, output, troubles);
            }
            Response::FetchOffsets(result) => match positions.on_fetched(ctx, id, result) {
                None => Verdict::Done,
                Some(FetchTrouble::FindCoordinator(code)) => Verdict::FindCoordinator(code),
                Some(FetchTrouble::Fatal(error)) => Verdict::Fatal(error),
            },
            Response::ListOffsets(rows) => {
                positions.on_listed(ctx, id, &rows);
                Verdict::Done
            }
            Response::EndOfEpochs(rows) => {
                positions.on_epoch_ends(ctx, id, &rows);
                Verdict::Done
            }
            Response::DescribeGroup(result) => {
                classic.on_described(ctx, positions.topics(), id, result)
            }
        };
        self.carry_out(now, output, verdict);
    }

    fn carry_out(&mut self, now: Now, output: &mut Output, verdict: Verdict) {
        match verdict {
            Verdict::Done => {}
            Verdict::Works => self.lookup.confirm(),
            Verdict::FindCoordinator(code) => {
                self.forget_coordinator(now, output, Trouble::Code(code));
            }
            Verdict::Fatal(error) => self.fail(now, output, error),
        }
    }

    fn on_commit_troubles(&mut self, now: Now, output: &mut Output, troubles: Vec<CommitTrouble>) {
        for trouble in troubles {
            let Self { config, random, requests, classic, positions, .. } = self;
            let ctx = &mut Context { now, config, random, requests, output };
            match trouble {
                CommitTrouble::FindCoordinator(code) => {
                    self.forget_coordinator(now, output, Trouble::Code(code));
                }
                CommitTrouble::Rejoin(identity) => {
                    if classic.is(&identity) {
                        classic.on_commit_in_rebalance(ctx);
                    }
                }
                CommitTrouble::ForgetGeneration(identity, code)
                | CommitTrouble::ForgetIdentity(identity, code) => {
                    if classic.is(&identity) {
                        classic.removed(ctx, positions, code);
                    }
                }
                CommitTrouble::Fatal(identity, error) => {
                    if classic.is(&identity) || self.mode == Mode::SelfAssigned {
                        self.fail(now, output, error);
                    }
                }
            }
        }
    }

    fn on_failed(&mut self, now: Now, output: &mut Output, id: RequestId, failure: Failure) {
        let Some(request) = self.requests.take(id) else {
            return output.traces.push(Trace::StaleAnswer);
        };
        self.fail_request(now, output, id, request.kind, failure);
        if request.to_coordinator {
            // Whatever else is on that connection is in doubt too.
            self.forget_coordinator(now, output, Trouble::Failure(failure));
        }
    }

    fn fail_request(
        &mut self,
        now: Now,
        output: &mut Output,
        id: RequestId,
        kind: RequestKind,
        failure: Failure,
    ) {
        let Self { config, random, requests, lookup, classic, positions, commits, .. } = self;
        let ctx = &mut Context { now, config, random, requests, output };
        match kind {
            RequestKind::FindCoordinator => lookup.on_failure(ctx, failure),
            RequestKind::Join => classic.on_join_failure(ctx, id, failure),
            RequestKind::Sync => classic.on_sync_failure(ctx, id, failure),
            RequestKind::Heartbeat => {
                classic.on_heartbeat_failure(ctx, id, Trouble::Failure(failure));
            }
            RequestKind::Leave => classic.on_leave_failure(ctx, Trouble::Failure(failure)),
            RequestKind::CommitOffsets => commits.on_failure(ctx, id, failure),
            RequestKind::FetchOffsets | RequestKind::ListOffsets | RequestKind::EndOfEpochs => {
                positions.on_failure(ctx, id);
            }
            RequestKind::DescribeGroup => classic.on_description_failure(ctx, id, failure),
        }
    }

    fn forget_coordinator(&mut self, now: Now, output: &mut Output, why: Trouble) {
        let Self { config, random, requests, lookup, .. } = self;
        let ctx = &mut Context { now, config, random, requests, output };
        lookup.forget(ctx, why);
        self.give_up_requests(now, output);
    }

    /// Closes the connection to the coordinator: a request is parked on it.
    fn reconnect(&mut self, now: Now, output: &mut Output) {
        if let Some(coordinator) = self.lookup.known() {
            output.disconnect.push(coordinator.clone());
        }
        self.give_up_requests(now, output);
    }

    /// What is under way to the coordinator, or was to be sent in this step, fails with its connection.
    fn give_up_requests(&mut self, now: Now, output: &mut Output) {
        for id in self.requests.to_coordinator() {
            output.requests.retain(|request| request.id != id);
            if let Some(request) = self.requests.take(id) {
                self.fail_request(now, output, id, request.kind, Failure::Disconnected);
            }
        }
    }

    fn fail(&mut self, now: Now, output: &mut Output, error: MemberError) {
        let Self { config, random, requests, classic, positions, commits, .. } = self;
        let ctx = &mut Context { now, config, random, requests, output };
        classic.fail(ctx, positions, &error);
        positions.give_up_all();
        commits.fail_all(ctx, &error.kind);
        ctx.event(Event::Error(error.clone()));
        self.mode = Mode::Failed(error);
    }
}

/// Everything but the settings, of which a member does not change one: equal hashes under equal settings are equal futures.
impl Hash for Member {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self {
            config: _,
            random,
            requests,
            lookup,
            classic,
            positions,
            commits,
            mode,
            assigns_later,
            closing,
        } = self;
        random.hash(state);
        (requests, lookup, classic, positions, commits).hash(state);
        (mode, assigns_later, closing).hash(state);
    }
}

impl Identity {
    /// Of a consumer that assigns itself.
    fn none() -> Self {
        Self { generation: -1, member_id: ByteString::new(), instance_id: None }
    }
}

/// A closed member answers calls that have to be answered.
fn refuse(config: &MemberConfig, output: &mut Output, input: Input) {
    if let Input::Commit { commit, offsets, .. } = input {
        refuse_commit(config, output, commit, offsets, &ErrorKind::Closed);
    }
}

/// With offsets or without, the commit is over, and failed where there was something to commit.
fn refuse_commit(
    config: &MemberConfig,
    output: &mut Output,
    commit: CommitId,
    offsets: Option<BTreeMap<TopicPartition, CommitOffset>>,
    kind: &ErrorKind,
) {
    let group = config.group_id.clone().unwrap_or_default();
    let error = MemberError { kind: kind.clone(), code: None::<ErrorCode>, group };
    let failed =
        offsets.unwrap_or_default().into_keys().map(|partition| (partition, error.clone()));
    let failed = failed.collect();
    output.events.push(Event::CommitCompleted { commit, committed: BTreeMap::new(), failed });
}
