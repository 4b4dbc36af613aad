//! What was reported of other clients, named after the report (`docs/regressions.md`).

use std::time::Duration;

use super::context::*;
use crate::{request::RequestKind, *};
use kavka_protocol::ErrorCode;

/// The member hears that it is unknown from a commit, while its JoinGroup is under way with the id that is gone. It joins anew, once,
/// and has its share: what the first answer reset is not undone by the second, nor the other way round.
#[test]
fn kafka_8104_removal_that_is_heard_of_during_a_join_does_not_keep_the_member_out() {
    let mut ctx = Context::with(cooperative());
    ctx.stable(1, &[0, 1]);
    ctx.consume(0, 12);
    ctx.commit(&[(0, 12)], CommitMode::Async);
    ctx.rebalance();
    assert!(ctx.has(RequestKind::Join) && ctx.has(RequestKind::CommitOffsets));
    ctx.answer_commit(ErrorCode::UnknownMemberId);
    assert!(ctx.has(RequestKind::Join), "its answer decides");
    ctx.refuse_join(ErrorCode::UnknownMemberId);
    assert!(matches!(ctx.lost(), Some((lost, Cause::Removed(_))) if lost.len() == 2));
    assert!(ctx.member.owned().is_empty() && ctx.member.member_id().is_empty());

    ctx.sleep(1_100);
    let join =
        ctx.answer(RequestKind::Join, Context::join_refusal(ErrorCode::MemberIdRequired, "m2"));
    let Request::Join(join) = join.request else { panic!() };
    assert!(join.member_id.is_empty(), "not with the id that is gone");
    ctx.sleep(1_100);
    let join = ctx.answer_join(5);
    assert_eq!(join.member_id, "m2");
    ctx.answer_sync(&[0]);
    assert_eq!(ctx.member.state(), State::Stable);
    assert_eq!(ctx.member.owned(), [tp(0)].into());
    assert_eq!(ctx.joins_within(30_000), 0, "L11");
}

/// Rounds that end because the group is a generation further, or does not know the member: each is followed by one JoinGroup, that
/// says what the member is by then, and when a round succeeds there is an end to it.
#[test]
fn kafka_9140_member_whose_generation_is_over_does_not_join_for_ever() {
    let mut ctx = Context::new();
    ctx.stable(1, &[0]);
    ctx.rebalance();
    for generation in 2..20 {
        let refusal = match generation % 3 {
            0 => ErrorCode::IllegalGeneration,
            1 => ErrorCode::UnknownMemberId,
            _ => ErrorCode::RebalanceInProgress,
        };
        ctx.answer_join(generation);
        ctx.answer(RequestKind::Sync, Response::Sync(Err(refusal)));
        ctx.sleep(1_100);
        let joins: Vec<&Outgoing> =
            ctx.requests.iter().filter(|sent| sent.request.kind() == RequestKind::Join).collect();
        assert_eq!(joins.len(), 1);
        let Request::Join(join) = &joins[0].request else { panic!() };
        assert_eq!(join.member_id.is_empty(), refusal == ErrorCode::UnknownMemberId);
    }
    ctx.answer_join(20);
    ctx.answer_sync(&[0]);
    assert_eq!(ctx.member.state(), State::Stable);
    assert_eq!(ctx.joins_within(30_000), 0, "L11");
}

/// Whichever answer says it first: nothing more is read, committed or asked, and the application hears of it.
#[test]
fn franz_go_member_that_is_fenced_is_no_zombie_until_its_next_heartbeat() {
    let named = || MemberConfig { group_instance_id: Some("i".into()), ..config() };
    let by_commit = |ctx: &mut Context| {
        ctx.commit(&[(0, 11)], CommitMode::Async);
        ctx.answer_commit(ErrorCode::FencedInstanceId);
    };
    let by_heartbeat = |ctx: &mut Context| ctx.beat(ErrorCode::FencedInstanceId);
    let by_join = |ctx: &mut Context| {
        ctx.rebalance();
        ctx.refuse_join(ErrorCode::FencedInstanceId);
    };
    for fence in [&by_commit as &dyn Fn(&mut Context), &by_heartbeat, &by_join] {
        let mut ctx = Context::with(named());
        ctx.stable(1, &[0, 1]);
        ctx.consume(0, 11);
        fence(&mut ctx);
        assert_eq!(ctx.error().unwrap().kind, ErrorKind::FencedInstance);
        assert_eq!(ctx.member.fetchable().count(), 0, "S27");
        assert!(ctx.member.owned().is_empty());
        assert!(ctx.lost().is_some() || !ctx.revoked().is_empty(), "the application hears of it");
        ctx.requests.clear();
        let commit = ctx.commit(&[(0, 11)], CommitMode::Async);
        assert_eq!(ctx.outcome(commit), Some(vec![ErrorKind::FencedInstance]));
        ctx.sleep(60_000);
        assert!(ctx.requests.is_empty(), "{:?}", ctx.requests);
    }
}

/// A static leader is told to leave the assignment alone (KIP-814). What was added while it was away is nobody's, which only the
/// coordinator can tell.
#[test]
fn kafka_13435_static_leader_that_returns_finds_what_nobody_has() {
    for (assigned, finds) in [(&[&[0, 1][..], &[2, 3]], false), (&[&[0, 1], &[2]], true)] {
        let mut ctx = returned_leader();
        describe(&mut ctx, true, assigned);
        assert_eq!(ctx.has(RequestKind::Join), finds, "{assigned:?}");
        if finds {
            let Request::Join(join) = &ctx.find(RequestKind::Join).unwrap().request else {
                panic!()
            };
            let reason = join.reason.as_deref().unwrap();
            assert!(reason.contains("t-3") && reason.contains("nobody"), "{reason}");
        } else {
            ctx.step(Input::Metadata(metadata(5, 0)));
            assert!(ctx.has(RequestKind::Join), "from now on it watches");
        }
    }
}

/// A partition that is assigned and not there any more: the topic was made anew, smaller.
#[test]
fn static_leader_that_returns_finds_what_is_not_there_any_more() {
    let mut ctx = returned_leader();
    describe(&mut ctx, true, &[&[0, 1, 2], &[3, 4]]);
    assert!(ctx.has(RequestKind::Join));
}

/// A round is on its way, which makes an assignment; or nobody can tell what is assigned.
#[test]
fn static_leader_that_returns_leaves_alone_what_it_cannot_judge() {
    let mut ctx = returned_leader();
    describe(&mut ctx, false, &[&[], &[]]);
    assert!(!ctx.has(RequestKind::Join), "not stable");

    let mut ctx = returned_leader();
    let refusal = Response::DescribeGroup(Err(ErrorCode::GroupAuthorizationFailed));
    ctx.answer(RequestKind::DescribeGroup, refusal);
    ctx.sleep(2_000);
    assert!(!ctx.has(RequestKind::Join) && !ctx.has(RequestKind::DescribeGroup));
    assert_eq!(ctx.member.state(), State::Stable);

    let mut ctx = returned_leader();
    let unreadable = GroupDescription { is_stable: true, assignments: vec![b"?"[..].into()] };
    ctx.answer(RequestKind::DescribeGroup, Response::DescribeGroup(Ok(unreadable)));
    assert!(!ctx.has(RequestKind::Join));
}

#[test]
fn static_leader_that_returns_asks_until_it_is_answered() {
    let mut ctx = returned_leader();
    ctx.fail(RequestKind::DescribeGroup, Failure::TimedOut);
    ctx.answer_find();
    ctx.sleep(200);
    let loading = Response::DescribeGroup(Err(ErrorCode::CoordinatorLoadInProgress));
    ctx.answer(RequestKind::DescribeGroup, loading);
    ctx.sleep(400);
    let moved = Response::DescribeGroup(Err(ErrorCode::NotCoordinator));
    ctx.answer(RequestKind::DescribeGroup, moved);
    ctx.sleep(1_000);
    ctx.answer_find();
    ctx.sleep(1_200);
    describe(&mut ctx, true, &[&[0, 1], &[2]]);
    assert!(ctx.has(RequestKind::Join));
}

/// Stable in generation 1 as the leader, with partitions 0 and 1 of 4, and told to skip the assignment.
fn returned_leader() -> Context {
    let mut ctx = Context::with(MemberConfig { group_instance_id: Some("i".into()), ..config() });
    ctx.subscribe();
    ctx.answer_find();
    let Request::Join(join) = ctx.find(RequestKind::Join).unwrap().request.clone() else {
        panic!()
    };
    let member = |id: &'static str| JoinedMember {
        member_id: id.into(),
        instance_id: Some(id.into()),
        metadata: join.protocols[0].1.clone(),
    };
    let response = JoinResponse {
        leader: "m".into(),
        members: vec![member("m"), member("x")],
        skip_assignment: true,
        ..ctx.joined(1)
    };
    ctx.answer(RequestKind::Join, Response::Join(response));
    assert!(!ctx.has(RequestKind::DescribeGroup), "not before it has its own share");
    ctx.answer_sync(&[0, 1]);
    ctx
}

fn describe(ctx: &mut Context, is_stable: bool, shares: &[&[i32]]) {
    let share = |partitions: &&[i32]| {
        let partitions = partitions.iter().map(|partition| tp(*partition)).collect();
        Assignment { partitions, user_data: None }.encode()
    };
    let assignments = shares.iter().map(share).collect();
    let description = GroupDescription { is_stable, assignments };
    ctx.answer(RequestKind::DescribeGroup, Response::DescribeGroup(Ok(description)));
}

/// An OffsetCommit answer without a row for a topic that was deleted meanwhile: the commit of the application is tried again for that
/// partition only, and is over at its timeout; one that is not tried again fails; the member goes on.
#[test]
fn answer_to_a_commit_without_one_of_its_partitions_does_not_end_the_member() {
    let mut ctx = Context::new();
    ctx.stable(1, &[0, 1]);
    let mode = CommitMode::Sync { timeout: Duration::from_secs(2) };
    let sync = ctx.commit(&[(0, 11), (1, 21)], mode);
    let answered = |partitions: &[i32]| {
        let codes = partitions.iter().map(|partition| (tp(*partition), ErrorCode::None));
        Response::CommitOffsets(codes.collect())
    };
    ctx.answer(RequestKind::CommitOffsets, answered(&[0]));
    assert_eq!(ctx.error(), None);
    assert_eq!((ctx.member.committed(&tp(0)), ctx.outcome(sync)), (Some(11), None));
    ctx.sleep(200);
    let again = ctx.answer(RequestKind::CommitOffsets, answered(&[]));
    let Request::CommitOffsets(again) = again.request else { panic!() };
    assert_eq!(again.offsets.into_keys().collect::<Vec<_>>(), [tp(1)]);
    ctx.sleep(2_000);
    assert_eq!(ctx.outcome(sync), Some(vec![ErrorKind::Timeout]));

    let once = ctx.commit(&[(0, 12), (1, 22)], CommitMode::Async);
    // That of the first commit may be under way still.
    while ctx.has(RequestKind::CommitOffsets) {
        ctx.answer(RequestKind::CommitOffsets, answered(&[0]));
    }
    assert_eq!(ctx.outcome(once), Some(vec![ErrorKind::Unavailable]));
    assert_eq!((ctx.error(), ctx.member.state()), (None, State::Stable));
    assert_eq!(ctx.member.committed(&tp(1)), Some(10), "as it was");
}
