//! Many worlds: on every core, each twice to compare traces, with what they have seen added up; and smaller failures.

use std::{
    collections::BTreeMap,
    ops::{
        ControlFlow::{Break, Continue},
        Range,
    },
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use kavka_sim::{campaign::on_threads, shrink, shrink::shrink};

use crate::{Case, Coverage, Outcome, Part, Story, Telling, run};

/// A world that did not hold.
pub type Failure = shrink::Failure<Part>;

/// What many worlds came to.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// Worlds that ran.
    pub worlds: u64,
    /// Their simulated time, each counted once.
    pub time: Duration,
    /// What happened in them.
    pub events: u64,
    /// What they have seen.
    pub coverage: Coverage,
    /// Those that did not hold, by seed.
    pub failures: Vec<Failure>,
}

/// A world takes a second or two, also twice.
const PATIENCE: Duration = Duration::from_secs(240);

/// The worlds that run now, and since when.
#[derive(Default)]
struct Watch(Mutex<BTreeMap<Case, Instant>>);

impl Watch {
    /// Has `work` run worlds through [`Watch::world`]. One that does not come to an end is named, and ends the process.
    fn over<T>(work: impl FnOnce(&Self) -> T) -> T {
        let watch = Self::default();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Who does not let time pass cannot be ended from inside.
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(100));
                    if let Some(case) = watch.stuck() {
                        eprintln!(
                            "{case} does not hold: it does not come to an end, something in it is busy without a pause"
                        );
                        std::process::exit(1);
                    }
                }
            });
            let result = work(&watch);
            is_over.store(true, Ordering::Relaxed);
            result
        })
    }

    fn world(&self, case: &Case, times: u32) -> Outcome {
        let running = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running().insert(case.clone(), Instant::now());
        let outcome = repeat(case, times);
        running().remove(case);
        outcome
    }

    fn stuck(&self) -> Option<Case> {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stuck = running.iter().find(|(_, began)| began.elapsed() > PATIENCE);
        stuck.map(|(case, _)| case.clone())
    }
}

/// Runs the worlds of these seeds, each `times` times; ends early after `most_failures`. One that does
/// not come to an end is named, and ends the process.
pub fn campaign(seeds: Range<u64>, threads: usize, times: u32, most_failures: usize) -> Sum {
    let sum = Mutex::new(Sum::default());
    Watch::over(|watch| {
        on_threads(seeds, threads, |seed| {
            let case = Case::new(seed);
            let outcome = watch.world(&case, times);
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.worlds += 1;
            sum.time += outcome.took;
            sum.events += outcome.events;
            sum.coverage.add(&outcome.coverage);
            if let Err(message) = outcome.verdict {
                eprintln!("{case} does not hold");
                sum.failures.push(Failure { case, message });
            }
            if sum.failures.len() < most_failures { Continue(()) } else { Break(()) }
        });
    });
    let mut sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.failures.sort_by_key(|failure| failure.case.seed);
    sum
}

/// How the message of a world begins that did not come out twice the same.
const DIFFERS: &str = "two runs differ";

/// Runs a world so many times, as long as it holds. In a build in which tokio takes no seed (`docs/simulation.md`) nobody can have it
/// again, so that one that does not hold leaves its whole course behind.
pub fn repeat(case: &Case, times: u32) -> Outcome {
    let story = Story::default();
    let is_seeded = cfg!(tokio_unstable);
    let telling = if is_seeded { Telling::Nowhere } else { Telling::Into(Arc::clone(&story)) };
    let mut first = run(case, &telling);
    if let (Err(message), false) = (&mut first.verdict, is_seeded) {
        *message = format!("{message}\n{}", left_behind(case, &story));
    }
    for _ in 1..times {
        if first.verdict.is_err() {
            break;
        }
        let again = run(case, &Telling::Nowhere);
        if let Err(message) = again.verdict {
            first.verdict = Err(format!("{DIFFERS}: the second does not hold: {message}"));
        } else if again.trace != first.trace {
            first.verdict = Err(format!(
                "{DIFFERS}: trace {:x} of {} events, then {:x} of {}",
                first.trace, first.events, again.trace, again.events
            ));
        }
    }
    first
}

/// Makes a failure smaller, as long as the same thing fails.
pub fn smallest(failure: &Failure) -> Failure {
    let times = if failure.message.starts_with(DIFFERS) { 2 } else { 1 };
    Watch::over(|watch| shrink(failure, |case| watch.world(case, times).verdict))
}

/// Whether a case takes the same course twice: byte for byte what is told of it, and what clients see in it.
///
/// # Errors
/// A history cannot be written.
pub fn is_reproduced(case: &Case) -> anyhow::Result<bool> {
    let course = || {
        let story = Story::default();
        let outcome = run(case, &Telling::Into(Arc::clone(&story)));
        let mut history = Vec::new();
        outcome.history.write(&mut history)?;
        let story = std::mem::take(&mut *story.lock().unwrap_or_else(PoisonError::into_inner));
        anyhow::Ok((outcome.verdict, story, history))
    };
    Ok(course()? == course()?)
}

/// Writes down what a world has told; where.
fn left_behind(case: &Case, story: &Story) -> String {
    let name = format!("kavka-world-{case}-{}.txt", std::process::id());
    let path = std::env::temp_dir().join(name);
    let story = story.lock().unwrap_or_else(PoisonError::into_inner);
    match std::fs::write(&path, &**story) {
        Ok(()) => {
            format!("its course, which no seed brings back in this build: {}", path.display())
        }
        Err(error) => format!("its course cannot be written to {}: {error}", path.display()),
    }
}
