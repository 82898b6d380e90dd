//! What the commands do.

use super::Chat;
use super::clipboard;
use super::command::{self, Command};
use super::complete::TOPICS;
use super::terminal::aside;
use super::turn::Pace;
use super::view::{Status, dimmed};
use crate::chat::official;
use crate::chat::search::{SearchResult, read_results, with_results};
use crate::cli::input::Input;
use crate::cli::new_file::NewFile;
use crate::cli::output::message;
use crate::exit::{BadInput, CannotWrite};
use crate::session::{Answer, Attachment, Body, Question, TurnId, export};
use crate::terminal::{status, visible};
use crate::text::Clipped;
use anyhow::Context;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What goes with the next question.
#[derive(Debug, Default)]
pub(super) struct Pending {
    files: Vec<Attachment>,
    /// Search results, and the file that they stand in.
    results: Option<(String, Vec<SearchResult>)>,
}

impl Pending {
    /// The question, with all that goes with it.
    pub(super) fn question(&mut self, text: String) -> Question {
        let Pending { files, results } = std::mem::take(self);
        let framed = results.map(|(_, results)| {
            let frames: Vec<official::File> =
                files.iter().map(|file| official::File { name: &file.name, content: &file.content }).collect();
            official::with_files(&frames, &with_results(&results, &text, official::today()))
        });
        Question { text, attachments: files, framed }
    }

    fn names(&self) -> Vec<String> {
        let size = |file: &Attachment| format!("{} ({} bytes)", file.name, status::count(file.content.len()));
        let results = self.results.iter().map(|(name, results)| format!("{name} ({} search results)", results.len()));
        self.files.iter().map(size).chain(results).collect()
    }
}

/// What the loop does after a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Go,
    Leave,
}

impl Chat {
    pub(super) fn obey(&mut self, command: Command, argument: &str) -> anyhow::Result<Next> {
        match command {
            Command::Help => self.help(argument)?,
            Command::System => self.system(argument),
            Command::Set => self.set(argument)?,
            Command::Show => self.show(argument)?,
            Command::File => self.attach(argument)?,
            Command::Search => self.attach_results(argument)?,
            Command::Regen => self.regenerate()?,
            Command::Edit => self.edit(argument)?,
            Command::Undo => self.undo()?,
            Command::Fork => self.fork(argument)?,
            Command::Branches => self.branches(argument)?,
            Command::Save => self.save(argument)?,
            Command::Load => self.load(argument)?,
            Command::Export => self.export(argument)?,
            Command::Copy => self.copy(argument)?,
            Command::Clear => self.clear()?,
            Command::Stats => aside(&format!("{}\n", self.stats()?)),
            Command::Model => self.model(argument)?,
            Command::Quit => return Ok(Next::Leave),
        }
        Ok(Next::Go)
    }

    fn help(&self, argument: &str) -> anyhow::Result<()> {
        if argument.is_empty() {
            aside(&command::help());
            return Ok(());
        }
        let entry = command::find(argument.trim_start_matches('/'))?;
        aside(&format!("/{} {}: {}\n", entry.name, entry.argument, entry.help));
        Ok(())
    }

    fn system(&mut self, argument: &str) {
        let transcript = self.keep.transcript_mut();
        match argument {
            "" => {
                let text = transcript.system.as_deref().map_or("the model is told nothing first".into(), visible);
                aside(&format!("{text}\n"));
                return;
            }
            "-" => transcript.system = None,
            text => transcript.system = Some(text.to_owned()),
        }
        self.keep.save();
        self.note("from the next answer on");
    }

    fn set(&mut self, argument: &str) -> anyhow::Result<()> {
        if argument.is_empty() {
            aside(&self.settings.show());
            return Ok(());
        }
        let (key, value) =
            argument.split_once([' ', '=']).ok_or_else(|| bad("a key and a value: /set temperature 0.3"))?;
        let n_vocab = self.engine()?.info().n_vocab;
        self.settings.set(key, value.trim(), self.family, n_vocab)?;
        if let Some((key, value)) = self.settings.changed.last() {
            self.note(&format!("{key}: {value}"));
        }
        let settings = self.settings.changed.iter().cloned().collect();
        self.keep.transcript_mut().settings = settings;
        Ok(())
    }

    fn show(&mut self, topic: &str) -> anyhow::Result<()> {
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

    fn show_files(&self) {
        match self.pending.names().as_slice() {
            [] => self.note("nothing goes with the next question"),
            names => names.iter().for_each(|name| aside(&format!("  {}\n", visible(name)))),
        }
    }

    fn attach(&mut self, argument: &str) -> anyhow::Result<()> {
        match argument {
            "" => self.show_files(),
            "-" => self.pending = Pending::default(),
            paths => {
                let paths = shlex::split(paths).ok_or_else(|| bad("a quote in the names of files is not closed"))?;
                let mut files = Vec::new();
                for path in paths {
                    let path = from_home(&path);
                    let content = Input::open(&path)?.prose()?;
                    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
                    files.push(Attachment { name, content });
                }
                for file in files {
                    let n_tokens = self.engine()?.tokenizer().encode_content(&file.content).len();
                    self.note(&format!("{}: {} with the next question", file.name, status::tokens(n_tokens)));
                    self.pending.files.push(file);
                }
            }
        }
        Ok(())
    }

    fn attach_results(&mut self, argument: &str) -> anyhow::Result<()> {
        if argument.is_empty() {
            return Err(bad("a JSON file with search results: /search results.json").into());
        }
        let path = from_home(argument);
        let text = Input::open(&path)?.prose()?;
        let results = read_results(&text).with_context(|| path.display().to_string())?;
        self.note(&format!("{} search results with the next question", results.len()));
        self.pending.results = Some((path.display().to_string(), results));
        Ok(())
    }

    fn regenerate(&mut self) -> anyhow::Result<()> {
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

    fn edit(&mut self, argument: &str) -> anyhow::Result<()> {
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
        let mut question = self.pending.question(text);
        question.attachments.splice(0..0, old.attachments);
        if let (Some(_), Some(_)) = (&old.framed, &question.framed) {
            self.note("the search results are those given now");
        } else if old.framed.is_some() {
            self.note("without the search results that it had; /search gives them again");
        }
        let asked = self.keep.transcript_mut().edit(number, question)?;
        self.answer(asked)
    }

    fn undo(&mut self) -> anyhow::Result<()> {
        let undone = self.keep.transcript_mut().undo().ok_or_else(|| bad("there is nothing to undo"))?;
        self.unanswered = None;
        let question = self.keep.transcript().turn(undone).and_then(|turn| turn.question());
        let text = question.map(|question| Clipped(question.text.trim()).to_string()).unwrap_or_default();
        self.keep.save();
        self.note(&format!("back to before: {text}"));
        Ok(())
    }

    fn fork(&mut self, argument: &str) -> anyhow::Result<()> {
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

    fn branches(&mut self, argument: &str) -> anyhow::Result<()> {
        let branches = self.keep.transcript().branches();
        if argument.is_empty() {
            if branches.is_empty() {
                self.note("nothing was said yet");
            }
            for (number, branch) in (1..).zip(&branches) {
                let mark = if branch.is_current { '*' } else { ' ' };
                let last = branch.last_question.as_deref().unwrap_or_default();
                aside(&format!("{mark} {number}  {} turns, last: {}\n", branch.n_turns, Clipped(last)));
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

    fn save(&mut self, title: &str) -> anyhow::Result<()> {
        if self.keep.transcript().is_empty() {
            return Err(bad("nothing was said yet").into());
        }
        if !title.is_empty() {
            self.keep.transcript_mut().set_title(title);
        }
        self.keep.keep()?;
        let id = self.keep.transcript().id.to_string();
        self.note(&format!("kept as {id}; `cachalot chat --resume {id}` goes on with it"));
        Ok(())
    }

    fn load(&mut self, which: &str) -> anyhow::Result<()> {
        if which.is_empty() {
            return Err(bad("the session to go on with: /load latest, or an id").into());
        }
        let note = self.keep.load(which)?;
        note.iter().for_each(|note| message(note));
        self.forget_answers();
        self.take_up();
        Ok(())
    }

    fn export(&mut self, argument: &str) -> anyhow::Result<()> {
        if argument.is_empty() {
            return Err(bad("the file to write: /export chat.md, or /export chat.json").into());
        }
        let path = from_home(argument);
        let transcript = self.keep.transcript();
        let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let text = match is_json {
            true => serde_json::to_string_pretty(&export::json(transcript))? + "\n",
            false => export::markdown(transcript),
        };
        let mut file = NewFile::create(&path)?;
        file.write_all(text.as_bytes()).map_err(|error| CannotWrite { path: path.clone(), error })?;
        file.finish()?;
        self.note(&format!("written to {}", path.display()));
        Ok(())
    }

    fn copy(&self, what: &str) -> anyhow::Result<()> {
        let answer = self.last_answer().ok_or_else(|| bad("there is no answer yet"))?;
        let text = match what {
            "" => answer.content.clone(),
            "code" => clipboard::last_code(&answer.content).ok_or_else(|| bad("the last answer has no code"))?,
            _ => return Err(bad("/copy takes the last answer, /copy code its last code").into()),
        };
        let how = clipboard::copy(&text, self.abilities).map_err(BadInput::Argument)?;
        self.note(&how);
        Ok(())
    }

    fn clear(&mut self) -> anyhow::Result<()> {
        let system = self.keep.transcript().system.clone();
        let model = self.keep.transcript().model.clone();
        self.keep.begin_another(model)?;
        self.keep.transcript_mut().system = system;
        self.forget_answers();
        self.note("a new chat; /load goes on with one that was kept");
        Ok(())
    }

    fn model(&mut self, name: &str) -> anyhow::Result<()> {
        if name.is_empty() {
            let info = self.engine()?.info();
            let called = info.name.as_deref().unwrap_or("(the file has no name for it)");
            aside(&format!("{}: {}, {}\n", visible(&info.path.display().to_string()), visible(called), self.family));
            return Ok(());
        }
        let old = self.engine()?.info().path.clone();
        // Two models may be more than the memory holds.
        self.engine = None;
        let settings = self.settings.clone();
        if let Err(error) = self.open(Some(&from_home(name))) {
            message(&format!("{error:#}"));
            self.open(Some(&old))?;
            self.settings = settings;
            self.seen.clear();
            self.last_prompt.clear();
            self.note(&format!("still {}", old.display()));
            return Ok(());
        }
        let n_vocab = self.engine()?.info().n_vocab;
        for (key, value) in std::mem::take(&mut self.settings.changed) {
            if let Err(error) = self.settings.set(&key, &value, self.family, n_vocab) {
                message(&format!("{key}: {error}; it is as the new model's makers recommend"));
            }
        }
        let model = self.model_of_engine()?;
        self.keep.transcript_mut().model = model;
        self.keep.save();
        self.seen.clear();
        self.last_prompt.clear();
        self.prompt_rate = None;
        self.note(&format!("on with {}; the chat is read again with the next question", name));
        Ok(())
    }

    /// Gives the model what was computed before of the chat that is taken up, and says where it stands.
    pub(super) fn take_up(&mut self) {
        let transcript = self.keep.transcript();
        let ends_with_question = transcript.path().last().is_some_and(|turn| matches!(turn.body, Body::User(_)));
        let (id, title) = (transcript.id.to_string(), transcript.title());
        if ends_with_question {
            self.unanswered = self.keep.transcript_mut().undo();
        }
        self.note(&format!("{id}: {title}"));
        if let Err(error) = self.restore_computed() {
            message(&format!("{error:#}"));
        }
        if ends_with_question {
            self.note("the last question has no answer: /regen asks it again");
        }
    }

    fn restore_computed(&mut self) -> anyhow::Result<()> {
        let conversation = self.conversation();
        if conversation.messages.is_empty() {
            return Ok(());
        }
        let ids = self.encode(&self.prompt(&conversation)?)?;
        let mut status = Status::new(self.abilities);
        Pace::new(ids.len(), None).show(&mut status);
        let note = self.keep.restore(self.engine()?, &ids);
        status.clear();
        match note {
            Some(note) => message(&note),
            None => self.seen = ids,
        }
        Ok(())
    }

    fn last_answer(&self) -> Option<&Answer> {
        self.keep.transcript().path().into_iter().rev().find_map(|turn| match &turn.body {
            Body::Assistant(answer) => Some(answer),
            _ => None,
        })
    }

    fn last_reasoning(&self) -> Option<String> {
        self.last_answer().and_then(|answer| answer.reasoning.clone())
    }

    fn forget_answers(&mut self) {
        self.last = None;
        self.last_prompt.clear();
        self.seen.clear();
        self.unanswered = None;
        self.pending = Pending::default();
    }
}

fn number(text: &str) -> Result<usize, BadInput> {
    text.parse().map_err(|_| bad(&format!("'{text}' is no number")))
}

fn bad(text: &str) -> BadInput {
    BadInput::Argument(text.to_owned())
}

/// A path, with `~/` for the home folder; a model's name stays as it is.
fn from_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(path),
    }
}
