//! The leader's part: lets an assignor share out the partitions of the group's topics.

use std::collections::BTreeMap;

use kavka_assignor::{Assignor, Cluster, RebalanceProtocol, TopicMetadata, leader::JoinedMembers};
use kavka_member::{AssignTask, Assignment, Input, Subscription};
use kavka_protocol::{ErrorCode, messages::join_group_response::JoinGroupResponseMember};

use crate::cluster::Metadata;

/// What the member is told of the assignment.
pub(super) fn assign(task: &AssignTask, assignor: &dyn Assignor, metadata: &Metadata) -> Input {
    let generation = task.generation;
    match try_assign(task, assignor, metadata) {
        Ok(assignments) => {
            let topics = task.members.iter().flat_map(|member| &member.subscription.topics);
            let shapes = super::fetcher::for_member(metadata);
            let topics = topics
                .map(|topic| {
                    let shape = shapes.get(topic).map(kavka_member::TopicMetadata::shape);
                    (topic.clone(), shape.unwrap_or_default())
                })
                .collect();
            Input::Assigned { generation, assignments, topics }
        }
        Err(message) => Input::AssignFailed { generation, message },
    }
}

fn try_assign(
    task: &AssignTask,
    assignor: &dyn Assignor,
    metadata: &Metadata,
) -> Result<BTreeMap<bytestring::ByteString, Assignment>, String> {
    let joined: Vec<JoinGroupResponseMember> = task
        .members
        .iter()
        .map(|member| JoinGroupResponseMember {
            member_id: member.member_id.clone(),
            group_instance_id: member.instance_id.clone(),
            // What cannot be read wants nothing; the member has said so in its trace.
            metadata: match Subscription::decode(&member.metadata) {
                Ok(_) => member.metadata.clone(),
                Err(_) => member.subscription.encode(),
            },
            ..Default::default()
        })
        .collect();
    let joined = JoinedMembers::read(&joined).map_err(|error| error.to_string())?;
    let mut cluster = Cluster::new();
    for name in joined.topics() {
        let known = metadata.topics.get(name).filter(|topic| topic.error == ErrorCode::None);
        let Some(topic) = known else { continue };
        let racks = topic.partitions.iter().map(|partition| {
            let replicas = partition.replicas.iter();
            replicas.filter_map(|id| metadata.nodes.get(id)?.rack.clone()).collect()
        });
        let partitions = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        cluster.insert(name.clone(), TopicMetadata { partitions, racks: racks.collect() });
    }
    // What a cooperative assignor gives away too early the member itself holds back: after a coordinator has moved, the claims of the
    // members may contradict each other, and that must not end the group.
    let led = joined
        .assign(assignor, RebalanceProtocol::Eager, &cluster)
        .map_err(|error| error.to_string())?;
    for note in &led.notes {
        tracing::info!(?note, assignor = assignor.name(), "a note of the assignor");
    }
    led.assignments
        .into_iter()
        .map(|row| {
            let share = Assignment::decode(&row.assignment).map_err(|error| error.to_string())?;
            Ok((row.member_id, share))
        })
        .collect()
}
