//! Cycles of who writes behind whom and who reads from whom.

use crate::story::*;

#[test]
fn cycles_are_found_and_judged_by_their_edges() {
    run(&[
        (
            "two transactions write to two partitions in opposite orders",
            |s| {
                let a = txn([sends("x", 1, Some(0)), sends("y", 1, Some(1))]);
                let b = txn([sends("x", 2, Some(1)), sends("y", 2, Some(0))]);
                s.event(1, Invoke, a.clone())
                    .event(2, Invoke, b.clone())
                    .event(1, Ok, a)
                    .event(2, Ok, b);
            },
            &["(G0)"],
        ),
        (
            "two transactions read from each other",
            |s| {
                let a = txn([sends("x", 1, Some(0)), polls(&[("y", &[(0, 2)])])]);
                let b = txn([sends("y", 2, Some(0)), polls(&[("x", &[(0, 1)])])]);
                s.event(1, Invoke, a.clone())
                    .event(2, Invoke, b.clone())
                    .event(1, Ok, a)
                    .event(2, Ok, b);
            },
            &["G1c"],
        ),
        (
            "one writes behind the other and reads from it",
            |s| {
                let a = txn([sends("x", 1, Some(0)), sends("y", 3, Some(2))]);
                let b = txn([polls(&[("x", &[(0, 1)])]), sends("y", 2, Some(1))]);
                s.event(1, Invoke, a.clone())
                    .event(2, Invoke, b.clone())
                    .event(1, Ok, a)
                    .event(2, Ok, b);
            },
            &["(G1c)"],
        ),
        (
            "a value is read before it is sent",
            |s| {
                s.did(2, Ok, poll(&[("x", &[(0, 1)])])).did(1, Ok, sent("x", 1, 0));
            },
            &["G1c-realtime"],
        ),
        (
            "a process reads what it sends later",
            |s| {
                s.did(1, Ok, poll(&[("x", &[(0, 1)])])).did(1, Ok, sent("x", 1, 0));
            },
            &["G1c-process"],
        ),
        (
            "writes against the order of time",
            |s| {
                s.did(1, Ok, sent("x", 1, 5)).did(2, Ok, sent("x", 2, 4));
            },
            &["(G0-realtime)"],
        ),
        (
            "what was not answered may come at any time",
            |s| {
                s.did(1, Info, sent("x", 1, 5)).did(2, Ok, sent("x", 2, 4));
                s.did(3, Ok, poll(&[("x", &[(4, 2), (5, 1)])]));
            },
            &[],
        ),
        (
            "a long way through many readers",
            |s| {
                let mut ops = Vec::new();
                for n in 0..6 {
                    let before = (n + 5) % 6;
                    let (own, other) = (format!("t{n}"), format!("t{before}"));
                    ops.push(txn([sends(&own, n, Some(0)), polls(&[(&other, &[(0, before)])])]));
                }
                for (process, op) in ops.iter().enumerate() {
                    s.event(process as u64, Invoke, op.clone());
                }
                for (process, op) in ops.into_iter().enumerate() {
                    s.event(process as u64, Ok, op);
                }
            },
            &["G1c"],
        ),
        (
            "a chain is no cycle",
            |s| {
                s.did(1, Ok, sent("x", 1, 0));
                s.did(2, Ok, txn([polls(&[("x", &[(0, 1)])]), sends("y", 2, Some(0))]));
                s.did(3, Ok, txn([polls(&[("y", &[(0, 2)])]), sends("x", 3, Some(2))]));
            },
            &[],
        ),
    ]);
}

#[test]
fn a_cycle_is_told_step_by_step() {
    let mut story = Story::default();
    let a = txn([sends("x", 1, Some(0)), polls(&[("y", &[(0, 2)])])]);
    let b = txn([sends("y", 2, Some(0)), polls(&[("x", &[(0, 1)])])]);
    story.event(1, Invoke, a.clone()).event(2, Invoke, b.clone()).event(1, Ok, a).event(2, Ok, b);
    assert_eq!(
        story.message("G1c"),
        "a cycle of 2 operations: txn of c1 (event 2) -wr-> txn of c2 (event 3) -wr-> txn of c1 (event 2)"
    );
}
