//! What the driver counts, and the snapshot of it.

use std::collections::BTreeMap;

use kavka_member::Response;
use kavka_protocol::{ApiKey, ErrorCode};
use tokio::time::Instant;

use super::Driver;
use crate::{
    consumer::{
        inbox::Slot,
        metrics::{CommitMetrics, ConsumerMetrics, GroupMetrics, PartitionMetrics},
        requests::Answered,
    },
    metrics::Timing,
};

/// See the module. Fetches are counted by the fetcher.
#[derive(Debug, Default)]
pub(super) struct Counters {
    commit: CommitMetrics,
    heartbeats: Timing,
    rebalances: Timing,
    pub(super) lost_partitions: u64,
    /// Since when a rebalance is under way.
    rebalancing_since: Option<Instant>,
}

impl Counters {
    pub(super) fn rebalance_begins(&mut self) {
        self.rebalancing_since.get_or_insert_with(Instant::now);
    }

    pub(super) fn rebalance_ends(&mut self) {
        if let Some(since) = self.rebalancing_since.take() {
            self.rebalances.note(since.elapsed());
        }
    }

    pub(super) fn note_answer(&mut self, answered: &Answered) {
        match (answered.api, &answered.result) {
            (ApiKey::Heartbeat, Ok(_)) => self.heartbeats.note(answered.took),
            (ApiKey::OffsetCommit, Ok(response)) => {
                self.commit.requests.note(answered.took);
                let Response::CommitOffsets(rows) = response else { return };
                let has_failed = rows.values().any(|code| *code != ErrorCode::None);
                self.commit.failed += u64::from(has_failed);
            }
            (ApiKey::OffsetCommit, Err(_)) => self.commit.failed += 1,
            _ => {}
        }
    }
}

impl Driver {
    pub(super) fn metrics(&self) -> ConsumerMetrics {
        let member = &self.member;
        let inbox = self.shared.lock();
        let mut fetch = self.fetcher.metrics();
        let mut partitions = BTreeMap::new();
        for partition in member.owned() {
            let slot = inbox.slot_of(&partition);
            let buffered_bytes = slot.map_or(0, Slot::queued_bytes);
            fetch.buffered_bytes += buffered_bytes;
            let ends = self.fetcher.ends(&partition);
            let known = |offset: i64| Some(offset).filter(|offset| *offset >= 0);
            let metrics = PartitionMetrics {
                position: member.position(&partition).map(|position| position.offset),
                committed: member.committed(&partition),
                lag: self.known_lag(&partition),
                log_start_offset: ends.and_then(|ends| known(ends.log_start_offset)),
                high_watermark: ends.and_then(|ends| known(ends.high_watermark)),
                last_stable_offset: ends.and_then(|ends| known(ends.last_stable_offset)),
                buffered_bytes,
                is_paused: slot.is_some_and(|slot| slot.is_paused),
            };
            partitions.insert(partition, metrics);
        }
        let group = self.handle.group_id().map(|_| GroupMetrics {
            state: member.state(),
            member_id: member.member_id().clone(),
            generation: member.generation(),
            assignor: member.assignor().clone(),
            is_leader: member.is_leader(),
            rebalances: self.counters.rebalances,
            lost_partitions: self.counters.lost_partitions,
            heartbeats: self.counters.heartbeats,
        });
        let last_error = inbox.last_error().cloned();
        ConsumerMetrics { fetch, commit: self.counters.commit, group, partitions, last_error }
    }
}
