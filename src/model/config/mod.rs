//! The configuration that a forward pass is built from: read from the metadata and validated, once.
//!
//! Nothing is guessed later and no dimension is known beforehand; where a file leaves something out, the
//! rule that fills it in stands here. The tensors' shapes are held against it in `weights`.

mod keys;
#[cfg(test)]
mod tests;

use crate::gguf::{Metadata, MetadataError};
use crate::text::Clipped;
use keys::Keys;

/// deepseek2, all of it: V2 to V3.1, R1, and others of the same graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Layers of the forward pass; those that predict the token after next are not counted.
    pub n_layer: usize,
    /// The first layers, whose feed-forward is dense.
    pub n_layer_dense: usize,
    pub n_embd: usize,
    /// Width of the dense layers' feed-forward; 0 if there are none.
    pub n_ff: usize,
    pub n_head: usize,
    /// Rank of the queries' projection; `None` if they have full rank.
    pub q_lora_rank: Option<usize>,
    /// Rank of the latent vector that keys and values are made of, and that is cached.
    pub kv_lora_rank: usize,
    /// Values of a key: those without position, then those that are turned by it.
    pub n_key: usize,
    /// Values of a key, and of a cached token, that are turned by the position.
    pub n_rot: usize,
    pub n_value: usize,
    pub rms_eps: f32,
    pub rope: RopeConfig,
    /// Context that the model was made for, in tokens.
    pub n_ctx_train: usize,
    /// `None` for a model without mixture layers.
    pub experts: Option<ExpertConfig>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeConfig {
    pub freq_base: f32,
    pub scaling: Scaling,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scaling {
    None,
    Linear {
        factor: f32,
    },
    /// arXiv:2309.00071, as DeepSeek-V2's paper takes it (arXiv:2405.04434, 3.1.4).
    Yarn {
        factor: f32,
        n_ctx_orig: usize,
        beta_fast: f32,
        beta_slow: f32,
        /// By how much attention is sharpened as the context is stretched; `None` if the file does not say.
        mscale_all_dim: Option<f32>,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct ExpertConfig {
    pub n_expert: usize,
    /// Routed experts of a token.
    pub n_used: usize,
    /// Shared experts, which are one feed-forward of their joint width.
    pub n_shared: usize,
    /// Width of an expert's feed-forward.
    pub n_ff: usize,
    pub gating: Gating,
    /// `None` where a token may use any experts.
    pub groups: Option<Groups>,
    /// Whether `groups` stands in the file; uploads of 2025 leave it out.
    pub groups_in_file: bool,
    /// Whether a token's weights are made to sum to 1.
    pub norm_weights: bool,
    /// What the weights are multiplied by, after that.
    pub weights_scale: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gating {
    Softmax,
    Sigmoid,
}

/// Experts are chosen from the best groups only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    pub n_group: usize,
    pub n_used: usize,
    pub score: GroupScore,
}

/// What makes a group good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupScore {
    /// Its best expert (DeepSeek-V2).
    Best,
    /// The sum of its two best (DeepSeek-V3).
    BestTwo,
}

/// A model that this program does not run.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "the architecture is '{found}'{}; this program runs deepseek2: DeepSeek-V2, V2.5, V3, V3.1, R1 and Coder-V2",
        explain(found)
    )]
    Architecture { found: String },
    #[error("{key} is missing")]
    Missing { key: String },
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error("{key} is {value}, but {must}")]
    Value { key: String, value: String, must: String },
}

/// What is known of an architecture that looks like ours.
fn explain(architecture: &str) -> &'static str {
    match architecture {
        "deepseek32" => " (DeepSeek-V3.2, with sparse attention by a lightning indexer)",
        "deepseek4" => " (DeepSeek-V4, a different design)",
        "deepseek" => " (the first DeepSeek MoE, without latent attention)",
        "deepseek2-ocr" => " (DeepSeek-OCR, with plain attention)",
        _ => "",
    }
}

/// More layers than any model has.
const MAX_LAYERS: usize = 1024;
/// More experts than any model has; what is computed beside them grows with their square.
const MAX_EXPERTS: usize = 1024;

impl Config {
    pub fn read(metadata: Metadata<'_>) -> Result<Config, ConfigError> {
        let missing = || ConfigError::Missing { key: "general.architecture".to_owned() };
        let architecture: &str = metadata.get("general.architecture")?.ok_or_else(missing)?;
        if architecture != "deepseek2" {
            return Err(ConfigError::Architecture { found: Clipped(architecture).to_string() });
        }
        let keys = Keys { metadata, n_layer: 0 };
        let nextn = keys.optional_dim("nextn_predict_layers")?.unwrap_or(0);
        let block_count = keys.dim("block_count")?;
        let n_layer = block_count.checked_sub(nextn).filter(|n| *n > 0);
        let n_layer = n_layer.ok_or_else(|| keys.must("block_count", block_count, "no layer is left"))?;
        if n_layer > MAX_LAYERS {
            return Err(keys.must("block_count", block_count, "no model is that deep"));
        }
        let keys = Keys { metadata, n_layer };
        let experts = ExpertConfig::read(&keys)?;
        let n_layer_dense = match experts {
            None => n_layer,
            Some(_) => keys.optional_dim("leading_dense_block_count")?.unwrap_or(0),
        };
        if n_layer_dense > n_layer {
            let must = format!("there are {n_layer} layers");
            return Err(keys.must("leading_dense_block_count", n_layer_dense, &must));
        }
        let n_ff = if n_layer_dense > 0 { keys.first("feed_forward_length", n_layer_dense)? } else { 0 };
        let config = Config {
            n_layer,
            n_layer_dense,
            n_embd: keys.dim("embedding_length")?,
            n_ff,
            n_head: keys.dim("attention.head_count")?,
            q_lora_rank: keys.optional_dim("attention.q_lora_rank")?.filter(|rank| *rank > 0),
            kv_lora_rank: keys.dim("attention.kv_lora_rank")?,
            n_key: keys.either("attention.key_length_mla", "attention.key_length")?,
            n_rot: keys.dim("rope.dimension_count")?,
            n_value: keys.either("attention.value_length_mla", "attention.value_length")?,
            rms_eps: keys.positive("attention.layer_norm_rms_epsilon")?,
            rope: RopeConfig::read(&keys)?,
            n_ctx_train: keys.dim("context_length")?,
            experts,
        };
        if !config.n_rot.is_multiple_of(2) || config.n_rot >= config.n_key {
            let must = format!("it must be even and less than the {} values of a key", config.n_key);
            return Err(keys.must("rope.dimension_count", config.n_rot, &must));
        }
        Ok(config)
    }

    /// Values of a key that know no position.
    pub fn n_nope(&self) -> usize {
        self.n_key - self.n_rot
    }

    /// Values that are cached for a token in a layer: the latent vector, then the turned part of the key.
    pub fn n_cached(&self) -> usize {
        self.kv_lora_rank + self.n_rot
    }

    pub fn is_dense(&self, layer: usize) -> bool {
        layer < self.n_layer_dense
    }

    /// What scores are multiplied by before the softmax: 1/√n_key, sharpened where YaRN says so.
    pub fn attention_scale(&self) -> f32 {
        let sharpen = match self.rope.scaling {
            Scaling::Yarn { factor, mscale_all_dim: Some(m), .. } => magnitude(factor, m),
            _ => 1.0,
        };
        (f64::from(sharpen) * f64::from(sharpen) / (self.n_key as f64).sqrt()) as f32
    }
}

impl RopeConfig {
    fn read(keys: &Keys<'_>) -> Result<RopeConfig, ConfigError> {
        let freq_base = keys.positive("rope.freq_base")?;
        let kind: Option<&str> = keys.optional("rope.scaling.type")?;
        let scaling = match kind {
            None | Some("none") => Scaling::None,
            Some("linear") => Scaling::Linear { factor: keys.positive("rope.scaling.factor")? },
            Some("yarn") => Scaling::Yarn {
                factor: keys.positive("rope.scaling.factor")?,
                n_ctx_orig: keys.dim("rope.scaling.original_context_length")?,
                beta_fast: keys.optional_positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: keys.optional_positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                // The file holds a tenth of it.
                mscale_all_dim: keys.finite("rope.scaling.yarn_log_multiplier")?.map(|m| 10.0 * m),
            },
            Some(other) => {
                let known = "only none, linear and yarn are known";
                return Err(keys.must("rope.scaling.type", Clipped(other), known));
            }
        };
        Ok(RopeConfig { freq_base, scaling })
    }

    /// What the turned values are multiplied by. DeepSeek's models state `mscale_all_dim`, which cancels it;
    /// without it a YaRN model has the magnitude of the paper.
    pub fn magnitude(&self) -> f32 {
        match self.scaling {
            Scaling::Yarn { factor, mscale_all_dim: None, .. } => magnitude(factor, 1.0),
            _ => 1.0,
        }
    }
}

/// YaRN's 0.1·m·ln(factor) + 1.
pub fn magnitude(factor: f32, m: f32) -> f32 {
    if factor <= 1.0 { 1.0 } else { (0.1 * f64::from(m) * f64::from(factor).ln() + 1.0) as f32 }
}

impl ExpertConfig {
    fn read(keys: &Keys<'_>) -> Result<Option<ExpertConfig>, ConfigError> {
        let Some(n_expert) = keys.optional_dim("expert_count")?.filter(|n| *n > 0) else {
            return Ok(None);
        };
        if n_expert > MAX_EXPERTS {
            return Err(keys.must("expert_count", n_expert, "no model has that many"));
        }
        let n_used = keys.dim("expert_used_count")?;
        let gating = match keys.optional_dim("expert_gating_func")? {
            None | Some(0 | 1) => Gating::Softmax,
            Some(2) => Gating::Sigmoid,
            Some(other) => {
                return Err(keys.must("expert_gating_func", other, "only 1 (softmax) and 2 (sigmoid) are known"));
            }
        };
        let n_group = keys.optional_dim("expert_group_count")?.filter(|n| *n > 0);
        let (groups, groups_in_file) = match (n_group, gating, n_expert) {
            (Some(1), ..) => (None, true),
            (Some(n_group), ..) => (Some((n_group, keys.dim("expert_group_used_count")?)), true),
            (None, Gating::Sigmoid, 256) => (Some((8, 4)), false),
            (None, Gating::Softmax, 160) => (Some((8, 3)), false),
            (None, ..) => (None, false),
        };
        let score = match gating {
            Gating::Softmax => GroupScore::Best,
            Gating::Sigmoid => GroupScore::BestTwo,
        };
        let groups = groups.map(|(n_group, n_used)| Groups { n_group, n_used, score });
        let config = ExpertConfig {
            n_expert,
            n_used,
            n_shared: keys.optional_dim("expert_shared_count")?.unwrap_or(0),
            n_ff: keys.dim("expert_feed_forward_length")?,
            gating,
            groups,
            groups_in_file,
            norm_weights: keys.optional("expert_weights_norm")?.unwrap_or(false),
            // A scale of 0 is how older files say that there is none.
            weights_scale: keys.finite("expert_weights_scale")?.filter(|scale| *scale != 0.0).unwrap_or(1.0),
        };
        config.check(keys)?;
        Ok(Some(config))
    }

    fn check(&self, keys: &Keys<'_>) -> Result<(), ConfigError> {
        if self.n_used == 0 || self.n_used > self.n_expert {
            let must = format!("it must be from 1 to the {} of expert_count", self.n_expert);
            return Err(keys.must("expert_used_count", self.n_used, &must));
        }
        let Some(groups) = self.groups else { return Ok(()) };
        let per_group = self.n_expert / groups.n_group;
        if !self.n_expert.is_multiple_of(groups.n_group) {
            let must = format!("it must divide the {} experts", self.n_expert);
            return Err(keys.must("expert_group_count", groups.n_group, &must));
        }
        if groups.n_used == 0 || groups.n_used > groups.n_group {
            let must = format!("it must be from 1 to the {} of expert_group_count", groups.n_group);
            return Err(keys.must("expert_group_used_count", groups.n_used, &must));
        }
        if self.n_used > groups.n_used * per_group {
            let must = format!("{} groups of {per_group} experts are used", groups.n_used);
            return Err(keys.must("expert_used_count", self.n_used, &must));
        }
        Ok(())
    }
}
