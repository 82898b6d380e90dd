//! A file in memory: mapped, or a part of the program. Owns the mapping; refuses to know what is in it.
//!
//! # What the map can and cannot promise
//!
//! The mapping is shared and read-only, so weights are in RAM once, in the page cache, however many
//! processes use them, and a second start finds them there. The price: another process can still
//! change or truncate the file. Nothing read from a header is trusted again by position alone (every
//! later access is bounds-checked against the mapping's own length), so changed bytes give wrong
//! numbers. One thing cannot be had: a `&str` borrowed from the map was UTF-8 when it was checked,
//! and who rewrites the file at that moment breaks what Rust assumes of it; keys and names are
//! copied for that reason, long values are not. A truncated file, or a failing disk, raises SIGBUS,
//! which `sigbus` turns into a message and an exit code.

#![allow(unsafe_code)]

use super::error::{Error, Problem};
use super::{read, sigbus};
use memmap2::{Advice, Mmap, MmapMut};
use std::fs::{File, FileType, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

pub(super) enum Map {
    File {
        // Dropped before the mapping itself: the handler must not name a range that is gone.
        _watch: Option<sigbus::Watch>,
        mmap: Option<Mmap>,
    },
    Embedded(&'static [u8]),
}

impl Map {
    /// Maps a regular file. Never blocks: a FIFO is refused, not opened.
    ///
    /// No advice is given for the whole map. The header is read once from front to back, which the
    /// kernel's own read-ahead already serves; `MADV_RANDOM` would turn it into a fault per 4 KiB
    /// page, and `MADV_WILLNEED` on the whole would pull 250 GB from the disk to show a table.
    /// Whoever reads tensor data knows what comes next and says so with [`read_ahead`](Self::read_ahead).
    pub(super) fn open(path: &Path) -> Result<Map, Error> {
        let file = open_regular(path)?;
        let len = file.metadata().map_err(|e| Error::new(path, Problem::Unreadable(e)))?.len();
        if len == 0 {
            return Ok(Map::File { _watch: None, mmap: None });
        }
        // SAFETY: the mapping is read-only and lives as long as `Map`; see the head of this file for
        // what happens when somebody else changes or truncates the file meanwhile.
        let mmap = unsafe { Mmap::map(&file) }.map_err(|e| Error::new(path, Problem::Unreadable(e)))?;
        let watch = sigbus::watch(mmap.as_ptr() as usize..mmap.as_ptr() as usize + mmap.len(), path);
        Ok(Map::File { _watch: watch, mmap: Some(mmap) })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Map::File { mmap, .. } => mmap.as_deref().unwrap_or_default(),
            Map::Embedded(bytes) => bytes,
        }
    }

    /// Bytes that are in memory, in whole pages; all of what is a part of the program. What the system does not say
    /// counts as absent.
    pub(super) fn resident(&self) -> u64 {
        self.resident_of(0..self.bytes().len())
    }

    fn resident_of(&self, part: Range<usize>) -> u64 {
        let mmap = match self {
            Map::File { mmap: Some(mmap), .. } => mmap,
            Map::File { mmap: None, .. } => return 0,
            Map::Embedded(_) => return part.len() as u64,
        };
        let page = rustix::param::page_size();
        let part = part.start / page * page..part.end.min(mmap.len());
        // A byte a page; in pieces, for a map of 400 GB has 100 million pages.
        const PAGES: usize = 1 << 20;
        let mut present = vec![0u8; PAGES.min(part.len().div_ceil(page))];
        let mut n_pages = 0;
        for start in part.clone().step_by(PAGES * page) {
            let len = (PAGES * page).min(part.end - start);
            // SAFETY: the range lies in the mapping, which `self` keeps, and begins at a page of it; `present` has a
            // byte for each page of the range. Nothing but these bytes is written.
            let status = unsafe {
                let address = mmap.as_ptr().add(start).cast_mut().cast::<libc::c_void>();
                libc::mincore(address, len, present.as_mut_ptr())
            };
            if status == 0 {
                n_pages += present.iter().take(len.div_ceil(page)).filter(|byte| **byte & 1 == 1).count();
            }
        }
        ((n_pages * page) as u64).min(part.len() as u64)
    }

    /// Reads what of the file is not in memory into the page cache, and puts it into the page table, so that no later
    /// access waits; what is there is left alone.
    pub(super) fn fill(&self, path: &Path, progress: read::Progress<'_>) -> std::io::Result<()> {
        let Map::File { mmap: Some(mmap), .. } = self else { return Ok(()) };
        let part = |block: &Range<u64>| block.start as usize..block.end as usize;
        let is_there = |block: &Range<u64>| self.resident_of(part(block)) == block.end - block.start;
        let done = |block: &Range<u64>| {
            let range = part(block);
            // Advice that kernels before 5.14 do not know; the pages are found at the first access then.
            let _ = mmap.advise_range(Advice::PopulateRead, range.start, range.len());
            progress(block.end - block.start)
        };
        read::through(&File::open(path)?, 0..mmap.len() as u64, is_there, done)
    }

    /// Reads the file into memory of the process's own, in place of the mapping. The first `n_checked` bytes must be
    /// what was mapped: a file that was exchanged meanwhile is another one.
    pub(super) fn copy(&mut self, path: &Path, n_checked: u64, progress: read::Progress<'_>) -> std::io::Result<()> {
        let Map::File { mmap: Some(mmap), .. } = self else { return Ok(()) };
        let mut memory = MmapMut::map_anon(mmap.len())?;
        // Fewer pages to look up for what is read all over; where the system has none, small ones do.
        let _ = memory.advise(Advice::HugePage);
        // What is in the page cache comes fastest from there; what is not need not be in memory twice.
        let is_direct = self.resident() < self.bytes().len() as u64 / 2;
        read::into(path, &mut memory, is_direct, progress)?;
        let checked = ..usize::try_from(n_checked).unwrap_or(usize::MAX);
        if memory.get(checked) != self.bytes().get(checked) {
            return Err(std::io::Error::other("the file was changed while it was read"));
        }
        *self = Map::File { _watch: None, mmap: Some(memory.make_read_only()?) };
        Ok(())
    }

    /// Keeps the system from taking the memory back.
    pub(super) fn lock(&self) -> std::io::Result<()> {
        let bytes = self.bytes();
        // SAFETY: the range is that of a live slice; locking changes nothing of its content.
        match unsafe { libc::mlock(bytes.as_ptr().cast(), bytes.len()) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }

    /// Tells the kernel that `range` will be read once, from front to back, so that it reads far ahead.
    /// Advice only: failure changes nothing but speed.
    pub(super) fn read_ahead(&self, range: Range<u64>) {
        let (Map::File { mmap: Some(mmap), .. }, Ok(start), Ok(end)) =
            (self, usize::try_from(range.start), usize::try_from(range.end))
        else {
            return;
        };
        if start < end && end <= mmap.len() {
            let _ = mmap.advise_range(Advice::Sequential, start, end - start);
        }
    }
}

fn open_regular(path: &Path) -> Result<File, Error> {
    let error = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => Error::new(path, Problem::NotFound),
        _ => Error::new(path, Problem::Unreadable(e)),
    };
    require_regular(path, std::fs::metadata(path).map_err(error)?.file_type())?;
    // Should it have become a FIFO since: O_NONBLOCK keeps the open from waiting for a writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(error)?;
    require_regular(path, file.metadata().map_err(error)?.file_type())?;
    Ok(file)
}

fn require_regular(path: &Path, ty: FileType) -> Result<(), Error> {
    let problem = match ty {
        _ if ty.is_file() => return Ok(()),
        _ if ty.is_dir() => "a folder",
        _ if ty.is_fifo() => "a FIFO",
        _ if ty.is_socket() => "a socket",
        _ => "a device",
    };
    Err(Error::new(path, Problem::NotAFile(problem)))
}
