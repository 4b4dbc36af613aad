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
