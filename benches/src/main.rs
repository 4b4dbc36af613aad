//! Load over the raw protocol, to compare Kavka with another broker: time, and CPU and memory of the broker process.
//!
//! * [`scenario`]: what is measured, one file each.
//! * [`connection`], [`admin`], [`group`], [`batch`]: speaking to a broker.
//! * [`load`], [`process`], [`stats`]: watching it. [`probe`]: the floor below. [`report`]: the figures side by side.
//!
//! **Invariant:** every error code of every answer is checked, and what a broker acknowledged is counted afterwards. A
//! scenario that meets an error gives no figures, and the run fails at its end.

mod admin;
mod batch;
mod connection;
mod group;
mod load;
mod probe;
mod process;
mod report;
mod scenario;
mod stats;
mod target;

use std::io::{self, Write};

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand};
use kavka_protocol::ApiKey;

use crate::{
    report::{Report, Side},
    scenario::{
        Broker, Scenario, commit, fetch, idle, ping, produce, rebalance,
        startup::{self, Startable},
        tail,
    },
    target::Target,
};

#[derive(Debug, Parser)]
#[command(name = "kavka-benches", about, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures brokers that are running, in turn
    Broker(Box<BrokerArgs>),
    /// Starts, kills and restarts brokers, in turn, and measures how soon they serve
    Startup(Box<StartupArgs>),
}

#[derive(Debug, Args)]
struct BrokerArgs {
    /// Broker A, as `HOST:PORT[,pid=N][,name=TEXT]`
    #[arg(long, visible_alias = "bootstrap", value_name = "BROKER")]
    a: Target,
    /// Process id of broker A, if not given with its address
    #[arg(long)]
    pid: Option<u32>,
    /// Broker B, which A is compared with
    #[arg(long, value_name = "BROKER")]
    b: Option<Target>,
    /// Rounds of two turns, one for each broker: A B, B A, A B, ...
    #[arg(long, default_value_t = 4, value_name = "N")]
    rounds: usize,
    /// Rounds before them whose figures are dropped, so that caches are filled and hot code is compiled
    #[arg(long, default_value_t = 1, value_name = "N")]
    warmup: usize,
    /// What to measure, in this order
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "idle,ping,commit,produce,fetch,tail,rebalance"
    )]
    scenarios: Vec<Name>,
    /// Versions to speak instead of the highest that both sides know, as API=VERSION
    #[arg(long, value_delimiter = ',', value_name = "API=VERSION", value_parser = parse_pin)]
    pin: Vec<(i16, i16)>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    idle: idle::Options,
    #[command(flatten)]
    ping: ping::Options,
    #[command(flatten)]
    commit: commit::Options,
    #[command(flatten)]
    produce: produce::Options,
    #[command(flatten)]
    fetch: fetch::Options,
    #[command(flatten)]
    tail: tail::Options,
    #[command(flatten)]
    rebalance: rebalance::Options,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Name {
    Idle,
    Ping,
    Commit,
    Produce,
    Fetch,
    Tail,
    Rebalance,
}

#[derive(Debug, Args)]
struct StartupArgs {
    /// Where broker A will listen, as HOST:PORT[,name=TEXT]
    #[arg(long, value_name = "BROKER")]
    a: Target,
    /// Program and arguments of broker A, split at blanks
    #[arg(long, value_name = "COMMAND")]
    a_spawn: String,
    /// Shell command that empties the data folder of broker A; not measured
    #[arg(long, value_name = "COMMAND")]
    a_prepare: Option<String>,
    /// Where broker B will listen
    #[arg(long, value_name = "BROKER", requires = "b_spawn")]
    b: Option<Target>,
    /// Program and arguments of broker B
    #[arg(long, value_name = "COMMAND", requires = "b")]
    b_spawn: Option<String>,
    /// Shell command that empties the data folder of broker B
    #[arg(long, value_name = "COMMAND")]
    b_prepare: Option<String>,
    /// Rounds of two turns, one for each broker
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: startup::Options,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Broker(args) => measure_brokers(*args),
        Command::Startup(args) => measure_startup(*args),
    }
}

fn measure_brokers(mut args: BrokerArgs) -> anyhow::Result<()> {
    args.a.pid = args.a.pid.or(args.pid);
    let pinned = args.pin.iter().copied().collect();
    let meet = |target: &Target| {
        Broker::meet(target.clone(), &pinned)
            .with_context(|| format!("{} at {}", target.name, target.address))
    };
    let mut brokers = vec![(Side::A, meet(&args.a)?)];
    if let Some(b) = &args.b {
        brokers.push((Side::B, meet(b)?));
    }
    let mut report = Report::new(&args.a.name, args.b.as_ref().map(|b| b.name.as_str()));
    let mut failed = Vec::new();
    for name in &args.scenarios {
        let mut scenario: Box<dyn Scenario> = match name {
            Name::Idle => Box::new(idle::Idle::new(&args.idle)),
            Name::Ping => Box::new(ping::Ping::new(&args.ping)),
            Name::Commit => Box::new(commit::Commit::new(&args.commit)),
            Name::Produce => Box::new(produce::Produce::new(&args.produce)?),
            Name::Fetch => Box::new(fetch::Fetch::new(&args.fetch)?),
            Name::Tail => Box::new(tail::Tail::new(&args.tail)?),
            Name::Rebalance => Box::new(rebalance::Rebalance::new(&args.rebalance)),
        };
        // What stands in the way of one scenario need not stand in the way of the next one.
        if let Err(error) = measure_scenario(&mut *scenario, &brokers, &args, &mut report) {
            eprintln!("{error:#}");
            failed.push(scenario.name());
        }
    }
    print(&report, args.json)?;
    ensure!(failed.is_empty(), "without figures because of errors: {}", failed.join(", "));
    Ok(())
}

fn measure_scenario(
    scenario: &mut dyn Scenario,
    brokers: &[(Side, Broker)],
    args: &BrokerArgs,
    report: &mut Report,
) -> anyhow::Result<()> {
    let name = scenario.name();
    let during = |broker: &Broker| {
        format!("{name} against {} ({})", broker.target.name, broker.target.address)
    };
    let (warmup, rounds) = if scenario.is_snapshot() { (0, 1) } else { (args.warmup, args.rounds) };
    for (_, broker) in brokers {
        scenario.prepare(broker).with_context(|| during(broker))?;
    }
    let mut measured = Vec::new();
    for round in 0..warmup + rounds {
        for (side, broker) in in_turn(brokers, round) {
            eprintln!("round {round}: {}", during(broker));
            let measurements = scenario.measure(broker).with_context(|| during(broker))?;
            if round >= warmup {
                measured.push((*side, measurements));
            }
        }
    }
    for (_, broker) in brokers {
        scenario.clean_up(broker).with_context(|| during(broker))?;
    }
    for (side, measurements) in measured {
        report.add(name, side, measurements);
    }
    Ok(())
}

fn measure_startup(args: StartupArgs) -> anyhow::Result<()> {
    let mut report = Report::new(&args.a.name, args.b.as_ref().map(|b| b.name.as_str()));
    let mut brokers =
        vec![(Side::A, Startable { target: args.a, prepare: args.a_prepare, spawn: args.a_spawn })];
    if let (Some(target), Some(spawn)) = (args.b, args.b_spawn) {
        brokers.push((Side::B, Startable { target, prepare: args.b_prepare, spawn }));
    }
    for round in 0..args.rounds {
        for (side, broker) in in_turn(&brokers, round) {
            let measurements = startup::measure(&args.options, broker)
                .with_context(|| format!("startup of {}", broker.target.name))?;
            report.add("startup", *side, measurements);
        }
    }
    print(&report, args.json)
}

/// The brokers in the order of their turns: the one that came last in a round begins the next one, so that a drift of the
/// machine's speed does not favour either.
fn in_turn<T>(brokers: &[T], round: usize) -> Vec<&T> {
    let mut order: Vec<&T> = brokers.iter().collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    let text = if json { report.json()? + "\n" } else { report.tables() };
    io::stdout().write_all(text.as_bytes()).context("cannot print the report")
}

/// Reads `Produce=9`.
fn parse_pin(text: &str) -> Result<(i16, i16), String> {
    let (name, version) = text.split_once('=').ok_or("a pin is API=VERSION")?;
    let key = ApiKey::all()
        .find(|key| key.name().eq_ignore_ascii_case(name))
        .ok_or_else(|| format!("there is no API '{name}'"))?;
    let version = version.parse().map_err(|_| format!("'{version}' is no version"))?;
    Ok((key.code(), version))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn turns_go_abba() {
        let turns: Vec<_> = (0..4).flat_map(|round| in_turn(&['a', 'b'], round)).collect();
        assert_eq!(turns, [&'a', &'b', &'b', &'a', &'a', &'b', &'b', &'a']);
    }

    #[test]
    fn pins_name_an_api() {
        assert_eq!(parse_pin("produce=9"), Ok((0, 9)));
        assert!(parse_pin("nothing=1").is_err());
    }
}
