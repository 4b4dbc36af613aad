//! Sends the same raw requests to a Kavka and to an Apache Kafka, and compares every field of every answer, and the records both wrote
//! to `__consumer_offsets`.
//!
//! * [`scripts`]: one sequence for each table of the protocol's rules. [`walk`]: random sequences from a seed.
//! * [`pair`]: sending to both, and when to go on; [`side`]: one broker; [`symbols`]: what each makes up by itself.
//! * [`compare`]: two answers, field by field; [`allowances`]: the differences that are meant, each explained in
//!   `docs/differences.md`; [`offsets_log`]: the records.

mod allowances;
mod compare;
mod offsets_log;
mod pair;
mod random;
mod scripts;
mod side;
mod symbols;
mod topics;
mod walk;

use std::{
    collections::BTreeMap,
    net::{SocketAddr, ToSocketAddrs},
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Parser;

use crate::{offsets_log::OffsetsLog, pair::Pair};

/// Sends the same raw requests to both brokers and compares every answer and every record of `__consumer_offsets`.
///
/// Both have to run with group.initial.rebalance.delay.ms=0 (or as --initial-delay-ms says), group.min.session.timeout.ms=100, group.max.size=5 and
/// auto.create.topics.enable=false, and Apache Kafka with group.coordinator.append.linger.ms=0.
///
/// Exit code: 0 when nothing differs but what docs/differences.md names, 1 when something does, 2 for wrong usage.
#[derive(Debug, Parser)]
struct Args {
    /// The Kavka broker
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address)]
    kavka: SocketAddr,
    /// The Apache Kafka broker
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address)]
    apache: SocketAddr,
    /// Seed of the random walks
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Steps of the random walks
    #[arg(long, default_value_t = 2000)]
    steps: usize,
    /// Only the scripts whose names contain this; "none" for the random walks alone
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// group.initial.rebalance.delay.ms of both brokers; other than 0, only the scripts for such brokers are run
    #[arg(long, default_value_t = 0, value_name = "N")]
    initial_delay_ms: u64,
    /// Differences after which the run ends
    #[arg(long, default_value_t = 20, value_name = "N")]
    most: usize,
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let addresses = text.to_socket_addrs().map_err(|error| format!("{text}: {error}"))?;
    addresses.into_iter().next().ok_or_else(|| format!("{text} has no address"))
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("differential: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<bool> {
    let begun = Instant::now();
    // Part of the name of every group, so that a pair of brokers can be compared again and again.
    let run_name = format!("{:x}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis());
    let mut pair = Pair::new(args.apache, args.kavka)?;
    topics::prepare(&mut pair)?;
    let mut log = OffsetsLog::open(&mut pair)?;
    topics::learn_id(&mut pair, offsets_log::TOPIC)?;

    let mut scripts_run = 0;
    let initial_delay = Duration::from_millis(args.initial_delay_ms);
    let scripts = if initial_delay.is_zero() { scripts::SCRIPTS } else { scripts::DELAYED_SCRIPTS };
    for (name, script) in scripts {
        if args.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        scripts_run += 1;
        let before = pair.found.len();
        pair.note(format!("=== script {name}"));
        let mut stage = scripts::Stage::new(&mut pair, &run_name, name, initial_delay);
        script(&mut stage)?;
        let groups = stage.groups();
        let groups: Vec<_> = groups.iter().map(String::as_str).collect();
        log.compare(&mut pair, &groups)?;
        pair.forget_answers();
        let found = pair.found.len() - before;
        if found > 0 {
            println!("script {name}: {found} differences");
        }
    }
    let mut walked = walk::Walked::default();
    if initial_delay.is_zero() && args.only.as_ref().is_none_or(|only| only == "none") {
        walked = walk::walk(&mut pair, &mut log, &run_name, args.seed, args.steps, args.most)?;
    }

    // The same difference again and again is told once.
    let mut kinds: BTreeMap<String, (usize, &pair::Found)> = BTreeMap::new();
    for found in &pair.found {
        kinds.entry(found.difference.signature()).or_insert((0, found)).0 += 1;
    }
    for (signature, (count, found)) in &kinds {
        println!("DIFFERENT ({count} times) {signature}");
        for step in &found.steps {
            println!("    {step}");
        }
    }
    for (name, count) in &pair.allowed {
        println!("as docs/differences.md says, {count} times: {name}");
    }
    println!(
        "{scripts_run} scripts, {} random steps in {} episodes from seed {} ({} ended early where both are right, {} differed only once): {} comparisons, {} differences, {} parked at the end, {:.0} s",
        walked.steps,
        walked.episodes,
        args.seed,
        walked.parted,
        walked.not_again,
        pair.compared,
        pair.found.len(),
        pair.parked(),
        begun.elapsed().as_secs_f64(),
    );
    Ok(pair.found.is_empty())
}
