//! In which order consumers read and producers send.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    AnomalyKind, Event, Op, PositionCause, TopicPartition,
    context::Context,
    evidence::Evidence,
    operation::{Operation, Outcome},
};

pub(crate) fn check(context: &Context<'_>, evidence: &mut Evidence) {
    polls(context, evidence);
    sends(context, evidence);
}

/// Where a client was after its last poll that counts.
#[derive(Clone, Copy)]
struct Last {
    place: usize,
    offset: i64,
    event: usize,
}

/// A client that reads.
#[derive(Default)]
struct Reader<'h> {
    /// It is a member of a group and does not note what is assigned to it: it may be anywhere at any time.
    wanders: bool,
    last: BTreeMap<&'h TopicPartition, Last>,
    /// The partitions that came or went since the last poll was invoked.
    rebalanced: BTreeSet<&'h TopicPartition>,
}

impl<'h> Reader<'h> {
    fn note(&mut self, op: &'h Op, notes_rebalances: bool) {
        match op {
            Op::Assign { partitions } => {
                self.wanders = false;
                self.last.retain(|partition, _| partitions.contains(*partition));
            }
            Op::Subscribe { topics, .. } => {
                self.wanders = !notes_rebalances;
                self.last.retain(|partition, _| topics.contains(&partition.topic));
            }
            Op::Crash {} | Op::Close {} => self.last.clear(),
            Op::Assigned { partitions, .. }
            | Op::Revoked { partitions, .. }
            | Op::Lost { partitions, .. } => {
                self.last.retain(|partition, _| !partitions.contains(*partition));
                self.rebalanced.extend(partitions);
            }
            Op::Seek { partition, .. }
            | Op::Position { partition, cause: PositionCause::Reset, .. } => {
                self.last.remove(partition);
                self.rebalanced.insert(partition);
            }
            _ => {}
        }
    }
}

fn polls(context: &Context<'_>, evidence: &mut Evidence) {
    let notes_rebalances: BTreeSet<&str> = context
        .history
        .events
        .iter()
        .filter(|event| matches!(event.op, Op::Assigned { .. }))
        .map(|event| event.client.as_str())
        .collect();
    let ends: BTreeMap<usize, &Operation<'_>> =
        context.operations.iter().map(|operation| (operation.event(), operation)).collect();
    let mut readers: BTreeMap<&str, Reader<'_>> = BTreeMap::new();
    for (index, Event { client, op, kind, .. }) in context.history.events.iter().enumerate() {
        let client = client.as_str();
        if !op.is_operation() {
            readers.entry(client).or_default().note(op, notes_rebalances.contains(client));
            continue;
        }
        if !matches!(op, Op::Poll { .. } | Op::Txn { .. }) {
            continue;
        }
        let reader = readers.entry(client).or_default();
        if *kind == crate::EventKind::Invoke {
            reader.rebalanced.clear();
        }
        if let Some(operation) = ends.get(&index) {
            poll(context, operation, reader, evidence);
        }
    }
}

fn poll<'h>(
    context: &Context<'h>,
    operation: &Operation<'h>,
    reader: &mut Reader<'h>,
    evidence: &mut Evidence,
) {
    for (partition, records) in operation.reads() {
        let told =
            matches!(operation.op, Op::Poll { rebalanced, .. } if rebalanced.contains(partition));
        let rebalanced = told || reader.rebalanced.contains(partition);
        let places: Vec<(Last, i64)> = records
            .iter()
            .filter_map(|record| {
                let place = context.versions.place(partition, record.value)?.last;
                Some((
                    Last { place, offset: record.offset, event: operation.event() },
                    record.value,
                ))
            })
            .collect();
        for pair in places.windows(2) {
            let ((before, _), (after, _)) = (pair[0], pair[1]);
            step(
                context,
                partition,
                before,
                after,
                rebalanced,
                [AnomalyKind::IntPollSkip, AnomalyKind::IntNonmonotonicPoll],
                evidence,
            );
        }
        let (Some((first, _)), Some((end, _))) = (places.first(), places.last()) else { continue };
        if let Some(before) = reader.last.get(partition) {
            step(
                context,
                partition,
                *before,
                *first,
                reader.wanders,
                [AnomalyKind::PollSkip, AnomalyKind::NonmonotonicPoll],
                evidence,
            );
        }
        // A transaction that did not commit begins again where it began.
        if operation.outcome == Outcome::Ok {
            reader.last.insert(partition, *end);
        }
    }
}

fn step(
    context: &Context<'_>,
    partition: &TopicPartition,
    before: Last,
    after: Last,
    allowed: bool,
    [skip, back]: [AnomalyKind; 2],
    evidence: &mut Evidence,
) {
    let events = [before.event, after.event];
    if after.place <= before.place {
        let message = format!("offset {} was read after offset {}", after.offset, before.offset);
        evidence.add(back, allowed, partition, message, events);
    } else if after.place > before.place + 1 {
        let left_out = before.offset + 1..after.offset;
        let from = left_out.start.max(context.log_start(partition));
        let skipped: Vec<String> = context
            .versions
            .between(partition, from, left_out.end)
            .map(|(offset, value)| format!("{value} at {offset}"))
            .collect();
        if skipped.is_empty() {
            return;
        }
        let message = format!(
            "offset {} was read after offset {}, without {}",
            after.offset,
            before.offset,
            skipped.join(", ")
        );
        evidence.add(skip, allowed, partition, message, events);
    }
}

fn sends(context: &Context<'_>, evidence: &mut Evidence) {
    let mut last: BTreeMap<(u64, &TopicPartition), (usize, i64, usize)> = BTreeMap::new();
    for (index, operation) in context.operations.iter().enumerate() {
        if !context.versions.committed.contains(&index) {
            continue;
        }
        let mut within: BTreeMap<&TopicPartition, Vec<(usize, i64)>> = BTreeMap::new();
        for sent in operation.sends() {
            if let Some(place) = context.versions.place(sent.partition, sent.value) {
                within.entry(sent.partition).or_default().push((place.last, sent.value));
            }
        }
        for (partition, sent) in within {
            for pair in sent.windows(2) {
                let ((before, a), (after, b)) = (pair[0], pair[1]);
                if after <= before {
                    evidence.bad(
                        AnomalyKind::IntNonmonotonicSend,
                        partition,
                        format!("{b} was sent after {a} but is not behind it"),
                        [operation.event()],
                    );
                } else if after > before + 1 {
                    evidence.add(
                        AnomalyKind::IntSendSkip,
                        true,
                        partition,
                        format!("between {a} and {b} of one transaction there is something else"),
                        [operation.event()],
                    );
                }
            }
            // What nobody answered may have arrived late; its sender went on without it.
            if operation.outcome != Outcome::Ok {
                continue;
            }
            let key = (operation.process, partition);
            if let Some((before, value, event)) = last.get(&key)
                && sent[0].0 <= *before
            {
                evidence.bad(
                    AnomalyKind::NonmonotonicSend,
                    partition,
                    format!(
                        "{} was sent after {value} was acknowledged but is not behind it",
                        sent[0].1
                    ),
                    [*event, operation.event()],
                );
            }
            let (place, value) = sent[sent.len() - 1];
            last.insert(key, (place, value, operation.event()));
        }
    }
}
