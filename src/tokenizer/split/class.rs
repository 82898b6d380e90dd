//! What kind of character a character is, as the patterns ask: by Unicode's general categories.

use unicode_general_category::{GeneralCategory as Category, get_general_category};

/// A set of classes; a character is in one or in none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class(u8);

impl Class {
    /// `\p{L}`
    pub(super) const LETTER: Class = Class(1);
    /// `\p{M}`
    pub(super) const MARK: Class = Class(2);
    /// `\p{N}`
    pub(super) const NUMBER: Class = Class(4);
    /// `\p{P}`
    pub(super) const PUNCTUATION: Class = Class(8);
    /// `\p{S}`
    pub(super) const SYMBOL: Class = Class(16);
    const OTHER: Class = Class(0);

    pub(super) const fn or(self, other: Class) -> Class {
        Class(self.0 | other.0)
    }

    /// Whether `c` is in one of these classes.
    pub(super) fn has(self, c: char) -> bool {
        let class = if c.is_ascii() { ASCII[c as usize] } else { of(c) };
        self.0 & class.0 != 0
    }
}

/// Text is mostly ASCII: its classes come from a table.
const ASCII: [Class; 128] = {
    let mut table = [Class::OTHER; 128];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => Class::LETTER,
            b'0'..=b'9' => Class::NUMBER,
            b'$' | b'+' | b'<' | b'=' | b'>' | b'^' | b'`' | b'|' | b'~' => Class::SYMBOL,
            c if c.is_ascii_punctuation() => Class::PUNCTUATION,
            _ => Class::OTHER,
        };
        byte += 1;
    }
    table
};

fn of(c: char) -> Class {
    match get_general_category(c) {
        Category::UppercaseLetter
        | Category::LowercaseLetter
        | Category::TitlecaseLetter
        | Category::ModifierLetter
        | Category::OtherLetter => Class::LETTER,
        Category::NonspacingMark | Category::SpacingMark | Category::EnclosingMark => Class::MARK,
        Category::DecimalNumber | Category::LetterNumber | Category::OtherNumber => Class::NUMBER,
        Category::ConnectorPunctuation
        | Category::DashPunctuation
        | Category::OpenPunctuation
        | Category::ClosePunctuation
        | Category::InitialPunctuation
        | Category::FinalPunctuation
        | Category::OtherPunctuation => Class::PUNCTUATION,
        Category::MathSymbol | Category::CurrencySymbol | Category::ModifierSymbol | Category::OtherSymbol => {
            Class::SYMBOL
        }
        _ => Class::OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ascii_table_is_unicodes() {
        for c in '\0'..='\x7f' {
            assert_eq!(ASCII[c as usize], of(c), "{c:?}");
        }
    }

    #[test]
    fn white_space_is_in_no_class() {
        // The scanners of white space and of words rely on it.
        let all = Class::LETTER.or(Class::MARK).or(Class::NUMBER).or(Class::PUNCTUATION).or(Class::SYMBOL);
        assert!(!('\0'..=char::MAX).any(|c| c.is_whitespace() && all.has(c)));
    }
}
