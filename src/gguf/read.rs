//! Reading files from the disk: several threads, large blocks, front to back, as disks are fastest.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Bytes that are read at once, and how many threads do: what disks want that answer many requests at a time.
const BLOCK: usize = 1 << 20;
const THREADS: usize = 8;
/// Reading past the page cache wants addresses, lengths and places in the file that are multiples of this.
const SECTOR: usize = 4096;

/// Is told of every so many bytes; reading ends where it answers false.
pub type Progress<'a> = &'a (dyn Fn(u64) -> bool + Sync);

/// Reads a part of a file, for what the system keeps of it; `is_there` says of which blocks it need not, `done` hears
/// of each that it has.
pub fn through(
    file: &File,
    part: Range<u64>,
    is_there: impl Fn(&Range<u64>) -> bool + Sync,
    done: impl Fn(&Range<u64>) -> bool + Sync,
) -> std::io::Result<()> {
    let next = AtomicU64::new(part.start);
    in_parallel(|| {
        let mut buffer = vec![0; BLOCK];
        loop {
            let start = next.fetch_add(BLOCK as u64, Ordering::Relaxed);
            let block = start..part.end.min(start.saturating_add(BLOCK as u64));
            if block.is_empty() {
                return Ok(());
            }
            if is_there(&block) {
                continue;
            }
            let len = (block.end - block.start) as usize;
            file.read_exact_at(buffer.get_mut(..len).unwrap_or_default(), block.start)?;
            if !done(&block) {
                return Err(ErrorKind::Interrupted.into());
            }
        }
    })
}

/// Fills `memory`, which begins at a page, with a file; past the page cache where `is_direct` and the file system can.
pub(super) fn into(path: &Path, memory: &mut [u8], is_direct: bool, progress: Progress<'_>) -> std::io::Result<()> {
    let file = File::open(path)?;
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path);
    let direct = direct.ok().filter(|_| is_direct);
    let blocks = Mutex::new(memory.chunks_mut(BLOCK).enumerate());
    in_parallel(|| {
        loop {
            let next = blocks.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((number, block)) = next else { return Ok(()) };
            let at = (number * BLOCK) as u64;
            let whole = block.len() / SECTOR * SECTOR;
            let (sectors, rest) = block.split_at_mut(whole);
            let is_read = direct.as_ref().is_some_and(|direct| direct.read_exact_at(sectors, at).is_ok());
            if !is_read {
                file.read_exact_at(sectors, at)?;
            }
            file.read_exact_at(rest, at + whole as u64)?;
            if !progress(block.len() as u64) {
                return Err(ErrorKind::Interrupted.into());
            }
        }
    })
}

fn in_parallel(work: impl Fn() -> std::io::Result<()> + Sync) -> std::io::Result<()> {
    thread::scope(|scope| {
        let readers: Vec<_> = (0..THREADS).map(|_| scope.spawn(&work)).collect();
        // All are waited for, whichever failed.
        let ended: Vec<std::io::Result<()>> = readers
            .into_iter()
            .map(|reader| reader.join().unwrap_or_else(|_| Err(Error::other("a reading thread ended"))))
            .collect();
        ended.into_iter().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use memmap2::MmapMut;

    #[test]
    fn files_of_any_length_are_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        for len in [1, SECTOR - 1, BLOCK, 3 * BLOCK + SECTOR + 5] {
            let bytes: Vec<u8> = (0..len).map(|at| (at / 7 % 251) as u8).collect();
            let path = folder.path().join(len.to_string());
            std::fs::write(&path, &bytes).unwrap();
            for is_direct in [false, true] {
                let mut memory = MmapMut::map_anon(len).unwrap();
                let seen = AtomicU64::new(0);
                let count = |n| seen.fetch_add(n, Ordering::Relaxed) < u64::MAX;
                into(&path, &mut memory, is_direct, &count).unwrap();
                assert!(memory[..] == bytes[..] && seen.into_inner() == len as u64, "{len}");
            }
            let seen = AtomicU64::new(0);
            let done = |block: &Range<u64>| seen.fetch_add(block.end - block.start, Ordering::Relaxed) < u64::MAX;
            let is_there = |block: &Range<u64>| block.start == BLOCK as u64;
            through(&File::open(&path).unwrap(), 0..len as u64, is_there, done).unwrap();
            assert_eq!(seen.into_inner(), (len - len.saturating_sub(BLOCK).min(BLOCK)) as u64);
        }
    }

    #[test]
    fn what_is_stopped_or_cut_short_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![7; 100]).unwrap();
        let mut memory = MmapMut::map_anon(101).unwrap();
        assert_eq!(into(&path, &mut memory, false, &|_| true).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        let mut memory = MmapMut::map_anon(100).unwrap();
        assert_eq!(into(&path, &mut memory, true, &|_| false).unwrap_err().kind(), ErrorKind::Interrupted);
        let file = File::open(&path).unwrap();
        assert!(
            through(&file, 0..100, |_| false, |_| false).is_err()
                && through(&file, 0..101, |_| false, |_| true).is_err()
        );
    }
}
