//! What `/show` shows: the chat, the prompt, the reasoning, the session.

use super::Chat;
use super::actions::bad;
use super::complete::TOPICS;
use super::terminal::aside;
use super::view::dimmed;
use crate::session::{Answer, Body};
use crate::terminal::{status, visible};

impl Chat {
    pub(super) fn show(&mut self, topic: &str) -> anyhow::Result<()> {
        match topic {
            "" | "settings" => aside(&self.settings.show()),
            "reasoning" => match self.last_reasoning() {
                Some(reasoning) => self.show_markdown(&reasoning)?,
                None => self.note("the last answer has no reasoning"),
            },
            "chat" => self.show_chat()?,
            "prompt" => {
                let conversation = self.conversation();
                if conversation.messages.is_empty() {
                    self.note("nothing was said yet");
                    return Ok(());
                }
                let prompt = self.prompt(&conversation)?;
                let n_tokens = self.encode(&prompt)?.len();
                aside(&format!("{}\n", visible(&prompt.to_text())));
                self.note(&status::tokens(n_tokens));
            }
            "session" => self.show_session(),
            "files" => self.show_files(),
            _ => return Err(bad(&format!("/show knows {}", TOPICS.join(", "))).into()),
        }
        Ok(())
    }

    fn show_chat(&self) -> anyhow::Result<()> {
        let mut number = 0;
        for turn in self.keep.transcript().path() {
            match &turn.body {
                Body::User(question) => {
                    number += 1;
                    let with = question.attachments.iter().map(|file| visible(&file.name).into_owned());
                    let with: Vec<String> = with.collect();
                    let with = if with.is_empty() { String::new() } else { format!(" [{}]", with.join(", ")) };
                    aside(&format!("{number}> {}{}\n", visible(&question.text), dimmed(&with, self.abilities)));
                }
                Body::Assistant(answer) => {
                    self.show_markdown(&answer.content)?;
                    if answer.is_interrupted() {
                        self.note("stopped");
                    }
                    aside("\n");
                }
                Body::System(text) => self.note(text),
                Body::Tool(result) => self.note(&result.content),
            }
        }
        Ok(())
    }

    fn show_session(&self) {
        let transcript = self.keep.transcript();
        let kept = match self.keep.path() {
            Some(path) if !transcript.is_empty() => path.display().to_string(),
            Some(_) => "kept once something is said".to_owned(),
            None => "not kept (--no-history); /save keeps it".to_owned(),
        };
        let title = transcript.title();
        let rows = [
            ("session", transcript.id.to_string()),
            ("title", title),
            ("model", transcript.model.path.clone()),
            ("file", kept),
        ];
        for (key, value) in rows {
            aside(&format!("  {key:9}{}\n", visible(&value)));
        }
    }

    pub(super) fn last_answer(&self) -> Option<&Answer> {
        self.keep.transcript().path().into_iter().rev().find_map(|turn| match &turn.body {
            Body::Assistant(answer) => Some(answer),
            _ => None,
        })
    }

    fn last_reasoning(&self) -> Option<String> {
        self.last_answer().and_then(|answer| answer.reasoning.clone())
    }
}
