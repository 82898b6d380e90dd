//! What to send to a terminal so that it shows lines that change.
//!
//! The last lines of what was printed may still change; they are printed again in place. Lines that have left the
//! screen at its top stay as they are: nothing that has scrolled is touched or printed a second time.
//!
//! Owns what is shown and where the cursor is: behind the last line, with nothing below. Does no I/O.

use super::line::{Line, Span};
use super::markdown::View;

/// The lower end of what is printed.
#[derive(Debug)]
pub struct Live {
    rows: usize,
    styled: bool,
    /// Lines that may change, as they are shown.
    shown: Vec<Line>,
    /// Whether lines that may change have left the screen.
    has_scrolled: bool,
}

impl Live {
    /// `rows`: how many the terminal has. The cursor is at the beginning of an empty line.
    pub fn new(rows: usize, styled: bool) -> Live {
        Live { rows: rows.max(2), styled, shown: Vec::new(), has_scrolled: false }
    }

    /// Whether the beginning of what may change cannot be reached any more.
    pub fn has_scrolled(&self) -> bool {
        self.has_scrolled
    }

    /// The terminal has another size. Returns what clears all that may change, so that it can be shown anew;
    /// terminals break lines that are too long for them into several.
    pub fn resize(&mut self, columns: usize, rows: usize) -> String {
        self.rows = rows.max(2);
        let n_rows: usize = self.shown.iter().map(|line| line.width().div_ceil(columns.max(1)).max(1)).sum();
        self.has_scrolled = n_rows > self.rows;
        let mut out = String::new();
        up(n_rows.min(self.rows).saturating_sub(1), &mut out);
        out.push_str("\r\u{1b}[J");
        // Rows that cannot be reached are not shown again.
        let kept = self.shown.len().saturating_sub(self.rows);
        self.shown.truncate(if self.has_scrolled { kept } else { 0 });
        if !self.shown.is_empty() {
            // What follows is printed from here on, as if these were above.
            self.shown.push(Line::default());
        }
        out
    }

    /// What shows the view in the place of the one before.
    pub fn show(&mut self, view: View) -> String {
        let n_done = view.done.len();
        let mut lines = view.done;
        lines.extend(view.live);
        let mut out = String::new();
        self.replace(&lines, &mut out);
        lines.drain(..n_done.min(lines.len()));
        self.has_scrolled = lines.len() > self.rows;
        if lines.is_empty() && n_done > 0 {
            out.push_str("\r\n");
        }
        self.shown = lines;
        out
    }

    /// What ends the last line, if there is one.
    pub fn end(&mut self) -> &'static str {
        match std::mem::take(&mut self.shown).is_empty() {
            true => "",
            false => "\r\n",
        }
    }

    fn replace(&self, lines: &[Line], out: &mut String) {
        let n = self.shown.len();
        let same = self.shown.iter().zip(lines).take_while(|(a, b)| a == b).count();
        if same == n && same == lines.len() {
            return;
        }
        // The first line that can be reached; the cursor must end up behind the last one.
        let from = same.max(n.saturating_sub(self.rows));
        let from = if lines.len() < n { from.min(lines.len().saturating_sub(1)) } else { from };
        if from + 1 == n
            && let (Some(old), Some(new)) = (self.shown.get(from), lines.get(from))
            && let Some(more) = grown(old, new)
        {
            self.write(&more, out);
        } else if from >= n {
            if n > 0 {
                out.push_str("\r\n");
            }
            lines.get(from).into_iter().for_each(|line| self.write(line, out));
        } else {
            up(n - 1 - from, out);
            out.push('\r');
            lines.get(from).into_iter().for_each(|line| self.write(line, out));
            out.push_str("\u{1b}[K");
        }
        for (number, line) in lines.iter().enumerate().skip(from + 1) {
            out.push_str("\r\n");
            self.write(line, out);
            if number < n {
                out.push_str("\u{1b}[K");
            }
        }
        if lines.len() < n {
            out.push_str("\u{1b}[J");
        }
    }

    fn write(&self, line: &Line, out: &mut String) {
        line.write(self.styled, out);
    }
}

/// What was added to a line at its end, if nothing else was changed.
fn grown(old: &Line, new: &Line) -> Option<Line> {
    let Some((last, before)) = old.0.split_last() else { return Some(new.clone()) };
    let (same, rest) = new.0.split_at_checked(before.len())?;
    let (grown, more) = rest.split_first()?;
    let added = grown.text.strip_prefix(&last.text).filter(|_| grown.style == last.style && same == before)?;
    let mut line = Line(vec![Span::new(added, grown.style)]);
    line.extend(more);
    Some(line)
}

fn up(n: usize, out: &mut String) {
    if n > 0 {
        out.push_str(&format!("\u{1b}[{n}A"));
    }
}

#[cfg(test)]
mod tests;
