//! A file that is not whole yet: its bytes under another name, and a journal of which of them are there.
//!
//! The journal is appended to, a line for each chunk that is whole and one every few megabytes of those that are
//! not, and always after the bytes are on the disk. Whatever ends the process, what the journal says is there; that it
//! is what it must be, the SHA-256 of the whole file says at the end.

use super::error::Error;
use super::hash::chunk_range;
use super::store::{ChunkHash, PulledFile};
use crate::files::{beside, remove, sync_folder};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Behind the name of a file that is not whole.
pub(super) const PARTIAL: &str = ".partial";
pub(super) const JOURNAL: &str = ".partial.journal";
const VERSION: &str = "cachalot-parts 1";

/// How much of a chunk is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    /// So many bytes from its start.
    Begun(u64),
    Whole(ChunkHash),
}

/// A file in the making.
pub(super) struct Parts {
    path: PathBuf,
    partial: PathBuf,
    journal_path: PathBuf,
    entry: PulledFile,
    file: File,
    journal: Mutex<File>,
}

impl Parts {
    /// Goes on with what is there, if that is of the same file; otherwise begins anew.
    pub(super) fn open(path: &Path, entry: &PulledFile) -> Result<(Parts, Vec<Chunk>), Error> {
        let (partial, journal_path) = (beside(path, PARTIAL), beside(path, JOURNAL));
        let kept = fs::metadata(&partial).is_ok_and(|found| found.is_file() && found.len() == entry.size);
        let lines = if kept { fs::read_to_string(&journal_path).unwrap_or_default() } else { String::new() };
        let chunks = chunks_of(&lines, entry);
        let open = |path: &Path, is_kept: bool| {
            if !is_kept {
                remove(path)?;
            }
            OpenOptions::new()
                .read(true)
                .append(path == journal_path)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
        };
        let file = open(&partial, chunks.is_some()).map_err(Error::write(&partial))?;
        file.set_len(entry.size).map_err(Error::write(&partial))?;
        let mut journal = open(&journal_path, chunks.is_some()).map_err(Error::write(&journal_path))?;
        // Behind a last line that was cut off, a new one must not go on with it.
        let head = if chunks.is_some() { "\n".to_owned() } else { format!("{}\n", header(entry)) };
        journal.write_all(head.as_bytes()).map_err(Error::write(&journal_path))?;
        let chunks = chunks.unwrap_or_else(|| vec![Chunk::Begun(0); entry.n_chunks()]);
        let (path, journal, entry) = (path.to_owned(), Mutex::new(journal), entry.clone());
        Ok((Parts { path, partial, journal_path, entry, file, journal }, chunks))
    }

    /// Makes a file that is damaged one in the making, which has what is sound of it.
    pub(super) fn demote(path: &Path, entry: &PulledFile, sound: &[bool]) -> Result<(), Error> {
        let (partial, journal) = (beside(path, PARTIAL), beside(path, JOURNAL));
        let mut lines = format!("{}\n", header(entry));
        for (number, hash) in entry.chunks.iter().enumerate().filter(|(number, _)| sound.get(*number) == Some(&true)) {
            lines.push_str(&whole_line(number, hash));
        }
        let run = || {
            use std::os::unix::fs::MetadataExt;
            remove(&partial)?;
            // A file with a second name, in the hub's own cache, is not this program's to change.
            if fs::metadata(path)?.nlink() > 1 {
                fs::copy(path, &partial)?;
                fs::remove_file(path)?;
            } else {
                fs::rename(path, &partial)?;
            }
            OpenOptions::new().write(true).open(&partial)?.set_len(entry.size)?;
            fs::write(&journal, &lines)
        };
        run().map_err(Error::write(path))
    }

    pub(super) fn range(&self, chunk: usize) -> Range<u64> {
        chunk_range(&self.entry, chunk)
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn partial(&self) -> &Path {
        &self.partial
    }

    pub(super) fn write(&self, bytes: &[u8], at: u64) -> Result<(), Error> {
        self.file.write_all_at(bytes, at).map_err(Error::write(&self.partial))
    }

    /// The first bytes of a chunk are there.
    pub(super) fn note_begun(&self, chunk: usize, bytes: u64) -> Result<(), Error> {
        self.note(&format!("begun {chunk} {bytes}\n"))
    }

    pub(super) fn note_whole(&self, chunk: usize, hash: &ChunkHash) -> Result<(), Error> {
        self.note(&whole_line(chunk, hash))
    }

    fn note(&self, line: &str) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::write(&self.partial))?;
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.write_all(line.as_bytes()).map_err(Error::write(&self.journal_path))
    }

    /// Gives the file its name.
    pub(super) fn finish(&self) -> Result<(), Error> {
        let finish = || {
            self.file.sync_all()?;
            fs::rename(&self.partial, &self.path)?;
            self.path.parent().map_or(Ok(()), sync_folder)?;
            remove(&self.journal_path)
        };
        finish().map_err(Error::write(&self.path))
    }

    /// Removes all that there is of it.
    pub(super) fn discard(&self) -> Result<(), Error> {
        let discard = || remove(&self.journal_path).and_then(|()| remove(&self.partial));
        discard().map_err(Error::write(&self.partial))
    }
}

/// What the file is of which a journal speaks.
fn header(entry: &PulledFile) -> String {
    format!("{VERSION} {} {} {}", entry.size, entry.chunk_bytes, entry.sha256)
}

fn whole_line(chunk: usize, hash: &ChunkHash) -> String {
    format!("whole {chunk} {}\n", hash.0.to_hex())
}

/// `None` for a journal of another file. Lines that say nothing are left out, such as the last of a process that was
/// killed.
fn chunks_of(lines: &str, entry: &PulledFile) -> Option<Vec<Chunk>> {
    let mut whole_lines = lines.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    if whole_lines.next()? != header(entry) {
        return None;
    }
    let mut chunks = vec![Chunk::Begun(0); entry.n_chunks()];
    for line in whole_lines {
        let mut words = line.split(' ');
        let (Some(kind), Some(Ok(number)), Some(value), None) =
            (words.next(), words.next().map(str::parse::<usize>), words.next(), words.next())
        else {
            continue;
        };
        let Some(chunk) = chunks.get_mut(number) else { continue };
        let range = chunk_range(entry, number);
        match kind {
            "whole" => *chunk = blake3::Hash::from_hex(value).map_or(*chunk, |hash| Chunk::Whole(ChunkHash(hash))),
            "begun" => {
                *chunk = value.parse().map_or(*chunk, |bytes: u64| Chunk::Begun(bytes.min(range.end - range.start)))
            }
            _ => {}
        }
    }
    Some(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> PulledFile {
        let (name, path) = ("a.gguf".to_owned(), "a.gguf".to_owned());
        PulledFile { name, path, size: 200_000, sha256: "ab".repeat(32), chunk_bytes: 65536, chunks: Vec::new() }
    }

    #[test]
    fn goes_on_where_it_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        let hash = ChunkHash(blake3::hash(b"x"));
        let (parts, chunks) = Parts::open(&path, &entry()).unwrap();
        assert_eq!(chunks, [Chunk::Begun(0); 4]);
        parts.write(b"abc", 65536).unwrap();
        parts.note_whole(2, &hash).unwrap();
        parts.note_begun(1, 3).unwrap();
        drop(parts);
        // A line that a killed process has not ended.
        let journal = beside(&path, JOURNAL);
        let mut lines = fs::read_to_string(&journal).unwrap();
        lines.push_str("begun 0 655");
        fs::write(&journal, &lines).unwrap();
        let left = [Chunk::Begun(0), Chunk::Begun(3), Chunk::Whole(hash), Chunk::Begun(0)];
        assert_eq!(Parts::open(&path, &entry()).unwrap().1, left);
        let (parts, chunks) = Parts::open(&path, &entry()).unwrap();
        assert_eq!(chunks[1..], left[1..]);
        parts.finish().unwrap();
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["a.gguf"]);
    }

    #[test]
    fn another_files_parts_are_not_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        let begin = || {
            let (parts, _) = Parts::open(&path, &entry()).unwrap();
            parts.note_begun(0, 9).unwrap();
        };
        begin();
        let other = PulledFile { sha256: "cd".repeat(32), ..entry() };
        assert_eq!(Parts::open(&path, &other).unwrap().1[0], Chunk::Begun(0));
        begin();
        OpenOptions::new().write(true).open(beside(&path, PARTIAL)).unwrap().set_len(7).unwrap();
        assert_eq!(Parts::open(&path, &entry()).unwrap().1[0], Chunk::Begun(0));
        assert_eq!(fs::metadata(beside(&path, PARTIAL)).unwrap().len(), 200_000);
    }

    #[test]
    fn nonsense_in_a_journal_says_nothing() {
        let head = header(&entry());
        for line in ["whole 9 00", "whole 1 zz", "begun -1 5", "begun 1", "begun 1 5 6", "x", "", "begun 1 x"] {
            assert_eq!(chunks_of(&format!("{head}\n{line}\n"), &entry()), Some(vec![Chunk::Begun(0); 4]), "{line}");
        }
        let too_long = chunks_of(&format!("{head}\nbegun 3 9999999\n"), &entry()).unwrap();
        assert_eq!(too_long[3], Chunk::Begun(200_000 - 3 * 65536));
        assert_eq!(chunks_of("", &entry()), None);
        assert_eq!(chunks_of(&head, &entry()), None);
    }
}
