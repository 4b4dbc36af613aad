//! A leader that is told to leave the assignment alone (KIP-814): whether everything is still assigned.
//!
//! A static member that leads and comes back within its session is not asked to assign; so it has no snapshot of the topics as
//! they were at the assignment, and what was added while it was away would stay with nobody until the next rebalance. Apache
//! Kafka's consumer takes the topics as they are at its return for what they were (`ConsumerCoordinator.onLeaderElected`, after
//! KAFKA-13435). This one asks the coordinator who has what, once, and asks for a rebalance if something is nobody's.
//!
//! # References
//! KIP-814. Who may join a group may describe it: Read implies Describe.

use std::collections::{BTreeMap, BTreeSet};

use kavka_protocol::{ByteString, ErrorCode};

use super::{Classic, Verdict};
use crate::{
    Assignment, Cause, Coordinator, Failure, GroupDescription, Monotonic, Request, RequestId,
    Target, TopicMetadata, TopicPartition, Trace, backoff::Attempts, context::Context,
    output::Trouble,
};

/// The question to the coordinator, until it is answered.
#[derive(Clone, Debug, Hash)]
pub(super) struct Skipped {
    /// What the members of the group subscribe to.
    topics: BTreeSet<ByteString>,
    asked: Option<RequestId>,
    attempts: Attempts,
    retry_at: Option<Monotonic>,
}

impl Skipped {
    pub(super) fn new(topics: BTreeSet<ByteString>) -> Self {
        Self { topics, asked: None, attempts: Attempts::default(), retry_at: None }
    }
}

impl Classic {
    pub(super) fn next_description(&self, has_coordinator: bool) -> Option<Monotonic> {
        let skipped = self.skipped.as_ref().filter(|_| has_coordinator && self.is_at_rest())?;
        skipped.retry_at.filter(|_| skipped.asked.is_none())
    }

    pub(super) fn maybe_describe(
        &mut self,
        ctx: &mut Context<'_>,
        coordinator: Option<&Coordinator>,
    ) -> bool {
        let may = self.is_at_rest();
        let (Some(skipped), Some(coordinator)) = (&mut self.skipped, coordinator) else {
            return false;
        };
        let in_time = skipped.retry_at.is_none_or(|at| at <= ctx.monotonic());
        if !may || !in_time || skipped.asked.is_some() {
            return false;
        }
        let request = Request::DescribeGroup { group: ctx.group() };
        let target = Target::Coordinator(coordinator.clone());
        skipped.asked = Some(ctx.send(target, ctx.config.request_timeout, request));
        skipped.retry_at = None;
        true
    }

    pub(crate) fn on_described(
        &mut self,
        ctx: &mut Context<'_>,
        topics: &BTreeMap<ByteString, TopicMetadata>,
        id: RequestId,
        result: Result<GroupDescription, ErrorCode>,
    ) -> Verdict {
        let Some(skipped) = self.skipped.take_if(|skipped| skipped.asked == Some(id)) else {
            ctx.trace(Trace::StaleAnswer);
            return Verdict::Done;
        };
        let code = match result {
            Ok(description) => {
                // One that is not stable is about to assign anew.
                let misfit = misfit(&description, &skipped.topics, topics);
                if let Some(partition) = misfit.filter(|_| description.is_stable) {
                    let reason =
                        format!("{partition} was not assigned as it is, or to nobody, on return");
                    self.want_rejoin(ctx, &reason, Cause::TopicsChanged);
                }
                return Verdict::Works;
            }
            Err(code) => code,
        };
        let asks_elsewhere =
            matches!(code, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable);
        if code.is_retriable() {
            self.skipped = Some(skipped);
            self.describe_later(ctx, Trouble::Code(code));
        } else {
            // It is refused for good, by a rule of this cluster's own. What changes from now on is seen all the same.
            ctx.trace(Trace::GaveUp { what: "DescribeGroups", code });
        }
        if asks_elsewhere { Verdict::FindCoordinator(code) } else { Verdict::Done }
    }

    pub(crate) fn on_description_failure(
        &mut self,
        ctx: &mut Context<'_>,
        id: RequestId,
        failure: Failure,
    ) {
        if self.skipped.as_ref().is_some_and(|skipped| skipped.asked == Some(id)) {
            self.describe_later(ctx, Trouble::Failure(failure));
        }
    }

    fn describe_later(&mut self, ctx: &mut Context<'_>, why: Trouble) {
        if let Some(skipped) = &mut self.skipped {
            ctx.trace(Trace::WillRetry { what: "DescribeGroups", why });
            skipped.asked = None;
            skipped.retry_at = Some(ctx.retry_at(&mut skipped.attempts));
        }
    }
}

/// A partition of these topics that is there and nobody's, or somebody's and not there. Topics that metadata does not tell of say
/// nothing; nor does an assignment that cannot be read.
fn misfit(
    description: &GroupDescription,
    subscribed: &BTreeSet<ByteString>,
    topics: &BTreeMap<ByteString, TopicMetadata>,
) -> Option<TopicPartition> {
    let shares: Result<Vec<Assignment>, _> =
        description.assignments.iter().map(Assignment::decode).collect();
    let assigned: BTreeSet<TopicPartition> =
        shares.ok()?.into_iter().flat_map(|share| share.partitions).collect();
    let known = subscribed.iter().filter_map(|name| Some((name, topics.get(name)?)));
    let there: BTreeSet<TopicPartition> = known
        .flat_map(|(name, topic)| {
            let numbers = (0..).zip(&topic.partitions).map(|(number, _)| number);
            numbers.map(move |number| TopicPartition::new(name.clone(), number))
        })
        .collect();
    let is_known = |partition: &&TopicPartition| {
        subscribed.contains(&partition.topic) && topics.contains_key(&partition.topic)
    };
    let orphan = there.difference(&assigned).next();
    let orphan = orphan.or_else(|| assigned.difference(&there).find(is_known));
    orphan.cloned()
}
