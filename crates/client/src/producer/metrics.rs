//! A producer's [`metrics`](crate::metrics).

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    Error,
    metrics::{LastError, Timing},
};

/// What a producer has done since it was made, its clones included, and where it stands. From
/// [`Producer::metrics`](super::Producer::metrics).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ProducerMetrics {
    /// Requests that came to an end, and how long that took.
    pub requests: Timing,
    /// Those among them that were not answered.
    pub failed_requests: u64,
    /// Batches that were sent, each time they were.
    pub batches: u64,
    /// Those among them that were sent for another time.
    pub retried_batches: u64,
    /// Bytes of the batches that were sent, compressed as they are.
    pub bytes: u64,
    /// Records that were delivered.
    pub delivered: u64,
    /// Records that were not, or are not known to be.
    pub undelivered: u64,
    /// Bytes of `buffer.memory` that are taken now.
    pub buffered_bytes: usize,
    /// What went wrong last, if anything did. What was tried again with success is among it.
    pub last_error: Option<LastError>,
}

/// Counts what the senders do, once for each request.
#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<ProducerMetrics>);

impl Counters {
    fn lock(&self) -> MutexGuard<'_, ProducerMetrics> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn snapshot(&self) -> ProducerMetrics {
        self.lock().clone()
    }

    /// A request goes out: so many batches, so many of them not for the first time, so many bytes.
    pub(super) fn note_sent(&self, batches: usize, retried: usize, bytes: usize) {
        let mut metrics = self.lock();
        metrics.batches += batches as u64;
        metrics.retried_batches += retried as u64;
        metrics.bytes += bytes as u64;
    }

    /// A request is over.
    pub(super) fn note_over(&self, took: Duration, error: Option<&Error>) {
        let mut metrics = self.lock();
        metrics.requests.note(took);
        if let Some(error) = error {
            metrics.failed_requests += 1;
            metrics.last_error = Some(LastError::now(error));
        }
    }

    pub(super) fn note_error(&self, error: &Error) {
        self.lock().last_error = Some(LastError::now(error));
    }
}
