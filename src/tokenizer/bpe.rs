//! Byte-pair encoding: words to ids, by the merges of the vocabulary, on the crate `tokenizers`.
//!
//! Owns the checks of the merges, and a memory of the words of a text. Knows only normal tokens: no other
//! can come out of it.

use super::byte_level;
use super::error::Error;
use std::collections::HashMap;
use std::ops::Range;
use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab};

/// Words longer than this are not remembered: they hardly come twice.
const MAX_REMEMBERED_LEN: usize = 64;
/// Words remembered for one text. The first are the frequent ones.
const MAX_REMEMBERED: usize = 1 << 16;

pub(super) struct Bpe {
    model: BPE,
}

impl Bpe {
    /// `tokens` are the normal ones; `merges` are lines of two of them, the first to merge first.
    pub(super) fn new<'a>(tokens: impl Iterator<Item = (&'a str, u32)>, merges: &[&str]) -> Result<Bpe, Error> {
        let vocab: Vocab = tokens.map(|(text, id)| (text.to_owned(), id)).collect();
        // Bytes that UTF-8 never has are lacking in the vocabularies of V2.
        for byte in (0..=u8::MAX).filter(|&byte| byte_level::is_in_utf8(byte)) {
            if !vocab.contains_key(byte_level::char_of(byte).encode_utf8(&mut [0; 4])) {
                return Err(Error::MissingByte { byte });
            }
        }
        let pairs =
            merges.iter().enumerate().map(|(rank, merge)| pair(rank, merge, &vocab)).collect::<Result<_, _>>()?;
        // The crate's own memory is for each thread, for ever; ours ends with the text.
        let builder = BPE::builder().vocab_and_merges(vocab, pairs).cache_capacity(0);
        Ok(Bpe { model: builder.build().map_err(Error::Merges)? })
    }

    /// An encoder for words of texts that live for `'t`.
    pub(super) fn encoder<'t>(&self) -> Encoder<'_, 't> {
        Encoder { model: &self.model, seen: HashMap::new(), spelled: String::new(), ids: Vec::new() }
    }
}

/// The two tokens of a merge. Both, and what they make, are in the vocabulary: the crate relies on it.
fn pair(rank: usize, merge: &str, vocab: &Vocab) -> Result<(String, String), Error> {
    // From the second byte: the left token has one at least.
    let space = merge.bytes().skip(1).position(|byte| byte == b' ').map(|at| at + 1);
    let (left, right) = space
        .and_then(|at| Some((merge.get(..at)?, merge.get(at + 1..)?)))
        .ok_or_else(|| Error::MergeForm { rank, text: merge.to_owned() })?;
    let made = [left, right].concat();
    for token in [left, right, &made] {
        if !vocab.contains_key(token) {
            return Err(Error::MergeToken { rank, text: merge.to_owned(), token: token.to_owned() });
        }
    }
    Ok((left.to_owned(), right.to_owned()))
}

/// Encodes the words of a text, one after the other.
pub(super) struct Encoder<'b, 't> {
    model: &'b BPE,
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
        self.spelled.clear();
        self.spelled.extend(word.bytes().map(byte_level::char_of));
        let tokens = self.model.tokenize(&self.spelled).expect("every byte has its token");
        self.ids.extend(tokens.iter().map(|token| token.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn long_words_are_whole_too() {
        let bpe = bpe(&["aa"], &["a a"]).unwrap();
        let word = "a".repeat(MAX_REMEMBERED_LEN + 1);
        assert_eq!(encode(&bpe, &[&word]).len(), MAX_REMEMBERED_LEN / 2 + 1);
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
