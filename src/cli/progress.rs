//! How far the work is and what comes out so far, on stderr.

use super::output::message;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// A line that moves on a terminal, a line for each chunk in a log.
pub(super) struct Progress {
    started: Instant,
    n_chunks: usize,
    is_quiet: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new(n_chunks: usize, is_quiet: bool) -> Progress {
        let is_shown = !is_quiet && std::io::stderr().is_terminal();
        let bar = is_shown.then(|| {
            let bar = ProgressBar::new(n_chunks as u64);
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} chunks, {msg}") {
                bar.set_style(style);
            }
            bar.tick();
            bar
        });
        Progress { started: Instant::now(), n_chunks, is_quiet, bar }
    }

    /// `n_done` chunks are done; they say `result`.
    pub(super) fn show(&self, n_done: usize, result: &str) {
        let left = self.n_chunks.saturating_sub(n_done);
        let eta = self.started.elapsed().mul_f64(left as f64 / n_done.max(1) as f64);
        let text = format!("{result}, {} left", in_words(eta));
        if let Some(bar) = &self.bar {
            bar.set_message(text);
            bar.set_position(n_done as u64);
        } else if !self.is_quiet {
            message(&format!("{n_done}/{} chunks, {text}", self.n_chunks));
        }
    }

    /// Ends it; returns the seconds it took.
    pub(super) fn finish(self) -> f64 {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.started.elapsed().as_secs_f64()
    }
}

pub(super) fn in_words(time: Duration) -> String {
    match time.as_secs_f64().ceil() as u64 {
        s @ ..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        s => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_words() {
        for (seconds, words) in [(0.0, "0 s"), (0.2, "1 s"), (61.0, "1 min 01 s"), (7260.0, "2 h 01 min")] {
            assert_eq!(in_words(Duration::from_secs_f64(seconds)), words);
        }
    }
}
