//! Where a repetition ends for DRY: at a breaker in the text, or at a token that is no text.
//!
//! Breakers are looked for in the text that the tokens spell, so it does not matter how it was cut: `":\n"`
//! and `"."` + `"\n"` both hold the breaker `"\n"`, and a breaker of several characters may lie across
//! tokens. A token breaks where a breaker ends in it. A token that is no text, such as `<｜User｜>`, always
//! does: a conversation must be able to repeat its own frame, and its end.

use crate::tokenizer::Tokenizer;
use aho_corasick::AhoCorasick;
use std::sync::Arc;

/// Appends the bytes of a token to what is there, or answers false where the token is no text.
pub type Spell = Arc<dyn Fn(u32, &mut Vec<u8>) -> bool + Send + Sync>;

/// Spells the tokens of a vocabulary.
pub fn spell(tokenizer: Arc<Tokenizer>) -> Spell {
    Arc::new(move |token, text| match tokenizer.token(token) {
        Ok(token) if token.kind.is_text() => {
            text.extend_from_slice(token.bytes);
            true
        }
        _ => false,
    })
}

#[derive(Clone)]
pub(super) struct Breakers {
    /// None where there are no strings, or too many for an automaton.
    strings: Option<AhoCorasick>,
    spell: Spell,
    /// The end of the text, as much as a breaker that is not whole yet can have.
    tail: Vec<u8>,
    max_tail: usize,
}

impl Breakers {
    pub(super) fn new(strings: &[String], spell: Spell) -> Breakers {
        let longest = strings.iter().map(String::len).max().unwrap_or(0);
        Breakers {
            strings: AhoCorasick::new(strings).ok().filter(|_| longest > 0),
            spell,
            tail: Vec::new(),
            max_tail: longest.saturating_sub(1),
        }
    }

    /// Takes a token, and says whether it breaks.
    pub(super) fn accept(&mut self, token: u32) -> bool {
        let start = self.tail.len();
        if !(self.spell)(token, &mut self.tail) {
            self.tail.clear();
            return true;
        }
        let breaks = self.ends_behind(start);
        self.tail.drain(..self.tail.len().saturating_sub(self.max_tail));
        breaks
    }

    /// Whether a token would break if it came next.
    pub(super) fn would_break(&mut self, token: u32) -> bool {
        let start = self.tail.len();
        let breaks = !(self.spell)(token, &mut self.tail) || self.ends_behind(start);
        self.tail.truncate(start);
        breaks
    }

    fn ends_behind(&self, start: usize) -> bool {
        let strings = self.strings.as_ref();
        strings.is_some_and(|strings| strings.find_overlapping_iter(&self.tail).any(|found| found.end() > start))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Tokens below 256 are bytes, the others are no text.
    pub(crate) fn bytes() -> Spell {
        Arc::new(|token, text| u8::try_from(token).map(|byte| text.push(byte)).is_ok())
    }

    fn words(words: &'static [&'static str]) -> Spell {
        Arc::new(move |token, text| {
            words.get(token as usize).map(|word| text.extend_from_slice(word.as_bytes())).is_some()
        })
    }

    #[test]
    fn a_breaker_may_lie_within_a_token_or_across_several() {
        let spell = words(&["a", "b:c", "--", "-", "x-", "->"]);
        let mut breakers = Breakers::new(&[":".into(), "-->".into()], spell);
        let tokens = [0, 1, 2, 0, 2, 5, 4, 3, 5, 9, 0];
        let breaks = tokens.map(|token| breakers.accept(token));
        assert_eq!(breaks, [false, true, false, false, false, true, false, false, true, true, false]);
    }

    #[test]
    fn asking_changes_nothing() {
        let mut breakers = Breakers::new(&["ab".into()], bytes());
        assert!(!breakers.would_break(98) && breakers.would_break(300));
        assert!(!breakers.accept(97));
        assert!(!breakers.would_break(97) && breakers.would_break(98) && breakers.would_break(300));
        assert!(breakers.accept(98));
    }

    #[test]
    fn without_breakers_only_what_is_no_text_breaks() {
        let mut breakers = Breakers::new(&[], bytes());
        assert_eq!([97, 300, 10].map(|token| breakers.accept(token)), [false, true, false]);
    }

    proptest! {
        #[test]
        fn breaks_are_where_the_whole_text_has_a_breaker(
            strings in prop::collection::vec("[ab]{1,4}", 0..4),
            text in "[ab]{0,30}",
        ) {
            let mut breakers = Breakers::new(&strings, bytes());
            for (end, byte) in (1..).zip(text.bytes()) {
                let expected = strings.iter().any(|string| text[..end].ends_with(string));
                prop_assert_eq!(breakers.would_break(byte.into()), expected);
                prop_assert_eq!(breakers.accept(byte.into()), expected);
            }
        }
    }
}
