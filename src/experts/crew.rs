//! Threads of our own, which compute while the thread that asked them to goes on: with GPUs, which that one keeps busy.
//!
//! Between two jobs they spin for a moment, and sleep then, so that a program that waits uses no CPU.

use crate::ggml::Share;
use std::hint;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What all threads do at the same time, each its share. It must not panic: who waits for it would wait for ever.
pub(super) type Job = Box<dyn Fn(Share) + Send + Sync>;

/// That a thread waits for the next job before it sleeps: more than what is between two layers.
const AWAKE: Duration = Duration::from_millis(2);
/// Pauses between two looks at the clock.
const PAUSES: u32 = 256;

pub(super) struct Crew {
    board: Arc<Board>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Board {
    /// What is done now. All read it at once, and nobody writes while they do.
    job: RwLock<Option<Job>>,
    /// Jobs that were begun so far; [`OVER`] when there will be none.
    n_jobs: AtomicU64,
    /// Threads that are not done with the last one.
    n_busy: AtomicUsize,
    /// Threads that sleep, or are about to.
    n_asleep: Mutex<usize>,
    has_next: Condvar,
}

const OVER: u64 = u64::MAX;

impl Board {
    /// The number of the job behind number `done`; `None` when there will be none.
    fn wait(&self, done: u64) -> Option<u64> {
        let is_next = || self.n_jobs.load(Ordering::Acquire) != done;
        if !spin_until(is_next) {
            let mut n_asleep = self.n_asleep.lock().unwrap_or_else(PoisonError::into_inner);
            *n_asleep += 1;
            while !is_next() {
                n_asleep = self.has_next.wait(n_asleep).unwrap_or_else(PoisonError::into_inner);
            }
            *n_asleep -= 1;
        }
        Some(self.n_jobs.load(Ordering::Acquire)).filter(|n| *n != OVER)
    }

    fn announce(&self, n_jobs: u64) {
        let n_asleep = self.n_asleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.n_jobs.store(n_jobs, Ordering::Release);
        if *n_asleep > 0 {
            self.has_next.notify_all();
        }
    }

    fn put(&self, job: Option<Job>) {
        *self.job.write().unwrap_or_else(PoisonError::into_inner) = job;
    }

    fn work(&self, share: Share) {
        if let Some(job) = &*self.job.read().unwrap_or_else(PoisonError::into_inner) {
            job(share);
        }
    }
}

/// Waits, but not for long; whether it is so.
fn spin_until(is_so: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        for _ in 0..PAUSES {
            if is_so() {
                return true;
            }
            hint::spin_loop();
        }
        if begun.elapsed() > AWAKE {
            return false;
        }
    }
}

impl Crew {
    /// `n` threads, one at least.
    pub(super) fn new(n: usize) -> std::io::Result<Crew> {
        let (board, n) = (Arc::new(Board::default()), n.max(1));
        let mut crew = Crew { board: board.clone(), threads: Vec::with_capacity(n) };
        for thread in 0..n {
            let board = board.clone();
            let share = Share { thread, n_threads: n };
            let work = move || {
                let mut done = 0;
                while let Some(number) = board.wait(done) {
                    board.work(share);
                    done = number;
                    board.n_busy.fetch_sub(1, Ordering::AcqRel);
                }
            };
            crew.threads.push(thread::Builder::new().name("experts".to_owned()).spawn(work)?);
        }
        Ok(crew)
    }

    /// Has all threads do something, once they are done with what was begun before.
    pub(super) fn begin(&self, job: Job) {
        self.wait();
        self.board.put(Some(job));
        self.board.n_busy.store(self.threads.len(), Ordering::Release);
        self.board.announce(self.board.n_jobs.load(Ordering::Relaxed) + 1);
    }

    /// Waits until they are done.
    pub(super) fn wait(&self) {
        let is_done = || self.board.n_busy.load(Ordering::Acquire) == 0;
        while !spin_until(is_done) {
            thread::yield_now();
        }
        // What the job refers to is not needed any more.
        self.board.put(None);
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.wait();
        self.board.announce(OVER);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_does_every_job_once() {
        let crew = Crew::new(3).unwrap();
        let done: Arc<[AtomicUsize; 3]> = Arc::default();
        for n in 0..500 {
            let of_job = done.clone();
            crew.begin(Box::new(move |share: Share| {
                assert_eq!(share.n_threads, 3);
                of_job[share.thread].fetch_add(1, Ordering::Relaxed);
            }));
            // Some of them come when the threads are asleep.
            if n % 100 == 0 {
                thread::sleep(2 * AWAKE);
            }
            if n % 2 == 0 {
                crew.wait();
                assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == n + 1));
            }
        }
        drop(crew);
        assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 500));
        assert_eq!(Arc::strong_count(&done), 1);
    }
}
