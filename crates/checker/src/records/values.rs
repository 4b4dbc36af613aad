//! Which values are in the logs, and who has read them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    AnomalyKind, Isolation, Metrics, Op, TopicPartition,
    context::Context,
    evidence::Evidence,
    operation::{Operation, Outcome},
    records::versions::PartitionLog,
};

pub(crate) fn check(context: &Context<'_>, evidence: &mut Evidence, metrics: &mut Metrics) {
    for (partition, log) in &context.versions.logs {
        inconsistent_offsets(partition, log, evidence);
        duplicates(context, partition, log, evidence);
        lost_writes(context, partition, log, evidence);
    }
    for operation in &context.operations {
        reads(context, operation, evidence);
    }
    unseen(context, evidence, metrics);
    consume_counts(context, evidence, metrics);
}

fn inconsistent_offsets(partition: &TopicPartition, log: &PartitionLog, evidence: &mut Evidence) {
    for (offset, values) in &log.offsets {
        if values.len() > 1 {
            evidence.bad(
                AnomalyKind::InconsistentOffsets,
                partition,
                format!("offset {offset} holds {}", list(values.keys())),
                values.values().copied(),
            );
        }
    }
}

fn duplicates(
    context: &Context<'_>,
    partition: &TopicPartition,
    log: &PartitionLog,
    evidence: &mut Evidence,
) {
    let mut offsets: BTreeMap<i64, Vec<(i64, usize)>> = BTreeMap::new();
    for (offset, values) in &log.offsets {
        for (value, event) in values {
            offsets.entry(*value).or_default().push((*offset, *event));
        }
    }
    for (value, at) in offsets.into_iter().filter(|(_, at)| at.len() > 1) {
        evidence.add(
            AnomalyKind::Duplicate,
            !context.settings.idempotent,
            partition,
            format!("value {value} is at offsets {}", list(at.iter().map(|(offset, _)| offset))),
            at.iter().map(|(_, event)| *event),
        );
    }
}

/// Everything below what was read, and in the log for certain, must have been read by somebody.
fn lost_writes(
    context: &Context<'_>,
    partition: &TopicPartition,
    log: &PartitionLog,
    evidence: &mut Evidence,
) {
    let bound = log.ok_reads.iter().map(|(value, reader)| (log.places[value].first, *reader)).max();
    let Some((bound, reader)) = bound else { return };
    let log_start = context.log_start(partition);
    let offset_of = |rank: usize| log.offsets.keys().nth(rank).copied().unwrap_or_default();
    for (value, write) in &log.writes {
        let Some(place) = log.places.get(value) else { continue };
        let is_lost = place.last <= bound
            && !log.ok_reads.contains_key(value)
            && context.versions.committed.contains(&write.operation)
            && offset_of(place.last) >= log_start;
        if is_lost {
            evidence.bad(
                AnomalyKind::LostWrite,
                partition,
                format!(
                    "value {value} at offset {} was never read, though offset {} was",
                    offset_of(place.last),
                    offset_of(bound)
                ),
                [context.operations[write.operation].event(), context.operations[reader].event()],
            );
        }
    }
}

/// What an operation should not have read.
fn reads(context: &Context<'_>, operation: &Operation<'_>, evidence: &mut Evidence) {
    let sends: BTreeSet<_> =
        operation.sends().iter().map(|sent| (sent.partition, sent.value)).collect();
    for (partition, records) in operation.reads() {
        let log = &context.versions.logs[partition];
        for record in records {
            let value = record.value;
            let Some(write) = log.writes.get(&value) else {
                evidence.bad(
                    AnomalyKind::UnknownValue,
                    partition,
                    format!("value {value} at offset {} was never sent", record.offset),
                    [operation.event()],
                );
                continue;
            };
            let writer = &context.operations[write.operation];
            if sends.contains(&(partition, value)) {
                evidence.bad(
                    AnomalyKind::PrecommittedRead,
                    partition,
                    format!("a transaction read value {value}, which it sends itself"),
                    [operation.event()],
                );
            } else if operation.outcome == Outcome::Ok && writer.outcome == Outcome::Fail {
                let allowed = writer.is_transaction()
                    && context.settings.isolation == Isolation::ReadUncommitted;
                let what = if writer.is_transaction() { "was aborted" } else { "failed" };
                evidence.add(
                    AnomalyKind::AbortedRead,
                    allowed,
                    partition,
                    format!("value {value} was read, but what sent it {what}"),
                    [writer.event(), operation.event()],
                );
            }
        }
    }
}

fn unseen(context: &Context<'_>, evidence: &mut Evidence, metrics: &mut Metrics) {
    let is_final = |operation: &Operation<'_>| {
        operation.outcome == Outcome::Ok && matches!(operation.op, Op::Poll { last: true, .. })
    };
    let all_was_read = context.operations.iter().any(is_final);
    for operation in context.operations.iter().filter(|operation| operation.outcome == Outcome::Ok)
    {
        for sent in operation.sends() {
            metrics.acknowledged += 1;
            if context.versions.logs[sent.partition].ok_reads.contains_key(&sent.value) {
                continue;
            }
            let log_start = context.log_start(sent.partition);
            if log_start > 0 && sent.offset.is_none_or(|offset| offset < log_start) {
                continue;
            }
            metrics.unseen += 1;
            if all_was_read {
                evidence.bad(
                    AnomalyKind::Unseen,
                    sent.partition,
                    format!(
                        "value {} was acknowledged, and the final polls did not find it",
                        sent.value
                    ),
                    [operation.event()],
                );
            }
        }
    }
}

/// How often each value was consumed: by one client, and by the transactions of one group.
fn consume_counts(context: &Context<'_>, evidence: &mut Evidence, metrics: &mut Metrics) {
    let mut by_client: BTreeMap<(&str, &TopicPartition, i64), usize> = BTreeMap::new();
    let mut by_group: BTreeMap<(&str, &TopicPartition, i64), Vec<usize>> = BTreeMap::new();
    for operation in context.operations.iter().filter(|operation| operation.outcome == Outcome::Ok)
    {
        if matches!(operation.op, Op::Poll { last: true, .. }) {
            continue;
        }
        let reads = operation.reads();
        for (partition, records) in &reads {
            for record in records {
                *by_client.entry((operation.client, partition, record.value)).or_default() += 1;
            }
        }
        if !operation.is_transaction() {
            continue;
        }
        for commit in operation.commits() {
            for partition in commit.offsets.keys().filter(|tp| !commit.failed.contains(tp)) {
                for record in reads.get(partition).into_iter().flatten() {
                    let key = (commit.group.as_str(), partition, record.value);
                    by_group.entry(key).or_default().push(operation.event());
                }
            }
        }
    }
    for times in by_client.into_values().filter(|times| *times > 1) {
        *metrics.consumed_again.entry(times).or_default() += 1;
    }
    for ((group, partition, value), events) in by_group {
        if events.len() > 1 {
            evidence.bad(
                AnomalyKind::ConsumeCounts,
                format_args!("{group}/{partition}"),
                format!("{} transactions of the group consumed value {value}", events.len()),
                events,
            );
        }
    }
}

fn list(values: impl IntoIterator<Item = impl ToString>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(" and ")
}
