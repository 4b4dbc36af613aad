//! Offsets that transactions write, as they are found in a log: waiting, committed, aborted.

use kavka_protocol::{ByteString, ErrorCode, Uuid};

use super::context::*;
use crate::group::*;

fn offset(offset: i64) -> Record {
    Record::Offset {
        group: GROUP.into(),
        topic: "t".into(),
        partition: 0,
        value: Some(OffsetValue {
            offset,
            leader_epoch: 2,
            metadata: "in a transaction".into(),
            commit_timestamp_ms: 1_700_000_000_000,
            expire_timestamp_ms: None,
            topic_id: Uuid::ZERO,
        }),
    }
}

fn fetch(ctx: &mut Context, require_stable: bool) -> (i64, ErrorCode) {
    let topics = vec![FetchTopic { name: "t".into(), topic_id: Uuid::ZERO, partitions: vec![0] }];
    let request = FetchRequest { group: GROUP.into(), topics: Some(topics), require_stable };
    let row = ctx.fetch(request).topics[0].partitions[0].clone();
    (row.offset, row.error)
}

#[test]
fn offset_of_an_open_transaction_is_seen_when_it_is_committed_and_never_when_it_is_aborted() {
    for committed in [true, false] {
        let mut ctx = Context::new();
        ctx.commit(commit(-1, "", 5));
        ctx.write_and_apply(Logged::Transactional(9, offset(6)));
        for _ in 0..2 {
            assert_eq!(fetch(&mut ctx, false), (5, ErrorCode::None));
            assert_eq!(fetch(&mut ctx, true), (-1, ErrorCode::UnstableOffsetCommit));
            ctx.restart();
        }
        ctx.write_and_apply(Logged::Marker(9, committed));
        for _ in 0..2 {
            let expected = if committed { 6 } else { 5 };
            assert_eq!(fetch(&mut ctx, true), (expected, ErrorCode::None));
            ctx.restart();
        }
    }
}

/// The order of the log decides, live and in replay: not the order in which transactions end.
#[test]
fn commit_that_stands_later_in_the_log_wins_over_a_transaction_that_ends_later() {
    let mut ctx = Context::new();
    ctx.write_and_apply(Logged::Transactional(9, offset(6)));
    ctx.write_and_apply(Logged::Transactional(8, offset(8)));
    assert_eq!(ctx.commit(commit(-1, "", 7)), ErrorCode::None);
    ctx.write_and_apply(Logged::Marker(8, true));
    assert_eq!(fetch(&mut ctx, false), (7, ErrorCode::None));
    assert_eq!(fetch(&mut ctx, true), (-1, ErrorCode::UnstableOffsetCommit), "one is still open");
    ctx.write_and_apply(Logged::Marker(9, true));
    assert_eq!(fetch(&mut ctx, true), (7, ErrorCode::None));
    ctx.restart();
    assert_eq!(fetch(&mut ctx, true), (7, ErrorCode::None));
}

#[test]
fn offset_of_an_open_transaction_does_not_expire_and_keeps_its_group() {
    let mut ctx = Context::new();
    ctx.commit(commit(-1, "", 5));
    ctx.write_and_apply(Logged::Transactional(9, offset(6)));
    ctx.sleep(30 * 24 * 3_600_000);
    assert_eq!(fetch(&mut ctx, false), (5, ErrorCode::None));
    ctx.write_and_apply(Logged::Marker(9, false));
    ctx.sleep(600_000);
    assert_eq!(fetch(&mut ctx, false), (-1, ErrorCode::None));
    assert_eq!(ctx.state(), GroupState::Dead);

    // Also where nothing else was ever committed.
    ctx.write_and_apply(Logged::Transactional(9, offset(6)));
    ctx.restart();
    ctx.sleep(30 * 24 * 3_600_000);
    assert_eq!(ctx.state(), GroupState::Empty);
    assert!(ctx.fetch_all().is_empty(), "what is only pending is not listed");
}

#[test]
fn deleting_an_offset_a_group_or_a_topic_takes_along_what_is_pending() {
    type Delete = fn(&mut Context);
    let deletions: [Delete; 3] = [
        |ctx| assert_eq!(ctx.delete_offsets("t").topics[0].1, [(0, ErrorCode::None)]),
        |ctx| assert_eq!(ctx.delete_group(), ErrorCode::None),
        |ctx| {
            ctx.step(Input::TopicDeleted { name: "t".into(), topic_id: Uuid::ZERO });
        },
    ];
    for delete in deletions {
        for also_committed in [true, false] {
            let mut ctx = Context::new();
            if also_committed {
                ctx.commit(commit(-1, "", 5));
            }
            ctx.write_and_apply(Logged::Transactional(9, offset(6)));
            ctx.restart();
            delete(&mut ctx);
            ctx.write_and_apply(Logged::Marker(9, true));
            assert_eq!(ctx.shard.hard_state(), HardView::default());
        }
    }
}

/// Offsets of a later topic of that name stay, and those of an earlier one go, pending or not.
#[test]
fn deleted_topic_takes_only_its_own_pending_offsets_along() {
    let id = |byte| Uuid::from_bytes([byte; 16]);
    let of = |partition, topic_id| match offset(6) {
        Record::Offset { group, topic, value: Some(value), .. } => Record::Offset {
            group,
            topic,
            partition,
            value: Some(OffsetValue { topic_id, ..value }),
        },
        other => other,
    };
    let mut ctx = Context::new();
    ctx.write_and_apply(Logged::Transactional(9, of(0, id(1))));
    ctx.write_and_apply(Logged::Transactional(9, of(1, id(2))));
    ctx.restart();
    ctx.step(Input::TopicDeleted { name: "t".into(), topic_id: id(1) });
    let left: Vec<(ByteString, i32)> =
        ctx.shard.hard_state().pending.into_keys().map(|(_, topic, p, _)| (topic, p)).collect();
    assert_eq!(left, [("t".into(), 1)]);
}
