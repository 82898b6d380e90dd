//! Completion and hints: names of commands, and of what each of them takes.

use super::command::{COMMANDS, Takes, find};
use super::settings;
use crate::session::Store;
use crate::terminal::visible;
use reedline::{Completer, CompletionResult, Hinter, History, SearchQuery, Span, Suggestion};
use std::path::{Path, PathBuf};

pub(super) const TOPICS: [&str; 6] = ["settings", "reasoning", "chat", "prompt", "session", "files"];

/// What is offered at once.
const MAX_OFFERED: usize = 200;

pub(super) struct CommandCompleter {
    /// The folder of sessions, if they are kept.
    sessions: Option<PathBuf>,
}

impl CommandCompleter {
    pub(super) fn new(sessions: Option<PathBuf>) -> CommandCompleter {
        CommandCompleter { sessions }
    }

    /// Where the word to be completed begins, and what it may become.
    fn offers(&self, line: &str) -> (usize, Vec<Offer>) {
        let Some(typed) = line.strip_prefix('/').filter(|typed| !typed.starts_with('/')) else {
            return (line.len(), Vec::new());
        };
        let Some((name, argument)) = typed.split_once(' ') else {
            let offer =
                |entry: &super::command::Entry| Offer::new(entry.name, Some(entry.help), entry.takes != Takes::Nothing);
            return (1, beginning_with(typed, COMMANDS.iter().map(offer)));
        };
        let Ok(entry) = find(name) else { return (line.len(), Vec::new()) };
        let start = line.len() - argument.len();
        let simple = |names: &mut dyn Iterator<Item = &'static str>, goes_on: bool| {
            let offers: Vec<Offer> = names.map(|name| Offer::new(name, None, goes_on)).collect();
            beginning_with(argument, offers.into_iter())
        };
        match entry.takes {
            Takes::Nothing | Takes::Text => (line.len(), Vec::new()),
            Takes::Command => (start, simple(&mut COMMANDS.iter().map(|entry| entry.name), false)),
            Takes::Topic => (start, simple(&mut TOPICS.into_iter(), false)),
            Takes::Setting if argument.contains(' ') => (line.len(), Vec::new()),
            Takes::Setting => (start, simple(&mut settings::keys(), true)),
            Takes::Session => (start, self.sessions(argument)),
            Takes::File => {
                let word = argument.rfind(' ').map_or(0, |at| at + 1);
                (start + word, files(argument.get(word..).unwrap_or_default()))
            }
        }
    }

    fn sessions(&self, typed: &str) -> Vec<Offer> {
        let store = self.sessions.as_deref().and_then(|folder| Store::open(Some(folder)).ok());
        let listing = store.and_then(|store| store.list().ok()).unwrap_or_default();
        let offers = listing.sessions.iter().map(|session| {
            let title = visible(&session.title).into_owned();
            Offer { value: session.id.to_string(), description: Some(title), goes_on: false }
        });
        beginning_with(typed, offers)
    }
}

struct Offer {
    value: String,
    description: Option<String>,
    /// Whether something is typed behind it.
    goes_on: bool,
}

impl Offer {
    fn new(value: &str, description: Option<&str>, goes_on: bool) -> Offer {
        Offer { value: value.to_owned(), description: description.map(str::to_owned), goes_on }
    }
}

fn beginning_with(typed: &str, offers: impl Iterator<Item = Offer>) -> Vec<Offer> {
    offers.filter(|offer| offer.value.starts_with(typed)).take(MAX_OFFERED).collect()
}

/// Files and folders whose names begin as what was typed. Names that would steer the terminal are left out: they
/// could not be typed as they are shown.
fn files(typed: &str) -> Vec<Offer> {
    let (folder, beginning) = typed.rsplit_once('/').map_or(("", typed), |(folder, rest)| (folder, rest));
    let prefix = match typed.contains('/') {
        true => format!("{folder}/"),
        false => String::new(),
    };
    let home = std::env::var("HOME").unwrap_or_default();
    let searched = match prefix.strip_prefix("~/") {
        Some(rest) => format!("{home}/{rest}"),
        None if prefix.is_empty() => ".".to_owned(),
        None => prefix.clone(),
    };
    let Ok(entries) = std::fs::read_dir(Path::new(&searched)) else { return Vec::new() };
    let mut offers: Vec<Offer> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let is_meant = name.starts_with(beginning) && (beginning.starts_with('.') || !name.starts_with('.'));
            let is_safe = !name.contains(' ') && visible(&name) == name;
            // A link to a folder is one.
            let is_folder = entry.path().is_dir();
            let value = format!("{prefix}{name}{}", if is_folder { "/" } else { "" });
            (is_meant && is_safe).then_some(Offer { value, description: None, goes_on: false })
        })
        .collect();
    offers.sort_by(|a, b| a.value.cmp(&b.value));
    offers.truncate(MAX_OFFERED);
    offers
}

impl Completer for CommandCompleter {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let typed = line.get(..pos).unwrap_or(line);
        let (start, offers) = self.offers(typed);
        let suggestions: Vec<Suggestion> = offers
            .into_iter()
            .map(|offer| Suggestion {
                value: offer.value,
                description: offer.description,
                span: Span::new(start.min(pos), pos),
                append_whitespace: offer.goes_on,
                ..Suggestion::default()
            })
            .collect();
        CompletionResult::fresh(suggestions)
    }
}

/// Shows what a command takes, or how a line went on that was typed before.
pub(super) struct CommandHinter {
    hint: String,
    /// Whether the hint can be taken over.
    is_text: bool,
}

impl CommandHinter {
    pub(super) fn new() -> CommandHinter {
        CommandHinter { hint: String::new(), is_text: false }
    }
}

impl Hinter for CommandHinter {
    fn handle(&mut self, line: &str, pos: usize, history: &dyn History, styled: bool, _cwd: &str) -> String {
        self.hint.clear();
        self.is_text = false;
        if line.is_empty() || pos < line.len() {
            return String::new();
        }
        if let Some(entry) = line.strip_prefix('/').and_then(|typed| find(typed.trim_end()).ok()) {
            let rest = line.strip_prefix('/').and_then(|typed| entry.name.strip_prefix(typed.trim_end()));
            let space = if line.ends_with(' ') { "" } else { " " };
            self.hint = format!("{}{space}{}", rest.unwrap_or_default(), entry.argument).trim_end().to_owned();
        } else if let Some(before) = last_with_beginning(history, line) {
            self.hint = before;
            self.is_text = true;
        }
        // A hint of several lines would push the line away.
        let shown = visible(self.hint.lines().next().unwrap_or_default()).into_owned();
        match styled && !shown.is_empty() {
            true => format!("\u{1b}[2m{shown}\u{1b}[0m"),
            // Without styles a hint looks like what was typed.
            false => String::new(),
        }
    }

    fn complete_hint(&self) -> String {
        if self.is_text { self.hint.clone() } else { String::new() }
    }

    fn next_hint_token(&self) -> String {
        let hint = self.complete_hint();
        let end = hint.trim_start().find(' ').map_or(hint.len(), |at| at + hint.len() - hint.trim_start().len());
        hint.get(..end).unwrap_or_default().to_owned()
    }
}

fn last_with_beginning(history: &dyn History, line: &str) -> Option<String> {
    let found = history.search(SearchQuery::last_with_prefix(line.to_owned(), history.session())).ok()?;
    found.first()?.command_line.get(line.len()..).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(line: &str) -> (usize, Vec<String>) {
        let (start, offers) = CommandCompleter::new(None).offers(line);
        (start, offers.into_iter().map(|offer| offer.value).collect())
    }

    #[test]
    fn names_and_arguments_are_completed() {
        assert_eq!(offered("/s"), (1, ["system", "set", "show", "search", "save", "stats"].map(str::to_owned).into()));
        assert_eq!(offered("/set temp"), (5, vec!["temperature".to_owned()]));
        assert_eq!(offered("/show r"), (6, vec!["reasoning".to_owned()]));
        assert_eq!(offered("/help ed"), (6, vec!["edit".to_owned()]));
        for line in ["hello", "//s", "/nosuch x", "/undo x", "/set temperature 0"] {
            assert_eq!(offered(line).1, Vec::<String>::new(), "{line}");
        }
    }

    #[test]
    fn files_are_completed_in_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["one.txt", "one.md", "two", ".hidden", "bad\u{1b}name"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("onward")).unwrap();
        let path = folder.path().to_str().unwrap();
        let line = format!("/file {path}/on");
        let expected = ["one.md", "one.txt", "onward/"].map(|name| format!("{path}/{name}")).to_vec();
        assert_eq!(offered(&line), (6, expected));
        assert_eq!(offered(&format!("/file x {path}/t")), (8, vec![format!("{path}/two")]));
        assert_eq!(offered(&format!("/file {path}/b")).1, Vec::<String>::new());
    }
}
