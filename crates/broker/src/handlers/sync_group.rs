//! SyncGroup: the leader hands in the assignment, everyone gets its own.

use kavka_coordinator::group::{Request, SyncReply, SyncRequest};
use kavka_protocol::{
    ErrorCode,
    messages::{SyncGroupRequest, SyncGroupResponse},
};

use super::groups::{expect_reply, own, own_bytes, own_option};
use crate::dispatch::Context;

pub(crate) async fn handle(context: Context, request: SyncGroupRequest) -> SyncGroupResponse {
    if request.group_id.is_empty() {
        return respond(SyncReply::refusal(ErrorCode::InvalidGroupId));
    }
    // From version 5 on both are needed (KIP-559).
    let unnamed = request.protocol_type.is_none() || request.protocol_name.is_none();
    if context.version >= 5 && unnamed {
        return respond(SyncReply::refusal(ErrorCode::InconsistentGroupProtocol));
    }
    let sync = SyncRequest {
        group: own(&request.group_id),
        generation: request.generation_id,
        member_id: own(&request.member_id),
        instance_id: own_option(&request.group_instance_id),
        protocol_type: own_option(&request.protocol_type),
        protocol_name: own_option(&request.protocol_name),
        assignments: request
            .assignments
            .iter()
            .map(|member| (own(&member.member_id), own_bytes(&member.assignment)))
            .collect(),
    };
    let reply = context.broker.groups.ask(&request.group_id, Request::Sync(sync)).await;
    respond(expect_reply!(reply, Sync))
}

fn respond(reply: SyncReply) -> SyncGroupResponse {
    SyncGroupResponse {
        error_code: reply.error,
        protocol_type: reply.protocol_type,
        protocol_name: reply.protocol_name,
        assignment: reply.assignment,
        ..Default::default()
    }
}
