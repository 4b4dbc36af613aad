//! What the checker found.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{Anomaly, AnomalyKind};

/// What is to be thought of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing is wrong, and enough happened to say so.
    Valid,
    /// Something is wrong.
    Invalid,
    /// Nothing is known to be wrong, but too little happened, or something could not be decided.
    Unknown,
}

/// What the checker found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// In one word.
    pub verdict: Verdict,
    /// Why the verdict is unknown, or would be if nothing were wrong.
    pub doubts: Vec<String>,
    /// Everything that was found, also what is allowed.
    pub anomalies: Vec<Anomaly>,
    /// What was counted.
    pub metrics: Metrics,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Metrics {
    /// Events.
    pub events: usize,
    /// Operations.
    pub operations: usize,
    /// Operations that happened.
    pub ok: usize,
    /// Operations that did not.
    pub failed: usize,
    /// Operations of which nobody knows.
    pub unknown: usize,
    /// Faults that landed.
    pub faults: usize,
    /// Values that were acknowledged.
    pub acknowledged: usize,
    /// Values that were acknowledged but never read.
    pub unseen: usize,
    /// The longest that a consumer's position was behind something acknowledged, when it polled; in nanoseconds.
    pub worst_realtime_lag: u64,
    /// How many values a client consumed so many times; once is not counted.
    pub consumed_again: BTreeMap<usize, usize>,
    /// Committed offsets whose history was searched for a common order: groups times partitions.
    pub registers: usize,
    /// Of those, how many searches were given up.
    pub registers_undecided: usize,
}

impl Report {
    /// What is wrong: the anomalies that are not allowed.
    pub fn bad(&self) -> impl Iterator<Item = &Anomaly> {
        self.anomalies.iter().filter(|anomaly| !anomaly.allowed)
    }

    /// Whether there is such an anomaly that is not allowed.
    pub fn has(&self, kind: AnomalyKind) -> bool {
        self.bad().any(|anomaly| anomaly.kind == kind)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Valid => "valid",
            Verdict::Invalid => "invalid",
            Verdict::Unknown => "unknown",
        })
    }
}
