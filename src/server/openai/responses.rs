//! Responses: a conversation as items, and its answer as items. Nothing is kept of them.

use super::{finish_reason, is_single, now, response_format, tools};
use crate::chat::{Assistant, Conversation, Message, Options, ToolCall, ToolResult};
use crate::engine::Usage;
use crate::server::answers::{Answers, Call, End, Said, Whole};
use crate::server::app::App;
use crate::server::ask::{self, Ask, Asked, Chat, Temperature};
use crate::server::fault::{Fault, Kind};
use crate::server::fields::{Fields, objects};
use crate::server::model::Model;
use crate::server::stream::{self, Wire, event};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;

pub(in crate::server) async fn answer(State(app): State<Arc<App>>, fields: Fields) -> Result<Response, Fault> {
    let model = app.model()?;
    model.check_name(&fields)?;
    let ask = read(&fields, &model)?;
    let is_streamed = fields.flag("stream")?;
    let answers = Answers::begin(&app, vec![ask]).await?;
    let head = Head { id: app.id("resp_"), created: now(), model, app };
    if is_streamed {
        let (items, open) = (Vec::new(), None);
        return Ok(stream::response(answers, Stream { head, n_events: 0, items, open, end: None, has_failed: false }));
    }
    let whole = answers.collect().await?.into_iter().next().unwrap_or_default();
    let items = head.items(&whole);
    Ok(Json(head.object(&items, whole.end.as_ref())).into_response())
}

fn read(fields: &Fields, model: &Model) -> Result<Ask, Fault> {
    if fields.value("previous_response_id").is_some() || fields.value("conversation").is_some() {
        let message = "responses are not kept: send the whole conversation in 'input'";
        return Err(Fault { field: Some("previous_response_id".to_owned()), ..Fault::new(Kind::Invalid, message) });
    }
    let (offered, calls) = tools(fields)?;
    let mut messages: Vec<Message> = fields.get("instructions")?.into_iter().map(Message::System).collect();
    messages.extend(input(fields)?);
    let conversation = Conversation { messages, tools: offered };
    let options = Options { thinking: ask::thinking(fields, model)?, ..Options::default() };
    Ok(Ask {
        prompt: Asked::Chat(Chat { conversation, options, calls, single_call: is_single(fields)? }),
        sampling: ask::sampling(fields, model, Temperature::Api)?,
        max_tokens: ask::max_tokens(fields, &["max_output_tokens"], model)?,
        stop: ask::texts(fields, "stop")?,
        grammar: response_format(&fields.object("text")?.object("format")?)?,
        n_logprobs: None,
        n: 1,
    })
}

fn input(fields: &Fields) -> Result<Vec<Message>, Fault> {
    let items = match fields.value("input") {
        None => return Err(fields.fault("input", "it is missing")),
        Some(Value::String(text)) => return Ok(vec![Message::User(text.clone())]),
        Some(Value::Array(items)) => objects(items.clone(), "input")?,
        Some(_) => return Err(fields.fault("input", "it must be a text or an array of items")),
    };
    let mut messages: Vec<Message> = Vec::new();
    for item in items {
        let kind: Option<String> = item.get("type")?;
        match kind.as_deref() {
            None | Some("message") => messages.push(message(&item)?),
            Some("function_call") => {
                let call = ToolCall {
                    id: item.get("call_id")?,
                    name: item.need("name")?,
                    arguments: item.get("arguments")?.unwrap_or_else(|| "{}".to_owned()),
                };
                match messages.last_mut() {
                    Some(Message::Assistant(last)) => last.tool_calls.push(call),
                    _ => {
                        messages.push(Message::Assistant(Assistant { tool_calls: vec![call], ..Assistant::default() }))
                    }
                }
            }
            Some("function_call_output") => {
                let content = match item.value("output") {
                    Some(Value::Array(_)) => parts(&item, "output")?,
                    _ => item.get("output")?.unwrap_or_default(),
                };
                messages.push(Message::Tool(ToolResult { call_id: item.get("call_id")?, content }));
            }
            // What the model thought before is no part of its prompts.
            Some("reasoning") => {}
            Some(_) => {
                return Err(item.fault("type", "it must be message, function_call, function_call_output or reasoning"));
            }
        }
    }
    Ok(messages)
}

fn message(item: &Fields) -> Result<Message, Fault> {
    let content = match item.value("content") {
        Some(Value::Array(_)) => parts(item, "content")?,
        _ => item.need("content")?,
    };
    let role: String = item.need("role")?;
    match role.as_str() {
        "system" | "developer" => Ok(Message::System(content)),
        "user" => Ok(Message::User(content)),
        "assistant" => Ok(Message::assistant(content)),
        _ => Err(item.fault("role", "it must be system, developer, user or assistant")),
    }
}

/// The texts of content, one behind the other.
fn parts(item: &Fields, name: &str) -> Result<String, Fault> {
    let text = |part: &Fields| {
        let kind: String = part.need("type")?;
        match kind.as_str() {
            "input_text" | "output_text" | "text" => part.need::<String>("text"),
            "refusal" => part.need("refusal"),
            _ => Err(part.fault("type", "only text is understood")),
        }
    };
    item.objects(name)?.iter().map(text).collect()
}

/// What every object says.
struct Head {
    id: String,
    created: u64,
    model: Arc<Model>,
    app: Arc<App>,
}

impl Head {
    fn items(&self, whole: &Whole) -> Vec<Value> {
        let reasoning = whole.reasoning.as_ref().map(|text| reasoning_item(&self.app.id("rs_"), text));
        let message = (!whole.content.is_empty() || whole.calls.is_empty())
            .then(|| message_item(&self.app.id("msg_"), &whole.content, "completed"));
        let calls = whole.calls.iter().map(|call| call_item(&self.app.id("fc_"), call, &call.arguments, "completed"));
        reasoning.into_iter().chain(message).chain(calls).collect()
    }

    fn object(&self, items: &[Value], end: Option<&End>) -> Value {
        let is_cut = end.is_some_and(|end| finish_reason(&end.reason) == "length");
        let status = match end {
            None => "in_progress",
            Some(_) if is_cut => "incomplete",
            Some(_) => "completed",
        };
        json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": null,
            "incomplete_details": is_cut.then(|| json!({ "reason": "max_output_tokens" })),
            "instructions": null,
            "metadata": {},
            "model": self.model.name(),
            "output": items,
            "parallel_tool_calls": true,
            "temperature": null,
            "tool_choice": "auto",
            "tools": [],
            "top_p": null,
            "store": false,
            "usage": end.map(|end| usage_json(&end.usage)),
        })
    }
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

fn message_item(id: &str, text: &str, status: &str) -> Value {
    json!({ "type": "message", "id": id, "status": status, "role": "assistant", "content": [text_part(text)] })
}

fn text_part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn reasoning_item(id: &str, text: &str) -> Value {
    json!({ "type": "reasoning", "id": id, "summary": [], "content": [{ "type": "reasoning_text", "text": text }] })
}

fn call_item(id: &str, call: &Call, arguments: &str, status: &str) -> Value {
    json!({
        "type": "function_call", "id": id, "call_id": call.id, "name": call.name, "arguments": arguments,
        "status": status,
    })
}

struct Stream {
    head: Head,
    n_events: usize,
    items: Vec<Value>,
    /// The item that grows.
    open: Option<Open>,
    end: Option<End>,
    has_failed: bool,
}

struct Open {
    is_reasoning: bool,
    id: String,
    text: String,
}

impl Stream {
    fn event(&mut self, name: &str, mut value: Value) -> String {
        value["type"] = name.into();
        value["sequence_number"] = self.n_events.into();
        self.n_events += 1;
        event(name, &value)
    }

    fn append(&mut self, text: &str, is_reasoning: bool) -> String {
        let mut out = String::new();
        if self.open.as_ref().is_none_or(|open| open.is_reasoning != is_reasoning) {
            out += &self.close();
            out += &self.open(is_reasoning);
        }
        let at = self.items.len();
        let Some(open) = &mut self.open else { return out };
        open.text.push_str(text);
        let mut value = json!({ "item_id": open.id, "output_index": at, "content_index": 0, "delta": text });
        let name = if is_reasoning { "response.reasoning_text.delta" } else { "response.output_text.delta" };
        if !is_reasoning {
            value["logprobs"] = json!([]);
        }
        out + &self.event(name, value)
    }

    fn open(&mut self, is_reasoning: bool) -> String {
        let (id, at) = (self.head.app.id(if is_reasoning { "rs_" } else { "msg_" }), self.items.len());
        let (item, part) = match is_reasoning {
            true => (json!({ "type": "reasoning", "id": id, "summary": [], "content": [] }), None),
            false => {
                let item = json!({
                    "type": "message", "id": id, "status": "in_progress", "role": "assistant", "content": [],
                });
                (item, Some(text_part("")))
            }
        };
        let mut out = self.event("response.output_item.added", json!({ "output_index": at, "item": item }));
        if let Some(part) = part {
            let value = json!({ "item_id": id, "output_index": at, "content_index": 0, "part": part });
            out += &self.event("response.content_part.added", value);
        }
        self.open = Some(Open { is_reasoning, id, text: String::new() });
        out
    }

    fn close(&mut self) -> String {
        let Some(Open { is_reasoning, id, text }) = self.open.take() else { return String::new() };
        let at = self.items.len();
        let place = |mut value: Value| {
            value["item_id"] = id.clone().into();
            value["output_index"] = at.into();
            value["content_index"] = 0.into();
            value
        };
        let (mut out, item) = match is_reasoning {
            true => {
                let done = place(json!({ "text": text }));
                (self.event("response.reasoning_text.done", done), reasoning_item(&id, &text))
            }
            false => {
                let done = self.event("response.output_text.done", place(json!({ "text": text, "logprobs": [] })));
                let part = self.event("response.content_part.done", place(json!({ "part": text_part(&text) })));
                (done + &part, message_item(&id, &text, "completed"))
            }
        };
        out += &self.event("response.output_item.done", json!({ "output_index": at, "item": item }));
        self.items.push(item);
        out
    }

    fn call(&mut self, call: &Call) -> String {
        let mut out = self.close();
        let (id, at) = (self.head.app.id("fc_"), self.items.len());
        let added = call_item(&id, call, "", "in_progress");
        out += &self.event("response.output_item.added", json!({ "output_index": at, "item": added }));
        let delta = json!({ "item_id": id, "output_index": at, "delta": call.arguments });
        out += &self.event("response.function_call_arguments.delta", delta);
        let done = json!({ "item_id": id, "output_index": at, "name": call.name, "arguments": call.arguments });
        out += &self.event("response.function_call_arguments.done", done);
        let item = call_item(&id, call, &call.arguments, "completed");
        out += &self.event("response.output_item.done", json!({ "output_index": at, "item": item }));
        self.items.push(item);
        out
    }
}

impl Wire for Stream {
    fn begin(&mut self) -> String {
        let response = self.head.object(&[], None);
        self.event("response.created", json!({ "response": response }))
            + &self.event("response.in_progress", json!({ "response": response }))
    }

    fn said(&mut self, _: usize, said: Said) -> String {
        match said {
            Said::Prompt(progress) => format!(": prompt {} of {} tokens\n\n", progress.done, progress.total),
            Said::Token(_) => String::new(),
            Said::Reasoning(text) => self.append(&text, true),
            Said::Content(text) => self.append(&text, false),
            Said::Call(call) => self.call(&call),
            Said::End(end) => {
                self.end = Some(end);
                String::new()
            }
            Said::Failed(fault) => {
                self.has_failed = true;
                let mut response = self.head.object(&self.items, None);
                response["status"] = "failed".into();
                response["error"] = json!({ "code": "server_error", "message": fault.message });
                self.event("response.failed", json!({ "response": response }))
            }
        }
    }

    fn end(&mut self) -> String {
        if self.has_failed {
            return String::new();
        }
        // An answer without text is a message without text.
        let opened = if self.items.is_empty() && self.open.is_none() { self.open(false) } else { String::new() };
        let closed = self.close();
        let response = self.head.object(&self.items, self.end.as_ref());
        let name = if response["status"] == "incomplete" { "response.incomplete" } else { "response.completed" };
        opened + &closed + &self.event(name, json!({ "response": response }))
    }
}
