//! Time as an argument: pure machines have no clock.
//!
//! Deadlines are measured on the monotonic clock, because a wall clock that jumps must not expire a live member. Stored
//! timestamps (commit time, time a group became empty) are wall time, because they outlive the process.

use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::Add,
    time::Duration,
};

/// The two readings of one instant, taken by the shell when it hands over an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For deadlines. Never goes back within the life of a machine.
    pub monotonic: Monotonic,
    /// For records: milliseconds since the Unix epoch. May jump either way.
    pub wall_ms: i64,
}

/// An instant on the shell's monotonic clock: the time since an origin of the shell's choosing.
///
/// It is hashed as one `u128` of nanoseconds, and nothing else in the machines is: so a hasher that compares machines at different
/// times can take it relative to the present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// The origin of the clock.
    pub const ORIGIN: Monotonic = Monotonic(Duration::ZERO);

    /// The instant this long after the origin.
    pub const fn since_origin(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// The instant this many milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The time since the origin.
    pub const fn elapsed(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to here; zero if `earlier` is later.
    pub fn saturating_since(self, earlier: Monotonic) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Hash for Monotonic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.0.as_nanos());
    }
}

impl Add<Duration> for Monotonic {
    type Output = Monotonic;

    fn add(self, duration: Duration) -> Monotonic {
        Monotonic(self.0.saturating_add(duration))
    }
}

impl fmt::Display for Monotonic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
