//! Special tokens in text: those that are one token by their text, whatever stands around them.
//!
//! Only text that is trusted may be searched here.

use super::error::Error;
use aho_corasick::{AhoCorasick, MatchKind};
use std::collections::HashMap;

pub(super) struct Specials {
    matcher: AhoCorasick,
    /// The ids of the matcher's patterns.
    ids: Vec<u32>,
    by_text: HashMap<String, u32>,
}

/// A stretch of trusted text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stretch<'t> {
    Text(&'t str),
    Token(u32),
}

impl Specials {
    pub(super) fn new(tokens: &[(&str, u32)]) -> Result<Specials, Error> {
        let texts = tokens.iter().map(|&(text, _)| text);
        Ok(Specials {
            matcher: AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts)?,
            ids: tokens.iter().map(|&(_, id)| id).collect(),
            by_text: tokens.iter().map(|&(text, id)| (text.to_owned(), id)).collect(),
        })
    }

    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.by_text.get(text).copied()
    }

    /// Cuts `text` into special tokens and what is between them. Where several begin, the longest is taken.
    pub(super) fn cut<'t>(&self, text: &'t str, mut emit: impl FnMut(Stretch<'t>)) {
        let mut end = 0;
        for found in self.matcher.find_iter(text) {
            let id = self.ids[found.pattern()];
            if end < found.start() {
                emit(Stretch::Text(&text[end..found.start()]));
            }
            emit(Stretch::Token(id));
            end = found.end();
        }
        if end < text.len() {
            emit(Stretch::Text(&text[end..]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_is_taken() {
        let specials = Specials::new(&[("<a", 1), ("<a｜>", 2), ("｜>", 3)]).unwrap();
        let cut = |text| {
            let mut stretches = Vec::new();
            specials.cut(text, |stretch| stretches.push(stretch));
            stretches
        };
        use Stretch::{Text, Token};
        assert_eq!(cut("x<a｜>y<a>"), [Text("x"), Token(2), Text("y"), Token(1), Text(">")]);
        assert_eq!(cut("｜>｜>"), [Token(3), Token(3)]);
        assert_eq!(cut(""), []);
        assert_eq!(specials.id("<a"), Some(1));
        assert_eq!(specials.id("<"), None);
    }

    #[test]
    fn a_vocabulary_without_specials_will_do() {
        let specials = Specials::new(&[]).unwrap();
        let mut stretches = Vec::new();
        specials.cut("<a", |stretch| stretches.push(stretch));
        assert_eq!(stretches, [Stretch::Text("<a")]);
    }
}
