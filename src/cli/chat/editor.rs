//! Where the user's lines come from: an editor with history and completion, or, on a terminal that can do nothing,
//! plain lines.

use super::command;
use super::complete::{CommandCompleter, CommandHinter};
use super::signals::Signals;
use super::terminal::{Abilities, aside};
use reedline::{
    ColumnarMenu, EditCommand, Emacs, FileBackedHistory, Highlighter, KeyCode, KeyModifiers, MenuBuilder, Prompt,
    PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline, ReedlineEvent, ReedlineMenu, Signal,
    StyledText, ValidationResult, Validator, default_emacs_keybindings,
};
use std::borrow::Cow;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines that are remembered.
const HISTORY: usize = 5000;
const MENU: &str = "completion";
/// What the editor passes on for Ctrl-C.
const INTERRUPT: &str = "interrupt";

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
    Rich(Box<Reedline>),
    Plain,
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
                let mut line = rich(abilities.styled, sessions, &signals, &file);
                if let Some(path) = history {
                    line = with_history(line, &path);
                }
                Kind::Rich(Box::new(line))
            }
        };
        Ok(Editor { kind, signals, scratch })
    }

    /// Reads a line behind `prompt`, which may have `text` in it already.
    pub(super) fn read(&mut self, prompt: &str, text: &str) -> Input {
        let input = match &mut self.kind {
            Kind::Rich(line) => {
                self.signals.editing();
                if !text.is_empty() {
                    line.run_edit_commands(&[EditCommand::Clear, EditCommand::InsertString(text.to_owned())]);
                }
                read_rich(line, prompt)
            }
            Kind::Plain => {
                self.signals.reading();
                read_plain(prompt)
            }
        };
        self.signals.busy();
        input
    }

    /// Asks for one of a few answers, which is not remembered as a line.
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

fn rich(styled: bool, sessions: Option<PathBuf>, signals: &Signals, file: &Path) -> Reedline {
    let mut keys = default_emacs_keybindings();
    let complete = ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext]);
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, complete);
    keys.add_binding(
        KeyModifiers::CONTROL,
        KeyCode::Char('c'),
        ReedlineEvent::ExecuteHostCommand(INTERRUPT.to_owned()),
    );
    let (program, arguments) = editor_command();
    let mut editor = Command::new(program);
    editor.args(arguments).arg(file);
    Reedline::create()
        .with_edit_mode(Box::new(Emacs::new(keys)))
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

fn read_rich(line: &mut Reedline, prompt: &str) -> Input {
    loop {
        match line.read_line(&Shown(prompt)) {
            Ok(Signal::Success(text)) => {
                // Now rather than at the end, which may not come.
                let _ = line.sync_history();
                return Input::Text(text);
            }
            Ok(Signal::HostCommand(_)) if line.current_buffer_contents().is_empty() => {
                aside("\r\n");
                return Input::Interrupt;
            }
            Ok(Signal::HostCommand(_)) => line.run_edit_commands(&[EditCommand::Clear]),
            Ok(Signal::CtrlC) => return Input::Interrupt,
            Ok(_) | Err(_) => {
                aside("\r\n");
                return Input::End;
            }
        }
    }
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

/// What is typed has the terminal's own colour, which suits its background.
struct Uncoloured;

impl Highlighter for Uncoloured {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        let mut text = StyledText::new();
        text.push((Default::default(), line.to_owned()));
        text
    }
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
