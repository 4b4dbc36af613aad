//! Failures, and how they are made smaller: by what their worlds can do without, as long as the same thing fails.

use crate::case::{Case, Part};

/// A world that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure<P> {
    /// Which.
    pub case: Case<P>,
    /// What did not hold, and where that is asked.
    pub message: String,
}

impl<P> Failure<P> {
    /// What two failures have in common that are the same: the invariant, or the beginning of the words, and the place in the code
    /// if it was a panic.
    pub fn kind(&self) -> (&str, &str) {
        let message = self.message.as_str();
        let (words, place) = match message.rsplit_once(" [") {
            Some((words, place)) if place.ends_with(']') && place.contains(".rs:") => {
                (words, place)
            }
            _ => (message, ""),
        };
        let end = words.find([':', '{', '(']).unwrap_or(words.len());
        let end = words.char_indices().map(|(at, _)| at).nth(40).map_or(end, |most| end.min(most));
        (&words[..end], place)
    }
}

/// What faults have less than this of is not made shorter, in milliseconds.
const SHORT: u64 = 500;

/// Makes a failure smaller: has faults stop earlier and leaves out one part after the other, until nothing can be left out.
/// `run` tells what does not hold in a case.
pub fn shrink<P: Part>(
    failure: &Failure<P>,
    run: impl Fn(&Case<P>) -> Result<(), String>,
) -> Failure<P> {
    let mut smallest = failure.clone();
    let try_case = |smallest: &mut Failure<P>, case: Case<P>| {
        let Err(message) = run(&case) else { return false };
        let smaller = Failure { case, message };
        let is_same = smaller.kind() == failure.kind();
        if is_same {
            *smallest = smaller;
        }
        is_same
    };
    loop {
        let before = smallest.case.clone();
        let mut low = 0;
        let mut high = P::faults_end_at(&before);
        while high > low + SHORT {
            let middle = low.midpoint(high);
            let case = Case { faults_end_at: Some(middle), ..smallest.case.clone() };
            if try_case(&mut smallest, case) {
                high = middle;
            } else {
                low = middle;
            }
        }
        for part in P::all_in(&smallest.case) {
            // What is there changes with what was left out.
            if P::all_in(&smallest.case).contains(&part) {
                let mut case = smallest.case.clone();
                case.without.insert(part);
                try_case(&mut smallest, case);
            }
        }
        if smallest.case == before {
            return smallest;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::plan::Fault;

    #[test]
    fn what_a_failure_needs_is_left() {
        let needed = [Fault::Slow, Fault::Hang];
        let run = |case: &Case<Fault>| {
            let there = Fault::all_in(case);
            let is_long = Fault::faults_end_at(case) > 9_000;
            if is_long && needed.iter().all(|part| there.contains(part)) {
                return Err(format!("S1: with {} others", there.len() - needed.len()));
            }
            if there.contains(&Fault::Slow) { Err("S2: another thing".into()) } else { Ok(()) }
        };
        let fails = |seed: &u64| run(&Case::new(*seed)).is_err_and(|told| told.starts_with("S1"));
        let seed = (0..).find(fails).unwrap();
        let case = Case::new(seed);
        let failure = Failure { message: run(&case).unwrap_err(), case };
        let smallest = shrink(&failure, run);
        assert_eq!(smallest.message, "S1: with 0 others");
        assert!(smallest.case.faults_end_at.is_some_and(|at| at < 9_000 + 2 * SHORT));
        let mut left = Fault::all_in(&smallest.case);
        left.sort();
        assert_eq!(left, needed);
        let again: Case<Fault> = smallest.case.to_string().parse().unwrap();
        assert_eq!(again, smallest.case, "the word for it is all that is needed");
    }

    #[test]
    fn failures_are_the_same_if_they_are_of_one_invariant_or_one_place() {
        let kind = |message: &str| {
            let failure = Failure { case: Case::<Fault>::new(1), message: message.to_owned() };
            let (words, place) = failure.kind();
            (words.to_owned(), place.to_owned())
        };
        assert_eq!(kind("S5: (\"group-0\", 7)"), kind("S5: (\"group-1\", 3)"));
        assert_ne!(kind("S5: 7"), kind("S6: 7"));
        let equal = "assertion `left == right` failed\n left: 1\n right: 2";
        assert_eq!(kind(&format!("{equal} [src/a.rs:7]")), kind(&format!("{equal} [src/a.rs:7]")));
        assert_ne!(kind(&format!("{equal} [src/a.rs:7]")), kind(&format!("{equal} [src/b.rs:7]")));
        assert_eq!(kind(&"ä".repeat(50)).0.chars().count(), 40);
    }
}
