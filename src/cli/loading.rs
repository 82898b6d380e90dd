//! What a user sees of a model's way into memory.

use super::output::message;
use super::progress;
use super::size::decimal;
use crate::engine::{self, Engine, Info, Loading, ReadSoFar, Source, Uploaded};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a model is loaded; llama.cpp's names.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct LoadOptions {
    /// Copy the weights into memory of this process, in place of mapping their files
    #[arg(long)]
    no_mmap: bool,
    /// Keep the weights in memory, whatever else needs it
    #[arg(long)]
    mlock: bool,
    /// Say what of the model goes where
    #[arg(short, long)]
    verbose: bool,
}

impl LoadOptions {
    pub(super) fn loading(&self) -> Loading {
        Loading { copy: self.no_mmap, lock: self.mlock, read_ahead: true }
    }

    pub(super) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Opens a model, and says what there is to say of that.
    pub(super) fn open(&self, source: Source, options: &engine::Options, is_quiet: bool) -> anyhow::Result<Engine> {
        let bar = if is_quiet { ProgressBar::hidden() } else { ProgressBar::no_length() };
        bar.set_style(style());
        let engine = Engine::open_watched(source, options, &|so_far| show(&bar, so_far));
        bar.finish_and_clear();
        let engine = engine?;
        self.remark(&engine, is_quiet);
        Ok(engine)
    }

    /// Says of an open model what is wanted, and what may surprise.
    pub(super) fn remark(&self, engine: &Engine, is_quiet: bool) {
        let without = engine.info().memory.weights_without_room();
        match engine.is_attached() {
            _ if !self.verbose => {}
            true => message("the model is open in a server, which answers; --no-attach opens it here"),
            false => explain(engine.info()),
        }
        if without > 0 && !is_quiet {
            message(&format!(
                "{}: {} of weights have no room in memory and are read from the disk again and again; `cachalot plan` \
                 says what would fit",
                engine.info().path.display(),
                decimal(without),
            ));
        }
    }
}

/// How far reading is, in words.
pub(super) fn in_words(so_far: ReadSoFar) -> String {
    let ReadSoFar { done, total, time } = so_far;
    let left = time.mul_f64(total.saturating_sub(done) as f64 / done.max(1) as f64);
    let rate = done as f64 / time.as_secs_f64().max(1e-3);
    format!("{} of {}, {}/s, {} left", decimal(done), decimal(total), decimal(rate as u64), progress::in_words(left))
}

fn style() -> ProgressStyle {
    let template = "reading the model {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn show(bar: &ProgressBar, so_far: ReadSoFar) {
    bar.set_length(so_far.total);
    bar.set_position(so_far.done);
}

/// A bar for files that are read ahead beside the work. It goes when that is over, or when it is dropped.
pub(super) struct ReadingBar {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ReadingBar {
    /// `None` where nothing is read, or nobody looks.
    pub(super) fn new(engine: &Engine, is_quiet: bool) -> Option<ReadingBar> {
        let reading = engine.reading().filter(|_| !is_quiet && std::io::stderr().is_terminal())?;
        let is_over = Arc::new(AtomicBool::new(false));
        let of_thread = is_over.clone();
        let draw = move || {
            let bar = ProgressBar::no_length().with_style(style());
            while let Some(so_far) = reading.so_far().filter(|_| !of_thread.load(Ordering::Relaxed)) {
                show(&bar, so_far);
                std::thread::sleep(Duration::from_millis(100));
            }
            bar.finish_and_clear();
            of_thread.store(true, Ordering::Relaxed);
        };
        Some(ReadingBar { is_over, thread: std::thread::Builder::new().spawn(draw).ok() })
    }

    /// Whether the line is free for others.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

impl Drop for ReadingBar {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What of an open model goes where, on stderr.
fn explain(info: &Info) {
    let memory = &info.memory;
    let available = memory.available.map_or_else(|| "unknown".to_owned(), decimal);
    let place = match (info.loading, &info.first_file) {
        (Loading { lock: false, .. }, None) => "in the program",
        (Loading { lock: true, .. }, None) => "in the program, locked in memory",
        (Loading { copy: true, lock: true, .. }, _) => "copied into memory and locked there",
        (Loading { copy: true, .. }, _) => "copied into memory",
        (Loading { lock: true, .. }, _) => "in the page cache, locked there",
        _ => "in the page cache",
    };
    let on_gpus = match info.gpus.as_slice() {
        [] => "all on the CPU".to_owned(),
        names => format!("{} of weights and their layers' cache on {}", decimal(memory.on_gpus), names.join(", ")),
    };
    if let Some(Uploaded { bytes, time }) = info.uploaded {
        let rate = bytes as f64 / time.as_secs_f64().max(1e-3);
        message(&format!("{} went to GPUs in {:.1} s, {}/s", decimal(bytes), time.as_secs_f64(), decimal(rate as u64)));
    }
    if let Some((is_pinned, from)) = info.streaming.filter(|_| !info.shares) {
        let how = if is_pinned { "pinned" } else { "not pinned" };
        message(&format!("experts in RAM, {how}, are sent to GPUs in steps of {from} tokens and more"));
    }
    if info.shares {
        message("some experts in RAM are sent to GPUs, while the CPU computes with the others");
    }
    if !info.gpus.is_empty() {
        let (n_batch, n_pieces) = (info.n_batch, info.n_pieces);
        message(&format!("a step of {n_batch} tokens goes from device to device in {n_pieces} pieces"));
    }
    message(&format!(
        "plan: {on_gpus}, {} threads, kernels {}; weights {} {place}, cache {} for {} tokens in {}, intermediate results at \
         most {}; {available} could be had before",
        info.n_threads,
        info.isa,
        decimal(memory.weights),
        decimal(memory.cache),
        info.n_ctx,
        info.cache_type.name(),
        decimal(memory.scratch),
    ));
}
