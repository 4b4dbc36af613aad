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
    by_value: BTreeMap<Option<&'h Committed>, Vec<usize>>,
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
        let possible =
            register.writes.iter().filter(|write| register.is_possible(write, start, end));
        Some(possible.map(|write| write.value).collect())
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
            self.by_value.entry(write.value).or_default().push(index);
        }
    }

    /// The latest start of a write that was over before that time: what ended before it is overwritten.
    pub(crate) fn overwritten_before(&self, time: u64) -> u64 {
        let over = self.over.partition_point(|(end, _)| *end < time);
        if over == 0 { 0 } else { self.over[over - 1].1 }
    }

    /// Whether a look between the two times may have found this.
    pub(crate) fn is_possible(&self, write: &Write<'_>, start: u64, end: u64) -> bool {
        write.start <= end && write.end >= self.overwritten_before(start)
    }

    /// The writes of that value.
    pub(crate) fn writes_of(&self, value: Option<&Committed>) -> Vec<Write<'h>> {
        let indices = self.by_value.get(&value).into_iter().flatten();
        indices.map(|index| self.writes[*index]).collect()
    }
}
