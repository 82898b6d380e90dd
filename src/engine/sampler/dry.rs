//! DRY, "don't repeat yourself", by Philipp Emanuel Weidmann (p-e-w).
//!
//! A token that would go on with a repetition pays more, the longer that is already: where the last n
//! tokens occurred before, n more than are allowed, the token that followed them there loses
//! `multiplier * base ^ (n - allowed_length)`. A repetition begins behind the last breaker, and a token that
//! breaks pays nothing.

use super::breaker::{Breakers, Spell};
use super::params::last_n;
use super::{SamplerParams, scores};
use std::collections::HashMap;

#[derive(Clone)]
pub(super) struct Dry {
    multiplier: f32,
    base: f32,
    allowed_length: usize,
    /// None is all of the context.
    last_n: Option<usize>,
    history: Vec<u32>,
    breakers: Breakers,
    /// Tokens since the last that broke.
    run: usize,
    /// See [`repetitions`]; kept for its memory, as the next is.
    lengths: Vec<usize>,
    /// By token, the longest repetition that it would go on with.
    longest: HashMap<u32, usize>,
}

impl Dry {
    /// None where it is off.
    pub(super) fn new(params: &SamplerParams, spell: Spell) -> Option<Dry> {
        let dry = Dry {
            multiplier: params.dry_multiplier,
            base: params.dry_base,
            allowed_length: params.dry_allowed_length as usize,
            last_n: last_n(params.dry_penalty_last_n),
            history: Vec::new(),
            breakers: Breakers::new(&params.dry_sequence_breakers, spell),
            run: 0,
            lengths: Vec::new(),
            longest: HashMap::new(),
        };
        (dry.multiplier > 0.0 && dry.last_n != Some(0)).then_some(dry)
    }

    pub(super) fn accept(&mut self, token: u32) {
        self.history.push(token);
        self.run = if self.breakers.accept(token) { 0 } else { self.run + 1 };
    }

    pub(super) fn apply(&mut self, scores: &mut [f32]) {
        if self.run < self.allowed_length {
            return;
        }
        let start = self.last_n.map_or(0, |last_n| self.history.len().saturating_sub(last_n));
        let window = &self.history[start..];
        repetitions(window, &mut self.lengths);

        self.longest.clear();
        for (next, &length) in window.iter().skip(1).zip(&self.lengths) {
            let length = length.min(self.run);
            if length >= self.allowed_length {
                let longest = self.longest.entry(*next).or_default();
                *longest = length.max(*longest);
            }
        }
        for (&token, &length) in &self.longest {
            if self.breakers.would_break(token) {
                continue;
            }
            let excess = i32::try_from(length - self.allowed_length).unwrap_or(i32::MAX);
            scores::change(scores, token, |score| score - self.multiplier * self.base.powi(excess));
        }
    }
}

/// For each place in `tokens`: how many of the tokens up to and with it are those that `tokens` ends with.
///
/// This is the Z function of the reversed tokens, in linear time: what is known of a stretch that
/// matches the end is known of each place in it, from its twin within the end.
fn repetitions(tokens: &[u32], lengths: &mut Vec<usize>) {
    let n = tokens.len();
    lengths.clear();
    lengths.resize(n, n);
    // The stretch that matches and reaches furthest back: it begins at `from` and ends with the token `to`.
    let (mut from, mut to) = (n, n);
    for place in (0..n.saturating_sub(1)).rev() {
        let known = if place >= from { lengths[n - 1 - (to - place)].min(place + 1 - from) } else { 0 };
        let matching = |length: &usize| tokens[place - length] == tokens[n - 1 - length];
        let length = known + (known..place + 1).take_while(matching).count();
        lengths[place] = length;
        if length > 0 && place + 1 - length < from {
            (from, to) = (place + 1 - length, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::breaker::tests::bytes;
    use super::*;
    use proptest::prelude::*;

    fn params() -> SamplerParams {
        SamplerParams { dry_multiplier: 0.5, dry_base: 2.0, dry_allowed_length: 2, ..Default::default() }
    }

    /// What the bytes that follow `history` lose, those that lose something.
    fn losses(params: &SamplerParams, history: &[u32]) -> Vec<(char, f32)> {
        let mut dry = Dry::new(params, bytes()).unwrap();
        history.iter().for_each(|&token| dry.accept(token));
        let mut scores = [0.0; 256];
        dry.apply(&mut scores);
        let lost = (0u8..=255).zip(scores).filter(|(_, score)| *score != 0.0);
        lost.map(|(byte, score)| (char::from(byte), -score)).collect()
    }

    fn text(text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    #[test]
    fn the_penalty_grows_with_the_repetition() {
        assert_eq!(losses(&params(), &text("abcdef a")), []);
        assert_eq!(losses(&params(), &text("abcdef ab")), [('c', 0.5)]);
        assert_eq!(losses(&params(), &text("abcdef abc")), [('d', 1.0)]);
        assert_eq!(losses(&params(), &text("abcdef abcd")), [('e', 2.0)]);
        assert_eq!(losses(&params(), &text("abcdef abcdx")), []);
    }

    #[test]
    fn the_longest_repetition_counts_for_each_token() {
        assert_eq!(losses(&params(), &text("abcd ybcd xbce abc")), [('d', 1.0), ('e', 0.5)]);
        // A repetition may overlap itself.
        assert_eq!(losses(&params(), &text("aaaa")), [('a', 1.0)]);
    }

    #[test]
    fn breakers_end_repetitions_and_never_pay() {
        assert_eq!(losses(&params(), &text("ab:cdef ab:cd")), [('e', 0.5)]);
        assert_eq!(losses(&params(), &text("ab:cdef ab:c")), []);
        assert_eq!(losses(&params(), &text("ab: ab")), []);
        let none = SamplerParams { dry_sequence_breakers: vec![], ..params() };
        assert_eq!(losses(&none, &text("ab: ab")), [(':', 0.5)]);
        // 300 is no text, as the tokens are that frame a conversation.
        let frame = [&text("abcdef")[..], &[300], &text("abc")].concat();
        assert_eq!(losses(&params(), &frame), [('d', 1.0)]);
        let across = [&text("ab")[..], &[300], &text("cd ab"), &[300], &text("c")].concat();
        assert_eq!(losses(&params(), &across), []);
    }

    #[test]
    fn the_window_limits_what_is_seen() {
        let last_n = |n| SamplerParams { dry_penalty_last_n: n, ..params() };
        assert_eq!(losses(&last_n(9), &text("abcdef abc")), [('d', 0.5)]);
        assert_eq!(losses(&last_n(8), &text("abcdef abc")), []);
        assert!(Dry::new(&last_n(0), bytes()).is_none());
        assert!(Dry::new(&SamplerParams::default(), bytes()).is_none());
    }

    #[test]
    fn the_penalty_may_be_as_large_as_it_likes() {
        let history = [vec![97; 400], vec![98], vec![97; 400]].concat();
        let mut dry = Dry::new(&SamplerParams { dry_base: 10.0, ..params() }, bytes()).unwrap();
        history.iter().for_each(|&token| dry.accept(token));
        let mut scores = [0.0; 256];
        dry.apply(&mut scores);
        assert_eq!((scores[97], scores[98], scores[99]), (f32::MIN, f32::MIN, 0.0));
    }

    proptest! {
        #[test]
        fn repetitions_are_the_plain_ones(tokens in prop::collection::vec(0u32..3, 0..60)) {
            let mut lengths = Vec::new();
            repetitions(&tokens, &mut lengths);
            let plain = |end: usize| tokens[..end].iter().rev().zip(tokens.iter().rev()).take_while(|(a, b)| a == b);
            let expected: Vec<usize> = (1..=tokens.len()).map(|end| plain(end).count()).collect();
            prop_assert_eq!(lengths, expected);
        }
    }
}
