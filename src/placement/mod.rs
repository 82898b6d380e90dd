//! What of a model lies where: numbers in, a plan out.
//!
//! A [`Demand`] says what a model needs, a [`Machine`] what there is; [`place`] decides. Knows no file, no tensor
//! by name and no device but by its number, so that it can be tried on machines that nobody has.
//!
//! - `search`: the order in which things are given a place, and the choice among what comes of it.
//! - `speed`: how long a token takes on a plan, and what a prompt does.
//! - `pins`: what the user has decided.
//!
//! # The order
//!
//! What every token reads is worth most on the fastest memory: the head, then layer by layer attention, norms,
//! router, shared experts or dense feed-forward, and the layer's cache. Layers follow each other on one GPU
//! before the next one gets any, so that little is handed over. A routed expert is read by 1 token in 32 (of
//! DeepSeek-V3), so experts come last: as many as fit, expert by expert, filling one layer before the next,
//! because a layer without experts in RAM need not wait for the CPU at all.

mod pins;
#[cfg(test)]
mod properties;
mod search;
mod speed;

pub use pins::{BadPin, Pin, Pinned};
pub use search::{CannotPlace, place};
pub use speed::{Decode, ExpertCosts, Prefill, decode, expert_costs, prefill, streams_from};

use serde::Serialize;

/// Where something lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    Ram,
    Gpu(usize),
}

/// Weights that are read together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Part {
    pub bytes: u64,
    /// Parameters: a token costs two operations for each.
    pub parameters: u64,
    /// Seconds that this machine's CPU takes to read it for one token, at its best.
    pub cpu_decode: f64,
    /// Seconds a token that the CPU takes for it in a long prompt, at its best.
    pub cpu_prefill: f64,
}

/// What a model needs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Demand {
    /// The output head, which every token that is generated reads.
    pub head: Part,
    /// Bytes of the embeddings, of which a token reads one row. They stay in RAM.
    pub embedding: u64,
    pub layers: Vec<Layer>,
    /// Bytes of intermediate results on every device that computes what every token reads, or attends.
    pub scratch: u64,
    /// The same on one that computes routed experts alone; no more than that.
    pub scratch_experts: u64,
    /// Tokens of context that the caches of the layers are for.
    pub n_ctx: u64,
    /// Operations of one layer's attention for a token and each token before it: generating, and in a prompt.
    pub attention: [f64; 2],
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layer {
    /// What every token reads: all but the routed experts.
    pub fixed: Part,
    /// Bytes of cache for the whole context. It lies where `fixed` does.
    pub cache: u64,
    pub experts: Option<Experts>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Experts {
    pub n: u32,
    /// Experts that a token is given to.
    pub n_used: u32,
    /// One of them.
    pub each: Part,
}

impl Experts {
    pub fn bytes(&self) -> u64 {
        self.each.bytes.saturating_mul(self.n.into())
    }
}

/// What there is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Machine {
    /// Bytes of RAM that may be used.
    pub ram: u64,
    /// Bytes a second.
    pub ram_bandwidth: f64,
    /// Operations a second in attention.
    pub cpu_attention: f64,
    pub gpus: Vec<Gpu>,
    /// Bytes a second that come from the disk where the model lies.
    pub disk: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    /// Bytes that may be used.
    pub bytes: u64,
    /// Bytes a second.
    pub bandwidth: f64,
    /// Operations a second.
    pub flops: f64,
    /// Bytes a second from and to RAM.
    pub pcie: f64,
    /// Seconds that a layer loses when part of it is computed elsewhere.
    pub handoff: f64,
}

/// What lies where. Everything is in one place: `place` makes no other plans.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    pub head: Device,
    pub layers: Vec<LayerPlace>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LayerPlace {
    /// Of what every token reads, and of the cache.
    pub fixed: Device,
    /// How many routed experts each GPU holds; the others are in RAM. By number, the first GPU's are the
    /// first, and those in RAM the last.
    pub experts: Vec<u32>,
}

impl LayerPlace {
    /// How many of `n` experts are in RAM.
    pub fn in_ram(&self, n: u32) -> u32 {
        n.saturating_sub(self.experts.iter().sum())
    }
}

/// What lies on a device, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Head and embeddings.
    pub ends: u64,
    pub fixed: u64,
    pub experts: u64,
    pub cache: u64,
    pub scratch: u64,
}

impl Load {
    pub fn total(&self) -> u64 {
        [self.ends, self.fixed, self.experts, self.cache, self.scratch].iter().fold(0, |a, b| a.saturating_add(*b))
    }
}

impl Placement {
    /// Whether no routed experts are in RAM.
    pub fn is_without_ram(&self, demand: &Demand) -> bool {
        let mut layers = self.layers.iter().zip(&demand.layers);
        layers.all(|(place, layer)| layer.experts.is_none_or(|experts| place.in_ram(experts.n) == 0))
    }

    /// What lies on `device`.
    pub fn load(&self, demand: &Demand, device: Device) -> Load {
        let mut load = Load::default();
        if device == Device::Ram {
            load.ends += demand.embedding;
        }
        if self.head == device {
            load.ends += demand.head.bytes;
        }
        for (place, layer) in self.layers.iter().zip(&demand.layers) {
            if place.fixed == device {
                load.fixed += layer.fixed.bytes;
                load.cache += layer.cache;
            }
            if let Some(experts) = &layer.experts {
                let n = match device {
                    Device::Ram => place.in_ram(experts.n),
                    Device::Gpu(gpu) => place.experts.get(gpu).copied().unwrap_or(0),
                };
                load.experts += experts.each.bytes * u64::from(n);
            }
        }
        load.scratch = match (self.computes_fixed(device), load.experts) {
            (true, _) => demand.scratch,
            // What goes to GPUs, and comes from there, lies in RAM at least in part.
            (false, 1..) => demand.scratch_experts,
            (false, 0) if device == Device::Ram => demand.scratch_experts,
            (false, 0) => 0,
        };
        load
    }

    /// Whether a device computes anything but routed experts.
    fn computes_fixed(&self, device: Device) -> bool {
        self.head == device || self.layers.iter().any(|place| place.fixed == device)
    }

    /// Bytes by which what lies in RAM is more than the RAM there is.
    pub fn over_ram(&self, demand: &Demand, machine: &Machine) -> u64 {
        self.load(demand, Device::Ram).total().saturating_sub(machine.ram)
    }
}
