//! What goes with the next question: files, and search results. What may, and how it is framed, is the same as for
//! `run`: see [`Attachments`].

use super::Chat;
use super::actions::{bad, from_home};
use super::terminal::aside;
use crate::cli::attachments::Attachments;
use crate::cli::input::is_stdin;
use crate::exit::BadInput;
use crate::session::{Attachment, Question};
use crate::terminal::{status, visible};
use std::path::{Path, PathBuf};

#[derive(Debug, Default)]
pub(super) struct Pending(Attachments);

impl Pending {
    /// The question, with all that goes with it.
    pub(super) fn question(&mut self, text: String) -> Question {
        self.question_with(Vec::new(), text)
    }

    /// As [`Pending::question`], behind files that went with it before.
    pub(super) fn question_with(&mut self, before: Vec<Attachment>, text: String) -> Question {
        let Pending(mut attachments) = std::mem::take(self);
        attachments.put_before(before);
        let framed = attachments.results().is_some().then(|| attachments.frame(&text));
        Question { text, attachments: attachments.into_files(), framed }
    }

    fn names(&self) -> Vec<String> {
        let size = |file: &Attachment| format!("{} ({} bytes)", file.name, status::count(file.content.len()));
        let results = self.0.results().map(|(path, n)| format!("{} ({n} search results)", path.display()));
        self.0.files().iter().map(size).chain(results).collect()
    }
}

impl Chat {
    pub(super) fn show_files(&self) {
        match self.pending.names().as_slice() {
            [] => self.note("nothing goes with the next question"),
            names => names.iter().for_each(|name| aside(&format!("  {}\n", visible(name)))),
        }
    }

    /// All of the files, or none if one is refused.
    pub(super) fn attach(&mut self, argument: &str) -> anyhow::Result<()> {
        match argument {
            "" => self.show_files(),
            "-" => self.pending = Pending::default(),
            paths => {
                let paths = shlex::split(paths).ok_or_else(|| bad("a quote in the names of files is not closed"))?;
                let mut new = Attachments::default();
                for path in paths {
                    new.attach(&file_of(&path)?)?;
                }
                let engine = self.engine()?;
                new.check(engine)?;
                for file in new.files() {
                    let n_tokens = engine.tokenizer().encode_content(&file.content).len();
                    self.note(&format!("{}: {} with the next question", file.name, status::tokens(n_tokens)));
                }
                self.pending.0.put_behind(new.into_files());
            }
        }
        Ok(())
    }

    pub(super) fn attach_results(&mut self, argument: &str) -> anyhow::Result<()> {
        if argument.is_empty() {
            return Err(bad("a JSON file with search results: /search results.json").into());
        }
        let n = self.pending.0.attach_results(&file_of(argument)?)?;
        self.note(&format!("{n} search results with the next question"));
        Ok(())
    }
}

/// A file; standard input is where questions are typed.
fn file_of(path: &str) -> Result<PathBuf, BadInput> {
    match is_stdin(Path::new(path)) {
        true => Err(bad("- is no file here: standard input is where you type")),
        false => Ok(from_home(path)),
    }
}
