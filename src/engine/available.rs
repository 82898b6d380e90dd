//! How much memory can be had: what the system has left, and what the control groups of this process leave of it.

use std::fs;
use std::path::{Path, PathBuf};

/// What a control group may use of memory, and uses, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct MemoryLimit {
    pub limit: u64,
    pub used: u64,
    /// What of `used` is files, which give way.
    pub files: u64,
}

impl MemoryLimit {
    pub fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used.saturating_sub(self.files))
    }
}

/// Bytes that can be had without swapping; the page cache counts, for it gives way.
pub fn available_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)?;
    Some(memory_limit().map_or(available, |limit| limit.left().min(available)))
}

/// The limit of those that hold for this process which leaves least.
pub fn memory_limit() -> Option<MemoryLimit> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    tightest(Path::new("/sys/fs/cgroup"), &groups)
}

/// A file of this process's control group, of the first version's controller or of the second version.
pub fn cgroup_file(controller: &str, first: &str, second: &str) -> Option<String> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    folders(Path::new("/sys/fs/cgroup"), &groups, controller).into_iter().find_map(|(folder, version)| {
        let name = if version == Version::First { first } else { second };
        fs::read_to_string(folder.join(name)).ok()
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    First,
    Second,
}

/// The folders of the control groups that have a say in what `controller` controls, the innermost first. `groups` is
/// what /proc/self/cgroup says. Within a container the path there is often not the one that is mounted, and the root
/// has what counts.
fn folders(root: &Path, groups: &str, controller: &str) -> Vec<(PathBuf, Version)> {
    let mut all = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, version) = match controllers {
            "" => (root.to_owned(), Version::Second),
            list if list.split(',').any(|name| name == controller) => (root.join(controller), Version::First),
            _ => continue,
        };
        let path = Path::new(path.trim_start_matches('/'));
        all.extend(path.ancestors().map(|group| (root.join(group), version)));
    }
    all
}

fn tightest(root: &Path, groups: &str) -> Option<MemoryLimit> {
    let of = |(folder, version): (PathBuf, Version)| {
        let (limit, used, files) = match version {
            Version::First => {
                ("memory.limit_in_bytes", "memory.usage_in_bytes", ["total_active_file ", "total_inactive_file "])
            }
            Version::Second => ("memory.max", "memory.current", ["active_file ", "inactive_file "]),
        };
        let number = |name: &str| bytes(&fs::read_to_string(folder.join(name)).ok()?);
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let of_files = stat.lines().filter_map(|line| files.iter().find_map(|key| bytes(line.strip_prefix(key)?)));
        Some(MemoryLimit { limit: number(limit)?, used: number(used).unwrap_or(0), files: of_files.sum() })
    };
    folders(root, groups, "memory").into_iter().filter_map(of).min_by_key(MemoryLimit::left)
}

/// A number of bytes; none where it is so large, or so called, that it is no limit.
fn bytes(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
    }

    #[test]
    fn available_memory_is_that_of_the_system() {
        assert!(available_bytes().is_none_or(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn the_group_that_leaves_least_counts_and_files_give_way() {
        let root = tempfile::tempdir().unwrap();
        let files = |max, current| [("memory.max", max), ("memory.current", current)];
        group(&root.path().join("a/b"), &files("max\n", "50\n"));
        group(&root.path().join("a"), &files("1000\n", "700\n"));
        group(&root.path().join("a"), &[("memory.stat", "anon 200\nactive_file 100\ninactive_file 400\nfile 600\n")]);
        let found = tightest(root.path(), "0::/a/b\n").unwrap();
        assert_eq!((found, found.left()), (MemoryLimit { limit: 1000, used: 700, files: 500 }, 800));
        assert_eq!(tightest(root.path(), "0::/c\n"), None);
    }

    #[test]
    fn the_first_version_has_a_folder_for_each_controller() {
        let root = tempfile::tempdir().unwrap();
        let files = [("memory.limit_in_bytes", "500\n"), ("memory.usage_in_bytes", "90\n")];
        group(&root.path().join("memory"), &files);
        // The path is that of the host, which is not there.
        let groups = "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n";
        assert_eq!(tightest(root.path(), groups), Some(MemoryLimit { limit: 500, used: 90, files: 0 }));
        assert_eq!(bytes("9223372036854771712\n"), None);
    }
}
