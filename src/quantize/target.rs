//! What to make of a model: a mix or one type, with exceptions for tensors by name.

use super::mix::{Mix, fitting};
use crate::ggml::Quantizer;
use crate::gguf::{Shape, TensorType};
use crate::model::{Class, Role};
use crate::text::Escaped;
use regex::Regex;
use std::fmt;
use std::str::FromStr;

/// Which type each tensor gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Mix(Mix),
    /// All matrices in one type, but the head in Q6_K where that is better, and the embeddings in Q2_K where
    /// the type would take an importance matrix: of looking up a row there is none.
    Flat(TensorType),
}

impl Target {
    /// What a published quant is stored in, as far as its name says it: most of `Q4_K_M` is Q4_K.
    pub fn of_quant(name: &str) -> Option<Target> {
        let plain = name.strip_prefix("UD-").unwrap_or(name);
        let shorter = || plain.rsplit_once('_').filter(|(_, size)| matches!(*size, "S" | "M" | "L" | "XL"));
        name.parse().ok().or_else(|| shorter()?.0.parse().ok())
    }

    /// The type of the tensor `name` of this shape in a model of `n_layer` layers.
    pub fn tensor_type(self, name: &str, shape: &Shape, n_layer: u32) -> TensorType {
        let flat = match self {
            Target::Mix(mix) => return mix.tensor_type(name, shape, n_layer),
            Target::Flat(ty) => ty,
        };
        let [row, ..] = shape.ne();
        let wanted = match Role::of(name).class {
            _ if !is_matrix(name, shape) => return TensorType::F32,
            Class::Head if flat.bits_per_weight() < TensorType::Q6_K.bits_per_weight() => TensorType::Q6_K,
            Class::Embedding if wants_importance(flat) => TensorType::Q2_K,
            _ => flat,
        };
        fitting(wanted, row)
    }

    /// `general.file_type`, as llama.cpp numbers them.
    pub(super) fn file_type(self) -> u32 {
        use TensorType::*;
        match self {
            Target::Mix(mix) => mix.file_type(),
            Target::Flat(ty) => match ty {
                F32 => 0,
                F16 => 1,
                Q4_0 => 2,
                Q4_1 => 3,
                Q8_0 => 7,
                Q5_0 => 8,
                Q5_1 => 9,
                Q2_K => 10,
                Q3_K => 12,
                Q4_K => 15,
                Q5_K => 17,
                Q6_K => 18,
                IQ2_XXS => 19,
                IQ2_XS => 20,
                IQ3_XXS => 23,
                IQ1_S => 24,
                IQ4_NL => 25,
                IQ3_S => 26,
                IQ2_S => 28,
                IQ4_XS => 30,
                IQ1_M => 31,
                BF16 => 32,
                // Guessed from the tensors.
                _ => 1024,
            },
        }
    }
}

/// Whether a tensor is one that is stored in few bits: not a norm, a bias or the router.
pub(super) fn is_matrix(name: &str, shape: &Shape) -> bool {
    shape.dims().len() > 1 && !matches!(Role::of(name).class, Class::Norm | Class::Router)
}

/// Whether a type is of little use where it is not known which columns matter. ggml would store some of them
/// all the same.
pub(super) fn wants_importance(ty: TensorType) -> bool {
    use TensorType::{IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS};
    matches!(ty, IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S)
}

pub(super) fn type_named(text: &str) -> Option<TensorType> {
    Quantizer::TYPES.into_iter().find(|ty| ty.name().eq_ignore_ascii_case(text))
}

fn type_names() -> String {
    Quantizer::TYPES.map(TensorType::name).join(", ")
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Mix(mix) => write!(f, "UD-{mix}"),
            Target::Flat(ty) => ty.fmt(f),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    #[error("there is no mix and no type '{}'; mixes: {}; types: {}",
        Escaped(.0), Mix::DYNAMIC.map(|mix| format!("UD-{mix}")).join(", "), type_names())]
    Unknown(String),
    #[error("'{}' is not PATTERN=TYPE", Escaped(.0))]
    Form(String),
    #[error("there is no type '{}'; these are: {}", Escaped(.0), type_names())]
    Type(String),
    #[error("{}", Escaped(.0))]
    Pattern(String),
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Target, BadTarget> {
        // IQ1_S is a type and, with UD- before it, a mix.
        let flat = type_named(text).map(Target::Flat);
        flat.or_else(|| text.parse().ok().map(Target::Mix)).ok_or_else(|| BadTarget::Unknown(text.to_owned()))
    }
}

/// A type for the tensors whose names a pattern is found in.
#[derive(Debug, Clone)]
pub struct Override {
    pub(super) pattern: Regex,
    pub(super) ty: TensorType,
}

impl FromStr for Override {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Override, BadTarget> {
        let (pattern, ty) = text
            .rsplit_once('=')
            .filter(|(pattern, _)| !pattern.is_empty())
            .ok_or_else(|| BadTarget::Form(text.to_owned()))?;
        let ty = type_named(ty).ok_or_else(|| BadTarget::Type(ty.to_owned()))?;
        let pattern = Regex::new(pattern).map_err(|error| BadTarget::Pattern(error.to_string()))?;
        Ok(Override { pattern, ty })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_and_types_are_told_apart() {
        assert_eq!("ud-q2_k_xl".parse(), Ok(Target::Mix(Mix::Q2_K_XL)));
        assert_eq!("UD-IQ1_S".parse(), Ok(Target::Mix(Mix::IQ1_S)));
        assert_eq!("q2_k".parse(), Ok(Target::Flat(TensorType::Q2_K)));
        let error = "I8".parse::<Target>().unwrap_err().to_string();
        assert!(error.starts_with("there is no mix and no type 'I8'; mixes: UD-IQ1_S,"), "{error}");
    }

    #[test]
    fn published_quants_by_their_names() {
        let flat = |ty| Some(Target::Flat(ty));
        for (name, expected) in [
            ("Q4_K_M", flat(TensorType::Q4_K)),
            ("UD-Q5_K_XL", flat(TensorType::Q5_K)),
            ("Q8_0", flat(TensorType::Q8_0)),
            ("IQ1_S", flat(TensorType::IQ1_S)),
            ("UD-IQ1_S", Some(Target::Mix(Mix::IQ1_S))),
            ("UD-Q2_K_XL", Some(Target::Mix(Mix::Q2_K_XL))),
            ("IQ3_M", None),
            ("demo", None),
        ] {
            assert_eq!(Target::of_quant(name), expected, "{name}");
        }
    }

    #[test]
    fn exceptions_name_a_pattern_and_a_type() {
        let these: Override = "ffn_(gate|up)_exps=q3_k".parse().unwrap();
        assert_eq!((these.pattern.is_match("blk.7.ffn_up_exps.weight"), these.ty), (true, TensorType::Q3_K));
        let error = |text: &str| text.parse::<Override>().unwrap_err().to_string();
        assert_eq!(error("Q3_K"), "'Q3_K' is not PATTERN=TYPE");
        assert_eq!(error("=Q3_K"), "'=Q3_K' is not PATTERN=TYPE");
        assert!(error("up=Q9").starts_with("there is no type 'Q9'; these are: F32, F16"));
        assert!(error("(=Q3_K").contains("unclosed group"));
    }

    #[test]
    fn one_type_is_for_matrices_only() {
        let ty = |flat, name: &str, dims: &[u64]| Target::Flat(flat).tensor_type(name, &Shape::new(dims).unwrap(), 61);
        use TensorType::{F16, F32, IQ2_XS, IQ4_NL, Q2_K, Q5_0, Q6_K};
        assert_eq!(ty(Q2_K, "blk.9.attn_q_a.weight", &[7168, 1536]), Q2_K);
        assert_eq!(ty(Q2_K, "blk.9.attn_k_b.weight", &[128, 512, 128]), IQ4_NL);
        assert_eq!(ty(Q2_K, "blk.9.ffn_gate_inp.weight", &[7168, 256]), F32);
        assert_eq!(ty(Q2_K, "blk.9.attn_norm.weight", &[7168]), F32);
        assert_eq!(ty(Q2_K, "output.weight", &[7168, 129_280]), Q6_K);
        assert_eq!(ty(F16, "output.weight", &[7168, 129_280]), F16);
        assert_eq!(ty(IQ2_XS, "token_embd.weight", &[7168, 129_280]), Q2_K);
        assert_eq!(ty(Q5_0, "token_embd.weight", &[7168, 129_280]), Q5_0);
    }
}
