//! A process of ours: the member machine, its shell, and an application that reads, commits, and now and then misbehaves.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kavka_assignor::leader::JoinedMembers;
use kavka_checker::Op;
use kavka_coordinator::group::Reply;
use kavka_member::{
    AssignTask, Assignment, Assignor, Cause, CommitId, CommitMode, CommitOffset, Consumed,
    Coordinator, DrainId, ErrorKind, Event as Heard, Failure, Fetchable, Input, Member,
    MemberConfig, OffsetReset, OffsetTarget, Outgoing, Position, PositionEpoch, Request, RequestId,
    Response, Subscription, Target, TopicPartition,
};
use kavka_protocol::{
    ByteString, ErrorCode, Uuid, messages::join_group_response::JoinGroupResponseMember,
};

use crate::{
    clock::Clock,
    history,
    plan::Fault,
    told::{Because, Told},
    translate::{ClientName, from_coordinator, to_coordinator},
    world::{Client, Event, Kind, World},
};

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) member: Member,
    pub(crate) clock: Clock,
    pub(crate) instance: Option<usize>,
    pub(crate) is_closing: bool,
    pub(crate) hangs_until: u64,
    armed: Option<u64>,
    commits: BTreeMap<CommitId, BTreeMap<TopicPartition, i64>>,
    last_commit: u64,
    /// What its member has told it.
    pub(crate) told: Told,
    /// The last member id it had, also if it has none any more.
    pub(crate) known_as: ByteString,
    /// As whom it was given its last share: its member may be in a newer round already, which can come to nothing.
    assigned_as: Option<kavka_checker::Member>,
    /// JoinGroups under way.
    joins: BTreeSet<u64>,
    /// OffsetCommits under way: which partitions they name.
    asked_commits: BTreeMap<u64, Vec<TopicPartition>>,
    /// The ids of topics, as it has heard of them last.
    ids: BTreeMap<ByteString, Uuid>,
    seen_version: u64,
    /// In which topics its positions were found, as far as it knew.
    found_in: BTreeMap<TopicPartition, Uuid>,
    /// What its metadata says that there is.
    current: BTreeMap<ByteString, Uuid>,
    /// Where the application goes on, in this epoch of the position.
    reading: BTreeMap<TopicPartition, (PositionEpoch, i64)>,
}

impl World {
    /// A process starts. `instance`: which static member of the group it is.
    pub(crate) fn start_process(&mut self, group: usize, instance: Option<usize>) {
        let seed = self.random.draw();
        let auto = self.random.below(3) > 0;
        let clock = self.a_clock();
        let plan = &self.plan;
        let cooperative = plan.groups[group].cooperative;
        let ms = Duration::from_millis;
        let config = MemberConfig {
            group_instance_id: instance.map(|number| instance_name(group, number)),
            assignors: vec![if cooperative {
                Assignor::cooperative_sticky()
            } else {
                Assignor::range()
            }],
            session_timeout: ms(plan.session),
            heartbeat_interval: ms(plan.heartbeat),
            max_poll_interval: ms(plan.rebalance),
            auto_commit_interval: auto.then(|| ms(plan.poll_every * 3)),
            request_timeout: ms(plan.request_timeout),
            offset_reset: OffsetReset::Earliest,
            ..MemberConfig::new(self.groups[group].id.clone())
        };
        let member = match Member::new(config, seed) {
            Ok(member) => member,
            Err(error) => panic!("a plan that cannot work: {error}"),
        };
        let process = Process {
            member,
            clock,
            instance,
            is_closing: false,
            hangs_until: 0,
            armed: None,
            commits: BTreeMap::new(),
            last_commit: 0,
            told: Told::default(),
            known_as: ByteString::new(),
            assigned_as: None,
            joins: BTreeSet::new(),
            asked_commits: BTreeMap::new(),
            ids: BTreeMap::new(),
            seen_version: 0,
            found_in: BTreeMap::new(),
            current: BTreeMap::new(),
            reading: BTreeMap::new(),
        };
        let client = self.add_client(group, Kind::Ours(Box::new(process)));
        self.note(|_| format!("client {client} starts, a member of group {group}"));
        self.refresh(client);
        let topics = self.groups[group].topics.clone();
        self.subscribe(client, topics);
        let after = self.random.below(self.plan.poll_every) + 1;
        self.schedule(after, Event::Goes { client });
    }

    pub(crate) fn add_client(&mut self, group: usize, kind: Kind) -> usize {
        let client = self.clients.len();
        let name = ClientName {
            // Some cannot be told apart by their name.
            client_id: format!("client-{}", self.random.below(4)).into(),
            host: "/10.0.0.1".into(),
        };
        if !matches!(kind, Kind::Operator) {
            self.alive.insert(client);
        }
        let connections = BTreeMap::new();
        let since = self.now;
        self.clients.push(Client {
            name,
            group,
            since,
            is_alive: true,
            fenced_by_former: false,
            kind,
            connections,
        });
        client
    }

    pub(crate) fn group_of(&self, client: usize) -> String {
        self.groups[self.clients[client].group].id.to_string()
    }

    pub(crate) fn subscribe(&mut self, client: usize, topics: BTreeSet<ByteString>) {
        self.record(client, |world| Op::Subscribe {
            group: world.group_of(client),
            topics: topics.iter().filter_map(|name| world.life_of(name)).collect(),
        });
        self.tell(client, Input::Subscribe(topics));
    }

    /// The id under which a client knows a topic.
    pub(crate) fn known_id(&self, client: usize, topic: &ByteString) -> Option<Uuid> {
        match &self.clients[client].kind {
            Kind::Ours(process) => process.ids.get(topic).copied(),
            _ => None,
        }
    }

    pub(crate) fn process(&mut self, client: usize) -> Option<&mut Process> {
        match &mut self.clients[client] {
            Client { is_alive: true, kind: Kind::Ours(process), .. } => Some(process),
            _ => None,
        }
    }

    /// A client is no more.
    pub(crate) fn bury(&mut self, client: usize) {
        self.clients[client].is_alive = false;
        self.alive.remove(&client);
        self.disconnect_all(client);
        self.record(client, |_| Op::Crash {});
    }

    /// Hands an input to the member and does what comes out.
    pub(crate) fn tell(&mut self, client: usize, input: Input) {
        let now = self.now;
        let because = Because::of(&input);
        if self.process(client).is_none() {
            return;
        }
        self.note(|_| format!("client {client} <- {input:?}"));
        let Some(process) = self.process(client) else { return };
        let time = process.clock.now(now);
        process.told.foresee(&input);
        let output = process.member.handle(time, input);
        if !process.member.member_id().is_empty() {
            process.known_as = process.member.member_id().clone();
        }
        assert!(
            output.requests.len() <= 8 && output.events.len() <= 64,
            "an input leads to a bounded output: {output:?}"
        );
        let deadline = process.member.next_deadline();
        if let Some(deadline) = deadline {
            assert!(deadline > time.monotonic, "the deadline is later than now");
            let at = process.clock.when(deadline, now);
            if process.armed.is_none_or(|armed| armed != at) {
                process.armed = Some(at);
                self.schedule_at(at, Event::Deadline { client });
            }
        } else {
            process.armed = None;
        }
        for trace in &output.traces {
            self.note(|_| format!("client {client}    {trace}"));
        }
        let words = [output.requests.len(), output.events.len(), output.traces.len()];
        self.mix(words.iter().fold(client as u64, |sum, words| sum * 64 + *words as u64));
        for Coordinator { node, .. } in output.disconnect {
            if let Some(process) = self.process(client) {
                process.joins.clear();
            }
            self.disconnect(client, usize::try_from(node).unwrap_or(0));
        }
        for outgoing in output.requests {
            self.send_for(client, outgoing);
        }
        for event in output.events {
            self.note(|_| format!("client {client} -> {event:?}"));
            self.told(client, event, because);
        }
    }

    pub(crate) fn member_deadline(&mut self, client: usize) {
        let now = self.now;
        if let Some(process) = self.process(client)
            && process.armed == Some(now)
        {
            process.armed = None;
            self.tell(client, Input::Deadline);
        }
    }

    // ---- requests ----

    fn send_for(&mut self, client: usize, Outgoing { id, target, request, .. }: Outgoing) {
        self.check_request(client, &request);
        let Target::Coordinator(coordinator) = target else {
            return self.answer_elsewhere(client, id, &request);
        };
        if matches!(request, Request::DescribeGroup { .. }) {
            self.coverage.check("leaders that came back and looked");
        }
        if matches!(request, Request::Join(_))
            && let Some(process) = self.process(client)
        {
            process.joins.insert(id.0);
            assert_eq!(process.joins.len(), 1, "one JoinGroup at a time");
        }
        if let Request::CommitOffsets(commit) = &request
            && let Some(process) = self.process(client)
        {
            process.asked_commits.insert(id.0, commit.offsets.keys().cloned().collect());
        }
        let node = usize::try_from(coordinator.node).unwrap_or(0);
        let next = self.connections.len();
        let connection = self.clients[client].connections.get(&node).copied().unwrap_or(next);
        let name = self.clients[client].name.clone();
        let Some(request) = to_coordinator(request, &name, connection as u64 + 1) else {
            panic!("not for a coordinator");
        };
        self.send(client, node, id.0, request);
    }

    /// Lookups, and questions to leaders of partitions.
    fn answer_elsewhere(&mut self, client: usize, id: RequestId, request: &Request) {
        let delay = self.delay();
        let fails = self.faulty(Fault::LookupFails);
        if fails && self.random.below(2) == 0 {
            let failure = Failure::Disconnected;
            return self.schedule(delay, Event::FailsElsewhere { client, id, failure });
        }
        let response = match request {
            Request::FindCoordinator { group } => {
                let found = self.coordinator_of(group);
                let coordinator = |node: usize| Coordinator {
                    node: i32::try_from(node).unwrap_or(0),
                    host: "node".into(),
                    port: 9092,
                };
                let found = found.map(coordinator);
                Response::FindCoordinator(found.ok_or(ErrorCode::CoordinatorNotAvailable))
            }
            request => self.topics.answer(request),
        };
        let response = Box::new(response);
        self.schedule(delay, Event::AnswersElsewhere { client, id, response });
    }

    pub(crate) fn answered_elsewhere(&mut self, client: usize, id: RequestId, response: Response) {
        self.tell(client, Input::Response(id, response));
    }

    pub(crate) fn failed_elsewhere(&mut self, client: usize, id: RequestId, failure: Failure) {
        self.tell(client, Input::Failed(id, failure));
    }

    pub(crate) fn process_hears(&mut self, client: usize, tag: u64, reply: Reply) {
        self.record_reply(client, tag, &reply);
        let Some(mut response) = from_coordinator(reply) else { return };
        if let Some(process) = self.process(client) {
            process.joins.remove(&tag);
            let asked = process.asked_commits.remove(&tag).unwrap_or_default();
            if let Response::CommitOffsets(codes) = &mut response {
                // What does not exist the broker's handler refuses; the coordinator has not seen it.
                for partition in asked {
                    codes.entry(partition).or_insert(ErrorCode::UnknownTopicOrPartition);
                }
            }
        }
        self.tell(client, Input::Response(RequestId(tag), response));
    }

    pub(crate) fn process_fails(&mut self, client: usize, tag: u64) {
        if let Some(process) = self.process(client) {
            process.joins.remove(&tag);
            process.asked_commits.remove(&tag);
        }
        self.tell(client, Input::Failed(RequestId(tag), Failure::Disconnected));
    }

    // ---- what the member tells ----

    fn told(&mut self, client: usize, event: Heard, because: Because) {
        let delay = 1 + self.random.below(400 * self.plan.pace);
        let slow_drain = matches!(event, Heard::Revoking { .. }) && self.faulty(Fault::SlowDrain);
        let slow = self.plan.rebalance * 2;
        let now = self.now;
        let Some(process) = self.process(client) else { return };
        process.told.hear(&event, because);
        match event {
            Heard::Assign(task) => {
                self.schedule(delay, Event::Assigned { client, task: Box::new(task) });
            }
            Heard::Assigned { added, generation, .. } => {
                let member = history::member(process.member.member_id(), generation);
                process.assigned_as = Some(member.clone());
                self.record(client, |world| Op::Assigned {
                    group: world.group_of(client),
                    member,
                    partitions: added.iter().map(|tp| world.place_of(client, tp)).collect(),
                });
            }
            Heard::Revoking { drain, deadline, .. } => {
                assert!(deadline > process.clock.now(now).monotonic);
                if delay.is_multiple_of(2) {
                    self.commit(client, true);
                }
                let delay = if slow_drain { slow } else { delay };
                self.schedule(delay, Event::Drained { client, drain });
            }
            Heard::Revoked { partitions } => {
                for partition in &partitions {
                    process.reading.remove(partition);
                }
                self.record(client, |world| Op::Revoked {
                    group: world.group_of(client),
                    partitions: partitions.iter().map(|tp| world.place_of(client, tp)).collect(),
                });
            }
            Heard::Lost { partitions, cause } => {
                if cause == Cause::MissedGeneration {
                    self.coverage.check("generations missed");
                }
                let Some(process) = self.process(client) else { return };
                for partition in &partitions {
                    process.reading.remove(partition);
                }
                self.record(client, |world| Op::Lost {
                    group: world.group_of(client),
                    partitions: partitions.iter().map(|tp| world.place_of(client, tp)).collect(),
                });
            }
            Heard::CommitCompleted { commit, committed, failed } => {
                let asked = process.commits.remove(&commit);
                let asked = asked.expect("a commit completes once");
                for (partition, offset) in &committed {
                    assert_eq!(asked.get(partition), Some(offset), "S6: {partition} was not asked");
                    assert!(!failed.contains_key(partition), "done or failed, not both");
                }
            }
            Heard::Closed { .. } => {
                assert_eq!(process.commits.len(), 0, "a close completes every commit");
                self.bury(client);
            }
            Heard::Error(error) => {
                let foreseen = match error.kind {
                    // A successor, or its own late request, came in between.
                    ErrorKind::FencedInstance => process.instance.is_some(),
                    ErrorKind::GroupFull | ErrorKind::InconsistentProtocol => true,
                    ErrorKind::Misuse(_) | ErrorKind::UnknownTopic(_) => true,
                    // The group's record fits into no batch: an operator made that too small.
                    ErrorKind::Protocol => error.code == Some(ErrorCode::UnknownServerError),
                    _ => false,
                };
                assert!(foreseen, "client {client}: {error}");
                let is_fenced = error.kind == ErrorKind::FencedInstance;
                if error.is_fatal() {
                    self.bury(client);
                }
                if is_fenced {
                    self.check_fenced(client);
                }
            }
            Heard::PositionFound { partition, position } => {
                match process.current.get(&partition.topic) {
                    Some(id) => process.found_in.insert(partition.clone(), *id),
                    None => process.found_in.remove(&partition),
                };
                self.record_position(
                    client,
                    &partition,
                    position.offset,
                    because == Because::Listed,
                );
            }
            Heard::MetadataWanted { .. } => self.schedule(delay, Event::Refreshes { client }),
        }
    }

    pub(crate) fn drained(&mut self, client: usize, drain: DrainId) {
        self.tell(client, Input::Drained(drain));
    }

    /// The client hears what topics there are now.
    pub(crate) fn refresh(&mut self, client: usize) {
        let (metadata, version) = (self.topics.metadata(), self.topics.version);
        let Some(process) = self.process(client) else { return };
        process.seen_version = version;
        let is_new_life = |name: &ByteString| {
            let (known, new) = (process.ids.get(name), metadata.get(name));
            known.zip(new).is_some_and(|(known, new)| *known != new.id)
        };
        let told = process.told.partitions();
        let renamed: Vec<TopicPartition> =
            told.filter(|partition| is_new_life(&partition.topic)).cloned().collect();
        let member = process.assigned_as.clone();
        self.record_new_life(client, &renamed, None);
        let Some(process) = self.process(client) else { return };
        for (name, topic) in &metadata {
            let former = process.ids.insert(name.clone(), topic.id);
            if former.is_some_and(|former| former != topic.id) {
                // A new topic: its positions are looked up anew.
                process.reading.retain(|partition, _| partition.topic != *name);
            }
        }
        self.record_new_life(client, &renamed, member);
        if let Some(process) = self.process(client) {
            process.current =
                metadata.iter().map(|(name, topic)| (name.clone(), topic.id)).collect();
        }
        self.tell(client, Input::Metadata(metadata));
        self.check_positions_of(client);
    }

    /// S20: no position of a topic that is gone is one of its successor.
    fn check_positions_of(&mut self, client: usize) {
        let Some(process) = self.process(client) else { return };
        for (partition, found_in) in &process.found_in {
            let now = process.current.get(&partition.topic);
            assert!(
                now.is_none_or(|now| now == found_in)
                    || process.member.position(partition).is_none(),
                "S20: a position in {partition} outlives its topic"
            );
        }
    }

    /// To the history, partitions of a topic that was made anew are others: what a client owns is theirs once it knows. Told as the
    /// end of owning the former and, with the member that owns them, the beginning of owning the new ones.
    fn record_new_life(
        &mut self,
        client: usize,
        partitions: &[TopicPartition],
        member: Option<kavka_checker::Member>,
    ) {
        if partitions.is_empty() {
            return;
        }
        self.record(client, |world| {
            let group = world.group_of(client);
            let partitions = partitions.iter().map(|tp| world.place_of(client, tp)).collect();
            match member {
                None => Op::Revoked { group, partitions },
                Some(member) => Op::Assigned { group, member, partitions },
            }
        });
    }

    pub(crate) fn assign(&mut self, client: usize, task: &AssignTask) {
        let Some(process) = self.process(client) else { return };
        let version = process.seen_version;
        let group = self.clients[client].group;
        if version != self.topics.version {
            // Nobody assigns from metadata that does not know what members subscribe to.
            self.refresh(client);
        }
        let assignments = if self.plan.groups[group].dealt {
            self.deal(task)
        } else {
            assign_with(&task.assignor, &task.members, &self.topics.cluster())
        };
        let shape =
            |(name, topic): (ByteString, kavka_member::TopicMetadata)| (name, topic.shape());
        let topics = self.topics.metadata().into_iter().map(shape).collect();
        let generation = task.generation;
        self.tell(client, Input::Assigned { generation, assignments, topics });
    }

    /// Deals partitions round by member id, whoever had them before: cooperative members must survive it.
    fn deal(&self, task: &AssignTask) -> BTreeMap<ByteString, Assignment> {
        let mut members: Vec<_> = task.members.iter().collect();
        members.sort_by_key(|member| (member.instance_id.clone(), member.member_id.clone()));
        let mut assignments: BTreeMap<ByteString, Assignment> = BTreeMap::new();
        let wanted: BTreeSet<&ByteString> =
            members.iter().flat_map(|member| &member.subscription.topics).collect();
        for (turn, partition) in self.topics.partitions(wanted).into_iter().enumerate() {
            let takers: Vec<_> = members
                .iter()
                .filter(|member| member.subscription.topics.contains(&partition.topic))
                .collect();
            let taker = takers[turn % takers.len()];
            let share = assignments.entry(taker.member_id.clone()).or_default();
            share.partitions.insert(partition);
        }
        assignments
    }

    // ---- the application ----

    pub(crate) fn commit(&mut self, client: usize, sync: bool) {
        let odd = self.faulty(Fault::OddCommit);
        let patience = Duration::from_millis(self.plan.request_timeout * 3);
        let Some(process) = self.process(client) else { return };
        process.last_commit += 1;
        let commit = CommitId(process.last_commit);
        let positions: BTreeMap<TopicPartition, Position> = process
            .told
            .partitions()
            .filter_map(|tp| Some((tp.clone(), process.member.position(tp)?)))
            .collect();
        let wanted = positions.iter().map(|(tp, position)| (tp.clone(), position.offset)).collect();
        process.commits.insert(commit, wanted);
        let mode = if sync { CommitMode::Sync { timeout: patience } } else { CommitMode::Async };
        let offsets = odd.then(|| {
            let note = "a note that is longer than the coordinator takes, by quite a few letters";
            let row = |(tp, Position { offset, leader_epoch }): (_, Position)| {
                let metadata = Some(ByteString::from(note));
                (tp, CommitOffset { offset, leader_epoch, metadata })
            };
            positions.into_iter().map(row).collect()
        });
        self.tell(client, Input::Commit { commit, offsets, mode });
    }

    /// One turn of the application's loop.
    pub(crate) fn application(&mut self, client: usize) {
        let poll_every = self.plan.poll_every;
        let now = self.now;
        let Some(process) = self.process(client) else { return };
        if process.is_closing {
            return;
        }
        let hangs_until = process.hangs_until;
        if hangs_until > now {
            return self.schedule_at(hangs_until, Event::Goes { client });
        }
        self.schedule(poll_every, Event::Goes { client });
        self.tell(client, Input::Poll);
        let Some(process) = self.process(client) else { return };
        let fetchable: Vec<Fetchable> = process.member.fetchable().collect();
        let mut consumed = Vec::new();
        for found in fetchable {
            let reads = self.random.below(4);
            consumed.extend(self.read(client, found, reads));
        }
        if !consumed.is_empty() {
            self.tell(client, Input::Consumed(consumed));
        }
        match self.random.below(10) {
            0 => self.commit(client, true),
            1 => self.commit(client, false),
            _ => {}
        }
    }

    /// Fetches a few records and hands them to the application.
    fn read(&mut self, client: usize, found: Fetchable, reads: u64) -> Option<Consumed> {
        let Fetchable { partition, epoch, position } = found;
        let healed = self.healed;
        let (id, log) = self.topics.log(&partition)?;
        let leader_epoch = self.topics.get(&partition.topic).map_or(-1, |topic| topic.leader_epoch);
        let process = self.process(client)?;
        // Fetch names topics by id: one that is gone is not mistaken for its successor.
        if process.ids.get(&partition.topic) != Some(&id) {
            return None;
        }
        process.told.check_read(&partition);
        if position.offset < log.start || position.offset > log.end {
            process.told.may_be_reset(partition.clone());
            self.tell(client, Input::OutOfRange { partition, epoch });
            return None;
        }
        // When the faults are over there is an end to it: a few records a poll may be slower than what was written before.
        let reads = if healed { i64::MAX } else { reads.cast_signed() };
        let next_offset = position.offset.saturating_add(reads).min(log.end);
        if let Some((of, next)) = process.reading.insert(partition.clone(), (epoch, next_offset)) {
            assert!(of != epoch || next == position.offset, "S29: from {next} to {position}");
        }
        if next_offset == position.offset {
            return None;
        }
        self.delivered(client, &partition, id, position.offset, next_offset);
        self.record_poll(client, &partition, id, position.offset, next_offset);
        Some(Consumed { partition, epoch, next_offset, leader_epoch })
    }

    pub(crate) fn seek(&mut self, client: usize) {
        let back = self.random.below(10).cast_signed();
        let how = self.random.below(3);
        let Some(process) = self.process(client) else { return };
        let Some(partition) = process.told.partitions().next().cloned() else { return };
        let target = match (how, process.member.position(&partition)) {
            (0, _) | (_, None) => {
                process.told.may_be_reset(partition.clone());
                OffsetTarget::Earliest
            }
            (_, Some(position)) => {
                let offset = (position.offset - back).max(0);
                OffsetTarget::At(Position { offset, ..position })
            }
        };
        process.reading.remove(&partition);
        let offset = match target {
            OffsetTarget::At(position) => position.offset,
            _ => 0,
        };
        self.record(client, |world| {
            let partition = world.place_of(client, &partition);
            Op::Seek { partition, offset }
        });
        self.tell(client, Input::Seek { partition, target });
    }
}

pub(crate) fn instance_name(group: usize, number: usize) -> ByteString {
    format!("instance-{group}-{number}").into()
}

/// What one of Kavka's assignors makes of the members' own bytes. Who cannot be read gets nothing.
pub(crate) fn assign_with(
    assignor: &str,
    members: &[kavka_member::GroupMember],
    cluster: &kavka_assignor::Cluster,
) -> BTreeMap<ByteString, Assignment> {
    let readable = members.iter().filter(|member| Subscription::decode(&member.metadata).is_ok());
    let joined: Vec<JoinGroupResponseMember> = readable
        .map(|member| JoinGroupResponseMember {
            member_id: member.member_id.clone(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata.clone(),
            ..Default::default()
        })
        .collect();
    let assignor = kavka_assignor::by_name(assignor).expect("an assignor of Kavka's");
    // What is given away too early is held back by the member itself: that round is corrected, not failed.
    let protocol = kavka_assignor::RebalanceProtocol::Eager;
    let led = JoinedMembers::read(&joined)
        .and_then(|members| members.assign(&*assignor, protocol, cluster))
        .expect("an assignment");
    let share = |row: kavka_protocol::messages::sync_group_request::SyncGroupRequestAssignment| {
        (row.member_id, Assignment::decode(&row.assignment).expect("an assignment"))
    };
    led.assignments.into_iter().map(share).collect()
}
