//! What a GGUF file means as a model.
//!
//! `class` says what a tensor is for, `hparams` reads the hyperparameters, `soundness` holds tensors
//! and metadata against each other, `inspect` gathers all of it into a report of plain data.

mod class;
mod hparams;
mod inspect;
mod soundness;

pub use class::{Class, Role};
pub use hparams::{Hparams, Scalar};
pub use inspect::{ClassRow, Detail, FileRow, Inspection, LayerRow, MetadataRow, TensorRow, TokenizerFacts, TypeRow};
pub use soundness::Unsound;
