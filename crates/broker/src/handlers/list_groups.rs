//! ListGroups: every group, or those of some states and types (KIP-518, KIP-848).

use bytestring::ByteString;
use kavka_coordinator::group::{ListRequest, Request};
use kavka_protocol::{
    ErrorCode,
    messages::{ListGroupsRequest, ListGroupsResponse, list_groups_response::ListedGroup},
};

use super::groups::expect_reply;
use crate::dispatch::Context;

pub(crate) async fn handle(context: Context, request: ListGroupsRequest) -> ListGroupsResponse {
    let list = ListRequest { states: request.states_filter, types: request.types_filter };
    let mut response = ListGroupsResponse::default();
    for reply in context.broker.groups.ask_all(&Request::ListGroups(list)).await {
        let reply = expect_reply!(reply, ListGroups);
        match reply.error {
            ErrorCode::None => {}
            // A shard that is not served here is another broker's to list.
            ErrorCode::NotCoordinator => continue,
            // One that is loading makes the whole list unknown.
            error_code => return ListGroupsResponse { error_code, ..Default::default() },
        }
        response.groups.extend(reply.groups.into_iter().map(|group| ListedGroup {
            group_id: group.group,
            protocol_type: group.protocol_type,
            group_state: ByteString::from_static(group.state.name()),
            group_type: ByteString::from_static(group.group_type),
            ..Default::default()
        }));
    }
    response
}
