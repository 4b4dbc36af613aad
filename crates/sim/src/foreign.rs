//! Clients of other make, by script: they join, sync, heartbeat, read and commit as consumers do, each with a habit of its own
//! that was seen in the wild. When the faults stop they behave.

use std::collections::{BTreeMap, BTreeSet};

use kavka_coordinator::group::{
    self, CommitPartition, CommitRequest, CommitTopic, ConnectionId, FetchRequest, FetchTopic,
    HeartbeatRequest, JoinReply, JoinRequest, LeaveRequest, LeavingMember, Reply, Request,
    SyncReply, SyncRequest,
};
use kavka_member::{Assignment, GroupMember, Subscription, TopicPartition};
use kavka_protocol::{ByteString, ErrorCode, Uuid};

use crate::{
    plan::Fault,
    process::assign_with,
    world::{Client, Event, Kind, World},
};

#[derive(Debug)]
pub(crate) struct Foreign {
    pub(crate) quirk: Fault,
    pub(crate) instance: Option<ByteString>,
    pub(crate) member_id: ByteString,
    pub(crate) generation: i32,
    pub(crate) does: Does,
    pub(crate) owned: BTreeSet<TopicPartition>,
    /// Where it reads next, and in which topic.
    positions: BTreeMap<TopicPartition, (Uuid, i64)>,
    /// What each request was, until it is answered.
    asked: BTreeMap<u64, (Asked, u64)>,
    last_tag: u64,
    /// Since when it waits.
    since: u64,
    /// As the leader: what the topics were like when it assigned.
    assigned: Option<u64>,
    /// It has joined before.
    rejoins: bool,
    /// It joined without saying what it wants.
    pub(crate) is_silent: bool,
    /// It is to forget the next id it is given.
    pub(crate) forgets: bool,
    protocol: ByteString,
}

/// The group of those that are no consumers.
pub(crate) const WORKERS: &str = "workers";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    Nothing,
    Joins,
    Syncs,
    /// It has its share.
    Reads,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Join,
    Sync,
    Heartbeat,
    Fetch,
    Other,
}

impl World {
    pub(crate) fn start_foreign(&mut self, group: usize, quirk: Fault) -> usize {
        let cooperative = self.plan.groups[group].cooperative;
        let named = matches!(quirk, Fault::LeavesByName | Fault::FormerId)
            || (quirk == Fault::Abandons && self.random.below(2) == 0);
        let instance =
            named.then(|| ByteString::from(format!("foreign-{group}-{}", self.clients.len())));
        let foreign = Foreign {
            quirk,
            instance,
            member_id: ByteString::new(),
            generation: -1,
            does: Does::Nothing,
            owned: BTreeSet::new(),
            positions: BTreeMap::new(),
            asked: BTreeMap::new(),
            last_tag: 0,
            since: 0,
            assigned: None,
            rejoins: false,
            is_silent: false,
            forgets: false,
            protocol: match quirk {
                Fault::OtherKind => "default",
                _ if cooperative => "cooperative-sticky",
                _ => "range",
            }
            .into(),
        };
        let client = self.add_client(group, Kind::Foreign(Box::new(foreign)));
        self.note(|_| format!("client {client} starts, foreign to group {group}: {quirk}"));
        let after = self.random.below(self.plan.session) + 1;
        self.schedule(after, Event::Goes { client });
        client
    }

    pub(crate) fn foreign(&mut self, client: usize) -> Option<&mut Foreign> {
        match &mut self.clients[client] {
            Client { is_alive: true, kind: Kind::Foreign(foreign), .. } => Some(foreign),
            _ => None,
        }
    }

    /// The group that it is in.
    fn foreign_group(&self, client: usize) -> ByteString {
        match &self.clients[client].kind {
            Kind::Foreign(foreign) if foreign.quirk == Fault::OtherKind => WORKERS.into(),
            _ => self.groups[self.clients[client].group].id.clone(),
        }
    }

    fn ask(&mut self, client: usize, asked: Asked, mut request: Request) {
        let group = self.foreign_group(client);
        let Some(node) = self.coordinator_of(&group) else { return };
        let now = self.now;
        if let Request::Join(join) = &mut request {
            let next = self.connections.len();
            let connection = self.clients[client].connections.get(&node).copied().unwrap_or(next);
            join.connection = Some(ConnectionId(connection as u64 + 1));
        }
        let Some(foreign) = self.foreign(client) else { return };
        foreign.last_tag += 1;
        let tag = foreign.last_tag;
        foreign.asked.insert(tag, (asked, now));
        self.note(|_| format!("client {client} asks {request:?}"));
        self.send(client, node, tag, request);
        let abandons = self.foreign(client).is_some_and(|f| f.quirk == Fault::Abandons);
        if abandons && !self.healed && self.random.below(6) == 0 {
            self.landed(Fault::Abandons);
            self.give_up_requests(client);
        }
    }

    /// It waits for nothing any more, and will use new connections.
    fn give_up_requests(&mut self, client: usize) {
        self.disconnect_all(client);
        let Some(foreign) = self.foreign(client) else { return };
        foreign.asked.clear();
        if foreign.does != Does::Reads {
            foreign.does = Does::Nothing;
        }
    }

    /// One turn of its loop.
    pub(crate) fn foreign_goes(&mut self, client: usize) {
        let (now, session) = (self.now, self.plan.session);
        let patience = self.plan.rebalance + 5_000;
        let late = self.random.below(session * 5 / 4);
        let healed = self.healed;
        let Some(foreign) = self.foreign(client) else { return };
        let is_late = foreign.quirk == Fault::LateHeartbeats && !healed;
        let pause = if is_late && foreign.does == Does::Reads { late } else { session / 5 };
        let (does, since) = (foreign.does, foreign.since);
        self.schedule(pause + 1, Event::Goes { client });
        if is_late && does == Does::Reads && late > session / 2 {
            self.landed(Fault::LateHeartbeats);
        }
        if self.foreign(client).is_some_and(|foreign| foreign.quirk == Fault::Garbage) && !healed {
            return self.talk_garbage(client);
        }
        self.time_out(client);
        match does {
            Does::Nothing => self.foreign_joins(client),
            Does::Joins | Does::Syncs if now > since + patience => {
                self.give_up_requests(client);
                self.foreign_joins(client);
            }
            Does::Joins | Does::Syncs => {}
            Does::Reads if self.leads_other_topics(client) => self.foreign_joins(client),
            Does::Reads => {
                self.foreign_heartbeats(client);
                self.foreign_reads(client);
                let leaves = self
                    .foreign(client)
                    .is_some_and(|foreign| foreign.quirk == Fault::LeavesByName);
                if leaves && !healed && self.random.below(20) == 0 {
                    self.foreign_leaves_by_name(client);
                }
                let forgets =
                    self.foreign(client).is_some_and(|foreign| foreign.quirk == Fault::FormerId);
                if forgets && !healed && self.random.below(6) == 0 {
                    self.foreign_loses_its_new_id(client);
                }
            }
        }
    }

    /// A connection over which nothing comes back is given up, early enough to be heard of over another one within the session.
    fn time_out(&mut self, client: usize) {
        let (now, timeout) = (self.now, self.plan.request_timeout.min(self.plan.session / 2));
        let Some(foreign) = self.foreign(client) else { return };
        let late = |(asked, at): &(Asked, u64)| {
            !matches!(asked, Asked::Join | Asked::Sync) && at + timeout < now
        };
        if foreign.asked.values().any(late) {
            self.give_up_requests(client);
        }
    }

    /// As every leader it watches the topics that it has assigned.
    fn leads_other_topics(&mut self, client: usize) -> bool {
        let version = self.topics.version;
        let Some(foreign) = self.foreign(client) else { return false };
        foreign.assigned.is_some_and(|assigned| assigned != version)
    }

    fn foreign_heartbeats(&mut self, client: usize) {
        let group = self.foreign_group(client);
        let Some(foreign) = self.foreign(client) else { return };
        let request = Request::Heartbeat(HeartbeatRequest {
            group,
            generation: foreign.generation,
            member_id: foreign.member_id.clone(),
            instance_id: foreign.instance.clone(),
        });
        self.ask(client, Asked::Heartbeat, request);
    }

    fn foreign_leaves_by_name(&mut self, client: usize) {
        let group = self.foreign_group(client);
        let Some(foreign) = self.foreign(client) else { return };
        let instance_id = foreign.instance.clone();
        let leaving = LeavingMember { member_id: ByteString::new(), instance_id, reason: None };
        self.landed(Fault::LeavesByName);
        let request = Request::Leave(LeaveRequest { group, members: vec![leaving] });
        self.ask(client, Asked::Other, request);
        let Some(foreign) = self.foreign(client) else { return };
        foreign.forget();
        foreign.member_id = ByteString::new();
    }

    /// It asks for its place without its id, and never hears which one it has now; then it asks under the former one.
    fn foreign_loses_its_new_id(&mut self, client: usize) {
        let Some(foreign) = self.foreign(client) else { return };
        let former = std::mem::take(&mut foreign.member_id);
        self.landed(Fault::FormerId);
        self.foreign_joins(client);
        self.give_up_requests(client);
        if let Some(foreign) = self.foreign(client) {
            foreign.member_id = former;
            self.foreign_joins(client);
        }
    }

    /// With a note that is too long: it is refused in any case, and with what code is the question.
    fn commit_too_early(&mut self, client: usize) {
        let group = self.foreign_group(client);
        let Some(name) = self.topics.names().next().cloned() else { return };
        self.landed(Fault::PrematureCommit);
        let Some(foreign) = self.foreign(client) else { return };
        let partition = CommitPartition {
            partition: 0,
            offset: 0,
            leader_epoch: -1,
            metadata: Some("n".repeat(65).into()),
        };
        let request = CommitRequest {
            group,
            generation: foreign.generation,
            member_id: foreign.member_id.clone(),
            instance_id: foreign.instance.clone(),
            retention_time_ms: None,
            topics: vec![CommitTopic { name, topic_id: Uuid::ZERO, partitions: vec![partition] }],
        };
        self.ask(client, Asked::Other, Request::CommitOffsets(request));
    }

    fn foreign_joins(&mut self, client: usize) {
        let (session, rebalance) = (millis(self.plan.session), millis(self.plan.rebalance));
        let (now, healed) = (self.now, self.healed);
        let name = self.clients[client].name.clone();
        let group = &self.groups[self.clients[client].group];
        let (id, topics) = (self.foreign_group(client), group.topics.clone());
        let dropped = self.random.below(3) == 0;
        let Some(foreign) = self.foreign(client) else { return };
        if foreign.protocol == "range" {
            foreign.give_up_all();
        }
        foreign.does = Does::Joins;
        foreign.since = now;
        let old = foreign.quirk == Fault::OldVersion && !healed;
        let silent = foreign.quirk == Fault::NoMetadata && foreign.rejoins && !healed && dropped;
        if silent {
            // It claims nothing, so it may keep nothing.
            foreign.give_up_all();
        }
        let subscription = Subscription {
            topics,
            owned: foreign.owned.clone(),
            generation: foreign.generation,
            ..Subscription::default()
        };
        let other = foreign.quirk == Fault::OtherKind;
        let metadata = match (other, silent) {
            (true, _) => bytes::Bytes::from_static(b"!"),
            (_, true) => bytes::Bytes::new(),
            _ => subscription.encode(),
        };
        let request = Request::Join(JoinRequest {
            group: id,
            member_id: foreign.member_id.clone(),
            instance_id: foreign.instance.clone(),
            client_id: name.client_id,
            client_host: name.host,
            connection: None,
            session_timeout_ms: session,
            rebalance_timeout_ms: if old { -1 } else { rebalance },
            protocol_type: if other { "connect" } else { "consumer" }.into(),
            protocols: vec![(foreign.protocol.clone(), metadata)],
            requires_known_member_id: !old,
            supports_skip_assignment: false,
            reason: None,
        });
        foreign.rejoins = true;
        foreign.is_silent = silent;
        if old {
            self.landed(Fault::OldVersion);
        }
        if silent {
            self.landed(Fault::NoMetadata);
        }
        if other {
            self.landed(Fault::OtherKind);
        }
        self.ask(client, Asked::Join, request);
    }

    pub(crate) fn foreign_hears(&mut self, client: usize, tag: u64, reply: Reply) {
        self.record_reply(client, tag, &reply);
        let Some(foreign) = self.foreign(client) else { return };
        let Some((asked, _)) = foreign.asked.remove(&tag) else { return };
        match (asked, reply) {
            (Asked::Join, Reply::Join(join)) if foreign.does == Does::Joins => {
                self.foreign_joined(client, join);
            }
            (Asked::Sync, Reply::Sync(sync)) if foreign.does == Does::Syncs => {
                self.foreign_synced(client, &sync);
            }
            (Asked::Heartbeat, Reply::Heartbeat(code))
                if foreign.does == Does::Reads && code != ErrorCode::None =>
            {
                self.foreign_refused(client, code);
                self.foreign_joins_again(client, code);
            }
            (Asked::Fetch, Reply::FetchOffsets(fetch)) => self.foreign_starts(client, &fetch),
            _ => {}
        }
    }

    fn foreign_joins_again(&mut self, client: usize, code: ErrorCode) {
        if code == ErrorCode::RebalanceInProgress && self.foreign(client).is_some() {
            self.foreign_joins(client);
        }
    }

    pub(crate) fn foreign_fails(&mut self, client: usize, tag: u64) {
        let Some(foreign) = self.foreign(client) else { return };
        let Some((asked, _)) = foreign.asked.remove(&tag) else { return };
        if matches!(asked, Asked::Join | Asked::Sync) && foreign.does != Does::Reads {
            foreign.does = Does::Nothing;
            let retries = foreign.quirk == Fault::HandshakeRetry;
            if retries && asked == Asked::Join && !self.healed {
                // It has lost the answer, and takes it that there was none.
                if let Some(foreign) = self.foreign(client) {
                    foreign.member_id = ByteString::new();
                    foreign.give_up_all();
                    foreign.generation = -1;
                }
                self.landed(Fault::HandshakeRetry);
            }
        }
    }

    fn foreign_joined(&mut self, client: usize, join: JoinReply) {
        let (abandons, healed) = (self.random.below(2) == 0, self.healed);
        let (cluster, version) = (self.topics.cluster(), self.topics.version);
        let group = self.foreign_group(client);
        let now = self.now;
        let Some(foreign) = self.foreign(client) else { return };
        foreign.does = Does::Nothing;
        if join.error == ErrorCode::MemberIdRequired {
            let quirk = foreign.quirk;
            let is_forgetful = matches!(quirk, Fault::TwoHandshakes | Fault::HandshakeRetry);
            let forgets = is_forgetful && abandons && !healed || foreign.forgets;
            foreign.forgets = false;
            if forgets {
                self.landed(quirk);
                self.disconnect_all(client);
            } else {
                foreign.member_id = join.member_id;
            }
            return self.foreign_joins(client);
        }
        if join.error != ErrorCode::None {
            return self.foreign_refused(client, join.error);
        }
        if join.generation != foreign.generation + 1 && join.generation != foreign.generation {
            // It has missed a generation.
            foreign.give_up_all();
        }
        foreign.member_id = join.member_id;
        foreign.generation = join.generation;
        foreign.does = Does::Syncs;
        foreign.since = now;
        let leads = join.leader == foreign.member_id && !join.skip_assignment;
        foreign.assigned = leads.then_some(version);
        if foreign.quirk == Fault::PrematureCommit && !healed {
            self.commit_too_early(client);
        }
        let Some(foreign) = self.foreign(client) else { return };
        let assignments = if leads && foreign.quirk == Fault::OtherKind {
            let share =
                |member: group::JoinedMember| (member.member_id, bytes::Bytes::from_static(b"?"));
            join.members.into_iter().map(share).collect()
        } else if leads {
            let members: Vec<GroupMember> = join
                .members
                .into_iter()
                .map(|member| GroupMember {
                    member_id: member.member_id,
                    instance_id: member.instance_id,
                    subscription: Subscription::decode(&member.metadata).unwrap_or_default(),
                    metadata: member.metadata,
                })
                .collect();
            let mut shares = assign_with(&foreign.protocol, &members, &cluster);
            if foreign.protocol != "range" {
                hold_back(&mut shares, &members);
            }
            shares.into_iter().map(|(member, share)| (member, share.encode())).collect()
        } else {
            Vec::new()
        };
        let request = Request::Sync(SyncRequest {
            group,
            generation: foreign.generation,
            member_id: foreign.member_id.clone(),
            instance_id: foreign.instance.clone(),
            protocol_type: None,
            protocol_name: None,
            assignments,
        });
        self.ask(client, Asked::Sync, request);
    }

    fn foreign_synced(&mut self, client: usize, sync: &SyncReply) {
        let group = self.foreign_group(client);
        if sync.error != ErrorCode::None {
            if let Some(foreign) = self.foreign(client) {
                foreign.does = Does::Nothing;
            }
            self.foreign_refused(client, sync.error);
            return self.foreign_joins_again(client, sync.error);
        }
        let Some(foreign) = self.foreign(client) else { return };
        let share = Assignment::decode(&sync.assignment).unwrap_or_default().partitions;
        let revoked = foreign.owned.difference(&share).count();
        let added: Vec<TopicPartition> = share.difference(&foreign.owned).cloned().collect();
        foreign.positions.retain(|partition, _| share.contains(partition));
        foreign.owned = share;
        foreign.does = Does::Reads;
        if revoked > 0 {
            return self.foreign_joins(client);
        }
        let topic = |partition: TopicPartition| FetchTopic {
            name: partition.topic,
            topic_id: Uuid::ZERO,
            partitions: vec![partition.partition],
        };
        let topics: Vec<FetchTopic> = added.into_iter().map(topic).collect();
        if !topics.is_empty() {
            let topics = topics
                .into_iter()
                .map(|topic| {
                    let topic_id = self.topics.get(&topic.name).map_or(Uuid::ZERO, |t| t.id);
                    FetchTopic { topic_id, ..topic }
                })
                .collect();
            let request = FetchRequest { group, topics: Some(topics), require_stable: true };
            self.ask(client, Asked::Fetch, Request::FetchOffsets(request));
        }
    }

    fn foreign_starts(&mut self, client: usize, fetch: &group::FetchReply) {
        if fetch.error != ErrorCode::None {
            return;
        }
        for topic in &fetch.topics {
            for row in topic.partitions.iter().filter(|row| row.error == ErrorCode::None) {
                let partition = TopicPartition::new(topic.name.clone(), row.partition);
                let Some((id, log)) = self.topics.log(&partition) else { continue };
                if id != topic.topic_id {
                    continue;
                }
                let at = if row.offset < log.start { log.start } else { row.offset };
                let Some(foreign) = self.foreign(client) else { return };
                if foreign.owned.contains(&partition) && at <= log.end {
                    foreign.positions.entry(partition).or_insert((id, at));
                }
            }
        }
    }

    /// Reads a little of everything, and commits now and then.
    fn foreign_reads(&mut self, client: usize) {
        let Some(foreign) = self.foreign(client) else { return };
        if foreign.does != Does::Reads {
            return;
        }
        let missing = foreign.owned.iter().any(|tp| !foreign.positions.contains_key(tp));
        let positions = foreign.positions.clone();
        let mut read = BTreeMap::new();
        for (partition, (of, at)) in positions {
            let Some((id, log)) = self.topics.log(&partition) else { continue };
            let next = (at + 1_000).min(log.end).max(at);
            if of != id || at < log.start || at > log.end {
                if let Some(foreign) = self.foreign(client) {
                    foreign.positions.insert(partition, (id, log.start));
                }
                continue;
            }
            if next > at {
                self.delivered(client, &partition, id, at, next);
                self.record_poll(client, &partition, id, at, next);
            }
            read.insert(partition, (id, next));
        }
        let commits = self.random.below(3) == 0 || missing;
        let group = self.foreign_group(client);
        let Some(foreign) = self.foreign(client) else { return };
        foreign.positions.extend(read.clone());
        if commits && !read.is_empty() {
            let row =
                |(partition, (topic_id, offset)): (TopicPartition, (Uuid, i64))| CommitTopic {
                    name: partition.topic,
                    topic_id,
                    partitions: vec![CommitPartition {
                        partition: partition.partition,
                        offset,
                        leader_epoch: -1,
                        metadata: None,
                    }],
                };
            let request = CommitRequest {
                group: group.clone(),
                generation: foreign.generation,
                member_id: foreign.member_id.clone(),
                instance_id: foreign.instance.clone(),
                retention_time_ms: None,
                topics: read.into_iter().map(row).collect(),
            };
            self.ask(client, Asked::Other, Request::CommitOffsets(request));
        }
        if missing {
            self.foreign_asks_for_offsets(client, group);
        }
    }

    fn foreign_asks_for_offsets(&mut self, client: usize, group: ByteString) {
        let Some(foreign) = self.foreign(client) else { return };
        if foreign.asked.values().any(|(asked, _)| *asked == Asked::Fetch) {
            return;
        }
        let unknown = foreign.owned.iter().filter(|tp| !foreign.positions.contains_key(*tp));
        let unknown: Vec<TopicPartition> = unknown.cloned().collect();
        let topics = unknown.into_iter().filter_map(|partition| {
            let topic_id = self.topics.get(&partition.topic)?.id;
            let partitions = vec![partition.partition];
            Some(FetchTopic { name: partition.topic, topic_id, partitions })
        });
        let topics = Some(topics.collect());
        let request = FetchRequest { group, topics, require_stable: true };
        self.ask(client, Asked::Fetch, Request::FetchOffsets(request));
    }

    /// What it makes of an error, as most clients do.
    fn foreign_refused(&mut self, client: usize, code: ErrorCode) {
        let Some(foreign) = self.foreign(client) else { return };
        match code {
            ErrorCode::RebalanceInProgress => foreign.does = Does::Nothing,
            ErrorCode::UnknownMemberId => {
                foreign.forget();
                foreign.member_id = ByteString::new();
            }
            ErrorCode::IllegalGeneration => foreign.forget(),
            ErrorCode::FencedInstanceId => {
                self.bury(client);
                self.check_fenced(client);
            }
            ErrorCode::GroupMaxSizeReached | ErrorCode::InconsistentGroupProtocol => {
                self.bury(client);
            }
            ErrorCode::CoordinatorLoadInProgress => {}
            _ => {
                let keeps = foreign.does == Does::Reads;
                self.disconnect_all(client);
                if let Some(foreign) = self.foreign(client)
                    && !keeps
                {
                    foreign.does = Does::Nothing;
                }
            }
        }
    }

    /// Requests that no client should send.
    fn talk_garbage(&mut self, client: usize) {
        self.landed(Fault::Garbage);
        let group = self.foreign_group(client);
        let others: Vec<(ByteString, i32)> = self
            .alive
            .iter()
            .filter_map(|other| match &self.clients[*other].kind {
                Kind::Ours(process) => {
                    Some((process.member.member_id().clone(), process.member.generation()))
                }
                _ => None,
            })
            .collect();
        let (stolen, generation) = if others.is_empty() {
            (ByteString::new(), 0)
        } else {
            self.random.pick(&others).clone()
        };
        let member_id: ByteString = match self.random.below(4) {
            0 => ByteString::new(),
            1 => "nobody".into(),
            // Not that of a member that lives: it would be taken for it, and rightly so.
            _ => format!("{stolen}x").into(),
        };
        let of_stolen = generation;
        let generation = generation + i32::try_from(self.random.below(3)).unwrap_or(0) - 1;
        let group_id = match self.random.below(8) {
            0 => ByteString::new(),
            1 => "no-such-group".into(),
            _ => group,
        };
        let instance_id = (self.random.below(3) == 0).then(|| "instance-0-0".into());
        let name = self.clients[client].name.clone();
        let request = match self.random.below(7) {
            0 => Request::Heartbeat(HeartbeatRequest {
                group: group_id,
                generation,
                // Of a living one, in a generation that it is not in.
                member_id: if generation != of_stolen { stolen } else { member_id },
                instance_id,
            }),
            1 => Request::Sync(SyncRequest {
                group: group_id,
                generation: if self.random.below(2) == 0 { generation } else { generation - 1 },
                member_id: stolen,
                instance_id,
                protocol_type: Some("consumer".into()),
                protocol_name: Some("no-such-protocol".into()),
                assignments: Vec::new(),
            }),
            2 => Request::Leave(LeaveRequest {
                group: group_id,
                members: vec![
                    LeavingMember { member_id, instance_id, reason: None },
                    LeavingMember { member_id: "nobody".into(), instance_id: None, reason: None },
                ],
            }),
            3 => {
                let partition = |partition| CommitPartition {
                    partition,
                    offset: 0,
                    leader_epoch: -1,
                    metadata: None,
                };
                let topic = |name: &ByteString| CommitTopic {
                    name: name.clone(),
                    topic_id: Uuid::ZERO,
                    partitions: vec![partition(0)],
                };
                Request::CommitOffsets(CommitRequest {
                    group: group_id,
                    generation: generation.max(0),
                    member_id,
                    instance_id,
                    retention_time_ms: None,
                    topics: self.topics.names().map(topic).collect(),
                })
            }
            4 => Request::DeleteOffsets(group::DeleteOffsetsRequest {
                group: ByteString::new(),
                topics: Vec::new(),
            }),
            _ => Request::Join(JoinRequest {
                // A group that no consumers are in may be of another kind.
                protocol_type: if group_id == "no-such-group" { "connect" } else { "consumer" }
                    .into(),
                requires_known_member_id: group_id != "no-such-group",
                group: group_id,
                member_id,
                instance_id,
                // Some are too long for the id that would be made of them.
                client_id: if self.random.below(8) == 0 {
                    "c".repeat(32_760).into()
                } else {
                    name.client_id
                },
                client_host: name.host,
                connection: None,
                session_timeout_ms: if self.random.below(3) == 0 {
                    1
                } else {
                    millis(self.plan.session)
                },
                rebalance_timeout_ms: millis(self.plan.rebalance),
                protocols: if self.random.below(3) == 0 {
                    Vec::new()
                } else {
                    vec![("no-such-protocol".into(), bytes::Bytes::new())]
                },
                supports_skip_assignment: true,
                reason: Some("why not".into()),
            }),
        };
        self.ask(client, Asked::Other, request);
    }
}

impl Foreign {
    /// The assignment is its work.
    pub(crate) fn leads(&self) -> bool {
        self.assigned.is_some()
    }

    fn give_up_all(&mut self) {
        self.owned.clear();
        self.positions.clear();
    }

    fn forget(&mut self) {
        self.give_up_all();
        self.generation = -1;
        self.does = Does::Nothing;
    }
}

/// A partition that someone claims goes to nobody else in this round.
fn hold_back(shares: &mut BTreeMap<ByteString, Assignment>, members: &[GroupMember]) {
    for (to, share) in shares {
        share.partitions.retain(|partition| {
            let claims = |member: &&GroupMember| member.subscription.owned.contains(partition);
            members.iter().filter(claims).all(|member| member.member_id == *to)
        });
    }
}

fn millis(ms: u64) -> i32 {
    i32::try_from(ms).unwrap_or(i32::MAX)
}
