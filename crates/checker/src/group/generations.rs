//! Generations: they rise, rebalances end, and who is not in the newest one commits nothing.

use std::collections::BTreeMap;

use crate::{
    AnomalyKind, GroupProtocol, Member, TopicPartition,
    context::Context,
    evidence::Evidence,
    operation::{Operation, Outcome},
};

use super::{
    calm::{bound, long_calms},
    facts::{Facts, GroupFacts, Seen},
};

pub(crate) fn check(context: &Context<'_>, facts: &Facts<'_>, evidence: &mut Evidence) {
    for (name, group) in &facts.groups {
        regress(name, group, evidence);
        stuck(context, name, facts, group, evidence);
    }
    for operation in context.operations.iter().filter(|operation| operation.outcome == Outcome::Ok)
    {
        commits_of_fenced(facts, operation, evidence);
    }
}

fn regress(name: &str, group: &GroupFacts<'_>, evidence: &mut Evidence) {
    let mut last: BTreeMap<&str, &Seen<'_>> = BTreeMap::new();
    for seen in &group.seen {
        let Some(before) = last.insert(seen.client, seen) else { continue };
        if seen.member.generation >= before.member.generation {
            continue;
        }
        // Who does not see the states of the group cannot tell whether it was empty, unless somebody else owned something all the time.
        let may_have_been_empty = if group.states.is_empty() {
            !group.beliefs.iter().any(|belief| {
                belief.client != seen.client
                    && belief.start <= before.time
                    && belief.sound_end >= seen.time
            })
        } else {
            group.restarted_between(before.time, seen.time)
        };
        if !may_have_been_empty {
            evidence.bad(
                AnomalyKind::GenerationRegress,
                name,
                format!(
                    "{} was in generation {}, then in {}, and the group was not empty in between",
                    seen.client, before.member.generation, seen.member.generation
                ),
                [before.event, seen.event],
            );
        }
    }
}

fn stuck(
    context: &Context<'_>,
    name: &str,
    facts: &Facts<'_>,
    group: &GroupFacts<'_>,
    evidence: &mut Evidence,
) {
    let bound = bound(group);
    // Rebalances: from when to when, and the event that tells of the last state.
    let mut rebalances: Vec<(u64, u64, usize)> = Vec::new();
    let mut open: Option<(u64, usize)> = None;
    for (time, state, event) in &group.states {
        match (state.is_rebalancing(), open) {
            (true, None) => open = Some((*time, *event)),
            (true, Some((since, _))) => open = Some((since, *event)),
            (false, Some((since, last))) => {
                rebalances.push((since, *time, last));
                open = None;
            }
            (false, None) => {}
        }
    }
    rebalances.extend(open.map(|(since, last)| (since, facts.end, last)));
    for calm in long_calms(context, facts, group) {
        for (from, to, event) in &rebalances {
            let (from, to) = ((*from).max(calm.start), (*to).min(calm.end));
            if to.saturating_sub(from) > bound {
                evidence.bad(
                    AnomalyKind::StuckRebalance,
                    name,
                    format!(
                        "a rebalance went on for {} ms while nothing was broken; it may take {} ms",
                        (to - from) / 1_000_000,
                        bound / 1_000_000
                    ),
                    [*event],
                );
            }
        }
    }
}

fn commits_of_fenced(facts: &Facts<'_>, operation: &Operation<'_>, evidence: &mut Evidence) {
    for commit in operation.commits() {
        let (Some(member), Some(group)) = (&commit.member, facts.groups.get(commit.group.as_str()))
        else {
            continue;
        };
        if let Some((removed, event)) = group.removed.get(member.member_id.as_str())
            && *removed < operation.start
            && commit.failed.len() < commit.offsets.len()
        {
            evidence.bad(
                AnomalyKind::CommitFromFenced,
                &commit.group,
                format!("a commit of {} was taken after that member was removed", member.member_id),
                [*event, operation.event()],
            );
            continue;
        }
        for partition in
            commit.offsets.keys().filter(|partition| !commit.failed.contains(*partition))
        {
            if let Some((generation, event)) = superseded(group, member, partition, operation) {
                evidence.bad(
                    AnomalyKind::CommitFromFenced,
                    format_args!("{}/{partition}", commit.group),
                    format!(
                        "a commit of {} in generation {} was taken, but generation {generation} had been handed out before",
                        member.member_id, member.generation
                    ),
                    [event, operation.event()],
                );
            }
        }
    }
}

/// A generation that was handed out before the commit and forbids it, with the event.
fn superseded(
    group: &GroupFacts<'_>,
    member: &Member,
    partition: &TopicPartition,
    operation: &Operation<'_>,
) -> Option<(i32, usize)> {
    let newer = |generation: i32, time: u64| {
        generation > member.generation
            && time < operation.start
            && !group.restarted_between(time, operation.end)
    };
    match group.settings.protocol {
        GroupProtocol::Classic => {
            let before = group.seen.partition_point(|seen| seen.time < operation.start);
            // Nearly always nothing newer was handed out, and that is known at once.
            let newest = before.checked_sub(1).map(|last| group.newest[last]);
            if newest.is_none_or(|newest| newest <= member.generation) {
                return None;
            }
            let mut seen = group.seen[..before].iter();
            let newer = seen.find(|seen| newer(seen.member.generation, seen.time))?;
            Some((newer.member.generation, newer.event))
        }
        // A member may lag behind as long as the partition is its own.
        GroupProtocol::Consumer => group
            .beliefs
            .iter()
            .find(|belief| {
                belief.partition == partition
                    && belief.member.member_id != member.member_id
                    && newer(belief.member.generation, belief.start)
            })
            .map(|belief| (belief.member.generation, belief.start_event)),
    }
}
