//! The broker's two clocks, read in one place.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kavka_coordinator::{Monotonic, Now};

/// Reads wall and monotonic time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { origin: Instant::now() }
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn wall_ms(&self) -> i64 {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
    }

    /// Both readings, for the coordinators.
    pub(crate) fn now(&self) -> Now {
        Now { monotonic: Monotonic::since_origin(self.origin.elapsed()), wall_ms: self.wall_ms() }
    }

    /// When a coordinator's deadline is, for the runtime's timers.
    pub(crate) fn instant(&self, deadline: Monotonic) -> tokio::time::Instant {
        (self.origin + deadline.elapsed()).into()
    }
}
