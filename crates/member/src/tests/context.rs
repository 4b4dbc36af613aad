//! A member, a clock, and verbs. Each step checks what always holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kavka_protocol::{ErrorCode, Uuid};

use crate::{request::RequestKind, *};

pub(super) const GROUP: &str = "g";

/// See the module.
pub(super) struct Context {
    pub(super) member: Member,
    pub(super) now_ms: u64,
    /// Sent and not answered, in order.
    pub(super) requests: Vec<Outgoing>,
    pub(super) events: Vec<Event>,
    pub(super) traces: Vec<Trace>,
    pub(super) disconnects: usize,
    /// Whether the application is done with revoked partitions at once.
    pub(super) drains: bool,
    commits: BTreeSet<CommitId>,
    last_commit: u64,
    told: BTreeMap<TopicPartition, bool>,
}

pub(super) fn config() -> MemberConfig {
    MemberConfig {
        assignors: vec![Assignor::range()],
        auto_commit_interval: None,
        offset_reset: OffsetReset::Earliest,
        ..MemberConfig::new(GROUP)
    }
}

pub(super) fn cooperative() -> MemberConfig {
    MemberConfig { assignors: vec![Assignor::cooperative_sticky()], ..config() }
}

pub(super) fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

pub(super) fn at(offset: i64) -> CommitOffset {
    CommitOffset { offset, leader_epoch: -1, metadata: None }
}

/// Topic "t" with so many partitions, led by broker 1 in this epoch.
pub(super) fn metadata(
    partitions: usize,
    leader_epoch: i32,
) -> BTreeMap<kavka_protocol::ByteString, TopicMetadata> {
    let partition = PartitionMetadata { leader: Some(1), leader_epoch, racks: BTreeSet::new() };
    let topic = TopicMetadata { id: Uuid::ZERO, partitions: vec![partition; partitions] };
    [("t".into(), topic)].into()
}

impl Context {
    pub(super) fn new() -> Self {
        Self::with(config())
    }

    pub(super) fn with(config: MemberConfig) -> Self {
        let mut this = Self {
            member: Member::new(config, 1).unwrap(),
            now_ms: 1_000,
            requests: Vec::new(),
            events: Vec::new(),
            traces: Vec::new(),
            disconnects: 0,
            drains: true,
            commits: BTreeSet::new(),
            last_commit: 0,
            told: BTreeMap::new(),
        };
        this.step(Input::Metadata(metadata(4, 0)));
        this
    }

    pub(super) fn now(&self) -> Now {
        Now { monotonic: Monotonic::from_millis(self.now_ms), wall_ms: 1_700_000_000_000 }
    }

    /// One input, and whatever the application does at once.
    pub(super) fn step(&mut self, input: Input) {
        let now = self.now();
        let output = self.member.handle(now, input);
        assert!(output.requests.len() <= 8, "bounded outputs");
        if let Some(deadline) = self.member.next_deadline() {
            assert!(deadline > now.monotonic, "no deadline that is over: {:?}", self.member);
        }
        if !output.disconnect.is_empty() {
            self.disconnects += 1;
            self.requests.retain(|sent| !matches!(sent.target, Target::Coordinator(_)));
        }
        for sent in output.requests {
            match &sent.request {
                Request::Join(_) => assert!(
                    !self.requests.iter().any(|other| matches!(other.request, Request::Join(_))),
                    "one JoinGroup at a time"
                ),
                Request::Heartbeat(heartbeat) => {
                    assert_eq!(heartbeat.generation, self.member.generation());
                }
                Request::CommitOffsets(commit) => {
                    let owned = self.member.owned();
                    assert!(
                        commit.offsets.keys().all(|partition| owned.contains(partition)),
                        "S27"
                    );
                }
                _ => {}
            }
            self.requests.push(sent);
        }
        self.traces.extend(output.traces);
        let mut drains = Vec::new();
        for event in output.events {
            self.check_event(&event, &mut drains);
            self.events.push(event);
        }
        let owned = self.member.owned();
        if self.member.subscription().is_some() {
            assert!(owned.is_empty() || self.member.generation() >= 0);
            assert!(owned.iter().eq(self.told.keys()), "the events tell what is owned");
        }
        if self.drains {
            drains.into_iter().for_each(|drain| self.step(Input::Drained(drain)));
        }
    }

    fn check_event(&mut self, event: &Event, drains: &mut Vec<DrainId>) {
        match event {
            Event::Assigned { added, .. } => {
                for partition in added {
                    assert_eq!(self.told.insert(partition.clone(), false), None, "S32");
                }
            }
            Event::Revoking { partitions, drain, .. } => {
                drains.push(*drain);
                for partition in partitions {
                    assert_eq!(self.told.insert(partition.clone(), true), Some(false), "S32");
                }
            }
            Event::Revoked { partitions } => {
                for partition in partitions {
                    assert_eq!(self.told.remove(partition), Some(true), "S32");
                }
            }
            Event::Lost { partitions, .. } => {
                for partition in partitions {
                    assert!(self.told.remove(partition).is_some(), "S32");
                }
            }
            Event::CommitCompleted { commit, .. } => {
                assert!(self.commits.remove(commit), "a commit completes once");
            }
            _ => {}
        }
    }

    pub(super) fn open_commits(&self) -> usize {
        self.commits.len()
    }

    /// Time passes; deadlines are kept, the application polls.
    pub(super) fn sleep(&mut self, ms: u64) {
        let target = self.now_ms + ms;
        while let Some(deadline) = self.member.next_deadline() {
            let deadline =
                u64::try_from(deadline.elapsed().as_nanos().div_ceil(1_000_000)).unwrap();
            if deadline > target {
                break;
            }
            self.now_ms = deadline;
            self.step(Input::Deadline);
        }
        self.now_ms = target;
    }

    /// How often a JoinGroup waits for an answer within this time, in which the application polls and the coordinator answers heartbeats.
    pub(super) fn joins_within(&mut self, ms: u64) -> usize {
        let mut joins = 0;
        for _ in 0..ms / 500 {
            self.step(Input::Poll);
            self.sleep(500);
            while self.has(RequestKind::Heartbeat) {
                self.answer_heartbeat(ErrorCode::None);
            }
            joins += usize::from(self.has(RequestKind::Join));
        }
        joins
    }

    pub(super) fn subscribe(&mut self) {
        self.subscribe_to(&["t"]);
    }

    pub(super) fn subscribe_to(&mut self, topics: &[&'static str]) {
        self.step(Input::Subscribe(topics.iter().map(|topic| (*topic).into()).collect()));
    }

    /// The oldest request of this kind that waits for an answer.
    pub(super) fn find(&self, kind: RequestKind) -> Option<&Outgoing> {
        self.requests.iter().find(|sent| sent.request.kind() == kind)
    }

    pub(super) fn has(&self, kind: RequestKind) -> bool {
        self.find(kind).is_some()
    }

    pub(super) fn take(&mut self, kind: RequestKind) -> Outgoing {
        let index = self.requests.iter().position(|sent| sent.request.kind() == kind);
        let Some(index) = index else {
            panic!("no {kind:?} among {:?}; {:?}", self.requests, self.member)
        };
        self.requests.remove(index)
    }

    pub(super) fn answer(&mut self, kind: RequestKind, response: Response) -> Outgoing {
        let sent = self.take(kind);
        self.step(Input::Response(sent.id, response));
        sent
    }

    pub(super) fn fail(&mut self, kind: RequestKind, failure: Failure) -> Outgoing {
        let sent = self.take(kind);
        self.step(Input::Failed(sent.id, failure));
        sent
    }

    pub(super) fn answer_find(&mut self) {
        let found = Coordinator { node: 7, host: "b".into(), port: 9092 };
        self.answer(RequestKind::FindCoordinator, Response::FindCoordinator(Ok(found)));
    }

    pub(super) fn join_refusal(error: ErrorCode, member_id: &'static str) -> Response {
        Response::Join(JoinResponse {
            error,
            generation: -1,
            protocol_name: None,
            leader: "".into(),
            skip_assignment: false,
            member_id: member_id.into(),
            members: Vec::new(),
        })
    }

    pub(super) fn refuse_join(&mut self, error: ErrorCode) {
        self.answer(RequestKind::Join, Self::join_refusal(error, ""));
    }

    pub(super) fn joined(&self, generation: i32) -> JoinResponse {
        let assignor = if self.is_cooperative() { "cooperative-sticky" } else { "range" };
        JoinResponse {
            error: ErrorCode::None,
            generation,
            protocol_name: Some(assignor.into()),
            leader: "other".into(),
            skip_assignment: false,
            member_id: "m".into(),
            members: Vec::new(),
        }
    }

    fn is_cooperative(&self) -> bool {
        let Some(Outgoing { request: Request::Join(join), .. }) = self.find(RequestKind::Join)
        else {
            return false;
        };
        join.protocols[0].0 == "cooperative-sticky"
    }

    /// As a follower.
    pub(super) fn answer_join(&mut self, generation: i32) -> JoinRequest {
        let response = Response::Join(self.joined(generation));
        match self.answer(RequestKind::Join, response).request {
            Request::Join(join) => join,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn answer_sync(&mut self, partitions: &[i32]) {
        let partitions = partitions.iter().map(|partition| tp(*partition)).collect();
        let share = Assignment { partitions, user_data: None }.encode();
        self.answer(RequestKind::Sync, Response::Sync(Ok(share)));
    }

    pub(super) fn answer_heartbeat(&mut self, code: ErrorCode) {
        self.answer(RequestKind::Heartbeat, Response::Heartbeat(code));
    }

    /// Waits for the next heartbeat and answers it.
    pub(super) fn beat(&mut self, code: ErrorCode) {
        self.sleep(3_000);
        self.answer_heartbeat(code);
    }

    /// The same offset for every partition asked; -1 for none.
    pub(super) fn answer_fetch(&mut self, offset: i64) {
        let sent = self.take(RequestKind::FetchOffsets);
        let Request::FetchOffsets(fetch) = &sent.request else { panic!("{sent:?}") };
        let row = FetchedOffset { error: ErrorCode::None, offset, leader_epoch: -1 };
        let rows = fetch.partitions.iter().map(|partition| (partition.clone(), row.clone()));
        self.step(Input::Response(sent.id, Response::FetchOffsets(Ok(rows.collect()))));
    }

    /// One code for every partition of the commit.
    pub(super) fn answer_commit(&mut self, code: ErrorCode) -> CommitRequest {
        let sent = self.take(RequestKind::CommitOffsets);
        let Request::CommitOffsets(commit) = sent.request else { panic!("{sent:?}") };
        let codes = commit.offsets.keys().map(|partition| (partition.clone(), code)).collect();
        self.step(Input::Response(sent.id, Response::CommitOffsets(codes)));
        commit
    }

    /// A stable follower "m" in this generation, with these partitions at offset 10.
    pub(super) fn stable(&mut self, generation: i32, partitions: &[i32]) {
        self.subscribe();
        self.answer_find();
        self.answer_join(generation);
        self.answer_sync(partitions);
        assert_eq!(self.member.state(), State::Stable);
        if !partitions.is_empty() {
            self.answer_fetch(10);
        }
        self.events.clear();
    }

    /// A rebalance that the coordinator began, up to the JoinGroup.
    pub(super) fn rebalance(&mut self) {
        self.beat(ErrorCode::RebalanceInProgress);
    }

    pub(super) fn consume(&mut self, partition: i32, next_offset: i64) {
        let found = self.member.fetchable().find(|found| found.partition == tp(partition));
        let epoch = found.expect("fetchable").epoch;
        let partition = tp(partition);
        self.step(Input::Consumed(vec![Consumed {
            partition,
            epoch,
            next_offset,
            leader_epoch: -1,
        }]));
    }

    pub(super) fn commit(&mut self, offsets: &[(i32, i64)], mode: CommitMode) -> CommitId {
        self.last_commit += 1;
        let commit = CommitId(self.last_commit);
        self.commits.insert(commit);
        let offsets = offsets.iter().map(|(partition, offset)| (tp(*partition), at(*offset)));
        self.step(Input::Commit { commit, offsets: Some(offsets.collect()), mode });
        commit
    }

    pub(super) fn commit_sync(&mut self, offsets: &[(i32, i64)]) -> CommitId {
        self.commit(offsets, CommitMode::Sync { timeout: Duration::from_secs(60) })
    }

    /// How the commit ended: the kinds of error, or none.
    pub(super) fn outcome(&self, wanted: CommitId) -> Option<Vec<ErrorKind>> {
        self.events.iter().find_map(|event| match event {
            Event::CommitCompleted { commit, failed, .. } if *commit == wanted => {
                Some(failed.values().map(|error| error.kind.clone()).collect())
            }
            _ => None,
        })
    }

    pub(super) fn error(&self) -> Option<&MemberError> {
        self.events.iter().find_map(|event| match event {
            Event::Error(error) => Some(error),
            _ => None,
        })
    }

    pub(super) fn lost(&self) -> Option<(&[TopicPartition], &Cause)> {
        self.events.iter().find_map(|event| match event {
            Event::Lost { partitions, cause } => Some((&partitions[..], cause)),
            _ => None,
        })
    }

    pub(super) fn revoked(&self) -> Vec<TopicPartition> {
        let revoked = self.events.iter().filter_map(|event| match event {
            Event::Revoked { partitions } => Some(partitions.clone()),
            _ => None,
        });
        revoked.flatten().collect()
    }

    pub(super) fn position(&self, partition: i32) -> Option<i64> {
        self.member.position(&tp(partition)).map(|position| position.offset)
    }
}

impl Context {
    pub(super) fn close(&mut self) {
        self.step(Input::Close { timeout: Duration::from_secs(30), leave: None });
    }
}
