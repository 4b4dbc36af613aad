//! Waiting before a retry: exponential, with jitter (KIP-580), from a generator that the shell seeds.

use std::time::Duration;

use kavka_protocol::SplitMix64;

/// What spreads retries.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Random(SplitMix64);

/// How often something has failed in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Attempts(u32);

/// The jitter is this part of the wait, up or down.
const JITTER: f64 = 0.2;

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    /// At least 0 and below 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn fraction(&mut self) -> f64 {
        (self.0.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Attempts {
    /// How long to wait after one more failure: `initial`, doubled for each failure before, give or take a fifth, at most
    /// `max`, in whole milliseconds, at least one.
    pub(crate) fn fail(
        &mut self,
        random: &mut Random,
        initial: Duration,
        max: Duration,
    ) -> Duration {
        let doubled = initial.saturating_mul(1_u32.checked_shl(self.0.min(30)).unwrap_or(u32::MAX));
        self.0 = self.0.saturating_add(1);
        let spread = 1.0 - JITTER + 2.0 * JITTER * random.fraction();
        let wait = doubled.min(max).mul_f64(spread).min(max);
        Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
            .max(Duration::from_millis(1))
    }

    pub(crate) fn succeed(&mut self) {
        self.0 = 0;
    }

    pub(crate) fn count(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_differ_by_a_fifth() {
        let (initial, max) = (Duration::from_millis(100), Duration::from_secs(1));
        for seed in 0..1_000 {
            let mut random = Random::new(seed);
            let mut attempts = Attempts::default();
            for expected in [100.0, 200.0, 400.0, 800.0, 1_000.0, 1_000.0] {
                let wait = attempts.fail(&mut random, initial, max).as_secs_f64() * 1_000.0;
                assert!(wait >= expected * 0.79 && wait <= (expected * 1.201_f64).min(1_000.0));
            }
            attempts.succeed();
            assert!(attempts.fail(&mut random, initial, max) <= Duration::from_millis(120));
        }
    }

    #[test]
    fn a_wait_of_zero_is_not_a_busy_loop() {
        let mut attempts = Attempts::default();
        let wait = attempts.fail(&mut Random::new(1), Duration::ZERO, Duration::ZERO);
        assert_eq!(wait, Duration::from_millis(1));
        for _ in 0..100 {
            attempts.fail(&mut Random::new(1), Duration::MAX, Duration::from_secs(1));
        }
    }
}
