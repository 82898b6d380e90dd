//! `cachalot config`: what is set, and by whom.

use super::file_edit;
use super::output::{Table, answer, json, message};
use super::settings::{KEYS, Key, Settings, file_path, read_text};
use crate::exit::BadInput;
use crate::text::Escaped;
use clap::{Command, Subcommand};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Show or change what is set once for many commands
///
/// Flags go over environment variables, these over the file, and the file over what the program finds out by
/// itself.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

const EXAMPLES: &str = "\
Examples:
  cachalot config show
  cachalot config set threads 8
  cachalot config unset threads
  $EDITOR \"$(cachalot config path)\"";

#[derive(Debug, Subcommand)]
enum What {
    /// Show every key, its value, and where that is from
    Show {
        /// Print an object instead
        #[arg(long)]
        json: bool,
    },
    /// Set a key in the file
    Set {
        key: String,
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Take a key out of the file
    Unset { key: String },
    /// Print where the file is, or would be
    Path,
}

pub(super) fn run(args: &Args, command: &Command) -> anyhow::Result<()> {
    match &args.what {
        What::Show { json: false } => show(&Settings::load(command)?),
        What::Show { json: true } => show_json(&Settings::load(command)?),
        What::Set { key, value } => {
            let usage = |text: String| BadInput::Argument(text);
            let key = Key::find(key).map_err(usage)?;
            key.check(command, value).map_err(|text| usage(format!("{}: {text}", key.name)))?;
            set(key, value, command)
        }
        What::Unset { key } => unset(key),
        What::Path => Ok(answer(format!("{}\n", existing_path()?.display()).as_bytes())?),
    }
}

/// A file that would be refused afterwards is left as it is; what is wrong with the key itself is mended by this.
pub(super) fn set(key: &Key, value: &str, command: &Command) -> anyhow::Result<()> {
    let path = existing_path()?;
    file_edit::set(&path, key.name, key.to_toml(value), |text| read_text(&path, text, command).map(drop))?;
    warn_of_variable(key);
    Ok(())
}

/// Any name will do, so that the file can be mended.
fn unset(name: &str) -> anyhow::Result<()> {
    let path = existing_path()?;
    let is_gone = file_edit::unset(&path, name)?;
    match Key::find(name) {
        Ok(key) if is_gone || file_edit::unset(&path, key.name)? => warn_of_variable(key),
        Err(text) if !is_gone => return Err(BadInput::Argument(text).into()),
        _ => {}
    }
    Ok(())
}

fn existing_path() -> Result<PathBuf, BadInput> {
    let homeless = || BadInput::Argument("there is no home folder to keep settings in: set XDG_CONFIG_HOME".to_owned());
    file_path().ok_or_else(homeless)
}

pub(super) fn warn_of_variable(key: &Key) {
    if std::env::var_os(key.variable).is_some_and(|value| !value.is_empty()) {
        message(&format!("{} is set, and goes over the file", key.variable));
    }
}

fn show(settings: &Settings) -> anyhow::Result<()> {
    let mut table = Table::new(&["key", "value", "from", "meaning"]);
    for key in KEYS {
        let (value, from) = match settings.get(key.name) {
            Some(set) => (Escaped(&set.value).to_string(), Escaped(&set.origin.to_string()).to_string()),
            None => ("-".to_owned(), format!("not set ({})", key.variable)),
        };
        table.row([key.name.to_owned(), value, from, key.about.to_owned()]);
    }
    Ok(answer(table.render("").as_bytes())?)
}

fn show_json(settings: &Settings) -> anyhow::Result<()> {
    let entry = |key: &Key| {
        let set = settings.get(key.name);
        let value = set.map_or(Value::Null, |set| set.value.clone().into());
        let from = set.map_or(Value::Null, |set| set.origin.to_string().into());
        (key.name.to_owned(), json!({ "value": value, "from": from, "variable": key.variable }))
    };
    Ok(json(&KEYS.iter().map(entry).collect::<Map<String, Value>>())?)
}
