//! Text from files, made fit for a terminal or a log; and the parts of a model's name.

use std::fmt;

/// Shows text with control characters, and those that reorder what follows, as escapes, so that a
/// file name or a metadata string cannot speak to the terminal.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                c if c.is_control() || is_bidi(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => fmt::Write::write_char(f, c)?,
            }
        }
        Ok(())
    }
}

/// As [`Escaped`], and cut where it is too long for a line of a message or a table.
pub struct Clipped<'a>(pub &'a str);

impl Clipped<'_> {
    const CHARS: usize = 120;
}

impl fmt::Display for Clipped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(Self::CHARS) {
            Some((end, _)) => write!(f, "{}… ({} bytes)", Escaped(self.0.get(..end).unwrap_or_default()), self.0.len()),
            None => Escaped(self.0).fmt(f),
        }
    }
}

/// Whether a terminal should not be given this character as it is: it steers the terminal, or the
/// order of the text around it.
pub fn steers_terminal(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t')) || is_bidi(c)
}

/// Characters that set the direction of the text around them.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The parts of a lower-case model or file name. A dot separates no parts, so that `v3.1` is one.
pub fn name_words(name: &str) -> impl Iterator<Item = &str> {
    let parts = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    parts.map(|part| part.trim_end_matches(".gguf")).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_would_steer_a_terminal() {
        let text = "a\u{1b}]0;t\u{7}b\nc\u{9b}\u{202e}d｜é";
        assert_eq!(Escaped(text).to_string(), r"a\u{1b}]0;t\u{7}b\nc\u{9b}\u{202e}d｜é");
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(Clipped("é").to_string(), "é");
        let long = "é".repeat(121);
        assert_eq!(Clipped(&long).to_string(), "é".repeat(120) + "… (242 bytes)");
    }
}
