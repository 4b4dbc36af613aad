//! How far consumers are behind in time.

use std::collections::BTreeMap;

use crate::{
    Op, TopicPartition,
    context::Context,
    operation::{Operation, Outcome},
};

/// The longest time between the moment when something behind a consumer's position was known to be in the log and a later poll
/// that did not give it.
pub(crate) fn worst(context: &Context<'_>) -> u64 {
    let known = known_ends(context);
    let ends: BTreeMap<usize, &Operation<'_>> =
        context.operations.iter().map(|operation| (operation.event(), operation)).collect();
    let mut positions: BTreeMap<(&str, &TopicPartition), i64> = BTreeMap::new();
    let mut worst = 0;
    for (index, event) in context.history.events.iter().enumerate() {
        let client = event.client.as_str();
        match &event.op {
            Op::Assign { partitions } => {
                positions.retain(|(who, tp), _| *who != client || partitions.contains(*tp));
                for partition in partitions {
                    positions.entry((client, partition)).or_insert(-1);
                }
            }
            Op::Subscribe { .. } | Op::Crash {} | Op::Close {} => {
                positions.retain(|(who, _), _| *who != client);
            }
            Op::Revoked { partitions, .. } | Op::Lost { partitions, .. } => {
                positions.retain(|(who, tp), _| *who != client || !partitions.contains(*tp));
            }
            _ => {}
        }
        let Some(operation) = ends.get(&index) else { continue };
        if operation.outcome != Outcome::Ok || !matches!(operation.op, Op::Poll { .. }) {
            continue;
        }
        for (partition, records) in operation.reads() {
            if let Some(last) = records.last() {
                positions.insert((client, partition), last.offset);
            }
        }
        for ((who, partition), position) in &positions {
            if *who == client
                && let Some(outdated) = known.get(partition).and_then(|log| log.outdated(*position))
            {
                worst = worst.max(operation.start.saturating_sub(outdated));
            }
        }
    }
    worst
}

/// When the end of a log was known to be at least somewhere; both rise.
#[derive(Default)]
struct KnownEnds(Vec<(u64, i64)>);

impl KnownEnds {
    /// When a consumer that has read so far was behind.
    fn outdated(&self, position: i64) -> Option<u64> {
        let next = self.0.partition_point(|(_, offset)| *offset <= position);
        self.0.get(next).map(|(time, _)| *time)
    }
}

fn known_ends<'h>(context: &Context<'h>) -> BTreeMap<&'h TopicPartition, KnownEnds> {
    let mut by_end: Vec<&Operation<'_>> =
        context.operations.iter().filter(|operation| operation.outcome == Outcome::Ok).collect();
    by_end.sort_by_key(|operation| operation.end);
    let mut known: BTreeMap<&TopicPartition, KnownEnds> = BTreeMap::new();
    for operation in by_end {
        let sent =
            operation.sends().into_iter().filter_map(|sent| Some((sent.partition, sent.offset?)));
        let read = operation
            .reads()
            .into_iter()
            .filter_map(|(partition, records)| Some((partition, records.last()?.offset)));
        for (partition, offset) in sent.chain(read) {
            let log = &mut known.entry(partition).or_default().0;
            if log.last().is_none_or(|(_, last)| *last < offset) {
                log.push((operation.end, offset));
            }
        }
    }
    known
}
