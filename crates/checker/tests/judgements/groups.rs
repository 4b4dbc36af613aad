//! Who owns what, what is committed, and how rebalances go.

use kavka_checker::{
    CommitSource, Committed, FaultPhase, GroupProtocol, GroupSettings, GroupState, Op,
    PositionCause, Step,
};

use crate::story::*;

fn commit_as(process: u64, generation: i32, topic: &str, offset: i64) -> Op {
    Op::Commit(commit_of(Some(member(process, generation)), topic, offset))
}

fn heartbeat(process: u64, generation: i32) -> Op {
    Op::Heartbeat { group: "g".into(), member: member(process, generation) }
}

#[test]
fn partitions_have_one_owner() {
    run(&[
        (
            "handed over",
            |s| {
                s.note(0, group(noted())).note(1, assigned(1, 1, &["x"])).note(1, revoked(&["x"]));
                s.note(2, assigned(2, 2, &["x"]));
            },
            &[],
        ),
        (
            "not handed over",
            |s| {
                s.note(0, group(noted()))
                    .note(1, assigned(1, 1, &["x"]))
                    .note(2, assigned(2, 2, &["x"]));
                s.note(1, revoked(&["x"]));
            },
            &["dual-ownership"],
        ),
        (
            "never given back",
            |s| {
                s.note(0, group(noted()))
                    .note(1, assigned(1, 1, &["x"]))
                    .note(2, assigned(2, 2, &["x"]));
            },
            &["dual-ownership"],
        ),
        (
            "the former owner had been removed",
            |s| {
                s.note(0, group(noted())).note(1, assigned(1, 1, &["x"])).note(0, removed(1));
                s.note(2, assigned(2, 2, &["x"])).note(1, lost(&["x"]));
            },
            &[],
        ),
        (
            "it was removed too late",
            |s| {
                s.note(0, group(noted())).note(1, assigned(1, 1, &["x"]));
                s.note(2, assigned(2, 2, &["x"])).note(0, removed(1)).note(1, lost(&["x"]));
            },
            &["dual-ownership"],
        ),
        (
            "it had crashed",
            |s| {
                s.note(0, group(noted())).note(1, assigned(1, 1, &["x"])).note(1, Op::Crash {});
                s.note(2, assigned(2, 2, &["x"]));
            },
            &[],
        ),
        (
            "a member keeps what it has through generations",
            |s| {
                s.note(0, group(noted()))
                    .note(1, assigned(1, 1, &["x"]))
                    .note(1, assigned(1, 2, &[]));
                s.note(2, assigned(2, 2, &["x"]));
            },
            &["dual-ownership"],
        ),
        (
            "nobody notes removals: it may have been removed",
            |s| {
                s.note(1, assigned(1, 1, &["x"]))
                    .note(2, assigned(2, 2, &["x"]))
                    .note(1, lost(&["x"]));
            },
            &[],
        ),
        (
            "nobody notes removals, but it was taken for a member",
            |s| {
                s.note(1, assigned(1, 1, &["x"])).note(2, assigned(2, 2, &["x"]));
                s.did(1, Ok, heartbeat(1, 1)).did(2, Ok, heartbeat(2, 2)).note(1, lost(&["x"]));
            },
            &["dual-ownership"],
        ),
        (
            "nobody notes removals, and nobody knows of the heartbeat",
            |s| {
                s.note(1, assigned(1, 1, &["x"])).note(2, assigned(2, 2, &["x"]));
                s.did(1, Fail, heartbeat(1, 1)).did(2, Ok, heartbeat(2, 2)).note(1, lost(&["x"]));
            },
            &[],
        ),
        (
            "a static member was left out of a rebalance, and is back under the same id",
            |s| {
                s.note(1, assigned(1, 1, &["x"])).did(1, Ok, heartbeat(1, 1));
                s.note(2, assigned(2, 2, &["x"])).did(2, Ok, heartbeat(2, 2));
                s.note(1, lost(&["x"])).note(2, revoked(&["x"]));
                s.note(1, assigned(1, 3, &["x"])).did(1, Ok, heartbeat(1, 3));
            },
            &[],
        ),
        (
            "other partitions, other groups",
            |s| {
                s.note(0, group(noted()))
                    .note(1, assigned(1, 1, &["x"]))
                    .note(2, assigned(2, 2, &["y"]));
                let op = assigned(3, 2, &["x"]);
                let Op::Assigned { member, partitions, .. } = op else { unreachable!("it is") };
                s.note(3, Op::Assigned { group: "h".into(), member, partitions });
            },
            &[],
        ),
    ]);
}

#[test]
fn what_is_committed_is_found() {
    run(&[
        (
            "the last one",
            |s| {
                s.did(1, Ok, fetch("x", None)).did(1, Ok, commit("x", 5)).did(
                    1,
                    Ok,
                    commit("x", 3),
                );
                s.did(2, Ok, fetch("x", Some(3)));
            },
            &[],
        ),
        (
            "one before the last",
            |s| {
                s.did(1, Ok, commit("x", 5)).did(1, Ok, commit("x", 7)).did(
                    2,
                    Ok,
                    fetch("x", Some(5)),
                );
            },
            &["commit-lost"],
        ),
        (
            "nothing",
            |s| {
                s.did(1, Ok, commit("x", 5)).did(2, Ok, fetch("x", None));
            },
            &["commit-lost"],
        ),
        (
            "one of two at a time",
            |s| {
                s.event(1, Invoke, commit("x", 5)).event(2, Invoke, commit("x", 7));
                s.event(2, Ok, commit("x", 7)).event(1, Ok, commit("x", 5));
                s.did(3, Ok, fetch("x", Some(7)));
            },
            &[],
        ),
        (
            "one of two at a time, and then the other",
            |s| {
                s.event(1, Invoke, commit("x", 5)).event(2, Invoke, commit("x", 7));
                s.event(2, Ok, commit("x", 7)).event(1, Ok, commit("x", 5));
                s.did(3, Ok, fetch("x", Some(7))).did(3, Ok, fetch("x", Some(5)));
            },
            &["commit-not-linearizable"],
        ),
        (
            "one that was not answered, long afterwards",
            |s| {
                s.did(1, Info, commit("x", 5)).did(2, Ok, commit("x", 7));
                s.did(3, Ok, fetch("x", Some(7))).did(3, Ok, fetch("x", Some(5)));
            },
            &[],
        ),
        (
            "but not before it was asked for",
            |s| {
                s.did(3, Ok, fetch("x", Some(5))).did(1, Info, commit("x", 5));
            },
            &["commit-phantom"],
        ),
        (
            "it comes once",
            |s| {
                s.did(1, Info, commit("x", 5)).did(2, Ok, commit("x", 7)).did(
                    3,
                    Ok,
                    fetch("x", Some(5)),
                );
                s.did(3, Ok, fetch("x", Some(7)));
            },
            &["commit-not-linearizable"],
        ),
        (
            "one that was refused",
            |s| {
                s.did(1, Fail, commit("x", 5)).did(3, Ok, fetch("x", Some(5)));
            },
            &["commit-phantom"],
        ),
        (
            "refused for that partition only",
            |s| {
                let mut both = commit_of(None, "x", 5);
                both.offsets.insert(tp("y"), Committed::new(6));
                both.failed = tps(&["y"]);
                s.did(1, Ok, Op::Commit(both)).did(3, Ok, fetch("x", Some(5))).did(
                    3,
                    Ok,
                    fetch("y", None),
                );
                s.did(3, Ok, fetch("y", Some(6)));
            },
            &["commit-phantom"],
        ),
        (
            "with the metadata of another one",
            |s| {
                let with = |offset: i64, metadata: &str| {
                    let mut commit = commit_of(None, "x", offset);
                    commit.offsets.insert(
                        tp("x"),
                        Committed { offset, leader_epoch: 2, metadata: metadata.into() },
                    );
                    commit
                };
                s.did(1, Ok, Op::Commit(with(5, "a"))).did(1, Ok, Op::Commit(with(6, "b")));
                let mixed =
                    with(6, "a").offsets.into_iter().map(|(tp, value)| (tp, Some(value))).collect();
                s.did(3, Ok, Op::FetchOffsets { group: "g".into(), offsets: mixed });
            },
            &["commit-phantom"],
        ),
        (
            "looks that go back",
            |s| {
                s.did(1, Ok, commit("x", 5)).event(1, Invoke, commit("x", 7)).did(
                    2,
                    Ok,
                    fetch("x", Some(7)),
                );
                s.did(2, Ok, fetch("x", Some(5))).event(1, Ok, commit("x", 7));
            },
            &["commit-regress"],
        ),
        (
            "deleted",
            |s| {
                let partitions = tps(&["x"]);
                s.did(1, Ok, commit("x", 5)).did(
                    1,
                    Ok,
                    Op::DeleteOffsets { group: "g".into(), partitions },
                );
                s.did(2, Ok, fetch("x", None));
            },
            &[],
        ),
        (
            "deleted and back",
            |s| {
                s.did(1, Ok, commit("x", 5)).did(1, Ok, Op::DeleteGroup { group: "g".into() });
                s.did(2, Ok, fetch("x", Some(5)));
            },
            &["commit-lost"],
        ),
        (
            "expired at some time",
            |s| {
                let partitions = tps(&["x"]);
                s.did(1, Ok, commit("x", 5)).event(
                    1,
                    Invoke,
                    Op::DeleteOffsets { group: "g".into(), partitions },
                );
                s.did(2, Ok, fetch("x", Some(5))).did(2, Ok, fetch("x", None)).did(
                    2,
                    Ok,
                    fetch("x", None),
                );
            },
            &[],
        ),
        (
            "with a transaction",
            |s| {
                let txn = || txn([Step::Commit(commit_of(None, "x", 5))]);
                s.did(1, Fail, txn()).did(2, Ok, fetch("x", None));
                s.did(1, Ok, txn()).did(2, Ok, fetch("x", Some(5)));
            },
            &[],
        ),
        (
            "of an aborted transaction",
            |s| {
                s.did(1, Fail, txn([Step::Commit(commit_of(None, "x", 5))])).did(
                    2,
                    Ok,
                    fetch("x", Some(5)),
                );
            },
            &["commit-phantom"],
        ),
        (
            "looks that failed say nothing",
            |s| {
                s.did(1, Ok, commit("x", 5)).did(2, Fail, fetch("x", None)).did(
                    2,
                    Info,
                    fetch("x", Some(9)),
                );
            },
            &[],
        ),
    ]);
    let mut story = Story::default();
    story.did(1, Ok, commit("x", 5)).did(1, Ok, commit("x", 7)).did(2, Ok, fetch("x", Some(5)));
    assert_eq!(
        story.message("commit-lost"),
        "offset 5 was found, though offset 7 had been acknowledged after it"
    );
}

#[test]
fn who_is_no_member_commits_nothing() {
    run(&[
        (
            "in the generation that is over",
            |s| {
                s.note(1, assigned(1, 1, &["x"]))
                    .note(1, revoked(&["x"]))
                    .note(2, assigned(2, 2, &["x"]));
                s.did(1, Ok, commit_as(1, 1, "x", 5));
            },
            &["commit-from-fenced"],
        ),
        (
            "it was refused",
            |s| {
                s.note(1, assigned(1, 1, &["x"]))
                    .note(1, revoked(&["x"]))
                    .note(2, assigned(2, 2, &["x"]));
                s.did(1, Fail, commit_as(1, 1, "x", 5));
            },
            &[],
        ),
        (
            "it was asked for before",
            |s| {
                s.note(1, assigned(1, 1, &["x"])).event(1, Invoke, commit_as(1, 1, "x", 5));
                s.note(1, revoked(&["x"])).note(2, assigned(2, 2, &["x"])).event(
                    1,
                    Ok,
                    commit_as(1, 1, "x", 5),
                );
            },
            &[],
        ),
        (
            "removed",
            |s| {
                s.note(1, assigned(1, 1, &["x"])).note(0, removed(1)).did(
                    1,
                    Ok,
                    commit_as(1, 1, "x", 5),
                );
            },
            &["commit-from-fenced"],
        ),
        (
            "the group began anew",
            |s| {
                s.note(1, assigned(1, 7, &["x"]))
                    .note(1, revoked(&["x"]))
                    .note(0, state(GroupState::Empty));
                s.note(2, assigned(2, 1, &["x"])).did(2, Ok, commit_as(2, 1, "x", 5));
            },
            &[],
        ),
        (
            "KIP-848: the partition is still its own",
            |s| {
                let protocol = GroupProtocol::Consumer;
                s.note(0, group(GroupSettings { protocol, ..noted() }))
                    .note(1, assigned(1, 1, &["x"]));
                s.note(2, assigned(2, 2, &["y"])).did(1, Ok, commit_as(1, 1, "x", 5));
            },
            &[],
        ),
        (
            "KIP-848: the partition is another's",
            |s| {
                let protocol = GroupProtocol::Consumer;
                s.note(0, group(GroupSettings { protocol, ..noted() }))
                    .note(1, assigned(1, 1, &["x"]));
                s.note(1, revoked(&["x"])).note(2, assigned(2, 2, &["x"])).did(
                    1,
                    Ok,
                    commit_as(1, 1, "x", 5),
                );
            },
            &["commit-from-fenced"],
        ),
    ]);
}

/// Values 0 to 9 at offsets 0 to 9 of x, and all of them were read by somebody.
fn ten(s: &mut Story) {
    let pairs: Vec<(i64, i64)> = (0..10).map(|value| (value, value)).collect();
    for value in 0..10 {
        s.did(99, Ok, sent("x", value, value));
    }
    s.did(98, Ok, poll(&[("x", &pairs)]));
}

#[test]
fn consumers_commit_what_they_were_given() {
    run(&[
        (
            "what they were given",
            |s| {
                ten(s);
                s.note(1, assigned(1, 1, &["x"])).did(1, Ok, poll(&[("x", &[(0, 0), (1, 1)])]));
                s.did(1, Ok, commit_as(1, 1, "x", 1)).did(1, Ok, commit_as(1, 1, "x", 2));
            },
            &[],
        ),
        (
            "one more",
            |s| {
                ten(s);
                s.note(1, assigned(1, 1, &["x"])).did(1, Ok, poll(&[("x", &[(0, 0), (1, 1)])]));
                s.did(1, Ok, commit_as(1, 1, "x", 3));
            },
            &["commit-overrun"],
        ),
        (
            "what they get only afterwards",
            |s| {
                ten(s);
                s.note(1, assigned(1, 1, &["x"])).did(1, Ok, poll(&[("x", &[(0, 0), (1, 1)])]));
                s.event(1, Invoke, poll(&[])).event(11, Invoke, commit_as(1, 1, "x", 3));
                s.event(1, Ok, poll(&[("x", &[(2, 2)])])).event(11, Ok, commit_as(1, 1, "x", 3));
            },
            &[],
        ),
        (
            "what they were given as the owner before",
            |s| {
                ten(s);
                s.note(1, assigned(1, 1, &["x"])).did(
                    1,
                    Ok,
                    poll(&[("x", &[(0, 0), (1, 1), (2, 2)])]),
                );
                s.did(1, Ok, commit_as(1, 1, "x", 1));
                s.note(1, lost(&["x"])).note(1, assigned(1, 2, &["x"])).did(
                    1,
                    Ok,
                    poll(&[("x", &[(1, 1)])]),
                );
                s.did(1, Ok, commit_as(1, 2, "x", 3));
            },
            &["commit-overrun"],
        ),
        (
            "where they began",
            |s| {
                ten(s);
                let (group, partition) = ("g".to_owned(), tp("x"));
                s.note(1, assigned(1, 1, &["x"]));
                s.note(
                    1,
                    Op::Position { group, partition, offset: 10, cause: PositionCause::Reset },
                );
                s.did(1, Ok, commit_as(1, 1, "x", 10));
            },
            &[],
        ),
        (
            "further than where they began",
            |s| {
                ten(s);
                let (group, partition) = ("g".to_owned(), tp("x"));
                s.note(1, assigned(1, 1, &["x"]));
                s.note(
                    1,
                    Op::Position { group, partition, offset: 4, cause: PositionCause::Reset },
                );
                s.did(1, Ok, commit_as(1, 1, "x", 5));
            },
            &["commit-overrun"],
        ),
        (
            "what somebody has chosen",
            |s| {
                ten(s);
                s.did(1, Ok, poll(&[("x", &[(0, 0), (1, 1)])]));
                let mut chosen = commit_of(None, "x", 8);
                chosen.source = CommitSource::Chosen;
                s.did(1, Ok, Op::Commit(chosen));
            },
            &[],
        ),
        (
            "where they were told to go on",
            |s| {
                ten(s);
                s.did(1, Ok, poll(&[("x", &[(0, 0), (1, 1)])]));
                s.note(1, Op::Seek { partition: tp("x"), offset: 8 }).did(1, Ok, commit("x", 8));
            },
            &[],
        ),
        (
            "behind the marker of a transaction",
            |s| {
                s.did(99, Ok, txn([sends("x", 1, Some(0))])).did(
                    99,
                    Ok,
                    txn([sends("x", 2, Some(2))]),
                );
                s.did(1, Ok, poll(&[("x", &[(0, 1)])])).did(1, Ok, commit("x", 2));
                s.did(1, Ok, poll(&[("x", &[(2, 2)])])).did(1, Ok, commit("x", 4));
            },
            &[],
        ),
        (
            "in the same transaction",
            |s| {
                s.did(99, Ok, txn([sends("x", 1, Some(0)), sends("x", 2, Some(1))]));
                s.did(98, Ok, poll(&[("x", &[(0, 1), (1, 2)])]));
                s.did(
                    1,
                    Ok,
                    txn([polls(&[("x", &[(0, 1)])]), Step::Commit(commit_of(None, "x", 2))]),
                );
            },
            &["commit-overrun"],
        ),
    ]);
}

#[test]
fn consumers_begin_where_it_was_committed() {
    let position = |offset: i64, cause: PositionCause| Op::Position {
        group: "g".into(),
        partition: tp("x"),
        offset,
        cause,
    };
    let tell = |first: i64, more: &[Op]| {
        let mut story = Story::default();
        ten(&mut story);
        story.did(9, Ok, commit("x", 4)).note(1, assigned(1, 1, &["x"]));
        for op in more {
            story.note(1, op.clone());
        }
        story.did(1, Ok, poll(&[("x", &[(first, first)])]));
        story.found()
    };
    assert_eq!(tell(4, &[]), [""; 0]);
    assert_eq!(tell(0, &[]), ["spurious-reset"], "to the beginning");
    assert_eq!(tell(2, &[]), ["committed-too-far"]);
    assert_eq!(tell(9, &[]), ["spurious-reset"], "to the end");
    assert_eq!(tell(9, &[Op::Seek { partition: tp("x"), offset: 9 }]), [""; 0]);
    assert_eq!(tell(4, &[position(4, PositionCause::Committed)]), [""; 0]);
    assert_eq!(tell(6, &[position(6, PositionCause::Committed)]), ["spurious-reset"]);
    assert_eq!(tell(6, &[position(6, PositionCause::Reset)]), ["spurious-reset"]);
    let trimmed = Op::Trimmed { partition: tp("x"), log_start: 6 };
    assert_eq!(
        tell(6, &[trimmed.clone(), position(6, PositionCause::Reset)]),
        [""; 0],
        "out of range"
    );
    assert_eq!(tell(6, &[trimmed]), [""; 0]);
    run(&[
        (
            "nothing is committed",
            |s| {
                ten(s);
                s.did(9, Fail, commit("x", 4))
                    .did(8, Ok, fetch("x", None))
                    .note(1, assigned(1, 1, &["x"]));
                s.did(1, Ok, poll(&[("x", &[(9, 9)])]));
            },
            &[],
        ),
        (
            "a commit that was not answered may be it",
            |s| {
                ten(s);
                s.did(9, Ok, commit("x", 4))
                    .did(9, Info, commit("x", 7))
                    .note(1, assigned(1, 1, &["x"]));
                s.did(1, Ok, poll(&[("x", &[(7, 7)])]));
            },
            &[],
        ),
        (
            "one that was asked for while it looked",
            |s| {
                ten(s);
                s.did(9, Ok, commit("x", 4)).note(1, assigned(1, 1, &["x"])).did(
                    9,
                    Ok,
                    commit("x", 1),
                );
                s.did(1, Ok, poll(&[("x", &[(1, 1)])]));
            },
            &[],
        ),
    ]);
}

#[test]
fn rebalances_end() {
    run(&[
        (
            "in time",
            |s| {
                s.note(0, group(noted())).note(1, subscribe(&["x"]));
                s.note(0, state(GroupState::PreparingRebalance))
                    .wait(19_000)
                    .note(0, state(GroupState::Stable));
                s.wait(60_000).note(1, Op::Debug { text: "the end".into() });
            },
            &[],
        ),
        (
            "too late",
            |s| {
                s.note(0, group(noted())).note(1, subscribe(&["x"]));
                s.note(0, state(GroupState::PreparingRebalance)).wait(10_000);
                s.note(0, state(GroupState::CompletingRebalance))
                    .wait(12_000)
                    .note(0, state(GroupState::Stable));
            },
            &["stuck-rebalance"],
        ),
        (
            "never",
            |s| {
                s.note(0, group(noted())).note(1, subscribe(&["x"]));
                s.note(0, state(GroupState::CompletingRebalance))
                    .wait(21_000)
                    .note(1, Op::Debug { text: "end".into() });
            },
            &["stuck-rebalance"],
        ),
        (
            "something is broken all the time",
            |s| {
                s.note(0, group(noted()))
                    .note(1, subscribe(&["x"]))
                    .note(9, fault(FaultPhase::Begin));
                s.note(0, state(GroupState::CompletingRebalance))
                    .wait(60_000)
                    .note(9, fault(FaultPhase::End));
            },
            &[],
        ),
        (
            "somebody comes all the time",
            |s| {
                s.note(0, group(noted()))
                    .note(1, subscribe(&["x"]))
                    .note(0, state(GroupState::PreparingRebalance));
                s.wait(15_000)
                    .note(2, subscribe(&["x"]))
                    .wait(15_000)
                    .note(0, state(GroupState::Stable));
            },
            &[],
        ),
        (
            "after the fault",
            |s| {
                s.note(0, group(noted()))
                    .note(9, fault(FaultPhase::Begin))
                    .note(9, fault(FaultPhase::Begin));
                s.note(0, state(GroupState::PreparingRebalance))
                    .wait(60_000)
                    .note(9, fault(FaultPhase::End));
                s.wait(30_000)
                    .note(9, fault(FaultPhase::End))
                    .wait(21_000)
                    .note(0, state(GroupState::Stable));
            },
            &["stuck-rebalance"],
        ),
    ]);
}

#[test]
fn partitions_have_an_owner() {
    run(&[
        (
            "in time",
            |s| {
                s.note(0, group(noted())).note(0, topic("x", 1)).note(1, subscribe(&["x"]));
                s.wait(15_000).note(1, assigned(1, 1, &["x"])).wait(90_000).note(1, Op::Close {});
            },
            &[],
        ),
        (
            "too late",
            |s| {
                s.note(0, group(noted())).note(0, topic("x", 1)).note(1, subscribe(&["x"]));
                s.wait(21_000).note(1, assigned(1, 1, &["x"])).wait(90_000).note(1, Op::Close {});
            },
            &["orphan-partition"],
        ),
        (
            "one of two",
            |s| {
                s.note(0, group(noted())).note(0, topic("x", 2)).note(1, subscribe(&["x"]));
                s.note(1, assigned(1, 1, &["x"])).wait(90_000).note(1, Op::Close {});
            },
            &["orphan-partition"],
        ),
        (
            "taken away and forgotten",
            |s| {
                s.note(0, group(noted())).note(0, topic("x", 1)).note(1, subscribe(&["x"]));
                s.note(1, assigned(1, 1, &["x"]))
                    .wait(60_000)
                    .note(1, revoked(&["x"]))
                    .wait(30_000);
                s.note(1, assigned(1, 2, &["x"]));
            },
            &["orphan-partition"],
        ),
        (
            "nobody wants it",
            |s| {
                s.note(0, group(noted()))
                    .note(0, topic("y", 1))
                    .note(0, topic("x", 1))
                    .note(1, subscribe(&["x"]));
                s.note(1, assigned(1, 1, &["x"])).wait(90_000).note(1, Op::Close {});
            },
            &[],
        ),
        (
            "who wanted it is gone",
            |s| {
                s.note(0, group(noted())).note(0, topic("x", 1)).note(1, subscribe(&["x"]));
                s.note(1, Op::Crash {}).wait(90_000).note(1, Op::Debug { text: "end".into() });
            },
            &[],
        ),
    ]);
}

#[test]
fn generations_rise() {
    run(&[
        (
            "back",
            |s| {
                s.note(1, assigned(1, 3, &["x"]))
                    .note(0, state(GroupState::Stable))
                    .note(1, assigned(1, 2, &[]));
            },
            &["generation-regress"],
        ),
        (
            "back, after the group was empty",
            |s| {
                s.note(1, assigned(1, 3, &["x"]))
                    .note(1, lost(&["x"]))
                    .note(0, state(GroupState::Empty));
                s.note(1, assigned(1, 1, &["x"]));
            },
            &[],
        ),
        (
            "nobody sees states: the group may have been empty",
            |s| {
                s.note(1, assigned(1, 3, &["x"]))
                    .note(1, lost(&["x"]))
                    .note(1, assigned(1, 1, &["x"]));
            },
            &[],
        ),
        (
            "nobody sees states, but another member stayed",
            |s| {
                s.note(0, group(noted()))
                    .note(2, assigned(2, 3, &["y"]))
                    .note(1, assigned(1, 3, &["x"]));
                s.note(1, lost(&["x"])).note(1, assigned(1, 1, &["x"])).note(2, revoked(&["y"]));
            },
            &["generation-regress"],
        ),
        (
            "two clients see different ones",
            |s| {
                s.note(1, assigned(1, 3, &["x"]))
                    .note(0, state(GroupState::Stable))
                    .note(2, assigned(2, 2, &["y"]));
            },
            &[],
        ),
    ]);
}

#[test]
fn sticky_partitions_stay() {
    /// Two members with a partition each in generation 2 and 3, and swapped in 4.
    fn tell(s: &mut Story, settings: GroupSettings, between: Option<Op>) {
        s.note(0, group(settings)).note(0, topic("x", 1)).note(0, topic("y", 1));
        s.note(1, subscribe(&["x", "y"])).note(2, subscribe(&["x", "y"]));
        s.note(1, assigned(1, 1, &["x", "y"])).note(1, revoked(&["y"]));
        s.note(1, assigned(1, 2, &[])).note(2, assigned(2, 2, &["y"]));
        s.note(1, assigned(1, 3, &[])).note(2, assigned(2, 3, &[]));
        if let Some(op) = between {
            s.note(3, op);
        }
        s.note(1, revoked(&["x"])).note(2, revoked(&["y"]));
        s.note(1, assigned(1, 4, &["y"])).note(2, assigned(2, 4, &["x"]));
    }
    let sticky = || GroupSettings { sticky: true, ..noted() };
    let found = |settings, between| {
        let mut story = Story::default();
        tell(&mut story, settings, between);
        story.found()
    };
    assert_eq!(found(sticky(), None), ["needless-move"]);
    assert_eq!(found(noted(), None), [""; 0], "nobody promised anything");
    assert_eq!(found(sticky(), Some(subscribe(&["x"]))), [""; 0], "somebody came");
    assert_eq!(found(sticky(), Some(topic("y", 2))), [""; 0], "a topic grew");
    assert_eq!(found(sticky(), Some(removed(7))), [""; 0], "somebody went");
}
