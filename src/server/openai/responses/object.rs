//! The object of a response, and its items.

use crate::engine::Usage;
use crate::server::answers::{Call, End, Whole};
use crate::server::app::App;
use crate::server::fields::Fields;
use crate::server::model::Model;
use crate::server::openai::finish_reason;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What every object says.
pub(super) struct Head {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: Arc<Model>,
    pub(super) app: Arc<App>,
    /// What the request said, or would have said, had it said everything.
    pub(super) said: Map<String, Value>,
}

impl Head {
    pub(super) fn items(&self, whole: &Whole) -> Vec<Value> {
        let reasoning = whole.reasoning.as_ref().map(|text| reasoning_item(&self.app.id("rs_"), text));
        let message = (!whole.content.is_empty() || whole.calls.is_empty())
            .then(|| message_item(&self.app.id("msg_"), &whole.content, status(whole.end.as_ref())));
        let of_call = |call: &Call| if call.is_cut { "incomplete" } else { "completed" };
        let calls = whole.calls.iter().map(|call| call_item(&self.app.id("fc_"), call, of_call(call)));
        reasoning.into_iter().chain(message).chain(calls).collect()
    }

    pub(super) fn object(&self, items: &[Value], end: Option<&End>) -> Value {
        let status = status(end);
        let mut object = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": null,
            "incomplete_details": (status == "incomplete").then(|| json!({ "reason": "max_output_tokens" })),
            "model": self.model.name(),
            "output": items,
            "usage": end.map(|end| usage_json(&end.usage)),
        });
        self.said.iter().for_each(|(name, value)| object[name] = value.clone());
        object
    }
}

/// Of a response, and of its message.
pub(super) fn status(end: Option<&End>) -> &'static str {
    match end {
        None => "in_progress",
        Some(end) if finish_reason(&end.reason) == "length" => "incomplete",
        Some(_) => "completed",
    }
}

/// What a response repeats of its request, with the values that hold where that says nothing.
pub(super) fn said(fields: &Fields) -> Map<String, Value> {
    let or = |name: &str, value: Value| (name.to_owned(), fields.value(name).cloned().unwrap_or(value));
    let within = |name: &str, inner: &str| fields.value(name).and_then(|object| object.get(inner)).cloned();
    let format = within("text", "format").unwrap_or_else(|| json!({ "type": "text" }));
    let reasoning = json!({ "effort": within("reasoning", "effort"), "summary": null });
    let repeated = [
        or("instructions", Value::Null),
        or("max_output_tokens", Value::Null),
        or("max_tool_calls", Value::Null),
        or("metadata", json!({})),
        or("parallel_tool_calls", true.into()),
        or("prompt_cache_key", Value::Null),
        or("safety_identifier", Value::Null),
        or("temperature", Value::Null),
        or("tool_choice", "auto".into()),
        or("tools", json!([])),
        or("top_p", Value::Null),
        or("user", Value::Null),
    ];
    // Nothing is kept, goes on by itself, or is shortened, whatever is said.
    let others = [
        ("text", json!({ "format": format })),
        ("reasoning", reasoning),
        ("previous_response_id", Value::Null),
        ("store", false.into()),
        ("background", false.into()),
        ("truncation", "disabled".into()),
        ("service_tier", "default".into()),
        ("top_logprobs", 0.into()),
    ];
    repeated.into_iter().chain(others.map(|(name, value)| (name.to_owned(), value))).collect()
}

fn usage_json(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": { "cached_tokens": usage.cached_tokens },
        "output_tokens": usage.generated_tokens,
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": usage.prompt_tokens + usage.generated_tokens,
    })
}

pub(super) fn message_item(id: &str, text: &str, status: &str) -> Value {
    json!({ "type": "message", "id": id, "status": status, "role": "assistant", "content": [text_part(text)] })
}

pub(super) fn text_part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

pub(super) fn reasoning_item(id: &str, text: &str) -> Value {
    let content = json!([{ "type": "reasoning_text", "text": text }]);
    json!({ "type": "reasoning", "id": id, "status": "completed", "summary": [], "content": content })
}

pub(super) fn call_item(id: &str, call: &Call, status: &str) -> Value {
    json!({
        "type": "function_call", "id": id, "call_id": call.id, "name": call.name, "arguments": call.arguments,
        "status": status,
    })
}
