//! A broker with nothing to do: its memory and CPU, alone and with many connections that say nothing.

use std::{
    net::{IpAddr, Ipv4Addr},
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};

use super::{Broker, Case, MIB, Measurement, Scenario};
use crate::{
    connection::{Connection, Versions},
    load::Times,
    process,
};

/// Until what the last requests left behind has settled.
const SETTLE: Duration = Duration::from_secs(1);
/// File descriptors beside those of the idle connections.
const SPARE_FILES: u64 = 200;

/// Options of the scenario.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "idle")]
pub(crate) struct Options {
    /// Seconds over which an idle broker's CPU is watched
    #[arg(long, default_value_t = 10.0, value_name = "S")]
    idle_seconds: f64,
    /// Idle connections
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    idle_connections: usize,
    /// Loopback addresses they come from (127.0.0.2 and on), so that no limit per address is met
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=250))]
    idle_sources: u32,
}

/// The scenario.
#[derive(Debug)]
pub(crate) struct Idle {
    options: Options,
}

impl Idle {
    pub(crate) fn new(options: &Options) -> Self {
        Idle { options: options.clone() }
    }
}

impl Scenario for Idle {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn is_snapshot(&self) -> bool {
        true
    }

    fn measure(&mut self, broker: &Broker) -> anyhow::Result<Vec<Measurement>> {
        let options = &self.options;
        let pid = broker.target.pid.context("idle needs the broker's pid=N")?;
        let mut measurements = Vec::new();

        thread::sleep(SETTLE);
        let alone = process::resident_bytes(pid)?;
        let mut case = Case::new("no connection", &mut measurements);
        case.add("resident memory", "MiB", alone as f64 / MIB);
        case.add("cpu", "% of a core", self.watch_cpu(broker)?);

        let connections = self.open(broker)?;
        thread::sleep(SETTLE);
        let with_connections = process::resident_bytes(pid)?;
        let name = format!("{} connections", options.idle_connections);
        let mut case = Case::new(name, &mut measurements);
        case.add("more resident memory", "MiB", (with_connections as f64 - alone as f64) / MIB);
        case.add("cpu", "% of a core", self.watch_cpu(broker)?);
        let mut answered = 0;
        for mut connection in connections {
            connection.api_versions().context("an idle connection was lost")?;
            answered += 1;
        }
        ensure!(answered == options.idle_connections, "idle connections were lost");
        Ok(measurements)
    }
}

impl Idle {
    fn watch_cpu(&self, broker: &Broker) -> anyhow::Result<f64> {
        let before = Times::read(&broker.target)?;
        thread::sleep(Duration::from_secs_f64(self.options.idle_seconds));
        let window = before.until(&Times::read(&broker.target)?);
        let cpu = window.broker_cpu.context("idle needs the broker's pid=N")?;
        Ok(100.0 * cpu.as_secs_f64() / window.wall.as_secs_f64())
    }

    /// Opens the connections, each with one request answered, so that the broker holds all that an idle client costs it.
    fn open(&self, broker: &Broker) -> anyhow::Result<Vec<Connection>> {
        let options = &self.options;
        process::raise_open_file_limit(options.idle_connections as u64 + SPARE_FILES)?;
        let address = broker.target.address;
        let has_sources = matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback());
        let mut connections = Vec::with_capacity(options.idle_connections);
        for index in 0..options.idle_connections {
            let last = index as u32 % options.idle_sources + 2;
            let source = has_sources.then(|| Ipv4Addr::new(127, 0, 0, last as u8));
            let mut connection = Connection::open(address, source, &Versions::default())
                .with_context(|| format!("idle connection {} was refused", index + 1))?;
            connection
                .api_versions()
                .with_context(|| format!("idle connection {} was refused", index + 1))?;
            connections.push(connection);
        }
        Ok(connections)
    }
}
