//! The models that Cachalot is made for, as `models.toml` has them.
//!
//! Owns finding a model there, by what the user types or by the name that its file carries. Knows no sampler:
//! what it gives are numbers, with who recommends them.

mod demo;

use crate::gguf::Source;
use crate::text::name_words;
use serde::Deserialize;
use std::path::Path;
use std::sync::LazyLock;

/// The model that the user means: one of the program's own by its name, or else a path. `./demo` is always
/// a path.
pub fn source(model: &Path) -> Source {
    let is_embedded = |known: &&Model| known.embedded && known.is_called(model);
    match CATALOGUE.models.iter().find(is_embedded).and(demo::source()) {
        Some(source) => source,
        None => Source::Path(model.to_owned()),
    }
}

/// The model where none is named; none in a program that was built without the feature `demo`.
pub fn default_source() -> Option<Source> {
    demo::source()
}

/// The name of the demo model.
pub const DEMO: &str = demo::NAME;

/// What the catalogue knows of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub name: &'static str,
    pub title: &'static str,
    /// The program carries it.
    pub is_embedded: bool,
    /// All parameters and those that a token uses, in billions, where they are published.
    pub parameters: Option<(f64, f64)>,
    pub context: u64,
    /// Published quants with their sizes in GB.
    pub quants: Vec<(&'static str, f64)>,
}

/// All models of the catalogue that this program may know the name of.
pub fn entries() -> Vec<Entry> {
    let is_there = |model: &&Model| !model.embedded || demo::source().is_some();
    CATALOGUE.models.iter().filter(is_there).map(Model::entry).collect()
}

/// The title of the catalogue's model that is called so, if it has one and is not in the program.
pub fn title(name: &Path) -> Option<&'static str> {
    let known = CATALOGUE.models.iter().find(|model| !model.embedded && model.is_called(name));
    known.map(|model| model.title.as_str())
}

/// How to sample a model, unless the user says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingDefaults {
    pub temperature: f32,
    /// 1 is off.
    pub top_p: f32,
    /// 0 is off.
    pub min_p: f32,
    /// The model that these are meant for; none for those that suit no model in particular.
    pub model: Option<&'static str>,
    /// Who recommends them.
    pub sources: Vec<&'static str>,
}

/// How to sample the model whose file has this name (`general.name`, or the name of the file), and whose
/// chat family has this one, as [`chat::Family`](crate::chat::Family) says it.
///
/// The name decides: the catalogue's model that has most of its words in it, one behind the other,
/// whatever the case and what separates them. `DeepSeek R1 0528 BF16` is `deepseek-r1-0528`. Where that
/// says nothing, the family does, and for what neither knows there are values that suit most models.
pub fn sampling_for(name: Option<&str>, family: &str) -> SamplingDefaults {
    let known = |model: &&Model| model.sampling.publisher.is_some();
    let speaks = |model: &&Model| model.speaks_for_family && model.family() == family;
    let named = name.and_then(find).filter(known);
    match named.or_else(|| CATALOGUE.models.iter().find(speaks)) {
        Some(Model { title, sampling, .. }) => defaults(&sampling.by(), Some(title)),
        None => defaults(&[&CATALOGUE.unknown.sampling], None),
    }
}

/// What is recommended, by the first of those who say anything about it.
fn defaults(by: &[&'static Recommended], model: Option<&'static str>) -> SamplingDefaults {
    SamplingDefaults {
        temperature: by.iter().find_map(|by| by.temperature).unwrap_or(1.0),
        top_p: by.iter().find_map(|by| by.top_p).unwrap_or(1.0),
        min_p: by.iter().find_map(|by| by.min_p).unwrap_or(0.0),
        model,
        sources: by.iter().map(|by| by.source.as_str()).collect(),
    }
}

/// The model that a name speaks of.
fn find(name: &str) -> Option<&'static Model> {
    let name = name.to_lowercase();
    let words: Vec<&str> = name_words(&name).collect();
    let n_words = |model: &&Model| name_words(&model.name).count();
    let is_named = |model: &&Model| {
        let wanted: Vec<&str> = name_words(&model.name).collect();
        words.windows(wanted.len()).any(|found| found == wanted)
    };
    CATALOGUE.models.iter().filter(is_named).max_by_key(n_words)
}

/// It is a part of the program, and `tests/catalogue.rs` keeps its form.
static CATALOGUE: LazyLock<Catalogue> =
    LazyLock::new(|| toml::from_str(include_str!("../../models.toml")).expect("models.toml has its form"));

#[derive(Deserialize)]
struct Catalogue {
    unknown: Unknown,
    #[serde(rename = "model")]
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Unknown {
    sampling: Recommended,
}

#[derive(Deserialize)]
struct Model {
    name: String,
    title: String,
    family: String,
    #[serde(default)]
    sampling: Sampling,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    speaks_for_family: bool,
    /// The program carries it.
    #[serde(default)]
    embedded: bool,
    parameters: Option<f64>,
    active: Option<f64>,
    context: u64,
    #[serde(default)]
    files: Vec<Files>,
}

#[derive(Deserialize)]
struct Files {
    quants: Vec<Quant>,
}

#[derive(Deserialize)]
struct Quant {
    name: String,
    gb: f64,
}

impl Model {
    fn is_called(&self, name: &Path) -> bool {
        let is = |known: &str| name.to_str().is_some_and(|name| name.eq_ignore_ascii_case(known));
        is(&self.name) || self.aliases.iter().any(|alias| is(alias))
    }

    fn entry(&'static self) -> Entry {
        let quants = self.files.iter().flat_map(|files| &files.quants);
        Entry {
            name: &self.name,
            title: &self.title,
            is_embedded: self.embedded,
            parameters: self.parameters.zip(self.active),
            context: self.context,
            quants: quants.map(|quant| (quant.name.as_str(), quant.gb)).collect(),
        }
    }

    fn family(&self) -> &str {
        self.family.strip_prefix("deepseek-").unwrap_or(&self.family)
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Sampling {
    publisher: Option<Recommended>,
    quants: Option<Recommended>,
}

impl Sampling {
    fn by(&self) -> Vec<&Recommended> {
        [&self.quants, &self.publisher].into_iter().flatten().collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recommended {
    temperature: Option<f32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    source: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(name: &str, family: &str) -> (f32, f32, f32, Option<&'static str>) {
        let found = sampling_for(Some(name), family);
        (found.temperature, found.top_p, found.min_p, found.model)
    }

    #[test]
    fn the_name_of_the_file_decides() {
        let v3 = (0.3, 1.0, 0.01, Some("DeepSeek-V3-0324"));
        for name in ["DeepSeek-V3-0324", "Deepseek V3 0324", "DeepSeek_V3_0324-UD-Q2_K_XL-00001-of-00006.gguf"] {
            assert_eq!(values(name, "v3"), v3, "{name}");
        }
        assert_eq!(values("DeepSeek R1 BF16", "r1"), (0.6, 0.95, 0.05, Some("DeepSeek-R1")));
        assert_eq!(values("DeepSeek-R1-0528.gguf", "v3"), (0.6, 0.95, 0.01, Some("DeepSeek-R1-0528")));
        assert_eq!(values("deepseek-v3.1.gguf", "v3.1"), (0.6, 0.95, 0.01, Some("DeepSeek-V3.1")));
        assert_eq!(values("DeepSeek-V2.5-1210", "v3"), (0.3, 0.95, 0.0, Some("DeepSeek-V2.5")));
        assert_eq!(values("Unsloth/DeepSeek V2 Lite Chat", "v2").3, Some("DeepSeek-V2-Lite-Chat"));
    }

    #[test]
    fn where_the_name_says_nothing_the_family_does() {
        for name in ["DeepSeek-V3", "V3-0324", "my tune", ""] {
            assert_eq!(values(name, "v3").3, Some("DeepSeek-V3-0324"), "{name}");
        }
        assert_eq!(values("DeepSeek-R1T-Chimera", "r1").3, Some("DeepSeek-R1-0528"));
        assert_eq!(sampling_for(None, "v3.1").model, Some("DeepSeek-V3.1"));
    }

    #[test]
    fn for_the_unknown_there_are_values_too() {
        for (name, family) in [("DeepSeek-V3-Base", "base"), ("llama", "other")] {
            assert_eq!(values(name, family), (0.7, 1.0, 0.05, None), "{name}");
        }
    }

    #[test]
    fn the_makers_of_quants_go_over_the_publisher() {
        let found = sampling_for(Some("DeepSeek-V3-0324"), "v3");
        assert_eq!(
            found.sources,
            ["Unsloth's guide to DeepSeek-V3-0324", "model card of deepseek-ai/DeepSeek-V3-0324"]
        );
    }
}
