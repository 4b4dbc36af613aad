//! DescribeGroups: the members of classic groups and what each has.

use bytestring::ByteString;
use kavka_coordinator::group::{DescribedGroup as Described, Request};
use kavka_protocol::{
    ErrorCode,
    messages::{
        DescribeGroupsRequest, DescribeGroupsResponse,
        describe_groups_response::{DescribedGroup, DescribedGroupMember},
    },
};

use super::groups::expect_reply;
use crate::dispatch::Context;

/// All that can be allowed on a group: READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS.
const ALL_GROUP_OPERATIONS: i32 = 3400;
const NOT_ASKED: i32 = i32::MIN;

pub(crate) async fn handle(
    context: Context,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let operations =
        if request.include_authorized_operations { ALL_GROUP_OPERATIONS } else { NOT_ASKED };
    let mut rows = vec![DescribedGroup::default(); request.groups.len()];
    let replies = context.broker.groups.ask_each(&request.groups, Request::DescribeGroups).await;
    for (places, reply) in replies {
        for (place, group) in places.into_iter().zip(expect_reply!(reply, DescribeGroups)) {
            rows[place] = row(group, operations, context.version);
        }
    }
    DescribeGroupsResponse { groups: rows, ..Default::default() }
}

fn row(group: Described, operations: i32, version: i16) -> DescribedGroup {
    // Until version 5 a group that does not exist is no error, but Dead (KIP-1043).
    let absent = group.error == ErrorCode::GroupIdNotFound;
    let error_code = if absent && version < 6 { ErrorCode::None } else { group.error };
    let message = || ByteString::from(format!("Group {} not found.", group.group));
    DescribedGroup {
        error_code,
        error_message: (absent && version >= 6).then(message),
        group_id: group.group,
        group_state: if group.error == ErrorCode::None || absent {
            ByteString::from_static(group.state.name())
        } else {
            ByteString::new()
        },
        protocol_type: group.protocol_type,
        protocol_data: group.protocol_name,
        members: group
            .members
            .into_iter()
            .map(|member| DescribedGroupMember {
                member_id: member.member_id,
                group_instance_id: member.instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                member_metadata: member.metadata,
                member_assignment: member.assignment,
                ..Default::default()
            })
            .collect(),
        authorized_operations: if error_code == ErrorCode::None { operations } else { NOT_ASKED },
        ..Default::default()
    }
}
