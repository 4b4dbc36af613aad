//! Runs worlds: many, or one again.

use std::{ops::Range, time::Instant};

use anyhow::bail;
use clap::{Parser, Subcommand};
use kavka_fullsim::{Case, Telling, campaign, run};
use kavka_sim::{campaign::parse_seeds, keep_panics};

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
    },
    /// Runs worlds again, and tells what happens on standard error. `RUST_LOG` adds what broker and clients log.
    Replay {
        /// Seeds, or seeds less kinds of faults that are left out: `7~half-open~restarts`.
        #[arg(required = true)]
        cases: Vec<Case>,
        /// Only whether they hold.
        #[arg(long)]
        quiet: bool,
        /// Where the history goes, for `kavka-check`.
        #[arg(long)]
        history: Option<std::path::PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    keep_panics();
    match Arguments::parse().command {
        Command::Campaign { seeds, threads, once } => {
            run_campaign(seeds, threads, if once { 1 } else { 2 })
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

fn run_campaign(seeds: Range<u64>, threads: usize, times: u32) -> anyhow::Result<()> {
    if times > 1 && !cfg!(tokio_unstable) {
        bail!("in this build worlds come out otherwise each time; take {COMMAND} campaign");
    }
    let began = Instant::now();
    let sum = campaign(seeds, threads, times, 20);
    for (kind, count) in &sum.faults {
        println!("{count:>8} {kind}");
    }
    println!(
        "{} worlds, {times} times each; {:.1} simulated hours, {} events, {} records acknowledged, {} futures dropped early; {:.1} s",
        sum.worlds,
        sum.time.as_secs_f64() / 3_600.0,
        sum.events,
        sum.records,
        sum.cancelled,
        began.elapsed().as_secs_f64(),
    );
    for (case, message) in &sum.failures {
        println!("\n{message}\n  replay: {COMMAND} replay {case}");
    }
    if !sum.failures.is_empty() {
        bail!("{} of {} worlds do not hold", sum.failures.len(), sum.worlds);
    }
    Ok(())
}

fn replay(cases: &[Case], quiet: bool, history: Option<&std::path::Path>) -> anyhow::Result<()> {
    let telling = if quiet { Telling::Nowhere } else { Telling::OnStandardError };
    for case in cases {
        match run(case, &telling) {
            Ok(outcome) => {
                println!("{case} holds: {} events, trace {:x}", outcome.events, outcome.trace);
                if let Some(path) = history {
                    let file = std::fs::File::create(path)?;
                    outcome.history.write(file)?;
                }
            }
            Err(message) => bail!("{case} does not hold: {message}"),
        }
    }
    Ok(())
}
