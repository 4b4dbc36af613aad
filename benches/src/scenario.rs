//! What is measured: one file per scenario, and what they have in common.
//!
//! A scenario is asked for its figures once per turn and broker. It makes its topics and groups before the measured window
//! and removes them behind it, so that every turn does the same work on both brokers.

pub(crate) mod commit;
pub(crate) mod fetch;
pub(crate) mod idle;
pub(crate) mod ping;
pub(crate) mod produce;
pub(crate) mod rebalance;
pub(crate) mod startup;
pub(crate) mod tail;

use std::{collections::BTreeMap, time::SystemTime};

use crate::{
    connection::{Connection, Versions},
    load::Window,
    target::Target,
};

/// A broker and the versions it is spoken to in.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) target: Target,
    versions: Versions,
}

impl Broker {
    /// Negotiates versions with the broker; `pinned` holds API numbers and their versions.
    pub(crate) fn meet(target: Target, pinned: &BTreeMap<i16, i16>) -> anyhow::Result<Broker> {
        let versions = Versions::negotiate(target.address, pinned)?;
        Ok(Broker { target, versions })
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(self.target.address, None, &self.versions)
    }

    /// A number of new connections.
    pub(crate) fn connect_times(&self, count: usize) -> anyhow::Result<Vec<Connection>> {
        (0..count).map(|_| self.connect()).collect()
    }
}

/// Something to measure.
pub(crate) trait Scenario {
    /// What the command line and the tables call it.
    fn name(&self) -> &'static str;

    /// Whether it is measured once and without warming up, because it looks at a broker as it stands.
    fn is_snapshot(&self) -> bool {
        false
    }

    /// Makes what all turns need.
    fn prepare(&mut self, _broker: &Broker) -> anyhow::Result<()> {
        Ok(())
    }

    /// Measures once.
    fn measure(&mut self, broker: &Broker) -> anyhow::Result<Vec<Measurement>>;

    /// Removes what `prepare` made.
    fn clean_up(&mut self, _broker: &Broker) -> anyhow::Result<()> {
        Ok(())
    }
}

/// One figure of one turn.
#[derive(Debug, Clone)]
pub(crate) struct Measurement {
    /// Which variant of the scenario, such as `acks=all`.
    pub(crate) case: String,
    /// What was measured.
    pub(crate) metric: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
}

/// Collects the figures of a case.
#[derive(Debug)]
pub(crate) struct Case<'a> {
    name: String,
    into: &'a mut Vec<Measurement>,
}

impl<'a> Case<'a> {
    pub(crate) fn new(name: impl Into<String>, into: &'a mut Vec<Measurement>) -> Self {
        Case { name: name.into(), into }
    }

    pub(crate) fn add(&mut self, metric: &'static str, unit: &'static str, value: f64) {
        self.into.push(Measurement { case: self.name.clone(), metric, unit, value });
    }

    /// CPU time of the broker for each of `count` things, where its process is known.
    pub(crate) fn add_cpu(&mut self, metric: &'static str, window: &Window, count: f64) {
        if let Some(cpu) = window.broker_cpu {
            self.add(metric, "us", cpu.as_secs_f64() * 1e6 / count);
        }
    }

    /// Share of one core that this program used: near 1 it may be what is measured.
    pub(crate) fn add_own_cpu(&mut self, window: &Window) {
        let share = window.own_cpu.as_secs_f64() / window.wall.as_secs_f64();
        self.add("load program's cpu", "cores", share);
    }
}

/// A name for a topic or group that no other run uses.
pub(crate) fn unique_name(purpose: &str) -> String {
    let nanos = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    format!("bench-{purpose}-{nanos:x}")
}

/// Wall clock, in ms, for the timestamps of records.
pub(crate) fn wall_clock_ms() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

pub(crate) const MIB: f64 = 1024.0 * 1024.0;
