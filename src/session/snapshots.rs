//! Files beside the transcripts for what a model has computed of a chat. They only save time: each can go, and
//! together they take so much of the disk and no more.
//!
//! What is in them is the engine's, which also finds out whether it is whole and still of use.

use super::id::SessionId;
use super::store::{SNAPSHOT, Session, Store, StoreError};
use crate::files::{PARTIAL, Replacement, remove};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How much of the disk all snapshots of a folder may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Limit {
    /// [`Limit::DEFAULT_BYTES`], but at most a tenth of what is free without them.
    #[default]
    Default,
    /// With 0 none are kept.
    Bytes(u64),
}

impl Limit {
    pub const DEFAULT_BYTES: u64 = 8 << 30;
}

/// The snapshots of a folder of sessions.
#[derive(Debug, Clone)]
pub struct Snapshots {
    store: Store,
    limit: Limit,
}

/// Whether a snapshot is worth its file.
#[derive(Debug)]
pub enum Room {
    Granted(NewSnapshot),
    /// So few tokens are computed again in no time.
    TooShort,
    /// There is room for so many bytes, others' snapshots left out.
    TooLarge {
        n_bytes: u64,
        room: u64,
    },
}

/// A snapshot in the making; dropped before it is finished, it goes and the old one stays.
#[derive(Debug)]
pub struct NewSnapshot {
    file: Replacement,
    path: PathBuf,
}

/// What is kept at least of the disk for others.
const RESERVE: u64 = 256 << 20;

/// A snapshot that is there.
struct Kept {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl Snapshots {
    /// Tokens that are worth a file.
    pub const MIN_TOKENS: usize = 64;

    pub fn new(store: &Store, limit: Limit) -> Snapshots {
        Snapshots { store: store.clone(), limit }
    }

    /// Makes room for a snapshot of so many tokens and bytes: those that were not used for the longest time go. The
    /// session's own stays until the new one is finished.
    pub fn create(&self, session: &Session, n_tokens: usize, n_bytes: u64) -> Result<Room, StoreError> {
        if n_tokens < Snapshots::MIN_TOKENS {
            return Ok(Room::TooShort);
        }
        self.sweep(session.id());
        let path = self.store.snapshot_path(session.id());
        let mut others = self.kept()?;
        let own = others.extract_if(.., |kept| kept.path == path).map(|kept| kept.bytes).sum::<u64>();
        let taken = others.iter().map(|kept| kept.bytes).sum::<u64>();
        let free = self.free()?;
        let room = self.limit(free.saturating_add(taken).saturating_add(own));
        // Both generations are on the disk for a while.
        let on_disk = free.saturating_add(taken).saturating_sub(RESERVE);
        if n_bytes > room.min(on_disk) {
            return Ok(Room::TooLarge { n_bytes, room: room.min(on_disk) });
        }
        others.sort_by_key(|kept| kept.used);
        let (mut taken, mut free) = (taken, free);
        for other in others {
            if n_bytes <= room.saturating_sub(taken) && n_bytes <= free.saturating_sub(RESERVE) {
                break;
            }
            remove(&other.path).map_err(|error| StoreError::Write { path: other.path.clone(), error })?;
            taken -= other.bytes;
            free = free.saturating_add(other.bytes);
        }
        let file = Replacement::create(&path).map_err(|error| StoreError::Write { path: path.clone(), error })?;
        Ok(Room::Granted(NewSnapshot { file, path }))
    }

    /// The session's snapshot, which counts as used from now on.
    pub fn open(&self, session: &Session) -> Result<Option<File>, StoreError> {
        let path = self.store.snapshot_path(session.id());
        match File::open(&path) {
            Ok(file) => {
                // On a disk that is not to be written it can be read all the same.
                let _ = file.set_modified(SystemTime::now());
                Ok(Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::Read { path, error }),
        }
    }

    /// Removes the session's snapshot, if it has one.
    pub fn remove(&self, session: &Session) -> Result<(), StoreError> {
        let path = self.store.snapshot_path(session.id());
        remove(&path).map_err(|error| StoreError::Write { path, error })
    }

    fn limit(&self, free_without: u64) -> u64 {
        match self.limit {
            Limit::Default => Limit::DEFAULT_BYTES.min(free_without / 10),
            Limit::Bytes(bytes) => bytes,
        }
    }

    /// Bytes that are free for this user.
    fn free(&self) -> Result<u64, StoreError> {
        let folder = self.store.folder();
        let disk = rustix::fs::statvfs(folder)
            .map_err(|error| StoreError::Read { path: folder.to_owned(), error: error.into() })?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn kept(&self) -> Result<Vec<Kept>, StoreError> {
        let mut kept = Vec::new();
        for path in self.files(SNAPSHOT)? {
            // One that is gone by now takes no room.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            kept.push(Kept { path, bytes: metadata.len(), used });
        }
        Ok(kept)
    }

    /// Removes what processes have left that were killed while they wrote a snapshot.
    fn sweep(&self, own: &SessionId) {
        let suffix = format!("{SNAPSHOT}{PARTIAL}");
        for path in self.files(&suffix).unwrap_or_default() {
            let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(&suffix));
            let Some(id) = id.and_then(|id| SessionId::parse(id).ok()) else { continue };
            if id != *own {
                self.store.while_closed(&id, || drop(remove(&path)));
            }
        }
    }

    fn files(&self, suffix: &str) -> Result<Vec<PathBuf>, StoreError> {
        let folder = self.store.folder();
        let unreadable = |error| StoreError::Read { path: folder.to_owned(), error };
        let paths = fs::read_dir(folder).map_err(unreadable)?.map(|entry| entry.map(|entry| entry.path()));
        let paths: Vec<PathBuf> = paths.collect::<Result<_, _>>().map_err(unreadable)?;
        let ends =
            |path: &Path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(suffix));
        Ok(paths.into_iter().filter(|path| ends(path)).collect())
    }
}

impl NewSnapshot {
    /// Puts it in the place of the session's old one.
    pub fn finish(self) -> Result<(), StoreError> {
        let path = self.path;
        self.file.finish(None).map_err(|error| StoreError::Write { path, error })
    }
}

impl Write for NewSnapshot {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::transcript::{Model, Transcript};
    use super::*;
    use crate::files::beside;
    use std::io::Read;
    use std::time::Duration;

    struct Place {
        store: Store,
        _folder: tempfile::TempDir,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        Place { store: Store::open(Some(folder.path())).unwrap(), _folder: folder }
    }

    fn session(store: &Store, name: &str) -> Session {
        store.create(Transcript::with_id(SessionId::parse(name).unwrap(), Model::default())).unwrap()
    }

    fn keep(snapshots: &Snapshots, session: &Session, bytes: usize) -> bool {
        match snapshots.create(session, 1000, bytes as u64).unwrap() {
            Room::Granted(mut file) => {
                file.write_all(&vec![7; bytes]).unwrap();
                file.finish().unwrap();
                true
            }
            _ => false,
        }
    }

    fn length(snapshots: &Snapshots, session: &Session) -> Option<usize> {
        let mut bytes = Vec::new();
        snapshots.open(session).unwrap().map(|mut file| file.read_to_end(&mut bytes).unwrap())
    }

    #[test]
    fn the_least_lately_used_make_room() {
        let place = place();
        let snapshots = Snapshots::new(&place.store, Limit::Bytes(100));
        let [a, b, c] = ["a", "b", "c"].map(|name| session(&place.store, name));
        for (session, age) in [(&a, 30), (&b, 20)] {
            assert!(keep(&snapshots, session, 40));
            let file = File::options().write(true).open(place.store.snapshot_path(session.id())).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        // Read, the older one is the newer one.
        assert_eq!(length(&snapshots, &a), Some(40));
        assert!(keep(&snapshots, &c, 50));
        let lengths = || [&a, &b, &c].map(|session| length(&snapshots, session));
        assert_eq!(lengths(), [Some(40), None, Some(50)]);
        // Its own old one is no reason for others to go.
        assert!(keep(&snapshots, &c, 60));
        assert_eq!(lengths(), [Some(40), None, Some(60)]);
        assert!(!keep(&snapshots, &b, 101));
        assert_eq!(lengths(), [Some(40), None, Some(60)]);
        snapshots.remove(&a).unwrap();
        snapshots.remove(&a).unwrap();
        assert_eq!(lengths(), [None, None, Some(60)]);
    }

    #[test]
    fn what_is_not_worth_it_is_not_kept() {
        let place = place();
        let session = session(&place.store, "a");
        let none = Snapshots::new(&place.store, Limit::Bytes(0));
        assert!(matches!(none.create(&session, 1000, 1).unwrap(), Room::TooLarge { n_bytes: 1, room: 0 }));
        let all = Snapshots::new(&place.store, Limit::Bytes(u64::MAX));
        assert!(matches!(all.create(&session, Snapshots::MIN_TOKENS - 1, 1).unwrap(), Room::TooShort));
        assert!(matches!(all.create(&session, 1000, u64::MAX).unwrap(), Room::TooLarge { .. }));
        let usual = Snapshots::new(&place.store, Limit::Default);
        assert!(matches!(usual.create(&session, 1000, Limit::DEFAULT_BYTES + 1).unwrap(), Room::TooLarge { .. }));
        assert_eq!((usual.limit(1 << 60), usual.limit(1000)), (Limit::DEFAULT_BYTES, 100));
    }

    #[test]
    fn unfinished_ones_go_and_leave_the_old_one() {
        let place = place();
        let snapshots = Snapshots::new(&place.store, Limit::Bytes(1000));
        let [a, b] = ["a", "b"].map(|name| session(&place.store, name));
        assert!(keep(&snapshots, &a, 10));
        let Room::Granted(mut unfinished) = snapshots.create(&a, 1000, 20).unwrap() else { panic!("there is room") };
        unfinished.write_all(&[1; 5]).unwrap();
        drop(unfinished);
        assert_eq!(length(&snapshots, &a), Some(10));
        // Of a process that was killed, and of one that is writing.
        let left = |id: &SessionId| beside(&place.store.snapshot_path(id), PARTIAL);
        let killed = SessionId::parse("killed").unwrap();
        [&killed, b.id()].into_iter().for_each(|id| fs::write(left(id), "x").unwrap());
        assert!(keep(&snapshots, &a, 10));
        assert_eq!((left(&killed).exists(), left(b.id()).exists()), (false, true));
    }
}
