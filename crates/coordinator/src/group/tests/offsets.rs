//! Committing, fetching, deleting and expiring offsets.

use std::time::Duration;

use kavka_protocol::{ByteString, ErrorCode, Uuid};

use super::{context::*, dynamic_members::as_member};
use crate::group::*;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

fn id(byte: u8) -> Uuid {
    Uuid::from_bytes([byte; 16])
}

fn partition(partition: i32, offset: i64) -> CommitPartition {
    CommitPartition { partition, offset, leader_epoch: -1, metadata: None }
}

fn topic(name: &str, topic_id: Uuid, partitions: Vec<CommitPartition>) -> CommitTopic {
    CommitTopic { name: name.into(), topic_id, partitions }
}

#[test]
fn consumer_that_assigns_itself_commits_and_fetches() {
    let mut ctx = Context::new();
    assert_eq!(ctx.committed(), -1);
    assert_eq!(ctx.commit(commit(-1, "", 42)), ErrorCode::None);
    let topics =
        vec![FetchTopic { name: "t".into(), topic_id: Uuid::ZERO, partitions: vec![0, 1] }];
    let request = FetchRequest { group: GROUP.into(), topics: Some(topics), require_stable: true };
    let reply = ctx.fetch(request);
    let [first, second] = &reply.topics[0].partitions[..] else { panic!("{reply:?}") };
    assert_eq!((first.offset, first.leader_epoch, &*first.metadata), (42, 3, "note"));
    assert_eq!(*second, FetchedPartition::none(1, ErrorCode::None));
    let group = ctx.describe();
    assert_eq!((group.state, &*group.protocol_type), (GroupState::Empty, ""));
    assert_eq!(ctx.stored(), None, "a group without members has no record of its own");
}

#[test]
fn group_without_offsets_has_none_which_is_no_error() {
    let mut ctx = Context::new();
    assert!(ctx.fetch_all().is_empty());
    let reply = ctx.fetch(FetchRequest {
        group: "nobody".into(),
        topics: Some(vec![FetchTopic { name: "t".into(), topic_id: id(1), partitions: vec![3] }]),
        require_stable: false,
    });
    assert_eq!(reply.error, ErrorCode::None);
    assert_eq!(reply.topics[0].partitions, [FetchedPartition::none(3, ErrorCode::None)]);
}

#[test]
fn empty_group_id_may_commit_and_fetch() {
    let mut ctx = Context::new();
    let request = CommitRequest { group: "".into(), ..commit(-1, "", 42) };
    assert_eq!(ctx.commit(request), ErrorCode::None);
    let request = FetchRequest { group: "".into(), topics: None, require_stable: false };
    assert_eq!(ctx.fetch(request).topics[0].partitions[0].offset, 42);
}

#[test]
fn who_may_commit() {
    let mut ctx = Context::new();
    assert_eq!(ctx.commit(commit(0, "m", 1)), ErrorCode::GroupIdNotFound);
    let ids = ctx.stable(2);
    let codes = [
        (commit(1, &ids[0], 1), ErrorCode::None),
        (commit(-1, "", 1), ErrorCode::UnknownMemberId),
        (commit(1, "", 1), ErrorCode::UnknownMemberId),
        (commit(1, "m", 1), ErrorCode::UnknownMemberId),
        (commit(7, "m", 1), ErrorCode::UnknownMemberId),
        (commit(0, &ids[0], 1), ErrorCode::IllegalGeneration),
        (commit(2, &ids[0], 1), ErrorCode::IllegalGeneration),
        (commit(-1, &ids[0], 1), ErrorCode::IllegalGeneration),
    ];
    for (request, code) in codes {
        assert_eq!(ctx.commit(request.clone()), code, "{request:?}");
    }
    // The generation that ends may still commit; the next one not before it has its assignment.
    ctx.join(JoinRequest { member_id: ids[0].clone(), ..join() });
    assert_eq!(ctx.commit(commit(1, &ids[1], 2)), ErrorCode::None);
    ctx.join(JoinRequest { member_id: ids[1].clone(), ..join() });
    assert_eq!(ctx.state(), GroupState::CompletingRebalance);
    assert_eq!(ctx.commit(commit(1, &ids[1], 3)), ErrorCode::IllegalGeneration);
    assert_eq!(ctx.commit(commit(2, &ids[1], 3)), ErrorCode::RebalanceInProgress);
    assert_eq!(ctx.committed(), 2);
    assert!(ctx.told("was refused in group g in generation 2: REBALANCE_IN_PROGRESS"));
    // Empty again: an operator may commit, a former member may not.
    ctx.leave(&[(&ids[0], None), (&ids[1], None)]);
    assert_eq!(ctx.commit(commit(3, &ids[1], 4)), ErrorCode::UnknownMemberId);
    assert_eq!(ctx.commit(commit(-1, "", 9)), ErrorCode::None);
    assert_eq!(ctx.committed(), 9);
}

#[test]
fn commits_keep_the_session() {
    let mut ctx = Context::new();
    let ids = ctx.stable(1);
    for offset in 0..20 {
        ctx.sleep(5_000);
        assert_eq!(ctx.commit(commit(1, &ids[0], offset)), ErrorCode::None);
    }
    assert_eq!(ctx.heartbeat(&ids[0], 1), ErrorCode::None);
}

#[test]
fn long_note_fails_its_partition_only() {
    let mut ctx = Context::new();
    // Java counts UTF-16 units: 4,096 letters of two bytes each are allowed, 2,049 pairs are not.
    let notes = ["ä".repeat(4_096), "x".repeat(4_097), "😀".repeat(2_048), "😀".repeat(2_049)];
    let partitions = (0..)
        .zip(notes)
        .map(|(at, note)| CommitPartition { metadata: Some(note.into()), ..partition(at, 7) });
    let topics = vec![topic("t", Uuid::ZERO, partitions.collect())];
    let rows = ctx.commit_rows(CommitRequest { topics, ..commit(-1, "", 0) });
    let codes: Vec<ErrorCode> = rows[0].partitions.iter().map(|(_, code)| *code).collect();
    let too_large = ErrorCode::OffsetMetadataTooLarge;
    assert_eq!(codes, [ErrorCode::None, too_large, ErrorCode::None, too_large]);
    assert_eq!(ctx.fetch_all()[0].partitions.len(), 2);
}

#[test]
fn commit_that_fits_into_no_batch_is_refused_whole() {
    let mut ctx = Context::with(GroupConfig { max_batch_bytes: 500, ..GroupConfig::default() });
    let many = (0..20).map(|at| partition(at, 1)).collect();
    let request = CommitRequest { topics: vec![topic("t", Uuid::ZERO, many)], ..commit(-1, "", 0) };
    assert_eq!(ctx.commit(request), ErrorCode::InvalidCommitOffsetSize);
    assert_eq!(ctx.log, []);
    assert_eq!(ctx.state(), GroupState::Dead, "no group is left behind");
}

#[test]
fn offsets_of_a_request_are_one_batch_and_carry_their_topic_id() {
    let mut ctx = Context::new();
    let topics = vec![
        topic("b", id(2), vec![partition(1, 10), partition(0, 20)]),
        topic("a", id(1), vec![partition(5, 30)]),
    ];
    let request_id = ctx.new_request();
    let request = Request::CommitOffsets(CommitRequest { topics, ..commit(-1, "", 0) });
    let output = ctx.step(Input::Request(request_id, request));
    assert_eq!(output.records.len(), 3);
    let all = ctx.fetch_all();
    let names: Vec<(&str, Uuid)> = all.iter().map(|topic| (&*topic.name, topic.topic_id)).collect();
    assert_eq!(names, [("a", id(1)), ("b", id(2))]);
    let partitions: Vec<i32> = all[1].partitions.iter().map(|p| p.partition).collect();
    assert_eq!(partitions, [0, 1]);
}

#[test]
fn offset_of_a_former_topic_of_that_name_does_not_count() {
    let mut ctx = Context::new();
    let topics = vec![topic("t", id(1), vec![partition(0, 10)])];
    ctx.commit(CommitRequest { topics, ..commit(-1, "", 0) });
    let mut fetch = |topic_id| {
        let topics = vec![FetchTopic { name: "t".into(), topic_id, partitions: vec![0] }];
        let request =
            FetchRequest { group: GROUP.into(), topics: Some(topics), require_stable: false };
        ctx.fetch(request).topics[0].partitions[0].offset
    };
    assert_eq!([fetch(id(1)), fetch(id(2)), fetch(Uuid::ZERO)], [10, -1, 10]);
}

#[test]
fn deleted_topic_takes_its_offsets_along() {
    let mut ctx = Context::new();
    let topics = vec![
        topic("t", id(1), vec![partition(0, 10), partition(1, 11)]),
        topic("u", id(3), vec![partition(0, 12)]),
    ];
    ctx.commit(CommitRequest { topics, ..commit(-1, "", 0) });
    // It was made anew, and someone was quick to commit.
    let topics = vec![topic("t", id(2), vec![partition(1, 1)])];
    ctx.commit(CommitRequest { topics, ..commit(-1, "", 0) });
    ctx.step(Input::TopicDeleted { name: "t".into(), topic_id: id(1) });
    let left: Vec<(ByteString, i32, i64)> = ctx
        .fetch_all()
        .into_iter()
        .flat_map(|t| {
            t.partitions.into_iter().map(move |p| (t.name.clone(), p.partition, p.offset))
        })
        .collect();
    assert_eq!(left, [("t".into(), 1, 1), ("u".into(), 0, 12)]);
    assert!(ctx.told("(topic deleted): t-0"));
}

#[test]
fn offsets_are_deleted_unless_a_member_reads_the_topic() {
    let mut ctx = Context::new();
    assert_eq!(ctx.delete_offsets("t").error, ErrorCode::GroupIdNotFound);
    let ids = ctx.stable(1);
    let topics = ["t", "u"].map(|name| topic(name, Uuid::ZERO, vec![partition(0, 1)])).to_vec();
    ctx.commit(CommitRequest { topics, ..commit(1, &ids[0], 0) });
    assert_eq!(ctx.delete_offsets("t").topics[0].1, [(0, ErrorCode::GroupSubscribedToTopic)]);
    assert_eq!(ctx.delete_offsets("u").topics[0].1, [(0, ErrorCode::None)]);
    assert_eq!(ctx.delete_offsets("never").topics[0].1, [(0, ErrorCode::None)]);
    assert_eq!(ctx.fetch_all().len(), 1);
    ctx.leave(&[(&ids[0], None)]);
    assert_eq!(ctx.delete_offsets("t").topics[0].1, [(0, ErrorCode::None)]);
    assert!(ctx.fetch_all().is_empty());
    let request = DeleteOffsetsRequest { group: "".into(), topics: Vec::new() };
    let reply = ctx.call(Request::DeleteOffsets(request));
    assert!(matches!(reply, Reply::DeleteOffsets(r) if r.error == ErrorCode::InvalidGroupId));
}

#[test]
fn offsets_of_a_live_group_of_others_are_not_deleted() {
    let mut ctx = Context::new();
    ctx.stable_of([JoinRequest { protocol_type: "connect".into(), ..join() }]);
    assert_eq!(ctx.delete_offsets("t").error, ErrorCode::NonEmptyGroup);
}

#[test]
fn subscription_that_cannot_be_read_counts_for_every_topic() {
    let mut ctx = Context::new();
    let ids =
        ctx.stable_of([JoinRequest { protocols: vec![("range".into(), "??".into())], ..join() }]);
    ctx.commit(commit(1, &ids[0], 1));
    assert_eq!(ctx.delete_offsets("t").topics[0].1, [(0, ErrorCode::GroupSubscribedToTopic)]);
}

#[test]
fn offsets_of_an_empty_group_expire_after_the_retention_since_it_is_empty() {
    let mut ctx = Context::new();
    let ids = ctx.stable(1);
    ctx.commit(commit(1, &ids[0], 5));
    ctx.idle(60_000, &ids, 1);
    ctx.leave(&[(&ids[0], None)]);
    let emptied = ctx.now_ms;
    ctx.sleep(7 * DAY_MS - 1);
    assert_eq!(ctx.committed(), 5);
    ctx.sleep(600_000);
    assert_eq!(ctx.committed(), -1);
    assert!(ctx.now_ms >= emptied + 7 * DAY_MS);
    assert_eq!(ctx.state(), GroupState::Dead, "and the group goes with its last offset");
    assert!(ctx.told("Expiring offsets of group g: t-0."));
}

#[test]
fn offsets_of_a_consumer_that_assigns_itself_expire_after_the_commit() {
    let mut ctx = Context::new();
    ctx.commit(commit(-1, "", 5));
    ctx.sleep(6 * DAY_MS);
    let topics = vec![topic("u", Uuid::ZERO, vec![partition(0, 6)])];
    ctx.commit(CommitRequest { topics, ..commit(-1, "", 0) });
    ctx.sleep(DAY_MS + 600_000);
    let left = ctx.fetch_all();
    assert_eq!((left.len(), &*left[0].name), (1, "u"));
    ctx.sleep(6 * DAY_MS);
    assert_eq!(ctx.state(), GroupState::Dead);
}

#[test]
fn offsets_with_a_retention_of_their_own_expire_by_it() {
    let mut ctx = Context::new();
    let request = CommitRequest { retention_time_ms: Some(1_000_000), ..commit(-1, "", 5) };
    ctx.commit(request);
    let fetched = ctx.fetch_all();
    assert_eq!(fetched[0].partitions[0].leader_epoch, -1, "the stored version has no room for it");
    ctx.sleep(900_000);
    assert_eq!(ctx.committed(), 5);
    ctx.sleep(600_000);
    assert_eq!(ctx.committed(), -1);
    // Longer than the broker's retention counts as well; -1 is none at all.
    let long = i64::try_from(20 * DAY_MS).unwrap();
    ctx.commit(CommitRequest { retention_time_ms: Some(long), ..commit(-1, "", 6) });
    ctx.sleep(19 * DAY_MS);
    assert_eq!(ctx.committed(), 6);
    ctx.commit(CommitRequest { retention_time_ms: Some(-1), ..commit(-1, "", 7) });
    assert_eq!(ctx.fetch_all()[0].partitions[0].leader_epoch, 3);
}

#[test]
fn group_that_nobody_uses_is_forgotten_at_the_next_check() {
    let mut ctx = Context::new();
    ctx.join_now(join());
    assert_eq!(ctx.state(), GroupState::Empty);
    ctx.sleep(600_000);
    assert_eq!(ctx.state(), GroupState::Dead);
    assert_eq!(ctx.stored(), None);
}

#[test]
fn expiry_is_cut_into_batches_that_the_log_takes() {
    let config = GroupConfig { max_batch_bytes: 2_000, ..GroupConfig::default() };
    let mut ctx = Context::with(config);
    for group in ["g1", "g2", "g3"] {
        for at in 0..100 {
            let topics = vec![topic("t", Uuid::ZERO, vec![partition(at, 1)])];
            ctx.commit(CommitRequest { group: group.into(), topics, ..commit(-1, "", 0) });
        }
    }
    ctx.sleep(8 * DAY_MS);
    assert_eq!(ctx.shard.hard_state(), HardView::default());
    let batches = ctx.events.iter().filter(|e| matches!(e.kind, EventKind::OffsetsExpired { .. }));
    assert!(batches.count() > 5);
}

/// Cleaning that is larger than a batch is cut; what a request commits never is.
#[test]
fn deleting_much_is_cut_into_batches_that_the_log_takes() {
    let config = GroupConfig { max_batch_bytes: 2_000, ..GroupConfig::default() };
    let groups: Vec<ByteString> = ["g1", "g2", "g3"].map(ByteString::from).to_vec();
    let fill = |ctx: &mut Context| {
        for group in &groups {
            for at in 0..100 {
                let topics = vec![topic("t", id(1), vec![partition(at, 1)])];
                ctx.commit(CommitRequest { group: group.clone(), topics, ..commit(-1, "", 0) });
            }
        }
    };
    // That no batch is too large is checked at each step.
    let mut ctx = Context::with(config.clone());
    fill(&mut ctx);
    let reply = ctx.call(Request::DeleteGroups(groups.clone()));
    let deleted = groups.iter().map(|group| (group.clone(), ErrorCode::None)).collect();
    assert_eq!(reply, Reply::DeleteGroups(deleted));
    assert_eq!(ctx.shard.hard_state(), HardView::default());

    let mut ctx = Context::with(config.clone());
    fill(&mut ctx);
    let first = ctx.step(Input::TopicDeleted { name: "t".into(), topic_id: id(1) });
    assert_eq!(first.batches(config.max_batch_bytes).count(), 1);
    let left = 300 - first.records.len();
    assert_eq!(ctx.shard.hard_state().offsets.len(), left);
    assert_eq!(ctx.shard.deletions_under_way().count(), 1);
    // Requests get their turn in between. What is committed to a new topic of that name stays.
    let topics = vec![topic("t", id(2), vec![partition(7, 1)])];
    ctx.commit(CommitRequest { group: "g3".into(), topics, ..commit(-1, "", 0) });
    assert!(left > 100, "g3 is the last");
    ctx.sleep(1_000);
    assert_eq!(ctx.shard.deletions_under_way().count(), 0);
    let offsets = ctx.shard.hard_state().offsets;
    assert_eq!(offsets.keys().collect::<Vec<_>>(), [&("g3".into(), "t".into(), 7)]);
}

#[test]
fn deletions_of_topics_that_come_together_are_all_finished() {
    let config = GroupConfig { max_batch_bytes: 2_000, ..GroupConfig::default() };
    let mut ctx = Context::with(config);
    for at in 0..200 {
        for (name, topic_id) in [("t", id(1)), ("u", id(2))] {
            let topics = vec![topic(name, topic_id, vec![partition(at, 1)])];
            ctx.commit(CommitRequest { topics, ..commit(-1, "", 0) });
        }
    }
    ctx.step(Input::TopicDeleted { name: "t".into(), topic_id: id(1) });
    ctx.step(Input::TopicDeleted { name: "u".into(), topic_id: id(2) });
    let under_way: Vec<_> =
        ctx.shard.deletions_under_way().map(|(name, _)| name.to_string()).collect();
    assert_eq!(under_way, ["t", "u"]);
    ctx.sleep(1_000);
    assert_eq!(ctx.shard.hard_state().offsets.len(), 0);
}

#[test]
fn wall_clock_that_jumps_expires_no_member() {
    let mut ctx = Context::new();
    let ids = ctx.stable(1);
    ctx.wall_ms += 1_000_000_000;
    ctx.idle(20_000, &ids, 1);
    ctx.wall_ms -= 2_000_000_000;
    ctx.idle(20_000, &ids, 1);
    ctx.commit(commit(1, &ids[0], 5));
    ctx.idle(700_000, &ids, 1);
    assert_eq!(ctx.committed(), 5);
}

#[test]
fn settings_change_while_it_runs() {
    let mut ctx = Context::new();
    ctx.commit(commit(-1, "", 5));
    let config = GroupConfig { offsets_retention: Duration::from_secs(60), ..ctx.config.clone() };
    ctx.step(Input::Configure(config));
    ctx.sleep(600_000);
    assert_eq!(ctx.committed(), -1);
}

#[test]
fn topic_a_member_asks_for_is_subscribed_from_the_next_generation_on() {
    let mut ctx = Context::new();
    let ids = ctx.stable(2);
    let change = JoinRequest {
        protocols: vec![("range".into(), subscription(&["other"]))],
        ..as_member(&ids[1])
    };
    ctx.join(change);
    assert_eq!(ctx.state(), GroupState::PreparingRebalance);
    let code = |ctx: &mut Context, topic| ctx.delete_offsets(topic).topics[0].1[0].1;
    assert_eq!(code(&mut ctx, "t"), ErrorCode::GroupSubscribedToTopic);
    assert_eq!(code(&mut ctx, "other"), ErrorCode::None);
    ctx.join(as_member(&ids[0]));
    assert_eq!(code(&mut ctx, "other"), ErrorCode::GroupSubscribedToTopic);
}
