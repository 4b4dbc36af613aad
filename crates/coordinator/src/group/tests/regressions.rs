//! What has gone wrong in such systems before, each under the name it was reported by.

use std::time::Duration;

use bytes::Bytes;
use kavka_protocol::{ByteString, ErrorCode, Uuid};

use super::{
    context::*,
    invariants::session_deadline,
    loading::{group_record, stored_group, stored_member},
    static_members::{instance, named},
};
use crate::group::*;

fn rejoin(id: &ByteString) -> JoinRequest {
    JoinRequest { member_id: id.clone(), ..join() }
}

/// A client joins twice and forgets its first id: the others wait half a second, not a session timeout.
#[test]
fn librdkafka_5569_abandoned_member_id_does_not_hold_the_rebalance() {
    let mut ctx = Context::new();
    let ids = ctx.stable(1);
    let client = JoinRequest { client_id: "restarted".into(), ..join() };
    ctx.join_now(client.clone());
    let (second, _) = ctx.handshake(client);
    let start = ctx.now_ms;
    let leader = ctx.join(rejoin(&ids[0]));
    while ctx.answer(leader).is_none() {
        ctx.sleep(10);
    }
    assert!(ctx.now_ms - start <= 500, "took {} ms", ctx.now_ms - start);
    assert_eq!(ctx.joined(leader).members.len(), 2);
    assert_eq!(ctx.joined(second).generation, 2);
    assert!(ctx.told("is superseded by"));
}

/// Two clients of one name on one host are not one client: both get in, whoever of them asked first.
#[test]
fn librdkafka_5569_twins_with_one_client_id_both_get_in() {
    let mut ctx = Context::new();
    let ids = ctx.stable(1);
    let twin = JoinRequest { client_id: "twin".into(), ..join() };
    let first = ctx.join_now(twin.clone()).member_id;
    let second = ctx.join_now(twin.clone()).member_id;
    ctx.join(rejoin(&ids[0]));
    ctx.join(JoinRequest { member_id: second, ..twin.clone() });
    ctx.sleep(5_000);
    // The first is slow, so the rebalance went on without it; its id is good all the same.
    let late = ctx.join(JoinRequest { member_id: first.clone(), ..twin });
    assert_eq!(ctx.answer(late), None);
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
    assert_eq!(ctx.describe().members.len(), 3);
}

#[test]
fn kafka_7610_lost_join_responses_leave_no_phantom_members() {
    let mut ctx = Context::with(GroupConfig { max_pending_members: 50, ..GroupConfig::default() });
    for _ in 0..1_000 {
        assert_eq!(ctx.join_now(join()).error, ErrorCode::MemberIdRequired);
        ctx.sleep(20);
    }
    assert_eq!(ctx.describe().members.len(), 0);
    let (id, _) = ctx.handshake(join());
    ctx.sleep(3_000);
    assert_eq!(ctx.joined(id).members.len(), 1);
}

#[test]
fn kafka_7909_rebalance_completes_when_the_last_pending_member_is_gone() {
    for leaves in [true, false] {
        let mut ctx = Context::new();
        let ids = ctx.stable(1);
        let pending = ctx.join_now(JoinRequest { client_id: "late".into(), ..join() }).member_id;
        let leader = ctx.join(rejoin(&ids[0]));
        if leaves {
            ctx.leave(&[(&pending, None)]);
        } else {
            ctx.sleep(10_000);
        }
        assert_eq!(ctx.joined(leader).generation, 2);
    }
}

#[test]
fn kafka_9752_client_of_an_old_version_that_dies_in_its_join_or_before_its_sync() {
    let mut ctx = Context::new();
    let old =
        JoinRequest { requires_known_member_id: false, rebalance_timeout_ms: 1_000_000, ..join() };
    let ids = ctx
        .stable_of([old.clone()].map(|old| JoinRequest { requires_known_member_id: true, ..old }));
    ctx.join(old.clone());
    for _ in 0..300 {
        ctx.sleep(1_000);
        ctx.heartbeat(&ids[0], 1);
    }
    assert_eq!(ctx.describe().members.len(), 1, "it is given up after five minutes");

    // It joined and dies: its session ends as that of any member.
    let mut ctx = Context::new();
    let first = ctx.join(old);
    ctx.sleep(3_000);
    assert_eq!(ctx.joined(first).generation, 1);
    ctx.sleep(10_000);
    assert_eq!(ctx.state(), GroupState::Empty);
}

#[test]
fn kafka_12890_no_group_is_stuck_when_any_of_its_members_dies_before_its_sync() {
    for dead in 1..8_u8 {
        let mut ctx = Context::new();
        let ids = ctx.stable(3);
        for id in &ids {
            ctx.join(rejoin(id));
        }
        assert_eq!(ctx.state(), GroupState::CompletingRebalance);
        let is_dead = |at: usize| dead >> at & 1 == 1;
        for (at, id) in ids.iter().enumerate().filter(|(at, _)| !is_dead(*at)) {
            let shares: Vec<(&str, &str)> =
                if at == 0 { ids.iter().map(|id| (&**id, "x")).collect() } else { Vec::new() };
            ctx.sync_as(id, 2, &shares);
        }
        // The living go on as clients do; a rebalance timeout later the dead are out. Even one that goes on with its
        // heartbeats but never syncs.
        let start = ctx.now_ms;
        let mut generation = 2;
        while ctx.now_ms - start < 75_000 {
            ctx.sleep(1_000);
            if ctx.parked() > 0 {
                continue;
            }
            for (_, id) in ids.iter().enumerate().filter(|(at, _)| !is_dead(*at)) {
                if ctx.heartbeat(id, generation) != ErrorCode::None {
                    ctx.join(rejoin(id));
                }
            }
            if ctx.state() == GroupState::CompletingRebalance {
                generation = ctx.shard.groups[GROUP].generation();
                for (_, id) in ids.iter().enumerate().filter(|(at, _)| !is_dead(*at)) {
                    ctx.sync_as(id, generation, &[(id, "x")]);
                }
            }
        }
        let living = 3 - usize::try_from(dead.count_ones()).unwrap();
        let group = ctx.describe();
        assert_eq!(group.members.len(), living, "dead: {dead:03b}");
        let expected = if living == 0 { GroupState::Empty } else { GroupState::Stable };
        assert_eq!(group.state, expected, "dead: {dead:03b}");
    }
}

#[test]
fn kafka_7196_timer_of_a_removed_member_is_gone_with_it() {
    let mut ctx = Context::new();
    let ids = ctx.stable(2);
    ctx.leave(&[(&ids[1], None)]);
    assert_eq!(session_deadline(&ctx, GROUP, &ids[1]), None);
    let name = named("i");
    let first = ctx.join(name.clone());
    let second = ctx.join(name);
    let former = ctx.joined(first).member_id.clone();
    assert_eq!(ctx.joined(first).error, ErrorCode::FencedInstanceId);
    assert_eq!(session_deadline(&ctx, GROUP, &former), None);
    assert_eq!(ctx.answer(second), None);
}

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

/// In each of the states, a static member that returns ends with its share and its former id is fenced (also KAFKA-8500).
#[test]
fn kafka_9801_static_member_returns_in_each_state() {
    for state in [
        GroupState::Stable,
        GroupState::PreparingRebalance,
        GroupState::CompletingRebalance,
        GroupState::Empty,
        GroupState::Dead,
    ] {
        let mut ctx = Context::new();
        let mut former = None;
        if state != GroupState::Dead {
            let ids = super::static_members::stable(&mut ctx);
            let returning = ids.iter().find(|id| instance(id) == "a").unwrap().clone();
            match state {
                GroupState::Empty => {
                    ctx.leave(&[("", Some("a")), ("", Some("b"))]);
                }
                GroupState::PreparingRebalance | GroupState::CompletingRebalance => {
                    for id in &ids {
                        let changed = protocols(&["range", "x"]);
                        let request = JoinRequest {
                            member_id: id.clone(),
                            protocols: changed,
                            ..named(instance(id))
                        };
                        if state == GroupState::CompletingRebalance || *id != returning {
                            ctx.join(request);
                        }
                    }
                }
                _ => {}
            }
            former = Some(returning);
        }
        assert_eq!(ctx.state(), state);

        let parked = ctx.join(named("a"));
        if ctx.state() == GroupState::PreparingRebalance && state != GroupState::Empty {
            let b = ctx.describe().members.iter().find(|m| m.member_id.starts_with("b-")).cloned();
            if let Some(b) = b {
                ctx.join(JoinRequest { member_id: b.member_id, ..named("b") });
            }
        }
        ctx.sleep(3_000);
        let joined = ctx.joined(parked).clone();
        assert_eq!(joined.error, ErrorCode::None, "{state}");
        if ctx.state() == GroupState::CompletingRebalance {
            let members: Vec<ByteString> =
                ctx.describe().members.into_iter().map(|m| m.member_id).collect();
            let mut leader_first = members.clone();
            leader_first.sort_by_key(|id| *id != joined.leader);
            ctx.sync_all(&leader_first, joined.generation);
        }
        let sync = ctx.sync_as(&joined.member_id, joined.generation, &[]);
        assert_eq!(ctx.synced(sync).assignment, "share of a", "{state}");
        if let Some(former) = former {
            let code = ctx.heartbeat_as(&former, Some("a"), joined.generation);
            assert_eq!(code, ErrorCode::FencedInstanceId, "{state}");
        }
    }
}

#[test]
fn kafka_10284_new_id_of_a_static_member_survives_a_restart() {
    let mut ctx = Context::new();
    let ids = super::static_members::stable(&mut ctx);
    let name = instance(&ids[0]).to_owned();
    let returned = ctx.join_now(named(&name)).member_id;
    ctx.restart();
    assert_eq!(ctx.heartbeat_as(&returned, Some(&name), 1), ErrorCode::None);
    assert_eq!(ctx.heartbeat_as(&ids[0], Some(&name), 1), ErrorCode::FencedInstanceId);
}

#[test]
fn kafka_8220_static_member_is_not_removed_by_the_rebalance_timeout() {
    let mut ctx = Context::new();
    let long = |name: &str| JoinRequest { session_timeout_ms: 300_000, ..named(name) };
    let ids = ctx.stable_of([long("a"), long("b")]);
    let (parked, _) = ctx.handshake(JoinRequest { client_id: "c".into(), ..join() });
    let again = ctx.join(JoinRequest { member_id: ids[0].clone(), ..long(instance(&ids[0])) });
    ctx.sleep(60_000);
    assert_eq!(ctx.joined(parked).error, ErrorCode::None);
    assert_eq!(ctx.joined(again).members.len(), 3, "the absent one is still in");
}

#[test]
fn kafka_8715_two_joins_of_one_name_in_one_tick_have_two_ids() {
    let mut ctx = Context::new();
    let first = ctx.join(named("a"));
    let second = ctx.join(named("a"));
    ctx.sleep(3_000);
    assert_eq!(ctx.joined(first).error, ErrorCode::FencedInstanceId);
    assert_ne!(ctx.joined(first).member_id, ctx.joined(second).member_id);
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

/// The client gave up its connection; the JoinGroup it left there is worked on after the one that it sent over the next.
#[test]
fn kafka_20983_late_join_of_an_older_connection_does_not_win() {
    let mut ctx = Context::new();
    let (old, new) = (Some(ctx.connection()), Some(ctx.connection()));
    let mut ids = super::static_members::stable(&mut ctx);
    ids.retain(|id| instance(id) == "a");
    let live = ctx.join_now(JoinRequest { connection: new, ..named("a") }).member_id;
    let late = ctx.join_now(JoinRequest { connection: old, ..named("a") });
    assert_eq!(late.error, ErrorCode::FencedInstanceId);
    assert_eq!(ctx.heartbeat_as(&live, Some("a"), 1), ErrorCode::None);
    // Another process is not a late request, whatever its connection.
    let other = JoinRequest { connection: old, client_host: "/10.0.0.2".into(), ..named("a") };
    assert_eq!(ctx.join_now(other).error, ErrorCode::None);
    assert_eq!(ctx.heartbeat_as(&live, Some("a"), 1), ErrorCode::FencedInstanceId);
}

/// The answer that brought the new id was lost. The client, which only knows its former id, is not fenced by itself.
#[test]
fn apache_23542_static_member_that_never_heard_of_its_new_id_is_not_fenced() {
    let mut ctx = Context::new();
    let ids = super::static_members::stable(&mut ctx);
    let known = ids.iter().find(|id| instance(id) == "a").unwrap().clone();
    let (first, second) = (Some(ctx.connection()), Some(ctx.connection()));
    let lost = ctx.join_now(JoinRequest { connection: first, ..named("a") }).member_id;
    let retry = JoinRequest { member_id: known.clone(), connection: second, ..named("a") };
    let reply = ctx.join_now(retry.clone());
    assert_eq!(reply.error, ErrorCode::None);
    assert_eq!(ctx.heartbeat_as(&reply.member_id, Some("a"), 1), ErrorCode::None);
    assert_eq!(ctx.heartbeat_as(&lost, Some("a"), 1), ErrorCode::FencedInstanceId);
    // Once the new id has spoken, the former one is that of another process.
    let stale = JoinRequest { member_id: lost, connection: second, ..named("a") };
    assert_eq!(ctx.join_now(stale).error, ErrorCode::FencedInstanceId);
    assert_eq!(ctx.join_now(retry).error, ErrorCode::FencedInstanceId);
}

#[test]
fn kafka_9885_group_never_exceeds_its_size_and_live_members_keep_their_places() {
    let mut ctx = Context::with(GroupConfig { max_size: 3, ..GroupConfig::default() });
    let parked: Vec<RequestId> = (0..10)
        .filter_map(|n| {
            let request = JoinRequest { client_id: n.to_string().into(), ..join() };
            let reply = ctx.join_now(request.clone());
            (reply.error == ErrorCode::MemberIdRequired).then(|| {
                let member_id = reply.member_id;
                ctx.join(JoinRequest { member_id, ..request })
            })
        })
        .collect();
    while ctx.parked() > 0 {
        ctx.sleep(100);
    }
    let accepted = parked.iter().filter(|id| ctx.joined(**id).error == ErrorCode::None).count();
    assert_eq!(accepted, 3);
    assert_eq!(ctx.describe().members.len(), 3);
}

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

/// The leader returns and is told to leave the assignment alone; it still gets to see the members, so that it can notice new
/// partitions, and when it joins again because of them there is a rebalance.
#[test]
fn kafka_13435_static_leader_that_returned_can_ask_for_a_rebalance() {
    let mut ctx = Context::new();
    let ids = super::static_members::stable(&mut ctx);
    let name = instance(&ids[0]).to_owned();
    let returned = ctx.join_now(named(&name));
    assert!(returned.skip_assignment);
    assert_eq!(returned.members.len(), 2);
    ctx.join(JoinRequest { member_id: returned.member_id, ..named(&name) });
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
}

#[test]
fn nisshi_625_five_members_that_join_at_once_all_get_their_share() {
    for round in 0..200 {
        let mut ctx = Context::with(GroupConfig {
            initial_rebalance_delay: Duration::from_millis(round % 7 * 10),
            ..GroupConfig::default()
        });
        let requests = (0..5).map(|n| JoinRequest { client_id: n.to_string().into(), ..join() });
        let ids: Vec<ByteString> =
            requests.clone().map(|request| ctx.join_now(request).member_id).collect();
        let parked: Vec<RequestId> = ids
            .iter()
            .zip(requests)
            .map(|(id, request)| ctx.join(JoinRequest { member_id: id.clone(), ..request }))
            .collect();
        ctx.sleep(130);
        let leader = ctx.joined(parked[0]).leader.clone();
        let mut leader_first = ids;
        leader_first.sort_by_key(|id| *id != leader);
        ctx.sync_all(&leader_first, 1);
    }
}

/// A stale answer of the coordinator cannot take a member to a generation that is gone: each request carries one, and only the
/// present one is taken.
#[test]
fn kafka_9140_request_of_a_generation_that_is_gone_changes_nothing() {
    let mut ctx = Context::new();
    let ids = ctx.stable(2);
    for generation in 2..20 {
        ctx.join(rejoin(&ids[0]));
        ctx.join(rejoin(&ids[1]));
        let stale = ctx.sync_as(&ids[0], generation - 1, &[(&ids[0], "stale")]);
        assert_eq!(ctx.synced(stale).error, ErrorCode::IllegalGeneration);
        assert_eq!(ctx.heartbeat(&ids[1], generation - 1), ErrorCode::IllegalGeneration);
        ctx.sync_all(&ids, generation);
    }
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
    let mut records = ctx.log.clone();
    for _ in 0..records.len() {
        records.rotate_left(1);
        let mut compacted = super::invariants::compact(&ctx.log, false);
        compacted.sort_by_key(|(offset, _)| records.iter().position(|(o, _)| o == offset));
        let records = compacted.into_iter().map(|(_, record)| record).collect();
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

/// A leave and a join that change nothing else leave what the leader assigned as it is: the coordinator moves nothing by itself.
#[test]
fn kafka_18688_assignment_is_the_leaders_and_stays_as_it_was() {
    let mut ctx = Context::new();
    let ids = ctx.stable(3);
    let before = ctx.describe();
    for id in &ids[1..] {
        ctx.join_now(rejoin(id));
        ctx.sync_as(id, 1, &[]);
    }
    ctx.restart();
    ctx.idle(30_000, &ids, 1);
    assert_eq!(ctx.describe(), before);
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

/// A client that closes before it has heard of its id: what it leaves behind is no member and holds nothing for long.
#[test]
fn kafka_17116_client_that_closes_before_it_learned_its_id() {
    let mut ctx = Context::new();
    let ids = ctx.stable(1);
    let pending = ctx.join_now(JoinRequest { client_id: "closing".into(), ..join() }).member_id;
    assert_eq!(ctx.leave(&[(&pending, None)]), [ErrorCode::None]);
    assert_eq!(ctx.leave(&[(&pending, None)]), [ErrorCode::UnknownMemberId]);
    let (_, joining) = ctx.handshake(JoinRequest { client_id: "closing".into(), ..join() });
    assert_eq!(ctx.leave(&[(&joining, None)]), [ErrorCode::None]);
    let leader = ctx.join(rejoin(&ids[0]));
    assert_eq!(ctx.joined(leader).members.len(), 1);
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
    assert_eq!(ctx.log[0].1.encode().unwrap().0, keys[0]);
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
