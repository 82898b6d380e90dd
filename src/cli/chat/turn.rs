//! One question and its answer: the prompt, what is said before a long one, the answer as it comes, its end.

use super::super::conversation::encode;
use super::super::loading::in_words;
use super::super::output::message;
use super::Chat;
use super::terminal::{Unechoed, aside, size};
use super::view::{Status, View, dimmed, usable};
use crate::chat::{self, Conversation, Ending, Family, Message, Prompt, Thinking};
use crate::engine::{Event, Failure, FinishReason, Finished, Piece, Progress, ReadingState, Request, Usage};
use crate::session::{Answer, Body, Finish, Question, TurnId};
use crate::terminal::line::fill;
use crate::terminal::{status, visible};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often the screen is looked after while nothing comes.
const TICK: Duration = Duration::from_millis(200);

/// An answer is saved with its first words, and this often while it goes on.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// A prompt that takes longer is announced.
const LONG: Duration = Duration::from_secs(20);

/// Fewer tokens say little about speed.
const MEASURED: usize = 16;

/// Prompts of so many new tokens are worth writing down before the chat ends.
const WORTH_KEEPING: usize = 2048;

/// What is known of the last answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    pub(super) usage: Usage,
    pub(super) seed: u64,
}

/// An answer that has ended.
struct Ended {
    answer: chat::Answer,
    result: Result<Finished, Failure>,
    /// Its turn, if it was saved while it was written.
    turn: Option<TurnId>,
}

impl Chat {
    /// Asks, and shows the answer.
    pub(super) fn ask(&mut self, question: Question) -> anyhow::Result<()> {
        let asked = self.keep.transcript_mut().push(Body::User(question));
        self.answer(asked)
    }

    /// Answers the question that the chat ends with.
    pub(super) fn answer(&mut self, asked: TurnId) -> anyhow::Result<()> {
        self.unanswered = None;
        self.signals.preparing();
        let unechoed = Unechoed::new();
        // Before anything that takes time: whatever happens, the question need not be typed again.
        self.keep.save();
        let framed = self.prompt(&self.conversation()).and_then(|prompt| Ok((self.encode(&prompt)?, prompt)));
        let (ids, prompt) = match framed {
            Ok(framed) => framed,
            Err(error) => {
                self.take_back(asked);
                return Err(error);
            }
        };
        if !self.has_room(ids.len())? {
            drop(unechoed);
            return self.no_room(ids.len(), asked);
        }
        self.announce(&ids)?;
        let ended = match self.generate(&prompt, ids) {
            Ok(ended) => ended,
            Err(error) => {
                self.keep.save();
                return Err(error);
            }
        };
        drop(unechoed);
        self.conclude(ended, asked)
    }

    /// What the model is to go on with.
    pub(super) fn conversation(&self) -> Conversation {
        let mut conversation = self.keep.transcript().conversation();
        if self.family == Family::Base {
            // It knows no roles: each question is a text of its own.
            let last = conversation.messages.pop().filter(|last| matches!(last, Message::User(_)));
            conversation.messages = last.into_iter().collect();
        }
        conversation
    }

    pub(super) fn prompt(&self, conversation: &Conversation) -> anyhow::Result<Prompt> {
        Ok(self.family.prompt(conversation, self.prompt_options())?)
    }

    /// What the model has been given and has said by now: behind a whole answer, nothing is asked of it yet.
    pub(super) fn prompt_so_far(&self, conversation: &Conversation) -> anyhow::Result<Prompt> {
        let is_answered = |last: &Message| matches!(last, Message::Assistant(answer) if answer.tool_calls.is_empty());
        if !conversation.messages.last().is_some_and(is_answered) {
            return self.prompt(conversation);
        }
        Ok(self.family.prompt(conversation, chat::Options { ending: Ending::Continue, ..self.prompt_options() })?)
    }

    fn prompt_options(&self) -> chat::Options {
        let thinking = self.settings.thinking.filter(|_| self.family.thinking() == Thinking::OnRequest);
        chat::Options { thinking, ..chat::Options::default() }
    }

    pub(super) fn encode(&self, prompt: &Prompt) -> anyhow::Result<Vec<u32>> {
        Ok(encode(self.engine()?, prompt, "which its chat format needs")?)
    }

    /// The tokens of a prompt that the model has not seen yet, as far as that is known before.
    pub(super) fn n_new(&self, ids: &[u32]) -> usize {
        ids.len() - ids.iter().zip(&self.seen).take_while(|(a, b)| a == b).count()
    }

    /// Takes a question that has no answer out of the way; it can still be answered.
    pub(super) fn take_back(&mut self, asked: TurnId) {
        self.keep.transcript_mut().undo();
        self.unanswered = Some(asked);
        self.keep.save();
    }

    /// Says what a prompt costs that takes long, or much of the context.
    fn announce(&self, ids: &[u32]) -> anyhow::Result<()> {
        let n_ctx = self.engine()?.info().n_ctx;
        let n_new = self.n_new(ids);
        let free_before = n_ctx.saturating_sub(ids.len() - n_new);
        let left = n_ctx.saturating_sub(ids.len());
        let time = self.prompt_rate.map(|rate| status::time_left(n_new, rate));
        let is_long = time.is_some_and(|time| time > LONG);
        if is_long || n_new > free_before / 2 {
            let about = time.map(|time| format!(", about {}", status::time(time))).unwrap_or_default();
            let text = format!("{}{about}; {} of context are left", status::tokens(n_new), status::tokens(left));
            self.note(&text);
        }
        Ok(())
    }

    fn generate(&mut self, prompt: &Prompt, ids: Vec<u32>) -> anyhow::Result<Ended> {
        let (sampling, max_tokens) = (self.settings.sampling.clone(), self.settings.max_tokens);
        let request = Request { prompt: ids.clone(), sampling, max_tokens, ..Request::default() };
        let mut pace = Pace::new(ids.len(), self.prompt_rate).beside(self.engine()?.reading());
        let (sender, events) = mpsc::channel();
        let canceller = self.engine()?.submit(request, move |event| sender.send(event).is_ok())?;
        self.last_prompt.clone_from(&ids);
        self.seen = ids;
        self.signals.answering(canceller);
        let mut view = View::new(self.abilities, self.plain, self.settings.reasoning);
        pace.show(&mut view.status);
        let mut ended = Ended { answer: chat::Answer::default(), result: Err(Failure::Gone), turn: None };
        let mut parser = prompt.parser();
        let mut saved: Option<Instant> = None;
        let result = loop {
            let batch = next(&events);
            if batch.is_empty() {
                pace.show(&mut view.status);
                view.tick();
                continue;
            }
            let mut shown = Vec::new();
            let mut result = None;
            for event in batch {
                match event {
                    Event::Prompt(progress) => pace.note(progress),
                    Event::Token(_) => {}
                    Event::Piece(Piece::Text(text)) => shown.extend(parser.push(chat::Piece::Text(&text))),
                    Event::Piece(Piece::Control(text)) => shown.extend(parser.push(chat::Piece::Control(&text))),
                    Event::Finished(finished) => result = Some(Ok(finished)),
                    Event::Failed(failure) => result = Some(Err(failure)),
                }
            }
            match shown.is_empty() {
                true => pace.show(&mut view.status),
                false => pace.end(),
            }
            if let Err(error) = view.push(&shown) {
                break Err(error);
            }
            shown.into_iter().for_each(|event| ended.answer.add(event));
            if let Some(result) = result {
                break Ok(result);
            }
            let is_due = saved.is_none_or(|saved| saved.elapsed() > SAVE_EVERY);
            if is_due && self.put(&mut ended, Finish::Interrupted) {
                self.keep.save();
                saved = Some(Instant::now());
            }
        };
        let rest = parser.finish();
        let shown = result.and_then(|result| view.push(&rest).and_then(|()| view.finish()).map(|()| result));
        rest.into_iter().for_each(|event| ended.answer.add(event));
        self.signals.busy();
        match shown {
            Ok(result) => ended.result = result,
            Err(error) => {
                self.put(&mut ended, Finish::Interrupted);
                return Err(error.into());
            }
        }
        Ok(ended)
    }

    /// Puts what there is of an answer into the chat; false where there is nothing yet.
    fn put(&mut self, ended: &mut Ended, finish: Finish) -> bool {
        let said = ended.answer.message.clone();
        let is_empty = said.content.is_empty() && said.reasoning.is_none() && said.tool_calls.is_empty();
        if is_empty && finish == Finish::Interrupted {
            return false;
        }
        let answer = Answer { content: said.content, reasoning: said.reasoning, tool_calls: said.tool_calls, finish };
        let transcript = self.keep.transcript_mut();
        match ended.turn {
            // Its turn is there: it was put there before.
            Some(turn) => drop(transcript.amend(turn, answer)),
            None => ended.turn = Some(transcript.push(Body::Assistant(answer))),
        }
        true
    }

    /// Keeps the answer, and says how it ended if not by itself.
    fn conclude(&mut self, mut ended: Ended, asked: TurnId) -> anyhow::Result<()> {
        let finish = match &ended.result {
            Ok(finished) => finish_of(finished.reason),
            Err(_) => Finish::Failed,
        };
        let said = &ended.answer.message;
        let is_empty = said.content.is_empty() && said.reasoning.is_none() && said.tool_calls.is_empty();
        if is_empty && matches!(finish, Finish::Interrupted | Finish::Failed) {
            self.take_back(asked);
        } else {
            self.put(&mut ended, finish);
            self.keep.save();
        }
        self.seen.extend(self.engine()?.tokenizer().encode_content(&ended.answer.message.content));
        let finished = ended.result?;
        let n_computed = finished.usage.prompt_tokens.saturating_sub(finished.usage.cached_tokens);
        if n_computed >= MEASURED && finish != Finish::Interrupted {
            self.prompt_rate = status::rate(n_computed, finished.usage.prompt_time).or(self.prompt_rate);
        }
        self.last = Some(Last { usage: finished.usage, seed: finished.seed });
        aside("\n");
        if is_empty && finish == Finish::EndOfAnswer {
            self.note("the answer is empty");
        }
        if self.settings.stats && !(is_empty && finish == Finish::Interrupted) {
            self.note(&self.stats()?);
        }
        if finish == Finish::Interrupted {
            self.was_stopped = true;
            let note = if is_empty { "stopped; the question is taken back, /regen asks it again" } else { "stopped" };
            self.note(note);
        }
        if finish == Finish::Length {
            self.note("ended after max_tokens");
        }
        if n_computed >= WORTH_KEEPING || finished.usage.prompt_time > LONG {
            self.keep_computed();
        }
        match finish {
            Finish::ContextFull => self.cut_off(),
            _ => Ok(()),
        }
    }

    /// Writes down what was computed, so that it need not be computed again.
    pub(super) fn keep_computed(&mut self) {
        let Ok(engine) = self.engine() else { return };
        let mut status = Status::new(self.abilities);
        status.show("keeping what was computed");
        let note = self.keep.snapshot(engine, &self.last_prompt);
        status.clear();
        if let Some(note) = note {
            message(&note);
        }
    }

    /// A dimmed line beside the answers.
    pub(super) fn note(&self, text: &str) {
        let text = fill(&visible(text), usable(size().0), 0);
        aside(&format!("{}\n", dimmed(&text, self.abilities)));
    }

    /// The last answer in numbers.
    pub(super) fn stats(&self) -> anyhow::Result<String> {
        let Some(Last { usage, seed, .. }) = &self.last else { return Ok("nothing was answered yet".to_owned()) };
        let n_computed = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
        // The first token comes with the prompt.
        let n_steps = usage.generated_tokens.saturating_sub(1);
        let speed = |rate: Option<f64>| rate.map(|rate| format!(", {rate:.1} tokens/s")).unwrap_or_default();
        let n_ctx = self.engine()?.info().n_ctx;
        // A token that fills the context is said, and needs no room.
        let n_used = (usage.prompt_tokens + usage.generated_tokens).min(n_ctx);
        Ok(format!(
            "prompt {} ({} cached){}; answer {}{}; context {} of {} ({} %); seed {seed}",
            status::tokens(usage.prompt_tokens),
            status::count(usage.cached_tokens),
            speed(status::rate(n_computed, usage.prompt_time)),
            status::tokens(usage.generated_tokens),
            speed(status::rate(n_steps, usage.generation_time)),
            status::count(n_used),
            status::count(n_ctx),
            n_used * 100 / n_ctx.max(1),
        ))
    }
}

fn finish_of(reason: FinishReason) -> Finish {
    match reason {
        FinishReason::EndOfAnswer => Finish::EndOfAnswer,
        FinishReason::StopString(_) | FinishReason::StopToken(_) => Finish::StopString,
        FinishReason::Length => Finish::Length,
        FinishReason::ContextFull => Finish::ContextFull,
        FinishReason::Cancelled => Finish::Interrupted,
    }
}

/// All events that are there, once one is; none if nothing comes for a while.
pub(super) fn next(events: &Receiver<Event>) -> Vec<Event> {
    match events.recv_timeout(TICK) {
        Ok(first) => std::iter::once(first).chain(events.try_iter()).collect(),
        Err(RecvTimeoutError::Timeout) => Vec::new(),
        Err(RecvTimeoutError::Disconnected) => vec![Event::Failed(Failure::Gone)],
    }
}

/// How a prompt goes on.
pub(super) struct Pace {
    total: usize,
    done: usize,
    /// From earlier prompts, then from this one.
    rate: Option<f64>,
    began: Instant,
    noted: Instant,
    has_ended: bool,
    /// How far the model's files are that are read meanwhile.
    reading: Option<ReadingState>,
}

impl Pace {
    pub(super) fn new(total: usize, rate: Option<f64>) -> Pace {
        let now = Instant::now();
        Pace { total, done: 0, rate, began: now, noted: now, has_ended: false, reading: None }
    }

    /// The same beside the reading of the model's files, which the prompt waits for.
    pub(super) fn beside(self, reading: Option<ReadingState>) -> Pace {
        Pace { reading, ..self }
    }

    pub(super) fn note(&mut self, progress: Progress) {
        self.done = progress.done;
        self.noted = Instant::now();
        let n_computed = progress.done.saturating_sub(progress.cached);
        self.rate = status::rate(n_computed, self.began.elapsed()).or(self.rate);
    }

    pub(super) fn end(&mut self) {
        self.has_ended = true;
    }

    pub(super) fn show(&self, line: &mut Status) {
        if self.has_ended {
            return;
        }
        line.show(&match self.reading.as_ref().and_then(ReadingState::so_far) {
            Some(so_far) => format!("reading the model: {}", in_words(so_far)),
            None => status::prompt(self.done, self.total, self.rate, self.noted.elapsed()),
        });
    }
}
