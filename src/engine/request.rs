//! What is asked of the engine, and what it answers.

use super::constraint::{Constraint, ConstraintError};
use super::sampler::{ParamError, SampleError, SamplerParams};
use super::stop::StopError;
use crate::graph::{Fault, StepError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A prompt to be continued.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Request {
    /// Tokens, from the first on: nothing is put before them.
    pub prompt: Vec<u32>,
    pub sampling: SamplerParams,
    /// Tokens to generate at most; `None` for as many as the context holds.
    pub max_tokens: Option<usize>,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
    /// It also ends with any of these tokens, which are no part of it.
    pub stop_tokens: Vec<u32>,
    /// Until it has so many tokens nothing of that ends it, nor does the model. What a constraint asks for does.
    pub min_tokens: usize,
    /// What the answer must look like.
    pub constraint: Option<Constraint>,
    /// Say of each token how likely it was, and which so many were likeliest there.
    pub n_logprobs: Option<usize>,
}

/// What happens to a request, in this order: its prompt is computed, pieces come, it ends.
#[derive(Debug)]
pub enum Event {
    /// So much of the prompt is computed.
    Prompt(Progress),
    /// A token was picked, where logprobs are asked for; its pieces come behind it, as far as they are whole.
    Token(Scored),
    Piece(Piece),
    /// The last event of a request that did not fail.
    Finished(Finished),
    /// The last event of one that did.
    Failed(Failure),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Tokens of the prompt that are computed, those that were cached included.
    pub done: usize,
    /// Of these, tokens that were cached from before.
    pub cached: usize,
    pub total: usize,
}

/// A token of an answer, and how likely it was by the model alone, before anything was done to its choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    pub id: u32,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens, the first before the others, as many as were asked for.
    pub top: Vec<(u32, f32)>,
}

/// A part of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// Whole characters.
    Text(String),
    /// The text of a control or user-defined token. The token that ends the answer is no part of it.
    Control(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    pub reason: FinishReason,
    pub usage: Usage,
    /// The seed that the tokens were drawn with.
    pub seed: u64,
    /// Whether the answer is whole, where a constraint says what that means.
    pub is_satisfied: Option<bool>,
}

/// A line for a log.
impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Usage { prompt_tokens, cached_tokens, generated_tokens, prompt_time, generation_time } = self.usage;
        let how = match self.reason {
            FinishReason::EndOfAnswer | FinishReason::StopString(_) | FinishReason::StopToken(_) => "answered",
            FinishReason::Length => "answered up to the limit",
            FinishReason::ContextFull => "answered until the context was full",
            FinishReason::Cancelled => "cancelled",
        };
        let (prompt, generation) = (prompt_time.as_secs_f64(), generation_time.as_secs_f64());
        write!(f, "{how}: prompt of {prompt_tokens} tokens ({cached_tokens} cached) in {prompt:.2} s, ")?;
        write!(f, "{generated_tokens} tokens in {generation:.2} s")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishReason {
    /// The model ended its answer.
    EndOfAnswer,
    /// A stop string came: its number.
    StopString(usize),
    /// One of the tokens came that are to end it.
    StopToken(u32),
    /// As many tokens came as were asked for.
    Length,
    /// The context is full.
    ContextFull,
    /// Cancelled.
    Cancelled,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt_tokens: usize,
    /// Of these, tokens that were cached from before.
    pub cached_tokens: usize,
    /// Generated tokens, the one that ends the answer included.
    pub generated_tokens: usize,
    /// From the start of the request to the end of its prompt.
    pub prompt_time: Duration,
    /// From there to its end.
    pub generation_time: Duration,
}

/// Why a request failed while it was computed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Step(#[from] StepError),
    #[error(transparent)]
    Sample(#[from] SampleError),
    #[error("{0}; the file may be damaged: `cachalot inspect --check` looks at every value")]
    NotFinite(#[from] Fault),
    /// No token could go on with an answer that is not whole yet, or the constraint grew too large.
    #[error("the answer cannot be made what it has to be: {0}")]
    Constraint(String),
    /// In the process that has the model open.
    #[error("{0}")]
    Elsewhere(String),
    #[error("the server that has the model open went away before the answer was whole; --no-attach does without it")]
    ServerGone,
    #[error("the engine ended: an internal error")]
    Gone,
}

/// A request that is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the prompt is empty")]
    EmptyPrompt,
    #[error(
        "the prompt has {prompt} tokens, but the context only {n_ctx}: shorten it, or set a larger context with -c"
    )]
    PromptTooLong { prompt: usize, n_ctx: usize },
    #[error("the token id {id} is not in the vocabulary of {n_vocab}")]
    Token { id: u32, n_vocab: usize },
    #[error(transparent)]
    Sampling(#[from] ParamError),
    #[error(transparent)]
    Stop(#[from] StopError),
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
    #[error("the engine ended: an internal error")]
    Gone,
}
