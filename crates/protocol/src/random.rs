//! Chance as an argument: pure machines have no source of it but a generator that the shell seeds.

/// SplitMix64 (Steele, Lea, Flood 2014): small, the same everywhere, and good enough to spread retries and to make ids that have to
/// be unique. Not for secrets.
///
/// Not `Copy`: a copy would give the same numbers again, unnoticed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// Equal seeds give equal numbers.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, any.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `n` - 1; 0 if there is none. Draws one in any case, so that what follows does not depend on `n`.
    pub const fn below(&mut self, n: u64) -> u64 {
        let drawn = self.draw();
        if n == 0 { 0 } else { drawn % n }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the reference implementation in C (prng.di.unimi.it/splitmix64.c).
    #[test]
    fn the_numbers_are_those_of_the_reference() {
        let mut random = SplitMix64::new(1_234_567);
        let drawn: [u64; 5] = std::array::from_fn(|_| random.draw());
        let reference = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(drawn, reference);
    }

    #[test]
    fn a_number_below_nothing_is_drawn_all_the_same() {
        let (mut one, mut other) = (SplitMix64::new(7), SplitMix64::new(7));
        assert_eq!(one.below(0), 0);
        assert!(other.below(3) < 3);
        assert_eq!(one, other);
    }
}
