//! The metadata of a synthetic file: the keys that converters write for a `deepseek2` model in the MLA
//! layout, as Unsloth's files of 2025 have them. Those lack the keys for groups of experts; so do these.

use super::model::Model;
use super::routing::Scores;
use super::tensors::Plan;
use crate::gguf::{WriteError, Writer};

/// A writer with all metadata set and no tensors yet.
pub(super) fn writer(plan: &Plan) -> Result<Writer, WriteError> {
    let mut w = Writer::new();
    w.set("general.architecture", "deepseek2")?;
    w.set("general.type", "model")?;
    let (title, layers, mix) = (plan.model.title, plan.layers, plan.mix);
    w.set("general.name", format!("{title} synthetic, {layers} layers, {mix}, seed {}", plan.seed).as_str())?;
    w.set("general.description", "Random weights in a real model's shapes, to measure speed; its text is noise.")?;
    hyperparameters(&mut w, plan)?;
    tokenizer(&mut w, plan)?;
    w.set("general.quantization_version", 2u32)?;
    w.set("general.file_type", plan.mix.file_type())?;
    Ok(w)
}

fn hyperparameters(w: &mut Writer, plan: &Plan) -> Result<(), WriteError> {
    let model: &Model = plan.model;
    let rule = model.rule;
    for (key, value) in [
        ("block_count", Some(plan.layers)),
        ("context_length", Some(163_840)),
        ("embedding_length", Some(model.width)),
        ("feed_forward_length", Some(model.dense_ff)),
        ("attention.head_count", Some(model.heads)),
        // Latent attention: all heads read the same latent.
        ("attention.head_count_kv", Some(1)),
        ("leading_dense_block_count", Some(plan.dense)),
        ("vocab_size", Some(plan.tokens)),
        ("attention.q_lora_rank", model.q_rank),
        ("attention.kv_lora_rank", Some(model.kv_rank)),
        ("attention.key_length", Some(model.kv_rank + model.rope)),
        ("attention.value_length", Some(model.kv_rank)),
        ("attention.key_length_mla", Some(model.nope + model.rope)),
        ("attention.value_length_mla", Some(model.value)),
        ("expert_feed_forward_length", Some(model.expert_ff)),
        ("expert_count", Some(rule.experts)),
        ("expert_used_count", Some(rule.used)),
        ("expert_shared_count", Some(model.shared_experts)),
        ("rope.dimension_count", Some(model.rope)),
        ("rope.scaling.original_context_length", Some(4096)),
        ("expert_gating_func", Some(if rule.scores == Scores::Sigmoid { 2 } else { 1 })),
    ] {
        if let Some(value) = value {
            w.set(&format!("deepseek2.{key}"), value)?;
        }
    }
    for (key, value) in [
        ("attention.layer_norm_rms_epsilon", 1e-6),
        ("expert_weights_scale", model.weights_scale),
        ("rope.freq_base", 10_000.0),
        ("rope.scaling.factor", 40.0),
        ("rope.scaling.yarn_log_multiplier", model.yarn_log_multiplier),
    ] {
        w.set(&format!("deepseek2.{key}"), value)?;
    }
    w.set("deepseek2.rope.scaling.type", "yarn")?;
    w.set("deepseek2.expert_weights_norm", model.weights_are_normalised)
}

fn tokenizer(w: &mut Writer, plan: &Plan) -> Result<(), WriteError> {
    let tokens = plan.model.vocabulary.tokens(plan.tokens);
    w.set("tokenizer.ggml.model", "gpt2")?;
    w.set("tokenizer.ggml.pre", tokens.pre)?;
    w.set("tokenizer.ggml.tokens", tokens.texts.as_slice())?;
    w.set("tokenizer.ggml.token_type", tokens.types.as_slice())?;
    w.set("tokenizer.ggml.merges", tokens.merges.as_slice())?;
    w.set("tokenizer.ggml.bos_token_id", tokens.bos)?;
    w.set("tokenizer.ggml.eos_token_id", tokens.eos)?;
    w.set("tokenizer.ggml.padding_token_id", tokens.pad)?;
    w.set("tokenizer.ggml.add_bos_token", true)?;
    w.set("tokenizer.ggml.add_eos_token", false)
}
