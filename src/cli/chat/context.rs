//! A context that is full: said before it happens, and what can be done about it is the user's choice.
//!
//! Nothing is dropped silently, and what is dropped stays in the chat as another branch.

use super::Chat;
use super::terminal::{Unechoed, aside};
use super::turn::{Pace, next};
use super::view::Status;
use crate::chat::{self, Conversation, Family, Message};
use crate::engine::{Event, Piece, Request};
use crate::exit::BadInput;
use crate::session::{Body, Transcript, TurnId};
use crate::terminal::status;
use std::sync::mpsc;

const SUMMARISE: &str = "Summarise our conversation so far, for yourself: what I want, what we found out, what was \
     decided, names, numbers and code that will be needed again. Write the summary only.";

const HEAD: &str = "Summary of the conversation so far:";

/// What the user wants.
enum Choice {
    Drop,
    Summarise,
    /// The chat stays as it is, and may be left.
    Nothing,
}

impl Chat {
    /// Whether a prompt leaves room for an answer worth the name.
    pub(super) fn has_room(&self, n_prompt: usize) -> anyhow::Result<bool> {
        let n_ctx = self.engine()?.info().n_ctx;
        Ok(n_prompt + (n_ctx / 16).clamp(1, 256) <= n_ctx)
    }

    /// The question does not fit any more.
    pub(super) fn no_room(&mut self, n_prompt: usize, asked: TurnId) -> anyhow::Result<()> {
        let n_ctx = self.engine()?.info().n_ctx;
        self.note(&format!(
            "the chat has {}, the context {}: what is left is too little for an answer",
            status::tokens(n_prompt),
            status::count(n_ctx)
        ));
        if self.n_exchanges() < 2 {
            self.take_back(asked);
            let text = "the question alone is too long: shorten it, or set a larger context with -c".to_owned();
            return Err(BadInput::Argument(text).into());
        }
        let question = self.keep.transcript().turn(asked).map(|turn| turn.body.clone());
        match self.choose() {
            Choice::Nothing => {
                self.take_back(asked);
                if !self.has_left {
                    self.note("the question is taken back; /regen asks it again, once there is room");
                }
                Ok(())
            }
            Choice::Drop => {
                let asked = self.drop_oldest()?.unwrap_or(asked);
                self.answer(asked)
            }
            Choice::Summarise => {
                self.keep.transcript_mut().undo();
                self.summarise()?;
                match question {
                    Some(body) => {
                        let asked = self.keep.transcript_mut().push(body);
                        self.answer(asked)
                    }
                    None => Ok(()),
                }
            }
        }
    }

    /// The context was full in the midst of an answer.
    pub(super) fn cut_off(&mut self) -> anyhow::Result<()> {
        let n_ctx = self.engine()?.info().n_ctx;
        self.note(&format!("the context of {} is full: the answer is cut off", status::tokens(n_ctx)));
        if self.n_exchanges() < 2 {
            self.note("a larger context is set with -c; /clear begins a new chat");
            return Ok(());
        }
        match self.choose() {
            Choice::Nothing => Ok(()),
            Choice::Drop => self.drop_oldest().map(|_| ()),
            Choice::Summarise => self.summarise(),
        }
    }

    fn choose(&mut self) -> Choice {
        aside("  d      drop the oldest questions and answers\n  s      go on with a summary that the model makes\n");
        aside("  Enter  leave it as it is\nWhat is dropped stays in /branches. Ctrl-D leaves the chat.\n");
        loop {
            match self.editor.ask("d, s or Enter: ").as_deref().map(str::trim) {
                Some("d") => return Choice::Drop,
                Some("s") => return Choice::Summarise,
                Some("") => return Choice::Nothing,
                None => {
                    self.has_left = true;
                    return Choice::Nothing;
                }
                Some(_) => self.note("that is neither d nor s; Enter leaves the chat as it is"),
            }
        }
    }

    /// Questions that the model is given, this one included.
    fn n_exchanges(&self) -> usize {
        if self.family == Family::Base {
            return 1;
        }
        let path = self.keep.transcript().path();
        path.iter().filter(|turn| matches!(turn.body, Body::User(_))).count()
    }

    /// Goes on in a branch without the oldest questions and their answers, so many that half of the context is
    /// free. Returns the question that this branch ends with, if it ends with one.
    fn drop_oldest(&mut self) -> anyhow::Result<Option<TurnId>> {
        let bodies: Vec<Body> = self.keep.transcript().path().iter().map(|turn| turn.body.clone()).collect();
        let notes = bodies.iter().take_while(|body| matches!(body, Body::System(_))).count();
        let is_question = |at: &usize| bodies.get(*at).is_some_and(|body| matches!(body, Body::User(_)));
        let starts: Vec<usize> = (notes..bodies.len()).filter(is_question).collect();
        let n_ctx = self.engine()?.info().n_ctx;
        let mut dropped = 0;
        let mut rest = self.keep.transcript().clone();
        let mut n_tokens = 0;
        for (number, start) in starts.iter().enumerate().skip(1) {
            rest = rebased(self.keep.transcript(), bodies.get(*start..).unwrap_or_default());
            n_tokens = self.encode(&self.prompt(&rest.conversation())?)?.len();
            dropped = number;
            if n_tokens <= n_ctx / 2 {
                break;
            }
        }
        let last = rest.path().last().map(|turn| (turn.id, matches!(turn.body, Body::User(_))));
        *self.keep.transcript_mut() = rest;
        self.keep.save();
        let questions = if dropped == 1 { "question is".to_owned() } else { format!("{dropped} questions are") };
        self.note(&format!("the first {questions} dropped, with the answers; {} are left", status::tokens(n_tokens)));
        Ok(last.and_then(|(id, is_question)| is_question.then_some(id)))
    }

    /// Goes on in a branch that begins with the model's summary of this one.
    fn summarise(&mut self) -> anyhow::Result<()> {
        let n_ctx = self.engine()?.info().n_ctx;
        let all = self.conversation().messages;
        // Room for the summary is made at the end, which the user remembers best.
        let mut n = all.len();
        let ids = loop {
            let mut messages: Vec<Message> = all.iter().take(n).cloned().collect();
            if !matches!(messages.last(), Some(Message::Assistant(_))) {
                messages.pop();
            }
            messages.push(Message::User(SUMMARISE.to_owned()));
            let prompt = self.prompt(&Conversation::new(messages))?;
            let ids = self.encode(&prompt)?;
            if ids.len() <= n_ctx - n_ctx / 4 || n <= 1 {
                break ids;
            }
            n -= 1;
        };
        let summary = self.generate_quietly(ids)?;
        let notes = format!("{HEAD}\n{summary}");
        let mut rest = rebased(self.keep.transcript(), &[]);
        rest.push(Body::System(notes));
        *self.keep.transcript_mut() = rest;
        self.keep.save();
        self.note("the chat goes on with this summary:");
        self.show_markdown(&summary)
    }

    /// An answer that is not shown while it comes.
    fn generate_quietly(&mut self, ids: Vec<u32>) -> anyhow::Result<String> {
        let mut pace = Pace::new(ids.len(), self.prompt_rate);
        let max_tokens = Some(self.engine()?.info().n_ctx / 8);
        let request =
            Request { prompt: ids, sampling: self.settings.sampling.clone(), max_tokens, ..Request::default() };
        let (sender, events) = mpsc::channel();
        let canceller = self.engine()?.submit(request, move |event| sender.send(event).is_ok())?;
        self.signals.answering(canceller);
        let _unechoed = Unechoed::new();
        let mut status = Status::new(self.abilities);
        let mut parser = chat::Parser::new(chat::Expects::Either);
        let mut answer = chat::Answer::default();
        let mut n_pieces = 0;
        let result = 'answer: loop {
            for event in next(&events) {
                match event {
                    Event::Prompt(progress) => pace.note(progress),
                    Event::Token(_) => {}
                    Event::Piece(piece) => {
                        n_pieces += 1;
                        let piece = match &piece {
                            Piece::Text(text) => chat::Piece::Text(text),
                            Piece::Control(text) => chat::Piece::Control(text),
                        };
                        parser.push(piece).into_iter().for_each(|event| answer.add(event));
                    }
                    Event::Finished(finished) => break 'answer Ok(finished),
                    Event::Failed(failure) => break 'answer Err(failure),
                }
            }
            match n_pieces {
                0 => pace.show(&mut status),
                n => status.show(&format!("summary: {}", status::tokens(n))),
            }
        };
        self.signals.busy();
        result?;
        parser.finish().into_iter().for_each(|event| answer.add(event));
        match answer.message.content.trim() {
            "" => Err(BadInput::Argument("the model made no summary; the chat is as it was".to_owned()).into()),
            summary => Ok(summary.to_owned()),
        }
    }
}

/// The chat with a branch of these turns, from its beginning or the notes that it begins with.
fn rebased(transcript: &Transcript, bodies: &[Body]) -> Transcript {
    let mut rest = transcript.clone();
    while rest.undo().is_some() {}
    for body in bodies {
        rest.push(body.clone());
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Model, Question};

    #[test]
    fn a_branch_begins_behind_the_notes() {
        let mut transcript = Transcript::new(Model::default());
        for text in ["one", "two", "three"] {
            transcript.push(Body::User(Question::new(text)));
        }
        let bodies: Vec<Body> = transcript.path().iter().map(|turn| turn.body.clone()).collect();
        let rest = rebased(&transcript, &bodies[2..]);
        let texts =
            |t: &Transcript| t.path().iter().filter_map(|turn| Some(turn.question()?.text.clone())).collect::<Vec<_>>();
        assert_eq!((texts(&rest), texts(&transcript).len()), (vec!["three".to_owned()], 3));
        assert_eq!(rest.turns().len(), 4);
        let mut noted = rebased(&transcript, &[]);
        noted.push(Body::System("so far".to_owned()));
        noted.push(Body::User(Question::new("four")));
        let again = rebased(&noted, &[Body::User(Question::new("five"))]);
        assert_eq!(again.conversation().messages.len(), 2);
    }
}
