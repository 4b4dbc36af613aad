//! Between a member's words and a shard's: what the wire and the broker's handlers do.

use std::collections::BTreeMap;

use kavka_coordinator::group::{self, GroupState, Reply};
use kavka_member::{
    FetchedOffset, GroupDescription, JoinResponse, JoinedMember, Request, Response, TopicPartition,
};
use kavka_protocol::{ByteString, ErrorCode, Uuid};

/// Who a client is to brokers.
#[derive(Clone, Debug)]
pub(crate) struct ClientName {
    pub(crate) client_id: ByteString,
    pub(crate) host: ByteString,
}

/// `None` for what is not asked of a coordinator.
pub(crate) fn to_coordinator(
    request: Request,
    name: &ClientName,
    connection: u64,
) -> Option<group::Request> {
    Some(match request {
        Request::Join(join) => group::Request::Join(group::JoinRequest {
            group: join.group,
            member_id: join.member_id,
            instance_id: join.instance_id,
            client_id: name.client_id.clone(),
            client_host: name.host.clone(),
            connection: Some(group::ConnectionId(connection)),
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocol_type: join.protocol_type,
            protocols: join.protocols,
            requires_known_member_id: true,
            supports_skip_assignment: true,
            reason: join.reason,
        }),
        Request::Sync(sync) => group::Request::Sync(group::SyncRequest {
            group: sync.group,
            generation: sync.generation,
            member_id: sync.member_id,
            instance_id: sync.instance_id,
            protocol_type: Some(sync.protocol_type),
            protocol_name: Some(sync.protocol_name),
            assignments: sync.assignments,
        }),
        Request::Heartbeat(heartbeat) => group::Request::Heartbeat(group::HeartbeatRequest {
            group: heartbeat.group,
            generation: heartbeat.generation,
            member_id: heartbeat.member_id,
            instance_id: heartbeat.instance_id,
        }),
        Request::Leave(leave) => group::Request::Leave(group::LeaveRequest {
            group: leave.group,
            members: vec![group::LeavingMember {
                member_id: leave.member_id,
                instance_id: leave.instance_id,
                reason: leave.reason,
            }],
        }),
        Request::CommitOffsets(commit) => {
            let mut topics: BTreeMap<ByteString, Vec<group::CommitPartition>> = BTreeMap::new();
            for (partition, offset) in commit.offsets {
                topics.entry(partition.topic).or_default().push(group::CommitPartition {
                    partition: partition.partition,
                    offset: offset.offset,
                    leader_epoch: offset.leader_epoch,
                    metadata: offset.metadata,
                });
            }
            let ids = commit.topic_ids;
            let topics = topics.into_iter().map(|(name, partitions)| {
                let topic_id = ids.get(&name).copied().unwrap_or(Uuid::ZERO);
                group::CommitTopic { name, topic_id, partitions }
            });
            group::Request::CommitOffsets(group::CommitRequest {
                group: commit.group,
                generation: commit.generation,
                member_id: commit.member_id,
                instance_id: commit.instance_id,
                retention_time_ms: None,
                topics: topics.collect(),
            })
        }
        Request::FetchOffsets(fetch) => {
            let mut topics: BTreeMap<ByteString, Vec<i32>> = BTreeMap::new();
            for partition in fetch.partitions {
                topics.entry(partition.topic).or_default().push(partition.partition);
            }
            let ids = fetch.topic_ids;
            let topics = topics.into_iter().map(|(name, partitions)| {
                let topic_id = ids.get(&name).copied().unwrap_or(Uuid::ZERO);
                group::FetchTopic { name, topic_id, partitions }
            });
            group::Request::FetchOffsets(group::FetchRequest {
                group: fetch.group,
                topics: Some(topics.collect()),
                require_stable: true,
            })
        }
        Request::DescribeGroup { group } => group::Request::DescribeGroups(vec![group]),
        Request::FindCoordinator { .. } | Request::ListOffsets(_) | Request::EndOfEpochs(_) => {
            return None;
        }
    })
}

/// `None` for what members do not ask.
pub(crate) fn from_coordinator(reply: Reply) -> Option<Response> {
    Some(match reply {
        Reply::Join(join) => Response::Join(JoinResponse {
            error: join.error,
            generation: join.generation,
            protocol_name: join.protocol_name,
            leader: join.leader,
            skip_assignment: join.skip_assignment,
            member_id: join.member_id,
            members: join
                .members
                .into_iter()
                .map(|member| JoinedMember {
                    member_id: member.member_id,
                    instance_id: member.instance_id,
                    metadata: member.metadata,
                })
                .collect(),
        }),
        Reply::Sync(sync) => Response::Sync(match sync.error {
            ErrorCode::None => Ok(sync.assignment),
            error => Err(error),
        }),
        Reply::Heartbeat(code) => Response::Heartbeat(code),
        Reply::Leave(leave) => {
            let of_member = leave.members.first().map(|member| member.error);
            Response::Leave(match leave.error {
                ErrorCode::None => of_member.unwrap_or(ErrorCode::None),
                error => error,
            })
        }
        Reply::CommitOffsets(commit) => {
            let rows = commit.topics.into_iter().flat_map(|topic| {
                let name = topic.name;
                let rows = topic.partitions.into_iter();
                rows.map(move |(partition, code)| {
                    (TopicPartition::new(name.clone(), partition), code)
                })
            });
            Response::CommitOffsets(rows.collect())
        }
        Reply::FetchOffsets(fetch) if fetch.error != ErrorCode::None => {
            Response::FetchOffsets(Err(fetch.error))
        }
        Reply::FetchOffsets(fetch) => {
            let rows = fetch.topics.into_iter().flat_map(|topic| {
                let name = topic.name;
                topic.partitions.into_iter().map(move |row| {
                    let partition = TopicPartition::new(name.clone(), row.partition);
                    let (offset, leader_epoch) = (row.offset, row.leader_epoch);
                    (partition, FetchedOffset { error: row.error, offset, leader_epoch })
                })
            });
            Response::FetchOffsets(Ok(rows.collect()))
        }
        Reply::DescribeGroups(groups) => {
            let found = groups.into_iter().next()?;
            Response::DescribeGroup(match found.error {
                ErrorCode::None => Ok(GroupDescription {
                    is_stable: found.state == GroupState::Stable,
                    assignments: found.members.into_iter().map(|m| m.assignment).collect(),
                }),
                error => Err(error),
            })
        }
        Reply::DeleteOffsets(_) | Reply::DeleteGroups(_) | Reply::ListGroups(_) => return None,
    })
}
