//! `roundrobin`: all partitions of all topics dealt out in a circle.

use std::error::Error;

use crate::{
    assignment::Assignment,
    assignor::Assignor,
    group::{Group, Partition},
};

/// Deals all partitions, by topic and number, in a circle over the members in member order, passing over those that do not subscribe to
/// the topic. Eager. Knows nothing of who had what.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin;

impl Assignor for RoundRobin {
    fn name(&self) -> &str {
        "roundrobin"
    }

    fn assign(&self, group: &Group) -> Result<Assignment, Box<dyn Error + Send + Sync>> {
        let subscribers = group.subscribers();
        let mut assignment = Assignment::empty(group);
        // The place in the circle where the next partition is offered first.
        let mut next = 0;
        for (topic, metadata) in group.topics().iter().enumerate() {
            let takers = &subscribers[topic];
            let mut at = takers.partition_point(|member| (*member as usize) < next);
            for number in 0..metadata.partitions() {
                let taker = takers[at % takers.len()] as usize;
                assignment.give(taker, [Partition { topic: topic as u32, number }]);
                next = taker + 1;
                at = (at % takers.len()) + 1;
            }
        }
        Ok(assignment)
    }
}
