//! Tokens to pieces of an answer: bytes to whole characters, and stop strings looked for in them.

use super::request::Piece;
use super::stop::StopStrings;
use crate::tokenizer::{Kind, Tokenizer, Utf8Stream};

/// The text of one answer, as it comes.
pub(super) struct AnswerText {
    stop: StopStrings,
    utf8: Utf8Stream,
}

impl AnswerText {
    pub(super) fn new(stop: StopStrings) -> AnswerText {
        AnswerText { stop, utf8: Utf8Stream::new() }
    }

    /// Takes a token and appends the pieces that can be shown now; the number of a stop string that is
    /// complete, which ends the answer. Where it may not end yet, no stop string begins in the token either.
    pub(super) fn push(
        &mut self,
        tokenizer: &Tokenizer,
        id: u32,
        may_end: bool,
        pieces: &mut Vec<Piece>,
    ) -> Option<usize> {
        let Ok(token) = tokenizer.token(id) else { return None };
        let mut text = String::new();
        if token.kind == Kind::Normal {
            self.utf8.push(token.bytes, &mut text);
            if may_end {
                return self.show(&text, pieces);
            }
            push_text(text, pieces);
            return None;
        }
        // No character and no stop string goes across a token that is no text.
        self.utf8.finish(&mut text);
        let stopped = self.show(&text, pieces);
        if stopped.is_none() {
            self.release(pieces);
            if token.kind.is_special() {
                pieces.push(Piece::Control(String::from_utf8_lossy(token.bytes).into_owned()));
            }
        }
        stopped
    }

    /// Appends what was held back, once no more tokens come.
    pub(super) fn finish(&mut self, pieces: &mut Vec<Piece>) {
        let mut text = String::new();
        self.utf8.finish(&mut text);
        if self.show(&text, pieces).is_none() {
            self.release(pieces);
        }
    }

    fn show(&mut self, text: &str, pieces: &mut Vec<Piece>) -> Option<usize> {
        let mut shown = String::new();
        let stopped = self.stop.push(text, &mut shown);
        push_text(shown, pieces);
        stopped
    }

    fn release(&mut self, pieces: &mut Vec<Piece>) {
        let mut held = String::new();
        self.stop.finish(&mut held);
        push_text(held, pieces);
    }
}

fn push_text(text: String, pieces: &mut Vec<Piece>) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Parts;

    /// Bytes at their own numbers; 256 is a control token, 257 a user-defined one, 258 is not used.
    fn tokenizer() -> Tokenizer {
        let bytes: Vec<String> = (0..=255u8).map(crate::tokenizer::spelling_of_byte).collect();
        let more = [("<c>", 3), ("<u>", 4), ("[PAD]", 5)];
        Tokenizer::from_parts(&Parts {
            pre: "deepseek-v3",
            tokens: bytes.iter().map(String::as_str).chain(more.map(|(text, _)| text)).collect(),
            token_types: bytes.iter().map(|_| 1).chain(more.map(|(_, ty)| ty)).collect(),
            ..Parts::default()
        })
        .unwrap()
    }

    /// The pieces of tokens, and where a stop string came.
    fn pieces(stop: &[&str], tokens: &[u32]) -> (Vec<Piece>, Option<(usize, usize)>) {
        let stop: Vec<String> = stop.iter().map(|text| (*text).to_owned()).collect();
        let mut answer = AnswerText::new(StopStrings::new(&stop).unwrap());
        let mut pieces = Vec::new();
        let tokenizer = tokenizer();
        for (at, id) in tokens.iter().enumerate() {
            if let Some(number) = answer.push(&tokenizer, *id, true, &mut pieces) {
                return (pieces, Some((at, number)));
            }
        }
        answer.finish(&mut pieces);
        (pieces, None)
    }

    fn bytes(text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    fn text(pieces: &[Piece]) -> String {
        let shown = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Control(text) => format!("({text})"),
        };
        pieces.iter().map(shown).collect()
    }

    #[test]
    fn characters_come_whole() {
        let (pieces, _) = pieces(&[], &bytes("aé🐋"));
        let expected: Vec<Piece> = ["a", "é", "🐋"].map(|text| Piece::Text(text.to_owned())).into();
        assert_eq!(pieces, expected);
    }

    #[test]
    fn tokens_that_are_no_text_come_by_themselves() {
        let tokens = [bytes("a"), vec![0xc3, 256, 258, 257], bytes("b")].concat();
        let (pieces, stopped) = pieces(&[], &tokens);
        assert_eq!((text(&pieces).as_str(), stopped), ("a\u{fffd}(<c>)(<u>)b", None));
    }

    #[test]
    fn no_stop_string_begins_before_the_answer_may_end() {
        let mut answer = AnswerText::new(StopStrings::new(&["ab".to_owned()]).unwrap());
        let (tokenizer, mut pieces) = (tokenizer(), Vec::new());
        let mut push = |text: &str, may_end| {
            let stopped: Vec<_> =
                bytes(text).into_iter().map(|id| answer.push(&tokenizer, id, may_end, &mut pieces)).collect();
            stopped.into_iter().flatten().next()
        };
        assert_eq!([push("aba", false), push("b", true), push("ab", true)], [None, None, Some(0)]);
        assert_eq!(text(&pieces), "abab");
    }

    #[test]
    fn a_stop_string_ends_the_answer_where_it_begins() {
        let (shown, stopped) = pieces(&["xyz", "end"], &bytes("the enend"));
        assert_eq!((text(&shown).as_str(), stopped), ("the en", Some((8, 1))));
        let (shown, stopped) = pieces(&["end"], &bytes("the en"));
        assert_eq!((text(&shown).as_str(), stopped), ("the en", None));
        // Not across a control token.
        let (shown, stopped) = pieces(&["end"], &[bytes("en"), vec![256], bytes("d")].concat());
        assert_eq!((text(&shown).as_str(), stopped), ("en(<c>)d", None));
    }
}
