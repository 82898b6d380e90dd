//! The branches of a chat: answering anew, asking anew, going back, going to another one.

use super::Chat;
use super::actions::{bad, number};
use super::terminal::aside;
use crate::exit::BadInput;
use crate::session::{Question, TurnId};
use crate::terminal::visible;
use crate::text::Clipped;

impl Chat {
    pub(super) fn regenerate(&mut self) -> anyhow::Result<()> {
        let asked = match self.unanswered {
            Some(asked) => {
                self.keep.transcript_mut().fork(asked)?;
                Some(asked)
            }
            None => self.keep.transcript_mut().retry(),
        };
        match asked {
            Some(asked) => self.answer(asked),
            None => Err(bad("there is no question yet").into()),
        }
    }

    pub(super) fn edit(&mut self, argument: &str) -> anyhow::Result<()> {
        if argument.is_empty() {
            let text = self.editor.write("").map_err(BadInput::Argument)?;
            let text = text.trim();
            if text.is_empty() {
                self.note("nothing was written");
                return Ok(());
            }
            aside(&format!("{}{}\n", super::PROMPT, visible(text)));
            let question = self.pending.question(text.to_owned());
            return self.ask(question);
        }
        let number = number(argument)?;
        let turn = self.keep.transcript().question(number)?;
        let question = self.keep.transcript().turn(turn).and_then(|turn| turn.question()).cloned();
        self.editing = question.map(|question| (number, question));
        Ok(())
    }

    /// Asks question `number` as it is now written, with the files that went with it.
    pub(super) fn ask_edited(&mut self, number: usize, old: Question, text: String) -> anyhow::Result<()> {
        // The frame of search results has the old question in it; only files can be framed again.
        let question = self.pending.question_with(old.attachments, text);
        if let (Some(_), Some(_)) = (&old.framed, &question.framed) {
            self.note("the search results are those given now");
        } else if old.framed.is_some() {
            self.note("without the search results that it had; /search gives them again");
        }
        let asked = self.keep.transcript_mut().edit(number, question)?;
        self.answer(asked)
    }

    pub(super) fn undo(&mut self) -> anyhow::Result<()> {
        let undone = self.keep.transcript_mut().undo().ok_or_else(|| bad("there is nothing to undo"))?;
        self.unanswered = None;
        let question = self.keep.transcript().turn(undone).and_then(|turn| turn.question());
        let text = question.map(|question| Clipped(question.text.trim()).to_string()).unwrap_or_default();
        self.keep.save();
        self.note(&format!("back to before: {text}"));
        Ok(())
    }

    pub(super) fn fork(&mut self, argument: &str) -> anyhow::Result<()> {
        if argument.is_empty() {
            return Err(bad("the question to go on behind: /fork 2").into());
        }
        let number = number(argument)?;
        let transcript = self.keep.transcript();
        let first = transcript.question(number)?;
        let next = transcript.question(number + 1).ok();
        let path: Vec<TurnId> = transcript.path().iter().map(|turn| turn.id).collect();
        let end = next.and_then(|next| path.iter().position(|id| *id == next)).unwrap_or(path.len());
        let at = path.get(..end).and_then(<[TurnId]>::last).copied().unwrap_or(first);
        self.keep.transcript_mut().fork(at)?;
        self.unanswered = None;
        self.keep.save();
        self.note(&format!("the next question makes a branch behind question {number}; /branches lists them"));
        Ok(())
    }

    pub(super) fn branches(&mut self, argument: &str) -> anyhow::Result<()> {
        let branches = self.keep.transcript().branches();
        if argument.is_empty() {
            if branches.is_empty() {
                self.note("nothing was said yet");
            }
            for (number, branch) in (1..).zip(&branches) {
                let mark = if branch.is_current { '*' } else { ' ' };
                let last = branch.last_question.as_deref().unwrap_or_default();
                let messages = if branch.n_turns == 1 { "message" } else { "messages" };
                aside(&format!("{mark} {number}  {} {messages}, last: {}\n", branch.n_turns, Clipped(last)));
            }
            return Ok(());
        }
        let number = number(argument)?;
        let chosen = number.checked_sub(1).and_then(|at| branches.get(at));
        let leaf = chosen.ok_or_else(|| bad(&format!("there is no branch {number}; /branches lists them")))?.leaf;
        self.keep.transcript_mut().switch(leaf)?;
        self.unanswered = None;
        self.keep.save();
        self.note(&format!("in branch {number}; /show chat shows it"));
        Ok(())
    }
}
