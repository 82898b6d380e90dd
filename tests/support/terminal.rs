//! The program on a terminal: what is typed, and what the screen shows.

use portable_pty::{Child, CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A test that waits longer has failed; none depends on how long it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal of its own, with the program in it.
pub struct Terminal {
    screen: vt100::Parser,
    master: Box<dyn MasterPty + Send>,
    keyboard: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    child: Box<dyn Child + Send + Sync>,
    /// All that came, as it came.
    pub raw: Vec<u8>,
    before: String,
}

/// How the program is started.
pub struct Setup<'a> {
    pub args: &'a [&'a str],
    /// Where it keeps chats.
    pub state: &'a std::path::Path,
    pub env: &'a [(&'a str, &'a str)],
    pub size: (u16, u16),
}

impl Terminal {
    pub fn start(setup: &Setup) -> Terminal {
        Terminal::start_program(env!("CARGO_BIN_EXE_cachalot"), setup)
    }

    /// Another program, which may start ours.
    pub fn start_program(program: &str, setup: &Setup) -> Terminal {
        let (rows, cols) = setup.size;
        let pair = native_pty_system().openpty(PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }).unwrap();
        let before = termios(pair.master.as_ref());
        let mut command = CommandBuilder::new(program);
        command.args(setup.args);
        for name in
            ["NO_COLOR", "TMUX", "TERM_PROGRAM", "VISUAL", "EDITOR", "DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR"]
        {
            command.env_remove(name);
        }
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CACHALOT_")) {
            command.env_remove(name);
        }
        command.env("XDG_CONFIG_HOME", setup.state.join("config"));
        command.env("TERM", "xterm-256color");
        command.env("XDG_STATE_HOME", setup.state);
        setup.env.iter().for_each(|(name, value)| command.env(name, value));
        let child = pair.slave.spawn_command(command).unwrap();
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n) = reader.read(&mut bytes) {
                if n == 0 || sender.send(bytes[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        let keyboard = pair.master.take_writer().unwrap();
        let screen = vt100::Parser::new(rows, cols, 1000);
        // The terminal's other end stays open in `pair.slave` no longer than the child has it.
        Terminal { screen, master: pair.master, keyboard, output, child, raw: Vec::new(), before }
    }

    pub fn send(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Types a line.
    pub fn line(&mut self, text: &str) {
        self.send(format!("{text}\r").as_bytes());
    }

    /// What is on the screen.
    pub fn text(&self) -> String {
        self.screen.screen().contents()
    }

    /// Waits until the screen shows this.
    pub fn until(&mut self, shown: &str) {
        self.until_it(&format!("{shown:?}"), |text| text.contains(shown));
    }

    /// Waits for an empty prompt at the end.
    pub fn until_prompt(&mut self) {
        self.until_it("a prompt", |text| text.lines().last().is_some_and(|line| line.trim_end() == ">"));
    }

    pub fn until_it(&mut self, what: &str, is_there: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_there(&self.text()) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.take(&bytes),
                Err(RecvTimeoutError::Timeout) => panic!("waited for {what}; the screen shows\n{}", self.text()),
                Err(RecvTimeoutError::Disconnected) => panic!("ended before {what}; the screen shows\n{}", self.text()),
            }
        }
    }

    /// Types a line and waits for the prompt behind what comes of it, which contains `shown`.
    pub fn say(&mut self, line: &str, shown: &str) {
        self.send(b"\x0c");
        self.until_it("a clear screen", |text| text.trim() == ">");
        self.line(line);
        self.until(shown);
        self.until_prompt();
    }

    /// Clears the line and leaves.
    pub fn leave(&mut self) {
        self.send(b"\x03");
        self.until_prompt();
        self.send(b"\x04");
    }

    /// Shows what came, and answers when asked where the cursor is.
    fn take(&mut self, bytes: &[u8]) {
        const WHERE: &[u8] = b"\x1b[6n";
        self.raw.extend_from_slice(bytes);
        let mut rest = bytes;
        while let Some(at) = rest.windows(WHERE.len()).position(|window| window == WHERE) {
            let (now, later) = rest.split_at(at + WHERE.len());
            self.screen.process(now);
            let (row, column) = self.screen.screen().cursor_position();
            self.send(format!("\x1b[{};{}R", row + 1, column + 1).as_bytes());
            rest = later;
        }
        self.screen.process(rest);
    }

    pub fn resize(&mut self, rows: u16, cols: u16) {
        self.master.resize(PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }).unwrap();
        self.screen.screen_mut().set_size(rows, cols);
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.process_id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Waits for the end. The terminal is then as it was.
    pub fn end(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end; the screen shows\n{}", self.text());
            if let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(20)) {
                self.take(&bytes);
            }
        };
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(100)) {
            self.take(&bytes);
        }
        assert_eq!(termios(self.master.as_ref()), self.before);
        let screen = self.screen.screen();
        assert!(!screen.hide_cursor() && !screen.bracketed_paste(), "{}", self.text());
        (status, self.text())
    }

    /// Waits for the end of a program that was killed, which leaves the terminal as it is.
    pub fn killed(mut self) {
        self.child.wait().unwrap();
    }

    /// What the terminal does with what is typed.
    pub fn termios(&self) -> String {
        termios(self.master.as_ref())
    }
}

fn termios(master: &dyn MasterPty) -> String {
    format!("{:?}", master.get_termios().expect("a terminal has settings"))
}
