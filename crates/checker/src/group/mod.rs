//! What is wrong with groups: who owns what, what is committed, and how rebalances go.

mod calm;
mod consumption;
mod facts;
mod generations;
mod linearizability;
mod offsets;
mod ownership;
mod registers;

use crate::{Limits, Metrics, context::Context, evidence::Evidence};

use facts::Facts;
use registers::Registers;

/// Looks for all anomalies of groups.
pub(crate) fn check(
    context: &Context<'_>,
    limits: &Limits,
    evidence: &mut Evidence,
    metrics: &mut Metrics,
) {
    let facts = Facts::new(context);
    let registers = Registers::new(context);
    offsets::check(&registers, limits, evidence, metrics);
    ownership::check(context, &facts, evidence);
    generations::check(context, &facts, evidence);
    consumption::check(context, &facts, &registers, evidence);
}
