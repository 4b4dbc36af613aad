//! What a stretch of work cost this process.

use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};

/// The beginning of a stretch.
pub(crate) struct Meter {
    cpu: Duration,
    began: Instant,
}

/// What it cost.
pub(crate) struct Measured {
    /// User and system time of all threads.
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    /// The most memory that was resident since the process began.
    pub(crate) max_rss_kib: u64,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { cpu: cpu(), began: Instant::now() }
    }

    pub(crate) fn stop(&self) -> anyhow::Result<Measured> {
        let (cpu, wall) = (cpu().saturating_sub(self.cpu), self.began.elapsed());
        Ok(Measured { cpu, wall, max_rss_kib: status_kib("VmHWM:")? })
    }
}

/// Memory that is resident now, pages of the program's file included.
pub(crate) fn rss_kib() -> anyhow::Result<u64> {
    status_kib("VmRSS:")
}

fn status_kib(name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let value = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
