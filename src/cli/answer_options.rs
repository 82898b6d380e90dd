//! What the commands that print one answer have in common: the model, how it is sampled, where the answer ends, and
//! whether anything else is said.

use super::generate::summary;
use super::model::{AttachOption, ModelOptions, remarks};
use super::output::message;
use super::sampling::SamplingOptions;
use super::size::{Bound, bound};
use crate::engine::{Engine, Finished, Request};
use std::io::IsTerminal;
use std::path::PathBuf;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct AnswerOptions {
    /// A .gguf file, any shard of a split model, a folder that holds one model, or `demo` [default: what `cachalot use`
    /// has set, or the demo model]
    #[arg(short, long, display_order = 0)]
    model: Option<PathBuf>,
    /// Tokens to generate at most; -1 is as many as the context holds, as without it
    #[arg(short, long, value_name = "N", value_parser = bound, allow_negative_numbers = true)]
    n_predict: Option<Bound>,
    /// End the answer before this text; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Say nothing but the answer, and errors
    #[arg(short, long)]
    pub(super) quiet: bool,
    #[command(flatten)]
    sampling: SamplingOptions,
    #[command(flatten)]
    options: ModelOptions,
    #[command(flatten)]
    attach: AttachOption,
}

impl AnswerOptions {
    /// Opens the model, and says what of it may surprise.
    pub(super) fn open(&self) -> anyhow::Result<Engine> {
        let model = self.model.as_deref();
        let engine = match self.options.attach(model, &self.attach)? {
            Some(engine) => {
                self.options.remark(&engine);
                engine
            }
            None => self.options.open(model, self.quiet)?,
        };
        if !self.quiet {
            remarks(&engine);
        }
        Ok(engine)
    }

    /// An answer without a constraint.
    pub(super) fn request(&self, engine: &Engine, prompt: Vec<u32>) -> anyhow::Result<Request> {
        Ok(Request {
            prompt,
            sampling: self.sampling.params(engine)?,
            max_tokens: self.n_predict.and_then(|bound| bound.0),
            stop: self.stop.clone(),
            ..Request::default()
        })
    }

    /// Says on a terminal what the answer took.
    pub(super) fn summarise(&self, finished: &Finished) {
        if !self.quiet && std::io::stderr().is_terminal() {
            message(&summary(finished));
        }
    }
}
