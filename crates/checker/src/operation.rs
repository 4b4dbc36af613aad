//! Operations: invocations with their completions.

use std::collections::BTreeMap;

use crate::{Commit, EventKind, History, Op, Record, Step, TopicPartition};

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has happened, between its start and its end.
    Ok,
    /// It has not happened.
    Fail,
    /// It may have happened at any time after its start, or never.
    Info,
}

/// An operation from its invocation to what became of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation<'h> {
    /// The event that began it.
    pub(crate) invoke: usize,
    /// The event that ended it, if any.
    pub(crate) complete: Option<usize>,
    pub(crate) process: u64,
    pub(crate) client: &'h str,
    pub(crate) start: u64,
    /// When it was over. An operation without completion is over at the end of all time.
    pub(crate) end: u64,
    pub(crate) outcome: Outcome,
    /// As the completion tells it; if there is none, as the invocation does.
    pub(crate) op: &'h Op,
}

/// A record that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent<'h> {
    pub(crate) partition: &'h TopicPartition,
    pub(crate) value: i64,
    pub(crate) offset: Option<i64>,
}

impl<'h> Operation<'h> {
    /// The event that tells most of it.
    pub(crate) fn event(&self) -> usize {
        self.complete.unwrap_or(self.invoke)
    }

    /// When a write of this operation was over for certain: never, if nobody knows.
    pub(crate) fn certain_end(&self) -> u64 {
        if self.outcome == Outcome::Ok { self.end } else { u64::MAX }
    }

    pub(crate) fn is_transaction(&self) -> bool {
        matches!(self.op, Op::Txn { .. })
    }

    /// What it sends, in order.
    pub(crate) fn sends(&self) -> Vec<Sent<'h>> {
        match self.op {
            Op::Send { partition, value, offset } => {
                vec![Sent { partition, value: *value, offset: *offset }]
            }
            Op::Txn { steps } => steps
                .iter()
                .filter_map(|step| match step {
                    Step::Send { partition, value, offset } => {
                        Some(Sent { partition, value: *value, offset: *offset })
                    }
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// What it got of each partition, in order. Invocations know nothing of that yet.
    pub(crate) fn reads(&self) -> BTreeMap<&'h TopicPartition, Vec<Record>> {
        let mut all: BTreeMap<&TopicPartition, Vec<Record>> = BTreeMap::new();
        let mut add = |records: &'h BTreeMap<TopicPartition, Vec<Record>>| {
            for (partition, records) in records {
                all.entry(partition).or_default().extend(records);
            }
        };
        match self.op {
            Op::Poll { records, .. } => add(records),
            Op::Txn { steps } => {
                for step in steps {
                    if let Step::Poll { records } = step {
                        add(records);
                    }
                }
            }
            _ => {}
        }
        all
    }

    /// What it commits.
    pub(crate) fn commits(&self) -> Vec<&'h Commit> {
        match self.op {
            Op::Commit(commit) => vec![commit],
            Op::Txn { steps } => steps
                .iter()
                .filter_map(|step| match step {
                    Step::Commit(commit) => Some(commit),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// The operations of a history that was validated, in the order of their invocations.
pub(crate) fn operations(history: &History) -> Vec<Operation<'_>> {
    let mut operations = Vec::new();
    let mut open: BTreeMap<u64, usize> = BTreeMap::new();
    for (index, event) in history.events.iter().enumerate() {
        if !event.op.is_operation() {
            continue;
        }
        let outcome = match event.kind {
            EventKind::Invoke => {
                open.insert(event.process, operations.len());
                operations.push(Operation {
                    invoke: index,
                    complete: None,
                    process: event.process,
                    client: &event.client,
                    start: event.time,
                    end: u64::MAX,
                    outcome: Outcome::Info,
                    op: &event.op,
                });
                continue;
            }
            EventKind::Ok => Outcome::Ok,
            EventKind::Fail => Outcome::Fail,
            EventKind::Info => Outcome::Info,
        };
        let operation = open.remove(&event.process).expect("the history was validated");
        let operation: &mut Operation<'_> = &mut operations[operation];
        operation.complete = Some(index);
        operation.end = event.time;
        operation.outcome = outcome;
        operation.op = &event.op;
    }
    operations
}
