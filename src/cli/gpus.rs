//! The options that say what of a model goes to GPUs, and the plan that is made of them.

use super::output::message;
use super::size;
use crate::engine::{NoPlan, Planned, Planner, Streams, Wanted};
use crate::experts::Isa;
use crate::machine::system::System;
use crate::machine::{Figures, NoGpus, Use, usable};
use crate::model::{Outline, Role};
use crate::placement::{Device, Pin, Pinned, place, sent, streams_from};
use std::str::FromStr;

#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct GpuOptions {
    /// Layers, the last ones, of which GPUs may hold something; 0 is the CPU alone [default: all]
    #[arg(long, value_name = "N", alias = "n-gpu-layers")]
    gpu_layers: Option<usize>,
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
        let is_asked = self.gpu_layers.is_some() || !self.vram.is_empty() || !self.pin.is_empty();
        if self.gpu_layers == Some(0) || (!is_asked && outline.n_bytes() < SMALL) {
            return Ok(None);
        }
        let cards = match usable() {
            Ok(cards) => cards,
            Err(error) if is_asked => return Err(error.into()),
            Err(NoGpus::NotBuilt | NoGpus::NoDriver | NoGpus::None) => return Ok(None),
            Err(error) => {
                message(&format!("the CPU computes alone: {error}"));
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

    /// Layers before the last so many stay in RAM, unless something else is said of them.
    fn pins(&self, n_layer: usize) -> Vec<Pin> {
        let first = self.gpu_layers.and_then(|n| n_layer.checked_sub(n)).filter(|first| *first > 0);
        let in_ram = first.map(|first| Pin { what: Pinned::Layers(0..=first - 1), device: Device::Ram });
        in_ram.into_iter().chain(self.pin.iter().cloned()).collect()
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
    fn a_number_of_experts_or_the_fastest() {
        assert_eq!(("auto".parse(), "3".parse()), (Ok(Send::Auto), Ok(Send::Number(3))));
        assert!("-1".parse::<Send>().unwrap_err().contains("neither"));
    }
}
