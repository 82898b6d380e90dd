//! The prompt format of DeepSeek-V3.1: one model that answers at once (`</think>`) or reasons
//! first (`<think>`), and tools without fences.

use super::message::{Assistant, Message, Tool};
use super::parse::Expects;
use super::prompt::{ASSISTANT, EOS, Prompt, THINK, THINK_END, USER};
use super::template::{Opening, system_text};
use super::tools::Form;

#[derive(PartialEq)]
enum After {
    User,
    Results,
    Other,
}

pub(super) fn prompt(messages: &[Message], tools: &[Tool], continued: Option<&Assistant>, thinking: bool) -> Prompt {
    let mut prompt = Prompt::begin();
    prompt.text(&system_text(messages));
    Form::Bare.definitions(&mut prompt, tools);

    let mut after = After::Other;
    for message in messages {
        after = match message {
            Message::System(_) => continue,
            Message::User(text) => {
                prompt.control(USER);
                prompt.text(text);
                After::User
            }
            Message::Assistant(assistant) => {
                if after == After::User {
                    prompt.control(ASSISTANT);
                    prompt.control(THINK_END);
                }
                prompt.model_text(answer(&assistant.content));
                Form::Bare.calls(&mut prompt, &assistant.tool_calls);
                prompt.control(EOS);
                After::Other
            }
            Message::Tool(result) => {
                Form::Bare.result(&mut prompt, &result.content, after != After::Results);
                After::Results
            }
        };
    }
    end(&mut prompt, continued, thinking, after == After::Results);
    prompt
}

/// The content without its reasoning, where a client kept both in one text.
fn answer(content: &str) -> &str {
    content.split_once(THINK_END).map_or(content, |(_, answer)| answer)
}

fn end(prompt: &mut Prompt, continued: Option<&Assistant>, thinking: bool, in_results: bool) {
    let opening = continued.map(|assistant| Opening::of(assistant, "", "", "")).unwrap_or_default();
    // The answer follows results directly, in both modes.
    if !in_results {
        prompt.control(ASSISTANT);
    }
    match (opening.reasoning, opening.answer) {
        (None, None) if in_results => prompt.expect(Expects::Either),
        (None, None) if thinking => {
            prompt.control(THINK);
            prompt.expect(Expects::Reasoning);
        }
        (Some(reasoning), None) => {
            prompt.control(THINK);
            prompt.text(&reasoning);
            prompt.expect(Expects::MoreReasoning);
        }
        (Some(reasoning), Some(answer)) => {
            prompt.control(THINK);
            prompt.text(&reasoning);
            prompt.control(THINK_END);
            prompt.text(&answer);
        }
        (None, answer) => {
            if !in_results {
                prompt.control(THINK_END);
            }
            prompt.text(&answer.unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Conversation, Ending, Family, Options, ToolCall, ToolResult};

    fn text(messages: Vec<Message>, thinking: Option<bool>, ending: Ending) -> String {
        Family::V31.prompt(&Conversation::new(messages), Options { thinking, ending }).unwrap().to_text()
    }

    fn user(text: &str) -> Message {
        Message::User(text.into())
    }

    fn assistant(reasoning: Option<&str>, content: &str) -> Message {
        let reasoning = reasoning.map(Into::into);
        Message::Assistant(Assistant { reasoning, content: content.into(), tool_calls: Vec::new() })
    }

    #[test]
    fn conversations_are_exact_in_both_modes() {
        let history = "<｜begin▁of▁sentence｜>s<｜User｜>u<｜Assistant｜></think>a<｜end▁of▁sentence｜><｜User｜>v<｜Assistant｜>";
        for answer in [assistant(None, "a"), assistant(Some("r"), "a"), assistant(None, "r</think>a")] {
            let turns = vec![Message::System("s".into()), user("u"), answer, user("v")];
            assert_eq!(text(turns.clone(), None, Ending::Answer), format!("{history}</think>"));
            assert_eq!(text(turns.clone(), Some(false), Ending::Answer), format!("{history}</think>"));
            assert_eq!(text(turns, Some(true), Ending::Answer), format!("{history}<think>"));
        }
    }

    #[test]
    fn calls_and_results_are_exact() {
        let call = |name: &str| ToolCall { id: None, name: name.into(), arguments: "{}".into() };
        let calls = Assistant { tool_calls: vec![call("f"), call("g")], content: "c".into(), reasoning: None };
        let result = |text: &str| Message::Tool(ToolResult { call_id: None, content: text.into() });
        let mut turns = vec![user("u"), Message::Assistant(calls), result("1"), result("2")];
        let expected = "<｜begin▁of▁sentence｜><｜User｜>u<｜Assistant｜></think>c<｜tool▁calls▁begin｜>\
             <｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜>\
             <｜tool▁calls▁end｜><｜end▁of▁sentence｜><｜tool▁output▁begin｜>1<｜tool▁output▁end｜>\
             <｜tool▁output▁begin｜>2<｜tool▁output▁end｜>";
        assert_eq!(text(turns.clone(), None, Ending::Answer), expected);
        turns.push(assistant(None, "a"));
        assert_eq!(text(turns.clone(), None, Ending::Continue), format!("{expected}a"));
        turns.push(user("v"));
        let more = format!("{expected}a<｜end▁of▁sentence｜><｜User｜>v<｜Assistant｜></think>");
        assert_eq!(text(turns, None, Ending::Answer), more);
    }

    #[test]
    fn answers_are_continued_where_they_stopped() {
        let begin = "<｜begin▁of▁sentence｜><｜User｜>u<｜Assistant｜>";
        for (answer, thinking, expected) in [
            (assistant(None, ""), false, "</think>"),
            (assistant(None, ""), true, "<think>"),
            (assistant(None, "a"), true, "</think>a"),
            (assistant(Some("r"), ""), false, "<think>r"),
            (assistant(Some("r"), "a"), false, "<think>r</think>a"),
        ] {
            let found = text(vec![user("u"), answer], Some(thinking), Ending::Continue);
            assert_eq!(found, format!("{begin}{expected}"));
        }
    }
}
