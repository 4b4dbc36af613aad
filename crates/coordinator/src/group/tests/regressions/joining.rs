//! Joining, rebalancing, leaving: groups that stood still, members that were forgotten or held on to.

use std::time::Duration;

use kavka_protocol::{ByteString, ErrorCode};

use super::rejoin;
use crate::group::{
    tests::{context::*, static_members::named},
    *,
};

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

/// A client of versions 0 to 3 gives up its connection before its first JoinGroup is answered, and joins again over the next one.
/// What it left behind is nobody: it is not waited for, and is given nothing.
#[test]
fn kafka_9232_member_of_an_old_version_whose_client_never_heard_of_it_is_gone_with_its_connection()
{
    let mut ctx = Context::new();
    let ids = ctx.stable(1);
    let old = JoinRequest { requires_known_member_id: false, ..join() };
    let mut lost = Vec::new();
    for _ in 0..10 {
        let request = ctx.join(old.clone());
        ctx.abandon(request);
        lost.push(request);
    }
    for request in lost {
        assert_eq!(ctx.joined(request).error, ErrorCode::UnknownMemberId);
    }
    let heard = ctx.join(old.clone());
    let leader = ctx.join(rejoin(&ids[0]));
    assert_eq!(ctx.joined(leader).members.len(), 2);
    assert_eq!(ctx.joined(heard).generation, 2);
    assert!(ctx.told("closed the connection before it was told its member id"));

    // The first ones of a group, in its initial delay.
    let mut ctx = Context::new();
    let request = ctx.join(old.clone());
    ctx.abandon(request);
    ctx.sleep(3_000);
    assert_eq!(ctx.state(), GroupState::Empty);
    assert_eq!(ctx.parked(), 0);
}

/// Who was told its id, or has a name, may be on its way back over another connection.
#[test]
fn kafka_9232_member_that_can_come_back_is_kept_when_its_connection_closes() {
    let mut ctx = Context::new();
    let ids = ctx.stable(2);
    let parked = ctx.join(rejoin(&ids[0]));
    ctx.abandon(parked);
    let (new, new_id) = ctx.handshake(JoinRequest { client_id: "new".into(), ..join() });
    ctx.abandon(new);
    let named = ctx.join(named("i"));
    ctx.abandon(named);
    assert_eq!(ctx.describe().members.len(), 4);
    let again = ctx.join(JoinRequest { client_id: "new".into(), ..rejoin(&new_id) });
    ctx.join(JoinRequest { client_id: "1".into(), ..rejoin(&ids[1]) });
    assert_eq!(ctx.joined(again).generation, 2);
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
