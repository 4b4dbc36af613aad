//! What the leader of a group asks of its assignors, and what a member tells them.

use std::collections::BTreeMap;

use bytestring::ByteString;
use kavka_assignor::{LastAssignment, by_name};
use kavka_member::{AssignTask, Input, JoinRequest, Subscription, TopicPartition};
use kavka_protocol::messages::consumer_protocol_assignment;

use super::Driver;
use crate::consumer::assign;

/// What the member was assigned last, and in which generation.
#[derive(Debug)]
pub(super) struct GivenAssignment {
    generation: i32,
    partitions: Vec<consumer_protocol_assignment::TopicPartition>,
}

impl GivenAssignment {
    fn told(&self) -> LastAssignment<'_> {
        LastAssignment { generation: self.generation, partitions: &self.partitions }
    }
}

impl Driver {
    pub(super) fn on_assign(&mut self, task: AssignTask) {
        let topics = task.members.iter().flat_map(|member| &member.subscription.topics);
        self.group_topics = topics.cloned().collect();
        self.want();
        let known = &self.cluster.metadata().topics;
        if self.group_topics.iter().all(|topic| known.contains_key(topic)) {
            self.assign(&task);
        } else {
            let attempt = self.cluster.request_refresh();
            self.to_assign = Some((task, attempt));
        }
    }

    pub(super) fn assign(&mut self, task: &AssignTask) {
        let assignor = self.assignors.iter().find(|a| a.name() == &*task.assignor);
        let input = match assignor {
            Some(assignor) => assign::assign(task, assignor.as_ref(), &self.cluster.metadata()),
            None => Input::AssignFailed {
                generation: task.generation,
                message: format!("there is no assignor {}", task.assignor),
            },
        };
        self.step(input);
    }

    /// Tells the assignor that the group chose what it has led to.
    pub(super) fn tell_assignor(
        &mut self,
        generation: i32,
        owned: &[TopicPartition],
        user_data: Option<&bytes::Bytes>,
    ) {
        let mut by_topic: BTreeMap<ByteString, Vec<i32>> = BTreeMap::new();
        for partition in owned {
            by_topic.entry(partition.topic.clone()).or_default().push(partition.partition);
        }
        let partitions = by_topic
            .into_iter()
            .map(|(topic, partitions)| consumer_protocol_assignment::TopicPartition {
                topic,
                partitions,
            })
            .collect();
        let given = self.last_assignment.insert(GivenAssignment { generation, partitions });
        let chosen = self.member.assignor();
        if let Some(assignor) = self.assignors.iter().find(|a| a.name() == &**chosen) {
            assignor.on_assignment(given.told(), user_data);
        }
    }

    /// Has the application's own assignors say what they want the leader to know. They are asked as late as can be: what they look at
    /// may have changed since the last rebalance.
    pub(super) fn put_user_data(&self, join: &mut JoinRequest) {
        for (name, metadata) in &mut join.protocols {
            if by_name(name).is_some() {
                continue;
            }
            let found = self.assignors.iter().find(|assignor| assignor.name() == &**name);
            let Some(assignor) = found else { continue };
            let Ok(mut subscription) = Subscription::decode(metadata) else { continue };
            let topics: Vec<ByteString> = subscription.topics.iter().cloned().collect();
            let last = self.last_assignment.as_ref().map(GivenAssignment::told);
            subscription.user_data = assignor.subscription_user_data(&topics, last);
            *metadata = subscription.encode();
        }
    }
}
