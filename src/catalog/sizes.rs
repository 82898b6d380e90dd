//! Which quants of a model are published, and how large they are.

use serde::Deserialize;
use std::sync::LazyLock;

/// A published quant.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Published {
    pub name: String,
    /// 10⁹ bytes, as its repository says.
    pub gb: f64,
}

/// A model of the catalogue, as far as it can be planned for without a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    pub title: &'static str,
    /// The model whose shapes it has, as `synth` names it.
    pub like: &'static str,
    /// In the layout that is published now; none where no quants are listed.
    pub quants: &'static [Published],
}

/// The model that is called so, in any case.
pub fn sizes(name: &str) -> Option<Sizes> {
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    let model = TABLE.models.iter().find(|model| is(&model.name) || model.aliases.iter().any(|alias| is(alias)))?;
    let like = LIKE.iter().find(|(parameters, _)| model.parameters == Some(*parameters))?.1;
    let files = model.files.iter().find(|files| files.layout == "mla").or_else(|| model.files.first());
    Some(Sizes { title: &model.title, like, quants: files.map_or(&[], |files| &files.quants) })
}

/// Models of one size have one shape: thousand millions of parameters, and whose shapes these are.
const LIKE: [(f64, &str); 3] = [(671.0, "deepseek-v3"), (236.0, "deepseek-v2.5"), (15.7, "deepseek-v2-lite")];

static TABLE: LazyLock<Table> =
    LazyLock::new(|| toml::from_str(include_str!("../../models.toml")).expect("models.toml has its form"));

#[derive(Deserialize)]
struct Table {
    #[serde(rename = "model")]
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    name: String,
    title: String,
    #[serde(default)]
    aliases: Vec<String>,
    parameters: Option<f64>,
    #[serde(default)]
    files: Vec<Files>,
}

#[derive(Deserialize)]
struct Files {
    layout: String,
    quants: Vec<Published>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_six_quants_of_v3_are_listed() {
        let sizes = sizes("DeepSeek-V3-0324").unwrap();
        let names: Vec<_> = sizes.quants.iter().map(|quant| (quant.name.as_str(), quant.gb)).collect();
        assert_eq!((sizes.like, names.len(), names[3]), ("deepseek-v3", 6, ("Q2_K_XL", 250.0)));
        assert!(super::sizes("deepseek-r1").unwrap().quants.is_empty());
        assert_eq!((super::sizes("demo"), super::sizes("nothing")), (None, None));
    }
}
