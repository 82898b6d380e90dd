//! The bytes of several files over several connections, chunk by chunk, while one thread hashes what has come.
//!
//! Owns who fetches what, and when it is enough: a file gets its name after its SHA-256 was computed from what is on
//! the disk. How bytes come, `receive` knows.

use super::error::Error;
use super::hash::{self, hex, read_range};
use super::hub::Hub;
use super::parts::{Chunk, Parts};
use super::receive::Job;
use super::reference::Repo;
use super::store::{ChunkHash, PulledFile};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What happens meanwhile. Files are told by their place among those that are fetched.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// So many bytes are there already.
    Begun {
        file: usize,
        bytes: u64,
    },
    Received {
        file: usize,
        bytes: u64,
    },
    /// What has come was of no use, and has to come again.
    Lost {
        file: usize,
        bytes: u64,
    },
    /// The file is whole and has its name.
    Finished {
        file: usize,
    },
    Note(&'a str),
}

pub(super) type Report<'a> = &'a (dyn Fn(Event<'_>) + Sync);

pub(super) struct Fetch<'a> {
    pub(super) hub: &'a Hub,
    pub(super) repo: &'a Repo,
    pub(super) commit: &'a str,
    pub(super) jobs: Vec<Job>,
    state: Mutex<State>,
    changed: Condvar,
    pub(super) report: Report<'a>,
}

pub(super) struct State {
    pub(super) files: Vec<Progress>,
    failure: Option<Error>,
}

pub(super) struct Progress {
    pub(super) chunks: Vec<Slot>,
    origin: Search,
    is_finished: bool,
    /// Bytes are from an earlier process.
    is_resumed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Open(u64),
    Taken,
    Whole(ChunkHash),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    ToDo,
    Going,
    /// In parts.
    Parts,
    /// From front to back only; whether a thread is at it.
    Stream {
        is_taken: bool,
    },
}

enum Work {
    Find(usize),
    Chunk { file: usize, chunk: usize, have: u64 },
    Stream(usize),
}

impl<'a> Fetch<'a> {
    /// `files`: what they must be, and the paths that they get.
    pub(super) fn new(
        hub: &'a Hub,
        repo: &'a Repo,
        commit: &'a str,
        files: Vec<(PulledFile, &Path)>,
        report: Report<'a>,
    ) -> Result<Fetch<'a>, Error> {
        let (mut jobs, mut states) = (Vec::new(), Vec::new());
        for (file, (entry, path)) in files.into_iter().enumerate() {
            let (parts, chunks) = Parts::open(path, &entry)?;
            let there = |(number, chunk): (usize, &Chunk)| match chunk {
                Chunk::Begun(bytes) => *bytes,
                Chunk::Whole(_) => parts.range(number).end - parts.range(number).start,
            };
            let bytes: u64 = chunks.iter().enumerate().map(there).sum();
            report(Event::Begun { file, bytes });
            let slot = |chunk: Chunk| match chunk {
                Chunk::Begun(bytes) => Slot::Open(bytes),
                Chunk::Whole(hash) => Slot::Whole(hash),
            };
            let chunks = chunks.into_iter().map(slot).collect();
            states.push(Progress { chunks, origin: Search::ToDo, is_finished: false, is_resumed: bytes > 0 });
            jobs.push(Job { entry, parts, origin: Mutex::new(None) });
        }
        let state = Mutex::new(State { files: states, failure: None });
        Ok(Fetch { hub, repo, commit, jobs, state, changed: Condvar::new(), report })
    }

    /// Fetches all; `finish` is told of each file before it gets its name, with the hashes of its chunks.
    pub(super) fn run(
        self,
        connections: usize,
        mut finish: impl FnMut(usize, Vec<ChunkHash>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        std::thread::scope(|scope| {
            for _ in 0..connections.max(1) {
                scope.spawn(|| self.work());
            }
            for file in 0..self.jobs.len() {
                if let Err(error) =
                    self.verify(file).and_then(|chunks| finish(file, chunks)).and_then(|()| self.finished(file))
                {
                    self.fail(error);
                    break;
                }
            }
        });
        match self.state.into_inner().unwrap_or_else(PoisonError::into_inner).failure {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, state: MutexGuard<'g, State>) -> MutexGuard<'g, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The first failure is the one that is reported.
    fn fail(&self, error: Error) {
        let mut state = self.state();
        if state.failure.is_none() && !matches!(error, Error::Stopped) {
            state.failure = Some(error);
        }
        self.changed.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state().failure.is_some()
    }

    /// Waits, and returns whether to go on.
    pub(super) fn pause(&self, time: Duration) -> Result<(), Error> {
        let state = self.state();
        let going = |state: &mut State| state.failure.is_none();
        let (state, _) = self.changed.wait_timeout_while(state, time, going).unwrap_or_else(PoisonError::into_inner);
        if state.failure.is_some() { Err(Error::Stopped) } else { Ok(()) }
    }

    fn finished(&self, file: usize) -> Result<(), Error> {
        let Some(job) = self.jobs.get(file) else { return Ok(()) };
        job.parts.finish()?;
        if let Some(progress) = self.state().files.get_mut(file) {
            progress.is_finished = true;
        }
        self.changed.notify_all();
        (self.report)(Event::Finished { file });
        Ok(())
    }

    /// What a connection does until there is nothing left.
    fn work(&self) {
        while let Some(work) = self.next_work() {
            let done = match work {
                Work::Find(file) => self.find(file),
                Work::Chunk { file, chunk, have } => self.chunk(file, chunk, have),
                Work::Stream(file) => self.stream(file),
            };
            match done {
                Ok(()) => self.changed.notify_all(),
                Err(error) => return self.fail(error),
            }
        }
    }

    fn next_work(&self) -> Option<Work> {
        let mut state = self.state();
        loop {
            if state.failure.is_some() || state.files.iter().all(|progress| progress.is_finished) {
                return None;
            }
            match state.files.iter_mut().enumerate().find_map(|(file, progress)| progress.next_work(file)) {
                Some(work) => return Some(work),
                None => state = self.wait(state),
            }
        }
    }

    pub(super) fn set_search(&self, file: usize, search: Search) {
        if let Some(progress) = self.state().files.get_mut(file) {
            progress.origin = search;
        }
    }

    pub(super) fn set_slot(&self, file: usize, chunk: usize, slot: Slot) {
        if let Some(known) = self.state().files.get_mut(file).and_then(|progress| progress.chunks.get_mut(chunk)) {
            *known = slot;
        }
        self.changed.notify_all();
    }

    /// Waits until the file is whole and returns the hashes of its chunks. What turns out damaged on the disk is
    /// fetched again.
    fn verify(&self, file: usize) -> Result<Vec<ChunkHash>, Error> {
        let job = self.jobs.get(file).ok_or(Error::Stopped)?;
        loop {
            let (found, chunks) = self.hash(file, job)?;
            if found == job.entry.sha256 {
                return Ok(chunks);
            }
            let mut again = Vec::new();
            for (number, expected) in chunks.iter().enumerate() {
                let hash =
                    hash::chunk(job.parts.file(), job.parts.range(number)).map_err(Error::read(job.parts.partial()))?;
                if hash != *expected {
                    again.push(number);
                }
            }
            let mut state = self.state();
            let progress = state.files.get_mut(file).ok_or(Error::Stopped)?;
            if again.is_empty() {
                // What an earlier process has left may not be what it says; what has come now is what the hub sends.
                if !std::mem::take(&mut progress.is_resumed) {
                    drop(state);
                    job.parts.discard()?;
                    let (file, expected) = (job.entry.name.clone(), job.entry.sha256.clone());
                    return Err(Error::Hash { file, expected, found });
                }
                again = (0..chunks.len()).collect();
            }
            let bytes = again.iter().map(|chunk| job.parts.range(*chunk)).map(|range| range.end - range.start).sum();
            for chunk in again {
                if let Some(slot) = progress.chunks.get_mut(chunk) {
                    *slot = Slot::Open(0);
                }
            }
            drop(state);
            (self.report)(Event::Lost { file, bytes });
            self.changed.notify_all();
        }
    }

    /// SHA-256 of the file, chunk behind chunk as they come.
    fn hash(&self, file: usize, job: &Job) -> Result<(String, Vec<ChunkHash>), Error> {
        let (mut sha, mut chunks) = (Sha256::new(), Vec::new());
        for chunk in 0..job.entry.n_chunks() {
            chunks.push(self.whole(file, chunk)?);
            let read = read_range(job.parts.file(), job.parts.range(chunk), |piece| sha.update(piece));
            read.map_err(Error::read(job.parts.partial()))?;
        }
        Ok((hex(sha), chunks))
    }

    /// Waits until a chunk is whole.
    fn whole(&self, file: usize, chunk: usize) -> Result<ChunkHash, Error> {
        let mut state = self.state();
        loop {
            if state.failure.is_some() {
                return Err(Error::Stopped);
            }
            match state.files.get(file).and_then(|progress| progress.chunks.get(chunk)) {
                Some(Slot::Whole(hash)) => return Ok(*hash),
                Some(_) => state = self.wait(state),
                None => return Err(Error::Stopped),
            }
        }
    }
}

impl Progress {
    fn next_work(&mut self, file: usize) -> Option<Work> {
        let open = |slot: &Slot| matches!(slot, Slot::Open(_));
        let chunk = self.chunks.iter().position(open)?;
        match self.origin {
            Search::ToDo => {
                self.origin = Search::Going;
                Some(Work::Find(file))
            }
            Search::Stream { is_taken: false } => {
                self.origin = Search::Stream { is_taken: true };
                Some(Work::Stream(file))
            }
            Search::Parts => match std::mem::replace(self.chunks.get_mut(chunk)?, Slot::Taken) {
                Slot::Open(have) => Some(Work::Chunk { file, chunk, have }),
                _ => None,
            },
            Search::Going | Search::Stream { is_taken: true } => None,
        }
    }
}
