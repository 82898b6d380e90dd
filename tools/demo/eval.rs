//! Answers the held-out questions with a model and counts the right answers, family by family.
//!
//! usage: cargo run --release --example demo-eval -- MODEL [QUESTIONS]
//!
//! QUESTIONS, by default `tests/data/demo/heldout.jsonl`, has a JSON object a line: `family`, `messages` (and
//! `tools`) or `fim` with `prefix` and `suffix`, and in `expected` all answers that are right. `match` says
//! how an answer is compared: as text (`exact`), as JSON (`json`), or by its tool calls (`calls`).

use anyhow::Context;
use cachalot::chat::{self, Answer, Conversation, Family, Prompt};
use cachalot::engine::sampler::SamplerParams;
use cachalot::engine::{Engine, Event, Options, Piece, Request};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

const QUESTIONS: &str = "tests/data/demo/heldout.jsonl";

#[derive(Deserialize)]
struct Question {
    family: String,
    #[serde(rename = "match")]
    compare: String,
    expected: Vec<Value>,
    #[serde(flatten)]
    conversation: Option<Conversation>,
    fim: Option<Fim>,
}

#[derive(Deserialize)]
struct Fim {
    prefix: String,
    suffix: String,
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let model = args.next().context("usage: demo-eval MODEL [QUESTIONS]")?;
    let questions = args.next().unwrap_or_else(|| QUESTIONS.to_owned());
    let lines = std::fs::read_to_string(&questions).with_context(|| questions.clone())?;
    let engine = Engine::open(Path::new(&model), &Options { n_ctx: Some(4096), ..Options::default() })?;
    let mut score: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (number, line) in lines.lines().enumerate() {
        let question: Question = serde_json::from_str(line).with_context(|| format!("line {}", number + 1))?;
        let answer = answer(&engine, &prompt(&question)?)?;
        let is_right = is_right(&question, &answer);
        if !is_right {
            eprintln!("{}: {:?}, not {}", question.family, answer.message, Value::from(question.expected));
        }
        let (right, all) = score.entry(question.family).or_default();
        *right += usize::from(is_right);
        *all += 1;
    }
    let (right, all) = score.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    for (family, (right, all)) in score.iter().map(|(name, n)| (name.as_str(), *n)).chain([("all", (right, all))]) {
        println!("{family:16} {right:5} of {all:5}  {:6.1} %", 100.0 * right as f64 / all as f64);
    }
    Ok(())
}

fn prompt(question: &Question) -> anyhow::Result<Prompt> {
    if let Some(Fim { prefix, suffix }) = &question.fim {
        return Ok(chat::fim(prefix, suffix));
    }
    let conversation = question.conversation.as_ref().context("neither messages nor fim")?;
    Ok(Family::V3.prompt(conversation, chat::Options::default())?)
}

/// The greedy answer.
fn answer(engine: &Engine, prompt: &Prompt) -> anyhow::Result<Answer> {
    let request = Request {
        prompt: engine.tokenizer().encode_segments(prompt.segments())?,
        sampling: SamplerParams { temperature: 0.0, ..SamplerParams::default() },
        max_tokens: Some(200),
        stop: Vec::new(),
    };
    let generation = engine.generate(request)?;
    let mut parser = prompt.parser();
    let mut answer = Answer::default();
    loop {
        let events = match generation.next_event() {
            Event::Prompt(_) => continue,
            Event::Piece(Piece::Text(text)) => parser.push(chat::Piece::Text(&text)),
            Event::Piece(Piece::Control(text)) => parser.push(chat::Piece::Control(&text)),
            Event::Finished(_) => break,
            Event::Failed(failure) => return Err(failure.into()),
        };
        events.into_iter().for_each(|event| answer.add(event));
    }
    parser.finish().into_iter().for_each(|event| answer.add(event));
    Ok(answer)
}

fn is_right(question: &Question, answer: &Answer) -> bool {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).ok();
    let said = match question.compare.as_str() {
        "json" => parsed(&answer.message.content),
        "calls" => {
            let calls = answer.message.tool_calls.iter();
            let values = calls.map(|call| Some(json!({"name": call.name, "arguments": parsed(&call.arguments)?})));
            values.collect::<Option<Vec<_>>>().map(Value::from)
        }
        _ => Some(Value::from(answer.message.content.as_str())),
    };
    let same = |expected: &Value| match (question.compare.as_str(), expected) {
        ("json", Value::String(text)) => parsed(text) == said,
        _ => Some(expected) == said.as_ref(),
    };
    question.expected.iter().any(same)
}
