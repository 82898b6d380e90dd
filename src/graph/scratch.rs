//! How much memory the intermediate results of a step take, estimated before there is a model.

use super::forward::MAX_EXPANDED_BYTES;
use super::step::kernel_shape;
use crate::experts;
use crate::model::Config;

/// At most so many bytes for steps of up to `n_batch` tokens in a context of `n_ctx`.
///
/// The allocator lets results share memory as their lives allow. What is counted here are those that are alive
/// together where it is tightest: attention, with keys and values of all heads or with its scores, or the experts.
pub fn scratch_bytes(config: &Config, n_vocab: u64, n_batch: u64, n_ctx: u64, flash_attention: bool) -> u64 {
    let [heads, key, rot, value, rank] =
        [config.n_head, config.n_key, config.n_rot, config.n_value, config.kv_lora_rank].map(|n| n as u64);
    let (width, n_kv) = (config.n_embd as u64, n_ctx.next_multiple_of(256));
    let batch = n_batch.min(n_ctx);
    let float = 4;
    let queries = batch * heads * (2 * key + 2 * (rank + rot) + 2 * rank + 2 * value) * float;
    let seen = match flash_attention {
        true => {
            let of_heads = (heads * n_kv * (2 * key + value + rank) * float).min(MAX_EXPANDED_BYTES as u64);
            of_heads + n_kv * (2 * rank + rot) * float + batch * heads * value * float
        }
        false => 2 * heads * n_kv * batch * float,
    };
    let mask = n_kv * batch * 2;
    let experts = expert_scratch_bytes(config, batch);
    let dense = batch * 3 * config.n_ff as u64 * float;
    let stream = 6 * batch * width * float;
    // The logits of one token are computed for a prompt; when several are generated, one row each.
    let logits = n_vocab * float;
    mask + stream + logits + (queries + seen).max(experts).max(dense)
}

/// What kernels of ours need besides, for steps of up to so many tokens.
pub fn kernel_scratch_bytes(config: &Config, n_batch: u64, n_threads: usize) -> u64 {
    experts::scratch_bytes(kernel_shape(config, n_threads, n_batch as usize))
}

/// The same of steps that compute routed experts alone.
pub fn expert_scratch_bytes(config: &Config, n_batch: u64) -> u64 {
    config.experts.as_ref().map_or(0, |experts| {
        let [used, inner, width] = [experts.n_used, experts.n_ff, config.n_embd].map(|n| n as u64);
        n_batch * used * (3 * inner + 2 * width) * 4
    })
}
