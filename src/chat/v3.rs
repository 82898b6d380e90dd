//! The prompt format of DeepSeek-V2.5, V3 and V3-0324, as V3-0324's own template writes it.
//!
//! `<｜Assistant｜>` belongs to the user's turn: it follows each user message, and nothing else but
//! the end of a conversation that does not end with the user. Results of tools that no answer
//! follows are closed before the user speaks again; the published template forgets to.

use super::message::{Assistant, Message, Tool};
use super::prompt::{ASSISTANT, EOS, Prompt, USER};
use super::template::system_text;
use super::tools::Form;

#[derive(PartialEq)]
enum After {
    User,
    Results,
    Other,
}

pub(super) fn prompt(messages: &[Message], tools: &[Tool], continued: Option<&Assistant>) -> Prompt {
    let mut prompt = Prompt::begin();
    prompt.text(&system_text(messages));
    Form::Fenced.definitions(&mut prompt, tools);

    let mut after = After::Other;
    for message in messages {
        if after == After::Results && !matches!(message, Message::Tool(_) | Message::System(_)) {
            Form::Fenced.end_results(&mut prompt);
        }
        after = match message {
            Message::System(_) => continue,
            Message::User(text) => {
                prompt.control(USER);
                prompt.text(text);
                prompt.control(ASSISTANT);
                After::User
            }
            Message::Assistant(assistant) => {
                prompt.text(&assistant.content);
                Form::Fenced.calls(&mut prompt, &assistant.tool_calls);
                prompt.control(EOS);
                After::Other
            }
            Message::Tool(result) => {
                Form::Fenced.result(&mut prompt, &result.content, after != After::Results);
                After::Results
            }
        };
    }
    match after {
        After::User => {}
        After::Results => Form::Fenced.end_results(&mut prompt),
        After::Other => prompt.control(ASSISTANT),
    }
    if let Some(assistant) = continued {
        prompt.text(&assistant.content);
    }
    prompt
}

#[cfg(test)]
mod tests {
    use crate::chat::{Assistant, Conversation, Ending, Family, Message, Options, ToolCall, ToolResult};

    fn text(messages: Vec<Message>, ending: Ending) -> String {
        let options = Options { ending, ..Options::default() };
        Family::V3.prompt(&Conversation::new(messages), options).unwrap().to_text()
    }

    fn user(text: &str) -> Message {
        Message::User(text.into())
    }

    fn calls(content: &str, names: &[&str]) -> Message {
        let call = |name: &&str| ToolCall { id: None, name: (*name).into(), arguments: "{\"a\": 1}".into() };
        let tool_calls = names.iter().map(call).collect();
        Message::Assistant(Assistant { reasoning: None, content: content.into(), tool_calls })
    }

    fn result(content: &str) -> Message {
        Message::Tool(ToolResult { call_id: None, content: content.into() })
    }

    #[test]
    fn conversations_are_exact() {
        assert_eq!(text(vec![user("u")], Ending::Answer), "<｜begin▁of▁sentence｜><｜User｜>u<｜Assistant｜>");
        let turns = vec![Message::System("s".into()), user("u"), Message::assistant("a"), user("v")];
        assert_eq!(
            text(turns.clone(), Ending::Answer),
            "<｜begin▁of▁sentence｜>s<｜User｜>u<｜Assistant｜>a<｜end▁of▁sentence｜><｜User｜>v<｜Assistant｜>"
        );
        let late = vec![Message::System("s".into()), user("u"), Message::System("t".into())];
        assert_eq!(text(late, Ending::Answer), "<｜begin▁of▁sentence｜>s\n\nt<｜User｜>u<｜Assistant｜>");
        assert_eq!(
            text(vec![user("u"), user("v")], Ending::Answer),
            "<｜begin▁of▁sentence｜><｜User｜>u<｜Assistant｜><｜User｜>v<｜Assistant｜>"
        );
        let answered = vec![user("u"), Message::assistant("a")];
        assert_eq!(
            text(answered.clone(), Ending::Answer),
            "<｜begin▁of▁sentence｜><｜User｜>u<｜Assistant｜>a<｜end▁of▁sentence｜><｜Assistant｜>"
        );
        assert_eq!(text(answered, Ending::Continue), "<｜begin▁of▁sentence｜><｜User｜>u<｜Assistant｜>a");
        assert_eq!(text(vec![Message::System("s".into())], Ending::Answer), "<｜begin▁of▁sentence｜>s<｜Assistant｜>");
    }

    #[test]
    fn calls_and_results_are_exact() {
        let asked = vec![user("u"), calls("", &["f", "g"]), result("1"), result("2")];
        let expected = "<｜begin▁of▁sentence｜><｜User｜>u<｜Assistant｜>\
             <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": 1}\n```<｜tool▁call▁end｜>\n\
             <｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{\"a\": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>\
             <｜end▁of▁sentence｜><｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>1<｜tool▁output▁end｜>\n\
             <｜tool▁output▁begin｜>2<｜tool▁output▁end｜><｜tool▁outputs▁end｜>";
        assert_eq!(text(asked.clone(), Ending::Answer), expected);

        let mut answered = asked;
        answered.extend([Message::assistant("a"), user("v")]);
        let more = format!("{expected}a<｜end▁of▁sentence｜><｜User｜>v<｜Assistant｜>");
        assert_eq!(text(answered, Ending::Answer), more);
    }

    #[test]
    fn results_are_closed_and_opened_again() {
        let turns = vec![calls("c", &["f"]), result("1"), calls("", &["g"]), result("2"), user("u")];
        let text = text(turns, Ending::Answer);
        let end = "c<｜tool▁calls▁begin｜>";
        assert!(text.starts_with(&format!("<｜begin▁of▁sentence｜>{end}")), "{text}");
        assert_eq!(text.matches("<｜tool▁outputs▁begin｜>").count(), 2, "{text}");
        assert!(text.contains("1<｜tool▁output▁end｜><｜tool▁outputs▁end｜><｜tool▁calls▁begin｜>"), "{text}");
        assert!(text.ends_with("2<｜tool▁output▁end｜><｜tool▁outputs▁end｜><｜User｜>u<｜Assistant｜>"), "{text}");
    }
}
