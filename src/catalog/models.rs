//! What `models.toml` says of each model: the file that is compiled in, and one of the same form that the user
//! may keep. Numbers and names only; what of it is on the disk, `store` knows.

use super::error::Error;
use crate::text::name_words;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A model as the catalogue has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub name: String,
    /// As its publisher spells it.
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The publisher's repository.
    pub official: Option<String>,
    pub licence: Option<String>,
    /// The chat template.
    #[serde(default)]
    family: String,
    /// In billions.
    pub parameters: Option<f64>,
    pub active: Option<f64>,
    pub context: Option<u64>,
    #[serde(default)]
    pub(super) sampling: Sampling,
    /// Temperatures of clients are meant as DeepSeek's API means them.
    #[serde(default)]
    pub(super) temperature_map: bool,
    #[serde(default)]
    pub(super) speaks_for_family: bool,
    /// The program carries it.
    #[serde(default)]
    pub embedded: bool,
    /// Repositories of GGUF files, the preferred one first.
    #[serde(default)]
    pub files: Vec<Files>,
    /// Who says so.
    #[serde(default)]
    pub source: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    pub repo: String,
    pub layout: Option<Layout>,
    /// What the repository's card says to somebody who chooses.
    pub advice: Option<String>,
    #[serde(default)]
    pub quants: Vec<Quant>,
    #[serde(default)]
    pub source: String,
}

/// How attention is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    Mla,
    Legacy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quant {
    pub name: String,
    /// Of all its files together, in 10^9 bytes, as the repository's card gives it.
    pub gb: Option<f64>,
    /// Bits of a weight of the routed experts, as the card counts them.
    pub bits: Option<f64>,
    #[serde(default)]
    pub recommended: bool,
}

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Sampling {
    pub(super) publisher: Option<Recommended>,
    quants: Option<Recommended>,
}

impl Sampling {
    pub(super) fn by(&self) -> Vec<&Recommended> {
        [&self.quants, &self.publisher].into_iter().flatten().collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recommended {
    pub(super) temperature: Option<f32>,
    pub(super) top_p: Option<f32>,
    pub(super) min_p: Option<f32>,
    pub(super) source: String,
}

impl Model {
    /// Whether this is its name or one of its aliases, whatever the case.
    pub(super) fn is_called(&self, name: &str) -> bool {
        let is = |known: &String| name.eq_ignore_ascii_case(known);
        is(&self.name) || self.aliases.iter().any(is) || self.files.iter().any(|files| is(&files.repo))
    }

    pub(super) fn family(&self) -> &str {
        self.family.strip_prefix("deepseek-").unwrap_or(&self.family)
    }
}

#[derive(Deserialize)]
struct Builtin {
    unknown: Unknown,
    #[serde(rename = "model")]
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Unknown {
    sampling: Recommended,
}

/// A file of the user's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsersOwn {
    #[serde(rename = "model", default)]
    models: Vec<Model>,
}

struct Catalogue {
    unknown: Recommended,
    models: Vec<Model>,
    /// Why the user's file is not in it.
    fault: Option<(PathBuf, String)>,
}

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    // It is a part of the program, and `tests/catalogue.rs` keeps its form.
    let builtin: Builtin = toml::from_str(include_str!("../../models.toml")).expect("models.toml has its form");
    let mut catalogue = Catalogue { unknown: builtin.unknown.sampling, models: builtin.models, fault: None };
    if let Some(path) = users_path() {
        match read(&path) {
            Ok(models) => catalogue.add(models),
            Err(fault) => catalogue.fault = Some((path, fault)),
        }
    }
    catalogue
});

impl Catalogue {
    /// A model of the same name takes the place of the one that is there.
    fn add(&mut self, models: Vec<Model>) {
        for model in models {
            match self.models.iter_mut().find(|known| known.name.eq_ignore_ascii_case(&model.name) && !known.embedded) {
                Some(known) => *known = model,
                None => self.models.push(model),
            }
        }
    }
}

/// Where the user may add models: `models.toml` in the folder of the program's configuration.
pub fn users_path() -> Option<PathBuf> {
    Some(directories::BaseDirs::new()?.config_dir().join("cachalot").join("models.toml"))
}

fn read(path: &Path) -> Result<Vec<Model>, String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    let own: UsersOwn = toml::from_str(&text).map_err(|error| error.to_string().trim_end().to_owned())?;
    let mut models = own.models;
    for model in &mut models {
        if model.name.is_empty() || model.name.contains([':', '/']) {
            return Err(format!("'{}' is no name for a model: it must not be empty or have ':' or '/'", model.name));
        }
        if model.title.is_empty() {
            model.title.clone_from(&model.name);
        }
        if model.embedded {
            return Err(format!("'{}' says that it is embedded, which only the program can", model.name));
        }
    }
    Ok(models)
}

/// All models that are known.
pub fn models() -> Result<&'static [Model], Error> {
    match &CATALOGUE.fault {
        Some((path, fault)) => Err(Error::Catalogue { path: path.clone(), fault: fault.clone() }),
        None => Ok(&CATALOGUE.models),
    }
}

/// As [`models`]; where the user's file is at fault, those of the program.
pub(super) fn models_or_own() -> &'static [Model] {
    &CATALOGUE.models
}

pub(super) fn unknown() -> &'static Recommended {
    &CATALOGUE.unknown
}

/// The model that a name speaks of: the one that has most of its words in it, one behind the other.
pub(super) fn spoken_of(name: &str) -> Option<&'static Model> {
    let name = name.to_lowercase();
    let words: Vec<&str> = name_words(&name).collect();
    let n_words = |model: &&Model| name_words(&model.name).count();
    let is_named = |model: &&Model| {
        let own = model.name.to_lowercase();
        let wanted: Vec<&str> = name_words(&own).collect();
        !wanted.is_empty() && words.windows(wanted.len()).any(|found| found == wanted)
    };
    models_or_own().iter().filter(is_named).max_by_key(n_words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Vec<Model>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("models.toml");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn a_users_file_needs_little_and_is_held_to_its_form() {
        let models = file("[[model]]\nname = \"mine\"\n[[model.files]]\nrepo = \"me/mine\"\n").unwrap();
        assert_eq!((models.len(), models[0].title.as_str(), models[0].files[0].repo.as_str()), (1, "mine", "me/mine"));
        assert!(file("").unwrap().is_empty());
        assert!(read(Path::new("/nowhere/models.toml")).unwrap().is_empty());
        for wrong in [
            "[[model]]\nname = \"a\"\nquant = 3",
            "[[model]]\nname = \"a:b\"",
            "[[model]]\nname = \"\"",
            "[[model]]\nname = \"a\"\nembedded = true",
            "[[modell]]",
            "x",
        ] {
            assert!(file(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_users_model_takes_the_place_of_the_programs() {
        let mut models = file("[[model]]\nname = \"a\"\ntitle = \"1\"\n[[model]]\nname = \"b\"\n").unwrap();
        let sampling = Recommended { temperature: None, top_p: None, min_p: None, source: String::new() };
        let own = vec![models.remove(0)];
        let mut catalogue = Catalogue { unknown: sampling, models: own, fault: None };
        catalogue.add(file("[[model]]\nname = \"A\"\ntitle = \"2\"\n").unwrap());
        catalogue.add(models);
        let titles: Vec<&str> = catalogue.models.iter().map(|model| model.title.as_str()).collect();
        assert_eq!(titles, ["2", "b"]);
    }
}
