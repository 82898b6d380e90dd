//! Chat completions.

use super::{
    call_json, check_types, conversation, finish_reason, goes_on, is_single, logprobs, n_top, now, streaming, timings,
    tools, usage_json,
};
use crate::chat::Options;
use crate::engine::Scored;
use crate::server::answers::{Answers, End, Said, Whole, total};
use crate::server::app::App;
use crate::server::ask::{self, Ask, Asked, Calls, Chat};
use crate::server::awaited;
use crate::server::fault::Fault;
use crate::server::fields::{Fields, objects};
use crate::server::form::form;
use crate::server::model::Model;
use crate::server::sampling::{Temperature, sampling};
use crate::server::stream::{self, Wire, data};
use crate::server::unsupported::{self, refuse};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;

pub(in crate::server) async fn answer(State(app): State<Arc<App>>, fields: Fields) -> Result<Response, Fault> {
    let model = app.model()?;
    model.check_name(&fields)?;
    let ask = read(&fields, &model)?;
    let has_logprobs = ask.n_logprobs.is_some();
    let (is_streamed, includes_usage) = streaming(&fields)?;
    let answers = Answers::begin(&app, vec![ask]).await?;
    let head = Head { id: app.id("chatcmpl-"), created: now(), model };
    if is_streamed {
        return Ok(stream::response(answers, Stream::new(head, includes_usage, has_logprobs)));
    }
    let wholes = answers.collect().await?;
    Ok(Json(whole(&head, wholes, has_logprobs)).into_response())
}

fn read(fields: &Fields, model: &Model) -> Result<Ask, Fault> {
    refuse(fields, &unsupported::OPENAI)?;
    refuse(fields, &unsupported::CHAT)?;
    check_types(fields)?;
    let messages = objects(fields.need("messages")?, "messages")?;
    for message in &messages {
        refuse(message, &unsupported::MESSAGE)?;
        message.get::<String>("name")?;
    }
    let (offered, calls) = tools(fields)?;
    let conversation = conversation(fields, offered)?;
    awaited::check(&conversation.messages)?;
    let ending = ask::ending_by(fields, goes_on(fields, messages.last())?, &conversation)?;
    let options = Options { thinking: ask::thinking(fields, model)?, ending };
    let form = form(fields, &fields.object("response_format")?)?;
    if form.is_some() && calls != Calls::Free {
        return Err(fields.fault("tool_choice", "an answer cannot be a call and have a form of its own"));
    }
    let wants_logprobs = fields.flag("logprobs")?;
    let n_top = n_top(fields, "top_logprobs")?;
    if n_top > 0 && !wants_logprobs {
        return Err(fields.fault("top_logprobs", "it goes with 'logprobs': true alone"));
    }
    Ok(Ask {
        prompt: Asked::Chat(Chat { field: "messages", conversation, options, calls, single_call: is_single(fields)? }),
        sampling: sampling(fields, model, Temperature::Api)?,
        bounds: ask::bounds(fields, &["max_completion_tokens", "max_tokens", "n_predict"], "stop", model)?,
        form,
        n_logprobs: wants_logprobs.then_some(n_top),
        n: ask::n_answers(fields)?,
    })
}

/// What every object says.
struct Head {
    id: String,
    created: u64,
    model: Arc<Model>,
}

fn whole(head: &Head, wholes: Vec<Whole>, has_logprobs: bool) -> Value {
    let ends: Vec<End> = wholes.iter().filter_map(|whole| whole.end.clone()).collect();
    let usage = total(&ends, ends.len());
    let choice = |(index, whole): (usize, Whole)| {
        let content = if whole.content.is_empty() && !whole.calls.is_empty() { None } else { Some(whole.content) };
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if let Some(reasoning) = whole.reasoning {
            message["reasoning_content"] = reasoning.into();
        }
        if !whole.calls.is_empty() {
            message["tool_calls"] = whole.calls.iter().map(call_json).collect();
        }
        let logprobs = if has_logprobs { logprobs(&head.model, &whole.tokens) } else { Value::Null };
        let reason = whole.end.as_ref().map(|end| finish_reason(&end.reason));
        json!({ "index": index, "message": message, "logprobs": logprobs, "finish_reason": reason })
    };
    json!({
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model.name(),
        "choices": wholes.into_iter().enumerate().map(choice).collect::<Vec<_>>(),
        "usage": usage_json(&usage),
        "timings": timings(&usage),
    })
}

struct Stream {
    head: Head,
    includes_usage: bool,
    has_logprobs: bool,
    /// Tokens whose text has not come yet, of each answer.
    tokens: Vec<Vec<Scored>>,
    n_calls: Vec<usize>,
    has_begun: Vec<bool>,
    ends: Vec<End>,
}

impl Stream {
    fn new(head: Head, includes_usage: bool, has_logprobs: bool) -> Stream {
        let (tokens, n_calls, has_begun, ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Stream { head, includes_usage, has_logprobs, tokens, n_calls, has_begun, ends }
    }

    fn chunk(&self, choices: Value) -> Value {
        let mut chunk = json!({
            "id": self.head.id,
            "object": "chat.completion.chunk",
            "created": self.head.created,
            "model": self.head.model.name(),
            "choices": choices,
        });
        if self.includes_usage {
            // The last one has it.
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn delta(&mut self, index: usize, delta: &Value, reason: Option<&str>) -> String {
        let tokens = self.tokens.get_mut(index).map(std::mem::take).unwrap_or_default();
        let logprobs = match self.has_logprobs && !tokens.is_empty() {
            true => logprobs(&self.head.model, &tokens),
            false => Value::Null,
        };
        let choice = json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason });
        data(&self.chunk(json!([choice])))
    }

    /// The first chunk of an answer says whose it is.
    fn opening(&mut self, index: usize) -> String {
        while self.has_begun.len() <= index {
            self.has_begun.push(false);
            self.tokens.push(Vec::new());
            self.n_calls.push(0);
        }
        match self.has_begun.get_mut(index).map(|begun| std::mem::replace(begun, true)) {
            Some(true) => String::new(),
            _ => {
                let choice = json!({
                    "index": index, "delta": { "role": "assistant", "content": "" }, "logprobs": null,
                    "finish_reason": null,
                });
                data(&self.chunk(json!([choice])))
            }
        }
    }
}

impl Wire for Stream {
    fn begin(&mut self) -> String {
        self.opening(0)
    }

    fn said(&mut self, index: usize, said: Said) -> String {
        let opening = self.opening(index);
        let text = match said {
            Said::Prompt(progress) => {
                return format!("{opening}: prompt {} of {} tokens\n\n", progress.done, progress.total);
            }
            Said::Token(scored) => {
                if let Some(tokens) = self.tokens.get_mut(index) {
                    tokens.push(scored);
                }
                return opening;
            }
            Said::Reasoning(text) => self.delta(index, &json!({ "reasoning_content": text }), None),
            Said::Content(text) => self.delta(index, &json!({ "content": text }), None),
            Said::Call(call) => {
                let mut value = call_json(&call);
                let number = self.n_calls.get_mut(index).map_or(0, |n| std::mem::replace(n, *n + 1));
                value["index"] = number.into();
                self.delta(index, &json!({ "tool_calls": [value] }), None)
            }
            Said::Arguments(text) => {
                let number = self.n_calls.get(index).map_or(0, |n| n.saturating_sub(1));
                let value = json!({ "index": number, "function": { "arguments": text } });
                self.delta(index, &json!({ "tool_calls": [value] }), None)
            }
            // It ends where something else begins.
            Said::Called(_) | Said::NotCalled => String::new(),
            Said::End(end) => {
                let text = self.delta(index, &json!({}), Some(finish_reason(&end.reason)));
                self.ends.push(end);
                text
            }
            Said::Failed(fault) => data(&fault.openai()),
        };
        opening + &text
    }

    fn end(&mut self) -> String {
        let usage = total(&self.ends, self.ends.len());
        let mut last = self.chunk(json!([]));
        last["usage"] = usage_json(&usage);
        last["timings"] = timings(&usage);
        let usage = if self.includes_usage { data(&last) } else { String::new() };
        usage + "data: [DONE]\n\n"
    }
}
