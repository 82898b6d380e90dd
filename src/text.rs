//! Text from files, made fit for a terminal or a log.

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

/// Characters that set the direction of the text around them.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_would_steer_a_terminal() {
        let text = "a\u{1b}]0;t\u{7}b\nc\u{9b}\u{202e}d｜é";
        assert_eq!(Escaped(text).to_string(), r"a\u{1b}]0;t\u{7}b\nc\u{9b}\u{202e}d｜é");
    }
}
