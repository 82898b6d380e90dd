//! Random numbers that the same seed gives again, on any machine and by any build.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{OsError, OsRng, RngCore, SeedableRng, TryRngCore};

#[derive(Debug, Clone)]
pub(super) struct Random {
    seed: u64,
    stream: ChaCha8Rng,
}

impl Random {
    pub(super) fn from_seed(seed: u64) -> Random {
        // Not by `seed_from_u64`, whose way of stretching a seed is the crate's own.
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Random { seed, stream: ChaCha8Rng::from_seed(key) }
    }

    /// A seed from the operating system, short enough to be typed again.
    pub(super) fn from_system() -> Result<Random, OsError> {
        OsRng.try_next_u32().map(|seed| Random::from_seed(seed.into()))
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// The next number: 0 or more, less than 1, in steps of 2⁻⁵³.
    pub(super) fn unit(&mut self) -> f64 {
        (self.stream.next_u64() >> 11) as f64 * (-53f64).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of the key stream for a key and a nonce of zeros, as published for ChaCha8.
    #[test]
    fn the_stream_is_the_published_one() {
        let mut bytes = [0; 16];
        Random::from_seed(0).stream.fill_bytes(&mut bytes);
        let published = 0x3e00_ef2f_895f_40d6_7f5b_b8e8_1f09_a5a1_u128;
        assert_eq!(u128::from_be_bytes(bytes), published);
    }

    #[test]
    fn numbers_are_from_0_to_1_and_replay() {
        let (mut one, mut two) = (Random::from_seed(7), Random::from_seed(7));
        let numbers: Vec<f64> = (0..1000).map(|_| one.unit()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        assert!(numbers.iter().all(|number| *number == two.unit()));
        assert!((numbers.iter().sum::<f64>() / 1000.0 - 0.5).abs() < 0.03);
        assert_ne!(Random::from_seed(8).unit(), numbers[0]);
    }

    #[test]
    fn the_system_gives_seeds() {
        let seeds = [(); 4].map(|()| Random::from_system().unwrap().seed());
        assert!(seeds.iter().any(|seed| *seed != seeds[0]), "{seeds:?}");
    }
}
