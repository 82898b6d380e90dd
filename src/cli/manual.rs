//! `cachalot completions` and `cachalot man`: what shells and `man` are told of the commands.

use super::output::answer;
use crate::exit::{BadInput, CannotWrite};
use clap::Command;
use clap_complete::Shell;
use std::path::PathBuf;

/// Print the completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS)]
pub(super) struct CompletionsArgs {
    shell: Shell,
}

/// Print the manual page, of the program or of a command
#[derive(Debug, clap::Args)]
#[command(after_help = PAGES)]
pub(super) struct ManArgs {
    /// The command
    #[arg(conflicts_with = "all")]
    command: Option<String>,
    /// Write all pages into this folder instead
    #[arg(long, value_name = "DIR")]
    all: Option<PathBuf>,
}

const COMPLETIONS: &str = "\
Examples:
  cachalot completions bash > ~/.local/share/bash-completion/completions/cachalot
  cachalot completions zsh > ~/.zfunc/_cachalot
  cachalot completions fish > ~/.config/fish/completions/cachalot.fish";

const PAGES: &str = "\
Examples:
  cachalot man | man -l -
  cachalot man run | man -l -
  cachalot man --all ~/.local/share/man/man1";

pub(super) fn completions(args: &CompletionsArgs, command: Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    let mut command = without_hidden(command);
    clap_complete::generate(args.shell, &mut command, "cachalot", &mut script);
    Ok(answer(&script)?)
}

/// The commands and flags that the help shows: shells would offer the others too.
fn without_hidden(command: Command) -> Command {
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned().map(without_hidden);
    let flags = command.get_arguments().filter(|flag| !flag.is_hide_set()).cloned();
    let bare = Command::new(command.get_name().to_owned()).version(env!("CARGO_PKG_VERSION"));
    let about = command.get_about().cloned().unwrap_or_default();
    bare.about(about).args(flags).subcommands(shown.collect::<Vec<_>>())
}

pub(super) fn man(args: &ManArgs, mut command: Command) -> anyhow::Result<()> {
    if let Some(folder) = &args.all {
        let cannot = |error| CannotWrite { path: folder.clone(), error };
        std::fs::create_dir_all(folder).map_err(cannot)?;
        return Ok(clap_mangen::generate_to(command.disable_help_subcommand(true), folder).map_err(cannot)?);
    }
    command.build();
    let page = match &args.command {
        None => command,
        Some(name) => {
            let unknown = || BadInput::Argument(format!("there is no command '{name}'"));
            let found = command.find_subcommand(name).filter(|sub| !sub.is_hide_set()).ok_or_else(unknown)?;
            found.clone().name(format!("cachalot-{name}"))
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    Ok(answer(&text)?)
}
