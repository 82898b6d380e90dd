//! What an engine has done since it was opened, of all requests together, whoever sent them. Whoever shows them reads
//! them while it works; each number is right by itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Debug, Default)]
pub struct Figures {
    /// Requests that wait for a slot, and those that have one.
    pub waiting: Number,
    pub running: Number,
    /// Requests that are over.
    pub finished: Number,
    pub failed: Number,
    pub cancelled: Number,
    /// Tokens of prompts that were computed, or were cached; and of these the latter.
    pub prompt_tokens: Number,
    pub cached_tokens: Number,
    pub generated_tokens: Number,
    /// Microseconds, of all requests together.
    pub prompt_time: Number,
    pub generation_time: Number,
    /// Steps, each of tokens of several requests, and their microseconds.
    pub steps: Number,
    pub step_time: Number,
    /// Layers with routed experts that the CPU computed, and the experts that these needed.
    pub expert_layers: Number,
    pub experts: Number,
    /// From a request to its first step, to its first token, and to its end.
    pub queue_time: Histogram,
    pub first_token_time: Histogram,
    pub answer_time: Histogram,
}

#[derive(Debug, Default)]
pub struct Number(AtomicU64);

impl Number {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    pub fn add_time(&self, time: Duration) {
        self.add(micros(time));
    }

    pub(super) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many took at most so long.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [Number; Histogram::BOUNDS.len()],
    n: Number,
    time: Number,
}

impl Histogram {
    /// In seconds.
    pub const BOUNDS: [f64; 12] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];

    pub fn observe(&self, time: Duration) {
        for (bound, count) in Histogram::BOUNDS.iter().zip(&self.counts) {
            count.add(u64::from(time.as_secs_f64() <= *bound));
        }
        self.time.add_time(time);
        self.n.add(1);
    }

    /// For each bound, how many were at most as long.
    pub fn counts(&self) -> [u64; Histogram::BOUNDS.len()] {
        std::array::from_fn(|n| self.counts[n].get())
    }

    /// How many there were, and their seconds together.
    pub fn total(&self) -> (u64, f64) {
        (self.n.get(), self.time.get() as f64 / 1e6)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_for_every_bound_above_it() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_millis(60));
        histogram.observe(Duration::from_secs(1000));
        let counts = histogram.counts();
        assert_eq!((counts[1], counts[2], counts[11]), (0, 1, 1));
        assert_eq!(histogram.total(), (2, 1000.06));
    }
}
