//! FindCoordinator: which broker leads the partition of `__consumer_offsets` that a group belongs to.
//!
//! The topic is created when it is first asked for. Groups need DESCRIBE on the group, transactions on the transactional id.

use bytestring::ByteString;
use kavka_protocol::{
    ErrorCode,
    messages::{
        FindCoordinatorRequest, FindCoordinatorResponse, find_coordinator_response::Coordinator,
    },
};

use crate::{dispatch::Context, internal_topics::ensure_offsets_topic};

const KEY_TYPE_GROUP: i8 = 0;
const KEY_TYPE_TRANSACTION: i8 = 1;

pub(crate) async fn handle(
    context: Context,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let key_type = if context.version >= 1 { request.key_type } else { KEY_TYPE_GROUP };
    let keys = if context.version >= 4 { request.coordinator_keys } else { vec![request.key] };
    let found = find(&context, key_type).await;
    let mut coordinators: Vec<_> = keys.into_iter().map(|key| row(&context, key, found)).collect();
    if context.version >= 4 {
        return FindCoordinatorResponse { coordinators, ..Default::default() };
    }
    let Some(one) = coordinators.pop() else { unreachable!("there is one key before version 4") };
    FindCoordinatorResponse {
        error_code: one.error_code,
        // In these versions, Apache Kafka says so where nothing is wrong.
        error_message: one
            .error_message
            .filter(|_| one.error_code != ErrorCode::None)
            .or(Some(ByteString::from_static("NONE"))),
        node_id: one.node_id,
        host: one.host,
        port: one.port,
        ..Default::default()
    }
}

/// Whether this broker can be the coordinator. It is the only one, so it is for every key.
async fn find(context: &Context, key_type: i8) -> Result<(), ErrorCode> {
    match key_type {
        KEY_TYPE_GROUP => ensure_offsets_topic(&context.broker).await,
        // There are no transactions yet. Every client takes this code as final, and says so at once; others make it try for
        // ever.
        KEY_TYPE_TRANSACTION => Err(ErrorCode::TransactionalIdAuthorizationFailed),
        _ => Err(ErrorCode::InvalidRequest),
    }
}

fn message(error: ErrorCode) -> ByteString {
    match error {
        ErrorCode::TransactionalIdAuthorizationFailed => {
            ByteString::from_static("This broker has no transactions yet.")
        }
        error => ByteString::from_static(error.message()),
    }
}

fn row(context: &Context, key: ByteString, found: Result<(), ErrorCode>) -> Coordinator {
    match found {
        Ok(()) => {
            let (host, port) = context.advertised();
            Coordinator {
                key,
                node_id: context.broker.config.node_id,
                host,
                port,
                error_message: Some(ByteString::new()),
                ..Default::default()
            }
        }
        Err(error_code) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code,
            error_message: Some(message(error_code)),
            ..Default::default()
        },
    }
}
