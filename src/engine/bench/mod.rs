//! How fast a loaded model computes: the clock around the forward pass, and nothing else.
//!
//! Tokens are random, the same in every repetition: how fast they are computed depends on them, for they
//! choose the experts. Sampling and text are no part of it.
//!
//! - [`machine`]: what this machine is, and how fast it reads its memory. [`Spread`]: what several
//!   measurements say. [`Timeline`]: what happens while tokens are generated.

pub mod machine;
mod spread;
mod timeline;

pub use spread::Spread;
pub use timeline::{Step, Timeline};

use crate::graph::{Forward, Seq, StepError, Token};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::Serialize;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Test {
    /// A prompt of `n` tokens, from an empty cache; the logits of its last token.
    Prompt { n: usize },
    /// `n` tokens one by one, each with its logits, behind `depth` tokens that are cached.
    Generation { n: usize, depth: usize },
}

impl Test {
    /// Tokens that are timed.
    pub fn n(self) -> usize {
        match self {
            Test::Prompt { n } | Test::Generation { n, .. } => n,
        }
    }

    pub fn depth(self) -> usize {
        match self {
            Test::Prompt { .. } => 0,
            Test::Generation { depth, .. } => depth,
        }
    }

    /// Tokens of context that the test needs.
    pub fn n_ctx(self) -> usize {
        self.n().saturating_add(self.depth())
    }

    /// Times the test, after once that does not count. The cache is empty before.
    pub fn measure(self, forward: &mut Forward, repetitions: usize) -> Result<Vec<Duration>, StepError> {
        let ids = random_ids(self.n_ctx(), forward.n_vocab());
        let (context, timed) = ids.split_at(self.depth());
        prefill(forward, context)?;
        let mut once = || {
            let start = Instant::now();
            match self {
                Test::Prompt { .. } => drop(prefill(forward, timed)?),
                Test::Generation { depth, .. } => generate(forward, timed, depth)?,
            }
            let time = start.elapsed();
            forward.remove(Seq::FIRST, position(self.depth())..i32::MAX);
            Ok(time)
        };
        once()?;
        (0..repetitions).map(|_| once()).collect()
    }
}

/// What happens while `n` tokens are generated behind `depth` others.
pub fn timeline(forward: &mut Forward, n: usize, depth: usize) -> Result<Timeline, StepError> {
    let ids = random_ids(n + depth, forward.n_vocab());
    let (context, ids) = ids.split_at(depth);
    prefill(forward, context)?;
    let mut timeline = Timeline::default();
    for (at, id) in (depth..).zip(ids) {
        forward.trace().begin();
        let begin = Instant::now();
        let done = forward.step(&[token(*id, at, true)], &mut Vec::new());
        let (end, spans) = (Instant::now(), forward.trace().end());
        done?;
        timeline.steps.push(Step { begin, end, spans });
    }
    forward.remove(Seq::FIRST, 0..i32::MAX);
    Ok(timeline)
}

/// Computes a prompt of `n` tokens, and the likeliest token that follows.
pub fn first_token(forward: &mut Forward, n: usize) -> Result<(), StepError> {
    let logits = prefill(forward, &random_ids(n, forward.n_vocab()))?;
    black_box(logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)));
    Ok(())
}

/// Computes tokens from the first position on, as many at once as may be; the logits of the last.
fn prefill(forward: &mut Forward, ids: &[u32]) -> Result<Vec<f32>, StepError> {
    let last = ids.len().wrapping_sub(1);
    let tokens: Vec<Token> = ids.iter().enumerate().map(|(at, id)| token(*id, at, at == last)).collect();
    let mut logits = Vec::new();
    tokens.chunks(forward.options().n_batch).try_for_each(|step| forward.step(step, &mut logits))?;
    Ok(logits)
}

/// Computes tokens from the position `start` on, one in a step.
fn generate(forward: &mut Forward, ids: &[u32], start: usize) -> Result<(), StepError> {
    let mut logits = Vec::new();
    (start..).zip(ids).try_for_each(|(at, id)| {
        logits.clear();
        forward.step(&[token(*id, at, true)], &mut logits)
    })
}

fn token(id: u32, at: usize, wants_logits: bool) -> Token {
    Token { id, seq: Seq::FIRST, position: position(at), wants_logits }
}

/// A context is shorter than 2^31 tokens.
fn position(at: usize) -> i32 {
    i32::try_from(at).unwrap_or(i32::MAX)
}

/// Always the same.
fn random_ids(n: usize, n_vocab: usize) -> Vec<u32> {
    let mut random = ChaCha8Rng::from_seed([0; 32]);
    let n_vocab = u32::try_from(n_vocab).unwrap_or(u32::MAX).max(1);
    (0..n).map(|_| random.next_u32() % n_vocab).collect()
}
