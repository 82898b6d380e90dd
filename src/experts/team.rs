//! Threads that do one piece of work together: where they meet, and what is next.

use std::hint;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Pauses before a waiting thread lets others run.
const SPINS: u32 = 1 << 10;

/// A counter on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counter(AtomicUsize);

#[derive(Debug, Default)]
pub(super) struct Team {
    arrived: Counter,
    meetings: Counter,
    next: [Counter; 3],
}

impl Team {
    /// Waits for all of `n` threads.
    pub(super) fn meet(&self, n: usize) {
        if n == 1 {
            return;
        }
        let meeting = self.meetings.0.load(Ordering::Acquire);
        if self.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == n {
            self.arrived.0.store(0, Ordering::Relaxed);
            self.meetings.0.store(meeting.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut spins = 0;
        while self.meetings.0.load(Ordering::Acquire) == meeting {
            spins += 1;
            if spins < SPINS {
                hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }

    /// Before a meeting, by one thread: the pieces of all rounds after it are counted from 0.
    pub(super) fn begin(&self) {
        self.next.iter().for_each(|next| next.0.store(0, Ordering::Relaxed));
    }

    /// The next of `n` pieces of a round that no thread has taken.
    pub(super) fn take(&self, round: usize, n: usize) -> Option<usize> {
        let piece = self.next[round].0.fetch_add(1, Ordering::Relaxed);
        (piece < n).then_some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_taken_once_and_nobody_is_early() {
        const THREADS: usize = 4;
        let (team, done) = (Team::default(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (team, done) = (&team, &done);
                scope.spawn(move || {
                    for run in 0..200 {
                        if thread == 0 {
                            team.begin();
                        }
                        team.meet(THREADS);
                        for round in 0..2 {
                            while team.take(round, 11).is_some() {
                                done.fetch_add(1, Ordering::Relaxed);
                            }
                            team.meet(THREADS);
                            assert_eq!(done.load(Ordering::Relaxed), 22 * run + 11 * (round + 1));
                            team.meet(THREADS);
                        }
                    }
                });
            }
        });
    }
}
