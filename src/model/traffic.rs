//! How many bytes a token has read when it is generated alone: what a memory's bandwidth limits.
//!
//! Counted from the table of tensors, class by class. Intermediate results, which stay in caches, are not
//! counted.

use super::class::{Class, Role};
use super::config::Config;
use crate::gguf::{TensorInfo, TensorType};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Bytes of weights that one token reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// One row.
    pub embedding: u64,
    pub attention: u64,
    pub dense: u64,
    pub shared: u64,
    /// Of the experts that the token is given to.
    pub routed: u64,
    pub router: u64,
    pub norms: u64,
    pub head: u64,
}

impl Traffic {
    /// `tensors`: those that the forward pass uses.
    pub fn of(tensors: &[&TensorInfo], config: &Config) -> Traffic {
        let keys = tensors.iter().filter(|info| info.name.ends_with(".attn_k_b.weight"));
        let own_keys: HashSet<_> = keys.map(|info| Role::of(&info.name).layer).collect();
        let (mut traffic, mut embeddings) = (Traffic::default(), 0);
        for info in tensors {
            let bytes = info.range.end - info.range.start;
            let role = Role::of(&info.name);
            match role.class {
                Class::Embedding => {
                    embeddings = bytes;
                    traffic.embedding = bytes / info.shape.ne()[1].max(1);
                }
                Class::Attention if info.name.ends_with(".attn_kv_b.weight") => {
                    // Where keys have a tensor of their own, this one is not read.
                    if !own_keys.contains(&role.layer) {
                        traffic.attention += joint_bytes(info.ty, bytes, config);
                    }
                }
                Class::Attention => traffic.attention += bytes,
                Class::Dense => traffic.dense += bytes,
                Class::Shared => traffic.shared += bytes,
                Class::RoutedGate | Class::RoutedUp | Class::RoutedGateUp | Class::RoutedDown => {
                    traffic.routed += used(bytes, config);
                }
                Class::Router => traffic.router += bytes,
                Class::Norm => traffic.norms += bytes,
                Class::Head => traffic.head += bytes,
                Class::Nextn | Class::Other => {}
            }
        }
        if traffic.head == 0 {
            traffic.head = embeddings;
        }
        traffic
    }

    pub fn total(&self) -> u64 {
        let Traffic { embedding, attention, dense, shared, routed, router, norms, head } = self;
        embedding + attention + dense + shared + routed + router + norms + head
    }
}

/// Of all experts' bytes, those of the experts that one token uses.
fn used(bytes: u64, config: &Config) -> u64 {
    match &config.experts {
        Some(experts) => (u128::from(bytes) * experts.n_used as u128 / experts.n_expert.max(1) as u128) as u64,
        None => 0,
    }
}

/// `attn_kv_b` is read for its values only; its keys are read from a copy, transposed when the model was
/// opened.
fn joint_bytes(ty: TensorType, bytes: u64, config: &Config) -> u64 {
    let [n_nope, n_value] = [config.n_nope(), config.n_value].map(|n| n as u64);
    let key_bytes = if ty == TensorType::F32 { 4 } else { 2 };
    let keys = n_nope * (config.kv_lora_rank * config.n_head) as u64 * key_bytes;
    keys + (u128::from(bytes) * u128::from(n_value) / u128::from((n_nope + n_value).max(1))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::Shape;
    use crate::model::{ExpertConfig, Gating, RopeConfig, Scaling};

    fn v3() -> Config {
        Config {
            n_layer: 61,
            n_layer_dense: 3,
            n_embd: 7168,
            n_ff: 18432,
            n_head: 128,
            q_lora_rank: Some(1536),
            kv_lora_rank: 512,
            n_key: 192,
            n_rot: 64,
            n_value: 128,
            rms_eps: 1e-6,
            rope: RopeConfig { freq_base: 1e4, scaling: Scaling::None },
            n_ctx_train: 163_840,
            experts: Some(ExpertConfig {
                n_expert: 256,
                n_used: 8,
                n_shared: 1,
                n_ff: 2048,
                gating: Gating::Sigmoid,
                groups: None,
                groups_in_file: false,
                norm_weights: true,
                weights_scale: 2.5,
            }),
        }
    }

    fn tensor(name: &str, ty: TensorType, dims: &[u64]) -> TensorInfo {
        let shape = Shape::new(dims).unwrap();
        TensorInfo { name: name.to_owned(), ty, shape, range: 0..shape.n_bytes(ty).unwrap() }
    }

    /// V3's table, with F32 where the published files have it and everything else of type `ty`.
    fn tensors(ty: TensorType, joint: bool) -> Vec<TensorInfo> {
        let mut all =
            vec![tensor("token_embd.weight", ty, &[7168, 129_280]), tensor("output.weight", ty, &[7168, 129_280])];
        for layer in 0..61 {
            let mut add = |name: &str, ty, dims: &[u64]| all.push(tensor(&format!("blk.{layer}.{name}"), ty, dims));
            add("attn_q_a.weight", ty, &[7168, 1536]);
            add("attn_q_b.weight", ty, &[1536, 192 * 128]);
            add("attn_kv_a_mqa.weight", ty, &[7168, 576]);
            if joint {
                add("attn_kv_b.weight", ty, &[512, 256 * 128]);
            } else {
                add("attn_k_b.weight", ty, &[128, 512, 128]);
                add("attn_v_b.weight", ty, &[512, 128, 128]);
            }
            add("attn_output.weight", ty, &[128 * 128, 7168]);
            add("attn_norm.weight", TensorType::F32, &[7168]);
            if layer < 3 {
                add("ffn_gate.weight", ty, &[7168, 18432]);
                add("ffn_up.weight", ty, &[7168, 18432]);
                add("ffn_down.weight", ty, &[18432, 7168]);
                continue;
            }
            add("ffn_gate_inp.weight", TensorType::F32, &[7168, 256]);
            add("exp_probs_b.bias", TensorType::F32, &[256]);
            for (suffix, experts) in [("exps", 256), ("shexp", 1)] {
                add(&format!("ffn_gate_{suffix}.weight"), ty, &[7168, 2048, experts]);
                add(&format!("ffn_up_{suffix}.weight"), ty, &[7168, 2048, experts]);
                add(&format!("ffn_down_{suffix}.weight"), ty, &[2048, 7168, experts]);
            }
        }
        all
    }

    fn v3_traffic(ty: TensorType, joint: bool) -> Traffic {
        Traffic::of(&tensors(ty, joint).iter().collect::<Vec<_>>(), &v3())
    }

    /// Thousand millions of parameters that a token of V3 reads, counted by hand.
    #[test]
    fn a_token_of_v3_reads_36_thousand_million_parameters_and_the_head() {
        let traffic = v3_traffic(TensorType::Q8_0, false);
        let parameters = |bytes: u64| bytes as f64 * 32.0 / 34.0 / 1e9;
        for (bytes, expected) in [
            (traffic.attention, 11.41),
            (traffic.dense, 1.189),
            (traffic.shared, 2.554),
            (traffic.routed, 20.435),
            (traffic.head, 0.9267),
        ] {
            assert!((parameters(bytes) / expected - 1.0).abs() < 1e-3, "{} for {expected}", parameters(bytes));
        }
        assert_eq!(traffic.router, 58 * (7168 + 1) * 256 * 4);
        assert_eq!(traffic.norms, 61 * 7168 * 4);
        assert_eq!(traffic.embedding, 7168 / 32 * 34);
        let parts = [traffic.embedding, traffic.attention, traffic.dense, traffic.shared, traffic.routed];
        assert_eq!(traffic.total(), parts.iter().sum::<u64>() + traffic.router + traffic.norms + traffic.head);
    }

    #[test]
    fn joint_keys_and_values_count_as_they_are_read() {
        let apart = v3_traffic(TensorType::F16, false);
        assert_eq!(v3_traffic(TensorType::F16, true), apart);
        // The copied keys are F16: 512 · 128 · 128 values a layer.
        let apart = v3_traffic(TensorType::Q8_0, false).attention;
        let joint = v3_traffic(TensorType::Q8_0, true).attention;
        assert_eq!(joint - apart, 61 * 512 * 128 * 128 / 32 * (64 - 34));
    }

    #[test]
    fn without_a_head_the_embeddings_are_it() {
        let tensors = tensors(TensorType::F16, false);
        let headless: Vec<_> = tensors.iter().filter(|info| info.name != "output.weight").collect();
        let traffic = Traffic::of(&headless, &v3());
        assert_eq!(traffic.head, 7168 * 129_280 * 2);
        assert_eq!(traffic.embedding, 7168 * 2);
    }
}
