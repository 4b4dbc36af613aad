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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kavka_protocol::messages::ConsumerProtocolSubscription;

    use super::*;
    use crate::group::{Cluster, GroupMember, TopicMetadata};

    /// Three members, one in each of the racks a, b and c, subscribe to topics t1, t2, ... of these sizes. The replicas of the n-th
    /// partition overall are on so many brokers, one in each rack, beginning with the n-th.
    fn shares(sizes: &[u32], replicas: usize) -> Vec<Vec<(u32, u32)>> {
        let racks = ["a", "b", "c"];
        let mut partition = 0;
        let mut cluster = Cluster::new();
        for (topic, size) in (1..).zip(sizes) {
            let mut next = || {
                partition += 1;
                (0..replicas).map(|replica| racks[(partition - 1 + replica) % 3].into()).collect()
            };
            let racks = (0..*size).map(|_| next()).collect();
            cluster.insert(format!("t{topic}").into(), TopicMetadata { partitions: *size, racks });
        }
        let member = |rack: &'static str| GroupMember {
            member_id: format!("in-{rack}").into(),
            group_instance_id: None,
            subscription: ConsumerProtocolSubscription {
                topics: cluster.keys().cloned().collect(),
                rack_id: Some(rack.into()),
                ..Default::default()
            }
            .into(),
        };
        let group = Group::new(&cluster, racks.map(member).to_vec());
        let assignment = Range.assign(&group).unwrap();
        let pair = |partition: &Partition| (partition.topic + 1, partition.number);
        assignment.members().iter().map(|m| m.partitions.iter().map(pair).collect()).collect()
    }

    #[test]
    fn without_known_racks_ranges_are_consecutive() {
        let expected = [
            vec![(1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (3, 0)],
            vec![(1, 2), (1, 3), (2, 3), (2, 4), (3, 1)],
            vec![(1, 4), (1, 5), (2, 5), (2, 6)],
        ];
        assert_eq!(shares(&[6, 7, 2], 0), expected);
        assert_eq!(shares(&[6, 7, 2], 3), expected, "everything is everywhere");
    }

    #[test]
    fn members_get_what_is_in_their_rack() {
        let expected = [
            vec![(1, 0), (1, 3), (2, 0), (2, 3), (2, 6)],
            vec![(1, 1), (1, 4), (2, 1), (2, 4), (3, 0)],
            vec![(1, 2), (1, 5), (2, 2), (2, 5), (3, 1)],
        ];
        assert_eq!(shares(&[6, 7, 2], 1), expected);
        let expected = [
            vec![(1, 0), (1, 2), (2, 0), (2, 2), (2, 3), (3, 1)],
            vec![(1, 1), (1, 3), (2, 1), (2, 4), (3, 0)],
            vec![(1, 4), (1, 5), (2, 5), (2, 6)],
        ];
        assert_eq!(shares(&[6, 7, 2], 2), expected);
    }

    #[test]
    fn co_partitioned_topics_stay_so_though_another_cut_were_nearer() {
        let expected = |from: u32, to: u32| -> Vec<_> {
            (1..=3).flat_map(|topic| (from..to).map(move |number| (topic, number))).collect()
        };
        assert_eq!(shares(&[5, 5, 5], 1), [expected(0, 2), expected(2, 4), expected(4, 5)]);
    }
}
