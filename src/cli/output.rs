//! Where output goes: the answer to stdout, everything else to stderr.

use crate::exit::Unwritable;
use crate::text::Escaped;
use std::io::{BufWriter, StdoutLock, Write};

/// Writes to stdout, whole; an error is [`Unwritable`], which knows a closed pipe from a full disk.
pub(super) fn answer(bytes: &[u8]) -> Result<(), Unwritable> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Unwritable)
}

/// Stdout for an answer that comes in parts.
pub(super) struct Parts(BufWriter<StdoutLock<'static>>);

impl Parts {
    pub(super) fn new() -> Parts {
        Parts(BufWriter::new(std::io::stdout().lock()))
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Unwritable> {
        self.0.write_all(bytes).map_err(Unwritable)
    }

    /// Lets the reader see what there is so far.
    pub(super) fn flush(&mut self) -> Result<(), Unwritable> {
        self.0.flush().map_err(Unwritable)
    }
}

/// One line on stderr, under the program's name. What a file put into it cannot steer the terminal.
pub(super) fn message(text: &str) {
    let _ = writeln!(std::io::stderr(), "cachalot: {}", Escaped(text));
}

/// A table with columns as wide as they need; numbers go to the right.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Table {
    /// `columns`: the heads; one that begins with `>` is aligned to the right.
    pub(super) fn new(columns: &[&str]) -> Table {
        let right = columns.iter().map(|head| head.starts_with('>')).collect();
        let heads = columns.iter().map(|head| head.trim_start_matches('>').to_owned()).collect();
        Table { rows: vec![heads], right }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// The table, each line behind `indent`.
    pub(super) fn render(&self, indent: &str) -> String {
        let cells = |row: &[String]| row.iter().map(|cell| width(cell)).collect::<Vec<_>>();
        let widths =
            self.rows.iter().map(|row| cells(row)).fold(vec![0; self.right.len()], |widths, row| {
                widths.iter().zip(row).map(|(a, b)| (*a).max(b)).collect()
            });
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::from(indent);
            for ((cell, right), wide) in row.iter().zip(&self.right).zip(&widths) {
                let space = " ".repeat(wide - width(cell));
                let (before, after) = if *right { (space.as_str(), "") } else { ("", space.as_str()) };
                line.extend([before, cell, after, "  "]);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align() {
        let mut table = Table::new(&["name", ">bytes"]);
        table.row(["a".to_owned(), "5".to_owned()]);
        table.row(["abcdef".to_owned(), "123456".to_owned()]);
        assert_eq!(table.render(" "), " name     bytes\n a            5\n abcdef  123456\n");
    }
}
