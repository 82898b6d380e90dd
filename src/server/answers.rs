//! Answers as they come, in the one form that all protocols are translated from.
//!
//! Dropped, they are cancelled: a client that went away drops what it waits for.

use super::app::App;
use super::ask::Ask;
use super::fault::{Fault, Kind};
use super::model::{Model, Settled};
use super::tokens::spelled;
use crate::chat::{self, Parser};
use crate::engine::{Canceller, Event, FinishReason, Finished, Piece, Progress, Refused, Request, Scored, Usage};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, watch};

/// Why an answer ends that the server has no time for any more.
const CUT: &str = "the answer was cut: the server stops";

/// What happens to an answer. The last is [`Said::End`] or [`Said::Failed`].
#[derive(Debug, Clone)]
pub(super) enum Said {
    Prompt(Progress),
    Token(Scored),
    Reasoning(String),
    Content(String),
    /// A call begins; it has no arguments yet. Who wants whole calls only waits for [`Said::Called`].
    Call(Call),
    /// More of the arguments of the call that has begun.
    Arguments(String),
    /// The call that has begun is over. This is all of it.
    Called(Call),
    /// The call that has begun is none: its text comes next, as content.
    NotCalled,
    End(End),
    Failed(Fault),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
    /// A limit ended the answer in its midst: the arguments are the beginning of a JSON object.
    pub(super) is_cut: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct End {
    pub(super) reason: Reason,
    pub(super) usage: Usage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    Stop,
    StopString(String),
    Length,
    Calls,
}

/// The answers to one request of a client.
pub(super) struct Answers {
    app: Arc<App>,
    pub(super) model: Arc<Model>,
    /// Tokens of the prompt; of the last, where there are several.
    pub(super) n_prompt: usize,
    events: UnboundedReceiver<(usize, Event)>,
    answers: Vec<Answer>,
    ready: VecDeque<(usize, Said)>,
    cut: watch::Receiver<bool>,
    _places: OwnedSemaphorePermit,
}

struct Answer {
    canceller: Canceller,
    parser: Option<Parser>,
    stop: Vec<String>,
    shows_stop: bool,
    /// The field that says what it must look like.
    form: Option<String>,
    single_call: bool,
    n_calls: usize,
    /// The call that has begun.
    call: Option<Call>,
    /// A call was cut.
    is_cut: bool,
    /// A call became none, and its client was told of its beginning.
    misled: bool,
    /// Its client is told when all is said, not before.
    is_collected: bool,
    /// A tool was called, and nothing more is wanted.
    is_enough: bool,
    is_over: bool,
}

/// A whole answer.
#[derive(Debug, Default)]
pub(super) struct Whole {
    pub(super) reasoning: Option<String>,
    pub(super) content: String,
    pub(super) calls: Vec<Call>,
    pub(super) tokens: Vec<Scored>,
    pub(super) end: Option<End>,
}

impl Answers {
    /// Begins to answer. Prompts are made on a thread that may take its time.
    pub(super) async fn begin(app: &Arc<App>, asks: Vec<Ask>) -> Result<Answers, Fault> {
        let n = asks.iter().map(|ask| ask.n).sum();
        if n > app.n_places() {
            let field = if asks.len() > 1 { "prompt" } else { "n" };
            let fault = format!("{n} answers are asked for; there are {} places", app.n_places());
            return Err(Fault::field(field, fault));
        }
        let (app, model, places) = (app.clone(), app.model()?, app.places(n)?);
        let begin = move || {
            let (sender, events) = unbounded_channel();
            let (answers, ready) = (Vec::new(), VecDeque::new());
            let cut = app.cutting();
            let mut begun = Answers { app, model, n_prompt: 0, events, answers, ready, cut, _places: places };
            for ask in asks {
                let n = ask.n;
                let settled = begun.model.settle(ask)?;
                (0..n).try_for_each(|at| begun.submit(&settled, at, &sender))?;
            }
            Ok(begun)
        };
        let gone = |_| Fault::new(Kind::Internal, "the request could not be begun: an internal error");
        tokio::task::spawn_blocking(begin).await.map_err(gone)?
    }

    fn submit(&mut self, settled: &Settled, at: usize, sender: &UnboundedSender<(usize, Event)>) -> Result<(), Fault> {
        let (sender, index) = (sender.clone(), self.answers.len());
        let mut request: Request = settled.request.clone();
        // The same again would be the same answer.
        request.sampling.seed = request.sampling.seed.map(|seed| seed.wrapping_add(at as u64));
        self.n_prompt = request.prompt.len();
        let stop = request.stop.clone();
        let log = self.app.options.log;
        let sink = move |event| {
            // Also of those that nobody waits for any more.
            if let (Some(log), Event::Finished(finished)) = (log, &event) {
                log(&finished.to_string());
            }
            sender.send((index, event)).is_ok()
        };
        let form = settled.form.clone();
        let refused = |refused: Refused| match refused {
            Refused::Constraint(_) => Fault::from(refused).about(form.as_deref()),
            refused => refused.into(),
        };
        let canceller = self.model.submit(request, sink).map_err(refused)?;
        let parser = settled.prompt.as_ref().map(|prompt| prompt.parser());
        self.answers.push(Answer {
            canceller,
            parser,
            stop,
            shows_stop: settled.shows_stop,
            form,
            single_call: settled.single_call,
            n_calls: 0,
            call: None,
            is_cut: false,
            misled: false,
            is_collected: false,
            is_enough: false,
            is_over: false,
        });
        Ok(())
    }

    /// What happens next, and to which of them; `None` when all are over.
    pub(super) async fn next(&mut self) -> Option<(usize, Said)> {
        loop {
            if let Some(said) = self.ready.pop_front() {
                return Some(said);
            }
            if self.answers.iter().all(|answer| answer.is_over) {
                return None;
            }
            let fault = tokio::select! {
                event = self.events.recv() => match event {
                    Some((index, event)) => {
                        self.take(index, event);
                        continue;
                    }
                    // The engine has ended without a word.
                    None => Fault::from(crate::engine::Failure::Gone),
                },
                () = is_cut(&mut self.cut) => Fault::unavailable(CUT),
            };
            let open = self.answers.iter_mut().enumerate().find(|(_, answer)| !answer.is_over);
            let (index, answer) = open?;
            answer.canceller.cancel_after_step();
            answer.is_over = true;
            return Some((index, Said::Failed(fault)));
        }
    }

    fn take(&mut self, index: usize, event: Event) {
        let Some(answer) = self.answers.get_mut(index) else { return };
        let model = &self.model;
        let mut said = Vec::new();
        match event {
            Event::Prompt(progress) => said.push(Said::Prompt(progress)),
            Event::Token(scored) => said.push(Said::Token(scored)),
            Event::Piece(piece) => answer.read(&piece, &self.app, &mut said),
            Event::Finished(finished) => {
                answer.is_over = true;
                answer.finish(&finished, model, &self.app, &mut said);
            }
            Event::Failed(failure) => {
                answer.is_over = true;
                said.push(Said::Failed(Fault::from(failure).about(answer.form.as_deref())));
            }
        }
        self.ready.extend(said.into_iter().map(|said| (index, said)));
    }

    /// Waits for all of them.
    pub(super) async fn collect(mut self) -> Result<Vec<Whole>, Fault> {
        self.answers.iter_mut().for_each(|answer| answer.is_collected = true);
        let mut wholes: Vec<Whole> = self.answers.iter().map(|_| Whole::default()).collect();
        while let Some((index, said)) = self.next().await {
            let Some(whole) = wholes.get_mut(index) else { continue };
            match said {
                Said::Prompt(_) | Said::Call(_) | Said::Arguments(_) | Said::NotCalled => {}
                Said::Token(scored) => whole.tokens.push(scored),
                Said::Reasoning(text) => whole.reasoning.get_or_insert_default().push_str(&text),
                Said::Content(text) => whole.content.push_str(&text),
                Said::Called(call) => whole.calls.push(call),
                Said::End(end) => whole.end = Some(end),
                Said::Failed(fault) => return Err(fault),
            }
        }
        Ok(wholes)
    }
}

async fn is_cut(cut: &mut watch::Receiver<bool>) {
    // The sender is the app itself.
    let _ = cut.wait_for(|cut| *cut).await;
}

impl Answer {
    fn read(&mut self, piece: &Piece, app: &App, said: &mut Vec<Said>) {
        let Some(parser) = &mut self.parser else {
            // Text that is only gone on with has no frame, and no markers to be shown.
            if let Piece::Text(text) = piece {
                said.push(Said::Content(text.clone()));
            }
            return;
        };
        let events = parser.push(match piece {
            Piece::Text(text) => chat::Piece::Text(text),
            Piece::Control(text) => chat::Piece::Control(text),
        });
        self.say(events, app, said);
    }

    fn say(&mut self, events: Vec<chat::Event>, app: &App, said: &mut Vec<Said>) {
        for event in events {
            if self.is_enough {
                return;
            }
            match event {
                chat::Event::Reasoning(text) => said.push(Said::Reasoning(text)),
                chat::Event::Content(text) => said.push(Said::Content(text)),
                chat::Event::Malformed { text, .. } => {
                    if self.call.take().is_some() {
                        self.misled = !self.is_collected;
                        said.push(Said::NotCalled);
                    }
                    said.push(Said::Content(text));
                }
                chat::Event::CallBegun { name } => {
                    let call = Call { id: app.id("call_"), name, ..Call::default() };
                    self.call = Some(call.clone());
                    said.push(Said::Call(call));
                }
                chat::Event::Arguments(text) => said.push(Said::Arguments(text)),
                chat::Event::ToolCall { arguments, .. } => {
                    let begun = self.call.take().unwrap_or_default();
                    said.push(Said::Called(Call { arguments, ..begun }));
                    self.n_calls += 1;
                    if self.single_call {
                        self.is_enough = true;
                        self.canceller.cancel_after_step();
                    }
                }
            }
        }
    }

    fn finish(&mut self, finished: &Finished, model: &Model, app: &App, said: &mut Vec<Said>) {
        if self.shows_stop {
            let stopped = match finished.reason {
                FinishReason::StopString(number) => self.stop.get(number).cloned(),
                FinishReason::StopToken(id) => Some(spelled(model, id).0),
                _ => None,
            };
            stopped.into_iter().for_each(|text| self.read(&Piece::Text(text), app, said));
        }
        if let Some(parser) = self.parser.take() {
            let is_limit = matches!(finished.reason, FinishReason::Length | FinishReason::ContextFull);
            let (events, cut) = if is_limit { parser.cut() } else { (parser.finish(), None) };
            self.say(events, app, said);
            if let (Some(begun), Some(cut)) = (self.call.take(), cut) {
                self.is_cut = true;
                said.push(Said::Called(Call { arguments: cut.arguments, is_cut: true, ..begun }));
            }
        }
        let usage = finished.usage;
        let reason = match finished.reason {
            _ if self.is_cut => Reason::Length,
            // Not where a client holds half a call too, that it could run with the others.
            _ if self.n_calls > 0 && !self.misled => Reason::Calls,
            FinishReason::EndOfAnswer if finished.is_satisfied == Some(false) => {
                let why = "the answer is not what it has to be: the model ended it while it was reasoning";
                said.push(Said::Failed(Fault::new(Kind::Internal, why)));
                return;
            }
            FinishReason::EndOfAnswer => Reason::Stop,
            FinishReason::StopString(number) => Reason::StopString(self.stop.get(number).cloned().unwrap_or_default()),
            FinishReason::StopToken(_) => Reason::Stop,
            FinishReason::Length | FinishReason::ContextFull => Reason::Length,
            FinishReason::Cancelled => {
                said.push(Said::Failed(Fault::unavailable(CUT)));
                return;
            }
        };
        said.push(Said::End(End { reason, usage }));
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        for answer in &self.answers {
            if !answer.is_over {
                answer.canceller.cancel_after_step();
            }
        }
    }
}

/// The tokens of several answers to prompts: of those to the same prompt, that one counts once.
pub(super) fn total(ends: &[End], n_same: usize) -> Usage {
    let mut total = Usage::default();
    for (at, End { usage, .. }) in ends.iter().enumerate() {
        if at % n_same.max(1) == 0 {
            total.prompt_tokens += usage.prompt_tokens;
            total.cached_tokens += usage.cached_tokens;
            total.prompt_time += usage.prompt_time;
        }
        total.generated_tokens += usage.generated_tokens;
        total.generation_time = total.generation_time.max(usage.generation_time);
    }
    total
}
