//! How many threads to compute with: one a physical core that this process may run on.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Threads that this process may run at once.
pub fn logical_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Physical cores that this process may use; a second thread on a core only gets in the first one's way.
/// Where the system does not tell, logical ones.
pub fn physical_cores() -> usize {
    let logical = logical_cores();
    let allowed = fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        parse_list(list)
    });
    let cores = allowed.and_then(|cpus| distinct_cores(Path::new("/sys/devices/system/cpu"), &cpus));
    // A quota of CPU time may be below the number of cores.
    cores.unwrap_or(logical).clamp(1, logical)
}

/// Cores among logical CPUs: those with the same first sibling are one.
fn distinct_cores(folder: &Path, cpus: &[usize]) -> Option<usize> {
    let first_sibling = |cpu: &usize| {
        let siblings = fs::read_to_string(folder.join(format!("cpu{cpu}/topology/thread_siblings_list"))).ok()?;
        parse_list(&siblings)?.first().copied()
    };
    let cores: Option<BTreeSet<usize>> = cpus.iter().map(first_sibling).collect();
    cores.map(|cores| cores.len()).filter(|n| *n > 0)
}

/// `0-2,8` → 0, 1, 2, 8
fn parse_list(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
        if to > 1 << 20 {
            return None;
        }
        cpus.extend(from..=to);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse_list(" 0-2,8\n"), Some(vec![0, 1, 2, 8]));
        assert_eq!(parse_list("5"), Some(vec![5]));
        assert_eq!(parse_list(""), None);
        assert_eq!(parse_list("0-99999999999"), None);
    }

    #[test]
    fn siblings_count_once() {
        let folder = tempfile::tempdir().unwrap();
        for (cpu, siblings) in [(0, "0,2"), (1, "1,3"), (2, "0,2"), (3, "1,3")] {
            let path = folder.path().join(format!("cpu{cpu}/topology"));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("thread_siblings_list"), format!("{siblings}\n")).unwrap();
        }
        assert_eq!(distinct_cores(folder.path(), &[0, 1, 2, 3]), Some(2));
        assert_eq!(distinct_cores(folder.path(), &[0, 2]), Some(1));
        assert_eq!(distinct_cores(folder.path(), &[0, 9]), None);
    }

    #[test]
    fn there_is_at_least_one() {
        let logical = std::thread::available_parallelism().unwrap().get();
        assert!((1..=logical).contains(&physical_cores()));
    }
}
