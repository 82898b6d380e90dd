//! What a terminal shows, as text: nothing here reads, writes or asks the system anything.
//!
//! - [`line`]: styled lines, how wide they are, and where they are broken.
//! - [`markdown`]: Markdown to such lines, while it is still being written; [`highlight`]: code in colours.
//! - [`live`]: what to send to a terminal so that it shows changed lines in the place of others.
//! - [`status`]: numbers and times as a person reads them.
//!
//! Text comes from models and files, so it is made harmless as the first thing: see [`visible`].

pub mod highlight;
pub mod line;
pub mod live;
pub mod markdown;
pub mod status;

use crate::text::{Escaped, steers_terminal};
use std::borrow::Cow;
use std::fmt::Write;

/// The text with every character that would steer the terminal, or reorder what it shows, written out: ESC is
/// `\u{1b}`. Line breaks and tabs stay.
///
/// Every character is judged by itself, so it makes no difference where a text is cut: a sequence that comes in
/// two pieces is as harmless as one that comes whole.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers_terminal) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match steers_terminal(c) {
            // Writing to a String cannot fail.
            true => drop(write!(shown, "{}", Escaped(c.encode_utf8(&mut [0; 4])))),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_steers_a_terminal_is_written_out() {
        for (text, shown) in [
            ("plain é 🐋\n\tnext", "plain é 🐋\n\tnext"),
            ("\u{1b}]0;title\u{7}", r"\u{1b}]0;title\u{7}"),
            ("\u{1b}[2J\u{9b}31m", r"\u{1b}[2J\u{9b}31m"),
            ("\u{90}q\u{9c}", r"\u{90}q\u{9c}"),
            ("a\rb\u{8}\u{7f}", r"a\rb\u{8}\u{7f}"),
            ("\u{202e}gpj.exe\u{2066}", r"\u{202e}gpj.exe\u{2066}"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    proptest! {
        #[test]
        fn where_text_is_cut_makes_no_difference(chars in prop::collection::vec(any::<char>(), 0..20), at in 0usize..20) {
            let text: String = chars.iter().collect();
            let (a, b): (String, String) =
                (chars.iter().take(at).collect(), chars.iter().skip(at).collect());
            prop_assert_eq!(visible(&text).into_owned(), format!("{}{}", visible(&a), visible(&b)));
            prop_assert!(!visible(&text).chars().any(steers_terminal));
        }
    }
}
