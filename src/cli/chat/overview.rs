//! What `/show` shows: the chat, the prompt, the reasoning, the session.

use super::Chat;
use super::actions::bad;
use super::complete::TOPICS;
use super::terminal::aside;
use super::view::dimmed;
use crate::session::{Answer, Body, Question};
use crate::terminal::{status, visible};

/// How much of a message is shown.
#[derive(Debug, Clone, Copy)]
enum Extent {
    Whole,
    Beginning,
}

impl Extent {
    /// What is shown of a text, and whether something is not.
    fn of(self, text: &str) -> (&str, bool) {
        const LINES: usize = 10;
        const CHARS: usize = 800;
        let text = text.trim_end();
        if matches!(self, Extent::Whole) {
            return (text, false);
        }
        let by_lines = text.match_indices('\n').nth(LINES - 1).map_or(text.len(), |(at, _)| at);
        let by_chars = text.char_indices().nth(CHARS).map_or(text.len(), |(at, _)| at);
        let shown = text.get(..by_lines.min(by_chars)).unwrap_or(text);
        (shown, shown.len() < text.len())
    }
}

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
                let prompt = self.prompt_so_far(&conversation)?;
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
        self.show_turns(0, Extent::Whole)
    }

    /// Where the chat stands: the last question, and what came of it.
    pub(super) fn show_last_exchange(&self) -> anyhow::Result<()> {
        let path = self.keep.transcript().path();
        let last = path.iter().rposition(|turn| turn.question().is_some());
        self.show_turns(last.unwrap_or(path.len()), Extent::Beginning)
    }

    /// The messages from the `first` on, and the question that has no answer.
    fn show_turns(&self, first: usize, extent: Extent) -> anyhow::Result<()> {
        let transcript = self.keep.transcript();
        let path = transcript.path();
        let mut number = path.iter().take(first).filter(|turn| turn.question().is_some()).count();
        for turn in path.iter().skip(first) {
            match &turn.body {
                Body::User(question) => {
                    number += 1;
                    self.show_question(number, question, extent);
                }
                Body::Assistant(answer) => {
                    let (text, is_cut) = extent.of(&answer.content);
                    self.show_markdown(text)?;
                    if is_cut {
                        self.note("… /show chat shows all of it");
                    } else if answer.is_interrupted() {
                        self.note("stopped");
                    }
                    aside("\n");
                }
                Body::System(text) => self.note(extent.of(text).0),
                Body::Tool(result) => self.note(extent.of(&result.content).0),
            }
        }
        let unanswered = self.unanswered.and_then(|asked| transcript.turn(asked)).and_then(|turn| turn.question());
        if let Some(question) = unanswered {
            self.show_question(number + 1, question, extent);
            self.note("this question has no answer: /regen asks it again");
        }
        Ok(())
    }

    fn show_question(&self, number: usize, question: &Question, extent: Extent) {
        let (text, is_cut) = extent.of(&question.text);
        let more = if is_cut { "…" } else { "" };
        let with: Vec<String> = question.attachments.iter().map(|file| visible(&file.name).into_owned()).collect();
        let with = if with.is_empty() { String::new() } else { format!(" [{}]", with.join(", ")) };
        aside(&format!("{number}> {}{more}{}\n", visible(text), dimmed(&with, self.abilities)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_cut_at_lines_and_characters() {
        assert_eq!(Extent::Beginning.of("a\nb\n"), ("a\nb", false));
        let lines = "深\n".repeat(12);
        assert_eq!(Extent::Beginning.of(&lines), ("深\n".repeat(10).trim_end(), true));
        assert_eq!(Extent::Beginning.of(&"深".repeat(801)), ("深".repeat(800).as_str(), true));
        assert_eq!(Extent::Whole.of(&lines), (lines.trim_end(), false));
    }
}
