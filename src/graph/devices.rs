//! What of a model lies on which GPU, after a plan.

use crate::ggml::Gpu;
use crate::model::{Class, Role};
use crate::placement::{Device, Placement};

/// GPUs, and the plan that is to be executed on them; none by default.
#[derive(Debug, Clone, Default)]
pub struct Devices {
    gpus: Vec<Gpu>,
    placement: Option<Placement>,
    streams: Streams,
    pin: bool,
}

/// From how many tokens of a step on experts in RAM are sent to a GPU; `None` is never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streams {
    /// Where the GPU reads RAM by itself.
    pub pinned: Option<u64>,
    /// Where the driver copies it first.
    pub pageable: Option<u64>,
}

impl Devices {
    /// The plan counts GPUs as `gpus` does. With `pin` experts in RAM become memory that GPUs read by themselves, all of
    /// which is read for that.
    pub fn new(gpus: Vec<Gpu>, placement: Placement, streams: Streams, pin: bool) -> Devices {
        Devices { gpus, placement: Some(placement), streams, pin }
    }

    /// Whether experts in RAM are to be pinned.
    pub(super) fn pins(&self) -> bool {
        self.pin && self.streams.pinned.is_some() && !self.used().is_empty()
    }

    /// Tokens of a step from which on experts in RAM are sent to a GPU.
    pub(super) fn streams_from(&self, is_pinned: bool) -> usize {
        let tokens = if is_pinned { self.streams.pinned } else { self.streams.pageable };
        tokens.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX)
    }

    /// The GPU that a tensor of the file goes to. A layer's experts stay together: where some of them are planned to be
    /// in RAM, all are.
    pub fn of_tensor(&self, name: &str, n_expert: usize) -> Option<&Gpu> {
        let placement = self.placement.as_ref()?;
        let role = Role::of(name);
        let layer = role.layer.and_then(|layer| placement.layers.get(layer as usize));
        match (role.class, layer) {
            (Class::Embedding | Class::Nextn | Class::Other, _) => None,
            (class, Some(layer)) if class.is_routed() => {
                let has_all = |n: &u32| usize::try_from(*n) == Ok(n_expert);
                self.gpus.get(layer.experts.iter().position(has_all)?)
            }
            (_, Some(layer)) => self.gpu(layer.fixed),
            (_, None) => self.of_head(),
        }
    }

    /// The GPU that computes the logits.
    pub fn of_head(&self) -> Option<&Gpu> {
        self.gpu(self.placement.as_ref()?.head)
    }

    /// The GPU that holds a layer's cache.
    pub fn of_cache(&self, layer: usize) -> Option<&Gpu> {
        self.gpu(self.placement.as_ref()?.layers.get(layer)?.fixed)
    }

    /// GPUs that something lies on.
    pub fn used(&self) -> Vec<Gpu> {
        let Some(placement) = &self.placement else { return Vec::new() };
        let is_used = |gpu: usize| {
            let of_layer = |layer: &crate::placement::LayerPlace| {
                layer.fixed == Device::Gpu(gpu) || layer.experts.get(gpu).is_some_and(|n| *n > 0)
            };
            placement.head == Device::Gpu(gpu) || placement.layers.iter().any(of_layer)
        };
        self.gpus.iter().enumerate().filter(|(n, _)| is_used(*n)).map(|(_, gpu)| gpu.clone()).collect()
    }

    fn gpu(&self, device: Device) -> Option<&Gpu> {
        match device {
            Device::Ram => None,
            Device::Gpu(gpu) => self.gpus.get(gpu),
        }
    }
}
