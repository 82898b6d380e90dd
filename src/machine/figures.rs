//! What was measured of this machine, kept in the user's cache folder until the machine is another one.

use super::described::a_core;
use super::{Card, GPU_OVERHEAD, Gpu, MEASURED, Machine, Rates, kernels, system::System};
use crate::engine::bench::machine::read_bandwidth;
use crate::engine::physical_cores;
use crate::experts::Isa;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// What tells this machine from others.
    fingerprint: String,
    /// Whose kernels were measured.
    pub kernels: String,
    /// Bytes a second that all cores together read from memory.
    pub bandwidth: f64,
    pub threads: usize,
    pub rates: Rates,
    /// Bytes a second, by disk.
    pub disks: BTreeMap<String, f64>,
}

impl Figures {
    /// The figures that are kept of this machine, if it is the same still and computes with the same kernels.
    pub fn kept(isa: Isa) -> Option<Figures> {
        Figures::of_this_machine().filter(|kept| kept.are_of(isa))
    }

    fn are_of(&self, isa: Isa) -> bool {
        self.kernels == isa.name()
    }

    fn of_this_machine() -> Option<Figures> {
        let text = fs::read_to_string(path()?).ok()?;
        serde_json::from_str::<Figures>(&text).ok().filter(|kept| kept.fingerprint == fingerprint())
    }

    /// Measures memory and kernels: some ten seconds. Disks that were measured before are kept.
    pub fn measure(isa: Isa, progress: &dyn Fn(&str)) -> Result<Figures, kernels::KernelError> {
        let threads = physical_cores();
        progress("memory");
        let bandwidth = read_bandwidth(threads);
        let rates = kernels::measure(isa, threads, progress)?;
        let disks = Figures::of_this_machine().map(|kept| kept.disks).unwrap_or_default();
        // Kernels read memory too, and may have found it less busy.
        let fastest = rates.decode.values().copied().fold(bandwidth, f64::max);
        let kernels = isa.name().to_owned();
        Ok(Figures { fingerprint: fingerprint(), kernels, bandwidth: fastest, threads, rates, disks })
    }

    /// What may be taken for a machine that has not been measured: rates of cores that are known, and of their memory
    /// what several of them read.
    pub fn assumed(isa: Isa) -> Figures {
        let threads = physical_cores();
        let (rates, kernels) = (a_core().times(threads as f64), isa.name().to_owned());
        let bandwidth = (threads as f64 * A_CORE_READS).min(MEMORY);
        Figures { fingerprint: fingerprint(), kernels, bandwidth, threads, rates, disks: BTreeMap::new() }
    }

    /// Keeps them, as far as there is somewhere to keep them: they are measured again otherwise.
    pub fn keep(&self) -> std::io::Result<()> {
        let Some(path) = path() else { return Ok(()) };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let partial = path.with_extension("partial");
        fs::write(&partial, serde_json::to_vec_pretty(self)?)?;
        fs::rename(partial, path)
    }

    /// This machine, with these figures.
    pub fn machine(&self, system: &System, cards: &[Card], disk: Option<&str>) -> Machine {
        let gpu = |card: &Card| {
            let [bandwidth, flops] = card.figures();
            let vram = card.free.saturating_sub(GPU_OVERHEAD);
            Gpu { name: card.name.clone(), vram, bandwidth, flops, pcie: card.pcie() }
        };
        let disk = disk.and_then(|disk| self.disks.get(disk)).copied();
        Machine {
            name: system.cpu.clone().unwrap_or_else(|| "this machine".to_owned()),
            ram: system.usable.unwrap_or(0),
            bandwidth: self.bandwidth,
            nodes: system.nodes,
            cores: self.threads,
            rates: self.rates.clone(),
            gpus: cards.iter().map(gpu).collect(),
            gpus_are_here: false,
            disk: disk.unwrap_or(UNKNOWN_DISK),
            efficiency: MEASURED,
            basis: "memory and kernels measured on this machine",
        }
    }
}

/// Bytes a second that one core reads, and that a usual workstation's memory gives.
const A_CORE_READS: f64 = 9e9;
const MEMORY: f64 = 80e9;

/// Bytes a second of a disk that was not measured: what a usual NVMe drive gives.
const UNKNOWN_DISK: f64 = 2e9;

fn path() -> Option<PathBuf> {
    Some(directories::ProjectDirs::from("", "", "cachalot")?.cache_dir().join("machine.json"))
}

/// CPU, cores, RAM to the GiB, and the build: whatever the figures depend on, but for the kernels that may be chosen.
fn fingerprint() -> String {
    let system = System::read();
    let cpu = system.cpu.unwrap_or_default();
    let ram = system.ram.unwrap_or(0) >> 30;
    let (version, backends) = (crate::ggml::version(), crate::ggml::backends().join(", "));
    format!("{cpu}; {} threads; {ram} GiB; {} nodes; ggml {version}: {backends}", physical_cores(), system.nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_the_kernels_that_were_measured() {
        let figures = Figures { kernels: Isa::Scalar.name().to_owned(), ..Figures::default() };
        assert!(figures.are_of(Isa::Scalar) && !figures.are_of(Isa::Ggml));
    }

    #[test]
    fn a_card_and_a_disk_become_parts_of_the_machine() {
        let mut figures = Figures { bandwidth: 1e10, threads: 4, ..Figures::default() };
        figures.disks.insert("/dev/sda on /".to_owned(), 5e8);
        let system = System { usable: Some(1 << 33), ..System::read() };
        let machine = figures.machine(&system, &[], Some("/dev/sda on /"));
        assert_eq!((machine.ram, machine.disk, machine.cores), (1 << 33, 5e8, 4));
        assert_eq!(figures.machine(&system, &[], None).disk, UNKNOWN_DISK);
    }
}
