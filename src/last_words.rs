//! What is done before the process ends at once, where nothing returns to whoever would do it: ggml aborted, or a
//! mapped file is gone.
//!
//! Knows nothing of what it does; a terminal is made what it was, for instance.

use std::sync::OnceLock;

static ACTION: OnceLock<fn()> = OnceLock::new();

/// Has `action` done. It runs where anything may be broken, so it may call only what is safe in a signal handler.
/// The first one counts.
pub fn set(action: fn()) {
    let _ = ACTION.set(action);
}

/// Does it, if there is anything to do.
pub(crate) fn run() {
    if let Some(action) = ACTION.get() {
        action();
    }
}
