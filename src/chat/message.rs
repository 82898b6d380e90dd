//! Who said what: the messages of a conversation, the tools on offer, and how both are read from
//! OpenAI-like JSON.
//!
//! Owns the shape of a conversation and what makes it malformed. Knows neither HTTP nor how any
//! model family writes a message down.

use crate::text::Escaped;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Wire")]
pub enum Message {
    System(String),
    User(String),
    Assistant(Assistant),
    Tool(ToolResult),
}

/// What the model said: its reasoning, its answer, the tools it called.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assistant {
    pub reasoning: Option<String>,
    pub content: String,
    pub tool_calls: Vec<ToolCall>,
}

/// A call of a tool, as the model wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// The client's name for the call; no model family writes it into the prompt.
    pub id: Option<String>,
    pub name: String,
    /// JSON text, kept as it was written.
    pub arguments: String,
}

/// What a tool returned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolResult {
    /// The call that this answers; without one it answers the next call in order.
    pub call_id: Option<String>,
    pub content: String,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub struct Tool {
    pub name: String,
    pub description: String,
    /// A JSON schema.
    pub parameters: Value,
    /// `{"type": "function", "function": {…}}` with all fields that came, in their order.
    pub definition: Value,
}

/// Everything that a prompt is made from.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Conversation {
    pub messages: Vec<Message>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub tools: Vec<Tool>,
}

/// Why a conversation cannot be made into a prompt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("the conversation is empty: give at least one message")]
    Empty,
    #[error("unknown role '{}': use system, user, assistant or tool", Escaped(.0))]
    Role(String),
    #[error("the {role} message has no content: give a string")]
    NoContent { role: &'static str },
    #[error("a part of the content has the type '{}': only text is understood, remove the part", Escaped(.0))]
    Part(String),
    #[error("a part of the content is of the type 'text' and has no 'text'")]
    NoText,
    #[error("a {role} message cannot call tools: move tool_calls into an assistant message")]
    Calls { role: &'static str },
    #[error("the tool call has the type '{}': only 'function' is known", Escaped(.0))]
    CallType(String),
    #[error(
        "message {index} is the result of a tool, but no call awaits one: put it after the assistant message that made the call, once a call"
    )]
    OrphanResult { index: usize },
    #[error("message {index} answers the tool call '{}', which the assistant message before it did not make, or which has its answer already", Escaped(.id))]
    UnknownCall { index: usize, id: String },
    #[error("the tool definition {0}")]
    Tool(&'static str),
}

impl Message {
    pub fn assistant(content: impl Into<String>) -> Message {
        Message::Assistant(Assistant { content: content.into(), ..Assistant::default() })
    }

    pub fn role(&self) -> &'static str {
        match self {
            Message::System(_) => "system",
            Message::User(_) => "user",
            Message::Assistant(_) => "assistant",
            Message::Tool(_) => "tool",
        }
    }
}

impl Conversation {
    pub fn new(messages: Vec<Message>) -> Conversation {
        Conversation { messages, tools: Vec::new() }
    }

    /// Refuses an empty conversation, and a tool result that no call awaits.
    pub fn check(&self) -> Result<(), MessageError> {
        if self.messages.is_empty() {
            return Err(MessageError::Empty);
        }
        let mut awaited: Vec<&ToolCall> = Vec::new();
        for (index, message) in self.messages.iter().enumerate() {
            match message {
                Message::Assistant(assistant) => awaited = assistant.tool_calls.iter().collect(),
                Message::Tool(result) => {
                    let answered = find_call(&awaited, result, index)?;
                    awaited.remove(answered);
                }
                // System messages move to the front of the prompt, so they interrupt nothing.
                Message::System(_) => {}
                Message::User(_) => awaited.clear(),
            }
        }
        Ok(())
    }
}

impl Conversation {
    /// The messages, with results of tools in the order of the calls that they answer: in prompts they have no other sign
    /// of which call that is.
    pub(super) fn in_order(&self) -> Cow<'_, [Message]> {
        let mut messages = Cow::Borrowed(self.messages.as_slice());
        for (n, message) in self.messages.iter().enumerate() {
            let Message::Assistant(Assistant { tool_calls, .. }) = message else { continue };
            let behind = &self.messages[n + 1..];
            let n_results = behind.iter().take_while(|message| matches!(message, Message::Tool(_))).count();
            let place = |message: &Message| match message {
                Message::Tool(ToolResult { call_id: Some(id), .. }) => {
                    tool_calls.iter().position(|call| call.id.as_ref() == Some(id)).unwrap_or(usize::MAX)
                }
                _ => usize::MAX,
            };
            if !behind[..n_results].is_sorted_by_key(place) {
                messages.to_mut()[n + 1..][..n_results].sort_by_key(place);
            }
        }
        messages
    }
}

/// The place in `awaited` of the call that `result` answers.
fn find_call(awaited: &[&ToolCall], result: &ToolResult, index: usize) -> Result<usize, MessageError> {
    if awaited.is_empty() {
        return Err(MessageError::OrphanResult { index });
    }
    match &result.call_id {
        // Calls that the client did not name are answered in order.
        Some(id) if awaited.iter().any(|call| call.id.is_some()) => awaited
            .iter()
            .position(|call| call.id.as_ref() == Some(id))
            .ok_or_else(|| MessageError::UnknownCall { index, id: id.clone() }),
        _ => Ok(0),
    }
}

/// A message as JSON has it.
#[derive(Deserialize)]
struct Wire {
    role: String,
    #[serde(default)]
    content: Option<WireContent>,
    #[serde(default, alias = "reasoning")]
    reasoning_content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<WireCall>>,
    #[serde(default)]
    tool_call_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "it must be a text, or an array of parts")]
enum WireContent {
    Text(String),
    Parts(Vec<WirePart>),
}

#[derive(Deserialize)]
struct WirePart {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
}

#[derive(Deserialize)]
struct WireCall {
    #[serde(default)]
    id: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    function: WireFunction,
}

#[derive(Deserialize)]
struct WireFunction {
    name: String,
    #[serde(default)]
    arguments: Option<Value>,
}

impl WireContent {
    fn into_text(self) -> Result<String, MessageError> {
        match self {
            WireContent::Text(text) => Ok(text),
            WireContent::Parts(parts) => parts
                .into_iter()
                .map(|part| match part.kind.as_str() {
                    "text" => part.text.ok_or(MessageError::NoText),
                    _ => Err(MessageError::Part(part.kind)),
                })
                .collect(),
        }
    }
}

impl TryFrom<WireCall> for ToolCall {
    type Error = MessageError;

    fn try_from(call: WireCall) -> Result<ToolCall, MessageError> {
        if let Some(kind) = call.kind.filter(|kind| kind != "function") {
            return Err(MessageError::CallType(kind));
        }
        let arguments = match call.function.arguments {
            None | Some(Value::Null) => "{}".to_owned(),
            Some(Value::String(text)) => text,
            Some(value) => json_text(&value),
        };
        Ok(ToolCall { id: call.id, name: call.function.name, arguments })
    }
}

impl TryFrom<Wire> for Message {
    type Error = MessageError;

    fn try_from(wire: Wire) -> Result<Message, MessageError> {
        let calls = wire.tool_calls.unwrap_or_default();
        let content = wire.content.map(WireContent::into_text).transpose()?;
        let (role, make): (_, fn(String, Option<String>) -> Message) = match wire.role.as_str() {
            "system" | "developer" => ("system", |text, _| Message::System(text)),
            "user" => ("user", |text, _| Message::User(text)),
            "tool" => ("tool", |content, call_id| Message::Tool(ToolResult { call_id, content })),
            "assistant" => {
                let tool_calls = calls.into_iter().map(ToolCall::try_from).collect::<Result<_, _>>()?;
                let content = content.unwrap_or_default();
                return Ok(Message::Assistant(Assistant { reasoning: wire.reasoning_content, content, tool_calls }));
            }
            _ => return Err(MessageError::Role(wire.role)),
        };
        if !calls.is_empty() {
            return Err(MessageError::Calls { role });
        }
        Ok(make(content.ok_or(MessageError::NoContent { role })?, wire.tool_call_id))
    }
}

impl TryFrom<Value> for Tool {
    type Error = MessageError;

    /// Takes `{"type": "function", "function": {…}}`, and the inner object alone.
    fn try_from(definition: Value) -> Result<Tool, MessageError> {
        let function = definition.get("function").unwrap_or(&definition);
        if !function.is_object() {
            return Err(MessageError::Tool("must be an object with 'name', 'description' and 'parameters'"));
        }
        let name = function.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or(MessageError::Tool("has no 'name': give the function's name as a string"))?.to_owned();
        let description = match function.get("description") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(_) => return Err(MessageError::Tool("has a 'description' that is not a string")),
        };
        let parameters = match function.get("parameters") {
            None | Some(Value::Null) => Value::Object(serde_json::Map::new()),
            Some(schema @ Value::Object(_)) if may_be_object(schema) => schema.clone(),
            Some(Value::Object(_)) => {
                return Err(MessageError::Tool(
                    "has 'parameters' of another 'type' than 'object', which arguments are",
                ));
            }
            Some(_) => return Err(MessageError::Tool("has 'parameters' that are not a JSON schema object")),
        };
        let definition = match definition.get("function") {
            Some(_) => definition,
            None => serde_json::json!({ "type": "function", "function": definition }),
        };
        Ok(Tool { name, description, parameters, definition })
    }
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Tool>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// JSON on one line, spaced as Python's `json.dumps` does it: what the models were trained on.
pub(super) fn json_text(value: &Value) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Spaced);
    // A `Value` has string keys only and the buffer takes every byte, so neither step can fail.
    let written = value.serialize(&mut serializer).is_ok();
    String::from_utf8(bytes).ok().filter(|_| written).unwrap_or_else(|| value.to_string())
}

struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}

/// Whether a schema's type, where it has one, is that of objects, or one of several.
fn may_be_object(schema: &Value) -> bool {
    match schema.get("type") {
        Some(Value::String(ty)) => ty == "object",
        Some(Value::Array(types)) => types.iter().any(|ty| ty == "object"),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Message, String> {
        serde_json::from_value(value).map_err(|e| e.to_string())
    }

    #[test]
    fn reads_what_openai_clients_send() {
        assert_eq!(read(json!({"role": "developer", "content": "s"})), Ok(Message::System("s".into())));
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        assert_eq!(read(json!({"role": "user", "content": parts, "name": "n"})), Ok(Message::User("ab".into())));
        let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}});
        let as_object = json!({"function": {"name": "g", "arguments": {"z": [1, 2.0], "a": "é"}}});
        let message =
            json!({"role": "assistant", "content": null, "reasoning_content": "r", "tool_calls": [call, as_object]});
        let tool_calls = vec![
            ToolCall { id: Some("1".into()), name: "f".into(), arguments: "{\"a\":1}".into() },
            ToolCall { id: None, name: "g".into(), arguments: "{\"z\": [1, 2.0], \"a\": \"é\"}".into() },
        ];
        let expected = Assistant { reasoning: Some("r".into()), content: String::new(), tool_calls };
        assert_eq!(read(message), Ok(Message::Assistant(expected)));
        let result = ToolResult { call_id: Some("1".into()), content: "ok".into() };
        assert_eq!(read(json!({"role": "tool", "tool_call_id": "1", "content": "ok"})), Ok(Message::Tool(result)));
    }

    #[test]
    fn refuses_malformed_messages_with_a_remedy() {
        for (message, expected) in [
            (json!({"role": "function", "content": "x"}), "unknown role 'function': use system"),
            (json!({"role": "user"}), "the user message has no content"),
            (json!({"role": "user", "content": [{"type": "image_url"}]}), "the type 'image_url'"),
            (json!({"role": "user", "content": [{"type": "text"}]}), "has no 'text'"),
            (
                json!({"role": "user", "content": "", "tool_calls": [{"function": {"name": "f"}}]}),
                "move tool_calls into an assistant message",
            ),
            (
                json!({"role": "assistant", "tool_calls": [{"type": "custom", "function": {"name": "f"}}]}),
                "the type 'custom'",
            ),
        ] {
            let error = read(message).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn tool_results_need_a_call_that_awaits_them() {
        let call = |id: Option<&str>| ToolCall { id: id.map(Into::into), name: "f".into(), arguments: "{}".into() };
        let calls = |ids: &[Option<&str>]| {
            let tool_calls = ids.iter().map(|id| call(*id)).collect();
            Message::Assistant(Assistant { tool_calls, ..Assistant::default() })
        };
        let result =
            |id: Option<&str>| Message::Tool(ToolResult { call_id: id.map(Into::into), content: String::new() });
        let check = |messages| Conversation::new(messages).check();
        let user = || Message::User("u".into());

        assert_eq!(check(vec![]), Err(MessageError::Empty));
        assert_eq!(check(vec![user(), result(None)]), Err(MessageError::OrphanResult { index: 1 }));
        assert_eq!(check(vec![calls(&[None]), user(), result(None)]), Err(MessageError::OrphanResult { index: 2 }));
        assert_eq!(check(vec![calls(&[Some("a"), Some("b")]), result(Some("b")), result(Some("a"))]), Ok(()));
        let twice = vec![calls(&[Some("a"), Some("b")]), result(Some("a")), result(Some("a"))];
        assert_eq!(check(twice), Err(MessageError::UnknownCall { index: 2, id: "a".into() }));
        assert_eq!(check(vec![calls(&[None]), result(Some("x"))]), Ok(()));
    }

    #[test]
    fn reads_tools_wrapped_and_bare() {
        let function = json!({"name": "f", "description": "d", "parameters": {"type": "object"}});
        let bare: Tool = serde_json::from_value(function.clone()).unwrap();
        let wrapped: Tool = serde_json::from_value(json!({"type": "function", "function": function})).unwrap();
        assert_eq!(bare, wrapped);
        for bad in [
            json!("f"),
            json!({}),
            json!({"name": ""}),
            json!({"name": "f", "parameters": 1}),
            json!({"name": "f", "parameters": {"type": "string"}}),
            json!({"name": "f", "parameters": {"type": ["array", "null"]}}),
        ] {
            assert!(serde_json::from_value::<Tool>(bad.clone()).is_err(), "{bad}");
        }
        let none: Conversation = serde_json::from_value(json!({"messages": [], "tools": null})).unwrap();
        assert_eq!(none, Conversation::default());
    }
}
