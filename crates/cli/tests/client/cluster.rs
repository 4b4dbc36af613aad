//! A broker, members of its groups, and the binary that talks to it.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use kavka_protocol::{
    ByteString, ErrorCode, Message,
    messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription, JoinGroupRequest,
        OffsetCommitRequest, SyncGroupRequest,
        consumer_protocol_assignment::TopicPartition,
        join_group_request::JoinGroupRequestProtocol,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        sync_group_request::SyncGroupRequestAssignment,
    },
};
use kavka_testkit::{
    Builder, GroupCondition, GroupState, TestBroker,
    raw::{RawClient, batch},
};
use serde_json::Value;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A broker and the binary.
pub(crate) struct Cluster {
    pub(crate) broker: TestBroker,
    /// What `$HOME` is, so that nobody's profiles count.
    pub(crate) home: tempfile::TempDir,
}

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// It went well, and nothing was said beside the data.
    #[track_caller]
    pub(crate) fn data(&self) -> &str {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:?}");
        &self.stdout
    }

    /// It went well, with these words beside the data.
    #[track_caller]
    pub(crate) fn data_saying(&self, words: &str) -> &str {
        assert_eq!(self.code, 0, "{self:?}");
        assert!(self.stderr.contains(words), "{words:?} is not in {:?}", self.stderr);
        &self.stdout
    }

    /// It went well, and this is the JSON it wrote; its schema fits.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        let value: Value = serde_json::from_str(&self.stdout).unwrap();
        super::schema::check(&value);
        value["data"].clone()
    }

    /// It failed with this code, wrote no data, and said these words.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, words: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (code, ""), "{self:?}");
        assert!(self.stderr.contains(words), "{words:?} is not in {:?}", self.stderr);
    }
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::with(TestBroker::builder().topic("orders", 3)).await
    }

    pub(crate) async fn with(builder: Builder) -> Self {
        Self { broker: builder.start().await, home: tempfile::tempdir().unwrap() }
    }

    /// The binary, with nothing of this process' environment that counts.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kavka"));
        command.args(args).env_clear().env("HOME", self.home.path());
        command.env("KAVKA_BOOTSTRAP_SERVERS", self.broker.bootstrap_servers());
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        run(&mut self.command(args), b"")
    }

    /// Runs the binary to its end, with something on standard input.
    pub(crate) fn run_with(&self, args: &[&str], stdin: &[u8]) -> Ran {
        run(&mut self.command(args), stdin)
    }

    pub(crate) async fn client(&self) -> RawClient {
        RawClient::connect(self.broker.addr()).await
    }

    /// Appends values to a partition.
    pub(crate) async fn produce(&self, topic: &str, partition: i32, values: &[&str]) {
        let mut client = self.client().await;
        let id = client.topic_id(topic).await;
        let response = client.produce(id, partition, batch(values)).await;
        assert_eq!(response.error_code, ErrorCode::None);
    }

    /// Commits offsets for a group without members.
    pub(crate) async fn commit(&self, group: &str, topic: &str, offsets: &[(i32, i64)]) {
        let mut client = self.client().await;
        client.find_coordinator(group).await;
        let topic_id = client.topic_id(topic).await;
        let row = |(partition, offset): &(i32, i64)| OffsetCommitRequestPartition {
            partition_index: *partition,
            committed_offset: *offset,
            committed_leader_epoch: -1,
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch: -1,
            topics: vec![OffsetCommitRequestTopic {
                topic_id,
                partitions: offsets.iter().map(row).collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = client.call(request).await;
        let rows = response.topics.iter().flat_map(|topic| &topic.partitions);
        rows.for_each(|row| assert_eq!(row.error_code, ErrorCode::None));
    }

    /// A second member makes the one of a group join again, which that does not.
    pub(crate) async fn unsettle(&self, group: &str) -> RawClient {
        let mut client = self.client().await;
        let mut request = JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms: 300_000,
            rebalance_timeout_ms: 300_000,
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        request.member_id = client.call(request.clone()).await.member_id;
        client.send(&request, 9).await;
        let rebalancing = GroupCondition::state(GroupState::PreparingRebalance);
        self.broker.wait_for_group(group, rebalancing, PATIENCE).await.unwrap();
        client
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command, stdin: &[u8]) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    let writer = std::thread::spawn(move || drop(pipe.write_all(&stdin)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The one member of a group. It sends no heartbeats: its session is longer than any test.
pub(crate) struct Member {
    /// Its session goes on while it is connected.
    _client: RawClient,
    pub(crate) member_id: ByteString,
}

impl Member {
    /// Joins as the only member and takes these partitions of one topic.
    pub(crate) async fn join(
        cluster: &Cluster,
        group: &str,
        instance: Option<&str>,
        topic: &str,
        partitions: &[i32],
    ) -> Self {
        let mut client = cluster.client().await.with_client_id("worker");
        client.find_coordinator(group).await;
        let subscription =
            ConsumerProtocolSubscription { topics: vec![topic.into()], ..Default::default() };
        let mut request = JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms: 300_000,
            rebalance_timeout_ms: 300_000,
            protocol_type: "consumer".into(),
            group_instance_id: instance.map(Into::into),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: versioned(&subscription),
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut joined = client.call(request.clone()).await;
        if joined.error_code == ErrorCode::MemberIdRequired {
            request.member_id = joined.member_id;
            joined = client.call(request).await;
        }
        assert_eq!(joined.error_code, ErrorCode::None);
        let assignment = ConsumerProtocolAssignment {
            assigned_partitions: vec![TopicPartition {
                topic: topic.into(),
                partitions: partitions.to_vec(),
            }],
            ..Default::default()
        };
        let sync = SyncGroupRequest {
            group_id: group.into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            group_instance_id: instance.map(Into::into),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: vec![SyncGroupRequestAssignment {
                member_id: joined.member_id.clone(),
                assignment: versioned(&assignment),
                ..Default::default()
            }],
            ..Default::default()
        };
        assert_eq!(client.call(sync).await.error_code, ErrorCode::None);
        Self { _client: client, member_id: joined.member_id }
    }
}

/// As consumers write their metadata: a version, then the fields.
fn versioned(message: &impl Message) -> bytes::Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend(message.to_bytes(0).unwrap());
    bytes.into()
}

/// The fields of the one object in a list.
#[track_caller]
pub(crate) fn only(data: &Value) -> BTreeMap<String, Value> {
    let rows = data.as_array().unwrap();
    assert_eq!(rows.len(), 1, "{data}");
    rows[0].as_object().unwrap().clone().into_iter().collect()
}
