//! Well-formed files that are no model this program can run: what each must be answered with.

use super::draft::{Draft, Key, Part};
use cachalot::gguf::TensorType;

pub struct BadModel {
    pub name: &'static str,
    pub draft: Draft,
    /// Part of the message, which names key or tensor.
    pub message: &'static str,
    pub exit_code: i32,
}

/// The tiny model, each time with one fault.
pub fn bad_models() -> Vec<BadModel> {
    let mut list = Vec::new();
    let mut bad = |name, message, spoil: &dyn Fn(&mut Draft)| {
        let mut draft = Draft::tiny();
        spoil(&mut draft);
        list.push(BadModel { name, draft, message, exit_code: 65 });
    };

    // Other models.
    for (architecture, message) in [
        (
            "deepseek32",
            "the architecture is 'deepseek32' (DeepSeek-V3.2, with sparse attention by a lightning indexer)",
        ),
        ("deepseek4", "the architecture is 'deepseek4' (DeepSeek-V4, a different design)"),
        ("deepseek", "the architecture is 'deepseek' (the first DeepSeek MoE, without latent attention)"),
        ("llama", "the architecture is 'llama'; this program runs deepseek2"),
    ] {
        bad(architecture, message, &|d| d.set_key("general.architecture", Key::Text(architecture)));
    }
    bad("no architecture", "general.architecture is missing", &|d| d.remove("general.architecture"));

    // Keys.
    bad("no width", "deepseek2.embedding_length is missing", &|d| d.remove("embedding_length"));
    bad("no epsilon", "deepseek2.attention.layer_norm_rms_epsilon is missing", &|d| {
        d.remove("attention.layer_norm_rms_epsilon");
    });
    bad("width as text", "'deepseek2.embedding_length' must be an integer", &|d| {
        d.set("embedding_length", Key::Text("8"));
    });
    bad("epsilon is NaN", "layer_norm_rms_epsilon is NaN, but it must be a finite number", &|d| {
        d.set("attention.layer_norm_rms_epsilon", Key::F32(f32::NAN));
    });
    bad("no layers", "deepseek2.block_count is 0, but it must be at least 1", &|d| d.set("block_count", Key::U32(0)));
    bad("2^31 layers", "deepseek2.block_count is 2147483648, but no model is that large", &|d| {
        d.set("block_count", Key::U32(1 << 31));
    });
    bad("a million layers", "deepseek2.block_count is 1000000, but no model is that deep", &|d| {
        d.set("block_count", Key::U32(1_000_000));
    });
    bad("2^31 heads", "deepseek2.attention.head_count is 2147483648, but no model is that large", &|d| {
        d.set("attention.head_count", Key::U32(1 << 31));
    });
    bad("a million experts", "deepseek2.expert_count is 1000000, but no model has that many", &|d| {
        d.set("expert_count", Key::U32(1_000_000));
    });
    bad("more experts used than there are", "expert_used_count is 3, but it must be from 1 to the 2", &|d| {
        d.set("expert_used_count", Key::U32(3));
    });
    bad("no experts used", "expert_used_count is 0, but it must be at least 1", &|d| {
        d.set("expert_used_count", Key::U32(0));
    });
    bad("groups that do not divide", "expert_group_count is 3, but it must divide the 2 experts", &|d| {
        d.set("expert_group_count", Key::U32(3));
        d.set("expert_group_used_count", Key::U32(1));
    });
    bad("more groups used than there are", "expert_group_used_count is 3, but it must be from 1 to the 2", &|d| {
        d.set("expert_group_count", Key::U32(2));
        d.set("expert_group_used_count", Key::U32(3));
    });
    bad("more experts than the groups hold", "expert_used_count is 2, but 1 groups of 1 experts are used", &|d| {
        d.set("expert_used_count", Key::U32(2));
        d.set("expert_group_count", Key::U32(2));
        d.set("expert_group_used_count", Key::U32(1));
    });
    bad("odd rotary dimension", "rope.dimension_count is 3, but it must be even and less than the 4", &|d| {
        d.set("rope.dimension_count", Key::U32(3));
    });
    bad("rotary dimension of the whole key", "rope.dimension_count is 4, but it must be even and less than", &|d| {
        d.set("rope.dimension_count", Key::U32(4));
    });
    bad("unknown gating", "expert_gating_func is 9, but only 1 (softmax) and 2 (sigmoid) are known", &|d| {
        d.set("expert_gating_func", Key::U32(9));
    });
    bad("unknown scaling", "rope.scaling.type is longrope, but only none, linear and yarn are known", &|d| {
        d.set("rope.scaling.type", Key::Text("longrope"));
    });
    bad("heads by the layer", "attention.head_count is 2 in one layer and 4 in another", &|d| {
        d.set("attention.head_count", Key::U32s(vec![2, 4]));
    });

    // Tensors that are missing.
    for (tensor, message) in [
        ("token_embd.weight", "the tensor token_embd.weight is missing; the model needs it with the shape [8, "),
        ("output_norm.weight", "the tensor output_norm.weight is missing; the model needs it with the shape [8]"),
        (
            "blk.0.attn_q_b.weight",
            "the tensor blk.0.attn_q_b.weight is missing; the model needs it with the shape [4, 8]",
        ),
        ("blk.0.attn_k_b.weight", "blk.0.attn_k_b.weight is missing; the model needs it with the shape [2, 4, 2]"),
        ("blk.1.attn_v_b.weight", "blk.1.attn_v_b.weight is missing; the model needs it with the shape [4, 2, 2]"),
        ("blk.0.ffn_gate.weight", "blk.0.ffn_gate.weight is missing; the model needs it with the shape [8, 8]"),
        ("blk.1.ffn_gate_inp.weight", "blk.1.ffn_gate_inp.weight is missing; the model needs it with the shape [8, 2]"),
        (
            "blk.1.ffn_up_exps.weight",
            "blk.1.ffn_up_exps.weight is missing; the model needs it with the shape [8, 4, 2]",
        ),
        ("blk.1.ffn_down_shexp.weight", "blk.1.ffn_down_shexp.weight is missing; the model needs it"),
    ] {
        bad(tensor, message, &|d| drop(d.take(tensor)));
    }
    bad("a layer too few", "the tensor blk.2.attn_norm.weight is missing", &|d| d.set("block_count", Key::U32(3)));

    // Tensors of another shape.
    for (name, tensor, dims, message) in [
        (
            "long norm",
            "blk.0.attn_norm.weight",
            &[16][..],
            "blk.0.attn_norm.weight has the shape [16], but must have [8]",
        ),
        (
            "matrix for a norm",
            "output_norm.weight",
            &[8, 2],
            "output_norm.weight has the shape [8, 2], but must have [8]",
        ),
        ("narrow head", "output.weight", &[4, 6], "output.weight has the shape [4, 6], but must have [8, 6]"),
        ("short head", "output.weight", &[8, 5], "output.weight has the shape [8, 5], but must have [8, 6]"),
        (
            "keys of three heads",
            "blk.0.attn_k_b.weight",
            &[2, 4, 3],
            "blk.0.attn_k_b.weight has the shape [2, 4, 3], but must have [2, 4, 2] or [2, 8]",
        ),
        (
            "keys not transposed",
            "blk.0.attn_k_b.weight",
            &[4, 2, 2],
            "blk.0.attn_k_b.weight has the shape [4, 2, 2], but must have [2, 4, 2] or [2, 8]",
        ),
        (
            "one expert too few",
            "blk.1.ffn_down_exps.weight",
            &[4, 8, 1],
            "blk.1.ffn_down_exps.weight has the shape [4, 8, 1], but must have [4, 8, 2]",
        ),
        (
            "one bias too few",
            "blk.1.exp_probs_b.bias",
            &[1],
            "blk.1.exp_probs_b.bias has the shape [1], but must have [2]",
        ),
        (
            "wide shared expert",
            "blk.1.ffn_gate_shexp.weight",
            &[8, 8],
            "blk.1.ffn_gate_shexp.weight has the shape [8, 8], but must have [8, 4]",
        ),
    ] {
        bad(name, message, &|d| d.part(tensor).resize(dims));
    }
    bad("a short joint projection", "attn_kv_b.weight has the shape [4, 7], but must have [4, 8]", &|d| {
        d.take("blk.0.attn_k_b.weight");
        d.take("blk.0.attn_v_b.weight");
        d.tensors.push(Part::f32("blk.0.attn_kv_b.weight", &[4, 7], &[0.0; 28]));
    });

    // Tensors of another type.
    for (name, tensor, ty, message) in [
        ("F16 norm", "blk.1.ffn_norm.weight", TensorType::F16, "blk.1.ffn_norm.weight is F16, but must be F32"),
        ("F16 bias", "blk.1.exp_probs_b.bias", TensorType::F16, "blk.1.exp_probs_b.bias is F16, but must be F32"),
        (
            "I32 matrix",
            "blk.0.attn_output.weight",
            TensorType::I32,
            "blk.0.attn_output.weight is I32, with which nothing can be computed",
        ),
        ("F64 embeddings", "token_embd.weight", TensorType::F64, "token_embd.weight is F64, with which nothing"),
        ("I8 experts", "blk.1.ffn_gate_exps.weight", TensorType::I8, "blk.1.ffn_gate_exps.weight is I8, with which"),
    ] {
        bad(name, message, &|d| {
            let part = d.part(tensor);
            part.ty = ty;
            let dims = part.dims.clone();
            part.resize(&dims);
        });
    }
    list
}
