//! What happens now and then: operators do their work, clients come and go, nodes die, clocks jump.

use std::collections::BTreeSet;

use kavka_coordinator::group::{
    CommitPartition, CommitRequest, CommitTopic, DeleteOffsetsRequest, LeaveRequest, LeavingMember,
    ListRequest, Request,
};
use kavka_member::{Input, TopicPartition};
use kavka_protocol::{ByteString, Uuid};

use crate::{
    foreign::WORKERS,
    plan::Fault,
    process::instance_name,
    world::{Event, Kind, World},
};

impl World {
    /// The turn of a client of either kind.
    pub(crate) fn go(&mut self, client: usize) {
        match &self.clients[client].kind {
            Kind::Ours(_) => self.application(client),
            Kind::Foreign(_) => self.foreign_goes(client),
            Kind::Operator => {}
        }
    }

    /// A few records more, here and there.
    pub(crate) fn produce(&mut self) {
        if self.healed {
            return;
        }
        self.schedule(self.plan.poll_every, Event::Produces);
        let all: Vec<TopicPartition> = {
            let names: Vec<ByteString> = self.topics.names().cloned().collect();
            self.topics.partitions(&names).into_iter().collect()
        };
        for partition in all {
            let more = self.random.below(4).cast_signed();
            let Some((id, log)) = self.topics.log(&partition) else { continue };
            self.record_sends(&partition, id, log.end, log.end + more);
            if let Some(log) = self.topics.log_mut(&partition) {
                log.end += more;
            }
        }
    }

    /// One thing that is unusual; and who is missing comes back.
    pub(crate) fn act(&mut self) {
        if self.healed {
            return;
        }
        let every = self.plan.act_every;
        let pause = every / 2 + self.random.below(every);
        self.schedule(pause, Event::Act);
        self.replace_missing();
        if self.plan.acts().is_empty() {
            return;
        }
        let which = self.random.index(self.plan.acts().len());
        let fault = self.plan.acts()[which];
        if self.random.happens(self.plan.rate(fault)) {
            self.do_act(fault);
        }
    }

    /// Processes that are wanted and not there start.
    pub(crate) fn replace_missing(&mut self) {
        for group in 0..self.groups.len() {
            if self.groups[group].deserted_until > self.now && !self.healed {
                continue;
            }
            let plan = &self.plan.groups[group];
            let (members, of_static, foreign) =
                (plan.members, plan.static_members, plan.foreign.clone());
            let ours = self.alive.iter().filter_map(|client| {
                let found = &self.clients[*client];
                match &found.kind {
                    Kind::Ours(process) if found.group == group => Some(process.instance),
                    _ => None,
                }
            });
            let ours: Vec<Option<usize>> = ours.collect();
            if ours.len() < members {
                let free = (0..of_static).find(|number| !ours.contains(&Some(*number)));
                self.start_process(group, free);
            }
            let others: Vec<Fault> = self
                .alive
                .iter()
                .filter_map(|client| {
                    let found = &self.clients[*client];
                    match &found.kind {
                        Kind::Foreign(foreign) if found.group == group => Some(foreign.quirk),
                        _ => None,
                    }
                })
                .collect();
            if others.len() < foreign.len()
                && let Some(missing) = foreign.iter().find(|quirk| !others.contains(quirk))
            {
                self.start_foreign(group, *missing);
            }
        }
    }

    /// One of our processes that is not about to go.
    fn a_process(&mut self) -> Option<usize> {
        let ours: Vec<usize> = self
            .alive
            .iter()
            .copied()
            .filter(|client| match &self.clients[*client].kind {
                Kind::Ours(process) => !process.is_closing,
                _ => false,
            })
            .collect();
        (!ours.is_empty()).then(|| *self.random.pick(&ours))
    }

    fn do_act(&mut self, fault: Fault) {
        let shard = self.random.index(self.shards.len());
        let node = self.random.index(self.nodes.len());
        let long = self.random.below(self.plan.session * 2);
        match fault {
            Fault::Compaction => {
                if self.shards[shard].log.compact(false) {
                    self.landed(fault);
                }
            }
            Fault::TombstonesGone => {
                // Tombstones stay for longer than a load takes.
                let loads = self.shards[shard].hosts.iter().any(|host| host.loading.is_some());
                if !loads && self.shards[shard].log.compact(true) {
                    self.landed(fault);
                }
            }
            Fault::Rechunk => {
                self.shards[shard].log.rechunk(&mut self.random);
                self.landed(fault);
            }
            Fault::NodeCrash => {
                if self.nodes[node].is_up {
                    self.landed(fault);
                    self.crash_node(node, 1 + long / 2);
                }
            }
            Fault::Move => {
                if self.shards[shard].leader.is_some() {
                    self.landed(fault);
                    self.move_shard(shard, None);
                }
            }
            Fault::Zombie => {
                if self.shards[shard].leader.is_some() {
                    self.landed(fault);
                    self.move_shard(shard, Some(1 + long / 4));
                }
            }
            Fault::WallJump => {
                self.landed(fault);
                let jump = self.random.below(2 * 3_600_000 * self.plan.pace).cast_signed();
                self.nodes[node].clock.wall_skew_ms += jump - 1_800_000;
            }
            Fault::Partition => {
                let Some(client) = self.a_process() else { return };
                self.landed(fault);
                self.parted.insert((client, node));
                self.schedule(1 + long, Event::Reconnects { client, node });
            }
            Fault::Deserted => {
                let group = self.random.index(self.groups.len());
                self.landed(fault);
                self.groups[group].deserted_until =
                    self.now + self.plan.session + self.random.below(60_000 * self.plan.pace);
                self.desert(group);
            }
            Fault::TopicDeleted
            | Fault::TopicGrown
            | Fault::RecordsDeleted
            | Fault::LeaderEpoch => self.act_on_topic(fault),
            Fault::OffsetReset
            | Fault::GroupsDeleted
            | Fault::OffsetsDeleted
            | Fault::Look
            | Fault::MemberRemoved => self.operate(fault),
            Fault::Configured => {
                self.landed(fault);
                let (size, bytes) =
                    (2 + self.random.index(4), *self.random.pick(&[700, 1_500, 100_000]));
                self.configure(|config| {
                    config.max_size = size;
                    config.max_batch_bytes = bytes;
                });
            }
            _ => self.act_on_process(fault, long),
        }
    }

    fn desert(&mut self, group: usize) {
        for client in self.alive.clone() {
            if self.clients[client].group != group {
                continue;
            }
            let closes = self.random.below(2) == 0;
            match &self.clients[client].kind {
                Kind::Ours(process) if closes && !process.is_closing => {
                    self.close_and_leave(client)
                }
                _ => self.bury(client),
            }
        }
    }

    fn act_on_process(&mut self, fault: Fault, long: u64) {
        let Some(client) = self.a_process() else { return };
        let group = self.clients[client].group;
        self.landed(fault);
        match fault {
            Fault::ClientCrash => self.bury(client),
            Fault::Close => self.close(client),
            Fault::Resubscribe => {
                self.tell(client, Input::Unsubscribe);
                let topics = self.groups[group].topics.clone();
                self.subscribe(client, topics);
            }
            Fault::ChangeSubscription => {
                let all: Vec<ByteString> =
                    (0..self.plan.topics).map(crate::world::topic_name).collect();
                let mut topics: BTreeSet<ByteString> = all.iter().cloned().collect();
                if all.len() > 1 && self.random.below(2) == 0 {
                    topics.remove(self.random.pick(&all));
                }
                self.subscribe(client, topics);
            }
            Fault::Enforce => {
                self.tell(client, Input::EnforceRebalance { reason: "why not".into() })
            }
            Fault::Hang => {
                let until = self.now + self.plan.rebalance + long;
                if let Some(process) = self.process(client) {
                    process.hangs_until = until;
                }
            }
            Fault::Seek => self.seek(client),
            Fault::Pause => {
                let back = self.random.below(2) == 0;
                let Some(process) = self.process(client) else { return };
                let all: BTreeSet<TopicPartition> = process.told.partitions().cloned().collect();
                self.tell(client, if back { Input::Resume(all) } else { Input::Pause(all) });
            }
            other => panic!("{other} is not done by a process"),
        }
    }

    pub(crate) fn close(&mut self, client: usize) {
        self.close_as(client, None);
    }

    /// A static member leaves as well.
    pub(crate) fn close_and_leave(&mut self, client: usize) {
        self.close_as(client, Some(true));
    }

    fn close_as(&mut self, client: usize, leave: Option<bool>) {
        let timeout = std::time::Duration::from_millis(self.plan.session);
        if let Some(process) = self.process(client) {
            process.is_closing = true;
        }
        self.tell(client, Input::Close { timeout, leave });
    }

    fn act_on_topic(&mut self, fault: Fault) {
        let names: Vec<ByteString> = self.topics.names().cloned().collect();
        if names.is_empty() {
            return;
        }
        let name = self.random.pick(&names).clone();
        match fault {
            Fault::TopicDeleted => {
                let many = self.topics.get(&name).map_or(0, |topic| topic.partitions.len());
                let Some(id) = self.topics.delete(&name) else { return };
                self.landed(fault);
                self.record_topic_deletion(&name, id, many);
                self.topic_deleted(&name, id);
                let after = self.random.below(self.plan.act_every * 3);
                self.schedule(after, Event::TopicReturns { topic: name });
            }
            Fault::TopicGrown => {
                let Some(topic) = self.topics.get_mut(&name) else { return };
                if topic.partitions.len() >= 8 {
                    return;
                }
                topic.partitions.push(crate::topics::PartitionLog::default());
                self.topics.version += 1;
                self.landed(fault);
                self.note_topic(&name);
            }
            Fault::RecordsDeleted => {
                let Some(topic) = self.topics.get_mut(&name) else { return };
                let id = topic.id;
                let Some(log) = topic.partitions.first_mut() else { return };
                log.start = (log.start + log.end) / 2;
                let log_start = log.start;
                self.landed(fault);
                self.record_of_cluster(|world| kavka_checker::Op::Trimmed {
                    partition: world.place(&TopicPartition::new(name.clone(), 0), id),
                    log_start,
                });
            }
            _ => {
                let Some(topic) = self.topics.get_mut(&name) else { return };
                topic.leader_epoch += 1;
                self.topics.version += 1;
                self.landed(fault);
            }
        }
        self.tell_all_of_topics();
    }

    pub(crate) fn topic_returns(&mut self, name: ByteString) {
        if self.topics.get(&name).is_some() {
            return;
        }
        self.topics.create(name.clone(), self.plan.partitions);
        self.note_topic(&name);
        self.tell_all_of_topics();
    }

    /// What a topic is like now.
    pub(crate) fn note_topic(&mut self, name: &ByteString) {
        if let Some(topic) = self.topics.get(name) {
            let (id, partitions) = (topic.id, topic.partitions.len());
            self.record_topic(name, id, partitions);
        }
    }

    /// Everyone hears of it, some later than others.
    pub(crate) fn tell_all_of_topics(&mut self) {
        for client in self.alive.clone() {
            let after = self.random.below(3_000 * self.plan.pace);
            self.schedule(after, Event::Refreshes { client });
        }
    }

    /// An operator's request, over a connection of its own.
    fn operate(&mut self, fault: Fault) {
        let group = self.random.index(self.groups.len());
        let id = self.groups[group].id.clone();
        let names: Vec<ByteString> = self.topics.names().cloned().collect();
        let request = match fault {
            Fault::OffsetReset => {
                let offset = self.random.below(10).cast_signed();
                let odd = self.random.below(4) == 0;
                let partition = CommitPartition {
                    partition: 0,
                    offset,
                    leader_epoch: -1,
                    metadata: odd.then(|| "n".repeat(65).into()),
                };
                let topic = |name: &ByteString| CommitTopic {
                    name: name.clone(),
                    topic_id: Uuid::ZERO,
                    partitions: vec![partition.clone()],
                };
                // Of a group that nobody joins: a consumer that assigns itself, with more than may fit into a batch.
                let by_hand = self.random.below(4) == 0;
                let (id, many) = if by_hand { ("by-hand".into(), 100) } else { (id, 1) };
                let topics: Vec<CommitTopic> = names.iter().map(topic).collect();
                for name in &names {
                    self.operator_sets(group, &TopicPartition::new(name.clone(), 0), offset);
                }
                let retention = [None, Some(5_000 * self.plan.pace.cast_signed())];
                Request::CommitOffsets(CommitRequest {
                    group: id,
                    generation: -1,
                    member_id: ByteString::new(),
                    instance_id: None,
                    retention_time_ms: *self.random.pick(&retention),
                    topics: std::iter::repeat_n(topics, many).flatten().collect(),
                })
            }
            Fault::GroupsDeleted if self.random.below(2) == 0 => {
                Request::DeleteGroups(vec!["by-hand".into(), "no-such-group".into()])
            }
            Fault::GroupsDeleted => Request::DeleteGroups(vec![id, "no-such-group".into()]),
            Fault::OffsetsDeleted => {
                let id = match self.random.below(6) {
                    0 => "no-such-group".into(),
                    1 => WORKERS.into(),
                    _ => id,
                };
                let topics = names.into_iter().map(|name| (name, vec![0, 1])).collect();
                Request::DeleteOffsets(DeleteOffsetsRequest { group: id, topics })
            }
            Fault::Look => match self.random.below(4) {
                3 => {
                    // Of topics of these names that there never were.
                    let topic = |name: ByteString| kavka_coordinator::group::FetchTopic {
                        name,
                        topic_id: Uuid::from_bytes([255; 16]),
                        partitions: vec![0, 1],
                    };
                    Request::FetchOffsets(kavka_coordinator::group::FetchRequest {
                        group: id,
                        topics: Some(names.into_iter().map(topic).collect()),
                        require_stable: false,
                    })
                }
                0 => Request::ListGroups(ListRequest::default()),
                1 => Request::DescribeGroups(vec![id, "no-such-group".into()]),
                _ => Request::FetchOffsets(kavka_coordinator::group::FetchRequest {
                    group: id,
                    topics: None,
                    require_stable: self.random.below(2) == 0,
                }),
            },
            _ => {
                let number = self.random.index(4);
                let instance_id = Some(instance_name(group, number));
                let leaving =
                    LeavingMember { member_id: ByteString::new(), instance_id, reason: None };
                Request::Leave(LeaveRequest { group: id, members: vec![leaving] })
            }
        };
        self.landed(fault);
        let of = match &request {
            Request::CommitOffsets(commit) => commit.group.clone(),
            Request::DeleteGroups(groups) => groups[0].clone(),
            Request::DeleteOffsets(delete) => delete.group.clone(),
            _ => self.groups[group].id.clone(),
        };
        let Some(node) = self.coordinator_of(&of) else { return };
        let client = self.add_client(group, Kind::Operator);
        self.send(client, node, 1, request);
    }

    /// An operator asks the node that is about to have the shard.
    pub(crate) fn list_groups_of(&mut self, shard: usize) {
        let Some(node) = self.shards[shard].leader else { return };
        let group = self.random.index(self.groups.len());
        let client = self.add_client(group, Kind::Operator);
        self.send(client, node, 1, Request::ListGroups(ListRequest::default()));
    }
}
