//! The models that Cachalot is made for, as `models.toml` has them, and their files: from the hub to the disk.
//!
//! - `models`: what is known of each; `sampling`: how to sample them.
//! - [`Reference`]: what a user means by a name. [`source`]: from that, or a path, to what can be opened.
//! - [`Store`]: the folder of models. [`Plan`]: brings files there, from the [`Hub`]; [`verify`] looks after them.
//! - `sizes` and [`Headers`]: enough of a model to plan for it, without its files.
//!
//! Knows no sampler, no engine, and no terminal.

mod demo;
mod error;
mod fetch;
mod hash;
mod headers;
mod hub;
mod models;
mod parts;
mod patience;
mod pull;
mod quant;
mod receive;
mod reference;
mod sampling;
mod sizes;
mod store;
mod verify;

pub use error::Error;
pub use fetch::Event;
pub use headers::Headers;
pub use hub::Hub;
pub use models::{Files, Layout, Model, Quant, models, users_path};
pub use pull::{MAIN, Plan};
pub use reference::{Reference, Repo};
pub use sampling::{SamplingDefaults, sampling_for};
pub use sizes::Size;
pub use store::{FOLDER_VARIABLE, Manifest, Pulled, PulledFile, Store};
pub use verify::{Finding, reopen, verify};

use crate::gguf::Source;
use models::models_or_own;
use std::path::Path;

/// The model that the user means: one of the program's own by its name, one that was pulled by a name of the catalogue
/// or of the hub, or else a path. `./demo` is always a path.
pub fn source(model: &Path) -> Result<Source, Error> {
    let path = || Ok(Source::Path(model.to_owned()));
    let Some(text) = model.to_str() else { return path() };
    // Some aliases have the form of a path; what is there goes first.
    if text.contains('/') && !text.starts_with("hf:") && model.exists() {
        return path();
    }
    match Reference::parse(text)? {
        Some(Reference { model: Some(known), .. }) if known.embedded => match demo::source() {
            Some(source) => Ok(source),
            None => path(),
        },
        Some(reference) => Ok(Source::Path(Store::open(None)?.find_whole(&reference)?.first())),
        None if is_bare(text) && !model.exists() => Err(Error::UnknownModel(text.to_owned())),
        None => path(),
    }
}

/// Whether it looks more like a name than like a path.
fn is_bare(text: &str) -> bool {
    !text.is_empty() && !text.contains('/') && !text.ends_with(".gguf")
}

/// The models that the program carries.
pub fn embedded() -> impl Iterator<Item = (&'static Model, Source)> {
    models_or_own().iter().filter(|model| model.embedded).filter_map(|model| Some((model, demo::source()?)))
}

/// The name of the model where none is named.
pub fn default_name() -> Option<&'static str> {
    demo::source().map(|_| demo::NAME)
}

/// What else the catalogue calls the model of this name.
pub fn names_of(name: &str) -> Vec<String> {
    let known = Reference::parse(name).ok().flatten().and_then(|reference| reference.model);
    known.map_or_else(Vec::new, |model| [&[model.name.clone()][..], &model.aliases].concat())
}

/// The model where none is named; none in a program that was built without the feature `demo`.
pub fn default_source() -> Option<Source> {
    demo::source()
}
