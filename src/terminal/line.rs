//! Styled lines: how wide they are, where they are broken, and how they are sent to a terminal.
//!
//! Knows nothing of Markdown, and takes text as harmless: [`visible`](super::visible) has seen it.

use anstyle::{Reset, Style};
use std::fmt::Write;
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Text of one style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub text: String,
    pub style: Style,
}

impl Span {
    pub fn new(text: impl Into<String>, style: Style) -> Span {
        Span { text: text.into(), style }
    }

    pub fn plain(text: impl Into<String>) -> Span {
        Span::new(text, Style::new())
    }
}

/// One line, without its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line(pub Vec<Span>);

impl Line {
    /// Appends text, to the last span where the style is the same.
    pub fn push(&mut self, text: &str, style: Style) {
        if text.is_empty() {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.style == style => last.text.push_str(text),
            _ => self.0.push(Span::new(text, style)),
        }
    }

    pub fn extend(&mut self, spans: &[Span]) {
        for span in spans {
            self.push(&span.text, span.style);
        }
    }

    pub fn width(&self) -> usize {
        self.0.iter().map(|span| width(&span.text)).sum()
    }

    pub fn is_blank(&self) -> bool {
        self.0.iter().all(|span| span.text.trim().is_empty())
    }

    /// The text alone.
    pub fn text(&self) -> String {
        self.0.iter().map(|span| span.text.as_str()).collect()
    }

    /// What a terminal is sent; `styled` says whether styles are.
    pub fn write(&self, styled: bool, out: &mut String) {
        for span in &self.0 {
            // Writing to a String cannot fail.
            let _ = match styled && span.style != Style::new() {
                true => write!(out, "{}{}{}", span.style, span.text, Reset),
                false => out.write_str(&span.text),
            };
        }
    }

    fn trim_end(&mut self) {
        while let Some(last) = self.0.last_mut() {
            let n = last.text.trim_end().len();
            last.text.truncate(n);
            if n > 0 {
                return;
            }
            self.0.pop();
        }
    }
}

/// The columns that a terminal gives the text. Where terminals differ (emoji of several characters) it is the
/// most that any takes, so that no line is longer than was thought.
pub fn width(text: &str) -> usize {
    text.graphemes(true).map(grapheme_width).sum()
}

fn grapheme_width(grapheme: &str) -> usize {
    let apart: usize = grapheme.chars().map(|c| c.width().unwrap_or(0)).sum();
    apart.max(grapheme.width())
}

/// Text with tabs as spaces, up to the next of every four columns.
pub fn expand_tabs(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut column = 0;
    for grapheme in text.graphemes(true) {
        if grapheme == "\t" {
            let n = 4 - column % 4;
            out.extend(std::iter::repeat_n(' ', n));
            column += n;
        } else {
            out.push_str(grapheme);
            column += grapheme_width(grapheme);
        }
    }
    out
}

/// Breaks text between words so that lines have at most `columns`; those that go on begin with `indent` spaces. A
/// word that is longer than a line stays whole: a terminal breaks it, and a path can still be copied.
pub fn fill(text: &str, columns: usize, indent: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
        }
        let mut at = 0;
        for (number, word) in line.split(' ').enumerate() {
            let n = width(word);
            if number > 0 && at + 1 + n > columns && at > indent {
                out.truncate(out.trim_end_matches(' ').len());
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent));
                at = indent;
            } else if number > 0 {
                out.push(' ');
                at += 1;
            }
            out.push_str(word);
            at += n;
        }
    }
    out
}

/// What stands at the left of a block: before its first line, and before those that follow.
#[derive(Debug, Clone, Default)]
pub struct Indent {
    pub first: Vec<Span>,
    pub rest: Vec<Span>,
}

/// Breaks spans into lines of at most `columns`: between words and between characters of two columns, and
/// within a word only where it is longer than a line. A line break in the text is one in the result.
pub fn wrap(spans: &[Span], columns: usize, indent: &Indent) -> Vec<Line> {
    let mut wrapper = Wrapper::new(columns, indent);
    for span in spans {
        for grapheme in span.text.graphemes(true) {
            wrapper.push(grapheme, span.style);
        }
    }
    wrapper.finish()
}

/// Breaks code, whose spaces count, at the last column.
pub fn wrap_code(spans: &[Span], columns: usize, indent: &Indent) -> Vec<Line> {
    let start = |spans: &[Span]| {
        let mut line = Line::default();
        line.extend(spans);
        line
    };
    let mut lines = Vec::new();
    let mut line = start(&indent.first);
    let mut at = line.width();
    let room = columns.max(at + 2);
    for span in spans {
        for grapheme in span.text.graphemes(true) {
            let wide = grapheme_width(grapheme);
            if at + wide > room {
                lines.push(std::mem::replace(&mut line, start(&indent.rest)));
                at = line.width();
            }
            line.push(grapheme, span.style);
            at += wide;
        }
    }
    lines.push(line);
    lines
}

struct Wrapper<'a> {
    columns: usize,
    indent: &'a Indent,
    lines: Vec<Line>,
    line: Line,
    /// Columns of `line`, its indent included, and of that indent.
    at: usize,
    indented: usize,
    /// White space and then a word that is not known to fit yet.
    space: Vec<Span>,
    word: Vec<Span>,
    word_width: usize,
}

impl<'a> Wrapper<'a> {
    fn new(columns: usize, indent: &'a Indent) -> Wrapper<'a> {
        let mut wrapper = Wrapper {
            columns,
            indent,
            lines: Vec::new(),
            line: Line::default(),
            at: 0,
            indented: 0,
            space: Vec::new(),
            word: Vec::new(),
            word_width: 0,
        };
        wrapper.begin(&indent.first);
        wrapper
    }

    fn begin(&mut self, indent: &[Span]) {
        self.line = Line::default();
        self.line.extend(indent);
        self.at = self.line.width();
        self.indented = self.at;
    }

    fn push(&mut self, grapheme: &str, style: Style) {
        let wide = grapheme_width(grapheme);
        match grapheme {
            "\n" | "\r\n" => {
                self.place_word();
                self.space.clear();
                self.break_line();
            }
            " " => {
                self.place_word();
                self.space.push(Span::new(" ", style));
            }
            // Scripts that are written without spaces.
            _ if wide == 2 => {
                self.place_word();
                self.word.push(Span::new(grapheme, style));
                self.word_width = wide;
                self.place_word();
            }
            _ => {
                // A word that is longer than any line cannot be kept whole.
                if self.indented + self.word_width + wide > self.columns && self.word_width > 0 {
                    self.place_word();
                }
                self.word.push(Span::new(grapheme, style));
                self.word_width += wide;
            }
        }
    }

    fn place_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let is_first = self.at == self.indented;
        if self.at + self.space.len() + self.word_width > self.columns {
            // At the beginning of a line it is the space that has to go.
            if !is_first {
                self.break_line();
            }
        } else {
            let space = std::mem::take(&mut self.space);
            self.at += space.len();
            self.line.extend(&space);
        }
        self.space.clear();
        let word = std::mem::take(&mut self.word);
        self.line.extend(&word);
        self.at += std::mem::take(&mut self.word_width);
    }

    fn break_line(&mut self) {
        self.line.trim_end();
        self.lines.push(std::mem::take(&mut self.line));
        self.begin(&self.indent.rest);
    }

    fn finish(mut self) -> Vec<Line> {
        self.place_word();
        self.break_line();
        self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_filled_by_words() {
        for (text, columns, indent, filled) in [
            ("one two three", 7, 0, "one two\nthree"),
            ("one two three", 80, 0, "one two three"),
            ("  a  first second", 12, 5, "  a  first\n     second"),
            ("see /a/very/long/path now", 8, 0, "see\n/a/very/long/path\nnow"),
            ("a\n\nb c", 2, 0, "a\n\nb\nc"),
            ("深深 深", 5, 0, "深深\n深"),
            ("", 5, 0, ""),
        ] {
            assert_eq!(fill(text, columns, indent), filled, "{text}");
        }
    }
    use proptest::prelude::*;

    fn wrapped(text: &str, columns: usize) -> Vec<String> {
        wrap(&[Span::plain(text)], columns, &Indent::default()).iter().map(Line::text).collect()
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("the sperm whale dives deep", 11), ["the sperm", "whale dives", "deep"]);
        assert_eq!(wrapped("a  b", 10), ["a  b"]);
        assert_eq!(wrapped("one\ntwo", 10), ["one", "two"]);
        assert_eq!(wrapped("", 10), [""]);
    }

    #[test]
    fn long_words_break_where_they_must() {
        assert_eq!(wrapped("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrapped("x abcdefgh", 4), ["x", "abcd", "efgh"]);
    }

    #[test]
    fn wide_characters_count_two_and_break_anywhere() {
        assert_eq!(wrapped("深度求索公司", 5), ["深度", "求索", "公司"]);
        assert_eq!(width("é深❤\u{fe0f}e\u{301}"), 6);
    }

    #[test]
    fn what_follows_is_indented() {
        let indent = Indent { first: vec![Span::plain("• ")], rest: vec![Span::plain("  ")] };
        let lines = wrap(&[Span::plain("one two three")], 9, &indent);
        assert_eq!(lines.iter().map(Line::text).collect::<Vec<_>>(), ["• one two", "  three"]);
    }

    #[test]
    fn code_keeps_its_spaces() {
        let lines = wrap_code(&[Span::plain("  a = b  ")], 4, &Indent::default());
        assert_eq!(lines.iter().map(Line::text).collect::<Vec<_>>(), ["  a ", "= b ", " "]);
        assert_eq!(expand_tabs("\ta\tb"), "    a   b");
    }

    #[test]
    fn styles_end_with_their_span() {
        let mut line = Line::default();
        line.push("a", Style::new().bold());
        line.push("b", Style::new());
        let sent = |styled| {
            let mut out = String::new();
            line.write(styled, &mut out);
            out
        };
        assert_eq!((sent(true).as_str(), sent(false).as_str()), ("\u{1b}[1ma\u{1b}[0mb", "ab"));
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_and_nothing_is_lost(text in "[a-z深🐋 ]{0,60}", columns in 2usize..20) {
            let lines = wrapped(&text, columns);
            for line in &lines {
                prop_assert!(width(line) <= columns, "{line:?}");
            }
            let without_space = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(without_space(&lines.concat()), without_space(&text));
        }
    }
}
