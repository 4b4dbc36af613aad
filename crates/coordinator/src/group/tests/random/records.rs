//! Logs that say anything, in any order.

use std::time::Duration;

use bytes::Bytes;
use kavka_protocol::{ByteString, Uuid};
use proptest::prelude::*;

use super::GROUPS;
use crate::group::{
    tests::{
        context::*,
        loading::{stored_group, stored_member},
    },
    *,
};

proptest! {
    /// S31: a log may say anything. What is there is loaded, served, and cleared away in time.
    #[test]
    fn any_sequence_of_records_can_be_loaded(
        records in prop::collection::vec(any_record(), 0..40),
    ) {
        let mut shard = GroupShard::new(GroupConfig::default(), 1);
        for (offset, (producer, record)) in (0..).zip(&records) {
            match producer {
                Some((producer, Some(committed))) => shard.end_transaction(*producer, *committed),
                Some((producer, None)) => shard.apply_transactional(offset, *producer, record),
                None => shard.apply(offset, record),
            }
        }
        let mut ctx = Context::new();
        ctx.shard = shard;
        let output = ctx.shard.handle(ctx.now(), Input::Loaded);
        for record in &output.records {
            ctx.shard.apply(1_000, record);
        }
        for group in GROUPS {
            let request = JoinRequest { group: group.into(), member_id: "m-1".into(), ..join() };
            let request = Input::Request(RequestId(1), Request::Join(request));
            for record in ctx.shard.handle(ctx.now(), request).records {
                ctx.shard.apply(2_000, &record);
            }
        }
        for at in 3_000.. {
            let Some(deadline) = ctx.shard.next_deadline() else { break };
            if deadline.elapsed() > Duration::from_secs(24 * 3_600) {
                break;
            }
            ctx.now_ms = ms(deadline.elapsed());
            for record in ctx.shard.handle(ctx.now(), Input::Deadline).records {
                ctx.shard.apply(at, &record);
            }
        }
        prop_assert!(ctx.shard.groups.values().all(|group| group.state() == GroupState::Empty));
    }

    /// S31: neither may bytes do harm.
    #[test]
    fn any_bytes_are_a_record_or_are_skipped(
        key in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..120)),
        record_type in prop::option::of(0..4_i16),
        version in prop::option::of(0..6_i16),
    ) {
        let prefixed = |prefix: Option<i16>, bytes: Vec<u8>| {
            let prefix = prefix.map(|prefix| prefix.to_be_bytes().to_vec()).unwrap_or_default();
            Bytes::from([prefix, bytes].concat())
        };
        let key = key.map(|key| prefixed(record_type, key));
        let value = value.map(|value| prefixed(version, value));
        let record = Record::decode(key.as_ref(), value.as_ref());
        let mut shard = GroupShard::new(GroupConfig::default(), 1);
        shard.apply(0, &record);
        let skipped: u64 = shard.skipped_records().values().sum();
        let is_skipped = matches!(record, Record::Skipped(_));
        prop_assert_eq!(skipped, u64::from(is_skipped), "what is skipped is counted");
        if is_skipped {
            prop_assert_eq!(shard.hard_state(), HardView::default());
        }
    }
}

/// A record, and the producer whose transaction it belongs to or, in its place, the end of that transaction.
fn any_record() -> impl Strategy<Value = (Option<(i64, Option<bool>)>, Record)> {
    let name = || prop::sample::select(vec!["", "m-1", "m-2", "m-3"]).prop_map(ByteString::from);
    let number = || prop_oneof![Just(-1), Just(0), Just(i32::MIN), Just(i32::MAX), 1..20_000];
    let member = (
        (name(), prop::option::of(name()), number(), number()),
        (prop::collection::vec(any::<u8>(), 0..8), any::<bool>()),
    )
        .prop_map(
            |((id, instance_id, rebalance_timeout_ms, session_timeout_ms), (bytes, good))| {
                GroupMember {
                    instance_id,
                    rebalance_timeout_ms,
                    session_timeout_ms: session_timeout_ms.min(1_800_000),
                    subscription: if good { subscription(&["t"]) } else { bytes.into() },
                    ..stored_member(&id)
                }
            },
        );
    let group = (
        prop::collection::vec(member, 0..5),
        (number(), prop::option::of(name()), prop::option::of(name())),
        (name(), any::<i64>()),
    )
        .prop_map(|(members, (generation, protocol, leader), (protocol_type, timestamp))| {
            GroupValue {
                generation,
                protocol,
                leader,
                protocol_type,
                state_timestamp_ms: timestamp,
                ..stored_group(members)
            }
        });
    let value = (any::<i64>(), number(), any::<i64>(), prop::option::of(any::<i64>())).prop_map(
        |(offset, leader_epoch, commit_timestamp_ms, expire_timestamp_ms)| OffsetValue {
            offset,
            leader_epoch,
            metadata: "note".into(),
            commit_timestamp_ms,
            expire_timestamp_ms,
            topic_id: Uuid::ZERO,
        },
    );
    let group_name = || prop::sample::select(GROUPS.to_vec()).prop_map(ByteString::from);
    let record = prop_oneof![
        (group_name(), prop::option::of(group))
            .prop_map(|(group, value)| Record::Group { group, value }),
        (group_name(), 0..3_i32, prop::option::of(value)).prop_map(|(group, partition, value)| {
            Record::Offset { group, topic: "t".into(), partition, value }
        }),
        Just(Record::Skipped(Skipped::Type(77))),
    ];
    (prop::option::weighted(0.3, (0..3_i64, prop::option::of(any::<bool>()))), record)
}
