//! What goes with a question: files of text, and search results.
//!
//! Owns reading them and what is refused: what is no text, and what cannot fit into a context. How they are
//! framed is for `chat` to say.

use super::input::{Input, is_stdin};
use crate::chat::official;
use crate::chat::search::{self, SearchResult};
use crate::engine::Engine;
use crate::exit::{BadInput, TooLong};
use crate::session::Attachment;
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
    files: Vec<Attachment>,
    results: Option<Results>,
}

#[derive(Debug, Clone)]
struct Results {
    /// The file that they stand in.
    path: PathBuf,
    results: Vec<SearchResult>,
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
    /// Adds a text file, which the model is told the name of.
    pub(super) fn attach(&mut self, path: &Path) -> Result<(), BadInput> {
        let content = Input::open(path)?.prose()?;
        let name = match path.file_name() {
            Some(name) if !is_stdin(path) => name.to_string_lossy().into_owned(),
            _ => "stdin".to_owned(),
        };
        self.files.push(Attachment { name, content });
        Ok(())
    }

    /// Sets the search results; returns how many there are.
    pub(super) fn attach_results(&mut self, path: &Path) -> Result<usize, BadInput> {
        let mut input = Input::open(path)?;
        let text = input.prose()?;
        let results = search::read_results(&text).map_err(|error| input.faulty(&error.to_string()))?;
        let n = results.len();
        self.results = Some(Results { path: path.to_owned(), results });
        Ok(n)
    }

    /// Refuses what alone does not fit into the model's context.
    pub(super) fn check(&self, engine: &Engine) -> Result<(), TooLong> {
        self.files.iter().try_for_each(|file| check_length(engine, &file.name, &file.content))
    }

    /// Puts these files before its own.
    pub(super) fn put_before(&mut self, files: Vec<Attachment>) {
        self.files.splice(0..0, files);
    }

    pub(super) fn put_behind(&mut self, files: Vec<Attachment>) {
        self.files.extend(files);
    }

    pub(super) fn files(&self) -> &[Attachment] {
        &self.files
    }

    pub(super) fn into_files(self) -> Vec<Attachment> {
        self.files
    }

    /// The file of the search results, and how many they are.
    pub(super) fn results(&self) -> Option<(&Path, usize)> {
        self.results.as_ref().map(|results| (results.path.as_path(), results.results.len()))
    }

    /// The message that asks a question about all this.
    pub(super) fn frame(&self, question: &str) -> String {
        let files: Vec<official::File<'_>> =
            self.files.iter().map(|file| official::File { name: &file.name, content: &file.content }).collect();
        let question = match &self.results {
            Some(Results { results, .. }) if !results.is_empty() => {
                search::with_results(results, question, official::today())
            }
            _ => question.to_owned(),
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
