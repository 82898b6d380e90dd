//! Where the user's lines come from: an editor with history and completion, or, on a terminal that can do nothing,
//! plain lines.

use super::command;
use super::complete::{CommandCompleter, CommandHinter};
use super::keys::{Keys, Late};
use super::signals::Signals;
use super::terminal::{Abilities, aside};
use crate::terminal::visible;
use crate::text::steers_terminal;
use reedline::{
    ColumnarMenu, EditCommand, Emacs, FileBackedHistory, Highlighter, HistoryItem, KeyCode, KeyModifiers, MenuBuilder,
    Prompt, PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline, ReedlineEvent, ReedlineMenu,
    Signal, StyledText, ValidationResult, Validator, default_emacs_keybindings,
};
use signal_hook::consts::SIGTSTP;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines that are remembered.
const HISTORY: usize = 5000;
const MENU: &str = "completion";
/// What the editor passes on for Ctrl-C and Ctrl-Z.
const INTERRUPT: &str = "interrupt";
const SUSPEND: &str = "suspend";

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    Text(String),
    /// Ctrl-C on a line with nothing in it.
    Interrupt,
    /// Ctrl-D, or the terminal is gone.
    End,
}

pub(super) struct Editor {
    kind: Kind,
    signals: Signals,
    /// A folder of its own for what an external editor works on.
    scratch: tempfile::TempDir,
}

enum Kind {
    Rich(Box<Rich>),
    Plain,
}

struct Rich {
    line: Reedline,
    late: Late,
    /// What was typed for this line before it began.
    typed: VecDeque<ReedlineEvent>,
}

impl Editor {
    /// `history`: the file of lines typed before, if they are remembered.
    pub(super) fn new(
        abilities: Abilities,
        history: Option<PathBuf>,
        sessions: Option<PathBuf>,
        signals: Signals,
    ) -> io::Result<Editor> {
        let scratch = tempfile::Builder::new().prefix("cachalot-").tempdir()?;
        let kind = match abilities.moves {
            false => Kind::Plain,
            true => {
                let file = scratch.path().join("message.md");
                let late = Late::default();
                let mut line = rich(abilities.styled, sessions, &signals, &file, &late);
                if let Some(path) = history {
                    line = with_history(line, &path);
                }
                Kind::Rich(Box::new(Rich { line, late, typed: VecDeque::new() }))
            }
        };
        Ok(Editor { kind, signals, scratch })
    }

    /// Reads a line behind `prompt`, which may have `text` in it already.
    pub(super) fn read(&mut self, prompt: &str, text: &str) -> Input {
        let input = match &mut self.kind {
            Kind::Rich(rich) => {
                self.signals.editing();
                if !text.is_empty() {
                    rich.line.run_edit_commands(&[EditCommand::Clear, EditCommand::InsertString(text.to_owned())]);
                }
                rich.read(prompt)
            }
            Kind::Plain => {
                self.signals.reading();
                read_plain(prompt)
            }
        };
        self.signals.busy();
        input
    }

    /// Asks for one of a few answers, which is not remembered as a line; none where the user leaves.
    pub(super) fn ask(&mut self, question: &str) -> Option<String> {
        self.signals.reading();
        let answer = match read_plain(question) {
            Input::Text(text) => Some(text.trim().to_owned()),
            Input::Interrupt | Input::End => None,
        };
        self.signals.busy();
        answer
    }

    /// Lets the user write in the editor of their choice.
    pub(super) fn write(&self, text: &str) -> Result<String, String> {
        let path = self.scratch.path().join("edit.md");
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        let (program, arguments) = editor_command();
        let status = Command::new(&program).args(arguments).arg(&path).status();
        match status {
            Ok(status) if status.success() => {
                std::fs::read_to_string(&path).map_err(|error| format!("what {program} wrote: {error}"))
            }
            Ok(status) => Err(format!("{program} ended with {status}; nothing is sent")),
            Err(error) => Err(format!("{program} cannot be run: {error}; set EDITOR")),
        }
    }
}

/// `$VISUAL` or `$EDITOR`, with arguments if it has any.
fn editor_command() -> (String, Vec<String>) {
    let set = ["VISUAL", "EDITOR"].into_iter().filter_map(|name| std::env::var(name).ok());
    let words = set.filter_map(|value| shlex::split(&value)).find(|words| !words.is_empty());
    let mut words = words.unwrap_or_else(|| vec!["vi".to_owned()]).into_iter();
    (words.next().unwrap_or_default(), words.collect())
}

fn rich(styled: bool, sessions: Option<PathBuf>, signals: &Signals, file: &Path, late: &Late) -> Reedline {
    let mut keys = default_emacs_keybindings();
    let complete = ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext]);
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, complete);
    for (key, command) in [('c', INTERRUPT), ('z', SUSPEND)] {
        let event = ReedlineEvent::ExecuteHostCommand(command.to_owned());
        keys.add_binding(KeyModifiers::CONTROL, KeyCode::Char(key), event);
    }
    let (program, arguments) = editor_command();
    let mut editor = Command::new(program);
    editor.args(arguments).arg(file);
    Reedline::create()
        .with_edit_mode(Box::new(Keys::new(Emacs::new(keys), late.clone())))
        .with_validator(Box::new(Quotes))
        .with_completer(Box::new(CommandCompleter::new(sessions)))
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(ColumnarMenu::default().with_name(MENU))))
        .with_hinter(Box::new(CommandHinter::new()))
        .with_highlighter(Box::new(Uncoloured))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_ansi_colors(styled)
        .with_buffer_editor(editor, file.to_owned())
        .with_break_signal(signals.break_editor())
        .use_bracketed_paste(true)
        // Asking a terminal that does not know the protocol takes two seconds.
        .use_kitty_keyboard_enhancement(knows_kitty_protocol())
}

/// Whether the terminal says of itself that it tells Shift-Enter from Enter.
fn knows_kitty_protocol() -> bool {
    let known = ["kitty", "foot", "ghostty", "wezterm", "alacritty", "iterm"];
    let says = |name: &str| std::env::var(name).unwrap_or_default().to_lowercase();
    let names = [says("TERM"), says("TERM_PROGRAM")];
    // Behind a multiplexer it is the multiplexer that answers.
    std::env::var_os("TMUX").is_none() && names.iter().any(|name| known.iter().any(|known| name.contains(known)))
}

/// Without a history that can be kept, there is one for as long as the program runs.
fn with_history(line: Reedline, path: &Path) -> Reedline {
    match private_file(path).map(|()| FileBackedHistory::with_file(HISTORY, path.to_owned())) {
        Ok(Ok(history)) => line.with_history(Box::new(history)),
        Ok(Err(error)) => unkept(line, path, &error.to_string()),
        Err(error) => unkept(line, path, &error.to_string()),
    }
}

fn unkept(line: Reedline, path: &Path, error: &str) -> Reedline {
    super::super::output::message(&format!("{}: {error}; lines are not remembered", path.display()));
    line
}

/// Makes a file that nobody else may read, where there is none.
fn private_file(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(drop)
}

impl Rich {
    fn read(&mut self, prompt: &str) -> Input {
        loop {
            let signal = match self.play(prompt) {
                Some(signal) => Ok(signal),
                None => self.line.read_line(&Shown(prompt)),
            };
            self.typed.extend(self.late.take());
            match signal {
                Ok(Signal::Success(text)) => {
                    // Now rather than at the end, which may not come.
                    let _ = self.line.sync_history();
                    return Input::Text(text);
                }
                Ok(Signal::HostCommand(command)) if command == SUSPEND => suspend(),
                Ok(Signal::HostCommand(_)) if self.line.current_buffer_contents().is_empty() => {
                    aside("\r\n");
                    return Input::Interrupt;
                }
                Ok(Signal::HostCommand(_)) => self.line.run_edit_commands(&[EditCommand::Clear]),
                Ok(Signal::CtrlC) => return Input::Interrupt,
                Ok(_) | Err(_) => {
                    aside("\r\n");
                    return Input::End;
                }
            }
        }
    }

    /// Puts what was typed before into the line, up to what ends it. Keys that move in the history or open menus
    /// need a line that is shown, and do nothing.
    fn play(&mut self, prompt: &str) -> Option<Signal> {
        while let Some(event) = self.typed.pop_front() {
            let text = self.line.current_buffer_contents().to_owned();
            match event {
                ReedlineEvent::Edit(commands) => self.line.run_edit_commands(&commands),
                ReedlineEvent::Enter if command::is_open(&text) => {
                    self.line.run_edit_commands(&[EditCommand::InsertNewline]);
                }
                ReedlineEvent::Enter => {
                    self.line.run_edit_commands(&[EditCommand::Clear]);
                    if !text.is_empty() {
                        let _ = self.line.history_mut().save(HistoryItem::from_command_line(&text));
                    }
                    aside(&format!("\r{prompt}{}\u{1b}[K\n", visible(&text)));
                    return Some(Signal::Success(text));
                }
                ReedlineEvent::CtrlD if text.is_empty() => return Some(Signal::CtrlD),
                ReedlineEvent::ExecuteHostCommand(command) => return Some(Signal::HostCommand(command)),
                _ => {}
            }
        }
        None
    }
}

/// Stops the program, as Ctrl-Z does with any, until its shell lets it go on. The editor has given the terminal back;
/// where no shell could let it go on, the system does not stop it.
fn suspend() {
    aside("\r\n");
    let _ = signal_hook::low_level::raise(SIGTSTP);
}

/// A line, or several between quotes, from a terminal that does its own editing.
fn read_plain(prompt: &str) -> Input {
    let mut text = String::new();
    let mut prompt = prompt;
    loop {
        aside(prompt);
        let mut line = Vec::new();
        match io::stdin().lock().read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => {
                aside("\n");
                return Input::End;
            }
            Ok(_) => text.push_str(&String::from_utf8_lossy(&line)),
        }
        if !command::is_open(&text) {
            let n = text.trim_end_matches(['\n', '\r']).len();
            text.truncate(n);
            return Input::Text(text);
        }
        prompt = MORE;
    }
}

const MORE: &str = ". ";

/// The line goes on where quotes are open.
struct Quotes;

impl Validator for Quotes {
    fn validate(&self, line: &str) -> ValidationResult {
        match command::is_open(line) {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Complete,
        }
    }
}

/// What is typed has the terminal's own colour, which suits its background. What was pasted or taken from a file
/// cannot steer the terminal.
struct Uncoloured;

impl Highlighter for Uncoloured {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        let mut text = StyledText::new();
        text.push((Default::default(), harmless(line)));
        text
    }
}

/// The line with something to see in the place of what steers a terminal, each of as many bytes: the editor finds
/// the cursor by counting them.
fn harmless(line: &str) -> String {
    let shown = |c: char| match (steers_terminal(c), c.len_utf8()) {
        (false, _) => c,
        (true, 1) => '?',
        (true, 2) => '¿',
        (true, _) => char::REPLACEMENT_CHARACTER,
    };
    line.chars().map(shown).collect()
}

struct Shown<'a>(&'a str);

impl Prompt for Shown<'_> {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.0)
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed(MORE)
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "nothing ",
        };
        Cow::Owned(format!("({failing}typed before with '{}') ", search.term))
    }
}

/// Flushes what a command printed.
pub(super) fn flush() {
    let _ = io::stdout().flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_long_as_it_looks() {
        let line = "a\u{1b}[2J\u{9b}é\u{202e}深\n\t";
        let shown = harmless(line);
        assert_eq!(shown, "a?[2J¿é\u{fffd}深\n\t");
        assert_eq!(shown.len(), line.len());
    }
}
