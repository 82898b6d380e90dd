//! What of a half-written block can be shown.
//!
//! A block that is cut anywhere reads as something else: `**bold` as two stars and a word, `text\n--` as a heading.
//! So marks at the very end wait until it is clear what they are, and emphasis and code that are still open are
//! closed for the moment.

use std::borrow::Cow;

/// Characters that a line may begin with which turns what is before it into something else.
const MARKS: &[char] = &['-', '=', '*', '_', '+', '#', '>', '`', '~', '|', ':', ' ', '\t', '.', ')'];

/// Text in brackets up to this long waits for its end, because it may be a link.
const MAX_LINK: usize = 1000;

/// The text without a last line that may yet be anything.
pub(super) fn settled_part(text: &str) -> &str {
    let start = text.rfind('\n').map_or(0, |at| at + 1);
    let (before, line) = text.split_at(start);
    let unmarked = line.trim_start_matches(|c: char| MARKS.contains(&c) || c.is_ascii_digit());
    match unmarked.is_empty() {
        true => before,
        false => text,
    }
}

/// The text as it is to be shown while more of it may come.
pub(super) fn shown_part(text: &str) -> Cow<'_, str> {
    let text = settled_part(text);
    let (start, is_code) = last_paragraph(text);
    if is_code {
        return Cow::Borrowed(text);
    }
    let (before, paragraph) = text.split_at(start);
    let Shown { upto, closers } = scan(paragraph);
    let shown = paragraph.get(..upto).unwrap_or(paragraph);
    match closers.is_empty() && upto == paragraph.len() {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("{before}{}{closers}", shown.trim_end_matches([' ', '\n']))),
    }
}

/// Where the paragraph that is being written begins, and whether it is fenced code instead.
fn last_paragraph(text: &str) -> (usize, bool) {
    let mut start = 0;
    let mut fence: Option<&str> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let content = line.trim().trim_start_matches(['>', ' ']);
        let mark = fence_of(content);
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if mark.starts_with(open) && content.trim_end() == mark => {
                fence = None;
                start = at + line.len();
            }
            _ => {}
        }
        if fence.is_none() && (content.is_empty() || begins_block(content)) {
            start = at;
        }
        at += line.len();
    }
    (start.min(text.len()), fence.is_some())
}

/// The run of marks that opens or closes fenced code.
fn fence_of(content: &str) -> Option<&str> {
    let content = without_list_mark(content);
    ['`', '~'].into_iter().find_map(|mark| {
        let n = content.chars().take_while(|c| *c == mark).count();
        let (run, info) = content.split_at(n);
        (n >= 3 && !(mark == '`' && info.contains('`'))).then_some(run)
    })
}

fn without_list_mark(content: &str) -> &str {
    let unnumbered = content.trim_start_matches(|c: char| c.is_ascii_digit());
    let mark = unnumbered.strip_prefix(['-', '*', '+', '.', ')']);
    mark.and_then(|rest| rest.strip_prefix(' ')).map_or(content, str::trim_start)
}

fn begins_block(content: &str) -> bool {
    content.starts_with(['#', '|']) || without_list_mark(content).len() != content.len()
}

struct Shown {
    /// Bytes of the paragraph that are shown.
    upto: usize,
    /// What closes what is open there.
    closers: String,
}

/// Follows emphasis, code and links through a paragraph.
fn scan(text: &str) -> Shown {
    let mut open: Vec<&str> = Vec::new();
    let mut bracket: Option<usize> = None;
    let mut at = 0;
    let mut before = ' ';
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = text.get(at..).unwrap_or_default();
        let run = match c {
            '`' | '*' | '_' | '~' => rest.len() - rest.trim_start_matches(c).len(),
            _ => c.len_utf8(),
        };
        let after = rest.get(run..).and_then(|rest| rest.chars().next());
        let mark = rest.get(..run).unwrap_or_default();
        match c {
            // A mark at the end waits for what follows it.
            '`' | '*' | '_' | '~' | '\\' | '!' if after.is_none() => {
                let upto = bracket.unwrap_or(at);
                return Shown { upto, closers: closing(&open, text, upto) };
            }
            '\\' => {
                at += 1 + after.map_or(0, char::len_utf8);
                before = 'a';
                continue;
            }
            '`' => match code_end(rest.get(run..).unwrap_or_default(), mark) {
                Some(end) => {
                    at += run + end;
                    before = '`';
                    continue;
                }
                None => {
                    let upto = bracket.unwrap_or(text.trim_end_matches('`').len());
                    if bracket.is_none() {
                        open.push(mark);
                    }
                    return Shown { upto, closers: closing(&open, text, upto) };
                }
            },
            '*' | '_' | '~' => toggle(&mut open, mark, before, after),
            '[' => bracket = bracket.or(Some(at)),
            // Only a link goes on behind its text.
            ']' if after.is_some_and(|after| !matches!(after, '(' | '[')) => bracket = None,
            ')' => bracket = None,
            _ => {}
        }
        before = c;
        at += run;
    }
    let upto = bracket.filter(|start| text.len() - start < MAX_LINK).unwrap_or(text.len());
    Shown { upto, closers: closing(&open, text, upto) }
}

/// Behind the run of backquotes that closes code.
fn code_end(rest: &str, mark: &str) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = rest.get(at..)?.find('`') {
        let start = at + found;
        let run = rest.get(start..)?;
        let n = run.len() - run.trim_start_matches('`').len();
        at = start + n;
        // At the very end it may still grow.
        if n == mark.len() && at < rest.len() {
            return Some(at);
        }
    }
    None
}

/// Opens or closes emphasis.
fn toggle<'a>(open: &mut Vec<&'a str>, mark: &'a str, before: char, after: Option<char>) {
    let follows_word = !before.is_whitespace();
    let precedes_word = after.is_some_and(|after| !after.is_whitespace());
    let within_word = mark.starts_with('_') && before.is_alphanumeric() && after.is_some_and(char::is_alphanumeric);
    if within_word || mark.len() > 3 || (mark.starts_with('~') && mark.len() != 2) {
        return;
    }
    match open.iter().rposition(|other| *other == mark) {
        Some(at) if follows_word => open.truncate(at),
        _ if precedes_word => open.push(mark),
        _ => {}
    }
}

/// The marks that close what is open, unless nothing stands between.
fn closing(open: &[&str], text: &str, upto: usize) -> String {
    let mut shown = text.get(..upto).unwrap_or(text).trim_end();
    let mut open = open;
    // Marks with nothing behind them are not shown at all, so they need no closing; they are cut with the text.
    while let Some((last, rest)) = open.split_last()
        && let Some(before) = shown.strip_suffix(last)
    {
        shown = before.trim_end();
        open = rest;
    }
    open.iter().rev().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_emphasis_and_code_are_closed() {
        for (text, shown) in [
            ("some **bold", "some **bold**"),
            ("some **bold*", "some **bold**"),
            ("some **bold**", "some **bold**"),
            ("*a **b", "*a **b***"),
            ("see `let x", "see `let x`"),
            ("see `let x`", "see `let x`"),
            ("``a ` b", "``a ` b``"),
            ("a * b * c", "a * b * c"),
            ("snake_case_name", "snake_case_name"),
            ("~~gone", "~~gone~~"),
            (r"\*not", r"\*not"),
        ] {
            assert_eq!(shown_part(text), shown, "{text:?}");
        }
    }

    #[test]
    fn what_may_be_something_else_waits() {
        for (text, shown) in [
            ("text\n--", "text\n"),
            ("text\n1.", "text\n"),
            ("| a | b |\n|--", "| a | b |\n"),
            ("text **", "text"),
            ("see [the pa", "see"),
            ("see [the page](http", "see"),
            ("see [the page](http://a) now", "see [the page](http://a) now"),
            ("as in [citation:1] and", "as in [citation:1] and"),
            ("", ""),
        ] {
            assert_eq!(shown_part(text), shown, "{text:?}");
        }
    }

    #[test]
    fn code_is_shown_as_it_is() {
        for text in ["```rust\nlet a = **b;", "- item\n  ```\n  *x", "~~~\n[a"] {
            assert_eq!(shown_part(text), text);
        }
        assert_eq!(shown_part("```\na\n``"), "```\na\n");
        assert_eq!(shown_part("```\na\n```\nthen **b"), "```\na\n```\nthen **b**");
    }
}
