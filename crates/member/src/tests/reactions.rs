//! Every error code of every request, as a row: what the member does about it.

use kavka_protocol::ErrorCode::{self, None as NoError, *};

use super::context::*;
use crate::{request::RequestKind, *};

/// What is seen of a member after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// It waits, then sends the same again to the same coordinator.
    Retries,
    /// It closes the connection, looks for the coordinator, then sends it again.
    Rediscovers,
    /// What it owned is lost; it joins without an id.
    JoinsAnew,
    /// What it owned is lost; it joins with its id.
    JoinsWithId,
    /// It joins again; nothing is lost.
    Rejoins,
    /// It goes on as if nothing had happened.
    GoesOn,
    /// It gives up.
    Fatal,
}

/// What a member does that has sent a request of this kind when it is refused with this code.
fn after(ctx: &mut Context, kind: RequestKind, refusal: Response) -> Seen {
    let disconnects = ctx.disconnects;
    ctx.events.clear();
    ctx.answer(kind, refusal);
    if let Some(error) = ctx.error() {
        assert!(error.is_fatal() && !error.is_retriable());
        assert_eq!(ctx.member.failure(), Some(error));
        assert_eq!(
            ctx.member.next_deadline(),
            Option::None,
            "a member that gave up does nothing more"
        );
        return Seen::Fatal;
    }
    let was_lost = ctx.lost().is_some();
    if ctx.disconnects > disconnects {
        assert!(!was_lost);
        ctx.answer_find();
        ctx.sleep(1_100);
        assert!(ctx.has(if kind == RequestKind::Sync { RequestKind::Join } else { kind }));
        return Seen::Rediscovers;
    }
    let at_once = ctx.has(RequestKind::Join);
    ctx.sleep(130);
    let join = ctx.find(RequestKind::Join).map(|sent| sent.request.clone());
    match join {
        Some(Request::Join(join)) if join.member_id.is_empty() && kind != RequestKind::Join => {
            assert!(at_once && was_lost);
            Seen::JoinsAnew
        }
        Some(Request::Join(_)) if was_lost => Seen::JoinsWithId,
        Some(Request::Join(_)) if at_once => Seen::Rejoins,
        Some(Request::Join(_)) => Seen::Retries,
        Some(other) => panic!("{other:?}"),
        Option::None if ctx.has(kind) => Seen::Retries,
        Option::None => Seen::GoesOn,
    }
}

/// A cooperative member with partitions 0 and 1 that has sent JoinGroup again.
fn rejoining() -> Context {
    let mut ctx = Context::with(cooperative());
    ctx.stable(1, &[0, 1]);
    ctx.rebalance();
    assert!(ctx.has(RequestKind::Join));
    ctx
}

fn syncing() -> Context {
    let mut ctx = rejoining();
    ctx.answer_join(2);
    assert!(ctx.has(RequestKind::Sync));
    ctx
}

fn beating() -> Context {
    let mut ctx = Context::with(cooperative());
    ctx.stable(1, &[0, 1]);
    ctx.sleep(3_000);
    assert!(ctx.has(RequestKind::Heartbeat));
    ctx
}

#[test]
fn join_errors() {
    let table: &[(ErrorCode, Seen)] = &[
        (CoordinatorLoadInProgress, Seen::Retries),
        (CoordinatorNotAvailable, Seen::Rediscovers),
        (NotCoordinator, Seen::Rediscovers),
        (RebalanceInProgress, Seen::Rejoins),
        (InconsistentGroupProtocol, Seen::Fatal),
        (InvalidGroupId, Seen::Fatal),
        (InvalidSessionTimeout, Seen::Fatal),
        (UnsupportedVersion, Seen::Fatal),
        (GroupMaxSizeReached, Seen::Fatal),
        (FencedInstanceId, Seen::Fatal),
        (GroupAuthorizationFailed, Seen::Fatal),
        (UnknownServerError, Seen::Fatal),
    ];
    for (code, expected) in table {
        let mut ctx = rejoining();
        let seen = after(&mut ctx, RequestKind::Join, Context::join_refusal(*code, "m"));
        assert_eq!(seen, *expected, "{code}");
    }
}

#[test]
fn join_with_an_id_that_is_not_known_any_more_loses_everything_and_joins_without() {
    for (code, id) in [(UnknownMemberId, ""), (IllegalGeneration, "m")] {
        let mut ctx = rejoining();
        ctx.answer(RequestKind::Join, Context::join_refusal(code, "m"));
        let (lost, cause) = ctx.lost().unwrap();
        assert_eq!((lost, cause), (&[tp(0), tp(1)][..], &Cause::Removed(code)));
        match &ctx.find(RequestKind::Join).unwrap().request {
            Request::Join(join) => assert_eq!(join.member_id, id, "{code}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn join_without_id_is_sent_again_at_once_with_the_id_that_came() {
    let mut ctx = Context::new();
    ctx.subscribe();
    ctx.answer_find();
    ctx.answer(RequestKind::Join, Context::join_refusal(MemberIdRequired, "m-1"));
    match &ctx.find(RequestKind::Join).unwrap().request {
        Request::Join(join) => {
            assert_eq!(join.member_id, "m-1");
            assert!(join.reason.as_ref().unwrap().contains("m-1"), "KIP-800");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn sync_errors() {
    let table: &[(ErrorCode, Seen)] = &[
        (CoordinatorLoadInProgress, Seen::Retries),
        (CoordinatorNotAvailable, Seen::Rediscovers),
        (NotCoordinator, Seen::Rediscovers),
        (UnknownMemberId, Seen::JoinsAnew),
        (IllegalGeneration, Seen::JoinsWithId),
        (RebalanceInProgress, Seen::Rejoins),
        (InconsistentGroupProtocol, Seen::Fatal),
        (FencedInstanceId, Seen::Fatal),
        (GroupAuthorizationFailed, Seen::Fatal),
        (UnknownServerError, Seen::Fatal),
    ];
    for (code, expected) in table {
        let mut ctx = syncing();
        assert_eq!(
            after(&mut ctx, RequestKind::Sync, Response::Sync(Err(*code))),
            *expected,
            "{code}"
        );
    }
}

#[test]
fn heartbeat_errors() {
    let table: &[(ErrorCode, Seen)] = &[
        (NoError, Seen::GoesOn),
        (CoordinatorLoadInProgress, Seen::Retries),
        (CoordinatorNotAvailable, Seen::Rediscovers),
        (NotCoordinator, Seen::Rediscovers),
        (UnknownMemberId, Seen::JoinsAnew),
        (IllegalGeneration, Seen::JoinsWithId),
        (RebalanceInProgress, Seen::Rejoins),
        (InconsistentGroupProtocol, Seen::Fatal),
        (FencedInstanceId, Seen::Fatal),
        (GroupAuthorizationFailed, Seen::Fatal),
        (UnknownServerError, Seen::Fatal),
    ];
    for (code, expected) in table {
        let mut ctx = beating();
        let seen = after(&mut ctx, RequestKind::Heartbeat, Response::Heartbeat(*code));
        assert_eq!(seen, *expected, "{code}");
    }
}

#[test]
fn heartbeat_in_a_rebalance_that_is_being_completed_is_only_a_sign_of_life() {
    let mut ctx = syncing();
    ctx.sleep(3_000);
    ctx.answer_heartbeat(RebalanceInProgress);
    assert_eq!(ctx.member.state(), State::CompletingRebalance);
    ctx.answer_sync(&[0]);
    assert_eq!(ctx.member.generation(), 2);
}

/// How a commit of partition 0 ends, and what becomes of the member.
#[derive(Debug, PartialEq, Eq)]
enum Committed {
    /// Sent again after a pause; done then.
    Retried,
    /// Sent again after the coordinator was looked for; done then.
    Rediscovered,
    /// Failed with this kind; the member goes on.
    Failed(ErrorKind),
    /// Failed as lost ownership; what was owned is lost.
    Lost,
    /// Sent again in the next generation; done then.
    NextGeneration,
    /// The member gives up.
    Fatal,
}

#[test]
fn commit_errors() {
    let table: Vec<(ErrorCode, Committed)> = vec![
        (CoordinatorLoadInProgress, Committed::Retried),
        (UnknownTopicOrPartition, Committed::Retried),
        (CoordinatorNotAvailable, Committed::Rediscovered),
        (NotCoordinator, Committed::Rediscovered),
        (RequestTimedOut, Committed::Rediscovered),
        (UnknownMemberId, Committed::Lost),
        (IllegalGeneration, Committed::Lost),
        (GroupIdNotFound, Committed::Lost),
        (RebalanceInProgress, Committed::NextGeneration),
        (OffsetMetadataTooLarge, Committed::Failed(ErrorKind::CommitTooLarge)),
        (InvalidCommitOffsetSize, Committed::Failed(ErrorKind::CommitTooLarge)),
        (TopicAuthorizationFailed, Committed::Failed(ErrorKind::TopicAuthorization("t".into()))),
        (FencedInstanceId, Committed::Fatal),
        (GroupAuthorizationFailed, Committed::Fatal),
        // Of what nobody foresaw, the commit fails and no more.
        (UnknownServerError, Committed::Failed(ErrorKind::CommitRefused)),
        (InvalidRequest, Committed::Failed(ErrorKind::CommitRefused)),
        (Unknown(999), Committed::Failed(ErrorKind::CommitRefused)),
    ];
    for (code, expected) in table {
        let mut ctx = Context::with(cooperative());
        ctx.stable(1, &[0, 1]);
        let commit = ctx.commit_sync(&[(0, 11)]);
        ctx.answer_commit(code);
        let seen = if ctx.member.failure().is_some() {
            assert_eq!(ctx.outcome(commit).unwrap().len(), 1);
            Committed::Fatal
        } else if ctx.lost().is_some() {
            assert_eq!(ctx.outcome(commit), Some(vec![ErrorKind::LostOwnership]));
            Committed::Lost
        } else if let Some(kinds) = ctx.outcome(commit) {
            assert_eq!(kinds.len(), 1);
            Committed::Failed(kinds[0].clone())
        } else if ctx.has(RequestKind::Join) {
            ctx.answer_join(2);
            assert!(!ctx.has(RequestKind::CommitOffsets), "not before the assignment is there");
            ctx.answer_sync(&[0]);
            assert_eq!(ctx.answer_commit(NoError).generation, 2);
            assert_eq!(ctx.outcome(commit), Some(vec![]));
            Committed::NextGeneration
        } else {
            let rediscovers = ctx.has(RequestKind::FindCoordinator);
            if rediscovers {
                ctx.answer_find();
            }
            ctx.sleep(130);
            assert_eq!(ctx.answer_commit(NoError).generation, 1);
            assert_eq!(ctx.outcome(commit), Some(vec![]));
            if rediscovers { Committed::Rediscovered } else { Committed::Retried }
        };
        assert_eq!(seen, expected, "{code}");
        assert_eq!(ctx.open_commits(), 0);
    }
}

#[test]
fn commit_async_is_one_attempt() {
    for code in [CoordinatorLoadInProgress, NotCoordinator, RequestTimedOut] {
        let mut ctx = Context::new();
        ctx.stable(1, &[0]);
        let commit = ctx.commit(&[(0, 11)], CommitMode::Async);
        ctx.answer_commit(code);
        assert_eq!(ctx.outcome(commit), Some(vec![ErrorKind::Unavailable]), "{code}");
    }
}

#[test]
fn offset_fetch_errors() {
    /// (code, is it sent again, is the coordinator looked for, the kind of error)
    type Row = (ErrorCode, bool, bool, Option<ErrorKind>);
    const NO: Option<ErrorKind> = Option::None;
    let table: Vec<Row> = vec![
        (CoordinatorLoadInProgress, true, false, NO),
        (UnstableOffsetCommit, true, false, NO),
        (StaleMemberEpoch, true, false, NO),
        (UnknownMemberId, true, false, NO),
        (RequestTimedOut, true, false, NO),
        (CoordinatorNotAvailable, true, true, NO),
        (NotCoordinator, true, true, NO),
        (UnknownTopicOrPartition, false, false, Some(ErrorKind::UnknownTopic("t".into()))),
        (TopicAuthorizationFailed, false, false, Some(ErrorKind::TopicAuthorization("t".into()))),
        (GroupAuthorizationFailed, false, false, Some(ErrorKind::GroupAuthorization)),
        (UnknownServerError, false, false, Some(ErrorKind::Protocol)),
    ];
    for (code, again, rediscovers, kind) in table {
        let mut ctx = Context::new();
        ctx.subscribe();
        ctx.answer_find();
        ctx.answer_join(1);
        ctx.answer_sync(&[0]);
        let row = FetchedOffset { error: code, offset: -1, leader_epoch: -1 };
        let rows = [(tp(0), row)].into();
        ctx.answer(RequestKind::FetchOffsets, Response::FetchOffsets(Ok(rows)));
        assert_eq!(ctx.has(RequestKind::FindCoordinator), rediscovers, "{code}");
        if rediscovers {
            ctx.answer_find();
        }
        ctx.sleep(130);
        assert_eq!(ctx.has(RequestKind::FetchOffsets), again, "{code}");
        assert!(!ctx.has(RequestKind::ListOffsets), "S28: {code} does not reset the position");
        assert_eq!(ctx.error().map(|error| error.kind.clone()), kind, "{code}");
        assert!(ctx.position(0).is_none());
        if again {
            ctx.answer_fetch(5);
            assert_eq!(ctx.position(0), Some(5));
        }
    }
}

#[test]
fn offset_fetch_errors_of_the_whole_group() {
    for (code, rediscovers) in [(CoordinatorLoadInProgress, false), (NotCoordinator, true)] {
        let mut ctx = Context::new();
        ctx.subscribe();
        ctx.answer_find();
        ctx.answer_join(1);
        ctx.answer_sync(&[0]);
        ctx.answer(RequestKind::FetchOffsets, Response::FetchOffsets(Err(code)));
        assert_eq!(ctx.has(RequestKind::FindCoordinator), rediscovers);
        if rediscovers {
            ctx.answer_find();
        }
        ctx.sleep(130);
        ctx.answer_fetch(5);
        assert_eq!(ctx.position(0), Some(5));
    }
}

#[test]
fn find_coordinator_errors() {
    for code in [CoordinatorNotAvailable, CoordinatorLoadInProgress, NotCoordinator] {
        let mut ctx = Context::new();
        ctx.subscribe();
        ctx.answer(RequestKind::FindCoordinator, Response::FindCoordinator(Err(code)));
        assert!(!ctx.has(RequestKind::FindCoordinator), "after a pause");
        ctx.sleep(130);
        ctx.answer_find();
        assert!(ctx.has(RequestKind::Join));
    }
    for code in [GroupAuthorizationFailed, InvalidGroupId, InvalidRequest] {
        let mut ctx = Context::new();
        ctx.subscribe();
        ctx.answer(RequestKind::FindCoordinator, Response::FindCoordinator(Err(code)));
        assert!(ctx.error().unwrap().is_fatal(), "{code}");
    }
}

#[test]
fn leave_errors() {
    let table: &[(ErrorCode, bool)] = &[
        (NoError, true),
        (UnknownMemberId, true),
        (FencedInstanceId, true),
        (GroupAuthorizationFailed, true),
        (CoordinatorLoadInProgress, false),
        (NotCoordinator, false),
        (CoordinatorNotAvailable, false),
    ];
    for (code, is_over) in table {
        let mut ctx = Context::new();
        ctx.stable(1, &[0]);
        ctx.close();
        ctx.answer(RequestKind::Leave, Response::Leave(*code));
        assert_eq!(ctx.member.is_closed(), *is_over, "{code}");
        if !is_over {
            if ctx.has(RequestKind::FindCoordinator) {
                ctx.answer_find();
            }
            ctx.sleep(130);
            ctx.answer(RequestKind::Leave, Response::Leave(NoError));
            assert!(ctx.member.is_closed(), "L6: {code}");
        }
    }
}
