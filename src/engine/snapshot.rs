//! What is cached of a sequence, written down and read again, so that a long chat starts where it ended.
//!
//! A snapshot is a header (which model, how its cache is kept, which tokens), the rows of the cache layer by layer,
//! and a checksum after each of the two. It is streamed both ways. What is damaged, of another model, or of another
//! chat is refused, and nothing in the cache has changed for requests then.

use super::slots::Slots;
use super::worker::Command;
use super::{Engine, Gone, Info};
use crate::graph::{Forward, Routing, RowsError};
use crate::model::Fingerprint;
use std::io::{self, BufReader, Read, Write};
use std::sync::mpsc;

const MAGIC: &[u8; 8] = b"CACHALKV";
const VERSION: u32 = 1;
/// BLAKE3.
const CHECKSUM_BYTES: usize = 32;
/// Names of options, with zeros behind.
const NAME_BYTES: usize = 8;
const FIXED_BYTES: usize = MAGIC.len() + 4 + Fingerprint::BYTES + 2 * NAME_BYTES + 3 * 4;

/// A snapshot that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    pub n_tokens: usize,
    pub n_bytes: u64,
}

/// A snapshot that was read: a request that begins with these tokens finds them cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    pub n_tokens: usize,
}

/// Why a snapshot was not written, or is not used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the cache does not hold these tokens")]
    NotCached,
    #[error("this is no snapshot of a cache")]
    Format,
    #[error("the snapshot has version {0}, but this program knows {VERSION} only")]
    Version(u32),
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
    #[error("the snapshot is of another model")]
    Model,
    #[error("the snapshot is of a cache in {found}, but this one is in {expected}")]
    CacheType { found: String, expected: &'static str },
    #[error("the snapshot was computed with {found} routing, not {expected}")]
    Routing { found: String, expected: &'static str },
    #[error("the snapshot is of another conversation")]
    Stale,
    #[error("the snapshot has {n} tokens, for which there is no room in the context")]
    TooLong { n: usize },
    #[error("no sequence is free")]
    Busy,
    #[error("the snapshot cannot be read or written: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Rows(RowsError),
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// What stands before the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Header {
    fingerprint: Fingerprint,
    cache_type: [u8; NAME_BYTES],
    routing: [u8; NAME_BYTES],
    n_layer: u32,
    row_bytes: u32,
    tokens: Vec<u32>,
}

impl Engine {
    /// Bytes of a snapshot of so many tokens.
    pub fn snapshot_bytes(&self, n_tokens: usize) -> u64 {
        let a_token = self.info.cached_bytes_per_token + size_of::<u32>() as u64;
        (FIXED_BYTES + 2 * CHECKSUM_BYTES) as u64 + n_tokens as u64 * a_token
    }

    /// How many tokens are cached of the sequence that begins so; `None` if there is none.
    pub fn cached(&self, beginning: &[u32]) -> Result<Option<usize>, Gone> {
        let beginning = beginning.to_vec();
        self.with_cache(move |_, slots| slots.holding(&beginning).map(|slot| slots.get(slot).tokens.len()))
    }

    /// Writes down what is cached of the sequence that begins so, all of its tokens: behind a request's prompt its
    /// answer too. Waits for the step under way; requests wait until it is done. The writer comes back.
    pub fn export_cache<W: Write + Send + 'static>(
        &self,
        beginning: &[u32],
        writer: W,
    ) -> Result<(W, Exported), SnapshotError> {
        let (beginning, info) = (beginning.to_vec(), self.info.clone());
        self.with_cache(move |forward, slots| {
            let slot = slots.holding(&beginning).ok_or(SnapshotError::NotCached)?;
            let slot = slots.get(slot);
            let header = Header::new(&info, forward, slot.tokens.clone())?;
            let mut out = Hashed::new(writer);
            header.write(&mut out)?;
            forward.write_rows(slot.seq, slot.tokens.len(), &mut out).map_err(of_rows)?;
            out.write_checksum()?;
            Ok((out.inner, Exported { n_tokens: slot.tokens.len(), n_bytes: out.n_bytes }))
        })?
    }

    /// Reads a snapshot into the cache. With `wanted`, only so many of its tokens are taken as these begin with;
    /// without, all. Nothing needs to be told to the next request: it finds what it begins with.
    pub fn import_cache<R: Read + Send + 'static>(
        &self,
        reader: R,
        wanted: Option<&[u32]>,
    ) -> Result<Imported, SnapshotError> {
        let (wanted, info) = (wanted.map(<[u32]>::to_vec), self.info.clone());
        self.with_cache(move |forward, slots| {
            let mut input = Hashed::new(BufReader::new(reader));
            let header = Header::read(&mut input)?;
            header.check(&info, forward)?;
            let n = header.n_wanted(wanted.as_deref())?;
            // It is there already, or more than it.
            if slots.holding(header.tokens.get(..n).unwrap_or_default()).is_none() {
                import(forward, slots, &header, n, &mut input)?;
            }
            Ok(Imported { n_tokens: n })
        })?
    }

    fn with_cache<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Forward, &mut Slots) -> R + Send + 'static,
    ) -> Result<R, Gone> {
        let (sender, result) = mpsc::channel();
        self.send(Command::Cache(Box::new(move |forward, slots| drop(sender.send(job(forward, slots))))))?;
        result.recv().map_err(|_| Gone)
    }
}

/// Puts the first `n` tokens of a snapshot into a sequence that nobody uses.
fn import(
    forward: &mut Forward,
    slots: &mut Slots,
    header: &Header,
    n: usize,
    input: &mut Hashed<impl Read>,
) -> Result<(), SnapshotError> {
    if n > forward.options().n_ctx {
        return Err(SnapshotError::TooLong { n });
    }
    let chosen = slots.choose(&[]).ok_or(SnapshotError::Busy)?.slot;
    let mut forget = |slots: &mut Slots, slot: usize| {
        let slot = slots.get_mut(slot);
        slot.tokens.clear();
        forward.remove(slot.seq, 0..i32::MAX);
        forward.n_free()
    };
    let mut n_free = forget(slots, chosen);
    while n_free < n
        && let Some(oldest) = slots.oldest_idle()
    {
        n_free = forget(slots, oldest);
    }
    if n_free < n {
        return Err(SnapshotError::TooLong { n });
    }
    let seq = slots.get(chosen).seq;
    forward.read_rows(seq, n, header.tokens.len(), input).map_err(of_rows)?;
    if let Err(error) = input.check_checksum().and_then(|()| input.check_end()) {
        forward.remove(seq, 0..i32::MAX);
        return Err(error);
    }
    // It counts as used.
    slots.take(chosen);
    slots.get_mut(chosen).tokens = header.tokens.get(..n).unwrap_or_default().to_vec();
    slots.release(chosen);
    Ok(())
}

impl Header {
    fn new(info: &Info, forward: &Forward, tokens: Vec<u32>) -> Result<Header, SnapshotError> {
        let number = |n: usize| u32::try_from(n).map_err(|_| SnapshotError::TooLong { n: tokens.len() });
        Ok(Header {
            fingerprint: info.fingerprint,
            cache_type: padded(info.cache_type.name()),
            routing: padded(routing_name(info.routing)),
            n_layer: number(info.n_layer)?,
            row_bytes: number(forward.row_bytes())?,
            tokens,
        })
    }

    fn write(&self, out: &mut Hashed<impl Write>) -> Result<(), SnapshotError> {
        let n_tokens = u32::try_from(self.tokens.len()).unwrap_or(u32::MAX);
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(self.fingerprint.bytes())?;
        out.write_all(&self.cache_type)?;
        out.write_all(&self.routing)?;
        for number in [self.n_layer, self.row_bytes, n_tokens] {
            out.write_all(&number.to_le_bytes())?;
        }
        let tokens: Vec<u8> = self.tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        out.write_all(&tokens)?;
        out.write_checksum()
    }

    fn read(input: &mut Hashed<impl Read>) -> Result<Header, SnapshotError> {
        if input.bytes::<8>().ok().as_ref() != Some(MAGIC) {
            return Err(SnapshotError::Format);
        }
        let version = input.number()?;
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let fingerprint = Fingerprint::from_bytes(input.bytes()?);
        let (cache_type, routing) = (input.bytes()?, input.bytes()?);
        let [n_layer, row_bytes, n_tokens] = [input.number()?, input.number()?, input.number()?];
        // One by one: a number that is damaged must not take memory.
        let mut tokens = Vec::new();
        for _ in 0..n_tokens {
            tokens.push(input.number()?);
        }
        input.check_checksum()?;
        Ok(Header { fingerprint, cache_type, routing, n_layer, row_bytes, tokens })
    }

    /// Whether its rows are rows of this cache.
    fn check(&self, info: &Info, forward: &Forward) -> Result<(), SnapshotError> {
        let own = Header::new(info, forward, self.tokens.clone())?;
        if self.fingerprint != own.fingerprint || self.n_layer != own.n_layer {
            return Err(SnapshotError::Model);
        }
        if self.cache_type != own.cache_type || self.row_bytes != own.row_bytes {
            let expected = info.cache_type.name();
            return Err(SnapshotError::CacheType { found: unpadded(&self.cache_type), expected });
        }
        if self.routing != own.routing {
            return Err(SnapshotError::Routing {
                found: unpadded(&self.routing),
                expected: routing_name(info.routing),
            });
        }
        match self.tokens.iter().all(|token| (*token as usize) < info.n_vocab) {
            true => Ok(()),
            false => Err(SnapshotError::Damaged("it has tokens that the model has not")),
        }
    }

    /// How many of its tokens are of use.
    fn n_wanted(&self, wanted: Option<&[u32]>) -> Result<usize, SnapshotError> {
        let Some(wanted) = wanted else { return Ok(self.tokens.len()) };
        match self.tokens.iter().zip(wanted).take_while(|(a, b)| a == b).count() {
            0 => Err(SnapshotError::Stale),
            n => Ok(n),
        }
    }
}

/// Counts and hashes what goes through.
struct Hashed<T> {
    inner: T,
    hash: blake3::Hasher,
    n_bytes: u64,
}

impl<T> Hashed<T> {
    fn new(inner: T) -> Hashed<T> {
        Hashed { inner, hash: blake3::Hasher::new(), n_bytes: 0 }
    }

    fn count(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.n_bytes += bytes.len() as u64;
    }
}

impl<W: Write> Hashed<W> {
    /// Of everything so far.
    fn write_checksum(&mut self) -> Result<(), SnapshotError> {
        let checksum = self.hash.finalize();
        Ok(self.write_all(checksum.as_bytes())?)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.count(bytes.get(..n).unwrap_or(bytes));
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Hashed<R> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes).map_err(of_reading)?;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u32, SnapshotError> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn check_checksum(&mut self) -> Result<(), SnapshotError> {
        let expected: [u8; CHECKSUM_BYTES] = self.hash.finalize().into();
        match self.bytes()? == expected {
            true => Ok(()),
            false => Err(SnapshotError::Damaged("its checksum is another")),
        }
    }

    fn check_end(&mut self) -> Result<(), SnapshotError> {
        match self.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(SnapshotError::Damaged("it is too long")),
        }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(bytes)?;
        self.count(bytes.get(..n).unwrap_or(bytes));
        Ok(n)
    }
}

fn of_reading(error: io::Error) -> SnapshotError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => SnapshotError::Damaged("it is too short"),
        _ => SnapshotError::Io(error),
    }
}

fn of_rows(error: RowsError) -> SnapshotError {
    match error {
        RowsError::Io(error) => of_reading(error),
        error => SnapshotError::Rows(error),
    }
}

fn routing_name(routing: Routing) -> &'static str {
    match routing {
        Routing::DeepSeek => "deepseek",
        Routing::Plain => "plain",
    }
}

fn padded(name: &str) -> [u8; NAME_BYTES] {
    let mut bytes = [0; NAME_BYTES];
    bytes.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    bytes
}

fn unpadded(bytes: &[u8; NAME_BYTES]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::CacheType;

    #[test]
    fn names_fit() {
        let names = CacheType::ALL.map(CacheType::name).into_iter().chain(["deepseek", "plain"]);
        for name in names {
            assert_eq!(unpadded(&padded(name)), name);
        }
    }
}
