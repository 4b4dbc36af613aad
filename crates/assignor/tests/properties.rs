//! What holds for any group: everything is shared out once and to subscribers, evenly, with little moved, in whatever order the members are
//! listed; and a second run, with the outcome of the first, changes nothing.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use bytestring::ByteString;
use kavka_assignor::{
    Assignment, Assignor, Cluster, Group, GroupMember, LastAssignment, Partition,
    RebalanceProtocol, TopicMetadata, by_name,
    leader::{JoinedMembers, encode_subscription},
};
use kavka_protocol::messages::{
    ConsumerProtocolSubscription, consumer_protocol_assignment as assigned,
    consumer_protocol_subscription as claimed, join_group_response::JoinGroupResponseMember,
};
use proptest::{collection::vec, option, prelude::*, sample::subsequence};

const ALL: [&str; 4] = ["range", "roundrobin", "sticky", "cooperative-sticky"];
const TOPICS: [&str; 5] = ["a", "b", "c", "d", "e"];
const RACKS: [&str; 3] = ["x", "y", "z"];

/// A group before its next rebalance.
#[derive(Clone, Debug)]
struct Scene {
    cluster: Cluster,
    members: Vec<GroupMember>,
}

fn name(number: usize) -> ByteString {
    TOPICS[number].into()
}

fn racks(with: bool) -> impl Strategy<Value = Vec<ByteString>> {
    let most = if with { 3 } else { 0 };
    subsequence(RACKS.to_vec(), 0..=most)
        .prop_map(|racks| racks.into_iter().map(ByteString::from).collect())
}

fn topic(with_racks: bool) -> impl Strategy<Value = TopicMetadata> {
    vec(racks(with_racks), 0..12)
        .prop_map(|racks| TopicMetadata { partitions: racks.len() as u32, racks })
}

/// Claims may be stale, overlap, and mean what does not exist or is not subscribed to.
fn member(
    equal: bool,
    with_racks: bool,
) -> impl Strategy<Value = (Option<ByteString>, ConsumerProtocolSubscription)> {
    let claims = vec((0..TOPICS.len(), vec(-1..14i32, 0..6)), 0..4);
    let rack =
        option::weighted(0.8, 0..RACKS.len()).prop_map(move |rack| rack.filter(|_| with_racks));
    let topics = subsequence((0..TOPICS.len()).collect::<Vec<_>>(), 0..=TOPICS.len());
    (option::weighted(0.2, "[a-z]{8}"), topics, claims, -1..3i32, rack).prop_map(
        move |(instance_id, topics, claims, generation_id, rack)| {
            let topics = if equal { (0..TOPICS.len()).collect() } else { topics };
            let claim =
                |(topic, partitions)| claimed::TopicPartition { topic: name(topic), partitions };
            let subscription = ConsumerProtocolSubscription {
                topics: topics.into_iter().map(name).collect(),
                user_data: None,
                owned_partitions: claims.into_iter().map(claim).collect(),
                generation_id,
                rack_id: rack.map(|rack| RACKS[rack].into()),
            };
            (instance_id.map(ByteString::from), subscription)
        },
    )
}

fn scene() -> impl Strategy<Value = Scene> {
    (any::<bool>(), any::<bool>()).prop_flat_map(|(equal, racks)| scene_of(equal, racks))
}

fn scene_of(equal: bool, with_racks: bool) -> impl Strategy<Value = Scene> {
    (vec(topic(with_racks), 1..TOPICS.len()), vec(member(equal, with_racks), 0..8)).prop_map(
        |(topics, members)| {
            let cluster: Cluster =
                topics.into_iter().enumerate().map(|(at, topic)| (name(at), topic)).collect();
            let mut instance_ids = BTreeSet::new();
            let members = members
                .into_iter()
                .enumerate()
                .map(|(at, (instance_id, subscription))| {
                    let group_instance_id =
                        instance_id.filter(|id| instance_ids.insert(id.clone()));
                    let member_id = format!("m{at}").into();
                    GroupMember { member_id, group_instance_id, subscription: subscription.into() }
                })
                .collect();
            Scene { cluster, members }
        },
    )
}

/// A member as it joins with this assignor, which tells its like at the leader what the member had.
fn joining(mut member: GroupMember, assignor: &dyn Assignor) -> GroupMember {
    let subscription = Arc::make_mut(&mut member.subscription);
    let partitions: Vec<_> = subscription
        .owned_partitions
        .iter()
        .map(|claim| assigned::TopicPartition {
            topic: claim.topic.clone(),
            partitions: claim.partitions.clone(),
        })
        .collect();
    let last = LastAssignment { generation: subscription.generation_id, partitions: &partitions };
    subscription.user_data = assignor.subscription_user_data(&subscription.topics, Some(last));
    member
}

/// An answer, and the question.
struct Answer {
    group: Group,
    assignment: Assignment,
}

impl Answer {
    fn shares(&self) -> BTreeMap<ByteString, Vec<(ByteString, u32)>> {
        let named =
            |p: &Partition| (self.group.topics()[p.topic as usize].name().clone(), p.number);
        let pairs = self.group.members().iter().zip(self.assignment.members());
        pairs
            .map(|(member, given)| {
                (member.id().clone(), given.partitions.iter().map(named).collect())
            })
            .collect()
    }

    /// By partition: the member's place.
    fn holders(&self) -> BTreeMap<Partition, usize> {
        let mut holders = BTreeMap::new();
        for (at, given) in self.assignment.members().iter().enumerate() {
            for partition in &given.partitions {
                assert_eq!(holders.insert(*partition, at), None, "{partition:?} has two owners");
            }
        }
        holders
    }

    fn all(&self) -> BTreeSet<Partition> {
        let topics = (0..).zip(self.group.topics());
        topics
            .flat_map(|(topic, of)| {
                (0..of.partitions()).map(move |number| Partition { topic, number })
            })
            .collect()
    }

    /// Sizes of those who subscribe to anything.
    fn sizes(&self) -> Vec<usize> {
        let pairs = self.group.members().iter().zip(self.assignment.members());
        pairs
            .filter(|(member, _)| !self.group.topics_of(member).is_empty())
            .map(|(_, given)| given.partitions.len())
            .collect()
    }

    /// Who owned what: the newest claim, if no other is as new, and its member subscribes.
    fn owners(&self) -> BTreeMap<Partition, usize> {
        let mut claims: BTreeMap<Partition, Vec<(i32, usize)>> = BTreeMap::new();
        for (at, member) in self.group.members().iter().enumerate() {
            for partition in member.owned() {
                claims.entry(*partition).or_default().push((member.generation(), at));
            }
        }
        let newest = |(partition, mut claims): (Partition, Vec<(i32, usize)>)| {
            claims.sort_unstable();
            let (generation, owner) = claims.pop()?;
            let is_tied = claims.last().is_some_and(|(other, _)| *other == generation);
            let subscribes =
                self.group.is_subscribed(&self.group.members()[owner], partition.topic);
            (!is_tied && subscribes).then_some((partition, owner))
        };
        claims.into_iter().filter_map(newest).collect()
    }

    fn moved(&self) -> usize {
        let holders = self.holders();
        self.owners()
            .iter()
            .filter(|(partition, owner)| holders.get(partition) != Some(owner))
            .count()
    }
}

impl Scene {
    fn assign(&self, name: &str) -> Answer {
        let assignor: Box<dyn Assignor> = by_name(name).unwrap();
        let members = self.members.iter().map(|member| joining(member.clone(), &*assignor));
        let group = Group::new(&self.cluster, members.collect());
        let assignment = assignor.assign(&group).unwrap();
        Answer { group, assignment }
    }

    /// The group at its next rebalance, when everybody has what it was given, and no more.
    fn after(&self, answer: &Answer, generation: i32) -> Self {
        let mut shares = answer.shares();
        let mut next = self.clone();
        for member in &mut next.members {
            let mut owned: BTreeMap<ByteString, Vec<i32>> = BTreeMap::new();
            for (topic, number) in shares.remove(&member.member_id).unwrap() {
                owned.entry(topic).or_default().push(i32::try_from(number).unwrap());
            }
            let subscription = Arc::make_mut(&mut member.subscription);
            subscription.owned_partitions = owned
                .into_iter()
                .map(|(topic, partitions)| claimed::TopicPartition { topic, partitions })
                .collect();
            subscription.generation_id = generation;
        }
        next
    }
}

/// The least that has to move for all members, alike in what they may have, to be even: what exceeds the sizes, with the largest sizes
/// where most is owned.
fn least_moves(answer: &Answer) -> usize {
    let mut owned = vec![0; answer.group.members().len()];
    for owner in answer.owners().into_values() {
        owned[owner] += 1;
    }
    let (partitions, members) = (answer.all().len(), owned.len());
    let (quota, extras) = (partitions / members, partitions % members);
    let over = owned.iter().filter(|count| **count > quota).count();
    let excess: usize = owned.iter().map(|count| count.saturating_sub(quota)).sum();
    excess - over.min(extras)
}

/// Whether a partition can go, from hand to hand, from a member to one with at least two less.
fn can_be_evener(answer: &Answer) -> bool {
    let sizes: Vec<usize> =
        answer.assignment.members().iter().map(|given| given.partitions.len()).collect();
    (0..sizes.len()).any(|start| {
        let mut reached = BTreeSet::from([start]);
        let mut open = vec![start];
        while let Some(at) = open.pop() {
            for partition in &answer.assignment.members()[at].partitions {
                for (to, member) in answer.group.members().iter().enumerate() {
                    if answer.group.is_subscribed(member, partition.topic) && reached.insert(to) {
                        open.push(to);
                    }
                }
            }
        }
        reached.iter().any(|end| sizes[*end] + 2 <= sizes[start])
    })
}

/// Bytes of a member of whatever make: any, or a subscription with some of them overwritten.
fn foreign_bytes() -> impl Strategy<Value = Bytes> {
    let any_bytes = vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let overwritten = (scene(), 0..4i16, vec((any::<prop::sample::Index>(), any::<u8>()), 0..4))
        .prop_map(|(scene, version, changes)| {
            let member = scene.members.first().cloned().unwrap_or_default();
            let member = joining(member, &*by_name("sticky").unwrap());
            let mut bytes = encode_subscription(&member.subscription, version).unwrap().to_vec();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.into()
        });
    prop_oneof![any_bytes, overwritten]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// What comes from other clients is read or refused, and what was read is shared out.
    #[test]
    fn foreign_bytes_are_read_or_refused(metadata in vec(foreign_bytes(), 0..4), scene in scene()) {
        let members: Vec<_> = (0..)
            .zip(metadata)
            .map(|(at, metadata)| JoinGroupResponseMember {
                member_id: format!("m{at}").into(),
                metadata,
                ..Default::default()
            })
            .collect();
        if let Ok(joined) = JoinedMembers::read(&members) {
            for name in ALL {
                let assignor = by_name(name).unwrap();
                let protocol = match name {
                    "cooperative-sticky" => RebalanceProtocol::Cooperative,
                    _ => RebalanceProtocol::Eager,
                };
                let led = joined.clone().assign(&*assignor, protocol, &scene.cluster).unwrap();
                prop_assert_eq!(led.assignments.len(), members.len());
            }
        }
    }

    #[test]
    fn each_partition_goes_to_one_subscriber(scene in scene()) {
        for name in ALL {
            let answer = scene.assign(name);
            let holders = answer.holders();
            for (partition, holder) in &holders {
                let member = &answer.group.members()[*holder];
                prop_assert!(answer.group.is_subscribed(member, partition.topic), "{name}");
            }
            if name != "cooperative-sticky" {
                prop_assert_eq!(holders.into_keys().collect::<BTreeSet<_>>(), answer.all());
            }
        }
    }

    #[test]
    fn the_order_of_members_does_not_matter(
        (scene, shuffled) in scene().prop_flat_map(|scene| {
            let members = Just(scene.members.clone()).prop_shuffle();
            (Just(scene), members)
        })
    ) {
        let shuffled = Scene { members: shuffled, ..scene.clone() };
        for name in ALL {
            prop_assert_eq!(scene.assign(name).shares(), shuffled.assign(name).shares());
        }
    }

    #[test]
    fn range_is_even_in_each_topic_and_cuts_topics_alike(scene in scene_of(true, false)) {
        let answer = scene.assign("range");
        for (topic, metadata) in (0..).zip(answer.group.topics()) {
            let mut numbers: Vec<Vec<u32>> = Vec::new();
            for given in answer.assignment.members() {
                let of_topic = given.partitions.iter().filter(|p| p.topic == topic);
                numbers.push(of_topic.map(|p| p.number).collect());
            }
            let quota = metadata.partitions() as usize / numbers.len();
            prop_assert!(numbers.iter().all(|n| (quota..=quota + 1).contains(&n.len())));
            prop_assert!(numbers.concat().is_sorted(), "consecutive, in member order");
        }
    }

    #[test]
    fn with_equal_subscriptions_sizes_differ_by_one_at_most(
        scene in any::<bool>().prop_flat_map(|racks| scene_of(true, racks))
    ) {
        for name in ["roundrobin", "sticky"] {
            let sizes = scene.assign(name).sizes();
            let spread = sizes.iter().max().unwrap_or(&0) - sizes.iter().min().unwrap_or(&0);
            prop_assert!(spread <= 1, "{name}: {sizes:?}");
        }
    }

    #[test]
    fn with_equal_subscriptions_nothing_moves_that_need_not(scene in scene_of(true, false)) {
        for name in ["sticky", "cooperative-sticky"] {
            let answer = scene.assign(name);
            if !answer.all().is_empty() {
                prop_assert_eq!(answer.moved(), least_moves(&answer), "{}", name);
            }
        }
    }

    #[test]
    fn with_different_subscriptions_sizes_are_as_even_as_can_be(
        scene in any::<bool>().prop_flat_map(|racks| scene_of(false, racks))
    ) {
        prop_assert!(!can_be_evener(&scene.assign("sticky")));
    }

    #[test]
    fn a_second_run_changes_nothing(scene in scene()) {
        let first = scene.assign("sticky");
        let second = scene.after(&first, 7).assign("sticky");
        prop_assert_eq!(first.shares(), second.shares());
    }

    /// Nobody gets what somebody else may still be reading: what it neither had nor was let go of.
    #[test]
    fn cooperative_members_get_only_what_others_have_given_up(scene in scene()) {
        let answer = scene.assign("cooperative-sticky");
        let owners = answer.owners();
        for (partition, holder) in answer.holders() {
            if owners.get(&partition) == Some(&holder) {
                continue;
            }
            for (at, other) in answer.group.members().iter().enumerate() {
                let claims = other.owned().contains(&partition);
                prop_assert!(at == holder || !claims, "{partition:?} is still with {}", other.id());
            }
        }
    }

    /// What was withheld is handed out in the next round, and then nothing changes any more.
    #[test]
    fn cooperative_groups_settle_in_two_rounds(
        scene in any::<bool>().prop_flat_map(|equal| scene_of(equal, false))
    ) {
        let first = scene.assign("cooperative-sticky");
        let second_scene = scene.after(&first, 7);
        let second = second_scene.assign("cooperative-sticky");
        prop_assert_eq!(second.holders().into_keys().collect::<BTreeSet<_>>(), second.all());
        prop_assert_eq!(second.moved(), 0, "nothing is taken away in the second round");
        let third = second_scene.after(&second, 8).assign("cooperative-sticky");
        prop_assert_eq!(second.shares(), third.shares());
    }

    /// With racks a later round may find somebody nearer for what was withheld, and take a partition for it; but there is an end to it.
    #[test]
    fn cooperative_groups_with_racks_settle(scene in scene()) {
        let mut scene = scene;
        let mut rounds = 0;
        loop {
            let answer = scene.assign("cooperative-sticky");
            let next = scene.after(&answer, 7 + rounds);
            if rounds > 0 && answer.shares() == next.assign("cooperative-sticky").shares() {
                prop_assert_eq!(answer.holders().len(), answer.all().len());
                break;
            }
            rounds += 1;
            prop_assert!(rounds < 4, "still moving after {rounds} rounds");
            scene = next;
        }
    }
}
