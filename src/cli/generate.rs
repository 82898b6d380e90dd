//! An answer while it is made: progress on a terminal, Ctrl-C, a reader who leaves, and what its end means.
//!
//! Knows nothing of what becomes of the answer.

use super::constraint::explain;
use super::interrupt;
use super::loading::ReadingBar;
use super::output::reader_is_gone;
use crate::chat::{self, Prompt};
use crate::engine::{Engine, Event, FinishReason, Finished, Piece, Progress, Request};
use crate::exit::{ContextFull, Interrupted, Unsatisfied, Unwritable};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal};
use std::time::Duration;

/// Computes the answer to a prompt and hands it on as it comes. A signal ends it as its model could have;
/// [`verdict`] tells.
pub(super) fn generate(
    engine: &Engine,
    prompt: &Prompt,
    request: Request,
    quiet: bool,
    mut take: impl FnMut(Vec<chat::Event>) -> Result<(), Unwritable>,
) -> anyhow::Result<Finished> {
    let total = request.prompt.len();
    let generation = match &request.constraint {
        None => engine.generate(request)?,
        Some(_) => engine.generate(request.clone()).map_err(|refused| explain(refused, engine, &request))?,
    };
    let canceller = generation.canceller();
    let _guard = interrupt::guard(move || canceller.cancel());
    let mut parser = prompt.parser();
    let mut status = Status::new(quiet, ReadingBar::new(engine, quiet));
    status.show(Progress { done: 0, cached: 0, total });
    let ended = loop {
        match generation.next_event() {
            Event::Prompt(_) if reader_is_gone() => {
                status.clear();
                return Err(Unwritable(io::ErrorKind::BrokenPipe.into()).into());
            }
            Event::Prompt(done) => status.show(done),
            Event::Token(_) => {}
            Event::Piece(piece) => {
                status.clear();
                take(parser.push(match &piece {
                    Piece::Text(text) => chat::Piece::Text(text),
                    Piece::Control(text) => chat::Piece::Control(text),
                }))?;
            }
            Event::Finished(finished) => break Ok(finished),
            Event::Failed(failure) => break Err(failure),
        }
    };
    status.clear();
    take(parser.finish())?;
    Ok(ended?)
}

/// Whether an answer is one, by how it ended.
pub(super) fn verdict(engine: &Engine, finished: &Finished) -> anyhow::Result<()> {
    if finished.reason == FinishReason::Cancelled {
        return Err(Interrupted.into());
    }
    if finished.is_satisfied == Some(false) {
        let why = match finished.reason {
            FinishReason::ContextFull => "the context is full",
            FinishReason::Length => "it has as many tokens as -n allows",
            FinishReason::StopString(_) | FinishReason::StopToken(_) => "it came to a stop string",
            FinishReason::EndOfAnswer | FinishReason::Cancelled => "the model ended it while it was reasoning",
        };
        return Err(Unsatisfied { why }.into());
    }
    match finished.reason {
        FinishReason::ContextFull => Err(ContextFull { n_ctx: engine.info().n_ctx }.into()),
        _ => Ok(()),
    }
}

/// One line on what it took.
pub(super) fn summary(finished: &Finished) -> String {
    let usage = &finished.usage;
    let rate = |n: usize, time: Duration| n as f64 / time.as_secs_f64().max(1e-9);
    let computed = usage.prompt_tokens - usage.cached_tokens;
    // The first token comes with the prompt.
    let steps = usage.generated_tokens.saturating_sub(1);
    format!(
        "prompt {} tokens, {:.1} tokens/s; answer {} tokens, {:.1} tokens/s; seed {}",
        usage.prompt_tokens,
        rate(computed, usage.prompt_time),
        usage.generated_tokens,
        rate(steps, usage.generation_time),
        finished.seed,
    )
}

/// How far the prompt is, on a terminal; and before that, how far the model's files are that are read.
struct Status {
    bar: Option<ProgressBar>,
    reading: Option<ReadingBar>,
}

impl Status {
    fn new(quiet: bool, reading: Option<ReadingBar>) -> Status {
        let is_shown = !quiet && io::stderr().is_terminal();
        let bar = is_shown.then(|| {
            let bar = ProgressBar::new(1);
            if let Ok(style) = ProgressStyle::with_template("prompt {bar:30} {pos}/{len} tokens, {eta} left") {
                bar.set_style(style);
            }
            bar
        });
        Status { bar, reading }
    }

    fn show(&self, progress: Progress) {
        if let Some(bar) = self.bar.as_ref().filter(|_| self.reading.as_ref().is_none_or(ReadingBar::is_over)) {
            bar.set_length(progress.total as u64);
            bar.set_position(progress.done as u64);
        }
    }

    fn clear(&mut self) {
        self.reading = None;
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
