//! A member of a classic group.

use std::time::Duration;

use bytes::Bytes;
use kavka_protocol::ByteString;

use crate::{
    Monotonic,
    group::{ConnectionId, JoinRequest, RequestId},
};

/// A member: what its last JoinGroup said, its share, and the requests of it that are parked.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<ByteString>,
    pub(crate) client_id: ByteString,
    pub(crate) client_host: ByteString,
    /// The connection of its last JoinGroup; `None` after a restart.
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    /// In the order the member likes them; no name twice.
    pub(crate) protocols: Vec<(ByteString, Bytes)>,
    pub(crate) assignment: Bytes,
    /// It is in its first join: it cannot heartbeat, so not the session timeout counts but a longer one.
    pub(crate) is_new: bool,
    /// Whether its client can know its id. A client of versions 0 to 3 is told only when its first join is answered.
    pub(crate) knows_its_id: bool,
    /// Its parked JoinGroup. Changed only by the group, which counts them.
    pub(super) join: Option<RequestId>,
    /// Its parked SyncGroup.
    pub(super) sync: Option<RequestId>,
    /// The id it had before it was given this one, until the first request under this one shows that the answer arrived.
    pub(crate) former_id: Option<ByteString>,
}

/// A member id that was handed out and has not come back.
#[derive(Clone, Debug, Hash)]
pub(crate) struct PendingMember {
    pub(crate) client_id: ByteString,
    pub(crate) client_host: ByteString,
    /// Until when a rebalance waits for it.
    pub(crate) holds_until: Monotonic,
    /// When it is forgotten. Not before `holds_until`.
    pub(crate) good_until: Monotonic,
}

impl Member {
    pub(crate) fn of(request: &JoinRequest) -> Self {
        Self {
            instance_id: request.instance_id.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            connection: request.connection,
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: rebalance_timeout(
                request.rebalance_timeout_ms,
                request.session_timeout_ms,
            ),
            protocols: request.protocols.clone(),
            assignment: Bytes::new(),
            is_new: false,
            knows_its_id: true,
            join: None,
            sync: None,
            former_id: None,
        }
    }

    pub(crate) fn session_timeout(&self) -> Duration {
        millis(self.session_timeout_ms)
    }

    /// The subscription under a protocol; empty if the member does not know it.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    /// Bytes that the member adds to the group's record, at most, without its assignment.
    pub(crate) fn weight(&self, id: &str) -> usize {
        let subscription = self.protocols.iter().map(|(_, metadata)| metadata.len()).max();
        let instance = self.instance_id.as_ref().map_or(0, |instance| instance.len());
        24 + id.len()
            + instance
            + self.client_id.len()
            + self.client_host.len()
            + subscription.unwrap_or(0)
    }

    /// Bytes of everything the member sent about its protocols.
    pub(crate) fn metadata_bytes(&self) -> usize {
        self.protocols.iter().map(|(name, metadata)| name.len() + metadata.len()).sum()
    }

    pub(crate) fn is_parked(&self) -> bool {
        self.join.is_some() || self.sync.is_some()
    }

    pub(crate) fn joins(&self) -> bool {
        self.join.is_some()
    }
}

/// -1 stands for the session timeout (JoinGroup version 0, group records of version 0).
pub(crate) fn rebalance_timeout(rebalance_timeout_ms: i32, session_timeout_ms: i32) -> i32 {
    if rebalance_timeout_ms == -1 { session_timeout_ms } else { rebalance_timeout_ms }
}

/// A duration on the wire: milliseconds; negative counts as none at all.
pub(crate) fn millis(value: i32) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}
