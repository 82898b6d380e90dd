use super::super::markdown::{Document, Look};
use super::*;
use anstyle::Style;
use proptest::prelude::*;

const TEXT: &str = "# Whales\n\nThe **sperm whale** dives to `2,000 m` and *stays* there for a while, which is long.\n\n\
    | name | depth |\n|:--|--:|\n| sperm whale | 2250 |\n| Cuvier's beaked whale | 2992 |\n\n\
    1. one\n   - a\n   - b **c\n\n2. two\n\n> said\n> twice\n\n```rust\nfn main() {\n    dive();\n}\n```\nEnd *of* it.";

/// What a terminal shows, with all that has scrolled out of it.
fn printed(terminal: &mut vt100::Parser) -> String {
    terminal.screen_mut().set_scrollback(usize::MAX);
    let above = terminal.screen().scrollback();
    let (rows, _) = terminal.screen().size();
    let mut lines: Vec<String> = Vec::new();
    for offset in (0..=above).rev() {
        terminal.screen_mut().set_scrollback(offset);
        let rows_shown: Vec<String> = terminal.screen().rows(0, u16::MAX).collect();
        match offset {
            0 => lines.extend(rows_shown),
            _ => lines.extend(rows_shown.into_iter().take(1)),
        }
    }
    assert!(lines.len() >= usize::from(rows));
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// Shows text that comes in these pieces.
fn show(pieces: &[String], rows: u16, columns: u16) -> String {
    let mut terminal = vt100::Parser::new(rows, columns, 1000);
    let look = Look { columns: usize::from(columns) - 1, styled: true, base: Style::new() };
    let mut document = Document::new(look);
    let mut live = Live::new(usize::from(rows), true);
    for piece in pieces {
        terminal.process(live.show(document.push(piece)).as_bytes());
        if live.has_scrolled() {
            document.freeze_table();
        }
    }
    terminal.process(live.show(document.finish()).as_bytes());
    terminal.process(live.end().as_bytes());
    assert_eq!(terminal.screen().cursor_position().1, 0);
    printed(&mut terminal)
}

fn pieces(text: &str, cuts: &[usize]) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for (at, c) in text.chars().enumerate() {
        if cuts.contains(&at) {
            pieces.push(String::new());
        }
        pieces.iter_mut().last().unwrap().push(c);
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However a text is cut, a terminal shows the same in the end, and nothing twice.
    #[test]
    fn where_text_is_cut_makes_no_difference(cuts in prop::collection::vec(0usize..TEXT.len(), 0..120)) {
        prop_assert_eq!(show(&pieces(TEXT, &cuts), 40, 50), show(&[TEXT.to_owned()], 40, 50));
    }
}

#[test]
fn every_character_by_itself_is_as_good() {
    let cuts: Vec<usize> = (0..TEXT.len()).collect();
    assert_eq!(show(&pieces(TEXT, &cuts), 40, 50), show(&[TEXT.to_owned()], 40, 50));
    assert_eq!(show(&pieces(TEXT, &cuts), 40, 21), show(&[TEXT.to_owned()], 40, 21));
}

#[test]
fn what_has_scrolled_is_left_alone() {
    let items: String = (1..=30).map(|n| format!("- item {n}\n")).collect();
    let cuts: Vec<usize> = (0..items.len()).collect();
    let expected: String = (1..=30).map(|n| format!("• item {n}\n")).collect();
    assert_eq!(show(&pieces(&items, &cuts), 6, 30), expected.trim_end());
    // A table keeps the columns that it had when its head left the screen.
    let mut table = "| n | what |\n|---|---|\n".to_owned();
    table.extend((1..=12).map(|n| format!("| {n} | row |\n")));
    table.push_str("| 13 | a row that is wider |\n");
    let cuts: Vec<usize> = (0..table.len()).collect();
    let shown = show(&pieces(&table, &cuts), 6, 40);
    let of_row = |n: usize| shown.lines().find(|line| line.starts_with(&format!("{n} "))).map(str::to_owned);
    assert_eq!(of_row(1).unwrap(), "1 │ row");
    assert!(of_row(13).is_some_and(|row| row == "13 │ a row that is wider"), "{shown}");
    assert_eq!(shown.matches("what").count(), 1, "{shown}");
}

#[test]
fn only_what_changes_is_sent() {
    let mut live = Live::new(10, true);
    let line = |text: &str| Line(vec![Span::plain(text)]);
    let view = |live: &[&str]| View { done: Vec::new(), live: live.iter().map(|text| line(text)).collect() };
    assert_eq!(live.show(view(&["one"])), "one");
    assert_eq!(live.show(view(&["one two"])), " two");
    assert_eq!(live.show(view(&["one two"])), "");
    assert_eq!(live.show(view(&["one two", "three"])), "\r\nthree");
    assert_eq!(live.show(view(&["1 two", "three"])), "\u{1b}[1A\r1 two\u{1b}[K\r\nthree\u{1b}[K");
    assert_eq!(live.show(view(&["1 two"])), "\u{1b}[1A\r1 two\u{1b}[K\u{1b}[J");
    assert_eq!((live.end(), live.end()), ("\r\n", ""));
}

#[test]
fn a_new_size_shows_the_block_anew() {
    let mut live = Live::new(10, true);
    let line = |text: &str| Line(vec![Span::plain(text)]);
    let view = |lines: &[&str]| View { done: Vec::new(), live: lines.iter().map(|text| line(text)).collect() };
    live.show(view(&["one two three", "four"]));
    // The first line takes three rows of five columns.
    assert_eq!(live.resize(5, 10), "\u{1b}[3A\r\u{1b}[J");
    assert_eq!(live.show(view(&["one", "two"])), "one\r\ntwo");
}
