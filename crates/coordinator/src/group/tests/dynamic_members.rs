//! Members without a name: joining, rebalancing, syncing, heartbeats, leaving, expiry.

use kavka_protocol::ErrorCode;

use super::context::*;
use crate::group::*;

#[test]
fn first_member_makes_generation_one() {
    let mut ctx = Context::new();
    let first = ctx.join_now(JoinRequest { reason: Some("hello".into()), ..join() });
    assert_eq!(first.error, ErrorCode::MemberIdRequired);
    assert!(first.member_id.starts_with("client-"));
    assert_eq!(ctx.state(), GroupState::Empty);
    let created = ctx.stored().unwrap();
    assert_eq!((created.generation, &*created.protocol_type), (0, ""));
    assert_eq!((created.protocol, created.leader), (None, None));

    let id = ctx.join(JoinRequest { member_id: first.member_id.clone(), ..join() });
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
    ctx.sleep(2_999);
    assert_eq!(ctx.answer(id), None);
    ctx.sleep(1);
    let joined = ctx.joined(id).clone();
    assert_eq!(joined.error, ErrorCode::None);
    assert_eq!(joined.generation, 1);
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!(joined.members.len(), 1);
    assert_eq!(ctx.state(), GroupState::CompletingRebalance);
    assert_eq!(ctx.log.len(), 1, "a membership that has only joined is not stored");

    let member = joined.member_id;
    let sync = ctx.sync_as(&member, 1, &[(&member, "all of it")]);
    assert_eq!(ctx.synced(sync).assignment, "all of it");
    assert_eq!(ctx.state(), GroupState::Stable);
    let stored = ctx.stored().unwrap();
    assert_eq!(stored.members[0].assignment, "all of it");
    assert_eq!(stored.leader.as_ref(), Some(&member));
    assert!(ctx.told("Stabilized group g generation 1 with 1 members"));
}

#[test]
fn members_that_arrive_in_the_initial_delay_share_the_first_generation() {
    let mut ctx = Context::new();
    let ids = ctx.stable(3);
    let group = ctx.describe();
    assert_eq!(group.members.len(), 3);
    assert_eq!(ctx.stored().unwrap().generation, 1);
    for member in &group.members {
        assert_eq!(member.assignment, share_of(&member.member_id));
    }
    ctx.idle(60_000, &ids, 1);
}

#[test]
fn initial_delay_is_extended_while_members_come_but_not_beyond_the_rebalance_timeout() {
    let mut ctx = Context::new();
    let request = JoinRequest { rebalance_timeout_ms: 8_000, ..join() };
    let (first, _) = ctx.handshake(request.clone());
    let mut waited = 0;
    while ctx.answer(first).is_none() {
        ctx.sleep(500);
        waited += 500;
        if ctx.answer(first).is_none() {
            ctx.handshake(JoinRequest { client_id: waited.to_string().into(), ..request.clone() });
        }
    }
    assert_eq!(waited, 8_000);
    assert!(ctx.told("waits 3s longer for its first rebalance"));
}

#[test]
fn without_initial_delay_the_first_join_is_answered_at_once() {
    let mut ctx = Context::with(GroupConfig {
        initial_rebalance_delay: std::time::Duration::ZERO,
        ..GroupConfig::default()
    });
    let (id, _) = ctx.handshake(join());
    ctx.sleep(0);
    assert_eq!(ctx.joined(id).generation, 1);
}

pub(super) fn as_member(id: &str) -> JoinRequest {
    JoinRequest { member_id: id.into(), client_id: "0".into(), ..join() }
}

#[test]
fn requests_are_checked_before_a_group_is_made() {
    let mut ctx = Context::new();
    for timeout in [-1, 5_999, 1_800_001] {
        let reply = ctx.join_now(JoinRequest { session_timeout_ms: timeout, ..join() });
        assert_eq!(reply.error, ErrorCode::InvalidSessionTimeout);
    }
    let reply = ctx.join_now(JoinRequest { group: "".into(), ..join() });
    assert_eq!(reply.error, ErrorCode::InvalidGroupId);
    let reply = ctx.join_now(as_member("x"));
    assert_eq!((reply.error, &*reply.member_id), (ErrorCode::UnknownMemberId, "x"));
    let reply = ctx.join_now(JoinRequest { protocol_type: "".into(), ..join() });
    assert_eq!(reply.error, ErrorCode::InconsistentGroupProtocol);
    let reply = ctx.join_now(JoinRequest { protocols: Vec::new(), ..join() });
    assert_eq!(reply.error, ErrorCode::InconsistentGroupProtocol);
    let reply = ctx.join_now(JoinRequest { client_id: "x".repeat(32_760).into(), ..join() });
    assert_eq!(reply.error, ErrorCode::InvalidRequest);
    assert_eq!(ctx.state(), GroupState::Dead);
    assert_eq!(ctx.log, []);
}

#[test]
fn member_whose_protocols_do_not_fit_is_refused() {
    let mut ctx = Context::new();
    ctx.stable(2);
    let other_type = JoinRequest { protocol_type: "connect".into(), ..join() };
    let reply = ctx.join_now(other_type);
    assert_eq!((reply.error, &*reply.member_id), (ErrorCode::InconsistentGroupProtocol, ""));
    let other_protocol = JoinRequest { protocols: protocols(&["sticky"]), ..join() };
    assert_eq!(ctx.join_now(other_protocol).error, ErrorCode::InconsistentGroupProtocol);
    assert_eq!(ctx.state(), GroupState::Stable);
}

#[test]
fn client_of_an_old_version_is_added_without_handshake() {
    let mut ctx = Context::new();
    let id = ctx.join(JoinRequest { requires_known_member_id: false, ..join() });
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
    ctx.sleep(3_000);
    assert!(ctx.joined(id).member_id.starts_with("client-"));
}

#[test]
fn pending_id_with_a_name_is_not_taken() {
    let mut ctx = Context::new();
    let member_id = ctx.join_now(join()).member_id;
    let request = JoinRequest { member_id, instance_id: Some("i".into()), ..join() };
    assert_eq!(ctx.join_now(request).error, ErrorCode::UnknownMemberId);
}

#[test]
fn pending_id_holds_a_rebalance_until_it_comes_or_expires() {
    let mut ctx = Context::new();
    let ids = ctx.stable(1);
    ctx.join_now(JoinRequest { client_id: "late".into(), ..join() });
    let parked = ctx.join(as_member(&ids[0]));
    ctx.sleep(u64::try_from(SESSION_MS).unwrap() - 1);
    assert_eq!(ctx.answer(parked), None);
    ctx.sleep(1);
    assert_eq!(ctx.joined(parked).generation, 2);
    assert!(ctx.told("has been removed after session timeout expiration"));
}

#[test]
fn rejoin_in_a_rebalance_takes_the_place_of_the_parked_one() {
    let mut ctx = Context::new();
    let ids = ctx.stable(2);
    let first = ctx.join(as_member(&ids[0]));
    let again = ctx.join(as_member(&ids[0]));
    assert_eq!(ctx.joined(first).error, ErrorCode::RebalanceInProgress);
    assert_eq!(ctx.answer(again), None);
    let other = ctx.join(JoinRequest { client_id: "1".into(), ..as_member(&ids[1]) });
    assert_eq!(ctx.joined(again).generation, 2);
    assert_eq!(ctx.joined(other).generation, 2);
}

#[test]
fn join_that_changes_nothing_is_answered_with_the_generation_that_is_there() {
    let mut ctx = Context::new();
    let ids = ctx.stable(2);
    let reply = ctx.join_now(as_member(&ids[1]));
    assert_eq!((reply.error, reply.generation), (ErrorCode::None, 1));
    assert!(reply.members.is_empty());
    assert_eq!(ctx.state(), GroupState::Stable);

    // The leader wants a new assignment; then, with the generation made, both repeat themselves.
    ctx.join(as_member(&ids[0]));
    ctx.join(as_member(&ids[1]));
    assert_eq!(ctx.state(), GroupState::CompletingRebalance);
    let leader = ctx.join_now(as_member(&ids[0]));
    assert_eq!((leader.generation, leader.members.len()), (2, 2));
    let follower = ctx.join_now(as_member(&ids[1]));
    assert_eq!((follower.generation, follower.members.len()), (2, 0));
    assert_eq!(ctx.state(), GroupState::CompletingRebalance);
}

#[test]
fn changed_subscription_starts_a_rebalance() {
    let mut ctx = Context::new();
    let ids = ctx.stable(2);
    let changed = JoinRequest {
        protocols: vec![("range".into(), subscription(&["t", "u"]))],
        reason: Some("more".into()),
        ..as_member(&ids[1])
    };
    let parked = ctx.join(changed.clone());
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
    assert!(ctx.told("Updating metadata for member"));
    assert!(ctx.told("client reason: more"));
    ctx.join(as_member(&ids[0]));
    assert_eq!(ctx.joined(parked).generation, 2);

    // Also before the assignment is there: who waits for it is told to join again.
    let sync = ctx.sync_as(&ids[1], 2, &[]);
    assert_eq!(ctx.answer(sync), None);
    let changed = JoinRequest { protocols: protocols(&["range", "sticky"]), ..as_member(&ids[0]) };
    ctx.join(changed);
    assert_eq!(ctx.synced(sync).error, ErrorCode::RebalanceInProgress);
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
}

#[test]
fn full_group_takes_nobody_in() {
    let mut ctx = Context::with(GroupConfig { max_size: 2, ..GroupConfig::default() });
    let ids = ctx.stable(2);
    let refused = ctx.join_now(JoinRequest { client_id: "third".into(), ..join() });
    assert_eq!(refused.error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(&*refused.member_id, "");
    // In a rebalance, the first two that join have the places.
    let leader = ctx.join(as_member(&ids[0]));
    let (third, _) = ctx.handshake(JoinRequest { client_id: "third".into(), ..join() });
    let late = ctx.join_now(JoinRequest { client_id: "1".into(), ..as_member(&ids[1]) });
    assert_eq!(late.error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(ctx.joined(leader).members.len(), 2);
    assert_eq!(ctx.joined(third).generation, 2);
    assert_eq!(ctx.heartbeat(&ids[1], 1), ErrorCode::UnknownMemberId);
}

#[test]
fn what_members_say_about_themselves_is_bounded() {
    let mut ctx = Context::with(GroupConfig {
        max_member_metadata: 50,
        max_group_metadata: 100,
        ..GroupConfig::default()
    });
    let of = |n: usize, bytes: usize| JoinRequest {
        client_id: n.to_string().into(),
        protocols: vec![("range".into(), "x".repeat(bytes - 5).into())],
        ..join()
    };
    assert_eq!(ctx.join_now(of(0, 51)).error, ErrorCode::GroupMaxSizeReached);
    let ids = ctx.stable_of([of(0, 50), of(1, 40)]);
    assert_eq!(ctx.join_now(of(2, 11)).error, ErrorCode::GroupMaxSizeReached);
    // What a member said before makes room for what it says now.
    let second = ids.iter().find(|id| id.starts_with("1-")).unwrap().clone();
    let parked = ctx.join(JoinRequest { member_id: second, ..of(1, 50) });
    assert_eq!(ctx.answer(parked), None);
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
}

#[test]
fn rebalance_goes_on_without_members_that_do_not_come() {
    let mut ctx = Context::new();
    let ids = ctx.stable(3);
    let patient = JoinRequest { rebalance_timeout_ms: 20_000, ..as_member(&ids[1]) };
    let parked = ctx.join(JoinRequest { protocols: protocols(&["range", "x"]), ..patient });
    let start = ctx.now_ms;
    while ctx.answer(parked).is_none() {
        ctx.sleep(1_000);
        ctx.heartbeat(&ids[0], 1);
        ctx.heartbeat(&ids[2], 1);
    }
    // The most patient member decides how long, and heartbeats keep nobody in.
    assert_eq!(ctx.now_ms - start, 60_000);
    let reply = ctx.joined(parked);
    assert_eq!((reply.generation, reply.members.len()), (2, 1));
    assert_eq!(reply.leader, ids[1]);
    assert!(ctx.told("removed members who haven't joined"));
}

#[test]
fn member_in_its_first_join_has_five_minutes() {
    let mut ctx = Context::new();
    let patient = JoinRequest { rebalance_timeout_ms: 1_000_000, ..join() };
    let ids = ctx.stable_of([patient.clone()]);
    let (parked, _) = ctx.handshake(JoinRequest { client_id: "new".into(), ..patient });
    for _ in 0..299 {
        ctx.sleep(1_000);
        assert_eq!(ctx.heartbeat(&ids[0], 1), ErrorCode::RebalanceInProgress);
    }
    assert_eq!(ctx.answer(parked), None);
    ctx.sleep(1_000);
    let reply = ctx.joined(parked);
    assert_eq!((reply.error, &*reply.member_id), (ErrorCode::UnknownMemberId, ""));
}

#[test]
fn last_member_that_leaves_empties_the_group_in_a_new_generation() {
    let mut ctx = Context::new();
    let ids = ctx.stable(1);
    assert_eq!(ctx.leave(&[(&ids[0], None)]), [ErrorCode::None]);
    assert_eq!(ctx.state(), GroupState::Empty);
    let stored = ctx.stored().unwrap();
    assert_eq!((stored.generation, &*stored.protocol_type), (2, "consumer"));
    assert_eq!((stored.protocol, stored.leader), (None, None));
    assert_eq!(stored.state_timestamp_ms, ctx.wall_ms);
    assert!(ctx.told("Group g with generation 2 is now empty."));
    assert_eq!(ctx.heartbeat(&ids[0], 1), ErrorCode::UnknownMemberId);
    let sync = ctx.sync_as(&ids[0], 2, &[]);
    assert_eq!(ctx.synced(sync).error, ErrorCode::UnknownMemberId);
    assert_eq!(ctx.join_now(as_member(&ids[0])).error, ErrorCode::UnknownMemberId);
}

#[test]
fn members_that_owe_sync_are_given_up_after_the_rebalance_timeout() {
    let mut ctx = Context::new();
    let ids = ctx.stable(2);
    ctx.join(as_member(&ids[0]));
    ctx.join(as_member(&ids[1]));
    let sync = ctx.sync_as(&ids[0], 2, &[(&ids[0], "x")]);
    assert_eq!(ctx.synced(sync).error, ErrorCode::None);
    for _ in 0..59 {
        ctx.sleep(1_000);
        assert_eq!(ctx.heartbeat(&ids[0], 2), ErrorCode::None);
        assert_eq!(ctx.heartbeat(&ids[1], 2), ErrorCode::None);
    }
    ctx.sleep(1_000);
    assert_eq!(ctx.heartbeat(&ids[0], 2), ErrorCode::RebalanceInProgress);
    assert_eq!(ctx.heartbeat(&ids[1], 2), ErrorCode::UnknownMemberId);
    assert!(ctx.told("on pending sync request expiration"));
}

#[test]
fn most_votes_choose_the_protocol() {
    let mut ctx = Context::new();
    let of = |n: usize, names: &[&str]| JoinRequest {
        client_id: n.to_string().into(),
        protocols: protocols(names),
        ..join()
    };
    ctx.stable_of([
        of(0, &["range", "sticky", "own"]),
        of(1, &["sticky", "range"]),
        of(2, &["other", "sticky", "range"]),
    ]);
    assert_eq!(&*ctx.describe().protocol_name, "sticky");

    // Two with one vote each: the first by name, the same in every run; and what was chosen once stays.
    let mut ctx = Context::new();
    let ids = ctx.stable_of([of(0, &["b", "a"]), of(1, &["a", "b"])]);
    assert_eq!(&*ctx.describe().protocol_name, "a");
    ctx.leave(&[(&ids[1], None)]);
    let leader = ctx.join(JoinRequest { protocols: protocols(&["b", "a"]), ..as_member(&ids[0]) });
    assert_eq!(ctx.joined(leader).protocol_name.as_deref(), Some("b"));
    let (_, second) = ctx.handshake(of(1, &["a", "b"]));
    let leader = ctx.join(JoinRequest { protocols: protocols(&["b", "a"]), ..as_member(&ids[0]) });
    assert_eq!(ctx.joined(leader).members.len(), 2);
    assert_eq!(ctx.joined(leader).protocol_name.as_deref(), Some("b"));
    assert!(ctx.joined(leader).members.iter().any(|member| member.member_id == second));
}

/// First every process learns the new assignor beside the old one, then each forgets the old one: the group goes over when the
/// last has learned, without ever being of two minds.
#[test]
fn rolling_bounce_takes_a_group_from_eager_to_cooperative() {
    let mut ctx = Context::new();
    let of = |n: usize, names: &[&str]| JoinRequest {
        client_id: n.to_string().into(),
        protocols: protocols(names),
        ..join()
    };
    let (eager, both, cooperative) =
        (["range"], ["cooperative-sticky", "range"], ["cooperative-sticky"]);
    let mut ids = ctx.stable_of((0..3).map(|n| of(n, &eager)));
    let mut lists: Vec<(usize, &[&str])> =
        ids.iter().map(|id| (usize::from(id.as_bytes()[0] - b'0'), &eager[..])).collect();
    let mut chosen = Vec::new();
    for next in [&both[..], &cooperative[..]] {
        for at in 0..3 {
            // One process is stopped, and started with the next list; the others join again.
            ctx.leave(&[(&ids[at], None)]);
            lists[at].1 = next;
            let (parked, member_id) = ctx.handshake(of(lists[at].0, next));
            ids[at] = member_id;
            for other in (0..3).filter(|other| *other != at) {
                let (n, names) = lists[other];
                ctx.join(JoinRequest { member_id: ids[other].clone(), ..of(n, names) });
            }
            let joined = ctx.joined(parked).clone();
            assert_eq!(joined.error, ErrorCode::None);
            chosen.push(joined.protocol_name.clone().unwrap_or_default());
            let mut leader_first = ids.clone();
            leader_first.sort_by_key(|id| *id != joined.leader);
            ctx.sync_all(&leader_first, joined.generation);
        }
    }
    let (old, new) = ("range", "cooperative-sticky");
    assert_eq!(chosen, [old, old, new, new, new, new]);
    let late = ctx.join_now(of(9, &eager));
    assert_eq!(late.error, ErrorCode::InconsistentGroupProtocol);
}

#[test]
fn followers_wait_for_the_assignment_of_the_leader() {
    let mut ctx = Context::new();
    let ids = ctx.stable(3);
    for id in &ids {
        ctx.join(as_member(id));
    }
    let early = ctx.sync_as(&ids[1], 2, &[]);
    let unknown = [(&*ids[0], "zero"), (&*ids[1], "one"), ("stranger", "x")];
    let lead = ctx.sync_as(&ids[0], 2, &unknown);
    let late = ctx.sync_as(&ids[2], 2, &[]);
    assert_eq!(ctx.synced(lead).assignment, "zero");
    assert_eq!(ctx.synced(early).assignment, "one");
    assert_eq!(ctx.synced(early).protocol_name.as_deref(), Some("range"));
    assert_eq!(ctx.synced(late).assignment, "", "the leader gave it nothing");
    assert_eq!(ctx.stored().unwrap().members.len(), 3);
    // Asking again, and again as the leader, changes nothing.
    let records = ctx.log.len();
    let again = ctx.sync_as(&ids[0], 2, &[(&ids[0], "other")]);
    assert_eq!(ctx.synced(again).assignment, "zero");
    assert_eq!(ctx.log.len(), records);
}

#[test]
fn sync_is_checked_in_the_order_of_the_protocol() {
    let mut ctx = Context::new();
    let sync_code = |ctx: &mut Context, request: SyncRequest| {
        let id = ctx.send(Request::Sync(request));
        ctx.synced(id).error
    };
    assert_eq!(sync_code(&mut ctx, sync("m", 1, &[])), ErrorCode::UnknownMemberId);
    let no_group = SyncRequest { group: "".into(), ..sync("m", 1, &[]) };
    assert_eq!(sync_code(&mut ctx, no_group), ErrorCode::InvalidGroupId);
    let ids = ctx.stable(2);
    assert_eq!(sync_code(&mut ctx, sync("m", 7, &[])), ErrorCode::UnknownMemberId);
    let wrong_type = SyncRequest { protocol_type: Some("connect".into()), ..sync(&ids[0], 1, &[]) };
    let stale = SyncRequest { generation: 0, ..wrong_type.clone() };
    assert_eq!(sync_code(&mut ctx, stale), ErrorCode::IllegalGeneration);
    assert_eq!(sync_code(&mut ctx, wrong_type), ErrorCode::InconsistentGroupProtocol);
    let wrong_name = SyncRequest { protocol_name: Some("x".into()), ..sync(&ids[0], 1, &[]) };
    assert_eq!(sync_code(&mut ctx, wrong_name), ErrorCode::InconsistentGroupProtocol);
    ctx.join(as_member(&ids[0]));
    assert_eq!(sync_code(&mut ctx, sync(&ids[0], 1, &[])), ErrorCode::RebalanceInProgress);
}

#[test]
fn heartbeats_keep_a_session_and_tell_of_a_rebalance() {
    let mut ctx = Context::new();
    assert_eq!(ctx.heartbeat("m", 0), ErrorCode::UnknownMemberId);
    let ids = ctx.stable(2);
    ctx.idle(30_000, &ids, 1);
    assert_eq!(ctx.heartbeat("m", 1), ErrorCode::UnknownMemberId);
    assert_eq!(ctx.heartbeat("m", 9), ErrorCode::UnknownMemberId, "the member comes first");
    assert_eq!(ctx.heartbeat(&ids[0], 2), ErrorCode::IllegalGeneration);
    ctx.join(as_member(&ids[0]));
    for _ in 0..50 {
        ctx.sleep(1_000);
        assert_eq!(ctx.heartbeat(&ids[1], 1), ErrorCode::RebalanceInProgress);
    }
    let parked = ctx.join(as_member(&ids[1]));
    assert_eq!(ctx.joined(parked).generation, 2);
    ctx.idle(50_000, &ids, 2);
}

#[test]
fn silent_member_is_removed_and_its_partitions_are_given_to_others() {
    let mut ctx = Context::new();
    let ids = ctx.stable(2);
    ctx.idle(9_000, &ids[..1], 1);
    ctx.sleep(999);
    assert_eq!(ctx.heartbeat(&ids[0], 1), ErrorCode::None);
    ctx.sleep(1);
    assert_eq!(ctx.heartbeat(&ids[0], 1), ErrorCode::RebalanceInProgress);
    assert!(ctx.told(&format!("Member {} in group g has failed", ids[1])));
    assert!(ctx.told("on heartbeat expiration"));
    let alone = ctx.join(as_member(&ids[0]));
    assert_eq!(ctx.joined(alone).members.len(), 1);
}

#[test]
fn members_that_are_parked_are_not_expired() {
    let mut ctx = Context::new();
    let ids = ctx.stable(2);
    let parked = ctx.join(as_member(&ids[0]));
    for _ in 0..5 {
        ctx.sleep(9_000);
        assert_eq!(ctx.heartbeat(&ids[1], 1), ErrorCode::RebalanceInProgress);
    }
    assert_eq!(ctx.answer(parked), None);
    ctx.join(as_member(&ids[1]));
    assert_eq!(ctx.joined(parked).error, ErrorCode::None);
    let sync = ctx.sync_as(&ids[1], 2, &[]);
    for _ in 0..5 {
        ctx.sleep(9_000);
        assert_eq!(ctx.heartbeat(&ids[0], 2), ErrorCode::None);
    }
    assert_eq!(ctx.answer(sync), None);
}

#[test]
fn leaving_is_answered_for_each_member_and_starts_one_rebalance() {
    let mut ctx = Context::new();
    assert_eq!(ctx.leave(&[("m", None)]), [ErrorCode::UnknownMemberId], "no such group");
    let ids = ctx.stable(4);
    let codes =
        ctx.leave(&[(&ids[1], None), ("m", None), (&ids[2], None), ("", None), (&ids[2], None)]);
    let (ok, unknown) = (ErrorCode::None, ErrorCode::UnknownMemberId);
    assert_eq!(codes, [ok, unknown, ok, unknown, unknown]);
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
    let rebalances = |ctx: &Context| {
        ctx.events.iter().filter(|e| matches!(e.kind, EventKind::RebalanceStarted { .. })).count()
    };
    assert_eq!(rebalances(&ctx), 2);
    assert!(ctx.told("client reason: closing"));
    let leader = ctx.join(as_member(&ids[0]));
    // The last one that is waited for leaves: the rebalance is complete.
    ctx.leave(&[(&ids[3], None)]);
    assert_eq!(ctx.joined(leader).members.len(), 1);
    assert_eq!(rebalances(&ctx), 2);
}

#[test]
fn member_that_leaves_is_answered_where_it_waits() {
    let mut ctx = Context::new();
    let ids = ctx.stable(2);
    let parked = ctx.join(as_member(&ids[0]));
    ctx.leave(&[(&ids[0], None)]);
    let reply = ctx.joined(parked);
    assert_eq!((reply.error, &*reply.member_id), (ErrorCode::UnknownMemberId, ""));
    ctx.join(as_member(&ids[1]));
    assert_eq!(ctx.state(), GroupState::CompletingRebalance);
    let (new, _) = ctx.handshake(JoinRequest { client_id: "new".into(), ..join() });
    ctx.join(as_member(&ids[1]));
    let member = ctx.joined(new).member_id.clone();
    let follower = if ctx.joined(new).leader == member { ids[1].clone() } else { member };
    let sync = ctx.sync_as(&follower, 3, &[]);
    ctx.leave(&[(&follower, None)]);
    assert_eq!(ctx.synced(sync).error, ErrorCode::UnknownMemberId);
}

#[test]
fn pending_member_leaves_without_a_rebalance() {
    let mut ctx = Context::new();
    let ids = ctx.stable(1);
    let pending = ctx.join_now(JoinRequest { client_id: "new".into(), ..join() }).member_id;
    assert_eq!(ctx.leave(&[(&pending, None)]), [ErrorCode::None]);
    assert_eq!(ctx.state(), GroupState::Stable);
    let pending = ctx.join_now(JoinRequest { client_id: "new".into(), ..join() }).member_id;
    let parked = ctx.join(as_member(&ids[0]));
    assert_eq!(ctx.answer(parked), None);
    ctx.leave(&[(&pending, None)]);
    assert_eq!(ctx.joined(parked).generation, 2);
}

#[test]
fn initial_delay_is_waited_for_even_if_everyone_has_left() {
    let mut ctx = Context::new();
    let (parked, member) = ctx.handshake(join());
    ctx.sleep(1_000);
    ctx.leave(&[(&member, None)]);
    assert_eq!(ctx.joined(parked).error, ErrorCode::UnknownMemberId);
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
    ctx.sleep(2_000);
    assert_eq!(ctx.state(), GroupState::Empty);
    assert_eq!(ctx.stored().unwrap().generation, 1);
}

#[test]
fn description_shows_shares_always_and_subscriptions_only_when_stable() {
    let mut ctx = Context::new();
    let absent = ctx.describe();
    assert_eq!((absent.error, absent.state), (ErrorCode::GroupIdNotFound, GroupState::Dead));
    let ids = ctx.stable(2);
    let group = ctx.describe();
    assert_eq!((&*group.protocol_type, &*group.protocol_name), ("consumer", "range"));
    assert_eq!(group.members[0].metadata, subscription(&["t"]));
    assert_eq!(&*group.members[0].client_host, "/10.0.0.1");
    ctx.join(as_member(&ids[0]));
    let group = ctx.describe();
    assert_eq!((group.state, &*group.protocol_name), (GroupState::PreparingRebalance, ""));
    assert!(group.members.iter().all(|m| m.metadata.is_empty() && !m.assignment.is_empty()));
}

#[test]
fn id_that_was_handed_out_is_waited_for_when_the_last_member_leaves_during_a_rebalance() {
    let mut ctx = Context::new();
    let ids = ctx.stable(1);
    let handed_out = ctx.join_now(join()).member_id;
    let parked = ctx.join(as_member(&ids[0]));
    ctx.leave(&[(&ids[0], None)]);
    assert_eq!(ctx.joined(parked).error, ErrorCode::UnknownMemberId);
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
    ctx.leave(&[(&handed_out, None)]);
    assert_eq!(ctx.state(), GroupState::Empty);
}

#[test]
fn listing_filters_by_state_and_type() {
    let mut ctx = Context::new();
    ctx.stable(1);
    ctx.commit(CommitRequest { group: "simple".into(), ..commit(-1, "", 1) });
    let mut list = |states: &[&str], types: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
        let request = ListRequest { states: names(states), types: names(types) };
        match ctx.call(Request::ListGroups(request)) {
            Reply::ListGroups(reply) => {
                reply.groups.iter().map(|group| group.group.to_string()).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(&[], &[]), ["g", "simple"]);
    assert_eq!(list(&["stable"], &[]), ["g"]);
    assert_eq!(list(&["EMPTY", "dead"], &["Classic"]), ["simple"]);
    assert!(list(&[], &["consumer"]).is_empty());
    assert!(list(&["no such state"], &[]).is_empty());
}

#[test]
fn group_is_deleted_only_when_empty() {
    let mut ctx = Context::new();
    assert_eq!(ctx.delete_group(), ErrorCode::GroupIdNotFound);
    let ids = ctx.stable(1);
    assert_eq!(ctx.commit(commit(1, &ids[0], 5)), ErrorCode::None);
    assert_eq!(ctx.delete_group(), ErrorCode::NonEmptyGroup);
    ctx.leave(&[(&ids[0], None)]);
    ctx.join_now(join());
    let before = ctx.log.len();
    assert_eq!(ctx.delete_group(), ErrorCode::None);
    let deleted: Vec<_> = ctx.log[before..].iter().filter_map(Entry::record).collect();
    let [offset, group] = deleted[..] else { panic!("{deleted:?}") };
    assert!(matches!(offset, Record::Offset { value: None, .. }), "offsets first");
    assert!(matches!(group, Record::Group { value: None, .. }));
    assert_eq!(ctx.state(), GroupState::Dead);
    assert_eq!(ctx.committed(), -1);
}

#[test]
fn reasons_are_cut() {
    let mut ctx = Context::new();
    ctx.join_now(JoinRequest { reason: Some("ä".repeat(300).into()), ..join() });
    let EventKind::MemberIdHandedOut { reason, .. } = &ctx.events.last().unwrap().kind else {
        panic!("{:?}", ctx.events);
    };
    assert_eq!(reason.as_ref().unwrap().chars().count(), 255);
}

#[test]
fn only_heartbeats_and_refusals_leave_before_the_log_is_durable() {
    let mut ctx = Context::new();
    let ids = ctx.stable(1);
    ctx.heartbeat(&ids[0], 1);
    ctx.commit(commit(1, &ids[0], 1));
    ctx.committed();
    ctx.describe();
    ctx.leave(&[("m", None)]);
    for answer in ctx.answers.values() {
        let immediate = match &answer.reply {
            Reply::Heartbeat(_) => true,
            Reply::Join(join) => join.error != ErrorCode::None,
            Reply::Sync(sync) => sync.error != ErrorCode::None,
            _ => false,
        };
        assert_eq!(answer.release == Release::Immediate, immediate, "{answer:?}");
    }
}
