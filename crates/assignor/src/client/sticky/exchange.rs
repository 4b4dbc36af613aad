//! Partitions that moved, or are far away, are exchanged for others where that costs less and leaves the sizes as they are.
//!
//! Each exchange makes the sum of all [costs](super::problem::Problem::cost) smaller, so there is an end to it. And it stays there: with
//! the outcome as the new owners every exchange is as costly as before or costlier, because whatever it touches moves.

use super::{
    claims::NOBODY,
    holdings::Holdings,
    paths::{Movable, Search, walk},
    problem::NearSearch,
};

/// Exchanges while there is something to gain.
pub(super) fn improve(holdings: &mut Holdings<'_>) {
    let mut search = Search::new(holdings);
    let mut again = true;
    while again {
        again = false;
        for partition in 0..holdings.problem.len() {
            while improve_one(holdings, &mut search, partition) {
                again = true;
            }
        }
    }
}

fn improve_one(holdings: &mut Holdings<'_>, search: &mut Search, partition: usize) -> bool {
    let problem = holdings.problem;
    let holder = holdings.member(partition);
    let cost = problem.cost(partition, holder);
    if cost == 0 {
        return false;
    }
    let owner = Some(problem.owners[partition]).filter(|owner| *owner != NOBODY);
    if owner.is_some_and(|owner| hand_to(holdings, partition, owner, cost, None)) {
        return true;
    }
    let near_search = problem.near_search();
    if near_search != NearSearch::Nobody && !problem.is_near(partition, holder) {
        let only = (near_search == NearSearch::SameTopic).then(|| problem.topic(partition));
        for at in 0..holdings.subscribers[problem.topic(partition)].len() {
            let candidate = holdings.subscribers[problem.topic(partition)][at];
            if hand_to(holdings, partition, candidate, cost, only) {
                return true;
            }
        }
    }
    !problem.use_racks && owner.is_some_and(|owner| pass_on(holdings, search, partition, owner))
}

/// Hands the partition to the candidate, for nothing if it has one less, or else for a partition of its own, of this topic if one is named.
fn hand_to(
    holdings: &mut Holdings<'_>,
    partition: usize,
    candidate: u32,
    cost: i32,
    only: Option<usize>,
) -> bool {
    let problem = holdings.problem;
    let holder = holdings.member(partition);
    let gain = cost - problem.cost(partition, candidate);
    if candidate == holder || gain <= 0 {
        return false;
    }
    if holdings.load(candidate) + 1 == holdings.load(holder) {
        holdings.hand_over(partition, candidate);
        return true;
    }
    let loss = |at: usize| problem.cost(at, holder) - problem.cost(at, candidate);
    let held = holdings.held(candidate);
    let other = match only {
        Some(topic) => held.get(&topic).into_iter().flatten().find(|at| loss(**at) < gain),
        None => held
            .iter()
            .filter(|(topic, _)| holdings.may_have(holder, **topic))
            .flat_map(|(_, held)| held)
            .find(|at| loss(**at) < gain),
    };
    let other = other.copied();
    if let Some(other) = other {
        holdings.hand_over(partition, candidate);
        holdings.hand_over(other, holder);
    }
    other.is_some()
}

/// Hands the partition back to its owner, who makes room by a path along which nothing moves that its owner still has. The path ends where
/// the sizes come out as they were: at the holder, or at a member that had one less than it.
fn pass_on(holdings: &mut Holdings<'_>, search: &mut Search, partition: usize, owner: u32) -> bool {
    let holder = holdings.member(partition);
    if owner == holder {
        return false;
    }
    let is_end =
        |to: u32| (to == holder || holdings.load(to) + 1 == holdings.load(holder)).then_some(0);
    let Some(path) = search.path(holdings, owner, Movable::NotOwned, is_end) else { return false };
    walk(holdings, &path, Movable::NotOwned);
    holdings.hand_over(partition, owner);
    true
}
