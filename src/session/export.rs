//! A chat for other programs and for readers: as JSON with all its branches, as Markdown with the current one.

use super::format;
use super::transcript::{Answer, Body, Finish, Question, Transcript};
use crate::chat::{Message, ToolCall};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// The chat as one object: its fields and turns as the file has them, and the current path as `messages` such as
/// clients of OpenAI's API send them, with what the model was given.
pub fn json(transcript: &Transcript) -> Value {
    let mut value = format::to_value(transcript);
    if let Value::Object(fields) = &mut value {
        let messages = transcript.conversation().messages;
        fields.insert("messages".to_owned(), messages.iter().map(message).collect());
    }
    value
}

fn message(message: &Message) -> Value {
    let mut fields = Map::new();
    let mut set = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    set("role", message.role().into());
    match message {
        Message::System(text) | Message::User(text) => {
            set("content", text.as_str().into());
        }
        Message::Assistant(assistant) => {
            set("content", assistant.content.as_str().into());
            if let Some(reasoning) = &assistant.reasoning {
                set("reasoning_content", reasoning.as_str().into());
            }
            if !assistant.tool_calls.is_empty() {
                set("tool_calls", assistant.tool_calls.iter().map(call).collect());
            }
        }
        Message::Tool(result) => {
            set("content", result.content.as_str().into());
            if let Some(id) = &result.call_id {
                set("tool_call_id", id.as_str().into());
            }
        }
    }
    Value::Object(fields)
}

fn call(call: &ToolCall) -> Value {
    let mut value = json!({ "type": "function", "function": { "name": call.name, "arguments": call.arguments } });
    if let (Some(id), Value::Object(fields)) = (&call.id, &mut value) {
        fields.insert("id".to_owned(), id.as_str().into());
    }
    value
}

/// The current path as Markdown.
pub fn markdown(transcript: &Transcript) -> String {
    let mut text = String::new();
    let title = transcript.title();
    let model = transcript.model.name.as_deref().unwrap_or(&transcript.model.path);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# {}\n", if title.is_empty() { transcript.id.as_str() } else { &title });
    let _ = writeln!(text, "Session {}, begun {}{}", transcript.id, day(transcript), with_model(model));
    if let Some(system) = &transcript.system {
        section(&mut text, "System", system);
    }
    for turn in transcript.path() {
        match &turn.body {
            Body::System(content) => section(&mut text, "System", content),
            Body::User(asked) => question(&mut text, asked),
            Body::Assistant(answered) => answer(&mut text, answered),
            Body::Tool(result) => section(&mut text, "Tool", &fenced("", &result.content)),
        }
    }
    text
}

fn day(transcript: &Transcript) -> String {
    transcript.created.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}

fn with_model(model: &str) -> String {
    if model.is_empty() { String::new() } else { format!(", with {model}") }
}

fn section(text: &mut String, role: &str, content: &str) {
    let _ = writeln!(text, "\n## {role}\n\n{}", content.trim_end());
}

fn question(text: &mut String, question: &Question) {
    section(text, "User", &question.text);
    for attachment in &question.attachments {
        let _ = writeln!(text, "\n*With the file {}:*\n\n{}", attachment.name, fenced("", &attachment.content));
    }
}

fn answer(text: &mut String, answer: &Answer) {
    text.push_str("\n## Assistant\n");
    if let Some(reasoning) = answer.reasoning.as_deref().map(str::trim).filter(|reasoning| !reasoning.is_empty()) {
        text.push('\n');
        for line in reasoning.lines() {
            text.push_str(if line.is_empty() { ">" } else { "> " });
            text.push_str(line);
            text.push('\n');
        }
    }
    if !answer.content.trim().is_empty() {
        let _ = writeln!(text, "\n{}", answer.content.trim_end());
    }
    for call in &answer.tool_calls {
        let _ = writeln!(text, "\n*Calls {}:*\n\n{}", call.name, fenced("json", &call.arguments));
    }
    let end = match answer.finish {
        Finish::EndOfAnswer | Finish::StopString => return,
        Finish::Length => "ended at the length that was asked for",
        Finish::ContextFull => "ended because the context was full",
        Finish::Failed => "failed",
        Finish::Interrupted => "interrupted",
    };
    let _ = writeln!(text, "\n*({end})*");
}

/// Text between fences that are longer than any in it.
fn fenced(language: &str, content: &str) -> String {
    let runs = content.split(|c| c != '`').map(str::len);
    let fence = "`".repeat(runs.max().unwrap_or(0).max(2) + 1);
    format!("{fence}{language}\n{}\n{fence}", content.trim_end_matches('\n'))
}

#[cfg(test)]
mod tests {
    use super::super::transcript::tests::branched;
    use super::super::transcript::{Attachment, TurnId};
    use super::*;
    use crate::chat::Conversation;

    #[test]
    fn json_has_all_turns_and_messages_that_can_be_sent() {
        let chat = branched();
        let value = json(&chat);
        assert_eq!(value["turns"].as_array().unwrap().len(), 8);
        assert_eq!(value["messages"][2]["tool_calls"][0]["function"]["name"], "look");
        let read: Conversation = serde_json::from_value(json!({ "messages": value["messages"] })).unwrap();
        assert_eq!(read, chat.conversation());
    }

    #[test]
    fn markdown_has_the_current_path() {
        let mut chat = branched();
        let text = markdown(&chat);
        let expected = "\n## System\n\nBe brief.\n\n## User\n\nWhy is the sky blue?\n\n## Assistant\n\n> Light.\n\n\
            *Calls look:*\n\n```json\n{\"at\": \"sky\"}\n```\n\n*(ended at the length that was asked for)*\n\n## Tool\n\n\
            ```\nblue\n```\n\n## Assistant\n\nIt scatters.\n\n## User\n\nAnd red?\n\n*With the file a.txt:*\n\n```\ntext\n```\n";
        assert!(text.starts_with("# Why is the sky blue?\n\nSession test, begun 20"), "{text}");
        assert!(text.ends_with(expected), "{text}");
        let attachments = vec![Attachment { name: "b.md".into(), content: "````rust\n````".into() }];
        chat.switch(TurnId::new(4)).unwrap();
        chat.push(Body::User(Question { attachments, ..Question::new("x") }));
        chat.push(Body::Assistant(Answer { content: "Cut".into(), ..Answer::default() }));
        let text = markdown(&chat);
        assert!(text.ends_with("\n`````\n````rust\n````\n`````\n\n## Assistant\n\nCut\n\n*(interrupted)*\n"), "{text}");
    }
}
