//! The prompt format of DeepSeek-R1: V3's, with `<think>` before each new answer and no reasoning
//! in the history.

use super::message::{Assistant, Message, Tool};
use super::parse::Expects;
use super::prompt::{ASSISTANT, EOS, Prompt, THINK, THINK_END, USER};
use super::template::{Opening, system_text};
use super::tools::Form;

pub(super) fn prompt(messages: &[Message], tools: &[Tool], continued: Option<&Assistant>) -> Prompt {
    let mut prompt = Prompt::begin();
    prompt.text(&system_text(messages));
    Form::Fenced.definitions(&mut prompt, tools);

    let mut in_results = false;
    for message in messages {
        if in_results && !matches!(message, Message::Tool(_) | Message::System(_)) {
            Form::Fenced.end_results(&mut prompt);
        }
        in_results = match message {
            Message::System(_) => continue,
            Message::User(text) => {
                prompt.control(USER);
                prompt.text(text);
                false
            }
            Message::Assistant(assistant) => {
                if !in_results {
                    prompt.control(ASSISTANT);
                }
                prompt.model_text(answer(&assistant.content));
                Form::Fenced.calls(&mut prompt, &assistant.tool_calls);
                prompt.control(EOS);
                false
            }
            Message::Tool(result) => {
                Form::Fenced.result(&mut prompt, &result.content, !in_results);
                true
            }
        };
    }
    match in_results {
        true => Form::Fenced.end_results(&mut prompt),
        false => prompt.control(ASSISTANT),
    }
    end(&mut prompt, continued, in_results);
    prompt
}

/// The content without its reasoning, where a client kept both in one text.
fn answer(content: &str) -> &str {
    content.rsplit_once(THINK_END).map_or(content, |(_, answer)| answer)
}

fn end(prompt: &mut Prompt, continued: Option<&Assistant>, in_results: bool) {
    let opening = continued.map(|assistant| Opening::of(assistant, "\n", "\n", "\n\n")).unwrap_or_default();
    match (opening.reasoning, opening.answer) {
        // After results the template leaves it to the model whether it reasons again.
        (None, None) if in_results => prompt.expect(Expects::Either),
        (None, None) => {
            prompt.control(THINK);
            prompt.text("\n");
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
        (None, Some(answer)) => prompt.text(&answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Conversation, Ending, Event, Family, Options, Piece, ToolCall, ToolResult};

    fn text(messages: Vec<Message>, ending: Ending) -> String {
        let options = Options { ending, ..Options::default() };
        Family::R1.prompt(&Conversation::new(messages), options).unwrap().to_text()
    }

    fn user(text: &str) -> Message {
        Message::User(text.into())
    }

    fn assistant(reasoning: Option<&str>, content: &str) -> Message {
        let reasoning = reasoning.map(Into::into);
        Message::Assistant(Assistant { reasoning, content: content.into(), tool_calls: Vec::new() })
    }

    #[test]
    fn history_has_no_reasoning() {
        let expected = "<｜begin▁of▁sentence｜>s<｜User｜>u<｜Assistant｜>a<｜end▁of▁sentence｜><｜User｜>v<｜Assistant｜><think>\n";
        for answer in [assistant(None, "a"), assistant(Some("r"), "a"), assistant(None, "<think>\nr</think>a")] {
            let turns = vec![Message::System("s".into()), user("u"), answer, user("v")];
            assert_eq!(text(turns, Ending::Answer), expected);
        }
    }

    #[test]
    fn results_are_answered_without_a_role() {
        let tool_calls = vec![ToolCall { id: None, name: "f".into(), arguments: "{}".into() }];
        let calls = Message::Assistant(Assistant { tool_calls, ..Assistant::default() });
        let result = Message::Tool(ToolResult { call_id: None, content: "1".into() });
        assert_eq!(
            text(vec![user("u"), calls, result], Ending::Answer),
            "<｜begin▁of▁sentence｜><｜User｜>u<｜Assistant｜><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n\
             ```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜><｜tool▁outputs▁begin｜>\
             <｜tool▁output▁begin｜>1<｜tool▁output▁end｜><｜tool▁outputs▁end｜>"
        );
    }

    #[test]
    fn answers_are_continued_where_they_stopped() {
        let begin = "<｜begin▁of▁sentence｜><｜User｜>u<｜Assistant｜>";
        for (answer, expected) in [
            (assistant(None, ""), "<think>\n"),
            (assistant(Some("r"), ""), "<think>\nr"),
            (assistant(Some("r"), "a"), "<think>\nr\n</think>\n\na"),
            (assistant(None, "<think>\nr"), "<think>\nr"),
            (assistant(None, "<think>r</think>a</think>"), "<think>r</think>a</think>"),
            (assistant(None, "a"), "a"),
        ] {
            assert_eq!(text(vec![user("u"), answer], Ending::Continue), format!("{begin}{expected}"));
        }
    }

    #[test]
    fn the_prompt_says_how_to_read_the_answer() {
        let first = |messages, ending| {
            let options = Options { ending, ..Options::default() };
            let prompt = Family::R1.prompt(&Conversation::new(messages), options).unwrap();
            prompt.parser().push(Piece::Text("x"))
        };
        assert_eq!(first(vec![user("u")], Ending::Answer), [Event::Reasoning("x".into())]);
        assert_eq!(first(vec![user("u"), assistant(Some("r"), "")], Ending::Continue), [Event::Reasoning("x".into())]);
        assert_eq!(first(vec![user("u"), assistant(Some("r"), "a")], Ending::Continue), [Event::Content("x".into())]);
    }
}
