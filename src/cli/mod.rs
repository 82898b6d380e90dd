//! The command line: flags to commands, one file a command.
//!
//! stdout carries the answer and nothing else; messages, progress and errors go to stderr. Nothing
//! here knows a tensor.

mod answer_options;
mod attachments;
mod bench;
mod chat;
mod config;
mod constraint;
mod conversation;
mod corpus;
mod detokenize;
mod doctor;
mod file_edit;
mod fim;
mod foreign;
mod generate;
mod gpus;
mod imatrix;
mod input;
mod inspect;
mod interrupt;
mod list;
mod loading;
mod logits;
mod manual;
mod model;
mod named;
mod nearest;
mod new_file;
mod output;
mod perplexity;
mod plan;
mod progress;
mod prompt;
mod pull;
mod quantize;
mod rm;
mod run;
mod sampling;
mod schema_place;
mod serve;
mod sessions;
mod settings;
mod size;
mod synth;
mod template_check;
mod tokenize;
mod transfer;
mod use_model;
mod verify;

use crate::exit::Exit;
use crate::ggml;
use crate::gguf::install_sigbus_handler;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use settings::Settings;
use std::ffi::OsString;
use std::io::IsTerminal;

#[derive(Debug, Parser)]
#[command(
    name = "cachalot",
    about = "Runs DeepSeek-V3 and its relatives from GGUF files on one workstation",
    after_help = EXIT_CODES
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Chat(chat::Args),
    Run(run::Args),
    Fim(fim::Args),
    Serve(serve::Args),
    Pull(pull::Args),
    List(list::Args),
    Verify(verify::Args),
    Rm(rm::Args),
    Use(use_model::Args),
    Config(config::Args),
    Inspect(inspect::Args),
    Tokenize(tokenize::Args),
    Detokenize(detokenize::Args),
    Logits(logits::Args),
    Synth(synth::Args),
    Quantize(quantize::Args),
    Imatrix(imatrix::Args),
    Bench(bench::Args),
    Plan(plan::Args),
    Doctor(doctor::Args),
    Perplexity(perplexity::Args),
    Completions(manual::CompletionsArgs),
    Man(manual::ManArgs),
    Sessions(sessions::Args),
    #[command(hide = true)]
    TemplateCheck(template_check::Args),
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed at run time; 2 wrong usage; \
3 the context is too small for the prompt, or was full before the answer ended; 4 the answer is not what its schema asks for; 65 file damaged or unsupported; \
66 file, shard, model or session not found or unreadable; 69 hub not reachable; 70 internal error; \
73 output exists or cannot be written; 75 not enough memory; 77 not permitted; 130 interrupted; \
141 the reader of stdout went away.";

const NO_TERMINAL: &str = "the program by itself is a chat, which needs a terminal; in a script `cachalot run \"...\"` \
     answers, and `cachalot --help` lists the commands";

/// Runs the program and returns how it ends.
pub fn main(args: impl Iterator<Item = OsString>) -> Exit {
    ggml::install_abort_handler();
    install_sigbus_handler();
    let args: Vec<OsString> = args.collect();
    if args.len() == 1 && !has_terminal() {
        output::message(NO_TERMINAL);
        return Exit::Usage;
    }
    let loaded = Settings::load(&command());
    let settings = loaded.as_ref().map_or_else(|_| Settings::default(), Settings::clone);
    let parser = settings.apply(command().version(version_text()));
    let (args, remarks) = match foreign::translate(&parser, with_command(args)) {
        Ok(translated) => translated,
        Err(refused) => {
            output::message(&refused.to_string());
            return Exit::Usage;
        }
    };
    let cli = match parser.try_get_matches_from(args).and_then(|matches| read(&matches)) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    remarks.iter().for_each(|remark| output::remark(remark));
    if cli.command.needs_settings() {
        settings::unknown_variables().iter().for_each(|remark| output::remark(remark));
    }
    // A chat has its own way with signals.
    if !matches!(cli.command, Command::Chat(_)) {
        interrupt::install();
    }
    let loaded = if cli.command.needs_settings() { loaded.map(drop) } else { Ok(()) };
    match loaded.map_err(anyhow::Error::from).and_then(|()| run(cli.command, &settings)) {
        Ok(()) => Exit::Done,
        Err(error) => {
            let exit = Exit::of(&error);
            let text = format!("{error:#}");
            if !matches!(exit, Exit::ClosedPipe | Exit::Interrupted) {
                output::message(&text);
                settings::blame(&settings, &text).iter().for_each(|blame| output::message(blame));
            }
            exit
        }
    }
}

fn has_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// The arguments; the program by itself is a chat.
fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.len() == 1 {
        args.push("chat".into());
    }
    args
}

/// The command, and whether it is to say nothing but its answer, and errors. A chat that is gone on with needs to know
/// whether its model was typed or is only set.
fn read(matches: &ArgMatches) -> Result<Cli, clap::Error> {
    if matches.subcommand().is_some_and(|(_, sub)| matches!(sub.try_get_one("quiet"), Ok(Some(true)))) {
        output::be_quiet();
    }
    let mut cli = Cli::from_arg_matches(matches)?;
    if let (Command::Chat(args), Some(matches)) = (&mut cli.command, matches.subcommand_matches("chat")) {
        args.is_model_typed = matches.value_source("model") == Some(ValueSource::CommandLine);
    }
    Ok(cli)
}

/// The commands and their flags, as they are without settings.
fn command() -> clap::Command {
    taking_numbers(Cli::command().version(env!("CARGO_PKG_VERSION")))
}

/// Lets each flag be given `-1`, so that it is refused for what is wrong with it, if anything is: without this it is
/// taken for a flag that there is not.
fn taking_numbers(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| match arg.get_action().takes_values() {
        true => arg.allow_negative_numbers(true),
        false => arg,
    });
    command.mut_subcommands(taking_numbers)
}

impl Command {
    /// Whether settings that cannot be read are an error: not for what shows or mends them, nor for what has
    /// nothing to do with them.
    fn needs_settings(&self) -> bool {
        !matches!(
            self,
            Command::Config(_)
                | Command::Use(_)
                | Command::Completions(_)
                | Command::Man(_)
                | Command::Inspect(_)
                | Command::TemplateCheck(_)
        )
    }
}

fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    ggml::check_cpu()?;
    match command {
        Command::Chat(args) => chat::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Fim(args) => fim::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::List(args) => list::run(&args, settings),
        Command::Use(args) => use_model::run(&args, &self::command()),
        Command::Config(args) => config::run(&args, &self::command()),
        Command::Completions(args) => manual::completions(&args, self::command()),
        Command::Man(args) => manual::man(&args, self::command()),
        Command::Pull(args) => pull::run(&args),
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
        Command::Plan(args) => plan::run(&args),
        Command::Doctor(args) => doctor::run(&args),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of each command of ours in a line of a shell.
    fn commands(line: &str) -> Vec<Vec<String>> {
        let parts = line.split(['|', '<', '>', ';']).flat_map(|part| part.split("$("));
        let ours = parts.filter_map(|part| part.find("cachalot ").and_then(|at| part.get(at..)));
        ours.map(|part| shlex::split(part.trim_end_matches([')', '"', ' '])).or_else(|| shlex::split(part)))
            .map(|words| words.unwrap_or_else(|| panic!("{line}")))
            .collect()
    }

    #[test]
    fn every_command_has_examples_that_it_takes() {
        let program = command();
        for sub in program.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let help = sub.get_after_help().unwrap_or_else(|| panic!("{} has no examples", sub.get_name())).to_string();
            let mut lines = help.lines();
            assert_eq!(lines.next(), Some("Examples:"), "{}", sub.get_name());
            let unlisted = sub.get_arguments().filter(|arg| arg.is_hide_short_help_set());
            let long = unlisted.filter_map(|arg| arg.get_long()).find(|long| help.contains(&format!("--{long} ")));
            assert_eq!(long, None, "-h of {} has an example of what it does not list", sub.get_name());
            let words: Vec<Vec<String>> = lines.flat_map(commands).collect();
            assert!(words.iter().any(|words| words.get(1).is_some_and(|name| name == sub.get_name())), "{help}");
            for words in words {
                if let Err(error) = command().try_get_matches_from(&words) {
                    panic!("{words:?}: {error}");
                }
            }
        }
    }
}
