//! The options that say what of a model goes to GPUs, and the plan that is made of them.

use super::output::remark;
use super::size;
use crate::engine::{NoPlan, Planned, Planner, Streams, Wanted};
use crate::experts::Isa;
use crate::machine::system::System;
use crate::machine::{Figures, NoGpus, Use, usable};
use crate::model::{Outline, Role};
use crate::placement::{Device, Pin, Pinned, place, sent, streams_from};
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
    /// Of a token's experts that lie in RAM, so many are sent to the GPU of their layer and computed there, while the CPU
    /// computes the others; `auto` is as many as measured speeds say [default: none, and the GPU waits]
    #[arg(long, value_name = "N", hide_short_help = true)]
    send: Option<Send>,
    /// Have something lie on a device, as `plan` has it: blk.3-10.experts=gpu0, blk.5=ram, head=gpu0; may be repeated
    #[arg(long, value_name = "WHAT=DEVICE")]
    pin: Vec<Pin>,
}

/// How many of a token's experts are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Send {
    Auto,
    Number(u32),
}

impl FromStr for Send {
    type Err = String;

    fn from_str(text: &str) -> Result<Send, String> {
        match text {
            "auto" => Ok(Send::Auto),
            text => text.parse().map(Send::Number).map_err(|_| format!("'{text}' is neither a number nor auto")),
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

/// Tokens of a prompt that are computed at once where GPUs have so many bytes free: experts in RAM go over the bus once
/// for all of them, and each gets more.
const MANY: u64 = 2048;
const LARGE: u64 = 20 << 30;

/// The part of the bus's speed that copies reach which the driver makes of memory that it does not know: 6.8 of 55 GB/s
/// on PCIe 5.
const PAGEABLE: f64 = 0.13;

/// Bytes of the largest tensor of routed experts.
fn largest_routed(outline: &Outline) -> u64 {
    let routed = outline.tensors.iter().filter(|info| Role::of(&info.name).class.is_routed());
    routed.map(|info| outline.bytes(info)).max().unwrap_or(0)
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
        // Experts that are sent from RAM need room there: all that many tokens need of two matrices, and where those of
        // one token are sent too, these for each type of weights.
        let room = largest_routed(outline) * if self.send.is_some() { 3 } else { 2 };
        machine.gpus.iter_mut().for_each(|gpu| gpu.vram = gpu.vram.saturating_sub(room));
        let Wanted { n_ctx, cache_type, .. } = wanted;
        let is_large = machine.gpus.iter().all(|gpu| gpu.vram >= LARGE);
        let n_batch = if wanted.may_grow && is_large { wanted.n_batch.max(MANY) } else { wanted.n_batch };
        let demand = machine.demand(outline, Use { n_ctx, n_batch, cache_type, flash_attention: true });
        let there_is = machine.for_placement();
        let placement = place(&demand, &there_is, &self.pins(outline.config.n_layer))?;
        let streams = Streams {
            pinned: streams_from(&demand, &there_is, &placement, 1.0),
            pageable: streams_from(&demand, &there_is, &placement, PAGEABLE),
        };
        let fastest = sent(&demand, &there_is, &placement);
        let sent = self.send.zip(fastest).map(|(send, fastest)| match send {
            Send::Auto => fastest,
            Send::Number(n) => n,
        });
        Ok(Some(Planned { placement, streams, sent, n_batch }))
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
        assert_eq!(("auto".parse(), "3".parse()), (Ok(Send::Auto), Ok(Send::Number(3))));
        assert!("-1".parse::<Send>().unwrap_err().contains("neither"));
    }
}
