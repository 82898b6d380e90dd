//! How fast files are read from the disk: parts that the system does not hold, as models are read ahead.

use crate::engine::read_through;
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::num::NonZero;
use std::path::Path;
use std::time::Instant;

/// Bytes a second of a plain parallel read of up to `n_bytes` of a file. What is read is dropped from the page cache
/// before, so that the disk answers. Pages that somebody has mapped and used are kept all the same, and count as fast
/// as memory.
pub fn read_speed(path: &Path, n_bytes: u64) -> std::io::Result<f64> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let n_bytes = len.min(n_bytes);
    // From the middle: the beginning holds the header, which is in memory since it was read.
    let first = (len - n_bytes) / 2;
    fadvise(&file, first, NonZero::new(n_bytes), Advice::DontNeed)?;
    let start = Instant::now();
    read_through(&file, first..first + n_bytes, |_| false, |_| true)?;
    Ok(n_bytes as f64 / start.elapsed().as_secs_f64().max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_speed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![7; 5 << 20]).unwrap();
        assert!(read_speed(&path, u64::MAX).unwrap() > 0.0 && read_speed(&path, 1).unwrap() > 0.0);
        assert!(read_speed(&folder.path().join("none"), 1).is_err());
    }
}
