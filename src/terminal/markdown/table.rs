//! Tables: how wide columns are, and their lines.

use super::super::line::{Indent, Line, Span, wrap};
use anstyle::Style;
use pulldown_cmark::Alignment;

/// Narrower than this no column is made, unless its content is.
const MIN_COLUMN: usize = 4;

/// A table whose cells are styled text. The first row is its head.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) alignments: Vec<Alignment>,
    pub(super) rows: Vec<Vec<Vec<Span>>>,
}

impl Table {
    /// The widths of the columns in `room` columns of a terminal.
    pub(super) fn widths(&self, room: usize) -> Vec<usize> {
        let n = self.alignments.len();
        let mut widths: Vec<usize> = (0..n)
            .map(|column| self.rows.iter().map(|row| cell_width(row, column)).max().unwrap_or(0).max(1))
            .collect();
        // The widest gives way first.
        while widths.iter().sum::<usize>() + borders(n) > room
            && let Some(widest) = widths.iter_mut().max()
            && *widest > MIN_COLUMN
        {
            *widest -= 1;
        }
        widths
    }

    /// The lines of the table in columns of these widths, within `room`.
    pub(super) fn lines(&self, widths: &[usize], room: usize, indent: &[Span], rule: Style) -> Vec<Line> {
        let mut lines = Vec::new();
        for (number, row) in self.rows.iter().enumerate() {
            // Columns that were not to change may be too narrow; better a row out of line than a broken number.
            let wanted: Vec<usize> =
                (0..).zip(widths).map(|(column, width)| cell_width(row, column).max(*width)).collect();
            let fits = wanted.iter().sum::<usize>() + borders(wanted.len()) <= room;
            self.row(row, if fits { &wanted } else { widths }, indent, rule, &mut lines);
            if number == 0 {
                let mut line = Line::default();
                line.extend(indent);
                let bars: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
                line.push(&bars.join("─┼─"), rule);
                lines.push(line);
            }
        }
        lines
    }

    fn row(&self, row: &[Vec<Span>], widths: &[usize], indent: &[Span], rule: Style, lines: &mut Vec<Line>) {
        let cells: Vec<Vec<Line>> = widths
            .iter()
            .enumerate()
            .map(|(column, width)| wrap(row.get(column).map_or(&[], Vec::as_slice), *width, &Indent::default()))
            .collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        for number in 0..height {
            let mut line = Line::default();
            line.extend(indent);
            for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
                if column > 0 {
                    line.push(" │ ", rule);
                }
                let empty = Line::default();
                let cell = cell.get(number).unwrap_or(&empty);
                let free = width.saturating_sub(cell.width());
                let left = match self.alignments.get(column) {
                    Some(Alignment::Right) => free,
                    Some(Alignment::Center) => free / 2,
                    _ => 0,
                };
                line.push(&" ".repeat(left), Style::new());
                line.extend(&cell.0);
                if column + 1 < widths.len() {
                    line.push(&" ".repeat(free - left), Style::new());
                }
            }
            lines.push(line);
        }
    }
}

/// Columns between those of the table.
fn borders(n: usize) -> usize {
    3 * n.saturating_sub(1)
}

fn cell_width(row: &[Vec<Span>], column: usize) -> usize {
    let mut line = Line::default();
    line.extend(row.get(column).map_or(&[], Vec::as_slice));
    line.width()
}
