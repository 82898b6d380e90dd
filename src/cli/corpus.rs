//! A model and the text that it is to compute chunk by chunk, which several commands take.

use super::input::Input;
use super::model::ModelOptions;
use super::output::message;
use super::size::at_least_one;
use crate::engine::Engine;
use crate::exit::BadInput;
use crate::quality::Cut;
use std::path::PathBuf;

/// Tokens of a chunk, where nothing else is said.
const DEFAULT_LENGTH: usize = 512;

#[derive(Debug, clap::Args)]
#[command(mut_arg("context", |arg| arg.help("Tokens of a chunk [default: 512]")))]
pub(super) struct CorpusOptions {
    /// A .gguf file, any shard of a split model, a folder that holds one model, or `demo`
    pub(super) model: PathBuf,
    /// The text; - is stdin
    pub(super) file: Option<PathBuf>,
    /// Chunks to compute at most
    #[arg(long, value_name = "N", value_parser = at_least_one::<usize>)]
    pub(super) chunks: Option<usize>,
    /// Take control tokens that are spelled in the text for what they are
    #[arg(long)]
    pub(super) special: bool,
    /// Show no progress
    #[arg(short, long)]
    pub(super) quiet: bool,
    #[command(flatten)]
    options: ModelOptions,
}

impl CorpusOptions {
    /// Tokens of a chunk, if they are said.
    pub(super) fn given_length(&self) -> Option<usize> {
        self.options.engine_options().n_ctx
    }

    /// Tokens of a chunk.
    pub(super) fn length(&self) -> Result<usize, BadInput> {
        let length = self.given_length().unwrap_or(DEFAULT_LENGTH);
        let (min, max) = (Cut::MIN_LENGTH, Cut::MAX_LENGTH);
        match (min..=max).contains(&length) {
            true => Ok(length),
            false => Err(BadInput::Argument(format!("-c {length}: a chunk has from {min} to {max} tokens"))),
        }
    }

    /// Opens the model with room for a chunk of so many tokens.
    pub(super) fn open(&self, length: usize) -> anyhow::Result<Engine> {
        let mut options = self.options.engine_options();
        options.n_ctx = Some(length);
        let engine = self.options.open_with(&self.model, &options, self.quiet)?;
        let trained = engine.info().n_ctx_train;
        if length > trained && !self.quiet {
            message(&format!("chunks of {length} tokens are longer than the {trained} that the model was made for"));
        }
        Ok(engine)
    }

    /// The tokens of a text, behind the one that this vocabulary begins texts with.
    pub(super) fn tokens(&self, engine: &Engine, input: &mut Input) -> Result<Vec<u32>, BadInput> {
        let text = input.text()?;
        let tokenizer = engine.tokenizer();
        let ids = match self.special {
            true => tokenizer.encode_trusted(&text),
            false => tokenizer.encode_content(&text),
        };
        Ok(tokenizer.prefix().into_iter().chain(ids).collect())
    }
}
