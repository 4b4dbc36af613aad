//! All members subscribe to the same: the sizes are known from the start, and what has to move is what exceeds them.
//!
//! With P partitions and C members everybody gets P div C, and P mod C members get one more. Without racks as little moves as these sizes
//! allow: each member keeps what it had, up to the size it may have, and those that had most keep the extras. Takes time in proportion to
//! partitions and members, times the logarithm of the members where there are racks.

use std::collections::{BTreeMap, BTreeSet};

use super::{claims::NOBODY, exchange, holdings::Holdings, problem::Problem};

/// Of each partition, the member that gets it.
pub(super) fn assign(problem: &Problem<'_>) -> Vec<u32> {
    let members = problem.subscribers();
    if members.is_empty() {
        assert!(problem.len() == 0, "a topic that nobody subscribes to");
        return Vec::new();
    }
    let mut sharing = Sharing::new(problem, &members);
    sharing.keep(&members);
    if problem.use_racks {
        sharing.place_near(&members);
        sharing.give_back();
    }
    sharing.fill(&members);
    if !problem.use_racks {
        return sharing.members;
    }
    let mut holdings = Holdings::new(problem);
    for (at, member) in sharing.members.into_iter().enumerate() {
        holdings.put(at, member);
    }
    exchange::improve(&mut holdings);
    holdings.into_members()
}

struct Sharing<'a> {
    problem: &'a Problem<'a>,
    /// Everybody gets this many,
    quota: usize,
    /// and so many members, of those that have no more than that yet, get one more.
    extras: usize,
    /// Of each partition; or [`NOBODY`] yet.
    members: Vec<u32>,
    /// Of each member.
    loads: Vec<usize>,
}

impl<'a> Sharing<'a> {
    fn new(problem: &'a Problem<'a>, members: &[u32]) -> Self {
        Self {
            problem,
            quota: problem.len() / members.len(),
            extras: problem.len() % members.len(),
            members: vec![NOBODY; problem.len()],
            loads: vec![0; problem.group.members().len()],
        }
    }

    fn has_room(&self, member: u32) -> bool {
        let load = self.loads[member as usize];
        load < self.quota || load == self.quota && self.extras > 0
    }

    fn put(&mut self, partition: usize, member: u32) {
        let load = &mut self.loads[member as usize];
        *load += 1;
        if *load > self.quota {
            assert!(self.extras > 0, "a member exceeds its quota");
            self.extras -= 1;
        }
        self.members[partition] = member;
    }

    fn unplaced(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|at| self.members[*at] == NOBODY).collect()
    }

    /// Everybody keeps what it had and is near, up to its size.
    fn keep(&mut self, members: &[u32]) {
        let mut owned: Vec<Vec<usize>> = vec![Vec::new(); self.loads.len()];
        for (at, owner) in self.problem.owners.iter().enumerate() {
            if *owner != NOBODY && self.problem.is_near(at, *owner) {
                owned[*owner as usize].push(at);
            }
        }
        for member in members {
            let owned = &mut owned[*member as usize];
            if owned.len() > self.quota {
                // What is given up comes from all topics alike.
                owned.sort_by_key(|at| (self.problem.partition(*at).number, *at));
            }
            for at in owned {
                if !self.has_room(*member) {
                    break;
                }
                self.put(*at, *member);
            }
        }
    }

    /// Places what it can with members that have a replica in their rack: first the partitions with the smallest choice of racks, each in
    /// the rack with the most room.
    fn place_near(&mut self, members: &[u32]) {
        let mut racks: BTreeMap<Option<u32>, Rack> = BTreeMap::new();
        for member in members {
            let rack = self.problem.group.members()[*member as usize].rack();
            let load = self.loads[*member as usize];
            let rack = racks.entry(rack).or_default();
            rack.members.insert((load, *member));
            rack.room += (self.quota + 1).saturating_sub(load);
        }
        let choice = |at: usize| {
            let racks_of_partition = self.problem.racks(at);
            racks_of_partition.iter().filter(|rack| racks.contains_key(&Some(**rack))).count()
        };
        let mut unplaced: Vec<_> = self.unplaced().into_iter().map(|at| (choice(at), at)).collect();
        unplaced.sort_unstable();
        for (_, at) in unplaced {
            // Members without a rack are near to everything: they come last, so that they are there for what nobody else is near to.
            let near = self.problem.racks(at).iter().map(|rack| Some(*rack));
            let open = |rack: &Option<u32>| {
                let first = racks.get(rack).and_then(|rack| rack.members.first());
                first.is_some_and(|(_, member)| self.has_room(*member))
            };
            let roomiest = near.filter(open).max_by_key(|rack| {
                (racks.get(rack).map_or(0, |rack| rack.room), std::cmp::Reverse(*rack))
            });
            let Some(rack) = roomiest.or_else(|| Some(None).filter(open)) else { continue };
            let Some(rack) = racks.get_mut(&rack) else { continue };
            let Some((load, member)) = rack.members.pop_first() else { continue };
            rack.members.insert((load + 1, member));
            rack.room = rack.room.saturating_sub(1);
            self.put(at, member);
        }
    }

    /// What nobody near has room for stays where it was.
    fn give_back(&mut self) {
        for at in self.unplaced() {
            let owner = self.problem.owners[at];
            if owner != NOBODY && self.has_room(owner) {
                self.put(at, owner);
            }
        }
    }

    /// Deals the rest in a circle: first to those below their size, then to those that may have one more.
    fn fill(&mut self, members: &[u32]) {
        let mut unplaced = self.unplaced().into_iter();
        let mut below: Vec<u32> = members.to_vec();
        loop {
            below.retain(|member| self.loads[*member as usize] < self.quota);
            if below.is_empty() {
                break;
            }
            for member in &below {
                let Some(at) = unplaced.next() else {
                    unreachable!("the sizes add up to the partitions")
                };
                self.put(at, *member);
            }
        }
        let mut next = members.iter().filter(|m| self.loads[**m as usize] == self.quota);
        let rest: Vec<(usize, u32)> = unplaced.zip(next.by_ref().copied()).collect();
        for (at, member) in rest {
            self.put(at, member);
        }
        assert!(!self.members.contains(&NOBODY), "the sizes add up to the partitions");
    }
}

/// The members in one rack, by load, and how many more partitions they could have if all extras were theirs.
#[derive(Default)]
struct Rack {
    members: BTreeSet<(usize, u32)>,
    room: usize,
}
