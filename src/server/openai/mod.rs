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
use crate::chat::{Conversation, Tool};
use crate::engine::{Grammar, Scored, Usage};
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

/// What the answer must look like, by an object of the form of `response_format`.
fn response_format(format: &Fields) -> Result<Option<Grammar>, Fault> {
    let kind: Option<String> = format.get("type")?;
    match kind.as_deref() {
        None | Some("text") => Ok(None),
        Some("json_object") => match format.value("schema") {
            Some(schema) => Ok(Some(Grammar::JsonSchema(schema.clone()))),
            None => Ok(Some(Grammar::JsonObject)),
        },
        Some("json_schema") => {
            // Chat completions have an object around it, responses have not.
            let inner = format.object("json_schema")?;
            let schema = inner.value("schema").or_else(|| format.value("schema"));
            let missing = || format.fault("json_schema", "it has no 'schema'");
            Ok(Some(Grammar::JsonSchema(schema.cloned().ok_or_else(missing)?)))
        }
        Some(_) => Err(format.fault("type", "it must be text, json_object or json_schema")),
    }
}

/// The tools that are on offer, and which of them are to be called.
fn tools(fields: &Fields) -> Result<(Vec<Tool>, Calls), Fault> {
    let tools: Vec<Tool> = fields.get("tools")?.unwrap_or_default();
    let named = |name: Option<&Value>| {
        let name = name.and_then(Value::as_str).map(|name| Calls::Named(name.to_owned()));
        name.ok_or_else(|| fields.fault("tool_choice", "it must name a function"))
    };
    let calls = match fields.value("tool_choice") {
        None => Calls::Free,
        Some(Value::String(choice)) => match choice.as_str() {
            "auto" => Calls::Free,
            "none" => return Ok((Vec::new(), Calls::Free)),
            "required" => Calls::Some,
            _ => return Err(fields.fault("tool_choice", "it must be none, auto, required or name a function")),
        },
        // Chat completions have an object around the name, responses have not.
        Some(choice) => named(choice.pointer("/function/name").or_else(|| choice.get("name")))?,
    };
    Ok((tools, calls))
}

fn is_single(fields: &Fields) -> Result<bool, Fault> {
    Ok(fields.get("parallel_tool_calls")? == Some(false))
}

/// A prompt that goes on with its last message: by vLLM's field, or by DeepSeek's.
fn goes_on(fields: &Fields, messages: &[Value]) -> Result<bool, Fault> {
    let prefix = messages.last().and_then(|message| message.get("prefix")).and_then(Value::as_bool);
    Ok(fields.flag("continue_final_message")? || prefix == Some(true))
}

fn conversation(fields: &Fields, tools: Vec<Tool>) -> Result<Conversation, Fault> {
    Ok(Conversation { messages: fields.need("messages")?, tools })
}
