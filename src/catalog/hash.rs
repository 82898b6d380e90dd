//! Hashes of files: SHA-256 of the whole, which the hub publishes, and BLAKE3 of its chunks, which tell where a file
//! is damaged.

use super::store::{ChunkHash, PulledFile};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Read at once.
pub(super) const BUFFER: usize = 1 << 20;

/// Chunks of a file: 64 of them, within bounds, so that little is lost of a large file and a small one has not many.
pub(super) fn chunk_bytes(size: u64) -> u64 {
    (size / 64).max(1).next_power_of_two().clamp(64 << 10, 64 << 20)
}

/// Where a chunk is.
pub(super) fn chunk_range(entry: &PulledFile, chunk: usize) -> Range<u64> {
    let start = entry.chunk_bytes.saturating_mul(chunk as u64).min(entry.size);
    start..start.saturating_add(entry.chunk_bytes).min(entry.size)
}

pub(super) fn hex(sha: Sha256) -> String {
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Feeds a range of a file to `take`, piece by piece.
pub(super) fn read_range(file: &File, range: Range<u64>, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut at = range.start;
    while at < range.end {
        let n = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(buffer.len());
        let piece = buffer.get_mut(..n).unwrap_or_default();
        file.read_exact_at(piece, at)?;
        take(piece);
        at += n as u64;
    }
    Ok(())
}

pub(super) fn chunk(file: &File, range: Range<u64>) -> io::Result<ChunkHash> {
    let mut hasher = blake3::Hasher::new();
    read_range(file, range, |piece| {
        hasher.update(piece);
    })?;
    Ok(ChunkHash(hasher.finalize()))
}

pub(super) fn sha256(path: &Path, mut progress: impl FnMut(u64)) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut sha = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(sha)),
            n => {
                sha.update(buffer.get(..n).unwrap_or_default());
                progress(n as u64);
            }
        }
    }
}

/// Both kinds in one pass; the file has the size that the entry says.
pub(super) fn both(
    path: &Path,
    entry: &PulledFile,
    mut progress: impl FnMut(u64),
) -> io::Result<(String, Vec<ChunkHash>)> {
    let file = File::open(path)?;
    let mut sha = Sha256::new();
    let mut chunks = Vec::new();
    for number in 0..entry.n_chunks() {
        let mut hasher = blake3::Hasher::new();
        read_range(&file, chunk_range(entry, number), |piece| {
            sha.update(piece);
            hasher.update(piece);
            progress(piece.len() as u64);
        })?;
        chunks.push(ChunkHash(hasher.finalize()));
    }
    Ok((hex(sha), chunks))
}

/// For each chunk, whether it is as it was; what lies behind the end of the file is not.
pub(super) fn sound_chunks(path: &Path, entry: &PulledFile) -> io::Result<Vec<bool>> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut sound = Vec::new();
    for (number, expected) in entry.chunks.iter().enumerate() {
        let range = chunk_range(entry, number);
        sound.push(range.end <= len && chunk(&file, range)? == *expected);
    }
    Ok(sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_64_within_bounds() {
        assert_eq!(chunk_bytes(1), 64 << 10);
        assert_eq!(chunk_bytes(7_800_000), 128 << 10);
        assert_eq!(chunk_bytes(50_000_000_000), 64 << 20);
        assert_eq!(chunk_bytes(u64::MAX / 2), 64 << 20);
    }

    #[test]
    fn damage_is_found_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut bytes: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let mut entry = PulledFile {
            name: "a.gguf".to_owned(),
            path: "a.gguf".to_owned(),
            size: 200_000,
            sha256: String::new(),
            chunk_bytes: chunk_bytes(200_000),
            chunks: Vec::new(),
        };
        let (sha, chunks) = both(&path, &entry, |_| ()).unwrap();
        assert_eq!(sha, sha256(&path, |_| ()).unwrap());
        assert_eq!(sha, Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        entry.chunks = chunks;
        assert_eq!(sound_chunks(&path, &entry).unwrap(), [true; 4]);
        bytes[70_000] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(sound_chunks(&path, &entry).unwrap(), [true, false, true, true]);
        std::fs::write(&path, &bytes[..199_999]).unwrap();
        assert_eq!(sound_chunks(&path, &entry).unwrap(), [true, false, true, false]);
    }
}
