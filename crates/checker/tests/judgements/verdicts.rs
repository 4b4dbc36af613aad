//! Valid, invalid, or too little to tell.

use kavka_checker::{FaultPhase, History, Limits, Verdict, check};

use crate::story::*;

fn verdict(story: &Story, limits: &Limits) -> (Verdict, usize) {
    let report = check(&History::new(story.events.clone()), limits).unwrap();
    (report.verdict, report.doubts.len())
}

#[test]
fn enough_has_to_happen() {
    let limits = Limits::default();
    let mut story = Story::default();
    story.note(1, assign(&["x"]));
    assert_eq!(verdict(&story, &limits), (Verdict::Unknown, 2), "nothing was done, nothing broken");
    for offset in 0..4 {
        story.did(1, Ok, sent("x", offset, offset));
    }
    assert_eq!(verdict(&story, &limits), (Verdict::Unknown, 1), "nothing was broken");
    story.note(9, fault(FaultPhase::Once));
    assert_eq!(verdict(&story, &limits), (Verdict::Valid, 0));
    story.did(1, Info, send("x", 4));
    assert_eq!(verdict(&story, &limits), (Verdict::Valid, 0), "80 % are enough");
    story.did(1, Fail, send("x", 5));
    assert_eq!(verdict(&story, &limits), (Verdict::Unknown, 1), "4 of 6 are not");
    let lenient = Limits { min_ok_percent: 60, ..Limits::default() };
    assert_eq!(verdict(&story, &lenient), (Verdict::Valid, 0));
    let strict = Limits { min_faults: 2, ..lenient };
    assert_eq!(verdict(&story, &strict), (Verdict::Unknown, 1));
}

#[test]
fn what_is_wrong_is_wrong_however_little_happened() {
    let mut story = Story::default();
    story.did(1, Ok, poll(&[("x", &[(0, 5)])]));
    assert_eq!(verdict(&story, &Limits::default()), (Verdict::Invalid, 1));
}

#[test]
fn what_is_allowed_is_told_but_valid() {
    let mut story = Story::default();
    story.note(9, fault(FaultPhase::Once));
    story.did(1, Ok, sent("x", 1, 5)).did(2, Ok, sent("x", 2, 4));
    assert_eq!(story.found(), ["(G0-realtime)"]);
    assert_eq!(verdict(&story, &Limits::default()), (Verdict::Valid, 0));
}

/// Every commit is open at once, and they are found in an order that none of them can have had but one that ends with the first.
#[test]
fn a_search_that_takes_too_long_is_undecided_and_not_valid() {
    let mut story = Story::default();
    story.note(9, fault(FaultPhase::Once));
    let count = 10;
    for n in 0..count {
        story.event(n, Invoke, commit("x", n as i64));
    }
    for n in 0..count {
        story.event(100 + n, Invoke, fetch("x", None));
    }
    for n in 0..count {
        story.event(100 + n, Ok, fetch("x", Some(n as i64)));
    }
    for n in 0..count {
        story.event(n, Ok, commit("x", n as i64));
    }
    story.did(200, Ok, fetch("x", Some(0))).did(200, Ok, fetch("x", Some(0)));
    let little = Limits { max_search_steps: 50, ..Limits::default() };
    assert_eq!(verdict(&story, &little), (Verdict::Unknown, 1));
    assert_eq!(verdict(&story, &Limits::default()), (Verdict::Valid, 0));
}
