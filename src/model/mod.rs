//! What a GGUF file means as a model.
//!
//! `class` says what a tensor is for, `hparams` reads the hyperparameters, `soundness` holds tensors
//! and metadata against each other, `inspect` gathers all of it into a report of plain data; `scales`
//! says where blocks keep their floats. `config` and `weights` are what a forward pass is made from: strict
//! where the others are lenient. `traffic` counts what a token reads;
//! `fingerprint` tells models apart; `outline` is what planning needs, from a header alone.

mod class;
mod config;
mod fingerprint;
mod finite;
mod hparams;
mod inspect;
mod outline;
mod scales;
mod soundness;
mod traffic;
mod weights;

pub use class::{Class, Role};
pub use config::{Config, ConfigError, ExpertConfig, Gating, GroupScore, Groups, RopeConfig, Scaling, magnitude};
pub use fingerprint::Fingerprint;
pub(crate) use finite::first_bad_block;
pub use hparams::Hparams;
pub use inspect::{
    ClassRow, Detail, Experts, FileRow, Inspection, LayerRow, MetadataRow, ModelFile, RoleToken, TensorRow,
    TokenizerFacts, TypeRow,
};
pub use outline::{Outline, OutlineError};
pub(crate) use scales::{Scale, scales};
pub use soundness::Unsound;
pub use traffic::Traffic;
pub use weights::{Attention, FeedForward, GateUp, Layer, Mixture, Mlp, Places, Query, Values, Weights, WeightsError};
