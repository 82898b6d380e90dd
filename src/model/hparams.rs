//! A model's hyperparameters: read leniently, for any architecture, and put into words.
//!
//! This is for people. The configuration that a forward pass is built from is validated elsewhere,
//! once, and guesses nothing.

use crate::gguf::{Metadata, Value, ValueType};
use crate::text::Clipped;
use std::collections::BTreeMap;

/// Longer arrays are no hyperparameters; ggml knows 512 layers.
pub(super) const MAX_PER_LAYER: usize = 4096;

/// A hyperparameter's value, as far as words are made of it.
#[derive(Debug, Clone, PartialEq)]
enum Scalar {
    Integer(i128),
    Float(f64),
    Bool(bool),
    Text(String),
    /// One value a layer.
    PerLayer(Vec<f64>),
}

/// The keys under the architecture's prefix, without the prefix.
#[derive(Debug, Clone, Default)]
pub struct Hparams {
    pub architecture: Option<String>,
    keys: BTreeMap<String, Scalar>,
}

impl Hparams {
    pub fn read(metadata: Metadata<'_>) -> Hparams {
        let architecture = metadata.get::<&str>("general.architecture").ok().flatten().map(str::to_owned);
        let prefix = architecture.as_ref().map(|arch| format!("{arch}."));
        let own_keys = metadata.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix.as_deref()?)?, value)));
        let keys = own_keys.filter_map(|(key, value)| Some((key.to_owned(), scalar(value)?))).collect();
        Hparams { architecture, keys }
    }

    pub fn is_deepseek(&self) -> bool {
        self.architecture.as_deref() == Some("deepseek2")
    }

    /// A count or a size: a non-negative integer, or the largest of a per-layer array.
    pub fn count(&self, key: &str) -> Option<u64> {
        match self.keys.get(key)? {
            Scalar::Integer(n) => u64::try_from(*n).ok(),
            Scalar::PerLayer(list) => list
                .iter()
                .copied()
                .fold(None, |max: Option<f64>, n| Some(max.map_or(n, |max| max.max(n))))
                .map(|n| n as u64),
            _ => None,
        }
    }

    pub fn float(&self, key: &str) -> Option<f64> {
        match self.keys.get(key)? {
            Scalar::Float(x) => Some(*x),
            Scalar::Integer(n) => Some(*n as f64),
            _ => None,
        }
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        match self.keys.get(key)? {
            Scalar::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn is_true(&self, key: &str) -> bool {
        self.keys.get(key) == Some(&Scalar::Bool(true))
    }

    /// Whether the model has latent attention: its cache holds one latent vector a token and layer.
    pub fn has_mla(&self) -> bool {
        self.count("attention.kv_lora_rank").is_some_and(|rank| rank > 0)
    }

    /// How the experts of a token are chosen: `expert_gating_func`, softmax where the key is absent.
    pub fn gating(&self) -> &'static str {
        match self.count("expert_gating_func") {
            None | Some(0 | 1) => "softmax",
            Some(2) => "sigmoid",
            Some(3) => "softmax of the chosen",
            Some(4) => "square root of softplus",
            Some(_) => "unknown gating",
        }
    }

    /// Groups of experts and how many of them are used. Uploads of 2025 lack the keys; the routing
    /// that the model was trained with follows from its number of experts.
    pub fn expert_groups(&self) -> Option<(u64, u64, bool)> {
        match (self.count("expert_group_count"), self.count("expert_group_used_count")) {
            (Some(groups), Some(used)) => Some((groups, used, true)),
            _ if !self.is_deepseek() => None,
            _ => match (self.count("expert_count"), self.gating()) {
                (Some(256), "sigmoid") => Some((8, 4, false)),
                (Some(160), "softmax") => Some((8, 3, false)),
                _ => None,
            },
        }
    }

    /// The hyperparameters in words, as (label, text), fit for a terminal.
    pub fn in_words(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        let mut line = |label, text: Option<String>| lines.extend(text.filter(|t| !t.is_empty()).map(|t| (label, t)));
        line("layers", self.layers());
        line("width", self.count("embedding_length").map(|n| n.to_string()));
        line("attention", self.attention());
        line("feed-forward", self.feed_forward());
        line("routing", self.routing());
        line("context", self.context());
        line("rotary", self.rotary());
        lines
    }

    fn layers(&self) -> Option<String> {
        let n = self.count("block_count")?;
        let nextn = self.count("nextn_predict_layers").filter(|n| *n > 0);
        let dense = self.count("leading_dense_block_count").filter(|dense| self.has_experts() && *dense <= n);
        let kinds = dense.map(|dense| format!(": {dense} dense, {} mixture-of-experts", n - dense));
        let nextn = nextn.map(|n| format!(", of which {n} for next-token prediction"));
        Some(format!("{n}{}{}", kinds.unwrap_or_default(), nextn.unwrap_or_default()))
    }

    fn has_experts(&self) -> bool {
        self.count("expert_count").is_some_and(|n| n > 0)
    }

    fn attention(&self) -> Option<String> {
        let heads = self.count("attention.head_count").filter(|heads| *heads > 0)?;
        let rope = self.count("rope.dimension_count");
        if let Some(latent) = self.count("attention.kv_lora_rank").filter(|rank| *rank > 0) {
            let rope = rope.unwrap_or(0);
            let key = self.count("attention.key_length_mla").or_else(|| self.count("attention.key_length"));
            let value = self.count("attention.value_length_mla").or_else(|| self.count("attention.value_length"));
            let query = match self.count("attention.q_lora_rank").filter(|rank| *rank > 0) {
                Some(rank) => format!("queries through {rank}"),
                None => "full-rank queries".to_owned(),
            };
            let key =
                key.map_or(String::new(), |key| format!("keys {key} ({} + {rope} rotary), ", key.saturating_sub(rope)));
            let value = value.map_or(String::new(), |value| format!("values {value}, "));
            return Some(format!(
                "latent (MLA), {heads} heads, {key}{value}{query}; cache {} values a token and layer",
                latent.saturating_add(rope)
            ));
        }
        let kv = self.count("attention.head_count_kv").unwrap_or(heads);
        let kind = match kv {
            _ if kv == heads => "multi-head",
            1 => "multi-query",
            _ => "grouped-query",
        };
        let width = self.count("embedding_length").unwrap_or(0).checked_div(heads);
        let key = self.count("attention.key_length").or(width).map_or(String::new(), |key| format!(" of {key}"));
        Some(format!("{kind}, {heads} heads{key}, {kv} for keys and values"))
    }

    fn feed_forward(&self) -> Option<String> {
        let dense = self.count("feed_forward_length").map(|n| format!("{n} wide"));
        if !self.has_experts() {
            return dense;
        }
        let experts = self.count("expert_count").unwrap_or(0);
        let used = self.count("expert_used_count").unwrap_or(0);
        let width = self.count("expert_feed_forward_length").map_or(String::new(), |n| format!(" of {n}"));
        let shared = match self.count("expert_shared_count").unwrap_or(0) {
            0 => String::new(),
            1 => " and 1 shared expert".to_owned(),
            n => format!(" and {n} shared experts"),
        };
        let dense = dense.map_or(String::new(), |dense| format!("; dense layers {dense}"));
        Some(format!("{experts} routed experts{width} ({used} a token){shared}{dense}"))
    }

    fn routing(&self) -> Option<String> {
        if !self.has_experts() {
            return None;
        }
        let mut parts = vec![self.gating().to_owned()];
        match self.expert_groups() {
            Some((groups, used, true)) if groups > 1 => parts.push(format!("{used} of {groups} groups")),
            Some((groups, used, false)) => {
                parts.push(format!("{used} of {groups} groups (implied: the file lacks the keys)"));
            }
            _ => {}
        }
        if self.is_true("expert_weights_norm") {
            parts.push("weights normalised".to_owned());
        }
        if let Some(scale) = self.float("expert_weights_scale").filter(|scale| *scale != 0.0) {
            parts.push(format!("scaled by {}", short(scale)));
        }
        Some(parts.join(", "))
    }

    fn context(&self) -> Option<String> {
        let n = self.count("context_length")?;
        let original = self.count("rope.scaling.original_context_length");
        Some(match (self.text("rope.scaling.type"), self.float("rope.scaling.factor"), original) {
            (Some("none") | None, _, _) => format!("{n} tokens"),
            (Some(kind), Some(factor), Some(original)) => {
                format!("{n} tokens: {} by {} from {original}", Clipped(kind), short(factor))
            }
            (Some(kind), _, _) => format!("{n} tokens: {}", Clipped(kind)),
        })
    }

    fn rotary(&self) -> Option<String> {
        let dims = self.count("rope.dimension_count").map(|n| format!("{n} dimensions"));
        let base = self.float("rope.freq_base").map(|base| format!("base {}", short(base)));
        let multiplier =
            self.float("rope.scaling.yarn_log_multiplier").map(|m| format!("YaRN log multiplier {}", short(m)));
        Some([dims, base, multiplier].into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// A float that was an f32 in the file, without the digits that f64 makes of it.
fn short(x: f64) -> String {
    let single = x as f32;
    if single.is_finite() { single.to_string() } else { x.to_string() }
}

fn scalar(value: Value<'_>) -> Option<Scalar> {
    Some(match value {
        Value::F32(x) => Scalar::Float(x.into()),
        Value::F64(x) => Scalar::Float(x),
        Value::Bool(b) => Scalar::Bool(b),
        Value::String(bytes) => Scalar::Text(String::from_utf8_lossy(bytes).into_owned()),
        Value::Array(array) if array.len() > MAX_PER_LAYER || array.element() == ValueType::String => return None,
        Value::Array(array) => {
            let number = |value: Value<'_>| match scalar(value)? {
                Scalar::Integer(n) => Some(n as f64),
                Scalar::Float(x) => Some(x),
                _ => None,
            };
            Scalar::PerLayer(array.iter().map(number).collect::<Option<_>>()?)
        }
        integer => Scalar::Integer(integer.as_integer()?),
    })
}
