//! What a tensor is for, told from its name.
//!
//! The names are llama.cpp's, which all architectures share; one that does not fit is `Other`.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Embedding,
    Attention,
    Dense,
    Shared,
    RoutedGate,
    RoutedUp,
    /// `ffn_gate_up_exps`: gate and up in one tensor.
    RoutedGateUp,
    RoutedDown,
    Router,
    Norm,
    Head,
    /// The layer that predicts the token after next.
    Nextn,
    Other,
}

impl Class {
    pub const ALL: [Class; 13] = [
        Class::Embedding,
        Class::Attention,
        Class::Dense,
        Class::Shared,
        Class::RoutedGate,
        Class::RoutedUp,
        Class::RoutedGateUp,
        Class::RoutedDown,
        Class::Router,
        Class::Norm,
        Class::Head,
        Class::Nextn,
        Class::Other,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Class::Embedding => "token embeddings",
            Class::Attention => "attention",
            Class::Dense => "dense feed-forward",
            Class::Shared => "shared experts",
            Class::RoutedGate => "routed experts, gate",
            Class::RoutedUp => "routed experts, up",
            Class::RoutedGateUp => "routed experts, gate and up",
            Class::RoutedDown => "routed experts, down",
            Class::Router => "router",
            Class::Norm => "norms",
            Class::Head => "output head",
            Class::Nextn => "next-token prediction",
            Class::Other => "other",
        }
    }

    pub fn is_routed(self) -> bool {
        matches!(self, Class::RoutedGate | Class::RoutedUp | Class::RoutedGateUp | Class::RoutedDown)
    }
}

/// A tensor's class and, for `blk.N.…`, its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    pub class: Class,
    pub layer: Option<u32>,
}

impl Role {
    pub fn of(name: &str) -> Role {
        match layer_and_rest(name) {
            Some((layer, rest)) => Role { class: in_layer(rest), layer: Some(layer) },
            None => Role { class: outside(name), layer: None },
        }
    }
}

/// `blk.12.attn_norm.weight` → (12, `attn_norm.weight`).
fn layer_and_rest(name: &str) -> Option<(u32, &str)> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    // `blk.+1` and `blk.01` are no layers.
    let number: u32 = layer.parse().ok()?;
    (number.to_string() == layer).then_some((number, rest))
}

fn outside(name: &str) -> Class {
    match name.split('.').next() {
        Some("token_embd") => Class::Embedding,
        Some("output") => Class::Head,
        Some(part) if part.ends_with("norm") => Class::Norm,
        _ => Class::Other,
    }
}

fn in_layer(rest: &str) -> Class {
    let part = rest.split('.').next().unwrap_or(rest);
    match part {
        "nextn" => Class::Nextn,
        "ffn_gate_exps" => Class::RoutedGate,
        "ffn_up_exps" => Class::RoutedUp,
        "ffn_gate_up_exps" => Class::RoutedGateUp,
        "ffn_down_exps" => Class::RoutedDown,
        "ffn_gate_inp" | "ffn_gate_inp_shexp" | "exp_probs_b" | "ffn_gate_tid2eid" => Class::Router,
        _ if part.ends_with("norm") => Class::Norm,
        _ if part.starts_with("attn_") => Class::Attention,
        _ if part.ends_with("_shexp") => Class::Shared,
        "ffn_gate" | "ffn_up" | "ffn_down" => Class::Dense,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tensors_of_deepseek2() {
        for (name, class, layer) in [
            ("token_embd.weight", Class::Embedding, None),
            ("output_norm.weight", Class::Norm, None),
            ("output.weight", Class::Head, None),
            ("rope_freqs.weight", Class::Other, None),
            ("blk.0.attn_norm.weight", Class::Norm, Some(0)),
            ("blk.0.attn_q_a_norm.weight", Class::Norm, Some(0)),
            ("blk.60.attn_kv_a_mqa.weight", Class::Attention, Some(60)),
            ("blk.2.ffn_down.weight", Class::Dense, Some(2)),
            ("blk.3.ffn_gate_inp.weight", Class::Router, Some(3)),
            ("blk.3.exp_probs_b.bias", Class::Router, Some(3)),
            ("blk.3.ffn_gate_exps.weight", Class::RoutedGate, Some(3)),
            ("blk.3.ffn_up_exps.weight", Class::RoutedUp, Some(3)),
            ("blk.3.ffn_down_exps.weight", Class::RoutedDown, Some(3)),
            ("blk.3.ffn_gate_up_exps.weight", Class::RoutedGateUp, Some(3)),
            ("blk.3.ffn_up_shexp.weight", Class::Shared, Some(3)),
            ("blk.61.nextn.eh_proj.weight", Class::Nextn, Some(61)),
            ("blk.x.attn_q.weight", Class::Other, None),
            ("blk.01.attn_q.weight", Class::Other, None),
            ("blk.+1.attn_q.weight", Class::Other, None),
        ] {
            assert_eq!(Role::of(name), Role { class, layer }, "{name}");
        }
    }
}
