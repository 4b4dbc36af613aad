//! Many worlds: on every core, each twice to compare traces, with what they have seen added up.

use std::{
    ops::{
        ControlFlow::{self, Break, Continue},
        Range,
    },
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context;
use kavka_checker::{History, Limits, check};

use crate::{
    coverage::Coverage,
    panics::caught,
    plan::{Case, Fault},
    shrink,
    world::{Mode, World},
};

/// A world that did not hold.
pub type Failure = shrink::Failure<Fault>;

/// Runs a case; its trace hash and what it has seen.
///
/// # Errors
/// What did not hold.
pub fn run(case: &Case, mode: Mode) -> Result<(u64, Coverage), Failure> {
    caught(|| {
        let mut world = World::new(case, mode);
        world.run();
        if let Some(history) = world.take_history() {
            judge(&history)?;
            world.note_judged();
        }
        Ok((world.trace_hash(), world.coverage().clone()))
    })
    .and_then(|judged| judged)
    .map_err(|message| Failure { case: case.clone(), message })
}

/// Whether what clients saw is what they may see.
///
/// # Errors
/// What the checker found, its first few findings.
pub fn judge(history: &History) -> Result<(), String> {
    // How much went well is the plan's doing, not the coordinator's.
    let limits = Limits { min_ok_percent: 0, min_faults: 0, ..Limits::default() };
    let report = check(history, &limits).map_err(|error| format!("no history: {error}"))?;
    let bad: Vec<String> = report.bad().take(3).map(|anomaly| format!("{anomaly:?}")).collect();
    if bad.is_empty() { Ok(()) } else { Err(format!("history: {}", bad.join("\n"))) }
}

/// Runs a case, and once more to see that it takes the same course.
///
/// # Errors
/// What did not hold.
pub fn run_twice(case: &Case) -> Result<Coverage, Failure> {
    let is_judged = case.seed.is_multiple_of(JUDGED_EVERY);
    let (first, coverage) = run(case, if is_judged { Mode::Recorded } else { Mode::Checked })?;
    let (second, _) = run(case, Mode::Unchecked)?;
    if first == second {
        Ok(coverage)
    } else {
        let message = format!("two runs differ: trace {first:x} and {second:x}");
        Err(Failure { case: case.clone(), message })
    }
}

/// Of so many seeds one has its history judged: that takes longer than the world.
const JUDGED_EVERY: u64 = 8;

/// What a campaign came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What all worlds have seen together.
    pub coverage: Coverage,
    /// Those that did not hold, by seed.
    pub failures: Vec<Failure>,
    /// Worlds that were run.
    pub worlds: u64,
}

/// Runs the worlds of these seeds. Stops after `max_failures`.
pub fn campaign(seeds: Range<u64>, threads: usize, twice: bool, max_failures: usize) -> Outcome {
    let outcome = Mutex::new(Outcome::default());
    on_threads(seeds, threads, |seed| {
        let case = Case::new(seed);
        let result = if twice {
            run_twice(&case)
        } else {
            run(&case, Mode::Checked).map(|(_, coverage)| coverage)
        };
        let mut all = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        all.worlds += 1;
        match result {
            Ok(coverage) => all.coverage.add(&coverage),
            Err(failure) => all.failures.push(failure),
        }
        if all.failures.len() < max_failures { Continue(()) } else { Break(()) }
    });
    let mut outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.failures.sort_by_key(|failure| failure.case.seed);
    outcome
}

/// Has so many threads work on the numbers of a range, each thread on one at a time; they begin with no other when one of them
/// breaks off.
pub fn on_threads(
    numbers: Range<u64>,
    threads: usize,
    work: impl Fn(u64) -> ControlFlow<()> + Sync,
) {
    let next = AtomicU64::new(numbers.start);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end {
                        return;
                    }
                    if work(number).is_break() {
                        next.store(numbers.end, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

/// Seeds as they are given on a command line, from the first to before the last: `0..300`.
///
/// # Errors
/// They are something else.
pub fn parse_seeds(text: &str) -> anyhow::Result<Range<u64>> {
    let (from, to) = text.split_once("..").context("seeds are given as A..B")?;
    Ok(from.parse()?..to.parse()?)
}

/// Makes a failure smaller, as long as the same thing fails.
pub fn smallest(failure: &Failure) -> Failure {
    shrink::shrink(failure, |case| {
        run(case, Mode::Checked).map(drop).map_err(|failure| failure.message)
    })
}
