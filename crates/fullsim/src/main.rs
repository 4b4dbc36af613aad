//! Runs worlds: many, or one again.

use std::{ops::Range, time::Instant};

use anyhow::{bail, ensure};
use clap::{Parser, Subcommand};
use kavka_fullsim::{
    Case, Telling,
    campaign::{self, Failure, is_reproduced, repeat, smallest},
    run,
};
use kavka_sim::{campaign::parse_seeds, keep_panics, ledger};

/// How to run this so that equal seeds come out equal: tokio makes some choices at random, and takes a seed for them only so.
const COMMAND: &str = "RUSTFLAGS='--cfg tokio_unstable' cargo run --profile simulation -p kavka-fullsim --target-dir target/seeded --";

/// The whole broker and whole clients, in one thread, under a seed.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the worlds of many seeds, and says what they have seen.
    Campaign {
        /// From the first to before the last: `0..300`.
        #[arg(long, value_parser = parse_seeds, default_value = "0..300")]
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
    /// Runs worlds again, and tells what happens on standard error. `RUST_LOG` adds what broker and clients log.
    Replay {
        /// Seeds, or seeds less what is left out: `7~half-open~member-1~strike-4@30000`.
        #[arg(required = true)]
        cases: Vec<Case>,
        /// Only whether they hold.
        #[arg(long)]
        quiet: bool,
        /// Where the history goes, for `kavka-check`.
        #[arg(long)]
        history: Option<std::path::PathBuf>,
    },
    /// Makes a failing case smaller.
    Shrink {
        /// The case.
        case: Case,
    },
}

fn main() -> anyhow::Result<()> {
    keep_panics();
    match Arguments::parse().command {
        Command::Campaign { seeds, threads, once, no_coverage, ledger } => {
            let times = if once { 1 } else { 2 };
            run_campaign(seeds, threads, times, !no_coverage, ledger.as_deref())
        }
        Command::Shrink { case } => {
            if !cfg!(tokio_unstable) {
                bail!("in this build worlds come out otherwise each time; take {COMMAND} shrink");
            }
            let Err(message) = repeat(&case, 2).verdict else { bail!("{case} holds") };
            tell_smallest(&Failure { case, message })
        }
        Command::Replay { cases, quiet, history } => {
            tracing_subscriber::fmt()
                .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
                .with_writer(std::io::stderr)
                .without_time()
                .init();
            replay(&cases, quiet, history.as_deref())
        }
    }
}

fn run_campaign(
    seeds: Range<u64>,
    threads: usize,
    times: u32,
    coverage: bool,
    ledger: Option<&std::path::Path>,
) -> anyhow::Result<()> {
    if times > 1 && !cfg!(tokio_unstable) {
        bail!("in this build worlds come out otherwise each time; take {COMMAND} campaign");
    }
    let began = Instant::now();
    let sum = campaign::campaign(seeds.clone(), threads, times, 20);
    let took = began.elapsed();
    let seen = &sum.coverage;
    print!("{}", seen.report());
    let hours = sum.time.as_secs_f64() / 3_600.0;
    println!(
        "{} worlds, {times} times each; {hours:.1} simulated hours, {} events, {} faults landed; {:.1} s",
        sum.worlds,
        sum.events,
        seen.faults_landed(),
        took.as_secs_f64(),
    );
    if let Some(path) = ledger {
        let entry = ledger::Entry {
            seeds,
            worlds: sum.worlds,
            simulated_hours: hours,
            events: sum.events,
            faults_landed: seen.faults_landed(),
            failures: sum.failures.iter().map(|failure| failure.case.to_string()).collect(),
            took,
        };
        entry.write(path)?;
    }
    for failure in &sum.failures {
        println!("\n{}\n  replay: {COMMAND} replay {}", failure.message, failure.case);
    }
    if let Some(first) = sum.failures.first() {
        if cfg!(tokio_unstable) {
            println!("\nthe first, smaller:");
            tell_smallest(first)?;
        }
        bail!("{} of {} worlds do not hold", sum.failures.len(), sum.worlds);
    }
    if coverage {
        let missing = seen.missing();
        ensure!(missing.is_empty(), "not seen, or not often enough:\n{}", missing.join("\n"));
    }
    Ok(())
}

fn tell_smallest(failure: &Failure) -> anyhow::Result<()> {
    let Failure { case, message } = smallest(failure);
    let again = match is_reproduced(&case)? {
        true => "comes out again, byte for byte",
        false => "does not come out again as it was: something in it is not decided by its seed",
    };
    println!("{message}\n  replay, which {again}: {COMMAND} replay {case}");
    Ok(())
}

fn replay(cases: &[Case], quiet: bool, history: Option<&std::path::Path>) -> anyhow::Result<()> {
    let telling = if quiet { Telling::Nowhere } else { Telling::OnStandardError };
    for case in cases {
        let outcome = run(case, &telling);
        if let Some(path) = history {
            outcome.history.write(std::fs::File::create(path)?)?;
        }
        if let Err(message) = outcome.verdict {
            bail!("{case} does not hold: {message}");
        }
        println!("{case} holds: {} events, trace {:x}", outcome.events, outcome.trace);
    }
    Ok(())
}
