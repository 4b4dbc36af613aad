//! Some worlds with every `cargo test`: those that failed once, a few others, and that the same case takes the same course.
#![allow(clippy::unwrap_used)]

use kavka_sim::{Case, Fault, Mode, run, run_twice};

fn hold(cases: impl IntoIterator<Item = Case>) {
    let failures: Vec<String> = cases
        .into_iter()
        .filter_map(|case| run_twice(&case).err())
        .map(|failure| {
            format!(
                "{}\n  replay: cargo run --release -p kavka-sim -- replay {}",
                failure.message, failure.case
            )
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Each file of `seeds/` begins with a sentence and names cases that failed until something was mended.
#[test]
fn seeds_that_failed_once_hold() {
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/seeds")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(text.starts_with("# "), "a sentence that says what it is about");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        cases.extend(lines.map(|line| line.parse::<Case>().unwrap()));
    }
    assert!(!cases.is_empty());
    hold(cases);
}

#[test]
fn a_few_worlds_hold_and_take_the_same_course_twice() {
    hold((1_000..1_016).map(Case::new));
}

#[test]
fn without_faults_everyone_settles_and_stays() {
    let without = Fault::ALL.iter().copied().collect();
    for seed in 2_000..2_006 {
        let case = Case { without: std::collections::BTreeSet::clone(&without), ..Case::new(seed) };
        let (_, coverage) = run(&case, Mode::Checked).unwrap();
        // At the end of some worlds such a client is welcomed.
        let mut landed = coverage.faults.keys();
        assert!(landed.all(|fault| *fault == "two-handshakes"), "{:?}", coverage.faults);
        let expired = coverage.codes.get(&("Heartbeat", "UNKNOWN_MEMBER_ID"));
        assert_eq!(expired, None, "nobody loses its membership");
    }
}

#[test]
fn another_seed_takes_another_course() {
    let hash = |seed| run(&Case::new(seed), Mode::Checked).unwrap().0;
    assert_ne!(hash(3_000), hash(3_001));
}
