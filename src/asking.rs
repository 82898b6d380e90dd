//! What is the same of every question to an open model, wherever it comes from: the frame of its conversations, how
//! its tokens are picked where nobody says it, and what its answer must look like.
//!
//! Knows no flags and no HTTP.

use crate::catalog;
use crate::chat::{Facts, Family, Prompt};
use crate::engine::sampler::SamplerParams;
use crate::engine::{Constraint, Engine, Grammar};

/// The family in whose frame the model converses, by its file.
pub fn family(engine: &Engine) -> Family {
    let (info, tokenizer) = (engine.info(), engine.tokenizer());
    let ids = 0..u32::try_from(tokenizer.n_tokens()).unwrap_or(u32::MAX);
    let tokens = ids.filter_map(|id| tokenizer.token(id).ok());
    let special: Vec<&str> =
        tokens.filter(|token| token.kind.is_special()).filter_map(|token| str::from_utf8(token.bytes).ok()).collect();
    let template = info.chat_template.as_deref();
    Family::detect(&Facts { template, special_tokens: &special, name: info.name.as_deref() }).family
}

/// How tokens are picked as it is recommended for the model.
pub fn recommended(engine: &Engine) -> SamplerParams {
    let recommended = catalog::sampling_for(engine.info().name.as_deref(), family(engine).name());
    SamplerParams {
        temperature: recommended.temperature,
        top_p: recommended.top_p,
        min_p: recommended.min_p,
        ..SamplerParams::default()
    }
}

/// The temperature that a model is to have where DeepSeek's API is asked for this one: 1 there is 0.3 of the model's own.
pub fn from_deepseeks_api(temperature: f32) -> f32 {
    if temperature <= 1.0 { temperature * 0.3 } else { temperature - 0.7 }
}

/// A grammar for the answer to a prompt: where the model reasons first, for what comes after that.
pub fn constraint(grammar: Grammar, engine: &Engine, prompt: &Prompt) -> Constraint {
    let after = prompt.reasoning_ends_with().and_then(|text| engine.tokenizer().special(text).ok());
    Constraint { grammar, after }
}

/// What is filled in is text: of the control tokens, the model may only take those that end it.
pub fn without_control(mut params: SamplerParams, engine: &Engine) -> SamplerParams {
    let tokenizer = engine.tokenizer();
    let ids = 0..u32::try_from(tokenizer.n_tokens()).unwrap_or(u32::MAX);
    let is_special = |id: &u32| tokenizer.token(*id).is_ok_and(|token| token.kind.is_special());
    let barred = ids.filter(|id| is_special(id) && !tokenizer.ends_answer(*id));
    params.logit_bias.extend(barred.map(|id| (id, f32::NEG_INFINITY)));
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published map.
    #[test]
    fn temperatures_are_those_of_deepseeks_api() {
        for (api, model) in [(0.0, 0.0), (0.5, 0.15), (1.0, 0.3), (1.5, 0.8), (2.0, 1.3)] {
            assert!((from_deepseeks_api(api) - model).abs() < 1e-6, "{api}");
        }
    }
}
