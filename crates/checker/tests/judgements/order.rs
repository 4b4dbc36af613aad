//! In which order consumers read and producers send.

use kavka_checker::Op;

use crate::story::*;

/// Values 0 to 9 at offsets 0 to 9 of x, by one process.
fn ten(s: &mut Story) {
    for value in 0..10 {
        s.did(99, Ok, sent("x", value, value));
    }
}

fn read(values: &[i64]) -> Op {
    let pairs: Vec<(i64, i64)> = values.iter().map(|value| (*value, *value)).collect();
    poll(&[("x", &pairs)])
}

fn try_read(values: &[i64]) -> Op {
    let pairs: Vec<(i64, i64)> = values.iter().map(|value| (*value, *value)).collect();
    txn([polls(&[("x", &pairs)])])
}

#[test]
fn nothing_is_left_out_between_polls() {
    // Somebody else reads everything, so that nothing counts as lost.
    let all = |s: &mut Story| {
        ten(s);
        s.did(98, Ok, read(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    };
    let tell = |notes: &[Op]| {
        let mut story = Story::default();
        all(&mut story);
        story.did(1, Ok, read(&[1, 2]));
        for note in notes {
            story.note(1, note.clone());
        }
        story.did(1, Ok, read(&[4]));
        story.found()
    };
    assert_eq!(tell(&[]), ["poll-skip"]);
    assert_eq!(tell(&[assign(&["x", "y"])]), ["poll-skip"], "x stays assigned");
    assert_eq!(tell(&[assign(&["y"]), assign(&["x"])]), [""; 0]);
    assert_eq!(tell(&[subscribe(&["x", "y"])]), ["(poll-skip)"], "there may have been a rebalance");
    assert_eq!(tell(&[subscribe(&["y"]), subscribe(&["x"])]), [""; 0]);
    assert_eq!(tell(&[Op::Crash {}]), [""; 0]);
    assert_eq!(tell(&[Op::Seek { partition: tp("x"), offset: 4 }]), [""; 0]);
    assert_eq!(tell(&[revoked(&["x"]), assigned(1, 3, &["x"])]), [""; 0]);
    assert_eq!(
        tell(&[subscribe(&["x"]), assigned(1, 3, &["y"])]),
        ["poll-skip"],
        "x was not rebalanced"
    );
    assert_eq!(tell(&[Op::Trimmed { partition: tp("x"), log_start: 4 }]), [""; 0]);

    let mut story = Story::default();
    all(&mut story);
    story.did(1, Ok, read(&[1, 2])).did(1, Ok, read(&[5]));
    let message = story.message("poll-skip");
    assert_eq!(message, "offset 5 was read after offset 2, without 3 at 3, 4 at 4");
}

#[test]
fn gaps_of_offsets_are_no_records() {
    run(&[
        (
            "nothing is known at offset 2",
            |s| {
                s.did(99, Ok, sent("x", 1, 1)).did(99, Ok, sent("x", 3, 3));
                s.did(1, Ok, poll(&[("x", &[(1, 1)])])).did(1, Ok, poll(&[("x", &[(3, 3)])]));
            },
            &[],
        ),
        (
            "somebody else has read offset 2",
            |s| {
                s.did(99, Ok, sent("x", 1, 1)).did(98, Info, send("x", 2)).did(
                    99,
                    Ok,
                    sent("x", 3, 3),
                );
                s.did(1, Ok, poll(&[("x", &[(1, 1)])])).did(1, Ok, poll(&[("x", &[(3, 3)])]));
                s.did(2, Ok, poll(&[("x", &[(2, 2)])]));
            },
            &["poll-skip"],
        ),
    ]);
}

#[test]
fn aborted_transactions_read_again_from_where_they_began() {
    run(&[
        (
            "they do",
            |s| {
                ten(s);
                s.did(1, Ok, try_read(&[0])).did(1, Fail, try_read(&[1, 2]));
                s.did(1, Info, try_read(&[1, 2])).did(1, Ok, try_read(&[1, 2]));
            },
            &[],
        ),
        (
            "the one after an abort goes on behind it",
            |s| {
                ten(s);
                s.did(1, Ok, try_read(&[0])).did(1, Fail, try_read(&[1, 2]));
                s.did(1, Fail, try_read(&[3, 4]));
            },
            &["poll-skip"],
        ),
        (
            "also if nobody knows what became of it",
            |s| {
                ten(s);
                s.did(1, Ok, try_read(&[0])).did(1, Fail, try_read(&[1, 2]));
                s.did(1, Info, try_read(&[3, 4]));
            },
            &["poll-skip"],
        ),
    ]);
}

#[test]
fn nobody_reads_backwards() {
    run(&[
        (
            "between polls",
            |s| {
                ten(s);
                s.did(1, Ok, read(&[0, 1, 2, 3])).did(1, Ok, read(&[2, 3, 4]));
            },
            &["nonmonotonic-poll"],
        ),
        (
            "the same record again",
            |s| {
                ten(s);
                s.did(1, Ok, read(&[0, 1])).did(1, Ok, read(&[1]));
            },
            &["nonmonotonic-poll"],
        ),
        (
            "subscribers may",
            |s| {
                ten(s);
                s.note(1, subscribe(&["x"]));
                s.did(1, Ok, read(&[0, 1, 2])).did(1, Ok, read(&[1, 2]));
            },
            &["(nonmonotonic-poll)"],
        ),
        (
            "unless they tell what is assigned to them",
            |s| {
                ten(s);
                s.note(1, subscribe(&["x"])).note(1, assigned(1, 1, &["x"]));
                s.did(1, Ok, read(&[0, 1, 2])).did(1, Ok, read(&[1, 2]));
            },
            &["nonmonotonic-poll"],
        ),
        (
            "somebody else begins where it wants",
            |s| {
                ten(s);
                s.did(1, Ok, read(&[0, 1, 2])).did(2, Ok, read(&[1, 2]));
            },
            &[],
        ),
        (
            "within a poll",
            |s| {
                ten(s);
                s.did(1, Ok, read(&[0, 1, 2])).did(2, Ok, read(&[2, 1]));
            },
            &["int-nonmonotonic-poll"],
        ),
        (
            "within a transaction",
            |s| {
                ten(s);
                s.did(2, Ok, txn([polls(&[("x", &[(0, 0), (1, 1)])]), polls(&[("x", &[(1, 1)])])]));
            },
            &["int-nonmonotonic-poll"],
        ),
    ]);
}

#[test]
fn nothing_is_left_out_within_an_operation() {
    let all = |s: &mut Story| {
        ten(s);
        s.did(98, Ok, read(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    };
    let mut story = Story::default();
    all(&mut story);
    story.did(1, Ok, read(&[1, 4]));
    assert_eq!(story.found(), ["int-poll-skip"]);

    let mut story = Story::default();
    all(&mut story);
    story.did(1, Ok, txn([polls(&[("x", &[(1, 1)])]), polls(&[("x", &[(4, 4)])])]));
    assert_eq!(story.found(), ["int-poll-skip"]);

    let mut story = Story::default();
    all(&mut story);
    let Op::Poll { records, last, .. } = read(&[1, 4]) else { unreachable!("read makes polls") };
    story.did(1, Ok, Op::Poll { records, last, rebalanced: tps(&["x"]) });
    assert_eq!(story.found(), ["(int-poll-skip)"], "it says that x was rebalanced");

    let mut story = Story::default();
    all(&mut story);
    story.event(1, Invoke, poll(&[])).note(1, revoked(&["x"])).note(1, assigned(1, 2, &["x"]));
    story.event(1, Ok, read(&[1, 4]));
    assert_eq!(story.found(), ["(int-poll-skip)"], "it was, in the middle of the poll");
    story.did(1, Ok, read(&[5, 7]));
    assert_eq!(story.found(), ["(int-poll-skip)", "int-poll-skip"], "but not in the next one");
}

#[test]
fn what_one_process_sends_stays_in_order() {
    run(&[
        (
            "the second send is before the first",
            |s| {
                s.did(1, Ok, sent("x", 3, 3)).did(1, Ok, sent("x", 1, 1));
            },
            &["nonmonotonic-send", "(G0-process)"],
        ),
        (
            "another process sends when it wants",
            |s| {
                s.did(1, Ok, sent("x", 1, 1)).did(2, Ok, sent("x", 2, 2));
            },
            &[],
        ),
        (
            "who was not answered may arrive late",
            |s| {
                s.did(1, Info, sent("x", 3, 3)).did(1, Ok, sent("x", 1, 1));
                s.did(2, Ok, poll(&[("x", &[(1, 1), (3, 3)])]));
            },
            &[],
        ),
        (
            "a transaction in the wrong order, as it was told",
            |s| {
                s.did(1, Ok, txn([sends("x", 3, Some(3)), sends("x", 1, Some(1))]));
            },
            &["int-nonmonotonic-send"],
        ),
        (
            "or as it was read",
            |s| {
                s.did(1, Info, txn([sends("y", 4, None), sends("y", 2, None)]));
                s.did(2, Info, send("y", 3));
                s.did(3, Ok, poll(&[("y", &[(2, 2), (3, 3), (4, 4)])]));
            },
            &["int-nonmonotonic-send", "(G0)"],
        ),
        (
            "something of others in between",
            |s| {
                s.did(1, Ok, txn([sends("x", 1, Some(1)), sends("x", 3, None)]));
                s.did(2, Info, send("x", 2)).did(3, Ok, poll(&[("x", &[(2, 2), (3, 3)])]));
            },
            &["(G0)", "(int-send-skip)", "lost-write"],
        ),
    ]);
}

/// The times are milliseconds; each event is one after the one before.
#[test]
fn lag_is_the_time_for_which_a_position_was_outdated() {
    let mut story = Story::default();
    let lag = |story: &Story| story.judge().metrics.worst_realtime_lag / MS;
    story.note(1, assign(&["x"])).did(1, Ok, poll(&[])).did(2, Ok, sent("x", 0, 0));
    assert_eq!(lag(&story), 0, "there was nothing");
    story.did(1, Ok, poll(&[("x", &[(0, 0)])]));
    assert_eq!(lag(&story), 0, "it was given at once");
    story.did(2, Ok, sent("x", 1, 1)).did(1, Ok, poll(&[]));
    assert_eq!(lag(&story), 1, "it was there a millisecond before the poll");
    story.wait(100).did(2, Ok, sent("x", 2, 2)).did(1, Ok, poll(&[("x", &[(1, 1)])]));
    assert_eq!(lag(&story), 1, "2 came a millisecond before");
    story.wait(40).note(1, assign(&["x", "y"])).did(1, Ok, poll(&[]));
    assert_eq!(lag(&story), 44, "the position stays");
    story.note(1, assign(&["y"])).note(1, assign(&["x"])).did(1, Ok, poll(&[]));
    assert_eq!(lag(&story), 156, "nothing of x is read since 0 came");
    story.did(1, Ok, poll(&[("x", &[(0, 0), (1, 1), (2, 2)])]));
    assert_eq!(lag(&story), 156);
}
