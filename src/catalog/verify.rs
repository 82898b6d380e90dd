//! Whether files are still what the hub published, and where they are not.

use super::error::Error;
use super::hash;
use super::parts::Parts;
use super::store::{Pulled, PulledFile};
use std::fs;
use std::io;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is the matter with a file.
#[derive(Debug)]
pub enum Finding {
    Sound,
    Missing,
    /// Where is known if its chunks are; otherwise it may be anywhere.
    Damaged {
        found: u64,
        ranges: Vec<Range<u64>>,
        sound: Vec<bool>,
    },
    Unreadable(io::Error),
}

impl Finding {
    pub fn is_sound(&self) -> bool {
        matches!(self, Finding::Sound)
    }
}

/// Hashes all files, several at once; in their order. `progress` hears of a file and bytes.
pub fn verify(pulled: &Pulled, threads: usize, progress: &(dyn Fn(usize, u64) + Sync)) -> Vec<Finding> {
    let files = &pulled.manifest.files;
    let next = AtomicUsize::new(0);
    let findings: Mutex<Vec<Option<Finding>>> = Mutex::new(files.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, files.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(file) = files.get(at) else { return };
                    let finding =
                        examine(pulled, file, |bytes| progress(at, bytes)).unwrap_or_else(Finding::Unreadable);
                    let mut findings = findings.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(slot) = findings.get_mut(at) {
                        *slot = Some(finding);
                    }
                }
            });
        }
    });
    let findings = findings.into_inner().unwrap_or_else(PoisonError::into_inner);
    findings.into_iter().map(|finding| finding.unwrap_or(Finding::Missing)).collect()
}

fn examine(pulled: &Pulled, file: &PulledFile, progress: impl FnMut(u64)) -> io::Result<Finding> {
    let path = pulled.path_of(file);
    let found = match fs::metadata(&path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Finding::Missing),
        Err(error) => return Err(error),
    };
    if found == file.size && hash::sha256(&path, progress)? == file.sha256 {
        return Ok(Finding::Sound);
    }
    let sound = hash::sound_chunks(&path, file)?;
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for (chunk, _) in sound.iter().enumerate().filter(|(_, is_sound)| !**is_sound) {
        let range = hash::chunk_range(file, chunk);
        match ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => ranges.push(range),
        }
    }
    Ok(Finding::Damaged { found, ranges, sound })
}

/// Makes damaged files such that are still to be fetched, in which what is sound stays.
pub fn reopen(pulled: &Pulled, findings: &[Finding]) -> Result<(), Error> {
    let _lock = Pulled::lock(&pulled.folder)?;
    for (file, finding) in pulled.manifest.files.iter().zip(findings) {
        if let Finding::Damaged { sound, .. } = finding
            && file.was_whole()
        {
            Parts::demote(&pulled.path_of(file), file, sound)?;
        }
    }
    Ok(())
}
