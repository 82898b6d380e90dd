//! When what was computed, noted while somebody wants to know.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A piece of work of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub what: &'static str,
    pub lane: Lane,
    pub begin: Instant,
    pub end: Instant,
}

/// Who worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// The thread that goes through the graph, and has GPUs compute.
    Graph,
    /// A thread of ours beside it.
    Beside(usize),
}

/// Spans of what is noted.
#[derive(Debug, Default)]
pub struct Trace {
    is_on: AtomicBool,
    spans: Mutex<Vec<Span>>,
}

impl Trace {
    /// Has spans noted from now on.
    pub fn begin(&self) {
        self.take();
        self.is_on.store(true, Ordering::Relaxed);
    }

    /// What was noted, in the order in which it ended; nothing more is.
    pub fn end(&self) -> Vec<Span> {
        self.is_on.store(false, Ordering::Relaxed);
        self.take()
    }

    fn take(&self) -> Vec<Span> {
        std::mem::take(&mut *self.spans.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does something, and notes when.
    pub(super) fn note<T>(&self, what: &'static str, lane: Lane, work: impl FnOnce() -> T) -> T {
        if !self.is_on.load(Ordering::Relaxed) {
            return work();
        }
        let begin = Instant::now();
        let result = work();
        let span = Span { what, lane, begin, end: Instant::now() };
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).push(span);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wanted_is_noted() {
        let trace = Trace::default();
        let work = |what| trace.note(what, Lane::Beside(3), || 7);
        assert_eq!(work("before"), 7);
        trace.begin();
        assert_eq!((work("first"), work("second")), (7, 7));
        let spans = trace.end();
        work("after");
        assert_eq!(spans.iter().map(|span| span.what).collect::<Vec<_>>(), ["first", "second"]);
        assert!(spans.iter().all(|span| span.lane == Lane::Beside(3) && span.begin <= span.end));
        assert!(spans[0].end <= spans[1].begin);
        trace.begin();
        assert!(trace.end().is_empty());
    }
}
