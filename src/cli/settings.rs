//! What is set once for many commands: the user's file, and the environment over it.
//!
//! Owns the keys, where they are read, and what is wrong with them. What is set becomes the default of a flag,
//! so that what is typed goes over it and every command reads one value in one place.

use super::file_edit;
use super::nearest::nearest;
use crate::catalog;
use crate::engine::sampler::SamplerParams;
use crate::exit::BadInput;
use crate::text::{Clipped, Escaped};
use clap::Command;
use directories::BaseDirs;
use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use toml_edit::{Document, Item, Value};

/// Commands that answer, and all that compute.
const ANSWER: &[&str] = &["run", "fim", "chat", "serve"];
const COMPUTE: &[&str] = &["run", "fim", "chat", "serve", "bench", "perplexity", "logits", "imatrix"];

/// Something that can be set.
#[derive(Debug, PartialEq)]
pub(super) struct Key {
    /// As the file has it; with hyphens it is the flag.
    pub(super) name: &'static str,
    pub(super) variable: &'static str,
    pub(super) about: &'static str,
    kind: Kind,
    /// Whose defaults it sets.
    commands: &'static [&'static str],
    /// The parameter of sampling that it is.
    sampling: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    /// A whole number, or one with a unit, such as 32K.
    Tokens,
    Number,
}

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "model",
        variable: "CACHALOT_MODEL",
        about: "the model that answers where none is named",
        kind: Kind::Text,
        commands: ANSWER,
        sampling: None,
    },
    Key {
        name: "context",
        variable: "CACHALOT_CONTEXT",
        about: "tokens of context",
        kind: Kind::Tokens,
        commands: ANSWER,
        sampling: None,
    },
    Key {
        name: "threads",
        variable: "CACHALOT_THREADS",
        about: "threads to compute with",
        kind: Kind::Integer,
        commands: COMPUTE,
        sampling: None,
    },
    Key {
        name: "batch",
        variable: "CACHALOT_BATCH",
        about: "tokens of a prompt to compute at once",
        kind: Kind::Integer,
        commands: ANSWER,
        sampling: None,
    },
    Key {
        name: "cache_type",
        variable: "CACHALOT_CACHE_TYPE",
        about: "how cached keys and values are stored",
        kind: Kind::Text,
        commands: ANSWER,
        sampling: None,
    },
    Key {
        name: "n_predict",
        variable: "CACHALOT_N_PREDICT",
        about: "tokens to generate at most",
        kind: Kind::Integer,
        commands: ANSWER,
        sampling: None,
    },
    Key {
        name: "temp",
        variable: "CACHALOT_TEMP",
        about: "temperature, whatever the model",
        kind: Kind::Number,
        commands: ANSWER,
        sampling: Some("temperature"),
    },
    Key {
        name: "top_p",
        variable: "CACHALOT_TOP_P",
        about: "top-p, whatever the model",
        kind: Kind::Number,
        commands: ANSWER,
        sampling: Some("top_p"),
    },
    Key {
        name: "min_p",
        variable: "CACHALOT_MIN_P",
        about: "min-p, whatever the model",
        kind: Kind::Number,
        commands: ANSWER,
        sampling: Some("min_p"),
    },
    Key {
        name: "seed",
        variable: "CACHALOT_SEED",
        about: "the seed of every answer",
        kind: Kind::Integer,
        commands: ANSWER,
        sampling: Some("seed"),
    },
];

/// Where a value is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Environment(&'static str),
    File { path: PathBuf, line: usize },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Environment(variable) => f.write_str(variable),
            Origin::File { path, line } => write!(f, "{}, line {line}", path.display()),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) key: &'static Key,
    pub(super) value: String,
    pub(super) origin: Origin,
}

/// What is set, each key once.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings(Vec<Set>);

impl Settings {
    /// What the file says, and the environment over it. `command` knows which values the flags take.
    pub(super) fn load(command: &Command) -> Result<Settings, BadInput> {
        let mut settings = Settings::default();
        for key in KEYS {
            let Some(value) = std::env::var_os(key.variable).filter(|value| !value.is_empty()) else { continue };
            let fault = |fault: String| BadInput::Argument(format!("{}: {fault}", key.variable));
            let value = value.into_string().map_err(|_| fault("not UTF-8".to_owned()))?;
            key.check(command, &value).map_err(fault)?;
            settings.0.push(Set { key, value, origin: Origin::Environment(key.variable) });
        }
        if let Some(path) = file_path() {
            for set in read_file(&path, command)? {
                if settings.get(set.key.name).is_none() {
                    settings.0.push(set);
                }
            }
        }
        Ok(settings)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Set> {
        self.0.iter().find(|set| set.key.name == name)
    }

    /// Makes what is set the defaults of the flags.
    pub(super) fn apply(&self, mut command: Command) -> Command {
        for set in &self.0 {
            for name in set.key.commands {
                let has_flag = |sub: &Command| sub.get_arguments().any(|arg| arg.get_id() == set.key.name);
                if command.find_subcommand(name).is_some_and(has_flag) {
                    let value = OsString::from(set.value.clone());
                    command = command.mut_subcommand(name, |sub| {
                        sub.mut_arg(set.key.name, |arg| arg.default_value(value).hide_default_value(true))
                    });
                }
            }
        }
        command
    }
}

impl Key {
    pub(super) fn find(name: &str) -> Result<&'static Key, String> {
        let known = name.replace('-', "_");
        KEYS.iter().find(|key| key.name == known).ok_or_else(|| {
            let names = || KEYS.iter().map(|key| key.name);
            match nearest(&known, names()) {
                Some(meant) => format!("there is no key '{}'; did you mean '{meant}'?", Clipped(name)),
                None => {
                    let names: Vec<&str> = names().collect();
                    format!("there is no key '{}'; these are: {}", Clipped(name), names.join(", "))
                }
            }
        })
    }

    /// Whether the flag, which this key is the default of, takes a value.
    pub(super) fn check(&self, command: &Command, value: &str) -> Result<(), String> {
        let not_a = |what: &str| format!("'{}' is not {what}", Clipped(value));
        match self.kind {
            Kind::Integer if value.parse::<i128>().is_err() => return Err(not_a("a whole number")),
            Kind::Number if value.parse::<f64>().is_err() => return Err(not_a("a number")),
            _ => {}
        }
        if let Some(parameter) = self.sampling {
            let mut params = SamplerParams::default();
            params.set(parameter, value).map_err(|error| error.to_string())?;
            return params.validate(usize::MAX).map_err(|error| error.to_string());
        }
        let of_run = command.find_subcommand("run").into_iter().flat_map(Command::get_arguments);
        let Some(flag) = of_run.into_iter().find(|arg| arg.get_id() == self.name) else { return Ok(()) };
        let flag = flag.clone().required(false).num_args(1);
        let typed = format!("--{}={value}", flag.get_long().unwrap_or(self.name));
        let alone = Command::new("check").no_binary_name(true).arg(flag);
        alone.try_get_matches_from([typed]).map(drop).map_err(|error| {
            let text = error.to_string();
            let lines = text.lines().take_while(|line| !line.is_empty()).map(|line| line.trim());
            lines.collect::<Vec<_>>().join(" ").trim_start_matches("error: ").to_owned()
        })
    }

    /// A value as the file has it.
    pub(super) fn to_toml(&self, value: &str) -> Value {
        match self.kind {
            Kind::Integer | Kind::Tokens => value.parse::<i64>().map_or_else(|_| value.into(), Value::from),
            Kind::Number => value.parse::<f64>().map_or_else(|_| value.into(), Value::from),
            Kind::Text => value.into(),
        }
    }

    fn of_toml(&self, item: &Item) -> Result<String, String> {
        match (self.kind, item.as_value()) {
            (Kind::Text | Kind::Tokens, Some(Value::String(text))) => Ok(text.value().clone()),
            (Kind::Integer | Kind::Tokens | Kind::Number, Some(Value::Integer(n))) => Ok(n.value().to_string()),
            (Kind::Number, Some(Value::Float(n))) => Ok(n.value().to_string()),
            (Kind::Text, _) => Err("must be a string, in quotes".to_owned()),
            (Kind::Integer, _) => Err("must be a whole number".to_owned()),
            (Kind::Tokens, _) => {
                Err("must be a whole number, or in quotes one with a unit, such as \"32K\"".to_owned())
            }
            (Kind::Number, _) => Err("must be a number".to_owned()),
        }
    }
}

/// The user's file, whether or not there is one. None where the user has no home.
pub(super) fn file_path() -> Option<PathBuf> {
    Some(BaseDirs::new()?.config_dir().join("cachalot").join("config.toml"))
}

fn read_file(path: &Path, command: &Command) -> Result<Vec<Set>, BadInput> {
    match std::fs::read_to_string(path) {
        Ok(text) => read_text(path, &text, command),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(BadInput::Unreadable { name: path.display().to_string(), error }),
    }
}

/// What a file at `path` with this text sets.
pub(super) fn read_text(path: &Path, text: &str, command: &Command) -> Result<Vec<Set>, BadInput> {
    let line_of = |span: Option<std::ops::Range<usize>>| file_edit::line_of(text, span);
    let name = || path.display().to_string();
    let fault = |line: usize, fault: String| BadInput::Faulty { name: name(), fault: format!("line {line}: {fault}") };
    let document = Document::parse(text)
        .map_err(|error| BadInput::Faulty { name: name(), fault: file_edit::toml_fault(text, &error) })?;
    let mut sets = Vec::new();
    for (typed, item) in document.as_table() {
        let line = line_of(document.as_table().key(typed).and_then(toml_edit::Key::span).or_else(|| item.span()));
        let key = Key::find(typed).map_err(|text| fault(line, text))?;
        let of_key = |text: String| fault(line, format!("{}: {text}", key.name));
        let value = key.of_toml(item).map_err(of_key)?;
        key.check(command, &value).map_err(of_key)?;
        sets.push(Set { key, value, origin: Origin::File { path: path.to_owned(), line } });
    }
    Ok(sets)
}

/// What begins as this program's variables do.
const PREFIX: &str = "CACHALOT_";

/// Variables that no key has, and that other parts of the program read.
const OTHER_VARIABLES: [&str; 3] = [catalog::FOLDER_VARIABLE, "CACHALOT_CPU", "CACHALOT_API_KEY"];

/// Says which variables of the environment look as if they were for this program, and are not.
pub(super) fn unknown_variables() -> Vec<String> {
    let known = || KEYS.iter().map(|key| key.variable).chain(OTHER_VARIABLES);
    let set = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    let unknown = set.filter(|name| name.starts_with(PREFIX) && !known().any(|known| known == name));
    let mut remarks: Vec<String> = unknown
        .map(|name| {
            match nearest(name.trim_start_matches(PREFIX), known().map(|known| known.trim_start_matches(PREFIX))) {
                Some(meant) => format!("{name} is set, and means nothing; did you mean {PREFIX}{meant}?"),
                None => format!("{name} is set, and means nothing; `cachalot config show` lists the variables"),
            }
        })
        .collect();
    remarks.sort();
    remarks
}

/// What to add to an error about a model that nobody typed.
pub(super) fn blame(settings: &Settings, error: &str) -> Option<String> {
    let set = settings.get("model").filter(|set| {
        // A path stands before a colon, a name before what is said of it.
        error.strip_prefix(&set.value).is_some_and(|rest| rest.starts_with([':', ' ']))
    })?;
    let (model, origin) = (Escaped(&set.value), &set.origin);
    Some(format!("{model} is the default model by {origin}; `cachalot use MODEL` sets another"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_and_near_misses_suggested() {
        assert_eq!(Key::find("cache-type").unwrap().name, "cache_type");
        assert_eq!(Key::find("thread"), Err("there is no key 'thread'; did you mean 'threads'?".to_owned()));
        assert!(Key::find("colour").unwrap_err().contains("these are: model, context"));
    }

    #[test]
    fn every_key_is_a_flag_of_run_and_has_its_own_variable() {
        let command = super::super::command();
        let run = command.find_subcommand("run").unwrap();
        for key in KEYS {
            let flag = run.get_arguments().find(|arg| arg.get_id() == key.name);
            assert_eq!(flag.and_then(|arg| arg.get_long()), Some(key.name.replace('_', "-").as_str()));
            assert_eq!(key.variable, format!("CACHALOT_{}", key.name.to_uppercase()));
        }
    }

    #[test]
    fn values_are_those_that_the_flags_take() {
        let command = super::super::command();
        let check = |name: &str, value: &str| Key::find(name).unwrap().check(&command, value);
        for (name, value) in [
            ("threads", "2"),
            ("threads", "-1"),
            ("context", "32K"),
            ("n_predict", "-1"),
            ("cache_type", "q8_0"),
            ("temp", "0.5"),
            ("seed", "18446744073709551615"),
            ("model", "x"),
        ] {
            assert_eq!(check(name, value), Ok(()), "{name}");
        }
        for (name, value) in [
            ("threads", "0"),
            ("threads", "x"),
            ("context", "32 K"),
            ("batch", "-1"),
            ("seed", "-1"),
            ("cache_type", "q9"),
            ("temp", "-1"),
            ("top_p", "2"),
        ] {
            assert!(!check(name, value).unwrap_err().contains('\n'), "{name}");
        }
    }
}
