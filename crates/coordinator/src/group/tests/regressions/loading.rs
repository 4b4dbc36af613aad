//! Loading, unloading, and records that were too large, in the wrong order or not there.

use bytes::Bytes;
use kavka_protocol::{ByteString, ErrorCode};

use super::rejoin;
use crate::group::{
    invariants::compact,
    tests::{
        context::*,
        loading::{group_record, stored_group, stored_member},
    },
    *,
};

#[test]
fn kafka_8896_heartbeat_of_a_former_incarnation() {
    let mut ctx = Context::new();
    let (parked, member) = ctx.handshake(join());
    ctx.sleep(3_000);
    assert_eq!(ctx.joined(parked).generation, 1);
    ctx.restart();
    assert_eq!(ctx.heartbeat(&member, 1), ErrorCode::UnknownMemberId);
    assert_eq!(ctx.leave(&[(&member, None)]), [ErrorCode::UnknownMemberId]);
    assert_eq!(ctx.commit(commit(1, &member, 1)), ErrorCode::UnknownMemberId);
}

/// Whoever asks where the group is no longer served looks for the coordinator, and does not give up its membership.
#[test]
fn kafka_8386_unloaded_group_answers_not_coordinator_and_not_unknown_member() {
    let mut ctx = Context::new();
    let ids = ctx.stable(1);
    ctx.step(Input::Unload { error: ErrorCode::NotCoordinator });
    assert_eq!(ctx.heartbeat(&ids[0], 1), ErrorCode::NotCoordinator);
    assert_eq!(ctx.join_now(rejoin(&ids[0])).error, ErrorCode::NotCoordinator);
    let sync = ctx.sync_as(&ids[0], 1, &[]);
    assert_eq!(ctx.synced(sync).error, ErrorCode::NotCoordinator);
    assert_eq!(ctx.commit(commit(1, &ids[0], 1)), ErrorCode::NotCoordinator);
}

#[test]
fn kafka_17306_tombstone_for_something_unknown_is_nothing() {
    let offset = Record::Offset { group: "x".into(), topic: "t".into(), partition: 1, value: None };
    let records = vec![group_record(None), offset, group_record(None)];
    let mut ctx = Context::loaded(GroupConfig::default(), records);
    assert_eq!(ctx.state(), GroupState::Dead);
}

/// After compaction the offsets of a group can stand before its record, or the other way round.
#[test]
fn kafka_20254_records_of_a_group_may_come_in_any_order() {
    let mut ctx = Context::new();
    let ids = ctx.stable(1);
    ctx.commit(commit(1, &ids[0], 5));
    let described = ctx.describe();
    let mut log = ctx.log.clone();
    for _ in 0..log.len() {
        log.rotate_left(1);
        let mut compacted = compact(&ctx.log, false);
        compacted.sort_by_key(|kept| log.iter().position(|entry| entry.offset == kept.offset));
        let records = compacted.iter().filter_map(Entry::record).cloned().collect();
        let mut other = Context::loaded(GroupConfig::default(), records);
        assert_eq!(other.describe(), described);
        assert_eq!(other.committed(), 5);
    }
}

/// Ten thousand members: either their record fits into a batch, or the ones it does not fit with are refused. The group works on.
#[test]
fn kafka_19760_group_that_is_too_large_for_a_record_refuses_members_and_works_on() {
    let mut ctx = Context::with(GroupConfig { max_batch_bytes: 2_000, ..GroupConfig::default() });
    let request = |n: usize| JoinRequest { client_id: n.to_string().into(), ..join() };
    let mut parked = Vec::new();
    let mut refused = 0;
    for n in 0..60 {
        let reply = ctx.join_now(request(n));
        if reply.error != ErrorCode::MemberIdRequired {
            assert_eq!(reply.error, ErrorCode::GroupMaxSizeReached);
            refused += 1;
            continue;
        }
        parked.push(ctx.join(JoinRequest { member_id: reply.member_id, ..request(n) }));
    }
    assert!(refused > 0 && !parked.is_empty());
    while ctx.parked() > 0 {
        ctx.sleep(100);
    }
    let leader = ctx.joined(parked[0]).leader.clone();
    let generation = ctx.joined(parked[0]).generation;

    // An assignment that does not fit is refused, and the group does not stand still.
    let large = "x".repeat(3_000);
    let sync = ctx.sync_as(&leader, generation, &[(&leader, &large)]);
    assert_eq!(ctx.synced(sync).error, ErrorCode::UnknownServerError);
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
    assert!(ctx.told("makes a record of"));
    let ids: Vec<ByteString> = ctx.describe().members.into_iter().map(|m| m.member_id).collect();
    for id in &ids {
        ctx.join(JoinRequest { client_id: "x".into(), ..rejoin(id) });
    }
    let sync = ctx.sync_as(&leader, generation + 1, &[(&leader, "small")]);
    assert_eq!(ctx.synced(sync).error, ErrorCode::None);
    assert_eq!(ctx.state(), GroupState::Stable);
}

#[test]
fn kafka_9065_record_of_a_huge_group_is_loaded() {
    let members = (0..10_000).map(|n| stored_member(&format!("m-{n:05}"))).collect();
    let record = group_record(Some(stored_group(members)));
    let (key, value) = record.encode().unwrap();
    let read = Record::decode(Some(&key), value.as_ref());
    assert_eq!(read, record);
    let mut shard = GroupShard::new(GroupConfig::default(), 1);
    shard.apply(0, &read);
    let now = crate::Now { monotonic: crate::Monotonic::ORIGIN, wall_ms: 0 };
    let output = shard.handle(now, Input::Loaded);
    assert!(output.records.is_empty());
    assert_eq!(shard.hard_state().groups[GROUP].members.len(), 10_000);
}

/// Whatever comes after the unload does not bring the shard back: the shell makes a new one for each load.
#[test]
fn kafka_10614_load_that_comes_after_the_unload_changes_nothing() {
    let mut ctx = Context::new();
    ctx.stable(1);
    ctx.step(Input::Unload { error: ErrorCode::NotCoordinator });
    ctx.step(Input::Loaded);
    assert_eq!(ctx.heartbeat("m", 1), ErrorCode::NotCoordinator);
    ctx.step(Input::Unload { error: ErrorCode::NotCoordinator });
    assert_eq!(ctx.shard.next_deadline(), None);
}

#[test]
fn kafka_15849_listing_an_empty_shard_is_answered() {
    let mut ctx = Context::new();
    let reply = ctx.call(Request::ListGroups(ListRequest::default()));
    assert_eq!(reply, Reply::ListGroups(ListReply { error: ErrorCode::None, groups: Vec::new() }));
}

#[test]
fn nisshi_group_detail_every_field_of_a_group_survives() {
    let member = GroupMember {
        instance_id: Some("i".into()),
        client_id: "名前".into(),
        client_host: "/::1".into(),
        rebalance_timeout_ms: 1,
        session_timeout_ms: 6_001,
        assignment: Bytes::from_static(&[0, 255]),
        ..stored_member("m-1")
    };
    let value = stored_group(vec![member, stored_member("m-2")]);
    let ctx = Context::loaded(GroupConfig::default(), vec![group_record(Some(value.clone()))]);
    assert_eq!(ctx.stored(), Some(value.clone()));
    assert_eq!(ctx.shard.groups[GROUP].to_value(), value);
}

/// The life of a group, step by step: it comes, commits, rebalances, is emptied, loses offsets, and comes again.
const LIFE: &[fn(&mut Context, &mut Vec<ByteString>)] = &[
    |ctx, ids| *ids = ctx.stable(2),
    |ctx, ids| assert_eq!(ctx.commit(commit(1, &ids[0], 5)), ErrorCode::None),
    |ctx, ids| assert_eq!(ctx.commit(commit(1, &ids[1], 6)), ErrorCode::None),
    |ctx, ids| assert_eq!(ctx.leave(&[(&ids[1], None)]), [ErrorCode::None]),
    |ctx, ids| {
        let parked = ctx.join(JoinRequest { client_id: "0".into(), ..rejoin(&ids[0]) });
        assert_eq!(ctx.joined(parked).generation, 2);
    },
    |ctx, ids| ctx.sync_all(&ids[..1], 2),
    |ctx, ids| assert_eq!(ctx.commit(commit(2, &ids[0], 7)), ErrorCode::None),
    |ctx, ids| assert_eq!(ctx.leave(&[(&ids[0], None)]), [ErrorCode::None]),
    |ctx, _| assert_eq!(ctx.delete_offsets("t").error, ErrorCode::None),
    |ctx, ids| *ids = ctx.stable(1),
    |ctx, ids| {
        let generation = ctx.stored().unwrap().generation;
        assert_eq!(ctx.commit(commit(generation, &ids[0], 8)), ErrorCode::None);
    },
    |ctx, ids| assert_eq!(ctx.leave(&[(&ids[0], None)]), [ErrorCode::None]),
    |ctx, _| assert_eq!(ctx.delete_group(), ErrorCode::None),
];

/// Compaction may come at any moment of a group's life, and take the tombstones along or leave them: what is left can be loaded,
/// and says the same.
#[test]
fn kafka_19862_what_compaction_leaves_at_any_moment_can_be_loaded() {
    let mut ctx = Context::new();
    let mut ids = Vec::new();
    for (at, step) in LIFE.iter().enumerate() {
        step(&mut ctx, &mut ids);
        for drop_tombstones in [false, true] {
            let kept = compact(&ctx.log, drop_tombstones);
            let records = kept.iter().filter_map(Entry::record).cloned().collect();
            let mut loaded = Context::loaded(GroupConfig::default(), records);
            assert_eq!(loaded.stored(), ctx.stored(), "after step {at}");
            assert_eq!(loaded.committed(), ctx.committed(), "after step {at}");
        }
    }
}

/// Whatever was acknowledged stands in the log up to where it was acknowledged: a coordinator that has no more than that has it.
#[test]
fn kafka_20634_acknowledged_commit_is_there_when_the_coordinator_moves() {
    for moves_after in 1..=5 {
        let mut ctx = Context::new();
        let ids = ctx.stable(1);
        let mut durable = 0;
        for offset in 1..=5 {
            let id = ctx.send(Request::CommitOffsets(commit(1, &ids[0], offset)));
            let Some(Reply::CommitOffsets(reply)) = ctx.answer(id) else { panic!("no answer") };
            assert_eq!(reply.topics[0].partitions[0].1, ErrorCode::None);
            durable = ctx.positions[&id];
            if offset == moves_after {
                break;
            }
        }
        // One more is decided on, and nobody hears that it is done.
        ctx.send(Request::CommitOffsets(commit(1, &ids[0], 99)));
        ctx.crash(durable);
        assert_eq!(ctx.committed(), moves_after, "the last one that was acknowledged");
        assert_eq!(ctx.heartbeat(&ids[0], 1), ErrorCode::None, "and the group goes on");
        assert_eq!(ctx.commit(commit(1, &ids[0], 7)), ErrorCode::None);
        ctx.restart();
        assert_eq!(ctx.committed(), 7);
    }
}

/// A shard may have to go at any moment: it answers everyone who waits, keeps no timer, and never works again.
#[test]
fn kafka_18484_unload_at_any_moment_leaves_nothing_half_done() {
    // Moments at which somebody is parked, or a timer runs, besides those of a settled group.
    let unsettled: [fn(&mut Context, &mut Vec<ByteString>); 3] = [
        |ctx, _| {
            ctx.handshake(join());
        },
        |ctx, ids| {
            let (parked, id) = ctx.handshake(join());
            ctx.sleep(3_000);
            assert_eq!(ctx.joined(parked).error, ErrorCode::None);
            *ids = vec![id];
        },
        |ctx, ids| {
            *ids = ctx.stable(2);
            ctx.join(JoinRequest { client_id: "0".into(), ..rejoin(&ids[0]) });
        },
    ];
    let moments = (0..=LIFE.len()).map(|count| &LIFE[..count]);
    for steps in moments.chain(unsettled.iter().map(std::slice::from_ref)) {
        let mut ctx = Context::new();
        let mut ids = Vec::new();
        steps.iter().for_each(|step| step(&mut ctx, &mut ids));
        ctx.step(Input::Unload { error: ErrorCode::NotCoordinator });
        assert_eq!(ctx.parked(), 0);
        assert_eq!(ctx.shard.next_deadline(), None);
        let described = ctx.log.len();
        let id = ids.first().cloned().unwrap_or_default();
        assert_eq!(ctx.heartbeat(&id, 1), ErrorCode::NotCoordinator);
        assert_eq!(ctx.join_now(join()).error, ErrorCode::NotCoordinator);
        ctx.step(Input::Deadline);
        assert_eq!(ctx.log.len(), described, "nothing is written");
    }
}
