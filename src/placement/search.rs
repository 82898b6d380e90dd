//! The order in which things get a place, and the choice among what comes of it.

use super::pins::{Pin, Pinned};
use super::{Demand, Device, LayerPlace, Machine, Placement, decode};

/// What was pinned has no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotPlace {
    #[error("there is no gpu{gpu}: this machine has {n}")]
    NoGpu { gpu: usize, n: usize },
    #[error("there is no layer {layer}: this model has {n}, from 0 on")]
    NoLayer { layer: usize, n: usize },
    #[error("what is pinned to gpu{gpu} takes {needed} bytes with intermediate results, and {free} may be used")]
    Pinned { gpu: usize, needed: u64, free: u64 },
}

/// Decides where everything lies. With a plan for which RAM is too little this succeeds too:
/// [`Placement::over_ram`] tells.
pub fn place(demand: &Demand, machine: &Machine, pins: &[Pin]) -> Result<Placement, CannotPlace> {
    let wishes = Wishes::of(demand, machine, pins)?;
    let start = Draft::pinned(demand, machine, &wishes)?;
    // How many of the parts that every token reads go to GPUs is tried out: if their memory is hardly faster,
    // handing over may cost more than it gains.
    let n_parts = 1 + demand.layers.len();
    let mut best: Option<(f64, Placement)> = None;
    for n in 0..=n_parts {
        let mut draft = start.clone();
        if !draft.give_fixed(&wishes, n) {
            break;
        }
        draft.give_experts(&wishes, false);
        let mut further = draft.clone();
        further.give_experts(&wishes, true);
        for draft in [draft, further] {
            let seconds = decode(demand, machine, &draft.placement, demand.n_ctx / 2).total();
            if best.as_ref().is_none_or(|(least, _)| seconds < *least) {
                best = Some((seconds, draft.placement));
            }
        }
    }
    Ok(best.map_or(start.placement, |(_, placement)| placement))
}

/// What is pinned, part by part.
struct Wishes {
    head: Option<Device>,
    fixed: Vec<Option<Device>>,
    experts: Vec<Option<Device>>,
}

impl Wishes {
    /// A later pin counts more than an earlier one.
    fn of(demand: &Demand, machine: &Machine, pins: &[Pin]) -> Result<Wishes, CannotPlace> {
        let n = demand.layers.len();
        let mut wishes = Wishes { head: None, fixed: vec![None; n], experts: vec![None; n] };
        for Pin { what, device } in pins {
            if let Device::Gpu(gpu) = *device
                && gpu >= machine.gpus.len()
            {
                return Err(CannotPlace::NoGpu { gpu, n: machine.gpus.len() });
            }
            let (layers, fixed, experts) = match what {
                Pinned::Head => {
                    wishes.head = Some(*device);
                    continue;
                }
                Pinned::Experts(layers) => (layers, false, true),
                Pinned::Rest(layers) => (layers, true, false),
                Pinned::Layers(layers) => (layers, true, true),
            };
            let last = *layers.end();
            if *layers.start() >= n || (last >= n && last != usize::MAX) {
                return Err(CannotPlace::NoLayer { layer: if last == usize::MAX { *layers.start() } else { last }, n });
            }
            for layer in *layers.start()..=last.min(n - 1) {
                if fixed {
                    wishes.fixed[layer] = Some(*device);
                }
                if experts {
                    wishes.experts[layer] = Some(*device);
                }
            }
        }
        Ok(wishes)
    }
}

/// A plan in the making.
#[derive(Clone)]
struct Draft<'a> {
    demand: &'a Demand,
    /// GPUs by speed, the fastest first; of equal ones the first.
    order: Vec<usize>,
    /// Bytes left on each GPU, for weights, cache and intermediate results.
    room: Vec<u64>,
    placement: Placement,
}

impl<'a> Draft<'a> {
    /// Everything in RAM but what is pinned to GPUs.
    fn pinned(demand: &'a Demand, machine: &'a Machine, wishes: &Wishes) -> Result<Draft<'a>, CannotPlace> {
        let n_gpus = machine.gpus.len();
        let bandwidth = |gpu: &usize| machine.gpus.get(*gpu).map_or(0.0, |gpu| gpu.bandwidth);
        let mut order: Vec<usize> = (0..n_gpus).collect();
        order.sort_by(|a, b| bandwidth(b).total_cmp(&bandwidth(a)));
        let layer = LayerPlace { fixed: Device::Ram, experts: vec![0; n_gpus] };
        let placement =
            Placement { head: wishes.head.unwrap_or(Device::Ram), layers: vec![layer; demand.layers.len()] };
        let mut draft = Draft { demand, order, room: Vec::new(), placement };
        for (at, layer) in demand.layers.iter().enumerate() {
            draft.placement.layers[at].fixed = wishes.fixed[at].unwrap_or(Device::Ram);
            if let (Some(Device::Gpu(gpu)), Some(experts)) = (wishes.experts[at], &layer.experts) {
                draft.placement.layers[at].experts[gpu] = experts.n;
            }
        }
        for (gpu, there_is) in machine.gpus.iter().enumerate() {
            let load = draft.placement.load(demand, Device::Gpu(gpu));
            if load.total() > there_is.bytes {
                return Err(CannotPlace::Pinned { gpu, needed: load.total(), free: there_is.bytes });
            }
            draft.room.push(there_is.bytes - (load.total() - load.scratch));
        }
        Ok(draft)
    }

    /// Gives GPUs to the first `n` of head and layers that are not pinned; false if they do not have room.
    fn give_fixed(&mut self, wishes: &Wishes, n: usize) -> bool {
        let head = (None, wishes.head, self.demand.head.bytes);
        let layers = self.demand.layers.iter().enumerate();
        let layers = layers.map(|(at, layer)| (Some(at), wishes.fixed[at], layer.fixed.bytes + layer.cache));
        let free: Vec<_> = [head].into_iter().chain(layers).filter(|(_, pin, _)| pin.is_none()).collect();
        if n > free.len() {
            return false;
        }
        let mut gpus = self.order.clone().into_iter().peekable();
        for (at, _, bytes) in free.into_iter().take(n) {
            // A GPU that was passed over is not come back to: layers follow each other.
            let needed = bytes + self.demand.scratch;
            while gpus.next_if(|gpu| self.room[*gpu] < needed).is_some() {}
            let Some(&gpu) = gpus.peek() else { return false };
            self.room[gpu] -= bytes;
            match at {
                None => self.placement.head = Device::Gpu(gpu),
                Some(at) => self.placement.layers[at].fixed = Device::Gpu(gpu),
            }
        }
        true
    }

    /// Gives experts the room that is left: on the GPU of their layer, or else `anywhere`.
    fn give_experts(&mut self, wishes: &Wishes, anywhere: bool) {
        let scratch = |gpu| match self.placement.computes_fixed(Device::Gpu(gpu)) {
            true => self.demand.scratch,
            false => self.demand.scratch_experts,
        };
        let scratch: Vec<u64> = (0..self.room.len()).map(scratch).collect();
        for (at, layer) in self.demand.layers.iter().enumerate() {
            let (Some(experts), None) = (&layer.experts, wishes.experts[at]) else { continue };
            let place = &mut self.placement.layers[at];
            let Device::Gpu(own) = place.fixed else { continue };
            let gpus = if anywhere { self.order.clone() } else { vec![own] };
            for gpu in gpus {
                let room = self.room[gpu].saturating_sub(scratch[gpu]);
                let fit = room.checked_div(experts.each.bytes).unwrap_or(u64::MAX);
                let n = u64::from(place.in_ram(experts.n)).min(fit) as u32;
                place.experts[gpu] += n;
                self.room[gpu] -= u64::from(n) * experts.each.bytes;
            }
        }
    }
}
