//! What scripts are written with: the requests of a group, with what hardly changes filled in.

use std::time::Duration;

use bytes::Bytes;
use kavka_protocol::{
    json::Value,
    messages::{
        DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest,
        LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest,
        OffsetFetchRequest, SyncGroupRequest,
        join_group_request::JoinGroupRequestProtocol,
        leave_group_request::MemberIdentity,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
        offset_fetch_request::{
            OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
        },
        sync_group_request::SyncGroupRequestAssignment,
    },
};

use crate::{
    pair::{Pair, Ticket, View},
    symbols::Names,
    topics::topic_symbol,
};

/// Partitions by topic.
pub(crate) type Partitions<'a> = &'a [(&'a str, &'a [i32])];

/// What scripts act on: both brokers, and one group at a time.
pub(crate) struct Stage<'a> {
    pub(crate) pair: &'a mut Pair,
    pub(crate) name: String,
    /// `group.initial.rebalance.delay.ms` of both brokers.
    pub(crate) initial_delay: Duration,
    groups: Vec<String>,
    records_differ: bool,
}

/// A JoinGroup.
#[derive(Clone, Debug)]
pub(crate) struct Join<'a> {
    pub(crate) version: i16,
    pub(crate) id: &'a str,
    pub(crate) instance: Option<&'a str>,
    pub(crate) protocol_type: &'a str,
    /// Names, and what their metadata is made of.
    pub(crate) protocols: &'a [(&'a str, &'a str)],
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
}

/// The protocols that members have unless told otherwise.
pub(crate) const RANGE: &[(&str, &str)] = &[("range", "topic-a")];

impl Default for Join<'_> {
    fn default() -> Self {
        Join {
            version: 9,
            id: "",
            instance: None,
            protocol_type: "consumer",
            protocols: RANGE,
            session_timeout_ms: 600_000,
            rebalance_timeout_ms: 600_000,
        }
    }
}

impl Join<'_> {
    /// The request, with each broker's own names.
    pub(crate) fn request(&self, group: &str, names: &Names<'_>) -> JoinGroupRequest {
        let metadata = |topic: &str| {
            let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, topic.len() as u8];
            bytes.extend_from_slice(topic.as_bytes());
            bytes.extend_from_slice(&[0xff; 4]);
            Bytes::from(bytes)
        };
        JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            member_id: names.of(self.id),
            group_instance_id: self.instance.map(Into::into),
            protocol_type: self.protocol_type.into(),
            protocols: self
                .protocols
                .iter()
                .map(|(name, topic)| JoinGroupRequestProtocol {
                    name: (*name).into(),
                    metadata: metadata(topic),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }
}

impl<'a> Stage<'a> {
    pub(crate) fn new(
        pair: &'a mut Pair,
        run: &str,
        name: &str,
        initial_delay: Duration,
    ) -> Stage<'a> {
        let name = format!("{run}-{name}");
        let mut stage =
            Stage { pair, name, initial_delay, groups: Vec::new(), records_differ: false };
        stage.new_group();
        stage
    }

    /// What the brokers write about the groups of this script is not compared: they are meant to be different.
    pub(crate) fn records_differ(&mut self) {
        self.records_differ = true;
    }

    /// From here on, requests are for a group that is not there yet.
    pub(crate) fn new_group(&mut self) {
        self.groups.push(format!("{}-{}", self.name, self.groups.len()));
        self.pair.look_at(&self.group());
    }

    pub(crate) fn group(&self) -> String {
        self.groups.last().cloned().unwrap_or_default()
    }

    /// The groups whose records are to be compared.
    pub(crate) fn groups(self) -> Vec<String> {
        if self.records_differ { Vec::new() } else { self.groups }
    }

    pub(crate) fn settle(&mut self) -> anyhow::Result<View> {
        let group = self.group();
        self.pair.settle(&group)
    }

    /// Waits until the group is in a state because a time has run out.
    pub(crate) fn await_state(&mut self, state: &str) -> anyhow::Result<View> {
        let group = self.group();
        self.pair.settle_when(&group, |now| now == state)
    }

    /// Sends a JoinGroup that may be parked.
    pub(crate) fn start_join(&mut self, client: &str, join: &Join<'_>) -> anyhow::Result<Ticket> {
        let ticket = self.send_join(client, join)?;
        self.settle()?;
        Ok(ticket)
    }

    /// Sends a JoinGroup, and waits for nothing.
    pub(crate) fn send_join(&mut self, client: &str, join: &Join<'_>) -> anyhow::Result<Ticket> {
        self.pair.act_as(client);
        let group = self.group();
        self.pair.send(join.version, |names| join.request(&group, &names))
    }

    /// As [`Stage::join`], while the group waits for its initial delay to end.
    pub(crate) fn join_while_waiting(
        &mut self,
        client: &str,
        join: &Join<'_>,
    ) -> anyhow::Result<Value> {
        let ticket = self.send_join(client, join)?;
        let group = self.group();
        self.pair.settle_when(&group, |_| true)?;
        Ok(self.answer(ticket))
    }

    /// Sends a JoinGroup; what was answered, `Null` if it is parked.
    pub(crate) fn join(&mut self, client: &str, join: &Join<'_>) -> anyhow::Result<Value> {
        let ticket = self.start_join(client, join)?;
        Ok(self.answer(ticket))
    }

    pub(crate) fn answer(&self, ticket: Ticket) -> Value {
        self.pair.answer(ticket).cloned().unwrap_or(Value::Null)
    }

    /// A member with an id from KIP-394's handshake: its id, and the ticket of the JoinGroup that may be parked.
    pub(crate) fn member(
        &mut self,
        client: &str,
        join: &Join<'_>,
    ) -> anyhow::Result<(String, Ticket)> {
        let handed_out = self.join(client, join)?;
        let id = handed_out["memberId"].as_str().unwrap_or_default().to_owned();
        let ticket = self.start_join(client, &Join { id: &id, ..join.clone() })?;
        Ok((id, ticket))
    }

    /// A group in state Stable, with dynamic members that all joined before its first assignment.
    pub(crate) fn stable(&mut self, members: usize) -> anyhow::Result<Vec<String>> {
        let mut ids: Vec<String> = Vec::new();
        for number in 0..members {
            let (id, _) = self.member(&format!("member-{number}"), &Join::default())?;
            // The first one is in a generation of its own by now, and comes again for the next one.
            for before in &ids {
                self.start_join(
                    &format!("again-{number}"),
                    &Join { id: before, ..Join::default() },
                )?;
            }
            ids.push(id);
        }
        let generation = members as i32;
        for id in ids.iter().skip(1) {
            self.sync(5, id, None, generation, &[])?;
        }
        let assigned: Vec<_> = ids.iter().map(String::as_str).collect();
        self.sync(5, &ids[0], None, generation, &assigned)?;
        Ok(ids)
    }

    pub(crate) fn sync(
        &mut self,
        version: i16,
        id: &str,
        instance: Option<&str>,
        generation_id: i32,
        assigned: &[&str],
    ) -> anyhow::Result<Value> {
        self.sync_as(version, id, instance, generation_id, assigned, Some(("consumer", "range")))
    }

    pub(crate) fn sync_as(
        &mut self,
        version: i16,
        id: &str,
        instance: Option<&str>,
        generation_id: i32,
        assigned: &[&str],
        protocol: Option<(&str, &str)>,
    ) -> anyhow::Result<Value> {
        let group = self.group();
        let ticket = self.pair.send(version, |names| SyncGroupRequest {
            group_id: group.as_str().into(),
            generation_id,
            member_id: names.of(id),
            group_instance_id: instance.map(Into::into),
            protocol_type: protocol.map(|(kind, _)| kind.into()),
            protocol_name: protocol.map(|(_, name)| name.into()),
            assignments: assigned
                .iter()
                .enumerate()
                .map(|(number, member)| SyncGroupRequestAssignment {
                    member_id: names.of(member),
                    assignment: Bytes::from(format!("share {number}")),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        })?;
        self.settle()?;
        Ok(self.answer(ticket))
    }

    pub(crate) fn heartbeat(
        &mut self,
        version: i16,
        id: &str,
        instance: Option<&str>,
        generation_id: i32,
    ) -> anyhow::Result<Value> {
        let group = self.group();
        self.pair.call(version, |names| HeartbeatRequest {
            group_id: group.as_str().into(),
            generation_id,
            member_id: names.of(id),
            group_instance_id: instance.map(Into::into),
            ..Default::default()
        })
    }

    pub(crate) fn leave(
        &mut self,
        version: i16,
        members: &[(&str, Option<&str>)],
    ) -> anyhow::Result<Value> {
        let answer = self.leave_unsettled(version, members)?;
        self.settle()?;
        Ok(answer)
    }

    /// As [`Stage::leave`], without waiting for what becomes of the group.
    pub(crate) fn leave_unsettled(
        &mut self,
        version: i16,
        members: &[(&str, Option<&str>)],
    ) -> anyhow::Result<Value> {
        let group = self.group();
        self.pair.call(version, |names| {
            let mut request =
                LeaveGroupRequest { group_id: group.as_str().into(), ..Default::default() };
            if version < 3 {
                request.member_id = names.of(members[0].0);
            } else {
                request.members = members
                    .iter()
                    .map(|(id, instance)| MemberIdentity {
                        member_id: names.of(id),
                        group_instance_id: instance.map(Into::into),
                        ..Default::default()
                    })
                    .collect();
            }
            request
        })
    }

    /// Commits offset 100 and more, with a note.
    pub(crate) fn commit(
        &mut self,
        version: i16,
        (id, generation): (&str, i32),
        partitions: Partitions<'_>,
    ) -> anyhow::Result<Value> {
        self.commit_with(version, (id, generation), partitions, "note", -1)
    }

    pub(crate) fn commit_with(
        &mut self,
        version: i16,
        (id, generation): (&str, i32),
        partitions: Partitions<'_>,
        metadata: &str,
        retention_time_ms: i64,
    ) -> anyhow::Result<Value> {
        let group = self.group();
        self.pair.call(version, |names| OffsetCommitRequest {
            group_id: group.as_str().into(),
            generation_id_or_member_epoch: generation,
            member_id: names.of(id),
            retention_time_ms,
            topics: partitions
                .iter()
                .map(|(topic, indexes)| OffsetCommitRequestTopic {
                    name: (*topic).into(),
                    topic_id: names.uuid(&topic_symbol(topic)),
                    partitions: indexes
                        .iter()
                        .map(|index| OffsetCommitRequestPartition {
                            partition_index: *index,
                            committed_offset: 100 + i64::from(*index),
                            committed_leader_epoch: if version >= 6 { index - 1 } else { -1 },
                            committed_metadata: Some(metadata.into()),
                            ..Default::default()
                        })
                        .collect(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        })
    }

    /// `None` asks for everything.
    pub(crate) fn fetch(
        &mut self,
        version: i16,
        groups: &[&str],
        partitions: Option<Partitions<'_>>,
        require_stable: bool,
    ) -> anyhow::Result<Value> {
        self.pair.call(version, |names| {
            let mut request = OffsetFetchRequest { require_stable, ..Default::default() };
            if version < 8 {
                request.group_id = groups[0].into();
                let topic = |(name, indexes): &(&str, &[i32])| OffsetFetchRequestTopic {
                    name: (*name).into(),
                    partition_indexes: indexes.to_vec(),
                    ..Default::default()
                };
                request.topics = partitions.map(|topics| topics.iter().map(topic).collect());
            } else {
                let topic = |(name, indexes): &(&str, &[i32])| OffsetFetchRequestTopics {
                    name: (*name).into(),
                    topic_id: names.uuid(&topic_symbol(name)),
                    partition_indexes: indexes.to_vec(),
                    ..Default::default()
                };
                request.groups = groups
                    .iter()
                    .map(|group| OffsetFetchRequestGroup {
                        group_id: (*group).into(),
                        topics: partitions.map(|topics| topics.iter().map(topic).collect()),
                        ..Default::default()
                    })
                    .collect();
            }
            request
        })
    }

    pub(crate) fn delete_offsets(&mut self, partitions: Partitions<'_>) -> anyhow::Result<Value> {
        let group = self.group();
        self.delete_offsets_of(&group, partitions)
    }

    pub(crate) fn delete_offsets_of(
        &mut self,
        group: &str,
        partitions: Partitions<'_>,
    ) -> anyhow::Result<Value> {
        self.pair.call(0, |_| OffsetDeleteRequest {
            group_id: group.into(),
            topics: partitions
                .iter()
                .map(|(topic, indexes)| OffsetDeleteRequestTopic {
                    name: (*topic).into(),
                    partitions: indexes
                        .iter()
                        .map(|index| OffsetDeleteRequestPartition { partition_index: *index })
                        .collect(),
                })
                .collect(),
        })
    }

    pub(crate) fn delete_groups(&mut self, version: i16, groups: &[&str]) -> anyhow::Result<Value> {
        self.pair.call(version, |_| DeleteGroupsRequest {
            groups_names: groups.iter().map(|group| (*group).into()).collect(),
            ..Default::default()
        })
    }

    /// Describes and lists the group in every version.
    pub(crate) fn look(&mut self) -> anyhow::Result<()> {
        let group = self.group();
        for version in 0..=6 {
            self.pair.call(version, |_| DescribeGroupsRequest {
                groups: vec![group.as_str().into()],
                include_authorized_operations: version >= 3,
                ..Default::default()
            })?;
        }
        for version in 0..=5 {
            self.pair.call(version, |_| ListGroupsRequest::default())?;
        }
        Ok(())
    }
}
