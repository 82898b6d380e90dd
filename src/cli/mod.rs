//! The command line: flags to commands, one file a command.
//!
//! stdout carries the answer and nothing else; messages, progress and errors go to stderr. Nothing
//! here knows a tensor.

mod bench;
mod conversation;
mod detokenize;
mod imatrix;
mod input;
mod inspect;
mod list;
mod logits;
mod model;
mod named;
mod new_file;
mod output;
mod perplexity;
mod progress;
mod pull;
mod quantize;
mod rm;
mod run;
mod sampling;
mod sessions;
mod size;
mod synth;
mod template_check;
mod tokenize;
mod transfer;
mod verify;

use crate::catalog;
use crate::exit::Exit;
use crate::ggml;
use crate::gguf::install_sigbus_handler;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;

#[derive(Debug, Parser)]
#[command(
    name = "cachalot",
    about = "Runs DeepSeek-V3 and its relatives from GGUF files on one workstation",
    arg_required_else_help = true,
    after_help = EXIT_CODES
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Pull(pull::Args),
    List(list::Args),
    Verify(verify::Args),
    Rm(rm::Args),
    Inspect(inspect::Args),
    Tokenize(tokenize::Args),
    Detokenize(detokenize::Args),
    Logits(logits::Args),
    Synth(synth::Args),
    Quantize(quantize::Args),
    Imatrix(imatrix::Args),
    Bench(bench::Args),
    Perplexity(perplexity::Args),
    Sessions(sessions::Args),
    #[command(hide = true)]
    TemplateCheck(template_check::Args),
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed at run time; 2 wrong usage; \
3 context full before the answer ended; 65 file damaged or unsupported; \
66 file, shard, model or session not found or unreadable; 69 hub not reachable; 70 internal error; \
73 output exists or cannot be written; 75 not enough memory; 77 not permitted; 141 the reader of stdout went away.";

/// Runs the program and returns how it ends.
pub fn main(args: impl Iterator<Item = OsString>) -> Exit {
    ggml::install_abort_handler();
    install_sigbus_handler();
    let command = Cli::command().version(version_text());
    let cli = match command.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(cli.command) {
        Ok(()) => Exit::Done,
        Err(error) => {
            let exit = Exit::of(&error);
            if exit != Exit::ClosedPipe {
                output::message(&format!("{error:#}"));
            }
            exit
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    ggml::check_cpu()?;
    match command {
        Command::Run(args) => run::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::List(args) => list::run(&args, catalog::default_name()),
        Command::Verify(args) => verify::run(&args),
        Command::Rm(args) => rm::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Tokenize(args) => tokenize::run(&args),
        Command::Detokenize(args) => detokenize::run(&args),
        Command::Logits(args) => logits::run(&args),
        Command::Synth(args) => synth::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Imatrix(args) => imatrix::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Perplexity(args) => perplexity::run(&args),
        Command::Sessions(args) => sessions::run(&args),
        Command::TemplateCheck(_) => template_check::run(),
    }
}

/// What clap has to say: help and version on stdout, errors on stderr.
fn usage(error: &clap::Error) -> Exit {
    match (error.print(), error.use_stderr()) {
        (_, true) => Exit::Usage,
        (Ok(()), false) => Exit::Done,
        (Err(error), false) => Exit::of(&crate::exit::Unwritable(error).into()),
    }
}

fn version_text() -> String {
    let backends = ggml::backends().join("\n          ");
    format!("{}\nggml      {}\nbackends  {backends}", env!("CARGO_PKG_VERSION"), ggml::version())
}
