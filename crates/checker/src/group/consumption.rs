//! Whether consumers begin where it was committed, and commit what they were given.

use std::collections::BTreeMap;

use crate::{
    AnomalyKind, Commit, CommitSource, Committed, Op, PositionCause, TopicPartition,
    context::Context,
    evidence::Evidence,
    operation::{Operation, Outcome},
};

use super::{
    facts::{Belief, Facts},
    registers::Registers,
};

pub(crate) fn check(
    context: &Context<'_>,
    facts: &Facts<'_>,
    registers: &Registers<'_>,
    evidence: &mut Evidence,
) {
    let readers = readers(context);
    for (name, group) in &facts.groups {
        for belief in &group.beliefs {
            let Some(reader) = readers.get(belief.client) else { continue };
            beginning(context, registers, name, belief, reader, evidence);
        }
    }
    let mut progress = BTreeMap::new();
    for operation in
        context.operations.iter().filter(|operation| operation.outcome != Outcome::Fail)
    {
        let Some(reader) = readers.get(operation.client) else { continue };
        for commit in operation.commits() {
            if commit.source == CommitSource::Consumed {
                overrun(context, facts, operation, commit, reader, &mut progress, evidence);
            }
        }
    }
}

/// A client that reads.
#[derive(Default)]
struct Reader<'h> {
    /// What it was given of each partition, in the order in which it was.
    given: BTreeMap<&'h TopicPartition, Vec<Given>>,
    /// Where it went on reading.
    positions: Vec<Position<'h>>,
    /// The events with which it began to read something else, otherwise than by being assigned it.
    begun: Vec<usize>,
}

/// Records of a partition that an operation was given.
#[derive(Clone, Copy)]
struct Given {
    /// The event that tells of it, and its time.
    event: usize,
    end: u64,
    /// The offset of the first record.
    first: i64,
    /// One more than the highest offset.
    next: i64,
}

/// How far an application had come with a partition, since it began to read it; commits ask for that in the order of time.
#[derive(Clone, Copy, Default)]
struct Progress {
    since: usize,
    /// So much of what it was given is counted.
    counted: usize,
    next: Option<i64>,
}

impl Progress {
    fn at(&mut self, given: &[Given], since: usize, now: usize) -> Option<i64> {
        if self.since != since {
            let counted = given.partition_point(|given| given.event < since);
            *self = Self { since, counted, next: None };
        }
        while let Some(given) = given.get(self.counted).filter(|given| given.event < now) {
            self.next = self.next.max(Some(given.next));
            self.counted += 1;
        }
        self.next
    }
}

/// A client goes on reading somewhere.
struct Position<'h> {
    event: usize,
    time: u64,
    partition: &'h TopicPartition,
    offset: i64,
    /// How it was found; none: the application chose it.
    cause: Option<PositionCause>,
}

impl<'h> Reader<'h> {
    /// The positions of a partition between the two events.
    fn positions(
        &self,
        partition: &TopicPartition,
        from: usize,
        to: usize,
    ) -> impl Iterator<Item = &Position<'h>> {
        let all = self.positions.iter();
        all.filter(move |position| {
            position.partition == partition && (from..to).contains(&position.event)
        })
    }

    /// Whether the application chose a position between the two events.
    fn sought(&self, partition: &TopicPartition, from: usize, to: usize) -> bool {
        self.positions(partition, from, to).any(|position| position.cause.is_none())
    }
}

fn readers<'h>(context: &Context<'h>) -> BTreeMap<&'h str, Reader<'h>> {
    let mut readers: BTreeMap<&str, Reader<'_>> = BTreeMap::new();
    for operation in &context.operations {
        let reader = readers.entry(operation.client).or_default();
        let Some(event) = operation.complete else { continue };
        for (partition, records) in operation.reads() {
            let mut offsets = records.iter().map(|record| record.offset);
            if let (Some(highest), Some(first)) = (offsets.clone().max(), offsets.next()) {
                let given = Given { event, end: operation.end, first, next: highest + 1 };
                reader.given.entry(partition).or_default().push(given);
            }
        }
    }
    for (index, event) in context.history.events.iter().enumerate() {
        let Some(reader) = readers.get_mut(event.client.as_str()) else { continue };
        match &event.op {
            Op::Seek { partition, offset } => {
                let (time, offset) = (event.time, *offset);
                reader.positions.push(Position {
                    event: index,
                    time,
                    partition,
                    offset,
                    cause: None,
                });
            }
            Op::Position { partition, offset, cause, .. } => {
                let (time, offset, cause) = (event.time, *offset, Some(*cause));
                reader.positions.push(Position { event: index, time, partition, offset, cause });
            }
            Op::Assign { .. } | Op::Crash {} => reader.begun.push(index),
            _ => {}
        }
    }
    for reader in readers.values_mut() {
        reader.given.values_mut().for_each(|given| given.sort_by_key(|given| given.event));
    }
    readers
}

/// What a consumer was given first of a partition that it owns since then, against what was committed.
fn beginning(
    context: &Context<'_>,
    registers: &Registers<'_>,
    group: &str,
    belief: &Belief<'_>,
    reader: &Reader<'_>,
    evidence: &mut Evidence,
) {
    let partition = belief.partition;
    let subject = format!("{group}/{partition}");
    let (from, to) = (belief.start_event, belief.end_event.unwrap_or(usize::MAX));
    if let Some(Position { event, time, offset, cause: Some(cause), .. }) =
        reader.positions(partition, from, to).next()
        && let Some(committed) = committed_offsets(registers, group, partition, belief.start, *time)
    {
        let in_range = committed.iter().all(|committed| *committed >= context.log_start(partition));
        let wrong = match cause {
            PositionCause::Reset => in_range,
            PositionCause::Committed => !committed.contains(offset),
        };
        if wrong {
            evidence.bad(
                AnomalyKind::SpuriousReset,
                &subject,
                format!(
                    "{} began at offset {offset}, though {} was committed",
                    belief.client,
                    any(&committed)
                ),
                [belief.start_event, *event],
            );
            return;
        }
    }
    let given = reader.given.get(partition).map_or(&[][..], Vec::as_slice);
    let poll = given.get(given.partition_point(|given| given.event < from));
    let Some(Given { event, end, first, .. }) = poll.copied().filter(|given| given.event < to)
    else {
        return;
    };
    if reader.sought(partition, from, event) {
        return;
    }
    let Some(committed) = committed_offsets(registers, group, partition, belief.start, end) else {
        return;
    };
    let (lowest, highest) = (committed[0], committed[committed.len() - 1]);
    if first + 1 < lowest {
        // At the beginning of the log it looks like a reset, anywhere else like a commit that came too late.
        let log = &context.versions.logs[partition];
        let is_beginning = log
            .offsets
            .range(context.log_start(partition)..)
            .next()
            .is_some_and(|(start, _)| first <= *start);
        let kind =
            if is_beginning { AnomalyKind::SpuriousReset } else { AnomalyKind::CommittedTooFar };
        evidence.bad(
            kind,
            &subject,
            format!(
                "{} was given offset {first} first, though {} was committed",
                belief.client,
                any(&committed)
            ),
            [belief.start_event, event],
        );
        return;
    }
    let from = highest.max(context.log_start(partition));
    let skipped = context.versions.committed_between(partition, from, first).next();
    if let Some((offset, value)) = skipped {
        evidence.bad(
            AnomalyKind::SpuriousReset,
            &subject,
            format!(
                "{} was given offset {first} first, though {} was committed: it left out {value} at offset {offset}",
                belief.client, any(&committed)
            ),
            [belief.start_event, event],
        );
    }
}

/// The offsets that may have been committed when a position was looked up between the two times, in order; none if it may be that
/// nothing was.
fn committed_offsets(
    registers: &Registers<'_>,
    group: &str,
    partition: &TopicPartition,
    start: u64,
    end: u64,
) -> Option<Vec<i64>> {
    let possible: Option<Vec<&Committed>> =
        registers.possible(group, partition, start, end)?.into_iter().collect();
    let mut offsets: Vec<i64> = possible?.into_iter().map(|committed| committed.offset).collect();
    offsets.sort_unstable();
    offsets.dedup();
    Some(offsets)
}

fn any(offsets: &[i64]) -> String {
    offsets.iter().map(i64::to_string).collect::<Vec<_>>().join(" or ")
}

/// A commit against what the application was given.
fn overrun<'h>(
    context: &Context<'_>,
    facts: &Facts<'_>,
    operation: &Operation<'h>,
    commit: &'h Commit,
    reader: &Reader<'_>,
    progress: &mut BTreeMap<(&'h str, &'h TopicPartition), Progress>,
    evidence: &mut Evidence,
) {
    // A transaction may commit what it was given itself.
    let own = operation.reads();
    for (partition, committed) in &commit.offsets {
        if commit.failed.contains(partition) {
            continue;
        }
        let now = operation.invoke;
        let begun = reader.begun.iter().copied().rfind(|event| *event < now).unwrap_or(0);
        let beliefs =
            facts.groups.get(commit.group.as_str()).map_or(&[][..], |group| &group.beliefs);
        let owned = beliefs
            .iter()
            .filter(|belief| belief.client == operation.client && belief.partition == partition)
            .map(|belief| belief.start_event)
            .rfind(|start| *start < now);
        let since = begun.max(owned.unwrap_or(0));
        if reader.sought(partition, since, now) {
            continue;
        }
        let given = reader.given.get(partition).map_or(&[][..], Vec::as_slice);
        let earlier =
            progress.entry((operation.client, partition)).or_default().at(given, since, now);
        let own = own.get(partition).into_iter().flatten().map(|record| record.offset + 1).max();
        let found = reader.positions(partition, since, now).map(|position| position.offset).max();
        let Some(next) = earlier.max(own).max(found) else { continue };
        if committed.offset <= next {
            continue;
        }
        // What ends a transaction takes an offset that nobody is given.
        let left_out = context.versions.committed_between(partition, next, committed.offset).next();
        if !context.has_transactions || left_out.is_some() {
            evidence.bad(
                AnomalyKind::CommitOverrun,
                format_args!("{}/{partition}", commit.group),
                format!(
                    "{} committed offset {}, but the application was given nothing from {next} on",
                    operation.client, committed.offset
                ),
                [operation.event()],
            );
        }
    }
}
