//! Many worlds: on every core, each twice to compare traces, with what they have seen added up.

use std::{
    cell::RefCell,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use kavka_checker::{History, Limits, check};

use crate::{
    coverage::Coverage,
    plan::Case,
    world::{Mode, World},
};

/// A world that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub case: Case,
    /// What did not hold, and where that is asked.
    pub message: String,
}

impl Failure {
    /// What two failures have in common that are the same: the invariant, or the beginning of the words.
    pub fn kind(&self) -> &str {
        let end = self.message.find([':', '{', '(']).unwrap_or(self.message.len());
        &self.message[..end.min(40)]
    }
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics are failures of worlds: they are kept, not printed.
pub fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let message = match (payload.downcast_ref::<String>(), payload.downcast_ref::<&str>()) {
            (Some(text), _) => text.clone(),
            (None, Some(text)) => (*text).to_owned(),
            (None, None) => "a panic without words".to_owned(),
        };
        let place = info.location().map(|at| format!(" [{}:{}]", at.file(), at.line()));
        let text = format!("{message}{}", place.unwrap_or_default());
        LAST_PANIC.with(|last| *last.borrow_mut() = text);
    }));
}

/// Runs a case; its trace hash and what it has seen.
///
/// # Errors
/// What did not hold.
pub fn run(case: &Case, mode: Mode) -> Result<(u64, Coverage), Failure> {
    caught(|| {
        let mut world = World::new(case, mode);
        world.run();
        if let Some(history) = world.take_history() {
            judge(&history);
            world.note_judged();
        }
        (world.trace_hash(), world.coverage().clone())
    })
    .map_err(|message| Failure { case: case.clone(), message })
}

/// What is done, or what the panic in it says.
pub(crate) fn caught<T>(what: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(what)).map_err(|payload| {
        let kept = LAST_PANIC.with(|last| std::mem::take(&mut *last.borrow_mut()));
        if kept.is_empty() {
            let text = payload.downcast_ref::<String>().cloned();
            text.unwrap_or_else(|| "a panic without words".into())
        } else {
            kept
        }
    })
}

/// Whether what clients saw is what they may see.
///
/// # Panics
/// If it is not.
fn judge(history: &History) {
    // How much went well is the plan's doing, not the coordinator's.
    let limits = Limits { min_ok_percent: 0, min_faults: 0, ..Limits::default() };
    let report = match check(history, &limits) {
        Ok(report) => report,
        Err(error) => panic!("no history: {error}"),
    };
    let bad: Vec<String> = report.bad().take(3).map(|anomaly| format!("{anomaly:?}")).collect();
    assert!(bad.is_empty(), "history: {}", bad.join("\n"));
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
    let next = AtomicU64::new(seeds.start);
    let outcome = Mutex::new(Outcome::default());
    let work = || {
        let mut seen = Coverage::default();
        let mut worlds = 0;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let case = Case::new(seed);
            let result = if twice {
                run_twice(&case)
            } else {
                run(&case, Mode::Checked).map(|(_, coverage)| coverage)
            };
            worlds += 1;
            match result {
                Ok(coverage) => seen.add(&coverage),
                Err(failure) => {
                    let mut all = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                    all.failures.push(failure);
                    if all.failures.len() >= max_failures {
                        next.store(seeds.end, Ordering::Relaxed);
                    }
                }
            }
        }
        let mut all = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        all.coverage.add(&seen);
        all.worlds += worlds;
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let mut outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.failures.sort_by_key(|failure| failure.case.seed);
    outcome
}

/// Makes a failure smaller: takes out one kind of fault after the other, then lets faults stop earlier, as long as the same
/// thing fails.
pub fn shrink(failure: &Failure) -> Failure {
    let mut smallest = failure.clone();
    let try_case = |smallest: &mut Failure, case: Case| match run(&case, Mode::Checked) {
        Err(other) if other.kind() == failure.kind() => {
            *smallest = other;
            true
        }
        _ => false,
    };
    for &fault in crate::plan::Fault::ALL {
        let mut case = smallest.case.clone();
        if crate::plan::Plan::of(&case).rate(fault) > 0 && case.without.insert(fault) {
            try_case(&mut smallest, case);
        }
    }
    let mut low = 0;
    let mut high = crate::plan::Plan::of(&smallest.case).faults_end_at;
    while high > low + 500 {
        let middle = low.midpoint(high);
        let case = Case { faults_end_at: Some(middle), ..smallest.case.clone() };
        if try_case(&mut smallest, case) {
            high = middle;
        } else {
            low = middle;
        }
    }
    smallest
}

/// Adds a campaign to a ledger of them, a line of JSON each.
///
/// # Errors
/// The file cannot be written.
pub fn write_ledger(
    path: &std::path::Path,
    seeds: &Range<u64>,
    outcome: &Outcome,
    took: std::time::Duration,
) -> anyhow::Result<()> {
    let commit = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let line = serde_json::json!({
        "commit": commit.unwrap_or_default(),
        "seeds": format!("{}..{}", seeds.start, seeds.end),
        "worlds": outcome.worlds,
        "simulated_hours": outcome.coverage.hours().round(),
        "events": outcome.coverage.events,
        "faults_landed": outcome.coverage.faults_landed(),
        "wall_seconds": took.as_secs(),
        "failures": outcome.failures.iter().map(|f| f.case.to_string()).collect::<Vec<_>>(),
        "verdict": if outcome.failures.is_empty() { "held" } else { "failed" },
    });
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "{line}")?;
    Ok(())
}
