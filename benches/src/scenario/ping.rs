//! The smallest requests there are: what a round trip takes, and what it costs the broker.
//!
//! Heartbeats of a group's member touch the coordinator and nothing else; ApiVersions touches nothing at all, though its
//! answer is a few hundred bytes. A sync commit is judged by how much longer it takes than a heartbeat.

use std::time::{Duration, Instant};

use super::{Broker, Case, Measurement, Scenario, unique_name};
use crate::{
    admin,
    group::Membership,
    load::{self, Window},
    stats::Latencies,
};

/// Options of the scenario.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "ping")]
pub(crate) struct Options {
    /// Seconds of each case of ping
    #[arg(long, default_value_t = 2.0, value_name = "S")]
    ping_seconds: f64,
    /// Connections, one case each; each has one request under way
    #[arg(long, value_delimiter = ',', default_value = "1,16", value_name = "N")]
    ping_connections: Vec<usize>,
}

/// The scenario.
#[derive(Debug)]
pub(crate) struct Ping {
    options: Options,
}

impl Ping {
    pub(crate) fn new(options: &Options) -> Self {
        Ping { options: options.clone() }
    }
}

impl Scenario for Ping {
    fn name(&self) -> &'static str {
        "ping"
    }

    fn measure(&mut self, broker: &Broker) -> anyhow::Result<Vec<Measurement>> {
        let mut measurements = Vec::new();
        let duration = Duration::from_secs_f64(self.options.ping_seconds);
        let mut admin = broker.connect()?;
        let topic = admin::create_topic(&mut admin, &unique_name("ping"), 1)?;
        for &count in &self.options.ping_connections {
            let connections = broker.connect_times(count)?;
            let (window, mut latencies, _) = run(broker, connections, duration, |connection| {
                connection.api_versions()?;
                Ok(())
            })?;
            let mut case = Case::new(format!("ApiVersions x{count}"), &mut measurements);
            add(&mut case, &window, &mut latencies);

            let (window, mut latencies) = heartbeats(broker, &topic, count, duration)?;
            let mut case = Case::new(format!("Heartbeat x{count}"), &mut measurements);
            add(&mut case, &window, &mut latencies);
        }
        admin::delete_topic(&mut admin, &topic)?;
        Ok(measurements)
    }
}

fn add(case: &mut Case<'_>, window: &Window, latencies: &mut Latencies) {
    case.add("p50", "us", latencies.quantile_us(0.5));
    case.add("p99", "us", latencies.quantile_us(0.99));
    case.add_cpu("broker cpu per request", window, latencies.count() as f64);
    case.add("rate", "1/s", latencies.count() as f64 / window.wall.as_secs_f64());
    case.add_own_cpu(window);
}

/// Sends heartbeats, one after the other on each of `count` connections, each for a group of its own.
pub(crate) fn heartbeats(
    broker: &Broker,
    topic: &admin::Topic,
    count: usize,
    duration: Duration,
) -> anyhow::Result<(Window, Latencies)> {
    let mut members = Vec::new();
    for mut connection in broker.connect_times(count)? {
        let member = Membership::join(&mut connection, &unique_name("ping"), topic)?;
        members.push((connection, member));
    }
    let (window, latencies, members) =
        run(broker, members, duration, |(connection, member)| member.heartbeat(connection))?;
    for (mut connection, member) in members {
        member.leave(&mut connection)?;
    }
    Ok((window, latencies))
}

/// Calls `request` in a loop on each of `states` until `duration` is over, and hands the states back.
pub(crate) fn run<S: Send>(
    broker: &Broker,
    states: Vec<S>,
    duration: Duration,
    request: impl Fn(&mut S) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<(Window, Latencies, Vec<S>)> {
    let (window, results) = load::run(&broker.target, states, |mut state| {
        let mut latencies = Latencies::default();
        let started = Instant::now();
        let mut now = started;
        while now - started < duration {
            request(&mut state)?;
            let after = Instant::now();
            latencies.push(after - now);
            now = after;
        }
        Ok((latencies, state))
    })?;
    let (latencies, states): (Vec<_>, Vec<_>) = results.into_iter().unzip();
    Ok((window, Latencies::merge(latencies), states))
}
