//! How far a download, or a check of files, has come: bars on a terminal, lines in a log.

use super::interrupt::{self, Guard};
use super::output::message;
use super::progress::in_words;
use super::size;
use crate::catalog::{Event, PulledFile};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines of a log.
const LINES_APART: Duration = Duration::from_secs(10);

pub(super) struct Transfer {
    files: Vec<File>,
    total: u64,
    /// Bytes that are there, and those of them that have come since the start.
    done: AtomicI64,
    come: AtomicU64,
    started: Instant,
    last_line: Mutex<Instant>,
    shown: Shown,
}

struct File {
    name: String,
    size: u64,
    bar: ProgressBar,
}

enum Shown {
    Nothing,
    Lines,
    Bars { all: MultiProgress, total: ProgressBar },
}

impl Transfer {
    pub(super) fn new(files: &[&PulledFile], is_quiet: bool) -> Transfer {
        let total: u64 = files.iter().map(|file| file.size).sum();
        let shown = match std::io::stderr().is_terminal() {
            _ if is_quiet => Shown::Nothing,
            false => Shown::Lines,
            true => {
                let all = MultiProgress::new();
                let bar = all.add(ProgressBar::new(total));
                let template = "{bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
                bar.set_style(style(template));
                Shown::Bars { all, total: bar }
            }
        };
        let file = |file: &&PulledFile| {
            let bar = ProgressBar::hidden();
            bar.set_length(file.size);
            File { name: file.name.clone(), size: file.size, bar }
        };
        let now = Instant::now();
        Transfer {
            files: files.iter().map(file).collect(),
            total,
            done: AtomicI64::new(0),
            come: AtomicU64::new(0),
            started: now,
            last_line: Mutex::new(now),
            shown,
        }
    }

    pub(super) fn note(&self, event: Event<'_>) {
        match event {
            Event::Begun { file, bytes } => {
                self.count(file, bytes);
                if let Shown::Bars { total, .. } = &self.shown {
                    // What was there before says nothing of the rate.
                    total.set_position(self.position());
                    total.reset_eta();
                }
            }
            Event::Received { file, bytes } => {
                self.come.fetch_add(bytes, Ordering::Relaxed);
                self.count(file, bytes);
                self.show(file);
            }
            Event::Lost { file, bytes } => {
                self.done.fetch_sub(bytes as i64, Ordering::Relaxed);
                if let Shown::Bars { total, .. } = &self.shown {
                    total.set_position(self.position());
                }
                if let Some(file) = self.files.get(file) {
                    file.bar.set_position(file.bar.position().saturating_sub(bytes));
                    self.say(&format!("{}: {} have to come again", file.name, size::binary(bytes)));
                }
            }
            Event::Finished { file } => self.finished(file),
            Event::Note(text) => self.say(text),
        }
    }

    fn position(&self) -> u64 {
        u64::try_from(self.done.load(Ordering::Relaxed)).unwrap_or(0)
    }

    fn count(&self, file: usize, bytes: u64) {
        self.done.fetch_add(bytes as i64, Ordering::Relaxed);
        if let Some(file) = self.files.get(file) {
            file.bar.inc(bytes);
        }
    }

    fn show(&self, file: usize) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bars { all, total } => {
                total.set_position(self.position());
                // A file gets its bar when something comes of it.
                if let Some(file) = self.files.get(file).filter(|file| file.bar.is_hidden() && !file.bar.is_finished())
                {
                    file.bar.set_style(style("  {bar:20} {binary_bytes} of {binary_total_bytes} {wide_msg}"));
                    file.bar.set_message(file.name.clone());
                    all.add(file.bar.clone());
                }
            }
            Shown::Lines => {
                let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
                if last.elapsed() >= LINES_APART {
                    *last = Instant::now();
                    message(&self.line());
                }
            }
        }
    }

    fn line(&self) -> String {
        let (done, seconds) = (self.position(), self.started.elapsed().as_secs_f64());
        let rate = self.come.load(Ordering::Relaxed) as f64 / seconds.max(0.001);
        let left = self.total.saturating_sub(done) as f64 / rate.max(1.0);
        let left = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
        let (done, total) = (size::binary(done), size::binary(self.total));
        format!("{done} of {total}, {}/s, {} left", size::binary(rate as u64), in_words(left))
    }

    fn finished(&self, file: usize) {
        let Some(file) = self.files.get(file) else { return };
        // A file that was here already has not been counted.
        let rest = file.size.saturating_sub(file.bar.position());
        file.bar.inc(rest);
        self.done.fetch_add(rest as i64, Ordering::Relaxed);
        file.bar.finish_and_clear();
        if let Shown::Bars { total, .. } = &self.shown {
            total.set_position(self.position());
        }
        self.say(&format!("{}: whole", file.name));
    }

    /// A line that stays.
    fn say(&self, text: &str) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Lines => message(text),
            Shown::Bars { all, .. } => all.suspend(|| message(text)),
        }
    }

    /// What a signal does meanwhile: the bars go, `text` is said, and the program ends. What has come is on the disk.
    pub(super) fn guard(&self, text: &'static str) -> Guard {
        let is_quiet = matches!(self.shown, Shown::Nothing);
        let bars = match &self.shown {
            Shown::Bars { all, .. } => Some(all.clone()),
            _ => None,
        };
        interrupt::guard(move || {
            if let Some(bars) = &bars {
                let _ = bars.clear();
                bars.set_draw_target(ProgressDrawTarget::hidden());
            }
            if !is_quiet {
                message(text);
            }
            interrupt::end();
        })
    }

    /// Ends it; returns the bytes that have come, and in which time.
    pub(super) fn finish(&self) -> (u64, Duration) {
        if let Shown::Bars { all, .. } = &self.shown {
            let _ = all.clear();
        }
        (self.come.load(Ordering::Relaxed), self.started.elapsed())
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
