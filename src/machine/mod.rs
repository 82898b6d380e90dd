//! Machines: this one as it measures itself, and those that a file describes.
//!
//! Owns what a memory, a CPU, a GPU and a disk are to a plan, and with which figures. Decides nothing: `placement`
//! does, on the numbers that [`Machine::demand`] and [`Machine::for_placement`] make for it.
//!
//! - `system`: what Linux says of this machine; `gpus`: what its driver says. [`kernels`]: how fast its CPU
//!   computes; [`disk`]: how fast its disks are read.
//! - `figures`: what was measured, kept for next time. `described`: machines in TOML. `demand`: models in numbers.

mod demand;
mod described;
pub mod disk;
mod figures;
mod gpus;
pub mod kernels;
pub mod system;

pub use crate::ggml::NoGpus;
pub use demand::Use;
pub use described::BadMachine;
pub use figures::Figures;
pub use gpus::{Card, cards, has_nvidia, usable};

use crate::gguf::TensorType;
use crate::placement;
use serde::Serialize;
use std::collections::BTreeMap;

/// A machine, in bytes, seconds and operations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    pub name: String,
    /// Bytes of RAM that a model may use.
    pub ram: u64,
    /// Bytes a second that all cores together read from it.
    pub bandwidth: f64,
    /// NUMA nodes.
    pub nodes: u32,
    pub cores: usize,
    pub rates: Rates,
    pub gpus: Vec<Gpu>,
    /// Whether this program computes on them, here and now.
    #[serde(skip)]
    pub gpus_are_here: bool,
    /// Bytes a second.
    pub disk: f64,
    pub efficiency: Efficiency,
    /// What the figures are from.
    pub basis: &'static str,
}

/// How fast all cores together compute.
#[derive(Debug, Clone, Default, PartialEq, Serialize, serde::Deserialize)]
pub struct Rates {
    /// Bytes a second of weights of a type, for one token.
    pub decode: BTreeMap<String, f64>,
    /// Operations a second with weights of a type, for many tokens.
    pub prefill: BTreeMap<String, f64>,
    /// Operations a second in attention.
    pub attention: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gpu {
    pub name: String,
    /// Bytes that a model may use.
    pub vram: u64,
    /// Bytes a second.
    pub bandwidth: f64,
    /// Operations a second in 16 bits.
    pub flops: f64,
    /// Bytes a second from and to RAM.
    pub pcie: f64,
}

/// Bytes of a GPU's memory that its driver and the libraries on it take.
pub const GPU_OVERHEAD: u64 = 600 << 20;

/// Seconds that a layer loses when part of it is computed on another device: results go there and back, and both
/// wait. What llama.cpp takes for it on PCIe 4 and 5.
const HANDOFF: f64 = 60e-6;

/// What predictions expect, at least and at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Efficiency {
    /// The part of the limit.
    pub generation: [f64; 2],
    /// The part of what kernels do with 64 tokens at once.
    pub prompts: [f64; 2],
    /// What it is taken from.
    pub source: &'static str,
}

/// What the limit counts is every byte, at the nominal bandwidth of where it lies.
pub const PUBLISHED: Efficiency = Efficiency {
    generation: [0.3, 0.7],
    prompts: [0.4, 1.2],
    source: "published runs of DeepSeek-V3 and R1 on five machines, 225 to 614 GB/s",
};

/// What this program reaches on a machine that has measured its kernels: the table in README, "Speed", against what
/// is predicted for it (a test holds them together).
pub const MEASURED: Efficiency = Efficiency {
    generation: [0.6, 1.0],
    prompts: [0.8, 1.6],
    source: "this program's own measurements on slices of DeepSeek-V3",
};

impl Machine {
    /// What placement needs to know.
    pub fn for_placement(&self) -> placement::Machine {
        let gpu = |gpu: &Gpu| placement::Gpu {
            bytes: gpu.vram,
            bandwidth: gpu.bandwidth,
            flops: gpu.flops,
            pcie: gpu.pcie,
            handoff: HANDOFF,
        };
        placement::Machine {
            ram: self.ram,
            ram_bandwidth: self.bandwidth,
            cpu_attention: self.rates.attention,
            gpus: self.gpus.iter().map(gpu).collect(),
            disk: self.disk,
        }
    }

    /// Bytes a second at which the CPU reads weights of this type for one token.
    fn decode_rate(&self, ty: TensorType) -> f64 {
        let kernel = self.rates.decode.get(ty.name()).or_else(|| self.rates.decode.get(kernels::like(ty).name()));
        kernel.copied().unwrap_or(f64::INFINITY).min(self.bandwidth)
    }

    /// Operations a second with weights of this type, for many tokens.
    fn prefill_rate(&self, ty: TensorType) -> f64 {
        let kernel = self.rates.prefill.get(ty.name()).or_else(|| self.rates.prefill.get(kernels::like(ty).name()));
        kernel.copied().unwrap_or(f64::INFINITY)
    }
}
