//! Responses: a conversation as items, and its answer as items. Nothing is kept of them.
//!
//! What is asked is here; `object` is what is answered, `events` how that comes bit by bit.

mod events;
mod object;

use super::{check_types, is_single, now, streaming, tools};
use crate::chat::{Assistant, Conversation, Message, Options, ToolCall, ToolResult};
use crate::server::answers::Answers;
use crate::server::app::App;
use crate::server::ask::{self, Ask, Asked, Calls, Chat};
use crate::server::awaited::Awaited;
use crate::server::fault::Fault;
use crate::server::fields::{Fields, objects};
use crate::server::form::form;
use crate::server::model::Model;
use crate::server::sampling::{Temperature, sampling};
use crate::server::stream;
use crate::server::unsupported::{self, refuse};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use events::Events;
use object::Head;
use serde_json::Value;
use std::sync::Arc;

pub(in crate::server) async fn answer(State(app): State<Arc<App>>, fields: Fields) -> Result<Response, Fault> {
    let model = app.model()?;
    model.check_name(&fields)?;
    let ask = read(&fields, &model)?;
    let (is_streamed, _) = streaming(&fields)?;
    let answers = Answers::begin(&app, vec![ask]).await?;
    let head = Head { id: app.id("resp_"), created: now(), model, app, said: object::said(&fields) };
    if is_streamed {
        return Ok(stream::response(answers, Events::new(head)));
    }
    let whole = answers.collect().await?.into_iter().next().unwrap_or_default();
    let items = head.items(&whole);
    Ok(Json(head.object(&items, whole.end.as_ref())).into_response())
}

fn read(fields: &Fields, model: &Model) -> Result<Ask, Fault> {
    refuse(fields, &unsupported::OPENAI)?;
    refuse(fields, &unsupported::RESPONSES)?;
    check_types(fields)?;
    fields.get::<Vec<String>>("include")?;
    let (offered, calls) = tools(fields)?;
    let mut messages: Vec<Message> = fields.get("instructions")?.into_iter().map(Message::System).collect();
    messages.extend(input(fields)?);
    let conversation = Conversation { messages, tools: offered };
    let form = form(fields, &fields.object("text")?.object("format")?)?;
    if form.is_some() && calls != Calls::Free {
        return Err(fields.fault("tool_choice", "an answer cannot be a call and have a form of its own"));
    }
    let options = Options { thinking: ask::thinking(fields, model)?, ..Options::default() };
    Ok(Ask {
        prompt: Asked::Chat(Chat { field: "input", conversation, options, calls, single_call: is_single(fields)? }),
        sampling: sampling(fields, model, Temperature::Api)?,
        bounds: ask::bounds(fields, &["max_output_tokens"], "stop", model)?,
        form,
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
    let mut awaited = Awaited::by("an item of the type 'function_call_output'");
    for item in items {
        let kind: Option<String> = item.get("type")?;
        match kind.as_deref() {
            None | Some("message") => match (message(&item)?, messages.last_mut()) {
                (message @ Message::System(_), _) => messages.push(message),
                // What was said behind a call is of the same answer as the call.
                (Message::Assistant(said), Some(Message::Assistant(last))) if !awaited.is_empty() => {
                    last.content.push_str(&said.content);
                }
                (message, _) => {
                    awaited.end()?;
                    messages.push(message);
                }
            },
            Some("function_call") => {
                let call = ToolCall {
                    id: item.get("call_id")?,
                    name: item.need("name")?,
                    arguments: item.get("arguments")?.unwrap_or_else(|| "{}".to_owned()),
                };
                let (id, path) = (call.id.clone(), item.path("call_id"));
                match messages.last_mut() {
                    Some(Message::Assistant(last)) => last.tool_calls.push(call),
                    _ => {
                        awaited.end()?;
                        let said = Assistant { tool_calls: vec![call], ..Assistant::default() };
                        messages.push(Message::Assistant(said));
                    }
                }
                awaited.call(id.as_deref(), path);
            }
            Some("function_call_output") => {
                let content = match item.value("output") {
                    Some(Value::Array(_)) => parts(&item, "output")?,
                    _ => item.get("output")?.unwrap_or_default(),
                };
                let call_id: Option<String> = item.get("call_id")?;
                awaited.result(call_id.as_deref(), item.path("call_id"))?;
                messages.push(Message::Tool(ToolResult { call_id, content }));
            }
            // What the model thought before is no part of its prompts.
            Some("reasoning") => {}
            Some(_) => {
                return Err(item.fault("type", "it must be message, function_call, function_call_output or reasoning"));
            }
        }
    }
    awaited.end()?;
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
