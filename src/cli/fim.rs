//! `cachalot fim`: what belongs between two pieces of text.

use super::conversation::encode;
use super::generate::{generate, summary, verdict};
use super::input::Input;
use super::model::{ModelOptions, remarks};
use super::output::{FileText, message};
use super::sampling::SamplingOptions;
use crate::chat::{self, Event};
use crate::engine::sampler::SamplerParams;
use crate::engine::{Engine, Request};
use crate::exit::{BadInput, Unwritable};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Fill in the middle
///
/// The model writes what belongs between a prefix and a suffix, or in the place of a marker in a file. That goes
/// to stdout as it is, without a line end of ours, so that prefix, answer and suffix together are the text.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A .gguf file, any shard of a split model, a folder that holds one model, or `demo` [default: what `cachalot use`
    /// has set, or the demo model]
    #[arg(short, long)]
    model: Option<PathBuf>,
    /// A file with a marker where something is missing; - is stdin
    #[arg(required_unless_present_any = ["prefix", "suffix"], conflicts_with_all = ["prefix", "suffix"])]
    file: Option<PathBuf>,
    /// What stands before; @FILE reads it from a file, @- from stdin
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prefix: Option<String>,
    /// What stands behind; @FILE reads it from a file, @- from stdin
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    suffix: Option<String>,
    /// The marker in the file
    #[arg(long, value_name = "TEXT", default_value = "<fim>", conflicts_with_all = ["prefix", "suffix"])]
    marker: String,
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

const EXAMPLES: &str = "\
Examples:
  cachalot fim --prefix 'def add(a, b):' --suffix $'\\n\\nprint(add(1, 2))'
  cachalot fim program.py                    # which has <fim> in it, once
  cachalot fim --prefix @before.rs --suffix @after.rs";

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let (prefix, suffix) = match &args.file {
        Some(path) => around_marker(path, &args.marker)?,
        None if [&args.prefix, &args.suffix].iter().all(|text| text.as_deref() == Some("@-")) => {
            let fault = "standard input can be read once: for --prefix or for --suffix".to_owned();
            return Err(BadInput::Argument(fault).into());
        }
        None => (part(args.prefix.as_deref())?, part(args.suffix.as_deref())?),
    };
    let engine = args.options.open(args.model.as_deref(), args.quiet)?;
    if !args.quiet {
        remarks(&engine);
    }
    let prompt = chat::fim(&prefix, &suffix);
    let request = Request {
        prompt: encode(&engine, &prompt, "which this model would need to fill in the middle")?,
        sampling: without_control(args.sampling.params(&engine)?, &engine),
        max_tokens: args.n_predict,
        stop: args.stop.clone(),
        constraint: None,
    };
    let mut printer = Printer { out: FileText::new(), at_line_start: true };
    let generated = generate(&engine, &prompt, request, args.quiet, |events| printer.print(events));
    printer.end()?;
    let finished = generated?;
    if !args.quiet && std::io::stderr().is_terminal() {
        message(&summary(&finished));
    }
    verdict(&engine, &finished)
}

/// The middle is text: of the control tokens, the model may only take those that end it.
fn without_control(mut params: SamplerParams, engine: &Engine) -> SamplerParams {
    let tokenizer = engine.tokenizer();
    let ids = 0..u32::try_from(tokenizer.n_tokens()).unwrap_or(u32::MAX);
    let is_special = |id: &u32| tokenizer.token(*id).is_ok_and(|token| token.kind.is_special());
    let barred = ids.filter(|id| is_special(id) && !tokenizer.ends_answer(*id));
    params.logit_bias.extend(barred.map(|id| (id, f32::NEG_INFINITY)));
    params
}

/// Text that was typed, or is in a file.
fn part(text: Option<&str>) -> Result<String, BadInput> {
    match text {
        None => Ok(String::new()),
        Some(text) => match text.strip_prefix('@') {
            Some(path) => Input::open(Path::new(path))?.prose(),
            None => Ok(text.to_owned()),
        },
    }
}

fn around_marker(path: &Path, marker: &str) -> Result<(String, String), BadInput> {
    if marker.is_empty() {
        return Err(BadInput::Argument("--marker: the marker is empty".to_owned()));
    }
    let mut input = Input::open(path)?;
    let text = input.prose()?;
    let mut parts = text.split(marker);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(prefix), Some(suffix), None) => Ok((prefix.to_owned(), suffix.to_owned())),
        (_, None, _) => {
            Err(input.faulty(&format!("the marker {marker} is not in it: put it where something is missing")))
        }
        _ => Err(input.faulty(&format!("the marker {marker} is in it more than once"))),
    }
}

/// The middle, as it comes.
struct Printer {
    out: FileText,
    at_line_start: bool,
}

impl Printer {
    fn print(&mut self, events: Vec<Event>) -> Result<(), Unwritable> {
        for event in events {
            if let Event::Content(text) | Event::Reasoning(text) | Event::Malformed { text, .. } = event {
                self.at_line_start = if text.is_empty() { self.at_line_start } else { text.ends_with('\n') };
                self.out.write_all(text.as_bytes()).map_err(Unwritable)?;
            }
        }
        self.out.flush().map_err(Unwritable)
    }

    /// On a terminal the prompt of the shell gets a line of its own; what goes elsewhere is the middle alone.
    fn end(&mut self) -> Result<(), Unwritable> {
        if std::io::stdout().is_terminal() && !self.at_line_start {
            self.out.write_all(b"\n").map_err(Unwritable)?;
        }
        self.out.flush().map_err(Unwritable)
    }
}
