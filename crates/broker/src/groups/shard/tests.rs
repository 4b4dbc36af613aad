#![allow(clippy::unwrap_used)]

use kavka_coordinator::group::{
    CommitPartition, CommitRequest, CommitTopic, FetchRequest, HeartbeatRequest, JoinRequest,
    LeaveRequest, SyncRequest,
};
use kavka_log::{LogConfig, LogError, LogId, SegmentStore, StoreOptions, SyncerMode};
use kavka_meta::{
    ConfigMap,
    config::{BrokerValues, topic::TopicConfig},
};

use bytes::Bytes;

use super::*;

/// A shard whose log becomes durable when the test says so.
struct Fixture {
    store: SegmentStore,
    shard: Arc<Shard>,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new(commit_timeout: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { syncer: SyncerMode::Manual, ..StoreOptions::default() };
        let on_fatal = Arc::new(|error: &LogError| panic!("{error}"));
        let store = SegmentStore::open_dir(dir.path(), options, on_fatal).unwrap();
        let id = LogId { topic: "__consumer_offsets".into(), partition: 0, topic_id: Uuid::ZERO };
        let config = TopicConfig::resolve(&ConfigMap::new(), &BrokerValues::none()).unwrap();
        let partition = Partition::open(&store, id, 0, Arc::new(config), LogConfig::default());
        let settings = ShardSettings {
            config: GroupConfig::default(),
            load_buffer_bytes: 1 << 20,
            commit_timeout,
            clock: Clock::new(Machine::default()),
            alarm: Arc::default(),
            machine: Machine::default(),
        };
        let shard = Shard::new(0, Some(Arc::new(partition.unwrap())), Arc::new(settings));
        Self { store, shard: Arc::new(shard), _dir: dir }
    }

    async fn ask(&self, request: Request) -> ErrorCode {
        match self.shard.ask(request).await {
            Reply::Join(reply) => reply.error,
            Reply::Sync(reply) => reply.error,
            Reply::Heartbeat(code) => code,
            Reply::Leave(reply) => reply.error,
            Reply::CommitOffsets(reply) => reply.topics[0].partitions[0].1,
            Reply::FetchOffsets(reply) => reply.error,
            other => panic!("{other:?}"),
        }
    }

    async fn committed(&self) -> usize {
        match self.shard.ask(fetch()).await {
            Reply::FetchOffsets(reply) => reply.topics.len(),
            other => panic!("{other:?}"),
        }
    }
}

fn join() -> Request {
    Request::Join(JoinRequest {
        group: "g".into(),
        member_id: "".into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        connection: None,
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::new())],
        requires_known_member_id: false,
        supports_skip_assignment: false,
        reason: None,
    })
}

fn heartbeat() -> Request {
    Request::Heartbeat(HeartbeatRequest {
        group: "g".into(),
        generation: 1,
        member_id: "m".into(),
        instance_id: None,
    })
}

fn sync() -> Request {
    Request::Sync(SyncRequest {
        group: "g".into(),
        generation: 1,
        member_id: "m".into(),
        instance_id: None,
        protocol_type: None,
        protocol_name: None,
        assignments: Vec::new(),
    })
}

fn commit() -> Request {
    let partition = CommitPartition { partition: 0, offset: 7, leader_epoch: -1, metadata: None };
    let topic = CommitTopic { name: "t".into(), topic_id: Uuid::ZERO, partitions: vec![partition] };
    Request::CommitOffsets(CommitRequest {
        group: "g".into(),
        generation: -1,
        member_id: "".into(),
        instance_id: None,
        retention_time_ms: None,
        topics: vec![topic],
    })
}

fn fetch() -> Request {
    Request::FetchOffsets(FetchRequest { group: "g".into(), topics: None, require_stable: false })
}

fn leave() -> Request {
    Request::Leave(LeaveRequest { group: "g".into(), members: Vec::new() })
}

/// Who asks while the log is read waits a moment for it, and is then told what makes its client come again.
#[tokio::test]
async fn shard_that_loads_for_long_refuses_but_takes_heartbeats() {
    let fixture = Fixture::new(Duration::from_secs(5));
    let codes = tokio::join!(
        fixture.ask(join()),
        fixture.ask(sync()),
        fixture.ask(heartbeat()),
        fixture.ask(leave()),
        fixture.ask(commit()),
        fixture.ask(fetch()),
    );
    let loading = ErrorCode::CoordinatorLoadInProgress;
    let expected =
        (loading, ErrorCode::RebalanceInProgress, ErrorCode::None, loading, loading, loading);
    assert_eq!(codes, expected);
}

#[tokio::test]
async fn who_asks_while_the_shard_loads_is_answered_when_it_has() {
    let fixture = Fixture::new(Duration::from_secs(5));
    let load = async {
        tokio::task::yield_now().await;
        fixture.shard.load();
    };
    let (code, ()) = tokio::join!(fixture.ask(heartbeat()), load);
    assert_eq!(code, ErrorCode::UnknownMemberId, "by the machine, which knows that member not");
}

/// Nobody learns of what a crash could take back, not even by reading; a heartbeat waits for nothing.
#[tokio::test]
async fn answers_wait_for_the_log_and_heartbeats_do_not() {
    let fixture = Fixture::new(Duration::from_secs(20));
    fixture.shard.load();
    let (commit, fetch) = (fixture.ask(commit()), fixture.committed());
    tokio::pin!(commit, fetch);
    for _ in 0..3 {
        let soon = Duration::from_millis(20);
        assert!(timeout(soon, &mut commit).await.is_err(), "acknowledged before it is durable");
        assert!(timeout(soon, &mut fetch).await.is_err(), "shown before it is durable");
        assert_eq!(fixture.ask(heartbeat()).await, ErrorCode::UnknownMemberId);
    }
    fixture.store.run_syncs();
    assert_eq!(commit.await, ErrorCode::None);
    assert_eq!(fetch.await, 1);
}

#[tokio::test]
async fn log_that_does_not_become_durable_in_time_is_an_unavailable_coordinator() {
    let fixture = Fixture::new(Duration::from_millis(30));
    fixture.shard.load();
    assert_eq!(fixture.ask(commit()).await, ErrorCode::CoordinatorNotAvailable);
    // It was written all the same: that is what the client has to expect of an answer that says nothing.
    fixture.store.run_syncs();
    assert_eq!(fixture.committed().await, 1);
}

/// Nothing would ever remove them later.
#[tokio::test]
async fn topic_that_is_deleted_while_the_shard_loads_takes_its_offsets_along() {
    let fixture = Fixture::new(Duration::from_secs(5));
    fixture.shard.load();
    let commit = fixture.ask(commit());
    tokio::pin!(commit);
    assert!(timeout(Duration::from_millis(5), &mut commit).await.is_err());
    fixture.store.run_syncs();
    assert_eq!(commit.await, ErrorCode::None);
    {
        let mut state = fixture.shard.lock();
        fixture.shard.drop_machine(&mut state, ErrorCode::NotCoordinator, None);
    }
    fixture.shard.topic_deleted("t", Uuid::ZERO);
    fixture.shard.load();
    fixture.store.run_syncs();
    assert_eq!(fixture.committed().await, 0);
}

/// The append of its tombstones failed: the machine is dropped, and the next one has to finish what was begun.
#[tokio::test]
async fn deletion_of_a_topic_outlives_the_machine_that_began_it() {
    let fixture = Fixture::new(Duration::from_secs(5));
    fixture.shard.load();
    let commit = fixture.ask(commit());
    tokio::pin!(commit);
    assert!(timeout(Duration::from_millis(5), &mut commit).await.is_err());
    fixture.store.run_syncs();
    assert_eq!(commit.await, ErrorCode::None);
    {
        let mut state = fixture.shard.lock();
        let State::Serving(serving) = &mut *state else { panic!("it was loaded") };
        let deleted = Input::TopicDeleted { name: "t".into(), topic_id: Uuid::ZERO };
        let output = serving.machine.handle(fixture.shard.settings.clock.now(), deleted);
        assert_eq!(output.records.len(), 1);
        fixture.shard.drop_machine(&mut state, ErrorCode::NotCoordinator, None);
    }
    fixture.shard.load();
    fixture.store.run_syncs();
    assert_eq!(fixture.committed().await, 0);
}

/// The future of a JoinGroup is dropped with its connection; the machine hears of it.
#[tokio::test]
async fn join_whose_connection_closes_is_abandoned() {
    let fixture = Fixture::new(Duration::from_secs(5));
    fixture.shard.load();
    assert!(timeout(Duration::from_millis(20), fixture.ask(join())).await.is_err());
    fixture.store.run_syncs();
    let request = Request::DescribeGroups(vec!["g".into()]);
    let Reply::DescribeGroups(groups) = fixture.shard.ask(request).await else { panic!() };
    assert_eq!(groups[0].error, ErrorCode::None);
    assert!(groups[0].members.is_empty(), "{groups:?}");
}
