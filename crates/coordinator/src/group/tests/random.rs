//! Random walks: members that do what clients do, and much that clients should not do, in any order.
//!
//! Each case is a list of steps over six clients in three groups, dynamic and static, old and new. After each step the
//! [invariants](super::invariants) are checked and the log is replayed. At the end everybody falls silent, and nothing may be
//! left: no request without an answer, no member, no timer, and after the retention no group and no offset.
//!
//! `PROPTEST_CASES` says how many walks; a failing one is shrunk and printed.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use kavka_protocol::{ByteString, ErrorCode, Uuid};
use proptest::{prelude::*, sample::Index, strategy::ValueTree, test_runner::TestRunner};

use super::{
    context::*,
    loading::{stored_group, stored_member},
};
use crate::group::*;

const GROUPS: [&str; 3] = ["g", "h", ""];
const TOPICS: [&str; 3] = ["t", "u", "v"];
const CLIENTS: usize = 6;

/// One step of a walk. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    /// A client does what comes next for it.
    GoOn(usize),
    /// Some of them do so every second, for some seconds; the others are silent.
    Live {
        silent: usize,
        seconds: u64,
    },
    /// A client joins, whatever it is doing.
    Join {
        client: usize,
        id: Id,
        protocols: usize,
        timeout: usize,
    },
    Sync {
        client: usize,
        id: Id,
        generation: i32,
        protocol: Option<bool>,
    },
    Heartbeat {
        client: usize,
        id: Id,
        generation: i32,
    },
    Leave {
        clients: Vec<(usize, Id)>,
        by_name: bool,
    },
    Commit(Commit),
    Fetch {
        group: usize,
        require_stable: bool,
        all: bool,
    },
    DeleteOffsets {
        group: usize,
        topic: usize,
    },
    DeleteGroups(Vec<usize>),
    Look,
    TopicDeleted {
        topic: usize,
        id: u8,
    },
    /// The connection of a client closes.
    Disconnect(usize),
    Sleep(usize),
    /// The wall clock jumps by days: offsets grow old at once, sessions do not.
    Age(i64),
    /// The shard moves away and comes back.
    Move,
    /// The broker is killed: what nobody was told may be lost.
    Crash(Index),
    /// A commit or a deletion of groups whose append fails, after so many batches.
    FailedAppend {
        batches: usize,
        commit: Option<Commit>,
    },
    MaxSize(usize),
    TransactionalOffset {
        producer: i64,
        group: usize,
        offset: i64,
    },
    EndTransaction {
        producer: i64,
        committed: bool,
    },
}

#[derive(Clone, Debug)]
struct Commit {
    client: usize,
    id: Id,
    generation: i32,
    topic: usize,
    partitions: usize,
    offset: i64,
    long_note: bool,
    retention_ms: Option<i64>,
}

/// Which member id a request carries.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Id {
    Own,
    None,
    Unknown,
    /// That of the next client.
    OfAnother,
}

fn an_id() -> impl Strategy<Value = Id> {
    prop_oneof![
        6 => Just(Id::Own),
        1 => Just(Id::None),
        1 => Just(Id::Unknown),
        1 => Just(Id::OfAnother),
    ]
}

/// Most clients say what the others say.
fn a_protocol_list() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0), 2 => Just(1), 1 => Just(2), 1 => Just(3)]
}

/// What is added to the generation that the client knows.
fn a_generation() -> impl Strategy<Value = i32> {
    prop_oneof![6 => Just(0), 1 => Just(-1), 1 => Just(1), 1 => Just(i32::MIN)]
}

fn a_client() -> impl Strategy<Value = usize> {
    0..CLIENTS
}

fn a_commit() -> impl Strategy<Value = Commit> {
    (
        (a_client(), an_id(), a_generation()),
        (0..TOPICS.len(), 1..4_usize, 0..100_i64, prop::bool::weighted(0.1)),
        prop::option::weighted(0.1, prop_oneof![Just(-1), Just(50_000), Just(10_000_000_000)]),
    )
        .prop_map(
            |((client, id, generation), (topic, partitions, offset, long_note), retention)| {
                let retention_ms = retention;
                Commit {
                    client,
                    id,
                    generation,
                    topic,
                    partitions,
                    offset,
                    long_note,
                    retention_ms,
                }
            },
        )
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => a_client().prop_map(Step::GoOn),
        25 => (0..2 * CLIENTS, 1..9_u64)
            .prop_map(|(silent, seconds)| Step::Live { silent, seconds }),
        6 => (a_client(), an_id(), a_protocol_list(), 0..3_usize).prop_map(
            |(client, id, protocols, timeout)| Step::Join { client, id, protocols, timeout }
        ),
        4 => (a_client(), an_id(), a_generation(), prop::option::weighted(0.3, any::<bool>()))
            .prop_map(|(client, id, generation, protocol)| {
                Step::Sync { client, id, generation, protocol }
            }),
        4 => (a_client(), an_id(), a_generation())
            .prop_map(|(client, id, generation)| Step::Heartbeat { client, id, generation }),
        3 => (prop::collection::vec((a_client(), an_id()), 1..3), any::<bool>())
            .prop_map(|(clients, by_name)| Step::Leave { clients, by_name }),
        10 => a_commit().prop_map(Step::Commit),
        2 => (0..GROUPS.len(), any::<bool>(), any::<bool>()).prop_map(
            |(group, require_stable, all)| Step::Fetch { group, require_stable, all }
        ),
        1 => (0..GROUPS.len(), 0..TOPICS.len())
            .prop_map(|(group, topic)| Step::DeleteOffsets { group, topic }),
        2 => prop::collection::vec(0..GROUPS.len(), 1..4).prop_map(Step::DeleteGroups),
        1 => Just(Step::Look),
        1 => (0..TOPICS.len(), 0..2_u8).prop_map(|(topic, id)| Step::TopicDeleted { topic, id }),
        2 => a_client().prop_map(Step::Disconnect),
        8 => prop_oneof![3 => 0..4_usize, 2 => 4..SLEEPS.len()].prop_map(Step::Sleep),
        2 => (-1..9_i64).prop_map(Step::Age),
        2 => Just(Step::Move),
        3 => any::<Index>().prop_map(Step::Crash),
        2 => (0..3_usize, prop::option::of(a_commit()))
            .prop_map(|(batches, commit)| Step::FailedAppend { batches, commit }),
        1 => (2..5_usize).prop_map(Step::MaxSize),
        2 => (0..3_i64, 0..GROUPS.len(), 0..100_i64).prop_map(|(producer, group, offset)| {
            Step::TransactionalOffset { producer, group, offset }
        }),
        2 => (0..3_i64, any::<bool>())
            .prop_map(|(producer, committed)| Step::EndTransaction { producer, committed }),
    ]
}

/// Times after which something happens: a pending id gives way, the initial delay ends, a session, a rebalance, the search for
/// expired offsets.
const SLEEPS: [u64; 7] = [1, 100, 500, 3_000, 9_999, 30_000, 600_000];

const DAY_MS: i64 = 24 * 3_600_000;

/// A client, and what it knows.
struct Client {
    group: ByteString,
    request: JoinRequest,
    member_id: ByteString,
    generation: i32,
    /// The members, if it leads.
    members: Vec<ByteString>,
    does: Does,
}

enum Does {
    Nothing,
    Joins(RequestId),
    HasJoined,
    Syncs(RequestId),
    HasItsShare,
}

struct World {
    ctx: Context,
    clients: Vec<Client>,
    /// How much of the log is known to be durable, because someone was told something that stands on it.
    durable: usize,
    /// Where commits stand in the log that a client was told are done.
    acknowledged: Vec<i64>,
}

fn protocol_lists(which: usize) -> Vec<(ByteString, Bytes)> {
    match which % 4 {
        0 => protocols(&["range"]),
        1 => protocols(&["cooperative-sticky", "range"]),
        2 => vec![("range".into(), subscription(&["u"]))],
        _ => vec![("range".into(), "not a subscription".into())],
    }
}

impl World {
    fn new() -> Self {
        let config = GroupConfig {
            max_size: 4,
            max_pending_members: 5,
            max_batch_bytes: 1_500,
            ..GroupConfig::default()
        };
        let mut ctx = Context::with(config);
        let client = |at: usize| {
            let group = ByteString::from(GROUPS[at % 2]);
            let request = JoinRequest {
                group: group.clone(),
                // Two pairs of clients cannot be told apart by their names.
                client_id: (at / 3).to_string().into(),
                // Every third one is static, and two of those have the same name.
                instance_id: (at % 3 == 0).then(|| "i".into()),
                connection: Some(ctx.connection()),
                // Shorter than a session: who is silent misses a generation before it is given up.
                rebalance_timeout_ms: 5_000,
                protocol_type: if at == 5 { "connect".into() } else { "consumer".into() },
                requires_known_member_id: at % 4 != 1,
                supports_skip_assignment: at % 2 == 0,
                ..join()
            };
            Client {
                group,
                request,
                member_id: ByteString::new(),
                generation: -1,
                members: Vec::new(),
                does: Does::Nothing,
            }
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { ctx, clients, durable: 0, acknowledged: Vec::new() }
    }

    /// A client hears the answer to a request: whatever it stands on is durable.
    fn hear(&mut self, id: RequestId) -> Option<Reply> {
        let answer = self.ctx.answers.get(&id)?;
        if answer.release == Release::Durable {
            self.durable = self.durable.max(self.ctx.positions[&id]);
        }
        Some(answer.reply.clone())
    }

    fn ask(&mut self, request: Request) -> Reply {
        let id = self.ctx.send(request);
        self.hear(id).expect("an answer at once")
    }

    fn id_of(&self, client: usize, id: Id) -> ByteString {
        match id {
            Id::Own => self.clients[client].member_id.clone(),
            Id::None => ByteString::new(),
            Id::Unknown => "unknown".into(),
            Id::OfAnother => self.clients[(client + 1) % CLIENTS].member_id.clone(),
        }
    }

    fn generation_of(&self, client: usize, add: i32) -> i32 {
        if add == i32::MIN { -1 } else { self.clients[client].generation.wrapping_add(add) }
    }

    /// The client reads its answers, as clients do.
    fn listen(&mut self, client: usize) {
        let request = match self.clients[client].does {
            Does::Joins(request) | Does::Syncs(request) => request,
            _ => return,
        };
        let Some(reply) = self.hear(request) else { return };
        let this = &mut self.clients[client];
        match reply {
            Reply::Join(reply) => {
                this.does = Does::Nothing;
                match reply.error {
                    ErrorCode::None => {
                        this.member_id = reply.member_id;
                        this.generation = reply.generation;
                        this.members =
                            reply.members.into_iter().map(|member| member.member_id).collect();
                        this.does = Does::HasJoined;
                    }
                    ErrorCode::MemberIdRequired => this.member_id = reply.member_id,
                    error => this.refused(error),
                }
            }
            Reply::Sync(reply) => {
                this.does = Does::HasItsShare;
                if reply.error != ErrorCode::None {
                    this.refused(reply.error);
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn go_on(&mut self, client: usize) {
        self.listen(client);
        match self.clients[client].does {
            Does::Nothing => self.join(client, Id::Own),
            Does::Joins(_) | Does::Syncs(_) => {}
            Does::HasJoined => {
                let sync = self.sync(client, Id::Own, 0, None);
                let id = self.ctx.send(Request::Sync(sync));
                self.clients[client].does = Does::Syncs(id);
                self.listen(client);
            }
            Does::HasItsShare => {
                let code = self.heartbeat(client, Id::Own, 0);
                if code != ErrorCode::None {
                    self.clients[client].refused(code);
                }
            }
        }
    }

    fn join(&mut self, client: usize, id: Id) {
        let member_id = self.id_of(client, id);
        let request = JoinRequest { member_id, ..self.clients[client].request.clone() };
        let request = self.ctx.send(Request::Join(request));
        self.clients[client].does = Does::Joins(request);
        self.listen(client);
    }

    fn sync(&self, client: usize, id: Id, add: i32, protocol: Option<bool>) -> SyncRequest {
        let this = &self.clients[client];
        let share =
            |id: &ByteString| (id.clone(), Bytes::from(format!("{} in {}", id, this.generation)));
        SyncRequest {
            group: this.group.clone(),
            instance_id: this.request.instance_id.clone(),
            protocol_name: protocol.map(|right| if right { "range" } else { "wrong" }.into()),
            assignments: this.members.iter().map(share).collect(),
            ..sync(&self.id_of(client, id), self.generation_of(client, add), &[])
        }
    }

    fn heartbeat(&mut self, client: usize, id: Id, add: i32) -> ErrorCode {
        let request = HeartbeatRequest {
            group: self.clients[client].group.clone(),
            generation: self.generation_of(client, add),
            member_id: self.id_of(client, id),
            instance_id: self.clients[client].request.instance_id.clone(),
        };
        let records = self.ctx.log.len();
        let code = match self.ask(Request::Heartbeat(request.clone())) {
            Reply::Heartbeat(code) => code,
            other => panic!("{other:?}"),
        };
        let again = self.ask(Request::Heartbeat(request));
        assert_eq!(again, Reply::Heartbeat(code), "S15: the same answer again");
        assert_eq!(self.ctx.log.len(), records, "S15: a heartbeat writes nothing");
        code
    }

    fn commit_request(&self, commit: &Commit) -> CommitRequest {
        let note = if commit.long_note { "x".repeat(4_097) } else { "note".to_owned() };
        let partition = |at: usize| CommitPartition {
            partition: i32::try_from(at).unwrap(),
            offset: commit.offset,
            leader_epoch: 1,
            metadata: Some(if at == 0 { ByteString::from(&*note) } else { "".into() }),
        };
        let this = &self.clients[commit.client];
        CommitRequest {
            group: this.group.clone(),
            generation: self.generation_of(commit.client, commit.generation),
            member_id: self.id_of(commit.client, commit.id),
            instance_id: this.request.instance_id.clone().filter(|_| commit.id != Id::None),
            retention_time_ms: commit.retention_ms,
            topics: vec![CommitTopic {
                name: TOPICS[commit.topic].into(),
                topic_id: Uuid::from_bytes([u8::try_from(commit.offset % 2).unwrap(); 16]),
                partitions: (0..commit.partitions).map(partition).collect(),
            }],
        }
    }

    /// S4, read naively off the group as it is described.
    fn expected_of_commit(&mut self, request: &CommitRequest) -> Option<ErrorCode> {
        let Some(group) = self.ctx.shard.groups.get(&request.group) else {
            let refused = request.generation >= 0;
            return refused.then_some(ErrorCode::GroupIdNotFound);
        };
        let (state, generation) = (group.state(), group.generation());
        let members = group.describe().members;
        if request.generation < 0 && state == GroupState::Empty {
            return None;
        }
        if let Some(name) = &request.instance_id {
            let of_name = members.iter().find(|m| m.instance_id.as_ref() == Some(name));
            match of_name {
                None => return Some(ErrorCode::UnknownMemberId),
                Some(member) if member.member_id != request.member_id => {
                    return Some(ErrorCode::FencedInstanceId);
                }
                Some(_) => {}
            }
        }
        if !members.iter().any(|member| member.member_id == request.member_id) {
            return Some(ErrorCode::UnknownMemberId);
        }
        if request.generation != generation {
            return Some(ErrorCode::IllegalGeneration);
        }
        (state == GroupState::CompletingRebalance).then_some(ErrorCode::RebalanceInProgress)
    }

    fn commit(&mut self, commit: &Commit) {
        let request = self.commit_request(commit);
        let expected = self.expected_of_commit(&request);
        let before = self.ctx.log.len();
        let reply = self.ask(Request::CommitOffsets(request.clone()));
        let Reply::CommitOffsets(reply) = reply else { panic!("{reply:?}") };
        for (at, code) in &reply.topics[0].partitions {
            let of_partition = if *at == 0 && commit.long_note {
                ErrorCode::OffsetMetadataTooLarge
            } else {
                ErrorCode::None
            };
            assert_eq!(*code, expected.unwrap_or(of_partition), "S4: {request:?}");
        }
        self.acknowledged.extend(self.ctx.log[before..].iter().map(|entry| entry.offset));
    }

    /// S5: what is fetched is what the log says, read naively.
    fn fetch(&mut self, group: usize, require_stable: bool, all: bool) {
        let mut committed: BTreeMap<(ByteString, i32), (i64, i64)> = BTreeMap::new();
        let mut pending: BTreeMap<i64, Vec<(ByteString, i32, i64, Option<i64>)>> = BTreeMap::new();
        for entry in &self.ctx.log {
            match &entry.what {
                Logged::Plain(Record::Offset { group: of, topic, partition, value })
                    if *of == GROUPS[group] =>
                {
                    let key = (topic.clone(), *partition);
                    match value {
                        Some(value) => {
                            committed.insert(key, (value.offset, entry.offset));
                        }
                        None => {
                            committed.remove(&key);
                            for rows in pending.values_mut() {
                                rows.retain(|(t, p, ..)| (t, p) != (topic, partition));
                            }
                        }
                    }
                }
                Logged::Transactional(
                    producer,
                    Record::Offset { group: of, topic, partition, value: Some(value) },
                ) if *of == GROUPS[group] => {
                    let row = (topic.clone(), *partition, entry.offset, Some(value.offset));
                    pending.entry(*producer).or_default().push(row);
                }
                Logged::Marker(producer, was_committed) => {
                    for (topic, partition, at, offset) in
                        pending.remove(producer).into_iter().flatten()
                    {
                        let now = committed.get(&(topic.clone(), partition));
                        if *was_committed && now.is_none_or(|(_, of_now)| *of_now < at) {
                            committed.insert((topic, partition), (offset.unwrap(), at));
                        }
                    }
                }
                _ => {}
            }
        }
        let topics = TOPICS.map(|name| FetchTopic {
            name: name.into(),
            topic_id: Uuid::ZERO,
            partitions: (0..4).collect(),
        });
        let request = FetchRequest {
            group: GROUPS[group].into(),
            topics: (!all).then(|| topics.to_vec()),
            require_stable,
        };
        let Reply::FetchOffsets(reply) = self.ask(Request::FetchOffsets(request)) else { panic!() };
        let mut seen = 0;
        for topic in &reply.topics {
            for row in &topic.partitions {
                let is_open = pending
                    .values()
                    .flatten()
                    .any(|(t, p, ..)| (t, *p) == (&topic.name, row.partition));
                let expected = if require_stable && is_open {
                    (-1, ErrorCode::UnstableOffsetCommit)
                } else {
                    let key = (topic.name.clone(), row.partition);
                    (committed.get(&key).map_or(-1, |(offset, _)| *offset), ErrorCode::None)
                };
                assert_eq!((row.offset, row.error), expected, "S5");
                seen += usize::from(committed.contains_key(&(topic.name.clone(), row.partition)));
            }
        }
        assert_eq!(seen, committed.len(), "S5: nothing is left out");
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::GoOn(client) => self.go_on(*client),
            Step::Live { silent, seconds } => {
                for _ in 0..*seconds {
                    let living = (0..CLIENTS).filter(|client| client != silent);
                    living.for_each(|client| self.go_on(client));
                    self.ctx.sleep(1_000);
                }
            }
            Step::Join { client, id, protocols, timeout } => {
                let request = &mut self.clients[*client].request;
                request.protocols = protocol_lists(*protocols);
                request.rebalance_timeout_ms = [-1, 2_000, 5_000][*timeout];
                self.join(*client, *id);
            }
            Step::Sync { client, id, generation, protocol } => {
                let request = self.sync(*client, *id, *generation, *protocol);
                let id = self.ctx.send(Request::Sync(request.clone()));
                if let Some(reply) = self.hear(id)
                    && self.clients[*client].members.is_empty()
                {
                    let again = self.ask(Request::Sync(request));
                    assert_eq!(again, reply, "S15: the same answer again");
                }
            }
            Step::Heartbeat { client, id, generation } => {
                self.heartbeat(*client, *id, *generation);
            }
            Step::Leave { clients, by_name } => {
                let members = clients.iter().map(|(client, id)| {
                    let instance_id = self.clients[*client].request.instance_id.clone();
                    match instance_id.filter(|_| *by_name) {
                        Some(name) => LeavingMember {
                            member_id: ByteString::new(),
                            instance_id: Some(name),
                            reason: None,
                        },
                        None => LeavingMember {
                            member_id: self.id_of(*client, *id),
                            instance_id: None,
                            reason: Some("enough".into()),
                        },
                    }
                });
                let group = self.clients[clients[0].0].group.clone();
                let request = LeaveRequest { group, members: members.collect() };
                self.ask(Request::Leave(request));
            }
            Step::Commit(commit) => self.commit(commit),
            Step::Fetch { group, require_stable, all } => self.fetch(*group, *require_stable, *all),
            Step::DeleteOffsets { group, topic } => {
                let topics = vec![(TOPICS[*topic].into(), vec![0, 1, 7])];
                let request = DeleteOffsetsRequest { group: GROUPS[*group].into(), topics };
                self.ask(Request::DeleteOffsets(request));
            }
            Step::DeleteGroups(groups) => {
                let groups = groups.iter().map(|group| GROUPS[*group].into()).collect();
                self.ask(Request::DeleteGroups(groups));
            }
            Step::Look => {
                let records = self.ctx.log.len();
                self.ask(Request::ListGroups(ListRequest::default()));
                self.ask(Request::DescribeGroups(GROUPS.map(ByteString::from).to_vec()));
                assert_eq!(self.ctx.log.len(), records, "looking changes nothing");
            }
            Step::TopicDeleted { topic, id } => {
                let topic_id = Uuid::from_bytes([*id; 16]);
                self.ctx.step(Input::TopicDeleted { name: TOPICS[*topic].into(), topic_id });
            }
            Step::Disconnect(client) => {
                let connection = self.ctx.connection();
                let this = &mut self.clients[*client];
                this.request.connection = Some(connection);
                if let Does::Joins(request) = this.does {
                    let group = this.group.clone();
                    this.does = Does::Nothing;
                    self.ctx.step(Input::Abandoned { group, request });
                } else if let Does::Syncs(_) = this.does {
                    this.does = Does::HasJoined;
                }
            }
            Step::Sleep(which) => self.ctx.sleep(SLEEPS[*which]),
            Step::Age(days) => self.ctx.wall_ms += days * DAY_MS,
            Step::Move => self.ctx.restart(),
            Step::Crash(at) => {
                // Any batch may be the last one that is there, but none before what someone was told.
                let mut ends: Vec<usize> = self
                    .ctx
                    .batch_ends
                    .iter()
                    .copied()
                    .filter(|end| *end >= self.durable)
                    .collect();
                ends.push(self.ctx.log.len());
                let kept = *at.get(&ends);
                for acknowledged in &self.acknowledged {
                    assert!(
                        self.ctx.log[..kept].iter().any(|entry| entry.offset == *acknowledged),
                        "S3: a commit that was acknowledged is lost"
                    );
                }
                self.ctx.crash(kept);
                self.durable = kept;
                for client in &mut self.clients {
                    if matches!(client.does, Does::Joins(_) | Does::Syncs(_)) {
                        client.does = Does::Nothing;
                    }
                }
            }
            Step::FailedAppend { batches, commit } => {
                let request = match commit {
                    Some(commit) => Request::CommitOffsets(self.commit_request(commit)),
                    None => Request::DeleteGroups(GROUPS.map(ByteString::from).to_vec()),
                };
                // A commit is one batch: either it is there or it is not.
                let batches = if commit.is_some() { 0 } else { *batches };
                let before = self.ctx.shard.hard_state();
                let id = self.ctx.new_request();
                let input = Input::Request(id, request);
                self.ctx.failed_step_after(batches, input, ErrorCode::KafkaStorageError);
                if batches == 0 {
                    assert_eq!(self.ctx.shard.hard_state(), before, "S16");
                }
            }
            Step::MaxSize(max_size) => {
                self.ctx.config.max_size = *max_size;
                self.ctx.history.limit_changed();
                self.ctx.step(Input::Configure(self.ctx.config.clone()));
            }
            Step::TransactionalOffset { producer, group, offset } => {
                let value = OffsetValue {
                    offset: *offset,
                    leader_epoch: 1,
                    metadata: "".into(),
                    commit_timestamp_ms: self.ctx.wall_ms,
                    expire_timestamp_ms: None,
                    topic_id: Uuid::ZERO,
                };
                let record = Record::Offset {
                    group: GROUPS[*group].into(),
                    topic: TOPICS[0].into(),
                    partition: 0,
                    value: Some(value),
                };
                self.ctx.append_foreign(Logged::Transactional(*producer, record));
                // Such records come in by way of the log only, so far: the shard that serves them has loaded them.
                self.ctx.restart();
            }
            Step::EndTransaction { producer, committed } => {
                self.ctx.append_foreign(Logged::Marker(*producer, *committed));
                self.ctx.restart();
            }
        }
    }

    /// Everybody falls silent.
    fn end(&mut self) {
        for producer in 0..3 {
            self.ctx.append_foreign(Logged::Marker(producer, false));
        }
        self.ctx.restart();
        self.ctx.sleep(3_600_000);
        assert_eq!(self.ctx.parked(), 0, "L5: every request is answered");
        for group in self.ctx.shard.groups.values() {
            assert_eq!(group.state(), GroupState::Empty, "L1: {group:?} stands still");
        }
        self.ctx.wall_ms += 200 * DAY_MS;
        self.ctx.sleep(1_200_000);
        assert_eq!(self.ctx.shard.hard_state(), HardView::default(), "nothing is kept for ever");
        assert!(self.ctx.shard.groups.is_empty());
    }
}

impl Client {
    /// What clients do about an error.
    fn refused(&mut self, error: ErrorCode) {
        match error {
            ErrorCode::UnknownMemberId
            | ErrorCode::FencedInstanceId
            | ErrorCode::GroupMaxSizeReached => {
                self.member_id = ByteString::new();
                self.generation = -1;
                self.does = Does::Nothing;
            }
            _ => self.does = Does::Nothing,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_clients_do_the_invariants_hold(steps in prop::collection::vec(a_step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.end();
    }

    /// S31: a log may say anything. What is there is loaded, served, and cleared away in time.
    #[test]
    fn any_sequence_of_records_can_be_loaded(
        records in prop::collection::vec(any_record(), 0..40),
    ) {
        let mut shard = GroupShard::new(GroupConfig::default(), 1);
        for (offset, (producer, record)) in (0..).zip(&records) {
            match producer {
                Some((producer, Some(committed))) => shard.end_transaction(*producer, *committed),
                Some((producer, None)) => shard.apply_transactional(offset, *producer, record),
                None => shard.apply(offset, record),
            }
        }
        let mut ctx = Context::new();
        ctx.shard = shard;
        let output = ctx.shard.handle(ctx.now(), Input::Loaded);
        for record in &output.records {
            ctx.shard.apply(1_000, record);
        }
        for group in GROUPS {
            let request = JoinRequest { group: group.into(), member_id: "m-1".into(), ..join() };
            let request = Input::Request(RequestId(1), Request::Join(request));
            for record in ctx.shard.handle(ctx.now(), request).records {
                ctx.shard.apply(2_000, &record);
            }
        }
        for at in 3_000.. {
            let Some(deadline) = ctx.shard.next_deadline() else { break };
            if deadline.elapsed() > Duration::from_secs(24 * 3_600) {
                break;
            }
            ctx.now_ms = ms(deadline.elapsed());
            for record in ctx.shard.handle(ctx.now(), Input::Deadline).records {
                ctx.shard.apply(at, &record);
            }
        }
        prop_assert!(ctx.shard.groups.values().all(|group| group.state() == GroupState::Empty));
    }

    /// S31: neither may bytes do harm.
    #[test]
    fn any_bytes_are_a_record_or_are_skipped(
        key in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..120)),
        record_type in prop::option::of(0..4_i16),
        version in prop::option::of(0..6_i16),
    ) {
        let prefixed = |prefix: Option<i16>, bytes: Vec<u8>| {
            let prefix = prefix.map(|prefix| prefix.to_be_bytes().to_vec()).unwrap_or_default();
            Bytes::from([prefix, bytes].concat())
        };
        let key = key.map(|key| prefixed(record_type, key));
        let value = value.map(|value| prefixed(version, value));
        let record = Record::decode(key.as_ref(), value.as_ref());
        let mut shard = GroupShard::new(GroupConfig::default(), 1);
        shard.apply(0, &record);
        let skipped: u64 = shard.skipped_records().values().sum();
        let is_skipped = matches!(record, Record::Skipped(_));
        prop_assert_eq!(skipped, u64::from(is_skipped), "what is skipped is counted");
        if is_skipped {
            prop_assert_eq!(shard.hard_state(), HardView::default());
        }
    }
}

/// The walks are worth something only if they get about: every kind of event that the protocol has happens in some of them.
#[test]
fn walks_reach_every_corner() {
    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(a_step(), 60);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..150 {
        let steps = strategy.new_tree(&mut runner).unwrap().current();
        let mut world = World::new();
        steps.iter().for_each(|step| world.take(step));
        for event in &world.ctx.events {
            let kind = format!("{:?}", event.kind);
            let name = kind.split([' ', '{']).next().unwrap_or_default();
            *seen.entry(name.to_owned()).or_default() += 1;
        }
    }
    let expected = [
        "AssignmentReceived",
        "CommitFailed",
        "GroupCreated",
        "GroupDeleted",
        "GroupEmptied",
        "GroupLoaded",
        "InitialDelayExtended",
        "JoinCompleted",
        "LeaderReplaced",
        "MemberAbandoned",
        "MemberExpired",
        "MemberFenced",
        "MemberIdHandedOut",
        "MemberJoined",
        "MemberLeft",
        "MemberRefused",
        "MembersDidNotJoin",
        "MembersDidNotSync",
        "NobodyRejoined",
        "OffsetsDeleted",
        "OffsetsExpired",
        "PendingMemberExpired",
        "PendingMemberSuperseded",
        "RebalanceStarted",
        "StaticMemberReplaced",
    ];
    for name in expected {
        assert!(seen.contains_key(name), "no walk got to {name}: {seen:?}");
    }
}

/// A record, and the producer whose transaction it belongs to or, in its place, the end of that transaction.
fn any_record() -> impl Strategy<Value = (Option<(i64, Option<bool>)>, Record)> {
    let name = || prop::sample::select(vec!["", "m-1", "m-2", "m-3"]).prop_map(ByteString::from);
    let number = || prop_oneof![Just(-1), Just(0), Just(i32::MIN), Just(i32::MAX), 1..20_000];
    let member = (
        (name(), prop::option::of(name()), number(), number()),
        (prop::collection::vec(any::<u8>(), 0..8), any::<bool>()),
    )
        .prop_map(
            |((id, instance_id, rebalance_timeout_ms, session_timeout_ms), (bytes, good))| {
                GroupMember {
                    instance_id,
                    rebalance_timeout_ms,
                    session_timeout_ms: session_timeout_ms.min(1_800_000),
                    subscription: if good { subscription(&["t"]) } else { bytes.into() },
                    ..stored_member(&id)
                }
            },
        );
    let group = (
        prop::collection::vec(member, 0..5),
        (number(), prop::option::of(name()), prop::option::of(name())),
        (name(), any::<i64>()),
    )
        .prop_map(|(members, (generation, protocol, leader), (protocol_type, timestamp))| {
            GroupValue {
                generation,
                protocol,
                leader,
                protocol_type,
                state_timestamp_ms: timestamp,
                ..stored_group(members)
            }
        });
    let value = (any::<i64>(), number(), any::<i64>(), prop::option::of(any::<i64>())).prop_map(
        |(offset, leader_epoch, commit_timestamp_ms, expire_timestamp_ms)| OffsetValue {
            offset,
            leader_epoch,
            metadata: "note".into(),
            commit_timestamp_ms,
            expire_timestamp_ms,
            topic_id: Uuid::ZERO,
        },
    );
    let group_name = || prop::sample::select(GROUPS.to_vec()).prop_map(ByteString::from);
    let record = prop_oneof![
        (group_name(), prop::option::of(group))
            .prop_map(|(group, value)| Record::Group { group, value }),
        (group_name(), 0..3_i32, prop::option::of(value)).prop_map(|(group, partition, value)| {
            Record::Offset { group, topic: "t".into(), partition, value }
        }),
        Just(Record::Skipped(Skipped::Type(77))),
    ];
    (prop::option::weighted(0.3, (0..3_i64, prop::option::of(any::<bool>()))), record)
}
