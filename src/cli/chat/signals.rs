//! Ctrl-C and signals to end: what they mean depends on what the program is doing.

use super::terminal::{aside, restore};
use crate::engine::Canceller;
use crate::exit::Exit;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals as Iterator;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the program may take to save and end after a signal to end.
const GRACE: Duration = Duration::from_secs(5);

/// What the program is doing.
#[derive(Debug, Clone)]
enum Doing {
    /// Something that can be ended at once: loading, writing what can be computed again.
    Busy,
    /// Reading a line with the editor, which sees Ctrl-C itself.
    Editing,
    /// Reading a line without an editor; Ctrl-C came so many times.
    Reading { interrupts: u32 },
    /// About to answer; Ctrl-C came so many times.
    Preparing { interrupts: u32 },
    /// Answering; Ctrl-C came so many times.
    Answering { canceller: Canceller, interrupts: u32 },
}

/// What the rest of the program is told.
#[derive(Debug, Clone)]
pub(super) struct Signals {
    doing: Arc<Mutex<Doing>>,
    /// Makes the editor return.
    break_editor: Arc<AtomicBool>,
    /// The user wants to leave, now.
    leave: Arc<AtomicBool>,
    /// The signal that ends the program; 0 for none.
    ending: Arc<AtomicI32>,
}

impl Signals {
    /// Begins to listen.
    pub(super) fn listen() -> std::io::Result<Signals> {
        let signals = Signals {
            doing: Arc::new(Mutex::new(Doing::Busy)),
            break_editor: Arc::default(),
            leave: Arc::default(),
            ending: Arc::default(),
        };
        let mut incoming = Iterator::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT])?;
        let listening = signals.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in &mut incoming {
                match signal {
                    SIGINT => listening.interrupt(),
                    _ => listening.end(signal),
                }
            }
        })?;
        Ok(signals)
    }

    pub(super) fn break_editor(&self) -> Arc<AtomicBool> {
        self.break_editor.clone()
    }

    /// Whether to leave without asking anything more.
    pub(super) fn wants_to_leave(&self) -> bool {
        self.leave.load(Ordering::SeqCst)
    }

    pub(super) fn editing(&self) {
        self.set(Doing::Editing);
    }

    pub(super) fn reading(&self) {
        self.set(Doing::Reading { interrupts: 0 });
    }

    pub(super) fn busy(&self) {
        self.set(Doing::Busy);
    }

    /// From here on Ctrl-C is for the answer that is about to come.
    pub(super) fn preparing(&self) {
        self.set(Doing::Preparing { interrupts: 0 });
    }

    pub(super) fn answering(&self, canceller: Canceller) {
        let mut doing = self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        let interrupts = if let Doing::Preparing { interrupts } = &*doing { *interrupts } else { 0 };
        // A signal may have come before there was something to cancel.
        if interrupts > 0 || self.wants_to_leave() {
            canceller.cancel();
        }
        *doing = Doing::Answering { canceller, interrupts };
    }

    /// Ends the program as the signal would have, if one is to end it.
    pub(super) fn die(&self) {
        let signal = self.ending.load(Ordering::SeqCst);
        if signal != 0 {
            restore();
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    }

    fn set(&self, doing: Doing) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = doing;
    }

    fn interrupt(&self) {
        let mut doing = self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *doing {
            Doing::Editing => {}
            Doing::Answering { canceller, interrupts } => {
                *interrupts += 1;
                if *interrupts > 1 {
                    self.leave.store(true, Ordering::SeqCst);
                }
                canceller.cancel();
            }
            Doing::Reading { interrupts } if *interrupts == 0 => {
                *interrupts += 1;
                aside("\n(Ctrl-C again, or Ctrl-D, leaves)\n");
            }
            Doing::Preparing { interrupts } if *interrupts == 0 => *interrupts += 1,
            Doing::Preparing { .. } | Doing::Reading { .. } | Doing::Busy => {
                restore();
                aside("\n");
                std::process::exit(Exit::Interrupted as i32);
            }
        }
    }

    fn end(&self, signal: i32) {
        let is_second = self.ending.swap(signal, Ordering::SeqCst) != 0;
        self.leave.store(true, Ordering::SeqCst);
        self.break_editor.store(true, Ordering::SeqCst);
        let doing = self.doing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match doing {
            Doing::Answering { canceller, .. } if !is_second => canceller.cancel(),
            Doing::Editing if !is_second => {}
            _ => self.die(),
        }
        // Whatever holds it up, it ends.
        let signals = self.clone();
        let _ = std::thread::Builder::new().spawn(move || {
            std::thread::sleep(GRACE);
            signals.die();
        });
    }
}
