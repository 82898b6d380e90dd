//! Calls of tools in the history of a request, and their results: every call has one right behind it, and every result a
//! call.
//!
//! A model would read a history that lacks a result as one in which tools answer nothing. Ollama's protocol, which has no
//! ids, is not held to this.

use super::fault::Fault;
use crate::chat::Message;
use crate::text::Clipped;

/// The calls that still wait for a result, while a history is read.
pub(super) struct Awaited {
    /// What a result is called in the protocol.
    result: &'static str,
    calls: Vec<Awaiting>,
}

struct Awaiting {
    id: Option<String>,
    path: String,
}

impl Awaited {
    pub(super) fn by(result: &'static str) -> Awaited {
        Awaited { result, calls: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// A call, whose id stands at `path`.
    pub(super) fn call(&mut self, id: Option<&str>, path: String) {
        self.calls.push(Awaiting { id: id.map(str::to_owned), path });
    }

    /// A result, with the id of its call at `path`. Calls without ids are answered in order, as are results without them.
    pub(super) fn result(&mut self, id: Option<&str>, path: String) -> Result<(), Fault> {
        let has_ids = self.calls.iter().any(|call| call.id.is_some());
        let at = match id {
            Some(id) if has_ids => self.calls.iter().position(|call| call.id.as_deref() == Some(id)),
            _ => (!self.calls.is_empty()).then_some(0),
        };
        match (at, id) {
            (Some(at), _) => {
                self.calls.remove(at);
                Ok(())
            }
            (None, Some(id)) => {
                let id = Clipped(id);
                Err(Fault::field(path, format!("no call right before it has the id '{id}' and waits for a result")))
            }
            (None, None) => Err(Fault::field(path, "no call right before it waits for a result")),
        }
    }

    /// Something other than a result comes, or nothing more.
    pub(super) fn end(&self) -> Result<(), Fault> {
        let Some(Awaiting { id, path }) = self.calls.first() else { return Ok(()) };
        let id = id.as_ref().map(|id| format!(" '{}'", Clipped(id))).unwrap_or_default();
        let fault = format!("the call{id} has no result: {} for it must follow at once", self.result);
        Err(Fault::field(path, fault))
    }
}

/// Of messages that stand in the field `messages` as they are here.
pub(super) fn check(messages: &[Message]) -> Result<(), Fault> {
    let mut awaited = Awaited::by("a message of the role 'tool'");
    for (n, message) in messages.iter().enumerate() {
        match message {
            // They move to the front of the prompt, so they interrupt nothing.
            Message::System(_) => {}
            Message::User(_) => awaited.end()?,
            Message::Assistant(said) => {
                awaited.end()?;
                for (k, call) in said.tool_calls.iter().enumerate() {
                    awaited.call(call.id.as_deref(), format!("messages[{n}].tool_calls[{k}].id"));
                }
            }
            Message::Tool(result) => {
                awaited.result(result.call_id.as_deref(), format!("messages[{n}].tool_call_id"))?;
            }
        }
    }
    awaited.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Assistant, ToolCall, ToolResult};

    fn calls(ids: &[Option<&str>]) -> Message {
        let call =
            |id: &Option<&str>| ToolCall { id: id.map(Into::into), name: "f".to_owned(), arguments: "{}".to_owned() };
        Message::Assistant(Assistant { tool_calls: ids.iter().map(call).collect(), ..Assistant::default() })
    }

    fn result(id: Option<&str>) -> Message {
        Message::Tool(ToolResult { call_id: id.map(Into::into), content: String::new() })
    }

    #[test]
    fn every_call_has_a_result_and_every_result_a_call() {
        let (a, b) = (Some("a"), Some("b"));
        let user = || Message::User("u".to_owned());
        let system = || Message::System("s".to_owned());
        for messages in [
            vec![user(), Message::assistant("x"), user()],
            vec![calls(&[a, b]), result(b), system(), result(a), user()],
            vec![calls(&[a]), result(a), calls(&[a]), result(a)],
            vec![calls(&[None, None]), result(None), result(Some("x"))],
            vec![calls(&[a]), result(None)],
        ] {
            assert!(check(&messages).is_ok(), "{messages:?}");
        }
        for (messages, path, says) in [
            (vec![calls(&[a]), user()], "messages[0].tool_calls[0].id", "'a' has no result"),
            (vec![user(), calls(&[a, b]), result(a)], "messages[1].tool_calls[1].id", "'b' has no result"),
            (vec![calls(&[a]), calls(&[b]), result(b)], "messages[0].tool_calls[0].id", "'a' has no result"),
            (vec![calls(&[None]), Message::assistant("x")], "messages[0].tool_calls[0].id", "the call has no result"),
            (vec![user(), result(a)], "messages[1].tool_call_id", "'a'"),
            (vec![user(), result(None)], "messages[1].tool_call_id", "no call"),
            (vec![calls(&[a]), result(b)], "messages[1].tool_call_id", "'b'"),
            (vec![calls(&[a, b]), result(a), result(a)], "messages[2].tool_call_id", "'a'"),
        ] {
            let fault = check(&messages).unwrap_err();
            assert_eq!(fault.field.as_deref(), Some(path), "{messages:?}");
            assert!(fault.message.contains(says), "{}", fault.message);
        }
    }
}
