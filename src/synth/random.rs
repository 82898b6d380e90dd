//! Random words by their number: the n-th of a stream is had without the ones before it, so that many
//! threads make the same bytes as one.
//!
//! The words are those of SplitMix64, which is fast, passes the usual tests, and does not repeat within
//! any file. They are no secret.

/// The stream of one tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    key: u64,
}

/// What SplitMix64 adds from one word to the next: the golden ratio, odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Stream {
    /// The stream of this name under this seed.
    pub(super) fn new(seed: u64, name: &str) -> Stream {
        Stream { key: name.bytes().fold(mixed(seed), |key, byte| mixed(key.wrapping_add(STEP) ^ u64::from(byte))) }
    }

    pub(super) fn word(self, number: u64) -> u64 {
        mixed(self.key.wrapping_add(number.wrapping_mul(STEP)))
    }

    /// Bytes `8 * first_word..` of the stream.
    pub(super) fn fill(self, first_word: u64, out: &mut [u8]) {
        let (words, rest) = out.as_chunks_mut();
        for (number, word) in (first_word..).zip(&mut *words) {
            *word = self.word(number).to_le_bytes();
        }
        let last = self.word(first_word + words.len() as u64).to_le_bytes();
        rest.iter_mut().zip(last).for_each(|(byte, random)| *byte = random);
    }
}

/// A number with mean 0 and variance 1, evenly spread, out of random bits.
pub(super) fn unit(bits: u32) -> f32 {
    const SQRT_12: f32 = 3.464_101_6;
    (bits as f32 / (1u64 << 32) as f32 - 0.5) * SQRT_12
}

/// SplitMix64's finish (Steele, Lea, Flood 2014; constants of Stafford's variant 13).
fn mixed(x: u64) -> u64 {
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_those_of_the_whole() {
        let stream = Stream::new(1, "a");
        let mut whole = [0; 100];
        stream.fill(0, &mut whole);
        let mut piece = [0; 30];
        stream.fill(3, &mut piece);
        assert_eq!(piece, whole[24..54]);
    }

    /// The first words of SplitMix64 from 0, as published with it (its first is our second: it steps first).
    #[test]
    fn the_words_are_splitmix64() {
        let stream = Stream { key: 0 };
        let words: Vec<u64> = (1..4).map(|n| stream.word(n)).collect();
        assert_eq!(words, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }

    #[test]
    fn streams_differ_by_seed_and_by_name() {
        let first = |seed, name| Stream::new(seed, name).word(0);
        let all = [first(0, "a"), first(1, "a"), first(0, "b"), first(0, "ab"), first(0, "ba"), first(0, "")];
        assert!(all.iter().enumerate().all(|(i, a)| !all[..i].contains(a)), "{all:x?}");
    }

    #[test]
    fn units_have_mean_0_and_variance_1() {
        let stream = Stream::new(0, "");
        let n = 100_000;
        let values: Vec<f64> = (0..n).map(|i| unit(stream.word(i) as u32).into()).collect();
        let mean = values.iter().sum::<f64>() / n as f64;
        let variance = values.iter().map(|x| x * x).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
