//! The pre-tokenizer `deepseek-v3`: numbers, then Chinese and Japanese, then words, signs and spaces.

use super::class::Class;
use super::{isolate, run};

const WORD: Class = Class::LETTER.or(Class::MARK);
const SIGN: Class = Class::PUNCTUATION.or(Class::SYMBOL);

pub(super) fn split<'t>(text: &'t str, emit: &mut impl FnMut(&'t str)) {
    isolate(text, number, &mut |piece| {
        isolate(piece, |text| run(text, is_cjk), &mut |piece| isolate(piece, word, emit));
    });
}

/// `\p{N}{1,3}`
fn number(text: &str) -> usize {
    text.chars().take(3).take_while(|&c| Class::NUMBER.has(c)).map(char::len_utf8).sum()
}

/// Han as it was in 1993, hiragana and katakana.
fn is_cjk(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fa5}' | '\u{3040}'..='\u{309f}' | '\u{30a0}'..='\u{30ff}')
}

/// The last stage, whose alternatives are tried in order:
///
/// 1. ``[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+``
/// 2. `[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+`
/// 3. ` ?[\p{P}\p{S}]+[\r\n]*`
/// 4. `\s*[\r\n]+`
/// 5. `\s+(?!\S)`
/// 6. `\s+`
fn word(text: &str) -> usize {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    let after = chars.as_str();

    if first.is_ascii_punctuation() {
        let letters = run(after, |c| c.is_ascii_alphabetic());
        if letters > 0 {
            return first.len_utf8() + letters;
        }
    }
    if !is_newline(first) && !Class::LETTER.or(SIGN).has(first) {
        let len = run(after, |c| WORD.has(c));
        if len > 0 {
            return first.len_utf8() + len;
        }
    }
    let len = run(text, |c| WORD.has(c));
    if len > 0 {
        return len;
    }
    let signs = if first == ' ' { after } else { text };
    let len = run(signs, |c| SIGN.has(c));
    if len > 0 {
        let newlines = run(&signs[len..], is_newline);
        return text.len() - signs.len() + len + newlines;
    }
    space(text)
}

/// The alternatives 4 to 6: white space up to its last newline; else all of it but the last character,
/// which goes with the word that follows; else that one character.
fn space(text: &str) -> usize {
    let len = run(text, char::is_whitespace);
    let blank = &text[..len];
    if let Some(newline) = blank.rfind(is_newline) {
        return newline + 1;
    }
    match blank.char_indices().next_back() {
        Some((last, _)) if last > 0 && len < text.len() => last,
        _ => len,
    }
}

fn is_newline(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::super::PreTokenizer;
    use super::super::tests::pieces;

    #[track_caller]
    fn assert_pieces(expected: &[&str]) {
        assert_eq!(pieces(PreTokenizer::DeepSeekV3, &expected.concat()), expected);
    }

    #[test]
    fn numbers_go_by_threes() {
        assert_pieces(&["x", "123", "456", "7", "."]);
        assert_pieces(&["½", "²", "٣"].concat().split_inclusive("٣").collect::<Vec<_>>());
    }

    #[test]
    fn a_word_takes_what_stands_before_it() {
        assert_pieces(&["a", " b", ".c", "(d", ")", "\u{200d}e", "\t", "\tf", "1", " "]);
        assert_pieces(&["你好", "world", "カタカナ", "e\u{301}"]);
        // A mark may stand before a word, or be one.
        assert_pieces(&["\u{301}a"]);
        assert_pieces(&["1", "\u{301}"]);
    }

    #[test]
    fn signs_take_one_space_before_and_the_newlines_behind() {
        assert_pieces(&[" ", " !?\r\n\n", " ", " x"]);
        assert_pieces(&["。\n", "…。"]);
        assert_pieces(&["\t", "!"]);
    }

    #[test]
    fn white_space_ends_at_its_last_newline_or_before_the_last_space() {
        assert_pieces(&["a", " \n \n", "  ", " b"]);
        assert_pieces(&["a", "  "]);
        assert_pieces(&["a", " ", "\t", "!"]);
        assert_pieces(&["a", "\u{3000}", "\u{a0}b"]);
    }

    #[test]
    fn look_ahead_ends_with_the_piece() {
        // The number was cut off before, so the white space is at its piece's end.
        assert_pieces(&["  ", "12"]);
        assert_pieces(&["  ", "你"]);
    }

    #[test]
    fn unmatched_characters_survive() {
        assert_pieces(&["\0\0", "12", "\u{200b}"]);
    }
}
