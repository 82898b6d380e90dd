//! What a GGUF file means as a model.
//!
//! `class` says what a tensor is for, `hparams` reads the hyperparameters, `soundness` holds tensors
//! and metadata against each other, `inspect` gathers all of it into a report of plain data.

mod class;
mod finite;
mod hparams;
mod inspect;
mod soundness;

pub use class::{Class, Role};
pub use hparams::Hparams;
pub use inspect::{
    ClassRow, Detail, Experts, FileRow, Inspection, LayerRow, MetadataRow, ModelFile, RoleToken, TensorRow,
    TokenizerFacts, TypeRow,
};
pub use soundness::Unsound;
