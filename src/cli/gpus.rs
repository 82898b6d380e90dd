//! The options that say what of a model goes to GPUs, and the plan that is made of them.

use super::output::remark;
use super::size;
use crate::engine::{NoPlan, Planned, Planner, Sharing, Streams, Wanted};
use crate::experts::{Costs, Isa, Shares};
use crate::machine::system::System;
use crate::machine::{Figures, NoGpus, Use, usable};
use crate::model::{Outline, Role};
use crate::placement::{Device, ExpertCosts, Pin, Pinned, expert_costs, place, streams_from};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Once;

#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct GpuOptions {
    /// Layers, the last ones, of which GPUs may hold something, if there are any; 0 is the CPU alone [default: all]
    #[arg(long, value_name = "N", alias = "n-gpu-layers", value_parser = layers)]
    gpu_layers: Option<usize>,
    /// Layers, the first ones, whose routed experts stay in RAM
    #[arg(long, value_name = "N", hide_short_help = true)]
    n_cpu_moe: Option<usize>,
    /// Keep all routed experts in RAM
    #[arg(long, hide_short_help = true)]
    cpu_moe: bool,
    /// Memory that may be used of each GPU: 24G,24G [default: what is free]
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',', value_parser = size::bytes)]
    vram: Vec<u64>,
    /// Of the experts in RAM that a layer needs, so many are sent to its GPU and computed there, while the CPU computes the
    /// others; `auto` is as many as measured speeds say, `none` has the GPU wait [default: auto]
    #[arg(long, value_name = "N", hide_short_help = true)]
    send: Option<Send>,
    /// Have something lie on a device, as `plan` has it: blk.3-10.experts=gpu0, blk.5=ram, head=gpu0; may be repeated
    #[arg(long, value_name = "WHAT=DEVICE")]
    pin: Vec<Pin>,
}

/// How many experts are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Send {
    None,
    Auto,
    Number(usize),
}

impl FromStr for Send {
    type Err = String;

    fn from_str(text: &str) -> Result<Send, String> {
        match text {
            "none" => Ok(Send::None),
            "auto" => Ok(Send::Auto),
            text => {
                text.parse().map(Send::Number).map_err(|_| format!("'{text}' is neither a number, nor auto or none"))
            }
        }
    }
}

/// A number of layers; llama.cpp has words for all of them, and negative numbers.
fn layers(text: &str) -> Result<usize, String> {
    match text {
        "all" | "auto" => Ok(usize::MAX),
        text if text.parse::<i64>().is_ok_and(|n| n < 0) => Ok(usize::MAX),
        text => text.parse().map_err(|_| format!("'{text}' is neither a number of layers nor all")),
    }
}

/// Bytes of a model that the CPU computes sooner than the driver wakes up.
const SMALL: u64 = 256 << 20;

/// Tokens of a prompt that are computed at once where GPUs have so many bytes free, most first: experts in RAM go over the bus once
/// for all of them, and each gets more.
const MANY: [(u64, u64); 2] = [(4096, 40 << 30), (2048, 20 << 30)];

/// The part of the bus's speed that copies reach which the driver makes of memory that it does not know: 6.8 of 55 GB/s
/// on PCIe 5.
const PAGEABLE: f64 = 0.13;

/// The part of a GPU's memory, one of so many, that slots for a matrix of experts take at most.
const SLOTS: u64 = 24;

/// The part of a GPU's memory, one of so many, that slots for two layers take at most.
const AHEAD: u64 = 4;

/// By layer, as the forward pass takes them.
fn shares(costs: &[Option<ExpertCosts>]) -> Vec<Option<Shares>> {
    let balanced = |costs: &ExpertCosts| {
        let ExpertCosts { send, read, token, ram } = *costs;
        Shares::Balanced(Costs::new(send, read, token, ram))
    };
    costs.iter().map(|costs| costs.as_ref().map(balanced)).collect()
}

/// Bytes of the largest tensor of routed experts.
fn largest_routed(outline: &Outline) -> u64 {
    let routed = outline.tensors.iter().filter(|info| Role::of(&info.name).class.is_routed());
    routed.map(|info| outline.bytes(info)).max().unwrap_or(0)
}

/// Bytes of slots for all experts of a layer, whichever layer it is.
fn slot_bytes(outline: &Outline) -> u64 {
    let routed = outline.tensors.iter().filter(|info| Role::of(&info.name).class.is_routed());
    let by_kind: BTreeMap<_, _> =
        routed.map(|info| ((Role::of(&info.name).class, info.ty.id()), outline.bytes(info))).collect();
    by_kind.values().sum()
}

/// More budgets than GPUs.
#[derive(Debug, thiserror::Error)]
#[error("--vram names {named} GPUs, but there are {there}")]
struct TooManyBudgets {
    named: usize,
    there: usize,
}

impl GpuOptions {
    pub(super) fn planner(&self) -> Planner {
        let options = self.clone();
        Planner::new(move |outline, wanted| options.place(outline, wanted))
    }

    fn place(&self, outline: &Outline, wanted: Wanted) -> Result<Option<Planned>, NoPlan> {
        let is_asked = self.gpu_layers.is_some() || self.needs_gpus();
        if self.gpu_layers == Some(0) || (!is_asked && outline.n_bytes() < SMALL) {
            return Ok(None);
        }
        let cards = match usable() {
            Ok(cards) => cards,
            Err(error) if self.needs_gpus() => return Err(error.into()),
            Err(error) => {
                let is_expected = matches!(error, NoGpus::NotBuilt | NoGpus::NoDriver | NoGpus::None);
                if self.gpu_layers.is_some() || !is_expected {
                    self.warn(&error);
                }
                return Ok(None);
            }
        };
        let isa = Isa::chosen()?;
        let figures = Figures::kept(isa).unwrap_or_else(|| Figures::assumed(isa));
        let mut machine = figures.machine(&System::read(), &cards, None);
        if self.vram.len() > machine.gpus.len() {
            return Err(TooManyBudgets { named: self.vram.len(), there: machine.gpus.len() }.into());
        }
        machine.gpus.iter_mut().zip(&self.vram).for_each(|(gpu, bytes)| gpu.vram = *bytes);
        let Wanted { n_ctx, cache_type, .. } = wanted;
        let has = |bytes: u64| machine.gpus.iter().all(|gpu| gpu.vram >= bytes);
        let many = MANY.iter().find(|(_, bytes)| wanted.may_grow && has(*bytes)).map_or(0, |(n, _)| *n);
        let n_batch = wanted.n_batch.max(many);
        let demand = machine.demand(outline, Use { n_ctx, n_batch, cache_type, flash_attention: true });
        let pins = self.pins(outline.config.n_layer);
        let mut there_is = machine.for_placement();
        let mut placement = place(&demand, &there_is, &pins);
        let (mut n_slots, mut ahead) = (0, false);
        let send = self.send.unwrap_or(Send::Auto);
        if !placement.as_ref().is_ok_and(|placement| placement.is_without_ram(&demand)) {
            // Experts that are sent from RAM need room there: two matrices of all of a layer's where the graph sends them,
            // and slots for as many as it has where they are shared, twice where the next layer's go ahead.
            let largest = largest_routed(outline);
            let smallest = machine.gpus.iter().map(|gpu| gpu.vram).min().unwrap_or(0);
            let of_slots = largest.min(smallest / SLOTS);
            let experts = outline.config.experts.as_ref();
            let (n_expert, n_used) = experts.map_or((0, 0), |experts| (experts.n_expert, experts.n_used));
            n_slots = (n_expert as u64 * of_slots).checked_div(largest).unwrap_or(0) as usize;
            let of_one = slot_bytes(outline) / n_expert.max(1) as u64;
            let of_layer = of_one * (n_slots + n_used) as u64;
            ahead = send == Send::Auto && n_slots == n_expert && 2 * of_layer <= smallest / AHEAD;
            let room = match (send, ahead) {
                (Send::None, _) => 2 * largest,
                (_, ahead) => of_layer * (1 + u64::from(ahead)),
            };
            machine.gpus.iter_mut().for_each(|gpu| gpu.vram = gpu.vram.saturating_sub(room));
            there_is = machine.for_placement();
            placement = place(&demand, &there_is, &pins);
        }
        let placement = placement?;
        let streams = Streams {
            pinned: streams_from(&demand, &there_is, &placement, 1.0),
            pageable: streams_from(&demand, &there_is, &placement, PAGEABLE),
        };
        let sharing = match send {
            _ if n_slots == 0 => None,
            Send::None => None,
            Send::Number(n) => Some(Sharing::fixed(n.min(n_slots))),
            Send::Auto => {
                let shares = shares(&expert_costs(&demand, &there_is, &placement));
                Some(Sharing { shares, n_slots, ahead, measured: true })
            }
        };
        Ok(Some(Planned { placement, streams, sharing, n_batch }))
    }

    /// Whether something is to lie on a GPU, and not just as much as can.
    fn needs_gpus(&self) -> bool {
        !self.vram.is_empty() || self.pin.iter().any(|pin| matches!(pin.device, Device::Gpu(_)))
    }

    /// Says once why nothing goes to GPUs, however many models are opened.
    fn warn(&self, error: &NoGpus) {
        static SAID: Once = Once::new();
        let without = if self.gpu_layers.is_some() { "; --gpu-layers 0 asks for that" } else { "" };
        SAID.call_once(|| remark(&format!("the CPU computes alone: {error}{without}")));
    }

    /// Layers before the last so many stay in RAM, and the experts of so many first ones, unless something else is said of them.
    fn pins(&self, n_layer: usize) -> Vec<Pin> {
        let first = self.gpu_layers.and_then(|n| n_layer.checked_sub(n)).filter(|first| *first > 0);
        let n_moe = if self.cpu_moe { Some(n_layer) } else { self.n_cpu_moe.map(|n| n.min(n_layer)) };
        let experts = n_moe.and_then(|n| n.checked_sub(1)).map(|last| Pinned::Experts(0..=last));
        let in_ram = first.map(|first| Pinned::Layers(0..=first - 1)).into_iter().chain(experts);
        in_ram.map(|what| Pin { what, device: Device::Ram }).chain(self.pin.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_layers_are_those_of_gpus() {
        let pins = |gpu_layers| GpuOptions { gpu_layers, ..GpuOptions::default() }.pins(10);
        assert_eq!(pins(Some(3)), [Pin { what: Pinned::Layers(0..=6), device: Device::Ram }]);
        assert!(pins(Some(10)).is_empty() && pins(Some(99)).is_empty() && pins(None).is_empty());
    }

    #[test]
    fn experts_of_the_first_layers_stay_in_ram() {
        let pins = |n: usize| GpuOptions { n_cpu_moe: Some(n), ..GpuOptions::default() }.pins(10);
        let experts = |last: usize| vec![Pin { what: Pinned::Experts(0..=last), device: Device::Ram }];
        assert_eq!((pins(0), pins(3), pins(99)), (vec![], experts(2), experts(9)));
        assert_eq!(GpuOptions { cpu_moe: true, ..GpuOptions::default() }.pins(10), experts(9));
    }

    #[test]
    fn numbers_of_layers_are_llama_cpps() {
        for all in ["all", "auto", "-1", "-2"] {
            assert_eq!(layers(all), Ok(usize::MAX));
        }
        assert_eq!(layers("99"), Ok(99));
        assert!(layers("x").is_err() && layers("").is_err());
    }

    #[test]
    fn what_lies_in_ram_needs_no_gpu() {
        let needs = |pin: &str| GpuOptions { pin: vec![pin.parse().unwrap()], ..GpuOptions::default() }.needs_gpus();
        assert!(needs("head=gpu0") && !needs("blk.*.experts=ram"));
    }

    #[test]
    fn a_number_of_experts_or_the_fastest() {
        assert_eq!(["auto", "none", "3"].map(str::parse), [Ok(Send::Auto), Ok(Send::None), Ok(Send::Number(3))]);
        assert!("-1".parse::<Send>().unwrap_err().contains("neither"));
    }
}
