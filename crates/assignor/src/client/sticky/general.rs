//! Members subscribe to different topics: the sizes come out of who may have what.
//!
//! # The algorithm
//! Sharing out partitions evenly among those who may have them is a *semi-matching* of least cost (Harvey, Ladner, Lovász, Tamir: "Optimal
//! semi-matchings for bipartite graphs and load balancing", 2006). It is as even as can be, by every measure at once, when no *path* leads
//! from a member to one that has at least two partitions less, where a step of a path is a partition that its holder may hand to the next
//! member. So:
//!
//! 1. Everybody keeps what it had; what is left goes to whoever may have it and has least.
//! 2. Paths are taken until there are none: first those on which nothing moves that its owner still has, then all, each by the fewest
//!    steps. Members are searched from in the order of falling load. A search that fails has seen a set of members that is closed (no path
//!    leads out) and even in itself, so none of them is looked at again.
//! 3. Partitions that moved, or are far away, are exchanged for others where that is less of both and leaves the sizes as they are.
//!
//! All partitions of a topic are alike to whoever subscribes to it, so a search visits each topic and each member once at most.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use super::{
    claims::NOBODY,
    exchange,
    holdings::Holdings,
    paths::{Movable, Search, walk},
    problem::Problem,
};

/// Of each partition, the member that gets it.
pub(super) fn assign(problem: &Problem<'_>) -> Vec<u32> {
    let mut holdings = Holdings::new(problem);
    for (at, owner) in problem.owners.iter().enumerate() {
        if *owner != NOBODY {
            holdings.put(at, *owner);
        }
    }
    fill(&mut holdings);
    balance(&mut holdings, Movable::NotOwned);
    balance(&mut holdings, Movable::All);
    exchange::improve(&mut holdings);
    holdings.into_members()
}

/// Gives what is left to whoever has least, and of those to one that is near; topics with the smallest choice of members first.
fn fill(holdings: &mut Holdings<'_>) {
    let problem = holdings.problem;
    let mut left: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for at in holdings.unplaced() {
        let topic = problem.topic(at);
        left.entry((holdings.subscribers[topic].len(), topic)).or_default().push(at);
    }
    for ((_, topic), partitions) in left {
        let mut racks: BTreeMap<Option<u32>, BinaryHeap<Reverse<(usize, u32)>>> = BTreeMap::new();
        for member in &holdings.subscribers[topic] {
            let rack = racks.entry(problem.rack(*member)).or_default();
            rack.push(Reverse((holdings.load(*member), *member)));
        }
        for at in partitions {
            let first_of = |rack: &BinaryHeap<Reverse<(usize, u32)>>| {
                let Reverse((load, member)) = *rack.peek()?;
                Some((load, !problem.is_near(at, member), member))
            };
            let Some((load, _, member)) = racks.values().filter_map(first_of).min() else {
                unreachable!("a topic that nobody subscribes to")
            };
            if let Some(rack) = racks.get_mut(&problem.rack(member)) {
                rack.pop();
                rack.push(Reverse((load + 1, member)));
            }
            holdings.put(at, member);
        }
    }
}

/// Takes paths until there are none.
fn balance(holdings: &mut Holdings<'_>, movable: Movable) {
    let mut by_load: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    for (member, load) in (0..).zip(holdings.loads()) {
        by_load.entry(*load).or_default().push(member);
    }
    let mut search = Search::new(holdings);
    // What a path changes ends below the load it was searched from.
    while let Some((load, members)) = by_load.pop_last() {
        if load < 2 {
            break;
        }
        for member in members {
            if holdings.load(member) != load || search.is_closed(member) {
                continue;
            }
            let is_end = |to| (holdings.load(to) + 2 <= load).then(|| holdings.load(to));
            match search.path(holdings, member, movable, is_end) {
                Some(path) => {
                    walk(holdings, &path, movable);
                    for changed in [member, path[0].to] {
                        by_load.entry(holdings.load(changed)).or_default().push(changed);
                    }
                }
                None => search.close(),
            }
        }
    }
}
