//! `cachalot rm`: pulled models off the disk.

use super::named::{FolderOption, find};
use super::output::message;
use super::size;
use crate::exit::BadInput;
use std::io::{BufRead, IsTerminal, Write};

/// Remove pulled models, and what an interrupted pull has left
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A name as `list` shows it, such as deepseek-v3-0324:Q2_K_XL
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    folder: FolderOption,
}

const EXAMPLES: &str = "\
Examples:
  cachalot rm deepseek-v3-0324:Q2_K_XL";

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let store = args.folder.store()?;
    // All names first, so that none is removed where another is mistyped.
    let found = args.models.iter().map(|name| find(&store, name)).collect::<Result<Vec<_>, _>>()?;
    for pulled in found {
        let (name, bytes) = (pulled.name(), size::binary(pulled.bytes_here()));
        if !args.yes && !agrees(&format!("remove {name}, {bytes}?"))? {
            message(&format!("{name} stays"));
            continue;
        }
        pulled.remove()?;
        message(&format!("{name} is removed, {bytes}"));
    }
    Ok(())
}

/// Whether the user says yes; one who cannot be asked has not.
fn agrees(question: &str) -> Result<bool, BadInput> {
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        return Err(BadInput::Argument(format!("{question} Nobody can be asked here: say so with -y")));
    }
    let _ = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    let mut line = String::new();
    let unreadable = |error| BadInput::Unreadable { name: "stdin".to_owned(), error };
    stdin.lock().read_line(&mut line).map_err(unreadable)?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}
