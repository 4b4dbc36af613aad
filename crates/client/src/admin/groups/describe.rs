//! What a group is doing, and who is in it.
//!
//! A group is asked for in both of its forms at once, as a classic one (DescribeGroups) and as one of KIP-848
//! (ConsumerGroupDescribe, where the broker has it): which of the two it is, only the answers tell.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use bytestring::ByteString;
use kavka_member::{Assignment, Subscription, TopicPartition};
use kavka_protocol::{
    ApiKey, ErrorCode,
    messages::{
        ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribeGroupsRequest,
        DescribeGroupsResponse, consumer_group_describe_response as consumer,
        describe_groups_response as classic,
    },
};

use super::{GroupState, GroupType};
use crate::{
    Error,
    admin::{
        Admin, Broker, Operation,
        rounds::{Answered, Left, Repeat},
    },
    cluster::Node,
    connection::Connection,
};

/// From this version of DescribeGroups on authorized operations are told (KIP-430).
const OPERATIONS: i16 = 3;

/// A group, with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub group_id: ByteString,
    /// Its type.
    pub group_type: GroupType,
    /// Its state.
    pub state: GroupState,
    /// `consumer` for consumers; empty if nobody ever joined.
    pub protocol_type: ByteString,
    /// The assignor that its members agreed upon, or that the coordinator uses. None while there is none.
    pub assignor: Option<ByteString>,
    /// Its members, by member id.
    pub members: Vec<GroupMember>,
    /// The broker that coordinates it.
    pub coordinator: Broker,
    /// The group epoch (KIP-848); none of a classic group, whose generation brokers do not tell.
    pub group_epoch: Option<i32>,
    /// The epoch of the target assignment (KIP-848).
    pub assignment_epoch: Option<i32>,
    /// What this client may do with it (KIP-430); brokers before 2.3 do not tell.
    pub authorized_operations: Option<BTreeSet<Operation>>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub member_id: ByteString,
    /// Its instance id, if it is a static member (KIP-345); brokers before 2.4 do not tell.
    pub group_instance_id: Option<ByteString>,
    /// What it calls itself.
    pub client_id: ByteString,
    /// Where it connects from, as the broker sees it.
    pub client_host: ByteString,
    /// The rack it runs in, if it said so.
    pub rack: Option<ByteString>,
    /// The topics it subscribes to. Those of a classic member are known while the group is stable, and only of consumers.
    pub subscription: Option<BTreeSet<ByteString>>,
    /// The pattern it subscribes by (KIP-848).
    pub subscription_pattern: Option<ByteString>,
    /// The partitions it has. Those of a classic member are known while the group is stable, and only of consumers.
    pub assignment: Option<BTreeSet<TopicPartition>>,
    /// The partitions it is to have (KIP-848).
    pub target_assignment: Option<BTreeSet<TopicPartition>>,
    /// Its epoch (KIP-848).
    pub member_epoch: Option<i32>,
    /// Whether it speaks the classic protocol in a group of KIP-848.
    pub is_classic: Option<bool>,
    /// What a classic member sent when it joined, undecoded: of other protocols than consumers'.
    pub raw_metadata: Bytes,
    /// What a classic member was assigned, undecoded: of other protocols than consumers'.
    pub raw_assignment: Bytes,
}

impl Admin {
    /// What some groups are doing and who is in them; each coordinator is asked once about all of its groups.
    ///
    /// Cancel safe: it only reads.
    ///
    /// # Errors
    /// Per group. `GROUP_ID_NOT_FOUND`: there is none of that id, whatever the broker's version. Authorization.
    pub async fn describe_groups(
        &self,
        groups: impl IntoIterator<Item = impl Into<ByteString>>,
    ) -> BTreeMap<ByteString, Result<GroupDescription, Error>> {
        let groups = groups.into_iter().map(Into::into);
        self.rounds(groups, |groups, left| {
            let ask = move |connection, node, groups: Vec<ByteString>| async move {
                self.describe_groups_at(&connection, &node, &groups, left).await
            };
            self.at_coordinators(groups, Repeat::Safe, ask)
        })
        .await
    }

    async fn describe_groups_at(
        &self,
        connection: &Connection,
        node: &Node,
        groups: &[ByteString],
        left: Left,
    ) -> Answered<ByteString, GroupDescription> {
        let version = Self::version::<DescribeGroupsRequest>(connection)?;
        let request = DescribeGroupsRequest {
            groups: groups.to_vec(),
            include_authorized_operations: version >= OPERATIONS,
            ..Default::default()
        };
        let classic = connection.send(&request, version)?;
        let mut consumers: BTreeMap<ByteString, consumer::DescribedGroup> = BTreeMap::new();
        if connection.versions().has(ApiKey::ConsumerGroupDescribe) {
            let version = Self::version::<ConsumerGroupDescribeRequest>(connection)?;
            let request = ConsumerGroupDescribeRequest {
                group_ids: groups.to_vec(),
                include_authorized_operations: true,
                ..Default::default()
            };
            let answer = connection.send(&request, version)?;
            let response: ConsumerGroupDescribeResponse = answer.wait(left.duration()).await?;
            let rows = response.groups.into_iter();
            consumers.extend(rows.map(|row| (row.group_id.clone(), row)));
        }
        let response: DescribeGroupsResponse = classic.wait(left.duration()).await?;
        let rows = response.groups.into_iter().map(|row| {
            let group = row.group_id.clone();
            let described = match consumers.remove(&group) {
                Some(consumer) if is_better(&consumer, &row) => of_consumers(consumer, node),
                _ => of_classic(row, node),
            };
            (group, described)
        });
        Ok(rows.collect())
    }
}

/// Whether the answer for a group of KIP-848 says more than that for a classic one.
fn is_better(consumer: &consumer::DescribedGroup, classic: &classic::DescribedGroup) -> bool {
    let is_other_type = matches!(
        consumer.error_code,
        ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion | ErrorCode::InvalidGroupId
    );
    let classic_is_there = classic.error_code == ErrorCode::None && &*classic.group_state != DEAD;
    consumer.error_code == ErrorCode::None || !is_other_type && !classic_is_there
}

/// The state that brokers before 4.0 give to a group that is not there.
const DEAD: &str = "Dead";

fn failed(group: &ByteString, code: ErrorCode, message: Option<&ByteString>) -> Error {
    Error::broker(code, format_args!("describing group {group}"))
        .with_detail(message.map(AsRef::as_ref))
}

fn of_classic(row: classic::DescribedGroup, node: &Node) -> Result<GroupDescription, Error> {
    if row.error_code != ErrorCode::None {
        return Err(failed(&row.group_id, row.error_code, row.error_message.as_ref()));
    }
    if &*row.group_state == DEAD {
        return Err(failed(&row.group_id, ErrorCode::GroupIdNotFound, None));
    }
    let is_consumers = &*row.protocol_type == "consumer";
    let member = |row: classic::DescribedGroupMember| {
        let decoded = Some(&row.member_metadata).filter(|bytes| is_consumers && !bytes.is_empty());
        let subscription = decoded.and_then(|bytes| Subscription::decode(bytes).ok());
        let is_assigned = is_consumers && !row.member_metadata.is_empty();
        let assignment = Some(&row.member_assignment).filter(|_| is_assigned);
        let assignment = assignment.and_then(|bytes| Assignment::decode(bytes).ok());
        let rack = subscription.as_ref().and_then(|subscription| subscription.rack.clone());
        GroupMember {
            member_id: row.member_id,
            group_instance_id: row.group_instance_id,
            client_id: row.client_id,
            client_host: row.client_host,
            rack,
            subscription: subscription.map(|subscription| subscription.topics),
            subscription_pattern: None,
            assignment: assignment.map(|assignment| assignment.partitions),
            target_assignment: None,
            member_epoch: None,
            is_classic: None,
            raw_metadata: row.member_metadata,
            raw_assignment: row.member_assignment,
        }
    };
    let mut members: Vec<GroupMember> = row.members.into_iter().map(member).collect();
    members.sort_by(|one, other| one.member_id.cmp(&other.member_id));
    Ok(GroupDescription {
        group_id: row.group_id,
        group_type: GroupType::Classic,
        state: GroupState::named(row.group_state),
        protocol_type: row.protocol_type,
        assignor: Some(row.protocol_data).filter(|name| !name.is_empty()),
        members,
        coordinator: Broker::of(node),
        group_epoch: None,
        assignment_epoch: None,
        authorized_operations: Operation::set(row.authorized_operations),
    })
}

fn of_consumers(row: consumer::DescribedGroup, node: &Node) -> Result<GroupDescription, Error> {
    if row.error_code != ErrorCode::None {
        return Err(failed(&row.group_id, row.error_code, row.error_message.as_ref()));
    }
    let member = |row: consumer::Member| GroupMember {
        member_id: row.member_id,
        group_instance_id: row.instance_id,
        client_id: row.client_id,
        client_host: row.client_host,
        rack: row.rack_id.filter(|rack| !rack.is_empty()),
        subscription: Some(row.subscribed_topic_names.into_iter().collect()),
        subscription_pattern: row.subscribed_topic_regex.filter(|pattern| !pattern.is_empty()),
        assignment: Some(partitions(row.assignment)),
        target_assignment: Some(partitions(row.target_assignment)),
        member_epoch: Some(row.member_epoch),
        is_classic: Some(row.member_type).filter(|kind| *kind >= 0).map(|kind| kind == 0),
        raw_metadata: Bytes::new(),
        raw_assignment: Bytes::new(),
    };
    let mut members: Vec<GroupMember> = row.members.into_iter().map(member).collect();
    members.sort_by(|one, other| one.member_id.cmp(&other.member_id));
    Ok(GroupDescription {
        group_id: row.group_id,
        group_type: GroupType::Consumer,
        state: GroupState::named(row.group_state),
        protocol_type: ByteString::from_static("consumer"),
        assignor: Some(row.assignor_name).filter(|name| !name.is_empty()),
        members,
        coordinator: Broker::of(node),
        group_epoch: Some(row.group_epoch),
        assignment_epoch: Some(row.assignment_epoch),
        authorized_operations: Operation::set(row.authorized_operations),
    })
}

fn partitions(assignment: consumer::Assignment) -> BTreeSet<TopicPartition> {
    let topics = assignment.topic_partitions.into_iter();
    let partitions = topics.flat_map(|topic| {
        let name = topic.topic_name;
        let partitions = topic.partitions.into_iter();
        partitions.map(move |partition| TopicPartition::new(name.clone(), partition))
    });
    partitions.collect()
}
