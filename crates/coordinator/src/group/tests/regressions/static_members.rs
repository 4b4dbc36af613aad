//! Static members: fenced by themselves, replaced in the wrong state, forgotten by a restart.

use kavka_protocol::{ByteString, ErrorCode};

use crate::group::{
    tests::{
        context::*,
        static_members::{instance, named, stable},
    },
    *,
};

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
            let ids = stable(&mut ctx);
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
    let ids = stable(&mut ctx);
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

/// The client gave up its connection; the JoinGroup it left there is worked on after the one that it sent over the next.
#[test]
fn kafka_20983_late_join_of_an_older_connection_does_not_win() {
    let mut ctx = Context::new();
    let (old, new) = (Some(ctx.connection()), Some(ctx.connection()));
    let mut ids = stable(&mut ctx);
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
    let ids = stable(&mut ctx);
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

/// Found by the simulation: the second answer is lost as well, and the third request, still under the only id that the member has
/// heard of, fenced it.
#[test]
fn static_member_that_loses_several_answers_is_not_fenced_under_its_former_id() {
    let mut ctx = Context::new();
    let ids = stable(&mut ctx);
    let known = ids.iter().find(|id| instance(id) == "a").unwrap().clone();
    let without_id = JoinRequest { connection: Some(ctx.connection()), ..named("a") };
    ctx.join_now(without_id);
    let mut last = ByteString::new();
    for _ in 0..3 {
        let connection = Some(ctx.connection());
        let retry = JoinRequest { member_id: known.clone(), connection, ..named("a") };
        let reply = ctx.join_now(retry);
        assert_eq!(reply.error, ErrorCode::None);
        last = reply.member_id;
    }
    assert_eq!(ctx.heartbeat_as(&last, Some("a"), 1), ErrorCode::None);
    assert_eq!(ctx.heartbeat_as(&known, Some("a"), 1), ErrorCode::FencedInstanceId);
}

/// The leader returns and is told to leave the assignment alone; it still gets to see the members, so that it can notice new
/// partitions, and when it joins again because of them there is a rebalance.
#[test]
fn kafka_13435_static_leader_that_returned_can_ask_for_a_rebalance() {
    let mut ctx = Context::new();
    let ids = stable(&mut ctx);
    let name = instance(&ids[0]).to_owned();
    let returned = ctx.join_now(named(&name));
    assert!(returned.skip_assignment);
    assert_eq!(returned.members.len(), 2);
    ctx.join(JoinRequest { member_id: returned.member_id, ..named(&name) });
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
}
