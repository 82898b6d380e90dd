//! Files that are replaced whole or not at all, and the lock that says who may.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Makes a folder, and those above it, that only its owner may enter, and has the disk keep them.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    make_folder_with(path, 0o700)
}

/// As [`make_folder`], for everybody whom the umask lets in.
pub(crate) fn make_shared_folder(path: &Path) -> io::Result<()> {
    make_folder_with(path, 0o777)
}

fn make_folder_with(path: &Path, mode: u32) -> io::Result<()> {
    let n_missing = path.ancestors().take_while(|folder| !or_here(folder).exists()).count();
    fs::DirBuilder::new().recursive(true).mode(mode).create(or_here(path))?;
    path.ancestors().skip(1).take(n_missing).try_for_each(sync_folder)
}

/// A path with something behind its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Has the disk keep what happened to the names in a folder.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(or_here(folder))?.sync_all() {
        // There are file systems that cannot be asked for it.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// What is above a name without a folder is the present folder.
fn or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// What a file is written under until it is whole.
pub(crate) const PARTIAL: &str = ".partial";

/// A file in the making, which gets its name, or takes the place of what has it, at the end; dropped before, it goes.
/// There is one at a time: whoever makes one holds a lock on its path, or claims it with [`Replacement::claim`].
#[derive(Debug)]
pub(crate) struct Replacement {
    path: PathBuf,
    partial: PathBuf,
    out: BufWriter<File>,
    is_finished: bool,
}

impl Replacement {
    pub(crate) fn create(path: &Path) -> io::Result<Replacement> {
        Replacement::create_with(path, 0o600)
    }

    /// One that everybody may read whom the umask lets.
    pub(crate) fn create_shared(path: &Path) -> io::Result<Replacement> {
        Replacement::create_with(path, 0o666)
    }

    /// One that everybody may read, where nobody holds a lock: an error of the kind `AlreadyExists` where another
    /// process is making it, or has left it.
    pub(crate) fn claim(path: &Path) -> io::Result<Replacement> {
        Replacement::open(path, 0o666)
    }

    fn create_with(path: &Path, mode: u32) -> io::Result<Replacement> {
        // One that is there is what a process has left that was killed.
        remove(&beside(path, PARTIAL))?;
        Replacement::open(path, mode)
    }

    fn open(path: &Path, mode: u32) -> io::Result<Replacement> {
        let partial = beside(path, PARTIAL);
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&partial)?;
        Ok(Replacement { path: path.to_owned(), partial, out: BufWriter::new(file), is_finished: false })
    }

    pub(crate) fn set_permissions(&self, permissions: fs::Permissions) -> io::Result<()> {
        self.out.get_ref().set_permissions(permissions)
    }

    /// Puts it in the place of what has its name; that is kept under the name `previous`, if one is given.
    pub(crate) fn finish(mut self, previous: Option<&Path>) -> io::Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        if let Some(previous) = previous {
            keep(&self.path, previous)?;
        }
        fs::rename(&self.partial, &self.path)?;
        self.is_finished = true;
        self.path.parent().map_or(Ok(()), sync_folder)
    }
}

/// Gives a file a second name, in the place of what had it. At no time is one of the two missing, unless the
/// file system knows no second names: then the file has the new one only.
fn keep(path: &Path, previous: &Path) -> io::Result<()> {
    let link = beside(previous, PARTIAL);
    remove(&link)?;
    match fs::hard_link(path, &link) {
        Ok(()) => fs::rename(&link, previous),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) => fs::rename(path, previous),
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.is_finished {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// A lock by a file of its own, which goes with it. It ends with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// `None` while somebody else has it.
    pub(crate) fn take(path: &Path) -> io::Result<Option<Lock>> {
        loop {
            let file = Lock::open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            if let Some(lock) = Lock::held(path, file) {
                return Ok(Some(lock));
            }
        }
    }

    /// Waits until nobody else has it.
    pub(crate) fn wait(path: &Path) -> io::Result<Lock> {
        loop {
            let file = Lock::open(path)?;
            match file.lock() {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Err(_) => continue,
                Ok(()) => {}
            }
            if let Some(lock) = Lock::held(path, file) {
                return Ok(lock);
            }
        }
    }

    fn open(path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
    }

    /// Whoever had it before may have removed the file since it was opened.
    fn held(path: &Path, file: File) -> Option<Lock> {
        let is_same = |other: fs::Metadata| file.metadata().is_ok_and(|own| own.ino() == other.ino());
        fs::metadata(path).is_ok_and(is_same).then(|| Lock { path: path.to_owned(), _file: file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let (path, previous) = (folder.path().join("a"), folder.path().join("b"));
        let text = |path: &Path| fs::read_to_string(path).ok();
        let write = |content: &str, previous: Option<&Path>| {
            let mut file = Replacement::create(&path).unwrap();
            file.write_all(content.as_bytes()).unwrap();
            file.finish(previous).unwrap();
        };
        write("1", Some(&previous));
        assert_eq!((text(&path), text(&previous)), (Some("1".into()), None));
        write("2", Some(&previous));
        write("3", Some(&previous));
        assert_eq!((text(&path), text(&previous)), (Some("3".into()), Some("2".into())));
        write("4", None);
        assert_eq!((text(&path), text(&previous)), (Some("4".into()), Some("2".into())));
        let mut dropped = Replacement::create(&path).unwrap();
        dropped.write_all(b"5").unwrap();
        drop(dropped);
        assert_eq!((text(&path), fs::read_dir(folder.path()).unwrap().count()), (Some("4".into()), 2));
    }

    #[test]
    fn a_claim_is_one_makers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let held = Replacement::claim(&path).unwrap();
        assert_eq!(Replacement::claim(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        drop(held);
        Replacement::claim(&path).unwrap().finish(None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_lock_is_one_holders() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = Lock::take(&path).unwrap();
        assert!(held.is_some() && Lock::take(&path).unwrap().is_none());
        drop(held);
        assert!(!path.exists() && Lock::take(&path).unwrap().is_some());
    }
}
