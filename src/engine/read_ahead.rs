//! Reading files from the disk before their pages are needed: several threads, large blocks, front to back, as
//! disks are fastest. What is read stays in the page cache, where the mapping finds it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Bytes that are read at once, and how many threads do: what disks want that answer many requests at a time.
const BLOCK: u64 = 4 << 20;
const THREADS: u64 = 8;

/// Reads files whole, one behind the other; `progress` is told of every so many bytes.
pub fn read_ahead(files: &[PathBuf], progress: &(dyn Fn(u64) + Sync)) -> std::io::Result<()> {
    files.iter().try_for_each(|path| {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        read_range(&file, 0, len, progress)
    })
}

/// Reads `n_bytes` of a file from `first` on.
pub fn read_range(file: &File, first: u64, n_bytes: u64, progress: &(dyn Fn(u64) + Sync)) -> std::io::Result<()> {
    let next = AtomicU64::new(0);
    let read_blocks = || -> std::io::Result<()> {
        let mut buffer = vec![0; BLOCK as usize];
        loop {
            let at = next.fetch_add(BLOCK, Ordering::Relaxed);
            if at >= n_bytes {
                return Ok(());
            }
            let n = BLOCK.min(n_bytes - at);
            file.read_exact_at(buffer.get_mut(..n as usize).unwrap_or_default(), first + at)?;
            progress(n);
        }
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..THREADS).map(|_| scope.spawn(read_blocks)).collect();
        readers.into_iter().try_for_each(|reader| match reader.join() {
            Ok(result) => result,
            Err(_) => Err(std::io::Error::other("a reading thread ended")),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_any_length_are_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let lens = [0, 1, BLOCK - 1, 3 * BLOCK + 5];
        let paths = lens.map(|len| {
            let path = folder.path().join(len.to_string());
            std::fs::write(&path, vec![7; len as usize]).unwrap();
            path
        });
        let seen = AtomicU64::new(0);
        read_ahead(&paths, &|n| {
            seen.fetch_add(n, Ordering::Relaxed);
        })
        .unwrap();
        assert_eq!(seen.into_inner(), lens.iter().sum::<u64>());
        assert!(read_ahead(&[folder.path().join("none")], &|_| ()).is_err());
    }
}
