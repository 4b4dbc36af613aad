//! What Apache Kafka's own assignors decided: equal where that is a fact, at least as even and as sticky where it is a property.

#![allow(clippy::unwrap_used)]

#[path = "../../protocol/tests/golden/mod.rs"]
mod golden;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use bytestring::ByteString;
use kavka_assignor::{
    Assignment, Assignor, Cluster, Group, GroupMember, LastAssignment, Sticky, TopicMetadata,
    by_name,
};
use kavka_protocol::messages::{
    ConsumerProtocolSubscription, consumer_protocol_assignment as assigned,
    consumer_protocol_subscription as claimed,
};
use serde_json::Value;

type Partitions = Vec<(String, u32)>;
/// By member id.
type Shares = BTreeMap<String, Partitions>;

/// One step of a scenario.
struct Step {
    label: String,
    assignor: String,
    cluster: Cluster,
    members: Vec<GroupMember>,
    kafka: Shares,
    line: Value,
}

fn partitions(list: &Value) -> Partitions {
    let partition = |pair: &Value| {
        (pair[0].as_str().unwrap().to_owned(), u32::try_from(pair[1].as_u64().unwrap()).unwrap())
    };
    list.as_array().into_iter().flatten().map(partition).collect()
}

fn text(value: &Value) -> ByteString {
    value.as_str().unwrap().into()
}

fn texts(list: &Value) -> Vec<ByteString> {
    list.as_array().into_iter().flatten().map(text).collect()
}

fn by_topic(partitions: &Partitions) -> BTreeMap<ByteString, Vec<i32>> {
    let mut topics: BTreeMap<ByteString, Vec<i32>> = BTreeMap::new();
    for (topic, number) in partitions {
        topics.entry(topic.as_str().into()).or_default().push(i32::try_from(*number).unwrap());
    }
    topics
}

fn member(line: &Value) -> GroupMember {
    let owned = by_topic(&partitions(&line["owned"]));
    GroupMember {
        member_id: text(&line["id"]),
        group_instance_id: line["instance_id"].as_str().map(ByteString::from),
        subscription: ConsumerProtocolSubscription {
            topics: texts(&line["topics"]),
            user_data: line["user_data_hex"].as_str().map(|hex| golden::unhex(hex).into()),
            owned_partitions: owned
                .into_iter()
                .map(|(topic, partitions)| claimed::TopicPartition { topic, partitions })
                .collect(),
            generation_id: generation(line),
            rack_id: line["rack"].as_str().map(ByteString::from),
        }
        .into(),
    }
}

fn generation(member: &Value) -> i32 {
    member["generation"].as_i64().map_or(-1, |generation| i32::try_from(generation).unwrap())
}

fn steps(assignor: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for scenario in golden::lines("assignors.jsonl") {
        if scenario["assignor"] != assignor {
            continue;
        }
        for (number, line) in scenario["steps"].as_array().unwrap().iter().enumerate() {
            let topic = |(name, topic): (&String, &Value)| {
                let racks = topic["racks"].as_array().into_iter().flatten().map(texts).collect();
                let partitions = u32::try_from(topic["partitions"].as_u64().unwrap()).unwrap();
                (name.as_str().into(), TopicMetadata { partitions, racks })
            };
            let assignment = line["assignment"].as_object().unwrap();
            steps.push(Step {
                label: format!("{assignor}, scenario {}, step {number}", scenario["scenario"]),
                assignor: assignor.to_owned(),
                cluster: line["topics"].as_object().unwrap().iter().map(topic).collect(),
                members: line["members"].as_array().unwrap().iter().map(member).collect(),
                kafka: assignment.iter().map(|(id, list)| (id.clone(), partitions(list))).collect(),
                line: line.clone(),
            });
        }
    }
    assert!(steps.len() >= 300, "{} steps of {assignor}", steps.len());
    steps
}

fn shares(group: &Group, assignment: &Assignment) -> Shares {
    let name = |topic: u32| group.topics()[topic as usize].name().to_string();
    let pairs = group.members().iter().zip(assignment.members());
    pairs
        .map(|(member, given)| {
            let list = given.partitions.iter().map(|p| (name(p.topic), p.number)).collect();
            (member.id().to_string(), list)
        })
        .collect()
}

impl Step {
    fn assign_with(&self, assignor: &dyn Assignor, members: Vec<GroupMember>) -> Shares {
        let group = Group::new(&self.cluster, members);
        shares(&group, &assignor.assign(&group).unwrap())
    }

    /// What we say, whichever order the members come in.
    fn ours(&self) -> Shares {
        let assignor = by_name(&self.assignor).unwrap();
        let ours = self.assign_with(&*assignor, self.members.clone());
        let backwards = self.members.iter().rev().cloned().collect();
        assert_eq!(ours, self.assign_with(&*assignor, backwards), "{}: order", self.label);
        ours
    }

    /// What we say before anything is withheld: the eager assignor on the same claims.
    fn ours_eagerly(&self) -> Shares {
        let mut members = self.members.clone();
        for (member, line) in members.iter_mut().zip(self.line["members"].as_array().unwrap()) {
            let owned: Vec<_> = by_topic(&partitions(&line["owned"]))
                .into_iter()
                .map(|(topic, partitions)| assigned::TopicPartition { topic, partitions })
                .collect();
            let last = LastAssignment { generation: generation(line), partitions: &owned };
            Arc::make_mut(&mut member.subscription).user_data =
                Sticky.subscription_user_data(&[], Some(last));
        }
        self.assign_with(&Sticky, members)
    }

    fn subscribers(&self) -> BTreeMap<(String, u32), BTreeSet<String>> {
        let mut subscribers: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for member in &self.members {
            for topic in &member.subscription.topics {
                for number in 0..self.cluster.get(topic).map_or(0, |topic| topic.partitions) {
                    let partition = (topic.to_string(), number);
                    subscribers.entry(partition).or_default().insert(member.member_id.to_string());
                }
            }
        }
        subscribers
    }

    /// Who owned what before: by the newest claim, if it is the only one of its generation and by a subscriber.
    fn owners(&self) -> BTreeMap<(String, u32), String> {
        let subscribers = self.subscribers();
        let mut claims: BTreeMap<(String, u32), Vec<(i32, String)>> = BTreeMap::new();
        for line in self.line["members"].as_array().unwrap() {
            let owned: BTreeSet<_> = partitions(&line["owned"]).into_iter().collect();
            for partition in owned {
                let claim = (generation(line), text(&line["id"]).to_string());
                claims.entry(partition).or_default().push(claim);
            }
        }
        let newest = |(partition, mut claims): ((String, u32), Vec<(i32, String)>)| {
            claims.sort();
            let (generation, owner) = claims.pop().unwrap();
            let is_tied = claims.last().is_some_and(|(other, _)| *other == generation);
            let subscribes = subscribers.get(&partition).is_some_and(|s| s.contains(&owner));
            (!is_tied && subscribes).then_some((partition, owner))
        };
        claims.into_iter().filter_map(newest).collect()
    }

    fn moved(&self, shares: &Shares) -> usize {
        let now = holders(shares);
        self.owners().iter().filter(|(partition, owner)| now.get(partition) != Some(owner)).count()
    }

    /// Partitions that are with a member in none of whose rack they have a replica.
    fn far(&self, shares: &Shares) -> usize {
        let rack_of = |id: &str| {
            let member = self.members.iter().find(|m| *m.member_id == *id).unwrap();
            member.subscription.rack_id.clone()
        };
        let is_far = |id: &str, (topic, number): &(String, u32)| {
            let racks = &self.cluster[topic.as_str()].racks;
            rack_of(id).is_some_and(|rack| {
                !racks.get(*number as usize).is_some_and(|racks| racks.contains(&rack))
            })
        };
        shares.iter().map(|(id, list)| list.iter().filter(|p| is_far(id, p)).count()).sum()
    }

    fn has_racks(&self) -> bool {
        self.cluster.values().any(|topic| !topic.racks.is_empty())
            && self.members.iter().any(|member| member.subscription.rack_id.is_some())
    }

    /// Whether all who subscribe to anything that exists subscribe to the same.
    fn is_equal(&self) -> bool {
        let existing = |member: &GroupMember| -> BTreeSet<ByteString> {
            let topics = member.subscription.topics.iter();
            topics.filter(|topic| self.cluster.contains_key(*topic)).cloned().collect()
        };
        let distinct: BTreeSet<_> =
            self.members.iter().map(existing).filter(|topics| !topics.is_empty()).collect();
        distinct.len() <= 1
    }

    fn is_defect_of_kafka(&self) -> bool {
        self.line["assigns_unsubscribed"] == true
    }

    /// Sizes of those who subscribe to anything that exists.
    fn sizes(&self, shares: &Shares) -> Vec<usize> {
        let subscribers: BTreeSet<String> = self.subscribers().into_values().flatten().collect();
        subscribers.iter().map(|id| shares[id].len()).collect()
    }
}

fn holders(shares: &Shares) -> BTreeMap<(String, u32), String> {
    let mut holders = BTreeMap::new();
    for (id, list) in shares {
        for partition in list {
            let before = holders.insert(partition.clone(), id.clone());
            assert_eq!(before, None, "{partition:?} has two owners");
        }
    }
    holders
}

fn squares(sizes: &[usize]) -> usize {
    sizes.iter().map(|size| size * size).sum()
}

#[test]
fn round_robin_deals_as_kafka_does() {
    for step in steps("roundrobin") {
        assert_eq!(step.ours(), step.kafka, "{}", step.label);
    }
}

#[test]
fn range_cuts_as_kafka_does() {
    for step in steps("range") {
        let by_topic = |shares: &Shares| -> BTreeMap<String, BTreeMap<ByteString, Vec<i32>>> {
            shares.iter().map(|(id, list)| (id.clone(), by_topic(list))).collect()
        };
        assert_eq!(by_topic(&step.ours()), by_topic(&step.kafka), "{}", step.label);
    }
}

/// Bytes of sticky user data, by topic.
fn sticky_user_data(mut bytes: &[u8]) -> (BTreeSet<Vec<u8>>, Vec<u8>) {
    let mut take = |count: usize| {
        let (taken, rest) = bytes.split_at(count);
        bytes = rest;
        taken.to_vec()
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| (n << 8) + usize::from(*byte));
    let topics = number(&take(4));
    let set = (0..topics)
        .map(|_| {
            let mut topic = take(2);
            topic.extend(take(number(&topic)));
            let count = take(4);
            topic.extend(take(4 * number(&count)));
            topic
        })
        .collect();
    (set, take(4))
}

#[test]
fn user_data_is_what_kafka_sends() {
    let mut compared = 0;
    for name in ["range", "roundrobin", "sticky", "cooperative-sticky"] {
        let assignor = by_name(name).unwrap();
        for step in steps(name) {
            for line in step.line["members"].as_array().unwrap() {
                let mut owned: Vec<assigned::TopicPartition> = Vec::new();
                for (topic, number) in partitions(&line["owned"]) {
                    let number = i32::try_from(number).unwrap();
                    match owned.iter_mut().find(|of| *of.topic == *topic) {
                        Some(of) => of.partitions.push(number),
                        None => owned.push(assigned::TopicPartition {
                            topic: topic.into(),
                            partitions: vec![number],
                        }),
                    }
                }
                let generation = generation(line);
                let last = LastAssignment { generation, partitions: &owned };
                let ours = assignor.subscription_user_data(
                    &texts(&line["topics"]),
                    (generation >= 0).then_some(last),
                );
                let kafka =
                    line["user_data_hex"].as_str().map(|hex| Bytes::from(golden::unhex(hex)));
                match (ours, kafka) {
                    (Some(ours), Some(kafka)) if name == "sticky" => {
                        assert_eq!(
                            sticky_user_data(&ours),
                            sticky_user_data(&kafka),
                            "{}",
                            step.label
                        );
                    }
                    (ours, kafka) => assert_eq!(ours, kafka, "{}", step.label),
                }
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 9010);
}

/// Everything is shared out, to subscribers; or, if cooperative, withheld because another member claims it.
#[test]
fn sticky_ones_give_each_partition_to_one_subscriber() {
    for name in ["sticky", "cooperative-sticky"] {
        for step in steps(name) {
            let now = holders(&step.ours());
            let claimed: BTreeSet<_> = step.line["members"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|member| partitions(&member["owned"]))
                .collect();
            for (partition, subscribers) in step.subscribers() {
                match now.get(&partition) {
                    Some(owner) => {
                        assert!(subscribers.contains(owner), "{}: {partition:?}", step.label)
                    }
                    None => assert!(
                        name == "cooperative-sticky" && claimed.contains(&partition),
                        "{}: {partition:?} is with nobody",
                        step.label
                    ),
                }
            }
            assert_eq!(
                now.len() + step.subscribers().keys().filter(|p| !now.contains_key(*p)).count(),
                step.subscribers().len(),
                "{}: something that nobody subscribes to",
                step.label
            );
        }
    }
}

/// What the steps of one kind come to.
#[derive(Debug, Default)]
struct Totals {
    steps: usize,
    moved: usize,
    kafka_moved: usize,
    far: usize,
    kafka_far: usize,
    /// Steps in which our sizes are more even than Kafka's.
    evener: usize,
}

/// By whether subscriptions are equal, and whether there are racks.
type ByKind = BTreeMap<(bool, bool), Totals>;

/// Compares step by step what is a promise, and adds up what is a yardstick.
fn compare(name: &str) -> ByKind {
    let mut totals = ByKind::new();
    let mut miscounted = 0;
    for step in steps(name) {
        if step.is_defect_of_kafka() {
            continue;
        }
        let ours = step.ours();
        let (moved, kafka_moved) = (step.moved(&ours), step.moved(&step.kafka));
        // The file leaves out partitions that an older generation claims twice.
        miscounted += usize::from(step.line["moved"] != kafka_moved);

        let kind = (step.is_equal(), step.has_racks());
        let sizes = step.sizes(&step.ours_eagerly());
        let kafka_sizes = step.sizes(&step.kafka);
        if step.is_equal() {
            let spread = sizes.iter().max().unwrap_or(&0) - sizes.iter().min().unwrap_or(&0);
            assert!(spread <= 1, "{}: sizes {sizes:?}", step.label);
        }
        if kind == (true, false) {
            assert!(moved <= kafka_moved, "{}: {moved}, Kafka {kafka_moved}", step.label);
        }
        if name == "sticky" {
            let label = format!("{}: sizes {sizes:?}, Kafka {kafka_sizes:?}", step.label);
            assert!(squares(&sizes) <= squares(&kafka_sizes), "{label}");
        }

        let totals = totals.entry(kind).or_default();
        totals.steps += 1;
        totals.moved += moved;
        totals.kafka_moved += kafka_moved;
        totals.far += step.far(&ours);
        totals.kafka_far += step.far(&step.kafka);
        totals.evener += usize::from(squares(&sizes) < squares(&kafka_sizes));
    }
    assert!(miscounted <= 4, "{name}: what `moved` means");
    println!("{name}, by (equal subscriptions, racks): {totals:#?}");
    totals
}

#[test]
fn sticky_is_as_even_as_sticky_and_as_near_as_kafkas() {
    for (kind, totals) in compare("sticky") {
        assert!(totals.moved <= totals.kafka_moved, "{kind:?}: {totals:?}");
        assert!(totals.far <= totals.kafka_far, "{kind:?}: {totals:?}");
    }
}

/// Withheld partitions are near to nobody, so only what moves is compared, and not where nearness makes it move.
#[test]
fn cooperative_sticky_is_as_even_and_as_sticky_as_kafkas() {
    for (kind, totals) in compare("cooperative-sticky") {
        let (_, has_racks) = kind;
        assert!(has_racks || totals.moved <= totals.kafka_moved, "{kind:?}: {totals:?}");
    }
}
