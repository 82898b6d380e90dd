//! What is asked, in the one form that all protocols are translated into; and how much, as they share the fields of it.

use super::fault::Fault;
use super::fields::Fields;
use super::form::Form;
use super::model::Model;
use crate::chat::{self, Conversation, Ending, Thinking};
use crate::engine::sampler::SamplerParams;
use crate::engine::stop::StopStrings;
use serde_json::Value;

/// Answers to one prompt.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) prompt: Asked,
    pub(super) sampling: SamplerParams,
    pub(super) bounds: Bounds,
    pub(super) form: Option<Form>,
    pub(super) n_logprobs: Option<usize>,
    /// How many answers.
    pub(super) n: usize,
}

/// How long an answer is.
#[derive(Debug, Clone, Default)]
pub(super) struct Bounds {
    pub(super) max_tokens: Option<usize>,
    pub(super) min_tokens: usize,
    pub(super) stop: Vec<String>,
    pub(super) stop_tokens: Vec<u32>,
    /// What stopped it is a part of it.
    pub(super) shows_stop: bool,
    /// The model itself cannot end it.
    pub(super) is_endless: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Asked {
    Chat(Chat),
    /// A conversation behind tokens of an earlier one.
    Later {
        before: Vec<u32>,
        chat: Chat,
    },
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
    /// The field that has the conversation.
    pub(super) field: &'static str,
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

/// The bounds of an answer, of which two have other names with each protocol; the others are vLLM's.
pub(super) fn bounds(fields: &Fields, max_tokens: &[&str], stop: &str, model: &Model) -> Result<Bounds, Fault> {
    let max_tokens = self::max_tokens(fields, max_tokens, model)?;
    let min_tokens = fields.get("min_tokens")?.unwrap_or(0);
    if max_tokens.is_some_and(|max| min_tokens > max) {
        return Err(fields.fault("min_tokens", "an answer may not have so many"));
    }
    let n_vocab = model.engine.info().n_vocab;
    let stop_tokens: Vec<u32> = fields.get("stop_token_ids")?.unwrap_or_default();
    if let Some(id) = stop_tokens.iter().find(|id| **id as usize >= n_vocab) {
        return Err(fields.fault("stop_token_ids", format!("there is no token {id}; this vocabulary has {n_vocab}")));
    }
    Ok(Bounds {
        max_tokens,
        min_tokens,
        stop: texts(fields, stop)?,
        stop_tokens,
        shows_stop: fields.flag("include_stop_str_in_output")?,
        is_endless: fields.flag("ignore_eos")?,
    })
}

/// One text or several, or none, to stop an answer.
fn texts(fields: &Fields, name: &str) -> Result<Vec<String>, Fault> {
    let texts = match fields.value(name) {
        None => Vec::new(),
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(_)) => fields.need(name)?,
        Some(_) => return Err(fields.fault(name, "it must be a text or an array of texts")),
    };
    StopStrings::new(&texts).map_err(|error| fields.fault(name, error))?;
    Ok(texts)
}

/// How many tokens at most: the least of what the request and the server say. -1 and -2 are no bound of the request's.
fn max_tokens(fields: &Fields, names: &[&str], model: &Model) -> Result<Option<usize>, Fault> {
    let Some(name) = fields.name_of(names) else { return Ok(model.max_tokens) };
    let n = fields.need::<i64>(name)?;
    for other in names {
        if fields.get::<i64>(other)?.is_some_and(|other| other != n) {
            return Err(fields.fault(other, format!("'{}' says another number", fields.path(name))));
        }
    }
    let asked = match n {
        n if n < -2 => return Err(fields.fault(name, "it must not be negative")),
        n => usize::try_from(n).ok(),
    };
    Ok(match (asked, model.max_tokens) {
        (Some(asked), Some(max)) => Some(asked.min(max)),
        (asked, max) => asked.or(max),
    })
}

/// How many answers to one prompt.
pub(super) fn n_answers(fields: &Fields) -> Result<usize, Fault> {
    let n = fields.get("n")?.unwrap_or(1);
    if !(1..=MAX_ANSWERS).contains(&n) {
        return Err(fields.fault("n", format!("it must be from 1 to {MAX_ANSWERS}")));
    }
    match fields.get::<usize>("best_of")? {
        Some(best_of) if best_of != 1 && best_of != n => {
            Err(fields.fault("best_of", "no answer is judged better than another here: ask for all of them with 'n'"))
        }
        _ => Ok(n),
    }
}

/// Efforts of reasoning, by the names that clients have for them; the first two are none.
const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// Whether the model reasons first; only of models that can be asked to.
pub(super) fn thinking(fields: &Fields, model: &Model) -> Result<Option<bool>, Fault> {
    let template = fields.object("chat_template_kwargs")?;
    let efforts = [effort(fields, "reasoning_effort")?, effort(&fields.object("reasoning")?, "effort")?];
    let kind = match fields.value("thinking") {
        Some(Value::Object(_)) => kind(&fields.object("thinking")?)?,
        _ => None,
    };
    let said = match kind.or(efforts.into_iter().flatten().next()) {
        None => template.any(&["thinking", "enable_thinking"])?.or(fields.get("enable_thinking")?),
        said => said,
    };
    Ok(said.filter(|_| model.family.thinking() == Thinking::OnRequest))
}

fn effort(fields: &Fields, name: &str) -> Result<Option<bool>, Fault> {
    let Some(effort) = fields.get::<String>(name)? else { return Ok(None) };
    match EFFORTS.iter().position(|known| *known == effort) {
        Some(at) => Ok(Some(at > 1)),
        None => Err(fields.fault(name, format!("it must be one of {}", EFFORTS.join(", ")))),
    }
}

/// As Anthropic's API and DeepSeek's have it.
fn kind(thinking: &Fields) -> Result<Option<bool>, Fault> {
    let kind: Option<String> = thinking.get("type")?;
    match kind.as_deref() {
        None => Ok(None),
        Some("enabled" | "adaptive") => Ok(Some(true)),
        Some("disabled") => Ok(Some(false)),
        Some(_) => Err(thinking.fault("type", "it must be enabled, adaptive or disabled")),
    }
}

/// How a prompt ends: where its last message is the model's own, that is gone on with.
pub(super) fn ending(conversation: &Conversation) -> Ending {
    match conversation.messages.last() {
        Some(chat::Message::Assistant(last)) if last.tool_calls.is_empty() => Ending::Continue,
        _ => Ending::Answer,
    }
}

/// As [`ending`], where it is only gone on with if a field says so.
pub(super) fn ending_by(fields: &Fields, field: Option<&str>, conversation: &Conversation) -> Result<Ending, Fault> {
    match (field, ending(conversation)) {
        (None, _) => Ok(Ending::Answer),
        (Some(_), Ending::Continue) => Ok(Ending::Continue),
        (Some(field), Ending::Answer) => {
            Err(fields.fault(field, "the last message is none of the assistant's to go on with"))
        }
    }
}
