//! Where input comes from, if not from the arguments: files, or stdin.

use crate::exit::BadInput;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// A file or stdin, open to be read.
pub(super) struct Input {
    /// For messages.
    name: String,
    reader: BufReader<Box<dyn Read>>,
}

impl Input {
    /// Those that are named, in order; `-` is stdin, and so is nothing at all.
    pub(super) fn all(files: &[PathBuf]) -> impl Iterator<Item = Result<Input, BadInput>> {
        let stdin = files.is_empty().then(|| Ok(Input::stdin()));
        stdin.into_iter().chain(files.iter().map(|path| Input::open(path)))
    }

    /// A file; `-` is stdin.
    pub(super) fn open(path: &Path) -> Result<Input, BadInput> {
        if is_stdin(path) {
            return Ok(Input::stdin());
        }
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Ok(Input { name, reader: BufReader::new(Box::new(file)) }),
            Err(error) => Err(BadInput::Unreadable { name, error }),
        }
    }

    pub(super) fn stdin() -> Input {
        Input { name: "standard input".to_owned(), reader: BufReader::new(Box::new(io::stdin())) }
    }

    /// All of it, as text.
    pub(super) fn text(&mut self) -> Result<String, BadInput> {
        let mut bytes = Vec::new();
        self.reader.read_to_end(&mut bytes).map_err(|error| self.unreadable(error))?;
        self.utf8(bytes)
    }

    fn utf8(&self, bytes: Vec<u8>) -> Result<String, BadInput> {
        String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            self.faulty(&format!("not UTF-8: byte {valid} belongs to no character"))
        })
    }

    /// All of it, as text that a person may have written and a model can read.
    pub(super) fn prose(&mut self) -> Result<String, BadInput> {
        /// More than any context holds.
        const MAX: u64 = 64 << 20;
        let mut bytes = Vec::new();
        self.reader.by_ref().take(MAX + 1).read_to_end(&mut bytes).map_err(|error| self.unreadable(error))?;
        if bytes.contains(&0) {
            return Err(self.faulty("not a text: it has zero bytes in it"));
        }
        if bytes.len() as u64 > MAX {
            return Err(self.faulty("larger than 64 MiB, which no context holds"));
        }
        self.utf8(bytes)
    }

    /// The next line, without its end.
    pub(super) fn line(&mut self) -> Result<Option<Vec<u8>>, BadInput> {
        let mut line = Vec::new();
        let n_read = self.reader.read_until(b'\n', &mut line).map_err(|error| self.unreadable(error))?;
        line.pop_if(|byte| *byte == b'\n');
        Ok((n_read > 0).then_some(line))
    }

    /// Whether the next line is not there yet, so that whoever writes may be waiting for an answer.
    pub(super) fn is_drained(&self) -> bool {
        !self.reader.buffer().contains(&b'\n')
    }

    pub(super) fn faulty(&self, fault: &str) -> BadInput {
        BadInput::Faulty { name: self.name.clone(), fault: fault.to_owned() }
    }

    fn unreadable(&self, error: io::Error) -> BadInput {
        BadInput::Unreadable { name: self.name.clone(), error }
    }
}

/// How stdin is named among files.
pub(super) fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}
