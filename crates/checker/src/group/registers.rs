//! Each committed offset as a register: what was written to it and what was read from it, and when.

use std::collections::BTreeMap;

use crate::{
    Committed, Op, TopicPartition,
    context::Context,
    operation::{Operation, Outcome},
};

/// A commit or a deletion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write<'h> {
    /// None: deleted.
    pub(crate) value: Option<&'h Committed>,
    pub(crate) start: u64,
    /// When it was over for certain; the end of all time if nobody knows whether it happened.
    pub(crate) end: u64,
    /// The event that tells most of it; none: nothing was committed at the beginning.
    pub(crate) event: Option<usize>,
}

/// A look at what is committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read<'h> {
    pub(crate) value: Option<&'h Committed>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) event: usize,
}

/// The committed offset of a partition for a group.
#[derive(Debug, Default)]
pub(crate) struct Register<'h> {
    /// What happened or may have happened, in the order of their starts. The first is the empty beginning.
    pub(crate) writes: Vec<Write<'h>>,
    /// What did not happen.
    pub(crate) refused: Vec<Write<'h>>,
    /// In the order of their starts.
    pub(crate) reads: Vec<Read<'h>>,
    /// For each end of a certain write, in order, the latest start among those that ended up to then.
    over: Vec<(u64, u64)>,
    every: Index,
    by_value: BTreeMap<Option<&'h Committed>, Index>,
}

/// Some of the writes, so that those of a time are found without looking at all of them.
#[derive(Debug, Default)]
struct Index {
    /// In the order of their starts.
    writes: Vec<usize>,
    /// For each of these, the latest certain end up to there.
    latest_end: Vec<u64>,
    /// Those of which nobody knows whether they happened.
    open: Vec<usize>,
}

impl Index {
    fn push(&mut self, index: usize, write: &Write<'_>) {
        let latest = self.latest_end.last().copied().unwrap_or(0);
        let is_open = write.end == u64::MAX;
        self.writes.push(index);
        self.latest_end.push(if is_open { latest } else { latest.max(write.end) });
        if is_open {
            self.open.push(index);
        }
    }

    /// Those that began up to `begun`, and were not over before `over`; in no order.
    fn between<'a>(
        &'a self,
        writes: &'a [Write<'_>],
        over: u64,
        begun: u64,
    ) -> impl Iterator<Item = usize> + 'a {
        let end = self.writes.partition_point(|index| writes[*index].start <= begun);
        let certain = (0..end).rev().take_while(move |at| self.latest_end[*at] >= over);
        let certain = certain.map(|at| self.writes[at]).filter(move |index| {
            let end = writes[*index].end;
            end != u64::MAX && end >= over
        });
        let open = self.open.iter().copied().take_while(move |at| writes[*at].start <= begun);
        certain.chain(open)
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Registers<'h> {
    pub(crate) registers: BTreeMap<(&'h str, &'h TopicPartition), Register<'h>>,
}

impl<'h> Registers<'h> {
    pub(crate) fn new(context: &Context<'h>) -> Self {
        let mut registers: BTreeMap<(&'h str, &'h TopicPartition), Register<'h>> = BTreeMap::new();
        for operation in &context.operations {
            for commit in operation.commits() {
                for (partition, value) in &commit.offsets {
                    let register = registers.entry((&commit.group, partition)).or_default();
                    let refused =
                        operation.outcome == Outcome::Fail || commit.failed.contains(partition);
                    register.write(operation, Some(value), refused);
                }
            }
            match operation.op {
                Op::FetchOffsets { group, offsets } if operation.outcome == Outcome::Ok => {
                    for (partition, value) in offsets {
                        registers.entry((group, partition)).or_default().reads.push(Read {
                            value: value.as_ref(),
                            start: operation.start,
                            end: operation.end,
                            event: operation.event(),
                        });
                    }
                }
                Op::DeleteOffsets { group, partitions } => {
                    let refused = operation.outcome == Outcome::Fail;
                    for partition in partitions {
                        let register = registers.entry((group, partition)).or_default();
                        register.write(operation, None, refused);
                    }
                }
                _ => {}
            }
        }
        for operation in &context.operations {
            let Op::DeleteGroup { group } = operation.op else { continue };
            for ((of, _), register) in &mut registers {
                if of == group {
                    register.write(operation, None, operation.outcome == Outcome::Fail);
                }
            }
        }
        for register in registers.values_mut() {
            register.index();
        }
        Self { registers }
    }

    /// What a look between the two times may have found committed, if anything is known of it.
    pub(crate) fn possible(
        &self,
        group: &str,
        partition: &TopicPartition,
        start: u64,
        end: u64,
    ) -> Option<Vec<Option<&'h Committed>>> {
        let register = self.registers.get(&(group, partition))?;
        let over = register.overwritten_before(start);
        let possible = register.every.between(&register.writes, over, end);
        Some(possible.map(|index| register.writes[index].value).collect())
    }
}

impl<'h> Register<'h> {
    fn write(&mut self, operation: &Operation<'h>, value: Option<&'h Committed>, refused: bool) {
        let write = Write {
            value,
            start: operation.start,
            end: operation.certain_end(),
            event: Some(operation.event()),
        };
        if refused { self.refused.push(write) } else { self.writes.push(write) }
    }

    fn index(&mut self) {
        self.writes.push(Write { value: None, start: 0, end: 0, event: None });
        self.writes.sort_by_key(|write| (write.start, write.event));
        self.reads.sort_by_key(|read| (read.start, read.event));
        let mut ends: Vec<(u64, u64)> = self
            .writes
            .iter()
            .filter(|write| write.end < u64::MAX)
            .map(|write| (write.end, write.start))
            .collect();
        ends.sort_unstable();
        let mut latest = 0;
        for (_, start) in &mut ends {
            latest = latest.max(*start);
            *start = latest;
        }
        self.over = ends;
        for (index, write) in self.writes.iter().enumerate() {
            self.every.push(index, write);
            self.by_value.entry(write.value).or_default().push(index, write);
        }
    }

    /// The latest start of a write that was over before that time: what ended before it is overwritten.
    pub(crate) fn overwritten_before(&self, time: u64) -> u64 {
        let over = self.over.partition_point(|(end, _)| *end < time);
        if over == 0 { 0 } else { self.over[over - 1].1 }
    }

    /// What a look may have found, of what has the value that it found.
    pub(crate) fn possible(&self, read: &Read<'_>) -> Vec<Write<'h>> {
        let over = self.overwritten_before(read.start);
        let Some(index) = self.by_value.get(&read.value) else { return Vec::new() };
        index.between(&self.writes, over, read.end).map(|index| self.writes[index]).collect()
    }

    /// The first write of that value.
    pub(crate) fn first_of(&self, value: Option<&Committed>) -> Option<&Write<'h>> {
        let first = self.by_value.get(&value)?.writes.first()?;
        Some(&self.writes[*first])
    }
}
