//! The bytes of several files over several connections, chunk by chunk, while one thread hashes what has come.
//!
//! A file is fetched from one address, found through the hub when it begins; when that ceases to work it is found
//! again. Files get their names in `finish`, after their SHA-256 was computed from what is on the disk.

use super::error::Error;
use super::hash::{self, chunk_range, hex, read_range};
use super::hub::{Fault, Hub, etag};
use super::parts::{Chunk, Parts};
use super::patience::Patience;
use super::reference::Repo;
use super::store::{ChunkHash, Entry};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use ureq::http::{Response, StatusCode};
use ureq::{Body, BodyReader};

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

/// So many bytes of a chunk are lost at most when the process ends.
const NOTED: u64 = 8 << 20;
const PIECE: usize = 256 << 10;

pub(super) struct Fetch<'a> {
    hub: &'a Hub,
    repo: &'a Repo,
    commit: &'a str,
    jobs: Vec<Job>,
    state: Mutex<State>,
    changed: Condvar,
    report: Report<'a>,
}

/// A file to fetch.
struct Job {
    entry: Entry,
    parts: Parts,
    /// Where its bytes are.
    origin: Mutex<Option<Origin>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Origin {
    url: String,
    etag: Option<String>,
    /// Whether a part of the file can be asked for.
    has_ranges: bool,
}

struct State {
    files: Vec<Progress>,
    failure: Option<Error>,
}

struct Progress {
    chunks: Vec<Slot>,
    origin: Search,
    is_finished: bool,
    /// Bytes are from an earlier process.
    is_resumed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Open(u64),
    Taken,
    Whole(ChunkHash),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Search {
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
        files: Vec<(Entry, &Path)>,
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

    /// Bytes on the disk that are still to be taken.
    pub(super) fn missing_bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let missing = |job: &Job| {
            let allocated = job.parts.file().metadata().map_or(0, |found| found.blocks() * 512);
            job.entry.size.saturating_sub(allocated)
        };
        self.jobs.iter().map(missing).sum()
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

    fn state(&self) -> MutexGuard<'_, State> {
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

    fn is_stopped(&self) -> bool {
        self.state().failure.is_some()
    }

    /// Waits, and returns whether to go on.
    fn pause(&self, time: Duration) -> Result<(), Error> {
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

    fn set_search(&self, file: usize, search: Search) {
        if let Some(progress) = self.state().files.get_mut(file) {
            progress.origin = search;
        }
    }

    fn set_slot(&self, file: usize, chunk: usize, slot: Slot) {
        if let Some(known) = self.state().files.get_mut(file).and_then(|progress| progress.chunks.get_mut(chunk)) {
            *known = slot;
        }
        self.changed.notify_all();
    }

    fn find(&self, file: usize) -> Result<(), Error> {
        let Some(job) = self.jobs.get(file) else { return Ok(()) };
        let origin = self.origin(job)?;
        let search = if origin.has_ranges { Search::Parts } else { Search::Stream { is_taken: false } };
        if !origin.has_ranges {
            let note =
                format!("{}: the server sends it from the start only; an interruption costs more", job.entry.name);
            (self.report)(Event::Note(&note));
        }
        self.set_search(file, search);
        Ok(())
    }

    /// Where a file's bytes are; found anew when nobody knows.
    fn origin(&self, job: &Job) -> Result<Origin, Error> {
        let mut known = job.origin.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(origin) = &*known {
            return Ok(origin.clone());
        }
        let mut patience = Patience::long();
        let url = self.hub.address(self.repo, self.commit, &job.entry.path);
        loop {
            let fault = match self.hub.follow(&url, Some((0, 1))) {
                Ok((url, response, linked)) => {
                    let expected =
                        [(linked.etag.as_deref(), &job.entry.sha256[..]), (linked.commit.as_deref(), self.commit)];
                    let is_hash = |text: &str| text.len() >= 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
                    for (found, expected) in expected {
                        // A hub that says nothing, or something else than a hash, says nothing against it.
                        if let Some(found) =
                            found.filter(|found| is_hash(found) && is_hash(expected) && *found != expected)
                        {
                            let what = format!("{found} in place of {expected}");
                            return Err(Error::Changed { file: job.entry.name.clone(), what });
                        }
                    }
                    let origin = checked_origin(job, url, &response, linked.size)?;
                    *known = Some(origin.clone());
                    return Ok(origin);
                }
                Err(fault) => fault,
            };
            self.bear(job, fault, &mut patience)?;
        }
    }

    /// Waits after what may pass; everything else is an error.
    fn bear(&self, job: &Job, fault: Fault, patience: &mut Patience) -> Result<(), Error> {
        let (reason, wait) = match fault {
            Fault::Passing { reason, wait } => (reason, wait),
            Fault::Refused(status, headers) => {
                return Err(self.hub.refusal(self.repo, &job.entry.path, status, &headers));
            }
            Fault::Final(error) => return Err(error),
        };
        match patience.next(wait) {
            Some(pause) => {
                if pause >= Duration::from_secs(1) {
                    let note = format!("{}: {reason}; again in {} s", job.entry.name, pause.as_secs());
                    (self.report)(Event::Note(&note));
                }
                self.pause(pause)
            }
            None => Err(Error::Failing { host: self.hub.host(), reason }),
        }
    }

    /// Fetches a chunk, of which `have` bytes are there.
    fn chunk(&self, file: usize, chunk: usize, have: u64) -> Result<(), Error> {
        let Some(job) = self.jobs.get(file) else { return Ok(()) };
        let range = job.parts.range(chunk);
        let mut hasher = blake3::Hasher::new();
        let mut at = range.start.saturating_add(have).min(range.end);
        let read = read_range(job.parts.file(), range.start..at, |piece| {
            hasher.update(piece);
        });
        read.map_err(Error::read(job.parts.partial()))?;
        let mut patience = Patience::long();
        while at < range.end {
            let before = at;
            let received = self.receive(file, job, chunk, &mut at, &mut hasher);
            if at > before {
                patience.renew();
            }
            if let Err(fault) = received {
                self.bear(job, fault, &mut patience)?;
            }
        }
        let hash = ChunkHash(hasher.finalize());
        job.parts.note_whole(chunk, &hash)?;
        self.set_slot(file, chunk, Slot::Whole(hash));
        Ok(())
    }

    /// What one request gives of a chunk, from `at` on.
    fn receive(
        &self,
        file: usize,
        job: &Job,
        chunk: usize,
        at: &mut u64,
        hasher: &mut blake3::Hasher,
    ) -> Result<(), Fault> {
        let origin = self.origin(job).map_err(Fault::Final)?;
        let range = job.parts.range(chunk);
        let response = match self.hub.follow(&origin.url, Some((*at, range.end))) {
            Ok((_, response, _)) => response,
            Err(Fault::Refused(status, _)) => return Err(forget(job, &origin, status)),
            Err(fault) => return Err(fault),
        };
        check_part(job, &origin, &response, *at)?;
        let mut body = response.into_body().into_reader();
        let mut noted = *at;
        let mut buffer = vec![0; PIECE];
        while *at < range.end {
            let n = self.read(&mut body, &mut buffer, range.end - *at)?;
            let piece = buffer.get(..n).unwrap_or_default();
            job.parts.write(piece, *at).map_err(Fault::Final)?;
            hasher.update(piece);
            *at += n as u64;
            (self.report)(Event::Received { file, bytes: n as u64 });
            if *at - noted >= NOTED && *at < range.end {
                job.parts.note_begun(chunk, *at - range.start).map_err(Fault::Final)?;
                noted = *at;
            }
        }
        Ok(())
    }

    /// Some bytes, at most `left`; an end before them is a fault.
    fn read(&self, body: &mut BodyReader<'_>, buffer: &mut [u8], left: u64) -> Result<usize, Fault> {
        if self.is_stopped() {
            return Err(Fault::Final(Error::Stopped));
        }
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match body.read(buffer.get_mut(..n).unwrap_or_default()) {
            Ok(0) => Err(Fault::passing("the connection ended in the middle")),
            Ok(n) => Ok(n),
            Err(error) => Err(Fault::passing(format!("the connection broke: {error}"))),
        }
    }

    /// Fetches a file from front to back, past the chunks that are there.
    fn stream(&self, file: usize) -> Result<(), Error> {
        let Some(job) = self.jobs.get(file) else { return Ok(()) };
        let mut patience = Patience::long();
        loop {
            let before = self.n_whole(file);
            match self.pass(file, job) {
                Ok(()) => break,
                Err(fault) => {
                    if self.n_whole(file) > before {
                        patience.renew();
                    }
                    self.bear(job, fault, &mut patience)?;
                }
            }
        }
        self.set_search(file, Search::Stream { is_taken: false });
        Ok(())
    }

    fn n_whole(&self, file: usize) -> usize {
        let is_whole = |slot: &&Slot| matches!(slot, Slot::Whole(_));
        self.state().files.get(file).map_or(0, |progress| progress.chunks.iter().filter(is_whole).count())
    }

    /// One pass over the file.
    fn pass(&self, file: usize, job: &Job) -> Result<(), Fault> {
        let origin = self.origin(job).map_err(Fault::Final)?;
        let response = match self.hub.follow(&origin.url, None) {
            Ok((_, response, _)) => response,
            Err(Fault::Refused(status, _)) => return Err(forget(job, &origin, status)),
            Err(fault) => return Err(fault),
        };
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; PIECE];
        for chunk in 0..job.entry.n_chunks() {
            let range = chunk_range(&job.entry, chunk);
            let slot = self.state().files.get(file).and_then(|progress| progress.chunks.get(chunk).copied());
            let begun = match slot {
                Some(Slot::Open(begun)) => Some(begun),
                _ => None,
            };
            let (mut at, mut hasher) = (range.start, blake3::Hasher::new());
            while at < range.end {
                let n = self.read(&mut body, &mut buffer, range.end - at)?;
                let piece = buffer.get(..n).unwrap_or_default();
                if let Some(begun) = begun {
                    job.parts.write(piece, at).map_err(Fault::Final)?;
                    hasher.update(piece);
                    // Bytes that were there once are not counted twice.
                    let known = (range.start + begun).clamp(at, at + n as u64) - at;
                    let bytes = n as u64 - known;
                    (self.report)(Event::Received { file, bytes });
                }
                at += n as u64;
                if begun.is_some_and(|begun| at - range.start > begun) {
                    self.set_slot(file, chunk, Slot::Open(at - range.start));
                }
            }
            if begun.is_some() {
                let hash = ChunkHash(hasher.finalize());
                job.parts.note_whole(chunk, &hash).map_err(Fault::Final)?;
                self.set_slot(file, chunk, Slot::Whole(hash));
            }
        }
        Ok(())
    }

    /// Waits until the file is whole and returns the hashes of its chunks. What turns out damaged on the disk is fetched
    /// again.
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

/// An address that has ceased to work is found again; the hub says whether the file is gone.
fn forget(job: &Job, origin: &Origin, status: StatusCode) -> Fault {
    let mut known = job.origin.lock().unwrap_or_else(PoisonError::into_inner);
    if known.as_ref() == Some(origin) {
        *known = None;
    }
    Fault::passing(format!("HTTP {status}"))
}

fn header<'r>(response: &'r Response<Body>, name: &str) -> Option<&'r str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

/// Start and size of the whole from `bytes 0-99/1000`.
fn content_range(response: &Response<Body>) -> Option<(u64, u64)> {
    let text = header(response, "content-range")?.trim().strip_prefix("bytes ")?;
    let (range, size) = text.split_once('/')?;
    Some((range.split_once('-')?.0.trim().parse().ok()?, size.trim().parse().ok()?))
}

/// What answers to a request for the first byte.
fn checked_origin(job: &Job, url: String, response: &Response<Body>, linked: Option<u64>) -> Result<Origin, Error> {
    let has_ranges = response.status() == StatusCode::PARTIAL_CONTENT;
    let size = match has_ranges {
        true => content_range(response).map(|(_, size)| size),
        false => response.body().content_length(),
    };
    if let Some(size) = [size, linked].into_iter().flatten().find(|size| *size != job.entry.size) {
        let what = format!("{size} bytes in place of {}", job.entry.size);
        return Err(Error::Changed { file: job.entry.name.clone(), what });
    }
    Ok(Origin { url, etag: header(response, "etag").and_then(etag), has_ranges })
}

/// That a part is of the file that was begun, and the part that was asked for.
fn check_part(job: &Job, origin: &Origin, response: &Response<Body>, at: u64) -> Result<(), Fault> {
    let name = || job.entry.name.clone();
    if let (Some(begun), Some(now)) = (&origin.etag, header(response, "etag").and_then(etag))
        && *begun != now
    {
        return Err(Fault::Final(Error::Changed { file: name(), what: format!("ETag {now} in place of {begun}") }));
    }
    match content_range(response) {
        _ if response.status() != StatusCode::PARTIAL_CONTENT => {
            Err(Fault::passing("the server sends no parts any more"))
        }
        Some((start, size)) if start == at && size == job.entry.size => Ok(()),
        Some((_, size)) if size != job.entry.size => {
            let what = format!("{size} bytes in place of {}", job.entry.size);
            Err(Fault::Final(Error::Changed { file: name(), what }))
        }
        _ => Err(Fault::passing("another part came than was asked for")),
    }
}
