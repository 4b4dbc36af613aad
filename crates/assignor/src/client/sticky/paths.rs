//! Paths: rows of members, each of whom may hand a partition that it holds to the next.
//!
//! Walking a path leaves everybody's load as it was, but for the first, who has one less, and the last, who has one more. All partitions of
//! a topic are alike to whoever subscribes to it, so a search visits each topic and each member once at most.

use std::{cmp::Reverse, collections::VecDeque};

use super::{claims::NOBODY, holdings::Holdings};

/// Which partitions may move along a path.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Movable {
    /// Those that are not with the member that had them.
    NotOwned,
    All,
}

impl Movable {
    fn allows(self, holdings: &Holdings<'_>, partition: usize) -> bool {
        self == Self::All || !holdings.is_with_owner(partition)
    }
}

/// A partition of `topic` goes from one member to another.
#[derive(Clone, Copy)]
pub(super) struct Step {
    from: u32,
    topic: usize,
    pub(super) to: u32,
}

/// Searches, breadth first.
pub(super) struct Search {
    /// Members that no path leads away from.
    is_closed: Vec<bool>,
    /// By member and by topic: the search that saw it last.
    seen_member: Vec<u32>,
    seen_topic: Vec<u32>,
    search: u32,
    /// By member: how this search came to it.
    step: Vec<Step>,
    /// The members that this search came to.
    reached: VecDeque<u32>,
    visited: Vec<u32>,
}

impl Search {
    pub(super) fn new(holdings: &Holdings<'_>) -> Self {
        let members = holdings.loads().len();
        Self {
            is_closed: vec![false; members],
            seen_member: vec![0; members],
            seen_topic: vec![0; holdings.subscribers.len()],
            search: 0,
            step: vec![Step { from: NOBODY, topic: 0, to: NOBODY }; members],
            reached: VecDeque::new(),
            visited: Vec::new(),
        }
    }

    /// A shortest path to a member that is an end; of several equally near by the same topic the one that ranks lowest. Last step first.
    pub(super) fn path(
        &mut self,
        holdings: &Holdings<'_>,
        start: u32,
        movable: Movable,
        rank_as_end: impl Fn(u32) -> Option<usize>,
    ) -> Option<Vec<Step>> {
        self.search += 1;
        self.reached.clear();
        self.visited.clear();
        self.reached.push_back(start);
        self.visited.push(start);
        self.seen_member[start as usize] = self.search;
        while let Some(from) = self.reached.pop_front() {
            for (topic, held) in holdings.held(from) {
                if self.seen_topic[*topic] == self.search
                    || !held.iter().any(|at| movable.allows(holdings, *at))
                {
                    continue;
                }
                self.seen_topic[*topic] = self.search;
                let mut end: Option<(usize, u32)> = None;
                for to in holdings.subscribers[*topic].iter().copied() {
                    let at = to as usize;
                    if self.is_closed[at] || self.seen_member[at] == self.search {
                        continue;
                    }
                    self.seen_member[at] = self.search;
                    self.step[at] = Step { from, topic: *topic, to };
                    self.reached.push_back(to);
                    self.visited.push(to);
                    if let Some(rank) = rank_as_end(to) {
                        end = end.into_iter().chain([(rank, to)]).min();
                    }
                }
                if let Some((_, end)) = end {
                    return Some(self.back_to(start, end));
                }
            }
        }
        None
    }

    fn back_to(&self, start: u32, end: u32) -> Vec<Step> {
        let mut path = Vec::new();
        let mut at = end;
        while at != start {
            let step = self.step[at as usize];
            path.push(step);
            at = step.from;
        }
        path
    }

    /// Whether no path leads away from a member.
    pub(super) fn is_closed(&self, member: u32) -> bool {
        self.is_closed[member as usize]
    }

    /// The last search found nothing: whatever it came to is closed.
    pub(super) fn close(&mut self) {
        for member in &self.visited {
            self.is_closed[*member as usize] = true;
        }
    }
}

/// Moves one partition along each step of a path, the last step first: the one that makes it cheapest.
pub(super) fn walk(holdings: &mut Holdings<'_>, path: &[Step], movable: Movable) {
    let problem = holdings.problem;
    for Step { from, topic, to } in path {
        let held = holdings.held(*from).get(topic).map_or(&[][..], Vec::as_slice);
        let cheapest = held
            .iter()
            .filter(|at| movable.allows(holdings, **at))
            .min_by_key(|at| (problem.cost(**at, *to) - problem.cost(**at, *from), Reverse(**at)))
            .copied();
        let Some(partition) = cheapest else { unreachable!("a path along what is not held") };
        holdings.hand_over(partition, *to);
    }
}
