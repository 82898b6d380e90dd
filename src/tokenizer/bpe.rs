//! Byte-pair encoding: words to ids, by the merges of the vocabulary, on the crate `tokenizers`.
//!
//! Owns the checks of the merges, and a memory of the words of a text. Knows only normal tokens: no other
//! can come out of it.

use super::byte_level;
use super::error::Error;
use super::long_word::{LongWord, Merge, Merges};
use std::collections::HashMap;
use std::ops::Range;
use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab};

/// Words longer than this are not remembered: they hardly come twice.
const MAX_REMEMBERED_LEN: usize = 64;
/// Words remembered for one text. The first are the frequent ones.
const MAX_REMEMBERED: usize = 1 << 16;
/// Words longer than this are merged by [`LongWord`].
const MAX_SHORT_LEN: usize = 4096;

pub(super) struct Bpe {
    model: BPE,
    /// The model's merges, for long words.
    merges: Merges,
    byte_ids: [u32; 256],
}

impl Bpe {
    /// `tokens` are the normal ones; `merges` are lines of two of them, the first to merge first.
    pub(super) fn new<'a>(tokens: impl Iterator<Item = (&'a str, u32)>, merges: &[&str]) -> Result<Bpe, Error> {
        let vocab: Vocab = tokens.map(|(text, id)| (text.to_owned(), id)).collect();
        let mut byte_ids = [u32::MAX; 256];
        for (byte, id) in (0..=u8::MAX).zip(&mut byte_ids) {
            match vocab.get(byte_level::char_of(byte).encode_utf8(&mut [0; 4])) {
                Some(&found) => *id = found,
                None if byte_level::is_in_utf8(byte) => return Err(Error::MissingByte { byte }),
                // V2's vocabulary lacks the bytes that no text has.
                None => {}
            }
        }
        let mut pairs = Vec::with_capacity(merges.len());
        let mut by_pair = Merges::with_capacity(merges.len());
        for (rank, text) in (0..).zip(merges) {
            let (left, right) = halves(text).ok_or_else(|| Error::MergeForm { rank, text: (*text).to_owned() })?;
            // The crate relies on all three being there.
            let id = |token: &str| {
                let unknown = || Error::MergeToken { rank, text: (*text).to_owned(), token: token.to_owned() };
                vocab.get(token).copied().ok_or_else(unknown)
            };
            let (pair, made) = ((id(left)?, id(right)?), id(&[left, right].concat())?);
            by_pair.insert(pair, Merge { rank, made });
            pairs.push((left.to_owned(), right.to_owned()));
        }
        // The crate's own memory is for each thread, for ever; ours ends with the text.
        let builder = BPE::builder().vocab_and_merges(vocab, pairs).cache_capacity(0);
        Ok(Bpe { model: builder.build().map_err(Error::Merges)?, merges: by_pair, byte_ids })
    }

    /// An encoder for words of texts that live for `'t`.
    pub(super) fn encoder<'t>(&self) -> Encoder<'_, 't> {
        Encoder { bpe: self, seen: HashMap::new(), spelled: String::new(), ids: Vec::new() }
    }

    fn merge_long(&self, word: &str) -> Vec<u32> {
        let ids = word.bytes().map(|byte| self.byte_ids[usize::from(byte)]).collect();
        LongWord::new(ids, &self.merges).merge()
    }
}

/// The two tokens of a merge. The left one has a byte at least, so a space there belongs to it.
fn halves(merge: &str) -> Option<(&str, &str)> {
    let space = merge.bytes().skip(1).position(|byte| byte == b' ')?.checked_add(1)?;
    Some((merge.get(..space)?, merge.get(space + 1..)?))
}

/// Encodes the words of a text, one after the other.
pub(super) struct Encoder<'b, 't> {
    bpe: &'b Bpe,
    /// Where in `ids` those of a word are that came before.
    seen: HashMap<&'t str, Range<usize>>,
    /// The word in the byte-level alphabet; kept for its memory.
    spelled: String,
    pub(super) ids: Vec<u32>,
}

impl<'t> Encoder<'_, 't> {
    pub(super) fn push_word(&mut self, word: &'t str) {
        if word.len() > MAX_REMEMBERED_LEN {
            return self.merge(word);
        }
        if let Some(range) = self.seen.get(word) {
            return self.ids.extend_from_within(range.clone());
        }
        let start = self.ids.len();
        self.merge(word);
        if self.seen.len() < MAX_REMEMBERED {
            self.seen.insert(word, start..self.ids.len());
        }
    }

    fn merge(&mut self, word: &str) {
        // The places in a long word are of 32 bits.
        if word.len() > MAX_SHORT_LEN && u32::try_from(word.len()).is_ok_and(|len| len < u32::MAX) {
            self.ids.append(&mut self.bpe.merge_long(word));
            return;
        }
        self.spelled.clear();
        self.spelled.extend(word.bytes().map(byte_level::char_of));
        let tokens = self.bpe.model.tokenize(&self.spelled).expect("every byte has its token");
        self.ids.extend(tokens.iter().map(|token| token.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::tests::cases;
    use proptest::prelude::*;

    /// The bytes at their own numbers, then `more`.
    fn bpe(more: &[&str], merges: &[&str]) -> Result<Bpe, Error> {
        let bytes: Vec<String> = (0..=255).map(|byte| byte_level::char_of(byte).to_string()).collect();
        Bpe::new(bytes.iter().map(String::as_str).chain(more.iter().copied()).zip(0..), merges)
    }

    fn encode(bpe: &Bpe, words: &[&str]) -> Vec<u32> {
        let mut encoder = bpe.encoder();
        words.iter().for_each(|word| encoder.push_word(word));
        encoder.ids
    }

    #[test]
    fn the_first_merge_goes_first_and_the_leftmost_of_equals() {
        let bpe = bpe(&["aa", "ab", "aab"], &["a a", "a b", "aa b"]).unwrap();
        assert_eq!(encode(&bpe, &["aaa"]), [256, 97]);
        assert_eq!(encode(&bpe, &["aab"]), [258]);
        assert_eq!(encode(&bpe, &["ab", "ab"]), [257, 257]);
        assert_eq!(encode(&bpe, &["é\0"]), [0xc3, 0xa9, 0]);
    }

    #[test]
    fn words_of_any_length_are_whole() {
        let bpe = bpe(&["aa"], &["a a"]).unwrap();
        for len in [MAX_REMEMBERED_LEN, MAX_SHORT_LEN] {
            for len in [len, len + 1] {
                let word = "a".repeat(len);
                assert_eq!(encode(&bpe, &[&word, &word]).len(), len.div_ceil(2) * 2);
            }
        }
    }

    proptest! {
        #![proptest_config(cases())]

        /// Any merges, in any order: also such as no training would give.
        #[test]
        fn long_words_merge_like_short_ones(
            merges in prop::collection::vec(("[abc]{1,4}", "[abc]{1,4}"), 0..24), word in "[abc]{0,40}",
        ) {
            let mut tokens: Vec<String> = merges.iter().flat_map(|(l, r)| [l.clone(), r.clone(), l.clone() + r]).collect();
            tokens.retain(|token| token.len() > 1);
            tokens.sort();
            tokens.dedup();
            let merges: Vec<String> = merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
            let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
            let merges: Vec<&str> = merges.iter().map(String::as_str).collect();
            let bpe = bpe(&tokens, &merges).unwrap();
            prop_assert_eq!(bpe.merge_long(&word), encode(&bpe, &[&word]));
        }
    }

    #[test]
    fn only_bytes_of_utf8_must_be_there() {
        let tokens = |lacking: u8| {
            let bytes =
                (0..=255).filter(move |&byte| byte != lacking).map(|byte| byte_level::char_of(byte).to_string());
            bytes.collect::<Vec<_>>()
        };
        let build = |lacking| Bpe::new(tokens(lacking).iter().map(String::as_str).zip(0..), &[]);
        assert!(build(0xff).is_ok());
        assert!(matches!(build(0xf4), Err(Error::MissingByte { byte: 0xf4 })));
        assert!(matches!(build(b'\n'), Err(Error::MissingByte { byte: b'\n' })));
    }

    #[test]
    fn faulty_merges_are_refused() {
        for merge in ["", " ", "a", "ab", "é"] {
            assert!(matches!(bpe(&[], &[merge]), Err(Error::MergeForm { rank: 0, .. })), "{merge:?}");
        }
        // A left or a right that is no token; an empty right; a token of this name that is not made.
        for merge in ["x yz", "xy z", "a ", " a b", "a  b", "a b"] {
            assert!(matches!(bpe(&["aa"], &["a a", merge]), Err(Error::MergeToken { rank: 1, .. })), "{merge:?}");
        }
    }
}
