//! A consumer group of one member, for what only members may do.

use std::ops::Range;

use anyhow::Context;
use bytes::Bytes;
use kavka_protocol::{
    ByteString, ErrorCode, Message,
    messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription, HeartbeatRequest,
        JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest,
        consumer_protocol_assignment::TopicPartition, join_group_request::JoinGroupRequestProtocol,
        leave_group_request::MemberIdentity, sync_group_request::SyncGroupRequestAssignment,
    },
};

use crate::{
    admin::{self, Topic},
    connection::{Connection, check},
};

/// Longer than any turn, so that nothing but commits has to be sent in it.
const SESSION_TIMEOUT_MS: i32 = 120_000;
/// The version of the subscription and assignment blobs written here.
const BLOB_VERSION: i16 = 1;

/// Who commits: generation and member as they stand in requests.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    pub(crate) group: ByteString,
    pub(crate) generation: i32,
    pub(crate) member: ByteString,
}

impl Membership {
    /// A consumer that assigns itself its partitions and joins nothing.
    pub(crate) fn simple(connection: &mut Connection, group: &str) -> anyhow::Result<Self> {
        admin::wait_for_coordinator(connection, group)?;
        Ok(Membership { group: group.into(), generation: -1, member: ByteString::new() })
    }

    /// Joins as the only member of a group (classic protocol) that is assigned all partitions of `topic`.
    pub(crate) fn join(
        connection: &mut Connection,
        group: &str,
        topic: &Topic,
    ) -> anyhow::Result<Self> {
        admin::wait_for_coordinator(connection, group)?;
        let mut request = join_request(group, topic)?;
        let mut joined = connection.call(&request)?;
        if joined.error_code == ErrorCode::MemberIdRequired {
            request.member_id = joined.member_id;
            joined = connection.call(&request)?;
        }
        check(joined.error_code, &format!("joining group {group}"))?;
        let mut request = sync_request(group, joined.generation_id, &joined.member_id);
        request.assignments = vec![SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: assignment(topic, 0..topic.partitions)?,
            ..Default::default()
        }];
        let synced = connection.call(&request)?;
        check(synced.error_code, &format!("syncing group {group}"))?;
        Ok(Membership {
            group: group.into(),
            generation: joined.generation_id,
            member: joined.member_id,
        })
    }

    /// One heartbeat.
    pub(crate) fn heartbeat(&self, connection: &mut Connection) -> anyhow::Result<()> {
        let response = connection.call(&HeartbeatRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.member.clone(),
            ..Default::default()
        })?;
        check(response.error_code, "Heartbeat")
    }

    /// Leaves the group; a simple consumer has none to leave.
    pub(crate) fn leave(&self, connection: &mut Connection) -> anyhow::Result<()> {
        if self.member.is_empty() {
            return Ok(());
        }
        let mut request = LeaveGroupRequest { group_id: self.group.clone(), ..Default::default() };
        let one = connection.version_of::<LeaveGroupRequest>()? < 3;
        if one {
            request.member_id = self.member.clone();
        } else {
            request.members =
                vec![MemberIdentity { member_id: self.member.clone(), ..Default::default() }];
        }
        let response = connection.call(&request)?;
        check(response.error_code, "LeaveGroup")?;
        if !one {
            let member = response.members.first().context("LeaveGroup answered nothing")?;
            check(member.error_code, "LeaveGroup")?;
        }
        Ok(())
    }
}

/// The request of a member without an id, to join a group that consumes `topic`.
pub(crate) fn join_request(group: &str, topic: &Topic) -> anyhow::Result<JoinGroupRequest> {
    let subscription =
        ConsumerProtocolSubscription { topics: vec![topic.name.clone()], ..Default::default() };
    Ok(JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: SESSION_TIMEOUT_MS,
        rebalance_timeout_ms: SESSION_TIMEOUT_MS,
        protocol_type: ByteString::from_static("consumer"),
        protocols: vec![JoinGroupRequestProtocol {
            name: ByteString::from_static("range"),
            metadata: blob(&subscription)?,
            ..Default::default()
        }],
        ..Default::default()
    })
}

/// The request of a member that was told `generation` and is not the leader.
pub(crate) fn sync_request(group: &str, generation: i32, member: &ByteString) -> SyncGroupRequest {
    SyncGroupRequest {
        group_id: group.into(),
        generation_id: generation,
        member_id: member.clone(),
        protocol_type: Some(ByteString::from_static("consumer")),
        protocol_name: Some(ByteString::from_static("range")),
        ..Default::default()
    }
}

/// What the leader tells a member to consume.
pub(crate) fn assignment(topic: &Topic, partitions: Range<i32>) -> anyhow::Result<Bytes> {
    blob(&ConsumerProtocolAssignment {
        assigned_partitions: vec![TopicPartition {
            topic: topic.name.clone(),
            partitions: partitions.collect(),
        }],
        ..Default::default()
    })
}

/// A blob of the consumer protocol: its version, then the message.
fn blob<M: Message>(message: &M) -> anyhow::Result<Bytes> {
    let mut bytes = BLOB_VERSION.to_be_bytes().to_vec();
    bytes.extend_from_slice(&message.to_bytes(BLOB_VERSION)?);
    Ok(bytes.into())
}
