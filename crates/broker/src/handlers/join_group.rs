//! JoinGroup: take part in the next generation of a group.

use kavka_coordinator::group::{ConnectionId, JoinReply, JoinRequest, Request};
use kavka_protocol::{
    ErrorCode,
    messages::{JoinGroupRequest, JoinGroupResponse, join_group_response::JoinGroupResponseMember},
};

use super::groups::{expect_reply, own, own_bytes, own_option};
use crate::dispatch::Context;

/// The longest `group.instance.id`.
const MAX_INSTANCE_ID_LENGTH: usize = 249;

pub(crate) async fn handle(context: Context, request: JoinGroupRequest) -> JoinGroupResponse {
    let version = context.version;
    if request.group_id.is_empty() {
        return refuse(&request, version, ErrorCode::InvalidGroupId);
    }
    if request.group_instance_id.as_ref().is_some_and(|id| !is_instance_id(id)) {
        return refuse(&request, version, ErrorCode::InvalidRequest);
    }
    let join = JoinRequest {
        group: own(&request.group_id),
        member_id: own(&request.member_id),
        instance_id: own_option(&request.group_instance_id),
        client_id: context.client_id.as_ref().map(own).unwrap_or_default(),
        client_host: context.client_host(),
        connection: Some(ConnectionId(context.peer.connection)),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        protocol_type: own(&request.protocol_type),
        protocols: request
            .protocols
            .iter()
            .map(|protocol| (own(&protocol.name), own_bytes(&protocol.metadata)))
            .collect(),
        requires_known_member_id: version >= 4,
        supports_skip_assignment: version >= 9,
        reason: own_option(&request.reason),
    };
    let reply = context.broker.groups.ask(&request.group_id, Request::Join(join)).await;
    respond(expect_reply!(reply, Join), version)
}

fn respond(reply: JoinReply, version: i16) -> JoinGroupResponse {
    // Before version 7 there is no null: "" stands for it.
    let protocol_name = match reply.protocol_name {
        None if version < 7 => Some(Default::default()),
        Some(name) if version >= 7 && name.is_empty() => None,
        name => name,
    };
    JoinGroupResponse {
        error_code: reply.error,
        generation_id: reply.generation,
        protocol_type: reply.protocol_type,
        protocol_name,
        leader: reply.leader,
        skip_assignment: reply.skip_assignment,
        member_id: reply.member_id,
        members: reply
            .members
            .into_iter()
            .map(|member| JoinGroupResponseMember {
                member_id: member.member_id,
                group_instance_id: member.instance_id,
                metadata: member.metadata,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

fn refuse(request: &JoinGroupRequest, version: i16, error: ErrorCode) -> JoinGroupResponse {
    respond(JoinReply::refusal(request.member_id.clone(), error), version)
}

/// 1 to 249 characters of `[A-Za-z0-9._-]`, not "." or "..".
fn is_instance_id(id: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=MAX_INSTANCE_ID_LENGTH).contains(&id.len())
        && id != "."
        && id != ".."
        && id.chars().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_ids_are_names() {
        assert!(is_instance_id("web-1.eu_west"));
        for bad in ["", ".", "..", "a b", "ü"] {
            assert!(!is_instance_id(bad), "{bad:?}");
        }
        assert!(is_instance_id(&"x".repeat(249)) && !is_instance_id(&"x".repeat(250)));
    }

    #[test]
    fn no_protocol_is_empty_before_version_7_and_null_from_then_on() {
        let refusal = |version| {
            respond(JoinReply::refusal(Default::default(), ErrorCode::UnknownMemberId), version)
        };
        assert_eq!(refusal(6).protocol_name.as_deref(), Some(""));
        assert_eq!(refusal(7).protocol_name, None);
    }
}
