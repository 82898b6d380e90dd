//! Anthropic's protocol: messages, whole and as they come, and how many tokens one has.

use super::answers::{Answers, Call, End, Reason, Said, Whole};
use super::app::App;
use super::ask::{self, Ask, Asked, Calls, Chat};
use super::awaited::Awaited;
use super::fault::Fault;
use super::fields::Fields;
use super::form::response_format;
use super::model::Model;
use super::sampling::{Temperature, sampling};
use super::stream::{self, Wire, event};
use super::tokens::blocking;
use super::tools::{check, find, not_a_function};
use super::unsupported::{self, refuse};
use crate::chat::{Assistant, Conversation, Message, Options, Tool, ToolCall, ToolResult, whole_members};
use crate::engine::Usage;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) async fn answer(State(app): State<Arc<App>>, fields: Fields) -> Result<Response, Fault> {
    let model = app.model()?;
    model.check_name(&fields)?;
    fields.need::<u32>("max_tokens")?;
    fields.get::<Vec<String>>("stop_sequences")?;
    fields.object("metadata")?.get::<String>("user_id")?;
    refuse(&fields, &unsupported::ANTHROPIC)?;
    let ask = Ask {
        prompt: Asked::Chat(chat(&fields, &model)?),
        sampling: sampling(&fields, &model, Temperature::Api)?,
        bounds: ask::bounds(&fields, &["max_tokens"], "stop_sequences", &model)?,
        form: match response_format(&fields.object("output_config")?.object("format")?)? {
            Some(form) => Some(form),
            // As it was called before.
            None => response_format(&fields.object("output_format")?)?,
        },
        n_logprobs: None,
        n: 1,
    };
    let is_streamed = fields.flag("stream")?;
    let answers = Answers::begin(&app, vec![ask]).await?;
    let (id, name) = (app.id("msg_"), model.name().to_owned());
    if is_streamed {
        let n_prompt = answers.n_prompt;
        return Ok(stream::response(
            answers,
            Stream { id, name, n_prompt, n_blocks: 0, open: None, has_begun: false, end: None },
        ));
    }
    let whole = answers.collect().await?.into_iter().next().unwrap_or_default();
    Ok(Json(message(&id, &name, &whole)).into_response())
}

pub(super) async fn count(State(app): State<Arc<App>>, fields: Fields) -> Result<Json<Value>, Fault> {
    let model = app.model()?;
    model.check_name(&fields)?;
    let chat = chat(&fields, &model)?;
    blocking(move || {
        let tokens = model.encode(&model.framed(&chat)?.0, "which its chat format needs")?;
        Ok(Json(json!({ "input_tokens": tokens.len() })))
    })
    .await
}

fn chat(fields: &Fields, model: &Model) -> Result<Chat, Fault> {
    let mut messages = Vec::new();
    if fields.value("system").is_some() {
        messages.push(Message::System(text_of(fields, "system")?));
    }
    let mut awaited = Awaited::by("a block of the type 'tool_result', before any text,");
    for message in fields.objects("messages")? {
        read_message(&message, &mut messages, &mut awaited)?;
    }
    awaited.end()?;
    let choice = fields.object("tool_choice")?;
    let kind: Option<String> = choice.get("type")?;
    let (mut tools, mut calls) = (tools(fields)?, Calls::Free);
    match kind.as_deref() {
        None | Some("auto") => {}
        Some("none") => tools.clear(),
        Some("any") => calls = Calls::Some,
        Some("tool") => {
            let name: String = choice.need("name")?;
            find(&tools, &name, &choice.path("name"))?;
            calls = Calls::Named(name);
        }
        Some(_) => return Err(choice.fault("type", "it must be auto, any, tool or none")),
    }
    let single_call = choice.flag("disable_parallel_tool_use")?;
    let conversation = Conversation { messages, tools };
    let options = Options { thinking: ask::thinking(fields, model)?, ending: ask::ending(&conversation) };
    Ok(Chat { field: "messages", conversation, options, calls, single_call })
}

fn tools(fields: &Fields) -> Result<Vec<Tool>, Fault> {
    let tool = |tool: &Fields| {
        let kind: Option<String> = tool.get("type")?;
        if let Some(kind) = kind.filter(|kind| kind != "custom") {
            return Err(not_a_function(tool.path("type"), &kind));
        }
        let function = json!({
            "name": tool.need::<String>("name")?,
            "description": tool.get::<String>("description")?.unwrap_or_default(),
            "parameters": tool.need::<Map<String, Value>>("input_schema")?,
        });
        super::fields::read(&function, &tool.path("input_schema"))
    };
    check(fields, fields.objects("tools")?.iter().map(tool).collect::<Result<_, _>>()?)
}

/// A text, or blocks of text.
fn text_of(fields: &Fields, name: &str) -> Result<String, Fault> {
    match fields.value(name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => blocks(fields, name)?.iter().map(block_text).collect(),
    }
}

fn blocks(fields: &Fields, name: &str) -> Result<Vec<Fields>, Fault> {
    match fields.value(name) {
        Some(Value::Array(_)) => fields.objects(name),
        _ => Err(fields.fault(name, "it must be a text or an array of blocks")),
    }
}

fn block_text(block: &Fields) -> Result<String, Fault> {
    let kind: String = block.need("type")?;
    match kind.as_str() {
        "text" => block.need("text"),
        _ => Err(block.fault("type", "only text is understood here")),
    }
}

/// A message of blocks can be several of ours: results of tools stand in a user's message.
fn read_message(message: &Fields, messages: &mut Vec<Message>, awaited: &mut Awaited) -> Result<(), Fault> {
    let role: String = message.need("role")?;
    let is_user = match role.as_str() {
        "user" => true,
        "assistant" => false,
        "system" => {
            messages.push(Message::System(text_of(message, "content")?));
            return Ok(());
        }
        _ => return Err(message.fault("role", "it must be user or assistant")),
    };
    if !is_user {
        awaited.end()?;
    }
    if let Some(Value::String(text)) = message.value("content") {
        awaited.end()?;
        messages.push(if is_user { Message::User(text.clone()) } else { Message::assistant(text.clone()) });
        return Ok(());
    }
    let mut said = Assistant::default();
    let mut text = String::new();
    for block in blocks(message, "content")? {
        let kind: String = block.need("type")?;
        match (kind.as_str(), is_user) {
            ("text", true) => {
                awaited.end()?;
                text += &block.need::<String>("text")?;
            }
            ("text", false) => said.content += &block.need::<String>("text")?,
            ("thinking", false) => said.reasoning.get_or_insert_default().push_str(&block.need::<String>("thinking")?),
            ("redacted_thinking", false) => {}
            ("tool_use", false) => {
                let input: Value = block.get("input")?.unwrap_or_else(|| json!({}));
                let call =
                    ToolCall { id: block.get("id")?, name: block.need("name")?, arguments: stream::json(&input) };
                awaited.call(call.id.as_deref(), block.path("id"));
                said.tool_calls.push(call);
            }
            ("tool_result", true) => {
                if !text.is_empty() {
                    messages.push(Message::User(std::mem::take(&mut text)));
                }
                let content = text_of(&block, "content")?;
                let call_id: Option<String> = block.get("tool_use_id")?;
                awaited.result(call_id.as_deref(), block.path("tool_use_id"))?;
                messages.push(Message::Tool(ToolResult { call_id, content }));
            }
            _ => return Err(block.fault("type", "only text, thinking, tool_use and tool_result are understood")),
        }
    }
    match is_user {
        true if text.is_empty() && matches!(messages.last(), Some(Message::Tool(_))) => {}
        true => {
            awaited.end()?;
            messages.push(Message::User(text));
        }
        false => messages.push(Message::Assistant(said)),
    }
    Ok(())
}

fn usage_json(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens.saturating_sub(usage.cached_tokens),
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.generated_tokens,
    })
}

fn stop_reason(end: Option<&End>) -> (Option<&'static str>, Option<&str>) {
    match end.map(|end| &end.reason) {
        None => (None, None),
        Some(Reason::Stop) => (Some("end_turn"), None),
        Some(Reason::StopString(text)) => (Some("stop_sequence"), Some(text)),
        Some(Reason::Length) => (Some("max_tokens"), None),
        Some(Reason::Calls) => (Some("tool_use"), None),
    }
}

fn thinking_block(text: &str) -> Value {
    json!({ "type": "thinking", "thinking": text, "signature": "" })
}

fn call_block(call: &Call, input: &Value) -> Value {
    json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input })
}

/// An object always: of a call that was cut it has the members that are whole, and may have none. The block says which tool
/// it was to be, as a stream's does; that it is not all of it says the reason why the message stopped.
fn input(call: &Call) -> Value {
    let arguments = if call.is_cut { whole_members(&call.arguments) } else { call.arguments.clone() };
    // What is no object was not read as a call.
    serde_json::from_str(&arguments).unwrap_or_else(|_| json!({}))
}

fn message(id: &str, name: &str, whole: &Whole) -> Value {
    let mut content: Vec<Value> = whole.reasoning.iter().map(|text| thinking_block(text)).collect();
    if !whole.content.is_empty() {
        content.push(json!({ "type": "text", "text": whole.content }));
    }
    content.extend(whole.calls.iter().map(|call| call_block(call, &input(call))));
    let (reason, sequence) = stop_reason(whole.end.as_ref());
    let usage = whole.end.as_ref().map(|end| usage_json(&end.usage));
    json!({
        "id": id, "type": "message", "role": "assistant", "model": name, "content": content, "stop_reason": reason,
        "stop_sequence": sequence, "usage": usage,
    })
}

struct Stream {
    id: String,
    name: String,
    n_prompt: usize,
    n_blocks: usize,
    /// The block that grows: text, thinking, or a call.
    open: Option<&'static str>,
    has_begun: bool,
    end: Option<End>,
}

impl Stream {
    /// Comes once it is known how much of the prompt is cached, or with the first word about one that still waits.
    fn start(&mut self, n_cached: usize) -> String {
        if std::mem::replace(&mut self.has_begun, true) {
            return String::new();
        }
        let usage = Usage { prompt_tokens: self.n_prompt, cached_tokens: n_cached, ..Usage::default() };
        let mut message = message(&self.id, &self.name, &Whole::default());
        message["usage"] = usage_json(&usage);
        event("message_start", &json!({ "type": "message_start", "message": message }))
    }

    fn open(&mut self, kind: &'static str) -> String {
        if self.open == Some(kind) {
            return String::new();
        }
        let closed = self.close();
        let block = match kind {
            "thinking" => thinking_block(""),
            _ => json!({ "type": "text", "text": "" }),
        };
        self.open = Some(kind);
        closed + &self.block_start(&block)
    }

    fn block_start(&self, block: &Value) -> String {
        let value = json!({ "type": "content_block_start", "index": self.n_blocks, "content_block": block });
        event("content_block_start", &value)
    }

    fn delta(&self, delta: &Value) -> String {
        let value = json!({ "type": "content_block_delta", "index": self.n_blocks, "delta": delta });
        event("content_block_delta", &value)
    }

    fn block_stop(&mut self) -> String {
        let value = json!({ "type": "content_block_stop", "index": self.n_blocks });
        self.n_blocks += 1;
        event("content_block_stop", &value)
    }

    fn close(&mut self) -> String {
        match self.open.take() {
            Some(_) => self.block_stop(),
            None => String::new(),
        }
    }
}

impl Wire for Stream {
    fn begin(&mut self) -> String {
        String::new()
    }

    fn said(&mut self, _: usize, said: Said) -> String {
        let start = match &said {
            Said::Prompt(progress) => self.start(progress.cached),
            _ => self.start(0),
        };
        let text = match said {
            Said::Prompt(_) => self.ping(),
            Said::Token(_) => String::new(),
            Said::Reasoning(text) => {
                self.open("thinking") + &self.delta(&json!({ "type": "thinking_delta", "thinking": text }))
            }
            Said::Content(text) => self.open("text") + &self.delta(&json!({ "type": "text_delta", "text": text })),
            Said::Call(call) => {
                let closed = self.close();
                self.open = Some("tool_use");
                closed + &self.block_start(&call_block(&call, &json!({})))
            }
            Said::Arguments(text) => self.delta(&json!({ "type": "input_json_delta", "partial_json": text })),
            Said::Called(_) | Said::NotCalled => self.close(),
            Said::End(end) => {
                self.end = Some(end);
                String::new()
            }
            Said::Failed(fault) => event("error", &fault.anthropic()),
        };
        start + &text
    }

    fn end(&mut self) -> String {
        let closed = self.close();
        let Some(end) = self.end.take() else { return closed };
        let (reason, sequence) = stop_reason(Some(&end));
        let delta = json!({
            "type": "message_delta", "delta": { "stop_reason": reason, "stop_sequence": sequence },
            "usage": usage_json(&end.usage),
        });
        closed + &event("message_delta", &delta) + &event("message_stop", &json!({ "type": "message_stop" }))
    }

    fn ping(&mut self) -> String {
        self.start(0) + &event("ping", &json!({ "type": "ping" }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Progress;

    #[test]
    fn a_message_that_waits_begins_before_its_pings() {
        let (id, name) = ("msg_1".to_owned(), "m".to_owned());
        let new = || Stream {
            id: id.clone(),
            name: name.clone(),
            n_prompt: 7,
            n_blocks: 0,
            open: None,
            has_begun: false,
            end: None,
        };
        let mut waiting = new();
        let said = waiting.ping();
        assert!(said.starts_with("event: message_start\n") && said.contains("\"input_tokens\":7,"), "{said}");
        assert!(said.contains("event: ping\n") && waiting.ping().starts_with("event: ping\n"));
        let said = new().said(0, Said::Prompt(Progress { done: 4, cached: 4, total: 7 }));
        assert!(said.contains("\"input_tokens\":3,\"cache_read_input_tokens\":4"), "{said}");
    }
}
