//! The prompt: words, a flag, a file, a pipe, or one of the first three and a pipe.

use super::input::{Input, is_stdin};
use super::output::message;
use crate::exit::BadInput;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct PromptOptions {
    /// The prompt; a lone - is standard input
    #[arg(conflicts_with_all = ["prompt", "prompt_file"])]
    words: Vec<String>,
    /// The prompt
    #[arg(short, long, value_name = "TEXT")]
    prompt: Option<String>,
    /// The file with the prompt
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    prompt_file: Option<PathBuf>,
}

/// What is to become of stdin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stdin {
    /// It is put behind the prompt, or is the prompt.
    Joined,
    /// Something else has read it.
    Taken,
}

const NO_PROMPT: &str = "there is no prompt: give one with -p, as an argument, in a file, or through a pipe";

impl PromptOptions {
    /// The prompt that is given, and behind it, after a blank line, what comes through a pipe.
    pub(super) fn read(&self, stdin: Stdin, quiet: bool) -> Result<String, BadInput> {
        let given = self.given()?;
        let wants_stdin = self.words == ["-"] || !std::io::stdin().is_terminal();
        let piped = match stdin {
            Stdin::Joined if wants_stdin => piped(!given.is_empty() && !quiet)?,
            _ => String::new(),
        };
        match (given.is_empty(), piped.trim().is_empty()) {
            (false, true) => Ok(given),
            (true, false) => Ok(piped),
            (false, false) => Ok(format!("{given}\n\n{piped}")),
            (true, true) => Err(BadInput::Argument(NO_PROMPT.to_owned())),
        }
    }

    /// How often a file that is stdin is asked for.
    pub(super) fn n_from_stdin(&self) -> usize {
        usize::from(self.prompt_file.as_deref().is_some_and(is_stdin))
    }

    fn given(&self) -> Result<String, BadInput> {
        match (&self.prompt, &self.prompt_file) {
            (Some(prompt), _) => Ok(prompt.clone()),
            (_, Some(path)) => Input::open(path)?.prose(),
            _ if self.words == ["-"] => Ok(String::new()),
            _ => Ok(self.words.join(" ")),
        }
    }
}

/// Stdin to its end. With a prompt given already, a pipe that nobody writes to nor closes is likely a mistake,
/// which a script's author should hear of.
fn piped(may_be_idle: bool) -> Result<String, BadInput> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let (read, is_read) = mpsc::channel::<()>();
    if may_be_idle {
        std::thread::spawn(move || {
            if is_read.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                message("waiting for standard input to end; where there is none, say `</dev/null`");
            }
        });
    }
    let text = Input::stdin().prose();
    drop(read);
    text
}
