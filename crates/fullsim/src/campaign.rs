//! Many worlds: on every core, each twice to compare traces, with what they have seen added up.

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

use kavka_sim::campaign::on_threads;

use crate::{Case, Outcome, Story, Telling, run};

/// What many worlds came to.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// Worlds that ran.
    pub worlds: u64,
    /// Their simulated time, each counted once.
    pub time: Duration,
    /// What happened in them.
    pub events: u64,
    /// Records that were acknowledged.
    pub records: usize,
    /// Futures that were dropped before they were ready.
    pub cancelled: u64,
    /// Faults that landed, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// What did not hold.
    pub failures: Vec<(Case, String)>,
}

/// A world takes a second or two, also twice.
const PATIENCE: Duration = Duration::from_secs(240);

/// Runs the worlds of these seeds, each `times` times; ends early after `most_failures`. One that does
/// not come to an end is named, and ends the process.
pub fn campaign(seeds: Range<u64>, threads: usize, times: u32, most_failures: usize) -> Sum {
    let sum = Mutex::new(Sum::default());
    let running: Mutex<BTreeMap<u64, Instant>> = Mutex::default();
    let running = || running.lock().unwrap_or_else(PoisonError::into_inner);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Who does not let time pass cannot be ended from inside.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(100));
                let stuck = running()
                    .iter()
                    .find(|(_, began)| began.elapsed() > PATIENCE)
                    .map(|(seed, _)| *seed);
                if let Some(seed) = stuck {
                    eprintln!(
                        "{seed} does not hold: it does not come to an end, something in it is busy without a pause"
                    );
                    std::process::exit(1);
                }
            }
        });
        on_threads(seeds, threads, |seed| {
            let case = Case::from(seed);
            running().insert(seed, Instant::now());
            let result = repeat(&case, times);
            running().remove(&seed);
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.worlds += 1;
            match result {
                Ok(outcome) => sum.add(&outcome),
                Err(message) => {
                    eprintln!("{case} does not hold");
                    sum.failures.push((case, message));
                }
            }
            if sum.failures.len() < most_failures { Continue(()) } else { Break(()) }
        });
        is_over.store(true, Ordering::Relaxed);
    });
    let mut sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.failures.sort();
    sum
}

/// Runs a world so many times. In a build in which tokio takes no seed (`docs/simulation.md`) nobody can have it again, so that one that
/// does not hold leaves its whole course behind.
///
/// # Errors
/// What did not hold, and where its course is; also that it came out otherwise the second time.
pub fn repeat(case: &Case, times: u32) -> Result<Outcome, String> {
    let story = Story::default();
    let is_seeded = cfg!(tokio_unstable);
    let telling = if is_seeded { Telling::Nowhere } else { Telling::Into(Arc::clone(&story)) };
    let first = run(case, &telling).map_err(|message| {
        if is_seeded { message } else { format!("{message}\n{}", left_behind(case, &story)) }
    })?;
    for _ in 1..times {
        let again = run(case, &Telling::Nowhere)
            .map_err(|error| format!("the second time only: {error}"))?;
        if again.trace != first.trace {
            return Err(format!(
                "it came out otherwise the second time: trace {:x} of {} events, then {:x} of {}",
                first.trace, first.events, again.trace, again.events
            ));
        }
    }
    Ok(first)
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

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.time += outcome.took;
        self.events += outcome.events;
        self.records += outcome.records;
        self.cancelled += outcome.cancelled;
        for (kind, count) in &outcome.faults {
            *self.faults.entry(kind).or_default() += count;
        }
    }
}
