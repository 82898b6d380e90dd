//! What Linux says of this machine. Everything is read from /proc and /sys; what is not there is `None`.

use crate::engine::{MemoryLimit, available_bytes, cgroup_file, memory_limit};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// What is found out without measuring.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct System {
    pub cpu: Option<String>,
    pub kernel: Option<String>,
    /// Bytes of RAM, and those that can be had without swapping; the page cache counts, for it gives way.
    pub ram: Option<u64>,
    pub available: Option<u64>,
    pub swap: Option<u64>,
    /// What of `available` the control groups of this process leave: what a model may use.
    pub usable: Option<u64>,
    /// The tightest of those groups, where one has a limit.
    pub cgroup: Option<MemoryLimit>,
    /// CPUs' worth of time that the control group may use.
    pub cgroup_cpus: Option<f64>,
    /// NUMA nodes that have memory.
    pub nodes: u32,
    /// `always`, `madvise` or `never`: huge pages for memory that is no file.
    pub huge_pages: Option<String>,
    /// Bytes of pages that are set aside as huge.
    pub huge_pages_reserved: Option<u64>,
    /// Bytes that may be locked in memory; `None` without a limit.
    pub memlock: Option<u64>,
    /// How the CPU's clock is governed.
    pub governor: Option<String>,
    /// Whether the kernel moves pages between NUMA nodes by itself.
    pub numa_balancing: bool,
}

impl System {
    pub fn read() -> System {
        let meminfo = text("/proc/meminfo").unwrap_or_default();
        let kib = |key: &str| field(&meminfo, key)?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024);
        let reserved = field(&meminfo, "HugePages_Total").and_then(|n| n.parse::<u64>().ok());
        System {
            cpu: crate::engine::bench::machine::cpu_name(),
            kernel: text("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            ram: kib("MemTotal"),
            available: kib("MemAvailable"),
            swap: kib("SwapTotal"),
            usable: available_bytes(),
            cgroup: memory_limit(),
            cgroup_cpus: cgroup_cpus(),
            nodes: nodes(Path::new("/sys/devices/system/node")),
            huge_pages: text("/sys/kernel/mm/transparent_hugepage/enabled").and_then(|text| chosen(&text)),
            huge_pages_reserved: reserved.zip(kib("Hugepagesize")).map(|(n, size)| n.saturating_mul(size)),
            memlock: memlock(),
            governor: text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").map(|text| text.trim().to_owned()),
            numa_balancing: text("/proc/sys/kernel/numa_balancing").is_some_and(|text| text.trim() != "0"),
        }
    }
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The value of `key: value`.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// `always [madvise] never` → `madvise`
fn chosen(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

fn memlock() -> Option<u64> {
    let limits = text("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cgroup_cpus() -> Option<f64> {
    let text = cgroup_file("cpu", "cpu.cfs_quota_us", "cpu.max")?;
    let mut parts = text.split_whitespace();
    let quota: f64 = parts.next()?.parse().ok().filter(|quota| *quota > 0.0)?;
    let period = match parts.next() {
        Some(period) => period.parse().ok()?,
        None => cgroup_file("cpu", "cpu.cfs_period_us", "cpu.max")?.trim().parse().ok()?,
    };
    Some(quota / f64::max(period, 1.0))
}

fn nodes(folder: &Path) -> u32 {
    let Ok(entries) = fs::read_dir(folder) else { return 1 };
    let is_node = |name: &str| name.strip_prefix("node").is_some_and(|n| n.parse::<u32>().is_ok());
    let has_memory = |path: &Path| {
        let meminfo = fs::read_to_string(path.join("meminfo")).unwrap_or_default();
        meminfo.lines().any(|line| line.contains("MemTotal:") && !line.trim().ends_with(" 0 kB"))
    };
    let nodes = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_node));
    (nodes.filter(|entry| has_memory(&entry.path())).count() as u32).max(1)
}

/// What identifies the block device that holds a path, for people: the device and where it is mounted.
pub fn disk_of(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = text("/proc/self/mounts")?;
    let mount = |line: &str| {
        let mut fields = line.split(' ');
        let (device, at) = (fields.next()?.to_owned(), PathBuf::from(fields.next()?));
        path.starts_with(&at).then(|| (at.components().count(), format!("{device} on {}", at.display())))
    };
    // Of mounts over each other the last one counts.
    mounts.lines().filter_map(mount).max_by_key(|(depth, _)| *depth).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_say() {
        assert_eq!(field("MemTotal:  24 kB\nMemFree: 3 kB\n", "MemFree"), Some("3 kB"));
        assert_eq!(chosen("always [madvise] never\n"), Some("madvise".to_owned()));
    }

    #[test]
    fn nodes_without_memory_are_none() {
        let folder = tempfile::tempdir().unwrap();
        for (node, total) in [("node0", 1000), ("node1", 0), ("node2", 5)] {
            fs::create_dir(folder.path().join(node)).unwrap();
            let text = format!("Node 0 MemTotal:       {total} kB\n");
            fs::write(folder.path().join(node).join("meminfo"), text).unwrap();
        }
        fs::create_dir(folder.path().join("power")).unwrap();
        assert_eq!(nodes(folder.path()), 2);
        assert_eq!(nodes(&folder.path().join("none")), 1);
    }

    #[test]
    fn this_machine_has_memory() {
        let system = System::read();
        assert!(system.ram.unwrap() >= system.available.unwrap() && system.usable.unwrap() > 0);
        assert!(disk_of(Path::new("/")).is_some());
    }
}
