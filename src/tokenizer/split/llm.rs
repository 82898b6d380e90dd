//! The pre-tokenizers `deepseek-llm` and `deepseek-coder`: lines, words, signs, Chinese and its
//! neighbours, numbers. They differ in what a word, a sign and a number is.

use super::class::Class;
use super::latin::is_latin;
use super::{isolate, run, spaced_run};

pub(super) fn split<'t>(text: &'t str, emit: &mut impl FnMut(&'t str)) {
    isolate(text, newline, &mut |piece| {
        isolate(piece, |text| spaced_run(text, is_latin), &mut |piece| {
            isolate(piece, |text| spaced_run(text, is_sign), &mut |piece| {
                trailing_space(piece, &mut |piece| {
                    isolate(piece, |text| run(text, is_cjk), &mut |piece| {
                        isolate(piece, |text| run(text, |c| Class::NUMBER.has(c)), emit);
                    });
                });
            });
        });
    });
}

pub(super) fn split_coder<'t>(text: &'t str, emit: &mut impl FnMut(&'t str)) {
    isolate(text, newline, &mut |piece| {
        isolate(piece, |text| spaced_run(text, |c| Class::LETTER.has(c)), &mut |piece| {
            isolate(piece, |text| spaced_run(text, |c| Class::PUNCTUATION.has(c)), &mut |piece| {
                isolate(piece, |text| run(text, is_cjk), &mut |piece| isolate(piece, digit, emit));
            });
        });
    });
}

/// `[\r\n]`
fn newline(text: &str) -> usize {
    usize::from(text.starts_with(['\r', '\n']))
}

/// `\p{N}`
fn digit(text: &str) -> usize {
    text.chars().next().filter(|&c| Class::NUMBER.has(c)).map_or(0, char::len_utf8)
}

/// `\s+$`, which a scan from each space would make quadratic.
fn trailing_space<'t>(piece: &'t str, emit: &mut impl FnMut(&'t str)) {
    let (before, space) = piece.split_at(piece.trim_end().len());
    if !before.is_empty() {
        emit(before);
    }
    if !space.is_empty() {
        emit(space);
    }
}

/// ``[!-/:-~！-／：-～‘-‟\u3000-。]``, whose second range runs over the letters of ASCII.
fn is_sign(c: char) -> bool {
    matches!(c, '!'..='/' | ':'..='~' | '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff5e}' | '\u{2018}'..='\u{201f}'
        | '\u{3000}'..='\u{3002}')
}

/// `[一-龥ࠀ-一가-퟿]`
fn is_cjk(c: char) -> bool {
    matches!(c, '\u{800}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7ff}')
}

#[cfg(test)]
mod tests {
    use super::super::PreTokenizer;
    use super::super::tests::pieces;

    #[track_caller]
    fn assert_pieces(pre: PreTokenizer, expected: &[&str]) {
        assert_eq!(pieces(pre, &expected.concat()), expected);
    }

    #[test]
    fn llm_cuts_lines_words_signs_and_numbers() {
        let pre = PreTokenizer::DeepSeekLlm;
        assert_pieces(pre, &["\r", "\n", "\n"]);
        // The signs' class cuts the letters of ASCII off from the others.
        assert_pieces(pre, &["Gr", "öß", "e", " an", " ", " Ωж", ",", " (", "you", ")"]);
        assert_pieces(pre, &["12345", " ", "6"]);
        assert_pieces(pre, &["你好한국", "，", "\u{3000}。"]);
        // Arabic letters are no words here, nor signs: they are what is left.
        assert_pieces(pre, &["سلام"]);
    }

    #[test]
    fn llm_cuts_off_the_space_at_the_end() {
        let pre = PreTokenizer::DeepSeekLlm;
        assert_pieces(pre, &["س س", "  "]);
        assert_pieces(pre, &["a", "  "]);
        assert_pieces(pre, &["\t \t"]);
    }

    #[test]
    fn coder_counts_all_letters_and_single_digits() {
        let pre = PreTokenizer::DeepSeekCoder;
        assert_pieces(pre, &["سلام", " δ", "1", "2", "½", "!?", "=", " .", "\n", "  ", " x"]);
        assert_pieces(pre, &["你好", "\u{200b}", "a", "  "]);
    }
}
