//! What Ctrl-C and SIGTERM do: the first ends the work under way in good order, the second ends the program.
//!
//! Owns the signals and whom they are for. A command that has something to bring to an end says so with
//! [`guard`]; where nobody does, such as while a model is opened or a pipe is read, the first signal ends the
//! program at once. Either way the exit code is that of an interruption.

use crate::engine::Engine;
use crate::exit::{Exit, Interrupted};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Whom the next signal is for.
static WORK: Mutex<Option<Work>> = Mutex::new(None);

struct Work {
    is_interrupted: Arc<AtomicBool>,
    stop: Box<dyn Fn() + Send>,
}

/// Takes the signals from here on. Without them the program works too: they then end it as they always did.
pub(super) fn install() {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return };
    let listen = move || signals.forever().for_each(|_| on_signal());
    let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(listen);
}

fn on_signal() {
    let work = WORK.lock().unwrap_or_else(PoisonError::into_inner);
    match &*work {
        Some(work) if !work.is_interrupted.swap(true, Ordering::SeqCst) => (work.stop)(),
        _ => end(),
    }
}

/// Ends the program at once. No destructor runs: other threads are still at work.
pub(super) fn end() -> ! {
    end_with(Exit::Interrupted)
}

/// The same, with another exit code.
pub(super) fn end_with(exit: Exit) -> ! {
    low_level::exit(i32::from(exit as u8))
}

/// Work that a signal does not kill but ends. One piece at a time.
#[derive(Debug)]
pub(super) struct Guard {
    is_interrupted: Arc<AtomicBool>,
}

/// A guard for what a job computes with the model itself. The job must ask [`Guard::check`] first, in case the
/// signal came before it.
pub(super) fn guard_job(engine: &Engine) -> Arc<Guard> {
    let canceller = engine.step_canceller();
    Arc::new(guard(move || canceller.cancel()))
}

/// From here on, until the guard is dropped, the first signal calls `stop`, on another thread.
pub(super) fn guard(stop: impl Fn() + Send + 'static) -> Guard {
    let is_interrupted = Arc::new(AtomicBool::new(false));
    let work = Work { is_interrupted: is_interrupted.clone(), stop: Box::new(stop) };
    *WORK.lock().unwrap_or_else(PoisonError::into_inner) = Some(work);
    Guard { is_interrupted }
}

impl Guard {
    /// For loops that look up now and then: an error once the work is to end.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.is_interrupted.load(Ordering::SeqCst) { Err(io::Error::other(Interrupted)) } else { Ok(()) }
    }

    /// What work came to. Work that failed because it was interrupted was interrupted, whatever it says.
    pub(super) fn finish<T, E: Into<anyhow::Error>>(&self, result: Result<T, E>) -> anyhow::Result<T> {
        match result {
            Err(_) if self.check().is_err() => Err(Interrupted.into()),
            result => result.map_err(Into::into),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut work = WORK.lock().unwrap_or_else(PoisonError::into_inner);
        work.take_if(|work| Arc::ptr_eq(&work.is_interrupted, &self.is_interrupted));
    }
}
