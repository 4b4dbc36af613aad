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
    let owned = owned(facts);
    let mut progress = BTreeMap::new();
    for operation in
        context.operations.iter().filter(|operation| operation.outcome != Outcome::Fail)
    {
        let Some(reader) = readers.get(operation.client) else { continue };
        for commit in operation.commits() {
            if commit.source == CommitSource::Consumed {
                overrun(context, &owned, operation, commit, reader, &mut progress, evidence);
            }
        }
    }
}

/// A client that reads.
#[derive(Default)]
struct Reader<'h> {
    /// What it was given of each partition, in the order in which it was.
    given: BTreeMap<&'h TopicPartition, Vec<Given>>,
    /// Where it went on reading, of each partition.
    positions: BTreeMap<&'h TopicPartition, Vec<Position>>,
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
struct Position {
    event: usize,
    time: u64,
    offset: i64,
    /// How it was found; none: the application chose it.
    cause: Option<PositionCause>,
}

impl Reader<'_> {
    /// The positions of a partition between the two events.
    fn positions(
        &self,
        partition: &TopicPartition,
        from: usize,
        to: usize,
    ) -> impl Iterator<Item = &Position> {
        let all = self.positions.get(partition).map_or(&[][..], Vec::as_slice);
        let from = all.partition_point(|position| position.event < from);
        all[from..].iter().take_while(move |position| position.event < to)
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
                let position = Position { event: index, time, offset, cause: None };
                reader.positions.entry(partition).or_default().push(position);
            }
            Op::Position { partition, offset, cause, .. } => {
                let (time, offset, cause) = (event.time, *offset, Some(*cause));
                let position = Position { event: index, time, offset, cause };
                reader.positions.entry(partition).or_default().push(position);
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

/// For each group, client and partition, the events with which it was assigned, in order.
type Owned<'h> = BTreeMap<(&'h str, &'h str, &'h TopicPartition), Vec<usize>>;

fn owned<'h>(facts: &Facts<'h>) -> Owned<'h> {
    let mut owned = Owned::new();
    for (name, group) in &facts.groups {
        for belief in &group.beliefs {
            let starts = owned.entry((*name, belief.client, belief.partition)).or_default();
            starts.push(belief.start_event);
        }
    }
    owned.values_mut().for_each(|starts| starts.sort_unstable());
    owned
}

/// A commit against what the application was given.
fn overrun<'h>(
    context: &Context<'_>,
    owned: &Owned<'_>,
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
        let begun = last_before(&reader.begun, now);
        let key = (commit.group.as_str(), operation.client, partition);
        let assigned = owned.get(&key).map_or(&[][..], Vec::as_slice);
        let since = begun.max(last_before(assigned, now));
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

/// The last of these events before that one; the very first if there is none.
fn last_before(events: &[usize], now: usize) -> usize {
    let before = events.partition_point(|event| *event < now);
    before.checked_sub(1).map_or(0, |last| events[last])
}
