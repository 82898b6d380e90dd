//! What the black-box tests share: the program, models small and V3-sized, a hub, and bytes that no writer
//! would produce.

#![allow(dead_code, unreachable_pub)]

pub mod bad_models;
pub mod draft;
pub mod home;
pub mod hub;
pub mod models;
pub mod parity;
pub mod raw;
pub mod server;
pub mod terminal;

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{PoisonError, RwLock};

/// How the program ended and what it said.
#[derive(Debug)]
pub struct Ended {
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The program under test, away from what the user of this machine has set.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cachalot"));
    isolate(&mut command);
    command
}

/// Takes the user's settings away from a program that starts ours.
pub fn isolate(command: &mut Command) {
    let nobody = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nobody");
    command.env("XDG_CONFIG_HOME", nobody.join("config")).env("XDG_STATE_HOME", nobody.join("state"));
    // There a server of the user's, or of another test, may have the same model open.
    command.env_remove("XDG_RUNTIME_DIR");
    let ours = std::env::vars_os().map(|(name, _)| name);
    ours.filter(|name| name.to_string_lossy().starts_with("CACHALOT_")).for_each(|name| {
        command.env_remove(name);
    });
}

/// Runs the program under test.
pub fn cachalot<S: AsRef<OsStr>>(args: &[S]) -> Ended {
    run(program().args(args))
}

/// Held for reading while children start, for writing while a program is written that is to be run: a child
/// that started meanwhile would hold it open, and the system does not run a file that is open for writing.
static PROGRAMS: RwLock<()> = RwLock::new(());

/// Writes a program, while no child of this process starts.
pub fn write_program<R>(write: impl FnOnce() -> R) -> R {
    let _lock = PROGRAMS.write().unwrap_or_else(PoisonError::into_inner);
    write()
}

pub fn run(command: &mut Command) -> Ended {
    let _lock = PROGRAMS.read().unwrap_or_else(PoisonError::into_inner);
    let output = command.output().expect("the program starts");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a command with something on its stdin.
pub fn piped(command: &mut Command, input: &[u8]) -> Ended {
    let lock = PROGRAMS.read().unwrap_or_else(PoisonError::into_inner);
    let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = streams.spawn().expect("the program starts");
    drop(lock);
    // One that refuses its arguments reads nothing.
    let _ = child.stdin.take().expect("it is a pipe").write_all(input);
    ended(child)
}

/// Waits for a child whose streams are pipes.
pub fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().expect("the program ends");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub fn inspect(path: &Path) -> Ended {
    cachalot(&[OsStr::new("inspect"), path.as_os_str()])
}
