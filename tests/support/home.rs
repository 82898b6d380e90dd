//! A user with chats of their own.

use super::parity::Fixture;
use super::terminal::{Setup, Terminal};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

pub const SIZE: (u16, u16) = (30, 90);

/// The test model never ends an answer.
pub const ENDLESS: &str = "logit_bias=1:-inf";

/// A folder for chats, and what starts a chat there.
pub struct Home(TempDir);

impl Home {
    pub fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A chat with a model that answers at random, at most so many tokens.
    pub fn chat(&self, model: &Fixture, args: &[&str]) -> Terminal {
        self.chat_with(model, args, &[])
    }

    pub fn chat_with(&self, model: &Fixture, args: &[&str], env: &[(&str, &str)]) -> Terminal {
        self.chat_at(&model.path, args, env)
    }

    pub fn chat_at(&self, model: &Path, args: &[&str], env: &[(&str, &str)]) -> Terminal {
        let args = [&["chat", model.to_str().unwrap(), "-t", "1", "--temp", "0", "--set", ENDLESS], args].concat();
        let mut terminal = Terminal::start(&Setup { args: &args, state: self.path(), env, size: SIZE });
        terminal.until_prompt();
        terminal
    }

    pub fn transcript(&self) -> serde_json::Value {
        let folder = self.path().join("cachalot/sessions");
        let is_transcript = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "json");
        let mut paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(is_transcript);
        let path = paths.next().unwrap();
        assert_eq!(paths.next(), None);
        let file: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        file["session"].clone()
    }
}
