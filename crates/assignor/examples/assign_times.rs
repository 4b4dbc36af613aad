//! Measures how long the assignors take for large groups, alone and with the bytes on both sides.
//!
//! `cargo run --release -p kavka-assignor --example assign_times`

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use bytestring::ByteString;
use kavka_assignor::{
    Assignor, Cluster, Group, GroupMember, RebalanceProtocol, TopicMetadata, by_name,
    leader::{JoinedMembers, encode_subscription},
};
use kavka_protocol::messages::{
    ConsumerProtocolSubscription, consumer_protocol_subscription::TopicPartition,
    join_group_response::JoinGroupResponseMember,
};

const RUNS: usize = 9;

/// The size of a group, and what is special about it.
struct Scene {
    title: &'static str,
    members: u32,
    topics: u32,
    partitions: u32,
    /// Each member subscribes to about half of the topics, every one to others.
    subscriptions_differ: bool,
    racks: u32,
}

const SCENES: [Scene; 7] = [
    Scene {
        title: "10,000 members x 100 topics x 10 partitions",
        members: 10_000,
        topics: 100,
        partitions: 10,
        subscriptions_differ: false,
        racks: 0,
    },
    Scene {
        title: "the same, 3 racks",
        members: 10_000,
        topics: 100,
        partitions: 10,
        subscriptions_differ: false,
        racks: 3,
    },
    Scene {
        title: "the same, subscriptions differ",
        members: 10_000,
        topics: 100,
        partitions: 10,
        subscriptions_differ: true,
        racks: 0,
    },
    Scene {
        title: "1,000 members x 100 topics x 100 partitions",
        members: 1_000,
        topics: 100,
        partitions: 100,
        subscriptions_differ: false,
        racks: 0,
    },
    Scene {
        title: "the same, subscriptions differ",
        members: 1_000,
        topics: 100,
        partitions: 100,
        subscriptions_differ: true,
        racks: 0,
    },
    Scene {
        title: "50 members x 1,000 topics x 50 partitions, 3 racks, subscriptions differ",
        members: 50,
        topics: 1_000,
        partitions: 50,
        subscriptions_differ: true,
        racks: 3,
    },
    Scene {
        title: "100 members x 30 topics x 100 partitions, 3 racks, subscriptions differ",
        members: 100,
        topics: 30,
        partitions: 100,
        subscriptions_differ: true,
        racks: 3,
    },
];

impl Scene {
    fn cluster(&self) -> Cluster {
        let racks = |partition: u32| -> Vec<ByteString> {
            (0..self.racks.min(2))
                .map(|replica| format!("rack-{}", (partition + replica) % self.racks).into())
                .collect()
        };
        let topic = TopicMetadata {
            partitions: self.partitions,
            racks: if self.racks == 0 {
                Vec::new()
            } else {
                (0..self.partitions).map(racks).collect()
            },
        };
        (0..self.topics).map(|number| (topic_name(number), topic.clone())).collect()
    }

    fn member(&self, number: u32) -> GroupMember {
        let wanted = |topic: &u32| {
            !self.subscriptions_differ
                || mixed(u64::from(number) << 32 | u64::from(*topic)) & 1 == 0
        };
        let member_id = format!("consumer-{number:05}-3d5e8c2a-9f41-4f5b-8f0e-2b7c6d1a0e4f");
        GroupMember {
            member_id: member_id.into(),
            group_instance_id: None,
            subscription: ConsumerProtocolSubscription {
                topics: (0..self.topics).filter(wanted).map(topic_name).collect(),
                rack_id: (self.racks > 0).then(|| format!("rack-{}", number % self.racks).into()),
                ..Default::default()
            }
            .into(),
        }
    }
}

fn topic_name(number: u32) -> ByteString {
    format!("orders.region-{number:03}").into()
}

/// A number that looks like a random one.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 32;
    mixed = mixed.wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ mixed >> 32
}

/// What happened since the cooperative sticky assignor shared everything out.
enum Event {
    EveryTenthReplaced,
    EveryOtherReplaced,
    /// A member that was alone, and now is not.
    OneHadAll,
}

impl Event {
    fn befall(&self, cluster: &Cluster, members: &mut [GroupMember]) -> Result<(), Failed> {
        let Some(assignor) = by_name("cooperative-sticky") else {
            return Err("no assignor".into());
        };
        let group = Group::new(cluster, members.to_vec());
        let assignment = assignor.assign(&group)?;
        // Member ids rise, so these are in the group's order.
        for (number, given) in assignment.members().iter().enumerate() {
            let owner = match self {
                Self::EveryTenthReplaced if number % 10 == 0 => continue,
                Self::EveryOtherReplaced if number % 2 == 0 => continue,
                Self::OneHadAll => &mut members[0],
                Self::EveryTenthReplaced | Self::EveryOtherReplaced => &mut members[number],
            };
            let subscription = Arc::make_mut(&mut owner.subscription);
            for partition in &given.partitions {
                subscription.owned_partitions.push(TopicPartition {
                    topic: group.topics()[partition.topic as usize].name().clone(),
                    partitions: vec![i32::try_from(partition.number)?],
                });
            }
            subscription.generation_id = 1;
        }
        Ok(())
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// The fastest of some runs: what the machine does beside it only adds to it.
#[allow(clippy::disallowed_methods)] // A program that measures needs a clock; the assignors have none.
fn measured<T>(mut run: impl FnMut() -> T) -> Duration {
    let times = (0..RUNS).map(|_| {
        let started = Instant::now();
        black_box(run());
        started.elapsed()
    });
    times.min().unwrap_or_default()
}

fn main() -> Result<(), Failed> {
    for scene in SCENES {
        let cluster = scene.cluster();
        println!("{}", scene.title);
        let new = || (0..scene.members).map(|number| scene.member(number)).collect::<Vec<_>>();
        report("new group", &cluster, &new())?;
        for (title, event) in [
            ("every tenth replaced", Event::EveryTenthReplaced),
            ("every other replaced", Event::EveryOtherReplaced),
            ("one had all", Event::OneHadAll),
        ] {
            let mut members = new();
            event.befall(&cluster, &mut members)?;
            report(title, &cluster, &members)?;
        }
    }
    Ok(())
}

fn report(title: &str, cluster: &Cluster, members: &[GroupMember]) -> Result<(), Failed> {
    let group = Group::new(cluster, members.to_vec());
    let joined: Vec<JoinGroupResponseMember> = members
        .iter()
        .map(|member| {
            let metadata: Bytes = encode_subscription(&member.subscription, 3)?;
            let member_id = member.member_id.clone();
            Ok(JoinGroupResponseMember { member_id, metadata, ..Default::default() })
        })
        .collect::<Result<_, kavka_protocol::EncodeError>>()?;
    for name in ["range", "roundrobin", "cooperative-sticky"] {
        let Some(assignor) = by_name(name) else { return Err(name.into()) };
        let alone = measured(|| assignor.assign(&group).is_ok());
        let whole = measured(|| lead(&*assignor, cluster, &joined));
        println!("  {title:<20} {name:<18} {alone:>9.1?} alone, {whole:>9.1?} from bytes to bytes");
    }
    Ok(())
}

fn lead(assignor: &dyn Assignor, cluster: &Cluster, joined: &[JoinGroupResponseMember]) -> bool {
    JoinedMembers::read(joined)
        .and_then(|members| members.assign(assignor, RebalanceProtocol::Cooperative, cluster))
        .is_ok()
}
