#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, sync::Arc};

use kavka_protocol::messages::{
    ConsumerProtocolSubscription, consumer_protocol_subscription::TopicPartition,
};

use super::*;
use crate::group::{Cluster, GroupMember, TopicMetadata};

/// A group whose only topic is `t`, unless said otherwise.
struct Scene {
    cluster: Cluster,
    members: Vec<GroupMember>,
}

impl Scene {
    fn new(topics: &[(&'static str, u32)]) -> Self {
        let topic = |(name, partitions): &(&'static str, u32)| {
            ((*name).into(), TopicMetadata { partitions: *partitions, racks: Vec::new() })
        };
        Self { cluster: topics.iter().map(topic).collect(), members: Vec::new() }
    }

    fn member(mut self, id: &'static str, topics: &[&'static str]) -> Self {
        let topics = topics.iter().map(|topic| (*topic).into()).collect();
        let subscription = ConsumerProtocolSubscription { topics, ..Default::default() }.into();
        let member_id = id.into();
        self.members.push(GroupMember { member_id, subscription, ..Default::default() });
        self
    }

    /// What the last member claims.
    fn claims(mut self, topic: &'static str, partitions: &[i32], generation: i32) -> Self {
        let member = Arc::make_mut(&mut self.members.last_mut().unwrap().subscription);
        let claim = TopicPartition { topic: topic.into(), partitions: partitions.to_vec() };
        member.owned_partitions.push(claim);
        member.generation_id = generation;
        self
    }

    fn assignment(self) -> (Group, Assignment) {
        let group = Group::new(&self.cluster, self.members);
        let assignment = CooperativeSticky.assign(&group).unwrap();
        (group, assignment)
    }

    /// `topic-number` by member.
    fn shares(self) -> BTreeMap<String, Vec<String>> {
        let (group, assignment) = self.assignment();
        let name = |partition: &crate::Partition| {
            format!("{}-{}", group.topics()[partition.topic as usize].name(), partition.number)
        };
        let pairs = group.members().iter().zip(assignment.members());
        pairs
            .map(|(member, given)| {
                (member.id().to_string(), given.partitions.iter().map(name).collect())
            })
            .collect()
    }
}

fn shares(expected: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    expected.iter().map(|(id, names)| ((*id).to_owned(), list(names))).collect()
}

#[test]
fn a_new_group_is_dealt_in_a_circle() {
    let topics = ["t0", "t1", "t2", "t3"];
    let scene = Scene::new(&topics.map(|topic| (topic, 2)));
    let scene = ["c0", "c1", "c2"].into_iter().fold(scene, |scene, id| scene.member(id, &topics));
    let expected = [
        ("c0", &["t0-0", "t1-1", "t3-0"][..]),
        ("c1", &["t0-1", "t2-0", "t3-1"]),
        ("c2", &["t1-0", "t2-1"]),
    ];
    assert_eq!(scene.shares(), shares(&expected));
}

#[test]
fn an_older_generation_loses_what_a_newer_one_claims_and_keeps_what_nobody_else_does() {
    let scene = Scene::new(&[("t", 4)])
        .member("old", &["t"])
        .claims("t", &[0, 1, 2], 3)
        .member("new", &["t"])
        .claims("t", &[0, 3], 4);
    let expected = [("new", &["t-0", "t-3"][..]), ("old", &["t-1", "t-2"])];
    assert_eq!(scene.shares(), shares(&expected));
}

#[test]
fn two_claims_of_one_generation_void_each_other() {
    let scene = || {
        Scene::new(&[("t", 3)])
            .member("c1", &["t"])
            .claims("t", &[0, 1], 1)
            .member("c2", &["t"])
            .claims("t", &[0, 2], 1)
            .member("c3", &["t"])
    };
    let expected = [("c1", &["t-1"][..]), ("c2", &["t-2"]), ("c3", &[])];
    assert_eq!(scene().shares(), shares(&expected));
    let (_, assignment) = scene().assignment();
    let note = assignment.notes()[0].to_string();
    assert!(note.contains("partition 0 of topic t") && note.contains("c1 and c2"), "{note}");
}

#[test]
fn a_partition_is_withheld_from_a_member_while_one_that_unsubscribed_still_claims_it() {
    let scene = Scene::new(&[("t", 1), ("u", 1)])
        .member("left", &["u"])
        .claims("t", &[0], 1)
        .member("right", &["t"]);
    assert_eq!(scene.shares(), shares(&[("left", &["u-0"]), ("right", &[])]));
}

#[test]
fn claims_to_what_does_not_exist_are_dropped() {
    let scene = Scene::new(&[("t", 1)])
        .member("c", &["t", "gone"])
        .claims("t", &[-1, 0, 0, 7], 1)
        .claims("gone", &[0], 1);
    assert_eq!(scene.shares(), shares(&[("c", &["t-0"])]));
}

/// `a` holds four of `t`, `b` two that only it or `c` may have: what `a` has too much of can reach `c`, who has nothing, through `b` alone.
#[test]
fn a_path_through_another_member_evens_out_what_no_single_move_can() {
    let scene = Scene::new(&[("t", 4), ("u", 2)])
        .member("a", &["t"])
        .claims("t", &[0, 1, 2, 3], 1)
        .member("b", &["t", "u"])
        .claims("u", &[0, 1], 1)
        .member("c", &["u"]);
    let (group, assignment) = scene.assignment();
    let claims = Claims::of(&group, &mut Vec::new(), |m, _| (m.owned().to_vec(), m.generation()));
    let eager = share_out(&group, &claims, Vec::new(), false);
    let sizes = |a: &Assignment| a.members().iter().map(|m| m.partitions.len()).collect::<Vec<_>>();
    assert_eq!(sizes(&eager), [2, 2, 2]);
    assert_eq!(sizes(&assignment), [2, 0, 0], "b and c wait for what is being revoked");
}

#[test]
fn a_group_without_topics_or_members_is_assigned_nothing() {
    assert_eq!(Scene::new(&[]).shares(), shares(&[]));
    assert_eq!(Scene::new(&[]).member("c", &["gone"]).shares(), shares(&[("c", &[])]));
}

/// Too many partitions to compare each with all others: those of the same topic are still exchanged for each other.
#[test]
fn in_a_large_topic_what_is_far_is_exchanged_for_what_is_near() {
    let partitions = 4_000;
    let racks = (0..partitions).map(|number| vec![["x", "y"][number % 2].into()]).collect();
    let numbers =
        |rest: i32| (0..4_000).filter(move |number| number % 2 == rest).collect::<Vec<_>>();
    let mut scene = Scene::new(&[("u", 1)])
        .member("in-x", &["t"])
        .claims("t", &numbers(1), 1)
        .member("in-y", &["t", "u"])
        .claims("t", &numbers(0), 1);
    scene.cluster.insert("t".into(), TopicMetadata { partitions: 4_000, racks });
    for (member, rack) in scene.members.iter_mut().zip(["x", "y"]) {
        Arc::make_mut(&mut member.subscription).rack_id = Some(rack.into());
    }

    let group = Group::new(&scene.cluster, scene.members);
    let claims = Claims::of(&group, &mut Vec::new(), |m, _| (m.owned().to_vec(), m.generation()));
    let problem = Problem::new(&group, claims.owners());
    assert!(problem.near_search() == problem::NearSearch::SameTopic);
    let members = general::assign(&problem);
    assert!((0..partitions).all(|at| problem.is_near(at, members[at])));
    assert_eq!(general::assign(&Problem::new(&group, &members)), members, "a second run");
}
