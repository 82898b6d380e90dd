//! A file that a command writes: it appears under its name when it is whole, and replaces nothing.

use crate::exit::CannotWrite;
use crate::files::{PARTIAL, Replacement, beside};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file in the making, under another name until it is finished; dropped before, it goes.
#[derive(Debug)]
pub(super) struct NewFile {
    path: PathBuf,
    file: Replacement,
}

impl NewFile {
    /// For before the work, not after it.
    pub(super) fn refuse_existing(path: &Path) -> Result<(), CannotWrite> {
        let error = match path.try_exists() {
            Ok(false) => return Ok(()),
            Ok(true) => io::Error::other("exists already; remove it or write to another name"),
            Err(error) => error,
        };
        Err(CannotWrite { path: path.to_owned(), error })
    }

    pub(super) fn create(path: &Path) -> Result<NewFile, CannotWrite> {
        NewFile::refuse_existing(path)?;
        match Replacement::claim(path) {
            Ok(file) => Ok(NewFile { path: path.to_owned(), file }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let text = "is there already: it is what an interrupted run has left, or another one is writing; \
                            if no other is, remove it";
                Err(CannotWrite { path: beside(path, PARTIAL), error: io::Error::other(text) })
            }
            Err(error) => Err(CannotWrite { path: path.to_owned(), error }),
        }
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> Result<(), CannotWrite> {
        self.file.finish(None).map_err(|error| CannotWrite { path: self.path, error })
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let names = || fs::read_dir(folder.path()).unwrap().count();
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(file);
        assert_eq!(names(), 0);

        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        file.finish().unwrap();
        assert_eq!((fs::read(&path).unwrap(), names()), (b"whole".to_vec(), 1));
        assert!(NewFile::create(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }
}
