//! A few worlds with every test run. Many, each twice, run in CI: see docs/simulation.md.
//!
//! In a build with `--cfg tokio_unstable` a seed decides everything, and each world runs twice. In any other, tokio chooses by itself whom of
//! several it wakes or asks first: what has to hold has to hold in any case, and a world that does not leaves its course behind.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use kavka_fullsim::{Case, Deed, Kind, Part, Story, Telling, campaign, campaign::Failure, run};
use kavka_sim::keep_panics;

#[test]
fn worlds_hold() {
    keep_panics();
    let times = if cfg!(tokio_unstable) { 2 } else { 1 };
    let sum = campaign(0..10, 2, times, 20);
    let told: Vec<String> =
        sum.failures.iter().map(|Failure { case, message }| format!("{case}: {message}")).collect();
    // Panics are kept, and so the words of one are not printed.
    told.iter().for_each(|failure| eprintln!("{failure}"));
    assert!(told.is_empty());
    assert_eq!(sum.worlds, 10);
    let seen = &sum.coverage;
    assert!(sum.time.as_secs() >= 1_200 && seen.faults.len() > 5, "{sum:?}");
    assert!(seen.deeds.get(&Deed::Delivered).is_some_and(|records| *records > 1_000), "{sum:?}");
}

#[test]
fn a_world_without_faults_is_quiet_and_tells_all_that_happens_in_it() {
    let without = Kind::ALL.iter().copied().map(Part::Kind).collect();
    let story = Story::default();
    let telling = Telling::Into(Arc::clone(&story));
    let outcome = run(&Case { without, ..Case::new(3) }, &telling);
    assert_eq!(outcome.verdict, Ok(()));
    assert!(outcome.coverage.faults.is_empty(), "{:?}", outcome.coverage);
    let story = story.lock().unwrap();
    assert_eq!(story.lines().count() as u64, outcome.events);
    assert!(story.lines().last().unwrap().contains(&format!("{:016x}", outcome.trace)));
}
