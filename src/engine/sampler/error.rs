//! What can be wrong with parameters and with logits.

use crate::text::Clipped;
use rand_chacha::rand_core::OsError;

/// A parameter that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ParamError {
    #[error("no sampling parameter is called '{}'; these are: {}", Clipped(.0), super::SamplerParams::KEYS.join(", "))]
    Unknown(String),
    #[error("{name}: '{}' is not {expected}", Clipped(.value))]
    Unreadable { name: &'static str, value: String, expected: &'static str },
    #[error("{name} is {value}; it must be {range}")]
    Range { name: &'static str, value: String, range: &'static str },
    #[error("logit_bias: there is no token {token}; this vocabulary has {n_vocab}")]
    NoToken { token: u32, n_vocab: usize },
    #[error("the system has no random seed: {0}; set one with seed")]
    NoSeed(OsError),
}

impl ParamError {
    /// Which parameter it is about.
    pub fn parameter(&self) -> Option<&'static str> {
        match self {
            ParamError::Unreadable { name, .. } | ParamError::Range { name, .. } => Some(name),
            ParamError::NoToken { .. } => Some("logit_bias"),
            ParamError::NoSeed(_) => Some("seed"),
            ParamError::Unknown(_) => None,
        }
    }
}

/// Logits that no token can be picked from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    #[error("there are {found} logits for {expected} tokens")]
    Length { expected: usize, found: usize },
    #[error(
        "the logit of token {token} is not a number: the model or its file is damaged, or a computation overflowed"
    )]
    NotANumber { token: u32 },
    #[error("the logit of token {token} is infinite: a computation overflowed")]
    Infinite { token: u32 },
    #[error("every token is forbidden, by logit bias, by a grammar, or by the logits themselves")]
    NothingAllowed,
}
