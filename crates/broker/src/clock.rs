//! The broker's two clocks, read in one place.

use std::time::{Duration, UNIX_EPOCH};

use kavka_coordinator::{Monotonic, Now};
use tokio::time::Instant;

use crate::environment::Machine;

/// Reads wall and monotonic time.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    machine: Machine,
}

impl Clock {
    pub(crate) fn new(machine: Machine) -> Self {
        Self { origin: Instant::now(), machine }
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn wall_ms(&self) -> i64 {
        let elapsed = self.machine.now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
    }

    /// Both readings, for the coordinators.
    pub(crate) fn now(&self) -> Now {
        Now { monotonic: Monotonic::since_origin(self.origin.elapsed()), wall_ms: self.wall_ms() }
    }

    /// When a coordinator's deadline is, for the runtime's timers.
    pub(crate) fn instant(&self, deadline: Monotonic) -> Instant {
        self.origin + deadline.elapsed()
    }
}
