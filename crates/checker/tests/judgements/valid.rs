//! Histories of a cluster that does nothing wrong: a small model of logs, transactions and one group, whose clients crash, hang,
//! lose answers and are overtaken by what they sent before.

use std::collections::{BTreeMap, BTreeSet};

use kavka_checker::{
    Commit, CommitSource, Committed, Event, EventKind, FaultPhase, GroupSettings, GroupState,
    History, Limits, Member, Op, PositionCause, Record, Step, TopicPartition, Verdict, check,
};

use crate::{random::Random, story::MS};

const SESSION_MS: u64 = 5_000;
const REBALANCE_MS: u64 = 60_000;
const PARTITIONS: u32 = 3;

/// The history of a seed.
pub(crate) fn history(seed: u64) -> History {
    let mut world = World::new(seed);
    let steps = 150 + world.random.below(100);
    world.run(steps, 0);
    History::new(world.events)
}

/// A history that is a little longer than this. Something is broken all the time: this group takes longer than it may to settle.
pub(crate) fn long_history(seed: u64, events: usize) -> History {
    let mut world = World::new(seed);
    let broken = Op::Fault { kind: "network".into(), phase: FaultPhase::Begin };
    world.note(0, "nemesis", broken);
    world.run(0, events);
    History::new(world.events)
}

#[derive(Clone, Copy, PartialEq)]
enum Entry {
    Value(i64),
    /// Of a transaction that is not over.
    Open(i64),
    Aborted,
    Marker,
}

/// A member of the group, as the client sees itself.
struct Consumer {
    client: String,
    member_id: String,
    generation: i32,
    alive: bool,
    hangs: bool,
    /// When the coordinator last heard of it.
    heard: u64,
    /// Where it is in what it owns.
    owned: BTreeMap<TopicPartition, i64>,
    joined: bool,
    /// What it will be told.
    told: Option<(i32, BTreeSet<TopicPartition>)>,
    polling: bool,
    commit: Option<Commit>,
}

/// Something that takes effect after nobody waits for it any more.
enum Late {
    Send(TopicPartition, i64),
    Commit(Commit),
}

struct World {
    random: Random,
    now: u64,
    events: Vec<Event>,
    logs: BTreeMap<TopicPartition, Vec<Entry>>,
    next_value: i64,
    cooperative: bool,
    removals_noted: bool,
    members: BTreeSet<String>,
    generation: i32,
    rebalancing: bool,
    assignment: BTreeMap<TopicPartition, String>,
    offsets: BTreeMap<(String, TopicPartition), Committed>,
    consumers: Vec<Consumer>,
    names: u64,
    sending: BTreeMap<u64, (TopicPartition, i64, Option<i64>)>,
    /// Of the registers that are written by anybody: what is under way.
    writing: BTreeMap<u64, Op>,
    reading: BTreeMap<u64, Op>,
    late: Vec<Late>,
    /// The transactional client: its name, its position in t-0, and the transaction that is open.
    transactional: (String, i64, Option<Vec<Step>>),
    /// Who reads what transactions write: its position.
    reader: i64,
}

fn t(partition: u32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn u() -> TopicPartition {
    TopicPartition::new("u", 0)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let (cooperative, removals_noted) = (random.percent(50), random.percent(70));
        let logs = (0..PARTITIONS).map(t).chain([u()]).map(|partition| (partition, Vec::new()));
        Self {
            random,
            now: 0,
            events: Vec::new(),
            logs: logs.collect(),
            next_value: 0,
            cooperative,
            removals_noted,
            members: BTreeSet::new(),
            generation: 0,
            rebalancing: false,
            assignment: BTreeMap::new(),
            offsets: BTreeMap::new(),
            consumers: Vec::new(),
            names: 0,
            sending: BTreeMap::new(),
            writing: BTreeMap::new(),
            reading: BTreeMap::new(),
            late: Vec::new(),
            transactional: (String::new(), 0, None),
            reader: 0,
        }
    }

    /// At least so many steps, and so many events.
    fn run(&mut self, steps: u64, events: usize) {
        let settings = GroupSettings {
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            sticky: true,
            removals_noted: self.removals_noted,
            ..GroupSettings::default()
        };
        self.note(0, "test", Op::Group { group: "g".into(), settings });
        self.note(0, "test", Op::Topic { topic: "t".into(), partitions: PARTITIONS });
        self.note(60, "reader", Op::Assign { partitions: BTreeSet::from([u()]) });
        for _ in 0..5 {
            (0..PARTITIONS).for_each(|partition| self.produce_at_once(t(partition)));
        }
        self.new_transactional();
        for _ in 0..2 {
            self.new_consumer();
        }
        for step in 0.. {
            if step >= steps && self.events.len() >= events {
                break;
            }
            self.pass();
            self.step();
        }
        self.settle();
        self.read_everything();
    }

    /// Time goes by; now and then a lot of it.
    fn pass(&mut self) {
        let long = self.random.percent(8);
        self.now +=
            MS * if long { 500 + self.random.below(1_500) } else { 1 + self.random.below(20) };
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..=2 => {
                let process = 10 + self.random.below(2);
                self.produce(process);
            }
            3..=7 => {
                let index = self.random.below(self.consumers.len() as u64) as usize;
                self.consume(index);
            }
            8 => {
                let process = 20 + self.random.below(3);
                self.write(process);
            }
            9..=10 => {
                let process = 30 + self.random.below(3);
                self.read(process);
            }
            11 => self.coordinate(),
            12..=13 => self.transact(),
            14 => self.read_transactions(),
            15 => self.arrive_late(),
            16 => self.coordinate(),
            _ => self.unrest(),
        }
        self.coordinate();
    }

    fn event(&mut self, process: u64, client: &str, kind: EventKind, op: Op) {
        self.events.push(Event::new(self.now, process, client, kind, op));
    }

    fn note(&mut self, process: u64, client: &str, op: Op) {
        self.event(process, client, EventKind::Info, op);
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    // Records.

    fn append(&mut self, partition: &TopicPartition, entry: Entry) -> i64 {
        let log = self.logs.get_mut(partition).unwrap();
        log.push(entry);
        log.len() as i64 - 1
    }

    /// What a consumer of committed records gets from there on, and where it is afterwards.
    fn records(&self, partition: &TopicPartition, from: i64, count: usize) -> (Vec<Record>, i64) {
        let mut records = Vec::new();
        let mut position = from;
        for (offset, entry) in self.logs[partition].iter().enumerate().skip(from as usize) {
            match entry {
                Entry::Open(_) => break,
                Entry::Value(_) if records.len() == count => break,
                Entry::Value(value) => {
                    records.push(Record { offset: offset as i64, value: *value })
                }
                Entry::Aborted | Entry::Marker => {}
            }
            position = offset as i64 + 1;
        }
        (records, position)
    }

    fn produce(&mut self, process: u64) {
        let client = format!("producer{process}");
        let Some((partition, value, offset)) = self.sending.remove(&process) else {
            let partition = match self.random.below(u64::from(PARTITIONS) + 1) as u32 {
                PARTITIONS => u(),
                partition => t(partition),
            };
            self.next_value += 1;
            let value = self.next_value;
            self.sending.insert(process, (partition.clone(), value, None));
            self.event(
                process,
                &client,
                EventKind::Invoke,
                Op::Send { partition, value, offset: None },
            );
            return;
        };
        let send = |offset| Op::Send { partition: partition.clone(), value, offset };
        if offset.is_some() {
            // It is in the log; the answer may be lost.
            let kind = if self.random.percent(6) { EventKind::Info } else { EventKind::Ok };
            let op = send(offset.filter(|_| self.random.percent(90)));
            self.event(process, &client, kind, op);
        } else if self.random.percent(6) {
            let kind = if self.random.percent(50) { EventKind::Fail } else { EventKind::Info };
            let op = send(None);
            self.event(process, &client, kind, op);
            if kind == EventKind::Info && self.random.percent(50) {
                self.late.push(Late::Send(partition, value));
            }
        } else {
            let offset = self.append(&partition, Entry::Value(value));
            self.sending.insert(process, (partition, value, Some(offset)));
            if self.random.percent(60) {
                self.pass();
                self.produce(process);
            }
        }
    }

    fn produce_at_once(&mut self, partition: TopicPartition) {
        self.next_value += 1;
        let value = self.next_value;
        let offset = Some(self.append(&partition, Entry::Value(value)));
        let send = |offset| Op::Send { partition: partition.clone(), value, offset };
        self.event(12, "producer12", EventKind::Invoke, send(None));
        self.now += MS;
        self.event(12, "producer12", EventKind::Ok, send(offset));
    }

    fn arrive_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let index = self.random.below(self.late.len() as u64) as usize;
        match self.late.swap_remove(index) {
            Late::Send(partition, value) => {
                self.append(&partition, Entry::Value(value));
            }
            Late::Commit(commit) => {
                self.take_commit(&commit);
            }
        }
    }

    /// The transaction is taken one step further: consume from t-0, produce to u-0, commit for group e.
    fn transact(&mut self) {
        const PROCESS: u64 = 50;
        let (client, position, open) = self.transactional.clone();
        let Some(mut steps) = open else {
            let op = Op::Txn { steps: vec![Step::Poll { records: BTreeMap::new() }] };
            self.event(PROCESS, &client, EventKind::Invoke, op);
            self.transactional.2 = Some(Vec::new());
            return;
        };
        if steps.is_empty() {
            let (records, _) = self.records(&t(0), position, 3);
            let records = if records.is_empty() {
                BTreeMap::new()
            } else {
                BTreeMap::from([(t(0), records)])
            };
            self.transactional.2 = Some(vec![Step::Poll { records }]);
            return;
        }
        if steps.len() < 2 || (steps.len() < 4 && self.random.percent(50)) {
            self.next_value += 1;
            let value = self.next_value;
            let offset = Some(self.append(&u(), Entry::Open(value)));
            steps.push(Step::Send { partition: u(), value, offset });
            self.transactional.2 = Some(steps);
            return;
        }
        let Step::Poll { records } = &steps[0] else { unreachable!("it begins with a poll") };
        let next =
            records.get(&t(0)).map_or(position, |records| records[records.len() - 1].offset + 1);
        let commit = Commit {
            group: "e".into(),
            offsets: BTreeMap::from([(t(0), Committed::new(next))]),
            ..Commit::default()
        };
        steps.push(Step::Commit(commit.clone()));
        let commits = self.random.percent(80);
        for entry in self.logs.get_mut(&u()).unwrap() {
            if let Entry::Open(value) = *entry {
                *entry = if commits { Entry::Value(value) } else { Entry::Aborted };
            }
        }
        self.append(&u(), Entry::Marker);
        if commits {
            self.take_commit(&commit);
        }
        self.transactional.2 = None;
        let kind = match (self.random.percent(10), commits) {
            (true, _) => EventKind::Info,
            (_, true) => EventKind::Ok,
            (_, false) => EventKind::Fail,
        };
        self.pass();
        self.event(PROCESS, &client, kind, Op::Txn { steps });
        if kind == EventKind::Info {
            self.note(PROCESS, &client, Op::Crash {});
            self.new_transactional();
        } else if commits {
            self.transactional.1 = next;
        }
    }

    fn new_transactional(&mut self) {
        let client = self.name("transactional");
        let position =
            self.offsets.get(&("e".to_owned(), t(0))).map_or(0, |committed| committed.offset);
        self.note(50, &client, Op::Assign { partitions: BTreeSet::from([t(0)]) });
        self.transactional = (client, position, None);
    }

    fn read_transactions(&mut self) {
        let poll = |records| Op::Poll { records, rebalanced: BTreeSet::new(), last: false };
        self.event(60, "reader", EventKind::Invoke, poll(BTreeMap::new()));
        self.pass();
        let (records, position) = self.records(&u(), self.reader, 3);
        self.reader = position;
        self.event(60, "reader", EventKind::Ok, poll(BTreeMap::from([(u(), records)])));
    }

    // Offsets.

    /// Whether the coordinator takes it.
    fn take_commit(&mut self, commit: &Commit) -> bool {
        if let Some(member) = &commit.member
            && (!self.members.contains(&member.member_id) || member.generation != self.generation)
        {
            return false;
        }
        for (partition, committed) in &commit.offsets {
            self.offsets.insert((commit.group.clone(), partition.clone()), committed.clone());
        }
        true
    }

    /// Anybody writes the offsets of group h.
    fn write(&mut self, process: u64) {
        let client = format!("writer{process}");
        if let Some(op) = self.writing.remove(&process) {
            let lost = self.random.percent(10);
            let happens = self.random.percent(90);
            if happens && !(lost && self.random.percent(50)) {
                match &op {
                    Op::Commit(commit) => {
                        self.take_commit(commit);
                    }
                    _ => {
                        self.offsets.remove(&("h".to_owned(), t(0)));
                    }
                }
                let kind = if lost { EventKind::Info } else { EventKind::Ok };
                self.pass();
                self.event(process, &client, kind, op);
            } else {
                let kind = if lost { EventKind::Info } else { EventKind::Fail };
                self.event(process, &client, kind, op.clone());
                if let (EventKind::Info, Op::Commit(commit)) = (kind, op) {
                    self.late.push(Late::Commit(commit));
                }
            }
            return;
        }
        let op = if self.random.percent(10) {
            Op::DeleteOffsets { group: "h".into(), partitions: BTreeSet::from([t(0)]) }
        } else {
            let metadata = self.name("note");
            let offset = self.random.below(50) as i64;
            let committed = Committed { offset, leader_epoch: 1, metadata };
            Op::Commit(Commit {
                group: "h".into(),
                offsets: BTreeMap::from([(t(0), committed)]),
                source: CommitSource::Chosen,
                ..Commit::default()
            })
        };
        self.writing.insert(process, op.clone());
        self.event(process, &client, EventKind::Invoke, op);
    }

    /// Anybody looks at the offsets of any group.
    fn read(&mut self, process: u64) {
        let client = format!("looker{process}");
        if let Some(op) = self.reading.remove(&process) {
            self.event(process, &client, EventKind::Ok, op);
            return;
        }
        let group = (*self.random.pick(&["g", "h", "h", "e"]).unwrap()).to_owned();
        let op = |offsets| Op::FetchOffsets { group: group.clone(), offsets };
        let invoked = op(BTreeMap::new());
        self.event(process, &client, EventKind::Invoke, invoked);
        self.pass();
        let look = |partition: u32| {
            let found = self.offsets.get(&(group.clone(), t(partition))).cloned();
            (t(partition), found)
        };
        self.reading.insert(process, op((0..PARTITIONS).map(look).collect()));
    }

    // The group.

    fn new_consumer(&mut self) {
        let client = self.name("consumer");
        let topics = BTreeSet::from(["t".to_owned()]);
        self.note(0, &client, Op::Subscribe { group: "g".into(), topics });
        let mut consumer = Consumer {
            client,
            member_id: String::new(),
            generation: -1,
            alive: true,
            hangs: false,
            heard: 0,
            owned: BTreeMap::new(),
            joined: false,
            told: None,
            polling: false,
            commit: None,
        };
        self.join(&mut consumer);
        self.consumers.push(consumer);
    }

    fn join(&mut self, consumer: &mut Consumer) {
        consumer.member_id = self.name("member");
        consumer.joined = true;
        consumer.told = None;
        consumer.heard = self.now;
        self.members.insert(consumer.member_id.clone());
        self.rebalance();
    }

    fn rebalance(&mut self) {
        if !self.rebalancing {
            self.rebalancing = true;
            self.group_state(GroupState::PreparingRebalance);
        }
    }

    fn group_state(&mut self, state: GroupState) {
        self.note(0, "broker", Op::GroupState { group: "g".into(), state });
    }

    fn remove(&mut self, member_id: &str) {
        self.members.remove(member_id);
        if self.removals_noted {
            let op = Op::MemberRemoved { group: "g".into(), member_id: member_id.to_owned() };
            self.note(0, "broker", op);
        }
        self.rebalance();
    }

    fn coordinate(&mut self) {
        let silent: Vec<String> = self
            .consumers
            .iter()
            .filter(|consumer| self.members.contains(&consumer.member_id))
            .filter(|consumer| !consumer.alive || consumer.hangs)
            .filter(|consumer| consumer.heard + SESSION_MS * MS <= self.now)
            .map(|consumer| consumer.member_id.clone())
            .collect();
        for member_id in silent {
            self.remove(&member_id);
        }
        let is_member = |consumer: &&mut Consumer| self.members.contains(&consumer.member_id);
        if !self.rebalancing {
            return;
        }
        if self.members.is_empty() {
            self.rebalancing = false;
            self.assignment.clear();
            self.generation += 1;
            self.group_state(GroupState::Empty);
            return;
        }
        if !self.consumers.iter_mut().filter(is_member).all(|consumer| consumer.joined) {
            return;
        }
        self.rebalancing = false;
        self.generation += 1;
        self.group_state(GroupState::CompletingRebalance);
        self.assign();
        for consumer in
            self.consumers.iter_mut().filter(|consumer| self.members.contains(&consumer.member_id))
        {
            let own = self.assignment.iter().filter(|(_, owner)| **owner == consumer.member_id);
            consumer.told =
                Some((self.generation, own.map(|(partition, _)| partition.clone()).collect()));
            consumer.joined = false;
        }
        self.group_state(GroupState::Stable);
    }

    /// Everybody keeps what it has as far as that is even; cooperative members get nothing that somebody has not let go of.
    fn assign(&mut self) {
        let members: Vec<String> = self.members.iter().cloned().collect();
        let most = (PARTITIONS as usize).div_ceil(members.len());
        let mut counts: BTreeMap<String, usize> =
            members.iter().map(|id| (id.clone(), 0)).collect();
        let mut next: BTreeMap<TopicPartition, String> = BTreeMap::new();
        for partition in (0..PARTITIONS).map(t) {
            if let Some(owner) = self.assignment.get(&partition)
                && let Some(count) = counts.get_mut(owner)
                && *count < most
            {
                *count += 1;
                next.insert(partition, owner.clone());
            }
        }
        for partition in (0..PARTITIONS).map(t) {
            if next.contains_key(&partition) {
                continue;
            }
            let (least, _) = counts.iter().min_by_key(|(_, count)| **count).unwrap();
            let least = least.clone();
            *counts.get_mut(&least).unwrap() += 1;
            let claimed = self.consumers.iter().any(|consumer| {
                consumer.member_id != least
                    && self.members.contains(&consumer.member_id)
                    && consumer.owned.contains_key(&partition)
            });
            if !(self.cooperative && claimed) {
                next.insert(partition, least);
            }
        }
        self.assignment = next;
    }

    /// A consumer does something.
    fn consume(&mut self, index: usize) {
        let mut consumer = self.consumers.remove(index);
        if consumer.alive && !consumer.hangs {
            self.live(&mut consumer, index as u64);
        }
        self.consumers.insert(index, consumer);
    }

    fn live(&mut self, consumer: &mut Consumer, index: u64) {
        let (polls, commits) = (100 + 2 * index, 101 + 2 * index);
        if !self.members.contains(&consumer.member_id) {
            // It learns that it was removed.
            if self.random.percent(30) {
                self.give_up(consumer, true);
                self.join(consumer);
                return;
            }
        } else if let Some((generation, target)) = consumer.told.take() {
            self.take_over(consumer, generation, &target);
            return;
        } else if self.rebalancing && !consumer.joined {
            if !self.cooperative {
                self.give_up(consumer, false);
            }
            consumer.joined = true;
            return;
        } else if self.random.percent(30) {
            let member =
                Member { member_id: consumer.member_id.clone(), generation: consumer.generation };
            let op = Op::Heartbeat { group: "g".into(), member };
            if !consumer.polling {
                self.event(polls, &consumer.client, EventKind::Invoke, op.clone());
                consumer.heard = self.now;
                self.pass();
                self.event(polls, &consumer.client, EventKind::Ok, op);
                return;
            }
        }
        if self.random.percent(35) {
            self.commit(consumer, commits)
        } else {
            self.poll(consumer, polls)
        }
    }

    fn give_up(&mut self, consumer: &mut Consumer, lost: bool) {
        let partitions: BTreeSet<TopicPartition> =
            std::mem::take(&mut consumer.owned).into_keys().collect();
        if partitions.is_empty() {
            return;
        }
        let group = "g".to_owned();
        let op =
            if lost { Op::Lost { group, partitions } } else { Op::Revoked { group, partitions } };
        self.note(0, &consumer.client, op);
    }

    fn take_over(
        &mut self,
        consumer: &mut Consumer,
        generation: i32,
        target: &BTreeSet<TopicPartition>,
    ) {
        let group = || "g".to_owned();
        let gone: BTreeSet<TopicPartition> = consumer
            .owned
            .keys()
            .filter(|partition| !target.contains(*partition))
            .cloned()
            .collect();
        if !gone.is_empty() {
            consumer.owned.retain(|partition, _| target.contains(partition));
            self.note(
                0,
                &consumer.client,
                Op::Revoked { group: group(), partitions: gone.clone() },
            );
        }
        let partitions: BTreeSet<TopicPartition> = target
            .iter()
            .filter(|partition| !consumer.owned.contains_key(*partition))
            .cloned()
            .collect();
        let member = Member { member_id: consumer.member_id.clone(), generation };
        consumer.generation = generation;
        let op = Op::Assigned { group: group(), member, partitions: partitions.clone() };
        self.note(0, &consumer.client, op);
        for partition in partitions {
            self.pass();
            let committed = self.offsets.get(&("g".to_owned(), partition.clone()));
            let offset = committed.map_or(0, |committed| committed.offset);
            let cause =
                if committed.is_some() { PositionCause::Committed } else { PositionCause::Reset };
            if self.random.percent(50) {
                let partition = partition.clone();
                self.note(
                    0,
                    &consumer.client,
                    Op::Position { group: group(), partition, offset, cause },
                );
            }
            consumer.owned.insert(partition, offset);
        }
        if !gone.is_empty() {
            consumer.joined = true;
            self.rebalance();
        }
    }

    fn poll(&mut self, consumer: &mut Consumer, process: u64) {
        let poll = |records| Op::Poll { records, rebalanced: BTreeSet::new(), last: false };
        if !consumer.polling {
            consumer.polling = true;
            self.event(process, &consumer.client, EventKind::Invoke, poll(BTreeMap::new()));
            return;
        }
        consumer.polling = false;
        let mut all = BTreeMap::new();
        for (partition, position) in &mut consumer.owned {
            let (records, next) = self.records(partition, *position, 4);
            *position = next;
            if !records.is_empty() {
                all.insert(partition.clone(), records);
            }
        }
        self.event(process, &consumer.client, EventKind::Ok, poll(all));
    }

    fn commit(&mut self, consumer: &mut Consumer, process: u64) {
        if let Some(commit) = consumer.commit.take() {
            let lost = self.random.percent(8);
            if lost && self.random.percent(50) {
                self.late.push(Late::Commit(commit.clone()));
                self.event(process, &consumer.client, EventKind::Info, Op::Commit(commit));
                return;
            }
            let kind = match (lost, self.take_commit(&commit)) {
                (true, _) => EventKind::Info,
                (_, true) => EventKind::Ok,
                (_, false) => EventKind::Fail,
            };
            if kind == EventKind::Ok {
                consumer.heard = self.now;
            }
            self.pass();
            self.event(process, &consumer.client, kind, Op::Commit(commit));
            return;
        }
        if consumer.owned.is_empty() {
            return;
        }
        let member =
            Member { member_id: consumer.member_id.clone(), generation: consumer.generation };
        let committed = |position: &i64| Committed {
            offset: *position,
            leader_epoch: 0,
            metadata: String::new(),
        };
        let offsets = consumer
            .owned
            .iter()
            .map(|(partition, position)| (partition.clone(), committed(position)));
        let commit = Commit {
            group: "g".into(),
            member: Some(member),
            offsets: offsets.collect(),
            ..Commit::default()
        };
        consumer.commit = Some(commit.clone());
        self.event(process, &consumer.client, EventKind::Invoke, Op::Commit(commit));
    }

    /// Consumers come, crash, hang and go on; nobody knows why groups rebalance.
    fn unrest(&mut self) {
        let fault = |phase| Op::Fault { kind: "hang".into(), phase };
        let alive = self.consumers.iter().filter(|consumer| consumer.alive).count();
        let index = self.random.below(self.consumers.len() as u64) as usize;
        match self.random.below(8) {
            0 if alive < 3 => self.new_consumer(),
            1 if alive > 1 && self.consumers[index].alive && !self.consumers[index].hangs => {
                self.note(
                    0,
                    "nemesis",
                    Op::Fault { kind: "crash".into(), phase: FaultPhase::Once },
                );
                self.consumers[index].alive = false;
                self.consumers[index].owned.clear();
                let client = self.consumers[index].client.clone();
                self.note(0, &client, Op::Crash {});
            }
            2 | 7 if self.consumers[index].alive && !self.consumers[index].hangs => {
                self.note(0, "nemesis", fault(FaultPhase::Begin));
                self.consumers[index].hangs = true;
            }
            3 | 5..=6 => {
                if let Some(index) = self.consumers.iter().position(|consumer| consumer.hangs) {
                    self.wake(index);
                }
            }
            4 if !self.members.is_empty() => self.rebalance(),
            _ => {}
        }
    }

    fn wake(&mut self, index: usize) {
        if self.consumers[index].alive && self.consumers[index].hangs {
            self.consumers[index].hangs = false;
            self.consumers[index].heard = self.now;
            self.note(0, "nemesis", Op::Fault { kind: "hang".into(), phase: FaultPhase::End });
        }
    }

    /// Faults end, answers come, the group settles, rebalances three times for nothing, and stays as it is.
    fn settle(&mut self) {
        self.note(0, "nemesis", Op::Fault { kind: "end".into(), phase: FaultPhase::Once });
        for index in 0..self.consumers.len() {
            self.wake(index);
        }
        while !self.late.is_empty() {
            self.arrive_late();
        }
        for round in 0..60 {
            self.now += 100 * MS;
            if [40, 45, 50].contains(&round) {
                self.rebalance();
            }
            for index in 0..self.consumers.len() {
                for _ in 0..3 {
                    self.consumers[index].heard = self.now.max(self.consumers[index].heard);
                    if !self.consumers[index].alive {
                        self.consumers[index].heard = 0;
                    }
                    self.consume_quietly(index);
                    self.coordinate();
                }
            }
            self.now += MS;
        }
        self.now += (SESSION_MS + REBALANCE_MS + 30_000) * MS;
        self.note(0, "test", Op::Debug { text: "settled".into() });
        while self.transactional.2.is_some() {
            self.now += MS;
            self.transact();
        }
        for process in [10, 11]
            .into_iter()
            .filter(|process| self.sending.contains_key(process))
            .collect::<Vec<_>>()
        {
            while self.sending.contains_key(&process) {
                self.now += MS;
                self.produce(process);
            }
        }
        while !self.late.is_empty() {
            self.arrive_late();
        }
    }

    /// Only what a rebalance needs: nobody polls.
    fn consume_quietly(&mut self, index: usize) {
        let mut consumer = self.consumers.remove(index);
        let has_to_join = self.rebalancing && !consumer.joined;
        let is_settled =
            self.members.contains(&consumer.member_id) && consumer.told.is_none() && !has_to_join;
        if consumer.alive && !consumer.hangs && !is_settled {
            self.live(&mut consumer, index as u64);
        }
        self.consumers.insert(index, consumer);
    }

    fn read_everything(&mut self) {
        let partitions: BTreeSet<TopicPartition> = self.logs.keys().cloned().collect();
        self.now += MS;
        self.note(70, "final", Op::Assign { partitions: partitions.clone() });
        let poll = |records| Op::Poll { records, rebalanced: BTreeSet::new(), last: true };
        let mut positions: BTreeMap<TopicPartition, i64> =
            partitions.into_iter().map(|partition| (partition, 0)).collect();
        loop {
            self.now += MS;
            self.event(70, "final", EventKind::Invoke, poll(BTreeMap::new()));
            let mut all = BTreeMap::new();
            for (partition, position) in &mut positions {
                let (records, next) = self.records(partition, *position, 8);
                *position = next;
                if !records.is_empty() {
                    all.insert(partition.clone(), records);
                }
            }
            let is_end = all.is_empty();
            self.now += MS;
            self.event(70, "final", EventKind::Ok, poll(all));
            if is_end {
                return;
            }
        }
    }
}

#[test]
fn valid_histories_are_called_valid() {
    let limits = Limits { min_ok_percent: 50, ..Limits::default() };
    let mut events = 0;
    for seed in 0..10_000 {
        let history = history(seed);
        events += history.events.len();
        let report = check(&history, &limits).unwrap();
        let bad: Vec<_> = report.bad().collect();
        assert!(bad.is_empty(), "seed {seed}: {bad:#?}");
        assert_eq!(report.verdict, Verdict::Valid, "seed {seed}: {:?}", report.doubts);
    }
    println!("10,000 histories, {events} events");
}

/// What takes more than so much time for each event takes too long here: the search for an order, above all, must not grow with the
/// square of a history.
#[test]
fn a_long_valid_history_is_called_valid() {
    let history = long_history(1, 40_000);
    assert!(history.events.len() >= 40_000, "{}", history.events.len());
    let report = check(&history, &Limits::default()).unwrap();
    let bad: Vec<_> = report.bad().take(3).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(report.verdict, Verdict::Valid, "{:?}", report.doubts);
}

/// What never occurs in the valid histories is not shown to be judged rightly.
#[test]
fn valid_histories_have_everything_in_them() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut allowed: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..300 {
        let history = history(seed);
        for event in &history.events {
            *seen.entry(format!("{} {:?}", event.op.name(), event.kind)).or_default() += 1;
        }
        let report = check(&history, &Limits::default()).unwrap();
        for anomaly in report.anomalies {
            *allowed.entry(anomaly.kind.name()).or_default() += 1;
        }
    }
    println!("{seen:#?} {allowed:#?}");
    for wanted in [
        "send Ok",
        "send Fail",
        "send Info",
        "poll Ok",
        "txn Ok",
        "txn Fail",
        "txn Info",
        "commit Ok",
        "commit Fail",
        "commit Info",
        "fetch-offsets Ok",
        "delete-offsets Ok",
        "heartbeat Ok",
        "assigned Info",
        "revoked Info",
        "lost Info",
        "member-removed Info",
        "group-state Info",
        "position Info",
        "fault Info",
        "crash Info",
    ] {
        assert!(
            seen.get(wanted).is_some_and(|count| *count > 50),
            "{wanted}: {:?}",
            seen.get(wanted)
        );
    }
}
