//! A coordinator, members with an application each, and the network between them.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Duration,
};

use kavka_assignor::{Cluster, CooperativeSticky, leader::JoinedMembers};
use kavka_coordinator::group::{self, GroupConfig, GroupShard, Record, Reply};
use kavka_member::*;
use kavka_protocol::{
    ByteString, ErrorCode, Uuid, messages::join_group_response::JoinGroupResponseMember,
};

const GROUP: &str = "g";
const TOPIC: &str = "t";
const PARTITIONS: i32 = 6;
const SESSION_MS: u64 = 10_000;
const REBALANCE_MS: u64 = 20_000;
const FAULTS_MS: u64 = 200_000;
/// How long an application hangs: longer than `max.poll.interval.ms`.
const HANG_MS: u64 = 30_000;
const INITIAL_DELAY_MS: u64 = 1_000;

pub(crate) struct Setup {
    pub(crate) members: usize,
    pub(crate) cooperative: bool,
    pub(crate) static_members: bool,
    /// The assignor that comes with Kavka, in place of one that moves everything about.
    pub(crate) sticky: bool,
    pub(crate) faults: Faults,
    /// Members die, come, leave, hang.
    pub(crate) churn: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            members: 4,
            cooperative: false,
            static_members: false,
            sticky: false,
            faults: Faults::none(),
            churn: true,
        }
    }
}

/// How often in a thousand each thing goes wrong.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    cut: u64,
    half_open: u64,
    slow: u64,
    lookup_fails: u64,
    coordinator_crashes: u64,
    append_fails: u64,
}

impl Faults {
    pub(crate) fn none() -> Self {
        Self {
            cut: 0,
            half_open: 0,
            slow: 0,
            lookup_fails: 0,
            coordinator_crashes: 0,
            append_fails: 0,
        }
    }

    /// Each kind is on with a probability of a half, at a rate of its own.
    pub(crate) fn swarm(seed: u64) -> Self {
        let mut random = Random(seed ^ 0x5eed);
        let mut rate = |max| if random.below(2) == 0 { 0 } else { 1 + random.below(max) };
        Self {
            cut: rate(60),
            half_open: rate(20),
            slow: rate(100),
            lookup_fails: rate(300),
            coordinator_crashes: rate(6),
            append_fails: rate(10),
        }
    }
}

pub(crate) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn happens(&mut self, in_a_thousand: u64) -> bool {
        self.below(1_000) < in_a_thousand
    }
}

#[derive(Debug)]
enum Happening {
    /// A request arrives at the coordinator.
    Arrives {
        node: usize,
        connection: u64,
        id: RequestId,
        request: Request,
    },
    /// An answer arrives at a member.
    Answers {
        node: usize,
        connection: u64,
        id: RequestId,
        response: Response,
    },
    /// A member notices that its request came to nothing.
    Fails {
        node: usize,
        id: RequestId,
        failure: Failure,
    },
    Deadline {
        node: usize,
    },
    CoordinatorDeadline,
    CoordinatorLoads,
    /// The application of a member does something.
    Application {
        node: usize,
    },
    Drained {
        node: usize,
        drain: DrainId,
    },
    Assigned {
        node: usize,
        task: AssignTask,
    },
    /// Someone dies, comes, leaves.
    Churn,
    AbandonNoticed {
        request: group::RequestId,
    },
}

struct Node {
    member: Member,
    instance: Option<ByteString>,
    is_alive: bool,
    is_closing: bool,
    hangs_until: u64,
    /// To the coordinator; 0 if there is none.
    connection: u64,
    armed: Option<u64>,
    commits: BTreeSet<CommitId>,
    last_commit: u64,
    /// What the events say is owned.
    told: BTreeMap<TopicPartition, bool>,
    joins_under_way: BTreeMap<RequestId, u64>,
}

pub(crate) struct World {
    now: u64,
    random: Random,
    setup: Setup,
    queue: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    shard: Option<GroupShard>,
    config: GroupConfig,
    log: Vec<Record>,
    crashes: u64,
    nodes: Vec<Node>,
    last_connection: u64,
    /// When the last request or answer of a connection arrives, each way.
    upward: BTreeMap<u64, u64>,
    downward: BTreeMap<u64, u64>,
    closed: BTreeSet<u64>,
    /// What the coordinator works on: who asked, over which connection.
    asked: BTreeMap<group::RequestId, (usize, u64, RequestId)>,
    last_asked: u64,
    committed: BTreeMap<TopicPartition, i64>,
    hash: u64,
    /// Whether notes are taken: they cost more than everything else.
    pub(crate) traced: bool,
    verbose: bool,
    commits_accepted: u64,
}

impl World {
    pub(crate) fn new(seed: u64, setup: Setup) -> Self {
        let config = GroupConfig {
            initial_rebalance_delay: Duration::from_millis(INITIAL_DELAY_MS),
            ..GroupConfig::default()
        };
        let mut world = Self {
            now: 1_000,
            random: Random(seed),
            queue: BTreeMap::new(),
            sequence: 0,
            shard: None,
            config,
            log: Vec::new(),
            crashes: seed.wrapping_mul(1_000),
            nodes: Vec::new(),
            last_connection: 0,
            upward: BTreeMap::new(),
            downward: BTreeMap::new(),
            closed: BTreeSet::new(),
            asked: BTreeMap::new(),
            last_asked: 0,
            committed: BTreeMap::new(),
            hash: 0xcbf2_9ce4_8422_2325,
            traced: std::env::var("KAVKA_SEED").is_ok(),
            verbose: std::env::var("KAVKA_SEED").is_ok(),
            commits_accepted: 0,
            setup,
        };
        world.load();
        for index in 0..world.setup.members {
            world.start_member(index);
        }
        if world.setup.churn {
            world.schedule(5_000, Happening::Churn);
        }
        world
    }

    pub(crate) fn trace_hash(&self) -> u64 {
        self.hash
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if !self.traced {
            return;
        }
        let text = text();
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.verbose {
            eprintln!("{:>8} {text}", self.now);
        }
    }

    fn schedule(&mut self, after: u64, what: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), what);
    }

    fn time(&self) -> Now {
        Now {
            monotonic: Monotonic::from_millis(self.now),
            wall_ms: 1_700_000_000_000 + i64::try_from(self.now).unwrap(),
        }
    }

    fn faulty(&mut self, rate: u64) -> bool {
        self.now < FAULTS_MS && self.random.happens(rate)
    }

    // ---- the run ----

    pub(crate) fn run(&mut self) {
        // Who hangs when the faults stop goes on polling after that; a cooperative rebalance takes two rounds.
        let settle = HANG_MS + SESSION_MS + REBALANCE_MS * 2 + 10_000;
        while let Some((&(at, sequence), _)) = self.queue.first_key_value() {
            if at > FAULTS_MS + settle {
                break;
            }
            let what = self.queue.remove(&(at, sequence)).unwrap();
            self.now = at;
            self.happen(what);
            self.check();
        }
        self.check_settled();
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Arrives { node, connection, id, request } => {
                self.arrive(node, connection, id, request);
            }
            Happening::Answers { node, connection, id, response } => {
                if !self.closed.contains(&connection) {
                    self.nodes[node].joins_under_way.remove(&id);
                    self.step(node, Input::Response(id, response));
                }
            }
            Happening::Fails { node, id, failure } => {
                self.nodes[node].joins_under_way.remove(&id);
                self.step(node, Input::Failed(id, failure));
            }
            Happening::Deadline { node } => {
                if self.nodes[node].armed == Some(self.now) {
                    self.nodes[node].armed = None;
                    self.step(node, Input::Deadline);
                }
            }
            Happening::CoordinatorDeadline => {
                let due = self.shard.as_ref().and_then(GroupShard::next_deadline);
                if due.is_some_and(|due| due <= self.time().monotonic) {
                    self.coordinate(group::Input::Deadline);
                }
            }
            Happening::CoordinatorLoads => self.load(),
            Happening::Application { node } => self.application(node),
            Happening::Drained { node, drain } => self.step(node, Input::Drained(drain)),
            Happening::Assigned { node, task } => {
                let input =
                    if self.setup.sticky { assign_sticky(&task) } else { assign_round(&task) };
                self.step(node, input);
            }
            Happening::Churn => self.churn(),
            Happening::AbandonNoticed { request } => {
                if self.asked.contains_key(&request) && self.shard.is_some() {
                    self.coordinate(group::Input::Abandoned { group: GROUP.into(), request });
                }
            }
        }
    }

    // ---- members ----

    fn start_member(&mut self, index: usize) {
        let seed = self.random.next();
        let instance: Option<ByteString> =
            self.setup.static_members.then(|| format!("instance-{index}").into());
        let assignor =
            if self.setup.cooperative { Assignor::cooperative_sticky() } else { Assignor::range() };
        let auto = self.random.below(3) > 0;
        let config = MemberConfig {
            group_instance_id: instance.clone(),
            assignors: vec![assignor],
            session_timeout: Duration::from_millis(SESSION_MS),
            heartbeat_interval: Duration::from_millis(1_000),
            max_poll_interval: Duration::from_millis(REBALANCE_MS),
            auto_commit_interval: auto.then(|| Duration::from_millis(2_000)),
            request_timeout: Duration::from_millis(5_000),
            offset_reset: OffsetReset::Earliest,
            ..MemberConfig::new(GROUP)
        };
        let node = Node {
            member: Member::new(config, seed).unwrap(),
            instance,
            is_alive: true,
            is_closing: false,
            hangs_until: 0,
            connection: 0,
            armed: None,
            commits: BTreeSet::new(),
            last_commit: 0,
            told: BTreeMap::new(),
            joins_under_way: BTreeMap::new(),
        };
        self.nodes.push(node);
        let node = self.nodes.len() - 1;
        self.note(|| format!("member {node} starts"));
        self.step(node, Input::Metadata(metadata()));
        self.step(node, Input::Subscribe([TOPIC.into()].into()));
        self.schedule(100, Happening::Application { node });
    }

    fn step(&mut self, node: usize, input: Input) {
        if !self.nodes[node].is_alive {
            return;
        }
        let now = self.time();
        self.note(|| format!("member {node} <- {input:?}"));
        let output = self.nodes[node].member.handle(now, input);
        assert!(output.requests.len() <= 8 && output.events.len() <= 64, "bounded outputs");
        for trace in &output.traces {
            self.note(|| format!("member {node}    {trace}"));
        }
        if !output.disconnect.is_empty() {
            self.close_connection(node);
        }
        for outgoing in output.requests {
            self.send(node, outgoing);
        }
        for event in output.events {
            self.note(|| format!("member {node} -> {event:?}"));
            self.on_event(node, event);
        }
        let deadline = self.nodes[node].member.next_deadline();
        if let Some(deadline) = deadline {
            let at = u64::try_from(deadline.elapsed().as_nanos().div_ceil(1_000_000)).unwrap();
            assert!(deadline > now.monotonic, "member {node}: the deadline is later than now");
            if self.nodes[node].armed != Some(at) {
                self.nodes[node].armed = Some(at);
                self.schedule(at - self.now, Happening::Deadline { node });
            }
        } else {
            self.nodes[node].armed = None;
        }
    }

    fn on_event(&mut self, index: usize, event: Event) {
        let delay = 1 + self.random.below(400);
        let node = &mut self.nodes[index];
        match event {
            Event::Assign(task) => {
                self.schedule(delay, Happening::Assigned { node: index, task });
            }
            Event::Assigned { added, owned, .. } => {
                for partition in added {
                    let former = node.told.insert(partition, false);
                    assert_eq!(former, None, "S32: assigned after revoked or lost");
                }
                assert!(owned.iter().all(|partition| node.told.contains_key(partition)));
            }
            Event::Revoking { drain, partitions, deadline, .. } => {
                for partition in partitions {
                    let former = node.told.insert(partition, true);
                    assert_eq!(former, Some(false), "S32: revoking once, after assigned");
                }
                assert!(deadline > Monotonic::from_millis(self.now));
                let delay = if self.random.happens(30) { 60_000 } else { delay };
                if self.random.below(2) == 0 {
                    self.commit(index, true);
                }
                self.schedule(delay, Happening::Drained { node: index, drain });
            }
            Event::Revoked { partitions } => {
                for partition in partitions {
                    assert_eq!(
                        node.told.remove(&partition),
                        Some(true),
                        "S32: revoked after revoking"
                    );
                }
            }
            Event::Lost { partitions, .. } => {
                for partition in partitions {
                    assert!(node.told.remove(&partition).is_some(), "S32: lost after assigned");
                }
            }
            Event::CommitCompleted { commit, .. } => {
                assert!(node.commits.remove(&commit), "a commit completes once");
            }
            Event::Closed { .. } => {
                assert_eq!(node.commits.len(), 0, "a close completes every commit");
                node.is_alive = false;
                self.close_connection(index);
            }
            Event::Error(error) => {
                // A static member whose successor, or whose own late request, came in between.
                let fenced = error.kind == ErrorKind::FencedInstance && node.instance.is_some();
                assert!(fenced, "member {index}: {error}");
                node.is_alive = false;
                self.close_connection(index);
                self.schedule(1_000, Happening::Churn);
            }
            Event::PositionFound { .. } | Event::MetadataWanted { .. } => {}
        }
    }

    fn commit(&mut self, index: usize, sync: bool) {
        let node = &mut self.nodes[index];
        node.last_commit += 1;
        let commit = CommitId(node.last_commit);
        node.commits.insert(commit);
        let mode = if sync {
            CommitMode::Sync { timeout: Duration::from_secs(15) }
        } else {
            CommitMode::Async
        };
        self.step(index, Input::Commit { commit, offsets: None, mode });
    }

    fn application(&mut self, index: usize) {
        if !self.nodes[index].is_alive {
            return;
        }
        self.schedule(500, Happening::Application { node: index });
        if self.nodes[index].hangs_until > self.now || self.nodes[index].is_closing {
            return;
        }
        self.step(index, Input::Poll);
        let fetchable: Vec<Fetchable> = self.nodes[index].member.fetchable().collect();
        for found in fetchable {
            if self.random.below(2) == 0 {
                let consumed = Consumed {
                    partition: found.partition,
                    epoch: found.epoch,
                    next_offset: found.position.offset
                        + 1
                        + i64::try_from(self.random.below(5)).unwrap(),
                    leader_epoch: 0,
                };
                self.step(index, Input::Consumed(vec![consumed]));
            }
        }
        match self.random.below(8) {
            0 => self.commit(index, true),
            1 => self.commit(index, false),
            _ => {}
        }
        if self.setup.churn && self.faulty(5) {
            self.nodes[index].hangs_until = self.now + HANG_MS;
        }
    }

    fn churn(&mut self) {
        if self.now > FAULTS_MS + 2_000 {
            return;
        }
        let pause = 5_000 + self.random.below(30_000);
        let alive: Vec<usize> =
            (0..self.nodes.len()).filter(|node| self.nodes[*node].is_alive).collect();
        let wanted = self.setup.members;
        if alive.len() < wanted {
            let names: BTreeSet<_> =
                alive.iter().filter_map(|node| self.nodes[*node].instance.clone()).collect();
            let free = (0..wanted).find(|index| {
                !self.setup.static_members
                    || !names.contains(&ByteString::from(format!("instance-{index}")))
            });
            self.start_member(free.unwrap());
        } else if self.now < FAULTS_MS && !alive.is_empty() {
            let victim = alive[usize::try_from(self.random.below(alive.len() as u64)).unwrap()];
            if self.nodes[victim].is_closing {
                return self.schedule(pause, Happening::Churn);
            }
            match self.random.below(4) {
                0 => {
                    self.note(|| format!("member {victim} dies"));
                    self.nodes[victim].is_alive = false;
                    self.close_connection(victim);
                }
                1 => {
                    self.nodes[victim].is_closing = true;
                    let timeout = Duration::from_secs(10);
                    self.step(victim, Input::Close { timeout, leave: None });
                }
                2 => {
                    self.step(victim, Input::Unsubscribe);
                    self.step(victim, Input::Subscribe([TOPIC.into()].into()));
                }
                _ => self.step(victim, Input::EnforceRebalance { reason: "why not".into() }),
            }
        }
        self.schedule(pause, Happening::Churn);
    }

    // ---- the network ----

    fn close_connection(&mut self, node: usize) {
        let connection = std::mem::take(&mut self.nodes[node].connection);
        self.nodes[node].joins_under_way.clear();
        if connection == 0 {
            return;
        }
        self.closed.insert(connection);
        let parked: Vec<group::RequestId> = self
            .asked
            .iter()
            .filter(|(_, (_, over, _))| *over == connection)
            .map(|(request, _)| *request)
            .collect();
        for request in parked {
            let delay = self.random.below(3_000);
            self.schedule(delay, Happening::AbandonNoticed { request });
        }
    }

    fn delay(&mut self) -> u64 {
        let rate = self.setup.faults.slow;
        if self.faulty(rate) { 100 + self.random.below(4_000) } else { 1 + self.random.below(20) }
    }

    fn send(&mut self, node: usize, outgoing: Outgoing) {
        let Outgoing { id, target, request, .. } = outgoing;
        self.check_request(node, &request);
        if !matches!(target, Target::Coordinator(_)) {
            return self.answer_elsewhere(node, id, &request);
        }
        if self.nodes[node].connection == 0 {
            self.last_connection += 1;
            self.nodes[node].connection = self.last_connection;
        }
        let connection = self.nodes[node].connection;
        if matches!(request, Request::Join(_)) {
            self.nodes[node].joins_under_way.insert(id, connection);
            assert_eq!(self.nodes[node].joins_under_way.len(), 1, "one JoinGroup at a time");
        }
        let delay = self.delay();
        let rate = self.setup.faults.half_open;
        if self.faulty(rate) {
            return self.note(|| format!("request {id:?} of member {node} goes nowhere"));
        }
        let at = (self.now + delay).max(self.upward.get(&connection).copied().unwrap_or(0));
        self.upward.insert(connection, at);
        let rate = self.setup.faults.cut;
        if self.faulty(rate) {
            // The request may arrive all the same; its answer does not.
            if self.random.below(2) == 0 {
                self.schedule(at - self.now, Happening::Arrives { node, connection, id, request });
            }
            let delay = self.delay();
            return self
                .schedule(delay, Happening::Fails { node, id, failure: Failure::Disconnected });
        }
        self.schedule(at - self.now, Happening::Arrives { node, connection, id, request });
    }

    /// Lookups and queries to other brokers.
    fn answer_elsewhere(&mut self, node: usize, id: RequestId, request: &Request) {
        let delay = self.delay();
        let rate = self.setup.faults.lookup_fails;
        if self.faulty(rate) {
            let failure = Failure::Disconnected;
            return self.schedule(delay, Happening::Fails { node, id, failure });
        }
        let response = match request {
            Request::FindCoordinator { .. }
                if self.shard.is_none() && self.random.below(2) == 0 =>
            {
                Response::FindCoordinator(Err(ErrorCode::CoordinatorNotAvailable))
            }
            Request::FindCoordinator { .. } => Response::FindCoordinator(Ok(Coordinator {
                node: 1,
                host: "broker".into(),
                port: 9092,
            })),
            Request::ListOffsets(list) => Response::ListOffsets(
                list.partitions
                    .iter()
                    .map(|(partition, _, _)| {
                        let row =
                            ListedOffset { error: ErrorCode::None, offset: 0, leader_epoch: 0 };
                        (partition.clone(), row)
                    })
                    .collect(),
            ),
            other => panic!("not asked elsewhere: {other:?}"),
        };
        self.schedule(delay, Happening::Answers { node, connection: u64::MAX, id, response });
    }

    // ---- the coordinator ----

    fn load(&mut self) {
        self.crashes += 1;
        let mut shard = GroupShard::new(self.config.clone(), self.crashes);
        for (offset, record) in self.log.iter().enumerate() {
            shard.apply(i64::try_from(offset).unwrap(), record);
        }
        self.shard = Some(shard);
        self.note(|| "the coordinator has loaded".into());
        self.coordinate(group::Input::Loaded);
    }

    fn arrive(&mut self, node: usize, connection: u64, id: RequestId, request: Request) {
        self.note(|| format!("coordinator <- member {node} {id:?} {request:?}"));
        if self.closed.contains(&connection) && self.random.below(2) == 0 {
            // It was still on the way when its connection was closed.
            return;
        }
        self.last_asked += 1;
        let asked = group::RequestId(self.last_asked);
        self.asked.insert(asked, (node, connection, id));
        let request = to_coordinator(request, node, connection);
        if self.shard.is_none() {
            let reply = request.refuse(ErrorCode::NotCoordinator);
            return self.answer(asked, reply);
        }
        let crash = self.setup.faults.coordinator_crashes;
        if self.faulty(crash) {
            self.note(|| "the coordinator crashes".into());
            self.shard = None;
            // Whoever waits for an answer waits in vain; a half of them notices at once.
            self.asked.clear();
            for index in 0..self.nodes.len() {
                if self.nodes[index].is_alive && self.random.below(2) == 0 {
                    let ids: Vec<RequestId> =
                        self.nodes[index].joins_under_way.keys().copied().collect();
                    for id in ids {
                        let failure = Failure::Disconnected;
                        self.schedule(10, Happening::Fails { node: index, id, failure });
                    }
                }
            }
            let down = self.random.below(8_000);
            return self.schedule(down, Happening::CoordinatorLoads);
        }
        self.coordinate(group::Input::Request(asked, request));
    }

    fn coordinate(&mut self, input: group::Input) {
        let now = self.time();
        let Some(shard) = &mut self.shard else { return };
        let before = match &input {
            group::Input::Request(asked, group::Request::CommitOffsets(commit)) => {
                Some((*asked, commit.clone()))
            }
            _ => None,
        };
        let mut output = shard.handle(now, input);
        let fails = self.setup.faults.append_fails;
        if !output.records.is_empty() && self.faulty(fails) {
            self.note(|| "an append fails".into());
            let error = group::append_error(ErrorCode::KafkaStorageError);
            for answer in output.answers {
                self.answer(answer.request, answer.reply.failed(error));
            }
            let unloaded = self.shard.as_mut().unwrap().handle(now, group::Input::Unload { error });
            for answer in unloaded.answers {
                self.answer(answer.request, answer.reply);
            }
            self.shard = None;
            return self.load();
        }
        for record in output.records.drain(..) {
            let offset = i64::try_from(self.log.len()).unwrap();
            self.shard.as_mut().unwrap().apply(offset, &record);
            self.log.push(record);
        }
        if let Some((asked, commit)) = before {
            self.check_commit(asked, &commit, &output.answers);
        }
        for event in &output.events {
            self.note(|| format!("coordinator: {event}"));
        }
        for answer in output.answers {
            self.answer(answer.request, answer.reply);
        }
        if let Some(deadline) = self.shard.as_ref().and_then(GroupShard::next_deadline) {
            let at = u64::try_from(deadline.elapsed().as_millis()).unwrap().max(self.now);
            self.schedule(at - self.now, Happening::CoordinatorDeadline);
        }
    }

    fn answer(&mut self, asked: group::RequestId, reply: Reply) {
        let Some((node, connection, id)) = self.asked.remove(&asked) else { return };
        let response = from_coordinator(reply);
        let delay = self.delay();
        let at = (self.now + delay).max(self.downward.get(&connection).copied().unwrap_or(0));
        self.downward.insert(connection, at);
        let rate = self.setup.faults.cut;
        if self.faulty(rate) {
            self.note(|| format!("the answer to {id:?} of member {node} is lost"));
            let failure = Failure::Disconnected;
            return self.schedule(at - self.now, Happening::Fails { node, id, failure });
        }
        let twice = self.now < FAULTS_MS && self.random.happens(5);
        if twice {
            let response = response.clone();
            self.schedule(at - self.now, Happening::Answers { node, connection, id, response });
        }
        self.schedule(at - self.now, Happening::Answers { node, connection, id, response });
    }

    // ---- what must hold ----

    fn check_request(&self, node: usize, request: &Request) {
        let member = &self.nodes[node].member;
        match request {
            Request::Heartbeat(heartbeat) => {
                assert_eq!(heartbeat.generation, member.generation(), "S8: an old generation");
            }
            Request::CommitOffsets(commit) => {
                for partition in commit.offsets.keys() {
                    assert!(
                        member.owned().contains(partition),
                        "S27: member {node} commits {partition}, which it does not own"
                    );
                }
            }
            _ => {}
        }
    }

    /// Committed offsets do not go back: nobody seeks here. What a client gave up by closing its connection, and what arrives
    /// all the same, is the one exception that the protocol leaves.
    fn check_commit(
        &mut self,
        asked: group::RequestId,
        commit: &group::CommitRequest,
        answers: &[group::Answer],
    ) {
        let Some((node, connection, _)) = self.asked.get(&asked).copied() else { return };
        let Some(answer) = answers.iter().find(|answer| answer.request == asked) else { return };
        let Reply::CommitOffsets(reply) = &answer.reply else { return };
        for (topic, rows) in commit.topics.iter().zip(&reply.topics) {
            for (row, (_, code)) in topic.partitions.iter().zip(&rows.partitions) {
                if *code != ErrorCode::None {
                    continue;
                }
                self.commits_accepted += 1;
                let partition = TopicPartition::new(topic.name.clone(), row.partition);
                let former = self.committed.insert(partition.clone(), row.offset).unwrap_or(-1);
                assert!(
                    row.offset >= former || self.closed.contains(&connection),
                    "member {node} commits {} of {partition} after {former}",
                    row.offset
                );
            }
        }
    }

    /// S1, by generation. A member that the coordinator has removed and that has not heard of it yet may still believe that it
    /// owns something: its session is over.
    fn check(&mut self) {
        let mut owners: BTreeMap<(i32, TopicPartition), usize> = BTreeMap::new();
        let mut overlap = None;
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.is_alive) {
            let owned = node.member.owned();
            assert!(owned.is_empty() || node.member.generation() >= 0, "owned under a generation");
            assert!(owned.iter().eq(node.told.keys()), "the events tell what is owned");
            for partition in owned {
                match owners.entry((node.member.generation(), partition)) {
                    Entry::Vacant(free) => {
                        free.insert(index);
                    }
                    Entry::Occupied(taken) => {
                        overlap = Some((taken.key().clone(), *taken.get(), index));
                    }
                }
            }
        }
        if let Some(((generation, partition), one, other)) = overlap {
            let members = self.members_of_group();
            let is_in = |index: usize| members.contains(self.nodes[index].member.member_id());
            assert!(
                !is_in(one) || !is_in(other),
                "S1: {partition} in generation {generation} belongs to members {one} and {other}"
            );
        }
    }

    fn members_of_group(&mut self) -> BTreeSet<ByteString> {
        let now = self.time();
        let Some(shard) = &mut self.shard else { return BTreeSet::new() };
        let request = group::Request::DescribeGroups(vec![GROUP.into()]);
        let output = shard.handle(now, group::Input::Request(group::RequestId(u64::MAX), request));
        match &output.answers[0].reply {
            Reply::DescribeGroups(groups) => {
                groups[0].members.iter().map(|member| member.member_id.clone()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn check_settled(&self) {
        let alive: Vec<(usize, &Node)> =
            self.nodes.iter().enumerate().filter(|(_, node)| node.is_alive).collect();
        assert!(!alive.is_empty());
        let mut owned: BTreeMap<TopicPartition, usize> = BTreeMap::new();
        let generation = alive[0].1.member.generation();
        for (index, node) in &alive {
            assert_eq!(node.member.state(), State::Stable, "L2: member {index}");
            assert_eq!(node.member.generation(), generation, "L2: member {index}");
            for partition in node.member.owned() {
                assert_eq!(owned.insert(partition, *index), None, "S1");
            }
        }
        let expected: BTreeSet<TopicPartition> =
            (0..PARTITIONS).map(|partition| TopicPartition::new(TOPIC, partition)).collect();
        assert!(owned.keys().eq(expected.iter()), "L3: {owned:?}");
        assert!(self.commits_accepted > 0);
    }
}

fn metadata() -> BTreeMap<ByteString, TopicMetadata> {
    let partition = PartitionMetadata { leader: Some(1), leader_epoch: 0, racks: BTreeSet::new() };
    let partitions = vec![partition; usize::try_from(PARTITIONS).unwrap()];
    [(TOPIC.into(), TopicMetadata { id: Uuid::ZERO, partitions })].into()
}

/// Deals partitions round by member id, whoever had them before: cooperative members must survive it.
fn assign_round(task: &AssignTask) -> Input {
    let mut members: Vec<&GroupMember> = task.members.iter().collect();
    members.sort_by_key(|member| (member.instance_id.clone(), member.member_id.clone()));
    let mut assignments: BTreeMap<ByteString, Assignment> = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let member = members[usize::try_from(partition).unwrap() % members.len()];
        assert!(member.subscription.topics.contains(TOPIC));
        assignments
            .entry(member.member_id.clone())
            .or_default()
            .partitions
            .insert(TopicPartition::new(TOPIC, partition));
    }
    let topics = metadata().into_iter().map(|(name, topic)| (name, topic.shape())).collect();
    Input::Assigned { generation: task.generation, assignments, topics }
}

/// `cooperative-sticky`, over the bytes that members send.
fn assign_sticky(task: &AssignTask) -> Input {
    let joined: Vec<JoinGroupResponseMember> = task
        .members
        .iter()
        .map(|member| JoinGroupResponseMember {
            member_id: member.member_id.clone(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata.clone(),
            ..Default::default()
        })
        .collect();
    let partitions = u32::try_from(PARTITIONS).unwrap();
    let cluster: Cluster =
        [(TOPIC.into(), kavka_assignor::TopicMetadata { partitions, ..Default::default() })].into();
    // What is given away too early is held back by the member itself: that round is corrected, not failed.
    let protocol = kavka_assignor::RebalanceProtocol::Eager;
    let led = JoinedMembers::read(&joined)
        .unwrap()
        .assign(&CooperativeSticky, protocol, &cluster)
        .unwrap();
    let assignments = led
        .assignments
        .into_iter()
        .map(|row| (row.member_id, Assignment::decode(&row.assignment).unwrap()))
        .collect();
    let topics = metadata().into_iter().map(|(name, topic)| (name, topic.shape())).collect();
    Input::Assigned { generation: task.generation, assignments, topics }
}

fn to_coordinator(request: Request, node: usize, connection: u64) -> group::Request {
    match request {
        Request::Join(join) => group::Request::Join(group::JoinRequest {
            group: join.group,
            member_id: join.member_id,
            instance_id: join.instance_id,
            client_id: format!("client-{node}").into(),
            client_host: "/127.0.0.1".into(),
            connection: Some(group::ConnectionId(connection)),
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocol_type: join.protocol_type,
            protocols: join.protocols,
            requires_known_member_id: true,
            supports_skip_assignment: true,
            reason: join.reason,
        }),
        Request::Sync(sync) => group::Request::Sync(group::SyncRequest {
            group: sync.group,
            generation: sync.generation,
            member_id: sync.member_id,
            instance_id: sync.instance_id,
            protocol_type: Some(sync.protocol_type),
            protocol_name: Some(sync.protocol_name),
            assignments: sync.assignments,
        }),
        Request::Heartbeat(heartbeat) => group::Request::Heartbeat(group::HeartbeatRequest {
            group: heartbeat.group,
            generation: heartbeat.generation,
            member_id: heartbeat.member_id,
            instance_id: heartbeat.instance_id,
        }),
        Request::Leave(leave) => group::Request::Leave(group::LeaveRequest {
            group: leave.group,
            members: vec![group::LeavingMember {
                member_id: leave.member_id,
                instance_id: leave.instance_id,
                reason: leave.reason,
            }],
        }),
        Request::CommitOffsets(commit) => {
            let mut topics: BTreeMap<ByteString, Vec<group::CommitPartition>> = BTreeMap::new();
            for (partition, offset) in commit.offsets {
                topics.entry(partition.topic).or_default().push(group::CommitPartition {
                    partition: partition.partition,
                    offset: offset.offset,
                    leader_epoch: offset.leader_epoch,
                    metadata: offset.metadata,
                });
            }
            group::Request::CommitOffsets(group::CommitRequest {
                group: commit.group,
                generation: commit.generation,
                member_id: commit.member_id,
                instance_id: commit.instance_id,
                retention_time_ms: None,
                topics: topics
                    .into_iter()
                    .map(|(name, partitions)| group::CommitTopic {
                        name,
                        topic_id: Uuid::ZERO,
                        partitions,
                    })
                    .collect(),
            })
        }
        Request::FetchOffsets(fetch) => {
            let mut topics: BTreeMap<ByteString, Vec<i32>> = BTreeMap::new();
            for partition in fetch.partitions {
                topics.entry(partition.topic).or_default().push(partition.partition);
            }
            let topics = topics.into_iter().map(|(name, partitions)| group::FetchTopic {
                name,
                topic_id: Uuid::ZERO,
                partitions,
            });
            group::Request::FetchOffsets(group::FetchRequest {
                group: fetch.group,
                topics: Some(topics.collect()),
                require_stable: true,
            })
        }
        other => panic!("not for the coordinator: {other:?}"),
    }
}

fn from_coordinator(reply: Reply) -> Response {
    match reply {
        Reply::Join(join) => Response::Join(JoinResponse {
            error: join.error,
            generation: join.generation,
            protocol_name: join.protocol_name,
            leader: join.leader,
            skip_assignment: join.skip_assignment,
            member_id: join.member_id,
            members: join
                .members
                .into_iter()
                .map(|member| JoinedMember {
                    member_id: member.member_id,
                    instance_id: member.instance_id,
                    metadata: member.metadata,
                })
                .collect(),
        }),
        Reply::Sync(sync) => Response::Sync(match sync.error {
            ErrorCode::None => Ok(sync.assignment),
            error => Err(error),
        }),
        Reply::Heartbeat(code) => Response::Heartbeat(code),
        Reply::Leave(leave) => Response::Leave(match leave.error {
            ErrorCode::None => leave.members[0].error,
            error => error,
        }),
        Reply::CommitOffsets(commit) => {
            let rows = commit.topics.into_iter().flat_map(|topic| {
                let name = topic.name;
                let rows = topic.partitions.into_iter();
                rows.map(move |(partition, code)| {
                    (TopicPartition::new(name.clone(), partition), code)
                })
            });
            Response::CommitOffsets(rows.collect())
        }
        Reply::FetchOffsets(fetch) if fetch.error != ErrorCode::None => {
            Response::FetchOffsets(Err(fetch.error))
        }
        Reply::FetchOffsets(fetch) => {
            let rows = fetch.topics.into_iter().flat_map(|topic| {
                let name = topic.name;
                topic.partitions.into_iter().map(move |row| {
                    let partition = TopicPartition::new(name.clone(), row.partition);
                    let (offset, leader_epoch) = (row.offset, row.leader_epoch);
                    (partition, FetchedOffset { error: row.error, offset, leader_epoch })
                })
            });
            Response::FetchOffsets(Ok(rows.collect()))
        }
        other => panic!("not asked by members: {other:?}"),
    }
}
