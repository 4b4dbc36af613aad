//! What survives: the groups and offsets that records say there are.
//!
//! **Architecture invariant:** [`HardState::apply`] is the only writer, live and in replay, and it takes any sequence of
//! records: a deletion of what never was is nothing, a value for something unknown creates it. So the state after a log, after
//! what compaction leaves of it, and after a crash in between is the same.

use std::collections::BTreeMap;

use kavka_protocol::ByteString;

use super::{
    GroupMember, GroupValue, OffsetValue, Record, Skipped,
    offsets::{
        pending::{Pending, PendingOffsets},
        table::OffsetTable,
    },
};

#[derive(Clone, Debug, Default)]
pub(crate) struct HardState {
    groups: BTreeMap<ByteString, GroupValue>,
    pub(crate) offsets: OffsetTable,
    pub(crate) pending: PendingOffsets,
    skipped: BTreeMap<Skipped, u64>,
}

/// Everything a shard's records say, in one order, to be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HardView {
    /// The stored groups.
    pub groups: BTreeMap<ByteString, GroupValue>,
    /// Group, topic, partition; the offset and where its record stands in the log.
    pub offsets: BTreeMap<(ByteString, ByteString, i32), (OffsetValue, i64)>,
    /// Group, topic, partition, producer; the offset that its transaction is to commit, and where its record stands in the log.
    pub pending: BTreeMap<(ByteString, ByteString, i32, i64), (OffsetValue, i64)>,
}

impl HardState {
    pub(crate) fn apply(&mut self, log_offset: i64, record: &Record) {
        match record {
            Record::Offset { group, topic, partition, value: Some(value) } => {
                self.offsets.set(group, topic, *partition, value, log_offset);
            }
            Record::Offset { group, topic, partition, value: None } => {
                self.offsets.remove(group, topic, *partition);
                self.pending.remove(group, topic, *partition);
            }
            Record::Group { group, value: Some(value) } => {
                self.groups.insert(own(group), own_group(value));
            }
            Record::Group { group, value: None } => {
                self.groups.remove(group);
            }
            Record::Skipped(skipped) => {
                *self.skipped.entry(skipped.clone()).or_default() += 1;
            }
        }
    }

    /// A record of an open transaction. Offsets wait for its end; Kafka writes nothing else in transactions, so whatever else
    /// there is counts at once.
    pub(crate) fn apply_transactional(
        &mut self,
        log_offset: i64,
        producer_id: i64,
        record: &Record,
    ) {
        match record {
            Record::Offset { group, topic, partition, value: Some(value) } => {
                let value = OffsetValue { metadata: own(&value.metadata), ..value.clone() };
                let pending = Pending { value, log_offset };
                self.pending.set(producer_id, own(group), own(topic), *partition, pending);
            }
            Record::Offset { value: None, .. } | Record::Group { .. } | Record::Skipped(_) => {
                self.apply(log_offset, record);
            }
        }
    }

    /// The marker of a producer. What it commits gives way to what was committed without it later in the log.
    pub(crate) fn end_transaction(&mut self, producer_id: i64, committed: bool) {
        for (group, topic, partition, Pending { value, log_offset }) in
            self.pending.end(producer_id)
        {
            let current = self.offsets.get(&group, &topic, partition);
            let is_newer = current.is_none_or(|current| current.log_offset < log_offset);
            if committed && (is_newer || kavka_mutants::mutant("marker-wins")) {
                self.offsets.set(&group, &topic, partition, &value, log_offset);
            }
        }
    }

    pub(crate) fn groups(&self) -> &BTreeMap<ByteString, GroupValue> {
        &self.groups
    }

    pub(crate) fn skipped(&self) -> &BTreeMap<Skipped, u64> {
        &self.skipped
    }

    pub(crate) fn view(&self) -> HardView {
        let mut offsets = BTreeMap::new();
        for group in self.offsets.groups() {
            for (topic, committed) in self.offsets.of_group(group) {
                for offset in committed {
                    let key = (group.clone(), topic.clone(), offset.partition);
                    offsets.insert(key, (offset.value, offset.log_offset));
                }
            }
        }
        let pending = self.pending.all().map(|(group, (topic, partition), producer, pending)| {
            let key = (group.clone(), topic.clone(), *partition, producer);
            (key, (pending.value.clone(), pending.log_offset))
        });
        HardView { groups: self.groups.clone(), offsets, pending: pending.collect() }
    }
}

/// A copy of its own: a decoded record shares the buffer it was read from, and would keep all of it in memory.
fn own(text: &ByteString) -> ByteString {
    ByteString::from(text.as_ref() as &str)
}

fn own_group(value: &GroupValue) -> GroupValue {
    let bytes = bytes::Bytes::copy_from_slice;
    GroupValue {
        protocol_type: own(&value.protocol_type),
        generation: value.generation,
        protocol: value.protocol.as_ref().map(own),
        leader: value.leader.as_ref().map(own),
        state_timestamp_ms: value.state_timestamp_ms,
        members: value
            .members
            .iter()
            .map(|member| GroupMember {
                member_id: own(&member.member_id),
                instance_id: member.instance_id.as_ref().map(own),
                client_id: own(&member.client_id),
                client_host: own(&member.client_host),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                subscription: bytes(&member.subscription),
                assignment: bytes(&member.assignment),
            })
            .collect(),
    }
}
