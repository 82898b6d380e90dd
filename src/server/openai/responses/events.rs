//! A response as it comes: events of items that begin, grow and end, each with a number.

use super::object::{Head, call_item, message_item, reasoning_item, status, text_part};
use crate::server::answers::{Call, End, Said};
use crate::server::stream::{Wire, event};
use serde_json::{Value, json};

pub(super) struct Events {
    head: Head,
    n_events: usize,
    items: Vec<Value>,
    /// The item that grows, where it is text.
    open: Option<Open>,
    /// The item that grows, where it is a call, and its id.
    call: Option<(String, Call)>,
    end: Option<End>,
    has_failed: bool,
}

struct Open {
    is_reasoning: bool,
    id: String,
    text: String,
}

impl Events {
    pub(super) fn new(head: Head) -> Events {
        Events { head, n_events: 0, items: Vec::new(), open: None, call: None, end: None, has_failed: false }
    }

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
            true => {
                (json!({ "type": "reasoning", "id": id, "status": "in_progress", "summary": [], "content": [] }), None)
            }
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
                // What is cut is its last item.
                let status = self.end.as_ref().map_or("completed", |end| status(Some(end)));
                (done + &part, message_item(&id, &text, status))
            }
        };
        out += &self.event("response.output_item.done", json!({ "output_index": at, "item": item }));
        self.items.push(item);
        out
    }

    fn call(&mut self, call: Call) -> String {
        let (closed, id) = (self.close(), self.head.app.id("fc_"));
        let value = json!({ "output_index": self.items.len(), "item": call_item(&id, &call, "in_progress") });
        self.call = Some((id, call));
        closed + &self.event("response.output_item.added", value)
    }

    fn arguments(&mut self, text: &str) -> String {
        let at = self.items.len();
        let Some((id, call)) = &mut self.call else { return String::new() };
        call.arguments.push_str(text);
        let value = json!({ "item_id": id, "output_index": at, "delta": text });
        self.event("response.function_call_arguments.delta", value)
    }

    fn end_call(&mut self, status: &str) -> String {
        let Some((id, call)) = self.call.take() else { return String::new() };
        let (at, item) = (self.items.len(), call_item(&id, &call, status));
        let done = json!({ "item_id": id, "output_index": at, "name": call.name, "arguments": call.arguments });
        let done = self.event("response.function_call_arguments.done", done);
        let ended = self.event("response.output_item.done", json!({ "output_index": at, "item": item }));
        self.items.push(item);
        done + &ended
    }
}

impl Wire for Events {
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
            Said::Call(call) => self.call(call),
            Said::Arguments(text) => self.arguments(&text),
            Said::Called(call) => self.end_call(if call.is_cut { "incomplete" } else { "completed" }),
            Said::NotCalled => self.end_call("incomplete"),
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
