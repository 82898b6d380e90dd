//! The chat that is going on, and whether it is kept on the disk, with what the model has computed of it.

use super::super::output::message;
use crate::engine::Engine;
use crate::session::{Limit, Model, Room, Session, Snapshots, Store, StoreError, Transcript};
use crate::terminal::status;
use std::path::PathBuf;

/// The chat, and where it is kept.
pub(super) struct Keep {
    store: Option<Store>,
    held: Held,
    /// Whether the user was told that it cannot be saved.
    has_complained: bool,
}

enum Held {
    Session(Box<Session>),
    Memory(Box<Transcript>),
}

impl Keep {
    /// A chat that nobody has had yet. Without a store it is forgotten.
    pub(super) fn begin(store: Option<Store>, model: Model) -> Result<Keep, StoreError> {
        let transcript = Transcript::new(model);
        let held = match &store {
            Some(store) => Held::Session(Box::new(store.create(transcript)?)),
            None => Held::Memory(Box::new(transcript)),
        };
        Ok(Keep { store, held, has_complained: false })
    }

    /// A chat that was kept; a note if not all is as it was.
    pub(super) fn resume(store: Store, which: &str) -> Result<(Keep, Option<String>), StoreError> {
        let (session, note) = store.resume(which)?;
        let keep = Keep { store: Some(store), held: Held::Session(Box::new(session)), has_complained: false };
        Ok((keep, note))
    }

    /// Another chat in the place of this one.
    pub(super) fn begin_another(&mut self, model: Model) -> Result<(), StoreError> {
        *self = Keep::begin(self.store.clone(), model)?;
        Ok(())
    }

    pub(super) fn load(&mut self, which: &str) -> Result<Option<String>, StoreError> {
        let store = match &self.store {
            Some(store) => store.clone(),
            None => Store::open(None)?,
        };
        let (keep, note) = Keep::resume(store, which)?;
        *self = keep;
        Ok(note)
    }

    /// Keeps a chat that was not kept so far.
    pub(super) fn keep(&mut self) -> Result<(), StoreError> {
        if let Held::Memory(transcript) = &self.held {
            let store = Store::open(None)?;
            self.held = Held::Session(Box::new(store.create((**transcript).clone())?));
            self.store = Some(store);
        }
        if let Held::Session(session) = &mut self.held {
            session.save()?;
        }
        Ok(())
    }

    pub(super) fn transcript(&self) -> &Transcript {
        match &self.held {
            Held::Session(session) => &session.transcript,
            Held::Memory(transcript) => transcript,
        }
    }

    pub(super) fn transcript_mut(&mut self) -> &mut Transcript {
        match &mut self.held {
            Held::Session(session) => &mut session.transcript,
            Held::Memory(transcript) => transcript,
        }
    }

    /// Saves, where chats are kept. That it cannot be done is said once, and the chat goes on.
    pub(super) fn save(&mut self) {
        let Held::Session(session) = &mut self.held else { return };
        if session.transcript.is_empty() {
            return;
        }
        match session.save() {
            Ok(()) => self.has_complained = false,
            Err(error) if !self.has_complained => {
                self.has_complained = true;
                message(&format!("{error}; the chat goes on and is not saved"));
            }
            Err(_) => {}
        }
    }

    /// The file of the session.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match &self.held {
            Held::Session(session) => Some(session.path().to_owned()),
            Held::Memory(_) => None,
        }
    }

    /// Writes down what the model has computed behind `prompt`; a note if that is not possible.
    pub(super) fn snapshot(&self, engine: &Engine, prompt: &[u32]) -> Option<String> {
        let (Some(store), Held::Session(session)) = (&self.store, &self.held) else { return None };
        // What a server has cached stays there.
        if prompt.is_empty() || session.transcript.is_empty() || engine.is_attached() {
            return None;
        }
        let written = || -> anyhow::Result<Option<String>> {
            let Some(n_tokens) = engine.cached(prompt)? else { return Ok(None) };
            let snapshots = Snapshots::new(store, Limit::Default);
            match snapshots.create(session, n_tokens, engine.snapshot_bytes(n_tokens))? {
                Room::Granted(file) => {
                    let (file, _) = engine.export_cache(prompt, file)?;
                    file.finish()?;
                    Ok(None)
                }
                Room::TooShort => Ok(None),
                Room::TooLarge { n_bytes, room } => Ok(Some(format!(
                    "what was computed of this chat is not kept: it takes {} MB, and {} MB may be used",
                    status::count(usize::try_from(n_bytes >> 20).unwrap_or(usize::MAX)),
                    status::count(usize::try_from(room >> 20).unwrap_or(usize::MAX)),
                ))),
            }
        };
        written().unwrap_or_else(|error| Some(format!("what was computed of this chat is not kept: {error:#}")))
    }

    /// Gives the model what it has computed before of a prompt; a note if it has to be computed again.
    pub(super) fn restore(&self, engine: &Engine, prompt: &[u32]) -> Option<String> {
        let (Some(store), Held::Session(session)) = (&self.store, &self.held) else { return None };
        if engine.is_attached() {
            return None;
        }
        let again = |error: &dyn std::fmt::Display| Some(format!("{error}; the chat is computed again"));
        match Snapshots::new(store, Limit::Default).open(session) {
            Ok(None) => None,
            Ok(Some(file)) => match engine.import_cache(std::io::BufReader::new(file), Some(prompt)) {
                Ok(_) => None,
                Err(error) => again(&error),
            },
            Err(error) => again(&error),
        }
    }
}
