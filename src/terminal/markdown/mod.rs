//! Markdown to styled lines, while it is still being written.
//!
//! [`Document`] takes text as it comes and says what it looks like so far. Its last block (a paragraph, a list, a
//! table, a piece of code) may still change with every word: a `|` may become a table. Blocks before it are final;
//! they are given out once and forgotten. The last block is rendered anew each time, which costs little, because
//! blocks are short, and keeps one parser, of whole blocks, as the only judge of what Markdown means.
//!
//! - `unfinished`: what of a half-written block can be shown without showing what it will not be.
//! - `render`: a block's events to lines. `table`: columns.
//!
//! Knows no terminal, only its width.

mod render;
mod table;
mod unfinished;

use super::highlight::Colours;
use super::line::{Indent, Line, Span, wrap};
use super::visible;
use anstyle::Style;
use pulldown_cmark::{Event, Parser};
use render::Renderer;

/// How a document is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Columns that may be used.
    pub columns: usize,
    /// Whether there are styles. Without them, what they would say is said by Markdown's own marks.
    pub styled: bool,
    /// The style that all others are put upon.
    pub base: Style,
}

/// What a document looks like so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Lines that do not change any more; they come once.
    pub done: Vec<Line>,
    /// The last block, as it would be if it ended here.
    pub live: Vec<Line>,
}

/// Markdown that is being written.
#[derive(Debug)]
pub struct Document {
    look: Look,
    /// The last block, and what came before it on its line.
    tail: String,
    /// A line break that may be half of one.
    held_return: bool,
    /// The widths that the columns of the last block's table must keep.
    table_widths: Option<Vec<usize>>,
    colours: Colours,
    is_begun: bool,
    /// Whether a blank line stands between what is done and the tail.
    gap: bool,
}

impl Document {
    pub fn new(look: Look) -> Document {
        Document {
            look,
            tail: String::new(),
            held_return: false,
            table_widths: None,
            colours: Colours::default(),
            is_begun: false,
            gap: false,
        }
    }

    /// The terminal is so wide now.
    pub fn set_columns(&mut self, columns: usize) {
        self.look.columns = columns;
        self.table_widths = None;
    }

    /// Keeps the columns of a table that is being written as wide as they are, because its beginning cannot be
    /// changed any more where it is shown.
    pub fn freeze_table(&mut self) {
        if self.table_widths.is_none() {
            let shown = unfinished::shown_part(&self.tail).into_owned();
            self.table_widths = self.render(&shown).1;
        }
    }

    /// Takes more text.
    pub fn push(&mut self, text: &str) -> View {
        self.take(text);
        let done = self.settle();
        let shown = unfinished::shown_part(&self.tail).into_owned();
        let (live, _) = self.render(&shown);
        View { done, live }
    }

    /// All that was not done yet.
    pub fn finish(&mut self) -> View {
        if std::mem::take(&mut self.held_return) {
            self.tail.push_str(&visible("\r"));
        }
        let mut done = self.settle();
        let tail = std::mem::take(&mut self.tail);
        done.extend(self.render(&tail).0);
        View { done, live: Vec::new() }
    }

    /// Takes text, made harmless. A carriage return is part of a line break or shown.
    fn take(&mut self, text: &str) {
        let mut text = text;
        if std::mem::take(&mut self.held_return) && !text.starts_with('\n') {
            self.tail.push_str(&visible("\r"));
        }
        if let Some(before) = text.strip_suffix('\r') {
            self.held_return = true;
            text = before;
        }
        self.tail.push_str(&visible(&text.replace("\r\n", "\n")));
    }

    /// Renders and forgets all blocks but the last.
    fn settle(&mut self) -> Vec<Line> {
        let starts = block_starts(unfinished::settled_part(&self.tail));
        let Some(&last) = starts.last().filter(|_| starts.len() > 1) else { return Vec::new() };
        let rest = self.tail.split_off(last);
        let done = std::mem::replace(&mut self.tail, rest);
        let lines = self.render(&done).0;
        self.gap = render::blank_before(&done, done.len());
        self.is_begun |= !lines.is_empty();
        self.table_widths = None;
        self.colours.clear();
        lines
    }

    fn render(&mut self, text: &str) -> (Vec<Line>, Option<Vec<usize>>) {
        let mut renderer = Renderer::new(text, self.look, &mut self.colours, self.table_widths.as_deref());
        renderer.run();
        let (mut lines, widths) = renderer.finish();
        if self.is_begun && self.gap && !lines.is_empty() {
            lines.insert(0, Line::default());
        }
        (lines, widths)
    }
}

/// Text that is no Markdown, broken into lines that fit.
pub fn plain_lines(text: &str, look: Look) -> Vec<Line> {
    wrap(&[Span::new(visible(text), look.base)], look.columns, &Indent::default())
}

/// Where the blocks of the outermost level begin.
fn block_starts(text: &str) -> Vec<usize> {
    let mut depth = 0usize;
    let mut starts = Vec::new();
    for (event, range) in Parser::new_ext(text, render::OPTIONS).into_offset_iter() {
        if depth == 0 && !matches!(event, Event::End(_)) {
            // Indented code begins behind its indent, which is part of it.
            let line = text.get(..range.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
            starts.push(line);
        }
        match event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    starts.dedup();
    starts
}

#[cfg(test)]
mod tests;
