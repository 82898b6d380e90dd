//! `cachalot run`: one answer.

use super::conversation::{encode, family};
use super::model::ModelOptions;
use super::output::{FileText, message};
use super::sampling::SamplingOptions;
use crate::chat::{self, Conversation, Message, Prompt};
use crate::engine::{Engine, Event, FinishReason, Finished, Piece, Progress, Request};
use crate::exit::{BadInput, ContextFull, Unwritable};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;

/// Answer a prompt
///
/// The prompt is -p, or the words behind the options, or what comes on stdin; a pipe is put behind a prompt
/// that is given, after a blank line. The answer goes to stdout, and nothing else does.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A .gguf file, any shard of a split model, a folder that holds one model, or `demo` [default: demo]
    #[arg(short, long)]
    model: Option<PathBuf>,
    /// The prompt
    #[arg(conflicts_with = "prompt")]
    words: Vec<String>,
    /// The prompt
    #[arg(short, long, value_name = "TEXT")]
    prompt: Option<String>,
    /// What the model is told before
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Continue the text as it stands, without the frame of a conversation
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    /// Tokens to generate at most
    #[arg(short, long, value_name = "N")]
    n_predict: Option<usize>,
    /// End the answer before this text; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Say nothing but the answer, and errors
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    sampling: SamplingOptions,
    #[command(flatten)]
    options: ModelOptions,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let text = prompt_text(args)?;
    let engine = args.options.open(args.model.as_deref())?;
    let info = engine.info();
    if let (false, [first, rest @ ..]) = (args.quiet, info.unused_tensors.as_slice()) {
        let which = match rest.len() {
            0 => format!("the tensor {first} is"),
            n => format!("the tensor {first} and {n} more are"),
        };
        message(&format!("{}: {which} not used", info.path.display()));
    }
    let info = engine.info();
    if info.n_ctx > info.n_ctx_train && !args.quiet {
        message(&format!("a context of {} tokens; the model was made for {}", info.n_ctx, info.n_ctx_train));
    }
    let sampling = args.sampling.params(&engine)?;
    let prompt = frame(args, &engine, text)?;
    let ids = encode(&engine, &prompt)?;
    let request = Request { prompt: ids, sampling, max_tokens: args.n_predict, stop: args.stop.clone(), ..Request::default() };
    let finished = answer(args, &engine, &prompt, request)?;
    if !args.quiet && std::io::stderr().is_terminal() {
        message(&summary(&finished));
    }
    match finished.reason {
        FinishReason::ContextFull => Err(ContextFull { n_ctx: engine.info().n_ctx }.into()),
        _ => Ok(()),
    }
}

/// The prompt that is given, and what comes through a pipe.
fn prompt_text(args: &Args) -> Result<String, BadInput> {
    let given = match &args.prompt {
        Some(prompt) => prompt.clone(),
        None => args.words.join(" "),
    };
    let mut piped = Vec::new();
    if !std::io::stdin().is_terminal() {
        let unreadable = |error| BadInput::Unreadable { name: "standard input".to_owned(), error };
        std::io::stdin().lock().read_to_end(&mut piped).map_err(unreadable)?;
    }
    let piped = String::from_utf8(piped).map_err(|error| BadInput::Faulty {
        name: "standard input".to_owned(),
        fault: format!("not UTF-8: byte {} belongs to no character", error.utf8_error().valid_up_to()),
    })?;
    match (given.is_empty(), piped.trim().is_empty()) {
        (false, true) => Ok(given),
        (true, false) => Ok(piped),
        (false, false) => Ok(format!("{given}\n\n{piped}")),
        (true, true) => Err(BadInput::Argument(
            "there is no prompt: give one with -p, as an argument, or through a pipe".to_owned(),
        )),
    }
}

fn frame(args: &Args, engine: &Engine, text: String) -> anyhow::Result<Prompt> {
    if args.raw {
        return Ok(chat::completion(&text));
    }
    let system = args.system.iter().cloned().map(Message::System);
    let conversation = Conversation::new(system.chain([Message::User(text)]).collect());
    Ok(family(engine).prompt(&conversation, chat::Options::default())?)
}

/// Prints the answer as it comes.
fn answer(args: &Args, engine: &Engine, prompt: &Prompt, request: Request) -> anyhow::Result<Finished> {
    let total = request.prompt.len();
    let generation = engine.generate(request)?;
    let mut parser = prompt.parser();
    let mut printer = Printer { out: FileText::new(), quiet: args.quiet, at_line_start: true };
    let progress = Status::new(args.quiet);
    progress.show(Progress { done: 0, cached: 0, total });
    let finished = loop {
        match generation.next_event() {
            Event::Prompt(done) => progress.show(done),
            Event::Piece(piece) => {
                progress.clear();
                let piece = match &piece {
                    Piece::Text(text) => chat::Piece::Text(text),
                    Piece::Control(text) => chat::Piece::Control(text),
                };
                let events = parser.push(piece);
                printer.print(events)?;
            }
            Event::Finished(finished) => break Ok(finished),
            Event::Failed(failure) => break Err(failure),
        }
    };
    progress.clear();
    printer.print(parser.finish())?;
    printer.end()?;
    Ok(finished?)
}

/// Puts the answer on stdout, reasoning on stderr.
struct Printer {
    out: FileText,
    quiet: bool,
    at_line_start: bool,
}

impl Printer {
    fn print(&mut self, events: Vec<chat::Event>) -> Result<(), Unwritable> {
        for event in events {
            match event {
                chat::Event::Content(text) | chat::Event::Malformed { text, .. } => self.content(&text)?,
                chat::Event::ToolCall { name, arguments } => self.content(&format!("{name}({arguments})\n"))?,
                chat::Event::Reasoning(text) if !self.quiet => {
                    let _ = std::io::stderr().write_all(text.as_bytes());
                }
                chat::Event::Reasoning(_) => {}
            }
        }
        self.out.flush().map_err(Unwritable)
    }

    fn content(&mut self, text: &str) -> Result<(), Unwritable> {
        self.at_line_start = if text.is_empty() { self.at_line_start } else { text.ends_with('\n') };
        self.out.write_all(text.as_bytes()).map_err(Unwritable)
    }

    fn end(&mut self) -> Result<(), Unwritable> {
        if !self.at_line_start {
            self.content("\n")?;
        }
        self.out.flush().map_err(Unwritable)
    }
}

/// How far the prompt is, on a terminal.
struct Status(Option<ProgressBar>);

impl Status {
    fn new(quiet: bool) -> Status {
        let is_shown = !quiet && std::io::stderr().is_terminal();
        Status(is_shown.then(|| {
            let bar = ProgressBar::new(1);
            if let Ok(style) = ProgressStyle::with_template("prompt {bar:30} {pos}/{len} tokens, {eta} left") {
                bar.set_style(style);
            }
            bar
        }))
    }

    fn show(&self, progress: Progress) {
        if let Some(bar) = &self.0 {
            bar.set_length(progress.total as u64);
            bar.set_position(progress.done as u64);
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn summary(finished: &Finished) -> String {
    let usage = &finished.usage;
    let rate = |n: usize, time: std::time::Duration| n as f64 / time.as_secs_f64().max(1e-9);
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
