//! The model that is planned for: a file here, a quant on the hub, or one that the catalogue knows the size of.

use crate::catalog::{self, Headers, Hub, MAIN, Model, Reference, Size};
use crate::engine::Source;
use crate::gguf::{self, Gguf, WriteError};
use crate::model::{ConfigError, Outline, OutlineError};
use crate::quantize::{Mix, Target};
use crate::synth::{self, Recipe, RecipeError};
use serde::Serialize;
use std::path::{Path, PathBuf};

pub struct Subject {
    pub title: String,
    pub origin: Origin,
    pub outline: Outline,
    /// What the catalogue says of it.
    model: Option<&'static Model>,
    /// The quants beside it on the hub, with their bytes.
    offered: Vec<(String, u64)>,
}

/// Where what is known of a model comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Its own header.
    File { path: PathBuf },
    /// Its own headers, on the hub, of which so many bytes were read.
    Hub { repo: String, quant: String, revision: String, n_files: usize, n_read: u64 },
    /// The model's shapes, and types after a mix; with the size that is published, and that of the types. The routed
    /// experts are taken to be what the size leaves for them.
    Derived {
        published: Option<u64>,
        of_types: u64,
        /// Why its own headers were not read.
        because: String,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    #[error("{}: {error}", path.display())]
    Config { path: PathBuf, error: ConfigError },
    #[error("{repo} {quant}: {error}")]
    Headers { repo: String, quant: String, error: Box<OutlineError> },
    #[error("{name} is not here, and the hub was not asked (--offline)")]
    Offline { name: String },
    #[error("of {model} no quant '{quant}' is known without the hub: these are {known}")]
    Quant { model: String, quant: String, known: String },
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error(transparent)]
    Header(#[from] WriteError),
}

/// What a catalogue model without a quant is planned as, where none is recommended.
const USUAL: Mix = Mix::Q2_K_XL;

impl Subject {
    /// A path, or the name of a model: one that is here, or else one of the hub's; without a hub, what the catalogue
    /// says of it.
    pub fn find(model: &str, hub: Option<&Hub>) -> Result<Subject, SubjectError> {
        let error = match catalog::source(Path::new(model)) {
            Ok(source) => return Subject::of_file(source),
            Err(error) if is_elsewhere(&error) => error,
            Err(error) => return Err(error.into()),
        };
        let Some(reference) = Reference::parse(model)? else { return Err(error.into()) };
        let because = match hub.map(|hub| Subject::of_hub(&reference, hub)) {
            None => "the hub was not asked".to_owned(),
            Some(Ok(subject)) => return Ok(subject),
            // What the hub says of quants is an answer. Where it has none, the catalogue may have.
            Some(Err(SubjectError::Catalog(error))) if !is_of_quants(&error) && has_shapes(&reference) => {
                error.to_string()
            }
            Some(Err(error)) => return Err(error),
        };
        match reference.model.filter(|model| model.shapes().is_some()) {
            Some(known) => Subject::derived(known, reference.quant.as_deref(), because),
            None => Err(SubjectError::Offline { name: model.to_owned() }),
        }
    }

    fn of_file(source: Source) -> Result<Subject, SubjectError> {
        let path = source.path().to_owned();
        let gguf = Gguf::open(&source)?;
        let outline = Outline::of(&gguf).map_err(|error| SubjectError::Config { path: path.clone(), error })?;
        let title = outline.name.clone().unwrap_or_else(|| path.display().to_string());
        let path = gguf.shards().first().map_or(path, |shard| shard.path().to_owned());
        Ok(Subject { title, origin: Origin::File { path }, outline, model: None, offered: Vec::new() })
    }

    fn of_hub(reference: &Reference, hub: &Hub) -> Result<Subject, SubjectError> {
        let usual = reference.model.and_then(Model::usual_quant).map(str::to_owned);
        let reference = Reference { quant: reference.quant.clone().or(usual), ..reference.clone() };
        let headers = Headers::read(hub, &reference, MAIN)?;
        let beginnings: Vec<(&[u8], u64)> = headers.files.iter().map(|file| (&file.bytes[..], file.size)).collect();
        let (n_files, n_read) = (headers.files.len(), headers.n_read());
        let outline = Outline::of_headers(&beginnings);
        let Headers { repo, quant, quants, revision, .. } = headers;
        let outline = outline.map_err(|error| SubjectError::Headers {
            repo: repo.clone(),
            quant: quant.clone(),
            error: error.into(),
        })?;
        let name = reference.model.map(|model| model.title.clone()).or_else(|| outline.name.clone());
        let title = format!("{} {quant}", name.unwrap_or_else(|| repo.clone()));
        let origin = Origin::Hub { repo, quant, revision, n_files, n_read };
        Ok(Subject { title, origin, outline, model: reference.model, offered: quants })
    }

    /// By its shapes and what is published of its size.
    fn derived(model: &'static Model, quant: Option<&str>, because: String) -> Result<Subject, SubjectError> {
        let wanted = quant.or(model.usual_quant()).unwrap_or(USUAL.name());
        let size = model.size(wanted);
        let Some((outline, of_types)) = outline(model, wanted, size)? else {
            let published = model.sizes().into_iter().map(|size| size.quant);
            let mut known: Vec<&str> = published.chain(Mix::ALL.map(Mix::name)).collect();
            let mut seen = std::collections::HashSet::new();
            known.retain(|name| seen.insert(*name));
            let (model, quant) = (model.title.clone(), wanted.to_owned());
            return Err(SubjectError::Quant { model, quant, known: known.join(", ") });
        };
        let title = format!("{} {}", model.title, size.map_or(wanted, |size| size.quant));
        let origin = Origin::Derived { published: size.map(|size| size.bytes), of_types, because };
        Ok(Subject { title, origin, outline, model: Some(model), offered: Vec::new() })
    }

    #[cfg(test)]
    pub(super) fn of_outline(outline: Outline) -> Subject {
        let origin = Origin::Derived { published: None, of_types: outline.n_bytes(), because: String::new() };
        Subject { title: "a model".to_owned(), origin, outline, model: None, offered: Vec::new() }
    }

    /// The published quants of the model: those of which the catalogue has the sizes, or else those that the hub has
    /// beside it.
    pub(super) fn quants(&self) -> Vec<(String, Outline)> {
        let quant = |model, size: Size<'static>| {
            let (outline, _) = outline(model, size.quant, Some(size)).ok()??;
            Some((size.quant.to_owned(), outline))
        };
        let known = self.model.into_iter().flat_map(|model| model.sizes().into_iter().map(move |size| (model, size)));
        let known: Vec<_> = known.filter_map(|(model, size)| quant(model, size)).collect();
        match (known.is_empty(), self.offered.as_slice()) {
            (true, [_, _, ..]) => {
                self.offered.iter().map(|(name, n)| (name.clone(), self.as_quant(name, *n))).collect()
            }
            _ => known,
        }
    }

    /// This model in another quant of so many bytes: by its own shapes, and the types that the name says; where it says
    /// none, those of the mix that comes nearest.
    fn as_quant(&self, name: &str, n_bytes: u64) -> Outline {
        if matches!(&self.origin, Origin::Hub { quant, .. } if quant == name) {
            return self.outline.clone();
        }
        let n_layer = self.outline.config.n_layer as u32;
        let of = |target: Target| self.outline.clone().in_types(|name, shape| target.tensor_type(name, shape, n_layer));
        let nearest = || {
            let all = Mix::ALL.into_iter().filter_map(|mix| of(Target::Mix(mix)));
            all.min_by_key(|outline| outline.n_bytes().abs_diff(n_bytes))
        };
        let outline = Target::of_quant(name).and_then(of).or_else(nearest).unwrap_or_else(|| self.outline.clone());
        outline.clone().scaled_to(n_bytes).unwrap_or(outline)
    }

    /// The file whose disk it would be read from.
    pub fn path(&self) -> Option<&Path> {
        match &self.origin {
            Origin::File { path } => Some(path),
            Origin::Hub { .. } | Origin::Derived { .. } => None,
        }
    }
}

/// Whether there is a model of that name, but not here.
fn is_elsewhere(error: &catalog::Error) -> bool {
    use catalog::Error::{NoFiles, NotPulled, Unfinished};
    matches!(error, NoFiles(_) | NotPulled { .. } | Unfinished { .. })
}

fn is_of_quants(error: &catalog::Error) -> bool {
    use catalog::Error::{Ambiguous, Incomplete, NeedsQuant, NoQuant};
    matches!(error, Ambiguous { .. } | Incomplete { .. } | NeedsQuant { .. } | NoQuant { .. })
}

fn has_shapes(reference: &Reference) -> bool {
    reference.model.is_some_and(|model| model.shapes().is_some())
}

/// The model in the types of a quant, as large as published; and how large it would be by the types alone. Of a quant
/// whose types are not known but whose size is, the types are those of the mix that comes nearest to it.
fn outline(model: &Model, quant: &str, size: Option<Size<'_>>) -> Result<Option<(Outline, u64)>, SubjectError> {
    let Some(like) = model.shapes().and_then(|like| like.parse::<&'static synth::Model>().ok()) else {
        return Ok(None);
    };
    let of = |mix: Mix| -> Result<Outline, SubjectError> {
        let recipe = Recipe { like, layers: None, dense: None, mix, tokens: None, seed: 0, skew: 0.0 };
        Ok(recipe.make()?.outline()?)
    };
    let outline = match (quant.parse::<Mix>(), size) {
        (Ok(mix), _) => of(mix)?,
        (Err(_), None) => return Ok(None),
        (Err(_), Some(size)) => {
            let mut all = Mix::ALL.into_iter().map(of).collect::<Result<Vec<_>, _>>()?;
            let Some(nearest) = (0..all.len()).min_by_key(|at| all[*at].n_bytes().abs_diff(size.bytes)) else {
                return Ok(None);
            };
            all.swap_remove(nearest)
        }
    };
    let of_types = outline.n_bytes();
    let scaled = size.and_then(|size| outline.clone().scaled_to(size.bytes));
    Ok(Some((scaled.unwrap_or(outline), of_types)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str) -> Result<Subject, SubjectError> {
        Subject::find(name, None)
    }

    /// Sizes by types are within a fifth of what is published, those of the larger quants within a tenth; with the
    /// experts scaled they are exact.
    #[test]
    fn the_quants_of_v3_have_their_published_sizes() {
        let subject = find("deepseek-v3-0324:IQ1_S").unwrap();
        let Origin::Derived { published, of_types, .. } = subject.origin.clone() else { panic!() };
        assert_eq!(published, Some(192_000_000_000));
        assert!((0.78..0.82).contains(&(of_types as f64 / 192e9)), "{of_types}");
        for ((name, outline), gb) in subject.quants().into_iter().zip([192.0, 200.0, 215.0, 250.0, 296.0, 384.0]) {
            assert!((outline.n_bytes() as f64 / (gb * 1e9) - 1.0).abs() < 1e-6, "{name}");
            assert!((0.8..1.3).contains(&outline.routed_scale), "{name}: {}", outline.routed_scale);
        }
    }

    #[test]
    fn quants_whose_types_are_not_known_have_their_size() {
        let subject = find("deepseek-v3-0324:Q6_K").unwrap();
        assert!(subject.outline.n_bytes().abs_diff(550_800_000_000) < 1_000_000, "{}", subject.outline.n_bytes());
    }

    #[test]
    fn unknown_names_and_quants() {
        let error = |name: &str| find(name).err().unwrap().to_string();
        assert!(error("no-such-model").contains("no model of that name"));
        assert!(error("deepseek-v3-0324:Q9").contains("no quant 'Q9' is known without the hub: these are IQ1_S"));
        assert!(error("hf:a/b:Q4").contains("the hub was not asked"));
        assert!(find("deepseek-r1:iq1_m").unwrap().title.to_lowercase().ends_with("iq1_m"));
        assert!(find("deepseek-v3-0324").unwrap().title.ends_with("Q2_K_XL"));
        // No repository has it, and its shapes are known.
        let Origin::Derived { published: None, .. } = find("deepseek-v2.5:IQ2_XXS").unwrap().origin else { panic!() };
    }
}
