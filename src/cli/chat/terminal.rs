//! The terminal: what it can do, how big it is, and that it is left as it was found.
//!
//! Whatever ends the program (leaving, a signal, a panic, an assertion in ggml) goes through [`restore`].

use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

/// What the terminal was like when the program began, and whether it is to be sent [`RESET`].
static ORIGINAL: OnceLock<(Termios, bool)> = OnceLock::new();

/// Ends bracketed paste and styles, and shows the cursor.
const RESET: &[u8] = b"\x1b[?2004l\x1b[0m\x1b[?25h";

/// What can be done with standard output and the terminal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abilities {
    /// The cursor can be moved, so lines can be shown anew.
    pub(super) moves: bool,
    /// There are styles.
    pub(super) styled: bool,
    pub(super) stdout_is_terminal: bool,
}

impl Abilities {
    pub(super) fn of_this_terminal() -> Abilities {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let moves = !is_dumb && std::io::stderr().is_terminal();
        let styled = moves && !is_set("NO_COLOR");
        Abilities { moves, styled, stdout_is_terminal: std::io::stdout().is_terminal() }
    }
}

/// Columns and rows.
pub(super) fn size() -> (usize, usize) {
    let size = tcgetwinsize(stdout()).or_else(|_| tcgetwinsize(stderr()));
    match size {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// Notes what the terminal is like, and sees to it that a panic leaves it so.
pub(super) fn remember() {
    if let Ok(termios) = tcgetattr(stdin()) {
        let _ = ORIGINAL.set((termios, Abilities::of_this_terminal().moves));
    }
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        restore();
        before(info);
    }));
    crate::last_words::set(restore);
}

/// Makes the terminal what it was. Safe to call at any time, also where a signal or an abort has come.
pub(super) fn restore() {
    let Some((original, is_sent_reset)) = ORIGINAL.get() else { return };
    let _ = tcsetattr(stdin(), OptionalActions::Now, original);
    if *is_sent_reset {
        let _ = rustix::io::write(stderr(), RESET);
    }
}

/// While it lives, what is typed is kept for the next line and not shown among what is printed.
pub(super) struct Unechoed(Option<Termios>);

impl Unechoed {
    pub(super) fn new() -> Unechoed {
        let Ok(before) = tcgetattr(stdin()) else { return Unechoed(None) };
        let mut quiet = before.clone();
        quiet.local_modes &= !LocalModes::ECHO;
        // What was typed with Ctrl-C is not to be lost.
        quiet.local_modes |= LocalModes::NOFLSH;
        Unechoed(tcsetattr(stdin(), OptionalActions::Now, &quiet).is_ok().then_some(before))
    }
}

impl Drop for Unechoed {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

/// Writes to the terminal beside the answer. A terminal that is gone is not an error here; the next read sees it.
pub(super) fn aside(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

#[cfg(test)]
mod tests {
    use super::*;
    use portable_pty::{CommandBuilder, PtySize, native_pty_system};
    use std::io::Read;

    /// Says how the child is to end.
    const END: &str = "TERMINAL_TEST_END";

    /// A program that has changed its terminal, and then fails.
    #[test]
    #[ignore = "the child of a_terminal_is_restored_after_every_failure"]
    fn child() {
        crate::ggml::install_abort_handler();
        remember();
        let mut raw = tcgetattr(stdin()).unwrap();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).unwrap();
        aside("\x1b[?2004h\x1b[?25lchanged");
        match std::env::var(END).as_deref() {
            Ok("panic") => panic!("on purpose"),
            Ok("abort") => crate::ggml::fail_an_assertion(),
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn a_terminal_is_restored_after_every_failure() {
        for end in ["panic", "abort"] {
            let pair = native_pty_system().openpty(PtySize::default()).unwrap();
            let settings = || format!("{:?}", pair.master.get_termios().unwrap());
            let before = settings();
            let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
            command.args(["--exact", "cli::chat::terminal::tests::child", "--ignored", "--nocapture"]);
            command.env(END, end);
            command.env("TERM", "xterm-256color");
            let mut reader = pair.master.try_clone_reader().unwrap();
            let mut child = pair.slave.spawn_command(command).unwrap();
            let seen = std::thread::spawn(move || {
                let (mut seen, mut bytes) = (Vec::new(), [0; 1024]);
                // Ends once nobody has the terminal any more; that is an error on Linux.
                while let Ok(n @ 1..) = reader.read(&mut bytes) {
                    seen.extend_from_slice(&bytes[..n]);
                }
                String::from_utf8_lossy(&seen).into_owned()
            });
            assert!(!child.wait().unwrap().success());
            assert_eq!(settings(), before, "{end}");
            drop(pair.slave);
            let seen = seen.join().unwrap();
            let (_, after) = seen.split_once("changed").unwrap_or_else(|| panic!("{end}: {seen}"));
            assert!(after.starts_with(str::from_utf8(RESET).unwrap()), "{end}: {after:?}");
            assert!(after.contains(if end == "panic" { "on purpose" } else { "internal error in ggml" }), "{after}");
        }
    }
}
