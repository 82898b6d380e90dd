//! Pre-tokenizers: text cut into the words that byte-pair encoding then works within.
//!
//! A pre-tokenizer is a row of stages. Each cuts every piece that the one before it left into its
//! pattern's matches and the gaps between them; a gap survives as a piece. The patterns are regular
//! expressions with look-ahead by origin. They are scanned by hand here: in linear time, whatever the
//! text, and with nothing to compile. Knows no tokens: the pieces together are the text.

mod class;
mod latin;
mod llm;
mod v3;

/// The pre-tokenizers of DeepSeek's models, by their names in `tokenizer.ggml.pre`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PreTokenizer {
    /// V3, R1, V3.1.
    DeepSeekV3,
    /// DeepSeek LLM, V2, V2.5, Coder-V2.
    DeepSeekLlm,
    /// The first DeepSeek Coder.
    DeepSeekCoder,
}

impl PreTokenizer {
    pub(super) const ALL: [(&'static str, PreTokenizer); 3] = [
        ("deepseek-v3", PreTokenizer::DeepSeekV3),
        ("deepseek-llm", PreTokenizer::DeepSeekLlm),
        ("deepseek-coder", PreTokenizer::DeepSeekCoder),
    ];

    pub(super) fn from_name(name: &str) -> Option<PreTokenizer> {
        PreTokenizer::ALL.into_iter().find_map(|(known, pre)| (known == name).then_some(pre))
    }

    /// Calls `emit` with each piece of `text`, in order; none is empty.
    pub(super) fn split<'t>(self, text: &'t str, mut emit: impl FnMut(&'t str)) {
        match self {
            PreTokenizer::DeepSeekV3 => v3::split(text, &mut emit),
            PreTokenizer::DeepSeekLlm => llm::split(text, &mut emit),
            PreTokenizer::DeepSeekCoder => llm::split_coder(text, &mut emit),
        }
    }
}

/// One stage: cuts `piece` into the matches of a pattern and the gaps between them.
///
/// `match_len` says how many bytes match at the start of what it is given, 0 where nothing does. It must
/// not look far ahead for a 0, or the whole is no longer linear.
fn isolate<'t>(piece: &'t str, match_len: impl Fn(&str) -> usize, emit: &mut impl FnMut(&'t str)) {
    let mut rest = piece;
    let mut gap = 0;
    while let Some(c) = rest[gap..].chars().next() {
        match match_len(&rest[gap..]) {
            0 => gap += c.len_utf8(),
            len => {
                let (before, from_match) = rest.split_at(gap);
                let (matched, after) = from_match.split_at(len);
                if !before.is_empty() {
                    emit(before);
                }
                emit(matched);
                (rest, gap) = (after, 0);
            }
        }
    }
    if !rest.is_empty() {
        emit(rest);
    }
}

/// `[…]+`: bytes of the run of characters at the start of `text` that belong.
fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// `\s?[…]+`
fn spaced_run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    let mut chars = text.chars();
    if let Some(space) = chars.next().filter(|c| c.is_whitespace()) {
        let len = run(chars.as_str(), &belongs);
        if len > 0 {
            return space.len_utf8() + len;
        }
    }
    run(text, belongs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(super) fn pieces(pre: PreTokenizer, text: &str) -> Vec<&str> {
        let mut pieces = Vec::new();
        pre.split(text, |piece| pieces.push(piece));
        pieces
    }

    #[test]
    fn names_are_matched_in_full() {
        assert_eq!(PreTokenizer::from_name("deepseek-llm"), Some(PreTokenizer::DeepSeekLlm));
        assert_eq!(PreTokenizer::from_name("deepseek"), None);
        assert_eq!(PreTokenizer::from_name(""), None);
    }

    #[test]
    fn gaps_survive_between_matches() {
        let mut pieces = Vec::new();
        isolate("ab12c3", |text| run(text, |c| c.is_ascii_digit()), &mut |piece| pieces.push(piece));
        assert_eq!(pieces, ["ab", "12", "c", "3"]);
    }

    #[test]
    fn a_space_is_part_of_a_run_or_goes_before_it() {
        let ideographic = |c| c == '\u{3000}' || c == 'x';
        assert_eq!(spaced_run(" x", ideographic), 2);
        assert_eq!(spaced_run("\u{3000}x", ideographic), 4);
        assert_eq!(spaced_run("\u{3000}", ideographic), 3);
        assert_eq!(spaced_run(" y", ideographic), 0);
    }

    proptest! {
        #[test]
        fn the_pieces_are_the_text(text: String, pre in 0..3usize) {
            let pieces = pieces(PreTokenizer::ALL[pre].1, &text);
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
            prop_assert_eq!(pieces.concat(), text);
        }
    }
}
