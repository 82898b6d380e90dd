//! `cachalot use`: the model that answers from now on where none is named.

use super::config;
use super::file_edit;
use super::output::message;
use super::settings::{Key, file_path};
use crate::catalog::{self, Reference};
use crate::engine::{Source, trained_context};
use crate::exit::BadInput;
use crate::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};

/// Set the model that answers where none is named
///
/// The model is opened to see that it can be; what it is called is kept in the user's file.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A .gguf file, any shard of a split model, a folder that holds one model, a name as `list` shows it, or `demo`
    #[arg(required_unless_present = "demo", conflicts_with = "demo")]
    model: Option<PathBuf>,
    /// Go back to the demo model
    #[arg(long)]
    demo: bool,
}

const EXAMPLES: &str = "\
Examples:
  cachalot use deepseek-v3-0324:Q2_K_XL
  cachalot use ~/models/model.gguf
  cachalot use --demo";

pub(super) fn run(args: &Args, command: &clap::Command) -> anyhow::Result<()> {
    let key = Key::find("model").map_err(BadInput::Argument)?;
    let Some(model) = args.model.as_deref().filter(|_| !args.demo) else {
        if let Some(path) = file_path() {
            file_edit::unset(&path, key.name)?;
        }
        message("the demo model answers from now on");
        config::warn_of_variable(key);
        return Ok(());
    };
    let name = name(model)?;
    config::set(key, &name, command)?;
    message(&format!("{name} answers from now on"));
    Ok(())
}

/// What to call the model wherever the program is started. Refuses one that cannot be opened.
fn name(model: &Path) -> anyhow::Result<String> {
    let source = catalog::source(model)?;
    trained_context(source.clone())?;
    Tokenizer::open(source.clone())?;
    // A pulled model is found by its name wherever that is said.
    if let Some(name) = model.to_str().filter(|name| !Path::new(name).exists())
        && Reference::parse(name)?.is_some()
    {
        return Ok(name.to_owned());
    }
    let path = match source {
        Source::Embedded { name, .. } => return Ok(name.to_owned()),
        Source::Path(path) => path,
    };
    let unreadable = |error| BadInput::Unreadable { name: path.display().to_string(), error };
    let path = path.canonicalize().map_err(unreadable)?;
    let not_text = |_| BadInput::Argument("the model's path is not UTF-8, which the settings are".to_owned());
    Ok(path.into_os_string().into_string().map_err(not_text)?)
}
