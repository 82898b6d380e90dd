//! The model that is planned for: a file here, or a quant of the catalogue of which there is none.

use crate::catalog::{self, Published, Sizes};
use crate::engine::Source;
use crate::gguf::{self, Gguf, WriteError};
use crate::model::{ConfigError, Outline};
use crate::quantize::Mix;
use crate::synth::{Model, Recipe, RecipeError};
use crate::text::Escaped;
use serde::Serialize;
use std::path::{Path, PathBuf};

pub struct Subject {
    pub title: String,
    pub origin: Origin,
    pub outline: Outline,
    sizes: Option<Sizes>,
}

/// Where what is known of a model comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Its own header.
    File { path: PathBuf },
    /// The model's shapes, and types after a mix; with the size that is published, and by how much it is more than
    /// that of the types. The routed experts are taken to be what the size leaves for them.
    Derived { published: Option<u64>, of_types: u64 },
}

#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    #[error("{}: {error}", path.display())]
    Config { path: PathBuf, error: ConfigError },
    #[error("{}: there is no such file, and no model of this name in the catalogue with known shapes", Escaped(name))]
    Unknown { name: String },
    #[error("{model} has no quant '{}': these are {known}", Escaped(quant))]
    Quant { model: String, quant: String, known: String },
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error(transparent)]
    Header(#[from] WriteError),
}

/// What a catalogue model without a quant is planned as, where none is recommended.
const USUAL: Mix = Mix::Q2_K_XL;

impl Subject {
    /// A path, or a name of the catalogue with or without `:QUANT`.
    pub fn find(model: &str) -> Result<Subject, SubjectError> {
        match catalog::source(Path::new(model)) {
            Source::Path(path) if !path.exists() => Subject::of_catalogue(model),
            source => Subject::of_file(source),
        }
    }

    fn of_file(source: Source) -> Result<Subject, SubjectError> {
        let path = source.path().to_owned();
        let gguf = Gguf::open(&source)?;
        let outline = Outline::of(&gguf).map_err(|error| SubjectError::Config { path: path.clone(), error })?;
        let title = outline.name.clone().unwrap_or_else(|| path.display().to_string());
        let path = gguf.shards().first().map_or(path, |shard| shard.path().to_owned());
        Ok(Subject { title, origin: Origin::File { path }, outline, sizes: None })
    }

    fn of_catalogue(text: &str) -> Result<Subject, SubjectError> {
        let (name, quant) = text.split_once(':').map_or((text, None), |(name, quant)| (name, Some(quant)));
        let sizes = catalog::sizes(name).ok_or_else(|| SubjectError::Unknown { name: text.to_owned() })?;
        let mix = quant.map_or(Ok(USUAL), |quant| quant.parse::<Mix>());
        let mix = mix.map_err(|_| SubjectError::Quant {
            model: sizes.title.to_owned(),
            quant: quant.unwrap_or_default().to_owned(),
            known: Mix::ALL.map(Mix::name).join(", "),
        })?;
        let published = sizes.quants.iter().find(|known| known.name.eq_ignore_ascii_case(mix.name()));
        let (outline, of_types) = derived(&sizes, mix, published)?;
        let published = published.map(bytes);
        let title = format!("{} {mix}", sizes.title);
        Ok(Subject { title, origin: Origin::Derived { published, of_types }, outline, sizes: Some(sizes) })
    }

    #[cfg(test)]
    pub(super) fn of_outline(outline: Outline) -> Subject {
        let origin = Origin::Derived { published: None, of_types: outline.n_bytes() };
        Subject { title: "a model".to_owned(), origin, outline, sizes: None }
    }

    /// The published quants of the model, for a name of the catalogue.
    pub(super) fn quants(&self) -> Vec<(String, Outline)> {
        let Some(sizes) = &self.sizes else { return Vec::new() };
        let quant = |known: &Published| {
            let (outline, _) = derived(sizes, known.name.parse().ok()?, Some(known)).ok()?;
            Some((known.name.clone(), outline))
        };
        sizes.quants.iter().filter_map(quant).collect()
    }

    /// The file whose disk it would be read from.
    pub fn path(&self) -> Option<&Path> {
        match &self.origin {
            Origin::File { path } => Some(path),
            Origin::Derived { .. } => None,
        }
    }
}

/// The model in these types, as large as published; and how large it would be by the types alone.
fn derived(sizes: &Sizes, mix: Mix, published: Option<&Published>) -> Result<(Outline, u64), SubjectError> {
    let like: &'static Model = sizes.like.parse().map_err(|_| SubjectError::Unknown { name: sizes.like.to_owned() })?;
    let recipe = Recipe { like, layers: None, dense: None, mix, tokens: None, seed: 0, skew: 0.0 };
    let outline = recipe.make()?.outline()?;
    let of_types = outline.n_bytes();
    let scaled = published.and_then(|known| outline.clone().scaled_to(bytes(known)));
    Ok((scaled.unwrap_or(outline), of_types))
}

fn bytes(published: &Published) -> u64 {
    (published.gb * 1e9) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes by types are within a fifth of what is published, those of the larger quants within a tenth; with the
    /// experts scaled they are exact.
    #[test]
    fn the_quants_of_v3_have_their_published_sizes() {
        let subject = Subject::find("deepseek-v3-0324:IQ1_S").unwrap();
        let Origin::Derived { published, of_types } = subject.origin.clone() else { panic!() };
        assert_eq!(published, Some(192_000_000_000));
        assert!((0.78..0.82).contains(&(of_types as f64 / 192e9)), "{of_types}");
        for ((name, outline), gb) in subject.quants().into_iter().zip([192.0, 200.0, 215.0, 250.0, 296.0, 384.0]) {
            assert!((outline.n_bytes() as f64 / (gb * 1e9) - 1.0).abs() < 1e-6, "{name}");
            assert!((0.8..1.3).contains(&outline.routed_scale), "{name}: {}", outline.routed_scale);
        }
    }

    #[test]
    fn unknown_names_and_quants() {
        let error = |name: &str| Subject::find(name).err().unwrap().to_string();
        assert!(error("no-such-model").contains("no such file"));
        assert!(error("deepseek-v3-0324:Q9").contains("no quant 'Q9': these are IQ1_S"));
        assert!(Subject::find("deepseek-r1:iq1_m").unwrap().title.ends_with("IQ1_M"));
    }
}
