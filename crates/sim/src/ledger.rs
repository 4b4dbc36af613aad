//! Ledgers of campaigns: a file with a line of JSON for each.

use std::{io::Write, ops::Range, path::Path, time::Duration};

/// What is told of a campaign.
#[derive(Clone, Debug)]
pub struct Entry {
    /// From the first to before the last.
    pub seeds: Range<u64>,
    /// Worlds that ran.
    pub worlds: u64,
    /// The time of all worlds together.
    pub simulated_hours: f64,
    /// What happened in them.
    pub events: u64,
    /// Faults that landed.
    pub faults_landed: u64,
    /// The cases that did not hold.
    pub failures: Vec<String>,
    /// By the clock of the machine it ran on.
    pub took: Duration,
}

impl Entry {
    /// Adds it to a ledger.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let commit =
            std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
        let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        let line = serde_json::json!({
            "commit": commit.unwrap_or_default(),
            "seeds": format!("{}..{}", self.seeds.start, self.seeds.end),
            "worlds": self.worlds,
            "simulated_hours": self.simulated_hours.round(),
            "events": self.events,
            "faults_landed": self.faults_landed,
            "wall_seconds": self.took.as_secs(),
            "failures": self.failures,
            "verdict": if self.failures.is_empty() { "held" } else { "failed" },
        });
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{line}")?;
        Ok(())
    }
}
