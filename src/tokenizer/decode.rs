//! Bytes back to text, as they come: what is not yet a whole character waits.
//!
//! All text that is decoded goes through here, so that a stream and a whole are decoded alike.

use super::Tokenizer;
use super::error::UnknownToken;
use std::str;

/// Whether tokens that are no text, such as `<｜User｜>`, are decoded to their names or to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlTokens {
    Shown,
    Hidden,
}

/// Decodes the tokens of one answer.
pub struct Decoder<'t> {
    tokenizer: &'t Tokenizer,
    control: ControlTokens,
    stream: Utf8Stream,
}

impl<'t> Decoder<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, control: ControlTokens) -> Decoder<'t> {
        Decoder { tokenizer, control, stream: Utf8Stream::new() }
    }

    /// Appends to `text` what can be said now that the token `id` has come.
    pub fn push(&mut self, id: u32, text: &mut String) -> Result<(), UnknownToken> {
        let token = self.tokenizer.token(id)?;
        if token.kind.is_text() || self.control == ControlTokens::Shown {
            self.stream.push(token.bytes, text);
        }
        Ok(())
    }

    /// Appends what still waits. The decoder is then as new.
    pub fn finish(&mut self, text: &mut String) {
        self.stream.finish(text);
    }
}

/// Makes text of bytes that come in chunks, cut anywhere.
///
/// Holds back an unfinished character, three bytes at most. Bytes that can no longer become a
/// character are U+FFFD, as many as [`String::from_utf8_lossy`] gives for the whole.
#[derive(Debug, Clone, Default)]
pub struct Utf8Stream {
    /// The first bytes of a character.
    waiting: [u8; 3],
    n_waiting: usize,
}

impl Utf8Stream {
    pub fn new() -> Utf8Stream {
        Utf8Stream::default()
    }

    /// Appends to `text` what `bytes` complete.
    pub fn push(&mut self, bytes: &[u8], text: &mut String) {
        let mut bytes = bytes;
        while self.n_waiting > 0 {
            let Some((&byte, rest)) = bytes.split_first() else { return };
            if self.push_byte(byte, text) {
                bytes = rest;
            }
        }
        let unfinished = push_whole(bytes, text);
        self.waiting[..unfinished.len()].copy_from_slice(unfinished);
        self.n_waiting = unfinished.len();
    }

    /// Appends U+FFFD for a character that was never finished.
    pub fn finish(&mut self, text: &mut String) {
        if self.n_waiting > 0 {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        self.n_waiting = 0;
    }

    /// Puts `byte` behind those that wait. Where it does not continue them they are lost, and it is not
    /// taken: false.
    fn push_byte(&mut self, byte: u8, text: &mut String) -> bool {
        let mut character = [0; 4];
        let len = self.n_waiting + 1;
        character[..self.n_waiting].copy_from_slice(&self.waiting[..self.n_waiting]);
        character[self.n_waiting] = byte;
        match str::from_utf8(&character[..len]) {
            Ok(whole) => {
                text.push_str(whole);
                self.n_waiting = 0;
            }
            Err(error) if error.error_len().is_none() => {
                self.waiting[self.n_waiting] = byte;
                self.n_waiting = len;
            }
            Err(_) => {
                text.push(char::REPLACEMENT_CHARACTER);
                self.n_waiting = 0;
                return false;
            }
        }
        true
    }
}

/// Appends all of `bytes` but an unfinished character at the end, which is returned.
fn push_whole<'b>(bytes: &'b [u8], text: &mut String) -> &'b [u8] {
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        let invalid = chunk.invalid();
        let is_last = chunks.peek().is_none();
        if is_last && str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none()) {
            return invalid;
        }
        if !invalid.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::tests::cases;
    use proptest::prelude::*;

    fn decode<'b>(chunks: impl IntoIterator<Item = &'b [u8]>) -> String {
        let (mut stream, mut text) = (Utf8Stream::new(), String::new());
        chunks.into_iter().for_each(|chunk| stream.push(chunk, &mut text));
        stream.finish(&mut text);
        text
    }

    #[test]
    fn a_character_waits_until_it_is_whole() {
        let (mut stream, mut text) = (Utf8Stream::new(), String::new());
        for (byte, expected) in "a🐋".bytes().zip(["a", "a", "a", "a", "a🐋"]) {
            stream.push(&[byte], &mut text);
            assert_eq!(text, expected);
        }
        stream.finish(&mut text);
        assert_eq!(text, "a🐋");
    }

    #[test]
    fn what_cannot_become_a_character_does_not_wait() {
        let (mut stream, mut text) = (Utf8Stream::new(), String::new());
        stream.push(b"\xff", &mut text);
        assert_eq!(text, "\u{fffd}");
        stream.push(b"\xe4\xbd", &mut text);
        assert_eq!(text, "\u{fffd}");
        stream.push(b"\xe4", &mut text);
        assert_eq!(text, "\u{fffd}\u{fffd}");
        stream.push(b"\xbd\xa0", &mut text);
        assert_eq!(text, "\u{fffd}\u{fffd}你");
    }

    #[test]
    fn the_end_ends_what_waits() {
        let (mut stream, mut text) = (Utf8Stream::new(), String::new());
        stream.push(b"\xf0\x9f\x90", &mut text);
        stream.finish(&mut text);
        stream.push(b"\x8b", &mut text);
        stream.finish(&mut text);
        assert_eq!(text, "\u{fffd}\u{fffd}");
    }

    /// Bytes that are often nearly UTF-8.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            any::<char>().prop_map(|c| c.to_string().into_bytes()[1..].to_vec()),
            any::<char>().prop_map(|c| c.to_string().into_bytes().split_last().unwrap().1.to_vec()),
            any::<u8>().prop_map(|byte| vec![byte]),
        ];
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn every_way_of_cutting_decodes_alike(bytes in bytes(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let whole = String::from_utf8_lossy(&bytes);
            prop_assert_eq!(&decode(cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]])), &whole);
            prop_assert_eq!(&decode(bytes.chunks(1)), &whole);
            prop_assert_eq!(&decode([&*bytes]), &whole);
        }
    }
}
