//! `cachalot chat`: a conversation on a terminal.
//!
//! - `command`: what may be typed; `actions`: what it does. `settings`: what `/set` changes; `overview`: what `/show`
//!   shows; `pending`: what goes with the next question; `branches`, `session`: the chat as a tree and on the disk.
//! - `editor`, `keys`, `complete`: where lines come from. `view`: where answers go. `clipboard`: where they may go too.
//! - `turn`: one question and its answer. `context`: what to do when there is no more room.
//! - `keep`: the chat on the disk. `terminal`, `signals`: leaving everything as it was.
//!
//! Answers go to stdout; prompts, notes and errors to stderr.

mod actions;
mod branches;
mod clipboard;
mod command;
mod complete;
mod context;
mod editor;
mod keep;
mod keys;
mod overview;
mod pending;
mod session;
mod settings;
mod signals;
mod terminal;
mod turn;
mod view;

use super::conversation::{SystemOptions, family};
use super::loading::in_words;
use super::model::{AttachOption, ModelOptions};
use super::output::message;
use super::sampling::SamplingOptions;
use super::size::{Bound, bound};
use crate::chat::{Family, Message};
use crate::engine::{self, Engine};
use crate::exit::{BadInput, Interrupted, Unwritable};
use crate::session::{Model, Question, Store, StoreError, TurnId};
use actions::Next;
use anyhow::Context;
use command::Entered;
use editor::{Editor, Input};
use keep::Keep;
use pending::Pending;
use settings::{Reasoning, Settings};
use signals::Signals;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use terminal::{Abilities, aside};
use turn::Last;
use view::{Status, View};

const PROMPT: &str = "> ";

/// Chat in the terminal
///
/// Chats are kept, and can be gone on with; /help lists what can be typed besides questions.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(mut_arg("verbose", |arg| arg.help("Say what goes where, and after each answer how fast it was")))]
pub(super) struct Args {
    /// A .gguf file, any shard of a split model, a folder that holds one model, or `demo` [default: the model of the
    /// chat that is gone on with, what `cachalot use` has set, or the demo model]
    #[arg(value_name = "MODEL", conflicts_with = "model")]
    named: Option<PathBuf>,
    /// The same
    #[arg(short, long)]
    model: Option<PathBuf>,
    /// Whether that was typed, rather than set for all chats.
    #[arg(skip)]
    pub(super) is_model_typed: bool,
    #[command(flatten)]
    system: SystemOptions,
    /// Go on with the chat that was changed last
    #[arg(long = "continue", conflicts_with = "resume")]
    goes_on: bool,
    /// Go on with a chat that was kept: its id, or the beginning of it
    #[arg(long, value_name = "SESSION")]
    resume: Option<String>,
    /// Keep neither the chat nor what was typed
    #[arg(long, conflicts_with_all = ["goes_on", "resume"])]
    no_history: bool,
    /// Print answers as they are, not as Markdown
    #[arg(long)]
    plain: bool,
    /// How a model's reasoning is shown
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    reasoning: Reasoning,
    /// Tokens of an answer at most; -1 is as many as the context holds, as without it
    #[arg(short, long, value_name = "N", value_parser = bound, allow_negative_numbers = true)]
    n_predict: Option<Bound>,
    #[command(flatten)]
    sampling: SamplingOptions,
    #[command(flatten)]
    options: ModelOptions,
    #[command(flatten)]
    attach: AttachOption,
}

const EXAMPLES: &str = "\
Examples:
  cachalot chat
  cachalot chat deepseek-v3-0324 --official -v
  cachalot chat --continue
  cachalot chat --resume 20261122-0519-k3f9 --plain";

/// A chat that is going on.
struct Chat {
    abilities: Abilities,
    plain: bool,
    options: ModelOptions,
    attach: AttachOption,
    sampling: SamplingOptions,
    /// None only while one model is exchanged for another.
    engine: Option<Engine>,
    family: Family,
    settings: Settings,
    keep: Keep,
    editor: Editor,
    signals: Signals,
    pending: Pending,
    /// The question that is being changed, with its number.
    editing: Option<(usize, Question)>,
    /// A question that was taken back before it had an answer.
    unanswered: Option<TurnId>,
    /// Whether the user left where something else was asked.
    has_left: bool,
    /// Whether the last thing that happened was that the user stopped something.
    was_stopped: bool,
    last: Option<Last>,
    last_prompt: Vec<u32>,
    /// Tokens that the model has computed, as far as they are known.
    seen: Vec<u32>,
    /// Tokens of prompts a second, as measured.
    prompt_rate: Option<f64>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    if !std::io::stdin().is_terminal() {
        let text = "chat needs a terminal to type on; `cachalot run` answers what comes through a pipe";
        return Err(BadInput::Argument(text.to_owned()).into());
    }
    let signals = Signals::listen()?;
    terminal::remember();
    let result = Chat::begin(args, signals.clone()).and_then(|mut chat| {
        let result = chat.talk();
        let is_over = result.as_ref().err().is_none_or(|error| error.is::<Interrupted>());
        if is_over && !signals.wants_to_leave() {
            chat.keep_computed();
        }
        result
    });
    terminal::restore();
    signals.die();
    result
}

impl Chat {
    fn begin(args: &Args, signals: Signals) -> anyhow::Result<Chat> {
        let abilities = Abilities::of_this_terminal();
        let store = if args.no_history { None } else { opened(Store::open(None))? };
        let which = if args.goes_on { Some("latest") } else { args.resume.as_deref() };
        let keep = match (which, &store) {
            (Some(which), Some(store)) => {
                let (keep, note) = Keep::resume(store.clone(), which)?;
                note.iter().for_each(|note| message(note));
                keep
            }
            (Some(_), None) => return Err(StoreError::NoHome.into()),
            (None, _) => Keep::begin(store.clone(), Model::default())?,
        };
        let sessions = store.as_ref().map(|store| store.folder().to_owned());
        let history = sessions.as_deref().and_then(Path::parent).map(|folder| folder.join("chat_history"));
        let editor = Editor::new(abilities, history, sessions, signals.clone())?;
        let mut chat = Chat {
            abilities,
            plain: args.plain,
            options: args.options.clone(),
            attach: args.attach.clone(),
            sampling: args.sampling.clone(),
            engine: None,
            family: Family::V3,
            settings: Settings {
                sampling: Default::default(),
                reasoning: args.reasoning,
                stats: args.options.is_verbose(),
                max_tokens: args.n_predict.and_then(|bound| bound.0),
                thinking: None,
                changed: Vec::new(),
            },
            keep,
            editor,
            signals,
            pending: Pending::default(),
            editing: None,
            unanswered: None,
            has_left: false,
            was_stopped: false,
            last: None,
            last_prompt: Vec::new(),
            seen: Vec::new(),
            prompt_rate: None,
        };
        let option = args.model.as_deref();
        let named = args.named.as_deref().or(option.filter(|_| args.is_model_typed || which.is_none()));
        let before = which.map(|_| PathBuf::from(&chat.keep.transcript().model.path));
        let before = before.as_deref().filter(|path| named.is_none() && !path.as_os_str().is_empty());
        let opened = chat.open(named.or(before));
        match before {
            Some(_) => opened.context("the model that the chat was with (-m goes on with another)")?,
            None => opened?,
        }
        chat.set_as_before();
        let model = chat.model_of_engine()?;
        let transcript = chat.keep.transcript_mut();
        transcript.model = model;
        if let Some(Message::System(text)) = args.system.message() {
            transcript.system = Some(text);
        }
        chat.greet()?;
        if which.is_some() {
            chat.take_up()?;
        }
        Ok(chat)
    }

    /// Opens a model and takes the settings that are recommended for it.
    fn open(&mut self, model: Option<&Path>) -> anyhow::Result<()> {
        let mut status = Status::new(self.abilities);
        let name = model.map_or("the model".to_owned(), |model| model.display().to_string());
        status.show(&format!("opening {name}"));
        let status = Mutex::new(status);
        let engine = match self.options.attach(model, &self.attach)? {
            Some(engine) => engine,
            None => self.options.open_watched(model, &|so_far| {
                let text = format!("opening {name}: {}", in_words(so_far));
                status.lock().unwrap_or_else(PoisonError::into_inner).show(&text);
            })?,
        };
        drop(status);
        self.options.remark(&engine);
        self.family = family(&engine);
        self.settings.sampling = self.sampling.params(&engine)?;
        self.settings
            .sampling
            .validate(engine.info().n_vocab)
            .map_err(|error| BadInput::Argument(error.to_string()))?;
        self.settings.thinking = None;
        self.engine = Some(engine);
        Ok(())
    }

    /// What was set in the chat that is gone on with.
    fn set_as_before(&mut self) {
        let n_vocab = self.engine.as_ref().map_or(0, |engine| engine.info().n_vocab);
        for (key, value) in self.keep.transcript().settings.clone() {
            if let Err(error) = self.settings.set(&key, &value, self.family, n_vocab) {
                message(&format!("{key}: {error}"));
            }
        }
    }

    fn greet(&self) -> anyhow::Result<()> {
        let info = self.engine()?.info();
        let path = info.path.display().to_string();
        let name = info.name.as_deref().unwrap_or(&path);
        self.note(&format!(
            "{name}, {} of context. /help lists the commands, Ctrl-D leaves.",
            crate::terminal::status::tokens(info.n_ctx)
        ));
        if info.n_ctx > info.n_ctx_train {
            self.note(&format!("the model was made for {} of context", info.n_ctx_train));
        }
        if self.family == Family::Base {
            self.note(
                "this is a base model: it goes on with each text that you type, and knows nothing of those before",
            );
        }
        Ok(())
    }

    fn engine(&self) -> Result<&Engine, engine::Gone> {
        self.engine.as_ref().ok_or(engine::Gone)
    }

    fn model_of_engine(&self) -> anyhow::Result<Model> {
        let info = self.engine()?.info();
        // From wherever the chat is gone on with, it is the same file.
        let path = std::fs::canonicalize(&info.path).unwrap_or_else(|_| info.path.clone());
        Ok(Model {
            path: path.display().to_string(),
            name: info.name.clone(),
            fingerprint: Some(info.fingerprint.to_string()),
        })
    }

    /// Reads and answers until the user leaves.
    fn talk(&mut self) -> anyhow::Result<()> {
        while !self.signals.wants_to_leave() {
            let editing = self.editing.take();
            let input = match &editing {
                Some((number, question)) => self.editor.read(&format!("edit {number}{PROMPT}"), &question.text),
                None => self.editor.read(PROMPT, ""),
            };
            let text = match input {
                Input::Text(text) => text,
                Input::Interrupt if editing.is_some() => continue,
                Input::Interrupt if std::mem::replace(&mut self.was_stopped, true) => return Err(Interrupted.into()),
                Input::Interrupt => {
                    aside("(Ctrl-C again, or Ctrl-D, leaves)\n");
                    continue;
                }
                Input::End => return Ok(()),
            };
            self.was_stopped = false;
            match self.handle(editing, &text) {
                Ok(Next::Go) => {}
                Ok(Next::Leave) => return Ok(()),
                Err(error) if ends_chat(&error) => return Err(error),
                Err(error) => message(&format!("{error:#}")),
            }
            editor::flush();
            if self.has_left {
                return Ok(());
            }
        }
        // Two Ctrl-C during an answer, or a signal, which ends the program in its own way.
        Err(Interrupted.into())
    }

    fn handle(&mut self, editing: Option<(usize, Question)>, text: &str) -> anyhow::Result<Next> {
        if let Some((number, old)) = editing {
            // A question may begin with a slash, so here nothing is a command.
            let text = command::question(text);
            match text.is_empty() || text == old.text {
                true => self.note("nothing is changed"),
                false => self.ask_edited(number, old, text)?,
            }
            return Ok(Next::Go);
        }
        match command::read(text)? {
            Entered::Nothing => {}
            Entered::Command(command, argument) => {
                if let Some(name) = command::spelled_out(text) {
                    self.note(&format!("/{name}"));
                }
                return self.obey(command, argument);
            }
            Entered::Question(text) => {
                let question = self.pending.question(text);
                self.ask(question)?;
            }
        }
        Ok(Next::Go)
    }

    /// Shows text as answers are shown.
    fn show_markdown(&self, text: &str) -> anyhow::Result<()> {
        let mut view = View::new(self.abilities, self.plain, self.settings.reasoning);
        view.push(&[crate::chat::Event::Content(text.to_owned())])?;
        Ok(view.finish()?)
    }
}

/// A store, or none where there is no home to keep chats in.
fn opened(store: Result<Store, StoreError>) -> Result<Option<Store>, StoreError> {
    match store {
        Ok(store) => Ok(Some(store)),
        Err(StoreError::NoHome) => {
            message("there is no home folder: this chat is not kept");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Errors after which there is nothing to go on with.
fn ends_chat(error: &anyhow::Error) -> bool {
    let is_gone = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<Unwritable>()
            || cause.is::<engine::Gone>()
            || matches!(cause.downcast_ref(), Some(engine::Failure::Gone))
            || matches!(cause.downcast_ref(), Some(engine::Refused::Gone))
    };
    error.chain().any(is_gone)
}
