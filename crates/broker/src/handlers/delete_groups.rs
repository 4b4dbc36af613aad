//! DeleteGroups: forgets empty groups and their offsets.

use std::collections::HashSet;

use kavka_coordinator::group::Request;
use kavka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, delete_groups_response::DeletableGroupResult,
};

use super::groups::{expect_reply, own};
use crate::dispatch::Context;

pub(crate) async fn handle(context: Context, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    // Whoever is named twice is answered once.
    let mut seen = HashSet::new();
    let groups: Vec<_> =
        request.groups_names.iter().filter(|name| seen.insert(&***name)).map(own).collect();
    let mut results = vec![DeletableGroupResult::default(); groups.len()];
    for (places, reply) in context.broker.groups.ask_each(&groups, Request::DeleteGroups).await {
        let rows = expect_reply!(reply, DeleteGroups);
        for (place, (group_id, error_code)) in places.into_iter().zip(rows) {
            results[place] = DeletableGroupResult { group_id, error_code, ..Default::default() };
        }
    }
    DeleteGroupsResponse { results, ..Default::default() }
}
