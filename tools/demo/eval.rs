//! Answers the held-out questions with a model and counts the right answers, family by family.
//!
//! usage: cargo run --release --example demo-eval -- [MODEL [QUESTIONS]]
//!
//! MODEL is by default the embedded one. QUESTIONS, by default `tests/data/demo/heldout.jsonl.xz`, has, packed, a JSON
//! object a line: `family`, `messages` (and `tools`) or `fim` with `prefix` and `suffix`, and in `expected` all
//! answers that are right. `match` says how an answer is compared: as text (`exact`), as JSON (`json`), or by its
//! tool calls (`calls`).

mod score;

use cachalot::catalog;
use cachalot::engine::{Engine, Options};
use serde_json::Value;
use std::path::Path;

const QUESTIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo/heldout.jsonl.xz");

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let model = args.next().unwrap_or_else(|| "demo".to_owned());
    let questions = score::questions(Path::new(args.next().as_deref().unwrap_or(QUESTIONS)))?;
    let engine = Engine::open(
        catalog::source(Path::new(&model))?,
        &Options { n_ctx: Some(4096), n_threads: Some(1), ..Options::default() },
    )?;
    let score = score::score(&engine, &questions, |question, answer| {
        eprintln!("{}: {:?}, not {}", question.family, answer.message, Value::from(question.expected.clone()));
    })?;
    let total = [("all", score::total(&score))];
    for (family, (right, all)) in score.iter().map(|(name, n)| (name.as_str(), *n)).chain(total) {
        println!("{family:16} {right:5} of {all:5}  {:6.1} %", 100.0 * right as f64 / all as f64);
    }
    Ok(())
}
