//! Which values are in the logs, and who reads them.

use kavka_checker::{Isolation, Op, Settings};

use crate::story::*;

#[test]
fn offsets_hold_one_value() {
    run(&[
        (
            "two sends are told the same offset",
            |s| {
                s.did(1, Ok, sent("x", 641, 537)).did(2, Ok, sent("x", 645, 537));
            },
            &["inconsistent-offsets"],
        ),
        (
            "a send and a poll disagree",
            |s| {
                s.did(1, Ok, sent("x", 1, 0)).did(2, Ok, send("x", 2));
                s.did(3, Ok, poll(&[("x", &[(0, 2)])]));
            },
            &["inconsistent-offsets", "lost-write"],
        ),
        (
            "what nobody knows of need not be in the log",
            |s| {
                s.did(1, Info, txn([sends("x", 1, Some(0)), sends("y", 1, None)]));
                s.did(2, Ok, sent("x", 2, 0));
            },
            &[],
        ),
        (
            "but it is if somebody reads a part of it",
            |s| {
                s.did(1, Info, txn([sends("x", 1, Some(0)), sends("y", 1, None)]));
                s.did(2, Ok, sent("x", 2, 0));
                s.did(3, Ok, poll(&[("y", &[(5, 1)])]));
            },
            &["inconsistent-offsets"],
        ),
        (
            "partitions have offsets of their own",
            |s| {
                s.did(1, Ok, sent("x", 1, 0)).did(1, Ok, sent("y", 2, 0));
            },
            &[],
        ),
    ]);
}

#[test]
fn values_are_at_one_offset() {
    run(&[
        (
            "sent to one offset, read at another",
            |s| {
                s.did(1, Ok, sent("x", 1, 1)).did(2, Info, send("x", 2));
                s.did(3, Ok, poll(&[("x", &[(2, 2), (3, 1)])]));
            },
            &["(G0)", "duplicate"],
        ),
        (
            "without idempotence that is allowed",
            |s| {
                s.note(0, Op::Settings(Settings { idempotent: false, ..Settings::default() }));
                s.did(1, Ok, sent("x", 1, 1)).did(2, Info, send("x", 2));
                s.did(3, Ok, poll(&[("x", &[(2, 2), (3, 1)])]));
            },
            &["(G0)", "(duplicate)"],
        ),
        (
            "polls that failed count, sends that failed do not",
            |s| {
                s.did(1, Ok, sent("x", 1, 1)).did(2, Fail, sent("x", 2, 2));
                s.did(3, Fail, poll(&[("x", &[(11, 1), (12, 2)])]));
            },
            &["duplicate"],
        ),
        (
            "reading one offset twice is no duplicate",
            |s| {
                s.did(1, Ok, sent("x", 1, 1));
                s.did(2, Ok, poll(&[("x", &[(1, 1)])])).did(3, Ok, poll(&[("x", &[(1, 1)])]));
            },
            &[],
        ),
    ]);
}

/// Ten values at two offsets: each is at both, and both hold all of them.
#[test]
fn every_duplicate_is_told_however_many_share_an_offset() {
    let mut story = Story::default();
    for value in 0..10 {
        story.did(1, Ok, sent("x", value, 0)).did(2, Ok, poll(&[("x", &[(1, value)])]));
    }
    let report = story.judge();
    let count =
        |name: &str| report.anomalies.iter().filter(|found| found.kind.name() == name).count();
    assert_eq!((count("duplicate"), count("inconsistent-offsets")), (10, 2));
}

#[test]
fn aborted_values_are_not_read() {
    let aborted = |s: &mut Story| {
        s.did(1, Fail, txn([sends("x", 2, None), sends("y", 3, None)]));
        s.did(2, Ok, poll(&[("x", &[(0, 2)])]));
    };
    let mut story = Story::default();
    aborted(&mut story);
    assert_eq!(story.found(), ["aborted-read"]);

    let mut story = Story::default();
    let isolation = Isolation::ReadUncommitted;
    story.note(0, Op::Settings(Settings { isolation, ..Settings::default() }));
    aborted(&mut story);
    assert_eq!(story.found(), ["(aborted-read)"]);
    // What failed outside of a transaction is not in the log at all.
    story.did(1, Fail, send("x", 9)).did(2, Ok, poll(&[("x", &[(1, 9)])]));
    assert_eq!(story.found(), ["(aborted-read)", "aborted-read"]);

    run(&[
        (
            "who failed itself has not read",
            |s| {
                s.did(1, Fail, send("x", 2)).did(2, Fail, txn([polls(&[("x", &[(0, 2)])])]));
            },
            &[],
        ),
        (
            "nobody sent it",
            |s| {
                s.did(2, Ok, poll(&[("x", &[(0, 77)])]));
            },
            &["unknown-value"],
        ),
        (
            "a transaction reads what it sends",
            |s| {
                s.did(1, Ok, txn([sends("x", 1, Some(0)), polls(&[("x", &[(0, 1)])])]));
            },
            &["precommitted-read"],
        ),
        (
            "also if it is aborted in the end",
            |s| {
                s.did(1, Fail, txn([sends("x", 1, Some(0)), polls(&[("x", &[(0, 1)])])]));
            },
            &["precommitted-read"],
        ),
    ]);
}

#[test]
fn what_is_below_what_was_read_was_read_too() {
    run(&[
        (
            "two values below one that was read",
            |s| {
                s.did(1, Ok, sent("x", 1, 0));
                s.did(1, Ok, txn([sends("x", 2, Some(1)), sends("x", 4, Some(3))]));
                s.did(2, Info, send("x", 3)).did(3, Ok, poll(&[("x", &[(2, 3)])]));
            },
            &["(G0)", "(int-send-skip)", "lost-write"],
        ),
        (
            "one that was overwritten",
            |s| {
                s.did(1, Ok, sent("x", 1, 0));
                s.did(2, Ok, txn([sends("x", 2, Some(0)), sends("x", 3, Some(2))]));
                s.did(3, Ok, poll(&[("x", &[(0, 2), (2, 3)])]));
            },
            &["inconsistent-offsets", "lost-write"],
        ),
        (
            "a transaction of which nobody knows, and nobody has read",
            |s| {
                s.did(1, Info, txn([sends("x", 1, None), sends("y", 2, Some(0))]));
                s.did(2, Info, send("y", 3)).did(3, Ok, poll(&[("y", &[(1, 3)])]));
            },
            &[],
        ),
        (
            "the same, but somebody has read the other half",
            |s| {
                s.did(1, Info, txn([sends("x", 1, None), sends("y", 2, Some(0))]));
                s.did(2, Info, send("y", 3)).did(3, Ok, poll(&[("y", &[(1, 3)])]));
                s.did(4, Ok, poll(&[("x", &[(0, 1)])]));
            },
            &["lost-write"],
        ),
        (
            "what was never read above it is only not seen yet",
            |s| {
                s.did(1, Ok, sent("x", 1, 0)).did(1, Ok, sent("x", 2, 1));
                s.did(3, Ok, poll(&[("x", &[(0, 1)])]));
            },
            &[],
        ),
        (
            "polls that failed do not count as reading",
            |s| {
                s.did(1, Ok, sent("x", 1, 0)).did(1, Ok, sent("x", 2, 1));
                s.did(3, Fail, txn([polls(&[("x", &[(0, 1)])])]));
                s.did(4, Ok, poll(&[("x", &[(1, 2)])]));
            },
            &["lost-write"],
        ),
        (
            "what was trimmed need not be read",
            |s| {
                s.did(1, Ok, sent("x", 1, 0)).did(1, Ok, sent("x", 2, 1));
                s.note(0, Op::Trimmed { partition: tp("x"), log_start: 1 });
                s.did(4, Ok, poll(&[("x", &[(1, 2)])]));
            },
            &[],
        ),
    ]);
    let mut story = Story::default();
    story.did(1, Ok, sent("x", 1, 4)).did(1, Ok, sent("x", 2, 7));
    story.did(3, Ok, poll(&[("x", &[(7, 2)])]));
    assert_eq!(
        story.message("lost-write"),
        "value 1 at offset 4 was never read, though offset 7 was"
    );
}

#[test]
fn final_polls_find_everything() {
    run(&[
        (
            "one is missing at the end",
            |s| {
                s.did(1, Ok, sent("x", 1, 0)).did(1, Ok, sent("x", 2, 1));
                s.did(2, Ok, final_poll(&[("x", &[(0, 1)])]));
            },
            &["unseen"],
        ),
        (
            "all are there",
            |s| {
                s.did(1, Ok, sent("x", 1, 0)).did(1, Ok, sent("x", 2, 1)).did(
                    1,
                    Info,
                    send("x", 3),
                );
                s.did(2, Ok, final_poll(&[("x", &[(0, 1), (1, 2)])]));
            },
            &[],
        ),
        (
            "a partition is not there at all",
            |s| {
                s.did(1, Ok, send("y", 1)).did(2, Ok, final_poll(&[]));
            },
            &["unseen"],
        ),
        (
            "nobody has polled to the end",
            |s| {
                s.did(1, Ok, send("y", 1)).did(2, Info, final_poll(&[]));
            },
            &[],
        ),
    ]);
    let mut story = Story::default();
    story.did(1, Ok, sent("x", 1, 0)).did(1, Ok, sent("x", 2, 1)).did(1, Fail, send("x", 3));
    story.did(2, Ok, poll(&[("x", &[(0, 1)])]));
    let metrics = story.judge().metrics;
    assert_eq!((metrics.acknowledged, metrics.unseen), (2, 1));
}

#[test]
fn transactions_of_a_group_consume_once() {
    let consume = |offset: i64, value: i64| {
        txn([
            polls(&[("x", &[(offset, value)])]),
            kavka_checker::Step::Commit(commit_of(None, "x", offset + 1)),
        ])
    };
    let mut story = Story::default();
    story.did(1, Ok, sent("x", 1, 0)).did(1, Ok, sent("x", 2, 1));
    story.did(2, Ok, consume(0, 1)).did(3, Fail, consume(1, 2)).did(3, Ok, consume(1, 2));
    assert!(story.found().is_empty(), "{:?}", story.found());
    story.did(4, Ok, consume(1, 2));
    assert_eq!(story.found(), ["consume-counts"]);

    // Without transactions that is a number, no more.
    let mut story = Story::default();
    story.did(1, Ok, sent("x", 1, 0)).did(2, Ok, poll(&[("x", &[(0, 1)])]));
    story.note(2, Op::Seek { partition: tp("x"), offset: 0 }).did(2, Ok, poll(&[("x", &[(0, 1)])]));
    assert!(story.found().is_empty());
    assert_eq!(story.judge().metrics.consumed_again.into_iter().collect::<Vec<_>>(), [(2, 1)]);
}
