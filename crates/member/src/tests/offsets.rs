//! Positions and commits.

use std::{collections::BTreeMap, time::Duration};

use kavka_protocol::{ErrorCode, Uuid};

use super::context::*;
use crate::{request::RequestKind, *};

fn auto_commit() -> MemberConfig {
    MemberConfig { auto_commit_interval: Some(Duration::from_secs(5)), ..config() }
}

fn reset(offset_reset: OffsetReset) -> MemberConfig {
    MemberConfig { offset_reset, ..config() }
}

/// A member with partition 0 that nobody has committed for.
fn without_offset(settings: MemberConfig) -> Context {
    let mut ctx = Context::with(settings);
    ctx.subscribe();
    ctx.answer_find();
    ctx.answer_join(1);
    ctx.answer_sync(&[0]);
    ctx.answer_fetch(-1);
    ctx
}

/// The timestamp that ListOffsets asks for.
fn asked_for(ctx: &Context) -> i64 {
    match &ctx.find(RequestKind::ListOffsets).unwrap().request {
        Request::ListOffsets(list) => list.partitions[0].2,
        other => panic!("{other:?}"),
    }
}

fn answer_list(ctx: &mut Context, error: ErrorCode, offset: i64) {
    let row = ListedOffset { error, offset, leader_epoch: 0 };
    ctx.answer(RequestKind::ListOffsets, Response::ListOffsets([(tp(0), row)].into()));
}

#[test]
fn position_is_the_committed_offset() {
    let mut ctx = Context::new();
    ctx.stable(1, &[0, 1]);
    assert_eq!((ctx.position(0), ctx.member.committed(&tp(0))), (Some(10), Some(10)));
    assert_eq!(ctx.member.fetchable().count(), 2);
    assert!(!ctx.has(RequestKind::ListOffsets));
}

#[test]
fn position_without_a_commit_comes_from_the_reset_policy() {
    let day = Duration::from_secs(86_400);
    for (policy, timestamp) in [
        (OffsetReset::Earliest, -2),
        (OffsetReset::Latest, -1),
        (OffsetReset::ByDuration(day), 1_700_000_000_000 - 86_400_000),
    ] {
        let mut ctx = without_offset(reset(policy));
        assert_eq!(asked_for(&ctx), timestamp);
        assert_eq!(ctx.find(RequestKind::ListOffsets).unwrap().target, Target::Node(1));
        answer_list(&mut ctx, ErrorCode::NotLeaderOrFollower, -1);
        assert!(ctx.events.iter().any(|event| matches!(event, Event::MetadataWanted { .. })));
        assert!(!ctx.has(RequestKind::ListOffsets), "after a pause");
        ctx.sleep(130);
        answer_list(&mut ctx, ErrorCode::None, 77);
        assert_eq!(ctx.position(0), Some(77));
    }
}

#[test]
fn duration_that_no_record_is_as_young_as_starts_at_the_end() {
    let mut ctx = without_offset(reset(OffsetReset::ByDuration(Duration::from_secs(60))));
    answer_list(&mut ctx, ErrorCode::None, -1);
    assert_eq!(asked_for(&ctx), -1);
    answer_list(&mut ctx, ErrorCode::None, 500);
    assert_eq!(ctx.position(0), Some(500));
}

#[test]
fn policy_none_tells_the_application_and_waits_for_its_seek() {
    let mut ctx = without_offset(reset(OffsetReset::None));
    let error = ctx.error().unwrap().clone();
    assert_eq!(error.kind, ErrorKind::NoOffset { topic: "t".into(), partition: 0 });
    assert!(!error.is_fatal());
    ctx.sleep(10_000);
    assert!(!ctx.has(RequestKind::ListOffsets));
    assert_eq!(ctx.member.trouble(&tp(0)), Some(&error), "who asks for the position hears why");
    let target = OffsetTarget::At(Position { offset: 3, leader_epoch: -1 });
    ctx.step(Input::Seek { partition: tp(0), target });
    assert_eq!((ctx.position(0), ctx.member.trouble(&tp(0))), (Some(3), None));
}

#[test]
fn out_of_range_resets_only_the_position_it_is_about() {
    let mut ctx = Context::new();
    ctx.stable(1, &[0]);
    let old = ctx.member.fetchable().next().unwrap().epoch;
    let target = OffsetTarget::At(Position { offset: 50, leader_epoch: -1 });
    ctx.step(Input::Seek { partition: tp(0), target });
    ctx.step(Input::OutOfRange { partition: tp(0), epoch: old });
    assert_eq!(ctx.position(0), Some(50), "the answer to a fetch from before the seek");
    let epoch = ctx.member.fetchable().next().unwrap().epoch;
    ctx.step(Input::OutOfRange { partition: tp(0), epoch });
    assert_eq!(asked_for(&ctx), -2);
}

#[test]
fn seek_voids_what_was_fetched_before_it() {
    let mut ctx = Context::new();
    ctx.stable(1, &[0]);
    let old = ctx.member.fetchable().next().unwrap().epoch;
    for (target, asks) in
        [(OffsetTarget::Earliest, -2), (OffsetTarget::Latest, -1), (OffsetTarget::Timestamp(5), 5)]
    {
        ctx.step(Input::Seek { partition: tp(0), target });
        assert_eq!(asked_for(&ctx), asks);
        assert_eq!(ctx.member.fetchable().count(), 0);
        answer_list(&mut ctx, ErrorCode::None, 5);
    }
    let consumed = Consumed { partition: tp(0), epoch: old, next_offset: 90, leader_epoch: -1 };
    ctx.step(Input::Consumed(vec![consumed]));
    assert_eq!(ctx.position(0), Some(5), "franz-go: a seek that a fetch undid");
}

#[test]
fn paused_partition_is_not_fetched_and_stays_so_while_it_is_owned() {
    let mut ctx = Context::with(cooperative());
    ctx.stable(1, &[0, 1]);
    ctx.step(Input::Pause([tp(0)].into()));
    assert_eq!(ctx.member.fetchable().map(|found| found.partition).collect::<Vec<_>>(), [tp(1)]);
    ctx.rebalance();
    ctx.answer_join(2);
    ctx.answer_sync(&[0, 1]);
    assert_eq!(ctx.member.fetchable().count(), 1);
    ctx.step(Input::Resume([tp(0)].into()));
    assert_eq!(ctx.member.fetchable().count(), 2);
}

#[test]
fn commits_are_sent_one_after_the_other_and_complete_in_order() {
    let mut ctx = Context::new();
    ctx.stable(1, &[0]);
    let first = ctx.commit_sync(&[(0, 11)]);
    let second = ctx.commit(&[(0, 12)], CommitMode::Async);
    assert_eq!(ctx.answer_commit(ErrorCode::CoordinatorLoadInProgress).offsets[&tp(0)], at(11));
    assert!(!ctx.has(RequestKind::CommitOffsets), "a later commit does not overtake a retry");
    ctx.sleep(130);
    assert_eq!(ctx.answer_commit(ErrorCode::None).offsets[&tp(0)], at(11));
    assert_eq!(ctx.outcome(first), Some(vec![]));
    assert_eq!(ctx.answer_commit(ErrorCode::None).offsets[&tp(0)], at(12));
    assert_eq!(ctx.outcome(second), Some(vec![]));
    assert_eq!(ctx.member.committed(&tp(0)), Some(12));
}

#[test]
fn commit_sync_is_over_at_its_timeout() {
    let mut ctx = Context::new();
    ctx.stable(1, &[0]);
    let mode = CommitMode::Sync { timeout: Duration::from_secs(2) };
    let commit = ctx.commit(&[(0, 11)], mode);
    ctx.sleep(2_000);
    assert_eq!(ctx.outcome(commit), Some(vec![ErrorKind::Timeout]));
    ctx.answer_commit(ErrorCode::None);
    assert_eq!(ctx.open_commits(), 0);
}

#[test]
fn commit_of_nothing_completes_after_those_before_it() {
    let mut ctx = Context::new();
    ctx.stable(1, &[0]);
    ctx.commit(&[(0, 11)], CommitMode::Async);
    let empty = ctx.commit_sync(&[]);
    assert_eq!(ctx.outcome(empty), None);
    ctx.answer_commit(ErrorCode::None);
    assert_eq!(ctx.outcome(empty), Some(vec![]));
}

#[test]
fn commit_in_a_rebalance_is_sent_with_the_next_generation_for_what_stays() {
    let mut ctx = Context::with(cooperative());
    ctx.stable(1, &[0, 1]);
    ctx.rebalance();
    let commit = ctx.commit_sync(&[(0, 11), (1, 12)]);
    assert!(!ctx.has(RequestKind::CommitOffsets));
    ctx.answer_join(2);
    ctx.answer_sync(&[1]);
    let sent = ctx.answer_commit(ErrorCode::None);
    assert_eq!(
        (sent.generation, sent.offsets.len()),
        (2, 2),
        "0 is on its way out, and still owned"
    );
    assert_eq!(ctx.outcome(commit), Some(vec![]));
}

#[test]
fn commit_of_what_a_rebalance_took_is_lost_ownership() {
    let mut ctx = Context::new();
    ctx.stable(1, &[0]);
    ctx.rebalance();
    let commit = ctx.commit_sync(&[(0, 11)]);
    assert_eq!(ctx.outcome(commit), Some(vec![ErrorKind::LostOwnership]));
    ctx.answer_join(2);
    ctx.answer_sync(&[0]);
    assert!(!ctx.has(RequestKind::CommitOffsets));
}

/// librdkafka #1767: an offset stored before a revocation was committed after it, and the group's offset went back.
#[test]
fn what_was_consumed_under_a_former_ownership_is_never_committed() {
    let mut ctx = Context::with(auto_commit());
    ctx.stable(1, &[0]);
    let old = ctx.member.fetchable().next().unwrap().epoch;
    ctx.rebalance();
    ctx.answer_join(2);
    ctx.answer_sync(&[0]);
    ctx.answer_fetch(40);
    let consumed = Consumed { partition: tp(0), epoch: old, next_offset: 60, leader_epoch: -1 };
    ctx.step(Input::Consumed(vec![consumed]));
    assert_eq!(ctx.position(0), Some(40));
    ctx.step(Input::Consumed(vec![Consumed {
        partition: tp(0),
        epoch: old,
        next_offset: 15,
        leader_epoch: -1,
    }]));
    ctx.sleep(5_000);
    assert!(!ctx.has(RequestKind::CommitOffsets));
}

/// KAFKA-18641: only what the application was done with counts.
#[test]
fn auto_commit_commits_consumed_positions_by_interval() {
    let mut ctx = Context::with(auto_commit());
    ctx.stable(1, &[0, 1]);
    ctx.sleep(4_000);
    ctx.answer_heartbeat(ErrorCode::None);
    ctx.consume(0, 17);
    ctx.sleep(1_000);
    assert_eq!(ctx.answer_commit(ErrorCode::None).offsets, BTreeMap::from([(tp(0), at(17))]));
    ctx.beat(ErrorCode::None);
    ctx.sleep(2_000);
    assert!(!ctx.has(RequestKind::CommitOffsets), "nothing new");
}

#[test]
fn auto_commit_that_fails_is_made_up_for_soon() {
    let mut ctx = Context::with(auto_commit());
    ctx.stable(1, &[0]);
    ctx.sleep(3_000);
    ctx.answer_heartbeat(ErrorCode::None);
    ctx.consume(0, 17);
    ctx.sleep(2_000);
    ctx.answer_commit(ErrorCode::CoordinatorLoadInProgress);
    ctx.consume(0, 18);
    ctx.sleep(130);
    assert_eq!(ctx.answer_commit(ErrorCode::None).offsets, BTreeMap::from([(tp(0), at(18))]));
}

/// KAFKA-14024, KAFKA-14196: a commit that cannot be done does not stop the rebalance, and nothing is fetched meanwhile.
#[test]
fn auto_commit_before_a_revocation_is_waited_for_within_bounds() {
    let mut ctx =
        Context::with(MemberConfig { max_poll_interval: Duration::from_secs(30), ..auto_commit() });
    ctx.stable(1, &[0]);
    ctx.consume(0, 17);
    ctx.rebalance();
    assert!(!ctx.has(RequestKind::Join));
    let mut waited = 0;
    while ctx.has(RequestKind::CommitOffsets) || !ctx.has(RequestKind::Join) {
        assert_eq!(ctx.member.fetchable().count(), 0);
        if ctx.has(RequestKind::CommitOffsets) {
            ctx.answer_commit(ErrorCode::CoordinatorLoadInProgress);
        }
        if ctx.has(RequestKind::Heartbeat) {
            ctx.answer_heartbeat(ErrorCode::RebalanceInProgress);
        }
        ctx.sleep(100);
        ctx.step(Input::Poll);
        waited += 100;
        assert!(waited < 30_000, "L1");
    }
    assert_eq!(ctx.revoked(), [tp(0)]);
}

/// As a pattern does that does not match it any more. Java's client gives the commit up, too.
#[test]
fn commit_of_a_topic_that_was_deleted_does_not_hold_up_the_revocation_behind_it() {
    for code in [ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId] {
        let mut ctx = Context::with(auto_commit());
        ctx.stable(1, &[0]);
        ctx.consume(0, 17);
        ctx.rebalance();
        ctx.answer_commit(code);
        assert!(!ctx.has(RequestKind::Join), "the coordinator may not have heard of it yet");
        let wanted = |event: &Event| matches!(event, Event::MetadataWanted { .. });
        assert!(ctx.events.iter().any(wanted));
        ctx.step(Input::Metadata(BTreeMap::new()));
        ctx.sleep(200);
        ctx.answer_commit(code);
        assert_eq!(ctx.revoked(), [tp(0)]);
        assert!(ctx.has(RequestKind::Join));
    }
}

#[test]
fn commit_refused_in_a_rebalance_does_not_hold_up_the_revocation_behind_it() {
    let mut ctx = Context::with(auto_commit());
    ctx.stable(1, &[0]);
    ctx.consume(0, 17);
    ctx.commit_sync(&[(0, 17)]);
    // The coordinator takes commits while a rebalance is prepared, so it is sent once more; and is refused again.
    ctx.answer_commit(ErrorCode::RebalanceInProgress);
    ctx.answer_commit(ErrorCode::RebalanceInProgress);
    assert_eq!(ctx.revoked(), [tp(0)]);
    assert!(ctx.has(RequestKind::Join));
}

/// Its deadline stayed in the past when the time was over and the generation had not come: none comes to a member that is leaving.
#[test]
fn commit_that_waits_for_the_next_generation_waits_for_no_time_beside_it() {
    let mut ctx = Context::new();
    ctx.drains = false;
    ctx.stable(1, &[0, 1]);
    ctx.close();
    let commit = ctx.commit_sync(&[(0, 17), (1, 18)]);
    let sent = ctx.take(RequestKind::CommitOffsets);
    let codes = BTreeMap::from([
        (tp(0), ErrorCode::RebalanceInProgress),
        (tp(1), ErrorCode::UnknownTopicOrPartition),
    ]);
    ctx.step(Input::Response(sent.id, Response::CommitOffsets(codes)));
    ctx.sleep(1_000);
    assert!(!ctx.has(RequestKind::CommitOffsets));
    ctx.sleep(30_000);
    assert_eq!(ctx.outcome(commit).map(|failed| failed.len()), Some(2));
}

#[test]
fn consumer_that_assigns_itself_commits_without_a_membership() {
    let mut ctx = Context::with(auto_commit());
    ctx.step(Input::AssignSelf([tp(0)].into()));
    ctx.answer_find();
    ctx.answer_fetch(4);
    ctx.consume(0, 9);
    ctx.sleep(5_000);
    let commit = ctx.answer_commit(ErrorCode::None);
    assert_eq!(
        (commit.generation, &*commit.member_id, commit.instance_id),
        (-1, "", None),
        "KAFKA-14201"
    );
    ctx.step(Input::AssignSelf([tp(0), tp(1)].into()));
    assert_eq!(ctx.position(0), Some(9), "what stays goes on");
    ctx.answer_fetch(-1);
    assert!(ctx.has(RequestKind::ListOffsets));
    ctx.close();
    assert!(ctx.member.is_closed() && !ctx.has(RequestKind::Leave));
}

/// There is no later generation that it could be sent with: it is not to wait for one until its time is up.
#[test]
fn commit_of_a_consumer_that_assigns_itself_beside_members_of_its_group_fails_at_once() {
    let codes = [
        ErrorCode::UnknownMemberId,
        ErrorCode::IllegalGeneration,
        ErrorCode::RebalanceInProgress,
        ErrorCode::GroupIdNotFound,
    ];
    for code in codes {
        let mut ctx = Context::new();
        ctx.step(Input::AssignSelf([tp(0)].into()));
        ctx.answer_find();
        ctx.answer_fetch(4);
        let commit = ctx.commit_sync(&[(0, 9)]);
        ctx.answer_commit(code);
        assert_eq!(ctx.outcome(commit), Some(vec![ErrorKind::NotAMember]), "{code}");
        assert_eq!((ctx.error(), ctx.position(0)), (None, Some(4)), "it goes on reading");
        let later = ctx.commit_sync(&[(0, 9)]);
        ctx.answer_commit(ErrorCode::None);
        assert_eq!(ctx.outcome(later), Some(vec![]), "the others may have left");
    }
}

#[test]
fn auto_commit_that_is_refused_is_told_in_the_trace_and_holds_up_nothing() {
    let mut ctx = Context::with(auto_commit());
    ctx.stable(1, &[0]);
    ctx.sleep(3_000);
    ctx.answer_heartbeat(ErrorCode::None);
    ctx.consume(0, 17);
    ctx.sleep(2_000);
    ctx.answer_commit(ErrorCode::UnknownServerError);
    let told = ctx.traces.iter().find_map(|trace| match trace {
        Trace::AutoCommitFailed { partition, error } => Some((partition.clone(), error.code)),
        _ => None,
    });
    assert_eq!(told, Some((tp(0), Some(ErrorCode::UnknownServerError))));
    assert_eq!((ctx.error(), ctx.member.state()), (None, State::Stable));
    ctx.beat(ErrorCode::None);
    ctx.sleep(2_000);
    ctx.beat(ErrorCode::None);
    ctx.sleep(2_000);
    assert_eq!(ctx.answer_commit(ErrorCode::None).offsets, BTreeMap::from([(tp(0), at(17))]));
}

#[test]
fn consumer_without_a_group_needs_no_coordinator() {
    let mut ctx = Context::with(MemberConfig { group_id: None, ..config() });
    ctx.step(Input::AssignSelf([tp(0)].into()));
    assert!(!ctx.has(RequestKind::FindCoordinator));
    answer_list(&mut ctx, ErrorCode::None, 3);
    assert_eq!(ctx.position(0), Some(3));
    let commit = ctx.commit(&[(0, 3)], CommitMode::Async);
    assert!(matches!(ctx.outcome(commit).unwrap()[0], ErrorKind::Misuse(_)));
    ctx.close();
    assert!(ctx.member.is_closed());
}

/// A member at offset 20, which it read in leader epoch 0, that learns of leader epoch 1.
fn validating(settings: MemberConfig) -> Context {
    let mut ctx = Context::with(settings);
    ctx.stable(1, &[0]);
    let epoch = ctx.member.fetchable().next().unwrap().epoch;
    let consumed = Consumed { partition: tp(0), epoch, next_offset: 20, leader_epoch: 0 };
    ctx.step(Input::Consumed(vec![consumed]));
    ctx.step(Input::Metadata(metadata(4, 1)));
    assert_eq!(ctx.member.fetchable().count(), 0, "KIP-320: not before the position is good");
    ctx
}

fn answer_end(ctx: &mut Context, error: ErrorCode, leader_epoch: i32, end_offset: i64) {
    let row = EpochEnd { error, leader_epoch, end_offset };
    ctx.answer(RequestKind::EndOfEpochs, Response::EndOfEpochs([(tp(0), row)].into()));
}

#[test]
fn position_is_compared_with_the_log_of_a_new_leader() {
    let mut ctx = validating(config());
    answer_end(&mut ctx, ErrorCode::FencedLeaderEpoch, -1, -1);
    ctx.sleep(130);
    answer_end(&mut ctx, ErrorCode::None, 0, 25);
    assert_eq!((ctx.position(0), ctx.member.fetchable().count()), (Some(20), 1));
    ctx.step(Input::Metadata(metadata(4, 1)));
    assert!(!ctx.has(RequestKind::EndOfEpochs), "once for each leader");
}

#[test]
fn truncated_log_takes_the_position_back_to_where_it_agrees() {
    let mut ctx = validating(config());
    answer_end(&mut ctx, ErrorCode::None, 0, 15);
    assert_eq!(ctx.position(0), Some(15));
    let mut ctx = validating(config());
    answer_end(&mut ctx, ErrorCode::None, -1, -1);
    assert_eq!(asked_for(&ctx), -2, "nothing in common: by the policy");
    let mut ctx = validating(reset(OffsetReset::None));
    answer_end(&mut ctx, ErrorCode::None, 0, 15);
    let Some(MemberError { kind: ErrorKind::Truncated { diverged, position, .. }, .. }) =
        ctx.error()
    else {
        panic!("{:?}", ctx.events)
    };
    assert_eq!((*position, *diverged), (20, Some(15)));
}

/// Full stack, seeds 409, 1014, 1051 and 1650: what the application had in hand came to it again, without a rebalance.
#[test]
fn answer_about_a_former_position_is_no_truncation_below_what_was_consumed_meanwhile() {
    let mut ctx = Context::new();
    ctx.stable(1, &[0]);
    let epoch = ctx.member.fetchable().next().unwrap().epoch;
    let consume = |ctx: &mut Context, next_offset, leader_epoch| {
        let row = Consumed { partition: tp(0), epoch, next_offset, leader_epoch };
        ctx.step(Input::Consumed(vec![row]));
    };
    consume(&mut ctx, 20, 0);
    ctx.step(Input::Metadata(metadata(4, 2)));
    // Epoch 0 ended at 25; what the application has in hand is of epoch 1.
    consume(&mut ctx, 40, 1);
    let former = ctx.take(RequestKind::EndOfEpochs);
    let row = EpochEnd { error: ErrorCode::None, leader_epoch: 0, end_offset: 25 };
    ctx.step(Input::Response(former.id, Response::EndOfEpochs([(tp(0), row)].into())));
    assert_eq!(ctx.position(0), Some(40));
    assert_eq!(ctx.member.fetchable().count(), 0, "not before the log was asked about this one");
    answer_end(&mut ctx, ErrorCode::None, 1, 50);
    assert_eq!((ctx.position(0), ctx.member.fetchable().count()), (Some(40), 1));
}

#[test]
fn before_a_position_out_of_range_is_reset_the_log_is_asked_whether_it_was_truncated() {
    let out_of_range = |ctx: &mut Context| {
        let epoch = ctx.member.fetchable().next().unwrap().epoch;
        ctx.step(Input::OutOfRange { partition: tp(0), epoch });
    };
    let mut ctx = validating(config());
    answer_end(&mut ctx, ErrorCode::None, 0, 25);
    out_of_range(&mut ctx);
    assert!(!ctx.has(RequestKind::ListOffsets));
    answer_end(&mut ctx, ErrorCode::None, 0, 15);
    assert_eq!(ctx.position(0), Some(15), "not the end or the beginning of the log");

    let mut ctx = validating(config());
    answer_end(&mut ctx, ErrorCode::None, 0, 25);
    out_of_range(&mut ctx);
    answer_end(&mut ctx, ErrorCode::None, 0, 25);
    assert_eq!(ctx.position(0), Some(20), "it agrees");
    out_of_range(&mut ctx);
    assert_eq!(asked_for(&ctx), -2, "the beginning of the log is above the position, then");
}

#[test]
fn brokers_that_let_no_client_ask_for_the_ends_of_epochs_hold_up_nothing() {
    let mut ctx = validating(config());
    answer_end(&mut ctx, ErrorCode::ClusterAuthorizationFailed, -1, -1);
    assert_eq!((ctx.position(0), ctx.member.fetchable().count()), (Some(20), 1));
}

/// KAFKA-15283: a topic that was deleted and made anew is another topic.
#[test]
fn topic_made_anew_does_not_inherit_the_position() {
    let topic = |id: u8| {
        let mut topics = metadata(4, 0);
        topics.get_mut("t").unwrap().id = Uuid::from_bytes([id; 16]);
        Input::Metadata(topics)
    };
    let mut ctx = Context::with(auto_commit());
    ctx.step(topic(1));
    ctx.stable(1, &[0]);
    ctx.consume(0, 30);
    ctx.step(topic(2));
    assert_eq!(ctx.position(0), None);
    let Request::FetchOffsets(fetch) = &ctx.find(RequestKind::FetchOffsets).unwrap().request else {
        panic!()
    };
    assert_eq!(fetch.topic_ids.values().next(), Some(&Uuid::from_bytes([2; 16])));
    ctx.sleep(5_000);
    assert!(
        !ctx.has(RequestKind::CommitOffsets),
        "30 of the old topic is not committed for the new one"
    );
}

/// Found by the simulation: an offset of the topic that is gone was committed for its successor, whose first records nobody read.
#[test]
fn topic_made_anew_does_not_inherit_a_commit_that_waits() {
    let topic = |id: u8| {
        let mut topics = metadata(4, 0);
        topics.get_mut("t").unwrap().id = Uuid::from_bytes([id; 16]);
        Input::Metadata(topics)
    };
    let mut ctx = Context::new();
    ctx.step(topic(1));
    ctx.stable(1, &[0]);
    let (first, second) = (ctx.commit_sync(&[(0, 30)]), ctx.commit_sync(&[(0, 40)]));
    ctx.step(topic(2));
    ctx.answer_commit(ErrorCode::UnknownTopicId);
    ctx.sleep(5_000);
    assert!(!ctx.has(RequestKind::CommitOffsets), "nothing of the old topic is sent any more");
    assert_eq!(ctx.outcome(first), Some(vec![ErrorKind::LostOwnership]));
    assert_eq!(ctx.outcome(second), Some(vec![ErrorKind::LostOwnership]));
}
