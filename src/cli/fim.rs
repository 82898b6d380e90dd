//! `cachalot fim`: what belongs between two pieces of text.

use super::answer_options::AnswerOptions;
use super::conversation::encode;
use super::generate::{generate, verdict};
use super::input::Input;
use super::output::FileText;
use crate::asking::without_control;
use crate::chat::{self, Event};
use crate::engine::Request;
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
    #[command(flatten)]
    pub(super) answer: AnswerOptions,
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
    let engine = args.answer.open()?;
    let prompt = chat::fim(&prefix, &suffix);
    let ids = encode(&engine, &prompt, "which this model would need to fill in the middle")?;
    let request = args.answer.request(&engine, ids)?;
    let request = Request { sampling: without_control(request.sampling, &engine), ..request };
    let mut printer = Printer { out: FileText::new(), at_line_start: true };
    let generated = generate(&engine, &prompt, request, args.answer.quiet, |events| printer.print(events));
    printer.end()?;
    let finished = generated?;
    args.answer.summarise(&finished);
    verdict(&engine, &finished)
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
