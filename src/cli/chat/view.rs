//! An answer on the screen, as it comes: Markdown or plain text, reasoning, and the line that says how far it is.

use super::settings::Reasoning;
use super::terminal::{Abilities, aside, size};
use crate::chat::Event;
use crate::exit::Unwritable;
use crate::terminal::line::{expand_tabs, width};
use crate::terminal::live::Live;
use crate::terminal::markdown::{Document, Look};
use crate::terminal::{status, visible};
use anstyle::{Reset, Style};
use std::io::Write;
use std::time::{Duration, Instant};
use unicode_segmentation::UnicodeSegmentation;

/// One answer on the screen.
pub(super) struct View {
    abilities: Abilities,
    plain: bool,
    reasoning: Reasoning,
    part: Part,
    pub(super) status: Status,
    thinking_since: Option<Instant>,
    /// How long the model reasoned, once it answers.
    pub(super) thought_for: Option<Duration>,
    n_reasoning: usize,
}

enum Part {
    Nothing,
    Reasoning(Writer),
    Content(Writer),
}

impl View {
    pub(super) fn new(abilities: Abilities, plain: bool, reasoning: Reasoning) -> View {
        View {
            abilities,
            plain,
            reasoning,
            part: Part::Nothing,
            status: Status::new(abilities),
            thinking_since: None,
            thought_for: None,
            n_reasoning: 0,
        }
    }

    /// Shows what came. `n_tokens` of reasoning came with it.
    pub(super) fn push(&mut self, events: &[Event]) -> Result<(), Unwritable> {
        for event in events {
            match event {
                Event::Reasoning(text) => self.reason(text)?,
                Event::Content(text) | Event::Malformed { text, .. } => self.say(text)?,
                Event::ToolCall { name, arguments } => self.say(&format!("\n\n`{name}({arguments})`\n\n"))?,
                Event::CallBegun { .. } | Event::Arguments(_) => {}
            }
        }
        Ok(())
    }

    /// A moment has passed.
    pub(super) fn tick(&mut self) {
        if let (Some(since), true) = (self.thinking_since, self.reasoning != Reasoning::Show) {
            let text = format!("thinking: {}, {}", status::time(since.elapsed()), status::tokens(self.n_reasoning));
            self.status.show(&text);
        }
    }

    /// Ends the last line.
    pub(super) fn finish(&mut self) -> Result<(), Unwritable> {
        self.status.clear();
        self.end_reasoning()?;
        match std::mem::replace(&mut self.part, Part::Nothing) {
            Part::Nothing => Ok(()),
            Part::Reasoning(writer) | Part::Content(writer) => writer.finish(),
        }
    }

    fn reason(&mut self, text: &str) -> Result<(), Unwritable> {
        self.thinking_since.get_or_insert_with(Instant::now);
        // Pieces are tokens, but for those that wait for the rest of a character.
        self.n_reasoning += 1;
        if self.reasoning != Reasoning::Show {
            self.tick();
            return Ok(());
        }
        self.status.clear();
        if matches!(self.part, Part::Nothing) {
            self.part = Part::Reasoning(self.writer(Style::new().dimmed()));
        }
        match &mut self.part {
            Part::Reasoning(writer) | Part::Content(writer) => writer.push(text),
            Part::Nothing => Ok(()),
        }
    }

    fn say(&mut self, text: &str) -> Result<(), Unwritable> {
        self.status.clear();
        self.end_reasoning()?;
        if !matches!(self.part, Part::Content(_)) {
            self.part = Part::Content(self.writer(Style::new()));
        }
        match &mut self.part {
            Part::Content(writer) | Part::Reasoning(writer) => writer.push(text),
            Part::Nothing => Ok(()),
        }
    }

    /// Says how long the model reasoned, once it is done with that.
    fn end_reasoning(&mut self) -> Result<(), Unwritable> {
        let Some(since) = self.thinking_since.take() else { return Ok(()) };
        self.thought_for = Some(since.elapsed());
        if let Part::Reasoning(writer) = std::mem::replace(&mut self.part, Part::Nothing) {
            writer.finish()?;
        }
        if self.reasoning != Reasoning::Hide {
            let text = format!("thought for {}, {}", status::time(since.elapsed()), status::tokens(self.n_reasoning));
            aside(&format!("{}\n\n", dimmed(&text, self.abilities)));
        }
        Ok(())
    }

    fn writer(&self, base: Style) -> Writer {
        let is_plain = self.plain || !self.abilities.moves || !self.abilities.stdout_is_terminal;
        if is_plain {
            return Writer::Plain {
                escaped: self.abilities.stdout_is_terminal,
                style: if self.abilities.styled && self.abilities.stdout_is_terminal { base } else { Style::new() },
                at_line_start: true,
            };
        }
        let (columns, rows) = size();
        let look = Look { columns: usable(columns), styled: self.abilities.styled, base };
        Writer::Markdown {
            document: Box::new(Document::new(look)),
            live: Live::new(rows, self.abilities.styled),
            size: (columns, rows),
        }
    }
}

/// Terminals differ in what they do once the last column is written.
pub(super) fn usable(columns: usize) -> usize {
    columns.saturating_sub(1).max(1)
}

/// A note, as it is shown beside answers.
pub(super) fn dimmed(text: &str, abilities: Abilities) -> String {
    match abilities.styled {
        true => format!("{}{}{Reset}", Style::new().dimmed(), visible(text)),
        false => visible(text).into_owned(),
    }
}

/// Text to standard output.
pub(super) enum Writer {
    Markdown { document: Box<Document>, live: Live, size: (usize, usize) },
    Plain { escaped: bool, style: Style, at_line_start: bool },
}

impl Writer {
    pub(super) fn push(&mut self, text: &str) -> Result<(), Unwritable> {
        match self {
            Writer::Markdown { document, live, size: known } => {
                let mut out = String::new();
                let now = size();
                if now != *known {
                    *known = now;
                    document.set_columns(usable(now.0));
                    out += &live.resize(now.0, now.1);
                }
                out += &live.show(document.push(text));
                if live.has_scrolled() {
                    document.freeze_table();
                }
                send(&out)
            }
            Writer::Plain { escaped, style, at_line_start } => {
                *at_line_start = if text.is_empty() { *at_line_start } else { text.ends_with('\n') };
                let text = if *escaped { visible(text) } else { text.into() };
                match *style == Style::new() {
                    true => send(&text),
                    false => send(&format!("{style}{text}{Reset}")),
                }
            }
        }
    }

    pub(super) fn finish(self) -> Result<(), Unwritable> {
        match self {
            Writer::Markdown { mut document, mut live, .. } => {
                let out = live.show(document.finish());
                send(&(out + live.end()))
            }
            Writer::Plain { at_line_start, .. } => send(if at_line_start { "" } else { "\n" }),
        }
    }
}

fn send(text: &str) -> Result<(), Unwritable> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Unwritable)
}

/// A line that is shown while something takes time, and is gone afterwards.
pub(super) struct Status {
    is_possible: bool,
    shown: Option<String>,
}

impl Status {
    pub(super) fn new(abilities: Abilities) -> Status {
        Status { is_possible: abilities.moves, shown: None }
    }

    pub(super) fn show(&mut self, text: &str) {
        let text = clip(&expand_tabs(&visible(text).replace('\n', " ")), usable(size().0));
        if self.is_possible && self.shown.as_ref() != Some(&text) {
            aside(&format!("\r{text}\u{1b}[K"));
            self.shown = Some(text);
        }
    }

    pub(super) fn clear(&mut self) {
        if self.shown.take().is_some() {
            aside("\r\u{1b}[K");
        }
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        self.clear();
    }
}

fn clip(text: &str, columns: usize) -> String {
    let mut clipped = String::new();
    let mut at = 0;
    for grapheme in text.graphemes(true) {
        at += width(grapheme);
        if at > columns {
            break;
        }
        clipped.push_str(grapheme);
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_fit() {
        assert_eq!(clip("a深b", 3), "a深");
        assert_eq!(clip("a深b", 2), "a");
        assert_eq!(clip("ab", 80), "ab");
    }
}
