//! When an offset has been kept long enough (KIP-211).

use std::time::Duration;

use kavka_mutants::mutant;
use kavka_protocol::ByteString;

use super::delete::tombstone;
use crate::group::{GroupState, OffsetValue, Record, classic::ClassicGroup, hard_state::HardState};

/// From when on the retention of a group's offsets counts, and for which topics.
#[derive(Debug, PartialEq)]
pub(crate) enum ExpiryRule {
    /// An empty group: since it became empty. Records from before that time was stored: since the commit.
    SinceEmpty(i64),
    /// A stable group of consumers: since the commit, but never for a topic that someone subscribes to; those are in order.
    SinceCommitUnlessSubscribed(Box<[ByteString]>),
    /// A group that nobody ever joined: since the commit.
    SinceCommit,
    /// A rebalance is under way, or it cannot be told what the members read.
    Never,
}

impl ExpiryRule {
    pub(crate) fn of(group: &ClassicGroup) -> Self {
        match group.state() {
            _ if group.is_simple() => Self::SinceCommit,
            GroupState::Empty => Self::SinceEmpty(group.state_timestamp_ms()),
            GroupState::Stable => match group.current_subscriptions() {
                Some(topics) => Self::SinceCommitUnlessSubscribed(topics),
                None => Self::Never,
            },
            _ if mutant("offsets-expire-in-rebalance") => Self::SinceCommit,
            _ => Self::Never,
        }
    }

    fn has_expired(
        &self,
        topic: &ByteString,
        value: &OffsetValue,
        retention: Duration,
        now_ms: i64,
    ) -> bool {
        let base = match self {
            Self::Never => return false,
            Self::SinceCommitUnlessSubscribed(topics)
                if topics.binary_search(topic).is_ok() && !mutant("read-offsets-expire") =>
            {
                return false;
            }
            Self::SinceEmpty(since) if *since != -1 && !mutant("expiry-since-commit") => *since,
            Self::SinceEmpty(_) | Self::SinceCommit | Self::SinceCommitUnlessSubscribed(_) => {
                value.commit_timestamp_ms
            }
        };
        if let Some(expires) = value.expire_timestamp_ms {
            return now_ms >= expires;
        }
        let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        now_ms.saturating_sub(base) >= retention
    }
}

/// The tombstones of the offsets of a group that have expired, and whether offsets are left. One that a transaction is open
/// for is in use, whatever its age.
pub(crate) fn expired_offsets(
    hard: &HardState,
    group: &ByteString,
    rule: &ExpiryRule,
    retention: Duration,
    now_ms: i64,
) -> (Vec<Record>, bool) {
    let mut records = Vec::new();
    let has_pending = hard.pending.of_group(group).next().is_some();
    let mut some_left = has_pending;
    for (topic, committed) in hard.offsets.of_group(group) {
        for offset in committed {
            let is_pending = has_pending && hard.pending.has(group, &topic, offset.partition);
            let is_pending = is_pending && !mutant("pending-offset-expires");
            if !is_pending && rule.has_expired(&topic, &offset.value, retention, now_ms) {
                records.push(tombstone(group, &topic, offset.partition));
            } else {
                some_left = true;
            }
        }
    }
    (records, some_left)
}
