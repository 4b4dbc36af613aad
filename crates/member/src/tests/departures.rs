//! Closing and unsubscribing.

use std::time::Duration;

use kavka_protocol::ErrorCode;

use super::context::*;
use crate::{request::RequestKind, *};

fn auto_commit() -> MemberConfig {
    MemberConfig { auto_commit_interval: Some(Duration::from_secs(5)), ..config() }
}

#[test]
fn close_commits_what_was_consumed_then_leaves() {
    let mut ctx = Context::with(auto_commit());
    ctx.stable(1, &[0]);
    ctx.consume(0, 15);
    ctx.close();
    assert!(!ctx.has(RequestKind::Leave), "the commit comes first");
    assert_eq!(ctx.answer_commit(ErrorCode::None).offsets, [(tp(0), at(15))].into());
    assert_eq!(ctx.revoked(), [tp(0)]);
    ctx.answer(RequestKind::Leave, Response::Leave(ErrorCode::None));
    assert_eq!(ctx.events.last(), Some(&Event::Closed { error: None }));
    assert!(ctx.member.is_closed());
    assert_eq!(ctx.member.next_deadline(), None);
    let commit = ctx.commit(&[(0, 1)], CommitMode::Async);
    assert_eq!(ctx.outcome(commit), Some(vec![ErrorKind::Closed]));
}

#[test]
fn static_member_closes_without_leaving_unless_it_is_told_to() {
    let settings = MemberConfig { group_instance_id: Some("i".into()), ..config() };
    let mut ctx = Context::with(settings.clone());
    ctx.stable(1, &[0]);
    ctx.close();
    assert!(ctx.member.is_closed() && !ctx.has(RequestKind::Leave), "KIP-345");
    let mut ctx = Context::with(settings);
    ctx.stable(1, &[0]);
    ctx.step(Input::Close { timeout: Duration::from_secs(30), leave: Some(true) });
    let Request::Leave(leave) = &ctx.find(RequestKind::Leave).unwrap().request else { panic!() };
    assert_eq!(leave.instance_id.as_deref(), Some("i"), "KIP-1092");
}

/// Right after an unsubscribe it was refused, with the advice to unsubscribe.
#[test]
fn partitions_assigned_while_the_group_is_being_left_are_read_once_it_is() {
    let mut ctx = Context::with(auto_commit());
    ctx.stable(1, &[0]);
    ctx.consume(0, 15);
    ctx.step(Input::Unsubscribe);
    ctx.step(Input::AssignSelf([tp(1)].into()));
    ctx.step(Input::Subscribe(["t".into()].into()));
    let refused = ctx.events.last();
    assert!(
        matches!(refused, Some(Event::Error(error)) if matches!(error.kind, ErrorKind::Misuse(_))),
        "{refused:?}"
    );
    assert_eq!(ctx.answer_commit(ErrorCode::None).offsets, [(tp(0), at(15))].into());
    assert!(ctx.member.owned().is_empty(), "the group is not left yet");
    ctx.answer(RequestKind::Leave, Response::Leave(ErrorCode::None));
    assert_eq!(ctx.member.owned(), [tp(1)].into());
}

#[test]
fn partitions_assigned_while_the_group_is_being_left_are_forgotten_by_unsubscribe_and_close() {
    for input in
        [Input::Unsubscribe, Input::Close { timeout: Duration::from_secs(30), leave: None }]
    {
        let mut ctx = Context::new();
        ctx.stable(1, &[0]);
        ctx.step(Input::Unsubscribe);
        ctx.step(Input::AssignSelf([tp(1)].into()));
        ctx.step(input);
        ctx.answer(RequestKind::Leave, Response::Leave(ErrorCode::None));
        assert!(ctx.member.owned().is_empty());
    }
}

/// An assignment that came while the application was letting go of what it had began a revocation of its own.
#[test]
fn sync_answer_that_comes_while_the_member_leaves_begins_nothing_new() {
    let settings =
        MemberConfig { assignors: vec![Assignor::cooperative_sticky()], ..auto_commit() };
    let mut ctx = Context::with(settings);
    ctx.drains = false;
    ctx.stable(1, &[0, 1]);
    ctx.consume(0, 15);
    ctx.rebalance();
    ctx.answer_join(2);
    ctx.close();
    let Some(Event::Revoking { drain, .. }) = ctx.events.last().cloned() else { panic!() };
    let told = ctx.events.len();
    ctx.answer_sync(&[1, 2]);
    assert_eq!(ctx.events.len(), told, "{:?}", ctx.events);
    ctx.step(Input::Drained(drain));
    let commit = ctx.answer_commit(ErrorCode::None);
    assert_eq!((commit.generation, commit.offsets), (2, [(tp(0), at(15))].into()));
    assert_eq!(ctx.revoked(), [tp(0), tp(1)]);
    ctx.answer(RequestKind::Leave, Response::Leave(ErrorCode::None));
    assert!(ctx.member.is_closed());
}

/// L6: the answer to LeaveGroup is lost.
#[test]
fn leave_is_sent_again_until_it_is_answered() {
    let mut ctx = Context::new();
    ctx.stable(1, &[0]);
    ctx.close();
    for _ in 0..3 {
        ctx.fail(RequestKind::Leave, Failure::Disconnected);
        ctx.sleep(1_100);
        ctx.answer_find();
        ctx.sleep(1_100);
    }
    ctx.answer(RequestKind::Leave, Response::Leave(ErrorCode::UnknownMemberId));
    assert!(ctx.member.is_closed());
}

#[test]
fn close_is_over_in_time_whatever_happens() {
    let mut ctx = Context::with(auto_commit());
    ctx.stable(1, &[0]);
    ctx.consume(0, 15);
    ctx.drains = false;
    let commit = ctx.commit_sync(&[(0, 12)]);
    ctx.close();
    ctx.sleep(30_000);
    assert!(ctx.member.is_closed());
    let Some(Event::Closed { error: Some(error) }) = ctx.events.last() else { panic!() };
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert_eq!(ctx.outcome(commit).unwrap().len(), 1);
}

/// A parked JoinGroup stops everything behind it on its connection, LeaveGroup too.
#[test]
fn close_during_a_join_leaves_over_a_new_connection() {
    let mut ctx = Context::new();
    ctx.stable(1, &[0]);
    ctx.rebalance();
    assert!(ctx.has(RequestKind::Join));
    ctx.close();
    assert_eq!(ctx.disconnects, 1);
    assert!(!ctx.has(RequestKind::Join));
    ctx.answer(RequestKind::Leave, Response::Leave(ErrorCode::None));
    assert!(ctx.member.is_closed());
}

/// KAFKA-17116, librdkafka #5569: an id that is on its way would hold the group's next rebalance.
#[test]
fn close_during_the_first_join_waits_for_the_id_and_gives_it_back() {
    let mut ctx = Context::new();
    ctx.subscribe();
    ctx.answer_find();
    ctx.close();
    assert!(!ctx.member.is_closed());
    ctx.answer(RequestKind::Join, Context::join_refusal(ErrorCode::MemberIdRequired, "m-1"));
    let sent = ctx.answer(RequestKind::Leave, Response::Leave(ErrorCode::None));
    let Request::Leave(leave) = sent.request else { panic!() };
    assert_eq!(leave.member_id, "m-1");
    assert!(ctx.member.is_closed());
}

#[test]
fn close_of_a_member_that_never_joined_is_immediate() {
    let mut ctx = Context::new();
    ctx.close();
    assert!(ctx.member.is_closed());
    assert!(ctx.requests.is_empty());
}

#[test]
fn unsubscribe_revokes_commits_and_leaves_then_subscribe_joins_anew() {
    let mut ctx = Context::with(auto_commit());
    ctx.stable(1, &[0]);
    ctx.consume(0, 20);
    ctx.step(Input::Unsubscribe);
    ctx.subscribe();
    ctx.answer_commit(ErrorCode::None);
    assert_eq!(ctx.revoked(), [tp(0)]);
    ctx.answer(RequestKind::Leave, Response::Leave(ErrorCode::None));
    let Request::Join(join) = &ctx.find(RequestKind::Join).unwrap().request else { panic!() };
    assert!(join.member_id.is_empty());
}

#[test]
fn member_that_gave_up_can_still_be_closed_and_leaves_if_it_is_in_the_group() {
    let mut ctx = Context::new();
    ctx.stable(1, &[0]);
    ctx.sleep(3_000);
    ctx.answer_heartbeat(ErrorCode::GroupAuthorizationFailed);
    assert_eq!(ctx.lost().unwrap().1, &Cause::Failed);
    ctx.close();
    assert!(ctx.has(RequestKind::Leave));
    let mut ctx = Context::new();
    ctx.stable(1, &[0]);
    ctx.sleep(3_000);
    ctx.answer_heartbeat(ErrorCode::FencedInstanceId);
    ctx.close();
    assert!(ctx.member.is_closed(), "the id belongs to somebody else");
}
