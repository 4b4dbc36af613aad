//! Members with a name (KIP-345): they come back without disturbing the others.

use kavka_protocol::{ByteString, ErrorCode};

use super::context::*;
use crate::group::*;

pub(super) fn named(instance: &str) -> JoinRequest {
    JoinRequest { instance_id: Some(instance.into()), client_id: instance.into(), ..join() }
}

/// A stable group of "a" and "b"; the leader comes first.
pub(super) fn stable(ctx: &mut Context) -> Vec<ByteString> {
    ctx.stable_of([named("a"), named("b")])
}

pub(super) fn instance(member_id: &str) -> &str {
    &member_id[..member_id.len() - 37]
}

#[test]
fn named_member_gets_its_id_without_handshake() {
    let mut ctx = Context::new();
    let id = ctx.join(named("a"));
    ctx.sleep(3_000);
    assert!(ctx.joined(id).member_id.starts_with("a-"));
    assert_eq!(ctx.joined(id).members[0].instance_id.as_deref(), Some("a"));
}

#[test]
fn follower_that_returns_takes_its_place_without_a_rebalance() {
    let mut ctx = Context::new();
    let ids = stable(&mut ctx);
    let reply = ctx.join_now(named(instance(&ids[1])));
    assert_eq!((reply.error, reply.generation), (ErrorCode::None, 1));
    assert_eq!(reply.leader, ids[0]);
    assert!(!reply.skip_assignment && reply.members.is_empty());
    assert_ne!(reply.member_id, ids[1]);
    assert_eq!(ctx.state(), GroupState::Stable);
    let sync = ctx.sync_as(&reply.member_id, 1, &[]);
    assert_eq!(ctx.synced(sync).assignment, share_of(&ids[1]));
    let name = instance(&ids[1]).to_owned();
    assert_eq!(ctx.heartbeat_as(&ids[1], Some(&name), 1), ErrorCode::FencedInstanceId);
    assert_eq!(ctx.heartbeat(&ids[1], 1), ErrorCode::UnknownMemberId);
    assert_eq!(ctx.heartbeat_as(&reply.member_id, Some(&name), 1), ErrorCode::None);
    let stored = ctx.stored().unwrap();
    assert!(stored.members.iter().any(|member| member.member_id == reply.member_id));
}

#[test]
fn leader_that_returns_is_told_to_leave_the_assignment_alone() {
    let mut ctx = Context::new();
    let ids = stable(&mut ctx);
    let reply = ctx.join_now(named(instance(&ids[0])));
    assert_eq!(reply.leader, reply.member_id);
    assert!(reply.skip_assignment);
    assert_eq!(reply.members.len(), 2);
    let sync = ctx.sync_as(&reply.member_id, 1, &[]);
    assert_eq!(ctx.synced(sync).assignment, share_of(&ids[0]));
    assert_eq!(ctx.stored().unwrap().leader, Some(reply.member_id));
}

#[test]
fn leader_of_an_old_version_that_returns_takes_itself_for_a_follower() {
    let mut ctx = Context::new();
    let ids = stable(&mut ctx);
    let request = JoinRequest { supports_skip_assignment: false, ..named(instance(&ids[0])) };
    let reply = ctx.join_now(request);
    assert_eq!(reply.leader, ids[0], "the id it had before");
    assert!(!reply.skip_assignment && reply.members.is_empty());
    assert_eq!(ctx.stored().unwrap().leader, Some(reply.member_id));
}

#[test]
fn return_with_another_subscription_disturbs_nobody() {
    let mut ctx = Context::new();
    let ids = stable(&mut ctx);
    let request = JoinRequest {
        protocols: vec![("range".into(), subscription(&["u"]))],
        ..named(instance(&ids[1]))
    };
    ctx.join_now(request);
    assert_eq!(ctx.state(), GroupState::Stable);
}

#[test]
fn return_that_changes_the_protocol_starts_a_rebalance() {
    let mut ctx = Context::new();
    let both =
        |name: &str| JoinRequest { protocols: protocols(&["range", "sticky"]), ..named(name) };
    let ids = ctx.stable_of([both("a"), both("b")]);
    let request = JoinRequest { protocols: protocols(&["sticky"]), ..named(instance(&ids[1])) };
    let parked = ctx.join(request);
    assert_eq!(ctx.answer(parked), None);
    assert!(ctx.told("Group's selectedProtocol will change because static member"));
    ctx.join(JoinRequest { member_id: ids[0].clone(), ..both(instance(&ids[0])) });
    assert_eq!(ctx.joined(parked).protocol_name.as_deref(), Some("sticky"));
}

#[test]
fn return_before_the_assignment_starts_a_rebalance_and_fences_the_former_id() {
    let mut ctx = Context::new();
    let ids = stable(&mut ctx);
    for id in &ids {
        ctx.join(JoinRequest { member_id: id.clone(), ..named(instance(id)) });
    }
    assert_eq!(ctx.state(), GroupState::CompletingRebalance);
    let sync = ctx.sync_as(&ids[1], 2, &[]);
    let parked = ctx.join(named(instance(&ids[1])));
    assert_eq!(ctx.synced(sync).error, ErrorCode::FencedInstanceId);
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
    ctx.join(JoinRequest { member_id: ids[0].clone(), ..named(instance(&ids[0])) });
    assert_eq!(ctx.joined(parked).generation, 3);
}

#[test]
fn return_during_a_rebalance_takes_over_the_parked_join() {
    let mut ctx = Context::new();
    let ids = stable(&mut ctx);
    let first = ctx.join(JoinRequest { member_id: ids[0].clone(), ..named(instance(&ids[0])) });
    let second = ctx.join(named(instance(&ids[0])));
    let fenced = ctx.joined(first);
    assert_eq!((fenced.error, &fenced.member_id), (ErrorCode::FencedInstanceId, &ids[0]));
    ctx.join(named(instance(&ids[1])));
    let reply = ctx.joined(second);
    assert_eq!((reply.generation, &reply.leader), (2, &reply.member_id));
}

#[test]
fn name_and_id_must_belong_together() {
    let mut ctx = Context::new();
    let ids = stable(&mut ctx);
    let unmapped = JoinRequest { member_id: ids[0].clone(), ..named("c") };
    assert_eq!(ctx.join_now(unmapped).error, ErrorCode::UnknownMemberId);
    let other = JoinRequest { member_id: ids[0].clone(), ..named(instance(&ids[1])) };
    let reply = ctx.join_now(other);
    assert_eq!((reply.error, &reply.member_id), (ErrorCode::FencedInstanceId, &ids[0]));
    let name = instance(&ids[1]).to_owned();
    let stale = SyncRequest { instance_id: Some(name.clone().into()), ..sync(&ids[0], 1, &[]) };
    let id = ctx.send(Request::Sync(stale));
    assert_eq!(ctx.synced(id).error, ErrorCode::FencedInstanceId);
    assert_eq!(ctx.heartbeat_as(&ids[0], Some(&name), 1), ErrorCode::FencedInstanceId);
    assert_eq!(ctx.heartbeat_as(&ids[0], Some("c"), 1), ErrorCode::UnknownMemberId);
    let commit = CommitRequest { instance_id: Some(name.clone().into()), ..commit(1, &ids[0], 1) };
    assert_eq!(ctx.commit(commit), ErrorCode::FencedInstanceId);
    assert_eq!(ctx.leave(&[(&ids[0], Some(&name))]), [ErrorCode::FencedInstanceId]);
    assert!(ctx.told("is fenced by current memberId="));
    assert_eq!(ctx.state(), GroupState::Stable);
}

#[test]
fn operator_removes_a_member_by_its_name() {
    let mut ctx = Context::new();
    let ids = stable(&mut ctx);
    let name = instance(&ids[1]).to_owned();
    let codes = ctx.leave(&[("", Some(&name)), ("", Some("c"))]);
    assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownMemberId]);
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
    assert_eq!(ctx.describe().members.len(), 1);
}

#[test]
fn absent_static_members_stay_until_their_session_ends() {
    let mut ctx = Context::new();
    let long = |name: &str| JoinRequest { session_timeout_ms: 200_000, ..named(name) };
    let ids = ctx.stable_of([long("a"), long("b")]);
    // The leader is away; the follower wants a rebalance.
    let changed = JoinRequest {
        member_id: ids[1].clone(),
        protocols: protocols(&["range", "x"]),
        ..long(instance(&ids[1]))
    };
    let parked = ctx.join(changed);
    ctx.sleep(60_000);
    let reply = ctx.joined(parked).clone();
    assert_eq!((reply.generation, reply.members.len()), (2, 2), "the absent one is in");
    assert_eq!(reply.leader, ids[1]);
    assert!(ctx.told("was elected as the new leader"));
    let sync = ctx.sync_as(&ids[1], 2, &[(&ids[1], "mine"), (&ids[0], "yours")]);
    assert_eq!(ctx.synced(sync).assignment, "mine");
    // It owes a SyncGroup: after another rebalance timeout it is out.
    ctx.sleep(59_999);
    assert_eq!(ctx.heartbeat(&ids[1], 2), ErrorCode::None);
    ctx.sleep(1);
    assert_eq!(ctx.heartbeat(&ids[1], 2), ErrorCode::RebalanceInProgress);
    assert_eq!(ctx.heartbeat(&ids[0], 2), ErrorCode::UnknownMemberId);
}

#[test]
fn nobody_rejoins_but_static_members_are_waited_for() {
    let mut ctx = Context::new();
    let long = |name: &str| JoinRequest { session_timeout_ms: 200_000, ..named(name) };
    let static_member = long("a");
    let dynamic = JoinRequest { client_id: "d".into(), session_timeout_ms: 200_000, ..join() };
    let ids = ctx.stable_of([static_member, dynamic]);
    let dynamic = ids.iter().find(|id| id.starts_with("d-")).unwrap().clone();
    ctx.leave(&[(&dynamic, None)]);
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
    ctx.sleep(61_000);
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
    assert!(ctx.told("because no members rejoined"));
    let parked = ctx.join(long("a"));
    assert_eq!(ctx.joined(parked).generation, 2);
}

#[test]
fn rebalance_timeout_of_zero_does_not_spin_for_absent_static_members() {
    let mut ctx = Context::new();
    let hasty = |name: &str| JoinRequest { rebalance_timeout_ms: 5_000, ..named(name) };
    let ids = ctx.stable_of([hasty("a"), hasty("b")]);
    let zero = JoinRequest {
        member_id: ids[1].clone(),
        rebalance_timeout_ms: 0,
        protocols: protocols(&["range", "x"]),
        ..named(instance(&ids[1]))
    };
    ctx.join(zero);
    ctx.leave(&[(&ids[1], Some(instance(&ids[1])))]);
    let before = ctx.answers.len();
    ctx.sleep(9_000);
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
    ctx.sleep(2_000);
    assert_eq!(ctx.state(), GroupState::Empty);
    assert!(ctx.answers.len() < before + 5);
}

#[test]
fn static_member_that_returns_to_a_full_group_has_its_place() {
    let mut ctx = Context::with(GroupConfig { max_size: 2, ..GroupConfig::default() });
    let ids = stable(&mut ctx);
    assert_eq!(ctx.join_now(named(instance(&ids[1]))).error, ErrorCode::None);
    assert_eq!(ctx.join_now(named("c")).error, ErrorCode::GroupMaxSizeReached);
}

/// A name does not help who never asks for its share: the others would wait for its partitions for a whole session.
#[test]
fn static_member_that_never_syncs_is_given_up_as_well() {
    let mut ctx = Context::new();
    let ids = stable(&mut ctx);
    for id in &ids {
        ctx.join(JoinRequest { member_id: id.clone(), ..named(instance(id)) });
    }
    let sync = ctx.sync_as(&ids[0], 2, &[(&ids[0], "x")]);
    assert_eq!(ctx.synced(sync).error, ErrorCode::None);
    for _ in 0..60 {
        ctx.sleep(1_000);
        ctx.heartbeat(&ids[0], 2);
        ctx.heartbeat(&ids[1], 2);
    }
    assert_eq!(ctx.heartbeat(&ids[0], 2), ErrorCode::RebalanceInProgress);
    assert_eq!(ctx.heartbeat(&ids[1], 2), ErrorCode::UnknownMemberId);
    assert!(ctx.told("haven't sent their sync requests"));
}
