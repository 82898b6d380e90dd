//! `cachalot run`: one answer.

mod answer;

use super::answer_options::AnswerOptions;
use super::attachments::AttachOptions;
use super::constraint::ConstraintOptions;
use super::conversation::{SystemOptions, encode, family, question};
use super::generate::{generate, verdict};
use super::prompt::{PromptOptions, Stdin};
use crate::asking::constraint;
use crate::chat::{self, Prompt};
use crate::engine::{Engine, Request};
use crate::exit::BadInput;
use answer::{Answer, Report};
use std::path::PathBuf;
use std::time::Instant;

/// Answer a prompt
///
/// The prompt is -p, or the words behind the options, or what comes on stdin; a pipe is put behind a prompt
/// that is given, after a blank line. The answer goes to stdout, and nothing else does.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
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
    /// Put the reasoning before the answer, between <think> and </think>; it goes to stderr otherwise
    #[arg(long)]
    show_reasoning: bool,
    /// Print one JSON object when all is done: text, reasoning, tool calls, how it ended, tokens, seconds
    #[arg(long, conflicts_with = "show_reasoning")]
    json: bool,
    #[command(flatten)]
    pub(super) answer: AnswerOptions,
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
    let text = args.prompt.read(stdin, args.answer.quiet)?;
    let start = Instant::now();
    let engine = args.answer.open()?;
    let load = start.elapsed();
    attachments.check(&engine)?;
    let prompt = match args.raw {
        true => chat::completion(&text),
        false => framed(args, &engine, &question(args.system.message(), &attachments, &text))?,
    };
    let ids = encode(&engine, &prompt, "which its chat format needs; --raw does without")?;
    let request = Request {
        constraint: grammar.map(|grammar| constraint(grammar, &engine, &prompt)),
        ..args.answer.request(&engine, ids)?
    };
    let mut answer = Answer::new(args.json, args.show_reasoning, args.answer.quiet);
    let generated = generate(&engine, &prompt, request, args.answer.quiet, |events| answer.take(events));
    let Ok(finished) = &generated else {
        answer.end()?;
        return generated.map(drop);
    };
    let end = verdict(&engine, finished);
    answer.finish(&Report { engine: &engine, finished, load })?;
    args.answer.summarise(finished);
    end
}

fn framed(args: &Args, engine: &Engine, conversation: &chat::Conversation) -> anyhow::Result<Prompt> {
    let options = chat::Options { thinking: args.think.then_some(true), ..chat::Options::default() };
    let unframed = |error: chat::TemplateError| BadInput::Argument(error.to_string());
    Ok(family(engine).prompt(conversation, options).map_err(unframed)?)
}
