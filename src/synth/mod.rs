//! Synthetic models: files with the shapes, types and metadata of a real model and random weights.
//!
//! Speed is measured on these. They cost no download, can be as small as a machine is, and leave nothing
//! to chance: the same recipe makes the same bytes. What they say is noise.
//!
//! A [`Recipe`] becomes a [`Synthetic`] model, which is written and knows how evenly its experts will be
//! used. `model` has the shapes, `tensors` the list of what is in a file, `metadata` and `vocabulary` its
//! keys; `blocks` makes values out of the words of `random`, and `generate` makes and writes in
//! parallel. `routing` is DeepSeek's rule for choosing experts, `skew` bends it, `estimate` applies it.

mod blocks;
mod estimate;
mod generate;
mod metadata;
mod model;
mod random;
mod routing;
mod skew;
mod tensors;
mod vocabulary;

pub use estimate::ExpertUse;
pub use model::{Model, UnknownModel};
pub use tensors::NoRandomBlocks;

use crate::gguf::{Split, WriteError};
use crate::model::Outline;
use crate::quantize::Mix;
use std::path::Path;
use tensors::{Plan, Tensor};

/// What to make. What is left open is as in the model.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub like: &'static Model,
    pub layers: Option<u32>,
    /// Leading layers without experts; left open, one in a model with fewer layers than the real one.
    pub dense: Option<u32>,
    pub mix: Mix,
    pub tokens: Option<u32>,
    pub seed: u64,
    /// Exponent of Zipf's law, which the use of the experts is to follow; 0 for even use.
    pub skew: f64,
}

/// A recipe that makes no model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RecipeError {
    #[error("{0} layers: a model has 1 to {MAX_LAYERS}")]
    Layers(u32),
    #[error("{dense} dense layers of {layers}: there cannot be more than all")]
    Dense { dense: u32, layers: u32 },
    #[error("a vocabulary of {tokens} tokens: one like {model}'s has {min} to {max}")]
    Tokens { tokens: u32, model: &'static str, min: u32, max: u32 },
    #[error("a skew of {0}: it must be from 0 (even) to {MAX_SKEW}")]
    Skew(f64),
    #[error(transparent)]
    Blocks(#[from] NoRandomBlocks),
}

/// ggml's limit.
const MAX_LAYERS: u32 = 512;
/// Beyond this a few experts get everything, as they do already.
const MAX_SKEW: f64 = 4.0;

/// A model, not written yet.
#[derive(Debug)]
pub struct Synthetic {
    plan: Plan,
    tensors: Vec<Tensor>,
}

impl Recipe {
    pub fn make(&self) -> Result<Synthetic, RecipeError> {
        let model = self.like;
        let layers = self.layers.unwrap_or(model.layers);
        if !(1..=MAX_LAYERS).contains(&layers) {
            return Err(RecipeError::Layers(layers));
        }
        let dense = self.dense.unwrap_or(if layers < model.layers { 1 } else { model.dense_layers });
        if dense > layers {
            return Err(RecipeError::Dense { dense, layers });
        }
        let tokens = self.tokens.unwrap_or(model.tokens);
        let (min, max) = (model.vocabulary.min_tokens(), model.tokens);
        if !(min..=max).contains(&tokens) {
            return Err(RecipeError::Tokens { tokens, model: model.title, min, max });
        }
        if !(0.0..=MAX_SKEW).contains(&self.skew) {
            return Err(RecipeError::Skew(self.skew));
        }
        let plan = Plan { model, layers, dense, tokens, mix: self.mix, seed: self.seed, skew: self.skew };
        Ok(Synthetic { tensors: tensors::tensors(&plan)?, plan })
    }
}

impl Synthetic {
    /// Bytes of all weights.
    pub fn n_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.n_bytes).sum()
    }

    /// The model as the header of its file would describe it.
    pub fn outline(&self) -> Result<Outline, WriteError> {
        let mut writer = metadata::writer(&self.plan)?;
        for tensor in &self.tensors {
            writer.add_tensor(&tensor.name, tensor.ty, tensor.shape)?;
        }
        let (header, len) = writer.outline();
        Ok(Outline::of_headers(&[(&header, len)]).expect("what is written here is sound"))
    }

    pub fn n_parameters(&self) -> u64 {
        self.tensors.iter().filter_map(|tensor| tensor.shape.n_elements()).sum()
    }

    pub fn n_layers(&self) -> u32 {
        self.plan.layers
    }

    pub fn n_dense_layers(&self) -> u32 {
        self.plan.dense
    }

    /// Writes the model to a new file, with all threads; `progress` is told of every so many bytes of
    /// weights written, and may end it with an error.
    pub fn write(&self, path: &Path, progress: &dyn Fn(u64) -> std::io::Result<()>) -> Result<(), WriteError> {
        let mut writer = metadata::writer(&self.plan)?;
        for tensor in &self.tensors {
            writer.add_tensor(&tensor.name, tensor.ty, tensor.shape)?;
        }
        let mut output = writer.create(path, Split::None)?;
        generate::write(&self.tensors, &mut output, progress)?;
        output.finish().map(drop)
    }

    /// How evenly tokens will use the experts, estimated at their embeddings; `None` without experts.
    pub fn expert_use(&self) -> Option<ExpertUse> {
        estimate::expert_use(&self.plan, &self.tensors)
    }
}
