//! `cachalot run`: one answer.

mod answer;

use super::attachments::AttachOptions;
use super::constraint::{ConstraintOptions, constraint};
use super::conversation::{SystemOptions, encode, family, question};
use super::generate::{generate, summary, verdict};
use super::model::{ModelOptions, remarks};
use super::output::message;
use super::prompt::{PromptOptions, Stdin};
use super::sampling::SamplingOptions;
use crate::chat::{self, Prompt};
use crate::engine::{Engine, Request};
use crate::exit::BadInput;
use answer::{Answer, Report};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Instant;

/// Answer a prompt
///
/// The prompt is -p, or the words behind the options, or what comes on stdin; a pipe is put behind a prompt
/// that is given, after a blank line. The answer goes to stdout, and nothing else does.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A .gguf file, any shard of a split model, a folder that holds one model, or `demo` [default: what `cachalot use`
    /// has set, or the demo model]
    #[arg(short, long)]
    model: Option<PathBuf>,
    #[command(flatten)]
    prompt: PromptOptions,
    #[command(flatten)]
    attach: AttachOptions,
    #[command(flatten)]
    system: SystemOptions,
    /// Continue the text as it stands, without the frame of a conversation
    #[arg(long, conflicts_with_all = ["system", "official", "files", "search", "think"])]
    raw: bool,
    /// Let the model reason first, where it can be asked to
    #[arg(long)]
    think: bool,
    #[command(flatten)]
    constraint: ConstraintOptions,
    /// Tokens to generate at most
    #[arg(short, long, value_name = "N")]
    n_predict: Option<usize>,
    /// End the answer before this text; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Put the reasoning before the answer, between <think> and </think>; it goes to stderr otherwise
    #[arg(long)]
    show_reasoning: bool,
    /// Print one JSON object when all is done: text, reasoning, tool calls, how it ended, tokens, seconds
    #[arg(long, conflicts_with = "show_reasoning")]
    json: bool,
    /// Say nothing but the answer, and errors
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    sampling: SamplingOptions,
    #[command(flatten)]
    options: ModelOptions,
    /// An image, which no model here can see
    #[arg(long, value_name = "FILE", hide = true)]
    image: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  cachalot run \"Why is the sky blue?\"
  git diff | cachalot run \"Describe this change in one line\"
  cachalot run -f report.txt -f table.csv \"What do they disagree on?\"
  cachalot run --json-schema schema.json \"A recipe for bread\" | jq .steps
  while read -r line; do cachalot run -p \"Translate: $line\" </dev/null; done < lines.txt";

const NO_IMAGES: &str = "--image: DeepSeek-V3 and its relatives read text only; no model here can see an image";

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    if args.image.is_some() {
        return Err(BadInput::Argument(NO_IMAGES.to_owned()).into());
    }
    let grammar = args.constraint.grammar()?;
    let from_stdin = args.attach.n_from_stdin() + args.prompt.n_from_stdin();
    if from_stdin > 1 {
        return Err(BadInput::Argument("standard input can be read once: give - once".to_owned()).into());
    }
    let attachments = args.attach.read()?;
    let stdin = if from_stdin > 0 { Stdin::Taken } else { Stdin::Joined };
    let text = args.prompt.read(stdin, args.quiet)?;
    let start = Instant::now();
    let engine = args.options.open(args.model.as_deref(), args.quiet)?;
    let load = start.elapsed();
    if !args.quiet {
        remarks(&engine);
    }
    let sampling = args.sampling.params(&engine)?;
    attachments.check(&engine)?;
    let prompt = match args.raw {
        true => chat::completion(&text),
        false => framed(args, &engine, &question(args.system.message(), &attachments, &text))?,
    };
    let request = Request {
        prompt: encode(&engine, &prompt, "which its chat format needs; --raw does without")?,
        sampling,
        max_tokens: args.n_predict,
        stop: args.stop.clone(),
        constraint: grammar.map(|grammar| constraint(grammar, &engine, &prompt)),
    };
    let mut answer = Answer::new(args.json, args.show_reasoning, args.quiet);
    let generated = generate(&engine, &prompt, request, args.quiet, |events| answer.take(events));
    let Ok(finished) = &generated else {
        answer.end()?;
        return generated.map(drop);
    };
    let end = verdict(&engine, finished);
    answer.finish(&Report { engine: &engine, finished, load })?;
    if !args.quiet && std::io::stderr().is_terminal() {
        message(&summary(finished));
    }
    end
}

fn framed(args: &Args, engine: &Engine, conversation: &chat::Conversation) -> anyhow::Result<Prompt> {
    let options = chat::Options { thinking: args.think.then_some(true), ..chat::Options::default() };
    let unframed = |error: chat::TemplateError| BadInput::Argument(error.to_string());
    Ok(family(engine).prompt(conversation, options).map_err(unframed)?)
}
