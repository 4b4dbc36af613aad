//! LeaveGroup: members go, by themselves or removed by an operator.

use kavka_coordinator::group::{LeaveReply, LeaveRequest, LeavingMember, Request};
use kavka_protocol::{
    ErrorCode,
    messages::{LeaveGroupRequest, LeaveGroupResponse, leave_group_response::MemberResponse},
};

use super::groups::{expect_reply, own, own_option};
use crate::dispatch::Context;

pub(crate) async fn handle(context: Context, request: LeaveGroupRequest) -> LeaveGroupResponse {
    if request.group_id.is_empty() {
        let error_code = ErrorCode::InvalidGroupId;
        return LeaveGroupResponse { error_code, ..Default::default() };
    }
    // Before version 3 there is one member, without an instance id.
    let members = if context.version < 3 {
        let member_id = own(&request.member_id);
        vec![LeavingMember { member_id, instance_id: None, reason: None }]
    } else {
        let member = |member: &kavka_protocol::messages::leave_group_request::MemberIdentity| {
            LeavingMember {
                member_id: own(&member.member_id),
                instance_id: own_option(&member.group_instance_id),
                reason: own_option(&member.reason),
            }
        };
        request.members.iter().map(member).collect()
    };
    let leave = LeaveRequest { group: own(&request.group_id), members };
    let reply = context.broker.groups.ask(&request.group_id, Request::Leave(leave)).await;
    respond(expect_reply!(reply, Leave), context.version)
}

fn respond(reply: LeaveReply, version: i16) -> LeaveGroupResponse {
    if version < 3 {
        let of_the_one = reply.members.first().map_or(ErrorCode::None, |member| member.error);
        let error_code = if reply.error == ErrorCode::None { of_the_one } else { reply.error };
        return LeaveGroupResponse { error_code, ..Default::default() };
    }
    LeaveGroupResponse {
        error_code: reply.error,
        members: reply
            .members
            .into_iter()
            .map(|member| MemberResponse {
                member_id: member.member_id,
                group_instance_id: member.instance_id,
                error_code: member.error,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}
