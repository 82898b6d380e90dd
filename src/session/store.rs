//! The folder of sessions: a file for each, which whoever has the session open alone may write.
//!
//! A session is saved under another name, brought to the disk, and renamed; the file that it replaces is kept as
//! the previous generation, and read where the new one turns out damaged.

use super::format::{self, FormatError};
use super::id::SessionId;
use super::transcript::{Model, Transcript};
use crate::files::{Lock, PARTIAL, Replacement, beside, make_folder, remove, sync_folder};
use crate::text::Escaped;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The folder of sessions.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// A session that is open: nobody else opens it meanwhile.
#[derive(Debug)]
pub struct Session {
    pub transcript: Transcript,
    id: SessionId,
    path: PathBuf,
    /// Whether there is a file that is worth keeping as the previous generation.
    is_on_disk: bool,
    _lock: Lock,
}

/// A session that was read.
#[derive(Debug)]
pub struct Loaded {
    pub transcript: Transcript,
    /// What the user should know: the previous generation was read.
    pub note: Option<String>,
}

/// What a list says of a session.
#[derive(Debug, Clone)]
pub struct Summary {
    pub id: SessionId,
    pub title: String,
    pub model: Model,
    /// Of all branches.
    pub n_turns: usize,
    pub created: Timestamp,
    pub updated: Timestamp,
    /// Of the transcript, both generations.
    pub bytes: u64,
    /// Of what is cached beside it.
    pub snapshot_bytes: u64,
}

/// All sessions of a folder.
#[derive(Debug, Default)]
pub struct Listing {
    /// The one that was changed last comes first.
    pub sessions: Vec<Summary>,
    /// Sessions that cannot be read.
    pub damaged: Vec<StoreError>,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no home folder to keep sessions in: set XDG_STATE_HOME, or name a folder")]
    NoHome,
    #[error("there is no session '{}': `cachalot sessions list` shows those there are", Escaped(.0))]
    Unknown(String),
    #[error("there is no session yet")]
    Empty,
    #[error("'{}' may be {}: give more of the name", Escaped(which), named(ids))]
    Ambiguous { which: String, ids: Vec<SessionId> },
    #[error("the session {0} exists already: resume it, or take another name")]
    Exists(SessionId),
    #[error("the session {0} is open in another process: end that one first")]
    Locked(SessionId),
    #[error("{}: {error}", path.display())]
    Format { path: PathBuf, error: FormatError },
    #[error("{}: cannot be read: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{}: cannot be written: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
}

/// The word for the session that was changed last.
const LATEST: &str = "latest";
const EXTENSION: &str = ".json";
const LOCK: &str = ".lock";
/// Behind the name of the file: the generation before.
const PREVIOUS: &str = ".previous";
/// Behind the name of the file: one that could not be read, when the session was saved again.
const DAMAGED: &str = ".damaged";
pub(super) const SNAPSHOT: &str = ".kv";

/// Ids in a message, some of them.
fn named(ids: &[SessionId]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = ids.iter().take(SHOWN).map(SessionId::as_str).collect();
    match ids.len() {
        n if n > SHOWN => format!("{} or {} others", shown.join(", "), n - SHOWN),
        _ => shown.join(" or "),
    }
}

impl Store {
    /// The folder, which the first session makes where it is not there; by default `cachalot/sessions` in the folder for the
    /// user's state (`$XDG_STATE_HOME`, `~/.local/state`).
    pub fn open(folder: Option<&Path>) -> Result<Store, StoreError> {
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None => Store::default_folder()?,
        };
        Ok(Store { folder })
    }

    pub fn default_folder() -> Result<PathBuf, StoreError> {
        let home = directories::BaseDirs::new().ok_or(StoreError::NoHome)?;
        // Where systems have no folder for state, what is an application's own.
        let state = home.state_dir().unwrap_or_else(|| home.data_local_dir());
        Ok(state.join("cachalot").join("sessions"))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A new session; its file is there from the first [`Session::save`] on.
    pub fn create(&self, transcript: Transcript) -> Result<Session, StoreError> {
        let id = transcript.id.clone();
        // The word has a meaning of its own.
        if id.as_str() == LATEST {
            return Err(StoreError::Exists(id));
        }
        make_folder(&self.folder).map_err(|error| StoreError::Write { path: self.folder.clone(), error })?;
        let lock = self.lock(&id)?;
        if self.ids()?.contains(&id) {
            return Err(StoreError::Exists(id));
        }
        Ok(Session { transcript, path: self.path(&id), id, is_on_disk: false, _lock: lock })
    }

    /// Opens a session, to go on with it. The text is what the user should know.
    pub fn resume(&self, which: &str) -> Result<(Session, Option<String>), StoreError> {
        let id = self.resolve(which)?;
        let lock = self.lock(&id)?;
        let Loaded { transcript, note } = self.load(&id)?;
        Ok((Session { transcript, path: self.path(&id), id, is_on_disk: note.is_none(), _lock: lock }, note))
    }

    /// Reads a session, whoever has it open.
    pub fn read(&self, which: &str) -> Result<Loaded, StoreError> {
        self.load(&self.resolve(which)?)
    }

    /// The session that is meant: by its name, the beginning of it or of its last word, or `latest`.
    pub fn resolve(&self, which: &str) -> Result<SessionId, StoreError> {
        if which == LATEST {
            let listing = self.list()?;
            return listing.sessions.into_iter().next().map(|latest| latest.id).ok_or(StoreError::Empty);
        }
        let ids = self.ids()?;
        if let Some(id) = ids.iter().find(|id| id.as_str() == which) {
            return Ok(id.clone());
        }
        let mut meant: Vec<SessionId> = ids.into_iter().filter(|id| id.is_meant_by(which)).collect();
        match (meant.pop(), meant.is_empty()) {
            (Some(id), true) => Ok(id),
            (Some(id), false) => {
                meant.push(id);
                Err(StoreError::Ambiguous { which: which.to_owned(), ids: meant })
            }
            (None, _) => Err(StoreError::Unknown(which.to_owned())),
        }
    }

    pub fn list(&self) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        for id in self.ids()? {
            match self.load(&id) {
                Ok(loaded) => listing.sessions.push(self.summary(loaded.transcript)),
                // It was removed since its name was read.
                Err(StoreError::Unknown(_)) => {}
                Err(error) => listing.damaged.push(error),
            }
        }
        listing.sessions.sort_by(|a, b| b.updated.cmp(&a.updated).then_with(|| b.id.cmp(&a.id)));
        Ok(listing)
    }

    /// Removes all files of a session.
    pub fn remove(&self, id: &SessionId) -> Result<(), StoreError> {
        let _lock = self.lock(id)?;
        let path = self.path(id);
        // The transcript last: what is there of a session must be seen.
        for suffix in [PARTIAL, PREVIOUS, DAMAGED] {
            removed(&beside(&path, suffix))?;
        }
        let snapshot = self.snapshot_path(id);
        removed(&snapshot)?;
        removed(&beside(&snapshot, PARTIAL))?;
        removed(&path)?;
        sync_folder(&self.folder).map_err(|error| StoreError::Write { path: self.folder.clone(), error })
    }

    pub(super) fn snapshot_path(&self, id: &SessionId) -> PathBuf {
        self.folder.join(format!("{id}{SNAPSHOT}"))
    }

    /// Whether nobody has the session open, and nobody opens it while this goes on.
    pub(super) fn while_closed(&self, id: &SessionId, act: impl FnOnce()) -> bool {
        self.lock(id).map(|_lock| act()).is_ok()
    }

    /// The file of a session.
    pub fn path(&self, id: &SessionId) -> PathBuf {
        self.folder.join(format!("{id}{EXTENSION}"))
    }

    fn lock(&self, id: &SessionId) -> Result<Lock, StoreError> {
        let path = self.folder.join(format!("{id}{LOCK}"));
        match Lock::take(&path) {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(StoreError::Locked(id.clone())),
            Err(error) => Err(StoreError::Write { path, error }),
        }
    }

    /// Sessions of which there is a file, in either generation, whether or not it can be read.
    pub fn ids(&self) -> Result<BTreeSet<SessionId>, StoreError> {
        let unreadable = |error| StoreError::Read { path: self.folder.clone(), error };
        let mut ids = BTreeSet::new();
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ids),
            entries => entries.map_err(unreadable)?,
        };
        for entry in entries {
            let name = entry.map_err(unreadable)?.file_name();
            let Some(name) = name.to_str() else { continue };
            let name = name.strip_suffix(PREVIOUS).unwrap_or(name);
            ids.extend(name.strip_suffix(EXTENSION).and_then(|name| SessionId::parse(name).ok()));
        }
        Ok(ids)
    }

    fn load(&self, id: &SessionId) -> Result<Loaded, StoreError> {
        let path = self.path(id);
        let error = match read(&path) {
            Ok(transcript) => return Ok(Loaded { transcript: named_as(transcript, id), note: None }),
            // What a newer program wrote is no worse than what it replaced.
            Err(error @ StoreError::Format { error: FormatError::Newer(_), .. }) => return Err(error),
            Err(error) => error,
        };
        match read(&beside(&path, PREVIOUS)) {
            Ok(transcript) => {
                let note = format!("{error}; the session is taken from the file that was saved before it");
                Ok(Loaded { transcript: named_as(transcript, id), note: Some(note) })
            }
            Err(_) => match error {
                StoreError::Read { error, .. } if error.kind() == io::ErrorKind::NotFound => {
                    Err(StoreError::Unknown(id.to_string()))
                }
                error => Err(error),
            },
        }
    }

    fn summary(&self, transcript: Transcript) -> Summary {
        let n_bytes = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let path = self.path(&transcript.id);
        Summary {
            title: transcript.title(),
            n_turns: transcript.turns().len(),
            created: transcript.created,
            updated: transcript.updated,
            bytes: n_bytes(&path) + n_bytes(&beside(&path, PREVIOUS)),
            snapshot_bytes: n_bytes(&self.snapshot_path(&transcript.id)),
            model: transcript.model,
            id: transcript.id,
        }
    }
}

impl Session {
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings the transcript to the disk. Once this returns it stays there; if it fails, what was saved before does.
    pub fn save(&mut self) -> Result<(), StoreError> {
        self.write().map_err(|error| StoreError::Write { path: self.path.clone(), error })
    }

    fn write(&mut self) -> io::Result<()> {
        self.transcript.id = self.id.clone();
        let bytes = format::write(&self.transcript)?;
        let mut file = Replacement::create(&self.path)?;
        file.write_all(&bytes)?;
        if self.is_on_disk {
            return file.finish(Some(&beside(&self.path, PREVIOUS)));
        }
        // A file that could not be read gives way, and does not become the previous generation.
        match fs::rename(&self.path, beside(&self.path, DAMAGED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        file.finish(None)?;
        self.is_on_disk = true;
        Ok(())
    }
}

fn read(path: &Path) -> Result<Transcript, StoreError> {
    let bytes = fs::read(path).map_err(|error| StoreError::Read { path: path.to_owned(), error })?;
    format::read(&bytes).map_err(|error| StoreError::Format { path: path.to_owned(), error })
}

/// A file that was copied or renamed is a session of its own.
fn named_as(transcript: Transcript, id: &SessionId) -> Transcript {
    Transcript { id: id.clone(), ..transcript }
}

fn removed(path: &Path) -> Result<(), StoreError> {
    remove(path).map_err(|error| StoreError::Write { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::super::transcript::{Body, Question};
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Place {
        store: Store,
        folder: tempfile::TempDir,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        Place { store: Store::open(Some(&folder.path().join("state/sessions"))).unwrap(), folder }
    }

    fn id(text: &str) -> SessionId {
        SessionId::parse(text).unwrap()
    }

    /// A session that was saved with this many questions, one at a time.
    fn saved(store: &Store, name: &str, n: usize) -> Session {
        let mut session = store.create(Transcript::with_id(id(name), Model::default())).unwrap();
        for number in 0..n {
            session.transcript.push(Body::User(Question::new(format!("question {number}"))));
            session.save().unwrap();
        }
        session
    }

    fn n_turns(store: &Store, name: &str) -> usize {
        store.read(name).unwrap().transcript.turns().len()
    }

    #[test]
    fn a_session_is_there_once_it_is_saved() {
        let Place { store, folder } = place();
        assert!(matches!(store.read("x"), Err(StoreError::Unknown(_))) && !store.folder().exists());
        drop(saved(&store, "unsaved", 0));
        assert!(matches!(store.read("unsaved"), Err(StoreError::Unknown(_))));
        assert!(matches!(store.read("latest"), Err(StoreError::Empty)));
        let session = saved(&store, "a", 3);
        assert!(matches!(store.resume("a"), Err(StoreError::Locked(_))));
        assert!(matches!(store.remove(session.id()), Err(StoreError::Locked(_))));
        assert_eq!(n_turns(&store, "a"), 3);
        drop(session);
        let (mut again, note) = store.resume("a").unwrap();
        assert_eq!((note, again.transcript.turns().len()), (None, 3));
        again.transcript.push(Body::System("x".into()));
        again.save().unwrap();
        drop(again);
        let exists = store.create(Transcript::with_id(id("a"), Model::default()));
        assert!(matches!(exists, Err(StoreError::Exists(_))));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(store.folder()), mode(&folder.path().join("state"))), (0o700, 0o700));
        assert!(fs::read_dir(store.folder()).unwrap().all(|entry| mode(&entry.unwrap().path()) == 0o600));
        store.remove(&id("a")).unwrap();
        assert_eq!(fs::read_dir(store.folder()).unwrap().count(), 0);
    }

    #[test]
    fn the_generation_before_helps_out() {
        let Place { store, .. } = place();
        let path = saved(&store, "a", 3).path().to_owned();
        for (bytes, says) in [(Some(&b"{}"[..]), "not the JSON of a session"), (None, "No such file")] {
            match bytes {
                Some(bytes) => fs::write(&path, bytes).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let loaded = store.read("a").unwrap();
            let note = loaded.note.unwrap();
            assert_eq!(loaded.transcript.turns().len(), 2);
            assert!(note.contains(says) && note.ends_with("the file that was saved before it"), "{note}");
            assert_eq!(store.list().unwrap().sessions.len(), 1);
        }
        // Saving again must not put the damaged file in the place of the good one.
        fs::write(&path, "{}").unwrap();
        let (mut session, _) = store.resume("a").unwrap();
        session.save().unwrap();
        drop(session);
        assert_eq!((n_turns(&store, "a"), store.read("a").unwrap().note), (2, None));
        assert_eq!(fs::read(beside(&path, DAMAGED)).unwrap(), b"{}");
        assert!(read(&beside(&path, PREVIOUS)).is_ok());
        fs::write(&path, "{}").unwrap();
        fs::write(beside(&path, PREVIOUS), "{}").unwrap();
        assert!(matches!(store.read("a"), Err(StoreError::Format { .. })));
        assert_eq!(store.list().unwrap().damaged.len(), 1);
    }

    #[test]
    fn a_newer_files_predecessor_is_not_taken_for_it() {
        let Place { store, .. } = place();
        let path = saved(&store, "a", 3).path().to_owned();
        let text = fs::read_to_string(&path).unwrap().replacen("\"version\":1", "\"version\":9", 1);
        fs::write(&path, text).unwrap();
        assert!(store.read("a").unwrap_err().to_string().contains("version 9"));
    }

    #[test]
    fn whatever_a_killed_process_leaves_the_session_opens() {
        let Place { store, .. } = place();
        let path = saved(&store, "a", 3).path().to_owned();
        fs::write(beside(&path, PARTIAL), "{\"format\":").unwrap();
        fs::write(beside(&beside(&path, PREVIOUS), PARTIAL), "{").unwrap();
        fs::write(store.folder().join("a.lock"), "").unwrap();
        let (mut session, note) = store.resume("a").unwrap();
        assert_eq!((note, session.transcript.turns().len()), (None, 3));
        session.transcript.push(Body::System("x".into()));
        session.save().unwrap();
        drop(session);
        assert_eq!(n_turns(&store, "a"), 4);
        let left: BTreeSet<_> = fs::read_dir(store.folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, BTreeSet::from([path.clone(), beside(&path, PREVIOUS)]));
    }

    #[test]
    fn names_may_be_short_if_they_mean_one() {
        let Place { store, .. } = place();
        for name in ["20260101-1200-aaaa", "20260101-1300-abbb", "mine"] {
            saved(&store, name, 1);
        }
        let resolved = |which: &str| store.resolve(which).map(|id| id.to_string()).map_err(|error| error.to_string());
        assert_eq!(resolved("20260101-12").unwrap(), "20260101-1200-aaaa");
        assert_eq!(resolved("ab").unwrap(), "20260101-1300-abbb");
        let error = resolved("2026").unwrap_err();
        assert!(error.contains("20260101-1200-aaaa or 20260101-1300-abbb"), "{error}");
        for which in ["", "x", "../mine", "mine.json", "/etc"] {
            assert!(matches!(store.resolve(which), Err(StoreError::Unknown(_))), "{which}");
        }
        saved(&store, "mi", 1);
        assert_eq!(resolved("mi").unwrap(), "mi");
        assert!(matches!(
            store.create(Transcript::with_id(id("latest"), Model::default())),
            Err(StoreError::Exists(_))
        ));
    }

    #[test]
    fn the_latest_comes_first() {
        let Place { store, .. } = place();
        for (name, second) in [("a", 20), ("b", 30), ("c", 10)] {
            let mut session = saved(&store, name, 1);
            session.transcript.updated = Timestamp::from_second(second).unwrap();
            session.save().unwrap();
        }
        let listing = store.list().unwrap();
        assert_eq!(listing.sessions.iter().map(|summary| summary.id.as_str()).collect::<Vec<_>>(), ["b", "a", "c"]);
        assert_eq!(store.resolve("latest").unwrap().as_str(), "b");
        let summary = &listing.sessions[0];
        assert_eq!((summary.title.as_str(), summary.n_turns, summary.snapshot_bytes), ("question 0", 1, 0));
        assert!(summary.bytes > 100);
    }
}
