//! Loading, unloading, and logs that others wrote.

use std::collections::BTreeMap;

use bytes::Bytes;
use kavka_protocol::{ByteString, ErrorCode};

use super::{context::*, static_members::named};
use crate::{Monotonic, Now, group::*};

pub(super) fn stored_member(id: &str) -> GroupMember {
    GroupMember {
        member_id: id.into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/10.0.0.1".into(),
        rebalance_timeout_ms: REBALANCE_MS,
        session_timeout_ms: SESSION_MS,
        subscription: subscription(&["t"]),
        assignment: "share".into(),
    }
}

pub(super) fn stored_group(members: Vec<GroupMember>) -> GroupValue {
    GroupValue {
        protocol_type: "consumer".into(),
        generation: 7,
        protocol: Some("range".into()).filter(|_| !members.is_empty()),
        leader: members.first().map(|member| member.member_id.clone()),
        state_timestamp_ms: 1_600_000_000_000,
        members,
    }
}

pub(super) fn group_record(value: Option<GroupValue>) -> Record {
    Record::Group { group: GROUP.into(), value }
}

fn every_request(member_id: &str) -> Vec<Request> {
    vec![
        Request::Join(JoinRequest { member_id: member_id.into(), ..join() }),
        Request::Sync(sync(member_id, 1, &[])),
        Request::Heartbeat(HeartbeatRequest {
            group: GROUP.into(),
            generation: 1,
            member_id: member_id.into(),
            instance_id: None,
        }),
        Request::Leave(LeaveRequest {
            group: GROUP.into(),
            members: vec![LeavingMember {
                member_id: member_id.into(),
                instance_id: None,
                reason: None,
            }],
        }),
        Request::CommitOffsets(commit(1, member_id, 1)),
        Request::FetchOffsets(FetchRequest {
            group: GROUP.into(),
            topics: None,
            require_stable: false,
        }),
        Request::DeleteOffsets(DeleteOffsetsRequest { group: GROUP.into(), topics: Vec::new() }),
        Request::DeleteGroups(vec![GROUP.into()]),
        Request::DescribeGroups(vec![GROUP.into()]),
        Request::ListGroups(ListRequest::default()),
    ]
}

fn code_of(reply: &Reply) -> ErrorCode {
    match reply {
        Reply::Join(join) => join.error,
        Reply::Sync(sync) => sync.error,
        Reply::Heartbeat(code) => *code,
        Reply::Leave(leave) => leave.error,
        Reply::CommitOffsets(commit) => commit.topics[0].partitions[0].1,
        Reply::FetchOffsets(fetch) => fetch.error,
        Reply::DeleteOffsets(delete) => delete.error,
        Reply::DeleteGroups(groups) => groups[0].1,
        Reply::DescribeGroups(groups) => groups[0].error,
        Reply::ListGroups(list) => list.error,
    }
}

fn answers_in(shard: &mut GroupShard) -> Vec<ErrorCode> {
    let now = Now { monotonic: Monotonic::ORIGIN, wall_ms: 0 };
    every_request("m")
        .into_iter()
        .map(|request| {
            let output = shard.handle(now, Input::Request(RequestId(1), request));
            assert!(output.records.is_empty() && output.answers.len() == 1);
            code_of(&output.answers[0].reply)
        })
        .collect()
}

#[test]
fn loading_shard_says_so_but_takes_heartbeats() {
    let mut shard = GroupShard::new(GroupConfig::default(), 1);
    let mut expected = [ErrorCode::CoordinatorLoadInProgress; 10];
    expected[1] = ErrorCode::RebalanceInProgress;
    expected[2] = ErrorCode::None;
    assert_eq!(answers_in(&mut shard), expected);
    assert_eq!(shard.next_deadline(), None);
}

#[test]
fn stable_group_is_stable_after_a_restart_and_nobody_notices() {
    let mut ctx = Context::new();
    let ids = ctx.stable(3);
    ctx.commit(commit(1, &ids[0], 5));
    ctx.idle(5_000, &ids, 1);
    let before = (ctx.describe(), ctx.log.len());
    ctx.restart();
    assert_eq!(ctx.describe(), before.0);
    // Everyone has a full session from now on.
    ctx.sleep(8_999);
    ctx.idle(60_000, &ids, 1);
    assert_eq!(ctx.committed(), 5);
    assert_eq!(ctx.log.len(), before.1);
    assert_eq!(ctx.describe(), before.0, "no rebalance, same generation");
    assert!(ctx.told("Loaded group g in state Stable with generation 1 and 3 members."));
}

#[test]
fn member_that_is_gone_when_its_group_is_loaded_expires() {
    let mut ctx = Context::new();
    let ids = ctx.stable(2);
    ctx.restart();
    ctx.idle(9_000, &ids[..1], 1);
    ctx.sleep(1_000);
    assert_eq!(ctx.heartbeat(&ids[0], 1), ErrorCode::RebalanceInProgress);
    assert_eq!(ctx.heartbeat(&ids[1], 1), ErrorCode::UnknownMemberId);
}

#[test]
fn join_round_that_was_not_synced_is_lost_and_members_rejoin() {
    let mut ctx = Context::new();
    let ids = ctx.stable(2);
    let rejoin = |id: &ByteString| JoinRequest { member_id: id.clone(), ..join() };
    ctx.join(rejoin(&ids[0]));
    ctx.join(rejoin(&ids[1]));
    let parked = ctx.sync_as(&ids[1], 2, &[]);
    ctx.restart();
    assert_eq!(ctx.synced(parked).error, ErrorCode::NotCoordinator);
    assert_eq!(ctx.heartbeat(&ids[0], 2), ErrorCode::IllegalGeneration);
    let sync = ctx.sync_as(&ids[1], 2, &[]);
    assert_eq!(ctx.synced(sync).error, ErrorCode::IllegalGeneration);
    let first = ctx.join(rejoin(&ids[0]));
    let second = ctx.join(rejoin(&ids[1]));
    assert_eq!(ctx.joined(first).generation, 2);
    assert_eq!(ctx.joined(second).generation, 2);
}

#[test]
fn parked_joins_are_told_when_the_shard_is_unloaded() {
    let mut ctx = Context::new();
    let ids = ctx.stable(2);
    let parked = ctx.join(JoinRequest { member_id: ids[0].clone(), ..join() });
    ctx.step(Input::Unload { error: ErrorCode::NotCoordinator });
    let reply = ctx.joined(parked);
    assert_eq!((reply.error, &reply.member_id), (ErrorCode::NotCoordinator, &ids[0]));
    assert_eq!(ctx.shard.next_deadline(), None);
}

#[test]
fn oversized_group_rebalances_when_it_is_loaded() {
    let mut ctx = Context::new();
    let ids = ctx.stable(3);
    ctx.config.max_size = 2;
    ctx.restart();
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
    assert!(ctx.told("is over capacity 2"));
    let rejoin = |id: &ByteString| JoinRequest { member_id: id.clone(), ..join() };
    let first = ctx.join(rejoin(&ids[0]));
    ctx.join(rejoin(&ids[1]));
    assert_eq!(ctx.join_now(rejoin(&ids[2])).error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(ctx.joined(first).members.len(), 2);
}

#[test]
fn rebalance_timeout_of_old_records_is_the_session_timeout() {
    let member = GroupMember { rebalance_timeout_ms: -1, ..stored_member("m-1") };
    let other = GroupMember { rebalance_timeout_ms: -1, ..stored_member("m-2") };
    let records = vec![group_record(Some(stored_group(vec![member, other])))];
    let mut ctx = Context::loaded(GroupConfig::default(), records);
    let parked =
        ctx.join(JoinRequest { member_id: "m-1".into(), rebalance_timeout_ms: -1, ..join() });
    ctx.sleep(9_000);
    ctx.heartbeat("m-2", 7);
    assert_eq!(ctx.answer(parked), None);
    ctx.sleep(1_000);
    assert_eq!(ctx.joined(parked).generation, 8);
}

#[test]
fn offsets_without_a_group_record_make_a_simple_group() {
    let mut ctx = Context::new();
    ctx.commit(commit(-1, "", 5));
    ctx.restart();
    assert_eq!(ctx.committed(), 5);
    let group = ctx.describe();
    assert_eq!((group.state, &*group.protocol_type), (GroupState::Empty, ""));
    assert_eq!(ctx.commit(commit(-1, "", 6)), ErrorCode::None);
}

#[test]
fn static_members_are_known_after_a_restart() {
    let mut ctx = Context::new();
    let ids = super::static_members::stable(&mut ctx);
    ctx.restart();
    let name = super::static_members::instance(&ids[1]).to_owned();
    let reply = ctx.join_now(named(&name));
    assert_eq!((reply.error, reply.generation), (ErrorCode::None, 1));
    assert_eq!(ctx.heartbeat_as(&ids[1], Some(&name), 1), ErrorCode::FencedInstanceId);
}

#[test]
fn strange_groups_in_a_log_do_no_harm() {
    let strange = [
        // Nobody leads, nothing was chosen.
        GroupValue { leader: None, protocol: None, ..stored_group(vec![stored_member("a")]) },
        // The leader is not there, an id and a name occur twice, timeouts make no sense.
        GroupValue {
            leader: Some("x".into()),
            generation: i32::MAX,
            ..stored_group(vec![
                GroupMember { instance_id: Some("i".into()), ..stored_member("a") },
                GroupMember { instance_id: Some("i".into()), ..stored_member("b") },
                GroupMember { rebalance_timeout_ms: -5, ..stored_member("b") },
                GroupMember { subscription: Bytes::new(), ..stored_member("c") },
            ])
        },
    ];
    for value in strange {
        let config = GroupConfig::default();
        let mut shard = GroupShard::new(config.clone(), 1);
        shard.apply(0, &group_record(Some(value)));
        let mut now = Now { monotonic: Monotonic::ORIGIN, wall_ms: 0 };
        shard.handle(now, Input::Loaded);
        for request in every_request("b") {
            let output = shard.handle(now, Input::Request(RequestId(1), request));
            for record in &output.records {
                shard.apply(1, record);
            }
        }
        for _ in 0..100 {
            let Some(deadline) = shard.next_deadline() else { break };
            now.monotonic = deadline;
            for record in shard.handle(now, Input::Deadline).records {
                shard.apply(1, &record);
            }
        }
    }
}

#[test]
fn unknown_records_are_counted_and_skipped() {
    let mut shard = GroupShard::new(GroupConfig::default(), 1);
    let key = |record_type: i16, rest: &[u8]| {
        Bytes::from([&record_type.to_be_bytes()[..], rest].concat())
    };
    let value = Bytes::from_static(&[0, 99, 1, 2, 3]);
    let records = [
        (Some(key(3, &[1, 2])), Some(value.clone())),
        (Some(key(3, &[])), None),
        (Some(key(500, &[])), Some(value.clone())),
        (Some(group_key("g")), Some(value.clone())),
        (Some(group_key("g")), Some(Bytes::from_static(&[0]))),
        (Some(group_key("g")), Some(Bytes::from_static(&[0, 3, 0]))),
        (Some(key(1, &[0, 1])), Some(value.clone())),
        (Some(Bytes::from_static(&[0])), Some(value)),
        (None, None),
    ];
    for (offset, (key, value)) in (0..).zip(&records) {
        shard.apply(offset, &Record::decode(key.as_ref(), value.as_ref()));
    }
    let malformed = |record_type| Skipped::Malformed { record_type };
    let expected = BTreeMap::from([
        (Skipped::Type(3), 2),
        (Skipped::Type(500), 1),
        (Skipped::ValueVersion { record_type: 2, version: 99 }, 1),
        (malformed(Some(2)), 2),
        (malformed(Some(1)), 1),
        (malformed(None), 2),
    ]);
    assert_eq!(*shard.skipped_records(), expected);
    assert_eq!(shard.hard_state(), HardView::default());
    let now = Now { monotonic: Monotonic::ORIGIN, wall_ms: 0 };
    let output = shard.handle(now, Input::Loaded);
    assert_eq!(output.events.len(), expected.len());
    assert!(
        output
            .events
            .iter()
            .any(|e| e.to_string() == "Skipped 2 records while loading: record type 3.")
    );
}

/// A record that is kept must not keep the megabytes it was read with.
#[test]
fn nothing_that_was_read_from_a_log_stays_in_memory_with_the_shard() {
    let mut ctx = Context::new();
    let ids = ctx.stable(2);
    ctx.commit(commit(1, &ids[0], 5));
    let mut shard = GroupShard::new(GroupConfig::default(), 1);
    for entry in &ctx.log {
        let (key, value) = entry.record().unwrap().encode().unwrap();
        let (chunk, key_len) = (Bytes::from([&key[..], &value.unwrap()].concat()), key.len());
        let (key, value) = (chunk.slice(..key_len), chunk.slice(key_len..));
        let record = Record::decode(Some(&key), Some(&value));
        shard.apply(entry.offset, &record);
        shard.apply_transactional(entry.offset, 9, &record);
        drop((key, value, record));
        assert!(chunk.is_unique(), "something holds on to what was read");
    }
    assert_eq!(shard.hard_state().groups, ctx.shard.hard_state().groups);
}

#[test]
fn failed_append_leaves_no_trace() {
    let mut ctx = Context::new();
    let ids = ctx.stable(2);
    ctx.commit(commit(1, &ids[0], 5));
    let before = ctx.shard.hard_state();
    let parked = ctx.join(JoinRequest { member_id: ids[0].clone(), ..join() });
    let id = ctx.new_request();
    let request = Request::CommitOffsets(commit(1, &ids[1], 6));
    ctx.failed_step(Input::Request(id, request), ErrorCode::NotLeaderOrFollower);
    assert_eq!(code_of(ctx.answer(id).unwrap()), ErrorCode::NotCoordinator);
    assert_eq!(ctx.joined(parked).error, ErrorCode::NotCoordinator);
    assert_eq!(ctx.shard.hard_state(), before);
    assert_eq!(ctx.committed(), 5);
    assert_eq!(ctx.state(), GroupState::Stable);
}

#[test]
fn failed_replies_keep_their_shape() {
    let mut ctx = Context::new();
    let ids = ctx.stable(1);
    for mut request in every_request(&ids[0]) {
        if let Request::Sync(sync) = &mut request {
            sync.assignments = vec![(ids[0].clone(), "x".into())];
        }
        let id = ctx.new_request();
        let error = ErrorCode::RequestTimedOut;
        ctx.failed_step(Input::Request(id, request), error);
        let reply = ctx.answer(id).unwrap();
        let expected = match reply {
            Reply::DeleteGroups(_) => ErrorCode::NonEmptyGroup,
            _ => ErrorCode::CoordinatorNotAvailable,
        };
        assert_eq!(code_of(reply), expected, "{reply:?}");
    }
}

#[test]
fn append_errors_are_told_as_kafka_tells_them() {
    use ErrorCode as E;
    for (error, told) in [
        (E::UnknownTopicOrPartition, E::CoordinatorNotAvailable),
        (E::NotEnoughReplicas, E::CoordinatorNotAvailable),
        (E::NotEnoughReplicasAfterAppend, E::CoordinatorNotAvailable),
        (E::RequestTimedOut, E::CoordinatorNotAvailable),
        (E::NotLeaderOrFollower, E::NotCoordinator),
        (E::KafkaStorageError, E::NotCoordinator),
        (E::MessageTooLarge, E::UnknownServerError),
        (E::RecordListTooLarge, E::UnknownServerError),
        (E::InvalidFetchSize, E::UnknownServerError),
        (E::NetworkException, E::CoordinatorLoadInProgress),
    ] {
        assert_eq!(append_error(error), told);
    }
}

#[test]
fn unloaded_shard_answers_not_coordinator() {
    let mut ctx = Context::new();
    ctx.stable(1);
    ctx.step(Input::Unload { error: ErrorCode::NotCoordinator });
    assert_eq!(answers_in(&mut ctx.shard), [ErrorCode::NotCoordinator; 10]);
}
