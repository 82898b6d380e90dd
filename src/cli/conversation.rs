//! From an open model to the frame of its conversations.

use super::attachments::Attachments;
pub(super) use crate::asking::family;
use crate::chat::official;
use crate::chat::{Conversation, Message, Prompt};
use crate::engine::Engine;
use crate::exit::BadInput;

/// What a conversation begins with, which several commands have.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SystemOptions {
    /// What the model is told before
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Tell it what DeepSeek's own chat tells V3-0324: who it is, and the date
    #[arg(long, conflicts_with = "system")]
    official: bool,
}

impl SystemOptions {
    pub(super) fn message(&self) -> Option<Message> {
        let official = || official::system_prompt(official::today());
        self.system.clone().or_else(|| self.official.then(official)).map(Message::System)
    }
}

/// A conversation of one question.
pub(super) fn question(system: Option<Message>, attachments: &Attachments, question: &str) -> Conversation {
    let user = Message::User(attachments.frame(question));
    Conversation::new(system.into_iter().chain([user]).collect())
}

/// A prompt's tokens, by the model's vocabulary; `remedy` says what to do where it lacks one.
pub(super) fn encode(engine: &Engine, prompt: &Prompt, remedy: &str) -> Result<Vec<u32>, BadInput> {
    engine.tokenizer().encode_segments(prompt.segments()).map_err(|error| BadInput::Faulty {
        name: engine.info().path.display().to_string(),
        fault: format!("{error}, {remedy}"),
    })
}
