//! Where the coordinators of many groups are, with as few questions as the broker's version allows.

use std::collections::BTreeMap;

use bytestring::ByteString;
use kavka_protocol::{
    ErrorCode, Message, Request,
    messages::{FindCoordinatorRequest, FindCoordinatorResponse},
};

use super::{Cluster, CoordinatorOf, Node};
use crate::{Error, ErrorKind, connection::Connection};

/// From this version on several keys are asked for at once (KIP-699; Kafka 3.0).
const SEVERAL: i16 = 4;

impl Cluster {
    /// Asks a broker for the coordinators of several keys; one attempt. Older brokers are asked key by key, without waiting
    /// between.
    ///
    /// Cancel safe.
    pub(crate) async fn find_coordinators(
        &self,
        connection: &Connection,
        kind: CoordinatorOf,
        keys: &[ByteString],
    ) -> Result<BTreeMap<ByteString, Result<Node, Error>>, Error> {
        let newest = *<FindCoordinatorRequest as Message>::VERSIONS.end();
        let version = connection.versions().newest(FindCoordinatorRequest::API_KEY, newest)?;
        let timeout = self.settings().request_timeout;
        let request = FindCoordinatorRequest { key_type: kind.code(), ..Default::default() };
        let mut found = BTreeMap::new();
        if version >= SEVERAL {
            let request = FindCoordinatorRequest { coordinator_keys: keys.to_vec(), ..request };
            let response: FindCoordinatorResponse =
                connection.send(&request, version)?.wait(timeout).await?;
            for row in response.coordinators {
                let (code, message) = (row.error_code, row.error_message);
                let node = coordinator(&row.key, code, message, row.node_id, row.host, row.port);
                found.insert(row.key, node);
            }
        } else {
            let mut answers = Vec::with_capacity(keys.len());
            for key in keys {
                let request = FindCoordinatorRequest { key: key.clone(), ..request.clone() };
                answers.push((key, connection.send(&request, version)?));
            }
            for (key, answer) in answers {
                let row: FindCoordinatorResponse = answer.wait(timeout).await?;
                let (code, message) = (row.error_code, row.error_message);
                let node = coordinator(key, code, message, row.node_id, row.host, row.port);
                found.insert(key.clone(), node);
            }
        }
        Ok(found)
    }
}

impl CoordinatorOf {
    fn code(self) -> i8 {
        match self {
            CoordinatorOf::Group => 0,
            CoordinatorOf::Transaction => 1,
        }
    }
}

fn coordinator(
    key: &ByteString,
    code: ErrorCode,
    message: Option<ByteString>,
    id: i32,
    host: ByteString,
    port: i32,
) -> Result<Node, Error> {
    if code != ErrorCode::None {
        return Err(Error::broker(code, format_args!("finding the coordinator of {key}"))
            .with_detail(message.as_deref().map(AsRef::as_ref)));
    }
    Node::new(id, host, port, None).ok_or_else(|| {
        Error::new(ErrorKind::Protocol, format!("the coordinator of {key} is at port {port}"))
    })
}
