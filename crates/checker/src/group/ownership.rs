//! Who owns which partition: at most one, at least one, and not another one for no reason.

use std::collections::{BTreeMap, BTreeSet};

use crate::{AnomalyKind, TopicPartition, context::Context, evidence::Evidence};

use super::{
    calm::{Calm, bound, long_calms},
    facts::{Belief, Facts, GroupFacts, Seen},
};

pub(crate) fn check(context: &Context<'_>, facts: &Facts<'_>, evidence: &mut Evidence) {
    for (name, group) in &facts.groups {
        dual_ownership(name, group, evidence);
        for calm in long_calms(context, facts, group) {
            orphans(context, name, facts, group, calm, evidence);
        }
        // Somebody who is removed unseen and comes back changes the members, too.
        if group.settings.sticky && group.settings.removals_noted {
            needless_moves(name, facts, group, evidence);
        }
    }
}

fn dual_ownership(name: &str, group: &GroupFacts<'_>, evidence: &mut Evidence) {
    let mut by_partition: BTreeMap<&TopicPartition, Vec<&Belief<'_>>> = BTreeMap::new();
    for belief in group.beliefs.iter().filter(|belief| belief.start < belief.sound_end) {
        by_partition.entry(belief.partition).or_default().push(belief);
    }
    for (partition, beliefs) in by_partition {
        let mut longest: Option<&Belief<'_>> = None;
        for belief in beliefs {
            if let Some(owner) = longest
                && owner.client != belief.client
                && belief.start < owner.sound_end
            {
                evidence.bad(
                    AnomalyKind::DualOwnership,
                    format_args!("{name}/{partition}"),
                    format!(
                        "{} (generation {}) was given it while {} (generation {}) still owned it",
                        belief.client,
                        belief.member.generation,
                        owner.client,
                        owner.member.generation
                    ),
                    [Some(owner.start_event), owner.end_event, Some(belief.start_event)]
                        .into_iter()
                        .flatten(),
                );
            }
            if longest.is_none_or(|owner| owner.sound_end < belief.sound_end) {
                longest = Some(belief);
            }
        }
    }
}

fn orphans(
    context: &Context<'_>,
    name: &str,
    facts: &Facts<'_>,
    group: &GroupFacts<'_>,
    calm: Calm,
    evidence: &mut Evidence,
) {
    let mut wanted: BTreeMap<&str, &BTreeSet<String>> = BTreeMap::new();
    for (_, client, topics) in group.subscriptions.iter().filter(|(time, ..)| *time <= calm.start) {
        wanted.insert(client, topics);
    }
    for (_, client) in facts.gone.iter().filter(|(time, _)| *time <= calm.start) {
        wanted.remove(client);
    }
    let wanted: BTreeSet<&str> =
        wanted.values().flat_map(|topics| topics.iter().map(String::as_str)).collect();
    let bound = bound(group);
    for (topic, partitions) in facts.topics_at(calm.start) {
        if !wanted.contains(topic) {
            continue;
        }
        for partition in (0..partitions).map(|partition| TopicPartition::new(topic, partition)) {
            // Beliefs are in the order of their starts.
            let mut free_since = calm.start;
            let mut longest = Calm { start: calm.start, end: calm.start };
            let mut gap = |from: u64, to: u64| {
                if to.saturating_sub(from) > longest.end - longest.start {
                    longest = Calm { start: from, end: to };
                }
            };
            for belief in group.beliefs.iter().filter(|belief| *belief.partition == partition) {
                if belief.end > calm.start && belief.start < calm.end {
                    gap(free_since, belief.start);
                    free_since = free_since.max(belief.end.min(calm.end));
                }
            }
            gap(free_since, calm.end);
            if longest.end - longest.start > bound {
                let around =
                    context.history.events.partition_point(|event| event.time <= longest.start);
                evidence.bad(
                    AnomalyKind::OrphanPartition,
                    format_args!("{name}/{partition}"),
                    format!(
                        "nobody owned it for {} ms, from {} on; the group may take {} ms to settle",
                        (longest.end - longest.start) / 1_000_000,
                        longest.start,
                        bound / 1_000_000
                    ),
                    [around.saturating_sub(1)],
                );
            }
        }
    }
}

/// A generation in which every partition was owned, and nothing has changed since.
struct Settled<'a, 'h> {
    members: BTreeSet<&'h str>,
    owners: BTreeMap<&'h TopicPartition, &'a Seen<'h>>,
}

/// Looks for partitions that moved after everything had been given out, although nothing has changed since: neither the members, nor
/// what they want, nor the topics.
fn needless_moves(name: &str, facts: &Facts<'_>, group: &GroupFacts<'_>, evidence: &mut Evidence) {
    let mut generations: BTreeMap<i32, Vec<&Seen<'_>>> = BTreeMap::new();
    for seen in &group.seen {
        generations.entry(seen.member.generation).or_default().push(seen);
    }
    let mut changes: Vec<u64> = group.subscriptions.iter().map(|(time, ..)| *time).collect();
    changes.extend(&group.losses);
    changes.extend(&group.restarts);
    changes.extend(facts.gone.iter().map(|(time, _)| *time));
    changes.extend(facts.topics.iter().map(|(time, ..)| *time));
    changes.sort_unstable();

    let mut settled: Option<Settled<'_, '_>> = None;
    let mut before: Option<u64> = None;
    for seen in generations.values() {
        let first = seen.iter().map(|seen| seen.time).min().unwrap_or_default();
        let last = seen.iter().map(|seen| seen.time).max().unwrap_or_default();
        let members: BTreeSet<&str> =
            seen.iter().map(|seen| seen.member.member_id.as_str()).collect();
        // Who heard of the generation before may have joined this one with what it wanted then.
        let is_quiet = before.is_some_and(|before| {
            let next = changes.partition_point(|time| *time < before);
            changes.get(next).is_none_or(|time| *time > last)
        });
        before = Some(first);
        if !is_quiet || settled.as_ref().is_some_and(|settled| settled.members != members) {
            settled = None;
        }
        let mut owners: BTreeMap<&TopicPartition, &Seen<'_>> = BTreeMap::new();
        for seen in seen {
            owners.extend(seen.owned.iter().map(|partition| (*partition, *seen)));
        }
        if let Some(settled) = &settled {
            for (partition, owner) in &owners {
                let Some(former) = settled.owners.get(partition) else { continue };
                if former.member.member_id != owner.member.member_id {
                    evidence.bad(
                        AnomalyKind::NeedlessMove,
                        format_args!("{name}/{partition}"),
                        format!(
                            "moved from {} (generation {}) to {} (generation {}), though members, subscriptions and topics stayed the same",
                            former.client, former.member.generation, owner.client, owner.member.generation
                        ),
                        [former.event, owner.event],
                    );
                }
            }
        }
        if is_quiet && everything_is_owned(facts, group, last, &owners) {
            settled = Some(Settled { members, owners });
        }
    }
}

fn everything_is_owned(
    facts: &Facts<'_>,
    group: &GroupFacts<'_>,
    time: u64,
    owners: &BTreeMap<&TopicPartition, &Seen<'_>>,
) -> bool {
    let mut wanted: BTreeSet<&str> = BTreeSet::new();
    let mut clients: BTreeSet<&str> = BTreeSet::new();
    for (since, client, topics) in group.subscriptions.iter().rev() {
        if *since <= time && clients.insert(client) {
            wanted.extend(topics.iter().map(String::as_str));
        }
    }
    let all: BTreeSet<TopicPartition> = facts
        .topics_at(time)
        .into_iter()
        .filter(|(topic, _)| wanted.contains(topic))
        .flat_map(|(topic, partitions)| {
            (0..partitions).map(move |partition| TopicPartition::new(topic, partition))
        })
        .collect();
    !all.is_empty() && all.iter().eq(owners.keys().copied())
}
