//! A vocabulary of any size: one token a byte, made-up words, and the tokens that frame a prompt.
//!
//! The words are all strings of letters, short ones first, with or without a space before them, each made
//! by one merge out of a shorter one. So text has fewer tokens than letters, as with a real vocabulary,
//! and any text can be spelled.

use super::model::Vocabulary;
use crate::tokenizer::{BOS, EOS, byte_char};
use std::collections::VecDeque;

/// The arrays of `tokenizer.ggml`, and who has a part to play.
#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) pre: &'static str,
    pub(super) texts: Vec<String>,
    pub(super) types: Vec<i32>,
    pub(super) merges: Vec<String>,
    pub(super) bos: u32,
    pub(super) eos: u32,
    pub(super) pad: u32,
}

const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;

const PAD: &str = "<｜▁pad▁｜>";

const V2_CONTROL: [&str; 18] = [
    BOS,
    EOS,
    "<｜fim▁hole｜>",
    "<｜fim▁begin｜>",
    "<｜fim▁end｜>",
    "<｜completion｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<|EOT|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁outputs▁begin｜>",
    "<｜tool▁outputs▁end｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
    "<｜tool▁sep｜>",
];

/// Behind the placeholders; the first three tokens are control tokens too.
const V3_CONTROL: [&str; 15] = [
    "<｜fim▁hole｜>",
    "<｜fim▁begin｜>",
    "<｜fim▁end｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<|EOT|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁outputs▁begin｜>",
    "<｜tool▁outputs▁end｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
    "<｜tool▁sep｜>",
];
const V3_PLACEHOLDERS: usize = 800;

impl Vocabulary {
    /// The fewest tokens there can be: bytes and control tokens.
    pub(super) fn min_tokens(self) -> u32 {
        256 + match self {
            Vocabulary::V2 => V2_CONTROL.len() as u32,
            Vocabulary::V3 => 3 + V3_CONTROL.len() as u32,
        }
    }

    /// The tokens that go first.
    fn head(self) -> Vec<String> {
        match self {
            Vocabulary::V2 => Vec::new(),
            Vocabulary::V3 => [BOS, EOS, PAD].map(str::to_owned).into(),
        }
    }

    /// The control tokens behind the words, and the id at which the real vocabulary has them.
    fn tail(self) -> (u32, Vec<String>) {
        match self {
            Vocabulary::V2 => (100_000, V2_CONTROL.map(str::to_owned).into()),
            Vocabulary::V3 => {
                let placeholder = |n| format!("<｜place▁holder▁no▁{n}｜>");
                (128_000, (0..V3_PLACEHOLDERS).map(placeholder).chain(V3_CONTROL.map(str::to_owned)).collect())
            }
        }
    }

    /// A vocabulary of `n` tokens. Control tokens have their real ids if there is room up to there; else
    /// they are the last, without placeholders.
    pub(super) fn tokens(self, n: u32) -> Tokens {
        let mut texts = self.head();
        let mut types = vec![CONTROL; texts.len()];
        let (real_start, mut tail) = self.tail();
        let n = n as usize;
        let start = match real_start as usize {
            start if start + tail.len() <= n => start,
            _ => {
                tail.retain(|text| !text.contains("place▁holder"));
                n.saturating_sub(tail.len())
            }
        };
        texts.extend((0..=u8::MAX).map(|byte| byte_char(byte).to_string()));
        let mut merges = Vec::new();
        for (word, merge) in Words::new().take(start.saturating_sub(texts.len())) {
            texts.push(word);
            merges.push(merge);
        }
        types.resize(texts.len(), NORMAL);
        texts.append(&mut tail);
        types.resize(texts.len(), CONTROL);
        texts.extend((texts.len()..n).map(|id| format!("[PAD{id}]")));
        types.resize(texts.len(), UNUSED);
        let id = |text| texts.iter().position(|token| token == text).unwrap_or(0) as u32;
        let (bos, eos) = (id(BOS), id(EOS));
        let (pre, pad) = match self {
            Vocabulary::V2 => ("deepseek-llm", eos),
            Vocabulary::V3 => ("deepseek-v3", id(PAD)),
        };
        Tokens { pre, texts, types, merges, bos, eos, pad }
    }
}

/// Strings of letters, by length and then by the alphabet, each with the merge that makes it.
struct Words {
    /// Those that longer ones are still to be made of; the first with the next letter to add.
    shorter: VecDeque<String>,
    letter: u8,
}

impl Words {
    fn new() -> Words {
        let space = byte_char(b' ');
        let letters = (b'a'..=b'z').map(char::from);
        Words { shorter: std::iter::once(space).chain(letters).map(String::from).collect(), letter: b'a' }
    }
}

impl Iterator for Words {
    type Item = (String, String);

    fn next(&mut self) -> Option<(String, String)> {
        let left = self.shorter.front()?;
        let letter = char::from(self.letter);
        let (word, merge) = (format!("{left}{letter}"), format!("{left} {letter}"));
        self.shorter.push_back(word.clone());
        self.letter += 1;
        if self.letter > b'z' {
            self.letter = b'a';
            self.shorter.pop_front();
        }
        Some((word, merge))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{Parts, Roles, Tokenizer};

    fn tokenizer(tokens: &Tokens) -> Tokenizer {
        Tokenizer::from_parts(&Parts {
            pre: tokens.pre,
            tokens: tokens.texts.iter().map(String::as_str).collect(),
            token_types: tokens.types.clone(),
            merges: tokens.merges.iter().map(String::as_str).collect(),
            roles: Roles { bos: Some(tokens.bos), eos: Some(tokens.eos), pad: Some(tokens.pad), ..Roles::default() },
            ..Parts::default()
        })
        .unwrap()
    }

    #[test]
    fn every_size_makes_a_tokenizer() {
        for vocabulary in [Vocabulary::V2, Vocabulary::V3] {
            for n in [vocabulary.min_tokens(), 1000, 99_999, 100_018, 128_815, 129_280] {
                let tokens = vocabulary.tokens(n);
                assert_eq!((tokens.texts.len(), tokens.types.len()), (n as usize, n as usize));
                let tokenizer = tokenizer(&tokens);
                let ids = tokenizer.encode_content("hello, 世界");
                assert_eq!(tokenizer.decode(&ids, crate::tokenizer::ControlTokens::Shown).unwrap(), "hello, 世界");
                for text in ["<｜User｜>", "<|EOT|>", BOS, EOS] {
                    assert!(tokenizer.special(text).is_ok(), "{text} of {n}");
                }
            }
        }
    }

    #[test]
    fn control_tokens_have_their_real_ids() {
        let v3 = tokenizer(&Vocabulary::V3.tokens(129_280));
        for (text, id) in [
            (BOS, 0),
            (EOS, 1),
            (PAD, 2),
            ("<｜place▁holder▁no▁799｜>", 128_799),
            ("<｜fim▁hole｜>", 128_800),
            ("<｜User｜>", 128_803),
            ("<｜tool▁sep｜>", 128_814),
        ] {
            assert_eq!(v3.special(text), Ok(id), "{text}");
        }
        let v2 = tokenizer(&Vocabulary::V2.tokens(102_400));
        assert_eq!(
            (v2.special(BOS), v2.special(EOS), v2.special("<｜tool▁sep｜>")),
            (Ok(100_000), Ok(100_001), Ok(100_017))
        );
    }

    #[test]
    fn words_are_merged() {
        let tokenizer = tokenizer(&Vocabulary::V3.tokens(129_280));
        let text = "the quick brown fox jumps over the lazy dog";
        let n = tokenizer.encode_content(text).len();
        assert!(n <= text.len() / 2, "{n} tokens");
    }
}
