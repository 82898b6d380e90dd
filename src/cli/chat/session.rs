//! The chat as a session: keeping it, taking one up that was kept, writing it to a file, beginning another.

use super::Chat;
use super::actions::{bad, from_home};
use super::pending::Pending;
use super::turn::Pace;
use super::view::Status;
use crate::cli::new_file::NewFile;
use crate::cli::output::message;
use crate::exit::CannotWrite;
use crate::session::{Body, export};
use std::io::Write;

impl Chat {
    pub(super) fn save(&mut self, title: &str) -> anyhow::Result<()> {
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

    pub(super) fn load(&mut self, which: &str) -> anyhow::Result<()> {
        if which.is_empty() {
            return Err(bad("the session to go on with: /load latest, or an id").into());
        }
        let note = self.keep.load(which)?;
        note.iter().for_each(|note| message(note));
        self.forget_answers();
        self.take_up()
    }

    pub(super) fn export(&mut self, argument: &str) -> anyhow::Result<()> {
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

    pub(super) fn clear(&mut self) -> anyhow::Result<()> {
        let system = self.keep.transcript().system.clone();
        let model = self.keep.transcript().model.clone();
        self.keep.begin_another(model)?;
        self.keep.transcript_mut().system = system;
        self.forget_answers();
        self.note("a new chat; /load goes on with one that was kept");
        Ok(())
    }

    /// Gives the model what was computed before of the chat that is taken up, and shows where it stands.
    pub(super) fn take_up(&mut self) -> anyhow::Result<()> {
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
        self.show_last_exchange()
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

    fn forget_answers(&mut self) {
        self.last = None;
        self.last_prompt.clear();
        self.seen.clear();
        self.unanswered = None;
        self.pending = Pending::default();
    }
}
