//! Nodes that coordinate: shards, who hosts them, their logs, and the shell around the machine.
//!
//! The shell is that of the broker, in small: the machine decides, its records are appended batch by batch and applied, answers
//! that promise something wait until the log is durable up to where they stand, a failed append drops the machine and replays
//! the log. A shard that moves is fenced first: who wrote before writes and promises nothing any more, even before it knows.

use std::collections::{BTreeMap, BTreeSet};

use kavka_coordinator::group::{
    self, EventKind, GroupShard, GroupState, Input, Record, Release, Reply, Request, append_error,
    invariants::{self, History, Logged, NaiveOffsets},
};
use kavka_member::Subscription;
use kavka_protocol::{ByteString, ErrorCode, Uuid};

use crate::{
    clock::Clock,
    plan::{Fault, Plan},
    shard_log::ShardLog,
    world::{Event, World},
};

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) is_up: bool,
    pub(crate) clock: Clock,
}

/// A partition of `__consumer_offsets`, and who hosts it.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) log: ShardLog,
    pub(crate) config: group::GroupConfig,
    /// Who is the coordinator.
    pub(crate) leader: Option<usize>,
    /// Who was it before: what a node that has not heard of the move says.
    former: Option<usize>,
    /// The lives of hosts are counted.
    lives: u64,
    /// The present one, and those that have not heard that they are not.
    pub(crate) hosts: Vec<Host>,
    /// Replays every record as it is appended, from its bytes.
    pub(crate) shadow: GroupShard,
    pub(crate) naive: NaiveOffsets,
    /// Topics that were deleted while nobody could be told.
    deleted: Vec<(ByteString, Uuid)>,
    pub(crate) transactions: BTreeSet<i64>,
    /// Batches were allowed to be larger before, so groups may be larger than what fits now.
    is_shrunk: bool,
    /// When it was loaded last.
    pub(crate) loaded_at: u64,
    /// Where the last reply stands that promised something.
    pub(crate) promised: i64,
    /// For coverage: where each group stands.
    states: BTreeMap<ByteString, GroupState>,
}

/// A machine on a node.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) node: usize,
    pub(crate) life: u64,
    pub(crate) machine: GroupShard,
    pub(crate) history: History,
    /// While it loads: up to where it has read.
    pub(crate) loading: Option<i64>,
    /// It may not write, and does not know.
    pub(crate) is_fenced: bool,
    /// Answers that wait for the log.
    waiting: Vec<Waiting>,
    /// Requests it has not answered yet, and since when.
    pub(crate) parked: BTreeMap<group::RequestId, u64>,
    /// The generation that each group made last.
    pub(crate) generations: BTreeMap<ByteString, i32>,
    armed: Option<u64>,
}

#[derive(Debug)]
struct Waiting {
    position: i64,
    patience_ends: u64,
    asked: group::RequestId,
    reply: Reply,
}

impl Shard {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            log: ShardLog::default(),
            config: plan.config.clone(),
            leader: None,
            former: None,
            lives: 0,
            hosts: Vec::new(),
            shadow: GroupShard::new(plan.config.clone(), 0),
            naive: NaiveOffsets::default(),
            deleted: Vec::new(),
            transactions: BTreeSet::new(),
            is_shrunk: false,
            loaded_at: 0,
            promised: 0,
            states: BTreeMap::new(),
        }
    }

    /// The machine that serves, if there is one.
    pub(crate) fn serving(&self) -> Option<&Host> {
        self.hosts.iter().find(|host| !host.is_fenced && host.loading.is_none())
    }

    fn host_mut(&mut self, node: usize, life: u64) -> Option<&mut Host> {
        self.hosts.iter_mut().find(|host| host.node == node && host.life == life)
    }
}

impl World {
    pub(crate) fn shard_of(&self, group: &str) -> usize {
        let known = self.groups.iter().find(|found| found.id == group);
        known.map_or(0, |found| found.shard)
    }

    /// Where a node says that the coordinator is.
    pub(crate) fn coordinator_of(&mut self, group: &str) -> Option<usize> {
        let shard = self.shard_of(group);
        let stale = self.faulty(Fault::LookupFails);
        let found = &self.shards[shard];
        let node = if stale { found.former.or(found.leader) } else { found.leader };
        node.filter(|node| self.nodes[*node].is_up)
    }

    /// A request is at the node; the shard's host there decides on it.
    pub(crate) fn ask_shard(&mut self, node: usize, asked: group::RequestId, mut request: Request) {
        let group = match &request {
            Request::Join(join) => join.group.clone(),
            Request::Sync(sync) => sync.group.clone(),
            Request::Heartbeat(heartbeat) => heartbeat.group.clone(),
            Request::Leave(leave) => leave.group.clone(),
            Request::CommitOffsets(commit) => commit.group.clone(),
            Request::FetchOffsets(fetch) => fetch.group.clone(),
            Request::DeleteOffsets(delete) => delete.group.clone(),
            Request::DeleteGroups(groups) | Request::DescribeGroups(groups) => {
                groups.first().cloned().unwrap_or_default()
            }
            Request::ListGroups(_) => ByteString::new(),
        };
        let shard = self.shard_of(&group);
        self.note(|_| format!("   node {node} <- {asked:?} {request:?}"));
        // A node that has the shard again may not have heard yet that it lost it before.
        let host = self.shards[shard].hosts.iter().rposition(|host| host.node == node);
        let Some(host) = host else {
            let reply = request.refuse(ErrorCode::NotCoordinator);
            return self.answer(asked, reply);
        };
        if let Request::CommitOffsets(commit) = &mut request {
            self.topics.leave_out_unknown(commit);
        }
        self.step(shard, host, Input::Request(asked, request));
    }

    /// An input that concerns a group, to the host on this node.
    pub(crate) fn input_of_group(&mut self, node: usize, group: &str, input: Input) {
        let shard = self.shard_of(group);
        let is_there = |host: &Host| host.node == node && host.loading.is_none();
        if let Some(host) = self.shards[shard].hosts.iter().rposition(is_there) {
            self.step(shard, host, input);
        }
    }

    /// One input: decide, append, apply, release.
    fn step(&mut self, shard: usize, host: usize, input: Input) {
        let found = &mut self.shards[shard].hosts[host];
        let (node, life) = (found.node, found.life);
        let now = self.nodes[node].clock.now(self.now);
        let watch = if self.checked { self.watch(shard, host, &input) } else { None };
        let own = match &input {
            Input::Request(asked, _) => Some(*asked),
            _ => None,
        };
        let found = &mut self.shards[shard].hosts[host];
        let output = found.machine.handle(now, input);
        let (is_loading, is_former) = (found.loading.is_some(), found.is_fenced);
        if self.checked {
            self.check_output(shard, host, now, &output, watch);
        }
        let failed = self.append_and_apply(shard, host, &output);
        // What one that is fenced decides without a record is not told on: nobody else knows of it.
        if failed.is_none() && !self.shards[shard].hosts[host].is_fenced {
            self.note_events(shard, &output.events);
        }
        let position = self.shards[shard].log.end();
        let parked = &mut self.shards[shard].hosts[host].parked;
        parked.extend(own.map(|own| (own, self.now)));
        for answer in &output.answers {
            assert!(
                parked.remove(&answer.request).is_some(),
                "L5: an answer to a request that waits for none"
            );
        }
        for group::Answer { request, reply, release } in output.answers {
            self.check_twin(own, request, &reply, failed.is_some());
            if is_former {
                self.note_former(request, &reply);
            }
            match failed {
                Some(error) => self.answer(request, reply.failed(append_error(error))),
                None if release == Release::Durable && !is_loading => {
                    self.release_when_durable(shard, host, position, request, reply);
                }
                None => self.answer(request, reply),
            }
        }
        if let Some(error) = failed {
            let was_fenced = self.shards[shard].hosts[host].is_fenced;
            self.unload(shard, node, life, append_error(error));
            if !was_fenced {
                self.begin_load(shard, node);
            }
            return;
        }
        self.arm(shard, host);
        self.check_parked(shard, host);
        let Shard { log, hosts, config, .. } = &mut self.shards[shard];
        let host = &mut hosts[host];
        if self.checked && host.loading.is_none() && !host.is_fenced {
            host.history.check(&host.machine, config);
            debug_assert!(log.end() >= log.durable());
        }
    }

    /// The code with which the append failed, if it did.
    fn append_and_apply(
        &mut self,
        shard: usize,
        host: usize,
        output: &group::Output,
    ) -> Option<ErrorCode> {
        if output.records.is_empty() {
            return None;
        }
        if self.shards[shard].hosts[host].is_fenced {
            return Some(ErrorCode::NotLeaderOrFollower);
        }
        let fails = self.faulty(Fault::FailedAppend);
        let after = self.random.index(3);
        let which = self.random.index(3);
        let slow = self.faulty(Fault::SlowSync);
        let delay = if slow { 50 + self.random.below(9_000) } else { 1 + self.random.below(4) };
        let max = self.shards[shard].config.max_batch_bytes;
        let batches: Vec<&[Record]> = output.batches(max).collect();
        let kept = if fails { after.min(batches.len() - 1) } else { batches.len() };
        let Shard { log, hosts, shadow, naive, config, is_shrunk, .. } = &mut self.shards[shard];
        let machine = &mut hosts[host].machine;
        for batch in &batches[..kept] {
            for entry in log.append_records(batch) {
                entry.apply_to(machine);
                if self.checked {
                    entry.replay_into(shadow);
                    naive.apply(entry);
                    if let Some(record) = entry.record().filter(|_| !*is_shrunk) {
                        invariants::check_size(record, config);
                    }
                }
            }
        }
        if kept > 0 {
            log.synced_at = log.synced_at.max(self.now + delay);
            let (at, life, up_to) = (log.synced_at, log.life, log.end());
            let words = [up_to.cast_unsigned(), kept as u64];
            self.schedule_at(at, Event::Synced { shard, life, up_to });
            words.into_iter().for_each(|word| self.mix(word));
        }
        if fails {
            let errors = [
                ErrorCode::KafkaStorageError,
                ErrorCode::NotEnoughReplicas,
                ErrorCode::NetworkException,
            ];
            return Some(errors[which]);
        }
        if self.checked {
            self.check_shadow(shard, host);
        }
        None
    }

    fn release_when_durable(
        &mut self,
        shard: usize,
        host: usize,
        position: i64,
        asked: group::RequestId,
        reply: Reply,
    ) {
        let patience_ends = self.now + self.plan.commit_timeout;
        let Shard { log, hosts, .. } = &mut self.shards[shard];
        let found = &mut hosts[host];
        if found.is_fenced {
            // The log confirms nothing to who is fenced.
            return self.answer(asked, reply.failed(append_error(ErrorCode::NotLeaderOrFollower)));
        }
        if log.durable() >= position {
            self.check_release(shard, &reply, position);
            return self.answer(asked, reply);
        }
        found.waiting.push(Waiting { position, patience_ends, asked, reply });
        let (node, life) = (found.node, found.life);
        if log.synced_at > patience_ends {
            self.schedule_at(patience_ends, Event::Patience { shard, node, life });
        }
    }

    /// A sync is done.
    pub(crate) fn synced(&mut self, shard: usize, life: u64, up_to: i64) {
        let Shard { log, hosts, .. } = &mut self.shards[shard];
        if log.life != life {
            return;
        }
        log.sync(up_to);
        let durable = log.durable();
        let Some(host) = hosts.iter_mut().find(|host| !host.is_fenced) else { return };
        let waiting = std::mem::take(&mut host.waiting);
        let (ready, rest): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|row| row.position <= durable);
        host.waiting = rest;
        for Waiting { asked, reply, position, .. } in ready {
            self.check_release(shard, &reply, position);
            self.answer(asked, reply);
        }
    }

    /// `offsets.commit.timeout.ms` is over.
    pub(crate) fn patience_ends(&mut self, shard: usize, node: usize, life: u64) {
        let now = self.now;
        let Some(host) = self.shards[shard].host_mut(node, life) else { return };
        let waiting = std::mem::take(&mut host.waiting);
        let (late, rest): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|row| row.patience_ends <= now);
        host.waiting = rest;
        for Waiting { asked, reply, .. } in late {
            self.answer(asked, reply.failed(append_error(ErrorCode::RequestTimedOut)));
        }
    }

    fn arm(&mut self, shard: usize, host: usize) {
        let host = &mut self.shards[shard].hosts[host];
        let (node, life) = (host.node, host.life);
        let Some(deadline) = host.machine.next_deadline() else { return };
        let at = self.nodes[node].clock.when(deadline, self.now);
        if host.armed.is_none_or(|armed| at < armed || armed < self.now) {
            host.armed = Some(at);
            self.schedule_at(at, Event::ShardDeadline { shard, node, life });
        }
    }

    pub(crate) fn shard_deadline(&mut self, shard: usize, node: usize, life: u64) {
        let now = self.nodes[node].clock.now(self.now);
        let is_it = |host: &Host| host.node == node && host.life == life;
        let Some(host) = self.shards[shard].hosts.iter().position(is_it) else { return };
        let found = &mut self.shards[shard].hosts[host];
        found.armed = None;
        if found.loading.is_some() {
            return;
        }
        let due = found.machine.next_deadline().is_some_and(|due| due <= now.monotonic);
        if due {
            self.step(shard, host, Input::Deadline);
        } else {
            self.arm(shard, host);
        }
    }

    // ---- who hosts ----

    /// The shard gets a host: the former one cannot write any more from here on.
    pub(crate) fn elect(&mut self, shard: usize) {
        let up: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_up).collect();
        if up.is_empty() || self.shards[shard].leader.is_some() {
            return;
        }
        let node = *self.random.pick(&up);
        let transaction = self.faulty(Fault::Transaction);
        let Shard { log, hosts, .. } = &mut self.shards[shard];
        hosts.iter_mut().for_each(|host| host.is_fenced = true);
        log.cut(&mut self.random);
        let promised = self.shards[shard].promised;
        assert!(promised <= self.shards[shard].log.end(), "S3: what was promised is gone");
        let many = 1 + self.random.below(3);
        if transaction {
            (0..many).for_each(|_| self.write_transaction(shard));
        }
        if self.healed {
            self.end_transactions(shard);
        }
        self.rebuild_shadow(shard);
        let found = &mut self.shards[shard];
        found.former = found.leader.or(found.former);
        found.leader = Some(node);
        self.note(|_| format!("   shard {shard} goes to node {node}"));
        self.begin_load(shard, node);
    }

    /// Only logs bring offsets of transactions, so far.
    fn write_transaction(&mut self, shard: usize) {
        let producer = self.random.below(3).cast_signed();
        let groups: Vec<usize> =
            (0..self.groups.len()).filter(|group| self.groups[*group].shard == shard).collect();
        let open = self.shards[shard].transactions.contains(&producer);
        let what = if open && self.random.below(2) == 0 {
            self.shards[shard].transactions.remove(&producer);
            Logged::Marker(producer, self.random.below(2) == 0)
        } else {
            if groups.is_empty() {
                return;
            }
            let group = *self.random.pick(&groups);
            let topics: Vec<ByteString> = self.topics.names().cloned().collect();
            let partitions: Vec<_> = self.topics.partitions(&topics).into_iter().collect();
            if partitions.is_empty() {
                return;
            }
            let at = self.random.pick(&partitions).clone();
            let topic_id = self.topics.get(&at.topic).map_or(Uuid::ZERO, |topic| topic.id);
            self.shards[shard].transactions.insert(producer);
            let value = group::OffsetValue {
                offset: 0,
                leader_epoch: 0,
                metadata: "txn".into(),
                commit_timestamp_ms: 1_700_000_000_000 + self.now.cast_signed(),
                expire_timestamp_ms: None,
                topic_id,
            };
            let by_hand = shard == 0 && self.random.below(4) == 0;
            let group = if by_hand { "by-hand".into() } else { self.groups[group].id.clone() };
            self.record_transaction(&group, &at, topic_id);
            Logged::Transactional(
                producer,
                Record::Offset {
                    group,
                    topic: at.topic,
                    partition: at.partition,
                    value: Some(value),
                },
            )
        };
        let log = &mut self.shards[shard].log;
        log.append([what]);
        let end = log.end();
        log.sync(end);
    }

    /// Before the end of a world every transaction ends.
    fn end_transactions(&mut self, shard: usize) {
        for producer in std::mem::take(&mut self.shards[shard].transactions) {
            let log = &mut self.shards[shard].log;
            log.append([Logged::Marker(producer, false)]);
            let end = log.end();
            log.sync(end);
        }
    }

    pub(crate) fn rebuild_shadow(&mut self, shard: usize) {
        if self.checked {
            let found = &mut self.shards[shard];
            found.shadow = GroupShard::new(found.config.clone(), 0);
            found.log.replay(&mut found.shadow);
            found.naive = found.log.naive();
        }
    }

    fn begin_load(&mut self, shard: usize, node: usize) {
        let slow = self.faulty(Fault::SlowLoad);
        let delay = if slow { self.random.below(3_000) } else { 1 };
        let seed = self.random.draw();
        let found = &mut self.shards[shard];
        found.lives += 1;
        let life = found.lives;
        found.hosts.push(Host {
            node,
            life,
            machine: GroupShard::new(found.config.clone(), seed),
            history: History::default(),
            loading: Some(0),
            is_fenced: false,
            waiting: Vec::new(),
            parked: BTreeMap::new(),
            generations: BTreeMap::new(),
            armed: None,
        });
        if slow {
            let soon = self.random.below(delay + 1);
            self.schedule(soon, Event::Lists { shard });
        }
        self.schedule(delay, Event::Loads { shard, node, life });
    }

    /// Reads a part of the log; at its end the machine serves.
    pub(crate) fn load_step(&mut self, shard: usize, node: usize, life: u64) {
        let slow = self.plan.rate(Fault::SlowLoad) > 0 && !self.healed;
        let pause = if slow { self.random.below(400) } else { 0 };
        let is_current = |host: &Host| host.node == node && host.life == life && !host.is_fenced;
        // Producers end their transactions, and coordinators of transactions write, also while groups are loaded.
        if pause > 0
            && self.shards[shard].hosts.iter().any(is_current)
            && self.faulty(Fault::Transaction)
        {
            self.write_transaction(shard);
            self.rebuild_shadow(shard);
            self.coverage.check("writes during a load");
        }
        let Shard { log, hosts, .. } = &mut self.shards[shard];
        let Some(host) = hosts.iter().position(is_current) else { return };
        let found = &mut hosts[host];
        let Some(mut from) = found.loading else { return };
        loop {
            let chunk = log.chunk(from);
            let Some(last) = chunk.last() else { break };
            chunk.iter().for_each(|entry| entry.replay_into(&mut found.machine));
            from = last.offset + 1;
            if pause > 0 {
                found.loading = Some(from);
                return self.schedule(pause, Event::Loads { shard, node, life });
            }
        }
        found.loading = None;
        found.history.limit_changed();
        if self.checked {
            self.check_loaded(shard, host);
        }
        self.note(|_| format!("   node {node} has loaded shard {shard}"));
        self.shards[shard].states.clear();
        self.shards[shard].loaded_at = self.now;
        self.step(shard, host, Input::Loaded);
        self.note_loaded(shard);
        for (name, topic_id) in std::mem::take(&mut self.shards[shard].deleted) {
            self.topic_deleted_in(shard, name, topic_id);
        }
    }

    /// The host answers everyone it owes an answer, and is gone.
    pub(crate) fn unload(&mut self, shard: usize, node: usize, life: u64, error: ErrorCode) {
        let is_it = |host: &Host| host.node == node && host.life == life;
        let Some(host) = self.shards[shard].hosts.iter().position(is_it) else { return };
        let mut host = self.shards[shard].hosts.remove(host);
        let now = self.nodes[node].clock.now(self.now);
        let output = host.machine.handle(now, Input::Unload { error });
        assert!(
            output.records.is_empty() && host.machine.next_deadline().is_none(),
            "S12: unloaded"
        );
        // KAFKA-10614: a load that comes to its end after the unload changes nothing.
        let late = host.machine.handle(now, Input::Loaded);
        assert_eq!(late, group::Output::default(), "S31: a load that came too late");
        for group::Answer { request, reply, .. } in output.answers {
            let was_parked = host.parked.remove(&request).is_some();
            assert!(was_parked, "L5: an answer to a request that waits for none");
            self.answer(request, reply);
        }
        assert!(host.parked.is_empty(), "L5: unloaded, and {:?} are not answered", host.parked);
        for Waiting { asked, reply, .. } in host.waiting {
            // What was appended may be there, but it cannot be promised.
            self.answer(asked, reply.failed(append_error(ErrorCode::NotLeaderOrFollower)));
        }
    }

    /// The shard moves away from its host, which may not know for a while.
    pub(crate) fn move_shard(&mut self, shard: usize, unnoticed_for: Option<u64>) {
        let Some(node) = self.shards[shard].leader.take() else { return };
        self.shards[shard].former = Some(node);
        let lives: Vec<u64> = self.shards[shard]
            .hosts
            .iter()
            .filter(|host| host.node == node && !host.is_fenced)
            .map(|host| host.life)
            .collect();
        for life in lives {
            match unnoticed_for {
                None => {
                    // In peace everything is synced first.
                    let log = &mut self.shards[shard].log;
                    let (life_of_log, end) = (log.life, log.end());
                    self.synced(shard, life_of_log, end);
                    self.unload(shard, node, life, ErrorCode::NotCoordinator);
                }
                Some(after) => self.schedule(after, Event::LearnsOfMove { shard, node, life }),
            }
        }
        if unnoticed_for.is_some() {
            // Fenced at once, so that a node has one host only that matters.
            for host in &mut self.shards[shard].hosts {
                host.is_fenced = true;
            }
            let others =
                (0..self.nodes.len()).any(|other| other != node && self.nodes[other].is_up);
            let pause = if others { 1 } else { unnoticed_for.unwrap_or(0) + 1 };
            return self.schedule(pause, Event::Elects { shard });
        }
        let pause = 1 + self.random.below(500);
        self.schedule(pause, Event::Elects { shard });
    }

    /// The node's process dies.
    pub(crate) fn crash_node(&mut self, node: usize, down: u64) {
        self.nodes[node].is_up = false;
        for shard in 0..self.shards.len() {
            let found = &mut self.shards[shard];
            found.hosts.retain(|host| host.node != node);
            if found.leader == Some(node) {
                found.leader = None;
                found.former = Some(node);
                // Someone else notices; or it is itself there again before that.
                let pause = self.random.below(down.max(1));
                self.schedule(pause, Event::Elects { shard });
            }
        }
        self.node_is_gone(node);
        self.schedule(down, Event::NodeUp { node });
    }

    pub(crate) fn node_up(&mut self, node: usize) {
        self.nodes[node].is_up = true;
        for shard in 0..self.shards.len() {
            self.elect(shard);
        }
    }

    pub(crate) fn topic_deleted(&mut self, name: &ByteString, topic_id: Uuid) {
        for shard in 0..self.shards.len() {
            self.topic_deleted_in(shard, name.clone(), topic_id);
        }
    }

    fn topic_deleted_in(&mut self, shard: usize, name: ByteString, topic_id: Uuid) {
        let serving = |host: &Host| !host.is_fenced && host.loading.is_none();
        match self.shards[shard].hosts.iter().position(serving) {
            Some(host) => {
                let life = self.shards[shard].hosts[host].life;
                self.step(shard, host, Input::TopicDeleted { name: name.clone(), topic_id });
                let is_there = self.shards[shard].hosts.iter().any(|host| host.life == life);
                if !is_there {
                    self.shards[shard].deleted.push((name, topic_id));
                }
            }
            None => self.shards[shard].deleted.push((name, topic_id)),
        }
    }

    /// New settings, for every shard.
    pub(crate) fn configure(&mut self, change: impl Fn(&mut group::GroupConfig)) {
        for shard in 0..self.shards.len() {
            let before = self.shards[shard].config.max_batch_bytes;
            change(&mut self.shards[shard].config);
            let now = self.shards[shard].config.max_batch_bytes;
            self.shards[shard].is_shrunk |= now < before;
            let config = self.shards[shard].config.clone();
            for host in 0..self.shards[shard].hosts.len() {
                self.shards[shard].hosts[host].history.limit_changed();
                self.step_config(shard, host, config.clone());
            }
        }
    }

    fn step_config(&mut self, shard: usize, host: usize, config: group::GroupConfig) {
        let host = &mut self.shards[shard].hosts[host];
        let now = self.nodes[host.node].clock.now(self.now);
        let output = host.machine.handle(now, Input::Configure(config));
        assert_eq!(output, group::Output::default(), "settings alone change nothing");
    }

    // ---- coverage ----

    fn note_events(&mut self, shard: usize, events: &[group::Event]) {
        for event in events {
            self.note(|_| format!("   coordinator: {event}"));
            self.record_expiry(event);
            self.note_dropped(&event.group, &event.kind);
            if let EventKind::StaticMemberReplaced { instance, state: GroupState::Stable, .. } =
                &event.kind
            {
                self.note_return(shard, &event.group, instance);
            }
            let to = match &event.kind {
                EventKind::GroupCreated | EventKind::GroupEmptied => GroupState::Empty,
                EventKind::RebalanceStarted { .. } => GroupState::PreparingRebalance,
                EventKind::JoinCompleted { .. } => GroupState::CompletingRebalance,
                EventKind::AssignmentReceived { .. } => GroupState::Stable,
                EventKind::GroupDeleted { .. } => GroupState::Dead,
                _ => continue,
            };
            if to == GroupState::PreparingRebalance
                && let Some(group) = self.groups.iter_mut().find(|group| group.id == event.group)
            {
                group.rebalances += 1;
            }
            if to == GroupState::CompletingRebalance {
                self.note_wants(shard, &event.group);
            }
            self.record_state(&event.group, to);
            let states = &mut self.shards[shard].states;
            let from = match to {
                GroupState::Dead => states.remove(&event.group),
                to => states.insert(event.group.clone(), to),
            };
            self.coverage.transition(from, to);
        }
    }

    /// The coordinator gives members up: ids of static ones begin with their names.
    fn note_dropped(&mut self, group: &ByteString, kind: &EventKind) {
        let members = match kind {
            EventKind::MemberExpired { member, .. } | EventKind::MemberLeft { member, .. } => {
                std::slice::from_ref(member)
            }
            EventKind::MembersDidNotJoin { members } | EventKind::MembersDidNotSync { members } => {
                members
            }
            _ => return,
        };
        let now = self.now;
        let Some(known) = self.groups.iter_mut().find(|known| known.id == *group) else { return };
        for member in members {
            let name = member.len().saturating_sub(UUID_AND_HYPHEN);
            known.dropped.insert(member[..name].into(), now);
        }
    }

    /// What the static members of a new generation want.
    fn note_wants(&mut self, shard: usize, group: &ByteString) {
        let wanted = self.wants(shard, group);
        if let Some(known) = self.groups.iter_mut().find(|known| known.id == *group) {
            known.wanted = wanted;
            known.is_outdated = false;
        }
    }

    /// A static member is back, and there is no rebalance.
    fn note_return(&mut self, shard: usize, group: &ByteString, instance: &ByteString) {
        let mut wanted = self.wants(shard, group);
        if let Some(known) = self.groups.iter_mut().find(|known| known.id == *group) {
            known.is_outdated |= known.wanted.get(instance) != wanted.remove(instance).as_ref();
        }
    }

    /// The topics of each static member.
    fn wants(&self, shard: usize, group: &str) -> BTreeMap<ByteString, BTreeSet<ByteString>> {
        let host = self.shards[shard].serving();
        let found = host.and_then(|host| {
            invariants::served(&host.machine).find(|served| served.group == group)
        });
        let named = found.into_iter().flat_map(|found| found.members).filter_map(|member| {
            let subscription = Subscription::decode(&member.subscription).unwrap_or_default();
            Some((member.instance_id?, subscription.topics))
        });
        named.collect()
    }

    fn note_loaded(&mut self, shard: usize) {
        let Some(host) = self.shards[shard].serving() else { return };
        let served: Vec<_> = invariants::served(&host.machine).collect();
        for group in served {
            self.record_state(&group.group, group.state);
            let known = self.shards[shard].states.insert(group.group, group.state);
            if known.is_none() {
                self.coverage.transition(None, group.state);
            }
        }
    }
}

/// What a member id has behind the name of its instance.
const UUID_AND_HYPHEN: usize = 37;
