//! A bug made by hand is found, and its world made smaller.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, sync::PoisonError};

use kavka_sim::{case::Part as _, keep_panics, shrink::shrink};

use crate::{
    Case, Kind, Outcome, Part, Story, Telling, campaign::Failure, plan::Plan, world::run_plan,
};

/// The world of a case, on a disk that is empty after its power was lost.
fn with_the_bug(case: &Case, telling: &Telling) -> Outcome {
    let mut plan = Plan::of(case);
    plan.disk_forgets = true;
    run_plan(plan, telling)
}

#[test]
fn a_failure_is_made_smaller_to_what_it_needs() {
    keep_panics();
    let in_time = |strikes: &[crate::plan::Strike]| {
        strikes.iter().take(6).any(|strike| strike.kind == Kind::PowerLoss)
    };
    let is_rich = |seed: &u64| {
        let plan = Plan::of(&Case::new(*seed));
        plan.has(Part::Kind(Kind::PowerLoss)) && in_time(&plan.strikes) && plan.members > 2
    };
    let case = Case::new((0..).find(is_rich).unwrap());
    let message =
        with_the_bug(&case, &Telling::Nowhere).verdict.expect_err("what was written is gone");
    let failure = Failure { case, message };
    let smallest = shrink(&failure, |case| with_the_bug(case, &Telling::Nowhere).verdict);

    assert_eq!(smallest.kind(), failure.kind());
    let left: BTreeSet<Part> = Part::all_in(&smallest.case).into_iter().collect();
    let strikes = left.iter().filter(|part| matches!(part, Part::Strike(_))).count();
    assert_eq!(strikes, 1, "one loss of power will do: {}", smallest.case);
    let kinds: Vec<&Part> = left.iter().filter(|part| matches!(part, Part::Kind(_))).collect();
    assert_eq!(kinds, [&Part::Kind(Kind::PowerLoss)]);
    assert!(Part::faults_end_at(&smallest.case) < Part::faults_end_at(&failure.case));
    assert!(left.len() <= 3, "hardly anybody is needed: {left:?}");

    // The word for it is all that is needed to have it again.
    let again: Case = smallest.case.to_string().parse().unwrap();
    assert_eq!(with_the_bug(&again, &Telling::Nowhere).verdict, Err(smallest.message));
    if cfg!(tokio_unstable) {
        let course = || {
            let story = Story::default();
            let outcome = with_the_bug(&again, &Telling::Into(Story::clone(&story)));
            let story = story.lock().unwrap_or_else(PoisonError::into_inner).clone();
            (story, outcome.trace, outcome.history)
        };
        assert_eq!(course(), course());
    }
    assert_eq!(crate::run(&again, &Telling::Nowhere).verdict, Ok(()), "without the bug it holds");
}
