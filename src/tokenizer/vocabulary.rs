//! The tokens by id: what kind each is of, and the bytes that it stands for.
//!
//! Owns the checks of the token arrays. Knows nothing of merges, nor of which ids have a part to play.

use super::byte_level;
use super::error::Error;
use std::collections::HashMap;

/// What a token is for, as `tokenizer.ggml.token_type` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A part of text, made by merges.
    Normal,
    /// Stands for what a vocabulary cannot spell; this one can spell everything.
    Unknown,
    /// Frames a prompt: `<｜User｜>`.
    Control,
    /// Text that is one token where it is trusted: `<think>`.
    UserDefined,
    /// A number without a token.
    Unused,
}

impl Kind {
    fn from_id(id: i32) -> Option<Kind> {
        Some(match id {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            _ => return None,
        })
    }

    /// Whether its text is part of an answer.
    pub fn is_text(self) -> bool {
        matches!(self, Kind::Normal | Kind::UserDefined)
    }

    /// Whether trusted text is searched for it.
    pub fn is_special(self) -> bool {
        matches!(self, Kind::Control | Kind::UserDefined)
    }
}

/// A token of the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: Kind,
    /// Not necessarily UTF-8: a character can be spelled by several tokens.
    pub bytes: &'a [u8],
}

pub(super) struct Vocabulary {
    kinds: Vec<Kind>,
    /// The bytes of all tokens, one after the other.
    bytes: Vec<u8>,
    /// Where the bytes of each end.
    ends: Vec<usize>,
}

impl Vocabulary {
    pub(super) fn new(texts: &[&str], types: &[i32]) -> Result<Vocabulary, Error> {
        if u32::try_from(texts.len()).is_err() {
            return Err(Error::TooManyTokens(texts.len()));
        }
        if texts.len() != types.len() {
            return Err(Error::TypeCount { tokens: texts.len(), types: types.len() });
        }
        let mut seen = HashMap::with_capacity(texts.len());
        let mut vocabulary = Vocabulary {
            kinds: Vec::with_capacity(texts.len()),
            bytes: Vec::with_capacity(texts.iter().map(|text| text.len()).sum()),
            ends: Vec::with_capacity(texts.len()),
        };
        for ((id, &text), &ty) in (0..).zip(texts).zip(types) {
            let kind = Kind::from_id(ty).ok_or(Error::TokenType { id, ty })?;
            // Vocabularies fill gaps with unused tokens, some of them empty: nothing ever becomes one.
            if text.is_empty() && kind == Kind::Unused {
                vocabulary.push(kind, text);
                continue;
            }
            if text.is_empty() {
                return Err(Error::EmptyToken(id));
            }
            if let Some(first) = seen.insert(text, id) {
                return Err(Error::DuplicateToken { text: text.to_owned(), first, second: id });
            }
            vocabulary.push(kind, text);
        }
        Ok(vocabulary)
    }

    /// Normal tokens are written in the byte-level alphabet, the others as they are.
    fn push(&mut self, kind: Kind, text: &str) {
        let start = self.bytes.len();
        let spelled = kind == Kind::Normal
            && text.chars().all(|c| byte_level::byte_of(c).map(|byte| self.bytes.push(byte)).is_some());
        if !spelled {
            self.bytes.truncate(start);
            self.bytes.extend_from_slice(text.as_bytes());
        }
        self.kinds.push(kind);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    pub(super) fn get(&self, id: u32) -> Option<Token<'_>> {
        let index = usize::try_from(id).ok()?;
        let kind = *self.kinds.get(index)?;
        let end = *self.ends.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        Some(Token { kind, bytes: self.bytes.get(start..end)? })
    }

    pub(super) fn kind(&self, id: u32) -> Option<Kind> {
        self.get(id).map(|token| token.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_tokens_are_decoded_and_others_are_not() {
        let vocabulary = Vocabulary::new(&["Ġa", "<｜User｜>", "Ġ", "a｜", "[PAD4]"], &[1, 3, 4, 1, 5]).unwrap();
        let token = |id| vocabulary.get(id).map(|token| (token.kind, token.bytes));
        assert_eq!(token(0), Some((Kind::Normal, b" a".as_slice())));
        assert_eq!(token(1), Some((Kind::Control, "<｜User｜>".as_bytes())));
        assert_eq!(token(2), Some((Kind::UserDefined, "Ġ".as_bytes())));
        assert_eq!(token(3), Some((Kind::Normal, "a｜".as_bytes())), "not of the alphabet: left as it is");
        assert_eq!(token(4), Some((Kind::Unused, b"[PAD4]".as_slice())));
        assert_eq!(token(5), None);
        assert_eq!(token(u32::MAX), None);
    }

    #[test]
    fn faulty_arrays_are_refused() {
        let error = |texts: &[&str], types: &[i32]| Vocabulary::new(texts, types).err().unwrap();
        assert!(matches!(error(&["a"], &[]), Error::TypeCount { tokens: 1, types: 0 }));
        assert!(matches!(error(&["a"], &[6]), Error::TokenType { id: 0, ty: 6 }));
        assert!(matches!(error(&["a", "b"], &[1, -1]), Error::TokenType { id: 1, ty: -1 }));
        assert!(matches!(error(&["a", ""], &[1, 1]), Error::EmptyToken(1)));
        assert!(Vocabulary::new(&["a", "", ""], &[1, 5, 5]).is_ok());
        assert!(matches!(error(&["a", "b", "a"], &[1, 1, 3]), Error::DuplicateToken { first: 0, second: 2, .. }));
    }
}
