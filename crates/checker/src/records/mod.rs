//! What is wrong with records: which were read, where, and in which order.

mod lag;
mod order;
mod values;
mod versions;

use crate::{Metrics, context::Context, evidence::Evidence};

pub(crate) use versions::Versions;

/// Looks for all anomalies of records.
pub(crate) fn check(context: &Context<'_>, evidence: &mut Evidence, metrics: &mut Metrics) {
    values::check(context, evidence, metrics);
    order::check(context, evidence);
    metrics.worst_realtime_lag = lag::worst(context);
}
