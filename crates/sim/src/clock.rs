//! Clocks that do not go alike.

use kavka_protocol::{Monotonic, Now};

/// The clock of a node or client: it started at another time than the world's, goes at another rate, and its wall time is wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// What it shows at the beginning of the world.
    pub(crate) offset_ms: u64,
    /// How much faster it goes, in millionths; negative: slower.
    pub(crate) drift_ppm: i64,
    /// How far the wall clock is off.
    pub(crate) wall_skew_ms: i64,
}

/// The wall time at which worlds begin.
const EPOCH_MS: i64 = 1_700_000_000_000;

impl Clock {
    fn local(self, now: u64) -> u64 {
        let now = now.cast_signed();
        let drifted = self.offset_ms.cast_signed() + now + now * self.drift_ppm / 1_000_000;
        drifted.cast_unsigned()
    }

    /// What it shows.
    pub(crate) fn now(self, now: u64) -> Now {
        Now {
            monotonic: Monotonic::from_millis(self.local(now)),
            wall_ms: EPOCH_MS + now.cast_signed() + self.wall_skew_ms,
        }
    }

    /// The world's time at which this clock has reached a deadline; not before `now`.
    pub(crate) fn when(self, deadline: Monotonic, now: u64) -> u64 {
        let elapsed = deadline.elapsed();
        let ms = u64::try_from(elapsed.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX / 2);
        let since = ms.saturating_sub(self.offset_ms).cast_signed();
        let guess = i128::from(since) * 1_000_000 / i128::from(1_000_000 + self.drift_ppm);
        let mut at = u64::try_from(guess).unwrap_or(0).saturating_sub(2);
        while self.local(at) < ms {
            at += 1;
        }
        at.max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_comes_when_the_clock_shows_it_and_not_before() {
        for drift_ppm in [-5_000, -3, 0, 7, 5_000] {
            let clock = Clock { offset_ms: 1_234, drift_ppm, wall_skew_ms: 0 };
            for ms in [2_000, 99_999, 123_456_789] {
                let at = clock.when(Monotonic::from_millis(ms), 0);
                assert!(clock.local(at) >= ms && clock.local(at - 1) < ms);
            }
        }
    }
}
