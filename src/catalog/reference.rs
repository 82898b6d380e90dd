//! What a user means by a model's name: which repository, and which quant of it.

use super::error::Error;
use super::models::{Files, Model, models};
use super::quant;
use std::fmt;

/// A repository of the hub, `OWNER/REPO`; nothing else has this form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repo(String);

impl Repo {
    pub fn parse(text: &str) -> Option<Repo> {
        let (owner, name) = text.split_once('/')?;
        (is_name(owner) && is_name(name)).then(|| Repo(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Both parts, each of which is the name of a folder.
    pub(super) fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or((&self.0, ""))
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the hub allows for an owner and for a repository; such a name can be that of a folder.
fn is_name(text: &str) -> bool {
    let is_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=96).contains(&text.len()) && text.chars().all(is_char) && !text.starts_with(['.', '-']) && !text.contains("..")
}

/// A model by name.
#[derive(Debug, Clone)]
pub struct Reference {
    /// As it was typed.
    pub text: String,
    /// What the catalogue says of it, where it is in there.
    pub model: Option<&'static Model>,
    /// Where its files may be, the preferred repository first.
    pub repos: Vec<Repo>,
    pub quant: Option<String>,
}

impl Reference {
    /// `None`: it has not the form of a name, or none that the catalogue has.
    pub fn parse(text: &str) -> Result<Option<Reference>, Error> {
        Reference::among(text, models()?)
    }

    fn among(text: &str, models: &'static [Model]) -> Result<Option<Reference>, Error> {
        if let Some(named) = text.strip_prefix("hf:") {
            let (repo, quant) = split_quant(named);
            let form = || Error::Form { text: text.to_owned(), wanted: "hf:OWNER/REPO:QUANT" };
            let repo = Repo::parse(repo).ok_or_else(form)?;
            let quant = quant.map(|quant| checked_quant(text, quant)).transpose()?;
            let model = models.iter().find(|model| model.files.iter().any(|files| files.repo == repo.0));
            return Ok(Some(Reference { text: text.to_owned(), model, repos: vec![repo], quant }));
        }
        let called = |name: &str| models.iter().find(|model| model.is_called(name));
        // An alias may have a colon in it, as the names of Ollama do.
        let (name, model, quant) = match (called(text), split_quant(text)) {
            (Some(model), _) => (text, model, None),
            (None, (name, Some(quant))) => match called(name) {
                Some(model) => (name, model, Some(checked_quant(text, quant)?)),
                None => return Ok(None),
            },
            (None, _) => return Ok(None),
        };
        let repos = repos_of(model, name, quant.as_deref());
        Ok(Some(Reference { text: text.to_owned(), model: Some(model), repos, quant }))
    }

    /// The name of the same model with this quant.
    pub fn with_quant(&self, quant: &str) -> String {
        let name = match (&self.quant, self.text.rsplit_once(':')) {
            (Some(_), Some((name, _))) => name,
            _ => &self.text,
        };
        format!("{name}:{quant}")
    }
}

fn split_quant(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, quant)) => (name, Some(quant)),
        None => (text, None),
    }
}

fn checked_quant(text: &str, quant: &str) -> Result<String, Error> {
    match is_name(quant) {
        true => Ok(quant.to_owned()),
        false => Err(Error::Form {
            text: text.to_owned(),
            wanted: "model: behind the colon a quant is named, as in NAME:Q2_K_XL",
        }),
    }
}

/// The repositories with this quant before those of which that is not known; one that is named is alone.
fn repos_of(model: &Model, name: &str, quant: Option<&str>) -> Vec<Repo> {
    let named = |files: &&Files| files.repo.eq_ignore_ascii_case(name);
    if let Some(files) = model.files.iter().find(named) {
        return Repo::parse(&files.repo).into_iter().collect();
    }
    let has = |files: &&Files| quant.is_none_or(|quant| files.quants.iter().any(|known| quant::is(&known.name, quant)));
    let (first, then): (Vec<&Files>, Vec<&Files>) = model.files.iter().partition(has);
    first.iter().chain(&then).filter_map(|files| Repo::parse(&files.repo)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repos(text: &str) -> (Vec<String>, Option<String>) {
        let found = Reference::parse(text).unwrap().unwrap();
        (found.repos.iter().map(Repo::to_string).collect(), found.quant)
    }

    #[test]
    fn names_aliases_and_repositories() {
        let (ud, march) = ("unsloth/DeepSeek-V3-0324-GGUF-UD", "unsloth/DeepSeek-V3-0324-GGUF");
        let both = [ud.to_owned(), march.to_owned()];
        assert_eq!(repos("deepseek-v3-0324").0[..2], both);
        assert_eq!(repos("deepseek-ai/DeepSeek-V3-0324").0[..2], both);
        let (found, quant) = repos("DeepSeek-V3-0324:Q2_K_XL");
        assert_eq!((&found[..2], quant.as_deref()), (&both[..], Some("Q2_K_XL")));
        // One that is known to have the quant goes before those of which that is not known.
        assert_eq!(repos("deepseek-v3-0324:Q8_0").0[0], "bartowski/deepseek-ai_DeepSeek-V3-0324-GGUF");
        assert_eq!(repos("unsloth/deepseek-v3-0324-gguf:IQ1_S"), (vec![march.to_owned()], Some("IQ1_S".to_owned())));
        assert_eq!(repos("hf:a/b-GGUF:UD-Q2_K_XL"), (vec!["a/b-GGUF".to_owned()], Some("UD-Q2_K_XL".to_owned())));
        assert_eq!(repos("hf:a/b"), (vec!["a/b".to_owned()], None));
        let hub_name = Reference::parse("hf:unsloth/DeepSeek-V3-0324-GGUF").unwrap().unwrap();
        assert_eq!(hub_name.model.unwrap().name, "deepseek-v3-0324");
    }

    #[test]
    fn what_is_no_name() {
        for path in ["model.gguf", "./deepseek-v3-0324", "a/b", "C:Q2_K", "", ":", "deepseek-v3-0324.gguf"] {
            assert!(Reference::parse(path).unwrap().is_none(), "{path}");
        }
        for wrong in
            ["hf:", "hf:a", "hf:a/b/c", "hf:../b", "hf:a/..", "hf:a/b:", "hf:a/b:../x", "deepseek-v3-0324:", "hf:a/b c"]
        {
            assert!(matches!(Reference::parse(wrong), Err(Error::Form { .. })), "{wrong}");
        }
    }

    #[test]
    fn another_quant_of_the_same_model() {
        let named = |text: &str| Reference::parse(text).unwrap().unwrap().with_quant("IQ1_S");
        assert_eq!(named("deepseek-v3-0324"), "deepseek-v3-0324:IQ1_S");
        assert_eq!(named("deepseek-v3-0324:Q2_K_XL"), "deepseek-v3-0324:IQ1_S");
        assert_eq!(named("hf:a/b:Q2_K_XL"), "hf:a/b:IQ1_S");
    }
}
