//! Which tokens may come next, where a grammar or a schema says so.

/// A set of tokens: bit `token % 32` of word `token / 32`. Tokens beyond the words are not in it.
#[derive(Debug, Clone, Copy)]
pub struct TokenSet<'a>(pub &'a [u32]);

impl TokenSet<'_> {
    /// The words of the set of all tokens but these.
    pub fn all_but(n_vocab: usize, tokens: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let mut words = vec![u32::MAX; n_vocab.div_ceil(32)];
        for token in tokens {
            if let Some(word) = words.get_mut(token as usize / 32) {
                *word &= !(1 << (token % 32));
            }
        }
        words
    }

    pub fn contains(self, token: u32) -> bool {
        self.0.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// Forbids the tokens that are not in the set.
    pub(super) fn restrict(self, scores: &mut [f32]) {
        let words = self.0.iter().copied().chain(std::iter::repeat(0));
        for (scores, word) in scores.chunks_mut(32).zip(words) {
            match word {
                u32::MAX => {}
                0 => scores.fill(f32::NEG_INFINITY),
                _ => {
                    let outside = scores.iter_mut().enumerate().filter(|(bit, _)| word >> bit & 1 == 0);
                    outside.for_each(|(_, score)| *score = f32::NEG_INFINITY);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tokens_but_some() {
        let words = TokenSet::all_but(70, [0, 33, 1000]);
        let left_out: Vec<u32> = (0..70).filter(|token| !TokenSet(&words).contains(*token)).collect();
        assert_eq!(left_out, [0, 33]);
    }

    #[test]
    fn what_is_not_in_the_set_is_forbidden() {
        let set = TokenSet(&[u32::MAX, 0, 1 << 31 | 1]);
        let mut scores = [0.0; 100];
        set.restrict(&mut scores);
        let left: Vec<u32> = (0..100).filter(|&token| scores[token as usize] == 0.0).collect();
        assert_eq!(left, (0..32).chain([64, 95]).collect::<Vec<u32>>());
        assert!((0..200).all(|token| set.contains(token) == left.contains(&token)));
    }
}
