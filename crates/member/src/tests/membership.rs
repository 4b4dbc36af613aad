//! Joining, assigning, rebalancing, heartbeats.

use std::time::Duration;

use kavka_protocol::ErrorCode;

use super::context::*;
use crate::{request::RequestKind, *};

#[test]
fn member_joins_syncs_and_heartbeats() {
    let mut ctx = Context::new();
    ctx.subscribe();
    assert_eq!(ctx.find(RequestKind::FindCoordinator).unwrap().target, Target::AnyBroker);
    ctx.answer_find();
    let join = ctx.answer_join(5);
    assert_eq!((join.session_timeout_ms, join.rebalance_timeout_ms), (45_000, 300_000));
    assert_eq!(join.reason.as_deref(), Some("joining"));
    assert_eq!(ctx.member.state(), State::CompletingRebalance);
    ctx.sleep(3_000);
    ctx.answer_heartbeat(ErrorCode::None);
    ctx.answer_sync(&[1, 2]);
    ctx.answer_fetch(0);
    assert_eq!(ctx.member.state(), State::Stable);
    let Event::Assigned { generation, added, .. } = &ctx.events[0] else {
        panic!("{:?}", ctx.events)
    };
    assert_eq!((*generation, &added[..]), (5, &[tp(1), tp(2)][..]));
    for _ in 0..20 {
        ctx.step(Input::Poll);
        ctx.beat(ErrorCode::None);
        assert!(!ctx.has(RequestKind::Heartbeat));
    }
}

#[test]
fn leader_assigns_and_asks_for_a_rebalance_when_partitions_are_added() {
    let mut ctx = Context::new();
    ctx.subscribe();
    ctx.answer_find();
    let Request::Join(join) = ctx.find(RequestKind::Join).unwrap().request.clone() else {
        panic!()
    };
    let own = JoinedMember {
        member_id: "m".into(),
        instance_id: None,
        metadata: join.protocols[0].1.clone(),
    };
    let broken = JoinedMember { member_id: "x".into(), instance_id: None, metadata: "?".into() };
    let response = JoinResponse { leader: "m".into(), members: vec![own, broken], ..ctx.joined(1) };
    ctx.answer(RequestKind::Join, Response::Join(response));
    let Some(Event::Assign(task)) = ctx.events.first().cloned() else { panic!("{:?}", ctx.events) };
    assert_eq!(task.members[0].subscription.topics, ["t".into()].into());
    assert!(
        task.members[1].subscription.topics.is_empty(),
        "one bad member does not stop the group"
    );
    assert!(!ctx.has(RequestKind::Sync));

    let share = Assignment { partitions: [tp(0)].into(), user_data: None };
    let assignments = std::collections::BTreeMap::from([("m".into(), share.clone())]);
    let topics = metadata(4, 0).into_iter().map(|(name, topic)| (name, topic.shape()));
    let topics = std::collections::BTreeMap::from_iter(topics);
    let stale =
        Input::Assigned { generation: 0, assignments: assignments.clone(), topics: topics.clone() };
    ctx.step(stale);
    assert!(!ctx.has(RequestKind::Sync), "an assignment for an older round is not sent");
    ctx.step(Input::Assigned { generation: 1, assignments, topics });
    let Request::Sync(sync) = ctx.find(RequestKind::Sync).unwrap().request.clone() else {
        panic!()
    };
    assert_eq!(sync.assignments.len(), 2, "everyone gets a share, if only an empty one");
    assert_eq!(sync.assignments[0].1, share.encode());
    assert_eq!(sync.assignments[1].1[..2], [0, 0], "in a version that it surely speaks");
    ctx.answer_sync(&[0]);

    ctx.step(Input::Metadata(metadata(4, 3)));
    assert!(!ctx.has(RequestKind::Join), "another leader epoch is no reason");
    ctx.step(Input::Metadata(metadata(5, 3)));
    let Request::Join(join) = &ctx.find(RequestKind::Join).unwrap().request else { panic!() };
    assert!(join.reason.as_ref().unwrap().contains("topic t"));
}

#[test]
fn leader_that_is_told_to_skip_syncs_without_assigning_and_watches_the_topics() {
    let mut ctx = Context::new();
    ctx.subscribe();
    ctx.answer_find();
    let Request::Join(join) = ctx.find(RequestKind::Join).unwrap().request.clone() else {
        panic!()
    };
    let own = JoinedMember {
        member_id: "m".into(),
        instance_id: None,
        metadata: join.protocols[0].1.clone(),
    };
    let response = JoinResponse {
        leader: "m".into(),
        members: vec![own],
        skip_assignment: true,
        ..ctx.joined(1)
    };
    ctx.answer(RequestKind::Join, Response::Join(response));
    assert!(!ctx.events.iter().any(|event| matches!(event, Event::Assign(_))), "KIP-814");
    ctx.answer_sync(&[0]);
    ctx.step(Input::Metadata(metadata(5, 0)));
    assert!(ctx.has(RequestKind::Join), "KAFKA-13435");
}

/// Found by the simulation: a topic that came into being after an assignment without it stayed with nobody.
#[test]
fn leader_watches_topics_that_its_assignor_did_not_know() {
    let mut ctx = Context::new();
    ctx.step(Input::Metadata([].into()));
    ctx.subscribe();
    ctx.answer_find();
    let Request::Join(join) = ctx.find(RequestKind::Join).unwrap().request.clone() else {
        panic!()
    };
    let own = JoinedMember {
        member_id: "m".into(),
        instance_id: None,
        metadata: join.protocols[0].1.clone(),
    };
    let response = JoinResponse { leader: "m".into(), members: vec![own], ..ctx.joined(1) };
    ctx.answer(RequestKind::Join, Response::Join(response));
    ctx.step(Input::Assigned { generation: 1, assignments: [].into(), topics: [].into() });
    ctx.answer_sync(&[]);
    assert!(!ctx.has(RequestKind::Join));
    ctx.step(Input::Metadata(metadata(1, 0)));
    assert!(ctx.has(RequestKind::Join), "the topic is there now");
}

#[test]
fn assignor_that_fails_is_fatal() {
    let mut ctx = Context::new();
    ctx.subscribe();
    ctx.answer_find();
    let response = JoinResponse { leader: "m".into(), ..ctx.joined(1) };
    ctx.answer(RequestKind::Join, Response::Join(response));
    ctx.step(Input::AssignFailed { generation: 1, message: "no racks".into() });
    let error = ctx.error().unwrap();
    assert!(error.is_fatal() && error.to_string().contains("no racks"));
}

#[test]
fn eager_member_gives_everything_up_before_it_joins_again() {
    let mut ctx = Context::new();
    ctx.stable(1, &[0, 1]);
    ctx.drains = false;
    ctx.rebalance();
    assert!(!ctx.has(RequestKind::Join), "the application is not done yet");
    assert_eq!(ctx.member.fetchable().count(), 0, "nothing is fetched of what is on its way out");
    let Some(Event::Revoking { drain, deadline, .. }) = ctx.events.first().cloned() else {
        panic!()
    };
    assert!(deadline > ctx.now().monotonic);
    let commit = ctx.commit_sync(&[(0, 11)]);
    ctx.step(Input::Drained(DrainId(drain.0 + 1)));
    assert!(ctx.revoked().is_empty(), "another drain than the one that was asked for");
    ctx.step(Input::Drained(drain));
    assert!(ctx.revoked().is_empty(), "the commit is still under way");
    ctx.answer_commit(ErrorCode::None);
    assert_eq!(ctx.outcome(commit), Some(vec![]));
    assert_eq!(ctx.revoked(), [tp(0), tp(1)]);
    ctx.answer_join(2);
    ctx.answer_sync(&[1]);
    assert_eq!(ctx.member.owned(), [tp(1)].into());
}

#[test]
fn application_that_does_not_drain_is_not_waited_for_beyond_the_deadline() {
    let mut ctx = Context::new();
    ctx.stable(1, &[0]);
    ctx.drains = false;
    ctx.rebalance();
    let mut waited = 0;
    while ctx.revoked().is_empty() {
        assert!(waited < 300_000, "L1");
        ctx.sleep(3_000);
        waited += 3_000;
        if ctx.has(RequestKind::Heartbeat) {
            ctx.answer_heartbeat(ErrorCode::RebalanceInProgress);
        }
        ctx.step(Input::Poll);
    }
    assert!(ctx.has(RequestKind::Join));
}

#[test]
fn cooperative_member_keeps_what_stays_and_joins_once_more_for_what_goes() {
    let mut ctx = Context::with(cooperative());
    ctx.stable(1, &[0, 1]);
    ctx.rebalance();
    assert!(ctx.revoked().is_empty());
    let join = ctx.answer_join(2);
    let subscription = Subscription::decode(&join.protocols[0].1).unwrap();
    assert_eq!((subscription.owned, subscription.generation), ([tp(0), tp(1)].into(), 1));
    assert_eq!(ctx.member.fetchable().count(), 2, "KIP-429: work goes on");
    ctx.answer_sync(&[1, 2]);
    assert_eq!(ctx.revoked(), [tp(0)]);
    let join = ctx.answer_join(3);
    assert_eq!(join.reason.as_deref(), Some("need to revoke partitions and re-join"));
    ctx.answer_sync(&[1, 2]);
    assert_eq!(ctx.member.owned(), [tp(1), tp(2)].into());
    assert!(!ctx.has(RequestKind::Join), "L11");
}

/// KAFKA-12984, KAFKA-13419: what is owned across rounds that come to nothing.
#[test]
fn cooperative_member_keeps_what_it_owns_through_a_storm_of_interrupted_syncs() {
    let mut ctx = Context::with(cooperative());
    ctx.stable(1, &[0, 1]);
    ctx.rebalance();
    for generation in 2..30 {
        let join = ctx.answer_join(generation);
        let subscription = Subscription::decode(&join.protocols[0].1).unwrap();
        assert_eq!(
            subscription.generation,
            generation - 1,
            "each claim is as new as the last round"
        );
        assert_eq!(subscription.owned.len(), 2);
        let refusal = Response::Sync(Err(ErrorCode::RebalanceInProgress));
        ctx.answer(RequestKind::Sync, refusal);
        ctx.sleep(1_100);
    }
    assert!(ctx.lost().is_none() && ctx.revoked().is_empty());
}

#[test]
fn cooperative_member_that_missed_a_generation_gives_up_what_it_owned() {
    let mut ctx = Context::with(cooperative());
    ctx.stable(1, &[0, 1]);
    ctx.rebalance();
    ctx.answer_join(3);
    assert_eq!(ctx.lost().unwrap().1, &Cause::MissedGeneration);
    ctx.answer_sync(&[0]);
    assert_eq!(ctx.member.owned(), [tp(0)].into());
    assert!(
        ctx.has(RequestKind::Join),
        "what the leader kept back for it must not stay with nobody"
    );
}

#[test]
fn changed_subscription_is_joined_with_and_revokes_what_is_not_wanted() {
    for settings in [config(), cooperative()] {
        let mut ctx = Context::with(settings);
        ctx.stable(1, &[0]);
        ctx.subscribe_to(&["u"]);
        assert_eq!(ctx.revoked(), [tp(0)]);
        let join = ctx.answer_join(2);
        let subscription = Subscription::decode(&join.protocols[0].1).unwrap();
        assert_eq!(subscription.topics, ["u".into()].into());
        ctx.subscribe_to(&["t"]);
        ctx.answer_sync(&[]);
        assert!(ctx.has(RequestKind::Join), "it changed again in between");
    }
}

#[test]
fn assignment_of_a_topic_that_is_not_subscribed_to_is_not_taken_and_not_asked_for_in_a_circle() {
    let mut ctx = Context::new();
    ctx.subscribe_to(&["u"]);
    ctx.answer_find();
    let mut rounds = 0;
    for generation in 1..100 {
        if !ctx.has(RequestKind::Join) {
            break;
        }
        ctx.answer_join(generation);
        ctx.answer_sync(&[0]);
        assert!(ctx.member.owned().is_empty());
        rounds += 1;
    }
    assert!(rounds <= 2, "the next round waits: {rounds}");
}

/// KAFKA-9823: an answer about a generation that is over changes nothing.
#[test]
fn heartbeat_answer_about_an_older_generation_is_ignored() {
    let mut ctx = Context::with(cooperative());
    ctx.stable(1, &[0]);
    ctx.sleep(3_000);
    let old = ctx.take(RequestKind::Heartbeat);
    ctx.step(Input::EnforceRebalance { reason: "test".into() });
    ctx.answer_join(2);
    ctx.answer_sync(&[0]);
    for code in
        [ErrorCode::IllegalGeneration, ErrorCode::UnknownMemberId, ErrorCode::FencedInstanceId]
    {
        ctx.step(Input::Response(old.id, Response::Heartbeat(code)));
    }
    assert_eq!((ctx.member.state(), ctx.member.generation()), (State::Stable, 2));
    assert!(ctx.lost().is_none() && ctx.error().is_none());
}

#[test]
fn application_that_does_not_poll_leaves_and_comes_back_with_its_next_poll() {
    let mut ctx = Context::new();
    ctx.stable(1, &[0]);
    while ctx.lost().is_none() {
        ctx.sleep(3_000);
        if ctx.has(RequestKind::Heartbeat) {
            ctx.answer_heartbeat(ErrorCode::None);
        }
        assert!(ctx.now_ms < 302_000);
    }
    assert_eq!(ctx.lost().unwrap().1, &Cause::PollOverdue);
    let Request::Leave(leave) = &ctx.find(RequestKind::Leave).unwrap().request else { panic!() };
    assert!(leave.reason.as_ref().unwrap().contains("max.poll.interval.ms"), "KIP-800");
    ctx.answer(RequestKind::Leave, Response::Leave(ErrorCode::None));
    ctx.sleep(60_000);
    assert!(ctx.requests.is_empty());
    ctx.step(Input::Poll);
    let Request::Join(join) = &ctx.find(RequestKind::Join).unwrap().request else { panic!() };
    assert!(join.member_id.is_empty());
}

#[test]
fn static_member_that_does_not_poll_says_nothing() {
    let settings = MemberConfig { group_instance_id: Some("i".into()), ..config() };
    let mut ctx = Context::with(settings);
    ctx.stable(1, &[0]);
    while ctx.lost().is_none() {
        ctx.sleep(3_000);
        if ctx.has(RequestKind::Heartbeat) {
            ctx.answer_heartbeat(ErrorCode::None);
        }
    }
    ctx.sleep(60_000);
    assert!(!ctx.has(RequestKind::Leave), "KIP-345");
    ctx.step(Input::Poll);
    let Request::Join(join) = &ctx.find(RequestKind::Join).unwrap().request else { panic!() };
    assert_eq!((&*join.member_id, join.instance_id.as_deref()), ("", Some("i")));
}

/// L10: a broker that is back within the session costs no rebalance.
#[test]
fn coordinator_that_restarts_costs_no_rebalance() {
    let mut ctx = Context::new();
    ctx.stable(1, &[0]);
    ctx.sleep(3_000);
    ctx.fail(RequestKind::Heartbeat, Failure::Disconnected);
    for _ in 0..5 {
        ctx.fail(RequestKind::FindCoordinator, Failure::Disconnected);
        ctx.sleep(1_000);
    }
    ctx.answer_find();
    ctx.sleep(1_000);
    ctx.answer_heartbeat(ErrorCode::None);
    assert_eq!((ctx.member.state(), ctx.member.generation()), (State::Stable, 1));
    assert!(!ctx.has(RequestKind::Join) && ctx.events.is_empty());
}

#[test]
fn request_that_is_never_answered_closes_the_connection_and_is_sent_again() {
    let mut ctx = Context::new();
    ctx.subscribe();
    ctx.answer_find();
    ctx.sleep(304_999);
    assert_eq!(ctx.disconnects, 0, "JoinGroup waits for the slowest member");
    let late = ctx.find(RequestKind::Join).unwrap().id;
    ctx.sleep(1);
    assert_eq!(ctx.disconnects, 1);
    ctx.answer_find();
    let again = ctx.find(RequestKind::Join).unwrap().id;
    assert_ne!(late, again);
    let response = Response::Join(JoinResponse { generation: 9, ..ctx.joined(9) });
    ctx.step(Input::Response(late, response));
    assert_eq!(ctx.member.generation(), -1, "an answer that comes too late is none");
}

/// L5, KAFKA-10793: a lookup that fails is tried again, also when nobody answers it.
#[test]
fn lookup_of_the_coordinator_never_ends_in_silence() {
    let mut ctx = Context::new();
    ctx.subscribe();
    ctx.sleep(31_000);
    ctx.fail(RequestKind::FindCoordinator, Failure::Disconnected);
    ctx.sleep(1_000);
    ctx.answer_find();
    assert!(ctx.has(RequestKind::Join));
}

#[test]
fn broker_that_is_pointed_at_but_refuses_is_not_asked_in_a_circle() {
    let mut ctx = Context::new();
    ctx.subscribe();
    let mut asked = 0;
    while ctx.has(RequestKind::FindCoordinator) {
        ctx.answer_find();
        ctx.refuse_join(ErrorCode::NotCoordinator);
        asked += 1;
        assert!(asked < 5, "no circle without time");
    }
    ctx.sleep(1_000);
    assert!(ctx.has(RequestKind::FindCoordinator));
}

#[test]
fn coordinator_that_does_not_know_anyone_is_not_asked_in_a_circle() {
    let mut ctx = Context::new();
    ctx.subscribe();
    ctx.answer_find();
    let mut asked = 0;
    while ctx.has(RequestKind::Join) {
        ctx.refuse_join(ErrorCode::UnknownMemberId);
        asked += 1;
        assert!(asked < 5, "no circle without time");
    }
    ctx.sleep(1_000);
    assert!(ctx.has(RequestKind::Join));
}

#[test]
fn misuse_is_told_and_changes_nothing() {
    let mut ctx = Context::new();
    ctx.step(Input::AssignSelf([tp(0)].into()));
    ctx.subscribe();
    assert!(matches!(ctx.error().unwrap().kind, ErrorKind::Misuse(_)));
    ctx.events.clear();
    ctx.step(Input::Seek { partition: tp(3), target: OffsetTarget::Earliest });
    assert!(matches!(ctx.error().unwrap().kind, ErrorKind::Misuse(_)));
    let mut ctx = Context::with(MemberConfig { group_id: None, ..config() });
    ctx.subscribe();
    assert!(!ctx.error().unwrap().is_fatal());
    assert!(ctx.requests.is_empty());
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let bad = MemberConfig { heartbeat_interval: Duration::from_secs(60), ..config() };
    assert!(Member::new(bad, 1).is_err());
}
