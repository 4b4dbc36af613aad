//! From a history to a report.

use crate::{
    History, HistoryError, Metrics, Report, Verdict, context::Context, cycles, evidence::Evidence,
    group, operation::Outcome, records,
};

/// What the checker asks of a history before it calls it valid, and of itself before it gives up.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Of a hundred operations, so many must have happened (0 to 100); otherwise too little was tried.
    pub min_ok_percent: u32,
    /// So many faults must have landed; otherwise nothing was hard.
    pub min_faults: usize,
    /// So many steps are taken to find a common order for one committed offset; if that is not enough, it is undecided. A step
    /// counts as many times as there are operations put in order ahead of one that waits.
    pub max_search_steps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { min_ok_percent: 80, min_faults: 1, max_search_steps: 1_000_000 }
    }
}

/// Judges a history.
///
/// # Errors
///
/// If it is none: a process does two things at once, or ends what it has not begun.
pub fn check(history: &History, limits: &Limits) -> Result<Report, HistoryError> {
    history.validate()?;
    let context = Context::new(history);
    let mut metrics =
        Metrics { events: history.events.len(), faults: context.faults, ..Metrics::default() };
    for operation in &context.operations {
        metrics.operations += 1;
        match operation.outcome {
            Outcome::Ok => metrics.ok += 1,
            Outcome::Fail => metrics.failed += 1,
            Outcome::Info => metrics.unknown += 1,
        }
    }
    let mut evidence = Evidence::default();
    records::check(&context, &mut evidence, &mut metrics);
    cycles::check(&context, &mut evidence);
    group::check(&context, limits, &mut evidence, &mut metrics);
    let anomalies = evidence.anomalies;
    let doubts = doubts(&metrics, limits);
    let verdict = if anomalies.iter().any(|anomaly| !anomaly.allowed) {
        Verdict::Invalid
    } else if doubts.is_empty() {
        Verdict::Valid
    } else {
        Verdict::Unknown
    };
    Ok(Report { verdict, doubts, anomalies, metrics })
}

/// Why nobody should rely on a history without anomalies.
fn doubts(metrics: &Metrics, limits: &Limits) -> Vec<String> {
    let mut doubts = Vec::new();
    let (operations, ok) = (metrics.operations as u128, metrics.ok as u128);
    if operations == 0 {
        doubts.push("nothing was done".to_owned());
    } else if ok * 100 < operations * u128::from(limits.min_ok_percent) {
        doubts.push(format!(
            "{ok} of {operations} operations happened for certain, less than {} %",
            limits.min_ok_percent
        ));
    }
    if metrics.faults < limits.min_faults {
        doubts.push(format!("{} faults landed, less than {}", metrics.faults, limits.min_faults));
    }
    if metrics.registers_undecided > 0 {
        doubts.push(format!(
            "the search for a common order was given up for {} of {} committed offsets after {} steps",
            metrics.registers_undecided, metrics.registers, limits.max_search_steps
        ));
    }
    doubts
}
