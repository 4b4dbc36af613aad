//! Measures what a shard keeps in memory for groups and members.
//!
//! ```text
//! cargo run --release -p kavka-coordinator --example group_memory
//! ```
//!
//! Loads stored groups as after a restart: many groups of one member, and one group of many. Each member has an id of 50 bytes, a
//! subscription to one topic, and a share of one partition.

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use kavka_coordinator::{
    Monotonic, Now,
    group::{GroupConfig, GroupMember, GroupShard, GroupValue, Input, Record},
};
use kavka_protocol::{
    Message,
    messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription,
        consumer_protocol_assignment::TopicPartition,
    },
};

const NOW_MS: i64 = 1_700_000_000_000;

/// What a consumer says and is told, its version in front.
fn blob(message: &impl Message) -> Result<Bytes, Box<dyn std::error::Error>> {
    let mut bytes = 0_i16.to_be_bytes().to_vec();
    bytes.extend_from_slice(&message.to_bytes(0)?);
    Ok(bytes.into())
}

fn member(number: usize) -> Result<GroupMember, Box<dyn std::error::Error>> {
    let subscription =
        ConsumerProtocolSubscription { topics: vec!["orders".into()], ..Default::default() };
    let share = TopicPartition { topic: "orders".into(), partitions: vec![i32::try_from(number)?] };
    let assignment =
        ConsumerProtocolAssignment { assigned_partitions: vec![share], ..Default::default() };
    Ok(GroupMember {
        member_id: format!("consumer-1-{number:0>39}").into(),
        instance_id: None,
        client_id: "consumer-1".into(),
        client_host: "/10.0.0.1".into(),
        rebalance_timeout_ms: 300_000,
        session_timeout_ms: 45_000,
        subscription: blob(&subscription)?,
        assignment: blob(&assignment)?,
    })
}

type Stored = Vec<(Bytes, Option<Bytes>)>;

fn stored(groups: usize, members: usize) -> Result<Stored, Box<dyn std::error::Error>> {
    let mut records = Vec::new();
    for group in 0..groups {
        let members = (0..members).map(member).collect::<Result<Vec<_>, _>>()?;
        let value = GroupValue {
            protocol_type: "consumer".into(),
            generation: 1,
            protocol: Some("range".into()),
            leader: members.first().map(|member| member.member_id.clone()),
            state_timestamp_ms: NOW_MS,
            members,
        };
        let record =
            Record::Group { group: format!("group-{group:0>6}").into(), value: Some(value) };
        records.push(record.encode()?);
    }
    Ok(records)
}

fn load(records: &Stored) -> GroupShard {
    let mut shard = GroupShard::new(GroupConfig::default(), 1);
    for (offset, (key, value)) in (0..).zip(records) {
        shard.apply(offset, &Record::decode(Some(key), value.as_ref()));
    }
    let now = Now { monotonic: Monotonic::since_origin(Duration::ZERO), wall_ms: NOW_MS };
    shard.handle(now, Input::Loaded);
    shard
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (groups, members) in [(100_000, 0), (100_000, 1), (1, 10_000)] {
        let records = stored(groups, members)?;
        let mut shard = None;
        let allocated = allocation_counter::measure(|| shard = Some(load(&records)));
        let each = allocated.bytes_current as f64;
        match groups {
            1 => println!(
                "{members} members of one group: {:.0} bytes a member",
                each / members as f64
            ),
            _ => {
                println!("{groups} groups of {members}: {:.0} bytes a group", each / groups as f64)
            }
        }
        drop(black_box(shard));
    }
    Ok(())
}
