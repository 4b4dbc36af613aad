//! A listener that remembers.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::{LogError, LogListener};

/// Remembers how far its log is durable and whether it failed.
#[derive(Debug, Default)]
pub struct Durable {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    up_to: i64,
    failed: Option<String>,
}

impl Durable {
    /// The largest offset reported.
    #[must_use]
    pub fn up_to(&self) -> i64 {
        self.lock().up_to
    }

    /// The failure reported, if any.
    #[must_use]
    pub fn failed(&self) -> Option<String> {
        self.lock().failed.clone()
    }

    /// Waits until everything below `offset` is durable, the log failed, or ten seconds passed.
    /// `true` in the first case.
    #[must_use]
    pub fn wait(&self, offset: i64) -> bool {
        let waiting = |seen: &mut Seen| seen.up_to < offset && seen.failed.is_none();
        let limit = Duration::from_secs(10);
        let waited = self.changed.wait_timeout_while(self.lock(), limit, waiting);
        waited.unwrap_or_else(PoisonError::into_inner).0.up_to >= offset
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogListener for Durable {
    fn durable(&self, up_to: i64) {
        let mut seen = self.lock();
        seen.up_to = seen.up_to.max(up_to);
        self.changed.notify_all();
    }

    fn failed(&self, error: &LogError) {
        self.lock().failed = Some(error.to_string());
        self.changed.notify_all();
    }
}
