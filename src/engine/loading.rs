//! A model's way into memory: mapped and read ahead, copied, or locked.

use super::memory::NoRoomForWeights;
use super::{Memory, OpenError};
use crate::gguf::{self, Gguf};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How weights come into memory. By default their files are mapped, and read when they are needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loading {
    /// Copy them into memory of the process's own.
    pub copy: bool,
    /// Keep the system from taking that memory back.
    pub lock: bool,
    /// Read what is not in memory from front to back, beside the first request.
    pub read_ahead: bool,
}

/// How far reading is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadSoFar {
    pub done: u64,
    pub total: u64,
    pub time: Duration,
}

/// Is told while the model is not open yet, because it is copied or to be locked.
pub type Watch<'a> = &'a (dyn Fn(ReadSoFar) + Sync);

/// Less than this is quickly read as it is needed.
const WORTHWHILE: u64 = 64 << 20;

/// Memory could not be locked.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} MB cannot be locked in memory ({error}): {} may be; `ulimit -l unlimited` raises that for this shell where its \
     hard limit allows it, a line `{user} hard memlock unlimited` in /etc/security/limits.conf (or LimitMEMLOCK=infinity \
     in a systemd unit) raises the hard limit",
    needed / 1_000_000,
    match limit {
        Some(bytes) => format!("at most {} kB", bytes / 1000),
        None => "any amount".to_owned(),
    },
    user = std::env::var("USER").unwrap_or_else(|_| "USER".to_owned()),
)]
pub struct NotLocked {
    pub needed: u64,
    /// What the system allows this process.
    pub limit: Option<u64>,
    pub error: std::io::Error,
}

impl Loading {
    /// Brings weights into memory as far as that is to be done before anything is computed.
    pub(super) fn begin(
        self,
        gguf: &mut Gguf,
        path: &Path,
        memory: &Memory,
        watch: Watch<'_>,
    ) -> Result<(), OpenError> {
        if !self.copy && !self.lock {
            return Ok(());
        }
        // What is in the page cache already is counted as available too.
        let without_room = memory.weights_without_room();
        if without_room > 0 {
            let error = NoRoomForWeights { weights: memory.weights, missing: without_room };
            return Err(OpenError::NoRoomForWeights { path: path.to_owned(), error });
        }
        let total = memory.weights;
        let locked = if self.lock { raise_limit(total) } else { Ok(()) };
        locked.map_err(|error| OpenError::NotLocked { path: path.to_owned(), error })?;
        let (done, start) = (AtomicU64::new(0), Instant::now());
        let progress = |n: u64| {
            let done = done.fetch_add(n, Ordering::Relaxed) + n;
            watch(ReadSoFar { done, total, time: start.elapsed() });
            true
        };
        if self.copy {
            gguf.copy(&progress)?;
        } else {
            gguf.fill(&progress)?;
        }
        if self.lock {
            let locked = gguf.lock().map_err(|error| NotLocked { needed: total, limit: memlock(), error });
            locked.map_err(|error| OpenError::NotLocked { path: path.to_owned(), error })?;
        }
        Ok(())
    }

    /// Starts to read what is missing of the files, if there is room for all of it.
    pub(super) fn read_ahead(self, gguf: &Arc<Gguf>, memory: &Memory) -> Option<Reading> {
        let is_wanted = self.read_ahead && !self.copy && !self.lock && memory.weights_without_room() == 0;
        let missing = if is_wanted { gguf.n_bytes().saturating_sub(gguf.n_resident_bytes()) } else { 0 };
        (missing >= WORTHWHILE).then(|| Reading::start(gguf.clone(), missing)).flatten()
    }
}

/// Raises this process's limit of locked memory as far as it may.
fn raise_limit(needed: u64) -> Result<(), NotLocked> {
    let Rlimit { current, maximum } = getrlimit(Resource::Memlock);
    // Without a limit, or with the right to go beyond it.
    if current.is_none_or(|current| current >= needed) || rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let raised = Rlimit { current: maximum, maximum };
    match maximum.is_none_or(|maximum| maximum >= needed) {
        true => setrlimit(Resource::Memlock, raised).map_err(|error| NotLocked {
            needed,
            limit: current,
            error: error.into(),
        }),
        false => {
            let error = std::io::Error::from(rustix::io::Errno::NOMEM);
            Err(NotLocked { needed, limit: maximum, error })
        }
    }
}

fn memlock() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}

/// Threads that read a model's files while it is used. Dropped, it ends.
#[derive(Debug)]
pub(super) struct Reading {
    state: ReadingState,
    thread: Option<JoinHandle<()>>,
}

/// How far that is.
#[derive(Debug, Clone)]
pub struct ReadingState {
    shared: Arc<Shared>,
    total: u64,
    start: Instant,
}

#[derive(Debug, Default)]
struct Shared {
    done: AtomicU64,
    is_over: AtomicBool,
    stop: AtomicBool,
}

impl Reading {
    fn start(gguf: Arc<Gguf>, total: u64) -> Option<Reading> {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let read = move || {
            let progress = |n| {
                of_thread.done.fetch_add(n, Ordering::Relaxed);
                !of_thread.stop.load(Ordering::Relaxed)
            };
            // It is only for speed: what cannot be read now is reported when it is needed.
            let _: Result<(), gguf::Error> = gguf.fill(&progress);
            of_thread.is_over.store(true, Ordering::Relaxed);
        };
        let thread = std::thread::Builder::new().name("read ahead".to_owned()).spawn(read).ok()?;
        Some(Reading { state: ReadingState { shared, total, start: Instant::now() }, thread: Some(thread) })
    }

    pub(super) fn state(&self) -> ReadingState {
        self.state.clone()
    }
}

impl ReadingState {
    /// `None` when it is over.
    pub fn so_far(&self) -> Option<ReadSoFar> {
        let done = self.shared.done.load(Ordering::Relaxed).min(self.total);
        let is_over = self.shared.is_over.load(Ordering::Relaxed);
        (!is_over).then(|| ReadSoFar { done, total: self.total, time: self.start.elapsed() })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.state.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
