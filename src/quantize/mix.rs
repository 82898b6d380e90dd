//! Mixes: which type each tensor of a model is stored in.
//!
//! Nearly all weights are those of the routed experts, and these take few bits; the rest, which every
//! token uses, takes more. `mixes.toml` has the tables; this file applies them to names and shapes.

use super::target::type_named;
use crate::gguf::{Shape, TensorType};
use crate::model::{Class, Role};
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

/// A way to store a model, by the name of the quant that it is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub enum Mix {
    IQ1_S,
    IQ1_M,
    IQ2_XXS,
    Q2_K_XL,
    Q3_K_XL,
    Q4_K_XL,
    /// All matrices in Q8_0.
    Q8_0,
    /// All matrices in F16.
    F16,
}

/// What `mixes.toml` says of what every token uses.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shared {
    embedding: Type,
    head: Type,
    ffn_down: Type,
    ffn: Type,
    attn_k_b: Type,
    attn_v_b: Type,
    attn_kv_a_mqa: Type,
    attn_kv_b: Type,
    attn: Type,
    other: Type,
    #[serde(rename = "uncertain")]
    _uncertain: Vec<String>,
}

/// And of the routed experts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Routed {
    file_type: u32,
    gate_up: Type,
    down: Type,
    /// `down` in the first eighth of the layers.
    first_down: Type,
    #[serde(rename = "uncertain")]
    _uncertain: Vec<String>,
}

#[derive(Deserialize)]
struct Mixes {
    shared: Shared,
    #[serde(flatten)]
    routed: HashMap<String, Routed>,
}

/// A type by ggml's name for it.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Type(TensorType);

impl TryFrom<String> for Type {
    type Error = String;

    fn try_from(name: String) -> Result<Type, String> {
        type_named(&name).map(Type).ok_or_else(|| format!("there is no type {name}"))
    }
}

/// It is a part of the program, and a test reads all of it.
static MIXES: LazyLock<Mixes> =
    LazyLock::new(|| toml::from_str(include_str!("mixes.toml")).expect("mixes.toml has its form"));

impl Mix {
    pub const ALL: [Mix; 8] =
        [Mix::IQ1_S, Mix::IQ1_M, Mix::IQ2_XXS, Mix::Q2_K_XL, Mix::Q3_K_XL, Mix::Q4_K_XL, Mix::Q8_0, Mix::F16];

    /// Those of more than one type.
    pub const DYNAMIC: [Mix; 6] = [Mix::IQ1_S, Mix::IQ1_M, Mix::IQ2_XXS, Mix::Q2_K_XL, Mix::Q3_K_XL, Mix::Q4_K_XL];

    /// The quant's name, as files have it in theirs.
    pub fn name(self) -> &'static str {
        match self {
            Mix::IQ1_S => "IQ1_S",
            Mix::IQ1_M => "IQ1_M",
            Mix::IQ2_XXS => "IQ2_XXS",
            Mix::Q2_K_XL => "Q2_K_XL",
            Mix::Q3_K_XL => "Q3_K_XL",
            Mix::Q4_K_XL => "Q4_K_XL",
            Mix::Q8_0 => "Q8_0",
            Mix::F16 => "F16",
        }
    }

    /// `general.file_type`: llama.cpp's number of the quant that comes nearest.
    pub fn file_type(self) -> u32 {
        match self {
            Mix::F16 => 1,
            Mix::Q8_0 => 7,
            _ => self.routed().file_type,
        }
    }

    /// The type of the tensor `name` of this shape in a model of `n_layer` layers.
    pub fn tensor_type(self, name: &str, shape: &Shape, n_layer: u32) -> TensorType {
        let role = Role::of(name);
        if shape.dims().len() < 2 || matches!(role.class, Class::Norm | Class::Router) {
            return TensorType::F32;
        }
        let early = role.layer.is_some_and(|layer| layer < n_layer / 8);
        let [row, ..] = shape.ne();
        fitting(self.wanted(name, role.class, early), row)
    }

    /// The type that a matrix has if its rows allow.
    fn wanted(self, name: &str, class: Class, early: bool) -> TensorType {
        let routed = match self {
            Mix::Q8_0 => return TensorType::Q8_0,
            Mix::F16 => return TensorType::F16,
            _ => self.routed(),
        };
        let shared = &MIXES.shared;
        let Type(wanted) = match class {
            Class::RoutedGate | Class::RoutedUp | Class::RoutedGateUp => routed.gate_up,
            Class::RoutedDown if early => routed.first_down,
            Class::RoutedDown => routed.down,
            Class::Embedding => shared.embedding,
            Class::Head => shared.head,
            Class::Dense | Class::Shared if name.contains(".ffn_down") => shared.ffn_down,
            Class::Dense | Class::Shared => shared.ffn,
            Class::Attention => shared.attention(name),
            Class::Norm | Class::Router => return TensorType::F32,
            Class::Nextn | Class::Other => shared.other,
        };
        wanted
    }

    /// Of those with a table.
    fn routed(self) -> &'static Routed {
        &MIXES.routed[self.name()]
    }
}

impl Shared {
    /// What carries keys and values keeps more bits than queries and output; the two halves of `attn_kv_b`
    /// have rows of 128 in one of them, too short for a block of 256.
    fn attention(&self, name: &str) -> Type {
        match name.rsplit('.').nth(1).unwrap_or(name) {
            "attn_k_b" => self.attn_k_b,
            "attn_v_b" => self.attn_v_b,
            "attn_kv_a_mqa" => self.attn_kv_a_mqa,
            "attn_kv_b" => self.attn_kv_b,
            _ => self.attn,
        }
    }
}

/// `wanted`, or where rows of `row` values are no whole number of its blocks, the type of 32-value blocks
/// that llama.cpp takes in its place; F16 where not even those fit.
pub(super) fn fitting(wanted: TensorType, row: u64) -> TensorType {
    use TensorType::{F16, IQ4_NL, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
    let fits = |ty: &TensorType| row.is_multiple_of(ty.block_len());
    let instead = match wanted {
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        Q6_K => Q8_0,
        ty if ty.block_len() == 256 => IQ4_NL,
        _ => F16,
    };
    [wanted, instead].into_iter().find(fits).unwrap_or(F16)
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no mix '{}'; these are: {}", crate::text::Escaped(.0), Mix::ALL.map(Mix::name).join(", "))]
pub struct UnknownMix(pub String);

/// By its name in any case, with or without the `UD-` of Unsloth's files.
impl FromStr for Mix {
    type Err = UnknownMix;

    fn from_str(text: &str) -> Result<Mix, UnknownMix> {
        let name = text.to_ascii_uppercase();
        let name = name.strip_prefix("UD-").unwrap_or(&name);
        Mix::ALL.into_iter().find(|mix| mix.name() == name).ok_or_else(|| UnknownMix(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ty(mix: Mix, name: &str, dims: &[u64]) -> TensorType {
        mix.tensor_type(name, &Shape::new(dims).unwrap(), 61)
    }

    #[test]
    fn mixes_are_named_as_files_are() {
        for mix in Mix::ALL {
            assert_eq!(mix.name().parse(), Ok(mix));
            assert_eq!(format!("ud-{}", mix.name().to_lowercase()).parse(), Ok(mix));
        }
        let error = "Q5_K".parse::<Mix>().unwrap_err().to_string();
        assert!(error.starts_with("there is no mix 'Q5_K'; these are: IQ1_S, IQ1_M"), "{error}");
    }

    #[test]
    fn what_every_token_uses_takes_more_bits() {
        for (name, dims, expected) in [
            ("token_embd.weight", &[7168, 129_280][..], "Q4_K"),
            ("output.weight", &[7168, 129_280], "Q6_K"),
            ("output_norm.weight", &[7168], "F32"),
            ("blk.0.ffn_gate.weight", &[7168, 18432], "Q4_K"),
            ("blk.0.ffn_down.weight", &[18432, 7168], "Q6_K"),
            ("blk.9.attn_q_a.weight", &[7168, 1536], "Q4_K"),
            ("blk.9.attn_q_a_norm.weight", &[1536], "F32"),
            ("blk.9.attn_kv_a_mqa.weight", &[7168, 576], "Q6_K"),
            ("blk.9.attn_k_b.weight", &[128, 512, 128], "Q8_0"),
            ("blk.9.attn_v_b.weight", &[512, 128, 128], "Q8_0"),
            ("blk.9.attn_output.weight", &[16384, 7168], "Q4_K"),
            ("blk.9.ffn_gate_inp.weight", &[7168, 256], "F32"),
            ("blk.9.exp_probs_b.bias", &[256], "F32"),
            ("blk.9.ffn_up_shexp.weight", &[7168, 2048], "Q4_K"),
            ("blk.9.ffn_down_shexp.weight", &[2048, 7168], "Q6_K"),
            ("blk.9.ffn_gate_exps.weight", &[7168, 2048, 256], "Q2_K"),
            ("blk.9.ffn_up_exps.weight", &[7168, 2048, 256], "Q2_K"),
            ("blk.9.ffn_down_exps.weight", &[2048, 7168, 256], "Q3_K"),
            ("blk.6.ffn_down_exps.weight", &[2048, 7168, 256], "Q4_K"),
            ("blk.7.ffn_down_exps.weight", &[2048, 7168, 256], "Q3_K"),
        ] {
            assert_eq!(ty(Mix::Q2_K_XL, name, dims).name(), expected, "{name}");
        }
    }

    /// V2-Lite's experts have rows of 1408, its dense layer rows of 10944.
    #[test]
    fn rows_that_are_no_whole_blocks_get_smaller_blocks() {
        let down = |mix| ty(mix, "blk.9.ffn_down_exps.weight", &[1408, 2048, 64]).name();
        let types = Mix::ALL.map(down);
        assert_eq!(types, ["IQ4_NL", "IQ4_NL", "IQ4_NL", "IQ4_NL", "Q5_0", "Q5_1", "Q8_0", "F16"]);
        assert_eq!(ty(Mix::IQ1_S, "blk.0.ffn_down.weight", &[10944, 2048]), TensorType::Q8_0);
        assert_eq!(ty(Mix::Q8_0, "blk.0.ffn_down.weight", &[48, 8]), TensorType::F16);
    }

    /// Each step up takes more bits, in the first layers too.
    #[test]
    fn mixes_go_from_small_to_large() {
        let bits = Mix::ALL.map(|mix| {
            let of = |class, early| mix.wanted("blk.1.ffn_down_exps.weight", class, early).bits_per_weight();
            [of(Class::RoutedGate, false), of(Class::RoutedDown, false), of(Class::RoutedDown, true)]
        });
        assert!(bits.iter().all(|[gate_up, down, first]| gate_up <= down && down <= first));
        assert!(bits.is_sorted_by(|a, b| a.iter().zip(b).all(|(a, b)| a < b)), "{bits:?}");
    }
}
