//! What the commands do: those of one step here, the others where their subject is.

use super::Chat;
use super::clipboard;
use super::command::{self, Command};
use super::terminal::{aside, size};
use super::view::usable;
use crate::cli::output::message;
use crate::exit::BadInput;
use crate::terminal::line::fill;
use crate::terminal::visible;
use std::path::{Path, PathBuf};

/// What the loop does after a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Go,
    Leave,
}

impl Chat {
    pub(super) fn obey(&mut self, command: Command, argument: &str) -> anyhow::Result<Next> {
        match command {
            Command::Help => self.help(argument)?,
            Command::System => self.system(argument),
            Command::Set => self.set(argument)?,
            Command::Show => self.show(argument)?,
            Command::File => self.attach(argument)?,
            Command::Search => self.attach_results(argument)?,
            Command::Regen => self.regenerate()?,
            Command::Edit => self.edit(argument)?,
            Command::Undo => self.undo()?,
            Command::Fork => self.fork(argument)?,
            Command::Branches => self.branches(argument)?,
            Command::Save => self.save(argument)?,
            Command::Load => self.load(argument)?,
            Command::Export => self.export(argument)?,
            Command::Copy => self.copy(argument)?,
            Command::Clear => self.clear()?,
            Command::Stats => aside(&format!("{}\n", self.stats()?)),
            Command::Model => self.model(argument)?,
            Command::Quit => return Ok(Next::Leave),
        }
        Ok(Next::Go)
    }

    fn help(&self, argument: &str) -> anyhow::Result<()> {
        if argument.is_empty() {
            aside(&command::help(usable(size().0)));
            return Ok(());
        }
        let entry = command::find(argument.trim_start_matches('/'))?;
        let text = format!("/{} {}: {}", entry.name, entry.argument, entry.help);
        aside(&format!("{}\n", fill(&text, usable(size().0), 0)));
        Ok(())
    }

    fn system(&mut self, argument: &str) {
        let transcript = self.keep.transcript_mut();
        match argument {
            "" => {
                let text = transcript.system.as_deref().map_or("the model is told nothing first".into(), visible);
                aside(&format!("{text}\n"));
                return;
            }
            "-" => transcript.system = None,
            text => transcript.system = Some(text.to_owned()),
        }
        self.keep.save();
        self.note("from the next answer on");
    }

    fn set(&mut self, argument: &str) -> anyhow::Result<()> {
        if argument.is_empty() {
            aside(&self.settings.show());
            return Ok(());
        }
        let (key, value) =
            argument.split_once([' ', '=']).ok_or_else(|| bad("a key and a value: /set temperature 0.3"))?;
        let n_vocab = self.engine()?.info().n_vocab;
        self.settings.set(key, value.trim(), self.family, n_vocab)?;
        if let Some((key, value)) = self.settings.changed.last() {
            self.note(&format!("{key}: {value}"));
        }
        let settings = self.settings.changed.iter().cloned().collect();
        self.keep.transcript_mut().settings = settings;
        self.keep.save();
        Ok(())
    }

    fn copy(&self, what: &str) -> anyhow::Result<()> {
        let answer = self.last_answer().ok_or_else(|| bad("there is no answer yet"))?;
        let text = match what {
            "" => answer.content.clone(),
            "code" => clipboard::last_code(&answer.content).ok_or_else(|| bad("the last answer has no code"))?,
            _ => return Err(bad("/copy takes the last answer, /copy code its last code").into()),
        };
        let how = clipboard::copy(&text, self.abilities).map_err(BadInput::Argument)?;
        self.note(&how);
        Ok(())
    }

    fn model(&mut self, name: &str) -> anyhow::Result<()> {
        if name.is_empty() {
            let info = self.engine()?.info();
            let called = info.name.as_deref().unwrap_or("(the file has no name for it)");
            aside(&format!("{}: {}, {}\n", visible(&info.path.display().to_string()), visible(called), self.family));
            return Ok(());
        }
        let old = self.engine()?.info().path.clone();
        // Two models may be more than the memory holds.
        self.engine = None;
        let settings = self.settings.clone();
        if let Err(error) = self.open(Some(&from_home(name))) {
            message(&format!("{error:#}"));
            self.open(Some(&old))?;
            self.settings = settings;
            self.seen.clear();
            self.last_prompt.clear();
            self.note(&format!("still {}", old.display()));
            return Ok(());
        }
        let n_vocab = self.engine()?.info().n_vocab;
        for (key, value) in std::mem::take(&mut self.settings.changed) {
            if let Err(error) = self.settings.set(&key, &value, self.family, n_vocab) {
                message(&format!("{key}: {error}; it is as the new model's makers recommend"));
            }
        }
        let model = self.model_of_engine()?;
        self.keep.transcript_mut().model = model;
        self.keep.save();
        self.seen.clear();
        self.last_prompt.clear();
        self.prompt_rate = None;
        self.note(&format!("on with {}; the chat is read again with the next question", name));
        Ok(())
    }
}

pub(super) fn number(text: &str) -> Result<usize, BadInput> {
    text.parse().map_err(|_| bad(&format!("'{text}' is no number")))
}

pub(super) fn bad(text: &str) -> BadInput {
    BadInput::Argument(text.to_owned())
}

/// A path, with `~/` for the home folder; a model's name stays as it is.
pub(super) fn from_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(path),
    }
}
