//! OpenAI's protocols: chat completions, completions, responses, models. What they share is here.

pub(super) mod chat;
pub(super) mod completions;
pub(super) mod models;
pub(super) mod responses;

use super::answers::{Call, Reason};
use super::ask::{Calls, MAX_TOP_LOGPROBS};
use super::fault::Fault;
use super::fields::Fields;
use super::model::Model;
use super::tokens::spelled;
use super::tools;
use crate::chat::{Conversation, Tool};
use crate::engine::{Scored, Usage};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn usage_json(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.generated_tokens,
        "total_tokens": usage.prompt_tokens + usage.generated_tokens,
        "prompt_tokens_details": { "cached_tokens": usage.cached_tokens },
    })
}

/// How fast it was, as llama.cpp's server tells it.
fn timings(usage: &Usage) -> Value {
    let rate = |n: usize, time: Duration| n as f64 / time.as_secs_f64().max(1e-9);
    let computed = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    json!({
        "cache_n": usage.cached_tokens,
        "prompt_n": computed,
        "prompt_ms": millis(usage.prompt_time),
        "prompt_per_second": rate(computed, usage.prompt_time),
        "predicted_n": usage.generated_tokens,
        "predicted_ms": millis(usage.generation_time),
        // The first token comes with the prompt.
        "predicted_per_second": rate(usage.generated_tokens.saturating_sub(1), usage.generation_time),
    })
}

fn finish_reason(reason: &Reason) -> &'static str {
    match reason {
        Reason::Stop | Reason::StopString(_) => "stop",
        Reason::Length => "length",
        Reason::Calls => "tool_calls",
    }
}

fn call_json(call: &Call) -> Value {
    json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": call.arguments } })
}

/// How likely tokens were, as chat completions tell it.
fn logprobs(model: &Model, tokens: &[Scored]) -> Value {
    let one = |id: u32, logprob: f32| {
        let (text, bytes) = spelled(model, id);
        json!({ "token": text, "logprob": logprob, "bytes": bytes })
    };
    let content = tokens.iter().map(|scored| {
        let mut entry = one(scored.id, scored.logprob);
        entry["top_logprobs"] = scored.top.iter().map(|(id, logprob)| one(*id, *logprob)).collect();
        entry
    });
    json!({ "content": content.collect::<Vec<_>>() })
}

/// How many tokens' probabilities are asked for beside that of the one picked.
fn n_top(fields: &Fields, name: &str) -> Result<usize, Fault> {
    match fields.get(name)?.unwrap_or(0) {
        n @ 0..=MAX_TOP_LOGPROBS => Ok(n),
        _ => Err(fields.fault(name, format!("it must be from 0 to {MAX_TOP_LOGPROBS}"))),
    }
}

/// Whether the answer is to come bit by bit, and with its usage.
fn streaming(fields: &Fields) -> Result<(bool, bool), Fault> {
    let is_streamed = fields.flag("stream")?;
    let options = fields.object("stream_options")?;
    if fields.value("stream_options").is_some() && !is_streamed {
        return Err(fields.fault("stream_options", "it goes with 'stream': true alone"));
    }
    Ok((is_streamed, options.flag("include_usage")?))
}

/// Fields that nothing is done with, and whose types are wrong only by mistake.
fn check_types(fields: &Fields) -> Result<(), Fault> {
    for name in ["user", "service_tier", "safety_identifier", "prompt_cache_key"] {
        fields.get::<String>(name)?;
    }
    fields.object("metadata")?;
    fields.flag("store").map(drop)
}

/// The tools that are on offer, and which of them are to be called.
fn tools(fields: &Fields) -> Result<(Vec<Tool>, Calls), Fault> {
    let tools = tools::read(fields)?;
    let (tools, calls) = match fields.value("tool_choice") {
        None => (tools, Calls::Free),
        Some(Value::String(choice)) => match choice.as_str() {
            "auto" => (tools, Calls::Free),
            "none" => (Vec::new(), Calls::Free),
            "required" => (tools, Calls::Some),
            _ => return Err(fields.fault("tool_choice", "it must be none, auto, required or an object")),
        },
        Some(_) => chosen(&fields.object("tool_choice")?, tools)?,
    };
    match calls == Calls::Some && tools.is_empty() {
        true => Err(fields.fault("tool_choice", "no tool is offered that could be called")),
        false => Ok((tools, calls)),
    }
}

/// By an object: one of them by its name, or some of them. Chat completions have objects around what responses have not.
fn chosen(choice: &Fields, mut tools: Vec<Tool>) -> Result<(Vec<Tool>, Calls), Fault> {
    let kind: Option<String> = choice.get("type")?;
    match kind.as_deref() {
        None | Some("function") => {
            let (name, path) = function(choice)?;
            tools::find(&tools, &name, &path)?;
            Ok((tools, Calls::Named(name)))
        }
        Some("allowed_tools") => {
            let inner = choice.object("allowed_tools")?;
            let allowed = if inner.value("tools").is_some() { &inner } else { choice };
            let calls = match allowed.need::<String>("mode")?.as_str() {
                "auto" => Calls::Free,
                "required" => Calls::Some,
                _ => return Err(allowed.fault("mode", "it must be auto or required")),
            };
            let names = allowed.objects("tools")?.iter().map(function).collect::<Result<Vec<_>, _>>()?;
            names.iter().try_for_each(|(name, path)| tools::find(&tools, name, path))?;
            tools.retain(|tool| names.iter().any(|(name, _)| *name == tool.name));
            Ok((tools, calls))
        }
        Some(_) => Err(choice.fault("type", "it must be function or allowed_tools")),
    }
}

/// The name of a function, and where it stands.
fn function(holder: &Fields) -> Result<(String, String), Fault> {
    let inner = holder.object("function")?;
    let holder = if inner.value("name").is_some() { &inner } else { holder };
    Ok((holder.need("name")?, holder.path("name")))
}

fn is_single(fields: &Fields) -> Result<bool, Fault> {
    Ok(fields.get("parallel_tool_calls")? == Some(false))
}

/// The field that has a prompt go on with its last message: vLLM's, or DeepSeek's.
fn goes_on(fields: &Fields, last: Option<&Fields>) -> Result<Option<&'static str>, Fault> {
    let is_prefix = last.map_or(Ok(false), |last| last.flag("prefix"))?;
    let field = fields.flag("continue_final_message")?.then_some("continue_final_message");
    Ok(field.or(is_prefix.then_some("messages")))
}

fn conversation(fields: &Fields, tools: Vec<Tool>) -> Result<Conversation, Fault> {
    Ok(Conversation { messages: fields.need("messages")?, tools })
}
