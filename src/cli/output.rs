//! Where output goes: the answer to stdout, everything else to stderr.

use crate::exit::Unwritable;
use crate::terminal::line::fill;
use crate::text::{Escaped, steers_terminal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::tcgetwinsize;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};
use std::io::{BufWriter, IsTerminal, StdoutLock, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Writes to stdout, whole; an error is [`Unwritable`], which knows a closed pipe from a full disk.
pub(super) fn answer(bytes: &[u8]) -> Result<(), Unwritable> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Unwritable)
}

/// Whether nobody reads stdout any more, as far as can be known without writing to it: a pipe says so.
pub(super) fn reader_is_gone() -> bool {
    let stdout = std::io::stdout();
    let mut pipe = [PollFd::new(&stdout, PollFlags::empty())];
    poll(&mut pipe, Some(&Timespec::default())).is_ok() && pipe[0].revents().contains(PollFlags::ERR)
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

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Writes a value to stdout as JSON, as it is produced.
pub(super) fn json(value: &impl Serialize) -> Result<(), Unwritable> {
    let mut out = Parts::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Readable(PrettyFormatter::new()));
    value.serialize(&mut serializer).map_err(|error| Unwritable(error.into()))?;
    out.push(b"\n")?;
    Parts::flush(&mut out)
}

/// JSON with line breaks, in which no string can steer a terminal: what would is escaped, as JSON
/// allows for any character.
struct Readable(PrettyFormatter<'static>);

impl Formatter for Readable {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, out: &mut W, fragment: &str) -> std::io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| steers_terminal(*c)) {
            // All of these are below U+10000.
            out.write_all(&rest.as_bytes()[..at])?;
            write!(out, "\\u{:04x}", u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }

    fn begin_array<W: Write + ?Sized>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: Write + ?Sized>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: Write + ?Sized>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: Write + ?Sized>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: Write + ?Sized>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: Write + ?Sized>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.0.end_object_value(out)
    }
}

/// Text from a file: as it is for a pipe, with escapes for what would steer it on a terminal.
pub(super) struct FileText {
    out: Parts,
    is_terminal: bool,
}

impl FileText {
    pub(super) fn new() -> FileText {
        FileText { is_terminal: std::io::stdout().is_terminal(), out: Parts::new() }
    }

    /// Ends the line and shows everything.
    pub(super) fn finish(mut self) -> Result<(), Unwritable> {
        self.out.push(b"\n")?;
        Parts::flush(&mut self.out)
    }
}

impl Write for FileText {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !self.is_terminal {
            return self.out.write(bytes);
        }
        for c in String::from_utf8_lossy(bytes).chars() {
            match steers_terminal(c) {
                true => write!(self.out, "{}", Escaped(c.encode_utf8(&mut [0; 4])))?,
                false => write!(self.out, "{c}")?,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Write::flush(&mut self.out)
    }
}

/// One line on stderr, under the program's name; on a terminal it is broken between words. What a file put into it
/// cannot steer the terminal.
pub(super) fn message(text: &str) {
    let line = format!("cachalot: {}", Escaped(text));
    let columns = tcgetwinsize(std::io::stderr()).ok().map(|size| usize::from(size.ws_col)).filter(|n| *n > 0);
    // One write, so that messages of several processes do not mix.
    let line = columns.map_or_else(|| line.clone(), |columns| fill(&line, columns, 0)) + "\n";
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Whether only answers and errors are wanted, as `--quiet` says.
static IS_QUIET: AtomicBool = AtomicBool::new(false);

pub(super) fn be_quiet() {
    IS_QUIET.store(true, Ordering::Relaxed);
}

/// A [`message`] that nobody has to read.
pub(super) fn remark(text: &str) {
    if !IS_QUIET.load(Ordering::Relaxed) {
        message(text);
    }
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
