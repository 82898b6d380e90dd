//! From an open model to the frame of its conversations.

use crate::chat::{Facts, Family, Prompt};
use crate::engine::Engine;
use crate::exit::BadInput;

/// The family in whose frame the model converses, by its file.
pub(super) fn family(engine: &Engine) -> Family {
    let (info, tokenizer) = (engine.info(), engine.tokenizer());
    let ids = 0..u32::try_from(tokenizer.n_tokens()).unwrap_or(u32::MAX);
    let tokens = ids.filter_map(|id| tokenizer.token(id).ok());
    let special: Vec<&str> =
        tokens.filter(|token| token.kind.is_special()).filter_map(|token| str::from_utf8(token.bytes).ok()).collect();
    let template = info.chat_template.as_deref();
    Family::detect(&Facts { template, special_tokens: &special, name: info.name.as_deref() }).family
}

/// A prompt's tokens, by the model's vocabulary.
pub(super) fn encode(engine: &Engine, prompt: &Prompt) -> Result<Vec<u32>, BadInput> {
    engine.tokenizer().encode_segments(prompt.segments()).map_err(|error| BadInput::Faulty {
        name: engine.info().path.display().to_string(),
        fault: format!("{error}, which its chat format needs; --raw does without"),
    })
}
