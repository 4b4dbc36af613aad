//! Heartbeat: a member says that it is still there.

use kavka_coordinator::group::{HeartbeatRequest as Heartbeat, Request};
use kavka_protocol::{
    ErrorCode,
    messages::{HeartbeatRequest, HeartbeatResponse},
};

use super::groups::expect_reply;
use crate::dispatch::Context;

pub(crate) async fn handle(context: Context, request: HeartbeatRequest) -> HeartbeatResponse {
    let error_code = if request.group_id.is_empty() {
        ErrorCode::InvalidGroupId
    } else {
        let heartbeat = Heartbeat {
            group: request.group_id.clone(),
            generation: request.generation_id,
            member_id: request.member_id,
            instance_id: request.group_instance_id,
        };
        let reply = context.broker.groups.ask(&request.group_id, Request::Heartbeat(heartbeat));
        expect_reply!(reply.await, Heartbeat)
    };
    HeartbeatResponse { error_code, ..Default::default() }
}
