//! The held-out questions, and what a model answers to them: shared by `demo-eval` and the tests.

use anyhow::Context;
use cachalot::chat::{self, Answer, Conversation, Family, Prompt};
use cachalot::engine::sampler::SamplerParams;
use cachalot::engine::{Engine, Event, Piece, Request};
use lzma_rust2::XzReader;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

#[derive(Deserialize)]
pub(crate) struct Question {
    pub(crate) family: String,
    #[serde(rename = "match")]
    compare: String,
    pub(crate) expected: Vec<Value>,
    #[serde(flatten)]
    conversation: Option<Conversation>,
    fim: Option<Fim>,
}

#[derive(Deserialize)]
struct Fim {
    prefix: String,
    suffix: String,
}

/// The questions of a file packed with xz, one a line.
pub(crate) fn questions(path: &Path) -> anyhow::Result<Vec<Question>> {
    let name = || path.display().to_string();
    let mut lines = String::new();
    let packed = BufReader::new(File::open(path).with_context(name)?);
    XzReader::new(packed, false).read_to_string(&mut lines).with_context(name)?;
    let read = |(line, at): (&str, usize)| serde_json::from_str(line).with_context(|| format!("line {at}"));
    lines.lines().zip(1..).map(read).collect()
}

/// Questions that were answered right, and all, by family.
pub(crate) type Score = BTreeMap<String, (usize, usize)>;

/// Asks them all, and hands each wrong answer to `wrong`.
pub(crate) fn score<'a>(
    engine: &Engine,
    questions: impl IntoIterator<Item = &'a Question>,
    mut wrong: impl FnMut(&Question, &Answer),
) -> anyhow::Result<Score> {
    let mut score = Score::new();
    for question in questions {
        let answer = answer(engine, &question.prompt()?)?;
        let is_right = question.is_right(&answer);
        if !is_right {
            wrong(question, &answer);
        }
        let (right, all) = score.entry(question.family.clone()).or_default();
        *right += usize::from(is_right);
        *all += 1;
    }
    Ok(score)
}

/// Over all families.
pub(crate) fn total(score: &Score) -> (usize, usize) {
    score.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

impl Question {
    pub(crate) fn prompt(&self) -> anyhow::Result<Prompt> {
        if let Some(Fim { prefix, suffix }) = &self.fim {
            return Ok(chat::fim(prefix, suffix));
        }
        let conversation = self.conversation.as_ref().context("neither messages nor fim")?;
        Ok(Family::V3.prompt(conversation, chat::Options::default())?)
    }

    fn is_right(&self, answer: &Answer) -> bool {
        let parsed = |text: &str| serde_json::from_str::<Value>(text).ok();
        let said = match self.compare.as_str() {
            "json" => parsed(&answer.message.content),
            "calls" => {
                let calls = answer.message.tool_calls.iter();
                let values = calls.map(|call| Some(json!({"name": call.name, "arguments": parsed(&call.arguments)?})));
                values.collect::<Option<Vec<_>>>().map(Value::from)
            }
            _ => Some(Value::from(answer.message.content.as_str())),
        };
        let same = |expected: &Value| match (self.compare.as_str(), expected) {
            ("json", Value::String(text)) => parsed(text) == said,
            _ => Some(expected) == said.as_ref(),
        };
        self.expected.iter().any(same)
    }
}

/// The greedy answer.
fn answer(engine: &Engine, prompt: &Prompt) -> anyhow::Result<Answer> {
    let request = Request {
        prompt: engine.tokenizer().encode_segments(prompt.segments())?,
        sampling: SamplerParams { temperature: 0.0, ..SamplerParams::default() },
        max_tokens: Some(200),
        ..Request::default()
    };
    let generation = engine.generate(request)?;
    let mut parser = prompt.parser();
    let mut answer = Answer::default();
    loop {
        let events = match generation.next_event() {
            Event::Prompt(_) | Event::Token(_) => continue,
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
