//! Runs worlds: many, or one again.

mod explore_command;

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use clap::{Parser, Subcommand};
use kavka_sim::{Case, Mode, campaign, campaign::parse_seeds, keep_panics, ledger, run, smallest};

/// Both halves of the group protocol, the log and the network, under a seed.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the worlds of many seeds, and says what they have seen.
    Campaign {
        /// From the first to before the last: `0..4000`.
        #[arg(long, value_parser = parse_seeds, default_value = "0..4000")]
        seeds: Range<u64>,
        /// How many at a time.
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Each once only, without comparing traces.
        #[arg(long)]
        once: bool,
        /// Do not ask whether everything was seen that should be.
        #[arg(long)]
        no_coverage: bool,
        /// Adds a line to this file.
        #[arg(long)]
        ledger: Option<std::path::PathBuf>,
    },
    /// Runs cases again, and tells what happens.
    Replay {
        /// Seeds, or seeds less what is left out: `7~slow@60000`.
        #[arg(required = true)]
        cases: Vec<Case>,
        /// Only whether they hold, and whether the checker finds nothing in what clients saw.
        #[arg(long)]
        quiet: bool,
    },
    /// Gives the machines one bug after the other, and looks whether the seed that is recorded for it finds it; if not, for another
    /// one. Only in a build with `--cfg kavka_mutants`.
    Mutants {
        /// Seeds to be tried where the recorded one does not do.
        #[arg(long, value_parser = parse_seeds, default_value = "0..4000")]
        seeds: Range<u64>,
        /// Do not begin with another seed after so many seconds.
        #[arg(long, default_value_t = 600)]
        seconds: u64,
        /// Forget the recorded seeds, and look for the first one of each.
        #[arg(long)]
        anew: bool,
        /// Write down what was found, here and in the documentation.
        #[arg(long)]
        record: bool,
        /// Only these.
        names: Vec<String>,
    },
    /// Small worlds, exhaustively: everything that can happen to a small group, in every order.
    Explore(explore_command::Options),
    /// Makes a failing case smaller.
    Shrink {
        /// The case.
        case: Case,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Campaign { seeds, threads, once, no_coverage, ledger } => {
            keep_panics();
            run_campaign(seeds, threads, !once, !no_coverage, ledger.as_deref())
        }
        Command::Replay { cases, quiet } => replay(&cases, quiet),
        Command::Mutants { seeds, seconds, anew, record, names } => {
            keep_panics();
            hunt(&Hunt { seeds, patience: Duration::from_secs(seconds), anew, record, names })
        }
        Command::Explore(options) => {
            keep_panics();
            explore_command::run(&options)
        }
        Command::Shrink { case } => {
            keep_panics();
            let Err(failure) = run(&case, Mode::Checked) else { bail!("{case} holds") };
            let smallest = smallest(&failure);
            println!("{}\nreplay: {}", smallest.message, replay_command(&smallest.case));
            Ok(())
        }
    }
}

fn replay_command(case: &Case) -> String {
    format!("cargo run --release -p kavka-sim -- replay {case}")
}

fn run_campaign(
    seeds: Range<u64>,
    threads: usize,
    twice: bool,
    coverage: bool,
    ledger: Option<&std::path::Path>,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let outcome = campaign(seeds.clone(), threads, twice, 20);
    let took = began.elapsed();
    let seen = &outcome.coverage;
    print!("{}", seen.report());
    println!(
        "{} worlds, {:.0} simulated hours, {} events checked, {} faults landed; {:.1} s, {:.0} checked events per second",
        outcome.worlds,
        seen.hours(),
        seen.events,
        seen.faults_landed(),
        took.as_secs_f64(),
        seen.events as f64 / took.as_secs_f64(),
    );
    if let Some(path) = ledger {
        let entry = ledger::Entry {
            seeds,
            worlds: outcome.worlds,
            simulated_hours: seen.hours(),
            events: seen.events,
            faults_landed: seen.faults_landed(),
            failures: outcome.failures.iter().map(|failure| failure.case.to_string()).collect(),
            took,
        };
        entry.write(path)?;
    }
    for failure in &outcome.failures {
        println!("\n{}\n  replay: {}", failure.message, replay_command(&failure.case));
    }
    if let Some(first) = outcome.failures.first() {
        let smallest = smallest(first);
        println!(
            "\nthe first, smaller: {}\n  replay: {}",
            smallest.message,
            replay_command(&smallest.case)
        );
        bail!("{} of {} worlds do not hold", outcome.failures.len(), outcome.worlds);
    }
    if coverage {
        let missing = seen.missing();
        ensure!(missing.is_empty(), "not seen, or not often enough:\n{}", missing.join("\n"));
    }
    Ok(())
}

fn replay(cases: &[Case], quiet: bool) -> anyhow::Result<()> {
    for case in cases {
        let mode = if quiet { Mode::Recorded } else { Mode::Told };
        match run(case, mode) {
            Ok((hash, coverage)) => {
                println!("{case} holds: {} events, trace {hash:x}", coverage.events);
            }
            Err(failure) => bail!("{case} does not hold: {}", failure.message),
        }
    }
    Ok(())
}

/// How mutants are looked for.
#[derive(Debug)]
#[cfg_attr(not(kavka_mutants), expect(dead_code, reason = "there are none to look for"))]
struct Hunt {
    seeds: Range<u64>,
    patience: Duration,
    anew: bool,
    record: bool,
    names: Vec<String>,
}

#[cfg(not(kavka_mutants))]
fn hunt(_: &Hunt) -> anyhow::Result<()> {
    bail!(
        "there are no mutants in this build: RUSTFLAGS='--cfg kavka_mutants' cargo run --target-dir target/mutants ..."
    )
}

/// How many of a hundred mutants have to be found.
#[cfg(kavka_mutants)]
const FOUND_AT_LEAST: usize = 95;

#[cfg(kavka_mutants)]
fn hunt(hunt: &Hunt) -> anyhow::Result<()> {
    use std::sync::{Mutex, PoisonError};

    let began = Instant::now();
    let mut all = kavka_sim::mutants::all();
    let names = &hunt.names;
    let is_wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let wanted: Vec<usize> = (0..all.len()).filter(|at| is_wanted(all[*at].name)).collect();
    ensure!(!wanted.is_empty(), "there are no such mutants: {names:?}");
    let next = Mutex::new(wanted.iter());
    let found = Mutex::new(std::collections::BTreeMap::new());
    let finds = |seed: u64| run(&Case::new(seed), Mode::Checked).err();
    let work = || {
        loop {
            let mutant = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(&at) = mutant else { return };
            kavka_mutants::activate(all[at].name);
            let recorded = all[at].seed.filter(|_| !hunt.anew);
            let failure = recorded.and_then(finds).or_else(|| {
                let in_time = |_: &u64| began.elapsed() < hunt.patience;
                hunt.seeds.clone().take_while(in_time).find_map(finds)
            });
            kavka_mutants::activate("");
            if let Some(failure) = failure {
                found.lock().unwrap_or_else(PoisonError::into_inner).insert(at, failure);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut by_another = 0;
    for at in &wanted {
        let former = all[*at].seed;
        match found.get(at) {
            Some(failure) => all[*at].found_by(failure),
            None => (all[*at].seed, all[*at].how) = (None, String::new()),
        }
        by_another += usize::from(all[*at].seed != former);
        println!("{}", all[*at].row());
    }
    let (count, of, took) = (found.len(), wanted.len(), began.elapsed().as_secs_f64());
    println!("{count} of {of} mutants found in {took:.0} s");
    if by_another > 0 {
        println!("{by_another} otherwise than the table says: write it anew with --record");
    }
    if hunt.record {
        kavka_sim::mutants::record(&all)?;
    }
    ensure!(count * 100 >= of * FOUND_AT_LEAST, "too few");
    Ok(())
}
