//! Models written with the program's own writer: one that fits in a few kilobytes, one with V3's
//! table of tensors.

use cachalot::gguf::{Shape, Split, TensorType, Writer};
use std::path::{Path, PathBuf};

/// The dimensions of a deepseek2 model.
pub struct Dims {
    pub name: &'static str,
    pub layers: u64,
    pub dense_layers: u64,
    pub width: u64,
    pub heads: u64,
    pub q_rank: u64,
    pub kv_rank: u64,
    pub nope: u64,
    pub rope: u64,
    pub value: u64,
    pub dense_ff: u64,
    pub expert_ff: u64,
    pub experts: u64,
    pub experts_used: u64,
    pub tokens: usize,
    pub merges: usize,
    /// Type of matrices; norms, router and bias are F32.
    pub ty: fn(&str) -> TensorType,
}

pub const TINY: Dims = Dims {
    name: "tiny",
    layers: 2,
    dense_layers: 1,
    width: 8,
    heads: 2,
    q_rank: 4,
    kv_rank: 4,
    nope: 2,
    rope: 2,
    value: 2,
    dense_ff: 8,
    expert_ff: 4,
    experts: 2,
    experts_used: 1,
    tokens: 6,
    merges: 2,
    ty: |_| TensorType::F32,
};

/// DeepSeek-V3-0324 in the MLA layout: 1,086 tensors, 671 billion parameters.
pub const V3: Dims = Dims {
    name: "DeepSeek-V3-0324-shaped",
    layers: 61,
    dense_layers: 3,
    width: 7168,
    heads: 128,
    q_rank: 1536,
    kv_rank: 512,
    nope: 128,
    rope: 64,
    value: 128,
    dense_ff: 18432,
    expert_ff: 2048,
    experts: 256,
    experts_used: 8,
    tokens: 129_280,
    merges: 127_741,
    ty: |name| match name {
        _ if name.contains("attn_k_b") || name.contains("attn_v_b") => TensorType::Q8_0,
        _ if name.contains("ffn_down_exps") => TensorType::Q3_K,
        _ if name.contains("exps") => TensorType::Q2_K,
        _ => TensorType::Q4_K,
    },
};

/// A model's tensors in order: name, type, dimensions.
pub fn tensors(d: &Dims) -> Vec<(String, TensorType, Vec<u64>)> {
    let mut list: Vec<(String, Vec<u64>)> = vec![("token_embd.weight".into(), vec![d.width, d.tokens as u64])];
    for layer in 0..d.layers {
        let mut add = |name: &str, dims: &[u64]| list.push((format!("blk.{layer}.{name}"), dims.to_vec()));
        add("attn_norm.weight", &[d.width]);
        add("attn_q_a.weight", &[d.width, d.q_rank]);
        add("attn_q_a_norm.weight", &[d.q_rank]);
        add("attn_q_b.weight", &[d.q_rank, (d.nope + d.rope) * d.heads]);
        add("attn_kv_a_mqa.weight", &[d.width, d.kv_rank + d.rope]);
        add("attn_kv_a_norm.weight", &[d.kv_rank]);
        add("attn_k_b.weight", &[d.nope, d.kv_rank, d.heads]);
        add("attn_v_b.weight", &[d.kv_rank, d.value, d.heads]);
        add("attn_output.weight", &[d.value * d.heads, d.width]);
        add("ffn_norm.weight", &[d.width]);
        if layer < d.dense_layers {
            add("ffn_gate.weight", &[d.width, d.dense_ff]);
            add("ffn_up.weight", &[d.width, d.dense_ff]);
            add("ffn_down.weight", &[d.dense_ff, d.width]);
        } else {
            add("ffn_gate_inp.weight", &[d.width, d.experts]);
            add("exp_probs_b.bias", &[d.experts]);
            add("ffn_gate_exps.weight", &[d.width, d.expert_ff, d.experts]);
            add("ffn_up_exps.weight", &[d.width, d.expert_ff, d.experts]);
            add("ffn_down_exps.weight", &[d.expert_ff, d.width, d.experts]);
            add("ffn_gate_shexp.weight", &[d.width, d.expert_ff]);
            add("ffn_up_shexp.weight", &[d.width, d.expert_ff]);
            add("ffn_down_shexp.weight", &[d.expert_ff, d.width]);
        }
    }
    list.push(("output_norm.weight".into(), vec![d.width]));
    list.push(("output.weight".into(), vec![d.width, d.tokens as u64]));
    let ty = |name: &str| match name {
        _ if name.contains("norm") || name.contains("ffn_gate_inp") || name.ends_with(".bias") => TensorType::F32,
        _ => (d.ty)(name),
    };
    list.into_iter().map(|(name, dims)| (name.clone(), ty(&name), dims)).collect()
}

/// The metadata and the tensors of a model, with nothing written yet.
pub fn writer(d: &Dims) -> Writer {
    let mut w = Writer::new();
    w.set("general.architecture", "deepseek2").unwrap();
    w.set("general.name", d.name).unwrap();
    for (key, value) in [
        ("block_count", d.layers),
        ("context_length", 163_840),
        ("embedding_length", d.width),
        ("feed_forward_length", d.dense_ff),
        ("leading_dense_block_count", d.dense_layers),
        ("attention.head_count", d.heads),
        ("attention.head_count_kv", 1),
        ("attention.q_lora_rank", d.q_rank),
        ("attention.kv_lora_rank", d.kv_rank),
        ("attention.key_length", d.kv_rank + d.rope),
        ("attention.value_length", d.kv_rank),
        ("attention.key_length_mla", d.nope + d.rope),
        ("attention.value_length_mla", d.value),
        ("rope.dimension_count", d.rope),
        ("expert_count", d.experts),
        ("expert_used_count", d.experts_used),
        ("expert_shared_count", 1),
        ("expert_feed_forward_length", d.expert_ff),
        ("expert_gating_func", 2),
        ("rope.scaling.original_context_length", 4096),
        ("vocab_size", d.tokens as u64),
    ] {
        w.set(&format!("deepseek2.{key}"), value as u32).unwrap();
    }
    w.set("deepseek2.attention.layer_norm_rms_epsilon", 1e-6f32).unwrap();
    w.set("deepseek2.expert_weights_scale", 2.5f32).unwrap();
    w.set("deepseek2.expert_weights_norm", true).unwrap();
    w.set("deepseek2.rope.freq_base", 10_000f32).unwrap();
    w.set("deepseek2.rope.scaling.type", "yarn").unwrap();
    w.set("deepseek2.rope.scaling.factor", 40f32).unwrap();
    w.set("deepseek2.rope.scaling.yarn_log_multiplier", 0.1f32).unwrap();
    let tokens: Vec<String> = (0..d.tokens).map(|i| format!("t{i}")).collect();
    let merges: Vec<String> = (0..d.merges).map(|i| format!("t{i} t{}", i + 1)).collect();
    w.set("tokenizer.ggml.model", "gpt2").unwrap();
    w.set("tokenizer.ggml.pre", "deepseek-v3").unwrap();
    w.set("tokenizer.ggml.tokens", tokens.as_slice()).unwrap();
    w.set("tokenizer.ggml.token_type", vec![1i32; d.tokens].as_slice()).unwrap();
    w.set("tokenizer.ggml.merges", merges.as_slice()).unwrap();
    w.set("tokenizer.ggml.bos_token_id", 0u32).unwrap();
    w.set("tokenizer.ggml.eos_token_id", 1u32).unwrap();
    w.set("tokenizer.ggml.add_bos_token", true).unwrap();
    for (name, ty, dims) in tensors(d) {
        w.add_tensor(&name, ty, Shape::new(&dims).unwrap()).unwrap();
    }
    w
}

/// Writes a model whose values count up, so that no two tensors are alike.
pub fn write_tiny(path: &Path, split: Split) -> Vec<PathBuf> {
    let mut out = writer(&TINY).create(path, split).unwrap();
    let mut next = 0u32;
    for (name, _, dims) in tensors(&TINY) {
        let values = dims.iter().product::<u64>() as u32;
        let data: Vec<u8> = (next..next + values).flat_map(|n| (n as f32 / 1024.0).to_le_bytes()).collect();
        next += values;
        out.write(&name, &data).unwrap();
    }
    out.finish().unwrap()
}

/// Writes three shards of a few hundred bytes, one tensor each, with a value of most types.
pub fn write_mini(path: &Path) -> Vec<PathBuf> {
    let mut w = Writer::new();
    w.set("general.architecture", "deepseek2").unwrap();
    w.set("deepseek2.block_count", 1u32).unwrap();
    w.set("deepseek2.rope.freq_base", 1e4f32).unwrap();
    w.set("deepseek2.expert_weights_norm", true).unwrap();
    w.set("tokenizer.ggml.tokens", ["a", "b"].as_slice()).unwrap();
    w.set("tokenizer.ggml.token_type", [1i32, 3].as_slice()).unwrap();
    w.set("x", 1u64).unwrap();
    let tensors = [("token_embd.weight", [4, 2]), ("blk.0.ffn_up.weight", [4, 3]), ("output.weight", [4, 2])];
    for (name, dims) in tensors {
        w.add_tensor(name, TensorType::F32, Shape::new(&dims).unwrap()).unwrap();
    }
    let mut out = w.create(path, Split::MaxTensors(1)).unwrap();
    for (name, [width, rows]) in tensors {
        out.write(name, &[1; 48][..(width * rows * 4) as usize]).unwrap();
    }
    out.finish().unwrap()
}

/// Writes a model whose tensors are holes: right in every length, empty on the disk.
pub fn write_holes(d: &Dims, path: &Path, split: Split) -> Vec<PathBuf> {
    let mut out = writer(d).create(path, split).unwrap();
    for (name, _, _) in tensors(d) {
        out.write_hole(&name).unwrap();
    }
    out.finish().unwrap()
}
