//! Offsets that expired too early, or were refused, kept or lost.

use std::time::Duration;

use bytes::Bytes;
use kavka_protocol::{ErrorCode, Uuid};

use crate::group::{
    tests::{
        context::*,
        loading::{group_record, stored_group},
    },
    *,
};

#[test]
fn kafka_4682_offsets_of_an_idle_but_live_consumer_do_not_expire() {
    let retention = Duration::from_secs(3_600);
    let mut ctx =
        Context::with(GroupConfig { offsets_retention: retention, ..GroupConfig::default() });
    let slow = JoinRequest { session_timeout_ms: 1_800_000, ..join() };
    let ids = ctx.stable_of([slow]);
    let topics = ["t", "not-subscribed"].map(|name| CommitTopic {
        name: name.into(),
        topic_id: Uuid::ZERO,
        partitions: vec![CommitPartition {
            partition: 0,
            offset: 9,
            leader_epoch: -1,
            metadata: None,
        }],
    });
    ctx.commit(CommitRequest { topics: topics.to_vec(), ..commit(1, &ids[0], 0) });
    for _ in 0..30 * 24 {
        ctx.sleep(1_000_000);
        assert_eq!(ctx.heartbeat(&ids[0], 1), ErrorCode::None);
    }
    assert_eq!(ctx.committed(), 9);
    assert_eq!(ctx.fetch_all().len(), 1, "what nobody subscribes to goes");
}

#[test]
fn kafka_13636_offsets_do_not_expire_during_a_rebalance() {
    let mut ctx = Context::with(GroupConfig {
        offsets_retention: Duration::from_secs(60),
        ..GroupConfig::default()
    });
    let patient =
        JoinRequest { session_timeout_ms: 1_800_000, rebalance_timeout_ms: 1_800_000, ..join() };
    let of = |n: usize| JoinRequest { client_id: n.to_string().into(), ..patient.clone() };
    let ids = ctx.stable_of([of(0), of(1)]);
    let topics = vec![CommitTopic {
        name: "other".into(),
        topic_id: Uuid::ZERO,
        partitions: vec![CommitPartition {
            partition: 0,
            offset: 9,
            leader_epoch: -1,
            metadata: None,
        }],
    }];
    ctx.commit(CommitRequest { topics, ..commit(1, &ids[0], 0) });
    let parked = ctx.join(JoinRequest { member_id: ids[0].clone(), ..of(0) });
    ctx.sleep(1_500_000);
    assert_eq!(ctx.answer(parked), None);
    assert_eq!(ctx.fetch_all().len(), 1);
}

/// Offsets in each stored version, loaded: nothing expires a tick later (also KAFKA-7403, KAFKA-10401).
#[test]
fn kafka_8069_offsets_of_every_version_do_not_expire_right_after_load() {
    let now: i64 = 1_700_000_000_000;
    let recent = (now - 1_000).to_be_bytes();
    let never = (-1_i64).to_be_bytes();
    let offset = 5_i64.to_be_bytes();
    let note: &[u8] = &[0, 0];
    let epoch: &[u8] = &[0, 0, 0, 9];
    let values: [Vec<u8>; 6] = [
        [&[0, 0][..], &offset, note, &recent].concat(),
        [&[0, 1][..], &offset, note, &recent, &never].concat(),
        [&[0, 2][..], &offset, note, &recent].concat(),
        [&[0, 3][..], &offset, epoch, note, &recent].concat(),
        [&[0, 4][..], &offset, epoch, &[1], &recent, &[0]].concat(),
        [&[0, 0][..], &offset, note, &recent].concat(),
    ];
    let records = (0_u8..).zip(&values).map(|(at, value)| {
        // The last one under the key type of the oldest coordinators.
        let key_type = u8::from(at != 5);
        let key = [&[0, key_type, 0, 1, b'g', 0, 1, b't', 0, 0, 0, at][..]].concat();
        let (key, value) = (Bytes::from(key), Bytes::from(value.clone()));
        let record = Record::decode(Some(&key), Some(&value));
        assert!(matches!(record, Record::Offset { .. }), "version {at}: {record:?}");
        record
    });
    for group in [None, Some(-1), Some(now - 1_000)] {
        let mut records: Vec<Record> = records.clone().collect();
        if let Some(state_timestamp_ms) = group {
            let value = GroupValue { state_timestamp_ms, ..stored_group(Vec::new()) };
            records.push(group_record(Some(value)));
        }
        let mut ctx = Context::loaded(GroupConfig::default(), records);
        ctx.sleep(1_200_000);
        let epochs: Vec<i32> =
            ctx.fetch_all()[0].partitions.iter().map(|p| p.leader_epoch).collect();
        assert_eq!(epochs, [-1, -1, -1, 9, 9, -1]);
        ctx.sleep(7 * 24 * 3_600_000);
        assert_eq!(ctx.state(), GroupState::Dead, "and a week later they do");
    }
}

/// A group record without the time of its state: the time of the commit counts.
#[test]
fn kafka_10401_state_timestamp_of_every_version_is_read() {
    let value = |version: i16, timestamp: Option<i64>| {
        let mut bytes = version.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[0, 8]);
        bytes.extend_from_slice(b"consumer");
        bytes.extend_from_slice(&[0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]);
        if let Some(timestamp) = timestamp {
            bytes.extend_from_slice(&timestamp.to_be_bytes());
        }
        bytes.extend_from_slice(&[0, 0, 0, 0]);
        Bytes::from(bytes)
    };
    for version in 0..=3 {
        let timestamp = (version >= 2).then_some(77);
        let record = Record::decode(Some(&group_key("g")), Some(&value(version, timestamp)));
        let Record::Group { value: Some(group), .. } = record else { panic!("{record:?}") };
        assert_eq!(group.state_timestamp_ms, timestamp.unwrap_or(-1));
        assert_eq!(group.generation, 4);
    }
}

#[test]
fn kafka_14201_commit_with_a_name_and_no_id_is_taken_from_who_assigns_itself() {
    let mut ctx = Context::new();
    let request = CommitRequest { instance_id: Some("i".into()), ..commit(-1, "", 5) };
    assert_eq!(ctx.commit(request), ErrorCode::None);
    assert_eq!(ctx.committed(), 5);
}

#[test]
fn kafka_16371_partition_that_is_refused_leaves_nothing_pending() {
    let mut ctx = Context::new();
    let mut request = commit(-1, "", 5);
    let long = CommitPartition {
        partition: 1,
        offset: 6,
        leader_epoch: -1,
        metadata: Some("x".repeat(4_097).into()),
    };
    request.topics[0].partitions.push(long);
    let rows = ctx.commit_rows(request);
    assert_eq!(rows[0].partitions, [(0, ErrorCode::None), (1, ErrorCode::OffsetMetadataTooLarge)]);
    assert_eq!(ctx.committed(), 5, "also when only stable offsets are asked for");
}

#[test]
fn kafka_16930_member_without_a_subscription_does_no_harm() {
    let mut ctx = Context::new();
    let empty = JoinRequest { protocols: vec![("range".into(), Bytes::new())], ..join() };
    let ids = ctx.stable_of([empty]);
    ctx.commit(commit(1, &ids[0], 5));
    ctx.idle(700_000, &ids, 1);
    assert_eq!(ctx.committed(), 5, "what cannot be understood counts as subscribed");
    ctx.restart();
    assert_eq!(ctx.heartbeat(&ids[0], 1), ErrorCode::None);
}

/// Errors of the whole request stand where the oldest versions can see them too: on every partition of a commit, on the group of a
/// fetch, whose handler copies it.
#[test]
fn kafka_19439_errors_stand_at_their_level() {
    let mut shard = GroupShard::new(GroupConfig::default(), 1);
    let now = crate::Now { monotonic: crate::Monotonic::ORIGIN, wall_ms: 0 };
    let request = Request::CommitOffsets(commit(1, "m", 1));
    let output = shard.handle(now, Input::Request(RequestId(1), request));
    let loading = ErrorCode::CoordinatorLoadInProgress;
    let Reply::CommitOffsets(reply) = &output.answers[0].reply else { panic!("{output:?}") };
    assert_eq!(reply.topics[0].partitions, [(0, loading)]);
    let request = FetchRequest { group: GROUP.into(), topics: None, require_stable: false };
    let output = shard.handle(now, Input::Request(RequestId(2), Request::FetchOffsets(request)));
    let Reply::FetchOffsets(reply) = &output.answers[0].reply else { panic!("{output:?}") };
    assert_eq!((reply.error, reply.topics.len()), (loading, 0));
}

#[test]
fn redpanda_4900_deleted_group_stays_deleted() {
    let mut ctx = Context::new();
    let ids = ctx.stable(1);
    ctx.commit(commit(1, &ids[0], 5));
    ctx.leave(&[(&ids[0], None)]);
    assert_eq!(ctx.delete_group(), ErrorCode::None);
    ctx.restart();
    assert_eq!(ctx.state(), GroupState::Dead);
    assert_eq!(ctx.committed(), -1);
    assert_eq!(ctx.delete_group(), ErrorCode::GroupIdNotFound);
}

/// Offsets that differ in group, topic or partition have different keys, and a tombstone has the key of what it removes.
#[test]
fn redpanda_5163_keys_tell_records_apart() {
    let key = |group: &str, topic: &str, partition, value| {
        let record = Record::Offset { group: group.into(), topic: topic.into(), partition, value };
        record.encode().unwrap().0
    };
    let keys = [
        key("g", "t", 0, None),
        key("g", "t", 1, None),
        key("g", "u", 0, None),
        key("gt", "", 0, None),
        key("", "gt", 0, None),
        group_record(None).encode().unwrap().0,
    ];
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len());
    let mut ctx = Context::new();
    ctx.commit(commit(-1, "", 5));
    assert_eq!(ctx.log[0].record().unwrap().encode().unwrap().0, keys[0]);
}
