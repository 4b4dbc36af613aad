//! Random walks: members that do what clients do, and much that clients should not do, in any order.
//!
//! Each case is a list of steps over six clients in three groups, dynamic and static, old and new. After each step the
//! [invariants](super::super::invariants) are checked and the log is replayed. At the end everybody falls silent, and nothing may be
//! left: no request without an answer, no member, no timer, and after the retention no group and no offset.
//!
//! `PROPTEST_CASES` says how many walks; a failing one is shrunk and printed.

mod records;
mod steps;

use std::collections::BTreeMap;

use bytes::Bytes;
use kavka_protocol::{ByteString, ErrorCode, Uuid};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

use self::steps::{Commit, Id, SLEEPS, Step, a_step};
use super::context::*;
use crate::group::{
    invariants::{NaiveOffsets, expected_of_commit},
    *,
};

const GROUPS: [&str; 3] = ["g", "h", ""];
const TOPICS: [&str; 3] = ["t", "u", "v"];
const CLIENTS: usize = 6;

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
                instance_id: at.is_multiple_of(3).then(|| "i".into()),
                connection: Some(ctx.connection()),
                // Shorter than a session: who is silent misses a generation before it is given up.
                rebalance_timeout_ms: 5_000,
                protocol_type: if at == 5 { "connect".into() } else { "consumer".into() },
                requires_known_member_id: at % 4 != 1,
                supports_skip_assignment: at.is_multiple_of(2),
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
        let (Does::Joins(request) | Does::Syncs(request)) = self.clients[client].does else {
            return;
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

    fn commit(&mut self, commit: &Commit) {
        let request = self.commit_request(commit);
        let expected = expected_of_commit(&self.ctx.shard, &request);
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
        let Reply::FetchOffsets(reply) = self.ask(Request::FetchOffsets(request.clone())) else {
            panic!()
        };
        NaiveOffsets::of(&self.ctx.log).check_fetch(&request, &reply);
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
