//! What goes with a question: files of text, and search results.
//!
//! Owns reading them and what is refused: what is no text, and what cannot fit into a context. How they are
//! framed is for `chat` to say.

use super::input::{Input, is_stdin};
use crate::chat::official;
use crate::chat::search::{self, SearchResult};
use crate::engine::Engine;
use crate::exit::{BadInput, TooLong};
use std::path::{Path, PathBuf};

/// The flags, which several commands have.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct AttachOptions {
    /// Attach a text file, as DeepSeek's own chat does; - is stdin; may be repeated
    #[arg(short, long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Attach search results: JSON with the `content`, `title`, `url` and `date` of each
    #[arg(long, value_name = "FILE")]
    search: Option<PathBuf>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Attachments {
    files: Vec<File>,
    results: Vec<SearchResult>,
}

#[derive(Debug, Clone)]
struct File {
    /// As the model is told it.
    name: String,
    content: String,
}

impl AttachOptions {
    /// How many of them are stdin, which is then no part of the prompt.
    pub(super) fn n_from_stdin(&self) -> usize {
        self.files.iter().chain(&self.search).filter(|path| is_stdin(path)).count()
    }

    pub(super) fn read(&self) -> Result<Attachments, BadInput> {
        let mut attachments = Attachments::default();
        for path in &self.files {
            attachments.attach(path)?;
        }
        if let Some(path) = &self.search {
            attachments.attach_results(path)?;
        }
        Ok(attachments)
    }
}

impl Attachments {
    pub(super) fn attach(&mut self, path: &Path) -> Result<(), BadInput> {
        let content = Input::open(path)?.prose()?;
        let name = match path.file_name() {
            Some(name) if !is_stdin(path) => name.to_string_lossy().into_owned(),
            _ => "stdin".to_owned(),
        };
        self.files.push(File { name, content });
        Ok(())
    }

    pub(super) fn attach_results(&mut self, path: &Path) -> Result<(), BadInput> {
        let mut input = Input::open(path)?;
        let text = input.prose()?;
        self.results = search::read_results(&text).map_err(|error| input.faulty(&error.to_string()))?;
        Ok(())
    }

    /// Refuses what alone does not fit into the model's context.
    pub(super) fn check(&self, engine: &Engine) -> Result<(), TooLong> {
        self.files.iter().try_for_each(|file| check_length(engine, &file.name, &file.content))
    }

    /// The message that asks a question about all this.
    pub(super) fn frame(&self, question: &str) -> String {
        let files: Vec<official::File<'_>> =
            self.files.iter().map(|file| official::File { name: &file.name, content: &file.content }).collect();
        let question = match self.results.as_slice() {
            [] => question.to_owned(),
            results => search::with_results(results, question, official::today()),
        };
        official::with_files(&files, &question)
    }
}

/// Refuses a text that does not fit into the model's context, by its name and with its size.
pub(super) fn check_length(engine: &Engine, name: &str, text: &str) -> Result<(), TooLong> {
    let (tokens, n_ctx) = (engine.tokenizer().encode_content(text).len(), engine.info().n_ctx);
    match tokens >= n_ctx {
        true => Err(TooLong { name: name.to_owned(), tokens, n_ctx }),
        false => Ok(()),
    }
}
