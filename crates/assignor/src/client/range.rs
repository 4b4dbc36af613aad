//! `range`: each topic cut into consecutive ranges, one for each subscriber.

use std::{collections::BTreeMap, error::Error};

use crate::{
    assignment::Assignment,
    assignor::Assignor,
    group::{Group, Partition, racks_matter},
};

/// Cuts each topic into as many consecutive ranges as it has subscribers; the first ones, in member order, get one partition more where it
/// does not come out even. Topics with equally many partitions and the same subscribers are therefore cut alike (co-partitioned): who has
/// partition 3 of one has partition 3 of the other. Eager. Knows nothing of who had what.
///
/// With racks (KIP-881) members first get partitions that have a replica in their rack, as many as their range would hold, and
/// co-partitioned topics stay so; the sizes do not change.
#[derive(Clone, Copy, Debug, Default)]
pub struct Range;

impl Assignor for Range {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(&self, group: &Group) -> Result<Assignment, Box<dyn Error + Send + Sync>> {
        let mut assignment = Assignment::empty(group);
        let mut near = vec![false; group.topics().len()];
        let alike = group.topics_by_subscribers();
        for (subscribers, topics) in &alike {
            for topic in topics {
                near[*topic as usize] = racks_matter(group, &[*topic], subscribers.iter().copied());
            }
        }
        let use_racks = near.contains(&true);
        for (subscribers, topics) in &alike {
            let mut ranges: Vec<Ranges<'_>> =
                topics.iter().map(|topic| Ranges::new(group, *topic, subscribers)).collect();
            if use_racks {
                let mut by_size: BTreeMap<u32, Vec<&mut Ranges<'_>>> = BTreeMap::new();
                for range in &mut ranges {
                    by_size.entry(range.partitions()).or_default().push(range);
                }
                for (_, mut ranges) in by_size {
                    match ranges.as_mut_slice() {
                        [one] if near[one.topic as usize] => {
                            one.deal_near();
                        }
                        [_] => {}
                        together => deal_together(together),
                    }
                }
            }
            for mut range in ranges {
                range.deal_rest();
                range.give(&mut assignment);
            }
        }
        for member in assignment.members_mut() {
            member.partitions.sort_unstable();
        }
        Ok(assignment)
    }
}

/// One topic while it is shared out. Members are meant by their place among its subscribers.
struct Ranges<'a> {
    group: &'a Group,
    topic: u32,
    subscribers: &'a [u32],
    /// Everybody may have this many,
    quota: usize,
    /// and so many members one more.
    extras: usize,
    given: BTreeMap<usize, Vec<u32>>,
    /// Rising.
    free: Vec<u32>,
}

impl<'a> Ranges<'a> {
    fn new(group: &'a Group, topic: u32, subscribers: &'a [u32]) -> Self {
        let partitions = group.topics()[topic as usize].partitions();
        Self {
            group,
            topic,
            subscribers,
            quota: partitions as usize / subscribers.len(),
            extras: partitions as usize % subscribers.len(),
            given: BTreeMap::new(),
            free: (0..partitions).collect(),
        }
    }

    fn partitions(&self) -> u32 {
        self.group.topics()[self.topic as usize].partitions()
    }

    fn is_near(&self, member: usize, number: u32) -> bool {
        let topic = &self.group.topics()[self.topic as usize];
        self.group.members()[self.subscribers[member] as usize].is_near(topic, number)
    }

    /// How many more partitions a member may have now.
    fn room(&self, member: usize) -> usize {
        let given = self.given.get(&member).map_or(0, Vec::len);
        (self.quota + usize::from(self.extras > 0)).saturating_sub(given)
    }

    fn add(&mut self, member: usize, numbers: &[u32]) {
        let given = self.given.entry(member).or_default();
        given.extend_from_slice(numbers);
        if given.len() > self.quota {
            assert!(self.extras > 0, "a range exceeds its quota");
            self.extras -= 1;
        }
    }

    /// Each member in turn takes what is free and near, lowest numbers first, as many as it may have.
    fn deal_near(&mut self) {
        for member in 0..self.subscribers.len() {
            let near = self.free.iter().copied().filter(|number| self.is_near(member, *number));
            let taken: Vec<u32> = near.take(self.room(member)).collect();
            if !taken.is_empty() {
                self.free.retain(|number| taken.binary_search(number).is_err());
                self.add(member, &taken);
            }
        }
    }

    /// Each member in turn takes what is still free, lowest numbers first, as many as it may have.
    fn deal_rest(&mut self) {
        let free = std::mem::take(&mut self.free);
        let mut free = free.as_slice();
        for member in 0..self.subscribers.len() {
            if free.is_empty() {
                break;
            }
            let (taken, rest) = free.split_at(self.room(member).min(free.len()));
            if !taken.is_empty() {
                self.add(member, taken);
            }
            free = rest;
        }
        assert!(free.is_empty(), "ranges are as large as their topic");
    }

    fn give(self, assignment: &mut Assignment) {
        for (member, numbers) in self.given {
            let partitions = numbers.iter().map(|n| Partition { topic: self.topic, number: *n });
            assignment.give(self.subscribers[member] as usize, partitions);
        }
    }
}

/// Gives partition by partition, of all these topics at once, to the first member who has a replica of each in its rack. The topics have
/// the same subscribers and equally many partitions, and so the same quotas.
fn deal_together(ranges: &mut [&mut Ranges<'_>]) {
    let mut candidates: Vec<usize> = (0..ranges[0].subscribers.len()).collect();
    for number in 0..ranges[0].partitions() {
        let fits = |member: &usize| {
            ranges.iter().all(|r| r.room(*member) > 0 && r.is_near(*member, number))
        };
        let Some(member) = candidates.iter().copied().find(fits) else { continue };
        for range in &mut *ranges {
            range.add(member, &[number]);
            range.free.retain(|free| *free != number);
        }
        if ranges.iter().all(|range| range.room(member) == 0) {
            candidates.retain(|candidate| *candidate != member);
            if candidates.is_empty() {
                break;
            }
        }
    }
}
