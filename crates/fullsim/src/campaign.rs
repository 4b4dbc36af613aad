//! Many worlds: on every core, each twice to compare traces, with what they have seen added up.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{Case, Outcome, run};

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
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Sum::default());
    let lock = || sum.lock().unwrap_or_else(PoisonError::into_inner);
    let running: Mutex<BTreeMap<u64, Instant>> = Mutex::default();
    let running = || running.lock().unwrap_or_else(PoisonError::into_inner);
    let workers = AtomicU64::new(threads.max(1) as u64);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || lock().failures.len() >= most_failures {
                        workers.fetch_sub(1, Ordering::Relaxed);
                        return;
                    }
                    let case = Case::from(seed);
                    running().insert(seed, Instant::now());
                    let result = repeat(&case, times);
                    running().remove(&seed);
                    let mut sum = lock();
                    sum.worlds += 1;
                    match result {
                        Ok(outcome) => sum.add(&outcome),
                        Err(message) => {
                            eprintln!("{case} does not hold");
                            sum.failures.push((case, message));
                        }
                    }
                }
            });
        }
        // Who does not let time pass cannot be ended from inside.
        while workers.load(Ordering::Relaxed) > 0 {
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
    let mut sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.failures.sort();
    sum
}

/// Runs a world so many times.
///
/// # Errors
/// What did not hold; also that it came out otherwise the second time.
pub fn repeat(case: &Case, times: u32) -> Result<Outcome, String> {
    let first = run(case, false)?;
    for _ in 1..times {
        let again = run(case, false).map_err(|error| format!("the second time only: {error}"))?;
        if again.trace != first.trace {
            return Err(format!(
                "it came out otherwise the second time: trace {:x} of {} events, then {:x} of {}",
                first.trace, first.events, again.trace, again.events
            ));
        }
    }
    Ok(first)
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
