//! A conversation to a prompt, in the way of a family.
//!
//! Owns what all families share: the choice of the file that writes, what is refused before
//! anything is written, and how an answer is split into reasoning and content.

use super::family::{Family, Thinking};
use super::message::{Assistant, Conversation, Message, MessageError};
use super::prompt::{Prompt, THINK, THINK_END};
use super::{base, r1, v2, v3, v31};
use std::borrow::Cow;

/// What the prompt is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether the model reasons first; `None` leaves it to the family: R1 does, V3.1 does not.
    pub thinking: Option<bool>,
    pub ending: Ending,
}

/// How a prompt ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ending {
    /// The model answers.
    #[default]
    Answer,
    /// The model goes on with the last message, which must be the assistant's.
    Continue,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("{} models have no form for tools: leave out tools, tool calls and tool results", .0.models())]
    NoTools(Family),
    #[error("{} does not reason: leave 'thinking' out", .0.models())]
    NeverThinks(Family),
    #[error("{} always reasons: 'thinking' cannot be switched off", .0.models())]
    AlwaysThinks(Family),
    #[error("only an assistant message can be continued, but the last message is a {0} message")]
    NotAssistant(&'static str),
    #[error("an assistant message that calls tools is complete and cannot be continued: send the results of the tools")]
    CompleteCalls,
    #[error(
        "a base model continues text and knows no roles: give one user message, and at most an assistant message to continue"
    )]
    Base,
}

impl Family {
    /// Writes the conversation as this family's models were trained to read it.
    pub fn prompt(self, conversation: &Conversation, options: Options) -> Result<Prompt, TemplateError> {
        self.check(conversation, options)?;
        let (messages, tools) = (conversation.in_order(), &conversation.tools);
        let (messages, continued) = match (options.ending, messages.split_last()) {
            (Ending::Continue, Some((Message::Assistant(last), rest))) => (rest, Some(last)),
            _ => (&*messages, None),
        };
        Ok(match self {
            Family::V2 => v2::prompt(messages, continued),
            Family::V3 => v3::prompt(messages, tools, continued),
            Family::R1 => r1::prompt(messages, tools, continued),
            Family::V31 => v31::prompt(messages, tools, continued, options.thinking == Some(true)),
            Family::Base => base::prompt(messages, continued).ok_or(TemplateError::Base)?,
        })
    }

    fn check(self, conversation: &Conversation, options: Options) -> Result<(), TemplateError> {
        conversation.check()?;
        let uses_tools = !conversation.tools.is_empty()
            || conversation.messages.iter().any(|message| match message {
                Message::Assistant(assistant) => !assistant.tool_calls.is_empty(),
                Message::Tool(_) => true,
                Message::System(_) | Message::User(_) => false,
            });
        if uses_tools && !self.has_tools() {
            return Err(TemplateError::NoTools(self));
        }
        match (self.thinking(), options.thinking) {
            (Thinking::Never, Some(true)) => return Err(TemplateError::NeverThinks(self)),
            (Thinking::Always, Some(false)) => return Err(TemplateError::AlwaysThinks(self)),
            _ => {}
        }
        match (options.ending, conversation.messages.last()) {
            (Ending::Continue, Some(Message::Assistant(last))) if !last.tool_calls.is_empty() => {
                Err(TemplateError::CompleteCalls)
            }
            (Ending::Answer, _) | (_, Some(Message::Assistant(_)) | None) => Ok(()),
            (Ending::Continue, Some(other)) => Err(TemplateError::NotAssistant(other.role())),
        }
    }
}

/// All system messages, as the one text that stands before the turns.
pub(super) fn system_text(messages: &[Message]) -> String {
    let texts: Vec<&str> = messages
        .iter()
        .filter_map(|message| match message {
            Message::System(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    texts.join("\n\n")
}

/// What a reasoning model's answer said before it is continued.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Opening<'a> {
    /// Between the tags, with the line breaks that belong there.
    pub(super) reasoning: Option<Cow<'a, str>>,
    /// After `</think>`; `None` while the reasoning goes on.
    pub(super) answer: Option<Cow<'a, str>>,
}

impl<'a> Opening<'a> {
    /// Reasoning comes in its own field or, where a client keeps the model's raw text, at the start
    /// of the content between tags. Text in the field stands between line breaks in some families:
    /// `before` the reasoning, `after` it, and `before_answer`.
    pub(super) fn of(assistant: &'a Assistant, before: &str, after: &str, before_answer: &str) -> Opening<'a> {
        let content = assistant.content.as_str();
        if let Some(reasoning) = assistant.reasoning.as_deref() {
            return match content {
                "" => Opening { reasoning: Some(format!("{before}{reasoning}").into()), answer: None },
                _ => Opening {
                    reasoning: Some(format!("{before}{reasoning}{after}").into()),
                    answer: Some(format!("{before_answer}{content}").into()),
                },
            };
        }
        let Some(inner) = content.strip_prefix(THINK) else {
            return Opening { reasoning: None, answer: Some(content.into()).filter(|_| !content.is_empty()) };
        };
        match inner.split_once(THINK_END) {
            Some((reasoning, answer)) => Opening { reasoning: Some(reasoning.into()), answer: Some(answer.into()) },
            None => Opening { reasoning: Some(inner.into()), answer: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_a_family_cannot_say() {
        let conversation = |messages| Conversation::new(messages);
        let user = || Message::User("u".into());
        let think = |thinking| Options { thinking: Some(thinking), ..Options::default() };
        let go_on = Options { ending: Ending::Continue, ..Options::default() };
        let prompt = |family: Family, messages, options| family.prompt(&conversation(messages), options).unwrap_err();

        assert_eq!(prompt(Family::V3, vec![], Options::default()), MessageError::Empty.into());
        assert_eq!(prompt(Family::V3, vec![user()], think(true)), TemplateError::NeverThinks(Family::V3));
        assert_eq!(prompt(Family::R1, vec![user()], think(false)), TemplateError::AlwaysThinks(Family::R1));
        assert_eq!(prompt(Family::V3, vec![user()], go_on), TemplateError::NotAssistant("user"));
        let call = super::super::ToolCall { id: None, name: "f".into(), arguments: "{}".into() };
        let calls = Message::Assistant(Assistant { tool_calls: vec![call], ..Assistant::default() });
        assert_eq!(prompt(Family::V3, vec![user(), calls], go_on), TemplateError::CompleteCalls);
    }
}
