//! How long a token takes on a plan, where every memory gives what it can and nothing overlaps.
//!
//! Layers depend on each other, and of a layer's parts only little could be computed at the same time, so the
//! times add up. What is found is a limit; how near a program comes to it is for the caller to say.

use super::{Demand, Device, Layer, LayerPlace, Machine, Part, Placement};
use serde::Serialize;

/// Seconds that generating one token takes, at best.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Decode {
    /// Reading weights in RAM.
    pub ram: f64,
    /// Reading weights on GPUs.
    pub gpu: f64,
    /// Attention to the tokens before, wherever it is.
    pub attention: f64,
    /// Handing over between devices.
    pub handoff: f64,
    /// Reading from the disk what RAM does not hold.
    pub disk: f64,
}

impl Decode {
    pub fn total(&self) -> f64 {
        self.ram + self.gpu + self.attention + self.handoff + self.disk
    }
}

/// Seconds that a prompt takes a token, at best.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Prefill {
    pub cpu: f64,
    pub gpu: f64,
    pub attention: f64,
    pub handoff: f64,
    pub disk: f64,
}

impl Prefill {
    pub fn total(&self) -> f64 {
        self.cpu + self.gpu + self.attention + self.handoff + self.disk
    }
}

/// One token behind `depth` others.
pub fn decode(demand: &Demand, machine: &Machine, placement: &Placement, depth: u64) -> Decode {
    let mut time = Decode::default();
    add_part(&mut time, machine, placement.head, &demand.head, 1.0);
    for (place, layer) in placement.layers.iter().zip(&demand.layers) {
        add_part(&mut time, machine, place.fixed, &layer.fixed, 1.0);
        time.attention += attention(demand, machine, place, layer, depth);
        for (device, share) in shares(place, layer) {
            let Some(experts) = &layer.experts else { continue };
            add_part(&mut time, machine, device, &experts.each, share * f64::from(experts.n_used));
        }
        time.handoff += handoff(machine, place, layer);
    }
    time.disk = disk_bytes(demand, machine, placement, 1) / machine.disk;
    time
}

/// A token of a prompt of `n`, of which `n_batch` are computed together.
pub fn prefill(demand: &Demand, machine: &Machine, placement: &Placement, n: u64, n_batch: u64) -> Prefill {
    let mut time = Prefill::default();
    let batch = n.min(n_batch).max(1);
    for (place, layer) in placement.layers.iter().zip(&demand.layers) {
        let mut add = |device, part: &Part, times: f64, reads: f64| {
            // However many tokens share it, a weight is read once a batch.
            let (cpu, gpu) = part_seconds(machine, device, part);
            let compute = match device {
                Device::Ram => part.cpu_prefill,
                Device::Gpu(gpu) => 2.0 * part.parameters as f64 / machine.gpus.get(gpu).map_or(0.0, |gpu| gpu.flops),
            };
            let seconds = (times * compute).max(reads * (cpu + gpu) / batch as f64);
            match device {
                Device::Ram => time.cpu += seconds,
                Device::Gpu(_) => time.gpu += seconds,
            }
        };
        add(place.fixed, &layer.fixed, 1.0, 1.0);
        for (device, share) in shares(place, layer) {
            let Some(experts) = &layer.experts else { continue };
            let touched = f64::from(experts.n) * touched(experts.n_used, experts.n, batch);
            add(device, &experts.each, share * f64::from(experts.n_used), share * touched);
        }
        let [_, operations] = demand.attention;
        let flops = match place.fixed {
            Device::Ram => machine.cpu_attention,
            Device::Gpu(gpu) => machine.gpus.get(gpu).map_or(machine.cpu_attention, |gpu| gpu.flops),
        };
        // A token looks at half of the prompt, in the mean.
        time.attention += operations * n as f64 / 2.0 / flops;
        time.handoff += handoff(machine, place, layer) / batch as f64;
    }
    time.disk = disk_bytes(demand, machine, placement, batch) / machine.disk / batch as f64;
    time
}

/// Tokens of a step from which on it takes less time to send experts from RAM to the GPU of their layer than to compute
/// with them in RAM, where the bus gives this `part` of what it can. `None` where no number is enough, or no experts
/// are in RAM.
pub fn streams_from(demand: &Demand, machine: &Machine, placement: &Placement, part: f64) -> Option<u64> {
    let seconds = |n: u64| {
        let of_layer = |(place, layer): (&LayerPlace, &Layer)| {
            let (Device::Gpu(gpu), Some(experts)) = (place.fixed, &layer.experts) else { return [0.0; 2] };
            let share = f64::from(place.in_ram(experts.n)) / f64::from(experts.n.max(1));
            let read = share * f64::from(experts.n) * touched(experts.n_used, experts.n, n);
            let bus = machine.gpus.get(gpu).map_or(0.0, |gpu| gpu.pcie) * part;
            let computed = share * f64::from(experts.n_used) * n as f64 * experts.each.cpu_prefill;
            [read * experts.each.bytes as f64 / bus, computed.max(read * experts.each.cpu_decode)]
        };
        let layers = placement.layers.iter().zip(&demand.layers).map(of_layer);
        layers.fold([0.0, 0.0], |[a, b], [sent, computed]| [a + sent, b + computed])
    };
    let is_faster = |n: &u64| {
        let [sent, computed] = seconds(*n);
        sent < computed
    };
    (LEAST_STREAMED..MOST_STREAMED).step_by(LEAST_STREAMED as usize).find(is_faster)
}

/// What an expert that lies in RAM costs where the CPU and the GPU of its layer share them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpertCosts {
    /// Seconds to send it over the bus.
    pub send: f64,
    /// Seconds that the CPU reads it, and that it computes for each of its tokens.
    pub read: f64,
    pub token: f64,
    /// Seconds to read it from RAM at the rate that all together have.
    pub ram: f64,
}

/// The costs of each layer's experts; `None` for layers that have none in RAM, or whose other part is not on a GPU.
pub fn expert_costs(demand: &Demand, machine: &Machine, placement: &Placement) -> Vec<Option<ExpertCosts>> {
    let of_layer = |(place, layer): (&LayerPlace, &Layer)| {
        let (Device::Gpu(gpu), Some(experts)) = (place.fixed, &layer.experts) else { return None };
        let (gpu, each) = (machine.gpus.get(gpu)?, &experts.each);
        let bytes = each.bytes as f64;
        (place.in_ram(experts.n) > 0).then_some(ExpertCosts {
            send: bytes / gpu.pcie,
            read: each.cpu_decode,
            token: each.cpu_prefill,
            ram: bytes / machine.ram_bandwidth,
        })
    };
    placement.layers.iter().zip(&demand.layers).map(of_layer).collect()
}

/// Fewer tokens are not sent for.
const LEAST_STREAMED: u64 = 32;
/// More are not computed at once.
const MOST_STREAMED: u64 = 1 << 16;

/// The part of all experts that `n_tokens` tokens use, if they choose evenly.
fn touched(n_used: u32, n: u32, n_tokens: u64) -> f64 {
    1.0 - (1.0 - f64::from(n_used) / f64::from(n.max(1))).powf(n_tokens as f64)
}

/// Seconds to read a part once: as (CPU, GPU), of which one is 0.
fn part_seconds(machine: &Machine, device: Device, part: &Part) -> (f64, f64) {
    match device {
        Device::Ram => (part.cpu_decode, 0.0),
        Device::Gpu(gpu) => (0.0, machine.gpus.get(gpu).map_or(0.0, |gpu| part.bytes as f64 / gpu.bandwidth)),
    }
}

fn add_part(time: &mut Decode, machine: &Machine, device: Device, part: &Part, times: f64) {
    let (cpu, gpu) = part_seconds(machine, device, part);
    time.ram += times * cpu;
    time.gpu += times * gpu;
}

/// Which devices hold which shares of a layer's experts.
fn shares(place: &LayerPlace, layer: &Layer) -> Vec<(Device, f64)> {
    let Some(experts) = layer.experts.filter(|experts| experts.n > 0) else { return Vec::new() };
    let share = |n: u32| f64::from(n) / f64::from(experts.n);
    let gpus = place.experts.iter().enumerate().map(|(gpu, n)| (Device::Gpu(gpu), share(*n)));
    let all = gpus.chain([(Device::Ram, share(place.in_ram(experts.n)))]);
    all.filter(|(_, share)| *share > 0.0).collect()
}

/// Seconds of attention to `depth` tokens: its cache is read, and each head computes with all of it.
fn attention(demand: &Demand, machine: &Machine, place: &LayerPlace, layer: &Layer, depth: u64) -> f64 {
    let bytes = layer.cache as f64 * (depth as f64 / demand.n_ctx.max(1) as f64).min(1.0);
    let operations = demand.attention[0] * depth as f64;
    let (bandwidth, flops) = match place.fixed {
        Device::Gpu(gpu) if gpu < machine.gpus.len() => (machine.gpus[gpu].bandwidth, machine.gpus[gpu].flops),
        _ => (machine.ram_bandwidth, machine.cpu_attention),
    };
    (bytes / bandwidth).max(operations / flops)
}

/// Seconds that a layer loses because other devices than that of its fixed part hold some of its experts.
fn handoff(machine: &Machine, place: &LayerPlace, layer: &Layer) -> f64 {
    let elsewhere = shares(place, layer).into_iter().filter(|(device, _)| *device != place.fixed);
    let cost = |device: Device| match (device, place.fixed) {
        (Device::Gpu(gpu), _) | (Device::Ram, Device::Gpu(gpu)) => machine.gpus.get(gpu).map_or(0.0, |gpu| gpu.handoff),
        (Device::Ram, Device::Ram) => 0.0,
    };
    elsewhere.map(|(device, _)| cost(device)).sum()
}

/// Bytes that `n_tokens` tokens together read from the disk because RAM does not hold all that should be in it.
/// It is the experts in RAM that are pushed out, being used the least.
fn disk_bytes(demand: &Demand, machine: &Machine, placement: &Placement, n_tokens: u64) -> f64 {
    let over = placement.over_ram(demand, machine) as f64;
    let in_ram = placement.load(demand, Device::Ram).experts as f64;
    if over == 0.0 {
        return 0.0;
    }
    let read: f64 = placement
        .layers
        .iter()
        .zip(&demand.layers)
        .map(|(place, layer)| match &layer.experts {
            Some(experts) => {
                let here = f64::from(place.in_ram(experts.n)) * experts.each.bytes as f64;
                here * touched(experts.n_used, experts.n, n_tokens)
            }
            None => 0.0,
        })
        .sum();
    let missing = if in_ram > 0.0 { (over / in_ram).min(1.0) } else { 0.0 };
    // What is not an expert's and has no room is read every time.
    read * missing + (over - in_ram).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::place;
    use crate::placement::properties::{gpu, layer, machine, model};

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * b.abs().max(1e-12)
    }

    /// Two layers of 100 bytes and eight experts of 40, of which two are used; a head of 50.
    #[test]
    fn times_are_those_counted_by_hand() {
        let demand = model(&[layer(100, 10, Some((8, 2, 40))), layer(100, 10, Some((8, 2, 40)))], 50);
        let cpu = machine(10_000, &[]);
        let plan = place(&demand, &cpu, &[]).unwrap();
        // All from RAM, at 10 bytes a second, and nothing is cached yet.
        let time = decode(&demand, &cpu, &plan, 0);
        assert!(close(time.ram, (50.0 + 2.0 * (100.0 + 2.0 * 40.0)) / 10.0) && close(time.total(), time.ram));
        // A full context: 10 bytes of cache a layer.
        assert!(close(decode(&demand, &cpu, &plan, demand.n_ctx).attention, 2.0));

        // A GPU for head, layers and cache, with room for three experts more, at 100 bytes a second.
        let hybrid = machine(10_000, &[gpu(50 + 2 * 110 + 3 * 40)]);
        let plan = place(&demand, &hybrid, &[]).unwrap();
        assert_eq!(plan.layers.iter().map(|place| place.experts.clone()).collect::<Vec<_>>(), [[3], [0]]);
        let time = decode(&demand, &hybrid, &plan, 0);
        assert!(close(time.gpu, (50.0 + 200.0 + 2.0 * 40.0 * 3.0 / 8.0) / 100.0), "{time:?}");
        assert!(close(time.ram, (2.0 * 40.0 * 5.0 / 8.0 + 80.0) / 10.0), "{time:?}");
        assert!(close(time.handoff, 2.0 * 0.001));
    }

    /// What RAM lacks comes from the disk, in the measure in which experts are used.
    #[test]
    fn what_ram_lacks_is_read_from_the_disk() {
        let demand = model(&[layer(100, 0, Some((8, 2, 40)))], 50);
        let small = machine(100 + 50 + 4 * 40, &[]);
        let plan = place(&demand, &small, &[]).unwrap();
        assert_eq!(plan.over_ram(&demand, &small), 4 * 40);
        assert!(close(decode(&demand, &small, &plan, 0).disk, 0.5 * 2.0 * 40.0));
        // Nothing but experts can be left out without being missed by every token.
        let tiny = machine(100, &[]);
        assert!(close(decode(&demand, &tiny, &plan, 0).disk, 2.0 * 40.0 + 50.0));
    }

    #[test]
    fn a_prompt_uses_more_experts_but_reads_them_once() {
        assert!(close(touched(8, 256, 1), 8.0 / 256.0));
        assert!(touched(8, 256, 512) > 0.999_999 - 1e-6 && touched(8, 256, 512) <= 1.0);
        let demand = model(&[layer(100, 0, Some((8, 2, 40)))], 50);
        let cpu = machine(10_000, &[]);
        let plan = place(&demand, &cpu, &[]).unwrap();
        let [one, many] = [1, 1000].map(|n| prefill(&demand, &cpu, &plan, n, 512).cpu);
        assert!(close(one, (100.0 + 80.0) / 10.0) && many < one / 10.0, "{one} {many}");
    }
}
