//! Pauses between attempts: they double up to a limit, and are spread by 20 % so that clients do not come back in step (KIP-580).

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    time::Duration,
};

/// How long to wait next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    limit: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses from `first` to `limit`.
    pub(crate) fn new(first: Duration, limit: Duration) -> Self {
        Self { first, limit: limit.max(first), failures: 0 }
    }

    /// The pause after so many failures in a row.
    pub(crate) fn after(first: Duration, limit: Duration, failures: u32) -> Duration {
        let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        doubled.min(limit.max(first)).mul_f64(0.8 + 0.4 * random_fraction())
    }

    /// The pause after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        Self::after(self.first, self.limit, self.failures)
    }

    /// It worked: the next pause is the first one again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// From the keys of the standard library's hash maps, which differ for each of them.
pub(crate) fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Between 0 and 1.
fn random_fraction() -> f64 {
    let bits = random_seed();
    f64::from((bits >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_with_a_fifth_of_jitter_up_to_the_limit() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for expected in [100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.next().as_millis();
            assert!((expected * 8 / 10..=expected * 12 / 10).contains(&pause), "{pause}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(120));
    }
}
