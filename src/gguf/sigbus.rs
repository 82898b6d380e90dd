//! The file that was truncated, or could not be read, while it was mapped: a message instead of
//! "Bus error".
//!
//! Owns the list of mapped ranges and the SIGBUS handler that looks a fault up in it. A fault
//! elsewhere is left to the system. The handler does not return into code that believes it has read
//! weights: it never substitutes zero pages.

#![allow(unsafe_code)]

use crate::text::Escaped;
use std::ffi::CString;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Exit code "not found or unreadable", as everywhere in the program.
const EXIT_UNREADABLE: libc::c_int = 66;

/// More mapped files than any model has shards; beyond it, files are mapped unwatched.
const MAX_WATCHED: usize = 2048;

/// A mapped range and what to call it; free while `end` is 0. `end` is written last on entry and first on removal, so
/// the handler never sees half an entry.
struct Slot {
    start: AtomicUsize,
    end: AtomicUsize,
    path: AtomicPtr<libc::c_char>,
}

static SLOTS: [Slot; MAX_WATCHED] = [const {
    Slot { start: AtomicUsize::new(0), end: AtomicUsize::new(0), path: AtomicPtr::new(std::ptr::null_mut()) }
}; MAX_WATCHED];

/// While it lives, a fault in the range ends the program with the file's name.
pub(super) struct Watch {
    slot: &'static Slot,
}

pub(super) fn watch(range: Range<usize>, path: &Path) -> Option<Watch> {
    let name = CString::new(Escaped(&path.to_string_lossy()).to_string()).ok()?.into_raw();
    let slot = SLOTS.iter().find(|slot| {
        slot.path.compare_exchange(std::ptr::null_mut(), name, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    });
    let Some(slot) = slot else {
        // SAFETY: `name` came from `into_raw` just above and was stored nowhere.
        drop(unsafe { CString::from_raw(name) });
        return None;
    };
    slot.start.store(range.start, Ordering::Release);
    slot.end.store(range.end, Ordering::Release);
    Some(Watch { slot })
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.slot.end.store(0, Ordering::Release);
        let name = self.slot.path.swap(std::ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: `name` came from `into_raw` in `watch`, and the swap made this its only owner.
        drop(unsafe { CString::from_raw(name) });
    }
}

/// Installs the handler, once, at the program's start.
pub fn install() {
    // SAFETY: `sigaction` is filled in completely; the handler calls async-signal-safe functions only.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_sigbus as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}

extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid `info` for a handler installed with SA_SIGINFO.
    let address = unsafe { (*info).si_addr() } as usize;
    for slot in &SLOTS {
        let (start, end) = (slot.start.load(Ordering::Acquire), slot.end.load(Ordering::Acquire));
        if (start..end).contains(&address) {
            report(slot.path.load(Ordering::Acquire), address - start);
        }
    }
    // Not ours: with the default action back in place the fault repeats and ends the process.
    // SAFETY: `signal` is async-signal-safe.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Writes the message and ends the process, allocating nothing.
fn report(path: *const libc::c_char, offset: usize) -> ! {
    let mut digits = [0u8; 20];
    let mut rest = offset;
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    crate::last_words::run();
    // SAFETY: `path` is a NUL-terminated string owned by the slot, which nobody removes while the
    // faulting thread is within its range; `write` and `_exit` are async-signal-safe.
    unsafe {
        let write = |bytes: &[u8]| libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len());
        write(b"cachalot: ");
        write(std::slice::from_raw_parts(path.cast(), libc::strlen(path)));
        write(b": cannot be read at byte ");
        write(&digits[first..]);
        write(b": it was truncated while in use, or the disk failed; copy or download it again\n");
        libc::_exit(EXIT_UNREADABLE)
    }
}
