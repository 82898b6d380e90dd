//! NVIDIA's GPUs: as the driver's own tool lists them, for which nothing of CUDA is loaded, and as those that are
//! computed on.

use crate::ggml::{Gpu, NoGpus};
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A GPU of this machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Card {
    pub name: String,
    pub driver: String,
    /// Bytes.
    pub memory: u64,
    pub free: u64,
    /// PCIe: generation and lanes at most, and as they are now (a card that idles may slow its link down).
    pub pcie_max: [u32; 2],
    pub pcie_now: [u32; 2],
    pub compute_capability: String,
    /// Where it is on the bus.
    pub bus: String,
}

const FIELDS: &str = "name,driver_version,memory.total,memory.free,pcie.link.gen.max,pcie.link.width.max,\
    pcie.link.gen.current,pcie.link.width.current,compute_cap,pci.bus_id";

/// The GPUs there are; an error says why none are known.
pub fn cards() -> Result<Vec<Card>, String> {
    let query = ["--query-gpu", FIELDS].join("=");
    let output = Command::new("nvidia-smi").args([&query, "--format=csv,noheader,nounits"]).output();
    let output = output.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "nvidia-smi is not installed".to_owned(),
        _ => format!("nvidia-smi: {error}"),
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(format!("nvidia-smi: {}", text.lines().next().unwrap_or("failed without a word").trim()));
    }
    Ok(text.lines().filter_map(card).collect())
}

/// Whether a display adapter or accelerator of NVIDIA's is on the bus, whatever its driver says.
pub fn has_nvidia() -> bool {
    has_nvidia_in(Path::new("/sys/bus/pci/devices"))
}

fn has_nvidia_in(devices: &Path) -> bool {
    let Ok(entries) = fs::read_dir(devices) else { return false };
    let says = |folder: &Path, file: &str, what: &str| {
        fs::read_to_string(folder.join(file)).is_ok_and(|text| text.trim().starts_with(what))
    };
    let is = |folder: &Path| says(folder, "vendor", "0x10de") && says(folder, "class", "0x03");
    entries.flatten().any(|entry| is(&entry.path()))
}

fn card(line: &str) -> Option<Card> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [name, driver, memory, free, max_gen, max_width, now_gen, now_width, capability, bus] = fields.as_slice()
    else {
        return None;
    };
    let mib = |text: &str| text.parse::<u64>().ok().map(|n| n << 20);
    let number = |text: &str| text.parse().unwrap_or(0);
    Some(Card {
        name: (*name).to_owned(),
        driver: (*driver).to_owned(),
        memory: mib(memory)?,
        free: mib(free)?,
        pcie_max: [number(max_gen), number(max_width)],
        pcie_now: [number(now_gen), number(now_width)],
        compute_capability: (*capability).to_owned(),
        bus: (*bus).to_owned(),
    })
}

/// The GPUs that this program computes on, in the order in which plans count them. Asking wakes the driver up.
pub fn usable() -> Result<Vec<Card>, NoGpus> {
    let gpus = Gpu::all()?;
    let listed = cards().unwrap_or_default();
    Ok(gpus.iter().map(|gpu| with_link(gpu, &listed)).collect())
}

/// A GPU that is computed on, with what the driver's tool says of its link: as CUDA names places on the bus, the end
/// of what the tool says. A link that nobody knows counts as PCIe 4 with 16 lanes.
fn with_link(gpu: &Gpu, listed: &[Card]) -> Card {
    let facts = gpu.facts();
    let bus = facts.bus.clone().unwrap_or_default().to_ascii_lowercase();
    let is_it = |card: &&Card| !bus.is_empty() && card.bus.to_ascii_lowercase().ends_with(&bus);
    let link = listed.iter().find(is_it).or_else(|| listed.iter().find(|card| card.name == facts.name));
    let [major, minor] = facts.compute_capability;
    Card {
        name: facts.name.clone(),
        driver: link.map_or_else(|| "unknown".to_owned(), |card| card.driver.clone()),
        memory: facts.memory,
        free: facts.free,
        pcie_max: link.map_or([4, 16], |card| card.pcie_max),
        pcie_now: link.map_or([4, 16], |card| card.pcie_now),
        compute_capability: format!("{major}.{minor}"),
        bus,
    }
}

impl Card {
    /// Bytes a second that its link moves in one direction: four fifths of what the bus is made for.
    pub fn pcie(&self) -> f64 {
        let [generation, lanes] = self.pcie_max;
        let a_lane = match generation {
            0 | 1 => 0.25e9,
            2 => 0.5e9,
            n => 0.985e9 * f64::from(1u32 << (n.min(7) - 3)),
        };
        0.8 * a_lane * f64::from(lanes.max(1))
    }

    /// Memory bandwidth and operations a second in 16 bits, dense, as the vendor states them; a modest card's where
    /// the name is not known.
    pub fn figures(&self) -> [f64; 2] {
        let known = KNOWN.iter().find(|(name, ..)| self.name.contains(name));
        let (_, gb_s, tflops) = known.copied().unwrap_or(("", 400.0, 50.0));
        [gb_s * 1e9, tflops * 1e12]
    }

    pub fn is_known(&self) -> bool {
        KNOWN.iter().any(|(name, ..)| self.name.contains(name))
    }
}

/// Part of the name, GB/s, teraflops. The more particular names come first.
const KNOWN: [(&str, f64, f64); 22] = [
    ("H200", 4800.0, 989.0),
    ("H100 PCIe", 2000.0, 756.0),
    ("H100 NVL", 3900.0, 835.0),
    ("H100", 3350.0, 989.0),
    ("B200", 8000.0, 2250.0),
    ("A100-SXM4-80GB", 2039.0, 312.0),
    ("A100 80GB", 1935.0, 312.0),
    ("A100", 1555.0, 312.0),
    ("RTX PRO 6000", 1792.0, 500.0),
    ("RTX 6000 Ada", 960.0, 364.0),
    ("L40S", 864.0, 362.0),
    ("L40", 864.0, 181.0),
    ("RTX A6000", 768.0, 155.0),
    ("A40", 696.0, 150.0),
    ("RTX 5090", 1792.0, 210.0),
    ("RTX 5080", 960.0, 113.0),
    ("RTX 4090", 1008.0, 165.0),
    ("RTX 4080", 717.0, 97.0),
    ("RTX 3090", 936.0, 71.0),
    ("RTX 3080", 760.0, 60.0),
    ("RTX 3060", 360.0, 25.0),
    ("L4", 300.0, 121.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_card() {
        let line = "NVIDIA GeForce RTX 4090, 580.65.06, 24564, 24111, 4, 16, 1, 16, 8.9, 00000000:01:00.0";
        let card = card(line).unwrap();
        assert_eq!((card.memory, card.pcie_max, card.pcie_now), (24_564 << 20, [4, 16], [1, 16]));
        assert_eq!((card.figures()[0], card.is_known()), (1008e9, true));
        assert!((card.pcie() / 25.2e9 - 1.0).abs() < 0.01);
        let idle = super::card("NVIDIA H200, 580.159.04, 143771, 143156, 5, 16, 5, 16, 9.0, 00000000:0A:00.0").unwrap();
        assert_eq!((idle.free, idle.figures()[0]), (143_156 << 20, 4800e9));
        assert_eq!(super::card("no, card"), None);
    }

    #[test]
    fn a_card_without_a_driver_is_seen_on_the_bus() {
        let folder = tempfile::tempdir().unwrap();
        let device = |name: &str, vendor: &str, class: &str| {
            let device = folder.path().join(name);
            fs::create_dir(&device).unwrap();
            fs::write(device.join("vendor"), vendor).unwrap();
            fs::write(device.join("class"), class).unwrap();
        };
        device("0000:00:02.0", "0x8086\n", "0x030000\n");
        // The sound of a card that is elsewhere.
        device("0000:01:00.1", "0x10de\n", "0x040300\n");
        assert!(!has_nvidia_in(folder.path()));
        device("0000:01:00.0", "0x10de\n", "0x030200\n");
        assert!(has_nvidia_in(folder.path()));
        assert!(!has_nvidia_in(&folder.path().join("none")));
    }

    #[test]
    fn particular_names_are_not_hidden_by_general_ones() {
        for (at, (name, ..)) in KNOWN.iter().enumerate() {
            assert!(KNOWN[..at].iter().all(|(before, ..)| !name.contains(before)), "{name}");
        }
    }
}
