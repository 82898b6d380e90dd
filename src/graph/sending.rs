//! Experts that lie in RAM, computed by the CPU and a GPU at the same time: of each token's experts the last ones go
//! over the bus, to memory on the GPU that is for that, while the CPU computes with the others.

use super::devices::Devices;
use crate::experts::Sent;
use crate::ggml::{Cpu, Gpu, Staging, Store, StoreError, StoreId};
use crate::gguf::{Shape, TensorType};
use crate::model::{FeedForward, GateUp, Mixture, Weights};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What goes where.
pub(super) struct Sending {
    /// Of each layer with experts in RAM.
    layers: Vec<Option<Staged>>,
    /// The memory on all GPUs.
    pub(super) store: Arc<Store>,
    n: usize,
}

/// The matrices of so many experts of a layer, in the memory that all layers share whose matrices have these types.
#[derive(Clone)]
pub(super) struct Staged {
    pub(super) gate_up: GateUp,
    pub(super) down: StoreId,
    staging: Arc<Staging>,
    n: usize,
}

impl Staged {
    /// Experts of a token.
    pub(super) fn n(&self) -> usize {
        self.n
    }

    /// For the node that sends.
    pub(super) fn sent(&self) -> Sent {
        let matrices = match self.gate_up {
            GateUp::Two { gate, up } => vec![gate, up, self.down],
            GateUp::One { gate_up } => vec![gate_up, self.down],
        };
        Sent { staging: self.staging.clone(), matrices, n: self.n }
    }
}

impl Sending {
    /// For `n` experts of a token. Without GPUs their memory is in RAM.
    pub(super) fn new(
        weights: &Weights,
        store: &Store,
        devices: &Devices,
        cpu: &Cpu,
        n: usize,
    ) -> Result<Sending, StoreError> {
        let mut memory = Store::new(3 * weights.layers.len(), None)?;
        let mut places = BTreeMap::new();
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
            let mut place = |id: StoreId, what: &'static str| -> Result<Option<StoreId>, StoreError> {
                let tensor = store.get(id);
                let Some(ty) = tensor.ty().filter(|_| tensor.is_in_ram()) else { return Ok(None) };
                let key = (gpu.map(|gpu| gpu.facts().number), what, ty.id());
                if let Some(place) = places.get(&key) {
                    return Ok(Some(*place));
                }
                let ne = tensor.ne();
                let place = add(&mut memory, gpu, what, ty, [ne[0] as u64, ne[1] as u64, n as u64])?;
                places.insert(key, place);
                Ok(Some(place))
            };
            of_layers.push(staged(mixture, &mut place)?.map(|(gate_up, down)| (gate_up, down, gpu)));
        }
        let memory = Arc::new(memory);
        let of_layer = |(gate_up, down, gpu): (GateUp, StoreId, Option<&Gpu>)| {
            let staging = Arc::new(cpu.staging(memory.clone(), gpu));
            Staged { gate_up, down, staging, n }
        };
        let layers = of_layers.into_iter().map(|layer| layer.map(of_layer)).collect();
        Ok(Sending { layers, store: memory, n })
    }

    /// Experts of a token.
    pub(super) fn n(&self) -> usize {
        self.n
    }

    pub(super) fn of_layer(&self, layer: usize) -> Option<&Staged> {
        self.layers.get(layer)?.as_ref()
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
