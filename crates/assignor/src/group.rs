//! What an assignor is asked: the members of a group, what they subscribe to, and the topics there are.
//!
//! A [`Group`] is the leader's view of one rebalance with the names taken out: members, topics and subscriptions are numbered, so that
//! an assignor compares numbers, and ten thousand members with one subscription share one list of topics. It owns no policy.
//!
//! **Invariants.** Members stand in [member order](Group::members), whatever order they were given in. Topics are those that exist, have
//! partitions, and are subscribed to by a member; they stand in the order of their names. Subscriptions are rising lists of such topics,
//! without duplicates. Whatever a member claims to own is a partition of such a topic, once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use bytestring::ByteString;
use kavka_protocol::messages::ConsumerProtocolSubscription;

/// A topic, as the leader's metadata shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicMetadata {
    /// How many partitions it has: 0 to that number less one.
    pub partitions: u32,
    /// The racks of the replicas of each partition, by partition number. Empty, or shorter than the topic, where they are not known.
    pub racks: Vec<Vec<ByteString>>,
}

/// The topics that the leader's metadata knows, by name.
pub type Cluster = BTreeMap<ByteString, TopicMetadata>;

/// A member as it joined: what the coordinator tells the leader of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupMember {
    /// The id that the coordinator gave it; unique in the group.
    pub member_id: ByteString,
    /// `group.instance.id` of a static member (KIP-345).
    pub group_instance_id: Option<ByteString>,
    /// What it sent as its metadata. Members that sent the same may share it, which saves looking at it again.
    pub subscription: Arc<ConsumerProtocolSubscription>,
}

/// A partition of a topic of a [`Group`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The topic's place in [`Group::topics`].
    pub topic: u32,
    /// The partition's number in it.
    pub number: u32,
}

/// A topic that somebody subscribes to and that has partitions.
#[derive(Clone, Debug)]
pub struct Topic {
    name: ByteString,
    partitions: u32,
    /// By partition; sorted, without duplicates. Partitions past the end are in no known rack.
    racks: Vec<Vec<u32>>,
}

impl Topic {
    /// Its name.
    pub fn name(&self) -> &ByteString {
        &self.name
    }

    /// How many partitions it has, at least 1.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The racks (numbers, as in [`Member::rack`]) of a partition's replicas, rising; empty if they are not known.
    pub fn racks(&self, partition: u32) -> &[u32] {
        self.racks.get(partition as usize).map_or(&[], Vec::as_slice)
    }
}

/// A member of a [`Group`].
#[derive(Clone, Debug)]
pub struct Member {
    id: ByteString,
    instance_id: Option<ByteString>,
    subscription: u32,
    rack: Option<u32>,
    owned: Vec<Partition>,
    generation: i32,
    user_data: Option<Bytes>,
}

impl Member {
    /// Its member id.
    pub fn id(&self) -> &ByteString {
        &self.id
    }

    /// Its `group.instance.id`, if it is a static member.
    pub fn instance_id(&self) -> Option<&ByteString> {
        self.instance_id.as_ref()
    }

    /// The place of its subscription in [`Group::subscriptions`]; equal numbers are equal subscriptions.
    pub fn subscription(&self) -> u32 {
        self.subscription
    }

    /// The number of its rack, which means nothing beyond being equal or not; `None` if it has none.
    pub fn rack(&self) -> Option<u32> {
        self.rack
    }

    /// What it says it owns, rising, without what does not exist or nobody subscribes to; always empty before version 1.
    pub fn owned(&self) -> &[Partition] {
        &self.owned
    }

    /// The generation it says it is of; -1 for none, and before version 2 (KIP-792).
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// What its assignor put beside the subscription.
    pub fn user_data(&self) -> Option<&Bytes> {
        self.user_data.as_ref()
    }

    /// Whether a replica of the partition is in its rack. A member without a rack is at home everywhere.
    pub(crate) fn is_near(&self, topic: &Topic, partition: u32) -> bool {
        self.rack.is_none_or(|rack| topic.racks(partition).binary_search(&rack).is_ok())
    }
}

/// The question put to an assignor; see the [module](self).
#[derive(Clone, Debug)]
pub struct Group {
    topics: Vec<Topic>,
    subscriptions: Vec<Vec<u32>>,
    members: Vec<Member>,
}

impl Group {
    /// Numbers what there is to number. Subscribed topics that are not in `cluster`, or have no partitions, are left out; so are claims
    /// to partitions that do not exist.
    pub fn new(cluster: &Cluster, mut members: Vec<GroupMember>) -> Self {
        members.sort_by(|a, b| member_order(a).cmp(&member_order(b)));
        let mut racks: BTreeMap<ByteString, u32> = BTreeMap::new();
        let mut rack_number = |name: &ByteString| {
            let next = racks.len() as u32;
            racks.get(name).copied().unwrap_or_else(|| {
                racks.insert(name.clone(), next);
                next
            })
        };

        let subscriptions = Subscriptions::read(cluster, &members);
        let topics: Vec<Topic> = subscriptions
            .topics
            .iter()
            .map(|(name, metadata)| Topic {
                name: (*name).clone(),
                partitions: metadata.partitions,
                racks: metadata.racks.iter().map(|of| numbers(of, &mut rack_number)).collect(),
            })
            .collect();
        let members = members
            .into_iter()
            .zip(subscriptions.of_member)
            .map(|(member, subscription)| {
                let sent = member.subscription;
                let mut owned = Vec::new();
                for claim in &sent.owned_partitions {
                    push_existing(&topics, &claim.topic, &claim.partitions, &mut owned);
                }
                owned.sort_unstable();
                owned.dedup();
                Member {
                    id: member.member_id,
                    instance_id: member.group_instance_id,
                    subscription,
                    rack: sent
                        .rack_id
                        .as_ref()
                        .filter(|rack| !rack.is_empty())
                        .map(&mut rack_number),
                    owned,
                    generation: sent.generation_id.max(-1),
                    user_data: sent.user_data.clone(),
                }
            })
            .collect();
        Self { topics, subscriptions: subscriptions.distinct, members }
    }

    /// The members, in Kafka's order: static ones by instance id, then the others by member id. (Names are compared as UTF-8 bytes; Java
    /// compares UTF-16 units, which differs only where characters above U+FFFF meet others above U+DFFF.)
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The topics to be shared out, by name.
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// The different subscriptions there are: for each, the places of its topics in [`Group::topics`], rising.
    pub fn subscriptions(&self) -> &[Vec<u32>] {
        &self.subscriptions
    }

    /// The topics that a member subscribes to, of those that exist: their places in [`Group::topics`], rising.
    pub fn topics_of(&self, member: &Member) -> &[u32] {
        &self.subscriptions[member.subscription as usize]
    }

    /// Whether a member subscribes to a topic.
    pub fn is_subscribed(&self, member: &Member, topic: u32) -> bool {
        self.topics_of(member).binary_search(&topic).is_ok()
    }

    /// The subscribers of each topic, rising: their places in [`Group::members`].
    pub fn subscribers(&self) -> Vec<Vec<u32>> {
        let mut subscribers = vec![Vec::new(); self.topics.len()];
        for (members, topics) in self.topics_by_subscribers() {
            for topic in topics {
                subscribers[topic as usize].clone_from(&members);
            }
        }
        subscribers
    }

    /// Topics that the same members subscribe to, together: those members and those topics, each rising. Costs the length of the lists it
    /// makes, so ten thousand members with one subscription are gone through once and not for each topic.
    pub(crate) fn topics_by_subscribers(&self) -> Vec<(Vec<u32>, Vec<u32>)> {
        let mut subscriptions_of = vec![Vec::new(); self.topics.len()];
        for (subscription, topics) in (0..).zip(&self.subscriptions) {
            for topic in topics {
                subscriptions_of[*topic as usize].push(subscription);
            }
        }
        let mut together: BTreeMap<Vec<u32>, Vec<u32>> = BTreeMap::new();
        for (topic, subscriptions) in (0..).zip(subscriptions_of) {
            together.entry(subscriptions).or_default().push(topic);
        }
        let mut members_with = vec![Vec::new(); self.subscriptions.len()];
        for (at, member) in (0..).zip(&self.members) {
            members_with[member.subscription as usize].push(at);
        }
        let members_of = |subscriptions: Vec<u32>| {
            let lists =
                subscriptions.iter().map(|number| members_with[*number as usize].as_slice());
            let mut members: Vec<u32> = lists.flatten().copied().collect();
            members.sort_unstable();
            members
        };
        together.into_iter().map(|(numbers, topics)| (members_of(numbers), topics)).collect()
    }

    /// The partitions of a named topic that exist, for reading claims out of user data.
    pub(crate) fn push_existing(&self, topic: &str, numbers: &[i32], to: &mut Vec<Partition>) {
        push_existing(&self.topics, topic, numbers, to);
    }

    /// How many partitions there are in all topics.
    pub(crate) fn partition_count(&self) -> usize {
        self.topics.iter().map(|topic| topic.partitions as usize).sum()
    }
}

/// Whether sharing out these topics to these members should look at racks (KIP-881): some member's rack holds a replica, and not every
/// partition is in all the racks there are.
pub(crate) fn racks_matter(
    group: &Group,
    topics: &[u32],
    members: impl IntoIterator<Item = u32>,
) -> bool {
    let all: BTreeSet<u32> = topics
        .iter()
        .flat_map(|topic| group.topics[*topic as usize].racks.iter().flatten().copied())
        .collect();
    if all.is_empty() {
        return false;
    }
    let differ = topics
        .iter()
        .map(|topic| &group.topics[*topic as usize])
        .any(|topic| (0..topic.partitions).any(|number| topic.racks(number).len() != all.len()));
    let rack = |member: u32| group.members[member as usize].rack;
    differ && members.into_iter().filter_map(rack).any(|rack| all.contains(&rack))
}

/// Static members first, by instance id; then the others, by member id.
fn member_order(member: &GroupMember) -> (bool, &ByteString, &ByteString) {
    match &member.group_instance_id {
        Some(instance_id) => (false, instance_id, &member.member_id),
        None => (true, &member.member_id, &member.member_id),
    }
}

fn numbers(names: &[ByteString], number: &mut impl FnMut(&ByteString) -> u32) -> Vec<u32> {
    let set: BTreeSet<u32> = names.iter().filter(|name| !name.is_empty()).map(number).collect();
    set.into_iter().collect()
}

fn push_existing(topics: &[Topic], name: &str, numbers: &[i32], to: &mut Vec<Partition>) {
    let Ok(at) = topics.binary_search_by(|topic| topic.name[..].cmp(name)) else { return };
    let exists = |number: &i32| u32::try_from(*number).is_ok_and(|n| n < topics[at].partitions);
    to.extend(
        numbers
            .iter()
            .filter(|number| exists(number))
            .map(|number| Partition { topic: at as u32, number: *number as u32 }),
    );
}

/// The subscriptions of all members, numbered.
struct Subscriptions<'a> {
    topics: Vec<(&'a ByteString, &'a TopicMetadata)>,
    distinct: Vec<Vec<u32>>,
    of_member: Vec<u32>,
}

impl<'a> Subscriptions<'a> {
    fn read(cluster: &'a Cluster, members: &[GroupMember]) -> Self {
        let known: Vec<_> = cluster.iter().filter(|(_, topic)| topic.partitions > 0).collect();
        // By address (which orders nothing that leaves this function), as it was sent, and as it was looked up.
        let mut shared: BTreeMap<*const ConsumerProtocolSubscription, u32> = BTreeMap::new();
        let mut sent: BTreeMap<&[ByteString], u32> = BTreeMap::new();
        let mut distinct: BTreeMap<Vec<u32>, u32> = BTreeMap::new();
        let mut of_member = Vec::with_capacity(members.len());
        for GroupMember { subscription, .. } in members {
            let number = shared.entry(Arc::as_ptr(subscription)).or_insert_with(|| {
                *sent.entry(&subscription.topics).or_insert_with(|| {
                    let next = distinct.len() as u32;
                    *distinct.entry(lookup(&known, &subscription.topics)).or_insert(next)
                })
            });
            of_member.push(*number);
        }

        // Topics that nobody subscribes to drop out, and the others move up.
        let mut place = vec![None; known.len()];
        for topic in distinct.keys().flatten() {
            place[*topic as usize] = Some(0);
        }
        let mut topics = Vec::new();
        for (place, topic) in place.iter_mut().zip(&known) {
            if let Some(place) = place {
                *place = topics.len() as u32;
                topics.push(*topic);
            }
        }
        let mut lists = vec![Vec::new(); distinct.len()];
        for (list, number) in distinct {
            lists[number as usize] = list.iter().filter_map(|t| place[*t as usize]).collect();
        }
        Self { topics, distinct: lists, of_member }
    }
}

fn lookup(known: &[(&ByteString, &TopicMetadata)], list: &[ByteString]) -> Vec<u32> {
    let mut found: Vec<u32> = list
        .iter()
        .filter_map(|name| known.binary_search_by(|(known, _)| (*known).cmp(name)).ok())
        .map(|at| at as u32)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}
