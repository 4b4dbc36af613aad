//! A shard, a log, a clock, and verbs. Each step checks the invariants and replays the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use kavka_protocol::{
    ByteString, ErrorCode, Message, Uuid,
    messages::{ConsumerProtocolSubscription, GroupMetadataKey},
};

pub(super) use crate::group::invariants::{Entry, Logged};
use crate::{
    Monotonic, Now,
    group::{
        invariants,
        timers::{GroupTimer, Timer},
        *,
    },
};

pub(super) const GROUP: &str = "g";
pub(super) const SESSION_MS: i32 = 10_000;
pub(super) const REBALANCE_MS: i32 = 60_000;

/// See the module.
pub(super) struct Context {
    pub(super) shard: GroupShard,
    pub(super) config: GroupConfig,
    pub(super) now_ms: u64,
    pub(super) wall_ms: i64,
    /// Everything that was appended.
    pub(super) log: Vec<Entry>,
    /// How long the log was after each batch that was appended.
    pub(super) batch_ends: Vec<usize>,
    pub(super) answers: BTreeMap<RequestId, Answer>,
    /// How long the log was when each answer was made: so much of it has to be durable before a durable answer leaves.
    pub(super) positions: BTreeMap<RequestId, usize>,
    pub(super) events: Vec<Event>,
    pub(super) history: invariants::History,
    outstanding: BTreeSet<RequestId>,
    next_request: u64,
    next_connection: u64,
    seed: u64,
}

/// A JoinGroup to be changed before it is sent.
pub(super) fn join() -> JoinRequest {
    JoinRequest {
        group: GROUP.into(),
        member_id: ByteString::new(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/10.0.0.1".into(),
        connection: None,
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        protocol_type: "consumer".into(),
        protocols: protocols(&["range"]),
        requires_known_member_id: true,
        supports_skip_assignment: true,
        reason: None,
    }
}

pub(super) fn protocols(names: &[&str]) -> Vec<(ByteString, Bytes)> {
    names.iter().map(|name| ((*name).into(), subscription(&["t"]))).collect()
}

/// A consumer's subscription.
pub(super) fn subscription(topics: &[&str]) -> Bytes {
    let message = ConsumerProtocolSubscription {
        topics: topics.iter().map(|topic| (*topic).into()).collect(),
        ..Default::default()
    };
    let mut bytes = vec![0, 3];
    bytes.extend_from_slice(&message.to_bytes(3).unwrap());
    bytes.into()
}

pub(super) fn commit(generation: i32, member_id: &str, offset: i64) -> CommitRequest {
    CommitRequest {
        group: GROUP.into(),
        generation,
        member_id: member_id.into(),
        instance_id: None,
        retention_time_ms: None,
        topics: vec![CommitTopic {
            name: "t".into(),
            topic_id: Uuid::ZERO,
            partitions: vec![CommitPartition {
                partition: 0,
                offset,
                leader_epoch: 3,
                metadata: Some("note".into()),
            }],
        }],
    }
}

impl Context {
    pub(super) fn new() -> Self {
        Self::with(GroupConfig::default())
    }

    pub(super) fn with(config: GroupConfig) -> Self {
        let mut this = Self {
            shard: GroupShard::new(config.clone(), 1),
            config,
            now_ms: 1_000,
            wall_ms: 1_700_000_000_000,
            log: Vec::new(),
            batch_ends: Vec::new(),
            answers: BTreeMap::new(),
            positions: BTreeMap::new(),
            events: Vec::new(),
            history: invariants::History::default(),
            outstanding: BTreeSet::new(),
            next_request: 0,
            next_connection: 0,
            seed: 1,
        };
        this.step(Input::Loaded);
        this
    }

    /// A shard that has just loaded these records.
    pub(super) fn loaded(config: GroupConfig, records: Vec<Record>) -> Self {
        let mut this = Self::with(config);
        records.into_iter().for_each(|record| this.write(Logged::Plain(record)));
        this.reload();
        this
    }

    /// Something is in the log that this shard did not decide on.
    fn write(&mut self, what: Logged) {
        let offset = self.log.last().map_or(0, |entry| entry.offset + 1);
        self.log.push(Entry { offset, what });
    }

    /// Something is appended that this shard did not decide on: a transaction's offsets, or its end.
    pub(super) fn write_and_apply(&mut self, what: Logged) {
        self.write(what);
        self.log.last().unwrap().apply_to(&mut self.shard);
    }

    /// As [`write_and_apply`](Self::write_and_apply), for a batch of its own after which everything must be in order.
    pub(super) fn append_foreign(&mut self, what: Logged) {
        self.write_and_apply(what);
        self.batch_ends.push(self.log.len());
    }

    pub(super) fn now(&self) -> Now {
        Now { monotonic: Monotonic::from_millis(self.now_ms), wall_ms: self.wall_ms }
    }

    /// One input: handle, append, apply, look at everything.
    pub(super) fn step(&mut self, input: Input) -> Output {
        let output = self.shard.handle(self.now(), input);
        let max = self.config.max_batch_bytes;
        for batch in output.batches(max) {
            let size: usize = batch.iter().map(Record::approximate_size).sum();
            assert!(size <= max || batch.len() == 1, "S14");
            self.append(batch);
        }
        self.take(&output);
        self.history.check(&self.shard, &self.config);
        self.history.check_replay(&self.shard, &self.config, &self.log);
        output
    }

    fn append(&mut self, records: &[Record]) {
        for record in records {
            let (key, value) = record.encode().unwrap();
            let read = Record::decode(Some(&key), value.as_ref());
            assert_eq!(&read, record, "what is stored is what was meant");
            invariants::check_size(record, &self.config);
            self.write_and_apply(Logged::Plain(read));
        }
        self.batch_ends.push(self.log.len());
    }

    fn take(&mut self, output: &Output) {
        for answer in &output.answers {
            assert!(self.outstanding.remove(&answer.request), "one answer for each request");
            invariants::check_codes(&answer.reply);
            self.answers.insert(answer.request, answer.clone());
            self.positions.insert(answer.request, self.log.len());
        }
        self.events.extend(output.events.iter().cloned());
        for event in &output.events {
            assert!(!event.to_string().is_empty());
        }
    }

    pub(super) fn connection(&mut self) -> ConnectionId {
        self.next_connection += 1;
        ConnectionId(self.next_connection)
    }

    pub(super) fn new_request(&mut self) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.outstanding.insert(id);
        id
    }

    pub(super) fn send(&mut self, request: Request) -> RequestId {
        let id = self.new_request();
        self.step(Input::Request(id, request));
        id
    }

    /// The answer, if there is one yet.
    pub(super) fn answer(&self, id: RequestId) -> Option<&Reply> {
        self.answers.get(&id).map(|answer| &answer.reply)
    }

    pub(super) fn parked(&self) -> usize {
        self.outstanding.len()
    }

    /// Sends a request that is answered at once.
    pub(super) fn call(&mut self, request: Request) -> Reply {
        let id = self.send(request);
        self.answer(id).expect("an answer at once").clone()
    }

    /// Time passes; deadlines are kept.
    pub(super) fn sleep(&mut self, ms: u64) {
        let target = self.now_ms + ms;
        while let Some(deadline) = self.shard.next_deadline() {
            let deadline = u64::try_from(deadline.elapsed().as_millis()).unwrap();
            if deadline > target {
                break;
            }
            self.set_time(deadline.max(self.now_ms));
            self.step(Input::Deadline);
        }
        self.set_time(target);
    }

    fn set_time(&mut self, ms: u64) {
        self.wall_ms += i64::try_from(ms - self.now_ms).unwrap();
        self.now_ms = ms;
    }

    /// Another broker takes over, or this one starts again.
    pub(super) fn restart(&mut self) {
        self.unload(ErrorCode::NotCoordinator);
        self.reload();
    }

    /// A fresh machine replays the log.
    pub(super) fn reload(&mut self) {
        self.seed += 1;
        self.shard = GroupShard::new(self.config.clone(), self.seed);
        for entry in &self.log {
            entry.replay_into(&mut self.shard);
        }
        self.history.restarted();
        self.step(Input::Loaded);
    }

    /// A step whose append fails: nothing of it happened, and everyone who waits is told.
    pub(super) fn failed_step(&mut self, input: Input, error: ErrorCode) {
        self.failed_step_after(0, input, error);
    }

    /// A step of which so many batches are appended before one fails.
    pub(super) fn failed_step_after(&mut self, batches: usize, input: Input, error: ErrorCode) {
        let mut output = self.shard.handle(self.now(), input);
        let max = self.config.max_batch_bytes;
        output.batches(max).take(batches).for_each(|batch| self.append(batch));
        for answer in &mut output.answers {
            answer.reply = answer.reply.clone().failed(append_error(error));
        }
        output.events.clear();
        self.take(&output);
        self.unload(append_error(error));
        self.reload();
    }

    fn unload(&mut self, error: ErrorCode) {
        let unloaded = self.shard.handle(self.now(), Input::Unload { error });
        self.take(&unloaded);
        assert!(self.outstanding.is_empty(), "a shard that is unloaded owes no answer");
    }

    /// The broker is killed, and comes back with this much of its log. Nobody hears of anything meanwhile.
    pub(super) fn crash(&mut self, kept: usize) {
        self.outstanding.clear();
        self.log.truncate(kept);
        self.batch_ends.retain(|end| *end <= kept);
        self.reload();
    }

    pub(super) fn join(&mut self, request: JoinRequest) -> RequestId {
        self.send(Request::Join(request))
    }

    /// The connection of a parked JoinGroup closes.
    pub(super) fn abandon(&mut self, request: RequestId) {
        self.step(Input::Abandoned { group: GROUP.into(), request });
    }

    pub(super) fn joined(&self, id: RequestId) -> &JoinReply {
        match self.answer(id) {
            Some(Reply::Join(reply)) => reply,
            other => panic!("no answer to JoinGroup: {other:?}"),
        }
    }

    /// A JoinGroup that is answered at once.
    pub(super) fn join_now(&mut self, request: JoinRequest) -> JoinReply {
        let id = self.join(request);
        self.joined(id).clone()
    }

    /// The whole handshake of a client that has no id (KIP-394); the parked JoinGroup, and the id.
    pub(super) fn handshake(&mut self, request: JoinRequest) -> (RequestId, ByteString) {
        let reply = self.join_now(request.clone());
        assert_eq!(reply.error, ErrorCode::MemberIdRequired);
        let member_id = reply.member_id;
        let id = self.join(JoinRequest { member_id: member_id.clone(), ..request });
        (id, member_id)
    }

    pub(super) fn sync_as(
        &mut self,
        member_id: &str,
        generation: i32,
        shares: &[(&str, &str)],
    ) -> RequestId {
        let request = sync(member_id, generation, shares);
        self.send(Request::Sync(request))
    }

    pub(super) fn synced(&self, id: RequestId) -> &SyncReply {
        match self.answer(id) {
            Some(Reply::Sync(reply)) => reply,
            other => panic!("no answer to SyncGroup: {other:?}"),
        }
    }

    pub(super) fn heartbeat(&mut self, member_id: &str, generation: i32) -> ErrorCode {
        self.heartbeat_as(member_id, None, generation)
    }

    pub(super) fn heartbeat_as(
        &mut self,
        member_id: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> ErrorCode {
        let request = HeartbeatRequest {
            group: GROUP.into(),
            generation,
            member_id: member_id.into(),
            instance_id: instance.map(ByteString::from),
        };
        match self.call(Request::Heartbeat(request)) {
            Reply::Heartbeat(code) => code,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn leave(&mut self, members: &[(&str, Option<&str>)]) -> Vec<ErrorCode> {
        let request = LeaveRequest {
            group: GROUP.into(),
            members: members
                .iter()
                .map(|(id, instance)| LeavingMember {
                    member_id: (*id).into(),
                    instance_id: instance.map(ByteString::from),
                    reason: Some("closing".into()),
                })
                .collect(),
        };
        match self.call(Request::Leave(request)) {
            Reply::Leave(reply) => {
                assert_eq!(reply.error, ErrorCode::None);
                reply.members.iter().map(|member| member.error).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// The code of every partition, which must be the same.
    pub(super) fn commit(&mut self, request: CommitRequest) -> ErrorCode {
        let codes: BTreeSet<i16> = self
            .commit_rows(request)
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|(_, code)| code.code()))
            .collect();
        assert_eq!(codes.len(), 1);
        ErrorCode::from(*codes.first().unwrap())
    }

    pub(super) fn commit_rows(&mut self, request: CommitRequest) -> Vec<CommittedTopic> {
        match self.call(Request::CommitOffsets(request)) {
            Reply::CommitOffsets(reply) => reply.topics,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn fetch(&mut self, request: FetchRequest) -> FetchReply {
        match self.call(Request::FetchOffsets(request)) {
            Reply::FetchOffsets(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// The offset of partition 0 of topic "t"; -1 for none.
    pub(super) fn committed(&mut self) -> i64 {
        let topics =
            vec![FetchTopic { name: "t".into(), topic_id: Uuid::ZERO, partitions: vec![0] }];
        let request =
            FetchRequest { group: GROUP.into(), topics: Some(topics), require_stable: true };
        self.fetch(request).topics[0].partitions[0].offset
    }

    pub(super) fn fetch_all(&mut self) -> Vec<FetchedTopic> {
        let request = FetchRequest { group: GROUP.into(), topics: None, require_stable: false };
        let reply = self.fetch(request);
        assert_eq!(reply.error, ErrorCode::None);
        reply.topics
    }

    pub(super) fn describe(&mut self) -> DescribedGroup {
        match self.call(Request::DescribeGroups(vec![GROUP.into()])) {
            Reply::DescribeGroups(mut groups) => groups.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn state(&mut self) -> GroupState {
        self.describe().state
    }

    pub(super) fn delete_group(&mut self) -> ErrorCode {
        match self.call(Request::DeleteGroups(vec![GROUP.into()])) {
            Reply::DeleteGroups(groups) => groups[0].1,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn delete_offsets(&mut self, topic: &str) -> DeleteOffsetsReply {
        let request =
            DeleteOffsetsRequest { group: GROUP.into(), topics: vec![(topic.into(), vec![0])] };
        match self.call(Request::DeleteOffsets(request)) {
            Reply::DeleteOffsets(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// The value that is stored for the group now.
    pub(super) fn stored(&self) -> Option<GroupValue> {
        self.shard.hard_state().groups.get(GROUP).cloned()
    }

    /// Whether an event of this step or an earlier one reads like this.
    pub(super) fn told(&self, words: &str) -> bool {
        self.events.iter().any(|event| event.to_string().contains(words))
    }

    /// A stable group of dynamic members, with client ids "0", "1", and so on; the leader comes first. Each has a share named
    /// after its client id.
    pub(super) fn stable(&mut self, members: usize) -> Vec<ByteString> {
        self.stable_of(
            (0..members).map(|n| JoinRequest { client_id: n.to_string().into(), ..join() }),
        )
    }

    /// The same for given requests; static members are joined by name.
    pub(super) fn stable_of(
        &mut self,
        requests: impl IntoIterator<Item = JoinRequest>,
    ) -> Vec<ByteString> {
        let parked: Vec<RequestId> = requests
            .into_iter()
            .map(|request| match request.instance_id {
                None => self.handshake(request).0,
                Some(_) => self.join(request),
            })
            .collect();
        while parked.iter().any(|id| self.answer(*id).is_none()) {
            self.sleep(100);
        }
        let replies: Vec<JoinReply> = parked.iter().map(|id| self.joined(*id).clone()).collect();
        let leader = replies[0].leader.clone();
        let generation = replies[0].generation;
        let mut ids: Vec<ByteString> = replies.into_iter().map(|r| r.member_id).collect();
        ids.sort_by_key(|id| *id != leader);
        self.sync_all(&ids, generation);
        ids
    }

    /// Every member sends SyncGroup, followers first.
    pub(super) fn sync_all(&mut self, ids: &[ByteString], generation: i32) {
        let shares: Vec<(String, String)> =
            ids.iter().map(|id| (id.to_string(), share_of(id))).collect();
        let shares: Vec<(&str, &str)> =
            shares.iter().map(|(id, share)| (&**id, &**share)).collect();
        let mut syncs = Vec::new();
        for id in ids[1..].iter().chain(&ids[..1]) {
            syncs.push(self.sync_as(id, generation, if id == &ids[0] { &shares } else { &[] }));
        }
        for sync in syncs {
            assert_eq!(self.synced(sync).error, ErrorCode::None);
        }
        assert_eq!(self.state(), GroupState::Stable);
    }

    /// Heartbeats of everyone, every second.
    pub(super) fn idle(&mut self, ms: u64, ids: &[ByteString], generation: i32) {
        for _ in 0..ms / 1_000 {
            self.sleep(1_000);
            for id in ids {
                assert_eq!(self.heartbeat(id, generation), ErrorCode::None);
            }
        }
    }
}

/// The share that [`Context::sync_all`] gives a member: its name without the random part.
pub(super) fn share_of(member_id: &str) -> String {
    format!("share of {}", &member_id[..member_id.len() - 37])
}

pub(super) fn sync(member_id: &str, generation: i32, shares: &[(&str, &str)]) -> SyncRequest {
    SyncRequest {
        group: GROUP.into(),
        generation,
        member_id: member_id.into(),
        instance_id: None,
        protocol_type: None,
        protocol_name: None,
        assignments: shares
            .iter()
            .map(|(id, share)| ((*id).into(), Bytes::copy_from_slice(share.as_bytes())))
            .collect(),
    }
}

/// A group key, as bytes.
pub(super) fn group_key(group: &str) -> Bytes {
    let mut bytes = vec![0, 2];
    bytes.extend_from_slice(&GroupMetadataKey { group: group.into() }.to_bytes(0).unwrap());
    bytes.into()
}

pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

/// When the session of a member ends, in milliseconds.
pub(super) fn session_deadline(ctx: &Context, group: &str, member: &str) -> Option<u64> {
    let timer = Timer::Group(group.into(), GroupTimer::Session(member.into()));
    ctx.shard.timers.deadline(&timer).map(|deadline| ms(deadline.elapsed()))
}
