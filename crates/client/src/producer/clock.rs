//! The time of day for the timestamps of records, in milliseconds.
//!
//! To read it exactly is a sixth of what a small record costs a producer. Where records come fast, one reading is for several of them: for
//! [`SHARED_BY`] at most, if the one before was just now, and until the kernel's clock ticks, which is looked at for each record and costs
//! a sixth of a reading. So a timestamp is exact to the millisecond; only the first few records after a pause, if a fast stream of them stops and goes on
//! within one tick (1 to 10 ms), can be from before that pause.

use std::time::{Duration, UNIX_EPOCH};

use crate::environment::Machine;

/// How many records one reading is for at most.
const SHARED_BY: u32 = 16;
/// A reading is for several records if the one before is not older than this.
const FAST: Duration = Duration::from_micros(50);

/// See the module. There is one for each partition, under its lock.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// The last reading, since 1970.
    read: Duration,
    /// The kernel's tick at that time; `None`: each reading is for one record.
    tick: Option<Tick>,
    /// For how many more records it is.
    left: u32,
}

impl Clock {
    /// Milliseconds since 1970.
    pub(super) fn now_ms(&mut self, machine: &Machine) -> i64 {
        self.look(
            || Tick::of(machine),
            || machine.now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        )
    }

    fn look(&mut self, tick: impl FnOnce() -> Option<Tick>, now: impl FnOnce() -> Duration) -> i64 {
        // Before the exact reading: if it ticks in between, that is seen next time.
        let tick = tick();
        if self.left > 0 && tick == self.tick {
            self.left -= 1;
        } else {
            let now = now();
            let is_fast = now.checked_sub(self.read).is_some_and(|past| past <= FAST);
            self.left = if is_fast && tick.is_some() { SHARED_BY - 1 } else { 0 };
            (self.read, self.tick) = (now, tick);
        }
        i64::try_from(self.read.as_millis()).unwrap_or(i64::MAX)
    }
}

/// When the kernel's clock ticked last: seconds and nanoseconds. As long as it is the same, no more time has passed than from one tick to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tick(i64, i64);

impl Tick {
    /// `None` where there is no such clock, or something stands in for the operating system.
    fn of(machine: &Machine) -> Option<Self> {
        #[cfg(target_os = "linux")]
        if machine.environment().is_none() {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
            return Some(Self(time.tv_sec, time.tv_nsec));
        }
        let _ = machine;
        None
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// What records get that come at these times in microseconds, and how often the clock was read; it ticks every 4 ms.
    fn stamps(times_us: &[u64], has_ticks: bool) -> (Vec<i64>, u32) {
        let (mut clock, readings) = (Clock::default(), Cell::new(0));
        let stamp = |us: &u64| {
            let now = Duration::from_micros(*us);
            let tick = has_ticks.then_some(Tick((us / 4000) as i64, 0));
            clock.look(
                || tick,
                || {
                    readings.set(readings.get() + 1);
                    now
                },
            )
        };
        (times_us.iter().map(stamp).collect(), readings.get())
    }

    fn exact(times_us: &[u64]) -> Vec<i64> {
        times_us.iter().map(|us| (us / 1000) as i64).collect()
    }

    #[test]
    fn fast_records_share_readings_and_their_timestamps_are_exact() {
        // One each 250 ns, for 10 ms.
        let times: Vec<u64> = (0..40_000).map(|at| 7_000_000 + at / 4).collect();
        let (stamps, readings) = stamps(&times, true);
        let late = stamps.iter().zip(exact(&times)).filter(|(stamp, exact)| *stamp != exact);
        assert!(late.count() <= 10 * SHARED_BY as usize, "only where a millisecond begins");
        assert!((2_500..2_600).contains(&readings), "{readings}");
    }

    #[test]
    fn slow_records_have_a_reading_each() {
        let times: Vec<u64> = (0..1_000).map(|at| 7_000_000 + at * 60).collect();
        assert_eq!(stamps(&times, true), (exact(&times), 1_000));
    }

    #[test]
    fn where_nothing_ticks_each_record_has_a_reading() {
        let times: Vec<u64> = (0..1_000).map(|at| 7_000_000 + at).collect();
        assert_eq!(stamps(&times, false), (exact(&times), 1_000));
    }

    #[test]
    fn after_a_pause_a_timestamp_is_not_older_than_a_tick() {
        let mut times: Vec<u64> = (0..100).map(|at| 8_000_000 + at).collect();
        times.extend([8_003_900, 8_004_000, 8_004_001, 9_999_999]);
        let (stamps, _) = stamps(&times, true);
        assert_eq!(stamps[100..], [8_000, 8_004, 8_004, 9_999]);
    }
}
