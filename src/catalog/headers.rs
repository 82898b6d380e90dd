//! The headers of a model that is on the hub: the beginnings of its files, and nothing behind them.

use super::error::Error;
use super::hub::{Fault, Hub};
use super::patience::Patience;
use super::pull::find;
use super::quant::Listed;
use super::reference::{Reference, Repo};
use crate::gguf;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Bytes that are asked for first; a header that is longer is asked for in pieces of four times what there is. The
/// first file of DeepSeek-V3 has some 8 MB of vocabulary, the others some kilobytes of tensors.
const FIRST: u64 = 256 << 10;
/// No header is longer.
const MOST: u64 = 256 << 20;
/// Files that are asked for at the same time.
const CONNECTIONS: usize = 8;

/// The headers of a quant.
#[derive(Debug)]
pub struct Headers {
    pub repo: String,
    pub quant: String,
    /// All quants of the repository that are whole, with their bytes.
    pub quants: Vec<(String, u64)>,
    /// The commit that they are of.
    pub revision: String,
    /// In the order of the shards.
    pub files: Vec<Beginning>,
}

/// The beginning of a file, with its header whole in it.
#[derive(Debug)]
pub struct Beginning {
    pub name: String,
    pub bytes: Vec<u8>,
    /// Of the whole file.
    pub size: u64,
}

impl Headers {
    /// Asks the hub for a quant's headers: of several repositories that of the first one with the quant.
    pub fn read(hub: &Hub, reference: &Reference, revision: &str) -> Result<Headers, Error> {
        let (repo, commit, set) = find(hub, reference, revision)?;
        let next = AtomicUsize::new(0);
        let read_some = || {
            let mut read = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(file) = set.files.get(at) else { return Ok(read) };
                read.push((at, Asked { hub, repo: &repo, commit: &commit, file }.beginning()?));
            }
        };
        let read = thread::scope(|scope| {
            let readers: Vec<_> = (0..CONNECTIONS.min(set.files.len())).map(|_| scope.spawn(read_some)).collect();
            readers.into_iter().map(|reader| reader.join().unwrap_or(Err(Error::Stopped))).collect::<Vec<_>>()
        });
        let mut files = Vec::new();
        for some in read {
            files.extend(some?);
        }
        files.sort_by_key(|(at, _)| *at);
        let files = files.into_iter().map(|(_, file)| file).collect();
        Ok(Headers { repo: repo.to_string(), quant: set.quant, quants: set.all, revision: commit, files })
    }

    /// Bytes that came for it.
    pub fn n_read(&self) -> u64 {
        self.files.iter().map(|file| file.bytes.len() as u64).sum()
    }
}

/// A file of a commit.
struct Asked<'a> {
    hub: &'a Hub,
    repo: &'a Repo,
    commit: &'a str,
    file: &'a Listed,
}

impl Asked<'_> {
    fn beginning(&self) -> Result<Beginning, Error> {
        let size = self.file.size;
        let mut bytes = Vec::new();
        let mut wanted = FIRST.min(size);
        loop {
            self.extend(&mut bytes, wanted)?;
            match gguf::Header::parse(&bytes, size) {
                Ok(_) => return Ok(Beginning { name: self.file.name().to_owned(), bytes, size }),
                Err(damage) if damage.is_too_short() && wanted < size.min(MOST) => {
                    wanted = wanted.saturating_mul(4).min(size).min(MOST);
                }
                Err(damage) => {
                    return Err(Error::Answer { what: self.file.path.clone(), fault: damage.to_string() });
                }
            }
        }
    }

    /// Brings `bytes` to a length of `wanted`.
    fn extend(&self, bytes: &mut Vec<u8>, wanted: u64) -> Result<(), Error> {
        let mut patience = Patience::short();
        loop {
            let before = bytes.len();
            let reason = match self.attempt(bytes, wanted) {
                Ok(()) if bytes.len() as u64 == wanted => return Ok(()),
                Ok(()) => "the connection ended".to_owned(),
                Err(Fault::Passing { reason, .. } | Fault::Expired { reason }) => reason,
                Err(Fault::Refused(status, headers)) => {
                    return Err(self.hub.refusal(self.repo, &self.file.path, status, &headers));
                }
                Err(Fault::Final(error)) => return Err(error),
            };
            if bytes.len() > before {
                patience.renew();
            }
            let pause = patience.next(None).ok_or_else(|| Error::Unreachable { host: self.hub.host(), reason })?;
            thread::sleep(pause);
        }
    }

    /// One request. What came of it stays, however it ended.
    fn attempt(&self, bytes: &mut Vec<u8>, wanted: u64) -> Result<(), Fault> {
        let from = bytes.len() as u64;
        let address = self.hub.address(self.repo, self.commit, &self.file.path);
        let (_, response, _) = self.hub.follow(&address, Some((from, wanted)))?;
        let is_part = response.status().as_u16() == 206;
        let body = response.into_body().into_reader();
        // A server without ranges begins at the start; what lies behind the header is not read from it either.
        let skipped = if is_part { 0 } else { from };
        let mut body = body.take(skipped + (wanted - from));
        let broken = |error: std::io::Error| Fault::passing(format!("the answer breaks off: {error}"));
        std::io::copy(&mut body.by_ref().take(skipped), &mut std::io::sink()).map_err(broken)?;
        body.read_to_end(bytes).map(drop).map_err(broken)
    }
}
