//! Pauses between attempts: they double up to a limit, and are spread by 20 % so that clients do not come back in step (KIP-580).

use std::time::Duration;

use kavka_protocol::SplitMix64;

/// How long to wait next.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    limit: Duration,
    failures: u32,
    random: SplitMix64,
}

impl Backoff {
    /// Pauses from `first` to `limit`, spread by random numbers that begin with `seed`.
    pub(crate) fn new(first: Duration, limit: Duration, seed: u64) -> Self {
        Self { first, limit: limit.max(first), failures: 0, random: SplitMix64::new(seed) }
    }

    /// The pause after so many failures in a row, spread by a random number.
    pub(crate) fn after(first: Duration, limit: Duration, failures: u32, random: u64) -> Duration {
        let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let fraction = f64::from((random >> 32) as u32) / f64::from(u32::MAX);
        doubled.min(limit.max(first)).mul_f64(0.8 + 0.4 * fraction)
    }

    /// The pause after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        Self::after(self.first, self.limit, self.failures, self.random.draw())
    }

    /// It worked: the next pause is the first one again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_with_a_fifth_of_jitter_up_to_the_limit() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), 7);
        for expected in [100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.next().as_millis();
            assert!((expected * 8 / 10..=expected * 12 / 10).contains(&pause), "{pause}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(120));
        let mut other = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), 8);
        backoff.reset();
        assert_ne!(backoff.next(), other.next(), "they do not come back in step");
    }
}
