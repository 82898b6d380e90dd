//! The models that a synthetic file can be like, as data.

use super::routing::{GroupScore, Groups, Rule, Scores};
use crate::text::Escaped;
use std::fmt;
use std::str::FromStr;

/// The dimensions of a `deepseek2` model.
#[derive(Debug, PartialEq)]
pub struct Model {
    pub(super) name: &'static str,
    pub(super) other_name: Option<&'static str>,
    /// For `general.name`.
    pub(super) title: &'static str,
    pub(super) layers: u32,
    pub(super) dense_layers: u32,
    pub(super) width: u32,
    pub(super) heads: u32,
    /// `None`: queries are not compressed.
    pub(super) q_rank: Option<u32>,
    pub(super) kv_rank: u32,
    /// Values of a key that are not rotated, and those that are.
    pub(super) nope: u32,
    pub(super) rope: u32,
    pub(super) value: u32,
    pub(super) dense_ff: u32,
    pub(super) expert_ff: u32,
    pub(super) shared_experts: u32,
    pub(super) rule: Rule,
    pub(super) weights_scale: f32,
    pub(super) weights_are_normalised: bool,
    pub(super) yarn_log_multiplier: f32,
    pub(super) tokens: u32,
    pub(super) vocabulary: Vocabulary,
}

/// Whose tokens frame a prompt, and where their ids are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vocabulary {
    V2,
    V3,
}

const MODELS: [Model; 4] = [
    Model {
        name: "deepseek-v3",
        other_name: None,
        title: "DeepSeek-V3",
        layers: 61,
        dense_layers: 3,
        width: 7168,
        heads: 128,
        q_rank: Some(1536),
        kv_rank: 512,
        nope: 128,
        rope: 64,
        value: 128,
        dense_ff: 18432,
        expert_ff: 2048,
        shared_experts: 1,
        rule: Rule {
            experts: 256,
            used: 8,
            scores: Scores::Sigmoid,
            groups: Some(Groups { count: 8, used: 4, score: GroupScore::BestTwo }),
        },
        weights_scale: 2.5,
        weights_are_normalised: true,
        yarn_log_multiplier: 0.1,
        tokens: 129_280,
        vocabulary: Vocabulary::V3,
    },
    Model {
        name: "deepseek-v2.5",
        other_name: Some("deepseek-v2"),
        title: "DeepSeek-V2.5",
        layers: 60,
        dense_layers: 1,
        width: 5120,
        heads: 128,
        q_rank: Some(1536),
        kv_rank: 512,
        nope: 128,
        rope: 64,
        value: 128,
        dense_ff: 12288,
        expert_ff: 1536,
        shared_experts: 2,
        rule: Rule {
            experts: 160,
            used: 6,
            scores: Scores::Softmax,
            groups: Some(Groups { count: 8, used: 3, score: GroupScore::Best }),
        },
        weights_scale: 16.0,
        weights_are_normalised: false,
        yarn_log_multiplier: 0.1,
        tokens: 102_400,
        vocabulary: Vocabulary::V2,
    },
    Model {
        name: "deepseek-v2-lite",
        other_name: None,
        title: "DeepSeek-V2-Lite",
        layers: 27,
        dense_layers: 1,
        width: 2048,
        heads: 16,
        q_rank: None,
        kv_rank: 512,
        nope: 128,
        rope: 64,
        value: 128,
        dense_ff: 10944,
        expert_ff: 1408,
        shared_experts: 2,
        rule: Rule { experts: 64, used: 6, scores: Scores::Softmax, groups: None },
        weights_scale: 1.0,
        weights_are_normalised: false,
        yarn_log_multiplier: 0.0707,
        tokens: 102_400,
        vocabulary: Vocabulary::V2,
    },
    // V3 in small, for tests: every kind of tensor, a few megabytes.
    Model {
        name: "tiny",
        other_name: None,
        title: "Tiny DeepSeek-V3",
        layers: 4,
        dense_layers: 1,
        width: 512,
        heads: 4,
        q_rank: Some(256),
        kv_rank: 256,
        nope: 64,
        rope: 32,
        value: 64,
        dense_ff: 768,
        expert_ff: 256,
        shared_experts: 1,
        rule: Rule {
            experts: 32,
            used: 4,
            scores: Scores::Sigmoid,
            groups: Some(Groups { count: 4, used: 2, score: GroupScore::BestTwo }),
        },
        weights_scale: 2.5,
        weights_are_normalised: true,
        yarn_log_multiplier: 0.1,
        tokens: 1024,
        vocabulary: Vocabulary::V3,
    },
];

impl Model {
    /// The names of published models that a file can be like.
    pub fn names() -> impl Iterator<Item = &'static str> {
        MODELS.iter().flat_map(|model| [Some(model.name), model.other_name]).flatten().filter(|name| *name != "tiny")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no shapes are known of '{}'; these are: {}", Escaped(.0), Model::names().collect::<Vec<_>>().join(", "))]
pub struct UnknownModel(pub String);

impl FromStr for &'static Model {
    type Err = UnknownModel;

    fn from_str(text: &str) -> Result<&'static Model, UnknownModel> {
        let named = |name: &str| text.eq_ignore_ascii_case(name);
        let found = MODELS.iter().find(|model| named(model.name) || model.other_name.is_some_and(named));
        found.ok_or_else(|| UnknownModel(text.to_owned()))
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
