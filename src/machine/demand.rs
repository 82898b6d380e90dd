//! A model in numbers, as placement wants it.

use super::Machine;
use crate::gguf::{TensorInfo, TensorType};
use crate::graph::{CacheType, expert_scratch_bytes, kernel_scratch_bytes, scratch_bytes};
use crate::model::{Class, Outline, Role};
use crate::placement::{Demand, Experts, Layer, Part};
use std::collections::HashSet;

/// How a model is to be run, as far as it takes memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    pub n_ctx: u64,
    pub n_batch: u64,
    pub cache_type: CacheType,
    pub flash_attention: bool,
}

impl Machine {
    /// What a model needs of this machine.
    pub fn demand(&self, outline: &Outline, usage: Use) -> Demand {
        let config = &outline.config;
        let n_batch = usage.n_batch.min(usage.n_ctx);
        let of_kernels = kernel_scratch_bytes(config, n_batch, self.cores);
        let mut demand = Demand {
            layers: vec![Layer::default(); config.n_layer],
            scratch: scratch_bytes(config, n_vocab(outline), usage.n_batch, usage.n_ctx, usage.flash_attention)
                + of_kernels,
            scratch_experts: expert_scratch_bytes(config, n_batch) + of_kernels,
            n_ctx: usage.n_ctx,
            attention: operations(outline),
            ..Demand::default()
        };
        let cells = usage.n_ctx.next_multiple_of(256);
        for layer in &mut demand.layers {
            layer.cache = usage.cache_type.row_bytes(config) * cells;
        }
        let keys = outline.tensors.iter().filter(|info| info.name.ends_with(".attn_k_b.weight"));
        let own_keys: HashSet<_> = keys.map(|info| Role::of(&info.name).layer).collect();
        for info in &outline.tensors {
            let role = Role::of(&info.name);
            let layer = role.layer.and_then(|layer| demand.layers.get_mut(layer as usize));
            match (role.class, layer) {
                (Class::Nextn | Class::Other, _) => {}
                (Class::Embedding, _) => demand.embedding += outline.bytes(info),
                // Its keys are copied in 16 bits, and it is read for its values only.
                (Class::Attention, Some(layer)) if info.name.ends_with(".attn_kv_b.weight") => {
                    if !own_keys.contains(&role.layer) {
                        add(&mut layer.fixed, self.part(outline, info));
                        let bytes = 2 * (config.n_nope() * config.kv_lora_rank * config.n_head) as u64;
                        layer.fixed.bytes += bytes;
                        layer.fixed.cpu_decode += bytes as f64 / self.decode_rate(TensorType::F16);
                    }
                }
                (class, Some(layer)) if class.is_routed() => {
                    let Some(experts) = &config.experts else { continue };
                    let n = (experts.n_expert as u32).max(1);
                    let of_layer = layer.experts.get_or_insert(Experts {
                        n,
                        n_used: (experts.n_used as u32).min(n),
                        each: Part::default(),
                    });
                    add(&mut of_layer.each, divided(self.part(outline, info), n));
                }
                (_, Some(layer)) => add(&mut layer.fixed, self.part(outline, info)),
                (_, None) => add(&mut demand.head, self.part(outline, info)),
            }
        }
        if demand.head.parameters == 0 || !outline.tensors.iter().any(|info| info.name == "output.weight") {
            // Without a head of its own the embeddings are read for it.
            if let Some(info) = outline.tensors.iter().find(|info| info.name == "token_embd.weight") {
                let part = self.part(outline, info);
                demand.embedding = 0;
                add(&mut demand.head, part);
            }
        }
        demand
    }

    fn part(&self, outline: &Outline, info: &TensorInfo) -> Part {
        let bytes = outline.bytes(info);
        let parameters = info.shape.n_elements().unwrap_or(0);
        Part {
            bytes,
            parameters,
            cpu_decode: bytes as f64 / self.decode_rate(info.ty),
            cpu_prefill: 2.0 * parameters as f64 / self.prefill_rate(info.ty),
        }
    }
}

fn add(part: &mut Part, more: Part) {
    part.bytes += more.bytes;
    part.parameters += more.parameters;
    part.cpu_decode += more.cpu_decode;
    part.cpu_prefill += more.cpu_prefill;
}

fn divided(part: Part, n: u32) -> Part {
    Part {
        bytes: part.bytes.div_ceil(n.into()),
        parameters: part.parameters / u64::from(n),
        cpu_decode: part.cpu_decode / f64::from(n),
        cpu_prefill: part.cpu_prefill / f64::from(n),
    }
}

/// Operations of a layer's attention for a token and each token before it: in the latent space, and with keys and
/// values of all heads.
fn operations(outline: &Outline) -> [f64; 2] {
    let config = &outline.config;
    let absorbed = 2 * config.n_head * (config.n_cached() + config.kv_lora_rank);
    let unabsorbed = 2 * config.n_head * (config.n_key + config.n_value);
    [absorbed as f64, unabsorbed as f64]
}

fn n_vocab(outline: &Outline) -> u64 {
    let embeddings = outline.tensors.iter().find(|info| info.name == "token_embd.weight");
    embeddings.map_or(0, |info| info.shape.ne()[1])
}
