//! A history, made ready for the checks.

use std::collections::BTreeMap;

use crate::{
    FaultPhase, History, Op, Settings, TopicPartition,
    operation::{Operation, operations},
    records::Versions,
};

/// What all checks look at.
#[derive(Debug)]
pub(crate) struct Context<'h> {
    pub(crate) history: &'h History,
    /// In the order of their invocations.
    pub(crate) operations: Vec<Operation<'h>>,
    pub(crate) settings: Settings,
    /// The highest start of each log that was noted.
    pub(crate) trimmed: BTreeMap<&'h TopicPartition, i64>,
    /// Faults that landed.
    pub(crate) faults: usize,
    /// Transactions leave markers in the log, which nobody is given.
    pub(crate) has_transactions: bool,
    pub(crate) versions: Versions<'h>,
}

impl<'h> Context<'h> {
    /// Of a history that was validated.
    pub(crate) fn new(history: &'h History) -> Self {
        let operations = operations(history);
        let mut settings = Settings::default();
        let mut trimmed = BTreeMap::new();
        let mut faults = 0;
        for event in &history.events {
            match &event.op {
                Op::Settings(noted) => settings = noted.clone(),
                Op::Trimmed { partition, log_start } => {
                    let start = trimmed.entry(partition).or_insert(0);
                    *start = (*start).max(*log_start);
                }
                Op::Fault { phase: FaultPhase::Begin | FaultPhase::Once, .. } => faults += 1,
                _ => {}
            }
        }
        let has_transactions = operations.iter().any(Operation::is_transaction);
        let versions = Versions::new(&operations);
        Self { history, operations, settings, trimmed, faults, has_transactions, versions }
    }

    /// The first offset of a partition that is left, as far as it was noted.
    pub(crate) fn log_start(&self, partition: &TopicPartition) -> i64 {
        self.trimmed.get(partition).copied().unwrap_or(0)
    }
}
