//! A few worlds with every test run. Many, each twice, run in CI: see docs/simulation.md.

use kavka_fullsim::{Case, campaign, keep_panics, run};

#[test]
fn worlds_hold() {
    keep_panics();
    let sum = campaign(0..10, 2, 1, 20);
    let told: Vec<String> =
        sum.failures.iter().map(|(case, message)| format!("{case}: {message}")).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
    assert_eq!(sum.worlds, 10);
    assert!(sum.time.as_secs() >= 1_200 && sum.records > 1_000 && sum.faults.len() > 5, "{sum:?}");
}

#[test]
fn a_world_without_faults_is_quiet() {
    let kinds = kavka_fullsim::kinds().into_iter().map(str::to_owned).collect();
    let outcome = run(&Case { seed: 3, without: kinds }, false).expect("it holds");
    assert!(outcome.faults.is_empty(), "{:?}", outcome.faults);
}
