//! What a client has done since it was made, and where it stands: snapshots to be read as often as one likes.
//!
//! [`ConsumerMetrics`](crate::consumer::ConsumerMetrics) and [`ProducerMetrics`](crate::producer::ProducerMetrics) are made when they are
//! asked for. Counted is what happens once for each request or batch, never for each record, so that it costs next to nothing. Counters only
//! rise: for a rate, take the difference of two snapshots.

use std::time::{Duration, SystemTime};

use crate::Error;

/// How often something was done, and how long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timing {
    /// How often.
    pub count: u64,
    /// All times together.
    pub total: Duration,
    /// The longest time.
    pub longest: Duration,
    /// The last time.
    pub last: Duration,
}

impl Timing {
    /// The mean; `None` if it was never done.
    pub fn mean(&self) -> Option<Duration> {
        let nanos = self.total.as_nanos().checked_div(u128::from(self.count))?;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    pub(crate) fn note(&mut self, took: Duration) {
        self.count += 1;
        self.total = self.total.saturating_add(took);
        self.longest = self.longest.max(took);
        self.last = took;
    }
}

/// An error, and when it happened. Errors that the client deals with by itself are among them.
#[derive(Clone, Debug)]
pub struct LastError {
    /// What.
    pub error: Error,
    /// When.
    pub at: SystemTime,
}

impl LastError {
    pub(crate) fn now(error: &Error) -> Self {
        Self { error: error.clone(), at: SystemTime::now() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timing_knows_its_mean_and_its_extremes() {
        let mut timing = Timing::default();
        assert_eq!(timing.mean(), None);
        [4, 10, 1].into_iter().for_each(|ms| timing.note(Duration::from_millis(ms)));
        assert_eq!(timing.mean(), Some(Duration::from_millis(5)));
        assert_eq!(
            (timing.count, timing.longest, timing.last.as_millis()),
            (3, Duration::from_millis(10), 1)
        );
    }
}
