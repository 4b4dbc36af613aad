//! What a stretch of work cost this process.

use std::time::{Duration, Instant};

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
        let status = std::fs::read_to_string("/proc/self/status")?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.trim().strip_suffix(" kB"));
        Ok(Measured { cpu, wall, max_rss_kib: peak.unwrap_or("0").trim().parse()? })
    }
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
