//! Where a world's chances come from: generators that one seed begins.

use std::time::Duration;

use kavka_protocol::SplitMix64;

/// A generator.
#[derive(Clone, Debug)]
pub struct Random(SplitMix64);

impl Random {
    /// Equal seeds give equal numbers.
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    /// Equal seeds and names give equal numbers; another name gives others.
    pub fn of(seed: u64, name: &str) -> Self {
        let mut random = Self::new(seed);
        for byte in name.bytes() {
            random = Self::new(random.draw() ^ u64::from(byte));
        }
        random
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0.draw()
    }

    /// A number from 0 to `n` - 1; 0 if there is none.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0.below(n)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// So many milliseconds, from `low` to `high`.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    /// A place in a list of `len`.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }

    /// True so many times in a thousand. Takes a number in any case, so that a rate of 0 changes nothing else.
    pub fn happens(&mut self, in_a_thousand: u64) -> bool {
        self.below(1_000) < in_a_thousand
    }
}
