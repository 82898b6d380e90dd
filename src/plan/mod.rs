//! What would happen if a model were loaded on a machine: what goes where, what is left, and how fast it would be.
//!
//! Brings a model's [`Subject`] and a [`Machine`] together before anything is loaded. Where things go is decided by
//! `placement`; what there is comes from `machine`. `subject` finds the model, `export` says it in llama.cpp's words.

mod export;
mod subject;

pub use export::llama_cpp;
pub use subject::{Origin, Subject, SubjectError};

use crate::engine::CacheType;
use crate::machine::{Machine, Use};
use crate::model::{Class, Outline};
use crate::placement::{self, CannotPlace, Decode, Demand, Device, Load, Pin, Placement, Prefill, place};
use serde::Serialize;
use std::collections::BTreeMap;

/// How the model is to be used.
#[derive(Debug, Clone)]
pub struct Options {
    pub n_ctx: u64,
    pub n_batch: u64,
    pub cache_type: CacheType,
    pub pins: Vec<Pin>,
}

/// Tokens of prompts whose speed is predicted.
const PROMPTS: [u64; 2] = [512, 4096];

/// All that there is to say.
#[derive(Debug, Serialize)]
pub struct Plan {
    pub model: String,
    pub origin: Origin,
    pub machine: Machine,
    pub context: u64,
    pub context_trained: u64,
    pub batch: u64,
    pub cache_type: &'static str,
    /// Bytes of weights by class.
    pub classes: BTreeMap<Class, u64>,
    pub devices: Vec<DeviceRow>,
    pub generation: Vec<Speed<Decode>>,
    pub prompts: Vec<Speed<Prefill>>,
    /// Whether GPUs are planned for that this program does not compute on.
    pub gpus_are_hypothetical: bool,
    pub fits: bool,
    /// Bytes of RAM that are missing.
    pub missing: u64,
    /// The longest context that fits; `None` where none does.
    pub largest_context: Option<u64>,
    pub quants: Vec<QuantRow>,
    #[serde(skip)]
    pub placement: Placement,
}

#[derive(Debug, Serialize)]
pub struct DeviceRow {
    pub device: Device,
    pub name: String,
    /// Bytes that may be used.
    pub budget: u64,
    pub load: Load,
    pub used: u64,
    /// Below 0 if it is too little.
    pub left: i64,
    /// Layers that are computed there, but for experts elsewhere.
    pub layers: Vec<usize>,
    /// Routed experts of all layers.
    pub experts: u64,
    pub head: bool,
}

/// A prediction.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Speed<T> {
    /// Tokens before, or tokens of the prompt.
    pub tokens: u64,
    /// At least and at most.
    pub tokens_per_second: [f64; 2],
    /// Seconds a token: of generation at the limit, of prompts at the rate of kernels with 64 tokens.
    pub limit: T,
}

/// A published quant on this machine.
#[derive(Debug, Serialize)]
pub struct QuantRow {
    pub name: String,
    pub bytes: u64,
    pub fits: bool,
    /// Tokens a second behind an empty context.
    pub generation: [f64; 2],
    /// The largest that fits.
    pub best: bool,
}

impl Plan {
    pub fn make(subject: &Subject, machine: &Machine, options: &Options) -> Result<Plan, CannotPlace> {
        let outline = &subject.outline;
        let (demand, placement) = settle(outline, machine, options, &options.pins)?;
        let there_is = machine.for_placement();
        let missing = placement.over_ram(&demand, &there_is);
        let generation = [0, options.n_ctx].map(|depth| {
            let limit = placement::decode(&demand, &there_is, &placement, depth);
            Speed { tokens: depth, tokens_per_second: machine.generates(&limit), limit }
        });
        let prompts = PROMPTS.into_iter().filter(|n| *n <= options.n_ctx).map(|n| {
            let limit = placement::prefill(&demand, &there_is, &placement, n, options.n_batch);
            Speed { tokens: n, tokens_per_second: machine.prefills(&limit), limit }
        });
        Ok(Plan {
            model: subject.title.clone(),
            origin: subject.origin.clone(),
            machine: machine.clone(),
            context: options.n_ctx,
            context_trained: outline.config.n_ctx_train as u64,
            batch: options.n_batch,
            cache_type: options.cache_type.name(),
            classes: outline.classes(),
            devices: devices(&demand, machine, &placement),
            generation: generation.to_vec(),
            prompts: prompts.collect(),
            gpus_are_hypothetical: !machine.gpus.is_empty() && !machine.gpus_are_here,
            fits: missing == 0,
            missing,
            largest_context: largest_context(outline, machine, options),
            quants: quants(subject, machine, options),
            placement,
        })
    }
}

impl Machine {
    /// Tokens a second, at least and at most, where the limit is so many seconds a token.
    fn generates(&self, limit: &Decode) -> [f64; 2] {
        self.efficiency.generation.map(|part| part / limit.total())
    }

    fn prefills(&self, limit: &Prefill) -> [f64; 2] {
        self.efficiency.prompts.map(|part| part / limit.total())
    }
}

fn settle(
    outline: &Outline,
    machine: &Machine,
    options: &Options,
    pins: &[Pin],
) -> Result<(Demand, Placement), CannotPlace> {
    let Options { n_ctx, n_batch, cache_type, .. } = *options;
    let demand = machine.demand(outline, Use { n_ctx, n_batch, cache_type, flash_attention: true });
    let placement = place(&demand, &machine.for_placement(), pins)?;
    Ok((demand, placement))
}

fn fits(outline: &Outline, machine: &Machine, options: &Options) -> bool {
    let settled = settle(outline, machine, options, &options.pins);
    settled.is_ok_and(|(demand, placement)| placement.over_ram(&demand, &machine.for_placement()) == 0)
}

/// The longest context that fits, in steps of 256 tokens and up to what the model was made for.
fn largest_context(outline: &Outline, machine: &Machine, options: &Options) -> Option<u64> {
    const STEP: u64 = 256;
    let fits = |steps: u64| fits(outline, machine, &Options { n_ctx: steps * STEP, ..options.clone() });
    let (mut low, mut high) = (0, (outline.config.n_ctx_train as u64 / STEP).max(1));
    if fits(high) {
        return Some(high * STEP);
    }
    while high - low > 1 {
        let middle = low.midpoint(high);
        if fits(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low > 0).then_some(low * STEP)
}

fn devices(demand: &Demand, machine: &Machine, placement: &Placement) -> Vec<DeviceRow> {
    let gpus = machine.gpus.iter().enumerate().map(|(n, gpu)| (Device::Gpu(n), gpu.name.clone(), gpu.vram));
    let all = gpus.chain([(Device::Ram, format!("RAM, {} cores", machine.cores), machine.ram)]);
    let row = |(device, name, budget): (Device, String, u64)| {
        let load = placement.load(demand, device);
        let layers = placement.layers.iter().enumerate();
        let experts = placement.layers.iter().zip(&demand.layers).map(|(place, layer)| match device {
            Device::Ram => place.in_ram(layer.experts.map_or(0, |experts| experts.n)).into(),
            Device::Gpu(gpu) => u64::from(place.experts.get(gpu).copied().unwrap_or(0)),
        });
        DeviceRow {
            device,
            name,
            budget,
            used: load.total(),
            left: budget as i64 - load.total() as i64,
            load,
            layers: layers.filter(|(_, place)| place.fixed == device).map(|(at, _)| at).collect(),
            experts: experts.sum(),
            head: placement.head == device,
        }
    };
    all.map(row).collect()
}

/// The published quants, smallest first, the largest that fits being the best: its answers are.
fn quants(subject: &Subject, machine: &Machine, options: &Options) -> Vec<QuantRow> {
    let row = |(name, outline): (String, Outline)| {
        let (demand, placement) = settle(&outline, machine, options, &[]).ok()?;
        let there_is = machine.for_placement();
        Some(QuantRow {
            name,
            bytes: outline.n_bytes(),
            fits: placement.over_ram(&demand, &there_is) == 0,
            generation: machine.generates(&placement::decode(&demand, &there_is, &placement, 0)),
            best: false,
        })
    };
    let mut rows: Vec<QuantRow> = subject.quants().into_iter().filter_map(row).collect();
    rows.sort_by_key(|row| row.bytes);
    if let Some(best) = rows.iter_mut().rfind(|row| row.fits) {
        best.best = true;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::{Model, Recipe};

    fn usage(n_ctx: u64) -> Options {
        Options { n_ctx, n_batch: 512, cache_type: CacheType::F16, pins: Vec::new() }
    }

    fn described(ram_gb: u32, bandwidth: u32, cores: u32, gpu: Option<u32>) -> Machine {
        let mut text = format!(
            "[ram]\nsize = \"{ram_gb} GB\"\nbandwidth_gb_s = {bandwidth}\n[cpu]\ncores = {cores}\n[disk]\ngb_s = 5\n"
        );
        if let Some(bandwidth) = gpu {
            text.push_str(&format!(
                "[[gpu]]\nvram = \"32 GB\"\nbandwidth_gb_s = {bandwidth}\ntflops = 200\npcie_gb_s = 50\n"
            ));
        }
        Machine::described(&text).unwrap()
    }

    /// Tokens a second that were published for DeepSeek-V3 and R1 lie within what is predicted.
    #[test]
    fn published_runs_lie_within_the_prediction() {
        for (quant, ram, bandwidth, cores, gpu, published) in [
            // 7975WX with eight channels at 5600 and an RTX 5090; EPYC 9355 with twelve at 6400 and another.
            ("Q2_K_XL", 512, 358, 32, Some(1792), 18.2),
            ("Q4_K_XL", 768, 614, 32, Some(1792), 16.3),
            // 7965WX, 225 GB/s as measured, with an RTX A6000; EPYC 9654 with twelve channels at 4800 and a 4090.
            ("Q2_K_XL", 512, 225, 24, Some(768), 13.7),
            ("Q4_K_XL", 768, 460, 96, Some(1008), 14.0),
            // One Xeon 6980P without a GPU.
            ("Q4_K_XL", 768, 550, 128, None, 10.0),
        ] {
            let subject = Subject::find(&format!("deepseek-v3-0324:{quant}"), None).unwrap();
            let machine = described(ram, bandwidth, cores, gpu);
            let plan = Plan::make(&subject, &machine, &usage(4096)).unwrap();
            let [least, most] = plan.generation[0].tokens_per_second;
            assert!((least..=most).contains(&published), "{quant}, {bandwidth} GB/s: {published} in {least} to {most}");
        }
    }

    /// What README, "Speed", says was measured lies within what is predicted for that machine: two cores like those
    /// that descriptions are made of, with figures of their own.
    #[test]
    fn our_own_runs_lie_within_the_prediction() {
        for (layers, mix, empty, behind_1024, prompt) in [
            (3, "IQ1_S", 17.7, 12.6, 97.3),
            (3, "Q2_K_XL", 23.7, 15.4, 106.4),
            // Another day, without anything else on the machine.
            (2, "IQ1_S", 24.5, 15.8, 218.8),
        ] {
            let like: &'static Model = "deepseek-v3".parse().unwrap();
            let mix = mix.parse().unwrap();
            let recipe =
                Recipe { like, layers: Some(layers), dense: None, mix, tokens: Some(8192), seed: 0, skew: 0.0 };
            let outline = recipe.make().unwrap().outline().unwrap();
            let machine = Machine { efficiency: crate::machine::MEASURED, ..described(24, 45, 2, None) };
            let subject = Subject::of_outline(outline);
            let plan = Plan::make(&subject, &machine, &usage(1024)).unwrap();
            let predicted = [&plan.generation[0], &plan.generation[1]].map(|speed| speed.tokens_per_second);
            for ([least, most], measured) in
                predicted.into_iter().chain([plan.prompts[0].tokens_per_second]).zip([empty, behind_1024, prompt])
            {
                assert!((least..=most).contains(&measured), "{layers} {mix}: {measured} in {least} to {most}");
            }
        }
    }

    #[test]
    fn the_largest_context_fits_and_a_longer_one_does_not() {
        let subject = Subject::find("deepseek-v3-0324:IQ2_XXS", None).unwrap();
        let machine = described(226, 80, 16, None);
        let plan = Plan::make(&subject, &machine, &usage(4096)).unwrap();
        let largest = plan.largest_context.unwrap();
        assert!(plan.fits && (4096..163_840).contains(&largest));
        let fits = |n_ctx| Plan::make(&subject, &machine, &usage(n_ctx)).unwrap().fits;
        assert!(fits(largest) && !fits(largest + 256));
    }

    #[test]
    fn the_best_quant_is_the_largest_that_fits() {
        let subject = Subject::find("deepseek-v3-0324", None).unwrap();
        for (ram, best) in [(180, None), (230, Some("IQ2_XXS")), (270, Some("Q2_K_XL")), (512, Some("Q4_K_XL"))] {
            let plan = Plan::make(&subject, &described(ram, 80, 16, None), &usage(4096)).unwrap();
            let found: Vec<&str> =
                plan.quants.iter().filter(|quant| quant.best).map(|quant| quant.name.as_str()).collect();
            assert_eq!(found, best.into_iter().collect::<Vec<_>>(), "{ram}");
        }
    }
}
