//! What the black-box tests share: the program, models small and V3-sized, a hub, and bytes that no writer
//! would produce.

#![allow(dead_code, unreachable_pub)]

pub mod bad_models;
pub mod draft;
pub mod hub;
pub mod models;
pub mod parity;
pub mod raw;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::sync::{PoisonError, RwLock};

/// How the program ended and what it said.
#[derive(Debug)]
pub struct Ended {
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the program under test.
pub fn cachalot<S: AsRef<OsStr>>(args: &[S]) -> Ended {
    run(Command::new(env!("CARGO_BIN_EXE_cachalot")).args(args))
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

pub fn inspect(path: &Path) -> Ended {
    cachalot(&[OsStr::new("inspect"), path.as_os_str()])
}
