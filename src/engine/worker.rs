//! The engine's thread: takes requests, computes steps that hold tokens of all of them, picks tokens.
//!
//! One step at a time, with tokens of all that is under way: one of each answer, and parts of prompts. Where the
//! cache has no room for all, the request that came last waits until others are done, and is then computed again.
//! Nothing else touches the model.

use super::answer::AnswerText;
use super::constraint::Gate;
use super::figures::Figures;
use super::request::{Event, Failure, FinishReason, Finished, Piece, Progress, Request, Usage};
use super::sampler::{Sampler, TokenSet};
use super::score::score;
use super::share::shares;
use super::slots::{Choice, Slots};
use crate::graph::{Fault, Forward, StepError, Token};
use crate::tokenizer::Tokenizer;
use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

/// Takes the events of a request; false once nobody listens.
pub(super) type Sink = Box<dyn FnMut(Event) -> bool + Send>;

pub(super) type Job = Box<dyn FnOnce(&mut Forward) + Send>;

pub(super) type CacheJob = Box<dyn FnOnce(&mut Forward, &mut Slots) + Send>;

pub(super) enum Command {
    Submit(Box<Submission>),
    /// Something to be done with the model while nothing else is; the cache is cleared before and after.
    Job(Job),
    /// Something to be done with what is cached, between two steps.
    Cache(CacheJob),
}

pub(super) struct Submission {
    pub(super) request: Request,
    pub(super) sampler: Sampler,
    pub(super) text: AnswerText,
    pub(super) gate: Option<Gate>,
    /// The tokens that do not end the answer, where it has a least length.
    pub(super) going_on: Vec<u32>,
    pub(super) sink: Sink,
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) submitted: Instant,
}

pub(super) struct Worker {
    forward: Forward,
    tokenizer: Arc<Tokenizer>,
    slots: Slots,
    waiting: VecDeque<Submission>,
    active: Vec<Active>,
    /// Begun, and without a slot; all their tokens are pending again.
    paused: VecDeque<Active>,
    jobs: VecDeque<Job>,
    stop: Arc<AtomicBool>,
    figures: Arc<Figures>,
}

/// A request that has a slot.
struct Active {
    submission: Submission,
    slot: usize,
    /// Tokens that are not computed yet: what is left of the prompt, then the token picked last.
    pending: VecDeque<u32>,
    n_cached: usize,
    n_generated: usize,
    /// Set when its tokens of this step are all in the cache, with the row of its logits.
    row: Option<usize>,
    started: Instant,
    prompt_done: Option<Instant>,
}

impl Worker {
    pub(super) fn new(forward: Forward, tokenizer: Arc<Tokenizer>, n_slots: usize, figures: Arc<Figures>) -> Worker {
        let stop = forward.stop_flag();
        let slots = Slots::new(n_slots);
        let (waiting, paused, jobs) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        Worker { forward, tokenizer, slots, waiting, active: Vec::new(), paused, jobs, stop, figures }
    }

    /// Works until the last sender of commands is gone and all is done.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        while self.receive(commands).is_continue() {
            // A flag raised from here on is meant for what is still there.
            self.stop.store(false, Ordering::SeqCst);
            self.drop_cancelled();
            if self.active.is_empty()
                && let Some(job) = self.jobs.pop_front()
            {
                self.run_job(job);
                continue;
            }
            self.admit();
            self.step();
        }
    }

    /// Takes all commands that are there; with nothing to do, waits for one.
    fn receive(&mut self, commands: &Receiver<Command>) -> ControlFlow<()> {
        loop {
            let is_idle =
                self.active.is_empty() && self.waiting.is_empty() && self.paused.is_empty() && self.jobs.is_empty();
            let command = match is_idle {
                true => commands.recv().map_err(|_| TryRecvError::Disconnected),
                false => commands.try_recv(),
            };
            match command {
                Ok(Command::Submit(submission)) => self.waiting.push_back(*submission),
                Ok(Command::Job(job)) => self.jobs.push_back(job),
                Ok(Command::Cache(job)) => job(&mut self.forward, &mut self.slots),
                Err(TryRecvError::Disconnected) if is_idle => return ControlFlow::Break(()),
                Err(_) => return ControlFlow::Continue(()),
            }
        }
    }

    fn run_job(&mut self, job: Job) {
        self.forward.clear();
        job(&mut self.forward);
        self.forward.clear();
        self.slots.iter_mut().for_each(|slot| slot.tokens.clear());
    }

    fn drop_cancelled(&mut self) {
        let is_cancelled = |submission: &Submission| submission.cancelled.load(Ordering::SeqCst);
        let (gone, waiting): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(is_cancelled);
        self.waiting = waiting;
        for mut submission in gone {
            let usage = Usage { prompt_tokens: submission.request.prompt.len(), ..Usage::default() };
            let seed = submission.sampler.seed();
            let is_satisfied = submission.gate.map(|_| false);
            let finished = Finished { reason: FinishReason::Cancelled, usage, seed, is_satisfied };
            self.figures.waiting.sub(1);
            self.figures.cancelled.add(1);
            (submission.sink)(Event::Finished(finished));
        }
        for active in self.active.extract_if(.., |active| is_cancelled(&active.submission)) {
            self.slots.release(active.slot);
            active.finish(FinishReason::Cancelled, &self.figures);
        }
        let (gone, paused): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.paused).into_iter().partition(|active| is_cancelled(&active.submission));
        self.paused = paused;
        gone.into_iter().for_each(|active| active.finish(FinishReason::Cancelled, &self.figures));
    }

    /// Gives slots to requests, first come first served, as long as they fit beside what is under way.
    fn admit(&mut self) {
        while let Some(active) = self.paused.front()
            && let Some(choice) = self.choose(active.pending.as_slices().0)
            && let Some(mut active) = self.paused.pop_front()
        {
            active.slot = choice.slot;
            let tokens = active.pending.drain(..choice.n_cached).collect();
            self.occupy(&choice, tokens);
            self.active.push(active);
        }
        // A job waits until nothing is under way.
        while self.jobs.is_empty()
            && self.paused.is_empty()
            && let Some(submission) = self.waiting.front()
            && let Some(choice) = self.choose(&submission.request.prompt)
            && let Some(mut submission) = self.waiting.pop_front()
        {
            let n_cached = choice.n_cached;
            self.occupy(&choice, submission.request.prompt[..n_cached].to_vec());
            submission.sampler.accept_prompt(&submission.request.prompt);
            self.figures.waiting.sub(1);
            self.figures.running.add(1);
            self.figures.queue_time.observe(submission.submitted.elapsed());
            self.figures.prompt_tokens.add(n_cached as u64);
            self.figures.cached_tokens.add(n_cached as u64);
            let active = Active {
                slot: choice.slot,
                pending: submission.request.prompt[n_cached..].iter().copied().collect(),
                n_cached,
                n_generated: 0,
                row: None,
                started: Instant::now(),
                prompt_done: None,
                submission,
            };
            self.active.push(active);
        }
    }

    /// Where tokens go; `None` while there is no room for them.
    fn choose(&self, tokens: &[u32]) -> Option<Choice> {
        let in_use = |active: &Active| self.slots.get(active.slot).tokens.len() + active.pending.len();
        let n_in_use: usize = self.active.iter().map(in_use).sum();
        let fits = self.active.is_empty() || n_in_use + tokens.len() <= self.forward.options().n_ctx;
        if fits { self.slots.choose(tokens) } else { None }
    }

    /// Takes a slot, in which these tokens are cached from now on.
    fn occupy(&mut self, choice: &Choice, tokens: Vec<u32>) {
        let seq = self.slots.get(choice.slot).seq;
        match choice.copy_from {
            Some(other) => {
                let from = self.slots.get(other).seq;
                self.forward.remove(seq, 0..i32::MAX);
                self.forward.copy(from, seq, 0..position(choice.n_cached));
            }
            None => self.forward.remove(seq, position(choice.n_cached)..i32::MAX),
        }
        self.slots.take(choice.slot);
        self.slots.get_mut(choice.slot).tokens = tokens;
    }

    /// Computes one step and goes on with the answers whose next token it decides.
    fn step(&mut self) {
        self.make_room();
        let (tokens, counts) = self.compose();
        if tokens.is_empty() {
            return;
        }
        let (mut logits, begun) = (Vec::new(), Instant::now());
        if let Err(error) = self.forward.step(&tokens, &mut logits) {
            // Whoever stopped it has marked who is to go.
            if error != StepError::Stopped {
                self.fail_all(&error);
            }
            return;
        }
        self.note_step(begun);
        let faults = self.forward.faults(&tokens, &logits);
        for (active, n) in self.active.iter_mut().zip(counts) {
            if active.prompt_done.is_none() {
                self.figures.prompt_tokens.add(n as u64);
            }
            let computed = active.pending.drain(..n);
            self.slots.get_mut(active.slot).tokens.extend(computed);
        }
        match faults {
            Ok(faults) => self.go_on(&logits, faults.into_iter().map(|fault| (fault.row, fault)).collect()),
            Err(StepError::Stopped) => self.fail_faulty(&logits),
            Err(error) => self.fail_all(&error),
        }
    }

    fn note_step(&self, begun: Instant) {
        let (layers, experts) = self.forward.experts_chosen();
        self.figures.steps.add(1);
        self.figures.step_time.add_time(begun.elapsed());
        self.figures.expert_layers.set(layers);
        self.figures.experts.set(experts);
    }

    /// Forgets idle sequences until the next step fits, or there are none left.
    fn make_room(&mut self) {
        let wanted: usize = self.active.iter().map(|active| active.pending.len()).sum();
        let wanted = wanted.min(self.forward.options().n_batch);
        while self.forward.n_free() < wanted
            && let Some(slot) = self.slots.oldest_idle()
        {
            let slot = self.slots.get_mut(slot);
            slot.tokens.clear();
            self.forward.remove(slot.seq, 0..i32::MAX);
        }
    }

    /// The tokens of the next step, and how many each active request has in it.
    fn compose(&mut self) -> (Vec<Token>, Vec<usize>) {
        self.active.sort_by_key(|active| active.started);
        while self.forward.n_free() == 0
            && let Some(last) = self.active.pop()
        {
            self.slots.release(last.slot);
            match self.active.is_empty() {
                true => last.finish(FinishReason::ContextFull, &self.figures),
                false => self.pause(last),
            }
            self.make_room();
        }
        let room = self.forward.options().n_batch.min(self.forward.n_free());
        let wanted: Vec<usize> = self.active.iter().map(|active| active.pending.len()).collect();
        let mut tokens = Vec::new();
        let mut counts = Vec::new();
        let mut n_rows = 0;
        for (active, n) in self.active.iter_mut().zip(shares(&wanted, room)) {
            counts.push(n);
            let slot = self.slots.get(active.slot);
            let is_whole = n > 0 && n == active.pending.len();
            for (at, id) in active.pending.iter().take(n).enumerate() {
                let wants_logits = is_whole && at + 1 == n;
                let position = position(slot.tokens.len() + at);
                tokens.push(Token { id: *id, seq: slot.seq, position, wants_logits });
            }
            active.row = is_whole.then_some(n_rows);
            n_rows += usize::from(is_whole);
        }
        (tokens, counts)
    }

    /// Takes its place away from a request, which has it all computed again later.
    fn pause(&mut self, mut active: Active) {
        let computed = self.slots.get(active.slot).tokens.iter().copied();
        active.pending = computed.chain(active.pending).collect();
        // In one piece, as slots are chosen by.
        active.pending.make_contiguous();
        self.paused.push_front(active);
    }

    /// Picks the next token of every answer that has logits.
    fn go_on(&mut self, logits: &[f32], mut faults: HashMap<usize, Fault>) {
        let n_vocab = self.forward.n_vocab();
        let mut going_on = Vec::new();
        for mut active in std::mem::take(&mut self.active) {
            let Some(row) = active.row.take() else {
                active.report_prompt();
                going_on.push(active);
                continue;
            };
            if active.prompt_done.is_none() {
                active.report_prompt();
                active.prompt_done = Some(Instant::now());
                self.figures.first_token_time.observe(active.submission.submitted.elapsed());
            }
            let outcome = match faults.remove(&row) {
                Some(fault) => Outcome::Failed(fault.into()),
                None => active.pick(&self.tokenizer, &logits[row * n_vocab..(row + 1) * n_vocab], &self.figures),
            };
            let slot = self.slots.get_mut(active.slot);
            let outcome = match outcome {
                Outcome::Next(_) if slot.tokens.len() >= self.forward.options().n_ctx => {
                    Outcome::Finished(FinishReason::ContextFull)
                }
                outcome => outcome,
            };
            match outcome {
                Outcome::Next(token) => {
                    active.pending.push_back(token);
                    going_on.push(active);
                    continue;
                }
                Outcome::Failed(failure) => {
                    // What it computed is not to be gone on with.
                    self.forward.remove(slot.seq, 0..i32::MAX);
                    slot.tokens.clear();
                    self.slots.release(active.slot);
                    active.fail(failure, &self.figures);
                }
                Outcome::Finished(reason) => {
                    self.slots.release(active.slot);
                    active.finish(reason, &self.figures);
                }
            }
        }
        self.active = going_on;
    }

    /// As `go_on`, when there was no time to find out where numbers went wrong.
    fn fail_faulty(&mut self, logits: &[f32]) {
        let rows = logits.chunks(self.forward.n_vocab()).enumerate();
        let faulty = rows.filter(|(_, row)| !row.iter().all(|x| x.is_finite()));
        let faults = faulty.map(|(row, _)| (row, Fault { row, layer: None })).collect();
        self.go_on(logits, faults);
    }

    fn fail_all(&mut self, error: &StepError) {
        for active in std::mem::take(&mut self.active) {
            let slot = self.slots.get_mut(active.slot);
            slot.tokens.clear();
            self.forward.remove(slot.seq, 0..i32::MAX);
            self.slots.release(active.slot);
            active.fail(Failure::Step(error.clone()), &self.figures);
        }
    }
}

/// What becomes of an answer after a step.
enum Outcome {
    Next(u32),
    Finished(FinishReason),
    Failed(Failure),
}

impl Active {
    fn pick(&mut self, tokenizer: &Tokenizer, logits: &[f32], figures: &Figures) -> Outcome {
        let request = &self.submission.request;
        if request.max_tokens == Some(0) {
            return Outcome::Finished(FinishReason::Length);
        }
        let (sampler, gate) = (&mut self.submission.sampler, &mut self.submission.gate);
        let picked = match gate {
            Some(gate) => gate.sample(sampler, logits),
            None if self.n_generated >= request.min_tokens => sampler.sample(logits).map_err(Failure::from),
            None => {
                let going_on = TokenSet(&self.submission.going_on);
                sampler.sample_among(logits, Some(going_on)).map_err(Failure::from)
            }
        };
        let token = match picked {
            Ok(token) => token,
            Err(failure) => return Outcome::Failed(failure),
        };
        sampler.accept(token);
        self.n_generated += 1;
        figures.generated_tokens.add(1);
        let is_end = tokenizer.ends_answer(token);
        if let Some(Err(failure)) = gate.as_mut().map(|gate| gate.accept(token, is_end)) {
            return Outcome::Failed(failure);
        }
        let is_whole = gate.as_ref().is_some_and(Gate::is_closed);
        if is_end {
            return Outcome::Finished(FinishReason::EndOfAnswer);
        }
        if request.stop_tokens.contains(&token) {
            return Outcome::Finished(FinishReason::StopToken(token));
        }
        if let Some(n_top) = request.n_logprobs
            && !(self.submission.sink)(Event::Token(score(logits, token, n_top)))
        {
            return Outcome::Finished(FinishReason::Cancelled);
        }
        let mut pieces = Vec::new();
        let may_end = self.n_generated > request.min_tokens;
        let stopped = self.submission.text.push(tokenizer, token, may_end, &mut pieces);
        let is_long_enough = request.max_tokens.is_some_and(|max| self.n_generated >= max);
        if !self.show(pieces) {
            return Outcome::Finished(FinishReason::Cancelled);
        }
        match stopped {
            Some(number) => Outcome::Finished(FinishReason::StopString(number)),
            None if is_whole => Outcome::Finished(FinishReason::EndOfAnswer),
            None if is_long_enough => Outcome::Finished(FinishReason::Length),
            None => Outcome::Next(token),
        }
    }

    /// False once nobody listens.
    fn show(&mut self, pieces: Vec<Piece>) -> bool {
        pieces.into_iter().all(|piece| (self.submission.sink)(Event::Piece(piece)))
    }

    fn report_prompt(&mut self) {
        let total = self.submission.request.prompt.len();
        // What was generated is pending too, where all of it is computed again.
        let done = total.saturating_sub(self.pending.len());
        let progress = Progress { done, cached: self.n_cached, total };
        if !(self.submission.sink)(Event::Prompt(progress)) {
            self.submission.cancelled.store(true, Ordering::SeqCst);
        }
    }

    fn finish(mut self, reason: FinishReason, figures: &Figures) {
        // Behind a stop string nothing is shown.
        if !matches!(reason, FinishReason::StopString(_)) {
            let mut pieces = Vec::new();
            self.submission.text.finish(&mut pieces);
            self.show(pieces);
        }
        let usage = self.end(figures);
        match reason {
            FinishReason::Cancelled => figures.cancelled.add(1),
            _ => figures.finished.add(1),
        }
        let seed = self.submission.sampler.seed();
        let is_satisfied = self.submission.gate.as_mut().map(Gate::is_satisfied);
        (self.submission.sink)(Event::Finished(Finished { reason, usage, seed, is_satisfied }));
    }

    fn fail(mut self, failure: Failure, figures: &Figures) {
        let mut pieces = Vec::new();
        self.submission.text.finish(&mut pieces);
        self.show(pieces);
        self.end(figures);
        figures.failed.add(1);
        (self.submission.sink)(Event::Failed(failure));
    }

    /// What it took.
    fn end(&self, figures: &Figures) -> Usage {
        let prompt_done = self.prompt_done.unwrap_or_else(Instant::now);
        let usage = Usage {
            prompt_tokens: self.submission.request.prompt.len(),
            cached_tokens: self.n_cached,
            generated_tokens: self.n_generated,
            prompt_time: prompt_done - self.started,
            generation_time: prompt_done.elapsed(),
        };
        figures.running.sub(1);
        figures.prompt_time.add_time(usage.prompt_time);
        figures.generation_time.add_time(usage.generation_time);
        figures.answer_time.observe(self.submission.submitted.elapsed());
        usage
    }
}

/// Contexts are counted in 31 bits, which the forward pass has checked.
fn position(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
