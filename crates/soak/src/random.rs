//! Randomness that a seed makes again. Good enough for faults, for nothing else.

use std::time::Duration;

/// A generator (SplitMix64).
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// One of many that a seed makes, each with a sequence of its own.
    pub(crate) fn new(seed: u64, which: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ which.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Between half and one and a half of `average`.
    pub(crate) fn around(&mut self, average: Duration) -> Duration {
        let micros = u64::try_from(average.as_micros()).unwrap_or(u64::MAX).max(1);
        average / 2 + Duration::from_micros(self.below(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_its_sequence_again_and_no_other() {
        let sequence = |seed, which| {
            let mut random = Random::new(seed, which);
            [random.next(), random.next(), random.next()]
        };
        assert_eq!(sequence(1, 2), sequence(1, 2));
        assert_ne!(sequence(1, 2), sequence(1, 3));
        assert_ne!(sequence(1, 2), sequence(2, 2));
        let around = Random::new(1, 1).around(Duration::from_secs(2));
        assert!((Duration::from_secs(1)..Duration::from_secs(3)).contains(&around));
    }
}
