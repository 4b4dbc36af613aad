//! Times in which nothing was done to a group from outside, so that it has to settle.

use std::collections::BTreeMap;

use crate::{FaultPhase, Op, context::Context};

use super::facts::{Facts, GroupFacts};

/// How long a group may take beyond its timeouts; nanoseconds.
const GRACE: u64 = 5_000_000_000;

/// From `start` to `end`, nothing was broken, and nobody crashed, came, closed or changed what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Calm {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// How long a group may need to settle: a member that is gone holds it for a session timeout, one that is slow for a rebalance timeout.
pub(crate) fn bound(group: &GroupFacts<'_>) -> u64 {
    let timeouts =
        group.settings.session_timeout_ms.saturating_add(group.settings.rebalance_timeout_ms);
    timeouts.saturating_mul(1_000_000).saturating_add(GRACE)
}

/// The calm times of a group that are longer than it may need to settle.
pub(crate) fn long_calms(
    context: &Context<'_>,
    facts: &Facts<'_>,
    group: &GroupFacts<'_>,
) -> Vec<Calm> {
    // At each moment of unrest, how many faults go on afterwards.
    let mut unrest: BTreeMap<u64, i64> = BTreeMap::new();
    let mut broken = 0i64;
    for event in &context.history.events {
        match &event.op {
            Op::Fault { phase, .. } => {
                match phase {
                    FaultPhase::Begin => broken += 1,
                    FaultPhase::End => broken = (broken - 1).max(0),
                    FaultPhase::Once => {}
                }
                unrest.insert(event.time, broken);
            }
            Op::Crash {} | Op::Close {} | Op::Topic { .. } | Op::DeleteGroup { .. } => {
                unrest.insert(event.time, broken);
            }
            _ => {}
        }
    }
    for (time, ..) in &group.subscriptions {
        let broken = unrest.range(..=*time).next_back().map_or(0, |(_, broken)| *broken);
        unrest.entry(*time).or_insert(broken);
    }
    let mut moments: Vec<(u64, i64)> = unrest.into_iter().collect();
    moments.push((facts.end, 0));
    let bound = bound(group);
    moments
        .windows(2)
        .filter(|pair| pair[0].1 == 0)
        .map(|pair| Calm { start: pair[0].0, end: pair[1].0 })
        .filter(|calm| calm.end - calm.start > bound)
        .collect()
}
