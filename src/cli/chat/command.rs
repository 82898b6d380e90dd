//! What may be typed instead of a question: the commands, their names and what they take.
//!
//! Owns the reading of them; carrying them out is for [`super::actions`].

use crate::cli::nearest::nearest;
use crate::terminal::line::fill;
use crate::text::Escaped;

/// A command, as it was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    System,
    Set,
    Show,
    File,
    Search,
    Regen,
    Edit,
    Undo,
    Fork,
    Branches,
    Save,
    Load,
    Export,
    Copy,
    Clear,
    Stats,
    Model,
    Quit,
}

/// What a command's argument is, for completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Text,
    File,
    Setting,
    Topic,
    Session,
    Command,
}

pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) command: Command,
    /// As help shows it.
    pub(super) argument: &'static str,
    pub(super) takes: Takes,
    pub(super) help: &'static str,
}

const fn entry(
    name: &'static str,
    command: Command,
    argument: &'static str,
    takes: Takes,
    help: &'static str,
) -> Entry {
    Entry { name, command, argument, takes, help }
}

pub(super) const COMMANDS: [Entry; 19] = [
    entry("help", Command::Help, "[COMMAND]", Takes::Command, "this list, or more about one command"),
    entry("system", Command::System, "[TEXT|-]", Takes::Text, "what the model is told first; - takes it away"),
    entry("set", Command::Set, "[KEY VALUE]", Takes::Setting, "change how answers are made or shown"),
    entry("show", Command::Show, "[TOPIC]", Takes::Topic, "settings, reasoning, chat, prompt, session, files"),
    entry("file", Command::File, "[FILE...|-]", Takes::File, "put text files to the next question; - takes them away"),
    entry("search", Command::Search, "FILE", Takes::File, "answer the next question from search results (JSON)"),
    entry("regen", Command::Regen, "", Takes::Nothing, "answer the last question again, beside the old answer"),
    entry(
        "edit",
        Command::Edit,
        "[N]",
        Takes::Text,
        "change question N and go on from there; without N, write in $EDITOR",
    ),
    entry("undo", Command::Undo, "", Takes::Nothing, "go back to before the last question"),
    entry("fork", Command::Fork, "N", Takes::Text, "go on from behind question N, in another branch"),
    entry("branches", Command::Branches, "[N]", Takes::Text, "list the branches of this chat, or go to one"),
    entry("save", Command::Save, "[TITLE]", Takes::Text, "keep this chat, under a title"),
    entry("load", Command::Load, "SESSION", Takes::Session, "go on with another chat that was kept"),
    entry("export", Command::Export, "FILE", Takes::File, "write this chat to a file: .md, or .json with all branches"),
    entry("copy", Command::Copy, "[code]", Takes::Text, "the last answer, or its last code, to the clipboard"),
    entry("clear", Command::Clear, "", Takes::Nothing, "begin a new chat"),
    entry("stats", Command::Stats, "", Takes::Nothing, "how fast the last answer was, how full the context is"),
    entry("model", Command::Model, "[MODEL]", Takes::File, "which model this is, or go on with another"),
    entry("quit", Command::Quit, "", Takes::Nothing, "leave (also Ctrl-D)"),
];

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entered<'a> {
    Nothing,
    Question(String),
    Command(Command, &'a str),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    #[error(
        "there is no command /{}; did you mean /{near}? (a message that begins with / is sent as //...)",
        Escaped(name)
    )]
    Unknown { name: String, near: &'static str },
    #[error("there is no command /{}; /help lists them (a message that begins with / is sent as //...)", Escaped(.0))]
    Strange(String),
}

/// Reads what was entered: a command, a question, or a question between `"""` and `"""`.
pub(super) fn read(text: &str) -> Result<Entered<'_>, CommandError> {
    if text.trim().is_empty() {
        return Ok(Entered::Nothing);
    }
    if let Some(rest) = text.strip_prefix("//") {
        return Ok(Entered::Question(format!("/{rest}")));
    }
    let Some(command) = text.strip_prefix('/') else {
        return Ok(Entered::Question(question(text)));
    };
    let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let found = find(name)?;
    Ok(Entered::Command(found.command, argument.trim()))
}

/// The text as a question, whatever it begins with.
pub(super) fn question(text: &str) -> String {
    match text.trim().strip_prefix(QUOTES) {
        Some(inner) => inner.strip_suffix(QUOTES).unwrap_or(inner).trim_matches('\n').to_owned(),
        None => text.trim().to_owned(),
    }
}

/// What a question of several lines stands between.
pub(super) const QUOTES: &str = "\"\"\"";

/// Whether the text opens with quotes that nothing closes yet.
pub(super) fn is_open(text: &str) -> bool {
    let text = text.trim();
    text.strip_prefix(QUOTES).is_some_and(|rest| !rest.ends_with(QUOTES))
}

/// The command of that name, or of that beginning if only one has it.
pub(super) fn find(name: &str) -> Result<&'static Entry, CommandError> {
    if let Some(entry) = COMMANDS.iter().find(|entry| entry.name == name) {
        return Ok(entry);
    }
    let mut beginning = COMMANDS.iter().filter(|entry| !name.is_empty() && entry.name.starts_with(name));
    if let (Some(entry), None) = (beginning.next(), beginning.next()) {
        return Ok(entry);
    }
    Err(match nearest(name, COMMANDS.iter().map(|entry| entry.name)) {
        Some(near) => CommandError::Unknown { name: name.to_owned(), near },
        None => CommandError::Strange(name.to_owned()),
    })
}

/// The whole name of the command that a line begins with, if only the beginning was typed.
pub(super) fn spelled_out(text: &str) -> Option<&'static str> {
    let typed = text.strip_prefix('/')?.split(char::is_whitespace).next()?;
    find(typed).ok().map(|entry| entry.name).filter(|name| *name != typed)
}

const KEYS: [(&str, &str); 7] = [
    ("Alt-Enter", "break the line; or a message between \"\"\" and \"\"\"; pasted text stays whole"),
    ("Ctrl-O", "write in $EDITOR"),
    ("Ctrl-R", "search what was typed before"),
    ("Tab", "complete a command, setting, file or session"),
    ("Ctrl-C", "stop the answer; on an empty line twice: leave"),
    ("Ctrl-D", "leave"),
    ("Ctrl-Z", "suspend; fg goes on"),
];

/// The list of commands, in lines of so many columns.
pub(super) fn help(columns: usize) -> String {
    let usage = |entry: &Entry| format!("/{} {}", entry.name, entry.argument);
    let wide = COMMANDS.iter().map(|entry| usage(entry).len()).max().unwrap_or(0);
    let commands = COMMANDS.iter().map(|entry| (usage(entry), entry.help));
    let keys = KEYS.iter().map(|(key, help)| ((*key).to_owned(), *help));
    let row = |(name, help): (String, &str)| fill(&format!("  {name:wide$}  {help}"), columns, wide + 4) + "\n";
    let about = "A command may be shortened to a beginning that no other has: /br is /branches. \
                 A message that begins with / is sent as //...";
    let about = fill(about, columns, 0);
    format!("{}\n{}\n{about}\n", commands.map(row).collect::<String>(), keys.map(row).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_questions_or_commands() {
        let question = |text: &str| Ok(Entered::Question(text.to_owned()));
        for (line, expected) in [
            ("  ", Ok(Entered::Nothing)),
            ("why? ", question("why?")),
            (" /etc/passwd is what?", question("/etc/passwd is what?")),
            ("//quit", question("/quit")),
            ("\"\"\"\na\n  b\n\"\"\"", question("a\n  b")),
            ("\"\"\"one\"\"\"", question("one")),
            ("/set temp 0.3", Ok(Entered::Command(Command::Set, "temp 0.3"))),
            ("/q", Ok(Entered::Command(Command::Quit, ""))),
            ("/edit\n2", Ok(Entered::Command(Command::Edit, "2"))),
            ("/cleer", Err(CommandError::Unknown { name: "cleer".to_owned(), near: "clear" })),
            // Several begin so.
            ("/s", Err(CommandError::Unknown { name: "s".to_owned(), near: "set" })),
            ("/0\u{1b}[", Err(CommandError::Strange("0\u{1b}[".to_owned()))),
        ] {
            let read = read(line);
            match (&expected, &read) {
                (Err(CommandError::Unknown { name, .. }), Err(CommandError::Unknown { name: found, .. })) => {
                    assert_eq!(name, found);
                }
                _ => assert_eq!(read, expected, "{line:?}"),
            }
        }
        assert!(CommandError::Strange("0\u{1b}[".to_owned()).to_string().contains(r"\u{1b}["));
    }

    #[test]
    fn a_shortened_name_is_spelled_out() {
        for (line, name) in
            [("/q", Some("quit")), ("/br 2", Some("branches")), ("/quit", None), ("/s", None), ("q", None)]
        {
            assert_eq!(spelled_out(line), name, "{line}");
        }
        assert!(help(60).lines().all(|line| line.chars().count() <= 60), "{}", help(60));
    }

    #[test]
    fn quotes_stay_open_until_they_are_closed() {
        assert!(is_open("\"\"\"a") && is_open("\"\"\"\na\n\"\"") && is_open("\"\"\""));
        assert!(!is_open("\"\"\"a\"\"\"") && !is_open("a \"\"\"") && !is_open(""));
    }

    #[test]
    fn every_command_is_in_the_help() {
        let help = help(200);
        for entry in &COMMANDS {
            assert!(help.contains(&format!("/{} ", entry.name)) && help.contains(entry.help), "{}", entry.name);
            assert_eq!(find(entry.name).map(|found| found.command), Ok(entry.command));
        }
    }
}
