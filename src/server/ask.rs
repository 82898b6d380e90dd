//! What is asked, in the one form that all protocols are translated into; and the fields that they share.

use super::fault::Fault;
use super::fields::Fields;
use super::model::Model;
use crate::asking::from_deepseeks_api;
use crate::chat::{self, Conversation, Ending, Thinking};
use crate::engine::Grammar;
use crate::engine::sampler::SamplerParams;
use serde_json::Value;

/// Answers to one prompt.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) prompt: Asked,
    pub(super) sampling: SamplerParams,
    pub(super) max_tokens: Option<usize>,
    pub(super) stop: Vec<String>,
    pub(super) grammar: Option<Grammar>,
    pub(super) n_logprobs: Option<usize>,
    /// How many answers.
    pub(super) n: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Asked {
    Chat(Chat),
    /// To be gone on with as it stands.
    Text(String),
    Tokens(Vec<u32>),
    Between {
        prefix: String,
        suffix: String,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Chat {
    pub(super) conversation: Conversation,
    pub(super) options: chat::Options,
    pub(super) calls: Calls,
    /// The answer ends with its first call.
    pub(super) single_call: bool,
}

/// Which tools an answer may, or must, call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Calls {
    Free,
    /// One of those that are offered.
    Some,
    Named(String),
}

/// Most answers that one request may ask for.
pub(super) const MAX_ANSWERS: usize = 64;
/// Most tokens whose probability is told beside that of the one picked.
pub(super) const MAX_TOP_LOGPROBS: usize = 20;

/// How a protocol means its temperature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Temperature {
    /// As DeepSeek's API does, for models of whom that is known.
    Api,
    Plain,
}

/// How tokens are picked: what the model has, and over it what the request says.
pub(super) fn sampling(fields: &Fields, model: &Model, meant: Temperature) -> Result<SamplerParams, Fault> {
    let mut params = model.sampling.clone();
    let number = |names: &[&str], parameter: &mut f32| -> Result<(), Fault> {
        *parameter = fields.any(names)?.unwrap_or(*parameter);
        Ok(())
    };
    if let Some(temperature) = fields.get::<f32>("temperature")? {
        params.temperature = match meant {
            Temperature::Api if model.maps_temperature => from_deepseeks_api(temperature),
            _ => temperature,
        };
    }
    number(&["top_p"], &mut params.top_p)?;
    number(&["min_p"], &mut params.min_p)?;
    number(&["typical_p", "typ_p"], &mut params.typical_p)?;
    number(&["repetition_penalty", "repeat_penalty"], &mut params.repetition_penalty)?;
    number(&["presence_penalty"], &mut params.presence_penalty)?;
    number(&["frequency_penalty"], &mut params.frequency_penalty)?;
    number(&["dry_multiplier"], &mut params.dry_multiplier)?;
    number(&["dry_base"], &mut params.dry_base)?;
    number(&["xtc_probability"], &mut params.xtc_probability)?;
    number(&["xtc_threshold"], &mut params.xtc_threshold)?;
    // -1 is all of them, as 0 is.
    params.top_k = fields.get::<i64>("top_k")?.map_or(params.top_k, |k| u32::try_from(k).unwrap_or(0));
    params.min_keep = fields.get("min_keep")?.unwrap_or(params.min_keep);
    params.penalty_last_n = fields.any(&["penalty_last_n", "repeat_last_n"])?.unwrap_or(params.penalty_last_n);
    params.dry_allowed_length = fields.get("dry_allowed_length")?.unwrap_or(params.dry_allowed_length);
    params.dry_penalty_last_n = fields.get("dry_penalty_last_n")?.unwrap_or(params.dry_penalty_last_n);
    if let Some(breakers) = fields.get("dry_sequence_breakers")? {
        params.dry_sequence_breakers = breakers;
    }
    // A negative one is as good as none.
    params.seed = match fields.value("seed").and_then(Value::as_i64) {
        Some(seed) if seed < 0 => None,
        _ => fields.get("seed")?.or(params.seed),
    };
    if let Some(value) = fields.value("logit_bias") {
        params.logit_bias = biases(value).ok_or_else(|| {
            let form = "it must be an object of token ids and numbers, or an array of pairs of them";
            fields.fault("logit_bias", form)
        })?;
    }
    params.validate(model.engine.info().n_vocab).map_err(|error| Fault::invalid(error.to_string()))?;
    Ok(params)
}

fn biases(value: &Value) -> Option<Vec<(u32, f32)>> {
    let bias = |value: &Value| match value {
        Value::Bool(false) => Some(f32::NEG_INFINITY),
        value => value.as_f64().map(|bias| bias as f32),
    };
    match value {
        Value::Object(map) => map.iter().map(|(id, value)| Some((id.parse().ok()?, bias(value)?))).collect(),
        Value::Array(pairs) => pairs
            .iter()
            .map(|pair| match pair.as_array()?.as_slice() {
                [id, value] => Some((u32::try_from(id.as_u64()?).ok()?, bias(value)?)),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

/// One text or several, or none.
pub(super) fn texts(fields: &Fields, name: &str) -> Result<Vec<String>, Fault> {
    match fields.value(name) {
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        _ => Ok(fields.get(name)?.unwrap_or_default()),
    }
}

/// How many tokens at most: the least of what the request and the server say. -1 is no bound of the request's.
pub(super) fn max_tokens(fields: &Fields, names: &[&str], model: &Model) -> Result<Option<usize>, Fault> {
    let asked: Option<i64> = fields.any(names)?;
    let asked = match asked {
        Some(n) if n < -1 => {
            return Err(fields.fault(names.first().copied().unwrap_or_default(), "it must not be negative"));
        }
        asked => asked.and_then(|n| usize::try_from(n).ok()),
    };
    Ok(match (asked, model.max_tokens) {
        (Some(asked), Some(max)) => Some(asked.min(max)),
        (asked, max) => asked.or(max),
    })
}

/// How many answers to one prompt.
pub(super) fn n_answers(fields: &Fields) -> Result<usize, Fault> {
    match fields.get("n")?.unwrap_or(1) {
        n @ 1..=MAX_ANSWERS => Ok(n),
        _ => Err(fields.fault("n", format!("it must be from 1 to {MAX_ANSWERS}"))),
    }
}

/// What vLLM's and llama.cpp's own fields say of the form of an answer.
pub(super) fn grammar(fields: &Fields) -> Result<Option<Grammar>, Fault> {
    let structured = fields.object("structured_outputs")?;
    let value = |name: &str, own: &str| structured.value(name).or_else(|| fields.value(own)).cloned();
    let text = |value: Value, name: &str| match value {
        Value::String(text) => Ok(text),
        _ => Err(fields.fault(name, "it must be a string")),
    };
    if let Some(schema) = value("json", "guided_json").or_else(|| fields.value("json_schema").cloned()) {
        return schema_of(schema).map(Some).ok_or_else(|| fields.fault("guided_json", "it must be a JSON schema"));
    }
    if structured.flag("json_object")? {
        return Ok(Some(Grammar::JsonObject));
    }
    if let Some(regex) = value("regex", "guided_regex") {
        return Ok(Some(Grammar::Regex(text(regex, "guided_regex")?)));
    }
    if let Some(choices) = value("choice", "guided_choice") {
        let choices: Vec<String> = super::fields::read(&choices, "guided_choice")?;
        if choices.is_empty() {
            return Err(fields.fault("guided_choice", "there is nothing to choose from"));
        }
        let choices: Vec<String> = choices.iter().map(|choice| regex::escape(choice)).collect();
        return Ok(Some(Grammar::Regex(choices.join("|"))));
    }
    if let Some(grammar) = value("grammar", "guided_grammar") {
        return Ok(Some(Grammar::Lark(text(grammar, "guided_grammar")?)));
    }
    match fields.value("grammar") {
        Some(_) => Err(fields.fault("grammar", "llama.cpp's GBNF is not understood: send Lark in 'guided_grammar'")),
        None => Ok(None),
    }
}

/// A schema, or the text of one.
fn schema_of(schema: Value) -> Option<Grammar> {
    match schema {
        Value::String(text) => serde_json::from_str(&text).ok().map(Grammar::JsonSchema),
        Value::Object(_) | Value::Bool(_) => Some(Grammar::JsonSchema(schema)),
        _ => None,
    }
}

/// Whether the model reasons first; only of models that can be asked to.
pub(super) fn thinking(fields: &Fields, model: &Model) -> Result<Option<bool>, Fault> {
    let template = fields.object("chat_template_kwargs")?;
    let effort = fields.any::<String>(&["reasoning_effort"])?;
    let effort = effort.or(fields.object("reasoning")?.get("effort")?);
    let kind: Option<String> = match fields.value("thinking") {
        Some(Value::Object(_)) => fields.object("thinking")?.get("type")?,
        _ => None,
    };
    let said = match (kind.as_deref(), effort.as_deref()) {
        (Some(kind), _) => Some(kind == "enabled" || kind == "adaptive"),
        (None, Some(effort)) => Some(!["none", "minimal"].contains(&effort)),
        (None, None) => template.any(&["thinking", "enable_thinking"])?.or(fields.get("enable_thinking")?),
    };
    Ok(said.filter(|_| model.family.thinking() == Thinking::OnRequest))
}

/// How a prompt ends that goes on with its last message, where that is asked for.
pub(super) fn ending(conversation: &Conversation, goes_on: bool) -> Ending {
    match conversation.messages.last() {
        Some(chat::Message::Assistant(last)) if goes_on && last.tool_calls.is_empty() => Ending::Continue,
        _ => Ending::Answer,
    }
}
