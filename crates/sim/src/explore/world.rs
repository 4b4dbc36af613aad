//! A small world: one group, its coordinator, a few clients, and everything that can happen to them next.
//!
//! A world is a value: it is copied for each step that is tried, and what the step does not touch is shared. Time stands still until
//! nothing is left to be done; then it goes to the next deadline. So the network is faster than any timeout, unless a connection
//! stalls: what is on it may stay there for as long as the search likes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{Hash, Hasher},
    sync::Arc,
};

use kavka_coordinator::group::{GroupState, Input as ToShard, invariants};
use kavka_member::{
    CommitMode, Consumed, Coordinator as Known, ErrorKind, Event as Heard, Failure, Fetchable,
    Input, Member, Outgoing, Request, Response, State, Target, TopicPartition,
};
use kavka_protocol::{ByteString, Monotonic, Now};

use super::{
    act::{Act, Whose},
    client::{Client, Process, client_name},
    coordinator::{Coordinator, ReturnAddress, Returned, request_id},
    digest::{HORIZON_MS, Sealed, StateHasher},
    network::{Asked, Unanswered},
    rules::{CLOSE, COMMIT, GROUP, Rules, SETTLES_WITHIN},
};
use crate::{
    process::assign_with,
    safety::{Owners, Progress, check_member_request},
    told::{Because, Told},
    topics::Topics,
    translate::{from_coordinator, to_coordinator},
};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct SmallWorld {
    rules: Arc<Rules>,
    now_ms: u64,
    coordinator: Arc<Coordinator>,
    clients: Vec<Arc<Client>>,
    topics: Arc<Topics>,
    /// How far the group has read.
    progress: Arc<BTreeMap<TopicPartition, Progress>>,
    perturbations_left: u8,
    restarts_left: u8,
    has_grown: bool,
    /// Of the coordinator and the clients, as far as they are known: they say nothing at another time.
    digests: Vec<Option<u64>>,
    /// What happens is told.
    notes: Option<Vec<String>>,
}

/// Long enough after the origin for every age to be positive.
const BEGINNING_MS: u64 = 10_000_000;
const WALL_MS: i64 = 1_700_000_000_000;

/// More steps than a group takes that is left alone until it has come to rest.
const SETTLES_IN_STEPS: usize = 5_000;

impl SmallWorld {
    /// # Panics
    /// If the group cannot be brought to rest.
    pub(super) fn new(rules: &Rules) -> Self {
        let mut topics = Topics::default();
        for topic in 0..rules.topics {
            let name = topic_name(topic);
            topics.create(name.clone(), rules.partitions.into());
            for log in topics.get_mut(&name).into_iter().flat_map(|topic| &mut topic.partitions) {
                log.end = RECORDS;
            }
        }
        let now = now_at(BEGINNING_MS);
        let members = usize::from(rules.members);
        let mut world = Self {
            rules: Arc::new(rules.clone()),
            now_ms: BEGINNING_MS,
            coordinator: Arc::new(Coordinator::new(rules.group_config(), now)),
            clients: (0..members).map(|slot| Arc::new(Client::new(slot))).collect(),
            topics: Arc::new(topics),
            progress: Arc::default(),
            perturbations_left: rules.perturbations,
            restarts_left: rules.restarts,
            has_grown: false,
            digests: vec![None; members + 1],
            notes: None,
        };
        for slot in 0..members {
            world.start(slot);
        }
        if rules.settled {
            while world.take_to_rest().is_some() {}
            assert!(world.is_at_rest(), "the group does not come to rest by itself");
        }
        world
    }

    /// From here on what happens is written down.
    pub(super) fn tell(&mut self) {
        self.notes = Some(Vec::new());
    }

    pub(super) fn take_notes(&mut self) -> Vec<String> {
        self.notes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(notes) = &mut self.notes {
            notes.push(line());
        }
    }

    /// Since the beginning.
    pub(super) fn elapsed_ms(&self) -> u64 {
        self.now_ms - BEGINNING_MS
    }

    fn now(&self) -> Now {
        now_at(self.now_ms)
    }

    fn client_mut(&mut self, slot: usize) -> &mut Client {
        self.digests[slot + 1] = None;
        Arc::make_mut(&mut self.clients[slot])
    }

    fn process_mut(&mut self, slot: usize) -> Option<&mut Process> {
        self.client_mut(slot).process.as_mut()
    }

    fn coordinator_mut(&mut self) -> &mut Coordinator {
        self.digests[0] = None;
        Arc::make_mut(&mut self.coordinator)
    }

    // ---- what it is ----

    /// Equal for worlds with the same future.
    pub(super) fn fingerprint(&mut self) -> u64 {
        let now = self.now_ms;
        let mut hasher = StateHasher::new(now);
        for index in 0..self.digests.len() {
            let digest = self.digests[index].unwrap_or_else(|| match index {
                0 => {
                    let mut hasher = StateHasher::new(now);
                    self.coordinator.fingerprint(&mut hasher);
                    hasher.finish()
                }
                index => {
                    let mut hasher = StateHasher::of_client(now);
                    self.clients[index - 1].fingerprint(&mut hasher);
                    hasher.finish()
                }
            });
            self.digests[index] = Some(digest);
            digest.hash(&mut hasher);
        }
        self.progress.hash(&mut hasher);
        (self.perturbations_left, self.restarts_left, self.has_grown).hash(&mut hasher);
        hasher.finish()
    }

    /// The group is stable and all of it is as it should be: each member that is alive is in it, in its generation, and every partition
    /// belongs to one of them and is read. A group that nobody is in is empty.
    pub(super) fn is_at_rest(&self) -> bool {
        let is_disturbed = |client: &&Arc<Client>| {
            let stalls = client.connections.iter().any(|connection| connection.is_stalled);
            let is_busy = |process: &Process| process.hangs || process.is_closing;
            stalls || client.process.as_ref().is_some_and(is_busy)
        };
        if self.clients.iter().any(|client| is_disturbed(&client)) {
            return false;
        }
        let processes: Vec<&Process> =
            self.clients.iter().filter_map(|client| client.process.as_ref()).collect();
        let group =
            invariants::served(&self.coordinator.machine).find(|found| found.group == GROUP);
        let Some(group) = group else { return processes.is_empty() };
        if processes.is_empty() {
            return group.state == GroupState::Empty;
        }
        let is_in = |process: &&Process| {
            let member = &process.member;
            member.state() == State::Stable
                && member.generation() == group.generation
                && group.members.iter().any(|row| row.member_id == *member.member_id())
                && member.fetchable().count() == process.told.partitions().count()
                && process.knows == self.topics.version
        };
        let are_in = group.state == GroupState::Stable
            && group.members.len() == processes.len()
            && processes.iter().all(is_in);
        if !are_in {
            return false;
        }
        let mut owners = Owners::default();
        for (at, process) in processes.iter().enumerate() {
            owners.add(0, at, group.generation, process.told.partitions());
        }
        owners.len() == self.topics.partitions(self.topics.names()).len()
    }

    // ---- what can happen ----

    /// Everything that can happen next, and whether nothing is left to be done but to let time pass. What comes first is what
    /// happens when nothing is disturbed.
    pub(super) fn acts(&self) -> (Vec<Act>, bool) {
        let mut acts = self.urgent();
        let is_calm = acts.is_empty();
        if is_calm {
            acts = self.next_deadlines();
        }
        self.at_will(&mut acts);
        if self.restarts_left > 0 {
            acts.extend([Act::Moves, Act::Dies]);
        }
        if self.perturbations_left > 0 {
            self.perturbations(&mut acts);
        }
        (acts, is_calm)
    }

    /// What happens before time passes.
    fn urgent(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        for (slot, client) in self.clients.iter().enumerate() {
            for found in client.connections.iter().filter(|found| !found.is_stalled) {
                let connection = found.number;
                if found.is_served && !found.up.is_empty() {
                    acts.push(Act::Arrives { slot, connection });
                }
                if !found.down.is_empty() {
                    acts.push(Act::Returns { slot });
                }
                match (found.is_open, found.is_served) {
                    (false, true) => acts.push(Act::CoordinatorSees { slot, connection }),
                    (true, false) => acts.push(Act::ClientSees { slot }),
                    _ => {}
                }
            }
            let Some(process) = &client.process else { continue };
            if process.to_assign.is_some() {
                acts.push(Act::Assigns { slot });
            }
            if process.to_drain.is_some() && !process.hangs {
                acts.push(Act::LetsGo { slot });
            }
            if process.knows < self.topics.version {
                acts.push(Act::Learns { slot });
            }
        }
        let due = self.deadlines().filter(|(_, at)| *at <= self.now_ms);
        acts.extend(due.map(|(whose, _)| Act::Fires(whose)));
        acts
    }

    fn next_deadlines(&self) -> Vec<Act> {
        let Some(next) = self.deadlines().map(|(_, at)| at).min() else { return Vec::new() };
        let first = self.deadlines().filter(|(_, at)| *at == next);
        first.map(|(whose, _)| Act::Fires(whose)).collect()
    }

    /// What is too far away never comes.
    fn deadlines(&self) -> impl Iterator<Item = (Whose, u64)> + '_ {
        let of_clients = self.clients.iter().enumerate().filter_map(|(slot, client)| {
            Some((Whose::Client(slot), client.process.as_ref()?.member.next_deadline()?))
        });
        let of_coordinator = self.coordinator.machine.next_deadline();
        let all = of_coordinator.map(|at| (Whose::Coordinator, at)).into_iter().chain(of_clients);
        let all = all.map(|(whose, at)| (whose, in_ms(at)));
        all.filter(|(_, at)| *at < self.now_ms + HORIZON_MS)
    }

    fn at_will(&self, acts: &mut Vec<Act>) {
        for (slot, client) in self.clients.iter().enumerate() {
            for found in client.connections.iter().filter(|found| found.is_stalled) {
                acts.push(Act::GoesOn { slot, connection: found.number });
            }
            match &client.process {
                Some(process) if process.hangs => acts.push(Act::Wakes { slot }),
                None if client.may_start => acts.push(Act::Starts { slot }),
                _ => {}
            }
        }
    }

    fn perturbations(&self, acts: &mut Vec<Act>) {
        for (slot, client) in self.clients.iter().enumerate() {
            let Some(process) = client.process.as_ref().filter(|process| !process.is_closing)
            else {
                continue;
            };
            if let Some(found) = client.connection().filter(|found| found.is_served) {
                let is_used = !found.outstanding.is_empty();
                if is_used {
                    acts.push(Act::Breaks { slot });
                }
                if is_used && !found.is_stalled {
                    acts.push(Act::Stalls { slot });
                }
                if found.up.front().is_some_and(|asked| asked.tag.is_some()) && !found.is_stalled {
                    acts.push(Act::Doubles { slot });
                }
            }
            acts.push(Act::Crashes { slot });
            acts.push(Act::Leaves { slot });
            if process.member.fetchable().next().is_some() {
                acts.push(Act::Commits { slot });
            }
            if !process.hangs {
                acts.push(Act::Hangs { slot });
            }
        }
        // A static leader that was away when topics changed does not see it: docs/simulation.md.
        if !self.has_grown && !self.rules.is_static {
            acts.push(Act::Grows);
        }
    }

    /// What happens next when nothing is disturbed any more, and what was is put right; `None` when the group is at rest.
    fn way_to_rest(&self) -> Option<Act> {
        let mut acts = Vec::new();
        self.at_will(&mut acts);
        let put_right = acts.into_iter().find(|act| !matches!(act, Act::Starts { .. }));
        let urgent = self.urgent();
        if put_right.is_none() && urgent.is_empty() && self.is_at_rest() {
            return None;
        }
        let next = || self.next_deadlines().into_iter().next();
        put_right.or_else(|| urgent.first().copied()).or_else(next)
    }

    /// Lets a calm world come to rest, or to one of which that is known. The fingerprints of the calm worlds on the way.
    ///
    /// # Errors
    /// Where it stands when it should have come to rest.
    pub(super) fn settle(mut self, is_known: impl Fn(u64) -> bool) -> Result<Vec<u64>, String> {
        let until = self.now_ms + u64::try_from(SETTLES_WITHIN.as_millis()).unwrap_or(u64::MAX);
        let mut on_the_way = Vec::new();
        for _ in 0..SETTLES_IN_STEPS {
            if self.urgent().is_empty() {
                let fingerprint = self.fingerprint();
                if is_known(fingerprint) {
                    return Ok(on_the_way);
                }
                on_the_way.push(fingerprint);
            }
            match self.way_to_rest() {
                Some(act) if self.now_ms < until => self.take(act),
                // All is well, or there is no deadline left, or no time.
                _ if self.is_at_rest() => return Ok(on_the_way),
                _ => break,
            }
        }
        Err(self.unrest())
    }

    /// Takes the next step of those that lead to rest; nothing if there is none.
    pub(super) fn take_to_rest(&mut self) -> Option<Act> {
        let act = self.way_to_rest()?;
        self.take(act);
        Some(act)
    }

    /// What is not as it should be, for people.
    fn unrest(&self) -> String {
        let clients = self.clients.iter().enumerate().map(|(slot, client)| match &client.process {
            None => format!("client {slot} is not there"),
            Some(Process { member, told, .. }) => {
                let owned: Vec<String> = told.partitions().map(ToString::to_string).collect();
                let (state, generation) = (member.state(), member.generation());
                format!("client {slot} is {state} in generation {generation} and has {owned:?}")
            }
        });
        let groups = invariants::served(&self.coordinator.machine).map(|group| {
            let (state, generation) = (group.state, group.generation);
            format!(
                "the group is {state} in generation {generation} with {} members",
                group.members.len()
            )
        });
        let lines: Vec<String> = groups.chain(clients).collect();
        format!("L2, L3: left alone, the group does not come to rest: {}", lines.join("; "))
    }

    // ---- what happens ----

    /// # Panics
    /// If something does not hold.
    pub(super) fn take(&mut self, act: Act) {
        self.count(act);
        match act {
            Act::Arrives { slot, connection } => self.arrives(slot, connection),
            Act::Returns { slot } => self.returns(slot),
            Act::CoordinatorSees { slot, connection } => self.coordinator_sees(slot, connection),
            Act::ClientSees { slot } | Act::Breaks { slot } => self.breaks(slot),
            Act::Assigns { slot } => self.assigns(slot),
            Act::LetsGo { slot } => {
                let drain = self.process_mut(slot).and_then(|process| process.to_drain.take());
                self.hand_in(slot, drain.map(Input::Drained));
            }
            Act::Learns { slot } => self.learns(slot),
            Act::Fires(whose) => self.fires(whose),
            Act::GoesOn { slot, connection } => {
                if let Some(found) = self.client_mut(slot).numbered(connection) {
                    found.is_stalled = false;
                }
            }
            Act::Wakes { slot } => {
                if let Some(process) = self.process_mut(slot) {
                    process.hangs = false;
                }
                self.hand_in(slot, []);
            }
            Act::Starts { slot } => self.start(slot),
            Act::Moves => self.moves(),
            Act::Dies => self.dies(),
            Act::Stalls { slot } => self.client_mut(slot).connect().is_stalled = true,
            Act::Doubles { slot } => {
                let found = self.client_mut(slot).connect();
                if let Some(asked) = found.up.front().cloned() {
                    found.up.push_front(Asked { tag: None, ..asked });
                }
            }
            Act::Crashes { slot } => self.ends(slot, true),
            Act::Leaves { slot } => {
                if let Some(process) = self.process_mut(slot) {
                    process.is_closing = true;
                }
                self.hand_in(slot, [Input::Close { timeout: CLOSE, leave: None }]);
            }
            Act::Commits { slot } => self.commits(slot),
            Act::Hangs { slot } => {
                if let Some(process) = self.process_mut(slot) {
                    process.hangs = true;
                }
            }
            Act::Grows => self.grows(),
        }
        self.check_owners();
    }

    fn count(&mut self, act: Act) {
        match act {
            Act::Moves | Act::Dies => self.restarts_left -= 1,
            Act::Breaks { .. }
            | Act::Stalls { .. }
            | Act::Doubles { .. }
            | Act::Crashes { .. }
            | Act::Leaves { .. }
            | Act::Commits { .. }
            | Act::Hangs { .. }
            | Act::Grows => self.perturbations_left -= 1,
            _ => {}
        }
    }

    /// S1, by belief of all who are in the group's generation.
    fn check_owners(&self) {
        let mut owners = Owners::default();
        for (slot, client) in self.clients.iter().enumerate() {
            let Some(Process { member, told, .. }) = &client.process else { continue };
            let generation = member.generation();
            assert!(told.is_empty() || generation >= 0, "partitions are owned under a generation");
            let is_in =
                invariants::membership(&self.coordinator.machine, &GROUP, member.member_id());
            if is_in == Some((generation, true)) {
                owners.add(0, slot, generation, told.partitions());
            }
        }
    }

    // ---- the network ----

    fn arrives(&mut self, slot: usize, connection: usize) {
        let address = ReturnAddress { slot, connection };
        let Some(found) = self.client_mut(slot).numbered(connection) else { return };
        let Some(Asked { tag, request }) = found.up.pop_front() else { return };
        let mut request = request.what().clone();
        self.note(|| format!("-> {request:?}"));
        let number = self.coordinator_mut().park(address);
        let is_join = matches!(request, kavka_coordinator::group::Request::Join(_));
        if let kavka_coordinator::group::Request::CommitOffsets(commit) = &mut request {
            self.topics.leave_out_unknown(commit);
        }
        if let Some(found) = self.client_mut(slot).numbered(connection) {
            found.unanswered.push_back(Unanswered { number, tag, is_join, reply: None });
        }
        self.step(ToShard::Request(request_id(number), request));
        self.client_mut(slot).tidy();
    }

    fn step(&mut self, input: ToShard) {
        let now = self.now();
        let (returned, events) = self.coordinator_mut().step(now, input);
        for event in events {
            self.note(|| format!("   {event}"));
        }
        self.send_back(returned);
    }

    fn send_back(&mut self, returned: Vec<Returned>) {
        for (number, ReturnAddress { slot, connection }, reply) in returned {
            self.note(|| format!("   to client {slot}: {reply:?}"));
            let client = self.client_mut(slot);
            if let Some(found) = client.numbered(connection) {
                found.reply(number, reply);
            }
            client.tidy();
        }
    }

    fn returns(&mut self, slot: usize) {
        let found = self.client_mut(slot).connect();
        let Some((tag, reply)) = found.down.pop_front() else { return };
        found.outstanding.retain(|of| *of != tag);
        let response = from_coordinator(reply.what().clone());
        self.hand_in(slot, response.map(|response| Input::Response(tag, response)));
    }

    fn coordinator_sees(&mut self, slot: usize, connection: usize) {
        let client = self.client_mut(slot);
        let Some(at) = client.connections.iter().position(|found| found.number == connection)
        else {
            return;
        };
        let gone = client.connections.remove(at);
        for Unanswered { number, is_join, reply, .. } in gone.unanswered {
            if is_join && reply.is_none() {
                self.step(ToShard::Abandoned { group: GROUP, request: request_id(number) });
            }
        }
    }

    /// The client gives its connection up, and with it whatever it waits for.
    fn breaks(&mut self, slot: usize) {
        let client = self.client_mut(slot);
        let lost = client.connect().outstanding.clone();
        client.disconnect();
        self.hand_in(slot, lost.into_iter().map(|tag| Input::Failed(tag, Failure::Disconnected)));
    }

    // ---- clients ----

    fn start(&mut self, slot: usize) {
        let config = self.rules.member_config(slot);
        let knows = self.topics.version;
        // The seed spreads retries, of which each waits for a millisecond here.
        let member = match Member::new(config, 0) {
            Ok(member) => member,
            Err(error) => panic!("settings that cannot work: {error}"),
        };
        let client = self.client_mut(slot);
        client.lives += 1;
        client.may_start = false;
        client.process = Some(Process {
            member,
            told: Told::default(),
            to_assign: None,
            to_drain: None,
            commits: BTreeMap::new(),
            last_commit: kavka_member::CommitId(0),
            knows,
            is_closing: false,
            hangs: false,
            polled_ms: 0,
        });
        let topics: BTreeSet<ByteString> = self.topics.names().cloned().collect();
        let metadata = self.topics.metadata();
        self.hand_in(slot, [Input::Metadata(metadata), Input::Subscribe(topics)]);
    }

    /// The process is no more. What it has sent is on its way all the same.
    fn ends(&mut self, slot: usize, may_start: bool) {
        let client = self.client_mut(slot);
        client.process = None;
        client.may_start = may_start;
        client.disconnect();
    }

    fn assigns(&mut self, slot: usize) {
        let Some(process) = self.process_mut(slot) else { return };
        let Some(task) = process.to_assign.take() else { return };
        let (topics, cluster) = (self.topics.metadata(), self.topics.cluster());
        let learns = self.learn(slot);
        let task = task.what();
        let assignments = assign_with(&task.assignor, &task.members, &cluster);
        let shapes = topics.into_iter().map(|(name, topic)| (name, topic.shape())).collect();
        let assigned = Input::Assigned { generation: task.generation, assignments, topics: shapes };
        // Nobody assigns from metadata that does not know what members subscribe to.
        self.hand_in(slot, learns.into_iter().chain([assigned]));
    }

    fn learn(&mut self, slot: usize) -> Option<Input> {
        let (version, metadata) = (self.topics.version, self.topics.metadata());
        let process = self.process_mut(slot)?;
        (process.knows < version).then(|| {
            process.knows = version;
            Input::Metadata(metadata)
        })
    }

    fn learns(&mut self, slot: usize) {
        let learns = self.learn(slot);
        self.hand_in(slot, learns);
    }

    fn commits(&mut self, slot: usize) {
        let Some(process) = self.process_mut(slot) else { return };
        process.last_commit.0 += 1;
        let commit = process.last_commit;
        let position = |tp: &TopicPartition| process.member.position(tp).map(|at| at.offset);
        let wanted = process.told.partitions().filter_map(|tp| Some((tp.clone(), position(tp)?)));
        let wanted = wanted.collect();
        process.commits.insert(commit, wanted);
        let mode = CommitMode::Sync { timeout: COMMIT };
        self.hand_in(slot, [Input::Commit { commit, offsets: None, mode }]);
    }

    fn fires(&mut self, whose: Whose) {
        let due = self.deadlines().find(|(of, _)| *of == whose).map(|(_, at)| at);
        if let Some(at) = due.filter(|at| *at > self.now_ms) {
            self.now_ms = at;
            self.digests.fill(None);
        }
        match whose {
            Whose::Coordinator => self.step(ToShard::Deadline),
            Whose::Client(slot) => self.hand_in(slot, [Input::Deadline]),
        }
    }

    fn grows(&mut self) {
        self.has_grown = true;
        let topics = Arc::make_mut(&mut self.topics);
        topics.version += 1;
        if let Some(topic) = topics.get_mut(&topic_name(0)) {
            let one_more = topic.partitions[0];
            topic.partitions.push(one_more);
        }
    }

    /// Hands inputs to a member, and does what comes out.
    fn hand_in(&mut self, slot: usize, inputs: impl IntoIterator<Item = Input>) {
        let mut inputs: VecDeque<Input> = inputs.into_iter().collect();
        let now_ms = self.now_ms;
        if let Some(process) = self.process_mut(slot)
            && !process.hangs
            && process.polled_ms < now_ms
        {
            // An application that is well polls more often than anything else happens.
            process.polled_ms = now_ms;
            inputs.push_front(Input::Poll);
        }
        while let Some(input) = inputs.pop_front() {
            let now = self.now();
            let Some(process) = self.process_mut(slot) else { return };
            let because = Because::of(&input);
            process.told.foresee(&input);
            let output = process.member.handle(now, input);
            let deadline = process.member.next_deadline();
            assert!(
                deadline.is_none_or(|deadline| deadline > now.monotonic),
                "the deadline is later than now"
            );
            for trace in &output.traces {
                self.note(|| format!("   client {slot}: {trace}"));
            }
            if !output.disconnect.is_empty() {
                self.client_mut(slot).disconnect();
            }
            for outgoing in output.requests {
                inputs.extend(self.send(slot, outgoing));
            }
            for event in output.events {
                self.note(|| format!("   client {slot} hears {event:?}"));
                self.hears(slot, event, because);
            }
            inputs.extend(self.read(slot));
        }
    }

    /// Only the coordinator is asked over a network; others answer at once.
    fn send(
        &mut self,
        slot: usize,
        Outgoing { id, target, request, .. }: Outgoing,
    ) -> Option<Input> {
        let process = self.clients[slot].process.as_ref()?;
        check_member_request(&process.member, &self.progress, &self.topics, &request);
        let Target::Coordinator(_) = target else {
            let response = match &request {
                Request::FindCoordinator { .. } => {
                    let known = Known { node: 0, host: "node".into(), port: 9092 };
                    Response::FindCoordinator(Ok(known))
                }
                request => self.topics.answer(request),
            };
            return Some(Input::Response(id, response));
        };
        let found = self.client_mut(slot).connect();
        let request = to_coordinator(request, &client_name(), found.number as u64)?;
        found.outstanding.push(id);
        if found.is_served {
            found.up.push_back(Asked { tag: Some(id), request: Sealed::new(request) });
        }
        None
    }

    fn hears(&mut self, slot: usize, event: Heard, because: Because) {
        let others = self.clients[slot].lives > 1 || self.coordinator.lives > 1;
        let Some(process) = self.process_mut(slot) else { return };
        process.told.hear(&event, because);
        match event {
            Heard::Assign(task) => process.to_assign = Some(Sealed::new(task)),
            Heard::Revoking { drain, .. } => process.to_drain = Some(drain),
            Heard::CommitCompleted { commit, committed, failed } => {
                let asked = process.commits.remove(&commit).expect("a commit completes once");
                for (partition, offset) in &committed {
                    assert_eq!(asked.get(partition), Some(offset), "S6: {partition} was not asked");
                    assert!(!failed.contains_key(partition), "done or failed, not both");
                }
            }
            Heard::Closed { .. } => {
                assert_eq!(process.commits.len(), 0, "a close completes every commit");
                self.ends(slot, false);
            }
            Heard::Error(error) => {
                let foreseen = match error.kind {
                    // By another process of this name, or by a request of its own that came late to a coordinator that has forgotten
                    // which connection is the newer one.
                    ErrorKind::FencedInstance => self.rules.is_static && others,
                    _ => false,
                };
                assert!(foreseen, "client {slot}: {error}");
                if error.is_fatal() {
                    self.ends(slot, true);
                }
            }
            Heard::Assigned { .. }
            | Heard::Revoked { .. }
            | Heard::Lost { .. }
            | Heard::PositionFound { .. }
            | Heard::MetadataWanted { .. } => {}
        }
    }

    /// The application reads what there is: S27, S29.
    fn read(&mut self, slot: usize) -> Option<Input> {
        let process = self.clients[slot].process.as_ref()?;
        let mut consumed = Vec::new();
        for Fetchable { partition, epoch, position } in process.member.fetchable() {
            let Some((id, log)) = self.topics.log(&partition) else { continue };
            if position.offset >= log.end {
                continue;
            }
            process.told.check_read(&partition);
            let progress = Arc::make_mut(&mut self.progress).entry(partition.clone());
            progress.or_insert(Progress::of(id)).read(
                slot,
                &partition,
                log.start,
                (position.offset, log.end),
            );
            consumed.push(Consumed { partition, epoch, next_offset: log.end, leader_epoch: 0 });
        }
        (!consumed.is_empty()).then_some(Input::Consumed(consumed))
    }

    // ---- the coordinator ----

    fn moves(&mut self) {
        let now = self.now();
        let returned = self.coordinator_mut().unload(now);
        self.send_back(returned);
        self.coordinator_mut().load(now);
    }

    fn dies(&mut self) {
        let now = self.now();
        for slot in 0..self.clients.len() {
            let client = self.client_mut(slot);
            client.connections.iter_mut().for_each(|found| found.break_off());
            client.tidy();
        }
        self.coordinator_mut().crash();
        self.coordinator_mut().load(now);
    }
}

/// In each partition: enough to tell what was read from what was not.
const RECORDS: i64 = 1;

fn topic_name(number: u8) -> ByteString {
    format!("topic-{number}").into()
}

fn now_at(ms: u64) -> Now {
    Now { monotonic: Monotonic::from_millis(ms), wall_ms: WALL_MS }
}

/// The first millisecond at which it has come.
fn in_ms(at: Monotonic) -> u64 {
    u64::try_from(at.elapsed().as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
