//! What has gone wrong in such systems before, each under the name it was reported by.

mod joining;
mod loading;
mod offsets;
mod static_members;

use kavka_protocol::ByteString;

use super::context::join;
use crate::group::JoinRequest;

fn rejoin(id: &ByteString) -> JoinRequest {
    JoinRequest { member_id: id.clone(), ..join() }
}
