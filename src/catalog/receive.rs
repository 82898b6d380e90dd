//! One file's bytes: where they are, one part of it at a time, or all of it from front to back.
//!
//! A file is fetched from one address, found through the hub when it begins; when that ceases to work it is found
//! again. Every answer is held against what was asked for, and against what the file was at the beginning.

use super::error::Error;
use super::fetch::{Event, Fetch, Search, Slot};
use super::hash::{chunk_range, read_range};
use super::hub::{Fault, etag};
use super::parts::Parts;
use super::patience::Patience;
use super::store::{ChunkHash, PulledFile};
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use ureq::http::{Response, StatusCode};
use ureq::{Body, BodyReader};

/// So many bytes of a chunk are lost at most when the process ends.
const NOTED: u64 = 8 << 20;
const PIECE: usize = 256 << 10;

/// A file to fetch.
pub(super) struct Job {
    pub(super) entry: PulledFile,
    pub(super) parts: Parts,
    /// Where its bytes are.
    pub(super) origin: Mutex<Option<Origin>>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Origin {
    url: String,
    etag: Option<String>,
    /// Whether a part of the file can be asked for.
    has_ranges: bool,
}

impl Fetch<'_> {
    pub(super) fn find(&self, file: usize) -> Result<(), Error> {
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
            Fault::Expired { reason } => (reason, None),
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
    pub(super) fn chunk(&self, file: usize, chunk: usize, have: u64) -> Result<(), Error> {
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
            Err(Fault::Expired { reason }) => return Err(forget(job, &origin, reason)),
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
    pub(super) fn stream(&self, file: usize) -> Result<(), Error> {
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
            Err(Fault::Expired { reason }) => return Err(forget(job, &origin, reason)),
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
}

/// An address that has ceased to work is found again; the hub says whether the file is gone.
fn forget(job: &Job, origin: &Origin, reason: String) -> Fault {
    let mut known = job.origin.lock().unwrap_or_else(PoisonError::into_inner);
    if known.as_ref() == Some(origin) {
        *known = None;
    }
    Fault::passing(reason)
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
