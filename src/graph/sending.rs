//! Experts that lie in RAM, computed by the CPU and a GPU at the same time: of those that a step needs some go over the
//! bus, to memory on the GPU that is for that, while the CPU computes with the others.

use super::devices::Devices;
use super::forward::{Forward, LoadError, Options};
use super::step;
use crate::experts::{Sent, Shares};
use crate::ggml::{Courier, Cpu, Gpu, Load, Staging, Store, StoreError, StoreId};
use crate::gguf::{Shape, TensorType};
use crate::model::{FeedForward, GateUp, Mixture, Weights};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tokens of an expert, were all chosen alike, from which on experts go ahead.
const AHEAD_FROM: usize = 2;

/// How experts in RAM are shared.
#[derive(Debug, Clone, PartialEq)]
pub struct Sharing {
    /// By layer; the last of them counts for all behind it.
    pub shares: Vec<Option<Shares>>,
    /// Experts of a layer for which there is room on a GPU.
    pub n_slots: usize,
    /// Whether there is as much room once more, so that those of the next layer go there while a layer is computed.
    pub ahead: bool,
    /// Whether costs are corrected by what is measured of them with the model's own weights.
    pub measured: bool,
}

impl Sharing {
    /// So many experts of each step and layer are sent.
    pub fn fixed(n: usize) -> Sharing {
        Sharing { shares: vec![Some(Shares::Fixed(n))], n_slots: n, ahead: false, measured: false }
    }

    fn of_layer(&self, layer: usize) -> Option<Shares> {
        self.shares.get(layer).or(self.shares.last()).copied().flatten()
    }
}

/// What goes where.
pub(super) struct Sending {
    /// Of each layer with experts in RAM.
    layers: Vec<Option<Staged>>,
    /// By GPU: who sends the experts of its layers ahead.
    couriers: Vec<Arc<Courier>>,
    /// Experts of a layer, and those that a token is given to.
    n_expert: usize,
    n_used: usize,
    /// The memory on all GPUs.
    pub(super) store: Arc<Store>,
}

/// The matrices of some experts of a layer, in the memory that all layers share whose matrices have these types.
#[derive(Clone)]
pub(super) struct Staged {
    pub(super) gate_up: GateUp,
    pub(super) down: StoreId,
    staging: Arc<Staging>,
    n_slots: usize,
    shares: Shares,
    /// Who sends them ahead, and as which load.
    ahead: Option<(Arc<Courier>, usize)>,
}

impl Staged {
    /// For the node that sends.
    pub(super) fn sent(&self) -> Sent {
        let matrices = match self.gate_up {
            GateUp::Two { gate, up } => vec![gate, up, self.down],
            GateUp::One { gate_up } => vec![gate_up, self.down],
        };
        let (staging, ahead) = (self.staging.clone(), self.ahead.clone());
        Sent { staging, matrices, n_slots: self.n_slots, shares: self.shares, ahead }
    }
}

/// What goes ahead to a GPU.
#[derive(Default)]
struct Ahead<'a> {
    gpu: Option<&'a Gpu>,
    loads: Vec<Load>,
}

impl Sending {
    /// Without GPUs the memory is in RAM. Besides what is sent it holds zeros for each of a token's experts.
    pub(super) fn new(
        weights: &Weights,
        store: &Arc<Store>,
        devices: &Devices,
        cpu: &Cpu,
        sharing: &Sharing,
        [n_expert, n_used]: [usize; 2],
    ) -> Result<Sending, StoreError> {
        let n = sharing.n_slots + n_used;
        // What goes ahead is whole.
        let goes_ahead = sharing.ahead && sharing.n_slots >= n_expert;
        let mut memory = Store::new(3 * weights.layers.len(), None)?;
        let mut places = BTreeMap::new();
        let mut aheads: BTreeMap<Option<usize>, Ahead<'_>> = BTreeMap::new();
        let mut of_layers = Vec::new();
        for (number, layer) in weights.layers.iter().enumerate() {
            let gpu = devices.of_cache(number);
            let mixture = match &layer.feed_forward {
                FeedForward::Mixture(mixture) if gpu.is_some() || devices.used().is_empty() => mixture,
                _ => {
                    of_layers.push(None);
                    continue;
                }
            };
            let of_gpu = gpu.map(|gpu| gpu.facts().number);
            let ahead = aheads.entry(of_gpu).or_default();
            // A layer, and the next one, have memory of their own.
            let side = if goes_ahead { ahead.loads.len() % 2 } else { 0 };
            let mut pairs = Vec::new();
            let mut place = |id: StoreId, what: &'static str| -> Result<Option<StoreId>, StoreError> {
                let tensor = store.get(id);
                let Some(ty) = tensor.ty().filter(|_| tensor.is_in_ram()) else { return Ok(None) };
                let key = (of_gpu, what, ty.id(), side);
                let place = match places.get(&key) {
                    Some(place) => *place,
                    None => {
                        let ne = tensor.ne();
                        let place = add(&mut memory, gpu, what, ty, [ne[0] as u64, ne[1] as u64, n as u64])?;
                        places.insert(key, place);
                        place
                    }
                };
                pairs.push((id, place));
                Ok(Some(place))
            };
            let staged = staged(mixture, &mut place)?.zip(sharing.of_layer(number));
            let staged = staged.map(|((gate_up, down), shares)| (gate_up, down, gpu, shares, ahead.loads.len()));
            if staged.is_some() {
                ahead.gpu = gpu;
                ahead.loads.push(Load { pairs });
            }
            of_layers.push(staged);
        }
        let memory = Arc::new(memory);
        let mut couriers = BTreeMap::new();
        for (of_gpu, Ahead { gpu, loads }) in aheads.into_iter().filter(|_| goes_ahead) {
            let courier = cpu.courier(store.clone(), memory.clone(), loads, gpu)?;
            couriers.insert(of_gpu, Arc::new(courier));
        }
        let of_layer = |(gate_up, down, gpu, shares, load): (GateUp, StoreId, Option<&Gpu>, Shares, usize)| {
            let staging = Arc::new(cpu.staging(memory.clone(), gpu));
            let courier = couriers.get(&gpu.map(|gpu| gpu.facts().number));
            let ahead = courier.map(|courier| (courier.clone(), load));
            Staged { gate_up, down, staging, n_slots: sharing.n_slots, shares, ahead }
        };
        let layers = of_layers.into_iter().map(|layer| layer.map(of_layer)).collect();
        let couriers = couriers.into_values().collect();
        Ok(Sending { layers, couriers, n_expert, n_used, store: memory })
    }

    /// Before a step of so many tokens, of which the last layer computes `n_outputs`: has experts go ahead where nearly all
    /// of them will be needed.
    pub(super) fn begin(&self, n_tokens: usize, n_outputs: usize) {
        let pays = |n_tokens: usize| n_tokens * self.n_used >= AHEAD_FROM * self.n_expert;
        if !pays(n_tokens) {
            return;
        }
        let last = self.layers.last().and_then(Option::as_ref).and_then(|staged| staged.ahead.as_ref());
        for courier in &self.couriers {
            let without = last.filter(|(of_last, _)| Arc::ptr_eq(of_last, courier) && !pays(n_outputs));
            courier.begin(without.map_or(usize::MAX, |(_, load)| *load));
        }
    }

    /// After a step that did not come to its end.
    pub(super) fn cancel(&self) {
        self.couriers.iter().for_each(|courier| courier.cancel());
    }

    pub(super) fn of_layer(&self, layer: usize) -> Option<&Staged> {
        self.layers.get(layer)?.as_ref()
    }

    pub(super) fn shares_of(&self, layer: usize) -> Option<Shares> {
        self.of_layer(layer).map(|staged| staged.shares)
    }

    /// Layers whose experts are shared.
    pub(super) fn n_layers(&self) -> usize {
        self.layers.iter().flatten().count()
    }

    /// Changes how layers share; returns how they did before.
    pub(super) fn set_shares(&mut self, change: &dyn Fn(Shares) -> Shares) -> Vec<Shares> {
        let set = |staged: &mut Staged| {
            let before = staged.shares;
            staged.shares = change(before);
            before
        };
        self.layers.iter_mut().flatten().map(set).collect()
    }

    /// Has layers share as they did before.
    pub(super) fn put_shares(&mut self, before: Vec<Shares>) {
        self.layers.iter_mut().flatten().zip(before).for_each(|(staged, shares)| staged.shares = shares);
    }

    /// Sends as many experts of a layer as there are slots: which layer, how many seconds it took, and how many they are.
    pub(super) fn time(&self, weights: &Weights, store: &Store) -> Option<(usize, f64, usize)> {
        let (number, staged) = self.layers.iter().enumerate().find_map(|(n, layer)| Some((n, layer.as_ref()?)))?;
        let FeedForward::Mixture(mixture) = &weights.layers.get(number)?.feed_forward else { return None };
        let pairs = match (staged.gate_up, &mixture.gate_up) {
            (GateUp::Two { gate, up }, GateUp::Two { gate: from_gate, up: from_up }) => {
                vec![(gate, *from_gate), (up, *from_up)]
            }
            (GateUp::One { gate_up }, GateUp::One { gate_up: from }) => vec![(gate_up, *from)],
            _ => return None,
        };
        let pairs = pairs.into_iter().chain([(staged.down, mixture.down)]);
        let n_expert = store.get(mixture.down).ne()[2] as usize;
        let seconds = pairs.map(|(to, from)| staged.staging.time(to, staged.n_slots, store, from).as_secs_f64());
        Some((number, seconds.sum(), staged.n_slots.min(n_expert)))
    }
}

impl Forward {
    /// Makes ready what computes experts beside the graph.
    pub(super) fn set_apart(&mut self) -> Result<(), LoadError> {
        let Options { n_threads, isa, n_batch, n_ctx, devices, .. } = &self.options;
        let Some(sharing) = &self.options.sharing else { return Ok(()) };
        // The driver would copy what it does not know piece by piece, and have the graph wait; and what else the CPU has to
        // compute needs all threads.
        let is_on_gpu = |layer| devices.of_cache(layer).is_some();
        let is_fast = self.weights.is_pinned && (0..self.config.n_layer).all(is_on_gpu);
        if !devices.used().is_empty() && !is_fast {
            return Ok(());
        }
        // One core is left to the thread that goes on.
        let shape = step::kernel_shape(&self.config, n_threads.saturating_sub(1).max(1), *n_batch.min(n_ctx));
        self.room.set_apart(*isa, shape)?;
        if sharing.n_slots > 0 {
            let sending =
                Sending::new(&self.weights, &self.store, devices, &self.cpu, sharing, [shape.n_expert, shape.n_used]);
            self.sending = Some(sending.map_err(LoadError::Sending)?);
        }
        Ok(())
    }
}

fn staged(
    mixture: &Mixture,
    place: &mut dyn FnMut(StoreId, &'static str) -> Result<Option<StoreId>, StoreError>,
) -> Result<Option<(GateUp, StoreId)>, StoreError> {
    let gate_up = match mixture.gate_up {
        GateUp::Two { gate, up } => match (place(gate, "gate")?, place(up, "up")?) {
            (Some(gate), Some(up)) => Some(GateUp::Two { gate, up }),
            _ => None,
        },
        GateUp::One { gate_up } => place(gate_up, "gate_up")?.map(|gate_up| GateUp::One { gate_up }),
    };
    Ok(gate_up.zip(place(mixture.down, "down")?))
}

fn add(
    memory: &mut Store,
    gpu: Option<&Gpu>,
    what: &str,
    ty: TensorType,
    dims: [u64; 3],
) -> Result<StoreId, StoreError> {
    let shape = Shape::new(&dims).unwrap_or_else(|| unreachable!("three dimensions are few enough"));
    match gpu {
        Some(gpu) => memory.add_on(gpu, what, ty, &shape),
        None => memory.add(what, ty, &shape),
    }
}
