//! The world: everything there is, in one thread, under one seed, one event after the other.
//!
//! Owns time, chance and the queue. What happens to whom is in a file for each: `network` (connections),
//! `coordinators` (nodes, shards and their logs), `process` (our members and their
//! applications), `foreign` (clients of other make), `acts` (operators, and misfortune).
//! After each event `safety` is checked; when the faults have stopped, `liveness`.
//!
//! **Invariant:** the same case gives the same events in the same order, told by [`World::trace_hash`]. Nothing here looks at a
//! clock, at the order of a hash table, or at an address.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use kavka_coordinator::group::{self, Reply};
use kavka_member::{AssignTask, DrainId, Failure, RequestId, Response, TopicPartition};
use kavka_protocol::ByteString;

use crate::{
    coordinators::{Node, Shard},
    coverage::Coverage,
    foreign::Foreign,
    history::Notebook,
    network::{Connection, ConnectionNumber},
    plan::{Case, Fault, Plan},
    process::Process,
    random::Random,
    safety::Progress,
    topics::Topics,
    translate::ClientName,
};

/// What happens at a time.
#[derive(Debug)]
pub(crate) enum Event {
    /// A request arrives at a node.
    Arrives { connection: ConnectionNumber, tag: u64, request: Box<group::Request> },
    /// An answer arrives at a client.
    Answers { connection: ConnectionNumber, tag: u64, reply: Box<Reply> },
    /// A client sees that its connection is gone.
    Breaks { connection: ConnectionNumber },
    /// A node sees that the client of a connection is gone.
    ClientIsGone { connection: ConnectionNumber },
    /// An answer that came over no connection that is modelled: of lookups, and of leaders of partitions.
    AnswersElsewhere { client: usize, id: RequestId, response: Box<Response> },
    /// The same, failed.
    FailsElsewhere { client: usize, id: RequestId, failure: Failure },
    /// A member's deadline.
    Deadline { client: usize },
    /// An application, or a client of other make, does something.
    Goes { client: usize },
    /// An application is done with what it was to give up.
    Drained { client: usize, drain: DrainId },
    /// An assignor is done.
    Assigned { client: usize, task: Box<AssignTask> },
    /// A client hears what topics there are.
    Refreshes { client: usize },
    /// A shard's deadline.
    ShardDeadline { shard: usize, node: usize, life: u64 },
    /// A sync is done.
    Synced { shard: usize, life: u64, up_to: i64 },
    /// Answers have waited for a sync for too long.
    Patience { shard: usize, node: usize, life: u64 },
    /// An operator lists the groups of a shard, ready or not.
    Lists { shard: usize },
    /// A part of a log is read.
    Loads { shard: usize, node: usize, life: u64 },
    /// The shard's host learns that it is not the coordinator any more.
    LearnsOfMove { shard: usize, node: usize, life: u64 },
    /// A node is there again.
    NodeUp { node: usize },
    /// A shard without a host gets one.
    Elects { shard: usize },
    /// Someone comes, goes, or does something unusual.
    Act,
    /// Records are produced.
    Produces,
    /// A topic that was deleted is made again.
    TopicReturns { topic: ByteString },
    /// The network lets a client and a node talk again.
    Reconnects { client: usize, node: usize },
}

/// Who lives in the world.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: ClientName,
    /// Index of the group.
    pub(crate) group: usize,
    /// When it came.
    pub(crate) since: u64,
    pub(crate) is_alive: bool,
    /// A coordinator that was none any more has answered that it is fenced.
    pub(crate) fenced_by_former: bool,
    pub(crate) kind: Kind,
    /// Its open connections, by node.
    pub(crate) connections: BTreeMap<usize, ConnectionNumber>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Ours(Box<Process>),
    Foreign(Box<Foreign>),
    /// An operator: asks once, and does not care for the answer.
    Operator,
}

/// A group, as the world sees it.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: ByteString,
    pub(crate) shard: usize,
    /// What its members want; changes under [`Fault::ChangeSubscription`].
    pub(crate) topics: BTreeSet<ByteString>,
    pub(crate) progress: BTreeMap<TopicPartition, Progress>,
    /// Rebalances that have begun.
    pub(crate) rebalances: u64,
    /// Until when nobody comes.
    pub(crate) deserted_until: u64,
    /// What each static member wanted when the generation was made.
    pub(crate) wanted: BTreeMap<ByteString, BTreeSet<ByteString>>,
    /// A static member came back and wants something else, or perhaps was to let go of something: nobody assigns that before the next
    /// rebalance (KIP-345).
    pub(crate) is_outdated: bool,
    /// When the coordinator last gave up a static member, by name.
    pub(crate) dropped: BTreeMap<ByteString, u64>,
    /// JoinGroups by name, of each client.
    pub(crate) named: BTreeMap<ByteString, BTreeMap<usize, NamedJoins>>,
}

/// What came of the JoinGroups with a client's instance id.
#[derive(Debug, Default)]
pub(crate) struct NamedJoins {
    /// When the last one came to a coordinator.
    pub(crate) heard: u64,
    /// When one was last answered without an error, by the member id in the answer.
    pub(crate) taken: BTreeMap<ByteString, u64>,
}

/// See the module.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) now: u64,
    pub(crate) random: Random,
    queue: BinaryHeap<Reverse<Scheduled>>,
    sequence: u64,
    pub(crate) healed: bool,
    pub(crate) topics: Topics,
    pub(crate) nodes: Vec<Node>,
    pub(crate) shards: Vec<Shard>,
    pub(crate) groups: Vec<Group>,
    pub(crate) clients: Vec<Client>,
    /// Those that live; operators are not among them.
    pub(crate) alive: BTreeSet<usize>,
    pub(crate) connections: Vec<Connection>,
    /// Who cannot reach whom.
    pub(crate) parted: BTreeSet<(usize, usize)>,
    pub(crate) asked: BTreeMap<group::RequestId, (ConnectionNumber, u64)>,
    pub(crate) last_asked: u64,
    /// A request that came twice, and what it was answered the first time.
    pub(crate) twin: Option<(group::RequestId, Reply)>,
    pub(crate) coverage: Coverage,
    pub(crate) notebook: Option<Notebook>,
    /// Checks are left out when a case runs again to compare traces.
    pub(crate) checked: bool,
    verbose: bool,
    hash: u64,
}

struct Scheduled {
    at: u64,
    sequence: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

/// How a world is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// With every check.
    #[default]
    Checked,
    /// With every check, and with a history for the checker.
    Recorded,
    /// Without: only the trace is wanted.
    Unchecked,
    /// With every check, and told on standard error.
    Told,
}

impl World {
    /// The beginning of a world.
    pub fn new(case: &Case, mode: Mode) -> Self {
        Self::with_plan(Plan::of(case), case.seed, mode)
    }

    pub(crate) fn with_plan(plan: Plan, seed: u64, mode: Mode) -> Self {
        let mut world = Self {
            now: 1_000,
            random: Random::new(seed),
            queue: BinaryHeap::new(),
            sequence: 0,
            healed: false,
            topics: Topics::default(),
            nodes: Vec::new(),
            shards: Vec::new(),
            groups: Vec::new(),
            clients: Vec::new(),
            alive: BTreeSet::new(),
            connections: Vec::new(),
            parted: BTreeSet::new(),
            asked: BTreeMap::new(),
            last_asked: 0,
            twin: None,
            coverage: Coverage::default(),
            notebook: (mode == Mode::Recorded).then(Notebook::default),
            checked: mode != Mode::Unchecked,
            verbose: mode == Mode::Told,
            hash: 0xcbf2_9ce4_8422_2325,
            plan,
        };
        world.note(|world| format!("{:#?}", world.plan));
        world.populate();
        world
    }

    fn populate(&mut self) {
        for topic in 0..self.plan.topics {
            self.topics.create(topic_name(topic), self.plan.partitions);
        }
        let topics: Vec<ByteString> = self.topics.names().cloned().collect();
        topics.iter().for_each(|topic| self.note_topic(topic));
        for _ in 0..self.plan.nodes {
            let clock = self.a_clock();
            self.nodes.push(Node { is_up: true, clock });
        }
        for index in 0..self.plan.groups.len() {
            let topics = self.topics.names().cloned().collect();
            self.groups.push(Group {
                id: format!("group-{index}").into(),
                shard: index % self.plan.shards,
                topics,
                progress: BTreeMap::new(),
                rebalances: 0,
                deserted_until: 0,
                wanted: BTreeMap::new(),
                is_outdated: false,
                dropped: BTreeMap::new(),
                named: BTreeMap::new(),
            });
        }
        self.begin_history();
        for _ in 0..self.plan.shards {
            let shard = Shard::new(&self.plan);
            self.shards.push(shard);
            self.elect(self.shards.len() - 1);
        }
        for index in 0..self.plan.groups.len() {
            let group = self.plan.groups[index].clone();
            for member in 0..group.members {
                self.start_process(index, (member < group.static_members).then_some(member));
            }
            for quirk in group.foreign {
                self.start_foreign(index, quirk);
            }
        }
        self.schedule(self.plan.act_every, Event::Act);
        self.schedule(100, Event::Produces);
    }

    /// Runs to the end.
    ///
    /// # Panics
    /// If something does not hold.
    pub fn run(&mut self) {
        self.run_until(self.plan.faults_end_at);
        self.check_liveness();
        self.coverage.simulated_ms = self.now;
    }

    pub(crate) fn run_until(&mut self, end: u64) {
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.at > end {
                break;
            }
            let Some(Reverse(Scheduled { at, sequence, event })) = self.queue.pop() else { break };
            self.now = at;
            self.mix(at ^ (sequence << 40));
            self.coverage.events += 1;
            self.happen(event);
            self.check_safety();
        }
        self.now = self.now.max(end);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrives { connection, tag, request } => self.arrive(connection, tag, *request),
            Event::Answers { connection, tag, reply } => self.hear(connection, tag, *reply),
            Event::Breaks { connection } => self.broken(connection),
            Event::ClientIsGone { connection } => self.client_is_gone(connection),
            Event::AnswersElsewhere { client, id, response } => {
                self.answered_elsewhere(client, id, *response);
            }
            Event::FailsElsewhere { client, id, failure } => {
                self.failed_elsewhere(client, id, failure);
            }
            Event::Deadline { client } => self.member_deadline(client),
            Event::Goes { client } => self.go(client),
            Event::Drained { client, drain } => self.drained(client, drain),
            Event::Assigned { client, task } => self.assign(client, &task),
            Event::Refreshes { client } => self.refresh(client),
            Event::ShardDeadline { shard, node, life } => self.shard_deadline(shard, node, life),
            Event::Synced { shard, life, up_to } => self.synced(shard, life, up_to),
            Event::Patience { shard, node, life } => self.patience_ends(shard, node, life),
            Event::Lists { shard } => self.list_groups_of(shard),
            Event::Loads { shard, node, life } => self.load_step(shard, node, life),
            Event::LearnsOfMove { shard, node, life } => {
                self.unload(shard, node, life, kavka_protocol::ErrorCode::NotCoordinator);
            }
            Event::NodeUp { node } => self.node_up(node),
            Event::Elects { shard } => self.elect(shard),
            Event::Act => self.act(),
            Event::Produces => self.produce(),
            Event::TopicReturns { topic } => self.topic_returns(topic),
            Event::Reconnects { client, node } => {
                self.parted.remove(&(client, node));
            }
        }
    }

    pub(crate) fn schedule(&mut self, after: u64, event: Event) {
        self.schedule_at(self.now + after, event);
    }

    pub(crate) fn schedule_at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        let at = at.max(self.now);
        self.queue.push(Reverse(Scheduled { at, sequence: self.sequence, event }));
    }

    /// Whether a fault lands here and now. Takes a chance in any case, so that what is left out changes as little as possible.
    pub(crate) fn faulty(&mut self, fault: Fault) -> bool {
        let lands = self.random.happens(self.plan.rate(fault)) && !self.healed;
        if lands {
            self.landed(fault);
        }
        lands
    }

    pub(crate) fn landed(&mut self, fault: Fault) {
        self.mix(fault as u64 + 0x1000);
        self.coverage.fault(fault);
        self.note(|_| format!("** {fault}"));
    }

    /// The hash of everything that has happened.
    pub fn trace_hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn note_judged(&mut self) {
        self.coverage.check("histories judged");
    }

    /// What has happened, counted.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// Something that two runs of a case must have in common.
    pub(crate) fn mix(&mut self, word: u64) {
        self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    pub(crate) fn mix_text(&mut self, text: &str) {
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    /// For who replays a case.
    pub(crate) fn note(&self, text: impl FnOnce(&Self) -> String) {
        if self.verbose {
            eprintln!("{:>9} {}", self.now, text(self));
        }
    }

    pub(crate) fn a_clock(&mut self) -> crate::clock::Clock {
        let offset_ms = self.random.below(1_000_000);
        let (drifts, drift) = (self.faulty(Fault::Drift), self.random.below(4_001).cast_signed());
        let skew = self.random.below(4_001).cast_signed() - 2_000;
        crate::clock::Clock {
            offset_ms,
            drift_ppm: if drifts { drift - 2_000 } else { 0 },
            wall_skew_ms: if drifts { skew } else { 0 },
        }
    }
}

pub(crate) fn topic_name(index: usize) -> ByteString {
    format!("topic-{index}").into()
}
