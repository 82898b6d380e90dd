//! The prompt format of DeepSeek-V2, V2-Lite and Coder-V2: roles are plain text.

use super::message::{Assistant, Message};
use super::prompt::{EOS, Prompt};

pub(super) fn prompt(messages: &[Message], continued: Option<&Assistant>) -> Prompt {
    let mut prompt = Prompt::begin();
    for message in messages {
        match message {
            Message::System(text) => prompt.text(&format!("{text}\n\n")),
            Message::User(text) => prompt.text(&format!("User: {text}\n\n")),
            Message::Assistant(assistant) => {
                prompt.text(&format!("Assistant: {}", assistant.content));
                prompt.control(EOS);
            }
            // `Family::prompt` refuses tools for this family.
            Message::Tool(_) => {}
        }
    }
    prompt.text("Assistant:");
    if let Some(assistant) = continued.filter(|assistant| !assistant.content.is_empty()) {
        prompt.text(&format!(" {}", assistant.content));
    }
    prompt
}

#[cfg(test)]
mod tests {
    use crate::chat::{Conversation, Ending, Family, Message, Options, TemplateError, ToolCall};

    fn text(messages: Vec<Message>, ending: Ending) -> String {
        let options = Options { ending, ..Options::default() };
        Family::V2.prompt(&Conversation::new(messages), options).unwrap().to_text()
    }

    #[test]
    fn conversations_are_exact() {
        let user = |text: &str| Message::User(text.into());
        assert_eq!(text(vec![user("u")], Ending::Answer), "<｜begin▁of▁sentence｜>User: u\n\nAssistant:");
        let turns = vec![Message::System("s".into()), user("u"), Message::assistant("a"), user("v")];
        assert_eq!(
            text(turns, Ending::Answer),
            "<｜begin▁of▁sentence｜>s\n\nUser: u\n\nAssistant: a<｜end▁of▁sentence｜>User: v\n\nAssistant:"
        );
        let systems = vec![Message::System("s".into()), Message::System("t".into()), user("u")];
        assert_eq!(text(systems, Ending::Answer), "<｜begin▁of▁sentence｜>s\n\nt\n\nUser: u\n\nAssistant:");
        let begun = vec![user("u"), Message::assistant("The")];
        assert_eq!(text(begun, Ending::Continue), "<｜begin▁of▁sentence｜>User: u\n\nAssistant: The");
    }

    #[test]
    fn tools_are_refused() {
        let mut assistant = crate::chat::Assistant::default();
        assistant.tool_calls.push(ToolCall { id: None, name: "f".into(), arguments: "{}".into() });
        let conversation = Conversation::new(vec![Message::Assistant(assistant)]);
        assert_eq!(Family::V2.prompt(&conversation, Options::default()), Err(TemplateError::NoTools(Family::V2)));
    }
}
